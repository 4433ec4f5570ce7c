//! Single real servers: what operators do to them, and what is shown of their state.

use super::{Control, Missing};
use crate::config::Thresholds;
use crate::model::{Edit, Edited, State, why_no_way};
use crate::sched::is_overloaded;
use crate::service::{Admin, Health, Real, Role, ServiceKey, Serving, Why};
use crate::tables::Service;
use crate::units::Time;
use crate::view;
use std::net::SocketAddr;
use std::time::Duration;

impl Control {
    /// What operators have said of real servers, in words for comparisons.
    pub(crate) fn said(&self) -> String {
        let mut said: Vec<_> = self
            .model
            .said()
            .iter()
            .map(|it| format!("{it:?}"))
            .collect();
        said.sort_unstable();
        said.join("\n")
    }

    /// Does what an operator wants with a real server, for ever or until `length` is over.
    ///
    /// # Errors
    ///
    /// If there is no such service, or the service has no such real server.
    pub fn edit_real(
        &mut self,
        service: &str,
        real: SocketAddr,
        edit: Edit,
        length: Option<Duration>,
    ) -> Result<view::EditedView, Missing> {
        let now = self.now();
        let until = length.map(|length| now + length);
        let keys = self.model.find_services(service);
        if keys.is_empty() {
            return Err(Missing::Service(service.to_owned()));
        }
        let at = (real.ip(), real.port());
        let mut shown = None;
        // Of a name with several protocols, in each.
        for key in keys {
            let Ok(edited) = self.model.edit(&key, at, edit, until) else {
                continue;
            };
            let (before, after) = edited.weights();
            self.edits
                .real(service, real, (before, after, edit.name()), now);
            shown.get_or_insert_with(|| self.show_edited(service, real, &key, &edited));
        }
        shown.ok_or_else(|| Missing::Real(service.to_owned(), real))
    }

    fn show_edited(
        &self,
        service: &str,
        real: SocketAddr,
        key: &ServiceKey,
        edited: &Edited,
    ) -> view::EditedView {
        let (before, after) = edited.weights();
        let found = self.model.find(key).and_then(|service| {
            let at = (real.ip(), real.port());
            let mut servers = service.servers();
            let (real, role) = servers.find(|(it, _)| (it.address, it.port) == at)?;
            Some((real.id, (role, service.serving)))
        });
        let state = found.and_then(|(id, _)| self.model.state(id));
        let place = found.map_or((Role::Real, Serving::Available), |(_, place)| place);
        view::EditedView {
            service: service.to_owned(),
            real,
            before,
            after,
            state: show_state(state, place, edited.file, None, self.now()),
        }
    }

    /// What is known of a service's real server beside its traffic.
    pub(super) fn show_real(
        &self,
        service: &Service,
        (real, role): (&Real, Role),
    ) -> (u16, bool, view::StateView) {
        let tables = self.model.tables();
        let way = why_no_way(tables, real.address);
        let at = (real.address, real.port);
        let file = self.model.file_weight(&service.key, at);
        let file = file.unwrap_or(real.weight);
        let state = self.model.state(real.id);
        let condition = state.map(State::condition).unwrap_or_default();
        let is_down = condition.health == Health::Down || condition.is_held;
        let is_up = way.is_none() && !(role == Role::Real && is_down);
        let weight = condition.weight_of(role, service.serving, file, 1);
        let place = (role, service.serving);
        let shown = show_state(state, place, file, way, self.now());
        (weight, is_up, self.with_thresholds(shown, real))
    }

    /// How many connections a real server may have, and whether it has them.
    fn with_thresholds(&self, shown: view::StateView, real: &Real) -> view::StateView {
        let Some(Thresholds { max, min }) = real.thresholds else {
            return shown;
        };
        let overloaded = is_overloaded(real, &self.stats);
        let full = || overloaded.then(|| format!("overloaded: it has had its {max} connections"));
        view::StateView {
            max_connections: Some(max.get()),
            min_connections: Some(min).filter(|min| *min > 0),
            overloaded,
            why: shown.why.or_else(full),
            ..shown
        }
    }

    /// Why a real server does not count as available, if it does not: by itself, whatever its service does.
    pub(super) fn why_unavailable(&self, key: &ServiceKey, real: &Real) -> Option<String> {
        let file = self.model.file_weight(key, (real.address, real.port));
        let nothing = State::default();
        let state = self.model.state(real.id).unwrap_or(&nothing);
        let own = state.condition().why_none(file.unwrap_or(real.weight));
        own.map(|why| in_words(why, state))
            .or_else(|| why_no_way(self.model.tables(), real.address))
    }
}

/// `way`: why no packet gets there.
fn show_state(
    state: Option<&State>,
    (role, serving): (Role, Serving),
    file: u16,
    way: Option<String>,
    now: Time,
) -> view::StateView {
    let nothing = State::default();
    let state = state.unwrap_or(&nothing);
    let left =
        |until: Option<Time>| until.map(|until| until.since(now).as_secs_f64().ceil() as u64);
    let of_admin = state.admin != Admin::Enabled;
    view::StateView {
        configured_weight: file,
        runtime_weight: state.weight,
        runtime_weight_ends_s: left(state.weight_until),
        admin: state.admin,
        admin_ends_s: left(state.admin_until).filter(|_| of_admin),
        health: state.health,
        health_reason: state.reason.as_deref().map(str::to_owned),
        health_since_s: state.health_since.map(|since| now.since(since).as_secs()),
        held: state.held.as_ref().map(|held| held.reason.to_string()),
        held_ends_s: left(state.held.as_ref().map(|held| held.until)),
        slow_start_percent: state.slow_start.map_or(100, |starting| starting.percent),
        why: state
            .condition()
            .why_none_of(role, serving, file)
            .map(|why| in_words(why, state))
            .or(way),
        max_connections: None,
        min_connections: None,
        overloaded: false,
    }
}

/// Why a real server gets no new connections, in words.
fn in_words(why: Why, state: &State) -> String {
    let reason = match why {
        Why::Down => state.reason.as_deref(),
        Why::Held => state.held.as_ref().map(|held| &*held.reason),
        _ => None,
    };
    match reason {
        Some(reason) => format!("{}: {reason}", why.name()),
        None => why.name().to_owned(),
    }
}

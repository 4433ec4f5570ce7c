//! Single real servers: what operators do to them, and what is shown of their state.

use super::{Control, Missing};
use crate::model::{Edit, Edited, State};
use crate::neighbour::LinkState;
use crate::service::{Admin, Condition, Health, Real, ServiceKey, Why};
use crate::tables::Tables;
use crate::units::Time;
use crate::view;
use std::net::{IpAddr, SocketAddr};
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
        let key = self.model.find_service(service);
        let key = key.ok_or_else(|| Missing::Service(service.to_owned()))?;
        let at = (real.ip(), real.port());
        let edited = self.model.edit(&key, at, edit, until);
        let edited = edited.map_err(|_| Missing::Real(service.to_owned(), real))?;
        let (before, after) = edited.weights();
        self.edits
            .real(service, real, (before, after, edit.name()), now);
        Ok(self.show_edited(service, real, &key, &edited))
    }

    fn show_edited(
        &self,
        service: &str,
        real: SocketAddr,
        key: &ServiceKey,
        edited: &Edited,
    ) -> view::EditedView {
        let (before, after) = edited.weights();
        let id = self.model.find(key).and_then(|service| {
            let at = (real.ip(), real.port());
            let mut reals = service.reals.iter();
            Some(reals.find(|real| (real.address, real.port) == at)?.id)
        });
        let state = id.and_then(|id| self.model.state(id));
        view::EditedView {
            service: service.to_owned(),
            real,
            before,
            after,
            state: show_state(state, edited.file, None, self.now()),
        }
    }

    /// What is known of a service's real server beside its traffic.
    pub(super) fn show_real(&self, key: &ServiceKey, real: &Real) -> (u16, bool, view::StateView) {
        let tables = self.model.tables();
        let way = why_no_way(tables, real.address);
        let at = (real.address, real.port);
        let file = self.model.file_weight(key, at).unwrap_or(real.weight);
        let state = self.model.state(real.id);
        let condition = state.map(State::condition).unwrap_or_default();
        let is_up = way.is_none() && condition.health != Health::Down;
        let weight = condition.effective_weight(file, 1);
        (weight, is_up, show_state(state, file, way, self.now()))
    }
}

/// `way`: why no packet gets there.
fn show_state(state: Option<&State>, file: u16, way: Option<String>, now: Time) -> view::StateView {
    let nothing = State::default();
    let state = state.unwrap_or(&nothing);
    let condition = state.condition();
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
        slow_start_percent: state.slow_start.map_or(100, |starting| starting.percent),
        why: why(&condition, file, state.reason.as_deref()).or(way),
    }
}

/// Why a real server gets no new connections, in words.
fn why(condition: &Condition, file: u16, reason: Option<&str>) -> Option<String> {
    let why = condition.why_none(file)?;
    Some(match (why, reason) {
        (Why::Down, Some(reason)) => format!("{}: {reason}", why.name()),
        _ => why.name().to_owned(),
    })
}

/// Why packets do not get to an address, if they do not: no route leads there, or its next hop has failed to answer.
fn why_no_way(tables: &Tables, address: IpAddr) -> Option<String> {
    let Some(route) = tables.routes.get(address) else {
        return Some("no route".to_owned());
    };
    if tables.neighbours.is_link_down(route.port) {
        return Some(format!("link {} down", tables.port(route.port).name));
    }
    let hop = match route.gateway {
        Some((hop, _)) => Some(hop),
        None => tables.neighbours.find(route.port, address),
    }?;
    match tables.neighbours.link(hop).state {
        LinkState::Failed => Some(match tables.neighbours.address(hop) {
            next if next == address => "no neighbour".to_owned(),
            next => format!("no neighbour {next}"),
        }),
        LinkState::Incomplete | LinkState::Reachable | LinkState::Stale => None,
    }
}

//! Comes here: a client's first packet. Chooses the real server of its connection, and the template that binds the client to
//! it.

use super::family::Family;
use super::flow::{Way, resolve};
use super::live::Room;
use super::parse::Flow;
use super::{Core, has_handshake, wrapped};
use crate::conn::entry::template_protocol;
use crate::conn::{Address, ConnId, Connection, Key};
use crate::packet::{Packet, Taken};
use crate::sched::{Client, is_overloaded};
use crate::service::Real;
use crate::stats::Stats;
use crate::tables::{Service, Tables};
use crate::units::{Millis, RealId, Time};
use arrayvec::ArrayVec;
use std::cell::Cell;
use std::net::IpAddr;

/// Real servers that a new connection is tried with, where one cannot take it.
const TRIES: usize = 16;

/// Real servers that cannot take a new connection.
#[derive(Default)]
pub(super) struct Tried {
    pub here: ArrayVec<RealId, TRIES>,
    /// What other workers have said.
    pub elsewhere: Taken,
    /// All but the one that another worker has made free, if any.
    pub all_but: Option<Option<RealId>>,
}

impl Tried {
    pub(super) fn has_any(&self) -> bool {
        !self.here.is_empty() || !self.elsewhere.is_empty() || self.all_but.is_some()
    }

    pub(super) fn has(&self, real: RealId) -> bool {
        self.elsewhere.has(real)
            || self.here.contains(&real)
            || self.all_but.is_some_and(|freed| freed != Some(real))
    }
}

/// Why there is no real server.
pub(super) enum Unscheduled {
    /// None has a weight.
    NoRealServer,
    /// Those that have a weight cannot be reached; one of the ways that have failed, and where it leads.
    Unreachable(Option<(Way, IpAddr)>),
    NoRoute,
}

type Scheduled<T> = Result<T, Unscheduled>;

impl<F: Family, P: Packet> Core<F, P> {
    /// The real server of a new connection, the way to it, and the template that binds the client to it, held for the
    /// connection; none without persistence, or without room for a new one.
    pub(super) fn schedule(
        &mut self,
        service: &Service,
        flow: &Flow<F>,
        now: Time,
        tables: &Tables,
        tried: &Tried,
        has_room_for_template: bool,
    ) -> Scheduled<(Real, Way, Option<ConnId>)> {
        let key = &flow.key;
        let Some(persistence) = service.persistence else {
            let (real, way) = self.choose(service, flow, now.millis(), tables, tried)?;
            return Ok((real, way, None));
        };
        // As the kernel's `ip_vs_sched_persist`: the client's masked address and port 0, to the service's own port. One for all
        // ports of a range, which is told from its first port's by its last one.
        let masked = (key.source()).masked(persistence.prefix);
        let template_key = F::Key::new(
            masked,
            service.key.last,
            key.destination(),
            service.key.port,
            template_protocol(key.protocol()),
        );
        let hash = self.live.table.hash(&template_key);
        let Some(found) = self.live.table.find(hash, &template_key) else {
            let (real, way) = self.choose(service, flow, now.millis(), tables, tried)?;
            let syn = has_handshake(flow).then(|| self.live.table.hash(key));
            if !has_room_for_template
                || self.live.make_room(service.id, syn, now.millis()) != Room::Yes
            {
                return Ok((real, way, None));
            }
            let timeout_ms = persistence.timeout.as_millis() as u32;
            let mut template = Connection::template(template_key, timeout_ms, service.id, real.id);
            template.last_seen = now.millis();
            // Held from the beginning: what makes room for the connection must not take it.
            template.set_controlled(1);
            let id = self.live.add(template, hash, None, service.id);
            if id.is_some() {
                self.live.note_template(service.id);
            }
            return Ok((real, way, id));
        };
        let template = *self.live.table.get(found.id);
        // One that expired, or whose real server is gone, drained or not to be reached, binds to another from now on
        // (`expire_quiescent_template`).
        let bound = (!tables.timing.is_expired(&template, now.millis()))
            .then(|| service.reals.iter().find(|real| real.id == template.real))
            .flatten()
            .filter(|real| real.weight > 0 || persistence.through_drain && real.keeps_clients)
            .and_then(|real| Some((*real, usable_way::<F>(real, tables, tried)?)));
        let (real, way) = match bound {
            Some(bound) => bound,
            None => self.choose(service, flow, now.millis(), tables, tried)?,
        };
        let template = self.live.table.get_mut(found.id);
        // Where the bound one only lacks what this connection takes, the client's next ones are its own again.
        if !tried.has(template.real) {
            template.real = real.id;
        }
        template.last_seen = now.millis();
        template.set_controlled(template.controlled() + 1);
        Ok((real, way, Some(found.id)))
    }

    /// The real server that a stateless scheduler has for a flow, if one can be reached.
    pub(super) fn choice(
        &self,
        service: &Service,
        flow: &Flow<F>,
        tables: &Tables,
    ) -> Option<Real> {
        let chosen = self.choose(service, flow, Millis(0), tables, &Tried::default());
        chosen.ok().map(|(real, _)| real)
    }

    /// The scheduler's choice among the real servers that can be reached and were not tried, and the way to it.
    fn choose(
        &self,
        service: &Service,
        flow: &Flow<F>,
        now: Millis,
        tables: &Tables,
        tried: &Tried,
    ) -> Scheduled<(Real, Way)> {
        let client = Client::new(flow.key.source(), flow.key.source_port()).at(now);
        let cursor = service.cursor(self.worker);
        let last = Cell::new(None);
        let passed_over = Cell::new(None);
        let stats = &self.shared.stats;
        let usable = |real: &Real| {
            if real.thresholds.is_some() && is_overloaded(real, stats) {
                return false;
            }
            let way = usable_way::<F>(real, tables, tried);
            match way {
                Some(way) => last.set(Some((real.id, way))),
                None => passed_over.set(Some(real.address)),
            }
            way.is_some()
        };
        let choices = service.choices();
        let place = service
            .scheduler
            .pick(choices, client, cursor, stats, &usable);
        let chosen = place.and_then(|place| choices.get(place));
        let Some(real) = chosen else {
            return Err(match passed_over.get() {
                Some(address) => {
                    let way = way_to::<F>(address, tables);
                    Unscheduled::Unreachable(way.map(|way| (way, address)))
                }
                None => Unscheduled::NoRealServer,
            });
        };
        // The one that it asked about last, most often.
        let way = match last.get() {
            Some((id, way)) if id == real.id => Some(way),
            _ => way_to::<F>(real.address, tables),
        };
        let way = way.ok_or(Unscheduled::NoRoute)?;
        Ok((*real, way))
    }
}

/// Whether a new connection may go to a real server that it has not been tried with.
pub(super) fn could_serve<F: Family>(
    service: &Service,
    real: &Real,
    tables: &Tables,
    stats: &Stats,
) -> bool {
    let persistence = service.persistence.as_ref();
    let through_drain = persistence.is_some_and(|persistence| persistence.through_drain);
    (real.weight > 0 && !is_overloaded(real, stats) || through_drain && real.keeps_clients)
        && usable_way::<F>(real, tables, &Tried::default()).is_some()
}

/// The way to a real server that was not tried, if its next hop has not failed.
pub(super) fn usable_way<F: Family>(real: &Real, tables: &Tables, tried: &Tried) -> Option<Way> {
    let way = way_to::<F>(real.address, tables)?;
    (!tried.has(real.id) && !way.has_failed(tables)).then_some(way)
}

/// A real server of another family has a way by modes that wrap packets only.
fn way_to<F: Family>(address: IpAddr, tables: &Tables) -> Option<Way> {
    match F::address(address) {
        Some(address) => resolve(tables, address),
        None => wrapped::way_beyond(address, tables),
    }
}

//! Owns what of a service and its real servers outlives a change: their ids, counters, names and scheduler cursors.
//!
//! A service that goes leaves its ids until its last connection is gone; one that comes back has them again.

use super::configured::At;
use super::real_ids::{Place, RealIds};
use super::service_ids::ServiceIds;
use super::states::{self, State, States};
use crate::admission::Tally;
use crate::config;
use crate::model::from_config::key;
use crate::sched::Cursor;
use crate::service::{Availability, Member, Real, Role, ServiceKey, Serving};
use crate::stats::{RealTotals, Stats};
use crate::units::{RealId, ServiceId, Time};
use crossbeam_utils::CachePadded;
use foldhash::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

#[derive(Default)]
pub(in crate::model) struct Registry {
    /// Of a removed service, until its last connection is gone.
    services: HashMap<ServiceKey, Registered>,
    reals: RealIds,
    ids: ServiceIds,
    pub(super) states: States,
    /// Addresses of servers that no packet gets to now.
    pub(super) unreachable: HashSet<IpAddr>,
    /// What has become of services as a whole, since it was last taken.
    turns: HashMap<ServiceKey, Turn>,
}

/// What a service's availability was, and is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub before: Availability,
    pub after: Availability,
}

/// What of a service outlives its changes.
struct Registered {
    id: ServiceId,
    name: Arc<str>,
    cursors: Arc<[CachePadded<Cursor>]>,
    /// In the order of their addresses and ports, fallback servers among them.
    reals: Box<[(At, RealId)]>,
    /// None: it is new.
    availability: Option<Availability>,
    /// Real servers that are no longer configured, and may have connections left.
    draining: HashSet<RealId>,
    /// How long a persistence template of it may live.
    templates: Option<Duration>,
    /// What real servers that are gone have counted.
    past: RealTotals,
    /// Since it had `allow`, `deny` or `limits`.
    tally: Option<Arc<Tally>>,
}

/// What a configured service is made of that outlives it.
pub(super) struct Kept {
    pub id: ServiceId,
    pub name: Arc<str>,
    pub cursors: Arc<[CachePadded<Cursor>]>,
    /// The last of the configuration first, and behind them the fallback servers.
    pub reals: Box<[Real]>,
    pub serving: Serving,
}

/// What has no connections left.
pub(super) struct Released {
    pub reals: Vec<(RealId, Place)>,
    pub services: Vec<ServiceKey>,
}

impl Registry {
    /// The key of a service: also of one that was removed, while it has connections.
    pub(in crate::model) fn key(&self, id: ServiceId) -> Option<&ServiceKey> {
        self.ids.key(id)
    }

    /// The name of a service: also of one that was removed, while it has connections.
    pub(in crate::model) fn name(&self, id: ServiceId) -> Option<Arc<str>> {
        Some(self.services.get(self.key(id)?)?.name.clone())
    }

    /// The service, address and port of a real server: also of one that was removed, while it has connections.
    pub(in crate::model) fn real(&self, id: RealId) -> Option<&Place> {
        self.reals.place(id)
    }

    /// How many ids of real servers there are, those in no use among them.
    pub(in crate::model) fn ids(&self) -> u32 {
        self.reals.len()
    }

    /// The ids that were given to real servers since the last call.
    pub(super) fn take_given(&mut self) -> Vec<RealId> {
        self.reals.take_given()
    }

    /// The service of a real server: also of one that was removed, while it has connections.
    pub(in crate::model) fn service_of(&self, id: RealId) -> Option<ServiceId> {
        let (key, ..) = self.real(id)?;
        Some(self.services.get(key)?.id)
    }

    /// What a real server counted since it was configured.
    pub(super) fn real_totals(&self, stats: &Stats, id: RealId) -> RealTotals {
        self.reals.totals(stats, id)
    }

    /// What a service counted, with the real servers that it no longer has.
    pub(super) fn service_totals(
        &self,
        stats: &Stats,
        key: &ServiceKey,
        current: impl Iterator<Item = RealId>,
    ) -> RealTotals {
        let registered = self.services.get(key);
        let past = registered.map_or(RealTotals::default(), |registered| registered.past);
        let draining = registered.map(|registered| registered.draining.iter().copied());
        current
            .chain(draining.into_iter().flatten())
            .fold(past, |sum, id| sum + self.real_totals(stats, id))
    }

    /// Gives a service that is added or changed what it had before, or something new.
    pub(super) fn put(
        &mut self,
        service: &config::ServiceConfig,
        stats: &Stats,
        beginnings: Option<u64>,
    ) -> Kept {
        let Registry {
            services,
            reals: real_ids,
            ids,
            states,
            unreachable,
            turns,
        } = self;
        let key = key(service);
        let name: Arc<str> = service.name.as_str().into();
        let workers = stats.workers().count() as u32;
        let beginning = beginnings.map_or(0, |seed| {
            // By its key, so that no pattern in the list of services becomes one of beginnings.
            let mut hash = DefaultHasher::new();
            (seed, key).hash(&mut hash);
            hash.finish() as u32
        });
        let is_new = !services.contains_key(&key) || ids.departed.contains(&key);
        ids.departed.remove(&key);
        let registered = services.entry(key).or_insert_with(|| Registered {
            id: ids.allocate(stats, key),
            name: name.clone(),
            cursors: (0..workers)
                .map(|n| CachePadded::new(Cursor::new(n, workers, beginning)))
                .collect(),
            reals: Box::default(),
            availability: None,
            draining: HashSet::default(),
            templates: None,
            past: RealTotals::default(),
            tally: None,
        });
        registered.name = name.clone();
        stats.names.set_service(registered.id, name.clone());
        stats.set_unlogged(registered.id, !service.connection_log);
        let templates = service.persistence.map(|persistence| persistence.timeout);
        registered.templates = registered.templates.max(templates);
        let at = |real: &config::RealConfig| (real.address, real.port);
        let former = std::mem::take(&mut registered.reals);
        let known = |at: &At| {
            let place = former.binary_search_by_key(at, |(at, _)| *at).ok()?;
            Some(former[place].1)
        };
        let ids_of = in_tables(service).map(|(real, role)| {
            let id = known(&at(real));
            let place = (key, real.address, real.port);
            let is_added = id.is_none() && !is_new;
            let id = id.unwrap_or_else(|| real_ids.allocate(stats, place));
            if is_added {
                states.came(id, configured(service, real, role));
            }
            registered.draining.remove(&id);
            id
        });
        let ids_of: Vec<RealId> = ids_of.collect();
        let (reals, availability) = weighed(
            states,
            unreachable,
            service,
            registered.availability,
            ids_of.into_iter(),
        );
        note(turns, key, &mut registered.availability, availability);
        // Packets to them are wrapped: their connections have no addresses of the other family.
        let is_of_other = |real: &&Real| real.address.is_ipv4() != key.address.is_ipv4();
        for real in reals.iter().filter(is_of_other) {
            stats.names.set_server(real.id, (real.address, real.port));
        }
        registered.reals = reals
            .iter()
            .map(|real| ((real.address, real.port), real.id))
            .collect();
        registered.reals.sort_unstable();
        let stays = |of: &At| {
            registered
                .reals
                .binary_search_by_key(of, |(at, _)| *at)
                .is_ok()
        };
        for &((address, port), id) in former.iter().filter(|(at, _)| !stays(at)) {
            real_ids.retire(stats, id, (key, address, port), registered.templates);
            states.forget(id);
            registered.draining.insert(id);
        }
        Kept {
            reals,
            serving: availability.serving,
            id: registered.id,
            cursors: registered.cursors.clone(),
            name,
        }
    }

    /// The ids by which the outward connections of a rule of `[[snat]]` are counted: those of a service with one real server, which
    /// no table of services has. `key`: one that no service can have.
    pub(super) fn put_outward(
        &mut self,
        key: ServiceKey,
        name: &str,
        stats: &Stats,
    ) -> (ServiceId, RealId) {
        let Registry {
            services,
            reals,
            ids,
            ..
        } = self;
        ids.departed.remove(&key);
        let registered = services.entry(key).or_insert_with(|| Registered {
            id: ids.allocate(stats, key),
            name: name.into(),
            cursors: Arc::default(),
            reals: Box::default(),
            availability: None,
            draining: HashSet::default(),
            templates: None,
            past: RealTotals::default(),
            tally: None,
        });
        stats
            .names
            .set_service(registered.id, registered.name.clone());
        stats.set_unlogged(registered.id, false);
        let real = match registered.reals.first() {
            Some((_, real)) => *real,
            None => {
                let at = (key.address, 0);
                let real = reals.allocate(stats, (key, at.0, at.1));
                registered.draining.remove(&real);
                registered.reals = [(at, real)].into();
                real
            }
        };
        (registered.id, real)
    }

    /// Forgets what nothing looks after any longer of a service's real servers: their health without checks, and that they are
    /// held without `passive`. Before they are [put](Self::put), so that they are weighed by what is left.
    pub(super) fn forget_unfounded(&mut self, service: &config::ServiceConfig) {
        let is_all_founded = service.health.is_some() && service.passive.is_some();
        if is_all_founded || self.states.is_empty() {
            return;
        }
        let its = key(service);
        for real in &service.reals {
            let Some(id) = self.id(&its, (real.address, real.port)) else {
                continue;
            };
            let configured = configured(service, real, Role::Real);
            if service.health.is_none() {
                self.states.unchecked(id, configured);
            }
            if service.passive.is_none() {
                self.states.set_held(id, configured, None);
            }
        }
    }

    /// The servers of a running service, with the weights that follow from what is known of them now.
    pub(super) fn weighed(
        &mut self,
        service: &config::ServiceConfig,
        reals: &[Real],
    ) -> (Box<[Real]>, Availability) {
        let key = key(service);
        let registered = self.services.get_mut(&key);
        let mut none = None;
        let known = registered.map_or(&mut none, |of| &mut of.availability);
        let ids = reals.iter().map(|real| real.id);
        let (reals, availability) = weighed(&self.states, &self.unreachable, service, *known, ids);
        note(&mut self.turns, key, known, availability);
        (reals, availability)
    }

    /// What of a registered service's refusals and limits outlives its changes.
    pub(super) fn tally(&mut self, key: &ServiceKey, stats: &Stats) -> Option<Arc<Tally>> {
        let registered = self.services.get_mut(key)?;
        let workers = stats.workers().count();
        let tally = &mut registered.tally;
        Some(
            tally
                .get_or_insert_with(|| Arc::new(Tally::new(workers)))
                .clone(),
        )
    }

    /// What has become of services as a whole since the last call.
    pub(super) fn take_turns(&mut self) -> HashMap<ServiceKey, Turn> {
        std::mem::take(&mut self.turns)
    }

    /// The availability of a configured service.
    pub(in crate::model) fn availability(&self, key: &ServiceKey) -> Option<Availability> {
        self.services.get(key)?.availability
    }

    /// The id of a configured real server.
    pub(super) fn id(&self, key: &ServiceKey, at: At) -> Option<RealId> {
        let reals = &self.services.get(key)?.reals;
        let place = reals.binary_search_by_key(&at, |(at, _)| *at).ok()?;
        Some(reals[place].1)
    }

    /// Begins the slow starts of a service's real servers that packets get to again; `before`: the addresses that none got to.
    pub(super) fn reached_again(
        &mut self,
        key: &ServiceKey,
        service: &config::ServiceConfig,
        before: &HashSet<IpAddr>,
    ) {
        for (real, role) in in_tables(service) {
            let address = real.address;
            if before.contains(&address)
                && !self.unreachable.contains(&address)
                && let Some(id) = self.id(key, (address, real.port))
            {
                self.states.came(id, configured(service, real, role));
            }
        }
    }

    /// What is known of a real server beside the file; none: nothing.
    pub(in crate::model) fn state(&self, id: RealId) -> Option<&State> {
        self.states.get(id)
    }

    /// The service is no longer configured; its connections are to end.
    pub(super) fn retire(&mut self, stats: &Stats, key: &ServiceKey) {
        self.ids.departed.insert(*key);
        if let Some(registered) = self.services.get_mut(key) {
            registered.availability = None;
            for ((address, port), id) in std::mem::take(&mut registered.reals) {
                let place = (*key, address, port);
                self.reals.retire(stats, id, place, registered.templates);
                self.states.forget(id);
                registered.draining.insert(id);
            }
        }
    }

    /// Whether a removed service has connections left.
    pub(super) fn any_departed(&self) -> bool {
        !self.ids.departed.is_empty()
    }

    pub(super) fn any_draining(&self) -> bool {
        self.reals.any_draining() || self.any_departed()
    }

    /// Forgets what has no connections left.
    pub(super) fn release_drained(&mut self, stats: &Stats, now: Time) -> Released {
        let mut reals = Vec::new();
        for id in self.reals.drained(stats, now) {
            let totals = self.reals.totals(stats, id);
            let Some(place) = self.reals.release(stats, id) else {
                continue;
            };
            if let Some(registered) = self.services.get_mut(&place.0) {
                registered.past = registered.past + totals;
                registered.draining.remove(&id);
            }
            reals.push((id, place));
        }
        let is_over = |key: &&ServiceKey| {
            let registered = self.services.get(*key);
            registered.is_none_or(|of| of.draining.is_empty() && stats.live(of.id) == 0)
        };
        let over = self.ids.departed.iter().filter(is_over);
        let services: Vec<_> = over.copied().collect();
        for key in &services {
            if let Some(registered) = self.services.remove(key) {
                self.ids.release(registered.id, key);
            }
        }
        Released { reals, services }
    }

    /// No worker reads tables from before the last release: the ids may be given to other services.
    pub(super) fn reuse_released(&mut self) {
        self.ids.reuse_released();
    }
}

/// What states go by of the configuration.
pub(super) fn configured(
    service: &config::ServiceConfig,
    real: &config::RealConfig,
    role: Role,
) -> states::Configured {
    let is_slow = service.scheduler.no_shares().is_none() && role == Role::Real;
    states::Configured {
        weight: real.weight,
        slow_start: (service.slow_start)
            .or(service.scheduler.slow_start())
            .filter(|_| is_slow),
    }
}

/// A service's servers in the order of the tables: the real servers, the last of the configuration first, and then the fallback
/// servers likewise.
pub(super) fn in_tables(
    service: &config::ServiceConfig,
) -> impl Iterator<Item = (&config::RealConfig, Role)> + Clone {
    let reals = service.reals.iter().rev().map(|it| (it, Role::Real));
    let fallback = service.fallback.iter().rev();
    reals.chain(fallback.map(|it| (it, Role::Fallback)))
}

/// The servers of a service with their effective weights, and what follows from all of them. `before`: its availability until
/// now; `ids`: theirs, in the order of the tables.
fn weighed(
    states: &States,
    unreachable: &HashSet<IpAddr>,
    service: &config::ServiceConfig,
    before: Option<Availability>,
    ids: impl Iterator<Item = RealId> + Clone,
) -> (Box<[Real]>, Availability) {
    let servers = ids.zip(in_tables(service));
    let members = servers.clone().map(|(id, (server, role))| Member {
        role,
        condition: states.condition(id),
        file: server.weight,
        is_reachable: unreachable.is_empty() || !unreachable.contains(&server.address),
    });
    let was_below = before.is_some_and(|before| before.is_below);
    let availability = Availability::of(&service.availability, was_below, members);
    let reals = servers.clone().filter(|(_, (_, role))| *role == Role::Real);
    let scale = states.scale(reals.map(|(id, (real, _))| (id, real.weight)));
    let serving = availability.serving;
    let weighed = servers.map(|(id, (server, role))| {
        let (condition, file) = (states.condition(id), server.weight);
        Real {
            id,
            address: server.address,
            port: server.port,
            weight: condition.weight_of(role, serving, file, scale),
            nominal: condition.nominal_weight(file),
            is_available: condition.is_available_of(role, serving, file),
            keeps_clients: condition.keeps_clients_of(role, serving, file),
            thresholds: server.thresholds,
        }
    });
    (weighed.collect(), availability)
}

/// Keeps a service's availability; one that has changed is said.
fn note(
    turns: &mut HashMap<ServiceKey, Turn>,
    service: ServiceKey,
    known: &mut Option<Availability>,
    after: Availability,
) {
    // A new one is as it should be until it is found not to be.
    let before = known.replace(after).unwrap_or(Availability {
        serving: Serving::Available,
        is_below: false,
        ..after
    });
    if before == after {
        return;
    }
    let turn = turns.entry(service).or_insert(Turn { before, after });
    turn.after = after;
    if turn.before == after {
        turns.remove(&service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Context, parse};

    #[test]
    fn a_slow_start_moves_no_clients_of_other_real_servers() {
        for (scheduler, is_slow) in [("wlc", true), ("mh", true), ("sh", false)] {
            let text = format!(
                r#"
[[port]]
name = "lan"
device = "net_null0"
addresses = ["10.0.0.1/24"]
[[service]]
address = "10.0.0.80"
port = 80
protocol = "tcp"
mode = "nat"
scheduler = "{scheduler}"
slow_start = "30s"
[[service.real]]
address = "10.0.0.11"
"#
            );
            let context = Context {
                cpus: None,
                devices: false,
            };
            let loaded = parse(&text, "test", &context).unwrap();
            let service = &loaded.config.services[0];
            let found = configured(service, &service.reals[0], Role::Real);
            assert_eq!(found.slow_start.is_some(), is_slow, "{scheduler}");
            assert_eq!(loaded.warnings.iter().count(), usize::from(!is_slow));
        }
    }
}

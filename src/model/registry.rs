//! Owns what of a service and its real servers outlives a change: their ids, counters, names and scheduler cursors.
//!
//! A service that goes leaves its ids until its last connection is gone; one that comes back has them again.

use super::{Model, Place, Service, key};
use crate::config::{self, Config};
use crate::forward;
use crate::sched::{self, Cursor};
use crate::service::{Persistence, Real, ServiceKey};
use crate::stats::RealTotals;
use crate::tables::{Owner, Requests, Tables};
use crate::units::{RealId, ServiceId, Time};
use crossbeam_utils::CachePadded;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// What of a service outlives its changes.
pub(super) struct Registered {
    id: ServiceId,
    name: Arc<str>,
    cursors: Arc<[CachePadded<Cursor>]>,
    reals: HashMap<(Ipv4Addr, u16), RealId>,
    /// Real servers that are configured no longer, and may have connections left.
    draining: HashSet<RealId>,
    /// How long a persistence template of it may live.
    templates: Option<Duration>,
    /// What real servers that are gone have counted.
    past: RealTotals,
}

impl Model {
    /// A configured service by its id.
    pub fn service(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.services.get(self.service_ids.key(id)?)
    }

    /// The name of a service: also of one that was removed, while it has connections.
    pub fn service_name(&self, id: ServiceId) -> Option<Arc<str>> {
        let registered = self.registry.get(self.service_ids.key(id)?)?;
        Some(registered.name.clone())
    }

    /// The service, address and port of a real server: also of one that was removed, while it has connections.
    pub fn real(&self, id: RealId) -> Option<&Place> {
        self.reals.place(id)
    }

    /// The service of a real server: also of one that was removed, while it has connections.
    pub fn service_of(&self, id: RealId) -> Option<ServiceId> {
        let (key, ..) = self.real(id)?;
        Some(self.registry.get(key)?.id)
    }

    /// What a real server counted since it was configured.
    pub fn real_totals(&self, id: RealId) -> RealTotals {
        self.reals.totals(&self.stats, id)
    }

    /// What a service counted, with the real servers that it has no more.
    pub fn service_totals(&self, service: &Service) -> RealTotals {
        let registered = self.registry.get(&service.key);
        let past = registered.map_or(RealTotals::default(), |registered| registered.past);
        let draining = registered.map(|registered| registered.draining.iter().copied());
        let current = service.reals.iter().map(|real| real.id);
        current
            .chain(draining.into_iter().flatten())
            .fold(past, |sum, id| sum + self.real_totals(id))
    }

    /// Goes from the services of `old` to those of `new`; one that is the same is not touched.
    pub(super) fn change_services(&mut self, old: &Config, new: &Config) {
        let before: HashMap<ServiceKey, &config::Service> =
            old.services.iter().map(|s| (key(s), s)).collect();
        let after: HashSet<ServiceKey> = new.services.iter().map(key).collect();
        for service in old
            .services
            .iter()
            .filter(|service| !after.contains(&key(service)))
        {
            self.remove_service(&key(service));
        }
        let pools_changed = old.pools != new.pools;
        for service in &new.services {
            match before.get(&key(service)) {
                Some(same)
                    if *same == service
                        && !(pools_changed
                            && matches!(service.mode, config::Mode::Fullnat { .. })) => {}
                _ => self.put_service(service),
            }
        }
    }

    /// Adds a service, or puts it in the place of its former version.
    pub(super) fn put_service(&mut self, service: &config::Service) {
        let key = key(service);
        let current = self.services.get(&key).cloned();
        self.remember_names(current.as_deref(), service);
        if current.is_none() {
            *self.vips.entry(key.address).or_default() += 1;
            self.addresses.insert(key.address, Owner::Vip);
            self.service_ids.departed.remove(&key);
        }
        let persistence = service.persistence.map(|persistence| Persistence {
            timeout: persistence.timeout,
            mask: mask(&persistence),
            through_drain: persistence.through_drain,
        });
        let name: Arc<str> = service.name.as_str().into();
        let workers = self.workers as u32;
        let beginning = self.beginnings.map_or(0, |seed| {
            // By its key, so that no pattern in the list of services becomes one of beginnings.
            let mut hash = DefaultHasher::new();
            (seed, key).hash(&mut hash);
            hash.finish() as u32
        });
        let registered = self.registry.entry(key).or_insert_with(|| Registered {
            id: self.service_ids.allocate(&self.stats, key),
            name: name.clone(),
            cursors: (0..workers)
                .map(|n| CachePadded::new(Cursor::new(n, workers, beginning)))
                .collect(),
            reals: HashMap::new(),
            draining: HashSet::new(),
            templates: None,
            past: RealTotals::default(),
        });
        registered.name = name.clone();
        let templates = persistence.map(|persistence| persistence.timeout);
        registered.templates = registered.templates.max(templates);
        let (id, cursors) = (registered.id, registered.cursors.clone());
        let wanted: HashSet<_> = service
            .reals
            .iter()
            .map(|real| (real.address, real.port))
            .collect();
        let gone: Vec<_> = registered
            .reals
            .keys()
            .filter(|place| !wanted.contains(place))
            .copied()
            .collect();
        for place in gone {
            if let Some(id) = registered.reals.remove(&place) {
                let at = (key, place.0, place.1);
                self.reals.retire(&self.stats, id, at, registered.templates);
                registered.draining.insert(id);
            }
        }
        let reals: Box<[Real]> = service
            .reals
            .iter()
            .rev()
            .map(|real| {
                let place = (real.address, real.port);
                let real_id = *registered
                    .reals
                    .entry(place)
                    .or_insert_with(|| self.reals.allocate(&self.stats, (key, place.0, place.1)));
                registered.draining.remove(&real_id);
                let ports = self.ways.reply_ports(real.address);
                self.stats.tell(real_id, |told| {
                    told.standing.set(id, real.weight > 0, ports);
                });
                Real {
                    id: real_id,
                    address: real.address,
                    port: real.port,
                    weight: real.weight,
                }
            })
            .collect();
        let kind = sched::kind(service.scheduler);
        let mode = forward::Mode::of(&service.mode);
        let pool = match &service.mode {
            config::Mode::Fullnat { pool } => self.pools.get(pool).cloned(),
            _ => None,
        };
        let is_nat = mode.sees_replies && pool.is_none();
        if is_nat {
            let requests = Requests { service: key, id };
            for real in &reals {
                self.natted.remember(requests, real.address, real.port);
            }
        }
        let bits = persistence.map(|persistence| persistence.mask);
        self.placing.put(key, is_nat, bits, &mut self.natted);
        self.services.insert(
            key,
            Arc::new(Service {
                id,
                name,
                key,
                mode,
                scheduler_kind: kind,
                scheduler: (kind.new)(&reals),
                reals,
                pool,
                persistence,
                when_unavailable: service.when_unavailable,
                unknown_tcp: service.unknown_tcp,
                cursors,
            }),
        );
    }

    pub(super) fn remove_service(&mut self, key: &ServiceKey) {
        if let Some(service) = self.services.get(key).cloned() {
            self.forget_names(&service);
            self.services.remove(key);
            self.service_ids.departed.insert(*key);
            self.placing.retire(key);
        }
        if let Some(registered) = self.registry.get_mut(key) {
            for ((address, port), id) in registered.reals.drain() {
                let place = (*key, address, port);
                self.reals
                    .retire(&self.stats, id, place, registered.templates);
                registered.draining.insert(id);
            }
        }
        if let Some(count) = self.vips.get_mut(&key.address) {
            *count -= 1;
            if *count == 0 {
                self.vips.remove(&key.address);
                self.addresses.remove(&key.address);
            }
        }
    }

    /// What a service is known by, in the place of what its former version was.
    fn remember_names(&mut self, before: Option<&Service>, service: &config::Service) {
        if let Some(before) = before {
            let addresses = service.reals.iter().rev().map(|real| real.address);
            let same = before.reals.iter().map(|real| real.address).eq(addresses);
            if same && *before.name == *service.name {
                return;
            }
            self.forget_names(before);
        }
        self.names.insert(service.name.clone(), key(service));
        for real in &service.reals {
            let count = self.real_addresses.entry(real.address).or_default();
            *count += 1;
            if *count == 1 {
                self.resolver.look_at(real.address);
            }
        }
    }

    /// What a service is known by goes with it.
    fn forget_names(&mut self, service: &Service) {
        if self.names.get(&*service.name) == Some(&service.key) {
            self.names.remove(&*service.name);
        }
        for real in &service.reals {
            if let Some(count) = self.real_addresses.get_mut(&real.address) {
                *count -= 1;
                if *count == 0 {
                    self.real_addresses.remove(&real.address);
                }
            }
        }
    }

    /// Tells the workers whether a real server takes new connections, and where its replies come in.
    pub(super) fn stand(&self, service: ServiceId, real: &Real) {
        let ports = self.ways.reply_ports(real.address);
        self.stats.tell(real.id, |told| {
            told.standing.set(service, real.weight > 0, ports);
        });
    }

    /// Puts the services as they are into the next tables.
    pub(super) fn freeze_services(&mut self, next: &mut Tables) {
        next.services = self.services.freeze();
        (next.placements, next.clients) = self.placing.freeze();
        next.natted = self.natted.freeze();
        next.any_departed = !self.service_ids.departed.is_empty();
    }

    /// Forgets the removed real servers and services that have no connections left.
    pub(super) fn release_drained(&mut self, now: Time) {
        for id in self.reals.drained(&self.stats, now) {
            let totals = self.reals.totals(&self.stats, id);
            let Some((key, address, port)) = self.reals.release(&self.stats, id) else {
                continue;
            };
            self.natted.forget(&key, address, port);
            if let Some(registered) = self.registry.get_mut(&key) {
                registered.past = registered.past + totals;
                registered.draining.remove(&id);
            }
        }
        let is_over = |key: &&ServiceKey| {
            let registered = self.registry.get(*key);
            registered.is_none_or(|of| of.draining.is_empty() && self.stats.live(of.id) == 0)
        };
        let over = self.service_ids.departed.iter().filter(is_over);
        let over: Vec<_> = over.copied().collect();
        if over.is_empty() {
            return;
        }
        for key in over {
            if let Some(registered) = self.registry.remove(&key) {
                self.service_ids.release(registered.id, &key);
            }
            self.placing.forget(&key);
        }
        // The ids are given to other services when no worker reads tables any longer that name them.
        let mut next = self.publisher.current().clone();
        self.freeze_services(&mut next);
        self.publish(next);
    }
}

/// Which bits of a client's address count.
fn mask(persistence: &config::Persistence) -> u32 {
    u32::MAX
        .checked_shl(32 - u32::from(persistence.prefix_v4))
        .unwrap_or(0)
}

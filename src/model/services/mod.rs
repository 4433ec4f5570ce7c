//! Owns the services with all that is known of them. A change of the configured ones is followed by every index in one place,
//! and one publication takes all of them.

mod around;
mod configured;
mod counts;
mod ends;
mod indexes;
mod natted;
mod placing;
mod ranges;
mod real_ids;
mod reals;
mod registry;
mod service_ids;
mod snats;
mod states;
mod timings;
mod watches;

use super::changes::{Changes, different};
use super::from_config::{key, owners, pool_table};
use crate::config::{self, Config, Protocol};
use crate::lpm::Lpm;
use crate::record::{Name, Names};
use crate::service::ServiceKey;
use crate::stats::{RealTotals, Stats};
use crate::tables::{Owner, Route, Service, SnatRule, Tables};
use crate::units::{RealId, Time};
use around::Around;
use arrayvec::ArrayVec;
use configured::Configured;
use foldhash::{HashMap, HashSet};
use indexes::Indexes;
pub use real_ids::Place;
pub use reals::Edited;
use registry::Registry;
pub(crate) use registry::Turn;
pub use states::{Edit, Held, SlowStart, State};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
pub(super) use watches::{Outcome, Passed};

/// Why a service cannot be added beside the others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    #[error(
        "the name {0:?} is that of the service {1}; remove that one first, or write another name"
    )]
    Name(String, ServiceKey),
    #[error(
        "the ports of the service {0} overlap with those of {1}; remove that one first, or write other ports"
    )]
    Ports(ServiceKey, ServiceKey),
    #[error("the VIP {0} is the address of a real server of another service")]
    VipIsReal(IpAddr),
    #[error("the real server {0} is a VIP of weir's own")]
    RealIsVip(IpAddr),
    #[error(
        "weir has started without an IPv6 address, and so without room for IPv6 connections: write the service {0} into the \
         file, and restart weir"
    )]
    NoIpv6(ServiceKey),
    #[error(
        "weir has started without a service whose real servers are of the other family, and so without room for such \
         connections: write the service {0} into the file, and restart weir"
    )]
    NoCrossing(ServiceKey),
    #[error("the services would have {0} real servers in all: at most {most} are taken", most = config::MOST_REALS)]
    TooManyReals(usize),
}

/// The services of one name.
pub(crate) type Named = ArrayVec<ServiceKey, { Protocol::ALL.len() }>;

pub(super) struct Services {
    configured: Configured,
    indexes: Indexes,
    around: Around,
}

impl Services {
    /// `config` has no ports, pools or services yet.
    pub(super) fn new(
        config: Config,
        stats: Arc<Stats>,
        seed: u64,
        beginnings: Option<u64>,
    ) -> Self {
        Services {
            around: Around {
                stats,
                seed,
                clients: OnceLock::new(),
                beginnings,
                pools: HashMap::default(),
                routes: Arc::default(),
                reverse_path: config.reverse_path,
            },
            configured: Configured::new(config),
            indexes: Indexes::new(seed),
        }
    }

    pub(super) fn config(&self) -> &Config {
        self.configured.config()
    }

    /// Goes to another configuration; a service that is the same is not touched. `routes`: if they are others.
    pub(super) fn replace(&mut self, new: Config, routes: Option<Arc<Lpm<Route>>>) {
        let old = self.configured.replace(new);
        let new = self.configured.config();
        let (indexes, around) = (&mut self.indexes, &mut self.around);
        let pools_changed = new.pools != old.pools;
        let owners_changed = new.ports != old.ports || pools_changed;
        if owners_changed {
            for (address, _) in owners(&old) {
                indexes.addresses.remove(&address);
            }
        }
        if pools_changed {
            let table = |pool: &config::LocalPool| (pool.name.clone(), Arc::new(pool_table(pool)));
            around.pools = new.pools.iter().map(table).collect();
        }
        if pools_changed || new.snat != old.snat {
            let Indexes {
                snats,
                registry,
                timings,
                ..
            } = indexes;
            snats.follow(&old, new, &around.pools, registry, timings, &around.stats);
        }
        let ways_changed = routes.is_some() || around.reverse_path != new.reverse_path;
        around.reverse_path = new.reverse_path;
        if let Some(routes) = routes {
            around.routes = routes;
        }
        let has_other_pool = |service: &config::ServiceConfig| {
            pools_changed && matches!(service.mode, config::ModeConfig::Fullnat { .. })
        };
        for (before, after) in different(&old.services, &new.services, has_other_pool) {
            indexes.follow(before, after, around);
        }
        if ways_changed {
            let running = new.services.iter();
            for config in running {
                let Some(service) = indexes.running.get(&key(config)) else {
                    continue;
                };
                let reals = service.reals.iter();
                reals.for_each(|real| around.stand(service.id, real, config));
            }
        }
        // Last: an address may have been a VIP until now.
        if owners_changed {
            for (address, owner) in owners(new) {
                indexes.addresses.insert(address, owner);
            }
        }
    }

    /// Adds services, or puts them in the place of their former versions: all of them, or none.
    pub(super) fn set(
        &mut self,
        services: Vec<Arc<config::ServiceConfig>>,
    ) -> Result<Changes, Conflict> {
        services.iter().try_for_each(|service| self.fits(service))?;
        let mut changes = Changes::default();
        for service in services {
            let change = self.configured.set(service);
            changes.count_service(change.before.as_deref(), change.after);
            self.indexes.follow_change(change, &self.around);
        }
        Ok(changes)
    }

    /// Whether a service has its VIP announced while it is served.
    pub(super) fn any_announced(&self) -> bool {
        self.indexes.announced > 0
    }

    /// How many real servers all services have with some that come, or take the place of others.
    pub(super) fn reals_with(&self, services: &[Arc<config::ServiceConfig>]) -> usize {
        let keys: HashSet<_> = services.iter().map(|it| key(it)).collect();
        let former = keys.iter().filter_map(|key| self.configured.get(key));
        let former: usize = former.map(|it| it.servers().count()).sum();
        let present: usize = services.iter().map(|it| it.servers().count()).sum();
        self.indexes.reals + present - former
    }

    /// Makes an address weir's own that no port, pool or service has.
    pub(super) fn own(&mut self, address: IpAddr, owner: Owner) {
        if self.indexes.addresses.get(&address).is_none() {
            self.indexes.addresses.insert(address, owner);
        }
    }

    /// An address of [`own`](Self::own) is no longer weir's.
    pub(super) fn disown(&mut self, address: IpAddr) {
        if self.indexes.addresses.get(&address) == Some(&Owner::Checks) {
            self.indexes.addresses.remove(&address);
        }
    }

    /// Takes a service away.
    pub(super) fn unset(&mut self, key: &ServiceKey) -> Option<Changes> {
        let change = self.configured.unset(key)?;
        let mut changes = Changes::default();
        changes.count_service(change.before.as_deref(), change.after);
        self.indexes.follow_change(change, &self.around);
        Some(changes)
    }

    fn fits(&self, service: &config::ServiceConfig) -> Result<(), Conflict> {
        let Indexes {
            names,
            vips,
            real_addresses,
            ranges,
            ..
        } = &self.indexes;
        let key = key(service);
        match names.get(&service.name) {
            Some(other) if other.of(key.protocol) != key => {
                return Err(Conflict::Name(service.name.clone(), *other));
            }
            _ => {}
        }
        if let Some(other) = ranges.overlapping(&key) {
            return Err(Conflict::Ports(key, other));
        }
        if !vips.contains(key.address) && real_addresses.contains(key.address) {
            return Err(Conflict::VipIsReal(key.address));
        }
        let mut reals = service.servers().map(|real| real.address);
        match reals.find(|real| vips.contains(*real)) {
            Some(real) => Err(Conflict::RealIsVip(real)),
            None => Ok(()),
        }
    }

    /// Puts everything as it is into the next tables.
    pub(super) fn freeze(&mut self, next: &mut Tables) {
        self.indexes.freeze(next);
    }

    /// The addresses that have become those of real servers since the last call.
    pub(super) fn take_new_reals(&mut self) -> Vec<IpAddr> {
        std::mem::take(&mut self.indexes.new_reals)
    }

    /// Names the ids that were given to real servers, and to rules of `[[snat]]`, since the last call.
    pub(super) fn name_given(&mut self, names: Option<&mut Names>) {
        let given = self.indexes.registry.take_given();
        let Some(names) = names else {
            return;
        };
        for id in given {
            if let Some(name) = self.name_of(id) {
                names.set(id, &name);
            }
        }
    }

    /// What an id stands for.
    pub(super) fn name_of(&self, id: RealId) -> Option<Name> {
        let &(service, address, port) = self.indexes.registry.real(id)?;
        Some(match self.indexes.snats.network(&service) {
            Some(from) => Name::Rule(from),
            None => Name::Server {
                service,
                address,
                port,
            },
        })
    }

    /// Whether a removed service or real server may have connections left.
    pub(super) fn any_draining(&self) -> bool {
        self.indexes.registry.any_draining()
    }

    /// Forgets the removed real servers and services that have no connections left. Returns whether there is something to
    /// publish: the ids are given to other services when no worker reads tables any longer that name them.
    pub(super) fn release_drained(&mut self, now: Time) -> bool {
        self.indexes.release_drained(&self.around.stats, now)
    }

    /// No worker reads older tables: ids of services that were released may be given to others.
    pub(super) fn reuse_released(&mut self) {
        self.indexes.registry.reuse_released();
    }

    /// The addresses of real servers, with the number of services that each is of.
    pub(super) fn real_addresses(&self) -> &HashMap<IpAddr, usize> {
        self.indexes.real_addresses.all()
    }

    /// In the order of the configuration.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        let services = self.config().services.iter();
        services.filter_map(|service| self.get(&key(service)))
    }

    pub(super) fn get(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.indexes.running.get(key)
    }

    /// The services of a name, one for each of its protocols; or that of a key as it is written: `tcp:192.0.2.80:80`.
    pub(super) fn find(&self, name: &str) -> Named {
        if let Some(first) = self.indexes.names.get(name) {
            return self.indexes.named(name, first).collect();
        }
        let key = name.parse().ok().filter(|key| self.get(key).is_some());
        key.into_iter().collect()
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.indexes.registry
    }

    /// What a service counted, with the real servers that it no longer has.
    pub(super) fn totals(&self, service: &Service) -> RealTotals {
        let current = service.reals.iter().map(|real| real.id);
        let registry = &self.indexes.registry;
        registry.service_totals(&self.around.stats, &service.key, current)
    }

    /// What a rule of `[[snat]]` counted.
    pub(super) fn outward_totals(&self, rule: &SnatRule) -> RealTotals {
        let registry = &self.indexes.registry;
        let real = std::iter::once(rule.real);
        registry
            .key(rule.service)
            .map_or_else(RealTotals::default, |key| {
                registry.service_totals(&self.around.stats, key, real)
            })
    }

    pub(super) fn real_totals(&self, id: RealId) -> RealTotals {
        self.indexes.registry.real_totals(&self.around.stats, id)
    }
}

#[cfg(test)]
mod tests;

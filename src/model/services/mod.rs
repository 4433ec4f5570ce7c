//! Owns the services with all that is known of them. A change of the configured ones is followed by every index in one place,
//! and one publication takes all of them.

mod configured;
mod counts;
mod ends;
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
use crate::admission::{Clients, Guard};
use crate::config::{self, Announce, ClientAddress, Config, OnDown, Protocol, ReversePath};
use crate::conn::Pool;
use crate::forward;
use crate::forward::tunnel::{Tunnel, Via};
use crate::lpm::Lpm;
use crate::rcu::map::Map;
use crate::record::{Name, Names};
use crate::sched::{self, Setting};
use crate::service::{Persistence, Real, ServiceKey, Serving};
use crate::stats::{Established, RealTotals, Stats};
use crate::tables::{Owner, Quic, Requests, Route, Service, SnatRule, Tables, Tunnels, choices};
use crate::units::{RealId, ServiceId, Time};
use arrayvec::ArrayVec;
use configured::{Change, Configured};
use counts::Counts;
use ends::Ends;
use foldhash::{HashMap, HashSet};
use natted::Natted;
use placing::Placing;
use ranges::RangeIndex;
pub use real_ids::Place;
pub use reals::Edited;
pub(crate) use registry::Turn;
use registry::{Registry, Released};
use snats::Snats;
pub use states::{Edit, Held, SlowStart, State};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use timings::Timings;
use watches::Watches;
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

/// What follows from the configured services, and from those that there were.
struct Indexes {
    /// One of the services of each name: the others are in the same place, with other protocols.
    names: HashMap<String, ServiceKey>,
    vips: Counts,
    real_addresses: Counts,
    /// How many real servers all services have, fallback servers among them.
    reals: usize,
    /// Addresses of real servers since the last publication.
    new_reals: Vec<IpAddr>,
    /// Those of ports and pools, too.
    addresses: Map<IpAddr, Owner>,
    running: Map<ServiceKey, Arc<Service>>,
    ranges: RangeIndex,
    registry: Registry,
    natted: Natted,
    placing: Placing,
    tunnels: Tunnels,
    ends: Ends,
    timings: Timings,
    /// How many services have `one_packet`.
    one_packets: usize,
    /// How many have `announce = "while_healthy"`.
    announced: usize,
    /// Whether one has, or has had, the protocol SCTP.
    serves_sctp: bool,
    watches: Watches,
    snats: Snats,
}

/// What services are made of beside their own configuration.
struct Around {
    stats: Arc<Stats>,
    seed: u64,
    /// Of all services with limits per client, since there is one.
    clients: OnceLock<Arc<Clients>>,
    /// See [`Model::with_beginnings`](super::Model::with_beginnings).
    beginnings: Option<u64>,
    pools: HashMap<String, Arc<Pool>>,
    routes: Arc<Lpm<Route>>,
    reverse_path: ReversePath,
}

impl Around {
    /// The ports by which a real server's replies may come in: a bit for each.
    fn reply_ports(&self, real: IpAddr) -> u16 {
        match self.reverse_path {
            ReversePath::Loose => u16::MAX,
            ReversePath::Strict => {
                let route = self.routes.get(real);
                route.map_or(0, |route| 1 << route.port.0)
            }
        }
    }

    /// What new connections of a registered service are asked.
    fn guard(
        &self,
        service: &config::ServiceConfig,
        registry: &mut Registry,
    ) -> Option<Arc<Guard>> {
        if !Guard::is_wanted(service) {
            return None;
        }
        let tally = registry.tally(&key(service), &self.stats)?;
        let clients = || {
            self.clients
                .get_or_init(|| Arc::new(Clients::new(self.seed)))
        };
        let clients = Guard::counts_clients(service).then(|| clients().clone());
        Some(Arc::new(Guard::new(service, tally, clients)))
    }

    /// Tells the workers whether a real server takes new connections, what becomes of the established ones, and where its
    /// replies come in.
    fn stand(&self, id: ServiceId, real: &Real, service: &config::ServiceConfig) {
        let ports = self.reply_ports(real.address);
        // For reasons of its own: one that its service does not use now, or that is held, keeps what it has.
        let is_drained = real.weight == 0 && real.keeps_clients;
        let stays = service.persistence.is_some_and(|it| it.through_drain);
        let leaves = is_drained && !stays && service.on_drain.is_some();
        let established = match service.on_down {
            // Its flows of before: the next datagram of each is scheduled afresh.
            _ if real.is_available && (leaves || service.one_packet) => Established::Leave,
            _ if real.is_available => Established::GoOn,
            OnDown::Keep => Established::GoOn,
            OnDown::Reset => Established::Down,
            OnDown::Reschedule => Established::Moved,
        };
        let tells = service.client_address != ClientAddress::None;
        self.stats.tell(real.id, |told| {
            let (is_open, is_watched) = (real.weight > 0, service.passive.is_some());
            // Connections that have begun so go on so.
            let tells = tells || told.standing.tells();
            told.standing
                .set(id, is_open, is_watched, tells, established, ports);
            if service.quic.is_some() {
                told.standing.ask();
            }
        });
    }
}

impl Around {
    /// Makes room for what is found of real servers with thresholds. As the kernel's `__ip_vs_update_dest` does, one whose upper
    /// threshold is a new or a higher one counts as not overloaded, until it is found to be.
    fn limit(&self, reals: &[Real], former: &[Real]) {
        let max = |real: &Real| Some((real.id, real.thresholds?.max));
        if reals.iter().all(|real| real.thresholds.is_none()) {
            return;
        }
        let before: HashMap<_, _> = former.iter().filter_map(max).collect();
        for (id, max) in reals.iter().filter_map(max) {
            if before.get(&id).is_none_or(|before| *before < max) {
                self.stats.ensure_overload(id);
            }
        }
    }
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
            indexes: Indexes {
                names: HashMap::default(),
                vips: Counts::default(),
                real_addresses: Counts::default(),
                reals: 0,
                new_reals: Vec::new(),
                addresses: Map::new(seed),
                running: Map::new(seed),
                ranges: RangeIndex::new(seed),
                registry: Registry::default(),
                natted: Natted::new(seed),
                placing: Placing::new(seed),
                tunnels: Tunnels::default(),
                ends: Ends::new(seed),
                timings: Timings::new(seed),
                one_packets: 0,
                announced: 0,
                serves_sctp: false,
                watches: Watches::default(),
                snats: Snats::default(),
            },
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
        let Indexes {
            names: _,
            vips: _,
            real_addresses: _,
            reals: _,
            new_reals: _,
            addresses,
            running,
            ranges,
            registry,
            natted,
            placing,
            tunnels,
            ends,
            timings,
            one_packets,
            announced: _,
            serves_sctp,
            watches: _,
            snats,
        } = &mut self.indexes;
        next.addresses = addresses.freeze();
        next.services = running.freeze();
        next.ranges = ranges.freeze();
        next.any_departed = registry.any_departed();
        next.natted = natted.freeze();
        (next.placements, next.clients) = placing.freeze();
        next.tunnels = tunnels.clone();
        next.tunnel_ends = ends.freeze();
        timings.freeze(&mut next.timing);
        next.any_one_packet = *one_packets > 0;
        next.serves_sctp = *serves_sctp;
        next.snat = snats.tables();
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
        let Indexes {
            registry,
            natted,
            placing,
            tunnels,
            ends,
            timings,
            ..
        } = &mut self.indexes;
        let Released { reals, services } = registry.release_drained(&self.around.stats, now);
        for (id, (key, address, port)) in reals {
            tunnels.set(id, None);
            ends.remove(id);
            timings.forget(id);
            natted.forget(&key, address, port);
        }
        services.iter().for_each(|key| placing.forget(key));
        !services.is_empty()
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

impl Indexes {
    /// The services of a name, `first` among them.
    fn named<'a>(
        &'a self,
        name: &'a str,
        first: &'a ServiceKey,
    ) -> impl Iterator<Item = ServiceKey> + 'a {
        let all = Protocol::ALL.into_iter();
        let keys = all.map(|protocol| ServiceKey { protocol, ..*first });
        keys.filter(move |key| self.running.get(key).is_some_and(|it| *it.name == *name))
    }

    /// Gives a running service other weights: nothing else that is known of it follows. Returns whether any is another.
    fn reweigh(
        &mut self,
        key: &ServiceKey,
        service: &config::ServiceConfig,
        around: &Around,
    ) -> bool {
        let Some(former) = self.running.get(key) else {
            return false;
        };
        let (reals, availability) = self.registry.weighed(service, &former.reals);
        let serving = availability.serving;
        if reals == former.reals && serving == former.serving {
            return false;
        }
        let changed = reals.iter().zip(&former.reals);
        for (real, _) in changed.filter(|(real, former)| real != former) {
            around.stand(former.id, real, service);
        }
        let before = Some(&*former.scheduler);
        let setting = Setting::new(key.address, former.flags.port, before);
        let service = Service {
            scheduler: scheduler(
                former.scheduler_kind,
                &setting,
                &reals,
                former.own_reals,
                serving,
            ),
            reals,
            serving,
            name: former.name.clone(),
            pool: former.pool.clone(),
            quic: former.quic.clone(),
            cursors: former.cursors.clone(),
            guard: former.guard.clone(),
            ..**former
        };
        self.running.insert(*key, Arc::new(service));
        true
    }

    fn follow_change(&mut self, change: Change<'_>, around: &Around) {
        self.follow(change.before.as_deref(), change.after, around);
    }

    /// Follows a service from its former version to its present one; none: it was not, or is no longer. The only way in
    /// which an index learns of a service. Each is named here, so that none is forgotten.
    fn follow(
        &mut self,
        before: Option<&config::ServiceConfig>,
        after: Option<&config::ServiceConfig>,
        around: &Around,
    ) {
        let Indexes {
            names,
            vips,
            real_addresses,
            reals: all_reals,
            new_reals,
            addresses,
            running,
            ranges,
            registry,
            natted,
            placing,
            tunnels,
            ends,
            timings,
            one_packets,
            announced,
            serves_sctp,
            watches,
            snats: _,
        } = self;
        let Some(key) = before.or(after).map(key) else {
            return;
        };
        // Another service of the same change may have its former name by now.
        if let Some(before) = before
            && names.get(&before.name) == Some(&key)
        {
            let mut others = Protocol::ALL
                .iter()
                .map(|&protocol| ServiceKey { protocol, ..key });
            let is_named = |other: &ServiceKey| {
                let service = running.get(other);
                *other != key && service.is_some_and(|it| *it.name == *before.name)
            };
            match others.find(is_named) {
                Some(other) => names.insert(before.name.clone(), other),
                None => names.remove(&before.name),
            };
        }
        if let Some(after) = after {
            let named = names.entry(after.name.clone()).or_insert(key);
            // Of the protocols of one service the first, whatever the order of changes.
            let is_twin = ServiceKey {
                protocol: key.protocol,
                ..*named
            } == key;
            if !is_twin || key.protocol < named.protocol {
                *named = key;
            }
        }
        let reals = |service: Option<&config::ServiceConfig>| -> Vec<IpAddr> {
            let reals = service.into_iter().flat_map(|service| service.servers());
            reals.map(|real| real.address).collect()
        };
        let (former, present) = (reals(before), reals(after));
        *all_reals = *all_reals + present.len() - former.len();
        if former != present {
            // First: what is in both stays.
            new_reals.extend(present.into_iter().filter(|real| real_addresses.add(*real)));
            for real in former {
                real_addresses.remove(real);
            }
        }
        if before.is_none() && vips.add(key.address) {
            addresses.insert(key.address, Owner::Vip);
        }
        if after.is_none() && vips.remove(key.address) {
            addresses.remove(&key.address);
        }
        let is_one =
            |service: Option<&config::ServiceConfig>| service.is_some_and(|it| it.one_packet);
        *one_packets += usize::from(is_one(after));
        *one_packets -= usize::from(is_one(before));
        let is_announced = |service: Option<&config::ServiceConfig>| {
            service.is_some_and(|it| it.announce == Announce::WhileHealthy)
        };
        *announced += usize::from(is_announced(after));
        *announced -= usize::from(is_announced(before));
        *serves_sctp |= key.protocol == Protocol::Sctp;
        let Some(service) = after else {
            running.remove(&key);
            ranges.remove(&key);
            watches.remove(&key);
            placing.retire(&key);
            registry.retire(&around.stats, &key);
            return;
        };
        let persistence = service.persistence.map(|persistence| Persistence {
            timeout: persistence.timeout,
            prefix: match key.address {
                IpAddr::V4(_) => persistence.prefix_v4,
                IpAddr::V6(_) => persistence.prefix_v6,
            },
            through_drain: persistence.through_drain,
        });
        registry.forget_unfounded(service);
        let registered = registry.put(service, &around.stats, around.beginnings);
        match service.passive {
            Some(passive) => {
                let reals = registered.reals.iter();
                let reals = reals.map(|real| (real.id, (real.address, real.port)));
                watches.put(key, passive, reals, &around.stats, registry.states.now());
            }
            None => watches.remove(&key),
        }
        if service.client_address != ClientAddress::None {
            around.stats.want_told();
        }
        let mode = forward::Mode::of(&service.mode);
        let has_histograms = mode.sees_replies && service.histograms;
        let is_timed =
            has_histograms || mode.sees_replies && sched::goes_by_time(service.scheduler);
        if has_histograms {
            around.stats.ensure_service_times(registered.id);
            for real in &registered.reals {
                around.stats.ensure_real_times(real.id);
            }
        }
        if is_timed {
            around.stats.want_begun();
            for real in &registered.reals {
                around.stats.ensure_first_byte(real.id);
                around.stats.tell(real.id, |told| told.standing.time());
            }
        }
        for real in &registered.reals {
            around.stand(registered.id, real, service);
        }
        let former = running.get(&key).map(|former| &*former.reals);
        around.limit(&registered.reals, former.unwrap_or_default());
        timings.put(service, registered.reals.iter().map(|real| real.id));
        let pool = match &service.mode {
            config::ModeConfig::Fullnat { pool } => around.pools.get(pool).cloned(),
            _ => None,
        };
        if pool.is_some() {
            let reals = registered.reals.iter();
            reals.for_each(|real| around.stats.ensure_pairs(real.id));
        }
        let via = Via::of(&service.mode);
        if let Some(via) = via {
            for real in &registered.reals {
                let tunnel = Tunnel::new(via, real.address, key.address.is_ipv6());
                tunnels.set(real.id, Some(tunnel));
                if let Via::Wrapped(config) = via {
                    ends.add(real.id, real.address, config);
                }
            }
        }
        let is_nat = mode.sees_replies && pool.is_none();
        if is_nat {
            let id = registered.id;
            let requests = Requests { service: key, id };
            for real in &registered.reals {
                natted.remember(requests, real.address, real.port);
            }
        }
        let prefix = persistence.map(|persistence| persistence.prefix);
        placing.put(key, is_nat, prefix, natted);
        let guard = around.guard(service, registry);
        if before.is_none() {
            ranges.insert(&key);
        }
        let kind = sched::kind(service.scheduler);
        let former = running.get(&key).map(|former| &*former.scheduler);
        let setting = Setting::new(key.address, service.flags.port, former);
        running.insert(
            key,
            Arc::new(Service {
                id: registered.id,
                name: registered.name,
                key,
                mode,
                scheduler_kind: kind,
                scheduler: scheduler(
                    kind,
                    &setting,
                    &registered.reals,
                    service.reals.len(),
                    registered.serving,
                ),
                flags: service.flags,
                own_reals: service.reals.len(),
                serving: registered.serving,
                reals: registered.reals,
                pool,
                persistence,
                when_unavailable: service.when_unavailable,
                unknown_tcp: service.unknown_tcp,
                tcp_mss: service.tcp_mss,
                quic: quic(service),
                client_address: service.client_address,
                is_timed,
                has_histograms,
                on_down: service.on_down,
                one_packet: service.one_packet,
                on_drain: service.on_drain,
                via,
                guard,
                cursors: registered.cursors,
            }),
        );
    }
}

/// Which QUIC connection ids are those of which real server, of a service that goes by them.
fn quic(service: &config::ServiceConfig) -> Option<Arc<Quic>> {
    // The last of the configuration first, as in the tables.
    let ids = service
        .reals
        .iter()
        .rev()
        .map(|real| real.server_id.as_deref().copied());
    Quic::new(service.quic.as_ref()?, ids).map(Arc::new)
}

/// The scheduler of a service, over those of its servers that new connections may go to.
fn scheduler(
    kind: &'static sched::Kind,
    setting: &Setting,
    reals: &[Real],
    own: usize,
    serving: Serving,
) -> Box<dyn sched::Scheduler> {
    (kind.new)(choices(reals, own, serving), setting)
}

#[cfg(test)]
mod tests;

//! The control thread's own view of the configuration, and how a change of it becomes one publication.
//!
//! The model keeps what gives things their identity: ids of services and real servers, their counters, scheduler
//! cursors. A new configuration is compared with the current one; what is the same is not touched.

mod services;

use super::changes::{Changes, NeedsRestart};
pub use super::from_config::{Device, key};
use super::from_config::{owners, pool_table, port_of, port_table};
use super::natted::Natted;
use super::neighbours::Network;
use super::placing::Placing;
pub use super::real_ids::Place;
use super::real_ids::RealIds;
use super::resolver::Resolver;
use super::service_ids::ServiceIds;
use crate::config::{self, Config, ReversePath};
use crate::conn::Pool;
use crate::exchange::Event;
use crate::forward;
use crate::lpm::Lpm;
use crate::neighbour::NeighbourTable;
use crate::rcu::map::Map;
use crate::rcu::{Publisher, Reader, domain};
use crate::sched::{self, Cursor};
use crate::service::{Persistence, Real, ServiceKey};
use crate::stats::{RealTotals, Stats};
use crate::tables::{Owner, Requests, Route, Service, Tables};
use crate::units::{Generation, HopId, PortId, RealId, ServiceId, Time};
use crate::wire::Mac;
use crossbeam_utils::CachePadded;
use ipnet::Ipv4Net;
pub use services::{Conflict, Edit};
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

pub struct Model {
    config: Config,
    devices: Vec<Device>,
    stats: Arc<Stats>,
    workers: usize,
    publisher: Publisher<Tables>,
    services: Map<ServiceKey, Arc<Service>>,
    natted: Natted,
    placing: Placing,
    addresses: Map<Ipv4Addr, Owner>,
    /// Per VIP, how many services it has.
    vips: HashMap<Ipv4Addr, usize>,
    /// Per service, what outlives its changes; of a removed one, until its last connection is gone.
    registry: HashMap<ServiceKey, Registered>,
    pools: HashMap<String, Arc<Pool>>,
    reals: RealIds,
    service_ids: ServiceIds,
    pub resolver: Resolver,
    /// The weights that drained real servers had.
    drained: HashMap<(ServiceKey, (Ipv4Addr, u16)), u16>,
    /// Where in the configuration a service is.
    places: HashMap<ServiceKey, usize>,
    names: HashMap<String, ServiceKey>,
    /// Per address, how many services it is a real server of.
    real_addresses: HashMap<Ipv4Addr, usize>,
    ways: Ways,
    /// Neighbours' slots to be used again when every worker reads the present generation.
    retired_hops: Vec<HopId>,
    drained_at: Time,
}

/// What decides by which ports a real server's replies may come in.
struct Ways {
    routes: Arc<Lpm<Route>>,
    reverse_path: ReversePath,
}

impl Ways {
    /// A bit for each port.
    fn reply_ports(&self, real: Ipv4Addr) -> u16 {
        match self.reverse_path {
            ReversePath::Loose => u16::MAX,
            ReversePath::Strict => {
                let route = self.routes.get(real);
                route.map_or(0, |route| 1 << route.port.0)
            }
        }
    }
}

/// How often real servers that are configured no more are looked at.
const DRAIN_CHECK: Duration = Duration::from_secs(1);

/// What of a service outlives its changes.
struct Registered {
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
    /// The model of a first configuration, and a reader of its tables for each worker.
    /// `devices`: one for each `[[port]]`. `seed`: a secret of this run, or a constant in a replay.
    pub fn new(
        config: &Config,
        devices: Vec<Device>,
        stats: Arc<Stats>,
        seed: u64,
        now: Time,
    ) -> (Self, Vec<Reader<Tables>>) {
        let workers = stats.workers().count();
        let mut services = Map::new(seed);
        let mut addresses = Map::new(seed);
        let mut natted = Natted::new(seed);
        let mut placing = Placing::new(seed);
        let sources = devices.iter().zip(&config.ports);
        let sources = sources.map(|(device, port)| (device.mac, port.mtu));
        let resolver = Resolver::new(Arc::new(NeighbourTable::new(sources)));
        let (placements, clients) = placing.freeze();
        let tables = Tables {
            generation: Generation(0),
            route_generation: 0,
            ports: Arc::default(),
            addresses: addresses.freeze(),
            services: services.freeze(),
            natted: natted.freeze(),
            placements,
            clients,
            any_departed: false,
            routes: Arc::new(Lpm::default()),
            neighbours: resolver.neighbours().table().clone(),
            timeouts: (&config.timeouts).into(),
            reverse_path: config.reverse_path,
            unknown_tcp: config.unknown_tcp,
            answers_per_second: config.limits.answers_per_second,
            host_packets_per_second: config.limits.host_packets_per_second,
            host_peer_packets_per_second: config.limits.host_peer_packets_per_second,
            host_peers: Arc::default(),
        };
        let (publisher, readers) = domain(Box::new(tables), workers);
        let nothing = Config {
            ports: vec![],
            routes: vec![],
            neighbours: vec![],
            pools: vec![],
            services: vec![],
            host_peers: vec![],
            ..config.clone()
        };
        let mut model = Model {
            config: nothing,
            devices,
            stats,
            workers,
            publisher,
            services,
            natted,
            placing,
            addresses,
            vips: HashMap::new(),
            registry: HashMap::new(),
            pools: HashMap::new(),
            reals: RealIds::default(),
            service_ids: ServiceIds::default(),
            resolver,
            drained: HashMap::new(),
            places: HashMap::new(),
            names: HashMap::new(),
            real_addresses: HashMap::new(),
            ways: Ways {
                routes: Arc::new(Lpm::default()),
                reverse_path: config.reverse_path,
            },
            retired_hops: Vec::new(),
            drained_at: now,
        };
        model.change(config.clone(), now);
        (model, readers)
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn tables(&self) -> &Tables {
        self.publisher.current()
    }

    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    pub fn publisher(&mut self) -> &mut Publisher<Tables> {
        &mut self.publisher
    }

    /// The services by name of their key, in the order of the configuration.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.config
            .services
            .iter()
            .filter_map(|service| self.services.get(&key(service)))
    }

    pub fn find(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

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

    /// What differs between the running configuration and `new`, if that can be changed at all.
    pub fn check_change(&self, new: &Config) -> Result<(), NeedsRestart> {
        let refuse = |what: String| Err(NeedsRestart { what });
        if new.dpdk != self.config.dpdk {
            return refuse("[dpdk]".into());
        }
        if new.api != self.config.api {
            return refuse("[api]".into());
        }
        if new.limits.connections != self.config.limits.connections {
            return refuse("[limits] connections".into());
        }
        let fixed = |port: &config::Port| {
            (
                port.name.clone(),
                port.device.clone(),
                port.mac,
                port.mtu,
                port.queues,
                port.companion.clone(),
            )
        };
        if !new
            .ports
            .iter()
            .map(fixed)
            .eq(self.config.ports.iter().map(fixed))
        {
            return refuse(
                "the list of [[port]]s, or the device, mac, mtu, queues or companion of one,"
                    .into(),
            );
        }
        Ok(())
    }

    /// Makes `new` the running configuration: one publication, whatever the number of changes.
    pub fn apply(&mut self, new: Config, now: Time) -> Result<Changes, NeedsRestart> {
        self.check_change(&new)?;
        Ok(self.change(new, now))
    }

    fn change(&mut self, new: Config, now: Time) -> Changes {
        let changes = Changes::between(&self.config, &new);
        let old = std::mem::replace(&mut self.config, new.clone());
        // The file says what the weights are.
        self.drained.clear();
        let mut next = self.publisher.current().clone();

        if new.timeouts != old.timeouts {
            next.timeouts = (&new.timeouts).into();
        }
        if new.limits != old.limits {
            next.answers_per_second = new.limits.answers_per_second;
            next.host_packets_per_second = new.limits.host_packets_per_second;
            next.host_peer_packets_per_second = new.limits.host_peer_packets_per_second;
        }
        if new.host_peers != old.host_peers {
            let mut peers = new.host_peers.clone();
            peers.sort_unstable_by_key(|peer| peer.address);
            next.host_peers = peers.into();
        }
        let owners_changed = new.ports != old.ports || new.pools != old.pools;
        if owners_changed {
            for (address, _) in owners(&old) {
                self.addresses.remove(&address);
            }
        }
        if new.ports != old.ports {
            next.ports = new
                .ports
                .iter()
                .zip(&self.devices)
                .map(|(port, device)| port_table(port, *device))
                .collect();
        }
        if new.pools != old.pools {
            self.pools = new
                .pools
                .iter()
                .map(|pool| (pool.name.clone(), Arc::new(pool_table(pool))))
                .collect();
        }
        if new.neighbours != old.neighbours || new.ports != old.ports {
            let placed = |config: &Config| -> HashMap<(PortId, Ipv4Addr), Mac> {
                let neighbours = config.neighbours.iter();
                neighbours
                    .filter_map(|n| Some(((port_of(config, n.address)?, n.address), Mac(n.mac))))
                    .collect()
            };
            let (before, after) = (placed(&old), placed(&new));
            for (port, address) in before.keys().filter(|place| !after.contains_key(place)) {
                self.resolver.unset_static(*port, *address, now);
            }
            for (&(port, address), &mac) in &after {
                self.resolver.set_static(port, address, mac, now);
            }
        }
        if new.routes != old.routes || new.ports != old.ports {
            next.routes = Arc::new(self.routes(&new, now));
            self.resolver.look_at_all();
            next.route_generation = next.route_generation.wrapping_add(1);
        }
        next.unknown_tcp = new.unknown_tcp;
        next.reverse_path = new.reverse_path;
        let ways_changed = !Arc::ptr_eq(&self.ways.routes, &next.routes)
            || self.ways.reverse_path != new.reverse_path;
        self.ways = Ways {
            routes: next.routes.clone(),
            reverse_path: new.reverse_path,
        };
        self.change_services(&old, &new);
        if ways_changed {
            for service in &new.services {
                if let Some(service) = self.services.get(&key(service)) {
                    service
                        .reals
                        .iter()
                        .for_each(|real| self.stand(service.id, real));
                }
            }
        }
        self.places = new
            .services
            .iter()
            .enumerate()
            .map(|(place, service)| (key(service), place))
            .collect();
        // Last: an address may have been a VIP until now.
        if owners_changed {
            for (address, owner) in owners(&new) {
                self.addresses.insert(address, owner);
            }
        }

        next.addresses = self.addresses.freeze();
        self.freeze_services(&mut next);
        self.publish(next);
        changes
    }

    /// What is due from time to time: neighbours, ids whose connections are gone, tables that no worker reads any more.
    /// Call it at least every few milliseconds.
    pub fn tick(&mut self, now: Time) {
        let network = Network {
            tables: self.publisher.current(),
            reals: &self.real_addresses,
        };
        self.resolver.tick(&network, now);
        if self.retired_hops.is_empty() && self.resolver.neighbours().is_crowded(now) {
            self.retired_hops = self.resolver.retire_unused(&network, now);
            if !self.retired_hops.is_empty() {
                let mut next = self.publisher.current().clone();
                next.route_generation = next.route_generation.wrapping_add(1);
                self.publish(next);
            }
        }
        self.publisher.reclaim();
        // Ids are used again only when no worker reads tables any more that still name their former owners.
        if self.publisher.pending() == 0 {
            if !self.retired_hops.is_empty() {
                self.resolver
                    .release(std::mem::take(&mut self.retired_hops));
            }
            self.service_ids.reuse_released();
            let any_draining = self.reals.any_draining() || !self.service_ids.departed.is_empty();
            if any_draining && now.since(self.drained_at) >= DRAIN_CHECK {
                self.drained_at = now;
                self.release_drained(now);
            }
        }
    }

    /// Forgets the removed real servers and services that have no connections left.
    fn release_drained(&mut self, now: Time) {
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

    /// Puts the services as they are into the next tables.
    fn freeze_services(&mut self, next: &mut Tables) {
        next.services = self.services.freeze();
        (next.placements, next.clients) = self.placing.freeze();
        next.natted = self.natted.freeze();
        next.any_departed = !self.service_ids.departed.is_empty();
    }

    /// Hands an event of a worker to the resolver.
    pub fn event(&mut self, event: Event, now: Time) {
        let network = Network {
            tables: self.publisher.current(),
            reals: &self.real_addresses,
        };
        self.resolver.event(event, &network, now);
    }

    /// Publishes `next` as the next generation.
    fn publish(&mut self, mut next: Tables) {
        next.generation = Generation(next.generation.0 + 1);
        self.publisher.publish(Box::new(next));
    }

    /// Tells the workers whether a real server takes new connections, and where its replies come in.
    fn stand(&self, service: ServiceId, real: &Real) {
        let ports = self.ways.reply_ports(real.address);
        self.stats.tell(real.id, |told| {
            told.standing.set(service, real.weight > 0, ports);
        });
    }

    fn change_services(&mut self, old: &Config, new: &Config) {
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

    fn remove_service(&mut self, key: &ServiceKey) {
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

    /// Adds a service, or puts it in the place of its former version.
    fn put_service(&mut self, service: &config::Service) {
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
        let registered = self.registry.entry(key).or_insert_with(|| Registered {
            id: self.service_ids.allocate(&self.stats, key),
            name: name.clone(),
            cursors: (0..workers)
                .map(|n| CachePadded::new(Cursor::new(n, workers)))
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
        let kind = sched::kind(&service.scheduler).unwrap_or(&sched::KINDS[0]);
        let mode = forward::mode(service.mode.name()).unwrap_or(&forward::MODES[0]);
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

    fn routes(&mut self, config: &Config, now: Time) -> Lpm<Route> {
        let mut routes: Vec<(Ipv4Net, Route)> = Vec::new();
        for (n, port) in config.ports.iter().enumerate() {
            let route = Route {
                port: PortId(n as u8),
                gateway: None,
            };
            routes.extend(port.addresses.iter().map(|net| (net.trunc(), route)));
        }
        self.resolver.unpin_all();
        for route in &config.routes {
            let Some(port) = port_of(config, route.via) else {
                continue;
            };
            match self.resolver.pin(port, route.via, now) {
                Some(hop) => routes.push((
                    route.to,
                    Route {
                        port,
                        gateway: Some((hop, route.via)),
                    },
                )),
                None => {
                    tracing::warn!(to = %route.to, via = %route.via, "route left out: the neighbour table is full")
                }
            }
        }
        Lpm::from_routes(routes)
    }
}

/// Which bits of a client's address count.
fn mask(persistence: &config::Persistence) -> u32 {
    u32::MAX
        .checked_shl(32 - u32::from(persistence.prefix_v4))
        .unwrap_or(0)
}

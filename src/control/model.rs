//! The control thread's own view of the configuration, and how a change of it becomes one publication.
//!
//! A new configuration is compared with the current one; what is the same is not touched. `registry` keeps what gives
//! services and real servers their identity, `services` has the changes of single ones.

#[cfg(test)]
mod beginnings_test;
mod reach;
mod registry;
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
use crate::config::{Config, ReversePath};
use crate::conn::Pool;
use crate::exchange::Event;
use crate::lpm::Lpm;
use crate::neighbour::NeighbourTable;
use crate::rcu::map::Map;
use crate::rcu::{Publisher, Reader, domain};
use crate::service::ServiceKey;
use crate::stats::Stats;
use crate::tables::{Owner, Route, Service, Tables};
use crate::units::{Generation, HopId, PortId, Time};
use crate::wire::Mac;
use ipnet::Ipv4Net;
pub(super) use reach::names;
use registry::Registered;
pub use services::{Conflict, Edit};
use std::collections::HashMap;
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
    /// See [`Model::with_beginnings`].
    beginnings: Option<u64>,
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
        Self::with_beginnings(config, devices, stats, seed, None, now)
    }

    /// As [`Model::new`]; with a seed for `beginnings` each service's scheduler begins at another real server. Without,
    /// every one begins at the head of its list, as a replay's do.
    pub fn with_beginnings(
        config: &Config,
        devices: Vec<Device>,
        stats: Arc<Stats>,
        seed: u64,
        beginnings: Option<u64>,
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
            beginnings,
        };
        model.change(config.clone(), now);
        (model, readers)
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The configuration without its services: what new ones are checked against.
    pub fn surroundings(&self) -> Config {
        let config = &self.config;
        Config {
            services: Vec::new(),
            dpdk: config.dpdk.clone(),
            api: config.api.clone(),
            limits: config.limits.clone(),
            timeouts: config.timeouts.clone(),
            ports: config.ports.clone(),
            routes: config.routes.clone(),
            neighbours: config.neighbours.clone(),
            pools: config.pools.clone(),
            host_peers: config.host_peers.clone(),
            ..*config
        }
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

    /// Returns the services in the order of the configuration.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.config
            .services
            .iter()
            .filter_map(|service| self.services.get(&key(service)))
    }

    pub fn find(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// Whether `new` can become the running configuration.
    pub fn check_change(&self, new: &Config) -> Result<(), NeedsRestart> {
        NeedsRestart::check(&self.config, new)
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
        let reached = self.resolver.take_reached(now);
        self.say_reached(reached);
        let network = Network {
            tables: self.publisher.current(),
            reals: &self.real_addresses,
        };
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
        let mut left_out = Vec::new();
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
                None => left_out.push(format!("{} via {}", route.to, route.via)),
            }
        }
        if !left_out.is_empty() {
            let routes = names(left_out);
            tracing::warn!(routes, "routes left out: the neighbour table is full");
        }
        Lpm::from_routes(routes)
    }
}

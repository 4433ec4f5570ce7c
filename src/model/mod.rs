//! What is configured, and how a change of it becomes one publication. No thread, no I/O: the control thread runs it on the
//! real clock, a replay on that of its captures.
//!
//! A new configuration is compared with the current one; what is the same is not touched. [`services`] has everything that
//! is known of services; the neighbours that a configuration needs are the [resolver's](crate::resolver).

mod availability;
#[cfg(test)]
mod availability_tests;
#[cfg(test)]
mod beginnings_tests;
mod changes;
mod from_config;
mod passive;
mod plan;
#[cfg(test)]
mod plan_tests;
mod reach;
mod reals;
mod routers;
mod services;

use crate::config::{self, Config};
use crate::conn::Timeouts;
use crate::exchange::Event;
use crate::log::{Reports, Said};
use crate::lpm::Lpm;
use crate::neighbour::NeighbourTable;
use crate::net::{ByFamily, is_link_local};
use crate::rcu::map::Map;
use crate::rcu::{Publisher, Reader, domain};
use crate::record::{Name, Names};
use crate::resolver::Resolver;
use crate::resolver::neighbours::Network;
use crate::service::ServiceKey;
use crate::stats::{MAX_PORTS, RealTotals, Stats};
use crate::tables::{Checks, Owner, Route, Service, Tables, Timing, Tunnels};
use crate::units::{Generation, HopId, PortId, RealId, ServiceId, Time};
use crate::wire::Mac;
use availability::Ways;
pub use changes::{Changes, NeedsRestart, NoSuchReal};
pub use from_config::{Device, key};
use from_config::{port_of, port_tables};
use ipnet::{IpNet, Ipv6Net};
pub use plan::{Detail, Details};
pub use reach::{names, why_no_way};
pub use reals::{EditedReal, RestoredEdit};
use routers::{Routers, Standing};
use services::Services;
pub use services::{Conflict, Edit, Edited, Held, Place, SlowStart, State};
pub(crate) use services::{Named, Turn};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

pub struct Model {
    devices: Vec<Device>,
    stats: Arc<Stats>,
    publisher: Publisher<Tables>,
    services: Services,
    pub resolver: Resolver,
    /// Neighbours' slots to be used again when every worker reads the present generation.
    retired_hops: Vec<HopId>,
    drained_at: Time,
    routers: Routers,
    /// Log lines about routers that made room for others: the new one, and the one that went.
    displaced: Reports<PortId, (Ipv6Addr, Ipv6Addr)>,
    /// About real servers that are held, and come back.
    passed: passive::Lines,
    /// The default route is another router's since [`Model::take_rerouted`] was asked.
    is_rerouted: bool,
    ways: Ways,
    /// Workers have room for IPv6 connections, as the first configuration asked for.
    speaks_ipv6: bool,
    /// There is room for connections whose sides are of different families.
    crosses_families: bool,
    /// What the next process finds connections' real servers by, if there is such a file.
    names: Option<Names>,
}

/// How often real servers that are no longer configured are looked at.
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
        let sources = devices.iter().zip(&config.ports);
        let sources = sources.map(|(device, port)| (device.mac, port.mtu));
        let resolver = Resolver::new(Arc::new(NeighbourTable::new(sources)));
        let tables = Tables {
            generation: Generation(0),
            route_generation: 0,
            ports: Arc::default(),
            addresses: Map::new(seed).freeze(),
            services: Map::new(seed).freeze(),
            ranges: Map::new(seed).freeze(),
            natted: Map::new(seed).freeze(),
            placements: Map::new(seed).freeze(),
            clients: ByFamily::default(),
            snat: Arc::default(),
            tunnels: Tunnels::default(),
            tunnel_ends: Map::new(seed).freeze(),
            any_departed: false,
            routes: Arc::new(Lpm::default()),
            neighbours: resolver.neighbours().table().clone(),
            silent: Arc::default(),
            timing: Timing::from(Timeouts::from(&config.timeouts)),
            any_one_packet: false,
            serves_sctp: false,
            reverse_path: config.reverse_path,
            unknown_tcp: config.unknown_tcp,
            answers_per_second: config.limits.answers_per_second,
            fragment_timeout: config.limits.fragment_timeout,
            host_packets_per_second: config.limits.host_packets_per_second,
            host_peer_packets_per_second: config.limits.host_peer_packets_per_second,
            host_peers: Arc::default(),
            checks: ByFamily::default(),
        };
        let (publisher, readers) = domain(Box::new(tables), workers);
        let nothing = Config {
            ports: vec![],
            routes: vec![],
            neighbours: vec![],
            pools: vec![],
            snat: vec![],
            health: Arc::default(),
            services: vec![],
            host_peers: vec![],
            ..config.clone()
        };
        let mut model = Model {
            devices,
            publisher,
            services: Services::new(nothing, stats.clone(), seed, beginnings),
            stats,
            resolver,
            retired_hops: Vec::new(),
            drained_at: now,
            routers: Routers::default(),
            displaced: Reports::new(MAX_PORTS),
            passed: Reports::new(passive::SUBJECTS),
            is_rerouted: false,
            ways: Ways::default(),
            speaks_ipv6: config.speaks_ipv6(),
            crosses_families: config.crosses_families(),
            names: None,
        };
        model.change(config.clone(), now);
        (model, readers)
    }

    pub fn config(&self) -> &Config {
        self.services.config()
    }

    /// The configuration without its services: what new ones are checked against.
    pub fn surroundings(&self) -> Config {
        let config = self.config();
        Config {
            services: Vec::new(),
            dpdk: config.dpdk.clone(),
            api: config.api.clone(),
            connection_log: config.connection_log.clone(),
            limits: config.limits.clone(),
            timeouts: config.timeouts.clone(),
            ports: config.ports.clone(),
            routes: config.routes.clone(),
            neighbours: config.neighbours.clone(),
            pools: config.pools.clone(),
            snat: config.snat.clone(),
            real_pools: config.real_pools.clone(),
            health: config.health.clone(),
            host_peers: config.host_peers.clone(),
            state_file: config.state_file.clone(),
            connections_file: config.connections_file.clone(),
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

    /// The services in the order of the configuration.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter()
    }

    pub fn find(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// The services of a name, one for each of its protocols; or that of a key as it is written: `tcp:192.0.2.80:80`.
    pub(crate) fn find_services(&self, name: &str) -> Named {
        self.services.find(name)
    }

    /// What a rule of `[[snat]]` has in the place of a service, by the name of that: `snat:10.0.0.0/24`.
    pub(crate) fn find_outward(&self, name: &str) -> Option<ServiceId> {
        let from: IpNet = name.strip_prefix("snat:")?.parse().ok()?;
        let mut rules = self.tables().snat.rules().iter();
        Some(rules.find(|rule| rule.from == from)?.service)
    }

    /// A configured service by its id.
    pub fn service(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.find(self.services.registry().key(id)?)
    }

    /// The name of a service: also of one that was removed, while it has connections.
    pub fn service_name(&self, id: ServiceId) -> Option<Arc<str>> {
        self.services.registry().name(id)
    }

    /// What each rule of `[[snat]]` counted.
    pub fn snat_totals(&self) -> impl Iterator<Item = (IpNet, RealTotals)> {
        let rules = self.tables().snat.rules().iter();
        rules.map(|rule| (rule.from, self.services.outward_totals(rule)))
    }

    /// Whether a real server stands for the outward connections of a rule of `[[snat]]`.
    pub fn is_snat(&self, id: RealId) -> bool {
        let rules = self.tables().snat.rules();
        rules.iter().any(|rule| rule.real == id)
    }

    /// The service, address and port of a real server: also of one that was removed, while it has connections.
    pub fn real(&self, id: RealId) -> Option<&Place> {
        self.services.registry().real(id)
    }

    /// The service of a real server: also of one that was removed, while it has connections.
    pub fn service_of(&self, id: RealId) -> Option<ServiceId> {
        self.services.registry().service_of(id)
    }

    /// What a real server counted since it was configured.
    pub fn real_totals(&self, id: RealId) -> RealTotals {
        self.services.real_totals(id)
    }

    /// What a service counted, with the real servers that it no longer has.
    pub fn service_totals(&self, service: &Service) -> RealTotals {
        self.services.totals(service)
    }

    /// Has every id of a real server named for the next process, from now on.
    pub fn set_names(&mut self, mut names: Names) {
        for id in (0..self.services.registry().ids()).map(RealId) {
            if let Some(name) = self.services.name_of(id) {
                names.set(id, &name);
            }
        }
        self.names = Some(names);
    }

    /// The id that a real server has, or a rule of `[[snat]]`, by the name that a former process has left.
    pub fn named(&self, name: &Name) -> Option<RealId> {
        match *name {
            Name::Server {
                service,
                address,
                port,
            } => self.services.id(&service, (address, port)),
            Name::Rule(from) => {
                let mut rules = self.tables().snat.rules().iter();
                Some(rules.find(|rule| rule.from == from)?.real)
            }
        }
    }

    /// Whether `new` can become the running configuration.
    pub fn check_change(&self, new: &Config) -> Result<(), NeedsRestart> {
        if new.speaks_ipv6() && !self.speaks_ipv6 {
            return Err(NeedsRestart {
                what: "that there is no IPv6 address".to_owned(),
            });
        }
        if new.crosses_families() && !self.crosses_families {
            return Err(NeedsRestart {
                what: "that no service has real servers of the other family".to_owned(),
            });
        }
        NeedsRestart::check(self.config(), new)
    }

    /// Makes `new` the running configuration: one publication, whatever the number of changes.
    pub fn apply(&mut self, new: Config, now: Time) -> Result<Changes, NeedsRestart> {
        self.check_change(&new)?;
        Ok(self.change(new, now))
    }

    fn change(&mut self, new: Config, now: Time) -> Changes {
        let old = self.services.config();
        let changes = Changes::between(old, &new);
        let ports = port_tables(&new, &self.devices);
        let ports = (new.ports != old.ports || ports != self.tables().ports).then_some(ports);
        let host_peers = (new.host_peers != old.host_peers).then(|| {
            let mut peers = new.host_peers.clone();
            peers.sort_unstable_by_key(|peer| (peer.address, peer.port));
            peers.into()
        });
        if new.neighbours != old.neighbours || ports.is_some() {
            let (before, after) = (static_neighbours(old), static_neighbours(&new));
            for (port, address) in before.keys().filter(|place| !after.contains_key(place)) {
                self.resolver.unset_static(*port, *address, now);
            }
            for (&(port, address), &mac) in &after {
                self.resolver.set_static(port, address, mac, now);
            }
        }
        let routes = (new.routes != old.routes || ports.is_some()).then(|| {
            self.routers.follow(&new);
            let learned = self.routers.chosen();
            let routes = Arc::new(routes(&mut self.resolver, &new, learned, now));
            self.resolver.look_at_all();
            routes
        });
        let timeouts = (&new.timeouts).into();
        let (reverse_path, unknown_tcp) = (new.reverse_path, new.unknown_tcp);
        let limits = new.limits.clone();
        self.services.set_now(now);
        self.services.replace(new, routes.clone());
        self.ways.is_other = true;
        self.publish(|next| {
            next.timing.set_usual(timeouts);
            next.reverse_path = reverse_path;
            next.unknown_tcp = unknown_tcp;
            next.answers_per_second = limits.answers_per_second;
            next.fragment_timeout = limits.fragment_timeout;
            next.host_packets_per_second = limits.host_packets_per_second;
            next.host_peer_packets_per_second = limits.host_peer_packets_per_second;
            if let Some(ports) = ports {
                next.ports = ports;
            }
            if let Some(host_peers) = host_peers {
                next.host_peers = host_peers;
            }
            if let Some(routes) = routes {
                next.routes = routes;
                next.route_generation = next.route_generation.wrapping_add(1);
            }
        });
        changes
    }

    /// The IPv6 addresses of weir's own, in their order, that it keeps silent of on a port, since another host may have
    /// them.
    pub fn set_silent(&mut self, silent: Arc<[(PortId, IpAddr)]>) {
        self.publish(|next| next.silent = silent);
    }

    /// The way of health checks that take that of clients' packets, from now on.
    pub fn set_check_ways(&mut self, checks: ByFamily<Option<Checks>>) {
        let before = self.tables().checks;
        if checks == before {
            return;
        }
        for gone in [before.v4, before.v6].into_iter().flatten() {
            self.services.disown(gone.source);
        }
        for new in [checks.v4, checks.v6].into_iter().flatten() {
            self.services.own(new.source, Owner::Checks);
        }
        self.publish(|next| next.checks = checks);
    }

    /// Adds services, or puts them in the place of their former versions: all in one publication, or none.
    pub fn set_services(
        &mut self,
        services: Vec<impl Into<Arc<crate::config::ServiceConfig>>>,
    ) -> Result<Changes, Conflict> {
        let services: Vec<Arc<_>> = services.into_iter().map(Into::into).collect();
        let is_ipv6 = |service: &&Arc<crate::config::ServiceConfig>| service.address.is_ipv6();
        if let Some(service) = services.iter().find(is_ipv6)
            && !self.speaks_ipv6
        {
            return Err(Conflict::NoIpv6(from_config::key(service)));
        }
        let crosses = |service: &&Arc<_>| self.config().crosses(service);
        if let Some(service) = services.iter().find(crosses)
            && !self.crosses_families
        {
            return Err(Conflict::NoCrossing(from_config::key(service)));
        }
        let reals = self.services.reals_with(&services);
        if reals > config::MOST_REALS {
            return Err(Conflict::TooManyReals(reals));
        }
        let changes = self.services.set(services)?;
        self.publish(|_| {});
        Ok(changes)
    }

    /// Takes a service away, as if it were no longer in the file.
    pub fn unset_service(&mut self, key: &ServiceKey) -> Option<Changes> {
        let changes = self.services.unset(key)?;
        self.publish(|_| {});
        Some(changes)
    }

    /// Has the next hops of real servers asked all the time whether they answer, so that one that does not gets no client: a
    /// daemon's, since a replay has only the packets of its captures.
    pub fn confirm_all(&mut self) {
        self.resolver.confirm_all();
        let network = Network {
            tables: self.publisher.current(),
            reals: self.services.real_addresses(),
        };
        for real in network.reals.keys() {
            self.resolver.prepare(*real, &network);
        }
    }

    /// What is due from time to time: neighbours, ids whose connections are gone, tables that no worker reads any more.
    /// Call it at least every few milliseconds.
    pub fn tick(&mut self, now: Time) {
        if let Some(names) = &mut self.names {
            names.live(now);
        }
        self.take_steps(now);
        self.watch(now);
        let network = Network {
            tables: self.publisher.current(),
            reals: self.services.real_addresses(),
        };
        self.resolver.tick(&network, now);
        let reached = self.resolver.take_reached(now);
        self.say_reached(reached);
        for (port, said) in self.displaced.tick(now).subjects {
            self.say_displaced(port, said);
        }
        self.follow_routers(now);
        self.follow_ways(now);
        let network = Network {
            tables: self.publisher.current(),
            reals: self.services.real_addresses(),
        };
        if self.retired_hops.is_empty() && self.resolver.neighbours().is_to_retire(now) {
            self.retired_hops = self.resolver.retire_unused(&network, now);
            if !self.retired_hops.is_empty() {
                self.publish(|next| {
                    next.route_generation = next.route_generation.wrapping_add(1);
                });
            }
        }
        self.publisher.reclaim();
        // Ids are used again only when no worker reads tables any more that still name their former owners.
        if self.publisher.pending() == 0 {
            if !self.retired_hops.is_empty() {
                self.resolver
                    .release(std::mem::take(&mut self.retired_hops));
            }
            self.services.reuse_released();
            let is_due = now.since(self.drained_at) >= DRAIN_CHECK;
            if self.services.any_draining() && is_due {
                self.drained_at = now;
                if self.services.release_drained(now) {
                    self.publish(|_| {});
                }
            }
        }
    }

    /// Hands an event of a worker to the resolver.
    pub fn event(&mut self, event: Event, now: Time) {
        if let Event::Router {
            port,
            address,
            lifetime,
        } = event
        {
            self.router_heard(port, address, lifetime, now);
            return;
        }
        let network = Network {
            tables: self.publisher.current(),
            reals: self.services.real_addresses(),
        };
        self.resolver.event(event, &network, now);
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Time> {
        let due = [
            self.resolver.next_due(),
            self.routers.next_due(),
            self.services.next_step(),
            self.services.next_release(),
        ];
        due.into_iter().flatten().min()
    }

    /// A router advertises itself.
    fn router_heard(&mut self, port: PortId, address: Ipv6Addr, lifetime: Duration, now: Time) {
        let table = self.resolver.neighbours().table();
        let standing = |port, address| Standing::of(table, port, address);
        let outcome = self.routers.heard(port, address, lifetime, standing, now);
        if outcome.is_to_ask {
            let address = address.into();
            let network = Network {
                tables: self.publisher.current(),
                reals: self.services.real_addresses(),
            };
            let wanted = Event::Wanted { port, address };
            self.resolver.event(wanted, &network, now);
        }
        if let Some(displaced) = outcome.displaced
            && let Some(said) = self.displaced.note(port, (address, displaced), now)
        {
            self.say_displaced(port, said);
        }
        self.follow_routers(now);
    }

    fn say_displaced(&self, port: PortId, said: Said<(Ipv6Addr, Ipv6Addr)>) {
        let (router, displaced) = said.last;
        tracing::warn!(
            port = &*self.tables().port(port).name, %router, %displaced, times = said.count,
            "more routers advertise themselves than are remembered: one that does not answer, or was silent for long, made room"
        );
    }

    /// Publishes the default route by the advertised router that is the best one now, or none, if that is a change.
    fn follow_routers(&mut self, now: Time) {
        let table = self.resolver.neighbours().table();
        if !self
            .routers
            .choose(|port, address| Standing::of(table, port, address), now)
        {
            return;
        }
        self.is_rerouted = true;
        let learned = self.routers.chosen();
        let port = learned.map(|(port, _)| self.tables().port(port).name.clone());
        let router = learned.map(|(_, address)| address);
        tracing::info!(
            ?router,
            port = port.as_deref(),
            "default router by its advertisements"
        );
        let config = self.config().clone();
        let routes = Arc::new(routes(&mut self.resolver, &config, learned, now));
        self.services.replace(config, Some(routes.clone()));
        self.ways.is_other = true;
        self.resolver.look_at_all();
        self.publish(|next| {
            next.routes = routes;
            next.route_generation = next.route_generation.wrapping_add(1);
        });
    }

    /// Whether another router has the default route since the last call: addresses may be found on other ports.
    pub fn take_rerouted(&mut self) -> bool {
        std::mem::take(&mut self.is_rerouted)
    }

    /// The default route that a router's advertisements gave: the router and its port.
    pub fn learned_route(&self) -> Option<(PortId, IpAddr)> {
        let (port, address) = self.routers.chosen()?;
        let is_given = |route: &crate::config::RouteConfig| {
            route.to.prefix_len() == 0 && route.to.addr().is_ipv6()
        };
        let is_given = self.config().routes.iter().any(is_given);
        (!is_given).then_some((port, address.into()))
    }

    /// Publishes the services as they are, and what `change` makes of the other tables, as the next generation.
    fn publish(&mut self, change: impl FnOnce(&mut Tables)) {
        let mut next = self.publisher.current().clone();
        change(&mut next);
        self.services.freeze(&mut next);
        // Before any connection has them.
        self.services.name_given(self.names.as_mut());
        next.generation = Generation(next.generation.0 + 1);
        self.publisher.publish(Box::new(next));
        for real in self.services.take_new_reals() {
            self.ways.is_other = true;
            self.resolver.look_at(real);
            let network = Network {
                tables: self.publisher.current(),
                reals: self.services.real_addresses(),
            };
            self.resolver.prepare(real, &network);
        }
    }
}

/// The `[[neighbour]]`s that are on a port's link.
fn static_neighbours(config: &Config) -> HashMap<(PortId, IpAddr), Mac> {
    let port = |neighbour: &crate::config::StaticNeighbour| match neighbour.port {
        Some(place) => Some(PortId(place as u8)),
        None => port_of(config, neighbour.address),
    };
    let neighbours = config.neighbours.iter();
    neighbours
        .filter_map(|n| Some(((port(n)?, n.address), n.mac)))
        .collect()
}

/// The routing table of a configuration, whose gateways keep their slots.
fn routes(
    resolver: &mut Resolver,
    config: &Config,
    learned: Option<(PortId, Ipv6Addr)>,
    now: Time,
) -> Lpm<Route> {
    let mut routes: Vec<(IpNet, Route)> = Vec::new();
    for (n, port) in config.ports.iter().enumerate() {
        let route = Route {
            port: PortId(n as u8),
            gateway: None,
        };
        let addresses = port.addresses.iter();
        let subnets = addresses.filter(|net| !is_link_local(net.addr()));
        routes.extend(subnets.map(|net| (net.trunc(), route)));
    }
    resolver.unpin_all();
    // First: a default route of the configuration takes its place.
    if let Some((port, address)) = learned
        && let Some(hop) = resolver.pin(port, address.into(), now)
    {
        let gateway = Some((hop, address.into()));
        let route = Route { port, gateway };
        routes.push((IpNet::V6(Ipv6Net::default()), route));
    }
    let mut left_out = Vec::new();
    for route in &config.routes {
        let named = route.port.map(|place| PortId(place as u8));
        let Some(port) = named.or_else(|| port_of(config, route.via)) else {
            continue;
        };
        match resolver.pin(port, route.via, now) {
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

//! The nodes, their router, clients and real servers, and what happens between them, in the order of its time.

use super::client::{self, Client, Ended};
use super::node::{Home, Node};
use super::packet::Packet;
use super::plan::Plan;
use super::report::{Excuse, Report, Violation};
use super::router::Router;
use super::server::Servers;
use super::{Actions, Failed, MILLISECOND, Random, SECOND, Setup};
use crate::config::{Config, ModeConfig, Protocol, ServiceConfig};
use crate::net::{Mac, Vlan};
use crate::replay;
use crate::sched;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Between questions of a connection.
const EVERY: u64 = 200 * MILLISECOND;
/// The shortest and the longest life of most connections; a third of them stay to the end.
const LIVES: (u64, u64) = (SECOND, 20 * SECOND);
/// Between the end of a connection and the next one of the same client.
const PAUSE: u64 = SECOND;
/// The longest way between a client and the router.
pub(super) const FAR: u64 = 20 * MILLISECOND;
/// How far the nodes' clocks are apart.
const SKEW: u64 = 2 * SECOND;
/// Where every port is a service's, clients come to this one.
const ANY_PORT: u16 = 80;
/// Where links lose more, it may be all that a connection sends until it is given up.
const MOST_LOSS: f64 = 0.05;
/// The first local port of clients.
const FIRST_PORT: u16 = 10_000;

#[derive(Debug)]
pub(super) enum Event {
    /// A client's packet comes to the router.
    Request(Packet),
    /// A real server's packet comes to a router, on its way back by a node.
    Reply(IpAddr, Packet),
    ToReal(IpAddr, Packet),
    ToClient(Packet),
    /// The client of that number opens its next connection.
    Opens(u32),
    Wakes(u32, u64),
    Fault(usize),
    /// The fault of that number is over.
    Over(usize),
    /// The router notices that a node is dead or silent; or that it is there again.
    Leaves(usize),
    Joins(usize),
    /// The configuration of a node changes, by the fault of that number, or back.
    Changes {
        node: usize,
        fault: usize,
        back: bool,
    },
    Tick,
}

struct Planned {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A service that is simulated.
pub(super) struct Service {
    pub(super) config: Arc<ServiceConfig>,
    /// Any node has the same choice for a client.
    pub(super) is_stateless: bool,
    /// How often its real servers have changed.
    pub(super) changes: u32,
}

/// A connection, and what is known of it from outside.
pub(super) struct Life {
    pub(super) client: Client,
    pub(super) service: usize,
    pub(super) home: Option<Home>,
    pub(super) real: Option<IpAddr>,
    /// What may explain that it breaks.
    pub(super) excuses: BTreeSet<Excuse>,
    /// By the number of the fault.
    pub(super) touched_by: Option<usize>,
    /// See [`Service::changes`], when it was begun.
    pub(super) changes: u32,
    pub(super) is_counted: bool,
}

pub(super) struct World<'a> {
    pub(super) setup: &'a Setup,
    pub(super) plan: &'a Plan,
    pub(super) now: u64,
    queue: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    pub(super) random: Random,
    pub(super) router: Router,
    pub(super) nodes: Vec<Node>,
    pub(super) services: Vec<Service>,
    pub(super) lives: Vec<Life>,
    /// How many connections each client has begun.
    pub(super) begun: Vec<u16>,
    /// The connection that each client has now.
    pub(super) by_client: HashMap<(SocketAddr, bool), u32>,
    pub(super) servers: Servers,
    pub(super) vips: HashSet<IpAddr>,
    pub(super) reals: HashSet<IpAddr>,
    /// Whose the addresses of local pools are.
    pub(super) owners: HashMap<IpAddr, usize>,
    pub(super) by_mac: HashMap<Mac, IpAddr>,
    /// The latest fault that is not over, or was.
    pub(super) latest: Option<usize>,
    pub(super) report: Report,
}

impl<'a> World<'a> {
    pub(super) fn new(setup: &'a Setup, plan: &'a Plan) -> Result<Self, Failed> {
        let nodes = plan.nodes.max(1);
        let services = services(&setup.config)?;
        let mut owners = HashMap::new();
        let mut configs = Vec::new();
        if let Some(taken) = addresses(&setup.config).find(is_clients) {
            return Err(Failed::Taken(taken));
        }
        let mut common = setup.config.clone();
        // Links are not tagged: what is on them is known by its addresses.
        for port in &mut common.ports {
            port.vlan = Vlan::Untagged;
        }
        let clients = (0..plan.connections).map(|n| {
            let service = &services[n as usize % services.len()];
            client_address(n, service.config.address)
        });
        replay::resolve(&mut common, clients)?;
        for node in 0..nodes {
            let mut config = common.clone();
            for pool in &mut config.pools {
                let has = pool.addresses.len();
                if has < nodes {
                    let pool = pool.name.clone();
                    return Err(Failed::FewAddresses { pool, has, nodes });
                }
                let mut number = 0..;
                pool.addresses
                    .retain(|_| number.next().is_some_and(|n: usize| n % nodes == node));
                owners.extend(pool.addresses.iter().map(|address| (*address, node)));
            }
            configs.push(config);
        }
        let mut random = Random::new(plan.seed);
        // Connections that are over are remembered for a while.
        let room = (plan.connections as usize * 64).max(4096);
        let node = |(number, config)| {
            let skew = random.below(SKEW);
            Node::new(number, config, setup, (plan.workers.max(1), room, skew))
        };
        let nodes = configs.into_iter().enumerate().map(node);
        let nodes = nodes.collect::<Result<Vec<_>, Failed>>()?;
        for service in &services {
            for number in [0, plan.connections.saturating_sub(1)] {
                let client = client_address(number, service.config.address);
                if !nodes[0].has_way(client) {
                    return Err(Failed::NoRoute(client));
                }
            }
        }
        let all = setup.config.services.iter();
        let servers = all.clone().flat_map(|service| service.servers());
        let by_mac = common.neighbours.iter().map(|it| (it.mac, it.address));
        let mut world = World {
            setup,
            plan,
            now: 0,
            queue: BinaryHeap::new(),
            planned: 0,
            router: Router::new(plan.ecmp, plan.seed, 0..nodes.len()),
            nodes,
            services,
            lives: Vec::new(),
            begun: vec![0; plan.connections as usize],
            by_client: HashMap::new(),
            servers: Servers::default(),
            vips: all.map(|service| service.address).collect(),
            reals: servers.map(|server| server.address).collect(),
            owners,
            by_mac: by_mac.collect(),
            latest: None,
            report: Report::default(),
            random,
        };
        for client in 0..plan.connections {
            let at = world.random.below(SECOND);
            world.plan(at, Event::Opens(client));
        }
        for (number, fault) in plan.faults.iter().enumerate() {
            world.find(number, fault)?;
            world.plan(fault.at * MILLISECOND, Event::Fault(number));
        }
        world.plan(SECOND, Event::Tick);
        Ok(world)
    }

    pub(super) fn plan(&mut self, at: u64, event: Event) {
        self.planned += 1;
        let order = self.planned;
        self.queue.push(Reverse(Planned { at, order, event }));
    }

    /// Lets everything happen until the end, and until what was begun is over or broken.
    pub(super) fn run(mut self) -> Result<Report, Failed> {
        let end = u64::from(self.plan.seconds) * SECOND + 2 * client::PATIENCE;
        while let Some(Reverse(Planned { at, event, .. })) = self.queue.pop()
            && at <= end
            && self.report.violations.is_empty()
        {
            self.now = at;
            self.report.events += 1;
            self.happen(event)?;
        }
        for node in 0..self.nodes.len() {
            self.count_drops(node);
        }
        if !self.report.violations.is_empty() {
            self.report.violated_at = Some(self.now / MILLISECOND);
        }
        self.report.stalls.sort_unstable();
        Ok(self.report)
    }

    /// What a node has dropped, before its counters end with it.
    pub(super) fn count_drops(&mut self, node: usize) {
        for (reason, count) in self.nodes[node].drops() {
            *self.report.drops.entry(reason).or_default() += count;
        }
    }

    /// Whether no new connection is begun any more.
    fn is_ending(&self) -> bool {
        self.now >= u64::from(self.plan.seconds) * SECOND
    }

    fn happen(&mut self, event: Event) -> Result<(), Failed> {
        match event {
            Event::Opens(client) => self.open(client),
            Event::Wakes(number, token) => {
                self.act(number, |client, now, actions| {
                    client.woken(token, now, actions)
                });
            }
            Event::ToClient(packet) => {
                let client = (packet.destination, packet.is_tcp);
                if let Some(&number) = self.by_client.get(&client) {
                    self.act(number, |client, now, actions| {
                        client.receive(&packet, now, actions)
                    });
                }
            }
            Event::Request(packet) => self.request(&packet),
            Event::Reply(real, packet) => self.reply(real, &packet),
            Event::ToReal(real, packet) => self.serve(real, &packet),
            Event::Fault(number) => self.fault(number),
            Event::Over(number) => self.over(number)?,
            Event::Leaves(node) => {
                if !self.nodes[node].is_alive() || self.nodes[node].is_silent {
                    self.router.remove(node);
                }
            }
            Event::Joins(node) => {
                if self.nodes[node].is_alive() && !self.nodes[node].is_silent {
                    self.router.add(node);
                }
            }
            Event::Changes { node, fault, back } => self.change(node, fault, back)?,
            Event::Tick => {
                for node in 0..self.nodes.len() {
                    let frames = self.nodes[node].tick(self.now);
                    self.send_all(frames);
                }
                self.plan(self.now + SECOND, Event::Tick);
            }
        }
        Ok(())
    }

    fn open(&mut self, client: u32) {
        if self.is_ending() {
            return;
        }
        let number = self.lives.len() as u32;
        let service = client as usize % self.services.len();
        let Service {
            config, changes, ..
        } = &self.services[service];
        let address = client_address(client, config.address);
        // Each connection of a client has a port of its own, for as long as there are any.
        let begun = &mut self.begun[client as usize];
        let port = FIRST_PORT + *begun;
        *begun = (*begun + 1) % (u16::MAX - FIRST_PORT);
        let to = SocketAddr::new(config.address, open_port(config));
        let from = SocketAddr::new(address, port);
        let is_tcp = config.protocol == Protocol::Tcp;
        let changes = *changes;
        let end = u64::from(self.plan.seconds) * SECOND;
        let until = match self.random.below(3) {
            0 => end,
            _ => self.now + LIVES.0 + self.random.below(LIVES.1 - LIVES.0),
        };
        let plan = client::Plan {
            every: EVERY,
            until: until.min(end),
        };
        let mut opened = Client::new(number, (from, to), is_tcp, plan);
        opened.progress = self.now;
        self.by_client.insert((from, is_tcp), number);
        self.lives.push(Life {
            client: opened,
            service,
            home: None,
            real: None,
            excuses: BTreeSet::new(),
            touched_by: None,
            changes,
            is_counted: false,
        });
        self.report.begun += 1;
        self.act(number, Client::start);
    }

    fn act(&mut self, number: u32, act: impl FnOnce(&mut Client, u64, &mut Actions)) {
        let mut actions = Actions::default();
        let life = &mut self.lives[number as usize];
        act(&mut life.client, self.now, &mut actions);
        if life.client.is_open && !life.is_counted {
            life.is_counted = true;
            self.report.opened += 1;
        }
        let way = 1 + u64::from(number) * 7919 * MILLISECOND % FAR;
        for packet in actions.packets {
            self.link(way, || Event::Request(packet));
        }
        for (at, token) in actions.timers {
            self.plan(at, Event::Wakes(number, token));
        }
        let ended = self.lives[number as usize].client.ended;
        if let Some(ended) = ended {
            self.end(number, ended);
        }
    }

    /// A connection is over: what is to be said of it, and the next one of its client.
    fn end(&mut self, number: u32, ended: Ended) {
        let life = &self.lives[number as usize];
        let client = (life.client.from, life.client.is_tcp);
        if self.by_client.get(&client) != Some(&number) {
            return;
        }
        self.by_client.remove(&client);
        if ended == Ended::Closed {
            self.report.closed += 1;
            self.report.stalls.push(life.client.stalled / MILLISECOND);
        } else {
            let kind = life
                .touched_by
                .map(|fault| self.plan.faults[fault].what.kind());
            match self.excuse(life, ended) {
                Some(excuse) => {
                    *self.report.broken.entry(excuse).or_default() += 1;
                    if let Some(kind) = kind {
                        self.report.by_fault.entry(kind).or_default().broken += 1;
                    }
                }
                None => {
                    let service = self.services[life.service].config.name.clone();
                    self.report.violations.push(Violation::Unexplained {
                        connection: number,
                        service,
                        ended,
                    });
                }
            }
        }
        let client = number_of(client.0.ip());
        let at = self.now + 1 + self.random.below(PAUSE);
        self.plan(at, Event::Opens(client));
    }

    /// What explains that a connection breaks so.
    pub(super) fn excuse(&self, life: &Life, ended: Ended) -> Option<Excuse> {
        let service = &self.services[life.service];
        // Any node sends it to the same real server, as long as those are the same.
        let is_same_anywhere = service.is_stateless && service.changes == life.changes;
        let explains = |excuse: &&Excuse| match excuse {
            Excuse::Moved | Excuse::NodeDied => !is_same_anywhere,
            Excuse::NoNode | Excuse::Lost => ended == Ended::Silence,
            Excuse::RealRemoved => true,
        };
        let lost = (self.plan.network.loss > MOST_LOSS).then_some(&Excuse::Lost);
        let mut all = life.excuses.iter().chain(lost);
        all.find(explains).copied()
    }

    pub(super) fn touch(&mut self, number: u32, excuse: Excuse) {
        let latest = self.latest;
        let life = &mut self.lives[number as usize];
        life.excuses.insert(excuse);
        if life.touched_by.is_none()
            && let Some(fault) = latest
        {
            life.touched_by = Some(fault);
            let kind = self.plan.faults[fault].what.kind();
            self.report.by_fault.entry(kind).or_default().touched += 1;
        }
    }

    /// The client's connection of a packet, in either direction.
    pub(super) fn life_of(&self, client: SocketAddr, is_tcp: bool) -> Option<u32> {
        self.by_client.get(&(client, is_tcp)).copied()
    }

    /// A packet of a connection comes to a node, which may not be the one that has it.
    pub(super) fn note_home(&mut self, number: u32, home: Home) {
        match self.lives[number as usize].home {
            None => self.lives[number as usize].home = Some(home),
            Some(former) if former == home => {}
            Some(former) if former.node == home.node => self.touch(number, Excuse::NodeDied),
            Some(_) => self.touch(number, Excuse::Moved),
        }
    }
}

/// The services whose promises a connection can be held against.
fn services(config: &Config) -> Result<Vec<Service>, Failed> {
    let is_usual = |service: &&Arc<ServiceConfig>| {
        let protocol = service.protocol;
        matches!(protocol, Protocol::Tcp | Protocol::Udp)
            && !service.one_packet
            && service.quic.is_none()
            && service.servers().next().is_some()
    };
    let services = config.services.iter().filter(is_usual);
    let service = |config: &Arc<ServiceConfig>| {
        let sees_replies = matches!(config.mode, ModeConfig::Nat | ModeConfig::Fullnat { .. });
        let kind = sched::kind(config.scheduler);
        Service {
            // Which real server is full is known to a node alone.
            is_stateless: kind.is_stateless
                && !sees_replies
                && config.persistence.is_none()
                && config.servers().all(|server| server.thresholds.is_none()),
            config: config.clone(),
            changes: 0,
        }
    };
    let services: Vec<_> = services.map(service).collect();
    match services.is_empty() {
        true => Err(Failed::NoService),
        false => Ok(services),
    }
}

fn open_port(service: &ServiceConfig) -> u16 {
    match service.port {
        0 => ANY_PORT,
        port => port,
    }
}

/// The addresses of ports, pools, VIPs and real servers.
fn addresses(config: &Config) -> impl Iterator<Item = IpAddr> + '_ {
    let ports = config.ports.iter().flat_map(|port| &port.addresses);
    let pools = config.pools.iter().flat_map(|pool| &pool.addresses);
    let services = config.services.iter().flat_map(|service| {
        let servers = service.servers().map(|server| server.address);
        servers.chain([service.address])
    });
    (ports.map(|net| net.addr()))
        .chain(pools.copied())
        .chain(services)
}

/// Whether an address is of the networks that [`client_address`] gives out.
fn is_clients(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.to_bits() >> 17 == 0xc612_0000 >> 17,
        IpAddr::V6(address) => address.to_bits() >> 80 == 0x2001_0002_0000,
    }
}

/// Of the networks for benchmarks (RFC 2544, RFC 5180), of the VIP's family.
fn client_address(number: u32, vip: IpAddr) -> IpAddr {
    match vip {
        IpAddr::V4(_) => Ipv4Addr::from_bits(0xc612_0000 + 1 + number).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits((0x2001_0002 << 96) + 1 + u128::from(number)).into(),
    }
}

/// The client's that has an address.
fn number_of(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits() - 0xc612_0000 - 1,
        IpAddr::V6(address) => address.to_bits() as u32 - 1,
    }
}

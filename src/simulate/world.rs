//! The nodes, their router, clients and real servers, and what happens between them, in the order of its time.

use super::client::{self, Client, Ended};
use super::node::{Home, Node};
use super::packet::Packet;
use super::plan::{Fault, Kind, Plan, What};
use super::report::{Excuse, Report, Violation};
use super::router::Router;
use super::server::{Noticed, Servers};
use super::{Actions, Failed, MILLISECOND, Random, SECOND, Setup};
use crate::config::{Config, ModeConfig, Protocol, ServiceConfig};
use crate::net::Mac;
use crate::replay::{self, Frame};
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
/// The longest way between a client and the router, and between a real server and a node.
const FAR: u64 = 20 * MILLISECOND;
const NEAR: u64 = MILLISECOND;
/// How much later an overtaken packet comes.
const LATE: u64 = 5 * MILLISECOND;
/// Between the changes of two nodes' configurations.
const APART: u64 = 50 * MILLISECOND;
/// How far the nodes' clocks are apart.
const SKEW: u64 = 2 * SECOND;
/// Where every port is a service's, clients come to this one.
const ANY_PORT: u16 = 80;
/// The first local port of clients.
const FIRST_PORT: u16 = 10_000;

#[derive(Debug)]
enum Event {
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
struct Service {
    config: Arc<ServiceConfig>,
    /// Any node has the same choice for a client.
    is_stateless: bool,
    /// How often its real servers have changed.
    changes: u32,
}

/// A connection, and what is known of it from outside.
struct Life {
    client: Client,
    service: usize,
    home: Option<Home>,
    real: Option<IpAddr>,
    excuse: Option<Excuse>,
    /// By the number of the fault.
    touched_by: Option<usize>,
    /// See [`Service::changes`], when it was begun.
    changes: u32,
    is_counted: bool,
}

pub(super) struct World<'a> {
    setup: &'a Setup,
    plan: &'a Plan,
    now: u64,
    queue: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    random: Random,
    router: Router,
    nodes: Vec<Node>,
    services: Vec<Service>,
    lives: Vec<Life>,
    /// How many connections each client has begun.
    begun: Vec<u16>,
    /// The connection that each client has now.
    by_client: HashMap<(SocketAddr, bool), u32>,
    servers: Servers,
    vips: HashSet<IpAddr>,
    reals: HashSet<IpAddr>,
    /// Whose the addresses of local pools are.
    owners: HashMap<IpAddr, usize>,
    by_mac: HashMap<Mac, IpAddr>,
    /// The latest fault that is not over, or was.
    latest: Option<usize>,
    report: Report,
}

impl<'a> World<'a> {
    pub(super) fn new(setup: &'a Setup, plan: &'a Plan) -> Result<Self, Failed> {
        let nodes = setup.nodes.max(1);
        let services = services(&setup.config)?;
        let mut owners = HashMap::new();
        let mut configs = Vec::new();
        let mut common = setup.config.clone();
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
            Node::new(number, config, setup, (room, skew))
        };
        let nodes = configs.into_iter().enumerate().map(node);
        let nodes = nodes.collect::<Result<Vec<_>, Failed>>()?;
        for service in &services {
            let client = client_address(0, service.config.address);
            if !nodes[0].has_way(client) {
                return Err(Failed::NoRoute(client));
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
            router: Router::new(setup.ecmp, plan.seed, 0..nodes.len()),
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

    /// Whether what a fault names is there.
    fn find(&self, number: usize, fault: &Fault) -> Result<(), Failed> {
        let unknown = |what: String| {
            let number = number + 1;
            Err(Failed::Unknown { number, what })
        };
        match &fault.what {
            What::Kill { node, .. } | What::Silence { node, .. } | What::Drain { node, .. } => {
                match *node < self.nodes.len() {
                    true => Ok(()),
                    false => unknown(format!("node {node}")),
                }
            }
            What::Remove { service, real, .. } | What::Weight { service, real, .. } => {
                let mut named =
                    (self.setup.config.services.iter()).filter(|it| it.name == *service);
                let is_it = |it: &Arc<ServiceConfig>| it.reals.iter().any(|it| is_real(it, *real));
                match named.any(is_it) {
                    true => Ok(()),
                    false => unknown(format!("real server {real} of a service {service:?}")),
                }
            }
        }
    }

    fn plan(&mut self, at: u64, event: Event) {
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
    fn count_drops(&mut self, node: usize) {
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

    /// A packet goes over a link of that length.
    fn link(&mut self, length: u64, event: impl Fn() -> Event) {
        let network = self.plan.network;
        let copies = match self.random.happens(network.loss) {
            true => 0,
            false => 1 + usize::from(self.random.happens(network.duplication)),
        };
        for _ in 0..copies {
            let late = match self.random.happens(network.reordering) {
                true => self.random.below(LATE),
                false => 0,
            };
            self.plan(self.now + length + late, event());
        }
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
            excuse: None,
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
            match self.excuse(life) {
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

    /// What explains that a connection broke.
    fn excuse(&self, life: &Life) -> Option<Excuse> {
        let service = &self.services[life.service];
        let excuse = life.excuse?;
        // Any node sends it to the same real server, as long as those are the same.
        let is_same_anywhere = service.is_stateless && service.changes == life.changes;
        match excuse {
            Excuse::Moved | Excuse::NodeDied if is_same_anywhere => None,
            excuse => Some(excuse),
        }
    }

    fn touch(&mut self, number: u32, excuse: Excuse) {
        let latest = self.latest;
        let life = &mut self.lives[number as usize];
        life.excuse.get_or_insert(excuse);
        if life.touched_by.is_none()
            && let Some(fault) = latest
        {
            life.touched_by = Some(fault);
            let kind = self.plan.faults[fault].what.kind();
            self.report.by_fault.entry(kind).or_default().touched += 1;
        }
    }

    /// The client's connection of a packet, in either direction.
    fn life_of(&self, client: SocketAddr, is_tcp: bool) -> Option<u32> {
        self.by_client.get(&(client, is_tcp)).copied()
    }

    /// A packet of a connection comes to a node, which may not be the one that has it.
    fn note_home(&mut self, number: u32, home: Home) {
        match self.lives[number as usize].home {
            None => self.lives[number as usize].home = Some(home),
            Some(former) if former == home => {}
            Some(former) if former.node == home.node => self.touch(number, Excuse::NodeDied),
            Some(_) => self.touch(number, Excuse::Moved),
        }
    }

    fn request(&mut self, packet: &Packet) {
        let number = self.life_of(packet.source, packet.is_tcp);
        let Some(node) = self.router.pick(&flow(packet)) else {
            if let Some(number) = number {
                self.touch(number, Excuse::NoNode);
            }
            return;
        };
        self.receive(node, packet, packet.source.ip(), number);
    }

    fn receive(&mut self, node: usize, packet: &Packet, from: IpAddr, number: Option<u32>) {
        let Some(frames) = self.nodes[node].receive(packet, from, self.now) else {
            return;
        };
        self.report.packets += 1;
        if let Err(replay::Unaccounted(packets)) = self.nodes[node].check() {
            let violation = Violation::Unaccounted { node, packets };
            self.report.violations.push(violation);
        }
        if let Some(number) = number {
            self.note_home(number, self.nodes[node].home());
        }
        self.send_all(frames);
    }

    /// What a node sends goes where it is to go.
    fn send_all(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            self.send(frame.bytes());
        }
    }

    fn send(&mut self, frame: &[u8]) {
        let Some((packet, outer)) = Packet::parse(frame) else {
            return;
        };
        let on_link = || {
            let mac = frame.first_chunk().copied().map(Mac)?;
            self.by_mac.get(&mac).copied()
        };
        let real = match self.reals.contains(&outer) {
            true => Some(outer),
            false if self.vips.contains(&packet.destination.ip()) => on_link(),
            false => None,
        };
        match real {
            Some(real) => self.link(NEAR, || Event::ToReal(real, packet)),
            None => self.link(FAR, || Event::ToClient(packet)),
        }
    }

    fn serve(&mut self, real: IpAddr, packet: &Packet) {
        let local = self.local_of(real, packet);
        let (answer, noticed) = self.servers.receive(real, packet, local);
        self.notice(real, noticed);
        let Some(answer) = answer else {
            return;
        };
        match self.vips.contains(&local.ip()) {
            true => self.link(FAR, || Event::ToClient(answer)),
            false => self.link(NEAR, || Event::Reply(real, answer)),
        }
    }

    /// What a packet is to, as the real server sees it: where a DSCP says so, the VIP.
    fn local_of(&self, real: IpAddr, packet: &Packet) -> SocketAddr {
        let said_by = |service: &&Service| {
            let config = &service.config;
            let is_its = config.servers().any(|server| server.address == real);
            is_its && matches!(config.mode, ModeConfig::L3dsr { dscp } if dscp == packet.dscp)
        };
        let service = self.services.iter().find(said_by);
        service.map_or(packet.destination, |service| {
            SocketAddr::new(service.config.address, open_port(&service.config))
        })
    }

    fn notice(&mut self, real: IpAddr, noticed: Noticed) {
        let lives = |number: u32| {
            let life = self.lives.get(number as usize)?;
            (life.client.is_alive() && life.excuse.is_none()).then_some(number)
        };
        let violation = match noticed {
            Noticed::Nothing => None,
            Noticed::OpensAnew(first) => {
                lives(first).map(|connection| Violation::OpenedTwice { real, connection })
            }
            Noticed::Mixed(first, second) => lives(first).map(|first| Violation::Mixed {
                real,
                first,
                second,
            }),
            Noticed::Asked(number) => {
                let changes = |life: &Life| self.services[life.service].changes;
                match self.lives.get(number as usize) {
                    Some(life) if life.real.is_some_and(|first| first != real) => {
                        let may_move = !life.client.is_tcp
                            && (life.excuse.is_some() || changes(life) != life.changes);
                        let first = life.real.unwrap_or(real);
                        (!may_move).then_some(Violation::TwoRealServers {
                            connection: number,
                            first,
                            second: real,
                        })
                    }
                    _ => None,
                }
            }
        };
        if let Noticed::Asked(number) = noticed
            && let Some(life) = self.lives.get_mut(number as usize)
        {
            life.real = Some(real);
        }
        self.report.violations.extend(violation);
    }

    /// By the owner of the address that it goes to, or by the router of the real servers.
    fn reply(&mut self, real: IpAddr, packet: &Packet) {
        let to = packet.destination;
        if let Some(&owner) = self.owners.get(&to.ip()) {
            return self.receive(owner, packet, real, None);
        }
        let number = self.life_of(to, packet.is_tcp);
        match self.router.pick(&flow(packet)) {
            Some(node) => self.receive(node, packet, real, number),
            None => {
                if let Some(number) = number {
                    self.touch(number, Excuse::NoNode);
                }
            }
        }
    }

    fn fault(&mut self, number: usize) {
        let (now, detection) = (self.now, self.setup.detection * MILLISECOND);
        let what = &self.plan.faults[number].what;
        let is_last = |node: usize| {
            let members = self.router.members();
            members.len() == 1 && members.contains(&node)
        };
        let away = match *what {
            What::Kill { node, away } | What::Silence { node, away } => {
                let is_there = self.nodes[node].is_alive() && !self.nodes[node].is_silent;
                if !is_there || is_last(node) && self.nodes.len() > 1 {
                    return;
                }
                match what.kind() {
                    Kind::Kill => {
                        self.count_drops(node);
                        self.nodes[node].die();
                    }
                    _ => self.nodes[node].is_silent = true,
                }
                self.plan(now + detection, Event::Leaves(node));
                away
            }
            What::Drain { node, away } => {
                if !self.router.members().contains(&node) || is_last(node) {
                    return;
                }
                self.router.remove(node);
                away
            }
            What::Remove { away, .. } => {
                self.change_all(number, false);
                away
            }
            What::Weight { .. } => {
                self.change_all(number, false);
                self.note_fault(number);
                return;
            }
        };
        self.note_fault(number);
        self.plan(now + away * MILLISECOND, Event::Over(number));
    }

    fn note_fault(&mut self, number: usize) {
        self.latest = Some(number);
        let kind = self.plan.faults[number].what.kind();
        self.report.by_fault.entry(kind).or_default().faults += 1;
    }

    fn over(&mut self, number: usize) -> Result<(), Failed> {
        match self.plan.faults[number].what {
            What::Kill { node, .. } => {
                self.nodes[node].start(self.now)?;
                self.latest = Some(number);
                self.plan(self.now, Event::Joins(node));
            }
            What::Silence { node, .. } => {
                self.nodes[node].is_silent = false;
                self.latest = Some(number);
                self.plan(self.now, Event::Joins(node));
            }
            What::Drain { node, .. } => {
                self.latest = Some(number);
                self.plan(self.now, Event::Joins(node));
            }
            What::Remove { .. } => self.change_all(number, true),
            What::Weight { .. } => {}
        }
        Ok(())
    }

    /// Each node gets its change at a time of its own.
    fn change_all(&mut self, fault: usize, back: bool) {
        for node in 0..self.nodes.len() {
            let at = self.now + self.random.below(APART);
            self.plan(at, Event::Changes { node, fault, back });
        }
    }

    fn change(&mut self, node: usize, fault: usize, back: bool) -> Result<(), Failed> {
        let what = &self.plan.faults[fault].what;
        let (name, real) = match what {
            What::Remove { service, real, .. } | What::Weight { service, real, .. } => {
                (service, *real)
            }
            _ => return Ok(()),
        };
        let original = &self.setup.config.services;
        self.nodes[node].change(self.now, |config| {
            for service in config.services.iter_mut().filter(|it| it.name == *name) {
                let service = Arc::make_mut(service);
                match *what {
                    What::Weight { weight, .. } => {
                        let mut reals = service.reals.iter_mut();
                        if let Some(it) = reals.find(|it| is_real(it, real)) {
                            it.weight = weight;
                        }
                    }
                    _ if back => {
                        let is_same = |it: &&Arc<ServiceConfig>| {
                            it.name == service.name && it.protocol == service.protocol
                        };
                        if let Some(original) = original.iter().find(is_same) {
                            service.reals.clone_from(&original.reals);
                        }
                    }
                    // The last one stays.
                    _ if service.reals.len() > 1 => {
                        service.reals.retain(|it| !is_real(it, real));
                    }
                    _ => {}
                }
            }
        })?;
        let mut changed = Vec::new();
        for (number, service) in self.services.iter_mut().enumerate() {
            if service.config.name == *name {
                service.changes += 1;
                changed.push(number);
            }
        }
        if back || matches!(what, What::Weight { .. }) {
            return Ok(());
        }
        self.latest = Some(fault);
        let alive = self.by_client.values().copied().collect::<BTreeSet<_>>();
        for number in alive {
            let life = &self.lives[number as usize];
            if changed.contains(&life.service) && life.real.is_none_or(|chosen| chosen == real.ip())
            {
                self.touch(number, Excuse::RealRemoved);
            }
        }
        Ok(())
    }
}

fn is_real(config: &crate::config::RealConfig, real: SocketAddr) -> bool {
    SocketAddr::new(config.address, config.port) == real
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
            is_stateless: kind.is_stateless && !sees_replies && config.persistence.is_none(),
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

/// What a router takes for a flow: its addresses, ports and protocol.
fn flow(packet: &Packet) -> Vec<u8> {
    let mut flow = Vec::with_capacity(37);
    for end in [packet.source, packet.destination] {
        match end.ip() {
            IpAddr::V4(address) => flow.extend(address.octets()),
            IpAddr::V6(address) => flow.extend(address.octets()),
        }
        flow.extend(end.port().to_be_bytes());
    }
    flow.push(u8::from(packet.is_tcp));
    flow
}

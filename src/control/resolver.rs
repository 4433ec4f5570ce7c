//! Finds and keeps the MAC addresses of neighbours, by ARP (RFC 826), with the states of RFC 4861 section 7.3.
//!
//! A state machine: events and the time go in, questions to send come out. The control thread runs it on the real
//! clock, a replay on that of its captures. It is the one writer of the neighbour table.
//!
//! A neighbour is believed the first time it speaks. Later, no single packet gives it another MAC address: the host at
//! the known one is asked first, and only when it stays silent is everybody asked, as the kernel does for an entry whose
//! confirmation has run out (`NUD_PROBE`). A failed neighbour that the configuration needs is asked for until it answers.

use super::pace::{Pace, Report};
use crate::exchange::{Event, Order};
use crate::neighbour::{Link, LinkState, MAX_NEIGHBOURS, NeighbourTable};
use crate::tables::{Route, Tables};
use crate::units::{HopId, PortId, Time};
use crate::wire::{Mac, arp};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// How long an answer is believed without another one (`base_reachable_time_ms` of the kernel's neighbours).
pub const REACHABLE: Duration = Duration::from_secs(30);
/// Between two questions, and how many are asked (`retrans_time_ms`, `mcast_solicit`).
pub const RETRY: Duration = Duration::from_secs(1);
pub const TRIES: u8 = 3;
/// Another host claims a neighbour's address: how often the neighbour itself is asked before everybody is, and between
/// two such questions. A fail-over is followed after their product.
pub const CLAIM_TRIES: u8 = 2;
pub const CLAIM_RETRY: Duration = Duration::from_millis(500);
/// A neighbour that was asked because of a claim is not asked again because of another one in this time (`locktime`).
pub const LOCKTIME: Duration = Duration::from_secs(1);
/// Claims that are looked into, on each port.
pub const CLAIMS_PER_SECOND: u32 = 250;
/// Between two questions about a failed neighbour that the configuration needs; and between two such questions about
/// different ones, so that more than a thousand of them are asked for less often.
pub const PROBE: Duration = Duration::from_secs(5);
pub const PROBE_SPACING: Duration = Duration::from_millis(5);
/// Between two defences of one address of weir's own (DEFEND_INTERVAL of RFC 5227), and how many a port sends.
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
pub const DEFENCES_PER_SECOND: u32 = 100;
/// Hosts on each port's link that are known only because they asked for an address of weir's own.
pub const MAX_STRANGERS: usize = 1024;
/// How long such a host is kept at least while others want its place.
pub const STRANGER: Duration = Duration::from_secs(60);
/// A neighbour that no worker wanted in this time may make room for another (`gc_stale_time`, longer); and when that
/// gives too little room, in this one.
const UNUSED: Duration = Duration::from_secs(300);
const UNUSED_WHEN_CROWDED: Duration = Duration::from_secs(60);
/// Between two searches for neighbours that may go.
const COLLECT: Duration = Duration::from_secs(1);

/// For whom a slot is taken; each may fill the table so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// A host that asked for an address of weir's own.
    Stranger,
    /// A next hop of packets.
    Packets,
    /// A gateway, a real server, a `[[neighbour]]`.
    Configuration,
}

impl Purpose {
    const fn limit(self) -> usize {
        match self {
            Purpose::Stranger => LOW,
            Purpose::Packets => MAX_NEIGHBOURS / 16 * 15,
            Purpose::Configuration => MAX_NEIGHBOURS,
        }
    }
}

/// With more than `HIGH` slots in use the table is crowded: neighbours go until `LOW` are.
const HIGH: usize = MAX_NEIGHBOURS / 8 * 7;
const LOW: usize = MAX_NEIGHBOURS / 4 * 3;

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    /// `[[neighbour]]`: never asked for, never changed.
    is_static: bool,
    /// A gateway: routes hold its slot, so that it keeps it.
    is_pinned: bool,
    /// Questions asked without an answer; 0: none is open.
    tries: u8,
    /// The open question was asked because another host claims the address.
    is_doubted: bool,
    /// Known only because it asked for an address of weir's own: no worker has wanted it.
    is_stranger: bool,
    /// When something is to be done next.
    due: Option<Time>,
    /// When it was last confirmed or wanted.
    touched: Time,
    /// When a worker's wish last made weir ask for it although it had failed.
    asked: Option<Time>,
    /// When a claim last made weir ask it.
    doubted: Option<Time>,
}

impl Neighbour {
    fn new(now: Time) -> Self {
        Neighbour {
            is_static: false,
            is_pinned: false,
            tries: 0,
            is_doubted: false,
            is_stranger: false,
            due: None,
            touched: now,
            asked: None,
            doubted: None,
        }
    }

    /// How many questions go to the MAC address that is known, before the others go to everybody.
    fn own_tries(&self) -> u8 {
        if self.is_doubted { CLAIM_TRIES } else { 1 }
    }

    /// Whether the host at the known MAC address was silent, and everybody has been asked.
    fn is_silent(&self) -> bool {
        self.tries > self.own_tries()
    }

    fn last_try(&self) -> u8 {
        self.own_tries() + TRIES - 1
    }
}

/// What weir's links are like, and what is needed on them.
#[derive(Clone, Copy)]
pub struct Network<'a> {
    pub tables: &'a Tables,
    /// The addresses of real servers.
    pub reals: &'a HashMap<Ipv4Addr, usize>,
}

impl Network<'_> {
    /// Whether a host on a port's link is a real server to which packets go directly.
    fn needs(&self, port: PortId, address: Ipv4Addr) -> bool {
        let direct = Route {
            port,
            gateway: None,
        };
        self.reals.contains_key(&address) && self.tables.routes.get(address) == Some(direct)
    }
}

/// What is counted for each port.
#[derive(Clone, Debug, Default)]
struct PortState {
    strangers: usize,
    claims: Pace,
    defences: Pace,
}

/// What an operator should know of, each at most once a second.
#[derive(Debug, Default)]
struct Reports {
    conflict: Report,
    refuted: Report,
    moved: Report,
}

pub struct Resolver {
    table: Arc<NeighbourTable>,
    /// By slot; none: the slot is free.
    neighbours: Vec<Option<Neighbour>>,
    free: Vec<HopId>,
    /// What is due when, soonest first. Entries that a later change made void are passed over.
    agenda: BinaryHeap<Reverse<(Time, HopId)>>,
    /// By slot, the earliest time at which the agenda has it.
    planned: Vec<Option<Time>>,
    orders: Vec<Order>,
    ports: Vec<PortState>,
    /// The latest time for which a probe is planned.
    last_probe: Time,
    /// When addresses of weir's own were last defended.
    defended: HashMap<(PortId, Ipv4Addr), Time>,
    reports: Reports,
    /// When neighbours that may go were last searched for.
    collected: Time,
    /// The time of the last event or tick.
    clock: Time,
}

impl Resolver {
    pub fn new(table: Arc<NeighbourTable>) -> Self {
        Resolver {
            ports: vec![PortState::default(); table.ports()],
            table,
            neighbours: Vec::new(),
            free: Vec::new(),
            agenda: BinaryHeap::new(),
            planned: Vec::new(),
            orders: Vec::new(),
            last_probe: Time::default(),
            defended: HashMap::new(),
            reports: Reports::default(),
            collected: Time::default(),
            clock: Time::default(),
        }
    }

    pub fn table(&self) -> &Arc<NeighbourTable> {
        &self.table
    }

    /// Every neighbour: slot, address, link, and whether it is configured.
    pub fn iter(&self) -> impl Iterator<Item = (HopId, Ipv4Addr, Link, bool)> {
        self.neighbours
            .iter()
            .enumerate()
            .filter_map(|(n, neighbour)| {
                let hop = HopId(n as u16);
                let is_static = neighbour.as_ref()?.is_static;
                Some((
                    hop,
                    self.table.address(hop),
                    self.table.link(hop),
                    is_static,
                ))
            })
    }

    /// The slot of a gateway, which it keeps. None when the table is full.
    pub fn pin(&mut self, port: PortId, address: Ipv4Addr, now: Time) -> Option<HopId> {
        let hop = self.slot(port, address, Purpose::Configuration, now)?;
        self.is_known_for_more(hop);
        self.neighbours[hop.index()].as_mut()?.is_pinned = true;
        Some(hop)
    }

    /// Lets every gateway go; those still wanted are pinned again.
    pub fn unpin_all(&mut self) {
        for neighbour in self.neighbours.iter_mut().flatten() {
            neighbour.is_pinned = false;
        }
    }

    /// A `[[neighbour]]`.
    pub fn set_static(
        &mut self,
        port: PortId,
        address: Ipv4Addr,
        mac: Mac,
        now: Time,
    ) -> Option<HopId> {
        let hop = self.slot(port, address, Purpose::Configuration, now)?;
        self.is_known_for_more(hop);
        self.begin_anew(hop, true, now);
        self.table.set(
            hop,
            Link {
                mac,
                port,
                state: LinkState::Reachable,
            },
        );
        Some(hop)
    }

    /// A `[[neighbour]]` that is no longer configured: it must be confirmed from now on.
    pub fn unset_static(&mut self, port: PortId, address: Ipv4Addr, now: Time) {
        let Some(hop) = self.table.find(port, address) else {
            return;
        };
        self.begin_anew(hop, false, now);
        self.set_state(hop, LinkState::Stale);
    }

    /// Forgets what was asked about a neighbour, and whether it was static; not that it is a gateway.
    fn begin_anew(&mut self, hop: HopId, is_static: bool, now: Time) {
        if let Some(neighbour) = self.neighbours[hop.index()].as_mut() {
            *neighbour = Neighbour {
                is_static,
                is_pinned: neighbour.is_pinned,
                ..Neighbour::new(now)
            };
        }
    }

    /// The slot of a neighbour, a new one if it has none. None when the table has no room for this purpose.
    fn slot(
        &mut self,
        port: PortId,
        address: Ipv4Addr,
        purpose: Purpose,
        now: Time,
    ) -> Option<HopId> {
        if let Some(hop) = self.table.find(port, address) {
            return Some(hop);
        }
        if self.used() >= purpose.limit() {
            return None;
        }
        let hop = match self.free.pop() {
            Some(hop) => hop,
            None if self.neighbours.len() < MAX_NEIGHBOURS => {
                self.neighbours.push(None);
                HopId((self.neighbours.len() - 1) as u16)
            }
            None => return None,
        };
        self.neighbours[hop.index()] = Some(Neighbour::new(now));
        self.table.insert(
            hop,
            address,
            Link {
                mac: Mac::default(),
                port,
                state: LinkState::Incomplete,
            },
        );
        Some(hop)
    }

    /// How many slots are in use, those included that are retired and not yet released.
    fn used(&self) -> usize {
        self.neighbours.len() - self.free.len()
    }

    fn set_state(&self, hop: HopId, state: LinkState) {
        self.table.set(
            hop,
            Link {
                state,
                ..self.table.link(hop)
            },
        );
    }

    /// A neighbour is no longer known only because it asked for an address of weir's own.
    fn is_known_for_more(&mut self, hop: HopId) {
        let port = self.table.link(hop).port;
        if let Some(neighbour) = self.neighbours[hop.index()].as_mut()
            && neighbour.is_stranger
        {
            neighbour.is_stranger = false;
            self.ports[port.index()].strangers -= 1;
        }
    }

    /// Whether the configuration needs a neighbour: it is asked for until it answers, and keeps its slot.
    fn is_needed(&self, hop: HopId, network: &Network) -> bool {
        self.neighbours[hop.index()].is_some_and(|neighbour| {
            neighbour.is_static
                || neighbour.is_pinned
                || network.needs(self.table.link(hop).port, self.table.address(hop))
        })
    }

    /// Takes in what a worker noticed.
    pub fn event(&mut self, event: Event, network: &Network, now: Time) {
        self.clock = now;
        match event {
            Event::Wanted { port, address } => self.wanted(port, address, network, now),
            Event::Arp { port, repr } => self.heard(port, &repr, network, now),
        }
    }

    fn wanted(&mut self, port: PortId, address: Ipv4Addr, network: &Network, now: Time) {
        let purpose = match network.needs(port, address) {
            true => Purpose::Configuration,
            false => Purpose::Packets,
        };
        let Some(hop) = self.slot(port, address, purpose, now) else {
            return;
        };
        self.is_known_for_more(hop);
        let is_needed = self.is_needed(hop, network);
        let Some(neighbour) = self.neighbours[hop.index()].as_mut() else {
            return;
        };
        neighbour.touched = now;
        if neighbour.is_static || neighbour.tries > 0 {
            return;
        }
        match self.table.link(hop).state {
            LinkState::Reachable => {}
            LinkState::Incomplete | LinkState::Stale => self.ask(hop, network.tables, now),
            // It stays failed until it answers, so that it gets no new connections meanwhile.
            LinkState::Failed if is_needed => {
                let is_recent = |asked| now.since(asked) < RETRY;
                if !neighbour.asked.is_some_and(is_recent) {
                    neighbour.asked = Some(now);
                    self.send(hop, Mac::BROADCAST, network.tables);
                }
            }
            LinkState::Failed => {
                self.set_state(hop, LinkState::Incomplete);
                self.ask(hop, network.tables, now);
            }
        }
    }

    /// Something is to be done about a neighbour at `due`, and nothing before.
    fn set_due(&mut self, hop: HopId, due: Time) {
        let Some(neighbour) = self.neighbours[hop.index()].as_mut() else {
            return;
        };
        neighbour.due = Some(due);
        // What is put off stays on the agenda at its earlier time, once, and is put there again when that has come.
        self.planned.resize(self.neighbours.len(), None);
        let planned = &mut self.planned[hop.index()];
        if planned.is_none_or(|planned| due < planned) {
            *planned = Some(due);
            self.agenda.push(Reverse((due, hop)));
        }
    }

    /// Sends the next question about a neighbour: to itself while its MAC address is known and it has not been silent,
    /// else to everybody.
    fn ask(&mut self, hop: HopId, tables: &Tables, now: Time) {
        let Some(neighbour) = self.neighbours[hop.index()].as_mut() else {
            return;
        };
        let link = self.table.link(hop);
        neighbour.tries += 1;
        let (to, pause) = match (
            link.is_usable() && !neighbour.is_silent(),
            neighbour.is_doubted,
        ) {
            (true, true) => (link.mac, CLAIM_RETRY),
            (true, false) => (link.mac, RETRY),
            (false, _) => (Mac::BROADCAST, RETRY),
        };
        self.set_due(hop, now + pause);
        self.send(hop, to, tables);
    }

    /// Orders one question about a neighbour.
    fn send(&mut self, hop: HopId, to: Mac, tables: &Tables) {
        let (port, target) = (self.table.link(hop).port, self.table.address(hop));
        if let Some(source) = tables.port(port).source_for(target) {
            self.orders.push(Order::Ask {
                port,
                to,
                source,
                target,
            });
        }
    }

    /// An ARP packet: RFC 826, "Packet Reception".
    fn heard(&mut self, port: PortId, repr: &arp::Repr, network: &Network, now: Time) {
        let tables = network.tables;
        let address = repr.sender_ip;
        if tables.addresses.get(&address).is_some() {
            self.defend(port, repr, tables, now);
            return;
        }
        if !tables.port(port).is_host_on_link(address) {
            return;
        }
        let is_answer =
            repr.operation == arp::REPLY && tables.addresses.get(&repr.target_ip).is_some();
        let Some(hop) = self.table.find(port, address) else {
            if repr.operation == arp::REQUEST && tables.answers_for(port, repr.target_ip) {
                self.meet(port, address, repr.sender_mac, network, now);
            }
            return;
        };
        let is_needed = self.is_needed(hop, network);
        let Some(neighbour) = self.neighbours[hop.index()].as_mut() else {
            return;
        };
        if neighbour.is_static {
            return;
        }
        let link = self.table.link(hop);
        let is_same = link.mac == repr.sender_mac;
        match link.state {
            LinkState::Incomplete => self.learn(hop, repr.sender_mac, is_answer, now),
            LinkState::Failed if is_answer || !is_needed => {
                self.learn(hop, repr.sender_mac, is_answer, now);
            }
            // It is back, it seems: its answer tells.
            LinkState::Failed => {
                if self.looks_into_claim(hop, now) {
                    self.send(hop, repr.sender_mac, tables);
                }
            }
            LinkState::Reachable | LinkState::Stale if is_same => {
                if is_answer {
                    if neighbour.is_doubted
                        && let Some(claims) = self.reports.refuted.count(now)
                    {
                        tracing::warn!(%address, mac = %link.mac, claims, "another host claims the address of a neighbour, which still answers");
                    }
                    self.learn(hop, repr.sender_mac, true, now);
                }
            }
            LinkState::Reachable | LinkState::Stale if is_answer && neighbour.is_silent() => {
                if let Some(moves) = self.reports.moved.count(now) {
                    tracing::info!(%address, from = %link.mac, to = %repr.sender_mac, moves, "neighbour has moved");
                }
                self.learn(hop, repr.sender_mac, true, now);
            }
            LinkState::Reachable | LinkState::Stale => self.doubt(hop, tables, now),
        }
    }

    /// A host that weir does not know asked for an address of weir's own. So many are kept, and no more: the others
    /// are asked for when packets go to them.
    fn meet(&mut self, port: PortId, address: Ipv4Addr, mac: Mac, network: &Network, now: Time) {
        let is_needed = network.needs(port, address);
        if !is_needed && self.ports[port.index()].strangers >= MAX_STRANGERS {
            return;
        }
        let purpose = match is_needed {
            true => Purpose::Configuration,
            false => Purpose::Stranger,
        };
        let Some(hop) = self.slot(port, address, purpose, now) else {
            return;
        };
        if !is_needed && let Some(neighbour) = self.neighbours[hop.index()].as_mut() {
            neighbour.is_stranger = true;
            self.ports[port.index()].strangers += 1;
        }
        self.learn(hop, mac, false, now);
    }

    /// A neighbour has this MAC address: by its answer, or by something else that it said.
    fn learn(&mut self, hop: HopId, mac: Mac, is_answer: bool, now: Time) {
        let Some(neighbour) = self.neighbours[hop.index()].as_mut() else {
            return;
        };
        neighbour.tries = 0;
        neighbour.is_doubted = false;
        neighbour.due = None;
        if is_answer {
            neighbour.touched = now;
            self.set_due(hop, now + REACHABLE);
        }
        let state = match is_answer {
            true => LinkState::Reachable,
            false => LinkState::Stale,
        };
        let port = self.table.link(hop).port;
        self.table.set(hop, Link { mac, port, state });
    }

    /// Another host claims a neighbour's address: the neighbour is asked, unless a question is open, which will tell.
    fn doubt(&mut self, hop: HopId, tables: &Tables, now: Time) {
        let is_open = self.neighbours[hop.index()].is_some_and(|neighbour| neighbour.tries > 0);
        if is_open || !self.looks_into_claim(hop, now) {
            return;
        }
        if let Some(neighbour) = self.neighbours[hop.index()].as_mut() {
            neighbour.is_doubted = true;
            self.ask(hop, tables, now);
        }
    }

    /// Whether weir asks because of a claim: seldom enough for the neighbour, and for its port.
    fn looks_into_claim(&mut self, hop: HopId, now: Time) -> bool {
        let port = self.table.link(hop).port;
        let Some(neighbour) = self.neighbours[hop.index()].as_mut() else {
            return false;
        };
        let is_locked = |doubted| now.since(doubted) < LOCKTIME;
        if neighbour.doubted.is_some_and(is_locked)
            || !self.ports[port.index()]
                .claims
                .allow(CLAIMS_PER_SECOND, now)
        {
            return false;
        }
        neighbour.doubted = Some(now);
        true
    }

    /// Another host claims an address of weir's own, which weir never gives up: RFC 5227 section 2.4 (c).
    fn defend(&mut self, port: PortId, repr: &arp::Repr, tables: &Tables, now: Time) {
        let address = repr.sender_ip;
        if let Some(claims) = self.reports.conflict.count(now) {
            let name = &tables.port(port).name;
            tracing::warn!(%address, mac = %repr.sender_mac, port = %name, claims, "another host claims an address of weir's own");
        }
        let place = (port, address);
        let is_recent = |defended: &Time| now.since(*defended) < DEFEND_INTERVAL;
        if !tables.answers_for(port, address)
            || self.defended.get(&place).is_some_and(is_recent)
            || !self.ports[port.index()]
                .defences
                .allow(DEFENCES_PER_SECOND, now)
        {
            return;
        }
        // So that no more are kept than were defended in the interval.
        self.defended.retain(|_, defended| is_recent(defended));
        self.defended.insert(place, now);
        self.orders.push(Order::Announce { port, address });
    }

    /// Has a failed neighbour of this address looked at: the configuration may need it from now on.
    pub fn look_at(&mut self, address: Ipv4Addr) {
        for n in 0..self.ports.len() {
            if let Some(hop) = self.table.find(PortId(n as u8), address) {
                self.look_if_failed(hop);
            }
        }
    }

    /// Has all failed neighbours looked at: the routes have changed.
    pub fn look_at_all(&mut self) {
        for n in 0..self.neighbours.len() {
            self.look_if_failed(HopId(n as u16));
        }
    }

    fn look_if_failed(&mut self, hop: HopId) {
        let is_idle = self.neighbours[hop.index()].is_some_and(|neighbour| neighbour.due.is_none());
        if is_idle && self.table.link(hop).state == LinkState::Failed {
            self.plan_probe(hop, self.clock);
        }
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Time> {
        self.agenda.peek().map(|Reverse((due, _))| *due)
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, network: &Network, now: Time) {
        self.clock = now;
        while let Some(&Reverse((due, hop))) = self.agenda.peek()
            && due <= now
        {
            self.agenda.pop();
            if self.planned[hop.index()] == Some(due) {
                self.planned[hop.index()] = None;
            }
            let Some(neighbour) = self.neighbours[hop.index()].as_mut() else {
                continue;
            };
            match neighbour.due {
                Some(later) if later > due => {
                    self.set_due(hop, later);
                    continue;
                }
                Some(now) if now == due => {}
                _ => continue,
            }
            neighbour.due = None;
            match (self.table.link(hop).state, neighbour.tries) {
                (LinkState::Failed, _) => self.probe(hop, network, now),
                (_, 0) => self.set_state(hop, LinkState::Stale),
                (_, tries) if tries < neighbour.last_try() => self.ask(hop, network.tables, due),
                _ => {
                    neighbour.tries = 0;
                    neighbour.is_doubted = false;
                    self.set_state(hop, LinkState::Failed);
                    if self.is_needed(hop, network) {
                        self.plan_probe(hop, due + PROBE);
                    }
                    tracing::debug!(address = %self.table.address(hop), "neighbour does not answer");
                }
            }
        }
    }

    /// Plans a question about a failed neighbour, not before `from`.
    fn plan_probe(&mut self, hop: HopId, from: Time) {
        self.last_probe = from.max(self.last_probe + PROBE_SPACING);
        self.set_due(hop, self.last_probe);
    }

    /// Asks for a failed neighbour, and goes on so, if the configuration needs it.
    fn probe(&mut self, hop: HopId, network: &Network, now: Time) {
        if self.is_needed(hop, network) {
            self.send(hop, Mac::BROADCAST, network.tables);
            self.plan_probe(hop, now + PROBE);
        }
    }

    /// The questions to send since the last call.
    pub fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// Whether to [retire](Self::retire_unused) neighbours: the table has little room left, or a port none for strangers.
    pub fn is_crowded(&self, now: Time) -> bool {
        let is_full_of_strangers = |port: &PortState| port.strangers >= MAX_STRANGERS;
        self.used() > HIGH && now.since(self.collected) >= COLLECT
            || self.ports.iter().any(is_full_of_strangers) && now.since(self.collected) >= STRANGER
    }

    /// Makes the neighbours of least value unfindable: failed ones first, then strangers, then what was not used for
    /// longest (the kernel's `neigh_forced_gc`); never what the configuration needs, what was wanted or confirmed in the
    /// last minute, or what a question is open about. They must be [released](Self::release) once no worker can remember
    /// them.
    pub fn retire_unused(&mut self, network: &Network, now: Time) -> Vec<HopId> {
        self.collected = now;
        let is_crowded = self.used() > HIGH;
        let mut candidates = Vec::new();
        for (n, slot) in self.neighbours.iter().enumerate() {
            let hop = HopId(n as u16);
            let Some(neighbour) = slot else { continue };
            let age = now.since(neighbour.touched);
            let is_idle = self.table.link(hop).state == LinkState::Stale && neighbour.tries == 0;
            let value = match self.table.link(hop).state {
                LinkState::Failed => 0,
                _ if is_idle && neighbour.is_stranger && (is_crowded || age >= STRANGER) => 1,
                _ if is_idle && is_crowded && age >= UNUSED => 2,
                _ if is_idle && is_crowded && age >= UNUSED_WHEN_CROWDED => 3,
                _ => continue,
            };
            if !self.is_needed(hop, network) {
                candidates.push((value, neighbour.touched, hop));
            }
        }
        candidates.sort_unstable();
        // Failed ones and old strangers are of no value to anybody; the others go as far as room is wanted.
        let excess = self.used().saturating_sub(LOW);
        let is_worthless = |&(value, touched, _): &(i32, Time, HopId)| {
            value == 0 || value == 1 && now.since(touched) >= STRANGER
        };
        let worthless = candidates.iter().filter(|it| is_worthless(it)).count();
        candidates.truncate(worthless.max(excess));
        let retired: Vec<_> = candidates.into_iter().map(|(.., hop)| hop).collect();
        for &hop in &retired {
            self.is_known_for_more(hop);
            self.neighbours[hop.index()] = None;
            self.table.remove(hop);
        }
        retired
    }

    /// Makes retired slots free for other neighbours.
    pub fn release(&mut self, retired: Vec<HopId>) {
        self.free.extend(retired);
    }
}

#[cfg(test)]
mod tests;

//! A network around weir in simulated time: honest clients, real servers that keep the TCP states which matter, and
//! attackers. weir itself is the real dataplane ([`weir::replay::Replay`]); whatever it sends is delivered.
//!
//! Everything follows from the set-up: the same one gives the same report on every machine and in every build. Used by
//! the tests in `pressure.rs` and by `cargo bench --bench pressure`, which prints the figures of `docs/performance.md`.

pub mod attack;
pub mod client;
pub mod packet;
pub mod report;
pub mod server;
pub mod setup;

use attack::Attack;
use client::Client;
use packet::{ARP, Address, LAN, Packet, TCP, WAN, real_mac};
use server::Real;
use setup::Setup;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use weir::replay::Replay;
use weir::units::{PortId, Time};
use weir::wire::arp;

pub const MILLISECOND: u64 = 1_000_000;
pub const SECOND: u64 = 1000 * MILLISECOND;
/// When a world begins.
const START: u64 = 1_700_000_000 * SECOND;
/// From weir to a real server, or back.
const LAN_DELAY: u64 = MILLISECOND / 20;

/// What a client, a real server or an attacker does.
#[derive(Debug, Default)]
pub struct Actions {
    packets: Vec<(Option<u64>, Packet)>,
    timers: Vec<(u64, u64)>,
}

impl Actions {
    pub fn send(&mut self, packet: Packet) {
        self.packets.push((None, packet));
    }

    pub fn send_at(&mut self, at: u64, packet: Packet) {
        self.packets.push((Some(at), packet));
    }

    /// Wants to be woken then; `token` says what for.
    pub fn wake(&mut self, at: u64, token: u64) {
        self.timers.push((at, token));
    }
}

#[derive(Clone, Debug)]
enum Event {
    /// A packet comes to a port of weir.
    Arrives(PortId, Packet),
    ToClient(usize, Packet),
    ToReal(usize, Packet),
    ClientStarts(usize),
    ClientWakes(usize, u64),
    RealWakes(usize, u64),
    Attacks(usize),
}

/// An event and its time; those of one time happen in the order in which they were planned.
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

/// Numbers that look random, the same in every run (xorshift64*).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn word(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }
}

pub struct World {
    pub replay: Replay,
    /// Nanoseconds since it began.
    now: u64,
    queue: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    pub clients: Vec<Client>,
    by_address: HashMap<(Address, u8), usize>,
    pub reals: Vec<Real>,
    attacks: Vec<Attack>,
    random: Random,
}

impl World {
    pub fn new(setup: &Setup, workers: usize) -> Self {
        let config = setup.config();
        let start = Time::from_nanos(START);
        let packets = config.limits.connections;
        World {
            replay: Replay::new(&config, workers, packets, start).unwrap(),
            now: 0,
            queue: BinaryHeap::new(),
            planned: 0,
            clients: Vec::new(),
            by_address: HashMap::new(),
            reals: (0..setup.reals)
                .map(|n| Real::new(n, setup.behaviour))
                .collect(),
            attacks: Vec::new(),
            random: Random(0x7765_6972),
        }
    }

    /// A client that starts at `at`; says its number.
    pub fn add_client(&mut self, at: u64, client: Client) -> usize {
        let n = self.clients.len();
        self.by_address.insert((client.address, client.protocol), n);
        self.clients.push(client);
        self.plan(at, Event::ClientStarts(n));
        n
    }

    pub fn add_attack(&mut self, attack: Attack) {
        let n = self.attacks.len();
        if let Some(due) = attack.due() {
            self.plan(due, Event::Attacks(n));
        }
        self.attacks.push(attack);
    }

    fn plan(&mut self, at: u64, event: Event) {
        self.planned += 1;
        self.queue.push(Reverse(Planned {
            at,
            order: self.planned,
            event,
        }));
    }

    /// Lets everything happen that is due until then.
    pub fn run_until(&mut self, until: u64) {
        while let Some(Reverse(next)) = self.queue.peek()
            && next.at <= until
        {
            let Some(Reverse(planned)) = self.queue.pop() else {
                break;
            };
            self.now = planned.at;
            self.happen(planned.event);
        }
        self.now = until;
        assert_eq!(self.replay.check(), Ok(()));
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        let mut actions = Actions::default();
        match event {
            Event::Arrives(port, packet) => self.receive(port, &packet.frame(port)),
            Event::ToClient(n, packet) => {
                self.clients[n].receive(&packet, now, &mut actions);
                self.client_acts(n, actions);
            }
            Event::ClientStarts(n) => {
                self.clients[n].start(now, &mut actions);
                self.client_acts(n, actions);
            }
            Event::ClientWakes(n, token) => {
                self.clients[n].wake(token, now, &mut actions);
                self.client_acts(n, actions);
            }
            Event::ToReal(n, packet) => {
                self.reals[n].receive(&packet, now, &mut actions);
                self.real_acts(n, actions);
            }
            Event::RealWakes(n, token) => {
                self.reals[n].wake(token, &mut actions);
                self.real_acts(n, actions);
            }
            Event::Attacks(n) => {
                self.attacks[n].attempt(now, &mut self.random, &mut actions);
                if let Some(due) = self.attacks[n].due() {
                    self.plan(due, Event::Attacks(n));
                }
                let port = self.attacks[n].port();
                for (at, packet) in actions.packets {
                    match at {
                        None => self.receive(port, &packet.frame(port)),
                        Some(at) => self.plan(at, Event::Arrives(port, packet)),
                    }
                }
            }
        }
    }

    fn client_acts(&mut self, n: usize, actions: Actions) {
        let way = self.clients[n].round_trip / 2;
        for (at, packet) in actions.packets {
            let at = at.unwrap_or(self.now) + way;
            self.plan(at, Event::Arrives(WAN, packet));
        }
        for (at, token) in actions.timers {
            self.plan(at, Event::ClientWakes(n, token));
        }
    }

    fn real_acts(&mut self, n: usize, actions: Actions) {
        for (_, packet) in actions.packets {
            match setup::is_vip(packet.source.0) {
                // As a dr real server answers: by a way of its own.
                true => self.deliver(packet, LAN_DELAY),
                false => self.plan(self.now + LAN_DELAY, Event::Arrives(LAN, packet)),
            }
        }
        for (at, token) in actions.timers {
            self.plan(at, Event::RealWakes(n, token));
        }
    }

    /// A packet is on its way to the client that it is for, if there is one.
    fn deliver(&mut self, packet: Packet, delay: u64) {
        let to = (packet.destination, packet.protocol);
        if let Some(&n) = self.by_address.get(&to) {
            let at = self.now + delay + self.clients[n].round_trip / 2;
            self.plan(at, Event::ToClient(n, packet));
        }
    }

    /// weir receives a frame; what it sends is on its way then.
    fn receive(&mut self, port: PortId, frame: &[u8]) {
        let time = Time::from_nanos(START + self.now);
        self.replay.receive(port, frame, time);
        let frames: Vec<_> = self.replay.take_frames().collect();
        for frame in frames {
            let bytes = frame.bytes();
            let Some(packet) = Packet::parse(bytes) else {
                continue;
            };
            let real = (0..self.reals.len()).find(|n| match packet.protocol {
                ARP => packet.destination.0 == setup::real_address(*n),
                _ => bytes[..6] == real_mac(*n).0,
            });
            let at = self.now + LAN_DELAY;
            match (frame.port, real) {
                (LAN, Some(n)) if packet.protocol != ARP => {
                    self.plan(at, Event::ToReal(n, packet));
                }
                (LAN, Some(_)) if packet.flags == arp::REQUEST as u8 => {
                    self.plan(at, Event::Arrives(LAN, packet.arp_answer()));
                }
                (LAN, _) => {}
                // What a client takes for an answer has to come from a VIP.
                _ if packet.protocol == TCP && !setup::is_vip(packet.source.0) => {}
                _ => self.deliver(packet, 0),
            }
        }
    }

    /// Of all real servers together.
    pub fn seen(&self) -> server::Seen {
        let mut all = server::Seen::default();
        for Real { seen, .. } in &self.reals {
            all.confused += seen.confused;
            all.syn_in_established += seen.syn_in_established;
            all.time_wait_reused += seen.time_wait_reused;
            all.time_wait_refused += seen.time_wait_refused;
            all.time_wait_reset += seen.time_wait_reset;
            all.accepted += seen.accepted;
        }
        all
    }
}

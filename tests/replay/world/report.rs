//! A scenario: something is held full, and honest clients come. The report says what became of them.

use super::attack::{Attack, Kind};
use super::client::{Client, Outcome, Wants};
use super::packet::{ARP, Address, ICMP, TCP, UDP};
use super::server::Seen;
use super::setup::{CLOSED, LAN_ADDRESS, Setup, WAN_ADDRESS, vip};
use super::{LAN_DELAY, MILLISECOND, Random, SECOND, World};
use std::net::Ipv4Addr;

#[derive(Clone, Debug)]
pub struct Scenario {
    pub setup: Setup,
    /// What comes, to which service, and how often a second.
    pub attacks: Vec<(Kind, usize, u64)>,
    /// Connections that are made in earnest and then stay silent: to which service, and how many a second.
    pub idle: Option<(usize, u64)>,
    /// The service of the clients that are looked at, and what they ask it.
    pub service: usize,
    pub asks: Asks,
    /// How many clients come one after another, and within which time (nanoseconds).
    pub clients: usize,
    pub within: u64,
    /// Connections from before the attack, with a question every second.
    pub known: usize,
    /// The attack lasts so long before the first client comes, and goes on until the end.
    pub fill: u64,
    /// From a client to weir and back.
    pub round_trip: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// A connection, or a datagram.
    Service,
    /// An echo of its VIP.
    Echo,
    /// A connection to a port of its VIP that has no service, to be refused.
    Closed,
    /// By ARP for weir's address on the WAN.
    Arp,
}

/// When the attack begins: the known connections are made by then.
pub const ATTACK: u64 = 2 * SECOND;

impl Scenario {
    pub fn new(setup: Setup) -> Self {
        Scenario {
            setup,
            attacks: Vec::new(),
            idle: None,
            service: 0,
            asks: Asks::Service,
            clients: 100,
            within: SECOND,
            known: 20,
            fill: SECOND,
            round_trip: 200 * MILLISECOND,
        }
    }

    pub fn attack(mut self, kind: Kind, service: usize, rate: u64) -> Self {
        self.attacks.push((kind, service, rate));
        self
    }

    pub fn run(&self, workers: usize) -> Report {
        let mut world = World::new(&self.setup, workers);
        let first = ATTACK + self.fill;
        // Long enough for a second repetition, or for a third of what began early.
        let end = first + self.within + 5 * SECOND;
        let protocol = match self.setup.services[self.service].protocol {
            "udp" => UDP,
            _ => TCP,
        };
        let to = vip(self.service);
        let new = |n: usize| Client::new(n, client_address(n), to, protocol, self.round_trip);
        let good = |n: usize| match self.asks {
            Asks::Service => new(n),
            Asks::Echo => Client::new(n, client_address(n), to, ICMP, self.round_trip),
            Asks::Closed => {
                let mut client = new(n);
                (client.to.1, client.wants) = (CLOSED, Wants::Refusal);
                client
            }
            Asks::Arp => {
                // A router of the WAN's own subnet.
                let address = (Ipv4Addr::new(198, 51, 100, 2 + (n % 250) as u8), 0);
                Client::new(n, address, (WAN_ADDRESS, 0), ARP, LAN_DELAY)
            }
        };
        for n in 0..self.known {
            let mut client = new(n);
            client.wants = Wants::Kept { every: SECOND };
            world.add_client(n as u64 * SECOND / self.known as u64, client);
        }
        for n in 0..self.clients {
            let turn = self.within / self.clients as u64;
            let jitter = u64::from(Random(n as u64 + 1).word()) % turn;
            let at = first + n as u64 * turn + jitter;
            world.add_client(at, good(self.known + n));
        }
        if let Some((service, rate)) = self.idle {
            let many = rate * (end - ATTACK) / SECOND;
            for n in 0..many {
                let number = self.known + self.clients + n as usize;
                let address = client_address(number);
                let mut client = Client::new(number, address, vip(service), TCP, MILLISECOND);
                client.wants = Wants::Idle;
                world.add_client(ATTACK + n * SECOND / rate, client);
            }
        }
        for (kind, service, rate) in &self.attacks {
            let to = match kind {
                Kind::Arp => (LAN_ADDRESS, 0),
                _ => vip(*service),
            };
            world.add_attack(Attack::new(kind.clone(), to, *rate, ATTACK, end));
        }
        world.run_until(end);
        self.report(&world, end)
    }

    fn report(&self, world: &World, end: u64) -> Report {
        let (known, rest) = world.clients.split_at(self.known);
        let good = &rest[..self.clients];
        let undisturbed = match self.asks {
            Asks::Arp => LAN_DELAY,
            Asks::Echo | Asks::Closed => self.round_trip,
            Asks::Service
                if known
                    .iter()
                    .chain(good)
                    .any(|client| client.protocol == UDP) =>
            {
                self.round_trip + 2 * LAN_DELAY
            }
            Asks::Service => 2 * self.round_trip + 4 * LAN_DELAY,
        };
        let served = |client: &&Client| client.latency.is_some() && client.repeats <= 1;
        let mut added: Vec<u64> = good
            .iter()
            .filter_map(|client| client.latency)
            .map(|latency| latency.saturating_sub(undisturbed) / MILLISECOND)
            .collect();
        added.sort_unstable();
        let part = |n: usize| {
            added
                .get(added.len() * n / 100)
                .copied()
                .unwrap_or(u64::MAX)
        };
        let is_lost = |client: &&Client| client.moved || !matches!(client.outcome, Outcome::Served);
        let stats = world.replay.stats();
        Report {
            clients: good.len(),
            served: good.iter().filter(served).count(),
            served_at_once: good
                .iter()
                .filter(served)
                .filter(|client| client.repeats == 0)
                .count(),
            added_median_ms: part(50),
            added_99_ms: part(99),
            known: known.len(),
            known_lost: known.iter().filter(is_lost).count(),
            // What was asked in the last moment has no answer yet.
            known_asked: known.iter().map(|client| client.asked).sum::<u64>()
                - known
                    .iter()
                    .filter(|client| client.is_waiting_since(end.saturating_sub(SECOND)))
                    .count() as u64,
            known_answered: known.iter().map(|client| client.answered).sum(),
            idle_refused: rest[self.clients..]
                .iter()
                .filter(|client| client.latency.is_none())
                .count(),
            seen: world.seen(),
            evicted: stats.total(|worker| worker.evicted.get()),
            connections: stats.total(|worker| worker.connections.get()),
        }
    }
}

/// What became of a scenario's clients.
#[derive(Clone, Debug)]
pub struct Report {
    pub clients: usize,
    /// Of them, with no more than one repetition of the first packet.
    pub served: usize,
    /// Of them, with none.
    pub served_at_once: usize,
    /// What the answer took longer than without any pressure, in milliseconds.
    pub added_median_ms: u64,
    pub added_99_ms: u64,
    pub known: usize,
    /// Known connections that were reset, fell silent, or were continued by another real server.
    pub known_lost: usize,
    pub known_asked: u64,
    pub known_answered: u64,
    /// Of the connections that stay silent, those that were never served.
    pub idle_refused: usize,
    pub seen: Seen,
    /// Connections that were given up for others.
    pub evicted: u64,
    pub connections: u64,
}

impl Report {
    /// Percent of the clients that were served with no more than one repetition.
    pub fn success(&self) -> f64 {
        100.0 * self.served as f64 / self.clients as f64
    }

    /// What point 7 of the requirements asks.
    pub fn assert_good(&self, what: &str) {
        assert!(self.success() >= 99.0, "{what}: {self:?}");
        assert_eq!(self.known_lost, 0, "{what}: {self:?}");
        assert!(
            self.known_answered * 100 >= self.known_asked * 95,
            "{what}: {self:?}"
        );
        assert_eq!(self.seen.confused, 0, "{what}: {self:?}");
    }
}

/// Client number `n`'s own address, and a port that looks as chosen at random.
pub fn client_address(n: usize) -> Address {
    let address = Ipv4Addr::from_bits(0x3c00_0000 | (n as u32).wrapping_mul(2_654_435_761) >> 8);
    let port = Random(n as u64 + 1).word();
    (address, 1024 + (port % 60_000) as u16)
}

//! What came of a simulation.

use super::client::Ended;
use super::plan::Kind;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What explains that a connection broke: without a cluster, each does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Excuse {
    /// Its packets came to another node than the one that has it.
    Moved,
    /// The node that had it has died, and come back without it.
    NodeDied,
    /// Its real server was taken out of the configuration.
    RealRemoved,
    /// There was no node.
    NoNode,
    /// Links have lost what it was waiting for.
    Lost,
}

impl Excuse {
    /// For people.
    pub const fn words(self) -> &'static str {
        match self {
            Excuse::Moved => "came to another node",
            Excuse::NodeDied => "the node died",
            Excuse::RealRemoved => "the real server was removed",
            Excuse::NoNode => "there was no node",
            Excuse::Lost => "links lost its packets",
        }
    }
}

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "violation", rename_all = "snake_case")]
pub enum Violation {
    #[error("connection {connection} was answered by {first} and by {second}")]
    TwoRealServers {
        connection: u32,
        first: IpAddr,
        second: IpAddr,
    },
    #[error(
        "{real} got a SYN of another connection between the ends of connection {connection}, which lives"
    )]
    OpenedTwice { real: IpAddr, connection: u32 },
    #[error("{real} got data of connection {second} in connection {first}, which lives")]
    Mixed {
        real: IpAddr,
        first: u32,
        second: u32,
    },
    #[error("node {node}: {packets} received packets are unaccounted for")]
    Unaccounted { node: usize, packets: i64 },
    #[error("connection {connection} of {service} broke ({ended:?}), and no fault explains it")]
    Unexplained {
        connection: u32,
        service: String,
        ended: Ended,
    },
}

/// Of the faults of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    pub faults: u64,
    /// Connections that lived then and were touched by it: they came to another node, or lost theirs or their real server.
    pub touched: u64,
    /// Those of them that broke.
    pub broken: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Connections that were begun, and those of them that were answered at least once.
    pub begun: u64,
    pub opened: u64,
    /// As their clients wanted.
    pub closed: u64,
    pub broken: BTreeMap<Excuse, u64>,
    pub by_fault: BTreeMap<Kind, Share>,
    /// Packets that nodes have received.
    pub packets: u64,
    /// Those of them that were dropped, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// Steps of the simulation.
    pub events: u64,
    /// The longest time without progress of each connection that did not break, in milliseconds, in order.
    #[serde(skip)]
    pub stalls: Vec<u64>,
    /// When the first one was found, in milliseconds since the beginning.
    pub violated_at: Option<u64>,
    pub violations: Vec<Violation>,
}

impl Report {
    pub fn broken(&self) -> u64 {
        self.broken.values().sum()
    }

    /// The stall that so many of a hundred connections do not exceed.
    pub fn stall(&self, percent: usize) -> u64 {
        let place = self.stalls.len() * percent / 100;
        let place = place.min(self.stalls.len().saturating_sub(1));
        self.stalls.get(place).copied().unwrap_or(0)
    }

    /// Takes in the report of another simulation.
    pub fn add(&mut self, other: Report) {
        self.begun += other.begun;
        self.opened += other.opened;
        self.closed += other.closed;
        self.packets += other.packets;
        self.events += other.events;
        for (excuse, count) in other.broken {
            *self.broken.entry(excuse).or_default() += count;
        }
        for (kind, share) in other.by_fault {
            let sum = self.by_fault.entry(kind).or_default();
            sum.faults += share.faults;
            sum.touched += share.touched;
            sum.broken += share.broken;
        }
        for (reason, count) in other.drops {
            *self.drops.entry(reason).or_default() += count;
        }
        self.stalls.extend(other.stalls);
        self.stalls.sort_unstable();
        self.violations.extend(other.violations);
        self.violated_at = self.violated_at.or(other.violated_at);
    }
}

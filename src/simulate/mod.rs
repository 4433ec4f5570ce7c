//! Several directors behind one router, with clients, real servers and faults, in one thread on a clock of its own.
//!
//! Each director is the real dataplane ([`Replay`](crate::replay::Replay)) with a configuration that operators wrote. Everything
//! follows from the configuration and the [`Plan`]: the same ones give the same report on every machine. What must always hold is
//! checked after each step; what may break, and what of that a fault explains, is counted.

mod client;
mod faults;
mod node;
mod packet;
mod plan;
mod report;
mod router;
mod server;
mod ways;
mod world;

pub use client::Ended;
pub use plan::{Fault, Kind, Network, Plan, What, faults, shrink};
pub use report::{Excuse, Report, Share, Violation};
pub use router::Ecmp;

use crate::arch::NoMemory;
use crate::config::Config;
use crate::model::NeedsRestart;
use crate::record::Unkept;
use packet::Packet;
use std::net::IpAddr;
use std::path::PathBuf;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLISECOND;

/// What is simulated, but for what happens.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Of every node, but for the addresses of local pools, which are dealt out to the nodes in turn.
    pub config: Config,
    /// Where the nodes keep their connections, if the configuration has them kept.
    pub keep_in: PathBuf,
}

/// Why there is nothing to simulate.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error("the memory of the tables: {0}")]
    Memory(#[from] NoMemory),
    #[error("{0}")]
    Keep(#[from] Unkept),
    #[error("a change of a real server: {0}")]
    Change(#[from] NeedsRestart),
    #[error("no service of TCP or UDP that could be simulated")]
    NoService,
    #[error(
        "no route leads to clients such as {0}: write a [[route]] for them, to = \"0.0.0.0/0\" or \"::/0\""
    )]
    NoRoute(IpAddr),
    #[error(
        "{0} is an address of 198.18.0.0/15 or 2001:2::/48, which the simulated clients have: write another one to simulate"
    )]
    Taken(IpAddr),
    #[error(
        "the local pool {pool:?} has {has} addresses for {nodes} nodes: each needs one of its own, since two of them would give \
         the same ports to different clients"
    )]
    FewAddresses {
        pool: String,
        has: usize,
        nodes: usize,
    },
    #[error("fault {number}: there is no {what}")]
    Unknown { number: usize, what: String },
}

/// Runs a simulation to its end, or to the first violation.
///
/// # Errors
/// If the configuration cannot be simulated so, or a fault names what is not there.
pub fn run(setup: &Setup, plan: &Plan) -> Result<Report, Failed> {
    world::World::new(setup, plan)?.run()
}

/// What a client does: packets, and timers of its own.
#[derive(Debug, Default)]
struct Actions {
    packets: Vec<Packet>,
    /// When, and what for.
    timers: Vec<(u64, u64)>,
}

impl Actions {
    fn send(&mut self, packet: Packet) {
        self.packets.push(packet);
    }

    fn wake(&mut self, at: u64, token: u64) {
        self.timers.push((at, token));
    }
}

/// Numbers that look random, the same in every run (splitmix64).
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x7765_6972)
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Less than `end`, which is not 0.
    fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    /// Whether something happens whose probability is that.
    fn happens(&mut self, probability: f64) -> bool {
        const BITS: u32 = 53;
        ((self.word() >> (64 - BITS)) as f64) < probability * (1u64 << BITS) as f64
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        match all.len() {
            0 => None,
            len => all.get(self.below(len as u64) as usize),
        }
    }
}

#[cfg(test)]
mod tests;

//! What happens in a simulation: faults at their times, made from a seed or read from a file.

use super::{Ecmp, Random};
use crate::config::Config;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// A simulation that can be repeated: what of it is not in the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub nodes: usize,
    /// Of each node.
    pub workers: usize,
    pub ecmp: Ecmp,
    /// How long it takes until the router leaves out a node that is dead or silent: the time of BFD, in milliseconds.
    pub detection: u64,
    /// Of everything that chance decides.
    pub seed: u64,
    /// How many connections there are at a time.
    pub connections: u32,
    pub seconds: u32,
    pub network: Network,
    /// In the order of their times.
    pub faults: Vec<Fault>,
}

/// What links do to packets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The part of the packets that gets lost on each link, 0 to 1.
    pub loss: f64,
    /// The part that comes twice.
    pub duplication: f64,
    /// The part that is overtaken by later ones.
    pub reordering: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// Milliseconds since the beginning.
    pub at: u64,
    #[serde(flatten)]
    pub what: What,
}

/// The times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "lowercase")]
pub enum What {
    /// A node dies, and comes back with what it has kept: nothing, without `connections_file`.
    Kill { node: usize, away: u64 },
    /// A node is stopped for a while, and goes on as it was.
    Silence { node: usize, away: u64 },
    /// The router is told to leave a node out; the node goes on with what still comes to it.
    Drain { node: usize, away: u64 },
    /// A real server is taken out of the configuration of all nodes, one after the other, and put in again.
    Remove {
        service: String,
        real: SocketAddr,
        away: u64,
    },
    /// A real server gets another weight, likewise.
    Weight {
        service: String,
        real: SocketAddr,
        weight: u16,
    },
}

/// The kinds of faults.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    clap::ValueEnum,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A node dies, and comes back
    Kill,
    /// A node is stopped for a while
    Silence,
    /// The router leaves a node out for a while
    Drain,
    /// A real server is removed, and comes back
    Remove,
    /// A real server gets another weight
    Weight,
}

impl What {
    /// How long something is away, in milliseconds.
    pub fn away(&self) -> u64 {
        match *self {
            What::Kill { away, .. }
            | What::Silence { away, .. }
            | What::Drain { away, .. }
            | What::Remove { away, .. } => away,
            What::Weight { .. } => 0,
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            What::Kill { .. } => Kind::Kill,
            What::Silence { .. } => Kind::Silence,
            What::Drain { .. } => Kind::Drain,
            What::Remove { .. } => Kind::Remove,
            What::Weight { .. } => Kind::Weight,
        }
    }
}

/// The shortest and the longest time that something is away, in milliseconds.
const AWAY: (u64, u64) = (50, 10_000);

/// Faults of these kinds, `count` of them within so many seconds, as the seed has it.
pub fn faults(
    seed: u64,
    kinds: &[Kind],
    count: u32,
    seconds: u32,
    (nodes, config): (usize, &Config),
) -> Vec<Fault> {
    let mut random = Random::new(seed ^ 0xfa17);
    let span = u64::from(seconds) * 1000;
    let mut times: Vec<_> = (0..count).map(|_| random.below(span.max(1))).collect();
    times.sort_unstable();
    let fault = |at| {
        let kind = *random.of(kinds)?;
        Some(Fault {
            at,
            what: what(kind, &mut random, nodes, config)?,
        })
    };
    times.into_iter().filter_map(fault).collect()
}

/// None: there is nothing that could happen to.
fn what(kind: Kind, random: &mut Random, nodes: usize, config: &Config) -> Option<What> {
    let node = random.below(nodes as u64) as usize;
    let away = AWAY.0 + random.below(AWAY.1 - AWAY.0);
    Some(match kind {
        Kind::Kill => What::Kill { node, away },
        Kind::Silence => What::Silence { node, away },
        Kind::Drain => What::Drain { node, away },
        Kind::Remove | Kind::Weight => {
            // The only real server of a service stays.
            let several = config.services.iter().filter(|it| it.reals.len() > 1);
            let several: Vec<_> = several.collect();
            let service = random.of(&several)?;
            let real = random.of(&service.reals)?;
            let (service, real) = (
                service.name.clone(),
                SocketAddr::new(real.address, real.port),
            );
            match kind {
                Kind::Remove => What::Remove {
                    service,
                    real,
                    away,
                },
                _ => What::Weight {
                    service,
                    real,
                    weight: 1 + random.below(9) as u16,
                },
            }
        }
    })
}

/// Fewer faults, connections and seconds with which `fails` still holds; `plan` itself if there are none. Asks it at most
/// `attempts` times.
pub fn shrink(plan: &Plan, mut attempts: u32, mut fails: impl FnMut(&Plan) -> bool) -> Plan {
    let mut least = plan.clone();
    let mut still_fails = |plan: &Plan| {
        attempts = attempts.saturating_sub(1);
        attempts > 0 && fails(plan)
    };
    // Halves of the faults first, then smaller parts, down to single ones.
    let mut part = least.faults.len().div_ceil(2);
    while part > 0 {
        let mut from = 0;
        while from < least.faults.len() {
            let mut fewer = least.clone();
            let to = (from + part).min(fewer.faults.len());
            fewer.faults.drain(from..to);
            match still_fails(&fewer) {
                true => least = fewer,
                false => from = to,
            }
        }
        part = match part {
            1 => 0,
            part => part.div_ceil(2),
        };
    }
    for halve in [
        (|plan: &mut Plan| plan.connections /= 2) as fn(&mut Plan),
        |plan| plan.seconds /= 2,
    ] {
        loop {
            let mut smaller = least.clone();
            halve(&mut smaller);
            if smaller.connections == 0 || smaller.seconds == 0 || !still_fails(&smaller) {
                break;
            }
            least = smaller;
        }
    }
    least
}

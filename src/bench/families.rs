//! What IPv6 costs beside IPv4, and what a family change costs: the same flows in each, in turns.
//!
//! Machines drift, and other programs use their caches: what takes turns meets the same of it, and a median of many short turns
//! leaves out the worst of it. So these figures may be held against each other, but not against those of other cases.

use super::cases::Figure;
use super::gap::median;
use super::setup::{Setup, warm_up};
use super::{Bench, Traffic};
use crate::packet::BURST;
use std::time::Duration;

const TURNS: usize = 15;

/// The families of clients and real servers, and what that is called.
const WAYS: [(bool, bool, &str); 4] = [
    (false, false, "over IPv4"),
    (true, false, "over IPv6"),
    (true, true, "from IPv6 to IPv4"),
    (false, true, "from IPv4 to IPv6"),
];

pub(super) fn run(quick: bool, report: &mut dyn FnMut(Figure)) {
    let (turns, least) = if quick { (3, 5_000) } else { (TURNS, 20_000) };
    for mode in ["dr", "nat", "fullnat"] {
        for flows in [1_000, 100_000, 1_000_000] {
            let ways = WAYS
                .iter()
                .filter(|(_, crosses, _)| !crosses || mode == "fullnat");
            let mut arms: Vec<_> = ways
                .map(|&(is_six, crosses, name)| {
                    let setup = Setup {
                        is_six,
                        crosses,
                        ..Setup::new(mode, "udp")
                    };
                    let mut bench = Bench::new(&setup.config(), flows * 2);
                    let mut traffic = Traffic::new((0..flows).map(|n| setup.flow(n, 1)), None, 64);
                    warm_up(&mut bench, &mut traffic, flows);
                    (name, bench, traffic, Vec::new(), 1.0f64)
                })
                .collect();
            // Every flow once at least.
            let bursts = flows.div_ceil(BURST).max(least);
            for _ in 0..turns {
                for (_, bench, traffic, nanos, forwarded) in &mut arms {
                    let cost = bench.run(traffic, bursts, Duration::ZERO);
                    nanos.push(cost.nanos);
                    *forwarded = forwarded.min(cost.forwarded);
                }
            }
            for (name, .., nanos, forwarded) in arms {
                let forwarded = forwarded * 100.0;
                report(Figure {
                    case: "ipv6",
                    what: format!("{mode} udp, {flows} flows, {name}, {forwarded:.0} % forwarded"),
                    nanos: median(nanos),
                    per: "packet",
                });
            }
        }
    }
}

//! What grows, and whether packets pay for it: services, routes, neighbours, connections, frames; and what the machine's
//! memory costs by itself.

use super::cases::{Figure, bursts, config, flow, parse, warm_up};
use super::traffic::Flow;
use super::{Bench, Traffic, cpu_time};
use crate::arch::{HugeSlice, prefetch};
use crate::config::Config;
use crate::conn::{Connection, Table};
use crate::packet::BURST;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

type Report<'a> = &'a mut dyn FnMut(Figure);

/// The cost of known connections, one for each flow.
fn known(config: &Config, flows: Vec<Flow>, length: usize, quick: bool) -> super::Cost {
    let count = flows.len();
    let mut bench = Bench::new(config, count * 2);
    let mut traffic = Traffic::new(flows, None, length);
    warm_up(&mut bench, &mut traffic, count);
    bench.run(&mut traffic, bursts(count, quick), Duration::ZERO)
}

pub(super) fn sizes(quick: bool, report: Report) {
    for mode in ["dr", "fullnat"] {
        for length in [64, 570, 1500] {
            let flows = (0..1_000).map(|n| flow(n, 1)).collect();
            let cost = known(&config(mode, "udp", 0), flows, length, quick);
            let forwarded = cost.forwarded * 100.0;
            report(Figure {
                case: "sizes",
                what: format!("{mode} udp, {length} bytes, {forwarded:.0} % forwarded"),
                nanos: cost.nanos,
                per: "packet",
            });
        }
    }
}

pub(super) fn services(quick: bool, report: Report) {
    for services in [1, 5_000, 100_000] {
        if quick && services > 5_000 {
            continue;
        }
        let config = config("fullnat", "udp", services - 1);
        if services > 1 {
            spread(&config, services, 1, "one asked", quick, report);
        }
        spread(&config, services, services, "all asked", quick, report);
    }
}

fn spread(config: &Config, services: usize, asked: usize, how: &str, quick: bool, report: Report) {
    let flows = 100_000;
    let cost = known(
        config,
        (0..flows).map(|n| flow(n, asked)).collect(),
        64,
        quick,
    );
    let mut tell = |what: &str, cost: super::Cost, per| {
        let forwarded = cost.forwarded * 100.0;
        report(Figure {
            case: "services",
            what: format!("{what}, {services} services, {how}, {forwarded:.0} % forwarded"),
            nanos: cost.nanos,
            per,
        });
    };
    tell("known", cost, "packet");

    let flows = 2_000_000;
    let step = Duration::from_nanos(BURST as u64 * 3_000_000_000 / flows as u64);
    let mut bench = Bench::new(config, flows);
    let mut traffic = Traffic::new((0..flows).map(|n| flow(n, asked)), None, 64);
    bench.run(&mut traffic, flows / BURST, step);
    let cost = bench.run(&mut traffic, flows / BURST, step);
    tell("new", cost, "connection");
}

/// Known connections with so many real servers, each a neighbour, and as many routes.
pub(super) fn routes(quick: bool, report: Report) {
    for mode in ["dr", "fullnat"] {
        for (count, used, how) in [
            (1, 1, "one used"),
            (10_000, 1, "one used"),
            (10_000, 10_000, "all used"),
        ] {
            let text = network(mode, count, used);
            let flows = (0..100_000).map(|n| flow(n, 1)).collect();
            let cost = known(&parse(&text), flows, 64, quick);
            let forwarded = cost.forwarded * 100.0;
            report(Figure {
                case: "routes",
                what: format!(
                    "{mode} udp, {count} routes and neighbours, {how}, {forwarded:.0} % forwarded"
                ),
                nanos: cost.nanos,
                per: "packet",
            });
        }
    }
}

/// `count` neighbours and as many routes, one by each; a service whose real servers are the first `used` neighbours.
fn network(mode: &str, count: usize, used: usize) -> String {
    let neighbour = |n: usize| Ipv4Addr::from_bits(0x0a00_0010 + n as u32);
    let mut text = String::from(
        "[[port]]\nname = \"wan\"\ndevice = \"none\"\naddresses = [\"198.51.100.1/24\"]\n\
         [[port]]\nname = \"lan\"\ndevice = \"none\"\naddresses = [\"10.0.0.1/16\"]\n\
         [[local_pool]]\nname = \"inside\"\naddresses = [\"10.0.200.0-10.0.200.63\"]\nports = \"1024-65535\"\n",
    );
    for n in 0..count {
        let (address, [_, _, high, low]) = (neighbour(n), (n as u32).to_be_bytes());
        let _ = write!(
            text,
            "[[neighbour]]\naddress = \"{address}\"\nmac = \"02:00:00:01:{high:02x}:{low:02x}\"\n\
             [[route]]\nto = \"100.{high}.{low}.0/24\"\nvia = \"{address}\"\n"
        );
    }
    let pool = match mode {
        "fullnat" => "local_pool = \"inside\"\n",
        _ => "",
    };
    let vip = Ipv4Addr::from_bits(super::cases::VIP);
    let _ = write!(
        text,
        "[[service]]\naddress = \"{vip}\"\nport = 53\nprotocol = \"udp\"\nmode = \"{mode}\"\n{pool}scheduler = \"rr\"\n"
    );
    for n in 0..used {
        let _ = write!(text, "[[service.real]]\naddress = \"{}\"\n", neighbour(n));
    }
    text
}

pub(super) fn large(quick: bool, report: Report) {
    let used = 1_000_000;
    for alive in [1_000_000, 10_000_000] {
        if quick && alive > used {
            continue;
        }
        let mut bench = Bench::new(&config("fullnat", "udp", 0), alive);
        for first in (0..alive).step_by(used) {
            let mut traffic = Traffic::new((first..first + used).map(|n| flow(n, 1)), None, 64);
            warm_up(&mut bench, &mut traffic, used);
        }
        let made = bench.connections();
        // Spread over all of them.
        let chosen = (0..used).map(|n| flow(n * (alive / used), 1));
        let mut traffic = Traffic::new(chosen, None, 64);
        let cost = bench.run(&mut traffic, bursts(used, quick), Duration::ZERO);
        let bytes = Table::<Connection>::bytes(alive) / alive;
        report(Figure {
            case: "large",
            what: format!("{made} alive, {used} in use, {bytes} B each"),
            nanos: cost.nanos,
            per: "packet",
        });
    }
}

/// A cache line that leads to another one.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(u32);

pub(super) fn memory(quick: bool, report: Report) {
    for megabytes in [1usize, 16, 64, 256, 1024] {
        if quick && megabytes > 64 {
            continue;
        }
        let count = (megabytes << 20) / size_of::<Line>();
        let mut lines = HugeSlice::new(Line(0), count);
        // One cycle through all of them in random order (Sattolo's algorithm).
        let mut order: Vec<u32> = (0..count as u32).collect();
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for n in (1..count).rev() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            order.swap(n, (state % n as u64) as usize);
        }
        for (n, next) in order.iter().enumerate() {
            lines[n] = Line(*next);
        }
        let reads = if quick { 1 << 20 } else { 1 << 22 };
        for together in [1, 8, 64] {
            let mut at = vec![0u32; together];
            for (n, at) in at.iter_mut().enumerate() {
                *at = order[n * (count / together)];
            }
            let before = cpu_time();
            for _ in 0..reads / together {
                for at in &mut at {
                    *at = lines[*at as usize].0;
                    prefetch(&lines[*at as usize]);
                }
            }
            let nanos = (cpu_time() - before) as f64 / reads as f64;
            std::hint::black_box(at);
            report(Figure {
                case: "memory",
                what: format!("a cache line of {megabytes} MB, {together} at once"),
                nanos,
                per: "read",
            });
        }
    }
}

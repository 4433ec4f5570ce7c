//! What is measured: each case is a line of [`CASES`].

use super::traffic::Flow;
use super::{Bench, Traffic};
use crate::config::{self, Config, Context};
use crate::control::model::key;
use crate::sched;
use crate::units::PortId;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

/// One figure.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Figure {
    pub case: &'static str,
    pub what: String,
    /// Nanoseconds of CPU time.
    pub nanos: f64,
    /// What a nanosecond figure is of.
    pub per: &'static str,
}

pub struct Case {
    pub name: &'static str,
    pub description: &'static str,
    pub run: fn(quick: bool, report: &mut dyn FnMut(Figure)),
}

/// Every case.
pub static CASES: &[Case] = &[
    Case {
        name: "known",
        description: "packets of known connections, by mode and number of flows",
        run: known,
    },
    Case {
        name: "both",
        description: "requests and replies mixed",
        run: both_directions,
    },
    Case {
        name: "new",
        description: "new connections, steady, with expiry",
        run: new_connections,
    },
    Case {
        name: "services",
        description: "the same among many services",
        run: many_services,
    },
    Case {
        name: "publish",
        description: "one real server added, one service added, among many",
        run: publish,
    },
];

const WAN: PortId = PortId(0);
const VIP: u32 = 0xc612_0001; // 198.18.0.1, of the benchmarking range of RFC 2544

/// A configuration with one service for `mode` on the VIP, and `others` on VIPs of their own.
fn config(mode: &str, protocol: &str, others: usize) -> Config {
    let mut text = String::from(
        r#"
[timeouts]
udp = 1
tcp_syn_recv = 1
tcp_close = 1
tcp_time_wait = 1
[[port]]
name = "wan"
device = "none"
addresses = ["198.51.100.1/24"]
[[port]]
name = "lan"
device = "none"
addresses = ["10.0.0.1/16"]
[[route]]
to = "0.0.0.0/0"
via = "198.51.100.254"
[[neighbour]]
address = "198.51.100.254"
mac = "02:00:00:00:01:fe"
[[local_pool]]
name = "inside"
addresses = ["10.0.200.0-10.0.200.31"]
ports = "1024-65535"
"#,
    );
    for last in 11..15 {
        let _ = write!(
            text,
            "[[neighbour]]\naddress = \"10.0.0.{last}\"\nmac = \"02:00:00:00:01:{last}\"\n"
        );
    }
    let pool = if mode == "fullnat" {
        "local_pool = \"inside\"\n"
    } else {
        ""
    };
    for n in 0..=others {
        let (vip, port) = (Ipv4Addr::from_bits(VIP + (n / 50) as u32), 53 + n % 50);
        let _ = write!(
            text,
            "[[service]]\naddress = \"{vip}\"\nport = {port}\nprotocol = \"{protocol}\"\nmode = \"{mode}\"\n\
             {pool}scheduler = \"rr\"\n"
        );
        for last in 11..15 {
            let _ = write!(text, "[[service.real]]\naddress = \"10.0.0.{last}\"\n");
        }
    }
    let context = Context {
        schedulers: &sched::NAMES,
        cpus: None,
    };
    match config::parse(&text, "bench", &context) {
        Ok(loaded) => loaded.config,
        Err(errors) => unreachable!("the benchmark's own configuration: {errors}"),
    }
}

/// Flow number `n` of clients all over the address space.
fn flow(n: usize, services: usize) -> Flow {
    let spread = (n as u32).wrapping_mul(0x9e37_79b1);
    let service = n % services;
    Flow {
        port: WAN,
        // 1.0.0.0 … 127: never a source that is refused.
        source: (
            Ipv4Addr::from_bits(0x0100_0000 | (n as u32 >> 14) << 6 | spread & 0x3f),
            1024 + (n & 0x3fff) as u16,
        ),
        destination: (
            Ipv4Addr::from_bits(VIP + (service / 50) as u32),
            53 + (service % 50) as u16,
        ),
    }
}

/// Enough bursts to see every flow twice, and for the figure to settle.
fn bursts(flows: usize, quick: bool) -> usize {
    (2 * flows / 32).max(if quick { 30_000 } else { 200_000 })
}

/// Makes the connection of every flow.
fn warm_up(bench: &mut Bench, traffic: &mut Traffic, flows: usize) {
    bench.run(traffic, flows.div_ceil(32), Duration::ZERO);
}

fn known(quick: bool, report: &mut dyn FnMut(Figure)) {
    for mode in ["dr", "nat", "fullnat"] {
        for flows in [1, 1_000, 100_000, 1_000_000] {
            let mut bench = Bench::new(&config(mode, "udp", 0), flows * 2);
            let mut traffic = Traffic::new((0..flows).map(|n| flow(n, 1)), None, 64);
            warm_up(&mut bench, &mut traffic, flows);
            let cost = bench.run(&mut traffic, bursts(flows, quick), Duration::ZERO);
            let what = format!(
                "{mode} udp, {flows} flows, {:.0} % forwarded",
                cost.forwarded * 100.0
            );
            report(Figure {
                case: "known",
                what,
                nanos: cost.nanos,
                per: "packet",
            });
        }
    }
}

fn both_directions(quick: bool, report: &mut dyn FnMut(Figure)) {
    for mode in ["nat", "fullnat"] {
        for flows in [1_000, 100_000, 1_000_000] {
            let mut bench = Bench::new(&config(mode, "udp", 0), flows * 2);
            let mut traffic = Traffic::new((0..flows).map(|n| flow(n, 1)), None, 64);
            warm_up(&mut bench, &mut traffic, flows);
            let replies: Vec<Flow> = bench.replies(PortId(1));
            let all = (0..flows).map(|n| flow(n, 1)).chain(replies);
            let mut traffic = Traffic::new(all, None, 64);
            let cost = bench.run(&mut traffic, bursts(2 * flows, quick), Duration::ZERO);
            let what = format!(
                "{mode} udp, {flows} flows, {:.0} % forwarded",
                cost.forwarded * 100.0
            );
            report(Figure {
                case: "both",
                what,
                nanos: cost.nanos,
                per: "packet",
            });
        }
    }
}

fn new_connections(quick: bool, report: &mut dyn FnMut(Figure)) {
    for mode in ["dr", "nat", "fullnat"] {
        let flows = if quick { 2_000_000 } else { 6_000_000 };
        // The clock runs so that every flow's connection is over before the flow comes again.
        let step = Duration::from_nanos(32 * 3_000_000_000 / flows as u64);
        let mut bench = Bench::new(&config(mode, "udp", 0), flows);
        let mut traffic = Traffic::new((0..flows).map(|n| flow(n, 1)), None, 64);
        bench.run(&mut traffic, flows / 32, step);
        let before = bench.made();
        let cost = bench.run(&mut traffic, flows / 32, step);
        let share = (bench.made() - before) as f64 / flows as f64;
        let what = format!(
            "{mode} udp, {:.0} % new, {} alive",
            share * 100.0,
            bench.connections()
        );
        report(Figure {
            case: "new",
            what,
            nanos: cost.nanos,
            per: "connection",
        });
    }
}

fn many_services(quick: bool, report: &mut dyn FnMut(Figure)) {
    for services in [1, 5_000, 100_000] {
        if quick && services > 5_000 {
            continue;
        }
        let config = config("fullnat", "udp", services - 1);
        let flows = 100_000;
        let mut bench = Bench::new(&config, flows * 2);
        let mut traffic = Traffic::new((0..flows).map(|n| flow(n, services)), None, 64);
        warm_up(&mut bench, &mut traffic, flows);
        let cost = bench.run(&mut traffic, bursts(flows, quick), Duration::ZERO);
        let what = format!(
            "known, {services} services, {:.0} % forwarded",
            cost.forwarded * 100.0
        );
        report(Figure {
            case: "services",
            what,
            nanos: cost.nanos,
            per: "packet",
        });

        let flows = 2_000_000;
        let step = Duration::from_nanos(32 * 3_000_000_000 / flows as u64);
        let mut bench = Bench::new(&config, flows);
        let mut traffic = Traffic::new((0..flows).map(|n| flow(n, services)), None, 64);
        bench.run(&mut traffic, flows / 32, step);
        let cost = bench.run(&mut traffic, flows / 32, step);
        let what = format!(
            "new, {services} services, {:.0} % forwarded",
            cost.forwarded * 100.0
        );
        report(Figure {
            case: "services",
            what,
            nanos: cost.nanos,
            per: "connection",
        });
    }
}

fn publish(quick: bool, report: &mut dyn FnMut(Figure)) {
    for services in [0, 1_000, 20_000, 100_000] {
        if quick && services > 20_000 {
            continue;
        }
        let mut bench = Bench::new(&config("nat", "udp", services), 64);
        let rounds = 2_000;
        let nanos = bench.publish(rounds, |model, n| {
            // One real server of another service each time gets another weight.
            let service = &model.config().services[n * 7919 % (services + 1)];
            let (key, real) = (
                key(service),
                (service.reals[0].address, service.reals[0].port),
            );
            let changed = model.set_weight(&key, real, 1 + (n % 7) as u16);
            debug_assert!(changed.is_ok());
        });
        let what = format!("a weight, among {services} services");
        report(Figure {
            case: "publish",
            what,
            nanos,
            per: "change",
        });
    }
}

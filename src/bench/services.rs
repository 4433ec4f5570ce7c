//! What the number of services costs.
//!
//! Two questions: does a packet pay for services that it has nothing to do with (the same traffic, to one of them), and
//! what does it cost when the traffic is spread over all of them, so that what it touches grows with their number?

use super::cases::Figure;
use super::setup::{Setup, bursts, warm_up};
use super::{Bench, Traffic};
use crate::config::Config;
use crate::packet::BURST;
use std::time::Duration;

pub(super) fn run(quick: bool, report: &mut dyn FnMut(Figure)) {
    for (services, one_vip) in [(1, false), (5_000, true), (5_000, false), (100_000, false)] {
        if quick && services > 5_000 {
            continue;
        }
        let setup = Setup {
            services,
            one_vip,
            ..Setup::new("fullnat", "udp")
        };
        let config = setup.config();
        let place = if one_vip { " on one VIP" } else { "" };
        let mut traffic_to = |used: usize, to: &str| {
            report(known(&config, &setup, used, to, quick));
            report(new(&config, &setup, used, to, quick));
        };
        if services == 1 {
            traffic_to(1, "the only service");
        } else {
            traffic_to(1, &format!("one of {services} services{place}"));
            traffic_to(services, &format!("all of {services} services{place}"));
        }
    }
}

fn known(config: &Config, setup: &Setup, used: usize, to: &str, quick: bool) -> Figure {
    let flows = 100_000;
    let mut bench = Bench::new(config, flows * 2);
    let mut traffic = Traffic::new((0..flows).map(|n| setup.flow(n, used)), None, 64);
    warm_up(&mut bench, &mut traffic, flows);
    let cost = bench.run(&mut traffic, bursts(flows, quick), Duration::ZERO);
    Figure {
        case: "services",
        what: format!("known, to {to}, {:.0} % forwarded", cost.forwarded * 100.0),
        nanos: cost.nanos,
        per: "packet",
    }
}

fn new(config: &Config, setup: &Setup, used: usize, to: &str, quick: bool) -> Figure {
    let flows = if quick { 512_000 } else { 2_000_000 };
    // Whole bursts. The clock runs so that every flow's connection is over before the flow comes again.
    let step = Duration::from_nanos(BURST as u64 * 3_000_000_000 / flows as u64);
    let mut bench = Bench::new(config, flows);
    let mut traffic = Traffic::new((0..flows).map(|n| setup.flow(n, used)), None, 64);
    bench.run(&mut traffic, flows / BURST, step);
    let before = bench.made();
    let cost = bench.run(&mut traffic, flows / BURST, step);
    let made = (bench.made() - before) as usize;
    assert_eq!(made, flows, "each packet makes a connection");
    Figure {
        case: "services",
        what: format!("new, to {to}, {:.0} % forwarded", cost.forwarded * 100.0),
        nanos: cost.nanos,
        per: "connection",
    }
}

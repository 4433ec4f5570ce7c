//! What the numbers of routes and neighbours cost packets of known connections.
//!
//! Ten thousand services with one real server each, whose counters and connections are the same in every figure. What
//! differs is how many machines those real servers are, each a neighbour, and how many routes there are. The traffic goes
//! to one of the services (it needs few of the neighbours), or to all of the first ten thousand (it needs them all).

use super::cases::Figure;
use super::setup::{LAN, Setup, bursts, warm_up};
use super::{Bench, Traffic};
use crate::config::Config;
use std::time::Duration;

const SERVICES: usize = 10_000;
const FLOWS: usize = 100_000;

pub(super) fn run(quick: bool, report: &mut dyn FnMut(Figure)) {
    for mode in ["dr", "fullnat"] {
        let few = Setup {
            services: SERVICES,
            reals: 1,
            servers: 1,
            ..Setup::new(mode, "udp")
        };
        let many = Setup {
            servers: 9_999,
            routes: 10_000,
            ..few
        };
        let most = Setup {
            services: 100_000,
            ..many
        };
        for setup in [few, many, most] {
            if quick && setup.services > SERVICES {
                continue;
            }
            let config = setup.config();
            for used in [1, SERVICES] {
                report(requests(&config, &setup, used, quick));
            }
            // Replies go to clients behind the routes' gateways.
            let gateways = setup.servers.div_ceil(2);
            let shared = Setup {
                servers: gateways,
                gateways,
                ..setup
            };
            if mode == "fullnat" {
                report(both_ways(&shared, quick));
            }
        }
    }
}

fn figure(setup: &Setup, direction: &str, used: usize, cost: super::Cost) -> Figure {
    let (mode, services) = (setup.mode, setup.services);
    let routes = match setup.routes {
        1 => "1 route".to_owned(),
        many => format!("{many} routes"),
    };
    let neighbours = setup.servers + setup.gateways;
    let forwarded = cost.forwarded * 100.0;
    Figure {
        case: "routes",
        what: format!(
            "{mode} {direction} {used} of {services} services, {routes}, {neighbours} neighbours, \
             {forwarded:.0} % forwarded"
        ),
        nanos: cost.nanos,
        per: "packet",
    }
}

fn requests(config: &Config, setup: &Setup, used: usize, quick: bool) -> Figure {
    let mut bench = Bench::new(config, FLOWS * 2);
    let mut traffic = Traffic::new((0..FLOWS).map(|n| setup.far_flow(n, used)), None, 64);
    warm_up(&mut bench, &mut traffic, FLOWS);
    let cost = bench.run(&mut traffic, bursts(FLOWS, quick), Duration::ZERO);
    figure(setup, "to", used, cost)
}

fn both_ways(setup: &Setup, quick: bool) -> Figure {
    let mut bench = Bench::new(&setup.config(), FLOWS * 2);
    let requests = (0..FLOWS).map(|n| setup.far_flow(n, SERVICES));
    warm_up(
        &mut bench,
        &mut Traffic::new(requests.clone(), None, 64),
        FLOWS,
    );
    let replies = bench.replies(LAN);
    let mut traffic = Traffic::new(requests.chain(replies), None, 64);
    let cost = bench.run(&mut traffic, bursts(2 * FLOWS, quick), Duration::ZERO);
    figure(setup, "to and from", SERVICES, cost)
}

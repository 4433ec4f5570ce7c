//! What is measured: each case is a line of [`CASES`].

use super::gap::{list_connections, median};
use super::setup::{LAN, Setup, bursts, warm_up};
use super::traffic::Flow;
use super::{
    Bench, Traffic, admission, errors, families, fragments, memory, redirect, routes, schedulers,
    services, told,
};
use crate::config::{self, Config};
use crate::conn::{Connection, Table};
use crate::model::key;
use crate::packet::BURST;
use crate::units::Time;
use std::net::{IpAddr, Ipv4Addr};
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
        name: "ipv6",
        description: "packets of known connections of both families and across, in turns",
        run: families::run,
    },
    Case {
        name: "tunnel",
        description: "as \"known\", wrapped in each way, beside dr",
        run: tunnels,
    },
    Case {
        name: "sizes",
        description: "the same, by the frames' length",
        run: sizes,
    },
    Case {
        name: "both",
        description: "requests and replies mixed",
        run: both_directions,
    },
    Case {
        name: "drops",
        description: "packets that lead to nothing, among none that do",
        run: drops,
    },
    Case {
        name: "new",
        description: "new connections, steady, with expiry",
        run: new_connections,
    },
    Case {
        name: "acl",
        description: "new connections of a service with `allow` or `deny`, by the length of the list",
        run: admission::acl,
    },
    Case {
        name: "limits",
        description: "new connections of a service with `limits`",
        run: admission::limits,
    },
    Case {
        name: "toa",
        description: "known packets and whole connections of `client_address = \"toa\"`, beside none",
        run: told::toa,
    },
    Case {
        name: "proxy",
        description: "the same of \"proxy-v2\", and datagrams",
        run: told::proxy,
    },
    Case {
        name: "services",
        description: "known and new connections among many services",
        run: services::run,
    },
    Case {
        name: "routes",
        description: "packets of known connections with many routes and neighbours",
        run: routes::run,
    },
    Case {
        name: "large",
        description: "many connections alive",
        run: large,
    },
    Case {
        name: "redirect",
        description: "known connections whose packets come to another worker, and are handed over",
        run: redirect::run,
    },
    Case {
        name: "tcp",
        description: "whole TCP connections",
        run: whole_tcp,
    },
    Case {
        name: "flood",
        description: "a SYN flood and a full table",
        run: flood,
    },
    Case {
        name: "fragments",
        description: "datagrams in two fragments, and floods of such that are never complete",
        run: fragments::run,
    },
    Case {
        name: "errors",
        description: "ICMP errors about known connections, by mode",
        run: errors::run,
    },
    Case {
        name: "schedulers",
        description: "one choice of each scheduler among 8, 1,000 and 4,000 real servers",
        run: schedulers::run,
    },
    Case {
        name: "publish",
        description: "from a change of the model until a worker reads it (wall time)",
        run: publish,
    },
    Case {
        name: "gap",
        description: "the longest time between two polls while the control thread works (wall time)",
        run: gaps,
    },
    Case {
        name: "memory",
        description: "reads of one cache line each from all over a working set, with no director",
        run: memory::run,
    },
];

/// One service, and `others` with it.
pub(super) fn config(mode: &'static str, protocol: &'static str, others: usize) -> Config {
    let setup = Setup {
        services: 1 + others,
        ..Setup::new(mode, protocol)
    };
    setup.config()
}

/// Flow number `n` to the only service.
pub(super) fn flow(n: usize) -> Flow {
    Setup::new("fullnat", "udp").flow(n, 1)
}

fn known(quick: bool, report: &mut dyn FnMut(Figure)) {
    for mode in ["dr", "nat", "fullnat"] {
        for flows in [1, 1_000, 100_000, 1_000_000] {
            let mut bench = Bench::new(&config(mode, "udp", 0), flows * 2);
            let mut traffic = Traffic::new((0..flows).map(flow), None, 64);
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

/// Each way to wrap or mark packets, in both families; dr first.
fn tunnels(quick: bool, report: &mut dyn FnMut(Figure)) {
    const KEYS: [(&str, &str, &str); 7] = [
        ("dr", "dr", ""),
        ("ipip", "tunnel", ""),
        ("gre", "tunnel", "tunnel = \"gre\"\n"),
        ("gue", "tunnel", "tunnel = \"gue\"\n"),
        (
            "gue variant 0",
            "tunnel",
            "tunnel = \"gue\"\ngue_variant = 0\n",
        ),
        (
            "gue without checksum",
            "tunnel",
            "tunnel = \"gue\"\ngue_zero_checksum = true\n",
        ),
        ("l3dsr", "l3dsr", "dscp = 5\n"),
    ];
    for is_six in [false, true] {
        for (name, mode, keys) in KEYS {
            for flows in [1_000, 1_000_000] {
                let setup = Setup {
                    is_six,
                    keys,
                    ..Setup::new(mode, "udp")
                };
                let mut bench = Bench::new(&setup.config(), flows * 2);
                let mut traffic = Traffic::new((0..flows).map(|n| setup.flow(n, 1)), None, 64);
                warm_up(&mut bench, &mut traffic, flows);
                let cost = bench.run(&mut traffic, bursts(flows, quick), Duration::ZERO);
                let family = if is_six { " over IPv6" } else { "" };
                let forwarded = cost.forwarded * 100.0;
                report(Figure {
                    case: "tunnel",
                    what: format!("{name} udp{family}, {flows} flows, {forwarded:.0} % forwarded"),
                    nanos: cost.nanos,
                    per: "packet",
                });
            }
        }
    }
}

/// Frames of real lengths. Their headers are written and read, their payload is not: a NIC's DMA and this director leave
/// it out of the near caches.
fn sizes(quick: bool, report: &mut dyn FnMut(Figure)) {
    let flows = 1_000;
    for mode in ["dr", "fullnat"] {
        for length in [64, 570, 1500] {
            let mut bench = Bench::new(&config(mode, "udp", 0), flows * 2);
            let mut traffic = Traffic::new((0..flows).map(flow), None, length);
            warm_up(&mut bench, &mut traffic, flows);
            let cost = bench.run(&mut traffic, bursts(flows, quick), Duration::ZERO);
            let forwarded = cost.forwarded * 100.0;
            report(Figure {
                case: "sizes",
                what: format!(
                    "{mode} udp, {flows} flows, {length} bytes, {forwarded:.0} % forwarded"
                ),
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
            let mut traffic = Traffic::new((0..flows).map(flow), None, 64);
            warm_up(&mut bench, &mut traffic, flows);
            let replies: Vec<Flow> = bench.replies(LAN);
            let all = (0..flows).map(flow).chain(replies);
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

/// What a flood may be made of. Its answers are limited, and nearly none is given.
fn drops(quick: bool, report: &mut dyn FnMut(Figure)) {
    const ACK: u8 = 0x10;
    let flows = 1_000;
    let no_address = |n| Flow {
        destination: (Ipv4Addr::new(192, 0, 2, 1), 53),
        ..flow(n)
    };
    let no_service = |n| Flow {
        destination: (flow(n).destination.0, 9),
        ..flow(n)
    };
    let known = (0..flows).map(flow).collect::<Vec<_>>();
    let kinds = [
        ("udp", "known", None, known.clone()),
        (
            "udp",
            "to an address that weir does not have",
            None,
            (0..flows).map(no_address).collect(),
        ),
        (
            "udp",
            "to a VIP's port without service",
            None,
            (0..flows).map(no_service).collect(),
        ),
        ("tcp", "ACK without connection", Some(ACK), known),
    ];
    for (protocol, what, flags, flows) in kinds {
        let count = flows.len();
        let mut bench = Bench::new(&config("fullnat", protocol, 0), 2 * count);
        let mut traffic = Traffic::new(flows, flags, 64);
        bench.run(&mut traffic, count.div_ceil(BURST), Duration::ZERO);
        let cost = bench.run(&mut traffic, bursts(count, quick), Duration::ZERO);
        let forwarded = cost.forwarded * 100.0;
        report(Figure {
            case: "drops",
            what: format!("{what}, {forwarded:.0} % forwarded"),
            nanos: cost.nanos,
            per: "packet",
        });
    }
}

fn new_connections(quick: bool, report: &mut dyn FnMut(Figure)) {
    for mode in ["dr", "nat", "fullnat"] {
        let flows = if quick { 2_000_000 } else { 6_000_000 };
        // The clock runs so that every flow's connection is over before the flow comes again.
        let step = Duration::from_nanos(BURST as u64 * 3_000_000_000 / flows as u64);
        let mut bench = Bench::new(&config(mode, "udp", 0), flows);
        let mut traffic = Traffic::new((0..flows).map(flow), None, 64);
        bench.run(&mut traffic, flows / BURST, step);
        let before = bench.made();
        let cost = bench.run(&mut traffic, flows / BURST, step);
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

fn publish(quick: bool, report: &mut dyn FnMut(Figure)) {
    for services in [0, 1_000, 20_000, 100_000] {
        if quick && services > 20_000 {
            continue;
        }
        let mut bench = Bench::new(&config("nat", "udp", services), 64);
        // One real server of another service each time gets another weight.
        let places: Vec<_> = (bench.model.config().services.iter())
            .map(|service| {
                let real = &service.reals[0];
                (key(service), (real.address, real.port))
            })
            .collect();
        let extra = {
            let mut service = config::ServiceConfig::clone(&bench.model.config().services[0]);
            service.name = "extra".to_owned();
            // On a VIP of its own: of the range of RFC 5737.
            service.address = IpAddr::from([203, 0, 113, 1]);
            service
        };
        let (mut weights, mut adds, mut reals, mut removes) = (vec![], vec![], vec![], vec![]);
        bench.beside(|beside| {
            for n in 0..2_001 {
                let (at, real) = &places[n * 7919 % places.len()];
                weights.push(beside.visible_after(|model| {
                    let changed = model.set_weight(at, *real, 1 + (n % 7) as u16);
                    debug_assert!(changed.is_ok());
                }));
                let mut fewer = extra.clone();
                fewer.reals.pop();
                let mut set = |service: config::ServiceConfig| {
                    beside.visible_after(|model| {
                        let changed = model.set_services(vec![service]);
                        debug_assert!(changed.is_ok());
                    })
                };
                adds.push(set(fewer));
                reals.push(set(extra.clone()));
                removes.push(beside.visible_after(|model| {
                    let changed = model.unset_service(&key(&extra));
                    debug_assert!(changed.is_some());
                }));
            }
        });
        for (what, nanos) in [
            ("a weight", weights),
            ("a service added", adds),
            ("a real server added", reals),
            ("a service removed", removes),
        ] {
            report(Figure {
                case: "publish",
                what: format!("{what}, among {services} services"),
                nanos: median(nanos),
                per: "change",
            });
        }
    }
    publish_maglev(report);
}

/// The same where the change takes a new table of `mh`.
fn publish_maglev(report: &mut dyn FnMut(Figure)) {
    let mut config = config("nat", "udp", 0);
    let service = std::sync::Arc::make_mut(&mut config.services[0]);
    service.scheduler = config::SchedulerConfig::Mh;
    let real = |n: u8| config::RealConfig {
        address: IpAddr::from([10, 0, 0, 11 + n]),
        port: service.port,
        weight: 10_000,
        thresholds: None,
        server_id: None,
    };
    service.reals = (0..10).map(real).collect();
    let (key, place) = (key(service), (service.reals[3].address, service.port));
    let nanos = Bench::new(&config, 64).beside(|beside| {
        // Never a weight that it had before: no table of that is left.
        let change = |n: u16| {
            beside.visible_after(|model| {
                let changed = model.set_weight(&key, place, 9_000 + n);
                debug_assert!(changed.is_ok());
            })
        };
        median((0..2_001).map(change).collect())
    });
    report(Figure {
        case: "publish",
        what: "a weight, mh with 10 real servers".to_owned(),
        nanos,
        per: "change",
    });
}

/// A whole TCP connection: each of its packets for all connections in turn, then their expiry.
fn whole_tcp(quick: bool, report: &mut dyn FnMut(Figure)) {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const PSH: u8 = 8;
    const ACK: u8 = 16;
    for mode in ["nat", "fullnat"] {
        let flows = if quick { 65_536 } else { 1_000_000 };
        let mut bench = Bench::new(&config(mode, "tcp", 0), flows * 2);
        let requests: Vec<Flow> = (0..flows).map(flow).collect();
        let pass = |bench: &mut Bench, flows: &[Flow], flags: u8| {
            let mut traffic = Traffic::new(flows.iter().copied(), Some(flags), 64);
            if flags != SYN {
                traffic.shuffle();
            }
            let bursts = flows.len() / BURST;
            bench.run(&mut traffic, bursts, Duration::ZERO).nanos
        };
        let mut nanos = pass(&mut bench, &requests, SYN);
        let replies = bench.replies(LAN);
        for (flows, flags) in [
            (&replies, SYN | ACK),
            (&requests, ACK),
            (&requests, PSH | ACK),
            (&replies, PSH | ACK),
            (&requests, FIN | ACK),
            (&replies, FIN | ACK),
            (&requests, ACK),
        ] {
            nanos += pass(&mut bench, flows, flags);
        }
        nanos += bench.expire() as f64 / flows as f64;
        report(Figure {
            case: "tcp",
            what: format!("{mode}, {flows} connections of 8 packets, and expiry"),
            nanos,
            per: "connection",
        });
    }
}

/// Many connections alive, some of them in use.
fn large(quick: bool, report: &mut dyn FnMut(Figure)) {
    let used = 1_000_000;
    for alive in [1_000_000, 10_000_000] {
        if quick && alive > used {
            continue;
        }
        let mut bench = Bench::new(&config("fullnat", "udp", 0), alive);
        for first in (0..alive).step_by(used) {
            let mut traffic = Traffic::new((first..first + used).map(flow), None, 64);
            warm_up(&mut bench, &mut traffic, used);
        }
        let made = bench.connections();
        // Spread over all of them.
        let chosen = (0..used).map(|n| flow(n * (alive / used)));
        let mut traffic = Traffic::new(chosen, None, 64);
        traffic.shuffle();
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

/// A SYN flood that has filled the table.
fn flood(quick: bool, report: &mut dyn FnMut(Figure)) {
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    let (known, attackers) = (10_000, if quick { 1_000_000 } else { 4_000_000 });
    let mut bench = Bench::new(&config("nat", "tcp", 0), 100_000);
    let run = |bench: &mut Bench, range: std::ops::Range<usize>, flags: u8, rounds: usize| {
        let bursts = range.len() * rounds / BURST;
        let mut traffic = Traffic::new(range.map(flow), Some(flags), 64);
        bench.run(&mut traffic, bursts, Duration::from_nanos(3_000))
    };
    run(&mut bench, 0..known, SYN, 1);
    run(&mut bench, 0..known, ACK, 1);
    let before = run(&mut bench, 0..known, ACK, 100);
    let flooded = run(&mut bench, known..known + attackers, SYN, 1);
    let after = run(&mut bench, 0..known, ACK, 100);
    for (what, cost, per) in [
        ("known connections before the flood", before, "packet"),
        ("SYNs to a full table", flooded, "connection"),
        ("known connections, the table full", after, "packet"),
    ] {
        report(Figure {
            case: "flood",
            what: format!("{what}, {:.0} % forwarded", cost.forwarded * 100.0),
            nanos: cost.nanos,
            per,
        });
    }
}

/// The longest time between two polls while the control thread changes or lists much.
fn gaps(quick: bool, report: &mut dyn FnMut(Figure)) {
    let many = if quick { 5_000 } else { 20_000 };
    let flows = if quick { 100_000 } else { 1_000_000 };
    let (few, all) = (config("fullnat", "udp", 0), config("fullnat", "udp", many));
    let one_more = config("fullnat", "udp", many + 1);
    let mut another_address = all.clone();
    if let Some(address) = another_address.pools.iter_mut().next() {
        address.addresses.push(IpAddr::from([10, 0, 201, 1]));
    }
    let mut bench = Bench::new(&few, flows);
    let mut traffic = Traffic::new((0..flows).map(flow), None, 64);
    warm_up(&mut bench, &mut traffic, flows);
    let rounds = 5;
    let mut gaps: Vec<(String, Vec<f64>)> = Vec::new();
    bench.beside(|beside| {
        let mut note = |what: &str, gap: f64| match gaps.iter_mut().find(|(had, _)| had == what) {
            Some((_, values)) => values.push(gap),
            None => gaps.push((what.to_owned(), vec![gap])),
        };
        for _ in 0..rounds {
            let mut apply = |beside: &mut super::gap::Beside, what: &str, config: &Config| {
                let config = config.clone();
                let gap = beside.longest_gap(|model, _| {
                    let now = Time::from_nanos(1 << 50);
                    let applied = model.apply(config, now);
                    debug_assert!(applied.is_ok());
                });
                note(what, gap);
            };
            apply(beside, &format!("loading {many} services"), &all);
            apply(
                beside,
                &format!("adding one among {many} services"),
                &one_more,
            );
            apply(beside, &format!("removing one among {many} services"), &all);
            apply(beside, "adding a local address", &another_address);
            apply(beside, &format!("removing {many} services"), &few);
            let gap = beside.longest_gap(|_, mailbox| {
                std::hint::black_box(list_connections(mailbox));
            });
            note(&format!("listing {flows} connections"), gap);
            let gap = beside.longest_gap(|_, _| std::thread::sleep(Duration::from_millis(500)));
            note("nothing, for half a second", gap);
        }
    });
    for (what, values) in gaps {
        report(Figure {
            case: "gap",
            what,
            nanos: median(values),
            per: "longest gap",
        });
    }
}

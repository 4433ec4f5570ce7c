use super::*;
use crate::config::Context;
use proptest::prelude::*;

/// A service of each mode and scheduler that are named, with four real servers.
fn config(top: &str, services: &[(&str, &str, &str)]) -> Config {
    let mut text = format!(
        r#"
{top}

[dpdk]
eal_args = []
workers = [0]

[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.2/24", "2001:db8::2/64"]

[[port]]
name = "lan"
device = "net_null1"
addresses = ["10.0.0.2/24", "2001:db8:1::2/64"]

[[route]]
to = "0.0.0.0/0"
via = "192.0.2.1"

[[route]]
to = "::/0"
via = "2001:db8::1"

[[local_pool]]
name = "pool"
addresses = ["10.0.0.100", "10.0.0.101", "10.0.0.102"]
"#
    );
    for (n, (mode, scheduler, protocol)) in services.iter().enumerate() {
        let more = match *mode {
            "fullnat" => "local_pool = \"pool\"",
            "l3dsr" => "dscp = 7",
            _ => "",
        };
        let port = 8000 + n;
        text += &format!(
            r#"
[[service]]
name = "{mode}-{scheduler}-{protocol}"
protocol = "{protocol}"
address = "192.0.2.80"
port = {port}
mode = "{mode}"
scheduler = "{scheduler}"
slow_start = "0s"
{more}
"#
        );
        for real in 11..15 {
            text +=
                &format!("  [[service.real]]\n  address = \"10.0.0.{real}\"\n  port = {port}\n");
        }
    }
    let context = Context {
        cpus: None,
        devices: false,
    };
    let read = crate::config::parse(&text, "simulated.toml", &context);
    read.unwrap_or_else(|errors| panic!("{errors}\n{text}"))
        .config
}

fn setup(config: Config) -> (tempfile::TempDir, Setup) {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup {
        config,
        keep_in: folder.path().to_owned(),
    };
    (folder, setup)
}

const QUIET: Network = Network {
    loss: 0.0,
    duplication: 0.0,
    reordering: 0.0,
};
const BAD: Network = Network {
    loss: 0.01,
    duplication: 0.01,
    reordering: 0.05,
};

/// Of one node.
fn plan(seed: u64, network: Network, faults: Vec<Fault>) -> Plan {
    Plan {
        nodes: 1,
        workers: 1,
        ecmp: Ecmp::Plain,
        detection: 150,
        seed,
        connections: 60,
        seconds: 12,
        network,
        faults,
    }
}

fn at(at: u64, what: What) -> Fault {
    Fault { at, what }
}

fn clean(report: &Report) {
    assert_eq!(report.violations, []);
    assert!(report.begun > 60, "{report:?}");
    assert_eq!(report.opened, report.begun, "{report:?}");
}

const MODES: [&str; 5] = ["dr", "nat", "fullnat", "tunnel", "l3dsr"];

#[test]
fn nothing_breaks_behind_one_node_and_bad_links() {
    for mode in MODES {
        let config = config(
            "",
            &[
                (mode, "wlc", "tcp"),
                (mode, "mh", "tcp"),
                (mode, "rr", "udp"),
            ],
        );
        let (_folder, setup) = setup(config);
        let report = run(&setup, &plan(1, BAD, Vec::new())).unwrap();
        clean(&report);
        assert_eq!(report.broken(), 0, "{mode}: {report:?}");
        assert_eq!(report.closed, report.begun, "{mode}");
    }
}

#[test]
fn the_same_plan_gives_the_same_report() {
    let config = config("", &[("fullnat", "rr", "tcp"), ("dr", "mh", "udp")]);
    let kinds = [
        Kind::Kill,
        Kind::Drain,
        Kind::Remove,
        Kind::Silence,
        Kind::Weight,
    ];
    let faults = faults(9, &kinds, 6, 12, (3, &config));
    let (_folder, setup) = setup(config);
    let plan = Plan {
        nodes: 3,
        ecmp: Ecmp::Resilient,
        ..plan(9, BAD, faults)
    };
    let first = run(&setup, &plan).unwrap();
    assert_eq!(first, run(&setup, &plan).unwrap());
    assert_eq!(first.violations, []);
    let other = Plan { seed: 10, ..plan };
    assert_ne!(first, run(&setup, &other).unwrap());
}

/// Without a cluster, a change of the nodes breaks what comes to another one, but where any of them sends a client to the same
/// real server.
#[test]
fn what_a_change_of_nodes_breaks() {
    for ecmp in [Ecmp::Plain, Ecmp::Resilient] {
        for (mode, scheduler, holds) in [
            ("dr", "mh", true),
            ("tunnel", "sh", true),
            ("dr", "rr", false),
            ("fullnat", "mh", false),
        ] {
            for what in [
                What::Kill {
                    node: 0,
                    away: 5000,
                },
                What::Silence {
                    node: 0,
                    away: 5000,
                },
                What::Drain {
                    node: 0,
                    away: 5000,
                },
            ] {
                let config = config("", &[(mode, scheduler, "tcp")]);
                let (_folder, setup) = setup(config);
                let plan = Plan {
                    nodes: 3,
                    ecmp,
                    ..plan(3, QUIET, vec![at(4000, what.clone())])
                };
                let report = run(&setup, &plan).unwrap();
                assert_eq!(report.violations, [], "{mode} {scheduler} {what:?}");
                let share = report.by_fault[&what.kind()];
                assert!(share.touched > 0, "{mode} {scheduler} {what:?}");
                assert_eq!(report.broken() == 0, holds, "{mode} {scheduler} {report:?}");
                assert_eq!(report.broken(), share.broken);
            }
        }
    }
}

#[test]
fn what_is_kept_outlives_its_node() {
    let keeps = "connections_file = \"/dev/shm/weir-simulated\"";
    for mode in ["dr", "nat", "fullnat"] {
        for (top, holds) in [(keeps, true), ("", false)] {
            let config = config(top, &[(mode, "rr", "tcp"), (mode, "rr", "udp")]);
            let (_folder, setup) = setup(config);
            let killed = What::Kill { node: 0, away: 400 };
            let report = run(&setup, &plan(5, QUIET, vec![at(6000, killed)])).unwrap();
            assert_eq!(report.violations, [], "{mode}");
            assert_eq!(report.broken() == 0, holds, "{mode} {report:?}");
            // None of what the one before has left is there.
            let again = run(
                &setup,
                &plan(5, QUIET, vec![at(6000, What::Kill { node: 0, away: 400 })]),
            );
            assert_eq!(again.unwrap(), report);
        }
    }
}

#[test]
fn tagged_ports_and_lossy_links_are_no_faults() {
    let mut tagged = config("", &[("nat", "rr", "tcp")]);
    tagged.ports[1].vlan = crate::net::Vlan::Tagged(100);
    let (_folder, setup) = setup(tagged);
    clean(&run(&setup, &plan(1, QUIET, Vec::new())).unwrap());
    let lossy = Network { loss: 0.4, ..QUIET };
    let report = run(&setup, &plan(1, lossy, Vec::new())).unwrap();
    assert_eq!(report.violations, []);
    assert!(report.broken.keys().all(|excuse| *excuse == Excuse::Lost));
}

#[test]
fn a_removed_real_server_ends_its_own_connections_only() {
    let config = config("", &[("fullnat", "rr", "tcp"), ("nat", "mh", "tcp")]);
    let (_folder, setup) = setup(config);
    let removed = What::Remove {
        service: "fullnat-rr-tcp".to_owned(),
        real: "10.0.0.11:8000".parse().unwrap(),
        away: 3000,
    };
    let report = run(&setup, &plan(6, QUIET, vec![at(5000, removed)])).unwrap();
    assert_eq!(report.violations, []);
    assert!(report.broken() > 0);
    assert_eq!(
        report.broken.keys().collect::<Vec<_>>(),
        [&Excuse::RealRemoved]
    );
}

/// The checks can fail: no fault explains that these clients are refused.
#[test]
fn what_no_fault_explains_is_a_violation() {
    let mut config = config("", &[("nat", "rr", "tcp")]);
    let service = std::sync::Arc::make_mut(&mut config.services[0]);
    service.reals.truncate(1);
    service.reals[0].weight = 0;
    let (_folder, setup) = setup(config);
    let report = run(&setup, &plan(1, QUIET, Vec::new())).unwrap();
    let [Violation::Unexplained { ended, .. }] = &report.violations[..] else {
        panic!("{report:?}");
    };
    assert_eq!(*ended, Ended::Reset);
    assert!(report.violated_at.is_some());
}

#[test]
fn what_is_not_there_is_named() {
    let config = config("", &[("fullnat", "rr", "tcp")]);
    let kill = |nodes, node| Plan {
        nodes,
        ..plan(1, QUIET, vec![at(1, What::Kill { node, away: 1 })])
    };
    let (_folder, usual) = setup(config.clone());
    let unknown = run(&usual, &kill(3, 3));
    assert!(matches!(unknown, Err(Failed::Unknown { number: 1, .. })));
    let removed = What::Remove {
        service: "fullnat-rr-tcp".to_owned(),
        real: "10.0.0.99:8000".parse().unwrap(),
        away: 1,
    };
    let removed = plan(1, QUIET, vec![at(1, removed)]);
    assert!(matches!(run(&usual, &removed), Err(Failed::Unknown { .. })));
    let few = run(&usual, &kill(4, 0));
    assert!(matches!(
        few,
        Err(Failed::FewAddresses {
            has: 3,
            nodes: 4,
            ..
        })
    ));
    let mut lost = config;
    lost.routes.clear();
    let (_folder, lost) = setup(lost);
    let lost = run(&lost, &kill(1, 0));
    assert!(matches!(lost, Err(Failed::NoRoute(_))));
    let mut taken = config_of_none();
    std::sync::Arc::make_mut(&mut taken.services[0]).address = "198.18.0.9".parse().unwrap();
    let (_folder, taken) = setup(taken);
    let taken = run(&taken, &kill(1, 0));
    assert!(matches!(taken, Err(Failed::Taken(_))));
    let mut none = config_of_none();
    none.services.clear();
    let (_folder, none) = setup(none);
    let none = run(&none, &kill(1, 0));
    assert!(matches!(none, Err(Failed::NoService)));
}

fn config_of_none() -> Config {
    config("", &[("dr", "rr", "tcp")])
}

proptest! {
    /// As few faults as make it fail, and of those all.
    #[test]
    fn a_shrunk_plan_has_only_what_makes_it_fail(
        culprits in prop::collection::btree_set(0u64..20, 1..4),
        connections in 1u32..50,
    ) {
        let silence = |n| at(n, What::Silence { node: 0, away: n });
        let whole = Plan {
            connections: 200,
            seconds: 64,
            ..plan(1, QUIET, (0..20).map(silence).collect())
        };
        let fails = |plan: &Plan| {
            let has = |n: &u64| plan.faults.contains(&silence(*n));
            plan.connections >= connections && plan.seconds >= 10 && culprits.iter().all(has)
        };
        let least = shrink(&whole, 1000, fails);
        let expected: Vec<_> = culprits.iter().map(|n| silence(*n)).collect();
        prop_assert_eq!(&least.faults, &expected);
        prop_assert!(least.connections >= connections && least.connections < 2 * connections);
        prop_assert_eq!(least.seconds, 16);
    }

    #[test]
    fn a_plan_is_read_as_it_is_written(seed: u64, count in 0u32..8) {
        let config = config_of_none();
        let kinds = [Kind::Kill, Kind::Drain, Kind::Remove, Kind::Silence, Kind::Weight];
        let plan = plan(seed, BAD, faults(seed, &kinds, count, 12, (3, &config)));
        prop_assert_eq!(plan.faults.len(), count as usize);
        prop_assert!(plan.faults.is_sorted_by_key(|fault| fault.at));
        let text = serde_json::to_string(&plan).unwrap();
        prop_assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }
}

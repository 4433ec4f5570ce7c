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

fn setup(config: Config, nodes: usize, ecmp: Ecmp) -> (tempfile::TempDir, Setup) {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup {
        config,
        nodes,
        ecmp,
        workers: 1,
        detection: 150,
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

fn plan(seed: u64, network: Network, faults: Vec<Fault>) -> Plan {
    Plan {
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
        let (_folder, setup) = setup(config, 1, Ecmp::Plain);
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
    let (_folder, setup) = setup(config, 3, Ecmp::Resilient);
    let plan = plan(9, BAD, faults);
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
                let (_folder, setup) = setup(config, 3, ecmp);
                let plan = plan(3, QUIET, vec![at(4000, what.clone())]);
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
            let (_folder, setup) = setup(config, 1, Ecmp::Plain);
            let killed = What::Kill { node: 0, away: 400 };
            let report = run(&setup, &plan(5, QUIET, vec![at(6000, killed)])).unwrap();
            assert_eq!(report.violations, [], "{mode}");
            assert_eq!(report.broken() == 0, holds, "{mode} {report:?}");
        }
    }
}

#[test]
fn a_removed_real_server_ends_its_own_connections_only() {
    let config = config("", &[("fullnat", "rr", "tcp"), ("nat", "mh", "tcp")]);
    let (_folder, setup) = setup(config, 1, Ecmp::Plain);
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
    let (_folder, setup) = setup(config, 1, Ecmp::Plain);
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
    let kill = |node| plan(1, QUIET, vec![at(1, What::Kill { node, away: 1 })]);
    let (_folder, three) = setup(config.clone(), 3, Ecmp::Plain);
    assert!(matches!(
        run(&three, &kill(3)),
        Err(Failed::Unknown { number: 1, .. })
    ));
    let removed = What::Remove {
        service: "fullnat-rr-tcp".to_owned(),
        real: "10.0.0.99:8000".parse().unwrap(),
        away: 1,
    };
    let removed = plan(1, QUIET, vec![at(1, removed)]);
    assert!(matches!(run(&three, &removed), Err(Failed::Unknown { .. })));
    let (_folder, four) = setup(config.clone(), 4, Ecmp::Plain);
    let few = run(&four, &kill(0));
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
    let (_folder, lost) = setup(lost, 1, Ecmp::Plain);
    assert!(matches!(run(&lost, &kill(0)), Err(Failed::NoRoute(_))));
    let mut none = config_of_none();
    none.services.clear();
    let (_folder, none) = setup(none, 1, Ecmp::Plain);
    assert!(matches!(run(&none, &kill(0)), Err(Failed::NoService)));
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

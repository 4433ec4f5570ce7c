//! `weir bench` measures what it says: a case runs, and every packet that should be forwarded is. That each flow has its
//! connection is asserted by the cases themselves.

mod skip;

use weir::bench::cases::CASES;

/// Runs a case's quick form.
fn check(name: &str) {
    let case = CASES.iter().find(|case| case.name == name).unwrap();
    let mut figures = Vec::new();
    (case.run)(true, &mut |figure| figures.push(figure));
    assert!(!figures.is_empty(), "no figures");
    for figure in figures {
        let (what, nanos) = (&figure.what, figure.nanos);
        assert_eq!(figure.case, name, "{what}");
        assert!(nanos.is_finite(), "{what}: {nanos} ns");
        // A full table may refuse a SYN; of what leads to nothing, nothing is forwarded.
        if what.contains("% forwarded") && !what.starts_with("SYNs to a full table") {
            let share = match name == "drops" && !what.starts_with("known") {
                true => ", 0 % forwarded",
                false => ", 100 % forwarded",
            };
            assert!(what.ends_with(share), "{what}");
        }
    }
}

macro_rules! cases {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        const CHECKED: &[&str] = &[$(stringify!($name)),*];
    };
}

cases! { known sizes both drops services routes large redirect tcp flood memory }

/// Millions of new connections, and the wall time of two threads: they take long in an unoptimised build.
const LONG: &[&str] = &["new", "publish", "gap"];

#[test]
fn every_case_is_checked_or_known_to_be_long() {
    for case in CASES {
        let name = case.name;
        assert!(CHECKED.contains(&name) != LONG.contains(&name), "{name}");
    }
}

/// Two threads that wait for each other on one CPU take turns at every look, not at the end of every time slice: 26,000 changes
/// would take minutes. (In an optimised build it takes seconds.)
#[test]
fn changes_are_measured_on_one_cpu_as_well() {
    let cpu = weir::command::cpus()[0].to_string();
    let done = std::process::Command::new("timeout")
        .args(["60", "taskset", "--cpu-list", &cpu])
        .args([
            env!("CARGO_BIN_EXE_weir"),
            "bench",
            "--quick",
            "--case",
            "publish",
        ])
        .output()
        .expect("taskset starts");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}");
    assert!(
        said.contains("a service removed, among 20000 services"),
        "{said}"
    );
}

/// scripts/bench: real weirs with one worker and with two, whose packets are all sent. That it runs, not how fast.
#[test]
fn several_workers_are_measured_beside_one() {
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
        return skip::skip("it takes two CPUs");
    }
    let top = env!("CARGO_MANIFEST_DIR");
    let done = std::process::Command::new(format!("{top}/scripts/bench"))
        .args(["--workers", "2", "--quick", "--rounds", "1", "--no-huge"])
        .args(["--weir", env!("CARGO_BIN_EXE_weir")])
        .output()
        .expect("scripts/bench starts");
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "{err}");
    assert!(out.contains("| weir, 2 workers |"), "{out}{err}");
}

/// scripts/bench: a bad figure misses its goal, a good one meets it.
#[test]
fn goals_are_held_against_figures_the_right_way_round() {
    let done = std::process::Command::new("/usr/bin/python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goals.py"))
        .output()
        .expect("python3 starts");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
}

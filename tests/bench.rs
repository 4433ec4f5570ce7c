//! `weir bench` measures what it says: a case runs, and every packet that should be forwarded is. That each flow has its
//! connection is asserted by the cases themselves.

mod skip;

use std::os::unix::fs::PermissionsExt;
use weir::bench::cases::CASES;

const TOP: &str = env!("CARGO_MANIFEST_DIR");

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

cases! { known ipv6 tunnel sizes both drops services routes large redirect tcp flood fragments errors memory schedulers acl limits toa proxy }

/// Millions of new connections, and the wall time of two threads: they take long in an unoptimised build.
const LONG: &[&str] = &["new", "publish", "gap"];

#[test]
fn every_case_is_checked_or_known_to_be_long() {
    for case in CASES {
        let name = case.name;
        assert!(CHECKED.contains(&name) != LONG.contains(&name), "{name}");
    }
}

/// Cases by one option or by several, of which one that is not there is named.
#[test]
fn an_unknown_case_is_named_whatever_stands_beside_it() {
    for cases in [
        &["--case", "toa,nonsense,proxy"][..],
        &["--case", "toa", "--case", "nonsense"],
    ] {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["bench", "--quick"])
            .args(cases)
            .output()
            .expect("weir starts");
        let err = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{err}");
        let told = "error: no case `nonsense`: there are known, ipv6, ";
        assert!(err.contains(told), "{err}");
        assert!(done.stdout.is_empty(), "nothing is measured");
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
    let done = std::process::Command::new(format!("{TOP}/scripts/bench"))
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

/// Runs scripts/bench briefly, in ordinary memory, beside testpmd; none where there is no testpmd, or one CPU only.
fn beside_testpmd(arguments: &[&str]) -> Option<std::process::Output> {
    let testpmd = std::process::Command::new("dpdk-testpmd")
        .arg("--version")
        .output();
    if testpmd.is_err() {
        skip::skip("it takes dpdk-testpmd");
        return None;
    }
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
        skip::skip("it takes two CPUs");
        return None;
    }
    let done = std::process::Command::new(format!("{TOP}/scripts/bench"))
        .args(["--quick", "--rounds", "1", "--no-huge"])
        .args(arguments)
        .output();
    Some(done.expect("scripts/bench starts"))
}

/// scripts/bench: another binary of weir in the same rounds, under a name of its own.
#[test]
fn a_second_binary_is_measured_beside_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("weir-other");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_weir"), &other).unwrap();
    let arguments = [
        "--case",
        "fullnat-1k-burst4",
        "--weir",
        env!("CARGO_BIN_EXE_weir"),
        "--against",
        other.to_str().unwrap(),
    ];
    let Some(done) = beside_testpmd(&arguments) else {
        return;
    };
    let out = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{done:?}");
    for told in [
        "| udp, polls of 4 | weir fullnat ",
        "| udp, polls of 4 | weir-other fullnat |",
        "| / weir-other |",
        "| fullnat udp, polls of 4 packets, net_pcap: cycles |",
        "Goals that were not measured:\n  fullnat udp, 1,000 flows, net_pcap: rate / 5tswap's: ",
    ] {
        assert!(out.contains(told), "{told}: {out}");
    }
}

/// scripts/bench: known TCP connections and UDP flows in random order, each packet forwarded.
#[test]
fn tcp_and_udp_are_measured_mixed_and_alone() {
    let arguments = [
        "--case",
        "fullnat-1k-mixed",
        "--weir",
        env!("CARGO_BIN_EXE_weir"),
    ];
    let Some(done) = beside_testpmd(&arguments) else {
        return;
    };
    let out = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{done:?}");
    for traffic in ["udp + tcp", "udp      ", "tcp      "] {
        let row = format!("| {traffic} | weir fullnat ");
        assert!(out.contains(&row), "{row}: {out}");
    }
    assert!(out.contains("cycles / the mean of both alone |"), "{out}");
}

/// scripts/bench: the same flows over both families and across, in the same rounds.
#[test]
fn both_families_are_measured_beside_each_other_and_across() {
    let arguments = [
        "--case",
        "fullnat-1k-ipv6",
        "--weir",
        env!("CARGO_BIN_EXE_weir"),
    ];
    let Some(done) = beside_testpmd(&arguments) else {
        return;
    };
    let out = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{done:?}");
    for traffic in [
        "IPv4        ",
        "IPv6        ",
        "IPv6 to IPv4",
        "IPv4 to IPv6",
    ] {
        let row = format!("| udp, {traffic} | weir fullnat ");
        assert!(out.contains(&row), "{row}: {out}");
    }
    let goal = "| fullnat, 1,000 flows, net_pcap: IPv6's cycles / IPv4's |";
    assert!(out.contains(goal), "{out}");
}

/// scripts/bench: a program that does not forward is tried twice; then what the others did is told all the same.
#[test]
fn what_was_measured_is_told_when_a_program_fails() {
    let folder = tempfile::tempdir().unwrap();
    let (broken, json) = (folder.path().join("weir"), folder.path().join("json"));
    std::fs::write(&broken, "#!/bin/sh\necho it is broken >&2\nexit 3\n").unwrap();
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
    let arguments = [
        "--case",
        "fullnat-1",
        "--weir",
        broken.to_str().unwrap(),
        "--json",
        json.to_str().unwrap(),
    ];
    let Some(done) = beside_testpmd(&arguments) else {
        return;
    };
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert_eq!(done.status.code(), Some(1), "{out}{err}");
    assert!(out.contains("| testpmd 5tswap "), "{out}{err}");
    assert_eq!(err.matches("once more").count(), 1, "{err}");
    let failure = "\nerror: weir fullnat: no API; it ended with 3:\nit is broken\n";
    assert!(err.ends_with(failure), "{err}");
    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(told["forwarding"][0]["program"], "testpmd io", "{told}");
    assert!(
        told["failure"].as_str().unwrap().contains("no API"),
        "{told}"
    );
}

#[test]
fn what_cannot_be_measured_is_an_error_at_once() {
    for arguments in [
        &["--against", "/no/such/weir"][..],
        &["--weir", "/no/such/weir"],
        &["--weir", "/etc/passwd"],
        &["--against", env!("CARGO_BIN_EXE_weir"), "--workers", "2"],
        &["--json", "/no/such/folder/figures"],
        &["--case", "dr-1", "--stages"],
    ] {
        let done = std::process::Command::new(format!("{TOP}/scripts/bench"))
            .args(arguments)
            .output()
            .expect("scripts/bench starts");
        let err = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{err}");
        let told = format!("error: {}: ", arguments[0]);
        assert!(err.contains(&told), "{err}");
    }
}

/// scripts/bench: one of the measurements that take the place of forwarding, and a case that it has.
#[test]
fn options_that_exclude_each_other_are_refused() {
    let bench = |arguments: &[&str]| {
        let done = std::process::Command::new(format!("{TOP}/scripts/bench"))
            .args(["--weir", env!("CARGO_BIN_EXE_weir")])
            .args(arguments)
            .output()
            .expect("scripts/bench starts");
        let err = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.code(), err)
    };
    for arguments in [
        ["--instructions", "--stages"].as_slice(),
        &["--stages", "--workers", "2"],
    ] {
        let (code, err) = bench(arguments);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains("not allowed with"), "{err}");
    }
    let (code, err) = bench(&["--case", "engine", "--instructions"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains("error: ") && !err.contains("Traceback"),
        "{err}"
    );
}

/// scripts/bench: a bad figure misses its goal, a good one meets it; what is measured again, and which packets are sent.
#[test]
fn the_parts_of_the_script_that_measure_nothing_do_what_they_say() {
    for tests in ["goals", "measuring"] {
        let done = std::process::Command::new("/usr/bin/python3")
            .arg(format!("{TOP}/tests/{tests}.py"))
            .output()
            .expect("python3 starts");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said}");
    }
}

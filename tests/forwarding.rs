//! `weir replay` against packets that scapy made and checksums that Python computed (tests/forwarding/run.py).

use std::process::Command;

fn run(arguments: &[&str]) {
    let status = Command::new("/usr/bin/python3")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/forwarding/run.py"
        ))
        .args(arguments)
        .env("WEIR", env!("CARGO_BIN_EXE_weir"))
        .status()
        .expect("Debian's python3 runs: apt-get install python3 python3-scapy");
    assert!(status.success(), "see the cases above");
}

#[test]
fn captures_in_give_the_captures_out_that_scapy_expects() {
    run(&[]);
}

#[test]
#[ignore = "more of the same: scripts/test --full runs it; one worker, four, and bursts run by default"]
fn two_workers_do_as_one_does() {
    run(&["--workers", "2"]);
}

#[test]
fn four_workers_do_as_one_does() {
    run(&["--workers", "4"]);
}

#[test]
#[ignore = "more of the same: scripts/test --full runs it; one worker, four, and bursts run by default"]
fn seven_workers_do_as_one_does() {
    run(&["--workers", "7"]);
}

#[test]
fn bursts_do_as_single_packets_do() {
    run(&["--burst", "32"]);
}

#[test]
#[ignore = "more of the same: scripts/test --full runs it; one worker, four, and bursts run by default"]
fn bursts_of_four_workers_do_as_single_packets_do() {
    run(&["--workers", "4", "--burst", "32"]);
}

#[test]
fn every_drop_reason_has_a_case() {
    run(&["--reasons"]);
}

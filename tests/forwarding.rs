//! `weir replay` against packets that scapy made and checksums that Python computed (tests/forwarding/run.py).

use std::process::Command;

/// Each case once for each of these numbers of workers and bursts; and every drop reason has a case.
fn run(ways: &str) {
    let status = Command::new("/usr/bin/python3")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/forwarding/run.py"
        ))
        .args(["--ways", ways])
        .env("WEIR", env!("CARGO_BIN_EXE_weir"))
        .status()
        .expect("Debian's python3 runs: apt-get install python3 python3-scapy");
    assert!(status.success(), "see the cases above");
}

#[test]
fn captures_in_give_the_captures_out_that_scapy_expects() {
    run("1x1,4x1,1x32");
}

#[test]
#[ignore = "more of the same, with other numbers of workers and bursts: scripts/test --full runs it"]
fn no_number_of_workers_and_no_burst_changes_what_becomes_of_a_packet() {
    run("2x1,7x1,4x32");
}

//! The memory of a daemon with many services.

use super::daemon::{Daemon, Lab};
use std::fmt::Write;

const SERVICES: u32 = 20_000;

/// As many services of eight real servers, of this weight; one of them of another.
fn config(lab: &Lab, weight: u16, other: u16) -> String {
    let mut text = lab.config("", 3);
    for n in 0..SERVICES {
        let vip = std::net::Ipv4Addr::from_bits(0xc612_0000 + n);
        let _ = write!(
            text,
            "\n[[service]]\naddress = \"{vip}\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\nscheduler = \"wrr\"\n"
        );
        for last in 1..=8 {
            let its = if (n, last) == (SERVICES / 2, 4) {
                other
            } else {
                weight
            };
            let real = std::net::Ipv4Addr::from_bits(0x0a00_0010 + (n * 8 + last) % 150);
            let _ = writeln!(
                text,
                "[[service.real]]\naddress = \"{real}\"\nweight = {its}"
            );
        }
    }
    text
}

#[test]
fn reloads_do_not_make_the_daemon_larger() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &config(&lab, 1, 1));
    let reload = |weight, other, wanted: &str| {
        lab.write("lb.toml", &config(&lab, weight, other));
        let done = daemon.tool(&["reload"]);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(said.contains(wanted), "{done:?}");
        daemon.resident_kib()
    };
    let start = daemon.resident_kib();
    // One weight, then all of them: nothing of the former services is left.
    let ones: Vec<_> = (2..5)
        .map(|other| reload(1, other, " 1 reweighted"))
        .collect();
    let all: Vec<_> = (2..6)
        .map(|weight| reload(weight, weight, " 160000 reweighted"))
        .collect();
    let sizes = format!("{start} KiB, after one weight {ones:?}, after all {all:?}");
    assert!(ones[2] * 4 <= start * 5, "{sizes}");
    assert!(ones[2] * 10 <= ones[0] * 11, "{sizes}");
    assert!(all[3] * 10 <= all[0] * 12, "{sizes}");
    assert!(all[3] * 2 <= start * 3, "{sizes}");
    // What is refused is read as a whole, to say why, and nothing of that stays.
    let wrong = config(&lab, 5, 5) + "\n[[service]]\nadress = 1\n";
    lab.write("lb.toml", &wrong);
    for command in [&["reload"][..], &["plan", "lb.toml"]] {
        let refused = daemon.tool(command);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let after = daemon.resident_kib();
        assert!(after * 10 <= all[3] * 12, "{sizes}, {command:?} {after}");
    }
    daemon.stop();
}

/// Answers use the memory of those before: what goes back to the kernel interrupts every worker.
#[test]
fn answers_take_no_memory_anew() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &config(&lab, 1, 1));
    let ask = || {
        let before = daemon.page_faults();
        assert!(
            daemon
                .tool(&["show", "services", "--json"])
                .status
                .success()
        );
        daemon.page_faults() - before
    };
    ask();
    let mut faults = [ask(), ask(), ask()];
    faults.sort_unstable();
    // An answer has tens of megabytes. Something else may take memory beside one of them.
    assert!(faults[1] < 1000, "{faults:?}");
    daemon.stop();
}

//! A log that cannot be written, a reader that does not read, and panics: nothing of that ends or delays weir.

use super::daemon::{Daemon, Lab, weir_into};
use super::skip::skip;
use super::{arp_request, samples, syns};
use std::fs::File;
use std::io::{PipeReader, Read, Write, pipe};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A line a second at the very least: another host claims the VIP again and again.
fn claims() -> Vec<Vec<u8>> {
    vec![arp_request(super::VIP, [198, 51, 100, 1]); 2000]
}

struct Case {
    name: &'static str,
    /// What stderr is, and what the test keeps of it until the end.
    stderr: fn() -> (Stdio, Option<PipeReader>),
    /// Whether lines are lost.
    loses: bool,
}

const CASES: &[Case] = &[
    Case {
        name: "a full disk",
        stderr: || {
            (
                File::options()
                    .write(true)
                    .open("/dev/full")
                    .unwrap()
                    .into(),
                None,
            )
        },
        loses: true,
    },
    Case {
        name: "a pipe whose reader is gone",
        stderr: || (pipe().unwrap().1.into(), None),
        loses: true,
    },
    Case {
        name: "a full pipe that is not read",
        stderr: || {
            let (reader, mut writer) = pipe().unwrap();
            writer.write_all(&[b'\n'; 1 << 16]).unwrap();
            (writer.into(), Some(reader))
        },
        loses: false,
    },
];

#[test]
fn a_log_that_cannot_be_written_keeps_weir_from_nothing() {
    for case in CASES {
        let lab = Lab::new();
        lab.receives("wan", &claims());
        let (stderr, reader) = (case.stderr)();
        let daemon = Daemon::start_with_log(&lab, &lab.config("", 3), stderr);
        let name = case.name;
        daemon.wait(|daemon| {
            let metrics = samples(&daemon.get("/metrics"));
            let lost = metrics["weir_log_lost_lines_total"];
            (metrics["weir_received_packets_total{worker=\"0\"}"] == 2000.0
                && (lost > 0.0) == case.loses)
                .then_some(())
        });
        lab.write("lb.toml", &lab.config("", 5));
        assert!(daemon.tool(&["reload"]).status.success(), "{name}");
        lab.write("lb.toml", &lab.config("", 7));
        daemon.signal("HUP");
        daemon.wait(|daemon| (daemon.show("reals")[0]["weight"] == 7).then_some(()));
        assert_eq!(daemon.get("/health"), "ok\n", "{name}");
        assert_eq!(daemon.get("/ready"), "ok\n", "{name}");
        let began = Instant::now();
        let status = daemon.end("TERM");
        assert_eq!(status.code(), Some(0), "{name}: {status}");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "{name}: {took:?}");
        if let Some(mut reader) = reader {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert!(!text.contains("panic"), "{text}");
        }
    }
}

/// A file system of 64 KiB in a mount namespace of its own, which lives as long as this.
struct SmallDisk(Child);

impl SmallDisk {
    fn new(lab: &Lab) -> SmallDisk {
        let mount = "mount -t tmpfs -o size=64k none \"$0\" && echo mounted && read line";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", mount])
            .arg(lab.path(""));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut disk = SmallDisk(command.spawn().unwrap());
        let mut word = [0; 7];
        let stdout = disk.0.stdout.as_mut().unwrap();
        stdout.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"mounted");
        disk
    }

    /// As the namespace sees a file of the lab's folder.
    fn path(&self, lab: &Lab, name: &str) -> String {
        format!("/proc/{}/root{}", self.0.id(), lab.path(name).display())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_a_full_disk_has_lost_of_the_log_is_told_when_there_is_room() {
    if !rustix::process::getuid().is_root() {
        return skip("mounting takes root");
    }
    let lab = Lab::new();
    lab.receives("wan", &claims());
    let disk = SmallDisk::new(&lab);
    let log = File::create(disk.path(&lab, "log")).unwrap();
    let ballast = disk.path(&lab, "ballast");
    // One page is left: for the first lines of the start.
    std::fs::write(&ballast, vec![0; 60 << 10]).unwrap();
    let daemon = Daemon::start_with_log(&lab, &lab.config("", 3), log.into());
    let lost = |daemon: &Daemon| samples(&daemon.get("/metrics"))["weir_log_lost_lines_total"];
    // Each refusal is a line: the page is full soon.
    daemon.wait(|daemon| {
        let _ = daemon.request("POST /v1/nothing HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
        lab.write("lb.toml", &lab.config("", 3));
        assert!(daemon.tool(&["reload"]).status.success());
        (lost(daemon) > 0.0).then_some(())
    });
    assert_eq!(daemon.get("/health"), "ok\n");
    assert_eq!(daemon.get("/ready"), "ok\n");
    lab.write("lb.toml", &lab.config("", 7));
    daemon.signal("HUP");
    daemon.wait(|daemon| (daemon.show("reals")[0]["weight"] == 7).then_some(()));
    std::fs::remove_file(ballast).unwrap();
    daemon.wait(|daemon| {
        assert!(
            daemon
                .tool(&["drain", "web", "10.0.0.11:8080"])
                .status
                .success()
        );
        let text = std::fs::read_to_string(disk.path(&lab, "log")).unwrap();
        text.contains("lost").then_some(())
    });
    let began = Instant::now();
    let status = daemon.end("TERM");
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(began.elapsed() < Duration::from_secs(1));
    let text = std::fs::read_to_string(disk.path(&lab, "log")).unwrap();
    assert!(
        text.ends_with("stopped\n") && !text.contains("panic"),
        "{text}"
    );
}

#[test]
fn a_daemon_that_does_not_start_does_not_wait_for_its_reader_either() {
    for case in CASES {
        let lab = Lab::new();
        let config = lab.config("", 3).replace("lan.in.pcap", "nowhere.pcap");
        let file = lab.write("lb.toml", &config);
        let (stderr, _reader) = (case.stderr)();
        let began = Instant::now();
        let arguments = ["run", "--config", file.to_str().unwrap()];
        let status = weir_into(&arguments, Stdio::null(), stderr);
        assert_eq!(status.code(), Some(1), "{}", case.name);
        assert!(began.elapsed() < Duration::from_secs(10), "{}", case.name);
    }
}

#[test]
fn a_flood_writes_few_lines_and_names_who_claims_what() {
    let lab = Lab::new();
    lab.receives("wan", &claims());
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    daemon.wait(|daemon| daemon.log().contains("claims an address").then_some(()));
    let log = daemon.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("claims an"))
        .collect();
    assert!(lines.len() <= 2, "{log}");
    for word in ["address=192.0.2.80", "mac=02:00:00:00:09:07", "port=wan"] {
        assert!(lines[0].contains(word), "{word}: {}", lines[0]);
    }
    // Its real server, 10.0.0.99, is not known to be silent: weir has not asked yet.
    assert!(!log.contains("is down"), "{log}");
    daemon.stop();
}

#[test]
fn commands_whose_reader_has_seen_enough_end_quietly() {
    let lab = Lab::new();
    lab.receives("wan", &syns(100));
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let file = lab.path("lb.toml");
    let (file, api) = (file.to_str().unwrap(), lab.api());
    let commands: &[&[&str]] = &[
        &["check", file],
        &["plan", file, "--api", &api],
        &["reload", "--api", &api],
        &["show", "connections", "--api", &api],
        &["show", "services", "--json", "--api", &api],
        &["show", "reals", "--api", &api],
        &["drain", "web", "10.0.0.11:8080", "--api", &api],
        &["replay", "--config", file, "--rx", "wan=", "--json"],
        &["--help"],
        &["show", "--help"],
        &["--version"],
    ];
    for command in commands {
        let errors = tempfile::tempfile().unwrap();
        let closed = pipe().unwrap().1;
        let rx = format!("wan={}", lab.path("wan.in.pcap").display());
        let command: Vec<_> = command
            .iter()
            .map(|word| if *word == "wan=" { &rx } else { *word })
            .collect();
        let status = weir_into(&command, closed.into(), errors.try_clone().unwrap().into());
        let text = text_of(errors);
        assert_eq!(status.code(), Some(141), "{command:?}: {text}");
        // A replay says what it has done, on stderr.
        assert!(
            text.is_empty() || command[0] == "replay",
            "{command:?}: {text}"
        );
        assert!(!text.contains("panicked"), "{command:?}: {text}");

        let errors = tempfile::tempfile().unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let status = weir_into(&command, full.into(), errors.try_clone().unwrap().into());
        let text = text_of(errors);
        assert_eq!(status.code(), Some(1), "{command:?}: {text}");
        assert!(
            text.contains("stdout cannot be written: No space left"),
            "{command:?}: {text}"
        );
    }
    // A closed stderr takes nothing from what a command does.
    for arguments in [
        &["check", "/nowhere.toml"][..],
        &["show", "routes", "--api", "unix:/nowhere"],
    ] {
        let closed = pipe().unwrap().1;
        let status = weir_into(arguments, Stdio::null(), closed.into());
        assert_eq!(status.code(), Some(1), "{arguments:?}");
    }
    daemon.stop();
}

fn text_of(mut file: File) -> String {
    use std::io::Seek;
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// Two ports that receive the same SYNs for ever, and throw away what they send.
fn forwards(lab: &Lab) -> String {
    lab.receives("wan", &syns(12));
    let directory = lab.path("").display().to_string();
    let config = lab.config("", 3);
    config
        .replace(
            &format!(",tx_pcap={directory}wan.out.pcap"),
            ",infinite_rx=1",
        )
        .replace(&format!(",tx_pcap={directory}lan.out.pcap"), "")
}

fn health(daemon: &Daemon) -> (u16, String) {
    daemon.request("GET /health HTTP/1.0\r\n\r\n")
}

/// Waits until more packets are forwarded than now.
fn still_forwards(daemon: &Daemon) {
    let sent = || samples(&daemon.get("/metrics"))["weir_transmitted_packets_total{worker=\"0\"}"];
    let before = sent();
    daemon.wait(|_| (sent() > before).then_some(()));
}

#[test]
fn a_panic_ends_its_own_request_and_neither_forwarding_nor_what_comes_later() {
    if !cfg!(debug_assertions) {
        // A release has no way to inject one.
        return;
    }
    let lab = Lab::new();
    let config = forwards(&lab);
    let daemon = Daemon::start(&lab, &config);
    still_forwards(&daemon);
    let mut panics = 0;
    for (place, answer) in [
        ("handler", 500),
        ("question", 500),
        ("body", 200),
        ("task", 200),
    ] {
        let (status, body) = daemon.inject(place);
        assert_eq!(status, answer, "{place}: {body}");
        if answer == 500 {
            assert!(body.contains("its log says where"), "{place}: {body}");
        }
        panics += 1;
        daemon.wait(|daemon| {
            let metrics = samples(&daemon.get("/metrics"));
            (metrics["weir_panics_total"] == f64::from(panics)).then_some(())
        });
        let line = format!("panic: injected into a {place}");
        daemon.wait(|daemon| daemon.log().contains(&line).then_some(()));
        let (status, text) = health(&daemon);
        assert_eq!(
            (status, text),
            (
                200,
                format!("ok; panics since the start: {panics}, see the log\n")
            )
        );
        still_forwards(&daemon);
    }
    // Nothing was half-changed: changes are made as before.
    lab.write("lb.toml", &config.replace("weight = 3", "weight = 5"));
    assert!(daemon.tool(&["reload"]).status.success());
    daemon.stop();
}

#[test]
fn a_panic_in_a_change_or_a_turn_is_told_by_health_and_stops_changes_only() {
    if !cfg!(debug_assertions) {
        return;
    }
    for (place, answer) in [("change", 500), ("turn", 200)] {
        let lab = Lab::new();
        let daemon = Daemon::start(&lab, &forwards(&lab));
        assert_eq!(daemon.inject(place).0, answer, "{place}");
        let text = daemon.wait(|daemon| {
            let (status, text) = health(daemon);
            (status == 503).then_some(text)
        });
        assert!(
            text.contains("forwarding goes on") && text.contains("restarted"),
            "{text}"
        );
        assert_eq!(
            daemon.get("/ready"),
            "ok; panics since the start: 1, see the log\n"
        );
        still_forwards(&daemon);
        assert_eq!(daemon.show("reals")[0]["weight"], 3);
        for command in [
            &["reload"][..],
            &["drain", "web", "10.0.0.11:8080"],
            &["remove", "web"],
        ] {
            let refused = super::refused(&daemon.tool(command));
            assert!(
                refused.contains("nothing has changed"),
                "{command:?}: {refused}"
            );
        }
        assert_eq!(daemon.show("reals")[0]["weight"], 3);
        daemon.stop();
    }
}

#[test]
fn a_control_thread_that_panics_in_every_turn_hangs_and_says_so() {
    if !cfg!(debug_assertions) {
        return;
    }
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &forwards(&lab));
    assert_eq!(daemon.inject("turns").0, 200);
    daemon.wait(|daemon| {
        health(daemon)
            .1
            .contains("panics in every turn")
            .then_some(())
    });
    still_forwards(&daemon);
    let log = daemon.log();
    let lines = log.matches("panic: injected into a turn").count();
    assert!((1..=6).contains(&lines), "{log}");
    daemon.stop();
}

#[test]
fn a_panic_of_the_companions_thread_ends_the_hosts_way_and_not_forwarding() {
    if !cfg!(debug_assertions) || !rustix::process::getuid().is_root() {
        return skip("it takes root, and a weir whose panics can be injected");
    }
    let lab = Lab::new();
    let mac = "mac = \"02:00:00:00:00:01\"";
    let config = forwards(&lab).replace(mac, &format!("{mac}\ncompanion = \"wan0\""));
    let daemon = Daemon::start_in_namespace(&lab, &config, "");
    still_forwards(&daemon);
    assert_eq!(health(&daemon), (200, "ok\n".to_owned()));
    assert_eq!(daemon.inject("companions").0, 200);
    let text = daemon.wait(|daemon| {
        let (status, text) = health(daemon);
        (status == 503).then_some(text)
    });
    assert!(
        text.contains("the companions' thread panicked") && text.contains("forwarding goes on"),
        "{text}"
    );
    let log = daemon.log();
    assert!(
        log.contains("panic: injected into the companions' thread"),
        "{log}"
    );
    assert_eq!(samples(&daemon.get("/metrics"))["weir_panics_total"], 1.0);
    // What comes for the host meanwhile is dropped, and keeps no worker from anything.
    still_forwards(&daemon);
    lab.write("lb.toml", &config.replace("weight = 3", "weight = 5"));
    assert!(daemon.tool(&["reload"]).status.success());
    assert_eq!(daemon.show("reals")[0]["weight"], 5);
    daemon.stop();
}

//! A daemon or a tool that is killed at any moment: what lies on the disk is from before a change or from after it, never a part.

use super::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SERVICE: &str = "tcp:192.0.2.80:80";
const REALS: [&str; 2] = ["10.0.0.11:8080", "10.0.0.12:8080"];

/// Gives the real servers weights in turns, each one more than the one before, until the daemon is gone. `next`: the next weight.
fn weigh_on(socket: &Path, next: &AtomicU64) {
    loop {
        let weight = next.load(Ordering::SeqCst);
        let real = REALS[weight as usize % 2];
        let body = format!(r#"{{"service":"{SERVICE}","real":"{real}","weight":{weight}}}"#);
        let request = format!(
            "POST /v1/weight HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut answer = String::new();
        let asked = UnixStream::connect(socket).and_then(|mut stream| {
            stream.write_all(request.as_bytes())?;
            stream.read_to_string(&mut answer)
        });
        if asked.is_err() || answer.is_empty() {
            return;
        }
        assert!(answer.contains(" 200 "), "{answer}");
        next.fetch_add(1, Ordering::SeqCst);
    }
}

/// Weights by operators; 0: none.
fn weights(daemon: &Daemon) -> [u64; 2] {
    let rows = daemon.show("reals");
    REALS.map(|real| {
        let row = rows
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["real"] == real);
        row.unwrap()["runtime_weight"].as_u64().unwrap_or(0)
    })
}

#[test]
fn a_killed_daemon_comes_back_with_what_operators_had_said_up_to_some_moment() {
    let lab = Lab::new();
    let state = lab.path("state.json");
    let config = lab.config(&format!("state_file = \"{}\"", state.display()), 5);
    let next = AtomicU64::new(1);
    let mut kept = 0;
    for round in 0..5 {
        let begun = next.load(Ordering::SeqCst);
        let daemon = Daemon::start(&lab, &config);
        std::thread::scope(|scope| {
            scope.spawn(|| weigh_on(&lab.path("weir.sock"), &next));
            daemon.wait(|_| (next.load(Ordering::SeqCst) >= begun + 10 + 7 * round).then_some(()));
            daemon.end("KILL");
        });
        let daemon = Daemon::start(&lab, &config);
        let log = daemon.log();
        let is_warned = |line: &str| line.contains(" WARN ") && line.contains("state_file");
        assert!(!log.lines().any(is_warned), "{log}");
        let [even, odd] = weights(&daemon);
        // One edit after the other, without a gap; the last one may have come without an answer.
        let last = even.max(odd);
        assert!(even.abs_diff(odd) == 1 || last == 0, "{even} {odd}");
        assert!(last <= next.load(Ordering::SeqCst), "{even} {odd}");
        kept += u64::from(last >= begun);
        next.store(last + 1, Ordering::SeqCst);
        daemon.stop();
    }
    assert!(kept > 0, "nothing was ever kept");
}

#[test]
fn a_killed_tool_leaves_the_file_as_it_was_or_as_it_is_to_be() {
    let lab = Lab::new();
    let text = lab.config("# The head.", 77);
    let daemon = Daemon::start(&lab, &text);
    let (file, api) = (lab.path("lb.toml"), lab.api());
    let with = |weight: u32| text.replace("weight = 77", &format!("weight = {weight}"));
    let arguments = |weight: &str| -> Vec<String> {
        let words = ["weight", SERVICE, REALS[0], weight, "--save", "--api", &api];
        words.map(str::to_owned).to_vec()
    };
    let mut before = 77;
    let reload = || {
        let reloaded = weir(&["reload", "--api", &api]);
        assert!(reloaded.status.success(), "{reloaded:?}");
    };
    for weight in 100..116 {
        // The one before may have ended between the daemon and the file.
        reload();
        let mut tool = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments(&weight.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(2) * (1 << ((weight - 100) / 2)));
        let _ = tool.kill();
        tool.wait().unwrap();
        let found = std::fs::read_to_string(&file).unwrap();
        let now = [before, weight]
            .into_iter()
            .find(|weight| found == with(*weight));
        before = now.unwrap_or_else(|| panic!("{found}"));
        let checked = weir(&["check", file.to_str().unwrap()]);
        assert!(checked.status.success(), "{checked:?}");
    }
    reload();
    let last = arguments("200");
    let last: Vec<&str> = last.iter().map(String::as_str).collect();
    let saved = weir(&last);
    assert!(saved.status.success(), "{saved:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), with(200));
    daemon.stop();
}

/// A file in memory that goes with its test.
struct Shared(std::path::PathBuf);

impl Shared {
    fn new(name: &str) -> Self {
        let name = format!("weir-test-{}-{name}", std::process::id());
        Shared(Path::new("/dev/shm").join(name))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_killed_daemon_comes_back_with_its_connections() {
    let lab = Lab::new();
    let kept = Shared::new("connections");
    let config = lab.config(&format!("connections_file = {:?}", kept.0), 5);
    lab.receives("wan", &syns(12));
    let daemon = Daemon::start(&lab, &config);
    daemon.wait(|daemon| {
        let rows = daemon.show("connections");
        (rows.as_array().unwrap().len() == 12).then_some(())
    });
    // It is this one's alone.
    let other = config.replace("weir.sock", "other.sock");
    let why = refused(&lab.run(&other));
    assert!(why.contains("another weir has it"), "{why}");
    let ends = |daemon: &Daemon| {
        let rows = daemon.show("connections");
        let rows = rows.as_array().unwrap().iter();
        let end = |row: &Value| ["client", "local", "real"].map(|key| row[key].to_string());
        let mut ends: Vec<_> = rows.map(end).collect();
        ends.sort();
        ends
    };
    let before = ends(&daemon);
    daemon.end("KILL");
    lab.receives("wan", &[]);
    for last in [false, true] {
        let daemon = Daemon::start(&lab, &config);
        assert_eq!(ends(&daemon), before);
        let log = daemon.log();
        let line = "connections from before the restart go on connections=12 templates=0";
        assert!(log.contains(line), "{log}");
        // It cannot change while weir runs.
        lab.write("lb.toml", &lab.config("", 5));
        let refused = daemon.tool(&["reload"]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            said.contains("connections_file cannot change while weir runs"),
            "{said}"
        );
        match last {
            false => drop(daemon.end("KILL")),
            true => daemon.stop(),
        }
    }
    // Of another version: a clear word, and a clean start.
    let file = std::fs::File::options().write(true).open(&kept.0).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[99], 8).unwrap();
    drop(file);
    let daemon = Daemon::start(&lab, &config);
    let log = daemon.log();
    assert!(
        log.contains("its layout is version 99, and this weir reads"),
        "{log}"
    );
    assert!(ends(&daemon).is_empty());
    daemon.stop();
}

#[test]
fn connections_are_kept_in_memory_only() {
    let lab = Lab::new();
    for (file, why) in [
        (
            "/proc/connections",
            "name a file in memory, on tmpfs or hugetlbfs",
        ),
        ("/dev/shm/none/of/these", "No such file or directory"),
        ("/dev/shm", "Is a directory"),
    ] {
        let config = lab.config(&format!("connections_file = {file:?}"), 5);
        let refused = refused(&lab.run(&config));
        assert!(
            refused.contains("connections_file") && refused.contains(why),
            "{refused}"
        );
    }
}

//! `weir show events`: what has happened, and what happens.

use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn events(daemon: &Daemon, arguments: &[&str]) -> Vec<Value> {
    let output = daemon.tool(&[&["show", "events", "--json"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    rows.as_array().unwrap().clone()
}

#[test]
fn events_are_the_logs_lines_by_kind_and_number() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    daemon.tool(&["drain", "web", "10.0.0.11:8080"]);
    daemon.tool(&["reload"]);
    let all = events(&daemon, &[]);
    let numbers: Vec<u64> = all
        .iter()
        .map(|event| event["n"].as_u64().unwrap())
        .collect();
    assert!(numbers.is_sorted() && numbers[0] == 1, "{numbers:?}");
    let lines = daemon.log();
    for event in &all {
        let message = event["message"].as_str().unwrap();
        assert!(
            lines.contains(message),
            "{message:?} is in the log: {lines}"
        );
    }
    let changes = events(&daemon, &["--kind", "change"]);
    assert!(
        changes.len() >= 2 && changes.len() < all.len(),
        "{changes:?}"
    );
    let drained = changes
        .iter()
        .find(|event| event["fields"]["real"] == "10.0.0.11:8080");
    assert_eq!(drained.unwrap()["fields"]["service"], "web", "{changes:?}");
    let last = events(&daemon, &["--kind", "change", "--limit", "1"]);
    assert_eq!(last, changes[changes.len() - 1..]);
    let is_reload = |event: &Value| event["message"].as_str().unwrap().starts_with("reloaded: ");
    assert!(changes.iter().any(is_reload), "{changes:?}");
    // As text, a line each.
    let text = daemon.tool(&["show", "events"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains(" INFO  change    reloaded: "), "{text}");
    assert!(text.lines().count() >= all.len(), "{text}");

    let text = refused(&daemon.tool(&["show", "events", "--kind", "weather"]));
    assert!(
        text.contains("no events of kind \"weather\", but: address, change,"),
        "{text}"
    );
    let text = refused(&daemon.tool(&["show", "ports", "--follow"]));
    assert_eq!(
        text,
        "error: `weir show ports` has no --follow: events have it\n"
    );
    daemon.stop();
}

#[test]
fn followers_hear_events_as_they_happen_and_go_on_where_they_were() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let mut tool = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args([
            "show", "events", "--json", "--follow", "--kind", "change", "--limit", "0",
        ])
        .args(["--api", &lab.api()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tool.stdout.take().unwrap()).lines();
    // It may not listen yet: until it hears of one.
    let changes = std::thread::scope(|scope| {
        let heard = scope.spawn(|| lines.next().unwrap().unwrap());
        let mut changes = 0;
        while !heard.is_finished() {
            daemon.tool(&[
                "weight",
                "web",
                "10.0.0.11:8080",
                &format!("{}", changes % 7 + 1),
            ]);
            changes += 1;
            assert!(changes < 100, "it hears of none");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let event: Value = serde_json::from_str(&heard.join().unwrap()).unwrap();
        assert_eq!(event["kind"], "change", "{event}");
        changes
    });
    assert!(changes > 0);
    tool.kill().unwrap();
    tool.wait().unwrap();

    // A browser's reader, which says what it has heard last; and one from before a restart.
    let socket = lab.path("weir.sock");
    let all = events(&daemon, &[]);
    let beyond = all.len() as u64 - 2;
    for (last, first) in [(beyond, beyond + 1), (1_000_000, 1)] {
        let output = Command::new("curl")
            .args([
                "--silent",
                "--max-time",
                "1",
                "--unix-socket",
                socket.to_str().unwrap(),
            ])
            .args(["--header", "Accept: text/event-stream"])
            .args(["--header", &format!("Last-Event-ID: {last}")])
            .arg("http://localhost/v1/events")
            .output()
            .expect("curl starts: scripts/setup test");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.starts_with("id: ") || text.contains("\nid: "),
            "{text}"
        );
        let id = text.lines().find_map(|line| line.strip_prefix("id: "));
        assert_eq!(id.unwrap().parse(), Ok(first), "{text}");
    }

    // So many at once, and no more.
    let mut followers: Vec<_> = (0..20)
        .map(|_| {
            Command::new("curl")
                .args(["--silent", "--fail", "--max-time", "20"])
                .args(["--unix-socket", socket.to_str().unwrap()])
                .arg("http://localhost/v1/events?follow=true")
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let refused = daemon.wait(|_| {
        let ended = followers.iter_mut().filter_map(|it| it.try_wait().unwrap());
        let refused = ended.filter(|status| status.code() == Some(22)).count();
        (refused >= 4).then_some(refused)
    });
    assert_eq!(refused, 4);
    for mut follower in followers {
        let _ = follower.kill();
        follower.wait().unwrap();
    }
    // Their places are free again.
    daemon.wait(|daemon| {
        let (status, _) = daemon.request("GET /v1/events?limit=0 HTTP/1.0\r\n\r\n");
        (status == 200).then_some(())
    });
    daemon.stop();
}

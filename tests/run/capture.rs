//! `weir capture`, `weir trace` and `/v1/capture` against a daemon that receives without end.

use super::openapi::{JSON, ask};
use super::*;
use serde_json::json as object;
use std::io::Write;
use std::os::unix::net::UnixStream;
use weir::io::pcap::Capture;

/// A daemon whose wan receives these packets over and over: none of them is for weir, so that nothing is sent for them.
fn flooded(lab: &Lab) -> Daemon {
    let frames: Vec<_> = (0..64)
        .map(|n| {
            let destination = if n % 2 == 0 { 98 } else { 99 };
            tcp(
                ([203, 0, 113, n], 1000),
                ([192, 0, 2, destination], 80),
                SYN,
                64,
            )
        })
        .collect();
    lab.receives("wan", &frames);
    let config = lab.config("", 3);
    let config = config.replacen("tx_pcap=", "infinite_rx=1,tx_pcap=", 1);
    Daemon::start(lab, &config)
}

fn told(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The number before some words of a summary.
fn number(text: &str, words: &str) -> u64 {
    let before = text.split(words).next().unwrap();
    let last = before.split_whitespace().next_back().unwrap();
    last.parse().unwrap_or_else(|_| panic!("{words} in {text}"))
}

#[test]
fn a_capture_under_a_flood_is_bounded_and_says_what_it_left_out() {
    let lab = Lab::new();
    let daemon = flooded(&lab);
    let file = lab.path("out.pcapng");
    let path = file.to_str().unwrap();
    let capture = |more: &[&str]| {
        let output = daemon.tool(&[&["capture", "-w", path][..], more].concat());
        assert!(output.status.success(), "{output:?}");
        let bytes = std::fs::read(&file).unwrap();
        (told(&output), Capture::parse(bytes).unwrap())
    };
    // By number.
    let (text, read) = capture(&["--count", "50", "host", "192.0.2.98"]);
    assert_eq!(read.frames().len(), 50);
    assert_eq!(number(&text, " written"), 50, "{text}");
    for (_, frame) in read.frames() {
        assert_eq!(frame[30..34], [192, 0, 2, 98]);
        assert_eq!(frame.len(), 54);
    }
    // By rate and time: a second's packets at first, and those of two seconds.
    let (text, read) = capture(&["--rate", "100", "--seconds", "2", "tcp"]);
    let frames = read.frames().len();
    assert!((200..=310).contains(&frames), "{frames}: {text}");
    assert!(
        text.contains("left out, above --rate") && text.contains("ended by --seconds"),
        "{text}"
    );
    assert!(number(&text, " packets matched") >= frames as u64, "{text}");
    // By size, in MiB.
    let (text, _) = capture(&["--rate", "1000000", "--size", "1"]);
    let length = file.metadata().unwrap().len();
    assert!(
        length <= 1 << 20 && length > (1 << 20) - 1000,
        "{length}: {text}"
    );
    assert!(text.contains("ended by --size"), "{text}");
    // Frames of which only a part is kept.
    let (_, read) = capture(&["--count", "1", "-s", "20"]);
    assert_eq!(read.frames().next().unwrap().1.len(), 20);
    // By no filter and by one that nothing matches.
    let (text, read) = capture(&["--seconds", "1", "udp"]);
    assert_eq!(read.frames().len(), 0, "{text}");
    assert!(text.starts_with("0 packets matched of "), "{text}");
    daemon.stop();
}

#[test]
fn what_is_asked_of_a_capture_is_checked() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let end = [0x06, 0, 0, 1];
    for (body, status, why) in [
        (object!({ "program": [] }), 400, "empty"),
        (
            object!({ "program": [[0x05, 0, 0, 4_000_000_000u32], end] }),
            400,
            "instruction 0",
        ),
        (
            object!({ "program": [[0xff, 0, 0, 0], end] }),
            400,
            "classic BPF",
        ),
        (
            object!({ "program": vec![end; 2000] }),
            400,
            "2000 instructions",
        ),
        (object!({ "program": [[0, 0, 0, 0]] }), 400, "return"),
        (object!({ "program": [[70_000, 0, 0, 0]] }), 400, "70000"),
        (object!({ "seconds": 0 }), 400, "seconds"),
        (object!({ "seconds": 90_000 }), 400, "86400"),
        (object!({ "rate": 0 }), 400, "rate"),
        (object!({ "share": 101 }), 400, "share"),
        (object!({ "snaplen": 0 }), 400, "snaplen"),
        (object!({ "count": 0 }), 400, "count"),
        (object!({ "filter": "x".repeat(5000) }), 400, "4096"),
        (object!({ "filtre": "x" }), 400, "filtre"),
        (object!({ "seconds": 1 }), 200, "\"end\""),
    ] {
        let answer = ask(
            &lab,
            "POST /v1/capture",
            Some(JSON),
            body.to_string().as_bytes(),
        );
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.body.contains(why), "{body}: {}", answer.body);
    }
    for (filter, why) in [
        ("tcp prot 80", "can't parse filter expression: syntax error"),
        ("ip6 protochain 6", "protochain"),
    ] {
        let file = lab.path("none.pcapng");
        let output = daemon.tool(&["capture", "-w", file.to_str().unwrap(), filter]);
        assert_eq!(output.status.code(), Some(1));
        assert!(told(&output).contains(why), "{}", told(&output));
        assert!(!file.exists());
    }
    let output = daemon.tool(&["capture", "-w", "/nonexistent/x.pcapng", "--seconds", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains("/nonexistent/x.pcapng"),
        "{}",
        told(&output)
    );
    daemon.stop();
}

#[test]
fn one_capture_runs_at_a_time_and_ends_with_its_reader() {
    let lab = Lab::new();
    let daemon = flooded(&lab);
    let begin = || {
        let mut stream = UnixStream::connect(lab.path("weir.sock")).unwrap();
        let body = "{\"seconds\": 3600, \"filter\": \"the first\", \"rate\": 1}";
        let length = body.len();
        let request = format!(
            "POST /v1/capture HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = [0; 15];
        std::io::Read::read_exact(&mut stream, &mut head).unwrap();
        (stream, String::from_utf8_lossy(&head).into_owned())
    };
    let second = |expected: u16| {
        daemon.wait(|_| {
            let answer = ask(&lab, "POST /v1/capture", Some(JSON), b"{\"count\": 1}");
            if answer.status == 409 {
                let said = json(&answer.body);
                assert_eq!(said["type"], "urn:weir:capture-runs");
                assert!(answer.body.contains("the first"), "{}", answer.body);
            }
            (answer.status == expected).then_some(())
        });
    };
    // By a reader that goes away, and by a request.
    let (stream, head) = begin();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    second(409);
    drop(stream);
    second(200);
    let (mut stream, _) = begin();
    second(409);
    let ended = |line: &str| json(&ask(&lab, line, None, b"").body)["ended"] == true;
    assert!(!ended("DELETE /v1/capture?id=0"));
    assert!(ended("DELETE /v1/capture"));
    second(200);
    assert!(!ended("DELETE /v1/capture"), "there is none");
    let mut rest = String::new();
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(30)))
        .unwrap();
    while !rest.contains("{\"end\":") {
        let mut piece = [0; 4096];
        let length = std::io::Read::read(&mut stream, &mut piece).unwrap();
        assert!(length > 0, "{rest}");
        rest += &String::from_utf8_lossy(&piece[..length]);
    }
    assert!(rest.contains("\"why\":\"ended\""), "{rest}");
    daemon.stop();
}

#[test]
fn a_compressed_capture_ends_as_others_do() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let mut stream = UnixStream::connect(lab.path("weir.sock")).unwrap();
    let request = "POST /v1/capture HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\naccept-encoding: gzip\r\n\
                   content-type: application/json\r\ncontent-length: 14\r\n\r\n{\"seconds\": 1}";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut answer).unwrap();
    let head = String::from_utf8_lossy(&answer).to_lowercase();
    assert!(head.contains("content-encoding: gzip"), "{head}");
    assert!(answer.ends_with(b"\r\n0\r\n\r\n"), "{head}");
    let metrics = ask(&lab, "GET /metrics", None, b"").body;
    assert!(metrics.contains("\nweir_panics_total 0\n"), "{metrics}");
    daemon.stop();
}

#[test]
fn a_stop_of_the_daemon_ends_the_capture() {
    let lab = Lab::new();
    let daemon = flooded(&lab);
    let file = lab.path("out.pcapng");
    let (path, api) = (file.to_str().unwrap().to_owned(), lab.api());
    let capture = std::thread::spawn(move || {
        weir(&[
            "capture",
            "-w",
            &path,
            "--rate",
            "10",
            "--seconds",
            "3600",
            "--api",
            &api,
        ])
    });
    daemon.wait(|daemon| daemon.log().contains("packets are captured").then_some(()));
    daemon.stop();
    let output = capture.join().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = told(&output);
    assert!(
        said.contains("in the middle of its answer") || said.contains("weir ended before"),
        "{said}"
    );
}

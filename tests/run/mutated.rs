//! Ten thousand requests that were right before something happened to them: the API answers or hangs up, and goes on.

use super::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const REQUESTS: usize = 10_000;

/// Requests of every kind, as a client sends them.
fn right(lab: &Lab) -> Vec<Vec<u8>> {
    let json = "Content-Type: application/json\r\n";
    let request = |line: &str, headers: &str, body: &str| {
        let length = body.len();
        let text = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        text.into_bytes()
    };
    let config = lab.config("", 1);
    let files = serde_json::json!({ "files": [{ "name": "lb.toml", "text": config }] });
    let service = "[[service]]\naddress = \"192.0.2.90\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n\
                   [[service.real]]\naddress = \"10.0.0.11\"\n";
    let real = r#"{"service": "web", "real": "10.0.0.11:8080", "weight": 2}"#;
    vec![
        request("GET /metrics", "", ""),
        request(
            "GET /metrics?service=web&names=ipvs",
            "Accept: application/openmetrics-text;q=0.5\r\n",
            "",
        ),
        request("GET /v1/services?service=web&limit=3&brief=true", "", ""),
        request(
            "GET /v1/connections?service=tcp:192.0.2.80:80&limit=1",
            "",
            "",
        ),
        request("POST /v1/reload", json, &files.to_string()),
        request("POST /v1/plan", json, &files.to_string()),
        request("POST /v1/reload", json, ""),
        request("POST /v1/weight", json, real),
        request("POST /v1/drain", json, real),
        request(
            "PUT /v1/services?name=x",
            "Content-Type: application/toml\r\n",
            service,
        ),
        request("DELETE /v1/services?service=tcp:192.0.2.90:80", "", ""),
    ]
}

/// What may happen to it: bytes changed, put in, taken out, repeated, and its end lost.
#[derive(Clone, Debug)]
enum Mishap {
    Change(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
    Cut(prop::sample::Index),
}

fn mishap() -> impl Strategy<Value = Mishap> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        4 => (place(), any::<u8>()).prop_map(|(at, byte)| Mishap::Change(at, byte)),
        2 => (place(), prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(at, new)| Mishap::Insert(at, new)),
        2 => (place(), 1..60usize).prop_map(|(at, count)| Mishap::Remove(at, count)),
        1 => (place(), 1..200usize).prop_map(|(at, count)| Mishap::Repeat(at, count)),
        1 => place().prop_map(Mishap::Cut),
    ]
}

fn happens(bytes: &mut Vec<u8>, mishap: &Mishap) {
    let length = bytes.len().max(1);
    match mishap {
        Mishap::Change(at, byte) => {
            if let Some(old) = bytes.get_mut(at.index(length)) {
                *old = *byte;
            }
        }
        Mishap::Insert(at, new) => {
            let at = at.index(length).min(bytes.len());
            bytes.splice(at..at, new.iter().copied());
        }
        Mishap::Remove(at, count) => {
            let at = at.index(length).min(bytes.len());
            let end = (at + count).min(bytes.len());
            bytes.drain(at..end);
        }
        Mishap::Repeat(at, count) => {
            let at = at.index(length).min(bytes.len());
            let end = (at + count).min(bytes.len());
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        Mishap::Cut(at) => bytes.truncate(at.index(length)),
    }
}

#[test]
fn ten_thousand_mutated_requests_end_nothing() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    let right = right(&lab);
    let mut runner = TestRunner::deterministic();
    let mutated = (0..right.len(), prop::collection::vec(mishap(), 1..4));
    let mut answered = 0;
    for _ in 0..REQUESTS {
        let (which, mishaps) = mutated.new_tree(&mut runner).unwrap().current();
        let mut bytes = right[which].clone();
        mishaps
            .iter()
            .for_each(|mishap| happens(&mut bytes, mishap));
        let mut stream = UnixStream::connect(lab.path("weir.sock")).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        // Refused before all of it is read, perhaps.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let status = answer.strip_prefix(b"HTTP/1.1 ").map(|rest| rest[0]);
        assert!(
            matches!(status, None | Some(b'2' | b'4')),
            "{} after {}",
            String::from_utf8_lossy(&answer),
            String::from_utf8_lossy(&bytes)
        );
        answered += usize::from(status.is_some());
    }
    assert!(answered > REQUESTS / 2, "{answered}");
    assert_eq!(daemon.get("/health"), "ok\n");
    // Nothing else than the file of the start is in force after it is read again.
    assert!(daemon.tool(&["reload"]).status.success());
    daemon.stop();
}

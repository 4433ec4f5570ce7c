//! Whatever is asked of the API, its answer is one that HTTP has, an error is a problem, and what runs is as before unless the
//! answer was a success. Nothing panics, and nothing takes long.
//!
//! The body of the fuzz target `api`, which the tests run over `regressions/api` as well. An input is text: requests, each
//! `METHOD TARGET CONTENT-TYPE` in one line and the body behind it, with lines of `---` between. A `~` before the method: it
//! comes by `listen`, without a token.

use std::time::{Duration, Instant};
use weir::daemon::harness::{By, Harness};

pub const CONFIG: &str = r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["198.51.100.1/24"]
[[port]]
name = "lan"
device = "net_null1"
addresses = ["10.0.0.1/24"]
[[local_pool]]
name = "inside"
addresses = ["10.0.0.200"]
[[service]]
name = "web"
address = "192.0.2.80"
port = 80
protocol = "tcp"
mode = "fullnat"
local_pool = "inside"
scheduler = "wrr"
persistence = { timeout = 300 }
  [service.health]
  type = "http"
  request = { path = "/healthz", headers = { Authorization = "Bearer secret" } }
  [[service.real]]
  address = "10.0.0.11"
  port = 8080
  weight = 3
  [[service.real]]
  address = "10.0.0.12"
  port = 8080
[[service]]
address = "192.0.2.53"
port = 53
protocol = "udp"
mode = "nat"
  [[service.real]]
  address = "10.0.0.11"
"#;

/// Requests of one input.
const MOST: usize = 16;
const LONGEST: Duration = Duration::from_secs(10);
/// Bytes of an answer to a request of few bytes, over so small a configuration.
const LARGEST: usize = 1 << 20;

pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let mut harness = Harness::new(CONFIG);
    for asked in text.split("\n---\n").take(MOST) {
        let (line, body) = asked.split_once('\n').unwrap_or((asked, ""));
        let (by, line) = match line.strip_prefix('~') {
            Some(line) => (By::Listen, line),
            None => (By::Control, line),
        };
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (method, target, content_type) = (word(), word(), word());
        // It panics because it is asked to, in debug builds alone.
        if !target.contains("/v1/inject") {
            hold(&mut harness, by, (method, target, content_type), body);
        }
    }
}

fn hold(harness: &mut Harness, by: By, (method, target, kind): (&str, &str, &str), body: &str) {
    let before = harness.state();
    let began = Instant::now();
    let Some(answer) = harness.ask(by, method, target, kind, body.as_bytes()) else {
        return;
    };
    let said = String::from_utf8_lossy(&answer.body);
    let asked = format!("{by:?} {method} {target}: {} {said}", answer.status);
    assert!(
        began.elapsed() < LONGEST,
        "{asked}: took {:?}",
        began.elapsed()
    );
    assert!(answer.body.len() < LARGEST + 8 * body.len(), "{asked}");
    let is_success = match answer.status {
        200 => true,
        400..=499 | 503 => false,
        _ => panic!("{asked}"),
    };
    if !is_success && method != "HEAD" {
        assert_eq!(answer.content_type, "application/problem+json", "{asked}");
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).expect(&asked);
        assert_eq!(problem["status"], answer.status, "{asked}");
        for member in ["type", "title", "detail"] {
            assert!(problem[member].is_string(), "{asked}");
        }
    }
    assert!(!said.contains("Bearer secret"), "{asked}");
    let may_change = is_success && by == By::Control && !matches!(method, "GET" | "HEAD");
    if !may_change || target.starts_with("/v1/plan") {
        assert!(harness.state() == before, "{asked}: what runs has changed");
    }
}

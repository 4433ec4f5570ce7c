//! Bad input of every kind to whatever changes something: it is refused, with a problem, and nothing changes.

use super::openapi::{ADDED, Document, JSON, Operation, PROBLEM, TOML, ask};
use super::*;
use serde_json::json as object;

/// What an operator has configured: not what the network makes of it.
fn configured(daemon: &Daemon) -> Vec<Value> {
    let services = json(&daemon.get("/v1/services"));
    let services = services.as_array().unwrap().iter();
    services
        .map(|service| {
            let reals = service["reals"].as_array().unwrap().iter();
            let members = ["real", "configured_weight", "runtime_weight", "admin"];
            let reals: Vec<_> = reals
                .map(|real| members.map(|it| real[it].clone()))
                .collect();
            let members = ["name", "protocol", "address", "port", "mode", "scheduler"];
            object!([members.map(|it| service[it].clone()), reals])
        })
        .collect()
}

/// Bodies that no address takes as JSON.
fn no_json() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = [
        "[]",
        "[1, 2]",
        "null",
        "true",
        "7",
        "1e400",
        "\"text\"",
        "{",
        "}",
        "{} {}",
        "{\"a\":}",
        "{,}",
        "\0",
        "{}\0",
        "{\"\0\": 1}",
        "{\"\\u0000\": 1}",
        "{\"nothing\": 1}",
        "{\"nothing\": 99999999999999999999999}",
        "[[service]]",
        " ",
        "\u{feff}{}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    bodies.push(b"\xff\xfe".to_vec());
    bodies.push(b"{\"service\": \"\xff\", \"real\": \"10.0.0.11:8080\", \"weight\": 1}".to_vec());
    bodies.push("[".repeat(10_000).into());
    bodies.push("{\"files\":".repeat(10_000).into());
    // A change of a real server that is wrong in one member.
    for (member, value) in [
        ("service", "1"),
        ("service", "[\"web\"]"),
        ("service", "\"\""),
        ("service", "\"web\\u0000\""),
        ("real", "7"),
        ("real", "\"\""),
        ("real", "\"10.0.0.11\""),
        ("real", "\"10.0.0.11:65536\""),
        ("real", "\"real.example:80\""),
        ("real", "[10, 0, 0, 11, 8080]"),
        ("weight", "-1"),
        ("weight", "65536"),
        ("weight", "1.5"),
        ("weight", "1e400"),
        ("weight", "99999999999999999999999"),
        ("weight", "\"3\""),
        ("weight", "[3]"),
        ("for", "0"),
        ("for", "-1"),
        ("for", "1e30"),
        ("for", "18446744073709551615"),
        ("for", "\"\""),
        ("for", "\"30 parsecs\""),
        ("for", "\"99999999999999999999d\""),
        ("for", "{}"),
        ("colour", "1"),
    ] {
        let mut members = BTreeMap::from([
            ("service", "\"web\""),
            ("real", "\"10.0.0.11:8080\""),
            ("weight", "1"),
        ]);
        members.insert(member, value);
        let members: Vec<_> = members
            .iter()
            .map(|(name, it)| format!("\"{name}\": {it}"))
            .collect();
        bodies.push(format!("{{{}}}", members.join(", ")).into());
    }
    let twice =
        "{\"service\": \"web\", \"service\": \"web\", \"real\": \"10.0.0.11:8080\", \"weight\": 1}";
    bodies.push(twice.into());
    for files in [
        "1",
        "{}",
        "[]",
        "[[]]",
        "[1]",
        "[{}]",
        "[{\"name\": 1, \"text\": 2}]",
        "[{\"name\": \"x\"}]",
        "[{\"name\": \"x\", \"text\": \"\", \"more\": 1}]",
        "[{\"name\": \"x\", \"text\": \"\\u0000\"}]",
        "[{\"name\": \"x\", \"text\": \"x = 99999999999999999999\"}]",
        "[{\"name\": \"\", \"text\": \"[\"}]",
    ] {
        bodies.push(format!("{{\"files\": {files}}}").into());
    }
    bodies
}

/// Bodies that are no services.
fn no_services() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = [
        "[",
        "{}",
        "\0",
        "service = 1",
        "[service]",
        "[[service]]",
        "[[service]]\nport = 1",
        "[[port]]\nname = \"wan\"",
        "x = 1e400",
        "x = 99999999999999999999",
        "[api]\nlisten = \"\"",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    bodies.push(b"\xff\xfe".to_vec());
    bodies.push([ADDED.as_bytes(), b"\xff"].concat());
    bodies.push(format!("x = {}", "[".repeat(10_000)).into());
    for (right, wrong) in [
        ("port = 80", "port = 65536"),
        ("port = 80", "port = -1"),
        ("port = 80", "port = 99999999999999999999"),
        ("port = 80", "port = 80.5"),
        ("port = 80", "port = \"80\""),
        ("port = 80", "port = 80\nport = 80"),
        ("port = 80", "port = 80\nname = \"\\u0000\""),
        ("port = 80", "port = 80\ncolour = 1"),
        ("\"tcp\"", "\"icmp\""),
        ("\"tcp\"", "[\"tcp\"]"),
        ("\"nat\"", "\"telepathy\""),
        ("192.0.2.90", "192.0.2.900"),
        ("10.0.0.11", "real.example"),
        ("[[service.real]]", "[service.real]"),
    ] {
        bodies.push(ADDED.replace(right, wrong).into());
    }
    bodies
}

#[test]
fn bad_input_of_every_kind_is_a_problem_and_changes_nothing() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let document = Document::of(&daemon);
    let before = configured(&daemon);
    let long = "x".repeat(5000);
    let refused = |operation: &Operation, path: &str, content_type: Option<&str>, body: &[u8]| {
        let line = format!("{} {path}", operation.verb);
        let asked = format!(
            "{line:.100} {content_type:?} {:.200}",
            String::from_utf8_lossy(body)
        );
        let answer = ask(&lab, &line, content_type, body);
        let is_refused = (400..500).contains(&answer.status);
        assert!(is_refused, "{asked}: {} {}", answer.status, answer.body);
        assert_eq!(answer.header("content-type"), Some(PROBLEM), "{asked}");
        document.check(operation, &asked, &answer);
        assert_eq!(configured(&daemon), before, "{asked}");
    };
    let mut kinds = HashSet::new();
    for operation in document.operations() {
        let path = operation.path;
        let refused = |path: &str, content_type: Option<&str>, body: &[u8]| {
            refused(&operation, path, content_type, body)
        };
        let named = match path {
            "/v1/reals" => "&real=10.0.0.11:8080",
            _ => "",
        };
        let (right, bodies) = match &*operation.verb {
            "GET" => continue,
            "POST" => (JSON, no_json()),
            "PUT" if path == "/v1/services" => (TOML, no_services()),
            "PUT" => (JSON, no_json()),
            // Of a service that there is.
            "PATCH" => (JSON, no_json()),
            "DELETE" => {
                for query in [
                    "",
                    "service",
                    "service=",
                    "service=%00",
                    "service=%ff%fe",
                    "service=web&service=web",
                    "sirvice=web",
                    "service=web&colour=1",
                    "service[]=web",
                    "service=99999999999999999999",
                    &format!("service={long}"),
                ] {
                    // Whichever capture runs, if one does: that is no mistake.
                    if path == "/v1/capture" && query.is_empty() {
                        continue;
                    }
                    let query = format!("{path}?{query}{named}");
                    refused(&query, Some(JSON), b"{\"service\": \"web\"}");
                }
                if path == "/v1/reals" {
                    for real in [
                        "",
                        "&real=",
                        "&real=10.0.0.11",
                        "&real=x:1",
                        "&real=%00",
                        "&real=10.0.0.11:1",
                    ] {
                        refused(&format!("{path}?service=web{real}"), None, b"");
                    }
                }
                kinds.insert("DELETE");
                continue;
            }
            verb => panic!("what is bad input to {verb} {path}?"),
        };
        kinds.insert(right);
        let is_patch = operation.verb == "PATCH";
        for body in &bodies {
            refused(path, Some(right), body);
            if is_patch {
                refused(&format!("{path}?service=web"), Some(right), body);
            }
        }
        if operation.says["requestBody"]["required"] == true {
            refused(path, Some(right), b"");
        }
        // What is right, but of another type.
        let good: &[u8] = if right == TOML {
            ADDED.as_bytes()
        } else {
            b"{}"
        };
        let wrong = if right == TOML { JSON } else { TOML };
        for other in [
            None,
            Some(wrong),
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("multipart/form-data; boundary=x"),
            Some("*/*"),
            Some(""),
            Some("application/jsonx"),
        ] {
            refused(path, other, good);
            refused(path, other, b"");
        }
        let queries: &[&str] = match path {
            "/v1/reload" => &[
                "confirm_s=0",
                "confirm_s=-1",
                "confirm_s=86401",
                "confirm_s=99999999999999999999",
                "confirm_s=x",
                "confirm_s=",
                "confirm_s=1&confirm_s=2",
                "confirm_s=1.5",
                "confirm=60",
                "confirm_s=%00",
            ],
            "/v1/services" if is_patch => &["service=", "sirvice=web", "service=web&service=web"],
            "/v1/services" => &["nme=x", "name=x&name=y", &format!("name={long}")],
            _ => &[],
        };
        for query in queries {
            refused(&format!("{path}?{query}"), Some(right), good);
        }
    }
    assert_eq!(kinds.len(), 3);
    assert_eq!(daemon.get("/health"), "ok\n", "and nothing panicked");
    daemon.stop();
}

//! Other programs where weir listens or is looked for, and requests that the API refuses.

use super::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

/// A program that answers every connection with a text; none: it never answers.
fn stranger(answer: Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            match answer {
                Some(answer) => {
                    let _ = stream.read(&mut [0; 1024]);
                    let _ = stream.write_all(answer.as_bytes());
                }
                None => silent.push(stream),
            }
        }
    });
    address
}

const WEB_SERVER: &str = "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";
const SSH: &str = "SSH-2.0-OpenSSH_9.2p1\r\n";

#[test]
fn another_program_on_the_address_of_the_api_is_not_taken_for_weir() {
    let lab = Lab::new();
    for (answer, why) in [
        (Some(WEB_SERVER), "it speaks HTTP, and is no weir"),
        (Some(SSH), "it does not speak HTTP"),
        (None, "it does not answer"),
    ] {
        let address = stranger(answer).to_string();
        let listen = format!("listen = \"{address}\"");
        let config = lab.config("", 1).replace("listen = \"\"", &listen);
        assert_eq!(
            refused(&lab.run(&config)),
            format!(
                "error: [api] listen: another program is listening on {address} ({why}); choose another address (`ss \
                 -ltnpx` names the program)\n"
            )
        );
    }
}

#[test]
fn tools_that_ask_another_program_say_so() {
    for (answer, why) in [
        (
            WEB_SERVER,
            "is no weir: an answer of \"nginx\" to /v1/services",
        ),
        (SSH, "is no weir: "),
    ] {
        let address = stranger(Some(answer)).to_string();
        for json in [&[][..], &["--json"]] {
            let mut words = vec!["show", "services", "--api", &address];
            words.extend(json);
            let text = refused(&weir(&words));
            assert!(
                text.starts_with(&format!("error: what answers at {address} {why}"))
                    && text.contains("--api or WEIR_API"),
                "{text}"
            );
        }
    }
}

#[test]
fn whatever_the_api_refuses_is_a_problem() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    // A byte more than is taken.
    let large = "x".repeat((16 << 20) + 1);
    let put = format!(
        "PUT /v1/services HTTP/1.0\r\nContent-Type: application/toml\r\nContent-Length: {}\r\n\r\n",
        large.len()
    );
    for (request, status, part) in [
        ("GET /v1/connections?limit=x", 400, "limit"),
        ("GET /v1/connections?limit=-1", 400, "limit"),
        ("GET /v1/connections?limt=1", 400, "limt"),
        ("GET /v1/connections?limit=1&limit=2", 400, "limit"),
        (
            "GET /v1/services?service=wob",
            404,
            "there is no service \\\"wob\\\"",
        ),
        ("GET /v1/ports?limit=1", 400, "limit"),
        ("GET /v1/services?brief=1", 400, "brief"),
        ("GET /v1/connections?brief=true", 400, "brief"),
        ("POST /v1/services", 405, "does not take POST"),
        ("DELETE /v1/connections", 405, "does not take DELETE"),
        ("GET /v1/no", 404, "there is nothing here"),
        ("GET /v1/reload", 405, "does not take GET"),
    ] {
        let (found, body) = daemon.request(&format!("{request} HTTP/1.0\r\n\r\n"));
        assert_eq!(found, status, "{request}: {body}");
        let problem = json(&body);
        assert_eq!(problem["status"], status, "{request}: {body}");
        assert_eq!(problem["detail"], problem["error"], "{request}: {body}");
        let is_named = problem["type"].is_string() && problem["title"].is_string();
        assert!(is_named && body.contains(part), "{request}: {body}");
    }
    let (status, body) = daemon.request(&format!("{put}{large}"));
    assert!(
        status == 413 && json(&body)["error"].is_string(),
        "{status} {body}"
    );
    daemon.stop();
}

#[test]
fn options_of_show_work_or_are_refused() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    let names = |words: &[&str]| -> Vec<String> {
        let output = daemon.tool(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        let rows = json(std::str::from_utf8(&output.stdout).unwrap());
        let name = |row: &Value| {
            let key = if row["name"].is_string() {
                "name"
            } else {
                "service"
            };
            row[key].as_str().unwrap().to_owned()
        };
        rows.as_array().unwrap().iter().map(name).collect()
    };
    let all = names(&["show", "services", "--json"]);
    assert!(all.len() > 1, "{all:?}");
    assert_eq!(
        names(&["show", "services", "--json", "--service", "web"]),
        ["web"]
    );
    assert_eq!(
        names(&["show", "services", "--json", "--limit", "1"]),
        all[..1]
    );
    let reals = names(&["show", "reals", "--json"]);
    assert_eq!(
        names(&["show", "reals", "--json", "--limit", "1"]),
        reals[..1]
    );
    let webs = names(&["show", "reals", "--json", "--service", "web"]);
    assert!(
        webs.len() > 1 && webs.len() < reals.len() && webs.iter().all(|name| name == "web"),
        "{webs:?}"
    );
    for what in ["ports", "workers", "neighbours", "routes", "snat"] {
        for (option, value, those) in [
            (
                "--service",
                "web",
                "connections, health, offenders and pools",
            ),
            (
                "--limit",
                "1",
                "connections, health, offenders, pools and events",
            ),
        ] {
            let text = refused(&daemon.tool(&["show", what, option, value]));
            assert_eq!(
                text,
                format!(
                    "error: `weir show {what}` has no {option}: services, reals, {those} have it\n"
                )
            );
        }
    }
    daemon.stop();
}

#[test]
fn the_eals_usage_stays_off_stdout() {
    let lab = Lab::new();
    // Of the right form, and refused by the EAL alone.
    let config = lab
        .config("", 1)
        .replace("[dpdk]", "[dpdk]\neal_args = [\"--iova-mode=sideways\"]");
    assert!(config.contains("sideways"), "{config}");
    let output = lab.run(&config);
    let text = refused(&output);
    assert!(text.contains("the EAL did not start"), "{text}");
    assert!(text.lines().count() < 8, "{text}");
}

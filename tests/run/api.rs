//! What is asked of a running daemon: by `weir show`, by HTTP, by its socket.

use super::*;
use serde_json::json as object;
use std::process::Command;

#[test]
fn show_prints_tables_and_the_apis_json() {
    let lab = Lab::new();
    lab.receives("wan", &syns(8));
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    daemon.wait(|daemon| (daemon.show("workers")[0]["transmitted_packets"] == 8).then_some(()));

    let table = daemon.table("services");
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["Prot", "LocalAddress:Port", "Scheduler", "Flags"]
    );
    assert_eq!(
        lines[1],
        [
            "->",
            "RemoteAddress:Port",
            "Forward",
            "Weight",
            "ActiveConn",
            "InActConn"
        ]
    );
    assert_eq!(
        lines[2],
        ["TCP", "192.0.2.80:80", "wrr", "web", "pool", "inside"]
    );
    assert_eq!(lines[3], ["->", "10.0.0.11:8080", "fullnat", "3", "6", "0"]);
    assert_eq!(lines[4], ["->", "10.0.0.12:8080", "fullnat", "1", "2", "0"]);

    for what in [
        "services",
        "reals",
        "connections",
        "ports",
        "workers",
        "neighbours",
        "routes",
    ] {
        let (shown, asked) = (daemon.show(what), json(&daemon.get(&format!("/v1/{what}"))));
        if matches!(what, "connections" | "ports" | "workers") {
            // Their numbers move.
            let keys = |rows: &Value| {
                rows[0]
                    .as_object()
                    .unwrap()
                    .keys()
                    .cloned()
                    .collect::<Vec<_>>()
            };
            assert_eq!(keys(&shown), keys(&asked), "{what}");
        } else {
            assert_eq!(shown, asked, "{what}");
        }
        let rows = daemon.show(what).as_array().unwrap().len();
        assert!(
            rows > 0 && daemon.table(what).lines().count() > rows,
            "{what}"
        );
    }
    let real = &daemon.show("reals")[0];
    assert_eq!(
        (&real["service"], &real["vip"], &real["real"]),
        (
            &"web".into(),
            &"192.0.2.80:80".into(),
            &"10.0.0.11:8080".into()
        )
    );
    assert_eq!(
        (&real["connections_total"], &real["weight"], &real["up"]),
        (&6.into(), &3.into(), &true.into())
    );
    let port = &daemon.show("ports")[1];
    assert_eq!(
        (&port["port"], &port["driver"], &port["mac"]),
        (
            &"lan".into(),
            &"net_pcap".into(),
            &"02:00:00:00:00:02".into()
        )
    );
    let neighbours = daemon.show("neighbours");
    let neighbour = neighbours
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["address"] == "10.0.0.12")
        .unwrap();
    assert_eq!(
        (&neighbour["mac"], &neighbour["static"]),
        (&"02:00:00:00:01:0c".into(), &true.into())
    );
    let routes = daemon.show("routes");
    assert!(routes.as_array().unwrap().contains(
        &serde_json::json!({ "to": "0.0.0.0/0", "via": "198.51.100.254", "port": "wan" })
    ));
    daemon.stop();
}

#[test]
fn every_connection_is_listed_once() {
    let lab = Lab::new();
    lab.receives("wan", &syns(3000));
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    daemon.wait(|daemon| (daemon.show("workers")[0]["transmitted_packets"] == 3000).then_some(()));
    let rows = daemon.show("connections");
    let rows = rows.as_array().unwrap();
    let clients: HashSet<_> = rows
        .iter()
        .map(|row| row["client"].as_str().unwrap())
        .collect();
    let locals: HashSet<_> = rows
        .iter()
        .map(|row| {
            (
                row["local"].as_str().unwrap(),
                row["real"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        (rows.len(), clients.len(), locals.len()),
        (3000, 3000, 3000)
    );
    for row in rows {
        assert_eq!(
            (&row["protocol"], &row["vip"], &row["state"]),
            (&"tcp".into(), &"192.0.2.80:80".into(), &"syn_recv".into())
        );
        assert!(
            (1..=60).contains(&row["expires_s"].as_u64().unwrap()),
            "{row}"
        );
        assert_eq!(
            (&row["service"], &row["worker"]),
            (&"web".into(), &0.into())
        );
    }
    assert_eq!(daemon.table("connections").lines().count(), 3001);
    let count = |query: &str| {
        json(&daemon.get(&format!("/v1/connections?{query}")))
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count("limit=7"), 7);
    assert_eq!(count("limit=0"), 0);
    assert_eq!(count("service=web"), 3000);
    assert_eq!(count("service=tcp:192.0.2.81:80"), 0);
    let unknown = daemon.tool(&["show", "connections", "--service", "wob"]);
    assert_eq!(refused(&unknown), "error: there is no service \"wob\"\n");
    daemon.stop();
}

#[test]
fn the_api_answers_and_refuses() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    assert_eq!(daemon.get("/health"), "ok\n");
    assert_eq!(daemon.get("/ready"), "ok\n");
    let (status, body) = daemon.request("GET /v1/nothing HTTP/1.0\r\n\r\n");
    assert!(
        status == 404 && json(&body)["error"].is_string(),
        "{status} {body}"
    );
    let post = |headers: &str, body: &str| {
        let length = body.len();
        daemon.request(&format!(
            "POST /v1/reload HTTP/1.0\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
    };
    let as_json = "Content-Type: application/json\r\n";
    // What a form on another site could send.
    assert_eq!(post("", "").0, 415);
    assert_eq!(post("Content-Type: text/plain\r\n", "{}").0, 415);
    assert_eq!(post(as_json, "{\"fiel\": \"x\"}").0, 400);
    let (status, body) = post(as_json, "");
    assert_eq!(
        (status, &json(&body)["reals_added"]),
        (200, &0.into()),
        "{body}"
    );
    // The daemon opens no file that a request names.
    let (status, body) = post(as_json, "{\"file\": \"/etc/hostname\"}");
    assert!(status == 400 && body.contains("files"), "{status} {body}");
    assert_eq!(post(as_json, "{\"files\": []}").0, 400);
    let bad = object!({ "files": [{ "name": "lb.toml", "text": lab.config("colour = 1\n", 1) }] });
    let (status, body) = post(as_json, &bad.to_string());
    assert_eq!(status, 422);
    assert_eq!(json(&body)["diagnostics"][0]["line"], 1, "{body}");
    daemon.stop();
}

#[test]
fn on_a_loopback_address_the_api_asks_whom_a_request_is_for() {
    let lab = Lab::new();
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let listen = format!("listen = \"{address}\"");
    let config = lab.config("", 1).replace("listen = \"\"", &listen);
    let daemon = Daemon::start_at(&lab, &config, &address.to_string());
    let ask_with = |host: &str, more: &str| {
        daemon
            .request(&format!(
                "GET /health HTTP/1.1\r\nConnection: close\r\nHost: {host}\r\n{more}\r\n"
            ))
            .0
    };
    let ask = |host: &str| ask_with(host, "");
    assert_eq!(ask(&address.to_string()), 200);
    assert_eq!(ask("localhost"), 200);
    assert_eq!(ask("rebound.example"), 421);
    // What browsers say of a page of another site that asks for something, and of one in which a link is followed.
    for (site, dest, status) in [
        ("cross-site", "empty", 403),
        ("cross-site", "iframe", 403),
        ("cross-site", "document", 200),
        ("same-origin", "empty", 200),
        ("none", "document", 200),
    ] {
        let more = format!("Sec-Fetch-Site: {site}\r\nSec-Fetch-Dest: {dest}\r\n");
        assert_eq!(ask_with("localhost", &more), status, "{site} {dest}");
    }
    // The address is taken: a second daemon does not start.
    let second = Lab::new();
    let config = second.config("", 1).replace("listen = \"\"", &listen);
    let text = refused(&second.run(&config));
    assert_eq!(
        text,
        format!(
            "error: [api] listen: another weir is listening on {address}; stop it, or choose another address\n"
        )
    );
    daemon.stop();
}

#[test]
fn the_unix_socket_is_for_its_group_and_goes_with_the_daemon() {
    let lab = Lab::new();
    // Left behind by one that was killed.
    drop(std::os::unix::net::UnixListener::bind(lab.path("weir.sock")).unwrap());
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    let mode = std::fs::metadata(lab.path("weir.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    let text = refused(&lab.run(&lab.config("", 1)));
    assert!(
        text.contains("another weir is listening on unix:"),
        "{text}"
    );
    assert_eq!(daemon.get("/health"), "ok\n", "the first one goes on");
    daemon.stop();
    assert!(!lab.path("weir.sock").exists());
    let text = refused(&weir(&["show", "ports", "--api", &lab.api()]));
    assert!(
        text.starts_with(&format!("error: no weir answers at {}", lab.api()))
            && text.contains("is it running?"),
        "{text}"
    );
}

#[test]
fn lists_are_compressed_for_those_who_ask_for_that() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let socket = lab.path("weir.sock");
    for path in ["/metrics", "/v1/reals"] {
        let fetch = |arguments: &[&str]| {
            let said = [
                "--write-out",
                "\n%{size_download} %header{content-encoding}",
            ];
            let output = Command::new("curl")
                .args([
                    "--silent",
                    "--fail",
                    "--unix-socket",
                    socket.to_str().unwrap(),
                    &format!("http://localhost{path}"),
                ])
                .args(said)
                .args(arguments)
                .output()
                .expect("curl starts: scripts/setup test");
            assert!(output.status.success(), "{output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            let (body, told) = text.rsplit_once('\n').unwrap();
            let (size, encoding) = told.split_once(' ').unwrap();
            let size: usize = size.parse().unwrap();
            (body.to_owned(), size, encoding.to_owned())
        };
        let (plain, size, encoding) = fetch(&[]);
        assert_eq!((size, encoding.as_str()), (plain.len(), ""), "{path}");
        let (unpacked, size, encoding) =
            fetch(&["--compressed", "--header", "Accept-Encoding: gzip"]);
        assert_eq!(encoding, "gzip", "{path}");
        // Counters go on, lines do not.
        assert_eq!(unpacked.lines().count(), plain.lines().count(), "{path}");
        assert!(
            size * 2 < unpacked.len(),
            "{path}: {size} of {}",
            unpacked.len()
        );
    }
    daemon.stop();
}

#[test]
fn metrics_of_real_servers_are_left_out_by_choice() {
    let lab = Lab::new();
    let config = |per_real: bool| lab.config("", 3) + &format!("[metrics]\nper_real = {per_real}");
    let daemon = Daemon::start(&lab, &config(false));
    let scrape = || samples(&daemon.get("/metrics"));
    let of_reals = |samples: &BTreeMap<String, f64>| {
        let names = samples.keys().filter(|name| name.contains("real=\""));
        names.count()
    };
    let without = scrape();
    assert_eq!(of_reals(&without), 0, "{without:?}");
    let text = daemon.get("/metrics");
    assert!(!text.contains("weir_real_"), "no bare headers: {text}");
    // Three real servers, nine samples each; and nothing else is more.
    lab.write("lb.toml", &config(true));
    let done = daemon.tool(&["reload"]);
    let told = String::from_utf8_lossy(&done.stdout);
    assert!(told.contains("[metrics] changed"), "{done:?}");
    let with = scrape();
    assert_eq!(of_reals(&with), 27);
    assert_eq!(with.len(), without.len() + 27);
    assert!(
        with.keys()
            .filter(|it| !it.contains("real=\""))
            .eq(without.keys())
    );
    daemon.stop();
}

#[test]
fn the_api_shows_no_line_of_a_file_that_not_every_user_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    let list = lab.path("list");
    std::fs::write(&list, "10.0.0.0/8\na-secret:$6$hash\n").unwrap();
    let service = |name: &str, keys: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\naddress = \"192.0.2.77\"\nport = 77\nprotocol = \"tcp\"\nmode = \"dr\"\n{keys}\n"
        )
    };
    let allow = format!("file:{}", list.display());
    let bad = service("listed", &format!("allow = [{allow:?}]"));
    let ask = |verb: &str, path: &str, kind: &str, body: &str| {
        let length = body.len();
        daemon.request(&format!(
            "{verb} {path} HTTP/1.0\r\nContent-Length: {length}\r\nContent-Type: {kind}\r\n\r\n{body}"
        ))
    };
    let (toml, as_json) = ("application/toml", "application/json");
    assert_eq!(
        ask("PUT", "/v1/services", toml, &service("listed", "")).0,
        200
    );
    let text = format!("{}{bad}", lab.config("", 1));
    let sent = object!({ "files": [{ "name": "lb.toml", "text": text }] }).to_string();
    let patch = object!({ "allow": [allow] }).to_string();
    for mode in [0o600, 0o640] {
        std::fs::set_permissions(&list, std::fs::Permissions::from_mode(mode)).unwrap();
        for (verb, path, kind, body) in [
            ("POST", "/v1/plan", as_json, &sent),
            ("POST", "/v1/reload", as_json, &sent),
            ("PUT", "/v1/services", toml, &bad),
            ("PATCH", "/v1/services?service=listed", as_json, &patch),
        ] {
            let (status, said) = ask(verb, path, kind, body);
            assert_eq!(status, 422, "{verb} {path}: {said}");
            assert!(said.contains("is no prefix"), "{verb} {path}: {said}");
            assert!(
                !said.contains("secret") && !said.contains("hash"),
                "{verb} {path}: {said}"
            );
        }
    }
    daemon.stop();
}

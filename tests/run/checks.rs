//! Health checks of a running daemon: what is shown of them, and how they follow changes.

use super::*;

fn service(health: &str) -> String {
    format!(
        "[[service]]\nname = \"checked\"\naddress = \"192.0.2.81\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n{health}\n\
         [[service.real]]\naddress = \"10.0.0.11\"\n"
    )
}

fn put(daemon: &Daemon, health: &str) {
    let body = service(health);
    let length = body.len();
    let head = format!(
        "PUT /v1/services HTTP/1.0\r\nContent-Type: application/toml\r\nContent-Length: {length}\r\n\r\n"
    );
    let (status, answer) = daemon.request(&(head + &body));
    assert_eq!(status, 200, "{answer}");
}

const FAST: &str = "interval = \"50ms\"\ntimeout = \"50ms\"\nfall = 2\n";

#[test]
fn checks_follow_changes_and_show_what_they_find() {
    if !rustix::process::geteuid().is_root() {
        return skip::skip("network namespaces take root");
    }
    let lab = Lab::new();
    // The real server is there, and nothing listens.
    let real = "ip link set lo up; ip address add 10.0.0.11/32 dev lo";
    let daemon = Daemon::start_in_namespace(&lab, &lab.config("", 1), real);
    let rows = |path: &str| json(&daemon.get(path)).as_array().unwrap().clone();
    let row = || rows("/v1/health?service=checked").first().cloned();
    assert_eq!(rows("/v1/health"), Vec::<Value>::new());

    put(
        &daemon,
        &format!("[service.health]\ntype = \"tcp\"\n{FAST}"),
    );
    let down = daemon.wait(|_| row().filter(|row| row["state"] == "down"));
    assert_eq!(down["real"], "10.0.0.11:80");
    assert_eq!(down["check"], "tcp");
    assert_eq!(down["result"], "failed");
    assert_eq!(down["reason"], "connect: connection refused");
    let real = || {
        let rows = rows("/v1/reals?service=checked");
        (rows[0]["up"].clone(), rows[0]["health"].clone())
    };
    daemon.wait(|_| (real() == (false.into(), "down".into())).then_some(()));
    let table = daemon.table("health");
    assert!(table.contains("connect: connection refused"), "{table}");
    let (status, why) = daemon.request("GET /ready?service=checked HTTP/1.0\r\n\r\n");
    assert_eq!(status, 503, "{why}");
    assert!(
        why.contains("10.0.0.11:80 (down: connect: connection refused"),
        "{why}"
    );
    assert!(
        daemon
            .log()
            .contains("real server is down: connect: connection refused")
    );
    let metrics = daemon.get("/metrics");
    let value = |name: &str| {
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(value("weir_health_checks_total{result=\"failed\"}") >= 2.0);
    assert_eq!(value("weir_health_checks_down"), 1.0);

    // What cannot be made says nothing of a real server that is down already …
    let program = "[service.health]\ntype = \"exec\"\nrequest = { command = [\"none\"] }\n";
    put(&daemon, &format!("{program}{FAST}"));
    let row_of =
        |check: &str| row().filter(|row| row["check"] == check && row["result"] != "failed");
    let exec = daemon.wait(|_| row_of("exec"));
    assert_eq!(
        (&exec["result"], &exec["state"]),
        (&"not made".into(), &"down".into())
    );
    // … nor, without a check, is anything known of it.
    put(&daemon, "");
    daemon.wait(|_| (real().1 == "unknown").then_some(()));
    assert_eq!(row(), None);
    put(&daemon, &format!("{program}{FAST}"));
    let exec = daemon.wait(|_| row_of("exec").filter(|row| row["result"] == "not made"));
    assert_eq!(exec["state"], "unknown");
    assert!(daemon.log().contains("health checks cannot be made"));

    let (status, _) = daemon.request("DELETE /v1/services?service=checked HTTP/1.0\r\n\r\n");
    assert_eq!(status, 200);
    for path in ["/v1/health", "/ready"] {
        let asked = format!("GET {path}?service=checked HTTP/1.0\r\n\r\n");
        assert_eq!(daemon.request(&asked).0, 404, "{path}");
    }
    daemon.wait(|_| (rows("/v1/health").is_empty()).then_some(()));
}

//! Who may change a running daemon, and what no client can do to it.

use super::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

const TOKEN: &str = "correct-horse-battery";
/// The user and the group that have nothing.
const NOBODY: u32 = 65534;

/// A port that was free a moment ago, on all addresses or on loopback.
fn free(host: &str) -> SocketAddr {
    let listener = TcpListener::bind((host, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// A configuration that listens on TCP beside its control socket.
fn listening(lab: &Lab, at: SocketAddr, more: &str) -> String {
    let listen = format!("listen = \"{at}\"\n{more}");
    lab.config("", 1).replace("listen = \"\"", &listen)
}

/// The status of a request to a TCP address, and what is said.
fn ask(port: u16, request: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let length = body.len();
    let request = format!(
        "{request} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    // Refused before all of it is read, perhaps.
    let _ = stream.write_all(request.as_bytes());
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

const JSON: &str = "Content-Type: application/json\r\n";
const DRAIN: &str = r#"{"service": "web", "real": "10.0.0.11:8080"}"#;

#[test]
fn listen_is_for_reading_unless_the_token_is_sent() {
    let lab = Lab::new();
    let token = lab.write("token", &format!("{TOKEN}\n"));
    let bearer = format!("{JSON}Authorization: Bearer {TOKEN}\r\n");
    let wrong = format!("{JSON}Authorization: Bearer {TOKEN}x\r\n");
    let file = format!("token_file = \"{}\"", token.display());
    for (host, more, read, metrics, change, with_token) in [
        ("127.0.0.1", "", 200, 200, 403, 403),
        ("127.0.0.1", &*file, 200, 200, 401, 200),
        ("0.0.0.0", "", 403, 200, 403, 403),
        ("0.0.0.0", &file, 401, 401, 401, 200),
        (
            "0.0.0.0",
            &format!("{file}\npublic_metrics = true"),
            401,
            200,
            401,
            200,
        ),
    ] {
        let at = free(host);
        let daemon = Daemon::start(&lab, &listening(&lab, at, more));
        let status = |request, headers: &str, body| ask(at.port(), request, headers, body).0;
        let case = format!("{host} {more}");
        assert_eq!(status("GET /health", "", ""), 200, "{case}");
        // The status page has nothing of its own to tell.
        assert_eq!(status("GET /", "", ""), 200, "{case}");
        assert_eq!(status("GET /v1/status", "", ""), read, "{case}");
        assert_eq!(status("GET /v1/drops", "", ""), read, "{case}");
        // Of a service strangers hear yes or no, and no more.
        let unserved = "GET /ready?service=tcp:192.0.2.81:80";
        daemon.wait(|_| (ask(at.port(), unserved, "", "").0 == 503).then_some(()));
        let (_, said) = ask(at.port(), unserved, "", "");
        assert!(said.contains("no available real server"), "{case}: {said}");
        assert_eq!(said.contains("10.0.0.99"), read == 200, "{case}: {said}");
        assert_eq!(status("GET /v1/services", "", ""), read, "{case}");
        assert_eq!(status("GET /metrics", "", ""), metrics, "{case}");
        for (request, body) in [
            ("POST /v1/drain", DRAIN),
            ("POST /v1/reload", ""),
            ("POST /v1/plan", ""),
            ("DELETE /v1/services?service=web", ""),
        ] {
            let (status, said) = ask(at.port(), request, JSON, body);
            assert_eq!(status, change, "{case}: {request}: {said}");
            assert!(said.contains("token"), "{case}: {said}");
        }
        assert_eq!(
            status("POST /v1/drain", &bearer, DRAIN),
            with_token,
            "{case}"
        );
        // Who may read is told whether a change would be granted.
        let (_, said) = ask(at.port(), "GET /v1/status", &bearer, "");
        let told = said.contains("\"may_change\":true");
        assert_eq!(told, with_token == 200, "{case}: {said}");
        if !more.is_empty() {
            assert_eq!(status("POST /v1/drain", &wrong, DRAIN), 401, "{case}");
            assert_eq!(status("GET /v1/services", &wrong, ""), 401, "{case}");
        }
        daemon.stop();
    }
}

#[test]
fn a_change_is_logged_with_who_asked_and_the_socket_is_not_for_everyone() {
    let lab = Lab::new();
    std::fs::set_permissions(lab.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    let done = daemon.tool(&["drain", "web", "10.0.0.11:8080"]);
    assert!(done.status.success(), "{done:?}");
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("POST /v1/drain"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(
        line.contains("uid ") && line.contains("pid ") && line.contains("200"),
        "{line}"
    );

    if !rustix::process::getuid().is_root() {
        return skip::skip("its rest takes root");
    }
    let as_nobody = |arguments: &[&str]| {
        // The one that was built lies where only its owner may look.
        let binary = lab.path("weir");
        if !binary.exists() {
            std::fs::copy(env!("CARGO_BIN_EXE_weir"), &binary).unwrap();
            std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = Command::new(binary);
        command.args(arguments).args(["--api", &lab.api()]);
        command.uid(NOBODY).gid(NOBODY).output().unwrap()
    };
    let text = refused(&as_nobody(&["drain", "web", "10.0.0.12:8080"]));
    assert!(text.contains("Permission denied"), "{text}");
    // Files are read with the rights of who names them.
    let secret = lab.write("secret", "hunter2 = [\n");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = refused(&as_nobody(&["plan", secret.to_str().unwrap()]));
    assert!(
        text.contains("cannot read") && !text.contains("hunter2"),
        "{text}"
    );
    daemon.stop();
}

#[test]
fn members_that_a_request_does_not_have_are_refused_by_name() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    for (path, members) in [
        ("weight", vec!["wieght", "until"]),
        ("drain", vec!["weight"]),
        ("disable", vec!["weight"]),
        ("enable", vec!["weight", "for"]),
        ("confirm", vec!["service"]),
        ("rollback", vec!["service"]),
        ("reload", vec!["file"]),
        ("plan", vec!["file"]),
    ] {
        for member in members {
            let body =
                format!("{{\"service\": \"web\", \"real\": \"10.0.0.11:8080\", \"{member}\": 1}}");
            let body = match path {
                "weight" | "drain" | "disable" | "enable" => body,
                _ => format!("{{\"{member}\": 1}}"),
            };
            let length = body.len();
            let request =
                format!("POST /v1/{path} HTTP/1.0\r\n{JSON}Content-Length: {length}\r\n\r\n{body}");
            let (status, said) = daemon.request(&request);
            assert_eq!(status, 400, "{path} {member}: {said}");
            let named = format!("unknown field `{member}`");
            assert!(said.contains(&named), "{path} {member}: {said}");
        }
    }
    assert_eq!(daemon.show("reals")[0]["weight"], 3);
    daemon.stop();
}

#[test]
fn a_file_that_the_asker_may_not_read_is_not_quoted() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    lab.write("lb.toml", "hunter2 = 1\n");
    // The tests' own user may read it.
    let text = refused(&daemon.tool(&["reload"]));
    assert!(text.contains("unknown key `hunter2`"), "{text}");
    daemon.stop();
}

#[test]
fn garbage_is_answered_soon_and_in_few_words() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    // Two megabytes: in one line, of many errors, and as unknown keys.
    let cases = [
        "x".repeat(2 << 20),
        "= ] [ \n".repeat(300_000),
        (0..150_000).map(|n| format!("key{n} = 1\n")).collect(),
        format!("listen = \"{}\"\n", "y".repeat(2 << 20)),
    ];
    for (n, text) in cases.into_iter().enumerate() {
        let file = lab.write("garbage.toml", &text);
        let began = Instant::now();
        let output = daemon.tool(&["plan", file.to_str().unwrap()]);
        let took = began.elapsed();
        let said = refused(&output);
        assert!(said.len() < 200_000, "case {n}: {} bytes", said.len());
        assert!(took < Duration::from_secs(15), "case {n}: {took:?}");
        assert_eq!(daemon.get("/health"), "ok\n");
    }
    daemon.stop();
}

#[test]
fn idle_connections_and_half_requests_keep_nobody_out() {
    let lab = Lab::new();
    let at = free("127.0.0.1");
    let daemon = Daemon::start(&lab, &listening(&lab, at, ""));
    let idle: Vec<_> = (0..1000)
        .map(|n| {
            let mut stream = TcpStream::connect(at).unwrap();
            if n % 2 == 0 {
                stream
                    .write_all(b"GET /health HTTP/1.1\r\nHost: 127")
                    .unwrap();
            }
            stream
        })
        .collect();
    let began = Instant::now();
    assert_eq!(ask(at.port(), "GET /health", "", "").0, 200);
    assert!(began.elapsed() < Duration::from_secs(10));
    // The control socket has places of its own.
    assert_eq!(daemon.get("/ready"), "ok\n");
    drop(idle);
    daemon.stop();
}

#[test]
fn a_stop_waits_for_no_request() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    let mut half = UnixStream::connect(lab.path("weir.sock")).unwrap();
    half.write_all(
        b"POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
    )
    .unwrap();
    let mut unread = UnixStream::connect(lab.path("weir.sock")).unwrap();
    unread
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    daemon.stop();
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn after_the_start_little_is_kept() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    let process = daemon.id();
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let mut seen = 0;
    for thread in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        // CAP_DAC_READ_SEARCH and CAP_NET_ADMIN; of a worker none.
        let allowed = match field("Name:").as_str() {
            "weir" | "api" => 1 << 2 | 1 << 12,
            name if name.starts_with("rte-worker") || name.starts_with("lcore-worker") => 0,
            _ => continue,
        };
        let permitted = u64::from_str_radix(&field("CapPrm:"), 16).unwrap();
        assert_eq!(permitted & !allowed, 0, "{status}");
        assert_eq!(field("NoNewPrivs:"), "1", "{status}");
        seen += 1;
    }
    assert!(
        seen >= 3,
        "the control thread, the API and a worker were seen"
    );
    daemon.stop();
}

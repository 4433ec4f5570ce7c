//! `[api] tls` and named tokens: what the commands say through them, and what no client can do to them.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const OPS: &str = "0123456789abcdef-ops";
const GRAFANA: &str = "0123456789abcdef-grafana";

/// Certificates of an authority of the test's own.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Authority { pem, issuer }
    }

    /// Writes NAME.crt and NAME.key, of the subject NAME and a line's end: for 127.0.0.1 and localhost.
    fn issue(&self, lab: &Lab, name: &str) {
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        (params.distinguished_name).push(DnType::CommonName, format!("{name}\n"));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        lab.write(&format!("{name}.crt"), &certificate.pem());
        private(lab, &format!("{name}.key"), &key.serialize_pem());
    }
}

fn private(lab: &Lab, name: &str, text: &str) {
    let path = lab.write(name, text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn free() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A configuration with TLS at a port; `more`: of `tls`.
fn config(lab: &Lab, port: u16, more: &str) -> String {
    let at = |name: &str| lab.path(name).display().to_string();
    let listen = format!(
        "listen = \"127.0.0.1:{port}\"\ntoken_file = {:?}\ntls = {{ certificate = {:?}, key = {:?}{more} }}",
        at("tokens"),
        at("server.crt"),
        at("server.key"),
    );
    lab.config("", 3).replace("listen = \"\"", &listen)
}

/// A lab with the files of a daemon and its clients.
fn lab(authority: &Authority) -> Lab {
    let lab = Lab::new();
    lab.write("ca.crt", &authority.pem);
    authority.issue(&lab, "server");
    private(
        &lab,
        "tokens",
        &format!("# ours\nops:write:{OPS}\ngrafana:read:{GRAFANA}\n"),
    );
    private(&lab, "ops", &format!("{OPS}\n"));
    private(&lab, "grafana", &format!("grafana:read:{GRAFANA}\n"));
    lab
}

/// Runs a command by TLS, with these options of the lab's files.
fn ask(lab: &Lab, port: u16, arguments: &[&str], options: &[(&str, &str)]) -> std::process::Output {
    let url = format!("https://127.0.0.1:{port}");
    let mut all: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
    all.extend(["--url".to_owned(), url]);
    for (option, file) in options {
        all.extend([(*option).to_owned(), lab.path(file).display().to_string()]);
    }
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    weir(&all)
}

const DRAIN: [&str; 3] = ["drain", "web", "10.0.0.11:8080"];
const CA: (&str, &str) = ("--ca", "ca.crt");

#[test]
fn commands_speak_tls_and_a_token_says_who_asked_and_for_what() {
    let authority = Authority::new();
    let (lab, port) = (lab(&authority), free());
    let daemon = Daemon::start(&lab, &config(&lab, port, ""));
    let shown = ask(&lab, port, &["show", "reals", "--json"], &[CA]);
    assert!(shown.status.success(), "{shown:?}");
    let reals: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(reals, daemon.show("reals"));
    let text = refused(&ask(&lab, port, &["show", "reals"], &[]));
    assert!(
        text.starts_with(&format!("error: no TLS with https://127.0.0.1:{port}: "))
            || text.contains("--ca"),
        "{text}"
    );

    let text = refused(&ask(&lab, port, &DRAIN, &[CA]));
    assert!(text.contains("this takes a token"), "{text}");
    let text = refused(&ask(&lab, port, &DRAIN, &[CA, ("--token-file", "grafana")]));
    assert_eq!(
        text,
        "error: the token \"grafana\" is for reading: changes take one for `write`\n"
    );
    let text = refused(&ask(&lab, port, &DRAIN, &[CA, ("--token-file", "tokens")]));
    assert!(text.contains("it has several tokens"), "{text}");
    assert_eq!(daemon.show("reals")[0]["weight"], 3);
    let done = ask(&lab, port, &DRAIN, &[CA, ("--token-file", "ops")]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(daemon.show("reals")[0]["weight"], 0);
    let events = daemon.show("events");
    let mut events = events.as_array().unwrap().iter();
    let drained = events.find(|event| event["message"] == "drained").unwrap();
    let by = drained["fields"]["by"].as_str().unwrap();
    assert!(by.starts_with("token ops, 127.0.0.1:"), "{by}");
    // By the socket it is the user.
    assert!(
        daemon
            .tool(&["enable", "web", "10.0.0.11:8080"])
            .status
            .success()
    );
    let uid = rustix::process::getuid().as_raw();
    assert!(
        daemon.log().contains(&format!("by=\"uid {uid}")),
        "{}",
        daemon.log()
    );
    daemon.stop();
}

/// The certificate that a server shows, if the handshake comes that far.
fn shown_certificate(port: u16, authority: &Authority) -> Option<Vec<u8>> {
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap())
        .unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut stream).ok()?;
    }
    Some(client.peer_certificates()?[0].to_vec())
}

#[test]
fn a_reload_takes_new_certificates_and_refuses_those_that_cannot_be_used() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (lab, port) = (lab(&authority), free());
    let daemon = Daemon::start(&lab, &config(&lab, port, ""));
    let first = shown_certificate(port, &authority).unwrap();
    assert_eq!(
        shown_certificate(port, &other),
        None,
        "of another authority"
    );

    // A certificate without its key.
    let key = std::fs::read_to_string(lab.path("server.key")).unwrap();
    authority.issue(&lab, "server");
    let certificate = std::fs::read_to_string(lab.path("server.crt")).unwrap();
    private(&lab, "server.key", &key);
    let text = refused(&daemon.tool(&["reload"]));
    assert!(
        text.contains("[api] key: it is not the key of the certificate"),
        "{text}"
    );
    daemon.signal("HUP");
    daemon.wait(|daemon| {
        daemon
            .log()
            .contains("reload refused, nothing has changed")
            .then_some(())
    });
    assert_eq!(shown_certificate(port, &authority).unwrap(), first);

    authority.issue(&lab, "server");
    assert_ne!(
        std::fs::read_to_string(lab.path("server.crt")).unwrap(),
        certificate
    );
    assert!(daemon.tool(&["reload"]).status.success());
    assert_ne!(shown_certificate(port, &authority).unwrap(), first);

    private(&lab, "tokens", "ops:wirte:0123456789abcdef\n");
    let text = refused(&daemon.tool(&["reload"]));
    assert!(
        text.contains("[api] token_file: line 1: a token is for `read` or `write`"),
        "{text}"
    );
    let text = refused(&ask(&lab, port, &DRAIN, &[CA, ("--token-file", "ops")]));
    assert!(text.contains("the token file cannot be used"), "{text}");
    daemon.stop();
}

#[test]
fn with_client_ca_a_client_needs_a_certificate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (lab, port) = (lab(&authority), free());
    lab.write("clients.crt", &clients.pem);
    clients.issue(&lab, "client");
    authority.issue(&lab, "wrong");
    let more = format!(
        ", client_ca = {:?}",
        lab.path("clients.crt").display().to_string()
    );
    let daemon = Daemon::start(&lab, &config(&lab, port, &more));
    let show = |options: &[(&str, &str)]| ask(&lab, port, &["show", "services"], options);
    let own = show(&[CA, ("--cert", "client.crt"), ("--key", "client.key")]);
    assert!(own.status.success(), "{own:?}");
    refused(&show(&[CA]));
    refused(&show(&[
        CA,
        ("--cert", "wrong.crt"),
        ("--key", "wrong.key"),
    ]));
    // Who has changed something is told by the certificate as well.
    private(&lab, "ops", &format!("{OPS}\n"));
    let drained = ask(
        &lab,
        port,
        &DRAIN,
        &[
            CA,
            ("--cert", "client.crt"),
            ("--key", "client.key"),
            ("--token-file", "ops"),
        ],
    );
    assert!(drained.status.success(), "{drained:?}");
    let log = daemon.log();
    let mut lines = log.lines();
    let by = lines.find(|line| line.contains("by=\"token ops, certificate CN=client"));
    // What the subject is made of breaks no line.
    assert!(by.is_some_and(|by| by.contains(", 127.0.0.1:")), "{log}");
    daemon.stop();
}

#[test]
fn who_does_not_speak_tls_is_told_and_keeps_nobody_out() {
    let authority = Authority::new();
    let (lab, port) = (lab(&authority), free());
    let daemon = Daemon::start(&lab, &config(&lab, port, ""));
    let say = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let text = say(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    assert!(
        text.contains("server: weir\r\n") && text.contains("this address takes TLS only"),
        "{text}"
    );
    let body = text.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(serde_json::from_str::<Value>(body).unwrap()["status"], 400);
    let output = weir(&["show", "services", "--api", &format!("127.0.0.1:{port}")]);
    assert!(refused(&output).contains("takes TLS only"), "{output:?}");
    // A record that is no handshake is closed.
    say(&[22, 3, 1, 0, 4, 1, 2, 3, 4]);
    // Connections without a handshake, and with half of one, beyond all places.
    let idle: Vec<_> = (0..300)
        .map(|n| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            if n % 2 == 0 {
                stream.write_all(&[22, 3, 1, 2, 0, 1, 0]).unwrap();
            }
            stream
        })
        .collect();
    let began = Instant::now();
    let shown = ask(&lab, port, &["show", "services"], &[CA]);
    assert!(shown.status.success(), "{shown:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(daemon.get("/ready"), "ok\n");
    drop(idle);
    daemon.stop();
}

//! Each type of check against real servers on loopback: what passes, what fails, and in which words.

use super::words::Failure;
use super::{Stage, Tools, check, exec};
use crate::config::{
    Body, CheckWay, DnsProbe, Exchange, ExecProbe, GrpcProbe, HealthConfig, HttpProbe, Probe,
    Rcode, RecordType, TlsProbe,
};
use crate::health::{Engine, Finding, Outcome, Run, Start};
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{RData, Record};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// A run to make checks with.
fn run() -> Run {
    Engine::new(1, 1).any_run()
}

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

async fn probe(probe: Probe, to: SocketAddr) -> Outcome {
    probe_with(probe, to, &Tools::new(1, Arc::default())).await
}

async fn probe_with(probe: Probe, to: SocketAddr, tools: &Tools) -> Outcome {
    probe_telling(probe, to, false, tools).await
}

/// `tells`: the real server expects a header of the PROXY protocol.
async fn probe_telling(probe: Probe, to: SocketAddr, tells: bool, tools: &Tools) -> Outcome {
    let config = HealthConfig {
        probe,
        port: None,
        via: CheckWay::Host,
        interval: Duration::from_secs(1),
        fast_interval: Duration::from_secs(1),
        timeout: Duration::from_millis(400),
        rise: 1,
        fall: 1,
    };
    let start = Start {
        run: run(),
        address: to.ip(),
        port: to.port(),
        config: Arc::new(config),
        service: None,
        tells,
    };
    check(&start, tools).await
}

fn holds(found: &Outcome, finding: Finding, words: &str) {
    assert_eq!(found.finding, finding, "{found:?}");
    assert!(found.words.contains(words), "{found:?} lacks {words:?}");
    assert!(found.took < Duration::from_secs(1), "{found:?}");
}

/// A server of TCP that says something to each client, after it has read so many bytes.
async fn tcp_server(read: usize, says: &'static [u8], stays: bool) -> SocketAddr {
    let listener = TcpListener::bind(local(0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; read];
            let _ = stream.read_exact(&mut buffer).await;
            let _ = stream.write_all(says).await;
            if stays {
                kept.push(stream);
            }
        }
    });
    at
}

/// A port that nothing listens on.
async fn closed() -> SocketAddr {
    let listener = TcpListener::bind(local(0)).await.unwrap();
    listener.local_addr().unwrap()
}

fn exchange(send: &str, expect: &str) -> Exchange {
    Exchange {
        send: send.into(),
        expect: expect.into(),
    }
}

#[tokio::test]
async fn tcp() {
    let (passed, failed) = (Finding::Passed, Finding::Failed);
    let tcp = |send, expect| Probe::Tcp(exchange(send, expect));
    let pong = tcp_server(4, b"+PONG\r\n", true).await;
    let silent = tcp_server(0, b"", true).await;
    let closing = tcp_server(4, b"", false).await;
    for (name, to, asked, finding, words) in [
        ("connects", silent, tcp("", ""), passed, "connected"),
        (
            "refused",
            closed().await,
            tcp("", ""),
            failed,
            "connect: connection refused",
        ),
        (
            "answers",
            pong,
            tcp("PING", "+PONG"),
            passed,
            "answered as expected",
        ),
        (
            "other answer",
            pong,
            tcp("PING", "-OK"),
            failed,
            "no answer within 400ms",
        ),
        (
            "accepts, and never answers",
            silent,
            tcp("PING", "+"),
            failed,
            "no answer within 400ms",
        ),
        (
            "hangs up",
            closing,
            tcp("PING", "+"),
            failed,
            "answer: connection closed",
        ),
    ] {
        let found = probe(asked, to).await;
        assert!(
            found.words.contains(words) && found.finding == finding,
            "{name}: {found:?}"
        );
    }
}

fn http(path: &str) -> HttpProbe {
    HttpProbe {
        method: "GET".into(),
        path: path.into(),
        host: Some("www.example.org".into()),
        headers: vec![("x-check".into(), "yes".into())],
        status: vec![(200, 399)],
        body: None,
        tls: None,
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let host = request.uri().host().map(str::to_owned).or_else(|| {
        let host = request.headers().get("host")?.to_str().ok()?;
        Some(host.to_owned())
    });
    let is_asked_so = host.as_deref() == Some("www.example.org")
        && request
            .headers()
            .get("x-check")
            .is_some_and(|it| it == "yes");
    let status = match request.uri().path() {
        _ if !is_asked_so => 400,
        "/500" => 500,
        "/302" => 302,
        _ => 200,
    };
    let body = format!("{:?} all systems go", request.version());
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status.try_into().unwrap();
    Ok(response)
}

async fn http_server() -> SocketAddr {
    let listener = TcpListener::bind(local(0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    at
}

#[tokio::test]
async fn http_status_and_body() {
    let (passed, failed) = (Finding::Passed, Finding::Failed);
    let at = http_server().await;
    let mut cases = vec![];
    let mut case = |probe, finding, words| cases.push((probe, finding, words));
    case(http("/"), passed, "status 200");
    case(http("/302"), passed, "status 302");
    case(http("/500"), failed, "status 500");
    let with = |path, body| HttpProbe {
        body: Some(body),
        ..http(path)
    };
    case(
        with("/", Body::Text("systems go".into())),
        passed,
        "body as expected",
    );
    case(
        with("/", Body::Text("systems no".into())),
        failed,
        "has no \"systems no\"",
    );
    case(
        with("/", Body::Regex("HTTP/1.1 \\w+".into())),
        passed,
        "body as expected",
    );
    case(
        with("/", Body::Regex("^go".into())),
        failed,
        "has no \"^go\"",
    );
    let only = HttpProbe {
        status: vec![(204, 204), (500, 599)],
        ..http("/500")
    };
    case(only, passed, "status 500");
    let other = HttpProbe {
        host: None,
        ..http("/")
    };
    case(other, failed, "status 400");
    for (asked, finding, words) in cases {
        let found = probe(Probe::Http(asked), at).await;
        holds(&found, finding, words);
    }
    let silent = tcp_server(0, b"", true).await;
    let found = probe(Probe::Http(http("/")), silent).await;
    holds(&found, failed, "request: no answer within 400ms");
    let other = tcp_server(1, b"SSH-2.0-OpenSSH\r\n", true).await;
    let found = probe(Probe::Http(http("/")), other).await;
    holds(&found, failed, "request: ");
}

#[tokio::test]
async fn https_by_alpn_and_whom_it_trusts() {
    let made = rcgen::generate_simple_self_signed(["www.example.org".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = |alpn: &'static [u8]| {
        let config = rustls::ServerConfig::builder_with_provider(provider.clone());
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth();
        let certificates = vec![made.cert.der().clone()];
        let mut config = config
            .with_single_cert(certificates, key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            let listener = TcpListener::bind(local(0)).await.unwrap();
            let at = listener.local_addr().unwrap();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let acceptor = acceptor.clone();
                    tokio::spawn(async move {
                        let Ok(stream) = acceptor.accept(stream).await else {
                            return;
                        };
                        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        let io = TokioIo::new(stream);
                        let _ = match is_h2 {
                            true => {
                                let server =
                                    hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                                server.serve_connection(io, service_fn(answer)).await
                            }
                            false => {
                                let server = hyper::server::conn::http1::Builder::new();
                                server.serve_connection(io, service_fn(answer)).await
                            }
                        };
                    });
                }
            });
            at
        }
    };
    let (h1, h2) = (server(b"http/1.1").await, server(b"h2").await);
    let asked = |sni: &str, verify, body: &str| {
        Probe::Http(HttpProbe {
            body: Some(Body::Text(body.into())),
            tls: Some(TlsProbe {
                sni: Some(sni.into()),
                verify,
            }),
            ..http("/")
        })
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let tools = Tools::new(1, Arc::default());
    *tools.tls.borrow_mut() = Some(Rc::new(super::tls::Tls::with(roots).unwrap()));
    let name = "www.example.org";
    let found = probe_with(asked(name, true, "HTTP/1.1"), h1, &tools).await;
    holds(&found, Finding::Passed, "status 200");
    let found = probe_with(asked(name, true, "HTTP/2.0"), h2, &tools).await;
    holds(&found, Finding::Passed, "status 200");
    let found = probe_with(asked("other.example.org", true, ""), h1, &tools).await;
    holds(&found, Finding::Failed, "TLS handshake: ");
    let found = probe_with(asked("other.example.org", false, "HTTP/2.0"), h2, &tools).await;
    holds(&found, Finding::Passed, "status 200");
    // A machine that trusts nothing says nothing of real servers.
    let tools = Tools::new(1, Arc::default());
    let none = super::tls::Tls::with(rustls::RootCertStore::empty()).unwrap();
    *tools.tls.borrow_mut() = Some(Rc::new(none));
    let found = probe_with(asked(name, true, ""), h1, &tools).await;
    holds(&found, Finding::Nothing, "no certificates that it trusts");
    let plain = tcp_server(0, b"220 smtp ready\r\n", true).await;
    let found = probe(asked(name, false, ""), plain).await;
    holds(&found, Finding::Failed, "TLS handshake: ");
}

#[tokio::test]
async fn udp() {
    let socket = UdpSocket::bind(local(0)).await.unwrap();
    let at = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            // Silence for others.
            if &buffer[..length] == b"hello" {
                let _ = socket.send_to(b"hello yourself", from).await;
            }
        }
    });
    let udp = |send, expect| Probe::Udp(exchange(send, expect));
    let (passed, failed) = (Finding::Passed, Finding::Failed);
    holds(
        &probe(udp("hello", "yourself"), at).await,
        passed,
        "answered as expected",
    );
    holds(
        &probe(udp("hello", "none"), at).await,
        failed,
        "unexpected answer \"hello yourself\"",
    );
    holds(
        &probe(udp("hi", "yourself"), at).await,
        failed,
        "no answer within 400ms",
    );
    holds(
        &probe(udp("hi", ""), at).await,
        passed,
        "nothing said against it",
    );
    let closed = UdpSocket::bind(local(0))
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    holds(
        &probe(udp("hi", ""), closed).await,
        failed,
        "connection refused",
    );
    holds(
        &probe(udp("hi", "x"), closed).await,
        failed,
        "connection refused",
    );
}

#[tokio::test]
async fn dns() {
    let socket = UdpSocket::bind(local(0)).await.unwrap();
    let at = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let mut message = Message::from_vec(&buffer[..length]).unwrap();
            message.metadata.message_type = MessageType::Response;
            let name = message.queries[0].name().clone();
            match name.to_string().as_str() {
                "escape.example.org." => {
                    let text = format!("\u{1b}]0;owned\u{7}\u{202e}{}", "x".repeat(200));
                    let data = RData::TXT(TXT::new(vec![text; 4]));
                    message.add_answer(Record::from_rdata(name, 60, data));
                }
                "www.example.org." => {
                    let data = RData::A(A::new(192, 0, 2, 1));
                    message.add_answer(Record::from_rdata(name, 60, data));
                }
                _ => message.metadata.response_code = ResponseCode::NXDomain,
            }
            // One to another question comes first.
            let id = message.metadata.id;
            message.metadata.id = id.wrapping_add(1);
            let _ = socket.send_to(&message.to_vec().unwrap(), from).await;
            message.metadata.id = id;
            let _ = socket.send_to(&message.to_vec().unwrap(), from).await;
        }
    });
    let dns = |name: &str, rcode, answer: Option<&str>| {
        Probe::Dns(DnsProbe {
            name: name.into(),
            record: RecordType::A,
            rcode,
            answer: answer.map(str::to_owned),
        })
    };
    let (passed, failed) = (Finding::Passed, Finding::Failed);
    let noerror = Some(Rcode::NoError);
    for (asked, finding, words) in [
        (
            dns("www.example.org", noerror, None),
            passed,
            "response code noerror",
        ),
        (
            dns("www.example.org", noerror, Some("192.0.2.1")),
            passed,
            "answered 192.0.2.1",
        ),
        (
            dns("www.example.org", noerror, Some("192.0.2.2")),
            failed,
            "answered 192.0.2.1, expected 192.0.2.2",
        ),
        (
            dns("other.example.org", noerror, None),
            failed,
            "response code nxdomain",
        ),
        (
            dns("other.example.org", Some(Rcode::NxDomain), None),
            passed,
            "nxdomain",
        ),
        (dns("other.example.org", None, None), passed, "nxdomain"),
        (
            dns("other.example.org", None, Some("192.0.2.1")),
            failed,
            "no record",
        ),
    ] {
        holds(&probe(asked, at).await, finding, words);
    }
    // Terminals and logs are shown what others say, but not as they say it.
    let found = probe(dns("escape.example.org", noerror, Some("no")), at).await;
    holds(&found, failed, "answered .]0;owned..xxx");
    assert!(found.words.chars().count() <= 301, "{found:?}");
    let closed = UdpSocket::bind(local(0))
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let found = probe(dns("www.example.org", noerror, None), closed).await;
    holds(&found, failed, "connection refused");
}

#[tokio::test]
async fn icmp_of_both_families() {
    let tools = Tools::new(1, Arc::default());
    for to in ["127.0.0.1", "::1"] {
        let to = SocketAddr::new(to.parse().unwrap(), 0);
        let found = probe_with(Probe::Icmp, to, &tools).await;
        // Where this process may not, or the machine has no IPv6, it says nothing.
        match found.finding {
            Finding::Passed => assert_eq!(found.words, "echo reply"),
            Finding::Nothing => {}
            Finding::Failed => assert!(to.is_ipv6(), "{found:?}"),
        }
    }
}

#[tokio::test]
async fn grpc() {
    let listener = TcpListener::bind(local(0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    /// As a server of gRPC has it: the health of `up` and of `down`; others are not known.
    async fn health(
        request: Request<Incoming>,
    ) -> Result<
        Response<
            http_body_util::StreamBody<
                impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>>,
            >,
        >,
        Infallible,
    > {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        assert_eq!(request.headers()["content-type"], "application/grpc");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), 5 + body[4] as usize);
        let service = body.get(7..).unwrap_or_default();
        let (status, message): (&str, &[u8]) = match service {
            b"" | b"up" => ("0", &[0, 0, 0, 0, 2, 8, 1]),
            b"down" => ("0", &[0, 0, 0, 0, 2, 8, 2]),
            _ => ("5", &[]),
        };
        let mut trailers = hyper::HeaderMap::new();
        trailers.insert("grpc-status", status.parse().unwrap());
        let frames = [
            Frame::data(Bytes::copy_from_slice(message)),
            Frame::trailers(trailers),
        ];
        let body = futures_util::stream::iter(frames.map(Ok));
        Ok(Response::new(http_body_util::StreamBody::new(body)))
    }
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(health)));
        }
    });
    let grpc = |service: &str| {
        Probe::Grpc(GrpcProbe {
            service: service.into(),
            host: None,
            tls: None,
        })
    };
    let (passed, failed) = (Finding::Passed, Finding::Failed);
    holds(&probe(grpc(""), at).await, passed, "SERVING");
    holds(&probe(grpc("up"), at).await, passed, "SERVING");
    holds(&probe(grpc("down"), at).await, failed, "NOT_SERVING");
    holds(&probe(grpc("none"), at).await, failed, "does not know");
    holds(
        &probe(grpc(""), http_server().await).await,
        failed,
        "request: ",
    );
}

#[tokio::test]
async fn programs_say_it_by_their_exit_status() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), all.clone()).unwrap();
    let program = folder.path().join("check");
    let text = "#!/bin/sh\n\
                test \"$(id -u)\" != 0 || { echo \"it is root\" >&2; exit 9; }\n\
                test \"$WEIR_REAL_ADDRESS:$WEIR_REAL_PORT\" = 192.0.2.1:80 || exit 8\n\
                case $1 in good) ;; \
                fds) test ! -e /proc/$$/fd/\"$2\" || exit 7 ;; \
                chatty) i=0; while test $i -lt 3000; do echo \"a line that is neither short nor long\" >&2; i=$((i+1)); done ;; \
                leaves) sh \"$0\" slow & ;; \
                 bad) echo \"it is bad\" >&2; exit 3 ;; slow) sleep 60 ;; esac\n";
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, all).unwrap();
    let to = "192.0.2.1:80".parse().unwrap();
    // This thread's alone.
    crate::harden::drop_privileges(crate::harden::Role::Health);
    let tools = Tools::new(1, Arc::default());
    // As DPDK opens its own: of queues, of its memory.
    let open = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&open).to_string();
    let run = async |program: &str, argument: &str| {
        let probe = ExecProbe {
            program: program.into(),
            arguments: vec![argument.into(), number.clone()],
            user: "nobody".into(),
        };
        let stage = Stage::new();
        let check = exec::check_in(folder.path(), to, &probe, &tools, &stage);
        tokio::time::timeout(Duration::from_secs(5), check).await
    };
    assert_eq!(
        run("check", "good").await,
        Ok(Ok("exit status 0".to_owned()))
    );
    // What one leaves behind is ended, too, and not waited for.
    for passes in ["fds", "chatty", "leaves"] {
        let found = run("check", passes).await;
        assert_eq!(found, Ok(Ok("exit status 0".to_owned())), "{passes}");
    }
    let bad = Err(Failure::Real("exit status 3: \"it is bad\"".to_owned()));
    assert_eq!(run("check", "bad").await, Ok(bad));
    // What takes too long is ended, with what it has started.
    assert!(run("check", "slow").await.is_err());
    let left = std::process::Command::new("pgrep")
        .args(["-f", program.to_str().unwrap()])
        .output();
    if let Ok(left) = left {
        assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    }
    assert!(matches!(run("none", "").await, Ok(Err(Failure::Own(_)))));
}

/// A server of HTTP/2 that asks for ever more answers (PING) and reads none; returns how many connections it has.
async fn flooding() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(local(0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let open = Arc::new(AtomicUsize::new(0));
    let counted = open.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let open = counted.clone();
            open.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                // Empty SETTINGS, then PING.
                let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
                let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
                let many = ping.repeat(1000);
                while stream.write_all(&many).await.is_ok() {}
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (at, open)
}

#[tokio::test]
async fn a_server_cannot_keep_a_connection_beyond_the_check() {
    let (at, open) = flooding().await;
    let probe_of = Probe::Grpc(GrpcProbe {
        service: String::new(),
        host: None,
        tls: None,
    });
    let found = probe(probe_of, at).await;
    assert_eq!(found.finding, Finding::Failed, "{found:?}");
    for _ in 0..100 {
        if open.load(Ordering::SeqCst) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the connection is still open: {found:?}");
}

/// What expects a header of the PROXY protocol hears first that the proxy itself speaks, by whatever it is asked; and what
/// expects none hears none.
#[tokio::test]
async fn real_servers_that_are_told_of_clients_hear_of_the_proxy() {
    let header: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let listener = TcpListener::bind(local(0)).await.unwrap();
    let tcp = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut begun = vec![0; header.len()];
            let _ = stream.read_exact(&mut begun).await;
            if begun != header {
                continue;
            }
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    let socket = UdpSocket::bind(local(0)).await.unwrap();
    let udp = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            if buffer[..length] == [header, b"hello"].concat() {
                let _ = socket.send_to(b"hello yourself", from).await;
            }
        }
    });
    let tools = Tools::new(1, Arc::default());
    let get = "GET / HTTP/1.0\r\nhost: www.example.org\r\nx-check: yes\r\n\r\n";
    for (asked, to) in [
        (Probe::Tcp(exchange(get, "200 OK")), tcp),
        (Probe::Http(http("/")), tcp),
        (Probe::Udp(exchange("hello", "yourself")), udp),
    ] {
        let found = probe_telling(asked.clone(), to, true, &tools).await;
        assert_eq!(found.finding, Finding::Passed, "{asked:?}: {found:?}");
        let found = probe_telling(asked.clone(), to, false, &tools).await;
        assert_eq!(found.finding, Finding::Failed, "{asked:?}: {found:?}");
    }
}

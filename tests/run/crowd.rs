//! Many clients at once: slow ones keep no other waiting, and changes are made in the order of their requests.

use super::*;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The most that a change may take, beside others that take their time.
const SOON: Duration = Duration::from_secs(10);

fn sends(lab: &Lab, text: &str) -> UnixStream {
    let mut stream = UnixStream::connect(lab.path("weir.sock")).unwrap();
    let patience = Some(Duration::from_secs(30));
    stream.set_read_timeout(patience).unwrap();
    stream.set_write_timeout(patience).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// A request of a body that is `length` long, and whose end never comes.
fn half_body(lab: &Lab, path: &str, length: usize, sent: usize) -> UnixStream {
    let body = " ".repeat(sent);
    sends(
        lab,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ),
    )
}

fn soon(daemon: &Daemon, arguments: &[&str]) -> Output {
    let began = Instant::now();
    let output = daemon.tool(arguments);
    let took = began.elapsed();
    assert!(took < SOON, "{arguments:?}: {took:?}");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output
}

#[test]
fn bodies_that_never_come_keep_no_change_waiting() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let began = Instant::now();
    let mut halves: Vec<_> = ["/v1/reload", "/v1/weight"]
        .iter()
        .flat_map(|path| [(*path, 1000, 1); 4])
        .chain([("/v1/plan", 8 << 20, 100_000); 5])
        .map(|(path, length, sent)| half_body(&lab, path, length, sent))
        .collect();
    soon(&daemon, &["weight", "web", "10.0.0.11:8080", "5"]);
    assert_eq!(daemon.show("reals")[0]["weight"], 5);
    soon(&daemon, &["reload"]);
    soon(&daemon, &["enable", "web", "10.0.0.11:8080"]);
    assert_eq!(daemon.show("reals")[0]["weight"], 3);
    // Those of small ones are all told so at once.
    for half in &mut halves[..8] {
        let mut answer = String::new();
        half.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("nothing came of the body"), "{answer}");
    }
    let took = began.elapsed();
    assert!((4..15).contains(&took.as_secs()), "{took:?}");
    daemon.stop();
}

#[test]
fn connections_that_send_half_a_request_give_way_to_whole_ones() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let halves: Vec<_> = (0..300)
        .map(|_| half_body(&lab, "/v1/weight", 1000, 1))
        .collect();
    soon(&daemon, &["weight", "web", "10.0.0.11:8080", "5"]);
    soon(&daemon, &["show", "reals"]);
    drop(halves);
    daemon.stop();
}

#[test]
fn changes_are_made_in_the_order_in_which_they_were_asked_for() {
    if !cfg!(debug_assertions) {
        // A release has no way to make the first one slow.
        return;
    }
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    let weight = || daemon.show("reals")[0]["weight"].as_u64().unwrap();
    let file = |name: &str, weight: u16| {
        let path = lab.write(name, &lab.config("", weight));
        path.to_str().unwrap().to_owned()
    };
    let (five, seven) = (file("five.toml", 5), file("seven.toml", 7));
    let slow = |arguments: &[&str], then: &dyn Fn()| {
        assert_eq!(daemon.inject("reading").0, 200);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| daemon.tool(arguments));
            std::thread::sleep(Duration::from_millis(500));
            then();
            let output = first.join().unwrap();
            assert!(output.status.success(), "{output:?}");
        });
    };
    let change = |arguments: &[&str]| {
        let output = daemon.tool(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };

    slow(&["reload", &five], &|| {
        // What changes nothing need not wait.
        soon(&daemon, &["plan", &seven]);
        assert_eq!(weight(), 1);
        change(&["reload", &seven]);
    });
    assert_eq!(weight(), 7, "reload, reload");

    slow(&["reload", &five], &|| {
        change(&["weight", "web", "10.0.0.11:8080", "9"])
    });
    assert_eq!(weight(), 9, "reload, weight");
    change(&["enable", "web", "10.0.0.11:8080"]);
    assert_eq!(weight(), 5, "the file's");

    file("lb.toml", 11);
    slow(&["reload", &five], &|| daemon.signal("HUP"));
    daemon.wait(|_| (weight() == 11).then_some(()));

    assert_eq!(daemon.inject("reading").0, 200);
    file("lb.toml", 13);
    daemon.signal("HUP");
    std::thread::sleep(Duration::from_millis(500));
    change(&["weight", "web", "10.0.0.11:8080", "15"]);
    assert_eq!(weight(), 15, "SIGHUP, weight");

    let more = "[[service]]\nname = \"more\"\naddress = \"192.0.2.90\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n\
                [[service.real]]\naddress = \"10.0.0.11\"\n";
    let more = lab.write("more.toml", more);
    slow(&["add", more.to_str().unwrap()], &|| {
        change(&["remove", "more"])
    });
    slow(&["add", more.to_str().unwrap()], &|| change(&["reload"]));
    let left = daemon.show("services");
    assert_eq!(left.as_array().unwrap().len(), 2, "add, reload: {left}");
    daemon.stop();
}

#[test]
fn a_list_that_nobody_reads_gives_way_to_one_that_is_read() {
    let lab = Lab::new();
    lab.receives("wan", &syns(8000));
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    daemon.wait(|daemon| {
        let sent = &daemon.show("workers")[0]["transmitted_packets"];
        (sent.as_u64().unwrap() > 6000).then_some(())
    });
    let list = "GET /v1/connections HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    // With those that only root gets.
    let places = if rustix::process::getuid().is_root() {
        12
    } else {
        8
    };
    let mut unread: Vec<_> = (0..places).map(|_| sends(&lab, list)).collect();
    // They are all being written, and none of them stands still for long.
    let text = daemon.wait(|daemon| {
        let output = daemon.tool(&["show", "services"]);
        (!output.status.success()).then(|| refused(&output))
    });
    assert!(text.contains("too many lists are being read"), "{text}");
    // A short answer takes no place, and one is kept for a scrape.
    soon(&daemon, &["show", "ports"]);
    daemon.get("/metrics");
    let began = Instant::now();
    let rows = daemon.wait(|daemon| {
        let output = daemon.tool(&["show", "connections", "--json"]);
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| json(&text))
    });
    assert!(rows.as_array().unwrap().len() > 6000);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    // The one that gave way has no end, so that its reader does not take it for the whole.
    let whole = unread.iter_mut().filter_map(|stream| {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).ok()?;
        text.ends_with(b"0\r\n\r\n").then_some(())
    });
    assert!(whole.count() < places);
    daemon.stop();
}

#[test]
fn the_second_signal_ends_weir_at_once() {
    if !cfg!(debug_assertions) {
        return;
    }
    for (first, second) in [("TERM", "TERM"), ("TERM", "INT"), ("INT", "TERM")] {
        let lab = Lab::new();
        let daemon = Daemon::start(&lab, &lab.config("", 1));
        assert_eq!(daemon.inject("stop").0, 200);
        daemon.signal(first);
        let line = format!("SIG{first}: stopping");
        let end = Instant::now() + Duration::from_secs(10);
        while !daemon.log().contains(&line) {
            assert!(Instant::now() < end, "{}", daemon.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(200));
        let began = Instant::now();
        let status = daemon.end(second);
        assert_eq!(status.code(), Some(1), "{first}, {second}: {status}");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "{first}, {second}: {took:?}");
    }
}

/// A mistake above or in [api] leads to no other weir: the one that has the default socket, or the default address.
#[test]
fn a_mistake_in_a_configuration_leads_its_commands_to_no_other_weir() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let good = lab.config("", 9);
    let key = "control =";
    let slips = [
        (format!("note = \"\"\"\n{good}"), "not TOML"),
        (good.replace(key, "contrl ="), "unknown key `contrl`"),
        (good.replace("unix:", ""), "control"),
        (
            format!("x = [{}]\n{good}", "1,".repeat(2_000_001)),
            "more values",
        ),
    ];
    for (text, why) in slips {
        let file = lab.write("slip.toml", &text);
        for command in [&["reload"][..], &["drain", "web", "10.0.0.11:8080"]] {
            let output = weir(&[command, &["--config", file.to_str().unwrap()]].concat());
            let said = refused(&output);
            assert!(said.contains("slip.toml") && said.contains(why), "{said}");
        }
    }
    assert_eq!(daemon.show("reals")[0]["weight"], 3);
    daemon.stop();
}

/// Before it is ready: while it touches the memory of its table.
#[test]
fn a_signal_ends_a_start_at_once() {
    for name in ["TERM", "INT"] {
        let lab = Lab::new();
        let large = "connections = 40000000";
        let config = lab.config("", 1).replace("connections = 10000", large);
        let file = lab.write("lb.toml", &config);
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["run", "--config", file.to_str().unwrap()]);
        let mut daemon = command.stderr(Stdio::null()).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        let pid = daemon.id().to_string();
        // Its device is there, and much of its table is not.
        let has_begun = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
            let pages: usize = status.split_whitespace().nth(1).unwrap().parse().unwrap();
            pages * 4096 > 300 << 20
        };
        while !has_begun() {
            assert!(Instant::now() < end, "it does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        let began = Instant::now();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.unwrap().success());
        let status = daemon.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{status}");
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{:?}",
            began.elapsed()
        );
    }
}

#[test]
fn commands_find_the_daemon_by_its_configuration_whatever_is_wrong_in_it() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let file = lab.path("lb.toml");
    let file = file.to_str().unwrap();
    let elsewhere = "unix:/nowhere.sock";
    let done = |arguments: &[&str]| {
        let output = weir(&[arguments, &["--config", file]].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output
    };
    done(&["weight", "web", "10.0.0.11:8080", "5"]);
    done(&["show", "reals", "--json"]);
    done(&["plan", file]);
    done(&["drain", "web", "10.0.0.12:8080", "--api", elsewhere]);
    lab.write("lb.toml", &lab.config("", 7));
    done(&["enable", "web", "10.0.0.11:8080"]);
    done(&["reload"]);
    assert_eq!(daemon.show("reals")[0]["weight"], 7);
    // As the unit reloads: the diagnostics are the daemon's, not an error of a daemon that is looked for elsewhere.
    for (from, to, why) in [
        ("\"wrr\"", "\"wrx\"", "unknown scheduler `wrx`"),
        ("\"wrr\"", "wrr", "not TOML"),
        ("[[neighbour]]", "[[neigbour]]", "unknown key `neigbour`"),
    ] {
        lab.write("lb.toml", &lab.config("", 9).replace(from, to));
        let text = refused(&weir(&["reload", "--config", file]));
        assert!(text.contains(why), "{text}");
    }
    let text = refused(&weir(&["reload", "--config", "/nowhere.toml"]));
    assert!(
        text.contains("/nowhere.toml") && text.contains("cannot read"),
        "{text}"
    );
    let api = format!("control = \"{}\"", lab.api());
    let off = lab.write(
        "off.toml",
        &lab.config("", 3).replace(&api, "control = \"\""),
    );
    let text = refused(&weir(&["reload", "--config", off.to_str().unwrap()]));
    assert!(
        text.contains("neither a `control` socket nor `listen`"),
        "{text}"
    );
    assert_eq!(daemon.show("reals")[0]["weight"], 7);
    daemon.stop();
}

/// Repeats what it does on so many threads, until `then` is done.
fn beside<T>(threads: usize, work: impl Fn() + Sync, then: impl FnOnce() -> T) -> T {
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    work();
                }
            });
        }
        let _ends = Ends(&is_over);
        // Until they are at it.
        std::thread::sleep(Duration::from_millis(500));
        then()
    })
}

#[test]
fn readers_on_listen_keep_no_list_and_no_scrape_from_the_control_socket() {
    let lab = Lab::new();
    lab.receives("wan", &syns(4000));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    let config = lab.config("", 3);
    let config = config.replace("listen = \"\"", &format!("listen = \"{at}\""));
    let daemon = Daemon::start(&lab, &config);
    let get = |path: &str| {
        let mut text = Vec::new();
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(SOON * 5)).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        // It may be closed in favour of another one.
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    let refused = AtomicUsize::new(0);
    let read = || {
        if get("/v1/connections").starts_with("HTTP/1.1 503 ") {
            refused.fetch_add(1, Relaxed);
        }
    };
    beside(24, read, || {
        for _ in 0..10 {
            for what in ["ports", "services", "reals", "neighbours"] {
                let output = daemon.tool(&["show", what]);
                assert!(output.status.success(), "{what}: {output:?}");
            }
            daemon.get("/metrics");
            let scrape = get("/metrics");
            assert!(scrape.starts_with("HTTP/1.1 200 "), "{scrape:.200}");
        }
    });
    assert!(refused.into_inner() > 0, "all places were taken");
    daemon.stop();
}

#[test]
fn a_member_of_the_group_keeps_root_from_nothing() {
    if !rustix::process::getuid().is_root() {
        return skip::skip("it takes root");
    }
    let lab = Lab::new();
    std::fs::set_permissions(lab.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let socket = lab.path("weir.sock");
    let group = std::fs::metadata(&socket).unwrap().gid();
    thread_local!(static HALVES: RefCell<VecDeque<UnixStream>> = RefCell::default());
    let opened = AtomicUsize::new(0);
    let open = || {
        HALVES.with_borrow_mut(|halves| {
            if halves.is_empty() {
                // Of this thread only.
                let nobody = rustix::process::Uid::from_raw(65534);
                rustix::thread::set_thread_gid(rustix::process::Gid::from_raw(group)).unwrap();
                rustix::thread::set_thread_uid(nobody).unwrap();
            }
            let Ok(mut half) = UnixStream::connect(&socket) else {
                return;
            };
            opened.fetch_add(1, Relaxed);
            let _ = half.write_all(b"POST /v1/weight HTTP/1.1\r\nHost: local");
            halves.push_back(half);
            if halves.len() > 60 {
                halves.pop_front();
            }
        })
    };
    beside(6, open, || {
        for n in 1..=20 {
            soon(
                &daemon,
                &["weight", "web", "10.0.0.11:8080", &n.to_string()],
            );
            soon(&daemon, &["show", "reals"]);
            // Without the patience of the tools.
            assert_eq!(daemon.get("/health"), "ok\n");
        }
    });
    assert!(opened.into_inner() > 300);
    daemon.stop();
}

#[test]
fn a_plan_waits_for_no_change_however_many_wait() {
    if !cfg!(debug_assertions) {
        return;
    }
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let file = lab.path("lb.toml");
    let file = file.to_str().unwrap();
    assert_eq!(daemon.inject("reading").0, 200);
    std::thread::scope(|scope| {
        let daemon = &daemon;
        let began = Instant::now();
        let reload = scope.spawn(|| daemon.tool(&["reload"]));
        std::thread::sleep(Duration::from_millis(300));
        let changes: Vec<_> = (5..10)
            .map(|n| {
                let n = n.to_string();
                scope.spawn(move || daemon.tool(&["weight", "web", "10.0.0.11:8080", &n]))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        soon(daemon, &["plan", file]);
        let planned = began.elapsed();
        assert!(changes.iter().all(|change| !change.is_finished()));
        for change in changes {
            assert!(change.join().unwrap().status.success());
        }
        assert!(reload.join().unwrap().status.success());
        assert!(planned < began.elapsed());
    });
    daemon.stop();
}

#[test]
fn what_is_refused_anyway_is_refused_before_its_body() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    for (request, length, status) in [
        ("POST /v1/no", 1000, 404),
        ("POST /v1/services", 1000, 405),
        ("POST /v1/weight", (16 << 20) + 1, 413),
        ("PUT /v1/services", 1_u64 << 40, 413),
        ("POST /v1/plan", (128 << 20) + 1, 413),
    ] {
        let began = Instant::now();
        let mut stream = sends(
            &lab,
            &format!("{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{{"),
        );
        let mut answer = [0; 1024];
        let read = stream.read(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]);
        let took = began.elapsed();
        let begins = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&begins), "{request}: {answer}");
        assert!(took < SOON, "{request}: {took:?}");
    }
    for body in [r#"{"files": null}"#, "null", "[]", r#"{"files": []}"#] {
        let (status, said) = daemon.request(&format!(
            "POST /v1/reload HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!(status, 400, "{body}: {said}");
    }
    daemon.stop();
}

#[test]
fn a_connection_that_is_closed_before_an_answer_is_asked_again() {
    let lab = Lab::new();
    let path = lab.path("other.sock");
    let api = format!("unix:{}", path.display());
    // Left behind, until a weir listens on it.
    drop(UnixListener::bind(&path).unwrap());
    let answer = "HTTP/1.1 200 OK\r\nServer: weir\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n[]\n";
    let at = path.clone();
    let serve = move |closes: usize| {
        std::thread::sleep(Duration::from_millis(300));
        std::fs::remove_file(&at).unwrap();
        let listener = UnixListener::bind(&at).unwrap();
        for n in 0.. {
            let (mut stream, _) = listener.accept().unwrap();
            if n >= closes {
                let _ = stream.read(&mut [0; 1024]);
                stream.write_all(answer.as_bytes()).unwrap();
                break;
            }
        }
    };
    // Not joined: it waits for ever where no request comes any more.
    std::thread::spawn(move || serve(5));
    let output = weir(&["show", "ports", "--json", "--api", &api]);
    assert!(output.status.success(), "{output:?}");
    // One that closes all of them.
    std::fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let text = refused(&weir(&["show", "ports", "--api", &api]));
    assert!(
        text.contains("closed the connection before it answered") && text.contains("ask again"),
        "{text}"
    );
}

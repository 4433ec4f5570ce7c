use super::*;
use crate::config::{ConnectionLog, LogDestination, LogFormat, Transport};
use crate::stats::Stats;
use crate::units::Time;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn record(n: u64) -> Record {
    let end = |last, port| (IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), port);
    Record {
        event: match n % 2 {
            0 => Event::Start,
            _ => Event::End(Cause::Fin),
        },
        id: n,
        at: n,
        start: Some(0),
        last: n,
        service: ServiceId(3),
        real: RealId(5),
        worker: WorkerId(0),
        protocol: 6,
        state: "time_wait",
        client: end(1, 40_000),
        destination: end(80, 80),
        server: end(11, 8080),
        local: None,
        is_translated: true,
    }
}

fn log(to: LogDestination, format: LogFormat) -> ConnectionLog {
    ConnectionLog {
        to,
        format,
        sample: 1,
        starts: true,
        ends: true,
        domain: 7,
    }
}

/// A thread at work, and the queue of its only worker.
fn started(log: &ConnectionLog) -> (Logger, Arc<Records>) {
    let records = Arc::new(Records::new());
    let stats = Arc::new(Stats::new(1).unwrap());
    stats.names.set_service(ServiceId(3), "we\"b".into());
    let logger = Logger::start(vec![records.clone()], stats, Time::default).unwrap();
    logger.set(Some(log));
    (logger, records)
}

fn wait(what: &str, is_there: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_there() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_file_has_every_record_and_a_new_one_is_begun_where_it_was_moved_away() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
    let (logger, records) = started(&log(LogDestination::File(path.clone()), LogFormat::Json));
    for n in 0..1000 {
        records.push(record(n));
    }
    wait("a thousand lines", || logger.counts().written == 1000);
    fs::rename(&path, &moved).unwrap();
    let began = Instant::now();
    let mut n = 1000;
    while !path.exists() {
        assert!(began.elapsed() < Duration::from_secs(60));
        records.push(record(n));
        n += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    // What is in the queue when the order to end comes is written.
    records.push(record(n));
    let counts = logger.counts();
    assert_eq!((counts.overrun, counts.unwritten), (0, 0));
    drop(logger);
    let all: Vec<_> = [lines(&moved), lines(&path)].concat();
    let ids = all
        .iter()
        .map(|line| line["id"].as_str().unwrap().to_owned());
    assert!(ids.eq((0..=n).map(|n| format!("{n:016x}"))));
    let end = &all[1];
    assert_eq!(end["service"], "we\"b");
    let said = [
        "event",
        "reason",
        "state",
        "protocol",
        "client",
        "destination",
        "server",
    ];
    let said = said.map(|key| end[key].as_str().unwrap());
    let expected = [
        "end",
        "fin",
        "time_wait",
        "tcp",
        "192.0.2.1:40000",
        "192.0.2.80:80",
        "192.0.2.11:8080",
    ];
    assert_eq!(said, expected);
}

#[test]
fn what_a_full_disk_or_a_full_queue_loses_is_counted() {
    let (logger, records) = started(&log(
        LogDestination::File("/dev/full".into()),
        LogFormat::Json,
    ));
    for n in 0..100 {
        records.push(record(n));
    }
    wait("a hundred lost", || logger.counts().unwritten == 100);
    logger.set(None);
    drop(logger);
    // Nothing takes them from the queue any longer.
    records.set(1, true, true);
    for n in 0..WAITING as u64 + 17 {
        records.push(record(n));
    }
    assert_eq!(records.lost(), 17);
    // A log without starts has none.
    while records.pop().is_some() {}
    records.set(1, false, true);
    (0..10).for_each(|n| records.push(record(n)));
    assert_eq!(std::iter::from_fn(|| records.pop()).count(), 5);
}

/// What a message is: its length, its sequence number and domain, whether it has templates, and how many of these records.
fn message(bytes: &[u8]) -> (usize, u32, u32, bool, usize) {
    let half = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let word = |at: usize| u32::from(half(at)) << 16 | u32::from(half(at + 2));
    assert_eq!(half(0), 10);
    let length = usize::from(half(2));
    let (mut at, mut has_templates, mut records) = (16, false, 0);
    while at < length {
        let of_set = usize::from(half(at + 2));
        match half(at) {
            2 => has_templates = true,
            // Of NAT44: a start's bytes, and those of an end, with the service's name.
            id => {
                let of_record = if id < 264 { 43 + 5 } else { 60 + 5 };
                assert_eq!((of_set - 4) % of_record, 0, "{id}");
                records += (of_set - 4) / of_record;
            }
        }
        at += of_set;
    }
    assert_eq!(at, length, "sets fill the message");
    (length, word(8), word(12), has_templates, records)
}

#[test]
fn a_collector_by_udp_gets_messages_that_arrive_by_every_way() {
    let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
    let patience = Some(Duration::from_secs(60));
    collector.set_read_timeout(patience).unwrap();
    let to = LogDestination::Collector(collector.local_addr().unwrap(), Transport::Udp);
    let (logger, records) = started(&log(to, LogFormat::Ipfix));
    let mut received = 0;
    let mut buffer = [0; 65_536];
    for round in 1..=10 {
        (0..200).for_each(|n| records.push(record(n)));
        while received < 200 * round {
            let bytes = collector.recv(&mut buffer).unwrap();
            let (length, sequence, domain, has_templates, records) = message(&buffer[..bytes]);
            assert!(length == bytes && bytes <= 1232, "{bytes}");
            // The sequence number counts the records before; templates come with the first message alone.
            assert_eq!((sequence as usize, domain), (received, 7));
            assert_eq!(has_templates, received == 0);
            received += records;
        }
    }
    assert_eq!(received, 2000);
    // It goes away: the kernel tells of some that are lost, and nothing waits.
    drop(collector);
    wait("some lost", || {
        records.push(record(0));
        logger.counts().unwritten > 0
    });
}

#[test]
fn a_collector_by_tcp_that_was_away_gets_the_templates_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let log = log(
        LogDestination::Collector(to, Transport::Tcp),
        LogFormat::Ipfix,
    );
    let (logger, records) = started(&log);
    for session in 0..2 {
        let (stop, stopped) = std::sync::mpsc::channel();
        let records = records.clone();
        // Until it is connected: a session that has ended is found out by what it does not take.
        let pusher = std::thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_millis(5)).is_err() {
                records.push(record(0));
            }
        });
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut bytes = [0; 200];
        stream.read_exact(&mut bytes).unwrap();
        stop.send(()).unwrap();
        pusher.join().unwrap();
        // Its first set is one of templates, and it counts from 0.
        let half = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!(
            (half(0), half(8), half(10), half(16)),
            (10, 0, 0, 2),
            "session {session}"
        );
    }
    wait("what was lost between the sessions is counted", || {
        let counts = logger.counts();
        counts.written > 0 && counts.unwritten > 0
    });
}

/// What a collector or a full disk does not take may have had a template in it.
#[test]
fn a_template_that_was_lost_comes_again_with_the_next_record() {
    let to = LogDestination::File("/dev/null".into());
    let mut encoder = Encoder::new(&log(to, LogFormat::Ipfix));
    let stats = Stats::new(1).unwrap();
    let mut message_with = |n: u64, is_taken: bool| {
        let mut sent = Vec::new();
        encoder.add(&record(n), &stats, (0, 0), &mut |_, _| true);
        encoder.finish(0, &mut |message, _| {
            sent.extend(message);
            is_taken
        });
        sent
    };
    // The first set behind the message's header of 16 bytes: 2 is one of templates (RFC 7011, section 3.3.2).
    let has_template = |message: &[u8]| message[16..18] == [0, 2];
    assert!(has_template(&message_with(0, false)));
    assert!(has_template(&message_with(2, true)));
    assert!(!has_template(&message_with(4, true)));
}

/// Records of each format that one thread writes in a second: `cargo test --release --lib connection_log -- --ignored --nocapture`.
#[test]
#[ignore = "it measures speed and asserts nothing: docs/connection-log.md has its figures"]
#[allow(clippy::disallowed_macros, clippy::print_stdout)]
fn how_many_records_are_written_in_a_second() {
    const COUNT: u64 = 2_000_000;
    let stats = Stats::new(1).unwrap();
    stats.names.set_service(ServiceId(3), "web".into());
    for format in [LogFormat::Json, LogFormat::Ipfix] {
        let log = log(LogDestination::File("/dev/null".into()), format);
        let (mut encoder, mut bytes) = (Encoder::new(&log), 0);
        let began = Instant::now();
        let mut out = |message: &[u8], _| {
            bytes += message.len();
            true
        };
        for n in 0..COUNT {
            encoder.add(
                &record(n),
                &stats,
                (1_700_000_000_000, 1_700_000_000_000),
                &mut out,
            );
        }
        encoder.finish(0, &mut out);
        let rate = COUNT as f64 / began.elapsed().as_secs_f64();
        println!(
            "{format:?}: {rate:.0} records a second, {} bytes each",
            bytes as u64 / COUNT
        );
    }
}

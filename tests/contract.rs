//! What each way through the director costs, in instructions per packet, against `contract.txt`: within 1 %.
//!
//! Callgrind counts them, within `Director::process` only, in bursts of 64, so the numbers do not depend on the machine's speed.
//! They depend on the compiler: what is measured is the dev profile of Cargo.toml, which the other tests have built already,
//! without incremental compilation, which inlines less. Another build, or another rustc than the file's, is not measured.
//!
//! And what a change costs among few services and among many, which is the same.

mod skip;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use weir::bench::{Bench, Flow, LAN, Setup, Traffic};
use weir::config::ServiceConfig;
use weir::model::{Model, key};
use weir::packet::BURST;
use weir::verdict::DropReason;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract.txt");
const TOLERANCE: f64 = 0.01;

/// Bursts of most ways that are counted.
const BURSTS: usize = 20;
const PACKETS: usize = BURSTS * BURST;
/// Connections whose packets are known ones, and the bursts in which each has one packet.
const KNOWN: usize = 256;
const ROUND: usize = KNOWN / BURST;

const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// Callgrind writes what it has counted so far, and begins anew, before each call of this.
#[inline(never)]
fn phase(way: &str) {
    std::hint::black_box(way);
}

fn send(bench: &mut Bench, traffic: &mut Traffic, bursts: usize) {
    (0..bursts).for_each(|_| bench.burst(traffic, Duration::ZERO));
}

fn send_each(bench: &mut Bench, flows: &[Flow], flags: Option<u8>) {
    let mut traffic = Traffic::new(flows.iter().copied(), flags, 64);
    send(bench, &mut traffic, flows.len() / BURST);
}

/// Counts one way; what it is comes to stdout. `is_so`: how many of the packets ended as they should.
fn count(way: &str, bench: &mut Bench, traffic: &mut Traffic, is_so: impl Fn(&Bench) -> u64) {
    count_bursts(BURSTS, way, bench, traffic, is_so);
}

#[allow(clippy::print_stdout)]
fn count_bursts(
    bursts: usize,
    way: &str,
    bench: &mut Bench,
    traffic: &mut Traffic,
    is_so: impl Fn(&Bench) -> u64,
) {
    let before = is_so(bench);
    phase(way);
    send(bench, traffic, bursts);
    phase("");
    let packets = bursts * BURST;
    assert_eq!(is_so(bench) - before, packets as u64, "{way}");
    println!("way: {packets} {way}");
}

fn forwarded(bench: &Bench) -> u64 {
    bench.stats.total(|worker| worker.received.get())
        - bench.stats.total(|worker| {
            let drops = DropReason::ALL
                .iter()
                .map(|reason| worker.drops(*reason).get());
            drops.sum::<u64>() + worker.queued.get()
        })
        - answered(bench)
}

fn answered(bench: &Bench) -> u64 {
    let reasons = weir::verdict::ReplyReason::ALL;
    bench.stats.total(|worker| {
        reasons
            .iter()
            .map(|&reason| worker.replies(reason).get())
            .sum()
    })
}

fn dropped(reason: DropReason) -> impl Fn(&Bench) -> u64 {
    move |bench| bench.stats.total(|worker| worker.drops(reason).get())
}

/// Known and new connections of a service.
fn connections(mode: &'static str, protocol: &'static str, is_six: bool) {
    let setup = Setup {
        is_six,
        ..Setup::new(mode, protocol)
    };
    let mut bench = Bench::new(&setup.config(), 16_384);
    let is_tcp = protocol == "tcp";
    let flags = |flags: u8| is_tcp.then_some(flags);
    let flows: Vec<Flow> = (0..KNOWN).map(|n| setup.flow(n, 1)).collect();
    send_each(&mut bench, &flows, flags(SYN));
    let replies = bench.replies(LAN);
    let sees_replies = matches!(mode, "nat" | "fullnat");
    if sees_replies {
        send_each(&mut bench, &replies, flags(SYN | ACK));
    }
    for _ in 0..2 {
        send_each(&mut bench, &flows, flags(ACK));
    }
    let mut known = Traffic::new(flows.iter().copied(), flags(PSH | ACK), 64);
    let family = if is_six { " ipv6" } else { "" };
    let way = |what: &str| format!("{mode} {protocol}{family} {what}");
    count(&way("known"), &mut bench, &mut known, forwarded);
    if sees_replies {
        // The first one with data proves the connection: only the others go by the known way.
        let mut known = Traffic::new(replies, flags(PSH | ACK), 64);
        count_bursts(
            ROUND,
            &way("first reply"),
            &mut bench,
            &mut known,
            forwarded,
        );
        count(&way("reply"), &mut bench, &mut known, forwarded);
    }
    let new = (KNOWN..KNOWN + PACKETS).map(|n| setup.flow(n, 1));
    let mut new = Traffic::new(new, flags(SYN), 64);
    let before = bench.connections();
    count(&way("new"), &mut bench, &mut new, forwarded);
    assert_eq!(bench.connections() - before, PACKETS);
}

/// Packets that nothing is done for; where an answer is due, the limit for answers is reached.
fn drops(protocol: &'static str) {
    let setup = Setup::new("fullnat", protocol);
    let mut bench = Bench::new(&setup.config(), 16_384);
    let flows = |change: fn(Flow) -> Flow| (0..256).map(move |n| change(setup.flow(n, 1)));
    let nobodys = |flow: Flow| Flow {
        destination: ([198, 19, 0, 1].into(), 53),
        ..flow
    };
    let no_service = |flow: Flow| Flow {
        destination: (flow.destination.0, 99),
        ..flow
    };
    let flags = |flags: u8| (protocol == "tcp").then_some(flags);
    let mut ways = vec![
        (
            "unknown address",
            Traffic::new(flows(nobodys), flags(SYN), 64),
            DropReason::NotForUs,
        ),
        (
            "no service",
            Traffic::new(flows(no_service), flags(SYN), 64),
            DropReason::RateLimited,
        ),
    ];
    if protocol == "tcp" {
        let stray = Traffic::new(flows(|flow| flow), flags(ACK), 64);
        ways.push(("ack without connection", stray, DropReason::RateLimited));
    }
    for (what, mut traffic, reason) in ways {
        send(&mut bench, &mut traffic, 200);
        count(
            &format!("{protocol} {what}"),
            &mut bench,
            &mut traffic,
            dropped(reason),
        );
    }
}

const ALONE: &str = "WEIR_TEST_ALONE";

/// Runs a test alone below callgrind, which counts as `options` say: instructions per packet by the way's name.
fn measure(test: &str, options: &[&str]) -> BTreeMap<String, f64> {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--combine-dumps=no"])
        .args(options)
        .arg(format!(
            "--callgrind-out-file={}",
            folder.path().join("out").display()
        ))
        .arg("--dump-before=contract::phase*")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .expect("valgrind starts: scripts/setup test");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    let ways = said
        .lines()
        .filter_map(|line| line.split_once("way: ").map(|(_, way)| way));
    // Before a way, one dump of what comes before it; behind it, its own.
    let mut counts = BTreeMap::new();
    for (n, way) in ways.enumerate() {
        let dump = folder.path().join(format!("out.{}", 2 * n + 2));
        let dump = std::fs::read_to_string(&dump).unwrap_or_else(|error| panic!("{error}: {said}"));
        let total = dump.lines().find_map(|line| line.strip_prefix("summary: "));
        let total: f64 = total
            .and_then(|line| line.trim().parse().ok())
            .expect("a sum");
        assert!(total > 0.0, "{way}: callgrind has found nothing to count");
        let (packets, way) = way.split_once(' ').expect("packets, and the way");
        let packets: f64 = packets.parse().expect("so many packets");
        counts.insert(way.to_owned(), total / packets);
    }
    counts
}

fn rustc() -> String {
    let output = Command::new("rustc")
        .arg("--version")
        .output()
        .expect("rustc starts");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The file for these counts.
fn written(counts: &BTreeMap<String, f64>) -> String {
    let mut text = String::from(
        "# Instructions per packet in Director::process, by callgrind, in bursts of 64: the dev profile (opt-level 1, debug\n\
         # assertions), CARGO_INCREMENTAL=0. tests/contract.rs measures them. scripts/contract --write writes this file.\n",
    );
    let _ = writeln!(text, "# {}", rustc());
    for (way, count) in counts {
        let _ = writeln!(text, "{way:<32}{count:>8.1}");
    }
    text
}

fn read(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let row = |line: &str| {
        let (way, count) = line.rsplit_once(' ').expect("a way and its count");
        (way.trim().to_owned(), count.parse().expect("a count"))
    };
    lines.map(row).collect()
}

/// What differs from the contract by more than it allows, a line each.
fn breaches(contract: &BTreeMap<String, f64>, counts: &BTreeMap<String, f64>) -> Vec<String> {
    let mut breaches = Vec::new();
    for (way, count) in counts {
        match contract.get(way) {
            None => breaches.push(format!("{way}: {count:.1}, not in the contract")),
            Some(agreed) if (count / agreed - 1.0).abs() > TOLERANCE => {
                let percent = (count / agreed - 1.0) * 100.0;
                breaches.push(format!(
                    "{way}: {agreed:.1} -> {count:.1} ({percent:+.1} %)"
                ));
            }
            Some(_) => {}
        }
    }
    let gone = contract.keys().filter(|way| !counts.contains_key(*way));
    breaches.extend(gone.map(|way| format!("{way}: in the contract, not measured")));
    breaches
}

#[test]
fn ways_cost_what_the_contract_says() {
    if std::env::var_os(ALONE).is_some() {
        for mode in ["dr", "nat", "fullnat", "tunnel"] {
            for is_six in [false, true] {
                connections(mode, "tcp", is_six);
                connections(mode, "udp", is_six);
            }
        }
        drops("tcp");
        return drops("udp");
    }
    if !cfg!(debug_assertions) || option_env!("CARGO_INCREMENTAL") != Some("0") {
        return skip::skip("built otherwise than the contract says: scripts/contract");
    }
    let file = std::fs::read_to_string(Path::new(FILE)).unwrap_or_default();
    let is_new = std::env::var_os("WEIR_WRITE_CONTRACT").is_some();
    if !is_new
        && !file
            .lines()
            .any(|line| line.strip_prefix("# ") == Some(&rustc()))
    {
        return skip::skip("the contract is of another rustc: scripts/contract --write");
    }
    let options = [
        "--collect-atstart=no",
        "--toggle-collect=*director*Director*process*",
    ];
    let counts = measure("ways_cost_what_the_contract_says", &options);
    if is_new {
        std::fs::write(FILE, written(&counts)).unwrap();
        return;
    }
    let breaches = breaches(&read(&file), &counts);
    assert!(
        breaches.is_empty(),
        "instructions per packet, by more than 1 %:\n{}\nwhere this is meant: scripts/contract --write",
        breaches.join("\n")
    );
}

/// Counts changes among so many services; what they are comes to stdout.
#[allow(clippy::print_stdout)]
fn changes(services: usize) {
    const EXTRA: &str = "extra";
    let setup = Setup {
        services,
        ..Setup::new("fullnat", "udp")
    };
    let mut bench = Bench::new(&setup.config(), 1024);
    let mut traffic = Traffic::new([setup.flow(0, 1)], None, 64);
    let first = bench.model.config().services[0].clone();
    let whole = ServiceConfig {
        name: EXTRA.to_owned(),
        // Of the range of RFC 5737: a VIP of its own.
        address: IpAddr::from([203, 0, 113, 1]),
        ..(*first).clone()
    };
    let mut fewer = whole.clone();
    fewer.reals.pop();
    let real = (first.reals[0].address, first.reals[0].port);
    type Change<'a> = (&'a str, Box<dyn Fn(&mut Model) + 'a>);
    let set = |service: &ServiceConfig, model: &mut Model| {
        assert!(model.set_services(vec![service.clone()]).is_ok());
    };
    let all: [Change<'_>; 4] = [
        ("add a service", Box::new(|model| set(&fewer, model))),
        ("add a real server", Box::new(|model| set(&whole, model))),
        (
            "remove a service",
            Box::new(|model| assert!(model.unset_service(&key(&whole)).is_some())),
        ),
        (
            "weight",
            Box::new(|model| assert!(model.set_weight(&key(&first), real, 7).is_ok())),
        ),
    ];
    // What the first change of its kind takes for good is not of the change.
    for is_counted in [false, true] {
        for (what, change) in &all {
            let way = format!("{what}, among {services}");
            if is_counted {
                phase(&way);
            }
            change(&mut bench.model);
            if is_counted {
                phase("");
                println!("way: 1 {way}");
            }
            // The worker takes the new tables, and the control thread the old ones back.
            send(&mut bench, &mut traffic, 1);
            bench.model.tick(bench.now);
        }
        assert!(bench.model.set_weight(&key(&first), real, 3).is_ok());
    }
}

#[test]
fn a_change_costs_the_same_among_few_services_and_many() {
    const FEW: usize = 8;
    const MANY: usize = 4_000;
    if std::env::var_os(ALONE).is_some() {
        changes(FEW);
        return changes(MANY);
    }
    let counts = measure("a_change_costs_the_same_among_few_services_and_many", &[]);
    let among_few = format!(", among {FEW}");
    let changes = counts.keys().filter_map(|way| way.strip_suffix(&among_few));
    let ratios: BTreeMap<_, _> = changes
        .map(|what| {
            let among = |services| counts[&format!("{what}, among {services}")];
            (what, among(MANY) / among(FEW))
        })
        .collect();
    assert_eq!(ratios.len(), 4, "{counts:?}");
    // Trees of so many have a level more, and a change copies one node of each; a walk over all of them would be a hundred times as
    // much.
    let is_dear = |ratio: &f64| *ratio > 2.0;
    assert!(!ratios.values().any(is_dear), "{ratios:?}: {counts:?}");
}

#[test]
fn a_contract_is_read_as_it_is_written_and_breached_either_way() {
    let counts = BTreeMap::from([("dr tcp new", 1000.0), ("udp no service", 200.0)]);
    let counts: BTreeMap<_, _> = counts
        .into_iter()
        .map(|(way, n)| (way.to_owned(), n))
        .collect();
    let contract = read(&written(&counts));
    assert_eq!(contract, counts);
    for (count, breached) in [(1009.0, 0), (991.0, 0), (1011.0, 1), (989.0, 1)] {
        let mut now = counts.clone();
        now.insert("dr tcp new".to_owned(), count);
        assert_eq!(breaches(&contract, &now).len(), breached, "{count}");
    }
    let one = BTreeMap::from([("new way".to_owned(), 1.0)]);
    assert_eq!(breaches(&contract, &one).len(), 3);
}

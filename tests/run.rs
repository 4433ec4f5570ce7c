//! `weir run` as an operator knows it: the real binary over real DPDK devices, net_pcap, without hugepages.
//! What it receives is a capture, what it sends lies in one afterwards. Its tools and its API are asked meanwhile.

#[path = "run/access.rs"]
mod access;
#[path = "run/api.rs"]
mod api;
#[path = "run/availability.rs"]
mod availability;
#[path = "run/bad_input.rs"]
mod bad_input;
#[path = "run/browser.rs"]
mod browser;
#[path = "run/capture.rs"]
mod capture;
#[path = "run/checks.rs"]
mod checks;
#[path = "run/crowd.rs"]
mod crowd;
#[path = "run/daemon.rs"]
mod daemon;
#[path = "run/events.rs"]
mod events;
#[path = "run/explain.rs"]
mod explain;
#[path = "run/frames.rs"]
mod frames;
#[path = "run/generations.rs"]
mod generations;
#[path = "run/killed.rs"]
mod killed;
#[path = "run/log.rs"]
mod log;
#[path = "run/memory.rs"]
mod memory;
#[path = "run/mutated.rs"]
mod mutated;
#[path = "run/openapi.rs"]
mod openapi;
#[path = "run/page.rs"]
mod page;
#[path = "run/paged.rs"]
mod paged;
mod skip;
#[path = "run/strangers.rs"]
mod strangers;
#[path = "run/tls.rs"]
mod tls;
#[path = "run/top.rs"]
mod top;

use daemon::{Daemon, Lab, refused, weir};
use frames::*;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::PermissionsExt;

const CLIENT: [u8; 4] = [198, 51, 100, 7];
const VIP: [u8; 4] = [192, 0, 2, 80];

/// A capture of `connections` SYNs to the service, from one port each.
fn syns(connections: u16) -> Vec<Vec<u8>> {
    (0..connections)
        .map(|n| tcp((CLIENT, 20_000 + n), (VIP, 80), SYN, 64))
        .collect()
}

/// The samples of a scrape: name with labels, and value.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let samples: Vec<_> = lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect();
    let count = samples.len();
    let samples: BTreeMap<_, _> = samples.into_iter().collect();
    assert_eq!(samples.len(), count, "every sample is there once");
    samples
}

/// The sum over all samples of a metric.
fn sum(samples: &BTreeMap<String, f64>, metric: &str) -> f64 {
    let of_metric = |name: &&String| name.split('{').next() == Some(metric);
    samples
        .iter()
        .filter(|(name, _)| of_metric(name))
        .map(|(_, value)| value)
        .sum()
}

#[test]
fn what_comes_in_goes_out_rewritten_and_every_packet_is_counted() {
    let lab = Lab::new();
    let mut capture = syns(12);
    capture.push(arp_request(CLIENT, [198, 51, 100, 1]));
    capture.push(echo_request(CLIENT, VIP));
    capture.push(tcp((CLIENT, 5), (VIP, 81), SYN, 64));
    capture.push(tcp((CLIENT, 6), (VIP, 80), ACK, 64));
    capture.push(tcp((CLIENT, 7), (VIP, 80), SYN, 1));
    capture.push(tcp((CLIENT, 8), ([203, 0, 113, 1], 80), SYN, 64));
    let mut truncated = tcp((CLIENT, 9), (VIP, 80), SYN, 64);
    truncated.truncate(30);
    capture.push(truncated);
    // Its real server has no neighbour entry, and no ARP request is answered: it waits, then it is dropped.
    capture.push(tcp((CLIENT, 10), ([192, 0, 2, 81], 80), SYN, 64));
    lab.receives("wan", &capture);
    let daemon = Daemon::start(&lab, &lab.config("", 3));

    let received = capture.len() as f64;
    // Received, and come to its end.
    let ends = [
        "weir_transmitted_packets_total",
        "weir_answered_packets_total",
        "weir_local_packets_total",
        "weir_queued_packets",
        "weir_dropped_packets_total",
    ];
    let metrics = daemon.wait(|daemon| {
        let metrics = samples(&daemon.get("/metrics"));
        let ended: f64 = ends.iter().map(|end| sum(&metrics, end)).sum();
        (ended == received).then_some(metrics)
    });
    let of = |metric| sum(&metrics, metric);
    assert_eq!(of("weir_received_packets_total"), received);
    assert_eq!(of("weir_transmitted_packets_total"), 12.0);
    assert_eq!(of("weir_answered_packets_total"), 5.0);
    assert_eq!(of("weir_local_packets_total"), 0.0);
    let waits = of("weir_queued_packets")
        + metrics["weir_dropped_packets_total{reason=\"neighbour_failed\"}"];
    assert_eq!(waits, 1.0);
    for reason in ["not_for_us", "truncated"] {
        let sample = format!("weir_dropped_packets_total{{reason=\"{reason}\"}}");
        assert_eq!(metrics[&sample], 1.0, "{reason}");
    }
    for reason in [
        "arp",
        "icmp_echo",
        "no_service",
        "no_connection",
        "ttl_exceeded",
    ] {
        let sample = format!("weir_replies_total{{reason=\"{reason}\"}}");
        assert_eq!(metrics[&sample], 1.0, "{reason}");
    }
    // The host's packets are those of companions, which these ports have not; nor does it announce VIPs on them. Here are
    // neither [[snat]] nor limits nor thresholds nor histograms.
    let others = [
        "weir_host_packets_total",
        "weir_service_announced",
        "weir_real_overloaded",
        "weir_service_limited_packets_total",
        "weir_real_first_byte_seconds",
        "weir_real_connect_seconds",
        "weir_real_reply_seconds",
        "weir_service_connect_seconds",
        "weir_service_reply_seconds",
    ];
    let all = weir::metrics::METRICS.iter();
    let all = all.filter(|metric| !metric.name.starts_with("weir_snat_"));
    for metric in all.filter(|metric| !others.contains(&metric.name)) {
        assert!(
            metrics
                .keys()
                .any(|name| name.split('{').next() == Some(metric.name)),
            "{}",
            metric.name
        );
    }
    let web = "service=\"web\",protocol=\"tcp\",address=\"192.0.2.80\",port=\"80\"";
    assert_eq!(
        metrics[&format!("weir_service_connections_total{{{web}}}")],
        12.0
    );
    assert_eq!(
        metrics[&format!("weir_service_packets_total{{{web},direction=\"in\"}}")],
        12.0
    );
    assert_eq!(
        metrics[&format!("weir_real_active_connections{{{web},real=\"10.0.0.11:8080\"}}")],
        9.0
    );
    assert_eq!(
        metrics[&format!("weir_real_weight{{{web},real=\"10.0.0.12:8080\"}}")],
        1.0
    );

    let workers = daemon.show("workers");
    let worker = &workers[0];
    let dropped: u64 = worker["dropped_packets"]
        .as_object()
        .unwrap()
        .values()
        .map(|n| n.as_u64().unwrap())
        .sum();
    let ends = [
        "transmitted_packets",
        "answered_packets",
        "local_packets",
        "queued_packets",
    ];
    let ended: u64 = ends.iter().map(|end| worker[end].as_u64().unwrap()).sum();
    assert_eq!(worker["received_packets"], ended + dropped);
    assert_eq!(daemon.show("ports")[0]["received_packets"], capture.len());

    daemon.stop();
    let mut spread = BTreeMap::new();
    let mut locals = HashSet::new();
    for frame in lab.sent("lan").iter().filter(|frame| is_ipv4(frame)) {
        let packet = Tcp::parse(frame);
        assert_eq!(packet.source_mac, [2, 0, 0, 0, 0, 2]);
        assert_eq!(
            packet.destination_mac,
            [2, 0, 0, 0, 1, packet.destination.0[3]]
        );
        assert_eq!(packet.source.0, [10, 0, 0, 200]);
        assert_eq!(packet.destination.1, 8080);
        assert_eq!(packet.ttl, 63);
        assert!(
            locals.insert(packet.source),
            "no two connections share a local port"
        );
        *spread.entry(packet.destination.0).or_insert(0) += 1;
    }
    assert_eq!(
        spread,
        BTreeMap::from([([10, 0, 0, 11], 9), ([10, 0, 0, 12], 3)])
    );

    let answers = lab.sent("wan");
    let resets: Vec<_> = answers
        .iter()
        .filter(|frame| is_tcp(frame))
        .map(|frame| Tcp::parse(frame))
        .collect();
    let ends: Vec<_> = resets
        .iter()
        .map(|reset| (reset.source, reset.destination))
        .collect();
    // A port without a service, and an ACK without a connection.
    assert_eq!(ends, [((VIP, 81), (CLIENT, 5)), ((VIP, 80), (CLIENT, 6))]);
    assert!(resets.iter().all(|reset| reset.flags & RST != 0));
    let arps: Vec<_> = answers
        .iter()
        .filter_map(|frame| Arp::parse(frame))
        .collect();
    assert!(
        arps.iter().any(|arp| arp.operation == 2
            && arp.sender == [198, 51, 100, 1]
            && arp.target == CLIENT)
    );
}

#[test]
fn the_addresses_that_a_port_answers_for_are_announced_at_start() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    daemon.wait(|daemon| {
        (daemon.show("workers")[0]["originated_packets"]
            .as_u64()
            .unwrap()
            >= 10)
            .then_some(())
    });
    daemon.stop();
    for (port, mac, addresses) in [
        // The VIPs lie in no port's subnet: the default route leads to them.
        (
            "wan",
            1,
            vec![[198, 51, 100, 1], [192, 0, 2, 80], [192, 0, 2, 81]],
        ),
        ("lan", 2, vec![[10, 0, 0, 1], [10, 0, 0, 200]]),
    ] {
        let arps: Vec<_> = lab
            .sent(port)
            .iter()
            .filter_map(|frame| Arp::parse(frame))
            .collect();
        for address in addresses {
            let announced = arps
                .iter()
                .filter(|arp| arp.sender == address && arp.target == address);
            assert_eq!(
                announced.clone().count(),
                2,
                "{port} {address:?}: one may be lost"
            );
            for arp in announced {
                assert_eq!(
                    (arp.destination_mac, arp.sender_mac),
                    ([0xff; 6], [2, 0, 0, 0, 0, mac])
                );
            }
        }
    }
}

#[test]
fn a_changed_file_is_applied_and_a_bad_one_changes_nothing() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 3));
    let weight = || daemon.show("reals")[0]["weight"].as_u64().unwrap();
    assert_eq!(weight(), 3);

    lab.write("lb.toml", &lab.config("", 5));
    daemon.signal("HUP");
    daemon.wait(|_| (weight() == 5).then_some(()));

    lab.write("lb.toml", &lab.config("", 6).replace("\"wrr\"", "\"wrx\""));
    daemon.signal("HUP");
    daemon.wait(|daemon| daemon.log().contains("nothing has changed").then_some(()));
    assert!(
        daemon.log().contains("unknown scheduler `wrx`"),
        "{}",
        daemon.log()
    );
    let bad = daemon.tool(&["reload"]);
    assert!(
        refused(&bad).contains("unknown scheduler `wrx`; did you mean `wrr`?"),
        "{bad:?}"
    );
    assert_eq!(weight(), 5);

    lab.write("lb.toml", &lab.config("", 7));
    let done = daemon.tool(&["reload"]);
    assert!(done.status.success(), "{done:?}");
    assert!(
        String::from_utf8_lossy(&done.stdout).contains("1 reweighted"),
        "{done:?}"
    );
    assert_eq!(weight(), 7);

    // Without --api the other file tells where the daemon's control socket is.
    let other = lab.write("other.toml", &lab.config("", 8));
    let done = weir(&["reload", other.to_str().unwrap()]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(weight(), 8);

    let restart = lab.write(
        "restart.toml",
        &lab.config("", 9).replace("\"adaptive\"", "\"poll\""),
    );
    let told = daemon.tool(&["reload", restart.to_str().unwrap()]);
    assert_eq!(
        refused(&told),
        "error: [dpdk] cannot change while weir runs: restart it to use the new file\n"
    );
    assert_eq!(weight(), 8);
    daemon.stop();
}

#[test]
fn an_address_added_by_a_reload_is_announced() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    let more = lab
        .config("", 1)
        .replace("\"10.0.0.200\"", "\"10.0.0.200\", \"10.0.0.201\"");
    lab.write("lb.toml", &more);
    assert!(daemon.tool(&["reload"]).status.success());
    // Twice each of the six addresses.
    daemon.wait(|daemon| {
        (daemon.show("workers")[0]["originated_packets"]
            .as_u64()
            .unwrap()
            >= 12)
            .then_some(())
    });
    daemon.stop();
    let arps = lab.sent("lan");
    let arps: Vec<_> = arps.iter().filter_map(|frame| Arp::parse(frame)).collect();
    assert_eq!(
        arps.iter()
            .filter(|arp| arp.sender == [10, 0, 0, 201])
            .count(),
        2
    );
    assert_eq!(
        arps.iter()
            .filter(|arp| arp.sender == [10, 0, 0, 200])
            .count(),
        2,
        "not announced anew"
    );
}

#[test]
fn what_cannot_run_is_refused_with_a_reason() {
    let lab = Lab::new();
    let text = refused(
        &lab.run(
            &lab.config("", 3)
                .replace("\"10.0.0.1/24\"", "\"10.0.0.1/33\""),
        ),
    );
    assert!(
        text.contains("lb.toml:") && text.contains("10.0.0.1/33"),
        "{text}"
    );
    let text = refused(&weir(&[
        "run",
        "--config",
        lab.path("none.toml").to_str().unwrap(),
    ]));
    assert!(
        text.starts_with("error: ") && text.contains("none.toml"),
        "{text}"
    );
    // At the line that names the device.
    let config = lab.config("", 3).replace("lan.in.pcap", "nowhere.pcap");
    let line = config
        .lines()
        .position(|line| line.contains("nowhere.pcap"));
    let place = format!("lb.toml:{}:", line.unwrap() + 1);
    let text = refused(&lab.run(&config));
    assert!(
        text.contains(&place)
            && text.contains(": port \"lan\": the device \"net_pcap1,")
            && text.contains("does not start"),
        "{text}"
    );
    assert!(!lab.path("weir.sock").exists());
    lab.write("file", "");
    let text = refused(&lab.run(&lab.config("", 3).replace("weir.sock", "file")));
    assert!(text.contains("is there and is no socket"), "{text}");
    assert!(lab.path("file").exists());
}

#[test]
fn memory_that_cannot_be_had_is_an_error_before_any_packet_is_touched() {
    let lab = Lab::new();
    lab.receives("wan", &syns(5));
    let limit = |connections: u32| {
        lab.config("", 1).replace(
            "connections = 10000",
            &format!("connections = {connections}"),
        )
    };
    // Of address space: what the EAL and the counters take fits, a table of 2 GB does not.
    let output = lab.run_with_address_space(&limit(20_000_000), 1500 << 20);
    let text = refused(&output);
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with(
            "error: [limits] connections = 20000000: the kernel refuses 1673 MiB of memory for the connection table of worker 0"
        ) && last.contains("lower `connections`"),
        "{text}"
    );
    let text = refused(&lab.run_with_address_space(&limit(1000), 350 << 20));
    assert!(
        text.contains("error: the kernel refuses ")
            && text.contains("use fewer, or give the process more (ulimit -v)"),
        "{text}"
    );
    assert!(lab.sent("lan").is_empty(), "no packet was touched");
}

#[test]
fn a_flood_on_a_small_pool_is_counted_and_warned_of_once_a_second() {
    let lab = Lab::new();
    lab.receives("wan", &syns(100));
    let few = "addresses = [\"10.0.0.200\"]\nports = \"5000-5003\"";
    let config = lab
        .config("", 3)
        .replace("addresses = [\"10.0.0.200\"]", few);
    let daemon = Daemon::start(&lab, &config);
    daemon.wait(|daemon| daemon.log().contains("a SYN flood").then_some(()));
    let worker = &daemon.show("workers")[0];
    // Four towards each of two real servers, and some that took the place of others.
    let sent = worker["transmitted_packets"].as_u64().unwrap();
    let refused = worker["dropped_packets"]["syn_flood"].as_u64().unwrap();
    assert_eq!(sent + refused, 100, "{worker}");
    assert!((8..=40).contains(&sent), "{worker}");
    assert!(
        daemon.log().matches("a SYN flood").count() <= 2,
        "{}",
        daemon.log()
    );
    daemon.stop();
}

#[test]
fn an_interrupt_stops_it_as_cleanly() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &lab.config("", 1));
    daemon.stop_by("INT");
    assert!(!lab.path("weir.sock").exists());
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

#[test]
fn a_worker_takes_at_most_a_burst_of_packets_in_a_loop() {
    let lab = Lab::new();
    let stranger = ([203, 0, 113, 1], 80);
    let packets = (0..128).map(|n| tcp((CLIENT, 20_000 + n), stranger, SYN, 64));
    lab.receives("wan", &packets.collect::<Vec<_>>());
    for (key, least, most) in [("burst = 2", 1.5, 2.01), ("", 32.0, 64.1)] {
        // A receive queue that is always full.
        let config = (lab.config("", 3))
            .replacen(",tx_pcap", ",infinite_rx=1,tx_pcap", 1)
            .replacen("idle =", &format!("{key}\nidle ="), 1);
        let daemon = Daemon::start(&lab, &config);
        let in_a_loop = daemon.wait(|daemon| {
            let workers: Value = serde_json::from_str(&daemon.get("/v1/workers")).unwrap();
            let number = |key: &str| workers[0][key].as_f64().unwrap();
            (number("loops") > 20_000.0).then(|| number("received_packets") / number("loops"))
        });
        assert!((least..most).contains(&in_a_loop), "{key}: {in_a_loop}");
    }
}

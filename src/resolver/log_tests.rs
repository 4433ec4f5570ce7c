//! What the log says of neighbours, and how little of it strangers can write.

use super::testing::*;
use super::*;
use crate::log::testing::logged;
use crate::wire::arp;
use std::net::Ipv4Addr;

/// One ARP packet: its operation, its sender, and its target.
type Packet = (u16, (IpAddr, Mac), IpAddr);

struct Flood {
    name: &'static str,
    /// Packet `n` of the flood.
    packet: fn(u64) -> Packet,
    /// How many subjects the flood has that are told apart, and what a line names.
    subjects: usize,
    names: &'static [&'static str],
}

fn any_mac(n: u64) -> Mac {
    let [.., a, b, c] = n.to_be_bytes();
    Mac([2, 9, 9, a, b, c])
}

const FLOODS: &[Flood] = &[
    Flood {
        name: "another host claims a VIP",
        packet: |n| (arp::REQUEST, (lan(254), any_mac(n)), lan(254)),
        subjects: 1,
        names: &["address=10.0.0.254", "port=lan", "mac=02:09:09:", "claims="],
    },
    Flood {
        name: "other hosts claim a VIP and the addresses of ports",
        packet: |n| {
            let wan = IpAddr::from([198, 51, 100, 1]);
            let address = [lan(254), lan(1), wan][n as usize % 3];
            (arp::REPLY, (address, any_mac(n)), address)
        },
        subjects: 3,
        names: &["address=10.0.0.1 ", "address=198.51.100.1 ", "port=wan"],
    },
    Flood {
        name: "a host claims a real server's address, which still answers",
        packet: |n| match n % 2 {
            0 => (arp::REQUEST, (lan(11), any_mac(n)), lan(11)),
            _ => (arp::REPLY, (lan(11), mac(1)), lan(1)),
        },
        subjects: 1,
        names: &["address=10.0.0.11", "mac=02:00:00:00:01:01", "port=lan"],
    },
    Flood {
        name: "a neighbour moves with every answer",
        packet: |n| (arp::REPLY, (lan(11), any_mac(n)), lan(1)),
        subjects: 1,
        names: &["address=10.0.0.11", "from=02:", "to=02:09:09:"],
    },
    Flood {
        name: "strangers ask",
        packet: |n| {
            let address = Ipv4Addr::from_bits(0x0a00_0101 + n as u32 % 60_000).into();
            (arp::REQUEST, (address, any_mac(n)), lan(1))
        },
        subjects: 0,
        names: &[],
    },
];

#[test]
fn a_flood_of_arp_writes_a_line_a_second_for_each_subject_that_names_it() {
    const SECONDS: u64 = 5;
    for flood in FLOODS {
        let mut sent = 0;
        let lines = logged(|| {
            let mut lab = Lab::new(&reals(1));
            lab.want(lan(11));
            lab.arp(arp::REPLY, (lan(11), mac(1)), lan(1));
            for millis in 1..=SECONDS * 1000 {
                lab.go_to(millis);
                for _ in 0..24 {
                    let (operation, sender, target) = (flood.packet)(sent);
                    lab.arp(operation, sender, target);
                    sent += 1;
                }
            }
        });
        let most = flood.subjects * (SECONDS as usize + 1);
        let name = flood.name;
        assert_eq!(sent, 24_000 * SECONDS);
        assert!(lines.len() <= most, "{name}: {} lines", lines.len());
        for word in flood.names {
            assert!(
                lines.iter().any(|line| line.contains(word)),
                "{name}: no {word:?} in {lines:#?}"
            );
        }
    }
}

/// The only line that has a word.
fn the_line<'a>(lines: &'a [String], word: &str) -> &'a str {
    let found: Vec<_> = lines.iter().filter(|line| line.contains(word)).collect();
    assert_eq!(found.len(), 1, "{word}: {lines:#?}");
    found[0]
}

#[test]
fn a_real_server_that_goes_or_comes_is_one_line_with_its_services_and_states() {
    let lines = logged(|| {
        let mut lab = Lab::new(&reals(2));
        lab.want(lan(11));
        lab.arp(arp::REPLY, (lan(11), mac(1)), lan(1));
        lab.want(lan(12));
        // Not a real server's: a client that does not answer is no news.
        lab.want(lan(99));
        lab.go_to(60_000);
        lab.want(lan(11));
        lab.go_to(70_000);
        lab.arp(arp::REPLY, (lan(12), mac(2)), lan(1));
    });
    let down = |real: &str| format!("real server is down: it does not answer ARP real={real} ");
    let line = the_line(&lines, &down("10.0.0.12"));
    for word in [
        "port=lan",
        "services=\"web\"",
        "was=\"incomplete\"",
        "now=\"failed\"",
    ] {
        assert!(line.contains(word), "{word}: {line}");
    }
    let line = the_line(&lines, &down("10.0.0.11"));
    assert!(line.contains("was=\"stale\""), "{line}");
    let line = the_line(&lines, "real server is up");
    for word in [
        "real=10.0.0.12",
        "mac=02:00:00:00:01:02",
        "services=\"web\"",
        "was=\"failed\"",
        "now=\"reachable\"",
    ] {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert_eq!(lines.len(), 3, "{lines:#?}");
}

#[test]
fn a_gateway_that_goes_is_a_line_that_names_it() {
    let gateway = IpAddr::from([198, 51, 100, 254]);
    let lines = logged(|| {
        let mut lab = Lab::new(&reals(1));
        lab.want(gateway);
        lab.go_to(10_000);
        lab.arp(
            arp::REPLY,
            (gateway, mac(7)),
            IpAddr::from([198, 51, 100, 1]),
        );
    });
    let down = the_line(&lines, "gateway is down: it does not answer ARP");
    assert!(
        down.contains("gateway=198.51.100.254") && down.contains("port=wan"),
        "{down}"
    );
    let up = the_line(&lines, "gateway is up");
    assert!(up.contains("mac=02:00:00:00:01:07"), "{up}");
}

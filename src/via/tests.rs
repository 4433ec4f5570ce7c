//! Checks by each mode's way, over the same tables and director as clients' packets: what the real server gets, whether a worker
//! gives the host the answer, and what the host gets.

use super::header::{self, Ends, Kind};
use super::testing::*;
use super::{Answer, NEXT_HOP, NoWay};
use crate::config;
use crate::io::memory::Memory;
use crate::neighbour::{Link, LinkState};
use crate::net::protocol;
use crate::packet::Packet;
use crate::service::ServiceKey;
use crate::units::PortId;
use crate::verdict::{DropReason, Verdict};
use crate::wire::{build, build6, icmp, icmpv6};
use proptest::prelude::*;
use std::net::IpAddr;
use std::time::{Duration, Instant};

#[test]
fn a_check_goes_each_modes_way_and_its_answer_comes_back() {
    for (companion, workers) in [(LAN, 1), (WAN, 1), (LAN, 3)] {
        for way in WAYS {
            let is_v6 = ip(way.destination).is_ipv6();
            let ping = if is_v6 {
                protocol::ICMPV6
            } else {
                protocol::ICMP
            };
            let mut lab = Lab::new(&[way], companion, workers);
            for protocol in [protocol::TCP, protocol::UDP, ping] {
                let what = format!(
                    "{} {} > {}, {protocol}, {companion:?}",
                    way.mode, way.vip, way.real
                );
                let (request, sent) = lab.request(way, protocol, 40_001);
                let (port, out) = send(&mut lab, &sent).unwrap_or_else(|| panic!("{what}"));
                assert_eq!(port, LAN, "{what}");
                assert_eq!(out[..6], REAL_MAC.0, "{what}");
                assert_eq!(out[6..12], MACS[1].0, "{what}");
                if way.around > 0 {
                    let (from, to) = header::addresses(&out).unwrap();
                    assert_eq!(
                        (from.is_ipv6(), to),
                        (ip(way.real).is_ipv6(), ip(way.real)),
                        "{what}"
                    );
                    assert_eq!(out.len(), sent.len() + way.around, "{what}");
                }
                let out = inside(&out, way.around);
                let got = ends_of(&out);
                assert!(is_right(&out), "{what}");
                assert_eq!(got.source.0, ip(way.source), "{what}");
                assert_eq!(
                    got.destination,
                    (ip(way.destination), request.destination.1),
                    "{what}"
                );
                assert!(out.ends_with(b"ping"), "{what}");
                // By l3dsr the real server knows the VIP by the DSCP.
                let answers = Ends {
                    source: (
                        if way.mode == L3DSR {
                            ip(way.vip)
                        } else {
                            got.destination.0
                        },
                        got.destination.1,
                    ),
                    destination: got.source,
                    protocol,
                };
                let reply = match protocol {
                    protocol::ICMP => Some(icmp::ECHO_REPLY),
                    _ => Some(icmpv6::ECHO_REPLY),
                };
                let answer = frame(answers, (MACS[1], REAL_MAC), 64, b"pong", reply);
                let (answer, heard) = lab.hear(&answer);
                assert_eq!(answer, Answer::Of(companion), "{what}");
                let host = MACS[companion.index()];
                let expected = frame(request.reversed(), (host, NEXT_HOP), 63, b"pong", reply);
                assert_eq!(heard, expected, "{what}");
                // Nothing that a worker counts as a client's.
                let stats = lab.replay.stats();
                assert_eq!(stats.total(|worker| worker.connections.get()), 0, "{what}");
            }
        }
    }
}

#[test]
fn what_a_real_server_says_by_icmp_comes_back() {
    for companion in [LAN, WAN] {
        for way in WAYS.iter().filter(|way| way.mode != L3DSR) {
            let what = format!("{} {} > {}, {companion:?}", way.mode, way.vip, way.real);
            let mut lab = Lab::new(&[way], companion, 1);
            let (request, sent) = lab.request(way, protocol::UDP, 40_001);
            let (_, out) = send(&mut lab, &sent).unwrap();
            let out = inside(&out, way.around);
            let mut error = [0; 1500];
            let length = match ip(way.destination) {
                IpAddr::V4(from) => {
                    let (kind, code) = (icmp::DESTINATION_UNREACHABLE, icmp::PORT_UNREACHABLE);
                    build::icmp_error(&mut error, &out, REAL_MAC, from, kind, code, 0)
                }
                IpAddr::V6(from) => {
                    let kind = icmpv6::DESTINATION_UNREACHABLE;
                    build6::icmpv6_error(&mut error, &out, REAL_MAC, from, kind, 4, 0)
                }
            };
            let mut error = error[..length.expect(&what)].to_vec();
            error[..6].copy_from_slice(&MACS[1].0);
            let (answer, heard) = lab.hear(&error);
            assert_eq!(answer, Answer::Of(companion), "{what}");
            let header = header::read(&heard).unwrap();
            let Kind::Error(quoted, _) = header.kind else {
                panic!("{what}: {header:?}");
            };
            assert_eq!(quoted, request, "{what}");
            let from_private = header::addresses(&heard).unwrap();
            assert_eq!(
                from_private,
                (request.destination.0, request.source.0),
                "{what}"
            );
            assert!(is_right(&heard), "{what}");
        }
    }
}

/// The same VIP, port and source for each: only weir's port tells them apart.
#[test]
fn checks_of_a_services_real_servers_are_told_apart() {
    let way = &WAYS[0];
    let text =
        format!("{NETWORK}[[neighbour]]\naddress = \"10.0.0.12\"\nmac = \"02:00:00:00:01:12\"\n")
            .replace("name = \"lan\"", "name = \"lan\"\ncompanion = \"host\"");
    let service = format!(
        "[[service]]\naddress = \"{V4}\"\nport = 80\nprotocol = \"tcp\"\nmode = \"dr\"\nscheduler = \"rr\"\n\
         health = {{ type = \"tcp\", via = \"service\" }}\n[[service.real]]\naddress = \"{R4}\"\n\
         [[service.real]]\naddress = \"10.0.0.12\"\nweight = 0\n"
    );
    let mut lab = Lab::new(&[way], LAN, 1);
    let config = parse(&(text + &service));
    let now = lab.later();
    lab.replay.reload(config.clone(), now).unwrap();
    let key = crate::model::key(&config.services[0]);
    let first = lab.private(way);
    let reals = config.services[0].reals.iter().map(|real| real.address);
    lab.ways.change(|book| book.put(key, reals, false));
    lab.tell();
    assert_eq!(lab.private(way), first, "what stays keeps its address");
    let second = lab.ways.by_service(&key, ip("10.0.0.12")).unwrap().0;
    let (request, sent) = lab.request(way, protocol::TCP, 40_001);
    let other = Ends {
        destination: (second, 80),
        ..request
    };
    let others = frame(other, (NEXT_HOP, MACS[1]), 64, b"ping", None);
    // One without a weight is checked as any.
    let (_, one) = send(&mut lab, &sent).unwrap();
    let (_, two) = send(&mut lab, &others).unwrap();
    assert_ne!(one[..6], two[..6]);
    let (one, two) = (ends_of(&one), ends_of(&two));
    assert_eq!(one.destination, two.destination);
    assert_ne!(one.source, two.source);
    let again = send(&mut lab, &sent).unwrap().1;
    assert_eq!(ends_of(&again), one, "a flow keeps its port");
    for (sent, request) in [(two, other), (one, request)] {
        let answer = frame(sent.reversed(), (MACS[1], REAL_MAC), 64, b"pong", None);
        assert_eq!(ends_of(&lab.hear(&answer).1), request.reversed());
    }
    // Then it is over.
    let later = Instant::now() + Duration::from_secs(61);
    lab.translator.tick(later);
    assert_eq!(lab.translator.flows(), (0, 0));
}

#[test]
fn without_a_way_nothing_is_sent() {
    let way = &WAYS[0];
    let mut lab = Lab::new(&[way], LAN, 1);
    let (request, sent) = lab.request(way, protocol::TCP, 40_001);
    assert!(send(&mut lab, &sent).is_some());
    let to = |private: IpAddr| {
        let request = Ends {
            destination: (private, 80),
            ..request
        };
        frame(request, (NEXT_HOP, MACS[1]), 64, b"ping", None)
    };
    assert_eq!(
        send(&mut lab, &to(ip("198.18.77.77"))),
        None,
        "no real server's"
    );
    let last = frame(request, (NEXT_HOP, MACS[1]), 2, b"ping", None);
    assert_eq!(send(&mut lab, &last), None, "its TTL ends");
    let long = frame(request, (NEXT_HOP, MACS[1]), 64, &[0; 1600], None);
    assert_eq!(send(&mut lab, &long), None, "too long");
    let table = lab.tables().neighbours.clone();
    let key = ServiceKey {
        protocol: config::Protocol::Tcp,
        address: ip(V4),
        port: 80,
        last: 0,
    };
    let why = |lab: &Lab| lab.ways.by_service(&key, ip(R4)).unwrap_err();
    table.set_link_down(LAN, true);
    assert_eq!(send(&mut lab, &sent), None, "the link is down");
    let expected = "the link of the port lan is down";
    assert_eq!(why(&lab), NoWay::Real(expected.to_owned()));
    table.set_link_down(LAN, false);
    let hop = table.find(LAN, ip(R4)).unwrap();
    let link = table.link(hop);
    table.set(
        hop,
        Link {
            state: LinkState::Failed,
            ..link
        },
    );
    assert_eq!(send(&mut lab, &sent), None, "the next hop is silent");
    let expected = "10.0.0.11 does not answer ARP";
    assert_eq!(why(&lab), NoWay::Real(expected.to_owned()));
    table.set(hop, link);
    assert!(send(&mut lab, &sent).is_some());
    lab.ways.change(|book| book.keep(&Default::default()));
    assert_eq!(send(&mut lab, &sent), None, "the service is gone");
    assert!(matches!(why(&lab), NoWay::Own(_)));
}

#[test]
fn what_is_no_answer_does_not_come_to_the_host() {
    let way = &WAYS[0];
    let mut lab = Lab::new(&[way], LAN, 1);
    let from = |source: &str, to: &str| Ends {
        source: (ip(source), 80),
        destination: (ip(to), 40_001),
        protocol: protocol::TCP,
    };
    for (source, to, expected) in [
        (V4, L4, Answer::Stray),
        (R4, S4, Answer::Stray),
        (R4, P4, Answer::Stray),
        (R4, "198.51.100.1", Answer::Stray),
        (R4, L4, Answer::No),
        (R4, "224.0.0.5", Answer::No),
    ] {
        let frame = frame(from(source, to), (MACS[1], REAL_MAC), 64, b"", None);
        let mut packet = Memory::new(LAN, &frame);
        let answer = lab.translator.hear(&mut packet, Instant::now());
        assert_eq!(answer, expected, "{source} > {to}");
        assert_eq!(packet.data(), frame, "{source} > {to}");
    }
    let arp = [&MACS[1].0[..], &REAL_MAC.0, &[8, 6], &[0; 46]].concat();
    let mut packet = Memory::new(LAN, &arp);
    assert_eq!(lab.translator.hear(&mut packet, Instant::now()), Answer::No);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// Whatever the host sends, and whatever comes for it: what is no check's stays as it is, and nothing panics.
    #[test]
    fn any_bytes_are_translated_or_left(
        damages in prop::collection::vec(
            (prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), any::<prop::sample::Index>()),
            60,
        ),
        place in 0..WAYS.len(),
    ) {
        let way = &WAYS[place];
        let mut lab = Lab::new(&[way], LAN, 1);
        let ping = if ip(way.destination).is_ipv6() { protocol::ICMPV6 } else { protocol::ICMP };
        for (n, (damage, cut)) in damages.into_iter().enumerate() {
            let protocol = [protocol::TCP, protocol::UDP, ping][n % 3];
            let (request, sent) = lab.request(way, protocol, 40_001);
            let answer = match send(&mut lab, &sent) {
                Some((_, out)) => {
                    let got = ends_of(&inside(&out, way.around));
                    frame(got.reversed(), (MACS[1], REAL_MAC), 64, b"pong", None)
                }
                None => frame(request.reversed(), (MACS[1], REAL_MAC), 64, b"pong", None),
            };
            for frame in [sent, answer] {
                let mut frame = frame;
                for (at, byte) in &damage {
                    let at = at.index(frame.len());
                    frame[at] = *byte;
                }
                frame.truncate(cut.index(frame.len() + 1));
                let mut packet = Memory::new(LAN, &frame);
                lab.translator.send(&mut packet, Instant::now());
                let mut packet = Memory::new(LAN, &frame);
                if lab.translator.hear(&mut packet, Instant::now()) == Answer::No {
                    prop_assert_eq!(packet.data(), frame);
                }
            }
        }
    }

    /// Whatever clients send to private addresses, it ends as if there were no checks: as what goes to any address that is not
    /// weir's.
    #[test]
    fn no_client_reaches_a_private_address(
        packets in prop::collection::vec((16u32..40, any::<[u16; 2]>(), 0usize..3, 0usize..2), 30),
        place in 0..WAYS.len(),
    ) {
        let mut lab = Lab::new(&[&WAYS[place]], LAN, 1);
        let mut plain = Lab::without_checks(&[&WAYS[place]], LAN, 1);
        for (number, [client, port], protocol, from) in packets {
            let source = [ip("198.51.100.9"), ip("10.0.0.77")][from];
            let ends = Ends {
                source: (source, client),
                destination: (config::CheckAddresses::default().nth(false, number), port),
                protocol: [protocol::TCP, protocol::UDP, protocol::ICMP][protocol],
            };
            let sent = frame(ends, (MACS[from], REAL_MAC), 64, b"hello", None);
            let from = PortId(from as u8);
            let verdict = lab.receive(from, &sent);
            prop_assert_eq!(verdict, plain.receive(from, &sent));
            let reasons = [DropReason::NotForUs, DropReason::NoConnection];
            prop_assert!(reasons.map(Verdict::Drop).contains(&verdict), "{:?}", verdict);
        }
    }
}

/// None that claims to be a check comes any further than one that claims to be weir.
#[test]
fn no_client_is_a_check() {
    // It checks by nat.
    let mut lab = Lab::new(&[&WAYS[2]], LAN, 1);
    for source in [S4, V4, L4, P4] {
        let ends = Ends {
            source: (ip(source), 5000),
            destination: (ip(V4), 80),
            protocol: protocol::TCP,
        };
        let sent = frame(ends, (MACS[0], REAL_MAC), 64, b"hello", None);
        let verdict = lab.receive(WAN, &sent);
        assert_eq!(verdict, Verdict::Drop(DropReason::BadSource), "{source}");
    }
}

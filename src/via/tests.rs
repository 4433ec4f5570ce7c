//! Checks by each mode's way, over the same tables and director as clients' packets: what the real server gets, whether a worker
//! gives the host the answer, and what the host gets.

use super::header::{self, Ends, Kind};
use super::{Answer, Companion, NEXT_HOP, NoWay, Translator, Ways};
use crate::config::{self, Config, Context};
use crate::io::memory::Memory;
use crate::neighbour::{Link, LinkState};
use crate::net::{Mac, ethertype, protocol};
use crate::packet::Packet;
use crate::replay::Replay;
use crate::service::ServiceKey;
use crate::tables::Tables;
use crate::units::{PortId, Time};
use crate::verdict::{DropReason, LocalReason, Verdict};
use crate::wire::{build, build6, checksum, ethernet, icmp, icmpv6, ipv4, ipv6, tcp, udp};
use proptest::prelude::*;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);
/// As a replay has them.
const MACS: [Mac; 2] = [
    Mac([0x02, b'w', b'e', b'i', b'r', 1]),
    Mac([0x02, b'w', b'e', b'i', b'r', 2]),
];
const REAL_MAC: Mac = Mac([2, 0, 0, 0, 1, 0x11]);
const START: u64 = 1_000_000_000_000;

const NETWORK: &str = r#"
[[port]]
name = "wan"
device = "net_null0"
addresses = ["198.51.100.1/24", "2001:db8:51::1/64"]
[[port]]
name = "lan"
device = "net_null1"
addresses = ["10.0.0.1/24", "2001:db8:10::1/64"]
[[neighbour]]
address = "10.0.0.11"
mac = "02:00:00:00:01:11"
[[neighbour]]
address = "2001:db8:10::11"
mac = "02:00:00:00:01:11"
[[local_pool]]
name = "four"
addresses = ["10.0.0.200"]
[[local_pool]]
name = "six"
addresses = ["2001:db8:10::200"]
"#;

/// A service of one real server, and what its checks are like there.
struct Way {
    /// Its mode, with the keys of that.
    mode: &'static str,
    vip: &'static str,
    real: &'static str,
    /// Where checks come from, and where they go.
    source: &'static str,
    destination: &'static str,
    /// Bytes of what is put around.
    around: usize,
}

const fn way(
    mode: &'static str,
    [vip, real]: [&'static str; 2],
    [source, destination]: [&'static str; 2],
    around: usize,
) -> Way {
    Way {
        mode,
        vip,
        real,
        source,
        destination,
        around,
    }
}

const V4: &str = "192.0.2.80";
const V6: &str = "2001:db8:2::80";
const R4: &str = "10.0.0.11";
const R6: &str = "2001:db8:10::11";
const L4: &str = "10.0.0.1";
const L6: &str = "2001:db8:10::1";
const S4: &str = "198.18.0.2";
const S6: &str = "fd57:4549:5200::2";
const P4: &str = "10.0.0.200";
const P6: &str = "2001:db8:10::200";
const IPIP: &str = "mode = \"tunnel\"";
const GRE: &str = "mode = \"tunnel\"\ntunnel = \"gre\"";
const GUE: &str = "mode = \"tunnel\"\ntunnel = \"gue\"";
const L3DSR: &str = "mode = \"l3dsr\"\ndscp = 9";
const FULL4: &str = "mode = \"fullnat\"\nlocal_pool = \"four\"";
const FULL6: &str = "mode = \"fullnat\"\nlocal_pool = \"six\"";

const WAYS: &[Way] = &[
    way("mode = \"dr\"", [V4, R4], [L4, V4], 0),
    way("mode = \"dr\"", [V6, R6], [L6, V6], 0),
    way("mode = \"nat\"", [V4, R4], [S4, R4], 0),
    way("mode = \"nat\"", [V6, R6], [S6, R6], 0),
    way(FULL4, [V4, R4], [P4, R4], 0),
    way(FULL6, [V6, R6], [P6, R6], 0),
    way(FULL4, [V6, R4], [P4, R4], 0),
    way(FULL6, [V4, R6], [P6, R6], 0),
    way(IPIP, [V4, R4], [L4, V4], 20),
    way(IPIP, [V4, R6], [L4, V4], 40),
    way(IPIP, [V6, R4], [L6, V6], 20),
    way(IPIP, [V6, R6], [L6, V6], 40),
    way(GRE, [V4, R4], [L4, V4], 24),
    way(GRE, [V6, R6], [L6, V6], 44),
    way(GUE, [V4, R4], [L4, V4], 28),
    way(GUE, [V6, R6], [L6, V6], 48),
    way(L3DSR, [V4, R4], [L4, R4], 0),
    way(L3DSR, [V6, R6], [L6, R6], 0),
];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn parse(text: &str) -> Config {
    let context = Context {
        cpus: None,
        devices: false,
    };
    let loaded = config::parse(text, "test", &context);
    loaded.unwrap_or_else(|why| panic!("{why}\n{text}")).config
}

/// weir, whose port `companion` has one, and what the companions' thread does.
struct Lab {
    replay: Replay,
    ways: Arc<Ways>,
    translator: Translator,
    companion: PortId,
    time: u64,
}

impl Lab {
    fn new(services: &[&Way], companion: PortId, workers: usize) -> Lab {
        let mut lab = Lab::without_checks(services, companion, workers);
        let checks = lab.ways.checks(lab.tables());
        let now = lab.later();
        lab.replay.change(now, |model| model.set_check_ways(checks));
        lab.tell();
        lab
    }

    /// Nothing is known of checks yet but the private addresses.
    fn without_checks(services: &[&Way], companion: PortId, workers: usize) -> Lab {
        let mut text = NETWORK.to_owned();
        let name = ["\"wan\"", "\"lan\""][companion.index()];
        text = text.replace(
            &format!("name = {name}"),
            &format!("name = {name}\ncompanion = \"host\""),
        );
        for way in services {
            for (protocol, port) in [("tcp", 80), ("udp", 80)] {
                text += &format!(
                    "[[service]]\naddress = \"{}\"\nport = {port}\nprotocol = \"{protocol}\"\n{}\nscheduler = \"rr\"\n\
                     health = {{ type = \"{protocol}\", via = \"service\" }}\n[[service.real]]\naddress = \"{}\"\n",
                    way.vip, way.mode, way.real
                );
            }
        }
        let config = parse(&text);
        let replay = Replay::new(&config, workers, 64, Time::from_nanos(START)).unwrap();
        let host = Companion {
            name: "host".to_owned(),
            mac: MACS[companion.index()],
        };
        let mut companions = vec![None, None];
        companions[companion.index()] = Some(host);
        let ways = Arc::new(Ways::new(companions));
        ways.change(|book| {
            for service in &config.services {
                let key = crate::model::key(service);
                let is_v6 = service.address.is_ipv6() != config.crosses(service);
                book.put(key, service.reals.iter().map(|it| it.address), is_v6);
            }
        });
        Lab {
            translator: Translator::new(ways.clone(), 7),
            replay,
            ways,
            companion,
            time: START,
        }
    }

    fn tables(&self) -> &Tables {
        self.replay.model().tables()
    }

    fn tell(&self) {
        self.ways.set_tables(Arc::new(self.tables().clone()));
    }

    fn later(&mut self) -> Time {
        self.time += 1_000_000;
        Time::from_nanos(self.time)
    }

    fn private(&self, way: &Way) -> IpAddr {
        let key = ServiceKey {
            protocol: config::Protocol::Tcp,
            address: ip(way.vip),
            port: 80,
        };
        self.ways.by_service(&key, ip(way.real)).unwrap().0
    }

    /// What the host sends to a private address, and from where.
    fn request(&self, way: &Way, protocol: u8, port: u16) -> (Ends, Vec<u8>) {
        let private = self.private(way);
        let host = self.tables().address_towards(self.companion, private);
        let request = Ends {
            source: (host.unwrap(), port),
            destination: (private, if is_icmp(protocol) { 0 } else { 80 }),
            protocol,
        };
        let mac = MACS[self.companion.index()];
        (request, frame(request, (NEXT_HOP, mac), 64, b"ping", None))
    }

    /// A frame from a port's wire: what weir says of it.
    fn receive(&mut self, port: PortId, frame: &[u8]) -> Verdict {
        let now = self.later();
        let decision = self.replay.receive(port, frame, now);
        self.replay.check().unwrap();
        decision.verdict
    }

    /// The real server's answer, as a worker and the companions' thread treat it.
    fn hear(&mut self, answer: &[u8]) -> (Answer, Vec<u8>) {
        let verdict = self.receive(LAN, answer);
        assert_eq!(verdict, Verdict::Local(LocalReason::ToPortAddress));
        // Which port's host it is given to, decides the answer's destination; the frame is the same.
        let mut packet = Memory::new(self.companion, answer);
        let answer = self.translator.hear(&mut packet, Instant::now());
        (answer, packet.data().to_vec())
    }
}

fn is_icmp(number: u8) -> bool {
    [protocol::ICMP, protocol::ICMPV6].contains(&number)
}

/// A frame with these ends, all its checksums right. `reply`: the type of ICMP, an echo request's if none.
fn frame(
    ends: Ends,
    (to, from): (Mac, Mac),
    ttl: u8,
    payload: &[u8],
    reply: Option<u8>,
) -> Vec<u8> {
    let header = match ends.protocol {
        protocol::TCP => tcp::HEADER_LEN,
        _ => udp::HEADER_LEN,
    };
    let l4 = [&vec![0; header][..], payload].concat();
    let (source_port, destination_port) = (ends.source.1, ends.destination.1);
    let rest = u32::from(source_port | destination_port) << 16 | 1;
    let finish = |l4: &mut [u8], pseudo: u64| match ends.protocol {
        protocol::TCP => tcp::Repr {
            source_port,
            destination_port,
            ..tcp::Repr::default()
        }
        .emit(l4, pseudo),
        protocol::UDP => udp::Repr {
            source_port,
            destination_port,
        }
        .emit(l4, pseudo),
        protocol::ICMP => icmp::Repr {
            kind: reply.unwrap_or(icmp::ECHO_REQUEST),
            code: 0,
            rest,
        }
        .emit(l4),
        _ => icmpv6::Repr {
            kind: reply.unwrap_or(icmpv6::ECHO_REQUEST),
            code: 0,
            rest,
        }
        .emit(l4, pseudo),
    };
    match (ends.source.0, ends.destination.0) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut frame = [&[0; 34][..], &l4].concat();
            ethernet::emit(&mut frame, to, from, ethertype::IPV4).unwrap();
            let repr = ipv4::Repr {
                ttl,
                ..ipv4::Repr::new(source, destination, ends.protocol)
            };
            repr.emit(&mut frame[14..]).unwrap();
            let pseudo = repr.pseudo_header(l4.len() as u16);
            finish(&mut frame[34..], pseudo).unwrap();
            frame
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut frame = [&[0; 54][..], &l4].concat();
            ethernet::emit(&mut frame, to, from, ethertype::IPV6).unwrap();
            let repr = ipv6::Repr {
                hop_limit: ttl,
                ..ipv6::Repr::new(source, destination, ends.protocol)
            };
            repr.emit(&mut frame[14..]).unwrap();
            let length = l4.len() as u32;
            let pseudo = checksum::pseudo_header_v6(source, destination, ends.protocol, length);
            finish(&mut frame[54..], pseudo).unwrap();
            frame
        }
        _ => panic!("two families"),
    }
}

/// The packet inside, in a frame of its own.
fn inside(frame: &[u8], around: usize) -> Vec<u8> {
    let inner = &frame[14 + around..];
    let mut bare = [&frame[..14], inner].concat();
    let kind = if inner[0] >> 4 == 6 {
        ethertype::IPV6
    } else {
        ethertype::IPV4
    };
    bare[12..14].copy_from_slice(&kind.to_be_bytes());
    bare
}

fn is_right(frame: &[u8]) -> bool {
    match ipv4::in_frame(frame) {
        Some(ip) => ip.is_header_right() && ip.is_l4_checksum_right(),
        None => {
            let ip = ipv6::in_frame(frame).unwrap();
            let upper = ip.upper_layer().unwrap();
            ip.is_l4_checksum_right(&upper)
        }
    }
}

fn ends_of(frame: &[u8]) -> Ends {
    match header::read(frame).unwrap().kind {
        Kind::Whole(ends) => ends,
        Kind::Error(..) => panic!("an error"),
    }
}

/// Sends a check's packet. Returns what the real server gets of it, and where it leaves.
fn send(lab: &mut Lab, frame: &[u8]) -> Option<(PortId, Vec<u8>)> {
    assert!(Translator::is_check(frame));
    let mut packet = Memory::new(lab.companion, frame);
    let port = lab.translator.send(&mut packet, Instant::now())?;
    Some((port, packet.data().to_vec()))
}

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

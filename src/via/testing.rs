//! weir's tables and directors with services of every mode, and what the companions' thread does beside them.

use super::header::{self, Ends, Kind};
use super::{Answer, Companion, NEXT_HOP, Translator, Ways};
use crate::config::{self, Config, Context};
use crate::io::memory::Memory;
use crate::net::{Mac, ethertype, protocol};
use crate::packet::Packet;
use crate::replay::Replay;
use crate::service::ServiceKey;
use crate::tables::Tables;
use crate::units::{PortId, Time};
use crate::verdict::{LocalReason, Verdict};
use crate::wire::{checksum, ethernet, icmp, icmpv6, ipv4, ipv6, tcp, udp};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

pub(super) const WAN: PortId = PortId(0);
pub(super) const LAN: PortId = PortId(1);
/// As a replay has them.
pub(super) const MACS: [Mac; 2] = [
    Mac([0x02, b'w', b'e', b'i', b'r', 1]),
    Mac([0x02, b'w', b'e', b'i', b'r', 2]),
];
pub(super) const REAL_MAC: Mac = Mac([2, 0, 0, 0, 1, 0x11]);
pub(super) const START: u64 = 1_000_000_000_000;

pub(super) const NETWORK: &str = r#"
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
pub(super) struct Way {
    /// Its mode, with the keys of that.
    pub(super) mode: &'static str,
    pub(super) vip: &'static str,
    pub(super) real: &'static str,
    /// Where checks come from, and where they go.
    pub(super) source: &'static str,
    pub(super) destination: &'static str,
    /// Bytes of what is put around.
    pub(super) around: usize,
}

pub(super) const fn way(
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

pub(super) const V4: &str = "192.0.2.80";
pub(super) const V6: &str = "2001:db8:2::80";
pub(super) const R4: &str = "10.0.0.11";
pub(super) const R6: &str = "2001:db8:10::11";
pub(super) const L4: &str = "10.0.0.1";
pub(super) const L6: &str = "2001:db8:10::1";
pub(super) const S4: &str = "198.18.0.2";
pub(super) const S6: &str = "fd57:4549:5200::2";
pub(super) const P4: &str = "10.0.0.200";
pub(super) const P6: &str = "2001:db8:10::200";
pub(super) const IPIP: &str = "mode = \"tunnel\"";
pub(super) const GRE: &str = "mode = \"tunnel\"\ntunnel = \"gre\"";
pub(super) const GUE: &str = "mode = \"tunnel\"\ntunnel = \"gue\"";
pub(super) const L3DSR: &str = "mode = \"l3dsr\"\ndscp = 9";
pub(super) const FULL4: &str = "mode = \"fullnat\"\nlocal_pool = \"four\"";
pub(super) const FULL6: &str = "mode = \"fullnat\"\nlocal_pool = \"six\"";

pub(super) const WAYS: &[Way] = &[
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

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn parse(text: &str) -> Config {
    let context = Context {
        cpus: None,
        devices: false,
    };
    let loaded = config::parse(text, "test", &context);
    loaded.unwrap_or_else(|why| panic!("{why}\n{text}")).config
}

/// weir, whose port `companion` has one, and what the companions' thread does.
pub(super) struct Lab {
    pub(super) replay: Replay,
    pub(super) ways: Arc<Ways>,
    pub(super) translator: Translator,
    pub(super) companion: PortId,
    time: u64,
}

impl Lab {
    pub(super) fn new(services: &[&Way], companion: PortId, workers: usize) -> Lab {
        let mut lab = Lab::without_checks(services, companion, workers);
        let checks = lab.ways.checks(lab.tables());
        let now = lab.later();
        lab.replay.change(now, |model| model.set_check_ways(checks));
        lab.tell();
        lab
    }

    /// Nothing is known of checks yet but the private addresses.
    pub(super) fn without_checks(services: &[&Way], companion: PortId, workers: usize) -> Lab {
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

    pub(super) fn tables(&self) -> &Tables {
        self.replay.model().tables()
    }

    pub(super) fn tell(&self) {
        self.ways.set_tables(Arc::new(self.tables().clone()));
    }

    pub(super) fn later(&mut self) -> Time {
        self.time += 1_000_000;
        Time::from_nanos(self.time)
    }

    pub(super) fn private(&self, way: &Way) -> IpAddr {
        let key = ServiceKey {
            protocol: config::Protocol::Tcp,
            address: ip(way.vip),
            port: 80,
            last: 0,
        };
        self.ways.by_service(&key, ip(way.real)).unwrap().0
    }

    /// What the host sends to a private address, and from where.
    pub(super) fn request(&self, way: &Way, protocol: u8, port: u16) -> (Ends, Vec<u8>) {
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
    pub(super) fn receive(&mut self, port: PortId, frame: &[u8]) -> Verdict {
        let now = self.later();
        let decision = self.replay.receive(port, frame, now);
        self.replay.check().unwrap();
        decision.verdict
    }

    /// The real server's answer, as a worker and the companions' thread treat it.
    pub(super) fn hear(&mut self, answer: &[u8]) -> (Answer, Vec<u8>) {
        let verdict = self.receive(LAN, answer);
        assert_eq!(verdict, Verdict::Local(LocalReason::ToPortAddress));
        // Which port's host it is given to, decides the answer's destination; the frame is the same.
        let mut packet = Memory::new(self.companion, answer);
        let answer = self.translator.hear(&mut packet, Instant::now());
        (answer, packet.data().to_vec())
    }
}

pub(super) fn is_icmp(number: u8) -> bool {
    [protocol::ICMP, protocol::ICMPV6].contains(&number)
}

/// A frame with these ends, all its checksums right. `reply`: the type of ICMP, an echo request's if none.
pub(super) fn frame(
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
pub(super) fn inside(frame: &[u8], around: usize) -> Vec<u8> {
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

pub(super) fn is_right(frame: &[u8]) -> bool {
    match ipv4::in_frame(frame) {
        Some(ip) => ip.is_header_right() && ip.is_l4_checksum_right(),
        None => {
            let ip = ipv6::in_frame(frame).unwrap();
            let upper = ip.upper_layer().unwrap();
            ip.is_l4_checksum_right(&upper)
        }
    }
}

pub(super) fn ends_of(frame: &[u8]) -> Ends {
    match header::read(frame).unwrap().kind {
        Kind::Whole(ends) => ends,
        Kind::Error(..) => panic!("an error"),
    }
}

/// Sends a check's packet. Returns what the real server gets of it, and where it leaves.
pub(super) fn send(lab: &mut Lab, frame: &[u8]) -> Option<(PortId, Vec<u8>)> {
    assert!(Translator::is_check(frame));
    let mut packet = Memory::new(lab.companion, frame);
    let port = lab.translator.send(&mut packet, Instant::now())?;
    Some((port, packet.data().to_vec()))
}

//! ICMP errors about what weir has sent, cut short and changed at any place: each ends with a verdict, what goes on has right checksums, and
//! a client hears of the VIPs and ports only.
//!
//! The body of the fuzz target `quotes`, which the tests run as well, over inputs of their own and `regressions/quotes`.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;
use weir::config::{Config, Context, parse};
use weir::packet::{BURST, Packet};
use weir::replay::{Received, Replay};
use weir::units::{PortId, Time};
use weir::wire::ipv4::{self, Ipv4};
use weir::wire::ipv6::{self, Ipv6};
use weir::wire::{build, build6, icmp, icmpv6};

const START: Time = Time::from_nanos(1_700_000_000_000_000_000);
const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);
/// What a client may hear from.
const KNOWN_OUTSIDE: [&str; 7] = [
    "192.0.2.80",
    "198.51.100.1",
    "198.51.100.80",
    "198.51.100.81",
    "2001:db8:51::1",
    "2001:db8:51::80",
    "2001:db8:51::81",
];
/// A client's first packets, one to each service: destination, port, protocol.
const OPENING: [(&str, u16, u8); 9] = [
    ("192.0.2.80", 80, 6),
    ("192.0.2.80", 53, 17),
    ("198.51.100.80", 80, 6),
    ("198.51.100.80", 9, 17),
    ("198.51.100.81", 53, 17),
    ("192.0.2.80", 443, 6),
    ("2001:db8:51::80", 80, 17),
    ("2001:db8:51::81", 80, 6),
    ("2001:db8:51::80", 80, 6),
];

fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let context = Context {
            cpus: None,
            devices: false,
        };
        parse(include_str!("director.toml"), "director.toml", &context)
            .expect("a valid file")
            .config
    })
}

/// A packet in a frame of any station's.
fn framed(packet: &[u8]) -> Vec<u8> {
    let kind = match packet[0] >> 4 {
        4 => [8, 0],
        _ => [0x86, 0xdd],
    };
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9], &kind[..], packet].concat()
}

/// A segment or datagram of 40 bytes.
fn packet(source: IpAddr, destination: IpAddr, ports: (u16, u16), protocol: u8) -> Vec<u8> {
    let mut l4 = vec![0; 40];
    l4[..2].copy_from_slice(&ports.0.to_be_bytes());
    l4[2..4].copy_from_slice(&ports.1.to_be_bytes());
    match protocol {
        // A SYN.
        6 => (l4[12], l4[13]) = (0x50, 2),
        _ => (l4[5], l4[6]) = (40, 1),
    }
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut packet = [&[0; ipv4::HEADER_LEN][..], &l4].concat();
            let repr = ipv4::Repr::new(source, destination, protocol);
            repr.emit(&mut packet).unwrap();
            packet
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut packet = [&[0; ipv6::HEADER_LEN][..], &l4].concat();
            let repr = ipv6::Repr::new(source, destination, protocol);
            repr.emit(&mut packet).unwrap();
            packet
        }
        _ => unreachable!("one family"),
    }
}

/// What the other end says to a packet of TCP or UDP.
fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    let ports = |l4: &[u8]| {
        let word = |at: usize| u16::from_be_bytes([l4[at], l4[at + 1]]);
        (word(2), word(0))
    };
    let of = |source, destination, l4: &[u8], protocol| {
        let is_flow = matches!(protocol, 6 | 17) && l4.len() >= 8;
        is_flow.then(|| packet(destination, source, ports(l4), protocol))
    };
    if let Some(ip) = ipv4::in_frame(frame) {
        return of(
            ip.source().into(),
            ip.destination().into(),
            ip.payload(),
            ip.protocol(),
        );
    }
    let ip = ipv6::in_frame(frame)?;
    let upper = ip.upper_layer().ok()?;
    of(
        ip.source().into(),
        ip.destination().into(),
        upper.payload,
        upper.protocol,
    )
}

/// An error to the sender of a packet, about so many of its bytes. None of what is no IP packet.
fn error(
    packet: &[u8],
    quoted: &[u8],
    router: u8,
    (kind, code, rest): (u8, u8, u32),
) -> Option<Vec<u8>> {
    let mut frame = vec![0; 1500];
    let length = if let Ok(ip) = Ipv4::new_checked(packet) {
        let kinds = [3, 11, 12, 4, 5];
        let kind = kinds[usize::from(kind) % kinds.len()];
        let routers = [
            [10, 0, 0, 254],
            [203, 0, 113, 254],
            ip.destination().octets(),
            ip.source().octets(),
        ];
        let router = routers[usize::from(router) % routers.len()].into();
        build::icmp_error_of(
            &mut frame,
            (router, ip.source()),
            (kind, code, rest),
            quoted,
        )?
    } else {
        let ip = Ipv6::new_checked(packet).ok()?;
        let kinds = [1, 2, 3, 4, 100];
        let kind = kinds[usize::from(kind) % kinds.len()];
        let routers = [
            "2001:db8:10::fe".parse().unwrap(),
            "2001:db8:7::fe".parse().unwrap(),
            ip.destination(),
            "fe80::9".parse().unwrap(),
        ];
        let router = routers[usize::from(router) % routers.len()];
        build6::icmpv6_error_of(
            &mut frame,
            (router, ip.source()),
            (kind, code, rest),
            quoted,
        )?
    };
    Some(framed(&frame[14..length]))
}

/// What weir sends is well-formed, and what it says to a client comes from outside.
fn check(port: PortId, frame: &[u8]) {
    let known = |address: IpAddr| {
        let is_known = KNOWN_OUTSIDE
            .iter()
            .any(|known| known.parse() == Ok(address));
        assert!(port != WAN || is_known, "a client hears from {address}");
    };
    if let Some(ip) = ipv4::in_frame(frame) {
        let mut bytes = ip.packet().to_vec();
        let header = usize::from(bytes[0] & 0xf) * 4;
        assert_eq!(
            weir::wire::checksum::sum(&bytes[..header]),
            0xffff,
            "header checksum"
        );
        bytes.drain(..header);
        if ip.protocol() == 1 && !ip.is_fragment() {
            let message = icmp::Icmp::new_checked(&bytes[..]).expect("a message");
            assert!(message.is_checksum_right());
            if message.is_error() {
                known(ip.source().into());
            }
        }
    } else if let Some(ip) = ipv6::in_frame(frame) {
        let upper = ip.upper_layer().expect("headers");
        if upper.protocol == 58 && !upper.is_fragment() {
            assert!(ip.is_l4_checksum_right(&upper));
            let message = icmpv6::Icmpv6::new_checked(upper.payload).expect("a message");
            if message.is_error() {
                known(ip.source().into());
            }
        }
    }
}

/// The input is the number of workers, and errors of eight bytes: which frame, kind, code, the length of what is quoted, router
/// and port, a place and what is there instead, the second word.
pub fn run(input: &[u8]) {
    let Some((workers, rest)) = input.split_first() else {
        return;
    };
    let replay = || Replay::new(config(), 1 + usize::from(workers % 4), 64, START).unwrap();
    let mut replays = [(replay(), BURST), (replay(), 1)];
    let mut sent: Vec<(PortId, Vec<u8>)> = Vec::new();
    let mut time = START;
    for (number, (to, port, protocol)) in OPENING.into_iter().enumerate() {
        let to: IpAddr = to.parse().unwrap();
        let client = match to {
            IpAddr::V4(_) => "203.0.113.7".parse().unwrap(),
            IpAddr::V6(_) => "2001:db8:51::7".parse().unwrap(),
        };
        let frame = framed(&packet(
            client,
            to,
            (40_000 + number as u16, port),
            protocol,
        ));
        time = time + Duration::from_millis(1);
        for (port, frame) in receive(&mut replays, &[(WAN, time, &frame)]) {
            if port == LAN
                && let Some(answer) = answer(&frame)
            {
                let answer = framed(&answer);
                sent.extend(receive(&mut replays, &[(LAN, time, &answer)]));
            }
            sent.push((port, frame));
        }
    }
    assert!(sent.len() > 8, "{} packets were sent", sent.len());
    let (errors, _) = rest.as_chunks::<8>();
    for [which, kind, code, length, side, at, value, word] in errors {
        let (port, about) = &sent[usize::from(*which) % sent.len()];
        let packet = &about[14..];
        let mut quoted = packet[..packet.len().min(usize::from(*length))].to_vec();
        if let Some(byte) = quoted.get_mut(usize::from(*at)) {
            *byte = *value;
        }
        let Some(frame) = error(
            packet,
            &quoted,
            *side,
            (*kind, *code, u32::from(*word) << 3),
        ) else {
            continue;
        };
        // Mostly from where the packet went.
        let port = match side & 0x80 {
            0 => *port,
            _ => PortId(1 - port.0.min(1)),
        };
        time = time + Duration::from_millis(1);
        for (port, frame) in receive(&mut replays, &[(port, time, &frame)]) {
            check(port, &frame);
        }
    }
}

fn receive(replays: &mut [(Replay, usize); 2], together: &[Received]) -> Vec<(PortId, Vec<u8>)> {
    let [bursts, singles] = replays.each_mut().map(|(replay, burst)| {
        let decisions = replay.receive_together(together, *burst);
        replay.check().expect("every packet is accounted for");
        (decisions, replay.take_frames().collect::<Vec<_>>())
    });
    assert_eq!(bursts, singles);
    let frames = bursts.1.into_iter();
    frames
        .map(|frame| (frame.port, frame.packet.data().to_vec()))
        .collect()
}

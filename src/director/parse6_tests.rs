//! The short way through an IPv6 frame against the long one, and both against the views.

use super::super::parse::{parse, receive};
use super::*;
use crate::io::memory::Memory;
use crate::net::{Mac, ethertype};
use crate::packet::Packet;
use crate::tables::Accepts;
use crate::units::PortId;
use crate::wire::{checksum, tcp, udp};
use proptest::prelude::*;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER: Mac = Mac([2, 0, 0, 0, 2, 0x54]);

fn port(any_mac: bool) -> Port {
    Port {
        name: "wan".into(),
        mac: MAC,
        accepts: match any_mac {
            true => Accepts::any(),
            false => Accepts::only(MAC),
        },
        mtu: 1500,
        outer_sources: Default::default(),
        accepts_ra: false,
        forwards: false,
        hairpin: Default::default(),
        has_companion: false,
        addresses: Box::default(),
        broadcasts: Box::default(),
        announce: Box::default(),
    }
}

fn client() -> Ipv6Addr {
    "2001:db8:51::7".parse().unwrap()
}

fn vip() -> Ipv6Addr {
    "2001:db8:2::80".parse().unwrap()
}

/// Its number as a next header, and its bytes, whose first is written later.
type Extension<'a> = (u8, &'a [u8]);

/// A frame whose TCP or UDP, of 28 bytes, is behind these extension headers.
fn behind(tcp: bool, extensions: &[Extension], source: Ipv6Addr) -> Vec<u8> {
    let protocol = if tcp { protocol::TCP } else { protocol::UDP };
    let kinds = extensions.iter().map(|(kind, _)| *kind).chain([protocol]);
    let kinds: Vec<_> = kinds.collect();
    let mut frame = vec![0; L4];
    for ((_, bytes), next) in extensions.iter().zip(&kinds[1..]) {
        let start = frame.len();
        frame.extend_from_slice(bytes);
        frame[start] = *next;
    }
    let start = frame.len();
    frame.resize(start + 28, 0);
    ethernet::emit(&mut frame, MAC, PEER, ethertype::IPV6).unwrap();
    let ip = ipv6::Repr {
        traffic_class: 0xb8,
        flow_label: 0x1_2345,
        ..ipv6::Repr::new(source, vip(), kinds[0])
    };
    ip.emit(&mut frame[IP..]).unwrap();
    let pseudo = checksum::pseudo_header_v6(source, vip(), protocol, 28);
    let (source_port, destination_port) = (40_000, 80);
    let segment = tcp::Repr {
        source_port,
        destination_port,
        flags: Flags(Flags::SYN),
        ..tcp::Repr::default()
    };
    let datagram = udp::Repr {
        source_port,
        destination_port,
    };
    let fits = match tcp {
        true => segment.emit(&mut frame[start..], pseudo),
        false => datagram.emit(&mut frame[start..], pseudo),
    };
    fits.unwrap();
    frame
}

fn usual(tcp: bool) -> Vec<u8> {
    behind(tcp, &[], client())
}

const NO_OPTIONS: &[u8] = &[0, 0, 1, 4, 0, 0, 0, 0];

#[test]
fn extension_headers_are_walked_and_what_is_wrong_with_them_is_named() {
    let hop_by_hop = (protocol::HOP_BY_HOP, NO_OPTIONS);
    let options = (protocol::DESTINATION_OPTIONS, NO_OPTIONS);
    let atomic: (u8, &[u8]) = (protocol::FRAGMENT, &[0; 8]);
    let jumbo: (u8, &[u8]) = (protocol::HOP_BY_HOP, &[0, 0, 0xc2, 4, 0, 1, 0, 0]);
    let routing = |bytes: &'static [u8]| (protocol::ROUTING, bytes);
    let none_left = routing(&[0, 0, 4, 0, 0, 0, 0, 0]);
    let left = routing(&[0, 0, 4, 1, 0, 0, 0, 0]);
    let type_0 = routing(&[0, 0, 0, 0, 0, 0, 0, 0]);
    let type_0_left = routing(&[0, 0, 0, 1, 0, 0, 0, 0]);
    // Of 256 bytes, and of 8 more.
    let long = |units: u8| {
        let mut bytes = vec![0; usize::from(units) * 8];
        bytes[1] = units - 1;
        bytes
    };
    let (most, more) = (long(32), long(33));
    let most = (protocol::DESTINATION_OPTIONS, &most[..]);
    let more = (protocol::DESTINATION_OPTIONS, &more[..]);
    let cases: [(&[Extension], _); 13] = [
        (&[hop_by_hop], Ok(62)),
        (&[hop_by_hop, options, none_left, atomic], Ok(86)),
        (&[options; 8], Ok(118)),
        (&[options; 9], Err(DropReason::Ipv6Extension)),
        (&[options, hop_by_hop], Err(DropReason::Ipv6Extension)),
        (&[atomic, atomic], Err(DropReason::Ipv6Extension)),
        (&[jumbo], Err(DropReason::Jumbogram)),
        (&[most], Ok(310)),
        (&[more], Err(DropReason::Ipv6Extension)),
        (&[most, options], Err(DropReason::Ipv6Extension)),
        (&[left], Err(DropReason::RoutingHeader)),
        (&[type_0_left], Err(DropReason::RoutingHeader)),
        (&[type_0], Ok(62)),
    ];
    for (extensions, expected) in cases {
        for tcp in [false, true] {
            let frame = behind(tcp, extensions, client());
            let flow = match parse::<V6>(&frame, &port(false)) {
                Parsed::Flow(flow) => Ok(flow),
                Parsed::Bad(reason) => Err(reason),
                other => panic!("{other:?}"),
            };
            assert_eq!(flow.map(|flow| flow.layout.l4), expected, "{extensions:?}");
            if let Ok(flow) = flow {
                assert_eq!((flow.key.source_port(), flow.kind), (40_000, Kind::Unusual));
                assert_eq!(usize::from(flow.length), frame.len() - IP);
            }
        }
    }
    let first: (u8, &[u8]) = (protocol::FRAGMENT, &[0, 0, 0, 1, 0, 0, 0, 7]);
    let parsed = parse::<V6>(&behind(true, &[first], client()), &port(false));
    assert!(matches!(parsed, Parsed::Fragment(fragment) if fragment.is_first() && fragment.more));
}

#[test]
fn a_datagram_without_a_checksum_is_refused() {
    let mut frame = usual(false);
    frame[L4 + 6..L4 + 8].fill(0);
    let parsed = parse::<V6>(&frame, &port(false));
    assert_eq!(parsed, Parsed::Bad(DropReason::NoUdpChecksum));
}

#[test]
fn source_addresses_of_no_host_are_told() {
    for (address, is_bad) in [
        ("::", true),
        ("::1", true),
        ("::192.0.2.1", true),
        ("::ffff:192.0.2.1", true),
        ("ff02::1", true),
        ("ff0e::1", true),
        ("fe80::1", false),
        ("fc00::1", false),
        ("2001:db8::1", false),
        ("64:ff9b::192.0.2.1", false),
    ] {
        let frame = behind(true, &[], address.parse().unwrap());
        let parsed = parse::<V6>(&frame, &port(false));
        assert_eq!(
            parsed == Parsed::Bad(DropReason::BadSource),
            is_bad,
            "{address}: {parsed:?}"
        );
        // Neither way lets one through.
        let mut flow = Flow::default();
        if parse_usual(&frame, &port(false), &mut flow) {
            assert_eq!(is_bad_source(flow.key.source()), is_bad);
        }
    }
}

proptest! {
    /// Whatever a frame is, what the short way makes of it is what the long way does.
    #[test]
    fn the_short_way_is_the_long_one(
        tcp: bool,
        cut in 0usize..90,
        changes in prop::collection::vec((0usize..82, any::<u8>()), 0..4),
        any_mac: bool,
    ) {
        let port = port(any_mac);
        let mut frame = usual(tcp);
        for (place, value) in changes {
            frame[place] = value;
        }
        frame.resize(cut.max(1), 0xa5);
        let mut flow = Flow::default();
        if !parse_usual(&frame, &port, &mut flow) {
            return Ok(());
        }
        match parse_any(&frame, &port) {
            Parsed::Flow(other) => prop_assert_eq!(flow, other),
            Parsed::Bad(DropReason::BadSourceMac) => prop_assert!(is_bad_source_mac(&frame, &port)),
            Parsed::Bad(DropReason::BadSource) => prop_assert!(is_bad_source(flow.key.source())),
            // A group's address is no flow's destination; it is in no table either.
            Parsed::Ip(datagram) => prop_assert!(datagram.destination.is_multicast()),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    /// Every field is what the views read.
    #[test]
    fn the_short_way_reads_what_the_views_read(
        tcp: bool,
        addresses: (u128, u128),
        ports: (u16, u16),
        flags: u8,
        hop_limit: u8,
        rest in 0usize..1400,
    ) {
        let mut frame = usual(tcp);
        frame.resize(frame.len() + rest, 0x5a);
        let (source, destination) = (Ipv6Addr::from_bits(addresses.0), Ipv6Addr::from_bits(addresses.1));
        let protocol = if tcp { protocol::TCP } else { protocol::UDP };
        let ip = ipv6::Repr { hop_limit, ..ipv6::Repr::new(source, destination, protocol) };
        ip.emit(&mut frame[IP..]).unwrap();
        frame[L4..L4 + 2].copy_from_slice(&ports.0.to_be_bytes());
        frame[L4 + 2..L4 + 4].copy_from_slice(&ports.1.to_be_bytes());
        if tcp {
            frame[L4 + 13] = flags;
        }
        let mut flow = Flow::default();
        prop_assert!(parse_usual(&frame, &port(false), &mut flow));
        prop_assert_eq!(flow.key, FlowKey6::new(source, ports.0, destination, ports.1, protocol));
        prop_assert_eq!((flow.ttl, usize::from(flow.length)), (hop_limit, frame.len() - IP));
        prop_assert_eq!(flow.flags, Flags(if tcp { flags } else { 0 }));
        prop_assert_eq!(flow.layout, Layout { l4: 54 });
        let goes_on = !tcp || Flags(flags).ack() && !Flags(flags).syn() && !Flags(flags).rst();
        let kind = if tcp { Kind::Segment } else { Kind::Datagram };
        prop_assert_eq!(flow.kind, if goes_on && hop_limit > 1 { kind } else { Kind::Unusual });
    }

    /// A tag of VLAN 0 and a trailer change nothing.
    #[test]
    fn a_priority_tag_and_a_trailer_come_off(tcp: bool, tag in prop::option::of(0u8..16), trailer in 0usize..200) {
        let plain = usual(tcp);
        let mut frame = plain.clone();
        frame.resize(frame.len() + trailer, 0xa5);
        let tag = tag.map(|priority| [0x81, 0, priority << 4, 0]);
        frame.splice(12..12, tag.into_iter().flatten());
        prop_assert!(!<V6 as super::super::family::Wire>::is_foreign(&frame));
        let mut packet = Memory::new(PortId(0), &frame);
        let parsed = receive::<V6, _>(&mut packet, &port(false));
        prop_assert_eq!(parsed, parse(&plain, &port(false)));
        prop_assert_eq!(packet.data(), &plain[..]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), is_six: bool) {
        let mut bytes = bytes;
        if is_six && bytes.len() > 15 {
            bytes[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
            bytes[..6].copy_from_slice(&MAC.0);
        }
        let _ = receive::<V6, _>(&mut Memory::new(PortId(0), &bytes), &port(false));
    }
}

use super::*;
use crate::io::memory::Memory;
use crate::packet::Packet;
use crate::units::PortId;
use crate::wire::gre::Gre;
use crate::wire::gue::Gue;
use crate::wire::udp::Udp;
use proptest::prelude::*;

const ETHERTYPE: std::ops::Range<usize> = 12..14;

/// A port with an address of each family.
const SOURCES: OuterSources = OuterSources {
    v4: Some(Ipv4Addr::new(10, 0, 0, 1)),
    v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
};

/// A frame whose IP packet has this payload.
fn frame(is_v6: bool, class: u8, ttl: u8, df: bool, payload: &[u8]) -> Vec<u8> {
    let header = if is_v6 { 40 } else { 20 };
    let mut frame = [&vec![0; IP + header][..], payload].concat();
    let packet = &mut frame[IP..];
    if is_v6 {
        let ip = ipv6::Repr {
            traffic_class: class,
            flow_label: 0xa_bcde,
            hop_limit: ttl,
            ..ipv6::Repr::new(
                Ipv6Addr::LOCALHOST,
                Ipv6Addr::from_bits(5),
                protocol::DESTINATION_OPTIONS,
            )
        };
        ip.emit(packet).unwrap();
    } else {
        let ip = ipv4::Repr {
            tos: class,
            ttl,
            dont_fragment: df,
            identification: 0x1234,
            ..ipv4::Repr::new(Ipv4Addr::LOCALHOST, Ipv4Addr::from_bits(5), protocol::VRRP)
        };
        ip.emit(packet).unwrap();
    }
    frame
}

fn encapsulation() -> impl Strategy<Value = Encapsulation> {
    let variant = prop_oneof![Just(GueVariant::Plain), Just(GueVariant::Header)];
    let gue = (1u16.., variant, any::<bool>()).prop_map(|(port, variant, zero_checksum)| {
        Encapsulation::Gue {
            port,
            variant,
            zero_checksum,
        }
    });
    prop_oneof![Just(Encapsulation::Ipip), Just(Encapsulation::Gre), gue]
}

/// What a real server takes out of a packet, by the views of [`crate::wire`].
fn unwrapped<'a>(frame: &'a [u8], by: &TunnelConfig, hash: u64) -> &'a [u8] {
    let (number, payload, pseudo) = match frame[ETHERTYPE] {
        [0x08, 0x00] => {
            let ip = Ipv4::new_checked(&frame[IP..]).unwrap();
            assert!(ip.is_header_right());
            assert_eq!(usize::from(ip.total_length()) + IP, frame.len());
            assert_eq!(ip.ttl(), 64);
            (ip.protocol(), ip.payload(), None)
        }
        _ => {
            let ip = Ipv6::new_checked(&frame[IP..]).unwrap();
            assert_eq!(ip.hop_limit(), 64);
            assert_eq!(usize::from(ip.payload_length()) + IP + 40, frame.len());
            let payload = &frame[IP + 40..];
            let pseudo = ip.pseudo_header(protocol::UDP, payload.len() as u32);
            (ip.next_header(), payload, Some(pseudo))
        }
    };
    let version = |packet: &[u8]| packet[0] >> 4;
    let of_version = |packet: &[u8]| match version(packet) {
        4 => (protocol::IPIP, ethertype::IPV4),
        _ => (protocol::IPV6, ethertype::IPV6),
    };
    match by.encapsulation {
        Encapsulation::Ipip => {
            assert_eq!(number, of_version(payload).0);
            payload
        }
        Encapsulation::Gre => {
            let gre = Gre::new_checked(payload).unwrap();
            assert_eq!(number, protocol::GRE);
            assert_eq!(gre.protocol(), of_version(gre.payload()).1);
            gre.payload()
        }
        Encapsulation::Gue {
            port,
            variant,
            zero_checksum,
        } => {
            let udp = Udp::new_checked(payload).unwrap();
            assert_eq!((number, udp.destination_port()), (protocol::UDP, port));
            assert_eq!(udp.source_port(), FIRST_SOURCE_PORT | hash as u16);
            match pseudo {
                Some(pseudo) if !zero_checksum => {
                    assert!(udp.checksum().is_some() && udp.is_checksum_right(pseudo));
                }
                _ => assert_eq!(udp.checksum(), None),
            }
            match (Gue::new_checked(udp.payload()).unwrap(), variant) {
                (Gue::Plain(packet), GueVariant::Plain) => packet,
                (Gue::Header { protocol, payload }, GueVariant::Header) => {
                    assert_eq!(protocol, of_version(payload).0);
                    payload
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

proptest! {
    /// What is taken out is the packet that was put in, with one less of TTL; what is around it says what it must.
    #[test]
    fn a_wrapped_packet_is_itself_inside(
        families: (bool, bool),
        fields: (u8, bool),
        ttl in 2u8..,
        payload in prop::collection::vec(any::<u8>(), 0..100),
        padding in 0usize..20,
        encapsulation in encapsulation(),
        hash: u64,
        is_fragmented: bool,
        own: Option<u16>,
    ) {
        let ((is_v6, is_outer_v6), (class, df)) = (families, fields);
        let address = |last: u128| match is_outer_v6 {
            true => IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8u128 << 96 | last)),
            false => IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 | last as u32)),
        };
        // The tunnel's own source, or the port's.
        let own = own.map(|last| address(u128::from(last)));
        let (source, destination) = (own.unwrap_or(address(1)), address(2));
        let config = TunnelConfig { encapsulation, source: own };
        let tunnel = Tunnel::new(Via::Wrapped(config), destination, is_v6);
        let overhead = tunnel.overhead();
        let before = frame(is_v6, class, ttl, df, &payload);
        let mut packet = Memory::new(PortId(0), &[&before[..], &vec![0; padding]].concat());
        let length = (before.len() - IP) as u16;
        prop_assert!(make_room(&mut packet, length, overhead));
        let mut numbers = Identifications::new(3, 8);
        let inner = Inner { is_v6, hash };
        let outer = Outer { sources: &SOURCES, is_fragmented };
        prop_assert!(tunnel.wrap(packet.data_mut(), inner, outer, &mut numbers).is_some());
        let after = packet.data();
        prop_assert_eq!(unwrapped(after, &config, hash), &frame(is_v6, class, ttl - 1, df, &payload)[IP..]);
        if is_outer_v6 {
            let ip = ipv6::in_frame(after).unwrap();
            prop_assert_eq!((ip.source(), ip.destination()), match (source, destination) {
                (IpAddr::V6(source), IpAddr::V6(destination)) => (source, destination),
                _ => unreachable!(),
            });
            prop_assert_eq!((ip.traffic_class(), ip.flow_label()), (class, (hash >> 16) as u32 & 0xf_ffff));
        } else {
            let ip = ipv4::in_frame(after).unwrap();
            prop_assert_eq!(ip.tos(), class);
            let stays_whole = (is_v6 || df) && !is_fragmented;
            prop_assert_eq!(ip.dont_fragment(), stays_whole);
            prop_assert_eq!(ip.identification(), if stays_whole { 0 } else { 3 });
        }
    }

    /// Marked, it is the packet as it would have been with that address and DSCP.
    #[test]
    fn a_marked_packet_differs_by_address_dscp_and_ttl(
        is_v6: bool,
        class: u8,
        dscp in 1u8..64,
        ttl in 2u8..,
        last: u16,
    ) {
        let mut marked = frame(is_v6, class, ttl, true, b"payload");
        let mut expected = frame(is_v6, dscp << 2 | class & 3, ttl - 1, true, b"payload");
        let packet = &mut expected[IP..];
        let to = match is_v6 {
            true => IpAddr::from(Ipv6Addr::from_bits(last.into())),
            false => IpAddr::from(Ipv4Addr::from_bits(last.into())),
        };
        match to {
            IpAddr::V6(to) => Ipv6::new_checked(packet).unwrap().set_destination(to),
            IpAddr::V4(to) => {
                let mut ip = Ipv4::new_checked(packet).unwrap();
                ip.set_destination(to);
                ip.fill_checksum();
            }
        }
        let l4 = if is_v6 { 54 } else { 34 };
        mark(&mut marked, l4, protocol::VRRP, to, dscp).unwrap();
        prop_assert_eq!(marked, expected);
    }

    #[test]
    fn what_is_no_packet_is_wrapped_or_refused_without_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        is_v6: bool,
        is_outer_v6: bool,
        encapsulation in encapsulation(),
    ) {
        let config = TunnelConfig { encapsulation, source: None };
        let destination = match is_outer_v6 {
            true => IpAddr::from(Ipv6Addr::LOCALHOST),
            false => IpAddr::from(Ipv4Addr::LOCALHOST),
        };
        let mut numbers = Identifications::new(0, 1);
        let inner = Inner { is_v6, hash: 0 };
        let tunnel = Tunnel::new(Via::Wrapped(config), destination, is_v6);
        let outer = Outer { sources: &SOURCES, is_fragmented: false };
        tunnel.wrap(&mut bytes.clone(), inner, outer, &mut numbers);
        for number in [protocol::TCP, protocol::UDP, protocol::ICMPV6] {
            mark(&mut bytes.clone(), 34, number, destination, 5);
        }
    }
}

/// As many bytes as an mbuf has before a frame take the longest headers; where there are fewer, nothing is changed.
#[test]
fn there_is_room_for_the_longest_headers_and_no_more() {
    let before = frame(false, 0, 64, true, b"payload");
    let length = (before.len() - IP) as u16;
    let mut packet = Memory::new(PortId(0), &before);
    assert!(make_room(&mut packet, length, 52));
    let mut packet = Memory::new(PortId(0), &before);
    assert!(!make_room(&mut packet, length, 129));
    assert_eq!(packet.data(), before);
}

/// Where weir has no address that it could come from, or the whole is too long, a packet stays as it is.
#[test]
fn what_cannot_be_wrapped_is_left_alone() {
    let destinations: [IpAddr; 2] = [
        Ipv4Addr::new(10, 0, 0, 2).into(),
        Ipv6Addr::from_bits(2).into(),
    ];
    for (destination, is_v6) in destinations.into_iter().zip([false, true]) {
        let config = TunnelConfig {
            encapsulation: Encapsulation::Gre,
            source: None,
        };
        let tunnel = Tunnel::new(Via::Wrapped(config), destination, is_v6);
        let none = OuterSources::default();
        let long = 65_535 - if is_v6 { 40 } else { 20 };
        for (sources, payload, is_wrapped) in [
            (&SOURCES, 100, true),
            (&none, 100, false),
            (&SOURCES, long, false),
        ] {
            let before = frame(is_v6, 0, 64, true, &vec![0; payload]);
            let mut after = [&[0xa5; 64][..usize::from(tunnel.overhead())], &before].concat();
            let untouched = after.clone();
            let inner = Inner { is_v6, hash: 0 };
            let outer = Outer {
                sources,
                is_fragmented: false,
            };
            let numbers = &mut Identifications::new(0, 1);
            let result = tunnel.wrap(&mut after, inner, outer, numbers);
            assert_eq!(result.is_some(), is_wrapped);
            assert_eq!(after != untouched, is_wrapped);
        }
    }
}

/// What Katran's real servers take out of a packet, by the rules of its `decap` program: an outer IPv4 header has no options; what
/// is inside is told by the protocol, in GUE by two bits of the first byte behind the UDP header, whose port is the system's.
fn as_katran_takes(frame: &[u8], gue_port: u16) -> Option<&[u8]> {
    let packet = &frame[IP..];
    let (protocol, behind) = match packet[0] >> 4 {
        4 if packet[0] == 0x45 && packet[6] & 0x3f == 0 => (packet[9], &packet[20..]),
        6 => (packet[6], &packet[40..]),
        _ => return None,
    };
    let is_v6 = match protocol {
        protocol::IPIP => false,
        protocol::IPV6 => true,
        protocol::UDP if behind[2..4] == gue_port.to_be_bytes() => {
            let inside = &behind[8..];
            let is_v6 = inside[0] & 0x30 != 0;
            return (inside[0] >> 4 == if is_v6 { 6 } else { 4 }).then_some(inside);
        }
        _ => return None,
    };
    (behind[0] >> 4 == if is_v6 { 6 } else { 4 }).then_some(behind)
}

/// What a Linux real server takes out of GUE (`fou_gue_recv`), which GLB's are: variant 0 without extensions says the protocol,
/// variant 1 is the packet.
fn as_linux_takes(frame: &[u8], gue_port: u16) -> Option<&[u8]> {
    let packet = &frame[IP..];
    let udp = &packet[if packet[0] >> 4 == 4 { 20 } else { 40 }..];
    if udp[2..4] != gue_port.to_be_bytes()
        || usize::from(u16::from_be_bytes([udp[4], udp[5]])) != udp.len()
    {
        return None;
    }
    match udp[8..] {
        [0, protocol, 0, 0, ref inside @ ..] => {
            let version = if protocol == protocol::IPV6 { 6 } else { 4 };
            (inside[0] >> 4 == version && matches!(protocol, protocol::IPIP | protocol::IPV6))
                .then_some(inside)
        }
        [first, ..] if first >> 6 == 1 => Some(&udp[8..]),
        _ => None,
    }
}

/// The header that stands before a packet of 43 bytes in the systems of others, byte by byte but for what they choose freely:
/// source port, flow label, DF, the source address.
#[test]
fn the_real_servers_of_katran_and_glb_take_weirs_packets() {
    let (port, hash) = (9886, 0x0123_4567_89ab_cdef);
    let gue = |variant| Encapsulation::Gue {
        port,
        variant,
        zero_checksum: false,
    };
    let ways = [
        (Encapsulation::Ipip, true, false),
        (gue(GueVariant::Plain), true, true),
        (gue(GueVariant::Header), false, true),
    ];
    let ends: [(IpAddr, &[u8]); 2] = [
        (Ipv4Addr::new(10, 0, 0, 3).into(), &[0x45, 0]),
        (Ipv6Addr::from_bits(0xfc << 120 | 1).into(), &[0x60]),
    ];
    for (encapsulation, katran, linux) in ways {
        for ((destination, start), is_v6) in ends.iter().flat_map(|end| [(end, false), (end, true)])
        {
            let config = TunnelConfig {
                encapsulation,
                source: None,
            };
            let tunnel = Tunnel::new(Via::Wrapped(config), *destination, is_v6);
            let before = frame(is_v6, 0, 64, true, &[7; 23]);
            let mut packet = Memory::new(PortId(0), &before);
            assert!(make_room(
                &mut packet,
                (before.len() - IP) as u16,
                tunnel.overhead()
            ));
            let inner = Inner { is_v6, hash };
            let outer = Outer {
                sources: &SOURCES,
                is_fragmented: false,
            };
            let numbers = &mut Identifications::new(0, 1);
            tunnel
                .wrap(packet.data_mut(), inner, outer, numbers)
                .unwrap();
            let after = packet.data();
            assert!(after[IP..].starts_with(start));
            let inside = &frame(is_v6, 0, 63, true, &[7; 23])[IP..];
            if katran {
                assert_eq!(
                    as_katran_takes(after, port),
                    Some(inside),
                    "{encapsulation:?} {destination}"
                );
            }
            if linux {
                assert_eq!(
                    as_linux_takes(after, port),
                    Some(inside),
                    "{encapsulation:?} {destination}"
                );
            }
            // RFC 1624 and RFC 6935: the checksums are right, over IPv4 that of UDP may be 0.
            assert_eq!(unwrapped(after, &config, hash), inside);
        }
    }
}

//! The header's view, and the checksums of what it carries.

use super::*;
use crate::wire::checksum::naive;
use crate::wire::{icmp, tcp, udp};
use proptest::prelude::*;

const SOURCE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const DESTINATION: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);

/// A packet of this protocol with these options, its header checksum right.
fn packet(protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut packet = [&[0; HEADER_LEN][..], options, payload].concat();
    Repr::new(SOURCE, DESTINATION, protocol)
        .emit(&mut packet)
        .unwrap();
    packet[0] = 0x40 | (5 + options.len() as u8 / 4);
    Ipv4::new_checked(&mut packet[..]).unwrap().fill_checksum();
    packet
}

#[test]
fn source_routes_are_told_by_the_whole_list() {
    const WRONG: Result<bool, Malformed> = Err(Malformed::Option);
    let cases: &[(&[u8], Result<bool, Malformed>)] = &[
        (&[], Ok(false)),
        (&[1, 1, 1, 0], Ok(false)),
        (&[148, 4, 0, 0], Ok(false)),
        (&[7, 7, 4, 0, 0, 0, 0, 0], Ok(false)),
        (&[131, 7, 4, 10, 0, 0, 11, 0], Ok(true)),
        (&[137, 3, 4, 0], Ok(true)),
        (&[1, 148, 4, 0, 0, 131, 3, 4], Ok(true)),
        // What follows the end of the list is padding.
        (&[0, 131, 3, 4], Ok(false)),
        // In an option's data it is no option.
        (&[148, 4, 131, 3], Ok(false)),
        (&[131, 0, 0, 0], WRONG),
        (&[148, 0, 0, 0], WRONG),
        (&[148, 1, 0, 0], WRONG),
        (&[148, 5, 0, 0], WRONG),
        (&[131, 3, 4, 148], WRONG),
        (&[1, 1, 1, 131], WRONG),
    ];
    for (options, expected) in cases {
        let packet = packet(protocol::UDP, options, &[]);
        let ip = Ipv4::new_checked(&packet[..]).unwrap();
        assert_eq!(ip.has_source_route(), *expected, "{options:?}");
    }
}

/// The checks of RFC 1812 section 5.2.2 by a header that breaks one alone.
#[test]
fn what_is_wrong_is_told_by_its_name() {
    let changed = |place: usize, value: u8| {
        let mut packet = packet(protocol::UDP, &[], &[0; 8]);
        packet[place] = value;
        (
            Ipv4::new_checked(&packet[..]).err(),
            Ipv4::new_quoted(&packet[..]).err(),
        )
    };
    let both = |why| (Some(why), Some(why));
    assert_eq!(changed(1, 0xff), (None, None));
    assert_eq!(changed(0, 0x65), both(Malformed::Version));
    assert_eq!(changed(0, 0x44), both(Malformed::HeaderLength));
    assert_eq!(changed(0, 0x48), both(Malformed::Length));
    assert_eq!(changed(3, 19), both(Malformed::Length));
    assert_eq!(changed(3, 29), (Some(Malformed::Truncated), None));
    assert_eq!(changed(3, 20), (None, None));
}

/// The payload of a packet of any of the three protocols, its checksum right.
fn payload(protocol: u8, data: &[u8]) -> Vec<u8> {
    let header = Repr::new(SOURCE, DESTINATION, protocol);
    let room = match protocol {
        protocol::TCP => tcp::HEADER_LEN,
        _ => 8,
    };
    let mut bytes = [&vec![0; room][..], data].concat();
    let pseudo = header.pseudo_header(bytes.len() as u16);
    match protocol {
        protocol::TCP => tcp::Repr::default().emit(&mut bytes, pseudo),
        protocol::UDP => {
            let (source_port, destination_port) = (1024, 53);
            udp::Repr {
                source_port,
                destination_port,
            }
            .emit(&mut bytes, pseudo)
        }
        _ => icmp::Repr {
            kind: icmp::ECHO_REQUEST,
            code: 0,
            rest: 7,
        }
        .emit(&mut bytes),
    }
    .unwrap();
    bytes
}

proptest! {
    #[test]
    fn what_is_emitted_is_read(
        addresses: (u32, u32),
        (protocol, tos, ttl) in (any::<u8>(), any::<u8>(), any::<u8>()),
        identification: u16,
        dont_fragment: bool,
        payload in prop::collection::vec(any::<u8>(), 0..50),
        trailer in 0usize..20,
    ) {
        let repr = Repr {
            source: addresses.0.into(),
            destination: addresses.1.into(),
            protocol,
            tos,
            ttl,
            identification,
            dont_fragment,
        };
        let mut packet = [&[0xa5; HEADER_LEN][..], &payload].concat();
        repr.emit(&mut packet).unwrap();
        prop_assert_eq!(naive(&packet[..HEADER_LEN]), 0xffff);
        let whole = packet.clone();
        packet.resize(packet.len() + trailer, 0x5a);
        let ip = Ipv4::new_checked(&packet[..]).unwrap();
        let read = Repr {
            source: ip.source(),
            destination: ip.destination(),
            protocol: ip.protocol(),
            tos: ip.tos(),
            ttl: ip.ttl(),
            identification: ip.identification(),
            dont_fragment: ip.dont_fragment(),
        };
        prop_assert_eq!(read, repr);
        prop_assert_eq!((ip.packet(), ip.payload()), (&whole[..], &payload[..]));
        prop_assert!(ip.is_header_right() && !ip.is_fragment());
        for cut in 0..whole.len() {
            prop_assert_eq!(Ipv4::new_checked(&whole[..cut]).err(), Some(Malformed::Truncated));
        }
    }

    /// With options, which the quick sum does not cover, and in any bit.
    #[test]
    fn a_changed_bit_of_the_header_is_seen(words in 0usize..=10, bit in 0usize..480) {
        let options = vec![1; words * 4];
        let mut packet = packet(protocol::UDP, &options, &[0; 8]);
        let length = HEADER_LEN + options.len();
        prop_assert!(Ipv4::new_checked(&packet[..]).unwrap().is_header_right());
        prop_assert_eq!(naive(&packet[..length]), 0xffff);
        let place = 4 + bit % ((length - 4) * 8) / 8;
        packet[place] ^= 1 << (bit % 8);
        prop_assert!(!Ipv4::new_checked(&packet[..]).unwrap().is_header_right());
    }

    #[test]
    fn fragments_are_told_from_whole_datagrams(offset in 0u16..8192, more: bool, dont_fragment: bool) {
        let mut packet = packet(protocol::UDP, &[], &[0, 7, 0, 53, 0, 8, 0, 0]);
        let flags = u16::from(dont_fragment) << 14 | u16::from(more) << 13 | offset;
        packet[6..8].copy_from_slice(&flags.to_be_bytes());
        let ip = Ipv4::new_checked(&packet[..]).unwrap();
        prop_assert_eq!((ip.fragment_offset() / 8, ip.more_fragments()), (offset, more));
        prop_assert_eq!(ip.dont_fragment(), dont_fragment);
        prop_assert_eq!(ip.is_fragment(), more || offset > 0);
        prop_assert_eq!(ip.ports(), (!ip.is_fragment()).then_some((7, 53)));
    }

    #[test]
    fn a_changed_bit_makes_a_right_checksum_wrong(
        protocol in prop::sample::select(vec![protocol::ICMP, protocol::TCP, protocol::UDP]),
        data in prop::collection::vec(any::<u8>(), 0..100),
        surplus in 0usize..4,
        trailer in 0usize..30,
        place: prop::sample::Index,
        bit in 0u8..8,
    ) {
        let mut bytes = payload(protocol, &data);
        let covered = bytes.len();
        // A UDP datagram may be shorter than its packet says (RFC 768 gives it a length of its own).
        if protocol == protocol::UDP {
            bytes.resize(covered + surplus, 0x5a);
        }
        let mut packet = packet(protocol, &[], &bytes);
        packet.resize(packet.len() + trailer, 0xa5);
        prop_assert!(Ipv4::new_checked(&packet[..]).unwrap().is_l4_checksum_right());
        let place = 20 + place.index(covered);
        packet[place] ^= 1 << bit;
        let is_length = protocol == protocol::UDP && (24..26).contains(&place);
        let is_none = protocol == protocol::UDP && packet[26..28] == [0, 0];
        if !is_length {
            // A data offset that is wrong is not right either.
            let ip = Ipv4::new_checked(&packet[..]).unwrap();
            prop_assert_eq!(ip.is_l4_checksum_right(), is_none);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..120), is_plausible: bool) {
        if is_plausible && bytes.len() >= HEADER_LEN {
            bytes[0] = 0x40 | bytes[0] & 0x0f;
            bytes[2] = 0;
        }
        for ip in [Ipv4::new_checked(&bytes[..]), Ipv4::new_quoted(&bytes[..])].into_iter().flatten() {
            prop_assert!(ip.packet().len() <= bytes.len());
            let _ = (ip.ports(), ip.is_l4_checksum_right(), ip.is_header_right(), ip.has_source_route());
        }
        if let Ok(mut ip) = Ipv4::new_quoted(&mut bytes[..]) {
            ip.payload_mut().fill(0);
            ip.fill_checksum();
        }
        let _ = in_frame(&bytes);
    }
}

proptest! {
    #[test]
    fn a_header_of_few_instructions_is_the_same(
        fields: (u32, u32, u8, u8, u8, u16, bool),
        length: u16,
    ) {
        let (source, destination, protocol, tos, ttl, identification, dont_fragment) = fields;
        let repr = Repr {
            source: source.into(),
            destination: destination.into(),
            protocol,
            tos,
            ttl,
            identification,
            dont_fragment,
        };
        let mut emitted = [0; HEADER_LEN];
        repr.emit_with(&mut emitted, length).unwrap();
        prop_assert_eq!(repr.header(length), emitted);
    }
}

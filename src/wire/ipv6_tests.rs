//! The header's view, and the way through the extension headers.

use super::*;
use crate::wire::extension::{Fragment, MAX_BYTES, MAX_HEADERS};
use crate::wire::udp;
use proptest::prelude::*;

const SOURCE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const DESTINATION: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x80);

const HOP_BY_HOP: u8 = protocol::HOP_BY_HOP;
const ROUTING: u8 = protocol::ROUTING;
const FRAGMENT: u8 = protocol::FRAGMENT;
const OPTIONS: u8 = protocol::DESTINATION_OPTIONS;
const UDP: u8 = protocol::UDP;

/// A packet of these extension headers, whose first byte is left out, and a payload.
fn packet(headers: &[(u8, &[u8])], last: u8, payload: &[u8]) -> Vec<u8> {
    let kinds = headers.iter().map(|(kind, _)| *kind).chain([last]);
    let mut packet = vec![0; HEADER_LEN];
    for ((_, rest), next) in headers.iter().zip(kinds.clone().skip(1)) {
        packet.push(next);
        packet.extend(*rest);
    }
    packet.extend(payload);
    let first = kinds.clone().next().unwrap();
    Repr::new(SOURCE, DESTINATION, first)
        .emit(&mut packet)
        .unwrap();
    packet
}

/// The rest of a header of options with this padding, in units of 8 bytes.
fn padded(units: u8) -> Vec<u8> {
    let length = usize::from(units) * 8;
    // PadN, whose length counts its data alone.
    let mut rest = vec![units - 1, 1, (length - 4) as u8];
    rest.resize(length - 1, 0);
    rest
}

/// The rest of a fragment header.
fn fragment(offset: u16, more: bool) -> [u8; 7] {
    let [high, low] = (offset | u16::from(more)).to_be_bytes();
    [0, high, low, 0, 0, 0x12, 0x34]
}

fn walk(packet: &[u8]) -> Result<extension::UpperLayer<'_>, Malformed> {
    Ipv6::new_checked(packet)?.upper_layer()
}

#[test]
fn what_weir_does_not_take_is_told_by_its_name() {
    const NO_SEGMENTS: [u8; 7] = [0, 4, 0, 0, 0, 0, 0];
    let (pad, long) = (padded(1), padded(32));
    let jumbo: &[u8] = &[0, 0xc2, 4, 0, 1, 0, 0];
    let mut none = packet(&[(HOP_BY_HOP, jumbo)], UDP, &[]);
    none[4..6].fill(0);
    let cases: Vec<(&str, Vec<u8>, Result<u8, Malformed>)> = vec![
        ("no extension header", packet(&[], UDP, &[1; 8]), Ok(UDP)),
        (
            "each kind",
            packet(
                &[
                    (HOP_BY_HOP, &pad),
                    (OPTIONS, &pad),
                    (ROUTING, &NO_SEGMENTS),
                    (OPTIONS, &pad),
                ],
                6,
                &[],
            ),
            Ok(6),
        ),
        (
            "a routing header of type 0",
            packet(&[(ROUTING, &[0, 0, 1, 0, 0, 0, 0])], UDP, &[]),
            Err(Malformed::SegmentsLeft),
        ),
        (
            "the same without segments left",
            packet(&[(ROUTING, &[0; 7])], UDP, &[]),
            Ok(UDP),
        ),
        (
            "segments left",
            packet(&[(ROUTING, &[0, 4, 2, 0, 0, 0, 0])], UDP, &[]),
            Err(Malformed::SegmentsLeft),
        ),
        ("a jumbogram", none, Err(Malformed::Jumbogram)),
        (
            "a jumbo option with a length",
            packet(&[(HOP_BY_HOP, jumbo)], UDP, &[]),
            Err(Malformed::Jumbogram),
        ),
        (
            "a jumbo option behind padding",
            packet(
                &[(
                    HOP_BY_HOP,
                    &[1, 0, 1, 0, 0xc2, 4, 0, 1, 0, 0, 1, 2, 0, 0, 0],
                )],
                UDP,
                &[],
            ),
            Err(Malformed::Jumbogram),
        ),
        (
            "an option beyond its header",
            packet(&[(OPTIONS, &[0, 5, 5, 0, 0, 0, 0])], UDP, &[]),
            Err(Malformed::Option),
        ),
        (
            "an option without length",
            packet(&[(OPTIONS, &[0, 0, 0, 0, 0, 0, 5])], UDP, &[]),
            Err(Malformed::Option),
        ),
        (
            "hop-by-hop options twice",
            packet(&[(HOP_BY_HOP, &pad), (HOP_BY_HOP, &pad)], UDP, &[]),
            Err(Malformed::HeaderOrder),
        ),
        (
            "hop-by-hop options behind others",
            packet(&[(OPTIONS, &pad), (HOP_BY_HOP, &pad)], UDP, &[]),
            Err(Malformed::HeaderOrder),
        ),
        (
            "a fragment in a fragment",
            packet(
                &[
                    (FRAGMENT, &fragment(0, false)),
                    (FRAGMENT, &fragment(0, true)),
                ],
                UDP,
                &[],
            ),
            Err(Malformed::HeaderOrder),
        ),
        (
            "as many as are walked",
            packet(&[(OPTIONS, &pad[..]); MAX_HEADERS], UDP, &[]),
            Ok(UDP),
        ),
        (
            "one more",
            packet(&[(OPTIONS, &pad[..]); MAX_HEADERS + 1], UDP, &[]),
            Err(Malformed::TooManyHeaders),
        ),
        (
            "as long as is walked",
            packet(&[(OPTIONS, &long)], UDP, &[]),
            Ok(UDP),
        ),
        (
            "longer",
            packet(&[(OPTIONS, &long), (OPTIONS, &pad)], UDP, &[]),
            Err(Malformed::TooManyHeaders),
        ),
        (
            "cut",
            packet(&[(OPTIONS, &pad[..5])], UDP, &[]),
            Err(Malformed::Truncated),
        ),
        (
            "longer than the packet",
            packet(&[(OPTIONS, &long[..15])], UDP, &[]),
            Err(Malformed::Truncated),
        ),
        (
            "the first fragment of headers",
            packet(
                &[(FRAGMENT, &fragment(0, true)), (OPTIONS, &long[..15])],
                UDP,
                &[],
            ),
            Err(Malformed::HeadersInFragments),
        ),
        (
            "a later one, whose bytes are no header",
            packet(&[(FRAGMENT, &fragment(8, true))], OPTIONS, &[9; 3]),
            Ok(OPTIONS),
        ),
        (
            "encapsulation is an upper layer",
            packet(&[], 50, &[0; 8]),
            Ok(50),
        ),
        (
            "no next header",
            packet(&[(OPTIONS, &pad)], 59, &[]),
            Ok(59),
        ),
    ];
    assert_eq!(long.len() + 1, MAX_BYTES);
    for (name, packet, expected) in cases {
        let found = walk(&packet).map(|upper| upper.protocol);
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn fragments_are_told_from_whole_datagrams() {
    for (offset, more, is_fragment) in [
        (0, false, false),
        (0, true, true),
        (1480, true, true),
        (8, false, true),
    ] {
        let packet = packet(
            &[(FRAGMENT, &fragment(offset, more))],
            UDP,
            &[0, 7, 0, 53, 0, 8, 0, 0],
        );
        let upper = walk(&packet).unwrap();
        let identification = 0x1234;
        assert_eq!(
            upper.fragment,
            Some(Fragment {
                offset,
                more,
                identification,
                next_header: UDP,
            })
        );
        assert_eq!(upper.is_fragment(), is_fragment, "{offset}, {more}");
        assert_eq!(
            upper.ports(),
            (!is_fragment).then_some((7, 53)),
            "{offset}, {more}"
        );
        assert_eq!((upper.extensions, upper.fragment_end), (8, 8));
    }
}

#[test]
fn udp_must_have_a_checksum() {
    let mut payload = [0; 12];
    let header = Repr::new(SOURCE, DESTINATION, UDP);
    let repr = udp::Repr {
        source_port: 7,
        destination_port: 53,
    };
    repr.emit(&mut payload, header.pseudo_header(12)).unwrap();
    let is_right = |payload: &[u8]| {
        let packet = packet(&[], UDP, payload);
        let ip = Ipv6::new_checked(&packet[..]).unwrap();
        ip.is_l4_checksum_right(&ip.upper_layer().unwrap())
    };
    assert!(is_right(&payload));
    payload[6..8].fill(0);
    assert!(!is_right(&payload));
}

proptest! {
    #[test]
    fn what_is_emitted_is_read(
        addresses: (u128, u128),
        next_header in 1u8..,
        (traffic_class, flow_label, hop_limit) in (any::<u8>(), 0u32..1 << 20, any::<u8>()),
        payload in prop::collection::vec(any::<u8>(), 0..50),
        trailer in 0usize..20,
    ) {
        let repr = Repr {
            source: Ipv6Addr::from_bits(addresses.0),
            destination: Ipv6Addr::from_bits(addresses.1),
            next_header,
            traffic_class,
            flow_label,
            hop_limit,
        };
        let mut packet = [&[0xa5; HEADER_LEN][..], &payload].concat();
        repr.emit(&mut packet).unwrap();
        let whole = packet.clone();
        packet.resize(packet.len() + trailer, 0x5a);
        let ip = Ipv6::new_checked(&packet[..]).unwrap();
        let read = Repr {
            source: ip.source(),
            destination: ip.destination(),
            next_header: ip.next_header(),
            traffic_class: ip.traffic_class(),
            flow_label: ip.flow_label(),
            hop_limit: ip.hop_limit(),
        };
        prop_assert_eq!(read, repr);
        prop_assert_eq!((ip.packet(), ip.payload()), (&whole[..], &payload[..]));
        for cut in 0..whole.len() {
            prop_assert_eq!(Ipv6::new_checked(&whole[..cut]).err(), Some(Malformed::Truncated));
        }
    }

    /// Headers of any order and length within the bounds lead to what is behind them.
    #[test]
    fn the_walk_ends_behind_the_headers(
        units in prop::collection::vec(1u8..5, 0..=MAX_HEADERS),
        payload in prop::collection::vec(any::<u8>(), 0..30),
    ) {
        let rests: Vec<_> = units.iter().map(|&units| padded(units)).collect();
        let headers: Vec<_> = rests.iter().map(|rest| (OPTIONS, &rest[..])).collect();
        let packet = packet(&headers, UDP, &payload);
        let upper = walk(&packet).unwrap();
        prop_assert_eq!(upper.protocol, UDP);
        prop_assert_eq!(upper.payload, &payload[..]);
        prop_assert_eq!(upper.extensions, units.iter().map(|&units| usize::from(units) * 8).sum::<usize>());
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        first in prop::sample::select(vec![HOP_BY_HOP, ROUTING, FRAGMENT, OPTIONS, UDP]),
        is_plausible: bool,
    ) {
        if is_plausible && bytes.len() >= HEADER_LEN {
            let length = (bytes.len() - HEADER_LEN) as u16;
            bytes[0] = 0x60;
            bytes[4..6].copy_from_slice(&length.to_be_bytes());
            bytes[6] = first;
            // Of short headers, which are of known kinds again.
            for at in (HEADER_LEN..bytes.len().saturating_sub(1)).step_by(8) {
                bytes[at] = [HOP_BY_HOP, ROUTING, FRAGMENT, OPTIONS, UDP][usize::from(bytes[at]) % 5];
                bytes[at + 1] %= 3;
            }
        }
        for ip in [Ipv6::new_checked(&bytes[..]), Ipv6::new_quoted(&bytes[..])].into_iter().flatten() {
            if let Ok(upper) = ip.upper_layer() {
                prop_assert!(upper.extensions <= MAX_BYTES);
                prop_assert_eq!(upper.extensions + upper.payload.len(), ip.payload().len());
                let _ = (upper.ports(), ip.is_l4_checksum_right(&upper));
            }
        }
    }
}

proptest! {
    #[test]
    fn a_header_of_few_instructions_is_the_same(
        fields: (u128, u128, u8, u8, u32, u8),
        length: u16,
    ) {
        let (source, destination, next_header, traffic_class, flow_label, hop_limit) = fields;
        let repr = Repr {
            source: source.into(),
            destination: destination.into(),
            next_header,
            traffic_class,
            flow_label,
            hop_limit,
        };
        let mut emitted = [0; HEADER_LEN];
        repr.emit_with(&mut emitted, length).unwrap();
        prop_assert_eq!(repr.header(length), emitted);
    }
}

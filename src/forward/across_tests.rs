use super::*;
use crate::conn::AnyAddress;
use crate::forward::mode;
use crate::io::memory::Memory;
use crate::net::Mac;
use crate::units::{PortId, RealId};
use crate::wire::tcp;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What a header says that translation keeps or makes.
#[derive(Clone, Copy, Debug)]
struct Header {
    ttl: u8,
    class: u8,
    identification: u16,
    dont_fragment: bool,
}

/// A frame with this key and its checksums right, its upper layer behind IPv4 options or IPv6 extension headers.
fn frame(
    key: &FlowKeyAny,
    header: Header,
    extra: &[u8],
    payload: &[u8],
    has_checksum: bool,
) -> Vec<u8> {
    let is_tcp = key.protocol() == protocol::TCP;
    let upper = match is_tcp {
        true => tcp::HEADER_LEN,
        false => udp::HEADER_LEN,
    };
    let (length, kind) = match IpAddr::from(key.source()) {
        IpAddr::V4(_) => (ipv4::HEADER_LEN, ethertype::IPV4),
        IpAddr::V6(_) => (ipv6::HEADER_LEN, ethertype::IPV6),
    };
    let start = IP + length + extra.len();
    let mut frame = [&vec![0; IP + length][..], extra, &vec![0; upper], payload].concat();
    ethernet::emit(&mut frame, Mac([2; 6]), Mac([4; 6]), kind).unwrap();
    let l4_len = frame.len() - start;
    let packet = &mut frame[IP..];
    let pseudo = match (key.source().into(), key.destination().into()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let ip = ipv4::Repr {
                tos: header.class,
                ttl: header.ttl,
                identification: header.identification,
                dont_fragment: header.dont_fragment,
                ..ipv4::Repr::new(source, destination, key.protocol())
            };
            ip.emit(packet).unwrap();
            packet[0] += extra.len() as u8 / 4;
            Ipv4::new_checked(packet).unwrap().fill_checksum();
            ip.pseudo_header(l4_len as u16)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let ip = ipv6::Repr {
                traffic_class: header.class,
                hop_limit: header.ttl,
                ..ipv6::Repr::new(source, destination, key.protocol())
            };
            ip.emit(packet).unwrap();
            if let [_, length, ..] = extra {
                // A fragment header has no length, but says 0 there as well.
                let is_fragment = *length == 0 && extra[2..4] == [0, 0];
                packet[6] = match is_fragment {
                    true => protocol::FRAGMENT,
                    false => protocol::DESTINATION_OPTIONS,
                };
                packet[ipv6::HEADER_LEN] = key.protocol();
            }
            checksum::pseudo_header_v6(source, destination, key.protocol(), l4_len as u32)
        }
        _ => panic!("two families in one packet"),
    };
    let (source_port, destination_port) = (key.source_port(), key.destination_port());
    let segment = tcp::Repr {
        source_port,
        destination_port,
        sequence: 7,
        ..tcp::Repr::default()
    };
    let datagram = udp::Repr {
        source_port,
        destination_port,
    };
    let l4 = &mut frame[start..];
    let fits = match is_tcp {
        true => segment.emit(l4, pseudo),
        false => datagram.emit(l4, pseudo),
    };
    fits.unwrap();
    if !has_checksum && !is_tcp {
        l4[6..8].fill(0);
    }
    frame
}

/// A header's options, as no-operations; or an IPv6 destination options header of padding; or that of an atomic fragment.
fn extra(is_v6: bool, units: usize, atomic: Option<u16>) -> Vec<u8> {
    match (is_v6, units, atomic) {
        (false, _, _) => vec![1; units * 4],
        (true, _, Some(number)) => [&[0, 0, 0, 0, 0xab, 0xcd][..], &number.to_be_bytes()].concat(),
        (true, 0, None) => vec![],
        (true, _, None) => {
            let mut header = vec![0; units * 8];
            (header[1], header[2], header[3]) = (units as u8 - 1, 1, units as u8 * 8 - 4);
            header
        }
    }
}

fn four() -> impl Strategy<Value = IpAddr> {
    any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits % (223 << 24))))
}

fn six() -> impl Strategy<Value = IpAddr> {
    any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits >> 3 | 1 << 125)))
}

proptest! {
    /// A translated packet is the one that would have been made so in the other family, to the last bit, whatever options,
    /// extension headers and padding it came with; and the reply to it comes back as the reply to what was sent.
    #[test]
    fn a_translated_packet_is_as_if_made_so(
        fours in (four(), four()),
        sixes in (six(), six()),
        ports: (u16, u16, u16, u16),
        is_from_six: bool,
        is_tcp: bool,
        has_checksum: bool,
        ttl in 2u8..=255,
        class: u8,
        units in (0usize..=10, 0usize..=10),
        atomic in prop::option::of(any::<u16>()),
        payload in prop_oneof![prop::collection::vec(any::<u8>(), 0..60), (1150usize..1400).prop_map(|n| vec![0xa5; n])],
        padding in 0usize..7,
        next: u16,
    ) {
        let protocol = if is_tcp { protocol::TCP } else { protocol::UDP };
        let (near, far) = if is_from_six { (sixes, fours) } else { (fours, sixes) };
        let at = |address: IpAddr| AnyAddress::from(address);
        let key = FlowKeyAny::new(at(near.0), ports.0, at(near.1), ports.1, protocol);
        let translation = mode("fullnat").unwrap().translation(&key, (at(far.0), ports.2), Some((at(far.1), ports.3)));
        let connection = ConnectionAny::new(key, translation, RealId(0));
        let request: FlowKeyAny = translation.key(protocol);
        let ways = [
            (key, request, false, is_from_six, units.0),
            (request.reversed(), key.reversed(), true, !is_from_six, units.1),
        ];
        for (received, sent, reply, is_v6, units) in ways {
            let header = Header { ttl, class, identification: 9, dont_fragment: true };
            let extra = extra(is_v6, units, atomic);
            let before = frame(&received, header, &extra, &payload, has_checksum || is_v6);
            let l4 = IP + extra.len() + if is_v6 { ipv6::HEADER_LEN } else { ipv4::HEADER_LEN };
            let layout = Layout { l4: l4 as u16 };
            let mut packet = Memory::new(PortId(0), &[&before[..], &vec![0; padding]].concat());
            let mut numbers = Identifications::new(next.into(), 4);
            prop_assert!(rewrite(&mut packet, Form::whole(layout), &connection, reply, &mut numbers));
            let atomic = atomic.filter(|_| is_v6);
            let length = ipv4::HEADER_LEN + before.len() - l4;
            let after = Header {
                ttl: ttl - 1,
                class,
                identification: atomic.unwrap_or(next),
                dont_fragment: atomic.is_none() && length > 1260,
            };
            let expected = frame(&sent, after, &[], &payload, true);
            prop_assert_eq!(&packet.data()[ETHERTYPE.start..], &expected[ETHERTYPE.start..]);
            let ip_length = (before.len() - IP) as u16;
            prop_assert_eq!(usize::from(translated_length(is_v6, ip_length, layout, Part::Whole)), expected.len() - IP);
            let is_taken = is_v6 && atomic.is_none();
            prop_assert_eq!(numbers.take(), if is_taken { next.checked_add(4).unwrap_or(next) } else { next });
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_rewritten_without_panic(cut in 0usize..100, l4 in 0u16..120, is_six: bool, reply: bool) {
        let at = |text: &str| AnyAddress::from(text.parse::<IpAddr>().unwrap());
        let (near, far) = (["2001:db8::1", "2001:db8::2"], ["10.0.0.1", "10.0.0.2"]);
        let (near, far) = if is_six { (near, far) } else { (far, near) };
        let key = FlowKeyAny::new(at(near[0]), 1, at(near[1]), 2, protocol::TCP);
        let translation = mode("fullnat").unwrap().translation(&key, (at(far[0]), 3), Some((at(far[1]), 4)));
        let connection = ConnectionAny::new(key, translation, RealId(0));
        let header = Header { ttl: 9, class: 0, identification: 0, dont_fragment: false };
        let mut frame = frame(&key, header, &[], b"some payload", true);
        frame.truncate(cut);
        let mut packet = Memory::new(PortId(0), &frame);
        rewrite(&mut packet, Form::whole(Layout { l4 }), &connection, reply, &mut Identifications::new(0, 1));
    }
}

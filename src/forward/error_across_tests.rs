use super::*;
use crate::conn::{AnyAddress, Connection};
use crate::forward::mode;
use crate::forward::rewrite::Layout;
use crate::io::memory::Memory;
use crate::net::Mac;
use crate::units::{PortId, RealId};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

const CLIENT4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const VIP4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
const LOCAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x200);
const REAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11);

/// An IPv4 client's connection to an IPv6 real server.
fn connection(protocol: u8) -> ConnectionAny {
    let any = |address: IpAddr| AnyAddress::from(address);
    let request = FlowKeyAny::new(any(CLIENT4.into()), 40_000, any(VIP4.into()), 80, protocol);
    let real = (any(REAL6.into()), 8080);
    let local = Some((any(LOCAL6.into()), 5000));
    let translation = mode("fullnat").unwrap().translation(&request, real, local);
    Connection::new(request, translation, RealId(0))
}

/// An error about a packet of the connection that went against `reply`, with so many bytes quoted of its TCP or UDP.
fn error(
    protocol: u8,
    reply: bool,
    message: (u8, u8, u32),
    l4: &[u8],
    extensions: &[u8],
) -> (Memory, Places) {
    let mac = Mac([2; 6]);
    let (kind, code, rest) = message;
    let length = 1000;
    let ports = match reply {
        // A request, as the real server sees it.
        true => (5000, 8080),
        false => (80, 40_000u16),
    };
    let mut l4 = l4.to_vec();
    let (source_port, destination_port): (u16, u16) = ports;
    l4[..2].copy_from_slice(&source_port.to_be_bytes());
    l4[2..4].copy_from_slice(&destination_port.to_be_bytes());
    let unit = if reply { 8 } else { 4 };
    let header = if reply { 40 } else { 20 };
    let mut quote = [&vec![0; header][..], &l4].concat();
    let mut rest = rest;
    if !extensions.is_empty() {
        quote.resize(quote.len().next_multiple_of(unit).max(128), 0);
        let words = (quote.len() / unit) as u32;
        rest |= words << if reply { 24 } else { 16 };
    }
    let mut frame = [&vec![0; IP + header + 8][..], &quote, extensions].concat();
    let quoted_at = IP + header + 8;
    if reply {
        ethernet::emit(&mut frame, mac, mac, ethertype::IPV6).unwrap();
        let quoted = ipv6::Repr::new(LOCAL6, REAL6, protocol);
        quoted.emit_with(&mut frame[quoted_at..], length).unwrap();
        let ip = ipv6::Repr::new(REAL6, LOCAL6, protocol::ICMPV6);
        ip.emit(&mut frame[IP..]).unwrap();
        let pseudo = ip.pseudo_header((frame.len() - IP - 40) as u32);
        let message = icmpv6::Repr { kind, code, rest };
        message.emit(&mut frame[IP + 40..], pseudo).unwrap();
    } else {
        ethernet::emit(&mut frame, mac, mac, ethertype::IPV4).unwrap();
        let quoted = ipv4::Repr::new(VIP4, CLIENT4, protocol);
        quoted.emit_with(&mut frame[quoted_at..], length).unwrap();
        let ip = ipv4::Repr::new(CLIENT4, VIP4, protocol::ICMP);
        ip.emit(&mut frame[IP..]).unwrap();
        let message = icmp::Repr { kind, code, rest };
        message.emit(&mut frame[IP + 20..]).unwrap();
    }
    let layout = Layout {
        l4: (IP + header) as u16,
    };
    let places = Places::new(layout, (frame.len() - IP) as u16, header);
    (Memory::new(PortId(0), &frame), places)
}

proptest! {
    /// Whatever an error says, and however much it quotes: what is made of it has right checksums and lengths, quotes the
    /// packet that the sender knows, and keeps the extensions.
    #[test]
    fn an_error_is_one_of_the_other_family(
        is_tcp: bool,
        reply: bool,
        message: (u8, u8, u32),
        l4 in prop::collection::vec(any::<u8>(), 8..1200),
        extensions in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let protocol = if is_tcp { protocol::TCP } else { protocol::UDP };
        let connection = connection(protocol);
        // The length of an IPv4 quote is a byte, in words.
        let l4 = &l4[..l4.len().min(if reply { 1200 } else { 500 })];
        let (kind, code, rest) = message;
        // Few of them have one like them: most should.
        let (kind, code) = match reply {
            true => (1 + kind % 4, code % 5),
            false => ([3, 11, 12][usize::from(kind % 3)], code % 16),
        };
        let (mut packet, places) = error(protocol, reply, (kind, code, rest & 0xffff), l4, &extensions);
        let mut identifications = Identifications::new(0, 1);
        let made = rewrite(&mut packet, places, &connection, reply, 1500, &mut identifications);
        prop_assume!(made.is_ok());
        let frame = packet.data();
        if reply {
            let ip = ipv4::in_frame(frame).unwrap();
            prop_assert!(ip.is_header_right() && ip.is_l4_checksum_right());
            prop_assert!(frame.len() <= IP + LONGEST_V4 && frame.len() == IP + usize::from(ip.total_length()));
            prop_assert_eq!((ip.source(), ip.destination(), ip.ttl()), (VIP4, CLIENT4, 63));
            let quote = Icmp::new_checked(ip.payload()).unwrap().quote().unwrap();
            let quoted = Ipv4::new_quoted(quote.packet).unwrap();
            prop_assert!(quoted.is_header_right());
            prop_assert_eq!((quoted.source(), quoted.destination()), (CLIENT4, VIP4));
            prop_assert_eq!(quoted.quoted_ports(), Some((40_000, 80)));
            prop_assert_eq!(quoted.total_length(), 1020);
        } else {
            let ip = ipv6::in_frame(frame).unwrap();
            let upper = ip.upper_layer().unwrap();
            prop_assert!(ip.is_l4_checksum_right(&upper));
            prop_assert!(frame.len() <= IP + LONGEST_V6 && frame.len() == IP + 40 + usize::from(ip.payload_length()));
            prop_assert_eq!((ip.source(), ip.destination(), ip.hop_limit()), (LOCAL6, REAL6, 63));
            let message = Icmpv6::new_checked(upper.payload).unwrap();
            let quote = message.quote().unwrap();
            let quoted = Ipv6::new_quoted(quote.packet).unwrap();
            prop_assert_eq!((quoted.source(), quoted.destination()), (REAL6, LOCAL6));
            prop_assert_eq!(quoted.upper_layer().unwrap().quoted_ports(), Some((8080, 5000)));
            prop_assert_eq!(quoted.payload_length(), 980);
            let carries = matches!(message.kind(), icmpv6::DESTINATION_UNREACHABLE | icmpv6::TIME_EXCEEDED);
            if carries {
                prop_assert_eq!(quote.extensions, &extensions[..]);
            }
        }
    }

    #[test]
    fn nothing_panics(
        bytes in prop::collection::vec(any::<u8>(), 1..200),
        places: (u8, u8, u8),
        reply: bool,
        cut in 1usize..200,
    ) {
        let connection = connection(protocol::UDP);
        let mut identifications = Identifications::new(0, 1);
        let anywhere = Places { icmp: places.0.into(), l4: places.1.into(), end: places.2.into() };
        let mut packet = Memory::new(PortId(0), &bytes);
        let _ = rewrite(&mut packet, anywhere, &connection, reply, 1500, &mut identifications);
        let (mut packet, places) = error(protocol::UDP, reply, (3, 0, 0), &bytes[..].repeat(8), &[]);
        packet.resize(cut);
        let _ = rewrite(&mut packet, places, &connection, reply, 1500, &mut identifications);
    }
}

//! Any bytes are read by the views of `weir::wire`, or refused, and what is read lies within them.
//!
//! The body of the fuzz target `wire`, which the tests run over `regressions/wire` as well.

use std::net::{IpAddr, Ipv6Addr};
use weir::config::{Encapsulation, TunnelConfig};
use weir::forward::across::Identifications;
use weir::forward::pieces::Pieces;
use weir::forward::tunnel::{self, Inner, Outer};
use weir::net::{ethertype, protocol};
use weir::wire::ethernet::Ethernet;
use weir::wire::gre::{self, Gre};
use weir::wire::gue::{self, Gue};
use weir::wire::icmp::Icmp;
use weir::wire::icmpv6::{self, Icmpv6};
use weir::wire::ipv4::Ipv4;
use weir::wire::ipv6::{self, Ipv6};
use weir::wire::tcp::Tcp;
use weir::wire::udp::Udp;
use weir::wire::vlan::Vlan;
use weir::wire::{arp, build, extension, ndisc};

/// The input is a frame.
pub fn run(input: &[u8]) {
    let Ok(frame) = Ethernet::new_checked(input) else {
        return;
    };
    let (mut kind, mut payload) = (frame.ethertype(), frame.payload());
    while let (ethertype::VLAN | ethertype::QINQ, Ok(tag)) = (kind, Vlan::new_checked(payload)) {
        (kind, payload) = (tag.ethertype(), tag.payload());
    }
    match kind {
        ethertype::ARP => arp(payload),
        ethertype::IPV4 => ipv4(payload),
        ethertype::IPV6 => ipv6(payload),
        _ => {}
    }
    answers(input);
    wrapped(input);
}

/// Whatever is inside, a wrapped packet comes out as it went in, with one less of TTL; and in pieces, too.
fn wrapped(frame: &[u8]) {
    let is_v6 = match Ethernet::new_checked(frame).map(|frame| frame.ethertype()) {
        Ok(ethertype::IPV4) => false,
        Ok(ethertype::IPV6) => true,
        _ => return,
    };
    let packet = &frame[14..];
    let length = match is_v6 {
        true => Ipv6::new_checked(packet).map(|ip| 40 + usize::from(ip.payload_length())),
        false => Ipv4::new_checked(packet).map(|ip| usize::from(ip.total_length())),
    };
    let Ok(length) = length else {
        return;
    };
    let packet = &packet[..length];
    let (v4, v6): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), Ipv6Addr::LOCALHOST.into());
    for (source, header) in [(v4, 20), (v6, 40)] {
        let tunnel = TunnelConfig {
            encapsulation: Encapsulation::Gre,
            source: None,
        };
        let before = 14 + header + gre::HEADER_LEN;
        let mut outside = [&vec![0; before][..], packet].concat();
        let hash = packet.iter().map(|byte| u64::from(*byte)).sum();
        let outer = Outer {
            source,
            is_fragmented: true,
        };
        let mut numbers = Identifications::new(0, 1);
        let inner = Inner { is_v6, hash };
        if !tunnel::wrap(&mut outside, inner, &tunnel, source, outer, &mut numbers) {
            assert!(length + before > usize::from(u16::MAX), "it is too long");
            continue;
        }
        let mut expected = packet.to_vec();
        match is_v6 {
            true => Ipv6::new_checked(&mut expected[..])
                .unwrap()
                .decrement_hop_limit(),
            false => Ipv4::new_checked(&mut expected[..])
                .unwrap()
                .decrement_ttl(),
        }
        assert_eq!(outside[before..], expected);
        let Some(pieces) = Pieces::of(&outside, 100) else {
            continue;
        };
        let data: usize = pieces.iter().map(|piece| piece.len()).sum();
        assert_eq!(data, outside.len() - 14 - header);
        for piece in pieces.iter() {
            let mut one = vec![0; pieces.length(&piece)];
            assert!(one.len() <= 114);
            pieces.copy(&outside, &piece, &mut one, 1).expect("it fits");
        }
    }
}

fn arp(bytes: &[u8]) {
    if let Ok(repr) = arp::Repr::parse(bytes) {
        let mut again = [0; arp::LEN];
        repr.emit(&mut again).expect("it has the room");
        assert_eq!(again, bytes[..arp::LEN]);
    }
}

fn ipv4(bytes: &[u8]) {
    let whole = Ipv4::new_checked(bytes);
    let quoted = Ipv4::new_quoted(bytes);
    assert!(whole.is_err() || quoted.is_ok());
    for ip in [whole, quoted].into_iter().flatten() {
        assert_eq!(ip.header_len() + ip.payload().len(), ip.packet().len());
        assert!(bytes.starts_with(ip.packet()));
        let _ = (
            ip.has_source_route(),
            ip.is_header_right(),
            ip.is_l4_checksum_right(),
        );
        upper_layer(ip.protocol(), ip.payload());
    }
}

fn upper_layer(protocol: u8, bytes: &[u8]) {
    match protocol {
        protocol::TCP => {
            if let Ok(tcp) = Tcp::new_checked(bytes) {
                assert_eq!(tcp.header_len() + tcp.payload().len(), bytes.len());
                let _ = (tcp.mss(), tcp.options().count(), tcp.sequence_length());
            }
        }
        protocol::UDP => {
            if let Ok(udp) = Udp::new_checked(bytes) {
                assert!(udp.payload().len() <= bytes.len());
                match Gue::new_checked(udp.payload()) {
                    Ok(Gue::Plain(packet)) => assert_eq!(packet, udp.payload()),
                    Ok(Gue::Header { payload, .. }) => {
                        assert!(payload.len() + gue::HEADER_LEN <= udp.payload().len());
                    }
                    Err(_) => {}
                }
            }
        }
        protocol::GRE => {
            if let Ok(gre) = Gre::new_checked(bytes) {
                assert_eq!(gre.payload().len() + gre::HEADER_LEN, bytes.len());
            }
        }
        protocol::ICMP => {
            let quote = Icmp::new_checked(bytes)
                .ok()
                .and_then(|message| message.quote());
            if let Some(quote) = quote {
                // A packet that quotes is shorter than what quotes it.
                ipv4(quote.packet);
            }
        }
        protocol::ICMPV6 => {
            let quote = Icmpv6::new_checked(bytes)
                .ok()
                .and_then(|message| message.quote());
            if let Some(quote) = quote {
                ipv6(quote.packet);
            }
            neighbours(bytes);
        }
        _ => {}
    }
}

fn ipv6(bytes: &[u8]) {
    let whole = Ipv6::new_checked(bytes);
    let quoted = Ipv6::new_quoted(bytes);
    assert!(whole.is_err() || quoted.is_ok());
    for ip in [whole, quoted].into_iter().flatten() {
        assert!(bytes.starts_with(ip.packet()));
        if let Ok(upper) = ip.upper_layer() {
            assert!(upper.extensions <= extension::MAX_BYTES);
            assert_eq!(upper.extensions + upper.payload.len(), ip.payload().len());
            let _ = (upper.ports(), ip.is_l4_checksum_right(&upper));
            if !upper.is_fragment() {
                upper_layer(upper.protocol, upper.payload);
            }
        }
        let _ = ndisc::Repr::parse(&ip);
    }
}

/// A message of neighbour discovery, in a packet from the link and with a right checksum: what is read is written again as
/// it is read.
fn neighbours(message: &[u8]) {
    let Ok(read) = Icmpv6::new_checked(message) else {
        return;
    };
    let header = icmpv6::Repr {
        kind: read.kind(),
        code: read.code(),
        rest: read.rest(),
    };
    let parse = |write: &dyn Fn(&mut [u8], u64) -> Option<()>,
                 message: &[u8],
                 check: &dyn Fn(ndisc::Repr)| {
        let link = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);
        let ip = ipv6::Repr {
            hop_limit: ndisc::HOP_LIMIT,
            ..ipv6::Repr::new(link, link, protocol::ICMPV6)
        };
        let mut packet = [&[0; ipv6::HEADER_LEN][..], message].concat();
        if ip.emit(&mut packet).is_none() {
            return;
        }
        let pseudo = ip.pseudo_header(message.len() as u32);
        write(&mut packet[ipv6::HEADER_LEN..], pseudo).expect("it has the room");
        let ip = Ipv6::new_checked(&packet[..]).expect("a whole packet");
        if let Ok(repr) = ndisc::Repr::parse(&ip) {
            check(repr);
        }
    };
    parse(
        &|message, pseudo| header.emit(message, pseudo),
        message,
        &|repr| {
            let again = vec![0; repr.length()];
            let is_read = std::cell::Cell::new(false);
            parse(
                &|message, pseudo| repr.emit(message, pseudo),
                &again,
                &|other| {
                    assert_eq!(other, repr);
                    is_read.set(true);
                },
            );
            assert!(is_read.get(), "{repr:?} is not read again");
        },
    );
}

/// The frames that weir makes of others.
fn answers(frame: &[u8]) {
    let (mac, from) = (weir::net::Mac([2; 6]), std::net::Ipv4Addr::LOCALHOST);
    let mut answer = [0; 700];
    let _ = build::tcp_reset(&mut answer, frame, mac);
    let _ = build::icmp_error(&mut answer, frame, mac, from, 3, 3, 0);
    let _ = build::arp_reply_in_place(&mut frame.to_vec(), mac);
    let _ = build::echo_reply_in_place(&mut frame.to_vec(), mac);
}

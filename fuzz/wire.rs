//! Any bytes are read by the views of `weir::wire`, or refused, and what is read lies within them.
//!
//! The body of the fuzz target `wire`, which the tests run over `regressions/wire` as well.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use weir::config::{Encapsulation, TunnelConfig};
use weir::forward::cut;
use weir::forward::identification::Identifications;
use weir::forward::tunnel::{Inner, Outer, OuterSources, Tunnel, Via};
use weir::io::memory::Memory;
use weir::net::{ethertype, protocol};
use weir::packet::{Packet, Priority, Sent, Sink};
use weir::units::{PortId, WorkerId};
use weir::wire::ethernet::Ethernet;
use weir::wire::gre::{self, Gre};
use weir::wire::gue::{self, Gue};
use weir::wire::icmp::Icmp;
use weir::wire::icmpv6::{self, Icmpv6};
use weir::wire::ipv4::Ipv4;
use weir::wire::ipv6::{self, Ipv6};
use weir::wire::quic::{Decoder, LONGEST_ID, server_made_id};
use weir::wire::sctp::Sctp;
use weir::wire::tcp::Tcp;
use weir::wire::udp::Udp;
use weir::wire::vlan::Vlan;
use weir::wire::{arp, build, extension, ndisc, sctp};

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

/// A QUIC packet's connection id, of whatever lengths a service may say.
fn connection_ids(datagram: &[u8]) {
    for length in 6..=LONGEST_ID {
        let Some(id) = server_made_id(datagram, length) else {
            continue;
        };
        assert_eq!(id.len(), length);
        for (config_id, key) in [(id[0] >> 5, None), (id[0] >> 5, Some(&[7; 16])), (0, None)] {
            for server_id in 1..length {
                if let Some(decoder) = Decoder::new(config_id, server_id, length, key)
                    && let Some(found) = decoder.server_id(id)
                {
                    assert_eq!((found.as_bytes().len(), id[0] >> 5), (server_id, config_id));
                }
            }
        }
    }
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
    let (v4, v6) = (Ipv4Addr::new(10, 0, 0, 1), Ipv6Addr::LOCALHOST);
    let sources = OuterSources {
        v4: Some(v4),
        v6: Some(v6),
    };
    for (destination, header) in [(IpAddr::from(v4), 20), (v6.into(), 40)] {
        let config = TunnelConfig {
            encapsulation: Encapsulation::Gre,
            source: None,
        };
        let tunnel = Tunnel::new(Via::Wrapped(config), destination, is_v6);
        let before = 14 + header + gre::HEADER_LEN;
        let mut outside = [&vec![0; before][..], packet].concat();
        let hash = packet.iter().map(|byte| u64::from(*byte)).sum();
        let outer = Outer {
            sources: &sources,
            is_fragmented: true,
        };
        let mut numbers = Identifications::new(0, 1);
        let inner = Inner { is_v6, hash };
        let is_wrapped = tunnel.wrap(&mut outside, inner, outer, &mut numbers);
        if is_wrapped.is_none() {
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
        let (packet, mut sent) = (Memory::new(PortId(0), &outside), Lengths::default());
        assert!(cut::send_own(packet, PortId(0), 100, 1, &mut sent));
        assert!(sent.0.iter().all(|length| *length <= 114));
        let between = match (sent.0.len(), header) {
            (2.., 40) => 8,
            _ => 0,
        };
        let data = sent.0.iter().map(|length| length - 14 - header - between);
        assert_eq!(data.sum::<usize>(), outside.len() - 14 - header);
    }
}

/// Those of the frames that are sent.
#[derive(Default)]
struct Lengths(Vec<usize>);

impl Sink for Lengths {
    type Packet = Memory;

    fn send(&mut self, _port: PortId, packet: Memory, _kind: Sent) {
        self.0.push(packet.data().len());
    }

    fn alloc(&mut self, port: PortId) -> Option<Memory> {
        Some(Memory::new(port, &[]))
    }

    fn local(&mut self, _port: PortId, _packet: Memory, _priority: Priority) -> bool {
        false
    }

    fn hand_over(&mut self, _to: WorkerId, _packet: Memory) -> bool {
        false
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
        protocol::SCTP => {
            let _ = Sctp::new_part(bytes).map(|packet| (packet.event(), packet.initiate_tag()));
            let mut hidden = bytes.to_vec();
            sctp::hide_addresses(&mut hidden, Ipv4Addr::LOCALHOST.into());
            assert_eq!(hidden.len(), bytes.len());
            if let (Ok(before), Ok(after)) =
                (Sctp::new_checked(bytes), Sctp::new_checked(&hidden[..]))
            {
                assert_eq!(before.is_checksum_right(), after.is_checksum_right());
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
                connection_ids(udp.payload());
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
    let _ = build::sctp_refusal(&mut answer, frame, mac);
    let _ = build::icmp_error(&mut answer, frame, mac, from, 3, 3, 0);
    let _ = build::arp_reply_in_place(&mut frame.to_vec(), mac);
    let _ = build::echo_reply_in_place(&mut frame.to_vec(), mac);
}

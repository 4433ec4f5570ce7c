//! What only IPv6 has, against services by the twins of the other tests' addresses.

use super::frames::*;
use super::{CONFIG, T, parse, six};
use std::net::Ipv6Addr;
use weir::bench::six::twin;
use weir::config::{Config, Protocol};
use weir::net::{ethertype, protocol};
use weir::replay::Replay;
use weir::units::{PortId, Time};
use weir::verdict::{DropReason, LocalReason, ReplyReason, Verdict};
use weir::wire::checksum::pseudo_header_v6;
use weir::wire::icmpv6::{self, Icmpv6};
use weir::wire::ipv6;
use weir::wire::{ethernet, tcp, udp};

const WAN: PortId = PortId(0);
const LAN_PORT: PortId = PortId(1);

fn config() -> Config {
    let real = "[[neighbour]]\naddress = \"10.0.0.11\"\nmac = \"02:00:00:00:01:11\"\n";
    six::config(&parse(&format!("{CONFIG}{real}")), false)
}

fn replay(config: &Config) -> Replay {
    Replay::new(config, 1, 1000, Time::from_nanos(T)).unwrap()
}

/// Receives a frame of the client's; what became of it, and what was sent.
fn receive(replay: &mut Replay, frame: &[u8]) -> (Verdict, Vec<Vec<u8>>) {
    let decision = replay.receive(WAN, frame, Time::from_nanos(T));
    replay.check().unwrap();
    let frames = replay.take_frames();
    (
        decision.verdict,
        frames.map(|frame| frame.bytes().to_vec()).collect(),
    )
}

/// A frame of the client's, whose last `upper` bytes are the checked layer of this protocol.
fn packet(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    (next_header, hop_limit): (u8, u8),
    rest: &[u8],
) -> Vec<u8> {
    let mut frame = [&[0; 54][..], rest].concat();
    ethernet::emit(&mut frame, WEIR_WAN, CLIENT_MAC, ethertype::IPV6).unwrap();
    let ip = ipv6::Repr {
        hop_limit,
        ..ipv6::Repr::new(source, destination, next_header)
    };
    ip.emit(&mut frame[14..]).unwrap();
    frame
}

fn datagram(source: Ipv6Addr, destination: Ipv6Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&[0; 8][..], payload].concat();
    let repr = udp::Repr {
        source_port: 5000,
        destination_port: port,
    };
    let length = bytes.len() as u32;
    let pseudo = pseudo_header_v6(source, destination, protocol::UDP, length);
    repr.emit(&mut bytes, pseudo).unwrap();
    bytes
}

/// A question to port 53 of the VIP.
fn question(payload: &[u8], hop_limit: u8) -> Vec<u8> {
    let (client, vip) = (twin(CLIENT), twin(VIP));
    let bytes = datagram(client, vip, 53, payload);
    packet(client, vip, (protocol::UDP, hop_limit), &bytes)
}

/// The ICMPv6 message of an answer to the client, from `from`.
fn message(frame: &[u8], from: Ipv6Addr) -> (u8, u8, u32, Vec<u8>) {
    assert_eq!(frame[..6], CLIENT_MAC.0);
    assert_eq!(frame[6..12], WEIR_WAN.0);
    let ip = ipv6::in_frame(frame).unwrap();
    assert_eq!((ip.source(), ip.destination()), (from, twin(CLIENT)));
    let upper = ip.upper_layer().unwrap();
    assert_eq!(upper.protocol, protocol::ICMPV6);
    assert!(ip.is_l4_checksum_right(&upper));
    let message = Icmpv6::new_checked(upper.payload).unwrap();
    (
        message.kind(),
        message.code(),
        message.rest(),
        message.data().to_vec(),
    )
}

#[test]
fn what_is_refused_is_answered_by_icmpv6_and_resets() {
    let mut replay = replay(&config());
    let vip = twin(VIP);

    // No service: port unreachable, from the VIP.
    let mut without = config();
    without
        .services
        .retain(|service| service.protocol == Protocol::Tcp);
    let frame = question(b"?", 64);
    let (verdict, frames) = receive(&mut self::replay(&without), &frame);
    assert_eq!(verdict, Verdict::Reply(WAN, ReplyReason::NoService));
    assert_eq!(message(&frames[0], vip), (1, 4, 0, frame[14..].to_vec()));

    // The hop limit runs out, of a new flow and of a known one.
    for _ in 0..2 {
        let frame = question(b"far", 1);
        let (verdict, frames) = receive(&mut replay, &frame);
        assert_eq!(verdict, Verdict::Reply(WAN, ReplyReason::TtlExceeded));
        assert_eq!(message(&frames[0], vip), (3, 0, 0, frame[14..].to_vec()));
        assert_eq!(
            receive(&mut replay, &question(b"near", 2)).0,
            Verdict::Forward(LAN_PORT)
        );
    }

    // Too big for the link: no router fragments. The quote ends where the answer has 1280 bytes.
    let frame = question(&[7; 1453], 64);
    let (verdict, frames) = receive(&mut replay, &frame);
    assert_eq!(verdict, Verdict::Reply(WAN, ReplyReason::TooBig));
    assert_eq!(frames[0].len(), 14 + 1280);
    assert_eq!(
        message(&frames[0], vip),
        (2, 0, 1500, frame[14..14 + 1232].to_vec())
    );
    assert_eq!(
        receive(&mut replay, &question(&[7; 1452], 64)).0,
        Verdict::Forward(LAN_PORT)
    );

    // A segment of no connection: a reset with the numbers of RFC 9293.
    let segment = six::frame(&numbered((CLIENT, 7000), (VIP, 80), ACK, 5, 77)).unwrap();
    let (verdict, frames) = receive(&mut replay, &segment);
    assert_eq!(verdict, Verdict::Reply(WAN, ReplyReason::NoConnection));
    let ip = ipv6::in_frame(&frames[0]).unwrap();
    let upper = ip.upper_layer().unwrap();
    assert!(ip.is_l4_checksum_right(&upper));
    let reset = tcp::Tcp::new_checked(upper.payload).unwrap();
    assert_eq!((reset.sequence(), reset.flags().0), (77, tcp::Flags::RST));
}

#[test]
fn echo_requests_to_vips_pools_and_ports_are_answered() {
    let mut replay = replay(&config());
    for (to, is_ours) in [
        (twin(VIP), true),
        (twin([10, 0, 0, 200].into()), true),
        (twin(LAN), true),
        (twin([192, 0, 2, 81].into()), false),
    ] {
        let mut bytes = [&[0; 8][..], b"ping"].concat();
        let pseudo = pseudo_header_v6(twin(CLIENT), to, protocol::ICMPV6, 12);
        let request = icmpv6::Repr {
            kind: icmpv6::ECHO_REQUEST,
            code: 0,
            rest: 0x0007_0001,
        };
        request.emit(&mut bytes, pseudo).unwrap();
        let mut frame = packet(twin(CLIENT), to, (protocol::ICMPV6, 3), &bytes);
        let (verdict, frames) = receive(&mut replay, &frame);
        if !is_ours {
            assert_eq!(verdict, Verdict::Drop(DropReason::NotForUs));
            continue;
        }
        assert_eq!(verdict, Verdict::Reply(WAN, ReplyReason::IcmpEcho));
        assert_eq!(
            message(&frames[0], to),
            (129, 0, 0x0007_0001, b"ping".to_vec())
        );
        frame[56] ^= 1;
        let (verdict, _) = receive(&mut replay, &frame);
        assert_eq!(verdict, Verdict::Drop(DropReason::BadL4Checksum));
    }
}

#[test]
fn a_flow_behind_extension_headers_is_forwarded_with_them() {
    let mut replay = replay(&config());
    let (client, vip) = (twin(CLIENT), twin(VIP));
    // Hop-by-hop options, then a fragment header of a whole packet (RFC 6946).
    let options = [protocol::FRAGMENT, 0, 1, 4, 0, 0, 0, 0];
    let atomic = [protocol::UDP, 0, 0, 0, 1, 2, 3, 4];
    let bytes = [&options[..], &atomic, &datagram(client, vip, 53, b"who?")].concat();
    let frame = packet(client, vip, (protocol::HOP_BY_HOP, 64), &bytes);
    let (verdict, frames) = receive(&mut replay, &frame);
    assert_eq!(verdict, Verdict::Forward(LAN_PORT));
    let ip = ipv6::in_frame(&frames[0]).unwrap();
    let upper = ip.upper_layer().unwrap();
    assert_eq!((ip.hop_limit(), upper.extensions), (63, 16));
    assert_eq!(frames[0][54..70], frame[54..70]);
    assert!(ip.is_l4_checksum_right(&upper) && upper.payload[8..] == *b"who?");
    assert_eq!(ip.destination(), twin(REAL));

    // A first part of a packet has no place for the whole of it.
    let first = [protocol::UDP, 0, 0, 1, 1, 2, 3, 4];
    let bytes = [&first[..], &datagram(client, vip, 53, b"who?")].concat();
    let frame = packet(client, vip, (protocol::FRAGMENT, 64), &bytes);
    assert_eq!(
        receive(&mut replay, &frame).0,
        Verdict::Drop(DropReason::BadIpHeader)
    );
}

#[test]
fn what_ipv6_forbids_is_dropped_by_name() {
    let mut replay = replay(&config());
    let (client, vip) = (twin(CLIENT), twin(VIP));
    let mut unsummed = question(b"who?", 64);
    unsummed[60..62].fill(0);
    let from = |source: &str| {
        let source = source.parse().unwrap();
        packet(
            source,
            vip,
            (protocol::UDP, 64),
            &datagram(source, vip, 53, b"?"),
        )
    };
    let jumbo = [protocol::UDP, 0, 0xc2, 4, 0, 1, 0, 0];
    let routing = [protocol::UDP, 0, 0, 1, 0, 0, 0, 0];
    let behind = |header: [u8; 8], kind: u8| {
        let bytes = [&header[..], &datagram(client, vip, 53, b"?")].concat();
        packet(client, vip, (kind, 64), &bytes)
    };
    for (frame, reason) in [
        (unsummed, DropReason::NoUdpChecksum),
        (from("::1"), DropReason::BadSource),
        (from("::ffff:198.51.100.9"), DropReason::BadSource),
        (from("ff02::1"), DropReason::BadSource),
        // No router forwards what a link-local address sends.
        (from("fe80::9"), DropReason::BadSource),
        (from(&vip.to_string()), DropReason::BadSource),
        (behind(jumbo, protocol::HOP_BY_HOP), DropReason::Jumbogram),
        (
            behind(routing, protocol::ROUTING),
            DropReason::RoutingHeader,
        ),
    ] {
        assert_eq!(
            receive(&mut replay, &frame).0,
            Verdict::Drop(reason),
            "{frame:02x?}"
        );
    }
    // A group of the link: the host's, if it has the port.
    let group = "ff02::5".parse().unwrap();
    let mut frame = packet(client, group, (89, 1), &[0; 24]);
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 5]);
    assert_eq!(
        receive(&mut replay, &frame).0,
        Verdict::Drop(DropReason::NotForUs)
    );
    let mut with_host = config();
    with_host.ports[0].companion = Some("tap0".into());
    let mut replay = self::replay(&with_host);
    assert_eq!(
        receive(&mut replay, &frame).0,
        Verdict::Local(LocalReason::Multicast)
    );
}

#[test]
fn without_an_ipv6_address_no_ipv6_packet_is_looked_at() {
    let mut replay = replay(&parse(CONFIG));
    let (verdict, _) = receive(&mut replay, &question(b"who?", 64));
    assert_eq!(verdict, Verdict::Drop(DropReason::Ipv6));
    assert_eq!(replay.connections6().count(), 0);
}

#[test]
fn both_families_have_a_table_of_the_configured_size() {
    let limited = format!("[limits]\nconnections = 4\n{CONFIG}");
    let config = six::config(&parse(&limited), true);
    let mut replay = replay(&config);
    for port in 0..20 {
        let frame = query(7000 + port);
        replay.receive(WAN, &frame, Time::from_nanos(T));
        replay.receive(WAN, &six::frame(&frame).unwrap(), Time::from_nanos(T));
    }
    replay.check().unwrap();
    let counted = replay.stats().total(|worker| worker.connections.get());
    let both = (replay.connections().count(), replay.connections6().count());
    assert_eq!((both, counted), ((4, 4), 8));
}

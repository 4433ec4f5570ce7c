use super::*;
use crate::forward::rewrite::{Form, pass};
use crate::forward::{MODES, Mode, rewrite as forwarded, rewrite6};
use crate::net::{Mac, ethertype};
use crate::units::RealId;
use crate::wire::{ethernet, ipv4, ipv6, tcp, udp};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const IP: usize = ethernet::HEADER_LEN;

/// A frame with this key and payload, all its checksums right.
fn frame_v4(key: &FlowKey, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let ip = ipv4::Repr {
        ttl,
        identification: 7,
        ..ipv4::Repr::new(key.source(), key.destination(), key.protocol())
    };
    let l4 = l4(key, payload, |length| ip.pseudo_header(length as u16));
    let mut frame = [&[0; IP + ipv4::HEADER_LEN][..], &l4].concat();
    ethernet::emit(&mut frame, MAC, MAC, ethertype::IPV4).unwrap();
    ip.emit(&mut frame[IP..]).unwrap();
    frame
}

fn frame_v6(key: &FlowKey6, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let ip = ipv6::Repr {
        hop_limit,
        ..ipv6::Repr::new(key.source(), key.destination(), key.protocol())
    };
    let l4 = l4(key, payload, |length| ip.pseudo_header(length as u32));
    let mut frame = [&[0; IP + ipv6::HEADER_LEN][..], &l4].concat();
    ethernet::emit(&mut frame, MAC, MAC, ethertype::IPV6).unwrap();
    ip.emit(&mut frame[IP..]).unwrap();
    frame
}

fn l4<K: Key>(key: &K, payload: &[u8], pseudo: impl Fn(usize) -> u64) -> Vec<u8> {
    let (source_port, destination_port) = (key.source_port(), key.destination_port());
    let is_tcp = key.protocol() == protocol::TCP;
    let header = match is_tcp {
        true => tcp::HEADER_LEN,
        false => udp::HEADER_LEN,
    };
    let mut bytes = [&vec![0; header][..], payload].concat();
    let pseudo = pseudo(bytes.len());
    let fits = match is_tcp {
        true => tcp::Repr {
            source_port,
            destination_port,
            ..tcp::Repr::default()
        }
        .emit(&mut bytes, pseudo),
        false => udp::Repr {
            source_port,
            destination_port,
        }
        .emit(&mut bytes, pseudo),
    };
    fits.unwrap();
    bytes
}

/// An error from `source` to `destination` that quotes this, and where its parts are.
fn error_v4(source: Ipv4Addr, destination: Ipv4Addr, ttl: u8, quote: &[u8]) -> (Vec<u8>, Places) {
    let mut frame = [&[0; IP + 20 + 8][..], quote].concat();
    ethernet::emit(&mut frame, MAC, MAC, ethertype::IPV4).unwrap();
    let ip = ipv4::Repr {
        ttl,
        ..ipv4::Repr::new(source, destination, protocol::ICMP)
    };
    ip.emit(&mut frame[IP..]).unwrap();
    let message = icmp::Repr {
        kind: icmp::TIME_EXCEEDED,
        code: 0,
        rest: 0,
    };
    message.emit(&mut frame[IP + 20..]).unwrap();
    let layout = Layout { l4: 34 };
    let places = Places::new(layout, (frame.len() - IP) as u16, 20);
    (frame, places)
}

fn error_v6(source: Ipv6Addr, destination: Ipv6Addr, ttl: u8, quote: &[u8]) -> (Vec<u8>, Places) {
    let mut frame = [&[0; IP + 40 + 8][..], quote].concat();
    ethernet::emit(&mut frame, MAC, MAC, ethertype::IPV6).unwrap();
    let ip = ipv6::Repr {
        hop_limit: ttl,
        ..ipv6::Repr::new(source, destination, protocol::ICMPV6)
    };
    ip.emit(&mut frame[IP..]).unwrap();
    let message = icmpv6::Repr {
        kind: icmpv6::TIME_EXCEEDED,
        code: 0,
        rest: 0,
    };
    let pseudo = ip.pseudo_header((frame.len() - IP - 40) as u32);
    message.emit(&mut frame[IP + 40..], pseudo).unwrap();
    let layout = Layout { l4: 54 };
    let places = Places::new(layout, (frame.len() - IP) as u16, 40);
    (frame, places)
}

fn connection<K: Key>(
    mode: &Mode,
    request: K,
    real: (K::Address, u16),
    local: (K::Address, u16),
) -> Connection<K> {
    let local = mode.uses_pool.then_some(local);
    Connection::new(request, mode.translation(&request, real, local), RealId(0))
}

/// Who says an error that goes this way: the router, or whom the packets of the connection come from.
fn source<K: Key>(
    mode: &Mode,
    connection: &Connection<K>,
    reply: bool,
    router: K::Address,
) -> K::Address {
    match mode.translates && (reply || mode.uses_pool) {
        true => connection.translated(reply).source(),
        false => router,
    }
}

fn v4() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits | 1 << 30))
}

fn v6() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits >> 3 | 1 << 125))
}

proptest! {
    /// An error about a packet that weir sent on becomes the one that would have been made of the packet that it had received,
    /// to the last bit, however much of that is quoted.
    #[test]
    fn an_error_is_as_if_about_the_packet_received(
        addresses in (v4(), v4(), v4(), v4(), v4()),
        ports: (u16, u16, u16, u16),
        place in 0..MODES.len(),
        is_tcp: bool,
        reply: bool,
        ttl in 2u8..=255,
        payload in prop::collection::vec(any::<u8>(), 0..60),
        quoted in 8usize..90,
    ) {
        // Half a checksum cannot be corrected.
        prop_assume!(!is_tcp || quoted != 17);
        let (client, vip, local, real, router) = addresses;
        let mode = &MODES[place];
        let reply = reply && mode.sees_replies;
        let protocol = if is_tcp { protocol::TCP } else { protocol::UDP };
        let request = FlowKey::new(client, ports.0, vip, ports.1, protocol);
        let connection = connection(mode, request, (real, ports.3), (local, ports.2));
        // The packet went the other way.
        let received = frame_v4(if reply { &request } else { &connection.reply }, ttl, &payload);
        let mut sent = received.clone();
        let form = Form::whole(Layout::USUAL);
        forwarded::rewrite(&mut sent, form, &connection, !reply);
        let end = (20 + quoted).min(sent.len() - IP);
        let to = connection.translated(!reply).source();
        let (mut error, places) = error_v4(router, to, 64, &sent[IP..][..end]);
        rewrite(&mut error, places, &connection, reply).unwrap();
        let mut old = received;
        pass(&mut old);
        let source = source(mode, &connection, reply, router);
        let (expected, _) = error_v4(source, if mode.translates { connection.translated(reply).destination() } else { to }, 63, &old[IP..][..end]);
        prop_assert_eq!(error, expected);
    }

    #[test]
    fn an_icmpv6_error_is_as_if_about_the_packet_received(
        addresses in (v6(), v6(), v6(), v6(), v6()),
        ports: (u16, u16, u16, u16),
        place in 0..MODES.len(),
        is_tcp: bool,
        reply: bool,
        ttl in 2u8..=255,
        payload in prop::collection::vec(any::<u8>(), 0..60),
        quoted in 8usize..90,
    ) {
        // Half a checksum cannot be corrected.
        prop_assume!(!is_tcp || quoted != 17);
        let (client, vip, local, real, router) = addresses;
        let mode = &MODES[place];
        let reply = reply && mode.sees_replies;
        let protocol = if is_tcp { protocol::TCP } else { protocol::UDP };
        let request = FlowKey6::new(client, ports.0, vip, ports.1, protocol);
        let connection = connection(mode, request, (real, ports.3), (local, ports.2));
        let received = frame_v6(if reply { &request } else { &connection.reply }, ttl, &payload);
        let mut sent = received.clone();
        let form = Form::whole(Layout::USUAL_V6);
        rewrite6::rewrite(&mut sent, form, &connection, !reply);
        let end = (40 + quoted).min(sent.len() - IP);
        let to = connection.translated(!reply).source();
        let (mut error, places) = error_v6(router, to, 64, &sent[IP..][..end]);
        rewrite_v6(&mut error, places, &connection, reply).unwrap();
        let mut old = received;
        old[IP + 7] -= 1;
        let source = source(mode, &connection, reply, router);
        let (expected, _) = error_v6(source, if mode.translates { connection.translated(reply).destination() } else { to }, 63, &old[IP..][..end]);
        prop_assert_eq!(error, expected);
    }

    /// Places that are not the frame's own, and frames cut anywhere.
    #[test]
    fn nothing_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        places: (u8, u8, u8),
        place in 0..MODES.len(),
        reply: bool,
        cut in 0usize..120,
    ) {
        let four = |last| Ipv4Addr::new(10, 0, 0, last);
        let six = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        let places = Places { icmp: places.0.into(), l4: places.1.into(), end: places.2.into() };
        let request = FlowKey::new(four(1), 1, four(2), 2, protocol::TCP);
        let connection4 = connection(&MODES[place], request, (four(3), 3), (four(4), 4));
        let request = FlowKey6::new(six(1), 1, six(2), 2, protocol::UDP);
        let connection6 = connection(&MODES[place], request, (six(3), 3), (six(4), 4));
        let _ = rewrite(&mut bytes.clone(), places, &connection4, reply);
        let _ = rewrite_v6(&mut bytes.clone(), places, &connection6, reply);
        let (mut whole, places) = error_v4(four(9), four(1), 64, &frame_v4(&connection4.request, 9, &[1; 30])[IP..]);
        whole.truncate(cut);
        let _ = rewrite(&mut whole, places, &connection4, reply);
        let (mut whole, places) = error_v6(six(9), six(1), 64, &frame_v6(&connection6.request, 9, &[1; 30])[IP..]);
        whole.truncate(cut);
        let _ = rewrite_v6(&mut whole, places, &connection6, reply);
    }
}

//! Applies a connection's translation to a frame: the one routine of all modes.

use crate::conn::{Connection, Key};
use crate::neighbour::Hop;
use crate::net::{Mac, protocol};
use crate::wire::checksum::Delta;
use crate::wire::{ethernet, sctp};

/// Where the headers of a checked frame are: that of IP is behind the Ethernet header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The header of TCP or UDP, in bytes from the frame's start.
    pub l4: u16,
}

impl Layout {
    /// An Ethernet header, and an IPv4 header without options.
    pub const USUAL: Layout = Layout { l4: 34 };
    /// An Ethernet header, and an IPv6 header without extension headers.
    pub const USUAL_V6: Layout = Layout { l4: 54 };
}

/// What of its datagram a packet has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    #[default]
    Whole,
    /// The first fragment, with the header of TCP or UDP.
    First,
    /// Another fragment, without it.
    Later,
}

/// What has to be known of a packet to rewrite it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    pub layout: Layout,
    pub part: Part,
    /// It is sent on in fragments, see [`cut`](super::cut).
    pub is_cut: bool,
}

impl Form {
    /// Of a whole packet that goes on as one.
    pub fn whole(layout: Layout) -> Self {
        Form {
            layout,
            ..Form::default()
        }
    }
}

/// Does to a frame of the usual layout all that forwarding it takes: as [`rewrite`], and its Ethernet header.
#[inline(always)]
pub fn rewrite_usual(
    frame: &mut [u8],
    is_tcp: bool,
    connection: &Connection,
    reply: bool,
    hop: Hop,
) {
    let Some((headers, rest)) = frame.split_first_chunk_mut::<42>() else {
        return;
    };
    let (low, high) = hop.ethernet_header();
    headers[..8].copy_from_slice(&low.to_le_bytes());
    headers[6..14].copy_from_slice(&high.to_le_bytes());
    let Some((ip, l4)) = headers[14..].split_first_chunk_mut::<20>() else {
        return;
    };
    let Some(ports) = l4.first_chunk_mut::<8>() else {
        return;
    };
    if connection.translates() {
        let tcp_checksum = rest.get_mut(8..10).and_then(|field| field.try_into().ok());
        translate_headers(ip, ports, is_tcp, tcp_checksum, connection, reply);
    } else {
        decrement_ttl(ip, Delta::TTL);
    }
}

/// Does to a frame what its connection's mode does.
#[inline(always)]
pub fn rewrite(frame: &mut [u8], form: Form, connection: &Connection, reply: bool) {
    if connection.translates() {
        translate(frame, form, connection, reply);
    } else {
        pass(frame);
    }
}

/// Puts the addresses of the connection's other side into the frame, corrects both checksums by what changed
/// (RFC 1624), and takes one from the TTL.
///
/// The frame must have passed [`crate::director::parse`], and its TTL must be above 1; of a shorter one, whatever
/// is missing is left alone.
pub fn translate(frame: &mut [u8], form: Form, connection: &Connection, reply: bool) {
    let protocol = connection.request.protocol();
    if form.part == Part::Later || protocol == protocol::SCTP {
        translate_addresses(frame, connection, reply);
        if form.part == Part::Whole {
            let end = frame
                .get(16..18)
                .map_or(0, |length| end(length, ethernet::HEADER_LEN));
            translate_sctp(frame, form.layout, end, &connection.translated(reply));
        }
        return;
    }
    let Some((before, l4)) = frame.split_at_mut_checked(usize::from(form.layout.l4)) else {
        return;
    };
    let ip = before
        .get_mut(ethernet::HEADER_LEN..)
        .and_then(<[u8]>::first_chunk_mut::<20>);
    let Some((ports, rest)) = l4.split_first_chunk_mut::<8>() else {
        return;
    };
    let tcp_checksum = rest.get_mut(8..10).and_then(|field| field.try_into().ok());
    let Some(ip) = ip else { return };
    if is_echo(protocol) {
        let (ip_delta, l4_delta) = connection.deltas(reply);
        let to = connection.translated(reply);
        ip[12..20].copy_from_slice(&to.wire_addresses().to_le_bytes());
        decrement_ttl(ip, ip_delta);
        return translate_echo(ports, &to, l4_delta);
    }
    let is_tcp = protocol == protocol::TCP;
    translate_headers(ip, ports, is_tcp, tcp_checksum, connection, reply);
}

/// Whether a connection is one of ICMP echoes.
#[inline(always)]
pub(super) fn is_echo(protocol: u8) -> bool {
    matches!(protocol, protocol::ICMP | protocol::ICMPV6)
}

/// Puts another identifier into the header of an echo, whose first bytes these are, and corrects its checksum. `to`: the key
/// that it is to have, with the identifier in the place of the inside host's port, and 0 in that of the other. `delta`: what the
/// translation does to the checksum; that of ICMP over IPv4 does not cover the addresses (RFC 792).
#[cold]
pub(super) fn translate_echo<K: Key>(header: &mut [u8; 8], to: &K, delta: Delta) {
    let before = u16::from_be_bytes([header[4], header[5]]);
    let identifier = to.source_port() | to.destination_port();
    header[4..6].copy_from_slice(&identifier.to_be_bytes());
    let delta = match to.protocol() {
        protocol::ICMP => Delta::ZERO.replace_u16(before, identifier),
        _ => delta,
    };
    let mut checksum = [header[2], header[3]];
    delta.apply(&mut checksum);
    [header[2], header[3]] = checksum;
}

/// Where an IP packet ends in its frame whose length, in two bytes of its header, is counted from `start` on.
pub(super) fn end(length: &[u8], start: usize) -> usize {
    let length = <[u8; 2]>::try_from(length).map_or(0, u16::from_be_bytes);
    start + usize::from(length)
}

/// Puts other ports into a whole packet of SCTP, and hides the addresses that its sender has besides the one that it is known by now.
/// Its checksum covers no addresses of IP. `end`: of the IP packet. `to`: the key that it is to have.
#[cold]
pub(super) fn translate_sctp<K: Key>(frame: &mut [u8], layout: Layout, end: usize, to: &K) {
    if let Some(packet) = frame.get_mut(usize::from(layout.l4)..end) {
        sctp::set_ports(packet, packet.len(), to.wire_ports());
        sctp::hide_addresses(packet, to.source().into());
    }
}

/// As [`translate`], of a fragment without a header of TCP or UDP, and of SCTP.
#[cold]
fn translate_addresses(frame: &mut [u8], connection: &Connection, reply: bool) {
    let ip = frame
        .get_mut(ethernet::HEADER_LEN..)
        .and_then(<[u8]>::first_chunk_mut::<20>);
    if let Some(ip) = ip {
        let (delta, _) = connection.deltas(reply);
        let to = connection.translated(reply);
        ip[12..20].copy_from_slice(&to.wire_addresses().to_le_bytes());
        decrement_ttl(ip, delta);
    }
}

#[inline(always)]
fn translate_headers(
    ip: &mut [u8; 20],
    ports: &mut [u8; 8],
    is_tcp: bool,
    tcp_checksum: Option<&mut [u8; 2]>,
    connection: &Connection,
    reply: bool,
) {
    let (ip_delta, l4_delta) = connection.deltas(reply);
    let to = connection.translated(reply);
    ip[12..20].copy_from_slice(&to.wire_addresses().to_le_bytes());
    decrement_ttl(ip, ip_delta);
    translate_ports(ports, is_tcp, tcp_checksum, to.wire_ports(), l4_delta);
}

/// Puts other ports into a header of TCP or UDP, whose first bytes these are, and corrects its checksum.
#[inline(always)]
pub(super) fn translate_ports(
    ports: &mut [u8; 8],
    is_tcp: bool,
    tcp_checksum: Option<&mut [u8; 2]>,
    to: u32,
    delta: Delta,
) {
    ports[0..4].copy_from_slice(&to.to_le_bytes());
    if is_tcp {
        if let Some(field) = tcp_checksum {
            delta.apply(field);
        }
    } else if let Some(field) = ports.last_chunk_mut::<2>() {
        delta.apply_udp(field);
    }
}

/// Takes one from the TTL of an IPv4 header that goes on with its addresses unchanged.
pub fn pass(frame: &mut [u8]) {
    let ip = frame
        .get_mut(ethernet::HEADER_LEN..)
        .and_then(<[u8]>::first_chunk_mut::<20>);
    if let Some(ip) = ip {
        decrement_ttl(ip, Delta::TTL);
    }
}

/// Takes one from the TTL; `delta` is what this and all else do to the header checksum.
#[inline(always)]
pub(super) fn decrement_ttl(ip: &mut [u8; 20], delta: Delta) {
    ip[8] = ip[8].wrapping_sub(1);
    let mut checksum = [ip[10], ip[11]];
    delta.apply(&mut checksum);
    [ip[10], ip[11]] = checksum;
}

/// Writes the Ethernet header of a packet to a next hop, of whose family it is.
#[inline(always)]
pub fn set_ethernet_header(frame: &mut [u8], hop: Hop) {
    let (low, high) = hop.ethernet_header();
    if let Some(header) = frame.first_chunk_mut::<{ ethernet::HEADER_LEN }>() {
        if let Some(start) = header.first_chunk_mut() {
            *start = low.to_le_bytes();
        }
        if let Some(end) = header.last_chunk_mut() {
            *end = high.to_le_bytes();
        }
    }
}

/// Sets both MAC addresses.
#[inline(always)]
pub fn set_macs(frame: &mut [u8], destination: Mac, source: Mac) {
    if let Some(macs) = frame.first_chunk_mut::<12>() {
        macs[..6].copy_from_slice(&destination.0);
        macs[6..].copy_from_slice(&source.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::FlowKey;
    use crate::director::family::V4;
    use crate::director::parse::{Parsed, parse};
    use crate::forward::{MODES, mode};
    use crate::neighbour::{Link, LinkState, NeighbourTable};
    use crate::net::ethertype;
    use crate::tables::{Accepts, Port};
    use crate::units::{HopId, PortId, RealId};
    use crate::wire::checksum::sum;
    use crate::wire::{ethernet, ipv4, tcp, udp};
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn port() -> Port {
        Port {
            name: "wan".into(),
            mac: MAC,
            accepts: Accepts::only(MAC),
            mtu: 1500,
            outer_sources: Default::default(),
            accepts_ra: false,
            forwards: false,
            hairpin: Default::default(),
            has_companion: false,
            addresses: Box::default(),
            announce: Box::default(),
            broadcasts: Box::default(),
        }
    }

    /// A next hop, reached from a port with that MAC address.
    fn hop(mac: Mac, source: Mac) -> Hop {
        let table = NeighbourTable::new([(source, 1500)]);
        let (port, state) = (PortId(0), LinkState::Reachable);
        table.insert(
            HopId(0),
            Ipv4Addr::LOCALHOST.into(),
            Link { mac, port, state },
        );
        table.hop(HopId(0)).unwrap()
    }

    fn protocol_of(tcp: bool) -> u8 {
        if tcp { protocol::TCP } else { protocol::UDP }
    }

    /// A frame with this key, a TTL and a payload, all its checksums right.
    fn frame(key: &FlowKey, ttl: u8, payload: &[u8]) -> Vec<u8> {
        let (ip_len, tcp) = (ipv4::HEADER_LEN, key.protocol() == protocol::TCP);
        let header = if tcp {
            tcp::HEADER_LEN
        } else {
            udp::HEADER_LEN
        };
        let mut frame = [&vec![0; 14 + ip_len + header][..], payload].concat();
        ethernet::emit(&mut frame, MAC, Mac([2; 6]), ethertype::IPV4).unwrap();
        let ip = ipv4::Repr {
            ttl,
            ..ipv4::Repr::new(key.source(), key.destination(), key.protocol())
        };
        ip.emit(&mut frame[14..]).unwrap();
        let l4 = &mut frame[14 + ip_len..];
        let pseudo = ip.pseudo_header(l4.len() as u16);
        let (source_port, destination_port) = (key.source_port(), key.destination_port());
        let segment = tcp::Repr {
            source_port,
            destination_port,
            ..tcp::Repr::default()
        };
        let datagram = udp::Repr {
            source_port,
            destination_port,
        };
        let fits = match tcp {
            true => segment.emit(l4, pseudo),
            false => datagram.emit(l4, pseudo),
        };
        fits.unwrap();
        frame
    }

    fn address() -> impl Strategy<Value = Ipv4Addr> {
        // What may be a source: no class D or E, no loopback, no zero network.
        (1u8..=223, any::<[u8; 3]>())
            .prop_filter("loopback", |(first, _)| *first != 127)
            .prop_map(|(a, [b, c, d])| Ipv4Addr::new(a, b, c, d))
    }

    proptest! {
        /// The rewritten frame is the one that would have been made with the new addresses, to the last bit of its
        /// checksums; and a reply that mirrors it comes back as a mirror of the client's packet.
        #[test]
        fn a_replys_rewrite_undoes_the_requests(
            addresses in (address(), address(), address(), address()),
            ports: (u16, u16, u16, u16),
            tcp: bool,
            ttl in 2u8..=255,
            payload in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let protocol = protocol_of(tcp);
            let (client, vip, local, real) = addresses;
            let request = FlowKey::new(client, ports.0, vip, ports.1, protocol);
            let translation =
                mode("fullnat").unwrap().translation(&request, (real, ports.3), Some((local, ports.2)));
            let connection = Connection::new(request, translation, RealId(0));

            let mut there = frame(&request, ttl, &payload);
            let Parsed::Flow(flow) = parse::<V4>(&there, &port()) else { panic!("not understood") };
            translate(&mut there, Form::whole(flow.layout), &connection, false);
            prop_assert_eq!(&there, &frame(&translation.key(protocol), ttl - 1, &payload));

            let mut back = frame(&connection.reply, ttl, &payload);
            let Parsed::Flow(flow) = parse::<V4>(&back, &port()) else { panic!("not understood") };
            prop_assert_eq!(flow.key, connection.reply);
            translate(&mut back, Form::whole(flow.layout), &connection, true);
            prop_assert_eq!(&back, &frame(&request.reversed(), ttl - 1, &payload));
        }

        #[test]
        fn a_wrong_checksum_stays_wrong_and_a_missing_one_missing(
            addresses in (address(), address(), address()),
            wrong in 1u16..0xffff,
            tcp: bool,
        ) {
            let (client, vip, real) = addresses;
            let request = FlowKey::new(client, 4000, vip, 53, protocol_of(tcp));
            let translation = mode("nat").unwrap().translation(&request, (real, 5353), None);
            let connection = Connection::new(request, translation, RealId(0));
            let at = 14 + 20 + if tcp { 16 } else { 6 };
            let read = |frame: &[u8]| u16::from_be_bytes([frame[at], frame[at + 1]]);

            let mut broken = frame(&request, 64, b"data");
            let right = read(&broken);
            broken[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
            let Parsed::Flow(flow) = parse::<V4>(&broken, &port()) else { panic!("not understood") };
            translate(&mut broken, Form::whole(flow.layout), &connection, false);
            let whole = read(&frame(&translation.key(request.protocol()), 63, b"data"));
            // 0 and 0xffff are the same number in ones' complement.
            prop_assert_eq!(read(&broken) % 0xffff == whole % 0xffff, wrong % 0xffff == right % 0xffff);

            if !tcp {
                let mut none = frame(&request, 64, b"data");
                none[at..at + 2].fill(0);
                translate(&mut none, Form::whole(flow.layout), &connection, false);
                prop_assert_eq!(read(&none), 0);
            }
        }

        /// The usual way is the general one, of a usual frame: TOS, identification, DF and whatever the checksums are.
        #[test]
        fn the_usual_rewrite_is_the_general_one(
            addresses in (address(), address(), address(), address()),
            ports: (u16, u16, u16, u16),
            place in 0..MODES.len(),
            tcp: bool,
            is_reply: bool,
            ttl in 2u8..=255,
            (tos, id, is_whole) in (any::<u8>(), any::<u16>(), any::<bool>()),
            checksum in prop_oneof![
                4 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(0xffff)), 1 => any::<u16>().prop_map(Some),
                1 => Just(Some(1)), 1 => Just(Some(0xfffe)),
            ],
            payload in prop::collection::vec(any::<u8>(), 0..50),
            macs: ([u8; 6], [u8; 6]),
        ) {
            let protocol = protocol_of(tcp);
            let (client, vip, local, real) = addresses;
            let request = FlowKey::new(client, ports.0, vip, ports.1, protocol);
            let mode = &MODES[place];
            let local = mode.uses_pool.then_some((local, ports.2));
            let translation = mode.translation(&request, (real, ports.3), local);
            let connection = Connection::new(request, translation, RealId(0));
            let reply = is_reply && mode.sees_replies;
            let key = if reply { connection.reply } else { request };

            let mut before = frame(&key, ttl, &payload);
            before[15] = tos;
            before[18..20].copy_from_slice(&id.to_be_bytes());
            before[20] = if is_whole { 0x40 } else { 0 };
            before[24..26].fill(0);
            let header = !sum(&before[14..34]);
            before[24..26].copy_from_slice(&header.to_be_bytes());
            if let Some(checksum) = checksum {
                let at = 34 + if tcp { 16 } else { 6 };
                before[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
            }
            let Parsed::Flow(flow) = parse::<V4>(&before, &port()) else { panic!("not understood") };
            prop_assert_eq!(flow.layout, Layout::USUAL);

            let (destination, source) = (Mac(macs.0), Mac(macs.1));
            let (mut general, mut usual) = (before.clone(), before);
            rewrite(&mut general, Form::whole(flow.layout), &connection, reply);
            set_macs(&mut general, destination, source);
            rewrite_usual(&mut usual, tcp, &connection, reply, hop(destination, source));
            prop_assert_eq!(&usual, &general);
            prop_assert_eq!(sum(&usual[14..34]), 0xffff, "the header's checksum is right");
        }

        /// A frame with IP options is not of the usual layout, and so never rewritten as one.
        #[test]
        fn options_have_a_layout_of_their_own(
            addresses in (address(), address()),
            tcp: bool,
            words in 1u8..=10,
        ) {
            let key = FlowKey::new(addresses.0, 1, addresses.1, 2, protocol_of(tcp));
            let mut frame = frame(&key, 64, b"data");
            let options = usize::from(words) * 4;
            // No operation, RFC 791 section 3.1.
            frame.splice(34..34, std::iter::repeat_n(1, options));
            frame[14] += words;
            let length = (frame.len() - 14) as u16;
            frame[16..18].copy_from_slice(&length.to_be_bytes());
            frame[24..26].fill(0);
            let header = !sum(&frame[14..34 + options]);
            frame[24..26].copy_from_slice(&header.to_be_bytes());
            match parse::<V4>(&frame, &port()) {
                Parsed::Flow(flow) => {
                    prop_assert_eq!(flow.layout, Layout { l4: 34 + options as u16 });
                }
                other => prop_assert!(matches!(other, Parsed::Bad(_)), "{:?}", other),
            }
        }

        #[test]
        fn any_frame_cut_anywhere_is_parsed_without_panic(
            addresses in (address(), address()),
            tcp: bool,
            cut in 0usize..80,
            garble in prop::collection::vec((0usize..70, any::<u8>()), 0..4),
        ) {
            let key = FlowKey::new(addresses.0, 1, addresses.1, 2, protocol_of(tcp));
            let mut frame = frame(&key, 64, b"some payload");
            for (at, byte) in garble {
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
            }
            frame.truncate(cut);
            let connection = Connection::new(
                key,
                MODES[1].translation(&key, (addresses.1, 3), None),
                RealId(0),
            );
            if let Parsed::Flow(flow) = parse::<V4>(&frame, &port()) {
                translate(&mut frame, Form::whole(flow.layout), &connection, false);
            }
        }
    }
}

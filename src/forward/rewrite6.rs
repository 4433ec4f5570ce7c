//! Applies a connection's translation to an IPv6 frame, as [`rewrite`](super::rewrite) to an IPv4 one. The header has no
//! checksum, and so none is corrected.

use super::rewrite::{
    Form, Part, end, is_echo, set_ethernet_header, translate_echo, translate_ports, translate_sctp,
};
use crate::conn::{Connection6, FlowKey6, Key};
use crate::neighbour::Hop;
use crate::net::protocol;
use crate::wire::ethernet;

const HEADER_LEN: usize = crate::wire::ipv6::HEADER_LEN;

/// As [`rewrite::rewrite_usual`](super::rewrite::rewrite_usual).
#[inline(always)]
pub fn rewrite_usual(
    frame: &mut [u8],
    is_tcp: bool,
    connection: &Connection6,
    reply: bool,
    hop: Hop,
) {
    let Some((headers, rest)) = frame.split_first_chunk_mut::<62>() else {
        return;
    };
    set_ethernet_header(headers, hop);
    let Some((ip, l4)) = headers[14..].split_first_chunk_mut::<HEADER_LEN>() else {
        return;
    };
    let Some(ports) = l4.first_chunk_mut::<8>() else {
        return;
    };
    decrement_hop_limit(ip);
    if connection.translates() {
        let tcp_checksum = rest.get_mut(8..10).and_then(|field| field.try_into().ok());
        translate_headers(ip, ports, is_tcp, tcp_checksum, connection, reply);
    }
}

/// As [`rewrite::rewrite`](super::rewrite::rewrite). The layer behind the extension headers is translated.
pub fn rewrite(frame: &mut [u8], form: Form, connection: &Connection6, reply: bool) {
    let is_sctp = connection.request.protocol() == protocol::SCTP;
    if form.part == Part::Later || is_sctp {
        rewrite_addresses(frame, connection, reply);
        if form.part == Part::Whole && connection.translates() {
            let start = ethernet::HEADER_LEN + HEADER_LEN;
            let end = frame.get(18..20).map_or(0, |length| end(length, start));
            translate_sctp(frame, form.layout, end, &connection.translated(reply));
        }
        return;
    }
    let Some((before, l4)) = frame.split_at_mut_checked(usize::from(form.layout.l4)) else {
        return;
    };
    let ip = before
        .get_mut(ethernet::HEADER_LEN..)
        .and_then(<[u8]>::first_chunk_mut::<HEADER_LEN>);
    let (Some(ip), Some((ports, rest))) = (ip, l4.split_first_chunk_mut::<8>()) else {
        return;
    };
    decrement_hop_limit(ip);
    if connection.translates() {
        let protocol = connection.request.protocol();
        if is_echo(protocol) {
            let to = connection.translated(reply);
            set_addresses(ip, &to);
            return translate_echo(ports, &to, connection.deltas(reply).1);
        }
        let is_tcp = protocol == protocol::TCP;
        let tcp_checksum = rest.get_mut(8..10).and_then(|field| field.try_into().ok());
        translate_headers(ip, ports, is_tcp, tcp_checksum, connection, reply);
    }
}

/// Takes one from the hop limit of an IPv6 header that goes on with its addresses unchanged.
pub fn pass(frame: &mut [u8]) {
    let ip = frame
        .get_mut(ethernet::HEADER_LEN..)
        .and_then(<[u8]>::first_chunk_mut::<HEADER_LEN>);
    if let Some(ip) = ip {
        decrement_hop_limit(ip);
    }
}

/// As [`rewrite`], of a fragment without a header of TCP or UDP, and of SCTP.
#[cold]
fn rewrite_addresses(frame: &mut [u8], connection: &Connection6, reply: bool) {
    let ip = frame
        .get_mut(ethernet::HEADER_LEN..)
        .and_then(<[u8]>::first_chunk_mut::<HEADER_LEN>);
    if let Some(ip) = ip {
        decrement_hop_limit(ip);
        if connection.translates() {
            set_addresses(ip, &connection.translated(reply));
        }
    }
}

#[inline(always)]
fn set_addresses(ip: &mut [u8; HEADER_LEN], to: &FlowKey6) {
    for (field, word) in ip[8..].chunks_exact_mut(8).zip(to.wire_addresses()) {
        field.copy_from_slice(&word.to_le_bytes());
    }
}

#[inline(always)]
fn translate_headers(
    ip: &mut [u8; HEADER_LEN],
    ports: &mut [u8; 8],
    is_tcp: bool,
    tcp_checksum: Option<&mut [u8; 2]>,
    connection: &Connection6,
    reply: bool,
) {
    let (_, l4_delta) = connection.deltas(reply);
    let to = connection.translated(reply);
    set_addresses(ip, &to);
    translate_ports(ports, is_tcp, tcp_checksum, to.wire_ports(), l4_delta);
}

#[inline(always)]
fn decrement_hop_limit(ip: &mut [u8; HEADER_LEN]) {
    ip[7] = ip[7].wrapping_sub(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::Connection;
    use crate::forward::MODES;
    use crate::forward::rewrite::{Layout, set_macs};
    use crate::neighbour::{Link, LinkState, NeighbourTable};
    use crate::net::{Mac, ethertype};
    use crate::units::{HopId, PortId, RealId};
    use crate::wire::{checksum, ethernet, ipv6, tcp, udp};
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    /// A frame with this key and hop limit, its upper layer behind `extensions`, with its checksum right.
    fn frame(key: &FlowKey6, hop_limit: u8, extensions: &[u8], payload: &[u8]) -> Vec<u8> {
        let tcp = key.protocol() == protocol::TCP;
        let header = if tcp {
            tcp::HEADER_LEN
        } else {
            udp::HEADER_LEN
        };
        let start = 14 + HEADER_LEN + extensions.len();
        let mut frame = [
            &[0; 14 + HEADER_LEN][..],
            extensions,
            &vec![0; header],
            payload,
        ]
        .concat();
        ethernet::emit(&mut frame, MAC, Mac([2; 6]), ethertype::IPV6).unwrap();
        let next_header = match extensions {
            [] => key.protocol(),
            _ => protocol::DESTINATION_OPTIONS,
        };
        let ip = ipv6::Repr {
            hop_limit,
            traffic_class: 0xb9,
            flow_label: 0xa_bcde,
            ..ipv6::Repr::new(key.source(), key.destination(), next_header)
        };
        ip.emit(&mut frame[14..]).unwrap();
        let l4 = &mut frame[start..];
        let pseudo = checksum::pseudo_header_v6(
            key.source(),
            key.destination(),
            key.protocol(),
            l4.len() as u32,
        );
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

    fn address() -> impl Strategy<Value = Ipv6Addr> {
        any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits >> 3 | 1 << 125))
    }

    proptest! {
        /// The rewritten frame is the one that would have been made with the new addresses, to the last bit of its checksum,
        /// by the usual way and by the general one, with extension headers and without; and a reply comes back as a mirror of
        /// the client's packet.
        #[test]
        fn a_rewritten_frame_is_as_if_made_so(
            addresses in (address(), address(), address(), address()),
            ports: (u16, u16, u16, u16),
            place in 0..MODES.len(),
            tcp: bool,
            hop_limit in 2u8..=255,
            extensions in 0usize..4,
            payload in prop::collection::vec(any::<u8>(), 0..50),
            macs: ([u8; 6], [u8; 6]),
        ) {
            let protocol = if tcp { protocol::TCP } else { protocol::UDP };
            let (client, vip, local, real) = addresses;
            let request = FlowKey6::new(client, ports.0, vip, ports.1, protocol);
            let mode = &MODES[place];
            let local = mode.uses_pool.then_some((local, ports.2));
            let translation = mode.translation(&request, (real, ports.3), local);
            let connection = Connection::new(request, translation, RealId(0));
            let options = vec![1; extensions * 8];
            let mut options = [&options[..]].concat();
            if let Some(first) = options.first_chunk_mut::<4>() {
                // Padding as long as it takes.
                *first = [protocol, extensions as u8 - 1, 1, (extensions * 8 - 4) as u8];
            }
            let layout = Layout { l4: (54 + options.len()) as u16 };
            let translated = match mode.translates {
                true => translation.key(protocol),
                false => request,
            };
            let mut ways = vec![(request, translated, false)];
            if mode.sees_replies {
                ways.push((connection.reply, request.reversed(), true));
            }
            for (key, expected, reply) in ways {
                let mut general = frame(&key, hop_limit, &options, &payload);
                let mut usual = general.clone();
                rewrite(&mut general, Form::whole(layout), &connection, reply);
                prop_assert_eq!(&general, &frame(&expected, hop_limit - 1, &options, &payload));
                if extensions == 0 {
                    let (destination, source) = (Mac(macs.0), Mac(macs.1));
                    let table = NeighbourTable::new([(source, 1500)]);
                    let link = Link { mac: destination, port: PortId(0), state: LinkState::Reachable };
                    table.insert(HopId(0), Ipv6Addr::LOCALHOST.into(), link);
                    rewrite_usual(&mut usual, tcp, &connection, reply, table.hop(HopId(0)).unwrap());
                    set_macs(&mut general, destination, source);
                    prop_assert_eq!(&usual, &general);
                }
            }
        }

        #[test]
        fn a_frame_cut_anywhere_is_rewritten_without_panic(cut in 0usize..90, place in 0..MODES.len()) {
            let at = |last: u128| Ipv6Addr::from_bits(0x2001_0db8 << 96 | last);
            let key = FlowKey6::new(at(1), 1, at(2), 2, protocol::TCP);
            let translation = MODES[place].translation(&key, (at(3), 3), None);
            let connection = Connection::new(key, translation, RealId(0));
            let mut frame = frame(&key, 64, &[], b"some payload");
            frame.truncate(cut);
            rewrite(&mut frame, Form::whole(Layout::USUAL_V6), &connection, false);
        }
    }
}

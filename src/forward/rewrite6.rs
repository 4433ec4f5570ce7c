//! Applies a connection's translation to an IPv6 frame, as [`rewrite`](super::rewrite) to an IPv4 one. The header has no
//! checksum, and so none is corrected.

use super::rewrite::{Layout, translate_ports};
use crate::conn::{Connection6, Key};
use crate::neighbour::Hop;
use crate::net::protocol;

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
    let (low, high) = hop.ethernet_header();
    headers[..8].copy_from_slice(&low.to_le_bytes());
    headers[6..14].copy_from_slice(&high.to_le_bytes());
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
pub fn rewrite(frame: &mut [u8], layout: Layout, connection: &Connection6, reply: bool) {
    let Some((before, l4)) = frame.split_at_mut_checked(usize::from(layout.l4)) else {
        return;
    };
    let ip = before
        .get_mut(usize::from(layout.ip)..)
        .and_then(<[u8]>::first_chunk_mut::<HEADER_LEN>);
    let (Some(ip), Some((ports, rest))) = (ip, l4.split_first_chunk_mut::<8>()) else {
        return;
    };
    decrement_hop_limit(ip);
    if connection.translates() {
        let is_tcp = connection.request.protocol() == protocol::TCP;
        let tcp_checksum = rest.get_mut(8..10).and_then(|field| field.try_into().ok());
        translate_headers(ip, ports, is_tcp, tcp_checksum, connection, reply);
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
    for (field, word) in ip[8..].chunks_exact_mut(8).zip(to.wire_addresses()) {
        field.copy_from_slice(&word.to_le_bytes());
    }
    translate_ports(ports, is_tcp, tcp_checksum, to.wire_ports(), l4_delta);
}

#[inline(always)]
fn decrement_hop_limit(ip: &mut [u8; HEADER_LEN]) {
    ip[7] = ip[7].wrapping_sub(1);
}

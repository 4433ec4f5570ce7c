//! Applies a connection's translation to an ICMP error about one of its packets (RFC 5508 section 4, RFC 792, RFC 4443).
//!
//! An error goes back where the packet came from that it is about. So it gets the addresses of a packet that goes that way,
//! and the packet that it quotes those that it had before weir sent it on. Of the quoted packet, whatever is missing stays so.

use super::rewrite::{Layout, is_echo, translate_echo, translate_ports};
use crate::conn::{Connection, Connection6, FlowKey, FlowKey6, Key};
use crate::net::protocol;
use crate::wire::checksum::Delta;
use crate::wire::ethernet;
use crate::wire::icmp::{self, Icmp};
use crate::wire::icmpv6::{self, Icmpv6};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::sctp;

/// Where the parts of an ICMP error are in its frame, whose IP header is behind the Ethernet header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The ICMP header.
    pub icmp: usize,
    /// The header of TCP or UDP in the quoted packet, of which 8 bytes are there.
    pub l4: usize,
    /// The end of the IP packet.
    pub end: usize,
}

impl Places {
    /// Of an error whose ICMP header is at `layout.l4`, in a packet of `length` bytes. `quoted`: the length of the quoted packet's
    /// IP headers.
    pub fn new(layout: Layout, length: u16, quoted: usize) -> Self {
        let icmp = usize::from(layout.l4);
        Places {
            icmp,
            l4: icmp + icmp::HEADER_LEN + quoted,
            end: ethernet::HEADER_LEN + usize::from(length),
        }
    }

    /// The header of the quoted packet.
    pub fn quote(&self) -> usize {
        self.icmp + icmp::HEADER_LEN
    }
}

/// Does to an ICMP error what its connection's mode does, all but the MAC addresses. None, and a frame of any bytes, if it is
/// not one that [`Places`] are of.
pub fn rewrite(
    frame: &mut [u8],
    places: Places,
    connection: &Connection<FlowKey>,
    reply: bool,
) -> Option<()> {
    let (before, message) = frame
        .get_mut(..places.end)?
        .split_at_mut_checked(places.icmp)?;
    let mut ip = Ipv4::new_quoted(before.get_mut(ethernet::HEADER_LEN..)?).ok()?;
    ip.decrement_ttl();
    if !connection.translates() {
        if reply {
            // What it quotes the client has sent.
            ip.readdress(connection.request.destination(), ip.destination());
            ip.blank_options();
        }
        return Some(());
    }
    let to = connection.translated(reply);
    let source = match keeps_source(connection, reply) {
        true => ip.source(),
        false => to.source(),
    };
    ip.readdress(source, to.destination());
    if reply {
        // Addresses of the inside may be recorded there.
        ip.blank_options();
    }
    let (header, l4) = quote_mut(message, places)?;
    let quoted = to.reversed();
    let mut about = Ipv4::new_quoted(header).ok()?;
    let length = usize::from(about.total_length()).saturating_sub(about.header_len());
    about.readdress(quoted.source(), quoted.destination());
    translate_quoted(l4, length, &quoted, connection.deltas(reply).1);
    Icmp::new_checked(message).ok()?.fill_checksum();
    Some(())
}

/// As [`rewrite`], of ICMPv6.
pub fn rewrite_v6(
    frame: &mut [u8],
    places: Places,
    connection: &Connection6,
    reply: bool,
) -> Option<()> {
    let (before, message) = frame
        .get_mut(..places.end)?
        .split_at_mut_checked(places.icmp)?;
    let mut ip = Ipv6::new_quoted(before.get_mut(ethernet::HEADER_LEN..)?).ok()?;
    ip.decrement_hop_limit();
    let pseudo = ip.pseudo_header(protocol::ICMPV6, message.len() as u32);
    Icmpv6::new_checked(&mut *message).ok()?.raise_mtu(pseudo);
    if !connection.translates() {
        if reply {
            ip.readdress(connection.request.destination(), ip.destination());
            let pseudo = ip.pseudo_header(protocol::ICMPV6, message.len() as u32);
            Icmpv6::new_checked(message).ok()?.fill_checksum(pseudo);
        }
        return Some(());
    }
    let to: FlowKey6 = connection.translated(reply);
    let source = match keeps_source(connection, reply) {
        true => ip.source(),
        false => to.source(),
    };
    ip.readdress(source, to.destination());
    let pseudo = ip.pseudo_header(protocol::ICMPV6, message.len() as u32);
    let (header, l4) = quote_mut(message, places)?;
    let quoted = to.reversed();
    let extensions = header.len().saturating_sub(ipv6::HEADER_LEN);
    let mut about = Ipv6::new_quoted(header).ok()?;
    let length = usize::from(about.payload_length()).saturating_sub(extensions);
    about.readdress(quoted.source(), quoted.destination());
    translate_quoted(l4, length, &quoted, connection.deltas(reply).1);
    Icmpv6::new_checked(message).ok()?.fill_checksum(pseudo);
    Some(())
}

/// Whether an error keeps the address of the router that says it: to a real server that knows the client by its own address,
/// and to an inside host about its own connection outwards. To a client it comes from the VIP, since the other side's addresses
/// exist inside only, and to who knows the client or the inside host by a local pair from that, as all that is of the connection.
fn keeps_source<K: Key>(connection: &Connection<K>, reply: bool) -> bool {
    match connection.has_local_pair() {
        true => reply && connection.is_outward(),
        false => !reply,
    }
}

/// The quoted packet's IP header, and what is there of its TCP or UDP.
fn quote_mut(message: &mut [u8], places: Places) -> Option<(&mut [u8], &mut [u8])> {
    let quote = message.get_mut(icmp::HEADER_LEN..)?;
    quote.split_at_mut_checked(places.l4.checked_sub(places.quote())?)
}

/// Puts the ports of `key` into what is quoted of TCP, UDP or SCTP, `length` bytes in all, and corrects its checksum if that is quoted.
pub(super) fn translate_quoted<K: Key>(l4: &mut [u8], length: usize, key: &K, delta: Delta) {
    if is_echo(key.protocol()) {
        if let Some(header) = l4.first_chunk_mut() {
            translate_echo(header, key, delta);
        }
    } else if key.protocol() == protocol::SCTP {
        sctp::set_ports(l4, length, key.wire_ports());
    } else if let Some((ports, rest)) = l4.split_first_chunk_mut::<8>() {
        let tcp_checksum = rest.get_mut(8..10).and_then(|field| field.try_into().ok());
        let is_tcp = key.protocol() == protocol::TCP;
        translate_ports(ports, is_tcp, tcp_checksum, key.wire_ports(), delta);
    }
}

const _: () = assert!(
    icmp::HEADER_LEN == icmpv6::HEADER_LEN,
    "the quote is at the same place in both"
);

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;

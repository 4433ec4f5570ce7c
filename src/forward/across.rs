//! Applies the translation of a connection whose sides are of different families: the packet gets the other family's header
//! (RFC 7915). Its addresses and ports are the connection's, as in [`rewrite`](super::rewrite); so only what that says of
//! headers and of fragments counts here, and not of ICMP, nor of stateless addresses.
//!
//! What the other family has no place for is left out: IPv4 options (section 4.1), IPv6 extension headers (section 5.1) and
//! the flow label. What tells a route of its own was refused before (`source_route`, `routing_header`).

use super::identification::Identifications;
use super::rewrite::{Form, Layout, Part, translate_ports};
use crate::conn::{ConnectionAny, FlowKeyAny, Key};
use crate::net::{ethertype, protocol};
use crate::packet::Packet;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::extension::{self, Fragment};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{checksum, udp};
use std::net::IpAddr;

const IP: usize = ethernet::HEADER_LEN;
/// Where an Ethernet header says what follows it.
const ETHERTYPE: std::ops::Range<usize> = 12..14;

/// An IPv4 packet made of an IPv6 one may be fragmented up to this length, with an IPv6 header that of the longest one that
/// every IPv6 link takes (section 5.1).
pub const ALWAYS_WHOLE: usize = 1260;

/// How much longer a packet is in IPv6.
pub const GROWTH: u16 = (ipv6::HEADER_LEN - ipv4::HEADER_LEN) as u16;

/// The headers of an IPv6 fragment.
const V6_FRAGMENT: usize = ipv6::HEADER_LEN + extension::FRAGMENT_LEN;

/// The length that a packet of a family has in the other one, whose layer above IP begins at `layout.l4` of its frame.
pub fn translated_length(is_v6: bool, length: u16, layout: Layout, part: Part) -> u16 {
    let before = layout.l4 - IP as u16;
    let header = match is_v6 {
        true => ipv4::HEADER_LEN,
        false if part != Part::Whole => V6_FRAGMENT,
        false => ipv6::HEADER_LEN,
    };
    length.saturating_sub(before).saturating_add(header as u16)
}

/// What both families' headers say.
#[derive(Clone, Copy, Debug)]
struct Common {
    /// Traffic class, or TOS.
    class: u8,
    /// TTL, or hop limit.
    ttl: u8,
    /// Bytes behind the headers.
    payload: usize,
    /// What the packet is of its datagram, if it is a fragment or is to be cut into such. In IPv6 an atomic fragment too.
    fragment: Option<Fragment>,
}

impl Common {
    fn of(frame: &[u8], form: Form) -> Option<Self> {
        let layout = form.layout;
        let headers = usize::from(layout.l4).checked_sub(IP)?;
        let frame = Ethernet::new_checked(frame).ok()?;
        match frame.ethertype() {
            ethertype::IPV4 => {
                let ip = Ipv4::new_checked(frame.payload()).ok()?;
                Some(Common {
                    class: ip.tos(),
                    ttl: ip.ttl(),
                    payload: usize::from(ip.total_length()).checked_sub(headers)?,
                    fragment: (ip.is_fragment() || form.is_cut).then(|| Fragment {
                        offset: ip.fragment_offset(),
                        more: ip.more_fragments(),
                        identification: ip.identification().into(),
                        next_header: ip.protocol(),
                    }),
                })
            }
            _ => {
                let ip = Ipv6::new_checked(frame.payload()).ok()?;
                let fragment = match layout {
                    Layout::USUAL_V6 => None,
                    _ => ip.upper_layer().ok()?.fragment,
                };
                let end = ipv6::HEADER_LEN + usize::from(ip.payload_length());
                Some(Common {
                    class: ip.traffic_class(),
                    ttl: ip.hop_limit(),
                    payload: end.checked_sub(headers)?,
                    fragment,
                })
            }
        }
    }

    /// Writes the header of a packet that fills `packet`: in the family of `to`.
    fn emit(
        &self,
        packet: &mut [u8],
        to: &FlowKeyAny,
        identifications: &mut Identifications,
    ) -> Option<()> {
        let ttl = self.ttl.wrapping_sub(1);
        match (to.source().into(), to.destination().into()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let fragment = self.fragment;
                let ip = ipv4::Repr {
                    tos: self.class,
                    ttl,
                    dont_fragment: fragment.is_none() && packet.len() > ALWAYS_WHOLE,
                    identification: match fragment {
                        // Section 5.1.1: its low half.
                        Some(fragment) => fragment.identification as u16,
                        None => identifications.take(),
                    },
                    ..ipv4::Repr::new(source, destination, to.protocol())
                };
                ip.emit(packet)?;
                if let Some(fragment) = fragment.filter(|fragment| !fragment.is_atomic()) {
                    let mut ip = Ipv4::new_checked(packet).ok()?;
                    ip.set_fragment(fragment.offset, fragment.more);
                    ip.fill_checksum();
                }
                Some(())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let next_header = match self.fragment {
                    Some(_) => protocol::FRAGMENT,
                    None => to.protocol(),
                };
                let ip = ipv6::Repr {
                    traffic_class: self.class,
                    hop_limit: ttl,
                    ..ipv6::Repr::new(source, destination, next_header)
                };
                ip.emit(packet)?;
                if let Some(fragment) = self.fragment {
                    let header = packet.get_mut(ipv6::HEADER_LEN..)?;
                    fragment.emit(header.first_chunk_mut()?);
                }
                Some(())
            }
            _ => None,
        }
    }
}

/// Makes of a packet the one that goes on to the connection's other side, all but its MAC addresses, which are of any value
/// then. Returns false if the packet's buffer has no room for it.
///
/// The packet must be a TCP segment or UDP datagram of the connection, or a fragment of one, checked by
/// [`crate::director::parse`], and its TTL above 1.
pub fn rewrite<P: Packet>(
    packet: &mut P,
    form: Form,
    connection: &ConnectionAny,
    reply: bool,
    identifications: &mut Identifications,
) -> bool {
    let to = connection.translated(reply);
    // The checksums of others are not known here.
    if !matches!(to.protocol(), protocol::TCP | protocol::UDP) {
        return false;
    }
    let Some(common) = Common::of(packet.data(), form) else {
        return false;
    };
    let (is_v6, header) = match to.source().into() {
        IpAddr::V4(_) => (false, ipv4::HEADER_LEN),
        IpAddr::V6(_) if common.fragment.is_some() => (true, V6_FRAGMENT),
        IpAddr::V6(_) => (true, ipv6::HEADER_LEN),
    };
    let (before, after) = (usize::from(form.layout.l4), IP + header);
    // The padding of a short frame goes first.
    let end = before + common.payload;
    let is_placed = (packet.data().len() == end || packet.resize(end))
        && match after.checked_sub(before) {
            Some(more) => packet.grow_front(more),
            None => packet.trim_front(before - after),
        };
    if !is_placed {
        return false;
    }
    let frame = packet.data_mut();
    let kind = if is_v6 {
        ethertype::IPV6
    } else {
        ethertype::IPV4
    };
    frame[ETHERTYPE].copy_from_slice(&kind.to_be_bytes());
    if common
        .emit(&mut frame[IP..], &to, identifications)
        .is_none()
    {
        return false;
    }
    if form.part == Part::Later {
        return true;
    }
    let l4 = &mut frame[after..];
    let is_tcp = to.protocol() == protocol::TCP;
    if !is_tcp && is_v6 && l4.get(6..8) == Some(&[0, 0]) {
        l4[..4].copy_from_slice(&to.wire_ports().to_le_bytes());
        return fill_udp_checksum(l4, &to);
    }
    let Some((ports, rest)) = l4.split_first_chunk_mut::<8>() else {
        return false;
    };
    let tcp_checksum = rest.get_mut(8..10).and_then(|field| field.try_into().ok());
    let (_, delta) = connection.deltas(reply);
    translate_ports(ports, is_tcp, tcp_checksum, to.wire_ports(), delta);
    true
}

/// Computes the checksum that IPv4 lets a datagram go without and IPv6 does not (RFC 7915 section 4.5).
fn fill_udp_checksum(datagram: &mut [u8], to: &FlowKeyAny) -> bool {
    let (IpAddr::V6(source), IpAddr::V6(destination)) =
        (to.source().into(), to.destination().into())
    else {
        return false;
    };
    let Some(header) = datagram.first_chunk::<{ udp::HEADER_LEN }>() else {
        return false;
    };
    // Shorter than what the packet has room for, perhaps.
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let datagram = datagram.get_mut(..length);
    let Some(datagram) = datagram.filter(|it| it.len() >= udp::HEADER_LEN) else {
        return false;
    };
    let pseudo = checksum::pseudo_header_v6(source, destination, protocol::UDP, length as u32);
    let sum = !checksum::fold(pseudo + checksum::partial(datagram));
    // RFC 768: a computed 0 is sent as 0xffff.
    let sum = if sum == 0 { 0xffff } else { sum };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    true
}

#[cfg(test)]
#[path = "across_tests.rs"]
mod tests;

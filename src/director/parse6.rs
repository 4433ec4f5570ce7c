//! From an IPv6 frame to what the director decides by, as [`parse`](super::parse) of IPv4.

use super::family::V6;
use super::fragment::Fragment;
use super::parse::{Datagram, Flow, Kind, Parsed, is_bad_source_mac};
use crate::conn::{FlowKey6, Key};
use crate::forward::rewrite::Layout;
use crate::net::protocol;
use crate::tables::Port;
use crate::verdict::DropReason;
use crate::wire::Malformed;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::extension;
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::tcp::{Flags, Tcp};
use crate::wire::udp::Udp;
use std::net::Ipv6Addr;

const IP: usize = ethernet::HEADER_LEN;
const L4: usize = IP + ipv6::HEADER_LEN;

/// What nearly all frames are: a TCP segment or UDP datagram to this port, whole, without extension headers and without a
/// trailer. As [`parse::parse_usual`](super::parse::parse_usual).
#[inline(always)]
pub(super) fn parse_usual(frame: &[u8], port: &Port, flow: &mut Flow<V6>) -> bool {
    // The headers as far as UDP's end; TCP's is longer.
    let Some(header) = frame.first_chunk::<{ L4 + 8 }>() else {
        return false;
    };
    let word = |at: usize| {
        u64::from_le_bytes([
            header[at],
            header[at + 1],
            header[at + 2],
            header[at + 3],
            header[at + 4],
            header[at + 5],
            header[at + 6],
            header[at + 7],
        ])
    };
    // Ethertype, version, traffic class, flow label, payload length.
    let first = word(12);
    // Ports; UDP's length and checksum.
    let ports = word(L4);
    let room = ((first >> 48) as u16).swap_bytes();
    let length = usize::from(room) + ipv6::HEADER_LEN;
    // For another station, or of another version: one branch for both. No frame as long as this has padding.
    let differs = port.accepts.differs(word(0)) | first & 0xf0_ffff ^ 0x60_dd86;
    if differs != 0 || IP + length != frame.len() {
        return false;
    }
    let [protocol, ttl] = [header[IP + 6], header[IP + 7]];
    (flow.flags, flow.kind) = if protocol == protocol::UDP {
        let length = ((ports >> 32) as u16).swap_bytes();
        // RFC 8200 section 8.1: it must have a checksum.
        if length < 8 || length > room || ports >> 48 == 0 {
            return false;
        }
        (Flags(0), Kind::of_datagram(ttl))
    } else if protocol == protocol::TCP {
        let Some(tcp) = frame[L4..].first_chunk::<20>() else {
            return false;
        };
        let length = u16::from(tcp[12] >> 4) * 4;
        if length < 20 || length > room {
            return false;
        }
        let flags = Flags(tcp[13]);
        (flags, Kind::of_segment(flags, ttl))
    } else {
        return false;
    };
    let addresses = [word(22), word(30), word(38), word(46)];
    flow.key = FlowKey6::from_wire(addresses, ports as u32, protocol);
    flow.layout = Layout::USUAL_V6;
    flow.ttl = ttl;
    flow.length = saturated(length);
    true
}

/// A packet's length; of one longer than any link takes, the most.
#[inline(always)]
fn saturated(length: usize) -> u16 {
    length.min(usize::from(u16::MAX)) as u16
}

/// The length of a frame's IPv6 packet, as its header says.
pub(super) fn length(frame: &[u8]) -> Option<u16> {
    let ip = ipv6::in_frame(frame)?;
    Some(saturated(
        ipv6::HEADER_LEN + usize::from(ip.payload_length()),
    ))
}

/// What may not be a source address: groups, no address, the loopback address, and IPv4 addresses as IPv6 ones, which are
/// on no wire (RFC 4291 sections 2.5.2, 2.5.3, 2.5.5 and 2.7).
pub(super) fn is_bad_source(address: Ipv6Addr) -> bool {
    // `::/96` has the unspecified and the loopback address, and the deprecated "IPv4-compatible" ones.
    address.is_multicast() || matches!(address.to_bits() >> 32, 0 | 0xffff)
}

/// What an IPv6 frame is, by the checks of RFC 8200, one by one.
pub(super) fn parse_any(frame: &[u8], port: &Port) -> Parsed<V6> {
    let Ok(ethernet) = Ethernet::new_checked(frame) else {
        return Parsed::Bad(DropReason::Truncated);
    };
    let destination = ethernet.destination();
    let to_all = destination.is_multicast();
    if destination != port.mac && !to_all && !port.accepts.is_any() {
        return Parsed::Bad(DropReason::OtherHost);
    }
    if is_bad_source_mac(frame, port) {
        return Parsed::Bad(DropReason::BadSourceMac);
    }
    let ip = match Ipv6::new_checked(ethernet.payload()) {
        Ok(ip) => ip,
        Err(Malformed::Truncated) => return Parsed::Bad(DropReason::Truncated),
        Err(Malformed::Jumbogram) => return Parsed::Bad(DropReason::Jumbogram),
        Err(_) => return Parsed::Bad(DropReason::BadIpHeader),
    };
    // As of IPv4: a packet to one host in a frame to all is dropped.
    if to_all && !ip.destination().is_multicast() {
        return Parsed::Bad(DropReason::OtherHost);
    }
    // Of no address are only questions whether an address is free (RFC 4862 section 5.4.2).
    let is_unspecified = ip.source().is_unspecified();
    if is_bad_source(ip.source()) && !(is_unspecified && ip.destination().is_multicast()) {
        return Parsed::Bad(DropReason::BadSource);
    }
    let upper = match ip.upper_layer() {
        Ok(upper) => upper,
        Err(Malformed::Jumbogram) => return Parsed::Bad(DropReason::Jumbogram),
        Err(Malformed::SegmentsLeft) => return Parsed::Bad(DropReason::RoutingHeader),
        Err(Malformed::HeadersInFragments) => return Parsed::Bad(DropReason::FragmentTiny),
        Err(_) => return Parsed::Bad(DropReason::Ipv6Extension),
    };
    let layout = Layout {
        l4: (L4 + upper.extensions) as u16,
    };
    let length = saturated(ipv6::HEADER_LEN + usize::from(ip.payload_length()));
    if let Some(fragment) = upper.fragment
        && upper.is_fragment()
    {
        let end = upper.fragment_end as u16;
        return Parsed::Fragment(Fragment {
            source: ip.source(),
            destination: ip.destination(),
            protocol: upper.protocol,
            identification: fragment.identification,
            offset: fragment.offset,
            more: fragment.more,
            data: ip.payload_length() - end,
            before: end - extension::FRAGMENT_LEN as u16,
            ttl: ip.hop_limit(),
            length,
            layout,
        });
    }
    let is_flow = matches!(upper.protocol, protocol::TCP | protocol::UDP);
    if !is_flow || to_all || ip.destination().is_multicast() {
        return Parsed::Ip(Datagram {
            source: ip.source(),
            destination: ip.destination(),
            protocol: upper.protocol,
            length,
            layout,
        });
    }
    let found = match upper.protocol {
        protocol::TCP => Tcp::new_checked(upper.payload)
            .map(|tcp| (tcp.source_port(), tcp.destination_port(), tcp.flags())),
        _ => match Udp::new_checked(upper.payload) {
            // RFC 8200 section 8.1.
            Ok(udp) if udp.checksum().is_none() => {
                return Parsed::Bad(DropReason::NoUdpChecksum);
            }
            udp => udp.map(|udp| (udp.source_port(), udp.destination_port(), Flags(0))),
        },
    };
    let Ok((source_port, destination_port, flags)) = found else {
        return Parsed::Bad(DropReason::BadL4Header);
    };
    let (source, destination) = (ip.source(), ip.destination());
    let ttl = ip.hop_limit();
    Parsed::Flow(Flow {
        key: FlowKey6::new(
            source,
            source_port,
            destination,
            destination_port,
            upper.protocol,
        ),
        layout,
        flags,
        ttl,
        length,
        kind: match (layout, upper.protocol) {
            (Layout::USUAL_V6, protocol::TCP) => Kind::of_segment(flags, ttl),
            (Layout::USUAL_V6, _) => Kind::of_datagram(ttl),
            _ => Kind::Unusual,
        },
    })
}

#[cfg(test)]
#[path = "parse6_tests.rs"]
mod tests;

//! From a frame to what the director decides by. The first rooms of every packet: nothing is looked up here.

use super::family::{Family, V4, Wire};
use super::fragment::Fragment;
use crate::conn::{FlowKey, Key};
use crate::forward::rewrite::{Layout, Part};
use crate::net::{TagPriorities, ethertype, protocol};
use crate::packet::Packet;
use crate::tables::Port;
use crate::verdict::DropReason;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::ipv4::Ipv4;
use crate::wire::tcp::{Flags, Tcp};
use crate::wire::udp::Udp;
use crate::wire::{Malformed, vlan};
use std::net::Ipv4Addr;

/// A received frame, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<F: Family = V4> {
    /// A TCP segment or UDP datagram, whole and with correct headers.
    Flow(Flow<F>),
    Arp,
    /// A packet to a link-local multicast group, on a port that the host uses too.
    Multicast,
    /// A part of an IP packet.
    Fragment(Fragment<F>),
    /// Any other IP packet: ICMP, another protocol.
    Ip(Datagram<F>),
    Bad(DropReason),
    /// A frame with a priority tag or a trailer, to be taken off first: see [`mend`].
    Mend,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow<F: Family = V4> {
    pub key: F::Key,
    pub layout: Layout,
    /// TCP flags; none for UDP.
    pub flags: Flags,
    pub ttl: u8,
    /// The IP packet's length in bytes.
    pub length: u16,
    pub kind: Kind,
}

/// What of a packet alone says whether it simply goes on if its connection is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// It is no flow's, or not parsed.
    #[default]
    Other,
    /// The first fragment of a datagram, which has the header of TCP or UDP.
    FirstFragment,
    /// Another fragment, whose ports the first one has told.
    LaterFragment,
    /// It has to be looked at: IP options, a TTL that runs out here, a segment that opens, ends or changes something.
    Unusual,
    Datagram,
    /// With ACK, and neither SYN nor RST.
    Segment,
}

impl Kind {
    /// Whether the packet is only a part of its datagram.
    pub fn is_fragment(self) -> bool {
        matches!(self, Kind::FirstFragment | Kind::LaterFragment)
    }

    /// What of its datagram the packet has.
    pub fn part(self) -> Part {
        match self {
            Kind::FirstFragment => Part::First,
            Kind::LaterFragment => Part::Later,
            Kind::Other | Kind::Unusual | Kind::Datagram | Kind::Segment => Part::Whole,
        }
    }

    /// Of a UDP datagram of the usual layout.
    #[inline(always)]
    pub(super) fn of_datagram(ttl: u8) -> Kind {
        match ttl > 1 {
            true => Kind::Datagram,
            false => Kind::Unusual,
        }
    }

    /// Of a TCP segment of the usual layout.
    #[inline(always)]
    pub(super) fn of_segment(flags: Flags, ttl: u8) -> Kind {
        /// Of these a usual segment has ACK alone.
        const TELLING: u8 = Flags::SYN | Flags::RST | Flags::ACK;
        match ttl > 1 && flags.0 & TELLING == Flags::ACK {
            true => Kind::Segment,
            false => Kind::Unusual,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<F: Family = V4> {
    pub source: F::Address,
    pub destination: F::Address,
    pub protocol: u8,
    /// The IP packet's length in bytes.
    pub length: u16,
    pub layout: Layout,
}

const IP: usize = ethernet::HEADER_LEN;

/// Parses one received packet, and takes off what does not go on: the priority tag, and the trailer.
pub fn receive<F: Wire, P: Packet>(packet: &mut P, port: &Port) -> Parsed<F> {
    match parse(packet.data(), port) {
        Parsed::Mend => mend(packet, port),
        parsed => parsed,
    }
}

/// Parses one frame that came in by `port`.
pub fn parse<F: Wire>(frame: &[u8], port: &Port) -> Parsed<F> {
    let mut flow = Flow::default();
    match F::parse_usual(frame, port, &mut flow) {
        true if F::is_bad_source(flow.key.source()) => Parsed::Bad(DropReason::BadSource),
        true => Parsed::Flow(flow),
        false => parse_unusual(frame, port),
    }
}

/// As [`parse`], of a frame that is not a usual one.
#[inline(never)]
pub(super) fn parse_unusual<F: Wire>(frame: &[u8], port: &Port) -> Parsed<F> {
    match vlan::is_priority_tagged(frame) || without_trailer::<F>(frame).is_some() {
        true => Parsed::Mend,
        false => F::parse_any(frame, port),
    }
}

/// What nearly all frames are: a TCP segment or UDP datagram to this port, whole, correct, without IP options, and with
/// no trailer but the padding of a short frame. False for every other frame, and then `flow` is anything; never another
/// flow than [`parse_any`] finds. It does not look at the source's addresses, see [`is_bad_source_mac`] and
/// [`is_bad_source`]: no connection is made of bad ones, so that the packets of known connections need not be asked.
///
/// The headers are read as words in the machine's byte order, of which x86 and ARM servers have the same. A property holds
/// every field against the views of [`crate::wire`].
#[inline(always)]
pub(super) fn parse_usual(frame: &[u8], port: &Port, flow: &mut Flow) -> bool {
    // RFC 1812 section 5.2.2 (1): the headers as far as UDP's end; TCP's is longer.
    let Some(header) = frame.first_chunk::<{ IP + 20 + 8 }>() else {
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
    // Ethertype, version, header length, TOS, total length, identification.
    let first = word(12);
    // Fragment, TTL, protocol, checksum, half of the source address.
    let second = word(20);
    // Source and destination address.
    let addresses = word(26);
    // Ports; UDP's length and checksum.
    let ports = word(34);
    let length = (first >> 32) as u16;
    let length = length.swap_bytes();
    // For another station, or not IPv4 without options (section 5.2.2 (3) and (4)), or a fragment: one branch for all. The
    // checksum is (2).
    let differs = port.accepts.differs(word(0)) | first & 0xff_ffff ^ 0x45_0008 | second & 0xff3f;
    if differs != 0 || !is_header_right(first, second, addresses) {
        return false;
    }
    // A branch of its own costs a frame without a trailer nothing: it takes the place of the comparison with the length.
    if IP + usize::from(length) != frame.len() && !is_padded(frame, length) {
        return false;
    }
    // (5)
    let Some(room) = length.checked_sub(20) else {
        return false;
    };
    let protocol = (second >> 24) as u8;
    let ttl = (second >> 16) as u8;
    (flow.flags, flow.kind) = if protocol == protocol::UDP {
        let length = ((ports >> 32) as u16).swap_bytes();
        if length < 8 || length > room {
            return false;
        }
        (Flags(0), Kind::of_datagram(ttl))
    } else if protocol == protocol::TCP {
        let Some(tcp) = frame[IP + 20..].first_chunk::<20>() else {
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
    flow.key = FlowKey::from_wire(addresses, ports as u32, protocol);
    flow.layout = Layout::USUAL;
    flow.ttl = ttl;
    flow.length = length;
    true
}

/// Whether the header checksum is right, of a header without options read as in [`parse_usual`]. The sum is that of
/// 16-bit words in any byte order (RFC 1071 section 2 (B)), here of four at a time.
#[inline(always)]
fn is_header_right(first: u64, second: u64, addresses: u64) -> bool {
    // Without the Ethertype, and without the half of the source address that `second` has.
    let (sum, carry) = second.overflowing_add((first >> 16) + (addresses >> 16));
    let sum = sum.wrapping_add(carry.into());
    // It is a multiple of 0xffff if and only if its product with the inverse of that, modulo 2 to the power of 64, is one of
    // the smallest numbers. The version is not 0, and so the sum is not.
    const NEGATIVE_INVERSE: u64 = u64::MAX / 0xffff;
    sum.wrapping_mul(NEGATIVE_INVERSE).wrapping_neg() <= u64::MAX / 0xffff
}

/// RFC 1122 section 3.2.1.3: what may not be a source address. 240/4 is reserved: no host has it either.
pub(super) fn is_bad_source(address: Ipv4Addr) -> bool {
    matches!(address.octets()[0], 0 | 127 | 224..)
}

/// Whether the packet of a frame, with a priority tag or without, is an IPv6 one.
#[cold]
#[inline(never)]
pub(super) fn is_ipv6(frame: &[u8]) -> bool {
    let at = match vlan::is_priority_tagged(frame) {
        true => vlan::TAG_AT + vlan::TAG_LEN,
        false => vlan::TAG_AT,
    };
    frame.get(at..at + 2) == Some(&ethertype::IPV6.to_be_bytes())
}

/// Whether the frame is filled up to the shortest that Ethernet has. Its padding stays: the device would add it anew.
#[inline(always)]
fn is_padded(frame: &[u8], length: u16) -> bool {
    frame.len() <= ethernet::MIN_LEN && IP + usize::from(length) < frame.len()
}

/// Whether the frame's source MAC address is one that no other station has: a group address, zero, or the port's own.
/// What makes a connection or gets an answer must have another, since an answer would go to the whole link or come
/// back (RFC 1812 section 5.3.4 has the same for destinations). The usual packets of known connections are not asked.
pub(super) fn is_bad_source_mac(frame: &[u8], port: &Port) -> bool {
    ethernet::source(frame).is_none_or(|source| !source.is_station() || source == port.mac)
}

/// Takes the priority tag and the trailer off, and parses the packet then.
#[cold]
pub(super) fn mend<F: Wire, P: Packet>(packet: &mut P, port: &Port) -> Parsed<F> {
    if vlan::is_priority_tagged(packet.data()) {
        // The addresses take the tag's place.
        let outer = packet.data()[vlan::TAG_AT + 2] >> 5;
        packet.set_priorities(TagPriorities { outer, inner: 0 });
        packet.data_mut().copy_within(..vlan::TAG_AT, vlan::TAG_LEN);
        packet.trim_front(vlan::TAG_LEN);
    }
    if let Some(length) = without_trailer::<F>(packet.data()) {
        // A buffer in several pieces keeps it; its frame is longer than the port's MTU allows.
        let _ = packet.resize(length);
    }
    F::parse_any(packet.data(), port)
}

/// The length of a frame whose trailer is to be cut off, as the kernel's `ip_rcv_core` does. The padding of a short
/// frame stays.
fn without_trailer<F: Wire>(frame: &[u8]) -> Option<usize> {
    let length = F::length(frame)?;
    let end = IP + usize::from(length);
    let has_trailer = end < frame.len() && !is_padded(frame, length);
    has_trailer.then_some(end)
}

/// What a frame is, by the checks of RFC 1812 and RFC 1122, one by one.
pub(super) fn parse_any(frame: &[u8], port: &Port) -> Parsed {
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
    let packet = ethernet.payload();
    match ethernet.ethertype() {
        // RFC 1122 section 3.3.6: a unicast IP packet in a broadcast frame is dropped.
        ethertype::IPV4 if to_all && port.has_companion && is_local_multicast(packet) => {
            Parsed::Multicast
        }
        ethertype::IPV4 if to_all => Parsed::Bad(DropReason::OtherHost),
        ethertype::IPV4 => parse_ipv4(packet),
        ethertype::ARP => Parsed::Arp,
        ethertype::IPV6 => Parsed::Bad(DropReason::Ipv6),
        ethertype::VLAN | ethertype::QINQ => Parsed::Bad(DropReason::OtherVlan),
        _ => Parsed::Bad(DropReason::UnknownEthertype),
    }
}

/// To 224.0.0.0/24, which no router forwards (RFC 5771 section 4): OSPF's and VRRP's groups, among others.
fn is_local_multicast(packet: &[u8]) -> bool {
    Ipv4::new_checked(packet).is_ok_and(|ip| matches!(ip.destination().octets(), [224, 0, 0, _]))
}

fn parse_ipv4(packet: &[u8]) -> Parsed {
    // RFC 1812 section 5.2.2 (1), (3), (4) and (5): version and lengths, numbered there.
    let ip = match Ipv4::new_checked(packet) {
        Ok(ip) => ip,
        Err(Malformed::Truncated) => return Parsed::Bad(DropReason::Truncated),
        Err(_) => return Parsed::Bad(DropReason::BadIpHeader),
    };
    // RFC 1812 section 5.2.2 (2): the checksum.
    if !ip.is_header_right() {
        return Parsed::Bad(DropReason::BadIpChecksum);
    }
    // RFC 1812 section 5.3.13.4: a router may have source routes dropped; RFC 7126 section 4.3 has it so by default.
    match ip.has_source_route() {
        Ok(false) => {}
        Ok(true) => return Parsed::Bad(DropReason::SourceRoute),
        Err(_) => return Parsed::Bad(DropReason::BadIpHeader),
    }
    // RFC 1812 section 5.3.7: martian source addresses.
    if is_bad_source(ip.source()) {
        return Parsed::Bad(DropReason::BadSource);
    }
    let layout = Layout {
        l4: (IP + ip.header_len()) as u16,
    };
    let protocol = ip.protocol();
    if ip.is_fragment() {
        let before = ip.header_len() as u16;
        return Parsed::Fragment(Fragment {
            source: ip.source(),
            destination: ip.destination(),
            protocol,
            identification: ip.identification().into(),
            offset: ip.fragment_offset(),
            more: ip.more_fragments(),
            data: ip.total_length() - before,
            before,
            ttl: ip.ttl(),
            length: ip.total_length(),
            layout,
        });
    }
    if !matches!(protocol, protocol::TCP | protocol::UDP) {
        return Parsed::Ip(Datagram {
            source: ip.source(),
            destination: ip.destination(),
            protocol,
            length: ip.total_length(),
            layout,
        });
    }
    let found = match protocol {
        // RFC 9293 section 3.1.
        protocol::TCP => Tcp::new_checked(ip.payload())
            .map(|tcp| (tcp.source_port(), tcp.destination_port(), tcp.flags())),
        // RFC 768.
        _ => Udp::new_checked(ip.payload())
            .map(|udp| (udp.source_port(), udp.destination_port(), Flags(0))),
    };
    let Ok((source_port, destination_port, flags)) = found else {
        return Parsed::Bad(DropReason::BadL4Header);
    };
    let (source, destination, ttl) = (ip.source(), ip.destination(), ip.ttl());
    Parsed::Flow(Flow {
        key: FlowKey::new(source, source_port, destination, destination_port, protocol),
        layout,
        flags,
        ttl,
        length: ip.total_length(),
        kind: match (layout, protocol) {
            (Layout::USUAL, protocol::TCP) => Kind::of_segment(flags, ttl),
            (Layout::USUAL, _) => Kind::of_datagram(ttl),
            _ => Kind::Unusual,
        },
    })
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;

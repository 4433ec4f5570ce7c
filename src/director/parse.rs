//! From a frame to what the director decides by. The first rooms of every packet: nothing is looked up here.

use crate::conn::FlowKey;
use crate::forward::rewrite::Layout;
use crate::packet::Packet;
use crate::tables::Port;
use crate::verdict::DropReason;
pub use crate::wire::ipv4::{PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::wire::tcp::Flags;
use crate::wire::{checksum, ethernet, ipv4};
use std::net::Ipv4Addr;

/// A received frame, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A TCP segment or UDP datagram, whole and with correct headers.
    Flow(Flow),
    Arp,
    /// An IPv4 packet to a link-local multicast group, on a port that the host uses too.
    Multicast,
    /// Any other IPv4 packet: ICMP, another protocol, a fragment.
    Ipv4(Datagram),
    Bad(DropReason),
    /// A frame with a priority tag or a trailer, to be taken off first: see [`mend`].
    Mend,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    pub key: FlowKey,
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
    /// It has to be looked at: IP options, a TTL that runs out here, a segment that opens, ends or changes something.
    Unusual,
    Datagram,
    /// With ACK, and neither SYN nor RST.
    Segment,
}

impl Kind {
    /// Of a UDP datagram of the usual layout.
    #[inline(always)]
    fn of_datagram(ttl: u8) -> Kind {
        match ttl > 1 {
            true => Kind::Datagram,
            false => Kind::Unusual,
        }
    }

    /// Of a TCP segment of the usual layout.
    #[inline(always)]
    fn of_segment(flags: Flags, ttl: u8) -> Kind {
        /// Of these a usual segment has ACK alone.
        const TELLING: u8 = Flags::SYN | Flags::RST | Flags::ACK;
        match ttl > 1 && flags.0 & TELLING == Flags::ACK {
            true => Kind::Segment,
            false => Kind::Unusual,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub is_fragment: bool,
    /// The IP packet's length in bytes.
    pub length: u16,
    pub layout: Layout,
}

const IP: usize = ethernet::HEADER_LEN;

/// Parses one received packet, and takes off what does not go on: the priority tag, and the trailer.
pub fn receive<P: Packet>(packet: &mut P, port: &Port) -> Parsed {
    match parse(packet.data(), port) {
        Parsed::Mend => mend(packet, port),
        parsed => parsed,
    }
}

/// Parses one frame that came in by `port`.
pub fn parse(frame: &[u8], port: &Port) -> Parsed {
    let mut flow = Flow::default();
    match parse_usual(frame, port, &mut flow) {
        true if is_bad_source(flow.key.source()) => Parsed::Bad(DropReason::BadSource),
        true => Parsed::Flow(flow),
        false => parse_unusual(frame, port),
    }
}

/// As [`parse`], of a frame that is not a usual one.
#[inline(never)]
pub(super) fn parse_unusual(frame: &[u8], port: &Port) -> Parsed {
    match ethernet::is_priority_tagged(frame) || without_trailer(frame).is_some() {
        true => Parsed::Mend,
        false => parse_any(frame, port),
    }
}

/// What nearly all frames are: a TCP segment or UDP datagram to this port, whole, correct, without IP options, and with
/// no trailer but the padding of a short frame. False for every other frame, and then `flow` is anything; never another
/// flow than [`parse_any`] finds. It does not look at the source's addresses, see [`is_bad_source_mac`] and
/// [`is_bad_source`]: no connection is made of bad ones, so that the packets of known connections need not be asked.
///
/// The headers are read as words in the machine's byte order, of which x86 and ARM servers have the same.
#[inline(always)]
pub(super) fn parse_usual(frame: &[u8], port: &Port, flow: &mut Flow) -> bool {
    // The headers as far as UDP's end; TCP's is longer.
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
    // For another station, or not IPv4 without options, or a fragment: one branch for all.
    let differs = port.accepts.differs(word(0)) | first & 0xff_ffff ^ 0x45_0008 | second & 0xff3f;
    if differs != 0 || !is_header_right(first, second, addresses) {
        return false;
    }
    // A branch of its own costs a frame without a trailer nothing: it takes the place of the comparison with the length.
    if IP + usize::from(length) != frame.len() && !is_padded(frame, length) {
        return false;
    }
    let Some(room) = length.checked_sub(20) else {
        return false;
    };
    let protocol = (second >> 24) as u8;
    let ttl = (second >> 16) as u8;
    (flow.flags, flow.kind) = if protocol == PROTOCOL_UDP {
        let length = ((ports >> 32) as u16).swap_bytes();
        if length < 8 || length > room {
            return false;
        }
        (Flags(0), Kind::of_datagram(ttl))
    } else if protocol == PROTOCOL_TCP {
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

/// RFC 1122 section 3.2.1.3: what may not be a source address. 240/4 is reserved, and no one's either.
pub(super) fn is_bad_source(address: Ipv4Addr) -> bool {
    matches!(address.octets()[0], 0 | 127 | 224..)
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
pub(super) fn mend<P: Packet>(packet: &mut P, port: &Port) -> Parsed {
    if ethernet::is_priority_tagged(packet.data()) {
        // The addresses take the tag's place.
        packet.data_mut().copy_within(..12, ethernet::TAG_LEN);
        packet.trim_front(ethernet::TAG_LEN);
    }
    if let Some(length) = without_trailer(packet.data()) {
        // A buffer in several pieces keeps it; its frame is longer than the port's MTU allows.
        let _ = packet.resize(length);
    }
    parse_any(packet.data(), port)
}

/// The length of a frame whose trailer is to be cut off, as the kernel's `ip_rcv_core` does. The padding of a short
/// frame stays.
fn without_trailer(frame: &[u8]) -> Option<usize> {
    let header = frame.first_chunk::<{ IP + 20 }>()?;
    let is_ipv4 = header[12..14] == ethernet::ETHERTYPE_IPV4.to_be_bytes() && header[14] >> 4 == 4;
    let length = u16::from_be_bytes([header[16], header[17]]);
    let end = IP + usize::from(length);
    let has_trailer = end < frame.len() && !is_padded(frame, length);
    (is_ipv4 && length >= 20 && has_trailer).then_some(end)
}

pub(super) fn parse_any(frame: &[u8], port: &Port) -> Parsed {
    let Some(header) = frame.first_chunk::<IP>() else {
        return Parsed::Bad(DropReason::Truncated);
    };
    let to_all = header[0] & 1 != 0;
    if header[..6] != port.mac.0 && !to_all && !port.accepts.is_any() {
        return Parsed::Bad(DropReason::OtherHost);
    }
    if is_bad_source_mac(frame, port) {
        return Parsed::Bad(DropReason::BadSourceMac);
    }
    match u16::from_be_bytes([header[12], header[13]]) {
        // RFC 1122 section 3.3.6: a unicast IP packet in a broadcast frame is dropped.
        ethernet::ETHERTYPE_IPV4 if to_all && port.has_companion && is_local_multicast(frame) => {
            Parsed::Multicast
        }
        ethernet::ETHERTYPE_IPV4 if to_all => Parsed::Bad(DropReason::OtherHost),
        ethernet::ETHERTYPE_IPV4 => parse_ipv4(frame),
        ethernet::ETHERTYPE_ARP => Parsed::Arp,
        ethernet::ETHERTYPE_IPV6 => Parsed::Bad(DropReason::Ipv6),
        ethernet::ETHERTYPE_VLAN | ethernet::ETHERTYPE_QINQ => Parsed::Bad(DropReason::Vlan),
        _ => Parsed::Bad(DropReason::UnknownEthertype),
    }
}

/// To 224.0.0.0/24, which no router forwards (RFC 5771 section 4): OSPF's and VRRP's groups, among others.
fn is_local_multicast(frame: &[u8]) -> bool {
    frame.get(IP + 16..IP + 19) == Some(&[224, 0, 0])
}

fn parse_ipv4(frame: &[u8]) -> Parsed {
    let packet = &frame[IP..];
    let Some(ip) = packet.first_chunk::<20>() else {
        return Parsed::Bad(DropReason::Truncated);
    };
    let header_length = usize::from(ip[0] & 0x0f) * 4;
    let length = u16::from_be_bytes([ip[2], ip[3]]);
    if ip[0] >> 4 != 4 || header_length < 20 || usize::from(length) < header_length {
        return Parsed::Bad(DropReason::BadIpHeader);
    }
    if packet.len() < usize::from(length) {
        return Parsed::Bad(DropReason::Truncated);
    }
    let is_right = match header_length {
        20 => checksum::is_header_right(ip),
        _ => checksum::sum(&packet[..header_length]) == 0xffff,
    };
    if !is_right {
        return Parsed::Bad(DropReason::BadIpChecksum);
    }
    match ipv4::options(&packet[20..header_length]) {
        ipv4::Options::Usual => {}
        ipv4::Options::SourceRoute => return Parsed::Bad(DropReason::SourceRoute),
        ipv4::Options::Malformed => return Parsed::Bad(DropReason::BadIpHeader),
    }
    let source = Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]);
    let destination = Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]);
    if is_bad_source(source) {
        return Parsed::Bad(DropReason::BadSource);
    }
    let layout = Layout {
        ip: IP as u8,
        l4: (IP + header_length) as u8,
    };
    // More fragments, or an offset: not the whole.
    let is_fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
    let protocol = ip[9];
    if is_fragment || !matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP) {
        return Parsed::Ipv4(Datagram {
            source,
            destination,
            protocol,
            is_fragment,
            length,
            layout,
        });
    }
    let segment = &packet[header_length..usize::from(length)];
    let flags = match protocol {
        PROTOCOL_TCP => {
            let Some(tcp) = segment.first_chunk::<20>() else {
                return Parsed::Bad(DropReason::BadL4Header);
            };
            let header_length = usize::from(tcp[12] >> 4) * 4;
            if header_length < 20 || header_length > segment.len() {
                return Parsed::Bad(DropReason::BadL4Header);
            }
            Flags(tcp[13])
        }
        _ => {
            let Some(udp) = segment.first_chunk::<8>() else {
                return Parsed::Bad(DropReason::BadL4Header);
            };
            let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
            if length < 8 || length > segment.len() {
                return Parsed::Bad(DropReason::BadL4Header);
            }
            Flags(0)
        }
    };
    let Some(ports) = segment.first_chunk::<4>() else {
        return Parsed::Bad(DropReason::BadL4Header);
    };
    let addresses = u64::from_le_bytes([
        ip[12], ip[13], ip[14], ip[15], ip[16], ip[17], ip[18], ip[19],
    ]);
    let key = FlowKey::from_wire(addresses, u32::from_le_bytes(*ports), protocol);
    Parsed::Flow(Flow {
        key,
        layout,
        flags,
        ttl: ip[8],
        length,
        kind: match (layout, protocol) {
            (Layout::USUAL, PROTOCOL_TCP) => Kind::of_segment(flags, ip[8]),
            (Layout::USUAL, _) => Kind::of_datagram(ip[8]),
            _ => Kind::Unusual,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::memory::Memory;
    use crate::tables::Accepts;
    use crate::units::PortId;
    use crate::wire::Mac;
    use proptest::prelude::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const PEER: Mac = Mac([2, 0, 0, 0, 2, 0x54]);

    fn port(any_mac: bool) -> Port {
        Port {
            name: "wan".into(),
            mac: MAC,
            accepts: match any_mac {
                true => Accepts::any(),
                false => Accepts::only(MAC),
            },
            mtu: 1500,
            has_companion: false,
            addresses: Box::default(),
            announce: Box::default(),
        }
    }

    /// A frame of 62 bytes with a packet of 48.
    fn usual(tcp: bool) -> Vec<u8> {
        let mut frame = vec![0; 62];
        frame[..6].copy_from_slice(&MAC.0);
        frame[6..12].copy_from_slice(&PEER.0);
        frame[12..24].copy_from_slice(&[
            8,
            0,
            0x45,
            0,
            0,
            48,
            0,
            1,
            0x40,
            0,
            64,
            if tcp { 6 } else { 17 },
        ]);
        frame[26..42].copy_from_slice(&[
            203, 0, 113, 7, 192, 0, 2, 80, 0x9c, 0x40, 0, 80, 0, 28, 0, 0,
        ]);
        if tcp {
            frame[46] = 5 << 4;
            frame[47] = 2;
        }
        mend(&mut frame);
        frame
    }

    fn mend(frame: &mut [u8]) {
        frame[24..26].fill(0);
        let checksum = !checksum::sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    }

    #[test]
    fn source_addresses_of_no_station_are_told() {
        let frame = |source: [u8; 6]| {
            let mut frame = usual(true);
            frame[6..12].copy_from_slice(&source);
            frame
        };
        for source in [[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 5], MAC.0] {
            let mut frame = frame(source);
            assert!(is_bad_source_mac(&frame, &port(false)), "{source:?}");
            let bad = Parsed::Bad(DropReason::BadSourceMac);
            assert_eq!(parse_any(&frame, &port(false)), bad, "{source:?}");
            frame[12..14].copy_from_slice(&ethernet::ETHERTYPE_ARP.to_be_bytes());
            assert_eq!(parse_any(&frame, &port(false)), bad, "{source:?} in ARP");
        }
        assert!(!is_bad_source_mac(&frame(PEER.0), &port(false)));
    }

    proptest! {
        /// Frames one or two bytes away from a usual one, of any length: where the short way finds a flow, the long
        /// way finds the same.
        #[test]
        fn the_short_way_finds_what_the_long_way_finds(
            tcp: bool,
            cut in 0usize..72,
            changes in prop::collection::vec((0usize..60, any::<u8>()), 0..3),
            is_mended: bool,
            any_mac: bool,
        ) {
            let port = port(any_mac);
            let mut frame = usual(tcp);
            for (place, value) in changes {
                frame[place] = value;
            }
            if is_mended {
                mend(&mut frame);
            }
            frame.resize(cut.max(1), 0xa5);
            let mut flow = Flow::default();
            let is_usual = parse_usual(&frame, &port, &mut flow);
            match parse_any(&frame, &port) {
                Parsed::Bad(DropReason::BadSourceMac) => prop_assert!(is_bad_source_mac(&frame, &port)),
                Parsed::Bad(DropReason::BadSource) if is_usual => prop_assert!(is_bad_source(flow.key.source())),
                Parsed::Flow(found) if is_usual => prop_assert_eq!(found, flow),
                Parsed::Flow(found) => prop_assert!(
                    found.layout.l4 != 34 || without_trailer(&frame).is_some(),
                    "{:?} is a usual one", found
                ),
                other => prop_assert!(!is_usual, "{:?}", other),
            }
        }

        /// A tag of VLAN 0 and a trailer change nothing: what is left is the frame without them, but for the padding of a
        /// short one.
        #[test]
        fn a_priority_tag_and_a_trailer_come_off(
            tcp: bool,
            length in 40u16..1500,
            tag in prop::option::of(0u8..16),
            trailer in 0usize..2000,
        ) {
            let mut plain = usual(tcp);
            plain[16..18].copy_from_slice(&length.to_be_bytes());
            mend(&mut plain);
            plain.resize(14 + usize::from(length), 0x11);
            if !tcp {
                plain[38..40].copy_from_slice(&(length - 20).to_be_bytes());
            }
            let mut frame = plain.clone();
            frame.resize(frame.len() + trailer, 0xa5);
            let tag = tag.map(|priority| [0x81, 0, priority << 4, 0]);
            frame.splice(12..12, tag.into_iter().flatten());
            let mut packet = Memory::new(PortId(0), &frame);
            let parsed = receive(&mut packet, &port(false));
            prop_assert_eq!(parsed, parse(&plain, &port(false)));
            prop_assert!(matches!(parsed, Parsed::Flow(_)));
            let left = packet.data();
            prop_assert!(left.starts_with(&plain));
            let is_short = plain.len() + trailer <= ethernet::MIN_LEN;
            prop_assert_eq!(left.len(), plain.len() + if is_short { trailer } else { 0 });
        }

        /// Tags of other VLANs, 802.1ad tags and second tags stay, and the frame is dropped.
        #[test]
        fn every_other_tag_is_dropped(priority in 0u8..16, id in 1u16..4096, outer in 0u16..4096, kind in 0usize..3) {
            let control = |id: u16| (u16::from(priority) << 12 | id).to_be_bytes();
            let tags = match kind {
                0 => [&[0x81, 0][..], &control(id)].concat(),
                1 => [&[0x88, 0xa8][..], &control(outer)].concat(),
                _ => [&[0x81, 0][..], &control(0), &[0x81, 0], &control(outer)].concat(),
            };
            let mut frame = usual(true);
            frame.splice(12..12, tags);
            let parsed = receive(&mut Memory::new(PortId(0), &frame), &port(false));
            prop_assert_eq!(parsed, Parsed::Bad(DropReason::Vlan));
        }
    }
}

//! From a frame to what the director decides by. The first rooms of every packet: nothing is looked up here.

use super::family::{Family, V4, Wire};
use crate::conn::{FlowKey, Key};
use crate::forward::rewrite::Layout;
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
    /// Any other IP packet: ICMP, another protocol, a fragment.
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
    /// It has to be looked at: IP options, a TTL that runs out here, a segment that opens, ends or changes something.
    Unusual,
    Datagram,
    /// With ACK, and neither SYN nor RST.
    Segment,
}

impl Kind {
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
    pub is_fragment: bool,
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
        ethertype::VLAN | ethertype::QINQ => Parsed::Bad(DropReason::Vlan),
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
    if ip.is_fragment() || !matches!(protocol, protocol::TCP | protocol::UDP) {
        return Parsed::Ip(Datagram {
            source: ip.source(),
            destination: ip.destination(),
            protocol,
            is_fragment: ip.is_fragment(),
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
mod tests {
    use super::*;
    use crate::io::memory::Memory;
    use crate::tables::Accepts;
    use crate::units::PortId;
    use crate::wire::{Mac, checksum, ipv4, tcp, udp};
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
            outer_source: Default::default(),
            accepts_ra: false,
            has_companion: false,
            addresses: Box::default(),
            announce: Box::default(),
            broadcasts: Box::default(),
        }
    }

    /// A frame of 62 bytes with a packet of 48.
    fn usual(tcp: bool) -> Vec<u8> {
        let mut frame = vec![0; 62];
        ethernet::emit(&mut frame, MAC, PEER, ethertype::IPV4).unwrap();
        let ip = ipv4::Repr {
            identification: 1,
            dont_fragment: true,
            ..ipv4::Repr::new(
                Ipv4Addr::new(203, 0, 113, 7),
                Ipv4Addr::new(192, 0, 2, 80),
                if tcp { protocol::TCP } else { protocol::UDP },
            )
        };
        ip.emit(&mut frame[IP..]).unwrap();
        let (source_port, destination_port) = (40_000, 80);
        let segment = tcp::Repr {
            source_port,
            destination_port,
            flags: Flags(Flags::SYN),
            ..tcp::Repr::default()
        };
        let datagram = udp::Repr {
            source_port,
            destination_port,
        };
        let (l4, pseudo) = (&mut frame[34..], ip.pseudo_header(28));
        let fits = match tcp {
            true => segment.emit(l4, pseudo),
            false => datagram.emit(l4, pseudo),
        };
        fits.unwrap();
        frame
    }

    /// Makes the header checksum right.
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
            frame[12..14].copy_from_slice(&ethertype::ARP.to_be_bytes());
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
                    found.layout.l4 != 34 || without_trailer::<V4>(&frame).is_some(),
                    "{:?} is a usual one", found
                ),
                other => prop_assert!(!is_usual, "{:?}", other),
            }
        }

        /// What the short way reads as words is what the views read, field by field; and no view finds a fault in it.
        #[test]
        fn the_short_way_reads_what_the_views_read(
            tcp: bool,
            cut in 0usize..72,
            changes in prop::collection::vec((0usize..60, any::<u8>()), 0..4),
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
            if !parse_usual(&frame, &port, &mut flow) {
                return Ok(());
            }
            let ethernet = Ethernet::new_checked(&frame[..]).unwrap();
            prop_assert!(any_mac || ethernet.destination() == MAC);
            prop_assert_eq!(ethernet.ethertype(), ethertype::IPV4);
            let ip = Ipv4::new_checked(ethernet.payload()).unwrap();
            prop_assert!(ip.is_header_right() && !ip.is_fragment());
            prop_assert_eq!(ip.header_len(), ipv4::HEADER_LEN);
            prop_assert_eq!((flow.ttl, flow.length), (ip.ttl(), ip.total_length()));
            prop_assert_eq!(flow.layout, Layout { l4: 34 });
            let (ports, flags, goes_on) = if ip.protocol() == protocol::TCP {
                let tcp = Tcp::new_checked(ip.payload()).unwrap();
                let flags = tcp.flags();
                let goes_on = flags.ack() && !flags.syn() && !flags.rst();
                ((tcp.source_port(), tcp.destination_port()), flags, goes_on.then_some(Kind::Segment))
            } else {
                prop_assert_eq!(ip.protocol(), protocol::UDP);
                let udp = Udp::new_checked(ip.payload()).unwrap();
                ((udp.source_port(), udp.destination_port()), Flags(0), Some(Kind::Datagram))
            };
            prop_assert_eq!(ip.ports(), Some(ports));
            let key = FlowKey::new(ip.source(), ports.0, ip.destination(), ports.1, ip.protocol());
            prop_assert_eq!((flow.key, flow.flags), (key, flags));
            prop_assert_eq!(flow.kind, goes_on.filter(|_| ip.ttl() > 1).unwrap_or(Kind::Unusual));
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
            let parsed = receive::<V4, _>(&mut packet, &port(false));
            prop_assert_eq!(parsed, parse::<V4>(&plain, &port(false)));
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
            let parsed = receive::<V4, _>(&mut Memory::new(PortId(0), &frame), &port(false));
            prop_assert_eq!(parsed, Parsed::Bad(DropReason::Vlan));
        }
    }
}

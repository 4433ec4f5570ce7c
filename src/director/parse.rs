//! From a frame to what the director decides by. The first rooms of every packet: nothing is looked up here.

use crate::conn::FlowKey;
use crate::forward::rewrite::Layout;
use crate::tables::Port;
use crate::verdict::DropReason;
use crate::wire::tcp::Flags;
use crate::wire::{checksum, ethernet};
use std::net::Ipv4Addr;

pub const PROTOCOL_ICMP: u8 = 1;
pub const PROTOCOL_TCP: u8 = 6;
pub const PROTOCOL_UDP: u8 = 17;

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
    /// TCP's acknowledgement number as on the wire, first byte lowest; 0 for UDP.
    pub acknowledged: u32,
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

/// Parses one frame that came in by `port`.
pub fn parse(frame: &[u8], port: &Port) -> Parsed {
    let mut flow = Flow::default();
    match parse_usual(frame, port, &mut flow) {
        true => Parsed::Flow(flow),
        false => parse_any(frame, port),
    }
}

/// What nearly all frames are: a TCP segment or UDP datagram to this port, whole, correct, and without IP options.
/// False for every other frame, and then `flow` is anything; never another flow than [`parse_any`] finds.
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
    // Where ports differ in it, a branch would be guessed wrong.
    let to_us = (header[..6] == port.mac.0) | (port.any_mac & (header[0] & 1 == 0));
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
    let is_plain_ipv4 = first & 0xff_ffff == 0x45_0008;
    let is_whole = second & 0xff3f == 0 && IP + usize::from(length) <= frame.len();
    if !(to_us && is_plain_ipv4 && is_whole && is_header_right(first, second, addresses))
        || is_bad_source(addresses as u8)
    {
        return false;
    }
    let Some(room) = length.checked_sub(20) else {
        return false;
    };
    let protocol = (second >> 24) as u8;
    flow.flags = if protocol == PROTOCOL_UDP {
        let length = ((ports >> 32) as u16).swap_bytes();
        if length < 8 || length > room {
            return false;
        }
        flow.acknowledged = 0;
        Flags(0)
    } else if protocol == PROTOCOL_TCP {
        let Some(tcp) = frame[IP + 20..].first_chunk::<20>() else {
            return false;
        };
        let length = u16::from(tcp[12] >> 4) * 4;
        if length < 20 || length > room {
            return false;
        }
        flow.acknowledged = u32::from_le_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]);
        Flags(tcp[13])
    } else {
        return false;
    };
    flow.key = FlowKey::from_wire(addresses, ports as u32, protocol);
    flow.layout = Layout::USUAL;
    flow.ttl = (second >> 16) as u8;
    flow.length = length;
    true
}

/// Whether the header checksum is right, of a header without options read as in [`parse_usual`]. The sum is that of
/// 16-bit words in any byte order (RFC 1071 section 2 (B)), here of four at a time.
#[inline(always)]
fn is_header_right(first: u64, second: u64, addresses: u64) -> bool {
    // Without the Ethertype, and without the half of the source address that `second` has.
    let (sum, carry) = second.overflowing_add((first >> 16) + (addresses >> 16));
    let sum = (sum & 0xffff_ffff) + (sum >> 32) + u64::from(carry);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    // The version is not 0, and so the sum is not.
    sum == 0xffff
}

/// RFC 1122 section 3.2.1.3: what may not be a source address, by its first byte. 240/4 is reserved, and no one's
/// either.
#[inline(always)]
fn is_bad_source(first: u8) -> bool {
    // 0 is the largest of all after the subtraction.
    first.wrapping_sub(1) >= 223 || first == 127
}

#[inline(never)]
pub(super) fn parse_any(frame: &[u8], port: &Port) -> Parsed {
    let Some(header) = frame.first_chunk::<IP>() else {
        return Parsed::Bad(DropReason::Truncated);
    };
    let to_all = header[0] & 1 != 0;
    if header[..6] != port.mac.0 && !to_all && !port.any_mac {
        return Parsed::Bad(DropReason::OtherHost);
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
    let source = Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]);
    let destination = Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]);
    if is_bad_source(ip[12]) {
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
    let (flags, acknowledged) = match protocol {
        PROTOCOL_TCP => {
            let Some(tcp) = segment.first_chunk::<20>() else {
                return Parsed::Bad(DropReason::BadL4Header);
            };
            let header_length = usize::from(tcp[12] >> 4) * 4;
            if header_length < 20 || header_length > segment.len() {
                return Parsed::Bad(DropReason::BadL4Header);
            }
            let acknowledged = u32::from_le_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]);
            (Flags(tcp[13]), acknowledged)
        }
        _ => {
            let Some(udp) = segment.first_chunk::<8>() else {
                return Parsed::Bad(DropReason::BadL4Header);
            };
            let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
            if length < 8 || length > segment.len() {
                return Parsed::Bad(DropReason::BadL4Header);
            }
            (Flags(0), 0)
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
        acknowledged,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Mac;
    use proptest::prelude::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    proptest! {
        /// Frames one or two bytes away from a usual one, of any length: where the short way finds a flow, the long
        /// way finds the same.
        #[test]
        fn the_short_way_finds_what_the_long_way_finds(
            tcp: bool,
            cut in 0usize..70,
            changes in prop::collection::vec((0usize..60, any::<u8>()), 0..3),
            mend: bool,
            any_mac: bool,
        ) {
            let port = Port { name: "wan".into(), mac: MAC, any_mac, mtu: 1500, has_companion: false, addresses: Box::default(), announce: Box::default() };
            let mut frame = vec![0; 64];
            frame[..6].copy_from_slice(&MAC.0);
            frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 48, 0, 1, 0x40, 0, 64, if tcp { 6 } else { 17 }]);
            frame[26..42].copy_from_slice(&[203, 0, 113, 7, 192, 0, 2, 80, 0x9c, 0x40, 0, 80, 0, 28, 0, 0]);
            if tcp {
                frame[46] = 5 << 4;
                frame[47] = 2;
            }
            for (place, value) in changes {
                frame[place] = value;
            }
            if mend {
                frame[24..26].fill(0);
                let checksum = !checksum::sum(&frame[14..34]);
                frame[24..26].copy_from_slice(&checksum.to_be_bytes());
            }
            frame.truncate(cut.max(1));
            let mut flow = Flow::default();
            if parse_usual(&frame, &port, &mut flow) {
                prop_assert_eq!(parse_any(&frame, &port), Parsed::Flow(flow));
            } else if let Parsed::Flow(flow) = parse_any(&frame, &port) {
                prop_assert!(flow.layout.l4 != 34, "{flow:?} is a usual one");
            }
        }
    }
}

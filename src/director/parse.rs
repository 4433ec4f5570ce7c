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
#[inline(always)]
pub fn parse(frame: &[u8], port: &Port) -> Parsed {
    match parse_usual(frame, port) {
        Some(flow) => Parsed::Flow(flow),
        None => parse_any(frame, port),
    }
}

/// What nearly all frames are: a TCP segment or UDP datagram to this port, whole, correct, and without IP options.
/// None for every other, and never another flow than [`parse_any`] finds.
#[inline(always)]
fn parse_usual(frame: &[u8], port: &Port) -> Option<Flow> {
    // The headers as far as UDP's end; TCP's is longer.
    let header = frame.first_chunk::<{ IP + 20 + 8 }>()?;
    let at = |place: usize| u16::from_be_bytes([header[place], header[place + 1]]);
    let to_us = header[..6] == port.mac.0 || port.any_mac && header[0] & 1 == 0;
    let [a, b, c, d] = [header[12], header[13], header[14], 0];
    let is_plain_ipv4 = u32::from_ne_bytes([a, b, c, d]) == u32::from_ne_bytes([0x08, 0, 0x45, 0]);
    let length = at(IP + 2);
    let is_whole = at(IP + 6) & 0x3fff == 0 && IP + usize::from(length) <= frame.len();
    let ip = header[IP..].first_chunk::<20>()?;
    if !(to_us && is_plain_ipv4 && is_whole && checksum::is_header_right(ip))
        || is_bad_source(ip[12])
    {
        return None;
    }
    let room = length.checked_sub(20)?;
    let protocol = ip[9];
    let flags = if protocol == PROTOCOL_UDP {
        let length = at(IP + 20 + 4);
        if length.wrapping_sub(8) > room.checked_sub(8)? {
            return None;
        }
        Flags(0)
    } else if protocol == PROTOCOL_TCP {
        let tcp = frame[IP + 20..].first_chunk::<20>()?;
        let length = u16::from(tcp[12] >> 4) * 4;
        if length < 20 || length > room {
            return None;
        }
        Flags(tcp[13])
    } else {
        return None;
    };
    let addresses = *ip[12..].first_chunk::<8>()?;
    let ports = *header[IP + 20..].first_chunk::<4>()?;
    Some(Flow {
        key: FlowKey::from_wire(addresses, ports, protocol),
        layout: Layout {
            ip: IP as u8,
            l4: (IP + 20) as u8,
        },
        flags,
        ttl: ip[8],
        length,
    })
}

/// RFC 1122 section 3.2.1.3: what may not be a source address, by its first byte. 240/4 is reserved, and no one's
/// either.
#[inline(always)]
fn is_bad_source(first: u8) -> bool {
    // 0 is the largest of all after the subtraction.
    first.wrapping_sub(1) >= 223 || first == 127
}

#[inline(never)]
fn parse_any(frame: &[u8], port: &Port) -> Parsed {
    let Some(header) = frame.first_chunk::<IP>() else {
        return Parsed::Bad(DropReason::Truncated);
    };
    let to_all = header[0] & 1 != 0;
    if header[..6] != port.mac.0 && !to_all && !port.any_mac {
        return Parsed::Bad(DropReason::OtherHost);
    }
    match u16::from_be_bytes([header[12], header[13]]) {
        // RFC 1122 section 3.3.6: a unicast IP packet in a broadcast frame is dropped.
        ethernet::ETHERTYPE_IPV4 if to_all => Parsed::Bad(DropReason::OtherHost),
        ethernet::ETHERTYPE_IPV4 => parse_ipv4(frame),
        ethernet::ETHERTYPE_ARP => Parsed::Arp,
        ethernet::ETHERTYPE_IPV6 => Parsed::Bad(DropReason::Ipv6),
        ethernet::ETHERTYPE_VLAN | ethernet::ETHERTYPE_QINQ => Parsed::Bad(DropReason::Vlan),
        _ => Parsed::Bad(DropReason::UnknownEthertype),
    }
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
    let addresses = [
        ip[12], ip[13], ip[14], ip[15], ip[16], ip[17], ip[18], ip[19],
    ];
    let key = FlowKey::from_wire(addresses, *ports, protocol);
    Parsed::Flow(Flow {
        key,
        layout,
        flags,
        ttl: ip[8],
        length,
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
            let port = Port { name: "wan".into(), mac: MAC, any_mac, mtu: 1500, addresses: Box::default() };
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
            if let Some(flow) = parse_usual(&frame, &port) {
                prop_assert_eq!(parse_any(&frame, &port), Parsed::Flow(flow));
            } else if let Parsed::Flow(flow) = parse_any(&frame, &port) {
                prop_assert!(flow.layout.l4 != 34, "{flow:?} is a usual one");
            }
        }
    }
}

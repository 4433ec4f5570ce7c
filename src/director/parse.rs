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

#[inline(always)]
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
    // RFC 1122 section 3.2.1.3: what may not be a source address. 240/4 is reserved, and no one's either.
    if matches!(ip[12], 0 | 127 | 224..) {
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

//! A packet as the simulated hosts see it, and its frame on the wire.

use super::setup::real_address;
use std::net::Ipv4Addr;
use weir::units::PortId;
use weir::wire::checksum::{fold, partial, pseudo_header_v4};
use weir::wire::{Mac, arp};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
/// A number that is no IP protocol's stands for it.
pub const ARP: u8 = 255;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
/// The data of a segment or datagram that has any: one number.
pub const DATA: u32 = 8;

pub type Address = (Ipv4Addr, u16);

/// A TCP segment, a UDP datagram, an ICMP echo, whose ports are the identifier, or an ARP packet, whose ports are 0 and whose
/// flags are the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: Address,
    pub destination: Address,
    pub protocol: u8,
    pub flags: u8,
    pub sequence: u32,
    pub acknowledged: u32,
    pub data: Option<u64>,
}

impl Packet {
    pub fn tcp(source: Address, destination: Address, flags: u8, sequence: u32, ack: u32) -> Self {
        Packet {
            source,
            destination,
            protocol: TCP,
            flags,
            sequence,
            acknowledged: ack,
            data: None,
        }
    }

    pub fn udp(source: Address, destination: Address, data: u64) -> Self {
        Packet {
            protocol: UDP,
            data: Some(data),
            ..Packet::tcp(source, destination, 0, 0, 0)
        }
    }

    /// An echo request with this identifier.
    pub fn echo(source: Address, destination: Ipv4Addr) -> Self {
        Packet {
            protocol: ICMP,
            ..Packet::tcp(source, (destination, source.1), 0, 0, 0)
        }
    }

    /// Asks for the MAC address of `target`.
    pub fn arp_request(sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        Packet {
            protocol: ARP,
            ..Packet::tcp((sender, 0), (target, 0), arp::REQUEST as u8, 0, 0)
        }
    }

    /// An answer to an ARP request.
    pub fn arp_answer(&self) -> Self {
        Packet {
            protocol: ARP,
            ..Packet::tcp(self.destination, self.source, arp::REPLY as u8, 0, 0)
        }
    }

    pub fn with(mut self, data: u64) -> Self {
        self.data = Some(data);
        self
    }

    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// The sequence number after it.
    pub fn end(&self) -> u32 {
        let length =
            self.data.map_or(0, |_| DATA) + u32::from(self.has(SYN)) + u32::from(self.has(FIN));
        self.sequence.wrapping_add(length)
    }

    /// A reset that answers it (RFC 9293 section 3.10.7.1).
    pub fn refusal(&self) -> Packet {
        let (flags, sequence, acknowledged) = match self.has(ACK) {
            true => (RST, self.acknowledged, 0),
            false => (RST | ACK, 0, self.end()),
        };
        Packet::tcp(self.destination, self.source, flags, sequence, acknowledged)
    }

    /// The frame in which it comes to a port of weir.
    pub fn frame(&self, port: PortId) -> Vec<u8> {
        if self.protocol == ARP {
            return self.arp_frame(port);
        }
        let mut l4 = Vec::with_capacity(32);
        if self.protocol != ICMP {
            l4.extend(self.source.1.to_be_bytes());
            l4.extend(self.destination.1.to_be_bytes());
        }
        let checksum_at = match self.protocol {
            TCP => {
                l4.extend(self.sequence.to_be_bytes());
                l4.extend(self.acknowledged.to_be_bytes());
                l4.extend([0x50, self.flags, 0x20, 0, 0, 0, 0, 0]);
                16
            }
            UDP => {
                l4.extend([0, 8 + DATA as u8, 0, 0]);
                6
            }
            _ => {
                l4.extend([8, 0, 0, 0]);
                l4.extend(self.source.1.to_be_bytes());
                l4.extend([0, 1]);
                2
            }
        };
        if let Some(data) = self.data {
            l4.extend(data.to_be_bytes());
        }
        let (source, destination) = (self.source.0, self.destination.0);
        let pseudo = match self.protocol {
            ICMP => 0,
            protocol => pseudo_header_v4(source, destination, protocol, l4.len() as u16),
        };
        let sum = !fold(pseudo + partial(&l4));
        l4[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
        let length = (IPV4 + l4.len()) as u16;
        let mut frame = Vec::with_capacity(ETHERNET + usize::from(length));
        frame.extend(weir_mac(port).0);
        frame.extend(outside_mac(port).0);
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([0, 7, 0x40, 0, 64, self.protocol, 0, 0]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        let sum = !fold(partial(&frame[ETHERNET..]));
        frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
        frame.extend(l4);
        frame
    }

    fn arp_frame(&self, port: PortId) -> Vec<u8> {
        let operation = u16::from(self.flags);
        let is_request = operation == arp::REQUEST;
        let repr = arp::Repr {
            operation,
            sender_mac: host_mac(self.source.0),
            sender_ip: self.source.0,
            target_mac: if is_request {
                Mac::default()
            } else {
                weir_mac(port)
            },
            target_ip: self.destination.0,
        };
        let to = if is_request {
            Mac::BROADCAST
        } else {
            weir_mac(port)
        };
        let mut payload = [0; arp::LEN];
        repr.emit(&mut payload);
        [&to.0[..], &repr.sender_mac.0, &[8, 6], &payload].concat()
    }

    /// A frame that weir sent; none of what is no packet of these kinds.
    pub fn parse(frame: &[u8]) -> Option<Packet> {
        if frame.get(12..14)? == [8, 6] {
            let repr = arp::Repr::parse(frame.get(14..)?)?;
            let (sender, target) = ((repr.sender_ip, 0), (repr.target_ip, 0));
            let packet = Packet::tcp(sender, target, repr.operation as u8, 0, 0);
            return Some(Packet {
                protocol: ARP,
                ..packet
            });
        }
        if frame.get(12..15)? != [8, 0, 0x45] {
            return None;
        }
        let address = |at: usize| Some(Ipv4Addr::from(*frame.get(at..)?.first_chunk::<4>()?));
        let half = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
        let word = |at: usize| Some(u32::from_be_bytes(*frame.get(at..)?.first_chunk()?));
        let (source, destination) = (address(26)?, address(30)?);
        let end = ETHERNET + usize::from(half(16)?);
        let data = |at: usize| match at + DATA as usize <= end {
            true => Some(u64::from_be_bytes(*frame.get(at..)?.first_chunk()?)),
            false => None,
        };
        let protocol = frame[23];
        let mut packet = Packet::tcp((source, half(34)?), (destination, half(36)?), 0, 0, 0);
        packet.protocol = protocol;
        match protocol {
            TCP => {
                packet.sequence = word(38)?;
                packet.acknowledged = word(42)?;
                packet.flags = *frame.get(47)?;
                packet.data = data(54);
            }
            UDP => packet.data = data(42),
            // An echo reply.
            ICMP if frame.get(34) == Some(&0) => {
                (packet.source.1, packet.destination.1) = (half(38)?, half(38)?);
            }
            _ => return None,
        }
        Some(packet)
    }
}

/// The port towards the clients.
pub const WAN: PortId = PortId(0);
/// The port towards the real servers.
pub const LAN: PortId = PortId(1);

pub fn weir_mac(port: PortId) -> Mac {
    Mac([0x02, b'w', b'e', b'i', b'r', 1 + port.0])
}

/// What sends to that port: the router, or any of the real servers, since replies are not told apart by it.
fn outside_mac(port: PortId) -> Mac {
    match port {
        WAN => ROUTER_MAC,
        _ => real_mac(0),
    }
}

pub const ROUTER_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);

pub fn real_mac(n: usize) -> Mac {
    host_mac(real_address(n))
}

/// Of a host on a link of weir's.
fn host_mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    Mac([2, 1, a, b, c, d])
}

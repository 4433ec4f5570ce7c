//! A packet as the simulated hosts see it, and its frame on the wire.

use super::setup::real_address;
use std::net::Ipv4Addr;
pub use weir::net::protocol::{ICMP, TCP, UDP};
use weir::net::{Mac, ethertype};
use weir::units::PortId;
use weir::wire::ethernet::Ethernet;
use weir::wire::icmp::Icmp;
use weir::wire::ipv4::Ipv4;
use weir::wire::tcp::{Flags, Tcp};
use weir::wire::udp::Udp;
use weir::wire::{arp, ethernet, icmp, ipv4, tcp, udp};

/// A number that is no IP protocol's stands for it.
pub const ARP: u8 = 255;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

const ETHERNET: usize = ethernet::HEADER_LEN;
const IPV4: usize = ipv4::HEADER_LEN;
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
        let header = match self.protocol {
            TCP => tcp::HEADER_LEN,
            UDP => udp::HEADER_LEN,
            _ => icmp::HEADER_LEN,
        };
        let data = self.data.map(u64::to_be_bytes);
        let mut frame = vec![0; ETHERNET + IPV4 + header];
        frame.extend(data.iter().flatten());
        ethernet::emit(
            &mut frame,
            weir_mac(port),
            outside_mac(port),
            ethertype::IPV4,
        );
        let ip = ipv4::Repr {
            identification: 7,
            dont_fragment: true,
            ..ipv4::Repr::new(self.source.0, self.destination.0, self.protocol)
        };
        ip.emit(&mut frame[ETHERNET..]);
        let l4 = &mut frame[ETHERNET + IPV4..];
        let pseudo = ip.pseudo_header(l4.len() as u16);
        let (source_port, destination_port) = (self.source.1, self.destination.1);
        let written = match self.protocol {
            TCP => tcp::Repr {
                source_port,
                destination_port,
                sequence: self.sequence,
                acknowledged: self.acknowledged,
                flags: Flags(self.flags),
                window: 0x2000,
            }
            .emit(l4, pseudo),
            UDP => udp::Repr {
                source_port,
                destination_port,
            }
            .emit(l4, pseudo),
            _ => icmp::Repr {
                kind: icmp::ECHO_REQUEST,
                code: 0,
                rest: u32::from(source_port) << 16 | 1,
            }
            .emit(l4),
        };
        written.expect("a frame with room for its headers");
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
        let mut frame = vec![0; ETHERNET + arp::LEN];
        ethernet::emit(&mut frame, to, repr.sender_mac, ethertype::ARP);
        repr.emit(&mut frame[ETHERNET..]);
        frame
    }

    /// A frame that weir sent; none of what is no packet of these kinds.
    pub fn parse(frame: &[u8]) -> Option<Packet> {
        let frame = Ethernet::new_checked(frame).ok()?;
        if frame.ethertype() == ethertype::ARP {
            let repr = arp::Repr::parse(frame.payload()).ok()?;
            let (sender, target) = ((repr.sender_ip, 0), (repr.target_ip, 0));
            let packet = Packet::tcp(sender, target, repr.operation as u8, 0, 0);
            return Some(Packet {
                protocol: ARP,
                ..packet
            });
        }
        let ip = (frame.ethertype() == ethertype::IPV4).then(|| Ipv4::new_checked(frame.payload()));
        let ip = ip?.ok()?;
        let data = |payload: &[u8]| payload.first_chunk().copied().map(u64::from_be_bytes);
        let ends = |source, destination| ((ip.source(), source), (ip.destination(), destination));
        Some(match ip.protocol() {
            TCP => {
                let tcp = Tcp::new_checked(ip.payload()).ok()?;
                let (source, destination) = ends(tcp.source_port(), tcp.destination_port());
                let (sequence, acknowledged) = (tcp.sequence(), tcp.acknowledged());
                Packet {
                    data: data(tcp.payload()),
                    ..Packet::tcp(source, destination, tcp.flags().0, sequence, acknowledged)
                }
            }
            UDP => {
                let udp = Udp::new_checked(ip.payload()).ok()?;
                let (source, destination) = ends(udp.source_port(), udp.destination_port());
                Packet {
                    protocol: UDP,
                    data: data(udp.payload()),
                    ..Packet::tcp(source, destination, 0, 0, 0)
                }
            }
            ICMP => {
                let message = Icmp::new_checked(ip.payload()).ok()?;
                let identifier = message.identifier();
                let (source, destination) = ends(identifier, identifier);
                let reply = Packet {
                    protocol: ICMP,
                    ..Packet::tcp(source, destination, 0, 0, 0)
                };
                (message.kind() == icmp::ECHO_REPLY).then_some(reply)?
            }
            _ => return None,
        })
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

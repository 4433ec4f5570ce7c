//! A packet as the simulated hosts see it, and its frame on the wire.

use crate::net::{Mac, ethertype, protocol};
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::gre::Gre;
use crate::wire::gue::Gue;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::tcp::{self, Flags, Tcp};
use crate::wire::udp::{self, Udp};
use std::net::{IpAddr, SocketAddr};

pub(super) const FIN: u8 = Flags::FIN;
pub(super) const SYN: u8 = Flags::SYN;
pub(super) const RST: u8 = Flags::RST;
pub(super) const ACK: u8 = Flags::ACK;

/// What a question or an answer says: whose it is, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// The number of the connection among all of the simulation.
    pub(super) connection: u32,
    pub(super) number: u16,
}

/// Bytes of what is said.
pub(super) const LENGTH: u32 = 8;

impl Said {
    fn to_bytes(self) -> [u8; LENGTH as usize] {
        let word = u64::from(self.connection) << 32 | u64::from(self.number) << 16;
        (word | u64::from(check(word))).to_be_bytes()
    }

    /// None: something else, such as a PROXY header.
    fn from_bytes(bytes: [u8; LENGTH as usize]) -> Option<Said> {
        let word = u64::from_be_bytes(bytes);
        let (said, sum) = (word & !0xffff, word as u16);
        (check(said) == sum).then_some(Said {
            connection: (word >> 32) as u32,
            number: (word >> 16) as u16,
        })
    }
}

/// Tells what is said from any other bytes.
fn check(word: u64) -> u16 {
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16
}

/// A TCP segment or a UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) is_tcp: bool,
    pub(super) flags: u8,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    /// Bytes of its payload, at whose end is what it says.
    pub(super) length: u32,
    pub(super) said: Option<Said>,
    /// Of its DSCP field.
    pub(super) dscp: u8,
}

impl Packet {
    pub(super) fn tcp(
        from: SocketAddr,
        to: SocketAddr,
        flags: u8,
        sequence: u32,
        ack: u32,
    ) -> Self {
        Packet {
            source: from,
            destination: to,
            is_tcp: true,
            flags,
            sequence,
            acknowledged: ack,
            length: 0,
            said: None,
            dscp: 0,
        }
    }

    pub(super) fn udp(from: SocketAddr, to: SocketAddr, said: Said) -> Self {
        let packet = Packet {
            is_tcp: false,
            ..Packet::tcp(from, to, 0, 0, 0)
        };
        packet.saying(said)
    }

    pub(super) fn saying(self, said: Said) -> Self {
        Packet {
            length: LENGTH,
            said: Some(said),
            ..self
        }
    }

    pub(super) fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// The sequence number after it.
    pub(super) fn end(&self) -> u32 {
        let flags = u32::from(self.has(SYN)) + u32::from(self.has(FIN));
        self.sequence.wrapping_add(self.length + flags)
    }

    /// The reset that answers a segment of no connection (RFC 9293 section 3.10.7.1).
    pub(super) fn refusal(&self) -> Packet {
        let (flags, sequence, acknowledged) = match self.has(ACK) {
            true => (RST, self.acknowledged, 0),
            false => (RST | ACK, 0, self.end()),
        };
        Packet::tcp(self.destination, self.source, flags, sequence, acknowledged)
    }

    /// The frame in which it comes to a station with that address. None: its addresses are of different families.
    pub(super) fn frame(&self, to: Mac, from: Mac) -> Option<Vec<u8>> {
        let header = match self.is_tcp {
            true => tcp::HEADER_LEN,
            false => udp::HEADER_LEN,
        };
        let ip = match self.source {
            SocketAddr::V4(_) => ipv4::HEADER_LEN,
            SocketAddr::V6(_) => ipv6::HEADER_LEN,
        };
        let mut frame = vec![0; ethernet::HEADER_LEN + ip + header];
        frame.extend(self.said.map(Said::to_bytes).into_iter().flatten());
        let packet = &mut frame[ethernet::HEADER_LEN..];
        let (kind, pseudo) = self.emit_ip(packet)?;
        self.emit_upper(&mut packet[ip..], pseudo)?;
        ethernet::emit(&mut frame, to, from, kind)?;
        Some(frame)
    }

    /// The EtherType, and the sum of the pseudo header.
    fn emit_ip(&self, packet: &mut [u8]) -> Option<(u16, u64)> {
        let kind = match self.is_tcp {
            true => protocol::TCP,
            false => protocol::UDP,
        };
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let ip = ipv4::Repr::new(source, destination, kind);
                ip.emit(packet)?;
                let upper = packet.len().checked_sub(ipv4::HEADER_LEN)?;
                Some((ethertype::IPV4, ip.pseudo_header(upper as u16)))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let ip = ipv6::Repr::new(source, destination, kind);
                ip.emit(packet)?;
                let upper = packet.len().checked_sub(ipv6::HEADER_LEN)?;
                Some((ethertype::IPV6, ip.pseudo_header(upper as u32)))
            }
            _ => None,
        }
    }

    fn emit_upper(&self, upper: &mut [u8], pseudo: u64) -> Option<()> {
        let (source_port, destination_port) = (self.source.port(), self.destination.port());
        match self.is_tcp {
            true => tcp::Repr {
                source_port,
                destination_port,
                sequence: self.sequence,
                acknowledged: self.acknowledged,
                flags: Flags(self.flags),
                window: 0x2000,
            }
            .emit(upper, pseudo),
            false => udp::Repr {
                source_port,
                destination_port,
            }
            .emit(upper, pseudo),
        }
    }

    /// A frame that a director sent, and the destination of its outermost IP header; none of what is no packet of these
    /// kinds, or has a wrong checksum.
    pub(super) fn parse(frame: &[u8]) -> Option<(Packet, IpAddr)> {
        let frame = Ethernet::new_checked(frame).ok()?;
        let packet = frame.payload();
        let outer = match frame.ethertype() {
            ethertype::IPV4 => Ipv4::new_checked(packet).ok()?.destination().into(),
            ethertype::IPV6 => Ipv6::new_checked(packet).ok()?.destination().into(),
            _ => return None,
        };
        Some((ip(packet, &mut 0)?, outer))
    }
}

/// How deep packets may be wrapped.
const MOST_DEEP: u8 = 2;

/// An IP packet, whatever it is wrapped in. `depth`: how often it was taken out already.
fn ip(packet: &[u8], depth: &mut u8) -> Option<Packet> {
    *depth += 1;
    if *depth > MOST_DEEP {
        return None;
    }
    match packet.first()? >> 4 {
        4 => {
            let ip = Ipv4::new_checked(packet).ok()?;
            if !ip.is_header_right() {
                return None;
            }
            let ends = (ip.source().into(), ip.destination().into());
            let payload = ip.payload();
            let pseudo = ip.pseudo_header(payload.len() as u16);
            upper(ends, ip.protocol(), payload, pseudo, depth, ip.tos() >> 2)
        }
        _ => {
            let ip = Ipv6::new_checked(packet).ok()?;
            let ends = (ip.source().into(), ip.destination().into());
            let payload = ip.payload();
            let (kind, length) = (ip.next_header(), payload.len() as u32);
            let pseudo = ip.pseudo_header(kind, length);
            upper(ends, kind, payload, pseudo, depth, ip.traffic_class() >> 2)
        }
    }
}

fn upper(
    (source, destination): (IpAddr, IpAddr),
    kind: u8,
    payload: &[u8],
    pseudo: u64,
    depth: &mut u8,
    dscp: u8,
) -> Option<Packet> {
    let ends = |from, to| {
        (
            SocketAddr::new(source, from),
            SocketAddr::new(destination, to),
        )
    };
    let said = |payload: &[u8]| payload.last_chunk().copied().and_then(Said::from_bytes);
    match kind {
        protocol::TCP => {
            let tcp = Tcp::new_checked(payload).ok()?;
            if !tcp.is_checksum_right(pseudo) {
                return None;
            }
            let (from, to) = ends(tcp.source_port(), tcp.destination_port());
            let (sequence, acknowledged) = (tcp.sequence(), tcp.acknowledged());
            Some(Packet {
                length: tcp.payload().len() as u32,
                said: said(tcp.payload()),
                dscp,
                ..Packet::tcp(from, to, tcp.flags().0, sequence, acknowledged)
            })
        }
        protocol::UDP => {
            let udp = Udp::new_checked(payload).ok()?;
            if !udp.is_checksum_right(pseudo) {
                return None;
            }
            let wrapped = match Gue::new_checked(udp.payload()) {
                Ok(
                    Gue::Plain(packet)
                    | Gue::Header {
                        payload: packet, ..
                    },
                ) => ip(packet, depth),
                Err(_) => None,
            };
            if wrapped.is_some() {
                return wrapped;
            }
            let (from, to) = ends(udp.source_port(), udp.destination_port());
            Some(Packet {
                is_tcp: false,
                length: udp.payload().len() as u32,
                said: said(udp.payload()),
                dscp,
                ..Packet::tcp(from, to, 0, 0, 0)
            })
        }
        protocol::GRE => ip(Gre::new_checked(payload).ok()?.payload(), depth),
        protocol::IPIP | protocol::IPV6 => ip(payload, depth),
        _ => None,
    }
}

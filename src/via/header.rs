//! What is looked at of a check's packet, or of the answer to one.

use crate::conn::{Address, Key};
use crate::net::{ethertype, protocol};
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::icmp::{self, Icmp};
use crate::wire::icmpv6::{self, Icmpv6};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use std::net::IpAddr;

/// A packet's addresses and ports. An echo request has its identifier as the source's port, its reply as the destination's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    pub source: (IpAddr, u16),
    pub destination: (IpAddr, u16),
    pub protocol: u8,
}

impl Ends {
    pub(super) fn reversed(self) -> Ends {
        Ends {
            source: self.destination,
            destination: self.source,
            ..self
        }
    }

    /// As the key of a connection of that family.
    pub(super) fn key<K: Key>(&self) -> Option<K> {
        Some(K::new(
            K::Address::of(self.source.0)?,
            self.source.1,
            K::Address::of(self.destination.0)?,
            self.destination.1,
            self.protocol,
        ))
    }

    pub(super) fn is_icmp(&self) -> bool {
        [protocol::ICMP, protocol::ICMPV6].contains(&self.protocol)
    }
}

/// What a frame's packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// TCP, UDP, an echo request or reply.
    Whole(Ends),
    /// An ICMP error: the ends of the packet that it quotes, and the length of that one's IP headers.
    Error(Ends, usize),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub kind: Kind,
    pub destination: IpAddr,
    /// Where what follows the IP headers is in the frame.
    pub l4: u16,
    /// Of the IP packet.
    pub length: u16,
    pub ttl: u8,
}

/// Reads a frame. None of anything but a whole packet that may be a check's or its answer.
pub(super) fn read(frame: &[u8]) -> Option<Header> {
    match Ethernet::new_checked(frame).ok()?.ethertype() {
        ethertype::IPV4 => read_v4(frame),
        ethertype::IPV6 => read_v6(frame),
        _ => None,
    }
}

/// The addresses of a frame's packet, whatever is in it.
pub(super) fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    if let Some(ip) = ipv4::in_frame(frame) {
        return Some((ip.source().into(), ip.destination().into()));
    }
    let ip = ipv6::in_frame(frame)?;
    Some((ip.source().into(), ip.destination().into()))
}

fn read_v4(frame: &[u8]) -> Option<Header> {
    let ip = ipv4::in_frame(frame)?;
    if ip.is_fragment() {
        return None;
    }
    let (source, destination): (IpAddr, IpAddr) = (ip.source().into(), ip.destination().into());
    let ends = |(from, to)| Ends {
        source: (source, from),
        destination: (destination, to),
        protocol: ip.protocol(),
    };
    let kind = match ip.protocol() {
        protocol::ICMP => {
            let message = Icmp::new_checked(ip.payload()).ok()?;
            match message.kind() {
                icmp::ECHO_REQUEST => Kind::Whole(ends((message.identifier(), 0))),
                icmp::ECHO_REPLY => Kind::Whole(ends((0, message.identifier()))),
                _ => {
                    let quoted = Ipv4::new_quoted(message.quote()?.packet).ok()?;
                    let (from, to) = quoted.quoted_ports()?;
                    let ends = Ends {
                        source: (quoted.source().into(), from),
                        destination: (quoted.destination().into(), to),
                        protocol: quoted.protocol(),
                    };
                    Kind::Error(ends, quoted.header_len())
                }
            }
        }
        protocol::TCP | protocol::UDP => Kind::Whole(ends(ip.ports()?)),
        _ => return None,
    };
    Some(Header {
        kind,
        destination,
        l4: (ethernet::HEADER_LEN + ip.header_len()) as u16,
        length: ip.total_length(),
        ttl: ip.ttl(),
    })
}

fn read_v6(frame: &[u8]) -> Option<Header> {
    let ip = ipv6::in_frame(frame)?;
    let upper = ip.upper_layer().ok()?;
    if upper.is_fragment() {
        return None;
    }
    let (source, destination): (IpAddr, IpAddr) = (ip.source().into(), ip.destination().into());
    let ends = |(from, to)| Ends {
        source: (source, from),
        destination: (destination, to),
        protocol: upper.protocol,
    };
    let kind = match upper.protocol {
        protocol::ICMPV6 => {
            let message = Icmpv6::new_checked(upper.payload).ok()?;
            match message.kind() {
                icmpv6::ECHO_REQUEST => Kind::Whole(ends((message.identifier(), 0))),
                icmpv6::ECHO_REPLY => Kind::Whole(ends((0, message.identifier()))),
                _ => {
                    let quoted = Ipv6::new_quoted(message.quote()?.packet).ok()?;
                    let inner = quoted.upper_layer().ok()?;
                    let (from, to) = inner.quoted_ports()?;
                    let ends = Ends {
                        source: (quoted.source().into(), from),
                        destination: (quoted.destination().into(), to),
                        protocol: inner.protocol,
                    };
                    Kind::Error(ends, ipv6::HEADER_LEN + inner.extensions)
                }
            }
        }
        protocol::TCP | protocol::UDP => Kind::Whole(ends(upper.ports()?)),
        _ => return None,
    };
    Some(Header {
        kind,
        destination,
        l4: (ethernet::HEADER_LEN + ipv6::HEADER_LEN + upper.extensions) as u16,
        length: ip.payload_length() + ipv6::HEADER_LEN as u16,
        ttl: ip.hop_limit(),
    })
}

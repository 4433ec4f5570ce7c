//! Brings a client's packet to a real server anywhere: wraps it whole in another IP packet, in place, or says the VIP by the
//! DSCP (l3dsr). Of the packet inside only the TTL changes.

use super::identification::Identifications;
use super::rewrite::decrement_ttl;
use crate::config::{Encapsulation, GueVariant, ModeConfig, TunnelConfig};
use crate::net::{self, ethertype, protocol};
use crate::packet::Packet;
use crate::wire::checksum::Delta;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{checksum, ethernet, gre, gue, udp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const IP: usize = ethernet::HEADER_LEN;
/// Of an IPv4 header's second word.
const DONT_FRAGMENT: u64 = 0x40 << 16;
/// RFC 6335 section 6: the dynamic ports, of which the outer UDP header has one as its source.
const FIRST_SOURCE_PORT: u16 = 49_152;

/// What is done to the packets for a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Another IP header before them, and what belongs between.
    Wrapped(TunnelConfig),
    /// Their DSCP says which VIP they were sent to.
    Marked { dscp: u8 },
}

impl Via {
    /// Of a mode that brings packets to real servers in such a way.
    pub fn of(mode: &ModeConfig) -> Option<Via> {
        match mode {
            ModeConfig::Tunnel(tunnel) => Some(Via::Wrapped(*tunnel)),
            ModeConfig::L3dsr { dscp } => Some(Via::Marked { dscp: *dscp }),
            ModeConfig::Dr | ModeConfig::Nat | ModeConfig::Fullnat { .. } => None,
        }
    }
}

/// The way to one real server, and the headers that are put before its packets: all but what differs from one packet to the
/// next is made once, with the tables. What a packet needs is in the first cache line. Words have the bytes of the wire, the
/// first one lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Tunnel {
    headers: Headers,
    /// The first bytes between the outer IP header and the packet inside: of GRE, or of UDP.
    between: u64,
    /// Those of GUE behind the ones of UDP.
    last: u32,
    /// How many there are.
    between_len: u8,
    /// The UDP header has a checksum.
    has_checksum: bool,
    overhead: u16,
    /// The real server.
    pub destination: IpAddr,
    pub via: Via,
}

/// An outer IP header. A source that is unspecified is the out port's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Headers {
    V4 {
        /// TTL, protocol, an empty checksum, and room for the source.
        middle: u64,
        /// Of all words that are the same in each header.
        sum: u64,
        source: Ipv4Addr,
        destination: u32,
    },
    V6 {
        /// Next header and hop limit, at the end of the first word.
        first: u64,
        source: Ipv6Addr,
        destination: [u8; 16],
    },
}

impl Headers {
    fn new(source: Option<IpAddr>, destination: IpAddr, protocol: u8) -> Self {
        match destination {
            IpAddr::V4(destination) => {
                let destination = u32::from_le_bytes(destination.octets());
                let middle = u32::from_le_bytes([ipv4::DEFAULT_TTL, protocol, 0, 0]).into();
                Headers::V4 {
                    middle,
                    sum: VERSION_4 + middle + u64::from(destination),
                    source: source.map_or(Ipv4Addr::UNSPECIFIED, net::ipv4),
                    destination,
                }
            }
            IpAddr::V6(destination) => Headers::V6 {
                first: u64::from_le_bytes([0, 0, 0, 0, 0, 0, protocol, ipv4::DEFAULT_TTL]),
                source: match source {
                    Some(IpAddr::V6(source)) => source,
                    _ => Ipv6Addr::UNSPECIFIED,
                },
                destination: destination.octets(),
            },
        }
    }
}

/// The first byte of an IPv4 header without options.
const VERSION_4: u64 = 0x45;

impl Tunnel {
    /// `is_v6`: of the packets inside.
    pub fn new(via: Via, destination: IpAddr, is_v6: bool) -> Self {
        let ip = match destination {
            IpAddr::V4(_) => ipv4::HEADER_LEN,
            IpAddr::V6(_) => ipv6::HEADER_LEN,
        };
        let number = match is_v6 {
            true => protocol::IPV6,
            false => protocol::IPIP,
        };
        let (mut bytes, mut has_checksum) = ([0; udp::HEADER_LEN + gue::HEADER_LEN], false);
        let (source, protocol, len) = match &via {
            Via::Marked { .. } => (None, 0, 0),
            Via::Wrapped(config) => {
                let protocol = match config.encapsulation {
                    Encapsulation::Ipip => number,
                    Encapsulation::Gre => {
                        let protocol = match is_v6 {
                            true => ethertype::IPV6,
                            false => ethertype::IPV4,
                        };
                        gre::Repr { protocol }.emit(&mut bytes);
                        protocol::GRE
                    }
                    Encapsulation::Gue {
                        port,
                        variant,
                        zero_checksum,
                    } => {
                        let udp = udp::Repr {
                            source_port: FIRST_SOURCE_PORT,
                            destination_port: port,
                        };
                        udp.emit_without_checksum(&mut bytes);
                        if variant == GueVariant::Header {
                            gue::Repr { protocol: number }.emit(&mut bytes[udp::HEADER_LEN..]);
                        }
                        // RFC 6935 section 5: over IPv6 it is there unless both ends were told to leave it out.
                        has_checksum = destination.is_ipv6() && !zero_checksum;
                        protocol::UDP
                    }
                };
                (config.source, protocol, between(config.encapsulation))
            }
        };
        let overhead = match &via {
            Via::Wrapped(_) => (ip + len) as u16,
            Via::Marked { .. } => 0,
        };
        // The length of UDP is each packet's.
        let [a, b, c, d, e, f, g, h, last @ ..] = bytes;
        let [e, f] = if len < udp::HEADER_LEN {
            [e, f]
        } else {
            [0; 2]
        };
        Tunnel {
            headers: Headers::new(source, destination, protocol),
            between: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            last: u32::from_le_bytes(last),
            between_len: len as u8,
            has_checksum,
            overhead,
            destination,
            via,
        }
    }

    /// The bytes that are put before a packet: none before one that is marked.
    #[inline(always)]
    pub fn overhead(&self) -> u16 {
        self.overhead
    }

    /// Wraps a packet that begins where [`make_room`] has left it in its frame: writes all but the MAC addresses, and takes one
    /// from the TTL. None, and nothing is changed, if weir has no address that it could come from, or if the whole would be longer
    /// than an IP packet may be.
    ///
    /// The packet must have passed [`crate::director::parse`], and its TTL must be above 1.
    #[inline(always)]
    pub fn wrap(
        &self,
        frame: &mut [u8],
        inner: Inner,
        outer: Outer<'_>,
        identifications: &mut Identifications,
    ) -> Option<()> {
        let start = IP + usize::from(self.overhead);
        let (before, packet) = frame.split_at_mut_checked(start)?;
        let inside = packet.len() + usize::from(self.between_len);
        let between = match &self.headers {
            Headers::V4 {
                middle,
                sum,
                source,
                destination,
            } => {
                let source = match source.is_unspecified() {
                    true => outer.sources.v4?,
                    false => *source,
                };
                let length = u16::try_from(inside + ipv4::HEADER_LEN).ok()?;
                let (headers, between) =
                    before.split_first_chunk_mut::<{ IP + ipv4::HEADER_LEN }>()?;
                let (class, dont_fragment) = age(packet, inner.is_v6)?;
                // RFC 6864 section 4: only what may be fragmented needs a number of its own.
                let second = match dont_fragment && !outer.is_fragmented {
                    true => DONT_FRAGMENT,
                    false => identifications.take().to_be().into(),
                };
                let rest = u64::from(class) << 8 | u64::from(length.to_be()) << 16;
                let source = u64::from(u32::from_le_bytes(source.octets()));
                let checksum = !checksum::fold_few(sum + rest + second + source);
                let first = VERSION_4 | rest | second << 32;
                let middle = middle | u64::from(checksum) << 16 | source << 32;
                let headers = put(&mut headers[12..], ethertype::IPV4.to_be_bytes())?;
                let headers = put(headers, first.to_le_bytes())?;
                let headers = put(headers, middle.to_le_bytes())?;
                put(headers, destination.to_le_bytes())?;
                between
            }
            Headers::V6 {
                first,
                source,
                destination,
            } => {
                let source = match source.is_unspecified() {
                    true => outer.sources.v6?,
                    false => *source,
                };
                let length = u16::try_from(inside).ok()?;
                let (headers, between) =
                    before.split_first_chunk_mut::<{ IP + ipv6::HEADER_LEN }>()?;
                let (class, _) = age(packet, inner.is_v6)?;
                let label = (inner.hash >> 16) as u32 & 0xf_ffff;
                let start = 0x6000_0000 | u32::from(class) << 20 | label;
                let first = first | u64::from(start.to_be()) | u64::from(length.to_be()) << 32;
                let headers = put(&mut headers[12..], ethertype::IPV6.to_be_bytes())?;
                let headers = put(headers, first.to_le_bytes())?;
                let headers = put(headers, source.octets())?;
                put(headers, *destination)?;
                between
            }
        };
        match usize::from(self.between_len) {
            0 => {}
            gre::HEADER_LEN => {
                *between.first_chunk_mut()? = (self.between as u32).to_le_bytes();
            }
            _ => {
                let (udp, behind) = between.split_first_chunk_mut::<{ udp::HEADER_LEN }>()?;
                let port = u64::from((inner.hash as u16).to_be());
                let length = u64::from((inside as u16).to_be()) << 32;
                *udp = (self.between | port | length).to_le_bytes();
                if let Some(behind) = behind.first_chunk_mut() {
                    *behind = self.last.to_le_bytes();
                }
                if self.has_checksum {
                    fill_udp_checksum(frame)?;
                }
            }
        }
        Some(())
    }
}

/// Writes the next bytes of a header. Returns what is behind them.
#[inline(always)]
fn put<const N: usize>(header: &mut [u8], bytes: [u8; N]) -> Option<&mut [u8]> {
    let (field, rest) = header.split_first_chunk_mut()?;
    *field = bytes;
    Some(rest)
}

/// Fills the checksum of a UDP datagram over IPv6 without extension headers.
#[inline(never)]
fn fill_udp_checksum(frame: &mut [u8]) -> Option<()> {
    let ip = ipv6::in_frame(frame)?;
    let (source, destination) = (ip.source(), ip.destination());
    let datagram = frame.get_mut(IP + ipv6::HEADER_LEN..)?;
    let length = datagram.len() as u32;
    let pseudo = checksum::pseudo_header_v6(source, destination, protocol::UDP, length);
    let udp = udp::Udp::new_checked(&*datagram).ok()?;
    let repr = udp::Repr {
        source_port: udp.source_port(),
        destination_port: udp.destination_port(),
    };
    repr.emit(datagram, pseudo)
}

/// The bytes between the outer IP header and the packet inside.
#[inline(always)]
pub fn between(encapsulation: Encapsulation) -> usize {
    match encapsulation {
        Encapsulation::Ipip => 0,
        Encapsulation::Gre => gre::HEADER_LEN,
        Encapsulation::Gue { variant, .. } => match variant {
            GueVariant::Plain => udp::HEADER_LEN,
            GueVariant::Header => udp::HEADER_LEN + gue::HEADER_LEN,
        },
    }
}

/// What wrapped packets come from out of a port; none where no port has an address of that family that is known beyond its link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OuterSources {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
}

/// The packet that is wrapped.
#[derive(Clone, Copy, Debug)]
pub struct Inner {
    pub is_v6: bool,
    /// Of its flow: it chooses the outer UDP header's source port and the outer flow label, so that routers and the real
    /// server's NIC spread flows (RFC 6438).
    pub hash: u64,
}

/// What of an outer header does not follow from the tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Outer<'a> {
    /// The out port's.
    pub sources: &'a OuterSources,
    /// It is to be fragmented on the way out, whatever is inside.
    pub is_fragmented: bool,
}

/// Makes room for the headers before the IP packet of a frame. Returns false, and leaves the packet as it is but for its
/// padding, if the buffer has none.
#[inline(always)]
pub fn make_room<P: Packet>(packet: &mut P, length: u16, overhead: u16) -> bool {
    // The padding of a short frame does not become a part of a longer one.
    let end = IP + usize::from(length);
    (packet.data().len() == end || packet.resize(end)) && packet.grow_front(usize::from(overhead))
}

/// Takes one from the TTL. Returns the TOS or traffic class, which becomes the outer header's as it is, ECN with it (RFC 6040
/// section 4.1, normal mode), and whether the packet may not be fragmented: that of IPv6 by no router.
#[inline(always)]
fn age(packet: &mut [u8], is_v6: bool) -> Option<(u8, bool)> {
    if is_v6 {
        let header = packet.first_chunk_mut::<{ ipv6::HEADER_LEN }>()?;
        header[7] = header[7].wrapping_sub(1);
        return Some((header[0] << 4 | header[1] >> 4, true));
    }
    let header = packet.first_chunk_mut::<{ ipv4::HEADER_LEN }>()?;
    decrement_ttl(header, Delta::TTL);
    Some((header[1], header[6] & 0x40 != 0))
}

/// Sends a packet to a real server that knows the VIP by the DSCP: all but the MAC addresses. Takes one from the TTL, and corrects
/// the checksums by what changes. `l4`: where what follows the IP headers is, which is of `protocol`. Of an ICMP error, what it
/// quotes stays as the real server has sent it. None, and a frame of any bytes, if the address is of another family.
#[inline(never)]
pub fn mark(frame: &mut [u8], l4: usize, protocol: u8, to: IpAddr, dscp: u8) -> Option<()> {
    let (before, payload) = frame.split_at_mut_checked(l4)?;
    let packet = before.get_mut(IP..)?;
    let delta = match to {
        IpAddr::V4(to) => {
            let mut ip = Ipv4::new_quoted(packet).ok()?;
            ip.decrement_ttl();
            ip.set_dscp(dscp);
            ip.readdress(ip.source(), to)
        }
        IpAddr::V6(to) => {
            let mut ip = Ipv6::new_quoted(packet).ok()?;
            ip.decrement_hop_limit();
            ip.set_dscp(dscp);
            ip.readdress(ip.source(), to)
        }
    };
    let at = match protocol {
        protocol::TCP => 16,
        protocol::UDP => 6,
        protocol::ICMPV6 => 2,
        // That of ICMP covers no addresses.
        _ => return Some(()),
    };
    let field = payload.get_mut(at..at + 2)?.try_into().ok()?;
    match protocol {
        protocol::UDP => delta.apply_udp(field),
        _ => delta.apply(field),
    }
    Some(())
}

#[cfg(test)]
#[path = "tunnel_tests.rs"]
mod tests;

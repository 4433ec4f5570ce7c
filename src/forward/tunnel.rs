//! Brings a client's packet to a real server anywhere: wraps it whole in another IP packet, in place, or says the VIP by the
//! DSCP (l3dsr). Of the packet inside only the TTL changes.

use super::across::Identifications;
use super::rewrite::decrement_ttl;
use crate::config::{Encapsulation, GueVariant, ModeConfig, TunnelConfig};
use crate::net::{ethertype, protocol};
use crate::packet::Packet;
use crate::wire::checksum::Delta;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{checksum, ethernet, gre, gue, udp};
use std::net::IpAddr;

const IP: usize = ethernet::HEADER_LEN;
/// Where an Ethernet header says what follows it.
const ETHERTYPE: std::ops::Range<usize> = 12..14;
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

/// The way to one real server: one cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub struct Tunnel {
    pub via: Via,
    /// The real server.
    pub destination: IpAddr,
    overhead: u16,
}

impl Tunnel {
    pub fn new(via: Via, destination: IpAddr) -> Self {
        let ip = match destination {
            IpAddr::V4(_) => ipv4::HEADER_LEN,
            IpAddr::V6(_) => ipv6::HEADER_LEN,
        };
        let overhead = match &via {
            Via::Wrapped(tunnel) => (ip + between(tunnel.encapsulation)) as u16,
            Via::Marked { .. } => 0,
        };
        Tunnel {
            via,
            destination,
            overhead,
        }
    }

    /// The bytes that are put before a packet.
    #[inline(always)]
    pub fn overhead(&self) -> u16 {
        self.overhead
    }
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
pub struct Outer {
    pub source: IpAddr,
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

/// Wraps a packet that begins where [`make_room`] has left it in its frame: writes all but the MAC addresses, and takes one from
/// the TTL. Returns false, and leaves a frame of any bytes, if the addresses are not of one family, or the whole would be
/// longer than an IP packet may be.
///
/// The packet must have passed [`crate::director::parse`], and its TTL must be above 1.
#[inline(always)]
pub fn wrap(
    frame: &mut [u8],
    inner: Inner,
    tunnel: &TunnelConfig,
    destination: IpAddr,
    outer: Outer,
    identifications: &mut Identifications,
) -> bool {
    let header = match destination {
        IpAddr::V4(_) => ipv4::HEADER_LEN,
        IpAddr::V6(_) => ipv6::HEADER_LEN,
    };
    let start = IP + header + between(tunnel.encapsulation);
    let aged = frame.get_mut(start..);
    let Some((class, dont_fragment)) = aged.and_then(|packet| age(packet, inner.is_v6)) else {
        return false;
    };
    let protocol = match (tunnel.encapsulation, inner.is_v6) {
        (Encapsulation::Ipip, false) => protocol::IPIP,
        (Encapsulation::Ipip, true) => protocol::IPV6,
        (Encapsulation::Gre, _) => protocol::GRE,
        (Encapsulation::Gue { .. }, _) => protocol::UDP,
    };
    let (ethertype, behind) = match (outer.source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            // RFC 6864 section 4: only what may be fragmented needs a number of its own.
            let dont_fragment = dont_fragment && !outer.is_fragmented;
            let ip = ipv4::Repr {
                tos: class,
                dont_fragment,
                identification: match dont_fragment {
                    true => 0,
                    false => identifications.take(),
                },
                ..ipv4::Repr::new(source, destination, protocol)
            };
            let Ok(length) = u16::try_from(frame.len() - IP) else {
                return false;
            };
            frame[IP..IP + ipv4::HEADER_LEN].copy_from_slice(&ip.header(length));
            (ethertype::IPV4, IP + ipv4::HEADER_LEN)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let ip = ipv6::Repr {
                traffic_class: class,
                flow_label: (inner.hash >> 16) as u32,
                ..ipv6::Repr::new(source, destination, protocol)
            };
            let Ok(length) = u16::try_from(frame.len() - IP - ipv6::HEADER_LEN) else {
                return false;
            };
            frame[IP..IP + ipv6::HEADER_LEN].copy_from_slice(&ip.header(length));
            (ethertype::IPV6, IP + ipv6::HEADER_LEN)
        }
        _ => return false,
    };
    frame[ETHERTYPE].copy_from_slice(&ethertype.to_be_bytes());
    let behind = &mut frame[behind..];
    let emitted = match tunnel.encapsulation {
        Encapsulation::Ipip => Some(()),
        Encapsulation::Gre => gre::Repr {
            protocol: match inner.is_v6 {
                true => ethertype::IPV6,
                false => ethertype::IPV4,
            },
        }
        .emit(behind),
        Encapsulation::Gue {
            port,
            variant,
            zero_checksum,
        } => {
            let number = match inner.is_v6 {
                true => protocol::IPV6,
                false => protocol::IPIP,
            };
            let has_header = match variant {
                GueVariant::Plain => Some(()),
                GueVariant::Header => {
                    gue::Repr { protocol: number }.emit(&mut behind[udp::HEADER_LEN..])
                }
            };
            let udp = udp::Repr {
                source_port: FIRST_SOURCE_PORT | inner.hash as u16,
                destination_port: port,
            };
            has_header.and_then(|()| match (outer.source, destination) {
                // RFC 6935 section 5: over IPv6 it is there unless both ends were told to leave it out.
                (IpAddr::V6(source), IpAddr::V6(destination)) if !zero_checksum => {
                    let (length, number) = (behind.len() as u32, protocol::UDP);
                    let pseudo = checksum::pseudo_header_v6(source, destination, number, length);
                    udp.emit(behind, pseudo)
                }
                _ => udp.emit_without_checksum(behind),
            })
        }
    };
    emitted.is_some()
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
#[inline(always)]
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

//! Applies the translation of a connection whose sides are of different families to an ICMP error about one of its packets:
//! an ICMP error becomes an ICMPv6 one (RFC 7915 sections 4.2 and 4.3), and the reverse (sections 5.2 and 5.3). Its addresses
//! and those of the packet that it quotes are the connection's, as in [`error`](super::error).

use super::across::{ALWAYS_WHOLE, GROWTH};
use super::error::{Places, translate_quoted};
use super::identification::Identifications;
use crate::conn::{ConnectionAny, FlowKeyAny, Key};
use crate::net::{self, ethertype, protocol};
use crate::packet::Packet;
use crate::wire::ethernet;
use crate::wire::icmp::{self, Icmp};
use crate::wire::icmpv6::{self, Icmpv6};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use std::net::IpAddr;

const IP: usize = ethernet::HEADER_LEN;
/// RFC 1812 section 4.3.2.3.
const LONGEST_V4: usize = 576;
/// RFC 4443 section 2.4 (c).
const LONGEST_V6: usize = net::LEAST_MTU_V6 as usize;
const LEAST_MTU_V6: u16 = net::LEAST_MTU_V6 as u16;
/// The least that is quoted before extensions (RFC 4884 section 4).
const LEAST_QUOTED: usize = 128;

/// Why an ICMP error does not go on to the other family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untranslated {
    /// The other family has none like it.
    Unknown,
    /// Its buffer has no room for the other one.
    NoRoom,
}

/// Makes of an ICMP error the one that goes on to the connection's other side, all but its MAC addresses, which are of any
/// value then. `mtu`: of the port that it goes out of.
///
/// # Errors
/// Why it is none.
pub fn rewrite<P: Packet>(
    packet: &mut P,
    places: Places,
    connection: &ConnectionAny,
    reply: bool,
    mtu: u16,
    identifications: &mut Identifications,
) -> Result<(), Untranslated> {
    let mut frame = [0; IP + LONGEST_V6];
    let length = write(
        &mut frame,
        packet.data(),
        places,
        connection,
        reply,
        mtu,
        identifications,
    );
    let length = length.ok_or(Untranslated::Unknown)?;
    if !packet.resize(length) {
        return Err(Untranslated::NoRoom);
    }
    packet.data_mut().copy_from_slice(&frame[..length]);
    Ok(())
}

fn write(
    frame: &mut [u8],
    old: &[u8],
    places: Places,
    connection: &ConnectionAny,
    reply: bool,
    mtu: u16,
    identifications: &mut Identifications,
) -> Option<usize> {
    let to: FlowKeyAny = connection.translated(reply);
    let before = to.reversed();
    let ip = old.get(IP..places.end)?;
    let message = old.get(places.icmp..places.end)?;
    let l4_at = places.l4.checked_sub(places.quote())?;
    let delta = connection.deltas(reply).1;
    match (to.source().into(), to.destination().into()) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let (ip, message) = (Ipv4::new_quoted(ip).ok()?, Icmp::new_checked(message).ok()?);
            let quote = message.quote()?;
            let quoted = Ipv4::new_quoted(quote.packet).ok()?;
            let (kind, code, rest) = to_v6(&message, quoted.total_length(), mtu)?;
            let carries = matches!(
                kind,
                icmpv6::DESTINATION_UNREACHABLE | icmpv6::TIME_EXCEEDED
            );
            let whole = Quoted {
                header: ipv6::HEADER_LEN,
                l4: quote.packet.get(l4_at..)?,
                extensions: if carries { quote.extensions } else { &[] },
            };
            let room = LONGEST_V6 - ipv6::HEADER_LEN - icmpv6::HEADER_LEN;
            let start = IP + ipv6::HEADER_LEN;
            let body = frame.get_mut(start + icmpv6::HEADER_LEN..)?;
            let (length, quoted_length) = whole.place(body, room, 8)?;
            let header = ipv6::Repr {
                traffic_class: quoted.tos(),
                hop_limit: quoted.ttl(),
                ..match (before.source().into(), before.destination().into()) {
                    (IpAddr::V6(source), IpAddr::V6(destination)) => {
                        ipv6::Repr::new(source, destination, before.protocol())
                    }
                    _ => return None,
                }
            };
            let payload = usize::from(quoted.total_length()).saturating_sub(quoted.header_len());
            header.emit_with(body, payload as u16)?;
            let quoted_l4 = body.get_mut(ipv6::HEADER_LEN..length)?;
            translate_quoted(quoted_l4, payload, &before, delta);
            let words = (quoted_length / 8) as u32;
            let end = start + icmpv6::HEADER_LEN + length;
            let outer = ipv6::Repr {
                traffic_class: ip.tos(),
                hop_limit: ip.ttl().wrapping_sub(1),
                ..ipv6::Repr::new(source, destination, protocol::ICMPV6)
            };
            let message = icmpv6::Repr {
                kind,
                code,
                rest: rest | words << 24,
            };
            let pseudo = outer.pseudo_header((end - start) as u32);
            message.emit(frame.get_mut(start..end)?, pseudo)?;
            outer.emit(frame.get_mut(IP..end)?)?;
            frame
                .get_mut(12..IP)?
                .copy_from_slice(&ethertype::IPV6.to_be_bytes());
            Some(end)
        }
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (ip, message) = (
                Ipv6::new_quoted(ip).ok()?,
                Icmpv6::new_checked(message).ok()?,
            );
            let quote = message.quote()?;
            let quoted = Ipv6::new_quoted(quote.packet).ok()?;
            let (kind, code, rest) = to_v4(&message, mtu)?;
            let whole = Quoted {
                header: ipv4::HEADER_LEN,
                l4: quote.packet.get(l4_at..)?,
                extensions: quote.extensions,
            };
            let room = LONGEST_V4 - ipv4::HEADER_LEN - icmp::HEADER_LEN;
            let start = IP + ipv4::HEADER_LEN;
            let body = frame.get_mut(start + icmp::HEADER_LEN..)?;
            let (length, quoted_length) = whole.place(body, room, 4)?;
            let extensions = l4_at.saturating_sub(ipv6::HEADER_LEN);
            let payload = usize::from(quoted.payload_length()).saturating_sub(extensions);
            let total = (payload + ipv4::HEADER_LEN).min(usize::from(u16::MAX));
            let header = ipv4::Repr {
                tos: quoted.traffic_class(),
                ttl: quoted.hop_limit(),
                dont_fragment: total > ALWAYS_WHOLE,
                ..match (before.source().into(), before.destination().into()) {
                    (IpAddr::V4(source), IpAddr::V4(destination)) => {
                        ipv4::Repr::new(source, destination, before.protocol())
                    }
                    _ => return None,
                }
            };
            header.emit_with(body, total as u16)?;
            let quoted_l4 = body.get_mut(ipv4::HEADER_LEN..length)?;
            translate_quoted(quoted_l4, total - ipv4::HEADER_LEN, &before, delta);
            let words = (quoted_length / 4) as u32;
            let end = start + icmp::HEADER_LEN + length;
            let message = icmp::Repr {
                kind,
                code,
                rest: rest | words << 16,
            };
            message.emit(frame.get_mut(start..end)?)?;
            let outer = ipv4::Repr {
                tos: ip.traffic_class(),
                ttl: ip.hop_limit().wrapping_sub(1),
                identification: identifications.take(),
                ..ipv4::Repr::new(source, destination, protocol::ICMP)
            };
            outer.emit(frame.get_mut(IP..end)?)?;
            frame
                .get_mut(12..IP)?
                .copy_from_slice(&ethertype::IPV4.to_be_bytes());
            Some(end)
        }
        _ => None,
    }
}

/// What is quoted, in the other family: a header of so many bytes, what follows it, and the extensions behind (RFC 4884).
struct Quoted<'a> {
    header: usize,
    l4: &'a [u8],
    extensions: &'a [u8],
}

impl Quoted<'_> {
    /// Writes all but the header, which is left free, into the first `room` bytes at most of `body`. Returns how many bytes
    /// there are, and how many of them are the quoted packet's where extensions follow, else 0. `unit`: what the latter is
    /// counted in.
    fn place(&self, body: &mut [u8], room: usize, unit: usize) -> Option<(usize, usize)> {
        let body = body.get_mut(..room)?;
        let most = room.saturating_sub(self.extensions.len()) / unit * unit;
        let extensions = match most >= LEAST_QUOTED {
            true => self.extensions,
            false => &[],
        };
        let most = if extensions.is_empty() { room } else { most };
        let length = (self.header + self.l4.len()).min(most);
        let l4 = self.l4.get(..length.checked_sub(self.header)?)?;
        body.get_mut(self.header..length)?.copy_from_slice(l4);
        if extensions.is_empty() {
            return Some((length, 0));
        }
        let padded = length.next_multiple_of(unit).max(LEAST_QUOTED);
        body.get_mut(length..padded)?.fill(0);
        let end = padded + extensions.len();
        body.get_mut(padded..end)?.copy_from_slice(extensions);
        Some((end, padded))
    }
}

/// Type, code and the second word of an ICMPv6 error, by RFC 7915 section 4.2; none: there is no such one. `length`: of the
/// quoted packet.
fn to_v6(message: &Icmp<&[u8]>, length: u16, mtu: u16) -> Option<(u8, u8, u32)> {
    const NO_ROUTE: u8 = 0;
    const PROHIBITED: u8 = 1;
    const PORT: u8 = 4;
    const UNKNOWN_NEXT_HEADER: u8 = 1;
    let unreachable = |code| Some((icmpv6::DESTINATION_UNREACHABLE, code, 0));
    match (message.kind(), message.code()) {
        (icmp::DESTINATION_UNREACHABLE, 0 | 1 | 5..=8 | 11 | 12) => unreachable(NO_ROUTE),
        // The next header field.
        (icmp::DESTINATION_UNREACHABLE, 2) => {
            Some((icmpv6::PARAMETER_PROBLEM, UNKNOWN_NEXT_HEADER, 6))
        }
        (icmp::DESTINATION_UNREACHABLE, icmp::PORT_UNREACHABLE) => unreachable(PORT),
        (icmp::DESTINATION_UNREACHABLE, icmp::FRAGMENTATION_NEEDED) => {
            let told = match message.mtu() {
                // From a router older than RFC 1191.
                None | Some(0) => plateau_below(length),
                Some(told) => told,
            };
            let mtu = told.saturating_add(GROWTH).min(mtu).max(LEAST_MTU_V6);
            Some((icmpv6::PACKET_TOO_BIG, 0, mtu.into()))
        }
        (icmp::DESTINATION_UNREACHABLE, 9 | 10 | 13 | 15) => unreachable(PROHIBITED),
        (icmp::TIME_EXCEEDED, code) => Some((icmpv6::TIME_EXCEEDED, code, 0)),
        (icmp::PARAMETER_PROBLEM, 0 | 2) => {
            let pointer = pointer_to_v6((message.rest() >> 24) as u8)?;
            Some((icmpv6::PARAMETER_PROBLEM, 0, pointer))
        }
        _ => None,
    }
}

/// RFC 1191 section 7: the largest likely MTU below a packet's length.
fn plateau_below(length: u16) -> u16 {
    const PLATEAUS: [u16; 11] = [
        65_535, 32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68,
    ];
    let below = PLATEAUS.into_iter().find(|plateau| *plateau < length);
    below.unwrap_or(68)
}

/// The place in an IPv6 header of a field of an IPv4 one (RFC 7915 figure 3).
fn pointer_to_v6(pointer: u8) -> Option<u32> {
    Some(match pointer {
        0 => 0,
        1 => 1,
        2 | 3 => 4,
        8 => 7,
        9 => 6,
        12..=15 => 8,
        16..=19 => 24,
        _ => return None,
    })
}

/// Type, code and the second word of an ICMP error, by RFC 7915 section 5.2; none: there is no such one.
fn to_v4(message: &Icmpv6<&[u8]>, mtu: u16) -> Option<(u8, u8, u32)> {
    const PROTOCOL: u8 = 2;
    const PROHIBITED: u8 = 10;
    let unreachable = |code| Some((icmp::DESTINATION_UNREACHABLE, code, 0));
    match (message.kind(), message.code()) {
        (icmpv6::DESTINATION_UNREACHABLE, 0 | 2 | 3) => unreachable(icmp::HOST_UNREACHABLE),
        (icmpv6::DESTINATION_UNREACHABLE, 1) => unreachable(PROHIBITED),
        (icmpv6::DESTINATION_UNREACHABLE, 4) => unreachable(icmp::PORT_UNREACHABLE),
        (icmpv6::PACKET_TOO_BIG, _) => {
            let told = u16::try_from(message.rest()).unwrap_or(u16::MAX);
            let mtu = (told.max(LEAST_MTU_V6) - GROWTH).min(mtu);
            Some((
                icmp::DESTINATION_UNREACHABLE,
                icmp::FRAGMENTATION_NEEDED,
                mtu.into(),
            ))
        }
        (icmpv6::TIME_EXCEEDED, code) => Some((icmp::TIME_EXCEEDED, code, 0)),
        (icmpv6::PARAMETER_PROBLEM, 0) => {
            let pointer = pointer_to_v4(message.rest())?;
            Some((icmp::PARAMETER_PROBLEM, 0, pointer << 24))
        }
        (icmpv6::PARAMETER_PROBLEM, 1) => unreachable(PROTOCOL),
        _ => None,
    }
}

/// The place in an IPv4 header of a field of an IPv6 one (RFC 7915 figure 6).
fn pointer_to_v4(pointer: u32) -> Option<u32> {
    Some(match pointer {
        0 => 0,
        1 => 1,
        4 | 5 => 2,
        6 => 9,
        7 => 8,
        8..=23 => 12,
        24..=39 => 16,
        _ => return None,
    })
}

#[cfg(test)]
#[path = "error_across_tests.rs"]
mod tests;

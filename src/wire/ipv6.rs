//! IPv6 packets (RFC 8200).

use super::Malformed;
use super::checksum::{Delta, pseudo_header_v6};
use super::ethernet::Ethernet;
use super::extension::{self, UpperLayer};
use super::field::{array, set_u16, set_u32, u16_of, u32_of};
use super::icmpv6::Icmpv6;
use super::sctp::Sctp;
use super::tcp::Tcp;
use super::udp::Udp;
use crate::net::{ethertype, protocol};
use std::net::Ipv6Addr;

/// Bytes of a header, without extension headers.
pub const DEFAULT_HOP_LIMIT: u8 = 64;
pub const HEADER_LEN: usize = field::PAYLOAD_AT;

mod field {
    use crate::wire::field::Field;

    /// Version (4 bits), traffic class (8), flow label (20).
    pub(super) const VERSION_CLASS_FLOW: Field = 0..4;
    pub(super) const PAYLOAD_LENGTH: Field = 4..6;
    pub(super) const NEXT_HEADER: usize = 6;
    pub(super) const HOP_LIMIT: usize = 7;
    pub(super) const SOURCE: Field = 8..24;
    pub(super) const DESTINATION: Field = 24..40;
    pub(super) const PAYLOAD_AT: usize = 40;
}

/// A packet, at the start of bytes that may be more.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<T>(T);

impl<T: AsRef<[u8]>> Ipv6<T> {
    /// # Errors
    /// What is wrong, in the order of the checks.
    pub fn new_checked(bytes: T) -> Result<Self, Malformed> {
        let ip = Self::new_quoted(bytes)?;
        let length = HEADER_LEN + usize::from(ip.payload_length());
        // As of IPv4 (RFC 1812 section 5.2.2): the link layer must bring all of it.
        match ip.0.as_ref().len() < length {
            true => Err(Malformed::Truncated),
            false => Ok(ip),
        }
    }

    /// As [`new_checked`](Self::new_checked), of a packet whose end may be missing, as of those that ICMPv6 errors quote.
    ///
    /// # Errors
    /// As there.
    pub fn new_quoted(bytes: T) -> Result<Self, Malformed> {
        if bytes.as_ref().len() < HEADER_LEN {
            return Err(Malformed::Truncated);
        }
        let ip = Ipv6(bytes);
        // RFC 8200 section 3.
        if ip.version_class_flow() >> 28 != 6 {
            return Err(Malformed::Version);
        }
        // RFC 2675 section 3: a jumbogram has 0 there, and its length in a hop-by-hop option. Nothing else has a header and
        // a payload of no bytes.
        match ip.payload_length() == 0 && ip.next_header() == protocol::HOP_BY_HOP {
            true => Err(Malformed::Jumbogram),
            false => Ok(ip),
        }
    }

    fn version_class_flow(&self) -> u32 {
        u32_of(self.0.as_ref(), field::VERSION_CLASS_FLOW)
    }

    pub fn traffic_class(&self) -> u8 {
        (self.version_class_flow() >> 20) as u8
    }

    pub fn flow_label(&self) -> u32 {
        self.version_class_flow() & 0xf_ffff
    }

    /// Bytes behind the header, extension headers counted.
    pub fn payload_length(&self) -> u16 {
        u16_of(self.0.as_ref(), field::PAYLOAD_LENGTH)
    }

    /// What follows the header: an extension header, or the upper layer.
    pub fn next_header(&self) -> u8 {
        self.0.as_ref()[field::NEXT_HEADER]
    }

    pub fn hop_limit(&self) -> u8 {
        self.0.as_ref()[field::HOP_LIMIT]
    }

    pub fn source(&self) -> Ipv6Addr {
        array(self.0.as_ref(), field::SOURCE).into()
    }

    pub fn destination(&self) -> Ipv6Addr {
        array(self.0.as_ref(), field::DESTINATION).into()
    }

    /// The pseudo header that the checksums of upper layers cover (RFC 8200 section 8.1), for so many bytes of them. With
    /// no routing header that has segments left, which [`upper_layer`](Ipv6::upper_layer) refuses, the destination is the
    /// last one.
    pub fn pseudo_header(&self, protocol: u8, length: u32) -> u64 {
        pseudo_header_v6(self.source(), self.destination(), protocol, length)
    }
}

impl<'a> Ipv6<&'a [u8]> {
    /// Without what follows it.
    pub fn packet(&self) -> &'a [u8] {
        let length = HEADER_LEN + usize::from(self.payload_length());
        &self.0[..length.min(self.0.len())]
    }

    /// What follows the header, extension headers included.
    pub fn payload(&self) -> &'a [u8] {
        &self.packet()[HEADER_LEN..]
    }

    /// Walks the extension headers.
    ///
    /// # Errors
    /// What is wrong with the first bad one.
    pub fn upper_layer(&self) -> Result<UpperLayer<'a>, Malformed> {
        extension::walk(self.next_header(), self.payload())
    }

    /// Whether the checksum of a whole TCP segment, UDP datagram or ICMPv6 message is right. Every other protocol is
    /// taken as right. UDP without a checksum is wrong: in IPv6 it must have one (RFC 8200 section 8.1).
    pub fn is_l4_checksum_right(&self, upper: &UpperLayer) -> bool {
        let bytes = upper.payload;
        let pseudo = self.pseudo_header(upper.protocol, bytes.len() as u32);
        match upper.protocol {
            protocol::ICMPV6 => {
                Icmpv6::new_checked(bytes).is_ok_and(|message| message.is_checksum_right(pseudo))
            }
            protocol::TCP => Tcp::new_checked(bytes).is_ok_and(|tcp| tcp.is_checksum_right(pseudo)),
            protocol::UDP => Udp::new_checked(bytes).is_ok_and(|udp| {
                let pseudo = self.pseudo_header(protocol::UDP, udp.length().into());
                udp.checksum().is_some() && udp.is_checksum_right(pseudo)
            }),
            protocol::SCTP => Sctp::new_checked(bytes).is_ok_and(|sctp| sctp.is_checksum_right()),
            _ => true,
        }
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv6<T> {
    /// Says how many bytes follow the header.
    pub fn set_payload_length(&mut self, length: u16) {
        set_u16(self.0.as_mut(), field::PAYLOAD_LENGTH, length);
    }

    pub fn set_next_header(&mut self, next_header: u8) {
        self.0.as_mut()[field::NEXT_HEADER] = next_header;
    }

    pub fn set_hop_limit(&mut self, hop_limit: u8) {
        self.0.as_mut()[field::HOP_LIMIT] = hop_limit;
    }

    pub fn set_source(&mut self, address: Ipv6Addr) {
        self.0.as_mut()[field::SOURCE].copy_from_slice(&address.octets());
    }

    pub fn set_destination(&mut self, address: Ipv6Addr) {
        self.0.as_mut()[field::DESTINATION].copy_from_slice(&address.octets());
    }

    /// Puts other addresses in. Returns what it does to the checksums of upper layers.
    pub fn readdress(&mut self, source: Ipv6Addr, destination: Ipv6Addr) -> Delta {
        let words = |from: Ipv6Addr, to: Ipv6Addr| from.segments().into_iter().zip(to.segments());
        let delta = words(self.source(), source)
            .chain(words(self.destination(), destination))
            .fold(Delta::ZERO, |delta, (old, new)| delta.replace_u16(old, new));
        self.set_source(source);
        self.set_destination(destination);
        delta
    }

    /// Writes the DSCP (RFC 2474), and leaves ECN.
    pub fn set_dscp(&mut self, dscp: u8) {
        let class = u32::from(dscp << 2 | self.traffic_class() & 3);
        let first = self.version_class_flow() & !(0xff << 20) | class << 20;
        set_u32(self.0.as_mut(), field::VERSION_CLASS_FLOW, first);
    }

    /// Takes one from a hop limit above 0.
    pub fn decrement_hop_limit(&mut self) {
        self.set_hop_limit(self.hop_limit().wrapping_sub(1));
    }
}

/// The packet of an Ethernet frame without tags. None if it is of another protocol, or malformed.
pub fn in_frame(frame: &[u8]) -> Option<Ipv6<&[u8]>> {
    let frame = Ethernet::new_checked(frame).ok()?;
    match frame.ethertype() {
        ethertype::IPV6 => Ipv6::new_checked(frame.payload()).ok(),
        _ => None,
    }
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub next_header: u8,
    pub traffic_class: u8,
    /// Of 20 bits; higher ones are cut off.
    pub flow_label: u32,
    pub hop_limit: u8,
}

impl Repr {
    /// The header of a packet from here to there, as weir sends its own.
    pub fn new(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8) -> Self {
        Repr {
            source,
            destination,
            next_header,
            traffic_class: 0,
            flow_label: 0,
            hop_limit: DEFAULT_HOP_LIMIT,
        }
    }

    /// Of an upper layer that follows the header at once.
    pub fn pseudo_header(&self, length: u32) -> u64 {
        pseudo_header_v6(self.source, self.destination, self.next_header, length)
    }

    /// The header of a packet with `length` bytes behind it, by few instructions.
    #[inline(always)]
    pub fn header(&self, length: u16) -> [u8; HEADER_LEN] {
        let class = u64::from(self.traffic_class) << 52;
        let label = u64::from(self.flow_label & 0xf_ffff) << 32;
        let rest = u64::from(length) << 16 | u64::from(self.next_header) << 8;
        let first = 6 << 60 | class | label | rest | u64::from(self.hop_limit);
        let mut header = [0; HEADER_LEN];
        header[..8].copy_from_slice(&first.to_be_bytes());
        header[field::SOURCE].copy_from_slice(&self.source.octets());
        header[field::DESTINATION].copy_from_slice(&self.destination.octets());
        header
    }

    /// Writes the header of a packet that fills `packet`. None if it does not fit, or is too long for IPv6.
    pub fn emit(&self, packet: &mut [u8]) -> Option<()> {
        let length = u16::try_from(packet.len().checked_sub(HEADER_LEN)?).ok()?;
        self.emit_with(packet, length)
    }

    /// As [`emit`](Self::emit), of a packet with `length` bytes behind its header whose end may be missing.
    pub fn emit_with(&self, packet: &mut [u8], length: u16) -> Option<()> {
        if packet.len() < HEADER_LEN {
            return None;
        }
        let class = u32::from(self.traffic_class) << 20;
        let first = 6 << 28 | class | self.flow_label & 0xf_ffff;
        set_u32(packet, field::VERSION_CLASS_FLOW, first);
        set_u16(packet, field::PAYLOAD_LENGTH, length);
        packet[field::NEXT_HEADER] = self.next_header;
        let mut ip = Ipv6(packet);
        ip.set_hop_limit(self.hop_limit);
        ip.set_source(self.source);
        ip.set_destination(self.destination);
        Some(())
    }
}

#[cfg(test)]
#[path = "ipv6_tests.rs"]
mod tests;

//! IPv4 packets (RFC 791).

use super::checksum::{Delta, pseudo_header_v4, sum};
use super::ethernet::Ethernet;
use super::field::{array, set_u16, u16_of, u32_of};
use super::icmp::Icmp;
use super::options::Options;
use super::sctp::Sctp;
use super::tcp::Tcp;
use super::udp::Udp;
use super::{Malformed, checksum};
use crate::net::{ethertype, protocol};
use std::net::Ipv4Addr;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = field::OPTIONS_AT;

/// Bytes of the longest header.
pub const MAX_HEADER_LEN: usize = 60;

/// As the kernel sends its own packets (`sysctl_ip_default_ttl`).
pub const DEFAULT_TTL: u8 = 64;

mod field {
    use crate::wire::field::Field;

    /// Version, and the header's length in words of 32 bits.
    pub(super) const VERSION: usize = 0;
    pub(super) const TOS: usize = 1;
    pub(super) const LENGTH: Field = 2..4;
    pub(super) const IDENTIFICATION: Field = 4..6;
    /// Three bits, and the fragment's offset in units of 8 bytes.
    pub(super) const FLAGS: Field = 6..8;
    pub(super) const TTL: usize = 8;
    pub(super) const PROTOCOL: usize = 9;
    pub(super) const CHECKSUM: Field = 10..12;
    pub(super) const SOURCE: Field = 12..16;
    pub(super) const DESTINATION: Field = 16..20;
    pub(super) const OPTIONS_AT: usize = 20;
}

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// A packet, at the start of bytes that may be more.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<T>(T);

impl<T: AsRef<[u8]>> Ipv4<T> {
    /// What RFC 1812 section 5.2.2 asks of every packet, but for (2), the checksum: see
    /// [`is_header_right`](Self::is_header_right).
    ///
    /// # Errors
    /// What is wrong, in the order of the checks.
    #[inline(always)]
    pub fn new_checked(bytes: T) -> Result<Self, Malformed> {
        let ip = Self::new_quoted(bytes)?;
        // RFC 1812 section 5.2.2: the link layer must bring at least the total length.
        match ip.0.as_ref().len() < usize::from(ip.total_length()) {
            true => Err(Malformed::Truncated),
            false => Ok(ip),
        }
    }

    /// As [`new_checked`](Self::new_checked), of a packet whose end may be missing, as of those that ICMP errors quote.
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    pub fn new_quoted(bytes: T) -> Result<Self, Malformed> {
        let length = bytes.as_ref().len();
        // RFC 1812 section 5.2.2 (1): at least the minimum length legal datagram.
        let Some(header) = bytes.as_ref().first_chunk::<HEADER_LEN>() else {
            return Err(Malformed::Truncated);
        };
        // (3) The version must be 4 (RFC 1122 section 3.2.1.1).
        if header[field::VERSION] >> 4 != 4 {
            return Err(Malformed::Version);
        }
        // (4) The header length must be at least 5 words.
        let header_len = usize::from(header[field::VERSION] & 0x0f) * 4;
        if header_len < HEADER_LEN {
            return Err(Malformed::HeaderLength);
        }
        // (5) The total length must hold the header.
        if usize::from(u16_of(header, field::LENGTH)) < header_len {
            return Err(Malformed::Length);
        }
        match length < header_len {
            true => Err(Malformed::Truncated),
            false => Ok(Ipv4(bytes)),
        }
    }

    /// Bytes of the header, options included.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.0.as_ref()[field::VERSION] & 0x0f) * 4
    }

    #[inline(always)]
    pub fn tos(&self) -> u8 {
        self.0.as_ref()[field::TOS]
    }

    /// Bytes of the packet, as its header says.
    #[inline(always)]
    pub fn total_length(&self) -> u16 {
        u16_of(self.0.as_ref(), field::LENGTH)
    }

    #[inline(always)]
    pub fn identification(&self) -> u16 {
        u16_of(self.0.as_ref(), field::IDENTIFICATION)
    }

    #[inline(always)]
    fn flags(&self) -> u16 {
        u16_of(self.0.as_ref(), field::FLAGS)
    }

    #[inline(always)]
    pub fn dont_fragment(&self) -> bool {
        self.flags() & DONT_FRAGMENT != 0
    }

    #[inline(always)]
    pub fn more_fragments(&self) -> bool {
        self.flags() & MORE_FRAGMENTS != 0
    }

    /// Where the payload belongs in the datagram's, in bytes.
    #[inline(always)]
    pub fn fragment_offset(&self) -> u16 {
        (self.flags() & OFFSET) * 8
    }

    /// Whether it is a part of a datagram: more follow, or some came before.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.flags() & (MORE_FRAGMENTS | OFFSET) != 0
    }

    #[inline(always)]
    pub fn ttl(&self) -> u8 {
        self.0.as_ref()[field::TTL]
    }

    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        self.0.as_ref()[field::PROTOCOL]
    }

    #[inline(always)]
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32_of(self.0.as_ref(), field::SOURCE))
    }

    #[inline(always)]
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32_of(self.0.as_ref(), field::DESTINATION))
    }

    /// RFC 1812 section 5.2.2 (2): the header checksum must be correct (RFC 1122 section 3.2.1.2).
    #[inline(always)]
    pub fn is_header_right(&self) -> bool {
        match (self.header_len(), self.0.as_ref().first_chunk()) {
            (HEADER_LEN, Some(header)) => checksum::is_header_right(header),
            (length, _) => sum(&self.0.as_ref()[..length]) == 0xffff,
        }
    }

    pub fn options(&self) -> Options<'_> {
        Options::new(&self.0.as_ref()[HEADER_LEN..self.header_len()])
    }

    /// Whether the sender chooses the way: by loose or strict source and record route.
    ///
    /// # Errors
    /// If any of the options is malformed.
    pub fn has_source_route(&self) -> Result<bool, Malformed> {
        const LOOSE_SOURCE_ROUTE: u8 = 131;
        const STRICT_SOURCE_ROUTE: u8 = 137;
        self.options().try_fold(false, |found, option| {
            Ok(found | matches!(option?.kind, LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE))
        })
    }

    /// The pseudo header that the checksums of TCP and UDP cover, for so many bytes of them.
    #[inline(always)]
    pub fn pseudo_header(&self, length: u16) -> u64 {
        pseudo_header_v4(self.source(), self.destination(), self.protocol(), length)
    }
}

impl<'a> Ipv4<&'a [u8]> {
    /// Without what follows it.
    pub fn packet(&self) -> &'a [u8] {
        let length = usize::from(self.total_length());
        &self.0[..length.min(self.0.len())]
    }

    /// The header that fragments other than the first have, with its length: of the options, those that are to be copied
    /// (RFC 791 section 3.1). Its length, offset and checksum are those of the whole packet.
    pub fn later_header(&self) -> ([u8; MAX_HEADER_LEN], usize) {
        const COPIED: u8 = 0x80;
        let mut header = [0; MAX_HEADER_LEN];
        header[..HEADER_LEN].copy_from_slice(&self.0[..HEADER_LEN]);
        let mut length = HEADER_LEN;
        // What a router takes has been checked: no option is malformed.
        for option in self.options().map_while(Result::ok) {
            let end = length + 2 + option.data.len();
            if option.kind & COPIED != 0
                && let Some(place) = header.get_mut(length..end)
            {
                place[0] = option.kind;
                place[1] = (end - length) as u8;
                place[2..].copy_from_slice(option.data);
                length = end;
            }
        }
        // The rest of the last word ends the list.
        let length = length.next_multiple_of(4);
        header[field::VERSION] = 0x40 | (length / 4) as u8;
        (header, length)
    }

    #[inline(always)]
    pub fn payload(&self) -> &'a [u8] {
        &self.packet()[self.header_len()..]
    }

    /// Source and destination port of TCP and UDP, but for fragments: only the first has them, and it is as the others.
    pub fn ports(&self) -> Option<(u16, u16)> {
        if self.is_fragment() || !matches!(self.protocol(), protocol::TCP | protocol::UDP) {
            return None;
        }
        let ports = self.payload().first_chunk::<4>()?;
        Some((u16_of(ports, 0..2), u16_of(ports, 2..4)))
    }

    /// As [`ports`](Self::ports), of a packet that an ICMP error quotes, which may be a first fragment. None unless the first 8
    /// bytes of TCP, UDP or SCTP are there.
    pub fn quoted_ports(&self) -> Option<(u16, u16)> {
        let is_known = matches!(
            self.protocol(),
            protocol::TCP | protocol::UDP | protocol::SCTP
        );
        if self.fragment_offset() > 0 || !is_known {
            return None;
        }
        let first = self.payload().first_chunk::<8>()?;
        Some((u16_of(first, 0..2), u16_of(first, 2..4)))
    }

    /// Whether the checksum of a whole TCP segment, UDP datagram, SCTP packet or ICMP message is right. Every other protocol is
    /// taken as right.
    pub fn is_l4_checksum_right(&self) -> bool {
        let payload = self.payload();
        match self.protocol() {
            protocol::ICMP => {
                Icmp::new_checked(payload).is_ok_and(|message| message.is_checksum_right())
            }
            protocol::TCP => {
                let pseudo = self.pseudo_header(payload.len() as u16);
                Tcp::new_checked(payload).is_ok_and(|tcp| tcp.is_checksum_right(pseudo))
            }
            protocol::UDP => Udp::new_checked(payload)
                .is_ok_and(|udp| udp.is_checksum_right(self.pseudo_header(udp.length()))),
            protocol::SCTP => Sctp::new_checked(payload).is_ok_and(|sctp| sctp.is_checksum_right()),
            _ => true,
        }
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv4<T> {
    #[inline(always)]
    pub fn set_ttl(&mut self, ttl: u8) {
        self.0.as_mut()[field::TTL] = ttl;
    }

    #[inline(always)]
    pub fn set_source(&mut self, address: Ipv4Addr) {
        self.0.as_mut()[field::SOURCE].copy_from_slice(&address.octets());
    }

    #[inline(always)]
    pub fn set_destination(&mut self, address: Ipv4Addr) {
        self.0.as_mut()[field::DESTINATION].copy_from_slice(&address.octets());
    }

    /// Puts other addresses in, and corrects the header checksum by that (RFC 1624): a wrong one stays wrong. Returns what it
    /// does to the checksums of upper layers.
    pub fn readdress(&mut self, source: Ipv4Addr, destination: Ipv4Addr) -> Delta {
        let delta = Delta::ZERO
            .replace_u32(self.source().to_bits(), source.to_bits())
            .replace_u32(self.destination().to_bits(), destination.to_bits());
        self.set_source(source);
        self.set_destination(destination);
        self.correct_checksum(delta);
        delta
    }

    /// Writes the DSCP (RFC 2474), leaves ECN, and corrects the header checksum by that.
    pub fn set_dscp(&mut self, dscp: u8) {
        let before = self.tos();
        let after = dscp << 2 | before & 3;
        self.0.as_mut()[field::TOS] = after;
        self.correct_checksum(Delta::ZERO.replace_u16(before.into(), after.into()));
    }

    /// Puts "no operation" in the place of every option, and computes the checksum anew.
    pub fn blank_options(&mut self) {
        const NO_OPERATION: u8 = 1;
        let end = self.header_len();
        if end > HEADER_LEN {
            self.0.as_mut()[HEADER_LEN..end].fill(NO_OPERATION);
            self.fill_checksum();
        }
    }

    /// Takes one from a TTL above 0.
    pub fn decrement_ttl(&mut self) {
        self.set_ttl(self.ttl().wrapping_sub(1));
        self.correct_checksum(Delta::TTL);
    }

    fn correct_checksum(&mut self, delta: Delta) {
        let mut checksum = array(self.0.as_ref(), field::CHECKSUM);
        delta.apply(&mut checksum);
        self.0.as_mut()[field::CHECKSUM].copy_from_slice(&checksum);
    }

    /// Says how long the packet is.
    pub fn set_total_length(&mut self, length: u16) {
        set_u16(self.0.as_mut(), field::LENGTH, length);
    }

    pub fn set_identification(&mut self, identification: u16) {
        set_u16(self.0.as_mut(), field::IDENTIFICATION, identification);
    }

    /// Says what part of its datagram the packet is. `offset`: in bytes, a multiple of 8.
    pub fn set_fragment(&mut self, offset: u16, more: bool) {
        let others = self.flags() & !(MORE_FRAGMENTS | OFFSET);
        let more = if more { MORE_FRAGMENTS } else { 0 };
        set_u16(self.0.as_mut(), field::FLAGS, others | more | (offset / 8));
    }

    /// Computes the header checksum.
    pub fn fill_checksum(&mut self) {
        let length = self.header_len();
        let header = &mut self.0.as_mut()[..length];
        set_u16(header, field::CHECKSUM, 0);
        let checksum = !sum(header);
        set_u16(header, field::CHECKSUM, checksum);
    }

    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (start, length) = (self.header_len(), usize::from(self.total_length()));
        let bytes = self.0.as_mut();
        let end = length.min(bytes.len());
        &mut bytes[start..end]
    }
}

/// The packet of an Ethernet frame without tags. None if it is of another protocol, or malformed.
pub fn in_frame(frame: &[u8]) -> Option<Ipv4<&[u8]>> {
    let frame = Ethernet::new_checked(frame).ok()?;
    match frame.ethertype() {
        ethertype::IPV4 => Ipv4::new_checked(frame.payload()).ok(),
        _ => None,
    }
}

/// A header without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub tos: u8,
    pub ttl: u8,
    pub identification: u16,
    pub dont_fragment: bool,
}

impl Repr {
    /// The header of a packet from here to there, as weir sends its own.
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> Self {
        Repr {
            source,
            destination,
            protocol,
            tos: 0,
            ttl: DEFAULT_TTL,
            identification: 0,
            dont_fragment: false,
        }
    }

    #[inline(always)]
    pub fn pseudo_header(&self, length: u16) -> u64 {
        pseudo_header_v4(self.source, self.destination, self.protocol, length)
    }

    /// The header of a packet of `length` bytes, by few instructions.
    #[inline(always)]
    pub fn header(&self, length: u16) -> [u8; HEADER_LEN] {
        let flags = if self.dont_fragment { DONT_FRAGMENT } else { 0 };
        let first = 0x4500_0000 | u32::from(self.tos) << 16 | u32::from(length);
        let second = u32::from(self.identification) << 16 | u32::from(flags);
        let third = u32::from(self.ttl) << 24 | u32::from(self.protocol) << 16;
        let (source, destination) = (self.source.to_bits(), self.destination.to_bits());
        let words = [first, second, third, source, destination];
        let sum = words.iter().map(|word| u64::from(*word)).sum::<u64>();
        let checksum = !checksum::fold(sum);
        let mut header = [0; HEADER_LEN];
        header[..4].copy_from_slice(&first.to_be_bytes());
        header[4..8].copy_from_slice(&second.to_be_bytes());
        header[8..12].copy_from_slice(&(third | u32::from(checksum)).to_be_bytes());
        header[12..16].copy_from_slice(&source.to_be_bytes());
        header[16..].copy_from_slice(&destination.to_be_bytes());
        header
    }

    /// Writes the header of a packet that fills `packet`. None if it does not fit, or is too long for IPv4.
    pub fn emit(&self, packet: &mut [u8]) -> Option<()> {
        let length = u16::try_from(packet.len()).ok()?;
        self.emit_with(packet, length)
    }

    /// As [`emit`](Self::emit), of a packet of `length` bytes whose end may be missing.
    pub fn emit_with(&self, packet: &mut [u8], length: u16) -> Option<()> {
        let header = packet.first_chunk_mut::<HEADER_LEN>()?;
        header[field::VERSION] = 0x45;
        header[field::TOS] = self.tos;
        set_u16(header, field::LENGTH, length);
        set_u16(header, field::IDENTIFICATION, self.identification);
        let flags = if self.dont_fragment { DONT_FRAGMENT } else { 0 };
        set_u16(header, field::FLAGS, flags);
        header[field::TTL] = self.ttl;
        header[field::PROTOCOL] = self.protocol;
        header[field::SOURCE].copy_from_slice(&self.source.octets());
        header[field::DESTINATION].copy_from_slice(&self.destination.octets());
        Ipv4(&mut header[..]).fill_checksum();
        Some(())
    }
}

#[cfg(test)]
#[path = "ipv4_tests.rs"]
mod tests;

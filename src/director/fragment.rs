//! What a fragment says of itself and its datagram.

use super::family::{Family, V4, Wire};
use super::parse::{Flow, Kind};
use super::parts::Part;
use super::sctp;
use crate::conn::Key;
use crate::forward::rewrite::Layout;
use crate::net::protocol;
use crate::packet::Head;
use crate::verdict::DropReason;
use crate::wire::sctp::Sctp;
use crate::wire::tcp::Flags;
use crate::wire::{self, ethernet, extension, tcp, udp};

/// The most bytes that a packet has, and an IPv6 packet behind its header.
const LONGEST: u32 = 65_535;

/// A part of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<F: Family = V4> {
    pub source: F::Address,
    pub destination: F::Address,
    /// In IPv6, what follows the headers of the first fragment; of another one, what it says, which may be anything.
    pub protocol: u8,
    pub identification: u32,
    /// Where its data belong, in bytes.
    pub offset: u16,
    /// Whether others follow.
    pub more: bool,
    /// Bytes of its data.
    pub data: u16,
    /// Bytes of headers that count towards the 65,535 of the whole datagram.
    pub before: u16,
    pub ttl: u8,
    /// The IP packet's length in bytes.
    pub length: u16,
    /// Where the header of TCP or UDP is, or would be if the fragment had it.
    pub layout: Layout,
}

impl<F: Family> Fragment<F> {
    pub fn is_first(&self) -> bool {
        self.offset == 0
    }

    /// The fragment as a packet of a flow, by what the first one of its datagram has told.
    pub(super) fn flow(&self, head: Head, frame: &[u8]) -> Flow<F> {
        let flags = match (self.is_first(), head.protocol) {
            (true, protocol::TCP) => (frame.get(usize::from(self.layout.l4) + 13)).copied(),
            (true, protocol::SCTP) => (frame.get(usize::from(self.layout.l4)..))
                .and_then(|bytes| Sctp::new_part(bytes).ok())
                .map(|packet| sctp::flags(&packet).0),
            _ => None,
        };
        Flow {
            key: F::Key::new(
                self.source,
                head.source_port,
                self.destination,
                head.destination_port,
                head.protocol,
            ),
            layout: self.layout,
            flags: Flags(flags.unwrap_or_default()),
            ttl: self.ttl,
            length: self.length,
            kind: match self.is_first() {
                true => Kind::FirstFragment,
                false => Kind::LaterFragment,
            },
        }
    }
}

impl<F: Wire> Fragment<F> {
    /// Whether its datagram may be one of TCP or UDP, or of SCTP where that is served. In IPv6 a later fragment does not tell: its next header
    /// may be that of an extension header, which only the first one has.
    pub(super) fn may_be_flow(&self, serves_sctp: bool) -> bool {
        let is_open = F::IS_V6 && !self.is_first();
        match self.protocol {
            protocol::TCP | protocol::UDP => true,
            protocol::SCTP if serves_sctp => true,
            other => is_open && extension::is_extension(other),
        }
    }

    /// The part that it is of its datagram; or why that is refused.
    pub(super) fn part(&self, frame: &[u8]) -> Result<Part, DropReason> {
        let (offset, data) = (u32::from(self.offset), u32::from(self.data));
        if self.is_too_long() {
            return Err(DropReason::FragmentTooLong);
        }
        // RFC 3128 section 3: it would overwrite the flags of the first one.
        if self.protocol == protocol::TCP && self.offset == 8 {
            return Err(DropReason::FragmentTiny);
        }
        let head = match self.is_first() {
            true => Some(self.head(frame)?),
            false => None,
        };
        Ok(Part {
            offset,
            end: offset + data,
            more: self.more,
            head,
        })
    }

    /// Whether it reaches beyond what a packet may have.
    pub(super) fn is_too_long(&self) -> bool {
        u32::from(self.before) + u32::from(self.offset) + u32::from(self.data) > LONGEST
    }

    /// Whether it can be no part of a datagram, whatever the others are: without data, or in the middle and not a multiple of 8
    /// bytes long.
    pub(super) fn is_impossible(&self) -> bool {
        self.data == 0 || self.more && !self.data.is_multiple_of(8)
    }

    /// What the first fragment tells of the others. It must have all of the header (RFC 1858 section 3, RFC 7112 section 5).
    fn head(&self, frame: &[u8]) -> Result<Head, DropReason> {
        let end = ethernet::HEADER_LEN + usize::from(self.length);
        let header = frame.get(usize::from(self.layout.l4)..end);
        let header = header.ok_or(DropReason::FragmentTiny)?;
        let tcp_len = header.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
        let least = match self.protocol {
            protocol::TCP => tcp_len.max(tcp::HEADER_LEN),
            protocol::SCTP => wire::sctp::LEAST_LEN,
            _ => udp::HEADER_LEN,
        };
        let ports = match header.first_chunk::<8>() {
            Some(ports) if header.len() >= least => ports,
            _ => return Err(DropReason::FragmentTiny),
        };
        let word = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
        if self.protocol == F::ICMP {
            // Only an echo request is answered, or has an answer; identifier and number tell one from others.
            let (identifier, number) = (word(4), word(6));
            let (source_port, destination_port, is_request) = match ports[0] {
                kind if kind == F::ECHO_REQUEST => (identifier, number, true),
                kind if kind == F::ECHO_REPLY => (number, identifier, false),
                _ => return Err(DropReason::Fragment),
            };
            return Ok(Head {
                source_port,
                destination_port,
                protocol: F::ICMP,
                has_checksum: is_request,
            });
        }
        let is_tcp = self.protocol == protocol::TCP;
        if is_tcp && tcp_len < tcp::HEADER_LEN {
            return Err(DropReason::BadL4Header);
        }
        let has_checksum = is_tcp || self.protocol == protocol::SCTP || word(6) != 0;
        if !has_checksum && F::IS_V6 {
            return Err(DropReason::NoUdpChecksum);
        }
        Ok(Head {
            source_port: word(0),
            destination_port: word(2),
            protocol: self.protocol,
            has_checksum,
        })
    }
}

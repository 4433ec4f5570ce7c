//! SCTP (RFC 9260 section 3): the common header, and what the first chunk says.

use super::Malformed;
use super::crc32c::{change, remainder};
use super::field::{set_u16, set_u32, u16_of, u32_of};
use std::net::IpAddr;

/// Bytes of the common header.
pub const HEADER_LEN: usize = field::CHUNKS_AT;
/// Bytes of a packet with one chunk that is a header alone.
pub const LEAST_LEN: usize = HEADER_LEN + CHUNK_LEN;
/// Bytes of a chunk's header, and of a parameter's.
const CHUNK_LEN: usize = 4;
/// Bytes of an INIT or INIT ACK before its parameters (section 3.3.2).
const INIT_LEN: usize = 20;

mod field {
    use crate::wire::field::Field;

    pub(super) const SOURCE_PORT: Field = 0..2;
    pub(super) const DESTINATION_PORT: Field = 2..4;
    pub(super) const TAG: Field = 4..8;
    pub(super) const CHECKSUM: Field = 8..12;
    pub(super) const CHUNKS_AT: usize = 12;
    pub(super) const CHUNK_TYPE: usize = 12;
    pub(super) const CHUNK_FLAGS: usize = 13;
    pub(super) const CHUNK_LENGTH: Field = 14..16;
    /// Of an INIT or INIT ACK.
    pub(super) const INITIATE_TAG: Field = 16..20;
}

/// Types of chunks (section 3.2).
pub mod chunk {
    pub const DATA: u8 = 0;
    pub const INIT: u8 = 1;
    pub const INIT_ACK: u8 = 2;
    pub const SACK: u8 = 3;
    pub const HEARTBEAT: u8 = 4;
    pub const HEARTBEAT_ACK: u8 = 5;
    pub const ABORT: u8 = 6;
    pub const SHUTDOWN: u8 = 7;
    pub const SHUTDOWN_ACK: u8 = 8;
    pub const ERROR: u8 = 9;
    pub const COOKIE_ECHO: u8 = 10;
    pub const COOKIE_ACK: u8 = 11;
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// Types of parameters that tell addresses (section 3.3.2.1), …
const ADDRESS_V4: u16 = 5;
const ADDRESS_V6: u16 = 6;
/// … and of padding (RFC 4820 section 4): a receiver that does not know it skips it, and reports nothing.
const PADDING: u16 = 0x8005;

/// The T bit of an ABORT or a SHUTDOWN COMPLETE: its tag is that of the packet that it answers (section 8.5.1).
const REFLECTED: u8 = 1;
/// The B and E bits of DATA: a whole message (section 3.3.1).
const WHOLE: u8 = 3;

/// What a packet does to its association, by its first chunk; the kernel's `ipvs_sctp_event_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// DATA, SACK, HEARTBEAT, and whatever else changes nothing.
    Data,
    Init,
    InitAck,
    CookieEcho,
    CookieAck,
    Shutdown,
    ShutdownAck,
    ShutdownComplete,
    Error,
    Abort,
}

impl Event {
    pub const ALL: [Event; 10] = [
        Event::Data,
        Event::Init,
        Event::InitAck,
        Event::CookieEcho,
        Event::CookieAck,
        Event::Shutdown,
        Event::ShutdownAck,
        Event::ShutdownComplete,
        Event::Error,
        Event::Abort,
    ];

    /// RFC 9260's name of the chunk; of those that change nothing that of one.
    pub const fn name(self) -> &'static str {
        match self {
            Event::Data => "DATA or the like",
            Event::Init => "INIT",
            Event::InitAck => "INIT ACK",
            Event::CookieEcho => "COOKIE ECHO",
            Event::CookieAck => "COOKIE ACK",
            Event::Shutdown => "SHUTDOWN",
            Event::ShutdownAck => "SHUTDOWN ACK",
            Event::ShutdownComplete => "SHUTDOWN COMPLETE",
            Event::Error => "ERROR",
            Event::Abort => "ABORT",
        }
    }

    /// That of a chunk's type.
    pub fn of(kind: u8) -> Self {
        match kind {
            chunk::INIT => Event::Init,
            chunk::INIT_ACK => Event::InitAck,
            chunk::COOKIE_ECHO => Event::CookieEcho,
            chunk::COOKIE_ACK => Event::CookieAck,
            chunk::SHUTDOWN => Event::Shutdown,
            chunk::SHUTDOWN_ACK => Event::ShutdownAck,
            chunk::SHUTDOWN_COMPLETE => Event::ShutdownComplete,
            chunk::ERROR => Event::Error,
            chunk::ABORT => Event::Abort,
            _ => Event::Data,
        }
    }
}

/// A packet: the common header, and at least the header of its first chunk. Of a first fragment the chunk may be cut short.
#[derive(Clone, Copy, Debug)]
pub struct Sctp<T>(T);

impl<T: AsRef<[u8]>> Sctp<T> {
    /// Of a whole packet.
    ///
    /// # Errors
    /// [`Malformed::Truncated`]; or [`Malformed::Length`]: of a chunk that is shorter than its fields, or reaches beyond the packet,
    /// or of an INIT, INIT ACK or SHUTDOWN COMPLETE that is not alone (section 6.10); or [`Malformed::Code`]: an INIT with a
    /// verification tag, or one with an initiate tag of 0 (sections 8.5.1 and 3.3.2).
    pub fn new_checked(bytes: T) -> Result<Self, Malformed> {
        let packet = Self::new_part(bytes)?;
        let rest = packet.0.as_ref().len() - HEADER_LEN;
        let length = packet.chunk_length();
        let is_alone = length.next_multiple_of(4) >= rest;
        match packet.first() {
            _ if !(CHUNK_LEN..=rest).contains(&length) => return Err(Malformed::Length),
            chunk::INIT | chunk::INIT_ACK if length < INIT_LEN || !is_alone => {
                return Err(Malformed::Length);
            }
            chunk::SHUTDOWN_COMPLETE if !is_alone => return Err(Malformed::Length),
            chunk::INIT if packet.tag() != 0 => return Err(Malformed::Code),
            _ => {}
        }
        match packet.initiate_tag() {
            Some(0) => Err(Malformed::Code),
            _ => Ok(packet),
        }
    }

    /// Of a first fragment: nothing beyond the first chunk's header has to be there.
    ///
    /// # Errors
    /// [`Malformed::Truncated`].
    pub fn new_part(bytes: T) -> Result<Self, Malformed> {
        match bytes.as_ref().len() >= LEAST_LEN {
            true => Ok(Sctp(bytes)),
            false => Err(Malformed::Truncated),
        }
    }

    pub fn source_port(&self) -> u16 {
        u16_of(self.0.as_ref(), field::SOURCE_PORT)
    }

    pub fn destination_port(&self) -> u16 {
        u16_of(self.0.as_ref(), field::DESTINATION_PORT)
    }

    /// The verification tag.
    pub fn tag(&self) -> u32 {
        u32_of(self.0.as_ref(), field::TAG)
    }

    /// The tag that the sender of an INIT or INIT ACK has the other side's packets have; none of others.
    pub fn initiate_tag(&self) -> Option<u32> {
        let is_told = matches!(self.first(), chunk::INIT | chunk::INIT_ACK);
        let tag = self.0.as_ref().get(field::INITIATE_TAG)?;
        is_told.then(|| u32_of(tag, 0..4))
    }

    /// Whether its tag is the one of the packets that it answers, and not the one that the other side has chosen.
    pub fn is_tag_reflected(&self) -> bool {
        let may_be = matches!(self.first(), chunk::ABORT | chunk::SHUTDOWN_COMPLETE);
        may_be && self.0.as_ref()[field::CHUNK_FLAGS] & REFLECTED != 0
    }

    /// What the packet does. An ABORT behind a COOKIE ECHO or COOKIE ACK counts, as in the kernel's `set_sctp_state`; what
    /// follows other chunks ends no association that the other side takes for one.
    pub fn event(&self) -> Event {
        let bytes = self.0.as_ref();
        let first = self.first();
        let at = HEADER_LEN + self.chunk_length().next_multiple_of(4);
        match (first, bytes.get(at)) {
            (chunk::COOKIE_ECHO | chunk::COOKIE_ACK, Some(&chunk::ABORT)) => Event::Abort,
            _ => Event::of(first),
        }
    }

    /// Whether the checksum of a whole packet is right.
    pub fn is_checksum_right(&self) -> bool {
        let bytes = self.0.as_ref();
        checksum(bytes) == bytes[field::CHECKSUM]
    }

    /// The first chunk's type.
    fn first(&self) -> u8 {
        self.0.as_ref()[field::CHUNK_TYPE]
    }

    fn chunk_length(&self) -> usize {
        u16_of(self.0.as_ref(), field::CHUNK_LENGTH).into()
    }
}

/// The checksum of a packet, as its field has it: lowest byte first (appendix A).
fn checksum(packet: &[u8]) -> [u8; 4] {
    let before = remainder(u32::MAX, &packet[..field::CHECKSUM.start]);
    let with_field = remainder(before, &[0; 4]);
    (!remainder(with_field, &packet[field::CHUNKS_AT..])).to_le_bytes()
}

/// Puts other ports into a packet of `length` bytes, whose end may be missing, and corrects its checksum by what changed, if that is
/// there. `ports`: as they are on the wire, first byte lowest.
pub fn set_ports(packet: &mut [u8], length: usize, ports: u32) {
    let Some(field) = packet.first_chunk_mut::<4>() else {
        return;
    };
    let changed = u32::from_le_bytes(*field) ^ ports;
    *field = ports.to_le_bytes();
    if let Some(header) = packet.first_chunk_mut::<HEADER_LEN>() {
        let changed = remainder(0, &changed.to_le_bytes());
        correct(header, changed, length.saturating_sub(4));
    }
}

/// Turns the addresses that an INIT or INIT ACK tells besides its sender's, which is `sender`, into padding, and corrects the
/// checksum: the association has one path. Nothing moves, so that the packet stays as long as it was.
pub fn hide_addresses(packet: &mut [u8], sender: IpAddr) {
    let told = Sctp::new_checked(&*packet).ok();
    let told = told.and_then(|packet| packet.initiate_tag().map(|_| packet.chunk_length()));
    let Some((header, rest)) = packet.split_first_chunk_mut::<HEADER_LEN>() else {
        return;
    };
    let Some((chunk, padding)) = told.and_then(|length| rest.split_at_mut_checked(length)) else {
        return;
    };
    let before = remainder(0, chunk);
    let mut parameters = chunk.get_mut(INIT_LEN..).unwrap_or_default();
    while let Some(length) = parameter_length(parameters) {
        let Some((parameter, others)) = parameters.split_at_mut_checked(length) else {
            break;
        };
        if tells_another(parameter, sender) {
            set_u16(parameter, 0..2, PADDING);
            parameter[CHUNK_LEN..].fill(0);
        }
        let gap = (length.next_multiple_of(4) - length).min(others.len());
        parameters = &mut others[gap..];
    }
    let changed = before ^ remainder(0, chunk);
    correct(header, changed, padding.len());
}

/// The length of the first parameter; none if there is none.
fn parameter_length(parameters: &[u8]) -> Option<usize> {
    let length = usize::from(u16_of(parameters.get(2..4)?, 0..2));
    (length >= CHUNK_LEN).then_some(length)
}

/// Whether a parameter tells an address other than this one.
fn tells_another(parameter: &[u8], address: IpAddr) -> bool {
    let value = &parameter[CHUNK_LEN..];
    match u16_of(parameter, 0..2) {
        ADDRESS_V4 => <[u8; 4]>::try_from(value).map_or(true, |told| IpAddr::from(told) != address),
        ADDRESS_V6 => {
            <[u8; 16]>::try_from(value).map_or(true, |told| IpAddr::from(told) != address)
        }
        _ => false,
    }
}

/// Corrects the checksum by a change with that remainder, `behind` bytes before the packet's end.
fn correct(header: &mut [u8; HEADER_LEN], changed: u32, behind: usize) {
    let change = change(changed, behind).to_le_bytes();
    for (byte, change) in header[field::CHECKSUM].iter_mut().zip(change) {
        *byte ^= change;
    }
}

/// A packet of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    pub source_port: u16,
    pub destination_port: u16,
    pub tag: u32,
    pub kind: u8,
    /// See [`Sctp::is_tag_reflected`].
    pub is_reflected: bool,
}

impl Repr {
    /// The answer to a packet of no association (section 8.4): an ABORT, or a SHUTDOWN COMPLETE to a SHUTDOWN ACK. None to
    /// what ends one itself, or answers what was never sent.
    pub fn refusal(packet: &Sctp<impl AsRef<[u8]>>) -> Option<Self> {
        let kind = match packet.event() {
            Event::Abort | Event::ShutdownComplete | Event::CookieAck | Event::Error => {
                return None;
            }
            Event::ShutdownAck => chunk::SHUTDOWN_COMPLETE,
            _ => chunk::ABORT,
        };
        let initiated = packet.initiate_tag();
        let initiated = initiated.filter(|_| packet.event() == Event::Init);
        Some(Repr {
            source_port: packet.destination_port(),
            destination_port: packet.source_port(),
            tag: initiated.unwrap_or(packet.tag()),
            kind,
            is_reflected: initiated.is_none(),
        })
    }

    /// Writes the packet, with nothing in its chunk, into the first [`LEAST_LEN`] bytes. None if it does not fit.
    pub fn emit(&self, packet: &mut [u8]) -> Option<()> {
        self.emit_around(packet.get_mut(..LEAST_LEN)?, 0)
    }

    /// Writes the headers and the checksum of a packet whose chunk has so many bytes behind its header, which are there, as is the
    /// padding behind them. None if it does not fit.
    pub fn emit_around(&self, packet: &mut [u8], value: usize) -> Option<()> {
        let length = u16::try_from(CHUNK_LEN + value).ok()?;
        if packet.len() < HEADER_LEN + usize::from(length) {
            return None;
        }
        set_u16(packet, field::SOURCE_PORT, self.source_port);
        set_u16(packet, field::DESTINATION_PORT, self.destination_port);
        set_u32(packet, field::TAG, self.tag);
        packet[field::CHUNK_TYPE] = self.kind;
        packet[field::CHUNK_FLAGS] = match self.kind {
            chunk::DATA => WHOLE,
            _ => u8::from(self.is_reflected) * REFLECTED,
        };
        set_u16(packet, field::CHUNK_LENGTH, length);
        let checksum = checksum(packet);
        packet[field::CHECKSUM].copy_from_slice(&checksum);
        Some(())
    }
}

#[cfg(test)]
#[path = "sctp_tests.rs"]
mod tests;

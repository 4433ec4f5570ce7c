//! Puts bytes into a packet behind its headers, or behind the first part of TCP's: what tells a real server of a client. Lengths and
//! checksums follow; a wrong checksum stays wrong by as much (RFC 1624).
//!
//! All that is put in has an even length, so that what follows keeps its place in the words that checksums sum up.

use super::rewrite::Layout;
use crate::packet::Packet;
use crate::wire::checksum::{Delta, sum};
use crate::wire::ethernet;
use crate::wire::segment::NO_OPERATION;
use crate::wire::tcp::{self, Flags, Tcp};
use crate::wire::udp;
use arrayvec::ArrayVec;

const IP: usize = ethernet::HEADER_LEN;
const V4_LENGTH: usize = IP + 2;
const V4_OFFSET: usize = IP + 6;
const V4_CHECKSUM: usize = IP + 10;
const V6_LENGTH: usize = IP + 4;
/// Bytes that a fragment's offset counts by.
const UNIT: u16 = 8;
/// Bytes of a segment's options, at most.
const MAX_OPTIONS: usize = tcp::MAX_HEADER_LEN - tcp::HEADER_LEN;

/// A TCP or UDP packet that [`parse`](crate::director::parse) has checked.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub layout: Layout,
    /// Of the IP packet, in bytes.
    pub length: u16,
}

impl Place {
    fn l4(self) -> usize {
        self.layout.l4.into()
    }

    fn end(self) -> usize {
        IP + usize::from(self.length)
    }
}

/// The segment of a frame, as far as the frame has it.
pub fn segment(frame: &mut [u8], place: Place) -> Option<Tcp<&mut [u8]>> {
    Tcp::new_checked(frame.get_mut(place.l4()..place.end())?).ok()
}

/// Puts a header in front of a segment's data. Returns the packet's length then; none, and nothing has changed, where there is no
/// room for it.
pub fn before_data<P: Packet>(packet: &mut P, place: Place, header: &[u8]) -> Option<u16> {
    let headers = segment(packet.data_mut(), place)?.header_len();
    let length = insert(packet, place, place.l4() + headers, header)?;
    let place = Place { length, ..place };
    let mut segment = segment(packet.data_mut(), place)?;
    segment.correct(added(header));
    if segment.is_urgent() {
        segment.move_urgent(header.len() as u16);
    }
    Some(length)
}

/// Puts an option in front of a segment's others: behind them there may be an end of the list. Its length is a multiple of 4.
/// Where a header has no room for it but for its padding, that goes. Returns the packet's length then; none, and nothing has
/// changed, where there is no room for it.
pub fn option<P: Packet>(packet: &mut P, place: Place, option: &[u8]) -> Option<u16> {
    let headers = segment(packet.data_mut(), place)?.header_len();
    if headers + option.len() > tcp::MAX_HEADER_LEN {
        return for_padding(packet, place, option);
    }
    lengthen(packet, place, option)
}

/// Writes a segment's options anew, with another one first, and pads them to a multiple of four bytes (RFC 9293 section 3.1): what
/// padding there was makes room.
#[cold]
fn for_padding<P: Packet>(packet: &mut P, place: Place, option: &[u8]) -> Option<u16> {
    let segment = segment(packet.data_mut(), place)?;
    let headers = segment.header_len();
    let mut all = ArrayVec::<u8, MAX_OPTIONS>::new();
    all.try_extend_from_slice(option).ok()?;
    for other in segment.options() {
        let other = other.ok()?;
        all.try_push(other.kind).ok()?;
        all.try_push(other.data.len() as u8 + 2).ok()?;
        all.try_extend_from_slice(other.data).ok()?;
    }
    let needed = tcp::HEADER_LEN + all.len().next_multiple_of(4);
    let length = match needed.checked_sub(headers) {
        None | Some(0) => place.length,
        Some(more) => lengthen(packet, place, &[NO_OPERATION; MAX_OPTIONS][..more])?,
    };
    let mut segment = self::segment(packet.data_mut(), Place { length, ..place })?;
    let room = needed.max(headers) - tcp::HEADER_LEN;
    while all.len() < room {
        all.push(NO_OPERATION);
    }
    segment.set_options(&all);
    Some(length)
}

/// Puts bytes in front of a segment's options, a multiple of 4 of them.
fn lengthen<P: Packet>(packet: &mut P, place: Place, option: &[u8]) -> Option<u16> {
    let length = insert(packet, place, place.l4() + tcp::HEADER_LEN, option)?;
    let place = Place { length, ..place };
    // The offset is that of before: the longer header is there, all the same.
    let mut segment = segment(packet.data_mut(), place)?;
    segment.correct(added(option));
    segment.lengthen_header((option.len() / 4) as u8);
    Some(length)
}

/// Puts a header in front of a datagram's data, also of one in fragments whose first this is. Returns the packet's length then;
/// none, and nothing has changed, where there is no room for it.
pub fn before_datagram<P: Packet>(packet: &mut P, place: Place, header: &[u8]) -> Option<u16> {
    let l4 = place.l4();
    let before = word(packet.data(), l4 + 4)?;
    let after = before.checked_add(header.len() as u16)?;
    let length = insert(packet, place, l4 + udp::HEADER_LEN, header)?;
    let frame = packet.data_mut();
    set_word(frame, l4 + 4, after);
    let field = frame.get_mut(l4 + 6..).and_then(<[u8]>::first_chunk_mut)?;
    // The pseudo header has the length as well.
    let lengths = Delta::ZERO.replace_u16(before, after);
    let content = Delta::ZERO.replace_u16(0, sum(header));
    lengths.and(lengths).and(content).apply_udp(field);
    Some(length)
}

/// Moves a later fragment of a datagram behind a header of so many bytes, a multiple of 8, that its first one has got. None if it
/// would end beyond what a packet may have.
pub fn behind(frame: &mut [u8], place: Place, header: u16) -> Option<()> {
    let data = place.end().checked_sub(place.l4())? as u32;
    let is_v6 = is_v6(frame);
    let at = match is_v6 {
        false => V4_OFFSET,
        // The fragment header is the last before the data.
        true => place.l4().checked_sub(6)?,
    };
    let old = word(frame, at)?;
    let (units, flags) = match is_v6 {
        false => (old & 0x1fff, old & 0xe000),
        true => (old >> 3, old & 7),
    };
    let units = units + header / UNIT;
    if u32::from(units) * u32::from(UNIT) + data > u16::MAX.into() {
        return None;
    }
    let new = match is_v6 {
        false => flags | units,
        true => units << 3 | flags,
    };
    set_word(frame, at, new);
    if !is_v6 {
        correct_header(frame, old, new);
    }
    Some(())
}

/// Takes a segment's data off. Returns the packet's length then.
pub fn without_data<P: Packet>(packet: &mut P, place: Place) -> Option<u16> {
    let frame = packet.data_mut();
    let whole = frame.get_mut(place.l4()..place.end())?;
    let (headers, gone) = {
        let segment = Tcp::new_checked(&*whole).ok()?;
        (segment.header_len(), sum(segment.payload()))
    };
    let data = whole.len() - headers;
    let mut segment = Tcp::new_checked(whole).ok()?;
    let less = Delta::ZERO.replace_u16(data as u16, 0);
    segment.correct(less.and(Delta::ZERO.replace_u16(gone, 0)));
    let length = place.length - data as u16;
    set_length(frame, place.length, length);
    packet.resize(IP + usize::from(length)).then_some(length)
}

/// Writes into `own` a segment of a header alone, of the connection that `frame` is a segment of and with its numbers. Returns its
/// length as a packet.
pub fn alone<P: Packet>(own: &mut P, frame: &[u8], place: Place, header: &[u8]) -> Option<u16> {
    let length = alone_length(frame, place, header)?;
    match own.resize(length) {
        true => write_alone(own.data_mut(), frame, place, header),
        false => None,
    }
}

/// The length of the frame that [`write_alone`] writes.
pub fn alone_length(frame: &[u8], place: Place, header: &[u8]) -> Option<usize> {
    let segment = Tcp::new_checked(frame.get(place.l4()..place.end())?).ok()?;
    Some(place.l4() + segment.header_len() + header.len())
}

/// As [`alone`], into bytes of the right length.
pub fn write_alone(written: &mut [u8], frame: &[u8], place: Place, header: &[u8]) -> Option<u16> {
    let (headers, data, gone) = {
        let segment = Tcp::new_checked(frame.get(place.l4()..place.end())?).ok()?;
        let payload = segment.payload();
        (
            place.l4() + segment.header_len(),
            payload.len(),
            sum(payload),
        )
    };
    let (before, behind) = written.split_at_mut_checked(headers)?;
    before.copy_from_slice(frame.get(..headers)?);
    if behind.len() != header.len() {
        return None;
    }
    behind.copy_from_slice(header);
    let length = u16::try_from(written.len() - IP).ok()?;
    set_length(written, place.length, length);
    let mut segment = segment(written, Place { length, ..place })?;
    let content = Delta::ZERO.replace_u16(gone, sum(header));
    segment.correct(content.replace_u16(data as u16, header.len() as u16));
    segment.clear_flags(Flags::FIN | Flags::URGENT);
    Some(length)
}

/// The change of a segment's checksum by more bytes in it.
fn added(bytes: &[u8]) -> Delta {
    Delta::ZERO
        .replace_u16(0, sum(bytes))
        .replace_u16(0, bytes.len() as u16)
}

/// Moves what is before `at` by the bytes' length to the front, and puts them into the gap. All but IP's length is left to the caller.
fn insert<P: Packet>(packet: &mut P, place: Place, at: usize, bytes: &[u8]) -> Option<u16> {
    let count = bytes.len();
    let length = place.length.checked_add(u16::try_from(count).ok()?)?;
    // The padding of a short frame goes first.
    let end = place.end();
    if at > end || packet.data().len() != end && !packet.resize(end) {
        return None;
    }
    if !packet.grow_front(count) {
        return None;
    }
    let frame = packet.data_mut();
    frame.copy_within(count..count + at, 0);
    frame[at..at + count].copy_from_slice(bytes);
    set_length(frame, place.length, length);
    Some(length)
}

fn is_v6(frame: &[u8]) -> bool {
    frame.get(IP).is_some_and(|first| first >> 4 == 6)
}

/// Says that an IP packet of `old` bytes has `new` ones.
fn set_length(frame: &mut [u8], old: u16, new: u16) {
    if is_v6(frame) {
        let payload = word(frame, V6_LENGTH).unwrap_or_default();
        set_word(
            frame,
            V6_LENGTH,
            payload.wrapping_add(new.wrapping_sub(old)),
        );
    } else {
        set_word(frame, V4_LENGTH, new);
        correct_header(frame, old, new);
    }
}

/// Corrects the checksum of an IPv4 header by the change of a word.
fn correct_header(frame: &mut [u8], old: u16, new: u16) {
    let field = frame.get_mut(V4_CHECKSUM..);
    if let Some(field) = field.and_then(<[u8]>::first_chunk_mut) {
        Delta::ZERO.replace_u16(old, new).apply(field);
    }
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    let word = frame.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*word))
}

fn set_word(frame: &mut [u8], at: usize, value: u16) {
    if let Some(word) = frame.get_mut(at..at + 2) {
        word.copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
#[path = "insert_tests.rs"]
mod tests;

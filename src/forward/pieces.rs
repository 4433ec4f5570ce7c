//! Fragments a wrapped packet on its way out. Only what may not be refused is: a packet of IPv6 that every link takes, on a way
//! that takes less than that and the headers before it. weir is where the outer packet begins, so it may, over IPv6 too
//! (RFC 2473 section 7.1 (b), RFC 4213 section 3.2.2).

use crate::net::{ethertype, protocol};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::{ethernet, ipv6};
use std::ops::Range;

const IP: usize = ethernet::HEADER_LEN;
const FRAGMENT_LEN: usize = 8;

/// How a packet with a header of weir's own, without options, is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces {
    is_v6: bool,
    /// Bytes behind the outer IP header.
    data: usize,
    /// Bytes of it in every piece but the last.
    step: usize,
}

/// One of them, by the bytes behind the outer IP header.
pub type Piece = Range<usize>;

impl Pieces {
    /// Of the packet of a frame, into pieces of at most `mtu` bytes. None if it is no such packet, or the MTU leaves no room.
    pub fn of(frame: &[u8], mtu: u16) -> Option<Self> {
        let is_v6 = frame.get(12..IP)? == ethertype::IPV6.to_be_bytes();
        let (header, between) = match is_v6 {
            true => (ipv6::HEADER_LEN, FRAGMENT_LEN),
            false => (ipv4::HEADER_LEN, 0),
        };
        // Each but the last is a multiple of 8 bytes long (RFC 791 section 3.2, RFC 8200 section 4.5).
        let step = usize::from(mtu).checked_sub(header + between)? & !7;
        let data = frame.len().checked_sub(IP + header)?;
        (step > 0).then_some(Pieces { is_v6, data, step })
    }

    pub fn iter(self) -> impl Iterator<Item = Piece> {
        let starts = (0..self.data).step_by(self.step);
        starts.map(move |start| start..self.data.min(start + self.step))
    }

    fn header(&self) -> usize {
        match self.is_v6 {
            true => ipv6::HEADER_LEN,
            false => ipv4::HEADER_LEN,
        }
    }

    /// Where in its frame the data of a piece begin.
    fn start(&self) -> usize {
        let between = if self.is_v6 { FRAGMENT_LEN } else { 0 };
        IP + self.header() + between
    }

    /// The length of a piece's frame.
    pub fn length(&self, piece: &Piece) -> usize {
        self.start() + piece.len()
    }

    /// Writes the frame of a piece of `whole`.
    pub fn copy(&self, whole: &[u8], piece: &Piece, frame: &mut [u8], number: u32) -> Option<()> {
        let before = IP + self.header();
        let data = whole.get(before + piece.start..before + piece.end)?;
        frame
            .get_mut(..before)?
            .copy_from_slice(whole.get(..before)?);
        frame.get_mut(self.start()..)?.copy_from_slice(data);
        self.finish(frame, piece, number)
    }

    /// Makes the last piece of the whole frame itself, which is to be cut to its [`length`](Self::length) then.
    pub fn keep_last(&self, frame: &mut [u8], piece: &Piece, number: u32) -> Option<()> {
        let before = IP + self.header();
        let data = before + piece.start..before + piece.end;
        // It begins after the first one, and so is never overtaken.
        if data.end > frame.len() || self.length(piece) > frame.len() {
            return None;
        }
        frame.copy_within(data, self.start());
        let length = self.length(piece);
        self.finish(frame.get_mut(..length)?, piece, number)
    }

    fn finish(&self, frame: &mut [u8], piece: &Piece, number: u32) -> Option<()> {
        let more = piece.end < self.data;
        let packet = frame.get_mut(IP..)?;
        let length = packet.len();
        let offset = u16::try_from(piece.start).ok()?;
        if self.is_v6 {
            let (header, rest) = packet.split_at_mut_checked(ipv6::HEADER_LEN)?;
            let payload = u16::try_from(length - ipv6::HEADER_LEN).ok()?;
            header[4..6].copy_from_slice(&payload.to_be_bytes());
            let next = std::mem::replace(&mut header[6], protocol::FRAGMENT);
            let fragment = rest.first_chunk_mut::<FRAGMENT_LEN>()?;
            fragment[0] = next;
            fragment[1] = 0;
            let place = offset | u16::from(more);
            fragment[2..4].copy_from_slice(&place.to_be_bytes());
            fragment[4..].copy_from_slice(&number.to_be_bytes());
        } else {
            let header = packet.first_chunk_mut::<{ ipv4::HEADER_LEN }>()?;
            header[2..4].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
            let place = (offset / 8) | if more { 0x2000 } else { 0 };
            header[6..8].copy_from_slice(&place.to_be_bytes());
            Ipv4::new_quoted(&mut header[..]).ok()?.fill_checksum();
        }
        Some(())
    }
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;

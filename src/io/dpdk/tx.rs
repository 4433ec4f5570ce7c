//! Frames that wait to leave by one port, and what each of them counts as once the device has taken it.

use super::{Mbuf, TxQueue};
use crate::packet::Sent;
use arrayvec::ArrayVec;
use std::ops::AddAssign;

/// Up to [`TxBuffer::CAPACITY`] frames for one transmit queue.
#[derive(Debug, Default)]
pub struct TxBuffer {
    frames: ArrayVec<Mbuf, { TxBuffer::CAPACITY }>,
    kinds: Kinds,
}

impl TxBuffer {
    /// One bit of a `u64` for each frame.
    pub const CAPACITY: usize = 64;

    /// Appends a frame. Returns true when the buffer is full then, and has to be flushed before the next push.
    ///
    /// # Panics
    /// When the buffer was full before.
    #[inline]
    #[must_use = "a full buffer has to be flushed"]
    pub fn push(&mut self, frame: Mbuf, kind: Sent) -> bool {
        self.kinds.set(self.frames.len(), kind);
        self.frames.push(frame);
        self.frames.is_full()
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Prepares each frame for the device. Those for which that fails are freed; returns what they counted as.
    pub fn prepare(&mut self, prepare: impl Fn(&mut Mbuf) -> bool) -> Tally {
        let (frames, kinds) = (
            std::mem::take(&mut self.frames),
            std::mem::take(&mut self.kinds),
        );
        let mut lost = Tally::default();
        for (place, mut frame) in frames.into_iter().enumerate() {
            match prepare(&mut frame) {
                true => {
                    self.kinds.set(self.frames.len(), kinds.get(place));
                    self.frames.push(frame);
                }
                false => lost += kinds.tally(1 << place),
            }
        }
        lost
    }

    /// Sends all of it. What the device does not take is freed.
    #[inline]
    pub fn flush(&mut self, queue: &mut TxQueue) -> Flushed {
        let frames = self.frames.len();
        if frames == 0 {
            return Flushed::default();
        }
        let sent = queue.burst(&mut self.frames);
        Mbuf::free_all(&mut self.frames);
        std::mem::take(&mut self.kinds).split(sent, frames)
    }
}

/// What became of the frames of a flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// The device took them.
    pub sent: Tally,
    /// Its queue was full: they are gone (`tx_full`).
    pub refused: Tally,
}

/// Frames, by what they count as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub forwarded: u64,
    pub answered: u64,
    pub originated: u64,
}

impl AddAssign for Flushed {
    fn add_assign(&mut self, other: Flushed) {
        self.sent += other.sent;
        self.refused += other.refused;
    }
}

impl Tally {
    /// Those of one kind.
    pub fn of(&self, kind: Sent) -> u64 {
        match kind {
            Sent::Forwarded => self.forwarded,
            Sent::Answered => self.answered,
            Sent::Originated => self.originated,
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.forwarded += other.forwarded;
        self.answered += other.answered;
        self.originated += other.originated;
    }
}

/// The kind of each frame of a buffer, as two bits at its place; forwarded is neither.
#[derive(Clone, Copy, Debug, Default)]
struct Kinds {
    answered: u64,
    originated: u64,
}

impl Kinds {
    #[inline]
    fn set(&mut self, place: usize, kind: Sent) {
        match kind {
            Sent::Forwarded => {}
            Sent::Answered => self.answered |= 1 << place,
            Sent::Originated => self.originated |= 1 << place,
        }
    }

    /// Of `frames` frames the first `sent` left.
    fn split(self, sent: usize, frames: usize) -> Flushed {
        if self.answered | self.originated == 0 {
            let forwarded = |frames| Tally {
                forwarded: frames as u64,
                ..Tally::default()
            };
            return Flushed {
                sent: forwarded(sent),
                refused: forwarded(frames - sent),
            };
        }
        let gone = low_bits(sent);
        Flushed {
            sent: self.tally(gone),
            refused: self.tally(low_bits(frames) & !gone),
        }
    }

    fn get(self, place: usize) -> Sent {
        match (self.answered >> place & 1, self.originated >> place & 1) {
            (1, _) => Sent::Answered,
            (_, 1) => Sent::Originated,
            _ => Sent::Forwarded,
        }
    }

    /// Counts the places that are set in `mask`.
    fn tally(self, mask: u64) -> Tally {
        Tally {
            forwarded: (mask & !self.answered & !self.originated)
                .count_ones()
                .into(),
            answered: (mask & self.answered).count_ones().into(),
            originated: (mask & self.originated).count_ones().into(),
        }
    }
}

/// The lowest `count` of 64 bits.
fn low_bits(count: usize) -> u64 {
    u64::MAX.checked_shr(64 - count as u32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERN: [Sent; 3] = Sent::ALL;

    fn count(places: std::ops::Range<usize>) -> Tally {
        let mut tally = Tally::default();
        for place in places {
            match PATTERN[place % 3] {
                Sent::Forwarded => tally.forwarded += 1,
                Sent::Answered => tally.answered += 1,
                Sent::Originated => tally.originated += 1,
            }
        }
        tally
    }

    #[test]
    fn every_frame_is_counted_once_wherever_the_device_stops() {
        for frames in 0..=TxBuffer::CAPACITY {
            let mut kinds = Kinds::default();
            for place in 0..frames {
                kinds.set(place, PATTERN[place % 3]);
            }
            for (place, kind) in PATTERN.iter().cycle().take(frames).enumerate() {
                assert_eq!(kinds.get(place), *kind);
            }
            for sent in 0..=frames {
                let flushed = kinds.split(sent, frames);
                assert_eq!(
                    flushed,
                    Flushed {
                        sent: count(0..sent),
                        refused: count(sent..frames)
                    },
                    "{sent} of {frames}"
                );
            }
        }
    }
}

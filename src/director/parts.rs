//! Which parts of a datagram have come: a bit for each 8 bytes, whatever the fragments' sizes.

use crate::packet::Head;

/// Units of 8 bytes that a datagram may have, in words of bits.
const WORDS: usize = 65_536 / 8 / 64;

/// What part of its datagram a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// In bytes, a multiple of 8.
    pub offset: u32,
    /// Behind the last byte: at most 65,535, and a multiple of 8 if more follow.
    pub end: u32,
    pub more: bool,
    /// Of the first one.
    pub head: Option<Head>,
}

/// How far a datagram goes, and how much of it has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// Where it ends, in bytes, if that is known.
    length: Option<u32>,
    /// Behind the last byte that has come.
    reach: u32,
    /// Units that have come.
    units: u32,
}

impl Extent {
    pub(super) const NONE: Extent = Extent {
        length: None,
        reach: 0,
        units: 0,
    };

    /// Whether all of it has come.
    pub(super) fn is_complete(&self) -> bool {
        self.length
            .is_some_and(|length| self.units == length.div_ceil(8))
    }

    /// Whether a part contradicts where the datagram ends.
    pub(super) fn ends_otherwise(&self, part: Part) -> bool {
        match (self.length, part.more) {
            (Some(length), true) => part.end >= length,
            (Some(length), false) => part.end != length,
            (None, true) => false,
            (None, false) => self.reach >= part.end,
        }
    }

    /// Takes a part. False if it overlaps others other than as an exact duplicate, or contradicts the end.
    pub(super) fn take(&mut self, parts: &mut Parts, part: Part) -> bool {
        let Part {
            offset, end, more, ..
        } = part;
        if self.ends_otherwise(part) {
            return false;
        }
        let (from, to) = (offset as usize / 8, (end as usize).div_ceil(8));
        if parts.has_any(from, to) {
            // A last one was the last before.
            return parts.is_one(from, to) && (more || self.length == Some(end));
        }
        if !more {
            self.length = Some(end);
        }
        self.add(parts, offset, end);
        true
    }

    /// Adds the bytes from an offset to before an end.
    pub(super) fn add(&mut self, parts: &mut Parts, offset: u32, end: u32) {
        let (from, to) = (offset as usize / 8, (end as usize).div_ceil(8));
        parts.add(from, to);
        self.units += (to - from) as u32;
        self.reach = self.reach.max(end);
    }

    /// Where the first fragment ends, of a complete datagram.
    pub(super) fn first(&self, parts: &Parts) -> u32 {
        8 * parts.first().unwrap_or(self.units as usize) as u32
    }

    /// Forgets all that has come.
    pub(super) fn forget(&mut self, parts: &mut Parts) {
        parts.clear(self.reach as usize / 8 + 1);
        *self = Extent::NONE;
    }
}

/// The units that have come, and those that a fragment begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    has: [u64; WORDS],
    begins: [u64; WORDS],
}

impl Parts {
    pub(super) const NONE: Parts = Parts {
        has: [0; WORDS],
        begins: [0; WORDS],
    };

    /// Forgets the first units: those that may have come.
    pub(super) fn clear(&mut self, units: usize) {
        let words = units.div_ceil(64).min(WORDS);
        self.has[..words].fill(0);
        self.begins[..words].fill(0);
    }

    #[cfg(test)]
    pub(crate) fn is_none(&self) -> bool {
        self.has == [0; WORDS] && self.begins == [0; WORDS]
    }

    /// Where the second fragment begins, of those that leave no gap.
    pub(super) fn first(&self) -> Option<usize> {
        let words = self.begins.iter().enumerate();
        let mut words = words.map(|(n, word)| (n, if n == 0 { word & !1 } else { *word }));
        let (n, word) = words.find(|(_, word)| *word != 0)?;
        Some(n * 64 + word.trailing_zeros() as usize)
    }

    /// Whether any of these units has come.
    pub(super) fn has_any(&self, from: usize, to: usize) -> bool {
        has_any(&self.has, from, to)
    }

    /// Takes the units of a fragment.
    pub(super) fn add(&mut self, from: usize, to: usize) {
        for (word, mask) in words(from, to) {
            self.has[word] |= mask;
        }
        self.begins[from / 64] |= 1 << (from % 64);
    }

    /// Whether these units are those of one fragment that has come.
    pub(super) fn is_one(&self, from: usize, to: usize) -> bool {
        let is = |bits: &[u64; WORDS], at: usize| bits[at / 64] >> (at % 64) & 1 != 0;
        let ends = to == WORDS * 64 || is(&self.begins, to) || !is(&self.has, to);
        is(&self.begins, from)
            && ends
            && words(from, to).all(|(word, mask)| self.has[word] & mask == mask)
            && !has_any(&self.begins, from + 1, to)
    }
}

fn has_any(bits: &[u64; WORDS], from: usize, to: usize) -> bool {
    words(from, to).any(|(word, mask)| bits[word] & mask != 0)
}

/// The words that have the bits from one to before another, with a mask of those.
fn words(from: usize, to: usize) -> impl Iterator<Item = (usize, u64)> {
    let range = if from < to {
        from / 64..(to - 1) / 64 + 1
    } else {
        0..0
    };
    range.map(move |word| {
        let first = from.saturating_sub(word * 64);
        let behind = (to - word * 64).min(64);
        let mask = u64::MAX >> (64 - (behind - first)) << first;
        (word, mask)
    })
}

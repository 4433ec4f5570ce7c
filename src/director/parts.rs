//! Which parts of a datagram have come: a bit for each 8 bytes, whatever the fragments' sizes.

/// Units of 8 bytes that a datagram may have, in words of bits.
const WORDS: usize = 65_536 / 8 / 64;

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

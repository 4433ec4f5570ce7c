//! The numbers by which fragments of one packet find each other.
//!
//! Of the packets that workers send from one address to another no two under way have the same. So each worker has numbers of
//! its own, which no other one uses.

use std::hash::{DefaultHasher, Hasher};

/// Of IPv4 packets that may be fragmented (RFC 6864): one in `shares` of all numbers.
#[derive(Clone, Copy, Debug)]
pub struct Identifications {
    first: u16,
    next: u16,
    step: u16,
}

impl Identifications {
    /// Those of share `share` of so many.
    pub fn new(share: usize, shares: usize) -> Self {
        Identifications {
            first: share as u16,
            next: share as u16,
            step: shares as u16,
        }
    }

    #[inline]
    pub fn take(&mut self) -> u16 {
        let number = self.next;
        // Around the end it would come to those of another share, unless `step` is a power of two.
        self.next = number.checked_add(self.step).unwrap_or(self.first);
        number
    }
}

/// Of the IPv6 packets that weir fragments: no outsider foresees them (RFC 7739), and none comes again before all others of the
/// share. They are a counter, put through a permutation with a key.
#[derive(Clone, Copy, Debug)]
pub struct Identifications6 {
    key: u64,
    first: u32,
    next: u32,
    step: u32,
}

impl Identifications6 {
    /// Those of share `share` of so many. All shares have one `key`, which no outsider knows.
    pub fn new(share: usize, shares: usize, key: u64) -> Self {
        Identifications6 {
            key,
            first: share as u32,
            next: share as u32,
            step: shares as u32,
        }
    }

    #[cold]
    pub fn take(&mut self) -> u32 {
        let number = self.next;
        self.next = number.checked_add(self.step).unwrap_or(self.first);
        permuted(number, self.key)
    }
}

/// Four rounds of a Feistel network: a permutation of all numbers whatever its rounds are, and with rounds as good as random one
/// that cannot be told from a random one (Luby and Rackoff, 1988).
fn permuted(number: u32, key: u64) -> u32 {
    let (mut left, mut right) = ((number >> 16) as u16, number as u16);
    for round in 0..4u8 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(key);
        hasher.write_u8(round);
        hasher.write_u16(right);
        (left, right) = (right, left ^ hasher.finish() as u16);
    }
    u32::from(left) << 16 | u32::from(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        /// However many workers there are, none has a number of another's, and each has as many as go round.
        #[test]
        fn shares_have_nothing_in_common(shares in 1usize..=256) {
            let mut owner = vec![None; 1 << 16];
            for share in 0..shares {
                let mut numbers = Identifications::new(share, shares);
                // Once round, and on.
                for _ in 0..(1 << 16) / shares * 2 + 2 {
                    let owner = &mut owner[usize::from(numbers.take())];
                    prop_assert!(owner.is_none_or(|owner| owner == share));
                    *owner = Some(share);
                }
            }
            prop_assert!(owner.iter().all(Option::is_some));
        }

        #[test]
        fn no_number_comes_twice_among_any_workers(shares in 1usize..9, key: u64) {
            let mut seen = HashSet::new();
            for share in 0..shares {
                let mut numbers = Identifications6::new(share, shares, key);
                prop_assert!((0..2000).all(|_| seen.insert(numbers.take())));
            }
        }
    }

    #[test]
    fn at_the_end_of_all_numbers_a_share_begins_anew() {
        let mut numbers = Identifications6::new(2, 3, 7);
        let first = numbers.take();
        numbers.next = u32::MAX - 2;
        numbers.take();
        assert_eq!(numbers.take(), first);
    }

    /// What comes next does not follow from what came before: each bit of the difference is as often set as not, and another key
    /// gives other numbers.
    #[test]
    fn the_next_number_is_not_foreseen() {
        const COUNT: u32 = 20_000;
        let mut numbers = Identifications6::new(0, 4, 0x5eed);
        let mut other = Identifications6::new(0, 4, 0x5eee);
        let mut ones = [0u32; 32];
        let (mut before, mut same) = (numbers.take(), 0);
        for _ in 0..COUNT {
            let next = numbers.take();
            same += u32::from(next == other.take());
            let change = next ^ before;
            (0..32).for_each(|bit| ones[bit] += change >> bit & 1);
            before = next;
        }
        assert!(same < 3, "{same}");
        // Ten standard deviations.
        let spread = 10.0 * (f64::from(COUNT) / 4.0).sqrt();
        for (bit, ones) in ones.iter().enumerate() {
            let off = f64::from(*ones) - f64::from(COUNT) / 2.0;
            assert!(off.abs() < spread, "bit {bit}: {ones}");
        }
    }
}

//! Where in its pool an outward connection looks for a free pair first: a place that no outsider can foresee.
//!
//! Ports that can be guessed let others forge answers: a resolver behind weir would lose what its own ports protect it by
//! (RFC 6056, RFC 5452 section 4.5). So each connection has a place of its own, drawn anew: a number of times that it was done,
//! encrypted with a secret of this run. A host that sees the ports of connections to itself learns nothing of those to others.

use crate::units::WorkerId;
use aes::Aes128;
use aes::cipher::{BlockEncrypt, KeyInit};

/// One worker's draws, for one of its tables.
pub(super) struct Draws {
    cipher: Box<Aes128>,
    who: u64,
    drawn: u64,
}

impl Draws {
    /// `seed`: a secret of this run. No other worker or table draws the same.
    pub(super) fn new(seed: u64, worker: WorkerId, table: usize) -> Self {
        let mut key = *b"\0\0\0\0\0\0\0\0outwards";
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Draws {
            cipher: Box::new(Aes128::new(&key.into())),
            who: (worker.index() as u64) << 32 | table as u64,
            drawn: 0,
        }
    }

    pub(super) fn next(&mut self) -> u32 {
        let mut block = (u128::from(self.who) << 64 | u128::from(self.drawn)).to_le_bytes();
        self.drawn += 1;
        self.cipher.encrypt_block((&mut block).into());
        u128::from_le_bytes(block) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const PORTS: u32 = 64_512;

    fn places(seed: u64, worker: u8, table: usize) -> Vec<u32> {
        let mut draws = Draws::new(seed, WorkerId(worker), table);
        (0..32_768).map(|_| draws.next() % PORTS).collect()
    }

    /// The most frequent of some numbers, and how often it is there.
    fn most(numbers: impl Iterator<Item = u32>) -> (u32, usize) {
        let mut counts = HashMap::new();
        numbers.for_each(|number| *counts.entry(number).or_insert(0) += 1);
        counts
            .into_iter()
            .max_by_key(|(_, count)| *count)
            .unwrap_or_default()
    }

    /// Of 32,768 numbers at random among 64,512 none is there more than about ten times.
    #[test]
    fn no_place_and_no_step_between_places_is_likelier_than_others() {
        for seed in [0, 1, u64::MAX] {
            let places = places(seed, 0, 0);
            assert!(most(places.iter().copied()).1 < 16);
            for lag in [1, 2, 3, 4, 7, 64, 1024] {
                let steps = places.iter().zip(&places[lag..]);
                let steps = steps.map(|(one, other)| (other + PORTS - one) % PORTS);
                let (step, times) = most(steps);
                assert!(times < 16, "{times} times {step} after {lag}");
            }
            let parts = most(places.iter().map(|place| place / (PORTS / 16)));
            assert!(parts.1 < 2048 + 300, "{parts:?} of 2,048 in a sixteenth");
        }
    }

    #[test]
    fn a_seed_has_its_own_places_and_so_has_each_worker_and_table() {
        let first = places(7, 0, 0);
        assert_eq!(first, places(7, 0, 0), "a replay is the same each time");
        for (seed, worker, table) in [(8, 0, 0), (7, 1, 0), (7, 0, 1), (7 << 32, 0, 0)] {
            let other = places(seed, worker, table);
            let same = first.iter().zip(&other).filter(|(one, other)| one == other);
            assert!(same.count() < 16, "{seed} {worker} {table}");
            let (_, times) = most(first.iter().zip(&other).map(|(one, other)| one ^ other));
            assert!(times < 16, "{seed} {worker} {table}: shifted");
        }
    }
}

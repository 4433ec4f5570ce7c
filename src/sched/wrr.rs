//! `wrr`: in proportion to the weights, interleaved (`ip_vs_wrr.c`).
//!
//! The threshold `cw` falls from the largest weight to 1 in steps of the greatest common divisor of all weights;
//! in each round all real servers of at least that weight have their turn. As in the kernel, where real servers
//! are added one by one, the first round of a new service takes every real server. Unlike there
//! (`ip_vs_wrr_dest_changed`), a change of the real servers or their weights does not begin at the head of the list again:
//! with weights that are edited all the time, the first of the list would get everything.

use super::{Client, Cursor, Kind, Scheduler, Usable, gcd};
use crate::service::Real;
use crate::stats::Stats;
use std::sync::atomic::Ordering::Relaxed;

pub(super) const KIND: Kind = Kind {
    name: "wrr",
    description: "weighted round robin, interleaved",
    is_stateless: false,
    new: |reals, _| {
        let weights = || reals.iter().map(|real| u32::from(real.weight));
        let step = weights().fold(0, gcd).max(1);
        Box::new(WeightedRoundRobin {
            step,
            max: weights().max().unwrap_or(0),
            cycle: (weights().sum::<u32>() / step).min(MAX_CYCLE),
        })
    },
};

/// The longest cycle, in choices, whose parts the workers begin at; of a longer one it is the beginning.
const MAX_CYCLE: u32 = 1024;

#[derive(Debug)]
struct WeightedRoundRobin {
    /// The greatest common divisor of the weights.
    step: u32,
    max: u32,
    /// Choices until all are as they were.
    cycle: u32,
}

impl Scheduler for WeightedRoundRobin {
    fn pick(
        &self,
        reals: &[Real],
        _: Client,
        cursor: &Cursor,
        _: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        if self.max == 0 {
            return None;
        }
        let mut last = cursor.last_place(reals);
        if cursor.weight.load(Relaxed) == 0 {
            // The service's first choice on this worker.
            last = None;
            for _ in 0..cursor.first(self.cycle) {
                last = self.next(reals, cursor, last, &|_| true);
            }
        }
        self.next(reals, cursor, last, usable)
    }
}

impl WeightedRoundRobin {
    /// The choice after `last`. There is a weight above 0.
    fn next(
        &self,
        reals: &[Real],
        cursor: &Cursor,
        last: Option<usize>,
        usable: &Usable,
    ) -> Option<usize> {
        // The weights may have changed since: the threshold is brought back to their grid.
        let mut threshold = match cursor.weight.load(Relaxed) {
            0 => 1,
            weight => self.on_grid(weight.min(self.max)),
        };
        let mut place = last.map_or(0, |last| last + 1);
        let mut highest = None;
        // Ends: at the lowest threshold every real server with a weight qualifies.
        loop {
            let qualifies = |n: &usize| u32::from(reals[*n].weight) >= threshold;
            if let Some(found) = (place..reals.len()).find(|n| qualifies(n) && usable(&reals[*n])) {
                cursor.weight.store(threshold, Relaxed);
                cursor.set_last(reals, found);
                return Some(found);
            }
            // A round in vain: thresholds that only those reach that are not usable are passed over at once.
            let highest = match highest {
                Some(highest) => highest,
                None => {
                    let weights = reals.iter().filter(|real| real.weight > 0 && usable(real));
                    let most = weights.map(|real| u32::from(real.weight)).max()?;
                    *highest.insert(self.on_grid(most))
                }
            };
            place = 0;
            threshold = match threshold.checked_sub(self.step) {
                None | Some(0) => highest,
                Some(lower) => lower.min(highest),
            };
        }
    }

    /// The highest threshold that a weight reaches.
    fn on_grid(&self, weight: u32) -> u32 {
        (weight - 1) / self.step * self.step + 1
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Lab;
    use proptest::prelude::*;

    #[test]
    fn interleaves_as_the_kernel_does() {
        assert_eq!(Lab::new("wrr", &[1, 1, 1]).sequence(12), "CBACBACBACBA");
        assert_eq!(Lab::new("wrr", &[1, 2, 3]).sequence(12), "CBACCBCBACCB");
        assert_eq!(Lab::new("wrr", &[4, 2, 2]).sequence(16), "CBAACBAACBAACBAA");
        assert_eq!(Lab::new("wrr", &[2, 0, 1]).sequence(12), "CAACAACAACAA");
        assert_eq!(Lab::new("wrr", &[3, 3]).sequence(6), "BABABA");
    }

    #[test]
    fn takes_a_new_weight_into_account_at_once_and_goes_on() {
        let mut lab = Lab::new("wrr", &[3, 2, 1]);
        assert_eq!(lab.sequence(4), "CBAA");
        lab.reals[0].weight = 4;
        lab.changed();
        // A's turn was the last of its round.
        assert_eq!(lab.sequence(18), "CBACBACCACBACBACCA");
    }

    proptest! {
        #[test]
        fn every_cycle_follows_the_weights(weights in prop::collection::vec(0u16..20, 1..8), warm_up in 0u32..50) {
            let total: u32 = weights.iter().map(|&weight| u32::from(weight)).sum();
            prop_assume!(total > 0);
            let lab = Lab::new("wrr", &weights);
            lab.sequence(warm_up);
            let cycle = lab.sequence(total);
            for (n, &weight) in weights.iter().enumerate() {
                let letter = (b'A' + n as u8) as char;
                let seen = cycle.chars().filter(|&found| found == letter).count();
                prop_assert_eq!(seen, usize::from(weight), "{} in {}", letter, cycle);
            }
        }
    }
}

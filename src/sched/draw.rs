//! What `twos` and `p2c` have in common: real servers drawn at random, the more often the larger their weights.

use super::{Cursor, Usable, has_weight};
use crate::service::Real;

/// So often it is drawn before the list is gone through.
const DRAWS: usize = 8;

/// What the weights up to each place come to.
#[derive(Debug)]
pub(super) struct Weights(Box<[u64]>);

impl Weights {
    pub(super) fn of(reals: &[Real]) -> Self {
        let sums = reals.iter().scan(0u64, |sum, real| {
            *sum += u64::from(real.weight);
            Some(*sum)
        });
        Weights(sums.collect())
    }

    /// The place that a random number stands for: of a real server with a weight, in a number of steps that grows with the logarithm
    /// of their number.
    pub(super) fn place(&self, random: u32) -> Option<usize> {
        let all = self.0.last().filter(|all| **all > 0)?;
        let drawn = ((u128::from(random) * u128::from(*all)) >> 32) as u64;
        Some(self.0.partition_point(|sum| *sum <= drawn))
    }

    /// Two real servers that are usable, the same one perhaps where there is no other at hand; none if there is none.
    pub(super) fn two(
        &self,
        reals: &[Real],
        cursor: &Cursor,
        usable: &Usable,
    ) -> Option<[usize; 2]> {
        let can = |place: &usize| can(reals, *place, usable);
        let mut draws = (0..DRAWS).filter_map(|_| self.place(cursor.random()).filter(can));
        let Some(first) = draws.next() else {
            let length = reals.len();
            let from = cursor.random() as usize % length.max(1);
            let place = (from..length).chain(0..from).find(can)?;
            return Some([place; 2]);
        };
        Some([first, draws.find(|place| *place != first).unwrap_or(first)])
    }

    /// One that is usable and neither of two, if there is one at hand.
    pub(super) fn another(
        &self,
        reals: &[Real],
        cursor: &Cursor,
        usable: &Usable,
        than: [usize; 2],
    ) -> Option<usize> {
        let mut draws = (0..DRAWS).filter_map(|_| self.place(cursor.random()));
        draws.find(|place| !than.contains(place) && can(reals, *place, usable))
    }
}

fn can(reals: &[Real], place: usize, usable: &Usable) -> bool {
    let real = reals.get(place);
    real.is_some_and(|real| has_weight(real) && usable(real))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::testing::Lab;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_number_stands_for_one_and_as_many_as_its_weight(
            weights in prop::collection::vec(prop_oneof![Just(0u16), 0u16..5, any::<u16>()], 0..12),
            random: u32,
        ) {
            let lab = Lab::new("twos", &weights);
            let drawn = Weights::of(&lab.reals);
            let all: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            let place = drawn.place(random);
            prop_assert_eq!(place.is_some(), all > 0);
            prop_assert!(place.is_none_or(|place| lab.reals[place].weight > 0));
            if all > 0 {
                prop_assert_eq!(drawn.place(0), lab.reals.iter().position(has_weight));
                prop_assert_eq!(drawn.place(u32::MAX), lab.reals.iter().rposition(has_weight));
            }
        }
    }
}

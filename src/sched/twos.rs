//! `twos`: of two real servers that are drawn at random by their weights, the one with fewer connections for its weight
//! (`ip_vs_twos.c`; Mitzenmacher, “The Power of Two Choices in Randomized Load Balancing”, 2001).

use super::draw::Weights;
use super::{Client, Cursor, Kind, Scheduler, Usable, wlc, xorshift};
use crate::service::Real;
use crate::stats::Stats;

pub(super) const KIND: Kind = Kind {
    name: "twos",
    description: "of two at random the one with fewer connections for its weight",
    is_stateless: false,
    new: |reals, _| Box::new(TwoChoices(Weights::of(reals))),
};

#[derive(Debug)]
struct TwoChoices(Weights);

impl Scheduler for TwoChoices {
    fn pick(
        &self,
        reals: &[Real],
        _: Client,
        cursor: &Cursor,
        stats: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        let [one, other] = self.0.two(reals, cursor, usable)?;
        let share = |place: usize| wlc::share(&reals[place], stats);
        Some(if share(other).is_less_than(share(one)) {
            other
        } else {
            one
        })
    }

    fn expect(&self, _: &[Real], _: Client, cursor: &Cursor, _: usize) -> usize {
        self.0.place(xorshift(cursor.seed())).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Lab;

    #[test]
    fn connections_that_stay_follow_the_weights() {
        let held = Lab::new("twos", &[3, 2, 1]).sequence(6_000);
        let held = ['A', 'B', 'C'].map(|letter| held.matches(letter).count());
        for (count, share) in held.into_iter().zip([3_000, 2_000, 1_000]) {
            assert!(count.abs_diff(share) < share / 20, "{held:?}");
        }
    }

    #[test]
    fn the_fullest_of_many_is_little_above_the_mean() {
        let held = Lab::new("twos", &[1; 20]).sequence(2_000);
        let held = (b'A'..b'A' + 20).map(|letter| held.matches(char::from(letter)).count());
        // By one draw each, some would have a third more.
        assert!(
            held.clone().max().unwrap() <= 104,
            "{:?}",
            held.collect::<Vec<_>>()
        );
    }
}

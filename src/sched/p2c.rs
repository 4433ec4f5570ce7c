//! `p2c`: of two real servers that are drawn at random by their weights, the one on which the new connection would have the fewest
//! active ones beside it for the weight. A slow one has more of them at a time, and gets fewer. It asks two, however many there are.

use super::draw::Weights;
use super::{Client, Cursor, Kind, Scheduler, Usable, sed, xorshift};
use crate::service::Real;
use crate::stats::Stats;

pub(super) const KIND: Kind = Kind {
    name: "p2c",
    description: "of two at random the one with fewer active connections for its weight",
    is_stateless: false,
    new: |reals, _| Box::new(PowerOfTwo(Weights::of(reals))),
};

#[derive(Debug)]
struct PowerOfTwo(Weights);

impl Scheduler for PowerOfTwo {
    fn pick(
        &self,
        reals: &[Real],
        _: Client,
        cursor: &Cursor,
        stats: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        let [one, other] = self.0.two(reals, cursor, usable)?;
        let delay = |place: usize| sed::delay(&reals[place], stats);
        Some(if delay(other).is_less_than(delay(one)) {
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
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    /// Requests at regular moments to five real servers, each of which works on one at a time, for 100 units of time, the last of them
    /// for ten times as many: how long the slowest hundredth took at least.
    fn slowest_hundredth(kind: &'static str) -> u32 {
        let lab = Lab::new(kind, &[1; 5]);
        let (mut free_at, mut running, mut took) = ([0u32; 5], BinaryHeap::new(), vec![]);
        for n in 0..20_000u32 {
            let now = n * 50;
            while let Some(&(Reverse(end), real)) = running.peek()
                && end <= now
            {
                running.pop();
                lab.end(real, 1);
            }
            let real = usize::from(lab.connect(n) as u8 - b'A');
            let work = if real == 4 { 1_000 } else { 100 };
            free_at[real] = free_at[real].max(now) + work;
            running.push((Reverse(free_at[real]), real));
            took.push(free_at[real] - now);
        }
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }

    #[test]
    fn a_slow_one_has_no_queue_where_turns_would_make_one_without_end() {
        let (p2c, turns) = (slowest_hundredth("p2c"), slowest_hundredth("rr"));
        assert!(p2c <= 2_000 && turns > 100 * p2c, "{p2c}, by turns {turns}");
    }
}

//! `lc`: the real server with the fewest connections (`ip_vs_lc.c`).
//!
//! Among equals the first of the list is taken, which each service walks from a place of its own
//! ([`Cursor::beginning`]). Weights count only as zero or not, but for what a slow start leaves of one.

use super::least::{Least, Share, overhead};
use super::{Client, Cursor, Kind, Scheduler, Usable};
use crate::service::Real;
use crate::stats::Stats;

pub(super) const KIND: Kind = Kind {
    name: "lc",
    description: "least connection",
    is_stateless: false,
    new: |reals, _| Box::new(LeastConnection(Least::of(reals))),
};

#[derive(Debug)]
struct LeastConnection(Least);

impl Scheduler for LeastConnection {
    fn pick(
        &self,
        reals: &[Real],
        _: Client,
        cursor: &Cursor,
        stats: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        // What all weights have in common is nothing to any of them.
        let share = |real: &Real| Share {
            load: overhead(real, stats) * u64::from(real.nominal.max(1)),
            weight: u64::from(real.weight),
        };
        (self.0).pick(reals, cursor.beginning(reals.len()), usable, share)
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Lab;

    #[test]
    fn evens_out_and_ignores_weights() {
        assert_eq!(Lab::new("lc", &[1, 1, 1]).sequence(9), "CBACBACBA");
        assert_eq!(Lab::new("lc", &[3, 2, 1]).sequence(6), "CBACBA");
        assert_eq!(Lab::new("lc", &[2, 0, 1]).sequence(6), "CACACA");
    }

    #[test]
    fn a_slow_start_is_heeded() {
        let mut lab = Lab::new("lc", &[7, 2, 2]);
        // Weights ten times as fine, and B begins with a tenth of its own.
        for real in &mut lab.reals {
            real.weight = real.nominal * 10;
        }
        lab.reals[1].weight = 2;
        lab.changed();
        let held = lab.sequence(210);
        let held = ['A', 'B', 'C'].map(|letter| held.matches(letter).count());
        assert_eq!(held, [100, 10, 100]);
    }
}

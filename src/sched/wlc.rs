//! `wlc`: the real server with the fewest connections for its weight (`ip_vs_wlc.c`). Among equals as `lc`.

use super::least::{Least, Share, overhead};
use super::{Client, Cursor, Kind, Scheduler, Usable};
use crate::service::Real;
use crate::stats::Stats;

pub(super) const KIND: Kind = Kind {
    name: "wlc",
    description: "weighted least connection",
    is_stateless: false,
    new: |reals, _| Box::new(WeightedLeastConnection(Least::of(reals))),
};

#[derive(Debug)]
struct WeightedLeastConnection(Least);

/// The connections of a real server for its weight.
pub(super) fn share(real: &Real, stats: &Stats) -> Share {
    Share {
        load: overhead(real, stats),
        weight: u64::from(real.weight),
    }
}

impl Scheduler for WeightedLeastConnection {
    fn pick(
        &self,
        reals: &[Real],
        _: Client,
        cursor: &Cursor,
        stats: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        let beginning = cursor.beginning(reals.len());
        (self.0).pick(reals, beginning, usable, |real| share(real, stats))
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Lab;

    #[test]
    fn holds_connections_in_proportion_to_the_weights() {
        assert_eq!(Lab::new("wlc", &[2, 0, 1]).sequence(12), "CAACAACAACAA");
        let held = Lab::new("wlc", &[3, 2, 1]).sequence(60);
        assert_eq!(
            ['A', 'B', 'C'].map(|letter| held.matches(letter).count()),
            [30, 20, 10]
        );
    }

    #[test]
    fn inactive_connections_weigh_little_but_something() {
        for kind in ["lc", "wlc"] {
            let lab = Lab::new(kind, &[1, 1, 1]);
            assert_eq!(lab.sequence(6), "CBACBA");
            // As the kernel was seen to do after A's connections were reset.
            lab.end(0, 2);
            assert_eq!(lab.sequence(6), "AACBAC", "{kind}");
        }
    }
}

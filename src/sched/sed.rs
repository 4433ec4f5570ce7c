//! `sed`: the real server on which a connection has the shortest expected delay (`ip_vs_sed.c`): one more than its active
//! connections, for its weight. Among equals as `lc`.

use super::least::{Least, Share};
use super::{Client, Cursor, Kind, Scheduler, Usable};
use crate::service::Real;
use crate::stats::Stats;

pub(super) const KIND: Kind = Kind {
    name: "sed",
    description: "shortest expected delay: the fewest active connections with the new one, for the weight",
    is_stateless: false,
    new: |reals, _| Box::new(ShortestExpectedDelay(Least::of(reals))),
};

#[derive(Debug)]
struct ShortestExpectedDelay(Least);

/// What a real server's load would be for its weight.
pub(super) fn delay(real: &Real, stats: &Stats) -> Share {
    Share {
        load: u64::from(stats.load(real.id).0) + 1,
        weight: u64::from(real.weight),
    }
}

impl Scheduler for ShortestExpectedDelay {
    fn pick(
        &self,
        reals: &[Real],
        _: Client,
        cursor: &Cursor,
        stats: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        let beginning = cursor.beginning(reals.len());
        (self.0).pick(reals, beginning, usable, |real| delay(real, stats))
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Lab;

    #[test]
    fn chooses_what_the_kernel_chooses() {
        for (weights, expected) in [
            ([1, 1, 1], "CBACBACBACBA"),
            ([3, 2, 1], "ABACBAABACBA"),
            ([5, 1, 1], "AAAACBAAAAAC"),
            ([2, 0, 1], "ACAACAACAACA"),
        ] {
            assert_eq!(
                Lab::new("sed", &weights).sequence(12),
                expected,
                "{weights:?}"
            );
        }
    }

    #[test]
    fn what_is_inactive_does_not_count() {
        let lab = Lab::new("sed", &[1, 1, 1]);
        assert_eq!(lab.sequence(6), "CBACBA");
        lab.end(0, 2);
        assert_eq!(lab.sequence(6), "AACBAC");
        let lab = Lab::new("sed", &[1, 1, 1]);
        for _ in 0..9 {
            assert_eq!(lab.sequence(1), "C");
            lab.end(2, 1);
        }
    }
}

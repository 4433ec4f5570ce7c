//! `nq`: the first real server that has no active connection, else as `sed` (`ip_vs_nq.c`): a connection never waits in a queue
//! while a real server is idle, if a slow one.

use super::least::{Least, Share};
use super::{Client, Cursor, Kind, Scheduler, Usable, sed};
use crate::service::Real;
use crate::stats::Stats;

pub(super) const KIND: Kind = Kind {
    name: "nq",
    description: "never queue: an idle real server if there is one, else shortest expected delay",
    is_stateless: false,
    new: |reals, _| Box::new(NeverQueue(Least::of(reals))),
};

#[derive(Debug)]
struct NeverQueue(Least);

impl Scheduler for NeverQueue {
    fn pick(
        &self,
        reals: &[Real],
        _: Client,
        cursor: &Cursor,
        stats: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        // What is idle has no delay, however slow it is.
        let share = |real: &Real| match sed::delay(real, stats) {
            Share { load: 1, weight } => Share { load: 0, weight },
            delay => delay,
        };
        (self.0).pick(reals, cursor.beginning(reals.len()), usable, share)
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Lab;

    #[test]
    fn chooses_what_the_kernel_chooses() {
        assert_eq!(Lab::new("nq", &[3, 2, 1]).sequence(12), "CBAABAABACBA");
        let lab = Lab::new("nq", &[1, 1, 1]);
        assert_eq!(lab.sequence(6), "CBACBA");
        lab.end(0, 2);
        assert_eq!(lab.sequence(6), "AACBAC");
        let lab = Lab::new("nq", &[1, 1, 1]);
        for _ in 0..9 {
            assert_eq!(lab.sequence(1), "C");
            lab.end(2, 1);
        }
    }
}

//! `lc` and `wlc`: the real server with the fewest connections (`ip_vs_lc.c`, `ip_vs_wlc.c`).
//!
//! An active connection counts as much as 256 inactive ones (`ip_vs_dest_conn_overhead`). Among equals the first
//! of the list is taken, which each service walks from a place of its own ([`Cursor::beginning`]). Looks at every real server of the service, for new connections only.

use super::{Client, Cursor, Kind, Scheduler, Usable};
use crate::service::Real;
use crate::stats::Stats;

pub(super) const LC: Kind = Kind {
    name: "lc",
    description: "least connection",
    is_stateless: false,
    new: |_| Box::new(LeastConnection { weighted: false }),
};

pub(super) const WLC: Kind = Kind {
    name: "wlc",
    description: "weighted least connection",
    is_stateless: false,
    new: |_| Box::new(LeastConnection { weighted: true }),
};

#[derive(Debug)]
struct LeastConnection {
    weighted: bool,
}

impl Scheduler for LeastConnection {
    fn pick(
        &self,
        reals: &[Real],
        _: Client,
        cursor: &Cursor,
        stats: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        let (before, after) = reals.split_at(cursor.beginning(reals.len()));
        let from_here = (before.len()..).zip(after).chain((0..).zip(before));
        let mut least: Option<(usize, u64, u64)> = None;
        for (place, real) in from_here.filter(|(_, real)| real.weight > 0) {
            let (active, inactive) = stats.load(real.id);
            let overhead = u64::from(active) * 256 + u64::from(inactive);
            let weight = if self.weighted {
                u64::from(real.weight)
            } else {
                1
            };
            // overhead / weight, compared without dividing: at most 2^40 times 2^16.
            let is_less = least.is_none_or(|(_, least, of)| overhead * of < least * weight);
            if is_less && usable(real) {
                least = Some((place, overhead, weight));
            }
        }
        least.map(|(place, ..)| place)
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Lab;
    use crate::units::WorkerId;

    #[test]
    fn lc_evens_out_and_ignores_weights() {
        assert_eq!(Lab::new("lc", &[1, 1, 1]).sequence(9), "CBACBACBA");
        assert_eq!(Lab::new("lc", &[3, 2, 1]).sequence(6), "CBACBA");
        assert_eq!(Lab::new("lc", &[2, 0, 1]).sequence(6), "CACACA");
    }

    #[test]
    fn wlc_holds_connections_in_proportion_to_the_weights() {
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
            let a = &lab.stats.worker(WorkerId(0)).reals;
            let a = a.get(0).unwrap();
            for _ in 0..2 {
                a.counters.active.dec();
                a.counters.inactive.inc();
            }
            assert_eq!(lab.sequence(6), "AACBAC", "{kind}");
        }
    }
}

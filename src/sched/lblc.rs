//! `lblc`: locality-based least connection (`ip_vs_lblc.c`), for caches: all to one real server, chosen as `wlc` chooses, until it has
//! more active connections than its weight while another has fewer than half of its own; then another is chosen.
//!
//! The kernel keeps a real server for each destination. A service of weir has one VIP, so that it is one, which each worker keeps.

use super::least::least;
use super::{Client, Cursor, Kind, Scheduler, Usable, has_weight, wlc};
use crate::service::Real;
use crate::stats::Stats;

pub(super) const KIND: Kind = Kind {
    name: "lblc",
    description: "locality-based least connection: one real server until it is overloaded",
    is_stateless: false,
    new: |_, _| Box::new(Locality),
};

#[derive(Debug)]
struct Locality;

/// Whether a real server has more than its weight of active connections, and another less than half (the kernel's `is_overloaded`).
pub(super) fn is_overloaded(real: &Real, reals: &[Real], stats: &Stats) -> bool {
    let active = |real: &Real| stats.load(real.id).0;
    active(real) > u32::from(real.weight)
        && reals
            .iter()
            .any(|real| active(real).saturating_mul(2) < u32::from(real.weight))
}

impl Scheduler for Locality {
    fn pick(
        &self,
        reals: &[Real],
        _: Client,
        cursor: &Cursor,
        stats: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        let goes_on = |place: &usize| {
            let real = &reals[*place];
            has_weight(real) && !is_overloaded(real, reals, stats) && usable(real)
        };
        if let Some(place) = cursor.last_place(reals).filter(goes_on) {
            return Some(place);
        }
        let beginning = cursor.beginning(reals.len());
        let place = least(reals, beginning, usable, |real| wlc::share(real, stats))?;
        cursor.set_last(reals, place);
        Some(place)
    }

    fn expect(&self, reals: &[Real], _: Client, cursor: &Cursor, _: usize) -> usize {
        cursor.last_place(reals).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Lab;

    #[test]
    fn one_real_server_is_kept_until_it_is_overloaded() {
        // C is first; with 4 it has more than its weight, and B has less than half of its own.
        let lab = Lab::new("lblc", &[3, 3, 3]);
        assert_eq!(lab.sequence(4), "CCCC");
        assert_eq!(lab.sequence(4), "BBBB");
        assert_eq!(lab.sequence(4), "AAAA");
        // All have more than their weights, and none has room: it stays.
        assert_eq!(lab.sequence(3), "AAA");
        lab.end(1, 3);
        assert_eq!(lab.sequence(2), "BB");
    }

    #[test]
    fn one_that_gets_nothing_any_more_is_left() {
        let mut lab = Lab::new("lblc", &[9, 9]);
        assert_eq!(lab.sequence(2), "BB");
        lab.reals[0].weight = 0;
        lab.changed();
        assert_eq!(lab.sequence(2), "AA");
        lab.reals[0].weight = 9;
        lab.changed();
        assert_eq!(lab.sequence(2), "AA");
        assert_eq!(lab.connect_usable(1, &|real| real.id.0 == 1), 'B');
    }
}

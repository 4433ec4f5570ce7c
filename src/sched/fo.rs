//! `fo`: all to the real server with the largest weight, and to the next one when that fails (`ip_vs_fo.c`). Among equals the first
//! of the list.

use super::{Client, Cursor, Kind, Scheduler, Usable, has_weight};
use crate::service::Real;
use crate::stats::Stats;
use std::cmp::Reverse;

pub(super) const KIND: Kind = Kind {
    name: "fo",
    description: "failover: all to the real server with the largest weight",
    is_stateless: false,
    new: |reals, _| Box::new(Failover(by_weight(reals))),
};

/// The places of the real servers with a weight, the largest first.
#[derive(Debug)]
struct Failover(Box<[u16]>);

/// The places of real servers that have a weight, by that: the largest first, and equals in the list's order.
pub(super) fn by_weight(reals: &[Real]) -> Box<[u16]> {
    let weighted = (0..=u16::MAX)
        .zip(reals)
        .filter(|(_, real)| has_weight(real));
    let mut places: Vec<u16> = weighted.map(|(place, _)| place).collect();
    places.sort_by_key(|place| Reverse(reals[usize::from(*place)].weight));
    places.into()
}

impl Scheduler for Failover {
    fn pick(
        &self,
        reals: &[Real],
        _: Client,
        _: &Cursor,
        _: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        let mut places = self.0.iter().map(|place| usize::from(*place));
        places.find(|place| reals.get(*place).is_some_and(usable))
    }

    fn expect(&self, _: &[Real], _: Client, _: &Cursor, _: usize) -> usize {
        self.0.first().copied().map_or(0, usize::from)
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Lab;

    #[test]
    fn chooses_what_the_kernel_chooses() {
        assert_eq!(Lab::new("fo", &[3, 2, 1]).sequence(4), "AAAA");
        assert_eq!(Lab::new("fo", &[3, 5, 1]).sequence(4), "BBBB");
        assert_eq!(Lab::new("fo", &[2, 2, 2]).sequence(4), "CCCC");
        let mut lab = Lab::new("fo", &[3, 2, 1]);
        assert_eq!(lab.sequence(2), "AA");
        lab.reals[2].weight = 0;
        lab.changed();
        assert_eq!(lab.sequence(2), "BB");
        lab.reals[2].weight = 3;
        lab.changed();
        assert_eq!(lab.sequence(2), "AA");
    }

    #[test]
    fn what_cannot_be_reached_is_left_to_the_next() {
        let lab = Lab::new("fo", &[3, 2, 1]);
        assert_eq!(lab.connect_usable(1, &|real| real.weight < 3), 'B');
        assert_eq!(lab.connect_usable(1, &|real| real.weight < 2), 'C');
    }
}

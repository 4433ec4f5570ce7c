//! `ovf`: the real server with the largest weight until it has more active connections than that, then the next one
//! (`ip_vs_ovf.c`): a weight is a number of connections here. None of them when all are full.

use super::{Client, Cursor, Kind, Scheduler, Usable, fo};
use crate::service::Real;
use crate::stats::Stats;

pub(super) const KIND: Kind = Kind {
    name: "ovf",
    description: "overflow: the real server with the largest weight, and the next one when that has as many connections",
    is_stateless: false,
    new: |reals, _| Box::new(Overflow(fo::by_weight(reals))),
};

/// The places of the real servers with a weight, the largest first.
#[derive(Debug)]
struct Overflow(Box<[u16]>);

impl Scheduler for Overflow {
    fn pick(
        &self,
        reals: &[Real],
        _: Client,
        cursor: &Cursor,
        stats: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        // One more than the weight fits, as in the kernel.
        let has_room = |real: &Real| stats.load(real.id).0 <= u32::from(real.weight);
        let mut places = self.0.iter().map(|place| usize::from(*place));
        let place = places.find(|place| {
            let real = reals.get(*place);
            real.is_some_and(|real| has_room(real) && usable(real))
        })?;
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
    fn chooses_what_the_kernel_chooses() {
        assert_eq!(Lab::new("ovf", &[3, 2, 1]).sequence(10), "AAAABBBCC-");
        assert_eq!(Lab::new("ovf", &[2, 2, 2]).sequence(10), "CCCBBBAAA-");
    }

    #[test]
    fn what_ends_makes_room() {
        let lab = Lab::new("ovf", &[1, 1]);
        assert_eq!(lab.sequence(5), "BBAA-");
        lab.end(1, 1);
        assert_eq!(lab.sequence(2), "B-");
    }
}

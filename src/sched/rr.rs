//! `rr`: one after the other; weights count only as zero or not (`ip_vs_rr.c`).

use super::{Client, Cursor, Kind, Scheduler, Usable};
use crate::service::Real;
use crate::stats::Stats;

pub(super) const KIND: Kind = Kind {
    name: "rr",
    description: "round robin: one real server after the other",
    is_stateless: false,
    new: |_, _| Box::new(RoundRobin),
};

#[derive(Debug)]
struct RoundRobin;

impl Scheduler for RoundRobin {
    fn pick(
        &self,
        reals: &[Real],
        _: Client,
        cursor: &Cursor,
        _: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        let start = match cursor.last_place(reals) {
            Some(last) => last + 1,
            None => cursor.first(reals.len() as u32) as usize,
        };
        let place = (start..reals.len())
            .chain(0..start.min(reals.len()))
            .find(|&place| reals[place].weight > 0 && usable(&reals[place]))?;
        cursor.set_last(reals, place);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Lab;

    #[test]
    fn takes_turns_whatever_the_weights() {
        assert_eq!(Lab::new("rr", &[1, 1, 1]).sequence(9), "CBACBACBA");
        assert_eq!(Lab::new("rr", &[3, 2, 1]).sequence(9), "CBACBACBA");
        assert_eq!(Lab::new("rr", &[2, 0, 1]).sequence(6), "CACACA");
    }

    #[test]
    fn a_change_elsewhere_in_the_list_does_not_disturb_the_turns() {
        let mut lab = Lab::new("rr", &[1, 1, 1, 1]);
        assert_eq!(lab.sequence(3), "DCB");
        lab.reals.remove(0);
        lab.changed();
        assert_eq!(lab.sequence(4), "ACBA");
    }
}

//! `lblcr`: `lblc` with replication (`ip_vs_lblcr.c`): a set of real servers, of which the one with the fewest connections for its
//! weight is chosen. When that one is overloaded, the least loaded of all joins the set; when the set was the same for a day, the
//! most loaded one leaves it.
//!
//! The kernel keeps a set for each destination. A service of weir has one VIP, so that it is one, which each worker keeps, of at most
//! [`MOST`]: where that is not enough, a connection goes to the least loaded real server of all.

use super::least::{Share, least};
use super::{Client, Cursor, Kind, Scheduler, Usable, has_weight, lblc, wlc};
use crate::service::Real;
use crate::stats::Stats;
use crate::units::Millis;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

pub(super) const KIND: Kind = Kind {
    name: "lblcr",
    description: "locality-based least connection with replication: a few real servers, and more while they are overloaded",
    is_stateless: false,
    new: |_, _| Box::new(Replicated),
};

/// So many real servers a set has at most.
pub(super) const MOST: usize = 16;

/// The kernel's `lblcr_expiration`.
const DAY: u32 = 24 * 60 * 60 * 1000;

#[derive(Debug)]
struct Replicated;

/// The cells of the set with the places of their real servers: those that are still there.
fn members<'a>(
    cursor: &'a Cursor,
    reals: &'a [Real],
) -> impl Iterator<Item = (&'a AtomicU32, usize)> {
    cursor.set.iter().filter_map(|cell| {
        let id = cell.load(Relaxed).checked_sub(1)?;
        let place = reals.iter().position(|real| real.id.0 == id);
        if place.is_none() {
            cell.store(0, Relaxed);
        }
        Some((cell, place?))
    })
}

impl Scheduler for Replicated {
    fn pick(
        &self,
        reals: &[Real],
        client: Client,
        cursor: &Cursor,
        stats: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        let share = |place: usize| wlc::share(&reals[place], stats);
        let mut best: Option<(usize, Share)> = None;
        let mut most: Option<(&AtomicU32, Share)> = None;
        let mut count = 0;
        for (cell, place) in members(cursor, reals) {
            count += 1;
            let share = share(place);
            let is_best = best.is_none_or(|(_, best)| share.is_less_than(best));
            if is_best && has_weight(&reals[place]) && usable(&reals[place]) {
                best = Some((place, share));
            }
            if most.is_none_or(|(_, most)| most.is_less_than(share)) {
                most = Some((cell, share));
            }
        }
        let changed = || Millis(cursor.set_changed.load(Relaxed));
        if count > 1 && client.now.since(changed()) > DAY {
            if let Some((cell, _)) = most {
                cell.store(0, Relaxed);
            }
            cursor.set_changed.store(client.now.0, Relaxed);
        }
        let fits = |place: &usize| !lblc::is_overloaded(&reals[*place], reals, stats);
        if let Some(place) = best.map(|(place, _)| place).filter(fits) {
            return Some(place);
        }
        let beginning = cursor.beginning(reals.len());
        let place = least(reals, beginning, usable, |real| wlc::share(real, stats))?;
        let is_member = members(cursor, reals).any(|(_, member)| member == place);
        let free = || cursor.set.iter().find(|cell| cell.load(Relaxed) == 0);
        if let Some(cell) = (!is_member).then(free).flatten() {
            cell.store(reals[place].id.0 + 1, Relaxed);
            cursor.set_changed.store(client.now.0, Relaxed);
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::testing::Lab;

    #[test]
    fn the_set_grows_while_it_is_overloaded_and_shares_its_load() {
        let lab = Lab::new("lblcr", &[3, 3, 3]);
        assert_eq!(lab.sequence(4), "CCCC");
        // C is overloaded: B joins, and is the less loaded one of both from now on.
        assert_eq!(lab.sequence(4), "BBBB");
        assert_eq!(lab.sequence(4), "AAAA");
        assert_eq!(
            lab.sequence(3).chars().filter(|real| *real == 'C').count(),
            1
        );
    }

    #[test]
    fn after_a_day_without_a_change_the_most_loaded_leaves() {
        let lab = Lab::new("lblcr", &[3, 3, 3]);
        assert_eq!(lab.sequence(8), "CCCCBBBB");
        for (real, count) in [(2, 2), (1, 4)] {
            lab.end(real, count);
        }
        let at = |millis| Client::new([10, 0, 1, 2], 1).at(Millis(millis));
        let letter = |millis| (b'A' + lab.open(at(millis)).unwrap().id.0 as u8) as char;
        assert_eq!(letter(DAY), 'B');
        // Both are in the set until the day is over; then C, which has two, is no longer.
        assert_eq!(letter(DAY + 1), 'B');
        lab.end(2, 2);
        assert_eq!(
            letter(DAY + 2),
            'B',
            "C has no connection, and is not in the set"
        );
    }

    #[test]
    fn a_set_has_its_bound_and_forgets_who_is_gone() {
        let mut lab = Lab::new("lblcr", &[1; 20]);
        // The least loaded of all is taken beyond the bound, too.
        let all = lab.sequence(60);
        let each = (b'A'..b'A' + 20).map(char::from);
        assert!(each.clone().all(|letter| all.contains(letter)), "{all}");
        assert_eq!(members(lab.cursor(), &lab.reals).count(), MOST);
        lab.reals.truncate(2);
        lab.changed();
        assert!(!lab.sequence(9).contains('-'));
        assert!(members(lab.cursor(), &lab.reals).count() <= 2);
    }
}

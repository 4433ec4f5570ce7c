//! `conhash`: by the client's address on a ring of points (DPVS's `dp_vs_conhash.c`; Karger et al., STOC 1997).
//!
//! Each real server has 160 points for each unit of its weight, of what all weights have in common. A client goes to the
//! real server of the next point of the ring, and one that is not usable leaves its clients to the next ones behind its points.

use super::named::{Cache, Cached, Server, mix, servers};
use super::{Client, Cursor, Kind, Scheduler, Usable, gcd, has_weight};
use crate::service::Real;
use crate::stats::Stats;
use std::sync::Arc;

pub(super) const KIND: Kind = Kind {
    name: "conhash",
    description: "consistent hash: by the client's address, on a ring of points",
    is_stateless: true,
    new: |reals, _| {
        // One that is down or drained keeps its points, and what all weights have in common stays as it was.
        let servers = servers(reals, |real| real.nominal);
        Box::new(ConsistentHash(RINGS.get(&servers, ring)))
    },
};

/// DPVS's `REPLICA`.
const POINTS_EACH: u64 = 160;

/// A ring has about so many points at most: weights that would take more have fewer each.
const MOST_POINTS: u64 = 1 << 17;

/// So many points are looked at before the list of real servers is gone through.
const STEPS: usize = 1024;

/// Sorted: where a point is, and the place of its real server.
type Ring = Box<[(u32, u16)]>;

static RINGS: Cache<Ring> = Cache::new();

#[derive(Debug)]
struct ConsistentHash(Arc<Cached<Ring>>);

fn ring(servers: &[Server]) -> Ring {
    let weights = || servers.iter().map(|server| u32::from(server.weight));
    let common = u64::from(weights().fold(0, gcd).max(1));
    let all = weights().map(u64::from).sum::<u64>() / common * POINTS_EACH;
    let points = |server: &Server| {
        let whole = u64::from(server.weight) / common * POINTS_EACH;
        match all > MOST_POINTS {
            true => (whole * MOST_POINTS / all).max(u64::from(server.weight > 0)),
            false => whole,
        }
    };
    let of_one = |(place, server): (u16, &Server)| {
        let name = server.name();
        let at = move |point: u64| (mix(name ^ mix(point + 1)) >> 32) as u32;
        (0..points(server)).map(move |point| (at(point), place))
    };
    let mut ring: Vec<_> = (0..=u16::MAX).zip(servers).flat_map(of_one).collect();
    // Where two have one point, it is the one's of the smaller name, whatever the list's order.
    ring.sort_unstable_by_key(|&(at, place)| (at, servers[usize::from(place)].name()));
    ring.into()
}

impl ConsistentHash {
    /// The place on the ring of the point that a client comes to.
    fn point(&self, client: Client) -> usize {
        let hash = (mix(u64::from(client.address)) >> 32) as u32;
        let next = self.0.partition_point(|(at, _)| *at < hash);
        if next < self.0.len() { next } else { 0 }
    }
}

impl Scheduler for ConsistentHash {
    fn pick(
        &self,
        reals: &[Real],
        client: Client,
        _: &Cursor,
        _: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        let can = |place: &usize| {
            let real = reals.get(*place);
            real.is_some_and(|real| has_weight(real) && usable(real))
        };
        let first = self.point(client);
        let (before, after) = self.0.split_at(first);
        let places = after.iter().chain(before).take(STEPS);
        let mut places = places.map(|(_, place)| usize::from(*place));
        places.find(can).or_else(|| (0..reals.len()).find(can))
    }

    fn expect(&self, _: &[Real], client: Client, _: &Cursor, _: usize) -> usize {
        let point = self.0.get(self.point(client));
        point.map_or(0, |(_, place)| usize::from(*place))
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Lab;

    fn choices(lab: &Lab) -> Vec<char> {
        (0..4_000)
            .map(|n| lab.connect(0x0a00_0001 + n * 7))
            .collect()
    }

    #[test]
    fn clients_are_in_proportion_to_the_weights() {
        for weights in [&[1; 8][..], &[3, 2, 1], &[300, 200, 100], &[60_000, 59_999]] {
            let chosen = choices(&Lab::new("conhash", weights));
            let all: u32 = weights.iter().copied().map(u32::from).sum();
            for (letter, weight) in ('A'..).zip(weights) {
                let share =
                    chosen.iter().filter(|chosen| **chosen == letter).count() as f64 / 4_000.0;
                let expected = f64::from(*weight) / f64::from(all);
                assert!(
                    (share / expected - 1.0).abs() < 0.3,
                    "{weights:?} {letter}: {share} for {expected}"
                );
            }
        }
    }

    #[test]
    fn only_the_clients_move_of_one_that_is_down_or_gone() {
        let mut lab = Lab::new("conhash", &[2, 2, 3, 2]);
        let before = choices(&lab);
        let moved_only_from = |letter: char, after: &[char]| {
            let mut both = before.iter().zip(after);
            assert!(
                both.all(
                    |(before, after)| after != &letter && (before == &letter || before == after)
                )
            );
        };
        lab.reals[1].weight = 0;
        lab.changed();
        moved_only_from('C', &choices(&lab));
        lab.reals[1].weight = 3;
        lab.reals.remove(2);
        lab.changed();
        moved_only_from('B', &choices(&lab));
    }
}

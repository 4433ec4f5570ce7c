//! What the schedulers have in common that look for the real server with the least load: `lc`, `wlc`, `sed`, `nq`, `lblc`, `lblcr`.
//!
//! They look at every real server of the service, for new connections only; `lc`, `wlc`, `sed` and `nq` in [blocks](Least), where there are
//! many.

use super::{Usable, has_weight};
use crate::service::Real;
use crate::stats::Stats;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// How much a real server has to do: an active connection counts as much as 256 inactive ones (`ip_vs_dest_conn_overhead`).
pub(super) fn overhead(real: &Real, stats: &Stats) -> u64 {
    let (active, inactive) = stats.load(real.id);
    u64::from(active) * 256 + u64::from(inactive)
}

/// A load for so much weight, to be compared without dividing: at most 2^40 times 2^16.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub load: u64,
    pub weight: u64,
}

impl Share {
    pub(super) fn is_less_than(self, other: Share) -> bool {
        self.load * other.weight < other.load * self.weight
    }

    fn ratio(self) -> f64 {
        self.load as f64 / self.weight as f64
    }
}

/// Finds the least among the real servers of a service.
///
/// Of more than [`FEW`] it keeps the least of each block of them, about as many blocks as one has real servers. A choice looks at
/// what is kept, and then at the block that has the least by that, which it corrects; it goes on until the least is one that it
/// has just looked at. So it never takes one that has got connections meanwhile, from any worker, for what it was. It does
/// not notice that connections have ended; but each choice also looks at one block in turn, so that none is older than as many
/// choices of all workers together as there are blocks.
#[derive(Debug)]
pub(super) struct Least(Option<Blocks>);

/// So many are looked at one by one.
const FEW: usize = 256;

#[derive(Debug)]
struct Blocks {
    /// Real servers in a block.
    size: usize,
    /// The least ratio in each, as the bits of an `f64`; not below 0, and infinite if none is usable. At first 0: it is looked at.
    /// Any worker writes them, and what one overwrites is corrected by the next.
    least: Box<[AtomicU64]>,
    /// The block that the next choice looks at, beside the one with the least.
    turn: AtomicUsize,
}

impl Least {
    pub(super) fn of(reals: &[Real]) -> Self {
        let blocks = || {
            let size = reals.len().isqrt() + 1;
            let count = reals.len().div_ceil(size);
            Blocks {
                size,
                least: (0..count).map(|_| AtomicU64::new(0)).collect(),
                turn: AtomicUsize::new(0),
            }
        };
        Least((reals.len() > FEW).then(blocks))
    }

    /// As [`least`], of the real servers that this was made for.
    pub(super) fn pick(
        &self,
        reals: &[Real],
        beginning: usize,
        usable: &Usable,
        share: impl Fn(&Real) -> Share,
    ) -> Option<usize> {
        let Some(blocks) = &self.0 else {
            return least(reals, beginning, usable, share);
        };
        let look = |block: usize| {
            let first = block * blocks.size;
            let those = part(reals, beginning, first..first + blocks.size);
            let found = least_of(those, usable, &share);
            let ratio = found.map_or(f64::INFINITY, |(_, share)| share.ratio());
            blocks.least[block].store(ratio.to_bits(), Relaxed);
            found.map(|(place, _)| place)
        };
        let turn = blocks.turn.load(Relaxed) % blocks.least.len();
        blocks.turn.store(turn + 1, Relaxed);
        let mut looked_at = (turn, look(turn));
        // Others may write at the same time: after as many looks as there are blocks the last one does.
        for _ in 0..blocks.least.len() {
            let block = blocks.first_least();
            if block == looked_at.0 {
                break;
            }
            looked_at = (block, look(block));
        }
        // What has become usable since may be in a block that has not had its turn.
        let found = looked_at.1;
        found.or_else(|| least(reals, beginning, usable, share))
    }
}

impl Blocks {
    /// The first of the blocks with the least ratio. Numbers that are not negative are in the order of their bits.
    fn first_least(&self) -> usize {
        let ratios = self.least.iter().map(|ratio| ratio.load(Relaxed));
        let first = ratios.zip(0..).min();
        first.map_or(0, |(_, block)| block)
    }
}

/// The place of the real server with the least share, among those with a weight that are usable. Among equals it is the first from
/// the place `beginning` on, and round to it.
pub(super) fn least(
    reals: &[Real],
    beginning: usize,
    usable: &Usable,
    share: impl Fn(&Real) -> Share,
) -> Option<usize> {
    least_of(from(reals, beginning), usable, share).map(|(place, _)| place)
}

fn least_of<'a>(
    reals: impl Iterator<Item = (usize, &'a Real)>,
    usable: &Usable,
    share: impl Fn(&Real) -> Share,
) -> Option<(usize, Share)> {
    let mut least: Option<(usize, Share)> = None;
    for (place, real) in reals {
        let share = share(real);
        if least.is_none_or(|(_, least)| share.is_less_than(least)) && usable(real) {
            least = Some((place, share));
        }
    }
    least
}

/// The real servers that have a weight, with their places: from `beginning` on, and round to it.
pub(super) fn from(reals: &[Real], beginning: usize) -> impl Iterator<Item = (usize, &Real)> {
    let (before, after) = reals.split_at(beginning);
    let all = (before.len()..).zip(after).chain((0..).zip(before));
    all.filter(|(_, real)| has_weight(real))
}

/// Some of [`from`], by their number in it, those without a weight counted.
fn part(
    reals: &[Real],
    beginning: usize,
    numbers: Range<usize>,
) -> impl Iterator<Item = (usize, &Real)> {
    let length = reals.len();
    let places = (numbers.start..numbers.end.min(length)).map(move |number| {
        let place = beginning + number;
        if place < length {
            place
        } else {
            place - length
        }
    });
    places
        .map(|place| (place, &reals[place]))
        .filter(|(_, real)| has_weight(real))
}

#[cfg(test)]
mod tests {
    use super::super::{Client, Cursor, Scheduler, Setting, kinds};
    use super::*;
    use crate::units::{RealId, WorkerId};
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::net::IpAddr;

    struct Many {
        reals: Vec<Real>,
        stats: Stats,
        scheduler: Box<dyn Scheduler>,
        cursors: Vec<Cursor>,
    }

    const WORKERS: u32 = 3;

    impl Many {
        fn new(kind: &str, count: usize, weights: &[u16], offset: u32) -> Self {
            let stats = Stats::new(WORKERS as usize).unwrap();
            let real = |n: usize| Real {
                id: RealId(n as u32),
                address: IpAddr::from([10, 0, (n >> 8) as u8, n as u8]),
                port: 80,
                weight: weights[n % weights.len()],
                nominal: weights[n % weights.len()],
                is_available: true,
                keeps_clients: true,
                thresholds: None,
            };
            let reals: Vec<_> = (0..count).map(real).collect();
            reals.iter().for_each(|real| stats.ensure(real.id));
            let kind = kinds().find(|it| it.name == kind).unwrap();
            let cursors = (0..WORKERS).map(|worker| Cursor::new(worker, WORKERS, offset));
            Many {
                scheduler: (kind.new)(&reals, &Setting::default()),
                reals,
                stats,
                cursors: cursors.collect(),
            }
        }

        /// The place that one of the workers chooses.
        fn pick(&self, worker: usize, usable: &Usable) -> Option<usize> {
            let cursor = &self.cursors[worker % WORKERS as usize];
            let client = Client::default();
            self.scheduler
                .pick(&self.reals, client, cursor, &self.stats, usable)
        }

        fn count(&self, worker: usize, place: usize, is_new: bool) {
            let worker = self
                .stats
                .worker(WorkerId((worker % WORKERS as usize) as u8));
            let load = worker.loads.get(place).unwrap();
            match is_new {
                true => load.active.inc(),
                false => load.active.dec(),
            }
        }

        /// What is chosen by a look at every one of them.
        fn plain(&self, kind: &str, usable: &Usable) -> Option<usize> {
            let share = |real: &Real| match kind {
                "lc" => Share {
                    load: overhead(real, &self.stats),
                    weight: 1,
                },
                "wlc" => super::super::wlc::share(real, &self.stats),
                "nq" if self.stats.load(real.id).0 == 0 => Share { load: 0, weight: 1 },
                _ => super::super::sed::delay(real, &self.stats),
            };
            let beginning = self.cursors[0].beginning(self.reals.len());
            least(&self.reals, beginning, usable, share)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// As long as no connection ends, the choice is that of a look at every one of them, its order among equals included;
        /// and again when every block has had its turn after some have ended.
        #[test]
        fn of_many_the_least_is_chosen(
            kind in prop::sample::select(vec!["lc", "wlc", "sed", "nq"]),
            count in prop::sample::select(vec![1usize, 255, 257, 289, 600]),
            weights in prop::collection::vec(prop_oneof![3 => 1u16..6, 1 => Just(0)], 1..9),
            offset: u32,
            down in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
            ended in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
        ) {
            let many = Many::new(kind, count, &weights, offset);
            let down: Vec<_> = down.iter().map(|which| which.index(count)).collect();
            let usable = |real: &Real| !down.contains(&real.id.index());
            let mut open = vec![];
            for round in 0..2 {
                for n in 0..count {
                    let chosen = many.pick(n, &usable);
                    let blocks = count.isqrt() + 1;
                    if round == 0 || n > blocks {
                        prop_assert_eq!(chosen, many.plain(kind, &usable), "{} of {}", n, count);
                    }
                    let Some(place) = chosen else {
                        return Ok(());
                    };
                    prop_assert!(many.reals[place].weight > 0 && usable(&many.reals[place]));
                    // Until every block has had its turn, nothing but the turns changes.
                    if round == 0 || n > blocks {
                        many.count(n, place, true);
                        open.push((n, place));
                    }
                }
                for which in &ended {
                    if !open.is_empty() {
                        let (worker, place) = open.swap_remove(which.index(open.len()));
                        many.count(worker, place, false);
                    }
                }
            }
        }
    }

    #[test]
    fn of_4000_a_choice_asks_for_few() {
        let many = Many::new("wlc", 4_000, &[1, 2, 3], 7);
        let asked = RefCell::new(0);
        let usable = |_: &Real| {
            *asked.borrow_mut() += 1;
            true
        };
        for n in 0..8_000 {
            let place = many.pick(n, &usable).unwrap();
            many.count(n, place, true);
        }
        let each = *asked.borrow() / 8_000;
        assert!(each < 20, "{each}");
    }
}

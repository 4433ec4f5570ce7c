//! The clients that begin, or try to begin, the most connections of a service: a fixed number of them on each worker, by the
//! algorithm "space saving" (Metwally, Agrawal, El Abbadi: Efficient Computation of Frequent and Top-k Elements).
//!
//! A client that is not among them takes the place of the one with the least, and what that had counts as what may be missing
//! of its own. So each that makes more than a share of 1 / [`PLACES`] is among them. Counts halve every [`EPOCH`], so that who
//! stopped makes room. One worker writes, the control thread reads in between.

use crate::units::Time;
use std::sync::atomic::{
    AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

/// Clients on each worker.
const PLACES: usize = 32;
/// 69 seconds, as a power of 2 of nanoseconds.
const EPOCH: u32 = 36;

/// The clients of one service on one worker.
#[derive(Debug, Default)]
pub struct Offenders {
    clients: [AtomicU64; PLACES],
    counts: [Counts; PLACES],
    /// Up to which the counts have been halved.
    epoch: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts {
    refused: AtomicU32,
    begun: AtomicU32,
    missing: AtomicU32,
}

/// What a client did of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offender {
    /// See [`super::client`]. 0: none.
    pub client: u64,
    /// Packets of it that were refused.
    pub refused: u32,
    /// Connections that it began.
    pub begun: u32,
    /// So many more of both it may have had.
    pub missing: u32,
}

impl Offender {
    fn total(&self) -> u32 {
        self.refused.saturating_add(self.begun)
    }

    /// What it did on two workers.
    fn with(self, other: Offender) -> Offender {
        Offender {
            client: self.client,
            refused: self.refused.saturating_add(other.refused),
            begun: self.begun.saturating_add(other.begun),
            missing: self.missing.saturating_add(other.missing),
        }
    }
}

impl Counts {
    fn get(&self, client: u64) -> Offender {
        Offender {
            client,
            refused: self.refused.load(Relaxed),
            begun: self.begun.load(Relaxed),
            missing: self.missing.load(Relaxed),
        }
    }

    fn set(&self, counts: &Offender) {
        self.refused.store(counts.refused, Relaxed);
        self.begun.store(counts.begun, Relaxed);
        self.missing.store(counts.missing, Relaxed);
    }
}

impl Offenders {
    /// A client was refused, or has begun a connection.
    #[cold]
    pub(super) fn note(&self, client: u64, is_refused: bool, now: Time) {
        self.age(now);
        let known = self
            .clients
            .iter()
            .position(|it| it.load(Relaxed) == client);
        let place = known.unwrap_or_else(|| {
            let weight = |place: &usize| {
                let held = self.counts[*place].get(0);
                held.total().saturating_add(held.missing)
            };
            let place = (0..PLACES).min_by_key(weight).unwrap_or(0);
            let missing = weight(&place);
            // None while the counts are another's.
            self.clients[place].store(0, Release);
            self.counts[place].set(&Offender {
                missing,
                ..Offender::default()
            });
            self.clients[place].store(client, Release);
            place
        });
        let counts = &self.counts[place];
        let count = match is_refused {
            true => &counts.refused,
            false => &counts.begun,
        };
        count.store(count.load(Relaxed).saturating_add(1), Relaxed);
    }

    /// Halves the counts for each epoch that has gone by.
    fn age(&self, now: Time) {
        let epoch = now.nanos() >> EPOCH;
        let before = self.epoch.swap(epoch, Relaxed);
        if before == epoch {
            return;
        }
        for counts in &self.counts {
            counts.set(&aged(counts.get(0), epoch.saturating_sub(before)));
        }
    }

    /// Those of all workers, who did the most first.
    pub fn most<'a>(workers: impl Iterator<Item = &'a Offenders>, now: Time) -> Vec<Offender> {
        let mut all: Vec<Offender> = Vec::new();
        for worker in workers {
            let epoch = worker.epoch.load(Relaxed);
            let epochs = (now.nanos() >> EPOCH).saturating_sub(epoch);
            for (client, counts) in worker.clients.iter().zip(&worker.counts) {
                let id = client.load(Acquire);
                let found = aged(counts.get(id), epochs);
                // Another client's by now.
                if id == 0 || client.load(Acquire) != id || found.total() == 0 {
                    continue;
                }
                match all.iter_mut().find(|known| known.client == id) {
                    Some(known) => *known = known.with(found),
                    None => all.push(found),
                }
            }
        }
        all.sort_by_key(|it| std::cmp::Reverse((it.total(), it.refused, it.client)));
        all
    }
}

fn aged(counts: Offender, epochs: u64) -> Offender {
    let by = epochs.min(31) as u32;
    Offender {
        client: counts.client,
        refused: counts.refused >> by,
        begun: counts.begun >> by,
        missing: counts.missing >> by,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const START: Time = Time::from_nanos(1 << 60);

    #[test]
    fn who_stops_is_forgotten() {
        let offenders = Offenders::default();
        (0..100).for_each(|_| offenders.note(7, true, START));
        let later = |epochs: u64| Time::from_nanos((1 << 60) + (epochs << EPOCH));
        let most = |epochs| Offenders::most([&offenders].into_iter(), later(epochs));
        assert_eq!((most(0)[0].refused, most(1)[0].refused), (100, 50));
        assert_eq!(most(7), []);
        offenders.note(8, false, later(1));
        let both: Vec<_> = most(1)
            .iter()
            .map(|it| (it.client, it.refused, it.begun))
            .collect();
        assert_eq!(both, [(7, 50, 0), (8, 0, 1)]);
    }

    proptest! {
        /// Every client with more than a share of the new connections is listed, and each count is too small by at most what `missing` says.
        #[test]
        fn the_heaviest_are_among_them(
            notes in prop::collection::vec((prop_oneof![1u64..6, 6u64..400], any::<bool>(), 0usize..2), 1..1500),
        ) {
            let workers = [Offenders::default(), Offenders::default()];
            let mut exact: HashMap<u64, (u32, u32)> = HashMap::new();
            for (client, is_refused, worker) in &notes {
                workers[*worker].note(*client, *is_refused, START);
                let counts = exact.entry(*client).or_default();
                match is_refused { true => counts.0 += 1, false => counts.1 += 1 }
            }
            let most = Offenders::most(workers.iter(), START);
            for found in &most {
                let (refused, begun) = exact[&found.client];
                prop_assert!(found.refused <= refused && found.begun <= begun);
                prop_assert!(refused + begun <= found.total() + found.missing + notes.len() as u32 / PLACES as u32);
            }
            for (client, (refused, begun)) in &exact {
                if (refused + begun) as usize > 2 * notes.len() / PLACES + 1 {
                    prop_assert!(most.iter().any(|found| found.client == *client), "{client}");
                }
            }
        }
    }
}

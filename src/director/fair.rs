//! Whether a client holds more than its share of the local pairs towards a real server, once most of them are in use: so that
//! no client uses a pool up for the others. The same of an inside host of `[[snat]]`, towards a remote address and port.
//!
//! Nothing is counted for that. A sample of the pairs is looked up in the connection table, and those that hold them are told
//! apart: it costs nothing while there are enough pairs, and has no table of clients for each real server. A pair whose
//! connection is over counts as free: it is given up at once.

use super::Core;
use super::family::Family;
use super::parse::Flow;
use crate::admission::client;
use crate::conn::local_port::Pair;
use crate::conn::{Key, Pool, Worth};
use crate::packet::Packet;
use crate::stats::Load;
use crate::tables::Tables;
use crate::units::Millis;
use arrayvec::ArrayVec;

/// Pairs of this worker that are looked at.
const SAMPLE: usize = 64;
/// Of pairs that nothing counts, so many are looked at first: if not even half of them are in use, four fifths of all are not.
const FIRST: usize = 8;

/// Of the pairs that a worker has towards a real server, `used` are in use: whether these are 80 % or more. A worker with fewer
/// pairs than a sample gives them out as they come.
#[inline]
pub(super) fn is_scarce(pool: &Pool, workers: usize, used: u32) -> bool {
    let (size, workers) = (u64::from(pool.size()), workers as u64);
    u64::from(used) * workers * 5 >= size * 4 && size >= SAMPLE as u64 * workers
}

/// The pairs towards a real server that a worker has in use, connections that are over included.
#[inline]
pub(super) fn used(load: &Load) -> u32 {
    load.active.get().wrapping_add(load.inactive.get())
}

/// Whether `held` of `looked` pairs, which so many clients share, are more than one of them may have: the even part, if one
/// more client came. `is_all`: there are no others; a sample may be wrong by twice its standard deviation.
fn is_too_much(held: usize, looked: usize, clients: usize, is_all: bool) -> bool {
    let even = looked as f64 / (clients + 1) as f64;
    let margin = if is_all { 0.0 } else { 2.0 * even.sqrt() };
    held as f64 > even + margin
}

/// Those that hold a sample of pairs.
struct Holders {
    looked: usize,
    /// By what does not give way at once.
    used: usize,
    /// By what is over.
    over: usize,
    /// By the one that is asked about.
    held: usize,
    /// How many they are.
    count: usize,
    /// The sample is all that this worker has.
    is_all: bool,
}

impl Holders {
    /// Of so many pairs in use, an estimate of those that do not give way at once.
    fn lasting(&self, used: u32) -> u32 {
        let found = (self.used + self.over).max(1) as u64;
        (u64::from(used) * self.used as u64).div_ceil(found) as u32
    }

    fn has_too_much(&self) -> bool {
        is_too_much(self.held, self.looked, self.count, self.is_all)
    }
}

impl<F: Family, P: Packet> Core<F, P> {
    /// Whether the client of a flow holds more than its share of the pairs towards a real server, of which few are left.
    /// `used`: how many are in use, connections that are over included; `reply_key`: the key of the replies to a pair.
    #[cold]
    pub(super) fn holds_too_much(
        &self,
        pool: &Pool,
        used: u32,
        flow: &Flow<F>,
        reply_key: impl Fn(Pair<F::Address>) -> F::Key,
        tables: &Tables,
        now: Millis,
    ) -> bool {
        // The /64 that one subscriber has all addresses of.
        let who = |address: F::Address| client(address.into());
        let all = self.holders(SAMPLE, pool, flow, reply_key, who, (tables, now));
        let lasting = all.lasting(used);
        is_scarce(pool, self.shared.steering.workers(), lasting) && all.has_too_much()
    }

    /// Whether the inside host of a flow holds more than its share of the pairs towards a remote address and port, of which few are
    /// left. The pairs in use there are not counted, but there cannot be more of them than connections.
    #[cold]
    pub(super) fn host_holds_too_much(
        &self,
        pool: &Pool,
        flow: &Flow<F>,
        reply_key: impl Fn(Pair<F::Address>) -> F::Key,
        tables: &Tables,
        now: Millis,
    ) -> bool {
        let connections = self.live.counters.connections.get();
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        if !is_scarce(pool, self.shared.steering.workers(), connections) {
            return false;
        }
        // Real servers have one /64 in common.
        let who = |address: F::Address| address;
        let first = self.holders(FIRST, pool, flow, &reply_key, who, (tables, now));
        if first.used * 2 < first.looked {
            return false;
        }
        let all = self.holders(SAMPLE, pool, flow, &reply_key, who, (tables, now));
        all.used * 5 >= all.looked * 4 && all.has_too_much()
    }

    /// Those that hold `most` of the pairs of this worker, as `who` tells their addresses apart.
    fn holders<H: PartialEq>(
        &self,
        most: usize,
        pool: &Pool,
        flow: &Flow<F>,
        reply_key: impl Fn(Pair<F::Address>) -> F::Key,
        who: impl Fn(F::Address) -> H,
        (tables, now): (&Tables, Millis),
    ) -> Holders {
        let own = who(flow.key.source());
        let table = &self.live.table;
        let start = (table.hash(&flow.key) >> 32) as u32 % pool.size();
        let (mut place, mut passed) = (start, 0);
        let mut sample = ArrayVec::<(u64, F::Key), SAMPLE>::new();
        while sample.len() < most && passed < pool.size() {
            let key = reply_key(pool.pair(place));
            // What was given out in one go would not stand for the rest.
            place = pool.across(place);
            passed += 1;
            if self.shared.steering.owner(&key) == self.worker {
                let hash = table.hash(&key);
                table.prefetch_bucket(hash);
                sample.push((hash, key));
            }
        }
        for (hash, _) in &sample {
            table.guess(*hash);
        }
        let (mut used, mut over, mut held) = (0, 0, 0);
        let mut others = ArrayVec::<H, SAMPLE>::new();
        for (hash, key) in &sample {
            let Some(found) = table.find(*hash, key) else {
                continue;
            };
            let connection = table.get(found.id);
            let is_over = connection.worth() == Some(Worth::Over);
            if is_over || tables.timing.is_expired(connection, now) {
                over += 1;
                continue;
            }
            let holder = who(connection.request.source());
            used += 1;
            if holder == own {
                held += 1;
            } else if !others.contains(&holder) {
                others.push(holder);
            }
        }
        Holders {
            looked: sample.len(),
            used,
            over,
            held,
            count: others.len() + usize::from(held > 0),
            is_all: passed == pool.size(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn pairs_are_scarce_from_four_fifths_of_a_workers_own_on() {
        for (pairs, workers, at) in [
            (1000, 1, 800),
            (1000, 4, 200),
            (64_512, 7, 7373),
            (64, 1, 52),
        ] {
            let address = IpAddr::from([10, 0, 0, 200]);
            let pool = Pool::new("p".into(), vec![address], (1000, 999 + pairs));
            assert!(
                !is_scarce(&pool, workers, at - 1) && is_scarce(&pool, workers, at),
                "{pairs}"
            );
            assert!(!is_scarce(&pool, usize::from(pairs), u32::MAX), "too few");
        }
    }

    #[test]
    fn a_share_is_the_even_part_with_one_more_client() {
        // Held, looked at, clients, all of them; too much.
        for (held, looked, clients, is_all, expected) in [
            (50, 100, 1, true, false),
            (51, 100, 1, true, true),
            (33, 100, 2, true, false),
            (34, 100, 2, true, true),
            (0, 64, 64, false, false),
            // A client that comes is among none.
            (0, 64, 1, false, false),
            (51, 64, 1, false, true),
            (40, 64, 1, false, false),
            (2, 64, 60, false, false),
            (4, 64, 60, false, true),
        ] {
            assert_eq!(
                is_too_much(held, looked, clients, is_all),
                expected,
                "{held} of {looked}, {clients}"
            );
        }
    }
}

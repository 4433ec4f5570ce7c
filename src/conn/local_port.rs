//! Local addresses and ports for fullnat.
//!
//! Every real server goes round the pool in its own turn, so that a port is free for a whole round before it is used
//! again towards the same real server, and the same port serves many real servers at once. What makes a pair free is
//! the connection table itself: no connection has the reply key that it would get. Where none is free, a connection that is
//! over gives its pair up, else the oldest that nothing has proved yet.

use super::entry::{ConnId, Worth};
use super::key::Address;
use crate::stats::PairSearch;
use crate::units::Millis;
use arrayvec::ArrayVec;
use std::net::IpAddr;

/// The source addresses and ports of fullnat.
#[derive(Debug, PartialEq, Eq)]
pub struct Pool {
    pub name: String,
    pub addresses: Box<[IpAddr]>,
    pub first_port: u16,
    pub ports: u32,
    size: u32,
    /// The addresses in their order.
    sorted: Box<[IpAddr]>,
    /// Coprime to the size: by steps of it, every pair has its turn once in a round.
    stride: u32,
}

impl Pool {
    pub fn new(name: String, addresses: Vec<IpAddr>, (first_port, last_port): (u16, u16)) -> Self {
        let ports = u32::from(last_port) - u32::from(first_port) + 1;
        // Of a larger pool the rest is not used: a real server has fewer connections than this.
        let size = (addresses.len() as u64 * u64::from(ports)).min(1 << 30) as u32;
        // About the golden section, so that a round's neighbours in time lie far from each other.
        let mut stride = (f64::from(size) * 0.618) as u32 | 1;
        while gcd(stride, size) != 1 {
            stride += 1;
        }
        let mut sorted = addresses.clone();
        sorted.sort_unstable();
        Pool {
            name,
            sorted: sorted.into(),
            addresses: addresses.into(),
            first_port,
            ports,
            size,
            stride,
        }
    }

    /// The pair that has its turn after pair `n`.
    #[inline]
    pub fn next(&self, n: u32) -> u32 {
        ((u64::from(n) + u64::from(self.stride)) % u64::from(self.size)) as u32
    }

    /// Another round of all pairs, whose neighbours have their turns far from each other.
    pub fn across(&self, n: u32) -> u32 {
        let stride = u64::from(self.stride);
        ((u64::from(n) + stride * stride) % u64::from(self.size)) as u32
    }

    pub fn contains<A: Address>(&self, (address, port): Pair<A>) -> bool {
        let offset = u32::from(port).wrapping_sub(u32::from(self.first_port));
        offset < self.ports && self.sorted.binary_search(&address.into()).is_ok()
    }

    /// How many pairs of address and port there are.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Pair number `n`, below [`Pool::size`]: of its real servers' family.
    #[inline]
    pub fn pair<A: Address>(&self, n: u32) -> Pair<A> {
        let address = A::of(self.addresses[(n / self.ports) as usize]);
        let port = self.first_port + (n % self.ports) as u16;
        (address.unwrap_or(A::UNSPECIFIED), port)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A local address and port.
pub type Pair<A> = (A, u16);

/// So many pairs are looked at before one is taken over from a connection that can be given up: as they are given out in
/// the order of the search, the ones that come first have been in use for longest.
const SAMPLE: u32 = 64;
/// The most pairs that one search looks at. In a pool up to this size it is exhaustive.
const LOOKS: u32 = 1 << 16;
/// A larger pool in which nothing was found is not searched again for so long, unless one of the real server's own
/// connections ends.
const SMALL: u32 = 1024;
const REST_MS: u32 = 1000;
/// Pairs looked at together, whose entries are fetched ahead, where the first few were in use.
const GROUP: usize = 32;
const AT_ONCE: u32 = 4;

/// What a pair is used by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    Free,
    /// A connection that can be given up for another.
    Held(Held),
    /// One that cannot.
    Kept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub id: ConnId,
    pub worth: Worth,
    /// Milliseconds since its last packet.
    pub age: u32,
}

impl Held {
    /// Whether it is given up rather than `other`.
    pub fn goes_before(&self, other: &Held) -> bool {
        self.worth < other.worth || self.worth == other.worth && self.age > other.age
    }
}

/// What a search has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice<A> {
    Free(Pair<A>),
    /// To be taken over from that connection.
    Held(Pair<A>, Held),
}

/// How far the searches for one connection may go.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Pairs that may yet be looked at, towards whatever real servers.
    pub looks: u32,
    /// What the next packet would make anew gives its pair up too: when no pair is free anywhere else.
    pub takes_idle: bool,
}

impl Effort {
    /// After searches in vain for a free pair, everywhere.
    pub fn last() -> Self {
        Effort {
            takes_idle: true,
            ..Effort::default()
        }
    }
}

impl Default for Effort {
    fn default() -> Self {
        Effort {
            looks: LOOKS,
            takes_idle: false,
        }
    }
}

/// What the search asks of the connection table.
pub trait Pairs<A> {
    /// Whether this worker may use the pair, since the replies to it come to it.
    fn is_ours(&self, pair: Pair<A>) -> bool;
    /// Starts to fetch what [`guess`](Self::guess) looks at.
    fn fetch(&self, pair: Pair<A>);
    /// Starts to fetch what [`look`](Self::look) looks at.
    fn guess(&self, pair: Pair<A>);
    fn look(&mut self, pair: Pair<A>) -> Look;
}

/// The next free pair; where the first [`SAMPLE`] looked at are in use, the one of them that is given up first; without
/// such a one, the next that is free or can be given up. `start` is where the first round begins.
///
/// Of N workers each finds one pair in N to be its own, by looking: that works with whatever key and table a device
/// hashes with, needs no memory, and costs a few nanoseconds a look.
pub fn choose<A: Address>(
    pool: &Pool,
    search: &PairSearch,
    start: u32,
    now: Millis,
    effort: &mut Effort,
    pairs: &mut impl Pairs<A>,
) -> Option<Choice<A>> {
    let size = pool.size();
    // Gauges start at 0, which stands for "not". Whatever ends one of the real server's connections sets it back.
    let exhausted = search.exhausted_at.get();
    let rests = exhausted != 0 && now.since(Millis(exhausted)) < REST_MS;
    if rests && size > SMALL && !effort.takes_idle {
        return None;
    }
    let mut turn = search.cursor.get().checked_sub(1).unwrap_or(start % size) % size;
    let limit = size.min(effort.looks);
    let (mut looked, mut tried) = (0, 0);
    let mut best: Option<(Pair<A>, Held)> = None;
    let mut free = None;
    'search: while looked < limit {
        let together = if tried < AT_ONCE { 1 } else { GROUP };
        let mut group = ArrayVec::<u32, GROUP>::new();
        while group.len() < together && looked < limit {
            if pairs.is_ours(pool.pair(turn)) {
                group.push(turn);
            }
            looked += 1;
            turn = pool.next(turn);
        }
        if together > 1 {
            group.iter().for_each(|n| pairs.fetch(pool.pair(*n)));
            group.iter().for_each(|n| pairs.guess(pool.pair(*n)));
        }
        for (n, &place) in group.iter().enumerate() {
            let pair = pool.pair(place);
            tried += 1;
            match pairs.look(pair) {
                Look::Free => free = Some(pair),
                Look::Held(held)
                    if (effort.takes_idle || held.worth != Worth::Idle)
                        && best.is_none_or(|(_, best)| held.goes_before(&best)) =>
                {
                    best = Some((pair, held));
                }
                Look::Held(_) | Look::Kept => {}
            }
            if free.is_some() || best.is_some() && tried >= SAMPLE {
                turn = group.get(n + 1).copied().unwrap_or(turn);
                break 'search;
            }
        }
    }
    effort.looks -= looked;
    // Where the next search begins, and what it is expected to find.
    for _ in 0..GROUP {
        if pairs.is_ours(pool.pair(turn)) {
            break;
        }
        turn = pool.next(turn);
    }
    search.cursor.set(turn + 1);
    let found = match (free, best) {
        (Some(pair), _) => Some(Choice::Free(pair)),
        (None, Some((pair, held))) => Some(Choice::Held(pair, held)),
        (None, None) => None,
    };
    // A search of all that there is.
    if found.is_none() && looked == size.min(LOOKS) {
        search.exhausted_at.set(now.0.max(1));
    } else if matches!(found, Some(Choice::Free(_))) {
        search.exhausted_at.set(0);
    }
    found
}

/// The pair that the next search looks at first, after one that has found something.
#[inline]
pub fn expected<A: Address>(pool: &Pool, search: &PairSearch) -> Pair<A> {
    pool.pair(search.cursor.get().saturating_sub(1) % pool.size())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};
    use std::net::Ipv4Addr;

    fn pool(ports: (u16, u16)) -> Pool {
        Pool::new(
            "inside".into(),
            vec![IpAddr::from([10, 0, 0, 200]), IpAddr::from([10, 0, 0, 201])],
            ports,
        )
    }

    /// Who holds which pair, of a worker that owns every `step`th port.
    #[derive(Default)]
    struct Table {
        held: HashMap<Pair<Ipv4Addr>, Look>,
        share: Option<(u16, u16)>,
        looks: u32,
    }

    impl Pairs<Ipv4Addr> for Table {
        fn is_ours(&self, (_, port): Pair<Ipv4Addr>) -> bool {
            self.share
                .is_none_or(|(step, worker)| port % step == worker)
        }
        fn fetch(&self, _: Pair<Ipv4Addr>) {}
        fn guess(&self, _: Pair<Ipv4Addr>) {}
        fn look(&mut self, pair: Pair<Ipv4Addr>) -> Look {
            self.looks += 1;
            self.held.get(&pair).copied().unwrap_or(Look::Free)
        }
    }

    fn held(worth: Worth, age: u32) -> Look {
        let id = ConnId(age);
        Look::Held(Held { id, worth, age })
    }

    impl Table {
        /// Takes pairs until none is free.
        fn fill(&mut self, pool: &Pool, search: &PairSearch, with: Look) -> Vec<Pair<Ipv4Addr>> {
            let mut used = Vec::new();
            while let Some(Choice::Free(pair)) =
                choose(pool, search, 3, Millis(100), &mut Effort::default(), self)
            {
                assert!(self.is_ours(pair) && pool.contains(pair));
                assert_eq!(self.held.insert(pair, with), None);
                used.push(pair);
            }
            used
        }
    }

    #[test]
    fn every_pair_of_a_small_pool_is_used_then_none_is_left() {
        let (pool, search, mut table) = (
            pool((40_000, 40_009)),
            PairSearch::default(),
            Table::default(),
        );
        assert_eq!(table.fill(&pool, &search, Look::Kept).len(), 20);
        assert_eq!(
            choose(
                &pool,
                &search,
                3,
                Millis(100),
                &mut Effort::last(),
                &mut table
            ),
            None
        );
        assert!(!pool.contains((Ipv4Addr::new(10, 0, 0, 202), 40_000)));
        assert!(!pool.contains((Ipv4Addr::new(10, 0, 0, 200), 40_010)));
    }

    #[test]
    fn workers_share_a_pool_out_between_them() {
        let pool = pool((40_000, 40_009));
        let mut used = HashSet::new();
        for worker in 0..3 {
            let mut table = Table {
                share: Some((3, worker)),
                ..Table::default()
            };
            used.extend(table.fill(&pool, &PairSearch::default(), Look::Kept));
        }
        assert_eq!(used.len(), 20);
    }

    #[test]
    fn a_pair_that_is_free_again_waits_for_a_round() {
        let (pool, search, mut table) = (
            pool((40_000, 40_009)),
            PairSearch::default(),
            Table::default(),
        );
        let mut next = || match choose(
            &pool,
            &search,
            0,
            Millis(1),
            &mut Effort::last(),
            &mut table,
        ) {
            Some(Choice::Free(pair)) => pair,
            other => panic!("{other:?}"),
        };
        let round: HashSet<_> = (0..20).map(|_| next()).collect();
        assert_eq!(
            round.len(),
            20,
            "all free at once, yet none used twice in a round"
        );
    }

    #[test]
    fn the_only_free_pair_of_a_large_pool_is_found_wherever_it_is() {
        let pool = Pool::new(
            "one".into(),
            vec![IpAddr::from([10, 0, 0, 200])],
            (1024, 65_535),
        );
        let search = PairSearch::default();
        let mut table = Table::default();
        let all = table.fill(&pool, &search, Look::Kept);
        assert_eq!(all.len(), 64_512);
        for pair in all.iter().step_by(4_001) {
            table.held.remove(pair);
            search.exhausted_at.set(0);
            let found = choose(
                &pool,
                &search,
                3,
                Millis(100),
                &mut Effort::last(),
                &mut table,
            );
            assert_eq!(found, Some(Choice::Free(*pair)));
            table.held.insert(*pair, Look::Kept);
        }
    }

    #[test]
    fn what_is_given_up_is_the_least_valuable_of_the_oldest() {
        let pool = pool((40_000, 49_999));
        let search = PairSearch::default();
        let mut table = Table::default();
        let order = table.fill(&pool, &search, Look::Kept);
        let mut give = |looks: &[(usize, Look)]| {
            search.exhausted_at.set(0);
            search.cursor.set(0);
            for (n, look) in looks {
                table.held.insert(order[*n], *look);
            }
            match choose(
                &pool,
                &search,
                3,
                Millis(100),
                &mut Effort::last(),
                &mut table,
            ) {
                Some(Choice::Held(pair, _)) => order.iter().position(|other| *other == pair),
                other => panic!("{other:?}"),
            }
        };
        // Beyond the sample, the first that can be given up.
        assert_eq!(give(&[(5_000, held(Worth::Idle, 9))]), Some(5_000));
        assert_eq!(give(&[(4_000, held(Worth::Over, 1))]), Some(4_000));
        // In the sample, the least valuable, and among equals the oldest.
        assert_eq!(give(&[(60, held(Worth::Idle, 9))]), Some(60));
        assert_eq!(give(&[(50, held(Worth::Unproven, 1))]), Some(50));
        assert_eq!(give(&[(40, held(Worth::Unproven, 2))]), Some(40));
        assert_eq!(give(&[(30, held(Worth::Over, 1))]), Some(30));
    }

    #[test]
    fn an_idle_flow_keeps_its_pair_while_one_is_free_anywhere() {
        let pool = pool((40_000, 49_999));
        let search = PairSearch::default();
        let mut table = Table::default();
        let order = table.fill(&pool, &search, held(Worth::Idle, 9));
        search.exhausted_at.set(0);
        table.held.remove(&order[7_000]);
        let found = choose(
            &pool,
            &search,
            3,
            Millis(1),
            &mut Effort::default(),
            &mut table,
        );
        assert_eq!(found, Some(Choice::Free(order[7_000])));
        table.held.insert(order[7_000], Look::Kept);
        let mut effort = Effort::default();
        assert_eq!(
            choose(&pool, &search, 3, Millis(1), &mut effort, &mut table),
            None
        );
        assert_eq!(effort.looks, LOOKS - 20_000);
        let found = choose(
            &pool,
            &search,
            3,
            Millis(1),
            &mut Effort::last(),
            &mut table,
        );
        assert!(matches!(found, Some(Choice::Held(..))), "{found:?}");
    }

    #[test]
    fn a_large_pool_that_is_exhausted_rests_and_a_search_is_bounded() {
        let addresses: Vec<_> = (0..8).map(|n| IpAddr::from([10, 0, 1, n])).collect();
        let pool = Pool::new("large".into(), addresses, (1024, 65_535));
        let search = PairSearch::default();
        struct Full(u32);
        impl Pairs<Ipv4Addr> for Full {
            fn is_ours(&self, _: Pair<Ipv4Addr>) -> bool {
                true
            }
            fn fetch(&self, _: Pair<Ipv4Addr>) {}
            fn guess(&self, _: Pair<Ipv4Addr>) {}
            fn look(&mut self, _: Pair<Ipv4Addr>) -> Look {
                self.0 += 1;
                Look::Kept
            }
        }
        let mut full = Full(0);
        let mut at = |ms| {
            choose(
                &pool,
                &search,
                0,
                Millis(ms),
                &mut Effort::default(),
                &mut full,
            )
        };
        assert_eq!((at(5), at(6), at(1004)), (None, None, None));
        assert_eq!(full.0, LOOKS);
        assert_eq!(
            choose(
                &pool,
                &search,
                0,
                Millis(1005),
                &mut Effort::default(),
                &mut full
            ),
            None
        );
        assert_eq!(full.0, 2 * LOOKS);
    }

    #[test]
    fn a_round_of_a_pool_visits_every_pair_once() {
        for (addresses, ports) in [
            (1, (40_000, 40_000)),
            (1, (1024, 65_535)),
            (3, (5_000, 5_011)),
            (4, (1, 100)),
        ] {
            let addresses: Vec<_> = (0..addresses)
                .map(|n| IpAddr::from([10, 0, 0, n]))
                .collect();
            let pool = Pool::new("inside".into(), addresses, ports);
            let mut seen = std::collections::HashSet::new();
            let mut n = 0;
            for _ in 0..pool.size() {
                assert!(seen.insert(pool.pair::<Ipv4Addr>(n)));
                n = pool.next(n);
            }
            assert_eq!(n, 0);
        }
    }
}

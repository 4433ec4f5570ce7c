//! Local addresses and ports for fullnat.
//!
//! Every real server goes round the pool in its own turn, so that a port is free for a whole round before it is used
//! again towards the same real server, and the same port serves many real servers at once. What makes a pair free is
//! the connection table itself: no connection has the reply key that it would get.

use crate::stats::RealStats;
use crate::units::Millis;
use std::net::Ipv4Addr;

/// The source addresses and ports of fullnat.
#[derive(Debug, PartialEq, Eq)]
pub struct Pool {
    pub name: String,
    pub addresses: Box<[Ipv4Addr]>,
    pub first_port: u16,
    pub ports: u32,
    size: u32,
    /// Coprime to the size: by steps of it, every pair has its turn once in a round.
    stride: u32,
}

impl Pool {
    pub fn new(
        name: String,
        addresses: Vec<Ipv4Addr>,
        (first_port, last_port): (u16, u16),
    ) -> Self {
        let ports = u32::from(last_port) - u32::from(first_port) + 1;
        // Of a larger pool the rest is not used: a real server has fewer connections than this.
        let size = (addresses.len() as u64 * u64::from(ports)).min(1 << 30) as u32;
        // About the golden section, so that a round's neighbours in time lie far from each other.
        let mut stride = (f64::from(size) * 0.618) as u32 | 1;
        while gcd(stride, size) != 1 {
            stride += 1;
        }
        Pool {
            name,
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

    /// How many pairs of address and port there are.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Pair number `n`, below [`Pool::size`].
    #[inline]
    pub fn pair(&self, n: u32) -> (Ipv4Addr, u16) {
        let address = self.addresses[(n / self.ports) as usize];
        (address, self.first_port + (n % self.ports) as u16)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// In a pool up to this size the search is exhaustive; in a larger one it ends here, when all but a few are in use.
const MAX_TRIES: u32 = 1024;
/// For so long after a search in vain nothing is searched: an exhausted pool must not cost more than a working one.
const REST_MS: u32 = 10;

/// The next free pair. `start` is where the first round begins; `is_ours` tells which pairs this worker may use, since
/// the replies to them come to it, and `is_free` whether no live connection has such a pair.
///
/// Of N workers each finds one pair in N to be its own, by looking: that works with whatever key and table a device
/// hashes with, needs no memory, and costs a few nanoseconds a look.
pub fn choose(
    pool: &Pool,
    real: &RealStats,
    start: u32,
    now: Millis,
    is_ours: impl Fn((Ipv4Addr, u16)) -> bool,
    mut is_free: impl FnMut((Ipv4Addr, u16)) -> bool,
) -> Option<(Ipv4Addr, u16)> {
    let size = pool.size();
    // Gauges start at 0, which stands for "not yet".
    if real.exhausted_at.get() != 0 && now.since(Millis(real.exhausted_at.get())) < REST_MS {
        return None;
    }
    let mut turn = real
        .port_cursor
        .get()
        .checked_sub(1)
        .unwrap_or(start % size)
        % size;
    let (mut looked, mut tried) = (0, 0);
    let mut found = None;
    while looked < size && tried < MAX_TRIES {
        looked += 1;
        let pair = pool.pair(turn);
        if is_ours(pair) {
            if found.is_some() {
                // Where the next search begins, and what it is expected to find.
                break;
            }
            tried += 1;
            found = Some(pair).filter(|pair| is_free(*pair));
        }
        turn = pool.next(turn);
    }
    real.port_cursor.set(turn + 1);
    if found.is_none() {
        real.exhausted_at.set(now.0.max(1));
    }
    found
}

/// The pair that the next search looks at first, after one that has found something.
#[inline]
pub fn expected(pool: &Pool, real: &RealStats) -> (Ipv4Addr, u16) {
    pool.pair(real.port_cursor.get().saturating_sub(1) % pool.size())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn pool(ports: (u16, u16)) -> Pool {
        Pool::new(
            "inside".into(),
            vec![Ipv4Addr::new(10, 0, 0, 200), Ipv4Addr::new(10, 0, 0, 201)],
            ports,
        )
    }

    #[test]
    fn every_pair_of_a_small_pool_is_used_then_none_is_left() {
        let (pool, real) = (pool((40_000, 40_009)), RealStats::default());
        let mut used = HashSet::new();
        while let Some(pair) = choose(
            &pool,
            &real,
            3,
            Millis(100),
            |_| true,
            |pair| !used.contains(&pair),
        ) {
            assert!(used.insert(pair));
        }
        assert_eq!(used.len(), 20);
    }

    #[test]
    fn workers_share_a_pool_out_between_them() {
        let pool = pool((40_000, 40_009));
        let mut used = HashSet::new();
        for worker in 0..3 {
            let real = RealStats::default();
            let is_ours = |(_, port): (Ipv4Addr, u16)| port % 3 == worker;
            let mut own = HashSet::new();
            while let Some(pair) = choose(&pool, &real, 7, Millis(100), is_ours, |pair| {
                !own.contains(&pair)
            }) {
                assert!(is_ours(pair) && own.insert(pair));
            }
            used.extend(own);
        }
        assert_eq!(used.len(), 20);
    }

    #[test]
    fn a_pair_that_is_free_again_waits_for_a_round() {
        let (pool, real) = (pool((40_000, 40_009)), RealStats::default());
        let round: HashSet<_> = (0..20)
            .map(|_| choose(&pool, &real, 0, Millis(1), |_| true, |_| true))
            .collect();
        assert_eq!(
            round.len(),
            20,
            "all free at once, yet none used twice in a round"
        );
    }

    #[test]
    fn an_exhausted_pool_is_not_searched_again_at_once() {
        let (pool, real) = (pool((40_000, 49_999)), RealStats::default());
        let mut tries = 0;
        let mut choose_at = |ms| {
            choose(
                &pool,
                &real,
                0,
                Millis(ms),
                |_| true,
                |_| {
                    tries += 1;
                    false
                },
            )
        };
        assert_eq!(
            (choose_at(5), choose_at(6), choose_at(14)),
            (None, None, None)
        );
        assert_eq!(tries, MAX_TRIES);
    }

    #[test]
    fn a_round_of_a_pool_visits_every_pair_once() {
        for (addresses, ports) in [
            (1, (40_000, 40_000)),
            (1, (1024, 65_535)),
            (3, (5_000, 5_011)),
            (4, (1, 100)),
        ] {
            let addresses: Vec<_> = (0..addresses).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
            let pool = Pool::new("inside".into(), addresses, ports);
            let mut seen = std::collections::HashSet::new();
            let mut n = 0;
            for _ in 0..pool.size() {
                assert!(seen.insert(pool.pair(n)));
                n = pool.next(n);
            }
            assert_eq!(n, 0);
        }
    }
}

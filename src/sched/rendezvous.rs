//! `rendezvous`: by the client's address, and exactly those clients move that a change of real servers concerns: weighted rendezvous
//! hashing (Thaler and Ravishankar, 1998; weights by the logarithm of the hash, Schindelhauer and Schomaker, 2005).
//!
//! For each row of a table every real server draws a number, from the row and its own address and port; the least one for its weight
//! has the row. Nothing of a draw depends on the others, so that a real server that goes gives up its own rows alone, and one that
//! comes takes those that it wins. A change looks at the rows of what has changed only: of N real servers, at one N-th.

use super::named::{Cache, Cached, Server, Slots, mix, servers};
use super::{Client, Cursor, Kind, Scheduler, Setting, Usable, has_weight};
use crate::service::Real;
use crate::stats::Stats;
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) const KIND: Kind = Kind {
    name: "rendezvous",
    description: "rendezvous hash: by the client's address, and only those move that a change concerns",
    is_stateless: true,
    new: |reals, setting| Box::new(Rendezvous::new(reals, setting)),
};

/// Rows up to [`FEW`] real servers, and beyond. Most clients move when a service grows from one to the other.
const ROWS: [usize; 2] = [4_096, 65_536];
const FEW: usize = 64;

/// So many real servers are asked what has become of their weights, to find what most have become.
const REFERENCES: usize = 5;

/// So many rows are asked, for a client whose first ones have no usable real server, before the list is gone through.
const FALLS: u32 = 32;

static TABLES: Cache<Slots> = Cache::new();

#[derive(Debug)]
struct Rendezvous(Arc<Cached<Slots>>);

impl Rendezvous {
    fn new(reals: &[Real], setting: &Setting) -> Self {
        let former = setting.former.and_then(|former| {
            let former: &dyn Any = former;
            former.downcast_ref::<Self>()
        });
        let servers = servers(reals, |real| real.weight);
        Rendezvous(TABLES.get(&servers, |servers| {
            let rows = former.and_then(|former| renewed(&former.0, servers));
            Slots::new(servers, rows.unwrap_or_else(|| dealt(servers)))
        }))
    }

    /// The place of a client's real server; after so many falls, as each found one that is not usable.
    fn place(&self, client: Client, falls: u32) -> Option<usize> {
        let name = u64::from(falls) << 32 | u64::from(client.address);
        self.0.place((mix(name) >> 32) as u32)
    }
}

impl Scheduler for Rendezvous {
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
        let mut places = (0..FALLS).filter_map(|falls| self.place(client, falls));
        let first = places.next()?;
        std::iter::once(first)
            .chain(places)
            .find(can)
            .or_else(|| (first..reals.len()).chain(0..first).find(can))
    }

    fn expect(&self, _: &[Real], client: Client, _: &Cursor, _: usize) -> usize {
        self.place(client, 0).unwrap_or(0)
    }
}

/// What a real server draws in a row: the less for its weight, the better. Between two real servers, equal draws go by the name.
#[derive(Clone, Copy)]
struct Draw {
    number: u64,
    weight: u64,
    name: u64,
}

impl Draw {
    fn new(server: &Server, row: usize) -> Self {
        let name = server.name();
        Draw {
            number: u64::from(minus_log2((mix(mix(name) ^ row as u64) >> 32) as u32)),
            weight: u64::from(server.weight),
            name,
        }
    }

    fn beats(self, other: Draw) -> bool {
        let (mine, others) = (self.number * other.weight, other.number * self.weight);
        mine < others || mine == others && self.name < other.name
    }
}

/// 2^24 × -log2((`hash` + 1) / 2^32), in whole numbers, so that every machine draws the same.
fn minus_log2(hash: u32) -> u32 {
    let word = u64::from(hash) + 1;
    let exponent = word.ilog2();
    // Between two powers, by 64 steps of a table and a straight line from one to the next.
    let fraction = (word << (32 - exponent)) as u32;
    let (step, rest) = ((fraction >> 26) as usize, u64::from(fraction << 6) >> 8);
    let (from, to) = (u64::from(LOG2[step]), u64::from(LOG2[step + 1]));
    let log = (u64::from(exponent) << 24) + from + (((to - from) * rest) >> 24);
    ((32 << 24) - log) as u32
}

/// 2^24 × log2(1 + n / 64).
static LOG2: [u32; 65] = {
    let mut table = [0; 65];
    let mut n = 0;
    while n < 65 {
        // Bit by bit, by squaring (Knuth, The Art of Computer Programming, 1.2.2, exercise 25), in 2^-62.
        let mut x = (64 + n as u128) << 56;
        let mut bits = 0u32;
        let mut bit = 0;
        if n == 64 {
            bits = 1 << 24;
        }
        while n < 64 && bit < 24 {
            x = (x * x) >> 62;
            bits <<= 1;
            if x >= 2 << 62 {
                x >>= 1;
                bits |= 1;
            }
            bit += 1;
        }
        table[n] = bits;
        n += 1;
    }
    table
};

/// How many rows a table of these real servers has. All count, so that a weight's way to 0 and back leaves the size alone.
fn rows(servers: &[Server]) -> usize {
    ROWS[usize::from(servers.len() > FEW)]
}

/// The winner of a row among the real servers of these places.
fn winner(servers: &[Server], places: &[u16], row: usize) -> Option<u16> {
    let mut draws = places
        .iter()
        .map(|&place| (place, Draw::new(&servers[usize::from(place)], row)));
    let first = draws.next()?;
    let best = draws.fold(
        first,
        |best, next| if next.1.beats(best.1) { next } else { best },
    );
    Some(best.0)
}

/// The places of those that draw.
fn drawing(servers: &[Server]) -> Vec<u16> {
    let all = (0..=u16::MAX).zip(servers);
    let with_weight = all.filter(|(_, server)| server.weight > 0);
    with_weight.map(|(place, _)| place).collect()
}

/// The winner of each row; none without weights.
fn dealt(servers: &[Server]) -> Box<[u16]> {
    let places = drawing(servers);
    let rows = (0..rows(servers)).map_while(|row| winner(servers, &places, row));
    rows.collect()
}

/// The same from the table before a change, where most have stayed as they were.
fn renewed(former: &Cached<Slots>, servers: &[Server]) -> Option<Box<[u16]>> {
    if former.len() != rows(servers) || former.len() == 0 {
        return None;
    }
    let by_name = |servers: &[Server]| -> HashMap<_, _> {
        let place = |(place, server): (u16, &Server)| ((server.address, server.port), place);
        (0..=u16::MAX).zip(servers).map(place).collect()
    };
    let (old, new) = (by_name(&former.servers), by_name(servers));
    let now =
        |server: &Server| Some(servers[usize::from(*new.get(&(server.address, server.port))?)]);
    // Weights that have all become as many times as large are the same, as in a slow start: what most have done is no change.
    let compare = |before: u16, after: u16, (from, to): (u16, u16)| {
        let product = |a: u16, b: u16| u32::from(a) * u32::from(b);
        product(after, from).cmp(&product(before, to))
    };
    let pairs = || {
        let all = former.servers.iter();
        all.filter_map(|before| Some((before.weight, now(before)?.weight)))
    };
    let with_weight = pairs().filter(|(before, after)| *before > 0 && *after > 0);
    let common = with_weight.take(REFERENCES).min_by_key(|factor| {
        let changed = pairs().filter(|(before, after)| compare(*before, *after, *factor).is_ne());
        changed.count()
    });
    let common = common.unwrap_or((1, 1));
    // Where each of the former list is now, unless it has lost: only its rows are drawn for anew.
    let still = |server: &Server| {
        let place = *new.get(&(server.address, server.port))?;
        let after = servers[usize::from(place)].weight;
        compare(server.weight, after, common)
            .is_ge()
            .then_some(place)
    };
    let kept: Vec<Option<u16>> = former.servers.iter().map(still).collect();
    let places = drawing(servers);
    // Who may win rows of others.
    let gained: Vec<u16> = places
        .iter()
        .copied()
        .filter(|place| {
            let server = &servers[usize::from(*place)];
            let before = old.get(&(server.address, server.port));
            before.is_none_or(|before| {
                let before = former.servers[usize::from(*before)].weight;
                compare(before, server.weight, common).is_gt()
            })
        })
        .collect();
    if gained.len() > places.len() / 4 {
        return None;
    }
    let row = |row: usize| {
        let Some(owner) = kept[former.get(row)?] else {
            return winner(servers, &places, row);
        };
        let best = winner(servers, &gained, row).filter(|best| {
            let draw = |place: u16| Draw::new(&servers[usize::from(place)], row);
            draw(*best).beats(draw(owner))
        });
        Some(best.unwrap_or(owner))
    };
    (0..former.len()).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn server(n: u16, weight: u16) -> Server {
        Server {
            address: IpAddr::from([10, 0, (n >> 8) as u8, n as u8]),
            port: 80,
            weight,
        }
    }

    fn owners(servers: &[Server]) -> Vec<Server> {
        let rows = dealt(servers);
        rows.iter()
            .map(|&place| servers[usize::from(place)])
            .collect()
    }

    #[test]
    fn the_logarithm_is_right() {
        for hash in (0..u32::MAX)
            .step_by(65_537)
            .chain([0, 1, 2, 3, u32::MAX - 1, u32::MAX])
        {
            let exact = -((f64::from(hash) + 1.0) / 4_294_967_296.0).log2() * 16_777_216.0;
            assert!(
                (f64::from(minus_log2(hash)) - exact).abs() < 1_000.0,
                "{hash}"
            );
        }
        assert!(
            (0..u32::MAX - 65_537)
                .step_by(65_537)
                .all(|hash| minus_log2(hash) >= minus_log2(hash + 65_537))
        );
    }

    #[test]
    fn rows_are_in_proportion_to_the_weights() {
        for weights in [
            &[1; 10][..],
            &[3, 2, 1],
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
            &[65_535, 1, 65_535],
        ] {
            let servers: Vec<_> = (0..)
                .zip(weights)
                .map(|(n, weight)| server(n, *weight))
                .collect();
            let owners = owners(&servers);
            let all: f64 = weights.iter().copied().map(f64::from).sum();
            for server in &servers {
                let share = f64::from(server.weight) / all;
                let rows = owners.iter().filter(|owner| *owner == server).count() as f64;
                let (expected, deviation) =
                    (share * 4_096.0, (share * (1.0 - share) * 4_096.0).sqrt());
                assert!(
                    (rows - expected).abs() <= 4.0 * deviation + 1.0,
                    "{weights:?}: {rows} for {expected}"
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_change_moves_those_rows_alone_that_it_wins_or_loses(
            weights in prop::collection::vec(0u16..5, 2..9),
            at in any::<prop::sample::Index>(),
            weight in 0u16..5,
            turn in 0usize..9,
        ) {
            let before: Vec<_> = (0..).zip(&weights).map(|(n, weight)| server(n, *weight)).collect();
            let mut after = before.clone();
            let changed = at.index(before.len());
            after[changed].weight = weight;
            after.rotate_left(turn % before.len());
            prop_assume!([&before, &after].iter().all(|list| list.iter().any(|server| server.weight > 0)));
            let name = |server: &Server| server.address;
            let (was, is) = (owners(&before), owners(&after));
            for (was, is) in was.iter().zip(&is) {
                let concerns = name(was) == before[changed].address || name(is) == before[changed].address;
                prop_assert!(name(was) == name(is) || concerns);
                // Who gains, loses nothing, and the other way round.
                let lost = name(was) == before[changed].address && name(is) != name(was);
                let won = name(is) == before[changed].address && name(is) != name(was);
                prop_assert!(!(lost && weight >= weights[changed]));
                prop_assert!(!(won && weight <= weights[changed]));
            }
        }

        #[test]
        fn a_table_made_from_the_former_is_the_one_made_afresh(
            weights in prop::collection::vec(0u16..4, 5..12),
            others in prop::collection::vec(0u16..4, 5..12),
            skip in 0u16..3,
            turn in 0usize..12,
            few in any::<bool>(),
        ) {
            let before: Vec<_> = (0..).zip(&weights).map(|(n, weight)| server(n, *weight)).collect();
            let mut after: Vec<_> = (skip..).zip(&others).map(|(n, weight)| server(n, *weight)).collect();
            if few {
                after = before.clone();
                after[0].weight = others[0];
                after.pop();
            }
            let length = after.len();
            after.rotate_left(turn % length);
            let former = TABLES.get(&before, |servers| Slots::new(servers, dealt(servers)));
            if let Some(rows) = renewed(&former, &after) {
                prop_assert_eq!(rows, dealt(&after));
            }
        }
    }

    #[test]
    fn a_factor_that_all_weights_have_is_no_change() {
        let before: Vec<_> = (0..20).map(|n| server(n, 1 + n % 3)).collect();
        let former = TABLES.get(&before, |servers| Slots::new(servers, dealt(servers)));
        let mut after = before.clone();
        for server in &mut after {
            server.weight *= 20;
        }
        after[0].weight = 1;
        let renewed = renewed(&former, &after).unwrap();
        assert_eq!(renewed, dealt(&after));
        let places = (0..former.len()).map(|row| former.get(row).unwrap());
        let moved = places
            .zip(&renewed)
            .filter(|(was, is)| *was != usize::from(**is));
        assert!(moved.clone().count() > 0 && moved.into_iter().all(|(was, _)| was == 0));
    }

    #[test]
    fn of_many_one_that_goes_is_looked_at_and_nothing_else() {
        let before: Vec<_> = (0..1_000).map(|n| server(n, 1)).collect();
        let former = TABLES.get(&before, |servers| Slots::new(servers, dealt(servers)));
        let mut after = before.clone();
        let gone = after.remove(500);
        let renewed = renewed(&former, &after).unwrap();
        let mut moved = 0;
        for (row, place) in renewed.iter().enumerate() {
            let (was, is) = (before[former.get(row).unwrap()], after[usize::from(*place)]);
            assert!(was == is || was == gone);
            moved += u32::from(was == gone);
        }
        assert!((33..99).contains(&moved), "{moved} of 65,536 rows");
    }
}

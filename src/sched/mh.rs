//! `mh`: by the client's address, and few clients move when a real server comes or goes: Maglev hashing
//! (Eisenbud et al., NSDI 2016, section 3.4; `ip_vs_mh.c`).
//!
//! Each real server prefers the table's slots in an order of its own, which its address and port give. In turn, each
//! takes the next free one of its order, the more often the larger its weight, until all are taken. A client's slot
//! is a hash of its address. Nothing else counts, no seed and no order: any director with these real servers builds
//! this table.
//!
//! As in `ip_vs_mh.c`, but for what that requires: real servers take turns in the order of their addresses, not of
//! the list; the table grows with the service; and weight 0 has no slots, so that no client falls on it.

use super::named::{Cache, Cached, Server, Slots, mix, scale, servers};
use super::{Client, Cursor, Kind, Scheduler, Usable, gcd, has_weight};
use crate::service::Real;
use crate::stats::Stats;
use std::sync::Arc;

pub(super) const KIND: Kind = Kind {
    name: "mh",
    description: "Maglev hash: by the client's address, and few move when a real server comes or goes",
    is_stateless: true,
    new: |reals, setting| {
        Box::new(MaglevHash {
            table: table(reals),
            by_port: setting.by_port,
        })
    },
};

/// Primes: every step from slot to slot comes round to all of them. Far apart, since most clients move when a service
/// grows from one to the next; the first is the kernel's default (`CONFIG_IP_VS_MH_TAB_INDEX` 12).
const SIZES: [usize; 3] = [4093, 32_749, 131_071];

/// So many slots a real server, while there is such a size: the last round of turns, which not all get, is then about
/// 1 % of the table.
const SLOTS_EACH: usize = 100;

/// So many slots are tried before the list of real servers is gone through.
const FALLS: u32 = 32;

static TABLES: Cache<Slots> = Cache::new();

#[derive(Debug)]
struct MaglevHash {
    table: Arc<Cached<Slots>>,
    /// `mh-port`.
    by_port: bool,
}

fn table(reals: &[Real]) -> Arc<Cached<Slots>> {
    TABLES.get(&servers(reals, |real| real.weight), |servers| {
        Slots::new(servers, deal(servers))
    })
}

impl MaglevHash {
    /// The place of a client's real server; after so many falls, as each found one that is not usable.
    fn place(&self, client: Client, falls: u32) -> Option<usize> {
        let port = if self.by_port { client.port } else { 0 };
        let name = u64::from(falls) << 48 | u64::from(port) << 32 | u64::from(client.address);
        self.table.place((mix(name) >> 32) as u32)
    }
}

impl Scheduler for MaglevHash {
    fn pick(
        &self,
        reals: &[Real],
        client: Client,
        _: &Cursor,
        _: &Stats,
        usable: &Usable,
    ) -> Option<usize> {
        let is_usable = |place: &usize| {
            let real = reals.get(*place);
            real.is_some_and(|real| has_weight(real) && usable(real))
        };
        let first = self.place(client, 0)?;
        // The clients of one that is not usable fall on slots all over the table, each always on the same (`mh-fallback`).
        std::iter::once(first)
            .chain((1..FALLS).filter_map(|fall| self.place(client, fall)))
            .find(is_usable)
            .or_else(|| (first..reals.len()).chain(0..first).find(is_usable))
    }

    fn expect(&self, _: &[Real], client: Client, _: &Cursor, _: usize) -> usize {
        self.place(client, 0).unwrap_or(0)
    }
}

/// One real server while slots are dealt.
struct Turns {
    /// Address and port.
    name: u64,
    place: u16,
    /// Without what all weights have in common.
    weight: u32,
    /// What it has saved up of its weight for its next turn.
    credit: u32,
    /// Its next slot, if that is free.
    at: usize,
    step: usize,
}

impl Turns {
    fn new(place: usize, server: &Server, size: usize) -> Self {
        let name = server.name();
        let hash = mix(name);
        Turns {
            name,
            place: place as u16,
            weight: u32::from(server.weight),
            credit: 0,
            at: scale((hash >> 32) as u32, size),
            step: 1 + scale(hash as u32, size - 1),
        }
    }

    /// Takes the first free slot of the order; one must be free.
    fn take(&mut self, slots: &mut [u16]) {
        while slots[self.at] != FREE {
            self.at += self.step;
            if self.at >= slots.len() {
                self.at -= slots.len();
            }
        }
        slots[self.at] = self.place;
    }
}

/// No real server has this place: those beyond get no slots.
const FREE: u16 = u16::MAX;

fn deal(servers: &[Server]) -> Box<[u16]> {
    // All count, so that a weight's way to 0 and back leaves the size alone: in another one most clients move.
    let size = *(SIZES.iter())
        .find(|&&size| size >= SLOTS_EACH * servers.len())
        .unwrap_or(&SIZES[SIZES.len() - 1]);
    let places = servers.iter().enumerate().take(usize::from(FREE));
    let mut turns: Vec<Turns> = places
        .filter(|(_, server)| server.weight > 0)
        .map(|(place, server)| Turns::new(place, server, size))
        .collect();
    if turns.is_empty() {
        return Box::default();
    }
    turns.sort_unstable_by_key(|turn| turn.name);

    let common = turns.iter().map(|turn| turn.weight).fold(0, gcd);
    let sum: u64 = turns
        .iter()
        .map(|turn| u64::from(turn.weight / common))
        .sum();
    // A turn costs about the mean weight: one turn or so a round for each, whatever the weights.
    let cost = sum.div_ceil(turns.len() as u64).next_power_of_two() as u32;
    for turn in &mut turns {
        turn.weight /= common;
        // The smallest weight has a slot too: the first turn of every real server is in the first round.
        turn.credit = cost.saturating_sub(turn.weight);
    }

    let mut slots = vec![FREE; size].into_boxed_slice();
    let mut free = size;
    loop {
        for turn in &mut turns {
            turn.credit += turn.weight;
            while turn.credit >= cost {
                turn.credit -= cost;
                turn.take(&mut slots);
                free -= 1;
                if free == 0 {
                    return slots;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::Setting;
    use crate::sched::testing::Lab;
    use crate::units::RealId;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr};

    const CLIENTS: u32 = 50_000;

    /// Real servers 10.0.2.1, .2, … with these weights.
    fn reals(weights: &[u16]) -> Vec<Real> {
        let real = |(n, &weight): (usize, &u16)| Real {
            id: RealId(n as u32),
            address: IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0201 + n as u32)),
            port: 8080,
            weight,
            nominal: weight,
            is_available: true,
            keeps_clients: true,
            thresholds: None,
        };
        weights.iter().enumerate().map(real).collect()
    }

    /// The real server of each of many clients.
    fn choices(reals: &[Real]) -> Vec<IpAddr> {
        let scheduler = MaglevHash {
            table: table(reals),
            by_port: false,
        };
        let client = |n: u32| Client {
            address: 0x0100_0000 + n * 257,
            ..Client::default()
        };
        let choice = |n| reals[scheduler.place(client(n), 0).unwrap()].address;
        (0..CLIENTS).map(choice).collect()
    }

    fn slots(reals: &[Real]) -> Vec<usize> {
        let table = table(reals);
        (0..table.len())
            .filter_map(|slot| table.get(slot))
            .collect()
    }

    /// The share of clients that have another real server now, of those that could have stayed.
    fn moved(before: &[Real], after: &[Real], may_move: IpAddr) -> f64 {
        let (before, after) = (choices(before), choices(after));
        let both = before.iter().zip(&after);
        let stay = both.filter(|(before, after)| **before != may_move && **after != may_move);
        let (moved, all) = stay.fold((0, 0), |(moved, all), (before, after)| {
            (moved + u32::from(before != after), all + 1)
        });
        f64::from(moved) / f64::from(all)
    }

    #[test]
    fn every_slot_is_a_real_servers() {
        for count in [1, 2, 10, 11, 100, 255, 256, 1_500] {
            let dealt = slots(&reals(&vec![1; count]));
            let least = (count * SLOTS_EACH).min(SIZES[SIZES.len() - 1]);
            assert!(SIZES.contains(&dealt.len()) && dealt.len() >= least);
            assert!(dealt.iter().all(|&place| place < count), "{count}");
        }
    }

    #[test]
    fn sizes_are_primes_so_that_every_order_has_all_slots() {
        for size in SIZES {
            let mut divisors = (2..).take_while(|divisor| divisor * divisor <= size);
            assert!(divisors.all(|divisor| size % divisor > 0), "{size}");
        }
    }

    #[test]
    fn slots_and_clients_are_in_proportion_to_the_weights() {
        for weights in [
            &[1; 10][..],
            &[3, 2, 1],
            &[300, 200, 100],
            &[65_535, 1_000, 65_535, 30_000],
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        ] {
            let reals = reals(weights);
            let (dealt, chosen) = (slots(&reals), choices(&reals));
            let sum: f64 = weights.iter().copied().map(f64::from).sum();
            for (place, real) in reals.iter().enumerate() {
                let share = f64::from(real.weight) / sum;
                let of_slots = dealt.iter().filter(|&&slot| slot == place).count() as f64;
                let of_slots = of_slots / dealt.len() as f64;
                let of_clients = chosen.iter().filter(|&&address| address == real.address);
                let of_clients = of_clients.count() as f64 / f64::from(CLIENTS);
                assert!(
                    (of_slots - share).abs() < 0.005,
                    "{weights:?}: {of_slots} for {share}"
                );
                assert!(
                    (of_clients - share).abs() < 0.01,
                    "{weights:?}: {of_clients} for {share}"
                );
            }
        }
    }

    #[test]
    fn the_smallest_weight_has_a_slot() {
        let dealt = slots(&reals(&[65_535, 1, 65_535]));
        assert_eq!(dealt.iter().filter(|&&place| place == 1).count(), 1);
    }

    #[test]
    fn what_all_weights_have_in_common_does_not_count() {
        assert_eq!(
            choices(&reals(&[3, 2, 1])),
            choices(&reals(&[600, 400, 200]))
        );
    }

    #[test]
    fn removing_a_real_server_moves_few_of_the_others_clients() {
        for gone in 0..10 {
            let before = reals(&[1; 10]);
            let mut after = before.clone();
            let address = after.remove(gone).address;
            let share = moved(&before, &after, address);
            assert!(share < 0.05, "{gone}: {share}");
        }
    }

    #[test]
    fn weight_0_moves_few_of_the_others_clients_and_they_come_back() {
        // Even where one real server fewer would have a smaller table.
        let before = reals(&[2; 41]);
        for quiesced in 0..41 {
            let mut after = before.clone();
            after[quiesced].weight = 0;
            let address = after[quiesced].address;
            let share = moved(&before, &after, address);
            assert!(share < 0.05, "{quiesced}: {share}");
            assert!(!choices(&after).contains(&address));
        }
    }

    #[test]
    fn adding_a_real_server_moves_few_clients_to_others_than_it() {
        for count in [2, 5, 10, 19, 39, 41] {
            let (before, after) = (reals(&vec![1; count]), reals(&vec![1; count + 1]));
            let share = moved(&before, &after, after[count].address);
            assert!(share < 0.05, "{count}: {share}");
        }
    }

    #[test]
    fn one_more_than_the_table_has_room_for_moves_most_clients() {
        let (before, after) = (reals(&[1; 40]), reals(&[1; 41]));
        assert_ne!(slots(&before).len(), slots(&after).len());
        let share = moved(&before, &after, after[40].address);
        assert!(share > 0.8, "{share}");
    }

    #[test]
    fn a_changed_weight_moves_few_clients_among_the_others() {
        let before = reals(&[4, 4, 4, 4, 4, 4]);
        let mut after = before.clone();
        after[2].weight = 3;
        let share = moved(&before, &after, before[2].address);
        assert!(share < 0.05, "{share}");
    }

    #[test]
    fn ids_and_the_order_of_the_list_do_not_count() {
        let some = reals(&[1, 5, 2, 0, 3]);
        let mut others = some.clone();
        others.reverse();
        others.swap(0, 3);
        for (n, real) in others.iter_mut().enumerate() {
            real.id = RealId(700 + n as u32);
        }
        assert_eq!(choices(&some), choices(&others));
    }

    #[test]
    fn services_with_the_same_real_servers_share_one_table_until_the_last_is_gone() {
        let list = reals(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 987]);
        let (one, other) = (table(&list), table(&list));
        assert!(Arc::ptr_eq(&one, &other));
        let key = one.servers.clone();
        drop(one);
        assert!(Arc::ptr_eq(&other, &table(&list)));
        assert!(TABLES.has(&key));
        drop(other);
        assert!(!TABLES.has(&key));
    }

    #[test]
    fn the_look_ahead_is_right() {
        let list = reals(&[1, 0, 2, 3]);
        let scheduler = (KIND.new)(&list, &Setting::default());
        let (cursor, stats) = (Cursor::default(), Stats::new(1).unwrap());
        for n in 0..1_000 {
            let client = Client {
                address: 0x0100_0000 + n,
                port: 9,
                ..Client::default()
            };
            let expected = scheduler.expect(&list, client, &cursor, 0);
            assert_eq!(
                scheduler.pick(&list, client, &cursor, &stats, &|_| true),
                Some(expected)
            );
        }
    }

    #[test]
    fn by_port_each_port_of_a_client_is_one_of_its_own() {
        let lab = Lab::by_port("mh", &[3, 2, 1]);
        let chosen: String = (1..=60_000)
            .map(|port| lab.connect_from(0x0a00_0102, port))
            .collect();
        for (letter, share) in [('A', 30_000), ('B', 20_000), ('C', 10_000)] {
            assert!(
                chosen.matches(letter).count().abs_diff(share) < 600,
                "{letter}"
            );
        }
        let without = Lab::new("mh", &[3, 2, 1]);
        let one = without.connect_from(0x0a00_0102, 1);
        assert!((2..100).all(|port| without.connect_from(0x0a00_0102, port) == one));
    }

    proptest! {
        #[test]
        fn chooses_a_real_server_with_a_weight_if_there_is_one_and_always_the_same(
            weights in prop::collection::vec(prop_oneof![Just(0u16), 0u16..5, any::<u16>()], 0..12),
            address: u32,
            ports in any::<(u16, u16)>(),
        ) {
            let lab = Lab::new("mh", &weights);
            let chosen = lab.pick(Client { address, port: ports.0, ..Client::default() });
            prop_assert_eq!(chosen.is_some(), weights.iter().any(|&weight| weight > 0));
            prop_assert!(chosen.is_none_or(|real| real.weight > 0));
            prop_assert_eq!(chosen, lab.pick(Client { address, port: ports.1, ..Client::default() }));
        }
    }
}

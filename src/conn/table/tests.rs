//! Both kinds of entries, against a hash map.

use super::*;
use crate::conn::{Connection6, FlowKey, FlowKey6, Key, State, Translation};
use crate::net::protocol;
use crate::units::RealId;
use proptest::prelude::*;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The connection of a client's port that got this local port.
fn v4(client: u16, local: u16, two_way: bool) -> Connection {
    v4_of(Ipv4Addr::new(198, 51, 100, 7), client, local, two_way)
}

fn v4_of(address: Ipv4Addr, client: u16, local: u16, two_way: bool) -> Connection {
    let vip = Ipv4Addr::new(192, 0, 2, 80);
    let request = FlowKey::new(address, client, vip, 80, protocol::TCP);
    let translation = Translation {
        source: Ipv4Addr::new(10, 0, 0, 200),
        source_port: local,
        destination: Ipv4Addr::new(10, 0, 0, 11),
        destination_port: 8080,
        is_applied: true,
        sees_replies: two_way,
        is_wrapped: false,
    };
    let mut connection = Connection::new(request, translation, RealId(2));
    connection.state = State::Established;
    connection
}

fn v6(client: u16, local: u16, two_way: bool) -> Connection6 {
    v6_of(
        Ipv6Addr::from_bits(0x2001_0db8 << 96 | 7),
        client,
        local,
        two_way,
    )
}

fn v6_of(address: Ipv6Addr, client: u16, local: u16, two_way: bool) -> Connection6 {
    let at = |last: u128| Ipv6Addr::from_bits(0x2001_0db8_0001 << 80 | last);
    let request = FlowKey6::new(address, client, at(80), 80, protocol::TCP);
    let translation = Translation {
        source: at(200),
        source_port: local,
        destination: at(11),
        destination_port: 8080,
        is_applied: true,
        sees_replies: two_way,
        is_wrapped: false,
    };
    let mut connection = Connection6::new(request, translation, RealId(2));
    connection.state = State::Established;
    connection
}

/// A connection whose keys belong to three buckets, the last one among them, and have few signatures: buckets overflow,
/// one into the next and the last into the first.
#[derive(Clone, Copy)]
struct Crowded {
    request: u32,
    reply: u32,
    is_two_way: bool,
    is_live: bool,
    link: u32,
}

impl Entry for Crowded {
    type Key = u32;

    const FREE: Self = Crowded {
        request: u32::MAX,
        reply: u32::MAX,
        is_two_way: false,
        is_live: false,
        link: 0,
    };

    fn hash(key: &u32, _seed: u64) -> u64 {
        let home = [0, u64::MAX / 2, !0xff][*key as usize % 3];
        home | u64::from(key / 3 % 4)
    }

    fn request(&self) -> &u32 {
        &self.request
    }

    fn reply(&self) -> &u32 {
        &self.reply
    }

    fn is_two_way(&self) -> bool {
        self.is_two_way
    }

    fn is_live(&self) -> bool {
        self.is_live
    }

    fn link(&self) -> u32 {
        self.link
    }

    fn set_link(&mut self, number: u32) {
        self.link = number;
    }
}

fn crowded(client: u16, local: u16, is_two_way: bool) -> Crowded {
    Crowded {
        request: client.into(),
        reply: 1000 + u32::from(local),
        is_two_way,
        is_live: true,
        link: 0,
    }
}

type Steps = Vec<(u16, u16, bool, bool)>;

/// A small, crowded table: buckets overflow, entries are reused.
fn equals_a_hash_map<E: Entry>(
    steps: Steps,
    make: fn(u16, u16, bool) -> E,
) -> Result<(), TestCaseError>
where
    E::Key: Hash,
{
    let mut table = Table::<E>::new(64, 0x5eed).unwrap();
    let mut model: HashMap<E::Key, (ConnId, bool)> = HashMap::new();
    for (client, local, two_way, remove) in steps {
        let connection = make(client, local, two_way);
        let (request, reply) = (*connection.request(), *connection.reply());
        let (found, version) = (table.find(table.hash(&request), &request), table.version());
        let expected = model.get(&request).copied();
        prop_assert_eq!(found.map(|found| (found.id, found.reply)), expected);
        if let (true, Some(found)) = (remove, found) {
            let reply = *table.get(found.id).reply();
            table.remove(found.id);
            model.remove(&request);
            if model.get(&reply).is_some_and(|(id, _)| *id == found.id) {
                model.remove(&reply);
            }
            prop_assert_ne!(table.version(), version);
            prop_assert!(table.live(found.id.0).is_none());
        } else {
            let taken = expected.is_some() || two_way && model.contains_key(&reply);
            let free = !taken && !table.is_full();
            let inserted = table.insert(connection);
            prop_assert_eq!(inserted.is_some(), free);
            prop_assert_eq!(table.version() != version, free);
            if let Some(id) = inserted {
                model.insert(request, (id, false));
                if two_way {
                    model.insert(reply, (id, true));
                }
            }
        }
        for (key, &(id, reply)) in &model {
            let found = table.find(table.hash(key), key);
            prop_assert_eq!(found, Some(Found { id, reply }));
            prop_assert!(table.live(id.0).is_some() && id.0 < table.high_water());
            let guess = table.guess(table.hash(key));
            let is_right = table.lookup().at(guess, key).is_some();
            prop_assert!(!is_right || guess.found() == found);
        }
        let live = model.values().filter(|(_, reply)| !reply).count();
        prop_assert_eq!(table.len(), live);
    }
    for (id, _) in model.values().filter(|(_, reply)| !reply) {
        table.remove(*id);
    }
    prop_assert!(table.is_empty());
    prop_assert!(table.buckets.iter().all(|bucket| bucket.head == [0; 16]));
    Ok(())
}

fn steps() -> impl Strategy<Value = Steps> {
    prop::collection::vec((0u16..90, 0u16..90, any::<bool>(), any::<bool>()), 1..400)
}

proptest! {
    #[test]
    fn a_table_of_ipv4_connections_equals_a_hash_map(steps in steps()) {
        equals_a_hash_map(steps, v4)?;
    }

    #[test]
    fn a_table_of_ipv6_connections_equals_a_hash_map(steps in steps()) {
        equals_a_hash_map(steps, v6)?;
    }

    #[test]
    fn a_table_whose_buckets_overflow_equals_a_hash_map(steps in steps()) {
        equals_a_hash_map(steps, crowded)?;
    }
}

#[test]
fn a_full_table_takes_no_more_and_recovers() {
    let mut table = Table::<Connection>::new(1_000, 1).unwrap();
    let ids: Vec<_> = (0..1_000)
        .map(|n| table.insert(v4(n, n, true)).unwrap())
        .collect();
    assert!(table.is_full());
    assert_eq!(table.insert(v4(2_000, 2_000, true)), None);
    for id in ids {
        table.remove(id);
    }
    assert!(table.is_empty());
    assert!(table.buckets.iter().all(|bucket| bucket.head == [0; 16]));
    assert!(table.insert(v4(2_000, 2_000, true)).is_some());
}

/// Connections with consecutive addresses and ports lie as well as random ones would.
fn spreads<E: Entry>(make: impl Fn(u32) -> E) {
    const COUNT: u32 = 100_000;
    for seed in [1, 0x5eed, 0xffff_0000_ffff_0000] {
        let mut table = Table::<E>::new(COUNT as usize, seed).unwrap();
        for n in 0..COUNT {
            assert!(table.insert(make(n)).is_some());
        }
        let passed = table.buckets.iter().filter(|bucket| bucket.passed_on() > 0);
        let share = passed.count() as f64 / table.buckets.len() as f64;
        assert!(share < 0.05, "{share} of the buckets overflow");
        let wrong = (0..COUNT).filter(|n| {
            let key = *make(*n).request();
            let place = table.guess(table.hash(&key));
            table.lookup().at(place, &key).is_none()
        });
        let share = wrong.count() as f64 / f64::from(COUNT);
        assert!(share < 0.03, "{share} of the guesses are wrong");
    }
}

#[test]
fn consecutive_addresses_and_ports_spread_over_the_table() {
    let at = Ipv4Addr::from_bits;
    spreads(|n| v4_of(at(7 + (n >> 16)), n as u16, 1, false));
    spreads(|n| v4_of(at(0x0a00_0000 + n), 5000, 1, false));
    spreads(|n| v4_of(at(n << 8), n as u16, 1, false));
    spreads(|n| {
        v6_of(
            Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(n)),
            5000,
            1,
            false,
        )
    });
    spreads(|n| v6_of(Ipv6Addr::from_bits(u128::from(n) << 64), n as u16, 1, false));
}

/// What `weir check` tells is what a table takes; and its slots are fewer than half taken, but not many fewer.
#[test]
fn a_table_has_the_memory_that_it_says_for_the_keys_that_it_takes() {
    for capacity in [0, 1, 2, 5, 64, 1000, 54_321] {
        let table = Table::<Connection>::new(capacity, 1).unwrap();
        assert_eq!(table.capacity(), capacity.max(1));
        let (entries, buckets) = (&*table.entries, &*table.buckets);
        let bytes = size_of_val(entries) + size_of_val(buckets);
        assert_eq!(Table::<Connection>::bytes(capacity), bytes);
        let (keys, slots) = (2 * table.capacity(), SLOTS * buckets.len());
        assert!(keys * 100 <= slots * 45, "{keys} keys in {slots} slots");
        assert!(buckets.len() == 2 || keys * 100 > (slots - SLOTS) * 45);
    }
}

#[test]
fn a_connection_takes_88_bytes_and_152_with_ipv6() {
    assert!(Table::<Connection>::bytes(1_000_000) <= 88_000_000);
    assert!(Table::<Connection6>::bytes(1_000_000) <= 152_000_000);
}

//! Finding the connections of a burst, in random order, in the stages that the director goes through.

use crate::{per_packet, request, scatter};
use divan::{Bencher, black_box};
use std::net::{Ipv4Addr, Ipv6Addr};
use weir::conn::{Connection, Connection6, Entry, FlowKey6, Key, Table};
use weir::forward::mode;
use weir::net::protocol::UDP;
use weir::packet::BURST;
use weir::units::RealId;

/// A connection in both directions, as fullnat makes them.
fn ipv4(n: usize) -> Connection {
    let fullnat = mode("fullnat").expect("a mode");
    let real = (Ipv4Addr::new(10, 0, 0, 11 + (n % 4) as u8), 5353);
    let local = (
        Ipv4Addr::from_bits(0x0a01_0000 + (n >> 16) as u32),
        n as u16,
    );
    let key = request(n);
    let translation = fullnat.translation(&key, real, Some(local));
    Connection::new(key, translation, RealId(0))
}

/// The same of IPv6.
fn ipv6(n: usize) -> Connection6 {
    let at = |high: u128, low: usize| Ipv6Addr::from_bits(high << 64 | low as u128);
    let dice = scatter(n) as usize;
    let (client, vip) = (at(0x2001_0db8_0000_0001, dice >> 20), at(0x2001_0db8, 53));
    let key = FlowKey6::new(client, 1024 | dice as u16, vip, 53, UDP);
    let (real, local) = (at(0xfd00, 11 + n % 4), at(0xfd01, n >> 16));
    let fullnat = mode("fullnat").expect("a mode");
    let translation = fullnat.translation(&key, (real, 5353), Some((local, n as u16)));
    Connection::new(key, translation, RealId(0))
}

/// A table full of connections, and their clients' keys in random order.
fn table<E: Entry>(connections: usize, make: fn(usize) -> E) -> (Table<E>, Vec<E::Key>) {
    let mut table = Table::new(connections, scatter(0)).unwrap();
    let mut keys = Vec::with_capacity(connections);
    for n in 0.. {
        if keys.len() == connections {
            break;
        }
        // Now and then two clients are the same.
        if table.insert(make(n)).is_some() {
            keys.push(*make(n).request());
        }
    }
    keys.sort_by_cached_key(|key| E::hash(key, 1));
    (table, keys)
}

#[divan::bench(args = [1_000, 100_000, 1_000_000, 10_000_000], sample_count = 200, sample_size = 200)]
fn find_burst(bencher: Bencher, connections: usize) {
    find(bencher, connections, ipv4);
}

#[divan::bench(args = [1_000, 100_000, 1_000_000], sample_count = 200, sample_size = 200)]
fn find_burst_ipv6(bencher: Bencher, connections: usize) {
    find(bencher, connections, ipv6);
}

fn find<E: Entry>(bencher: Bencher, connections: usize, make: fn(usize) -> E) {
    let (table, keys) = table(connections, make);
    let mut bursts = keys.chunks_exact(BURST).cycle();
    bencher.counter(per_packet()).bench_local(|| {
        let keys = bursts.next().unwrap_or_default();
        let mut hashes = [0; BURST];
        for (key, hash) in keys.iter().zip(&mut hashes) {
            *hash = table.hash(key);
            table.prefetch_bucket(*hash);
        }
        for hash in hashes {
            table.guess(hash);
        }
        for (key, hash) in keys.iter().zip(hashes) {
            black_box(
                table
                    .find(hash, key)
                    .map(|found| table.get(found.id).is_live()),
            );
        }
    });
}

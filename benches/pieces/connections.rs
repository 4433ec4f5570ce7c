//! Finding the connections of a burst, in random order, in the stages that the director goes through.

use crate::{per_packet, request, scatter};
use divan::{Bencher, black_box};
use std::net::Ipv4Addr;
use weir::conn::{Connection, FlowKey, Table};
use weir::forward::mode;
use weir::packet::BURST;
use weir::units::{RealId, ServiceId};

/// A table full of connections in both directions, as fullnat makes them.
fn table(connections: usize) -> (Table, Vec<FlowKey>) {
    let mut table = Table::new(connections, scatter(0));
    let fullnat = mode("fullnat").expect("a mode");
    let mut keys = Vec::with_capacity(connections);
    for n in 0.. {
        if keys.len() == connections {
            break;
        }
        let real = (Ipv4Addr::new(10, 0, 0, 11 + (n % 4) as u8), 5353);
        let local = (
            Ipv4Addr::from_bits(0x0a01_0000 + (n >> 16) as u32),
            n as u16,
        );
        let key = request(n);
        let translation = fullnat.translation(&key, real, Some(local));
        // Now and then two clients are the same.
        if table
            .insert(Connection::new(key, translation, ServiceId(0), RealId(0)))
            .is_some()
        {
            keys.push(key);
        }
    }
    keys.sort_by_cached_key(|key| key.hash(1));
    (table, keys)
}

#[divan::bench(args = [1_000, 100_000, 1_000_000], sample_count = 200, sample_size = 200)]
fn find_burst(bencher: Bencher, connections: usize) {
    let (table, keys) = table(connections);
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
                    .map(|found| table.get(found.id).last_seen),
            );
        }
    });
}

//! One choice of each scheduler, and what it builds when a real server changes.

use crate::scatter;
use divan::{Bencher, black_box};
use std::net::Ipv4Addr;
use weir::sched::{Client, Cursor, Kind, Setting, kinds};
use weir::service::Real;
use weir::stats::Stats;
use weir::units::RealId;

fn named(name: &str) -> &'static Kind {
    kinds().find(|kind| kind.name == name).expect("a scheduler")
}

fn reals(count: u32) -> Vec<Real> {
    let real = |n| Real {
        id: RealId(n),
        address: Ipv4Addr::from_bits(0x0a00_000b + n).into(),
        port: 80,
        weight: 1 + n as u16 % 5,
        nominal: 1 + n as u16 % 5,
        is_available: true,
        keeps_clients: true,
        thresholds: None,
    };
    (0..count).map(real).collect()
}

#[divan::bench(args = kinds().map(|kind| kind.name), consts = [4, 64])]
fn pick<const REALS: u32>(bencher: Bencher, name: &str) {
    let stats = Stats::new(1).unwrap();
    let reals = reals(REALS);
    for real in &reals {
        stats.ensure(real.id);
    }
    let scheduler = (named(name).new)(&reals, &Setting::default());
    let cursor = Cursor::default();
    let mut client = 0;
    bencher.bench_local(|| {
        client += 1;
        let client = Client {
            address: scatter(client) as u32,
            port: 40_000,
            ..Client::default()
        };
        black_box(scheduler.pick(&reals, client, &cursor, &stats, &|_| true))
    });
}

/// Dropped each time: `mh` and others would find the table that is in use.
#[divan::bench(args = kinds().map(|kind| kind.name), consts = [10, 100])]
fn build<const REALS: u32>(bencher: Bencher, name: &str) {
    let kind = named(name);
    let reals = reals(REALS);
    bencher.bench_local(|| drop((kind.new)(black_box(&reals), &Setting::default())));
}

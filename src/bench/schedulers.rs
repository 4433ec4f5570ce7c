//! What one choice of a real server costs, by scheduler and number of real servers.

use super::cases::Figure;
use super::cpu_time;
use crate::sched::{Client, Cursor, Kind, Setting, kinds};
use crate::service::Real;
use crate::stats::Stats;
use crate::units::{RealId, WorkerId};
use std::collections::VecDeque;
use std::hint::black_box;
use std::net::Ipv4Addr;

/// Connections that each real server has on the average, all of the time.
const HELD: usize = 2;

pub(super) fn run(quick: bool, report: &mut dyn FnMut(Figure)) {
    let picks = if quick { 200 } else { 50_000 };
    for kind in kinds() {
        for count in [8, 1_000, 4_000] {
            report(Figure {
                case: "schedulers",
                what: format!("{}, {count} real servers", kind.name),
                nanos: pick(kind, count, picks),
                per: "new connection",
            });
        }
    }
}

/// Nanoseconds from one connection to the next, of which each begins when another ends.
fn pick(kind: &Kind, count: u32, picks: usize) -> f64 {
    let Ok(stats) = Stats::new(1) else {
        return f64::NAN;
    };
    let reals: Vec<_> = (0..count).map(real).collect();
    reals.iter().for_each(|real| stats.ensure(real.id));
    let scheduler = (kind.new)(&reals, &Setting::default());
    let cursor = Cursor::new(0, 1, 0);
    let mut clients = (0u32..).map(|n| Client {
        address: n.wrapping_mul(0x9e37_79b9),
        port: 40_000,
        ..Client::default()
    });
    let count_of = |real: RealId, is_new: bool| {
        if let Some(load) = stats.worker(WorkerId(0)).loads.get(real.index()) {
            match is_new {
                true => load.active.inc(),
                false => load.active.dec(),
            }
        }
    };
    let mut open = VecDeque::with_capacity(reals.len() * HELD + 1);
    let mut connect = |open: &mut VecDeque<RealId>| {
        let client = clients.next().unwrap_or_default();
        let place = scheduler.pick(&reals, client, &cursor, &stats, &|_| true);
        if let Some(real) = black_box(place).map(|place| reals[place].id) {
            count_of(real, true);
            open.push_back(real);
        }
    };
    (0..reals.len() * HELD).for_each(|_| connect(&mut open));
    let before = cpu_time();
    for _ in 0..picks {
        connect(&mut open);
        if let Some(oldest) = open.pop_front() {
            count_of(oldest, false);
        }
    }
    (cpu_time() - before) as f64 / picks as f64
}

fn real(n: u32) -> Real {
    let weight = 1 + n as u16 % 5;
    Real {
        id: RealId(n),
        address: Ipv4Addr::from_bits(0x0a00_000b + n).into(),
        port: 80,
        weight,
        nominal: weight,
        is_available: true,
        keeps_clients: true,
        thresholds: None,
    }
}

//! The floor that memory sets: what reading one cache line costs, in working sets of several sizes.
//!
//! A packet of a known connection reads a bucket and an entry of tables in the same memory ([`HugeSlice`]). One read
//! after another costs what a lookup without prefetches would; many in flight cost what the stages of a burst can
//! reach at best.

use super::cases::Figure;
use super::{MEMORY, cpu_time};
use crate::arch::{HugeSlice, prefetch};
use std::hint::black_box;

const MIB: usize = 1 << 20;

/// A cache line that says which one to read next.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    next: u32,
}

pub(super) fn run(quick: bool, report: &mut dyn FnMut(Figure)) {
    for size in [1, 16, 64, 256, 1024] {
        if quick && size > 64 {
            continue;
        }
        let lines = ring(size * MIB / size_of::<Line>());
        let reads = if quick { 1 << 19 } else { 1 << 22 };
        let mut figure = |what: &str, nanos: f64| {
            report(Figure {
                case: "memory",
                what: format!("{size} MiB, {what}"),
                nanos,
                per: "read",
            });
        };
        figure("one read after another", one_by_one(&lines, reads));
        figure(
            "8 reads in flight",
            in_flight::<8>(&lines, lines.len(), reads),
        );
        figure(
            "64 reads in flight",
            in_flight::<64>(&lines, lines.len(), reads),
        );
        // In the near cache, but on as many pages: what finding their addresses costs.
        let few = MIB / size_of::<Line>();
        figure(
            "64 reads in flight, of 1 MiB spread over it",
            in_flight::<64>(&lines, few, reads),
        );
    }
}

/// A permutation of the numbers below a power of two, without a pattern that a hardware prefetcher knows.
#[inline(always)]
fn scatter(n: usize, lines: usize) -> usize {
    let half = lines.ilog2().div_ceil(2);
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) & (lines - 1);
    let n = (n ^ n >> half).wrapping_mul(0xd6e8_feb8_6659_fd93) & (lines - 1);
    n ^ n >> half
}

/// As many lines, a power of two, each of which names the next one: all of them in one ring.
fn ring(lines: usize) -> HugeSlice<Line> {
    let mut ring = HugeSlice::new(Line { next: 0 }, lines).expect(MEMORY);
    for n in 0..lines {
        ring[scatter(n, lines)].next = scatter((n + 1) & (lines - 1), lines) as u32;
    }
    ring
}

/// Nanoseconds a read where each read says where the next one is.
fn one_by_one(ring: &[Line], reads: usize) -> f64 {
    let mut at = 0;
    let mut follow = |steps: usize| {
        for _ in 0..steps {
            at = ring[at].next as usize;
        }
        black_box(at);
    };
    // What fits into a cache is there afterwards.
    follow(ring.len().min(reads));
    let before = cpu_time();
    follow(reads);
    (cpu_time() - before) as f64 / reads as f64
}

/// Nanoseconds a read where `N` are asked for before the first of them is looked at, as in a burst of packets; of `used`
/// lines (a power of two) from all over the ring.
fn in_flight<const N: usize>(ring: &[Line], used: usize, reads: usize) -> f64 {
    let mut sum = 0u32;
    let mut read = |first: usize| {
        for group in (first..first + reads).step_by(N) {
            let place = |n: usize| scatter((group + n) & (used - 1), ring.len());
            let places: [usize; N] = std::array::from_fn(place);
            for at in places {
                prefetch(&ring[at]);
            }
            for at in places {
                sum = sum.wrapping_add(ring[at].next);
            }
        }
        black_box(sum);
    };
    read(0);
    let before = cpu_time();
    // Where the set is larger than what was read, lines that were not.
    read(reads);
    (cpu_time() - before) as f64 / reads as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_leads_through_every_line() {
        for lines in [2, 64, 1 << 13, 1 << 16] {
            let ring = ring(lines);
            let mut at = 0;
            let mut seen = 0;
            loop {
                at = ring[at].next as usize;
                seen += 1;
                if at == 0 {
                    break;
                }
                assert!(seen < lines, "a ring comes back");
            }
            assert_eq!(seen, lines);
        }
    }
}

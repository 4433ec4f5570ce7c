//! How long real servers take, as histograms: of services with `histograms`.

use super::Counter;
use crate::arch::{GrowingArray, NoMemory};
use std::sync::OnceLock;
use std::time::Duration;

/// What each bucket counts up to, in microseconds; behind the last one is a bucket for everything longer. A request within a machine room
/// takes fractions of a millisecond, a SYN that is lost one second more.
pub const BOUNDS_US: [u64; 14] = [
    100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    2_500_000, 10_000_000,
];

/// Durations counted by one worker.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [Counter; BOUNDS_US.len() + 1],
    /// Nanoseconds.
    sum: Counter,
}

impl Durations {
    pub fn add(&self, took: Duration) {
        let micros = took.as_nanos().div_ceil(1000) as u64;
        self.buckets[BOUNDS_US.partition_point(|most| *most < micros)].add(1);
        self.sum.add(took.as_nanos() as u64);
    }

    fn forget(&self) {
        self.buckets.iter().for_each(|bucket| bucket.set(0));
        self.sum.set(0);
    }
}

/// What one worker has measured of a service, or of one of its real servers.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Times {
    /// From a client's first SYN to the real server's SYN-ACK.
    pub connect: Durations,
    /// From the first byte of a connection's first request to the first byte of its reply.
    pub first_byte: Durations,
}

/// What one worker has measured of services, or of real servers, by their ids: a place of 16 bytes each, and the cells of those
/// that have asked for them.
pub struct TimesById(GrowingArray<OnceLock<Box<Times>>>);

impl TimesById {
    pub(super) fn new(capacity: usize) -> Result<Self, NoMemory> {
        Ok(TimesById(GrowingArray::new(capacity)?))
    }

    /// Reserves the cells of an id, if there is room for it.
    pub(super) fn ensure(&self, index: usize) {
        if let Some(place) = self.0.ensure(index) {
            place.get_or_init(Box::default);
        }
    }

    /// The cells of an id, if it has asked for them.
    pub fn get(&self, index: usize) -> Option<&Times> {
        Some(self.0.get(index)?.get()?)
    }

    /// The id becomes another service's, or another real server's.
    pub(super) fn forget(&self, index: usize) {
        if let Some(times) = self.get(index) {
            times.connect.forget();
            times.first_byte.forget();
        }
    }
}

/// Durations counted by all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many were up to each of [`BOUNDS_US`], and longer: each bucket without those before it.
    pub buckets: [u64; BOUNDS_US.len() + 1],
    pub sum: Duration,
}

impl Histogram {
    pub(super) fn of<'a>(cells: impl Iterator<Item = &'a Durations>) -> Self {
        let mut all = Histogram::default();
        for cells in cells {
            let pairs = all.buckets.iter_mut().zip(&cells.buckets);
            pairs.for_each(|(sum, bucket)| *sum += bucket.get());
            all.sum += Duration::from_nanos(cells.sum.get());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_duration_is_in_the_first_bucket_that_is_long_enough(
            samples in prop::collection::vec((0u64..20_000_000_000, 0usize..3), 0..50),
        ) {
            let workers: [Durations; 3] = Default::default();
            let mut expected = Histogram::default();
            for (nanos, worker) in &samples {
                let took = Duration::from_nanos(*nanos);
                workers[*worker].add(took);
                let fits = |most: &u64| took <= Duration::from_micros(*most);
                let place = BOUNDS_US.iter().position(fits).unwrap_or(BOUNDS_US.len());
                expected.buckets[place] += 1;
                expected.sum += took;
            }
            prop_assert_eq!(Histogram::of(workers.iter()), expected);
            workers.iter().for_each(Durations::forget);
            prop_assert_eq!(Histogram::of(workers.iter()), Histogram::default());
        }
    }
}

//! How long a real server takes to answer: from the first byte of a request to the first byte of its reply, a mean of one
//! worker's that the latest samples count most in. Of services whose scheduler goes by it.

use super::{Counter, Gauge};
use crate::units::Millis;
use std::time::Duration;

/// What is longer counts as this.
pub const LONGEST: Duration = Duration::from_secs(10);

/// A sample counts at least a 16th, and half if the one before it is a second old: what a real server was like long ago says
/// little.
const LEAST_SHARE: u64 = 16;
const HALF_MS: u64 = 1000;

/// What is as old as this counts as nothing.
const OLD_MS: u64 = 1_000_000;

/// One sample counts as at most so many times the mean, unless the mean is old: a single request that takes long by itself
/// makes no slow real server.
const OUTLIER: u64 = 8;

/// The worker's cells of one real server.
#[derive(Debug, Default)]
pub struct FirstByte {
    /// Nanoseconds; 0: there is no sample yet.
    mean: Counter,
    /// When the latest sample came, in [`Millis`].
    at: Gauge,
    /// UDP flows whose first datagram has had no answer yet: what a real server has to do, where no connection is active.
    pub waiting: Gauge,
}

impl FirstByte {
    /// A request was answered after so long.
    pub fn answered(&self, after: Duration, now: Millis) {
        let sample = (after.min(LONGEST).as_nanos() as u64).max(1);
        let age = u64::from(now.since(Millis(self.at.get()))).min(OLD_MS);
        self.at.set(now.0);
        let mean = self.mean.get();
        if mean == 0 {
            return self.mean.set(sample);
        }
        let sample = match age < HALF_MS {
            true => sample.min(mean * OUTLIER),
            false => sample,
        };
        // The sample's share is `parts` of `of`.
        let (parts, of) = match age * (LEAST_SHARE - 1) < HALF_MS {
            true => (1, LEAST_SHARE),
            false => (age, age + HALF_MS),
        };
        let moved = sample.abs_diff(mean) * parts / of;
        self.mean.set(match sample > mean {
            true => mean + moved,
            false => mean - moved,
        });
    }

    /// A request has had no answer for so long: that says something only if it is longer than the mean.
    pub fn unanswered(&self, for_so_long: Duration, now: Millis) {
        if for_so_long.as_nanos() > u128::from(self.mean.get()) {
            self.answered(for_so_long, now);
        }
    }

    /// The mean in nanoseconds, at most [`LONGEST`]; none before the first sample.
    #[inline]
    pub fn nanos(&self) -> Option<u64> {
        Some(self.mean.get()).filter(|nanos| *nanos > 0)
    }

    /// The cells become another real server's.
    pub(super) fn forget(&self) {
        self.mean.set(0);
        self.waiting.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The mean in milliseconds after samples, each as long after the one before.
    fn mean(samples: &[(u64, u32)]) -> u64 {
        let (cells, mut now) = (FirstByte::default(), Millis(u32::MAX - 5000));
        for (took, after) in samples {
            now = Millis(now.0.wrapping_add(*after));
            cells.answered(millis(*took), now);
        }
        cells.nanos().unwrap() / 1_000_000
    }

    #[test]
    fn the_latest_samples_count_most_and_old_ones_hardly() {
        let slow = [(100, 1); 50];
        for (samples, least, most) in [
            (&[(7, 0)][..], 7, 7),
            (&slow[..], 99, 100),
            // Ten times as slow from now on: half of the way after a few samples.
            (&[&[(10, 1)][..], &slow[..15]].concat(), 55, 75),
            (&[&[(10, 1)][..], &slow[..]].concat(), 90, 100),
            // One that takes a thousand times as long by itself.
            (&[(10, 1), (10_000, 1)], 14, 15),
            (&[(10, 1), (10_000, 1), (10, 1), (10, 1)], 13, 14),
            // What is a second old counts half, what is ten seconds old a tenth.
            (&[(100, 1), (10, 1000)], 55, 55),
            (&[(10, 1), (1000, 10_000)], 905, 915),
            (&[(100_000, 1)], 10_000, 10_000),
        ] {
            let mean = mean(samples);
            assert!((least..=most).contains(&mean), "{samples:?}: {mean}");
        }
    }

    proptest! {
        #[test]
        fn the_mean_lies_between_the_shortest_and_the_longest(
            samples in prop::collection::vec((0u64..20_000_000_000, any::<u32>()), 1..50),
        ) {
            let (cells, mut now) = (FirstByte::default(), Millis(0));
            for (took, after) in &samples {
                now = Millis(now.0.wrapping_add(*after));
                cells.answered(Duration::from_nanos(*took), now);
            }
            let all = || samples.iter().map(|(took, _)| (*took).clamp(1, 10_000_000_000));
            let mean = cells.nanos().unwrap();
            prop_assert!(all().min().unwrap() <= mean && mean <= all().max().unwrap());
        }
    }

    #[test]
    fn an_answer_that_is_still_due_never_makes_a_real_server_quicker() {
        let cells = FirstByte::default();
        cells.answered(millis(100), Millis(0));
        cells.unanswered(millis(99), Millis(5000));
        assert_eq!(cells.nanos(), Some(100_000_000));
        cells.unanswered(millis(300), Millis(1000));
        assert_eq!(cells.nanos(), Some(200_000_000));
        cells.forget();
        assert_eq!(cells.nanos(), None);
    }
}

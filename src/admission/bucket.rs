//! A rate with a second's worth at once: the generic cell rate algorithm (ITU-T I.371).
//!
//! What is kept is one time, in nanoseconds: when everything taken so far would have been taken at the even rate. Workers
//! share it: between asking and taking another one may take, so that each may take one more than the rate allows.

use crate::units::Time;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const SECOND: u64 = 1_000_000_000;

/// Whether one more may be taken now. Up to a million a second the rate is right to 0.1 %.
#[inline]
pub(super) fn has_one(next: &AtomicU64, now: Time, per_second: u32) -> bool {
    let now = now.nanos();
    next.load(Relaxed).max(now) + interval(per_second) <= now + SECOND
}

/// Takes one, whether there is one or not.
#[inline]
pub(super) fn take(next: &AtomicU64, now: Time, per_second: u32) {
    let now = now.nanos();
    // No further ahead than a second: with a lower rate from now on it is not paid back for longer than that.
    let taken = |next: u64| Some((next.max(now) + interval(per_second)).min(now + SECOND));
    let _ = next.fetch_update(Relaxed, Relaxed, taken);
}

/// Nanoseconds from one to the next.
fn interval(per_second: u32) -> u64 {
    SECOND / u64::from(per_second.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_at_once_and_then_the_rate() {
        for per_second in [1, 3, 20, 5000] {
            let next = AtomicU64::new(0);
            let taken_at = |nanos: u64| {
                let now = Time::from_nanos((1 << 60) + nanos);
                let has_one = has_one(&next, now, per_second);
                if has_one {
                    take(&next, now, per_second);
                }
                has_one
            };
            let taken = |from: u64, to: u64| {
                let steps = (from * 20_000..to * 20_000).map(|step| step * 50_000);
                steps.filter(|nanos| taken_at(*nanos)).count() as u32
            };
            // In three seconds: the first second's worth, and three.
            let in_three = taken(0, 3);
            assert!(
                (4 * per_second - 1..=4 * per_second).contains(&in_three),
                "{in_three}"
            );
            let later = taken(100, 101);
            assert!(
                (2 * per_second - 1..=2 * per_second).contains(&later),
                "{later}"
            );
        }
    }

    #[test]
    fn a_lower_rate_is_heeded_at_once_and_owes_nothing() {
        let (next, now) = (AtomicU64::new(0), Time::from_nanos(1 << 60));
        (0..1000).for_each(|_| take(&next, now, 1000));
        assert!(!has_one(&next, now, 1));
        assert!(has_one(&next, Time::from_nanos((1 << 60) + SECOND), 1));
    }
}

//! Bounds on what the control thread does because a packet came, so that a flood of packets is no flood of questions. What it
//! says is bounded by [`Reports`](crate::log::Reports).

use crate::units::Time;
use std::time::Duration;

/// At most so many in a second, and a second's worth at once (the generic cell rate algorithm, ITU-T I.371).
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// When everything allowed so far would have been done at the even rate.
    even: Time,
}

impl Pace {
    /// Whether one more is allowed at `now`, which never goes back; `per_second` is at least 1.
    pub fn allow(&mut self, per_second: u32, now: Time) -> bool {
        let next = self.even.max(now) + Duration::from_secs(1) / per_second;
        let is_allowed = next <= now + Duration::from_secs(1);
        if is_allowed {
            self.even = next;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_pace_allows_a_seconds_worth_at_once_and_then_the_even_rate() {
        let mut pace = Pace::default();
        let mut allowed = |from: u64, to: u64| {
            (from..to)
                .map(|millis| (0..10).filter(|_| pace.allow(100, at(millis))).count())
                .sum::<usize>()
        };
        assert_eq!(allowed(50_000, 50_020), 101, "20 ms of a flood");
        assert_eq!(allowed(50_020, 52_020), 200, "2 s of a flood");
        assert_eq!(allowed(90_000, 90_001), 10, "a pause");
    }
}

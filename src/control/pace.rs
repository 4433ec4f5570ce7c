//! Bounds on what the control thread does and says because a packet came, so that a flood of packets is no flood of
//! questions or of log lines.

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

/// Log lines of one kind: at most one a second, which says how often it happened since the one before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    last: Option<Time>,
    count: u64,
}

impl Report {
    /// Counts one. The count since the last line, if a line is due.
    pub fn count(&mut self, now: Time) -> Option<u64> {
        self.count += 1;
        let is_due = self
            .last
            .is_none_or(|last| now.since(last) >= Duration::from_secs(1));
        is_due.then(|| {
            self.last = Some(now);
            std::mem::take(&mut self.count)
        })
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

    #[test]
    fn a_report_comes_once_a_second_with_the_count_since_the_last_one() {
        let mut report = Report::default();
        let said: Vec<_> = (0..2500)
            .filter_map(|millis| report.count(at(millis)))
            .collect();
        assert_eq!(said, [1, 1000, 1000]);
    }
}

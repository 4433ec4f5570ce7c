//! Limits on what weir says by itself, so that a flood of questions is no amplifier and starves no packet.

use crate::units::Time;

/// A token bucket for each kind of answer: a second's worth of answers at once, refilled evenly.
#[derive(Debug, Default)]
pub struct AnswerLimits {
    buckets: [Bucket; 4],
}

/// The kinds that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    Arp,
    IcmpEcho,
    IcmpError,
    Reset,
}

#[derive(Debug, Default)]
struct Bucket {
    /// In billionths of an answer; starts full.
    used: u64,
    filled_at: Time,
}

const ANSWER: u64 = 1_000_000_000;

impl AnswerLimits {
    /// Whether an answer may be given now.
    pub fn allow(&mut self, kind: AnswerKind, now: Time, per_second: u32) -> bool {
        let bucket = &mut self.buckets[kind as usize];
        let elapsed = now.since(bucket.filled_at).as_nanos() as u64;
        bucket.used = bucket
            .used
            .saturating_sub(elapsed.saturating_mul(u64::from(per_second)));
        bucket.filled_at = now;
        let allowed = bucket.used + ANSWER <= u64::from(per_second) * ANSWER;
        if allowed {
            bucket.used += ANSWER;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn allows_a_second_at_once_then_the_rate() {
        let mut limits = AnswerLimits::default();
        let start = Time::from_nanos(1_700_000_000_000_000_000);
        let mut allowed = |at: Time, tries: u32| {
            (0..tries)
                .filter(|_| limits.allow(AnswerKind::Reset, at, 100))
                .count()
        };
        assert_eq!(allowed(start, 500), 100);
        assert_eq!(allowed(start + Duration::from_millis(55), 500), 5);
        assert_eq!(allowed(start + Duration::from_millis(60), 500), 1);
        assert_eq!(allowed(start + Duration::from_secs(60), 500), 100);
    }

    #[test]
    fn kinds_do_not_use_up_each_other() {
        let mut limits = AnswerLimits::default();
        assert!(limits.allow(AnswerKind::Arp, Time::default(), 1));
        assert!(!limits.allow(AnswerKind::Arp, Time::default(), 1));
        assert!(limits.allow(AnswerKind::IcmpEcho, Time::default(), 1));
    }
}

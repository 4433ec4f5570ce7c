//! Limits on what weir says by itself, so that a flood of questions is no amplifier and starves no packet.

use crate::units::Time;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A second's worth of each kind of answer at once, refilled evenly. All workers share them; a worker writes here only
/// when it answers, so that a flood beyond the limit moves no cache line between them.
#[derive(Debug, Default)]
pub struct AnswerLimits {
    /// Of each kind, when everything answered so far would have been answered at the even rate, in nanoseconds
    /// (the theoretical arrival time of the generic cell rate algorithm, ITU-T I.371).
    even: [AtomicU64; 5],
}

/// The kinds that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    Arp,
    IcmpEcho,
    IcmpError,
    Reset,
    /// No answer of weir's: a packet for the host, which answers itself.
    Host,
}

const SECOND: u64 = 1_000_000_000;

impl AnswerLimits {
    /// Whether an answer may be given now.
    pub fn allow(&self, kind: AnswerKind, now: Time, per_second: u32) -> bool {
        let Some(interval) = SECOND.checked_div(u64::from(per_second)) else {
            return false;
        };
        let now = now.nanos();
        let next = |even: u64| {
            let next = even.max(now) + interval;
            (next <= now + SECOND).then_some(next)
        };
        self.even[kind as usize]
            .fetch_update(Relaxed, Relaxed, next)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn allows_a_second_at_once_then_the_rate() {
        let limits = AnswerLimits::default();
        let start = Time::from_nanos(1_700_000_000_000_000_000);
        let allowed = |at: Time, tries: u32| {
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
        let limits = AnswerLimits::default();
        assert!(limits.allow(AnswerKind::Arp, Time::default(), 1));
        assert!(!limits.allow(AnswerKind::Arp, Time::default(), 1));
        assert!(limits.allow(AnswerKind::IcmpEcho, Time::default(), 1));
        assert!(!limits.allow(AnswerKind::IcmpEcho, Time::default(), 0));
    }

    #[test]
    fn workers_share_a_limit() {
        let limits = AnswerLimits::default();
        let now = Time::from_nanos(SECOND);
        let allowed: usize = std::thread::scope(|scope| {
            let workers = [(); 4].map(|()| {
                scope.spawn(|| {
                    (0..1_000)
                        .filter(|_| limits.allow(AnswerKind::Arp, now, 700))
                        .count()
                })
            });
            workers.map(|worker| worker.join().unwrap()).iter().sum()
        });
        assert_eq!(allowed, 700);
    }
}

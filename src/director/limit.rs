//! Limits on what weir says by itself, so that a flood of questions is no amplifier and starves no packet.

use super::sync::AtomicU64;
use crate::units::Time;
use std::sync::atomic::Ordering::Relaxed;

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

pub(super) const SECOND: u64 = 1_000_000_000;

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

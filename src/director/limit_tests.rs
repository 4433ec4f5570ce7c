//! What [`limit`](super::limit) lets through.

use super::limit::{AnswerKind, AnswerLimits, SECOND};
use crate::units::Time;
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

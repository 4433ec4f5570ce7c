//! The same `limit.rs`, compiled against loom: every interleaving of two workers.

mod sync {
    pub(super) use loom::sync::atomic::AtomicU64;
}

#[allow(dead_code, clippy::duplicate_mod)]
#[path = "limit.rs"]
mod limit;

use crate::units::Time;
use limit::{AnswerKind, AnswerLimits};

#[test]
fn two_workers_never_give_more_answers_than_the_limit_and_never_fewer() {
    loom::model(|| {
        let limits = loom::sync::Arc::new(AnswerLimits::default());
        let now = Time::from_nanos(5_000_000_000);
        let ask = move |limits: &AnswerLimits| {
            (0..2)
                .filter(|_| limits.allow(AnswerKind::Reset, now, 3))
                .count()
        };
        let worker = {
            let limits = limits.clone();
            loom::thread::spawn(move || ask(&limits))
        };
        let here = ask(&limits);
        assert_eq!(here + worker.join().unwrap(), 3);
    });
}

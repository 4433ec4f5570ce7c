//! The same `limit.rs`, compiled against loom: every interleaving of two workers.

mod sync {
    pub(super) use loom::sync::atomic::AtomicU64;
}

#[allow(dead_code, unreachable_pub, clippy::duplicate_mod)]
#[path = "limit.rs"]
mod limit;

use crate::units::{PortId, Time};
use limit::{AnswerKind, AnswerLimits, Asker};
use std::net::Ipv4Addr;

const NOW: Time = Time::from_nanos(5_000_000_000);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);

fn ask(limits: &AnswerLimits, client: u8, times: usize, per_second: u32) -> usize {
    let asker = Asker::of_prefix(Ipv4Addr::new(203, 0, client, 7), VIP, 80);
    let allow = || limits.allow(AnswerKind::Reset, PortId(0), &asker, NOW, per_second);
    (0..times).filter(|_| allow()).count()
}

#[test]
fn two_workers_never_give_more_answers_than_the_limit_and_never_fewer() {
    loom::model(|| {
        // Below 8 there are no shares.
        let limits = loom::sync::Arc::new(AnswerLimits::new(1, 0, 7));
        let worker = {
            let limits = limits.clone();
            loom::thread::spawn(move || ask(&limits, 1, 2, 3))
        };
        let here = ask(&limits, 1, 2, 3);
        assert_eq!(here + worker.join().unwrap(), 3);
    });
}

#[test]
fn two_workers_give_each_share_once() {
    let mut model = loom::model::Builder::new();
    // The preparation takes many steps, none of which has an alternative.
    model.max_branches = 100_000;
    model.check(|| {
        // Client 1 uses up the rate and its own shares: what client `quiet` gets then is its shares alone.
        let flooded = || {
            let limits = AnswerLimits::new(1, 2, 7);
            assert_eq!(ask(&limits, 1, 20, 16), 16);
            limits
        };
        let alone = |quiet: &u8| ask(&flooded(), *quiet, 9, 16);
        let quiet = (2..20).find(|quiet| alone(quiet) == 1).unwrap();
        let limits = loom::sync::Arc::new(flooded());
        let worker = {
            let limits = limits.clone();
            loom::thread::spawn(move || ask(&limits, quiet, 1, 16))
        };
        let here = ask(&limits, quiet, 1, 16);
        assert_eq!(here + worker.join().unwrap(), 1);
    });
}

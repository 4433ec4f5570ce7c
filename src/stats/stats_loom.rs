//! The same `counter.rs`, compiled against loom: every interleaving of a few steps, and every value that the memory model
//! lets each load return.

use loom::sync::Arc;
use loom::thread;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64};
}

#[allow(dead_code, unreachable_pub, clippy::duplicate_mod)]
#[path = "counter.rs"]
mod counter;

use counter::{Counter, Gauge};

#[derive(Default)]
struct Counted {
    packets: Counter,
    active: Gauge,
}

#[test]
fn a_reader_sees_a_counter_grow_and_in_the_end_all_of_it() {
    loom::model(|| {
        let counted = Arc::new(Counted::default());
        let worker = {
            let counted = counted.clone();
            thread::spawn(move || {
                counted.active.inc();
                counted.packets.add(2);
                counted.packets.add(3);
                counted.active.dec();
            })
        };
        let mut last = 0;
        for _ in 0..3 {
            let packets = counted.packets.get();
            assert!(packets >= last && [0, 2, 5].contains(&packets));
            assert!(counted.active.get() <= 1);
            last = packets;
        }
        worker.join().unwrap();
        assert_eq!((counted.packets.get(), counted.active.get()), (5, 0));
    });
}

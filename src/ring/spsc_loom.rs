//! The same `spsc.rs`, compiled against loom: every interleaving of a few steps, and every value that the memory model
//! lets each load return.

use arrayvec::ArrayVec;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};
use loom::thread;

mod sync {
    pub(super) use loom::cell::UnsafeCell;
    pub(super) use loom::sync::Arc;
    pub(super) use loom::sync::atomic::AtomicU32;
}

#[allow(dead_code, unreachable_pub, clippy::duplicate_mod)]
#[path = "spsc.rs"]
mod spsc;

#[test]
fn elements_arrive_once_in_order_and_slots_are_used_again() {
    loom::model(|| {
        let (mut producer, mut consumer) = spsc::ring::<u32>(2);
        let sender = thread::spawn(move || {
            let mut sent = 0;
            for _ in 0..4 {
                // Alone, or two in a burst; a full ring refuses.
                if producer.push(sent).is_ok() {
                    sent += 1;
                }
                if sent % 2 == 0 {
                    producer.publish();
                }
            }
            drop(producer);
            sent
        });
        let mut taken = ArrayVec::<u32, 8>::new();
        for _ in 0..2 {
            consumer.take(&mut taken);
        }
        let sent = sender.join().unwrap();
        while consumer.take(&mut taken) > 0 {}
        assert!(taken.iter().copied().eq(0..sent));
    });
}

#[test]
fn what_is_left_inside_is_dropped_once_whoever_goes_last() {
    struct Counted(Arc<AtomicU32>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    loom::model(|| {
        let dropped = Arc::new(AtomicU32::new(0));
        let (mut producer, mut consumer) = spsc::ring(2);
        let counted = dropped.clone();
        let sender = thread::spawn(move || {
            for _ in 0..2 {
                assert!(producer.push(Counted(counted.clone())).is_ok());
                producer.publish();
            }
        });
        let mut taken = ArrayVec::<Counted, 1>::new();
        consumer.take(&mut taken);
        drop(consumer);
        sender.join().unwrap();
        drop(taken);
        assert_eq!(dropped.load(Relaxed), 2);
    });
}

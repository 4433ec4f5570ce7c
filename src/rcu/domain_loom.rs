//! The same `domain.rs`, compiled against loom: every interleaving of a few steps, and every value that the memory
//! model lets each load return.

use loom::cell::UnsafeCell;
use loom::thread;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicPtr, AtomicU64, fence};
    pub(super) use loom::sync::{Arc, Mutex};
}

#[allow(dead_code, unreachable_pub, clippy::duplicate_mod)]
#[path = "domain.rs"]
mod domain;

/// A value that dies when it is dropped. Loom fails a model in which a look is not ordered before that.
struct Mortal(UnsafeCell<u32>);

// SAFETY: loom checks each access to the cell: two at a time, or two that nothing orders, fail the test.
unsafe impl Sync for Mortal {}

const DEAD: u32 = u32::MAX;

fn mortal(number: u32) -> Box<Mortal> {
    Box::new(Mortal(UnsafeCell::new(number)))
}

impl Mortal {
    fn look(&self) -> u32 {
        // SAFETY: loom panics rather than hand out the pointer while it is written to.
        let number = self.0.with(|number| unsafe { *number });
        assert_ne!(number, DEAD, "read after free");
        number
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        // SAFETY: as in `look`.
        self.0.with_mut(|number| unsafe { *number = DEAD });
    }
}

/// Explores a model with up to `preemptions` involuntary switches between threads.
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

#[test]
fn a_value_in_use_is_not_freed_and_time_does_not_run_backwards() {
    explore(4, || {
        let (mut publisher, mut readers) = domain::domain(mortal(1), 1);
        let mut reader = readers.remove(0);
        let worker = thread::spawn(move || {
            let mut last = 0;
            for _ in 0..3 {
                let number = reader.read().look();
                assert!(number >= last);
                last = number;
                reader.quiescent();
            }
            reader.read().look();
        });
        for number in 2..4 {
            publisher.publish(mortal(number));
            publisher.reclaim();
        }
        worker.join().unwrap();
        publisher.reclaim();
        assert_eq!(publisher.pending(), 0);
    });
}

#[test]
fn each_of_two_readers_is_waited_for() {
    explore(3, || {
        let (mut publisher, readers) = domain::domain(mortal(1), 2);
        let workers = readers.into_iter().map(|mut reader| {
            thread::spawn(move || {
                reader.read().look();
                reader.quiescent();
                reader.read().look();
            })
        });
        let workers: Vec<_> = workers.collect();
        publisher.publish(mortal(2));
        publisher.reclaim();
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        assert_eq!(publisher.current().look(), 2);
    });
}

#[test]
fn a_reader_that_comes_back_online_gets_a_value_that_stays() {
    explore(4, || {
        let (mut publisher, mut readers) = domain::domain(mortal(1), 1);
        let mut reader = readers.remove(0);
        let worker = thread::spawn(move || {
            for _ in 0..2 {
                reader.read().look();
                reader.offline(|| ());
            }
            reader.read().look();
        });
        for number in 2..4 {
            publisher.publish(mortal(number));
            publisher.reclaim();
        }
        worker.join().unwrap();
    });
}

#[test]
fn readers_outlive_their_publisher() {
    explore(4, || {
        let (mut publisher, mut readers) = domain::domain(mortal(1), 1);
        let mut reader = readers.remove(0);
        let worker = thread::spawn(move || {
            reader.read().look();
            reader.quiescent();
            reader.read().look();
        });
        publisher.publish(mortal(2));
        drop(publisher);
        worker.join().unwrap();
    });
}

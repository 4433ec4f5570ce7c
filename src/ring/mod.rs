//! Rings by which one worker hands packets to another: one producer, one consumer, no locks, memory from the start.
#![allow(unsafe_code)]

mod spsc;

#[cfg(test)]
mod spsc_loom;

pub use spsc::{Consumer, Producer, ring};

/// What `spsc` synchronises with. The model test compiles the same file against loom's versions.
mod sync {
    pub(super) use std::sync::Arc;
    pub(super) use std::sync::atomic::AtomicU32;

    /// As loom's: a closure sees the pointer.
    pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(super) fn new(value: T) -> Self {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(super) fn with_mut<R>(&self, look: impl FnOnce(*mut T) -> R) -> R {
            look(self.0.get())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrayvec::ArrayVec;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::sync::Arc;

    #[test]
    fn a_full_ring_gives_the_element_back_and_takes_more_when_there_is_room() {
        let (mut producer, mut consumer) = ring::<u32>(4);
        for n in 0..4 {
            assert_eq!(producer.push(n), Ok(()));
        }
        assert_eq!(producer.push(4), Err(4));
        let mut taken = ArrayVec::<u32, 3>::new();
        assert_eq!(consumer.take(&mut taken), 0, "not published yet");
        producer.publish();
        assert_eq!(consumer.take(&mut taken), 3);
        assert_eq!(taken[..], [0, 1, 2]);
        assert_eq!(
            (producer.push(4), producer.push(5), producer.push(6)),
            (Ok(()), Ok(()), Ok(()))
        );
        assert_eq!(producer.push(7), Err(7));
    }

    #[test]
    fn what_nobody_took_is_dropped_once() {
        let counted = Arc::new(());
        let (mut producer, mut consumer) = ring(8);
        for _ in 0..5 {
            producer.push(counted.clone()).unwrap();
        }
        producer.publish();
        producer.push(counted.clone()).unwrap();
        let mut taken = ArrayVec::<_, 2>::new();
        consumer.take(&mut taken);
        assert_eq!(Arc::strong_count(&counted), 7);
        drop(taken);
        drop(consumer);
        assert_eq!(Arc::strong_count(&counted), 5);
        drop(producer);
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[test]
    fn two_threads_see_every_element_in_order() {
        const COUNT: u32 = if cfg!(debug_assertions) {
            200_000
        } else {
            2_000_000
        };
        let (mut producer, mut consumer) = ring(64);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..COUNT {
                    while producer.push(n).is_err() {
                        producer.publish();
                        std::thread::yield_now();
                    }
                    if n % 7 == 0 {
                        producer.publish();
                    }
                }
            });
            let mut expected = 0;
            let mut taken = ArrayVec::<u32, 16>::new();
            while expected < COUNT {
                if consumer.take(&mut taken) == 0 {
                    std::thread::yield_now();
                }
                for n in taken.drain(..) {
                    assert_eq!(n, expected);
                    expected += 1;
                }
            }
        });
    }

    proptest! {
        #[test]
        fn equals_a_queue(steps in prop::collection::vec((0usize..6, 0usize..6), 0..60)) {
            let (mut producer, mut consumer) = ring(8);
            let mut model = VecDeque::new();
            let mut next = 0u32;
            for (pushes, takes) in steps {
                for _ in 0..pushes {
                    let room = model.len() < 8;
                    prop_assert_eq!(producer.push(next).is_ok(), room);
                    if room {
                        model.push_back(next);
                    }
                    next += 1;
                }
                producer.publish();
                let mut taken = ArrayVec::<u32, 8>::new();
                while taken.len() < takes {
                    let mut one = ArrayVec::<u32, 1>::new();
                    consumer.take(&mut one);
                    let Some(one) = one.pop() else { break };
                    taken.push(one);
                }
                for n in taken {
                    prop_assert_eq!(Some(n), model.pop_front());
                }
            }
        }
    }
}

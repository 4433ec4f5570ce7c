//! Lamport's queue with batches: each side keeps the other's index as it last saw it, and looks again only when that
//! does not do. A burst is written element by element and published by one store.

use super::sync::{Arc, AtomicU32, UnsafeCell};
use arrayvec::ArrayVec;
use crossbeam_utils::CachePadded;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

struct Shared<T> {
    /// How many elements were taken so far, and how many published; both wrap. Written by one side each.
    taken: CachePadded<AtomicU32>,
    published: CachePadded<AtomicU32>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a slot is the producer's until it is published and the consumer's until it is taken; the two indices, stored
// with release and loaded with acquire, hand it over.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    #[inline(always)]
    fn slot(&self, index: u32) -> &UnsafeCell<MaybeUninit<T>> {
        // A power of two, so that the index may wrap.
        &self.slots[index as usize & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let (mut index, end) = (self.taken.load(Relaxed), self.published.load(Relaxed));
        while index != end {
            // SAFETY: published and not taken: the element is there, and both sides are gone.
            self.slot(index)
                .with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            index = index.wrapping_add(1);
        }
    }
}

/// The end that elements are put in.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// Elements written, published or not.
    written: u32,
    published: u32,
    /// As last seen.
    taken: u32,
}

/// The end that elements come out of.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    taken: u32,
    /// As last seen.
    published: u32,
}

/// A ring for at least `capacity` elements, at least 2.
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.clamp(2, 1 << 30).next_power_of_two();
    let slot = |_| UnsafeCell::new(MaybeUninit::uninit());
    let shared = Arc::new(Shared {
        taken: CachePadded::new(AtomicU32::new(0)),
        published: CachePadded::new(AtomicU32::new(0)),
        slots: (0..capacity).map(slot).collect(),
    });
    let producer = Producer {
        shared: shared.clone(),
        written: 0,
        published: 0,
        taken: 0,
    };
    let consumer = Consumer {
        shared,
        taken: 0,
        published: 0,
    };
    (producer, consumer)
}

impl<T> Producer<T> {
    /// Puts an element in, for [`publish`](Self::publish) to show; gives it back when the ring is full.
    #[inline]
    pub fn push(&mut self, element: T) -> Result<(), T> {
        let capacity = self.shared.slots.len() as u32;
        if self.written.wrapping_sub(self.taken) == capacity {
            // Acquire: what the consumer read from the slots is read before they are written again.
            self.taken = self.shared.taken.load(Acquire);
            if self.written.wrapping_sub(self.taken) == capacity {
                return Err(element);
            }
        }
        // SAFETY: the slot is neither published nor waiting to be taken: it is the producer's, and empty.
        self.shared.slot(self.written).with_mut(|slot| unsafe {
            (*slot).write(element);
        });
        self.written = self.written.wrapping_add(1);
        Ok(())
    }

    /// Shows the consumer all that was put in.
    #[inline]
    pub fn publish(&mut self) {
        if self.published != self.written {
            self.published = self.written;
            // Release: the elements are written before the consumer sees them.
            self.shared.published.store(self.written, Release);
        }
    }
}

impl<T> Drop for Producer<T> {
    /// What is in the ring is its own last owner's to drop.
    fn drop(&mut self) {
        self.publish();
    }
}

impl<T> Consumer<T> {
    /// Moves elements into `burst` as far as there are any and there is room; says how many.
    #[inline]
    pub fn take<const N: usize>(&mut self, burst: &mut ArrayVec<T, N>) -> usize {
        if self.taken == self.published {
            // Acquire: the elements are read after they were written.
            self.published = self.shared.published.load(Acquire);
        }
        let ready = self.published.wrapping_sub(self.taken) as usize;
        let count = ready.min(burst.remaining_capacity());
        if count == 0 {
            return 0;
        }
        for _ in 0..count {
            let slot = self.shared.slot(self.taken);
            // SAFETY: published and not taken: the element is there, and is not looked at here again.
            let element = slot.with_mut(|slot| unsafe { (*slot).assume_init_read() });
            burst.push(element);
            self.taken = self.taken.wrapping_add(1);
        }
        // Release: the slots are read before the producer writes them again.
        self.shared.taken.store(self.taken, Release);
        count
    }
}

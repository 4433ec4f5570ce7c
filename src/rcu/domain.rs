//! One published value, its writer and its readers.
//!
//! # Why this is sound
//!
//! Value number *g* (its generation; 1 is the initial one) is `current` from publication *g* until publication
//! *g + 1*, which retires it. `publish` first swaps `current`, then stores *g + 1* to `generation`. A reader's slot
//! says: "whatever I hold is of at least this generation", or [`OFFLINE`]: "I hold nothing". So the value retired
//! by publication *n* may be freed once every slot is *n* or more. Two things must hold for that:
//!
//! 1. *A slot tells the truth.* A reader that loads *n* from `generation` (acquire) synchronises with the store
//!    (release) of publication *n*, hence sees its swap: a later load of `current` yields generation *n* or newer.
//! 2. *What it left behind is no longer in use.* All reads through the old pointer are sequenced before the store
//!    to the slot (release); the publisher loads the slot (acquire) before it frees.
//!
//! Coming back from [`OFFLINE`] needs more, because the slot then goes down: the reader stores its slot and loads
//! `current`; the publisher stores `current` and loads the slot. With a sequentially consistent fence between the
//! two steps on both sides, either the publisher sees the slot, or the reader sees the new pointer.
//!
//! That no reference survives a quiescent state is the borrow checker's work: [`Reader::read`] borrows the reader,
//! [`Reader::quiescent`] and [`Reader::offline`] borrow it mutably.

use super::sync::{Arc, AtomicPtr, AtomicU64, Mutex, fence};
use crate::units::Generation;
use crossbeam_utils::CachePadded;
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

/// In a reader's slot: it holds nothing. Larger than every generation.
const OFFLINE: u64 = u64::MAX;

struct Shared<T> {
    published: CachePadded<Published<T>>,
    /// For each reader, in a cache line of its own: the generation that it has come to, or [`OFFLINE`].
    slots: Box<[CachePadded<AtomicU64>]>,
    /// What a publisher that is gone could not free any more.
    orphans: Mutex<VecDeque<Retired<T>>>,
}

/// What every reader loads and only the publisher stores.
struct Published<T> {
    current: AtomicPtr<T>,
    generation: AtomicU64,
}

/// A value that is no longer current: owned here, but perhaps still read.
struct Retired<T> {
    value: NonNull<T>,
    /// The publication that replaced it.
    by: u64,
}

// SAFETY: a `Retired` is an owned `T` that is neither read nor dropped through it before its grace period is over;
// sending it sends the `T`.
unsafe impl<T: Send> Send for Retired<T> {}

impl<T> Retired<T> {
    /// # Safety
    /// No reader may hold a reference to the value, nor get one later.
    unsafe fn free(self) {
        // SAFETY: `value` came from `Box::into_raw` in `domain` or `publish`, was moved here when it stopped being
        // current, and `self` is consumed: this is the only box of it. No reader has it, says the caller.
        drop(unsafe { Box::from_raw(self.value.as_ptr()) });
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let orphans =
            std::mem::take(&mut *self.orphans.lock().expect("nothing panics under this lock"));
        for orphan in orphans {
            // SAFETY: the publisher and all readers held this by `Arc`; they are gone.
            unsafe { orphan.free() };
        }
        let current = self.published.current.load(Relaxed);
        // SAFETY: it came from `Box::into_raw`, was never retired, and publisher and readers are gone.
        drop(unsafe { Box::from_raw(current) });
    }
}

/// Publishes `initial` as generation 1, to be read by `readers` readers. All of them are online: until a reader is
/// dropped, or passes its quiescent states, nothing that it may still hold is freed.
pub fn domain<T: Send + Sync>(initial: Box<T>, readers: usize) -> (Publisher<T>, Vec<Reader<T>>) {
    const FIRST: u64 = 1;
    let initial = Box::into_raw(initial);
    let shared = Arc::new(Shared {
        published: CachePadded::new(Published {
            current: AtomicPtr::new(initial),
            generation: AtomicU64::new(FIRST),
        }),
        slots: (0..readers)
            .map(|_| CachePadded::new(AtomicU64::new(FIRST)))
            .collect(),
        orphans: Mutex::new(VecDeque::new()),
    });
    let held = NonNull::new(initial).expect("a box is not null");
    let readers = (0..readers)
        .map(|index| Reader {
            shared: Arc::clone(&shared),
            index,
            held,
            seen: FIRST,
        })
        .collect();
    (
        Publisher {
            shared,
            generation: FIRST,
            retired: VecDeque::new(),
        },
        readers,
    )
}

/// The one writer: the control thread.
pub struct Publisher<T> {
    shared: Arc<Shared<T>>,
    generation: u64,
    /// Oldest first.
    retired: VecDeque<Retired<T>>,
}

impl<T: Send + Sync> Publisher<T> {
    /// The value that readers get to see from now on.
    pub fn current(&self) -> &T {
        let current = self.shared.published.current.load(Relaxed);
        // SAFETY: only this publisher replaces `current`, by `&mut self`; until then it is neither retired nor freed.
        unsafe { &*current }
    }

    /// The number of the current value.
    pub fn generation(&self) -> Generation {
        Generation(self.generation)
    }

    /// How many former values wait for readers to leave them.
    pub fn pending(&self) -> usize {
        self.retired.len()
    }

    /// Makes `new` the current value. The old one is freed by a later [`reclaim`](Self::reclaim).
    /// Never waits.
    pub fn publish(&mut self, new: Box<T>) -> Generation {
        let Published {
            current,
            generation,
        } = &*self.shared.published;
        // Release: a reader that loads the pointer sees the value behind it. Only this thread stores it, so
        // load and store may be apart.
        let old = current.load(Relaxed);
        current.store(Box::into_raw(new), Release);
        self.generation += 1;
        // Release: a reader that loads this number sees the pointer above (1).
        generation.store(self.generation, Release);
        let value = NonNull::new(old).expect("a box is not null");
        self.retired.push_back(Retired {
            value,
            by: self.generation,
        });
        self.generation()
    }

    /// Frees the former values that every reader has left behind, in the order of their publication, and says how
    /// many. Never waits.
    pub fn reclaim(&mut self) -> usize {
        if self.retired.is_empty() {
            return 0;
        }
        // Pairs with the fence in `Reader::come_back`: stands between the stores of `publish` and the loads below.
        fence(SeqCst);
        // Acquire: what readers did before they stored these numbers has happened (2).
        let reached = self
            .shared
            .slots
            .iter()
            .map(|slot| slot.load(Acquire))
            .min()
            .unwrap_or(OFFLINE);
        let mut freed = 0;
        while self
            .retired
            .front()
            .is_some_and(|oldest| oldest.by <= reached)
            && let Some(retired) = self.retired.pop_front()
        {
            // SAFETY: every reader has come to the generation that replaced this value, or was offline after that.
            unsafe { retired.free() };
            freed += 1;
        }
        freed
    }

    /// The readers, by their index in what [`domain`] returned, that may still hold a former value.
    pub fn behind(&self) -> Vec<usize> {
        let behind = |slot: &CachePadded<AtomicU64>| slot.load(Relaxed) < self.generation;
        (0..self.shared.slots.len())
            .filter(|&index| behind(&self.shared.slots[index]))
            .collect()
    }
}

impl<T> Drop for Publisher<T> {
    fn drop(&mut self) {
        // Readers may still hold these: the last of them frees everything.
        *self
            .shared
            .orphans
            .lock()
            .expect("nothing panics under this lock") = std::mem::take(&mut self.retired);
    }
}

/// One worker's view of the published value.
///
/// What [`read`](Self::read) returns cannot be kept over a quiescent state:
///
/// ```compile_fail,E0502
/// let (_publisher, mut readers) = weir::rcu::domain(Box::new(1), 1);
/// let value = readers[0].read();
/// readers[0].quiescent();
/// assert_eq!(*value, 1);
/// ```
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    /// Which of the slots is this reader's.
    index: usize,
    /// Of at least the generation that is in the slot.
    held: NonNull<T>,
    /// What is in the slot.
    seen: u64,
}

// SAFETY: a reader gives `&T` to its thread (needs `T: Sync`), and the last one to go drops the values (needs
// `T: Send`). `held` is never freed while this reader's slot says that it may hold it, whatever thread it is on.
unsafe impl<T: Send + Sync> Send for Reader<T> {}

impl<T: Send + Sync> Reader<T> {
    /// The value that was current at the last quiescent state. A plain load.
    #[inline]
    pub fn read(&self) -> &T {
        // SAFETY: the slot holds the generation of `held` or an older one, so it is not freed before the slot moves
        // on, which takes `&mut self`.
        unsafe { self.held.as_ref() }
    }

    /// Says that nothing of what `read` returned is in use any more, and comes to the current value. To be called
    /// once per burst loop: one load, of a line that only changes with a publication.
    #[inline]
    pub fn quiescent(&mut self) {
        // Acquire: (1) at the top.
        let generation = self.shared.published.generation.load(Acquire);
        if generation != self.seen {
            self.catch_up(generation);
        }
    }

    #[cold]
    fn catch_up(&mut self, generation: u64) {
        // Release: (2) at the top.
        self.shared.slots[self.index].store(generation, Release);
        self.seen = generation;
        self.take_current();
    }

    /// Runs `during`, in which this worker sleeps or waits: it holds no value then, and delays no publication.
    /// Comes back to the current value.
    pub fn offline<R>(&mut self, during: impl FnOnce() -> R) -> R {
        /// Comes back also when `during` unwinds.
        struct Away<'a, T: Send + Sync>(&'a mut Reader<T>);

        impl<T: Send + Sync> Drop for Away<'_, T> {
            fn drop(&mut self) {
                self.0.come_back();
            }
        }

        self.leave();
        let _away = Away(self);
        during()
    }

    fn come_back(&mut self) {
        self.seen = self.shared.published.generation.load(Acquire);
        // Release: what was read before going offline stays before this, also for a publisher that never saw OFFLINE.
        self.shared.slots[self.index].store(self.seen, Release);
        // Pairs with the fence in `reclaim`: a publisher that does not see the slot has stored the pointer before.
        fence(SeqCst);
        self.take_current();
    }

    #[inline]
    fn take_current(&mut self) {
        // Acquire: the value behind the pointer is complete.
        let current = self.shared.published.current.load(Acquire);
        self.held = NonNull::new(current).expect("a box is not null");
    }
}

impl<T> Reader<T> {
    fn leave(&self) {
        // Release: (2) at the top.
        self.shared.slots[self.index].store(OFFLINE, Release);
    }
}

/// Offline for ever.
impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        self.leave();
    }
}

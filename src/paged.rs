//! An array that grows while others index it: counters of real servers, written by the workers, for ids that the
//! control thread gives out as it goes.
//!
//! It grows by whole pages that never move, and indexing takes two loads and no lock. What is shared has to be
//! changeable through `&T` (atomics).

use crate::arch::HugeSlice;
use std::sync::OnceLock;

/// Elements of one page: of cache lines, a huge page full.
const PAGE: usize = 32 * 1024;

/// Up to a fixed number of `T`s, of which only the pages in use have memory.
pub struct PagedArray<T> {
    pages: Box<[OnceLock<HugeSlice<T>>]>,
}

impl<T: Default> PagedArray<T> {
    /// An empty array with room for at least `capacity` elements; costs a few bytes for every 32,768 of them plus what
    /// [`ensure`](Self::ensure) adds.
    pub fn new(capacity: usize) -> Self {
        PagedArray {
            pages: (0..capacity.div_ceil(PAGE))
                .map(|_| OnceLock::new())
                .collect(),
        }
    }

    /// How many elements there can be.
    pub fn capacity(&self) -> usize {
        self.pages.len() * PAGE
    }

    /// The element at `index`, if its page is there. Never allocates.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index / PAGE)?.get()?.get(index % PAGE)
    }

    /// Makes sure that there is an element at `index`: adds its page, full of defaults, if it was not there.
    /// None beyond the capacity.
    pub fn ensure(&self, index: usize) -> Option<&T> {
        let page = self.pages.get(index / PAGE)?;
        page.get_or_init(|| HugeSlice::from_fn(PAGE, T::default))
            .get(index % PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[test]
    fn only_ensured_pages_are_there() {
        let array = PagedArray::<AtomicU64>::new(3 * PAGE);
        assert!(array.get(PAGE).is_none());
        array.ensure(PAGE + 5).unwrap();
        assert!(array.get(PAGE - 1).is_none());
        assert!(array.get(PAGE).is_some());
        assert!(array.get(2 * PAGE - 1).is_some());
        assert!(array.get(2 * PAGE).is_none());
    }

    #[test]
    fn capacity_is_rounded_up_to_pages_and_is_the_limit() {
        let array = PagedArray::<AtomicU64>::new(PAGE + 1);
        assert_eq!(array.capacity(), 2 * PAGE);
        assert!(array.ensure(2 * PAGE - 1).is_some());
        assert!(array.ensure(2 * PAGE).is_none());
        assert!(array.get(usize::MAX).is_none());
    }

    #[test]
    fn elements_keep_their_place_and_value_while_the_array_grows() {
        let array = PagedArray::<AtomicU64>::new(64 * PAGE);
        let first = array.ensure(7).unwrap();
        first.store(42, Relaxed);
        (0..array.capacity()).for_each(|index| assert!(array.ensure(index).is_some()));
        assert!(std::ptr::eq(first, array.get(7).unwrap()));
        assert_eq!(first.load(Relaxed), 42);
        assert_eq!(
            (0..array.capacity())
                .map(|index| array.get(index).unwrap().load(Relaxed))
                .sum::<u64>(),
            42
        );
    }

    #[test]
    fn workers_count_while_the_control_thread_adds_elements() {
        let array = PagedArray::<AtomicU64>::new(16 * PAGE);
        std::thread::scope(|scope| {
            let counted = scope.spawn(|| {
                let mut counted = 0;
                while counted < array.capacity() {
                    if let Some(counter) = array.get(counted) {
                        counter.fetch_add(1, Relaxed);
                        counted += 1;
                    } else {
                        std::thread::yield_now();
                    }
                }
            });
            (0..array.capacity())
                .step_by(PAGE)
                .for_each(|index| assert!(array.ensure(index).is_some()));
            counted.join().unwrap();
        });
        assert!((0..array.capacity()).all(|index| array.get(index).unwrap().load(Relaxed) == 1));
    }
}

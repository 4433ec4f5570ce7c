//! What the machine offers beyond portable Rust, behind a safe API: prefetching, memory in huge pages.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Starts to bring the cache line of `value` closer. Never faults, whatever the address.
#[inline(always)]
pub fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program can see, and `value` is a valid address anyway.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// As [`prefetch`], of every cache line of `value`.
#[inline(always)]
pub fn prefetch_all<T>(value: &T) {
    for line in 0..size_of::<T>().div_ceil(64) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch reads nothing that the program can see, and never faults, whatever the address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(
                std::ptr::from_ref(value)
                    .cast::<i8>()
                    .wrapping_add(line * 64),
            );
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}

/// A bit for each of the eight words that equals `word`, the first one's lowest.
#[inline(always)]
pub fn equal_words(words: &[u16; 8], word: u16) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has SSE2, and `words` are the 16 bytes that are loaded, unaligned.
    unsafe {
        use std::arch::x86_64::{
            _mm_cmpeq_epi16, _mm_loadu_si128, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16,
            _mm_setzero_si128,
        };
        let words = _mm_loadu_si128(words.as_ptr().cast());
        let equal = _mm_cmpeq_epi16(words, _mm_set1_epi16(word as i16));
        // One byte for each word, then one bit for each byte.
        _mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128())) as u32
    }
    #[cfg(not(target_arch = "x86_64"))]
    words
        .iter()
        .enumerate()
        .fold(0, |mask, (n, &each)| mask | u32::from(each == word) << n)
}

/// The size and alignment of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// A fixed array for large tables: aligned to huge pages, which the kernel is asked to use (`madvise`), and touched
/// throughout from the start. A lookup in it then misses the TLB seldom, and never faults.
pub struct HugeSlice<T> {
    start: NonNull<T>,
    len: usize,
    layout: Layout,
}

// SAFETY: it owns its elements, as a boxed slice does.
unsafe impl<T: Send> Send for HugeSlice<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for HugeSlice<T> {}

impl<T: Copy> HugeSlice<T> {
    /// `len` times `value`.
    pub fn new(value: T, len: usize) -> Self {
        Self::from_fn(len, || value)
    }
}

impl<T> HugeSlice<T> {
    /// `len` values that `value` makes.
    pub fn from_fn(len: usize, mut value: impl FnMut() -> T) -> Self {
        assert!(len > 0 && size_of::<T>() > 0, "a table has a size");
        let (Ok(layout), small) = (Layout::array::<T>(len), Layout::new::<T>()) else {
            panic!("a table of {len} entries is larger than the address space")
        };
        // Small ones are not worth a huge page.
        let align = if layout.size() < HUGE_PAGE {
            small.align()
        } else {
            HUGE_PAGE
        };
        let layout = layout
            .align_to(align)
            .map_or(layout, |aligned| aligned.pad_to_align());
        // SAFETY: the layout's size is not zero, as asserted above.
        let memory = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(memory.cast::<T>()) else {
            handle_alloc_error(layout)
        };
        if align == HUGE_PAGE {
            // SAFETY: the range is our own allocation, whole; the advice changes nothing that a program can see.
            // Where it is refused, small pages serve.
            let _ = unsafe {
                rustix::mm::madvise(
                    memory.cast(),
                    layout.size(),
                    rustix::mm::Advice::LinuxHugepage,
                )
            };
        }
        for n in 0..len {
            // SAFETY: `n` is below the number of elements that the allocation has room for.
            unsafe { start.add(n).write(value()) };
        }
        HugeSlice { start, len, layout }
    }
}

impl<T> Deref for HugeSlice<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `from_fn` wrote `len` elements there, and they live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for HugeSlice<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `&mut self` makes it the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for HugeSlice<T> {
    fn drop(&mut self) {
        // SAFETY: `from_fn` wrote every element and allocated the memory with this layout; neither is used again.
        unsafe {
            std::ptr::drop_in_place(&raw mut **self);
            dealloc(self.start.as_ptr().cast(), self.layout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_words_are_found_at_their_places() {
        let words = [7, 0, 0x8000, 0xffff, 7, 0x7fff, 1, 7];
        assert_eq!(equal_words(&words, 7), 0b1001_0001);
        assert_eq!(equal_words(&words, 0x8000), 0b100);
        assert_eq!(equal_words(&words, 0xffff), 0b1000);
        assert_eq!(equal_words(&words, 9), 0);
    }

    #[test]
    fn a_huge_slice_is_an_array_of_its_value_large_or_small() {
        for len in [1, 1000, 1 << 20] {
            let mut slice = HugeSlice::new(7u64, len);
            slice[len - 1] = 8;
            assert_eq!(slice.len(), len);
            assert!(slice[..len - 1].iter().all(|&value| value == 7));
            if len == 1 << 20 {
                assert_eq!(slice.as_ptr().addr() % HUGE_PAGE, 0);
            }
        }
    }
}

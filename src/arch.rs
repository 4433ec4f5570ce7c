//! What the machine offers beyond portable Rust, behind a safe API: prefetching, memory in huge pages.
#![allow(unsafe_code)]

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use std::alloc::{Layout, alloc, dealloc};
use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Has every descriptor of the process but the standard ones closed in programs that it starts from now on.
///
/// # Errors
///
/// If the kernel cannot (before Linux 5.11).
pub(crate) fn close_at_exec() -> std::io::Result<()> {
    // SAFETY: it marks descriptors, and closes none.
    let done = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
    match done {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Starts to bring the cache line of `value` closer. Never faults, whatever the address.
#[inline(always)]
pub(crate) fn prefetch<T: ?Sized>(value: &T) {
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
pub(crate) fn prefetch_all<T>(value: &T) {
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

/// Says that the branch it stands in is seldom taken (as `std::hint::cold_path` of newer compilers).
#[cold]
#[inline(always)]
pub(crate) const fn cold_path() {}

/// A bit for each of the sixteen bytes that equals `byte`, the first one's lowest.
#[inline(always)]
pub(crate) fn equal_bytes(bytes: &[u8; 16], byte: u8) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has SSE2, and `bytes` are the 16 bytes that are loaded, unaligned.
    unsafe {
        use std::arch::x86_64::{
            _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8,
        };
        let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
        _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte as i8))) as u32
    }
    #[cfg(not(target_arch = "x86_64"))]
    bytes
        .iter()
        .enumerate()
        .fold(0, |mask, (n, &each)| mask | u32::from(each == byte) << n)
}

/// Makes large buffers mappings of their own, whatever was freed before: what is read once, such as a file, then leaves no
/// hole among what stays.
///
/// glibc then no longer raises the size up to which it keeps what is freed at the end of a heap, 128 KiB. Each answer of
/// the API would take its memory from the kernel and give it back, for which the kernel interrupts every worker.
pub(crate) fn map_large_buffers() {
    #[cfg(target_env = "gnu")]
    // SAFETY: settings of the allocator, at a time when no other thread changes one.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 32 << 20);
    }
}

/// Gives memory that was freed back to the kernel, as far as its pages are free as a whole.
pub(crate) fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches only memory that the allocator has for itself.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Memory, or address space for it, that the kernel refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel refuses {} MiB of memory", bytes.div_ceil(1 << 20))]
pub struct NoMemory {
    pub bytes: usize,
}

/// The size and alignment of a huge page.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// A fixed array for large tables: aligned to huge pages, which the kernel is asked to use (`madvise`), and touched
/// throughout from the start. A lookup in it then misses the TLB seldom, and never faults.
pub(crate) struct HugeSlice<T> {
    start: NonNull<T>,
    len: usize,
    memory: Memory,
}

/// Where its memory is from.
enum Memory {
    Allocated(Layout),
    /// So many bytes of a file in memory, which outlives the process.
    Mapped(usize),
}

// SAFETY: it owns its elements, as a boxed slice does.
unsafe impl<T: Send> Send for HugeSlice<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for HugeSlice<T> {}

impl<T: Copy> HugeSlice<T> {
    /// `len` times `value`, at least once.
    ///
    /// # Errors
    /// Where the kernel refuses the memory. What it grants and cannot back is not noticed here: the first touch of it
    /// ends the process.
    pub(crate) fn new(value: T, len: usize) -> Result<Self, NoMemory> {
        assert!(len > 0 && size_of::<T>() > 0, "a table has a size");
        let refused = |bytes| NoMemory { bytes };
        let layout =
            Layout::array::<T>(len).map_err(|_| refused(len.saturating_mul(size_of::<T>())))?;
        let small = Layout::new::<T>();
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
        let start = NonNull::new(memory.cast::<T>()).ok_or(refused(layout.size()))?;
        if align == HUGE_PAGE {
            // SAFETY: the range is our own allocation, whole; the advice changes nothing that a program can see.
            // Where it is refused, small pages serve.
            let _ = unsafe { madvise(memory.cast(), layout.size(), Advice::LinuxHugepage) };
        }
        for n in 0..len {
            // SAFETY: `n` is below the number of elements that the allocation has room for.
            unsafe { start.add(n).write(value) };
        }
        Ok(HugeSlice {
            start,
            len,
            memory: Memory::Allocated(layout),
        })
    }

    /// The same as a part of a file in memory (tmpfs, hugetlbfs), beginning at `at`, a multiple of [`HUGE_PAGE`]: what is written
    /// there stays when the process ends, however it ends. The file is to be of this process alone, so that no other changes or
    /// shortens it; it takes a whole number of huge pages.
    ///
    /// # Errors
    /// Where the file system has no room, or the kernel refuses the address space.
    pub(crate) fn in_file(value: T, len: usize, file: &File, at: u64) -> std::io::Result<Self> {
        assert!(len > 0 && size_of::<T>() > 0, "a table has a size");
        let bytes = len.saturating_mul(size_of::<T>());
        let bytes = bytes.saturating_add(HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
        // Else the first touch of a page that there is no room for would end the process.
        fallocate(file, FallocateFlags::empty(), at, bytes as u64)?;
        // SAFETY: a new mapping, placed by the kernel, harms no other.
        let memory = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                at,
            )
        }?;
        let start = NonNull::new(memory.cast::<T>()).expect("the kernel maps nothing at 0");
        // SAFETY: it is the mapping just made, whole. Where the advice is refused, small pages serve.
        let _ = unsafe { madvise(memory, bytes, Advice::LinuxHugepage) };
        for n in 0..len {
            // SAFETY: `n` is below the number of elements that the mapping has room for, and a page is aligned for all of them.
            unsafe { start.add(n).write(value) };
        }
        Ok(HugeSlice {
            start,
            len,
            memory: Memory::Mapped(bytes),
        })
    }
}

impl HugeSlice<u64> {
    /// For several threads. There is no other way to these numbers while it is in use.
    #[inline]
    pub(crate) fn atomics(&self) -> &[AtomicU64] {
        // SAFETY: an `AtomicU64` has the size and alignment of a `u64`, which the caller borrows for reading only; the memory is
        // its own, and is reached by its raw pointer.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len) }
    }
}

impl<T> Deref for HugeSlice<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `new` wrote `len` elements there, and they live as long as `self`.
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
        // `T` is `Copy`: its elements need no drop.
        match self.memory {
            // SAFETY: `new` allocated the memory with this layout, and it is not used again.
            Memory::Allocated(layout) => unsafe { dealloc(self.start.as_ptr().cast(), layout) },
            Memory::Mapped(bytes) => {
                // SAFETY: it is the whole of the mapping that `in_file` made, and none of it is used again.
                let _ = unsafe { munmap(self.start.as_ptr().cast(), bytes) };
            }
        }
    }
}

/// An array that grows while others index it, and never moves: address space for all it may hold is reserved at the
/// start, memory is used for what it holds. Indexing costs one comparison and no lock. What is shared has to be
/// changeable through `&T` (atomics).
pub struct GrowingArray<T> {
    /// Where the address space begins; the elements begin at its first huge page.
    mapping: *mut std::ffi::c_void,
    start: NonNull<T>,
    capacity: usize,
    /// Elements up to here are there.
    len: AtomicUsize,
    /// Elements up to here were asked for.
    wanted: AtomicUsize,
    growing: Mutex<()>,
}

// SAFETY: it owns its elements, as a vector does.
unsafe impl<T: Send> Send for GrowingArray<T> {}
// SAFETY: as above; it grows behind a lock, where no reference leads yet.
unsafe impl<T: Send + Sync> Sync for GrowingArray<T> {}

impl<T: Default> GrowingArray<T> {
    /// Elements that are added at a time: of cache lines, a huge page full.
    const STEP: usize = 32 * 1024;

    /// An empty array with address space for `capacity` elements, rounded up.
    ///
    /// # Errors
    /// Where the process may not have the address space (`ulimit -v`).
    pub fn new(capacity: usize) -> Result<Self, NoMemory> {
        assert!(size_of::<T>() > 0, "an element has a size");
        let capacity = capacity.next_multiple_of(Self::STEP);
        // With room to align it.
        let size = capacity * size_of::<T>() + HUGE_PAGE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new private mapping, placed by the kernel, harms no other.
        let mapping = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        };
        let mapping = mapping.map_err(|_| NoMemory { bytes: size })?;
        let start = mapping.map_addr(|address| address.next_multiple_of(HUGE_PAGE));
        let start = NonNull::new(start.cast::<T>()).expect("the kernel maps nothing at 0");
        // SAFETY: `capacity` elements from the aligned start on are within the mapping. Where the advice is refused,
        // small pages serve.
        let _ = unsafe {
            madvise(
                start.as_ptr().cast(),
                capacity * size_of::<T>(),
                Advice::LinuxHugepage,
            )
        };
        Ok(GrowingArray {
            mapping,
            start,
            capacity,
            len: AtomicUsize::new(0),
            wanted: AtomicUsize::new(0),
            growing: Mutex::new(()),
        })
    }

    /// How many elements there can be.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many elements were asked for: those at higher indices are there, perhaps, and not used.
    #[inline(always)]
    pub fn used(&self) -> usize {
        self.wanted.load(Ordering::Relaxed)
    }

    /// The element at `index`, if it is there. Never allocates.
    #[inline(always)]
    pub fn get(&self, index: usize) -> Option<&T> {
        // Acquire: a reader that sees the length sees the elements.
        if index >= self.len.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: elements below the length were written before it was, and stay until `self` is dropped.
        Some(unsafe { self.start.add(index).as_ref() })
    }

    /// Makes sure that there is an element at `index`: adds defaults up to it and some more. None beyond the capacity.
    pub fn ensure(&self, index: usize) -> Option<&T> {
        if index >= self.capacity {
            return None;
        }
        self.wanted.fetch_max(index + 1, Ordering::Relaxed);
        if let Some(there) = self.get(index) {
            return Some(there);
        }
        let growing = self.growing.lock();
        let len = self.len.load(Ordering::Relaxed);
        if index >= len {
            let new = (index + 1).next_multiple_of(Self::STEP);
            for n in len..new {
                // SAFETY: `n` is below the capacity, and no reference leads to what is above the length.
                unsafe { self.start.add(n).write(T::default()) };
            }
            self.len.store(new, Ordering::Release);
        }
        drop(growing);
        self.get(index)
    }
}

impl<T> Drop for GrowingArray<T> {
    fn drop(&mut self) {
        let len = *self.len.get_mut();
        // SAFETY: the elements up to the length were written and are not used again.
        unsafe { std::ptr::slice_from_raw_parts_mut(self.start.as_ptr(), len).drop_in_place() };
        // SAFETY: it is the whole of the mapping that `new` made, and none of its memory is used again.
        let _ = unsafe { munmap(self.mapping, self.capacity * size_of::<T>() + HUGE_PAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[test]
    fn equal_bytes_are_found_at_their_places() {
        let bytes = [7, 0, 0x80, 0xff, 7, 0x7f, 1, 7, 2, 2, 2, 2, 2, 2, 2, 7];
        assert_eq!(equal_bytes(&bytes, 7), 0b1000_0000_1001_0001);
        assert_eq!(equal_bytes(&bytes, 0x80), 0b100);
        assert_eq!(equal_bytes(&bytes, 0xff), 0b1000);
        assert_eq!(equal_bytes(&bytes, 9), 0);
    }

    #[test]
    fn a_huge_slice_is_an_array_of_its_value_large_or_small() {
        for len in [1, 1000, 1 << 20] {
            let mut slice = HugeSlice::new(7u64, len).unwrap();
            slice[len - 1] = 8;
            assert_eq!(slice.len(), len);
            assert!(slice[..len - 1].iter().all(|&value| value == 7));
            if len == 1 << 20 {
                assert_eq!(slice.as_ptr().addr() % HUGE_PAGE, 0);
            }
        }
    }

    #[test]
    fn memory_that_no_machine_has_is_an_error() {
        const BYTES: usize = 1 << 50;
        let refused = HugeSlice::new(0u64, BYTES / 8).map(|_| ()).unwrap_err();
        assert_eq!(refused, NoMemory { bytes: BYTES });
        assert_eq!(
            refused.to_string(),
            "the kernel refuses 1073741824 MiB of memory"
        );
        // Larger than the address space.
        assert!(HugeSlice::new(0u64, usize::MAX).is_err());
        assert!(GrowingArray::<AtomicU64>::new(BYTES).is_err());
    }

    const STEP: usize = GrowingArray::<AtomicU64>::STEP;

    #[test]
    fn a_growing_array_has_what_was_ensured_and_ends_at_its_capacity() {
        let array = GrowingArray::<AtomicU64>::new(STEP + 1).unwrap();
        assert_eq!(array.capacity(), 2 * STEP);
        assert!(array.get(0).is_none());
        array.ensure(5).unwrap();
        assert!(array.get(STEP - 1).is_some() && array.get(STEP).is_none());
        assert!(array.ensure(2 * STEP - 1).is_some());
        assert!(array.ensure(2 * STEP).is_none());
        assert!(array.get(usize::MAX).is_none());
    }

    #[test]
    fn elements_keep_their_place_and_value_while_the_array_grows() {
        let array = GrowingArray::<AtomicU64>::new(64 * STEP).unwrap();
        let first = array.ensure(7).unwrap();
        first.store(42, Relaxed);
        (0..array.capacity()).for_each(|index| assert!(array.ensure(index).is_some()));
        assert!(std::ptr::eq(first, array.get(7).unwrap()));
        let all = (0..array.capacity()).map(|index| array.get(index).unwrap().load(Relaxed));
        assert_eq!(all.sum::<u64>(), 42);
    }

    #[test]
    fn workers_count_while_the_control_thread_adds_elements() {
        let array = GrowingArray::<AtomicU64>::new(16 * STEP).unwrap();
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
                .step_by(STEP)
                .for_each(|index| assert!(array.ensure(index).is_some()));
            counted.join().unwrap();
        });
        assert!((0..array.capacity()).all(|index| array.get(index).unwrap().load(Relaxed) == 1));
    }

    #[test]
    fn a_growing_array_drops_each_element_once() {
        use std::sync::Arc;
        #[derive(Default)]
        struct Held(Mutex<Option<Arc<()>>>);
        let counted = Arc::new(());
        let array = GrowingArray::<Held>::new(10).unwrap();
        *array.ensure(3).unwrap().0.lock() = Some(counted.clone());
        assert_eq!(Arc::strong_count(&counted), 2);
        drop(array);
        assert_eq!(Arc::strong_count(&counted), 1);
    }
}

//! One frame in an mbuf, owned.

use crate::net::TagPriorities;
use crate::packet::{Errand, Head, Packet};
use crate::units::PortId;
use arrayvec::ArrayVec;
use dpdk_sys::{mbuf, rte_mbuf};
use std::ptr::NonNull;

/// An mbuf that is this process's alone: from a receive burst or a pool until it is sent or dropped.
///
/// It is the pointer that DPDK knows, so an array of these is what a burst call fills or takes.
#[derive(Debug)]
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an Mbuf is the only owner of its buffer, and a mempool takes frees from every thread.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// # Safety
    /// `mbuf` is live, initialised, with one reference, and the caller gives it away.
    pub(super) unsafe fn from_raw(mbuf: NonNull<rte_mbuf>) -> Mbuf {
        Mbuf(mbuf)
    }

    fn raw(&self) -> *mut rte_mbuf {
        self.0.as_ptr()
    }

    /// Says which port it came in by, or is to leave by.
    pub fn set_port(&mut self, port: PortId) {
        // SAFETY: `self` owns a live mbuf.
        unsafe { mbuf::set_port(self.raw(), u16::from(port.0)) }
    }

    /// The priority and the identifier of the VLAN tag that the device has taken off the received frame, if it has.
    #[inline]
    pub fn stripped_tag(&self) -> Option<u16> {
        // SAFETY: `self` owns a live mbuf.
        unsafe {
            let stripped = mbuf::ol_flags(self.raw()) & dpdk_sys::WEIR_RX_VLAN_STRIPPED != 0;
            stripped.then(|| mbuf::vlan_tci(self.raw()))
        }
    }

    /// Has the device put an 802.1Q tag on the frame as it sends it.
    #[inline]
    pub fn insert_tag(&mut self, control: u16) {
        // SAFETY: `self` owns a live mbuf.
        unsafe {
            let flags = mbuf::ol_flags(self.raw()) | dpdk_sys::WEIR_TX_VLAN;
            mbuf::set_ol_flags(self.raw(), flags);
            mbuf::set_vlan_tci(self.raw(), control);
        }
    }

    /// Whether the whole frame is in one segment. A port receives every frame up to its MTU that way; of a longer
    /// one that a driver chained all the same, [`Packet::data`] shows the first segment.
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        // SAFETY: `self` owns a live mbuf.
        unsafe { mbuf::nb_segs(self.raw()) == 1 }
    }

    /// The frame's length in bytes, all segments together.
    #[inline]
    pub fn frame_len(&self) -> usize {
        // SAFETY: `self` owns a live mbuf.
        unsafe { mbuf::pkt_len(self.raw()) as usize }
    }

    /// Frees them all in one call.
    pub(super) fn free_all<const N: usize>(frames: &mut ArrayVec<Mbuf, N>) {
        let count = frames.len();
        // SAFETY: the array's elements are pointers to live mbufs, and forgotten before they are freed.
        unsafe {
            frames.set_len(0);
            dpdk_sys::rte_pktmbuf_free_bulk(frames.as_mut_ptr().cast(), count as u32);
        }
    }

    /// Where the frame starts.
    #[inline]
    fn start(&self) -> *mut u8 {
        // SAFETY: `self` owns a live mbuf, and data_off lies within its buffer.
        unsafe { mbuf::buf_addr(self.raw()).add(usize::from(mbuf::data_off(self.raw()))) }
    }

    #[inline]
    fn len(&self) -> usize {
        // SAFETY: `self` owns a live mbuf.
        unsafe { usize::from(mbuf::data_len(self.raw())) }
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `self` owns a live mbuf and is never used again.
        unsafe { dpdk_sys::rte_pktmbuf_free(self.raw()) }
    }
}

impl Packet for Mbuf {
    #[inline]
    fn data(&self) -> &[u8] {
        // SAFETY: DPDK keeps data_off + data_len within the buffer, whose bytes were initialised when its pool's
        // memory was mapped; only `self` owns it, and is borrowed for as long.
        unsafe { std::slice::from_raw_parts(self.start(), self.len()) }
    }

    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data`, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len()) }
    }

    #[inline]
    fn port(&self) -> PortId {
        // SAFETY: `self` owns a live mbuf. The queue or pool that it came from wrote a PortId there.
        PortId(unsafe { mbuf::port(self.raw()) } as u8)
    }

    #[inline]
    fn resize(&mut self, len: usize) -> bool {
        // SAFETY: `self` owns a live mbuf; the new length is checked against the room behind data_off.
        unsafe {
            let room = mbuf::buf_len(self.raw()).saturating_sub(mbuf::data_off(self.raw()));
            if len > usize::from(room) || !self.is_contiguous() {
                return false;
            }
            mbuf::set_data_len(self.raw(), len as u16);
            mbuf::set_pkt_len(self.raw(), len as u32);
        }
        true
    }

    #[inline]
    fn grow_front(&mut self, count: usize) -> bool {
        // SAFETY: `self` owns a live mbuf; it grows into the headroom, which ends at data_off.
        unsafe {
            let headroom = mbuf::data_off(self.raw());
            if count > usize::from(headroom) {
                return false;
            }
            let count = count as u16;
            mbuf::set_data_off(self.raw(), headroom - count);
            mbuf::set_data_len(self.raw(), mbuf::data_len(self.raw()) + count);
            mbuf::set_pkt_len(self.raw(), mbuf::pkt_len(self.raw()) + u32::from(count));
        }
        true
    }

    #[inline]
    fn trim_front(&mut self, count: usize) -> bool {
        // SAFETY: `self` owns a live mbuf, and the first segment is longer than what goes.
        unsafe {
            let length = mbuf::data_len(self.raw());
            if count >= usize::from(length) {
                return false;
            }
            let count = count as u16;
            mbuf::set_data_off(self.raw(), mbuf::data_off(self.raw()) + count);
            mbuf::set_data_len(self.raw(), length - count);
            mbuf::set_pkt_len(self.raw(), mbuf::pkt_len(self.raw()) - u32::from(count));
        }
        true
    }

    // The RSS hash has told its queue by now, and nothing on the way out reads it: its place holds the note.
    #[inline]
    fn set_errand(&mut self, errand: Errand) {
        // SAFETY: `self` owns a live mbuf.
        unsafe { mbuf::set_rss(self.raw(), errand.number()) }
    }

    #[inline]
    fn errand(&self) -> Errand {
        // SAFETY: `self` owns a live mbuf.
        Errand::from_number(unsafe { mbuf::rss(self.raw()) })
    }

    // Where a driver notes what a flow rule or the outer of two stripped tags says: weir asks for neither.
    #[inline]
    fn set_head(&mut self, head: Head) {
        let (ports, rest) = head.numbers();
        // SAFETY: `self` owns a live mbuf.
        unsafe {
            mbuf::set_fdir_hi(self.raw(), ports);
            mbuf::set_vlan_tci_outer(self.raw(), rest);
        }
    }

    #[inline]
    fn head(&self) -> Head {
        // SAFETY: `self` owns a live mbuf.
        let (ports, rest) =
            unsafe { (mbuf::fdir_hi(self.raw()), mbuf::vlan_tci_outer(self.raw())) };
        Head::from_numbers(ports, rest)
    }

    // Where a driver notes the tag of a received frame, with the flag that says so: the outer priority at its place, the inner
    // one where the identifier was, which nothing reads any more.
    #[inline]
    fn set_priorities(&mut self, priorities: TagPriorities) {
        let TagPriorities { outer, inner } = priorities;
        let note = u16::from(outer) << 13 | u16::from(inner & 7);
        // SAFETY: `self` owns a live mbuf.
        unsafe {
            let flags = mbuf::ol_flags(self.raw()) | dpdk_sys::WEIR_RX_VLAN;
            mbuf::set_ol_flags(self.raw(), flags);
            mbuf::set_vlan_tci(self.raw(), note);
        }
    }

    #[inline]
    fn priorities(&self) -> TagPriorities {
        // SAFETY: `self` owns a live mbuf.
        let (flags, note) = unsafe { (mbuf::ol_flags(self.raw()), mbuf::vlan_tci(self.raw())) };
        match flags & dpdk_sys::WEIR_RX_VLAN {
            0 => TagPriorities::default(),
            _ => TagPriorities {
                outer: (note >> 13) as u8,
                inner: (note & 7) as u8,
            },
        }
    }

    #[inline]
    fn prefetch(&self) {
        // SAFETY: a prefetch is a hint: it does not access memory.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.start().cast_const().cast());
        }
    }
}

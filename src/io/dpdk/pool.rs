//! Mempools: where a port's mbufs come from and return to.

use super::{Eal, Error, Mbuf, error};
use crate::packet::Packet;
use crate::units::PortId;
use dpdk_sys::{RTE_MEMPOOL_CACHE_MAX_SIZE, RTE_PKTMBUF_HEADROOM, rte_mempool};
use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// What an mbuf takes beside its data: struct rte_mbuf, the mempool's header, and the padding between them.
const MBUF_OVERHEAD: usize = 256;
/// Ethernet header, two VLAN tags and FCS.
const FRAME_OVERHEAD: usize = 14 + 8 + 4;
/// Many NICs have receive buffers of whole kilobytes (82599: SRRCTL.BSIZEPKT), and would spread a frame over two.
const GRANULE: usize = 1024;
/// The data room that drivers expect at least (RTE_MBUF_DEFAULT_DATAROOM).
const MIN_DATA_ROOM: usize = 2048;

/// A page of ordinary memory.
const PAGE: usize = 4096;

/// A pool of mbufs on one NUMA node, with a cache for each lcore. Lives as long as the process.
#[derive(Clone, Copy, Debug)]
pub struct MbufPool {
    pool: NonNull<rte_mempool>,
    size: usize,
    frame_room: usize,
}

// SAFETY: DPDK's mempools are made for many threads; the rest is plain data.
unsafe impl Send for MbufPool {}
// SAFETY: as above.
unsafe impl Sync for MbufPool {}

impl MbufPool {
    /// How many free mbufs each lcore may keep aside: a pool must be larger than what lies in its rings by
    /// 1.5 times this for each lcore.
    pub const CACHE: usize = 256;

    /// The largest MTU whose frames fit one mbuf.
    pub const MAX_MTU: u16 = u16::MAX - RTE_PKTMBUF_HEADROOM as u16 - FRAME_OVERHEAD as u16;

    /// A pool of `mbufs` mbufs for frames of ports with an MTU up to `mtu`, on a NUMA node (-1: on any).
    pub fn new(eal: &Eal, mbufs: usize, mtu: u16, socket: i32) -> Result<MbufPool, Error> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        const { assert!(Self::CACHE <= RTE_MEMPOOL_CACHE_MAX_SIZE as usize) };

        // rte_mempool_create wants a cache of at most two thirds of the pool.
        let cache = Self::CACHE.min(mbufs / 2) as u32;
        let frame_room = frame_room(mtu);
        let data_room = (frame_room + RTE_PKTMBUF_HEADROOM as usize) as u16;
        let name = CString::new(format!(
            "weir_mbufs_{}",
            MADE.fetch_add(1, Ordering::Relaxed)
        ))
        .expect("a name without zero bytes");
        // SAFETY: the EAL runs; `name` is a C string that is copied; there is no private area.
        let pool = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(
                name.as_ptr(),
                mbufs as u32,
                cache,
                0,
                data_room,
                socket,
            )
        };
        let pool = NonNull::new(pool).ok_or_else(|| Error::Pool {
            mbufs,
            socket,
            why: error::last_reason(),
        })?;
        let pool = MbufPool {
            pool,
            size: mbufs,
            frame_room,
        };
        if !eal.hugepages() {
            pool.touch();
        }
        Ok(pool)
    }

    /// Writes to every page. Ordinary memory is given by the kernel when it is first written, and the pool has written the
    /// head of each mbuf only, where a frame of a large MTU lies on several pages.
    fn touch(&self) {
        let next = || self.alloc(PortId(0));
        // All of them at once: one that is freed would be the next to come again.
        let mut mbufs: Vec<Mbuf> = std::iter::from_fn(next).collect();
        for mbuf in &mut mbufs {
            mbuf.resize(self.frame_room);
            let pages = mbuf.data_mut().chunks_mut(PAGE);
            pages.for_each(|page| page[0] = 0);
        }
    }

    /// The memory that a pool of `mbufs` takes, in bytes. In ordinary memory no mbuf crosses the edge of a page, since the
    /// next one may be anywhere in the machine (`rte_mempool_op_calc_mem_size_helper`); hugepages are counted as whole.
    pub fn bytes(mbufs: usize, mtu: u16, hugepages: bool) -> usize {
        let each = frame_room(mtu) + RTE_PKTMBUF_HEADROOM as usize + MBUF_OVERHEAD;
        match PAGE / each {
            _ if hugepages => mbufs * each,
            0 => mbufs * each.next_multiple_of(PAGE),
            in_page => mbufs.div_ceil(in_page) * PAGE,
        }
    }

    /// An empty frame that is to leave by, or belongs to, `port`; none when every mbuf is in use.
    #[inline]
    pub fn alloc(&self, port: PortId) -> Option<Mbuf> {
        // SAFETY: the pool lives for ever.
        let mbuf = NonNull::new(unsafe { dpdk_sys::rte_pktmbuf_alloc(self.raw()) })?;
        // SAFETY: a fresh mbuf, reset, with one reference: ours.
        let mut mbuf = unsafe { Mbuf::from_raw(mbuf) };
        mbuf.set_port(port);
        Some(mbuf)
    }

    /// How many mbufs it was made with.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many mbufs are free, those in the lcores' caches included. Slow.
    pub fn available(&self) -> usize {
        // SAFETY: the pool lives for ever.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.raw()) as usize }
    }

    /// The longest frame that one mbuf holds, in bytes.
    pub(super) fn frame_room(&self) -> usize {
        self.frame_room
    }

    pub(super) fn raw(&self) -> *mut rte_mempool {
        self.pool.as_ptr()
    }
}

/// The longest frame, tags and FCS included, of a port with this MTU.
pub(super) fn longest_frame(mtu: u16) -> usize {
    usize::from(mtu) + FRAME_OVERHEAD
}

fn frame_room(mtu: u16) -> usize {
    let most = usize::from(u16::MAX) - RTE_PKTMBUF_HEADROOM as usize;
    longest_frame(mtu)
        .next_multiple_of(GRANULE)
        .max(MIN_DATA_ROOM)
        .min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_the_mtu_fits_one_mbuf() {
        for mtu in [68, 1500, 2022, 2023, 9000, 16_000, MbufPool::MAX_MTU] {
            assert!(frame_room(mtu) >= usize::from(mtu) + 26, "mtu {mtu}");
        }
        assert_eq!((frame_room(1500), frame_room(9000)), (2048, 9216));
        assert!(frame_room(u16::MAX) + RTE_PKTMBUF_HEADROOM as usize <= usize::from(u16::MAX));
    }
}

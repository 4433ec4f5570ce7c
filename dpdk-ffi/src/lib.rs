//! Raw bindings to DPDK: what bindgen makes of `wrapper.h`, and in-place access to an mbuf's fields.
//!
//! Nothing here is clever and nothing is safe: `weir::io::dpdk` is where the proofs are. DPDK's static
//! inlines (`rte_eth_rx_burst`, …) are C functions here, compiled by `build.rs`; one call serves a burst.

#![allow(unsafe_code)]

#[allow(
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    dead_code
)]
#[allow(clippy::all, clippy::undocumented_unsafe_blocks)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;

/// The fields of an mbuf, read and written in place; their offsets come from the C compiler.
///
/// Safety, for every function: `mbuf` points to a live mbuf that only the caller uses.
pub mod mbuf {
    use super::*;

    macro_rules! field {
        ($get:ident, $set:ident, $type:ty, $offset:ident) => {
            field!($get, $type, $offset);

            /// # Safety
            /// See the module.
            #[inline(always)]
            pub unsafe fn $set(mbuf: *mut rte_mbuf, value: $type) {
                // SAFETY: the caller's mbuf is live and unshared, and C lays a `$type` out at this offset.
                unsafe { mbuf.byte_add($offset as usize).cast::<$type>().write(value) }
            }
        };
        ($get:ident, $type:ty, $offset:ident) => {
            /// # Safety
            /// See the module.
            #[inline(always)]
            pub unsafe fn $get(mbuf: *const rte_mbuf) -> $type {
                // SAFETY: the caller's mbuf is live and unshared, and C lays a `$type` out at this offset.
                unsafe { mbuf.byte_add($offset as usize).cast::<$type>().read() }
            }
        };
    }

    field!(buf_addr, *mut u8, WEIR_MBUF_BUF_ADDR);
    field!(buf_len, u16, WEIR_MBUF_BUF_LEN);
    field!(data_off, set_data_off, u16, WEIR_MBUF_DATA_OFF);
    field!(data_len, set_data_len, u16, WEIR_MBUF_DATA_LEN);
    field!(pkt_len, set_pkt_len, u32, WEIR_MBUF_PKT_LEN);
    field!(nb_segs, u16, WEIR_MBUF_NB_SEGS);
    field!(port, set_port, u16, WEIR_MBUF_PORT);
    field!(ol_flags, set_ol_flags, u64, WEIR_MBUF_OL_FLAGS);
    field!(vlan_tci, set_vlan_tci, u16, WEIR_MBUF_VLAN_TCI);
    field!(rss, set_rss, u32, WEIR_MBUF_RSS);
    field!(fdir_hi, set_fdir_hi, u32, WEIR_MBUF_FDIR_HI);
    field!(
        vlan_tci_outer,
        set_vlan_tci_outer,
        u16,
        WEIR_MBUF_VLAN_TCI_OUTER
    );
}

//! Where packets come from and go to: DPDK's devices.

pub mod dpdk;

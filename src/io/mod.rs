//! Where packets come from and go to: DPDK's devices, plain memory, capture files.

pub mod dpdk;
pub mod memory;
pub mod pcap;
pub mod pcapng;
pub mod pci;

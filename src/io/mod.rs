//! Where packets come from and go to.

pub mod memory;
pub mod pcap;

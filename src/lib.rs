//! weir: a layer-4 load balancer appliance on DPDK.

pub mod config;
pub mod io;
pub mod packet;
pub mod units;
pub mod verdict;

//! weir: a layer-4 load balancer appliance on DPDK.

pub mod command;
pub mod config;
pub mod packet;
pub mod sched;
pub mod units;
pub mod verdict;

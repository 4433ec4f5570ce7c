//! weir: a layer-4 load balancer appliance on DPDK.

pub mod paged;
pub mod rcu;
pub mod units;

//! Safe wrappers over DPDK: the EAL, ports, queues, mempools, mbufs, lcores and the TSC.
//!
//! The EAL starts once ([`Eal::init`]). Then each port is attached, a pool of mbufs made for its NUMA node, and
//! the port started: that gives its queues, each of which one worker takes along to its lcore.
//!
//! Ownership stands in for DPDK's rules. A queue is used through `&mut`, so by one thread at a time; it keeps
//! its device open. An [`Mbuf`] frees itself. Pools live as long as the process, so no mbuf outlives its pool.

#![allow(unsafe_code)]

mod clock;
mod device;
mod eal;
mod error;
mod interrupts;
mod lcore;
mod log;
mod mbuf;
mod pool;
mod queue;
mod queue_count;
mod rss;
mod tap;
mod tx;
mod unplug;
mod vlan;

pub use clock::{Clock, Cycles};
pub use device::{Device, DeviceConfig, DeviceQueues, DeviceStats, LinkStatus, Probed};
pub use eal::{EAL_MEMORY_MB, Eal, EalConfig, choose_hugepages, usable_cpus};
pub use error::Error;
pub use interrupts::Interrupts;
pub use lcore::Lcore;
pub use log::started;
pub use mbuf::Mbuf;
pub use pool::MbufPool;
pub use queue::{RxQueue, TxQueue};
pub use tx::{Flushed, Tally, TxBuffer};

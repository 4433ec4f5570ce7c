//! weir: a layer-4 load balancer on DPDK.
//!
//! Dependencies point one way, down this list; `tests/layering.rs` holds it against the code (see ARCHITECTURE.md).

/// The package's version; of a release build also the commit that it is built from, and its date.
pub const VERSION: &str = env!("WEIR_VERSION");

pub mod api;
pub mod arch;
pub mod bench;
pub mod command;
pub mod config;
pub mod conn;
pub mod control;
pub mod daemon;
pub mod director;
pub mod exchange;
pub mod forward;
pub mod harden;
pub mod host;
pub mod io;
pub mod log;
pub mod lpm;
pub mod metrics;
pub mod model;
pub mod neighbour;
pub mod packet;
pub mod rcu;
pub mod replay;
pub mod resolver;
pub mod ring;
pub mod sched;
pub mod service;
pub mod stats;
pub mod steering;
pub mod tables;
pub mod units;
pub mod verdict;
pub mod view;
pub mod wire;
pub mod worker;

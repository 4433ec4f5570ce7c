//! weir: a layer-4 load balancer on DPDK.
//!
//! Dependencies point one way, down this list; `tests/layering.rs` holds it against the code (see ARCHITECTURE.md). What is
//! public is there for the binary, the tests, the benchmarks and the fuzz targets.

#![warn(unreachable_pub)]

/// The package's version; of a release build also the commit that it is built from, and its date.
pub const VERSION: &str = env!("WEIR_VERSION");

pub mod admission;
pub(crate) mod advice;
pub(crate) mod api;
pub(crate) mod arch;
pub mod bench;
pub mod bpf;
pub mod capture;
pub mod command;
pub mod config;
pub mod conn;
pub mod connection_log;
pub mod control;
pub mod daemon;
pub mod director;
pub mod door;
pub(crate) mod exchange;
pub mod explain;
pub mod forward;
pub(crate) mod harden;
pub mod health;
pub(crate) mod host;
pub mod import;
pub mod io;
pub mod log;
pub(crate) mod lpm;
pub mod metrics;
pub mod model;
pub mod neighbour;
pub mod net;
pub mod packet;
pub mod prefixes;
pub mod probe;
pub mod rcu;
pub mod record;
pub mod replay;
pub mod resolver;
pub mod ring;
pub mod sched;
pub mod service;
pub mod setup;
pub mod simulate;
pub mod stats;
pub mod steering;
pub mod tables;
pub mod units;
pub mod verdict;
pub mod via;
pub(crate) mod view;
pub mod wire;
pub(crate) mod worker;

//! Packets as they are on the wire: headers, checksums, and the few packets that weir writes itself.
//! No I/O, no allocation, and nothing of the rest of the crate.

pub mod arp;
pub mod build;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod tcp;

pub use ethernet::Mac;

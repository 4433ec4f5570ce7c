//! Packets as they are on the wire: headers, checksums, and the few packets that weir writes itself.
//! No I/O, no allocation, and nothing of the rest of the crate but numbers.
//!
//! Each protocol is a file of one shape, that of smoltcp's `wire`:
//!
//! * A module `field` names where each field is.
//! * A view, such as [`ipv4::Ipv4`], wraps bytes of any kind. `new_checked` looks at every length once, and names what is
//!   wrong ([`Malformed`]). After it no accessor can fail or panic, and none reads beyond what was checked. Views of
//!   bytes that may be written have setters too.
//! * A `Repr` is what a header says, as plain values. Its `emit` writes it into bytes that it fills, and returns nothing
//!   where they are too few.
//!
//! Checksums are checked apart from the lengths (`is_checksum_right`), since forwarding corrects them without a check.
//! The director's fast way reads headers as words (`director/parse.rs`); properties hold it against these views.

pub mod arp;
pub mod build;
pub mod build6;
pub mod build_nd;
pub mod checksum;
pub mod crc32c;
pub mod ethernet;
pub mod extension;
mod field;
pub mod gre;
pub mod gue;
pub mod icmp;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod mld;
pub mod ndisc;
pub mod options;
pub mod proxy;
pub mod quic;
pub mod sctp;
pub mod segment;
pub mod tcp;
pub mod toa;
pub mod udp;
pub mod vlan;

#[cfg(test)]
mod vectors_tests;

pub use crate::net::Mac;

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    #[error("the bytes end before the header does, or before the end that it tells")]
    Truncated,
    #[error("the version is another")]
    Version,
    #[error("the header's own length is below its least, or beyond the packet")]
    HeaderLength,
    #[error("the packet's length is below that of its headers")]
    Length,
    #[error("an option without its length, or with one that is impossible")]
    Option,
    #[error("neither a request nor a reply")]
    Operation,
    #[error("of another hardware or protocol than Ethernet and IPv4")]
    AddressFormat,
    #[error("a jumbogram (RFC 2675)")]
    Jumbogram,
    #[error("a routing header that has segments left: the destination is not the last")]
    SegmentsLeft,
    #[error("an extension header where it must not be (RFC 8200 section 4.1)")]
    HeaderOrder,
    #[error("more extension headers than are walked")]
    TooManyHeaders,
    #[error("the first fragment ends before the headers do (RFC 7112)")]
    HeadersInFragments,
    #[error("a hop limit other than 255: it may come from beyond the link (RFC 4861 section 11.2)")]
    HopLimit,
    #[error("a wrong checksum")]
    Checksum,
    #[error("a code that the message does not have")]
    Code,
    #[error("an address that it must not have there")]
    Address,
    #[error("a message of another type")]
    Kind,
}

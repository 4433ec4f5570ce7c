//! What the fragments of a datagram have in common (RFC 791, RFC 8200 section 4.5).

use crate::conn::Address;
use std::net::IpAddr;

/// What a datagram is found by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Id {
    source: u128,
    destination: u128,
    /// The sender's prefix, see [`Address::site`].
    site: u64,
    identification: u32,
    /// 0 of IPv6, where each fragment may say something else; but see [`Id::of_ping`].
    protocol: u8,
}

impl Id {
    pub(super) const NONE: Id = Id {
        source: 0,
        destination: 0,
        site: 0,
        identification: 0,
        protocol: 0,
    };

    pub(super) fn new<A: Address>(
        source: A,
        destination: A,
        identification: u32,
        protocol: u8,
    ) -> Self {
        let site = source.site();
        let (source, destination) = (source.into(), destination.into());
        let bits = |address| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        Id {
            source: bits(source),
            destination: bits(destination),
            site,
            identification,
            protocol: if source.is_ipv4() { protocol } else { 0 },
        }
    }

    /// The same of what only a ping may be, whose protocol this is: it is no part of what others send.
    pub(super) fn of_ping(self, protocol: u8) -> Self {
        Id { protocol, ..self }
    }

    /// The prefix that counts as one sender.
    pub(super) fn site(&self) -> u64 {
        self.site
    }

    pub(super) fn hash(&self, seed: u64) -> u64 {
        let high = |bits: u128| (bits >> 64) as u64;
        let last = u64::from(self.identification) << 8 | u64::from(self.protocol);
        let words = [
            high(self.source),
            self.source as u64,
            high(self.destination),
            self.destination as u64,
            last,
        ];
        words.into_iter().fold(seed, |hash, word| mix(word ^ hash))
    }
}

/// Both halves of the product with an odd number, in one.
pub(super) fn mix(word: u64) -> u64 {
    let product = u128::from(word) * 0x9e37_79b9_7f4a_7c15;
    (product >> 64) as u64 ^ product as u64
}

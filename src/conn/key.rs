//! What a connection is found by: the key of a packet, of either family.

use crate::wire::checksum::Delta;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address of one family.
pub trait Address:
    Copy + Ord + Hash + Debug + Display + Into<IpAddr> + Send + Sync + 'static
{
    const UNSPECIFIED: Self;

    /// The address itself, if it is of this family.
    fn of(address: IpAddr) -> Option<Self>;
    /// Its lowest bits: what neighbours on a link differ in.
    fn low(self) -> u32;
    /// The address as a number: of IPv6 its halves in one, so that two addresses may have the same.
    fn word(self) -> u64;
    /// The prefix that one sender may have all addresses of, as a number: a /24, or of IPv6 the /56 that a home gets (RFC 6177).
    fn site(self) -> u64;
    /// Byte by byte, as it is on the wire.
    fn wire(self) -> impl Iterator<Item = u8>;
    /// With only its first `prefix` bits left.
    #[must_use]
    fn masked(self, prefix: u8) -> Self;
    /// What putting another one in its place does to a checksum.
    #[must_use]
    fn replaced(self, by: Self, delta: Delta) -> Delta;
}

impl Address for Ipv4Addr {
    const UNSPECIFIED: Self = Ipv4Addr::UNSPECIFIED;

    #[inline(always)]
    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    #[inline(always)]
    fn low(self) -> u32 {
        self.to_bits()
    }

    #[inline(always)]
    fn word(self) -> u64 {
        self.to_bits().into()
    }

    #[inline(always)]
    fn site(self) -> u64 {
        u64::from(self.to_bits() & 0xffff_ff00)
    }

    #[inline]
    fn wire(self) -> impl Iterator<Item = u8> {
        self.octets().into_iter()
    }

    #[inline]
    fn masked(self, prefix: u8) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32)));
        Ipv4Addr::from_bits(self.to_bits() & mask.unwrap_or(0))
    }

    #[inline(always)]
    fn replaced(self, by: Self, delta: Delta) -> Delta {
        delta.replace_u32(self.to_bits(), by.to_bits())
    }
}

impl Address for Ipv6Addr {
    const UNSPECIFIED: Self = Ipv6Addr::UNSPECIFIED;

    #[inline(always)]
    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        }
    }

    #[inline(always)]
    fn low(self) -> u32 {
        self.to_bits() as u32
    }

    #[inline]
    fn word(self) -> u64 {
        let (high, low) = ((self.to_bits() >> 64) as u64, self.to_bits() as u64);
        // Either half differs in its low bits, most often.
        high.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32) ^ low
    }

    #[inline]
    fn site(self) -> u64 {
        (self.to_bits() >> 72) as u64
    }

    #[inline]
    fn wire(self) -> impl Iterator<Item = u8> {
        self.octets().into_iter()
    }

    #[inline]
    fn masked(self, prefix: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128)));
        Ipv6Addr::from_bits(self.to_bits() & mask.unwrap_or(0))
    }

    fn replaced(self, by: Self, delta: Delta) -> Delta {
        let words = self.segments().into_iter().zip(by.segments());
        words.fold(delta, |delta, (old, new)| delta.replace_u16(old, new))
    }
}

/// What a packet of one family is found by: addresses, ports and protocol.
pub trait Key: Copy + Eq + Hash + Default + Debug + Send + Sync + 'static {
    type Address: Address;

    /// No packet's.
    const NONE: Self;

    fn new(
        source: Self::Address,
        source_port: u16,
        destination: Self::Address,
        destination_port: u16,
        protocol: u8,
    ) -> Self;
    fn source(&self) -> Self::Address;
    fn destination(&self) -> Self::Address;
    fn source_port(&self) -> u16;
    fn destination_port(&self) -> u16;
    fn protocol(&self) -> u8;
    /// Source and destination port as they are on the wire, first byte lowest.
    fn wire_ports(&self) -> u32;
    /// Both addresses and both ports, byte by byte, as they are on the wire.
    fn wire(&self) -> impl Iterator<Item = u8>;
    /// The key of a packet that answers one with this key.
    #[must_use]
    fn reversed(&self) -> Self;
    /// Seeded anew at every start: colliding flows cannot be computed.
    fn hash_with(&self, seed: u64) -> u64;
    /// The key whose memory had these bytes, as many as it has; none if they are no key's, or not as many.
    fn from_memory(bytes: &[u8]) -> Option<Self>;
}

/// The number in memory at a place, in this machine's order of bytes; none beyond the end.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*bytes))
}

/// The ports and protocol of a key, if they can be one's.
pub(super) fn ports_word(bytes: &[u8], at: usize) -> Option<u64> {
    word(bytes, at).filter(|ports| *ports >> 40 == 0)
}

/// What a packet is found by: addresses, ports and protocol as they are on the wire, first byte lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey {
    /// Source address, destination address.
    addresses: u64,
    /// Source port, destination port, protocol.
    ports: u64,
}

impl FlowKey {
    /// From the wire, first byte lowest: source and destination address, source and destination port.
    #[inline(always)]
    pub fn from_wire(addresses: u64, ports: u32, protocol: u8) -> Self {
        FlowKey {
            addresses,
            ports: u64::from(ports) | u64::from(protocol) << 32,
        }
    }

    /// As they are on the wire, first byte lowest.
    #[inline(always)]
    pub fn wire_addresses(&self) -> u64 {
        self.addresses
    }
}

impl Key for FlowKey {
    type Address = Ipv4Addr;

    const NONE: Self = FlowKey {
        addresses: 0,
        ports: 0,
    };

    #[inline(always)]
    fn new(
        source: Ipv4Addr,
        source_port: u16,
        destination: Ipv4Addr,
        destination_port: u16,
        protocol: u8,
    ) -> Self {
        let low = |address: Ipv4Addr| u64::from(address.to_bits().swap_bytes());
        FlowKey {
            addresses: low(source) | low(destination) << 32,
            ports: u64::from(source_port.swap_bytes())
                | u64::from(destination_port.swap_bytes()) << 16
                | u64::from(protocol) << 32,
        }
    }

    #[inline(always)]
    fn wire_ports(&self) -> u32 {
        self.ports as u32
    }

    #[inline]
    fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits((self.addresses as u32).swap_bytes())
    }

    #[inline]
    fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(((self.addresses >> 32) as u32).swap_bytes())
    }

    #[inline]
    fn source_port(&self) -> u16 {
        (self.ports as u16).swap_bytes()
    }

    #[inline]
    fn destination_port(&self) -> u16 {
        ((self.ports >> 16) as u16).swap_bytes()
    }

    #[inline]
    fn protocol(&self) -> u8 {
        (self.ports >> 32) as u8
    }

    #[inline(always)]
    fn reversed(&self) -> Self {
        let protocol = self.ports & !u64::from(u32::MAX);
        FlowKey {
            addresses: self.addresses.rotate_left(32),
            ports: u64::from((self.ports as u32).rotate_left(16)) | protocol,
        }
    }

    /// A folded multiplication of two words, neither of which is known outside, and one more that spreads what
    /// consecutive addresses leave close together. Seeded anew at every start: colliding flows cannot be computed.
    #[inline(always)]
    fn hash_with(&self, seed: u64) -> u64 {
        let a = self.addresses ^ seed;
        let b = self.ports ^ (seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15);
        let wide = u128::from(a) * u128::from(b);
        let folded = (wide >> 64) as u64 ^ wide as u64;
        (folded ^ folded >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[inline(always)]
    fn wire(&self) -> impl Iterator<Item = u8> {
        let ports = self.wire_ports().to_le_bytes();
        self.wire_addresses().to_le_bytes().into_iter().chain(ports)
    }

    fn from_memory(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == size_of::<Self>()).then_some(FlowKey {
            addresses: word(bytes, 0)?,
            ports: ports_word(bytes, 8)?,
        })
    }
}

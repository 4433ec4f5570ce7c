//! The key of a packet of either family: of connections whose two sides are of different ones.

use super::key::{Address, Key};
use super::key6::FlowKey6;
use crate::wire::checksum::Delta;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// An address of either family. An IPv4 one is kept as the IPv4-mapped IPv6 one (RFC 4291 section 2.5.5.2), which is on no
/// wire and in no configuration. To the outside it is what it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnyAddress(Ipv6Addr);

impl From<IpAddr> for AnyAddress {
    #[inline]
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => AnyAddress(address.to_ipv6_mapped()),
            IpAddr::V6(address) => AnyAddress(address),
        }
    }
}

impl From<AnyAddress> for IpAddr {
    #[inline]
    fn from(address: AnyAddress) -> IpAddr {
        address.0.to_canonical()
    }
}

impl fmt::Display for AnyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl Address for AnyAddress {
    const UNSPECIFIED: Self = AnyAddress(Ipv6Addr::UNSPECIFIED);

    #[inline]
    fn of(address: IpAddr) -> Option<Self> {
        Some(address.into())
    }

    #[inline]
    fn low(self) -> u32 {
        // Of an IPv4 address, all of it.
        self.0.low()
    }

    #[inline]
    fn word(self) -> u64 {
        match self.into() {
            IpAddr::V4(address) => address.word(),
            IpAddr::V6(address) => address.word(),
        }
    }

    #[inline]
    fn site(self) -> u64 {
        match self.into() {
            IpAddr::V4(address) => address.site(),
            IpAddr::V6(address) => address.site(),
        }
    }

    #[inline]
    fn wire(self) -> impl Iterator<Item = u8> {
        let mapped_at = match self.0.to_ipv4_mapped() {
            Some(_) => 12,
            None => 0,
        };
        self.0.octets().into_iter().skip(mapped_at)
    }

    #[inline]
    fn masked(self, prefix: u8) -> Self {
        match IpAddr::from(self) {
            IpAddr::V4(address) => IpAddr::V4(address.masked(prefix)).into(),
            IpAddr::V6(address) => AnyAddress(address.masked(prefix)),
        }
    }

    /// Of an IPv4 address only its own words count: what maps it is 0 in ones' complement arithmetic.
    fn replaced(self, by: Self, delta: Delta) -> Delta {
        self.0.replaced(by.0, delta)
    }
}

/// As [`FlowKey6`], of addresses of either family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct FlowKeyAny(FlowKey6);

impl FlowKeyAny {
    /// The key of a packet that has `key` in its own family.
    pub fn of<K: Key>(key: &K) -> Self {
        let (source, destination): (IpAddr, IpAddr) =
            (key.source().into(), key.destination().into());
        FlowKeyAny::new(
            source.into(),
            key.source_port(),
            destination.into(),
            key.destination_port(),
            key.protocol(),
        )
    }

    /// The key in a packet's own family; none if an address is of another one.
    pub fn within<K: Key>(&self) -> Option<K> {
        Some(K::new(
            K::Address::of(self.source().into())?,
            self.source_port(),
            K::Address::of(self.destination().into())?,
            self.destination_port(),
            self.protocol(),
        ))
    }
}

impl Key for FlowKeyAny {
    type Address = AnyAddress;

    const NONE: Self = FlowKeyAny(FlowKey6::NONE);

    fn new(
        source: AnyAddress,
        source_port: u16,
        destination: AnyAddress,
        destination_port: u16,
        protocol: u8,
    ) -> Self {
        FlowKeyAny(FlowKey6::new(
            source.0,
            source_port,
            destination.0,
            destination_port,
            protocol,
        ))
    }

    #[inline]
    fn source(&self) -> AnyAddress {
        AnyAddress(self.0.source())
    }

    #[inline]
    fn destination(&self) -> AnyAddress {
        AnyAddress(self.0.destination())
    }

    #[inline]
    fn source_port(&self) -> u16 {
        self.0.source_port()
    }

    #[inline]
    fn destination_port(&self) -> u16 {
        self.0.destination_port()
    }

    #[inline]
    fn protocol(&self) -> u8 {
        self.0.protocol()
    }

    #[inline]
    fn wire_ports(&self) -> u32 {
        self.0.wire_ports()
    }

    #[inline]
    fn wire(&self) -> impl Iterator<Item = u8> {
        let addresses = self.source().wire().chain(self.destination().wire());
        addresses.chain(self.wire_ports().to_le_bytes())
    }

    #[inline]
    fn reversed(&self) -> Self {
        FlowKeyAny(self.0.reversed())
    }

    #[inline]
    fn hash_with(&self, seed: u64) -> u64 {
        self.0.hash_with(seed)
    }

    fn from_memory(bytes: &[u8]) -> Option<Self> {
        FlowKey6::from_memory(bytes).map(FlowKeyAny)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::FlowKey;
    use proptest::prelude::*;
    use std::fmt::Debug;
    use std::net::Ipv4Addr;

    /// What an address of either family and one of its own have in common.
    fn is_like<A: Address>(address: A, other: A, prefix: u8) {
        let any = AnyAddress::from(address.into());
        assert_eq!(IpAddr::from(any), address.into());
        assert_eq!(any.to_string(), address.to_string());
        assert_eq!(
            (any.low(), any.word(), any.site()),
            (address.low(), address.word(), address.site())
        );
        assert!(any.wire().eq(address.wire()));
        assert_eq!(
            IpAddr::from(any.masked(prefix)),
            address.masked(prefix).into()
        );
        let apply = |delta: Delta| {
            let mut field = [0x12, 0x34];
            delta.apply(&mut field);
            field
        };
        let by = AnyAddress::from(other.into());
        assert_eq!(
            apply(any.replaced(by, Delta::ZERO)),
            apply(address.replaced(other, Delta::ZERO))
        );
    }

    fn keys_are_alike<K: Key + PartialEq + Debug>(ends: [(K::Address, u16); 2], protocol: u8) {
        let [source, destination] = ends;
        let key = K::new(source.0, source.1, destination.0, destination.1, protocol);
        let any = FlowKeyAny::of(&key);
        assert_eq!(any.within::<K>(), Some(key));
        assert_eq!(any.reversed().within::<K>(), Some(key.reversed()));
        assert!(any.wire().eq(key.wire()));
        assert_eq!(
            (any.wire_ports(), any.protocol()),
            (key.wire_ports(), protocol)
        );
    }

    proptest! {
        #[test]
        fn an_address_and_a_key_of_either_family_are_as_those_of_their_own(
            bits: (u128, u128),
            ports: (u16, u16),
            protocol: u8,
            prefix in 0u8..=128,
        ) {
            let six = (Ipv6Addr::from_bits(bits.0), Ipv6Addr::from_bits(bits.1));
            prop_assume!(six.0.to_ipv4_mapped().is_none() && six.1.to_ipv4_mapped().is_none());
            let four = (Ipv4Addr::from_bits(bits.0 as u32), Ipv4Addr::from_bits(bits.1 as u32));
            is_like(six.0, six.1, prefix);
            is_like(four.0, four.1, prefix.min(32));
            keys_are_alike::<FlowKey6>([(six.0, ports.0), (six.1, ports.1)], protocol);
            keys_are_alike::<FlowKey>([(four.0, ports.0), (four.1, ports.1)], protocol);
            let key = FlowKey6::new(six.0, ports.0, six.1, ports.1, protocol);
            prop_assert_eq!(FlowKeyAny::of(&key).within::<FlowKey>(), None);
        }
    }
}

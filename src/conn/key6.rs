//! The key of an IPv6 packet.

use super::key::{Key, ports_word, word};
use std::net::Ipv6Addr;

/// As [`FlowKey`](super::FlowKey), of an IPv6 packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey6 {
    /// Source address, destination address; first byte lowest.
    addresses: [u64; 4],
    /// Source port, destination port, protocol.
    ports: u64,
}

impl FlowKey6 {
    /// From the wire, first byte lowest: source and destination address, source and destination port.
    #[inline(always)]
    pub fn from_wire(addresses: [u64; 4], ports: u32, protocol: u8) -> Self {
        FlowKey6 {
            addresses,
            ports: u64::from(ports) | u64::from(protocol) << 32,
        }
    }

    /// As they are on the wire, first byte lowest.
    #[inline(always)]
    pub fn wire_addresses(&self) -> [u64; 4] {
        self.addresses
    }

    fn address(low: u64, high: u64) -> Ipv6Addr {
        Ipv6Addr::from_bits((u128::from(low) | u128::from(high) << 64).swap_bytes())
    }
}

impl Key for FlowKey6 {
    type Address = Ipv6Addr;

    const NONE: Self = FlowKey6 {
        addresses: [0; 4],
        ports: 0,
    };

    fn new(
        source: Ipv6Addr,
        source_port: u16,
        destination: Ipv6Addr,
        destination_port: u16,
        protocol: u8,
    ) -> Self {
        let halves = |address: Ipv6Addr| {
            let word = address.to_bits().swap_bytes();
            [word as u64, (word >> 64) as u64]
        };
        let ([a, b], [c, d]) = (halves(source), halves(destination));
        FlowKey6 {
            addresses: [a, b, c, d],
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
    fn source(&self) -> Ipv6Addr {
        Self::address(self.addresses[0], self.addresses[1])
    }

    #[inline]
    fn destination(&self) -> Ipv6Addr {
        Self::address(self.addresses[2], self.addresses[3])
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
        let [a, b, c, d] = self.addresses;
        let protocol = self.ports & !u64::from(u32::MAX);
        FlowKey6 {
            addresses: [c, d, a, b],
            ports: u64::from((self.ports as u32).rotate_left(16)) | protocol,
        }
    }

    /// Three folded multiplications, seeded as [`FlowKey`](super::FlowKey).
    #[inline(always)]
    fn hash_with(&self, seed: u64) -> u64 {
        let fold = |a: u64, b: u64| {
            let wide = u128::from(a) * u128::from(b);
            (wide >> 64) as u64 ^ wide as u64
        };
        let other = seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15;
        let [a, b, c, d] = self.addresses;
        let source = fold(a ^ seed, b ^ other);
        let destination = fold(c ^ other, d ^ seed.rotate_left(17));
        fold(source ^ self.ports ^ seed, destination ^ other)
    }

    #[inline(always)]
    fn wire(&self) -> impl Iterator<Item = u8> {
        let ports = self.wire_ports().to_le_bytes();
        self.wire_addresses()
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .chain(ports)
    }

    fn from_memory(bytes: &[u8]) -> Option<Self> {
        let mut addresses = [0; 4];
        for (n, half) in addresses.iter_mut().enumerate() {
            *half = word(bytes, n * 8)?;
        }
        (bytes.len() == size_of::<Self>()).then_some(FlowKey6 {
            addresses,
            ports: ports_word(bytes, 32)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::{Address, FlowKey};
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    /// What every key must do.
    fn holds<K: Key>(ends: [(K::Address, u16); 2], protocol: u8, wire: &[u8]) {
        let [source, destination] = ends;
        let key = K::new(source.0, source.1, destination.0, destination.1, protocol);
        assert_eq!((key.source(), key.source_port()), source);
        assert_eq!((key.destination(), key.destination_port()), destination);
        assert_eq!(key.protocol(), protocol);
        assert_eq!(key.wire().collect::<Vec<_>>(), wire);
        assert_eq!(key.wire_ports().to_le_bytes(), wire[wire.len() - 4..]);
        let back = K::new(destination.0, destination.1, source.0, source.1, protocol);
        assert_eq!((key.reversed(), key.reversed().reversed()), (back, key));
        assert_eq!(
            (
                K::Address::of(source.0.into()),
                source.0.wire().count() * 2 + 4
            ),
            (Some(source.0), wire.len())
        );
    }

    proptest! {
        #[test]
        fn a_key_is_its_addresses_ports_and_protocol(bits: (u128, u128), ports: (u16, u16), protocol: u8) {
            let (source, destination) = (Ipv6Addr::from_bits(bits.0), Ipv6Addr::from_bits(bits.1));
            let numbers = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
            let wire = [&source.octets()[..], &destination.octets(), &numbers].concat();
            holds::<FlowKey6>([(source, ports.0), (destination, ports.1)], protocol, &wire);
            let (source, destination) = (Ipv4Addr::from_bits(bits.0 as u32), Ipv4Addr::from_bits(bits.1 as u32));
            let wire = [&source.octets()[..], &destination.octets(), &numbers].concat();
            holds::<FlowKey>([(source, ports.0), (destination, ports.1)], protocol, &wire);
        }

        #[test]
        fn a_prefix_keeps_the_first_bits(bits: u128, prefix in 0u8..=128) {
            let kept = Ipv6Addr::from_bits(bits).masked(prefix).to_bits();
            let rest = 128 - u32::from(prefix);
            prop_assert_eq!(kept, bits.checked_shr(rest).and_then(|high| high.checked_shl(rest)).unwrap_or(0));
            let kept = Ipv4Addr::from_bits(bits as u32).masked(prefix.min(32)).to_bits();
            let rest = 32 - u32::from(prefix.min(32));
            prop_assert_eq!(kept, (bits as u32).checked_shr(rest).and_then(|high| high.checked_shl(rest)).unwrap_or(0));
        }
    }
}

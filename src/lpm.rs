//! Longest-prefix match, of both families.
//!
//! IPv4 has a trie with one node for eight bits of the address, prefixes expanded inside their node: a lookup reads at
//! most four slots. IPv6 prefixes are too long for that, and have a radix tree that branches at single bits.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Lpm<V> {
    v4: Arc<Node<V>>,
    v6: PrefixMap<Ipv6Net, V>,
}

#[derive(Clone, Debug)]
struct Node<V> {
    slots: Box<[Slot<V>]>,
}

#[derive(Clone, Debug)]
struct Slot<V> {
    /// The longest prefix that ends inside this node and covers the slot, by its length.
    value: Option<(u8, V)>,
    child: Option<Arc<Node<V>>>,
}

impl<V: Copy> Default for Lpm<V> {
    fn default() -> Self {
        Lpm {
            v4: Arc::new(Node::empty()),
            v6: PrefixMap::default(),
        }
    }
}

impl<V: Copy> Node<V> {
    fn empty() -> Self {
        Node {
            slots: (0..256)
                .map(|_| Slot {
                    value: None,
                    child: None,
                })
                .collect(),
        }
    }
}

impl<V: Copy> Lpm<V> {
    /// From every route at once.
    pub fn from_routes(routes: impl IntoIterator<Item = (IpNet, V)>) -> Self {
        let mut routes: Vec<_> = routes.into_iter().collect();
        // Shorter ones first, so that longer ones overwrite what they cover.
        routes.sort_by_key(|(net, _)| net.prefix_len());
        let mut lpm = Lpm::default();
        for (net, value) in routes {
            match net {
                IpNet::V4(net) => lpm.insert(net, value),
                IpNet::V6(net) => {
                    lpm.v6.insert(net, value);
                }
            }
        }
        lpm
    }

    /// Adds a route; one with the same prefix is replaced.
    fn insert(&mut self, net: Ipv4Net, value: V) {
        let octets = net.network().octets();
        let length = net.prefix_len();
        let mut node = Arc::make_mut(&mut self.v4);
        let last = usize::from(length.saturating_sub(1) / 8);
        for &octet in &octets[..last] {
            let child = node.slots[usize::from(octet)]
                .child
                .get_or_insert_with(|| Arc::new(Node::empty()));
            node = Arc::make_mut(child);
        }
        let span = 1usize << (8 * (last + 1) - usize::from(length)).min(8);
        let first = usize::from(octets[last]) & !(span - 1);
        for slot in &mut node.slots[first..first + span] {
            if slot
                .value
                .as_ref()
                .is_none_or(|&(longest, _)| longest <= length)
            {
                slot.value = Some((length, value));
            }
        }
    }

    /// The value of the longest prefix that contains `address`.
    #[inline]
    pub fn get(&self, address: impl Into<IpAddr>) -> Option<V> {
        match address.into() {
            IpAddr::V4(address) => self.get_v4(address),
            IpAddr::V6(address) => self.get_v6(address),
        }
    }

    #[inline]
    fn get_v4(&self, address: Ipv4Addr) -> Option<V> {
        let mut node = &*self.v4;
        let mut best = None;
        for octet in address.octets() {
            let slot = &node.slots[usize::from(octet)];
            if let Some((_, value)) = &slot.value {
                best = Some(value);
            }
            match &slot.child {
                Some(child) => node = child,
                None => break,
            }
        }
        best.copied()
    }

    fn get_v6(&self, address: Ipv6Addr) -> Option<V> {
        let (_, value) = self.v6.get_lpm(&Ipv6Net::from(address))?;
        Some(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn equals_a_linear_search(
        routes: &HashMap<IpNet, u16>,
        addresses: impl Iterator<Item = IpAddr>,
    ) -> Result<(), TestCaseError> {
        let lpm = Lpm::from_routes(routes.iter().map(|(net, value)| (*net, *value)));
        for address in addresses {
            let longest = routes
                .iter()
                .filter(|(net, _)| net.contains(&address))
                .max_by_key(|(net, _)| net.prefix_len());
            prop_assert_eq!(lpm.get(address), longest.map(|(_, value)| *value));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn equals_a_linear_search_among_routes_of_both_families(
            v4 in prop::collection::hash_map((any::<u32>(), 0u8..=32), any::<u16>(), 1..60),
            v6 in prop::collection::hash_map((any::<u128>(), 0u8..=128), any::<u16>(), 1..60),
            near in prop::collection::vec(any::<(prop::sample::Index, u32)>(), 1..40),
        ) {
            let v4 = v4.into_iter().map(|((bits, length), value)| {
                (IpNet::new(Ipv4Addr::from_bits(bits).into(), length).unwrap().trunc(), value)
            });
            let v6 = v6.into_iter().map(|((bits, length), value)| {
                (IpNet::new(Ipv6Addr::from_bits(bits).into(), length).unwrap().trunc(), value)
            });
            let routes: HashMap<IpNet, u16> = v4.chain(v6).collect();
            let addresses = near.into_iter().map(|(index, noise)| {
                match routes.keys().nth(index.index(routes.len())).unwrap().addr() {
                    IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() ^ (noise & 0xff))),
                    // Some in the last bits, some in the subnet's, some at random.
                    IpAddr::V6(address) => {
                        let noise = u128::from(noise & 0xffff) << (noise >> 25);
                        IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() ^ noise))
                    }
                }
            });
            equals_a_linear_search(&routes, addresses)?;
        }
    }
}

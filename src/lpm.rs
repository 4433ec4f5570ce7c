//! Longest-prefix match: a trie with one node for eight bits of the address, prefixes expanded inside their node.
//!
//! A lookup reads at most four slots. A change copies the nodes on its path and shares the rest, so it costs the
//! same among 10 routes and among 10,000.

use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Lpm<V> {
    root: Arc<Node<V>>,
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
            root: Arc::new(Node::empty()),
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
    pub fn from_routes(routes: impl IntoIterator<Item = (Ipv4Net, V)>) -> Self {
        let mut routes: Vec<_> = routes.into_iter().collect();
        // Shorter ones first, so that longer ones overwrite what they cover.
        routes.sort_by_key(|(net, _)| net.prefix_len());
        let mut lpm = Lpm::default();
        for (net, value) in routes {
            lpm.insert(net, value);
        }
        lpm
    }

    /// Adds a route; one with the same prefix is replaced.
    fn insert(&mut self, net: Ipv4Net, value: V) {
        let octets = net.network().octets();
        let length = net.prefix_len();
        let mut node = Arc::make_mut(&mut self.root);
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
    pub fn get(&self, address: Ipv4Addr) -> Option<V> {
        let mut node = &*self.root;
        let mut best = None;
        for octet in address.octets() {
            let slot = &node.slots[usize::from(octet)];
            if let Some((_, value)) = slot.value {
                best = Some(value);
            }
            match &slot.child {
                Some(child) => node = child,
                None => break,
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_a_linear_search(
            routes in prop::collection::hash_map((any::<u32>(), 0u8..=32), any::<u16>(), 0..60),
            near in prop::collection::vec(any::<(prop::sample::Index, u32)>(), 1..40),
        ) {
            let routes: std::collections::HashMap<Ipv4Net, u16> = routes
                .into_iter()
                .map(|((bits, length), value)| (Ipv4Net::new(Ipv4Addr::from_bits(bits), length).unwrap().trunc(), value))
                .collect();
            let lpm = Lpm::from_routes(routes.iter().map(|(net, value)| (*net, *value)));
            for (index, noise) in near {
                let address = match routes.is_empty() {
                    true => Ipv4Addr::from_bits(noise),
                    false => {
                        let net = routes.keys().nth(index.index(routes.len())).unwrap();
                        Ipv4Addr::from_bits(net.addr().to_bits() ^ (noise & 0xff))
                    }
                };
                let longest = routes.iter().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len());
                prop_assert_eq!(lpm.get(address), longest.map(|(_, value)| *value));
            }
        }
    }
}

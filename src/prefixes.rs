//! A set of addresses that prefixes cover, of both families: as ranges that do not touch, in their order.
//!
//! A lookup is a binary search, and the memory is 8 bytes a range of IPv4 and 32 of IPv6, however the prefixes lie: a trie
//! of nodes would take kilobytes for each prefix that stands alone.

use ipnet::IpNet;
use std::net::IpAddr;

/// The addresses that a list of prefixes covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixSet {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

/// Ranges of addresses, each from a first to a last one: in their order, and none touches the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges<T> {
    firsts: Box<[T]>,
    lasts: Box<[T]>,
}

impl<T: Copy + Ord> Ranges<T> {
    /// `next`: the address after another one; none after the last of all.
    fn new(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<(T, T)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                // Nothing is beyond the last address of all.
                Some((_, end)) if next(*end).is_none_or(|after| first <= after) => {
                    *end = last.max(*end);
                }
                _ => joined.push((first, last)),
            }
        }
        let (firsts, lasts): (Vec<_>, Vec<_>) = joined.into_iter().unzip();
        Ranges {
            firsts: firsts.into(),
            lasts: lasts.into(),
        }
    }

    #[inline]
    fn contains(&self, address: T) -> bool {
        let begun = self.firsts.partition_point(|first| *first <= address);
        begun > 0 && self.lasts[begun - 1] >= address
    }
}

impl FromIterator<IpNet> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(prefixes: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match prefix {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        PrefixSet {
            v4: Ranges::new(v4, |last| last.checked_add(1)),
            v6: Ranges::new(v6, |last| last.checked_add(1)),
        }
    }
}

impl PrefixSet {
    /// Whether a prefix covers the address.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.contains(address.to_bits()),
            IpAddr::V6(address) => self.v6.contains(address.to_bits()),
        }
    }

    /// Whether it has an address of IPv6, or of IPv4.
    pub fn has_family(&self, is_v6: bool) -> bool {
        match is_v6 {
            true => !self.v6.firsts.is_empty(),
            false => !self.v4.firsts.is_empty(),
        }
    }

    /// The memory that its ranges take.
    pub fn bytes(&self) -> usize {
        self.v4.firsts.len() * 2 * size_of::<u32>() + self.v6.firsts.len() * 2 * size_of::<u128>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn the_whole_of_a_family_is_one_range() {
        for (all, inside, other) in [
            ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], "::"),
            (
                "::/0",
                ["::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
                "0.0.0.0",
            ),
        ] {
            let all: IpNet = all.parse().unwrap();
            let host = IpNet::from(inside[1].parse::<IpAddr>().unwrap());
            let set: PrefixSet = [host, all, host].into_iter().collect();
            assert!(inside.iter().all(|it| set.contains(it.parse().unwrap())));
            assert!(!set.contains(other.parse().unwrap()));
            assert_eq!(set.bytes(), 2 * usize::from(host.max_prefix_len()) / 8);
            let is_v6 = all.addr().is_ipv6();
            assert_eq!(
                (set.has_family(is_v6), set.has_family(!is_v6)),
                (true, false)
            );
        }
        assert!(!PrefixSet::default().contains(Ipv4Addr::UNSPECIFIED.into()));
    }

    proptest! {
        /// The same as asking every prefix, at random addresses and at both edges of each prefix.
        #[test]
        fn an_address_is_in_it_if_a_prefix_contains_it(
            v4 in prop::collection::vec((0u32..1 << 12, 16u8..=32), 0..40),
            v6 in prop::collection::vec((any::<u16>(), 100u8..=128), 0..40),
            at in prop::collection::vec((any::<bool>(), any::<u16>()), 1..40),
        ) {
            let v4 = v4.into_iter().map(|(bits, length)| {
                IpNet::new(Ipv4Addr::from_bits(bits << 8 | bits >> 4).into(), length).unwrap().trunc()
            });
            let v6 = v6.into_iter().map(|(bits, length)| {
                IpNet::new(Ipv6Addr::from_bits(u128::from(bits)).into(), length).unwrap().trunc()
            });
            let prefixes: Vec<IpNet> = v4.chain(v6).collect();
            let set: PrefixSet = prefixes.iter().copied().collect();
            let mut addresses: Vec<IpAddr> = at.into_iter().map(|(is_v6, bits)| match is_v6 {
                true => Ipv6Addr::from_bits(u128::from(bits)).into(),
                false => Ipv4Addr::from_bits(u32::from(bits) << 4).into(),
            }).collect();
            for prefix in &prefixes {
                addresses.extend([prefix.network(), prefix.broadcast()]);
                addresses.extend(match (prefix.network(), prefix.broadcast()) {
                    (IpAddr::V4(first), IpAddr::V4(last)) => [
                        IpAddr::from(Ipv4Addr::from_bits(first.to_bits().wrapping_sub(1))),
                        Ipv4Addr::from_bits(last.to_bits().wrapping_add(1)).into(),
                    ],
                    (first, last) => {
                        let bits = |it| match it { IpAddr::V6(it) => Ipv6Addr::to_bits(it), IpAddr::V4(_) => 0 };
                        [
                            IpAddr::from(Ipv6Addr::from_bits(bits(first).wrapping_sub(1))),
                            Ipv6Addr::from_bits(bits(last).wrapping_add(1)).into(),
                        ]
                    }
                });
            }
            for address in addresses {
                let expected = prefixes.iter().any(|prefix| prefix.contains(&address));
                prop_assert_eq!(set.contains(address), expected, "{}", address);
            }
        }
    }
}

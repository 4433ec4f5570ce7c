//! The services of ranges of ports, by their VIPs.

use crate::config::Protocol;
use crate::rcu::map::{Map, Snapshot};
use crate::service::ServiceKey;
use foldhash::{HashMap, HashSet};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// First and last port.
type Range = (u16, u16);

/// Ranges of protocols and VIPs, in the order of their ports.
#[derive(Default)]
pub(super) struct Ranges(HashMap<(Protocol, IpAddr), BTreeSet<Range>>);

impl Ranges {
    /// Adds a service, if it is one of a range.
    pub(super) fn insert(&mut self, key: &ServiceKey) {
        if key.last != 0 {
            let ranges = self.0.entry((key.protocol, key.address)).or_default();
            ranges.insert((key.port, key.last));
        }
    }

    pub(super) fn remove(&mut self, key: &ServiceKey) {
        let place = (key.protocol, key.address);
        if let Some(ranges) = self.0.get_mut(&place) {
            ranges.remove(&(key.port, key.last));
            if ranges.is_empty() {
                self.0.remove(&place);
            }
        }
    }

    /// Those of a service's protocol and VIP.
    pub(super) fn of(&self, key: &ServiceKey) -> impl Iterator<Item = ServiceKey> {
        self.up_to(key, u16::MAX)
    }

    /// Those that begin at a port or before it.
    fn up_to(&self, key: &ServiceKey, end: u16) -> impl Iterator<Item = ServiceKey> {
        let key = *key;
        let ranges = self.0.get(&(key.protocol, key.address)).into_iter();
        let ranges = ranges.flat_map(move |ranges| ranges.range(..=(end, u16::MAX)));
        ranges.map(move |&(port, last)| ServiceKey { port, last, ..key })
    }

    /// Those with one of a service's ports.
    pub(super) fn beside(&self, key: &ServiceKey) -> impl Iterator<Item = ServiceKey> {
        let first = key.port;
        self.up_to(key, key.last.max(first))
            .filter(move |range| first <= range.last)
    }
}

/// As in [`Tables::ranges`](crate::tables::Tables::ranges), to be changed.
pub(super) struct RangeIndex {
    configured: Ranges,
    map: Map<ServiceKey, Arc<[Range]>>,
    /// The services of every port of the VIPs that the map does not have as they are.
    changed: HashSet<ServiceKey>,
}

impl RangeIndex {
    pub(super) fn new(seed: u64) -> Self {
        RangeIndex {
            configured: Ranges::default(),
            map: Map::new(seed),
            changed: HashSet::default(),
        }
    }

    pub(super) fn insert(&mut self, key: &ServiceKey) {
        if key.last != 0 {
            self.configured.insert(key);
            self.changed.insert(key.every());
        }
    }

    pub(super) fn remove(&mut self, key: &ServiceKey) {
        if key.last != 0 {
            self.configured.remove(key);
            self.changed.insert(key.every());
        }
    }

    /// Another service of a range that has some of its ports.
    pub(super) fn overlapping(&self, key: &ServiceKey) -> Option<ServiceKey> {
        let mut others = self.configured.beside(key).filter(|other| other != key);
        others.next().filter(|_| key.last != 0)
    }

    /// A change costs as much as its VIP has ranges, however many there are of others.
    pub(super) fn freeze(&mut self) -> Snapshot<ServiceKey, Arc<[Range]>> {
        for vip in self.changed.drain() {
            let ranges = self
                .configured
                .of(&vip)
                .map(|range| (range.port, range.last));
            let ranges: Arc<[Range]> = ranges.collect();
            match ranges.is_empty() {
                true => _ = self.map.remove(&vip),
                false => _ = self.map.insert(vip, ranges),
            }
        }
        self.map.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(vip: u8, port: u16, last: u16) -> ServiceKey {
        ServiceKey {
            protocol: Protocol::Tcp,
            address: [192, 0, 2, vip].into(),
            port,
            last,
        }
    }

    proptest! {
        /// Against a list of all: what is beside what, and what of a VIP is published.
        #[test]
        fn ranges_are_found_as_in_a_list(
            steps in prop::collection::vec((any::<bool>(), 0..2u8, 1..12u16, 1..5u16), 0..30),
            asked in (0..2u8, 1..14u16, 0..5u16),
        ) {
            let mut index = RangeIndex::new(1);
            let mut list = BTreeSet::new();
            for (is_added, vip, first, length) in steps {
                let range = key(vip, first, first + length);
                match is_added {
                    true => { index.insert(&range); list.insert(range); }
                    false => { index.remove(&range); list.remove(&range); }
                }
            }
            let (vip, port, length) = asked;
            let last = if length == 0 { 0 } else { port + length };
            let meant = key(vip, port, last);
            let is_beside = |other: &&ServiceKey| {
                other.address == meant.address
                    && (port..=last.max(port)).any(|port| other.covers(port))
            };
            let beside: BTreeSet<_> = list.iter().filter(is_beside).copied().collect();
            prop_assert_eq!(index.configured.beside(&meant).collect::<BTreeSet<_>>(), beside);
            let snapshot = index.freeze();
            let published = snapshot.get(&meant.every());
            let published: Vec<_> = published.into_iter().flat_map(|it| it.iter().copied()).collect();
            let of_vip = list.iter().filter(|it| it.address == meant.address);
            prop_assert_eq!(published, of_vip.map(|it| (it.port, it.last)).collect::<Vec<_>>());
        }
    }
}

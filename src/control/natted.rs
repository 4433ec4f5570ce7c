//! Which nat services a real server's replies may belong to, and where those services' connections are.

use super::placing::Placing;
use crate::config::Protocol;
use crate::rcu::map::{Map, Snapshot};
use crate::service::ServiceKey;
use crate::tables::{Placement, Replies, Requests};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// As in [`Tables::natted`](crate::tables::Tables::natted), to be changed.
pub(super) struct Natted {
    map: Map<ServiceKey, Arc<Replies>>,
    /// By where replies come from.
    known: HashMap<ServiceKey, Place>,
    /// The places of a service's real servers.
    places: HashMap<ServiceKey, BTreeSet<ServiceKey>>,
    /// The ports that are known of an address.
    ports: HashMap<(Protocol, Ipv4Addr), BTreeSet<u16>>,
    /// What the map does not have yet: many services may share a real server, and come together.
    changed: HashSet<ServiceKey>,
}

/// One address and port that replies come from.
#[derive(Default)]
struct Place {
    services: BTreeMap<ServiceKey, Requests>,
    /// Those of the services that may have connections where RSS brought the requests. Where services share a real
    /// server those are few.
    by_rss: BTreeSet<ServiceKey>,
}

impl Natted {
    pub fn new(seed: u64) -> Self {
        Natted {
            map: Map::new(seed),
            known: HashMap::new(),
            places: HashMap::new(),
            ports: HashMap::new(),
            changed: HashSet::new(),
        }
    }

    pub fn freeze(&mut self, placing: &Placing) -> Snapshot<ServiceKey, Arc<Replies>> {
        for place in self.changed.drain() {
            match self.known.get(&place) {
                Some(known) => {
                    self.map.insert(place, Arc::new(known.replies(placing)));
                }
                None => {
                    self.map.remove(&place);
                }
            }
        }
        self.map.freeze()
    }

    /// Lets workers find the connections that a real server's replies belong to.
    pub fn remember(&mut self, requests: Requests, address: Ipv4Addr, port: u16) {
        let place = replies_from(&requests.service, address, port);
        let known = self.known.entry(place).or_default();
        if known.services.insert(requests.service, requests) == Some(requests) {
            return;
        }
        self.changed.insert(place);
        let places = self.places.entry(requests.service).or_default();
        places.insert(place);
        let ports = self.ports.entry((place.protocol, address)).or_default();
        ports.insert(place.port);
    }

    /// The real server has no connections of the service any longer.
    pub fn forget(&mut self, service: &ServiceKey, address: Ipv4Addr, port: u16) {
        let place = replies_from(service, address, port);
        let Some(known) = self.known.get_mut(&place) else {
            return;
        };
        if known.services.remove(service).is_none() {
            return;
        }
        known.by_rss.remove(service);
        self.changed.insert(place);
        if known.services.is_empty() {
            self.known.remove(&place);
            remove_from(&mut self.ports, &(place.protocol, address), &place.port);
        }
        remove_from(&mut self.places, service, &place);
    }

    /// Says whether a service may have connections where RSS brought the requests, and whether any of its rules differs
    /// from what was frozen.
    pub fn set_by_rss(&mut self, service: &ServiceKey, by_rss: bool, rules_changed: bool) {
        for place in self.places.get(service).into_iter().flatten() {
            if let Some(known) = self.known.get_mut(place) {
                match by_rss {
                    true => known.by_rss.insert(*service),
                    false => known.by_rss.remove(service),
                };
                if rules_changed {
                    self.changed.insert(*place);
                }
            }
        }
    }

    /// Whether another service may get replies that look like the service's.
    pub fn has_rivals(&self, service: &ServiceKey) -> bool {
        self.rival_places(service).any(|place| {
            let services = place.services.len();
            services > usize::from(place.services.contains_key(service))
        })
    }

    /// The other services that may get such replies, and have connections where RSS brought the requests.
    pub fn rivals_by_rss(&self, service: &ServiceKey) -> BTreeSet<ServiceKey> {
        let rivals = self.rival_places(service).flat_map(|place| &place.by_rss);
        rivals.filter(|rival| *rival != service).copied().collect()
    }

    /// Where replies like the service's come from: a real server that keeps the packet's port may reply from every port.
    fn rival_places(&self, service: &ServiceKey) -> impl Iterator<Item = &Place> {
        let places = self.places.get(service).into_iter().flatten();
        places.flat_map(|place| {
            let any = (place.port == 0).then(|| self.ports.get(&(place.protocol, place.address)));
            let any = any.flatten().into_iter().flatten().copied();
            let own = (place.port != 0).then_some([0, place.port]);
            let ports = any.chain(own.into_iter().flatten());
            ports.filter_map(|port| self.known.get(&ServiceKey { port, ..*place }))
        })
    }
}

impl Place {
    fn replies(&self, placing: &Placing) -> Replies {
        let mut replies = Replies {
            services: self.services.values().copied().collect(),
            placements: [].into(),
            anywhere: false,
        };
        let known = || {
            let services = self.services.keys();
            services.filter_map(|key| Some((*key, placing.get(key)?)))
        };
        let current = known().map(|(key, of)| (of.current, key));
        let former = known().flat_map(|(key, of)| of.former.iter().map(move |rule| (*rule, key)));
        let mut seen = BTreeSet::new();
        let is_new = |(rule, key): &(Placement, ServiceKey)| match rule {
            // It is the other service's own, which is one of these too.
            Placement::RssOf(_) => false,
            Placement::Client => seen.insert((*rule, None)),
            _ => seen.insert((*rule, Some(*key))),
        };
        replies.placements = current.chain(former).filter(is_new).collect();
        replies.anywhere = known().any(|(_, of)| of.anywhere);
        replies
    }
}

fn remove_from<K, V>(map: &mut HashMap<K, BTreeSet<V>>, key: &K, value: &V)
where
    K: std::hash::Hash + Eq,
    V: Ord,
{
    if let Some(set) = map.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            map.remove(key);
        }
    }
}

/// Where a real server's replies come from: port 0 if it keeps that of the request.
fn replies_from(service: &ServiceKey, address: Ipv4Addr, port: u16) -> ServiceKey {
    let own = if port == 0 { service.port } else { port };
    ServiceKey {
        protocol: service.protocol,
        address,
        port: own,
    }
}

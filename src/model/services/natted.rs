//! Which nat services a real server's replies may belong to, and where those services' connections are.

use crate::config::Protocol;
use crate::rcu::map::{Map, Snapshot};
use crate::service::ServiceKey;
use crate::tables::{Placement, Placements, Replies, Requests};
use foldhash::{HashMap, HashSet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// As in [`Tables::natted`](crate::tables::Tables::natted), to be changed.
pub(super) struct Natted {
    map: Map<ServiceKey, Arc<Replies>>,
    /// By where replies come from.
    known: HashMap<ServiceKey, Place>,
    /// The places of a service's real servers.
    places: HashMap<ServiceKey, BTreeSet<ServiceKey>>,
    /// The ports that are known of an address.
    ports: HashMap<(Protocol, IpAddr), BTreeSet<u16>>,
    /// What the map does not have yet: many services may share a real server, and come together.
    changed: HashSet<ServiceKey>,
}

/// One address and port that replies come from.
#[derive(Default)]
struct Place {
    services: BTreeMap<ServiceKey, Requests>,
    /// Those of the services that are, or were, not placed by the client alone. Where many services share a real server
    /// these are few.
    unusual: BTreeMap<ServiceKey, Placements>,
}

impl Natted {
    pub(super) fn new(seed: u64) -> Self {
        Natted {
            map: Map::new(seed),
            known: HashMap::default(),
            places: HashMap::default(),
            ports: HashMap::default(),
            changed: HashSet::default(),
        }
    }

    pub(super) fn freeze(&mut self) -> Snapshot<ServiceKey, Arc<Replies>> {
        for place in self.changed.drain() {
            match self.known.get(&place) {
                Some(known) => {
                    self.map.insert(place, Arc::new(known.replies()));
                }
                None => {
                    self.map.remove(&place);
                }
            }
        }
        self.map.freeze()
    }

    /// Lets workers find the connections that a real server's replies belong to.
    pub(super) fn remember(&mut self, requests: Requests, address: IpAddr, port: u16) {
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
    pub(super) fn forget(&mut self, service: &ServiceKey, address: IpAddr, port: u16) {
        let place = replies_from(service, address, port);
        let Some(known) = self.known.get_mut(&place) else {
            return;
        };
        if known.services.remove(service).is_none() {
            return;
        }
        known.remove_unusual(service);
        self.changed.insert(place);
        if known.services.is_empty() {
            self.known.remove(&place);
            remove_from(&mut self.ports, &(place.protocol, address), &place.port);
        }
        remove_from(&mut self.places, service, &place);
    }

    /// Says by which rules a service's connections are placed.
    pub(super) fn set_placements(&mut self, service: &ServiceKey, placements: &Placements) {
        let is_usual = *placements == Placements::new(Placement::Client);
        for place in self.places.get(service).into_iter().flatten() {
            let Some(known) = self.known.get_mut(place) else {
                continue;
            };
            let before = match is_usual {
                true => known.remove_unusual(service),
                false => known.unusual.insert(*service, placements.clone()),
            };
            if before.as_ref() != Some(placements).filter(|_| !is_usual) {
                self.changed.insert(*place);
            }
        }
    }

    /// Whether another service may get replies that look like the service's.
    pub(super) fn has_rivals(&self, service: &ServiceKey) -> bool {
        self.rival_places(service).any(|place| {
            let services = place.services.len();
            services > usize::from(place.services.contains_key(service))
        })
    }

    /// The other services that may get such replies, and have connections where RSS brought the requests.
    pub(super) fn rivals_by_rss(&self, service: &ServiceKey) -> BTreeSet<ServiceKey> {
        let rivals = self.rival_places(service).flat_map(|place| &place.unusual);
        let rivals = rivals.filter(|(rival, of)| *rival != service && of.have(Placement::Rss));
        rivals.map(|(rival, _)| *rival).collect()
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
    fn remove_unusual(&mut self, service: &ServiceKey) -> Option<Placements> {
        let placements = self.unusual.remove(service);
        if self.unusual.is_empty() {
            // An empty map keeps memory, and most become empty.
            self.unusual = BTreeMap::new();
        }
        placements
    }

    fn replies(&self) -> Replies {
        let key = self.services.keys().next();
        let usual = key.filter(|_| self.services.len() > self.unusual.len());
        let usual = usual.map(|key| (Placement::Client, *key));
        let current = self.unusual.iter().map(|(key, of)| (of.current, *key));
        let former = self
            .unusual
            .iter()
            .flat_map(|(key, of)| of.former.iter().map(|rule| (*rule, *key)));
        let mut by_client = false;
        let is_new = |(rule, _): &(Placement, ServiceKey)| match rule {
            // It is the other service's own rule, and that service is one of these too.
            Placement::RssOf(_) => false,
            Placement::Client => !std::mem::replace(&mut by_client, true),
            Placement::Rss | Placement::Template(_) => true,
        };
        Replies {
            services: self.services.values().copied().collect(),
            placements: usual
                .into_iter()
                .chain(current)
                .chain(former)
                .filter(is_new)
                .collect(),
            anywhere: self.unusual.values().any(|of| of.anywhere),
        }
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

/// Where a real server's replies come from: port 0 if it keeps that of the request, which may be one of several.
fn replies_from(service: &ServiceKey, address: IpAddr, port: u16) -> ServiceKey {
    let own = match port {
        0 if !service.has_several() => service.port,
        _ => port,
    };
    ServiceKey {
        protocol: service.protocol,
        address,
        port: own,
        last: 0,
    }
}

//! Whose the replies of real servers are, where no local port tells: what several workers find nat's connections by.

use crate::rcu::map::{Map, Snapshot};
use crate::service::ServiceKey;
use crate::tables::Requests;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// As in [`Tables::natted`](crate::tables::Tables::natted), to be changed.
pub(super) struct Natted {
    map: Map<ServiceKey, Arc<[Requests]>>,
    /// By where replies come from, and by service.
    known: HashMap<ServiceKey, BTreeMap<ServiceKey, Requests>>,
    /// What the map does not have yet: many services may share a real server, and come together.
    changed: HashSet<ServiceKey>,
}

impl Natted {
    pub fn new(seed: u64) -> Self {
        Natted {
            map: Map::new(seed),
            known: HashMap::new(),
            changed: HashSet::new(),
        }
    }

    pub fn freeze(&mut self) -> Snapshot<ServiceKey, Arc<[Requests]>> {
        for place in self.changed.drain() {
            match self.known.get(&place) {
                Some(known) => {
                    self.map.insert(place, known.values().copied().collect());
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
        if known.insert(requests.service, requests) != Some(requests) {
            self.changed.insert(place);
        }
    }

    /// The real server has no connections of the service any more. Workers learn it with the next change: until then they
    /// ask in vain.
    pub fn forget(&mut self, service: &ServiceKey, address: Ipv4Addr, port: u16) {
        let place = replies_from(service, address, port);
        let Some(known) = self.known.get_mut(&place) else {
            return;
        };
        if known.remove(service).is_some() {
            self.changed.insert(place);
        }
        if known.is_empty() {
            self.known.remove(&place);
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

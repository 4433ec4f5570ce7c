//! Whose the replies of real servers are, where no local port tells: what several workers find nat's connections by.

use crate::rcu::map::{Map, Snapshot};
use crate::service::ServiceKey;
use crate::tables::Requests;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// As in [`Tables::natted`](crate::tables::Tables::natted), to be changed.
pub(super) struct Natted(Map<ServiceKey, Arc<[Requests]>>);

impl Natted {
    pub fn new(seed: u64) -> Self {
        Natted(Map::new(seed))
    }

    pub fn freeze(&mut self) -> Snapshot<ServiceKey, Arc<[Requests]>> {
        self.0.freeze()
    }

    /// Lets workers find the connections that a real server's replies belong to.
    pub fn remember(&mut self, requests: Requests, address: Ipv4Addr, port: u16) {
        let place = replies_from(&requests.service, address, port);
        let known = self.0.get(&place).map_or(&[][..], |known| known);
        if known.contains(&requests) {
            return;
        }
        let others = known
            .iter()
            .filter(|known| known.service != requests.service);
        let all = others.copied().chain([requests]).collect();
        self.0.insert(place, all);
    }

    /// The real server has no connections of the service any more.
    pub fn forget(&mut self, service: &ServiceKey, address: Ipv4Addr, port: u16) {
        let place = replies_from(service, address, port);
        let Some(known) = self.0.get(&place) else {
            return;
        };
        let others = known.iter().filter(|known| known.service != *service);
        let others: Arc<[Requests]> = others.copied().collect();
        // The workers learn it with the next change: until then they ask in vain.
        match others.is_empty() {
            true => self.0.remove(&place),
            false => self.0.insert(place, others),
        };
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

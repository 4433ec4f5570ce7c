//! Keeps by which rules the connections of services are placed on workers.
//!
//! Two nat services with a real server in common may get connections whose replies look the same: same real server, same
//! client. Only one worker that knows of both can keep them apart, so such services are placed by the client alone. A
//! service keeps its rule for as long as it may have connections, and a new rule leaves older connections where they are:
//! the former rules say where to look for them.

use super::natted::Natted;
use crate::rcu::map::{Map, Snapshot};
use crate::service::ServiceKey;
use crate::tables::{Clients, Placement, Placements};
use std::collections::{HashMap, HashSet};

pub(super) struct Placing {
    map: Map<ServiceKey, Placements>,
    known: HashMap<ServiceKey, Placed>,
    /// What the map does not have yet.
    changed: HashSet<ServiceKey>,
    /// Not published yet: they have no connections.
    fresh: HashSet<ServiceKey>,
    clients: Clients,
    /// A service that is placed by the client alone is known, and was published.
    has_clients: bool,
    had_clients: bool,
}

struct Placed {
    placements: Placements,
    is_nat: bool,
    /// It was removed otherwise, and has connections left.
    is_configured: bool,
}

impl Placing {
    pub fn new(seed: u64) -> Self {
        Placing {
            map: Map::new(seed),
            known: HashMap::new(),
            changed: HashSet::new(),
            fresh: HashSet::new(),
            clients: Clients {
                mask: None,
                former: [].into(),
            },
            has_clients: false,
            had_clients: false,
        }
    }

    /// For the publication that follows: from then on the services may have connections.
    pub fn freeze(&mut self) -> (Snapshot<ServiceKey, Placements>, Clients) {
        for key in self.changed.drain() {
            let deviates =
                |placed: &&Placed| !placed.is_configured || !placed.placements.is_plain();
            match self.known.get(&key).filter(deviates) {
                Some(placed) => {
                    self.map.insert(key, placed.placements.clone());
                }
                None => {
                    self.map.remove(&key);
                }
            }
        }
        self.fresh.clear();
        self.had_clients |= self.has_clients;
        (self.map.freeze(), self.clients.clone())
    }

    pub fn get(&self, key: &ServiceKey) -> Option<&Placements> {
        self.known.get(key).map(|placed| &placed.placements)
    }

    /// Places the connections of a service that is added or changed. `mask`: of its persistence. Its real servers are in
    /// `natted` already, if it is a nat service.
    pub fn put(&mut self, key: ServiceKey, is_nat: bool, mask: Option<u32>, natted: &mut Natted) {
        let before = self.known.get(&key);
        let is_new = before.is_none_or(|placed| !placed.is_configured);
        let has_been = |rule| before.is_some_and(|placed| placed.placements.have(rule));
        let rule = match (is_nat, mask) {
            (false, None) => Placement::Rss,
            (false, Some(mask)) => Placement::Template(mask),
            // To return to RSS would leave connections behind again, to gain little.
            (true, mask) => {
                let is_client = key.port == 0
                    || mask.is_some()
                    || has_been(Placement::Client)
                    || natted.has_rivals(&key);
                match is_client {
                    true => Placement::Client,
                    false => Placement::Rss,
                }
            }
        };
        if before.is_none() {
            self.fresh.insert(key);
        }
        let mut placements = self.changed_to(&key, rule);
        // Until now the service of every port had the connections to this port.
        let every = ServiceKey { port: 0, ..key };
        if is_new
            && key.port != 0
            && !self.fresh.contains(&every)
            && let Some(every) = self.get(&every)
        {
            placements.add_all(every);
        }
        if is_nat {
            self.widen(mask);
            for rival in natted.rivals_by_rss(&key) {
                // Before a connection is made, those of the rival that have the same replies are to be found.
                if !self.fresh.contains(&rival) {
                    placements.add_former(Placement::RssOf(rival));
                }
                let Some(placed) = self.known.get(&rival) else {
                    continue;
                };
                if placed.is_nat && placed.placements.current == Placement::Rss {
                    let placed = Placed {
                        placements: self.changed_to(&rival, Placement::Client),
                        ..*placed
                    };
                    self.set(rival, placed, natted);
                }
            }
        }
        let placed = Placed {
            placements,
            is_nat,
            is_configured: true,
        };
        self.set(key, placed, natted);
    }

    /// What a service's placements are when new connections are placed by `rule` from now on.
    fn changed_to(&self, key: &ServiceKey, rule: Placement) -> Placements {
        let Some(placements) = self.get(key) else {
            return Placements::new(rule);
        };
        let mut placements = placements.clone();
        if placements.current != rule {
            placements.change(rule, !self.fresh.contains(key));
        }
        placements
    }

    fn set(&mut self, key: ServiceKey, placed: Placed, natted: &mut Natted) {
        let by_rss = placed.placements.have(Placement::Rss);
        let is_same = self.get(&key) == Some(&placed.placements);
        natted.set_by_rss(&key, by_rss, !is_same);
        self.has_clients |= placed.placements.current == Placement::Client;
        self.known.insert(key, placed);
        self.changed.insert(key);
    }

    /// Makes the mask of persistent nat services as wide as `mask`. It never becomes narrower again: that would leave
    /// connections behind for nothing.
    fn widen(&mut self, mask: Option<u32>) {
        let width = |mask: Option<u32>| mask.map_or(0, |mask| 1 + mask.count_zeros());
        if width(mask) <= width(self.clients.mask) {
            return;
        }
        let before = std::mem::replace(&mut self.clients.mask, mask);
        if self.had_clients {
            let former = self.clients.former.iter().copied();
            self.clients.former = former.chain([before]).collect();
        }
    }

    /// The service is configured no longer, and has connections left.
    pub fn retire(&mut self, key: &ServiceKey) {
        if let Some(placed) = self.known.get_mut(key) {
            placed.is_configured = false;
            placed.is_nat = false;
            self.changed.insert(*key);
        }
    }

    /// The service has no connections any longer.
    pub fn forget(&mut self, key: &ServiceKey) {
        self.known.remove(key);
        self.changed.insert(*key);
    }
}

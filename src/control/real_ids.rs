//! Hands out the ids of real servers: their places among the workers' counters.

use crate::service::ServiceKey;
use crate::stats::{RealTotals, Stats};
use crate::units::RealId;
use std::collections::HashMap;
use std::net::Ipv4Addr;

/// A real server of a service: the service, its own address and port.
pub(super) type Place = (ServiceKey, Ipv4Addr, u16);

#[derive(Default)]
pub(super) struct RealIds {
    /// What each had counted when it was given away: its cells are used again, and never set back.
    before: Vec<RealTotals>,
    free: Vec<RealId>,
    /// Configured no more, with connections left perhaps.
    pub(super) draining: HashMap<RealId, Place>,
    /// The same, the other way round.
    by_place: HashMap<Place, RealId>,
}

impl RealIds {
    /// An id with all its counters in place; the one that the same real server had, if it still has connections.
    pub(super) fn allocate(&mut self, stats: &Stats, place: Place) -> RealId {
        if let Some(id) = self.by_place.remove(&place) {
            self.draining.remove(&id);
            return id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.before.push(RealTotals::default());
            RealId((self.before.len() - 1) as u32)
        });
        stats.ensure(id);
        id
    }

    pub(super) fn retire(&mut self, stats: &Stats, id: RealId, place: Place) {
        stats.tell(id, |real| real.standing.remove());
        self.draining.insert(id, place);
        self.by_place.insert(place, id);
    }

    /// The retired ones that have no connections left.
    pub(super) fn drained(&self, stats: &Stats) -> Vec<(RealId, ServiceKey)> {
        let is_idle = |id: RealId| stats.load(id) == (0, 0);
        self.draining
            .iter()
            .filter(|(id, _)| is_idle(**id))
            .map(|(id, (key, ..))| (*id, *key))
            .collect()
    }

    /// Makes a drained id free for another real server; returns whose it was.
    pub(super) fn release(&mut self, stats: &Stats, id: RealId) -> Option<Place> {
        let place = self.draining.remove(&id)?;
        self.by_place.remove(&place);
        let all = stats.real(id);
        self.before[id.index()] = RealTotals {
            active: 0,
            inactive: 0,
            ..all
        };
        self.free.push(id);
        Some(place)
    }

    pub(super) fn totals(&self, stats: &Stats, id: RealId) -> RealTotals {
        stats.real(id) - self.before[id.index()]
    }
}

//! Hands out the ids of real servers: their places among the workers' counters.

use crate::service::ServiceKey;
use crate::stats::{RealTotals, Stats};
use crate::units::{RealId, Time};
use foldhash::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// A real server of a service: the service, its own address and port.
pub type Place = (ServiceKey, IpAddr, u16);

#[derive(Default)]
pub(super) struct RealIds {
    /// What those had counted that were given away: their cells are used again, and never set back.
    before: HashMap<RealId, RealTotals>,
    /// Which real server each id is.
    places: Vec<Option<Place>>,
    free: Vec<RealId>,
    /// Configured no longer; they may have connections left.
    draining: HashMap<RealId, Draining>,
    /// The same, the other way round.
    by_place: HashMap<Place, RealId>,
    /// Given to a real server since they were last asked for.
    given: Vec<RealId>,
}

struct Draining {
    place: Place,
    /// The longest time that a persistence template which names it may outlive its connections.
    templates: Duration,
    /// When it was first seen without a connection.
    idle_since: Option<Time>,
}

impl RealIds {
    /// An id with all its counters in place; the one that the same real server had, if it still has connections.
    pub(super) fn allocate(&mut self, stats: &Stats, place: Place) -> RealId {
        if let Some(id) = self.by_place.remove(&place) {
            self.draining.remove(&id);
            return id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            RealId((self.places.len() - 1) as u32)
        });
        self.places[id.index()] = Some(place);
        self.given.push(id);
        stats.ensure(id);
        // What was its former real server's.
        stats.forget(id);
        id
    }

    /// How many ids there are, those in no use among them.
    pub(super) fn len(&self) -> u32 {
        self.places.len() as u32
    }

    /// The ids that were given to real servers since the last call.
    pub(super) fn take_given(&mut self) -> Vec<RealId> {
        std::mem::take(&mut self.given)
    }

    pub(super) fn retire(
        &mut self,
        stats: &Stats,
        id: RealId,
        place: Place,
        templates: Option<Duration>,
    ) {
        stats.tell(id, |real| real.standing.remove());
        let draining = Draining {
            place,
            templates: templates.unwrap_or_default(),
            idle_since: None,
        };
        self.draining.insert(id, draining);
        self.by_place.insert(place, id);
    }

    pub(super) fn any_draining(&self) -> bool {
        !self.draining.is_empty()
    }

    /// The retired ones that no connection names any longer, nor a template.
    pub(super) fn drained(&mut self, stats: &Stats, now: Time) -> Vec<RealId> {
        let mut drained = Vec::new();
        for (&id, draining) in &mut self.draining {
            if stats.load(id) != (0, 0) {
                draining.idle_since = None;
                continue;
            }
            let since = *draining.idle_since.get_or_insert(now);
            if now.since(since) >= draining.templates {
                drained.push(id);
            }
        }
        drained
    }

    /// Makes a drained id free for another real server; returns which one it was of.
    pub(super) fn release(&mut self, stats: &Stats, id: RealId) -> Option<Place> {
        let Draining { place, .. } = self.draining.remove(&id)?;
        self.by_place.remove(&place);
        self.places[id.index()] = None;
        let all = stats.real(id);
        let counted = RealTotals {
            active: 0,
            inactive: 0,
            ..all
        };
        self.before.insert(id, counted);
        self.free.push(id);
        Some(place)
    }

    /// The real server of an id: also one that is configured no longer, while it has connections.
    pub(super) fn place(&self, id: RealId) -> Option<&Place> {
        self.places.get(id.index())?.as_ref()
    }

    pub(super) fn totals(&self, stats: &Stats, id: RealId) -> RealTotals {
        let all = stats.real(id);
        match self.before.get(&id) {
            Some(before) => all - *before,
            None => all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Protocol;

    #[test]
    fn an_id_is_kept_while_a_connection_or_a_template_may_name_it() {
        let stats = Stats::new(1).unwrap();
        let mut ids = RealIds::default();
        let place = |last| {
            let service = ServiceKey {
                protocol: Protocol::Tcp,
                address: IpAddr::from([192, 0, 2, 80]),
                port: 80,
                last: 0,
            };
            (service, IpAddr::from([10, 0, 0, last]), 8080)
        };
        let at = |seconds: u64| Time::from_nanos(seconds * 1_000_000_000);
        let id = ids.allocate(&stats, place(11));
        let active = || {
            &stats
                .workers()
                .next()
                .unwrap()
                .loads
                .get(id.index())
                .unwrap()
                .active
        };
        active().inc();
        ids.retire(&stats, id, place(11), Some(Duration::from_secs(300)));
        assert_eq!(ids.drained(&stats, at(1_000)), []);
        active().dec();
        assert_eq!(ids.drained(&stats, at(2_000)), []);
        assert_eq!(ids.drained(&stats, at(2_299)), []);
        assert_eq!(ids.place(id), Some(&place(11)));
        assert_eq!(ids.drained(&stats, at(2_300)), [id]);
        assert_eq!(ids.release(&stats, id), Some(place(11)));
        assert_eq!((ids.place(id), ids.any_draining()), (None, false));
        assert_eq!(ids.allocate(&stats, place(12)), id);
        ids.retire(&stats, id, place(12), None);
        assert_eq!(ids.allocate(&stats, place(12)), id, "it comes back");
        assert_eq!(ids.drained(&stats, at(3_000)), []);
    }
}

//! Services as wholes: which servers packets get to, and what that makes of each service.

use super::{Model, Turn};
use crate::config::ServiceConfig;
use crate::service::{Availability, ServiceKey};
use crate::units::Time;
use foldhash::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at all ways, for so many addresses: a look takes a small part of that.
const AGAIN: Duration = Duration::from_millis(20);
const ADDRESSES: usize = 20_000;

/// When the ways to servers were last looked at.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// See [`NeighbourTable::ways`](crate::neighbour::NeighbourTable::ways).
    seen: u64,
    /// Whether other addresses or routes have come since.
    pub(super) is_other: bool,
    due: Time,
}

impl Model {
    /// Follows next hops that failed to answer, or answer again, and links. Not each by itself: all real servers behind a router
    /// go and come together.
    pub(super) fn follow_ways(&mut self, now: Time) {
        let tables = self.publisher.current();
        let ways = tables.neighbours.ways();
        if ways == self.ways.seen && !self.ways.is_other || now < self.ways.due {
            return;
        }
        let addresses = self.services.real_addresses();
        let times = addresses.len().div_ceil(ADDRESSES).max(1);
        self.ways = Ways {
            seen: ways,
            is_other: false,
            due: now + AGAIN * times as u32,
        };
        let lost = addresses
            .keys()
            .filter(|address| !tables.has_way(**address));
        let lost: foldhash::HashSet<IpAddr> = lost.copied().collect();
        if self.services.set_unreachable(lost) {
            self.publish(|_| {});
        }
    }

    /// Whether a service has as many available real servers as it needs, and where its new connections go; none: there is no such
    /// service.
    pub fn availability(&self, key: &ServiceKey) -> Option<Availability> {
        self.services.registry().availability(key)
    }

    /// Whether a service has its VIP announced while it is served.
    pub fn any_announced(&self) -> bool {
        self.services.any_announced()
    }

    /// A service as it is configured.
    pub fn configured(&self, key: &ServiceKey) -> Option<&Arc<ServiceConfig>> {
        self.services.configured(key)
    }

    /// The services whose availability has changed since the last call.
    pub(crate) fn take_turns(&mut self) -> HashMap<ServiceKey, Turn> {
        self.services.take_turns()
    }
}

//! Fetches ahead what the new connections of a burst will need, so that their cache misses overlap.

use super::family::Wire;
use super::parse::{Flow, Kind};
use super::stage::{Slot, Stage};
use super::{Core, flow};
use crate::arch::{prefetch, prefetch_all};
use crate::conn::{Key, Place, local_port};
use crate::packet::{BURST, Packet};
use crate::sched::Client;
use crate::service::{Real, ServiceKey};
use crate::stats::RealLine;
use crate::tables::{Owner, Service, Tables, Target};
use arrayvec::ArrayVec;

/// A flow without a connection, on its way to get one.
struct New<'a, F: Wire> {
    flow: &'a Flow<F>,
    service: &'a Service,
    /// How many before it, in one go, are the same service's.
    ahead: usize,
    /// The real server that it will probably go to.
    expected: Option<(&'a Real, &'a RealLine)>,
}

/// For each packet of a burst, what it is to, if that was looked up.
pub(super) type LookedUp<'t> = ArrayVec<Option<Target<'t>>, BURST>;

impl<F: Wire, P: Packet> Core<F, P> {
    /// Fetches what new connections will need, each step for all of them, so that their cache misses overlap: the
    /// service, what it leads to, the counters of the real server, the place of the reply's key. Returns what was looked up
    /// of the first `count` packets.
    #[inline(never)]
    pub(super) fn fetch_services<'t>(
        &self,
        stage: &Stage<F>,
        count: usize,
        tables: &'t Tables,
    ) -> LookedUp<'t> {
        let slots = &stage.slots[..count];
        let is_new = |slot: &Slot<F>| {
            let is_flow = slot.flow.kind != Kind::Other;
            let is_new = slot.place == Place::NONE && is_flow;
            let was_refused = |flow| self.refused.answer(flow, tables.generation).is_some();
            is_new && !was_refused(&slot.flow) && self.is_probably_ours(&slot.flow.key)
        };
        let mut keys = ArrayVec::<Option<ServiceKey<F::Address>>, BURST>::new();
        let mut targets = LookedUp::new();
        for slot in slots {
            let key = &slot.flow.key;
            let owner = is_new(slot).then(|| tables.addresses.get(&key.destination()));
            targets.push(owner.map(|owner| Target {
                owner,
                service: None,
            }));
            // Every service's address is there: most often a packet to another one is not for weir.
            keys.push(owner.flatten().map(|_| {
                let service = flow::service_key(key);
                tables.services.prefetch_place(&service);
                tables.addresses.prefetch_place(&key.source());
                service
            }));
        }
        for key in keys.iter().flatten() {
            tables.services.prefetch(key);
        }
        let mut new = ArrayVec::<New<F>, BURST>::new();
        for ((slot, key), target) in slots.iter().zip(&keys).zip(&mut targets) {
            if let (Some(key), Some(target)) = (key, target)
                && let Some(service) = tables.service(key)
            {
                prefetch_all(service);
                // Where a service is, nothing else is.
                target.owner = Some(&Owner::Vip);
                target.service = Some(service);
                let ahead = match new.last() {
                    Some(last) if std::ptr::eq(last.service, service) => last.ahead + 1,
                    _ => 0,
                };
                new.push(New {
                    flow: &slot.flow,
                    service,
                    ahead,
                    expected: None,
                });
            }
        }
        for New { service, .. } in &new {
            prefetch(&*service.reals);
            prefetch(service.cursor(self.worker));
        }
        for new in &mut new {
            let (key, service) = (&new.flow.key, new.service);
            let client = Client::new(key.source(), key.source_port());
            let cursor = service.cursor(self.worker);
            let choices = service.choices();
            let place = service.scheduler.expect(choices, client, cursor, new.ahead);
            if let Some(real) = choices.get(place)
                && let Some(stats) = self.counters().reals.get(real.id.index())
            {
                prefetch(stats);
                new.expected = Some((real, stats));
            }
        }
        for New {
            flow,
            service,
            expected,
            ..
        } in &new
        {
            let Some((real, stats)) = expected else {
                continue;
            };
            let key = &flow.key;
            let (address, port) = match &service.pool {
                Some(pool) => local_port::expected(pool, &stats.pairs),
                None if service.mode.sees_replies => (key.source(), key.source_port()),
                None => continue,
            };
            let Some(real_address) = F::address(real.address) else {
                continue;
            };
            let real_port = real.port_for(key.destination_port());
            let reply = F::Key::new(real_address, real_port, address, port, key.protocol());
            self.live
                .table
                .prefetch_bucket(self.live.table.hash(&reply));
        }
        targets
    }
}

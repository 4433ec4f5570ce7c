//! Which worker a packet belongs to that this one knows no connection of.
//!
//! A connection lives on one worker. A request's is the one that a NIC's receive-side scaling brings it to, a fullnat
//! reply's likewise, since its local port was chosen for that; on a device that spreads packets in another way, and for
//! nat's replies, whoever gets the packet finds the owner from the packet and hands it over.

use super::parse::Flow;
use super::{Director, Origin, Outcome};
use crate::conn::FlowKey;
use crate::packet::{Packet, Sink};
use crate::service::{Persistence, ServiceKey};
use crate::steering::Steering;
use crate::tables::{Requests, Service, Tables};
use crate::units::WorkerId;
use crate::verdict::{Context, DropReason, Verdict};
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering::Relaxed;

/// The owner of a service's connection with a client.
fn owner(
    steering: &Steering,
    service: &ServiceKey,
    mask: Option<u32>,
    client: (Ipv4Addr, u16),
) -> WorkerId {
    match mask {
        // All connections that a persistence template binds are where the template is.
        Some(mask) => {
            let client = Ipv4Addr::from_bits(client.0.to_bits() & mask);
            steering.owner_of_addresses(client, service.address)
        }
        None => steering.owner(&FlowKey::new(
            client.0,
            client.1,
            service.address,
            service.port,
            service.protocol.number(),
        )),
    }
}

impl<P: Packet> Director<P> {
    /// Whether it is alone, and everything its own.
    #[inline(always)]
    pub(super) fn is_alone(&self) -> bool {
        self.shared.steering.workers() == 1
    }

    /// Where a client's packet is to be decided, if not here.
    pub(super) fn request_elsewhere(
        &self,
        flow: &Flow,
        service: &Service,
        tables: &Tables,
        opens: bool,
    ) -> Option<WorkerId> {
        if self.is_alone() {
            return None;
        }
        let steering = &self.shared.steering;
        let plain = steering.owner(&flow.key);
        let mask = service.persistence.map(|Persistence { mask, .. }| mask);
        // The replies of nat lead back to the service, not to the port where it has all of them.
        let is_nat = service.mode.sees_replies && service.pool.is_none();
        let own = match mask.is_none() && !(is_nat && service.key.port == 0) {
            true => plain,
            false => {
                let client = (flow.key.source(), flow.key.source_port());
                owner(steering, &service.key, mask, client)
            }
        };
        let may_be_anywhere = tables.ask_everybody || service.pool.is_some() && self.has_strays();
        match may_be_anywhere && !opens {
            false => self.only(own),
            true => self.next_of([own, plain].into_iter().chain(self.everybody())),
        }
    }

    /// Whether some connections live where a pair of the local pool was free, not where their requests come to.
    fn has_strays(&self) -> bool {
        self.shared.strays.load(Relaxed) > 0
    }

    /// Whether a connection of the flow, if it is made here, lives on another worker than its requests come to.
    pub(super) fn is_stray(&self, flow: &Flow) -> bool {
        self.shared.steering.owner(&flow.key) != self.worker
    }

    /// The next worker to be asked for a local pair, where those of this one are in use.
    pub(super) fn next_with_pairs(&self, flow: &Flow, service: &Service) -> Option<WorkerId> {
        // What a template binds is where the template is.
        if self.is_alone() || service.persistence.is_some() {
            return None;
        }
        let own = self.shared.steering.owner(&flow.key);
        self.next_of(std::iter::once(own).chain(self.everybody()))
    }

    /// Where a packet to an address of a local pool is to be decided, if not here.
    pub(super) fn local_elsewhere(&self, flow: &Flow) -> Option<WorkerId> {
        if self.is_alone() {
            return None;
        }
        self.only(self.shared.steering.owner(&flow.key))
    }

    /// Where the packet of a real server to anybody is to be decided, if not here: at the worker that has the client's
    /// connection to one of the nat services that the real server is of.
    pub(super) fn reply_elsewhere(&self, flow: &Flow, tables: &Tables) -> Option<WorkerId> {
        if self.is_alone() {
            return None;
        }
        let key = &flow.key;
        let client = (key.destination(), key.destination_port());
        let mut real = ServiceKey {
            protocol: super::flow::service_key(key).protocol,
            address: key.source(),
            port: key.source_port(),
        };
        let exact = tables.natted.get(&real);
        real.port = 0;
        let any = tables.natted.get(&real);
        let owners = exact
            .into_iter()
            .chain(any)
            .flat_map(|services| services.iter())
            .map(|Requests { service, mask }| owner(&self.shared.steering, service, *mask, client));
        match tables.ask_everybody && (exact.is_some() || any.is_some()) {
            false => self.next_of(owners),
            true => self.next_of(owners.chain(self.everybody())),
        }
    }

    fn everybody(&self) -> impl Iterator<Item = WorkerId> {
        (0..self.shared.steering.workers()).map(|n| WorkerId(n as u8))
    }

    /// Whether a new connection of the flow would be made here, as far as can be told at a glance.
    #[inline(always)]
    pub(super) fn is_probably_ours(&self, key: &FlowKey) -> bool {
        self.is_alone() || self.shared.steering.owner(key) == self.worker
    }

    /// As [`next_of`](Self::next_of), of one.
    fn only(&self, owner: WorkerId) -> Option<WorkerId> {
        (self.origin == Origin::Device && owner != self.worker).then_some(owner)
    }

    /// The next of several owners to be asked: a packet goes from one to the next, and ends with the last.
    fn next_of(&self, owners: impl IntoIterator<Item = WorkerId>) -> Option<WorkerId> {
        let mut asked = [false; 1 + u8::MAX as usize];
        let mut left = self.shared.steering.workers();
        // From a device it goes to the first; from another worker, to the one that comes after this.
        let mut is_next = self.origin == Origin::Device;
        for owner in owners {
            if std::mem::replace(&mut asked[owner.index()], true) {
                continue;
            }
            if owner == self.worker {
                match self.origin {
                    // The first of them is here, and has been asked.
                    Origin::Device => {}
                    Origin::Worker => is_next = true,
                }
            } else if is_next {
                return Some(owner);
            }
            left -= 1;
            // However many services a real server is of.
            if left == 0 {
                break;
            }
        }
        None
    }

    /// Gives a packet to the worker that owns it.
    #[inline(never)]
    pub(super) fn hand_over<S: Sink<Packet = P>>(
        &self,
        packet: P,
        to: WorkerId,
        sink: &mut S,
    ) -> Outcome {
        let verdict = match sink.hand_over(to, packet) {
            true => Verdict::HandOver(to),
            false => Verdict::Drop(DropReason::RedirectFull),
        };
        (verdict, Context::default())
    }
}

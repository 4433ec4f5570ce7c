//! Comes here: a datagram of a service with `one_packet`, and what a nat real server answers to one. No connection is kept
//! (`IP_VS_CONN_F_ONE_PACKET`): the real server's reply is told by its address and port alone, which is more than the kernel does for it.

use super::family::Family;
use super::flow::{count, service_key};
use super::parse::{Flow, Kind};
use super::{Core, Outcome, Turn, is_tcp};
use crate::conn::{Connection, Key, State};
use crate::packet::{Packet, Sink};
use crate::service::{Real, ServiceKey};
use crate::tables::{Service, Tables};
use crate::units::ServiceId;
use crate::verdict::{DropReason, PacketContext, Verdict};

/// A reply that belongs to services with `one_packet`.
pub(super) struct ReplyOfOne<K> {
    service: ServiceId,
    /// What its connection would be.
    connection: Connection<K>,
    /// Several services have sent to where it comes from: it is not known by which VIP the client knows them.
    is_ambiguous: bool,
}

impl<F: Family, P: Packet> Core<F, P> {
    /// Sends a client's datagram on, and forgets it.
    pub(super) fn send_once<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        service: &Service,
        real: Real,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        if let Some(stats) = self.live.counters.reals.get(real.id.index()) {
            stats.counters.connections.add(1);
        }
        let connection = self.unkept(flow, service, real);
        self.pass(packet, flow, connection, turn)
    }

    /// The services with `one_packet` that a packet from a real server is a reply of.
    pub(super) fn reply_of_one(
        &self,
        flow: &Flow<F>,
        tables: &Tables,
    ) -> Option<ReplyOfOne<F::Key>> {
        if is_tcp(flow) {
            return None;
        }
        let key = &flow.key;
        let from = ServiceKey {
            address: key.source(),
            port: key.source_port(),
            ..service_key(key)
        };
        let places = [from, ServiceKey { port: 0, ..from }];
        let replies = places.iter().filter_map(|place| tables.natted.get(place));
        let services = replies.flat_map(|replies| replies.services.iter());
        let of = |service: &Service| {
            let at = (key.source().into(), key.source_port());
            let reals = service.reals.iter();
            let mut reals =
                reals.filter(|real| real.address == at.0 && [0, at.1].contains(&real.port));
            let real = reals.next()?;
            let vip = F::address(service.key.address)?;
            let port = match service.key.has_several() {
                true => key.source_port(),
                false => service.key.port,
            };
            let client = (key.destination(), key.destination_port());
            let request = F::Key::new(client.0, client.1, vip, port, key.protocol());
            let to = (key.source(), key.source_port());
            let translation = service.mode.translation(&request, to, None);
            let mut connection = Connection::new(request, translation, real.id);
            connection.state = State::Udp;
            Some((service.id, connection))
        };
        let services = services.filter_map(|of| tables.service(&of.service));
        let mut found = services
            .filter(|service| service.one_packet && service.mode.sees_replies)
            .filter(|service| !service.key.has_several() || service.key.covers(key.source_port()))
            .filter_map(of);
        let (service, connection) = found.next()?;
        Some(ReplyOfOne {
            service,
            connection,
            is_ambiguous: found.any(|(other, _)| other != service),
        })
    }

    /// Sends a reply on to the client.
    pub(super) fn reply_once<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        reply: ReplyOfOne<F::Key>,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let mut connection = reply.connection;
        let context = PacketContext {
            service: Some(reply.service),
            real: Some(connection.real),
            ..PacketContext::default()
        };
        let verdict = if !turn.tables.is_way_to(packet.port(), flow.key.source()) {
            Verdict::Drop(DropReason::WrongPort)
        } else if reply.is_ambiguous {
            Verdict::Drop(DropReason::AmbiguousReply)
        } else if flow.ttl <= 1 {
            self.ttl_exceeded(packet, flow, connection.request.destination(), turn)
        } else {
            let real = self.live.counters.reals.get(connection.real.index());
            if let Some(real) = real.filter(|_| flow.kind != Kind::Other) {
                count(&real.counters, flow, true);
            }
            self.forward(packet, flow, &mut connection, true, turn)
        };
        (verdict, context)
    }
}

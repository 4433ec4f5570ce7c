//! Comes here: an ICMP error to a client, about a packet of its own that weir has sent to a real server whose answers go to the
//! client itself (dr, tunnel). A router on the way to that real server says it, or the real server, and it passes weir where weir
//! is their router. The client knows the VIP only, so the error comes from that.

use super::family::Family;
use super::flow::{goal, resolve};
use super::icmp_error::IcmpError;
use super::parse::Flow;
use super::{Core, Origin, Outcome, Turn};
use crate::conn::Key;
use crate::packet::{Errand, Packet, Sink};
use crate::stats::Failure;
use crate::tables::Service;
use crate::verdict::{DropReason, PacketContext, Verdict};

impl<F: Family, P: Packet> Core<F, P> {
    /// Sends an error about a packet to a service on to the client.
    pub(super) fn error_from_inside<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        error: &IcmpError<F>,
        service: &Service,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let (tables, now) = (turn.tables, turn.now);
        let request = Flow {
            key: error.flow.key.reversed(),
            ..error.flow
        };
        let mut context = PacketContext {
            service: Some(service.id),
            ..PacketContext::default()
        };
        let drops = |reason, context| (Verdict::Drop(reason), context);
        let table = &self.live.table;
        let found = table.find(table.hash(&request.key), &request.key);
        let known = found.map(|found| *table.get(found.id));
        let known = known.filter(|known| !tables.timing.is_silent(known, now.millis()));
        let connection = match known {
            Some(known) => known,
            None => {
                let errand = match self.origin {
                    Origin::Device => Errand::Find,
                    Origin::Worker => packet.errand(),
                };
                let elsewhere =
                    self.request_elsewhere(&request, Some(service), errand, tables, false, now);
                if let Some((worker, errand)) = elsewhere {
                    return self.hand_over(packet, worker, errand, turn.sink);
                }
                // Its real server follows from its addresses and ports, or it is lost.
                let real = match service.scheduler_kind.is_stateless {
                    true => self.choice(service, &request, tables),
                    false => None,
                };
                match real {
                    Some(real) => self.unkept(&request, service, real),
                    None => return drops(DropReason::IcmpNoConnection, context),
                }
            }
        };
        context.real = Some(connection.real);
        if !tables.is_way_to(packet.port(), goal(&connection, false, tables)) {
            return drops(DropReason::WrongPort, context);
        }
        if !error.is_plausible(&connection, true) {
            return drops(DropReason::IcmpSequence, context);
        }
        if error.is_absence
            && known.is_some()
            && let Some(found) = found
        {
            self.note_failure(found.id, Failure::Unreachable);
        }
        if let Err(reason) = self.may_pass(&packet, error, true, turn) {
            return drops(reason, context);
        }
        let client = request.key.source();
        let Some(way) = resolve(tables, client) else {
            return drops(DropReason::NoRoute, context);
        };
        let mtu = tables.port(way.port).mtu;
        if F::length_sent(&error.flow) > mtu {
            return drops(DropReason::TooBig, context);
        }
        if way.has_failed(tables) {
            self.want(way.port, way.address(client.into(), tables), now);
            return drops(DropReason::NeighbourFailed, context);
        }
        let (places, memory) = (error.places, &mut self.memory);
        let rewritten = F::rewrite_error(&mut packet, places, &connection, true, mtu, memory);
        if let Err(reason) = rewritten {
            return drops(reason, context);
        }
        self.counters().icmp_errors[error.kind as usize].add(1);
        (
            self.send_by(way, client.into(), packet, false, turn),
            context,
        )
    }
}

//! Comes here: a connection whose time is over. With `on_idle = "reset"` both ends of an established one are told by resets, with
//! the sequence numbers that they take next (RFC 5961 section 3.2).

use super::Core;
use super::Turn;
use super::family::Family;
use super::flow::resolve;
use super::limit::{AnswerKind, Asker};
use crate::conn::{ConnId, Key, State};
use crate::connection_log::Cause;
use crate::packet::{Packet, Sent, Sink};
use crate::tables::Tables;
use crate::units::PortId;

/// Where more expire at a time than resets may be sent, the others wait for so long.
const PATIENCE_MS: u32 = 10_000;

impl<F: Family, P: Packet> Core<F, P> {
    /// Ends a connection that has been silent for too long, and tells both ends if its service says so. Returns whether it
    /// ended: it stays for a while where the limit of resets is reached.
    pub(super) fn expire<S: Sink<Packet = P>>(
        &mut self,
        id: ConnId,
        turn: &mut Turn<'_, S>,
    ) -> bool {
        let connection = *self.live.table.get(id);
        let timing = &turn.tables.timing;
        let is_told = connection.state == State::Established
            && connection.is_two_way()
            && timing.resets_idle(connection.real);
        if is_told {
            let (request, reply) = (&connection.request, &connection.reply);
            let resets = [
                (connection.acknowledged(false), request),
                (connection.acknowledged(true), reply),
            ];
            let silent = turn.now.millis().since(connection.last_seen);
            let may_wait = silent < timing.timeout(&connection).saturating_add(PATIENCE_MS);
            if !self.may_reset(request, turn) {
                if may_wait {
                    return false;
                }
            } else {
                for (next, key) in resets {
                    if let Some(next) = next {
                        let from = (key.destination(), key.destination_port());
                        let to = (key.source(), key.source_port());
                        self.send_reset(from, to, next, turn.tables, turn.sink);
                    }
                }
            }
        }
        self.live.end(id, Cause::Timeout);
        true
    }

    /// Whether the limit of resets allows another pair for a client, by the port that leads to it.
    fn may_reset<S: Sink<Packet = P>>(&self, request: &F::Key, turn: &Turn<'_, S>) -> bool {
        let tables = turn.tables;
        let way = resolve(tables, request.source());
        let port = way.map_or(PortId(0), |way| way.port);
        let service = u32::from(request.destination_port());
        let asker = Asker::of_prefix(request.source(), request.destination(), service);
        let limits = &self.shared.limits;
        let per_second = tables.answers_per_second;
        limits.allow(AnswerKind::Reset, port, &asker, turn.now, per_second)
    }

    /// Sends a reset with a sequence number, if the next hop is known.
    pub(super) fn send_reset<S: Sink<Packet = P>>(
        &self,
        from: (F::Address, u16),
        to: (F::Address, u16),
        sequence: u32,
        tables: &Tables,
        sink: &mut S,
    ) {
        let hop = resolve(tables, to.0).and_then(|way| way.hop);
        let Some(link) = hop.map(|hop| tables.neighbours.link(hop)) else {
            return;
        };
        let source = tables.port(link.port).mac;
        if link.is_usable()
            && let Some(mut packet) = sink.alloc(link.port)
            && packet.resize(F::RESET_LEN)
            && let Some(length) =
                F::write_reset(packet.data_mut(), (link.mac, source), from, to, sequence)
            && packet.resize(length)
        {
            sink.send(link.port, packet, Sent::Originated);
        }
    }
}

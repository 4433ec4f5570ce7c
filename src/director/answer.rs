//! What weir answers to packets that it refuses: resets, ICMP unreachable, time exceeded, too big.
//!
//! An answer is given only to a packet with a right TCP, UDP, SCTP or ICMP checksum. Of a damaged packet not even the sender is
//! sure. The checksum of a datagram in fragments is not known: its first fragment gets the errors that a router has to
//! send, so that its sender learns of the path, but none that a host makes of whole datagrams; the others get none
//! (RFC 1812 section 4.3.2.7).
//! An answer goes back to where its packet came from: out of the same port, to the same MAC address. It needs no
//! route and no neighbour, keeps no state, and so gives a forger of source addresses nothing to fill.

use super::family::{Error, Family};
use super::limit::{AnswerKind, Asker};
use super::parse::{Flow, Kind};
use super::{Core, Turn, has_handshake};
use crate::conn::Key;
use crate::packet::{Packet, Sent, Sink};
use crate::tables::Tables;
use crate::units::{PortId, Time};
use crate::verdict::{DropReason, ReplyReason, Verdict};
use crate::wire::Mac;

impl<F: Family, P: Packet> Core<F, P> {
    /// Whether a packet may be answered: its own checksum is right, and the limit is not reached.
    pub(super) fn may_answer(
        &self,
        kind: AnswerKind,
        packet: &P,
        tables: &Tables,
        now: Time,
    ) -> Result<(), DropReason> {
        // First what a flood is dropped by: a checksum takes the longer, the longer the packet.
        if !self.is_within_limit(kind, packet, tables, now) {
            return Err(DropReason::RateLimited);
        }
        match F::is_l4_checksum_right(packet.data()) {
            true => Ok(()),
            false => Err(DropReason::BadL4Checksum),
        }
    }

    /// Whether the limit allows one more answer, to this packet.
    pub(super) fn is_within_limit(
        &self,
        kind: AnswerKind,
        packet: &P,
        tables: &Tables,
        now: Time,
    ) -> bool {
        self.is_within(kind, packet, now, tables.answers_per_second)
    }

    /// The same, of a limit of its own.
    pub(super) fn is_within(
        &self,
        kind: AnswerKind,
        packet: &P,
        now: Time,
        per_second: u32,
    ) -> bool {
        let asker = F::asker(packet.data());
        self.shared
            .limits
            .allow(kind, packet.port(), &asker, now, per_second)
    }

    /// Whether the limit is still reached for a flow's packet to a destination where it was before, see [`Refused`](super::refused::Refused).
    #[inline]
    pub(super) fn is_refused_again(
        &self,
        flow: &Flow<F>,
        port: PortId,
        tables: &Tables,
        now: Time,
    ) -> bool {
        let Some(kind) = self.refused.answer(flow, tables.generation) else {
            return false;
        };
        let key = &flow.key;
        let service = u32::from(key.protocol()) << 16 | u32::from(key.destination_port());
        let asker = Asker::of_prefix(key.source(), key.destination(), service);
        let limit = tables.answers_per_second;
        !self
            .shared
            .limits
            .would_allow(kind, port, &asker, now, limit)
    }

    /// Refuses a packet: TCP by a reset, SCTP by an ABORT, UDP by "port unreachable", both from the packet's destination, so it must not have
    /// been rewritten.
    pub(super) fn refuse<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        reason: ReplyReason,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let tables = turn.tables;
        // A reset is never answered, nor counted against the limit. A host that refuses a datagram has all of it.
        if tables.answers_per_second == 0 || flow.flags.rst() || flow.kind.is_fragment() {
            return Verdict::Drop(match reason {
                ReplyReason::NoService => DropReason::NoService,
                ReplyReason::NoConnection => DropReason::NoConnection,
                _ => DropReason::NoRealServer,
            });
        }
        if has_handshake(flow) {
            return self.reset(packet, flow, reason, turn);
        }
        let from = flow.key.destination();
        self.error(packet, flow, from, Error::PortUnreachable, reason, turn)
    }

    /// The next hop towards the real server does not answer: "host unreachable" from the VIP, as a router says it
    /// (RFC 1812 section 5.2.7.1). The packet must not have been rewritten.
    #[cold]
    pub(super) fn host_unreachable<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        vip: F::Address,
        reason: ReplyReason,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let tables = turn.tables;
        if tables.answers_per_second == 0 || flow.kind == Kind::LaterFragment {
            return Verdict::Drop(DropReason::NeighbourFailed);
        }
        self.error(packet, flow, vip, Error::HostUnreachable, reason, turn)
    }

    /// Answers a TCP segment with a reset from its destination (RFC 9293 section 3.10.7.1), an SCTP packet with an ABORT (RFC 9260
    /// section 8.4).
    pub(super) fn reset<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        reason: ReplyReason,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, now) = (turn.tables, turn.now);
        if flow.kind.is_fragment() {
            return Verdict::Drop(DropReason::NoConnection);
        }
        if let Err(reason) = self.may_answer(AnswerKind::Reset, &packet, tables, now) {
            return Verdict::Drop(reason);
        }
        self.answer(
            packet,
            reason,
            DropReason::NoConnection,
            tables,
            turn.sink,
            F::write_reset_for,
        )
    }

    /// The TTL ran out: "time exceeded" from the VIP.
    #[cold]
    pub(super) fn ttl_exceeded<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        vip: F::Address,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        if flow.kind == Kind::LaterFragment {
            return Verdict::Drop(DropReason::TtlExceeded);
        }
        let reason = ReplyReason::TtlExceeded;
        self.error(packet, flow, vip, Error::TtlExceeded, reason, turn)
    }

    /// Larger than the out port's MTU, and not to be fragmented: "fragmentation needed" from the VIP (RFC 1191 section 4), or
    /// "packet too big".
    #[cold]
    pub(super) fn too_big<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        vip: F::Address,
        mtu: u16,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        if flow.kind == Kind::LaterFragment {
            return Verdict::Drop(DropReason::TooBig);
        }
        let reason = ReplyReason::TooBig;
        self.error(packet, flow, vip, Error::TooBig(mtu), reason, turn)
    }

    /// Answers a packet with an ICMP error that quotes it. The packet must not have been rewritten.
    pub(super) fn error<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        from: F::Address,
        error: Error,
        reason: ReplyReason,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, now) = (turn.tables, turn.now);
        let kind = AnswerKind::IcmpError;
        let allowed = match flow.kind.is_fragment() {
            false => self.may_answer(kind, &packet, tables, now),
            // The checksum covers what others bring.
            true => match self.is_within_limit(kind, &packet, tables, now) {
                true => Ok(()),
                false => Err(DropReason::RateLimited),
            },
        };
        if let Err(reason) = allowed {
            return Verdict::Drop(reason);
        }
        self.answer(
            packet,
            reason,
            DropReason::BadL4Header,
            tables,
            turn.sink,
            |frame, offending, mac| F::write_error(frame, offending, mac, from, error),
        )
    }

    /// Turns a packet into an answer that `write` makes of it. Where `write` has none, the packet is dropped.
    fn answer<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        reason: ReplyReason,
        otherwise: DropReason,
        tables: &Tables,
        sink: &mut S,
        write: impl FnOnce(&mut [u8], &[u8], Mac) -> Option<usize>,
    ) -> Verdict {
        let port = packet.port();
        let mut answer = F::Answer::default();
        let answer = answer.as_mut();
        let Some(length) = write(answer, packet.data(), tables.port(port).mac) else {
            return Verdict::Drop(otherwise);
        };
        if !packet.resize(length) {
            return Verdict::Drop(DropReason::NoBuffer);
        }
        packet.data_mut().copy_from_slice(&answer[..length]);
        sink.send(port, packet, Sent::Answered);
        Verdict::Reply(port, reason)
    }
}

//! Comes here: an ICMP error about a packet of TCP, UDP or SCTP. It goes where that packet came from: a packet of the same
//! connection, seen from the other end, so that it is found by the key of the quoted packet's answers.
//!
//! Anyone can write one. So it is believed only if it quotes a connection, and what the connection knows of the quoted
//! packet's sequence number (RFC 5927 section 4.1); and whatever it says, the connection stays as it is.

use super::crossing::Crossing;
use super::family::{Family, Wire};
use super::flow::{goal, service_key};
use super::limit::AnswerKind;
use super::parse::{Datagram, Flow, Kind};
use super::routing::Routed;
use super::schedule::Tried;
use super::unknown::check_answer;
use super::{Core, Origin, Outcome, Turn};
use crate::conn::{AnyAddress, Connection, Found, Key};
use crate::forward::error::Places;
use crate::net::{IcmpErrorKind, protocol};
use crate::packet::{Errand, Packet, Sink};
use crate::stats::Failure;
use crate::tables::{Owner, Service, Tables, Target};
use crate::verdict::{DropReason, LocalReason, PacketContext, Verdict};
use crate::wire::tcp::Flags;

/// How far a quoted sequence number may be from the one that the connection knows.
const PLAUSIBLE: u32 = 1 << 23;
/// How many errors a port passes on in a second, where answers are turned off.
const DEFAULT_PER_SECOND: u32 = 1000;

/// What an ICMP error says.
#[derive(Clone, Copy, Debug)]
pub struct IcmpError<F: Family> {
    pub kind: IcmpErrorKind,
    /// A packet of the connection that goes where the error goes: with the addresses and ports of the quoted one reversed.
    pub flow: Flow<F>,
    /// Who says it.
    pub source: F::Address,
    /// Whether the host, or its port, cannot be reached.
    pub is_absence: bool,
    /// Of a quoted TCP segment; of SCTP the verification tag.
    pub sequence: Option<u32>,
    pub places: Places,
}

impl<F: Family> IcmpError<F> {
    /// `quoted`: the key of the quoted packet, as weir sent it.
    pub fn new(
        (kind, is_absence): (IcmpErrorKind, bool),
        quoted: F::Key,
        quoted_l4: &[u8],
        ttl: u8,
        datagram: &Datagram<F>,
        places: Places,
    ) -> Self
    where
        F: Wire,
    {
        let sequence = match quoted.protocol() {
            // The sequence number, or the verification tag.
            protocol::TCP | protocol::SCTP => quoted_l4
                .get(4..8)
                .and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?))),
            _ => None,
        };
        IcmpError {
            kind,
            flow: Flow {
                key: quoted.reversed(),
                layout: datagram.layout,
                // It opens nothing.
                flags: Flags(Flags::ACK),
                ttl,
                length: datagram.length,
                kind: Kind::Unusual,
            },
            source: datagram.source,
            is_absence,
            sequence,
            places,
        }
    }

    /// The same, of connections whose sides are of different families.
    fn crossing(&self) -> IcmpError<Crossing> {
        IcmpError {
            kind: self.kind,
            flow: self.flow.crossing(),
            source: AnyAddress::from(self.source.into()),
            is_absence: self.is_absence,
            sequence: self.sequence,
            places: self.places,
        }
    }

    /// Whether it quotes what may have been sent of late, in the direction against its own (RFC 5927 section 4.1).
    pub(super) fn is_plausible(&self, connection: &Connection<F::Key>, reply: bool) -> bool {
        let Some(sequence) = self.sequence else {
            return true;
        };
        // What the side that the packet went to takes next.
        let expected = connection.acknowledged(reply);
        if self.flow.key.protocol() == protocol::SCTP {
            // RFC 9260 section 10.2; of an INIT it is 0.
            let is_initial = sequence == 0 && connection.state.is_handshake();
            return is_initial || expected.is_none_or(|tag| tag == sequence);
        }
        let is_near = |expected: u32| {
            let ahead = sequence.wrapping_sub(expected) as i32;
            ahead.unsigned_abs() <= PLAUSIBLE
        };
        expected.is_none_or(is_near)
    }
}

impl<F: Wire, P: Packet> Core<F, P> {
    /// Whether an ICMP error to a port's address is about a connection that has its source from there, and not about one of the
    /// host's own.
    pub(super) fn is_about_hairpin(
        &self,
        packet: &P,
        datagram: &Datagram<F>,
        tables: &Tables,
    ) -> bool {
        let pool = tables
            .port(packet.port())
            .hairpin
            .of(datagram.destination.into());
        let error = F::icmp_error(packet.data(), datagram);
        pool.as_ref().zip(error.ok()).is_some_and(|(pool, error)| {
            let key = &error.flow.key;
            key.protocol() != F::ICMP
                && pool.contains((key.destination(), key.destination_port()))
                && (self.live.has(key) || self.local_elsewhere(&error.flow).is_some())
        })
    }

    /// An ICMP error, about whatever it may be.
    #[cold]
    pub(super) fn icmp_error<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        datagram: &Datagram<F>,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let error = match F::icmp_error(packet.data(), datagram) {
            Ok(error) => error,
            Err(reason) => {
                let tables = turn.tables;
                let is_own = tables
                    .owner(packet.port(), datagram.destination.into())
                    .is_some();
                if is_own || !tables.port(packet.port()).forwards {
                    return dropped(reason);
                }
                // Between hosts a router does not look inside.
                let routed = self.routed(&packet, datagram);
                return (self.route(packet, &routed, turn), PacketContext::default());
            }
        };
        if error.flow.key.protocol() == F::ICMP {
            return self.echo_error(packet, &error, turn);
        }
        let target = turn.tables.target(&service_key(&error.flow.key));
        let about = turn.tables.target(&service_key(&error.flow.key.reversed()));
        if target.owner.is_none()
            && let Some(service) = about.service.filter(|service| !service.mode.sees_replies)
        {
            return self.error_from_inside(packet, &error, service, turn);
        }
        let others = turn.beside.others;
        let mut turn = turn.reborrow();
        if let Some(crossing) = turn.beside.crossing.take() {
            turn.beside.others = others;
            let error = error.crossing();
            let crosses = target.service.is_some_and(|service| service.crosses());
            if crosses || crossing.live.has(&error.flow.key) {
                return crossing.pass_error(packet, &error, target, &mut turn);
            }
        }
        self.pass_error(packet, &error, target, &mut turn)
    }
}

impl<F: Family, P: Packet> Core<F, P> {
    /// Sends an error to the end of its connection that it is for.
    pub(super) fn pass_error<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        error: &IcmpError<F>,
        target: Target,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let (tables, now) = (turn.tables, turn.now);
        let key = &error.flow.key;
        let found = self.live.table.find(self.live.table.hash(key), key);
        let is_live = |found: &Found| {
            let connection = self.live.table.get(found.id);
            !tables.timing.is_silent(connection, now.millis())
        };
        let Some(found) = found.filter(is_live) else {
            return self.error_of_no_connection(packet, error, target, turn);
        };
        let mut connection = *self.live.table.get(found.id);
        let context = PacketContext {
            real: Some(connection.real),
            state: Some(connection.state.name()),
            ..PacketContext::default()
        };
        // From the real server, or from the way to it: what comes from elsewhere is forged.
        let standing = self.live.counters.reals.get(connection.real.index());
        let comes_from_it = standing.is_none_or(|real| {
            real.ends_connections()
                || match real.standing.tells() {
                    true => tables.is_way_to(packet.port(), key.source()),
                    false => real.standing.admits(true, packet.port()),
                }
        });
        let tells = standing.is_some_and(|real| real.standing.tells());
        let is_timed = standing.is_some_and(|real| real.standing.times());
        if found.reply && !comes_from_it {
            return (Verdict::Drop(DropReason::WrongPort), context);
        }
        let mut error = *error;
        if tells && found.reply {
            self.requote(&mut packet, &mut error, found.id);
        }
        if !error.is_plausible(&connection, found.reply) {
            return (Verdict::Drop(DropReason::IcmpSequence), context);
        }
        if found.reply && error.is_absence {
            self.note_failure(found.id, Failure::Unreachable);
        }
        let verdict = self.send_error(packet, &error, &mut connection, found.reply, turn);
        self.live.remember_hops(found.id, &connection, is_timed);
        (verdict, context)
    }

    /// An error about a connection that another worker has perhaps; or about a service's packet that needs no connection, since
    /// its real server follows from its addresses and ports.
    fn error_of_no_connection<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        error: &IcmpError<F>,
        Target { owner, service }: Target,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let (tables, now) = (turn.tables, turn.now);
        let (flow, key) = (&error.flow, &error.flow.key);
        if let Some(port) = check_answer(key, tables) {
            let reason = LocalReason::ToPortAddress;
            let verdict = self.deliver(packet, port, reason, turn);
            return (verdict, PacketContext::default());
        }
        let errand = match self.origin {
            Origin::Device => Errand::Find,
            Origin::Worker => packet.errand(),
        };
        if let Some((worker, errand)) =
            self.request_elsewhere(flow, service, errand, tables, false, now)
        {
            return self.hand_over(packet, worker, errand, turn.sink);
        }
        let elsewhere = match owner {
            Some(Owner::Pool | Owner::Port(_)) => self.local_elsewhere(flow),
            None => (self.reply_elsewhere(flow, tables)).or_else(|| {
                let rule = self.rule_of(packet.port(), flow, tables)?;
                debug_assert!(rule.from.contains(&key.source().into()));
                self.outward_elsewhere(flow, tables)
            }),
            Some(Owner::Vip | Owner::Checks) => None,
        };
        if let Some(worker) = elsewhere {
            return self.hand_over(packet, worker, Errand::Find, turn.sink);
        }
        let needs_none =
            |service: &&Service| !service.mode.sees_replies && service.scheduler_kind.is_stateless;
        let Some(service) = service.filter(needs_none) else {
            let is_inside = tables.snat.of(error.source).is_some();
            if owner.is_none() && tables.port(packet.port()).forwards && !is_inside {
                // About a packet between hosts, as itself.
                let routed = Routed {
                    source: error.source,
                    destination: key.destination(),
                    ttl: flow.ttl,
                    length: flow.length,
                    kind: Kind::Unusual,
                    may_be_answered: false,
                };
                return (self.route(packet, &routed, turn), PacketContext::default());
            }
            return dropped(DropReason::IcmpNoConnection);
        };
        // An error makes no template: anyone can write one.
        let scheduled = self.schedule(service, flow, now, tables, &Tried::default(), false);
        let Ok((real, _, template)) = scheduled else {
            return dropped(DropReason::IcmpNoConnection);
        };
        if let Some(template) = template {
            self.live.release(template);
        }
        let context = PacketContext {
            service: Some(service.id),
            real: Some(real.id),
            ..PacketContext::default()
        };
        let mut connection = self.unkept(flow, service, real);
        (
            self.send_error(packet, error, &mut connection, false, turn),
            context,
        )
    }

    /// Whether an error may go on, wherever it goes. `reply`: to the client.
    pub(super) fn may_pass<S: Sink<Packet = P>>(
        &self,
        packet: &P,
        error: &IcmpError<F>,
        reply: bool,
        turn: &Turn<'_, S>,
    ) -> Result<(), DropReason> {
        let (tables, now) = (turn.tables, turn.now);
        // RFC 1812 section 5.3.1; and no error is answered by one (section 4.3.2.7).
        if error.flow.ttl <= 1 {
            return Err(DropReason::TtlExceeded);
        }
        // To a client it comes from the VIP.
        let is_beyond_link = !reply && F::stays_on_link(error.source);
        if tables.is_bad_source(error.source) || is_beyond_link {
            return Err(DropReason::BadSource);
        }
        let limit = match tables.answers_per_second {
            0 => DEFAULT_PER_SECOND,
            limit => limit,
        };
        match self.is_within(AnswerKind::PassedError, packet, now, limit) {
            true => Ok(()),
            false => Err(DropReason::RateLimited),
        }
    }

    /// Rewrites an error about a connection, and sends it on.
    fn send_error<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        error: &IcmpError<F>,
        connection: &mut Connection<F::Key>,
        reply: bool,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, now) = (turn.tables, turn.now);
        if let Err(reason) = self.may_pass(&packet, error, reply, turn) {
            return Verdict::Drop(reason);
        }
        // It keeps its sender's address.
        if connection.is_outward() && F::stays_on_link(error.source) {
            return Verdict::Drop(DropReason::BadSource);
        }
        let Some(way) = self.way(connection, reply, tables) else {
            return Verdict::Drop(DropReason::NoRoute);
        };
        let mtu = tables.port(way.port).mtu;
        if !connection.is_wrapped() && F::length_sent(&error.flow) > mtu {
            return Verdict::Drop(DropReason::TooBig);
        }
        if way.has_failed(tables) {
            let destination = goal(connection, reply, tables);
            self.want(way.port, way.address(destination, tables), now);
            return Verdict::Drop(DropReason::NeighbourFailed);
        }
        if connection.is_wrapped() {
            return self.forward_wrapped_error(packet, error, connection, way, turn);
        }
        let rewritten = F::rewrite_error(
            &mut packet,
            error.places,
            connection,
            reply,
            mtu,
            &mut self.memory,
        );
        if let Err(reason) = rewritten {
            return Verdict::Drop(reason);
        }
        self.counters().icmp_errors[error.kind as usize].add(1);
        let destination = connection.destination(reply).into();
        self.send_by(way, destination, packet, false, turn)
    }
}

fn dropped(reason: DropReason) -> Outcome {
    (Verdict::Drop(reason), PacketContext::default())
}

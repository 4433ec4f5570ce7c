//! Comes here: a packet of TCP, UDP or SCTP that belongs to no connection. Whose it is, and what becomes of it: a connection, an
//! answer, another worker, or nothing.

use super::connect::Unmade;
use super::family::Family;
use super::flow::{count, service_key};
use super::parse::{Flow, Kind};
use super::routing::Routed;
use super::schedule::{Tried, Unscheduled, could_serve, usable_way};
use super::sctp::is_sctp;
use super::{Core, Origin, Outcome, Turn, has_handshake, is_tcp};
use crate::config::{ClientAddress, UnknownTcp, WhenUnavailable};
use crate::conn::local_port::Effort;
use crate::conn::{Address, Connection, Key, Pool};
use crate::packet::{Errand, Packet, Sink, Taken};
use crate::service::{Real, ServiceKey};
use crate::tables::{Owner, Service, Tables, Target};
use crate::units::PortId;
use crate::verdict::{DropReason, LocalReason, PacketContext, ReplyReason, Verdict};
use std::sync::Arc;

/// See [`Tables::check_answer`].
pub(super) fn check_answer<K: Key>(key: &K, tables: &Tables) -> Option<PortId> {
    tables.check_answer(key.source(), (key.destination(), key.destination_port()))
}

impl<F: Family, P: Packet> Core<F, P> {
    /// A packet that belongs to no connection, and what it is to.
    #[inline(never)]
    pub(super) fn unknown<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        Target { owner, service }: Target,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let target = Target { owner, service };
        if turn.beside.crossing.is_some() && Self::crosses(flow, target, turn) {
            return Self::cross(packet, flow, target, turn);
        }
        let (tables, now) = (turn.tables, turn.now);
        let key = &flow.key;
        let has_handshake = has_handshake(flow);
        let is_later = flow.kind == Kind::LaterFragment;
        let opens = !is_later && (!has_handshake || flow.flags.opens());
        let unattributed = PacketContext::default();
        let owner = match F::stays_on_link(key.destination()) {
            true => tables.owner(packet.port(), key.destination().into()),
            false => owner.copied(),
        };
        if owner.is_some() && tables.is_bad_source(key.source()) {
            let verdict = match check_answer(key, tables) {
                Some(port) => self.deliver(packet, port, LocalReason::ToPortAddress, turn),
                None => Verdict::Drop(DropReason::BadSource),
            };
            return (verdict, unattributed);
        }
        let errand = match self.origin {
            Origin::Device => Errand::Find,
            Origin::Worker => packet.errand(),
        };
        if let Some((worker, errand)) =
            self.request_elsewhere(flow, service, errand, tables, opens, now)
        {
            return self.hand_over(packet, worker, errand, turn.sink);
        }
        match owner {
            Some(Owner::Vip | Owner::Pool) if F::stays_on_link(key.source()) => {
                return (Verdict::Drop(DropReason::BadSource), unattributed);
            }
            Some(Owner::Vip) => {}
            Some(Owner::Port(port)) => {
                // A nat client's in the subnet of its real server, perhaps.
                let pool = tables.port(port).hairpin.of(key.destination().into());
                let is_pair =
                    |pool: &Arc<Pool>| pool.contains((key.destination(), key.destination_port()));
                if pool.as_ref().is_some_and(is_pair)
                    && let Some(worker) = self.local_elsewhere(flow)
                {
                    return self.hand_over(packet, worker, Errand::Find, turn.sink);
                }
                let reason = LocalReason::ToPortAddress;
                return (self.deliver(packet, port, reason, turn), unattributed);
            }
            Some(Owner::Checks) => {
                let verdict = match check_answer(key, tables) {
                    Some(port) => self.deliver(packet, port, LocalReason::ToPortAddress, turn),
                    None => Verdict::Drop(DropReason::NotForUs),
                };
                return (verdict, unattributed);
            }
            Some(Owner::Pool) => {
                if let Some(port) = check_answer(key, tables) {
                    let reason = LocalReason::ToPortAddress;
                    return (self.deliver(packet, port, reason, turn), unattributed);
                }
                if let Some(worker) = self.local_elsewhere(flow) {
                    return self.hand_over(packet, worker, Errand::Find, turn.sink);
                }
                let policy = tables.unknown_tcp;
                return (self.no_connection(packet, flow, policy, turn), unattributed);
            }
            None => {
                if let Some(worker) = self.reply_elsewhere(flow, tables) {
                    return self.hand_over(packet, worker, Errand::Find, turn.sink);
                }
                if tables.any_one_packet
                    && let Some(reply) = self.reply_of_one(flow, tables)
                {
                    return self.reply_once(packet, flow, reply, turn);
                }
                let Some(rule) = self.rule_of(packet.port(), flow, tables) else {
                    return (self.stray(packet, flow, turn), unattributed);
                };
                return match self.outward_elsewhere(flow, tables) {
                    Some(worker) => self.hand_over(packet, worker, Errand::Find, turn.sink),
                    None => self.outward(packet, flow, rule, turn),
                };
            }
        }
        if flow.ttl <= 1 {
            return (
                self.ttl_exceeded(packet, flow, key.destination(), turn),
                unattributed,
            );
        }
        let is_guarded = service.is_some_and(|service| service.guard.is_some());
        // Whether what comes now is decided on by the packet's destination alone.
        let is_decided_here =
            self.is_alone() && !is_guarded || (service.is_none() && !tables.any_departed);
        let Some(service) = service else {
            let verdict = self.refuse(packet, flow, ReplyReason::NoService, turn);
            self.note_refused(verdict, flow, is_decided_here, tables);
            return (verdict, unattributed);
        };
        let mut context = PacketContext {
            service: Some(service.id),
            ..unattributed
        };
        // A reload has given the service real servers of the VIP's own family, and the connection here has just ended.
        if F::CROSSES && !service.crosses() {
            return (Verdict::Drop(DropReason::NoConnection), context);
        }
        if let Some(guard) = &service.guard
            && let Some(reason) = self.is_refused(guard, service.id, flow, opens, turn)
        {
            return (Verdict::Drop(reason), context);
        }
        let is_stateless = !service.mode.sees_replies && service.scheduler_kind.is_stateless;
        if !opens && !is_stateless {
            let policy = match is_sctp(flow) && !service.mode.sees_replies {
                // By another path of an association that lives, perhaps, and that an ABORT would end.
                true => UnknownTcp::Drop,
                false => service.unknown_tcp.unwrap_or(tables.unknown_tcp),
            };
            let verdict = self.no_connection(packet, flow, policy, turn);
            self.note_refused(verdict, flow, is_decided_here, tables);
            return (verdict, context);
        }
        // An INIT that could not be sent on makes no connection: see `is_untranslatable`.
        if flow.kind.is_fragment() && is_sctp(flow) && service.mode.sees_replies {
            return (Verdict::Drop(DropReason::SctpFragment), context);
        }
        if is_later {
            // The first one was sent on without an entry, for which there was no room.
            let Some(real) = self.choice(service, flow, tables) else {
                return (Verdict::Drop(DropReason::NoRealServer), context);
            };
            context.real = Some(real.id);
            let connection = self.unkept(flow, service, real);
            return (self.pass(packet, flow, connection, turn), context);
        }
        let mut tried = Tried {
            elsewhere: errand.taken(),
            all_but: match errand {
                Errand::Last(freed) => Some(freed),
                _ => None,
            },
            ..Tried::default()
        };
        let stats = &self.shared.stats;
        let is_taken =
            |real: &Real| tried.has(real.id) && could_serve::<F>(service, real, tables, stats);
        let is_any_taken = tried.has_any() && service.reals.iter().any(is_taken);
        let mut not_here = is_any_taken.then_some(DropReason::AmbiguousReply);
        let mut has_room_for_template = true;
        let named = match service.quic {
            None => None,
            Some(_) => self.named_real(&packet, flow, service),
        };
        let is_taking = errand == Errand::Take;
        let mut effort = match is_taking {
            true => Effort::last(),
            false => Effort::default(),
        };
        loop {
            let scheduled = match tried.here.is_full() {
                true => Err(Unscheduled::NoRealServer),
                false => match named
                    .and_then(|real| Some((real, usable_way::<F>(&real, tables, &tried)?)))
                {
                    Some((real, way)) => Ok((real, way, None)),
                    None => {
                        self.schedule(service, flow, now, tables, &tried, has_room_for_template)
                    }
                },
            };
            let (real, way, template) = match scheduled {
                Ok(chosen) => chosen,
                Err(why) => {
                    if let Unscheduled::Unreachable(Some((way, real))) = why {
                        self.want(way.port, way.address(real, tables), now);
                    }
                    if not_here == Some(DropReason::LocalPortsExhausted) && service.pool.is_some() {
                        // Other workers have other local pairs: first each is asked for a free one.
                        if !effort.takes_idle {
                            if let Some(worker) = self.next_with_pairs(flow, service) {
                                return self.hand_over(
                                    packet,
                                    worker,
                                    Errand::Make(Taken::NONE),
                                    turn.sink,
                                );
                            }
                            effort = Effort::last();
                            tried.here.clear();
                            not_here = None;
                            continue;
                        }
                        let next = match is_taking {
                            true => self.next_with_pairs(flow, service),
                            false => self.first_with_pairs(flow, service),
                        };
                        if let Some(worker) = next {
                            return self.hand_over(packet, worker, Errand::Take, turn.sink);
                        }
                    }
                    if matches!(errand, Errand::Make(_))
                        && is_any_taken
                        && let Some(worker) = self.first_to_clear(flow, service, tables)
                    {
                        let errand = Errand::Clear(tried.elsewhere);
                        return self.hand_over(packet, worker, errand, turn.sink);
                    }
                    let verdict = match (not_here, why) {
                        (Some(reason), _) => Verdict::Drop(reason),
                        (None, Unscheduled::NoRoute | Unscheduled::Unreachable(None)) => {
                            Verdict::Drop(DropReason::NoRoute)
                        }
                        _ if service.when_unavailable == WhenUnavailable::Drop => {
                            Verdict::Drop(DropReason::NoRealServer)
                        }
                        (None, Unscheduled::Unreachable(_)) if !has_handshake => self
                            .host_unreachable(
                                packet,
                                flow,
                                key.destination(),
                                ReplyReason::NoRealServer,
                                turn,
                            ),
                        _ => self.refuse(packet, flow, ReplyReason::NoRealServer, turn),
                    };
                    return (verdict, context);
                }
            };
            context.real = Some(real.id);
            // The fragments of a datagram go to one real server: by a connection.
            if service.one_packet && flow.kind != Kind::FirstFragment {
                context.new_connection = true;
                return (self.send_once(packet, flow, service, real, turn), context);
            }
            let connected = self.connect(flow, service, real, way, template, &mut effort, turn);
            match connected {
                Ok(id) => {
                    context.new_connection = true;
                    let mut connection = *self.live.table.get(id);
                    context.state = Some(connection.state.name());
                    let verdict = match service.client_address {
                        ClientAddress::None => {
                            self.forward(packet, flow, &mut connection, false, turn)
                        }
                        _ => self.forward_telling(packet, flow, &mut connection, id, turn),
                    };
                    if service.is_timed {
                        self.begin_timing(id, flow, now);
                    }
                    self.live.remember_hops(id, &connection, service.is_timed);
                    return (verdict, context);
                }
                Err(unmade) => {
                    if let Some(template) = template {
                        self.live.release(template);
                    }
                    match unmade {
                        Unmade::NotHere(reason) => {
                            tried.here.push(real.id);
                            not_here = Some(reason);
                        }
                        // The client is served for once, though not bound.
                        Unmade::Drop(DropReason::ConnectionTableFull)
                            if template.is_some() && has_room_for_template =>
                        {
                            has_room_for_template = false;
                        }
                        Unmade::Drop(DropReason::ConnectionTableFull | DropReason::SynFlood)
                            if is_stateless =>
                        {
                            context.new_connection = true;
                            let connection = self.unkept(flow, service, real);
                            return (self.pass(packet, flow, connection, turn), context);
                        }
                        Unmade::Drop(reason) => {
                            return (Verdict::Drop(reason), context);
                        }
                    }
                }
            }
        }
    }

    /// A TCP segment, no SYN, or an SCTP packet, no INIT, of no connection: both ends hear at once that there is none (RFC 9293
    /// section 3.10.7.1, RFC 9260 section 8.4).
    pub(super) fn no_connection<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        policy: UnknownTcp,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        match policy {
            UnknownTcp::Reset if has_handshake(flow) && !flow.flags.opens() => {
                self.refuse(packet, flow, ReplyReason::NoConnection, turn)
            }
            _ => Verdict::Drop(DropReason::NoConnection),
        }
    }

    /// Remembers a packet that the limit refused an answer, if its destination alone decided that one was due.
    fn note_refused(
        &mut self,
        verdict: Verdict,
        flow: &Flow<F>,
        is_decided_here: bool,
        tables: &Tables,
    ) {
        if is_decided_here && verdict == Verdict::Drop(DropReason::RateLimited) {
            self.refused.note(flow, tables.generation);
        }
    }

    /// A packet to no address of weir's own and of no connection: a nat real server's segment is answered, on the port
    /// that leads to the real server. All else goes on as between hosts, if its port forwards.
    fn stray<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let tables = turn.tables;
        let key = &flow.key;
        let forwards = tables.port(packet.port()).forwards;
        let routed = Routed {
            source: key.source(),
            destination: key.destination(),
            ttl: flow.ttl,
            length: flow.length,
            kind: flow.kind,
            may_be_answered: flow.kind != Kind::LaterFragment,
        };
        if !has_handshake(flow) || flow.flags.opens() {
            return match forwards {
                true => self.route(packet, &routed, turn),
                false => Verdict::Drop(DropReason::NotForUs),
            };
        }
        let from = ServiceKey {
            address: key.source(),
            port: key.source_port(),
            ..service_key(key)
        };
        let any = from.every();
        // Where every port is a service's, a segment is as likely one of a conversation of the real server's own.
        let any = tables.natted.get(&any).filter(|_| !forwards);
        let given = tables.natted.get(&from);
        let is_given = given.is_some();
        let services = [given, any];
        let mut services = services
            .into_iter()
            .flatten()
            .flat_map(|them| them.services.iter())
            // Of a real server that keeps ports there are replies from those of its service only.
            .filter(|them| them.service.last == 0 || is_given || them.service.covers(from.port));
        let Some(first) = services.next() else {
            return match forwards {
                true => self.route(packet, &routed, turn),
                false => Verdict::Drop(DropReason::NoConnection),
            };
        };
        if !tables.is_way_to(packet.port(), key.source()) {
            return Verdict::Drop(DropReason::WrongPort);
        }
        let service = tables.service(&first.service);
        let policy = service.and_then(|service| service.unknown_tcp);
        let policy = policy.unwrap_or(tables.unknown_tcp);
        self.no_connection(packet, flow, policy, turn)
    }

    /// What a packet's connection would be, where none is kept: of a mode without replies.
    pub(super) fn unkept(
        &self,
        flow: &Flow<F>,
        service: &Service,
        real: Real,
    ) -> Connection<F::Key> {
        let address = F::address(real.address).unwrap_or(F::Address::UNSPECIFIED);
        let to = (address, real.port_for(flow.key.destination_port()));
        let translation = service.mode.translation(&flow.key, to, None);
        let mut connection = Connection::new(flow.key, translation, real.id);
        if is_tcp(flow) && service.tcp_mss.is_some() {
            connection.set_clamped();
        }
        connection
    }

    /// Sends a packet on without a connection.
    pub(super) fn pass<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        mut connection: Connection<F::Key>,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        if let Some(real) = self.live.counters.reals.get(connection.real.index()) {
            count(&real.counters, flow, false);
        }
        self.forward(packet, flow, &mut connection, false, turn)
    }
}

//! Comes here: a packet of a network that `[[snat]]` names to a host that is not weir, of no connection that is known. Its source
//! becomes an address and port of a local pool, and what answers it comes back by that.
//!
//! Such a connection is an entry as any other: its request is the inside host's, its destination stays, and its counters are
//! those of the rule. An ICMP echo is kept as a flow between the identifier, in the place of a source port, and port 0.
//!
//! The mapping is one to each remote address and port, and so is the filtering (RFC 4787 sections 4.1 and 5: address and
//! port-dependent); RFC 5508 has the same of ICMP.

use super::connect::Local;
use super::exhausted::is_recent;
use super::family::{Error, Family, Wire};
use super::flow::{Way, count, direction, resolve};
use super::fragment::Fragment;
use super::icmp_error::IcmpError;
use super::live::{Live, Room};
use super::local::message_of;
use super::parse::{Datagram, Flow, Kind};
use super::routing::{Routed, is_host};
use super::sctp::is_sctp;
use super::{Core, Origin, Outcome, Turn, is_tcp};
use crate::conn::local_port::{Choice, Effort, Look, Pair, Pairs, choose};
use crate::conn::state::next_tcp;
use crate::conn::{Address, ConnId, Connection, Key, State, Translation, Worth};
use crate::packet::{Errand, Head, Packet, Sink};
use crate::stats::{PairSearch, WorkerStats};
use crate::tables::{Owner, SnatRule, Tables, Target};
use crate::units::{PortId, WorkerId};
use crate::verdict::{DropReason, PacketContext, ReplyReason, Verdict};
use crate::wire::tcp::Flags;
use std::net::IpAddr;

/// Pairs that one search looks at, in vain at worst. After that its remote end rests for a while, so that a host that has used
/// a pool up towards one costs the worker little, and takes nothing from connections to others.
const LOOKS: u32 = 2048;

impl<F: Family, P: Packet> Core<F, P> {
    /// The rule of `[[snat]]` that a packet from `source` falls under: not on its way to a host on the link that it comes from, to the
    /// broadcast address of a subnet, nor by another port than the rule's. A packet without a route falls under it as well: its sender is told.
    pub(super) fn snat_rule<'t>(
        &self,
        port: PortId,
        (source, destination): (F::Address, F::Address),
        tables: &'t Tables,
    ) -> Option<&'t SnatRule> {
        let rule = tables.snat.of(source)?;
        let destination = destination.into();
        if !is_host(destination)
            || F::stays_on_link(source)
            || F::address(destination).is_none_or(F::stays_on_link)
            || tables.port(port).is_on_link(destination)
            || tables.is_announced(destination)
        {
            return None;
        }
        let route = tables.routes.get(destination);
        // RFC 2644: no broadcasts of a subnet from elsewhere.
        if let (Some(route), IpAddr::V4(address)) = (route, destination)
            && tables.port(route.port).is_broadcast(address)
        {
            return None;
        }
        let leaves = |out| route.is_none_or(|route| route.port == out);
        rule.out_port.is_none_or(leaves).then_some(rule)
    }

    /// The same, of a flow's packet; none of one whose pool is of another family, nor of SCTP.
    pub(super) fn rule_of<'t>(
        &self,
        port: PortId,
        flow: &Flow<F>,
        tables: &'t Tables,
    ) -> Option<&'t SnatRule> {
        if tables.snat.is_empty() || F::CROSSES || is_sctp(flow) {
            return None;
        }
        let key = &flow.key;
        self.snat_rule(port, (key.source(), key.destination()), tables)
    }

    /// The worker that has the outward connections of a flow, if it is another one: where a NIC brings their packets. Those of a
    /// real server's own address and port of a nat service are where the replies of that would be looked for last.
    pub(super) fn outward_elsewhere(&self, flow: &Flow<F>, tables: &Tables) -> Option<WorkerId> {
        if self.is_alone() || self.origin != Origin::Device || self.may_be_natted(flow, tables) {
            return None;
        }
        let (steering, key) = (&self.shared.steering, &flow.key);
        let owner = match is_echo(flow) {
            true => steering.owner_of_addresses(key.source(), key.destination()),
            false => steering.owner(key),
        };
        (owner != self.worker).then_some(owner)
    }

    /// Decides on a packet of no connection that falls under a rule.
    #[cold]
    pub(super) fn outward<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        rule: &SnatRule,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let (tables, now) = (turn.tables, turn.now);
        let (source, destination) = (flow.key.source(), flow.key.destination());
        let mut context = PacketContext {
            service: Some(rule.service),
            ..PacketContext::default()
        };
        if tables.is_bad_source(source) {
            return (Verdict::Drop(DropReason::BadSource), context);
        }
        if !tables.is_way_to(packet.port(), source) {
            return (Verdict::Drop(DropReason::WrongPort), context);
        }
        if flow.kind == Kind::LaterFragment {
            return (Verdict::Drop(DropReason::NoConnection), context);
        }
        if is_tcp(flow) && !flow.flags.opens() {
            let verdict = self.no_connection(packet, flow, tables.unknown_tcp, turn);
            return (verdict, context);
        }
        let routed = Routed {
            source,
            destination,
            ttl: flow.ttl,
            length: flow.length,
            kind: flow.kind,
            may_be_answered: true,
        };
        let Some(way) = resolve(tables, destination) else {
            let (error, reason) = (Error::NoRoute, ReplyReason::NoRoute);
            let verdict = self.tell(packet, &routed, error, reason, DropReason::NoRoute, turn);
            return (verdict, context);
        };
        if flow.ttl <= 1 {
            let (error, reason) = (Error::TtlExceeded, ReplyReason::TtlExceeded);
            let verdict = self.tell(
                packet,
                &routed,
                error,
                reason,
                DropReason::TtlExceeded,
                turn,
            );
            return (verdict, context);
        }
        if way.has_failed(tables) {
            self.want(way.port, way.address(destination.into(), tables), now);
            let (error, reason) = (Error::HostUnreachable, ReplyReason::HostUnreachable);
            let otherwise = DropReason::NeighbourFailed;
            let verdict = self.tell(packet, &routed, error, reason, otherwise, turn);
            return (verdict, context);
        }
        context.real = Some(rule.real);
        match self.connect_outward(flow, rule, way, turn) {
            Ok(id) => {
                context.new_connection = true;
                let mut connection = *self.live.table.get(id);
                context.state = Some(connection.state.name());
                let verdict = self.forward(packet, flow, &mut connection, false, turn);
                self.live.table.get_mut(id).remember_hops(&connection);
                (verdict, context)
            }
            Err(reason) => (Verdict::Drop(reason), context),
        }
    }

    /// Makes the connection of a flow's first packet.
    fn connect_outward<S: Sink<Packet = P>>(
        &mut self,
        flow: &Flow<F>,
        rule: &SnatRule,
        way: Way,
        turn: &mut Turn<'_, S>,
    ) -> Result<ConnId, DropReason> {
        let (tables, now) = (turn.tables, turn.now.millis());
        let (key, tcp) = (&flow.key, is_tcp(flow));
        let hash = self.live.table.hash(key);
        let syn = tcp.then_some(hash);
        let room = self.live.make_room(rule.service, syn, now);
        self.reset_given_up(tables, turn.sink);
        match room {
            Room::Yes => {}
            Room::No => return Err(DropReason::ConnectionTableFull),
            Room::Later => return Err(DropReason::SynFlood),
        }
        let reply_key = |(local, port)| {
            let remote = (key.destination(), key.destination_port());
            F::Key::new(remote.0, remote.1, local, port, key.protocol())
        };
        let pair = self.outward_pair(flow, rule, reply_key, syn, turn)?;
        self.reset_given_up(tables, turn.sink);
        self.reset_left(&reply_key(pair), tables, turn.sink);
        let translation = Translation {
            source: pair.0,
            source_port: pair.1,
            destination: key.destination(),
            destination_port: key.destination_port(),
            is_applied: true,
            sees_replies: true,
            is_wrapped: false,
        };
        let mut connection = Connection::new(*key, translation, rule.real);
        connection.state = match (tcp, is_echo(flow)) {
            (true, _) => next_tcp(State::None, direction(&connection, false), flow.flags),
            (false, true) => State::Icmp,
            (false, false) => State::Udp,
        };
        if !tcp {
            connection.set_begun(now);
        }
        connection.last_seen = now;
        connection.route_generation = tables.route_generation;
        connection.set_hop(false, way.hop);
        let is_active = connection.state.is_active();
        let reply = self.live.table.hash(&connection.reply);
        let id = (self.live).add(connection, hash, Some(reply), rule.service);
        let id = id.ok_or(DropReason::ConnectionTableFull)?;
        self.sweep.connection_made();
        if let Some(stats) = self.live.counters.reals.get(rule.real.index()) {
            let counters = &stats.counters;
            counters.connections.add(1);
            self.live.counters.connection_begun(rule.real, is_active);
            count(counters, flow, false);
        }
        Ok(id)
    }

    /// A local pair towards a remote address and port: a free one that this worker gets the replies of, or one whose connection
    /// is over or unproven, which is given up then. None for a host that holds more than its share of those that are left.
    fn outward_pair<S: Sink<Packet = P>>(
        &mut self,
        flow: &Flow<F>,
        rule: &SnatRule,
        reply_key: impl Fn(Pair<F::Address>) -> F::Key,
        syn: Option<u64>,
        turn: &Turn<'_, S>,
    ) -> Result<Pair<F::Address>, DropReason> {
        let (tables, now) = (turn.tables, turn.now.millis());
        let counters = self.live.counters.clone();
        let Some(stats) = counters.reals.get(rule.real.index()) else {
            return Err(DropReason::LocalPortsExhausted);
        };
        // Of any remote end: while it is set, whatever ends or is over says so.
        let exhausted_at = &stats.pairs.exhausted_at;
        let remote = self
            .live
            .remote(rule.real, &reply_key((F::Address::UNSPECIFIED, 0)));
        let of_host = |live: &Live<F>| live.remote_of_host(remote, flow.key.source());
        let mut rests = None;
        if exhausted_at.get() != 0 {
            let of_host = of_host(&self.live);
            if self.live.exhausted.rests(of_host, now).is_some() {
                return Err(DropReason::LocalPortsUnfair);
            }
            rests = self.live.exhausted.rests(remote, now);
            if rests == Some(None) {
                note_exhausted(&counters, rule);
                return Err(DropReason::LocalPortsExhausted);
            }
            if !is_recent(exhausted_at.get(), now) {
                exhausted_at.set(0);
            }
        }
        let pool = &*rule.pool;
        if self.host_holds_too_much(pool, flow, &reply_key, tables, now) {
            if let Some(left) = rests.flatten() {
                self.live.exhausted.leave(remote, left);
            }
            exhausted_at.set(now.0.max(1));
            let of_host = of_host(&self.live);
            self.live.exhausted.note(of_host, now);
            return Err(DropReason::LocalPortsUnfair);
        }
        // Nothing of an earlier search: ports that follow from each other can be guessed.
        let search = PairSearch::default();
        let start = self.draws.next();
        let mut effort = Effort {
            looks: LOOKS,
            takes_idle: false,
        };
        let mut pairs = Local {
            live: &mut self.live,
            shared: &self.shared.steering,
            worker: self.worker,
            reply_key: &reply_key,
            beside: &turn.beside,
            tables,
            now,
        };
        let chosen = match rests.flatten() {
            None => choose(pool, &search, start, now, &mut effort, &mut pairs),
            Some(left) if pool.contains(left) && pairs.is_ours(left) => match pairs.look(left) {
                Look::Free => Some(Choice::Free(left)),
                Look::Held(held) if held.worth != Worth::Idle => Some(Choice::Held(left, held)),
                Look::Held(_) | Look::Kept => None,
            },
            Some(_) => None,
        };
        match chosen {
            None => {
                if rests.is_none() {
                    exhausted_at.set(now.0.max(1));
                    self.live.exhausted.note(remote, now);
                }
                note_exhausted(&counters, rule);
                Err(DropReason::LocalPortsExhausted)
            }
            Some(Choice::Free(pair)) => Ok(pair),
            Some(Choice::Held(pair, held)) => {
                let places = pool.size() / self.shared.steering.workers() as u32;
                match self.live.give_up(held, places, syn, now) {
                    Room::Yes => Ok(pair),
                    _ => Err(DropReason::SynFlood),
                }
            }
        }
    }

    /// Returns the source of an ICMP error about a connection's packet: the VIP. An outward connection has no VIP: an inside host
    /// hears from the address of the port that it is behind, as from a router, and an outside host from the local pool.
    pub(super) fn speaker(
        &self,
        connection: &Connection<F::Key>,
        reply: bool,
        port: PortId,
        tables: &Tables,
    ) -> F::Address {
        match (connection.is_outward(), reply) {
            (false, _) => connection.request.destination(),
            (true, true) => connection.reply.destination(),
            (true, false) => {
                let source = connection.request.source().into();
                let own = tables.address_towards(port, source);
                own.and_then(F::address)
                    .unwrap_or(connection.reply.destination())
            }
        }
    }
}

/// Whether a flow is one of ICMP echoes.
fn is_echo<F: Family>(flow: &Flow<F>) -> bool {
    !matches!(
        flow.key.protocol(),
        crate::net::protocol::TCP | crate::net::protocol::UDP
    )
}

/// The key of an echo request's flow, or of its reply's.
fn echo_key<F: Wire>(ends: (F::Address, F::Address), identifier: u16, is_reply: bool) -> F::Key {
    let (source_port, destination_port) = match is_reply {
        true => (0, identifier),
        false => (identifier, 0),
    };
    F::Key::new(ends.0, source_port, ends.1, destination_port, F::ICMP)
}

impl<F: Wire, P: Packet> Core<F, P> {
    /// The flow of an ICMP echo that `[[snat]]` has to do with: a request outwards, or a reply to a local pool.
    pub(super) fn echo_flow(
        &self,
        packet: &P,
        datagram: &Datagram<F>,
        owner: Option<Owner>,
        tables: &Tables,
    ) -> Option<Flow<F>> {
        if tables.snat.is_empty() || datagram.protocol != F::ICMP {
            return None;
        }
        let ends = (datagram.source, datagram.destination);
        let message = message_of(packet.data(), datagram);
        let header = message.first_chunk::<8>()?;
        let is_reply = match (header[0], owner) {
            (kind, None) if kind == F::ECHO_REQUEST => false,
            (kind, Some(Owner::Pool)) if kind == F::ECHO_REPLY => true,
            _ => return None,
        };
        let identifier = u16::from_be_bytes([header[4], header[5]]);
        let flow = Flow {
            key: echo_key::<F>(ends, identifier, is_reply),
            layout: datagram.layout,
            flags: Flags(0),
            ttl: F::ttl(packet.data()),
            length: datagram.length,
            kind: Kind::Unusual,
        };
        let is_translated = self.live.has(&flow.key)
            || match is_reply {
                true => self.local_elsewhere(&flow).is_some(),
                false => self.snat_rule(packet.port(), ends, tables).is_some(),
            };
        is_translated.then_some(flow)
    }

    /// Decides on such an echo.
    pub(super) fn outward_echo<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let tables = turn.tables;
        let table = &self.live.table;
        if let Some(found) = table.find(table.hash(&flow.key), &flow.key) {
            return self.known_unusual(packet, flow, found, turn);
        }
        let Some(rule) = self.rule_of(packet.port(), flow, tables) else {
            // A reply: its identifier says which worker has sent the request.
            return match self.local_elsewhere(flow) {
                Some(worker) => self.hand_over(packet, worker, Errand::Find, turn.sink),
                None => dropped(DropReason::NoConnection),
            };
        };
        match self.outward_elsewhere(flow, tables) {
            Some(worker) => self.hand_over(packet, worker, Errand::Find, turn.sink),
            None => self.outward(packet, flow, rule, turn),
        }
    }

    /// Whether a fragment may be one of a datagram that `[[snat]]` translates.
    pub(super) fn is_outward_fragment(
        &self,
        port: PortId,
        fragment: &Fragment<F>,
        owner: Option<Owner>,
        tables: &Tables,
    ) -> bool {
        let may_be = fragment.may_be_flow(false) || fragment.protocol == F::ICMP;
        let ends = (fragment.source, fragment.destination);
        may_be && owner.is_none() && self.snat_rule(port, ends, tables).is_some()
    }

    /// What the first fragment of an echo told, as the flow that [`Self::echo_flow`] makes of a whole one; none: `[[snat]]` has
    /// nothing to do with it.
    pub(super) fn echo_head(
        &self,
        head: Head,
        owner: Option<Owner>,
        tables: &Tables,
    ) -> Option<Head> {
        let is_request = head.has_checksum;
        match owner {
            None if is_request => Some(Head {
                destination_port: 0,
                ..head
            }),
            Some(Owner::Pool) if !is_request && !tables.snat.is_empty() => Some(Head {
                source_port: 0,
                ..head
            }),
            _ => None,
        }
    }

    /// An ICMP error that quotes an echo.
    pub(super) fn echo_error<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        error: &IcmpError<F>,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let (tables, flow) = (turn.tables, &error.flow);
        if self.live.has(&flow.key) {
            return self.pass_error(packet, error, Target::default(), turn);
        }
        let owner = tables.owner(packet.port(), flow.key.destination().into());
        let elsewhere = match owner {
            _ if tables.snat.is_empty() => None,
            Some(Owner::Pool) => self.local_elsewhere(flow),
            None => self.outward_elsewhere(flow, tables),
            Some(_) => None,
        };
        match elsewhere {
            Some(worker) => self.hand_over(packet, worker, Errand::Find, turn.sink),
            None if owner.is_none() && tables.port(packet.port()).forwards => {
                // Between hosts a router does not look inside.
                let routed = Routed {
                    source: error.source,
                    destination: flow.key.destination(),
                    ttl: flow.ttl,
                    length: flow.length,
                    kind: Kind::Unusual,
                    may_be_answered: false,
                };
                (self.route(packet, &routed, turn), PacketContext::default())
            }
            None => dropped(DropReason::IcmpBadQuote),
        }
    }
}

/// The key of an echo that an error quotes. `quoted`: its first bytes, of the ICMP header on.
pub(super) fn quoted_echo<F: Wire>(
    ends: (F::Address, F::Address),
    quoted: &[u8],
) -> Option<F::Key> {
    let header = quoted.first_chunk::<8>()?;
    let is_reply = match header[0] {
        kind if kind == F::ECHO_REQUEST => false,
        kind if kind == F::ECHO_REPLY => true,
        _ => return None,
    };
    let identifier = u16::from_be_bytes([header[4], header[5]]);
    Some(echo_key::<F>(ends, identifier, is_reply))
}

/// No pair was found for a connection of a rule.
fn note_exhausted(counters: &WorkerStats, rule: &SnatRule) {
    if let Some(pairs) = counters.pairs.get(rule.real.index()) {
        pairs.exhausted.add(1);
    }
}

fn dropped(reason: DropReason) -> Outcome {
    (Verdict::Drop(reason), PacketContext::default())
}

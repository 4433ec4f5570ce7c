//! Packets of no connection: whose they are, and the making of a connection.

use super::flow::{Way, count, direction, resolve, service_key};
use super::live::{Live, Rivals, Room};
use super::parse::Flow;
use super::{Core, Origin, Outcome, Turn, is_tcp};
use crate::config::{UnknownTcp, WhenUnavailable};
use crate::conn::entry::NO_TEMPLATE;
use crate::conn::local_port::{Choice, Effort, Look, Pair, Pairs, choose, expected};
use crate::conn::state::next_tcp;
use crate::conn::{ConnId, Connection, FlowKey, Found, Pool, State, Worth};
use crate::packet::{Errand, Packet, Sent, Sink, Taken};
use crate::sched::Client;
use crate::service::{Real, ServiceKey};
use crate::tables::{Owner, Service, Tables};
use crate::units::{Millis, RealId, Time, WorkerId};
use crate::verdict::{Context, DropReason, LocalReason, ReplyReason, Verdict};
use crate::wire::build;
use arrayvec::ArrayVec;
use std::cell::Cell;
use std::net::Ipv4Addr;

/// In the protocol field of a template's key, which no packet has.
const TEMPLATE: u8 = 0x80;

/// Real servers that a new connection is tried with, where one cannot take it.
const TRIES: usize = 16;

/// Real servers that cannot take a new connection.
#[derive(Default)]
struct Tried {
    here: ArrayVec<RealId, TRIES>,
    /// What other workers have said.
    elsewhere: Taken,
    /// All but the one that another worker has made free, if any.
    all_but: Option<Option<RealId>>,
}

impl Tried {
    fn has_any(&self) -> bool {
        !self.here.is_empty() || !self.elsewhere.is_empty() || self.all_but.is_some()
    }

    fn has(&self, real: RealId) -> bool {
        self.elsewhere.has(real)
            || self.here.contains(&real)
            || self.all_but.is_some_and(|freed| freed != Some(real))
    }
}

/// Why there is no connection.
enum Unmade {
    /// For this packet.
    Drop(DropReason),
    /// With this real server: another one may have what it takes.
    NotHere(DropReason),
}

enum Unscheduled {
    /// None has a weight.
    NoRealServer,
    /// Those that have a weight cannot be reached; one of the ways that have failed.
    Unreachable(Option<Way>),
    NoRoute,
}

impl<P: Packet> Core<P> {
    /// A packet that belongs to no connection, and the service that it is to.
    #[inline(never)]
    pub(super) fn unknown<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow,
        service: Option<&Service>,

        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let (tables, now) = (turn.tables, turn.now);
        let key = &flow.key;
        let tcp = is_tcp(flow);
        let opens = !tcp || flow.flags.opens();
        let nobody = Context::default();
        let owner = match service {
            // Where a service is, nothing else is.
            Some(_) => Some(&Owner::Vip),
            None => tables.addresses.get(&key.destination()),
        };
        if owner.is_some() && tables.is_bad_source(key.source()) {
            return (Verdict::Drop(DropReason::BadSource), nobody);
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
            Some(Owner::Vip) => {}
            Some(&Owner::Port(port)) => {
                let reason = LocalReason::ToPortAddress;
                return (self.deliver(packet, port, reason, turn), nobody);
            }
            Some(Owner::Pool) => {
                if let Some(worker) = self.local_elsewhere(flow) {
                    return self.hand_over(packet, worker, Errand::Find, turn.sink);
                }
                let policy = tables.unknown_tcp;
                return (self.no_connection(packet, flow, policy, turn), nobody);
            }
            None => {
                if let Some(worker) = self.reply_elsewhere(flow, tables) {
                    return self.hand_over(packet, worker, Errand::Find, turn.sink);
                }
                return (self.stray_reply(packet, flow, turn), nobody);
            }
        }
        if flow.ttl <= 1 {
            return (self.ttl_exceeded(packet, key.destination(), turn), nobody);
        }
        let Some(service) = service else {
            return (
                self.refuse(packet, flow, ReplyReason::NoService, turn),
                nobody,
            );
        };
        let mut context = Context {
            service: Some(service.id),
            ..nobody
        };
        let is_stateless = !service.mode.sees_replies && service.scheduler_kind.is_stateless;
        if !opens && !is_stateless {
            let policy = service.unknown_tcp.unwrap_or(tables.unknown_tcp);
            return (self.no_connection(packet, flow, policy, turn), context);
        }
        let mut tried = Tried {
            elsewhere: errand.taken(),
            all_but: match errand {
                Errand::Last(freed) => Some(freed),
                _ => None,
            },
            ..Tried::default()
        };
        let is_taken = |real: &Real| tried.has(real.id) && could_serve(service, real, tables);
        let is_any_taken = tried.has_any() && service.reals.iter().any(is_taken);
        let mut not_here = is_any_taken.then_some(DropReason::AmbiguousReply);
        let mut has_room_for_template = true;
        let is_taking = errand == Errand::Take;
        let mut effort = match is_taking {
            true => Effort::last(),
            false => Effort::default(),
        };
        loop {
            let scheduled = match tried.here.is_full() {
                true => Err(Unscheduled::NoRealServer),
                false => self.schedule(service, flow, now, tables, &tried, has_room_for_template),
            };
            let (real, way, template) = match scheduled {
                Ok(chosen) => chosen,
                Err(why) => {
                    if let Unscheduled::Unreachable(Some(way)) = why {
                        self.want(way.port, way.address, now);
                    }
                    if not_here == Some(DropReason::LocalPortsExhausted) {
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
                        (None, Unscheduled::Unreachable(_)) if !tcp => self.host_unreachable(
                            packet,
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
            let connected = self.connect(flow, service, real, way, template, &mut effort, turn);
            match connected {
                Ok(id) => {
                    context.new_connection = true;
                    let found = Found { id, reply: false };
                    let mut connection = *self.live.table.get(id);
                    context.state = Some(connection.state.name());
                    let verdict = self.forward(packet, flow, &mut connection, false, turn);
                    self.live.table.get_mut(found.id).remember_hops(&connection);
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

    /// A TCP segment, no SYN, of no connection: both ends hear at once that there is none (RFC 9293 section 3.10.7.1).
    fn no_connection<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow,
        policy: UnknownTcp,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        match policy {
            UnknownTcp::Reset if is_tcp(flow) && !flow.flags.opens() => {
                self.refuse(packet, flow, ReplyReason::NoConnection, turn)
            }
            _ => Verdict::Drop(DropReason::NoConnection),
        }
    }

    /// A packet to no address of weir's own and of no connection: a nat real server's segment is answered, on the port
    /// that leads to the real server.
    fn stray_reply<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let tables = turn.tables;
        let key = &flow.key;
        if !is_tcp(flow) || flow.flags.opens() {
            return Verdict::Drop(DropReason::NotForUs);
        }
        let from = ServiceKey {
            address: key.source(),
            port: key.source_port(),
            ..service_key(key)
        };
        let any = ServiceKey { port: 0, ..from };
        let services = [tables.natted.get(&from), tables.natted.get(&any)];
        let mut services = services
            .into_iter()
            .flatten()
            .flat_map(|them| them.services.iter());
        let Some(first) = services.next() else {
            return Verdict::Drop(DropReason::NoConnection);
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
    fn unkept(&self, flow: &Flow, service: &Service, real: Real) -> Connection {
        let to = (real.address, real.port_for(flow.key.destination_port()));
        let translation = service.mode.translation(&flow.key, to, None);
        Connection::new(flow.key, translation, real.id)
    }

    /// Sends a packet on without a connection.
    fn pass<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow,
        mut connection: Connection,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        if let Some(real) = self.live.counters.reals.get(connection.real.index()) {
            count(real, flow, false);
        }
        self.forward(packet, flow, &mut connection, false, turn)
    }

    /// Makes the connection of a client's first packet.
    #[expect(clippy::too_many_arguments)]
    fn connect<S: Sink<Packet = P>>(
        &mut self,
        flow: &Flow,
        service: &Service,
        real: Real,
        way: Way,
        template: Option<ConnId>,
        effort: &mut Effort,
        turn: &mut Turn<'_, S>,
    ) -> Result<ConnId, Unmade> {
        let (tables, now) = (turn.tables, turn.now);
        let key = &flow.key;
        let coarse = now.millis();
        let tcp = is_tcp(flow);
        if service.pool.is_none() && key.source() == real.address {
            return Err(Unmade::Drop(DropReason::Hairpin));
        }
        let hash = self.live.table.hash(key);
        let syn = tcp.then_some(hash);
        let room = self.live.make_room(service.id, syn, coarse);
        self.reset_given_up(tables, turn.sink);
        match room {
            Room::Yes => {}
            Room::No => return Err(Unmade::Drop(DropReason::ConnectionTableFull)),
            Room::Later => return Err(Unmade::Drop(DropReason::SynFlood)),
        }
        let real_port = real.port_for(key.destination_port());
        let reply_key =
            |(address, port)| FlowKey::new(real.address, real_port, address, port, key.protocol());
        let local = match &service.pool {
            None => None,
            Some(pool) => {
                let pair =
                    self.local_pair(pool, service, &real, reply_key, syn, effort, tables, coarse)?;
                self.reset_given_up(tables, turn.sink);
                self.reset_left(&reply_key(pair), tables, turn.sink);
                Some(pair)
            }
        };
        let translation = service
            .mode
            .translation(key, (real.address, real_port), local);
        let mut connection = Connection::new(*key, translation, real.id);
        connection.state = match tcp {
            true => next_tcp(State::None, direction(&connection, false), flow.flags),
            false => State::Udp,
        };
        // Without replies a scheduled segment in mid-connection may end it as soon as it begins.
        if connection.state == State::None {
            connection.state = State::Handshaken;
        }
        connection.last_seen = coarse;
        connection.route_generation = tables.route_generation;
        connection.set_hop(false, way.hop);
        connection.template = template.map_or(NO_TEMPLATE, |template| template.0);
        let is_active = connection.state.is_active();
        let reply = connection.is_two_way().then_some(connection.reply);
        let is_taken = match reply {
            // A pair was chosen for which nobody has this key.
            Some(reply) if local.is_some() => reply == *key,
            Some(reply) => reply == *key || !self.live.vacate(&reply, Rivals::Idle, tables, coarse),
            None => false,
        };
        if is_taken {
            return Err(Unmade::NotHere(DropReason::AmbiguousReply));
        }
        if local.is_some() && service.persistence.is_none() && self.is_stray(flow) {
            connection.set_stray();
        }
        let reply = reply.map(|reply| self.live.table.hash(&reply));
        let id = self.live.add(connection, hash, reply, service.id);
        let id = id.ok_or(Unmade::Drop(DropReason::ConnectionTableFull))?;
        if !tcp && !connection.is_two_way() {
            self.live.assure(&connection);
        }
        self.sweep.connection_made();
        // Reserved before the real server was published.
        if let Some(stats) = self.live.counters.reals.get(real.id.index()) {
            stats.connections.add(1);
            match is_active {
                true => stats.active.inc(),
                false => stats.inactive.inc(),
            }
            count(stats, flow, false);
        }
        Ok(id)
    }

    /// A local pair towards a real server: a free one, or one that another connection is given up for.
    #[expect(clippy::too_many_arguments)]
    fn local_pair(
        &mut self,
        pool: &Pool,
        service: &Service,
        real: &Real,
        reply_key: impl Fn(Pair) -> FlowKey,
        syn: Option<u64>,
        effort: &mut Effort,
        tables: &Tables,
        now: Millis,
    ) -> Result<Pair, Unmade> {
        // The counters' memory, which the table's borrower does not change.
        let counters = self.live.counters.clone();
        let exhausted = Unmade::NotHere(DropReason::LocalPortsExhausted);
        let Some(stats) = counters.reals.get(real.id.index()) else {
            return Err(exhausted);
        };
        let hint = self.live.take_hint(real.id);
        let mut pairs = Local {
            live: &mut self.live,
            shared: &self.shared.steering,
            worker: self.worker,
            reply_key: &reply_key,
            tables,
            now,
        };
        let hinted = hint
            .filter(|pair| pool.contains(*pair) && pairs.is_ours(*pair))
            .and_then(|pair| match pairs.look(pair) {
                Look::Free => Some(Choice::Free(pair)),
                Look::Held(held) if effort.takes_idle || held.worth != Worth::Idle => {
                    Some(Choice::Held(pair, held))
                }
                Look::Held(_) | Look::Kept => None,
            });
        let start = u64::from(real.id.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let start = (self.shared.seed ^ start) as u32;
        let chosen = hinted.or_else(|| choose(pool, stats, start, now, effort, &mut pairs));
        // Where the next connection to this real server will look: in this burst, most probably.
        pairs.fetch(expected(pool, stats));
        match chosen {
            None => Err(exhausted),
            Some(Choice::Free(pair)) => Ok(pair),
            Some(Choice::Held(pair, held)) => {
                // One pair in N is this worker's, and a flood is spread over all real servers.
                let all = u64::from(pool.size()) * service.reals.len() as u64;
                let places = all / self.shared.steering.workers() as u64;
                let places = u32::try_from(places).unwrap_or(u32::MAX);
                match self.live.give_up(held, places, syn, now) {
                    Room::Yes => Ok(pair),
                    _ => Err(Unmade::NotHere(DropReason::SynFlood)),
                }
            }
        }
    }

    /// Ends at their real servers the connections that were given up just now: their local pairs are free.
    fn reset_given_up<S: Sink<Packet = P>>(&mut self, tables: &Tables, sink: &mut S) {
        while let Some(reply) = self.live.take_given_up() {
            self.reset_left(&reply, tables, sink);
        }
    }

    /// Ends at its real server what a local pair was used for until now, so that the next connection from it meets nothing
    /// of the old one: a reset with the sequence number that the real server takes next (RFC 9293 section 3.10.7.4;
    /// TIME-WAIT ends by it as well, so that RFC 6191 is not needed). `reply`: the key of its replies to the pair.
    fn reset_left<S: Sink<Packet = P>>(&mut self, reply: &FlowKey, tables: &Tables, sink: &mut S) {
        let Some(sequence) = self.live.take_left(reply) else {
            return;
        };
        let hop = resolve(tables, reply.source()).and_then(|way| way.hop);
        let Some(link) = hop.map(|hop| tables.neighbours.link(hop)) else {
            return;
        };
        let source = tables.port(link.port).mac;
        if link.is_usable()
            && let Some(mut packet) = sink.alloc(link.port)
            && packet.resize(build::RESET_LEN)
            && build::reset(
                packet.data_mut(),
                (link.mac, source),
                (reply.destination(), reply.destination_port()),
                (reply.source(), reply.source_port()),
                sequence,
            )
            .is_some()
        {
            sink.send(link.port, packet, Sent::Originated);
        }
    }

    /// The real server of a new connection, the way to it, and the template that binds the client to it, held for the
    /// connection; none without persistence, or without room for a new one.
    fn schedule(
        &mut self,
        service: &Service,
        flow: &Flow,
        now: Time,
        tables: &Tables,
        tried: &Tried,
        has_room_for_template: bool,
    ) -> Result<(Real, Way, Option<ConnId>), Unscheduled> {
        let key = &flow.key;
        let Some(persistence) = service.persistence else {
            let (real, way) = self.choose(service, flow, tables, tried)?;
            return Ok((real, way, None));
        };
        // As the kernel's `ip_vs_sched_persist`: the client's masked address and port 0, to the service's own port.
        let masked = Ipv4Addr::from_bits(key.source().to_bits() & persistence.mask);
        let template_key = FlowKey::new(
            masked,
            0,
            key.destination(),
            service.key.port,
            key.protocol() | TEMPLATE,
        );
        let hash = self.live.table.hash(&template_key);
        let Some(found) = self.live.table.find(hash, &template_key) else {
            let (real, way) = self.choose(service, flow, tables, tried)?;
            let syn = is_tcp(flow).then(|| self.live.table.hash(key));
            if !has_room_for_template
                || self.live.make_room(service.id, syn, now.millis()) != Room::Yes
            {
                return Ok((real, way, None));
            }
            let timeout_ms = persistence.timeout.as_millis() as u32;
            let mut template = Connection::template(template_key, timeout_ms, service.id, real.id);
            template.last_seen = now.millis();
            // Held from the beginning: what makes room for the connection must not take it.
            template.set_controlled(1);
            let id = self.live.add(template, hash, None, service.id);
            return Ok((real, way, id));
        };
        let template = *self.live.table.get(found.id);
        // One that expired, or whose real server is gone, drained or not to be reached, binds to another from now on
        // (`expire_quiescent_template`).
        let bound = (!template.is_expired(&tables.timeouts, now.millis()))
            .then(|| service.reals.iter().find(|real| real.id == template.real))
            .flatten()
            .filter(|real| real.weight > 0 || persistence.through_drain)
            .and_then(|real| Some((*real, usable_way(real, tables, tried)?)));
        let (real, way) = match bound {
            Some(bound) => bound,
            None => self.choose(service, flow, tables, tried)?,
        };
        let template = self.live.table.get_mut(found.id);
        // Where the bound one only lacks what this connection takes, the client's next ones are its own again.
        if !tried.has(template.real) {
            template.real = real.id;
        }
        template.last_seen = now.millis();
        template.set_controlled(template.controlled() + 1);
        Ok((real, way, Some(found.id)))
    }

    /// The scheduler's choice among the real servers that can be reached and were not tried, and the way to it.
    fn choose(
        &self,
        service: &Service,
        flow: &Flow,
        tables: &Tables,
        tried: &Tried,
    ) -> Result<(Real, Way), Unscheduled> {
        let client = Client {
            address: flow.key.source(),
            port: flow.key.source_port(),
        };
        let cursor = service.cursor(self.worker);
        let last = Cell::new(None);
        let passed_over = Cell::new(None);
        let usable = |real: &Real| {
            let way = usable_way(real, tables, tried);
            match way {
                Some(way) => last.set(Some((real.id, way))),
                None => passed_over.set(Some(real.address)),
            }
            way.is_some()
        };
        let place =
            service
                .scheduler
                .pick(&service.reals, client, cursor, &self.shared.stats, &usable);
        let chosen = place.and_then(|place| service.reals.get(place));
        let Some(real) = chosen else {
            return Err(match passed_over.get() {
                Some(address) => Unscheduled::Unreachable(resolve(tables, address)),
                None => Unscheduled::NoRealServer,
            });
        };
        // The one that it asked about last, most often.
        let way = match last.get() {
            Some((id, way)) if id == real.id => Some(way),
            _ => resolve(tables, real.address),
        };
        let way = way.ok_or(Unscheduled::NoRoute)?;
        Ok((*real, way))
    }
}

/// Whether a new connection may go to a real server that it has not been tried with.
pub(super) fn could_serve(service: &Service, real: &Real, tables: &Tables) -> bool {
    let persistence = service.persistence.as_ref();
    let through_drain = persistence.is_some_and(|persistence| persistence.through_drain);
    (real.weight > 0 || through_drain) && usable_way(real, tables, &Tried::default()).is_some()
}

/// The way to a real server that was not tried, if its next hop has not failed.
fn usable_way(real: &Real, tables: &Tables, tried: &Tried) -> Option<Way> {
    let way = resolve(tables, real.address)?;
    (!tried.has(real.id) && !way.has_failed(tables)).then_some(way)
}

/// A worker's view of the local pairs towards one real server.
struct Local<'a, K> {
    live: &'a mut Live,
    shared: &'a crate::steering::Steering,
    worker: WorkerId,
    reply_key: &'a K,
    tables: &'a Tables,
    now: Millis,
}

impl<K: Fn(Pair) -> FlowKey> Pairs for Local<'_, K> {
    fn is_ours(&self, pair: Pair) -> bool {
        self.shared.owner(&(self.reply_key)(pair)) == self.worker
    }

    fn fetch(&self, pair: Pair) {
        let table = &self.live.table;
        table.prefetch_bucket(table.hash(&(self.reply_key)(pair)));
    }

    fn guess(&self, pair: Pair) {
        let table = &self.live.table;
        table.guess(table.hash(&(self.reply_key)(pair)));
    }

    fn look(&mut self, pair: Pair) -> Look {
        let key = (self.reply_key)(pair);
        let table = &self.live.table;
        let Some(found) = table.find(table.hash(&key), &key) else {
            return Look::Free;
        };
        if table
            .get(found.id)
            .is_expired(&self.tables.timeouts, self.now)
        {
            self.live.end(found.id);
            return Look::Free;
        }
        match self.live.held(found.id, self.now) {
            Some(held) => Look::Held(held),
            None => Look::Kept,
        }
    }
}

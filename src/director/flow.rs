//! TCP and UDP: known connections, new ones, and the way out.

use super::ownership::Elsewhere;
use super::parse::{Flow, PROTOCOL_TCP};
use super::sweep::end;
use super::{Director, Outcome, is_tcp};
use crate::config::{Protocol, WhenUnavailable};
use crate::conn::entry::NO_TEMPLATE;
use crate::conn::state::next_tcp;
use crate::conn::{ConnId, Connection, Direction, FlowKey, Found, State, Table, local_port};
use crate::forward::rewrite::{Layout, rewrite, rewrite_usual, set_macs};
use crate::neighbour::LinkState;
use crate::packet::{Errand, Packet, Sent, Sink};
use crate::sched::Client;
use crate::service::{Real, ServiceKey};
use crate::stats::{RealStats, WorkerStats};
use crate::tables::{Owner, Service, Tables};
use crate::units::{HopId, PortId, Time};
use crate::verdict::{Context, DropReason, LocalReason, ReplyReason, Verdict};
use std::net::Ipv4Addr;

/// In the protocol field of a template's key, which no packet has.
const TEMPLATE: u8 = 0x80;

impl<P: Packet> Director<P> {
    /// A packet of a known connection, which most probably goes on to its next hop: says by which port. Every other
    /// comes back untouched, nothing counted and nothing changed, for [`Self::known_unusual`].
    #[inline(always)]
    pub(super) fn known<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        flow: &Flow,
        found: Found,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) -> Result<(PortId, Context), P> {
        let connection = self.connections.get_mut(found.id);
        let Some(real) = self.counters.reals.get(connection.real.index()) else {
            return Err(packet);
        };
        let Some(hop) = tables.neighbours.hop(connection.any_hop(found.reply)) else {
            return Err(packet);
        };
        let usual = hop.is_reachable()
            && !real.is_removed()
            && connection.route_generation == tables.route_generation
            && flow.layout == Layout::USUAL
            && flow.length <= hop.mtu()
            && flow.ttl > 1
            && !connection.is_silent(&tables.timeouts, now.millis());
        if !usual {
            return Err(packet);
        }
        if is_tcp(flow) {
            if flow.flags.opens() {
                return Err(packet);
            }
            step_tcp(connection, flow, found.reply, real);
        }
        let context = Context {
            service: Some(connection.service),
            real: Some(connection.real),
            new_connection: false,
            state: Some(connection.state.name()),
        };
        connection.last_seen = now.millis();
        count(real, flow, found.reply);
        rewrite_usual(packet.data_mut(), connection, found.reply, hop);
        let port = hop.port();
        sink.send(port, packet, Sent::Forwarded);
        Ok((port, context))
    }

    /// A packet of a known connection: over perhaps, to a real server or next hop that is not there, with a TTL that
    /// ran out, too big, or a new attempt.
    pub(super) fn known_unusual<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow,
        found: Found,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) -> Outcome {
        let connection = self.connections.get_mut(found.id);
        let real = match self.counters.reals.get(connection.real.index()) {
            // Replies of a removed real server still pass: the client's next packet is told.
            Some(real) if found.reply || !real.is_removed() => real,
            _ => return self.orphan(packet, flow, found, tables, now, sink),
        };
        let opens = !found.reply && is_tcp(flow) && flow.flags.opens();
        if connection.is_silent(&tables.timeouts, now.millis())
            || (opens && connection.state.is_reusable())
        {
            self.end(found.id);
            let service = tables.service(&service_key(&flow.key));
            return self.unknown(packet, flow, service, tables, now, sink);
        }
        let mut context = Context {
            service: Some(connection.service),
            real: Some(connection.real),
            new_connection: false,
            state: Some(connection.state.name()),
        };
        if flow.ttl <= 1 {
            let vip = connection.request.destination();
            return (self.ttl_exceeded(packet, vip, tables, now, sink), context);
        }
        if is_tcp(flow) {
            step_tcp(connection, flow, found.reply, real);
            context.state = Some(connection.state.name());
        }
        if !real.is_removed() {
            connection.last_seen = now.millis();
        }
        count(real, flow, found.reply);
        (
            self.forward(packet, flow, found, tables, now, sink),
            context,
        )
    }

    /// Rewrites a packet of a connection and sends it to its next hop, which is to be found or asked for perhaps.
    fn forward<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        flow: &Flow,
        found: Found,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) -> Verdict {
        let connection = self.connections.get_mut(found.id);
        if connection.route_generation != tables.route_generation {
            connection.forget_hops(tables.route_generation);
        }
        let (port, address, hop) = match connection.hop(found.reply) {
            Some(hop) => (None, Ipv4Addr::UNSPECIFIED, Some(hop)),
            None => match resolve(tables, connection.destination(found.reply)) {
                None => return Verdict::Drop(DropReason::NoRoute),
                Some((port, address, hop)) => {
                    connection.set_hop(found.reply, hop);
                    (Some(port), address, hop)
                }
            },
        };
        let link = hop.map(|hop| tables.neighbours.link(hop));
        let port = link.map(|link| link.port).or(port).unwrap_or_default();
        if flow.length > tables.port(port).mtu {
            let vip = connection.request.destination();
            return self.too_big(packet, vip, tables.port(port).mtu, tables, now, sink);
        }
        rewrite(packet.data_mut(), flow.layout, connection, found.reply);
        match link {
            Some(link) if link.is_usable() => {
                if link.state == LinkState::Stale
                    && let Some(hop) = hop
                {
                    self.want(port, tables.neighbours.address(hop));
                }
                set_macs(packet.data_mut(), link.mac, tables.port(port).mac);
                sink.send(port, packet, Sent::Forwarded);
                Verdict::Forward(port)
            }
            _ => {
                let address = hop.map_or(address, |hop| tables.neighbours.address(hop));
                self.want(port, address);
                match self.waiting.push(port, address, packet, now) {
                    true => Verdict::Queue(port),
                    false => Verdict::Drop(DropReason::NeighbourQueueFull),
                }
            }
        }
    }

    /// A client's packet of a connection whose real server is configured no more. UDP and new attempts start anew; TCP is
    /// told by a reset (the kernel's `expire_nodest_conn`). A reset that crosses a reply misses the client's window
    /// (RFC 5961 section 3.2), so that the client's next segments are told again, until the connection's last seconds
    /// are over.
    #[cold]
    fn orphan<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow,
        found: Found,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) -> Outcome {
        let connection = self.connections.get_mut(found.id);
        let real = self.counters.reals.get(connection.real.index());
        let ends = connection.is_expired(&tables.timeouts, now.millis())
            || !is_tcp(flow)
            || flow.flags.opens()
            || flow.flags.rst();
        let (false, Some(real)) = (ends, real) else {
            self.end(found.id);
            let service = tables.service(&service_key(&flow.key));
            return self.unknown(packet, flow, service, tables, now, sink);
        };
        if connection.state != State::Close {
            enter(connection, State::Close, real);
            connection.last_seen = now.millis();
        }
        let context = Context {
            service: Some(connection.service),
            real: Some(connection.real),
            ..Context::default()
        };
        (
            self.reset(packet, ReplyReason::RealRemoved, tables, now, sink),
            context,
        )
    }

    /// A packet that belongs to no connection; and the service that it is to.
    #[inline(never)]
    pub(super) fn unknown<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow,
        service: Option<&Service>,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) -> Outcome {
        let key = &flow.key;
        let tcp = is_tcp(flow);
        let opens = !tcp || flow.flags.opens();
        let nobody = Context::default();
        let owner = match service {
            // Where a service is, nothing else is.
            Some(_) => Some(&Owner::Vip),
            None => tables.addresses.get(&key.destination()),
        };
        if owner.is_some() && tables.is_bad_source(packet.port(), key.source()) {
            return (Verdict::Drop(DropReason::BadSource), nobody);
        }
        match self.request_elsewhere(&packet, flow, service, tables, opens, now) {
            Elsewhere::Here => {}
            Elsewhere::At(worker, errand) => return self.hand_over(packet, worker, errand, sink),
            Elsewhere::Taken => {
                let context = Context {
                    service: service.map(|service| service.id),
                    ..nobody
                };
                return (Verdict::Drop(DropReason::AmbiguousReply), context);
            }
        }
        match owner {
            Some(Owner::Vip) => {}
            Some(&Owner::Port(port)) => {
                let reason = LocalReason::ToPortAddress;
                return (
                    self.deliver(packet, port, reason, tables, now, sink),
                    nobody,
                );
            }
            Some(Owner::Pool) => {
                return match self.local_elsewhere(flow) {
                    Some(worker) => self.hand_over(packet, worker, Errand::Find, sink),
                    None => (Verdict::Drop(DropReason::NoConnection), nobody),
                };
            }
            None => {
                return match self.reply_elsewhere(flow, tables) {
                    Some(worker) => self.hand_over(packet, worker, Errand::Find, sink),
                    None if opens => (Verdict::Drop(DropReason::NotForUs), nobody),
                    None => (Verdict::Drop(DropReason::NoConnection), nobody),
                };
            }
        }
        if flow.ttl <= 1 {
            return (
                self.ttl_exceeded(packet, key.destination(), tables, now, sink),
                nobody,
            );
        }
        let Some(service) = service else {
            return (
                self.refuse(packet, flow, ReplyReason::NoService, tables, now, sink),
                nobody,
            );
        };
        let mut context = Context {
            service: Some(service.id),
            ..nobody
        };
        if !opens && (service.mode.sees_replies || !service.scheduler_kind.is_stateless) {
            return (Verdict::Drop(DropReason::NoConnection), context);
        }
        let (real, template) = match self.schedule(service, key, now, tables) {
            Ok(chosen) => chosen,
            Err(Unscheduled::TableFull) => {
                return (Verdict::Drop(DropReason::ConnectionTableFull), context);
            }
            Err(Unscheduled::NoRealServer) => {
                let verdict = match service.when_unavailable {
                    WhenUnavailable::Refuse => {
                        self.refuse(packet, flow, ReplyReason::NoRealServer, tables, now, sink)
                    }
                    WhenUnavailable::Drop => Verdict::Drop(DropReason::NoRealServer),
                };
                return (verdict, context);
            }
        };
        context.real = Some(real.id);
        match self.connect(flow, service, real, template, tables, now) {
            Err(reason) => (Verdict::Drop(reason), context),
            Ok(id) => {
                context.new_connection = true;
                context.state = Some(self.connections.get(id).state.name());
                (
                    self.forward(packet, flow, Found { id, reply: false }, tables, now, sink),
                    context,
                )
            }
        }
    }

    /// Makes the connection of a client's first packet.
    fn connect(
        &mut self,
        flow: &Flow,
        service: &Service,
        real: Real,
        template: Option<ConnId>,
        tables: &Tables,
        now: Time,
    ) -> Result<ConnId, DropReason> {
        let key = &flow.key;
        let coarse = now.millis();
        let (_, _, hop) = resolve(tables, real.address).ok_or(DropReason::NoRoute)?;
        if self.connections.is_full() && !self.reclaim() {
            return Err(DropReason::ConnectionTableFull);
        }
        let connections = &mut self.connections;
        let counters = &*self.counters;
        // Reserved before the real server was published.
        let real_stats = counters.reals.get(real.id.index());
        let real_stats = real_stats.ok_or(DropReason::ConnectionTableFull)?;
        let real_port = real.port_for(key.destination_port());
        let local = match &service.pool {
            None => None,
            Some(pool) => {
                let (steering, worker) = (&self.shared.steering, self.worker);
                let start = u64::from(real.id.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let start = (self.shared.seed ^ start) as u32;
                let reply = |(address, port)| {
                    FlowKey::new(real.address, real_port, address, port, key.protocol())
                };
                // Its replies have to come here.
                let is_ours = |pair| steering.owner(&reply(pair)) == worker;
                let is_free = |pair| vacate(connections, counters, &reply(pair), tables, now);
                let pair = local_port::choose(pool, real_stats, start, coarse, is_ours, is_free);
                let pair = pair.ok_or(DropReason::LocalPortsExhausted)?;
                // Where the next connection to this real server will look: in this burst, most probably.
                let (address, port) = local_port::expected(pool, real_stats);
                let next = FlowKey::new(real.address, real_port, address, port, key.protocol());
                connections.prefetch_bucket(connections.hash(&next));
                Some(pair)
            }
        };
        let translation = service
            .mode
            .translation(key, (real.address, real_port), local);
        let mut connection = Connection::new(*key, translation, service.id, real.id);
        connection.state = match is_tcp(flow) {
            true => next_tcp(State::None, direction(&connection, false), flow.flags),
            false => State::Udp,
        };
        // Without replies a scheduled segment in mid-connection may end it as soon as it begins.
        if connection.state == State::None {
            connection.state = State::Established;
        }
        connection.last_seen = coarse;
        connection.route_generation = tables.route_generation;
        connection.set_hop(false, hop);
        connection.template = template.map_or(NO_TEMPLATE, |template| template.0);
        let is_active = connection.state.is_active();
        let reply = connection.is_two_way().then_some(connection.reply);
        let is_taken = match reply {
            // A pair was chosen for which nobody has this key.
            Some(reply) if local.is_some() => reply == *key,
            Some(reply) => reply == *key || !vacate(connections, counters, &reply, tables, now),
            None => false,
        };
        if is_taken {
            return Err(DropReason::AmbiguousReply);
        }
        let hash = connections.hash(key);
        let reply = reply.map(|reply| connections.hash(&reply));
        let id = connections
            .add(connection, hash, reply)
            .ok_or(DropReason::ConnectionTableFull)?;
        if let Some(template) = template {
            connections.get_mut(template).controlled += 1;
        }
        counters.connections.set(connections.len() as u64);
        self.sweep.connection_made();
        real_stats.connections.add(1);
        if is_active {
            real_stats.active.inc();
        } else {
            real_stats.inactive.inc();
        }
        real_stats.packets_in.add(1);
        real_stats.bytes_in.add(u64::from(flow.length));
        Ok(id)
    }

    /// The real server of a new connection, and the template that bound the client to it.
    fn schedule(
        &mut self,
        service: &Service,
        key: &FlowKey,
        now: Time,
        tables: &Tables,
    ) -> Result<(Real, Option<ConnId>), Unscheduled> {
        let client = Client {
            address: key.source(),
            port: key.source_port(),
        };
        let cursor = service.cursor(self.worker);
        let pick = |stats| {
            let place = service
                .scheduler
                .pick(&service.reals, client, cursor, stats);
            place
                .map(|place| service.reals[place])
                .ok_or(Unscheduled::NoRealServer)
        };
        let Some(persistence) = service.persistence else {
            return Ok((pick(&self.shared.stats)?, None));
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
        let found = self
            .connections
            .find(self.connections.hash(&template_key), &template_key);
        if let Some(found) = found {
            let template = self.connections.get(found.id);
            let bound = (!template.is_expired(&tables.timeouts, now.millis()))
                .then(|| service.reals.iter().find(|real| real.id == template.real))
                .flatten();
            // One that expired, or whose real server is gone, binds to another from now on.
            let real = match bound {
                Some(real) => *real,
                None => pick(&self.shared.stats)?,
            };
            let template = self.connections.get_mut(found.id);
            template.real = real.id;
            template.last_seen = now.millis();
            return Ok((real, Some(found.id)));
        }
        let real = pick(&self.shared.stats)?;
        let timeout_ms = persistence.timeout.as_millis() as u32;
        let mut template = Connection::template(template_key, timeout_ms, service.id, real.id);
        template.last_seen = now.millis();
        let id = self
            .connections
            .insert(template)
            .ok_or(Unscheduled::TableFull)?;
        Ok((real, Some(id)))
    }
}

/// What the service of a client's packet is found by.
#[inline]
pub(super) fn service_key(key: &FlowKey) -> ServiceKey {
    ServiceKey {
        protocol: match key.protocol() {
            PROTOCOL_TCP => Protocol::Tcp,
            _ => Protocol::Udp,
        },
        address: key.destination(),
        port: key.destination_port(),
    }
}

enum Unscheduled {
    NoRealServer,
    TableFull,
}

/// Brings a connection into the state that a segment leads to.
#[inline(always)]
fn step_tcp(connection: &mut Connection, flow: &Flow, reply: bool, real: &RealStats) {
    let next = next_tcp(connection.state, direction(connection, reply), flow.flags);
    if next != connection.state {
        enter(connection, next, real);
    }
}

/// Counts a packet of a connection.
#[inline(always)]
fn count(real: &RealStats, flow: &Flow, reply: bool) {
    let (packets, bytes) = match reply {
        true => (&real.packets_out, &real.bytes_out),
        false => (&real.packets_in, &real.bytes_in),
    };
    packets.add(1);
    bytes.add(u64::from(flow.length));
}

/// Brings a connection into another state, and its real server's counts with it.
#[inline(always)]
fn enter(connection: &mut Connection, next: State, real: &RealStats) {
    match (connection.state.is_active(), next.is_active()) {
        (true, false) => {
            real.active.dec();
            real.inactive.inc();
        }
        (false, true) => {
            real.inactive.dec();
            real.active.inc();
        }
        _ => {}
    }
    connection.state = next;
}

fn direction(connection: &Connection, reply: bool) -> Direction {
    match (reply, connection.is_two_way()) {
        (true, _) => Direction::Reply,
        (false, true) => Direction::Request,
        (false, false) => Direction::RequestOnly,
    }
}

/// The port, address and, if it is known, table slot of the next hop towards an address.
fn resolve(tables: &Tables, destination: Ipv4Addr) -> Option<(PortId, Ipv4Addr, Option<HopId>)> {
    let route = tables.routes.get(destination)?;
    Some(match route.gateway {
        Some((hop, address)) => (route.port, address, Some(hop)),
        None => (
            route.port,
            destination,
            tables.neighbours.find(route.port, destination),
        ),
    })
}

/// Whether no live connection has this key; one whose time is over is ended for it.
fn vacate(
    connections: &mut Table,
    counters: &WorkerStats,
    key: &FlowKey,
    tables: &Tables,
    now: Time,
) -> bool {
    match connections.find(connections.hash(key), key) {
        None => true,
        Some(found)
            if connections
                .get(found.id)
                .is_expired(&tables.timeouts, now.millis()) =>
        {
            end(connections, counters, found.id);
            true
        }
        Some(_) => false,
    }
}

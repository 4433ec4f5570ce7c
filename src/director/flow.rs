//! Flows: known connections, and the way out. A flow's first packet is in [`unknown`](super::unknown).

use super::family::{Family, Wire};
use super::parse::{Flow, Kind};
use super::schedule::could_serve;
use super::sctp::{is_sctp, is_untranslatable};
use super::stage::Slot;
use super::{Core, Outcome, Turn, has_handshake, is_tcp, wrapped};
use crate::config::{ClientAddress, Protocol, TcpMss};
use crate::conn::state::{changes_tcp, next_tcp};
use crate::conn::{Address, Connection, Direction, Found, Key, State};
use crate::connection_log::Cause;
use crate::forward::cut;
use crate::forward::rewrite::{Form, set_macs};
use crate::neighbour::LinkState;
use crate::net::protocol;
use crate::packet::{Packet, Sent, Sink};
use crate::service::ServiceKey;
use crate::stats::{Established, RealStats};
use crate::tables::Tables;
use crate::units::{HopId, PortId};
use crate::verdict::{DropReason, PacketContext, ReplyReason, Verdict};
use crate::wire::{ethernet, tcp};
use std::net::IpAddr;

impl<F: Wire, P: Packet> Core<F, P> {
    /// A packet of a known connection, which most probably goes on to its next hop; the sink has heard of it then. Every other
    /// comes back untouched but for its padding, nothing counted and nothing changed, for [`Self::known_unusual`].
    #[inline(always)]
    pub(super) fn known<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        slot: &Slot<F>,
        turn: &mut Turn<'_, S>,
    ) -> Option<P> {
        let (tables, now, flow) = (turn.tables, turn.now, &slot.flow);
        let Some((connection, reply)) = self.live.table.entry_mut(slot.place) else {
            return Some(packet);
        };
        // A wrapped connection's requests have none.
        let Some(hop) = tables.neighbours.hop(connection.any_hop(reply)) else {
            return self.known_wrapped(packet, slot, turn);
        };
        let Some(real) = self.live.counters.reals.get(connection.real.index()) else {
            return Some(packet);
        };
        let usual = hop.is_reachable()
            && real.standing.admits(reply, packet.port())
            && connection.route_generation == tables.route_generation
            && flow.length <= hop.mtu()
            && !connection.is_silent(&tables.timing.least, now.millis());
        if !usual {
            return Some(packet);
        }
        if flow.kind == Kind::Segment {
            let direction = direction(connection, reply);
            if changes_tcp(connection.state, direction, flow.flags) {
                return Some(packet);
            }
            let at = usize::from(F::USUAL.l4) + 8;
            if let Some(acknowledged) = packet.data().get(at..at + 4) {
                let acknowledged = acknowledged.try_into().unwrap_or_default();
                connection.note_segment(reply, u32::from_le_bytes(acknowledged));
            }
        } else {
            connection.note_datagram(reply);
        }
        let context = PacketContext {
            real: Some(connection.real),
            state: Some(connection.state.name()),
            ..PacketContext::default()
        };
        connection.last_seen = now.millis();

        count(&real.counters, flow, reply);
        let is_tcp = flow.kind == Kind::Segment;
        F::rewrite_usual(packet.data_mut(), is_tcp, connection, reply, hop);
        let (from, port) = (packet.port(), hop.port());
        turn.sink.send(port, packet, Sent::Forwarded);
        // Counted by the sink's owner, when the device has taken the frame.
        turn.sink.decided(from, Verdict::Forward(port), context);
        None
    }
}

impl<F: Family, P: Packet> Core<F, P> {
    /// A packet of a known connection: over perhaps, to a real server or next hop that is not there, from where no reply
    /// of it comes, with a TTL that ran out, too big, a new attempt, or one that changes its state.
    pub(super) fn known_unusual<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        flow: &Flow<F>,
        found: Found,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let (tables, now) = (turn.tables, turn.now);
        let connection = *self.live.table.get(found.id);
        let real = match self.live.counters.reals.get(connection.real.index()) {
            // Replies of a removed or down real server still pass: the client's next packet is told.
            Some(real) if found.reply || !real.ends_connections() => real,
            _ => return self.orphan(packet, flow, found, turn),
        };
        let mut context = PacketContext {
            real: Some(connection.real),
            state: Some(connection.state.name()),
            ..PacketContext::default()
        };
        let tells = real.standing.tells();
        // The standing of a real server whose connections end, or all of whose packets are looked at, tells no ports.
        let comes_from_it = match real.ends_connections() || tells {
            true => tables.is_way_to(packet.port(), flow.key.source()),
            false => real.standing.admits(true, packet.port()),
        };
        if found.reply && !comes_from_it {
            return (Verdict::Drop(DropReason::WrongPort), context);
        }
        // What goes no further changes no state.
        if is_untranslatable(&connection, flow) {
            return (Verdict::Drop(DropReason::SctpFragment), context);
        }
        let opens = !found.reply && has_handshake(flow) && flow.flags.opens();
        let leaves = !found.reply && real.standing.is_left();
        let asks = !found.reply && real.standing.asks();
        let is_watched = real.standing.is_watched();
        let is_timed = real.standing.times();
        let ends_connections = real.ends_connections();
        if leaves && !flow.kind.is_fragment() {
            let target = tables.target(&service_key(&flow.key));
            // The connection is for fragments of another datagram, or from before a reload: it ends by itself.
            if target.service.is_some_and(|service| service.one_packet) {
                return self.unknown(packet, flow, target, turn);
            }
        }
        let is_silent = tables.timing.is_silent(&connection, now.millis());
        if is_silent
            || opens && self.starts_anew(&connection, &packet, flow, tables)
            || leaves && self.may_leave(&connection, flow, turn)
            || asks && self.names_another(&packet, flow, &connection, tables)
        {
            if !is_silent || !self.expire(found.id, turn) {
                let cause = match opens {
                    _ if is_silent => Cause::Timeout,
                    true => Cause::Reused,
                    false => Cause::Moved,
                };
                self.live.end(found.id, cause);
            }
            let target = tables.target(&service_key(&flow.key));
            return self.unknown(packet, flow, target, turn);
        }
        if flow.ttl <= 1 {
            let vip = self.speaker(&connection, found.reply, packet.port(), tables);
            return (self.ttl_exceeded(packet, flow, vip, turn), context);
        }
        let is_handshake = connection.state.is_handshake();
        let is_two_way = connection.is_two_way();
        let reopens = opens && is_two_way && connection.state.is_half_closed();
        // One that is sent again is asked for once.
        let begins_again = reopens && !connection.is_opened_again()
            || opens && !is_two_way && connection.state.is_reusable(false);
        if !found.reply
            && has_handshake(flow)
            && flow.flags.syn()
            && !is_handshake
            && let Some(reason) = self.admits_no_more(flow, begins_again, turn)
        {
            return (Verdict::Drop(reason), context);
        }
        let mut renews = !ends_connections;
        if reopens {
            self.live.table.get_mut(found.id).set_opened_again(true);
            renews = false;
        } else if flow.kind == Kind::LaterFragment {
            // The first one has said all that counts.
        } else if is_tcp(flow) {
            context.new_connection = opens && connection.state.is_reusable(connection.is_two_way());
            if is_watched {
                self.note_handshake(found, flow, now);
            }
            if tells && found.reply {
                self.hear_told(&mut packet, flow, found.id, tables);
            }
            let numbers = Numbers::of(packet.data(), flow);
            match F::HAS_ONE_WAY && is_usual(&connection, flow, found.reply) {
                true => (self.live.table.get_mut(found.id))
                    .set_acknowledged(found.reply, numbers.acknowledged),
                false => self.step(found, flow, numbers),
            }
        } else if is_sctp(flow) {
            context.new_connection = opens && connection.state.is_reusable(connection.is_two_way());
            if is_watched {
                self.note_handshake(found, flow, now);
            }
            self.step_sctp(&packet, flow, found);
        } else {
            self.live.table.get_mut(found.id).note_datagram(found.reply);
        }
        let is_first = found.reply && !connection.is_answered() && flow.kind != Kind::LaterFragment;
        if is_first {
            self.live.table.get_mut(found.id).set_answered();
            if is_watched {
                self.note_answer(&connection, flow);
            }
            if !has_handshake(flow) {
                self.live.assure(&connection);
            }
        }
        if is_timed && flow.kind != Kind::LaterFragment {
            self.time(&packet, flow, found, is_first, now);
        }
        let connection = self.live.table.get_mut(found.id);
        context.state = Some(connection.state.name());
        if renews {
            connection.last_seen = now.millis();
        }
        if let Some(real) = self.live.counters.reals.get(connection.real.index()) {
            count(&real.counters, flow, found.reply);
            if context.new_connection {
                real.counters.connections.add(1);
            }
        }
        let mut connection = *connection;
        let verdict = match tells && !found.reply {
            true => self.forward_telling(packet, flow, &mut connection, found.id, turn),
            false => self.forward(packet, flow, &mut connection, found.reply, turn),
        };
        self.live.remember_hops(found.id, &connection, is_timed);
        (verdict, context)
    }

    /// Whether a client's SYN makes a new connection of one that it meets, with a real server chosen anew: the old one is
    /// over, or its real server takes no new connections (the kernel's `expire_nodest_conn`) or cannot be reached. Where no
    /// replies are seen, anyone may have ended it by a forged reset or FIN: it stays with its real server. So does a late copy of
    /// the SYN that began it: FINs that have overtaken data are not its end.
    fn starts_anew(
        &self,
        connection: &Connection<F::Key>,
        packet: &P,
        flow: &Flow<F>,
        tables: &Tables,
    ) -> bool {
        let real = self.live.counters.reals.get(connection.real.index());
        let serves = real.is_some_and(|real| real.standing.is_open())
            && way_of(connection, false, tables).is_some_and(|way| !way.has_failed(tables));
        let sees_replies = connection.is_two_way();
        let is_copy = connection.state == State::TimeWait
            && is_tcp(flow)
            && Numbers::of(packet.data(), flow).began(connection.acknowledged(true));
        !serves || sees_replies && connection.state.is_reusable(sees_replies) && !is_copy
    }

    /// Why a client's SYN goes no further, by which the real server of an old connection might begin a new one: as its service
    /// is now, the client has none. The old connection goes on. `reopens`: it is the first SYN on a half-closed one.
    #[cold]
    fn admits_no_more<S: Sink<Packet = P>>(
        &mut self,
        flow: &Flow<F>,
        reopens: bool,
        turn: &mut Turn<'_, S>,
    ) -> Option<DropReason> {
        let service = turn.tables.service(&service_key(&flow.key))?;
        if service.client_address != ClientAddress::None && !self.live.keeps_told() {
            return Some(DropReason::ConnectionTableFull);
        }
        let guard = service.guard.as_ref()?;
        let refused = self.is_refused(guard, service.id, flow, false, turn);
        refused.or_else(|| match reopens {
            true => self.begins_again_too_fast(guard, service.id, flow, turn.now),
            false => None,
        })
    }

    /// Whether a client's datagram goes to another real server than its flow's, which is drained: after long enough a silence,
    /// if there is one that takes it.
    #[cold]
    fn may_leave<S: Sink<Packet = P>>(
        &self,
        connection: &Connection<F::Key>,
        flow: &Flow<F>,
        turn: &Turn<'_, S>,
    ) -> bool {
        let (tables, now) = (turn.tables, turn.now.millis());
        let silent = now.since(connection.last_seen);
        let stats = &self.shared.stats;
        let service = tables.service(&service_key(&flow.key));
        connection.state == State::Udp
            && flow.kind != Kind::LaterFragment
            && service.is_some_and(|service| {
                let after = service.on_drain.map_or(u128::MAX, |it| it.as_millis());
                let mut reals = service.reals.iter();
                (service.one_packet || u128::from(silent) >= after)
                    && reals.any(|real| could_serve::<F>(service, real, tables, stats))
            })
    }

    /// Brings a TCP connection into the state that a segment leads to, and keeps what later ones are held against.
    fn step(&mut self, found: Found, flow: &Flow<F>, numbers: Numbers) {
        let Numbers {
            sequence,
            end,
            acknowledged,
        } = numbers;
        let connection = self.live.table.get_mut(found.id);
        let (state, flags) = (connection.state, flow.flags);
        let two_way = connection.is_two_way();
        if two_way && flags.rst() && !connection.believes_reset(found.reply, sequence) {
            return;
        }
        // Passed on for the real server to judge: a SYN with another flag opens nothing, a FIN out of place closes nothing.
        let is_odd = flags.syn() && !flags.opens()
            || flags.fin() && !flags.syn() && !connection.believes_fin(sequence);
        if two_way && !found.reply && !flags.rst() && is_odd {
            return;
        }
        let mut next = next_tcp(state, direction(connection, found.reply), flags);
        let mut is_noted = flags.ack();
        if two_way && !found.reply && state.is_half_open() {
            // Only the number of the real server's SYN-ACK completes a handshake. A blind ACK's, be it 0, is not kept: the
            // real server refuses it by a reset with that number (RFC 9293 section 3.10.7.4), which ends nothing. Usual
            // ACKs after it are noted by `known`, which compares no numbers.
            let expected = connection.acknowledged(false);
            let completes = flags.ack() && expected == Some(acknowledged);
            if next == State::Established || state == State::Handshaken && next == state {
                next = match connection.is_answered() {
                    false => State::Unanswered,
                    true if completes => State::Established,
                    true => State::Handshaken,
                };
            }
            is_noted &= completes;
        } else if two_way && state.is_half_open() && next == State::Established {
            // A real server in mid-handshake acknowledges a stray SYN too (RFC 9293 section 3.10.7.4): it has taken the
            // client's ACK if it sends data, or has received some.
            let before = connection.acknowledged(true);
            let has_more = before.is_some_and(|before| before != acknowledged);
            if sequence == end && !has_more {
                next = State::Handshaken;
            }
        }
        if is_noted {
            connection.set_acknowledged(found.reply, acknowledged);
        }
        if two_way
            && !found.reply
            && next == State::TimeWait
            && flags.fin()
            && connection.acknowledged(true) == Some(sequence)
        {
            // The real server will acknowledge it. Until then its local pair may be taken over already, by a reset that has
            // to have this number.
            connection.set_acknowledged(true, end);
        }
        if two_way && found.reply && flags.syn() && flags.ack() {
            if state.is_half_closed() && connection.is_opened_again() {
                // The real server was done with the old one, and takes the client's new attempt.
                next = State::SynRecv;
                connection.set_opened_again(false);
            }
            if next.is_handshake() {
                connection.set_acknowledged(false, sequence.wrapping_add(1));
            }
        }
        if next != state {
            self.live.enter(found.id, next);
        }
    }

    /// Rewrites a packet of a connection and sends it to its next hop, which has to be found or asked for perhaps.
    pub(super) fn forward<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        flow: &Flow<F>,
        connection: &mut Connection<F::Key>,
        reply: bool,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, now) = (turn.tables, turn.now);
        let Some(way) = self.way(connection, reply, tables) else {
            return Verdict::Drop(DropReason::NoRoute);
        };
        if connection.is_clamped() && is_tcp(flow) && flow.flags.syn() {
            self.clamp_mss(&mut packet, flow, connection, way, turn);
        }
        if connection.is_wrapped() {
            return self.forward_wrapped(packet, flow, connection, way, turn);
        }
        let port = way.port;
        let mtu = tables.port(port).mtu;
        let is_cut = F::length_sent(flow) > mtu;
        if is_cut && !F::may_be_cut(packet.data(), flow) {
            let vip = self.speaker(connection, reply, packet.port(), tables);
            return self.too_big(packet, flow, vip, mtu, turn);
        }
        if !reply && way.has_failed(tables) {
            let destination = connection.destination(reply).into();
            self.want(port, way.address(destination, tables), now);
            let reason = ReplyReason::HostUnreachable;
            let vip = self.speaker(connection, reply, packet.port(), tables);
            return self.host_unreachable(packet, flow, vip, reason, turn);
        }
        let form = Form {
            layout: flow.layout,
            part: flow.kind.part(),
            is_cut,
        };
        if !F::rewrite(&mut packet, form, connection, reply, &mut self.memory) {
            return Verdict::Drop(DropReason::NoHeadroom);
        }
        let destination = connection.destination(reply).into();
        self.send_by(way, destination, packet, is_cut, turn)
    }

    /// Lowers the largest segment size that a SYN of a service with `tcp_mss` asks for.
    #[cold]
    fn clamp_mss<S: Sink<Packet = P>>(
        &self,
        packet: &mut P,
        flow: &Flow<F>,
        connection: &Connection<F::Key>,
        way: Way,
        turn: &Turn<'_, S>,
    ) {
        let tables = turn.tables;
        let service = tables.service(&service_key(&connection.request));
        let most = match service.and_then(|service| service.tcp_mss) {
            None => return,
            Some(TcpMss::Bytes(most)) => most,
            Some(TcpMss::Auto) => {
                let (mtu, overhead) = match tables.tunnels.get(connection.real) {
                    Some(tunnel) if connection.is_wrapped() => {
                        (self.mtu_of(tunnel, way, turn), tunnel.overhead())
                    }
                    _ => (tables.port(way.port).mtu, 0),
                };
                let back = tables.port(packet.port()).mtu;
                mtu.min(back).saturating_sub(overhead + F::HEADERS)
            }
        };
        let end = ethernet::HEADER_LEN + usize::from(flow.length);
        let segment = packet
            .data_mut()
            .get_mut(usize::from(flow.layout.l4)..end)
            .map(tcp::Tcp::new_checked);
        if let Some(Ok(mut segment)) = segment {
            segment.clamp_mss(most);
        }
    }

    /// The way that packets of a connection go; none without a route. The connection remembers it.
    pub(super) fn way(
        &self,
        connection: &mut Connection<F::Key>,
        reply: bool,
        tables: &Tables,
    ) -> Option<Way> {
        if connection.route_generation != tables.route_generation {
            connection.forget_hops(tables.route_generation);
        }
        if let Some(hop) = connection.hop(reply) {
            return Some(Way {
                port: tables.neighbours.link(hop).port,
                hop: Some(hop),
            });
        }
        let way = way_of(connection, reply, tables)?;
        connection.set_hop(reply, way.hop);
        Some(way)
    }

    /// Sends a rewritten packet by its way, or has it wait for the next hop's MAC address. `is_cut`: in fragments.
    pub(super) fn send_by<S: Sink<Packet = P>>(
        &mut self,
        way: Way,
        destination: IpAddr,
        packet: P,
        is_cut: bool,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        self.send_as(Sent::Forwarded, way, destination, packet, is_cut, turn)
    }

    /// As [`send_by`](Self::send_by), counted as `kind`. Only a received packet is fragmented.
    pub(super) fn send_as<S: Sink<Packet = P>>(
        &mut self,
        kind: Sent,
        way: Way,
        destination: IpAddr,
        mut packet: P,
        is_cut: bool,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, now, port) = (turn.tables, turn.now, way.port);
        let mtu = tables.port(port).mtu;
        let link = way.hop.map(|hop| tables.neighbours.link(hop));
        match link {
            Some(link) if link.is_usable() => {
                if link.state == LinkState::Stale {
                    self.want(port, way.address(destination, tables), now);
                }
                set_macs(packet.data_mut(), link.mac, tables.port(port).mac);
                if !is_cut {
                    turn.sink.send(port, packet, kind);
                } else if !cut::send(packet, port, mtu, turn.sink) {
                    return Verdict::Drop(DropReason::NoBuffer);
                }
                Verdict::Forward(port)
            }
            _ => {
                let address = way.address(destination, tables);
                self.want(port, address, now);
                match (self.waiting).push((port, address), packet, kind, now) {
                    true => Verdict::Queue(port),
                    false => Verdict::Drop(DropReason::NeighbourQueueFull),
                }
            }
        }
    }

    /// A client's packet of a connection whose real server was removed, is down, or is disabled. UDP and new attempts
    /// start anew, and TCP as well with `on_down = "reschedule"`; else TCP is told by a reset (the kernel's
    /// `expire_nodest_conn`). A reset that crosses a reply misses the client's window (RFC 5961 section 3.2), so that the
    /// client's next segments are told again, until the connection's last seconds are over.
    #[cold]
    fn orphan<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        found: Found,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let (tables, now) = (turn.tables, turn.now);
        let connection = *self.live.table.get(found.id);
        let real = self.live.counters.reals.get(connection.real.index());
        let fate = real.map_or(Established::Removed, |real| real.standing.established());
        let is_over = tables.timing.is_expired(&connection, now.millis()) || flow.flags.rst();
        let moves = fate == Established::Moved && !is_over && flow.kind == Kind::Segment;
        if is_over || !has_handshake(flow) || flow.flags.opens() || moves {
            self.live.end(found.id, Cause::RealDown);
            let target = tables.target(&service_key(&flow.key));
            let mut flow = *flow;
            if moves {
                // As if it were the first one of a connection.
                flow.flags = tcp::Flags(tcp::Flags::SYN);
            }
            return self.unknown(packet, &flow, target, turn);
        }
        let closed = match is_tcp(flow) {
            true => State::Close,
            false => State::SctpClosed,
        };
        if connection.state != closed {
            self.live.enter(found.id, closed);
            self.live.table.get_mut(found.id).last_seen = now.millis();
        }
        let reason = match fate {
            Established::Down | Established::Moved => ReplyReason::RealDown,
            Established::Removed | Established::GoOn | Established::Leave => {
                ReplyReason::RealRemoved
            }
        };
        let context = PacketContext {
            real: Some(connection.real),
            ..PacketContext::default()
        };
        (self.reset(packet, flow, reason, turn), context)
    }
}

/// What the service of a client's packet is found by.
#[inline]
pub(super) fn service_key<K: Key>(key: &K) -> ServiceKey<K::Address> {
    ServiceKey {
        protocol: match key.protocol() {
            protocol::TCP => Protocol::Tcp,
            protocol::SCTP => Protocol::Sctp,
            _ => Protocol::Udp,
        },
        address: key.destination(),
        port: key.destination_port(),
        last: 0,
    }
}

/// The numbers of a TCP segment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    sequence: u32,
    /// The sequence number after the segment.
    end: u32,
    acknowledged: u32,
}

impl Numbers {
    /// Whether the segment with these flags has data.
    pub(super) fn has_data(&self, flags: tcp::Flags) -> bool {
        let length = self.end.wrapping_sub(self.sequence);
        length > u32::from(flags.syn()) + u32::from(flags.fin())
    }

    /// Whether a SYN is the one that began the stream of which the other side has acknowledged so much: little more than it. Another
    /// connection's begins elsewhere (RFC 9293 section 3.4.1).
    fn began(&self, acknowledged: Option<u32>) -> bool {
        // Its data, if it has some, are acknowledged by few (RFC 7413). What is not known is 0, which is a number as any other.
        let begins = self.sequence.wrapping_add(1);
        acknowledged.unwrap_or(0).wrapping_sub(begins) <= u16::MAX.into()
    }

    /// Of a segment whose header is there.
    pub(super) fn of<F: Family>(frame: &[u8], flow: &Flow<F>) -> Self {
        let l4 = usize::from(flow.layout.l4);
        let header = frame
            .get(l4..)
            .and_then(|segment| segment.first_chunk::<{ tcp::HEADER_LEN }>());
        let Some(header) = header else {
            return Numbers::default();
        };
        let word = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let headers = l4 - ethernet::HEADER_LEN + usize::from(header[12] >> 4) * 4;
        let data = usize::from(flow.length).saturating_sub(headers) as u32;
        // SEG.LEN counts SYN and FIN.
        let length = data + u32::from(flow.flags.syn()) + u32::from(flow.flags.fin());
        Numbers {
            sequence: word(4),
            end: word(4).wrapping_add(length),
            acknowledged: word(8),
        }
    }
}

/// Whether a segment changes no state, and so is one of those that [`Core::known`] takes.
fn is_usual<F: Family>(connection: &Connection<F::Key>, flow: &Flow<F>, reply: bool) -> bool {
    let next = next_tcp(connection.state, direction(connection, reply), flow.flags);
    flow.kind == Kind::Segment && next == connection.state
}

/// Counts a packet of a connection.
#[inline(always)]
pub(super) fn count<F: Family>(real: &RealStats, flow: &Flow<F>, reply: bool) {
    let (packets, bytes) = match reply {
        true => (&real.packets_out, &real.bytes_out),
        false => (&real.packets_in, &real.bytes_in),
    };
    packets.add(1);
    bytes.add(u64::from(flow.length));
}

#[inline(always)]
pub(super) fn direction<K: Key>(connection: &Connection<K>, reply: bool) -> Direction {
    match (reply, connection.is_two_way()) {
        (true, _) => Direction::Reply,
        (false, true) => Direction::Request,
        (false, false) => Direction::RequestOnly,
    }
}

/// The way to an address: the port, and the next hop, if it is known: its slot in the neighbour table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub port: PortId,
    pub hop: Option<HopId>,
}

impl Way {
    /// Whether the next hop was asked for, and did not answer, or the port's link is down.
    pub(super) fn has_failed(&self, tables: &Tables) -> bool {
        if tables.neighbours.is_link_down(self.port) {
            return true;
        }
        let state = self.hop.map(|hop| tables.neighbours.link(hop).state);
        state == Some(LinkState::Failed)
    }

    /// The next hop's address, of a way to `destination`. One that is not known yet is the destination itself: a gateway has
    /// its slot.
    pub(super) fn address(&self, destination: IpAddr, tables: &Tables) -> IpAddr {
        match self.hop {
            Some(hop) => tables.neighbours.address(hop),
            None => destination,
        }
    }
}

/// Where a connection's packets go, whatever they are wrapped in.
pub(super) fn goal<K: Key>(connection: &Connection<K>, reply: bool, tables: &Tables) -> IpAddr {
    match tables.tunnels.get(connection.real) {
        Some(tunnel) if connection.is_wrapped() => tunnel.destination,
        _ => connection.destination(reply).into(),
    }
}

/// The way of a connection's packets, as the routes are now.
pub(super) fn way_of<K: Key>(
    connection: &Connection<K>,
    reply: bool,
    tables: &Tables,
) -> Option<Way> {
    match connection.is_wrapped() {
        true => wrapped::way(tables, connection.real),
        false => resolve(tables, connection.destination(reply)),
    }
}

pub(super) fn resolve<A: Address>(tables: &Tables, destination: A) -> Option<Way> {
    let route = tables.routes.get(destination)?;
    let hop = match route.gateway {
        Some((hop, _)) => Some(hop),
        None => tables.neighbours.find(route.port, destination),
    };
    Some(Way {
        port: route.port,
        hop,
    })
}

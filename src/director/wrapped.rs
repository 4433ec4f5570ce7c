//! Comes here: a packet of a connection whose packets are wrapped or marked on their way to the real server, see
//! [`tunnel`].

use super::family::{Family, Wire};
use super::flow::{Way, count, direction, resolve};
use super::icmp_error::IcmpError;
use super::parse::{Flow, Kind, is_ipv6};
use super::stage::Slot;
use super::{Core, Turn};
use crate::config::TunnelConfig;
use crate::conn::state::changes_tcp;
use crate::conn::{AnyAddress, Connection, Key};
use crate::forward::across::Identifications;
use crate::forward::cut;
use crate::forward::pieces::Pieces;
use crate::forward::rewrite::{set_ethernet_header, set_macs};
use crate::forward::tunnel::{self, Inner, Outer, Tunnel, Via};
use crate::neighbour::Link;
use crate::net::protocol;
use crate::packet::{Packet, Priority, Sent, Sink};
use crate::tables::Tables;
use crate::units::{PortId, RealId, WorkerId};
use crate::verdict::{DropReason, PacketContext, ReplyReason, Verdict};
use crate::wire::{Mac, ethernet};
use std::net::IpAddr;

/// RFC 8200 section 5: what a way must take whole, or in fragments that its beginning makes. No sender of IPv6 sends less
/// because of "too big".
const LEAST_V6: u16 = 1280;

impl<F: Wire, P: Packet> Core<F, P> {
    /// Whether a packet that may simply go on is of a connection whose packets are wrapped or marked.
    #[inline(always)]
    pub(super) fn is_wrapped(&mut self, slot: &Slot<F>) -> bool {
        slot.flow.kind > Kind::Unusual
            && (self.live.table.entry_mut(slot.place))
                .is_some_and(|(connection, _)| connection.is_wrapped())
    }

    /// As [`known`](Self::known), of a connection whose packets are wrapped or marked; it is counted, and the sink has heard of it.
    /// Every other packet comes back untouched but for its padding.
    #[inline(never)]
    pub(super) fn known_wrapped<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        slot: &Slot<F>,
        turn: &mut Turn<'_, S>,
    ) -> Option<P> {
        let (tables, now, flow) = (turn.tables, turn.now, &slot.flow);
        let Some((connection, _)) = self.live.table.entry_mut(slot.place) else {
            return Some(packet);
        };
        let Some(real) = self.live.counters.reals.get(connection.real.index()) else {
            return Some(packet);
        };
        let Some(tunnel) = tables.tunnels.get(connection.real) else {
            return Some(packet);
        };
        let Some(hop) = tables.neighbours.hop(connection.any_wrapped_hop()) else {
            return Some(packet);
        };
        let overhead = tunnel.overhead();
        let length = flow.length.saturating_add(overhead);
        let usual = hop.is_reachable()
            && real.standing.admits(false, packet.port())
            && connection.route_generation == tables.route_generation
            && length <= hop.mtu()
            && self.shared.path_mtus.takes(tunnel.destination, length, now)
            && !connection.is_silent(&tables.timeouts, now.millis());
        if !usual {
            return Some(packet);
        }
        if flow.kind == Kind::Segment
            && changes_tcp(connection.state, direction(connection, false), flow.flags)
        {
            return Some(packet);
        }
        let source = outer_source(tunnel, hop.port(), tables);
        if source.is_none() || !tunnel::make_room(&mut packet, flow.length, overhead) {
            return Some(packet);
        }
        match flow.kind {
            Kind::Segment => {
                let at = usize::from(F::USUAL.l4 + overhead) + 8;
                if let Some(acknowledged) = packet.data().get(at..at + 4) {
                    let acknowledged = acknowledged.try_into().unwrap_or_default();
                    connection.note_segment(false, u32::from_le_bytes(acknowledged));
                }
            }
            _ => connection.note_datagram(false),
        }
        let context = PacketContext {
            real: Some(connection.real),
            state: Some(connection.state.name()),
            ..PacketContext::default()
        };
        connection.last_seen = now.millis();
        count(&real.counters, flow, false);
        let (from, port) = (packet.port(), hop.port());
        let frame = packet.data_mut();
        let is_done = match (&tunnel.via, source) {
            (Via::Wrapped(config), Some(source)) => {
                let inner = Inner {
                    is_v6: F::IS_V6,
                    hash: slot.hash,
                };
                let outer = Outer {
                    source,
                    is_fragmented: false,
                };
                let numbers = &mut self.identifications;
                tunnel::wrap(frame, inner, config, tunnel.destination, outer, numbers)
            }
            (Via::Marked { dscp }, _) => {
                let l4 = usize::from(F::USUAL.l4);
                let protocol = flow.key.protocol();
                tunnel::mark(frame, l4, protocol, tunnel.destination, *dscp).is_some()
            }
            (Via::Wrapped(_), None) => false,
        };
        let verdict = match is_done {
            true => {
                set_ethernet_header(frame, hop);
                turn.sink.send(port, packet, Sent::Forwarded);
                Verdict::Forward(port)
            }
            false => {
                self.counters().drop(DropReason::NoRoute);
                Verdict::Drop(DropReason::NoRoute)
            }
        };
        turn.sink.decided(from, verdict, context);
        None
    }
}

/// What of a packet has to be done before it fits its way.
enum Fit {
    Whole,
    /// It is wrapped, and what that makes is fragmented.
    InFragments,
    /// It is fragmented, and each piece wrapped: an IPv4 packet that any router may fragment.
    Pieces(u16),
    /// The sender must send less.
    TooBig(u16),
}

impl<F: Family, P: Packet> Core<F, P> {
    /// As [`forward`](Self::forward), of a connection whose packets are wrapped or marked.
    #[inline(never)]
    pub(super) fn forward_wrapped<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        connection: &Connection<F::Key>,
        way: Way,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, now) = (turn.tables, turn.now);
        let Some(tunnel) = tables.tunnels.get(connection.real) else {
            return Verdict::Drop(DropReason::NoRoute);
        };
        let vip = connection.request.destination();
        let mtu = self.mtu_of(tunnel, way, turn);
        let fit = fit::<F, P>(&packet, flow, tunnel, mtu);
        if let Fit::TooBig(mtu) = fit {
            return self.too_big(packet, flow, vip, mtu, turn);
        }
        if way.has_failed(tables) {
            self.want(way.port, way.address(tunnel.destination, tables), now);
            let reason = ReplyReason::HostUnreachable;
            return self.host_unreachable(packet, flow, vip, reason, turn);
        }
        self.send_wrapped(packet, flow, (tunnel, way), (fit, mtu), false, turn)
    }

    /// As [`forward_wrapped`](Self::forward_wrapped), of an ICMP error about what the real server has sent: it is answered by no other.
    pub(super) fn forward_wrapped_error<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        error: &IcmpError<F>,
        connection: &Connection<F::Key>,
        way: Way,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let flow = &error.flow;
        let Some(tunnel) = turn.tables.tunnels.get(connection.real) else {
            return Verdict::Drop(DropReason::NoRoute);
        };
        let mtu = self.mtu_of(tunnel, way, turn);
        match fit::<F, P>(&packet, flow, tunnel, mtu) {
            Fit::TooBig(_) | Fit::Pieces(_) => Verdict::Drop(DropReason::TooBig),
            fit => {
                self.counters().icmp_errors[error.kind as usize].add(1);
                self.send_wrapped(packet, flow, (tunnel, way), (fit, mtu), true, turn)
            }
        }
    }

    /// What the way to a real server takes whole.
    pub(super) fn mtu_of<S: Sink<Packet = P>>(
        &self,
        tunnel: &Tunnel,
        way: Way,
        turn: &Turn<'_, S>,
    ) -> u16 {
        let path = self.shared.path_mtus.mtu(tunnel.destination, turn.now);
        turn.tables.port(way.port).mtu.min(path)
    }

    fn send_wrapped<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        flow: &Flow<F>,
        (tunnel, way): (&Tunnel, Way),
        (fit, mtu): (Fit, u16),
        is_error: bool,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let is_v6 = is_ipv6(packet.data());
        match &tunnel.via {
            Via::Wrapped(config) if let Fit::Pieces(inside) = fit => {
                let hash = self.live.table.hash(&flow.key);
                return self.send_pieces(packet, hash, (tunnel, config), way, inside, turn);
            }
            Via::Wrapped(config) => {
                let Some(source) = outer_source(tunnel, way.port, turn.tables) else {
                    return Verdict::Drop(DropReason::NoRoute);
                };
                if !tunnel::make_room(&mut packet, flow.length, tunnel.overhead()) {
                    return Verdict::Drop(DropReason::NoHeadroom);
                }
                let inner = Inner {
                    is_v6,
                    hash: self.live.table.hash(&flow.key),
                };
                let outer = Outer {
                    source,
                    is_fragmented: matches!(fit, Fit::InFragments),
                };
                let (frame, numbers) = (packet.data_mut(), &mut self.identifications);
                if !tunnel::wrap(frame, inner, config, tunnel.destination, outer, numbers) {
                    return Verdict::Drop(DropReason::NoRoute);
                }
            }
            Via::Marked { dscp } => {
                let l4 = usize::from(flow.layout.l4);
                let protocol = match (is_error, is_v6) {
                    // The checksum is in the first one.
                    (false, _) if flow.kind == Kind::LaterFragment => protocol::FRAGMENT,
                    (false, _) => flow.key.protocol(),
                    (true, false) => protocol::ICMP,
                    (true, true) => protocol::ICMPV6,
                };
                let frame = packet.data_mut();
                if tunnel::mark(frame, l4, protocol, tunnel.destination, *dscp).is_none() {
                    return Verdict::Drop(DropReason::NoRoute);
                }
            }
        }
        match fit {
            Fit::InFragments => self.send_in_fragments(way, tunnel.destination, packet, mtu, turn),
            Fit::Pieces(_) => self.send_by(way, tunnel.destination, packet, true, turn),
            Fit::Whole | Fit::TooBig(_) => {
                self.send_by(way, tunnel.destination, packet, false, turn)
            }
        }
    }
}

impl<F: Family, P: Packet> Core<F, P> {
    /// Fragments a packet, and wraps each piece of at most `inside` bytes.
    #[cold]
    fn send_pieces<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        hash: u64,
        (tunnel, config): (&Tunnel, &TunnelConfig),
        way: Way,
        inside: u16,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, now) = (turn.tables, turn.now);
        let Some(source) = outer_source(tunnel, way.port, tables) else {
            return Verdict::Drop(DropReason::NoRoute);
        };
        let link = way.hop.map(|hop| tables.neighbours.link(hop));
        let Some(link) = link.filter(Link::is_usable) else {
            // What waits, waits whole.
            self.want(way.port, way.address(tunnel.destination, tables), now);
            return Verdict::Drop(DropReason::NeighbourQueueFull);
        };
        let mut wrapping = Wrapping {
            sink: &mut *turn.sink,
            tunnel,
            config,
            hash,
            source,
            macs: (link.mac, tables.port(way.port).mac),
            numbers: &mut self.identifications,
            has_failed: false,
        };
        let is_sent = cut::send(packet, way.port, inside, &mut wrapping);
        match is_sent && !wrapping.has_failed {
            true => Verdict::Forward(way.port),
            false => Verdict::Drop(DropReason::NoBuffer),
        }
    }

    /// Sends a wrapped packet in pieces of at most `mtu` bytes. The last one is what is left of the packet itself.
    #[cold]
    fn send_in_fragments<S: Sink<Packet = P>>(
        &mut self,
        way: Way,
        destination: IpAddr,
        mut packet: P,
        mtu: u16,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, now) = (turn.tables, turn.now);
        let link = way.hop.map(|hop| tables.neighbours.link(hop));
        let Some(link) = link.filter(Link::is_usable) else {
            // What waits, waits whole.
            self.want(way.port, way.address(destination, tables), now);
            return Verdict::Drop(DropReason::NeighbourQueueFull);
        };
        set_macs(packet.data_mut(), link.mac, tables.port(way.port).mac);
        let number = u32::from(self.identifications.take());
        let Some(pieces) = Pieces::of(packet.data(), mtu) else {
            return Verdict::Drop(DropReason::TooBig);
        };
        let mut iter = pieces.iter().peekable();
        while let Some(piece) = iter.next() {
            let length = pieces.length(&piece);
            if iter.peek().is_none() {
                let is_cut = pieces
                    .keep_last(packet.data_mut(), &piece, number)
                    .is_some();
                return match is_cut && packet.resize(length) {
                    true => self.send_by(way, destination, packet, false, turn),
                    false => Verdict::Drop(DropReason::NoBuffer),
                };
            }
            let Some(mut fragment) = turn.sink.alloc(way.port) else {
                break;
            };
            fragment.set_priorities(packet.priorities());
            let is_there = fragment.resize(length)
                && pieces
                    .copy(packet.data(), &piece, fragment.data_mut(), number)
                    .is_some();
            if !is_there {
                break;
            }
            turn.sink.send(way.port, fragment, Sent::Originated);
        }
        Verdict::Drop(DropReason::NoBuffer)
    }
}

/// Where the pieces of an IPv4 packet go: to another sink, wrapped.
struct Wrapping<'a, S> {
    sink: &'a mut S,
    tunnel: &'a Tunnel,
    config: &'a TunnelConfig,
    hash: u64,
    source: IpAddr,
    /// Destination and source.
    macs: (Mac, Mac),
    numbers: &'a mut Identifications,
    /// A piece had no room for the headers.
    has_failed: bool,
}

impl<S: Sink> Sink for Wrapping<'_, S> {
    type Packet = S::Packet;

    fn send(&mut self, port: PortId, mut packet: S::Packet, kind: Sent) {
        let length = packet.data().len().saturating_sub(ethernet::HEADER_LEN);
        let (inner, outer) = (
            Inner {
                is_v6: false,
                hash: self.hash,
            },
            Outer {
                source: self.source,
                is_fragmented: false,
            },
        );
        let is_wrapped = tunnel::make_room(&mut packet, length as u16, self.tunnel.overhead())
            && tunnel::wrap(
                packet.data_mut(),
                inner,
                self.config,
                self.tunnel.destination,
                outer,
                self.numbers,
            );
        if !is_wrapped {
            self.has_failed = true;
            return;
        }
        set_macs(packet.data_mut(), self.macs.0, self.macs.1);
        self.sink.send(port, packet, kind);
    }

    fn alloc(&mut self, port: PortId) -> Option<S::Packet> {
        self.sink.alloc(port)
    }

    fn local(&mut self, _port: PortId, _packet: S::Packet, _priority: Priority) -> bool {
        false
    }

    fn hand_over(&mut self, _to: WorkerId, _packet: S::Packet) -> bool {
        false
    }
}

/// Whether a packet fits into what its way takes whole, with what is put before it.
fn fit<F: Family, P: Packet>(packet: &P, flow: &Flow<F>, tunnel: &Tunnel, mtu: u16) -> Fit {
    let (length, overhead) = (flow.length, tunnel.overhead());
    let inside = mtu.saturating_sub(overhead);
    match is_ipv6(packet.data()) {
        _ if length <= inside => Fit::Whole,
        true if overhead > 0 && length <= LEAST_V6 => Fit::InFragments,
        true => Fit::TooBig(inside.max(LEAST_V6)),
        false if F::may_be_cut(packet.data(), flow) => Fit::Pieces(inside),
        false => Fit::TooBig(inside),
    }
}

/// What a packet to a real server comes from, out of a port; none where weir has no address of its family. Of one that is not
/// wrapped, any.
#[inline(always)]
fn outer_source(tunnel: &Tunnel, port: PortId, tables: &Tables) -> Option<IpAddr> {
    match &tunnel.via {
        Via::Wrapped(config) => match config.source {
            Some(source) => Some(source),
            None => *tables.port(port).outer_source.of(tunnel.destination),
        },
        Via::Marked { .. } => Some(tunnel.destination),
    }
}

/// The way to a real server by its tunnel.
#[inline(never)]
pub(super) fn way(tables: &Tables, real: RealId) -> Option<Way> {
    way_beyond(tables.tunnels.get(real)?.destination, tables)
}

/// The way to an address of either family.
#[inline(never)]
pub(super) fn way_beyond(address: IpAddr, tables: &Tables) -> Option<Way> {
    resolve(tables, AnyAddress::from(address))
}

//! Comes here: a packet of a connection whose packets are wrapped or marked on their way to the real server, see
//! [`tunnel`].

use super::family::{Family, Wire};
use super::flow::{Way, count, direction, resolve};
use super::icmp_error::IcmpError;
use super::parse::{Flow, Kind, is_ipv6};
use super::stage::Slot;
use super::waiting::Waiting;
use super::{Core, Turn};
use crate::conn::state::changes_tcp;
use crate::conn::{AnyAddress, Connection, Key};
use crate::forward::cut;
use crate::forward::identification::Identifications;
use crate::forward::rewrite::{set_ethernet_header, set_macs};
use crate::forward::tunnel::{self, Inner, Outer, OuterSources, Tunnel, Via};
use crate::neighbour::{Link, LinkState};
use crate::net::protocol;
use crate::packet::{Packet, Priority, Sent, Sink};
use crate::tables::Tables;
use crate::units::{PortId, RealId, Time, WorkerId};
use crate::verdict::{DropReason, PacketContext, ReplyReason, Verdict};
use crate::wire::{Mac, ethernet};
use std::net::IpAddr;

/// RFC 8200 section 5: what a way must take whole, or in fragments that its beginning makes. No sender of IPv6 sends less
/// because of "too big".
const LEAST_V6: u16 = 1280;

impl<F: Wire, P: Packet> Core<F, P> {
    /// As [`known`](Self::known), of a connection without a usual next hop: most probably one whose packets are wrapped or marked.
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
        if !connection.is_wrapped() {
            return Some(packet);
        }
        let Some(real) = self.live.counters.reals.get(connection.real.index()) else {
            return Some(packet);
        };
        let Some(tunnel) = tables.tunnels.get(connection.real) else {
            return Some(packet);
        };
        let Some(hop) = tables.neighbours.hop(connection.any_wrapped_hop()) else {
            return Some(packet);
        };
        let (from, port) = (packet.port(), hop.port());
        let overhead = tunnel.overhead();
        let length = flow.length.saturating_add(overhead);
        let usual = hop.is_reachable()
            && real.standing.admits(false, from)
            && connection.route_generation == tables.route_generation
            && length <= hop.mtu()
            && self.shared.path_mtus.takes(tunnel.destination, length, now)
            && !connection.is_silent(&tables.timing.least, now.millis());
        if !usual {
            return Some(packet);
        }
        let is_segment = flow.kind == Kind::Segment;
        let mut acknowledged = 0;
        if is_segment {
            let direction = direction(connection, false);
            if changes_tcp(connection.state, direction, flow.flags) {
                return Some(packet);
            }
            let at = usize::from(F::USUAL.l4) + 8;
            let field = packet.data().get(at..).and_then(<[u8]>::first_chunk);
            acknowledged = field.map_or(0, |field| u32::from_le_bytes(*field));
        }
        let is_done = match overhead {
            0 => {
                let frame = packet.data_mut();
                let protocol = flow.key.protocol();
                mark_known::<F>(frame, tunnel, protocol).map(|()| set_ethernet_header(frame, hop))
            }
            _ if !tunnel::make_room(&mut packet, flow.length, overhead) => None,
            _ => {
                let inner = Inner {
                    is_v6: F::IS_V6,
                    hash: slot.hash,
                };
                let outer = Outer {
                    sources: &tables.port(port).outer_sources,
                    is_fragmented: false,
                };
                let (frame, numbers) = (packet.data_mut(), &mut self.identifications);
                let is_wrapped = tunnel.wrap(frame, inner, outer, numbers);
                match is_wrapped {
                    Some(()) => set_ethernet_header(frame, hop),
                    None => {
                        packet.trim_front(overhead.into());
                    }
                }
                is_wrapped
            }
        };
        if is_done.is_none() {
            return Some(packet);
        }
        match is_segment {
            true => connection.note_segment(false, acknowledged),
            false => connection.note_datagram(false),
        }
        let context = PacketContext {
            real: Some(connection.real),
            state: Some(connection.state.name()),
            ..PacketContext::default()
        };
        connection.last_seen = now.millis();
        count(&real.counters, flow, false);
        turn.sink.send(port, packet, Sent::Forwarded);
        turn.sink.decided(from, Verdict::Forward(port), context);
        None
    }
}

/// Marks a packet of the usual layout. None, and nothing is changed, if it is of another family than its real server.
#[inline(never)]
fn mark_known<F: Wire>(frame: &mut [u8], tunnel: &Tunnel, protocol: u8) -> Option<()> {
    let Via::Marked { dscp } = tunnel.via else {
        return None;
    };
    let l4 = usize::from(F::USUAL.l4);
    tunnel::mark(frame, l4, protocol, tunnel.destination, dscp)
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
            Via::Wrapped(_) if let Fit::Pieces(inside) = fit => {
                let hash = self.live.table.hash(&flow.key);
                return self.send_pieces(packet, hash, tunnel, way, inside, turn);
            }
            Via::Wrapped(_) => {
                if !tunnel::make_room(&mut packet, flow.length, tunnel.overhead()) {
                    return Verdict::Drop(DropReason::NoHeadroom);
                }
                let inner = Inner {
                    is_v6,
                    hash: self.live.table.hash(&flow.key),
                };
                let outer = Outer {
                    sources: &turn.tables.port(way.port).outer_sources,
                    is_fragmented: matches!(fit, Fit::InFragments),
                };
                let (frame, numbers) = (packet.data_mut(), &mut self.identifications);
                if tunnel.wrap(frame, inner, outer, numbers).is_none() {
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
            Fit::InFragments => self.send_in_fragments(packet, way, tunnel.destination, mtu, turn),
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
        tunnel: &Tunnel,
        way: Way,
        inside: u16,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let wrapping = Wrapping {
            tunnel,
            hash,
            sources: turn.tables.port(way.port).outer_sources,
        };
        let cut = |packet, pieces: &mut Pieces<'_, S>| cut::send(packet, way.port, inside, pieces);
        self.send_each(packet, way, tunnel.destination, Some(wrapping), cut, turn)
    }

    /// Sends a wrapped packet in fragments of at most `mtu` bytes.
    #[cold]
    fn send_in_fragments<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        way: Way,
        destination: IpAddr,
        mtu: u16,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let number = self.identifications6.take();
        let cut = |packet, pieces: &mut Pieces<'_, S>| {
            cut::send_own(packet, way.port, mtu, number, pieces)
        };
        self.send_each(packet, way, destination, None, cut, turn)
    }

    /// Sends what `cut` makes of a packet, or has each piece wait for the MAC address of the next hop.
    fn send_each<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        way: Way,
        destination: IpAddr,
        wrapping: Option<Wrapping<'_>>,
        cut: impl FnOnce(P, &mut Pieces<'_, S>) -> bool,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, now) = (turn.tables, turn.now);
        let link = way.hop.map(|hop| tables.neighbours.link(hop));
        let address = way.address(destination, tables);
        if link.is_none_or(|link| link.state != LinkState::Reachable) {
            self.want(way.port, address, now);
        }
        let link = link.filter(Link::is_usable);
        let mut pieces = Pieces {
            sink: &mut *turn.sink,
            macs: link.map(|link| (link.mac, tables.port(way.port).mac)),
            waiting: &mut self.waiting,
            address,
            now,
            wrapping,
            numbers: &mut self.identifications,
            failure: None,
        };
        let is_cut = cut(packet, &mut pieces);
        match (is_cut, pieces.failure) {
            (_, Some(reason)) => Verdict::Drop(reason),
            (false, None) => Verdict::Drop(DropReason::NoBuffer),
            (true, None) if link.is_some() => Verdict::Forward(way.port),
            (true, None) => Verdict::Queue(way.port),
        }
    }
}

/// What the pieces of a packet are wrapped in.
struct Wrapping<'a> {
    tunnel: &'a Tunnel,
    /// Of the packet's flow.
    hash: u64,
    sources: OuterSources,
}

/// Where the pieces of a packet go: to another sink, or to those that wait.
struct Pieces<'a, S: Sink> {
    sink: &'a mut S,
    /// Destination and source, if the next hop is known.
    macs: Option<(Mac, Mac)>,
    waiting: &'a mut Waiting<S::Packet>,
    /// The next hop's.
    address: IpAddr,
    now: Time,
    wrapping: Option<Wrapping<'a>>,
    numbers: &'a mut Identifications,
    failure: Option<DropReason>,
}

impl<S: Sink> Sink for Pieces<'_, S> {
    type Packet = S::Packet;

    fn send(&mut self, port: PortId, mut packet: S::Packet, kind: Sent) {
        if self.failure.is_some() {
            return;
        }
        if let Some(wrapping) = &self.wrapping {
            let length = packet.data().len().saturating_sub(ethernet::HEADER_LEN) as u16;
            if !tunnel::make_room(&mut packet, length, wrapping.tunnel.overhead()) {
                self.failure = Some(DropReason::NoHeadroom);
                return;
            }
            let inner = Inner {
                is_v6: false,
                hash: wrapping.hash,
            };
            let outer = Outer {
                sources: &wrapping.sources,
                is_fragmented: false,
            };
            let frame = packet.data_mut();
            if (wrapping.tunnel)
                .wrap(frame, inner, outer, self.numbers)
                .is_none()
            {
                self.failure = Some(DropReason::NoRoute);
                return;
            }
        }
        match self.macs {
            Some((destination, source)) => {
                set_macs(packet.data_mut(), destination, source);
                self.sink.send(port, packet, kind);
            }
            None => {
                let hop = (port, self.address);
                if !self.waiting.push(hop, packet, kind, self.now) {
                    self.failure = Some(DropReason::NeighbourQueueFull);
                }
            }
        }
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

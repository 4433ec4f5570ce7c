//! Comes here: a packet of a connection whose real server is told of the client, by a header of the PROXY protocol or by a TCP
//! option, see [`Told`]. What is told goes into the packet before it is rewritten, while it is still the client's; a real server's
//! packet gets the client's numbers before anything else looks at them.
//!
//! These packets take the long way: a real server that is told has a [standing](crate::stats::Standing::tells) that admits
//! none of its packets to the usual one.

use super::family::Family;
use super::flow::{Way, service_key};
use super::icmp_error::IcmpError;
use super::parse::{Flow, Kind, is_ipv6};
use super::{Core, Turn};
use crate::conn::told::{How, Step};
use crate::conn::{ConnId, Connection, Key, Told};
use crate::forward::insert::{self, Place};
use crate::forward::rewrite::{Form, Layout};
use crate::net::{IcmpErrorKind, LEAST_MTU_V6};
use crate::packet::{Packet, Sent, Sink};
use crate::tables::Tables;
use crate::units::PortId;
use crate::verdict::{DropReason, Verdict};
use crate::wire::checksum::Delta;
use crate::wire::proxy::Header;
use crate::wire::segment::{EXPERIMENT, FAST_OPEN};
use crate::wire::tcp::Flags;
use crate::wire::toa::Toa;
use crate::wire::{icmp, icmpv6};
use std::net::{IpAddr, SocketAddr};

/// A header travels together with data in a packet of at most so many bytes, which every way takes (RFC 791 section 3.1): what
/// tells the client that a way takes less says nothing of the header. Before more data it travels alone.
const TOGETHER: u16 = 576;

impl<F: Family, P: Packet> Core<F, P> {
    /// As [`forward`](Self::forward), of a client's packet of a connection whose real server may have to be told of the client.
    #[inline(never)]
    pub(super) fn forward_telling<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        connection: &mut Connection<F::Key>,
        id: ConnId,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let told = self.live.told(id);
        let way = match told.how() {
            How::Not => None,
            _ => self.open_way(&packet, flow, connection, turn),
        };
        let Some(way) = way else {
            // What has no way is answered as it came.
            return self.forward(packet, flow, connection, false, turn);
        };
        match told.how() {
            How::EachDatagram => self.tell_datagram(packet, flow, connection, told, way, turn),
            _ if flow.kind == Kind::LaterFragment => {
                self.forward(packet, flow, connection, false, turn)
            }
            How::Option => self.tell_by_option(packet, flow, connection, (id, told), way, turn),
            How::Header | How::Not => {
                self.tell_by_header(packet, flow, connection, (id, told), way, turn)
            }
        }
    }

    /// The way of a request that goes on by it as it is.
    fn open_way<S: Sink<Packet = P>>(
        &self,
        packet: &P,
        flow: &Flow<F>,
        connection: &mut Connection<F::Key>,
        turn: &Turn<'_, S>,
    ) -> Option<Way> {
        let tables = turn.tables;
        let way = self.way(connection, false, tables)?;
        let fits = fits(flow, way.port, tables) || F::may_be_cut(packet.data(), flow);
        (fits && !way.has_failed(tables)).then_some(way)
    }

    fn tell_datagram<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        flow: &Flow<F>,
        connection: &mut Connection<F::Key>,
        told: Told,
        way: Way,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, place) = (turn.tables, place(flow));
        if flow.kind == Kind::LaterFragment {
            return match insert::behind(packet.data_mut(), place, told.length()) {
                Some(()) => self.forward(packet, flow, connection, false, turn),
                None => Verdict::Drop(DropReason::TooBig),
            };
        }
        let length = flow.length.saturating_add(told.length());
        let longer = Flow { length, ..*flow };
        if !fits(&longer, way.port, tables) && !F::may_be_cut(packet.data(), &longer) {
            // What the other family's sender is told at least, the answer sees to.
            let is_v6 = is_ipv6(packet.data()) && !F::CROSSES;
            let mtu = lower(is_v6, tables.port(way.port).mtu, told.length());
            let vip = connection.request.destination();
            return match F::length_sent(flow) > mtu {
                true => self.too_big(packet, flow, vip, mtu, turn),
                // Its sender need not send less.
                false => Verdict::Drop(DropReason::TooBig),
            };
        }
        let header = header(connection, false);
        match insert::before_datagram(&mut packet, place, header.as_bytes()) {
            Some(_) => self.forward(packet, &longer, connection, false, turn),
            None => Verdict::Drop(DropReason::NoHeadroom),
        }
    }

    fn tell_by_option<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        flow: &Flow<F>,
        connection: &mut Connection<F::Key>,
        (id, mut told): (ConnId, Told),
        way: Way,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (mut flow, place) = (*flow, place(flow));
        let mut step = Step::AsItIs;
        if let Some(mut segment) = insert::segment(packet.data_mut(), place) {
            // The client's own would be believed.
            segment.blank_option(EXPERIMENT);
            if !flow.flags.syn() {
                step = told.request(segment.sequence(), flow.flags.ack(), flow.flags.rst());
            }
        }
        self.doubt(id, &mut told, flow.flags);
        if let Step::Tell(_) = step {
            let length = flow.length.saturating_add(told.length());
            let longer = Flow { length, ..flow };
            let may_grow = fits(&longer, way.port, turn.tables) && !flow.kind.is_fragment();
            let option = Toa::new(client(connection));
            let inserted = match may_grow {
                true => insert::option(&mut packet, place, option.as_bytes()),
                false => None,
            };
            match inserted {
                Some(length) => flow.length = length,
                None => self.counters().untold.add(1),
            }
            told.set_sent();
            self.live.set_told(id, told);
        }
        self.forward(packet, &flow, connection, false, turn)
    }

    fn tell_by_header<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        flow: &Flow<F>,
        connection: &mut Connection<F::Key>,
        (id, mut told): (ConnId, Told),
        way: Way,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (mut flow, mut place) = (*flow, place(flow));
        let Some(mut segment) = insert::segment(packet.data_mut(), place) else {
            return self.forward(packet, &flow, connection, false, turn);
        };
        let step = told.request(segment.sequence(), flow.flags.ack(), flow.flags.rst());
        self.doubt(id, &mut told, flow.flags);
        if flow.flags.syn() {
            // Data in a SYN would come before the header. Without Fast Open a real server leaves them to be sent again.
            segment.blank_option(FAST_OPEN);
            segment.blank_option(EXPERIMENT);
            if let Some(length) = insert::without_data(&mut packet, place) {
                flow.length = length;
            }
            return self.forward(packet, &flow, connection, false, turn);
        }
        let sequence = segment.sequence();
        match step {
            Step::AsItIs => {}
            Step::Shift(number) => segment.set_sequence(number),
            Step::ResetBoth(number) => {
                segment.set_sequence(number);
                self.send_reset_too(&packet, &flow, sequence, connection, way, turn);
            }
            Step::Tell(_) if flow.kind.is_fragment() => {
                return Verdict::Drop(DropReason::ClientAddress);
            }
            Step::Tell(first) => {
                if sequence != first {
                    // A keepalive, of a byte that is none of the stream's (RFC 9293 section 3.8.4).
                    segment.set_sequence(first);
                    segment.clear_flags(Flags::FIN | Flags::URGENT);
                    let Some(length) = insert::without_data(&mut packet, place) else {
                        return Verdict::Drop(DropReason::ClientAddress);
                    };
                    (flow.length, place.length) = (length, length);
                }
                let header = header(connection, true);
                let (frame, now) = ((packet.data(), place), turn.now.millis());
                self.await_header(id, first, frame, header.as_bytes(), now);
                let length = flow.length.saturating_add(told.length());
                let longer = Flow { length, ..flow };
                let goes_together = length <= TOGETHER && fits(&longer, way.port, turn.tables);
                let together = match goes_together {
                    true => insert::before_data(&mut packet, place, header.as_bytes()),
                    false => None,
                };
                match together {
                    Some(_) => flow = longer,
                    None => {
                        if !self.send_alone(&packet, &flow, &header, connection, way, turn) {
                            return Verdict::Drop(DropReason::ClientAddress);
                        }
                        if let Some(mut segment) = insert::segment(packet.data_mut(), place) {
                            segment.set_sequence(first.wrapping_add(told.length().into()));
                        }
                    }
                }
                told.set_sent();
                self.live.set_told(id, told);
            }
        }
        self.forward(packet, &flow, connection, false, turn)
    }

    /// What the real server of a connection would be told if it began now.
    fn telling(&self, id: ConnId, tables: &Tables) -> Told {
        let request = self.live.table.get(id).request;
        let client: IpAddr = request.source().into();
        match tables.service(&service_key(&request)) {
            Some(service) => Told::of(service.client_address, true, client.is_ipv6()),
            None => Told::default(),
        }
    }

    /// See [`Told::doubt`].
    fn doubt(&mut self, id: ConnId, told: &mut Told, flags: Flags) {
        let before = *told;
        if flags.syn() || flags.rst() {
            told.doubt();
        }
        if *told != before {
            self.live.set_told(id, *told);
            // A header that was there once is not sent again but by the client's segments.
            self.reminders.forget(id);
        }
    }

    /// Sends a header in a segment of its own, ahead of the one that it belongs before. Returns whether it is on its way.
    fn send_alone<S: Sink<Packet = P>>(
        &mut self,
        packet: &P,
        flow: &Flow<F>,
        header: &Header,
        connection: &Connection<F::Key>,
        way: Way,
        turn: &mut Turn<'_, S>,
    ) -> bool {
        let Some(mut own) = turn.sink.alloc(way.port) else {
            return false;
        };
        insert::alone(&mut own, packet.data(), place(flow), header.as_bytes()).is_some()
            && self.send_own(own, flow.layout, connection, way, turn)
    }

    /// Sends a client's reset once more, with another number.
    #[cold]
    fn send_reset_too<S: Sink<Packet = P>>(
        &mut self,
        packet: &P,
        flow: &Flow<F>,
        sequence: u32,
        connection: &Connection<F::Key>,
        way: Way,
        turn: &mut Turn<'_, S>,
    ) {
        let Some(mut own) = turn.sink.alloc(way.port) else {
            return;
        };
        let frame = packet.data();
        if !own.resize(frame.len()) {
            return;
        }
        own.data_mut().copy_from_slice(frame);
        if let Some(mut segment) = insert::segment(own.data_mut(), place(flow)) {
            segment.set_sequence(sequence);
            self.send_own(own, flow.layout, connection, way, turn);
        }
    }

    /// Rewrites a packet of weir's own as a client's, and sends it. Returns whether it is on its way.
    pub(super) fn send_own<S: Sink<Packet = P>>(
        &mut self,
        mut own: P,
        layout: Layout,
        connection: &Connection<F::Key>,
        way: Way,
        turn: &mut Turn<'_, S>,
    ) -> bool {
        let form = Form::whole(layout);
        if !F::rewrite(&mut own, form, connection, false, &mut self.memory) {
            return false;
        }
        let destination = connection.destination(false).into();
        let verdict = self.send_as(Sent::Originated, way, destination, own, false, turn);
        !matches!(verdict, Verdict::Drop(_))
    }

    /// A real server's segment: gives it the numbers that the client knows, and notes what it tells.
    #[inline(never)]
    pub(super) fn hear_told(
        &mut self,
        packet: &mut P,
        flow: &Flow<F>,
        id: ConnId,
        tables: &Tables,
    ) {
        let mut told = self.live.told(id);
        let port = packet.port();
        let before = told;
        if flow.flags.syn() && flow.flags.ack() {
            // The service may have been changed since the entry was made.
            let now = self.telling(id, tables);
            let segment = insert::segment(packet.data_mut(), place(flow));
            if now.how() != told.how()
                && segment.is_some_and(|segment| {
                    let numbers = (segment.acknowledged(), segment.sequence().wrapping_add(1));
                    !repeats(self.live.table.get(id), numbers)
                })
            {
                told = now;
                self.live.set_told(id, told);
            }
        }
        let by_header = match told.how() {
            How::Not | How::EachDatagram => return,
            How::Header => true,
            How::Option => false,
        };
        let Some(mut segment) = insert::segment(packet.data_mut(), place(flow)) else {
            return;
        };
        let (flags, acknowledged, window) = (flow.flags, segment.acknowledged(), segment.window());
        if !flags.ack() {
            return;
        }
        if flags.syn() {
            told.open(acknowledged, segment.window_shift().unwrap_or(0));
            if by_header {
                segment.set_window(told.window(window, acknowledged, true));
            } else if let Some(most) = segment.mss() {
                let link = tables.port(port).mtu.saturating_sub(F::HEADERS);
                segment.clamp_mss(most.min(link).saturating_sub(told.length()));
            }
        } else {
            let is_missing = told.is_missing(acknowledged);
            let known = told.acknowledge(acknowledged);
            if known != acknowledged {
                segment.set_acknowledged(known);
            }
            if is_missing {
                segment.set_window(told.window(window, acknowledged, false));
                // Data are there whose beginning the client would take for acknowledged.
                segment.blank_sacks();
            } else if by_header {
                segment.map_sacks(|edge| told.to_client(edge));
            }
        }
        if told != before {
            self.live.set_told(id, told);
            self.reminders.forget(id);
        }
    }

    /// An error about a client's packet as the real server was to get it: gives what it quotes the client's own number, and
    /// takes off what an MTU has to leave for what is told.
    #[cold]
    pub(super) fn requote(&self, packet: &mut P, error: &mut IcmpError<F>, id: ConnId) {
        let told = self.live.told(id);
        let (places, frame) = (error.places, packet.data_mut());
        if matches!(told.how(), How::EachDatagram | How::Option)
            && error.kind == IcmpErrorKind::TooBig
        {
            lower_mtu(frame, places.icmp, told.length());
        }
        let Some(sequence) = error.sequence.filter(|_| told.how() == How::Header) else {
            return;
        };
        let own = told.to_client(sequence);
        error.sequence = Some(own);
        let quoted = frame.get_mut(places.l4 + 4..places.end);
        if let Some(field) = quoted.and_then(<[u8]>::first_chunk_mut::<4>) {
            *field = own.to_be_bytes();
        }
        let quoted = frame.get_mut(places.l4 + 16..places.end);
        if let Some(field) = quoted.and_then(<[u8]>::first_chunk_mut::<2>) {
            Delta::ZERO.replace_u32(sequence, own).apply(field);
        }
    }
}

/// Whether a real server's answer to a SYN is a late one of the connection that is there: the first numbers of both sides are
/// little behind what each has acknowledged. Another connection's are elsewhere (RFC 9293 section 3.4.1).
fn repeats<K: Key>(connection: &Connection<K>, (client, real): (u32, u32)) -> bool {
    let is_near = |by_real: bool, first: u32| {
        // An answered connection's that is not known is 0, which is a number as any other.
        let acknowledged = connection.acknowledged(by_real).unwrap_or(0);
        acknowledged.wrapping_sub(first) <= u16::MAX.into()
    };
    connection.is_answered() && is_near(true, client) && is_near(false, real)
}

/// Lowers the MTU that a "too big" tells. What sends no less than some size is told no less.
fn lower_mtu(frame: &mut [u8], icmp: usize, by: u16) {
    let is_v6 = is_ipv6(frame);
    let end = icmp + icmp::HEADER_LEN;
    // RFC 1191 section 4: 16 bits, behind 16 unused ones; RFC 4443 section 3.2: 32 bits.
    if let Some(field) = frame.get_mut(end - 2..end)
        && let Ok(mtu) = <[u8; 2]>::try_from(&*field).map(u16::from_be_bytes)
        // An old router says none (RFC 1191 section 5).
        && mtu > 0
    {
        field.copy_from_slice(&lower(is_v6, mtu, by).to_be_bytes());
    }
}

const _: () = assert!(icmp::HEADER_LEN == icmpv6::HEADER_LEN);

/// What is left of an MTU, for a client of a family.
fn lower(is_v6: bool, mtu: u16, by: u16) -> u16 {
    /// RFC 791 section 3.2: every link takes so much.
    const LEAST_V4: u16 = 68;
    mtu.saturating_sub(by).max(match is_v6 {
        true => LEAST_MTU_V6 as u16,
        false => LEAST_V4,
    })
}

fn place<F: Family>(flow: &Flow<F>) -> Place {
    Place {
        layout: flow.layout,
        length: flow.length,
    }
}

/// Whether a packet is sent on whole out of a port.
fn fits<F: Family>(flow: &Flow<F>, port: PortId, tables: &Tables) -> bool {
    F::length_sent(flow) <= tables.port(port).mtu
}

fn client<K: Key>(connection: &Connection<K>) -> SocketAddr {
    let key = &connection.request;
    SocketAddr::new(key.source().into(), key.source_port())
}

fn header<K: Key>(connection: &Connection<K>, is_tcp: bool) -> Header {
    let key = &connection.request;
    let called = SocketAddr::new(key.destination().into(), key.destination_port());
    Header::new(client(connection), called, is_tcp)
}

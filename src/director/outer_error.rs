//! Comes here: an ICMP error about a packet that weir had wrapped, from the way to the real server. It arrives at the outer
//! source, and quotes the outer packet, and of the one inside as much as there is.
//!
//! "Too big" tells how much the way takes: that is kept for the real server ([`path_mtu`](super::path_mtu)), and goes on to the
//! client, about its own packet, if enough of that is quoted. Of the other errors the client learns nothing: the real server is
//! watched by other means, and none of its addresses is the client's business.

use super::crossing::Others;
use super::family::Wire;
use super::flow::{resolve, service_key};
use super::limit::AnswerKind;
use super::parse::Datagram;
use super::path_mtu::LEAST_V4;
use super::wrapped::way_beyond;
use super::{Core, Origin, Outcome, Turn};
use crate::config::{Encapsulation, GueVariant, TunnelConfig};
use crate::conn::{AnyAddress, Connection, FlowKeyAny, Key, Table};
use crate::forward::tunnel::between;
use crate::net::{IcmpErrorKind, protocol};
use crate::packet::{Errand, Packet, Sink};
use crate::stats::Failure;
use crate::tables::{Owner, Service, Tables};
use crate::units::{RealId, WorkerId};
use crate::verdict::{DropReason, PacketContext, Verdict};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{build, build6, ethernet, icmp, icmpv6, udp};
use std::net::IpAddr;

const IP: usize = ethernet::HEADER_LEN;
const LEAST_V6: u16 = 1280;
/// How many errors a port takes in a second, where answers are turned off.
const DEFAULT_PER_SECOND: u32 = 1000;

/// What an error says of a wrapped packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct About {
    kind: IcmpErrorKind,
    /// The real server, or what takes packets out of the tunnel there, cannot be reached.
    is_absence: bool,
    /// What the way takes, of "too big".
    mtu: u16,
    /// The real server.
    destination: IpAddr,
    /// The headers around the packet inside.
    overhead: u16,
    inner: Option<Inner>,
}

/// What is quoted of the packet inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inner {
    /// Where in the frame it begins, and where what is quoted of it ends.
    at: usize,
    end: usize,
    length: u16,
    key: FlowKeyAny,
    /// Its sender wants to hear that it is too big.
    asks: bool,
}

/// Whether the packet inside is one of weir's clients.
enum Known {
    /// Here, or by a hash that needs no connection.
    Here(Option<RealId>),
    Elsewhere(WorkerId, Errand),
    Not,
}

impl<F: Wire, P: Packet> Core<F, P> {
    /// Decides on an ICMP error if it is about a packet that weir had wrapped; else the packet comes back.
    #[cold]
    pub(super) fn outer_error<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        datagram: &Datagram<F>,
        turn: &mut Turn<'_, S>,
    ) -> Result<Outcome, P> {
        let (tables, now) = (turn.tables, turn.now);
        let dropped = |reason| Ok((Verdict::Drop(reason), PacketContext::default()));
        let about = match about(packet.data(), F::IS_V6, tables) {
            Ok(Some(about)) => about,
            Ok(None) => return Err(packet),
            Err(reason) => return dropped(reason),
        };
        // From the way to the real server: what comes from elsewhere is forged.
        // It arrives where the outer source is, which may be another port's.
        let owner = tables.owner(packet.port(), datagram.destination.into());
        let is_its_end = owner == Some(Owner::Port(packet.port()));
        if !is_its_end && !tables.is_way_to(packet.port(), AnyAddress::from(about.destination)) {
            return dropped(DropReason::WrongPort);
        }
        if tables.is_bad_source(datagram.source) {
            return dropped(DropReason::BadSource);
        }
        let errand = match self.origin {
            Origin::Device => Errand::Find,
            Origin::Worker => packet.errand(),
        };
        let known = about
            .inner
            .map(|inner| self.knows(&inner.key, errand, turn));
        let real = match known {
            Some(Known::Not) => return dropped(DropReason::IcmpNoConnection),
            Some(Known::Elsewhere(worker, errand)) => {
                return Ok(self.hand_over(packet, worker, errand, turn.sink));
            }
            Some(Known::Here(real)) => real,
            None => None,
        };
        // About the way of another real server than the quoted connection's.
        let tunnel = real.and_then(|real| tables.tunnels.get(real));
        if tunnel.is_some_and(|tunnel| tunnel.destination != about.destination) {
            return dropped(DropReason::IcmpNoConnection);
        }
        let limit = match tables.answers_per_second {
            0 => DEFAULT_PER_SECOND,
            limit => limit,
        };
        if !self.is_within(AnswerKind::PassedError, &packet, now, limit) {
            return dropped(DropReason::RateLimited);
        }
        let context = PacketContext {
            real,
            ..PacketContext::default()
        };
        if about.is_absence
            && let Some((inner, real)) = about.inner.zip(real)
        {
            self.note_outer_failure(&inner.key, real);
        }
        if about.kind != IcmpErrorKind::TooBig {
            return Ok((Verdict::Drop(DropReason::TunnelError), context));
        }
        // Without a connection in it anyone may have made it up: it is believed as far as all likely ways go.
        let least = if about.inner.is_some() { 0 } else { LEAST_V6 };
        self.shared
            .path_mtus
            .learn(about.destination, about.mtu.max(least), now);
        let verdict = match about.inner {
            Some(inner) => self.tell_client(packet, &about, inner, turn),
            None => Verdict::Drop(DropReason::TunnelTooBig),
        };
        Ok((verdict, context))
    }

    /// Counts that a wrapped connection has failed: once for each, where it is of the outer packets' family.
    fn note_outer_failure(&mut self, key: &FlowKeyAny, real: RealId) {
        let table = &self.live.table;
        let own = key.within::<F::Key>();
        if let Some(found) = own.and_then(|key| table.find(table.hash(&key), &key)) {
            self.note_failure(found.id, Failure::Unreachable);
            return;
        }
        let line = self.live.counters.reals.get(real.index());
        if line.is_some_and(|line| line.standing.is_watched()) {
            self.counters().failed(real, Failure::Unreachable);
        }
    }

    /// Whether a client's packet is of a connection here, or of a service that needs none; or which worker knows.
    fn knows<S: Sink<Packet = P>>(
        &self,
        key: &FlowKeyAny,
        errand: Errand,
        turn: &Turn<'_, S>,
    ) -> Known {
        let tables = turn.tables;
        let real = match (key.within::<F::Key>(), turn.beside.others) {
            (Some(key), _) => real_of(&self.live.table, &key),
            (None, Some(Others::V4(table))) => key.within().and_then(|key| real_of(table, &key)),
            (None, Some(Others::V6(table))) => key.within().and_then(|key| real_of(table, &key)),
            (None, None) => None,
        };
        if real.is_some() {
            return Known::Here(real);
        }
        let service = tables.service(&service_key(key));
        if let Some((worker, errand)) = self.error_elsewhere(key, service, errand, tables) {
            return Known::Elsewhere(worker, errand);
        }
        let needs_none =
            |service: &Service| service.mode.wraps && service.scheduler_kind.is_stateless;
        match service.is_some_and(needs_none) {
            true => Known::Here(None),
            false => Known::Not,
        }
    }

    /// Sends "too big" to the client, about its own packet.
    fn tell_client<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        about: &About,
        inner: Inner,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let tables = turn.tables;
        let nothing = Verdict::Drop(DropReason::TunnelTooBig);
        let inside = about.mtu.saturating_sub(about.overhead);
        let (vip, client): (IpAddr, IpAddr) =
            (inner.key.destination().into(), inner.key.source().into());
        let told = match client {
            IpAddr::V4(_) => inside,
            IpAddr::V6(_) => inside.max(LEAST_V6),
        };
        if !inner.asks || inner.length <= told {
            return nothing;
        }
        let Some(quote) = packet.data().get(inner.at..inner.end) else {
            return nothing;
        };
        let mut answer = [0; IP + build6::ICMPV6_ERROR_MAX];
        let mtu = u32::from(told);
        let written = match (vip, client) {
            (IpAddr::V4(vip), IpAddr::V4(client)) => {
                let says = (
                    icmp::DESTINATION_UNREACHABLE,
                    icmp::FRAGMENTATION_NEEDED,
                    mtu,
                );
                build::icmp_error_of(&mut answer, (vip, client), says, quote)
            }
            (IpAddr::V6(vip), IpAddr::V6(client)) => {
                let says = (icmpv6::PACKET_TOO_BIG, 0, mtu);
                build6::icmpv6_error_of(&mut answer, (vip, client), says, quote)
            }
            _ => None,
        };
        let Some(length) = written else {
            return nothing;
        };
        let Some(way) = resolve(tables, AnyAddress::from(client)) else {
            return Verdict::Drop(DropReason::NoRoute);
        };
        if !packet.resize(length) {
            return Verdict::Drop(DropReason::NoBuffer);
        }
        packet.data_mut().copy_from_slice(&answer[..length]);
        self.counters().icmp_errors[IcmpErrorKind::TooBig as usize].add(1);
        self.send_by(way, client, packet, false, turn)
    }
}

fn real_of<K: Key>(table: &Table<Connection<K>>, key: &K) -> Option<RealId> {
    let found = table.find(table.hash(key), key)?;
    let connection = table.get(found.id);
    (connection.is_wrapped() && !found.reply).then_some(connection.real)
}

/// What an error says, if it is about a packet that weir had wrapped; none of another one.
fn about(frame: &[u8], is_v6: bool, tables: &Tables) -> Result<Option<About>, DropReason> {
    if tables.tunnel_ends.is_empty() {
        return Ok(None);
    }
    let Some(quote) = quote_of(frame, is_v6) else {
        return Ok(None);
    };
    let Some(outer) = outer_of(quote.packet, is_v6) else {
        return Ok(None);
    };
    let Some(ends) = tables.tunnel_ends.get(&outer.destination) else {
        return Ok(None);
    };
    let looks = |end: &TunnelConfig| between_of(end.encapsulation, &outer);
    if ends.iter().find_map(looks).is_none() {
        return Ok(None);
    }
    if outer.source != quote.destination {
        return Err(DropReason::IcmpMismatch);
    }
    // Of another source weir has sent none, wherever the error comes from.
    let sources = way_beyond(outer.destination, tables)
        .map(|way| tables.port(way.port).outer_sources)
        .unwrap_or_default();
    let source_of = |end: &TunnelConfig| match outer.destination {
        _ if end.source.is_some() => end.source,
        IpAddr::V4(_) => sources.v4.map(IpAddr::V4),
        IpAddr::V6(_) => sources.v6.map(IpAddr::V6),
    };
    let mut own = ends
        .iter()
        .filter(|end| source_of(end) == Some(outer.source));
    let Some(between) = own.find_map(looks) else {
        return Ok(None);
    };
    if !quote.is_checksum_right {
        return Err(DropReason::BadL4Checksum);
    }
    let inner = outer
        .payload
        .get(between..)
        .and_then(|packet| inner_of(frame, packet));
    let mtu = quote.mtu.map_or(0, |mtu| match mtu {
        // From a router older than RFC 1191.
        0 if !is_v6 => plateau_below(outer.length),
        mtu => mtu,
    });
    Ok(Some(About {
        kind: quote.kind,
        is_absence: quote.is_absence,
        mtu: mtu.max(if is_v6 { LEAST_V6 } else { LEAST_V4 }),
        destination: outer.destination,
        overhead: (outer.header + between) as u16,
        inner,
    }))
}

/// What an ICMP error says, and quotes.
struct Quote<'a> {
    kind: IcmpErrorKind,
    is_absence: bool,
    /// To whom it is said.
    destination: IpAddr,
    mtu: Option<u16>,
    packet: &'a [u8],
    is_checksum_right: bool,
}

fn quote_of(frame: &[u8], is_v6: bool) -> Option<Quote<'_>> {
    if is_v6 {
        let ip = ipv6::in_frame(frame)?;
        let upper = ip.upper_layer().ok()?;
        let message = icmpv6::Icmpv6::new_checked(upper.payload).ok()?;
        return Some(Quote {
            kind: message.error()?,
            is_absence: message.is_absence(),
            destination: ip.destination().into(),
            mtu: message.mtu().map(|mtu| mtu.min(u16::MAX.into()) as u16),
            packet: message.quote()?.packet,
            is_checksum_right: ip.is_l4_checksum_right(&upper),
        });
    }
    let ip = ipv4::in_frame(frame)?;
    let message = icmp::Icmp::new_checked(ip.payload()).ok()?;
    let kind = message.error()?;
    // No one but a host heeds it.
    (kind != IcmpErrorKind::Advice).then_some(())?;
    Some(Quote {
        kind,
        is_absence: message.is_absence(),
        destination: ip.destination().into(),
        mtu: message.mtu(),
        packet: message.quote()?.packet,
        is_checksum_right: message.is_checksum_right(),
    })
}

/// A quoted outer packet, as far as it is there.
struct OuterPacket<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    length: u16,
    /// Bytes of the header.
    header: usize,
    payload: &'a [u8],
}

fn outer_of(packet: &[u8], is_v6: bool) -> Option<OuterPacket<'_>> {
    if is_v6 {
        let ip = Ipv6::new_quoted(packet).ok()?;
        // Of weir's own fragments, the first.
        let upper = ip.upper_layer().ok()?;
        let is_later = upper.fragment.is_some_and(|fragment| fragment.offset > 0);
        return (!is_later).then(|| OuterPacket {
            source: ip.source().into(),
            destination: ip.destination().into(),
            protocol: upper.protocol,
            length: ip.payload_length().saturating_add(ipv6::HEADER_LEN as u16),
            header: ipv6::HEADER_LEN,
            payload: upper.payload,
        });
    }
    let ip = Ipv4::new_quoted(packet).ok()?;
    (ip.fragment_offset() == 0).then_some(OuterPacket {
        source: ip.source().into(),
        destination: ip.destination().into(),
        protocol: ip.protocol(),
        length: ip.total_length(),
        header: ip.header_len(),
        payload: ip.payload(),
    })
}

/// The bytes between the headers of a packet that looks as one which weir has wrapped in this way, and no other of the host's.
fn between_of(encapsulation: Encapsulation, outer: &OuterPacket<'_>) -> Option<usize> {
    let is_it = match encapsulation {
        Encapsulation::Ipip => matches!(outer.protocol, protocol::IPIP | protocol::IPV6),
        Encapsulation::Gre => outer.protocol == protocol::GRE,
        Encapsulation::Gue { port, .. } => {
            let to = outer.payload.get(2..4);
            outer.protocol == protocol::UDP && to == Some(&port.to_be_bytes())
        }
    };
    let of = |variant| match encapsulation {
        Encapsulation::Gue {
            port,
            zero_checksum,
            ..
        } => between(Encapsulation::Gue {
            port,
            variant,
            zero_checksum,
        }),
        other => between(other),
    };
    // Services of both variants may have one real server: what is quoted says which it was.
    let variant = outer.payload.get(udp::HEADER_LEN).map(|first| first >> 6);
    is_it.then(|| match variant {
        Some(0) => of(GueVariant::Header),
        Some(1) => of(GueVariant::Plain),
        _ => between(encapsulation),
    })
}

/// What is quoted of the packet inside, if its ports are. `packet` is a part of the frame.
fn inner_of(frame: &[u8], packet: &[u8]) -> Option<Inner> {
    let at = packet.as_ptr() as usize - frame.as_ptr() as usize;
    match packet.first()? >> 4 {
        6 => {
            let ip = Ipv6::new_quoted(packet).ok()?;
            let upper = ip.upper_layer().ok()?;
            let ports = upper.quoted_ports()?;
            let (source, destination): (IpAddr, IpAddr) =
                (ip.source().into(), ip.destination().into());
            let length = ip.payload_length().saturating_add(ipv6::HEADER_LEN as u16);
            Some(Inner {
                at,
                end: at + packet.len().min(length.into()),
                length,
                key: key_of((source, ports.0), (destination, ports.1), upper.protocol),
                asks: true,
            })
        }
        4 => {
            let ip = Ipv4::new_quoted(packet).ok()?;
            let ports = ip.quoted_ports()?;
            let (source, destination): (IpAddr, IpAddr) =
                (ip.source().into(), ip.destination().into());
            let length = ip.total_length();
            Some(Inner {
                at,
                end: at + packet.len().min(length.into()),
                length,
                key: key_of((source, ports.0), (destination, ports.1), ip.protocol()),
                asks: ip.dont_fragment(),
            })
        }
        _ => None,
    }
}

fn key_of(from: (IpAddr, u16), to: (IpAddr, u16), protocol: u8) -> FlowKeyAny {
    FlowKeyAny::new(from.0.into(), from.1, to.0.into(), to.1, protocol)
}

/// RFC 1191 section 7.1: the largest MTU of usual links below a packet's length.
fn plateau_below(length: u16) -> u16 {
    const PLATEAUS: [u16; 9] = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508, 296];
    let mut below = PLATEAUS.into_iter().filter(|mtu| *mtu < length);
    below.next().unwrap_or(LEAST_V4)
}

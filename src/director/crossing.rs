//! Connections whose client and real server are of different families: fullnat with an IPv6 VIP in front of IPv4 real
//! servers, and the reverse.
//!
//! Their packets come by the half of a director that the packet's own family has, which has no connection for them: only
//! then is it asked whether they are of such a connection, or are to begin one. So packets of all others pay nothing for
//! these. Here such connections are those of a third family, with a table of its own, whose addresses are those of either.

use super::family::{Error, Family, Frame, V4, V6, Wire};
use super::fragment_table::Fragments;
use super::limit::Asker;
use super::parse::{Flow, Kind, is_ipv6};
use super::stage::Stage;
use super::{Core, Outcome, Shared, Turn, is_tcp};
use crate::config::HostPeer;
use crate::conn::{
    AnyAddress, Connection, Connection6, ConnectionAny, FlowKey, FlowKey6, FlowKeyAny, Key, Place,
    Table,
};
use crate::connection_log::Cause;
use crate::forward::across::{self, ALWAYS_WHOLE, GROWTH, translated_length};
use crate::forward::error::Places;
use crate::forward::error_across::{self, Untranslated};
use crate::forward::identification::Identifications;
use crate::forward::rewrite::Form;
use crate::net::LEAST_MTU_V6;
use crate::packet::{BURST, Packet, Sink};
use crate::stats::{Gauge, ServiceStats};
use crate::tables::Target;
use crate::units::{PortId, WorkerId};
use crate::verdict::{DropReason, PacketContext, Verdict};
use crate::wire::extension::is_extension;
use crate::wire::{Mac, ipv4, ipv6};
use arrayvec::ArrayVec;
use std::net::IpAddr;

/// Both families: a request is of one, its reply of the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crossing;

/// What the half of one family sees of the others.
pub(super) struct Beside<'a, P> {
    /// The connections whose sides are of different families; none where no service has such ones.
    pub crossing: Option<&'a mut Core<Crossing, P>>,
    /// The connections of the other family.
    pub others: Option<Others<'a>>,
    /// The datagrams that come in fragments.
    pub fragments: Option<&'a mut Fragments<P>>,
}

/// The connections of a family.
#[derive(Clone, Copy)]
pub(super) enum Others<'a> {
    V4(&'a Table),
    V6(&'a Table<Connection6>),
}

impl<P> Beside<'_, P> {
    /// What of no family is.
    pub(super) const NOTHING: Self = Beside {
        crossing: None,
        others: None,
        fragments: None,
    };

    pub(super) fn reborrow(&mut self) -> Beside<'_, P> {
        Beside {
            crossing: self.crossing.as_deref_mut(),
            others: self.others,
            fragments: self.fragments.as_deref_mut(),
        }
    }

    /// Whether a connection of another half has the key of these replies: both go to the same local pair.
    pub(super) fn has_reply<K: Key>(&self, reply: &K) -> bool {
        match (&self.crossing, self.others) {
            (Some(crossing), _) => crossing.live.has(&FlowKeyAny::of(reply)),
            (None, Some(Others::V4(table))) => has::<FlowKey, _>(table, reply),
            (None, Some(Others::V6(table))) => has::<FlowKey6, _>(table, reply),
            (None, None) => false,
        }
    }
}

fn has<K: Key, R: Key>(table: &Table<Connection<K>>, reply: &R) -> bool {
    let key = FlowKeyAny::of(reply).within::<K>();
    key.is_some_and(|key| table.find(table.hash(&key), &key).is_some())
}

impl<F: Family, P: Packet> Core<F, P> {
    /// Whether a packet without a connection here is one of a connection whose sides are of different families, or of a
    /// service that makes such ones. After a reload a service may have real servers of the VIP's own family again: a packet
    /// that opens a connection ends the old one between families, and is left to this half.
    pub(super) fn crosses<S: Sink<Packet = P>>(
        flow: &Flow<F>,
        target: Target,
        turn: &mut Turn<'_, S>,
    ) -> bool {
        let Some(crossing) = &mut turn.beside.crossing else {
            return false;
        };
        let key = FlowKeyAny::of(&flow.key);
        let live = &mut crossing.live;
        match target.service {
            Some(service) if service.crosses() => true,
            Some(_)
                if flow.kind != Kind::LaterFragment && (!is_tcp(flow) || flow.flags.opens()) =>
            {
                if let Some(found) = live.table.find(live.table.hash(&key), &key) {
                    live.end(found.id, Cause::Reused);
                }
                false
            }
            _ => live.has(&key),
        }
    }

    /// Lets the connections whose sides are of different families have a packet.
    #[cold]
    pub(super) fn cross<S: Sink<Packet = P>>(
        packet: P,
        flow: &Flow<F>,
        target: Target,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let others = turn.beside.others;
        let mut turn = turn.reborrow();
        let Some(crossing) = turn.beside.crossing.take() else {
            return (
                Verdict::Drop(DropReason::NoService),
                PacketContext::default(),
            );
        };
        turn.beside.others = others;
        crossing.take_packet(packet, flow, target, &mut turn)
    }
}

impl<P: Packet> Core<Crossing, P> {
    /// Fetches the connections of those of the first `count` packets that another half has none for, each step for all of
    /// them, so that their cache misses overlap.
    #[inline(never)]
    pub(super) fn fetch_connections<F: Wire>(&self, stage: &Stage<F>, count: usize) {
        let lookup = self.live.table.lookup();
        let mut hashes = ArrayVec::<u64, BURST>::new();
        for slot in &stage.slots[..count] {
            if slot.place == Place::NONE && slot.flow.kind != Kind::Other {
                let hash = lookup.hash(&FlowKeyAny::of(&slot.flow.key));
                lookup.prefetch_bucket(hash);
                hashes.push(hash);
            }
        }
        for hash in hashes {
            lookup.guess(hash);
        }
    }

    /// Decides on a packet that another half has no connection for.
    fn take_packet<F: Family, S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        target: Target,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        if flow.kind.is_fragment()
            && let Some(reason) = untranslatable(&packet)
        {
            return (Verdict::Drop(reason), PacketContext::default());
        }
        let flow = flow.crossing();
        let table = &self.live.table;
        match table.find(table.hash(&flow.key), &flow.key) {
            Some(found) => self.known_unusual(packet, &flow, found, turn),
            None if self.is_refused_again(&flow, packet.port(), turn.tables, turn.now) => (
                Verdict::Drop(DropReason::RateLimited),
                PacketContext::default(),
            ),
            None => self.unknown(packet, &flow, target, turn),
        }
    }
}

impl<F: Family> Flow<F> {
    /// The same, of connections whose sides are of different families.
    pub(super) fn crossing(&self) -> Flow<Crossing> {
        Flow {
            key: FlowKeyAny::of(&self.key),
            layout: self.layout,
            flags: self.flags,
            ttl: self.ttl,
            length: self.length,
            kind: self.kind,
        }
    }
}

/// Why a fragment has no counterpart in the other family.
fn untranslatable<P: Packet>(packet: &P) -> Option<DropReason> {
    match ipv6::in_frame(packet.data()) {
        // RFC 7915 section 5.1.1: what its offset counts would go.
        Some(ip) => {
            let fragment = ip.upper_layer().ok().and_then(|upper| upper.fragment);
            let has_more = fragment.is_some_and(|fragment| is_extension(fragment.next_header));
            has_more.then_some(DropReason::Ipv6Extension)
        }
        // Section 4.5: only the whole datagram has what a checksum is made of.
        None => (!packet.head().has_checksum).then_some(DropReason::NoUdpChecksum),
    }
}

/// The MTU that a packet is refused by, to its own family: what it grows or shrinks by on its way is the translator's.
fn mtu_before(is_v6: bool, mtu: u16) -> u16 {
    match is_v6 {
        true => mtu.saturating_add(GROWTH).max(LEAST_MTU_V6 as u16),
        false => mtu.saturating_sub(GROWTH),
    }
}

impl Family for Crossing {
    type Key = FlowKeyAny;
    type Address = AnyAddress;

    const HEADERS: u16 = V6::HEADERS;
    const TABLE: usize = 2;
    const CROSSES: bool = true;

    fn live(stats: &ServiceStats) -> &Gauge {
        &stats.across
    }

    fn stays_on_link(address: AnyAddress) -> bool {
        match address.into() {
            IpAddr::V4(address) => V4::stays_on_link(address),
            IpAddr::V6(address) => V6::stays_on_link(address),
        }
    }

    fn length_sent(flow: &Flow<Self>) -> u16 {
        let is_v6 = IpAddr::from(flow.key.source()).is_ipv6();
        translated_length(is_v6, flow.length, flow.layout, flow.kind.part())
    }

    const HAS_ONE_WAY: bool = true;

    type Memory = Identifications;
    fn memory(worker: WorkerId, shared: &Shared) -> Identifications {
        Identifications::new(worker.index(), shared.steering.workers())
    }

    fn rewrite<P: Packet>(
        packet: &mut P,
        form: Form,
        connection: &ConnectionAny,
        reply: bool,
        memory: &mut Identifications,
    ) -> bool {
        across::rewrite(packet, form, connection, reply, memory)
    }

    fn decrement_ttl(frame: &mut [u8]) {
        match is_ipv6(frame) {
            true => V6::decrement_ttl(frame),
            false => V4::decrement_ttl(frame),
        }
    }

    fn rewrite_error<P: Packet>(
        packet: &mut P,
        places: Places,
        connection: &ConnectionAny,
        reply: bool,
        mtu: u16,
        memory: &mut Identifications,
    ) -> Result<(), DropReason> {
        let done = error_across::rewrite(packet, places, connection, reply, mtu, memory);
        done.map_err(|why| match why {
            Untranslated::Unknown => DropReason::IcmpIgnored,
            Untranslated::NoRoom => DropReason::NoBuffer,
        })
    }

    fn is_l4_checksum_right(frame: &[u8]) -> bool {
        match is_ipv6(frame) {
            true => V6::is_l4_checksum_right(frame),
            false => V4::is_l4_checksum_right(frame),
        }
    }

    fn asker(frame: &[u8]) -> Asker {
        match is_ipv6(frame) {
            true => V6::asker(frame),
            false => V4::asker(frame),
        }
    }

    fn host_peer(frame: &[u8], port: PortId, peers: &[HostPeer]) -> Option<Asker> {
        match is_ipv6(frame) {
            true => V6::host_peer(frame, port, peers),
            false => V4::host_peer(frame, port, peers),
        }
    }

    /// An IPv6 packet without a fragment header becomes an IPv4 one that has Don't Fragment if it is longer.
    fn may_be_cut(frame: &[u8], flow: &Flow<Self>) -> bool {
        match ipv6::in_frame(frame) {
            Some(ip) => {
                let fragment = ip.upper_layer().ok().and_then(|upper| upper.fragment);
                fragment.is_some() || usize::from(Self::length_sent(flow)) <= ALWAYS_WHOLE
            }
            None => ipv4::in_frame(frame).is_some_and(|ip| !ip.dont_fragment()),
        }
    }

    type Answer = Frame<
        {
            largest(
                size_of::<<V4 as Family>::Answer>(),
                size_of::<<V6 as Family>::Answer>(),
            )
        },
    >;

    /// Where the packet is not of the family of `from`, the VIP's, the error comes from the address that it was sent to.
    fn write_error(
        frame: &mut [u8],
        offending: &[u8],
        mac: Mac,
        from: AnyAddress,
        error: Error,
    ) -> Option<usize> {
        let is_v6 = is_ipv6(offending);
        let error = match error {
            Error::TooBig(mtu) => Error::TooBig(mtu_before(is_v6, mtu)),
            other => other,
        };
        match (is_v6, from.into()) {
            (true, IpAddr::V6(from)) => V6::write_error(frame, offending, mac, from, error),
            (true, IpAddr::V4(_)) => {
                let from = ipv6::in_frame(offending)?.destination();
                V6::write_error(frame, offending, mac, from, error)
            }
            (false, IpAddr::V4(from)) => V4::write_error(frame, offending, mac, from, error),
            (false, IpAddr::V6(_)) => {
                let from = ipv4::in_frame(offending)?.destination();
                V4::write_error(frame, offending, mac, from, error)
            }
        }
    }

    fn write_reset_for(frame: &mut [u8], offending: &[u8], mac: Mac) -> Option<usize> {
        match is_ipv6(offending) {
            true => V6::write_reset_for(frame, offending, mac),
            false => V4::write_reset_for(frame, offending, mac),
        }
    }

    const RESET_LEN: usize = largest(V4::RESET_LEN, V6::RESET_LEN);

    fn write_reset(
        frame: &mut [u8],
        macs: (Mac, Mac),
        from: (AnyAddress, u16),
        to: (AnyAddress, u16),
        sequence: u32,
    ) -> Option<usize> {
        match (from.0.into(), to.0.into()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                V4::write_reset(frame, macs, (source, from.1), (destination, to.1), sequence)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                V6::write_reset(frame, macs, (source, from.1), (destination, to.1), sequence)
            }
            _ => None,
        }
    }
}

const fn largest(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

//! Comes here: a packet between two hosts, of no connection, on a port with `forward`. It goes on as a router sends it
//! (RFC 1812, RFC 8200): to other addresses than weir's own, out of a port with `forward`.

use super::family::{Error, Family};
use super::flow::{Way, resolve};
use super::parse::{Flow, Kind};
use super::{Core, Turn};
use crate::packet::{Packet, Sink};
use crate::verdict::{DropReason, ReplyReason, Verdict};
use crate::wire::ethernet;
use std::net::IpAddr;

/// What of a packet a router looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routed<F: Family> {
    pub source: F::Address,
    pub destination: F::Address,
    pub ttl: u8,
    /// The IP packet's length in bytes.
    pub length: u16,
    /// Whether the packet is whole.
    pub kind: Kind,
    /// ICMP errors and later fragments are never answered (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e)).
    pub may_be_answered: bool,
}

impl<F: Family> Routed<F> {
    /// As far as answers and cuts ask what it is.
    fn flow(&self) -> Flow<F> {
        Flow {
            kind: self.kind,
            ttl: self.ttl,
            length: self.length,
            ..Flow::default()
        }
    }
}

impl<F: Family, P: Packet> Core<F, P> {
    /// Sends a packet on, whose destination is none of weir's own.
    #[cold]
    pub(super) fn route<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        routed: &Routed<F>,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, now, port) = (turn.tables, turn.now, packet.port());
        let Routed {
            source,
            destination,
            ..
        } = *routed;
        // RFC 1812 section 5.3.8; and RFC 4291 section 2.5.6.
        if tables.is_bad_source(source) || F::stays_on_link(source) {
            return Verdict::Drop(DropReason::BadSource);
        }
        if !tables.is_way_to(port, source) {
            return Verdict::Drop(DropReason::WrongPort);
        }
        if !is_host(destination.into()) || F::stays_on_link(destination) {
            return Verdict::Drop(DropReason::NotForUs);
        }
        // Where VIPs may be, no other host is: the routers there lead such packets here.
        if tables.is_announced(destination.into()) {
            return Verdict::Drop(DropReason::NotForUs);
        }
        let Some(way) = resolve(tables, destination) else {
            let (error, reason) = (Error::NoRoute, ReplyReason::NoRoute);
            return self.tell(packet, routed, error, reason, DropReason::NoRoute, turn);
        };
        let out = tables.port(way.port);
        // RFC 2644: no broadcasts of a subnet from elsewhere.
        let is_broadcast = match destination.into() {
            IpAddr::V4(address) => out.is_broadcast(address),
            IpAddr::V6(_) => false,
        };
        // Back to the router that it comes from it would go round until its TTL ends.
        let link = way.hop.map(|hop| tables.neighbours.link(hop));
        let sender = ethernet::source(packet.data());
        let goes_back = way.port == port
            && link.is_some_and(|link| link.is_usable() && Some(link.mac) == sender);
        if !out.forwards || is_broadcast || goes_back {
            return Verdict::Drop(DropReason::NotForUs);
        }
        if routed.ttl <= 1 {
            let (error, reason) = (Error::TtlExceeded, ReplyReason::TtlExceeded);
            return self.tell(packet, routed, error, reason, DropReason::TtlExceeded, turn);
        }
        let is_cut = routed.length > out.mtu;
        if is_cut && !F::may_be_cut(packet.data(), &routed.flow()) {
            let (error, reason) = (Error::TooBig(out.mtu), ReplyReason::TooBig);
            return self.tell(packet, routed, error, reason, DropReason::TooBig, turn);
        }
        if way.has_failed(tables) {
            self.want(way.port, way.address(destination.into(), tables), now);
            let (error, reason) = (Error::HostUnreachable, ReplyReason::HostUnreachable);
            let otherwise = DropReason::NeighbourFailed;
            return self.tell(packet, routed, error, reason, otherwise, turn);
        }
        self.pass_on(packet, way, destination.into(), is_cut, turn)
    }

    /// Takes one from the TTL, and sends the packet on.
    fn pass_on<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        way: Way,
        destination: IpAddr,
        is_cut: bool,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        F::decrement_ttl(packet.data_mut());
        self.counters().routed.add(1);
        self.send_by(way, destination, packet, is_cut, turn)
    }

    /// Answers a packet with an error from the address of the port that it came in by, if it may be answered.
    pub(super) fn tell<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        routed: &Routed<F>,
        error: Error,
        reason: ReplyReason,
        otherwise: DropReason,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let tables = turn.tables;
        let from = tables.address_towards(packet.port(), routed.source.into());
        match from.and_then(F::address) {
            Some(from) if routed.may_be_answered && tables.answers_per_second > 0 => {
                self.error(packet, &routed.flow(), from, error, reason, turn)
            }
            _ => Verdict::Drop(otherwise),
        }
    }
}

/// Whether an address may be one host's: no group's, no loopback, no reserved or limited broadcast address.
pub(super) fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !super::parse::is_bad_source(address),
        IpAddr::V6(address) => !super::parse6::is_bad_source(address),
    }
}

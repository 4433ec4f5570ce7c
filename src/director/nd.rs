//! Neighbour discovery of IPv6 (RFC 4861): answers for weir's own addresses, and what it tells of neighbours. As
//! [`arp`](super::arp).

use super::family::{V6, Wire};
use super::limit::AnswerKind;
use super::{Core, Turn};
use crate::exchange::{Heard, News};
use crate::packet::{Packet, Sent, Sink};
use crate::verdict::{DropReason, LocalReason, ReplyReason, Verdict};
use crate::wire::ndisc::Repr;
use crate::wire::{Mac, build_nd, ethernet, icmpv6, ipv6, mld};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

impl<P: Packet> Core<V6, P> {
    /// A message of neighbour discovery, malformed or not.
    pub(super) fn discovery<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let tables = turn.tables;
        let port = packet.port();
        let Some((source, message)) = message_of(packet.data()) else {
            return Verdict::Drop(DropReason::BadNd);
        };
        let frame_mac = ethernet::source(packet.data()).unwrap_or_default();
        let Some(heard) = Heard::by_discovery(&message, source, frame_mac) else {
            let lifetime = match message {
                Repr::RouterAdvertisement { lifetime, .. } => Some(lifetime),
                _ => None,
            };
            return self.of_routers(packet, source, lifetime, turn);
        };
        let is_no_neighbours = |mac: Mac| !mac.is_station() || tables.is_own_mac(mac);
        if heard.mac.is_some_and(is_no_neighbours) || is_no_host(heard.sender) {
            return Verdict::Drop(DropReason::BadNd);
        }
        match message {
            // Another host asks whether it may have an address: that it may not is the answer.
            Repr::NeighbourSolicitation { target, .. } if source.is_unspecified() => {
                if tables.is_silent(port, target.into()) {
                    self.mailbox.tell(port, heard, News::Claim);
                }
                self.advertise(packet, target, turn)
            }
            // Another host uses an address of weir's own: the control thread defends it.
            _ if tables.owner(port, heard.sender).is_some() => {
                self.mailbox.tell(port, heard, News::Claim);
                Verdict::Drop(DropReason::BadNd)
            }
            Repr::NeighbourSolicitation { target, .. } => {
                self.note(port, &heard, tables);
                self.advertise(packet, target, turn)
            }
            _ => {
                self.note(port, &heard, tables);
                // The host may have asked.
                self.deliver(packet, port, LocalReason::Nd, turn)
            }
        }
    }

    /// Answers a solicitation for `target`, if that is weir's to answer.
    fn advertise<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        target: Ipv6Addr,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, now) = (turn.tables, turn.now);
        let port = packet.port();
        if !tables.answers_for(port, target.into()) {
            return Verdict::Drop(DropReason::NdIgnored);
        }
        if !self.is_within_limit(AnswerKind::Nd, &packet, tables, now) {
            return Verdict::Drop(DropReason::RateLimited);
        }
        let mut answer = [0; build_nd::MAX_LEN];
        let mac = tables.port(port).mac;
        let is_router = tables.is_routers(port, target.into());
        let written = build_nd::advertisement(&mut answer, packet.data(), mac, is_router);
        let Some(length) = written else {
            return Verdict::Drop(DropReason::BadNd);
        };
        if !packet.resize(length) {
            return Verdict::Drop(DropReason::NoBuffer);
        }
        packet.data_mut().copy_from_slice(&answer[..length]);
        turn.sink.send(port, packet, Sent::Answered);
        Verdict::Reply(port, ReplyReason::Nd)
    }

    /// A packet to a group: for the host, if the port has one. A router's question which groups the port listens to is
    /// answered.
    pub(super) fn of_group<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let port = packet.port();
        let longest = ipv6::in_frame(packet.data()).and_then(|ip| mld::query(&ip));
        if let Some(longest) = longest {
            self.mailbox.tell_query(port, longest);
        }
        match longest.is_some() || turn.tables.port(port).has_companion {
            true => self.deliver(packet, port, LocalReason::Multicast, turn),
            false => Verdict::Drop(DropReason::NotForUs),
        }
    }

    /// A message of routers or for them: the host's, and heeded where the port is to. `lifetime`: of an advertisement, for how
    /// long its sender is a default router.
    fn of_routers<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        source: Ipv6Addr,
        lifetime: Option<Duration>,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let port = packet.port();
        let table = turn.tables.port(port);
        let lifetime = lifetime.filter(|_| table.accepts_ra);
        if let Some(lifetime) = lifetime {
            self.mailbox.tell_router(port, source, lifetime);
        }
        match lifetime.is_some() || table.has_companion {
            true => self.deliver(packet, port, LocalReason::Nd, turn),
            false => Verdict::Drop(DropReason::NdIgnored),
        }
    }
}

/// Whether a packet's upper layer, which begins at `l4`, is a message of neighbour discovery.
pub(super) fn is_discovery(frame: &[u8], l4: u16) -> bool {
    let kind = frame.get(usize::from(l4));
    kind.is_some_and(|kind| icmpv6::is_discovery(*kind))
}

/// The source of a frame's packet, and its message.
fn message_of(frame: &[u8]) -> Option<(Ipv6Addr, Repr<'_>)> {
    let ip = ipv6::in_frame(frame)?;
    Some((ip.source(), Repr::parse(&ip).ok()?))
}

/// The sender and the target of a solicitation.
pub(super) fn solicitation_of(frame: &[u8]) -> Option<(Ipv6Addr, Ipv6Addr)> {
    match message_of(frame)? {
        (source, Repr::NeighbourSolicitation { target, .. }) => Some((source, target)),
        _ => None,
    }
}

/// Whether an address is none that a neighbour can have.
fn is_no_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => V6::is_bad_source(address),
    }
}

//! Packets to weir itself that are no flow's: ping; and what goes to the host.

use super::family::{Family, Message, Wire};
use super::fragment::Fragment;
use super::limit::AnswerKind;
use super::parse::{Datagram, Kind};
use super::routing::Routed;
use super::{Core, Outcome, Turn, sctp};
use crate::config::CheckAddresses;
use crate::net::protocol;
use crate::packet::{Packet, Priority, Sent, Sink};
use crate::tables::{Owner, Tables};
use crate::units::{PortId, Time};
use crate::verdict::{DropReason, LocalReason, PacketContext, ReplyReason, Verdict};
use crate::wire::ethernet;

impl<F: Wire, P: Packet> Core<F, P> {
    /// A whole packet that is no TCP segment or UDP datagram.
    pub(super) fn datagram<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        datagram: &Datagram<F>,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let tables = turn.tables;
        let owner = tables.owner(packet.port(), datagram.destination.into());
        if datagram.protocol == protocol::SCTP && tables.serves_sctp {
            let flow = sctp::flow_of(packet.data(), datagram);
            // What is for other hosts may be what no host takes.
            if flow.is_some() || matches!(owner, Some(Owner::Vip | Owner::Pool)) {
                return self.sctp(packet, flow, turn);
            }
        }
        if let Some(flow) = self.echo_flow(&packet, datagram, owner, tables) {
            return self.outward_echo(packet, &flow, turn);
        }
        if owner.is_none()
            && tables.port(packet.port()).forwards
            && !self.is_error(&packet, datagram)
        {
            let routed = self.routed(&packet, datagram);
            return (self.route(packet, &routed, turn), PacketContext::default());
        }
        let is_message = datagram.protocol == F::ICMP;
        let packet = match owner {
            Some(Owner::Port(_)) if is_message => match self.outer_error(packet, datagram, turn) {
                Ok(outcome) => return outcome,
                Err(packet) => packet,
            },
            _ => packet,
        };
        let is_echo_request = |packet: &P| {
            let message = packet.data().get(usize::from(datagram.layout.l4));
            datagram.protocol == F::ICMP && message == Some(&F::ECHO_REQUEST)
        };
        let verdict = if let Some(Owner::Port(owner)) = owner
            && tables.port(owner).has_companion
            && !is_echo_request(&packet)
            && !(self.is_error(&packet, datagram)
                && self.is_about_hairpin(&packet, datagram, tables))
        {
            self.deliver(packet, owner, LocalReason::ToPortAddress, turn)
        } else if datagram.protocol == F::ICMP {
            // What follows the packet in its frame is padding.
            let end = ethernet::HEADER_LEN + usize::from(datagram.length);
            // Echo replies have no port: that of any check stands for it.
            let to = (datagram.destination, CheckAddresses::PORTS.0);
            let checks = tables.check_answer(datagram.source, to);
            match (F::message(message_of(packet.data(), datagram)), owner) {
                (Message::Malformed, _) => Verdict::Drop(DropReason::BadL4Header),
                (Message::Error, _) => return self.icmp_error(packet, datagram, turn),
                (Message::EchoRequest, Some(Owner::Checks)) => Verdict::Drop(DropReason::NotForUs),
                (Message::EchoRequest, Some(_)) => {
                    if tables.is_bad_source(datagram.source) {
                        Verdict::Drop(DropReason::BadSource)
                    } else {
                        self.echo(packet, end, turn)
                    }
                }
                (Message::Other, Some(_)) if checks.is_some() => {
                    let port = checks.unwrap_or(packet.port());
                    self.deliver(packet, port, LocalReason::ToPortAddress, turn)
                }
                (Message::Other, Some(Owner::Port(owner))) => {
                    self.deliver(packet, owner, LocalReason::ToPortAddress, turn)
                }
                (Message::Other, Some(_)) => Verdict::Drop(DropReason::IcmpUnsupported),
                (Message::EchoRequest | Message::Other, None) => {
                    Verdict::Drop(DropReason::NotForUs)
                }
            }
        } else {
            match owner {
                Some(Owner::Port(owner)) => {
                    self.deliver(packet, owner, LocalReason::ToPortAddress, turn)
                }
                Some(_) => Verdict::Drop(F::not_served(datagram.protocol)),
                None => Verdict::Drop(DropReason::NotForUs),
            }
        };
        (verdict, PacketContext::default())
    }

    /// Whether it is an ICMP error, which a connection may be found for.
    fn is_error(&self, packet: &P, datagram: &Datagram<F>) -> bool {
        datagram.protocol == F::ICMP
            && F::message(message_of(packet.data(), datagram)) == Message::Error
    }

    /// What a router looks at.
    pub(super) fn routed(&self, packet: &P, datagram: &Datagram<F>) -> Routed<F> {
        Routed {
            source: datagram.source,
            destination: datagram.destination,
            ttl: F::ttl(packet.data()),
            length: datagram.length,
            kind: Kind::Unusual,
            may_be_answered: !self.is_error(packet, datagram),
        }
    }

    /// Answers an echo request, whose packet ends at `end` in its frame.
    fn echo<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        end: usize,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, now) = (turn.tables, turn.now);
        if let Err(reason) = self.may_answer(AnswerKind::IcmpEcho, &packet, tables, now) {
            return Verdict::Drop(reason);
        }
        let port = packet.port();
        let mac = tables.port(port).mac;
        if !packet.resize(end) || F::write_echo_reply(packet.data_mut(), mac).is_none() {
            return Verdict::Drop(DropReason::BadL4Header);
        }
        turn.sink.send(port, packet, Sent::Answered);
        Verdict::Reply(port, ReplyReason::IcmpEcho)
    }
}

impl<F: Wire, P: Packet> Core<F, P> {
    /// Answers a fragment of an echo request: the reply has the same data, so that each fragment of the one becomes one of the other,
    /// and nothing is put together.
    pub(super) fn echo_fragment<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        fragment: &Fragment<F>,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, now) = (turn.tables, turn.now);
        if tables.is_bad_source(fragment.source) {
            return Verdict::Drop(DropReason::BadSource);
        }
        if !self.is_within_limit(AnswerKind::IcmpEcho, &packet, tables, now) {
            return Verdict::Drop(DropReason::RateLimited);
        }
        let port = packet.port();
        let mac = tables.port(port).mac;
        let end = ethernet::HEADER_LEN + usize::from(fragment.length);
        let message = fragment
            .is_first()
            .then_some(usize::from(fragment.layout.l4));
        if !packet.resize(end)
            || F::write_echo_reply_fragment(packet.data_mut(), mac, message).is_none()
        {
            return Verdict::Drop(DropReason::BadL4Header);
        }
        turn.sink.send(port, packet, Sent::Answered);
        Verdict::Reply(port, ReplyReason::IcmpEcho)
    }
}

/// The bytes behind the IP headers.
pub(super) fn message_of<'a, F: Wire>(frame: &'a [u8], datagram: &Datagram<F>) -> &'a [u8] {
    let end = ethernet::HEADER_LEN + usize::from(datagram.length);
    let bytes = frame.get(usize::from(datagram.layout.l4)..end);
    bytes.unwrap_or_default()
}

impl<F: Family, P: Packet> Core<F, P> {
    /// Gives a packet to the host behind `port`. How many may go there is limited by the port that they come in by.
    pub(super) fn deliver<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        port: PortId,
        reason: LocalReason,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, now) = (turn.tables, turn.now);
        // What goes nowhere takes nothing from what does.
        let priority = match tables.port(port).has_companion {
            true => self.host_priority(&packet, tables, now),
            false => Some(Priority::Usual),
        };
        match priority {
            None => Verdict::Drop(DropReason::HostRateLimited),
            Some(priority) if turn.sink.local(port, packet, priority) => Verdict::Local(reason),
            Some(_) => Verdict::Drop(DropReason::HostQueueFull),
        }
    }

    /// Returns how one more packet may go to the host: first by the budget of the host's peers, else by that of all. None
    /// if neither allows it.
    fn host_priority(&self, packet: &P, tables: &Tables, now: Time) -> Option<Priority> {
        let limits = &self.shared.limits;
        let port = packet.port();
        if let Some(asker) = F::host_peer(packet.data(), port, &tables.host_peers) {
            let limit = tables.host_peer_packets_per_second;
            if limits.allow(AnswerKind::HostPeer, port, &asker, now, limit) {
                return Some(Priority::First);
            }
        }
        let asker = F::asker(packet.data());
        let limit = tables.host_packets_per_second;
        limits
            .allow(AnswerKind::Host, port, &asker, now, limit)
            .then_some(Priority::Usual)
    }
}

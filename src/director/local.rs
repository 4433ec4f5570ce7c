//! Packets to weir itself that are no flow's: ping; and what goes to the host.

use super::family::{Family, Message, Wire};
use super::limit::AnswerKind;
use super::parse::Datagram;
use super::{Core, Outcome, Turn};
use crate::packet::{Packet, Priority, Sent, Sink};
use crate::tables::{Owner, Tables};
use crate::units::{PortId, Time};
use crate::verdict::{DropReason, LocalReason, PacketContext, ReplyReason, Verdict};
use crate::wire::ethernet;

impl<F: Wire, P: Packet> Core<F, P> {
    /// A packet that is no whole TCP segment or UDP datagram.
    pub(super) fn datagram<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        datagram: &Datagram<F>,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let tables = turn.tables;
        let owner = tables.owner(packet.port(), datagram.destination.into());
        let is_message = datagram.protocol == F::ICMP && !datagram.is_fragment;
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
            && (datagram.is_fragment || !is_echo_request(&packet))
        {
            self.deliver(packet, owner, LocalReason::ToPortAddress, turn)
        } else if datagram.is_fragment {
            Verdict::Drop(DropReason::Fragment)
        } else if datagram.protocol == F::ICMP {
            // What follows the packet in its frame is padding.
            let end = ethernet::HEADER_LEN + usize::from(datagram.length);
            let message = packet
                .data()
                .get(usize::from(datagram.layout.l4)..end)
                .unwrap_or_default();
            match (F::message(message), owner) {
                (Message::Malformed, _) => Verdict::Drop(DropReason::BadL4Header),
                (Message::Error, _) => return self.icmp_error(packet, datagram, turn),
                (Message::EchoRequest, Some(_)) => {
                    if tables.is_bad_source(datagram.source) {
                        Verdict::Drop(DropReason::BadSource)
                    } else {
                        self.echo(packet, end, turn)
                    }
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
                Some(_) => Verdict::Drop(DropReason::UnsupportedProtocol),
                None => Verdict::Drop(DropReason::NotForUs),
            }
        };
        (verdict, PacketContext::default())
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
        if let Some(asker) = F::host_peer(packet.data(), &tables.host_peers) {
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

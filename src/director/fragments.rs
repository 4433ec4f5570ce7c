//! Comes here: a fragment of an IP packet.
//!
//! A fragment other than the first one of its datagram lacks nothing but the header of TCP or UDP. So the worker that
//! gathers a datagram's fragments, which all of its fragments come to first, only learns the ports from the first one, and
//! notes them on each. With them a fragment is a packet of a flow like any other: it is looked up, handed over and rewritten
//! by the same code. That code does less for it where [`Kind::FirstFragment`] and [`Kind::LaterFragment`] say so: nothing of
//! a header is read or changed that is not there, and a later one makes no connection and gets no answer.
//!
//! Fragments that come before the first one wait for it. Nothing is put together: what goes on is what came, so that a
//! large datagram costs no memory.

use super::family::Wire;
use super::flow::service_key;
use super::fragment::Fragment;
use super::fragment_id::Id;
use super::fragment_table::{Noted, Place};
use super::parse::{Flow, Kind, Parsed};
use super::routing::Routed;
use super::{Core, Origin, Outcome, Turn};
use crate::conn::Key;
use crate::packet::{Errand, Head, Packet, Sink};
use crate::tables::{Owner, Tables};
use crate::units::PortId;
use crate::verdict::{DropReason, LocalReason, PacketContext, Verdict};

impl<F: Wire, P: Packet> Core<F, P> {
    /// A part of a datagram.
    #[cold]
    pub(super) fn fragment<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        fragment: &Fragment<F>,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let tables = turn.tables;
        let ends = |verdict| (verdict, PacketContext::default());
        let drops = |reason| ends(Verdict::Drop(reason));
        let owner = tables.owner(packet.port(), fragment.destination.into());
        let is_flow = fragment.may_be_flow(tables.serves_sctp);
        // With nat, a reply to a client in the subnet of its real server, perhaps: unless the host has the address too.
        let is_answer = is_flow && !tables.natted.is_empty();
        let host = match owner {
            Some(Owner::Port(port)) if tables.port(port).has_companion => Some(port),
            _ => None,
        };
        if let Some(Owner::Port(port)) = owner
            && (is_flow && !is_answer
                || host.is_some() && !self.may_be_hairpin(&packet, fragment, tables))
        {
            return ends(self.deliver(packet, port, LocalReason::ToPortAddress, turn));
        }
        let is_outward = self.is_outward_fragment(packet.port(), fragment, owner, tables);
        let forwards = owner.is_none() && tables.port(packet.port()).forwards;
        if forwards && !is_answer && !is_outward {
            if fragment.is_impossible() {
                return drops(DropReason::BadIpHeader);
            }
            if fragment.is_too_long() {
                return drops(DropReason::FragmentTooLong);
            }
            let routed = Routed {
                source: fragment.source,
                destination: fragment.destination,
                ttl: fragment.ttl,
                length: fragment.length,
                kind: match fragment.is_first() {
                    true => Kind::FirstFragment,
                    false => Kind::LaterFragment,
                },
                // An ICMP error may be among them.
                may_be_answered: is_flow && fragment.is_first(),
            };
            return ends(self.route(packet, &routed, turn));
        }
        let is_ping = owner.is_some() && fragment.protocol == F::ICMP;
        if !is_flow && !is_ping && !is_outward {
            return drops(match owner {
                Some(_) => DropReason::Fragment,
                None => DropReason::NotForUs,
            });
        }
        if self.origin == Origin::Worker && packet.errand() != Errand::Gather {
            let flow = fragment.flow(packet.head(), packet.data());
            return self.fragment_of_flow(packet, &flow, turn);
        }
        // To any host: the reply of a real server in nat mode, or nothing of weir's.
        if owner.is_none() && tables.natted.is_empty() && !is_outward {
            return drops(DropReason::NotForUs);
        }
        if fragment.is_impossible() {
            return drops(DropReason::BadIpHeader);
        }
        // A reply, or between hosts: what comes from elsewhere must not spoil the real server's own.
        let may_be_its_own =
            owner == Some(Owner::Vip) || tables.is_way_to(packet.port(), fragment.source);
        if !may_be_its_own && !is_ping {
            return drops(DropReason::WrongPort);
        }
        let (source, destination) = (fragment.source, fragment.destination);
        let identification = fragment.identification;
        let steering = &self.shared.steering;
        let gatherer = steering.owner_of_datagram(source, destination, identification);
        if self.origin == Origin::Device && gatherer != self.worker {
            return self.hand_over(packet, gatherer, Errand::Gather, turn.sink);
        }
        let Some(fragments) = turn.beside.fragments.as_deref_mut() else {
            return ends(self.no_room(packet, host, turn));
        };
        let id = Id::new(source, destination, identification, fragment.protocol);
        let id = match may_be_its_own {
            true => id,
            false => id.of_ping(F::ICMP),
        };
        let (now, counters) = (turn.now, &self.live.counters);
        let noted = match fragment.part(packet.data()) {
            Ok(part) => fragments.note(id, part, now, counters),
            Err(reason) => fragments.refuse(id, reason, now, counters),
        };
        match noted {
            // A host judges its own.
            Noted::Refused(_) if host.is_some() => ends(self.no_room(packet, host, turn)),
            Noted::Refused(reason) => drops(reason),
            Noted::Waits(place) => match fragments.wait(place, packet, counters) {
                true => ends(Verdict::Await),
                false => drops(DropReason::FragmentsFull),
            },
            Noted::GoesOn(head, place) => {
                let outcome = self.gathered(packet, fragment, head, turn);
                self.follow(head, place, turn);
                outcome
            }
        }
    }

    /// Whether a fragment to the address of a port, which its host has too, may be of a connection that has its source from there:
    /// an answer of a real server on the port's link.
    fn may_be_hairpin(&self, packet: &P, fragment: &Fragment<F>, tables: &Tables) -> bool {
        let port = tables.port(packet.port());
        fragment.may_be_flow(tables.serves_sctp)
            && !tables.natted.is_empty()
            && port.hairpin.of(fragment.destination.into()).is_some()
            && tables.is_way_to(packet.port(), fragment.source)
            && !fragment.is_impossible()
    }

    /// What becomes of a fragment that there is no room to remember: a host puts its own together.
    fn no_room<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        host: Option<PortId>,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        match host {
            Some(port) => self.deliver(packet, port, LocalReason::ToPortAddress, turn),
            None => Verdict::Drop(DropReason::FragmentsFull),
        }
    }

    /// Lets those that wait at a place follow the first fragment of their datagram.
    fn follow<S: Sink<Packet = P>>(&mut self, head: Head, place: Place, turn: &mut Turn<'_, S>) {
        while let Some(fragments) = turn.beside.fragments.as_deref_mut()
            && let Some(packet) = fragments.take_waiting(place, &self.live.counters)
        {
            self.live.counters.queued.sub(1);
            let port = turn.tables.port(packet.port());
            let verdict = match F::parse_any(packet.data(), port) {
                Parsed::Fragment(fragment) => self.gathered(packet, &fragment, head, turn).0,
                // As it was parsed before, so it is now.
                _ => Verdict::Drop(DropReason::Fragment),
            };
            self.count(verdict);
        }
    }

    /// Decides on a fragment of which the first one of its datagram has told the rest, as on a packet from a device: the errand
    /// that brought it here is done.
    fn gathered<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        fragment: &Fragment<F>,
        head: Head,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let mut head = head;
        if head.protocol == F::ICMP {
            let owner = turn
                .tables
                .owner(packet.port(), fragment.destination.into());
            head = match self.echo_head(head, owner, turn.tables) {
                Some(head) => head,
                None => {
                    let verdict = match head.has_checksum {
                        true => self.echo_fragment(packet, fragment, turn),
                        false => Verdict::Drop(DropReason::Fragment),
                    };
                    return (verdict, PacketContext::default());
                }
            };
        }
        packet.set_head(head);
        let flow = fragment.flow(head, packet.data());
        let origin = self.origin;
        self.set_origin(Origin::Device, turn);
        let outcome = self.fragment_of_flow(packet, &flow, turn);
        self.set_origin(origin, turn);
        outcome
    }

    fn set_origin<S: Sink<Packet = P>>(&mut self, origin: Origin, turn: &mut Turn<'_, S>) {
        self.origin = origin;
        if let Some(crossing) = &mut turn.beside.crossing {
            crossing.origin = origin;
        }
    }

    /// A fragment with the key of its flow.
    fn fragment_of_flow<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow<F>,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        if flow.key.protocol() == F::ICMP {
            return self.outward_echo(packet, flow, turn);
        }
        let table = &self.live.table;
        match table.find(table.hash(&flow.key), &flow.key) {
            Some(found) => self.known_unusual(packet, flow, found, turn),
            None => {
                let target = turn.tables.target(&service_key(&flow.key));
                self.unknown(packet, flow, target, turn)
            }
        }
    }
}

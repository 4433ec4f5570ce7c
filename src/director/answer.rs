//! What weir answers itself: ARP, ping, and the refusals (reset, ICMP unreachable, time exceeded, too big); and what it
//! gives to the host.
//!
//! An answer is given only to a packet with a right TCP, UDP or ICMP checksum. Of a damaged packet not even the sender is
//! sure.
//! An answer goes back to where its packet came from: out of the same port, to the same MAC address. It needs no
//! route and no neighbour, keeps no state, and so gives a forger of source addresses nothing to fill.

use super::host_peer::is_host_peers;
use super::limit::{AnswerKind, Asker};
use super::parse::{Datagram, Flow};
use super::{Core, Outcome, Turn, is_tcp};
use crate::exchange::News;
use crate::net::protocol;
use crate::packet::{Packet, Priority, Sent, Sink};
use crate::tables::{Owner, Tables};
use crate::units::{PortId, Time};
use crate::verdict::{DropReason, LocalReason, PacketContext, ReplyReason, Verdict};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::{Mac, arp, build, ethernet, icmp};
use std::net::Ipv4Addr;

/// The largest answer: an ICMP error of 576 bytes (RFC 1812 section 4.3.2.3) in its frame.
const MAX_ANSWER: usize = ethernet::HEADER_LEN + 576;

impl<P: Packet> Core<P> {
    pub(super) fn arp<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let (tables, now) = (turn.tables, turn.now);
        let port = packet.port();
        let table = tables.port(port);
        let repr = arp_of(packet.data());
        let verdict = match repr {
            None => Verdict::Drop(DropReason::BadArp),
            // A MAC address that no neighbour has is neither answered nor learned.
            Some(repr) if !repr.sender_mac.is_station() || tables.is_own_mac(repr.sender_mac) => {
                Verdict::Drop(DropReason::BadArp)
            }
            // Another host uses an address of weir's own (RFC 5227 section 2.4): the control thread defends it.
            Some(repr) if tables.addresses.get(&repr.sender_ip).is_some() => {
                self.mailbox.tell(port, repr, News::Claim);
                Verdict::Drop(DropReason::BadArp)
            }
            Some(repr) if repr.operation == arp::REQUEST => {
                let is_ours = tables.answers_for(port, repr.target_ip);
                // A request tells of its sender too; so does a gratuitous one, which nobody answers.
                if let Some(news) = news_of(&repr, port, tables) {
                    self.mailbox.tell(port, repr, news);
                }
                if !is_ours {
                    Verdict::Drop(DropReason::ArpIgnored)
                } else if !self.is_within_limit(AnswerKind::Arp, &packet, tables, now) {
                    Verdict::Drop(DropReason::RateLimited)
                } else {
                    match build::arp_reply_in_place(packet.data_mut(), table.mac) {
                        Some(_) => {
                            turn.sink.send(port, packet, Sent::Answered);
                            Verdict::Reply(port, ReplyReason::Arp)
                        }
                        None => Verdict::Drop(DropReason::BadArp),
                    }
                }
            }
            Some(repr) => {
                if let Some(news) = news_of(&repr, port, tables) {
                    self.mailbox.tell(port, repr, news);
                }
                // The host may have asked.
                self.deliver(packet, port, LocalReason::Arp, turn)
            }
        };
        (verdict, PacketContext::default())
    }

    /// An IPv4 packet that is no whole TCP segment or UDP datagram.
    pub(super) fn datagram<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        datagram: &Datagram,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        let tables = turn.tables;
        let owner = tables.addresses.get(&datagram.destination);
        let is_echo_request = |packet: &P| {
            let message = packet.data().get(usize::from(datagram.layout.l4));
            datagram.protocol == protocol::ICMP && message == Some(&icmp::ECHO_REQUEST)
        };
        let verdict = if let Some(&Owner::Port(owner)) = owner
            && tables.port(owner).has_companion
            && (datagram.is_fragment || !is_echo_request(&packet))
        {
            self.deliver(packet, owner, LocalReason::ToPortAddress, turn)
        } else if datagram.is_fragment {
            Verdict::Drop(DropReason::Fragment)
        } else if datagram.protocol == protocol::ICMP {
            // What follows the packet in its frame is padding.
            let end = ethernet::HEADER_LEN + usize::from(datagram.length);
            let message = packet
                .data()
                .get(usize::from(datagram.layout.l4)..end)
                .unwrap_or_default();
            match (icmp::Icmp::new_checked(message), owner) {
                (Err(_), _) => Verdict::Drop(DropReason::BadL4Header),
                (Ok(message), _) if message.is_error() => Verdict::Drop(DropReason::IcmpError),
                (Ok(message), Some(_)) if message.is_echo_request() => {
                    if tables.is_bad_source(datagram.source) {
                        Verdict::Drop(DropReason::BadSource)
                    } else {
                        self.echo(packet, end, turn)
                    }
                }
                (Ok(_), Some(&Owner::Port(owner))) => {
                    self.deliver(packet, owner, LocalReason::ToPortAddress, turn)
                }
                (Ok(_), Some(_)) => Verdict::Drop(DropReason::IcmpUnsupported),
                (Ok(_), None) => Verdict::Drop(DropReason::NotForUs),
            }
        } else {
            match owner {
                Some(&Owner::Port(owner)) => {
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
        if !packet.resize(end) || build::echo_reply_in_place(packet.data_mut(), mac).is_none() {
            return Verdict::Drop(DropReason::BadL4Header);
        }
        turn.sink.send(port, packet, Sent::Answered);
        Verdict::Reply(port, ReplyReason::IcmpEcho)
    }

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
        if let Some(ip) = ipv4::in_frame(packet.data())
            && is_host_peers(&ip, &tables.host_peers)
        {
            let asker = Asker::of_host(ip.source(), ip.destination(), service(&ip));
            let limit = tables.host_peer_packets_per_second;
            if limits.allow(AnswerKind::HostPeer, port, &asker, now, limit) {
                return Some(Priority::First);
            }
        }
        let asker = asker(packet.data());
        let limit = tables.host_packets_per_second;
        limits
            .allow(AnswerKind::Host, port, &asker, now, limit)
            .then_some(Priority::Usual)
    }

    /// Whether a packet may be answered: its own checksum is right, and the limit is not reached.
    fn may_answer(
        &self,
        kind: AnswerKind,
        packet: &P,
        tables: &Tables,
        now: Time,
    ) -> Result<(), DropReason> {
        let limits = &self.shared.limits;
        let (port, limit) = (packet.port(), tables.answers_per_second);
        let asker = asker(packet.data());
        // First what a flood is dropped by: a checksum takes the longer, the longer the packet.
        if !limits.would_allow(kind, port, &asker, now, limit) {
            return Err(DropReason::RateLimited);
        }
        let ip = ipv4::in_frame(packet.data());
        if !ip.is_some_and(|ip| ip.is_l4_checksum_right()) {
            return Err(DropReason::BadL4Checksum);
        }
        match limits.allow(kind, port, &asker, now, limit) {
            true => Ok(()),
            // Another worker was faster.
            false => Err(DropReason::RateLimited),
        }
    }

    /// Whether the limit allows one more answer, to this packet.
    fn is_within_limit(&self, kind: AnswerKind, packet: &P, tables: &Tables, now: Time) -> bool {
        let asker = asker(packet.data());
        let limit = tables.answers_per_second;
        self.shared
            .limits
            .allow(kind, packet.port(), &asker, now, limit)
    }

    /// Whether the limit is still reached for a flow's packet to a destination where it was before, see [`Refused`](super::refused::Refused).
    #[inline]
    pub(super) fn is_refused_again(
        &self,
        flow: &Flow,
        port: PortId,
        tables: &Tables,
        now: Time,
    ) -> bool {
        let Some(kind) = self.refused.answer(flow, tables.generation) else {
            return false;
        };
        let key = &flow.key;
        let service = u32::from(key.protocol()) << 16 | u32::from(key.destination_port());
        let asker = Asker::of_prefix(key.source(), key.destination(), service);
        let limit = tables.answers_per_second;
        !self
            .shared
            .limits
            .would_allow(kind, port, &asker, now, limit)
    }

    /// Refuses a packet: TCP by a reset, UDP by "port unreachable", both from the packet's destination, so it must not have
    /// been rewritten.
    pub(super) fn refuse<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow,
        reason: ReplyReason,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let tables = turn.tables;
        // A reset is never answered, nor counted against the limit.
        if tables.answers_per_second == 0 || flow.flags.rst() {
            return Verdict::Drop(match reason {
                ReplyReason::NoService => DropReason::NoService,
                ReplyReason::NoConnection => DropReason::NoConnection,
                _ => DropReason::NoRealServer,
            });
        }
        if is_tcp(flow) {
            return self.reset(packet, reason, turn);
        }
        let error = Error {
            kind: icmp::DESTINATION_UNREACHABLE,
            code: icmp::PORT_UNREACHABLE,
            rest: 0,
            from: flow.key.destination(),
        };
        self.icmp_error(packet, error, reason, turn)
    }

    /// The next hop towards the real server does not answer: "host unreachable" from the VIP, as a router says it
    /// (RFC 1812 section 5.2.7.1). The packet must not have been rewritten.
    #[cold]
    pub(super) fn host_unreachable<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        vip: Ipv4Addr,
        reason: ReplyReason,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let tables = turn.tables;
        if tables.answers_per_second == 0 {
            return Verdict::Drop(DropReason::NeighbourFailed);
        }
        let error = Error {
            kind: icmp::DESTINATION_UNREACHABLE,
            code: icmp::HOST_UNREACHABLE,
            rest: 0,
            from: vip,
        };
        self.icmp_error(packet, error, reason, turn)
    }

    /// Answers a TCP segment with a reset from its destination (RFC 9293 section 3.10.7.1).
    pub(super) fn reset<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        reason: ReplyReason,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, now) = (turn.tables, turn.now);
        if let Err(reason) = self.may_answer(AnswerKind::Reset, &packet, tables, now) {
            return Verdict::Drop(reason);
        }
        self.answer(
            packet,
            reason,
            DropReason::NoConnection,
            tables,
            turn.sink,
            build::tcp_reset,
        )
    }

    /// The TTL ran out: "time exceeded" from the VIP.
    #[cold]
    pub(super) fn ttl_exceeded<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        vip: Ipv4Addr,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let error = Error {
            kind: icmp::TIME_EXCEEDED,
            code: 0,
            rest: 0,
            from: vip,
        };
        self.icmp_error(packet, error, ReplyReason::TtlExceeded, turn)
    }

    /// Larger than the out port's MTU: "fragmentation needed" from the VIP where DF is set (RFC 1191 section 4).
    #[cold]
    pub(super) fn too_big<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        vip: Ipv4Addr,
        mtu: u16,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        if !ipv4::in_frame(packet.data()).is_some_and(|ip| ip.dont_fragment()) {
            return Verdict::Drop(DropReason::TooBig);
        }
        let error = Error {
            kind: icmp::DESTINATION_UNREACHABLE,
            code: icmp::FRAGMENTATION_NEEDED,
            rest: u32::from(mtu),
            from: vip,
        };
        self.icmp_error(packet, error, ReplyReason::TooBig, turn)
    }

    /// Answers a packet with an ICMP error that quotes it. The packet must not have been rewritten.
    pub(super) fn icmp_error<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        error: Error,
        reason: ReplyReason,
        turn: &mut Turn<'_, S>,
    ) -> Verdict {
        let (tables, now) = (turn.tables, turn.now);
        if let Err(reason) = self.may_answer(AnswerKind::IcmpError, &packet, tables, now) {
            return Verdict::Drop(reason);
        }
        self.answer(
            packet,
            reason,
            DropReason::BadL4Header,
            tables,
            turn.sink,
            |frame, offending, mac| {
                build::icmp_error(
                    frame, offending, mac, error.from, error.kind, error.code, error.rest,
                )
            },
        )
    }

    /// Turns a packet into an answer that `write` makes of it. Where `write` has none, the packet is dropped.
    fn answer<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        reason: ReplyReason,
        otherwise: DropReason,
        tables: &Tables,
        sink: &mut S,
        write: impl FnOnce(&mut [u8], &[u8], Mac) -> Option<usize>,
    ) -> Verdict {
        let port = packet.port();
        let mut answer = [0; MAX_ANSWER];
        let Some(length) = write(&mut answer, packet.data(), tables.port(port).mac) else {
            return Verdict::Drop(otherwise);
        };
        if !packet.resize(length) {
            return Verdict::Drop(DropReason::NoBuffer);
        }
        packet.data_mut().copy_from_slice(&answer[..length]);
        sink.send(port, packet, Sent::Answered);
        Verdict::Reply(port, reason)
    }
}

/// What an ARP packet tells of its sender that weir does not know yet, if anything.
fn news_of(repr: &arp::Repr, port: PortId, tables: &Tables) -> Option<News> {
    let is_answer = repr.operation == arp::REPLY && tables.addresses.get(&repr.target_ip).is_some();
    match tables.neighbours.find(port, repr.sender_ip) {
        Some(_) if is_answer => Some(News::Answer),
        Some(hop) => {
            let link = tables.neighbours.link(hop);
            (!link.is_usable() || link.mac != repr.sender_mac).then_some(News::Claim)
        }
        None => {
            let asks = repr.operation == arp::REQUEST && tables.answers_for(port, repr.target_ip);
            asks.then_some(News::Stranger)
        }
    }
}

/// An ICMP error to be made.
pub(super) struct Error {
    pub kind: u8,
    pub code: u8,
    /// The second word of the header.
    pub rest: u32,
    pub from: Ipv4Addr,
}

/// Returns the sender and the service that the answer to a frame counts against: an ARP packet's sender by its address,
/// an IPv4 packet's by its prefix.
fn asker(frame: &[u8]) -> Asker {
    let unknown = Ipv4Addr::UNSPECIFIED;
    if let Some(ip) = ipv4::in_frame(frame) {
        Asker::of_prefix(ip.source(), ip.destination(), service(&ip))
    } else if let Some(repr) = arp_of(frame) {
        Asker::of_host(repr.sender_ip, repr.target_ip, 0)
    } else {
        Asker::of_host(unknown, unknown, 0)
    }
}

/// The packet of an ARP frame.
fn arp_of(frame: &[u8]) -> Option<arp::Repr> {
    arp::Repr::parse(frame.get(ethernet::HEADER_LEN..)?).ok()
}

/// What tells the services of one address apart: the protocol, and the port where there is one.
fn service(ip: &Ipv4<&[u8]>) -> u32 {
    let port = ip.ports().map_or(0, |(_, to)| to);
    u32::from(ip.protocol()) << 16 | u32::from(port)
}

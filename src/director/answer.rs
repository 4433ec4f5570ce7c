//! What weir answers itself: ARP, ping, and the refusals (reset, ICMP unreachable, time exceeded, too big).
//!
//! An answer goes back to where its packet came from: out of the same port, to the same MAC address. It needs no
//! route and no neighbour, keeps no state, and so gives a forger of source addresses nothing to fill.

use super::limit::AnswerKind;
use super::parse::{Datagram, Flow, PROTOCOL_ICMP};
use super::{Director, Outcome, is_tcp};
use crate::exchange::News;
use crate::packet::{Packet, Sent, Sink};
use crate::tables::{Owner, Tables};
use crate::units::{PortId, Time};
use crate::verdict::{Context, DropReason, LocalReason, ReplyReason, Verdict};
use crate::wire::{Mac, arp, build, ethernet, icmp};
use std::net::Ipv4Addr;

/// The largest answer: an ICMP error of 576 bytes (RFC 1812 section 4.3.2.3) in its frame.
const MAX_ANSWER: usize = ethernet::HEADER_LEN + 576;

impl<P: Packet> Director<P> {
    pub(super) fn arp<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) -> Outcome {
        let port = packet.port();
        let table = tables.port(port);
        let repr = packet
            .data()
            .get(ethernet::HEADER_LEN..)
            .and_then(arp::Repr::parse);
        let verdict = match repr {
            None => Verdict::Drop(DropReason::BadArp),
            // A MAC address that no neighbour has is neither answered nor learned.
            Some(repr) if !repr.sender_mac.is_unicast() || tables.is_own_mac(repr.sender_mac) => {
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
                } else if !self
                    .shared
                    .limits
                    .allow(AnswerKind::Arp, now, tables.answers_per_second)
                {
                    Verdict::Drop(DropReason::RateLimited)
                } else {
                    match build::arp_reply_in_place(packet.data_mut(), table.mac) {
                        Some(_) => {
                            sink.send(port, packet, Sent::Answered);
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
                self.deliver(packet, port, LocalReason::Arp, tables, now, sink)
            }
        };
        (verdict, Context::default())
    }

    /// An IPv4 packet that is no whole TCP segment or UDP datagram.
    pub(super) fn datagram<S: Sink<Packet = P>>(
        &mut self,
        mut packet: P,
        datagram: &Datagram,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) -> Outcome {
        let port = packet.port();
        let owner = tables.addresses.get(&datagram.destination);
        let is_echo_request = |packet: &P| {
            let message = packet.data().get(usize::from(datagram.layout.l4));
            datagram.protocol == PROTOCOL_ICMP && message == Some(&icmp::ECHO_REQUEST)
        };
        let verdict = if let Some(&Owner::Port(owner)) = owner
            && tables.port(owner).has_companion
            && (datagram.is_fragment || !is_echo_request(&packet))
        {
            self.deliver(packet, owner, LocalReason::ToPortAddress, tables, now, sink)
        } else if datagram.is_fragment {
            Verdict::Drop(DropReason::Fragment)
        } else if datagram.protocol == PROTOCOL_ICMP {
            // What follows the packet in its frame is padding.
            let end = ethernet::HEADER_LEN + usize::from(datagram.length);
            let message = packet
                .data()
                .get(usize::from(datagram.layout.l4)..end)
                .unwrap_or_default();
            match (icmp::Icmp::new_checked(message), owner) {
                (None, _) => Verdict::Drop(DropReason::BadL4Header),
                (Some(message), _) if message.is_error() => Verdict::Drop(DropReason::IcmpError),
                (Some(message), Some(Owner::Vip | Owner::Port(_))) if message.is_echo_request() => {
                    if tables.is_bad_source(port, datagram.source) {
                        Verdict::Drop(DropReason::BadSource)
                    } else if !self.shared.limits.allow(
                        AnswerKind::IcmpEcho,
                        now,
                        tables.answers_per_second,
                    ) {
                        Verdict::Drop(DropReason::RateLimited)
                    } else if packet.resize(end)
                        && build::echo_reply_in_place(packet.data_mut(), tables.port(port).mac)
                            .is_some()
                    {
                        sink.send(port, packet, Sent::Answered);
                        Verdict::Reply(port, ReplyReason::IcmpEcho)
                    } else {
                        Verdict::Drop(DropReason::BadL4Header)
                    }
                }
                (Some(_), Some(&Owner::Port(owner))) => {
                    self.deliver(packet, owner, LocalReason::ToPortAddress, tables, now, sink)
                }
                (Some(_), Some(_)) => Verdict::Drop(DropReason::IcmpUnsupported),
                (Some(_), None) => Verdict::Drop(DropReason::NotForUs),
            }
        } else {
            match owner {
                Some(&Owner::Port(owner)) => {
                    self.deliver(packet, owner, LocalReason::ToPortAddress, tables, now, sink)
                }
                Some(_) => Verdict::Drop(DropReason::UnsupportedProtocol),
                None => Verdict::Drop(DropReason::NotForUs),
            }
        };
        (verdict, Context::default())
    }

    /// Gives a packet to the host behind `port`.
    pub(super) fn deliver<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        port: PortId,
        reason: LocalReason,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) -> Verdict {
        // What goes nowhere takes nothing from what does.
        let goes_up = tables.port(port).has_companion;
        let limit = tables.host_packets_per_second;
        if goes_up && !self.shared.limits.allow(AnswerKind::Host, now, limit) {
            Verdict::Drop(DropReason::HostRateLimited)
        } else if sink.local(port, packet) {
            Verdict::Local(reason)
        } else {
            Verdict::Drop(DropReason::HostQueueFull)
        }
    }

    /// Refuses a new connection: TCP by a reset, UDP by "port unreachable", both from the VIP.
    pub(super) fn refuse<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        flow: &Flow,
        reason: ReplyReason,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) -> Verdict {
        // A reset is never answered, nor counted against the limit.
        if tables.answers_per_second == 0 || flow.flags.rst() {
            return Verdict::Drop(match reason {
                ReplyReason::NoService => DropReason::NoService,
                _ => DropReason::NoRealServer,
            });
        }
        if is_tcp(flow) {
            return self.reset(packet, reason, tables, now, sink);
        }
        let error = Error {
            kind: icmp::DESTINATION_UNREACHABLE,
            code: icmp::PORT_UNREACHABLE,
            rest: 0,
            from: flow.key.destination(),
        };
        self.icmp_error(packet, error, reason, tables, now, sink)
    }

    /// Answers a TCP segment with a reset from its destination (RFC 9293 section 3.10.7.1).
    pub(super) fn reset<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        reason: ReplyReason,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) -> Verdict {
        if !self
            .shared
            .limits
            .allow(AnswerKind::Reset, now, tables.answers_per_second)
        {
            return Verdict::Drop(DropReason::RateLimited);
        }
        self.answer(
            packet,
            reason,
            DropReason::NoConnection,
            tables,
            sink,
            build::tcp_reset,
        )
    }

    /// The TTL ran out: "time exceeded" from the VIP.
    #[cold]
    pub(super) fn ttl_exceeded<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        vip: Ipv4Addr,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) -> Verdict {
        let error = Error {
            kind: icmp::TIME_EXCEEDED,
            code: 0,
            rest: 0,
            from: vip,
        };
        self.icmp_error(packet, error, ReplyReason::TtlExceeded, tables, now, sink)
    }

    /// Larger than the out port's MTU: "fragmentation needed" from the VIP where DF is set (RFC 1191 section 4).
    #[cold]
    pub(super) fn too_big<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        vip: Ipv4Addr,
        mtu: u16,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) -> Verdict {
        let flags = packet
            .data()
            .get(ethernet::HEADER_LEN + 6)
            .copied()
            .unwrap_or_default();
        if flags & 0x40 == 0 {
            return Verdict::Drop(DropReason::TooBig);
        }
        let error = Error {
            kind: icmp::DESTINATION_UNREACHABLE,
            code: icmp::FRAGMENTATION_NEEDED,
            rest: u32::from(mtu),
            from: vip,
        };
        self.icmp_error(packet, error, ReplyReason::TooBig, tables, now, sink)
    }

    /// The next hop towards the real server does not answer: "host unreachable" from the VIP, as a router says it
    /// (RFC 1812 section 5.2.7.1).
    pub(super) fn host_unreachable<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        vip: Ipv4Addr,
        reason: ReplyReason,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) -> Verdict {
        let error = Error {
            kind: icmp::DESTINATION_UNREACHABLE,
            code: icmp::HOST_UNREACHABLE,
            rest: 0,
            from: vip,
        };
        self.icmp_error(packet, error, reason, tables, now, sink)
    }

    fn icmp_error<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        error: Error,
        reason: ReplyReason,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) -> Verdict {
        if !self
            .shared
            .limits
            .allow(AnswerKind::IcmpError, now, tables.answers_per_second)
        {
            return Verdict::Drop(DropReason::RateLimited);
        }
        self.answer(
            packet,
            reason,
            DropReason::BadL4Header,
            tables,
            sink,
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
struct Error {
    kind: u8,
    code: u8,
    /// The second word of the header.
    rest: u32,
    from: Ipv4Addr,
}

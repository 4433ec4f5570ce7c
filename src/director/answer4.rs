//! What only IPv4 has: ARP, and ICMP with its questions.

use super::family::V4;
use super::host_peer::is_host_peers;
use super::limit::{AnswerKind, Asker};
use super::parse::{Datagram, Parsed};
use super::{Core, Outcome, Turn};
use crate::config::HostPeer;
use crate::exchange::News;
use crate::net::protocol;
use crate::packet::{Packet, Sent, Sink};
use crate::tables::{Owner, Tables};
use crate::units::PortId;
use crate::verdict::{DropReason, LocalReason, PacketContext, ReplyReason, Verdict};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::{arp, build, ethernet, icmp};
use std::net::Ipv4Addr;

impl<P: Packet> Core<V4, P> {
    /// A packet that is no TCP segment or UDP datagram, and not bad.
    pub(super) fn other4<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        parsed: &Parsed,
        turn: &mut Turn<'_, S>,
    ) -> Outcome {
        match parsed {
            Parsed::Arp => self.arp(packet, turn),
            Parsed::Multicast => {
                let port = packet.port();
                let verdict = self.deliver(packet, port, LocalReason::Multicast, turn);
                (verdict, PacketContext::default())
            }
            Parsed::Ip(datagram) => self.datagram(packet, datagram, turn),
            Parsed::Bad(_) | Parsed::Flow(_) | Parsed::Mend | Parsed::Foreign => {
                unreachable!("they have a way of their own")
            }
        }
    }

    fn arp<S: Sink<Packet = P>>(&mut self, mut packet: P, turn: &mut Turn<'_, S>) -> Outcome {
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
    fn datagram<S: Sink<Packet = P>>(
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

/// Returns the sender and the service that the answer to a frame counts against: an ARP packet's sender by its address,
/// an IPv4 packet's by its prefix.
pub(super) fn asker(frame: &[u8]) -> Asker {
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

/// The peer of the host whose routing protocol a frame is of, if it is one.
pub(super) fn host_peer(frame: &[u8], peers: &[HostPeer]) -> Option<Asker> {
    let ip = ipv4::in_frame(frame)?;
    is_host_peers(&ip, peers).then(|| Asker::of_host(ip.source(), ip.destination(), service(&ip)))
}

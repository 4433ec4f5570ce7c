//! What a worker and the control thread say to each other. Bounded queues without locks, memory from the start:
//! neither side ever waits. An event that finds its queue full is lost, and raised again by the next packet.

use crate::capture::Watch;
use crate::conn::{Connection, Connection6, ConnectionAny};
use crate::connection_log::Records;
use crate::units::PortId;
use crate::wire::{Mac, arp, mld, ndisc};
use arrayvec::ArrayVec;
use crossbeam_queue::ArrayQueue;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// From a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Packets are waiting for this next hop, or its address should be confirmed.
    Wanted { port: PortId, address: IpAddr },
    /// A router on the link says for how long it is a default router.
    Router {
        port: PortId,
        address: Ipv6Addr,
        lifetime: Duration,
    },
    /// A router asks which groups the port listens to, and waits for answers for so long.
    Query { port: PortId, longest: Duration },
    /// A neighbour said where it is, or claims an address of weir's own.
    Heard { port: PortId, heard: Heard },
}

/// What an ARP packet, or one of neighbour discovery, says of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub sender: IpAddr,
    /// None: an answer that does not say it, since the host that asked knew (RFC 4861 section 4.4).
    pub mac: Option<Mac>,
    pub message: Message,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A question who has an address.
    Asks { target: IpAddr },
    /// To a question of weir's.
    Answers,
    /// To no host, or to every host on the link.
    Announces,
}

impl Heard {
    /// `is_to_weir`: the target address is weir's own.
    pub fn by_arp(repr: &arp::Repr, is_to_weir: bool) -> Self {
        let message = match (repr.operation, is_to_weir) {
            (arp::REQUEST, _) => Message::Asks {
                target: repr.target_ip.into(),
            },
            (_, true) => Message::Answers,
            (_, false) => Message::Announces,
        };
        Heard {
            sender: repr.sender_ip.into(),
            mac: Some(repr.sender_mac),
            message,
        }
    }

    /// What a message of neighbour discovery from `source` says, in a frame from `mac`; none of another one. Of a sender
    /// without an address, it is the address that it is about to take.
    pub fn by_discovery(message: &ndisc::Repr, source: Ipv6Addr, mac: Mac) -> Option<Self> {
        match *message {
            ndisc::Repr::NeighbourSolicitation { target, source_mac } => {
                let is_detection = source.is_unspecified();
                Some(Heard {
                    sender: if is_detection { target } else { source }.into(),
                    mac: if is_detection { Some(mac) } else { source_mac },
                    message: Message::Asks {
                        target: target.into(),
                    },
                })
            }
            ndisc::Repr::NeighbourAdvertisement {
                target,
                is_solicited,
                target_mac,
                ..
            } => Some(Heard {
                sender: target.into(),
                mac: target_mac,
                message: match is_solicited {
                    true => Message::Answers,
                    false => Message::Announces,
                },
            }),
            _ => None,
        }
    }
}

/// What a packet has to say of neighbours: the less it is worth, the less of the queue of events it may fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A host that weir does not know asks for an address of weir's own.
    Stranger,
    /// A neighbour has another MAC address than weir knows, or claims an address of weir's own.
    Claim,
    /// A neighbour answers.
    Answer,
}

impl News {
    /// The quarters of the queue that such news may fill. Answers may fill all of it: they end what fills it.
    const fn quarters(self) -> usize {
        match self {
            News::Stranger => 1,
            News::Claim => 2,
            News::Answer => 4,
        }
    }
}

/// Multicast groups, as many as one report tells of.
pub(crate) type Groups = ArrayVec<Ipv6Addr, { mld::GROUPS }>;

/// To a worker.
#[derive(Debug)]
pub enum Order {
    /// Ask for a neighbour, by ARP or a neighbour solicitation; all of them where `to` is the broadcast address.
    Ask {
        port: PortId,
        to: Mac,
        source: IpAddr,
        target: IpAddr,
    },
    /// Tell all hosts on the link where an address of weir's own is, by gratuitous ARP or an unsolicited neighbour advertisement.
    Announce { port: PortId, address: IpAddr },
    /// Ask whether another host has an IPv6 address of weir's own (RFC 4862 section 5.4).
    Probe { port: PortId, address: Ipv6Addr },
    /// Tell routers and switches that the port listens to groups.
    Report {
        port: PortId,
        source: Ipv6Addr,
        record: mld::Record,
        groups: Groups,
    },
    /// Copy live connections, from entry `chunk.next` on.
    CopyConnections(Box<ConnectionChunk>),
    /// Look at packets for a capture.
    Watch(Box<Watch>),
}

/// A piece of a worker's connection table, copied for the control thread.
#[derive(Debug)]
pub struct ConnectionChunk {
    /// The entry to begin with, 0 being the first; afterwards, the entry to go on with, or [`ConnectionChunk::END`].
    pub next: u32,
    /// At most [`ConnectionChunk::SIZE`]; its memory comes with it.
    pub connections: Vec<Connection>,
    /// The same of IPv6, which come behind all of IPv4.
    pub connections6: Vec<Connection6>,
    /// Those whose sides are of different families, which come last.
    pub connections_across: Vec<ConnectionAny>,
    /// The worker's coarse time of the copy.
    pub now: crate::units::Millis,
}

impl ConnectionChunk {
    pub const SIZE: usize = 256;
    pub const END: u32 = u32::MAX;
    /// Added to the numbers of IPv6 entries.
    pub const V6: u32 = 1 << 30;
    /// Added to the numbers of entries whose sides are of different families.
    pub const ACROSS: u32 = 2 << 30;
    /// The bits of an entry's own number.
    pub const NUMBER: u32 = Self::V6 - 1;

    pub fn new() -> Self {
        ConnectionChunk {
            next: 0,
            connections: Vec::with_capacity(Self::SIZE),
            connections6: Vec::with_capacity(Self::SIZE),
            connections_across: Vec::with_capacity(Self::SIZE),
            now: Default::default(),
        }
    }
}

impl Default for ConnectionChunk {
    fn default() -> Self {
        Self::new()
    }
}

/// The queues between one worker and the control thread.
#[derive(Debug)]
pub struct Mailbox {
    pub events: ArrayQueue<Event>,
    pub orders: ArrayQueue<Order>,
    pub answers: ArrayQueue<Box<ConnectionChunk>>,
    /// What the connection log hears of the worker's connections: there from the first moment on that it is configured.
    pub records: OnceLock<Arc<Records>>,
}

impl Mailbox {
    /// Tells the control thread what a neighbour said, if the queue has room for news of its kind: a flood of forged packets
    /// neither displaces answers nor keeps workers from asking for next hops.
    pub fn tell(&self, port: PortId, heard: Heard, news: News) {
        if self.has_room(news.quarters()) {
            let _ = self.events.push(Event::Heard { port, heard });
        }
    }

    /// Tells the control thread of a router; of the worth of a stranger.
    pub fn tell_router(&self, port: PortId, address: Ipv6Addr, lifetime: Duration) {
        if self.has_room(News::Stranger.quarters()) {
            let _ = self.events.push(Event::Router {
                port,
                address,
                lifetime,
            });
        }
    }

    /// Tells the control thread that a router asks which groups the port listens to; of the worth of a stranger.
    pub fn tell_query(&self, port: PortId, longest: Duration) {
        if self.has_room(News::Stranger.quarters()) {
            let _ = self.events.push(Event::Query { port, longest });
        }
    }

    /// Asks the control thread to find or confirm a next hop; false if the queue has no room for that.
    pub fn want(&self, port: PortId, address: IpAddr) -> bool {
        self.has_room(3) && self.events.push(Event::Wanted { port, address }).is_ok()
    }

    fn has_room(&self, quarters: usize) -> bool {
        self.events.len() < self.events.capacity() / 4 * quarters
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Mailbox {
            events: ArrayQueue::new(1024),
            orders: ArrayQueue::new(1024),
            answers: ArrayQueue::new(16),
            records: OnceLock::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_flood_of_one_kind_of_news_leaves_room_for_what_is_worth_more() {
        let mailbox = Mailbox::default();
        let repr = arp::Repr {
            operation: arp::REQUEST,
            sender_mac: Mac([2, 0, 0, 0, 0, 9]),
            sender_ip: Ipv4Addr::new(10, 0, 0, 9),
            target_mac: Mac::default(),
            target_ip: Ipv4Addr::new(10, 0, 0, 1),
        };
        let flood = |news: Option<News>, filled: usize| {
            for _ in 0..10_000 {
                match news {
                    Some(news) => mailbox.tell(PortId(0), Heard::by_arp(&repr, false), news),
                    None => drop(mailbox.want(PortId(0), repr.sender_ip.into())),
                }
            }
            assert_eq!(mailbox.events.len(), filled, "after a flood of {news:?}");
        };
        flood(Some(News::Stranger), 256);
        flood(Some(News::Claim), 512);
        flood(Some(News::Stranger), 512);
        flood(None, 768);
        flood(Some(News::Claim), 768);
        // However many next hops are wanted, what is known of them gets in.
        flood(Some(News::Answer), 1024);
    }
}

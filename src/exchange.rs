//! What a worker and the control thread say to each other. Bounded queues without locks, memory from the start:
//! neither side ever waits. An event that finds its queue full is lost, and raised again by the next packet.

use crate::conn::{Connection, Connection6};
use crate::units::PortId;
use crate::wire::{Mac, arp};
use crossbeam_queue::ArrayQueue;
use std::net::IpAddr;

/// From a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Packets are waiting for this next hop, or its address should be confirmed.
    Wanted { port: PortId, address: IpAddr },
    /// An ARP packet arrived that tells of a neighbour, or claims an address of weir's own.
    Arp { port: PortId, repr: arp::Repr },
}

/// What an ARP packet has to say: the less it is worth, the less of the queue of events it may fill.
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

/// To a worker.
#[derive(Debug)]
pub enum Order {
    /// Send an ARP request.
    Ask {
        port: PortId,
        to: Mac,
        source: IpAddr,
        target: IpAddr,
    },
    /// Send a gratuitous ARP for an address of weir's own.
    Announce { port: PortId, address: IpAddr },
    /// Copy live connections, from entry `chunk.next` on.
    CopyConnections(Box<ConnectionChunk>),
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
    /// The worker's coarse time of the copy.
    pub now: crate::units::Millis,
}

impl ConnectionChunk {
    pub const SIZE: usize = 256;
    pub const END: u32 = u32::MAX;
    /// Added to the numbers of IPv6 entries.
    pub const V6: u32 = 1 << 31;

    pub fn new() -> Self {
        ConnectionChunk {
            next: 0,
            connections: Vec::with_capacity(Self::SIZE),
            connections6: Vec::with_capacity(Self::SIZE),
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
}

impl Mailbox {
    /// Tells the control thread of an ARP packet, if the queue has room for news of its kind: a flood of forged packets
    /// neither displaces answers nor keeps workers from asking for next hops.
    pub fn tell(&self, port: PortId, repr: arp::Repr, news: News) {
        if self.has_room(news.quarters()) {
            let _ = self.events.push(Event::Arp { port, repr });
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
                    Some(news) => mailbox.tell(PortId(0), repr, news),
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

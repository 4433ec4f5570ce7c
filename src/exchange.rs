//! What a worker and the control thread say to each other. Bounded queues without locks, memory from the start:
//! neither side ever waits. An event that finds its queue full is lost, and raised again by the next packet.

use crate::conn::Connection;
use crate::units::PortId;
use crate::wire::{Mac, arp};
use crossbeam_queue::ArrayQueue;
use std::net::Ipv4Addr;

/// From a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Packets are waiting for this next hop, or its address should be confirmed.
    Wanted { port: PortId, address: Ipv4Addr },
    /// An ARP packet arrived that tells of a neighbour.
    Arp { port: PortId, repr: arp::Repr },
}

/// To a worker.
#[derive(Debug)]
pub enum Order {
    /// Send an ARP request.
    Ask {
        port: PortId,
        to: Mac,
        source: Ipv4Addr,
        target: Ipv4Addr,
    },
    /// Send a gratuitous ARP for an address of weir's own.
    Announce { port: PortId, address: Ipv4Addr },
    /// Copy live connections, from entry `chunk.next` on.
    CopyConnections(Box<ConnectionChunk>),
}

/// A piece of a worker's connection table, copied for the control thread.
#[derive(Debug)]
pub struct ConnectionChunk {
    /// The entry to begin with; afterwards, the entry to go on with, or [`ConnectionChunk::END`].
    pub next: u32,
    /// At most [`ConnectionChunk::SIZE`]; its memory comes with it.
    pub connections: Vec<Connection>,
    /// The worker's coarse time of the copy.
    pub now: crate::units::Millis,
}

impl ConnectionChunk {
    pub const SIZE: usize = 256;
    pub const END: u32 = u32::MAX;

    pub fn new() -> Self {
        ConnectionChunk {
            next: 0,
            connections: Vec::with_capacity(Self::SIZE),
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

impl Default for Mailbox {
    fn default() -> Self {
        Mailbox {
            events: ArrayQueue::new(1024),
            orders: ArrayQueue::new(1024),
            answers: ArrayQueue::new(16),
        }
    }
}

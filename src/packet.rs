//! A packet, whatever holds it: a DPDK mbuf, or plain memory in a replay or a test.
//!
//! The director is generic over [`Packet`], so every caller gets its own copy of the whole path
//! with these calls inlined.

use crate::net::TagPriorities;
use crate::units::{PortId, RealId, WorkerId};
use crate::verdict::{PacketContext, Verdict};
use arrayvec::ArrayVec;

/// The most packets that travel together.
pub const BURST: usize = 64;

/// Up to [`BURST`] received packets.
pub type Burst<P> = ArrayVec<P, BURST>;

/// For what a worker hands a packet over to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// To the owner of new connections of its flow, which most probably has the connection.
    Find,
    /// To a worker that may have an older connection: the owner of new ones has looked for it in vain. What the workers
    /// asked before it have found.
    Ask(Taken),
    /// As `Ask`, and a connection that gives way is ended: no real server was left without one.
    Clear(Taken),
    /// To be decided on, with a new connection if it needs one.
    Make(Taken),
    /// As `Make`, with this real server or none: of the connections that may give way, one of its own was ended.
    Last(Option<RealId>),
    /// As `Make`, and a flow that may go on gives its local pair up for it: no worker has a free one.
    Take,
    /// A fragment, to the worker that gathers its datagram's: the only errand of a fragment without a [`Head`].
    Gather,
}

impl Errand {
    const KIND_BITS: u32 = 3;

    /// The number of no real server.
    const NONE: u32 = u32::MAX >> Self::KIND_BITS;

    /// For [`Self::from_number`].
    pub fn number(self) -> u32 {
        let (kind, taken) = match self {
            Errand::Find => (0, Taken::NONE),
            Errand::Ask(taken) => (1, taken),
            Errand::Clear(taken) => (2, taken),
            Errand::Make(taken) => (3, taken),
            Errand::Last(freed) => (4, Taken(freed.map_or(Self::NONE, |real| real.0))),
            Errand::Take => (5, Taken::NONE),
            Errand::Gather => (6, Taken::NONE),
        };
        kind | taken.0 << Self::KIND_BITS
    }

    /// The errand of a number that one was written as; `Find` of any other.
    pub fn from_number(number: u32) -> Errand {
        let taken = Taken(number >> Self::KIND_BITS);
        match number & ((1 << Self::KIND_BITS) - 1) {
            1 => Errand::Ask(taken),
            2 => Errand::Clear(taken),
            3 => Errand::Make(taken),
            4 => Errand::Last((taken.0 != Self::NONE).then_some(RealId(taken.0))),
            5 => Errand::Take,
            6 => Errand::Gather,
            _ => Errand::Find,
        }
    }

    /// The real servers that a new connection cannot have.
    pub fn taken(self) -> Taken {
        match self {
            Errand::Ask(taken) | Errand::Clear(taken) | Errand::Make(taken) => taken,
            Errand::Find | Errand::Last(_) | Errand::Take | Errand::Gather => Taken::NONE,
        }
    }
}

/// Real servers whose replies to a client could not be told from those of a connection that another worker has. Of more
/// than [`Taken::BITS`], some count as taken that are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken(u32);

impl Taken {
    pub const NONE: Taken = Taken(0);
    const BITS: u32 = u32::BITS - Errand::KIND_BITS;

    fn bit(real: RealId) -> u32 {
        1 << (real.0 % Self::BITS)
    }

    pub fn has(self, real: RealId) -> bool {
        self.0 & Self::bit(real) != 0
    }

    pub fn add(&mut self, real: RealId) {
        self.0 |= Self::bit(real);
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What the first fragment of a datagram tells of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub source_port: u16,
    pub destination_port: u16,
    /// TCP, UDP, or ICMP of an echo, which has its identifier in the place of the port of the side that asks. In IPv6, later
    /// fragments need not say it.
    pub protocol: u8,
    /// False of a UDP datagram without a checksum, and of the reply to an echo.
    pub has_checksum: bool,
}

impl Head {
    const HAS_CHECKSUM: u16 = 1 << 8;

    /// For [`Self::from_numbers`].
    pub fn numbers(self) -> (u32, u16) {
        let ports = u32::from(self.source_port) << 16 | u32::from(self.destination_port);
        let checksum = if self.has_checksum {
            Self::HAS_CHECKSUM
        } else {
            0
        };
        (ports, u16::from(self.protocol) | checksum)
    }

    /// The head of numbers that one was written as; some head of any others.
    pub fn from_numbers(ports: u32, rest: u16) -> Self {
        Head {
            source_port: (ports >> 16) as u16,
            destination_port: ports as u16,
            protocol: rest as u8,
            has_checksum: rest & Self::HAS_CHECKSUM != 0,
        }
    }
}

/// One Ethernet frame in one contiguous piece of memory. Dropping it frees it.
pub trait Packet: Sized {
    /// The frame, from the destination MAC address on.
    fn data(&self) -> &[u8];
    fn data_mut(&mut self) -> &mut [u8];
    /// The port that it came in by.
    fn port(&self) -> PortId;
    /// Makes the frame `len` bytes long: cuts its end off, or adds bytes of any value there.
    /// Returns false, and changes nothing, where the buffer has no room for that.
    fn resize(&mut self, len: usize) -> bool;
    /// Puts `count` bytes of any value before the frame's first. Returns false, and changes nothing, where the buffer has no
    /// room there.
    fn grow_front(&mut self, count: usize) -> bool;
    /// Removes the frame's first `count` bytes. Returns false, and changes nothing, unless at least one byte would be left.
    fn trim_front(&mut self, count: usize) -> bool;
    /// Notes on a packet for what it is handed over.
    fn set_errand(&mut self, errand: Errand);
    /// Returns what the worker that handed the packet over has noted; of a packet from a device, any value.
    fn errand(&self) -> Errand;
    /// Notes on a fragment what the first one of its datagram tells.
    fn set_head(&mut self, head: Head);
    /// Returns what was noted; of every other packet, any value.
    fn head(&self) -> Head;
    /// Notes the priorities of the VLAN tags that the frame came with.
    fn set_priorities(&mut self, priorities: TagPriorities);
    /// Returns what was noted; of a frame that came without tags, or is weir's own, 0.
    fn priorities(&self) -> TagPriorities;
    /// Brings the start of the frame into the cache.
    fn prefetch(&self);
}

/// Where a director's packets go and where it gets fresh ones. Never blocks.
pub trait Sink {
    type Packet: Packet;

    /// Sends a frame out of `port`: appends it to that port's transmit buffer.
    fn send(&mut self, port: PortId, packet: Self::Packet, kind: Sent);

    /// An empty packet of `port`, or none when the pool is exhausted.
    fn alloc(&mut self, port: PortId) -> Option<Self::Packet>;

    /// Hands a packet to the host behind `port`. False when it takes no more now; the packet is freed.
    fn local(&mut self, port: PortId, packet: Self::Packet, priority: Priority) -> bool;

    /// Hands a received packet to another worker, as it is. False when there is no room; the packet is freed.
    fn hand_over(&mut self, to: WorkerId, packet: Self::Packet) -> bool;

    /// Is called with every verdict, right after what was sent for it.
    #[inline(always)]
    fn decided(&mut self, _port: PortId, _verdict: Verdict, _context: PacketContext) {}
}

/// Which queue to the host a packet goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// That of the host's routing protocols, which is emptied first.
    First,
    /// That of everything else.
    Usual,
}

/// What a sent frame counts as, once the device has taken it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A received packet, sent on.
    Forwarded,
    /// A received packet, turned into its own answer.
    Answered,
    /// A frame of weir's own (a question for a neighbour).
    Originated,
}

impl Sent {
    pub const ALL: [Sent; 3] = [Sent::Forwarded, Sent::Answered, Sent::Originated];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_its_numbers() {
        for protocol in [6, 17] {
            for has_checksum in [false, true] {
                let head = Head {
                    source_port: 0xfffe,
                    destination_port: 53,
                    protocol,
                    has_checksum,
                };
                let (ports, rest) = head.numbers();
                assert_eq!(Head::from_numbers(ports, rest), head);
            }
        }
    }

    #[test]
    fn an_errand_is_its_number() {
        for reals in 0..4 {
            let mut taken = Taken::NONE;
            (0..reals).for_each(|n| taken.add(RealId(10 * n)));
            let errands = [
                Errand::Find,
                Errand::Ask(taken),
                Errand::Clear(taken),
                Errand::Make(taken),
                Errand::Last(Some(RealId(10 * reals))),
                Errand::Last(None),
                Errand::Take,
                Errand::Gather,
            ];
            for errand in errands {
                assert_eq!(Errand::from_number(errand.number()), errand);
            }
            (0..reals).for_each(|n| assert!(taken.has(RealId(10 * n))));
            assert_eq!(taken.is_empty(), reals == 0);
        }
    }
}

//! A packet, whatever holds it: a DPDK mbuf, or plain memory in a replay or a test.
//!
//! The director is generic over [`Packet`], so every caller gets its own copy of the whole path
//! with these calls inlined.

use crate::units::{PortId, WorkerId};
use crate::verdict::{Context, Verdict};
use arrayvec::ArrayVec;

/// The most packets that travel together.
pub const BURST: usize = 64;

/// Up to [`BURST`] received packets.
pub type Burst<P> = ArrayVec<P, BURST>;

/// For what a worker hands a packet over to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Errand {
    /// To the owner of new connections of its flow, which most probably has the connection.
    Find,
    /// To a worker that may have an older connection: the owner of new ones has looked for it in vain.
    Ask,
    /// To be decided on, with a new connection if it needs one.
    Make,
    /// As `Make`, and a flow that may go on gives its local pair up for it: no worker has a free one.
    Take,
}

impl Errand {
    /// The errand of a number that one was written as.
    pub fn from_number(number: u32) -> Errand {
        match number {
            1 => Errand::Ask,
            2 => Errand::Make,
            3 => Errand::Take,
            _ => Errand::Find,
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
    /// Notes on a packet for what it is handed over.
    fn set_errand(&mut self, errand: Errand);
    /// Returns what the worker that handed the packet over has noted; of a packet from a device, any value.
    fn errand(&self) -> Errand;
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

    /// Told of every verdict, right after whatever was sent for it.
    #[inline(always)]
    fn decided(&mut self, _port: PortId, _verdict: Verdict, _context: Context) {}
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
    /// A frame of weir's own (an ARP request).
    Originated,
}

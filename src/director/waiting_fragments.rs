//! Fragments that wait for the first one of their datagram, in queues of one memory that is reserved at start.

use crate::packet::Packet;

const NONE: u32 = u32::MAX;

/// The fragments of one datagram that wait, in the order they came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    first: u32,
    last: u32,
}

impl Queue {
    pub(super) const EMPTY: Queue = Queue {
        first: NONE,
        last: NONE,
    };

    pub(super) fn is_empty(self) -> bool {
        self.first == NONE
    }
}

struct Slot<P> {
    packet: Option<P>,
    next: u32,
}

/// All that wait.
pub(super) struct Waiting<P> {
    slots: Box<[Slot<P>]>,
    free: u32,
    bytes_left: usize,
    #[cfg(test)]
    room: (usize, usize),
}

impl<P> Waiting<P> {
    /// The memory that is reserved for so many, but for the frames' own, in bytes.
    pub(super) fn bytes(fragments: usize) -> usize {
        fragments * size_of::<Slot<P>>()
    }
}

impl<P: Packet> Waiting<P> {
    /// Room for so many, of so many bytes in all.
    pub(super) fn new(fragments: usize, bytes: usize) -> Self {
        let next = |n: usize| match n + 1 < fragments {
            true => n as u32 + 1,
            false => NONE,
        };
        let slot = |n| Slot {
            packet: None,
            next: next(n),
        };
        Waiting {
            slots: (0..fragments).map(slot).collect(),
            free: if fragments > 0 { 0 } else { NONE },
            bytes_left: bytes,
            #[cfg(test)]
            room: (fragments, bytes),
        }
    }

    /// Whether one more may wait, of so many bytes.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.free != NONE && bytes <= self.bytes_left
    }

    /// Puts a packet at the end of a queue. There must be room.
    pub(super) fn push(&mut self, queue: &mut Queue, packet: P) {
        let n = self.free;
        let slot = &mut self.slots[n as usize];
        self.free = std::mem::replace(&mut slot.next, NONE);
        self.bytes_left -= packet.data().len();
        slot.packet = Some(packet);
        match queue.last {
            NONE => queue.first = n,
            last => self.slots[last as usize].next = n,
        }
        queue.last = n;
    }

    /// Takes the first packet of a queue.
    pub(super) fn pop(&mut self, queue: &mut Queue) -> Option<P> {
        let n = queue.first;
        let slot = self.slots.get_mut(n as usize)?;
        let packet = slot.packet.take();
        queue.first = std::mem::replace(&mut slot.next, self.free);
        if queue.first == NONE {
            queue.last = NONE;
        }
        self.free = n;
        self.bytes_left += packet.as_ref().map_or(0, |packet| packet.data().len());
        packet
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let waiting = self.slots.iter().filter(|slot| slot.packet.is_some());
        let (mut n, mut free) = (self.free, 0);
        while let Some(slot) = self.slots.get(n as usize) {
            (n, free) = (slot.next, free + 1);
        }
        waiting.count() == 0 && (free, self.bytes_left) == self.room
    }
}

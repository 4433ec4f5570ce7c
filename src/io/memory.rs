//! Packets in plain memory: for replays and tests.

use crate::net::TagPriorities;
use crate::packet::{Errand, Head, Packet};
use crate::units::PortId;

/// What a packet may grow by, as an mbuf's tailroom lets it: enough for every answer that weir writes.
const TAILROOM: usize = 2048;
/// The bytes before a frame, as many as an mbuf has (`RTE_PKTMBUF_HEADROOM`).
const HEADROOM: usize = 128;

/// A frame on the heap.
#[derive(Clone, Debug)]
pub struct Memory {
    port: PortId,
    /// What the frame is in.
    buffer: Vec<u8>,
    /// Where it starts there; it ends where the buffer does.
    start: usize,
    /// The longest that the buffer may be.
    room: usize,
    /// [`Errand::number`], which is smaller than the errand: packets are moved from hand to hand.
    errand: u32,
    head: Head,
    priorities: TagPriorities,
}

impl Memory {
    /// A frame as it came in by `port`.
    pub fn new(port: PortId, frame: &[u8]) -> Self {
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(frame);
        Memory {
            port,
            room: buffer.len() + TAILROOM,
            buffer,
            start: HEADROOM,
            errand: Errand::Find.number(),
            head: Head::default(),
            priorities: TagPriorities::default(),
        }
    }

    /// Says which port it came in by.
    pub fn set_port(&mut self, port: PortId) {
        self.port = port;
    }
}

impl PartialEq for Memory {
    /// Whether the frames are equal, wherever in their buffers they are.
    fn eq(&self, other: &Self) -> bool {
        let of = |packet: &Self| (packet.port, packet.errand);
        of(self) == of(other) && self.data() == other.data()
    }
}

impl Eq for Memory {}

impl Packet for Memory {
    fn data(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..]
    }

    fn port(&self) -> PortId {
        self.port
    }

    fn resize(&mut self, len: usize) -> bool {
        let fits = self.start + len <= self.room;
        if fits {
            self.buffer.resize(self.start + len, 0);
        }
        fits
    }

    fn grow_front(&mut self, count: usize) -> bool {
        let fits = count <= self.start;
        if fits {
            self.start -= count;
        }
        fits
    }

    fn trim_front(&mut self, count: usize) -> bool {
        let fits = count < self.data().len();
        if fits {
            self.start += count;
        }
        fits
    }

    fn set_errand(&mut self, errand: Errand) {
        self.errand = errand.number();
    }

    fn errand(&self) -> Errand {
        Errand::from_number(self.errand)
    }

    fn set_head(&mut self, head: Head) {
        self.head = head;
    }

    fn head(&self) -> Head {
        self.head
    }

    fn set_priorities(&mut self, priorities: TagPriorities) {
        self.priorities = priorities;
    }

    fn priorities(&self) -> TagPriorities {
        self.priorities
    }

    fn prefetch(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn grows_up_to_its_tailroom_and_no_further() {
        let mut packet = Memory::new(PortId(1), &[7; 60]);
        assert!(packet.resize(60 + TAILROOM));
        assert!(!packet.resize(61 + TAILROOM));
        assert_eq!(
            packet.data().len(),
            60 + TAILROOM,
            "a refused size changes nothing"
        );
        assert!(packet.resize(10));
        assert_eq!((packet.data(), packet.port()), (&[7; 10][..], PortId(1)));
    }

    #[derive(Clone, Copy, Debug)]
    enum Change {
        Resize(usize),
        Grow(usize),
        Trim(usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (0..2500usize).prop_map(Change::Resize),
            (0..150usize).prop_map(Change::Grow),
            (0..150usize).prop_map(Change::Trim),
        ]
    }

    proptest! {
        /// It is what a list of bytes with that much room on either side would be.
        #[test]
        fn any_changes_of_length_keep_the_bytes_that_stay(
            frame in prop::collection::vec(any::<u8>(), 1..100),
            changes in prop::collection::vec(change(), 0..20),
        ) {
            let mut packet = Memory::new(PortId(0), &frame);
            let mut model = frame.clone();
            let (mut before, end) = (HEADROOM, HEADROOM + frame.len() + TAILROOM);
            for change in changes {
                let (done, fits) = match change {
                    Change::Resize(length) => {
                        let fits = before + length <= end;
                        if fits {
                            model.resize(length, 0);
                        }
                        (packet.resize(length), fits)
                    }
                    Change::Grow(count) => {
                        let fits = count <= before;
                        if fits {
                            before -= count;
                            // Of any value: what was there.
                            let now = packet.buffer[before..before + count].to_vec();
                            model.splice(0..0, now);
                        }
                        (packet.grow_front(count), fits)
                    }
                    Change::Trim(count) => {
                        let fits = count < model.len();
                        if fits {
                            before += count;
                            model.drain(..count);
                        }
                        (packet.trim_front(count), fits)
                    }
                };
                prop_assert_eq!(done, fits);
                prop_assert_eq!(packet.data(), &model[..]);
            }
        }
    }
}

//! Packets in plain memory: for replays and tests.

use crate::packet::{Errand, Packet};
use crate::units::PortId;

/// What a packet may grow by, as an mbuf's tailroom lets it: enough for every answer that weir writes.
const TAILROOM: usize = 2048;

/// A frame on the heap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    port: PortId,
    frame: Vec<u8>,
    longest: usize,
    /// [`Errand::number`], which is smaller than the errand: packets are moved from hand to hand.
    errand: u32,
}

impl Memory {
    /// A frame as it came in by `port`.
    pub fn new(port: PortId, frame: &[u8]) -> Self {
        Memory {
            port,
            frame: frame.to_vec(),
            longest: frame.len() + TAILROOM,
            errand: Errand::Find.number(),
        }
    }
}

impl Packet for Memory {
    fn data(&self) -> &[u8] {
        &self.frame
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.frame
    }

    fn port(&self) -> PortId {
        self.port
    }

    fn resize(&mut self, len: usize) -> bool {
        let fits = len <= self.longest;
        if fits {
            self.frame.resize(len, 0);
        }
        fits
    }

    fn set_errand(&mut self, errand: Errand) {
        self.errand = errand.number();
    }

    fn errand(&self) -> Errand {
        Errand::from_number(self.errand)
    }

    fn prefetch(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

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
}

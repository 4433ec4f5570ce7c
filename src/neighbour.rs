//! The neighbour table: which MAC address, out of which port, a next hop has.
//!
//! One writer (the control thread's resolver), any number of readers. A neighbour is one 64-bit word, so learning
//! or losing one is a single store that every worker sees, with nothing to publish. Slots are found by
//! (port, address) through an open-addressed index, and remembered by [`HopId`] afterwards. A slot is given to
//! another address only after every connection was told to forget its next hops
//! ([`crate::tables::Tables::route_generation`]) and every worker has passed a quiescent state.

use crate::units::{HopId, PortId};
use crate::wire::Mac;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The most neighbours.
pub const MAX_NEIGHBOURS: usize = 1 << 15;
const INDEX_SIZE: usize = MAX_NEIGHBOURS * 2;
const EMPTY: u32 = 0;
const DELETED: u32 = u32::MAX;

/// How far the resolution of a neighbour is (RFC 4861 section 7.3.2 has the same states for ND).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LinkState {
    /// Asked, no answer yet.
    Incomplete,
    /// Answered lately, or configured.
    Reachable,
    /// Answered once; whoever uses it asks for a confirmation.
    Stale,
    /// Did not answer.
    Failed,
}

impl LinkState {
    pub const fn name(self) -> &'static str {
        match self {
            LinkState::Incomplete => "incomplete",
            LinkState::Reachable => "reachable",
            LinkState::Stale => "stale",
            LinkState::Failed => "failed",
        }
    }
}

/// What a worker needs to send to a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub mac: Mac,
    pub port: PortId,
    pub state: LinkState,
}

impl Link {
    fn pack(self) -> u64 {
        let mut bytes = [0; 8];
        bytes[..6].copy_from_slice(&self.mac.0);
        bytes[6] = self.port.0;
        bytes[7] = self.state as u8;
        u64::from_be_bytes(bytes)
    }

    #[inline]
    fn unpack(word: u64) -> Link {
        let [mac @ .., port, state] = word.to_be_bytes();
        let state = match state {
            0 => LinkState::Incomplete,
            1 => LinkState::Reachable,
            2 => LinkState::Stale,
            _ => LinkState::Failed,
        };
        Link {
            mac: Mac(mac),
            port: PortId(port),
            state,
        }
    }

    /// Whether frames can be sent to it.
    #[inline]
    pub fn is_usable(&self) -> bool {
        matches!(self.state, LinkState::Reachable | LinkState::Stale)
    }
}

#[derive(Debug, Default)]
#[repr(align(16))]
struct Slot {
    link: AtomicU64,
    address: AtomicU32,
}

#[derive(Debug)]
pub struct NeighbourTable {
    slots: Box<[Slot]>,
    /// Slot number plus one, [`EMPTY`] or [`DELETED`].
    index: Box<[AtomicU32]>,
}

impl Default for NeighbourTable {
    fn default() -> Self {
        NeighbourTable {
            slots: (0..MAX_NEIGHBOURS).map(|_| Slot::default()).collect(),
            index: (0..INDEX_SIZE).map(|_| AtomicU32::new(EMPTY)).collect(),
        }
    }
}

impl NeighbourTable {
    #[inline]
    pub fn link(&self, hop: HopId) -> Link {
        Link::unpack(self.slots[hop.index()].link.load(Ordering::Relaxed))
    }

    /// The neighbour's IP address.
    pub fn address(&self, hop: HopId) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.slots[hop.index()].address.load(Ordering::Relaxed))
    }

    #[inline]
    pub fn find(&self, port: PortId, address: Ipv4Addr) -> Option<HopId> {
        for place in probe(port, address) {
            match self.index[place].load(Ordering::Acquire) {
                EMPTY => return None,
                DELETED => {}
                number => {
                    let hop = HopId((number - 1) as u16);
                    if self.address(hop) == address && self.link(hop).port == port {
                        return Some(hop);
                    }
                }
            }
        }
        None
    }

    /// Changes a neighbour. For the writer alone.
    pub fn set(&self, hop: HopId, link: Link) {
        self.slots[hop.index()]
            .link
            .store(link.pack(), Ordering::Relaxed);
    }

    /// Makes a free slot findable. For the writer alone.
    pub fn insert(&self, hop: HopId, address: Ipv4Addr, link: Link) {
        self.slots[hop.index()]
            .address
            .store(address.to_bits(), Ordering::Relaxed);
        self.set(hop, link);
        for place in probe(link.port, address) {
            if matches!(self.index[place].load(Ordering::Relaxed), EMPTY | DELETED) {
                // Release: whoever finds the slot sees its address and link.
                self.index[place].store(u32::from(hop.0) + 1, Ordering::Release);
                return;
            }
        }
    }

    /// Makes a slot unfindable. For the writer alone, who waits for a grace period before it reuses the slot.
    pub fn remove(&self, hop: HopId) {
        let number = u32::from(hop.0) + 1;
        for place in probe(self.link(hop).port, self.address(hop)) {
            match self.index[place].load(Ordering::Relaxed) {
                EMPTY => return,
                found if found == number => {
                    // Where nothing follows, nothing is searched for beyond: no mark is needed.
                    let next = self.index[(place + 1) % INDEX_SIZE].load(Ordering::Relaxed);
                    self.index[place].store(
                        if next == EMPTY { EMPTY } else { DELETED },
                        Ordering::Release,
                    );
                    return;
                }
                _ => {}
            }
        }
    }
}

/// The places of the index where a neighbour may be, nearest first; half of them are never taken.
fn probe(port: PortId, address: Ipv4Addr) -> impl Iterator<Item = usize> {
    let key = u64::from(address.to_bits()) << 8 | u64::from(port.0);
    let first = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize;
    (0..INDEX_SIZE).map(move |step| (first + step) % INDEX_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(port: u8, last: u8) -> Link {
        Link {
            mac: Mac([2, 0, 0, 0, 0, last]),
            port: PortId(port),
            state: LinkState::Reachable,
        }
    }

    #[test]
    fn a_neighbour_is_found_by_port_and_address() {
        let table = NeighbourTable::default();
        let address = Ipv4Addr::new(10, 0, 0, 1);
        table.insert(HopId(7), address, link(1, 9));
        assert_eq!(table.find(PortId(1), address), Some(HopId(7)));
        assert_eq!(table.find(PortId(0), address), None, "another port");
        assert_eq!(table.link(HopId(7)), link(1, 9));
    }

    #[test]
    fn removing_neighbours_hides_no_others() {
        let table = NeighbourTable::default();
        let address = |n: u16| Ipv4Addr::from_bits(0x0a00_0000 + u32::from(n) * 0x101);
        for n in 0..5_000 {
            table.insert(HopId(n), address(n), link(0, 1));
        }
        for n in (0..5_000).step_by(2) {
            table.remove(HopId(n));
        }
        for n in 0..5_000 {
            let expected = (n % 2 == 1).then_some(HopId(n));
            assert_eq!(table.find(PortId(0), address(n)), expected);
        }
    }
}

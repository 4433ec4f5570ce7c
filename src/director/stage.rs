//! The stages of a burst before its decisions: each goes over all of its packets, so that their cache misses overlap.

use super::parse::{Flow, Kind, Parsed, mend, parse_unusual, parse_usual};
use crate::arch::{GrowingArray, prefetch};
use crate::conn::Place;
use crate::conn::table::Lookup;
use crate::packet::{BURST, Burst, Packet};
use crate::stats::RealStats;
use crate::tables::{Port, Tables};

/// What the stages of a burst tell each other.
pub(super) struct Stage {
    pub slots: [Slot; BURST],
    /// What each packet is if it is no flow; its slot's kind is [`Kind::Unusual`] then.
    pub others: [Option<Parsed>; BURST],
}

/// What the stages tell each other of a flow's packet: one cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(super) struct Slot {
    pub flow: Flow,
    pub hash: u64,
    pub place: Place,
}

/// So many real servers' counters stay in the nearest cache: to fetch those of each packet ahead costs more than it saves.
const FEW_REALS: usize = 256;

impl Stage {
    pub fn new() -> Self {
        Stage {
            slots: [Slot::default(); BURST],
            others: [None; BURST],
        }
    }

    /// Parses the frames, and fetches the bucket of each flow's hash.
    #[inline(always)]
    pub fn parse<P: Packet>(&mut self, burst: &mut Burst<P>, tables: &Tables, lookup: &Lookup) {
        let mut any_to_mend = false;
        let slots = self.slots.iter_mut().zip(&mut self.others);
        for (packet, (slot, other)) in burst.iter().zip(slots) {
            let (frame, port) = (packet.data(), tables.port(packet.port()));
            if parse_usual(frame, port, &mut slot.flow) {
                *other = None;
            } else {
                any_to_mend |= parse_other(frame, port, &mut slot.flow, other);
            }
            // Of what is no flow, a former packet's: no harm is done.
            slot.hash = lookup.hash(&slot.flow.key);
            lookup.prefetch_bucket(slot.hash);
        }
        if any_to_mend {
            self.mend(burst, tables, lookup);
        }
    }

    /// Takes priority tags and trailers off, and parses the packets then.
    #[cold]
    fn mend<P: Packet>(&mut self, burst: &mut Burst<P>, tables: &Tables, lookup: &Lookup) {
        let slots = self.slots.iter_mut().zip(&mut self.others);
        for (packet, (slot, other)) in burst.iter_mut().zip(slots) {
            if *other != Some(Parsed::Mend) {
                continue;
            }
            let port = tables.port(packet.port());
            *other = match mend(packet, port) {
                Parsed::Flow(flow) => {
                    slot.flow = flow;
                    slot.hash = lookup.hash(&flow.key);
                    None
                }
                other => Some(other),
            };
        }
    }

    /// Guesses where each of the first `count` connections is, and fetches the entry.
    #[inline(always)]
    pub fn guess(&mut self, count: usize, lookup: &Lookup) {
        for slot in self.slots.iter_mut().take(count) {
            slot.place = lookup.guess(slot.hash);
        }
    }

    /// Finds the connections of the first `count` packets, and fetches the counters of their real servers. Returns whether
    /// there is a flow without one.
    #[inline(always)]
    pub fn find(&mut self, count: usize, lookup: &Lookup, reals: &GrowingArray<RealStats>) -> bool {
        let are_many = reals.used() > FEW_REALS;
        let mut any_new = false;
        for (slot, other) in self.slots.iter_mut().zip(&self.others).take(count) {
            match lookup.at(slot.place, &slot.flow.key) {
                Some(connection) => {
                    if are_many && let Some(stats) = reals.get(connection.real.index()) {
                        prefetch(stats);
                    }
                }
                None => any_new |= find_elsewhere(lookup, slot, other),
            }
        }
        any_new
    }
}

/// Parses what is not a usual frame. Returns whether it is to be mended.
#[cold]
#[inline(never)]
fn parse_other(frame: &[u8], port: &Port, flow: &mut Flow, other: &mut Option<Parsed>) -> bool {
    match parse_unusual(frame, port) {
        Parsed::Flow(parsed) => {
            (*flow, *other) = (parsed, None);
            false
        }
        parsed => {
            flow.kind = Kind::Unusual;
            *other = Some(parsed);
            parsed == Parsed::Mend
        }
    }
}

/// Looks for the connection of a packet that is not where it was guessed. Returns whether it is a flow without one.
#[cold]
#[inline(never)]
fn find_elsewhere(lookup: &Lookup, slot: &mut Slot, other: &Option<Parsed>) -> bool {
    slot.place = match other {
        None => lookup.place(slot.hash, &slot.flow.key),
        Some(_) => Place::NONE,
    };
    slot.place == Place::NONE && other.is_none()
}

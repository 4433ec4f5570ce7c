//! The stages of a burst before its decisions: each goes over all of its packets, so that their cache misses overlap.

use super::family::Wire;
use super::parse::{Flow, Kind, Parsed, mend, parse_unusual};
use crate::arch::{GrowingArray, cold_path, prefetch};
use crate::conn::table;
use crate::conn::{Connection, Place};
use crate::packet::{BURST, Burst, Packet};
use crate::stats::RealLine;
use crate::tables::{Port, Tables};

/// A table of connections, to look many keys up in.
type Lookup<'a, F> = table::Lookup<'a, Connection<<F as super::family::Family>::Key>>;

/// What the stages of a burst tell each other.
pub(super) struct Stage<F: Wire> {
    pub slots: [Slot<F>; BURST],
    /// What each packet is whose slot's kind is [`Kind::Other`]; of the others, anything.
    pub others: [Parsed<F>; BURST],
    /// Packets of the other family are another stage's.
    knows_both: bool,
}

/// What the stages tell each other of a flow's packet: one cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(super) struct Slot<F: Wire> {
    pub flow: Flow<F>,
    pub hash: u64,
    pub place: Place,
    /// Its place in the stage.
    pub number: u8,
}

/// So many real servers' counters stay in the nearest cache: to fetch those of each packet ahead costs more than it saves.
const FEW_REALS: usize = 256;

impl<F: Wire> Stage<F> {
    /// `knows_both`: packets of the other family have a stage of their own.
    pub(super) fn new(knows_both: bool) -> Box<Self> {
        Box::new(Stage {
            slots: std::array::from_fn(|n| Slot {
                number: n as u8,
                ..Slot::default()
            }),
            others: [Parsed::Arp; BURST],
            knows_both,
        })
    }

    /// Parses the frames, and fetches the bucket of each flow's hash. Returns how many come before the first one of the
    /// other family's.
    #[inline(always)]
    pub(super) fn parse<P: Packet>(
        &mut self,
        burst: &mut Burst<P>,
        tables: &Tables,
        lookup: &Lookup<F>,
    ) -> usize {
        let Some(first) = burst.first() else {
            return 0;
        };
        let mut foreign = None;
        let mut any_to_mend = false;
        // Most often that of all packets.
        let mut port = (first.port(), tables.port(first.port()));
        for (packet, slot) in burst.iter().zip(&mut self.slots) {
            if packet.port() != port.0 {
                cold_path();
                port = (packet.port(), tables.port(packet.port()));
            }
            let frame = packet.data();
            if !F::parse_usual(frame, port.1, &mut slot.flow) {
                cold_path();
                match parse_other(frame, port.1, slot, &mut self.others, self.knows_both) {
                    Other::Parsed => {}
                    Other::ToMend => any_to_mend = true,
                    Other::Foreign => {
                        foreign = Some(slot.number);
                        break;
                    }
                }
            }
            // Of what is no flow, a former packet's: no harm is done.
            slot.hash = lookup.hash(&slot.flow.key);
            lookup.prefetch_bucket(slot.hash);
        }
        let count = foreign.map_or(burst.len(), usize::from);
        if any_to_mend {
            self.mend(&mut burst[..count], tables, lookup);
        }
        count
    }

    /// Takes priority tags and trailers off, and parses the packets then.
    #[cold]
    fn mend<P: Packet>(&mut self, burst: &mut [P], tables: &Tables, lookup: &Lookup<F>) {
        let slots = self.slots.iter_mut().zip(&mut self.others);
        for (packet, (slot, other)) in burst.iter_mut().zip(slots) {
            if slot.flow.kind != Kind::Other || *other != Parsed::Mend {
                continue;
            }
            match mend(packet, tables.port(packet.port())) {
                Parsed::Flow(flow) => {
                    slot.flow = flow;
                    slot.hash = lookup.hash(&flow.key);
                }
                parsed => *other = parsed,
            }
        }
    }

    /// Guesses where each of the first `count` connections is, and fetches the entry.
    #[inline(always)]
    pub(super) fn guess(&mut self, count: usize, lookup: &Lookup<F>) {
        for slot in &mut self.slots[..count] {
            slot.place = lookup.guess(slot.hash);
        }
    }

    /// Finds the connections of the first `count` packets, and fetches the counters of their real servers. Returns whether
    /// there is a flow without one.
    #[inline(always)]
    pub(super) fn find(
        &mut self,
        count: usize,
        lookup: &Lookup<F>,
        reals: &GrowingArray<RealLine>,
    ) -> bool {
        let are_many = reals.used() > FEW_REALS;
        let mut any_new = false;
        for slot in &mut self.slots[..count] {
            match lookup.at(slot.place, &slot.flow.key) {
                Some(connection) => {
                    if are_many && let Some(stats) = reals.get(connection.real.index()) {
                        prefetch(stats);
                    }
                }
                None => any_new |= find_elsewhere(lookup, slot),
            }
        }
        any_new
    }
}

/// What is done with a frame that is not a usual one.
enum Other {
    Parsed,
    ToMend,
    /// Nothing: its packet is of the other family.
    Foreign,
}

/// Parses what is not a usual frame.
#[cold]
#[inline(never)]
fn parse_other<F: Wire>(
    frame: &[u8],
    port: &Port,
    slot: &mut Slot<F>,
    others: &mut [Parsed<F>; BURST],
    knows_both: bool,
) -> Other {
    if knows_both && F::is_foreign(frame) {
        return Other::Foreign;
    }
    match parse_unusual(frame, port) {
        Parsed::Flow(flow) => {
            slot.flow = flow;
            Other::Parsed
        }
        parsed => {
            slot.flow.kind = Kind::Other;
            others[usize::from(slot.number)] = parsed;
            match parsed {
                Parsed::Mend => Other::ToMend,
                _ => Other::Parsed,
            }
        }
    }
}

/// Looks for the connection of a packet that is not where it was guessed. Returns whether it is a flow without one.
#[cold]
#[inline(never)]
fn find_elsewhere<F: Wire>(lookup: &Lookup<F>, slot: &mut Slot<F>) -> bool {
    let is_flow = slot.flow.kind != Kind::Other;
    slot.place = match is_flow {
        true => lookup.place(slot.hash, &slot.flow.key),
        false => Place::NONE,
    };
    is_flow && slot.place == Place::NONE
}

//! Owns the times at which something is due about a neighbour: one for each slot, soonest first.

use crate::units::{HopId, Time};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Entries that a later change made void are passed over.
    queue: BinaryHeap<Reverse<(Time, HopId)>>,
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// When something is due.
    due: Option<Time>,
    /// The earliest time at which the queue has it.
    queued: Option<Time>,
}

impl Agenda {
    /// Something is due about a neighbour at this time, and nothing before.
    pub(super) fn set(&mut self, hop: HopId, due: Time) {
        let wanted = self.slots.len().max(hop.index() + 1);
        self.slots.resize(wanted, Slot::default());
        let slot = &mut self.slots[hop.index()];
        slot.due = Some(due);
        // What is put off stays in the queue at its earlier time, once, and is queued again when that has come.
        if slot.queued.is_none_or(|queued| due < queued) {
            slot.queued = Some(due);
            self.queue.push(Reverse((due, hop)));
        }
    }

    /// Nothing is due about a neighbour.
    pub(super) fn clear(&mut self, hop: HopId) {
        if let Some(slot) = self.slots.get_mut(hop.index()) {
            slot.due = None;
        }
    }

    /// Whether nothing is due about a neighbour.
    pub(super) fn is_clear(&self, hop: HopId) -> bool {
        let slot = self.slots.get(hop.index());
        slot.is_none_or(|slot| slot.due.is_none())
    }

    /// When to look next.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.queue.peek().map(|Reverse((due, _))| *due)
    }

    /// Takes off what was due first, if that was not after `now`: when it was due, and about which neighbour.
    pub(super) fn pop(&mut self, now: Time) -> Option<(Time, HopId)> {
        while let Some(&Reverse((due, hop))) = self.queue.peek()
            && due <= now
        {
            self.queue.pop();
            let slot = &mut self.slots[hop.index()];
            if slot.queued == Some(due) {
                slot.queued = None;
            }
            match slot.due {
                Some(later) if later > due => self.set(hop, later),
                Some(now) if now == due => {
                    slot.due = None;
                    return Some((due, hop));
                }
                _ => {}
            }
        }
        None
    }
}

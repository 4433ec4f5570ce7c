//! Expiry: a hand that sweeps over the connection entries and ends those that have been silent for too long.
//!
//! A packet only notes the time in its entry. The hand goes round once in a second, slower in a large table, and a
//! packet of a connection that should have ended finds it ended, wherever the hand is. In memory order: the processor
//! fetches ahead, and a sweep of a million entries costs a few milliseconds, spread over two seconds.

use super::family::Family;
use super::{Core, Turn};
use crate::arch::prefetch;
use crate::conn::{ConnId, State};
use crate::packet::{Packet, Sink};
use crate::tables::Tables;
use crate::units::{Millis, Time};
use arrayvec::ArrayVec;

/// Where the hand stands.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    hand: u32,
    /// Entries that the hand should have passed by now.
    owed: u32,
    last: Time,
}

impl Sweep {
    /// Two entries more are to be passed for every new one, so that the table is gone round in time however fast it
    /// fills.
    pub(super) fn connection_made(&mut self) {
        self.owed = self.owed.saturating_add(2);
    }

    /// There are connections from before: no time has passed for them that the hand should have gone round in.
    pub(super) fn begin_at(&mut self, now: Time) {
        self.last = now;
    }

    /// Whether the hand is behind the clock.
    pub(super) fn is_behind(&self) -> bool {
        self.owed > 0
    }
}

/// The hand moves at most once in so many nanoseconds …
const STEP: u64 = 1_000_000;
/// … and passes at most so many entries then.
const MAX_STEP: u32 = 2048;
/// Entries passed in a second, in a table too large to go round in one.
const PER_SECOND: u64 = 1_000_000;

/// Entries looked at together.
const TOGETHER: usize = 64;

impl<F: Family, P: Packet> Core<F, P> {
    pub(super) fn sweep<S: Sink<Packet = P>>(&mut self, turn: &mut Turn<'_, S>) {
        let (tables, now) = (turn.tables, turn.now);
        // Compared as a number: this comes by in every loop.
        let elapsed = now.nanos().saturating_sub(self.sweep.last.nanos());
        if elapsed < STEP && self.sweep.owed == 0 {
            return;
        }
        // Ages would be taken for shorter ones (`Millis`).
        if u128::from(elapsed) > Millis::MAX_SPAN.as_nanos() {
            self.live.end_all();
        }
        let size = self.live.table.high_water();
        let rate = u64::from(size).min(PER_SECOND);
        let owed = u64::from(self.sweep.owed)
            + 1
            + (u128::from(rate) * u128::from(elapsed) / 1_000_000_000) as u64;
        // A whole round is the most that can be owed.
        self.sweep.owed = owed.min(u64::from(size)) as u32;
        self.sweep.last = now;
        self.live.clock = now;
        let step = self.sweep.owed.min(MAX_STEP);
        self.sweep.owed -= step;
        let is_watching = self.counters().signs.used() > 0;
        let is_timing = self.counters().first_bytes.used() > 0;
        let is_reminding = !self.reminders.is_empty();
        let mut left = step;
        while left > 0 {
            let count = left.min(TOGETHER as u32);
            left -= count;
            // Twice over a few entries, so that the buckets and counters of all that end are fetched together.
            let mut over = ArrayVec::<ConnId, TOGETHER>::new();
            for _ in 0..count {
                if self.sweep.hand >= size {
                    self.sweep.hand = 0;
                }
                let id = ConnId(self.sweep.hand);
                self.sweep.hand += 1;
                // Its number comes round again while a connection may be idle.
                let connection = self.live.table.get_mut(id);
                if connection.route_generation != tables.route_generation {
                    connection.forget_hops(tables.route_generation);
                }
                if is_watching {
                    self.note_silence(id, now);
                }
                if is_timing {
                    self.live.await_no_longer(id, now);
                }
                if is_reminding && self.reminders.is_due(id, now.millis()) {
                    self.remind(id, turn);
                }
                if self.should_end(id, tables, now) {
                    self.live.table.prefetch_links(id);
                    let real = self.live.table.get(id).real;
                    if let Some(stats) = self.counters().reals.get(real.index()) {
                        prefetch(stats);
                    }
                    over.push(id);
                }
            }
            for id in over {
                // A table smaller than this is gone round more than once.
                if self.should_end(id, tables, now) {
                    self.expire(id, turn);
                }
            }
        }
    }

    fn should_end(&self, id: ConnId, tables: &Tables, now: Time) -> bool {
        // A connection of a removed real server stays too: its next packet is to be answered with a reset.
        let connection = self.live.table.get(id);
        connection.state != State::None && tables.timing.is_expired(connection, now.millis())
    }
}

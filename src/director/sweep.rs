//! Expiry: a hand that sweeps over the connection entries and ends those that have been silent for too long.
//!
//! A packet only notes the time in its entry. The hand goes round once in a second, slower in a large table, and a
//! packet of a connection that should have ended finds it ended, wherever the hand is. In memory order: the processor
//! fetches ahead, and a sweep of a million entries costs a few milliseconds, spread over two seconds.

use super::Director;
use crate::conn::entry::NO_TEMPLATE;
use crate::conn::{ConnId, State, Table};
use crate::packet::Packet;
use crate::stats::WorkerStats;
use crate::tables::Tables;
use crate::units::{Millis, Time};
use arrayvec::ArrayVec;
use std::time::Duration;

/// Where the hand stands.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    hand: u32,
    /// Entries that the hand should have passed by now.
    owed: u32,
    last: Time,
    /// Where the next search for an entry to give up begins.
    victim: u32,
}

impl Sweep {
    /// Two entries more are to be passed for every new one, so that the table is gone round in time however fast it
    /// fills.
    pub(super) fn connection_made(&mut self) {
        self.owed = self.owed.saturating_add(2);
    }
}

/// The hand moves at most once in this time …
const STEP: Duration = Duration::from_millis(1);
/// … and passes at most so many entries then.
const MAX_STEP: u32 = 2048;
/// Entries passed in a second, in a table too large to go round in one.
const PER_SECOND: u64 = 1_000_000;

/// Entries among which one is given up, when the table is full …
const CANDIDATES: u32 = 64;
/// … and the most that are looked at where established connections stand close together.
const MAX_CANDIDATES: u32 = 1024;

/// Entries looked at together.
const TOGETHER: usize = 64;

impl<P: Packet> Director<P> {
    pub(super) fn sweep(&mut self, tables: &Tables, now: Time) {
        let elapsed = now.since(self.sweep.last);
        if elapsed < STEP && self.sweep.owed == 0 {
            return;
        }
        let size = self.connections.high_water();
        let rate = u64::from(size).min(PER_SECOND);
        let owed = u64::from(self.sweep.owed)
            + 1
            + (u128::from(rate) * elapsed.as_nanos() / 1_000_000_000) as u64;
        // A whole round is the most that can be owed.
        self.sweep.owed = owed.min(u64::from(size)) as u32;
        self.sweep.last = now;
        let step = self.sweep.owed.min(MAX_STEP);
        self.sweep.owed -= step;
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
                if self.should_end(id, tables, now) {
                    self.connections.prefetch_links(id);
                    self.prefetch_counters(id);
                    over.push(id);
                }
            }
            for id in over {
                // A table smaller than this is gone round more than once.
                if self.should_end(id, tables, now) {
                    self.end(id);
                }
            }
        }
    }

    /// Gives one connection of a full table up for a new one: of the next few entries the half-open one that was silent
    /// for longest, else such a closing one. False where there is neither: nobody loses an established connection.
    #[cold]
    pub(super) fn reclaim(&mut self) -> bool {
        let size = self.connections.high_water();
        let mut oldest: Option<(bool, Millis, ConnId)> = None;
        for looked in 0..MAX_CANDIDATES.min(size) {
            if looked >= CANDIDATES && oldest.is_some() {
                break;
            }
            if self.sweep.victim >= size {
                self.sweep.victim = 0;
            }
            let id = ConnId(self.sweep.victim);
            self.sweep.victim += 1;
            let connection = self.connections.get(id);
            let is_half_open = connection.state.is_half_open();
            if !is_half_open && !connection.state.is_reusable() {
                continue;
            }
            let seen = connection.last_seen;
            let is_better = oldest.is_none_or(|(half_open, oldest, _)| {
                is_half_open && !half_open || is_half_open == half_open && oldest.since(seen) > 0
            });
            if is_better {
                oldest = Some((is_half_open, seen, id));
            }
        }
        let Some((.., id)) = oldest else {
            return false;
        };
        self.end(id);
        self.counters().evicted.add(1);
        true
    }

    /// Whether the hand is behind the clock: a replay, whose clock jumps, sweeps on until it is not.
    pub fn is_behind(&self) -> bool {
        self.sweep.owed > 0
    }

    fn should_end(&self, id: ConnId, tables: &Tables, now: Time) -> bool {
        // A connection of a removed real server stays too: its next packet is to be answered with a reset.
        let connection = self.connections.get(id);
        connection.state != State::None && connection.is_expired(&tables.timeouts, now.millis())
    }
    /// Ends a live connection.
    pub(super) fn end(&mut self, id: ConnId) {
        end(&mut self.connections, &self.counters, id);
    }
}

/// Takes a live connection out of the table and the counts.
pub(super) fn end(connections: &mut Table, counters: &WorkerStats, id: ConnId) {
    let connection = *connections.get(id);
    connections.remove(id);
    counters.connections.set(connections.len() as u64);
    if connection.is_template() {
        return;
    }
    if let Some(real) = counters.reals.get(connection.real.index()) {
        if connection.state.is_active() {
            real.active.dec();
        } else {
            real.inactive.dec();
        }
    }
    if connection.template != NO_TEMPLATE {
        let template = connections.get_mut(ConnId(connection.template));
        template.controlled = template.controlled.saturating_sub(1);
    }
}

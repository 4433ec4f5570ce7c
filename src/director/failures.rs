//! What speaks for a real server that is watched (`passive` of its service), and what against it: counted where it shows, once for
//! each connection. The control thread decides what follows.
//!
//! Only what the real server does, or leaves undone, counts: a client that does not finish its handshake has been answered, and
//! where no replies are seen, their absence says nothing.

use super::family::Family;
use super::live::ANSWER_MS;
use super::parse::Flow;
use super::{Core, has_handshake};
use crate::conn::{ConnId, Connection, Found, State};
use crate::packet::Packet;
use crate::stats::Failure;
use crate::units::Time;

/// A client that has had no answer to its SYN for so long repeats it; what comes sooner is a duplicate.
const REPEATED_MS: u32 = 500;

impl<F: Family, P: Packet> Core<F, P> {
    /// Counts that a connection of a watched real server fails as it begins: its real server refuses it, or the client has to repeat its SYN.
    #[cold]
    pub(super) fn note_handshake(&mut self, found: Found, flow: &Flow<F>, now: Time) {
        let connection = self.live.table.get(found.id);
        if !connection.state.is_handshake() || connection.is_answered() {
            return;
        }
        let silent = now.millis().since(connection.last_seen);
        match (found.reply, flow.flags) {
            (true, flags) if flags.rst() => self.note_failure(found.id, Failure::Refused),
            (false, flags) if flags.opens() && silent >= REPEATED_MS && connection.is_two_way() => {
                self.note_failure(found.id, Failure::NoSynAck);
            }
            _ => {}
        }
    }

    /// Counts that a watched real server answers a new connection.
    #[cold]
    pub(super) fn note_answer(&self, connection: &Connection<F::Key>, flow: &Flow<F>) {
        let refuses = has_handshake(flow) && flow.flags.rst();
        if !refuses {
            self.counters().answered(connection.real);
        }
    }

    /// Counts that a connection has failed, once for each, if its real server is watched.
    #[cold]
    pub(super) fn note_failure(&mut self, id: ConnId, failure: Failure) {
        let connection = self.live.table.get_mut(id);
        let real = connection.real;
        let line = self.live.counters.reals.get(real.index());
        if line.is_some_and(|line| line.standing.is_watched()) && connection.set_failed() {
            self.live.counters.failed(real, failure);
        }
    }

    /// Counts that a real server has left a connection without an answer.
    #[cold]
    pub(super) fn note_silence(&mut self, id: ConnId, now: Time) {
        let connection = self.live.table.get(id);
        if connection.is_unanswered(ANSWER_MS, now.millis()) {
            let failure = match connection.state {
                State::Udp => Failure::NoAnswer,
                _ => Failure::NoSynAck,
            };
            self.note_failure(id, failure);
        }
    }
}

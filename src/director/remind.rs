//! Headers of the PROXY protocol that real servers have not acknowledged, and when each is sent again.
//!
//! A client's own segments bring a lost header again, but a client that waits for its real server to speak first sends none. So
//! the header is kept, in the segment that told it, and sent again as any sender does (RFC 6298 section 5): after a second, and
//! after twice as long each time, until it is acknowledged or has been sent so often in vain. The hand of [`sweep`](super::sweep)
//! comes by once a second.
//!
//! A place for each few of the table's entries, as headers are acknowledged within a round trip: one that is waited for keeps its
//! place, and another connection's then goes without.

use super::family::Family;
use super::{Core, Turn};
use crate::conn::{ConnId, State};
use crate::forward::insert::{self, Place};
use crate::forward::rewrite::Layout;
use crate::packet::{Packet, Sink};
use crate::units::Millis;

/// Headers that are waited for at a time, at most.
const PLACES: usize = 1024;
/// Bytes of a segment with nothing but a header: one with more extension headers is not kept.
const LONGEST: usize = 192;
/// RFC 6298 section 2.1: the first retransmission time-out, in milliseconds.
const FIRST_MS: u32 = 1000;
/// The last one is a minute after the first segment.
const TRIES: u8 = 6;

pub(super) struct Reminders {
    /// Both are empty until a service tells its real servers of clients.
    waiting: Vec<Waiting>,
    frames: Vec<[u8; LONGEST]>,
    /// How many are waited for.
    count: usize,
}

/// What is waited for in a place.
#[derive(Clone, Copy, Default)]
struct Waiting {
    /// None: the place is free.
    id: Option<ConnId>,
    /// The number of the header's first byte.
    first: u32,
    /// When it was sent last.
    sent: Millis,
    /// How often it was sent again.
    tries: u8,
    length: u8,
    layout: Layout,
}

impl Reminders {
    pub(super) fn new() -> Self {
        Reminders {
            waiting: Vec::with_capacity(PLACES),
            frames: Vec::with_capacity(PLACES),
            count: 0,
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a connection's header is due to be sent again.
    #[inline]
    pub(super) fn is_due(&self, id: ConnId, now: Millis) -> bool {
        let waiting = self.waiting.get(place_of(id));
        waiting.is_some_and(|it| it.id == Some(id) && now.since(it.sent) >= FIRST_MS << it.tries)
    }

    /// A connection's header is waited for no longer.
    pub(super) fn forget(&mut self, id: ConnId) {
        if let Some(waiting) = self.waiting.get_mut(place_of(id))
            && waiting.id == Some(id)
        {
            waiting.id = None;
            self.count -= 1;
        }
    }

    /// The connection that has the place of another.
    fn holder(&self, id: ConnId) -> Option<(ConnId, u32)> {
        let waiting = self.waiting.get(place_of(id))?;
        Some((waiting.id?, waiting.first))
    }

    /// Waits for the acknowledgement of a header before the data of `frame`. The place is free, or the connection's own.
    fn wait(
        &mut self,
        id: ConnId,
        first: u32,
        (frame, place): (&[u8], Place),
        header: &[u8],
        now: Millis,
    ) {
        if self.waiting.is_empty() {
            // The memory is there already.
            self.waiting.resize(PLACES, Waiting::default());
            self.frames.resize(PLACES, [0; LONGEST]);
        }
        self.forget(id);
        let length = insert::alone_length(frame, place, header);
        let Some(length) = length.filter(|length| *length <= LONGEST) else {
            return;
        };
        let own = &mut self.frames[place_of(id)][..length];
        if insert::write_alone(own, frame, place, header).is_some() {
            self.waiting[place_of(id)] = Waiting {
                id: Some(id),
                first,
                sent: now,
                tries: 0,
                length: length as u8,
                layout: place.layout,
            };
            self.count += 1;
        }
    }
}

fn place_of(id: ConnId) -> usize {
    id.0 as usize % PLACES
}

impl<F: Family, P: Packet> Core<F, P> {
    /// A header goes to a connection's real server in front of the data of a client's segment, in `frame`.
    pub(super) fn await_header(
        &mut self,
        id: ConnId,
        first: u32,
        frame: (&[u8], Place),
        header: &[u8],
        now: Millis,
    ) {
        // Anyone may send a blind ACK, which is not sent again.
        let is_proved = self.live.table.get(id).state == State::Established;
        let holder = self.reminders.holder(id);
        let is_taken =
            holder.is_some_and(|(other, first)| other != id && self.awaits(other, first));
        if !is_proved || is_taken {
            return;
        }
        if let Some((other, _)) = holder {
            self.reminders.forget(other);
        }
        self.reminders.wait(id, first, frame, header, now);
    }

    /// Whether a real server has been told by a header that begins with that number, and has not acknowledged it.
    fn awaits(&self, id: ConnId, first: u32) -> bool {
        let connection = self.live.table.get(id);
        let real = self.live.counters.reals.get(connection.real.index());
        connection.state == State::Established
            && real.is_some_and(|real| !real.ends_connections())
            && self.live.told(id).awaits(first)
    }

    /// Sends a connection's header again, whose time has come.
    #[cold]
    pub(super) fn remind<S: Sink<Packet = P>>(&mut self, id: ConnId, turn: &mut Turn<'_, S>) {
        let place = place_of(id);
        let waiting = &mut self.reminders.waiting[place];
        let before = *waiting;
        waiting.sent = turn.now.millis();
        waiting.tries += 1;
        if before.tries == TRIES || !self.awaits(id, before.first) {
            return self.reminders.forget(id);
        }
        let mut connection = *self.live.table.get(id);
        let Some(way) = self.way(&mut connection, false, turn.tables) else {
            return;
        };
        let frame = &self.reminders.frames[place][..before.length.into()];
        if !way.has_failed(turn.tables)
            && let Some(mut own) = turn.sink.alloc(way.port)
            && own.resize(frame.len())
        {
            own.data_mut().copy_from_slice(frame);
            self.send_own(own, before.layout, &connection, way, turn);
        }
    }
}

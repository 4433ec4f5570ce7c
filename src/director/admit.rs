//! Comes here: a packet of no connection, to a service with `allow`, `deny` or `limits`. Whether its client may begin one.

use super::family::Family;
use super::live::Room;
use super::parse::Flow;
use super::{Core, Turn, has_handshake};
use crate::admission::{Guard, Refusal, client};
use crate::conn::{ConnId, Key};
use crate::packet::{Packet, Sink};
use crate::units::{ServiceId, Time};
use crate::verdict::DropReason;

/// Of the connections made last so many are looked at for one that is half-open.
const LOOKS: usize = 16;

impl<F: Family, P: Packet> Core<F, P> {
    /// Why a packet of no connection is dropped; none: it may go on. `opens`: it may begin a connection, and is asked for the limits;
    /// what goes on with one that has no entry here is not.
    #[cold]
    pub(super) fn is_refused<S: Sink<Packet = P>>(
        &mut self,
        guard: &Guard,
        service: ServiceId,
        flow: &Flow<F>,
        opens: bool,
        turn: &mut Turn<'_, S>,
    ) -> Option<DropReason> {
        let now = turn.now;
        let address = flow.key.source().into();
        let (unwelcome, who) = (guard.is_unwelcome(address), client(address));
        let why = match unwelcome {
            None if opens => guard.is_beyond(service, who, now),
            _ => unwelcome,
        };
        let full = || match guard.limits.connections {
            Some(most) if opens && self.shared.stats.connections(service) >= most => Some(most),
            _ => None,
        };
        let why = match (why, full()) {
            (Some(why), _) => why,
            (None, None) => return None,
            (None, Some(most)) => match self.give_up_half_open(guard, service, flow, most, turn) {
                Room::Yes => return None,
                Room::Later => return Some(DropReason::SynFlood),
                Room::No => Refusal::Connections,
            },
        };
        guard.tally.share(self.worker).refuse(why, who, now);
        Some(why.reason())
    }

    /// Why a SYN that may begin another connection in the place of a half-closed one is dropped, by the rates of its service; none: it
    /// goes on, and they count it.
    #[cold]
    pub(super) fn begins_again_too_fast(
        &self,
        guard: &Guard,
        service: ServiceId,
        flow: &Flow<F>,
        now: Time,
    ) -> Option<DropReason> {
        let who = client(flow.key.source().into());
        let why = guard.is_too_fast(service, who, now);
        match why {
            Some(why) => guard.tally.share(self.worker).refuse(why, who, now),
            None => guard.begun_again(service, who, self.worker, now),
        }
        why.map(Refusal::reason)
    }

    /// Gives up one of the connections that a service at its limit has made last, if one of them is half-open: the oldest first. A
    /// flood of made-up senders so keeps no client out that comes again.
    fn give_up_half_open<S: Sink<Packet = P>>(
        &mut self,
        guard: &Guard,
        service: ServiceId,
        flow: &Flow<F>,
        most: u32,
        turn: &mut Turn<'_, S>,
    ) -> Room {
        let now = turn.now.millis();
        let Some(recent) = guard.tally.share(self.worker).recent.get() else {
            return Room::No;
        };
        let syn = has_handshake(flow).then(|| self.live.table.hash(&flow.key));
        let places = (most / self.shared.steering.workers() as u32).max(1);
        for _ in 0..LOOKS {
            let Some(id) = recent.oldest() else {
                return Room::No;
            };
            let Some(held) = self.live.unproven(ConnId(id), service, now) else {
                recent.forget_oldest();
                continue;
            };
            let room = self.live.give_up(held, places, syn, now);
            if room == Room::Yes {
                recent.forget_oldest();
                self.reset_given_up(turn.tables, turn.sink);
            }
            return room;
        }
        Room::No
    }

    /// A client has begun a connection of a service that counts them.
    #[cold]
    pub(super) fn note_begun(
        &mut self,
        guard: &Guard,
        service: ServiceId,
        id: ConnId,
        flow: &Flow<F>,
        now: Time,
    ) {
        let who = client(flow.key.source().into());
        if let Some(clients) = guard.begun(service, who, self.worker, now) {
            self.live.count_clients(service, clients);
        }
        if let Some(recent) = guard.tally.share(self.worker).recent.get() {
            recent.put(id.0);
        }
    }
}

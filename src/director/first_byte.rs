//! How long real servers take to answer, of services whose scheduler goes by it, or that have `histograms`: from the SYN to the
//! SYN-ACK, and from the first byte of a connection's first request to the first byte of its reply.
//!
//! What a packet of a known connection goes by has no room for that, and must not pay for it. So as long as a moment is waited
//! for, the connection's next hop in that direction is not remembered: its packets take the way of unusual ones, which looks whether it
//! has come. From then on they are as those of any other connection. What is noted is beside the table
//! ([`WorkerStats::begun`](crate::stats::WorkerStats::begun)), by the entry's place.

use super::family::Family;
use super::flow::Numbers;
use super::live::Live;
use super::parse::Flow;
use super::{Core, is_tcp};
use crate::conn::{ConnId, Connection, Found, Key, State};
use crate::net::protocol;
use crate::packet::Packet;
use crate::stats::LONGEST;
use crate::units::{RealId, Time};

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Nothing,
    /// The first request of a connection whose SYN came at this time; before that its SYN-ACK.
    Request(Time),
    /// The reply to a request that has come at this time.
    Reply(Time),
}

impl Awaited {
    fn is_reply(self) -> bool {
        matches!(self, Awaited::Reply(_))
    }

    fn to_bits(self) -> u64 {
        // The last bit says which: what is left has room for 292 years.
        match self {
            Awaited::Nothing => 0,
            Awaited::Request(since) => since.nanos() << 1 | 1,
            Awaited::Reply(since) => since.nanos().max(1) << 1,
        }
    }

    fn from_bits(bits: u64) -> Self {
        match bits {
            0 => Awaited::Nothing,
            bits if bits & 1 == 1 => Awaited::Request(Time::from_nanos(bits >> 1)),
            bits => Awaited::Reply(Time::from_nanos(bits >> 1)),
        }
    }
}

impl<F: Family> Live<F> {
    fn awaited(&self, id: ConnId) -> Awaited {
        let bits = self.counters.begun[F::TABLE].get(id.0);
        bits.map_or(Awaited::Nothing, Awaited::from_bits)
    }

    fn set_awaited(&self, id: ConnId, connection: &Connection<F::Key>, next: Awaited) {
        let begun = &self.counters.begun[F::TABLE];
        let Some(before) = begun.get(id.0).map(Awaited::from_bits) else {
            return;
        };
        begun.set(id.0, next.to_bits());
        let cells = self.counters.first_bytes.get(connection.real.index());
        if let Some(cells) = cells.filter(|_| connection.state == State::Udp) {
            match (before.is_reply(), next.is_reply()) {
                (false, true) => cells.waiting.inc(),
                (true, false) => cells.waiting.dec(),
                _ => {}
            }
        }
    }

    /// A connection whose first request may be timed has ended.
    #[cold]
    pub(super) fn await_nothing(&self, id: ConnId, connection: &Connection<F::Key>) {
        self.set_awaited(id, connection, Awaited::Nothing);
    }

    /// The sweep comes by: what has had no answer for long enough is waited for no longer.
    #[cold]
    pub(super) fn await_no_longer(&self, id: ConnId, now: Time) {
        if let Awaited::Reply(since) = self.awaited(id)
            && now.since(since) >= LONGEST
        {
            let connection = self.table.get(id);
            if let Some(cells) = self.counters.first_bytes.get(connection.real.index()) {
                cells.unanswered(LONGEST, now.millis());
            }
            self.set_awaited(id, connection, Awaited::Nothing);
        }
    }

    /// Remembers the next hops that a copy of a connection has found. `is_timed`: those excepted by which it would miss what it
    /// waits for.
    pub(super) fn remember_hops(&mut self, id: ConnId, from: &Connection<F::Key>, is_timed: bool) {
        self.table.get_mut(id).remember_hops(from);
        if is_timed {
            self.withhold_hops(id);
        }
    }

    #[cold]
    fn withhold_hops(&mut self, id: ConnId) {
        let awaited = self.awaited(id);
        let connection = self.table.get_mut(id);
        match awaited {
            Awaited::Nothing => {}
            Awaited::Request(_) => connection.forget_hops(connection.route_generation),
            Awaited::Reply(_) => connection.set_hop(true, None),
        }
    }
}

impl<F: Family, P: Packet> Core<F, P> {
    /// Begins to time the first request of a new connection. Of UDP the datagram that makes the connection is that request.
    #[cold]
    pub(super) fn begin_timing(&self, id: ConnId, flow: &Flow<F>, now: Time) {
        let awaited = match flow.key.protocol() {
            protocol::TCP => Awaited::Request(now),
            protocol::UDP => Awaited::Reply(now),
            // Of SCTP it would be the kernel's time, for the handshake.
            _ => Awaited::Nothing,
        };
        self.live.set_awaited(id, self.live.table.get(id), awaited);
    }

    /// A packet of a connection whose first request may be timed, and is not yet answered. `flow` is not of a later fragment.
    /// `is_first`: it is the first packet of the real server's.
    #[cold]
    pub(super) fn time(&self, packet: &P, flow: &Flow<F>, found: Found, is_first: bool, now: Time) {
        let awaited = self.live.awaited(found.id);
        if awaited == Awaited::Nothing {
            return;
        }
        let connection = self.live.table.get(found.id);
        let Some(cells) = self.counters().first_bytes.get(connection.real.index()) else {
            return;
        };
        let of = |real: RealId| {
            let told = self.counters().reals.get(real.index());
            told.map(|told| (told.standing.service(), real))
        };
        let tcp = is_tcp(flow);
        if let Awaited::Request(since) = awaited
            && is_first
            && flow.flags.syn()
            && let Some(of) = of(connection.real)
        {
            (self.counters()).took(of, |times| &times.connect, now.since(since));
        }
        let has_data = !tcp || Numbers::of(packet.data(), flow).has_data(flow.flags);
        let ends = tcp && (flow.flags.rst() || flow.flags.fin());
        let next = match (awaited, found.reply) {
            (Awaited::Request(_), false)
                if has_data && !flow.flags.rst() && connection.is_answered() =>
            {
                Awaited::Reply(now)
            }
            // The real server speaks first, or one of both ends it.
            (Awaited::Request(_), reply) if ends || reply && has_data => Awaited::Nothing,
            (Awaited::Reply(since), true) if has_data && !flow.flags.rst() => {
                cells.answered(now.since(since), now.millis());
                if let Some(of) = of(connection.real) {
                    (self.counters()).took(of, |times| &times.first_byte, now.since(since));
                }
                Awaited::Nothing
            }
            // The client gives up.
            (Awaited::Reply(since), false) if tcp && flow.flags.rst() => {
                cells.unanswered(now.since(since), now.millis());
                Awaited::Nothing
            }
            // The real server does.
            (Awaited::Reply(_), true) if ends => Awaited::Nothing,
            _ => awaited,
        };
        if next != awaited {
            self.live.set_awaited(found.id, connection, next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_awaited_is_read_as_it_is_written() {
        for awaited in [
            Awaited::Nothing,
            Awaited::Request(Time::default()),
            Awaited::Request(Time::from_nanos(u64::MAX >> 1)),
            Awaited::Reply(Time::from_nanos(1)),
            Awaited::Reply(Time::from_nanos(u64::MAX >> 1)),
        ] {
            assert_eq!(Awaited::from_bits(awaited.to_bits()), awaited);
        }
    }
}

//! What the connection log hears of connections: that they begin, and end.
//!
//! When one began is beside the table ([`WorkerStats::logged`](crate::stats::WorkerStats::logged)), by the entry's place, which has
//! no room for it. Where no log is configured nothing of this is called.

use super::family::Family;
use super::live::Live;
use crate::conn::{ConnId, Connection, Key, State};
use crate::connection_log::{Cause, Event, Record, Records};
use crate::stats::Established;
use crate::units::{Millis, ServiceId};
use std::net::IpAddr;

/// What is known beside an entry: 0, where it began before the log did.
const UNKNOWN: u64 = 0;
/// It is none of those that are logged.
const UNLOGGED: u64 = 1;
/// Added to the milliseconds when it began.
const FIRST: u64 = 2;

impl<F: Family> Live<F> {
    /// A connection of `service` has begun.
    #[cold]
    pub(super) fn log_start(&self, records: &Records, id: ConnId, service: ServiceId) {
        let connection = self.table.get(id);
        if connection.is_template() {
            return;
        }
        let now = self.millis(connection.last_seen);
        let is_logged = self.is_logged(records, connection, service);
        let known = match records.is_on() {
            false => UNKNOWN,
            true if is_logged => now.saturating_add(FIRST),
            true => UNLOGGED,
        };
        self.counters.logged[F::TABLE].set(id.0, known);
        if is_logged {
            records.push(self.record(id, connection, service, Event::Start, (now, Some(now))));
        }
    }

    /// A connection has ended; its place is another's from now on.
    #[cold]
    pub(super) fn log_end(
        &self,
        records: &Records,
        id: ConnId,
        connection: &Connection<F::Key>,
        cause: Cause,
    ) {
        let beside = &self.counters.logged[F::TABLE];
        let known = beside.get(id.0).unwrap_or(UNKNOWN);
        if known != UNKNOWN {
            beside.set(id.0, UNKNOWN);
        }
        let real = self.counters.reals.get(connection.real.index());
        let Some(standing) = real.map(|real| &real.standing) else {
            return;
        };
        let service = standing.service();
        let start = match known {
            UNLOGGED => return,
            UNKNOWN if !self.is_logged(records, connection, service) => return,
            UNKNOWN => None,
            known => Some(known - FIRST),
        };
        let cause = match connection.state {
            State::FinWait | State::TimeWait | State::CloseWait | State::LastAck => Cause::Fin,
            _ if standing.ends_connections() => match standing.established() {
                Established::Removed => Cause::RealRemoved,
                _ => Cause::RealDown,
            },
            State::Close => Cause::Reset,
            State::SctpShutdownSent
            | State::SctpShutdownReceived
            | State::SctpShutdownAckSent
            | State::SctpRejected
            | State::SctpClosed => Cause::Closed,
            _ => cause,
        };
        // The clock may be a millisecond behind the packet that ends it.
        let last = self.millis(connection.last_seen);
        let now = (self.clock.nanos() / 1_000_000).max(last);
        records.push(self.record(id, connection, service, Event::End(cause), (now, start)));
    }

    fn is_logged(
        &self,
        records: &Records,
        connection: &Connection<F::Key>,
        service: ServiceId,
    ) -> bool {
        let stats = self.counters.services.get(service.index());
        stats.is_none_or(|stats| stats.is_unlogged.get() == 0)
            && records.takes(self.table.hash(&connection.request))
    }

    /// A time near the clock's, in milliseconds.
    fn millis(&self, time: Millis) -> u64 {
        let now = self.clock.nanos() / 1_000_000;
        let ahead = time.0.wrapping_sub(self.clock.millis().0) as i32;
        now.saturating_add_signed(ahead.into())
    }

    fn record(
        &self,
        id: ConnId,
        connection: &Connection<F::Key>,
        service: ServiceId,
        event: Event,
        (at, start): (u64, Option<u64>),
    ) -> Record {
        let (request, reply) = (&connection.request, &connection.reply);
        let end = |address: F::Address, port| -> (IpAddr, u16) { (address.into(), port) };
        // A place has one connection in a millisecond, but for floods: those that are told apart by nothing end at once.
        let number = u64::from(self.worker.0) << 56
            | (F::TABLE as u64) << 54
            | u64::from(id.0) << 24
            | start.unwrap_or(0) & 0xff_ffff;
        Record {
            event,
            id: number,
            at,
            start,
            last: self.millis(connection.last_seen),
            service,
            real: connection.real,
            worker: self.worker,
            protocol: request.protocol(),
            state: connection.state.name(),
            client: end(request.source(), request.source_port()),
            destination: end(request.destination(), request.destination_port()),
            server: end(reply.source(), reply.source_port()),
            local: (connection.has_local_pair())
                .then(|| end(reply.destination(), reply.destination_port())),
            is_translated: connection.translates(),
        }
    }
}

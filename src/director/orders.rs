//! What the control thread orders a worker to do: to ask for a neighbour, to announce an address or ask who else has it, to
//! tell of groups, to copy connections, to look at packets.

use super::{Director, Turn};
use crate::conn::{Connection, Key, Table};
use crate::exchange::{ConnectionChunk, Order};
use crate::packet::{Packet, Sent, Sink};
use crate::tables::Tables;
use crate::units::{PortId, Time};
use crate::wire::{Mac, build, build_nd, mld};
use std::net::IpAddr;

impl<P: Packet> Director<P> {
    /// Obeys one order: a worker never spends long on them.
    pub(super) fn obey<S: Sink<Packet = P>>(&mut self, turn: &mut Turn<'_, S>) {
        let (tables, now) = (turn.tables, turn.now);
        let Some(order) = self.v4.core.mailbox.orders.pop() else {
            return;
        };
        match order {
            Order::Ask {
                port,
                to,
                source,
                target,
            } => {
                let write = |mac, frame: &mut [u8]| match (source, target) {
                    (IpAddr::V4(source), IpAddr::V4(target)) => {
                        build::arp_request(frame, to, mac, source, target)
                    }
                    (IpAddr::V6(source), IpAddr::V6(target)) => {
                        let to = (to != Mac::BROADCAST).then_some(to);
                        build_nd::solicitation(frame, to, mac, source, target)
                    }
                    (_, _) => None,
                };
                originate(tables, port, turn.sink, write);
            }
            Order::Announce { port, address } => {
                originate(tables, port, turn.sink, |mac, frame| match address {
                    IpAddr::V4(address) => build::gratuitous_arp(frame, mac, address),
                    IpAddr::V6(address) => {
                        let is_router = tables.is_routers(port, address.into());
                        build_nd::announcement(frame, mac, address, is_router)
                    }
                });
            }
            Order::Probe { port, address } => {
                originate(tables, port, turn.sink, |mac, frame| {
                    build_nd::duplicate_probe(frame, mac, address)
                });
            }
            Order::Report {
                port,
                source,
                record,
                groups,
            } => {
                originate(tables, port, turn.sink, |mac, frame| {
                    mld::report(frame, mac, source, record, &groups)
                });
            }
            Order::Watch(watch) => self.watch = Some(watch),
            Order::CopyConnections(mut chunk) => {
                self.copy_connections(&mut chunk, now);
                // Full only if the control thread fetches no answers: then it misses none.
                let _ = self.v4.core.mailbox.answers.push(chunk);
            }
        }
    }

    fn copy_connections(&self, chunk: &mut ConnectionChunk, now: Time) {
        chunk.now = now.millis();
        chunk.connections.clear();
        chunk.connections6.clear();
        chunk.connections_across.clear();
        let next = chunk.next & ConnectionChunk::NUMBER;
        chunk.next = match chunk.next - next {
            0 => copy(self.connections(), next, &mut chunk.connections)
                .unwrap_or(ConnectionChunk::V6),
            ConnectionChunk::V6 => self
                .connections6()
                .and_then(|table| copy(table, next, &mut chunk.connections6))
                .map_or(ConnectionChunk::ACROSS, |next| next | ConnectionChunk::V6),
            _ => self
                .connections_across()
                .and_then(|table| copy(table, next, &mut chunk.connections_across))
                .map_or(ConnectionChunk::END, |next| next | ConnectionChunk::ACROSS),
        };
    }
}

/// The longest frame that is written here.
const MAX_LEN: usize = if mld::MAX_LEN > build_nd::MAX_LEN {
    mld::MAX_LEN
} else {
    build_nd::MAX_LEN
};

/// Sends a frame of weir's own. `write` gets the port's MAC address, and returns the frame's length.
fn originate<S: Sink>(
    tables: &Tables,
    port: PortId,
    sink: &mut S,
    write: impl FnOnce(Mac, &mut [u8]) -> Option<usize>,
) {
    let Some(mut packet) = sink.alloc(port) else {
        return;
    };
    if packet.resize(MAX_LEN)
        && let Some(length) = write(tables.port(port).mac, packet.data_mut())
        && packet.resize(length)
    {
        sink.send(port, packet, Sent::Originated);
    }
}

/// Copies the live connections of some entries from `next` on: looks at a bounded number of them, however few are live.
/// Returns the entry to go on with, if there is one.
fn copy<K: Key>(
    table: &Table<Connection<K>>,
    mut next: u32,
    connections: &mut Vec<Connection<K>>,
) -> Option<u32> {
    let end = table.high_water();
    let stop = end.min(next.saturating_add(4 * ConnectionChunk::SIZE as u32));
    while next < stop && connections.len() < ConnectionChunk::SIZE {
        connections.extend(table.live(next));
        next += 1;
    }
    (next < end).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::{Address, State};
    use crate::director::{Room, Shared, family::Family, live::Live};
    use crate::exchange::Mailbox;
    use crate::forward::MODES;
    use crate::io::memory::Memory;
    use crate::net::protocol;
    use crate::stats::Stats;
    use crate::steering::{DEFAULT_KEY, Steering};
    use crate::units::{RealId, ServiceId, WorkerId};
    use std::sync::Arc;

    fn fill<F: Family>(live: &mut Live<F>, connections: u16) {
        let at = F::Address::UNSPECIFIED;
        for port in 0..connections {
            let key = F::Key::new(at, port, at, 80, protocol::TCP);
            let translation = MODES[0].translation(&key, (at, 80), None);
            let mut connection = Connection::new(key, translation, RealId(0));
            connection.state = State::Established;
            let hash = live.table.hash(&key);
            live.add(connection, hash, None, ServiceId(0)).unwrap();
        }
    }

    fn client_ports<K: Key>(connections: &[Connection<K>]) -> impl Iterator<Item = u16> {
        connections.iter().map(|it| it.request.source_port())
    }

    /// The client ports of all connections that are copied, chunk after chunk: of each kind.
    fn ports(director: &Director<Memory>) -> [Vec<u16>; 3] {
        let mut chunk = ConnectionChunk::new();
        let mut ports = [const { Vec::new() }; 3];
        while chunk.next != ConnectionChunk::END {
            director.copy_connections(&mut chunk, Time::default());
            let [v4, v6, across] = &mut ports;
            let before = v4.len() + v6.len() + across.len();
            v4.extend(client_ports(&chunk.connections));
            v6.extend(client_ports(&chunk.connections6));
            across.extend(client_ports(&chunk.connections_across));
            let copied = v4.len() + v6.len() + across.len() - before;
            assert!(copied <= ConnectionChunk::SIZE);
        }
        ports
    }

    #[test]
    fn the_connections_of_all_kinds_are_copied_each_once() {
        for (counts, has_v6, has_crossing) in [
            ([0, 0, 0], true, true),
            ([700, 0, 0], true, true),
            ([0, 700, 0], true, true),
            ([0, 0, 700], true, true),
            ([300, 600, 300], true, true),
            ([300, 300, 0], true, false),
            ([300, 0, 0], false, false),
        ] {
            let steering = Steering::new(DEFAULT_KEY, 1);
            let shared = Shared::new(Arc::new(Stats::new(1).unwrap()), steering, 1);
            let room = Room {
                v4: 1000,
                v6: if has_v6 { 1000 } else { 0 },
                crossing: if has_crossing { 1000 } else { 0 },
                ..Room::default()
            };
            let mailbox = Arc::new(Mailbox::default());
            let mut director = Director::new(WorkerId(0), room, shared, mailbox).unwrap();
            fill(&mut director.v4.core.live, counts[0]);
            if let Some(v6) = &mut director.v6 {
                fill(&mut v6.core.live, counts[1]);
            }
            if let Some(crossing) = &mut director.crossing {
                fill(&mut crossing.live, counts[2]);
            }
            let expected = counts.map(|count| (0..count).collect::<Vec<_>>());
            assert_eq!(ports(&director), expected, "{counts:?}");
            // The gauge of the worker counts all.
            let counted = director.v4.core.counters().connections.get();
            assert_eq!(counted, u64::from(counts.iter().sum::<u16>()));
        }
    }
}

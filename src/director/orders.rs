//! What the control thread orders a worker to do: to ask for a neighbour, to announce an address, to copy connections.

use super::{Core, Turn};
use crate::exchange::{ConnectionChunk, Order};
use crate::packet::{Packet, Sent, Sink};
use crate::tables::Tables;
use crate::units::{PortId, Time};
use crate::wire::Mac;

impl<P: Packet> Core<P> {
    /// Obeys one order: a worker never spends long on them.
    pub(super) fn obey<S: Sink<Packet = P>>(&mut self, turn: &mut Turn<'_, S>) {
        let (tables, now) = (turn.tables, turn.now);
        let Some(order) = self.mailbox.orders.pop() else {
            return;
        };
        match order {
            Order::Ask {
                port,
                to,
                source,
                target,
            } => {
                self.send_arp(tables, port, turn.sink, |mac, frame| {
                    crate::wire::build::arp_request(frame, to, mac, source, target)
                });
            }
            Order::Announce { port, address } => {
                self.send_arp(tables, port, turn.sink, |mac, frame| {
                    crate::wire::build::gratuitous_arp(frame, mac, address)
                });
            }
            Order::CopyConnections(mut chunk) => {
                self.copy_connections(&mut chunk, now);
                // Full only if the control thread fetches no answers: then it misses none.
                let _ = self.mailbox.answers.push(chunk);
            }
        }
    }

    fn send_arp<S: Sink<Packet = P>>(
        &self,
        tables: &Tables,
        port: PortId,
        sink: &mut S,
        write: impl FnOnce(Mac, &mut [u8]) -> Option<usize>,
    ) {
        let Some(mut packet) = sink.alloc(port) else {
            return;
        };
        if packet.resize(64)
            && let Some(length) = write(tables.port(port).mac, packet.data_mut())
            && packet.resize(length)
        {
            sink.send(port, packet, Sent::Originated);
        }
    }

    fn copy_connections(&self, chunk: &mut ConnectionChunk, now: Time) {
        chunk.now = now.millis();
        chunk.connections.clear();
        let end = self.live.table.high_water();
        let mut next = chunk.next;
        // Looks at a bounded number of entries, however few of them are live.
        let stop = end.min(next.saturating_add(4 * ConnectionChunk::SIZE as u32));
        while next < stop && chunk.connections.len() < ConnectionChunk::SIZE {
            chunk.connections.extend(self.live.table.live(next));
            next += 1;
        }
        chunk.next = if next >= end {
            ConnectionChunk::END
        } else {
            next
        };
    }
}

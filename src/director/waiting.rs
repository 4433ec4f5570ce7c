//! Packets that wait for their next hop's MAC address: a few for each hop, few hops, not for long.

use crate::forward::cut;
use crate::forward::rewrite::set_macs;
use crate::neighbour::{LinkState, NeighbourTable};
use crate::packet::{Packet, Sent, Sink};
use crate::stats::WorkerStats;
use crate::tables::Tables;
use crate::units::{HopId, PortId, Time};
use crate::verdict::DropReason;
use arrayvec::ArrayVec;
use std::net::IpAddr;
use std::time::Duration;

/// Packets kept for one next hop, and next hops that are waited for.
pub const PACKETS_PER_HOP: usize = 16;
pub const HOPS: usize = 256;
/// Longer than the resolver asks: it ends a wait whose question or answer was lost on the way.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Waiting<P> {
    hops: Vec<Hop<P>>,
}

struct Hop<P> {
    port: PortId,
    address: IpAddr,
    since: Time,
    /// With what each counts as when it is sent: only a received one counts as queued.
    packets: ArrayVec<(P, Sent), PACKETS_PER_HOP>,
}

impl<P: Packet> Waiting<P> {
    pub(super) fn new() -> Self {
        Waiting {
            hops: Vec::with_capacity(HOPS),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hops.is_empty()
    }

    /// Keeps a packet, all but its MAC addresses done. False when there is no room; the packet is freed. `kind`: what it counts
    /// as when it is sent.
    pub(super) fn push(
        &mut self,
        (port, address): (PortId, IpAddr),
        packet: P,
        kind: Sent,
        now: Time,
    ) -> bool {
        let is_it = |hop: &Hop<P>| hop.port == port && hop.address == address;
        let place = match self.hops.iter().position(is_it) {
            Some(place) => place,
            None if self.hops.len() == HOPS => return false,
            None => {
                self.hops.push(Hop {
                    port,
                    address,
                    since: now,
                    packets: ArrayVec::new(),
                });
                self.hops.len() - 1
            }
        };
        self.hops[place].packets.try_push((packet, kind)).is_ok()
    }

    /// Sends what need wait no longer, and drops what waited in vain.
    pub(super) fn poll<S: Sink<Packet = P>>(
        &mut self,
        tables: &Tables,
        stats: &WorkerStats,
        now: Time,
        sink: &mut S,
    ) {
        let mut n = 0;
        while let Some(hop) = self.hops.get(n) {
            match outcome(&tables.neighbours, hop.port, hop.address) {
                Attempt::Wait if now.since(hop.since) < PATIENCE => n += 1,
                Attempt::Send(id) => {
                    let link = tables.neighbours.link(id);
                    let source = tables.port(link.port).mac;
                    for (mut packet, kind) in self.hops.swap_remove(n).packets {
                        set_macs(packet.data_mut(), link.mac, source);
                        if kind == Sent::Originated {
                            sink.send(link.port, packet, kind);
                            continue;
                        }
                        stats.queued.sub(1);
                        let mtu = tables.port(link.port).mtu;
                        if !cut::send(packet, link.port, mtu, sink) {
                            stats.drop(DropReason::NoBuffer);
                        }
                    }
                }
                Attempt::Wait | Attempt::GiveUp => {
                    let packets = self.hops.swap_remove(n).packets;
                    for _ in packets.iter().filter(|(_, kind)| *kind != Sent::Originated) {
                        stats.queued.sub(1);
                        stats.drop(DropReason::NeighbourFailed);
                    }
                }
            }
        }
    }
}

impl<P: Packet> Default for Waiting<P> {
    fn default() -> Self {
        Self::new()
    }
}

enum Attempt {
    Wait,
    Send(HopId),
    GiveUp,
}

fn outcome(neighbours: &NeighbourTable, port: PortId, address: IpAddr) -> Attempt {
    let Some(hop) = neighbours.find(port, address) else {
        return Attempt::Wait;
    };
    let link = neighbours.link(hop);
    match link.state {
        LinkState::Failed => Attempt::GiveUp,
        LinkState::Incomplete => Attempt::Wait,
        LinkState::Reachable | LinkState::Stale => Attempt::Send(hop),
    }
}

//! The director: a burst of packets in, a verdict on each out. No I/O, no clock, no locks, no logs.
//!
//! One director belongs to one worker (or to a replay) and owns what that worker writes: its connections, its waiting
//! packets, its limits. What it reads is [`Tables`]. A burst goes through in stages, each over all of its packets,
//! so that the cache misses of one stage overlap: parse, hash and fetch buckets, fetch entries, find and fetch counters,
//! decide.
//!
//! The decision is in [`flow`] for TCP and UDP, in [`new`] for their first packets, in [`answer`] for what weir answers
//! itself. [`live`] has the connections, and what is given up when something is full.

mod answer;
mod flood;
mod flow;
mod host_peer;
mod limit;
#[cfg(test)]
mod limit_model;
#[cfg(test)]
mod limit_tests;
mod live;
mod new;
mod ownership;
pub mod parse;
mod sweep;
mod waiting;

use crate::arch::{NoMemory, prefetch, prefetch_all};
use crate::conn::table::Lookup;
use crate::conn::{FlowKey, Place, Table, local_port};
use crate::exchange::{ConnectionChunk, Mailbox, Order};
use crate::packet::{BURST, Burst, Packet, Sent, Sink};
use crate::sched::Client;
use crate::service::{Real, ServiceKey};
use crate::stats::{MAX_PORTS, RealStats, Stats, WorkerStats};
use crate::steering::Steering;
use crate::tables::{Port, Service, Tables};
use crate::units::{PortId, Time, WorkerId};
use crate::verdict::{Context, DropReason, LocalReason, Verdict};
use crate::wire::Mac;
use arrayvec::ArrayVec;
pub use limit::AnswerLimits;
use live::Live;
use parse::{Flow, Kind, Parsed, is_bad_source_mac, mend, parse_unusual, parse_usual};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;
use sweep::Sweep;
use waiting::Waiting;

pub use waiting::{HOPS as WAITING_HOPS, PACKETS_PER_HOP as WAITING_PACKETS_PER_HOP};

/// What `limit` synchronises with. The model test compiles the same file against loom's versions.
mod sync {
    pub(super) use std::sync::atomic::AtomicU64;
}

/// One worker's half of the dataplane.
pub struct Director<P> {
    worker: WorkerId,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    live: Live,
    waiting: Waiting<P>,
    sweep: Sweep,
    wanted: [Wanted; WANTED],
    stage: Option<Box<Stage>>,
    /// Of the burst that is worked on.
    origin: Origin,
}

/// A next hop that the control thread was asked for.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    port: PortId,
    address: Ipv4Addr,
    /// It is not asked for again before; none: the place is free.
    until: Option<Time>,
}

impl Wanted {
    const NONE: Wanted = Wanted {
        port: PortId(0),
        address: Ipv4Addr::UNSPECIFIED,
        until: None,
    };
}

const WANTED: usize = 64;
/// Shorter than whatever the resolver waits for.
const WANTED_FOR: Duration = Duration::from_millis(100);

/// What all workers have in common.
pub struct Shared {
    pub stats: Arc<Stats>,
    pub steering: Steering,
    pub limits: AnswerLimits,
    /// Connections that live on another worker than their requests come to.
    pub strays: AtomicU32,
    /// Makes what an outsider must not foresee different in every run: hashes, first local ports. A constant in a replay.
    pub seed: u64,
}

impl Shared {
    pub fn new(stats: Arc<Stats>, steering: Steering, seed: u64) -> Arc<Self> {
        Arc::new(Shared {
            stats,
            steering,
            limits: AnswerLimits::new(MAX_PORTS, AnswerLimits::SHARES, seed),
            strays: AtomicU32::new(0),
            seed,
        })
    }
}

/// Who a burst comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Device,
    /// Another worker, who handed its packets over.
    Worker,
}

/// What the stages of a burst tell each other.
struct Stage {
    slots: [Slot; BURST],
    /// What each packet is if it is no flow; its slot's kind is [`Kind::Unusual`] then.
    others: [Option<Parsed>; BURST],
}

/// What the stages tell each other of a flow's packet: one cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Slot {
    flow: Flow,
    hash: u64,
    place: Place,
}

/// So many real servers' counters stay in the nearest cache: to fetch those of each packet ahead costs more than it saves.
const FEW_REALS: usize = 256;

/// A flow without a connection, on its way to get one.
struct New<'a> {
    flow: &'a Flow,
    service: &'a Service,
    /// How many before it, in one go, are the same service's.
    ahead: usize,
    /// The real server that it will probably go to.
    expected: Option<(&'a Real, &'a RealStats)>,
}

/// What a packet ends with, and what was known of it.
type Outcome = (Verdict, Context);

impl<P: Packet> Director<P> {
    /// `connections`: how many this worker has room for.
    ///
    /// # Errors
    /// Where the kernel refuses the memory of its table.
    pub fn new(
        worker: WorkerId,
        connections: usize,
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
    ) -> Result<Self, NoMemory> {
        Ok(Director {
            worker,
            live: Live::new(connections, shared.clone(), shared.stats.share_of(worker))?,
            shared,
            mailbox,
            waiting: Waiting::new(),
            sweep: Sweep::default(),
            wanted: [Wanted::NONE; WANTED],
            stage: Some(Box::new(Stage {
                slots: [Slot::default(); BURST],
                others: [None; BURST],
            })),
            origin: Origin::Device,
        })
    }

    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    #[inline(always)]
    fn counters(&self) -> &WorkerStats {
        &self.live.counters
    }

    /// Decides on every packet of the burst, and empties it. `now` never goes back.
    pub fn process<S: Sink<Packet = P>>(
        &mut self,
        burst: &mut Burst<P>,
        origin: Origin,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) {
        self.origin = origin;
        match origin {
            Origin::Device => self.counters().received.add(burst.len() as u64),
            Origin::Worker => self.counters().taken_over.add(burst.len() as u64),
        }
        for packet in burst.iter() {
            packet.prefetch();
        }
        // Taken out while it is worked on, to be put back; it is always there.
        let Some(mut stage) = self.stage.take() else {
            return;
        };
        let lookup = self.live.table.lookup();
        let mut any_to_mend = false;
        let Stage { slots, others } = &mut *stage;
        for ((packet, slot), other) in burst.iter().zip(slots).zip(others) {
            let (frame, port) = (packet.data(), tables.port(packet.port()));
            if parse_usual(frame, port, &mut slot.flow) {
                *other = None;
            } else {
                any_to_mend |= parse_other(frame, port, &mut slot.flow, other);
            }
            // Of what is no flow, a former packet's: no harm is done.
            slot.hash = lookup.hash(&slot.flow.key);
            lookup.prefetch_bucket(slot.hash);
        }
        if any_to_mend {
            self.mend(burst, &mut stage, tables);
        }
        let Stage { slots, others } = &mut *stage;
        let slots = &mut slots[..burst.len()];
        for slot in slots.iter_mut() {
            slot.place = lookup.guess(slot.hash);
        }
        let version = self.live.table.version();
        let reals = &self.live.counters.reals;
        let are_many = reals.used() > FEW_REALS;
        let mut any_new = false;
        for (slot, other) in slots.iter_mut().zip(&*others) {
            match lookup.at(slot.place, &slot.flow.key) {
                Some(connection) => {
                    if are_many && let Some(stats) = reals.get(connection.real.index()) {
                        prefetch(stats);
                    }
                }
                None => any_new |= find_elsewhere(&lookup, slot, other),
            }
        }
        let mut services = ArrayVec::new();
        if any_new {
            self.prefetch_services(slots, others, tables, &mut services);
        }
        // Whether a packet of this burst has made or ended a connection.
        let mut has_changed = false;
        for ((n, slot), packet) in slots.iter_mut().enumerate().zip(burst.drain(..)) {
            if has_changed {
                slot.place = self.live.table.lookup().place(slot.hash, &slot.flow.key);
            }
            let port = packet.port();
            let known = match slot.flow.kind {
                Kind::Unusual => Err(packet),
                _ => self.known(packet, &slot.flow, slot.place, tables, now, sink),
            };
            match known {
                // Counted by the sink's owner, when the device has taken the frame.
                Ok((out, context)) => sink.decided(port, Verdict::Forward(out), context),
                Err(packet) => {
                    match &others[n] {
                        Some(other) => self.other(packet, other, tables, now, sink),
                        None => {
                            let service = services.get(n).copied().flatten();
                            self.unusual(packet, slot, service, tables, now, sink);
                        }
                    }
                    has_changed |= self.live.table.version() != version;
                }
            }
        }
        self.stage = Some(stage);
    }

    /// Takes priority tags and trailers off, and parses the packets then.
    #[cold]
    fn mend(&self, burst: &mut Burst<P>, stage: &mut Stage, tables: &Tables) {
        let Stage { slots, others } = stage;
        for ((packet, slot), other) in burst.iter_mut().zip(slots).zip(others) {
            if *other != Some(Parsed::Mend) {
                continue;
            }
            let port = tables.port(packet.port());
            *other = match mend(packet, port) {
                Parsed::Flow(flow) => {
                    slot.flow = flow;
                    slot.hash = self.live.table.hash(&flow.key);
                    None
                }
                other => Some(other),
            };
        }
    }

    /// A packet of a flow that does not simply go on; and the service that it is to, if that is known already.
    #[inline(never)]
    fn unusual<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        slot: &Slot,
        service: Option<&Service>,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) {
        let port = packet.port();
        let flow = &slot.flow;
        let (verdict, context) = match slot.place.found() {
            _ if is_own_or_no_mac(packet.data(), port, tables) => {
                (Verdict::Drop(DropReason::BadSourceMac), Context::default())
            }
            _ if parse::is_bad_source(flow.key.source()) => {
                (Verdict::Drop(DropReason::BadSource), Context::default())
            }
            Some(found) => self.known_unusual(packet, flow, found, tables, now, sink),
            None => {
                let service = service.or_else(|| tables.service(&flow::service_key(&flow.key)));
                self.unknown(packet, flow, service, tables, now, sink)
            }
        };
        self.count(verdict);
        sink.decided(port, verdict, context);
    }

    /// A packet that is no flow's.
    #[inline(never)]
    fn other<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        parsed: &Parsed,
        tables: &Tables,
        now: Time,
        sink: &mut S,
    ) {
        let port = packet.port();
        let (verdict, context) = match parsed {
            Parsed::Bad(reason) => (Verdict::Drop(*reason), Context::default()),
            _ if is_own_or_no_mac(packet.data(), port, tables) => {
                (Verdict::Drop(DropReason::BadSourceMac), Context::default())
            }
            Parsed::Ipv4(datagram) => self.datagram(packet, datagram, tables, now, sink),
            Parsed::Arp => self.arp(packet, tables, now, sink),
            Parsed::Multicast => {
                let reason = LocalReason::Multicast;
                let verdict = self.deliver(packet, port, reason, tables, now, sink);
                (verdict, Context::default())
            }
            Parsed::Flow(_) | Parsed::Mend => unreachable!("flows have a way of their own"),
        };
        self.count(verdict);
        sink.decided(port, verdict, context);
    }

    #[inline(always)]
    fn count(&self, verdict: Verdict) {
        match verdict {
            // Counted by the sink's owner, when the device has taken the frame.
            Verdict::Forward(_) => {}
            Verdict::Reply(_, reason) => self.counters().reply(reason),
            Verdict::Queue(_) => self.counters().queued.add(1),
            Verdict::Local(reason) => self.counters().deliver(reason),
            Verdict::Drop(reason) => self.counters().drop(reason),
            Verdict::HandOver(_) => self.counters().handed_over.add(1),
        }
    }

    /// Fetches what new connections will need, each step for all of them, so that their cache misses overlap: the
    /// service, what it leads to, the counters of the real server, the place of the reply's key. Fills in the `services`
    /// of the slots, as far as they are to become this worker's connections.
    #[inline(never)]
    fn prefetch_services<'t>(
        &self,
        slots: &[Slot],
        others: &[Option<Parsed>],
        tables: &'t Tables,
        services: &mut ArrayVec<Option<&'t Service>, BURST>,
    ) {
        let is_new = |slot: &Slot, other: &Option<Parsed>| {
            slot.place == Place::NONE && other.is_none() && self.is_probably_ours(&slot.flow.key)
        };
        let mut keys = ArrayVec::<Option<ServiceKey>, BURST>::new();
        for (slot, other) in slots.iter().zip(others) {
            let key = is_new(slot, other).then(|| flow::service_key(&slot.flow.key));
            if let Some(key) = &key {
                tables.services.prefetch_place(key);
                tables.addresses.prefetch_place(&slot.flow.key.source());
            }
            keys.push(key);
        }
        for key in keys.iter().flatten() {
            tables.services.prefetch(key);
        }
        for key in keys {
            let service = key.and_then(|key| tables.service(&key));
            if let Some(service) = service {
                prefetch_all(service);
            }
            services.push(service);
        }
        let mut new = ArrayVec::<New, BURST>::new();
        for (slot, service) in slots.iter().zip(services) {
            if let Some(service) = service {
                let ahead = match new.last() {
                    Some(last) if std::ptr::eq(last.service, *service) => last.ahead + 1,
                    _ => 0,
                };
                new.push(New {
                    flow: &slot.flow,
                    service,
                    ahead,
                    expected: None,
                });
            }
        }
        for New { service, .. } in &new {
            prefetch(&*service.reals);
            prefetch(service.cursor(self.worker));
        }
        for new in &mut new {
            let (key, service) = (&new.flow.key, new.service);
            let client = Client {
                address: key.source(),
                port: key.source_port(),
            };
            let cursor = service.cursor(self.worker);
            let place = service
                .scheduler
                .expect(&service.reals, client, cursor, new.ahead);
            if let Some(real) = service.reals.get(place)
                && let Some(stats) = self.counters().reals.get(real.id.index())
            {
                prefetch(stats);
                new.expected = Some((real, stats));
            }
        }
        for New {
            flow,
            service,
            expected,
            ..
        } in &new
        {
            let Some((real, stats)) = expected else {
                continue;
            };
            let key = &flow.key;
            let (address, port) = match &service.pool {
                Some(pool) => local_port::expected(pool, stats),
                None if service.mode.sees_replies => (key.source(), key.source_port()),
                None => continue,
            };
            let real_port = real.port_for(key.destination_port());
            let reply = FlowKey::new(real.address, real_port, address, port, key.protocol());
            self.live
                .table
                .prefetch_bucket(self.live.table.hash(&reply));
        }
    }

    /// What a worker does besides packets, once a loop: waiting packets, the control thread's orders, expiry.
    pub fn poll<S: Sink<Packet = P>>(&mut self, tables: &Tables, now: Time, sink: &mut S) {
        if !self.waiting.is_empty() {
            self.waiting.poll(tables, &self.live.counters, now, sink);
        }
        if !self.mailbox.orders.is_empty() {
            self.obey(tables, now, sink);
        }
        self.sweep(tables, now);
    }

    /// Obeys one order: a worker never spends long on them.
    fn obey<S: Sink<Packet = P>>(&mut self, tables: &Tables, now: Time, sink: &mut S) {
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
                self.send_arp(tables, port, sink, |mac, frame| {
                    crate::wire::build::arp_request(frame, to, mac, source, target)
                });
            }
            Order::Announce { port, address } => {
                self.send_arp(tables, port, sink, |mac, frame| {
                    crate::wire::build::gratuitous_arp(frame, mac, address)
                });
            }
            Order::CopyConnections(mut chunk) => {
                self.copy_connections(&mut chunk, now);
                // Full only if nobody fetches answers: then nobody misses this one.
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

    /// Asks the control thread to find or confirm a neighbour: once in a while, however many packets want it.
    fn want(&mut self, port: PortId, address: Ipv4Addr, now: Time) {
        let last = &mut self.wanted[address.to_bits() as usize % WANTED];
        let is_told = (last.port, last.address) == (port, address)
            && last.until.is_some_and(|until| now < until);
        if !is_told && self.mailbox.want(port, address) {
            *last = Wanted {
                port,
                address,
                until: Some(now + WANTED_FOR),
            };
        }
    }

    /// The connection table, for a look.
    pub fn connections(&self) -> &Table {
        &self.live.table
    }
}

/// Parses what is not a usual frame. Returns whether it is to be mended.
#[cold]
#[inline(never)]
fn parse_other(frame: &[u8], port: &Port, flow: &mut Flow, other: &mut Option<Parsed>) -> bool {
    match parse_unusual(frame, port) {
        Parsed::Flow(parsed) => {
            (*flow, *other) = (parsed, None);
            false
        }
        parsed => {
            flow.kind = Kind::Unusual;
            *other = Some(parsed);
            parsed == Parsed::Mend
        }
    }
}

/// Looks for the connection of a packet that is not where it was guessed. Returns whether it is a flow without one.
#[cold]
#[inline(never)]
fn find_elsewhere(lookup: &Lookup, slot: &mut Slot, other: &Option<Parsed>) -> bool {
    slot.place = match other {
        None => lookup.place(slot.hash, &slot.flow.key),
        Some(_) => Place::NONE,
    };
    slot.place == Place::NONE && other.is_none()
}

/// Whether the source MAC address is none that another station can have, see [`is_bad_source_mac`], or another port's.
fn is_own_or_no_mac(frame: &[u8], port: PortId, tables: &Tables) -> bool {
    is_bad_source_mac(frame, tables.port(port))
        || crate::wire::ethernet::source(frame).is_some_and(|source| tables.is_own_mac(source))
}

/// Whether a flow is of TCP.
fn is_tcp(flow: &Flow) -> bool {
    flow.key.protocol() == parse::PROTOCOL_TCP
}

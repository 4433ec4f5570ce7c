//! What workers count. Each counter has one writer, its worker, who adds by a relaxed load and a relaxed
//! store (no atomic read-modify-write on the packet path); other threads only read.

mod beside;
mod counter;
mod first_byte;
mod names;
mod overload;
mod pairs;
mod signs;
mod standing;
#[cfg(test)]
mod stats_loom;
mod times;

use crate::arch::{GrowingArray, NoMemory};
use crate::net::IcmpErrorKind;
use crate::packet::Sent;
use crate::units::{PortId, RealId, ServiceId, WorkerId};
use crate::verdict::{DropReason, LocalReason, ReplyReason};
use crossbeam_utils::CachePadded;
use std::sync::Arc;
use std::time::Duration;

/// The most `[[port]]`s.
pub const MAX_PORTS: usize = 16;

pub use beside::{Beside, TABLES};
pub use counter::{Counter, Gauge};
pub use first_byte::{FirstByte, LONGEST};
pub use names::Names;
pub use overload::Overload;
pub use pairs::PairUse;
pub use signs::{Failure, Seen, Signs};
pub use standing::{Established, Standing};
pub use times::{BOUNDS_US, Durations, Histogram, Times, TimesById};

/// What `counter` synchronises with. The model test compiles the same file against loom's versions.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU32, AtomicU64};
}

/// Everything that the workers count.
pub struct Stats {
    workers: Box<[Arc<CachePadded<WorkerStats>>]>,
    /// Of real servers with `max_connections`.
    overloads: GrowingArray<Overload>,
    /// What the connection log calls services and real servers.
    pub names: Names,
}

impl Stats {
    /// # Errors
    /// Where the process may not have the address space.
    pub fn new(workers: usize) -> Result<Self, NoMemory> {
        let worker = |_| Ok(Arc::new(CachePadded::new(WorkerStats::new()?)));
        let workers = (0..workers).map(worker).collect::<Result<_, _>>()?;
        Ok(Stats {
            workers,
            overloads: GrowingArray::new(MAX_REALS)?,
            names: Names::default(),
        })
    }

    #[inline]
    pub fn worker(&self, id: WorkerId) -> &WorkerStats {
        &self.workers[id.index()]
    }

    /// For the worker itself, which counts with every packet.
    pub fn share_of(&self, id: WorkerId) -> Arc<CachePadded<WorkerStats>> {
        Arc::clone(&self.workers[id.index()])
    }

    pub fn workers(&self) -> impl Iterator<Item = &WorkerStats> {
        self.workers.iter().map(|worker| &***worker)
    }

    /// The frames of some ports together, by their numbers.
    pub fn ports(&self, numbers: impl Iterator<Item = usize> + Clone) -> PortTotals {
        let sum = |worker: &WorkerStats, counter: fn(&PortStats) -> &Counter| -> u64 {
            let ports = numbers.clone().map(|number| &worker.ports[number]);
            ports.map(|port| counter(port).get()).sum()
        };
        let received = self
            .workers()
            .map(|worker| sum(worker, |port| &port.rx_packets));
        let sent = self.workers().map(|worker| QueueTotals {
            taken: sum(worker, |port| &port.tx_packets),
            refused: sum(worker, |port| &port.tx_refused),
        });
        PortTotals {
            rx_packets: received.sum(),
            tx: sent.collect(),
        }
    }

    /// Reserves the counters of a real server. Called by the control thread before it publishes the real server.
    pub fn ensure(&self, id: RealId) {
        for worker in self.workers() {
            worker.loads.ensure(id.index());
            worker.reals.ensure(id.index());
        }
    }

    /// Reserves the counters of a service. Called by the control thread before it publishes the service.
    pub fn ensure_service(&self, id: ServiceId) {
        for worker in self.workers() {
            worker.services.ensure(id.index());
            // Of the service that had the id before.
            worker.service_times.forget(id.index());
        }
    }

    /// Reserves the histograms of a service. Called before anything is measured for them.
    pub fn ensure_service_times(&self, id: ServiceId) {
        for worker in self.workers() {
            worker.service_times.ensure(id.index());
        }
    }

    /// Reserves the histograms of a real server. Called before anything is measured for them.
    pub fn ensure_real_times(&self, id: RealId) {
        for worker in self.workers() {
            worker.real_times.ensure(id.index());
        }
    }

    /// What all workers have measured of a service.
    pub fn service_times(&self, id: ServiceId, of: fn(&Times) -> &Durations) -> Histogram {
        let cells = self
            .workers()
            .filter_map(|worker| worker.service_times.get(id.index()));
        Histogram::of(cells.map(of))
    }

    /// What all workers have measured of a real server.
    pub fn real_times(&self, id: RealId, of: fn(&Times) -> &Durations) -> Histogram {
        let cells = self
            .workers()
            .filter_map(|worker| worker.real_times.get(id.index()));
        Histogram::of(cells.map(of))
    }

    /// Reserves what is seen of a real server's connections. Called before the real server is watched.
    pub fn ensure_signs(&self, id: RealId) {
        for worker in self.workers() {
            worker.signs.ensure(id.index());
        }
    }

    /// Reserves what is noted of the local pairs towards a real server. Called before the real server is published.
    pub fn ensure_pairs(&self, id: RealId) {
        for worker in self.workers() {
            worker.pairs.ensure(id.index());
        }
    }

    /// Has every worker keep what is told of clients beside its connections. Called by the control thread before it publishes
    /// a service that tells.
    pub fn want_told(&self) {
        for worker in self.workers() {
            worker.told.iter().for_each(Beside::want);
        }
    }

    /// Reserves how long a real server takes to answer. Called before that is measured.
    pub fn ensure_first_byte(&self, id: RealId) {
        for worker in self.workers() {
            worker.first_bytes.ensure(id.index());
        }
    }

    /// Has every worker keep beside its connections when their first requests began. Called by the control thread before it
    /// publishes a service whose answers are timed.
    pub fn want_begun(&self) {
        for worker in self.workers() {
            worker.begun.iter().for_each(Beside::want);
        }
    }

    /// Has every worker keep beside its connections when they began. Called by the control thread before the first one is logged.
    pub fn want_logged(&self) {
        for worker in self.workers() {
            worker.logged.iter().for_each(Beside::want);
        }
    }

    /// Whether the connection log has the connections of a service.
    pub fn set_unlogged(&self, id: ServiceId, is_unlogged: bool) {
        for worker in self.workers() {
            if let Some(service) = worker.services.get(id.index()) {
                service.is_unlogged.set(is_unlogged.into());
            }
        }
    }

    /// How long a real server takes to answer, in nanoseconds, as one worker has seen it.
    #[inline]
    pub fn first_byte(&self, worker: u32, id: RealId) -> Option<u64> {
        let worker = self.workers.get(worker as usize)?;
        worker.first_bytes.get(id.index())?.nanos()
    }

    /// UDP flows that a real server has not answered yet, over all workers, where answers are timed.
    #[inline]
    pub fn waiting(&self, id: RealId) -> u32 {
        self.workers()
            .filter_map(|worker| worker.first_bytes.get(id.index()))
            .fold(0, |sum, cells| sum.wrapping_add(cells.waiting.get()))
    }

    /// The mean over the workers that have seen it answer.
    pub fn mean_first_byte(&self, id: RealId) -> Option<std::time::Duration> {
        let all = 0..self.workers.len() as u32;
        let (sum, count) = all
            .filter_map(|worker| self.first_byte(worker, id))
            .fold((0, 0), |(sum, count), nanos| (sum + nanos, count + 1));
        (count > 0).then(|| std::time::Duration::from_nanos(sum / count))
    }

    /// An id becomes another real server's, which has no connections: what workers were told of it and have measured is
    /// forgotten.
    pub fn forget(&self, id: RealId) {
        self.tell(id, |real| real.standing.forget());
        self.workers()
            .filter_map(|worker| worker.first_bytes.get(id.index()))
            .for_each(FirstByte::forget);
        for worker in self.workers() {
            worker.real_times.forget(id.index());
        }
    }

    /// Reserves whether a real server is overloaded, which it is not found to be yet. Called before the real server is published with
    /// other thresholds.
    pub fn ensure_overload(&self, id: RealId) {
        if let Some(cell) = self.overloads.ensure(id.index()) {
            cell.update(|_| false);
        }
    }

    /// Whether a real server with `max_connections` was found to be overloaded.
    pub fn overload(&self, id: RealId) -> Option<&Overload> {
        self.overloads.get(id.index())
    }

    /// What has been seen of a watched real server's connections, over all workers.
    pub fn seen(&self, id: RealId) -> Seen {
        self.workers()
            .filter_map(|worker| worker.signs.get(id.index()))
            .fold(Seen::default(), |seen, signs| seen + signs.get())
    }

    /// Live connections of a service, over all workers.
    pub fn live(&self, id: ServiceId) -> u32 {
        self.workers()
            .filter_map(|worker| worker.services.get(id.index()))
            .fold(0, |live, service| {
                live.wrapping_add(service.live.get() + service.across.get())
            })
    }

    /// Live connections of a service without persistence templates, over all workers: each of which may be making one more.
    pub fn connections(&self, id: ServiceId) -> u32 {
        self.workers()
            .filter_map(|worker| worker.services.get(id.index()))
            .fold(0, |live, service| {
                let of_both = service.live.get().wrapping_add(service.across.get());
                live.wrapping_add(of_both.wrapping_sub(service.templates.get()))
            })
    }

    /// What a real server has counted, over all workers.
    pub fn real(&self, id: RealId) -> RealTotals {
        let mut totals = RealTotals::default();
        for real in self
            .workers()
            .filter_map(|worker| worker.reals.get(id.index()))
        {
            totals.count(&real.counters);
        }
        (totals.active, totals.inactive) = self.load(id);
        totals
    }

    /// One of the workers' counters, over all workers.
    pub fn total(&self, counter: impl Fn(&WorkerStats) -> u64) -> u64 {
        self.workers().map(counter).sum()
    }

    /// Connections of a real server that are (active, inactive), over all workers: what lc and wlc compare.
    #[inline]
    pub fn load(&self, id: RealId) -> (u32, u32) {
        self.workers()
            .filter_map(|worker| worker.loads.get(id.index()))
            .fold((0, 0), |(active, inactive), load| {
                (
                    active.wrapping_add(load.active.get()),
                    inactive.wrapping_add(load.inactive.get()),
                )
            })
    }

    /// Tells the workers something about a real server.
    pub fn tell(&self, id: RealId, tell: impl Fn(&RealLine)) {
        self.workers()
            .filter_map(|worker| worker.reals.get(id.index()))
            .for_each(tell);
    }

    /// The service of a real server that has been configured.
    pub fn service_of(&self, id: RealId) -> Option<ServiceId> {
        let real = self.workers().next()?.reals.get(id.index())?;
        Some(real.standing.service())
    }
}

/// What one worker counts.
pub struct WorkerStats {
    /// Packets that came in; with those taken over it equals
    /// `transmitted + answered + local + queued + handed_over + Σ drops`.
    pub received: Counter,
    /// Packets that other workers received, and this one decided on.
    pub taken_over: Counter,
    /// Received packets that were left to another worker, whose connections they belong to.
    pub handed_over: Counter,
    /// Received packets that a device took to send on.
    pub transmitted: Counter,
    /// Received packets that a device took as their own answer.
    pub answered: Counter,
    /// Received packets that were given to the host.
    pub local: Counter,
    /// Received packets that wait for a neighbour, or for the first fragment of their datagram.
    pub queued: Counter,
    /// Those of them that wait for a first fragment.
    pub waiting_fragments: Counter,
    /// Frames of weir's own (questions for neighbours, announcements) that a device took.
    pub originated: Counter,
    /// Packets between hosts that were sent on, as a router does.
    pub routed: Counter,
    /// Connections of nat clients that got the port's address, since they are in the subnet of their real server.
    pub hairpins: Counter,
    /// Datagrams whose QUIC connection id names no real server of their service.
    pub quic_unknown: Counter,
    /// Segments that were to tell the client's address by a TCP option and had no room for it.
    pub untold: Counter,
    /// What real servers are told of the clients of connections, by the table that has them: IPv4, IPv6, and of both.
    pub told: [Beside; TABLES],
    /// When the first requests of connections began, where answers are timed, by the same tables.
    pub begun: [Beside; TABLES],
    /// When connections began, for the connection log, by the same tables.
    pub logged: [Beside; TABLES],
    drops: [Counter; DropReason::COUNT],
    /// ICMP errors that were sent on to the other end of the connection that they are about, by [`IcmpErrorKind`].
    pub icmp_errors: [Counter; IcmpErrorKind::ALL.len()],
    replies: [Counter; ReplyReason::ALL.len()],
    /// Live connections, persistence templates among them.
    pub connections: Counter,
    /// Connections given up before their time, because the table was full.
    pub evicted: Counter,
    pub ports: [PortStats; MAX_PORTS],
    /// Nanoseconds spent in loops that found work, and in all.
    pub busy_nanos: Counter,
    pub total_nanos: Counter,
    /// Loops run: moves as long as the worker lives.
    pub loops: Counter,
    pub reals: GrowingArray<RealLine>,
    /// How many connections each real server has, close together: schedulers look at those of all real servers of a service.
    pub loads: GrowingArray<Load>,
    pub services: GrowingArray<ServiceStats>,
    /// Of real servers that are [watched](Standing::is_watched).
    pub signs: GrowingArray<Signs>,
    /// Of real servers of services with a local pool.
    pub pairs: GrowingArray<PairUse>,
    /// Of real servers whose answers are timed.
    pub first_bytes: GrowingArray<FirstByte>,
    /// Of services with `histograms`, and of their real servers.
    pub service_times: TimesById,
    pub real_times: TimesById,
    /// How often most of a real server's pairs came into use.
    pub pressed: Counter,
    /// What all of them together have failed in, by [`Failure`].
    pub failures: [Counter; Failure::ALL.len()],
}

/// The most real servers, over all services.
pub const MAX_REALS: usize = 1 << 22;

/// The most services, those among them whose connections outlive them.
pub const MAX_SERVICES: usize = 1 << 22;

/// One service on one worker.
#[derive(Debug, Default)]
pub struct ServiceStats {
    /// Live connections, persistence templates among them.
    pub live: Gauge,
    /// Those of them whose sides are of different families, which have a table of their own: not among the others.
    pub across: Gauge,
    /// Persistence templates among all of these.
    pub templates: Gauge,
    /// 1: clients are told of the ends of its connections, by the director.
    pub counts_clients: Gauge,
    /// 1: the connection log leaves its connections out, by the control thread.
    pub is_unlogged: Gauge,
}

impl WorkerStats {
    /// Counts that a real server has one connection more.
    #[inline(always)]
    pub fn connection_begun(&self, real: RealId, is_active: bool) {
        if let Some(load) = self.loads.get(real.index()) {
            match is_active {
                true => load.active.inc(),
                false => load.inactive.inc(),
            }
        }
    }

    fn new() -> Result<Self, NoMemory> {
        Ok(WorkerStats {
            received: Counter::default(),
            taken_over: Counter::default(),
            handed_over: Counter::default(),
            transmitted: Counter::default(),
            answered: Counter::default(),
            local: Counter::default(),
            queued: Counter::default(),
            waiting_fragments: Counter::default(),
            originated: Counter::default(),
            routed: Counter::default(),
            hairpins: Counter::default(),
            quic_unknown: Counter::default(),
            untold: Counter::default(),
            told: Default::default(),
            begun: Default::default(),
            logged: Default::default(),
            // Arrays of more than 32 have no default.
            drops: std::array::from_fn(|_| Counter::default()),
            icmp_errors: Default::default(),
            replies: Default::default(),
            connections: Counter::default(),
            evicted: Counter::default(),
            ports: Default::default(),
            busy_nanos: Counter::default(),
            total_nanos: Counter::default(),
            loops: Counter::default(),
            reals: GrowingArray::new(MAX_REALS)?,
            loads: GrowingArray::new(MAX_REALS)?,
            services: GrowingArray::new(MAX_SERVICES)?,
            signs: GrowingArray::new(MAX_REALS)?,
            pairs: GrowingArray::new(MAX_REALS)?,
            first_bytes: GrowingArray::new(MAX_REALS)?,
            service_times: TimesById::new(MAX_SERVICES)?,
            real_times: TimesById::new(MAX_REALS)?,
            pressed: Counter::default(),
            failures: Default::default(),
        })
    }

    #[inline]
    pub fn drop(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }

    pub fn drops(&self, reason: DropReason) -> &Counter {
        &self.drops[reason as usize]
    }

    /// A connection of a watched real server has failed.
    #[cold]
    pub fn failed(&self, real: RealId, failure: Failure) {
        self.failures[failure as usize].add(1);
        if let Some(signs) = self.signs.get(real.index()) {
            signs.failed(failure);
        }
    }

    /// A real server whose answers are timed has taken so long.
    #[cold]
    pub fn took(
        &self,
        (service, real): (ServiceId, RealId),
        of: fn(&Times) -> &Durations,
        took: Duration,
    ) {
        let cells = [
            self.service_times.get(service.index()),
            self.real_times.get(real.index()),
        ];
        cells
            .into_iter()
            .flatten()
            .for_each(|times| of(times).add(took));
    }

    /// A watched real server has answered a new connection.
    pub fn answered(&self, real: RealId) {
        if let Some(signs) = self.signs.get(real.index()) {
            signs.answered();
        }
    }

    #[inline]
    pub fn reply(&self, reason: ReplyReason) {
        self.replies[reason as usize].add(1);
    }

    pub fn replies(&self, reason: ReplyReason) -> &Counter {
        &self.replies[reason as usize]
    }

    pub fn deliver(&self, _reason: LocalReason) {
        self.local.add(1);
    }

    /// Counts frames that a device took, or (`refused`) had no room for.
    pub fn sent(&self, port: PortId, kind: Sent, frames: u64, refused: u64) {
        match kind {
            Sent::Forwarded => self.transmitted.add(frames),
            Sent::Answered => self.answered.add(frames),
            Sent::Originated => self.originated.add(frames),
        }
        self.ports[port.index()].tx_packets.add(frames);
        if refused > 0 {
            self.ports[port.index()].tx_refused.add(refused);
            self.unsent(kind, refused, DropReason::TxFull);
        }
    }

    /// Counts frames that were to be sent and are lost. Frames of weir's own are no received packets.
    pub fn unsent(&self, kind: Sent, frames: u64, reason: DropReason) {
        if kind != Sent::Originated {
            self.drops[reason as usize].add(frames);
        }
    }

    /// Returns how many received packets have not ended yet, or ended uncounted: always 0 between two bursts.
    pub fn unaccounted(&self) -> i64 {
        let ended = self.transmitted.get()
            + self.answered.get()
            + self.local.get()
            + self.queued.get()
            + self.handed_over.get();
        let dropped: u64 = self.drops.iter().map(Counter::get).sum();
        (self.received.get() + self.taken_over.get()) as i64 - (ended + dropped) as i64
    }
}

/// Frames of one port that went through one worker.
#[derive(Debug, Default)]
pub struct PortStats {
    pub rx_packets: Counter,
    pub rx_bytes: Counter,
    pub tx_packets: Counter,
    pub tx_refused: Counter,
}

/// The frames of one port, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortTotals {
    pub rx_packets: u64,
    /// Each worker's transmit queue.
    pub tx: Vec<QueueTotals>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueTotals {
    /// Frames that the device took.
    pub taken: u64,
    /// Frames that it had no room for.
    pub refused: u64,
}

/// What one worker keeps of one real server: one cache line, the only one that a packet of a known connection writes to
/// beside its connection.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct RealLine {
    pub counters: RealStats,
    pub pairs: PairSearch,
    pub standing: Standing,
}

const _: () = assert!(size_of::<RealLine>() == 64, "one cache line");

/// Where a worker looks for the next free pair of a local pool, for one real server.
#[derive(Debug, Default)]
pub struct PairSearch {
    /// The place in the pool where the next search starts, plus 1; 0: there was none.
    pub cursor: Gauge,
    /// When the pool was found exhausted, in [`Millis`](crate::units::Millis) and never 0; 0: not, or a connection has
    /// ended since.
    pub exhausted_at: Gauge,
}

/// What one worker counts of one real server.
#[derive(Debug, Default)]
pub struct RealStats {
    /// Packets and their IP bytes, client to real server.
    pub packets_in: Counter,
    pub bytes_in: Counter,
    /// Packets and their IP bytes, real server to client.
    pub packets_out: Counter,
    pub bytes_out: Counter,
    /// Connections made.
    pub connections: Counter,
}

/// How many connections one real server has on one worker.
#[derive(Debug, Default)]
pub struct Load {
    /// Connections in the states that the kernel counts as ActiveConn.
    pub active: Gauge,
    pub inactive: Gauge,
}

impl RealLine {
    #[inline]
    pub fn ends_connections(&self) -> bool {
        self.standing.ends_connections()
    }
}

/// A real server's counters, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RealTotals {
    pub connections: u64,
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    pub active: u32,
    pub inactive: u32,
}

impl std::ops::Add for RealTotals {
    type Output = RealTotals;

    fn add(self, other: RealTotals) -> RealTotals {
        RealTotals {
            connections: self.connections + other.connections,
            packets_in: self.packets_in + other.packets_in,
            bytes_in: self.bytes_in + other.bytes_in,
            packets_out: self.packets_out + other.packets_out,
            bytes_out: self.bytes_out + other.bytes_out,
            active: self.active + other.active,
            inactive: self.inactive + other.inactive,
        }
    }
}

impl std::ops::Sub for RealTotals {
    type Output = RealTotals;

    fn sub(self, before: RealTotals) -> RealTotals {
        RealTotals {
            connections: self.connections.saturating_sub(before.connections),
            packets_in: self.packets_in.saturating_sub(before.packets_in),
            bytes_in: self.bytes_in.saturating_sub(before.bytes_in),
            packets_out: self.packets_out.saturating_sub(before.packets_out),
            bytes_out: self.bytes_out.saturating_sub(before.bytes_out),
            active: self.active.saturating_sub(before.active),
            inactive: self.inactive.saturating_sub(before.inactive),
        }
    }
}

impl RealTotals {
    fn count(&mut self, real: &RealStats) {
        self.connections += real.connections.get();
        self.packets_in += real.packets_in.get();
        self.bytes_in += real.bytes_in.get();
        self.packets_out += real.packets_out.get();
        self.bytes_out += real.bytes_out.get();
    }
}

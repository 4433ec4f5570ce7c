//! The director: a burst of packets in, a verdict on each out. No I/O, no clock, no locks, no logs.
//!
//! One director belongs to one worker (or to a replay) and owns what that worker writes: its connections, its waiting
//! packets, its limits. What it reads is [`Tables`]. A burst goes through in stages, each over all of its packets,
//! so that the cache misses of one stage overlap: parse, hash and fetch buckets, fetch entries, find and fetch counters,
//! decide.
//!
//! The stages before the decisions are in [`stage`] and [`fetch`]. Packets of known connections are decided on in [`flow`],
//! which nearly all are; others of TCP and UDP in [`unknown`], with [`schedule`] and [`connect`] for a client's first; what
//! weir answers itself or leaves to the host in [`answer`]. [`live`] has the connections, and what is given up when
//! something is full.

mod answer;
mod connect;
mod fetch;
mod flood;
mod flow;
mod host_peer;
mod limit;
#[cfg(test)]
mod limit_loom;
#[cfg(test)]
mod limit_tests;
mod live;
mod orders;
mod ownership;
pub mod parse;
mod refused;
mod schedule;
mod stage;
mod sweep;
mod unknown;
mod waiting;

use crate::arch::{NoMemory, cold_path};
use crate::conn::Table;
use crate::exchange::Mailbox;
use crate::packet::{Burst, Packet, Sink};
use crate::stats::{MAX_PORTS, Stats, WorkerStats};
use crate::steering::Steering;
use crate::tables::{Tables, Target};
use crate::units::{PortId, Time, WorkerId};
use crate::verdict::{DropReason, LocalReason, PacketContext, Verdict};
use arrayvec::ArrayVec;
use fetch::LookedUp;
pub use limit::AnswerLimits;
use live::Live;
use parse::{Flow, Kind, Parsed, is_bad_source_mac};
use refused::Refused;
use stage::{Slot, Stage};
use std::net::{IpAddr, Ipv4Addr};
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
    core: Core<P>,
    stage: Box<Stage>,
}

/// What a director keeps from burst to burst.
struct Core<P> {
    worker: WorkerId,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    live: Live,
    waiting: Waiting<P>,
    refused: Refused,
    sweep: Sweep,
    wanted: [Wanted; WANTED],
    /// Of the burst that is worked on.
    origin: Origin,
}

/// What is the same for all packets that are decided on in one go.
pub struct Turn<'a, S> {
    pub tables: &'a Tables,
    pub now: Time,
    pub sink: &'a mut S,
}

impl<'a, S> Turn<'a, S> {
    /// `now` never goes back.
    pub fn new(tables: &'a Tables, now: Time, sink: &'a mut S) -> Self {
        Turn { tables, now, sink }
    }
}

/// A next hop that the control thread was asked for.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    port: PortId,
    address: IpAddr,
    /// It is not asked for again before; none: the place is free.
    until: Option<Time>,
}

impl Wanted {
    const NONE: Wanted = Wanted {
        port: PortId(0),
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
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

/// What a packet ends with, and what was known of it.
type Outcome = (Verdict, PacketContext);

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
        let core = Core {
            worker,
            live: Live::new(connections, shared.clone(), shared.stats.share_of(worker))?,
            shared,
            mailbox,
            waiting: Waiting::new(),
            refused: Refused::new(),
            sweep: Sweep::default(),
            wanted: [Wanted::NONE; WANTED],
            origin: Origin::Device,
        };
        let stage = Box::new(Stage::new());
        Ok(Director { core, stage })
    }

    pub fn worker(&self) -> WorkerId {
        self.core.worker
    }

    /// Decides on every packet of the burst, and empties it.
    pub fn process<S: Sink<Packet = P>>(
        &mut self,
        burst: &mut Burst<P>,
        origin: Origin,
        mut turn: Turn<'_, S>,
    ) {
        let Director { core, stage } = self;
        core.origin = origin;
        match origin {
            Origin::Device => core.counters().received.add(burst.len() as u64),
            Origin::Worker => core.counters().taken_over.add(burst.len() as u64),
        }
        for packet in burst.iter() {
            packet.prefetch();
        }
        let lookup = core.live.table.lookup();
        stage.parse(burst, turn.tables, &lookup);
        stage.guess(burst.len(), &lookup);
        let any_new = stage.find(burst.len(), &lookup, &core.live.counters.reals);
        let targets = match any_new {
            true => core.fetch_services(stage, burst.len(), turn.tables),
            false => ArrayVec::new(),
        };
        core.decide(burst, stage, &targets, &mut turn);
    }

    /// What a worker does besides packets, once a loop: waiting packets, the control thread's orders, expiry.
    pub fn poll<S: Sink<Packet = P>>(&mut self, mut turn: Turn<'_, S>) {
        let core = &mut self.core;
        if !core.waiting.is_empty() {
            core.waiting
                .poll(turn.tables, &core.live.counters, turn.now, turn.sink);
        }
        if !core.mailbox.orders.is_empty() {
            core.obey(&mut turn);
        }
        core.sweep(turn.tables, turn.now);
    }

    /// Whether expiry is behind the clock: a replay, whose clock jumps, polls on until it is not.
    pub fn is_behind(&self) -> bool {
        self.core.sweep.is_behind()
    }

    /// The connection table, for a look.
    pub fn connections(&self) -> &Table {
        &self.core.live.table
    }
}

impl<P: Packet> Core<P> {
    #[inline(always)]
    fn counters(&self) -> &WorkerStats {
        &self.live.counters
    }

    /// Decides on every packet of a burst, in order, and empties it.
    #[inline(always)]
    fn decide<S: Sink<Packet = P>>(
        &mut self,
        burst: &mut Burst<P>,
        stage: &mut Stage,
        targets: &LookedUp,
        turn: &mut Turn<'_, S>,
    ) {
        let version = self.live.table.version();
        // Whether a packet of this burst has made or ended a connection: what was found before may be wrong then.
        let mut has_changed = false;
        for (packet, slot) in burst.drain(..).zip(&mut stage.slots) {
            if has_changed {
                cold_path();
                slot.place = self.live.table.lookup().place(slot.hash, &slot.flow.key);
            }
            let port = packet.port();
            let known = match slot.flow.kind > Kind::Unusual {
                true => self.known(packet, &slot.flow, slot.place, turn),
                false => Err(packet),
            };
            match known {
                // Counted by the sink's owner, when the device has taken the frame.
                Ok((out, context)) => turn.sink.decided(port, Verdict::Forward(out), context),
                Err(packet) => {
                    cold_path();
                    let n = usize::from(slot.number);
                    match slot.flow.kind {
                        Kind::Other => self.other(packet, &stage.others[n], turn),
                        _ => {
                            self.unusual(packet, slot, targets.get(n).copied().flatten(), turn);
                        }
                    }
                    has_changed |= self.live.table.version() != version;
                }
            }
        }
    }

    /// A packet of a flow that does not simply go on; and what it is to, if that was looked up already.
    #[inline(never)]
    fn unusual<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        slot: &Slot,
        target: Option<Target>,
        turn: &mut Turn<'_, S>,
    ) {
        let tables = turn.tables;
        let port = packet.port();
        let flow = &slot.flow;
        let (verdict, context) = match slot.place.found() {
            _ if is_own_or_no_mac(packet.data(), port, tables) => (
                Verdict::Drop(DropReason::BadSourceMac),
                PacketContext::default(),
            ),
            _ if parse::is_bad_source(flow.key.source()) => (
                Verdict::Drop(DropReason::BadSource),
                PacketContext::default(),
            ),
            Some(found) => self.known_unusual(packet, flow, found, turn),
            None if self.is_refused_again(flow, port, tables, turn.now) => (
                Verdict::Drop(DropReason::RateLimited),
                PacketContext::default(),
            ),
            None => {
                let target = target.unwrap_or_else(|| tables.target(&flow::service_key(&flow.key)));
                self.unknown(packet, flow, target, turn)
            }
        };
        self.count(verdict);
        turn.sink.decided(port, verdict, context);
    }

    /// A packet that is no flow's.
    #[inline(never)]
    fn other<S: Sink<Packet = P>>(&mut self, packet: P, parsed: &Parsed, turn: &mut Turn<'_, S>) {
        let tables = turn.tables;
        let port = packet.port();
        let (verdict, context) = match parsed {
            Parsed::Bad(reason) => (Verdict::Drop(*reason), PacketContext::default()),
            _ if is_own_or_no_mac(packet.data(), port, tables) => (
                Verdict::Drop(DropReason::BadSourceMac),
                PacketContext::default(),
            ),
            Parsed::Ipv4(datagram) => self.datagram(packet, datagram, turn),
            Parsed::Arp => self.arp(packet, turn),
            Parsed::Multicast => {
                let reason = LocalReason::Multicast;
                let verdict = self.deliver(packet, port, reason, turn);
                (verdict, PacketContext::default())
            }
            Parsed::Flow(_) | Parsed::Mend => unreachable!("flows have a way of their own"),
        };
        self.count(verdict);
        turn.sink.decided(port, verdict, context);
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

    /// Asks the control thread to find or confirm a neighbour: once in a while, however many packets want it.
    fn want(&mut self, port: PortId, address: IpAddr, now: Time) {
        let place = match address {
            IpAddr::V4(address) => address.to_bits() as usize,
            IpAddr::V6(address) => address.to_bits() as usize,
        };
        let last = &mut self.wanted[place % WANTED];
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
}

/// Whether the source MAC address is none that another station can have, see [`is_bad_source_mac`], or another port's.
fn is_own_or_no_mac(frame: &[u8], port: PortId, tables: &Tables) -> bool {
    is_bad_source_mac(frame, tables.port(port))
        || crate::wire::ethernet::source(frame).is_some_and(|source| tables.is_own_mac(source))
}

/// Whether a flow is of TCP.
fn is_tcp(flow: &Flow) -> bool {
    flow.key.protocol() == crate::net::protocol::TCP
}

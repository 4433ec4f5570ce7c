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

mod admit;
mod answer;
mod arp;
mod connect;
mod crossing;
mod draws;
mod exhausted;
mod failures;
mod fair;
pub mod family;
mod fetch;
mod first_byte;
mod flood;
mod flow;
pub mod fragment;
mod fragment_id;
mod fragment_table;
mod fragments;
mod heard;
mod host_peer;
mod icmp_error;
mod idle;
mod inside_error;
mod limit;
#[cfg(test)]
mod limit_loom;
#[cfg(test)]
mod limit_tests;
mod live;
mod local;
mod log;
mod nd;
mod once;
mod orders;
mod outer_error;
mod outward;
mod ownership;
pub mod parse;
mod parse6;
mod parts;
mod path_mtu;
mod quic;
mod refused;
mod remind;
mod restore;
mod room;
mod routing;
mod schedule;
pub mod sctp;
mod shares;
mod stage;
mod sweep;
mod tell;
mod unknown;
mod v4;
mod v6;
mod waiting;
mod waiting_fragments;
mod wanted;
mod wrapped;

use crate::arch::{NoMemory, cold_path};
use crate::capture::Watch;
use crate::conn::{Connection, Connection6, ConnectionAny, Key, Table};
use crate::exchange::Mailbox;
use crate::forward::identification::{Identifications, Identifications6};
use crate::packet::{Burst, Packet, Sink};
use crate::record::Keeping;
use crate::stats::{MAX_PORTS, Stats, WorkerStats};
use crate::steering::Steering;
use crate::tables::{Tables, Target};
use crate::units::{PortId, Time, WorkerId};
use crate::verdict::{DropReason, PacketContext, Verdict};
use arrayvec::ArrayVec;
use crossing::{Beside, Others};
use draws::Draws;
use family::{Crossing, Family, V4, V6, Wire};
use fetch::LookedUp;
pub use fragment_table::FragmentRoom;
use fragment_table::Fragments;
pub use limit::AnswerLimits;
use live::Live;
use parse::{Flow, Kind, Parsed, is_bad_source_mac};
use path_mtu::PathMtus;
use refused::Refused;
use remind::Reminders;
pub use restore::{Assumed, Restored};
pub use room::Room;
use stage::{Slot, Stage};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use sweep::Sweep;
use waiting::Waiting;
use wanted::Wants;

pub use waiting::{HOPS as WAITING_HOPS, PACKETS_PER_HOP as WAITING_PACKETS_PER_HOP};

/// What `limit` synchronises with. The model test compiles the same file against loom's versions.
mod sync {
    pub(super) use std::sync::atomic::AtomicU64;
}

/// One worker's half of the dataplane.
pub struct Director<P> {
    v4: Half<V4, P>,
    /// None where there is no room for IPv6 connections: then no IPv6 packet is looked at.
    v6: Option<Half<V6, P>>,
    /// None where no service has real servers of the other family than its VIP's.
    crossing: Option<Box<Core<Crossing, P>>>,
    /// None where there is no room for any.
    fragments: Option<Box<Fragments<P>>>,
    /// Whether the last packet was an IPv6 one: most often the next is of the same family.
    is_v6: bool,
    /// For the worker: what it was ordered to look at packets with.
    watch: Option<Box<Watch>>,
}

/// All that is of one family.
struct Half<F: Wire, P> {
    core: Core<F, P>,
    stage: Box<Stage<F>>,
}

/// What a director keeps from burst to burst, for the packets of one family.
pub struct Core<F: Family, P> {
    worker: WorkerId,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    live: Live<F>,
    waiting: Waiting<P>,
    refused: Refused<F>,
    reminders: Reminders,
    sweep: Sweep,
    wants: Wants,
    draws: Draws,
    /// Of rewritten packets.
    memory: F::Memory,
    /// Of the headers that packets are wrapped in.
    identifications: Identifications,
    /// Of their fragments, over IPv6.
    identifications6: Identifications6,
    /// Of the burst that is worked on.
    origin: Origin,
}

/// What is the same for all packets that are decided on in one go.
pub struct Turn<'a, S: Sink> {
    pub tables: &'a Tables,
    pub now: Time,
    pub sink: &'a mut S,
    beside: Beside<'a, S::Packet>,
}

impl<'a, S: Sink> Turn<'a, S> {
    /// `now` never goes back.
    pub fn new(tables: &'a Tables, now: Time, sink: &'a mut S) -> Self {
        Turn {
            tables,
            now,
            sink,
            beside: Beside::NOTHING,
        }
    }

    fn reborrow(&mut self) -> Turn<'_, S> {
        Turn {
            tables: self.tables,
            now: self.now,
            sink: self.sink,
            beside: self.beside.reborrow(),
        }
    }

    fn with<'b>(&'b mut self, beside: Beside<'b, S::Packet>) -> Turn<'b, S> {
        Turn {
            tables: self.tables,
            now: self.now,
            sink: self.sink,
            beside,
        }
    }
}

/// What all workers have in common.
pub struct Shared {
    pub stats: Arc<Stats>,
    pub steering: Steering,
    pub limits: AnswerLimits,
    pub path_mtus: PathMtus,
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
            path_mtus: PathMtus::default(),
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
    /// Without room for IPv6 connections it looks at no IPv6 packet.
    ///
    /// # Errors
    /// Where the kernel refuses the memory of its tables.
    pub fn new(
        worker: WorkerId,
        room: Room,
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
    ) -> Result<Self, NoMemory> {
        Self::keeping(worker, room, shared, mailbox, None)
    }

    /// As [`new`](Self::new), with its connections where the next process finds them.
    ///
    /// # Errors
    /// The same.
    pub fn keeping(
        worker: WorkerId,
        room: Room,
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        keeping: Option<&Keeping>,
    ) -> Result<Self, NoMemory> {
        let stages = (Stage::new(room.v6 > 0), Stage::new(true));
        let v6 = match room.v6 {
            0 => None,
            room => Some(Half {
                core: Core::new(worker, room, shared.clone(), mailbox.clone(), keeping)?,
                stage: stages.1,
            }),
        };
        let crossing = match room.crossing {
            0 => None,
            room => {
                let core = Core::new(worker, room, shared.clone(), mailbox.clone(), keeping)?;
                Some(Box::new(core))
            }
        };
        let fragments = match room.fragments.datagrams {
            0 => None,
            _ => Some(Box::new(Fragments::new(room.fragments, shared.seed)?)),
        };
        let v4 = Half {
            core: Core::new(worker, room.v4, shared, mailbox, keeping)?,
            stage: stages.0,
        };
        Ok(Director {
            v4,
            v6,
            crossing,
            fragments,
            is_v6: false,
            watch: None,
        })
    }

    pub fn worker(&self) -> WorkerId {
        self.v4.core.worker
    }

    /// Decides on every packet of the burst, and empties it.
    #[inline(never)]
    pub fn process<S: Sink<Packet = P>>(
        &mut self,
        burst: &mut Burst<P>,
        origin: Origin,
        mut turn: Turn<'_, S>,
    ) {
        let counters = self.v4.core.counters();
        match origin {
            Origin::Device => counters.received.add(burst.len() as u64),
            Origin::Worker => counters.taken_over.add(burst.len() as u64),
        }
        for packet in burst.iter() {
            packet.prefetch();
        }
        if let Some(crossing) = &mut self.crossing {
            crossing.origin = origin;
        }
        // Each half goes as far as packets are of its family.
        loop {
            let crossing = self.crossing.as_deref_mut();
            let fragments = self.fragments.as_deref_mut();
            match &mut self.v6 {
                Some(v6) if self.is_v6 => {
                    let others = Some(Others::V4(&self.v4.core.live.table));
                    let beside = Beside {
                        crossing,
                        others,
                        fragments,
                    };
                    v6.process(burst, origin, turn.with(beside));
                }
                v6 => {
                    let others = v6.as_ref().map(|v6| Others::V6(&v6.core.live.table));
                    let beside = Beside {
                        crossing,
                        others,
                        fragments,
                    };
                    self.v4.process(burst, origin, turn.with(beside));
                }
            }
            if burst.is_empty() {
                return;
            }
            self.is_v6 = !self.is_v6;
        }
    }

    /// What a worker does besides packets, once a loop: waiting packets, the control thread's orders, expiry.
    pub fn poll<S: Sink<Packet = P>>(&mut self, mut turn: Turn<'_, S>) {
        self.v4.core.send_waiting(&mut turn);
        if let Some(v6) = &mut self.v6 {
            v6.core.send_waiting(&mut turn);
        }
        if let Some(crossing) = &mut self.crossing {
            crossing.send_waiting(&mut turn);
        }
        if let Some(fragments) = &mut self.fragments
            && !fragments.is_empty()
        {
            let timeout = turn.tables.fragment_timeout;
            fragments.poll(timeout, turn.now, self.v4.core.counters());
        }
        if !self.v4.core.mailbox.orders.is_empty() {
            self.obey(&mut turn);
        }
        self.v4.core.sweep(&mut turn);
        if let Some(v6) = &mut self.v6 {
            v6.core.sweep(&mut turn);
        }
        if let Some(crossing) = &mut self.crossing {
            crossing.sweep(&mut turn);
        }
    }

    /// Takes what a poll was ordered to look at packets with, if it was.
    #[inline(always)]
    pub fn take_watch(&mut self) -> Option<Box<Watch>> {
        self.watch.take()
    }

    /// Whether expiry is behind the clock: a replay, whose clock jumps, polls on until it is not.
    pub fn is_behind(&self) -> bool {
        let v6 = self.v6.as_ref().map(|v6| &v6.core.sweep);
        let crossing = self.crossing.as_ref().map(|crossing| &crossing.sweep);
        let mut others = v6.into_iter().chain(crossing);
        let fragments = self.fragments.as_ref();
        self.v4.core.sweep.is_behind()
            || others.any(Sweep::is_behind)
            || fragments.is_some_and(|fragments| fragments.is_behind())
    }

    /// The table of IPv4 connections, for a look.
    pub fn connections(&self) -> &Table {
        &self.v4.core.live.table
    }

    /// The table of IPv6 connections, if there is one.
    pub fn connections6(&self) -> Option<&Table<Connection6>> {
        self.v6.as_ref().map(|v6| &v6.core.live.table)
    }

    /// The table of the connections whose sides are of different families, if there is one.
    pub fn connections_across(&self) -> Option<&Table<ConnectionAny>> {
        self.crossing.as_ref().map(|crossing| &crossing.live.table)
    }
}

impl<F: Wire, P: Packet> Half<F, P> {
    /// Decides on the burst's packets, and takes them out of it, up to the first one of the other family.
    ///
    /// One function for each family: inlined into one, they would spill each other's registers.
    #[inline(never)]
    fn process<S: Sink<Packet = P>>(
        &mut self,
        burst: &mut Burst<P>,
        origin: Origin,
        mut turn: Turn<'_, S>,
    ) {
        let Half { core, stage } = self;
        core.origin = origin;
        let lookup = core.live.table.lookup();
        let count = stage.parse(burst, turn.tables, &lookup);
        stage.guess(count, &lookup);
        let any_new = stage.find(count, &lookup, &core.live.counters.reals);
        let targets = match any_new {
            true => {
                if let Some(crossing) = &turn.beside.crossing {
                    crossing.fetch_connections(stage, count);
                }
                core.fetch_services(stage, count, turn.tables)
            }
            false => ArrayVec::new(),
        };
        core.decide(burst, count, stage, &targets, &mut turn);
    }
}

impl<F: Family, P: Packet> Core<F, P> {
    fn new(
        worker: WorkerId,
        connections: usize,
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        keeping: Option<&Keeping>,
    ) -> Result<Self, NoMemory> {
        let kept = match keeping {
            None => None,
            Some(keeping) => {
                let bytes = connections * size_of::<Connection<F::Key>>();
                let table = keeping.table(worker.0.into(), F::TABLE, Connection::<F::Key>::FREE);
                table.map_err(|_| NoMemory { bytes })?
            }
        };
        // The halves of a director wrap packets by headers of one kind and source.
        let share = worker.index() * 2 + usize::from(!F::IS_FIRST);
        let shares = shared.steering.workers() * 2;
        Ok(Core {
            worker,
            draws: Draws::new(shared.seed, worker, F::TABLE),
            live: Live::new(
                connections,
                kept,
                shared.clone(),
                shared.stats.share_of(worker),
                (worker, mailbox.clone()),
            )?,
            memory: F::memory(worker, &shared),
            identifications: Identifications::new(share, shares),
            identifications6: Identifications6::new(share, shares, shared.seed),
            shared,
            mailbox,
            waiting: Waiting::new(),
            refused: Refused::new(),
            reminders: Reminders::new(),
            sweep: Sweep::default(),
            wants: Wants::new(),
            origin: Origin::Device,
        })
    }

    /// Sends what waits for its next hop no longer.
    fn send_waiting<S: Sink<Packet = P>>(&mut self, turn: &mut Turn<'_, S>) {
        if !self.waiting.is_empty() {
            let counters = &self.live.counters;
            self.waiting
                .poll(turn.tables, counters, turn.now, turn.sink);
        }
    }

    #[inline(always)]
    fn counters(&self) -> &WorkerStats {
        &self.live.counters
    }
}

impl<F: Wire, P: Packet> Core<F, P> {
    /// Decides on the first packets of a burst, in order, and takes them out of it.
    #[inline(always)]
    fn decide<S: Sink<Packet = P>>(
        &mut self,
        burst: &mut Burst<P>,
        count: usize,
        stage: &mut Stage<F>,
        targets: &LookedUp,
        turn: &mut Turn<'_, S>,
    ) {
        let version = self.live.table.version();
        // Whether a packet of this burst has made or ended a connection: what was found before may be wrong then.
        let mut has_changed = false;
        for (packet, slot) in burst.drain(..count).zip(&mut stage.slots) {
            if has_changed {
                cold_path();
                slot.place = self.live.table.lookup().place(slot.hash, &slot.flow.key);
            }
            let left = match slot.flow.kind > Kind::Unusual {
                true => self.known(packet, slot, turn),
                false => Some(packet),
            };
            if let Some(packet) = left {
                cold_path();
                let n = usize::from(slot.number);
                match slot.flow.kind {
                    Kind::Other => self.other(packet, &stage.others[n], turn),
                    _ => self.unusual(packet, slot, targets.get(n).copied().flatten(), turn),
                }
                has_changed |= self.live.table.version() != version;
            }
        }
    }

    /// A packet of a flow that does not simply go on; and what it is to, if that was looked up already.
    #[inline(never)]
    fn unusual<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        slot: &Slot<F>,
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
            _ if F::is_bad_source(flow.key.source()) => (
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
    fn other<S: Sink<Packet = P>>(
        &mut self,
        packet: P,
        parsed: &Parsed<F>,
        turn: &mut Turn<'_, S>,
    ) {
        let tables = turn.tables;
        let port = packet.port();
        let (verdict, context) = match parsed {
            Parsed::Bad(reason) => (Verdict::Drop(*reason), PacketContext::default()),
            _ if is_own_or_no_mac(packet.data(), port, tables) => (
                Verdict::Drop(DropReason::BadSourceMac),
                PacketContext::default(),
            ),
            parsed => F::other(self, packet, parsed, turn),
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
            Verdict::Queue(_) | Verdict::Await => self.counters().queued.add(1),
            Verdict::Local(reason) => self.counters().deliver(reason),
            Verdict::Drop(reason) => self.counters().drop(reason),
            Verdict::HandOver(_) => self.counters().handed_over.add(1),
        }
    }
}

/// Whether the source MAC address is none that another station can have, see [`is_bad_source_mac`], or another port's.
fn is_own_or_no_mac(frame: &[u8], port: PortId, tables: &Tables) -> bool {
    is_bad_source_mac(frame, tables.port(port))
        || crate::wire::ethernet::source(frame).is_some_and(|source| tables.is_own_mac(source))
}

/// Whether a flow's connections begin by a handshake: of TCP or SCTP.
fn has_handshake<F: Family>(flow: &Flow<F>) -> bool {
    is_tcp(flow) || sctp::is_sctp(flow)
}

/// Whether a flow is of TCP.
fn is_tcp<F: Family>(flow: &Flow<F>) -> bool {
    flow.key.protocol() == crate::net::protocol::TCP
}

//! The dataplane on the clock of captures: packets in, frames out, the same on every machine.
//!
//! It drives the director, the neighbours and the expiry exactly as a worker and the control thread do, except that
//! time only moves when a packet comes. Before a packet is processed, everything that was due until then happens at
//! its own time; after it, whatever it set off (an ARP request, the packets that an ARP answer releases) happens at
//! the packet's time. A replay begins after start-up: nothing announces itself.

mod explain;
mod merge;

pub use explain::explain;
pub use merge::{Input, merge};

use crate::arch::NoMemory;
use crate::config::Config;
use crate::control::changes::{Changes, NeedsRestart};
use crate::control::model::{Device, Model};
use crate::director::{Director, Origin, Shared};
use crate::exchange::Mailbox;
use crate::io::memory::Memory;
use crate::packet::{Burst, Packet, Priority, Sent, Sink};
use crate::rcu::Reader;
use crate::stats::{Stats, WorkerStats};
use crate::steering::{DEFAULT_KEY, Steering};
use crate::tables::Tables;
use crate::units::{PortId, Time, WorkerId};
use crate::verdict::{Context, Verdict};
use crate::wire::Mac;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Instead of a daemon's secret: the same hashes and local ports in every replay.
const SEED: u64 = 0x7765_6972;

/// A dataplane without a clock and devices of its own. Several workers take turns in one thread; frames are spread over
/// them as a NIC with the default key does.
pub struct Replay {
    model: Model,
    workers: Vec<Worker>,
    shared: Arc<Shared>,
    outbox: Outbox,
    clock: Time,
}

struct Worker {
    reader: Reader<Tables>,
    director: Director<Memory>,
    mailbox: Arc<Mailbox>,
}

/// What became of one received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub worker: WorkerId,
    /// When it was processed: its timestamp, or that of an earlier packet if the timestamps went back.
    pub time: Time,
    pub verdict: Verdict,
    pub context: Context,
    /// For a packet that was sent on or answered: which frame of its out port that is, from 0.
    pub out_n: Option<u64>,
}

/// A frame that weir transmits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub port: PortId,
    /// The timestamp of the packet or timer that caused it.
    pub time: Time,
    pub packet: Memory,
}

/// Received packets that ended nowhere, or twice: a bug in weir.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("internal error: {0} received packets are unaccounted for")]
pub struct Unaccounted(pub i64);

impl Replay {
    /// The dataplane of a configuration at time `start`, with so many workers, at least one. `packets`: no more than so
    /// many will come; it reserves no more memory than they can use.
    ///
    /// # Errors
    /// Where the kernel refuses that memory.
    pub fn new(
        config: &Config,
        workers: usize,
        packets: usize,
        start: Time,
    ) -> Result<Self, NoMemory> {
        let workers = workers.max(1);
        let stats = Arc::new(Stats::new(workers)?);
        let devices = (1..)
            .zip(&config.ports)
            .map(|(number, port)| device(number, port.mac))
            .collect();
        let (model, readers) = Model::new(config, devices, stats.clone(), SEED, start);
        // A packet makes at most a connection and a persistence template: this limit is never met before the other.
        let connections = config.limits.connections.div_ceil(workers);
        let connections = connections.min(packets.saturating_mul(2));
        let shared = Shared::new(stats, Steering::new(DEFAULT_KEY, workers), SEED);
        let worker = |(n, mut reader): (usize, Reader<Tables>)| {
            reader.quiescent();
            let mailbox = Arc::new(Mailbox::default());
            let director = Director::new(
                WorkerId(n as u8),
                connections,
                shared.clone(),
                mailbox.clone(),
            )?;
            Ok(Worker {
                reader,
                director,
                mailbox,
            })
        };
        let workers = readers.into_iter().enumerate().map(worker);
        let workers = workers.collect::<Result<_, _>>()?;
        let outbox = Outbox {
            worker: WorkerId(0),
            stats: shared.stats.clone(),
            clock: start,
            frames: Vec::new(),
            sent: vec![0; config.ports.len()],
            last: None,
            decided: None,
            handed_over: None,
        };
        Ok(Replay {
            model,
            workers,
            shared,
            outbox,
            clock: start,
        })
    }

    /// Receives a frame by `port` at `time`, and does all that follows from it.
    pub fn receive(&mut self, port: PortId, frame: &[u8], time: Time) -> Decision {
        self.advance(time);
        self.outbox.last = None;
        let mut worker = self.shared.steering.worker_of(frame);
        self.process(worker, Memory::new(port, frame), Origin::Device);
        while let Some((owner, packet)) = self.outbox.handed_over.take() {
            worker = owner;
            self.process(worker, packet, Origin::Worker);
        }
        let (verdict, context) = self
            .outbox
            .decided
            .take()
            .expect("the director decides on every packet");
        // A known connection's service is its real server's.
        let of_real = || self.shared.stats.service_of(context.real?);
        let context = Context {
            service: context.service.or_else(of_real),
            ..context
        };
        let decision = Decision {
            worker,
            time: self.clock,
            verdict,
            context,
            out_n: self.outbox.last,
        };
        self.settle();
        decision
    }

    fn process(&mut self, worker: WorkerId, packet: Memory, origin: Origin) {
        let mut burst = Burst::new();
        burst.push(packet);
        self.outbox.worker = worker;
        let worker = &mut self.workers[worker.index()];
        let (tables, sink) = (worker.reader.read(), &mut self.outbox);
        worker
            .director
            .process(&mut burst, origin, tables, self.clock, sink);
    }

    /// Changes the configuration at `time`, as a reload of a running daemon does.
    ///
    /// # Errors
    ///
    /// If a running daemon could not change it so; then nothing changes.
    pub fn reload(&mut self, config: Config, time: Time) -> Result<Changes, NeedsRestart> {
        self.advance(time);
        let changes = self.model.apply(config, self.clock)?;
        self.quiescent();
        self.model.tick(self.clock);
        self.settle();
        Ok(changes)
    }

    /// Lets everything happen that is due until `time`, each at its own time. The clock never goes back.
    fn advance(&mut self, time: Time) {
        let time = time.max(self.clock);
        while let Some(due) = self.model.resolver.next_due().filter(|due| *due <= time) {
            self.set_clock(due.max(self.clock));
            self.model.tick(self.clock);
            self.quiescent();
            self.settle();
        }
        self.set_clock(time);
        self.model.tick(self.clock);
        self.quiescent();
        self.settle();
    }

    fn quiescent(&mut self) {
        for worker in &mut self.workers {
            worker.reader.quiescent();
        }
    }

    fn set_clock(&mut self, time: Time) {
        self.clock = time;
        self.outbox.clock = time;
    }

    /// Lets everything happen that needs no time: the control thread takes in what the worker noticed, the worker obeys
    /// its orders, sends what need wait no longer, and ends the connections that are over.
    fn settle(&mut self) {
        for worker in &self.workers {
            while let Some(event) = worker.mailbox.events.pop() {
                self.model.event(event, self.clock);
            }
        }
        for order in self.model.resolver.take_orders() {
            // There is always room: every order is obeyed before the next one is given.
            let _ = self.workers[0].mailbox.orders.push(order);
            self.poll(0);
        }
        for n in 0..self.workers.len() {
            self.poll(n);
            while self.workers[n].director.is_behind() {
                self.poll(n);
            }
        }
    }

    fn poll(&mut self, n: usize) {
        let worker = &mut self.workers[n];
        self.outbox.worker = worker.director.worker();
        let tables = worker.reader.read();
        worker.director.poll(tables, self.clock, &mut self.outbox);
    }

    /// The frames sent since the last call, in the order of their sending.
    pub fn take_frames(&mut self) -> impl Iterator<Item = Frame> {
        self.outbox.frames.drain(..)
    }

    /// What was counted.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// The next hops that the captures bring no ARP answer of, with their ports, in the order of their addresses.
    pub fn unanswered(&self) -> Vec<(Ipv4Addr, PortId)> {
        let neighbours = self.model.resolver.neighbours().iter();
        let mut silent: Vec<_> = neighbours
            .filter(|(_, _, link, is_static)| !is_static && !link.is_usable())
            .map(|(_, address, link, _)| (address, link.port))
            .collect();
        silent.sort_unstable_by_key(|&(address, port)| (address, port.0));
        silent
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Holds the invariant *received = transmitted + answered + local + queued + Σ drops*.
    pub fn check(&self) -> Result<(), Unaccounted> {
        let packets = self.stats().workers().map(WorkerStats::unaccounted);
        match packets.map(i64::abs).sum() {
            0 => Ok(()),
            packets => Err(Unaccounted(packets)),
        }
    }
}

/// Port `number`, from 1, as if it had a device. Without a `mac` it takes every frame: the capture was taken on another
/// machine, whose MAC address is in it.
fn device(number: u8, mac: Option<[u8; 6]>) -> Device {
    match mac {
        Some(mac) => Device {
            mac: Mac(mac),
            any_mac: false,
        },
        None => Device {
            mac: Mac([0x02, b'w', b'e', b'i', b'r', number]),
            any_mac: true,
        },
    }
}

/// Takes what the director sends.
struct Outbox {
    /// Who sends.
    worker: WorkerId,
    stats: Arc<Stats>,
    clock: Time,
    /// Not yet taken.
    frames: Vec<Frame>,
    /// For each port, how many frames were sent.
    sent: Vec<u64>,
    /// Of the last frame, its number on its port.
    last: Option<u64>,
    decided: Option<(Verdict, Context)>,
    handed_over: Option<(WorkerId, Memory)>,
}

impl Sink for Outbox {
    type Packet = Memory;

    fn send(&mut self, port: PortId, packet: Memory, kind: Sent) {
        let sent = &mut self.sent[port.index()];
        self.last = Some(*sent);
        *sent += 1;
        self.stats.worker(self.worker).sent(port, kind, 1, 0);
        self.frames.push(Frame {
            port,
            time: self.clock,
            packet,
        });
    }

    fn alloc(&mut self, port: PortId) -> Option<Memory> {
        Some(Memory::new(port, &[]))
    }

    fn local(&mut self, _port: PortId, _packet: Memory, _priority: Priority) -> bool {
        true
    }

    fn hand_over(&mut self, to: WorkerId, packet: Memory) -> bool {
        self.handed_over = Some((to, packet));
        true
    }

    fn decided(&mut self, _port: PortId, verdict: Verdict, context: Context) {
        self.decided = Some((verdict, context));
    }
}

impl Frame {
    pub fn bytes(&self) -> &[u8] {
        self.packet.data()
    }
}

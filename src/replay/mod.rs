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

use crate::config::Config;
use crate::control::changes::{Changes, NeedsRestart};
use crate::control::model::{Device, Model};
use crate::director::Director;
use crate::exchange::Mailbox;
use crate::io::memory::Memory;
use crate::packet::{Burst, Packet, Sent, Sink};
use crate::rcu::Reader;
use crate::stats::{Stats, WorkerStats};
use crate::tables::Tables;
use crate::units::{PortId, Time, WorkerId};
use crate::verdict::{Context, Verdict};
use crate::wire::Mac;
use std::sync::Arc;

/// Instead of a daemon's secret: the same hashes and local ports in every replay.
const SEED: u64 = 0x7765_6972;
const WORKER: WorkerId = WorkerId(0);

/// A dataplane without a clock and devices of its own.
pub struct Replay {
    model: Model,
    reader: Reader<Tables>,
    director: Director<Memory>,
    mailbox: Arc<Mailbox>,
    outbox: Outbox,
    clock: Time,
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
    /// The dataplane of a configuration at time `start`. `packets`: no more than so many will come; it reserves no more
    /// memory than they can use.
    pub fn new(config: &Config, packets: usize, start: Time) -> Self {
        let stats = Arc::new(Stats::new(1));
        let devices = (1..)
            .zip(&config.ports)
            .map(|(number, port)| device(number, port.mac))
            .collect();
        let (model, mut readers) = Model::new(config, devices, stats.clone(), SEED, start);
        let mut reader = readers.swap_remove(0);
        reader.quiescent();
        // A packet makes at most a connection and a persistence template: this limit is never met before the other.
        let connections = config.limits.connections.min(packets.saturating_mul(2));
        let mailbox = Arc::new(Mailbox::default());
        let director = Director::new(WORKER, connections, SEED, stats.clone(), mailbox.clone());
        let outbox = Outbox {
            stats,
            clock: start,
            frames: Vec::new(),
            sent: vec![0; config.ports.len()],
            last: None,
            decided: None,
        };
        Replay {
            model,
            reader,
            director,
            mailbox,
            outbox,
            clock: start,
        }
    }

    /// Receives a frame by `port` at `time`, and does all that follows from it.
    pub fn receive(&mut self, port: PortId, frame: &[u8], time: Time) -> Decision {
        self.advance(time);
        self.outbox.last = None;
        let mut burst = Burst::new();
        burst.push(Memory::new(port, frame));
        self.director
            .process(&mut burst, self.reader.read(), self.clock, &mut self.outbox);
        let (verdict, context) = self
            .outbox
            .decided
            .take()
            .expect("the director decides on every packet");
        let decision = Decision {
            worker: self.director.worker(),
            time: self.clock,
            verdict,
            context,
            out_n: self.outbox.last,
        };
        self.settle();
        decision
    }

    /// Changes the configuration at `time`, as a reload of a running daemon does.
    ///
    /// # Errors
    ///
    /// If a running daemon could not change it so; then nothing changes.
    pub fn reload(&mut self, config: Config, time: Time) -> Result<Changes, NeedsRestart> {
        self.advance(time);
        let changes = self.model.apply(config, self.clock)?;
        self.reader.quiescent();
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
            self.reader.quiescent();
            self.settle();
        }
        self.set_clock(time);
        self.model.tick(self.clock);
        self.reader.quiescent();
        self.settle();
    }

    fn set_clock(&mut self, time: Time) {
        self.clock = time;
        self.outbox.clock = time;
    }

    /// Lets everything happen that needs no time: the control thread takes in what the worker noticed, the worker obeys
    /// its orders, sends what need wait no longer, and ends the connections that are over.
    fn settle(&mut self) {
        while let Some(event) = self.mailbox.events.pop() {
            self.model.event(event, self.clock);
        }
        for order in self.model.resolver.take_orders() {
            // There is always room: every order is obeyed before the next one is given.
            let _ = self.mailbox.orders.push(order);
            self.poll();
        }
        self.poll();
        while self.director.is_behind() {
            self.poll();
        }
    }

    fn poll(&mut self) {
        self.director
            .poll(self.reader.read(), self.clock, &mut self.outbox);
    }

    /// The frames sent since the last call, in the order of their sending.
    pub fn take_frames(&mut self) -> impl Iterator<Item = Frame> {
        self.outbox.frames.drain(..)
    }

    /// What was counted.
    pub fn stats(&self) -> &WorkerStats {
        self.outbox.stats.worker(WORKER)
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Holds the invariant *received = transmitted + answered + local + queued + Σ drops*.
    pub fn check(&self) -> Result<(), Unaccounted> {
        match self.stats().unaccounted() {
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
    stats: Arc<Stats>,
    clock: Time,
    /// Not yet taken.
    frames: Vec<Frame>,
    /// For each port, how many frames were sent.
    sent: Vec<u64>,
    /// Of the last frame, its number on its port.
    last: Option<u64>,
    decided: Option<(Verdict, Context)>,
}

impl Sink for Outbox {
    type Packet = Memory;

    fn send(&mut self, port: PortId, packet: Memory, kind: Sent) {
        let sent = &mut self.sent[port.index()];
        self.last = Some(*sent);
        *sent += 1;
        self.stats.worker(WORKER).sent(port, kind, 1, 0);
        self.frames.push(Frame {
            port,
            time: self.clock,
            packet,
        });
    }

    fn alloc(&mut self, port: PortId) -> Option<Memory> {
        Some(Memory::new(port, &[]))
    }

    fn local(&mut self, _port: PortId, _packet: Memory) {}

    fn decided(&mut self, _port: PortId, verdict: Verdict, context: Context) {
        self.decided = Some((verdict, context));
    }
}

impl Frame {
    pub fn bytes(&self) -> &[u8] {
        self.packet.data()
    }
}

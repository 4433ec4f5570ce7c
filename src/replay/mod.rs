//! The dataplane on the clock of captures: packets in, frames out, the same on every machine.
//!
//! It drives the director, the neighbours and the expiry exactly as a worker and the control thread do, except that
//! time only moves when a packet comes. Before a packet is processed, everything that was due until then happens at
//! its own time; after it, whatever it set off (a question for a neighbour, the packets that its answer releases) happens at
//! the packet's time. Packets may come in together, as a worker finds them when it polls its queues: then the same holds
//! of all of them as of one. A replay begins after start-up: nothing announces itself.

pub mod compare;
mod explain;
mod merge;
mod outbox;

pub use explain::explain;
pub use merge::{Input, Received, merge};

use crate::arch::NoMemory;
use crate::config::{Config, ConnectionLog, StaticNeighbour};
use crate::conn::{Connection, Connection6, ConnectionAny, Key, Table};
use crate::connection_log::Record;
pub use crate::director::Assumed;
use crate::director::{Director, Origin, Restored, Room, Shared, Turn};
use crate::door::Door;
use crate::exchange::Mailbox;
use crate::io::memory::Memory;
use crate::model::{Changes, NeedsRestart};
use crate::model::{Device, Model};
use crate::net::{Vlan, is_link_local};
use crate::packet::{BURST, Burst, Packet};
use crate::rcu::Reader;
use crate::record::{Header, Keeping, Kept, Place, Unkept};
use crate::stats::{Stats, WorkerStats};
use crate::steering::{DEFAULT_KEY, Steering};
use crate::tables::Tables;
use crate::units::{PortId, Time, WorkerId};
use crate::verdict::{DropReason, PacketContext, Verdict};
use crate::wire::Mac;
use outbox::{Numbered, Outbox};
use std::collections::BTreeSet;
use std::iter::Peekable;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Instead of a daemon's secret: the same hashes and local ports in every replay.
const SEED: u64 = 0x7765_6972;

/// Packets come in together if they come within so long of the first of them: a busy worker is about as long away from
/// its queues.
pub const WINDOW: Duration = Duration::from_micros(10);

/// A dataplane without a clock and devices of its own. Several workers take turns in one thread; frames are spread over
/// them as a NIC with the default key does.
pub struct Replay {
    model: Model,
    /// By port: the way from its capture to the ports, where some on its device are tagged.
    doors: Vec<Option<Door>>,
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
    /// That of the packet's VLAN. Where there is none, the port that it was given to.
    pub port: PortId,
    pub worker: WorkerId,
    /// When it was processed: its timestamp, or that of an earlier packet if the timestamps went back.
    pub time: Time,
    pub verdict: Verdict,
    pub context: PacketContext,
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
        let replay = Self::made(config, workers, packets, start, |_, _, _| None)?;
        Ok(replay.0)
    }

    /// As [`new`](Self::new), with its connections in a file: those that an earlier one has left there go on. Both have the clock
    /// of their captures.
    ///
    /// # Errors
    /// Where there is no room for the file.
    pub fn keeping(
        config: &Config,
        workers: usize,
        packets: usize,
        start: Time,
        place: Place,
    ) -> Result<(Self, Restored), Unkept> {
        let former = place.kept().ok().flatten();
        let mut failed = None;
        let keep = |model: &mut Model, steering: &Steering, room: Room| {
            let header = Header {
                boot: [0; 16],
                origin: 0,
                alive: start.nanos(),
                key: *steering.key(),
                workers: steering.workers() as u32,
                names: 1024,
                names_used: 0,
                sections: Vec::new(),
            };
            let rooms = vec![room.tables(); steering.workers()];
            let (keeping, names) = match Keeping::new(place, header, &rooms) {
                Ok(made) => made,
                Err(why) => {
                    failed = Some(why);
                    return None;
                }
            };
            model.set_names(names);
            let former = former.map(|mut former| {
                former.resolve(|name| model.named(name));
                former
            });
            Some((keeping, former))
        };
        let made = Self::made(config, workers, packets, start, keep)?;
        match failed {
            None => Ok(made),
            Some(why) => Err(why),
        }
    }

    /// `keep`: where connections are kept, if they are, and those of a former process.
    fn made(
        config: &Config,
        workers: usize,
        packets: usize,
        start: Time,
        keep: impl FnOnce(&mut Model, &Steering, Room) -> Option<(Keeping, Option<Kept>)>,
    ) -> Result<(Self, Restored), NoMemory> {
        let workers = workers.max(1);
        let stats = Arc::new(Stats::new(workers)?);
        let devices = (1..)
            .zip(&config.ports)
            .map(|(number, port)| device(number, port.mac))
            .collect();
        let (mut model, readers) = Model::new(config, devices, stats.clone(), SEED, start);
        // A packet makes at most a connection and a persistence template: this limit is never met before the other.
        let connections = config.limits.connections.div_ceil(workers);
        let connections = connections.min(packets.saturating_mul(2));
        let mut room = Room::shared(config, connections, workers);
        // Likewise: at most half of the places are for datagrams without their first fragment.
        let fragments = &mut room.fragments;
        fragments.datagrams = fragments.datagrams.min(packets.saturating_mul(2).max(2));
        fragments.waiting = fragments.waiting.min(packets.max(1));
        let shared = Shared::new(stats, Steering::new(DEFAULT_KEY, workers), SEED);
        let kept = keep(&mut model, &shared.steering, room);
        let keeping = kept.as_ref().map(|(keeping, _)| keeping);
        let former = kept.as_ref().and_then(|(_, former)| former.as_ref());
        let mut restored = Restored::default();
        let worker = |(n, mut reader): (usize, Reader<Tables>)| {
            reader.quiescent();
            let mailbox = Arc::new(Mailbox::default());
            let id = WorkerId(n as u8);
            let made = Director::keeping(id, room, shared.clone(), mailbox.clone(), keeping);
            let mut director = made?;
            if let Some(former) = former {
                restored += director.restore(former, 0, reader.read(), start);
            }
            Ok(Worker {
                reader,
                director,
                mailbox,
            })
        };
        let workers = readers.into_iter().enumerate().map(worker);
        let workers = workers.collect::<Result<Vec<_>, NoMemory>>()?;
        if let Some((keeping, _)) = &kept {
            // A file that cannot be renamed is found by no later one.
            let _ = keeping.complete();
        }
        let vlans = config.ports.iter().map(|port| port.vlan).collect();
        let outbox = Outbox::new(shared.stats.clone(), vlans, workers.len(), start);
        let replay = Replay {
            model,
            doors: doors(config, |_| true),
            workers,
            shared,
            outbox,
            clock: start,
        };
        Ok((replay, restored))
    }

    /// Says which ports have captures. Frames in a capture may also be for the ports on the same device that have none.
    pub fn set_captured(&mut self, ports: &[PortId]) {
        self.doors = doors(self.model.config(), |port| ports.contains(&port));
    }

    /// Receives a frame by `port` at `time`, and does all that follows from it.
    pub fn receive(&mut self, port: PortId, frame: &[u8], time: Time) -> Decision {
        let mut decisions = self.receive_together(&[(port, time, frame)], 1);
        decisions.pop().expect("one decision a packet")
    }

    /// Takes packets off that come in together, up to `most` of them: those within [`WINDOW`] of the first, as long as
    /// nothing is due in between.
    pub fn gather<'a>(
        &mut self,
        packets: &mut Peekable<impl Iterator<Item = Received<'a>>>,
        most: usize,
    ) -> Vec<Received<'a>> {
        let Some((_, first, _)) = packets.peek() else {
            return Vec::new();
        };
        let end = *first + WINDOW;
        self.advance(*first);
        let due = self.model.next_due();
        let mut together = Vec::new();
        let comes_along =
            |(_, time, _): &Received| *time < end && due.is_none_or(|due| *time < due);
        while together.len() < most.max(1)
            && let Some(packet) = packets.next_if(comes_along)
        {
            together.push(packet);
        }
        together
    }

    /// Receives packets that come in together, and does all that follows from them; returns what became of each.
    ///
    /// The workers take turns. Each polls what the others have handed over to it, and then its own packets, in bursts of at
    /// most `burst`. The clock stands at the timestamp of the first packet meanwhile, as a worker reads it before it polls;
    /// what the control thread does about them comes after all of them. Frames have the timestamps, and come in the order,
    /// of the packets that caused them.
    pub fn receive_together(&mut self, packets: &[Received], burst: usize) -> Vec<Decision> {
        let Some((_, first, _)) = packets.first() else {
            return Vec::new();
        };
        self.advance(*first);
        let mut last = self.clock;
        self.outbox.begin(packets.iter().map(|(port, time, _)| {
            last = last.max(*time);
            (*port, last)
        }));
        let mut shares: Vec<Vec<Numbered>> = self.workers.iter().map(|_| Vec::new()).collect();
        for (number, (port, _, frame)) in packets.iter().enumerate() {
            match self.enter(*port, frame) {
                Ok(packet) => {
                    let worker = self.shared.steering.worker_of(packet.data());
                    self.outbox.enters(number, packet.port());
                    shares[worker.index()].push((number, packet));
                }
                Err(reason) => self.outbox.refuse(number, reason),
            }
        }
        let mut any_left = true;
        while any_left {
            for (worker, share) in shares.iter_mut().enumerate() {
                let taken_over = self.outbox.take_handed_over(worker);
                self.process(worker, taken_over, Origin::Worker, burst);
                self.process(worker, std::mem::take(share), Origin::Device, burst);
            }
            any_left = self.outbox.has_handed_over();
        }
        let mut decisions = self.outbox.end();
        for Decision { context, .. } in &mut decisions {
            // A known connection's service is its real server's.
            let of_real = |real| self.shared.stats.service_of(real);
            context.service = context.service.or_else(|| context.real.and_then(of_real));
        }
        self.set_clock(last);
        self.settle();
        decisions
    }

    /// A frame of a port's capture, without tags, with the port that it is for.
    fn enter(&self, port: PortId, frame: &[u8]) -> Result<Memory, DropReason> {
        let mut packet = Memory::new(port, frame);
        if let Some(door) = &self.doors[port.index()] {
            let port = door.enter(&mut packet, None)?;
            packet.set_port(port);
        }
        Ok(packet)
    }

    /// Gives packets to the director of a worker, in bursts of at most `most`.
    fn process(&mut self, worker: usize, packets: Vec<Numbered>, origin: Origin, most: usize) {
        let worker = &mut self.workers[worker];
        let mut packets = packets.into_iter().peekable();
        while packets.peek().is_some() {
            let (numbers, mut burst): (Vec<_>, Burst<_>) =
                packets.by_ref().take(most.clamp(1, BURST)).unzip();
            let (tables, sink) = (worker.reader.read(), &mut self.outbox);
            sink.expect(worker.director.worker(), numbers.into_iter());
            worker
                .director
                .process(&mut burst, origin, Turn::new(tables, self.clock, sink));
        }
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

    /// Changes something of the running model at `time`, as an operator or a health check does.
    pub fn change<R>(&mut self, time: Time, change: impl FnOnce(&mut Model) -> R) -> R {
        self.advance(time);
        let changed = change(&mut self.model);
        self.quiescent();
        self.settle();
        changed
    }

    /// Has connections of another process on its first worker: see [`Director::assume`]. Returns which of them it has.
    pub fn assume(&mut self, connections: &[Assumed]) -> Vec<bool> {
        let worker = &mut self.workers[0];
        let tables = worker.reader.read();
        connections
            .iter()
            .map(|it| worker.director.assume(it, tables, self.clock))
            .collect()
    }

    /// Lets everything happen that is due until `time`, each at its own time. The clock never goes back.
    fn advance(&mut self, time: Time) {
        let time = time.max(self.clock);
        while let Some(due) = self.model.next_due().filter(|due| *due <= time) {
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
        worker
            .director
            .poll(Turn::new(tables, self.clock, &mut self.outbox));
    }

    /// Logs connections from now on: their records wait until they are [taken](Self::take_records).
    pub fn log_connections(&mut self, log: &ConnectionLog) {
        self.shared.stats.want_logged();
        for worker in &self.workers {
            let records = worker.mailbox.records.get_or_init(Arc::default);
            records.set(log.sample, log.starts, log.ends);
        }
    }

    /// Logs none of what happens from now on.
    pub fn stop_logging(&mut self) {
        for worker in &self.workers {
            if let Some(records) = worker.mailbox.records.get() {
                records.set(0, false, false);
            }
        }
    }

    /// The records since the last call, by worker.
    pub fn take_records(&self) -> impl Iterator<Item = Record> {
        let queues = self
            .workers
            .iter()
            .filter_map(|it| it.mailbox.records.get());
        queues.flat_map(|records| std::iter::from_fn(|| records.pop()))
    }

    /// Records that were made faster than they were taken.
    pub fn lost_records(&self) -> u64 {
        let queues = (self.workers.iter()).filter_map(|it| it.mailbox.records.get());
        queues.map(|records| records.lost()).sum()
    }

    /// The frames sent since the last call, in the order of their sending.
    pub fn take_frames(&mut self) -> impl Iterator<Item = Frame> {
        self.outbox.take_frames()
    }

    /// The live connections with the worker that has each, in the order of their places in its table.
    pub fn connections(&self) -> impl Iterator<Item = (WorkerId, &Connection)> {
        self.live(|director| Some(director.connections()))
    }

    /// The same of IPv6.
    pub fn connections6(&self) -> impl Iterator<Item = (WorkerId, &Connection6)> {
        self.live(Director::connections6)
    }

    /// The same of those whose sides are of different families.
    pub fn connections_across(&self) -> impl Iterator<Item = (WorkerId, &ConnectionAny)> {
        self.live(Director::connections_across)
    }

    fn live<K: Key>(
        &self,
        table: impl Fn(&Director<Memory>) -> Option<&Table<Connection<K>>>,
    ) -> impl Iterator<Item = (WorkerId, &Connection<K>)> {
        self.workers.iter().flat_map(move |worker| {
            let live = table(&worker.director)
                .into_iter()
                .flat_map(|table| (0..table.high_water()).filter_map(|number| table.live(number)));
            live.map(|connection| (worker.director.worker(), connection))
        })
    }

    /// What was counted.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// The next hops that the captures bring no answer of, with their ports, in the order of their addresses.
    pub fn unanswered(&self) -> Vec<(IpAddr, PortId)> {
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

    /// Checks that *received + taken over = transmitted + answered + local + queued + handed over + Σ drops*, on each worker.
    pub fn check(&self) -> Result<(), Unaccounted> {
        let packets = self.stats().workers().map(WorkerStats::unaccounted);
        match packets.map(i64::abs).sum() {
            0 => Ok(()),
            packets => Err(Unaccounted(packets)),
        }
    }
}

/// Lets every next hop towards the real servers and `others` be known, by made up MAC addresses; and what becomes of
/// connections says nothing of real servers (`passive`).
///
/// # Errors
/// Where the kernel refuses the memory to look for them.
pub fn resolve(
    config: &mut Config,
    others: impl IntoIterator<Item = IpAddr>,
) -> Result<(), NoMemory> {
    for service in &mut config.services {
        if service.passive.is_some() {
            Arc::make_mut(service).passive = None;
        }
    }
    // No packet comes to this one: it needs no room for connections.
    let empty = Replay::new(config, 1, 0, Time::default())?;
    let tables = empty.model().tables();
    let servers = config.services.iter().flat_map(|service| service.servers());
    let hops: BTreeSet<(IpAddr, PortId)> = servers
        .map(|server| server.address)
        .chain(others)
        .filter_map(|address| {
            let route = tables.routes.get(address)?;
            let hop = route.gateway.map_or(address, |(_, via)| via);
            Some((hop, route.port))
        })
        .collect();
    let neighbours = hops
        .into_iter()
        .enumerate()
        .map(|(n, (address, port))| StaticNeighbour {
            address,
            port: is_link_local(address).then_some(port.index()),
            mac: made_up_mac(n),
        });
    add_neighbours(config, neighbours);
    Ok(())
}

/// Adds neighbours that a configuration does not have.
pub fn add_neighbours(config: &mut Config, all: impl IntoIterator<Item = StaticNeighbour>) {
    for new in all {
        let same = |old: &StaticNeighbour| (old.address, old.port) == (new.address, new.port);
        if !config.neighbours.iter().any(same) {
            config.neighbours.push(new);
        }
    }
}

/// A locally administered address that stands for one that ARP would tell.
pub fn made_up_mac(number: usize) -> Mac {
    let [.., a, b, c] = (number as u32).to_be_bytes();
    Mac([0x02, b'a', b'r', a, b, c])
}

/// By port, the way from its capture to the ports: to itself, and to those on the same device that have no capture.
fn doors(config: &Config, has_capture: impl Fn(PortId) -> bool) -> Vec<Option<Door>> {
    let devices = config.devices();
    let door = |(port, on): (PortId, &Vec<PortId>)| {
        let vlan_of = |port: PortId| (port, config.port(port).vlan);
        let is_needed = on.iter().any(|on| config.port(*on).vlan != Vlan::Untagged);
        let here = |on: &PortId| *on == port || !has_capture(*on);
        let ports = on.iter().copied().filter(here).map(vlan_of);
        is_needed.then(|| Door::to(port, &ports.collect::<Vec<_>>()))
    };
    let devices = config.ports.iter().map(|port| &devices[port.on.index()]);
    (0..).map(PortId).zip(devices).map(door).collect()
}

/// Port `number`, from 1, as if it had a device. Without a `mac` it takes every frame: the capture was taken on another
/// machine, whose MAC address is in it.
fn device(number: u8, mac: Option<Mac>) -> Device {
    match mac {
        Some(mac) => Device {
            mac,
            any_mac: false,
        },
        None => Device {
            mac: Mac([0x02, b'w', b'e', b'i', b'r', number]),
            any_mac: true,
        },
    }
}

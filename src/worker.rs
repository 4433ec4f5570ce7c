//! The run-to-completion loop: what a worker does, all its life, on its lcore.
//!
//! Nothing here waits, locks, allocates or makes a system call, but for the pauses of an idle worker that may take
//! them (`idle = "adaptive"`).

use crate::arch::cold_path;
use crate::capture::{Watch, Watched};
use crate::config::Idle;
use crate::director::{Director, Origin, Turn};
use crate::door::{self, Door};
use crate::host::WorkerEnd;
use crate::io::dpdk::{
    Clock, Flushed, Interrupts, Mbuf, MbufPool, RxQueue, Tally, TxBuffer, TxQueue,
};
use crate::net::{TagPriorities, Vlan};
use crate::packet::{Burst, Packet, Priority, Sent, Sink};
use crate::rcu::Reader;
use crate::ring::{Consumer, Producer, ring};
use crate::stats::{Stats, WorkerStats};
use crate::tables::Tables;
use crate::units::{DeviceId, PortId, WorkerId};
use crate::verdict::DropReason;
use crate::wire::vlan::control;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Everything that a worker takes along to its lcore.
pub(crate) struct Worker {
    pub director: Director<Mbuf>,
    pub tables: Reader<Tables>,
    pub rx: Vec<Inlet>,
    /// What the other workers hand over, each by a ring of its own.
    pub inbox: Vec<Consumer<Mbuf>>,
    pub ports: Ports,
    pub clock: Clock,
    pub idle: Idle,
    /// What ends its pauses early, where every receive queue has one.
    pub interrupts: Option<Interrupts>,
    pub stop: Arc<AtomicBool>,
}

impl Worker {
    /// Forwards until it is told to stop. What waits for a neighbour then is freed with the director.
    pub(crate) fn run(mut self) {
        let stats = self.ports.stats.clone();
        let counters = stats.worker(self.director.worker());
        let mut burst = Burst::new();
        let only_interrupts_matter = self.inbox.is_empty() && self.ports.host.is_none();
        let mut pause = Pause::new(
            self.idle,
            match self.interrupts {
                Some(_) if only_interrupts_matter => Pause::LONGEST_IF_WOKEN,
                _ => Pause::LONGEST,
            },
        );
        // Read once in a loop: the end of one is the beginning of the next.
        let mut now = self.clock.now();
        // While packets are captured.
        let mut watch: Option<Box<Watch>> = None;
        while !self.stop.load(Relaxed) {
            self.tables.quiescent();
            let tables = self.tables.read();
            let mut work = 0;
            // First: what the time since the last loop has ended is not to be found by a packet.
            match &mut watch {
                None => self.director.poll(Turn::new(tables, now, &mut self.ports)),
                Some(watching) => {
                    watching.turn(now);
                    let mut sink = Watched::new(&mut self.ports, watching);
                    self.director.poll(Turn::new(tables, now, &mut sink));
                    if watching.is_over() {
                        watch.take().into_iter().for_each(Watch::give_back);
                    }
                }
            }
            if let Some(ordered) = self.director.take_watch() {
                watch
                    .replace(ordered)
                    .into_iter()
                    .for_each(Watch::give_back);
            }
            for ring in &mut self.inbox {
                let taken = ring.take(&mut burst);
                if taken > 0 {
                    work += taken;
                    let turn = Turn::new(tables, now, &mut self.ports);
                    match &mut watch {
                        None => self.director.process(&mut burst, Origin::Worker, turn),
                        Some(watch) => {
                            let burst = (&mut burst, Origin::Worker);
                            watched(&mut self.director, (watch, &self.clock), burst, turn);
                        }
                    }
                }
            }
            for Inlet { queue, door } in &mut self.rx {
                let received = queue.burst(&mut burst);
                if received > 0 {
                    work += received;
                    match door {
                        None => count(counters, queue.port(), &burst),
                        Some(door) => {
                            enter(counters, door, &mut burst, watch.as_deref_mut());
                            if burst.is_empty() {
                                continue;
                            }
                        }
                    }
                    let turn = Turn::new(tables, now, &mut self.ports);
                    match &mut watch {
                        None => self.director.process(&mut burst, Origin::Device, turn),
                        Some(watch) => {
                            let burst = (&mut burst, Origin::Device);
                            watched(&mut self.director, (watch, &self.clock), burst, turn);
                        }
                    }
                }
            }
            work += self.ports.serve_host(watch.as_deref_mut());
            work += self.ports.flush();

            let end = self.clock.now();
            counters.loops.add(1);
            let nanos = end.nanos().saturating_sub(now.nanos());
            counters.total_nanos.add(nanos);
            if work > 0 {
                counters.busy_nanos.add(nanos);
            }
            now = end;
            if let Some(pause) = pause.after(work) {
                self.tables.offline(|| match &self.interrupts {
                    Some(interrupts) => interrupts.wait(pause),
                    None => std::thread::sleep(pause),
                });
                // Asleep is not busy, whatever ended it.
                now = self.clock.now();
                counters
                    .total_nanos
                    .add(now.nanos().saturating_sub(end.nanos()));
            }
        }
        self.ports.flush();
        watch.into_iter().for_each(Watch::give_back);
    }
}

/// Has a burst decided on, and looked at for a capture if there is time for that.
#[inline(never)]
fn watched(
    director: &mut Director<Mbuf>,
    (watch, clock): (&mut Watch, &Clock),
    (burst, origin): (&mut Burst<Mbuf>, Origin),
    turn: Turn<'_, Ports>,
) {
    cold_path();
    if !watch.has_time_for(burst.len()) {
        return director.process(burst, origin, turn);
    }
    let Turn {
        tables, now, sink, ..
    } = turn;
    let before = clock.now();
    watch.receive(burst, origin == Origin::Worker);
    watch.spend(clock.now().since(before));
    let mut sink = Watched::new(sink, watch);
    director.process(burst, origin, Turn::new(tables, now, &mut sink));
}

#[inline]
fn count(counters: &WorkerStats, port: PortId, burst: &Burst<Mbuf>) {
    let port = &counters.ports[port.index()];
    port.rx_packets.add(burst.len() as u64);
    port.rx_bytes
        .add(burst.iter().map(|packet| packet.data().len() as u64).sum());
}

/// A receive queue, and the door behind it where its device has tagged ports.
pub(crate) struct Inlet {
    pub queue: RxQueue,
    pub door: Option<Arc<Door>>,
}

/// Marks each frame with the port of its VLAN, without its tags. Those of no port end here.
#[inline(never)]
fn enter(
    counters: &WorkerStats,
    door: &Door,
    burst: &mut Burst<Mbuf>,
    mut watch: Option<&mut Watch>,
) {
    burst.retain(|frame| {
        let stripped = frame.stripped_tag();
        let entered = door.enter(frame, stripped);
        let port = entered.unwrap_or(door.default_port());
        let counted = &counters.ports[port.index()];
        counted.rx_packets.add(1);
        counted.rx_bytes.add(frame.data().len() as u64);
        frame.set_port(port);
        if let Err(reason) = entered {
            counters.received.add(1);
            counters.drop(reason);
            if let Some(watch) = &mut watch {
                watch.refuse(port, frame.data(), reason);
            }
        }
        entered.is_ok()
    });
}

/// When an idle worker lets its CPU go, and for how long: a busy one never does.
struct Pause {
    adaptive: bool,
    longest: Duration,
    /// Loops without work so far.
    empty: u32,
}

impl Pause {
    /// Loops without work before the first pause.
    const PATIENCE: u32 = 128;
    /// The first pause; every second one is twice as long, up to the longest.
    const SHORTEST: Duration = Duration::from_micros(2);
    const LONGEST: Duration = Duration::from_micros(150);
    /// Where packets end a pause, and only those.
    const LONGEST_IF_WOKEN: Duration = Duration::from_millis(1);

    fn new(idle: Idle, longest: Duration) -> Self {
        Pause {
            adaptive: idle == Idle::Adaptive,
            longest,
            empty: 0,
        }
    }

    /// What to do after a loop that found `work`.
    #[inline]
    fn after(&mut self, work: usize) -> Option<Duration> {
        if !self.adaptive || work > 0 {
            self.empty = 0;
            return None;
        }
        self.empty = self.empty.saturating_add(1);
        let pauses = self.empty.checked_sub(Self::PATIENCE)?;
        Some((Self::SHORTEST * 2u32.pow((pauses / 2).min(10))).min(self.longest))
    }
}

/// Where and how a port's frames leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlet {
    pub device: DeviceId,
    pub tagging: Tagging,
}

/// The tags of a port's frames, and who puts them on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tagging {
    None,
    Software(Vlan),
    /// The device, the one with this identifier.
    Device(u16),
}

impl Tagging {
    /// `device_inserts`: whether the device puts single tags on.
    pub fn of(vlan: Vlan, device_inserts: bool) -> Tagging {
        match vlan {
            Vlan::Untagged => Tagging::None,
            Vlan::Tagged(id) if device_inserts => Tagging::Device(id),
            vlan => Tagging::Software(vlan),
        }
    }

    fn put_on(self, frame: &mut Mbuf) -> bool {
        match self {
            Tagging::None => true,
            Tagging::Software(vlan) => door::tag(frame, vlan),
            Tagging::Device(id) => {
                let TagPriorities { outer, .. } = frame.priorities();
                frame.insert_tag(control(outer, id));
                true
            }
        }
    }
}

/// What is to leave by a port.
struct Out {
    port: PortId,
    outlet: Outlet,
    buffer: TxBuffer,
}

/// The ways out of a worker: its transmit queue on every device, and what is to leave by each port.
pub(crate) struct Ports {
    worker: WorkerId,
    stats: Arc<Stats>,
    pool: MbufPool,
    /// By [`DeviceId`].
    queues: Vec<TxQueue>,
    /// By [`PortId`].
    out: Vec<Out>,
    /// The way to the host, where a port has a companion.
    host: Option<WorkerEnd>,
    /// By [`WorkerId`], the rings to the other workers.
    others: Vec<Option<Producer<Mbuf>>>,
}

impl Ports {
    /// `queues`: one of each device, in their order. `outlets`: by port. `others`: a ring to each other worker, by its number.
    pub(crate) fn new(
        worker: WorkerId,
        stats: Arc<Stats>,
        pool: MbufPool,
        (queues, outlets): (Vec<TxQueue>, &[Outlet]),
        others: Vec<Option<Producer<Mbuf>>>,
        host: Option<WorkerEnd>,
    ) -> Self {
        let out = (0..).map(PortId).zip(outlets);
        let out = out.map(|(port, outlet)| Out {
            port,
            outlet: *outlet,
            buffer: TxBuffer::default(),
        });
        Ports {
            worker,
            stats,
            pool,
            queues,
            out: out.collect(),
            host,
            others,
        }
    }

    /// Sends what comes from the host; says how many frames that were.
    fn serve_host(&mut self, mut watch: Option<&mut Watch>) -> usize {
        let Some(host) = &mut self.host else {
            return 0;
        };
        let mut frames = Burst::new();
        host.serve(&mut frames, &mut self.pool);
        let count = frames.len();
        for frame in frames {
            let port = frame.port();
            if let Some(watch) = &mut watch {
                watch.send_alone(port, frame.data(), Sent::Originated);
            }
            self.send(port, frame, Sent::Originated);
        }
        count
    }

    /// Gives the devices what they take, and the other workers what is theirs; says how many frames left.
    fn flush(&mut self) -> usize {
        for ring in self.others.iter_mut().flatten() {
            ring.publish();
        }
        if let Some(host) = &mut self.host {
            host.publish();
        }
        let counters = self.stats.worker(self.worker);
        self.out
            .iter_mut()
            .map(|out| flush(counters, &mut self.queues, out))
            .sum()
    }
}

#[inline]
fn flush(counters: &WorkerStats, queues: &mut [TxQueue], out: &mut Out) -> usize {
    let Out {
        port,
        outlet,
        buffer,
    } = out;
    if buffer.is_empty() {
        return 0;
    }
    let lost = match outlet.tagging {
        Tagging::None => Tally::default(),
        tagging => buffer.prepare(|frame| tagging.put_on(frame)),
    };
    let Flushed { sent, refused } = buffer.flush(&mut queues[outlet.device.index()]);
    for kind in Sent::ALL {
        let (sent, refused, lost) = (sent.of(kind), refused.of(kind), lost.of(kind));
        // Nearly always all are of one kind.
        if sent + refused > 0 {
            counters.sent(*port, kind, sent, refused);
        }
        if lost > 0 {
            counters.unsent(kind, lost, DropReason::NoHeadroom);
        }
    }
    (sent.forwarded + sent.answered + sent.originated) as usize
}

impl Sink for Ports {
    type Packet = Mbuf;

    #[inline(always)]
    fn send(&mut self, port: PortId, packet: Mbuf, kind: Sent) {
        let out = &mut self.out[port.index()];
        if out.buffer.push(packet, kind) {
            flush(self.stats.worker(self.worker), &mut self.queues, out);
        }
    }

    fn alloc(&mut self, port: PortId) -> Option<Mbuf> {
        self.pool.alloc(port)
    }

    /// Without a companion interface the packet is counted, and ends here.
    fn local(&mut self, port: PortId, packet: Mbuf, priority: Priority) -> bool {
        match &mut self.host {
            Some(host) => host.take(port, packet, priority),
            None => true,
        }
    }

    fn hand_over(&mut self, to: WorkerId, packet: Mbuf) -> bool {
        let ring = self.others.get_mut(to.index()).and_then(Option::as_mut);
        ring.is_some_and(|ring| ring.push(packet).is_ok())
    }
}

/// Packets that may wait in a ring between two workers.
pub(crate) const RING: usize = 512;

/// A worker's rings to and from the others.
#[derive(Default)]
pub(crate) struct Rings {
    /// By [`WorkerId`]; none to itself.
    pub to: Vec<Option<Producer<Mbuf>>>,
    pub from: Vec<Consumer<Mbuf>>,
}

/// The rings between `workers` workers, for each of them.
pub(crate) fn rings(workers: usize) -> Vec<Rings> {
    let mut all: Vec<_> = (0..workers).map(|_| Rings::default()).collect();
    for from in 0..workers {
        for to in 0..workers {
            let producer = (from != to).then(|| {
                let (producer, consumer) = ring(RING);
                all[to].from.push(consumer);
                producer
            });
            all[from].to.push(producer);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_worker_never_pauses_and_an_idle_one_never_for_long() {
        let mut pause = Pause::new(Idle::Adaptive, Pause::LONGEST);
        assert!((0..10_000).all(|_| pause.after(1).is_none()));
        let pauses: Vec<_> = (0..10_000).filter_map(|_| pause.after(0)).collect();
        assert_eq!(pauses.len(), 10_000 - Pause::PATIENCE as usize + 1);
        assert!(
            pauses.is_sorted() && pauses[0] == Pause::SHORTEST && pauses[9_000] == Pause::LONGEST
        );
        assert_eq!(pause.after(3), None);
        assert_eq!(pause.after(0), None, "work makes it patient again");
        let mut poll = Pause::new(Idle::Poll, Pause::LONGEST);
        assert!((0..10_000).all(|_| poll.after(0).is_none()));
    }
}

//! The dataplane's speed on this machine, with no NIC: the real director over packets in memory.
//!
//! Headers are written into recycled buffers in random flow order, as a NIC would place frames, and what the director
//! sends goes back to the buffers. The cost of that alone is measured by the same loop without a director, and taken
//! off. Times are CPU time of this thread, so that other programs on the machine count little.

mod admission;
pub mod cases;
mod errors;
mod families;
mod fragments;
mod gap;
mod memory;
mod redirect;
mod routes;
mod schedulers;
mod services;
mod setup;
pub mod six;
mod told;
mod traffic;

use crate::config::Config;
use crate::conn::{Key, Table};
use crate::director::{Director, Origin, Room, Shared, Turn};
use crate::exchange::Mailbox;
use crate::model::{Device, Model};
use crate::net::TagPriorities;
use crate::packet::{BURST, Burst, Errand, Head, Packet, Priority, Sent, Sink};
use crate::rcu::Reader;
use crate::stats::Stats;
use crate::steering::{DEFAULT_KEY, Steering};
use crate::tables::Tables;
use crate::units::{PortId, Time, WorkerId};
use crate::wire::Mac;
use std::sync::Arc;
use std::time::Duration;

pub use setup::{LAN, Setup};
pub use traffic::{Flow, Traffic, frame};

/// Bytes before a received frame, as in an mbuf.
const HEADROOM: usize = 128;
/// Bytes of the longest frame.
const LONGEST: usize = (1 << 11) - 1;
/// Bytes of a buffer. A frame begins within its first 256, so that no frame that is described is outside of it.
const BUFFER: usize = 256 + LONGEST + 1;

/// What a benchmark cannot do without.
const MEMORY: &str = "this machine has the memory that the benchmark needs";

/// A buffer that goes round.
pub struct Recycled {
    buffer: Box<[u8; BUFFER]>,
    /// From the lowest byte on: the port, where the frame begins, its length; an errand. One word: buffers are moved by whole words, and
    /// a word that was written in parts takes long to read at once. That would count for the loop without a director, where
    /// nothing hides it, and be taken off where it was hidden.
    about: u64,
}

/// The bits of [`Recycled::about`] from here on hold the frame's length.
const LENGTH: u32 = 16;
/// And from here on [`Packet::errand`].
const ERRAND: u32 = 32;

impl Recycled {
    fn new() -> Self {
        Recycled {
            buffer: Box::new([0; BUFFER]),
            about: 0,
        }
    }

    #[inline(always)]
    fn start(&self) -> usize {
        usize::from((self.about >> 8) as u8)
    }

    #[inline(always)]
    fn length(&self) -> usize {
        (self.about as u32 >> LENGTH) as usize & LONGEST
    }

    #[inline(always)]
    fn describe(&mut self, port: PortId, start: usize, length: usize) {
        self.about = (length as u64) << LENGTH | (start as u64) << 8 | u64::from(port.0);
    }
}

impl Packet for Recycled {
    #[inline(always)]
    fn data(&self) -> &[u8] {
        &self.buffer[self.start()..][..self.length()]
    }

    #[inline(always)]
    fn data_mut(&mut self) -> &mut [u8] {
        let (start, length) = (self.start(), self.length());
        &mut self.buffer[start..][..length]
    }

    #[inline(always)]
    fn port(&self) -> PortId {
        PortId(self.about as u8)
    }

    #[inline]
    fn resize(&mut self, len: usize) -> bool {
        let fits = len <= LONGEST;
        if fits {
            self.describe(self.port(), self.start(), len);
        }
        fits
    }

    #[inline]
    fn grow_front(&mut self, count: usize) -> bool {
        let (start, length) = (self.start(), self.length() + count);
        let fits = count <= start && length <= LONGEST;
        if fits {
            self.describe(self.port(), start - count, length);
        }
        fits
    }

    fn trim_front(&mut self, count: usize) -> bool {
        let (mut start, length) = (self.start() + count, self.length());
        let fits = count < length;
        if fits {
            if start > usize::from(u8::MAX) {
                let end = start + length - count;
                self.buffer.copy_within(start..end, HEADROOM);
                start = HEADROOM;
            }
            self.describe(self.port(), start, length - count);
        }
        fits
    }

    fn set_errand(&mut self, errand: Errand) {
        self.about = u64::from(self.about as u32) | u64::from(errand.number()) << ERRAND;
    }

    fn errand(&self) -> Errand {
        Errand::from_number((self.about >> ERRAND) as u32)
    }

    // No fragment is handed over here.
    fn set_head(&mut self, _head: Head) {}

    fn head(&self) -> Head {
        Head::default()
    }

    // Nothing here is tagged.
    fn set_priorities(&mut self, _priorities: TagPriorities) {}

    fn priorities(&self) -> TagPriorities {
        TagPriorities::default()
    }

    #[inline(always)]
    fn prefetch(&self) {
        crate::arch::prefetch(&self.buffer[self.start()]);
    }
}

/// Takes what is sent, and gives it out again: the last one first, as a mempool's cache does.
struct Pool {
    free: Vec<Recycled>,
    forwarded: u64,
}

impl Sink for Pool {
    type Packet = Recycled;

    #[inline(always)]
    fn send(&mut self, _port: PortId, packet: Recycled, kind: Sent) {
        self.forwarded += u64::from(kind == Sent::Forwarded);
        self.free.push(packet);
    }

    fn alloc(&mut self, _port: PortId) -> Option<Recycled> {
        self.free.pop()
    }

    fn local(&mut self, _port: PortId, packet: Recycled, _priority: Priority) -> bool {
        self.free.push(packet);
        true
    }

    fn hand_over(&mut self, _to: WorkerId, _packet: Recycled) -> bool {
        unreachable!("there is one worker")
    }
}

/// A dataplane with one worker, and a clock that the benchmark moves.
pub struct Bench {
    pub model: Model,
    pub now: Time,
    pub stats: Arc<Stats>,
    reader: Reader<Tables>,
    director: Director<Recycled>,
    mailbox: Arc<Mailbox>,
    pool: Pool,
    buffers: usize,
}

/// What a run cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Nanoseconds of CPU time a packet, without the generator's.
    pub nanos: f64,
    /// The share of the packets that was forwarded.
    pub forwarded: f64,
}

impl Bench {
    /// `connections`: how many the table has room for.
    pub fn new(config: &Config, connections: usize) -> Self {
        let room = Room::shared(config, connections, 1);
        let stats = Arc::new(Stats::new(1).expect(MEMORY));
        let now = Time::from_nanos(1 << 50);
        let (model, mut readers) = Model::new(config, devices(config), stats.clone(), 1, now);
        let mut reader = readers.swap_remove(0);
        reader.quiescent();
        let mailbox = Arc::new(Mailbox::default());
        let shared = Shared::new(stats.clone(), Steering::new(DEFAULT_KEY, 1), 0x5eed);
        let director = Director::new(WorkerId(0), room, shared, mailbox.clone());
        let director = director.expect(MEMORY);
        // As many as a NIC's ring and a cache of the mempool hold.
        let buffers = 512;
        let pool = Pool {
            free: (0..buffers).map(|_| Recycled::new()).collect(),
            forwarded: 0,
        };
        Bench {
            model,
            now,
            stats,
            reader,
            director,
            mailbox,
            pool,
            buffers,
        }
    }

    /// Connections alive, of every kind.
    pub fn connections(&self) -> usize {
        let six = self.director.connections6().map_or(0, Table::len);
        let across = self.director.connections_across().map_or(0, Table::len);
        self.director.connections().len() + six + across
    }

    /// Sends `bursts` bursts of the traffic through, the clock moving by `step` with each.
    pub fn run(&mut self, traffic: &mut Traffic, bursts: usize, step: Duration) -> Cost {
        let packets = (bursts * BURST) as f64;
        let forwarded = self.pool.forwarded;
        let before = cpu_time();
        for _ in 0..bursts {
            self.burst(traffic, step);
        }
        let spent = cpu_time() - before;
        let forwarded = (self.pool.forwarded - forwarded) as f64;
        let drops = forwarded * 2.0 < packets;
        let generator = self.generator(traffic, bursts.min(20_000), drops);
        Cost {
            nanos: spent as f64 / packets - generator,
            forwarded: forwarded / packets,
        }
    }

    /// Sends a burst of the traffic through, the clock moving by `step` before it.
    #[inline(never)]
    pub fn burst(&mut self, traffic: &mut Traffic, step: Duration) {
        let mut burst = Burst::new();
        self.fill(traffic, &mut burst);
        self.now = self.now + step;
        self.reader.quiescent();
        let tables = self.reader.read();
        self.director.process(
            &mut burst,
            Origin::Device,
            Turn::new(tables, self.now, &mut self.pool),
        );
        self.director
            .poll(Turn::new(tables, self.now, &mut self.pool));
        // There is no resolver here: neighbours are configured.
        if !self.mailbox.events.is_empty() {
            while self.mailbox.events.pop().is_some() {}
        }
        // What was dropped is replaced.
        while self.pool.free.len() < self.buffers {
            self.pool.free.push(Recycled::new());
        }
    }

    #[inline(always)]
    fn fill(&mut self, traffic: &mut Traffic, burst: &mut Burst<Recycled>) {
        for _ in 0..BURST {
            let Some(mut packet) = self.pool.free.pop() else {
                return;
            };
            let (port, length) = traffic.next(&mut packet.buffer);
            packet.describe(port, HEADROOM, length);
            burst.push(packet);
        }
    }

    /// The flows of the real servers' replies, coming in by `port`.
    pub fn replies(&self, port: PortId) -> Vec<traffic::Flow> {
        let table = self.director.connections();
        let live = (0..table.high_water()).filter_map(|n| table.live(n));
        let flows = live.map(|connection| {
            let key = connection.reply;
            traffic::Flow {
                port,
                is_six: false,
                source: (key.source(), key.source_port()),
                destination: (key.destination(), key.destination_port()),
            }
        });
        let table = self.director.connections6().into_iter();
        let six = table.flat_map(|table| (0..table.high_water()).filter_map(|n| table.live(n)));
        let twins = six.filter_map(|connection| {
            let key = connection.reply;
            Some(traffic::Flow {
                port,
                is_six: true,
                source: (six::original(key.source())?, key.source_port()),
                destination: (six::original(key.destination())?, key.destination_port()),
            })
        });
        flows.chain(twins).collect()
    }

    /// Connections made so far.
    pub fn made(&self) -> u64 {
        self.model
            .services()
            .map(|service| self.model.service_totals(service).connections)
            .sum()
    }

    /// Lets the clock run until every connection is over; returns what that cost, in nanoseconds of CPU time.
    pub fn expire(&mut self) -> u64 {
        let before = cpu_time();
        while self.connections() > 0 {
            self.now = self.now + Duration::from_millis(1);
            self.reader.quiescent();
            let tables = self.reader.read();
            self.director
                .poll(Turn::new(tables, self.now, &mut self.pool));
        }
        cpu_time() - before
    }

    /// What the loop costs without a director, in nanoseconds a packet. `drops`: packets are dropped, and replaced.
    fn generator(&mut self, traffic: &mut Traffic, bursts: usize, drops: bool) -> f64 {
        let place = traffic.place();
        let before = cpu_time();
        for _ in 0..bursts {
            let mut burst = Burst::new();
            self.fill(traffic, &mut burst);
            for packet in burst.drain(..) {
                let packet = std::hint::black_box(packet);
                match drops {
                    true => drop(packet),
                    false => self.pool.free.push(packet),
                }
            }
            while self.pool.free.len() < self.buffers {
                self.pool.free.push(Recycled::new());
            }
        }
        let spent = cpu_time() - before;
        // The flows' turns are the director's: it is to see each of them in its time.
        traffic.go_to(place);
        spent as f64 / (bursts * BURST) as f64
    }
}

/// The devices behind the ports of a configuration.
fn devices(config: &Config) -> Vec<Device> {
    let device = |n| Device {
        mac: mac(PortId(n as u8)),
        any_mac: false,
    };
    (0..config.ports.len()).map(device).collect()
}

/// The MAC address of a port.
fn mac(port: PortId) -> Mac {
    Mac([2, 0, 0, 0, 0, 1 + port.0])
}

/// CPU time of this thread in nanoseconds.
fn cpu_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

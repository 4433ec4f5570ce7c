//! Live captures: copies of packets as they come in and as they leave, with what was decided, from the workers to a reader.
//!
//! While no one captures, a worker looks once a loop whether it has a [`Watch`], and that is all. With one it gives the
//! director another sink ([`Watched`]), which is compiled beside the plain one: the way of packets without a capture does
//! not change. All memory is made before the workers get it, and goes round between a worker and the reader; where the reader is
//! too slow, packets are not copied, and counted.

mod watch;

pub use watch::{Watch, Watched};

use crate::bpf::Program;
use crate::packet::{BURST, Packet, Sent};
use crate::units::{PortId, Time, WorkerId};
use crate::verdict::{PacketContext, Verdict};
use crossbeam_queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Bytes of frames that all workers' copies may have together.
const MEMORY: usize = 32 << 20;
/// Copies of a worker, at least and at most.
const FEWEST: usize = 128;
const MOST: usize = 4096;

/// Tokens of one packet: as many as a second has nanoseconds.
const PACKET: i64 = 1_000_000_000;

/// What is wanted of a capture.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub program: Program,
    /// As its author wrote it, for people.
    pub filter: String,
    /// Bytes of a frame that are kept.
    pub snaplen: usize,
    /// It ends after so many packets.
    pub count: Option<u64>,
    /// Packets in a second: more are not taken.
    pub rate: u32,
    /// Percent of its time that a worker may spend on packets it looks at.
    pub share: u8,
}

/// A capture that runs.
#[derive(Debug)]
pub struct Session {
    wanted: Wanted,
    lanes: Vec<Lane>,
    is_over: AtomicBool,
    /// Packets that may still be taken now, in billionths; refilled by the reader.
    tokens: AtomicI64,
    /// The number of the next packet.
    next: AtomicU64,
    /// Workers that look at packets.
    watching: AtomicUsize,
    returned: ArrayQueue<Box<Watch>>,
}

/// Between a worker and the reader.
#[derive(Debug)]
struct Lane {
    free: ArrayQueue<Box<FrameCopy>>,
    full: ArrayQueue<Box<FrameCopy>>,
    seen: Tally,
}

/// What a worker counts. It alone writes it.
#[derive(Debug, Default)]
struct Tally {
    looked_at: AtomicU64,
    passed_over: AtomicU64,
    matched: AtomicU64,
    lost: AtomicU64,
    over_rate: AtomicU64,
}

/// What was seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that the filter was asked about.
    pub looked_at: u64,
    /// Those that it was not asked about, for that would have taken more of a worker's time than it may.
    pub passed_over: u64,
    pub matched: u64,
    /// Of these: not copied, since the reader was too slow.
    pub lost: u64,
    /// Of these: not copied, since there were more in a second than are taken.
    pub over_rate: u64,
}

/// Both are made before a worker gets them, and moved from hand to hand.
pub type BoxedCopy = Box<FrameCopy>;
pub type BoxedWatch = Box<Watch>;

/// Whether a copy is of a packet as it came or of a frame as it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From a device.
    Received,
    /// From another worker, which had it from a device.
    TakenOver,
    /// For the received packet of the same number, if `for_packet`.
    Sent { kind: Sent, for_packet: bool },
}

/// A copy of a frame.
#[derive(Debug)]
pub struct FrameCopy {
    /// The same for a received packet and for the frames that were sent for it.
    pub packet: u64,
    pub side: Side,
    pub worker: WorkerId,
    /// Where it came in, or leaves.
    pub port: PortId,
    pub time: Time,
    /// Of the frame, in bytes.
    pub length: usize,
    /// Of a received packet and what was sent for it.
    pub decided: Option<(Verdict, PacketContext)>,
    /// Of a received packet: frames that are sent for it. They follow it.
    pub frames: u8,
    matches: bool,
    kept: usize,
    bytes: Box<[u8]>,
}

impl FrameCopy {
    fn new(snaplen: usize) -> Box<FrameCopy> {
        Box::new(FrameCopy {
            packet: 0,
            side: Side::Received,
            worker: WorkerId(0),
            port: PortId(0),
            time: Time::default(),
            length: 0,
            decided: None,
            frames: 0,
            matches: false,
            kept: 0,
            // Not 0: its memory is touched now, not by a worker.
            bytes: vec![0xff; snaplen].into(),
        })
    }

    /// As much of the frame as is kept.
    pub fn frame(&self) -> &[u8] {
        &self.bytes[..self.kept]
    }

    fn take(&mut self, frame: &[u8]) {
        self.length = frame.len();
        self.kept = frame.len().min(self.bytes.len());
        self.bytes[..self.kept].copy_from_slice(&frame[..self.kept]);
        self.decided = None;
        self.frames = 0;
    }
}

impl Session {
    /// A capture by so many workers, and what each of them gets.
    pub fn new(wanted: Wanted, workers: usize) -> (Arc<Session>, Vec<BoxedWatch>) {
        let copies = (MEMORY / workers.max(1) / wanted.snaplen.max(1)).clamp(FEWEST, MOST);
        let lane = |_| {
            let free = ArrayQueue::new(copies);
            for _ in 0..copies {
                let _ = free.push(FrameCopy::new(wanted.snaplen));
            }
            Lane {
                free,
                // More copies than are handed out come back: those that a watch works with.
                full: ArrayQueue::new(copies + BURST),
                seen: Tally::default(),
            }
        };
        let session = Arc::new(Session {
            lanes: (0..workers).map(lane).collect(),
            is_over: AtomicBool::new(false),
            tokens: AtomicI64::new(0),
            next: AtomicU64::new(0),
            watching: AtomicUsize::new(workers),
            returned: ArrayQueue::new(workers.max(1)),
            wanted,
        });
        let watches = (0..workers).map(|n| Watch::new(session.clone(), WorkerId(n as u8)));
        let watches = watches.collect();
        session.refill(Duration::from_secs(1));
        (session, watches)
    }

    pub fn filter(&self) -> &str {
        &self.wanted.filter
    }

    pub fn snaplen(&self) -> usize {
        self.wanted.snaplen
    }

    /// Has every worker stop.
    pub fn end(&self) {
        self.is_over.store(true, Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// Whether as many packets were taken as were wanted.
    pub fn is_complete(&self) -> bool {
        let most = self.wanted.count;
        most.is_some_and(|most| self.next.load(Relaxed) >= most)
    }

    /// Whether every worker has given its watch back, so that nothing more will come to be read.
    pub fn is_left(&self) -> bool {
        self.watching.load(std::sync::atomic::Ordering::Acquire) == 0
    }

    /// Frees what the workers have given back. Not for a worker. Returns how many watches that were.
    pub fn reap(&self) -> usize {
        std::iter::from_fn(|| self.returned.pop()).count()
    }

    /// Lets packets be taken for another `span`: at most for a second at once.
    pub fn refill(&self, span: Duration) {
        let rate = i64::from(self.wanted.rate);
        let more = span.as_nanos().min(PACKET as u128) as i64 * rate;
        let most = PACKET * rate;
        let _ = self.tokens.fetch_update(Relaxed, Relaxed, |tokens| {
            Some(tokens.saturating_add(more).min(most))
        });
    }

    /// Takes up to `most` copies, in the order of their times as far as workers' clocks allow.
    pub fn read(&self, most: usize) -> Vec<BoxedCopy> {
        let share = most.div_ceil(self.lanes.len().max(1));
        let mut copies = Vec::new();
        for lane in &self.lanes {
            copies.extend(std::iter::from_fn(|| lane.full.pop()).take(share));
        }
        // Stable: a received packet stays before what was sent for it.
        copies.sort_by_key(|copy| copy.time.nanos());
        copies
    }

    /// Gives a copy back that was read.
    pub fn give_back(&self, copy: Box<FrameCopy>) {
        if let Some(lane) = self.lanes.get(copy.worker.index()) {
            // There is room for every copy that the capture has.
            let _ = lane.free.push(copy);
        }
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for Lane { seen, .. } in &self.lanes {
            counts.looked_at += seen.looked_at.load(Relaxed);
            counts.passed_over += seen.passed_over.load(Relaxed);
            counts.matched += seen.matched.load(Relaxed);
            counts.lost += seen.lost.load(Relaxed);
            counts.over_rate += seen.over_rate.load(Relaxed);
        }
        counts
    }

    fn matches(&self, frame: &[u8]) -> bool {
        self.wanted.program.run(frame, frame.len()) > 0
    }

    /// The number of one more packet, unless there are enough.
    fn number(&self) -> Result<u64, Refusal> {
        let taken = self.tokens.fetch_update(Relaxed, Relaxed, |tokens| {
            (tokens >= PACKET).then_some(tokens - PACKET)
        });
        if taken.is_err() {
            return Err(Refusal::OverRate);
        }
        let number = self.next.fetch_add(1, Relaxed);
        match self.wanted.count {
            Some(most) if number >= most => Err(Refusal::Complete),
            _ => Ok(number),
        }
    }
}

/// Why a packet that matches is not taken.
enum Refusal {
    OverRate,
    Complete,
}

fn add(counter: &AtomicU64, more: u64) {
    // One thread writes it: no need for a locked instruction.
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

#[cfg(test)]
mod tests;

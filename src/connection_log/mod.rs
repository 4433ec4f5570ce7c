//! The connection log: what has begun and ended, as records of a fixed size that workers put into bounded queues, and as text or
//! IPFIX that a thread of its own writes. Neither a worker nor the control thread ever waits for it: what finds no room, or cannot
//! be written, is counted.

mod ipfix;
mod json;
mod output;
mod writer;

pub use writer::{Counts, Encoder, Logger};

use crate::units::{RealId, ServiceId, WorkerId};
use crossbeam_queue::ArrayQueue;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// An address and a port.
pub type Endpoint = (IpAddr, u16);

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// By FIN: of one side, or of both.
    Fin,
    /// By a reset that was believed.
    Reset,
    /// SCTP's shutdown or ABORT.
    Closed,
    /// It was silent for as long as its state lasts.
    Timeout,
    /// Its real server is configured no longer.
    RealRemoved,
    /// Its real server is down or disabled.
    RealDown,
    /// It was given up for another one, as the table or a local pool was full.
    Evicted,
    /// Its client has begun another connection from the same port.
    Reused,
    /// A UDP flow of a drained real server goes on with another one.
    Moved,
    /// Another connection needs the same addresses and ports of replies.
    Displaced,
    /// The clock has leapt by more than any timeout.
    Clock,
}

impl Cause {
    pub const ALL: [Cause; 11] = [
        Cause::Fin,
        Cause::Reset,
        Cause::Closed,
        Cause::Timeout,
        Cause::RealRemoved,
        Cause::RealDown,
        Cause::Evicted,
        Cause::Reused,
        Cause::Moved,
        Cause::Displaced,
        Cause::Clock,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Cause::Fin => "fin",
            Cause::Reset => "reset",
            Cause::Closed => "closed",
            Cause::Timeout => "timeout",
            Cause::RealRemoved => "real_removed",
            Cause::RealDown => "real_down",
            Cause::Evicted => "evicted",
            Cause::Reused => "reused",
            Cause::Moved => "moved",
            Cause::Displaced => "displaced",
            Cause::Clock => "clock",
        }
    }

    /// IPFIX's `flowEndReason` (RFC 5102, section 5.11.3): 1 idle, 3 end of flow, 4 forced end, 5 lack of resources.
    const fn end_reason(self) -> u8 {
        match self {
            Cause::Timeout => 1,
            Cause::Fin | Cause::Reset | Cause::Closed => 3,
            Cause::Evicted => 5,
            Cause::RealRemoved
            | Cause::RealDown
            | Cause::Reused
            | Cause::Moved
            | Cause::Displaced
            | Cause::Clock => 4,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Start,
    End(Cause),
}

/// What is said of a connection when it begins or ends. Times are milliseconds on the workers' clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub event: Event,
    /// The same in both records of a connection, and no other's within some hours of one process.
    pub id: u64,
    pub at: u64,
    /// None: it began before the log did, or before a restart.
    pub start: Option<u64>,
    /// Of its last packet.
    pub last: u64,
    pub service: ServiceId,
    pub real: RealId,
    pub worker: WorkerId,
    /// Of IP.
    pub protocol: u8,
    /// IPVS's name.
    pub state: &'static str,
    pub client: Endpoint,
    /// What the client sends to: the VIP, or, of an inside host's own connection, the remote end.
    pub destination: Endpoint,
    /// What sends the replies; an unspecified address where only the real server's id tells.
    pub server: Endpoint,
    /// What the server sees in the place of the client.
    pub local: Option<Endpoint>,
    /// Addresses or ports of its packets are translated.
    pub is_translated: bool,
}

const _: () = assert!(size_of::<Record>() <= 160, "a queue takes 11 MB at most");

/// Which connections are logged, and what of them, for all workers; and the queues of the records.
#[derive(Debug)]
pub struct Records {
    queue: ArrayQueue<Record>,
    /// Records that found no room.
    lost: AtomicU64,
    /// One connection of so many is logged; 0: none.
    sample: AtomicU32,
    starts: AtomicBool,
    ends: AtomicBool,
}

/// Records of one worker that wait to be written: 130 ms at 500,000 a second.
const WAITING: usize = 1 << 16;

impl Records {
    pub fn new() -> Self {
        Records {
            queue: ArrayQueue::new(WAITING),
            lost: AtomicU64::new(0),
            sample: AtomicU32::new(0),
            starts: AtomicBool::new(false),
            ends: AtomicBool::new(false),
        }
    }

    /// What is logged from now on.
    pub fn set(&self, sample: u32, starts: bool, ends: bool) {
        self.starts.store(starts, Relaxed);
        self.ends.store(ends, Relaxed);
        self.sample.store(sample, Relaxed);
    }

    /// Whether a connection with this hash is logged: the same at its end as at its beginning.
    pub fn takes(&self, hash: u64) -> bool {
        match self.sample.load(Relaxed) {
            0 => false,
            1 => true,
            // The low bits choose its place in the table.
            sample => (hash >> 32).is_multiple_of(sample.into()),
        }
    }

    /// Whether anything is logged.
    pub fn is_on(&self) -> bool {
        self.sample.load(Relaxed) != 0
    }

    /// Puts a record into the queue, if it is of those that are wanted.
    pub fn push(&self, record: Record) {
        let is_wanted = match record.event {
            Event::Start => self.starts.load(Relaxed),
            Event::End(_) => self.ends.load(Relaxed),
        };
        if is_wanted && self.queue.push(record).is_err() {
            // Only the worker counts.
            self.lost.store(self.lost.load(Relaxed) + 1, Relaxed);
        }
    }

    pub fn pop(&self) -> Option<Record> {
        self.queue.pop()
    }

    /// Records that found no room.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

impl Default for Records {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;

//! What one worker sees of the connections of a real server that is watched (`passive` of its service): how many it answered, and
//! how many failed.

use super::Gauge;

/// How a connection fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A reset answers its SYN.
    Refused,
    /// Nothing answers its SYN.
    NoSynAck,
    /// Nothing answers its datagrams.
    NoAnswer,
    /// An ICMP error says that the real server, or its port, cannot be reached.
    Unreachable,
}

impl Failure {
    pub const ALL: [Failure; 4] = [
        Failure::Refused,
        Failure::NoSynAck,
        Failure::NoAnswer,
        Failure::Unreachable,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Failure::Refused => "refused",
            Failure::NoSynAck => "no_syn_ack",
            Failure::NoAnswer => "no_answer",
            Failure::Unreachable => "unreachable",
        }
    }
}

/// The worker's cells of one real server.
#[derive(Debug, Default)]
pub struct Signs {
    answered: Gauge,
    failures: [Gauge; Failure::ALL.len()],
}

impl Signs {
    pub(super) fn answered(&self) {
        self.answered.inc();
    }

    pub(super) fn failed(&self, failure: Failure) {
        self.failures[failure as usize].inc();
    }

    pub(super) fn get(&self) -> Seen {
        Seen {
            answered: self.answered.get(),
            failures: std::array::from_fn(|n| self.failures[n].get()),
        }
    }
}

/// What was seen of a real server, in counts that wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub answered: u32,
    /// By [`Failure`].
    pub failures: [u32; Failure::ALL.len()],
}

impl Seen {
    fn with(self, other: Seen, of: fn(u32, u32) -> u32) -> Seen {
        Seen {
            answered: of(self.answered, other.answered),
            failures: std::array::from_fn(|n| of(self.failures[n], other.failures[n])),
        }
    }

    /// What came after `before`.
    pub fn since(self, before: Seen) -> Seen {
        self.with(before, u32::wrapping_sub)
    }

    /// Failures of all kinds.
    pub fn failed(&self) -> u64 {
        self.failures.iter().map(|count| u64::from(*count)).sum()
    }
}

impl std::ops::Add for Seen {
    type Output = Seen;

    fn add(self, other: Seen) -> Seen {
        self.with(other, u32::wrapping_add)
    }
}

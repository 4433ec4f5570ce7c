//! How much a worker keeps: what is reserved at start.

use super::fragment_table::FragmentRoom;
use crate::config::{ClientAddress, Config};
use crate::conn::{Connection, Connection6, ConnectionAny, Table};
use crate::forward::Mode;
use crate::sched;
use crate::stats::Beside;

/// What a worker has room for: so many connections, and fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub v4: usize,
    pub v6: usize,
    /// Those whose client and real server are of different families.
    pub crossing: usize,
    pub fragments: FragmentRoom,
    /// What real servers are told of clients is kept beside the connections.
    pub tells: bool,
    /// So is what their real servers' time is measured by.
    pub times: bool,
}

impl Room {
    /// The room of a worker for so many connections of each kind that a configuration can have: a table takes its memory at
    /// start.
    pub fn of(config: &Config, connections: usize) -> Self {
        let if_any = |any: bool| if any { connections } else { 0 };
        Room {
            v4: connections,
            v6: if_any(config.speaks_ipv6()),
            crossing: if_any(config.crosses_families()),
            fragments: FragmentRoom::default(),
            tells: (config.services.iter()).any(|it| it.client_address != ClientAddress::None),
            times: (config.services.iter())
                .any(|it| Mode::of(&it.mode).sees_replies && sched::goes_by_time(it.scheduler)),
        }
    }

    /// As [`of`](Self::of), for each of so many workers, with its share of what `[limits]` has for fragments.
    pub fn shared(config: &Config, connections: usize, workers: usize) -> Self {
        let limits = &config.limits;
        // A worker's share, and never less than one large datagram takes, if there is so much at all.
        let share = |all: usize, least: usize| all.div_ceil(workers).max(least.min(all));
        Room {
            fragments: FragmentRoom {
                datagrams: limits.fragmented_datagrams.div_ceil(workers),
                // All of a datagram wait on one worker.
                waiting: share(limits.waiting_fragments, 640),
                bytes: share(limits.waiting_fragment_bytes, 1 << 20),
            },
            ..Self::of(config, connections)
        }
    }

    /// How many connections there is room for, of all kinds.
    pub fn total(self) -> usize {
        self.v4 + self.v6 + self.crossing
    }

    /// The entries of each table, and the bytes of one: as [`Keeping`](crate::record::Keeping) takes it.
    pub fn tables(self) -> Vec<(usize, usize)> {
        vec![
            (self.v4, size_of::<Connection>()),
            (self.v6, size_of::<Connection6>()),
            (self.crossing, size_of::<ConnectionAny>()),
        ]
    }

    /// The memory of the tables, in bytes.
    pub fn table_bytes(self) -> usize {
        let six = |room| match room {
            0 => 0,
            room => Table::<Connection6>::bytes(room),
        };
        let kinds = usize::from(self.tells) + usize::from(self.times);
        let beside = kinds * self.total() * Beside::BYTES;
        Table::<Connection>::bytes(self.v4) + six(self.v6) + six(self.crossing) + beside
    }
}

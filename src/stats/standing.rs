//! What the control thread tells workers about a real server.

use super::{MAX_PORTS, MAX_SERVICES};
use crate::units::{PortId, ServiceId};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering::Relaxed};

/// What the control thread tells workers about a real server.
#[derive(Debug, Default)]
pub struct Standing {
    /// A bit for each port by which its requests and its replies may come in: none once its connections are to end.
    admitted: [AtomicU16; 2],
    /// The service that it is a real server of, and above it whether new connections may go to it, whether its connections
    /// are to end, and why, whether it is watched, whether it is told of clients, and whether its answers are timed.
    service: AtomicU32,
}

const _: () = assert!(MAX_PORTS <= u16::BITS as usize);
const _: () = assert!(MAX_SERVICES as u32 <= Standing::TIMES);

/// What becomes of the established connections of a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Established {
    GoOn,
    /// They go on; a UDP flow that was silent for long enough goes to another real server, if there is one.
    Leave,
    /// It is configured no more: TCP is told by resets, UDP goes on to another real server.
    Removed,
    /// The same, of one that is down or disabled.
    Down,
    /// It is down or disabled, and TCP goes on to another real server as well.
    Moved,
}

impl Standing {
    const OPEN: u32 = 1 << 31;
    const MOVES: u32 = 1 << 30;
    const DOWN: u32 = 1 << 29;
    const ENDS: u32 = 1 << 28;
    const WATCHED: u32 = 1 << 27;
    const TELLS: u32 = 1 << 26;
    const LEAVES: u32 = 1 << 25;
    const ASKS: u32 = 1 << 24;
    const TIMES: u32 = 1 << 23;

    /// A real server of `service`. `is_open`: its weight is above 0. `is_watched`: what becomes of its connections is
    /// counted. `tells`: it is told of clients, and all its packets have to be looked at. `reply_ports`: a bit for each port
    /// that its replies may come in by.
    pub fn set(
        &self,
        service: ServiceId,
        is_open: bool,
        is_watched: bool,
        tells: bool,
        established: Established,
        reply_ports: u16,
    ) {
        let open = if is_open { Self::OPEN } else { 0 };
        let watched = if is_watched { Self::WATCHED } else { 0 };
        let tells = if tells { Self::TELLS } else { 0 };
        let fate = match established {
            Established::GoOn => 0,
            Established::Leave => Self::LEAVES,
            Established::Removed => Self::ENDS,
            Established::Down => Self::ENDS | Self::DOWN,
            Established::Moved => Self::ENDS | Self::DOWN | Self::MOVES,
        };
        let times = self.service.load(Relaxed) & Self::TIMES;
        self.service
            .store(service.0 | open | watched | tells | fate | times, Relaxed);
        // A packet that is not admitted is looked at more closely: what costs nothing until then is decided there.
        let admitted = match established {
            _ if tells != 0 => [0; 2],
            Established::GoOn => [u16::MAX, reply_ports],
            Established::Leave => [0, reply_ports],
            _ => [0; 2],
        };
        self.admit(admitted);
    }

    /// Has its service asked about each request of its connections: after [`set`](Self::set), which it is a part of.
    pub fn ask(&self) {
        let told = self.service.load(Relaxed);
        self.service.store(told | Self::ASKS, Relaxed);
        self.admitted[0].store(0, Relaxed);
    }

    /// Whether its service is asked about each request.
    #[inline]
    pub fn asks(&self) -> bool {
        self.service.load(Relaxed) & Self::ASKS != 0
    }

    /// Has it measured how long the answers of its connections take, from now on: [`set`](Self::set) leaves it so.
    pub fn time(&self) {
        let told = self.service.load(Relaxed);
        self.service.store(told | Self::TIMES, Relaxed);
    }

    /// Whether it is measured how long its answers take, or was when one of its connections began.
    #[inline]
    pub fn times(&self) -> bool {
        self.service.load(Relaxed) & Self::TIMES != 0
    }

    /// It is configured no more: its connections are to end.
    pub fn remove(&self) {
        let service = self.service();
        self.set(service, false, false, self.tells(), Established::Removed, 0);
    }

    /// It becomes another real server's, which has no connections.
    pub fn forget(&self) {
        self.service.store(0, Relaxed);
        self.admit([0; 2]);
    }

    fn admit(&self, ports: [u16; 2]) {
        let cells = self.admitted.iter().zip(ports);
        cells.for_each(|(cell, ports)| cell.store(ports, Relaxed));
    }

    /// Whether its connections are to end: it is configured no more, down, or disabled.
    #[inline]
    pub fn ends_connections(&self) -> bool {
        self.service.load(Relaxed) & Self::ENDS != 0
    }

    /// Whether UDP flows that were silent are to go to another real server.
    pub fn is_left(&self) -> bool {
        self.service.load(Relaxed) & Self::LEAVES != 0
    }

    /// Whether it is told of clients, or was when one of its connections began: each of its packets is looked at.
    #[inline]
    pub fn tells(&self) -> bool {
        self.service.load(Relaxed) & Self::TELLS != 0
    }

    /// Whether it is counted what becomes of its connections.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.service.load(Relaxed) & Self::WATCHED != 0
    }

    /// What becomes of its established connections.
    pub fn established(&self) -> Established {
        let told = self.service.load(Relaxed);
        match told & Self::ENDS != 0 {
            false if told & Self::LEAVES != 0 => Established::Leave,
            false => Established::GoOn,
            true if told & Self::MOVES != 0 => Established::Moved,
            true if told & Self::DOWN != 0 => Established::Down,
            true => Established::Removed,
        }
    }

    /// Whether new connections may go to it.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.service.load(Relaxed) & Self::OPEN != 0
    }

    pub fn service(&self) -> ServiceId {
        ServiceId(self.service.load(Relaxed) & (Self::TIMES - 1))
    }

    /// Whether its connections go on and, of a reply, whether it may come in by this port.
    #[inline(always)]
    pub fn admits(&self, reply: bool, port: PortId) -> bool {
        let ports = u32::from(self.admitted[usize::from(reply)].load(Relaxed));
        ports >> (port.0 & 31) & 1 != 0
    }
}

//! Virtual services and their real servers, as workers see them: immutable, replaced whole when one changes.

use crate::config::{Protocol, WhenUnavailable};
use crate::forward::Mode;
use crate::sched::{Cursor, Kind, Scheduler};
use crate::units::{RealId, ServiceId, WorkerId};
use crossbeam_utils::CachePadded;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// What a virtual service is found by. Port 0: every port of the VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    pub protocol: Protocol,
    pub address: Ipv4Addr,
    pub port: u16,
}

impl std::fmt::Display for ServiceKey {
    /// `tcp:192.0.2.80:80`, as the commands take it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.protocol.name(), self.address, self.port)
    }
}

/// One virtual service.
#[derive(Debug)]
pub struct Service {
    pub id: ServiceId,
    pub name: Arc<str>,
    pub key: ServiceKey,
    pub mode: &'static Mode,
    pub scheduler_kind: &'static Kind,
    pub scheduler: Box<dyn Scheduler>,
    /// In the order of the configuration.
    pub reals: Box<[Real]>,
    /// With a mode that changes the source address.
    pub pool: Option<Arc<Pool>>,
    pub persistence: Option<Persistence>,
    pub when_unavailable: WhenUnavailable,
    /// Outlives every change of the service.
    pub state: Arc<ServiceState>,
}

/// One real server of one virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Real {
    pub id: RealId,
    pub address: Ipv4Addr,
    /// 0: the packet's own.
    pub port: u16,
    /// 0: no new connections.
    pub weight: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    pub timeout: Duration,
    /// Which bits of a client's address count.
    pub mask: u32,
}

/// What workers remember of a service from one connection to the next.
#[derive(Debug)]
pub struct ServiceState {
    cursors: Box<[CachePadded<Cursor>]>,
}

impl ServiceState {
    pub fn new(workers: usize) -> Self {
        ServiceState {
            cursors: (0..workers).map(|_| CachePadded::default()).collect(),
        }
    }

    #[inline]
    pub fn cursor(&self, worker: WorkerId) -> &Cursor {
        &self.cursors[worker.index()]
    }
}

/// The source addresses and ports of fullnat.
#[derive(Debug, PartialEq, Eq)]
pub struct Pool {
    pub name: String,
    pub addresses: Box<[Ipv4Addr]>,
    pub first_port: u16,
    pub ports: u32,
    /// Coprime to the size: by steps of it, every pair has its turn once in a round.
    stride: u32,
}

impl Pool {
    pub fn new(
        name: String,
        addresses: Vec<Ipv4Addr>,
        (first_port, last_port): (u16, u16),
    ) -> Self {
        let ports = u32::from(last_port) - u32::from(first_port) + 1;
        let size = addresses.len() as u32 * ports;
        // About the golden section, so that a round's neighbours in time lie far from each other.
        let mut stride = (f64::from(size) * 0.618) as u32 | 1;
        while gcd(stride, size) != 1 {
            stride += 1;
        }
        Pool {
            name,
            addresses: addresses.into(),
            first_port,
            ports,
            stride,
        }
    }

    /// The pair that has its turn after pair `n`.
    #[inline]
    pub fn next(&self, n: u32) -> u32 {
        ((u64::from(n) + u64::from(self.stride)) % u64::from(self.size())) as u32
    }

    /// How many pairs of address and port there are.
    pub fn size(&self) -> u32 {
        self.addresses.len() as u32 * self.ports
    }

    /// Pair number `n`, below [`Pool::size`].
    #[inline]
    pub fn pair(&self, n: u32) -> (Ipv4Addr, u16) {
        let address = self.addresses[(n / self.ports) as usize];
        (address, self.first_port + (n % self.ports) as u16)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_of_a_pool_visits_every_pair_once() {
        for (addresses, ports) in [
            (1, (40_000, 40_000)),
            (1, (1024, 65_535)),
            (3, (5_000, 5_011)),
            (4, (1, 100)),
        ] {
            let addresses: Vec<_> = (0..addresses).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
            let pool = Pool::new("inside".into(), addresses, ports);
            let mut seen = std::collections::HashSet::new();
            let mut n = 0;
            for _ in 0..pool.size() {
                assert!(seen.insert(pool.pair(n)));
                n = pool.next(n);
            }
            assert_eq!(n, 0);
        }
    }
}

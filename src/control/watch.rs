//! Looks at the workers' counters once a second: how busy they are, whether they live, and what an operator should
//! know of. Each warning comes at most once in that time.

use crate::stats::{Stats, WorkerStats};
use crate::units::Time;
use crate::verdict::DropReason;
use std::time::Duration;

const PERIOD: Duration = Duration::from_secs(1);
/// A worker that has not moved for so long hangs.
const HUNG: Duration = Duration::from_secs(3);

/// The drops that say that something is too small, or broken; and what to do.
const ALARMS: [(DropReason, &str); 9] = [
    (
        DropReason::ConnectionTableFull,
        "the connection table is full: raise [limits] connections",
    ),
    (
        DropReason::LocalPortsExhausted,
        "local ports exhausted: add addresses or ports to the service's [[local_pool]]",
    ),
    (
        DropReason::LocalPortsUnfair,
        "clients or inside hosts hold more than their share of local ports that are nearly used up: see weir show pools",
    ),
    (
        DropReason::SynFlood,
        "a SYN flood: clients come in at their second attempt, see weir show connections",
    ),
    (
        DropReason::NoBuffer,
        "an answer did not fit into its packet's mbuf",
    ),
    (
        DropReason::NoHeadroom,
        "packets had no room for a VLAN tag or a longer header in their mbufs",
    ),
    (DropReason::TxFull, "a device's transmit queue was full"),
    (
        DropReason::NeighbourFailed,
        "packets to next hops that answer neither ARP nor neighbour solicitations were dropped",
    ),
    (
        DropReason::NeighbourQueueFull,
        "too many packets wait for next hops' MAC addresses",
    ),
];

#[derive(Debug)]
pub(super) struct Watch {
    due: Time,
    /// By alarm, then by worker.
    alarms: [Vec<u64>; ALARMS.len()],
    evicted: u64,
    workers: Vec<Watched>,
}

#[derive(Clone, Debug, Default)]
struct Watched {
    busy_nanos: u64,
    total_nanos: u64,
    busy_ratio: f64,
    loops: u64,
    moved: Time,
    warned: bool,
}

impl Watch {
    pub(super) fn new(workers: usize, now: Time) -> Self {
        let worker = Watched {
            moved: now,
            ..Watched::default()
        };
        Watch {
            due: now + PERIOD,
            alarms: std::array::from_fn(|_| vec![0; workers]),
            evicted: 0,
            workers: vec![worker; workers],
        }
    }

    /// The share of the last second that a worker had packets.
    pub(super) fn busy_ratio(&self, worker: usize) -> f64 {
        self.workers
            .get(worker)
            .map_or(0.0, |worker| worker.busy_ratio)
    }

    /// The workers that do not move.
    pub(super) fn hung(&self, now: Time) -> Vec<usize> {
        let hangs = |worker: &Watched| now.since(worker.moved) >= HUNG;
        (0..self.workers.len())
            .filter(|&n| hangs(&self.workers[n]))
            .collect()
    }

    /// `subjects`: what a reason for drops is about, as far as the control thread knows.
    pub(super) fn tick(
        &mut self,
        stats: &Stats,
        subjects: impl Fn(DropReason) -> Option<String>,
        now: Time,
    ) {
        if now < self.due {
            return;
        }
        self.due = now + PERIOD;
        for (n, (worker, counters)) in self.workers.iter_mut().zip(stats.workers()).enumerate() {
            worker.look(n, counters, now);
        }
        for ((reason, remedy), seen) in ALARMS.iter().zip(&mut self.alarms) {
            let mut workers = Vec::new();
            let mut packets = 0;
            for (n, (worker, seen)) in stats.workers().zip(seen).enumerate() {
                let count = worker.drops(*reason).get();
                if count > *seen {
                    workers.push(n);
                    packets += count - *seen;
                }
                *seen = count;
            }
            if packets > 0 {
                let (reason, subjects) = (reason.name(), subjects(*reason));
                tracing::warn!(reason, subjects, packets, ?workers, "{remedy}");
            }
        }
        let evicted: u64 = stats.workers().map(|worker| worker.evicted.get()).sum();
        if evicted > self.evicted {
            tracing::warn!(
                connections = evicted - self.evicted,
                "the connection table is full: half-open and closing connections make room for new ones"
            );
        }
        self.evicted = evicted;
    }
}

impl Watched {
    fn look(&mut self, number: usize, counters: &WorkerStats, now: Time) {
        let (busy, total) = (counters.busy_nanos.get(), counters.total_nanos.get());
        let (busier, longer) = (
            busy.wrapping_sub(self.busy_nanos),
            total.wrapping_sub(self.total_nanos),
        );
        self.busy_ratio = if longer == 0 {
            0.0
        } else {
            (busier as f64 / longer as f64).clamp(0.0, 1.0)
        };
        (self.busy_nanos, self.total_nanos) = (busy, total);
        let loops = counters.loops.get();
        if loops != self.loops {
            self.loops = loops;
            self.moved = now;
            self.warned = false;
        } else if now.since(self.moved) >= HUNG && !self.warned {
            self.warned = true;
            tracing::error!(worker = number, "the worker hangs");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busy_ratio_is_of_the_last_second_and_a_worker_that_stands_still_hangs() {
        let at = |seconds: u64| Time::from_nanos(seconds * 1_000_000_000);
        let stats = Stats::new(2).unwrap();
        let mut watch = Watch::new(2, at(0));
        let [first, second] = [0, 1].map(|n| stats.workers().nth(n).unwrap());
        first.total_nanos.add(1000);
        first.busy_nanos.add(900);
        first.loops.add(1);
        second.loops.add(1);
        watch.tick(&stats, |_| None, at(1));
        assert_eq!((watch.busy_ratio(0), watch.busy_ratio(1)), (0.9, 0.0));
        first.total_nanos.add(1000);
        first.busy_nanos.add(100);
        for second in 2..=4 {
            first.loops.add(1);
            watch.tick(&stats, |_| None, at(second));
        }
        assert_eq!(watch.busy_ratio(0), 0.0);
        assert_eq!(watch.hung(at(4)), [1]);
    }
}

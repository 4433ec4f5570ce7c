//! The host's own way through the ports: SSH, BGP, health checks on a port's addresses.
//!
//! A port may have a *companion*, a TAP interface of the kernel with the port's MAC address, addresses and routes. What
//! is for the host goes there, what the kernel sends there leaves by the port. A thread of its own ([`carrier`]) reads
//! and writes the TAPs; workers meet it in rings, and make no system call for it. It never takes mbufs from the mempool,
//! nor gives any back: a thread that is no lcore may lose its CPU in the middle of that, and workers would wait for it
//! (rte_mempool's "known issues" of the EAL's guide). The first worker lends it empty ones, and takes used ones back.

mod carrier;
mod kernel;
mod vips;

pub(crate) use carrier::{Carrier, Tap};
pub(crate) use kernel::{Interface, Kernel};

use crate::io::dpdk::{Mbuf, MbufPool};
use crate::net::Mac;
use crate::packet::{Burst, Packet, Priority};
use crate::ring::{Consumer, Producer, ring};
use crate::units::PortId;
use crate::wire::ethernet::Ethernet;
use arrayvec::ArrayVec;
use std::sync::Arc;

/// Packets that may wait for the host, of each worker.
const TO_HOST: usize = 512;
/// The same of the host's routing protocols, which a flood of the others does not hold up.
const FIRST_TO_HOST: usize = 128;
/// Frames from the host, and used mbufs, that may wait for the first worker.
const FROM_HOST: usize = 1024;
/// Empty mbufs that the thread may have.
const LENT: usize = 128;
/// Taken from the host in one loop of the worker.
const TOGETHER: usize = 32;

/// The most mbufs that are somewhere between the workers and the kernel.
pub(crate) const fn mbufs(workers: usize) -> usize {
    workers * (TO_HOST + FIRST_TO_HOST) + FROM_HOST + LENT
}

/// What the thread hands to the first worker.
enum FromHost {
    /// To leave by its port.
    Frame(Mbuf),
    /// The host has read it: to be freed.
    Used(Mbuf),
    /// Lent, and not to be sent: to be freed.
    Unsent(Mbuf),
}

/// A worker's end.
pub struct WorkerEnd {
    /// By port: the MAC address of its companion, if it has one.
    companions: Arc<[Option<Mac>]>,
    to_host: Producer<Mbuf>,
    first_to_host: Producer<Mbuf>,
    /// Of the first worker.
    feed: Option<Feed>,
}

struct Feed {
    from_host: Consumer<FromHost>,
    empty: Producer<Mbuf>,
    /// Empty mbufs that the thread has.
    lent: usize,
}

/// The thread's end.
struct HostEnd {
    /// What is to be carried first, of every worker, then the rest.
    to_host: Vec<Consumer<Mbuf>>,
    from_host: Producer<FromHost>,
    empty: Consumer<Mbuf>,
}

/// The rings between `workers` workers and the thread. `companions`: by port, the MAC address of its own if it has one.
fn ends(workers: usize, companions: Arc<[Option<Mac>]>) -> (Vec<WorkerEnd>, HostEnd) {
    let (from_producer, from_consumer) = ring(FROM_HOST);
    let (empty_producer, empty_consumer) = ring(LENT);
    let mut feed = Some(Feed {
        from_host: from_consumer,
        empty: empty_producer,
        lent: 0,
    });
    let (mut worker_ends, mut first, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..workers {
        let (first_to_host, first_consumer) = ring(FIRST_TO_HOST);
        let (to_host, consumer) = ring(TO_HOST);
        first.push(first_consumer);
        rest.push(consumer);
        worker_ends.push(WorkerEnd {
            companions: companions.clone(),
            to_host,
            first_to_host,
            feed: feed.take(),
        });
    }
    first.append(&mut rest);
    let host_end = HostEnd {
        to_host: first,
        from_host: from_producer,
        empty: empty_consumer,
    };
    (worker_ends, host_end)
}

impl WorkerEnd {
    /// Takes a packet for the host behind `port`; one without a companion ends here. False when there is no room.
    pub fn take(&mut self, port: PortId, mut packet: Mbuf, priority: Priority) -> bool {
        let Some(mac) = self.companions.get(port.index()).copied().flatten() else {
            return true;
        };
        // Addressed to the port that it came in by: the kernel takes frames to the companion's own address only.
        if packet.port() != port
            && let Ok(mut frame) = Ethernet::new_checked(packet.data_mut())
        {
            frame.set_destination(mac);
        }
        packet.set_port(port);
        let ring = match priority {
            Priority::First => &mut self.first_to_host,
            Priority::Usual => &mut self.to_host,
        };
        ring.push(packet).is_ok()
    }

    /// Shows the thread what was taken.
    pub fn publish(&mut self) {
        self.first_to_host.publish();
        self.to_host.publish();
    }

    /// Moves frames of the host to `frames`, each with the port that it leaves by, and lends empty mbufs for more.
    pub fn serve(&mut self, frames: &mut Burst<Mbuf>, pool: &mut MbufPool) {
        let Some(feed) = &mut self.feed else { return };
        let mut some = ArrayVec::<FromHost, TOGETHER>::new();
        feed.from_host.take(&mut some);
        for each in some {
            match each {
                FromHost::Frame(frame) => {
                    feed.lent -= 1;
                    frames.push(frame);
                }
                FromHost::Unsent(unsent) => {
                    feed.lent -= 1;
                    drop(unsent);
                }
                FromHost::Used(used) => drop(used),
            }
        }
        if feed.lent <= LENT - TOGETHER {
            while feed.lent < LENT
                && let Some(empty) = pool.alloc(PortId(0))
                && feed.empty.push(empty).is_ok()
            {
                feed.lent += 1;
            }
            feed.empty.publish();
        }
    }
}

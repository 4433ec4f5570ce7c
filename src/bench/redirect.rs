//! What handing packets over costs: two workers in one thread, whose packets all come to the one that does not own them.

use super::cases::Figure;
use super::setup::{Setup, bursts};
use super::{HEADROOM, MEMORY, Recycled, Traffic, cpu_time, devices, traffic};
use crate::config::Config;
use crate::conn::{FlowKey, Key};
use crate::director::{Director, Origin, Room, Shared, Turn};
use crate::exchange::Mailbox;
use crate::model::Model;
use crate::net::protocol;
use crate::packet::{BURST, Burst, Priority, Sent, Sink};
use crate::rcu::Reader;
use crate::ring::{Consumer, Producer, ring};
use crate::stats::Stats;
use crate::steering::{DEFAULT_KEY, Steering};
use crate::tables::Tables;
use crate::units::{PortId, Time, WorkerId};
use std::sync::Arc;

/// Takes what either worker sends, and hands packets from one to the other.
struct Between {
    free: Vec<Recycled>,
    ring: Producer<Recycled>,
    forwarded: u64,
}

impl Sink for Between {
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

    fn hand_over(&mut self, _to: WorkerId, packet: Recycled) -> bool {
        self.ring.push(packet).is_ok()
    }
}

struct Two {
    /// Keeps what the readers read.
    _model: Model,
    workers: [(Director<Recycled>, Reader<Tables>); 2],
    between: Between,
    handed: Consumer<Recycled>,
}

impl Two {
    fn new(config: &Config, connections: usize, now: Time) -> Self {
        let room = Room::of(config, connections);
        let stats = Arc::new(Stats::new(2).expect(MEMORY));
        let (model, readers) = Model::new(config, devices(config), stats.clone(), 1, now);
        let shared = Shared::new(stats, Steering::new(DEFAULT_KEY, 2), 0x5eed);
        let mut readers = readers.into_iter();
        let workers = [0, 1].map(|n| {
            let mut reader = readers.next().expect("a reader for each worker");
            reader.quiescent();
            let mailbox = Arc::new(Mailbox::default());
            let director = Director::new(WorkerId(n), room, shared.clone(), mailbox);
            (director.expect(MEMORY), reader)
        });
        let (producer, consumer) = ring(512);
        Two {
            _model: model,
            workers,
            between: Between {
                free: (0..512).map(|_| Recycled::new()).collect(),
                ring: producer,
                forwarded: 0,
            },
            handed: consumer,
        }
    }

    /// Sends bursts of the second worker's flows to `first`; returns nanoseconds a packet, and the share forwarded.
    fn run(&mut self, traffic: &mut Traffic, bursts: usize, first: usize, now: Time) -> (f64, f64) {
        let (before, forwarded) = (cpu_time(), self.between.forwarded);
        for _ in 0..bursts {
            let mut burst = Burst::new();
            for _ in 0..BURST {
                let Some(mut packet) = self.between.free.pop() else {
                    break;
                };
                let (port, length) = traffic.next(&mut packet.buffer);
                packet.describe(port, HEADROOM, length);
                burst.push(packet);
            }
            let (director, reader) = &mut self.workers[first];
            director.process(
                &mut burst,
                Origin::Device,
                Turn::new(reader.read(), now, &mut self.between),
            );
            self.between.ring.publish();
            self.handed.take(&mut burst);
            let (director, reader) = &mut self.workers[1];
            director.process(
                &mut burst,
                Origin::Worker,
                Turn::new(reader.read(), now, &mut self.between),
            );
        }
        let packets = (bursts * BURST) as f64;
        (
            (cpu_time() - before) as f64 / packets,
            (self.between.forwarded - forwarded) as f64 / packets,
        )
    }
}

pub(super) fn run(quick: bool, report: &mut dyn FnMut(Figure)) {
    let steering = Steering::new(DEFAULT_KEY, 2);
    let is_second = |flow: &traffic::Flow| {
        let ((source, from), (destination, to)) = (flow.source, flow.destination);
        steering.owner(&FlowKey::new(source, from, destination, to, protocol::UDP)) == WorkerId(1)
    };
    for mode in ["nat", "fullnat"] {
        let setup = Setup::new(mode, "udp");
        let flows = (0..).map(|n| setup.flow(n, 1)).filter(is_second);
        let flows: Vec<_> = flows.take(1_000).collect();
        let now = Time::from_nanos(1 << 50);
        let mut two = Two::new(&setup.config(), 4_000, now);
        let mut traffic = Traffic::new(flows, None, 64);
        two.run(&mut traffic, 100, 1, now);
        for (first, how) in [(1, "direct"), (0, "handed over")] {
            let (nanos, forwarded) = two.run(&mut traffic, bursts(1_000, quick), first, now);
            let forwarded = forwarded * 100.0;
            report(Figure {
                case: "redirect",
                what: format!("{mode} udp, {how}, with the generator, {forwarded:.0} % forwarded"),
                nanos,
                per: "packet",
            });
        }
    }
}

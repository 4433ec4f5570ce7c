//! Takes what the directors send, and says which received packet caused it.

use super::{Decision, Frame};
use crate::door;
use crate::io::memory::Memory;
use crate::net::Vlan;
use crate::packet::{Packet, Priority, Sent, Sink};
use crate::stats::Stats;
use crate::units::{PortId, Time, WorkerId};
use crate::verdict::{DropReason, PacketContext, Verdict};
use std::collections::VecDeque;
use std::sync::Arc;

/// A packet, and its place among those that came in together.
pub(super) type Numbered = (usize, Memory);

/// Every director's sink.
pub(super) struct Outbox {
    /// The worker whose director is at work.
    pub worker: WorkerId,
    /// The timestamp of what no packet causes.
    pub clock: Time,
    stats: Arc<Stats>,
    /// Of each port.
    vlans: Vec<Vlan>,
    /// Not yet taken.
    frames: Vec<Frame>,
    /// For each port, how many frames were sent.
    sent: Vec<u64>,
    /// The ports and timestamps of the packets that came in together.
    arrivals: Vec<(PortId, Time)>,
    /// Those of them that the director still has, in the order of its decisions.
    current: VecDeque<usize>,
    /// What they caused so far, and which of them.
    caused: Vec<(usize, Sent, Frame)>,
    /// Of each of them. A packet that another one was kept waiting for may be decided on again, for that one.
    decided: Vec<Option<(WorkerId, Verdict, PacketContext)>>,
    /// For each worker, what others have handed over to it.
    handed_over: Vec<Vec<Numbered>>,
}

impl Outbox {
    pub(super) fn new(stats: Arc<Stats>, vlans: Vec<Vlan>, workers: usize, clock: Time) -> Self {
        Outbox {
            worker: WorkerId(0),
            clock,
            stats,
            frames: Vec::new(),
            sent: vec![0; vlans.len()],
            vlans,
            arrivals: Vec::new(),
            current: VecDeque::new(),
            caused: Vec::new(),
            decided: Vec::new(),
            handed_over: (0..workers).map(|_| Vec::new()).collect(),
        }
    }

    /// Packets with these timestamps have come in together, each by that port's capture.
    pub(super) fn begin(&mut self, arrivals: impl Iterator<Item = (PortId, Time)>) {
        self.arrivals.extend(arrivals);
        self.decided.resize(self.arrivals.len(), None);
    }

    /// The packet is for this port.
    pub(super) fn enters(&mut self, number: usize, port: PortId) {
        self.arrivals[number].0 = port;
    }

    /// The packet is for no port. The first worker counts it.
    pub(super) fn refuse(&mut self, number: usize, reason: DropReason) {
        let worker = WorkerId(0);
        let counters = self.stats.worker(worker);
        counters.received.add(1);
        counters.drop(reason);
        let context = PacketContext::default();
        self.decided[number] = Some((worker, Verdict::Drop(reason), context));
    }

    /// A burst of these goes to the director of `worker` next.
    pub(super) fn expect(&mut self, worker: WorkerId, numbers: impl Iterator<Item = usize>) {
        self.worker = worker;
        self.current.extend(numbers);
    }

    /// Takes what the other workers have handed over to `worker`.
    pub(super) fn take_handed_over(&mut self, worker: usize) -> Vec<Numbered> {
        std::mem::take(&mut self.handed_over[worker])
    }

    pub(super) fn has_handed_over(&self) -> bool {
        self.handed_over.iter().any(|ring| !ring.is_empty())
    }

    /// Puts the frames that were sent since [`begin`](Self::begin) into the order of the packets that caused them, and
    /// returns what became of each packet.
    pub(super) fn end(&mut self) -> Vec<Decision> {
        self.caused.sort_by_key(|(number, _, _)| *number);
        // The first that is the packet itself: what it has released follows it.
        let mut own = vec![None; self.arrivals.len()];
        for (number, kind, frame) in self.caused.drain(..) {
            let sent = &mut self.sent[frame.port.index()];
            if kind != Sent::Originated {
                own[number].get_or_insert(*sent);
            }
            *sent += 1;
            self.frames.push(frame);
        }
        let decisions = self.arrivals.drain(..).zip(self.decided.drain(..)).zip(own);
        type Arrival = (PortId, Time);
        let decision = |(((port, time), decided), own): ((Arrival, Option<_>), Option<u64>)| {
            let (worker, verdict, context) = decided.expect("the director decides on every packet");
            let is_sent = matches!(verdict, Verdict::Forward(_) | Verdict::Reply(..));
            Decision {
                port,
                worker,
                time,
                verdict,
                context,
                out_n: own.filter(|_| is_sent),
            }
        };
        decisions.map(decision).collect()
    }

    /// The frames sent since the last call, in the order of their sending.
    pub(super) fn take_frames(&mut self) -> impl Iterator<Item = Frame> {
        self.frames.drain(..)
    }
}

impl Sink for Outbox {
    type Packet = Memory;

    fn send(&mut self, port: PortId, mut packet: Memory, kind: Sent) {
        let counters = self.stats.worker(self.worker);
        if !door::tag(&mut packet, self.vlans[port.index()]) {
            counters.unsent(kind, 1, DropReason::NoHeadroom);
            return;
        }
        counters.sent(port, kind, 1, 0);
        let frame = |time| Frame { port, time, packet };
        match self.current.front() {
            Some(&number) => {
                let time = self.arrivals[number].1;
                self.caused.push((number, kind, frame(time)));
            }
            None => {
                self.sent[port.index()] += 1;
                self.frames.push(frame(self.clock));
            }
        }
    }

    fn alloc(&mut self, port: PortId) -> Option<Memory> {
        Some(Memory::new(port, &[]))
    }

    fn local(&mut self, _port: PortId, _packet: Memory, _priority: Priority) -> bool {
        true
    }

    fn hand_over(&mut self, to: WorkerId, packet: Memory) -> bool {
        let &number = self
            .current
            .front()
            .expect("only a received packet is handed over");
        self.handed_over[to.index()].push((number, packet));
        true
    }

    fn decided(&mut self, _port: PortId, verdict: Verdict, context: PacketContext) {
        let number = self.current.pop_front().expect("one decision a packet");
        let decided = &mut self.decided[number];
        if decided.is_none_or(|(_, verdict, _)| matches!(verdict, Verdict::HandOver(_))) {
            *decided = Some((self.worker, verdict, context));
        }
    }
}

impl Frame {
    pub fn bytes(&self) -> &[u8] {
        self.packet.data()
    }
}

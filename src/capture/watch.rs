//! A worker's part of a capture: what it looks at, and the sink that sees what is sent.

use super::{FrameCopy, Lane, Packet, Refusal, Session, Side, add};
use crate::packet::{BURST, Priority, Sent, Sink};
use crate::units::{PortId, Time, WorkerId};
use crate::verdict::{DropReason, PacketContext, Verdict};
use arrayvec::ArrayVec;
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;
use std::time::Duration;

/// Frames that are sent for one packet, at most: a datagram of 64 KiB in pieces of 1,280 bytes.
const FRAMES: usize = 56;

/// Nanoseconds that a look at a single frame counts for, which is not measured.
const ALONE: i64 = 200;

/// Time that may be saved up for looking, where there was nothing to look at.
const SAVED: Duration = Duration::from_millis(1);

/// What a worker has while packets are captured.
#[derive(Debug)]
pub struct Watch {
    session: Arc<Session>,
    worker: WorkerId,
    /// The packets of a burst, as they came.
    burst: ArrayVec<Box<FrameCopy>, BURST>,
    /// How many there are, and how many of them have been decided on.
    received: usize,
    decided: usize,
    /// Whether the packet that is being decided on, or what is sent for it, matches.
    matches: bool,
    sent: ArrayVec<Box<FrameCopy>, FRAMES>,
    /// A frame of the packet found no copy that is free.
    is_incomplete: bool,
    /// Nanoseconds that may be spent on looking; below 0 after more were spent.
    credit: i64,
    now: Time,
}

impl Watch {
    pub(super) fn new(session: Arc<Session>, worker: WorkerId) -> Box<Watch> {
        let snaplen = session.snaplen();
        Box::new(Watch {
            burst: (0..BURST).map(|_| FrameCopy::new(snaplen)).collect(),
            session,
            worker,
            received: 0,
            decided: 0,
            matches: false,
            sent: ArrayVec::new(),
            is_incomplete: false,
            credit: 0,
            now: Time::default(),
        })
    }

    pub fn is_over(&self) -> bool {
        self.session.is_over()
    }

    /// Ends the worker's part. Its memory is freed by another thread.
    pub fn give_back(self: Box<Self>) {
        let session = self.session.clone();
        // There is a place for each watch.
        let _ = session.returned.push(self);
        session.watching.fetch_sub(1, Release);
    }

    /// A loop of the worker begins.
    pub fn turn(&mut self, now: Time) {
        let span = match self.now {
            before if before == Time::default() => SAVED,
            // A worker that was kept from running for longer has not had that time.
            before => now.since(before).min(SAVED),
        };
        let share = i64::from(self.session.wanted.share);
        let earned = span.as_nanos() as i64 * share / 100;
        self.credit = (self.credit + earned).min(SAVED.as_nanos() as i64);
        self.now = now;
    }

    /// Whether the next packets are looked at. Those that are not are counted.
    pub fn has_time_for(&self, packets: usize) -> bool {
        let has_time = self.credit > 0 || self.session.wanted.share >= 100;
        if !has_time {
            add(&self.lane().seen.passed_over, packets as u64);
        }
        has_time
    }

    /// Accounts for what [`receive`](Self::receive) took. What is sent is looked at likewise, packet by packet.
    pub fn spend(&mut self, span: Duration) {
        self.credit -= 2 * span.as_nanos().min(1 << 40) as i64;
    }

    /// Copies a burst that goes to the director next, by a [`Watched`] sink.
    pub fn receive<P: Packet>(&mut self, burst: &[P], is_taken_over: bool) {
        let side = match is_taken_over {
            true => Side::TakenOver,
            false => Side::Received,
        };
        for (copy, packet) in self.burst.iter_mut().zip(burst) {
            copy.take(packet.data());
            copy.port = packet.port();
            copy.side = side;
            copy.matches = self.session.matches(packet.data());
        }
        self.received = burst.len().min(self.burst.len());
        self.decided = 0;
        self.begin();
        add(&self.lane().seen.looked_at, burst.len() as u64);
    }

    /// A frame that no director sees, for it is of no port's VLAN.
    pub fn refuse(&mut self, port: PortId, frame: &[u8], reason: DropReason) {
        if !self.matches_alone(frame) {
            return;
        }
        let decided = (Verdict::Drop(reason), PacketContext::default());
        self.take_alone(port, frame, Side::Received, Some(decided));
    }

    fn begin(&mut self) {
        let current = self.burst[..self.received].get(self.decided);
        self.matches = current.is_some_and(|copy| copy.matches);
        self.is_incomplete = false;
    }

    /// A frame is sent: for the packet that is decided on, or for none.
    fn send(&mut self, port: PortId, frame: &[u8], kind: Sent) {
        if self.decided == self.received {
            self.send_alone(port, frame, kind);
            return;
        }
        self.matches |= self.session.matches(frame);
        if !self.matches {
            return;
        }
        let copy = match self.sent.is_full() {
            true => None,
            false => self.lane().free.pop(),
        };
        match copy {
            Some(mut copy) => {
                let for_packet = true;
                self.write(&mut copy, port, frame, Side::Sent { kind, for_packet });
                self.sent.push(copy);
            }
            None => self.is_incomplete = true,
        }
    }

    /// A frame that no packet causes now: weir's own, the host's, or one that has waited.
    pub fn send_alone(&mut self, port: PortId, frame: &[u8], kind: Sent) {
        if self.matches_alone(frame) {
            let for_packet = false;
            self.take_alone(port, frame, Side::Sent { kind, for_packet }, None);
        }
    }

    /// Whether a frame that belongs to no burst is looked at, and matches.
    fn matches_alone(&mut self, frame: &[u8]) -> bool {
        if !self.has_time_for(1) {
            return false;
        }
        self.credit -= ALONE;
        add(&self.lane().seen.looked_at, 1);
        self.session.matches(frame)
    }

    fn take_alone(
        &mut self,
        port: PortId,
        frame: &[u8],
        side: Side,
        decided: Option<(Verdict, PacketContext)>,
    ) {
        let seen = &self.lane().seen;
        if self.session.is_complete() {
            return;
        }
        add(&seen.matched, 1);
        let Some(mut copy) = self.lane().free.pop() else {
            add(&seen.lost, 1);
            return;
        };
        match self.session.number() {
            Ok(number) => {
                self.write(&mut copy, port, frame, side);
                copy.packet = number;
                copy.decided = decided;
                let _ = self.lane().full.push(copy);
            }
            Err(refusal) => {
                self.count(refusal);
                let _ = self.lane().free.push(copy);
            }
        }
    }

    fn write(&self, copy: &mut FrameCopy, port: PortId, frame: &[u8], side: Side) {
        copy.take(frame);
        copy.port = port;
        copy.side = side;
        copy.worker = self.worker;
        copy.time = self.now;
    }

    /// What became of the packet: it is given to the reader with what was sent for it, whole or not at all.
    fn decide(&mut self, verdict: Verdict, context: PacketContext) {
        if self.decided == self.received {
            return;
        }
        // The worker that it is handed over to has the last word on it.
        if self.matches && !matches!(verdict, Verdict::HandOver(_)) {
            self.take(verdict, context);
        }
        let Watch {
            sent,
            session,
            worker,
            ..
        } = self;
        for copy in sent.drain(..) {
            let _ = session.lanes[worker.index()].free.push(copy);
        }
        self.decided += 1;
        self.begin();
    }

    fn take(&mut self, verdict: Verdict, context: PacketContext) {
        let Watch {
            session,
            worker,
            now,
            ..
        } = self;
        if session.is_complete() {
            return;
        }
        let lane = &session.lanes[worker.index()];
        add(&lane.seen.matched, 1);
        let other = match self.is_incomplete {
            true => None,
            false => lane.free.pop(),
        };
        let Some(other) = other else {
            add(&lane.seen.lost, 1);
            return;
        };
        let number = match session.number() {
            Ok(number) => number,
            Err(refusal) => {
                let _ = lane.free.push(other);
                self.count(refusal);
                return;
            }
        };
        let mut received = std::mem::replace(&mut self.burst[self.decided], other);
        received.worker = *worker;
        received.time = *now;
        received.frames = self.sent.len() as u8;
        for mut copy in std::iter::once(received).chain(self.sent.drain(..)) {
            copy.packet = number;
            copy.decided = Some((verdict, context));
            // There is room for every copy that the capture has.
            let _ = lane.full.push(copy);
        }
    }

    fn count(&self, refusal: Refusal) {
        if let Refusal::OverRate = refusal {
            add(&self.lane().seen.over_rate, 1);
        }
    }

    fn lane(&self) -> &Lane {
        &self.session.lanes[self.worker.index()]
    }
}

/// A sink that shows a [`Watch`] what goes through it.
pub struct Watched<'a, S> {
    sink: &'a mut S,
    watch: &'a mut Watch,
}

impl<'a, S> Watched<'a, S> {
    pub fn new(sink: &'a mut S, watch: &'a mut Watch) -> Self {
        Watched { sink, watch }
    }
}

impl<S: Sink> Sink for Watched<'_, S> {
    type Packet = S::Packet;

    fn send(&mut self, port: PortId, packet: S::Packet, kind: Sent) {
        self.watch.send(port, packet.data(), kind);
        self.sink.send(port, packet, kind);
    }

    fn alloc(&mut self, port: PortId) -> Option<S::Packet> {
        self.sink.alloc(port)
    }

    fn local(&mut self, port: PortId, packet: S::Packet, priority: Priority) -> bool {
        self.sink.local(port, packet, priority)
    }

    fn hand_over(&mut self, to: WorkerId, packet: S::Packet) -> bool {
        self.sink.hand_over(to, packet)
    }

    fn decided(&mut self, port: PortId, verdict: Verdict, context: PacketContext) {
        self.watch.decide(verdict, context);
        self.sink.decided(port, verdict, context);
    }
}

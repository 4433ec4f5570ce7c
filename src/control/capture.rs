//! Live captures: one at a time; its watches to the workers, and back; names for what it saw.

use super::Control;
use crate::advice;
use crate::capture::{BoxedCopy, BoxedWatch, FrameCopy, Session, Side, Watch};
use crate::exchange::Order;
use crate::packet::Sent;
use crate::units::{PortId, Time};
use crate::verdict::{PacketContext, Verdict};
use crate::view::{CapturedDecision, CapturedView};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of a frame around its IP packet: the Ethernet header, and two VLAN tags of one that no port takes.
const AROUND: usize = 14 + 8;

/// The capture that runs, or ends.
#[derive(Default)]
pub(super) struct Captures {
    running: Option<Arc<Session>>,
    /// When it ends, although its reader asks for nothing.
    until: Time,
    /// The number of the last one.
    last: u64,
}

/// What a capture needs to know before it begins.
#[derive(Clone, Debug)]
pub struct Ground {
    pub workers: usize,
    /// Bytes of the longest frame.
    pub longest: usize,
    pub ports: Vec<String>,
}

/// A capture that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    pub id: u64,
    /// Nanoseconds from 1970 to the clock's 0.
    pub epoch: u64,
}

/// Why none begins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCapture {
    #[error(
        "a capture of {0:?} is running, and there is one at a time: wait for its end, or end it (DELETE /v1/capture)"
    )]
    Runs(String),
    #[error("the workers have too much to do; ask again")]
    Busy,
}

impl Captures {
    pub(super) fn tick(&mut self, now: Time) {
        let Some(session) = &self.running else {
            return;
        };
        if now >= self.until {
            session.end();
        }
        if session.is_over() {
            // What was given back before the last worker left is there.
            let is_left = session.is_left();
            session.reap();
            if is_left {
                self.running = None;
            }
        }
    }
}

impl Control {
    pub fn capture_ground(&self) -> Ground {
        let ports = &self.model.config().ports;
        let longest = ports.iter().map(|port| usize::from(port.mtu)).max();
        Ground {
            workers: self.workers.len(),
            longest: longest.unwrap_or(0) + AROUND,
            ports: ports.iter().map(|port| port.name.clone()).collect(),
        }
    }

    /// Has every worker look at packets, for so long at most.
    ///
    /// # Errors
    /// If another capture runs, or a worker has no room for the order; then none looks.
    pub fn begin_capture(
        &mut self,
        session: &Arc<Session>,
        watches: Vec<BoxedWatch>,
        length: Duration,
    ) -> Result<Begun, NoCapture> {
        let now = self.now();
        self.captures.tick(now);
        if let Some(running) = &self.captures.running {
            watches.into_iter().for_each(Watch::give_back);
            session.reap();
            let filter = running.filter();
            return Err(NoCapture::Runs(filter.to_owned()));
        }
        self.captures.running = Some(session.clone());
        self.captures.last += 1;
        self.captures.until = now + length;
        let mut has_room = true;
        for (worker, watch) in self.workers.iter().zip(watches) {
            if let Err(Order::Watch(watch)) = worker.mailbox.orders.push(Order::Watch(watch)) {
                watch.give_back();
                has_room = false;
            }
        }
        if !has_room {
            session.end();
            return Err(NoCapture::Busy);
        }
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let wall = wall.unwrap_or_default().as_nanos() as u64;
        Ok(Begun {
            id: self.captures.last,
            epoch: wall.saturating_sub(now.nanos()),
        })
    }

    /// Ends the capture, of this number if one is given. Returns whether there was one.
    pub fn end_capture(&mut self, id: Option<u64>) -> bool {
        let is_it = id.is_none_or(|id| id == self.captures.last);
        let running = self.captures.running.as_ref().filter(|_| is_it);
        let running = running.filter(|session| !session.is_over());
        running.inspect(|session| session.end()).is_some()
    }

    /// Rows of copies, but for their frames.
    pub(crate) fn show_captured(&self, copies: &[BoxedCopy], epoch: u64) -> Vec<CapturedView> {
        copies
            .iter()
            .map(|copy| self.captured(copy, epoch))
            .collect()
    }

    fn captured(&self, copy: &FrameCopy, epoch: u64) -> CapturedView {
        let (side, kind, for_packet) = match copy.side {
            Side::Received => ("received", None, false),
            Side::TakenOver => ("taken_over", None, false),
            Side::Sent { kind, for_packet } => {
                let kind = match kind {
                    Sent::Forwarded => "forwarded",
                    Sent::Answered => "answered",
                    Sent::Originated => "originated",
                };
                ("sent", Some(kind.to_owned()), for_packet)
            }
        };
        let decision = copy.decided.as_ref();
        CapturedView {
            packet: copy.packet,
            side: side.to_owned(),
            port: self.name_of_port(copy.port).to_owned(),
            worker: copy.worker.0,
            time_ns: epoch.saturating_add(copy.time.nanos()),
            length: copy.length,
            frame: String::new(),
            kind,
            for_packet,
            sent_frames: copy.frames,
            decision: decision.map(|(verdict, context)| self.decision(*verdict, context)),
        }
    }

    fn decision(&self, verdict: Verdict, context: &PacketContext) -> CapturedDecision {
        let model = &self.model;
        let words = advice::words(verdict, context, |port| self.name_of_port(port));
        // A known connection's service is its real server's.
        let of_real = |real| self.stats.service_of(real);
        let service = context.service.or_else(|| context.real.and_then(of_real));
        // Outward connections have the counters of a real server, and none.
        let is_snat = context.real.is_some_and(|id| model.is_snat(id));
        let real = context.real.filter(|_| !is_snat);
        let real = real.and_then(|id| model.real(id));
        let mode = service.and_then(|id| model.service(id));
        let mode = mode.map(|service| service.mode.name);
        CapturedDecision {
            verdict: verdict.name().to_owned(),
            reason: verdict.reason(context).to_owned(),
            says: words.says,
            meaning: words.meaning.map(str::to_owned),
            advice: words.advice.map(str::to_owned),
            service: service
                .and_then(|id| model.service_name(id))
                .map(|name| name.to_string()),
            real: real.map(|(_, address, port)| match port {
                0 => address.to_string(),
                port => SocketAddr::new(*address, *port).to_string(),
            }),
            mode: mode.or(is_snat.then_some("snat")).map(str::to_owned),
            state: context.state.map(str::to_owned),
            out_port: verdict
                .out_port()
                .map(|port| self.name_of_port(port).to_owned()),
        }
    }

    fn name_of_port(&self, port: PortId) -> &str {
        &self.model.tables().port(port).name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::{Instruction, Program};
    use crate::capture::Wanted;

    #[test]
    fn a_capture_whose_reader_asks_for_nothing_ends_and_gives_way_when_the_workers_have() {
        let wanted = Wanted {
            program: Program::new(&[Instruction(0x06, 0, 0, 1)]).unwrap(),
            filter: String::new(),
            snaplen: 64,
            count: None,
            rate: 1,
            share: 5,
        };
        let (session, watches) = Session::new(wanted, 2);
        let mut captures = Captures {
            running: Some(session.clone()),
            until: Time::from_nanos(10),
            last: 1,
        };
        captures.tick(Time::from_nanos(9));
        assert!(!session.is_over());
        captures.tick(Time::from_nanos(10));
        assert!(session.is_over() && captures.running.is_some());
        watches.into_iter().for_each(Watch::give_back);
        captures.tick(Time::from_nanos(11));
        assert!(captures.running.is_none());
    }
}

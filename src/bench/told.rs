//! What it costs that real servers are told of clients, beside a service that tells nothing: known packets and whole TCP connections, in
//! turns, since machines drift.

use super::cases::Figure;
use super::gap::median;
use super::setup::{LAN, Setup, warm_up};
use super::traffic::{Flow, frame};
use super::{Bench, Traffic};
use crate::packet::BURST;
use crate::units::PortId;
use crate::wire::{ethernet, ipv4, proxy};
use std::time::Duration;

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A service with this, and how long what it puts in front of a TCP connection's data is.
#[derive(Clone, Copy)]
struct Arm {
    name: &'static str,
    keys: &'static str,
    header: u32,
}

const NONE: Arm = Arm {
    name: "none",
    keys: "",
    header: 0,
};
const TOA: Arm = Arm {
    name: "toa",
    keys: "client_address = \"toa\"\n",
    header: 0,
};

fn proxy_v2() -> Arm {
    Arm {
        name: "proxy-v2",
        keys: "client_address = \"proxy-v2\"\n",
        header: proxy::length(false) as u32,
    }
}

pub(super) fn toa(quick: bool, report: &mut dyn FnMut(Figure)) {
    known_segments("toa", [NONE, TOA], quick, report);
    connections("toa", [NONE, TOA], quick, report);
}

pub(super) fn proxy(quick: bool, report: &mut dyn FnMut(Figure)) {
    known_segments("proxy", [NONE, proxy_v2()], quick, report);
    connections("proxy", [NONE, proxy_v2()], quick, report);
    known_datagrams("proxy", [NONE, proxy_v2()], quick, report);
}

/// First numbers of the client's data, and of the real server's.
const FIRST: u32 = 101;
const FIRST_BACK: u32 = 501;
/// Bytes of data in a frame of 64.
const DATA: u32 = 64 - EMPTY as u32;
/// A frame without data.
const EMPTY: usize = 54;

/// A segment of a flow.
fn segment(
    flow: &Flow,
    flags: u8,
    (sequence, acknowledged): (u32, u32),
    length: usize,
) -> (PortId, Vec<u8>) {
    let mut frame = frame(flow, Some(flags), length);
    let numbers = [sequence.to_be_bytes(), acknowledged.to_be_bytes()].concat();
    let at = ethernet::HEADER_LEN + ipv4::HEADER_LEN + 4;
    frame[at..at + numbers.len()].copy_from_slice(&numbers);
    (flow.port, frame)
}

/// TCP connections of one arm.
struct Lab {
    arm: Arm,
    bench: Bench,
    requests: Vec<Flow>,
    replies: Vec<Flow>,
}

impl Lab {
    fn new(arm: Arm, flows: usize) -> Self {
        let setup = Setup {
            keys: arm.keys,
            ..Setup::new("fullnat", "tcp")
        };
        Lab {
            arm,
            bench: Bench::new(&setup.config(), flows * 2),
            requests: (0..flows).map(|n| setup.flow(n, 1)).collect(),
            replies: vec![],
        }
    }

    fn request(&self, flags: u8, sequence: u32, length: usize) -> Traffic {
        let back = if flags == SYN { 0 } else { FIRST_BACK };
        let frames = self.requests.iter();
        Traffic::of_frames(frames.map(|flow| segment(flow, flags, (sequence, back), length)))
    }

    fn reply(&self, flags: u8, sequence: u32, acknowledged: u32, length: usize) -> Traffic {
        let numbers = (sequence, acknowledged);
        let frames = self.replies.iter();
        Traffic::of_frames(frames.map(|flow| segment(flow, flags, numbers, length)))
    }

    /// The packets with which connections begin, until the real server has all of the first request. Returns nanoseconds for each
    /// connection.
    fn open(&mut self) -> f64 {
        let opening = self.request(SYN, FIRST - 1, EMPTY);
        let mut nanos = self.pass(opening);
        self.replies = self.bench.replies(LAN);
        let taken = FIRST + self.arm.header + DATA;
        nanos += self.pass(self.reply(SYN | ACK, FIRST_BACK - 1, FIRST, EMPTY));
        nanos += self.pass(self.request(ACK, FIRST, EMPTY));
        nanos += self.pass(self.request(ACK, FIRST, 64));
        nanos + self.pass(self.reply(ACK, FIRST_BACK, taken, 64))
    }

    /// They are reset, and expire.
    fn close(&mut self) -> f64 {
        let nanos = self.pass(self.request(RST, FIRST + DATA, EMPTY));
        nanos + self.bench.expire() as f64 / self.requests.len() as f64
    }

    fn pass(&mut self, mut traffic: Traffic) -> f64 {
        let bursts = self.requests.len() / BURST;
        let cost = self.bench.run(&mut traffic, bursts, Duration::ZERO);
        assert!(cost.forwarded >= 1.0, "{}: {cost:?}", self.arm.name);
        cost.nanos
    }
}

/// Requests and replies in turns, behind the first of both.
fn known_segments(case: &'static str, arms: [Arm; 2], quick: bool, report: &mut dyn FnMut(Figure)) {
    let (turns, flows, least) = if quick {
        (3, 1_024, 1_000)
    } else {
        (15, 102_400, 10_000)
    };
    let mut arms = arms.map(|arm| {
        let mut lab = Lab::new(arm, flows);
        lab.open();
        let taken = FIRST + arm.header + 2 * DATA;
        let requests = lab.requests.iter();
        let requests =
            requests.map(|flow| segment(flow, ACK, (FIRST + DATA, FIRST_BACK + DATA), 64));
        let numbers = (FIRST_BACK + DATA, taken);
        let replies = lab
            .replies
            .iter()
            .map(|flow| segment(flow, ACK, numbers, 64));
        let mut traffic = Traffic::of_frames(requests.chain(replies));
        traffic.shuffle();
        (lab, traffic, vec![])
    });
    for _ in 0..turns {
        for (lab, traffic, nanos) in &mut arms {
            let bursts = (2 * flows / BURST).max(least);
            let cost = lab.bench.run(traffic, bursts, Duration::ZERO);
            assert!(cost.forwarded >= 1.0, "{}: {cost:?}", lab.arm.name);
            nanos.push(cost.nanos);
        }
    }
    for (lab, _, nanos) in arms {
        report(Figure {
            case,
            what: format!(
                "{}, known tcp, {flows} connections, both ways",
                lab.arm.name
            ),
            nanos: median(nanos),
            per: "packet",
        });
    }
}

fn connections(case: &'static str, arms: [Arm; 2], quick: bool, report: &mut dyn FnMut(Figure)) {
    let (turns, flows) = if quick { (2, 4_096) } else { (9, 65_536) };
    let mut arms = arms.map(|arm| (Lab::new(arm, flows), vec![]));
    for _ in 0..turns {
        for (lab, nanos) in &mut arms {
            let opened = lab.open();
            nanos.push(opened + lab.close());
        }
    }
    for (lab, nanos) in arms {
        report(Figure {
            case,
            what: format!(
                "{}, {flows} tcp connections of 6 packets, and expiry",
                lab.arm.name
            ),
            nanos: median(nanos),
            per: "connection",
        });
    }
}

fn known_datagrams(
    case: &'static str,
    arms: [Arm; 2],
    quick: bool,
    report: &mut dyn FnMut(Figure),
) {
    let (turns, flows, least) = if quick {
        (3, 1_000, 1_000)
    } else {
        (15, 100_000, 10_000)
    };
    let mut arms = arms.map(|arm| {
        let setup = Setup {
            keys: arm.keys,
            ..Setup::new("fullnat", "udp")
        };
        let mut bench = Bench::new(&setup.config(), flows * 2);
        let mut traffic = Traffic::new((0..flows).map(|n| setup.flow(n, 1)), None, 64);
        warm_up(&mut bench, &mut traffic, flows);
        (arm, bench, traffic, vec![])
    });
    for _ in 0..turns {
        for (_, bench, traffic, nanos) in &mut arms {
            let bursts = flows.div_ceil(BURST).max(least);
            nanos.push(bench.run(traffic, bursts, Duration::ZERO).nanos);
        }
    }
    for (arm, .., nanos) in arms {
        report(Figure {
            case,
            what: format!("{}, known udp, {flows} flows", arm.name),
            nanos: median(nanos),
            per: "packet",
        });
    }
}

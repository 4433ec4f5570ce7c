//! Ages of weeks: no span of the clock is taken for a shorter one. A millisecond's 32 bits are over after 49.7 days, half
//! of them after 24.9.

use super::frames::*;
use super::{PORTS, SECOND, T, parse};
use std::net::Ipv4Addr;
use weir::replay::{Decision, Replay};
use weir::units::{PortId, Time};
use weir::verdict::{DropReason, Verdict};

const WAN: PortId = PortId(0);
const LAN_PORT: PortId = PortId(1);
const DAY: u64 = 86_400 * SECOND;

/// Longer than any timeout of the tests. The last ones are a second behind each wrap of 32 bits of milliseconds.
const SPANS: [u64; 9] = [
    DAY,
    24 * DAY,
    25 * DAY,
    37 * DAY,
    49 * DAY,
    50 * DAY,
    100 * DAY,
    (1 << 32) * 1_000_000 + SECOND,
    (2 << 32) * 1_000_000 + SECOND,
];

struct Lab {
    replay: Replay,
    now: u64,
}

impl Lab {
    /// Two ports, the client's next hop and the real servers', and these tables.
    fn new(workers: usize, tables: &str) -> Self {
        let text = format!(
            r#"
[limits]
answers_per_second = 5
{PORTS}
[[neighbour]]
address = "198.51.100.9"
mac = "02:00:00:00:00:c1"
[[neighbour]]
address = "10.0.0.12"
mac = "02:00:00:00:01:12"
{tables}"#
        );
        let config = parse(&text);
        Lab {
            replay: Replay::new(&config, workers, 1_000, Time::from_nanos(T)).unwrap(),
            now: T,
        }
    }

    fn receive_by(&mut self, port: PortId, frame: &[u8]) -> Decision {
        self.now += 1_000_000;
        let decision = self.replay.receive(port, frame, Time::from_nanos(self.now));
        self.replay.check().unwrap();
        decision
    }

    fn receive(&mut self, frame: &[u8]) -> Decision {
        self.receive_by(WAN, frame)
    }

    /// The frames that were sent since the last call.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let frames = self.replay.take_frames();
        frames.map(|frame| frame.bytes().to_vec()).collect()
    }

    fn connections(&self) -> u64 {
        self.replay.stats().total(|worker| worker.connections.get())
    }
}

fn is_new(decision: &Decision) -> bool {
    matches!(decision.verdict, Verdict::Forward(_)) && decision.context.new_connection
}

/// A TCP service on port 80 and a UDP service on port 53, in one mode, with these real servers and more keys.
fn services(mode: &str, reals: &[u8], more: &str) -> String {
    let pool = match mode {
        "fullnat" => "local_pool = \"inside\"",
        _ => "",
    };
    let reals: String = reals
        .iter()
        .map(|last| format!("[[service.real]]\naddress = \"10.0.0.{last}\"\n"))
        .collect();
    let service = |protocol: &str, port: u16| {
        format!(
            "[[service]]\naddress = \"{VIP}\"\nport = {port}\nprotocol = \"{protocol}\"\nmode = \"{mode}\"\n\
             scheduler = \"rr\"\n{pool}\n{more}\n{reals}"
        )
    };
    format!(
        "[[neighbour]]\naddress = \"10.0.0.11\"\nmac = \"{REAL_MAC}\"\n\
         [[local_pool]]\nname = \"inside\"\naddresses = [\"10.0.0.200\"]\nports = \"40000-40999\"\n{}{}",
        service("tcp", 80),
        service("udp", 53)
    )
}

/// Runs with each span, in every mode and with several workers.
fn in_every_way(mut body: impl FnMut(&str, usize, u64)) {
    for mode in ["dr", "nat", "fullnat"] {
        for workers in [1, 2, 4] {
            for span in SPANS {
                body(mode, workers, span);
            }
        }
    }
}

#[test]
fn a_connection_that_was_silent_for_days_is_gone() {
    in_every_way(|mode, workers, span| {
        let case = format!("{mode}, {workers} workers, {} s", span / SECOND);
        let mut lab = Lab::new(workers, &services(mode, &[11], ""));
        assert!(is_new(&lab.receive(&tcp(5000, SYN))), "{case}");
        lab.receive(&tcp(5000, ACK));
        assert!(is_new(&lab.receive(&query(7000))), "{case}");
        assert!(!is_new(&lab.receive(&query(7000))), "{case}");
        assert_eq!(lab.connections(), 2, "{case}");
        lab.now += span;
        let segment = lab.receive(&tcp(5000, ACK));
        assert!(
            !matches!(segment.verdict, Verdict::Forward(_)),
            "{case}: {segment:?}"
        );
        assert_eq!(lab.connections(), 0, "{case}");
        assert!(is_new(&lab.receive(&query(7000))), "{case}");
        assert!(is_new(&lab.receive(&tcp(5000, SYN))), "{case}");
    });
}

#[test]
fn a_connection_that_is_never_silent_for_long_lives_for_days() {
    for mode in ["dr", "nat", "fullnat"] {
        let mut lab = Lab::new(1, &services(mode, &[11], ""));
        assert!(is_new(&lab.receive(&query(7000))));
        // Past 49.7 days, in steps just below the timeout of UDP.
        let steps = 55 * DAY / (299 * SECOND);
        for step in 0..steps {
            lab.now += 299 * SECOND;
            let decision = lab.receive(&query(7000));
            assert!(
                matches!(decision.verdict, Verdict::Forward(_)) && !is_new(&decision),
                "{mode}, step {step}: {decision:?}"
            );
            lab.sent();
        }
        assert_eq!(lab.connections(), 1);
    }
}

#[test]
fn a_pool_that_was_exhausted_once_serves_days_later() {
    for span in SPANS {
        let tables = services("fullnat", &[11], "").replace("40000-40999", "40000-40000");
        let mut lab = Lab::new(1, &tables);
        assert!(is_new(&lab.receive(&tcp(5000, SYN))));
        // Only an established connection is not given up for another.
        let pair = (Ipv4Addr::new(10, 0, 0, 200), 40_000);
        for frame in [segment((REAL, 80), pair, SYN | ACK), data((REAL, 80), pair)] {
            let decision = lab.receive_by(LAN_PORT, &frame);
            assert!(
                matches!(decision.verdict, Verdict::Forward(_)),
                "{decision:?}"
            );
        }
        let refused = lab.receive(&tcp(5001, SYN));
        assert_eq!(
            refused.verdict,
            Verdict::Drop(DropReason::LocalPortsExhausted)
        );
        lab.now += span;
        let decision = lab.receive(&tcp(5002, SYN));
        assert!(is_new(&decision), "{} s: {decision:?}", span / SECOND);
    }
}

#[test]
fn a_client_that_was_away_for_days_is_bound_anew() {
    in_every_way(|mode, workers, span| {
        let case = format!("{mode}, {workers} workers, {} s", span / SECOND);
        let persistence = "persistence = { timeout = 300 }";
        let mut lab = Lab::new(workers, &services(mode, &[11, 12], persistence));
        let first = lab.receive(&query(7000)).context.real;
        assert_eq!(lab.receive(&query(7001)).context.real, first, "{case}");
        // Two connections and their template.
        assert_eq!(lab.connections(), 3, "{case}");
        lab.now += span;
        let decision = lab.receive(&query(7002));
        assert!(is_new(&decision), "{case}: {decision:?}");
        assert_eq!(lab.connections(), 2, "{case}");
        assert!(decision.context.real.is_some());
        // The scheduler was asked: it takes turns, on the worker that has the client.
        assert_ne!(decision.context.real, first, "{case}");
    });
}

#[test]
fn a_next_hop_that_was_not_asked_for_days_is_asked_again() {
    for span in SPANS {
        let tables = services("nat", &[11], "").replace(
            &format!("[[neighbour]]\naddress = \"10.0.0.11\"\nmac = \"{REAL_MAC}\"\n"),
            "",
        );
        let mut lab = Lab::new(1, &tables);
        lab.receive(&query(7000));
        lab.receive_by(LAN_PORT, &arp_answer());
        let is_question = |frame: &Vec<u8>| frame[12..14] == [8, 6];
        assert_eq!(
            lab.sent().iter().filter(|frame| is_question(frame)).count(),
            1
        );
        lab.receive(&query(7000));
        assert!(!lab.sent().iter().any(is_question), "it is known");
        lab.now += span;
        lab.receive(&query(7001));
        assert!(
            lab.sent().iter().any(is_question),
            "after {} s",
            span / SECOND
        );
        // Without an answer it has failed by now: three questions, a second each.
        lab.now += 10 * SECOND;
        let failed = lab.receive(&query(7002));
        assert!(
            !matches!(failed.verdict, Verdict::Forward(_)),
            "after {} s: {failed:?}",
            span / SECOND
        );
    }
}

#[test]
fn answers_are_limited_alike_on_every_day() {
    for span in SPANS {
        let mut lab = Lab::new(1, &services("nat", &[11], ""));
        for day in 0..2 {
            let mut answered = 0;
            for _ in 0..20 {
                let decision = lab.receive(&arp_question());
                answered += u32::from(matches!(decision.verdict, Verdict::Reply(..)));
            }
            assert_eq!(answered, 5, "day {day} of {} s", span / SECOND);
            lab.now += span;
        }
    }
}

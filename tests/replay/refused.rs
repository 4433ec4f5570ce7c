//! A flood to where nothing answers is dropped by what was decided before. That changes nothing for anything else.

use super::frames::{ACK, SYN, VIP, segment};
use super::{CONFIG, STATIC_REAL, T, parse};
use std::net::Ipv4Addr;
use weir::replay::Replay;
use weir::units::{PortId, Time};
use weir::verdict::{DropReason, ReplyReason, Verdict};

const WAN: PortId = PortId(0);
const RST: u8 = 4;
const FLOODER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const OTHER: Ipv4Addr = Ipv4Addr::new(203, 0, 112, 7);
const REFUSED: Verdict = Verdict::Drop(DropReason::RateLimited);

struct Flooded {
    replay: Replay,
    now: u64,
}

impl Flooded {
    /// A weir that has just refused 2,000 of one sender's segments to each of two ports of the VIP: one of no service,
    /// and ACKs to a service.
    fn new(workers: usize) -> Self {
        let config = parse(&format!("{CONFIG}{STATIC_REAL}"));
        let replay = Replay::new(&config, workers, 10_000, Time::from_nanos(T)).unwrap();
        let mut flooded = Flooded { replay, now: T };
        for n in 0..2000 {
            flooded.receive(&segment((FLOODER, 5000 + n), (VIP, 81), SYN));
            flooded.receive(&segment((FLOODER, 5000 + n), (VIP, 80), ACK));
        }
        flooded
    }

    fn receive(&mut self, frame: &[u8]) -> Verdict {
        self.now += 1000;
        let now = Time::from_nanos(self.now);
        let verdict = self.replay.receive(WAN, frame, now).verdict;
        self.replay.check().unwrap();
        match verdict {
            // Another worker's: its verdict is the end of the packet.
            Verdict::HandOver(_) => panic!("a replay says what became of it in the end"),
            verdict => verdict,
        }
    }

    /// What becomes of one more packet of a flood: the limit may have room for one before it.
    fn flood(&mut self, port: u16, flags: u8) -> Verdict {
        let frame = segment((FLOODER, 9000), (VIP, port), flags);
        (0..5).map(|_| self.receive(&frame)).last().unwrap()
    }
}

#[test]
fn a_flood_is_refused_and_only_the_flood() {
    for workers in [1, 2, 4] {
        let mut lab = Flooded::new(workers);
        for (port, flags) in [(81, SYN), (80, ACK)] {
            assert_eq!(lab.flood(port, flags), REFUSED, "{workers} workers");
        }
        // Senders have shares of their own.
        let answers = [
            (81, SYN, ReplyReason::NoService),
            (80, ACK, ReplyReason::NoConnection),
        ];
        for (port, flags, reason) in answers {
            let quiet = segment((OTHER, 9000), (VIP, port), flags);
            assert_eq!(lab.receive(&quiet), Verdict::Reply(WAN, reason));
        }
        // Neither answered nor counted against the limit.
        let reset = segment((FLOODER, 9000), (VIP, 80), RST);
        assert_eq!(lab.receive(&reset), Verdict::Drop(DropReason::NoConnection));
        // The flooder's own connections are served.
        let opens = segment((FLOODER, 9001), (VIP, 80), SYN);
        assert_eq!(lab.receive(&opens), Verdict::Forward(PortId(1)));
        let goes_on = segment((FLOODER, 9001), (VIP, 80), ACK);
        assert_eq!(lab.receive(&goes_on), Verdict::Forward(PortId(1)));
        // A second later it gets answers again.
        lab.now += 1_100_000_000;
        let flood = segment((FLOODER, 9000), (VIP, 81), SYN);
        let answer = Verdict::Reply(WAN, ReplyReason::NoService);
        assert_eq!(lab.receive(&flood), answer);
    }
}

#[test]
fn what_is_configured_at_the_flooded_port_serves_at_once() {
    for workers in [1, 2, 4] {
        let mut lab = Flooded::new(workers);
        assert_eq!(lab.flood(81, SYN), REFUSED);
        let served = CONFIG.replace("port       = 80\n", "port       = 81\n");
        assert_ne!(served, CONFIG);
        let config = parse(&format!("{served}{STATIC_REAL}"));
        lab.replay
            .reload(config, Time::from_nanos(lab.now))
            .unwrap();
        assert_eq!(lab.flood(81, SYN), Verdict::Forward(PortId(1)));
        assert_eq!(lab.flood(80, SYN), REFUSED, "answers are still limited");
    }
}

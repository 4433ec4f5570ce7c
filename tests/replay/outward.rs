//! What is counted of connections outwards for which their rule of `[[snat]]` has no pair.

use super::frames::{ACK, CLIENT, REAL, SYN, VIP, WEIR_LAN, ends, segment, udp};
use super::{PORTS, SECOND, T, parse};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use weir::replay::Replay;
use weir::units::{PortId, Time};
use weir::verdict::{DropReason, Verdict};

const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);
const FIN: u8 = 1;

const RULE: &str = r#"
[[neighbour]]
address = "198.51.100.9"
mac = "02:00:00:00:02:07"
[[neighbour]]
address = "10.0.0.11"
mac = "02:00:00:00:01:11"
[[local_pool]]
name = "outside"
addresses = ["198.51.100.200"]
ports = "2000-2001"
[[snat]]
from = "10.0.0.0/24"
pool = "outside"
"#;

/// A service with pairs of its own, as many as the rule.
const SERVICE: &str = r#"
[[local_pool]]
name = "inside"
addresses = ["10.0.0.200"]
ports = "2000-2001"
[[service]]
name = "web"
address = "192.0.2.80"
port = 80
protocol = "tcp"
mode = "fullnat"
local_pool = "inside"
scheduler = "rr"
real = [{ address = "10.0.0.11" }]
"#;

#[test]
fn each_connection_without_a_pair_is_counted_with_its_rule() {
    let config = parse(&format!("{PORTS}{RULE}"));
    let mut replay = Replay::new(&config, 1, 1000, Time::from_nanos(T)).unwrap();
    let mut now = T;
    let mut receive = |replay: &mut Replay, port, frame: &[u8]| {
        now += SECOND / 10;
        let decision = replay.receive(port, frame, Time::from_nanos(now));
        replay.check().unwrap();
        decision.verdict
    };
    let exhausted = |replay: &Replay| -> u64 {
        let workers = replay.stats().workers();
        let pairs = workers.flat_map(|worker| (0..).map_while(|n| worker.pairs.get(n)));
        pairs.map(|pairs| pairs.exhausted.get()).sum()
    };
    // Towards two remote ports there are two pairs each. What is answered keeps its own.
    for remote in [53, 54] {
        for source in 5000..5002 {
            let verdict = receive(
                &mut replay,
                LAN,
                &udp((REAL, source), (CLIENT, remote), b"?"),
            );
            assert_eq!(verdict, Verdict::Forward(WAN));
            let sent = replay.take_frames().last().unwrap();
            let (from, to, _) = ends(sent.bytes()).unwrap();
            assert_eq!(
                receive(&mut replay, WAN, &udp(to, from, b"!")),
                Verdict::Forward(LAN)
            );
        }
    }
    assert_eq!(exhausted(&replay), 0);
    // Searched for once, and not again within the second: both are told of.
    for expected in 1..=3 {
        let verdict = receive(&mut replay, LAN, &udp((REAL, 6000), (CLIENT, 53), b"?"));
        assert_eq!(verdict, Verdict::Drop(DropReason::LocalPortsExhausted));
        assert_eq!(exhausted(&replay), expected);
    }
}

/// Inside hosts in front of a weir with a pool of so many ports, and remote hosts behind it.
struct Inside {
    replay: Replay,
    now: u64,
}

/// What the hosts' clock goes on by with each packet.
const STEP: u64 = SECOND / 100;

impl Inside {
    fn new(workers: usize, pairs: u16) -> Self {
        let ports = format!("{}-{}", 2000, 1999 + pairs);
        let mut text = format!("{PORTS}{RULE}{SERVICE}").replace("2000-2001", &ports);
        for last in 12..16 {
            let mac = format!("02:00:00:00:01:{last}");
            text += &format!("[[neighbour]]\naddress = \"10.0.0.{last}\"\nmac = \"{mac}\"\n");
        }
        Inside {
            replay: Replay::new(&parse(&text), workers, 10_000, Time::from_nanos(T)).unwrap(),
            now: T,
        }
    }

    fn receive(&mut self, port: PortId, frame: &[u8]) -> Verdict {
        self.now += STEP;
        let decision = self.replay.receive(port, frame, Time::from_nanos(self.now));
        self.replay.check().unwrap();
        decision.verdict
    }

    /// A datagram of host `10.0.0.LAST`, which is answered if it goes out.
    fn ask(&mut self, last: u8, port: u16, remote: u16) -> Verdict {
        let host = Ipv4Addr::new(10, 0, 0, last);
        let mut frame = udp((host, port), (CLIENT, remote), b"?");
        frame[..6].copy_from_slice(&WEIR_LAN.0);
        let verdict = self.receive(LAN, &frame);
        if let Some(sent) = self.replay.take_frames().last() {
            let (from, to, _) = ends(sent.bytes()).unwrap();
            let answered = self.receive(WAN, &udp(to, from, b"!"));
            assert_eq!(answered, Verdict::Forward(LAN));
            self.replay.take_frames().for_each(drop);
        }
        verdict
    }

    /// A TCP connection of host `10.0.0.11`, or of the client with the service, that is made, and ended by both if it is brief.
    fn connect(&mut self, is_outward: bool, port: u16, is_brief: bool) -> Verdict {
        let (near, far, from, to) = match is_outward {
            true => (LAN, WAN, (REAL, port), (CLIENT, 443)),
            false => (WAN, LAN, (CLIENT, port), (VIP, 80)),
        };
        let turned = |port, flags, from, to| {
            let mut frame = segment(from, to, flags);
            if port == LAN {
                frame[..6].copy_from_slice(&WEIR_LAN.0);
            }
            frame
        };
        let verdict = self.receive(near, &turned(near, SYN, from, to));
        // A pair that is given up for it is reset first.
        let Some(sent) = self.replay.take_frames().last() else {
            return verdict;
        };
        let (pair, remote, _) = ends(sent.bytes()).unwrap();
        let mut segments = vec![(false, SYN | ACK), (true, ACK)];
        if is_brief {
            segments.extend([(true, FIN | ACK), (false, FIN | ACK), (true, ACK)]);
        }
        for (is_request, flags) in segments {
            let (at, out, frame) = match is_request {
                true => (near, far, turned(near, flags, from, to)),
                false => (far, near, turned(far, flags, remote, pair)),
            };
            assert_eq!(self.receive(at, &frame), Verdict::Forward(out));
            self.replay.take_frames().for_each(drop);
        }
        verdict
    }

    /// How many of so many TCP connections are made; none of the others for lack of pairs.
    fn connect_often(
        &mut self,
        is_outward: bool,
        ports: std::ops::Range<u16>,
        is_brief: bool,
    ) -> u16 {
        let mut made = 0;
        for port in ports {
            match self.connect(is_outward, port, is_brief) {
                Verdict::Forward(_) => made += 1,
                other => assert_eq!(other, Verdict::Drop(DropReason::LocalPortsUnfair)),
            }
        }
        made
    }

    /// How many of so many flows from a port on go out; none of the others for lack of pairs.
    fn ask_often(&mut self, last: u8, ports: std::ops::Range<u16>, remote: u16) -> u16 {
        let mut out = 0;
        for port in ports {
            match self.ask(last, port, remote) {
                Verdict::Forward(_) => out += 1,
                other => assert_eq!(other, Verdict::Drop(DropReason::LocalPortsUnfair)),
            }
        }
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// However often a host tries, it leaves a part of the pairs to others, who get them; and has its own again when they are over.
    #[test]
    fn a_host_leaves_others_a_part_of_the_pool(workers in prop::sample::select(vec![1u16, 2, 4]), first in 1000u16..10_000) {
        let pairs = 256 * workers;
        let mut inside = Inside::new(workers.into(), pairs);
        let taken = inside.ask_often(11, first..first + 3 * pairs, 53);
        let share = f64::from(taken) / f64::from(pairs);
        prop_assert!((0.7..0.93).contains(&share), "{} of {}", taken, pairs);
        // Other remote ends are not concerned, nor are other hosts.
        prop_assert_eq!(inside.ask_often(11, first..first + 10, 54), 10);
        let part = pairs / 64;
        for other in 12..14 {
            prop_assert_eq!(inside.ask_often(other, first..first + part, 53), part, "host {}", other);
        }
        // UDP flows are over after five minutes of silence.
        inside.now += 301 * SECOND;
        prop_assert_eq!(inside.ask_often(11, first..first + pairs / 2, 53), pairs / 2);
    }
}

/// A host that is refused is not asked about at every packet: for a second, and not beyond.
#[test]
fn a_host_is_refused_for_a_second() {
    let mut inside = Inside::new(1, 64);
    // Of 64 pairs a sample is all: four fifths are 52.
    assert_eq!(inside.ask_often(11, 1000..1052, 53), 52);
    let unfair = Verdict::Drop(DropReason::LocalPortsUnfair);
    assert_eq!(inside.ask(11, 2000, 53), unfair);
    // Its own known flows go on.
    assert_eq!(inside.ask(11, 1000, 53), Verdict::Forward(WAN));
    // Of three that hold some, and one more, each may have a fourth.
    assert_eq!(inside.ask_often(12, 1000..1011, 53), 11);
    assert_eq!(inside.ask(13, 1000, 53), Verdict::Forward(WAN));
    for host in 12..16 {
        let verdict = inside.ask(host, 3000, 53);
        assert_eq!(verdict, Verdict::Drop(DropReason::LocalPortsExhausted));
    }
    assert_eq!(inside.ask(11, 2000, 53), unfair);
    inside.now += SECOND;
    assert_eq!(inside.ask(11, 2000, 53), unfair);
}

/// One that makes brief connections takes over pairs whose connections are over: no one else is kept from them. What lasts
/// counts, whatever is over beside it.
#[test]
fn connections_that_are_over_count_towards_no_share() {
    for (is_outward, workers) in [(true, 1), (true, 2), (false, 1), (false, 2)] {
        let pairs = 256 * workers;
        let mut inside = Inside::new(workers.into(), pairs);
        let brief = 1000..1000 + 600 * workers;
        let count = brief.len() as u16;
        let case = (is_outward, workers);
        let begun = inside.now;
        let made = inside.connect_often(is_outward, brief, true);
        assert!(inside.now - begun < 60 * SECOND * u64::from(workers));
        assert_eq!(made, count, "{case:?}");
        // Half of the pairs are held, and between all others more and more come and go.
        let half = 10_000..10_000 + pairs / 2;
        assert_eq!(inside.connect_often(is_outward, half, false), pairs / 2);
        let brief = 20_000..20_000 + pairs;
        let made = inside.connect_often(is_outward, brief, true);
        assert_eq!(made, pairs, "{case:?}");
        let more = 30_000..30_000 + pairs;
        let held = pairs / 2 + inside.connect_often(is_outward, more, false);
        let share = f64::from(held) / f64::from(pairs);
        assert!((0.7..0.93).contains(&share), "{held} of {pairs}, {case:?}");
    }
}

//! What is counted of connections outwards for which their rule of `[[snat]]` has no pair.

use super::frames::{CLIENT, REAL, WEIR_LAN, ends, udp};
use super::{PORTS, SECOND, T, parse};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use weir::replay::Replay;
use weir::units::{PortId, Time};
use weir::verdict::{DropReason, Verdict};

const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);

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
        let mut text = format!("{PORTS}{}", RULE.replace("2000-2001", &ports));
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

//! What is counted of connections outwards for which their rule of `[[snat]]` has no pair.

use super::frames::{CLIENT, REAL, ends, udp};
use super::{PORTS, SECOND, T, parse};
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

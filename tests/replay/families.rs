//! IPv6 as good as IPv4: the same services by either fare alike.

use super::bursts::{Families, Limits, Packet, answer, bursts, flags, replay, reply, request};
use super::frames::ends;
use super::{T, six};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use weir::packet::BURST;
use weir::replay::{Decision, Frame, Replay};
use weir::units::{PortId, Time};

/// What was decided.
fn said(decisions: &[Decision]) -> Vec<String> {
    let said = decisions.iter();
    said.map(|decision| {
        format!(
            "{:?} {:?} {:?}",
            decision.verdict, decision.context, decision.out_n
        )
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The same services by IPv6 addresses decide the same, and send the same, as by IPv4 ones.
    #[test]
    fn both_families_fare_alike(
        connections in select(vec![16, 40, 10_000]),
        bursts in bursts(prop_oneof![
            6 => request(),
            3 => reply(),
            3 => (any::<Index>(), flags()).prop_map(|(which, flags)| Packet::Answer(which, flags)),
        ]),
    ) {
        let limits = Limits { connections, answers: 1_000_000, knows_all: true };
        let mut four = replay(&limits, Families::V4, 1);
        let mut twin = replay(&limits, Families::V6, 1);
        let mut history: Vec<Frame> = Vec::new();
        let mut now = T;
        for (wait, packets) in &bursts {
            now += wait * 1_000_000;
            let frames = packets.iter().filter_map(|packet| match packet {
                Packet::Frame(port, frame) => Some((*port, frame.clone())),
                Packet::Answer(..) if history.is_empty() => None,
                Packet::Answer(which, flags) => {
                    let to = which.get(&history);
                    Some((to.port, answer(to.bytes(), *flags)?))
                }
            });
            let frames: Vec<_> = frames.collect();
            let twins: Vec<_> = frames.iter().map(|(port, frame)| (*port, six::frame(frame).unwrap())).collect();
            let received = |frames: &[(PortId, Vec<u8>)], replay: &mut Replay| {
                let received: Vec<_> = frames.iter().map(|(port, frame)| (*port, Time::from_nanos(now), &frame[..])).collect();
                replay.receive_together(&received, BURST)
            };
            let (expected, given) = (received(&frames, &mut four), received(&twins, &mut twin));
            prop_assert_eq!(said(&expected), said(&given));
            four.check().unwrap();
            twin.check().unwrap();
            let expected: Vec<_> = four.take_frames().collect();
            let given: Vec<_> = twin.take_frames().collect();
            prop_assert_eq!(expected.len(), given.len());
            for (expected, given) in expected.iter().zip(&given) {
                prop_assert_eq!(expected.port, given.port);
                // ICMP has its own tests.
                if ends(expected.bytes()).is_some() {
                    let twin = six::frame(expected.bytes()).unwrap();
                    prop_assert_eq!(&twin[..], given.bytes());
                }
            }
            prop_assert_eq!(four.connections().count(), twin.connections6().count());
            history.extend(expected);
        }
    }
}

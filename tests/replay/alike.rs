//! Two replays that are to fare alike, packet by packet, though their packets are of different families.

use super::T;
use super::bursts::{Bursts, Packet, answer};
use super::frames::ends;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use weir::packet::BURST;
use weir::replay::{Decision, Frame, Replay};
use weir::units::{PortId, Time};

/// What was decided.
fn said(decisions: &[Decision]) -> Vec<String> {
    let said = decisions.iter();
    let said = said.map(|it| format!("{:?} {:?} {:?}", it.verdict, it.context, it.out_n));
    said.collect()
}

/// Lets `first` have the bursts, and `second` what `twin` makes of each frame, by the port that it comes in by. Both must decide the
/// same, and send frames by the same ports that are `alike`; `count`: how many connections both have, which must be equal. ICMP
/// has its own tests.
pub fn fare_alike(
    bursts: &Bursts,
    (first, second): (&mut Replay, &mut Replay),
    twin: impl Fn(PortId, &[u8]) -> Vec<u8>,
    alike: impl Fn(&Frame, &Frame) -> Result<(), TestCaseError>,
    count: impl Fn(&Replay, &Replay) -> (usize, usize),
) -> Result<(), TestCaseError> {
    let mut history: Vec<Frame> = Vec::new();
    let mut now = T;
    for (wait, packets) in bursts {
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
        let twins = frames.iter();
        let twins: Vec<_> = twins
            .map(|(port, frame)| (*port, twin(*port, frame)))
            .collect();
        let receive = |replay: &mut Replay, frames: &[(PortId, Vec<u8>)]| {
            let at = Time::from_nanos(now);
            let frames = frames.iter().map(|(port, frame)| (*port, at, &frame[..]));
            replay.receive_together(&frames.collect::<Vec<_>>(), BURST)
        };
        let (expected, given) = (receive(first, &frames), receive(second, &twins));
        prop_assert_eq!(said(&expected), said(&given));
        first.check().unwrap();
        second.check().unwrap();
        let expected: Vec<_> = first.take_frames().collect();
        let given: Vec<_> = second.take_frames().collect();
        prop_assert_eq!(expected.len(), given.len());
        for (expected, given) in expected.iter().zip(&given) {
            prop_assert_eq!(expected.port, given.port);
            if ends(expected.bytes()).is_some() {
                alike(expected, given)?;
            }
        }
        let (expected_count, given_count) = count(first, second);
        prop_assert_eq!(expected_count, given_count);
        history.extend(expected);
    }
    Ok(())
}

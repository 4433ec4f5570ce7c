//! Whatever comes in ends in exactly one way.

use super::frames::{CLIENT, REAL, SYN, arp_answer, arp_question, query, tcp, udp};
use super::{CONFIG, SECOND, STATIC_REAL, T, parse};
use proptest::prelude::*;
use weir::replay::Replay;
use weir::units::{PortId, Time};
use weir::verdict::Verdict;

fn replay(text: &str, workers: usize, packets: usize) -> Replay {
    Replay::new(&parse(text), workers, packets, Time::from_nanos(T)).unwrap()
}

/// A frame of the kinds that weir knows.
fn known_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0..8u16, any::<u8>()).prop_map(|(port, flags)| tcp(5000 + port, flags)),
        (0..8u16).prop_map(|port| query(7000 + port)),
        (0..8u16).prop_map(|port| udp((REAL, 53), (CLIENT, 7000 + port), b"me!")),
        Just(arp_question()),
        Just(arp_answer()),
    ]
}

/// A frame of a known kind, then a few bytes of it changed, then cut; or anything.
pub(super) fn frame() -> impl Strategy<Value = Vec<u8>> {
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let damaged = (
        known_frame(),
        damage,
        prop::option::of(any::<prop::sample::Index>()),
    )
        .prop_map(|(mut frame, damage, cut)| {
            for (at, byte) in damage {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            if let Some(cut) = cut {
                frame.truncate(cut.index(frame.len() + 1));
            }
            frame
        });
    prop_oneof![4 => damaged, 2 => known_frame(), 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_packet_is_accounted_for(
        packets in prop::collection::vec((0..2u8, frame(), 0..2 * SECOND), 1..60),
        known in any::<bool>(),
        workers in prop::sample::select(vec![1, 2, 4, 7]),
    ) {
        let text = if known { format!("{CONFIG}{STATIC_REAL}") } else { CONFIG.to_owned() };
        let mut replay = replay(&text, workers, packets.len());
        let mut sent = [0u64; 2];
        let mut time = T;
        for (n, (port, frame, later)) in (1..).zip(&packets) {
            time += later;
            let decision = replay.receive(PortId(*port), frame, Time::from_nanos(time));
            prop_assert_eq!(replay.check(), Ok(()));
            prop_assert_eq!(replay.stats().total(|worker| worker.received.get()), n);
            prop_assert_eq!(decision.time, Time::from_nanos(time));
            let before = sent;
            for frame in replay.take_frames() {
                sent[frame.port.index()] += 1;
                prop_assert!(frame.bytes().len() >= 42 && frame.time <= Time::from_nanos(time));
            }
            match decision.verdict {
                Verdict::Forward(out) | Verdict::Reply(out, _) => {
                    let out_n = decision.out_n.unwrap();
                    prop_assert!((before[out.index()]..sent[out.index()]).contains(&out_n));
                }
                _ => prop_assert_eq!(decision.out_n, None),
            }
        }
        let stats = replay.stats();
        let counted = stats.total(|worker| {
            worker.transmitted.get() + worker.answered.get() + worker.originated.get()
        });
        prop_assert_eq!(counted, sent[0] + sent[1]);
    }
}

#[test]
fn the_table_is_as_large_as_its_packets_need_and_no_larger_than_configured() {
    let fill = |text: &str, packets: u16| {
        let mut replay = replay(text, 1, packets.into());
        for n in 0..packets {
            replay.receive(PortId(0), &tcp(5000 + n, SYN), Time::from_nanos(T));
        }
        replay.stats().total(|worker| worker.connections.get())
    };
    assert_eq!(fill(&format!("{CONFIG}{STATIC_REAL}"), 300), 300);
    assert_eq!(
        fill(
            &format!("limits.connections = 100\n{CONFIG}{STATIC_REAL}"),
            300
        ),
        100
    );
}

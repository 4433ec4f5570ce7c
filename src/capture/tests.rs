//! What a watch gives its reader, packet by packet, against a model.

use super::*;
use crate::bpf::compile;
use crate::io::memory::Memory;
use crate::packet::{Priority, Sink};
use crate::verdict::DropReason;
use proptest::collection::vec;
use proptest::prelude::*;

const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);

/// Counts what comes through.
#[derive(Default)]
struct Out {
    sent: usize,
    decided: usize,
}

impl Sink for Out {
    type Packet = Memory;

    fn send(&mut self, _: PortId, _: Memory, _: Sent) {
        self.sent += 1;
    }
    fn alloc(&mut self, port: PortId) -> Option<Memory> {
        Some(Memory::new(port, &[]))
    }
    fn local(&mut self, _: PortId, _: Memory, _: Priority) -> bool {
        true
    }
    fn hand_over(&mut self, _: WorkerId, _: Memory) -> bool {
        true
    }
    fn decided(&mut self, _: PortId, _: Verdict, _: PacketContext) {
        self.decided += 1;
    }
}

/// Frames whose first byte is 1 match.
fn wanted() -> Wanted {
    Wanted {
        program: Program::new(&compile("ether[0] = 1").unwrap()).unwrap(),
        filter: String::new(),
        snaplen: 64,
        count: None,
        rate: 1_000_000,
        share: 100,
    }
}

fn one(wanted: Wanted) -> (Arc<Session>, Box<Watch>) {
    let (session, mut watches) = Session::new(wanted, 1);
    (session, watches.remove(0))
}

fn frame(first: u8, rest: u8) -> Vec<u8> {
    let mut frame = vec![rest; 60];
    frame[0] = first;
    frame
}

/// A packet: whether it matches as it comes, what is sent for it and whether that matches, what becomes of it.
#[derive(Clone, Debug)]
struct Case {
    matches: bool,
    sent: Vec<bool>,
    verdict: Verdict,
}

/// Has a burst decided on, as a director does. The second byte of a frame is the packet's place.
fn decide(watch: &mut Watch, out: &mut Out, cases: &[Case]) {
    let burst: Vec<_> = (0..)
        .zip(cases)
        .map(|(n, case)| Memory::new(WAN, &frame(case.matches.into(), n)))
        .collect();
    watch.receive(&burst, false);
    let mut sink = Watched::new(out, watch);
    for ((n, case), packet) in (0..).zip(cases).zip(burst) {
        for is_match in &case.sent {
            let packet = Memory::new(LAN, &frame(u8::from(*is_match), n));
            sink.send(LAN, packet, Sent::Forwarded);
        }
        sink.decided(packet.port(), case.verdict, PacketContext::default());
    }
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        4 => Just(Verdict::Forward(LAN)),
        1 => Just(Verdict::Drop(DropReason::NotForUs)),
        1 => Just(Verdict::Queue(LAN)),
        1 => Just(Verdict::HandOver(WorkerId(1))),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let sent = vec(any::<bool>(), 0..4);
    (any::<bool>(), sent, verdict()).prop_map(|(matches, sent, verdict)| Case {
        matches,
        sent,
        verdict,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Packets that match on either side are there with what was sent for them, in order; the others are not. No copy is lost.
    #[test]
    fn both_sides_of_what_matches_are_told(bursts in vec(vec(case(), 0..=BURST), 0..12)) {
        let (session, mut watch) = one(wanted());
        let copies = session.lanes[0].free.len();
        let (mut out, mut number) = (Out::default(), 0);
        for burst in &bursts {
            decide(&mut watch, &mut out, burst);
            let mut told = session.read(usize::MAX >> 1).into_iter();
            for (n, case) in (0..).zip(burst) {
                let is_wanted = case.matches || case.sent.contains(&true);
                if !is_wanted || matches!(case.verdict, Verdict::HandOver(_)) {
                    continue;
                }
                let received = told.next().unwrap();
                prop_assert_eq!((received.packet, received.side, received.port), (number, Side::Received, WAN));
                prop_assert_eq!(received.frame(), &frame(case.matches.into(), n)[..]);
                prop_assert_eq!(received.decided.map(|it| it.0), Some(case.verdict));
                // From the first one on that matches, if the packet itself does not.
                let from = if case.matches { 0 } else { case.sent.iter().position(|it| *it).unwrap() };
                prop_assert_eq!(usize::from(received.frames), case.sent.len() - from);
                session.give_back(received);
                for is_match in &case.sent[from..] {
                    let sent = told.next().unwrap();
                    let side = Side::Sent { kind: Sent::Forwarded, for_packet: true };
                    prop_assert_eq!((sent.packet, sent.side, sent.port), (number, side, LAN));
                    prop_assert_eq!(sent.frame(), &frame(u8::from(*is_match), n)[..]);
                    session.give_back(sent);
                }
                number += 1;
            }
            prop_assert!(told.next().is_none());
            prop_assert_eq!(session.lanes[0].free.len(), copies);
        }
        let all: usize = bursts.iter().map(Vec::len).sum();
        let sent: usize = bursts.iter().flatten().map(|case| case.sent.len()).sum();
        prop_assert_eq!((out.decided, out.sent), (all, sent), "all comes through");
        let counts = session.counts();
        prop_assert_eq!((counts.looked_at, counts.matched, counts.lost), (all as u64, number, 0));
    }

    /// With a reader that takes nothing, packets are there whole or are counted as lost.
    #[test]
    fn what_has_no_room_is_lost_whole_and_counted(bursts in vec(vec(case(), BURST), 80..100)) {
        let (session, mut watch) = one(Wanted { snaplen: 1 << 20, ..wanted() });
        let mut out = Out::default();
        for burst in &bursts {
            decide(&mut watch, &mut out, burst);
        }
        let told = session.read(usize::MAX >> 1);
        let counts = session.counts();
        prop_assert!(counts.lost > 0);
        let mut packets = 0;
        let mut told = told.iter().peekable();
        while let Some(received) = told.next() {
            prop_assert_eq!(received.side, Side::Received);
            packets += 1;
            for _ in 0..received.frames {
                prop_assert_eq!(told.next().unwrap().packet, received.packet);
            }
        }
        prop_assert_eq!(counts.matched, packets + counts.lost);
    }
}

fn matching(sent: usize) -> Case {
    Case {
        matches: true,
        sent: vec![false; sent],
        verdict: Verdict::Forward(LAN),
    }
}

#[test]
fn a_rate_is_kept_and_a_count_ends() {
    let (session, mut watch) = one(Wanted {
        rate: 10,
        count: Some(25),
        ..wanted()
    });
    let mut out = Out::default();
    let mut told = 0;
    for (second, expected) in [(0, 10), (1, 20), (2, 25)] {
        decide(&mut watch, &mut out, &vec![matching(1); 40]);
        for copy in session.read(usize::MAX >> 1) {
            told += u64::from(copy.side == Side::Received);
            session.give_back(copy);
        }
        assert_eq!(told, expected, "after {second} s");
        assert_eq!(session.is_complete(), expected == 25);
        // A longer span than a second refills as much as a second.
        session.refill(Duration::from_secs(5));
    }
    // What comes when there are enough is no part of it.
    assert_eq!(session.counts().over_rate, 30 + 30);
    assert_eq!(session.counts().matched, 25 + 30 + 30);
}

#[test]
fn a_small_rate_is_refilled_in_small_steps() {
    let (session, mut watch) = one(Wanted {
        rate: 10,
        ..wanted()
    });
    let mut out = Out::default();
    let read = || {
        let copies = session.read(usize::MAX >> 1);
        let packets = copies.len();
        copies.into_iter().for_each(|copy| session.give_back(copy));
        packets
    };
    decide(&mut watch, &mut out, &vec![matching(0); 40]);
    assert_eq!(read(), 10);
    for _ in 0..50 {
        session.refill(Duration::from_millis(20));
    }
    decide(&mut watch, &mut out, &vec![matching(0); 40]);
    assert_eq!(read(), 10, "of a second in fifty steps");
}

#[test]
fn frames_that_no_packet_causes_are_told_alone() {
    let (session, mut watch) = one(wanted());
    let mut out = Out::default();
    decide(&mut watch, &mut out, &[matching(0)]);
    let mut sink = Watched::new(&mut out, &mut watch);
    sink.send(LAN, Memory::new(LAN, &frame(1, 7)), Sent::Originated);
    sink.send(LAN, Memory::new(LAN, &frame(0, 7)), Sent::Originated);
    watch.refuse(WAN, &frame(1, 8), DropReason::OtherVlan);
    watch.refuse(WAN, &frame(0, 8), DropReason::OtherVlan);
    let told: Vec<_> = session
        .read(99)
        .iter()
        .map(|copy| (copy.packet, copy.side, copy.decided.map(|it| it.0)))
        .collect();
    let alone = Side::Sent {
        kind: Sent::Originated,
        for_packet: false,
    };
    let expected = [
        (0, Side::Received, Some(Verdict::Forward(LAN))),
        (1, alone, None),
        (
            2,
            Side::Received,
            Some(Verdict::Drop(DropReason::OtherVlan)),
        ),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_long_frame_is_cut_and_says_how_long_it_was() {
    let (session, mut watch) = one(Wanted {
        snaplen: 20,
        ..wanted()
    });
    decide(&mut watch, &mut Out::default(), &[matching(1)]);
    for copy in session.read(9) {
        assert_eq!((copy.frame().len(), copy.length), (20, 60));
    }
}

#[test]
fn of_a_busy_workers_time_no_more_is_spent_than_its_share() {
    const LOOK: Duration = Duration::from_nanos(1_000);
    let run = |share: u8, apart: Duration| {
        let (session, mut watch) = one(Wanted { share, ..wanted() });
        let mut now = Time::from_nanos(1);
        let (mut looked, mut spent) = (0, 0);
        for _ in 0..20_000 {
            now = now + apart;
            watch.turn(now);
            if watch.has_time_for(32) {
                looked += 1;
                watch.spend(LOOK);
                spent += 2 * LOOK.as_nanos();
            }
        }
        assert_eq!(session.counts().passed_over, (20_000 - looked) * 32);
        (looked, spent as f64 / (20_000 * apart.as_nanos()) as f64)
    };
    // Busy: a look takes as long as two hundredths of a loop and more.
    for share in [1, 5, 20] {
        let (_, spent) = run(share, Duration::from_micros(3));
        // A millisecond may be saved up before.
        assert!(spent <= f64::from(share) / 100.0 + 0.02, "{share}: {spent}");
        assert!(spent >= f64::from(share) / 100.0 * 0.9, "{share}: {spent}");
    }
    // With time to spare every packet is looked at, and with all of it, too.
    assert_eq!(run(5, Duration::from_micros(60)).0, 20_000);
    assert_eq!(run(100, Duration::from_nanos(10)).0, 20_000);
}

#[test]
fn a_session_is_over_when_every_worker_has_given_its_watch_back() {
    let (session, watches) = Session::new(wanted(), 3);
    let weak = Arc::downgrade(&session);
    session.end();
    assert!(watches.iter().all(|watch| watch.is_over()));
    for (n, watch) in watches.into_iter().enumerate() {
        assert!(!session.is_left(), "{n}");
        watch.give_back();
    }
    assert!(session.is_left());
    assert_eq!(session.reap(), 3);
    drop(session);
    assert!(weak.upgrade().is_none(), "its memory is freed");
}

#[test]
fn memory_is_bounded_however_many_workers_and_however_long_the_frames() {
    for (workers, snaplen) in [(1, 1518), (16, 9018), (64, 128), (1, 65_535)] {
        let (session, _watches) = Session::new(
            Wanted {
                snaplen,
                ..wanted()
            },
            workers,
        );
        let copies: usize = session.lanes.iter().map(|lane| lane.free.len()).sum();
        let least = FEWEST * workers * snaplen;
        assert!(copies * snaplen <= MEMORY.max(least), "{workers} {snaplen}");
        assert!(copies >= FEWEST * workers);
    }
}

#[test]
fn a_session_without_workers_ends_at_once() {
    let (session, watches) = Session::new(wanted(), 0);
    assert!(watches.is_empty() && session.is_left());
    assert!(session.read(9).is_empty());
}

#[test]
fn frames_that_are_alone_are_looked_at_within_the_share_as_well() {
    let (session, mut watch) = one(Wanted {
        share: 5,
        ..wanted()
    });
    watch.turn(Time::from_nanos(1));
    for _ in 0..100_000 {
        watch.refuse(WAN, &frame(0, 0), DropReason::OtherVlan);
    }
    let counts = session.counts();
    assert_eq!(counts.looked_at + counts.passed_over, 100_000);
    assert!((1..10_000).contains(&counts.looked_at), "{counts:?}");
}

use super::*;
use crate::io::memory::Memory;
use crate::stats::Stats;
use crate::units::{PortId, WorkerId};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

const HEAD: Head = Head {
    source_port: 7,
    destination_port: 53,
    protocol: 17,
    has_checksum: true,
};
const OTHER: Head = Head {
    source_port: 8,
    ..HEAD
};
const TIMEOUT: Duration = Duration::from_secs(10);

/// What became of a fragment, and how many followed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Goes(usize),
    Waits,
    Dropped(DropReason),
}
use DropReason::{FragmentOverlap, FragmentTimeout, FragmentTooLong, FragmentsFull};
use Fate::{Dropped, Goes, Waits};

/// A table, and what it counts.
pub(super) struct Bench {
    pub(super) fragments: Fragments<Memory>,
    pub(super) stats: Stats,
}

pub(super) fn id(n: u32) -> Id {
    Id::new(
        Ipv4Addr::new(203, 0, 113, 7),
        Ipv4Addr::new(192, 0, 2, 80),
        n,
        17,
    )
}

pub(super) fn at(ms: u64) -> Time {
    Time::from_nanos(ms * 1_000_000)
}

pub(super) fn part(offset: u32, end: u32, more: bool) -> Part {
    Part {
        offset,
        end,
        more,
        head: (offset == 0).then_some(HEAD),
    }
}

impl Bench {
    pub(super) fn new(datagrams: usize, waiting: usize, bytes: usize) -> Self {
        let room = FragmentRoom {
            datagrams,
            waiting,
            bytes,
        };
        Bench {
            fragments: Fragments::new(room, 5).unwrap(),
            stats: Stats::new(1).unwrap(),
        }
    }

    fn counters(&self) -> &WorkerStats {
        self.stats.worker(WorkerId(0))
    }

    pub(super) fn note(&mut self, id: Id, part: Part, ms: u64) -> Fate {
        let counters = self.stats.worker(WorkerId(0));
        let frame = vec![0; (part.end - part.offset) as usize];
        let packet = Memory::new(PortId(0), &frame);
        match self.fragments.note(id, part, at(ms), counters) {
            Noted::Refused(reason) => Dropped(reason),
            Noted::Waits(place) => match self.fragments.wait(place, packet, counters) {
                true => {
                    counters.queued.add(1);
                    Waits
                }
                false => Dropped(FragmentsFull),
            },
            Noted::GoesOn(_, place) => {
                let mut followers = 0;
                while self.fragments.take_waiting(place, counters).is_some() {
                    counters.queued.sub(1);
                    followers += 1;
                }
                Goes(followers)
            }
        }
    }

    pub(super) fn poll(&mut self, ms: u64) {
        let counters = self.stats.worker(WorkerId(0));
        loop {
            self.fragments.poll(TIMEOUT, at(ms), counters);
            if !self.fragments.is_behind() {
                return;
            }
        }
    }

    pub(super) fn dropped(&self, reason: DropReason) -> u64 {
        self.counters().drops(reason).get()
    }

    /// Everything is given back.
    pub(super) fn assert_empty(&self) {
        let Bench { fragments, .. } = self;
        assert!(fragments.is_empty());
        assert!(fragments.waiting.is_empty());
        for shares in [&fragments.headless, &fragments.open] {
            assert_eq!(shares.most(), None);
        }
        assert_eq!(self.counters().queued.get(), 0);
        assert_eq!(self.counters().waiting_fragments.get(), 0);
        let (mut n, mut free) = (fragments.free, 0);
        while let Some(datagram) = fragments.datagrams.get(n as usize) {
            (n, free) = (datagram.next_in_bucket, free + 1);
        }
        assert_eq!(free, fragments.room.datagrams);
        assert!(fragments.buckets.iter().all(|first| *first == NONE));
        assert!(fragments.parts.iter().all(Parts::is_none));
    }
}

#[test]
fn what_comes_is_passed_kept_or_refused() {
    let a = part(0, 1480, true);
    let b = part(1480, 2960, true);
    let c = part(2960, 3000, false);
    let overlap = Dropped(FragmentOverlap);
    /// The name, and fragments with what becomes of each.
    type Case = (&'static str, Vec<(Part, Fate)>);
    let cases: [Case; 15] = [
        ("in order", vec![(a, Goes(0)), (b, Goes(0)), (c, Goes(0))]),
        ("reversed", vec![(c, Waits), (b, Waits), (a, Goes(2))]),
        (
            "the first between",
            vec![(c, Waits), (a, Goes(1)), (b, Goes(0))],
        ),
        (
            "duplicates",
            vec![
                (a, Goes(0)),
                (a, Goes(0)),
                (b, Goes(0)),
                (b, Goes(0)),
                (c, Goes(0)),
                (c, Goes(0)),
                (a, Goes(0)),
            ],
        ),
        (
            "duplicates that wait",
            vec![(b, Waits), (b, Waits), (c, Waits), (c, Waits), (a, Goes(4))],
        ),
        (
            "a part of another",
            vec![(a, Goes(0)), (part(8, 16, true), overlap), (b, overlap)],
        ),
        (
            "more than another",
            vec![(b, Waits), (part(1472, 2968, true), overlap), (a, overlap)],
        ),
        (
            "the beginning of another",
            vec![(a, Goes(0)), (part(0, 1472, true), overlap)],
        ),
        (
            "the end of another",
            vec![(a, Goes(0)), (part(1472, 1480, true), overlap)],
        ),
        (
            "two others in one",
            vec![(a, Goes(0)), (b, Goes(0)), (part(0, 2960, true), overlap)],
        ),
        (
            "beyond the end",
            vec![(c, Waits), (part(3000, 3008, true), overlap)],
        ),
        (
            "two ends",
            vec![(c, Waits), (part(2960, 2968, false), overlap)],
        ),
        (
            "an end before others",
            vec![(b, Waits), (part(1472, 1480, false), overlap)],
        ),
        (
            "no end at the end",
            vec![
                (a, Goes(0)),
                (part(2960, 2968, false), Goes(0)),
                (part(2960, 2968, true), overlap),
            ],
        ),
        (
            "the whole length",
            vec![
                (a, Goes(0)),
                (part(65_528, 65_535, false), Goes(0)),
                (part(65_520, 65_528, true), Goes(0)),
                (part(65_520, 65_528, true), Goes(0)),
                (part(65_512, 65_528, true), overlap),
            ],
        ),
    ];
    for (name, steps) in cases {
        let mut bench = Bench::new(16, 16, 1 << 20);
        for (n, (part, fate)) in steps.into_iter().enumerate() {
            assert_eq!(bench.note(id(1), part, 0), fate, "{name}, {n}");
        }
        bench.poll(TIMEOUT.as_millis() as u64);
        bench.assert_empty();
    }
}

#[test]
fn ids_differ_by_addresses_number_protocol_and_family() {
    let (four, other) = (Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST);
    let six = |address: Ipv4Addr| address.to_ipv6_mapped();
    let ids = [
        Id::new(four, other, 1, 17),
        Id::new(other, four, 1, 17),
        Id::new(four, other, 2, 17),
        Id::new(four, other, 1, 6),
        Id::new(six(four), six(other), 1, 17),
    ];
    for (n, a) in ids.iter().enumerate() {
        assert!(ids[..n].iter().all(|b| a != b), "{n}");
    }
    // In IPv6, fragments of one datagram may name different headers.
    let six = |protocol| Id::new(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, 1, protocol);
    assert_eq!(six(60), six(17));
}

#[test]
fn an_id_used_again_is_another_datagram() {
    let mut bench = Bench::new(16, 16, 1 << 20);
    let (a, b) = (part(0, 1480, true), part(1480, 1500, false));
    let again = |offset, end, more| Part {
        head: (offset == 0).then_some(OTHER),
        ..part(offset, end, more)
    };
    assert_eq!(bench.note(id(1), a, 0), Goes(0));
    assert_eq!(bench.note(id(1), b, 0), Goes(0));
    // Complete: the next first fragment begins another one.
    assert_eq!(bench.note(id(1), again(0, 800, true), 1), Goes(0));
    // Not complete: two first fragments contradict each other.
    assert_eq!(bench.note(id(1), a, 2), Dropped(FragmentOverlap));
    // A second after it was complete, a datagram is forgotten.
    assert_eq!(bench.note(id(2), a, 10), Goes(0));
    assert_eq!(bench.note(id(2), b, 10), Goes(0));
    bench.poll(1009);
    assert_eq!(
        bench.note(id(2), part(8, 16, true), 1009),
        Dropped(FragmentOverlap)
    );
    assert_eq!(bench.note(id(3), a, 1010), Goes(0));
    assert_eq!(bench.note(id(3), b, 1010), Goes(0));
    bench.poll(2010);
    assert_eq!(bench.note(id(3), part(0, 16, true), 2010), Goes(0));
}

#[test]
fn a_shorter_or_longer_datagram_of_the_same_flow_is_another() {
    let mut bench = Bench::new(16, 16, 1 << 20);
    let (a, b) = (part(0, 1480, true), part(1480, 1500, false));
    let (longer, last) = (part(1480, 2960, true), part(2960, 3000, false));
    for fragment in [a, b, a, longer, last] {
        assert_eq!(bench.note(id(1), fragment, 0), Goes(0), "{fragment:?}");
    }
    for fragment in [a, b] {
        assert_eq!(bench.note(id(1), fragment, 1), Goes(0), "{fragment:?}");
    }
    // Its first fragment comes last.
    assert_eq!(bench.note(id(1), last, 2), Waits);
    assert_eq!(bench.note(id(1), a, 2), Goes(1));
    assert_eq!(bench.note(id(1), longer, 2), Goes(0));
}

#[test]
fn a_refused_fragment_condemns_its_datagram() {
    let mut bench = Bench::new(16, 16, 1 << 20);
    assert_eq!(bench.note(id(1), part(8, 16, true), 0), Waits);
    let counters = bench.stats.worker(WorkerId(0));
    let refused = bench
        .fragments
        .refuse(id(1), FragmentTooLong, at(0), counters);
    assert_eq!(refused, Noted::Refused(FragmentTooLong));
    assert_eq!(bench.dropped(FragmentTooLong), 1, "the one that waited");
    assert_eq!(
        bench.note(id(1), part(0, 8, true), 1),
        Dropped(FragmentTooLong)
    );
    bench.poll(10_000);
    bench.assert_empty();
}

#[test]
fn waiting_ends_after_the_timeout() {
    let mut bench = Bench::new(4096, 4096, 1 << 20);
    for n in 0..1000 {
        assert_eq!(bench.note(id(n), part(8, 16, true), u64::from(n)), Waits);
        assert_eq!(bench.note(id(n), part(16, 24, true), u64::from(n)), Waits);
    }
    bench.poll(10_499);
    assert_eq!(bench.dropped(FragmentTimeout), 1000);
    assert_eq!(bench.note(id(499), part(0, 8, true), 10_499), Goes(0));
    assert_eq!(bench.note(id(500), part(0, 8, true), 10_499), Goes(2));
    bench.poll(30_000);
    assert_eq!(bench.dropped(FragmentTimeout), 1998);
    bench.assert_empty();
}

#[test]
fn what_may_wait_is_bounded() {
    /// Datagrams, fragments and bytes that there is room for, and how many of each one's a datagram of 8 bytes may wait.
    const CASES: [((usize, usize, usize), u32); 3] = [
        ((40, 100, 10_000), 20),
        ((400, 30, 10_000), 30),
        ((400, 100, 400), 50),
    ];
    for ((datagrams, waiting, bytes), most) in CASES {
        let mut bench = Bench::new(datagrams, waiting, bytes);
        for n in 0..2 * most {
            let fate = if n < most {
                Waits
            } else {
                Dropped(FragmentsFull)
            };
            assert_eq!(
                bench.note(id(n), part(8, 16, true), 0),
                fate,
                "{datagrams}, {n}"
            );
        }
        // Those that wait are not given up for others; and first fragments go on.
        for n in 2 * most..5 * most {
            assert_eq!(bench.note(id(n), part(0, 8, true), 1), Goes(0));
        }
        for n in 0..most {
            assert_eq!(
                bench.note(id(n), part(0, 8, true), 2),
                Goes(1),
                "{datagrams}, {n}"
            );
        }
        bench.poll(20_000);
        bench.assert_empty();
    }
}

#[test]
fn complete_datagrams_make_room_before_others() {
    let mut bench = Bench::new(4, 4, 1000);
    for n in 0..4 {
        assert_eq!(bench.note(id(n), part(0, 8, true), u64::from(n)), Goes(0));
    }
    assert_eq!(bench.note(id(2), part(8, 16, false), 4), Goes(0));
    // In place of number 2, then of number 0.
    assert_eq!(bench.note(id(4), part(0, 8, true), 5), Goes(0));
    assert_eq!(bench.note(id(5), part(0, 8, true), 6), Goes(0));
    for n in [1, 3, 4, 5] {
        assert_eq!(bench.note(id(n), part(16, 24, true), 7), Goes(0), "{n}");
    }
    assert_eq!(bench.note(id(0), part(16, 24, true), 7), Waits);
}

/// The fragments of one identification, each held against every other.
#[derive(Default)]
struct Model {
    parts: Vec<Part>,
    refused: bool,
    has_first: bool,
    /// The first one came again after the datagram was complete.
    has_first_again: bool,
    waiting: usize,
}

impl Model {
    fn is_complete(&self) -> bool {
        let mut parts = self.parts.clone();
        parts.sort_unstable_by_key(|part| part.offset);
        parts.dedup();
        let last = parts.last().filter(|last| !last.more);
        let length: u32 = parts.iter().map(|part| part.end - part.offset).sum();
        self.has_first && last.is_some_and(|last| last.end == length)
    }

    fn fate(&mut self, part: Part) -> Fate {
        let key = |part: &Part| (part.offset, part.end, part.more);
        let is_same = |other: &Part| key(other) == key(&part);
        let ends = |last: &Part, one: &Part| {
            !last.more
                && (one.end > last.end
                    || one.more && one.end == last.end
                    || !one.more && one.end != last.end)
        };
        let ends_otherwise =
            |other: &Part| !is_same(other) && (ends(other, &part) || ends(&part, other));
        let meets =
            |other: &Part| other.end > part.offset && part.end > other.offset && !is_same(other);
        if !self.refused && self.is_complete() {
            if self.parts.iter().any(ends_otherwise) {
                let first = self.parts.iter().find(|part| part.offset == 0);
                let first = first.copied().filter(|_| self.has_first_again);
                *self = Model {
                    has_first: first.is_some(),
                    parts: first
                        .into_iter()
                        .map(|part| Part { more: true, ..part })
                        .collect(),
                    ..Model::default()
                };
            }
            self.has_first_again |= part.offset == 0 && self.is_complete();
        }
        self.refused |= self.parts.iter().any(ends_otherwise) || self.parts.iter().any(meets);
        if self.refused {
            return Dropped(FragmentOverlap);
        }
        self.parts.push(part);
        self.has_first |= part.offset == 0;
        match self.has_first {
            true => Goes(std::mem::take(&mut self.waiting)),
            false => {
                self.waiting += 1;
                Waits
            }
        }
    }
}

fn any_part() -> impl Strategy<Value = Part> {
    // Few places, so that many meet.
    (0u32..12, 1u32..5, any::<bool>(), 0u32..8).prop_map(|(from, units, more, odd)| {
        // Without others it would be no fragment.
        let more = more || from == 0;
        let (offset, end) = (from * 8, (from + units) * 8);
        part(offset, if more { end } else { end - odd }, more)
    })
}

proptest! {
    /// Whatever comes, each fragment's fate is what the rules say of it and all that came before.
    #[test]
    fn fates_are_those_of_the_model(parts in prop::collection::vec(any_part(), 1..12), scale in 0usize..3) {
        // Also across the words of the bitmap.
        let shift = [0, 480, 60_000][scale];
        let mut bench = Bench::new(16, 64, 1 << 20);
        let mut model = Model::default();
        for part in parts {
            let part = match part.offset {
                0 => part,
                _ => Part { offset: part.offset + shift, end: part.end + shift, ..part },
            };
            prop_assert_eq!(bench.note(id(1), part, 0), model.fate(part), "{:?}", part);
        }
        bench.poll(10_000);
        bench.assert_empty();
    }

    /// Any cut of a datagram, in any order, with any duplicates, goes on whole.
    #[test]
    fn any_order_of_any_cut_goes_on(
        cuts in prop::collection::btree_set(1u32..8191, 0..40),
        length in 1u32..=65_535,
        order in any::<prop::sample::Index>(),
        swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..60),
    ) {
        let ends = cuts.into_iter().map(|cut| cut * 8).filter(|end| *end < length);
        let ends: Vec<_> = ends.chain([length]).collect();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let mut parts: Vec<_> = starts.zip(&ends).map(|(from, to)| part(from, *to, *to < length)).collect();
        let again = parts[order.index(parts.len())];
        parts.push(again);
        for (a, b) in swaps {
            let (a, b) = (a.index(parts.len()), b.index(parts.len()));
            parts.swap(a, b);
        }
        let mut bench = Bench::new(16, 64, 1 << 20);
        let mut gone = 0;
        for part in &parts {
            match bench.note(id(1), *part, 0) {
                Goes(followers) => gone += 1 + followers,
                Waits => {}
                Dropped(reason) => prop_assert!(false, "{:?}", reason),
            }
        }
        prop_assert_eq!(gone, parts.len());
        bench.poll(1000);
        bench.assert_empty();
    }
}

//! Which of several senders gives way.

use super::tests::Fate::{Dropped, Goes, Waits};
use super::tests::{Bench, at, id, part};
use super::*;
use crate::units::WorkerId;
use DropReason::{FragmentTooLong, FragmentsFull};
use proptest::prelude::*;
use std::net::Ipv4Addr;

/// A datagram of a sender.
fn id_of(sender: u8, n: u32) -> Id {
    Id::new(
        Ipv4Addr::new(198, 18, sender, 7),
        Ipv4Addr::new(192, 0, 2, 80),
        n,
        17,
    )
}

#[test]
fn the_sender_with_the_most_gives_way() {
    /// Datagrams, fragments and bytes that there is room for, and how many of each one's a datagram of 8 bytes may wait.
    const CASES: [((usize, usize, usize), u32); 3] = [
        ((400, 1000, 1_000_000), 200),
        ((4000, 300, 1_000_000), 300),
        ((4000, 10_000, 4000), 500),
    ];
    let tail = part(8, 16, true);
    for (room, most) in CASES {
        let mut bench = Bench::new(room.0, room.1, room.2);
        for n in 0..2 * most {
            bench.note(id_of(1, n), tail, 0);
        }
        assert_eq!(bench.dropped(FragmentsFull), 0, "what waits stays");
        // The others get theirs, until they hold as much.
        for n in 0..10 {
            for sender in 2..=9 {
                assert_eq!(bench.note(id_of(sender, n), tail, 1), Waits, "{room:?}");
            }
        }
        assert_eq!(bench.dropped(FragmentsFull), 80, "{room:?}");
        // Those that gave way were the oldest.
        assert_eq!(bench.note(id_of(1, 79), part(0, 8, true), 2), Goes(0));
        assert_eq!(bench.note(id_of(1, 80), part(0, 8, true), 2), Goes(1));
        bench.note(id_of(1, 5000), tail, 2);
        let full = Dropped(FragmentsFull);
        assert_eq!(bench.note(id_of(1, 5001), tail, 2), full, "{room:?}");
        let mut taken = 0;
        while bench.note(id_of(2, 1000 + taken), tail, 3) == Waits {
            taken += 1;
        }
        // Both have half of what the eight leave.
        let half = (most - 70) / 2;
        assert!((10 + taken).abs_diff(half) <= 2, "{room:?}: {taken}");
        for sender in 2..=9 {
            for n in 0..10 {
                let fate = bench.note(id_of(sender, n), part(0, 8, true), 4);
                assert_eq!(fate, Goes(1), "{room:?}, {sender}");
            }
        }
        bench.poll(20_000);
        bench.assert_empty();
    }
}

/// Identifications that come again are new datagrams: half of all at most lack their first fragment.
#[test]
fn datagrams_that_begin_again_take_no_more_than_others() {
    const COUNT: u32 = 400;
    let mut bench = Bench::new(COUNT as usize, 1000, 1_000_000);
    for n in 0..COUNT {
        bench.note(id_of(1, n), part(0, 8, true), 0);
        assert_eq!(bench.note(id_of(1, n), part(8, 16, false), 0), Goes(0));
    }
    for n in 0..COUNT {
        let fate = match n < COUNT / 2 {
            true => Waits,
            false => Dropped(FragmentsFull),
        };
        assert_eq!(bench.note(id_of(1, n), part(16, 24, true), 1), fate, "{n}");
    }
    assert_eq!(bench.note(id_of(2, 0), part(8, 16, true), 2), Waits);
    bench.poll(20_000);
    bench.assert_empty();
}

#[test]
fn of_many_senders_the_oldest_gives_way() {
    let mut bench = Bench::new(4096, 8192, 16 << 20);
    let tail = |n: u32| part(8 + 8 * n, 16 + 8 * n, true);
    // A large datagram, whose first fragment is late.
    let wait_large = |bench: &mut Bench| {
        for n in 0..40 {
            assert_eq!(bench.note(id(1), tail(n), 0), Waits);
        }
    };
    let mut made_up = 0;
    let mut flood = |bench: &mut Bench, count: u32| {
        for _ in 0..count {
            let source = Ipv4Addr::from_bits(0x0a00_0000 + (made_up << 8));
            let id = Id::new(source, Ipv4Addr::new(192, 0, 2, 80), 1, 17);
            assert_eq!(bench.note(id, tail(0), 0), Waits);
            made_up += 1;
        }
    };
    flood(&mut bench, 5000);
    wait_large(&mut bench);
    flood(&mut bench, 1500);
    assert_eq!(bench.note(id(1), part(0, 8, true), 1), Goes(40));
    bench.poll(20_000);
    bench.assert_empty();
}

#[test]
fn what_is_refused_displaces_no_other() {
    let mut bench = Bench::new(8, 16, 1 << 20);
    for n in 0..4 {
        assert_eq!(bench.note(id(n), part(0, 8, true), 0), Goes(0));
    }
    for n in 0..2 {
        assert_eq!(bench.note(id(n), part(8, 16, false), 0), Goes(0));
    }
    assert_eq!(bench.note(id(6), part(8, 16, false), 0), Waits);
    let refuse = |bench: &mut Bench, n| {
        let counters = bench.stats.worker(WorkerId(0));
        let noted = bench
            .fragments
            .refuse(id(n), FragmentTooLong, at(1), counters);
        assert_eq!(noted, Noted::Refused(FragmentTooLong));
    };
    for n in 100..150 {
        refuse(&mut bench, n);
    }
    let condemned = Dropped(FragmentTooLong);
    assert_eq!(bench.note(id(149), part(8, 16, true), 2), condemned);
    assert_eq!(bench.note(id(0), part(8, 16, false), 2), Goes(0));
    assert_eq!(bench.note(id(3), part(8, 16, false), 2), Goes(0));
    assert_eq!(bench.note(id(6), part(0, 8, true), 2), Goes(1));
    // Another one takes the place of a refused one, not of one that is complete.
    for n in 10..13 {
        assert_eq!(bench.note(id(n), part(0, 8, true), 3), Goes(0));
    }
    assert_eq!(bench.note(id(1), part(8, 16, false), 3), Goes(0));
    for n in 150..160 {
        refuse(&mut bench, n);
    }
    assert_eq!(bench.note(id(0), part(8, 16, false), 4), Goes(0));
    bench.poll(20_000);
    bench.assert_empty();
}

#[test]
fn a_sender_that_opens_many_displaces_its_own() {
    let mut bench = Bench::new(256, 16, 1 << 20);
    for n in 0..8 {
        assert_eq!(bench.note(id_of(2, n), part(0, 8, true), 0), Goes(0));
    }
    for n in 0..5000 {
        assert_eq!(bench.note(id_of(1, n), part(0, 8, true), 1), Goes(0));
    }
    for n in 0..8 {
        assert_eq!(bench.note(id_of(2, n), part(8, 16, false), 2), Goes(0));
    }
    bench.poll(20_000);
    bench.assert_empty();
}

#[test]
fn complete_ones_begun_again_keep_none_out() {
    let mut bench = Bench::new(16, 64, 1 << 20);
    for n in 0..16 {
        assert_eq!(bench.note(id(n), part(0, 8, true), 0), Goes(0));
        assert_eq!(bench.note(id(n), part(8, 16, false), 0), Goes(0));
    }
    for n in 0..16 {
        // Beyond its end: of another datagram.
        bench.note(id(n), part(16, 24, true), 1);
    }
    for n in 100..130 {
        assert_eq!(bench.note(id_of(1, n), part(0, 8, true), 2), Goes(0), "{n}");
    }
    bench.poll(20_000);
    bench.assert_empty();
}

proptest! {
    /// What waits of several senders, and who gives way, are what a plain list of them says.
    #[test]
    fn who_gives_way_is_what_a_list_says(steps in prop::collection::vec((0u8..4, 0u32..12, any::<bool>()), 0..300)) {
        const MOST: usize = 8;
        let mut bench = Bench::new(2 * MOST, 64, 6400);
        // Oldest first.
        let mut waits: Vec<(u8, u32)> = Vec::new();
        let mut given_way = 0;
        for (sender, n, is_head) in steps {
            let known = waits.iter().position(|one| *one == (sender, n));
            let id = id_of(sender, n);
            if is_head {
                let followers = usize::from(known.is_some());
                prop_assert_eq!(bench.note(id, part(0, 8, true), 0), Goes(followers));
                if let Some(at) = known {
                    waits.remove(at);
                }
                // Over at once, so that the number is free again.
                prop_assert_eq!(bench.note(id, part(8, 16, false), 0), Goes(0));
                let place = bench.fragments.find(id).unwrap();
                let counters = bench.stats.worker(WorkerId(0));
                bench.fragments.end(place, FragmentsFull, counters);
                continue;
            }
            if known.is_some() {
                continue;
            }
            let held = |waits: &[(u8, u32)], by| waits.iter().filter(|one| one.0 == by).count();
            let mut fate = Waits;
            if waits.len() == MOST {
                let most = waits.iter().map(|one| held(&waits, one.0)).max().unwrap();
                if held(&waits, sender) + 1 >= most {
                    fate = Dropped(FragmentsFull);
                } else {
                    given_way += 1;
                }
            }
            prop_assert_eq!(bench.note(id, part(8, 16, false), 0), fate);
            if fate == Waits {
                if waits.len() == MOST {
                    let most = waits.iter().map(|one| held(&waits, one.0)).max().unwrap();
                    let gone = |one: &(u8, u32)| bench.fragments.find(id_of(one.0, one.1)).is_none();
                    let at = waits.iter().position(gone).unwrap();
                    let by = waits[at].0;
                    prop_assert_eq!(held(&waits, by), most, "of one with the most");
                    prop_assert!(waits[..at].iter().all(|one| one.0 != by), "its oldest");
                    waits.remove(at);
                }
                waits.push((sender, n));
            }
            prop_assert_eq!(bench.dropped(FragmentsFull), given_way);
        }
        bench.poll(20_000);
        bench.assert_empty();
    }
}

//! Second attempts: who gets in while half-open connections are given up sooner than a handshake takes.
//!
//! A SYN flood fills whatever there is, and then each SYN takes the place of an earlier one. As long as an entry lives for
//! longer than a client needs to answer, that hurts no client. Once it does not, a SYN opens a connection at its second
//! attempt only: a client repeats it after a second (RFC 6298 section 2), a made-up sender does not. First attempts are
//! remembered in four bytes each, not in the table, so that the entries of those who came back live for long enough.
//!
//! What is full is the connection table, or a real server's local pairs; the fewer places there are, the fewer SYNs in a
//! second are let in at their first attempt.
//!
//! It works up to some 300,000 first attempts a second on each worker: more, and the earlier ones are forgotten before
//! their clients come again.

use crate::arch::{HugeSlice, NoMemory};
use crate::units::Millis;

/// A handshake may take so long: a round trip, and a retransmission.
pub(super) const HANDSHAKE_MS: u32 = 3000;
/// And so long at least: a client far away answers within this time. Only a second attempt takes the place of a connection
/// that is younger, unless there are but a few places: otherwise the oldest, which are those of the farthest clients, would
/// go before they are answered.
const ROUND_TRIP_MS: u32 = 1000;
/// A repeated SYN counts from here on: what comes sooner is no retransmission (RFC 6298 section 2.4) …
const SOONEST_MS: u32 = 200;
/// … and up to here: the second and third attempts of a client, one, three and seven seconds after its first.
const LATEST_MS: u32 = 8000;
/// It is a flood when so many entries younger than a handshake were given up in a second, or this part of all places if it
/// is more …
const LEAST: u32 = 64;
const PART: u32 = 64;
/// … but never more than this part, or a few. Nor are more given up in a second that are older: if all were as young as what
/// took their places, those that came in at their second attempt would be the oldest, and the next to go.
const PART_OF_A_FEW: u32 = 4;
const A_FEW: u32 = 8;

const WAYS: usize = 16;
const BUCKETS: usize = 1 << 15;

/// First attempts whose hashes are alike: of each, 16 bits of the hash and the time in 16 ms. 0: none.
type Bucket = [u32; WAYS];

pub(super) struct Flood {
    attempts: HugeSlice<Bucket>,
    /// Young entries that were given up, or that SYNs were refused for, in this second and in the one before.
    now: u32,
    before: u32,
    second: u32,
    /// Old entries that were given up in this second.
    let_in: u32,
}

impl Flood {
    pub(super) fn new() -> Result<Self, NoMemory> {
        Ok(Flood {
            attempts: HugeSlice::new([0; WAYS], BUCKETS)?,
            now: 0,
            before: 0,
            second: 0,
            let_in: 0,
        })
    }

    /// Whether a SYN may take the place of a half-open connection that is `age` milliseconds old, one of `places` that are
    /// all in use. `hash`: of the SYN's flow.
    #[cold]
    pub(super) fn admits(&mut self, hash: u64, age: u32, places: u32, now: Millis) -> bool {
        let second = now.0 / 1000;
        if second != self.second {
            self.before = match second.wrapping_sub(self.second) {
                1 => self.now,
                _ => 0,
            };
            (self.second, self.now, self.let_in) = (second, 0, 0);
        }
        let is_old = age >= HANDSHAKE_MS;
        if is_old && self.let_in < (places / PART_OF_A_FEW).max(A_FEW) {
            self.let_in += 1;
            return true;
        }
        self.now += u32::from(!is_old);
        self.is_second_attempt(hash, now)
            || !is_old
                && (age >= ROUND_TRIP_MS || places < PART_OF_A_FEW * A_FEW)
                && self.now.max(self.before) <= threshold(places)
    }

    /// Whether a SYN of this flow was here before; remembers it otherwise, in the place of the oldest.
    fn is_second_attempt(&mut self, hash: u64, now: Millis) -> bool {
        let signature = (hash >> 16) as u16;
        let place = (hash >> 32) as usize % BUCKETS;
        let ticks = (now.0 >> 4) as u16;
        let age = |attempt: u32| u32::from(ticks.wrapping_sub(attempt as u16)) << 4;
        let bucket = &mut self.attempts[place];
        let is_it = |attempt: &&mut u32| {
            **attempt != 0 && (**attempt >> 16) as u16 == signature && age(**attempt) <= LATEST_MS
        };
        if let Some(attempt) = bucket.iter_mut().find(is_it) {
            return age(*attempt) >= SOONEST_MS;
        }
        let order = |attempt: &&mut u32| match **attempt {
            0 => u32::MAX,
            attempt => age(attempt),
        };
        if let Some(oldest) = bucket.iter_mut().max_by_key(order) {
            *oldest = u32::from(signature) << 16 | u32::from(ticks).max(1);
        }
        false
    }
}

/// How many of so many places are given up young in a second before it is a flood.
fn threshold(places: u32) -> u32 {
    LEAST
        .min(places / PART_OF_A_FEW)
        .max(places / PART)
        .max(A_FEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> u64 {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ n << 40
    }

    #[test]
    fn a_few_are_let_in_at_once_and_in_a_flood_those_who_come_again() {
        let mut flood = Flood::new().unwrap();
        let admitted =
            (0..LEAST).filter(|n| flood.admits(hash((*n).into()), 1500, 1000, Millis(1000)));
        assert_eq!(admitted.count(), LEAST as usize);
        for (client, again, expected) in [
            (7_000, 1000, true),
            (7_001, 3000, true),
            (7_002, 100, false),
            (7_003, 9000, false),
        ] {
            let mut at = 2000;
            let mut try_at = |flood: &mut Flood, client: u64, ms: u32| {
                // The flood goes on in between.
                while at < ms {
                    at += 10;
                    (0..20).for_each(|n| {
                        flood.admits(hash(u64::from(at) << 16 | n), 5, 1000, Millis(at));
                    });
                }
                flood.admits(hash(client), 5, 1000, Millis(ms))
            };
            assert!(!try_at(&mut flood, client, 4000));
            assert_eq!(
                try_at(&mut flood, client, 4000 + again),
                expected,
                "{again}"
            );
        }
        assert!(flood.admits(hash(8_000), HANDSHAKE_MS, 1000, Millis(20_000)));
        assert!(
            flood.admits(hash(8_001), 1500, 1000, Millis(60_000)),
            "it is over"
        );
        let too_young = ROUND_TRIP_MS - 1;
        assert!(!flood.admits(hash(8_002), too_young, 1000, Millis(90_000)));
        assert!(flood.admits(hash(8_002), too_young, 1000, Millis(91_000)));
        assert!(flood.admits(hash(8_003), 1, A_FEW, Millis(120_000)));
    }

    #[test]
    fn of_few_places_most_stay() {
        for places in 4 * A_FEW..5000 {
            assert!(threshold(places) * 4 <= places, "{places}");
        }
        assert_eq!(
            [1, 31, 255, 256, 10_000].map(threshold),
            [8, 8, 63, 64, 156]
        );
        let mut flood = Flood::new().unwrap();
        let mut let_in = |ms: u32| {
            let new = |n: u64| hash(u64::from(ms) << 20 | n);
            let old = |n: &u64| flood.admits(new(*n), 60_000, 100, Millis(ms));
            (0..1000).filter(old).count()
        };
        assert_eq!([1000, 1100, 2000].map(&mut let_in), [25, 0, 25]);
    }

    #[test]
    fn a_client_comes_in_at_its_second_attempt_among_300_000_a_second() {
        let mut flood = Flood::new().unwrap();
        let mut in_time = 0;
        let mut strangers = 0;
        for ms in 0..3000u32 {
            for n in 0..300 {
                let stranger = hash(1 << 40 | u64::from(ms) << 12 | n);
                strangers +=
                    u32::from(flood.admits(stranger, 25, 10_000, Millis(ms)) && ms >= 1000);
            }
            // Of a hundred clients, each a second after its first attempt.
            if (1000..1100).contains(&ms) {
                flood.admits(hash(ms.into()), 25, 10_000, Millis(ms));
            } else if (2000..2100).contains(&ms) {
                let client = hash((ms - 1000).into());
                in_time += u32::from(flood.admits(client, 25, 10_000, Millis(ms)));
            }
        }
        assert!(in_time >= 99, "{in_time} of 100 came in");
        assert!(strangers < 300, "{strangers} of 600,000 strangers came in");
    }
}

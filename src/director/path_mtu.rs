//! The MTU of the ways to real servers, as routers on them have told: smaller than that of the out port.
//!
//! An error about a wrapped packet comes to any worker, and packets to the real server go out of all of them. So all workers
//! have one table: a word for each of a few places, which a store replaces whole. Where two real servers share a place, the one
//! heard of last has it: the other's routers tell again.

use crate::conn::{Address, AnyAddress};
use crate::units::Time;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

const PLACES: usize = 1024;

/// RFC 1191 section 6.3 and RFC 8201 section 4: what was learned is forgotten after ten minutes, for the way may have become wider.
const LIFE_SECONDS: u64 = 600;

/// No link is as narrow as that: what is shorter need not be looked for.
pub(super) const LEAST_V4: u16 = 576;

/// The MTU of ways, by the real server's address.
pub struct PathMtus {
    /// [`Learned`], each packed.
    places: Box<[AtomicU64]>,
    /// When nothing is known any more, in nanoseconds.
    until: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Learned {
    /// What tells an address from others in the same place.
    tag: u32,
    mtu: u16,
    second: u64,
}

impl Learned {
    const TAG_BITS: u32 = 24;

    fn pack(self) -> u64 {
        let seconds = self.second << (u64::BITS - Self::TAG_BITS);
        seconds | u64::from(self.tag) << u16::BITS | u64::from(self.mtu)
    }

    /// Seconds are counted modulo 2 to the power of 24, half a year.
    fn unpack(word: u64) -> Self {
        Learned {
            tag: (word >> u16::BITS) as u32 & ((1 << Self::TAG_BITS) - 1),
            mtu: word as u16,
            second: word >> (u64::BITS - Self::TAG_BITS),
        }
    }

    fn is_old(self, second: u64) -> bool {
        const MASK: u64 = (1 << (u64::BITS - Learned::TAG_BITS - u16::BITS)) - 1;
        (second.wrapping_sub(self.second) & MASK) >= LIFE_SECONDS
    }
}

impl Default for PathMtus {
    fn default() -> Self {
        PathMtus {
            places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            until: AtomicU64::new(0),
        }
    }
}

impl PathMtus {
    /// Whether a packet of so many bytes gets to an address whole, as far as is known.
    #[inline(always)]
    pub fn takes(&self, address: IpAddr, length: u16, now: Time) -> bool {
        length <= LEAST_V4
            || now.nanos() >= self.until.load(Ordering::Relaxed)
            || length <= self.known(address, now)
    }

    /// The MTU of the way to an address; the largest number if nothing is known of it.
    pub fn mtu(&self, address: IpAddr, now: Time) -> u16 {
        match now.nanos() >= self.until.load(Ordering::Relaxed) {
            true => u16::MAX,
            false => self.known(address, now),
        }
    }

    #[inline(never)]
    fn known(&self, address: IpAddr, now: Time) -> u16 {
        let (place, tag) = Self::place(address);
        let learned = Learned::unpack(self.places[place].load(Ordering::Relaxed));
        match learned.tag == tag && learned.mtu != 0 && !learned.is_old(seconds(now)) {
            true => learned.mtu,
            false => u16::MAX,
        }
    }

    /// Keeps what a router has told of the way to an address. A larger MTU than is known is not believed before that is old.
    pub fn learn(&self, address: IpAddr, mtu: u16, now: Time) {
        let second = seconds(now);
        if now.nanos() >= self.until.load(Ordering::Relaxed) {
            // Whatever is left would look young again when the seconds begin anew.
            for place in &self.places {
                place.store(0, Ordering::Relaxed);
            }
        }
        if mtu >= self.known(address, now) {
            return;
        }
        let (place, tag) = Self::place(address);
        let learned = Learned { tag, mtu, second };
        self.places[place].store(learned.pack(), Ordering::Relaxed);
        let until = (second + LIFE_SECONDS) * 1_000_000_000;
        self.until.fetch_max(until, Ordering::Relaxed);
    }

    fn place(address: IpAddr) -> (usize, u32) {
        let hash = AnyAddress::from(address)
            .word()
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = (hash >> 54) as usize % PLACES;
        (place, (hash >> 30) as u32 & ((1 << Learned::TAG_BITS) - 1))
    }
}

#[inline(always)]
fn seconds(now: Time) -> u64 {
    now.nanos() / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: u64) -> Time {
        Time::from_nanos(second * 1_000_000_000)
    }

    #[test]
    fn it_is_forgotten_after_ten_minutes() {
        let paths = PathMtus::default();
        let [one, two]: [IpAddr; 2] = ["10.0.0.11", "2001:db8::11"].map(|it| it.parse().unwrap());
        assert!(paths.takes(one, 65_535, at(0)));
        paths.learn(one, 1300, at(100));
        for (address, length, second, expected) in [
            (one, 1300, 100, true),
            (one, 1301, 100, false),
            (one, 1301, 699, false),
            (one, 1301, 700, true),
            (two, 1500, 100, true),
        ] {
            let takes = paths.takes(address, length, at(second));
            assert_eq!(takes, expected, "{address} {length} {second}");
        }
        // A wider way is believed only when the narrow one is forgotten; a narrower one at once.
        paths.learn(one, 1400, at(200));
        assert_eq!(paths.mtu(one, at(200)), 1300);
        paths.learn(one, 1280, at(200));
        assert_eq!(paths.mtu(one, at(799)), 1280);
        paths.learn(two, 1280, at(700));
        assert_eq!(
            (paths.mtu(one, at(800)), paths.mtu(two, at(800))),
            (u16::MAX, 1280)
        );
        paths.learn(one, 1400, at(801));
        assert_eq!(paths.mtu(one, at(801)), 1400);
    }

    proptest! {
        #[test]
        fn what_is_packed_is_read(tag in 0u32..1 << 24, mtu: u16, second in 0u64..1 << 24) {
            let learned = Learned { tag, mtu, second };
            prop_assert_eq!(Learned::unpack(learned.pack()), learned);
        }
    }
}

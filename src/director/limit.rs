//! Limits on what weir says by itself and on what it gives to the host, so that a flood of questions is no amplifier
//! and starves neither packets nor senders that ask seldom.
//!
//! Each port has a budget of its own for each kind. A budget is a rate with a second's worth at once, and beside it
//! *shares*: buckets that senders and services are hashed to. What a share allows is always allowed, and counts
//! against the rate, so that other senders get less. A sender below its share is thus never refused because others ask
//! too much, and a sender that asks alone gets the whole rate.
//!
//! A packet has four shares: two of its sender, one of its destination address and one of its service. Floods use them
//! up as follows.
//! - One sender: its own two, and all of the services that it asks for. Other senders have theirs.
//! - All senders (forged), one service: all of the senders, and that service's two. Other addresses keep their share.
//! - All senders, every port of one address: the services' too. Other addresses keep theirs.
//!
//! These shares are small, as many may ask at a time: a 256th of the rate each. Mostly few do, and then each bucket that is in
//! use may have more, ahead of all that asks for more still: an even *part* of three sixteenths of the rate. So a flood for
//! one address leaves the others a sixteenth of the rate for their address and another for their service.
//!
//! With [`SHARES`](AnswerLimits::SHARES) buckets a row, *k* flooding senders share both buckets of a quiet one with
//! a probability of at most (*k* / 64)², and *k* flooded addresses that of a quiet one with at most *k* / 64. Hashes
//! change every 69 seconds, so that no sender shares a bucket with a flood for long.

use super::sync::AtomicU64;
use crate::conn::Address;
use crate::units::{PortId, Time};
use std::sync::atomic::Ordering::Relaxed;

/// The budgets of all ports. All workers share them; a worker writes here only when it answers, so that a flood beyond
/// the limit moves no cache line between them.
#[derive(Debug)]
pub struct AnswerLimits {
    budgets: Box<[Budget]>,
    /// Makes the buckets of a sender, which an outsider must not foresee, different in every run.
    seed: u64,
}

/// What one port may do of one kind. Each number is a time, in nanoseconds: when everything allowed so far would have
/// been allowed at the even rate (the theoretical arrival time of the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug)]
struct Budget {
    even: AtomicU64,
    /// Of each row in turn: what is always allowed.
    shares: Box<[AtomicU64]>,
    /// The same, of what goes ahead of others.
    parts: Box<[AtomicU64]>,
    /// How many buckets of each row were in use of late, a byte each, in the low half; in the high half, when they were
    /// counted, in units of 2 to the power of [`COUNTED_FOR`] nanoseconds.
    in_use: AtomicU64,
}

/// The part of a bucket is one of so many at least, as others may begin to ask before they are counted again.
const LEAST_IN_USE: u64 = 3;
/// Where more are in use, the shares are what there is: with those of so many buckets, the parts come to no more than all
/// shares of the row.
const MOST_IN_USE: u64 = 16;
/// Eight milliseconds.
const COUNTED_FOR: u32 = 23;
/// What goes ahead may go so much further beyond the rate.
const AHEAD: u64 = SECOND / 8;

/// The kinds that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    Arp,
    Nd,
    IcmpEcho,
    IcmpError,
    /// No answer of weir's: an ICMP error about a connection, which goes on to its other end.
    PassedError,
    Reset,
    /// No answer of weir's: a packet for the host, which answers itself.
    Host,
    /// The same, from a host peer's routing protocol.
    HostPeer,
}

const KINDS: usize = AnswerKind::HostPeer as usize + 1;
/// Shares of one packet: two of its sender, one of its destination address, one of its service.
const ROWS: usize = 4;
pub(super) const SECOND: u64 = 1_000_000_000;

/// The sender and the service that an answer counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    source: u64,
    address: u64,
    service: u64,
}

impl Asker {
    /// Counts a sender that may be beyond routers by its site's prefix, since it may take any address in that.
    pub fn of_prefix<A: Address>(source: A, destination: A, service: u32) -> Self {
        Self::new(source.site(), destination, service)
    }

    /// Counts a host on the link by its whole address.
    pub fn of_host<A: Address>(source: A, destination: A, service: u32) -> Self {
        Self::new(source.word(), destination, service)
    }

    fn new(source: u64, destination: impl Address, service: u32) -> Self {
        let address = destination.word();
        Asker {
            source,
            address,
            service: address.rotate_left(32) ^ u64::from(service),
        }
    }
}

impl AnswerLimits {
    /// Buckets in each of the four rows, where the rate is high enough to be divided by so many.
    pub const SHARES: usize = 64;

    /// `shares`: buckets in each row, at most.
    pub fn new(ports: usize, shares: usize, seed: u64) -> Self {
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        let budget = || Budget {
            even: AtomicU64::new(0),
            shares: zeros(ROWS * shares),
            parts: zeros(ROWS * shares),
            in_use: AtomicU64::new(0),
        };
        AnswerLimits {
            budgets: (0..ports * KINDS).map(|_| budget()).collect(),
            seed,
        }
    }

    /// Whether the port may give one more of this kind now. `per_second` is its limit.
    ///
    /// In any span of *t* seconds at most *t* + 1.625 times `per_second` are allowed.
    pub fn allow(
        &self,
        kind: AnswerKind,
        port: PortId,
        asker: &Asker,
        now: Time,
        per_second: u32,
    ) -> bool {
        self.decide(kind, port, asker, now, per_second, take)
    }

    /// Whether [`allow`](Self::allow) would say yes now, which this does not count as a yes.
    #[inline]
    pub fn would_allow(
        &self,
        kind: AnswerKind,
        port: PortId,
        asker: &Asker,
        now: Time,
        per_second: u32,
    ) -> bool {
        self.decide(kind, port, asker, now, per_second, could_take)
    }

    /// `take`: see [`take`].
    #[inline(always)]
    fn decide(
        &self,
        kind: AnswerKind,
        port: PortId,
        asker: &Asker,
        now: Time,
        per_second: u32,
        take: impl Fn(&AtomicU64, u64, u64, u64) -> bool,
    ) -> bool {
        // In 32 bits, which a second's nanoseconds have room in: the faster division.
        let Some(interval) = (SECOND as u32).checked_div(per_second).map(u64::from) else {
            return false;
        };
        let Some(budget) = self.budgets.get(port.index() * KINDS + kind as usize) else {
            return false;
        };
        let at = now.nanos();
        // All shares together allow half a second's worth at once and then the rate, so that they are always covered
        // by the half second that `even` may go beyond its own limit.
        let shares = budget.shares_of(per_second);
        let mut goes_ahead = false;
        if let Some(places) = self.places(asker, now, shares) {
            let own = interval * ROWS as u64 * shares as u64;
            for &place in &places {
                if take(&budget.shares[place], at, own, SECOND / 2) {
                    return take(&budget.even, at, interval, u64::MAX / 2);
                }
            }
            let in_use = budget.in_use(at, shares);
            for (&place, &in_use) in places.iter().zip(&in_use) {
                // Three sixteenths of the rate for the row.
                let part = interval * 16 / 3 * in_use.max(LEAST_IN_USE);
                if in_use <= MOST_IN_USE && take(&budget.parts[place], at, part, SECOND / 2) {
                    goes_ahead = true;
                    break;
                }
            }
        }
        let ahead = if goes_ahead { AHEAD } else { 0 };
        take(&budget.even, at, interval, SECOND + ahead)
    }

    /// The buckets of a packet in a budget whose rows have `shares` of them in use.
    #[inline(always)]
    pub(super) fn places(&self, asker: &Asker, now: Time, shares: usize) -> Option<[usize; ROWS]> {
        if shares == 0 {
            return None;
        }
        // About 69 seconds.
        let seed = self.seed ^ (now.nanos() >> 36);
        let source = mix(asker.source ^ seed);
        let address = mix(asker.address ^ seed.rotate_left(32));
        let service = mix(asker.service ^ seed.rotate_left(48));
        // The high half of a product is below its factor: a place without a division.
        let place = |row: usize, hash: u64| row * shares + ((hash * shares as u64) >> 32) as usize;
        Some([
            place(0, source >> 32),
            // The sender's other half.
            place(1, source & 0xffff_ffff),
            place(2, address >> 32),
            place(3, service >> 32),
        ])
    }

    /// How many buckets of each row a limit of `per_second` uses.
    #[cfg(test)]
    pub(super) fn shares(&self, per_second: u32) -> usize {
        self.budgets
            .first()
            .map_or(0, |budget| budget.shares_of(per_second))
    }
}

impl Budget {
    /// So many that each holds one at least: none, where the limit is below 8.
    fn shares_of(&self, per_second: u32) -> usize {
        let most = self.shares.len() / ROWS;
        most.min(per_second as usize / (2 * ROWS))
    }

    /// How many of the first `shares` buckets of each row were in use in the last second.
    fn in_use(&self, now: u64, shares: usize) -> [u64; ROWS] {
        let counted = self.in_use.load(Relaxed);
        // Of what is not counted yet, none.
        let counts = |counted: u64| std::array::from_fn(|row| counted >> (8 * row) & 0xff);
        let turn = now >> COUNTED_FOR & 0xffff_ffff;
        if counted >> 32 == turn {
            return counts(counted);
        }
        let is_in_use = |share: &&AtomicU64| share.load(Relaxed) + SECOND > now;
        let count = |row: usize| {
            let buckets = &self.shares[row * shares..(row + 1) * shares];
            buckets.iter().filter(is_in_use).count().min(0xff) as u64
        };
        let fresh = (0..ROWS).fold(turn << 32, |all, row| all | count(row) << (8 * row));
        self.in_use.store(fresh, Relaxed);
        counts(fresh)
    }
}

/// Takes one of a rate, if that leads no further than `ahead` nanoseconds.
fn take(even: &AtomicU64, now: u64, interval: u64, ahead: u64) -> bool {
    let next = |even: u64| {
        let next = even.max(now) + interval;
        (next <= now + ahead).then_some(next)
    };
    even.fetch_update(Relaxed, Relaxed, next).is_ok()
}

/// Whether [`take`] would.
#[inline(always)]
fn could_take(even: &AtomicU64, now: u64, interval: u64, ahead: u64) -> bool {
    interval <= ahead && even.load(Relaxed) <= now + (ahead - interval)
}

/// Spreads a number over 64 bits (the finalizer of MurmurHash3).
fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

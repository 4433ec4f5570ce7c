//! What a worker knows of datagrams that come in fragments: which parts it has seen, what the first one says of the
//! others, and those that wait for it.
//!
//! All memory is reserved at start, and every step takes a bounded time, whatever is sent. A datagram's place is given to
//! another when it is old: a complete one a second later, so that an exact duplicate still goes the way of the others, or
//! as soon as its sender uses the identification again;
//! every other one by its timeout. Before that, complete ones make room, and then the oldest whose first fragment has
//! come: all of these were sent on. Fragments that wait are never given up for others.

use super::parts::Parts;
use crate::arch::{HugeSlice, NoMemory};
use crate::conn::Address;
use crate::packet::{Head, Packet};
use crate::stats::WorkerStats;
use crate::units::Time;
use crate::verdict::DropReason;
use std::net::IpAddr;
use std::time::Duration;

/// How much a worker keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentRoom {
    /// Datagrams. Of half of them the first fragment may be missing.
    pub datagrams: usize,
    /// Fragments that wait for a first one.
    pub waiting: usize,
    /// Bytes of the frames that wait.
    pub bytes: usize,
}

impl FragmentRoom {
    /// The memory that is reserved, but for the waiting frames' own, in bytes.
    pub fn table_bytes<P>(self) -> usize {
        self.datagrams * (size_of::<Datagram>() + size_of::<Parts>())
            + buckets(self.datagrams) * size_of::<u32>()
            + self.waiting * size_of::<Waiting<P>>()
    }
}

/// What the fragments of a datagram have in common (RFC 791, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Id {
    source: u128,
    destination: u128,
    identification: u32,
    /// 0 of IPv6, where each fragment may say something else.
    protocol: u8,
}

impl Id {
    pub(super) fn new<A: Address>(
        source: A,
        destination: A,
        identification: u32,
        protocol: u8,
    ) -> Self {
        let (source, destination) = (source.into(), destination.into());
        let bits = |address| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        Id {
            source: bits(source),
            destination: bits(destination),
            identification,
            protocol: if source.is_ipv4() { protocol } else { 0 },
        }
    }

    fn hash(&self, seed: u64) -> u64 {
        let high = |bits: u128| (bits >> 64) as u64;
        let last = u64::from(self.identification) << 8 | u64::from(self.protocol);
        let words = [
            high(self.source),
            self.source as u64,
            high(self.destination),
            self.destination as u64,
            last,
        ];
        words.into_iter().fold(seed, |hash, word| mix(word ^ hash))
    }
}

/// Both halves of the product with an odd number, in one.
fn mix(word: u64) -> u64 {
    let product = u128::from(word) * 0x9e37_79b9_7f4a_7c15;
    (product >> 64) as u64 ^ product as u64
}

/// What part of its datagram a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// In bytes, a multiple of 8.
    pub offset: u32,
    /// Behind the last byte: at most 65,535, and a multiple of 8 if more follow.
    pub end: u32,
    pub more: bool,
    /// Of the first one.
    pub head: Option<Head>,
}

/// What a fragment is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// To go on as what the first one says; those that wait at this place after it.
    GoesOn(Head, Place),
    /// To wait at this place, see [`Fragments::wait`].
    Waits(Place),
    Refused(DropReason),
}

/// A datagram's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

const NONE: u32 = u32::MAX;
/// How long a complete datagram is remembered.
const COMPLETE_FOR: Duration = Duration::from_secs(1);
/// Datagrams and fragments that one poll ends at most.
const ENDS_PER_POLL: usize = 32;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// The first fragment is missing.
    Headless,
    /// It has come, others may not have.
    Open(Head),
    Complete(Head),
    Refused(DropReason),
}

/// The lists that a datagram can be in, each with the oldest at its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Headless,
    Open,
    Complete,
}

impl State {
    fn list(self) -> Option<List> {
        match self {
            State::Free => None,
            State::Headless => Some(List::Headless),
            State::Open(_) | State::Refused(_) => Some(List::Open),
            State::Complete(_) => Some(List::Complete),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Datagram {
    id: Id,
    state: State,
    /// When it came into its list.
    since: Time,
    /// Where it ends, in bytes, if that is known.
    length: Option<u32>,
    /// Behind the last byte that has come.
    reach: u32,
    /// Units that have come.
    units: u32,
    /// Its first fragment has come once more since it was complete.
    has_head_again: bool,
    next_in_bucket: u32,
    older: u32,
    newer: u32,
    first_waiting: u32,
    last_waiting: u32,
}

impl Datagram {
    const FREE: Datagram = Datagram {
        id: Id {
            source: 0,
            destination: 0,
            identification: 0,
            protocol: 0,
        },
        state: State::Free,
        since: Time::from_nanos(0),
        length: None,
        reach: 0,
        units: 0,
        has_head_again: false,
        next_in_bucket: NONE,
        older: NONE,
        newer: NONE,
        first_waiting: NONE,
        last_waiting: NONE,
    };
}

impl Datagram {
    /// Whether a part contradicts where the datagram ends.
    fn ends_otherwise(&self, part: Part) -> bool {
        match (self.length, part.more) {
            (Some(length), true) => part.end >= length,
            (Some(length), false) => part.end != length,
            (None, true) => false,
            (None, false) => self.reach >= part.end,
        }
    }
}

/// The oldest and the newest of a list, and how many there are.
#[derive(Clone, Copy, Debug)]
struct Ends {
    oldest: u32,
    newest: u32,
    count: usize,
}

struct Waiting<P> {
    packet: Option<P>,
    next: u32,
}

/// The datagrams of one worker, of both families.
pub(super) struct Fragments<P> {
    room: FragmentRoom,
    seed: u64,
    buckets: Box<[u32]>,
    datagrams: Box<[Datagram]>,
    parts: HugeSlice<Parts>,
    /// By `next_in_bucket`.
    free: u32,
    lists: [Ends; 3],
    waiting: Box<[Waiting<P>]>,
    free_waiting: u32,
    waiting_count: usize,
    waiting_bytes: usize,
    is_behind: bool,
}

fn buckets(datagrams: usize) -> usize {
    (2 * datagrams).next_power_of_two()
}

impl<P: Packet> Fragments<P> {
    /// `seed`: so that no sender can compute ids that share a bucket.
    ///
    /// # Errors
    /// Where the kernel refuses the memory.
    pub(super) fn new(room: FragmentRoom, seed: u64) -> Result<Self, NoMemory> {
        let next = |n: usize, of: usize| if n + 1 < of { n as u32 + 1 } else { NONE };
        let datagrams = (0..room.datagrams).map(|n| Datagram {
            next_in_bucket: next(n, room.datagrams),
            ..Datagram::FREE
        });
        let waiting = (0..room.waiting).map(|n| Waiting {
            packet: None,
            next: next(n, room.waiting),
        });
        let empty = Ends {
            oldest: NONE,
            newest: NONE,
            count: 0,
        };
        Ok(Fragments {
            seed,
            buckets: vec![NONE; buckets(room.datagrams)].into(),
            datagrams: datagrams.collect(),
            parts: HugeSlice::new(Parts::NONE, room.datagrams)?,
            free: if room.datagrams > 0 { 0 } else { NONE },
            lists: [empty; 3],
            waiting: waiting.collect(),
            free_waiting: if room.waiting > 0 { 0 } else { NONE },
            waiting_count: 0,
            waiting_bytes: 0,
            is_behind: false,
            room,
        })
    }

    /// Whether there is nothing to poll for.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.lists.iter().all(|list| list.count == 0)
    }

    /// Whether datagrams are left that the last poll would have ended, had it had the time.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Notes a fragment, and says what it is to do. If it shows that its datagram is refused, the fragments of that
    /// datagram that wait are dropped and counted.
    pub(super) fn note(&mut self, id: Id, part: Part, now: Time, counters: &WorkerStats) -> Noted {
        let place = match self.find(id) {
            Some(place) => place,
            None => match self.add(id, part.head.is_some(), now, counters) {
                Some(place) => place,
                None => return Noted::Refused(DropReason::FragmentsFull),
            },
        };
        let n = place.0 as usize;
        match (self.datagrams[n].state, part.head) {
            (State::Refused(reason), _) => return Noted::Refused(reason),
            (State::Complete(before), head) => {
                let is_other = head.is_some_and(|head| head != before);
                if is_other || self.datagrams[n].ends_otherwise(part) {
                    self.begin_again(place, before, is_other, now);
                }
                // Either a duplicate, or the first of another one that is as this was so far.
                self.datagrams[n].has_head_again |= head == Some(before);
            }
            // Others had the same place: no exact duplicate.
            (State::Open(before), Some(head)) if head != before => {
                return self.refuse_all(place, DropReason::FragmentOverlap, now, counters);
            }
            _ => {}
        }
        if !self.take(n, part) {
            return self.refuse_all(place, DropReason::FragmentOverlap, now, counters);
        }
        let datagram = &self.datagrams[n];
        let is_complete = datagram
            .length
            .is_some_and(|length| datagram.units == length.div_ceil(8));
        let head = match (datagram.state, part.head) {
            (State::Headless, None) => return Noted::Waits(place),
            (State::Headless, Some(head)) => head,
            (State::Open(head) | State::Complete(head), _) => head,
            (State::Free | State::Refused(_), _) => {
                return Noted::Refused(DropReason::FragmentsFull);
            }
        };
        match datagram.state {
            State::Complete(_) => {}
            _ if is_complete => self.enter(place, State::Complete(head), now),
            State::Headless => self.enter(place, State::Open(head), now),
            _ => {}
        }
        Noted::GoesOn(head, place)
    }

    /// Refuses a fragment that is not to be believed, and from now on all of its datagram.
    pub(super) fn refuse(
        &mut self,
        id: Id,
        reason: DropReason,
        now: Time,
        counters: &WorkerStats,
    ) -> Noted {
        let place = self.find(id);
        match place.or_else(|| self.add(id, true, now, counters)) {
            Some(place) => self.refuse_all(place, reason, now, counters),
            None => Noted::Refused(reason),
        }
    }

    /// Keeps a fragment until the first one of its datagram comes. False where there is no room; the packet is freed.
    pub(super) fn wait(&mut self, place: Place, packet: P, counters: &WorkerStats) -> bool {
        let bytes = packet.data().len();
        let slot = self.free_waiting;
        let has_room = self.waiting_bytes + bytes <= self.room.bytes;
        let Some(waiting) = self.waiting.get_mut(slot as usize).filter(|_| has_room) else {
            if self.datagrams[place.0 as usize].first_waiting == NONE {
                self.end(place, DropReason::FragmentsFull, counters);
            }
            return false;
        };
        self.free_waiting = std::mem::replace(&mut waiting.next, NONE);
        waiting.packet = Some(packet);
        self.waiting_bytes += bytes;
        self.waiting_count += 1;
        counters.waiting_fragments.add(1);
        let datagram = &mut self.datagrams[place.0 as usize];
        match datagram.last_waiting {
            NONE => datagram.first_waiting = slot,
            last => self.waiting[last as usize].next = slot,
        }
        datagram.last_waiting = slot;
        true
    }

    /// Takes the first of the fragments that wait at a place.
    pub(super) fn take_waiting(&mut self, place: Place, counters: &WorkerStats) -> Option<P> {
        let datagram = &mut self.datagrams[place.0 as usize];
        let slot = datagram.first_waiting;
        let waiting = self.waiting.get_mut(slot as usize)?;
        let packet = waiting.packet.take();
        datagram.first_waiting = waiting.next;
        if datagram.first_waiting == NONE {
            datagram.last_waiting = NONE;
        }
        waiting.next = self.free_waiting;
        self.free_waiting = slot;
        self.waiting_count -= 1;
        self.waiting_bytes -= packet.as_ref().map_or(0, |packet| packet.data().len());
        counters.waiting_fragments.sub(1);
        packet
    }

    /// Ends what is over, some datagrams a call.
    pub(super) fn poll(&mut self, timeout: Duration, now: Time, counters: &WorkerStats) {
        let lists = [
            (List::Headless, timeout),
            (List::Open, timeout),
            (List::Complete, COMPLETE_FOR.min(timeout)),
        ];
        let mut left = ENDS_PER_POLL;
        self.is_behind = false;
        for (list, timeout) in lists {
            while let Some(oldest) = self
                .datagrams
                .get(self.lists[list as usize].oldest as usize)
                && now.since(oldest.since) >= timeout
            {
                if left == 0 {
                    self.is_behind = true;
                    return;
                }
                left -= 1;
                let place = Place(self.lists[list as usize].oldest);
                let has_more = oldest.first_waiting != oldest.last_waiting;
                match self.take_waiting(place, counters) {
                    Some(_packet) if has_more => dropped(DropReason::FragmentTimeout, counters),
                    Some(_packet) => {
                        dropped(DropReason::FragmentTimeout, counters);
                        self.end(place, DropReason::FragmentTimeout, counters);
                    }
                    None => self.end(place, DropReason::FragmentTimeout, counters),
                }
            }
        }
    }

    fn find(&self, id: Id) -> Option<Place> {
        let mut n = *self.buckets.get(self.bucket(&id))?;
        while let Some(datagram) = self.datagrams.get(n as usize) {
            if datagram.id == id {
                return Some(Place(n));
            }
            n = datagram.next_in_bucket;
        }
        None
    }

    fn bucket(&self, id: &Id) -> usize {
        id.hash(self.seed) as usize & (self.buckets.len() - 1)
    }

    /// Makes a place for a datagram. None where the table is full; of one whose first fragment is missing, already where
    /// half of it, or what may wait, is used up by such ones.
    fn add(&mut self, id: Id, has_head: bool, now: Time, counters: &WorkerStats) -> Option<Place> {
        let headless = self.lists[List::Headless as usize].count;
        if !has_head
            && (2 * headless >= self.room.datagrams || self.waiting_count == self.room.waiting)
        {
            return None;
        }
        if self.free == NONE {
            let oldest = |list: List| self.lists[list as usize].oldest;
            let oldest = match oldest(List::Complete) {
                NONE => oldest(List::Open),
                complete => complete,
            };
            if oldest == NONE {
                return None;
            }
            self.end(Place(oldest), DropReason::FragmentsFull, counters);
        }
        let n = self.free;
        let bucket = self.bucket(&id);
        let datagram = self.datagrams.get_mut(n as usize)?;
        self.free = datagram.next_in_bucket;
        *datagram = Datagram {
            id,
            next_in_bucket: self.buckets[bucket],
            ..Datagram::FREE
        };
        self.buckets[bucket] = n;
        self.enter(Place(n), State::Headless, now);
        Some(Place(n))
    }

    /// Gives a datagram's place back. What still waits there is dropped under this name.
    fn end(&mut self, place: Place, reason: DropReason, counters: &WorkerStats) {
        self.drop_waiting(place, reason, counters);
        self.begin(place);
        self.leave(place);
        let id = self.datagrams[place.0 as usize].id;
        let bucket = self.bucket(&id);
        let next = self.datagrams[place.0 as usize].next_in_bucket;
        if self.buckets[bucket] == place.0 {
            self.buckets[bucket] = next;
        } else {
            let mut n = self.buckets[bucket] as usize;
            while self.datagrams[n].next_in_bucket != place.0 {
                n = self.datagrams[n].next_in_bucket as usize;
            }
            self.datagrams[n].next_in_bucket = next;
        }
        self.datagrams[place.0 as usize] = Datagram {
            next_in_bucket: self.free,
            ..Datagram::FREE
        };
        self.free = place.0;
    }

    fn drop_waiting(&mut self, place: Place, reason: DropReason, counters: &WorkerStats) {
        while let Some(_packet) = self.take_waiting(place, counters) {
            dropped(reason, counters);
        }
    }

    fn refuse_all(
        &mut self,
        place: Place,
        reason: DropReason,
        now: Time,
        counters: &WorkerStats,
    ) -> Noted {
        self.drop_waiting(place, reason, counters);
        self.enter(place, State::Refused(reason), now);
        Noted::Refused(reason)
    }

    /// Brings a datagram into a state, and to the end of that state's list.
    fn enter(&mut self, place: Place, state: State, now: Time) {
        self.leave(place);
        let n = place.0 as usize;
        let Some(list) = state.list() else {
            return;
        };
        let ends = &mut self.lists[list as usize];
        ends.count += 1;
        let older = std::mem::replace(&mut ends.newest, place.0);
        match older {
            NONE => ends.oldest = place.0,
            older => self.datagrams[older as usize].newer = place.0,
        }
        let datagram = &mut self.datagrams[n];
        (datagram.state, datagram.since) = (state, now);
        (datagram.older, datagram.newer) = (older, NONE);
    }

    fn leave(&mut self, place: Place) {
        let Datagram {
            state,
            older,
            newer,
            ..
        } = self.datagrams[place.0 as usize];
        let Some(list) = state.list() else {
            return;
        };
        let ends = &mut self.lists[list as usize];
        ends.count -= 1;
        match older {
            NONE => ends.oldest = newer,
            older => self.datagrams[older as usize].newer = newer,
        }
        match newer {
            NONE => self.lists[list as usize].newest = older,
            newer => self.datagrams[newer as usize].older = older,
        }
        self.datagrams[place.0 as usize].state = State::Free;
    }

    /// Forgets which parts of a datagram have come.
    fn begin(&mut self, place: Place) {
        let datagram = &mut self.datagrams[place.0 as usize];
        let used = datagram.reach as usize / 8 + 1;
        (datagram.length, datagram.reach, datagram.units) = (None, 0, 0);
        datagram.has_head_again = false;
        self.parts[place.0 as usize].clear(used);
    }

    /// Begins another datagram in place of a complete one: the sender uses the identification again. `is_other`: its first
    /// fragment is here, and differs.
    fn begin_again(&mut self, place: Place, before: Head, is_other: bool, now: Time) {
        let n = place.0 as usize;
        let had_head = self.datagrams[n].has_head_again;
        let units = self.datagrams[n].units as usize;
        let first = self.parts[n].first().unwrap_or(units);
        self.begin(place);
        if had_head && !is_other {
            self.enter(place, State::Open(before), now);
            self.add_part(n, 0, 8 * first as u32);
        } else {
            self.enter(place, State::Headless, now);
        }
    }

    /// Takes a part into a datagram. False if it overlaps others other than as an exact duplicate, or contradicts the end.
    fn take(&mut self, n: usize, part: Part) -> bool {
        let datagram = &mut self.datagrams[n];
        let Part {
            offset, end, more, ..
        } = part;
        if datagram.ends_otherwise(part) {
            return false;
        }
        let parts = &self.parts[n];
        let (from, to) = (offset as usize / 8, (end as usize).div_ceil(8));
        if parts.has_any(from, to) {
            // A last one was the last before.
            return parts.is_one(from, to) && (more || datagram.length == Some(end));
        }
        if !more {
            datagram.length = Some(end);
        }
        self.add_part(n, offset, end);
        true
    }

    fn add_part(&mut self, n: usize, offset: u32, end: u32) {
        let (from, to) = (offset as usize / 8, (end as usize).div_ceil(8));
        self.parts[n].add(from, to);
        let datagram = &mut self.datagrams[n];
        datagram.units += (to - from) as u32;
        datagram.reach = datagram.reach.max(end);
    }
}

/// Counts the drop of a fragment that waited.
fn dropped(reason: DropReason, counters: &WorkerStats) {
    counters.queued.sub(1);
    counters.drop(reason);
}

#[cfg(test)]
#[path = "fragment_table_tests.rs"]
mod tests;

//! What a worker knows of datagrams that come in fragments: which parts it has seen, what the first one says of the
//! others, and those that wait for it.
//!
//! All memory is reserved at start, and every step takes a bounded time, whatever is sent. A datagram's place is given to
//! another when it is old: a complete one a second later, so that an exact duplicate still goes the way of the others, or
//! as soon as its sender uses the identification again;
//! every other one by its timeout. Before that, room is made for a new one as follows.
//!
//! - Datagrams that are refused give way first, then complete ones, then those whose first fragment has come: all of
//!   these were sent on. A datagram that is refused from its first fragment on takes the place of a refused one only.
//! - A datagram whose first fragment is missing, and a fragment that waits, take the place of others that wait: of the oldest of the
//!   sender that holds the most. To that sender itself, new fragments are refused.
//! - A sender that holds less than [`EVEN`] of all never counts as the one with the most. Where all are below that, the
//!   oldest of all gives way: so many senders at a time are made-up ones.

use super::fragment_id::Id;
use super::parts::{Extent, Part, Parts};
use super::shares::{Sender, Shares};
use super::waiting_fragments::{Queue, Waiting};
use crate::arch::{HugeSlice, NoMemory};
use crate::packet::{Head, Packet};
use crate::stats::WorkerStats;
use crate::units::Time;
use crate::verdict::DropReason;
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
            + 2 * Shares::bytes(self.datagrams)
            + Waiting::<P>::bytes(self.waiting)
    }

    /// What a datagram without its first fragment weighs: datagrams, fragments and bytes weigh the same where each is used up.
    fn weight_of_datagram(self) -> u64 {
        (self.bytes / (self.datagrams / 2).max(1)) as u64
    }

    /// What a frame of so many bytes weighs that waits.
    fn weight_of_frame(self, bytes: usize) -> u64 {
        (bytes + self.bytes / self.waiting.max(1)) as u64
    }
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
/// Datagrams that give way for one fragment at most.
const ENDS_PER_FRAGMENT: usize = 32;
/// The part of all that a sender may hold in any case.
const EVEN: usize = 64;
/// Datagrams, fragments and bytes.
const KINDS_THAT_WEIGH: usize = 3;

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
    Refused,
}

const LISTS: usize = List::Refused as usize + 1;

impl State {
    fn list(self) -> Option<List> {
        match self {
            State::Free => None,
            State::Headless => Some(List::Headless),
            State::Open(_) => Some(List::Open),
            State::Complete(_) => Some(List::Complete),
            State::Refused(_) => Some(List::Refused),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Datagram {
    id: Id,
    state: State,
    /// When it came into its list.
    since: Time,
    extent: Extent,
    /// Its first fragment has come once more since it was complete.
    has_head_again: bool,
    next_in_bucket: u32,
    older: u32,
    newer: u32,
    waiting: Queue,
}

impl Datagram {
    const FREE: Datagram = Datagram {
        id: Id::NONE,
        state: State::Free,
        since: Time::from_nanos(0),
        extent: Extent::NONE,
        has_head_again: false,
        next_in_bucket: NONE,
        older: NONE,
        newer: NONE,
        waiting: Queue::EMPTY,
    };
}

/// The oldest and the newest of a list, and how many there are.
#[derive(Clone, Copy, Debug)]
struct Ends {
    oldest: u32,
    newest: u32,
    count: usize,
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
    lists: [Ends; LISTS],
    waiting: Waiting<P>,
    /// Who holds the datagrams whose first fragment is missing, with what waits for it.
    headless: Shares,
    /// Who holds those that it has come of.
    open: Shares,
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
        let next = |n: usize| match n + 1 < room.datagrams {
            true => n as u32 + 1,
            false => NONE,
        };
        let datagrams = (0..room.datagrams).map(|n| Datagram {
            next_in_bucket: next(n),
            ..Datagram::FREE
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
            lists: [empty; LISTS],
            waiting: Waiting::new(room.waiting, room.bytes),
            headless: Shares::new(room.datagrams, seed),
            open: Shares::new(room.datagrams, seed),
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
        let known = self.find(id);
        let known = known.filter(|place| !self.begins_again(*place, part, now, counters));
        let added = || self.add(id, part.head.is_some(), now, counters);
        let Some(place) = known.or_else(added) else {
            return Noted::Refused(DropReason::FragmentsFull);
        };
        let n = place.0 as usize;
        match (self.datagrams[n].state, part.head) {
            (State::Refused(reason), _) => return Noted::Refused(reason),
            // Either a duplicate, or the first of another one that is as this was so far.
            (State::Complete(before), head) => {
                self.datagrams[n].has_head_again |= head == Some(before);
            }
            // Others had the same place: no exact duplicate.
            (State::Open(before), Some(head)) if head != before => {
                return self.refuse_all(place, DropReason::FragmentOverlap, now, counters);
            }
            _ => {}
        }
        if !self.datagrams[n].extent.take(&mut self.parts[n], part) {
            return self.refuse_all(place, DropReason::FragmentOverlap, now, counters);
        }
        let datagram = &self.datagrams[n];
        let is_complete = datagram.extent.is_complete();
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
        match place.or_else(|| self.add_refused(id, reason, now, counters)) {
            Some(place) => self.refuse_all(place, reason, now, counters),
            None => Noted::Refused(reason),
        }
    }

    /// Keeps a fragment until the first one of its datagram comes. False where there is no room; the packet is freed.
    pub(super) fn wait(&mut self, place: Place, packet: P, counters: &WorkerStats) -> bool {
        let bytes = packet.data().len();
        let weight = self.room.weight_of_frame(bytes);
        let holder = self.headless.holder(place.0);
        let has_room = |this: &Self| this.waiting.has_room(bytes);
        if !self.make_room(has_room, (holder, weight), Some(place), counters) {
            if self.datagrams[place.0 as usize].waiting.is_empty() {
                self.end(place, DropReason::FragmentsFull, counters);
            }
            return false;
        }
        let queue = &mut self.datagrams[place.0 as usize].waiting;
        self.waiting.push(queue, packet);
        self.headless.add(place.0, weight);
        counters.waiting_fragments.add(1);
        true
    }

    /// Takes the first of the fragments that wait at a place.
    pub(super) fn take_waiting(&mut self, place: Place, counters: &WorkerStats) -> Option<P> {
        let queue = &mut self.datagrams[place.0 as usize].waiting;
        let packet = self.waiting.pop(queue)?;
        counters.waiting_fragments.sub(1);
        Some(packet)
    }

    /// Ends what is over, some datagrams a call.
    pub(super) fn poll(&mut self, timeout: Duration, now: Time, counters: &WorkerStats) {
        let lists = [
            (List::Headless, timeout),
            (List::Open, timeout),
            (List::Complete, COMPLETE_FOR.min(timeout)),
            (List::Refused, timeout),
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
                if self.take_waiting(place, counters).is_some() {
                    dropped(DropReason::FragmentTimeout, counters);
                }
                if self.datagrams[place.0 as usize].waiting.is_empty() {
                    self.end(place, DropReason::FragmentTimeout, counters);
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
        if !has_head {
            let sender = self.headless.sender(id.site(), now);
            let room = self.room;
            // With a frame of as many bytes as there are for one if all wait.
            let frame = room.weight_of_frame(room.bytes / room.waiting.max(1));
            let weight = room.weight_of_datagram() + frame;
            let has_room = |this: &Self| {
                let headless = this.lists[List::Headless as usize].count;
                2 * headless < this.room.datagrams && this.waiting.has_room(0)
            };
            if !self.make_room(has_room, (sender, weight), None, counters) {
                return None;
            }
        }
        if self.free == NONE {
            let oldest = |list: List| self.lists[list as usize].oldest;
            let mut over = [oldest(List::Refused), oldest(List::Complete)].into_iter();
            let place = match over.find(|oldest| *oldest != NONE) {
                Some(oldest) => Place(oldest),
                None => {
                    let open = self.gives_way(List::Open);
                    open.or_else(|| self.gives_way(List::Headless))?.0
                }
            };
            self.end(place, DropReason::FragmentsFull, counters);
        }
        self.take_free(id, State::Headless, now)
    }

    /// Makes a place for a datagram that is refused from its first fragment on. None where there is no free one, and no other
    /// that is refused.
    fn add_refused(
        &mut self,
        id: Id,
        reason: DropReason,
        now: Time,
        counters: &WorkerStats,
    ) -> Option<Place> {
        if self.free == NONE {
            match self.lists[List::Refused as usize].oldest {
                NONE => return None,
                oldest => self.end(Place(oldest), reason, counters),
            }
        }
        self.take_free(id, State::Refused(reason), now)
    }

    /// Gives a free place to a datagram.
    fn take_free(&mut self, id: Id, state: State, now: Time) -> Option<Place> {
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
        self.enter(Place(n), state, now);
        Some(Place(n))
    }

    /// The datagram of a list that gives way: the oldest of the sender with the most, which is returned with what it holds;
    /// or of all if each holds a small part.
    fn gives_way(&self, list: List) -> Option<(Place, Option<(Sender, u64)>)> {
        let (shares, all) = match list {
            List::Headless => (&self.headless, KINDS_THAT_WEIGH * self.room.bytes),
            _ => (&self.open, self.room.datagrams),
        };
        let (sender, most, oldest) = shares.most()?;
        match most > (all / EVEN) as u64 {
            true => Some((Place(oldest), Some((sender, most)))),
            false => Some((Place(self.lists[list as usize].oldest), None)),
        }
    }

    /// Ends datagrams whose first fragment is missing until there is room for what a sender would have more, which weighs so
    /// much. False if there is none: that sender would hold the most then, or the next to end is the one that is `kept`.
    fn make_room(
        &mut self,
        has_room: impl Fn(&Self) -> bool,
        (sender, weight): (Sender, u64),
        kept: Option<Place>,
        counters: &WorkerStats,
    ) -> bool {
        for _ in 0..ENDS_PER_FRAGMENT {
            if has_room(self) {
                return true;
            }
            let Some((oldest, holder)) = self.gives_way(List::Headless) else {
                return false;
            };
            let after = self.headless.load(sender) + weight;
            let would_be_most =
                holder.is_some_and(|(holder, most)| sender == holder || after >= most);
            if would_be_most || kept == Some(oldest) {
                return false;
            }
            self.end(oldest, DropReason::FragmentsFull, counters);
        }
        has_room(self)
    }

    /// Gives a datagram's place back. What still waits there is dropped under this name.
    fn end(&mut self, place: Place, reason: DropReason, counters: &WorkerStats) {
        self.drop_waiting(place, reason, counters);
        self.forget_parts(place);
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
        let site = datagram.id.site();
        if let Some((shares, weight)) = self.shares(list) {
            let sender = shares.sender(site, now);
            shares.put(place.0, sender, weight);
        }
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
        if let Some((shares, _)) = self.shares(list) {
            shares.take(place.0);
        }
    }

    /// The shares that a list's datagrams are counted in, and what one of them weighs.
    fn shares(&mut self, list: List) -> Option<(&mut Shares, u64)> {
        match list {
            List::Headless => Some((&mut self.headless, self.room.weight_of_datagram())),
            List::Open => Some((&mut self.open, 1)),
            List::Complete | List::Refused => None,
        }
    }

    fn forget_parts(&mut self, place: Place) {
        let n = place.0 as usize;
        self.datagrams[n].extent.forget(&mut self.parts[n]);
        self.datagrams[n].has_head_again = false;
    }

    /// Whether a part begins another datagram than the complete one at its place: the sender uses the identification again. Then
    /// that one is forgotten; but one whose first fragment has come again already stays, as the one that it began.
    fn begins_again(
        &mut self,
        place: Place,
        part: Part,
        now: Time,
        counters: &WorkerStats,
    ) -> bool {
        let n = place.0 as usize;
        let datagram = &self.datagrams[n];
        let State::Complete(before) = datagram.state else {
            return false;
        };
        let is_other = part.head.is_some_and(|head| head != before);
        if !is_other && !datagram.extent.ends_otherwise(part) {
            return false;
        }
        if is_other || !datagram.has_head_again {
            self.end(place, DropReason::FragmentsFull, counters);
            return true;
        }
        let first = datagram.extent.first(&self.parts[n]);
        self.forget_parts(place);
        self.enter(place, State::Open(before), now);
        self.datagrams[n].extent.add(&mut self.parts[n], 0, first);
        self.datagrams[n].has_head_again |= part.head == Some(before);
        false
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

#[cfg(test)]
#[path = "fragment_sender_tests.rs"]
mod sender_tests;

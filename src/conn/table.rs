//! The connection table of one worker: a slab of entries, and an index that finds them by either key.
//!
//! The index is an array of buckets of one cache line: twelve 8-bit signatures, compared together, and beside them
//! the numbers of the entries. A bucket that is full sends its entries on to the next one and counts them, so a
//! search ends at the first bucket that has sent nothing on, and removing an entry leaves no tombstone.
//! All memory is reserved at start.

use super::entry::{ConnId, Connection};
use crate::arch::{HugeSlice, NoMemory, equal_bytes, prefetch, prefetch_all};

/// What a table holds: a connection with a key for each direction.
pub trait Entry: Copy {
    type Key: Copy + Eq;

    /// No connection; its keys are no packet's.
    const FREE: Self;

    fn hash(key: &Self::Key, seed: u64) -> u64;
    fn request(&self) -> &Self::Key;
    fn reply(&self) -> &Self::Key;
    /// Whether it is to be found by the reply's key too.
    fn is_two_way(&self) -> bool;
    fn is_live(&self) -> bool;
    /// Of a free entry, the number of another.
    fn link(&self) -> u32;
    fn set_link(&mut self, number: u32);
}

const SLOTS: usize = 12;
const ALL: u32 = (1 << SLOTS) - 1;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    /// One for each slot, 0 of a free one; behind them, lowest byte first, how many keys that belong here or before are stored
    /// further on.
    head: [u8; 16],
    entries: [Place; SLOTS],
}

const _: () = assert!(size_of::<Bucket>() == 64, "a bucket fills one cache line");

impl Bucket {
    const EMPTY: Bucket = Bucket {
        head: [0; 16],
        entries: [Place(0); SLOTS],
    };

    /// A bit for each slot that has this signature.
    #[inline(always)]
    fn matches(&self, signature: u8) -> u32 {
        equal_bytes(&self.head, signature) & ALL
    }

    /// Keys that belong here or before, and are stored further on.
    #[inline(always)]
    fn passed_on(&self) -> u32 {
        let [.., a, b, c, d] = self.head;
        u32::from_le_bytes([a, b, c, d])
    }

    fn set_passed_on(&mut self, keys: u32) {
        self.head[SLOTS..].copy_from_slice(&keys.to_le_bytes());
    }
}

/// The number of an entry, and in the lowest bit by which of its keys (1: the reply's).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    pub const NONE: Place = Place(u32::MAX);

    fn new(id: u32, reply: bool) -> Place {
        Place(id << 1 | u32::from(reply))
    }

    #[inline(always)]
    fn index(self) -> usize {
        (self.0 >> 1) as usize
    }

    #[inline(always)]
    fn is_reply(self) -> bool {
        self.0 & 1 == 1
    }

    /// The connection, if it is one.
    #[inline(always)]
    pub fn found(self) -> Option<Found> {
        (self != Place::NONE).then_some(Found {
            id: ConnId(self.0 >> 1),
            reply: self.is_reply(),
        })
    }
}

/// A connection that a packet belongs to, and which way the packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub id: ConnId,
    pub reply: bool,
}

/// `E`: of IPv4 connections, unless another one is named.
pub struct Table<E = Connection> {
    entries: HugeSlice<E>,
    buckets: HugeSlice<Bucket>,
    seed: u64,
    /// Entries from here on were never used.
    high_water: u32,
    /// A list of freed entries; [`END`] ends it.
    free: u32,
    live: u32,
    /// Changes with every insertion and removal.
    version: u32,
}

const END: u32 = u32::MAX;

/// The low bits of a hash, by which a slot is told; the high bits choose the bucket.
#[inline(always)]
fn signature(hash: u64) -> u8 {
    (hash as u8).max(1)
}

/// A table to look many keys up in: where its memory is need not be read again for each.
pub struct Lookup<'a, E = Connection> {
    entries: &'a [E],
    buckets: &'a [Bucket],
    seed: u64,
}

impl<E: Entry> Lookup<'_, E> {
    #[inline(always)]
    pub fn hash(&self, key: &E::Key) -> u64 {
        E::hash(key, self.seed)
    }

    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.buckets.len() as u128) >> 64) as usize
    }

    /// Starts to fetch the bucket of a hash.
    #[inline(always)]
    pub fn prefetch_bucket(&self, hash: u64) {
        prefetch(&self.buckets[self.home(hash)]);
    }

    /// The place that most probably has this hash, whose entry it starts to fetch.
    #[inline(always)]
    pub fn guess(&self, hash: u64) -> Place {
        let bucket = &self.buckets[self.home(hash)];
        let matches = bucket.matches(signature(hash));
        // Without a match it is the last slot's: a live key's, or the first entry's.
        let slot = (matches | 1 << (SLOTS - 1)).trailing_zeros();
        let place = bucket.entries[slot as usize];
        prefetch_all(&self.entries[place.index()]);
        place
    }

    /// The entry at a guessed place, if it has this key.
    #[inline(always)]
    pub fn at(&self, place: Place, key: &E::Key) -> Option<&E> {
        let entry = &self.entries[place.index()];
        let found = match place.is_reply() {
            true => entry.reply(),
            false => entry.request(),
        };
        // A free entry has a key that no packet can have.
        (found == key).then_some(entry)
    }

    /// Where the connection of a packet is, or [`Place::NONE`].
    #[inline]
    pub fn place(&self, hash: u64, key: &E::Key) -> Place {
        let signature = signature(hash);
        let mut home = self.home(hash);
        loop {
            let bucket = &self.buckets[home];
            let mut matches = bucket.matches(signature);
            while matches != 0 {
                let place = bucket.entries[matches.trailing_zeros() as usize];
                if self.at(place, key).is_some() {
                    return place;
                }
                matches &= matches - 1;
            }
            if bucket.passed_on() == 0 {
                return Place::NONE;
            }
            home = self.next(home);
        }
    }

    /// The connection of a packet.
    #[inline]
    pub fn find(&self, hash: u64, key: &E::Key) -> Option<Found> {
        self.place(hash, key).found()
    }

    #[inline]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() {
            0
        } else {
            bucket + 1
        }
    }

    #[inline(always)]
    pub fn get(&self, id: ConnId) -> &E {
        &self.entries[id.0 as usize]
    }
}

impl<E: Entry> Table<E> {
    /// The most connections a table may have.
    pub const MAX_CAPACITY: usize = 1 << 30;

    /// Room for `capacity` connections with both their directions. `seed`: a secret of this run.
    ///
    /// # Errors
    /// Where the kernel refuses the memory.
    pub fn new(capacity: usize, seed: u64) -> Result<Self, NoMemory> {
        let capacity = capacity.clamp(1, Self::MAX_CAPACITY);
        let bytes = Self::bytes(capacity);
        let entries = HugeSlice::new(E::FREE, capacity).map_err(|_| NoMemory { bytes })?;
        Self::over(entries, seed)
    }

    /// As [`new`](Self::new), with memory for the entries, none of which is in use: as many as a table may have at most.
    ///
    /// # Errors
    /// Where the kernel refuses the memory of the index.
    pub(crate) fn over(entries: HugeSlice<E>, seed: u64) -> Result<Self, NoMemory> {
        let capacity = entries.len();
        let bytes = Self::bytes(capacity);
        let buckets = HugeSlice::new(Bucket::EMPTY, Self::buckets(capacity));
        Ok(Table {
            entries,
            buckets: buckets.map_err(|_| NoMemory { bytes })?,
            seed,
            high_water: 0,
            free: END,
            live: 0,
            version: 0,
        })
    }

    /// At most 45 % of the slots are taken: of a thousand buckets four overflow then.
    fn buckets(capacity: usize) -> usize {
        (capacity * 2 * 20).div_ceil(SLOTS * 9).max(2)
    }

    /// The memory of a table with room for `capacity` connections, in bytes.
    pub fn bytes(capacity: usize) -> usize {
        let capacity = capacity.clamp(1, Self::MAX_CAPACITY);
        capacity * size_of::<E>() + Self::buckets(capacity) * size_of::<Bucket>()
    }

    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Live entries, templates among them.
    pub fn len(&self) -> usize {
        self.live as usize
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    pub fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// A number that changes with every insertion and removal: what was found before may be wrong then.
    #[inline(always)]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Entries at and above this number were never used.
    pub fn high_water(&self) -> u32 {
        self.high_water
    }

    #[inline(always)]
    pub fn hash(&self, key: &E::Key) -> u64 {
        E::hash(key, self.seed)
    }

    /// For looking many keys up.
    #[inline(always)]
    pub fn lookup(&self) -> Lookup<'_, E> {
        Lookup {
            entries: &self.entries,
            buckets: &self.buckets,
            seed: self.seed,
        }
    }

    /// The connection of a packet.
    #[inline]
    pub fn find(&self, hash: u64, key: &E::Key) -> Option<Found> {
        self.lookup().find(hash, key)
    }

    /// Starts to fetch the bucket of a hash.
    #[inline(always)]
    pub fn prefetch_bucket(&self, hash: u64) {
        self.lookup().prefetch_bucket(hash);
    }

    /// The entry that most probably has this hash, which it starts to fetch.
    #[inline(always)]
    pub fn guess(&self, hash: u64) -> Place {
        self.lookup().guess(hash)
    }

    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        self.lookup().home(hash)
    }

    #[inline]
    fn next(&self, bucket: usize) -> usize {
        self.lookup().next(bucket)
    }

    /// Adds a connection. None when the table is full, or one of the keys is another connection's already.
    pub fn insert(&mut self, connection: E) -> Option<ConnId> {
        let request = self.hash(connection.request());
        if self.find(request, connection.request()).is_some() {
            return None;
        }
        let reply = connection
            .is_two_way()
            .then(|| self.hash(connection.reply()));
        if reply.is_some_and(|hash| {
            connection.reply() == connection.request()
                || self.find(hash, connection.reply()).is_some()
        }) {
            return None;
        }
        self.add(connection, request, reply)
    }

    /// As [`insert`](Self::insert), of a connection whose keys are known to have no entry: neither is looked for.
    /// The hashes are those of its keys; a connection that sees no replies has none of the second.
    #[inline]
    pub fn add(&mut self, connection: E, request: u64, reply: Option<u64>) -> Option<ConnId> {
        let id = self.take()?;
        self.entries[id as usize] = connection;
        self.link(request, Place::new(id, false));
        if let Some(reply) = reply {
            self.link(reply, Place::new(id, true));
        }
        self.live += 1;
        self.version = self.version.wrapping_add(1);
        Some(ConnId(id))
    }

    /// A free entry.
    fn take(&mut self) -> Option<u32> {
        if self.free != END {
            let id = self.free;
            self.free = self.entries[id as usize].link();
            return Some(id);
        }
        ((self.high_water as usize) < self.entries.len()).then(|| {
            self.high_water += 1;
            self.high_water - 1
        })
    }

    fn link(&mut self, hash: u64, place: Place) {
        let mut at = self.home(hash);
        loop {
            let bucket = &mut self.buckets[at];
            let free = bucket.matches(0);
            if free != 0 {
                let slot = free.trailing_zeros() as usize;
                bucket.head[slot] = signature(hash);
                bucket.entries[slot] = place;
                return;
            }
            bucket.set_passed_on(bucket.passed_on() + 1);
            at = self.next(at);
        }
    }

    fn unlink(&mut self, hash: u64, place: Place) {
        let mut at = self.home(hash);
        loop {
            let bucket = &mut self.buckets[at];
            let mut matches = bucket.matches(signature(hash));
            while matches != 0 {
                let slot = matches.trailing_zeros() as usize;
                if bucket.entries[slot] == place {
                    bucket.head[slot] = 0;
                    // What a guess without a match looks at must not be some connection's reply.
                    bucket.entries[slot] = Place::default();
                    return;
                }
                matches &= matches - 1;
            }
            bucket.set_passed_on(bucket.passed_on() - 1);
            at = self.next(at);
        }
    }

    /// Starts to fetch what removing a connection changes.
    #[inline]
    pub fn prefetch_links(&self, id: ConnId) {
        let entry = self.get(id);
        self.prefetch_bucket(self.hash(entry.request()));
        if entry.is_two_way() {
            self.prefetch_bucket(self.hash(entry.reply()));
        }
    }

    /// Removes a live connection.
    pub fn remove(&mut self, id: ConnId) {
        let entry = self.entries[id.0 as usize];
        debug_assert!(entry.is_live());
        self.unlink(self.hash(entry.request()), Place::new(id.0, false));
        if entry.is_two_way() {
            self.unlink(self.hash(entry.reply()), Place::new(id.0, true));
        }
        let slot = &mut self.entries[id.0 as usize];
        *slot = E::FREE;
        slot.set_link(self.free);
        self.free = id.0;
        self.live -= 1;
        self.version = self.version.wrapping_add(1);
    }

    #[inline(always)]
    pub fn get(&self, id: ConnId) -> &E {
        &self.entries[id.0 as usize]
    }

    #[inline(always)]
    pub fn get_mut(&mut self, id: ConnId) -> &mut E {
        &mut self.entries[id.0 as usize]
    }

    /// The entry of a place, unless that is [`Place::NONE`]; and whether it is the reply's key that leads there.
    #[inline(always)]
    pub fn entry_mut(&mut self, place: Place) -> Option<(&mut E, bool)> {
        Some((self.entries.get_mut(place.index())?, place.is_reply()))
    }

    /// The live connection of a number, if there is one.
    pub fn live(&self, number: u32) -> Option<&E> {
        self.entries
            .get(number as usize)
            .filter(|entry| entry.is_live())
    }
}

#[cfg(test)]
mod tests;

//! The connection table of one worker: a slab of entries, and an index that finds them by either key.
//!
//! The index is an array of buckets of one cache line: eight 16-bit signatures, compared together, and beside them
//! the numbers of the entries. A bucket that is full sends its entries on to the next one and counts them, so a
//! search ends at the first bucket that has sent nothing on, and removing an entry leaves no tombstone.
//! All memory is reserved at start.

use super::entry::{ConnId, Connection};
use crate::arch::{HugeSlice, NoMemory, equal_words, prefetch};

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

const SLOTS: usize = 8;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    /// 0: free.
    signatures: [u16; SLOTS],
    /// Entry number, and in the lowest bit which of its keys this is (1: the reply's).
    entries: [u32; SLOTS],
    /// Keys that belong here or before, and are stored further on.
    passed_on: u32,
    _spare: [u32; 3],
}

const _: () = assert!(size_of::<Bucket>() == 64, "a bucket fills one cache line");

impl Bucket {
    const EMPTY: Bucket = Bucket {
        signatures: [0; SLOTS],
        entries: [0; SLOTS],
        passed_on: 0,
        _spare: [0; 3],
    };

    /// A bit for each slot that has this signature.
    #[inline(always)]
    fn matches(&self, signature: u16) -> u32 {
        equal_words(&self.signatures, signature)
    }
}

/// A connection that a packet belongs to, and which way the packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub id: ConnId,
    pub reply: bool,
}

/// Where a connection may be found ([`Table::guess`]).
#[derive(Clone, Copy, Debug, Default)]
pub struct Guess(u32);

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
fn signature(hash: u64) -> u16 {
    (hash as u16).max(1)
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

    /// The entry that most probably has this hash, which it starts to fetch.
    #[inline(always)]
    pub fn guess(&self, hash: u64) -> Guess {
        let bucket = &self.buckets[self.home(hash)];
        let matches = bucket.matches(signature(hash));
        // Without a match the number is some slot's: a live key's, or 0.
        let number = bucket.entries[matches.trailing_zeros() as usize % SLOTS];
        prefetch(&self.entries[(number >> 1) as usize]);
        Guess(number)
    }

    /// As [`find`](Self::find), with a look at the guessed entry first.
    #[inline(always)]
    pub fn find_guessed(&self, guess: Guess, hash: u64, key: &E::Key) -> Option<Found> {
        let Guess(number) = guess;
        let entry = &self.entries[(number >> 1) as usize];
        let reply = number & 1 == 1;
        // A free entry has a key that no packet can have.
        if key
            == if reply {
                entry.reply()
            } else {
                entry.request()
            }
        {
            return Some(Found {
                id: ConnId(number >> 1),
                reply,
            });
        }
        self.find(hash, key)
    }

    /// The connection of a packet.
    #[inline]
    pub fn find(&self, hash: u64, key: &E::Key) -> Option<Found> {
        let signature = signature(hash);
        let mut home = self.home(hash);
        loop {
            let bucket = &self.buckets[home];
            let mut matches = bucket.matches(signature);
            while matches != 0 {
                let number = bucket.entries[matches.trailing_zeros() as usize];
                let reply = number & 1 == 1;
                let entry = &self.entries[(number >> 1) as usize];
                if key
                    == if reply {
                        entry.reply()
                    } else {
                        entry.request()
                    }
                {
                    return Some(Found {
                        id: ConnId(number >> 1),
                        reply,
                    });
                }
                matches &= matches - 1;
            }
            if bucket.passed_on == 0 {
                return None;
            }
            home = self.next(home);
        }
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
        let refused = |_| NoMemory { bytes };
        Ok(Table {
            entries: HugeSlice::new(E::FREE, capacity).map_err(refused)?,
            buckets: HugeSlice::new(Bucket::EMPTY, Self::buckets(capacity)).map_err(refused)?,
            seed,
            high_water: 0,
            free: END,
            live: 0,
            version: 0,
        })
    }

    /// At most half of the slots are taken: of a hundred buckets two overflow then.
    fn buckets(capacity: usize) -> usize {
        (capacity * 2 * 2).div_ceil(SLOTS).max(2)
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
    pub fn guess(&self, hash: u64) -> Guess {
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

    /// As [`insert`](Self::insert), of a connection whose keys are known to be nobody's: neither is looked for.
    /// The hashes are those of its keys; a connection that sees no replies has none of the second.
    #[inline]
    pub fn add(&mut self, connection: E, request: u64, reply: Option<u64>) -> Option<ConnId> {
        let id = self.take()?;
        self.entries[id as usize] = connection;
        self.link(request, id << 1);
        if let Some(reply) = reply {
            self.link(reply, id << 1 | 1);
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

    fn link(&mut self, hash: u64, number: u32) {
        let mut place = self.home(hash);
        loop {
            let bucket = &mut self.buckets[place];
            let free = bucket.matches(0);
            if free != 0 {
                let slot = free.trailing_zeros() as usize;
                bucket.signatures[slot] = signature(hash);
                bucket.entries[slot] = number;
                return;
            }
            bucket.passed_on += 1;
            place = self.next(place);
        }
    }

    fn unlink(&mut self, hash: u64, number: u32) {
        let mut place = self.home(hash);
        loop {
            let bucket = &mut self.buckets[place];
            let mut matches = bucket.matches(signature(hash));
            while matches != 0 {
                let slot = matches.trailing_zeros() as usize;
                if bucket.entries[slot] == number {
                    bucket.signatures[slot] = 0;
                    // What a guess without a match looks at must not be some connection's reply.
                    bucket.entries[slot] = 0;
                    return;
                }
                matches &= matches - 1;
            }
            bucket.passed_on -= 1;
            place = self.next(place);
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
        self.unlink(self.hash(entry.request()), id.0 << 1);
        if entry.is_two_way() {
            self.unlink(self.hash(entry.reply()), id.0 << 1 | 1);
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

    /// The live connection of a number, if there is one.
    pub fn live(&self, number: u32) -> Option<&E> {
        self.entries
            .get(number as usize)
            .filter(|entry| entry.is_live())
    }
}

#[cfg(test)]
mod tests;

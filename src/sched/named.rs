//! What the schedulers have in common that choose by hashes of addresses alone: any director with the same real servers chooses the
//! same one for a client.

use crate::service::Real;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

/// What a table depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Server {
    pub address: IpAddr,
    pub port: u16,
    pub weight: u16,
}

/// In the list's order, with the weights that count.
pub(super) fn servers(reals: &[Real], weight: impl Fn(&Real) -> u16) -> Box<[Server]> {
    let server = |real: &Real| Server {
        address: real.address,
        port: real.port,
        weight: weight(real),
    };
    reals.iter().map(server).collect()
}

impl Server {
    /// Address and port in one word.
    pub(super) fn name(&self) -> u64 {
        let port = u64::from(self.port);
        match self.address {
            IpAddr::V4(address) => u64::from(address.to_bits()) << 16 | port,
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                mix((bits >> 64) as u64 ^ mix(bits as u64)) ^ port
            }
        }
    }
}

/// The last step of SplitMix64, by which every bit changes about half of the others.
pub(super) fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A hash brought down to 0 … `size` - 1.
pub(super) fn scale(hash: u32, size: usize) -> usize {
    ((u64::from(hash) * size as u64) >> 32) as usize
}

/// The place of each slot's real server; empty without weights.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slots {
    Narrow(Box<[u8]>),
    Wide(Box<[u16]>),
}

impl Slots {
    pub(super) fn new(servers: &[Server], slots: Box<[u16]>) -> Self {
        if servers.len() <= usize::from(u8::MAX) {
            Slots::Narrow(slots.iter().map(|&place| place as u8).collect())
        } else {
            Slots::Wide(slots)
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Slots::Narrow(slots) => slots.len(),
            Slots::Wide(slots) => slots.len(),
        }
    }

    pub(super) fn get(&self, slot: usize) -> Option<usize> {
        match self {
            Slots::Narrow(slots) => slots.get(slot).copied().map(usize::from),
            Slots::Wide(slots) => slots.get(slot).copied().map(usize::from),
        }
    }

    /// The place of the real server of the slot that a hash falls on.
    pub(super) fn place(&self, hash: u32) -> Option<usize> {
        self.get(scale(hash, self.len()))
    }
}

/// The tables that are in use, by what each was made of: services with the same real servers share one.
pub(super) struct Cache<T: 'static>(Mutex<Tables<T>>);

type Tables<T> = BTreeMap<Arc<[Server]>, Weak<Cached<T>>>;

/// A table that leaves its cache with the last service that uses it.
pub(super) struct Cached<T: 'static> {
    pub servers: Arc<[Server]>,
    table: T,
    cache: &'static Cache<T>,
}

impl<T> Cache<T> {
    pub(super) const fn new() -> Self {
        Cache(Mutex::new(BTreeMap::new()))
    }

    /// The table of these real servers: one that is in use, or what `make` makes.
    pub(super) fn get(
        &'static self,
        servers: &[Server],
        make: impl FnOnce(&[Server]) -> T,
    ) -> Arc<Cached<T>> {
        let mut tables = self.0.lock();
        if let Some(table) = tables.get(servers).and_then(Weak::upgrade) {
            return table;
        }
        let servers: Arc<[Server]> = servers.into();
        let table = Arc::new(Cached {
            table: make(&servers),
            servers: servers.clone(),
            cache: self,
        });
        tables.insert(servers, Arc::downgrade(&table));
        table
    }

    #[cfg(test)]
    pub(super) fn has(&self, servers: &[Server]) -> bool {
        self.0.lock().contains_key(servers)
    }
}

impl<T> std::ops::Deref for Cached<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.table
    }
}

impl<T> Drop for Cached<T> {
    fn drop(&mut self) {
        let mut tables = self.cache.0.lock();
        // There may be a newer one of the same real servers by now.
        let is_dead = |table: &Weak<Self>| table.strong_count() == 0;
        if tables.get(&self.servers).is_some_and(is_dead) {
            tables.remove(&self.servers);
        }
    }
}

impl<T> std::fmt::Debug for Cached<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a table of {} real servers", self.servers.len())
    }
}

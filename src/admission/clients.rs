//! What each client has of each service with limits per client: live connections, and how fast it begins them.
//!
//! One table for all workers and services, of a fixed size: a client has a slot in one of the sets that its hash leads to, or
//! none. Where a set is full, the client that holds the least makes room, so that a flood of made-up senders, of which each
//! begins one connection, forgets no client that holds many. Who is forgotten begins anew at none: whatever the table gets
//! wrong lets a client pass. The one exception are two clients of a set with the same 32 bits of their hashes, which count
//! as one: by chance about one in a billion, and not to be sought out, as the hash has a secret.

use super::bucket;
use crate::units::{ServiceId, Time};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

const WAYS: usize = 8;
/// 4 MiB in all, for 262,144 clients: of half as many that are active at once one in 4,000 finds its set full.
const SETS: usize = 1 << 15;

/// The clients of all services with limits per client.
pub struct Clients {
    seed: u64,
    sets: Box<[Set]>,
}

#[repr(align(64))]
#[derive(Default)]
struct Set([Slot; WAYS]);

/// A client of a service.
#[derive(Default)]
struct Slot {
    /// Bits of its hash; 0: none.
    tag: AtomicU32,
    /// Live connections.
    live: AtomicU32,
    /// Of its rate, see [`bucket`].
    next: AtomicU64,
}

/// What a client of a service is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientKey {
    set: usize,
    tag: u32,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}

impl Clients {
    /// `seed`: so that no client can compute which others share its set.
    pub fn new(seed: u64) -> Self {
        Clients {
            seed,
            sets: (0..SETS).map(|_| Set::default()).collect(),
        }
    }

    /// `client`: see [`super::client`].
    pub fn key(&self, service: ServiceId, client: u64) -> ClientKey {
        let hash = mix(mix(client ^ self.seed) ^ u64::from(service.0));
        ClientKey {
            set: (hash >> 32) as usize % SETS,
            tag: (hash as u32).max(1),
        }
    }

    /// Live connections of a client, as far as is known.
    pub fn live(&self, key: ClientKey) -> u32 {
        self.find(key).map_or(0, |slot| slot.live.load(Relaxed))
    }

    /// Whether a client may begin a connection now, at so many a second.
    pub fn may_begin(&self, key: ClientKey, now: Time, per_second: u32) -> bool {
        self.find(key)
            .is_none_or(|slot| bucket::has_one(&slot.next, now, per_second))
    }

    /// A client has begun a connection. `per_second`: its limit, if it has one.
    pub fn begin(&self, key: ClientKey, now: Time, per_second: Option<u32>) {
        let Some(slot) = self.find(key).or_else(|| self.claim(key, now)) else {
            return;
        };
        slot.live.fetch_add(1, Relaxed);
        if let Some(per_second) = per_second {
            bucket::take(&slot.next, now, per_second);
        }
    }

    /// A client has begun a connection in the place of one that is counted.
    pub fn begin_again(&self, key: ClientKey, now: Time, per_second: u32) {
        if let Some(slot) = self.find(key).or_else(|| self.claim(key, now)) {
            bucket::take(&slot.next, now, per_second);
        }
    }

    /// A connection of a client has ended. One of a client that was forgotten changes nothing.
    pub fn end(&self, key: ClientKey) {
        if let Some(slot) = self.find(key) {
            let less = |live: u32| live.checked_sub(1);
            let _ = slot.live.fetch_update(Relaxed, Relaxed, less);
        }
    }

    fn find(&self, key: ClientKey) -> Option<&Slot> {
        let mut slots = self.sets[key.set].0.iter();
        slots.find(|slot| slot.tag.load(Relaxed) == key.tag)
    }

    /// The slot of the client that holds the least, which is forgotten. None: another worker has taken it just now.
    fn claim(&self, key: ClientKey, now: Time) -> Option<&Slot> {
        let load = |slot: &&Slot| {
            let rest = slot.next.load(Relaxed).saturating_sub(now.nanos());
            (slot.live.load(Relaxed), rest)
        };
        let slot = self.sets[key.set].0.iter().min_by_key(load)?;
        let former = slot.tag.load(Relaxed);
        (slot.tag)
            .compare_exchange(former, key.tag, Relaxed, Relaxed)
            .ok()?;
        slot.live.store(0, Relaxed);
        slot.next.store(0, Relaxed);
        Some(slot)
    }
}

/// Spreads a number over 64 bits (the finalizer of MurmurHash3).
fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const WEB: ServiceId = ServiceId(3);
    const START: Time = Time::from_nanos(1 << 60);

    #[test]
    fn a_flood_of_made_up_clients_forgets_none_that_holds_many() {
        let clients = Clients::new(7);
        let many: Vec<_> = (0..1000).map(|n| clients.key(WEB, 1 << 40 | n)).collect();
        for key in &many {
            (0..4).for_each(|_| clients.begin(*key, START, Some(10)));
        }
        // Four times as many as there are slots, of whom none ends.
        for made_up in 0..1 << 20 {
            clients.begin(clients.key(WEB, made_up), START, Some(10));
        }
        let known = many.iter().filter(|key| clients.live(**key) == 4).count();
        assert_eq!(known, many.len());
    }

    #[test]
    fn a_client_has_a_slot_for_each_service() {
        let clients = Clients::new(7);
        let (one, other) = (clients.key(WEB, 9), clients.key(ServiceId(4), 9));
        assert_ne!(one, other);
        clients.begin(one, START, None);
        assert_eq!((clients.live(one), clients.live(other)), (1, 0));
    }

    proptest! {
        /// Among fewer clients than there are slots in a set, the counts are exact; what ends without having begun leaves 0.
        #[test]
        fn counts_are_those_of_a_plain_list(steps in prop::collection::vec((0u64..6, any::<bool>()), 0..200)) {
            let clients = Clients::new(7);
            let mut plain: HashMap<u64, u32> = HashMap::new();
            for (client, begins) in steps {
                let key = clients.key(WEB, client);
                let live = plain.entry(client).or_default();
                match begins {
                    true => { clients.begin(key, START, None); *live += 1; }
                    false => { clients.end(key); *live = live.saturating_sub(1); }
                }
                for (client, live) in &plain {
                    prop_assert_eq!(clients.live(clients.key(WEB, *client)), *live);
                }
            }
        }
    }
}

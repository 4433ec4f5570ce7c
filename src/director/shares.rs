//! How much each sender holds of what all share, and which sender holds the most.
//!
//! Senders are hashed to a fixed number of places, in another way every 69 seconds, so that a quiet one has its place in common with
//! a flood only by chance and not for long. Each place has a list of what it holds, the oldest first. The loads are the
//! leaves of a tree whose nodes each have the greater load of the two below: so the greatest is found, and a change noted,
//! in as many steps as the tree has levels.

use super::fragment_id::mix;
use crate::units::Time;

/// Places that senders are hashed to.
const SENDERS: usize = 1024;
const NONE: u32 = u32::MAX;

/// A place that senders are hashed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender(u16);

/// Something that a sender holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    by: Sender,
    load: u64,
    older: u32,
    newer: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    oldest: u32,
    newest: u32,
}

/// What the senders hold: things with numbers below a fixed one.
pub(super) struct Shares {
    seed: u64,
    held: Box<[Held]>,
    senders: Box<[Ends]>,
    /// The root is number 1, the nodes below number n are 2n and 2n + 1, the leaves are the last [`SENDERS`].
    loads: Box<[u64]>,
}

impl Shares {
    /// `things`: how many there may be. `seed`: so that no sender can compute which others share its place.
    pub(super) fn new(things: usize, seed: u64) -> Self {
        let held = Held {
            by: Sender(0),
            load: 0,
            older: NONE,
            newer: NONE,
        };
        let ends = Ends {
            oldest: NONE,
            newest: NONE,
        };
        Shares {
            seed,
            held: vec![held; things].into(),
            senders: vec![ends; SENDERS].into(),
            loads: vec![0; 2 * SENDERS].into(),
        }
    }

    /// The memory that so many things take, in bytes.
    pub(super) fn bytes(things: usize) -> usize {
        things * size_of::<Held>() + SENDERS * (size_of::<Ends>() + 2 * size_of::<u64>())
    }

    /// The place of a prefix, of what comes from it now.
    pub(super) fn sender(&self, site: u64, now: Time) -> Sender {
        // About 69 seconds.
        let hash = mix(site ^ self.seed ^ (now.nanos() >> 36).rotate_left(32));
        Sender((mix(hash) % SENDERS as u64) as u16)
    }

    /// Gives a sender a thing that none holds, as its newest.
    pub(super) fn put(&mut self, thing: u32, by: Sender, load: u64) {
        let ends = &mut self.senders[usize::from(by.0)];
        let older = std::mem::replace(&mut ends.newest, thing);
        match older {
            NONE => ends.oldest = thing,
            older => self.held[older as usize].newer = thing,
        }
        self.held[thing as usize] = Held {
            by,
            load,
            older,
            newer: NONE,
        };
        self.set_load(by, self.load(by) + load);
    }

    /// Makes a thing weigh more.
    pub(super) fn add(&mut self, thing: u32, load: u64) {
        let held = &mut self.held[thing as usize];
        held.load += load;
        let by = held.by;
        self.set_load(by, self.load(by) + load);
    }

    /// Takes a thing away from the sender that holds it.
    pub(super) fn take(&mut self, thing: u32) {
        let Held {
            by,
            load,
            older,
            newer,
        } = self.held[thing as usize];
        let ends = &mut self.senders[usize::from(by.0)];
        match older {
            NONE => ends.oldest = newer,
            older => self.held[older as usize].newer = newer,
        }
        match newer {
            NONE => ends.newest = older,
            newer => self.held[newer as usize].older = older,
        }
        self.set_load(by, self.load(by) - load);
    }

    /// The sender that holds a thing.
    pub(super) fn holder(&self, thing: u32) -> Sender {
        self.held[thing as usize].by
    }

    /// How much a sender holds.
    pub(super) fn load(&self, of: Sender) -> u64 {
        self.loads[SENDERS + usize::from(of.0)]
    }

    /// The sender that holds the most, how much that is, and the oldest thing that it holds. None where none holds any.
    pub(super) fn most(&self) -> Option<(Sender, u64, u32)> {
        let mut n = 1;
        while n < SENDERS {
            n = 2 * n + usize::from(self.loads[2 * n + 1] > self.loads[2 * n]);
        }
        let sender = Sender((n - SENDERS) as u16);
        match self.senders[usize::from(sender.0)].oldest {
            NONE => None,
            oldest => Some((sender, self.loads[n], oldest)),
        }
    }

    fn set_load(&mut self, of: Sender, load: u64) {
        let mut n = SENDERS + usize::from(of.0);
        self.loads[n] = load;
        while n > 1 {
            let greater = self.loads[n].max(self.loads[n ^ 1]);
            n /= 2;
            if self.loads[n] == greater {
                return;
            }
            self.loads[n] = greater;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Time = Time::from_nanos(1 << 60);

    #[test]
    fn a_prefix_has_a_place_for_a_minute() {
        let shares = Shares::new(1, 7);
        let places = |now: Time| (0..64).map(move |site| (site, now));
        let later = Time::from_nanos(START.nanos() + (1 << 36));
        let same = places(START)
            .filter(|(site, now)| shares.sender(*site, *now) == shares.sender(*site, later))
            .count();
        assert!(same < 4, "{same} of 64 share a place in the next minute");
        let soon = Time::from_nanos(START.nanos() + 1_000_000_000);
        assert_eq!(shares.sender(9, START), shares.sender(9, soon));
    }

    #[test]
    fn prefixes_are_spread() {
        let shares = Shares::new(1, 7);
        let mut counts = vec![0; SENDERS];
        for site in 0..16 * SENDERS as u64 {
            counts[usize::from(shares.sender(site << 8, START).0)] += 1;
        }
        let most = counts.iter().max().unwrap();
        assert!(*most < 48, "{most} where 16 is the mean");
    }

    proptest! {
        /// The sender with the most, and its oldest, are those of a plain list.
        #[test]
        fn the_most_is_what_a_list_says(steps in prop::collection::vec((0u32..24, 0u16..5, 0u64..50, any::<bool>()), 0..200)) {
            let mut shares = Shares::new(24, 7);
            // Oldest first.
            let mut list: Vec<(u32, u16, u64)> = Vec::new();
            for (thing, sender, load, adds) in steps {
                // Also places far from each other in the tree.
                let sender = sender * 255;
                match list.iter().position(|held| held.0 == thing) {
                    None => {
                        shares.put(thing, Sender(sender), load);
                        list.push((thing, sender, load));
                    }
                    Some(at) if adds => {
                        shares.add(thing, load);
                        list[at].2 += load;
                    }
                    Some(at) => {
                        shares.take(thing);
                        list.remove(at);
                    }
                }
                let load_of = |sender| list.iter().filter(|held| held.1 == sender).map(|held| held.2).sum::<u64>();
                let most = list.iter().map(|held| load_of(held.1)).max().unwrap_or(0);
                for sender in (0..5).map(|n| n * 255) {
                    prop_assert_eq!(shares.load(Sender(sender)), load_of(sender));
                }
                if most > 0 {
                    let (sender, load, oldest) = shares.most().unwrap();
                    prop_assert_eq!((load_of(sender.0), load), (most, most));
                    let first = list.iter().find(|held| held.1 == sender.0).unwrap();
                    prop_assert_eq!(oldest, first.0);
                    prop_assert_eq!(shares.holder(oldest), sender);
                }
            }
        }
    }
}

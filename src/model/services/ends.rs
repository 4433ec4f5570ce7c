//! Which addresses packets are wrapped for, and how: by that an error about a wrapped packet is told from others.
//!
//! A real server's packets may be wrapped in another way after a change, or not at all: errors about the earlier ones are on their
//! way, and in a mode that no longer wraps the connections of before go on as they began. So each way stays until the real server
//! has no connections left.

use crate::config::Encapsulation;
use crate::rcu::map::{Map, Snapshot};
use crate::units::RealId;
use foldhash::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Counts, for each real server's address, the real servers of each encapsulation.
pub(super) struct Ends {
    of_reals: HashMap<RealId, (IpAddr, Vec<Encapsulation>)>,
    counts: HashMap<IpAddr, Vec<(Encapsulation, usize)>>,
    published: Map<IpAddr, Arc<[Encapsulation]>>,
}

impl Ends {
    pub(super) fn new(seed: u64) -> Self {
        Ends {
            of_reals: HashMap::default(),
            counts: HashMap::default(),
            published: Map::new(seed),
        }
    }

    /// A real server's packets are wrapped so.
    pub(super) fn add(&mut self, real: RealId, address: IpAddr, encapsulation: Encapsulation) {
        let of_real = self.of_reals.entry(real);
        let (_, known) = of_real.or_insert((address, Vec::new()));
        if !known.contains(&encapsulation) {
            known.push(encapsulation);
            self.count(address, encapsulation, true);
        }
    }

    /// A real server has no connections left.
    pub(super) fn remove(&mut self, real: RealId) {
        if let Some((address, known)) = self.of_reals.remove(&real) {
            for encapsulation in known {
                self.count(address, encapsulation, false);
            }
        }
    }

    fn count(&mut self, address: IpAddr, encapsulation: Encapsulation, is_added: bool) {
        let counts = self.counts.entry(address).or_default();
        let place = counts.iter().position(|(known, _)| *known == encapsulation);
        let changed = match (place, is_added) {
            (Some(place), true) => {
                counts[place].1 += 1;
                false
            }
            (None, true) => {
                counts.push((encapsulation, 1));
                true
            }
            (Some(place), false) => {
                counts[place].1 -= 1;
                let is_last = counts[place].1 == 0;
                if is_last {
                    counts.swap_remove(place);
                }
                is_last
            }
            (None, false) => false,
        };
        if counts.is_empty() {
            self.counts.remove(&address);
            self.published.remove(&address);
        } else if changed {
            let known = counts.iter().map(|(known, _)| *known).collect();
            self.published.insert(address, known);
        }
    }

    pub(super) fn freeze(&mut self) -> Snapshot<IpAddr, Arc<[Encapsulation]>> {
        self.published.freeze()
    }
}

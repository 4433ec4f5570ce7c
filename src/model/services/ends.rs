//! Which addresses packets are wrapped for, and how: by that an error about a wrapped packet is told from others.

use crate::config::{Encapsulation, ServiceConfig};
use crate::rcu::map::{Map, Snapshot};
use foldhash::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Counts, for each real server's address, the real servers of each encapsulation.
pub(super) struct Ends {
    counts: HashMap<IpAddr, Vec<(Encapsulation, usize)>>,
    published: Map<IpAddr, Arc<[Encapsulation]>>,
}

impl Ends {
    pub(super) fn new(seed: u64) -> Self {
        Ends {
            counts: HashMap::default(),
            published: Map::new(seed),
        }
    }

    /// Follows a service from its former version to its present one.
    pub(super) fn follow(&mut self, before: Option<&ServiceConfig>, after: Option<&ServiceConfig>) {
        for (service, is_added) in [(after, true), (before, false)] {
            let tunnel = service.and_then(|service| service.mode.tunnel());
            let Some((service, tunnel)) = service.zip(tunnel) else {
                continue;
            };
            for real in &service.reals {
                self.count(real.address, tunnel.encapsulation, is_added);
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

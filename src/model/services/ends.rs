//! Which addresses packets are wrapped for, and how: by that an error about a wrapped packet is told from others.
//!
//! A real server's packets may be wrapped in another way after a change, or not at all: errors about the earlier ones are on their
//! way, and in a mode that no longer wraps the connections of before go on as they began. So each way stays until the real server
//! has no connections left.

use crate::config::TunnelConfig;
use crate::rcu::map::{Map, Snapshot};
use crate::units::RealId;
use foldhash::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Counts, for each real server's address, the real servers of each way.
pub(super) struct Ends {
    of_reals: HashMap<RealId, (IpAddr, Vec<TunnelConfig>)>,
    counts: HashMap<IpAddr, Vec<(TunnelConfig, usize)>>,
    published: Map<IpAddr, Arc<[TunnelConfig]>>,
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
    pub(super) fn add(&mut self, real: RealId, address: IpAddr, way: TunnelConfig) {
        let of_real = self.of_reals.entry(real);
        let (_, known) = of_real.or_insert((address, Vec::new()));
        if !known.contains(&way) {
            known.push(way);
            self.count(address, way, true);
        }
    }

    /// A real server has no connections left.
    pub(super) fn remove(&mut self, real: RealId) {
        if let Some((address, known)) = self.of_reals.remove(&real) {
            for way in known {
                self.count(address, way, false);
            }
        }
    }

    fn count(&mut self, address: IpAddr, way: TunnelConfig, is_added: bool) {
        let counts = self.counts.entry(address).or_default();
        let place = counts.iter().position(|(known, _)| *known == way);
        let changed = match (place, is_added) {
            (Some(place), true) => {
                counts[place].1 += 1;
                false
            }
            (None, true) => {
                counts.push((way, 1));
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

    pub(super) fn freeze(&mut self) -> Snapshot<IpAddr, Arc<[TunnelConfig]>> {
        self.published.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Encapsulation;
    use std::net::Ipv4Addr;

    #[test]
    fn a_way_is_known_as_long_as_a_real_server_has_had_it() {
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 11));
        let (one, two) = (RealId(1), RealId(2));
        let way = |encapsulation| TunnelConfig {
            encapsulation,
            source: None,
        };
        let (ipip, gre) = (way(Encapsulation::Ipip), way(Encapsulation::Gre));
        let mut ends = Ends::new(1);
        let known = |ends: &mut Ends| {
            let published = ends.freeze();
            published.get(&address).map_or(vec![], |all| all.to_vec())
        };
        ends.add(one, address, ipip);
        ends.add(one, address, ipip);
        assert_eq!(known(&mut ends), [ipip]);
        // Wrapped in another way from now on; so is another real server with this address.
        ends.add(one, address, gre);
        ends.add(two, address, gre);
        assert_eq!(known(&mut ends), [ipip, gre]);
        ends.remove(one);
        assert_eq!(known(&mut ends), [gre]);
        ends.remove(two);
        ends.remove(two);
        assert_eq!(known(&mut ends), []);
    }
}

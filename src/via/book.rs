//! Which private address stands for which real server of which service. One that is in use stays what it is, whatever comes
//! and goes beside it.

use crate::config::CheckAddresses;
use crate::service::ServiceKey;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// The private addresses that are given.
#[derive(Debug, Default)]
pub struct Book {
    addresses: CheckAddresses,
    services: HashMap<ServiceKey, HashMap<IpAddr, IpAddr>>,
    targets: HashMap<IpAddr, (ServiceKey, IpAddr)>,
    /// The number of the address that was given last, of IPv4 and of IPv6: the next ones come after it, so that none soon stands for
    /// another real server.
    last: [u32; 2],
    given: [u32; 2],
}

impl Book {
    /// The networks that private addresses are of; those of others are given up.
    pub fn set_addresses(&mut self, addresses: CheckAddresses) {
        if addresses != self.addresses {
            *self = Book {
                addresses,
                ..Book::default()
            };
        }
    }

    pub fn addresses(&self) -> &CheckAddresses {
        &self.addresses
    }

    /// Gives an address to each of a service's real servers that has none, and takes back those of the others. `is_v6`: of which
    /// family they are.
    pub fn put(
        &mut self,
        service: ServiceKey,
        reals: impl IntoIterator<Item = IpAddr>,
        is_v6: bool,
    ) {
        let mut before = self.services.remove(&service).unwrap_or_default();
        let reals: HashSet<IpAddr> = reals.into_iter().collect();
        let stays = |real: &IpAddr, address: &mut IpAddr| {
            reals.contains(real) && address.is_ipv6() == is_v6
        };
        let mut after: HashMap<_, _> = before.extract_if(stays).collect();
        // First: others may need the room.
        self.take_back(before);
        for real in reals {
            if !after.contains_key(&real)
                && let Some(address) = self.next_free(is_v6)
            {
                self.targets.insert(address, (service, real));
                self.given[usize::from(is_v6)] += 1;
                after.insert(real, address);
            }
        }
        if !after.is_empty() {
            self.services.insert(service, after);
        }
    }

    /// Takes back the addresses of a service.
    pub fn remove(&mut self, service: &ServiceKey) {
        let before = self.services.remove(service).unwrap_or_default();
        self.take_back(before);
    }

    /// Takes back the addresses of every other service.
    pub fn keep(&mut self, services: &HashSet<ServiceKey>) {
        let known = self.services.keys().copied();
        let gone: Vec<_> = known.filter(|key| !services.contains(key)).collect();
        gone.iter().for_each(|key| self.remove(key));
    }

    fn take_back(&mut self, before: HashMap<IpAddr, IpAddr>) {
        for address in before.into_values() {
            self.targets.remove(&address);
            self.given[usize::from(address.is_ipv6())] -= 1;
        }
    }

    fn next_free(&mut self, is_v6: bool) -> Option<IpAddr> {
        let (place, room) = (usize::from(is_v6), self.addresses.room(is_v6));
        if self.given[place] >= room {
            return None;
        }
        loop {
            self.last[place] = (self.last[place] + 1) % room;
            let number = CheckAddresses::RESERVED + self.last[place];
            let address = self.addresses.nth(is_v6, number);
            if !self.targets.contains_key(&address) {
                return Some(address);
            }
        }
    }

    /// The private address of a service's real server.
    pub fn address(&self, service: &ServiceKey, real: IpAddr) -> Option<IpAddr> {
        self.services.get(service)?.get(&real).copied()
    }

    /// The service and real server that a private address stands for.
    pub fn target(&self, address: IpAddr) -> Option<&(ServiceKey, IpAddr)> {
        self.targets.get(&address)
    }

    /// Whether any of a family is given.
    pub fn has_any(&self, is_v6: bool) -> bool {
        self.given[usize::from(is_v6)] > 0
    }

    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Protocol;
    use proptest::prelude::*;

    fn service(n: u8) -> ServiceKey {
        ServiceKey {
            protocol: Protocol::Tcp,
            address: [192, 0, 2, n].into(),
            port: 80,
            last: 0,
        }
    }

    fn real(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    proptest! {
        /// Whatever comes and goes: each real server has one address while there is room, no two have the same, and what stays
        /// keeps its own.
        #[test]
        fn addresses_are_private_and_stay(
            steps in prop::collection::vec((0u8..4, prop::collection::btree_set(0u8..9, 0..6)), 1..40),
        ) {
            let mut book = Book::default();
            // Room for 15.
            let v4 = "198.18.0.0/27".parse().unwrap();
            book.set_addresses(CheckAddresses { v4, ..CheckAddresses::default() });
            prop_assert_eq!(book.addresses().room(false), 15);
            for (n, reals) in steps {
                let before: HashMap<_, _> =
                    book.targets.iter().map(|(address, target)| (*target, *address)).collect();
                book.put(service(n), reals.iter().map(|n| real(*n)), false);
                let has = |it: u8| book.address(&service(n), real(it)).is_some();
                let given = reals.iter().filter(|it| has(**it)).count();
                prop_assert!(given == reals.len() || book.targets.len() == 15);
                prop_assert_eq!(book.has_any(false), !book.targets.is_empty());
                for (address, target) in &book.targets {
                    prop_assert!(v4.contains(&crate::net::ipv4(*address)));
                    prop_assert!(*address > book.addresses().source(false));
                    prop_assert_eq!(book.address(&target.0, target.1), Some(*address));
                    if let Some(known) = before.get(target) {
                        prop_assert_eq!(known, address);
                    }
                }
                let gone = |target: &(ServiceKey, IpAddr)| {
                    target.0 == service(n) && !reals.iter().any(|it| real(*it) == target.1)
                };
                prop_assert!(!book.targets.values().any(gone));
            }
            book.keep(&HashSet::new());
            prop_assert!(book.is_empty() && !book.has_any(false));
        }
    }

    #[test]
    fn an_address_is_not_soon_anothers() {
        let mut book = Book::default();
        book.put(service(1), [real(1)], false);
        let first = book.address(&service(1), real(1)).unwrap();
        book.remove(&service(1));
        book.put(service(1), [real(2)], false);
        assert_ne!(book.address(&service(1), real(2)), Some(first));
        assert_eq!(book.target(first), None);
    }
}

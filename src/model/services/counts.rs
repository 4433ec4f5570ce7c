//! Counts how many services use an address.

use foldhash::HashMap;
use std::net::Ipv4Addr;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Counts(HashMap<Ipv4Addr, usize>);

impl Counts {
    /// Returns whether the address is the first of its kind.
    pub(super) fn add(&mut self, address: Ipv4Addr) -> bool {
        let count = self.0.entry(address).or_default();
        *count += 1;
        *count == 1
    }

    /// Returns whether the address was the last of its kind.
    pub(super) fn remove(&mut self, address: Ipv4Addr) -> bool {
        let Some(count) = self.0.get_mut(&address) else {
            return false;
        };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.0.remove(&address);
        }
        is_last
    }

    pub(super) fn contains(&self, address: Ipv4Addr) -> bool {
        self.0.contains_key(&address)
    }

    pub(super) fn all(&self) -> &HashMap<Ipv4Addr, usize> {
        &self.0
    }
}

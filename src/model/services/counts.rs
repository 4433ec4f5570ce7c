//! Counts how many services use an address.

use foldhash::HashMap;
use std::net::IpAddr;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Counts(HashMap<IpAddr, usize>);

impl Counts {
    /// Returns whether the address is the first of its kind.
    pub(super) fn add(&mut self, address: IpAddr) -> bool {
        let count = self.0.entry(address).or_default();
        *count += 1;
        *count == 1
    }

    /// Returns whether the address was the last of its kind.
    pub(super) fn remove(&mut self, address: IpAddr) -> bool {
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

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.0.contains_key(&address)
    }

    pub(super) fn all(&self) -> &HashMap<IpAddr, usize> {
        &self.0
    }
}

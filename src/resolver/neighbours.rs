//! Owns the slots of neighbours: which host has one, for which purpose, and which gives way to which.
//!
//! A gateway, a real server or a `[[neighbour]]` keeps its slot. A next hop of packets and a stranger (a host that is
//! known only because it asked for an address of weir's own) have one while there is room. What is asked about a
//! neighbour and believed of it is the [resolver's](super).

use crate::neighbour::{Link, LinkState, MAX_NEIGHBOURS, NeighbourTable};
use crate::tables::{Route, Tables};
use crate::units::{HopId, PortId, Time};
use crate::wire::Mac;
use foldhash::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The most strangers on each port's link.
pub const MAX_STRANGERS: usize = 1024;
/// How long a stranger is kept at least while others want its place.
pub const STRANGER: Duration = Duration::from_secs(60);
/// A failed neighbour that no packet wanted in this time goes.
pub const FAILED: Duration = Duration::from_secs(60);
/// A neighbour that no worker wanted in this time may make room for another (`gc_stale_time`, longer); and when that
/// gives too little room, in this one.
const UNUSED: Duration = Duration::from_secs(300);
const UNUSED_WHEN_CROWDED: Duration = Duration::from_secs(60);
/// Between two searches for neighbours that may go.
const COLLECT: Duration = Duration::from_secs(1);

/// With more than `HIGH` slots in use the table is crowded: neighbours go until `LOW` are.
const HIGH: usize = MAX_NEIGHBOURS / 8 * 7;
const LOW: usize = MAX_NEIGHBOURS / 4 * 3;

/// What a slot is taken for; each purpose may fill the table so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Stranger,
    /// A next hop of packets.
    Packets,
    /// A gateway, a real server, a `[[neighbour]]`.
    Configuration,
}

impl Purpose {
    const fn limit(self) -> usize {
        match self {
            Purpose::Stranger => LOW,
            Purpose::Packets => MAX_NEIGHBOURS / 16 * 15,
            Purpose::Configuration => MAX_NEIGHBOURS,
        }
    }
}

/// What weir's links are like, and what is needed on them.
#[derive(Clone, Copy)]
pub struct Network<'a> {
    pub tables: &'a Tables,
    /// The addresses of real servers.
    pub reals: &'a HashMap<IpAddr, usize>,
}

impl Network<'_> {
    /// Whether a host on a port's link is a real server to which packets go directly.
    fn needs(&self, port: PortId, address: IpAddr) -> bool {
        let direct = Route {
            port,
            gateway: None,
        };
        self.reals.contains_key(&address) && self.tables.routes.get(address) == Some(direct)
    }
}

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    /// `[[neighbour]]`: never asked for, never changed.
    is_static: bool,
    /// A gateway: routes hold its slot, so that it keeps it.
    is_pinned: bool,
    /// Known only because it asked for an address of weir's own: no worker has wanted it.
    is_stranger: bool,
    /// When it was last confirmed or wanted.
    touched: Time,
}

pub struct Neighbours {
    /// What the workers read.
    table: Arc<NeighbourTable>,
    /// By slot; none: the slot is free, or retired and not yet released.
    slots: Vec<Option<Neighbour>>,
    free: Vec<HopId>,
    /// How many each port has.
    strangers: Vec<usize>,
    /// When neighbours that may go were last searched for, since there was no room for others.
    collected: Time,
    /// When failed ones were last searched for.
    swept: Time,
    /// How often a neighbour got no slot.
    refused: u64,
}

impl Neighbours {
    pub fn new(table: Arc<NeighbourTable>) -> Self {
        Neighbours {
            strangers: vec![0; table.ports()],
            table,
            slots: Vec::new(),
            free: Vec::new(),
            collected: Time::default(),
            swept: Time::default(),
            refused: 0,
        }
    }

    pub fn table(&self) -> &Arc<NeighbourTable> {
        &self.table
    }

    /// Every neighbour: slot, address, link, and whether it is configured.
    pub fn iter(&self) -> impl Iterator<Item = (HopId, IpAddr, Link, bool)> {
        self.slots.iter().enumerate().filter_map(|(n, neighbour)| {
            let hop = HopId(n as u16);
            let is_static = neighbour.as_ref()?.is_static;
            Some((
                hop,
                self.table.address(hop),
                self.table.link(hop),
                is_static,
            ))
        })
    }

    /// How often a neighbour got no slot: the table, or what is left of it for strangers and packets, is full, or too many
    /// neighbours have addresses that belong to the same places of the index.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    pub fn is_static(&self, hop: HopId) -> bool {
        self.slots[hop.index()].is_some_and(|neighbour| neighbour.is_static)
    }

    /// Whether the configuration needs a neighbour: it is asked for until it answers, and keeps its slot.
    pub fn is_needed(&self, hop: HopId, network: &Network) -> bool {
        self.slots[hop.index()].is_some_and(|neighbour| {
            neighbour.is_static
                || neighbour.is_pinned
                || network.needs(self.table.link(hop).port, self.table.address(hop))
        })
    }

    /// The slot of a gateway, which it keeps. None when the table is full.
    pub fn pin(&mut self, port: PortId, address: IpAddr, now: Time) -> Option<HopId> {
        let hop = self.slot(port, address, Purpose::Configuration, now)?;
        self.is_known_for_more(hop);
        self.slots[hop.index()].as_mut()?.is_pinned = true;
        Some(hop)
    }

    /// Lets every gateway go; those still wanted are pinned again.
    pub fn unpin_all(&mut self) {
        for neighbour in self.slots.iter_mut().flatten() {
            neighbour.is_pinned = false;
        }
    }

    /// The slot of a `[[neighbour]]`, which has this MAC address. None when the table is full.
    pub fn set_static(
        &mut self,
        port: PortId,
        address: IpAddr,
        mac: Mac,
        now: Time,
    ) -> Option<HopId> {
        let hop = self.slot(port, address, Purpose::Configuration, now)?;
        self.is_known_for_more(hop);
        let neighbour = self.slots[hop.index()].as_mut()?;
        neighbour.is_static = true;
        neighbour.touched = now;
        self.set_link(hop, mac, LinkState::Reachable);
        Some(hop)
    }

    /// A `[[neighbour]]` that is no longer configured must be confirmed from now on.
    pub fn unset_static(&mut self, port: PortId, address: IpAddr, now: Time) -> Option<HopId> {
        let hop = self.table.find(port, address)?;
        let neighbour = self.slots[hop.index()].as_mut()?;
        neighbour.is_static = false;
        neighbour.touched = now;
        self.set_state(hop, LinkState::Stale);
        Some(hop)
    }

    /// The slot of a neighbour that packets want. None when the table has no room for it.
    pub fn want(
        &mut self,
        port: PortId,
        address: IpAddr,
        network: &Network,
        now: Time,
    ) -> Option<HopId> {
        let purpose = match network.needs(port, address) {
            true => Purpose::Configuration,
            false => Purpose::Packets,
        };
        let hop = self.slot(port, address, purpose, now)?;
        self.is_known_for_more(hop);
        self.touch(hop, now);
        Some(hop)
    }

    /// The slot of a host that weir did not know, and that asked for an address of weir's own. So many are kept and no
    /// more: the others are asked for when packets go to them.
    pub fn meet(
        &mut self,
        port: PortId,
        address: IpAddr,
        network: &Network,
        now: Time,
    ) -> Option<HopId> {
        if network.needs(port, address) {
            return self.slot(port, address, Purpose::Configuration, now);
        }
        if self.strangers[port.index()] >= MAX_STRANGERS {
            return None;
        }
        let hop = self.slot(port, address, Purpose::Stranger, now)?;
        self.slots[hop.index()].as_mut()?.is_stranger = true;
        self.strangers[port.index()] += 1;
        Some(hop)
    }

    /// A neighbour was confirmed or wanted.
    pub fn touch(&mut self, hop: HopId, now: Time) {
        if let Some(neighbour) = self.slots[hop.index()].as_mut() {
            neighbour.touched = now;
        }
    }

    /// Tells the workers what is known of a neighbour.
    pub fn set_link(&mut self, hop: HopId, mac: Mac, state: LinkState) {
        let port = self.table.link(hop).port;
        self.table.set(hop, Link { mac, port, state });
    }

    pub fn set_state(&mut self, hop: HopId, state: LinkState) {
        self.set_link(hop, self.table.link(hop).mac, state);
    }

    /// The slot of a neighbour, a new one if it has none. None when the table has no room for this purpose.
    fn slot(
        &mut self,
        port: PortId,
        address: IpAddr,
        purpose: Purpose,
        now: Time,
    ) -> Option<HopId> {
        if let Some(hop) = self.table.find(port, address) {
            return Some(hop);
        }
        if self.used() >= purpose.limit() {
            self.refused += 1;
            return None;
        }
        let hop = match self.free.pop() {
            Some(hop) => hop,
            None if self.slots.len() < MAX_NEIGHBOURS => {
                self.slots.push(None);
                HopId((self.slots.len() - 1) as u16)
            }
            None => {
                self.refused += 1;
                return None;
            }
        };
        let link = Link {
            mac: Mac::default(),
            port,
            state: LinkState::Incomplete,
        };
        if !self.table.insert(hop, address, link) {
            self.free.push(hop);
            self.refused += 1;
            return None;
        }
        self.slots[hop.index()] = Some(Neighbour {
            is_static: false,
            is_pinned: false,
            is_stranger: false,
            touched: now,
        });
        Some(hop)
    }

    /// How many slots are in use, those included that are retired and not yet released.
    pub fn used(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// A neighbour is no longer known only because it asked for an address of weir's own.
    fn is_known_for_more(&mut self, hop: HopId) {
        let port = self.table.link(hop).port;
        if let Some(neighbour) = self.slots[hop.index()].as_mut()
            && neighbour.is_stranger
        {
            neighbour.is_stranger = false;
            self.strangers[port.index()] -= 1;
        }
    }

    /// Whether to [retire](Self::retire_unused) neighbours: the table has little room left, or it is time to look for what has no
    /// value any longer.
    pub fn is_to_retire(&self, now: Time) -> bool {
        let is_full = |strangers: &usize| *strangers >= MAX_STRANGERS;
        let since = now.since(self.collected);
        self.used() > HIGH && since >= COLLECT
            || self.strangers.iter().any(is_full) && since >= STRANGER
            || now.since(self.swept) >= FAILED
    }

    /// Makes the neighbours of least value unfindable: failed ones first, then strangers, then what was not used for
    /// longest (the kernel's `neigh_forced_gc`); never what the configuration needs, what was wanted or confirmed in the
    /// last minute, or what a question is open about. They must be [released](Self::release) once no worker can remember
    /// them.
    pub fn retire_unused(
        &mut self,
        is_asked: impl Fn(HopId) -> bool,
        network: &Network,
        now: Time,
    ) -> Vec<HopId> {
        let is_crowded = self.used() > HIGH;
        let is_full = |strangers: &usize| *strangers >= MAX_STRANGERS;
        let wants_room = is_crowded || self.strangers.iter().any(is_full);
        self.swept = now;
        if wants_room {
            self.collected = now;
        }
        let mut candidates = Vec::new();
        for (n, slot) in self.slots.iter().enumerate() {
            let hop = HopId(n as u16);
            let Some(neighbour) = slot else { continue };
            let age = now.since(neighbour.touched);
            let state = self.table.link(hop).state;
            let is_idle = state == LinkState::Stale && !is_asked(hop);
            let value = match state {
                LinkState::Failed if wants_room || age >= FAILED => 0,
                LinkState::Failed => continue,
                _ if is_idle
                    && neighbour.is_stranger
                    && (is_crowded || wants_room && age >= STRANGER) =>
                {
                    1
                }
                _ if is_idle && is_crowded && age >= UNUSED => 2,
                _ if is_idle && is_crowded && age >= UNUSED_WHEN_CROWDED => 3,
                _ => continue,
            };
            if !self.is_needed(hop, network) {
                candidates.push((value, neighbour.touched, hop));
            }
        }
        candidates.sort_unstable();
        // Failed ones and old strangers are of no value; the others go as far as room is wanted.
        let excess = self.used().saturating_sub(LOW);
        let is_worthless = |&(value, touched, _): &(i32, Time, HopId)| {
            value == 0 || value == 1 && now.since(touched) >= STRANGER
        };
        let worthless = candidates.iter().filter(|it| is_worthless(it)).count();
        candidates.truncate(worthless.max(excess));
        let retired: Vec<_> = candidates.into_iter().map(|(.., hop)| hop).collect();
        for &hop in &retired {
            self.is_known_for_more(hop);
            self.slots[hop.index()] = None;
            self.table.remove(hop);
        }
        retired
    }

    /// Makes retired slots free for other neighbours.
    pub fn release(&mut self, retired: Vec<HopId>) {
        self.free.extend(retired);
    }
}

#[cfg(test)]
mod tests;

//! Finds and keeps the MAC addresses of neighbours, by ARP (RFC 826), with the states of RFC 4861 section 7.3.
//!
//! A state machine: events and the time go in, questions to send come out. The control thread runs it on the real
//! clock, a replay on that of its captures. It is the one writer of the neighbour table.

use crate::exchange::{Event, Order};
use crate::neighbour::{Link, LinkState, MAX_NEIGHBOURS, NeighbourTable};
use crate::tables::Tables;
use crate::units::{HopId, PortId, Time};
use crate::wire::{Mac, arp};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// How long an answer is believed without another one (`base_reachable_time_ms` of the kernel's neighbours).
pub const REACHABLE: Duration = Duration::from_secs(30);
/// Between two questions, and how many are asked (`retrans_time_ms`, `mcast_solicit`).
pub const RETRY: Duration = Duration::from_secs(1);
pub const TRIES: u8 = 3;
/// A neighbour that nobody asked for in this time may make room for another (`gc_stale_time`, longer).
const UNUSED: Duration = Duration::from_secs(300);

/// Who wants a neighbour to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// `[[neighbour]]`: never asked for, never changed.
    Static,
    /// A gateway: keeps its slot.
    Pinned,
    Learned,
}

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    origin: Origin,
    /// Questions asked without an answer; 0: none is open.
    tries: u8,
    /// When something is to be done next.
    due: Option<Time>,
    /// When it was last confirmed or asked for.
    touched: Time,
}

pub struct Resolver {
    table: Arc<NeighbourTable>,
    /// By slot; none: the slot is free.
    neighbours: Vec<Option<Neighbour>>,
    free: Vec<HopId>,
    /// What is due when, soonest first. Entries that a later change made void are passed over.
    agenda: BinaryHeap<Reverse<(Time, HopId)>>,
    orders: Vec<Order>,
}

impl Resolver {
    pub fn new(table: Arc<NeighbourTable>) -> Self {
        Resolver {
            table,
            neighbours: Vec::new(),
            free: Vec::new(),
            agenda: BinaryHeap::new(),
            orders: Vec::new(),
        }
    }

    pub fn table(&self) -> &Arc<NeighbourTable> {
        &self.table
    }

    /// Every neighbour: slot, address, link, and whether it is configured.
    pub fn iter(&self) -> impl Iterator<Item = (HopId, Ipv4Addr, Link, bool)> {
        self.neighbours
            .iter()
            .enumerate()
            .filter_map(|(n, neighbour)| {
                let hop = HopId(n as u16);
                let is_static = neighbour.as_ref()?.origin == Origin::Static;
                Some((
                    hop,
                    self.table.address(hop),
                    self.table.link(hop),
                    is_static,
                ))
            })
    }

    /// The slot of a gateway, which it keeps. None when the table is full.
    pub fn pin(&mut self, port: PortId, address: Ipv4Addr, now: Time) -> Option<HopId> {
        let hop = self.slot(port, address, now)?;
        let neighbour = self.neighbours[hop.index()].as_mut()?;
        if neighbour.origin == Origin::Learned {
            neighbour.origin = Origin::Pinned;
        }
        Some(hop)
    }

    /// Lets every gateway go; those still wanted are pinned again.
    pub fn unpin_all(&mut self) {
        for neighbour in self
            .neighbours
            .iter_mut()
            .flatten()
            .filter(|neighbour| neighbour.origin == Origin::Pinned)
        {
            neighbour.origin = Origin::Learned;
        }
    }

    /// A `[[neighbour]]`.
    pub fn set_static(
        &mut self,
        port: PortId,
        address: Ipv4Addr,
        mac: Mac,
        now: Time,
    ) -> Option<HopId> {
        let hop = self.slot(port, address, now)?;
        self.neighbours[hop.index()] = Some(Neighbour {
            origin: Origin::Static,
            tries: 0,
            due: None,
            touched: now,
        });
        self.table.set(
            hop,
            Link {
                mac,
                port,
                state: LinkState::Reachable,
            },
        );
        Some(hop)
    }

    /// A `[[neighbour]]` that is configured no more: it is to be confirmed from now on.
    pub fn unset_static(&mut self, port: PortId, address: Ipv4Addr, now: Time) {
        let Some(hop) = self.table.find(port, address) else {
            return;
        };
        self.neighbours[hop.index()] = Some(Neighbour {
            origin: Origin::Learned,
            tries: 0,
            due: None,
            touched: now,
        });
        self.table.set(
            hop,
            Link {
                state: LinkState::Stale,
                ..self.table.link(hop)
            },
        );
    }

    fn slot(&mut self, port: PortId, address: Ipv4Addr, now: Time) -> Option<HopId> {
        if let Some(hop) = self.table.find(port, address) {
            return Some(hop);
        }
        let hop = match self.free.pop() {
            Some(hop) => hop,
            None if self.neighbours.len() < MAX_NEIGHBOURS => {
                self.neighbours.push(None);
                HopId((self.neighbours.len() - 1) as u16)
            }
            None => return None,
        };
        self.neighbours[hop.index()] = Some(Neighbour {
            origin: Origin::Learned,
            tries: 0,
            due: None,
            touched: now,
        });
        self.table.insert(
            hop,
            address,
            Link {
                mac: Mac::default(),
                port,
                state: LinkState::Incomplete,
            },
        );
        Some(hop)
    }

    /// Takes in what a worker noticed.
    pub fn event(&mut self, event: Event, tables: &Tables, now: Time) {
        match event {
            Event::Wanted { port, address } => self.wanted(port, address, tables, now),
            Event::Arp { port, repr } => self.heard(port, &repr, tables, now),
        }
    }

    fn wanted(&mut self, port: PortId, address: Ipv4Addr, tables: &Tables, now: Time) {
        let Some(hop) = self.slot(port, address, now) else {
            return;
        };
        let Some(neighbour) = self.neighbours[hop.index()].as_mut() else {
            return;
        };
        neighbour.touched = now;
        if neighbour.origin == Origin::Static || neighbour.tries > 0 {
            return;
        }
        let link = self.table.link(hop);
        match link.state {
            LinkState::Reachable => {}
            LinkState::Incomplete => self.ask(hop, tables, now),
            LinkState::Stale => self.ask(hop, tables, now),
            LinkState::Failed => {
                self.table.set(
                    hop,
                    Link {
                        state: LinkState::Incomplete,
                        ..link
                    },
                );
                self.ask(hop, tables, now);
            }
        }
    }

    /// Sends the next question about a neighbour: to itself where its address is known and this is the first one,
    /// else to everybody.
    fn ask(&mut self, hop: HopId, tables: &Tables, now: Time) {
        let Some(neighbour) = self.neighbours[hop.index()].as_mut() else {
            return;
        };
        let link = self.table.link(hop);
        let target = self.table.address(hop);
        neighbour.tries += 1;
        let to = if link.is_usable() && neighbour.tries == 1 {
            link.mac
        } else {
            Mac::BROADCAST
        };
        neighbour.due = Some(now + RETRY);
        self.agenda.push(Reverse((now + RETRY, hop)));
        if let Some(source) = tables.port(link.port).source_for(target) {
            self.orders.push(Order::Ask {
                port: link.port,
                to,
                source,
                target,
            });
        }
    }

    /// An ARP packet: RFC 826, "Packet Reception".
    fn heard(&mut self, port: PortId, repr: &arp::Repr, tables: &Tables, now: Time) {
        let address = repr.sender_ip;
        if !tables.port(port).is_on_link(address) || repr.sender_mac.is_multicast() {
            return;
        }
        let is_answer = repr.operation == arp::REPLY;
        let for_us = tables.addresses.get(&repr.target_ip).is_some();
        let known = self.table.find(port, address);
        // Nobody is added for what was not addressed to weir.
        let Some(hop) = known.or_else(|| for_us.then(|| self.slot(port, address, now)).flatten())
        else {
            return;
        };
        let Some(neighbour) = self.neighbours[hop.index()].as_mut() else {
            return;
        };
        if neighbour.origin == Origin::Static {
            return;
        }
        let confirmed = is_answer && for_us;
        let link = self.table.link(hop);
        if !confirmed && link.is_usable() && link.mac == repr.sender_mac {
            return;
        }
        let state = if confirmed {
            LinkState::Reachable
        } else {
            LinkState::Stale
        };
        neighbour.tries = 0;
        neighbour.due = confirmed.then_some(now + REACHABLE);
        if confirmed {
            neighbour.touched = now;
            self.agenda.push(Reverse((now + REACHABLE, hop)));
        }
        if link.is_usable() && link.mac != repr.sender_mac {
            tracing::info!(%address, from = %link.mac, to = %repr.sender_mac, "neighbour has moved");
        }
        self.table.set(
            hop,
            Link {
                mac: repr.sender_mac,
                port,
                state,
            },
        );
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Time> {
        self.agenda.peek().map(|Reverse((due, _))| *due)
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, tables: &Tables, now: Time) {
        while let Some(&Reverse((due, hop))) = self.agenda.peek()
            && due <= now
        {
            self.agenda.pop();
            let Some(neighbour) = self.neighbours[hop.index()]
                .as_mut()
                .filter(|neighbour| neighbour.due == Some(due))
            else {
                continue;
            };
            neighbour.due = None;
            let link = self.table.link(hop);
            match neighbour.tries {
                0 => self.table.set(
                    hop,
                    Link {
                        state: LinkState::Stale,
                        ..link
                    },
                ),
                tries if tries < TRIES => self.ask(hop, tables, due),
                _ => {
                    neighbour.tries = 0;
                    self.table.set(
                        hop,
                        Link {
                            state: LinkState::Failed,
                            ..link
                        },
                    );
                    tracing::debug!(address = %self.table.address(hop), "neighbour does not answer");
                }
            }
        }
    }

    /// The questions to send since the last call.
    pub fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// Whether the table has little room left.
    pub fn is_crowded(&self) -> bool {
        self.neighbours.len() - self.free.len() > MAX_NEIGHBOURS * 7 / 8
    }

    /// Makes neighbours that nobody used lately unfindable. They are to be [released](Self::release) once no worker can
    /// remember them.
    pub fn retire_unused(&mut self, now: Time) -> Vec<HopId> {
        let mut retired = Vec::new();
        for (n, slot) in self.neighbours.iter_mut().enumerate() {
            let hop = HopId(n as u16);
            let is_unused = slot.is_some_and(|neighbour| {
                let idle = matches!(
                    self.table.link(hop).state,
                    LinkState::Stale | LinkState::Failed
                );
                neighbour.origin == Origin::Learned
                    && (idle && now.since(neighbour.touched) >= UNUSED
                        || self.table.link(hop).state == LinkState::Failed)
            });
            if is_unused {
                *slot = None;
                self.table.remove(hop);
                retired.push(hop);
            }
        }
        retired
    }

    /// Gives retired slots to whoever comes next.
    pub fn release(&mut self, retired: Vec<HopId>) {
        self.free.extend(retired);
    }
}

//! Owns the conversation with neighbours by ARP (RFC 826) and neighbour discovery (RFC 4861): what is asked and what is
//! believed, with the states of RFC 4861 section 7.3 for both.
//!
//! A state machine: events and the time go in, questions to send come out. The control thread runs it on the real
//! clock, a replay on that of its captures. Which neighbours have a slot is decided by [`Neighbours`].
//!
//! A neighbour is believed the first time it speaks. Later, no single packet gives it another MAC address: the host at
//! the known one is asked first, and only when it stays silent the whole link, as the kernel does for an entry whose
//! confirmation has run out (`NUD_PROBE`). A failed neighbour that the configuration needs is asked for until it answers.

mod agenda;
mod confirm;
mod journal;
pub mod neighbours;
pub mod pace;

use crate::exchange::{Event, Heard, Message, Order};
use crate::log::Said;
use crate::neighbour::{Link, LinkState, NeighbourTable};
use crate::tables::Tables;
use crate::units::{HopId, PortId, Time};
use crate::wire::Mac;
use agenda::Agenda;
use confirm::CONFIRM_RETRY;
use journal::{Journal, Moved, Place};
pub use journal::{Reached, ReachedLines};
use neighbours::{Neighbours, Network};
use pace::Pace;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long an answer is believed without another one (`base_reachable_time_ms` of the kernel's neighbours).
pub const REACHABLE: Duration = Duration::from_secs(30);
/// Between two questions, and how many are asked (`retrans_time_ms`, `mcast_solicit`).
pub const RETRY: Duration = Duration::from_secs(1);
pub const TRIES: u8 = 3;
/// Another host claims a neighbour's address: how often the neighbour itself is asked before the whole link is, and between
/// two such questions. A fail-over is followed after their product.
pub const CLAIM_TRIES: u8 = 2;
pub const CLAIM_RETRY: Duration = Duration::from_millis(500);
/// A neighbour that was asked because of a claim is not asked again because of another one in this time (`locktime`).
pub const LOCKTIME: Duration = Duration::from_secs(1);
/// Claims that are looked into, on each port.
pub const CLAIMS_PER_SECOND: u32 = 250;
/// Between two questions about a failed neighbour that the configuration needs; and between two such questions about
/// different ones, so that more than a thousand of them are asked for less often.
pub const PROBE: Duration = Duration::from_secs(5);
pub const PROBE_SPACING: Duration = Duration::from_millis(5);
/// Between two defences of one address of weir's own (DEFEND_INTERVAL of RFC 5227), and how many a port sends.
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
pub const DEFENCES_PER_SECOND: u32 = 100;

/// What has been asked about a neighbour.
#[derive(Clone, Copy, Debug, Default)]
struct Inquiry {
    /// Questions asked without an answer; 0: none is open.
    tries: u8,
    /// The open question was asked because another host claims the address.
    is_doubted: bool,
    /// The open question was asked because it was time to.
    is_confirmed: bool,
    /// When a worker's wish last made weir ask for it although it had failed.
    asked: Option<Time>,
    /// When a claim last made weir ask it.
    doubted: Option<Time>,
}

impl Inquiry {
    fn is_open(&self) -> bool {
        self.tries > 0
    }

    /// How many questions go to the MAC address that is known, before the others go to the whole link.
    fn own_tries(&self) -> u8 {
        if self.is_doubted { CLAIM_TRIES } else { 1 }
    }

    /// Whether the host at the known MAC address was silent, and the whole link has been asked.
    fn is_silent(&self) -> bool {
        self.tries > self.own_tries()
    }

    fn last_try(&self) -> u8 {
        self.own_tries() + TRIES - 1
    }

    /// An answer came, or weir gives up.
    fn close(&mut self) {
        self.tries = 0;
        self.is_doubted = false;
        self.is_confirmed = false;
    }
}

/// How often each port asks and defends.
#[derive(Clone, Debug, Default)]
struct PortPaces {
    claims: Pace,
    defences: Pace,
}

pub struct Resolver {
    neighbours: Neighbours,
    /// By slot, as far as one was ever asked about.
    inquiries: Vec<Inquiry>,
    agenda: Agenda,
    /// Next hops that the configuration needs are asked for all the time, whether a packet wants them or not.
    confirms: bool,
    /// The latest time for which a first question is planned.
    last_prepared: Time,
    orders: Vec<Order>,
    ports: Vec<PortPaces>,
    /// The latest time for which a probe is planned.
    last_probe: Time,
    /// When addresses of weir's own were last defended.
    defended: HashMap<(PortId, IpAddr), Time>,
    journal: Journal,
    /// Claims of addresses that weir keeps silent of.
    contested: Vec<(Place, Mac)>,
    /// Lines about next hops, for the control thread, which knows what they are there for.
    reached: Vec<(Place, Said<Reached>)>,
    /// The time of the last event or tick.
    clock: Time,
}

impl Resolver {
    pub fn new(table: Arc<NeighbourTable>) -> Self {
        Resolver {
            ports: vec![PortPaces::default(); table.ports()],
            neighbours: Neighbours::new(table),
            inquiries: Vec::new(),
            agenda: Agenda::default(),
            confirms: false,
            last_prepared: Time::default(),
            orders: Vec::new(),
            last_probe: Time::default(),
            defended: HashMap::new(),
            journal: Journal::default(),
            contested: Vec::new(),
            reached: Vec::new(),
            clock: Time::default(),
        }
    }

    pub fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// See [`Neighbours::pin`].
    pub fn pin(&mut self, port: PortId, address: IpAddr, now: Time) -> Option<HopId> {
        self.neighbours.pin(port, address, now)
    }

    /// See [`Neighbours::unpin_all`].
    pub fn unpin_all(&mut self) {
        self.neighbours.unpin_all();
    }

    /// See [`Neighbours::set_static`]. What was asked is forgotten.
    pub fn set_static(&mut self, port: PortId, address: IpAddr, mac: Mac, now: Time) {
        if let Some(hop) = self.neighbours.set_static(port, address, mac, now) {
            self.forget(hop);
        }
    }

    /// See [`Neighbours::unset_static`].
    pub fn unset_static(&mut self, port: PortId, address: IpAddr, now: Time) {
        if let Some(hop) = self.neighbours.unset_static(port, address, now) {
            self.forget(hop);
        }
    }

    /// See [`Neighbours::retire_unused`]. What was asked is forgotten.
    pub fn retire_unused(&mut self, network: &Network, now: Time) -> Vec<HopId> {
        let inquiries = &self.inquiries;
        let is_asked = |hop: HopId| inquiries.get(hop.index()).is_some_and(Inquiry::is_open);
        let retired = self.neighbours.retire_unused(is_asked, network, now);
        retired.iter().for_each(|hop| self.forget(*hop));
        retired
    }

    /// See [`Neighbours::release`].
    pub fn release(&mut self, retired: Vec<HopId>) {
        self.neighbours.release(retired);
    }

    /// Forgets what was asked about a neighbour.
    fn forget(&mut self, hop: HopId) {
        *self.inquiry(hop) = Inquiry::default();
        self.agenda.clear(hop);
    }

    fn inquiry(&mut self, hop: HopId) -> &mut Inquiry {
        let wanted = self.inquiries.len().max(hop.index() + 1);
        self.inquiries.resize(wanted, Inquiry::default());
        &mut self.inquiries[hop.index()]
    }

    fn link(&self, hop: HopId) -> Link {
        self.neighbours.table().link(hop)
    }

    fn address(&self, hop: HopId) -> IpAddr {
        self.neighbours.table().address(hop)
    }

    /// Takes in what a worker noticed.
    pub fn event(&mut self, event: Event, network: &Network, now: Time) {
        self.clock = now;
        match event {
            Event::Wanted { port, address } => self.wanted(port, address, network, now),
            Event::Heard { port, heard } => self.heard(port, &heard, network, now),
            // The model's, and the control thread's, who knows to what ports listen.
            Event::Router { .. } | Event::Query { .. } => {}
        }
    }

    fn wanted(&mut self, port: PortId, address: IpAddr, network: &Network, now: Time) {
        let Some(hop) = self.neighbours.want(port, address, network, now) else {
            return;
        };
        let is_needed = self.neighbours.is_needed(hop, network);
        if self.neighbours.is_static(hop) || self.inquiry(hop).is_open() {
            return;
        }
        match self.link(hop).state {
            LinkState::Reachable => {}
            LinkState::Incomplete | LinkState::Stale => self.ask(hop, network.tables, now),
            // It stays failed until it answers, so that it gets no new connections meanwhile.
            LinkState::Failed if is_needed => {
                let is_recent = |asked| now.since(asked) < RETRY;
                let inquiry = self.inquiry(hop);
                if !inquiry.asked.is_some_and(is_recent) {
                    inquiry.asked = Some(now);
                    self.send(hop, Mac::BROADCAST, network.tables);
                }
            }
            LinkState::Failed => {
                self.neighbours.set_state(hop, LinkState::Incomplete);
                self.ask(hop, network.tables, now);
            }
        }
    }

    /// Sends the next question about a neighbour: to itself while its MAC address is known and it has not been silent,
    /// else to the whole link.
    fn ask(&mut self, hop: HopId, tables: &Tables, now: Time) {
        let link = self.link(hop);
        let inquiry = self.inquiry(hop);
        inquiry.tries += 1;
        let retry = if inquiry.is_confirmed {
            CONFIRM_RETRY
        } else {
            RETRY
        };
        let (to, pause) = match (link.is_usable() && !inquiry.is_silent(), inquiry.is_doubted) {
            (true, true) => (link.mac, CLAIM_RETRY),
            (true, false) => (link.mac, retry),
            (false, _) => (Mac::BROADCAST, retry),
        };
        self.agenda.set(hop, now + pause);
        self.send(hop, to, tables);
    }

    /// Orders one question about a neighbour.
    fn send(&mut self, hop: HopId, to: Mac, tables: &Tables) {
        let (port, target) = (self.link(hop).port, self.address(hop));
        if let Some(source) = tables.source_for(port, target) {
            self.orders.push(Order::Ask {
                port,
                to,
                source,
                target,
            });
        }
    }

    /// A host said where it is: RFC 826, "Packet Reception"; RFC 4861 sections 7.2.3 and 7.2.5. Whether an advertisement is to
    /// override what is known is not asked: what another MAC address says of a neighbour is only believed where the known
    /// one is silent.
    fn heard(&mut self, port: PortId, heard: &Heard, network: &Network, now: Time) {
        let tables = network.tables;
        let address = heard.sender;
        if tables.owner(port, address).is_some() {
            self.defend(port, heard, tables, now);
            return;
        }
        if !tables.port(port).is_host_on_link(address) {
            return;
        }
        let Some(hop) = self.neighbours.table().find(port, address) else {
            if let Message::Asks { target } = heard.message
                && let Some(mac) = heard.mac
                && tables.answers_for(port, target)
            {
                self.meet(port, address, mac, network, now);
            }
            return;
        };
        if self.neighbours.is_static(hop) {
            return;
        }
        let is_answer = heard.message == Message::Answers;
        let is_needed = self.neighbours.is_needed(hop, network);
        let inquiry = *self.inquiry(hop);
        let link = self.link(hop);
        let known = link.is_usable().then_some(link.mac);
        let Some(mac) = heard.mac.or(known) else {
            return;
        };
        let is_same = link.mac == mac;
        match link.state {
            LinkState::Incomplete => self.learn(hop, mac, is_answer, network, now),
            LinkState::Failed if is_answer || !is_needed => {
                self.learn(hop, mac, is_answer, network, now);
            }
            // It is back, it seems: its answer tells.
            LinkState::Failed => {
                if self.looks_into_claim(hop, now) {
                    self.send(hop, mac, tables);
                }
            }
            LinkState::Reachable | LinkState::Stale if is_same => {
                if is_answer {
                    if inquiry.is_doubted
                        && let Some(said) =
                            self.journal.refuted.note((port, address), link.mac, now)
                    {
                        journal::refuted(tables, (port, address), said);
                    }
                    self.learn(hop, mac, true, network, now);
                }
            }
            LinkState::Reachable | LinkState::Stale if is_answer && inquiry.is_silent() => {
                let moved = Moved {
                    from: link.mac,
                    to: mac,
                };
                if let Some(said) = self.journal.moved.note((port, address), moved, now) {
                    journal::moved(tables, (port, address), said);
                }
                self.learn(hop, mac, true, network, now);
            }
            LinkState::Reachable | LinkState::Stale => self.doubt(hop, tables, now),
        }
    }

    /// A host that weir does not know asked for an address of weir's own.
    fn meet(&mut self, port: PortId, address: IpAddr, mac: Mac, network: &Network, now: Time) {
        if let Some(hop) = self.neighbours.meet(port, address, network, now) {
            self.learn(hop, mac, false, network, now);
        }
    }

    /// A neighbour has this MAC address: by its answer, or by something else that it said.
    fn learn(&mut self, hop: HopId, mac: Mac, is_answer: bool, network: &Network, now: Time) {
        self.inquiry(hop).close();
        let before = self.link(hop).state;
        let state = match is_answer {
            true => {
                self.neighbours.touch(hop, now);
                let believed = match self.is_to_confirm(hop, network) {
                    true => self.confirm_period(),
                    false => REACHABLE,
                };
                self.agenda.set(hop, now + believed);
                LinkState::Reachable
            }
            false => {
                self.agenda.clear(hop);
                LinkState::Stale
            }
        };
        self.neighbours.set_link(hop, mac, state);
        if before == LinkState::Failed {
            self.reach(hop, before, network, now);
        }
    }

    /// A next hop has begun or ceased to answer: a line, if the configuration needs it.
    fn reach(&mut self, hop: HopId, before: LinkState, network: &Network, now: Time) {
        let (link, address) = (self.link(hop), self.address(hop));
        let (port, after) = (link.port, link.state);
        if !self.neighbours.is_needed(hop, network) {
            tracing::debug!(
                %address, port = %network.tables.port(port).name,
                was = before.name(), now = after.name(), "neighbour"
            );
            return;
        }
        let what = Reached {
            before,
            after,
            mac: link.mac,
        };
        if let Some(said) = self.journal.reached.note((port, address), what, now) {
            self.reached.push(((port, address), said));
        }
    }

    /// What is to be said since the last call, of next hops that the configuration needs.
    pub fn take_reached(&mut self, now: Time) -> ReachedLines {
        let mut due = self.journal.reached.tick(now);
        let at_once = std::mem::take(&mut self.reached);
        due.subjects.splice(0..0, at_once);
        due
    }

    /// Another host claims a neighbour's address: the neighbour is asked, unless a question is open, which will tell.
    fn doubt(&mut self, hop: HopId, tables: &Tables, now: Time) {
        if self.inquiry(hop).is_open() || !self.looks_into_claim(hop, now) {
            return;
        }
        self.inquiry(hop).is_doubted = true;
        self.ask(hop, tables, now);
    }

    /// Whether weir asks because of a claim: seldom enough for the neighbour, and for its port.
    fn looks_into_claim(&mut self, hop: HopId, now: Time) -> bool {
        let port = self.link(hop).port;
        let is_locked = |doubted| now.since(doubted) < LOCKTIME;
        if self.inquiry(hop).doubted.is_some_and(is_locked)
            || !self.ports[port.index()]
                .claims
                .allow(CLAIMS_PER_SECOND, now)
        {
            return false;
        }
        self.inquiry(hop).doubted = Some(now);
        true
    }

    /// Another host claims an address of weir's own, which weir never gives up: RFC 5227 section 2.4 (c). Where weir keeps
    /// silent of the address, duplicate address detection is told.
    fn defend(&mut self, port: PortId, heard: &Heard, tables: &Tables, now: Time) {
        let Heard {
            sender: address,
            mac: Some(mac),
            ..
        } = *heard
        else {
            return;
        };
        let place = (port, address);
        if tables.is_silent(port, address) {
            self.contested.push((place, mac));
            return;
        }
        if let Some(said) = self.journal.conflict.note(place, mac, now) {
            journal::conflict(tables, place, said);
        }
        let is_recent = |defended: &Time| now.since(*defended) < DEFEND_INTERVAL;
        if !tables.answers_for(port, address)
            || self.defended.get(&place).is_some_and(is_recent)
            || !self.ports[port.index()]
                .defences
                .allow(DEFENCES_PER_SECOND, now)
        {
            return;
        }
        // So that no more are kept than were defended in the interval.
        self.defended.retain(|_, defended| is_recent(defended));
        self.defended.insert(place, now);
        self.orders.push(Order::Announce { port, address });
    }

    /// The addresses that weir keeps silent of, and that other hosts have claimed since the last call, with their MAC
    /// addresses.
    pub fn take_contested(&mut self) -> Vec<((PortId, IpAddr), Mac)> {
        std::mem::take(&mut self.contested)
    }

    /// Has a failed neighbour of this address looked at: the configuration may need it from now on.
    pub fn look_at(&mut self, address: IpAddr) {
        for n in 0..self.ports.len() {
            if let Some(hop) = self.neighbours.table().find(PortId(n as u8), address) {
                self.look_if_failed(hop);
            }
        }
    }

    /// Has all failed neighbours looked at: the routes have changed.
    pub fn look_at_all(&mut self) {
        let hops: Vec<_> = self.neighbours.iter().map(|(hop, ..)| hop).collect();
        hops.into_iter().for_each(|hop| self.look_if_failed(hop));
    }

    fn look_if_failed(&mut self, hop: HopId) {
        if self.agenda.is_clear(hop) && self.link(hop).state == LinkState::Failed {
            self.plan_probe(hop, self.clock);
        }
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Time> {
        self.agenda.next_due()
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, network: &Network, now: Time) {
        self.clock = now;
        while let Some((due, hop)) = self.agenda.pop(now) {
            let inquiry = *self.inquiry(hop);
            match (self.link(hop).state, inquiry.tries) {
                (LinkState::Failed, _) => self.probe(hop, network, now),
                // It stays reachable for the workers until it is silent.
                (LinkState::Reachable, 0) if self.is_to_confirm(hop, network) => {
                    self.inquiry(hop).is_confirmed = true;
                    self.ask(hop, network.tables, now);
                }
                (LinkState::Incomplete | LinkState::Stale, 0) => self.ask(hop, network.tables, now),
                (_, 0) => self.neighbours.set_state(hop, LinkState::Stale),
                (_, tries) if tries < inquiry.last_try() => self.ask(hop, network.tables, due),
                (before, _) => {
                    self.inquiry(hop).close();
                    self.neighbours.set_state(hop, LinkState::Failed);
                    if self.neighbours.is_needed(hop, network) {
                        self.plan_probe(hop, due + self.probe_period());
                    }
                    self.reach(hop, before, network, now);
                }
            }
        }
        self.journal.tick(network.tables, now);
    }

    /// Plans a question about a failed neighbour, not before `from`.
    fn plan_probe(&mut self, hop: HopId, from: Time) {
        self.last_probe = from.max(self.last_probe + PROBE_SPACING);
        self.agenda.set(hop, self.last_probe);
    }

    /// Asks for a failed neighbour, and goes on so, if the configuration needs it.
    fn probe(&mut self, hop: HopId, network: &Network, now: Time) {
        if self.neighbours.is_needed(hop, network) {
            self.send(hop, Mac::BROADCAST, network.tables);
            self.plan_probe(hop, now + self.probe_period());
        }
    }

    /// The questions to send since the last call.
    pub fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }
}

#[cfg(test)]
mod confirm_tests;
#[cfg(test)]
mod log_tests;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

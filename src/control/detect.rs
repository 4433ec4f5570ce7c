//! Duplicate address detection (RFC 4862 section 5.4): before weir answers for an IPv6 address of its own, it asks whether
//! another host on the link has it. Where one has, weir keeps silent of the address: it neither answers neighbour
//! solicitations for it nor announces it.

use super::announce::{MAX_WAITING, Place};
use crate::exchange::{Mailbox, Order};
use crate::units::{PortId, Time};
use crate::wire::Mac;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long another host has to answer (RetransTimer; one question is asked, as DupAddrDetectTransmits has it).
const WAIT: Duration = Duration::from_secs(1);
/// Between two times that workers are told of addresses that are free.
const AT_LEAST: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not asked for yet.
    Waiting,
    Asked(Time),
    /// Another host has it, or wants it as well.
    Duplicate,
}

/// The IPv6 addresses of weir's own that are not known to be free.
#[derive(Debug, Default)]
pub struct Detection {
    places: HashMap<Place, State>,
    /// By port: what is to be asked for.
    waiting: Vec<VecDeque<IpAddr>>,
    /// In the order in which they were asked for.
    asked: VecDeque<(Time, Place)>,
    /// Whether there are more since the workers were last told, and whether there are fewer.
    has_more: bool,
    has_fewer: bool,
    told: Time,
}

impl Detection {
    /// Has new addresses asked for, as soon as their ports' links are up.
    pub fn add(&mut self, places: impl IntoIterator<Item = Place>) {
        for place in places {
            self.has_more |= self.places.insert(place, State::Waiting).is_none();
            self.wait(place);
        }
    }

    fn wait(&mut self, (port, address): Place) {
        let ports = self.waiting.len().max(port.index() + 1);
        self.waiting.resize(ports, VecDeque::new());
        self.waiting[port.index()].push_back(address);
    }

    /// Keeps only these places.
    pub fn retain(&mut self, is_kept: impl Fn(&Place) -> bool) {
        let before = self.places.len();
        self.places.retain(|place, _| is_kept(place));
        self.has_fewer |= self.places.len() != before;
    }

    /// A port's link has come up, and may lead elsewhere: duplicates are asked for again.
    pub fn link_came_up(&mut self, port: PortId) {
        let is_again =
            |(place, state): &(&Place, &mut State)| place.0 == port && **state == State::Duplicate;
        let again = self.places.iter_mut().filter(is_again);
        let mut again: Vec<_> = again
            .map(|(place, state)| {
                *state = State::Waiting;
                *place
            })
            .collect();
        again.sort_unstable();
        again.into_iter().for_each(|place| self.wait(place));
    }

    /// Another host, at this MAC address, has an address or wants it. Returns whether that is news.
    pub fn contest(&mut self, place: Place, mac: Mac, port: &str) -> bool {
        let Some(state) = self.places.get_mut(&place) else {
            return false;
        };
        if *state == State::Duplicate {
            return false;
        }
        *state = State::Duplicate;
        tracing::error!(
            address = %place.1, %mac, port,
            "duplicate address: another host has it, so weir keeps silent of it until the port's link comes up again or weir is \
             restarted"
        );
        true
    }

    /// Orders the questions that are due, as far as the worker keeps up. Returns the addresses that turned out to be free.
    pub fn tick(
        &mut self,
        mailbox: &Mailbox,
        is_up: impl Fn(PortId) -> bool,
        now: Time,
    ) -> Vec<Place> {
        for (n, waiting) in self.waiting.iter_mut().enumerate() {
            let port = PortId(n as u8);
            if waiting.is_empty() || !is_up(port) {
                continue;
            }
            while mailbox.orders.len() < MAX_WAITING
                && let Some(address) = waiting.pop_front()
            {
                let IpAddr::V6(target) = address else {
                    continue;
                };
                // It may have gone since.
                if let Some(state @ State::Waiting) = self.places.get_mut(&(port, address)) {
                    *state = State::Asked(now);
                    self.asked.push_back((now, (port, address)));
                    let order = Order::Probe {
                        port,
                        address: target,
                    };
                    let _ = mailbox.orders.push(order);
                }
            }
        }
        let mut free = Vec::new();
        while let Some(&(since, place)) = self.asked.front()
            && now >= since + WAIT
        {
            self.asked.pop_front();
            if self.places.get(&place) == Some(&State::Asked(since)) {
                self.places.remove(&place);
                free.push(place);
            }
        }
        self.has_fewer |= !free.is_empty();
        free
    }

    /// Whether there is more to ask for, as far as ports' links are up.
    pub fn is_busy(&self, is_up: impl Fn(PortId) -> bool) -> bool {
        let mut waiting = self.waiting.iter().enumerate();
        waiting.any(|(n, waiting)| !waiting.is_empty() && is_up(PortId(n as u8)))
    }

    /// The addresses that weir is to keep silent of, in their order, if they are others than at the last call. Of very many
    /// some turn out to be free in every turn, and workers need not be told each time.
    pub fn take_silent(&mut self, now: Time) -> Option<Arc<[Place]>> {
        if !(self.has_more || self.has_fewer && now >= self.told + AT_LEAST) {
            return None;
        }
        (self.has_more, self.has_fewer, self.told) = (false, false, now);
        let mut places: Vec<_> = self.places.keys().copied().collect();
        places.sort_unstable();
        Some(places.into())
    }

    /// Whether weir is to keep silent of an address.
    pub fn is_silent(&self, place: &Place) -> bool {
        self.places.contains_key(place)
    }

    /// The addresses of a port that another host has, in their order.
    pub fn duplicates(&self, port: PortId) -> Vec<IpAddr> {
        let of = |(place, state): (&Place, &State)| {
            (place.0 == port && *state == State::Duplicate).then_some(place.1)
        };
        let mut duplicates: Vec<_> = self.places.iter().filter_map(of).collect();
        duplicates.sort_unstable();
        duplicates
    }
}

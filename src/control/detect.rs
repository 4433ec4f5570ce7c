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
    /// For each port, the addresses whose probes are not sent yet.
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

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 1, 9]);

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn place(port: u8, last: u16) -> Place {
        let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        (PortId(port), address.into())
    }

    /// What was asked for, by the last group of each address.
    fn asked(mailbox: &Mailbox) -> Vec<u16> {
        let orders = std::iter::from_fn(|| mailbox.orders.pop());
        let last = |order| match order {
            Order::Probe { address, .. } => address.segments()[7],
            other => panic!("{other:?}"),
        };
        orders.map(last).collect()
    }

    /// Runs the detection at `millis`: what it asked for, what turned out to be free, what it keeps silent of.
    fn tick(
        detection: &mut Detection,
        up: &[u8],
        millis: u64,
    ) -> (Vec<u16>, Vec<Place>, Option<usize>) {
        let mailbox = Mailbox::default();
        let free = detection.tick(&mailbox, |port| up.contains(&port.0), at(millis));
        let silent = detection.take_silent(at(millis));
        (asked(&mailbox), free, silent.map(|silent| silent.len()))
    }

    #[test]
    fn an_address_is_free_after_a_second_without_a_claim() {
        let mut detection = Detection::default();
        detection.add([place(0, 1), place(1, 2), place(0, 3)]);
        assert_eq!(tick(&mut detection, &[0], 0), (vec![1, 3], vec![], Some(3)));
        assert!(detection.is_silent(&place(0, 1)));
        assert!(!detection.is_busy(|port| port.0 == 0) && detection.is_busy(|_| true));
        assert!(detection.contest(place(0, 3), MAC, "wan"));
        assert!(!detection.contest(place(0, 3), MAC, "wan"), "no news");
        assert!(!detection.contest(place(0, 9), MAC, "wan"), "not weir's");
        assert_eq!(tick(&mut detection, &[0], 999), (vec![], vec![], None));
        assert_eq!(
            tick(&mut detection, &[0], 1000),
            (vec![], vec![place(0, 1)], Some(2))
        );
        assert_eq!(detection.duplicates(PortId(0)), [place(0, 3).1]);
        // The other port's link comes up, at last.
        assert_eq!(tick(&mut detection, &[0, 1], 5000), (vec![2], vec![], None));
        let free = vec![place(1, 2)];
        assert_eq!(tick(&mut detection, &[0, 1], 6000), (vec![], free, Some(1)));
        assert_eq!(
            tick(&mut detection, &[0, 1], 99_000),
            (vec![], vec![], None)
        );
        // It is asked for again when the link may lead elsewhere.
        detection.link_came_up(PortId(1));
        assert_eq!(
            tick(&mut detection, &[0, 1], 99_001),
            (vec![], vec![], None)
        );
        detection.link_came_up(PortId(0));
        assert_eq!(tick(&mut detection, &[0], 99_002), (vec![3], vec![], None));
        let free = vec![place(0, 3)];
        assert_eq!(tick(&mut detection, &[0], 100_002), (vec![], free, Some(0)));
    }

    #[test]
    fn what_is_gone_is_not_asked_for_and_what_comes_back_is_anew() {
        let mut detection = Detection::default();
        detection.add([place(0, 1), place(0, 2)]);
        detection.retain(|kept| *kept != place(0, 1));
        assert_eq!(tick(&mut detection, &[0], 0), (vec![2], vec![], Some(1)));
        detection.retain(|_| false);
        detection.add([place(0, 2)]);
        assert_eq!(tick(&mut detection, &[0], 500), (vec![2], vec![], Some(1)));
        assert_eq!(tick(&mut detection, &[0], 1000), (vec![], vec![], None));
        let free = vec![place(0, 2)];
        assert_eq!(tick(&mut detection, &[0], 1500), (vec![], free, Some(0)));
    }

    #[test]
    fn questions_never_overflow_the_workers_queue_and_workers_are_not_told_of_each_answer() {
        let (mut detection, mailbox) = (Detection::default(), Mailbox::default());
        detection.add((0..5000).map(|n| place(0, n)));
        let (mut total, mut free, mut told) = (0, 0, 0);
        for millis in 0..3000 {
            free += detection.tick(&mailbox, |_| true, at(millis)).len();
            assert!(mailbox.orders.len() <= MAX_WAITING);
            total += asked(&mailbox).len();
            told += usize::from(detection.take_silent(at(millis)).is_some());
        }
        assert_eq!((total, free), (5000, 5000));
        assert!(told < 10, "{told} times");
        assert!(detection.places.is_empty() && detection.asked.is_empty());
    }
}

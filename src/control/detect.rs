//! Duplicate address detection (RFC 4862 section 5.4): before weir answers for an IPv6 address of its own, it asks whether
//! another host on the link has it. Where one has, weir keeps silent of the address: it neither answers neighbour
//! solicitations for it nor announces it.
//!
//! It asks again, after longer and longer pauses, and takes the address up once no host claims it: else one forged claim would
//! silence a VIP for good.

use super::announce::{MAX_WAITING, Place};
use crate::exchange::{Mailbox, Order};
use crate::resolver::pace::Pace;
use crate::units::{PortId, Time};
use crate::wire::Mac;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long another host has to answer (RetransTimer; one question is asked, as DupAddrDetectTransmits has it).
const WAIT: Duration = Duration::from_secs(1);
/// Between a claim and the next question: twice as long after each claim, up to the longest; and up to a quarter more, so
/// that two hosts that want an address do not ask at the same time for ever.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(64);
/// How often such questions are asked on all ports.
const AGAIN_PER_SECOND: u32 = 100;
/// Between two times that workers are told of addresses that are free.
const AT_LEAST: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its question is about to be asked.
    Waiting,
    Asked(Time),
    /// Another host has it, or wants it as well: it is not asked for again before.
    Claimed(Time),
}

#[derive(Clone, Copy, Debug)]
struct Detected {
    state: State,
    /// In how many detections in a row another host has claimed it.
    claims: u32,
}

/// The IPv6 addresses of weir's own that are not known to be free.
#[derive(Debug, Default)]
pub(super) struct Detection {
    places: HashMap<Place, Detected>,
    /// For each port, the addresses in [`State::Waiting`]: their questions are not sent yet.
    waiting: Vec<VecDeque<IpAddr>>,
    /// In the order in which they were asked for.
    asked: VecDeque<(Time, Place)>,
    /// Those that are [`State::Claimed`], by the time from which they are asked for again.
    claimed: BTreeSet<(Time, Place)>,
    again: Pace,
    /// Spreads the pauses.
    random: RandomState,
    /// Whether there are more since the workers were last told, and whether there are fewer.
    has_more: bool,
    has_fewer: bool,
    told: Time,
}

impl Detection {
    /// Has new addresses asked for, as soon as their ports' links are up.
    pub(super) fn add(&mut self, places: impl IntoIterator<Item = Place>) {
        let new = Detected {
            state: State::Waiting,
            claims: 0,
        };
        for place in places {
            let before = self.places.insert(place, new);
            self.has_more |= before.is_none();
            self.wait(place, before);
        }
    }

    /// Has a place asked for that was in another state before.
    fn wait(&mut self, place: Place, before: Option<Detected>) {
        match before.map(|before| before.state) {
            Some(State::Waiting) => return,
            Some(State::Claimed(until)) => drop(self.claimed.remove(&(until, place))),
            Some(State::Asked(_)) | None => {}
        }
        let (port, address) = place;
        let ports = self.waiting.len().max(port.index() + 1);
        self.waiting.resize(ports, VecDeque::new());
        self.waiting[port.index()].push_back(address);
    }

    /// Keeps only these places.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&Place) -> bool) {
        let before = self.places.len();
        self.places.retain(|place, _| is_kept(place));
        if self.places.len() == before {
            return;
        }
        self.has_fewer = true;
        self.claimed.retain(|(_, place)| is_kept(place));
        for (n, waiting) in self.waiting.iter_mut().enumerate() {
            waiting.retain(|address| is_kept(&(PortId(n as u8), *address)));
        }
    }

    /// A port's link has come up, and may lead elsewhere: what another host claimed is asked for again, as if it were new.
    pub(super) fn link_came_up(&mut self, port: PortId) {
        let claimed = self.claimed.iter().map(|(_, place)| *place);
        let mut again: Vec<_> = claimed.filter(|place| place.0 == port).collect();
        again.sort_unstable();
        self.add(again);
    }

    /// Another host, at this MAC address, has an address or wants it. Returns whether that is news.
    pub(super) fn contest(&mut self, place: Place, mac: Mac, port: &str, now: Time) -> bool {
        let Some(detected) = self.places.get_mut(&place) else {
            return false;
        };
        match detected.state {
            State::Claimed(_) => return false,
            State::Waiting => self.waiting[place.0.index()].retain(|address| *address != place.1),
            State::Asked(_) => {}
        }
        let doubled = FIRST_PAUSE * (1 << detected.claims.min(5));
        let pause = doubled.min(LONGEST_PAUSE);
        let part = self.random.hash_one((place, now.nanos())) % 1024;
        let until = now + pause + pause / 4 * part as u32 / 1024;
        detected.claims = detected.claims.saturating_add(1);
        detected.state = State::Claimed(until);
        self.claimed.insert((until, place));
        if detected.claims > 1 {
            return false;
        }
        tracing::error!(
            address = %place.1, %mac, port,
            "duplicate address: another host has it, so weir keeps silent of it, asks again at least every 80 seconds, and takes it \
             up once no host claims it"
        );
        true
    }

    /// Orders the questions that are due, as far as the worker keeps up. Returns the addresses that turned out to be free, each
    /// with whether another host had claimed it before.
    pub(super) fn tick(
        &mut self,
        mailbox: &Mailbox,
        is_up: impl Fn(PortId) -> bool,
        now: Time,
    ) -> Vec<(Place, bool)> {
        while let Some(&(until, place)) = self.claimed.first()
            && until <= now
            && self.again.allow(AGAIN_PER_SECOND, now)
        {
            let before = self.places.get(&place).copied();
            if let Some(detected) = self.places.get_mut(&place) {
                detected.state = State::Waiting;
                self.wait(place, before);
            }
        }
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
                if let Some(detected) = self.places.get_mut(&(port, address)) {
                    detected.state = State::Asked(now);
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
            let detected = self.places.get(&place);
            if let Some(Detected { state, claims }) = detected.copied()
                && state == State::Asked(since)
            {
                self.places.remove(&place);
                free.push((place, claims > 0));
            }
        }
        self.has_fewer |= !free.is_empty();
        free
    }

    /// Whether there is more to ask for, as far as ports' links are up.
    pub(super) fn is_busy(&self, is_up: impl Fn(PortId) -> bool) -> bool {
        let mut waiting = self.waiting.iter().enumerate();
        waiting.any(|(n, waiting)| !waiting.is_empty() && is_up(PortId(n as u8)))
    }

    /// The addresses that weir is to keep silent of, in their order, if they are others than at the last call. Of very many
    /// some turn out to be free in every turn, and workers need not be told each time.
    pub(super) fn take_silent(&mut self, now: Time) -> Option<Arc<[Place]>> {
        if !(self.has_more || self.has_fewer && now >= self.told + AT_LEAST) {
            return None;
        }
        (self.has_more, self.has_fewer, self.told) = (false, false, now);
        let mut places: Vec<_> = self.places.keys().copied().collect();
        places.sort_unstable();
        Some(places.into())
    }

    /// Whether weir is to keep silent of an address.
    pub(super) fn is_silent(&self, place: &Place) -> bool {
        self.places.contains_key(place)
    }

    /// The addresses of a port that another host has claimed, in their order.
    pub(super) fn duplicates(&self, port: PortId) -> Vec<IpAddr> {
        let of = |(place, detected): (&Place, &Detected)| {
            (place.0 == port && detected.claims > 0).then_some(place.1)
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
        let free = free.into_iter().map(|(place, _)| place).collect();
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
        assert!(detection.contest(place(0, 3), MAC, "wan", at(0)));
        assert!(
            !detection.contest(place(0, 3), MAC, "wan", at(0)),
            "no news"
        );
        assert!(
            !detection.contest(place(0, 9), MAC, "wan", at(0)),
            "not weir's"
        );
        assert_eq!(tick(&mut detection, &[0], 999), (vec![], vec![], None));
        assert_eq!(
            tick(&mut detection, &[0], 1000),
            (vec![], vec![place(0, 1)], Some(2))
        );
        assert_eq!(detection.duplicates(PortId(0)), [place(0, 3).1]);
        // The other port's link comes up, at last.
        assert_eq!(tick(&mut detection, &[0, 1], 1500), (vec![2], vec![], None));
        // It is asked for again when the link may lead elsewhere.
        detection.link_came_up(PortId(1));
        assert_eq!(tick(&mut detection, &[0, 1], 1501), (vec![], vec![], None));
        detection.link_came_up(PortId(0));
        assert!(detection.duplicates(PortId(0)).is_empty());
        assert_eq!(tick(&mut detection, &[0, 1], 1502), (vec![3], vec![], None));
        let free = vec![place(1, 2), place(0, 3)];
        assert_eq!(tick(&mut detection, &[0, 1], 2502), (vec![], free, Some(0)));
        assert_eq!(
            tick(&mut detection, &[0, 1], 99_000),
            (vec![], vec![], None)
        );
    }

    #[test]
    fn what_is_claimed_is_asked_for_again_after_longer_and_longer_pauses_and_taken_up() {
        let mut detection = Detection::default();
        let mailbox = Mailbox::default();
        detection.add([place(0, 1)]);
        let mut questions = Vec::new();
        let mut claims = 0;
        for millis in (0..600_000).step_by(10) {
            let free = detection.tick(&mailbox, |_| true, at(millis));
            assert!(free.is_empty());
            for _ in asked(&mailbox) {
                questions.push(millis);
                let is_news = detection.contest(place(0, 1), MAC, "wan", at(millis));
                assert_eq!(is_news, claims == 0, "one line");
                claims += 1;
            }
            assert_eq!(detection.duplicates(PortId(0)), [place(0, 1).1]);
            assert!(detection.is_silent(&place(0, 1)) && detection.claimed.len() == 1);
        }
        let pauses = questions.windows(2).map(|pair| pair[1] - pair[0]);
        let bounds = [2, 4, 8, 16, 32].into_iter().chain(std::iter::repeat(64));
        for (pause, least) in pauses.zip(bounds) {
            let least = least * 1000;
            assert!(
                (least..=least / 4 * 5 + 10).contains(&pause),
                "{pause}, {least}"
            );
        }
        assert!(questions.len() > 10);
        // No host claims it any longer.
        let mut free = Vec::new();
        for millis in (600_000..690_000).step_by(10) {
            free.extend(detection.tick(&mailbox, |_| true, at(millis)));
            mailbox.orders.pop();
        }
        assert_eq!(free, [(place(0, 1), true)]);
        assert!(detection.places.is_empty() && detection.duplicates(PortId(0)).is_empty());
    }

    #[test]
    fn two_that_want_an_address_end_with_one_that_has_it() {
        for seed in 0..20 {
            let mailbox = Mailbox::default();
            let mut both = [Detection::default(), Detection::default()];
            both.iter_mut().for_each(|one| one.add([place(0, 1)]));
            let mut owner = None;
            for millis in (0..300_000).step_by(10) {
                for n in 0..2 {
                    let free = both[n].tick(&mailbox, |_| true, at(millis + seed));
                    if !free.is_empty() {
                        assert_eq!(owner, None, "both have it");
                        owner = Some(n);
                    }
                    // Each hears the other's question, and the owner's answer.
                    for _ in asked(&mailbox) {
                        both[1 - n].contest(place(0, 1), MAC, "wan", at(millis + seed));
                        if owner == Some(1 - n) {
                            both[n].contest(place(0, 1), MAC, "wan", at(millis + seed));
                        }
                    }
                }
            }
            assert!(owner.is_some());
        }
    }

    #[test]
    fn what_waits_for_a_link_is_bounded_by_what_there_is() {
        let mut detection = Detection::default();
        for n in 0..1000 {
            let places = [place(0, 1), place(0, 2 + n % 5)];
            detection.add(places);
            detection.contest(place(0, 1), MAC, "wan", at(n.into()));
            detection.retain(|kept| *kept == place(0, 1));
            detection.add([place(0, 1)]);
            detection.tick(&Mailbox::default(), |_| false, at(n.into()));
            assert!(detection.waiting[0].len() <= 1 && detection.claimed.len() <= 1);
        }
    }

    #[test]
    fn very_many_duplicates_are_asked_for_at_a_bounded_rate() {
        let (mut detection, mailbox) = (Detection::default(), Mailbox::default());
        detection.add((0..5000).map(|n| place(0, n)));
        let mut total = 0;
        for millis in (0..100_000).step_by(5) {
            detection.tick(&mailbox, |_| true, at(millis));
            for n in asked(&mailbox) {
                total += 1;
                detection.contest(place(0, n), MAC, "wan", at(millis));
            }
        }
        assert!((5000 + 9_000..5000 + 10_200).contains(&total), "{total}");
        assert_eq!(detection.claimed.len() + detection.waiting[0].len(), 5000);
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

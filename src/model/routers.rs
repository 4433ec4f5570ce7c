//! Default routers that routers' advertisements name (RFC 4861 section 6.3.4), on ports with `accept_ra`.
//!
//! One of them has the default route of IPv6, if the configuration gives none: the one heard first, for as long as it lives and
//! has not failed to answer. A few are remembered of each port, and the route changes at most once a second, whatever a
//! host on the link says.
//!
//! Any host on the link can make up routers. So where there is no room for another, the one that is worth least makes room
//! (see [`Standing`]), of those that are worth the same the one that has been silent for the longest time; and the new one
//! is asked for by neighbour solicitations, a few a second. So made-up routers keep none out that is there.

use crate::config::Config;
use crate::neighbour::{LinkState, NeighbourTable};
use crate::resolver::pace::Pace;
use crate::units::{PortId, Time};
use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::Duration;

/// How many are remembered of each port. RFC 4861 section 6.3.4 asks for two at least.
const MOST: usize = 8;
/// Between two changes of the route.
const PAUSE: Duration = Duration::from_secs(1);
/// How many are asked for on each port, since they are new.
const ASKED_PER_SECOND: u32 = 8;

/// What a router is worth: whether it answers neighbour solicitations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Failed,
    /// It has not been asked, or not answered yet.
    Unknown,
    Answers,
}

impl Standing {
    /// What the neighbour table says of a router.
    pub(super) fn of(table: &NeighbourTable, port: PortId, address: Ipv6Addr) -> Standing {
        let link = table.find(port, address).map(|hop| table.link(hop));
        match link {
            Some(link) if link.state == LinkState::Failed => Standing::Failed,
            Some(link) if link.is_usable() => Standing::Answers,
            _ => Standing::Unknown,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Router {
    port: PortId,
    address: Ipv6Addr,
    /// Its last advertisement came then.
    heard: Time,
    /// It is no default router from then on.
    until: Time,
}

impl Router {
    fn place(&self) -> (PortId, Ipv6Addr) {
        (self.port, self.address)
    }
}

#[derive(Debug, Default)]
pub(super) struct Routers {
    /// In the order in which they were first heard.
    known: Vec<Router>,
    /// The one that has the default route.
    chosen: Option<(PortId, Ipv6Addr)>,
    /// The route does not change before.
    quiet: Time,
    /// Of each port, how often routers are asked for.
    asked: HashMap<PortId, Pace>,
}

/// What an advertisement led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The router that made room for the new one.
    pub displaced: Option<Ipv6Addr>,
    /// Whether to ask for the new one.
    pub is_to_ask: bool,
}

impl Routers {
    /// A router says for how long it is one; for no time: it is none from now on (RFC 4861 section 6.3.4). `standing`: what a
    /// router is worth.
    pub(super) fn heard(
        &mut self,
        port: PortId,
        address: Ipv6Addr,
        lifetime: Duration,
        standing: impl Fn(PortId, Ipv6Addr) -> Standing,
        now: Time,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let place = (port, address);
        let known = self.known.iter().position(|router| router.place() == place);
        let router = Router {
            port,
            address,
            heard: now,
            until: now + lifetime,
        };
        match known {
            Some(n) if lifetime.is_zero() => drop(self.known.remove(n)),
            Some(n) => self.known[n] = router,
            None if lifetime.is_zero() => {}
            None => {
                let on_port = self.known.iter().filter(|router| router.port == port);
                let count = on_port.count();
                if count >= MOST {
                    outcome.displaced = self.make_room(port, &standing);
                }
                if count < MOST || outcome.displaced.is_some() {
                    self.known.push(router);
                    let pace = self.asked.entry(port).or_default();
                    outcome.is_to_ask = count >= MOST
                        && standing(port, address) == Standing::Unknown
                        && pace.allow(ASKED_PER_SECOND, now);
                }
            }
        }
        outcome
    }

    /// Forgets the router of a port that is worth least: never the one that has the route, unless that has failed.
    fn make_room(
        &mut self,
        port: PortId,
        standing: impl Fn(PortId, Ipv6Addr) -> Standing,
    ) -> Option<Ipv6Addr> {
        let worth = |router: &Router| standing(router.port, router.address);
        let may_go = |router: &Router| {
            router.port == port
                && (self.chosen != Some(router.place()) || worth(router) == Standing::Failed)
        };
        let routers = self.known.iter().enumerate();
        let candidates = routers.filter(|(_, router)| may_go(router));
        let least = candidates.min_by_key(|(_, router)| (worth(router), router.heard));
        let (n, _) = least?;
        Some(self.known.remove(n).address)
    }

    /// Forgets the routers of ports that no longer heed them.
    pub(super) fn follow(&mut self, config: &Config) {
        let is_heeded = |router: &Router| config.ports[router.port.index()].accept_ra;
        self.known.retain(is_heeded);
        let known = &self.known;
        let is_known = |chosen: &_| known.iter().any(|router| router.place() == *chosen);
        self.chosen = self.chosen.filter(is_known);
    }

    /// The router of the default route.
    pub(super) fn chosen(&self) -> Option<(PortId, Ipv6Addr)> {
        self.chosen
    }

    /// Chooses anew. Returns whether the route is another one.
    pub(super) fn choose(
        &mut self,
        standing: impl Fn(PortId, Ipv6Addr) -> Standing,
        now: Time,
    ) -> bool {
        self.known.retain(|router| now < router.until);
        if now < self.quiet {
            return false;
        }
        let worth = |&(port, address): &(PortId, Ipv6Addr)| standing(port, address);
        let known = || self.known.iter().map(Router::place);
        let kept = self.chosen.filter(|chosen| known().any(|it| it == *chosen));
        // Of those that are worth the same, the last one.
        let others = || known().rev().max_by_key(worth);
        let best = match kept {
            Some(chosen) if worth(&chosen) > Standing::Failed => kept,
            _ => others()
                .filter(|other| worth(other) > Standing::Failed)
                .or(kept)
                .or_else(others),
        };
        let has_changed = best != self.chosen;
        if has_changed {
            self.chosen = best;
            self.quiet = now + PAUSE;
        }
        has_changed
    }

    /// When to choose anew at the latest, though nothing happens.
    pub(super) fn next_due(&self) -> Option<Time> {
        let next = self.known.iter().map(|router| router.until).min();
        next.map(|due| due.max(self.quiet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PORT: PortId = PortId(0);

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn router(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n)
    }

    fn number(address: Ipv6Addr) -> u16 {
        address.segments()[7]
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn unknown(_: PortId, _: Ipv6Addr) -> Standing {
        Standing::Unknown
    }

    #[test]
    fn the_first_one_keeps_the_route_while_it_lives_and_answers() {
        let mut routers = Routers::default();
        let chosen = |routers: &Routers| routers.chosen().map(|(_, address)| number(address));
        let fail = |failed: &'static [u16]| {
            move |_: PortId, address| match failed.contains(&number(address)) {
                true => Standing::Failed,
                false => Standing::Unknown,
            }
        };
        assert!(!routers.choose(unknown, at(0)));
        routers.heard(PORT, router(1), seconds(10), unknown, at(0));
        assert!(routers.choose(unknown, at(0)));
        routers.heard(PORT, router(2), seconds(60), unknown, at(100));
        assert!(!routers.choose(unknown, at(2000)));
        assert_eq!(chosen(&routers), Some(1));
        // It fails: the other has it, and keeps it when the first is back.
        assert!(routers.choose(fail(&[1]), at(3000)));
        assert_eq!(chosen(&routers), Some(2));
        assert!(!routers.choose(unknown, at(5000)));
        // Both fail: it stays where it is.
        assert!(!routers.choose(fail(&[1, 2]), at(6000)));
        // It says that it is none from now on; but the first one's time is over.
        routers.heard(PORT, router(2), seconds(0), unknown, at(10_000));
        assert!(routers.choose(unknown, at(10_000)));
        assert_eq!(chosen(&routers), None);
        assert_eq!(routers.next_due(), None);
    }

    #[test]
    fn where_there_is_no_room_the_one_that_is_worth_least_goes() {
        use Standing::{Answers, Failed, Unknown};
        // Of each router, in the order in which they were heard, what it is worth; which one makes room. The first has the route.
        let cases: [([Standing; MOST], u16); 6] = [
            ([Unknown; MOST], 1),
            ([Answers; MOST], 1),
            ([Failed; MOST], 0),
            (
                [
                    Answers, Unknown, Answers, Failed, Failed, Unknown, Answers, Unknown,
                ],
                3,
            ),
            (
                [
                    Failed, Unknown, Answers, Answers, Answers, Unknown, Answers, Answers,
                ],
                0,
            ),
            (
                [
                    Answers, Answers, Answers, Unknown, Answers, Unknown, Answers, Answers,
                ],
                3,
            ),
        ];
        for (standings, expected) in cases {
            let standing = |_: PortId, address| {
                let known = standings.get(usize::from(number(address)));
                known.copied().unwrap_or(Unknown)
            };
            let mut routers = Routers::default();
            for n in 0..MOST as u16 {
                let heard = at(u64::from(n) * 1000);
                let outcome = routers.heard(PORT, router(n), seconds(1800), standing, heard);
                assert_eq!(outcome.displaced, None);
                routers.choose(unknown, heard);
            }
            let outcome = routers.heard(PORT, router(99), seconds(1), standing, at(9000));
            let expected = Outcome {
                displaced: Some(router(expected)),
                is_to_ask: true,
            };
            assert_eq!(outcome, expected, "{standings:?}");
        }
    }

    #[test]
    fn a_host_that_says_much_changes_the_route_once_a_second_and_fills_little() {
        let mut routers = Routers::default();
        let (mut changes, mut asked) = (0, 0);
        for n in 0..10_000u64 {
            let lifetime = seconds(if n % 2 == 0 { 1800 } else { 0 });
            let made_up = router(n as u16 + 100);
            for (address, lifetime) in [(router(7), lifetime), (made_up, seconds(1800))] {
                let outcome = routers.heard(PORT, address, lifetime, unknown, at(n));
                asked += u32::from(outcome.is_to_ask);
            }
            changes += u64::from(routers.choose(unknown, at(n)));
            assert!(routers.known.len() <= MOST);
        }
        assert!(changes <= 11, "{changes}");
        assert!((80..=88).contains(&asked), "{asked}");
        routers.heard(PortId(1), router(1), seconds(5), unknown, at(10_000));
        assert_eq!(routers.known.len(), MOST + 1, "another port's has room");
    }

    proptest! {
        /// However many routers are made up, one that is there gets in, and gets the route once the one that has it fails.
        #[test]
        fn made_up_routers_keep_none_out(
            made_up in prop::collection::vec((100u16..140, 1u64..10_000), 0..200),
            again in prop::collection::vec((100u16..140, 1u64..10_000), 0..200),
        ) {
            let mut routers = Routers::default();
            // What is asked for answers if it is there; what has the route is asked for by packets.
            let mut asked: HashMap<Ipv6Addr, Standing> = HashMap::new();
            let mut millis = 0;
            let real = (1, 20_000);
            let first = made_up.iter().copied().chain([real]);
            for (n, lifetime) in first.chain(again.iter().copied()).chain([real]) {
                millis += 200;
                let standings = asked.clone();
                let standing = |_: PortId, address| {
                    standings.get(&address).copied().unwrap_or(Standing::Unknown)
                };
                let was_chosen = routers.chosen();
                let outcome = routers.heard(PORT, router(n), seconds(lifetime), standing, at(millis));
                prop_assert!(routers.known.len() <= MOST);
                if let Some(displaced) = outcome.displaced {
                    prop_assert!(standings.get(&displaced) != Some(&Standing::Answers));
                    prop_assert!(was_chosen != Some((PORT, displaced)) || standings[&displaced] == Standing::Failed);
                }
                routers.choose(standing, at(millis));
                let by_packets = routers.chosen().map(|(_, address)| address);
                let by_weir = outcome.is_to_ask.then_some(router(n));
                for address in by_packets.into_iter().chain(by_weir) {
                    let is_there = address == router(1);
                    asked.insert(address, if is_there { Standing::Answers } else { Standing::Failed });
                }
            }
            // Packets ask for one after the other.
            for _ in 0..MOST {
                millis += 2000;
                let standings = asked.clone();
                let standing = |_: PortId, address| {
                    standings.get(&address).copied().unwrap_or(Standing::Unknown)
                };
                routers.choose(standing, at(millis));
                let chosen = routers.chosen().map(|(_, address)| address);
                asked.extend(chosen.filter(|chosen| *chosen != router(1)).map(|chosen| (chosen, Standing::Failed)));
            }
            prop_assert_eq!(routers.chosen(), Some((PORT, router(1))));
        }
    }
}

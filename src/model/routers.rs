//! Default routers that routers' advertisements name (RFC 4861 section 6.3.4), on ports with `accept_ra`.
//!
//! One of them has the default route of IPv6, if the configuration gives none: the one heard first, for as long as it lives and
//! has not failed to answer. So many are remembered of each port, and the route changes at most once a second, whatever a
//! host on the link says.

use crate::config::Config;
use crate::units::{PortId, Time};
use std::net::Ipv6Addr;
use std::time::Duration;

/// RFC 4861 section 6.3.4 asks for two at least.
const MOST: usize = 8;
/// Between two changes of the route.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Router {
    port: PortId,
    address: Ipv6Addr,
    /// It is none any more then.
    until: Time,
}

#[derive(Debug, Default)]
pub(super) struct Routers {
    /// In the order in which they were first heard.
    known: Vec<Router>,
    /// The one that has the default route.
    chosen: Option<(PortId, Ipv6Addr)>,
    /// The route does not change before.
    quiet: Time,
}

impl Routers {
    /// A router says for how long it is one; for no time: it is none any more (RFC 4861 section 6.3.4).
    pub fn heard(&mut self, port: PortId, address: Ipv6Addr, lifetime: Duration, now: Time) {
        let is_it = |router: &Router| (router.port, router.address) == (port, address);
        let place = self.known.iter().position(is_it);
        let until = now + lifetime;
        match place {
            Some(place) if lifetime.is_zero() => drop(self.known.remove(place)),
            Some(place) => self.known[place].until = until,
            None if lifetime.is_zero() => {}
            None => {
                let on_port = self.known.iter().filter(|router| router.port == port);
                if on_port.count() < MOST {
                    self.known.push(Router {
                        port,
                        address,
                        until,
                    });
                }
            }
        }
    }

    /// Forgets the routers of ports that do not heed them any more.
    pub fn follow(&mut self, config: &Config) {
        let is_heeded = |router: &Router| config.ports[router.port.index()].accept_ra;
        self.known.retain(is_heeded);
        let is_known = |(port, address): &(PortId, Ipv6Addr)| {
            let mut known = self.known.iter();
            known.any(|router| (router.port, router.address) == (*port, *address))
        };
        self.chosen = self.chosen.filter(is_known);
    }

    /// The router of the default route.
    pub fn chosen(&self) -> Option<(PortId, Ipv6Addr)> {
        self.chosen
    }

    /// Chooses anew. Returns whether the route is another one. `has_failed`: whether a router does not answer.
    pub fn choose(&mut self, has_failed: impl Fn(PortId, Ipv6Addr) -> bool, now: Time) -> bool {
        self.known.retain(|router| now < router.until);
        if now < self.quiet {
            return false;
        }
        let place = |router: &Router| (router.port, router.address);
        let works = |&(port, address): &(PortId, Ipv6Addr)| !has_failed(port, address);
        let known = || self.known.iter().map(place);
        let kept = self.chosen.filter(|chosen| known().any(|it| it == *chosen));
        let best = kept
            .filter(works)
            .or_else(|| known().find(works))
            .or(kept)
            .or_else(|| known().next());
        let has_changed = best != self.chosen;
        if has_changed {
            self.chosen = best;
            self.quiet = now + PAUSE;
        }
        has_changed
    }

    /// When to choose anew at the latest, though nothing happens.
    pub fn next_due(&self) -> Option<Time> {
        let next = self.known.iter().map(|router| router.until).min();
        next.map(|due| due.max(self.quiet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortId = PortId(0);

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn router(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n)
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_first_one_keeps_the_route_while_it_lives_and_answers() {
        let mut routers = Routers::default();
        let chosen = |routers: &Routers| routers.chosen().map(|(_, address)| address.segments()[7]);
        let none = |_: PortId, _: Ipv6Addr| false;
        assert!(!routers.choose(none, at(0)));
        routers.heard(PORT, router(1), seconds(10), at(0));
        assert!(routers.choose(none, at(0)));
        routers.heard(PORT, router(2), seconds(60), at(100));
        assert!(!routers.choose(none, at(2000)));
        assert_eq!(chosen(&routers), Some(1));
        // It fails: the other has it, and keeps it when the first is back.
        assert!(routers.choose(|_, address| address == router(1), at(3000)));
        assert_eq!(chosen(&routers), Some(2));
        assert!(!routers.choose(none, at(5000)));
        // Both fail: it stays where it is.
        assert!(!routers.choose(|_, _| true, at(6000)));
        // It says that it is none any more; but the first one's time is over.
        routers.heard(PORT, router(2), seconds(0), at(10_000));
        assert!(routers.choose(none, at(10_000)));
        assert_eq!(chosen(&routers), None);
        assert_eq!(routers.next_due(), None);
    }

    #[test]
    fn a_host_that_says_much_changes_the_route_once_a_second_and_fills_little() {
        let mut routers = Routers::default();
        let mut changes = 0;
        for n in 0..10_000u64 {
            let lifetime = seconds(if n % 2 == 0 { 1800 } else { 0 });
            routers.heard(PORT, router(7), lifetime, at(n));
            routers.heard(PORT, router(n as u16 + 100), seconds(1800), at(n));
            changes += u64::from(routers.choose(|_, _| false, at(n)));
            assert!(routers.known.len() <= MOST);
        }
        assert!(changes <= 11, "{changes}");
        routers.heard(PortId(1), router(1), seconds(5), at(10_000));
        assert_eq!(routers.known.len(), MOST + 1, "another port's has room");
    }
}

//! Keeps by which rules the connections of services are placed on workers.
//!
//! Two nat services with a real server in common may get connections whose replies look the same: same real server, same
//! client. Only one worker that knows of both can keep them apart, so such services are placed by the client alone. A
//! service keeps its rule for as long as it may have connections, and a new rule leaves older connections where they are:
//! the former rules say where to look for them.

use super::natted::Natted;
use super::ranges::Ranges;
use crate::net::ByFamily;
use crate::rcu::map::{Map, Snapshot};
use crate::service::ServiceKey;
use crate::tables::{Clients, Departed, Placement, Placements};
use foldhash::{HashMap, HashSet};

pub(super) struct Placing {
    map: Map<ServiceKey, Placements>,
    known: HashMap<ServiceKey, Placed>,
    /// What the map does not have yet.
    changed: HashSet<ServiceKey>,
    /// Not published yet: they have no connections.
    fresh: HashSet<ServiceKey>,
    clients: ByFamily<Clients>,
    /// Those that are known.
    ranges: Ranges,
    /// VIPs some of whose ranges came or went, as [`Departed`] has them.
    changed_ranges: HashSet<ServiceKey>,
    /// A service that is placed by the client alone is known, and was published.
    has_clients: bool,
    had_clients: bool,
}

struct Placed {
    placements: Placements,
    is_nat: bool,
    /// It was removed otherwise, and has connections left.
    is_configured: bool,
}

impl Placing {
    pub(super) fn new(seed: u64) -> Self {
        Placing {
            map: Map::new(seed),
            known: HashMap::default(),
            changed: HashSet::default(),
            fresh: HashSet::default(),
            clients: ByFamily::default(),
            ranges: Ranges::default(),
            changed_ranges: HashSet::default(),
            has_clients: false,
            had_clients: false,
        }
    }

    /// For the publication that follows: from then on the services may have connections.
    pub(super) fn freeze(&mut self) -> (Snapshot<ServiceKey, Placements>, ByFamily<Clients>) {
        for key in self.changed.drain() {
            let deviates =
                |placed: &&Placed| !placed.is_configured || !placed.placements.is_plain();
            match self.known.get(&key).filter(deviates) {
                Some(placed) => {
                    self.map.insert(key, placed.placements.clone());
                }
                None => {
                    self.map.remove(&key);
                }
            }
        }
        for vip in std::mem::take(&mut self.changed_ranges) {
            match self.gather(&vip) {
                Some(all) => _ = self.map.insert(vip, all),
                None => _ = self.map.remove(&vip),
            }
        }
        self.fresh.clear();
        self.had_clients |= self.has_clients;
        (self.map.freeze(), self.clients.clone())
    }

    pub(super) fn get(&self, key: &ServiceKey) -> Option<&Placements> {
        self.known.get(key).map(|placed| &placed.placements)
    }

    /// Places the connections of a service that is added or changed. `prefix`: of its persistence. Its real servers are in
    /// `natted` already, if it is a nat service.
    pub(super) fn put(
        &mut self,
        key: ServiceKey,
        is_nat: bool,
        prefix: Option<u8>,
        natted: &mut Natted,
    ) {
        let before = self.known.get(&key);
        let is_new = before.is_none_or(|placed| !placed.is_configured);
        let has_been = |rule| before.is_some_and(|placed| placed.placements.have(rule));
        let rule = match (is_nat, prefix) {
            (false, None) => Placement::Rss,
            (false, Some(prefix)) => Placement::Template(prefix),
            // To return to RSS would leave connections behind again, to gain little.
            (true, prefix) => {
                let is_client = key.has_several()
                    || prefix.is_some()
                    || has_been(Placement::Client)
                    || natted.has_rivals(&key);
                match is_client {
                    true => Placement::Client,
                    false => Placement::Rss,
                }
            }
        };
        if before.is_none() {
            self.fresh.insert(key);
        }
        let mut placements = self.changed_to(&key, rule);
        if is_new {
            for wider in self.wider(&key) {
                placements.add_all(wider);
            }
            self.ranges.insert(&key);
        }
        if is_nat {
            self.widen(&key, prefix);
            for rival in natted.rivals_by_rss(&key) {
                // Before a connection is made, those of the rival that have the same replies are to be found.
                if !self.fresh.contains(&rival) {
                    placements.add_former(Placement::RssOf(rival));
                }
                let Some(placed) = self.known.get(&rival) else {
                    continue;
                };
                if placed.is_nat && placed.placements.current == Placement::Rss {
                    let placed = Placed {
                        placements: self.changed_to(&rival, Placement::Client),
                        ..*placed
                    };
                    self.set(rival, placed, natted);
                }
            }
        }
        let placed = Placed {
            placements,
            is_nat,
            is_configured: true,
        };
        self.set(key, placed, natted);
        self.changed_ranges(&key);
    }

    /// The placements of the services that had the connections to a service's ports until now: those of ranges, and the one of
    /// every port. Of ranges that are removed some connections may be left.
    fn wider(&self, key: &ServiceKey) -> Vec<&Placements> {
        let every = (key.port != 0).then(|| key.every());
        let ranges = self.ranges.beside(key);
        let wider = ranges.filter(|range| range != key).chain(every);
        wider
            .filter(|wider| !self.fresh.contains(wider))
            .filter_map(|wider| self.get(&wider))
            .collect()
    }

    fn changed_ranges(&mut self, key: &ServiceKey) {
        if key.last != 0 {
            self.changed_ranges.insert(Departed::of(key));
        }
    }

    /// All placements of the ranges of a VIP that are removed and have connections left: a packet to a port without a service
    /// may be of any of them.
    fn gather(&self, vip: &ServiceKey) -> Option<Placements> {
        let ranges = self
            .ranges
            .of(vip)
            .filter_map(|range| self.known.get(&range));
        let mut departed = ranges.filter(|placed| !placed.is_configured);
        let mut all = departed.next()?.placements.clone();
        departed.for_each(|placed| all.add_all(&placed.placements));
        Some(all)
    }

    /// What a service's placements are when new connections are placed by `rule` from now on.
    fn changed_to(&self, key: &ServiceKey, rule: Placement) -> Placements {
        let Some(placements) = self.get(key) else {
            return Placements::new(rule);
        };
        let mut placements = placements.clone();
        if placements.current != rule {
            placements.change(rule, !self.fresh.contains(key));
        }
        placements
    }

    fn set(&mut self, key: ServiceKey, placed: Placed, natted: &mut Natted) {
        natted.set_placements(&key, &placed.placements);
        self.has_clients |= placed.placements.current == Placement::Client;
        self.known.insert(key, placed);
        self.changed.insert(key);
    }

    /// Makes the prefix of persistent nat services of a family as short as `prefix`. It never becomes longer again: that
    /// would leave connections behind for nothing.
    fn widen(&mut self, key: &ServiceKey, prefix: Option<u8>) {
        let clients = self.clients.of_mut(key.address);
        let Some(wanted) = prefix else { return };
        if clients.prefix.is_some_and(|prefix| prefix <= wanted) {
            return;
        }
        let before = std::mem::replace(&mut clients.prefix, prefix);
        if self.had_clients {
            let former = clients.former.iter().copied();
            clients.former = former.chain([before]).collect();
        }
    }

    /// The service is configured no longer, and has connections left.
    pub(super) fn retire(&mut self, key: &ServiceKey) {
        if let Some(placed) = self.known.get_mut(key) {
            placed.is_configured = false;
            placed.is_nat = false;
            self.changed.insert(*key);
        }
        self.changed_ranges(key);
    }

    /// The service has no connections any longer.
    pub(super) fn forget(&mut self, key: &ServiceKey) {
        self.known.remove(key);
        self.changed.insert(*key);
        self.changed_ranges(key);
        self.ranges.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Protocol;
    use crate::net::ipv4;
    use crate::tables::Requests;
    use crate::units::ServiceId;
    use std::net::IpAddr;

    /// A nat service and its real servers.
    type Nat = (ServiceKey, &'static [(u8, u16)]);

    struct Lab {
        placing: Placing,
        natted: Natted,
    }

    fn key(vip: u8, port: u16) -> ServiceKey {
        ServiceKey {
            protocol: Protocol::Tcp,
            address: IpAddr::from([192, 0, 2, vip]),
            port,
            last: 0,
        }
    }

    fn real(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    impl Lab {
        fn new() -> Self {
            Lab {
                placing: Placing::new(1),
                natted: Natted::new(1),
            }
        }

        /// A nat service with these real servers.
        fn put(&mut self, service: ServiceKey, prefix: Option<u8>, reals: &[(u8, u16)]) {
            let id = ServiceId(u32::from(ipv4(service.address).octets()[3]));
            for (last, port) in reals {
                self.natted
                    .remember(Requests { service, id }, real(*last), *port);
            }
            self.placing.put(service, true, prefix, &mut self.natted);
        }

        fn publish(&mut self) {
            self.placing.freeze();
            self.natted.freeze();
        }

        fn rules(&self, service: ServiceKey) -> (Placement, Vec<Placement>) {
            let rules = self.placing.get(&service).unwrap();
            (rules.current, rules.former.to_vec())
        }
    }

    #[test]
    fn services_whose_replies_may_look_the_same_are_placed_by_the_client() {
        let (web, other) = (key(80, 80), key(81, 80));
        let cases: [(&str, Nat, Nat, bool); 6] = [
            (
                "the same",
                (web, &[(11, 8080)]),
                (other, &[(11, 8080)]),
                true,
            ),
            (
                "one of two",
                (web, &[(11, 80), (12, 80)]),
                (other, &[(13, 80), (12, 80)]),
                true,
            ),
            (
                "another port",
                (web, &[(11, 8080)]),
                (other, &[(11, 8081)]),
                false,
            ),
            (
                "another address",
                (web, &[(11, 8080)]),
                (other, &[(12, 8080)]),
                false,
            ),
            (
                "every port",
                (web, &[(11, 8080)]),
                (key(81, 0), &[(11, 0)]),
                true,
            ),
            (
                "every port, one there",
                (web, &[(11, 80)]),
                (key(81, 0), &[(11, 8080)]),
                false,
            ),
        ];
        for (what, one, other, is_shared) in cases {
            for swapped in [false, true] {
                let mut lab = Lab::new();
                let mut both = [one, other];
                if swapped {
                    both.reverse();
                }
                for (key, reals) in both {
                    lab.put(key, None, reals);
                }
                for (key, _) in both {
                    let expected = match is_shared || key.port == 0 {
                        true => Placement::Client,
                        false => Placement::Rss,
                    };
                    assert_eq!(lab.rules(key), (expected, vec![]), "{what}, {swapped}");
                }
            }
        }
    }

    #[test]
    fn former_rules_are_kept_for_connections_that_may_be_there() {
        let (web, other, third) = (key(80, 80), key(81, 80), key(82, 80));
        let mut lab = Lab::new();
        lab.put(web, None, &[(11, 8080)]);
        lab.publish();
        lab.put(other, None, &[(11, 8080)]);
        assert_eq!(lab.rules(web), (Placement::Client, vec![Placement::Rss]));
        let expected = (Placement::Client, vec![Placement::RssOf(web)]);
        assert_eq!(lab.rules(other), expected);
        lab.publish();
        // Without a rival, the service stays placed by the client; the next rival also looks for connections made before.
        lab.natted.forget(&other, real(11), 8080);
        lab.placing.forget(&other);
        lab.put(web, None, &[(11, 8080)]);
        assert_eq!(lab.rules(web), (Placement::Client, vec![Placement::Rss]));
        lab.put(third, Some(32), &[(12, 8080), (11, 8080)]);
        assert_eq!(lab.rules(third), expected);
    }

    #[test]
    fn the_shortest_prefix_of_a_family_places_the_clients_of_all() {
        let mut lab = Lab::new();
        lab.put(key(80, 0), None, &[(11, 0)]);
        lab.put(key(81, 80), Some(32), &[(12, 80)]);
        let clients = |lab: &mut Lab| lab.placing.freeze().1;
        let clients = |lab: &mut Lab| {
            let clients = clients(lab);
            (clients.v4.prefix, clients.v4.former.to_vec())
        };
        assert_eq!(clients(&mut lab), (Some(32), vec![]));
        lab.put(key(82, 80), Some(16), &[(13, 80)]);
        lab.put(key(83, 80), Some(24), &[(14, 80)]);
        let expected = (Some(16), vec![Some(32)]);
        assert_eq!(clients(&mut lab), expected);
        lab.put(key(82, 80), None, &[(13, 80)]);
        assert_eq!(clients(&mut lab), expected, "it is never longer again");
        let v6 = ServiceKey {
            address: "2001:db8::80".parse().unwrap(),
            ..key(0, 80)
        };
        lab.placing.put(v6, true, Some(56), &mut lab.natted);
        assert_eq!(clients(&mut lab), expected, "IPv6 clients are others");
        assert_eq!(lab.placing.freeze().1.v6.prefix, Some(56));
    }

    #[test]
    fn a_change_touches_the_service_and_at_most_one_more_at_each_of_its_real_servers() {
        let mut lab = Lab::new();
        for vip in 0..200 {
            lab.put(key(vip, 80), None, &[(11, 8080), (vip, 80)]);
        }
        lab.publish();
        lab.put(key(201, 80), None, &[(11, 8080)]);
        assert_eq!(lab.placing.changed.len(), 1);
        lab.publish();
        lab.put(key(202, 80), None, &[(12, 80), (13, 80), (201, 8080)]);
        assert_eq!(
            lab.placing.changed.len(),
            1,
            "all of them are by the client"
        );
        lab.put(key(210, 80), None, &[(210, 80)]);
        lab.publish();
        lab.put(key(211, 80), None, &[(210, 80), (12, 80)]);
        assert_eq!(lab.placing.changed.len(), 2);
    }

    /// A range, and services that take ports of it over while it has connections, or after it was removed.
    #[test]
    fn connections_of_a_range_are_found_where_they_were_made() {
        let (range, one, every) = (
            ServiceKey {
                last: 90,
                ..key(80, 80)
            },
            key(80, 85),
            key(80, 0),
        );
        let other = ServiceKey {
            last: 99,
            ..key(80, 90)
        };
        let mut lab = Lab::new();
        lab.placing.put(range, false, Some(24), &mut lab.natted);
        lab.publish();
        lab.placing.put(one, false, None, &mut lab.natted);
        let expected = (Placement::Rss, vec![Placement::Template(24)]);
        assert_eq!(lab.rules(one), expected);
        lab.placing.retire(&range);
        lab.placing.put(other, false, None, &mut lab.natted);
        assert_eq!(lab.rules(other), expected);
        lab.placing.put(every, false, None, &mut lab.natted);
        let departed = |lab: &mut Lab| {
            let published = lab.placing.freeze().0;
            published
                .get(&Departed::of(&key(80, 1)))
                .map(|of| of.current)
        };
        assert_eq!(departed(&mut lab), Some(Placement::Template(24)));
        lab.placing.forget(&range);
        assert_eq!(departed(&mut lab), None);
        // Outside of it nothing was.
        let mut lab = Lab::new();
        lab.placing.put(range, false, Some(24), &mut lab.natted);
        lab.publish();
        lab.placing.put(key(80, 91), false, None, &mut lab.natted);
        assert_eq!(lab.rules(key(80, 91)), (Placement::Rss, vec![]));
    }

    #[test]
    fn a_removed_service_is_known_until_its_connections_are_gone() {
        let mut lab = Lab::new();
        let web = key(80, 80);
        lab.put(web, None, &[(11, 8080)]);
        let published = |lab: &mut Lab| lab.placing.freeze().0.get(&web).cloned();
        assert_eq!(published(&mut lab), None, "where RSS brings requests");
        lab.placing.retire(&web);
        assert!(published(&mut lab).is_some_and(|rules| rules.is_plain()));
        lab.put(web, None, &[(11, 8080)]);
        assert_eq!(published(&mut lab), None);
        lab.placing.retire(&web);
        lab.placing.forget(&web);
        assert_eq!(published(&mut lab), None);
    }
}

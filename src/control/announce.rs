//! Gratuitous ARP (RFC 5227 section 2.3) and unsolicited neighbour advertisements (RFC 4861 section 7.2.6): tell the
//! neighbourhood at which MAC address weir's own addresses are, when it starts, and when addresses are added. Twice, as one
//! broadcast or multicast packet may be lost. An IPv6 address is announced once no other host was found to have it
//! ([`detect`](super::detect)).

use super::detect::Detection;
use super::groups::{Reports, groups};
use crate::config::Config;
use crate::exchange::{Mailbox, Order};
use crate::tables::Tables;
use crate::units::{PortId, Time};
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Between the two announcements of an address (ANNOUNCE_INTERVAL of RFC 5227 is 2 seconds).
const AGAIN: Duration = Duration::from_secs(1);
/// Orders that a worker may have before it when this hands it more: the rest is left for more urgent ones.
pub(super) const MAX_WAITING: usize = 256;

/// An address of weir's own on a port's link.
pub(super) type Place = (PortId, IpAddr);

#[derive(Debug, Default)]
pub(super) struct Announcer {
    known: HashSet<Place>,
    queue: VecDeque<Place>,
    again: VecDeque<(Time, Vec<Place>)>,
    pub detection: Detection,
    reports: Reports,
}

impl Announcer {
    /// Follows a new configuration: addresses that the previous one did not have are to be announced.
    pub(super) fn update(&mut self, config: &Config, tables: &Tables, now: Time) {
        let addresses = announced(config, tables);
        let mut added: Vec<_> = addresses.difference(&self.known).copied().collect();
        added.sort_unstable();
        self.known = addresses;
        self.detection.retain(|place| self.known.contains(place));
        self.reports.retain(|port| groups(self.known.iter(), port));
        self.begin(added, now);
    }

    /// Announces new addresses, those of IPv6 as soon as they are known to be free.
    fn begin(&mut self, added: Vec<Place>, now: Time) {
        let (v4, v6): (Vec<_>, Vec<_>) = added.into_iter().partition(|place| place.1.is_ipv4());
        let ports: BTreeSet<_> = v6.iter().map(|place| place.0).collect();
        for port in ports {
            self.reports.add(port, groups(v6.iter(), port), now);
        }
        self.detection.add(v6);
        self.announce(v4, now);
    }

    fn announce(&mut self, places: Vec<Place>, now: Time) {
        self.queue.extend(&places);
        if !places.is_empty() {
            self.again.push_back((now + AGAIN, places));
        }
    }

    /// Takes in one address of weir's own.
    pub(super) fn add(&mut self, tables: &Tables, address: IpAddr, now: Time) {
        let places = tables.ports_for(address).map(|port| (port, address));
        let added: Vec<_> = places.filter(|place| self.known.insert(*place)).collect();
        self.begin(added, now);
    }

    /// An address is no longer weir's own.
    pub(super) fn remove(&mut self, tables: &Tables, address: IpAddr) {
        for n in 0..tables.ports.len() {
            self.known.remove(&(PortId(n as u8), address));
        }
        self.detection.retain(|place| place.1 != address);
        self.reports.retain(|port| groups(self.known.iter(), port));
    }

    /// Announces all addresses of a port whose link has come up: it may lead elsewhere now, where no host has heard of
    /// them.
    pub(super) fn repeat(&mut self, port: PortId, now: Time) {
        let here = self.known.iter().filter(|place| place.0 == port);
        let mut addresses: Vec<_> = here.copied().collect();
        addresses.sort_unstable();
        self.reports.add(port, groups(addresses.iter(), port), now);
        self.announce(addresses, now);
        self.detection.link_came_up(port);
    }

    /// A router asks which groups a port listens to, and waits so long for an answer.
    pub(super) fn queried(&mut self, port: PortId, longest: Duration, now: Time) {
        self.reports.asked(port, longest, now);
    }

    /// Orders what is due, as far as the worker keeps up.
    pub(super) fn tick(
        &mut self,
        mailbox: &Mailbox,
        tables: &Tables,
        is_up: impl Fn(PortId) -> bool,
        now: Time,
    ) {
        // First: answers to what is asked of a group come to who listens to it (RFC 4862 section 5.4.2).
        let groups = |port| groups(self.known.iter(), port);
        self.reports.tick(mailbox, tables, groups, &is_up, now);
        let free = self.detection.tick(mailbox, is_up, now);
        for ((port, address), was_claimed) in &free {
            if *was_claimed {
                let port = &*tables.port(*port).name;
                tracing::info!(%address, port, "no other host claims the address any longer: weir answers for it");
            }
        }
        let free = free.into_iter().map(|(place, _)| place).collect();
        self.announce(free, now);
        while self.again.front().is_some_and(|(due, _)| *due <= now) {
            self.queue.extend(
                self.again
                    .pop_front()
                    .into_iter()
                    .flat_map(|(_, addresses)| addresses),
            );
        }
        while mailbox.orders.len() < MAX_WAITING
            && let Some((port, address)) = self.queue.pop_front()
        {
            // An address may have gone since; another host may have it by now.
            let place = (port, address);
            if self.known.contains(&place) && !self.detection.is_silent(&place) {
                let _ = mailbox.orders.push(Order::Announce { port, address });
            }
        }
    }

    /// Whether some announcements are due already.
    pub(super) fn is_busy(&self, is_up: impl Fn(PortId) -> bool) -> bool {
        !self.queue.is_empty() || self.detection.is_busy(&is_up) || self.reports.is_busy(is_up)
    }
}

/// Every address for which weir answers ARP or neighbour solicitations, with the port on which it does.
fn announced(config: &Config, tables: &Tables) -> HashSet<Place> {
    // Those of the tables: a port has a link-local address that need not be configured.
    let ports = tables.ports.iter().flat_map(|port| &port.addresses);
    let pools = config.pools.iter().flat_map(|pool| &pool.addresses);
    let vips = config.services.iter().map(|service| service.address);
    let own: HashSet<IpAddr> = ports
        .map(|net| net.addr())
        .chain(pools.copied())
        .chain(vips)
        .collect();
    let places = |address| tables.ports_for(address).map(move |port| (port, address));
    own.into_iter().flat_map(places).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::{Device, Model};
    use crate::stats::Stats;
    use crate::wire::Mac;
    use std::sync::Arc;

    fn model_of(text: &str) -> Model {
        let context = config::Context {
            cpus: None,
            devices: false,
        };
        let config = config::parse(text, "test", &context).unwrap().config;
        let device = |n| Device {
            mac: Mac([2, 0, 0, 0, 0, n]),
            any_mac: false,
        };
        let devices = (1..=config.ports.len() as u8).map(device).collect();
        let stats = Arc::new(Stats::new(1).unwrap());
        Model::new(&config, devices, stats, 1, Time::default()).0
    }

    fn update(announcer: &mut Announcer, services: &str) {
        let model = model_of(&format!("{TEXT}{services}"));
        announcer.update(model.config(), model.tables(), Time::default());
    }

    const TEXT: &str = r#"
        [[port]]
        name = "wan"
        device = "net_null0"
        addresses = ["198.51.100.1/24"]
        # wan
        [[port]]
        name = "lan"
        device = "net_null1"
        addresses = ["10.0.0.1/16"]
        # lan
        [[local_pool]]
        name = "inside"
        addresses = ["10.0.0.200-10.0.0.201"]
    "#;

    fn service(address: &str) -> String {
        format!(
            "[[service]]\naddress = \"{address}\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n\
             [[service.real]]\naddress = \"10.0.0.11\"\n"
        )
    }

    /// Runs the announcer at `millis`, and says what it ordered.
    fn orders(announcer: &mut Announcer, mailbox: &Mailbox, millis: u64) -> Vec<String> {
        announcer.tick(
            mailbox,
            model_of(TEXT).tables(),
            |_| true,
            Time::from_nanos(millis * 1_000_000),
        );
        let mut orders: Vec<_> = std::iter::from_fn(|| mailbox.orders.pop())
            .map(|order| match order {
                Order::Announce { port, address } => format!("{port} {address}"),
                Order::Probe { port, address } => format!("{port} {address}?"),
                Order::Report { port, groups, .. } => format!("{port} {groups:?}"),
                other => panic!("{other:?}"),
            })
            .collect();
        orders.sort();
        orders
    }

    #[test]
    fn every_address_on_a_link_is_announced_twice() {
        let (mut announcer, mailbox) = (Announcer::default(), Mailbox::default());
        update(
            &mut announcer,
            &(service("198.51.100.80") + &service("192.0.2.80")),
        );
        let all = [
            "0 198.51.100.1",
            "0 198.51.100.80",
            "1 10.0.0.1",
            "1 10.0.0.200",
            "1 10.0.0.201",
        ];
        assert_eq!(orders(&mut announcer, &mailbox, 0), all);
        assert!(orders(&mut announcer, &mailbox, 999).is_empty());
        assert_eq!(orders(&mut announcer, &mailbox, 1000), all);
        assert!(orders(&mut announcer, &mailbox, 9000).is_empty());
    }

    /// The one rule, by examples: where each address is found.
    #[test]
    fn an_address_is_found_by_subnet_or_announce_else_by_route() {
        let found = |extra: &str, wan: &str, lan: &str| {
            let text = TEXT.replace("# wan", wan).replace("# lan", lan);
            let vips = ["198.51.100.80", "10.0.1.80", "192.0.2.80", "203.0.113.80"];
            let model = model_of(&(text + extra + &vips.map(service).concat()));
            let tables = model.tables();
            ["198.51.100.1", "10.0.0.200"]
                .iter()
                .chain(&vips)
                .map(|address| {
                    let ports = tables.ports_for(address.parse().unwrap());
                    ports.map(|port| port.to_string()).collect::<String>()
                })
                .collect::<Vec<_>>()
                .join(" ")
        };
        const DEFAULT: &str = "[[route]]\nto = \"0.0.0.0/0\"\nvia = \"198.51.100.254\"\n";
        const INNER: &str = "[[route]]\nto = \"192.0.2.0/24\"\nvia = \"10.0.0.254\"\n";
        let both = format!("{DEFAULT}{INNER}");
        let cases = [
            ("no route", "", "", "", "0 1 0 1  "),
            ("the default route", DEFAULT, "", "", "0 1 0 1 0 0"),
            ("the longest prefix", &both, "", "", "0 1 0 1 1 0"),
            ("announce, no route", "", "", "192.0.2.0/24", "0 1 0 1 1 "),
            (
                "announce beats the route",
                DEFAULT,
                "",
                "192.0.2.0/24",
                "0 1 0 1 1 0",
            ),
            (
                "announce on both",
                &both,
                "0.0.0.0/0",
                "203.0.113.80/32",
                "0 01 0 01 0 01",
            ),
            (
                "announce never takes a port's own address",
                "",
                "",
                "198.51.100.0/24",
                "0 1 01 1  ",
            ),
        ];
        for (name, routes, wan, lan, expected) in cases {
            let announce = |net: &str| match net {
                "" => String::new(),
                net => format!("announce = [\"{net}\"]"),
            };
            assert_eq!(
                found(routes, &announce(wan), &announce(lan)),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn a_reload_announces_what_it_adds_and_not_what_it_removed() {
        let (mut announcer, mailbox) = (Announcer::default(), Mailbox::default());
        update(&mut announcer, &service("198.51.100.80"));
        orders(&mut announcer, &mailbox, 0);
        update(&mut announcer, &service("198.51.100.81"));
        assert_eq!(orders(&mut announcer, &mailbox, 1), ["0 198.51.100.81"]);
        let again = orders(&mut announcer, &mailbox, 1001).join(",");
        assert!(
            again.contains("100.81") && again.contains("10.0.0.1") && !again.contains("100.80"),
            "{again}"
        );
    }

    #[test]
    fn a_link_that_comes_up_hears_the_addresses_that_are_there_twice() {
        let (mut announcer, mailbox) = (Announcer::default(), Mailbox::default());
        update(&mut announcer, &service("10.0.1.80"));
        orders(&mut announcer, &mailbox, 0);
        orders(&mut announcer, &mailbox, 1000);
        announcer.repeat(PortId(1), Time::from_nanos(5_000_000_000));
        let lan = ["1 10.0.0.1", "1 10.0.0.200", "1 10.0.0.201", "1 10.0.1.80"];
        assert_eq!(orders(&mut announcer, &mailbox, 5000), lan);
        assert_eq!(orders(&mut announcer, &mailbox, 6000), lan);
        assert!(orders(&mut announcer, &mailbox, 9000).is_empty());
    }

    #[test]
    fn an_ipv6_address_is_announced_twice_when_it_is_known_to_be_free() {
        let (mut announcer, mailbox) = (Announcer::default(), Mailbox::default());
        let text = TEXT.replace("\"10.0.0.1/16\"", "\"10.0.0.1/16\", \"2001:db8::1/64\"");
        let model = model_of(&text);
        let at = |millis: u64| Time::from_nanos(millis * 1_000_000);
        announcer.update(model.config(), model.tables(), at(0));
        let groups = "1 [ff02::1:ff00:1, ff02::1:ff00:2]";
        let v4 = [
            "0 198.51.100.1",
            "1 10.0.0.1",
            "1 10.0.0.200",
            "1 10.0.0.201",
        ];
        let v6 = ["1 2001:db8::1", "1 fe80::ff:fe00:2"];
        let asked = v6.map(|address| format!("{address}?"));
        let mut expected: Vec<_> = v4.iter().map(ToString::to_string).collect();
        expected.extend(asked.iter().cloned().chain([groups.to_owned()]));
        expected.sort();
        assert_eq!(orders(&mut announcer, &mailbox, 0), expected);
        let mut expected: Vec<_> = v4.iter().chain(&v6).map(ToString::to_string).collect();
        expected.sort();
        assert_eq!(orders(&mut announcer, &mailbox, 1000), expected);
        let mut expected: Vec<_> = v6.iter().map(ToString::to_string).collect();
        expected.insert(1, groups.to_owned());
        assert_eq!(orders(&mut announcer, &mailbox, 2000), expected);
        assert!(orders(&mut announcer, &mailbox, 9000).is_empty());
        // A router asks, and does not wait: at once, and once a second.
        announcer.queried(PortId(1), Duration::ZERO, at(10_000));
        announcer.queried(PortId(0), Duration::ZERO, at(10_000));
        assert_eq!(orders(&mut announcer, &mailbox, 10_000), [groups]);
        announcer.queried(PortId(1), Duration::ZERO, at(10_999));
        assert!(orders(&mut announcer, &mailbox, 10_999).is_empty());
        announcer.queried(PortId(1), Duration::ZERO, at(11_000));
        assert_eq!(orders(&mut announcer, &mailbox, 11_000), [groups]);
        assert!(orders(&mut announcer, &mailbox, 19_000).is_empty());
    }

    #[test]
    fn orders_never_overflow_the_workers_queue() {
        let (mut announcer, mailbox) = (Announcer::default(), Mailbox::default());
        let services: String = (0..1000u32)
            .map(|n| service(&format!("10.0.{}.{}", 4 + n / 250, 1 + n % 250)))
            .collect();
        update(&mut announcer, &services);
        let mut total = 0;
        let model = model_of(TEXT);
        while announcer.is_busy(|_| true) {
            announcer.tick(&mailbox, model.tables(), |_| true, Time::default());
            assert!(mailbox.orders.len() <= MAX_WAITING);
            while mailbox.orders.pop().is_some() {
                total += 1;
            }
        }
        assert_eq!(total, 1004);
    }
}

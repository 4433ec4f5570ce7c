//! Gratuitous ARP (RFC 5227 section 2.3): tells the neighbourhood at which MAC address weir's own addresses are, when
//! it starts, and when addresses are added. Twice, as one broadcast may be lost.

use crate::config::Config;
use crate::exchange::{Mailbox, Order};
use crate::units::{PortId, Time};
use std::collections::{HashSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Between the two announcements of an address (ANNOUNCE_INTERVAL of RFC 5227 is 2 seconds).
const AGAIN: Duration = Duration::from_secs(1);
/// Orders that a worker may have before it when this hands it more: the rest is left for more urgent ones.
const MAX_WAITING: usize = 256;

#[derive(Debug, Default)]
pub struct Announcer {
    known: HashSet<(PortId, Ipv4Addr)>,
    queue: VecDeque<(PortId, Ipv4Addr)>,
    again: VecDeque<(Time, Vec<(PortId, Ipv4Addr)>)>,
}

impl Announcer {
    /// Takes in a configuration: what its predecessor did not have is to be announced.
    pub fn update(&mut self, config: &Config, now: Time) {
        let addresses: HashSet<_> = announced(config).collect();
        let mut added: Vec<_> = addresses.difference(&self.known).copied().collect();
        added.sort_unstable();
        self.known = addresses;
        self.queue.extend(&added);
        if !added.is_empty() {
            self.again.push_back((now + AGAIN, added));
        }
    }

    /// Takes in one address of weir's own.
    pub fn add(&mut self, config: &Config, address: Ipv4Addr, now: Time) {
        let ports = config.ports.iter().enumerate();
        let on_link =
            ports.filter(|(_, port)| port.addresses.iter().any(|net| net.contains(&address)));
        let places = on_link.map(|(n, _)| (PortId(n as u8), address));
        let added: Vec<_> = places.filter(|place| self.known.insert(*place)).collect();
        self.queue.extend(&added);
        if !added.is_empty() {
            self.again.push_back((now + AGAIN, added));
        }
    }

    /// An address is weir's own no more.
    pub fn remove(&mut self, config: &Config, address: Ipv4Addr) {
        for n in 0..config.ports.len() {
            self.known.remove(&(PortId(n as u8), address));
        }
    }

    /// Orders what is due, as far as the worker keeps up.
    pub fn tick(&mut self, mailbox: &Mailbox, now: Time) {
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
            if self.known.contains(&(port, address)) {
                let _ = mailbox.orders.push(Order::Announce { port, address });
            }
        }
    }

    /// Whether some announcements are due already.
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }
}

/// The addresses that a port answers ARP for: its own, and the pools' and services' in its subnets.
fn announced(config: &Config) -> impl Iterator<Item = (PortId, Ipv4Addr)> {
    let pools = config
        .pools
        .iter()
        .flat_map(|pool| pool.addresses.iter().copied());
    let shared: HashSet<Ipv4Addr> = pools
        .chain(config.services.iter().map(|service| service.address))
        .collect();
    config.ports.iter().enumerate().flat_map(move |(n, port)| {
        let on_link = shared
            .iter()
            .filter(|address| port.addresses.iter().any(|net| net.contains(*address)))
            .copied();
        let addresses: Vec<_> = port
            .addresses
            .iter()
            .map(|net| net.addr())
            .chain(on_link)
            .collect();
        addresses
            .into_iter()
            .map(move |address| (PortId(n as u8), address))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn parse(services: &str) -> Config {
        let text = format!(
            r#"
            [[port]]
            name = "wan"
            device = "net_null0"
            addresses = ["198.51.100.1/24"]
            [[port]]
            name = "lan"
            device = "net_null1"
            addresses = ["10.0.0.1/16"]
            [[local_pool]]
            name = "inside"
            addresses = ["10.0.0.200-10.0.0.201"]
            {services}
            "#
        );
        let context = config::Context {
            schedulers: &crate::sched::NAMES,
            cpus: None,
        };
        config::parse(&text, "test", &context).unwrap().config
    }

    fn service(address: &str) -> String {
        format!(
            "[[service]]\naddress = \"{address}\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n\
             [[service.real]]\naddress = \"10.0.0.11\"\n"
        )
    }

    /// Runs the announcer at `millis`, and says what it ordered.
    fn orders(announcer: &mut Announcer, mailbox: &Mailbox, millis: u64) -> Vec<String> {
        announcer.tick(mailbox, Time::from_nanos(millis * 1_000_000));
        let mut orders: Vec<_> = std::iter::from_fn(|| mailbox.orders.pop())
            .map(|order| match order {
                Order::Announce { port, address } => format!("{port} {address}"),
                other => panic!("{other:?}"),
            })
            .collect();
        orders.sort();
        orders
    }

    #[test]
    fn every_address_on_a_link_is_announced_twice() {
        let (mut announcer, mailbox) = (Announcer::default(), Mailbox::default());
        let config = parse(&(service("198.51.100.80") + &service("192.0.2.80")));
        announcer.update(&config, Time::default());
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

    #[test]
    fn a_reload_announces_what_it_adds_and_not_what_it_removed() {
        let (mut announcer, mailbox) = (Announcer::default(), Mailbox::default());
        announcer.update(&parse(&service("198.51.100.80")), Time::default());
        orders(&mut announcer, &mailbox, 0);
        announcer.update(&parse(&service("198.51.100.81")), Time::default());
        assert_eq!(orders(&mut announcer, &mailbox, 1), ["0 198.51.100.81"]);
        let again = orders(&mut announcer, &mailbox, 1001).join(",");
        assert!(
            again.contains("100.81") && again.contains("10.0.0.1") && !again.contains("100.80"),
            "{again}"
        );
    }

    #[test]
    fn orders_never_overflow_the_workers_queue() {
        let (mut announcer, mailbox) = (Announcer::default(), Mailbox::default());
        let services: String = (0..1000u32)
            .map(|n| service(&format!("10.0.{}.{}", 4 + n / 250, 1 + n % 250)))
            .collect();
        announcer.update(&parse(&services), Time::default());
        let mut total = 0;
        while announcer.is_busy() {
            announcer.tick(&mailbox, Time::default());
            assert!(mailbox.orders.len() <= MAX_WAITING);
            while mailbox.orders.pop().is_some() {
                total += 1;
            }
        }
        assert_eq!(total, 1004);
    }
}

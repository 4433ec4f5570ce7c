//! A model whose clock is moved by hand, for the tests of the resolver and of its neighbours.

use super::*;
use crate::config;
use crate::model::{Device, Model};
use crate::net::ipv4;
use crate::rcu::Reader;
use crate::stats::Stats;
use crate::wire::arp;
use std::fmt::Write as _;

const CONFIG: &str = r#"
    [[port]]
    name = "lan"
    device = "net_null0"
    addresses = ["10.0.0.1/15"]
    mac = "02:00:00:00:00:01"
    [[port]]
    name = "wan"
    device = "net_null1"
    addresses = ["198.51.100.1/24"]
    mac = "02:00:00:00:00:02"
    [[route]]
    to = "0.0.0.0/0"
    via = "198.51.100.254"
    [[neighbour]]
    address = "10.0.0.7"
    mac = "02:00:00:00:00:77"
    [[service]]
    name = "web"
    address = "10.0.0.254"
    port = 80
    protocol = "tcp"
    mode = "nat"
"#;

/// Real servers for the service: 10.0.0.11 and so many after it.
pub fn reals(count: u8) -> String {
    let real = |n| format!("[[service.real]]\naddress = \"10.0.0.{}\"\n", 11 + n);
    (0..count).map(real).collect()
}

pub fn parse(reals: &str) -> config::Config {
    let context = config::Context {
        cpus: None,
        devices: false,
    };
    let text = format!("{CONFIG}{reals}");
    config::parse(&text, "test", &context).unwrap().config
}

pub fn at(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

pub fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, n])
}

pub fn lan(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

/// A model whose clock is moved by hand, and what it says.
pub struct Lab {
    pub model: Model,
    reader: Reader<Tables>,
    pub now: u64,
    pub said: Vec<String>,
}

impl Lab {
    pub fn new(reals: &str) -> Lab {
        let config = parse(reals);
        let device = |n| Device {
            mac: Mac([2, 0, 0, 0, 0, n]),
            any_mac: false,
        };
        let devices = (1..=config.ports.len() as u8).map(device).collect();
        let stats = Arc::new(Stats::new(1).unwrap());
        let (model, mut readers) = Model::new(&config, devices, stats, 1, at(0));
        Lab {
            model,
            reader: readers.remove(0),
            now: 0,
            said: Vec::new(),
        }
    }

    /// Moves the clock, with everything at its own time.
    pub fn go_to(&mut self, millis: u64) {
        while let Some(due) = self
            .model
            .resolver
            .next_due()
            .filter(|due| *due <= at(millis))
        {
            self.now = self.now.max(due.nanos() / 1_000_000);
            self.tick();
        }
        self.now = millis;
        self.tick();
    }

    fn tick(&mut self) {
        self.model.tick(at(self.now));
        self.reader.quiescent();
        self.model.tick(at(self.now));
        for order in self.model.resolver.take_orders() {
            let mut line = format!("{} ", self.now);
            match order {
                Order::Ask { to, target, .. } if to == Mac::BROADCAST => {
                    write!(line, "all for {target}")
                }
                Order::Ask { to, target, .. } => write!(line, "{:02x} for {target}", to.0[5]),
                Order::Announce { port, address } => write!(line, "{address} on {port}"),
                other => panic!("{other:?}"),
            }
            .unwrap();
            self.said.push(line);
        }
    }

    pub fn event(&mut self, event: Event) {
        self.model.event(event, at(self.now));
        self.tick();
    }

    pub fn want(&mut self, address: IpAddr) {
        let port = PortId(u8::from(ipv4(address).octets()[0] != 10));
        self.event(Event::Wanted { port, address });
    }

    pub fn arp(&mut self, operation: u16, sender: (IpAddr, Mac), target_ip: IpAddr) {
        let ((sender_ip, sender_mac), target_ip) = (sender, ipv4(target_ip));
        let sender_ip = ipv4(sender_ip);
        let port = PortId(u8::from(sender_ip.octets()[0] != 10));
        let repr = arp::Repr {
            operation,
            sender_mac,
            sender_ip,
            target_mac: Mac::default(),
            target_ip,
        };
        let is_to_weir = self
            .model
            .tables()
            .addresses
            .get(&target_ip.into())
            .is_some();
        let heard = Heard::by_arp(&repr, is_to_weir);
        self.event(Event::Heard { port, heard });
    }

    pub fn link(&self, address: IpAddr) -> Option<Link> {
        let port = PortId(u8::from(ipv4(address).octets()[0] != 10));
        let table = self.model.resolver.neighbours().table();
        Some(table.link(table.find(port, address)?))
    }

    pub fn states(&self) -> HashMap<&'static str, usize> {
        let mut states = HashMap::new();
        for (_, _, link, _) in self.model.resolver.neighbours().iter() {
            *states.entry(link.state.name()).or_default() += 1;
        }
        states
    }
}

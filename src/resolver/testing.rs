//! A model whose clock is moved by hand, for the tests of the resolver and of its neighbours. Tests name IPv4 addresses; in a
//! lab of IPv6 each stands for its [`twin`].

use super::*;
use crate::config;
use crate::model::{Device, Model};
use crate::net::ipv4;
use crate::rcu::Reader;
use crate::stats::Stats;
use crate::wire::arp;
use crate::wire::ndisc;
use ipnet::IpNet;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

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
pub(crate) fn reals(count: u8) -> String {
    let real = |n| format!("[[service.real]]\naddress = \"10.0.0.{}\"\n", 11 + n);
    (0..count).map(real).collect()
}

pub(crate) fn parse(reals: &str) -> config::Config {
    parse_text(&format!("{CONFIG}{reals}"))
}

fn parse_text(text: &str) -> config::Config {
    let context = config::Context {
        cpus: None,
        devices: false,
    };
    config::parse(text, "test", &context).unwrap().config
}

/// The IPv6 address that plays the same part.
pub(crate) fn twin(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv6Addr::UNSPECIFIED.into(),
        IpAddr::V4(address) => {
            let [net, a, b, c] = address.octets();
            let host = u128::from(u32::from_be_bytes([0, a, b, c]));
            let net = u128::from(net) << 64 | 0x2001_0db8 << 96;
            Ipv6Addr::from_bits(net | host).into()
        }
        IpAddr::V6(_) => address,
    }
}

/// The address whose twin it is.
fn untwin(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let octets = address.octets();
            IpAddr::from([octets[7], octets[13], octets[14], octets[15]])
        }
    }
}

/// A configuration with the twins of its addresses.
fn twins(text: &str) -> String {
    let words = text.split('"').map(|word| match word.parse::<IpNet>() {
        Ok(net) if net.prefix_len() == 0 => "::/0".to_owned(),
        Ok(net) => format!("{}/64", twin(net.addr())),
        Err(_) => match word.parse() {
            Ok(address) => twin(address).to_string(),
            Err(_) => word.to_owned(),
        },
    });
    words.collect::<Vec<_>>().join("\"")
}

pub(crate) fn at(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

pub(crate) fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, n])
}

pub(crate) fn lan(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

/// A model whose clock is moved by hand, and what it says.
pub(crate) struct Lab {
    pub model: Model,
    reader: Reader<Tables>,
    pub now: u64,
    pub said: Vec<String>,
    is_v6: bool,
}

impl Lab {
    pub(crate) fn new(reals: &str) -> Lab {
        Self::of(&parse(reals), false)
    }

    /// As [`Lab::new`], of IPv6.
    pub(crate) fn v6(reals: &str) -> Lab {
        Self::of(&parse_text(&twins(&format!("{CONFIG}{reals}"))), true)
    }

    fn of(config: &config::Config, is_v6: bool) -> Lab {
        let device = |n| Device {
            mac: Mac([2, 0, 0, 0, 0, n]),
            any_mac: false,
        };
        let devices = (1..=config.ports.len() as u8).map(device).collect();
        let stats = Arc::new(Stats::new(1).unwrap());
        let (model, mut readers) = Model::new(config, devices, stats, 1, at(0));
        Lab {
            model,
            reader: readers.remove(0),
            now: 0,
            said: Vec::new(),
            is_v6,
        }
    }

    /// The address that a test means.
    fn meant(&self, address: IpAddr) -> IpAddr {
        match self.is_v6 {
            true => twin(address),
            false => address,
        }
    }

    /// Moves the clock, with everything at its own time.
    pub(crate) fn go_to(&mut self, millis: u64) {
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
                Order::Ask { source, target, .. } if source.is_ipv6() != target.is_ipv6() => {
                    panic!("{order:?}")
                }
                Order::Ask { to, target, .. } if to == Mac::BROADCAST => {
                    write!(line, "all for {}", untwin(target))
                }
                Order::Ask { to, target, .. } => {
                    write!(line, "{:02x} for {}", to.0[5], untwin(target))
                }
                Order::Announce { port, address } => {
                    write!(line, "{} on {port}", untwin(address))
                }
                other => panic!("{other:?}"),
            }
            .unwrap();
            self.said.push(line);
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.model.event(event, at(self.now));
        self.tick();
    }

    pub(crate) fn want(&mut self, address: IpAddr) {
        let port = PortId(u8::from(ipv4(address).octets()[0] != 10));
        let address = self.meant(address);
        self.event(Event::Wanted { port, address });
    }

    pub(crate) fn arp(&mut self, operation: u16, sender: (IpAddr, Mac), target_ip: IpAddr) {
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
        let is_to_weir = self.is_own(target_ip.into());
        let heard = match self.is_v6 {
            true => by_discovery(&repr, is_to_weir),
            false => Heard::by_arp(&repr, is_to_weir),
        };
        self.event(Event::Heard { port, heard });
    }

    fn is_own(&self, address: IpAddr) -> bool {
        let address = self.meant(address);
        self.model.tables().addresses.get(&address).is_some()
    }

    pub(crate) fn link(&self, address: IpAddr) -> Option<Link> {
        let port = PortId(u8::from(ipv4(address).octets()[0] != 10));
        let table = self.model.resolver.neighbours().table();
        Some(table.link(table.find(port, self.meant(address))?))
    }

    pub(crate) fn states(&self) -> HashMap<&'static str, usize> {
        let mut states = HashMap::new();
        for (_, _, link, _) in self.model.resolver.neighbours().iter() {
            *states.entry(link.state.name()).or_default() += 1;
        }
        states
    }
}

/// What the same news is in neighbour discovery.
fn by_discovery(repr: &arp::Repr, is_to_weir: bool) -> Heard {
    let v6 = |address: Ipv4Addr| match twin(address.into()) {
        IpAddr::V6(address) => address,
        IpAddr::V4(_) => unreachable!("a twin is of IPv6"),
    };
    let (sender, target) = (v6(repr.sender_ip), v6(repr.target_ip));
    let message = match repr.operation {
        arp::REQUEST if sender != target => ndisc::Repr::NeighbourSolicitation {
            target,
            source_mac: Some(repr.sender_mac),
        },
        operation => ndisc::Repr::NeighbourAdvertisement {
            target: sender,
            is_router: false,
            is_solicited: operation == arp::REPLY && is_to_weir,
            overrides: true,
            target_mac: Some(repr.sender_mac),
        },
    };
    Heard::by_discovery(&message, sender, repr.sender_mac).unwrap()
}

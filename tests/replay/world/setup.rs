//! The configuration of a simulated weir.

use super::packet::{Address, LAN, ROUTER_MAC, WAN, real_mac, weir_mac};
use super::server::Behaviour;
use std::net::Ipv4Addr;
use weir::config::{self, Config, Context};

/// A virtual service of every real server, with a VIP of its own.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    pub mode: &'static str,
    pub protocol: &'static str,
    pub scheduler: &'static str,
    /// Clients keep their real server for five minutes.
    pub is_persistent: bool,
}

pub const fn tcp(mode: &'static str) -> Service {
    Service {
        mode,
        protocol: "tcp",
        scheduler: "rr",
        is_persistent: false,
    }
}

pub const fn udp(mode: &'static str) -> Service {
    Service {
        protocol: "udp",
        ..tcp(mode)
    }
}

#[derive(Clone, Debug)]
pub struct Setup {
    pub services: Vec<Service>,
    pub reals: usize,
    /// `[limits] connections`.
    pub connections: usize,
    /// How many ports the only local address has.
    pub pairs: u16,
    pub behaviour: Behaviour,
    /// The real servers' MAC addresses are configured, not learned.
    pub is_static: bool,
}

impl Setup {
    pub fn new(services: &[Service]) -> Self {
        Setup {
            services: services.to_vec(),
            reals: 2,
            connections: 1 << 20,
            pairs: 64_512,
            behaviour: Behaviour::default(),
            is_static: true,
        }
    }

    pub fn config(&self) -> Config {
        let text = self.text();
        let context = Context {
            cpus: None,
            devices: false,
        };
        match config::parse(&text, "weir.toml", &context) {
            Ok(loaded) => loaded.config,
            Err(errors) => panic!("{errors:?}\n{text}"),
        }
    }

    fn text(&self) -> String {
        let last = 1023 + self.pairs;
        let mut text = format!(
            r#"
[limits]
connections = {connections}
[[port]]
name      = "wan"
device    = "net_null0"
addresses = ["{WAN_ADDRESS}/24"]
mac       = "{wan}"
[[port]]
name      = "lan"
device    = "net_null1"
addresses = ["{LAN_ADDRESS}/16"]
mac       = "{lan}"
[[route]]
to  = "0.0.0.0/0"
via = "198.51.100.254"
[[neighbour]]
address = "198.51.100.254"
mac     = "{ROUTER_MAC}"
[[local_pool]]
name      = "inside"
addresses = ["10.0.0.200"]
ports     = "1024-{last}"
"#,
            connections = self.connections,
            wan = weir_mac(WAN),
            lan = weir_mac(LAN),
        );
        for n in (0..self.reals).filter(|_| self.is_static) {
            let (address, mac) = (real_address(n), real_mac(n));
            text += &format!("[[neighbour]]\naddress = \"{address}\"\nmac = \"{mac}\"\n");
        }
        for (n, service) in self.services.iter().enumerate() {
            let Service {
                mode,
                protocol,
                scheduler,
                is_persistent,
            } = service;
            let (address, port) = vip(n);
            text += &format!(
                "[[service]]\nname = \"{n}\"\naddress = \"{address}\"\nport = {port}\nprotocol = \"{protocol}\"\n\
                 mode = \"{mode}\"\nscheduler = \"{scheduler}\"\n"
            );
            if *mode == "fullnat" {
                text += "local_pool = \"inside\"\n";
            }
            if *is_persistent {
                text += "persistence = { timeout = 300 }\n";
            }
            for real in 0..self.reals {
                text += &format!("[[service.real]]\naddress = \"{}\"\n", real_address(real));
            }
        }
        text
    }
}

/// The address of service number `n`.
pub fn vip(n: usize) -> Address {
    (Ipv4Addr::new(192, 0, 2, 80 + n as u8), 80)
}

/// A port of every VIP that has no service.
pub const CLOSED: u16 = 9;

pub fn is_vip(address: Ipv4Addr) -> bool {
    address.octets()[..3] == [192, 0, 2]
}

pub fn real_address(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 11 + n as u8)
}

/// weir's own addresses on the links.
pub const LAN_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const WAN_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

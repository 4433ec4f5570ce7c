//! A first configuration: the chosen NICs as ports, with the addresses and the routes that the kernel's interfaces on them lose.

use crate::io::pci::{Bus, Nic};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the kernel's interfaces have.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    /// By interface; without link-local ones.
    pub addresses: Vec<(String, IpNet)>,
    /// Default routes by interface; some have no gateway.
    pub gateways: Vec<(String, Option<IpAddr>)>,
    /// By interface: itself and those that it consists of, as a bond, a bridge or a VLAN does.
    pub lowers: BTreeMap<String, BTreeSet<String>>,
}

/// Flag of a route that only rejects.
const REJECT: u32 = 0x200;

fn rejects(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & REJECT != 0)
}

impl Losses {
    /// Reads default routes of `/proc/net/route`.
    pub fn read_gateways(&mut self, route: &str) {
        for line in route.lines().skip(1) {
            let words: Vec<_> = line.split_whitespace().collect();
            let [interface, to, via, flags, ..] = words.as_slice() else {
                continue;
            };
            // In the machine's own byte order, as the kernel has them.
            let address = |hex: &str| {
                let bits = u32::from_str_radix(hex, 16).ok()?;
                Some(Ipv4Addr::from(bits.to_ne_bytes()))
            };
            let is_default =
                address(to) == Some(Ipv4Addr::UNSPECIFIED) && words.get(7) == Some(&"00000000");
            if is_default && !rejects(flags) {
                let via = address(via).filter(|via| !via.is_unspecified());
                self.gateways
                    .push(((*interface).to_owned(), via.map(IpAddr::from)));
            }
        }
    }

    /// Reads default routes of `/proc/net/ipv6_route`.
    pub fn read_gateways6(&mut self, route: &str) {
        for line in route.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            let [to, "00", _, _, via, .., flags, interface] = words.as_slice() else {
                continue;
            };
            let address = |hex: &str| u128::from_str_radix(hex, 16).ok().map(Ipv6Addr::from);
            if address(to) == Some(Ipv6Addr::UNSPECIFIED) && !rejects(flags) {
                let via = address(via).filter(|via| !via.is_unspecified());
                self.gateways
                    .push(((*interface).to_owned(), via.map(IpAddr::from)));
            }
        }
    }

    /// Whether the machine's default route is by a NIC.
    pub fn has_gateway(&self, nic: &Nic) -> bool {
        let mut names = self.gateways.iter().map(|(name, _)| name);
        names.any(|name| self.is_on(name, nic))
    }

    /// Whether an interface is one of a NIC's, or consists of one.
    fn is_on(&self, name: &String, nic: &Nic) -> bool {
        let lowers = self.lowers.get(name);
        nic.interfaces.contains(name)
            || lowers.is_some_and(|all| nic.interfaces.iter().any(|own| all.contains(own)))
    }

    /// Notes what the interfaces with addresses or default routes consist of.
    pub fn look_below(&mut self, bus: &Bus) {
        let names = self.addresses.iter().map(|(name, _)| name);
        let names = names.chain(self.gateways.iter().map(|(name, _)| name));
        self.lowers = names.map(|name| (name.clone(), bus.lowers(name))).collect();
    }

    /// Of a NIC, in words; empty: nothing.
    pub fn of(&self, nic: &Nic) -> Vec<String> {
        let is_its = |name: &String| self.is_on(name, nic);
        let addresses = self.addresses.iter().filter(|(name, _)| is_its(name));
        let gateways = self.gateways.iter().filter(|(name, _)| is_its(name));
        addresses
            .map(|(name, net)| format!("{net} on {name}"))
            .chain(gateways.map(|(name, via)| match via {
                Some(via) => format!("the default route via {via} on {name}"),
                None => format!("the default route on {name}"),
            }))
            .collect()
    }
}

/// The text of the file. What a bond, a bridge or a VLAN has is not a port's own.
pub fn first_file(nics: &[Nic], losses: &Losses) -> String {
    let mut text =
        "# A first configuration, by `weir setup`: its ports. A service is missing, see the end.\n"
            .to_owned();
    let mut has_default = false;
    for (n, nic) in nics.iter().enumerate() {
        let is_its = |name: &String| nic.interfaces.contains(name);
        let addresses = losses.addresses.iter().filter(|(name, _)| is_its(name));
        let addresses: Vec<_> = addresses.map(|(_, net)| format!("\"{net}\"")).collect();
        // One of IPv6 may come by advertisements: `accept_ra`.
        let gateways = losses.gateways.iter();
        let mut gateways = gateways.filter_map(|(name, via)| Some((name, (*via)?)));
        let gateway = gateways.find(|(name, via)| via.is_ipv4() && is_its(name));
        let name = match gateway {
            Some(_) if !has_default => "wan".to_owned(),
            _ => format!("port{n}"),
        };
        let _ = write!(
            text,
            "\n[[port]]\nname      = \"{name}\"\ndevice    = \"{}\"\naddresses = [{}]\n",
            nic.address,
            addresses.join(", ")
        );
        if addresses.is_empty() {
            text += "# Its own addresses, such as \"10.0.0.1/24\", are missing.\n";
        }
        if let Some((_, via)) = gateway.filter(|_| !has_default) {
            has_default = true;
            let _ = write!(text, "\n[[route]]\nto  = \"0.0.0.0/0\"\nvia = \"{via}\"\n");
        }
    }
    text + EXAMPLE
}

const EXAMPLE: &str = r#"
# [[local_pool]]
# name      = "inside"
# addresses = ["10.0.0.200"]          # free ones of a port's subnet
#
# [[service]]
# name       = "web"
# address    = "192.0.2.80"           # the VIP
# port       = 80
# protocol   = "tcp"
# mode       = "fullnat"
# local_pool = "inside"
#
#   [service.health]
#   type = "http"
#
#   [[service.real]]
#   address = "10.0.0.11"
#   port    = 8080
"#;

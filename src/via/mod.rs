//! The ways of health checks that are not the host's own: out of a port (`via = "port"`), and that of a client's packet
//! (`via = "service"`).
//!
//! By the second one weir owns a private address for each real server of a service. What the host sends there comes to the
//! companions' thread with the MAC address of a next hop that there is not, and by that is told from everything else. There it
//! becomes what a client's packet becomes in the service's mode, by the same code ([`forward`](crate::forward)), and leaves by the
//! port that leads to the real server. Workers know nothing of it: they give the host what may be the answer to a check
//! ([`Tables::check_answer`]), which no client's packet is asked about, and here it gets its private address back.
//!
//! ```text
//! dr      host > private   becomes   port > VIP, to the MAC address of the real server    answer: VIP > port
//! tunnel  host > private   becomes   port > VIP, wrapped for the real server              answer: VIP > port
//! nat     host > private   becomes   Checks::source > real server                         answer: by its gateway, which weir is
//! fullnat host > private   becomes   pool > real server                                   answer: real server > pool
//! ```
//!
//! So checks have no connection of a worker, and count nowhere as clients.

mod book;
mod flows;
mod header;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod translator;

pub use book::Book;
pub use translator::{Answer, Translator};

use crate::config::CheckAddresses;
use crate::neighbour::LinkState;
use crate::net::{ByFamily, Mac, is_link_local};
use crate::service::ServiceKey;
use crate::tables::{Checks, Tables};
use crate::units::PortId;
use ipnet::IpNet;
use parking_lot::RwLock;
use std::net::IpAddr;
use std::sync::Arc;

/// The MAC address of the host's next hop towards all private addresses: a locally administered one, with "weir" in it.
pub const NEXT_HOP: Mac = Mac([0x02, b'w', b'e', b'i', b'r', 0]);

/// Headers that a way may put around a check, and what any way takes: no check needs a larger packet.
const HEADERS: u16 = 60;
const MTU: u16 = 1280;

/// A port's companion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Companion {
    pub name: String,
    pub mac: Mac,
}

/// What a check's socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Out {
    /// The companion's name.
    pub device: String,
    pub source: IpAddr,
}

/// Why a check has no way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoWay {
    /// It says nothing of the real server.
    Own(String),
    /// Clients' packets have none either.
    Real(String),
}

impl NoWay {
    fn own<T>(words: impl Into<String>) -> Result<T, NoWay> {
        Err(NoWay::Own(words.into()))
    }
}

/// What the control thread, the thread of the checks and that of the companions know in common. No worker sees it.
#[derive(Default)]
pub struct Ways {
    /// By port.
    companions: Vec<Option<Companion>>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    book: Book,
    tables: Option<Arc<Tables>>,
}

impl Ways {
    pub fn new(companions: Vec<Option<Companion>>) -> Self {
        Ways {
            companions,
            known: RwLock::default(),
        }
    }

    /// Takes the tables that are in force.
    pub fn set_tables(&self, tables: Arc<Tables>) {
        let before = self.known.write().tables.replace(tables);
        // Outside of the lock: the last owner frees what it replaced.
        drop(before);
    }

    /// Changes the private addresses.
    pub fn change<R>(&self, change: impl FnOnce(&mut Book) -> R) -> R {
        change(&mut self.known.write().book)
    }

    /// The companion of a port.
    fn companion(&self, port: PortId) -> Option<&Companion> {
        self.companions.get(port.index())?.as_ref()
    }

    /// The port whose host makes checks, for each family that has any: one with a companion and an address of the family.
    pub fn checks(&self, tables: &Tables) -> ByFamily<Option<Checks>> {
        let known = self.known.read();
        let of = |is_v6: bool| {
            if !known.book.has_any(is_v6) {
                return None;
            }
            let ports = (0..tables.ports.len()).map(|n| PortId(n as u8));
            let mut able = ports.filter(|port| {
                let mut own = tables.port(*port).addresses.iter().map(IpNet::addr);
                self.companion(*port).is_some()
                    && own.any(|own| own.is_ipv6() == is_v6 && !is_link_local(own))
            });
            let source = known.book.addresses().source(is_v6);
            able.next().map(|port| Checks { port, source })
        };
        ByFamily {
            v4: of(false),
            v6: of(true),
        }
    }

    /// What a check of `via = "port"` to a real server is bound to.
    ///
    /// # Errors
    /// Why there is no such way, in words.
    pub fn out_of_port(&self, real: IpAddr) -> Result<Out, String> {
        let known = self.known.read();
        let tables = known.tables.as_ref().ok_or("weir is starting")?;
        let route = tables.routes.get(real);
        let route = route.ok_or_else(|| format!("no route leads to {real}"))?;
        let name = &tables.port(route.port).name;
        let companion = self.companion(route.port);
        let companion = companion
            .ok_or_else(|| format!("{real} is behind the port {name}, which has no companion"))?;
        let source = tables.address_towards(route.port, real);
        let source = source
            .ok_or_else(|| format!("the port {name} has no address of the family of {real}"))?;
        Ok(Out {
            device: companion.name.clone(),
            source,
        })
    }

    /// The private address of a service's real server, and what a check to it is bound to.
    ///
    /// # Errors
    /// Why there is no such way, in words.
    pub fn by_service(&self, service: &ServiceKey, real: IpAddr) -> Result<(IpAddr, Out), NoWay> {
        let known = self.known.read();
        let Some(address) = known.book.address(service, real) else {
            return NoWay::own("no private address is left in `check_addresses`");
        };
        let Some(tables) = &known.tables else {
            return NoWay::own("weir is starting");
        };
        let out = tables.checks.of(address).and_then(|checks| {
            Some(Out {
                device: self.companion(checks.port)?.name.clone(),
                source: tables.address_towards(checks.port, address)?,
            })
        });
        let Some(out) = out else {
            return NoWay::own("no port has a companion and an address of the check's family");
        };
        match unreachable(tables, real) {
            Some(why) => Err(NoWay::Real(why)),
            None => Ok((address, out)),
        }
    }
}

/// Why no packet goes to a real server, as far as that is certain.
fn unreachable(tables: &Tables, real: IpAddr) -> Option<String> {
    let Some(route) = tables.routes.get(real) else {
        return Some(format!("no route leads to {real}"));
    };
    if tables.neighbours.is_link_down(route.port) {
        let port = &tables.port(route.port).name;
        return Some(format!("the link of the port {port} is down"));
    }
    let (hop, next) = match route.gateway {
        Some((hop, gateway)) => (hop, gateway),
        None => (tables.neighbours.find(route.port, real)?, real),
    };
    let asked = match next {
        IpAddr::V4(_) => "ARP",
        IpAddr::V6(_) => "neighbour solicitations",
    };
    let has_failed = tables.neighbours.link(hop).state == LinkState::Failed;
    has_failed.then(|| format!("{next} does not answer {asked}"))
}

/// A route of the host's to private addresses, by a companion.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leading {
    pub port: PortId,
    pub to: IpNet,
    pub gateway: IpAddr,
    /// Of the largest packets that any service's way takes.
    pub mtu: u16,
}

/// The host's routes to private addresses.
pub fn leading(
    checks: &ByFamily<Option<Checks>>,
    addresses: &CheckAddresses,
    least_mtu: u16,
) -> Vec<Leading> {
    let both = [(false, checks.v4), (true, checks.v6)].into_iter();
    both.filter_map(|(is_v6, checks)| {
        Some(Leading {
            port: checks?.port,
            to: addresses.of(is_v6),
            gateway: addresses.gateway(is_v6),
            mtu: match is_v6 {
                // RFC 8200 section 5: any way takes that.
                true => MTU,
                false => least_mtu.saturating_sub(HEADERS).min(MTU),
            },
        })
    })
    .collect()
}

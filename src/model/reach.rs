//! What the log says of real servers and gateways that begin or cease to answer: one line each, with what depends on it.

use super::{Model, key};
use crate::log::Said;
use crate::neighbour::LinkState;
use crate::resolver::{Reached, ReachedLines};
use crate::tables::Tables;
use crate::units::PortId;
use std::fmt::Display;
use std::net::IpAddr;

/// So many names in a line; the rest is counted.
const NAMES: usize = 4;

/// `web, dns and 3 more`
pub fn names(all: impl IntoIterator<Item = impl Display>) -> String {
    let mut all = all.into_iter();
    let named: Vec<_> = all.by_ref().take(NAMES).map(|it| it.to_string()).collect();
    match (named.join(", "), all.count()) {
        (named, 0) => named,
        (named, more) => format!("{named} and {more} more"),
    }
}

/// Why packets do not get to an address, if they do not: no route leads there, or its next hop has failed to answer.
pub fn why_no_way(tables: &Tables, address: IpAddr) -> Option<String> {
    let Some(route) = tables.routes.get(address) else {
        return Some("no route".to_owned());
    };
    if tables.neighbours.is_link_down(route.port) {
        return Some(format!("link {} down", tables.port(route.port).name));
    }
    let hop = match route.gateway {
        Some((hop, _)) => Some(hop),
        None => tables.neighbours.find(route.port, address),
    }?;
    match tables.neighbours.link(hop).state {
        LinkState::Failed => Some(match tables.neighbours.address(hop) {
            next if next == address => "no neighbour".to_owned(),
            next => format!("no neighbour {next}"),
        }),
        LinkState::Incomplete | LinkState::Reachable | LinkState::Stale => None,
    }
}

impl Model {
    pub(super) fn say_reached(&self, due: ReachedLines) {
        for ((port, address), said) in due.subjects {
            self.say_one(port, address, said);
        }
        if due.others > 0 {
            tracing::warn!(
                changes = due.others,
                "still more real servers and gateways began or ceased to answer: see weir show neighbours"
            );
        }
    }

    fn say_one(&self, id: PortId, address: IpAddr, said: Said<Reached>) {
        let tables = self.publisher.current();
        let port = &tables.port(id).name;
        let (was, now) = (said.first.before.name(), said.last.after.name());
        let (mac, changes) = (said.last.mac, said.count);
        let is_up = said.last.after != LinkState::Failed;
        let services = self.services_of(address);
        let asked = match address {
            IpAddr::V4(_) => "ARP",
            IpAddr::V6(_) => "neighbour solicitations",
        };
        if self.services.real_addresses().contains_key(&address) {
            match is_up {
                true => {
                    tracing::info!(real = %address, %port, %mac, services, was, now, changes, "real server is up: it answers {asked}")
                }
                false => {
                    tracing::warn!(real = %address, %port, services, was, now, changes, "real server is down: it does not answer {asked}")
                }
            }
        }
        let is_via = |route: &crate::config::RouteConfig| {
            route.via == address && route.port.is_none_or(|place| place == id.index())
        };
        if self.config().routes.iter().any(is_via) {
            let behind = self.services.real_addresses().keys().filter(|real| {
                tables.routes.get(**real).is_some_and(|route| {
                    let gateway = route.gateway.map(|(_, via)| via);
                    route.port == id && gateway == Some(address)
                })
            });
            let mut behind: Vec<_> = behind.collect();
            behind.sort_unstable();
            let reals = names(behind);
            match is_up {
                true => {
                    tracing::info!(gateway = %address, %port, %mac, reals, was, now, changes, "gateway is up: it answers {asked}")
                }
                false => {
                    tracing::warn!(gateway = %address, %port, reals, was, now, changes, "gateway is down: it does not answer {asked}")
                }
            }
        }
    }

    /// The names of the services that have a real server.
    fn services_of(&self, real: IpAddr) -> String {
        let has = |service: &&std::sync::Arc<crate::config::ServiceConfig>| {
            let mut servers = service.servers();
            servers.any(|server| server.address == real)
        };
        let services = self.config().services.iter().filter(has);
        let named = services.filter_map(|service| self.services.get(&key(service)));
        names(named.map(|service| &service.name))
    }

    /// The next hops in a state, for a line of the log.
    pub fn next_hops(&self, state: LinkState) -> String {
        let tables = self.publisher.current();
        let hops = self.resolver.neighbours().iter();
        let hops = hops.filter(|(_, _, link, _)| link.state == state);
        names(
            hops.map(|(_, address, link, _)| {
                format!("{address} on {}", tables.port(link.port).name)
            }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_few_and_counts_the_rest() {
        assert_eq!(names(Vec::<String>::new()), "");
        assert_eq!(names(["web", "dns"]), "web, dns");
        assert_eq!(names(0..10), "0, 1, 2, 3 and 6 more");
    }
}

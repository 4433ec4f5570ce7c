//! Which way health checks can go: `via` of a check, and `check_addresses`.

use super::health::Templates;
use super::names::{Key, key_of};
use super::pool::Pools;
use crate::config::address::Destination;
use crate::config::error::{At, Log, Span};
use crate::config::value::{Given, List};
use crate::config::{
    CheckAddresses, CheckWay, Config, HealthConfig, ModeConfig, PortConfig, RealConfig,
    RouteConfig, ServiceConfig,
};
use crate::net::{family, is_link_local};
use foldhash::HashSet;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

/// The ports and routes that checks can go by, and the addresses that are theirs.
#[derive(Debug, Default)]
pub(super) struct Ways {
    ports: Vec<Port>,
    /// Each with the place of its port.
    routes: Vec<(IpNet, usize)>,
    /// Something could not be read: nothing is said.
    unknown: bool,
    addresses: CheckAddresses,
}

#[derive(Debug)]
struct Port {
    name: String,
    has_companion: bool,
    addresses: Vec<IpNet>,
    accepts_ra: bool,
}

/// What is wrong with a check's way, and what to do.
type Problem = (String, String);

impl Ways {
    /// Those of which nothing is known.
    pub(super) fn unknown() -> Ways {
        Ways {
            unknown: true,
            ..Ways::default()
        }
    }

    pub(super) fn new(
        ports: &[PortConfig],
        routes: &[RouteConfig],
        addresses: CheckAddresses,
        unknown: bool,
    ) -> Ways {
        let port = |port: &PortConfig| Port {
            name: port.name.clone(),
            has_companion: port.companion.is_some(),
            addresses: port.addresses.clone(),
            accepts_ra: port.accept_ra,
        };
        let of_gateway = |via: IpAddr| {
            let on_link = |port: &PortConfig| port.addresses.iter().any(|net| net.contains(&via));
            ports.iter().position(on_link)
        };
        let route = |route: &RouteConfig| {
            let port = route.port.or_else(|| of_gateway(route.via))?;
            Some((route.to, port))
        };
        Ways {
            ports: ports.iter().map(port).collect(),
            routes: routes.iter().filter_map(route).collect(),
            unknown,
            addresses,
        }
    }

    /// Those of a running configuration.
    pub(super) fn of(config: &Config) -> Ways {
        Ways::new(&config.ports, &config.routes, config.check_addresses, false)
    }

    /// The ports by which an address is reached: several where routers that advertise themselves choose.
    fn towards(&self, address: IpAddr) -> Vec<&Port> {
        let connected = self.ports.iter().enumerate().flat_map(|(place, port)| {
            let subnets = port.addresses.iter().map(IpNet::trunc);
            subnets.map(move |net| (net, place))
        });
        let ways = connected.chain(self.routes.iter().copied());
        let holding = ways.filter(|(net, _)| net.contains(&address));
        match holding.max_by_key(|(net, _)| net.prefix_len()) {
            Some((_, place)) => self.ports.get(place).into_iter().collect(),
            None if address.is_ipv6() => self.ports.iter().filter(|port| port.accepts_ra).collect(),
            None => Vec::new(),
        }
    }

    /// What is wrong with the way of a service's check, if something is.
    pub(super) fn problem(
        &self,
        service: &ServiceConfig,
        health: &HealthConfig,
        pools: &Pools,
    ) -> Option<Problem> {
        match health.via {
            _ if self.unknown => None,
            CheckWay::Host => None,
            CheckWay::Port => service.reals.iter().find_map(|real| self.no_port_to(real)),
            CheckWay::Service => self.no_way_of(service, pools),
        }
    }

    /// Why no check goes to a real server out of a port, if so.
    fn no_port_to(&self, real: &RealConfig) -> Option<Problem> {
        let ports = self.towards(real.address);
        if ports.is_empty() || ports.iter().any(|port| port.has_companion) {
            return None;
        }
        let names: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
        Some((
            format!(
                "no port with a companion leads to the real server `{}`, which is behind the port {}",
                real.address,
                names.join(" or ")
            ),
            "give that port a `companion`, or write `via = \"host\"`".to_owned(),
        ))
    }

    /// Why no check goes as clients' packets do, if so.
    fn no_way_of(&self, service: &ServiceConfig, pools: &Pools) -> Option<Problem> {
        let sample = match &service.mode {
            ModeConfig::Fullnat { pool } => pools.checked(pool),
            _ => None,
        };
        let is_v6 = match &sample {
            Some(pool) => pool.addresses.first()?.is_ipv6(),
            None => service.address.is_ipv6(),
        };
        let has_way = |port: &Port| {
            let mut addresses = port.addresses.iter().map(IpNet::addr);
            port.has_companion && addresses.any(|own| own.is_ipv6() == is_v6 && !is_link_local(own))
        };
        if !self.ports.iter().any(has_way) {
            let family = family(self.addresses.gateway(is_v6));
            return Some((
                format!(
                    "`via = \"service\"` takes a port with a companion and an {family} address"
                ),
                format!(
                    "give a port that has an {family} address a `companion`, or write `via = \"host\"`"
                ),
            ));
        }
        if let Some(pool) = sample
            && pool.ports.0 <= CheckAddresses::PORTS.1
        {
            let (first, last) = CheckAddresses::PORTS;
            return Some((
                format!(
                    "the local pool {} uses the ports {first} to {last}, by which `via = \"service\"` checks",
                    pool.name
                ),
                format!("let its `ports` begin at {} or above", last + 1),
            ));
        }
        let own = self.addresses.of(is_v6);
        let meets = |other: IpNet| own.contains(&other) || other.contains(&own);
        let subnets = self.ports.iter().flat_map(|port| &port.addresses);
        let subnets = subnets.map(|net| (net.trunc(), "a port's subnet"));
        // A wider route, such as the default, does not lead there in earnest.
        let routes = self.routes.iter().filter(|(to, _)| own.contains(to));
        let routes = routes.map(|(to, _)| (*to, "the destination of a [[route]]"));
        let hosts = service.reals.iter().map(|real| real.address);
        let hosts = hosts.map(|real| (real, "a real server"));
        let vip = (service.address, "the VIP");
        let pool = sample.iter().flat_map(|pool| &pool.addresses);
        let pool = pool.map(|address| (*address, "an address of the local pool"));
        let hosts = hosts.chain([vip]).chain(pool);
        let hosts = hosts.map(|(address, what)| (IpNet::from(address), what));
        let mut others = subnets.chain(routes).chain(hosts);
        let (other, what) = others.find(|(other, _)| meets(*other))?;
        let other = match other.prefix_len() == other.max_prefix_len() {
            true => other.addr().to_string(),
            false => other.to_string(),
        };
        Some((
            format!("`check_addresses` {own} and {other} overlap, which is {what}"),
            "write `check_addresses = […]` with a network that nothing else uses".to_owned(),
        ))
    }

    /// How many addresses of checks a service takes, of IPv4 and of IPv6.
    pub(super) fn needs(service: &ServiceConfig, health: &HealthConfig, pools: &Pools) -> [u32; 2] {
        if health.via != CheckWay::Service {
            return [0; 2];
        }
        let is_v6 = match &service.mode {
            ModeConfig::Fullnat { pool } => pools.sample(pool).is_some_and(|it| it.is_ipv6()),
            _ => service.address.is_ipv6(),
        };
        let mut needs = [0; 2];
        needs[usize::from(is_v6)] = service.reals.len() as u32;
        needs
    }

    /// How many addresses of checks services take, but for those with these protocols, addresses and ports.
    pub(super) fn taken(
        services: &[Arc<ServiceConfig>],
        replaced: &HashSet<Key>,
        pools: &Pools,
        templates: &Templates,
    ) -> [u32; 2] {
        let mut all = [0; 2];
        for service in services {
            let health = service.health.as_ref();
            let health = health.and_then(|health| health.resolve(&templates.list));
            if let Some(health) = health
                && !replaced.contains(&key_of(service))
            {
                let needs = Ways::needs(service, health, pools);
                all = [all[0] + needs[0], all[1] + needs[1]];
            }
        }
        all
    }

    /// The family whose addresses do not suffice for so many, if one's do not.
    pub(super) fn exceeded(&self, needs: [u32; 2]) -> Option<Problem> {
        let is_short = |is_v6: &bool| needs[usize::from(*is_v6)] > self.addresses.room(*is_v6);
        let is_v6 = [false, true].into_iter().find(is_short)?;
        let (net, room) = (self.addresses.of(is_v6), self.addresses.room(is_v6));
        let problem = format!(
            "`check_addresses` {net} has room for {room} real servers of services that are checked by `via = \"service\"`, and here is one more"
        );
        Some((
            problem,
            "write a larger network, or check some services by `via = \"host\"`".to_owned(),
        ))
    }
}

/// The networks of `check_addresses`.
pub(super) fn check_addresses(raw: Given<List<Destination>>, log: &mut Log) -> CheckAddresses {
    let mut addresses = CheckAddresses::default();
    let mut given: [Option<Span>; 2] = [None; 2];
    for At { value, at } in raw.items() {
        let net = value.0;
        let is_v6 = net.addr().is_ipv6();
        let (least, most) = match is_v6 {
            false => (8, 27),
            true => (16, 120),
        };
        if !(least..=most).contains(&net.prefix_len()) {
            log.error(
                at,
                format!(
                    "a prefix length of {} is none for the addresses of checks",
                    net.prefix_len()
                ),
            )
            .help(format!(
                "write an {} network with a length from {least} to {most}",
                family(net.addr())
            ));
        } else if let Some(first) = given[usize::from(is_v6)].replace(at) {
            log.error(
                at,
                format!(
                    "a second {} network of `check_addresses`",
                    family(net.addr())
                ),
            )
            .note(first, "the first is here")
            .help("leave one of each family");
        }
        match net {
            IpNet::V4(net) => addresses.v4 = net,
            IpNet::V6(net) => addresses.v6 = net,
        }
    }
    addresses
}

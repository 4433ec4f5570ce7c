//! Ports, routes, neighbours: whose each address is, and what can be reached.

use super::devices::{self, Devices};
use super::ways::Ways;
use crate::config::address::{Destination, edges};
use crate::config::error::{At, Log, Span, did_you_mean, quote};
use crate::config::pieces::Item;
use crate::config::raw;
use crate::config::value::{Given, List};
use crate::config::{CheckAddresses, Config, PortConfig, Queues, RouteConfig};
use crate::net::{LEAST_MTU_V6, Mac, family, is_link_local};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use ipnet::{IpNet, Ipv6Net};
use std::net::IpAddr;

/// The most ports.
const MAX_PORTS: usize = 16;
const DEFAULT_MTU: u32 = 1500;
const NEXT_ROUTER: &str = "write the address of the next router";

/// Which of weir's own addresses one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Port,
    /// Of the pool at this place.
    Pool(usize),
    Vip,
}

impl Role {
    /// For the middle of a message.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Role::Port => "a port's address",
            Role::Pool(_) => "a local pool's address",
            Role::Vip => "a VIP",
        }
    }

    /// For a note that points at it.
    pub(super) fn here(self) -> &'static str {
        match self {
            Role::Port => "the port's address is here",
            Role::Pool(_) => "the local pool has it here",
            Role::Vip => "the VIP is here",
        }
    }
}

/// Prefixes, to be asked whether one of them holds an address.
#[derive(Debug, Default)]
struct Prefixes(Vec<(u8, HashSet<IpAddr>)>);

impl Prefixes {
    fn insert(&mut self, net: IpNet) {
        let length = net.prefix_len();
        let at = match self.0.iter().position(|&(known, _)| known == length) {
            Some(at) => at,
            None => {
                self.0.push((length, HashSet::new()));
                self.0.len() - 1
            }
        };
        self.0[at].1.insert(net.network());
    }

    /// This very prefix.
    fn holds(&self, net: IpNet) -> bool {
        let same = |(length, known): &(u8, HashSet<IpAddr>)| {
            *length == net.prefix_len() && known.contains(&net.network())
        };
        self.0.iter().any(same)
    }

    fn contain(&self, address: IpAddr) -> bool {
        let holds = |(length, known): &(u8, HashSet<IpAddr>)| {
            // No IPv4 prefix is longer than 32 bits.
            IpNet::new(address, *length).is_ok_and(|net| known.contains(&net.network()))
        };
        self.0.iter().any(holds)
    }
}

#[derive(Debug, Default)]
pub(super) struct Network {
    /// weir's own addresses.
    own: HashMap<IpAddr, (Role, Span)>,
    /// The network and broadcast addresses of the ports' subnets.
    edges: HashMap<IpAddr, (&'static str, Span)>,
    connected: Prefixes,
    routed: Prefixes,
    /// In the order of the ports.
    links: Vec<Link>,
    /// Some port or its addresses could not be read: nothing is known to be unconnected.
    ports_unknown: bool,
    /// Where each port names its device.
    pub devices: Vec<Span>,
    /// Some route could not be read: nothing is known to be unreachable.
    routes_unknown: bool,
    /// Some port has a companion, or that cannot be told.
    pub may_have_companion: bool,
    /// That health checks can go.
    pub ways: Ways,
}

/// What a zone names: the link of a port.
#[derive(Debug)]
struct Link {
    name: String,
    /// The port's own link-local address, as far as the file tells.
    link_local: Option<(IpAddr, Span)>,
    mtu: u32,
}

impl Network {
    /// That of a running configuration, without its VIPs: for what is to be added to it.
    pub(super) fn of(config: &Config) -> Network {
        let mut network = Network::default();
        for net in config.ports.iter().flat_map(|port| &port.addresses) {
            network.claim(net.addr(), Role::Port, Span::NOWHERE);
            network.connect(net.trunc(), Span::NOWHERE);
        }
        for (place, pool) in config.pools.iter().enumerate() {
            for address in &pool.addresses {
                network.claim(*address, Role::Pool(place), Span::NOWHERE);
            }
        }
        for route in &config.routes {
            network.routed.insert(route.to);
        }
        if config.ports.iter().any(|port| port.accept_ra) {
            network.routed.insert(IpNet::V6(Ipv6Net::default()));
        }
        network.ways = Ways::of(config);
        network
    }

    /// Takes note of what health checks can go by.
    pub(super) fn ways(
        &mut self,
        ports: &[PortConfig],
        routes: &[RouteConfig],
        addresses: CheckAddresses,
    ) {
        let unknown = self.ports_unknown || self.routes_unknown;
        self.ways = Ways::new(ports, routes, addresses, unknown);
    }

    /// A port is in this subnet.
    fn connect(&mut self, subnet: IpNet, at: Span) {
        // Every link has these: none of them tells which port an address is behind.
        if is_link_local(subnet.addr()) {
            return;
        }
        self.connected.insert(subnet);
        for (address, edge) in edges(subnet) {
            self.edges.insert(address, (edge, at));
        }
    }

    pub(super) fn own(&self, address: IpAddr) -> Option<(Role, Span)> {
        self.own.get(&address).copied()
    }

    /// Returns false only if an address is surely none of a port's.
    pub(super) fn may_be_port(&self, address: IpAddr) -> bool {
        match self.own.get(&address) {
            Some((role, _)) => *role == Role::Port,
            None => self.ports_unknown,
        }
    }

    /// Makes an address weir's own; gives who had it before.
    pub(super) fn claim(&mut self, address: IpAddr, role: Role, at: Span) -> Option<(Role, Span)> {
        match self.own.entry(address) {
            std::collections::hash_map::Entry::Occupied(other) => Some(*other.get()),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert((role, at));
                None
            }
        }
    }

    /// Returns false only if no port is in the address's subnet: true as well while ports are missing because of other errors.
    pub(super) fn connected(&self, address: IpAddr) -> bool {
        self.ports_unknown || self.connected.contain(address)
    }

    /// Returns false only if neither a port's subnet nor a route holds the address, as [`connected`](Self::connected).
    pub(super) fn reachable(&self, address: IpAddr) -> bool {
        self.routes_unknown || self.routed.contain(address) || self.connected(address)
    }

    /// Whether there is nothing to say of a real server's address. `crosses`: by a mode that crosses routers.
    pub(super) fn is_plain_real(&self, address: IpAddr, crosses: bool) -> bool {
        let reached = self.connected(address) || crosses && self.reachable(address);
        reached && !self.edges.contains_key(&address) && !self.own.contains_key(&address)
    }

    /// Refuses an address that is no host's in one of the ports' subnets.
    pub(super) fn no_edge(&self, address: IpAddr, at: Span, log: &mut Log) -> bool {
        let Some(&(edge, port)) = self.edges.get(&address) else {
            return true;
        };
        log.error(
            at,
            format!("`{address}` is the {edge} address of a port's subnet"),
        )
        .note(port, "the port's address is here")
        .help("write the address of one host");
        false
    }

    /// `workers`: how many are to drive the devices; none: the devices are ignored.
    pub(super) fn ports(
        &mut self,
        raw: Given<List<raw::Port>>,
        workers: Option<usize>,
        log: &mut Log,
    ) -> Vec<PortConfig> {
        self.ports_unknown = !raw.complete();
        let list_at = raw.ok().map_or(Span::default(), |list| list.at);
        let list = raw.items();
        if list.is_empty() && !self.ports_unknown {
            log.error(list_at, "no [[port]] is configured")
                .help("add a [[port]] with `name`, `device` and `addresses`");
            self.ports_unknown = true;
        }
        self.may_have_companion = self.ports_unknown;
        if let Some(extra) = list.get(MAX_PORTS) {
            log.error(extra.at, format!("{} ports are too many", list.len()))
                .help(format!("configure at most {MAX_PORTS}"));
        }
        let mut names = Unique::default();
        let mut devices = Devices::default();
        let mut subnets: Vec<(IpNet, usize, Span)> = Vec::new();
        let mut ports = Vec::new();
        for (place, At { value: port, at }) in list.into_iter().enumerate() {
            names.check(
                "port",
                port.name.ok().map(|name| (name.value.0.as_str(), name.at)),
                log,
            );
            if let Some(workers) = workers {
                devices.check(&port, workers, log);
            }
            self.may_have_companion |= !matches!(port.companion, Given::No);
            let companion = port.companion.ok();
            devices.interfaces.check(
                "interface",
                companion.map(|name| (name.value.0.as_str(), name.at)),
                log,
            );
            let addresses = self.port_addresses(&port, at, place, &mut subnets, log);
            let accept_ra = port.accept_ra.get().unwrap_or(false);
            if accept_ra {
                // Which there may be at any time.
                self.routed.insert(IpNet::V6(Ipv6Net::default()));
            }
            let mtu = port.mtu.get().map_or(DEFAULT_MTU, |mtu| mtu.0);
            if let Some(given) = port.mtu.ok()
                && given.value.0 < LEAST_MTU_V6
                && (accept_ra || addresses.iter().any(|net| net.addr().is_ipv6()))
            {
                log.error(
                    given.at,
                    format!("an `mtu` of {mtu} is too small for IPv6, which the port speaks"),
                )
                .help(format!(
                    "write {LEAST_MTU_V6} or more (RFC 8200 section 5), or give the port no IPv6 address"
                ));
            }
            let link_local = link_local_of(&port, &addresses, at);
            let announce = announced(port.announce, log);
            let device_at = port.device.ok().map_or(at, |device| device.at);
            let (Some(name), Some(device)) = (port.name.into_option(), port.device.into_option())
            else {
                continue;
            };
            let vlan = port.vlan.get().unwrap_or_default();
            let on = devices.number(&device.0, vlan);
            self.devices.push(device_at);
            self.links.push(Link {
                name: name.0.clone(),
                link_local,
                mtu,
            });
            ports.push(PortConfig {
                name: name.0,
                device: device.0,
                addresses,
                announce,
                accept_ra,
                forward: port.forward.get().unwrap_or(false),
                on,
                vlan,
                mac: port.mac.get(),
                mtu: mtu as u16,
                queues: port.queues.get().unwrap_or(Queues::Auto),
                companion: port.companion.into_option().map(|name| name.0),
            });
        }
        devices::share(&mut ports);
        ports
    }

    fn port_addresses(
        &mut self,
        port: &raw::Port,
        at: Span,
        place: usize,
        subnets: &mut Vec<(IpNet, usize, Span)>,
        log: &mut Log,
    ) -> Vec<IpNet> {
        self.ports_unknown |= !port.addresses.complete();
        let Some(list) = port.addresses.ok() else {
            if matches!(port.addresses, Given::No) {
                log.warning(at, "the port has no addresses: it can only receive")
                    .help("add `addresses = [\"198.51.100.1/24\"]`");
            }
            return Vec::new();
        };
        let mut addresses = Vec::new();
        for &At { value: net, at } in &list.value.items {
            let net = net.0;
            if is_link_local(net.addr()) {
                // The same one may be another port's, on another link.
                let is_first = |known: &IpNet| !is_link_local(known.addr());
                match addresses.iter().all(is_first) {
                    true => addresses.push(net),
                    false => {
                        log.error(at, "a second link-local address of the port")
                            .help("leave one of them");
                    }
                }
                continue;
            }
            if let Some((_, other)) = self.claim(net.addr(), Role::Port, at) {
                log.error(at, format!("`{}` is a port's address already", net.addr()))
                    .note(other, "given here first")
                    .help("remove one of the two");
                continue;
            }
            addresses.push(net);
            let subnet = net.trunc();
            self.connect(subnet, at);
            let overlaps = |other: &&(IpNet, usize, Span)| {
                other.1 != place && (other.0.contains(&subnet) || subnet.contains(&other.0))
            };
            if let Some(&(other, _, first)) = subnets.iter().find(overlaps) {
                log.error(
                    at,
                    format!("the subnet {subnet} overlaps {other} of another port"),
                )
                .note(first, "the other port's address is here")
                .help("give every port subnets of its own");
            }
            if !subnets.iter().any(|other| other.0 == subnet) {
                subnets.push((subnet, place, at));
            }
        }
        addresses
    }

    /// Whether every port and route could be read.
    pub(super) fn is_complete(&self) -> bool {
        !self.ports_unknown && !self.routes_unknown
    }

    /// One in which every address is another host's, and can be reached.
    pub(super) fn of_others() -> Network {
        Network {
            ports_unknown: true,
            routes_unknown: true,
            ways: Ways::unknown(),
            ..Network::default()
        }
    }

    /// Takes note of the services' addresses.
    pub(super) fn vips(&mut self, services: &[Item], log: &mut Log) {
        let vip = |service: &Item| match service {
            Item::Written(service) => service.value.address.ok().copied(),
            Item::Checked(services) => services.first().map(|service| At {
                value: service.address,
                at: Span::NOWHERE,
            }),
        };
        for At { value: vip, at } in services.iter().filter_map(vip) {
            if !self.no_edge(vip, at, log) {
                continue;
            }
            if let Some((role @ (Role::Port | Role::Pool(_)), other)) =
                self.claim(vip, Role::Vip, at)
            {
                log.error(at, format!("the VIP `{vip}` is also {}", role.describe()))
                    .note(other, role.here())
                    .help("give the service an address of its own");
            }
        }
    }

    pub(super) fn routes(
        &mut self,
        raw: Given<List<raw::Route>>,
        log: &mut Log,
    ) -> Vec<RouteConfig> {
        self.routes_unknown = !raw.complete();
        let mut first: HashMap<IpNet, Span> = HashMap::new();
        let mut routes = Vec::new();
        for At { value: route, .. } in raw.items() {
            match route.to.ok() {
                Some(to) => {
                    self.routed.insert(to.value.0);
                    self.check_destination(to.value.0, to.at, &mut first, log);
                }
                None => self.routes_unknown = true,
            }
            let mut port = None;
            if let Some(At { value: via, at }) = route.via.ok() {
                let (zone, via, at) = (via.zone.as_deref(), via.address, *at);
                if let Some(to) = route.to.get()
                    && family(to.0.addr()) != family(via)
                {
                    let (to, families) = (to.0, (family(to.0.addr()), family(via)));
                    let (wanted, found) = families;
                    log.error(
                        at,
                        format!("the gateway `{via}` is {found}, the destination {to} is {wanted}"),
                    )
                    .help(format!("write the {wanted} address of the next router"));
                } else if let Some(zone) = zone {
                    port = self.port_of_zone(zone, at, log);
                    self.not_own("gateway", (via, port), at, NEXT_ROUTER, log);
                } else if self.not_own("gateway", (via, None), at, NEXT_ROUTER, log)
                    && self.no_edge(via, at, log)
                    && !self.connected(via)
                {
                    log.error(at, format!("the gateway `{via}` lies in no port's subnet"))
                        .help("write a router that a port reaches directly, or give a port an address in its subnet");
                }
            }
            if let (Some(to), Some(via)) = (route.to.get(), route.via.into_option()) {
                routes.push(RouteConfig {
                    to: to.0,
                    via: via.address,
                    port,
                });
            }
        }
        routes
    }

    /// The place of the port that a zone names.
    pub(super) fn port_of_zone(&self, zone: &str, at: Span, log: &mut Log) -> Option<usize> {
        let place = self.links.iter().position(|link| link.name == zone);
        if let Some(place) = place
            && let mtu @ ..LEAST_MTU_V6 = self.links[place].mtu
        {
            log.error(
                at,
                format!(
                    "the port {} has an `mtu` of {mtu}, too small for IPv6",
                    quote(zone)
                ),
            )
            .help(format!(
                "give it {LEAST_MTU_V6} or more (RFC 8200 section 5)"
            ));
        }
        self.known_port(place, zone, at, log)
    }

    /// The place of the port of a name.
    pub(super) fn port_of_name(&self, name: &str, at: Span, log: &mut Log) -> Option<usize> {
        let place = self.links.iter().position(|link| link.name == name);
        self.known_port(place, name, at, log)
    }

    /// Says that no port has a name, if there is none at a place.
    fn known_port(
        &self,
        place: Option<usize>,
        name: &str,
        at: Span,
        log: &mut Log,
    ) -> Option<usize> {
        if place.is_none() && !self.ports_unknown {
            let names = || self.links.iter().map(|link| link.name.as_str());
            let guess = did_you_mean(name, names());
            log.error(at, format!("no port is called {}{guess}", quote(name)))
                .help(format!(
                    "the ports are: {}",
                    names().collect::<Vec<_>>().join(", ")
                ));
        }
        place
    }

    /// Refuses the address of a `what` that is weir's own, of a link-local one on the link of the port at a place. `help` says
    /// what to write.
    pub(super) fn not_own(
        &self,
        what: &str,
        (address, port): (IpAddr, Option<usize>),
        at: Span,
        help: &str,
        log: &mut Log,
    ) -> bool {
        let here = port.and_then(|port| self.links[port].link_local);
        let own = match here.filter(|(own, _)| *own == address) {
            Some((_, other)) => Some((Role::Port, other)),
            None => self.own(address),
        };
        let Some((role, other)) = own else {
            return true;
        };
        log.error(
            at,
            format!("the {what} `{address}` is weir's own: {}", role.describe()),
        )
        .note(other, role.here())
        .help(help);
        false
    }

    fn check_destination(
        &self,
        to: IpNet,
        at: Span,
        first: &mut HashMap<IpNet, Span>,
        log: &mut Log,
    ) {
        if let Some(&other) = first.get(&to) {
            log.error(at, format!("a second route to {to}"))
                .note(other, "the first is here")
                .help("remove one of the two");
            return;
        }
        first.insert(to, at);
        // Both would be equally long, so neither would win.
        if self.connected.holds(to) {
            log.error(at, format!("{to} is the subnet of a port already"))
                .help("remove the route, or make its prefix longer or shorter");
        }
    }
}

/// The link-local address of a port, as far as the file tells: a configured one, else the one that a configured MAC address
/// makes. `at`: the port's place.
fn link_local_of(port: &raw::Port, addresses: &[IpNet], at: Span) -> Option<(IpAddr, Span)> {
    let configured = addresses
        .iter()
        .map(IpNet::addr)
        .find(|own| is_link_local(*own));
    let listed = port.addresses.ok().map_or(at, |list| list.at);
    let made = |mac: Mac| IpAddr::V6(mac.link_local());
    match configured {
        Some(own) => Some((own, listed)),
        None => port.mac.ok().map(|mac| (made(mac.value), mac.at)),
    }
}

/// The networks of a port's `announce`, each once.
fn announced(raw: Given<List<Destination>>, log: &mut Log) -> Vec<IpNet> {
    let mut first: HashMap<IpNet, Span> = HashMap::new();
    let mut networks = Vec::new();
    for At { value: net, at } in raw.items() {
        let net = net.0;
        match first.get(&net) {
            Some(&other) => {
                log.error(at, format!("`announce` lists {net} twice"))
                    .note(other, "listed here first")
                    .help("remove one of the two");
            }
            None => {
                first.insert(net, at);
                networks.push(net);
            }
        }
    }
    networks
}

/// Names that may be given once.
#[derive(Debug, Default)]
pub(super) struct Unique(HashMap<String, Span>);

impl Unique {
    pub(super) fn check(&mut self, what: &str, name: Option<(&str, Span)>, log: &mut Log) {
        let Some((name, at)) = name else { return };
        if let Some(&other) = self.0.get(name) {
            log.error(at, format!("a second {what} {}", quote(name)))
                .note(other, "the first is here")
                .help("give it a name of its own");
        } else {
            self.0.insert(name.to_owned(), at);
        }
    }
}

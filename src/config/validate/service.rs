//! Virtual services and their real servers.

use super::Around;
use super::availability::Homes;
use super::clients;
use super::health::{self, Templates};
use super::marks::Marks;
use super::names::{Names, are_unique, key_of, keys};
use super::network::Network;
use super::passive;
use super::pool::Pools;
use super::real_pool::{RealPools, Reals};
use super::room::has_room;
use super::scheduler;
use super::tunnel;
use super::ways::Ways;
use super::{quic, thresholds, timing};
use crate::config::check_value::HealthChoice;
use crate::config::clients::Lists;
use crate::config::error::{At, Log, Span, did_you_mean, quote};
use crate::config::pieces::{Item, Services};
use crate::config::raw;
use crate::config::value::{Given, Int, ModeWord, Protocols, ServicePort};
use crate::config::{
    ClientAddress, ModeConfig, OnIdle, PersistenceConfig, Protocol, RealConfig, ServiceConfig,
    TcpMss, WhenUnavailable,
};
use crate::net::family;
use foldhash::{HashMap, HashSet, HashSetExt};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What a [[service.real]] is to its service, in messages.
pub(super) const REAL: &str = "real server";

/// Checks services, which are to be beside `others` of the running configuration: those that they take the place of are none.
pub(super) fn services(
    items: Vec<Item>,
    others: &[Arc<ServiceConfig>],
    around: &Around,
    lists: &mut Lists,
    log: &mut Log,
) -> Vec<Arc<ServiceConfig>> {
    if !has_room(&items, around.real_pools, log) {
        return Vec::new();
    }
    let in_pieces = items.iter().any(|item| matches!(item, Item::Checked(_)));
    let mut check = Check {
        around: *around,
        lists: Some(lists),
        log,
        names: Names::default(),
        marks: marks_of(others, &items),
        checked: Ways::taken(others, &keys(&items), around.pools, around.templates),
        used_pools: HashSet::new(),
    };
    let mut services = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Item::Written(service) => {
                let At { value, at } = *service;
                services.extend(check.service(value, at));
            }
            Item::Checked(all) => services.extend(all.into_iter().map(|it| check.checked(it))),
        }
    }
    around.real_pools.unused(&check.used_pools, check.log);
    if in_pieces && !are_unique(&services) {
        log.error(Span::NOWHERE, "");
    }
    services
}

/// What DSCPs mean on the real servers of services, but for those that one of `items` takes the place of.
fn marks_of(services: &[Arc<ServiceConfig>], items: &[Item]) -> Marks {
    let replaced = keys(items);
    let mut marks = Marks::default();
    for service in services {
        if !replaced.contains(&key_of(service)) {
            marks.add(service);
        }
    }
    marks
}

/// What a `[[service]]` is, as far as that does not depend on the rest of the file.
pub(super) fn alone(raw: At<raw::Service>, log: &mut Log) -> Services {
    let mut check = Check {
        around: Around {
            pools: &Pools::unknown(),
            real_pools: &RealPools::unknown(),
            templates: &Templates::unknown(),
            network: &Network::of_others(),
            homes: &Homes::unknown(),
        },
        lists: None,
        log,
        names: Names::default(),
        marks: Marks::default(),
        checked: [0; 2],
        used_pools: HashSet::new(),
    };
    check.service(raw.value, raw.at)
}

pub(super) struct Check<'a> {
    pub(super) around: Around<'a>,
    /// The files of prefixes; none if files must not be read.
    lists: Option<&'a mut Lists>,
    pub(super) log: &'a mut Log,
    names: Names,
    marks: Marks,
    /// How many addresses of checks are taken, of IPv4 and of IPv6.
    checked: [u32; 2],
    /// The `[[pool]]` that services name.
    pub(super) used_pools: HashSet<String>,
}

impl Check<'_> {
    /// Whether there is nothing to say of a service that was checked by itself: each check of pools and network here has its
    /// message below.
    fn fits(&self, service: &ServiceConfig) -> bool {
        let has_pool = match &service.mode {
            ModeConfig::Fullnat { pool } => self.around.pools.has(pool),
            _ => true,
        };
        if !self
            .around
            .templates
            .fit(service.health.as_ref(), service.protocol, &service.reals)
        {
            return false;
        }
        let crosses = service.mode != ModeConfig::Dr;
        let sample = match &service.mode {
            ModeConfig::Fullnat { pool } => self.around.pools.sample(pool),
            _ => None,
        };
        let source = service.mode.tunnel().and_then(|tunnel| tunnel.source);
        if source.is_some_and(|source| !self.around.network.may_be_port(source)) {
            return false;
        }
        let fits_pool = |real| sample.is_none_or(|pool| family(pool) == family(real));
        if !self.around.homes.fit(service)
            || quic::problem(service.quic.as_ref(), &service.reals).is_some()
        {
            return false;
        }
        let mut reals = service.servers().map(|real| real.address);
        has_pool
            && reals.all(|real| fits_pool(real) && self.around.network.is_plain_real(real, crosses))
    }

    /// A service that was checked by itself, with what it has of its pool; a finding without place if there is something to say
    /// of it.
    fn checked(&mut self, mut service: Arc<ServiceConfig>) -> Arc<ServiceConfig> {
        let mut is_plain = true;
        if service.pool.is_some() {
            match self.with_pool(&service) {
                Some(whole) => service = Arc::new(whole),
                None => is_plain = false,
            }
        }
        is_plain &= self.fits(&service) && self.marks.fits(&service);
        if self.way_problem(&service).is_some() || !is_plain {
            self.log.error(Span::NOWHERE, "");
        }
        service
    }

    /// What a `[[service]]` means. Nothing: what is wrong is said.
    fn service(&mut self, raw: raw::Service, at: Span) -> Services {
        let dscp_at = raw.dscp.ok().map(|dscp| dscp.at);
        let health_at = raw.health.ok().map(|health| match &health.value {
            HealthChoice::Own(own) => own.via.ok().map_or(health.at, |via| via.at),
            HealthChoice::Named(_) => health.at,
        });
        let named = self.names.take(&raw, at, self.log);
        let protocols = raw.protocol.get();
        let service = self.first_service(raw, at);
        let (Some(service), Some(named), Some(protocols)) = (service, named, protocols) else {
            return Services::new();
        };
        let mut services = Services::new();
        for &protocol in protocols.all() {
            let has = |other| protocol == other;
            let mut service = ServiceConfig {
                protocol,
                tcp_mss: service.tcp_mss.filter(|_| has(Protocol::Tcp)),
                quic: service.quic.filter(|_| has(Protocol::Udp)),
                on_drain: service.on_drain.filter(|_| has(Protocol::Udp)),
                timeouts: service.timeouts.of(protocol),
                on_idle: match protocol {
                    Protocol::Tcp => service.on_idle,
                    Protocol::Udp | Protocol::Sctp => OnIdle::Silent,
                },
                one_packet: service.one_packet && has(Protocol::Udp),
                client_address: match service.client_address {
                    ClientAddress::Toa if !has(Protocol::Tcp) => ClientAddress::None,
                    given => given,
                },
                ..service.clone()
            };
            service.name = named.of(key_of(&service));
            if let Some(dscp) = dscp_at {
                self.marks.check(&service, dscp, self.log);
            }
            if let Some((problem, help)) = self.way_problem(&service) {
                self.log.error(health_at.unwrap_or(at), problem).help(help);
            }
            services.push(Arc::new(service));
        }
        services
    }

    /// The service of the first of its protocols, still without a name.
    fn first_service(&mut self, raw: raw::Service, at: Span) -> Option<ServiceConfig> {
        let ports = raw.port.get();
        // Of several ports, a packet's own.
        let port = ports.map(ServicePort::of_reals);
        let mode = self.mode(&raw);
        let scheduler = scheduler::scheduler(&raw.scheduler, self.log);
        let flags = scheduler::flags(&raw.flags, scheduler, self.log);
        let Reals {
            list: reals,
            complete: are_known,
        } = match &raw.pool {
            Given::Yes(pool) => self.pooled(&raw, pool, port),
            Given::Bad => Reals::default(),
            Given::No => Reals {
                list: self.reals(&raw, at, port),
                complete: raw.real.complete(),
            },
        };
        let fallback = self.fallback(&raw, port, &reals);
        let availability = self.availability(&raw, (&reals, are_known), &fallback);
        let announce = self.announce(&raw);
        let tcp_mss = self.tcp_mss(&raw);
        let quic = quic::quic(&raw, self.log);
        if are_known {
            let at = raw.quic.ok().map(|quic| quic.at);
            quic::check(quic.as_ref(), at, &reals, self.log);
        }
        let client_address = self.client_address(&raw);
        let protocols = raw.protocol.get();
        let health = health::of_service(
            &raw.health,
            (protocols, &reals),
            self.around.templates,
            self.log,
        );
        let slow_start = scheduler::slow_start(&raw, scheduler, self.log);
        let timeouts = timing::timeouts(&raw, self.log);
        let on_idle = timing::on_idle(&raw, self.log);
        let on_down = timing::on_down(&raw, self.log);
        let one_packet = timing::one_packet(&raw, self.log);
        let histograms = timing::histograms(&raw, self.log);
        let on_drain = passive::on_drain(&raw, self.log);
        let passive = passive::passive(&raw, port, self.log);
        let limits = clients::limits(&raw, self.log);
        let clients = clients::clients(&raw, self.lists.as_deref_mut(), self.log);
        let persistence = raw.persistence.into_option().map(|raw| PersistenceConfig {
            timeout: raw.timeout.get().unwrap_or(Duration::from_secs(360)),
            prefix_v4: raw.prefix_v4.get().map_or(32, |length| length.0 as u8),
            prefix_v6: raw.prefix_v6.get().map_or(128, |length| length.0 as u8),
            through_drain: raw.through_drain.get().unwrap_or(false),
        });
        let (allow, deny) = clients.ok()?;
        Some(ServiceConfig {
            name: String::new(),
            protocol: *raw.protocol.get()?.all().first()?,
            address: raw.address.get()?,
            port: ports?.first,
            last_port: ports?.last,
            mode: mode?,
            scheduler: scheduler?,
            flags,
            persistence,
            when_unavailable: raw
                .when_unavailable
                .get()
                .unwrap_or(WhenUnavailable::Refuse),
            unknown_tcp: raw.unknown_tcp.get(),
            tcp_mss,
            quic,
            client_address,
            health: health.ok()?,
            slow_start,
            on_down,
            timeouts,
            on_idle,
            one_packet,
            histograms,
            connection_log: raw.connection_log.get().unwrap_or(true),
            availability,
            announce,
            on_drain,
            passive: passive.ok()?,
            pool: raw.pool.into_option(),
            allow,
            deny,
            limits: limits.ok()?,
            reals,
            fallback,
        })
    }

    /// What is wrong with the way of a service's check, if something is. Called once for each service.
    fn way_problem(&mut self, service: &ServiceConfig) -> Option<(String, String)> {
        let health = service
            .health
            .as_ref()?
            .resolve(&self.around.templates.list)?;
        let needs = Ways::needs(service, health, self.around.pools);
        for (taken, more) in self.checked.iter_mut().zip(needs) {
            *taken += more;
        }
        let exceeded = match needs {
            [0, 0] => None,
            _ => self.around.network.ways.exceeded(self.checked),
        };
        let problem = self
            .around
            .network
            .ways
            .problem(service, health, self.around.pools);
        problem.or(exceeded)
    }

    /// What SYNs may ask for, of a service that has any.
    fn tcp_mss(&mut self, raw: &raw::Service) -> Option<TcpMss> {
        let given = raw.tcp_mss.ok()?;
        if let Some(other) = raw.protocol.get().filter(|it| !it.have(Protocol::Tcp)) {
            self.log
                .error(
                    given.at,
                    format!(
                        "`tcp_mss` is for TCP, and the service is one of {}",
                        other.words()
                    ),
                )
                .help("leave it out");
        }
        Some(given.value)
    }

    /// How real servers are told of clients: those that know the client by its own address need not be.
    fn client_address(&mut self, raw: &raw::Service) -> ClientAddress {
        let Some(given) = raw.client_address.ok() else {
            return ClientAddress::None;
        };
        let mode = raw.mode.get();
        if given.value != ClientAddress::None && raw.protocol.get() == Some(Protocols::Sctp) {
            self.log
                .error(
                    given.at,
                    "`client_address` is for TCP and UDP, and the service is one of SCTP",
                )
                .help("leave it out, or use nat, where the real servers see the clients' own addresses");
        } else if given.value != ClientAddress::None
            && mode.is_some_and(|mode| mode != ModeWord::Fullnat)
        {
            self.log
                .error(given.at, "`client_address` belongs to the mode fullnat")
                .help(
                    "leave it out: in other modes the real servers see the clients' own addresses",
                );
        } else if given.value == ClientAddress::Toa
            && raw.protocol.get().is_some_and(|it| !it.have(Protocol::Tcp))
        {
            self.log
                .error(
                    given.at,
                    "`client_address = \"toa\"` is a TCP option, and the service is one of UDP",
                )
                .help("write \"proxy-v2\", which goes in front of each datagram, or leave it out");
        }
        given.value
    }

    fn mode(&mut self, raw: &raw::Service) -> Option<ModeConfig> {
        let mode = raw.mode.ok()?;
        tunnel::keys_of_other_modes(raw, mode.value, self.log);
        if mode.value == ModeWord::Fullnat {
            return self.pool(raw, mode.at);
        }
        if let Some(pool) = raw.local_pool.ok() {
            self.log
                .error(pool.at, "`local_pool` belongs to the mode fullnat")
                .help("remove it, or write `mode = \"fullnat\"`");
        }
        match mode.value {
            ModeWord::Dr => Some(ModeConfig::Dr),
            ModeWord::Nat => Some(ModeConfig::Nat),
            ModeWord::Tunnel => tunnel::tunnel(raw, self.around.network, self.log),
            ModeWord::L3dsr => tunnel::l3dsr(raw, mode.at, self.log),
            ModeWord::Fullnat => None,
        }
    }

    fn pool(&mut self, raw: &raw::Service, mode: Span) -> Option<ModeConfig> {
        let names = || {
            self.around
                .pools
                .list
                .iter()
                .filter_map(|pool| pool.name.as_deref())
        };
        let listed = || names().collect::<Vec<_>>().join(", ");
        match &raw.local_pool {
            Given::Bad => None,
            Given::No => {
                let help = match listed() {
                    none if none.is_empty() => {
                        "add a [[local_pool]], and its name as `local_pool`".to_owned()
                    }
                    some => format!("add `local_pool = \"…\"`; the pools are: {some}"),
                };
                self.log
                    .error(mode, "the mode `fullnat` needs the key `local_pool`")
                    .help(help);
                None
            }
            Given::Yes(pool) if self.around.pools.has(&pool.value) => Some(ModeConfig::Fullnat {
                pool: pool.value.clone(),
            }),
            // The pool that is meant may be the one whose name could not be read.
            Given::Yes(_) if !self.around.pools.complete => None,
            Given::Yes(pool) => {
                let guess = did_you_mean(&pool.value, names());
                let help = match listed() {
                    none if none.is_empty() => "add a [[local_pool]] of this name".to_owned(),
                    some => format!("the pools are: {some}"),
                };
                self.log
                    .error(
                        pool.at,
                        format!("unknown local pool {}{guess}", quote(&pool.value)),
                    )
                    .help(help);
                None
            }
        }
    }

    fn reals(&mut self, raw: &raw::Service, service: Span, port: Option<u16>) -> Vec<RealConfig> {
        let list = raw.real.ok().map_or(&[][..], |list| &list.value.items);
        if list.is_empty() && raw.real.complete() {
            self.log
                .warning(
                    service,
                    "the service has no real servers: it can serve no client",
                )
                .help("add a [[service.real]]");
            return Vec::new();
        }
        let mode = raw.mode.get();
        let mut reals = Vec::with_capacity(list.len());
        let mut first = Places::default();
        for At { value: real, .. } in list {
            let Some(&At { value: address, at }) = real.address.ok() else {
                continue;
            };
            if self.real_family(REAL, address, at, raw) {
                self.real_address(REAL, address, at, mode);
            }
            let Some(port) = self.real_port(REAL, &real.port, port, mode) else {
                continue;
            };
            if let Some(other) = first.insert((address, port), at) {
                self.log
                    .error(
                        at,
                        format!(
                            "a second real server `{}` in this service",
                            SocketAddr::new(address, port)
                        ),
                    )
                    .note(other, "the first is here")
                    .help("remove one of the two");
                continue;
            }
            let weight = real.weight.get().map_or(1, |weight| weight.0 as u16);
            reals.push(RealConfig {
                address,
                port,
                weight,
                thresholds: thresholds::thresholds(real, self.log),
                server_id: quic::server_id(&real.server_id, self.log).map(Box::new),
            });
        }
        let idle =
            |real: &At<raw::Real>| real.value.weight.get().is_some_and(|weight| weight.0 == 0);
        if !list.is_empty() && list.iter().all(idle) {
            self.log
                .warning(
                    service,
                    "every real server has weight 0: none takes new connections",
                )
                .help("give at least one real server a weight of 1 or more");
        }
        reals
    }

    /// Whether a real server's family fits that of the VIP and the local pool. `what`: what it is to the service.
    pub(super) fn real_family(
        &mut self,
        what: &str,
        address: IpAddr,
        at: Span,
        raw: &raw::Service,
    ) -> bool {
        let real = family(address);
        let vip = raw.address.ok().filter(|vip| family(vip.value) != real);
        if let (Some(vip), Some(mode)) = (vip, raw.mode.get())
            && !matches!(mode, ModeWord::Fullnat | ModeWord::Tunnel)
        {
            let whose = family(vip.value);
            self.log
                .error(
                    at,
                    format!(
                        "the {what} `{address}` is {real}, the VIP is {whose}: the mode {} keeps the family",
                        mode.name()
                    ),
                )
                .note(vip.at, "the VIP is here")
                .help(format!("write an {whose} address, or use tunnel, or fullnat with a local pool of {real} addresses"));
            return false;
        }
        let fullnat = raw.mode.get() == Some(ModeWord::Fullnat);
        if let Some(vip) = vip
            && fullnat
            && raw.protocol.get() == Some(Protocols::Sctp)
        {
            let whose = family(vip.value);
            self.log
                .error(
                    at,
                    format!(
                        "the {what} `{address}` is {real}, the VIP is {whose}: SCTP goes between families by the mode tunnel alone"
                    ),
                )
                .note(vip.at, "the VIP is here")
                .help(format!("write an {whose} address, or use tunnel"));
            return false;
        }
        let pool = raw.local_pool.ok().filter(|_| fullnat);
        if let Some(pool) = pool
            && let Some(local) = self.around.pools.sample(&pool.value)
            && family(local) != real
        {
            self.log
                .error(
                    at,
                    format!(
                        "the {what} `{address}` is {real}, the local pool {} is {}",
                        quote(&pool.value),
                        family(local)
                    ),
                )
                .note(pool.at, "the pool is named here")
                .help(format!("use a pool of {real} addresses"));
            return false;
        }
        true
    }

    pub(super) fn real_address(
        &mut self,
        what: &str,
        address: IpAddr,
        at: Span,
        mode: Option<ModeWord>,
    ) {
        let is_right = own_place(self.around.network, what, address, at, self.log);
        if is_right && mode == Some(ModeWord::Dr) {
            self.behind_router(what, address, at);
        }
    }

    /// Warns of a real server that dr does not get to.
    pub(super) fn behind_router(&mut self, what: &str, address: IpAddr, at: Span) {
        if !self.around.network.connected(address) {
            self.log
                .warning(at, format!("the {what} `{address}` is behind a router, which dr cannot cross"))
                .help("dr leaves the VIP in the packet: put the real server into a port's subnet, or use tunnel or fullnat");
        }
    }

    /// The port that the real server listens on; None if that cannot be told.
    pub(super) fn real_port(
        &mut self,
        what: &str,
        raw: &Given<Int<0, 65_535>>,
        service: Option<u16>,
        mode: Option<ModeWord>,
    ) -> Option<u16> {
        let written = match raw {
            Given::No => return service,
            Given::Bad => return None,
            Given::Yes(port) => port,
        };
        let port = written.value.0 as u16;
        if let Some(mode @ (ModeWord::Dr | ModeWord::Tunnel | ModeWord::L3dsr)) = mode {
            if service.is_some_and(|service| service != port) {
                self.log
                    .warning(
                        written.at,
                        format!("the mode {} ignores the {what}'s port {port}", mode.name()),
                    )
                    .help(format!(
                        "{} cannot change ports: remove the key, or use nat or fullnat",
                        mode.name()
                    ));
            }
            return service;
        }
        if port == 0 && service.is_some_and(|service| service != 0) {
            self.log
                .error(
                    written.at,
                    format!("the {what}'s port is 0, but the service has one port"),
                )
                .help(format!(
                    "write the {what}'s port, or leave it out for the service's"
                ));
            return None;
        }
        Some(port)
    }
}

/// Whether an address can be a real server's: a host's that packets get to, and none of weir's own.
pub(super) fn own_place(
    network: &Network,
    what: &str,
    address: IpAddr,
    at: Span,
    log: &mut Log,
) -> bool {
    if !network.no_edge(address, at, log) {
        return false;
    }
    if let Some((role, other)) = network.own(address) {
        log.error(
            at,
            format!("the {what} `{address}` is weir's own: {}", role.describe()),
        )
        .note(other, role.here())
        .help(format!("write the {what}'s own address"));
        return false;
    }
    let is_reached = network.reachable(address);
    if !is_reached {
        log.error(at, format!("no route reaches the {what} `{address}`"))
            .help("give a port an address in its subnet, or add a [[route]]");
    }
    is_reached
}

/// Where each real server of a service is written.
#[derive(Default)]
pub(super) struct Places {
    few: Vec<((IpAddr, u16), Span)>,
    many: HashMap<(IpAddr, u16), Span>,
}

impl Places {
    /// Up to so many are gone through.
    const FEW: usize = 32;

    /// Returns where the same real server is written already.
    pub(super) fn insert(&mut self, real: (IpAddr, u16), at: Span) -> Option<Span> {
        if self.few.len() < Self::FEW {
            let known = self.few.iter().find(|(other, _)| *other == real);
            let known = known.map(|(_, at)| *at);
            self.few.push((real, at));
            return known;
        }
        if self.many.is_empty() {
            self.many.extend(self.few.iter().copied());
        }
        self.many.insert(real, at)
    }
}

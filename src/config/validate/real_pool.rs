//! `[[pool]]`: lists of real servers, and what they are to the services that use them.

use super::network::{Network, Unique};
use super::quic::server_id;
use super::service::{Check, Places, REAL, own_place};
use super::thresholds::thresholds;
use crate::config::error::{At, Log, Span, did_you_mean, quote};
use crate::config::raw;
use crate::config::value::{Given, Int, List, ModeWord};
use crate::config::{
    Config, ModeConfig, PoolReal, Protocol, RealConfig, RealPool, ServiceConfig, Share,
};
use crate::net::family;
use foldhash::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// All `[[pool]]`, as far as they could be read.
#[derive(Debug, Default)]
pub(super) struct RealPools {
    list: Vec<Pool>,
    places: HashMap<String, usize>,
    /// Every pool's name could be read.
    complete: bool,
    /// Every name is taken to be one of a pool.
    any: bool,
}

#[derive(Debug)]
struct Pool {
    checked: RealPool,
    at: Span,
    /// Every real server could be read.
    complete: bool,
}

/// The real servers of a service.
#[derive(Default)]
pub(super) struct Reals {
    pub list: Vec<RealConfig>,
    /// All of them could be read.
    pub complete: bool,
}

impl RealPools {
    /// Those of which nothing is known.
    pub(super) fn unknown() -> RealPools {
        RealPools {
            any: true,
            ..RealPools::default()
        }
    }

    /// Those of a running configuration.
    pub(super) fn of(config: &Config) -> RealPools {
        let mut pools = RealPools {
            complete: true,
            ..RealPools::default()
        };
        for pool in &config.real_pools {
            pools.add(Pool {
                checked: pool.clone(),
                at: Span::NOWHERE,
                complete: true,
            });
        }
        pools
    }

    pub(super) fn into_list(self) -> Vec<RealPool> {
        self.list.into_iter().map(|pool| pool.checked).collect()
    }

    fn add(&mut self, pool: Pool) {
        let name = pool.checked.name.clone();
        self.places.entry(name).or_insert(self.list.len());
        self.list.push(pool);
    }

    /// How many real servers a service of that pool has.
    pub(super) fn len_of(&self, name: &str) -> usize {
        self.get(name).map_or(0, |pool| pool.checked.reals.len())
    }

    fn get(&self, name: &str) -> Option<&Pool> {
        Some(&self.list[*self.places.get(name)?])
    }

    /// Warns of those that no service uses.
    pub(super) fn unused(&self, used: &HashSet<String>, log: &mut Log) {
        for pool in &self.list {
            let name = &pool.checked.name;
            if pool.at != Span::NOWHERE && !used.contains(name) {
                log.warning(pool.at, format!("no service uses the pool {}", quote(name)))
                    .help(format!(
                        "add `pool = \"{name}\"` to a service, or remove it"
                    ));
            }
        }
    }
}

/// Checks what can be said of pools without their services.
pub(super) fn real_pools(
    raw: Given<List<raw::RealPool>>,
    network: &Network,
    log: &mut Log,
) -> RealPools {
    let mut names = Unique::default();
    let mut pools = RealPools {
        complete: raw.complete(),
        ..RealPools::default()
    };
    for At { value: pool, at } in raw.items() {
        let name = pool.name.ok().map(|name| (name.value.0.as_str(), name.at));
        names.check("pool", name, log);
        let at = name.map_or(at, |(_, at)| at);
        let complete = pool.real.complete();
        let is_empty = pool
            .real
            .ok()
            .is_none_or(|list| list.value.items.is_empty());
        if is_empty && complete {
            log.warning(at, "the pool has no real servers")
                .help("add a [[pool.real]]");
        }
        let name = pool.name.into_option();
        let reals = reals(pool.real.items(), network, log);
        let Some(name) = name else {
            pools.complete = false;
            continue;
        };
        pools.add(Pool {
            checked: RealPool {
                name: name.0,
                reals,
            },
            at,
            complete,
        });
    }
    pools
}

fn reals(items: Vec<At<raw::PoolReal>>, network: &Network, log: &mut Log) -> Vec<PoolReal> {
    let mut first: HashMap<(IpAddr, Option<u16>), Span> = HashMap::default();
    let mut reals = Vec::with_capacity(items.len());
    for At { value: real, .. } in items {
        let real = real.into_real();
        let Some(&At { value: address, at }) = real.address.ok() else {
            continue;
        };
        if !real.port.certain() {
            continue;
        }
        if !own_place(network, REAL, address, at, log) {
            continue;
        }
        let port = real.port.get().map(|port| port.0 as u16);
        if let Some(other) = first.insert((address, port), at) {
            log.error(
                at,
                format!("a second real server `{address}` of this port in the pool"),
            )
            .note(other, "the first is here")
            .help("remove one of the two");
            continue;
        }
        reals.push(PoolReal {
            port,
            real: RealConfig {
                address,
                port: 0,
                weight: real.weight.get().map_or(1, |weight| weight.0 as u16),
                thresholds: thresholds(&real, log),
                server_id: server_id(&real.server_id, log).map(Box::new),
            },
        });
    }
    reals
}

/// The port that a real server of a pool has in a service: its own only where the mode can change it.
fn port_of(real: &PoolReal, service: u16, keeps_port: bool) -> u16 {
    match real.port {
        Some(port) if !keeps_port => port,
        _ => service,
    }
}

impl Check<'_> {
    /// The real servers of a service that names a pool. What is wrong with one for this service is said where the pool is
    /// named, since it may be right for others.
    pub(super) fn pooled(
        &mut self,
        raw: &raw::Service,
        named: &At<String>,
        port: Option<u16>,
    ) -> Reals {
        if let Some(own) = raw.real.ok() {
            self.log
                .error(
                    own.at,
                    "the service has real servers of its own, and a `pool`",
                )
                .note(named.at, "the pool is named here")
                .help("leave one of the two, or write the pool's real servers here as well");
        }
        let pools = self.around.real_pools;
        let Some(pool) = pools.get(&named.value) else {
            if !pools.any && pools.complete {
                self.unknown_pool(named);
            }
            return Reals::default();
        };
        self.used_pools.insert(named.value.clone());
        let (Some(mode), Some(port)) = (raw.mode.get(), port) else {
            return Reals::default();
        };
        let keeps_port = !matches!(mode, ModeWord::Nat | ModeWord::Fullnat);
        let mut places = Places::default();
        let mut list = Vec::with_capacity(pool.checked.reals.len());
        for real in &pool.checked.reals {
            let (address, at) = (real.real.address, named.at);
            if self.real_family(REAL, address, at, raw) && mode == ModeWord::Dr {
                self.behind_router(REAL, address, at);
            }
            let given = match real.port {
                Some(port) if !keeps_port => Given::Yes(At {
                    value: Int(port.into()),
                    at,
                }),
                _ => Given::No,
            };
            let Some(port) = self.real_port(REAL, &given, Some(port), Some(mode)) else {
                continue;
            };
            if places.insert((address, port), at).is_some() {
                let place = SocketAddr::new(address, port);
                self.log
                    .error(
                        at,
                        format!("the pool has two real servers that are `{place}` in this service"),
                    )
                    .help("give them different ports in the pool, and use a mode that changes ports: nat or fullnat");
                continue;
            }
            list.push(real.at_port(port));
        }
        if !list.is_empty() && list.iter().all(|real| real.weight == 0) {
            self.log
                .warning(
                    named.at,
                    "every real server of the pool has weight 0: none takes new connections",
                )
                .help("give at least one real server a weight of 1 or more");
        }
        Reals {
            list,
            complete: pool.complete,
        }
    }

    fn unknown_pool(&mut self, named: &At<String>) {
        let pools = &self.around.real_pools.list;
        let names = || pools.iter().map(|pool| pool.checked.name.as_str());
        let guess = did_you_mean(&named.value, names());
        let local = &self.around.pools;
        let help = match names().collect::<Vec<_>>().join(", ") {
            _ if local.has(&named.value) => {
                "it is a [[local_pool]]: the key for that is `local_pool`".to_owned()
            }
            none if none.is_empty() => "add a [[pool]] of this name".to_owned(),
            some => format!("the pools are: {some}"),
        };
        let name = quote(&named.value);
        self.log
            .error(named.at, format!("unknown pool {name}{guess}"))
            .help(help);
    }

    /// A service that was checked by itself, with the real servers of its pool. None: there is something to say of it.
    pub(super) fn with_pool(&mut self, service: &ServiceConfig) -> Option<ServiceConfig> {
        let name = service.pool.as_ref()?;
        let pool = self.around.real_pools.get(name)?;
        if !self.used_pools.contains(name) {
            self.used_pools.insert(name.clone());
        }
        let keeps_port = !matches!(service.mode, ModeConfig::Nat | ModeConfig::Fullnat { .. });
        let keeps_family = match service.mode {
            ModeConfig::Dr | ModeConfig::Nat | ModeConfig::L3dsr { .. } => true,
            ModeConfig::Fullnat { .. } => service.protocol == Protocol::Sctp,
            ModeConfig::Tunnel(_) => false,
        };
        let mut places = Places::default();
        let mut reals = Vec::with_capacity(pool.checked.reals.len());
        for real in &pool.checked.reals {
            let default = service.port_of_reals();
            let port = port_of(real, default, keeps_port);
            let is_plain = (port != 0 || default == 0)
                && !(keeps_family && family(real.real.address) != family(service.address))
                && places
                    .insert((real.real.address, port), Span::NOWHERE)
                    .is_none()
                && !service
                    .fallback
                    .iter()
                    .any(|other| (other.address, other.port) == (real.real.address, port));
            if !is_plain {
                return None;
            }
            reals.push(real.at_port(port));
        }
        let weighty = reals.iter().filter(|real| real.weight > 0).count();
        let is_enough = match service.availability.min_healthy {
            Share::Count(least) => weighty >= usize::from(least).max(1),
            Share::Percent(_) => weighty > 0,
        };
        let health = service.health.as_ref();
        let health = health.and_then(|it| it.resolve(&self.around.templates.list));
        let is_plain = is_enough && !health.is_some_and(|it| super::health::lacks_port(it, &reals));
        is_plain.then(|| ServiceConfig {
            reals,
            ..service.clone()
        })
    }
}

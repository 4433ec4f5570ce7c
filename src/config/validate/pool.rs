//! Local pools: every address is weir's own, and in one pool only.

use super::network::{Network, Role, Unique};
use crate::config::address::{AddressRange, POOL_ADDRESSES, PortRange};
use crate::config::error::{At, Log, Span};
use crate::config::raw;
use crate::config::value::{Given, List};
use crate::config::{Config, LocalPool};
use ipnet::IpAddrRange;
use std::net::IpAddr;

/// A pool as far as it could be read.
#[derive(Debug)]
pub(super) struct Pool {
    pub name: Option<String>,
    pub checked: Option<LocalPool>,
    ranges: Vec<At<AddressRange>>,
}

/// All pools.
#[derive(Debug)]
pub(super) struct Pools {
    pub list: Vec<Pool>,
    /// Every pool's name could be read.
    pub complete: bool,
    /// Every name is taken to be one of a pool.
    pub any: bool,
}

impl Pools {
    /// Those of which nothing is known.
    pub(super) fn unknown() -> Pools {
        Pools {
            list: Vec::new(),
            complete: false,
            any: true,
        }
    }

    /// Whether a pool has this name.
    pub(super) fn has(&self, name: &str) -> bool {
        let mut names = self.list.iter().filter_map(|pool| pool.name.as_deref());
        self.any || names.any(|known| known == name)
    }

    /// An address of a pool, whose family all its addresses have; none if the pool is not known.
    pub(super) fn sample(&self, name: &str) -> Option<IpAddr> {
        self.checked(name)?.addresses.first().copied()
    }

    /// The pool of a name, if it is known.
    pub(super) fn checked(&self, name: &str) -> Option<&LocalPool> {
        let mut pools = self.list.iter().filter_map(|pool| pool.checked.as_ref());
        pools.find(|pool| pool.name == name)
    }

    /// Those of a running configuration.
    pub(super) fn of(config: &Config) -> Pools {
        let pool = |pool: &LocalPool| Pool {
            name: Some(pool.name.clone()),
            checked: Some(pool.clone()),
            ranges: vec![],
        };
        Pools {
            list: config.pools.iter().map(pool).collect(),
            complete: true,
            any: false,
        }
    }
}

pub(super) fn pools(
    raw: Given<List<raw::LocalPool>>,
    network: &mut Network,
    log: &mut Log,
) -> Pools {
    let mut names = Unique::default();
    let mut pools = Pools {
        complete: raw.complete(),
        any: false,
        list: Vec::new(),
    };
    for (place, At { value: pool, .. }) in raw.items().into_iter().enumerate() {
        names.check(
            "local pool",
            pool.name.ok().map(|name| (name.value.0.as_str(), name.at)),
            log,
        );
        let name = pool.name.into_option().map(|name| name.0);
        pools.complete &= name.is_some();
        let complete = pool.addresses.complete();
        let list = pool.addresses.ok().map(|list| list.at);
        let ranges = pool.addresses.items();
        one_family(&ranges, log);
        let addresses = addresses(&ranges, place, network, log);
        if let Some(at) = list {
            if ranges.is_empty() && complete {
                log.error(at, "the local pool has no addresses")
                    .help("add at least one address to `addresses`");
            } else if addresses.len() > POOL_ADDRESSES as usize {
                log.error(
                    at,
                    format!("the local pool has {} addresses: too many", addresses.len()),
                )
                .help(format!("list at most {POOL_ADDRESSES}, or split the pool"));
            }
        }
        let PortRange(first, last) = pool.ports.get().unwrap_or(PortRange(1024, 65_535));
        let checked = name.clone().map(|name| LocalPool {
            name,
            addresses,
            ports: (first, last),
        });
        pools.list.push(Pool {
            name,
            checked,
            ranges,
        });
    }
    pools
}

/// Refuses a pool of addresses of both families: real servers could take connections from some of them only.
fn one_family(ranges: &[At<AddressRange>], log: &mut Log) {
    let of = |range: &At<AddressRange>| match range.value.0 {
        IpAddrRange::V4(_) => "IPv4",
        IpAddrRange::V6(_) => "IPv6",
    };
    let Some(first) = ranges.first() else { return };
    if let Some(other) = ranges.iter().find(|range| of(range) != of(first)) {
        log.error(
            other.at,
            format!(
                "the local pool has {} and {} addresses",
                of(first),
                of(other)
            ),
        )
        .note(first.at, "the first address is here")
        .help("make a [[local_pool]] of each family");
    }
}

fn addresses(
    ranges: &[At<AddressRange>],
    place: usize,
    network: &mut Network,
    log: &mut Log,
) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for &At {
        value: AddressRange(range),
        at,
    } in ranges
    {
        // One range says one thing, however many of its addresses are wrong.
        let mut wrong = false;
        for address in range {
            if let Some((role, other)) = network.claim(address, Role::Pool(place), at) {
                if !wrong {
                    taken(address, role, other, place, at, log);
                    wrong = true;
                }
            } else if !wrong && !network.no_edge(address, at, log) {
                wrong = true;
            } else {
                addresses.push(address);
            }
        }
    }
    addresses
}

fn taken(address: IpAddr, role: Role, other: Span, place: usize, at: Span, log: &mut Log) {
    let message = match role {
        Role::Pool(other) if other == place => format!("`{address}` is in this local pool twice"),
        Role::Pool(_) => format!("`{address}` is in another local pool, too"),
        _ => format!("the local pool's `{address}` is also {}", role.describe()),
    };
    log.error(at, message)
        .note(other, role.here())
        .help("every address may be in one pool once, and nowhere else");
}

/// Refuses pools that real servers could not answer to.
pub(super) fn reachable(pools: &Pools, network: &Network, log: &mut Log) {
    for &At {
        value: AddressRange(range),
        at,
    } in pools.list.iter().flat_map(|pool| &pool.ranges)
    {
        let lost = { range }.find(|&it| !network.reachable(it));
        if let Some(address) = lost {
            log.error(at, format!("no route reaches the local pool's `{address}`"))
                .help("give a port an address in its subnet, or add a [[route]]");
        }
    }
}

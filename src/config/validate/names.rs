//! What services are called, and what they are found by: no two have the same.

use crate::config::error::{Log, Span, quote};
use crate::config::pieces::Item;
use crate::config::raw;
use crate::config::value::{Given, ServicePort};
use crate::config::{Protocol, ServiceConfig};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A service's protocol, address and ports.
pub(super) type Key = (Protocol, IpAddr, ServicePort);

pub(super) fn key_of(service: &ServiceConfig) -> Key {
    (service.protocol, service.address, ports_of(service))
}

fn ports_of(service: &ServiceConfig) -> ServicePort {
    ServicePort {
        first: service.port,
        last: service.last_port,
    }
}

/// Where a service is, whatever its protocol.
type Place = (IpAddr, ServicePort);

/// The keys of services, as far as they could be read.
pub(super) fn keys(items: &[Item]) -> HashSet<Key> {
    let mut keys = HashSet::new();
    for item in items {
        match item {
            Item::Written(service) => keys.extend(written(&service.value)),
            Item::Checked(services) => keys.extend(services.iter().map(|it| key_of(it))),
        }
    }
    keys
}

fn written(raw: &raw::Service) -> impl Iterator<Item = Key> {
    let place = place(raw);
    let protocols = raw.protocol.get().map_or(&[][..], |it| it.all());
    let keys = protocols
        .iter()
        .map(move |it| Some((*it, place?.0, place?.1)));
    keys.flatten()
}

fn place(raw: &raw::Service) -> Option<Place> {
    Some((raw.address.get()?, raw.port.get()?))
}

/// As commands call it.
fn default_name((protocol, address, port): Key) -> String {
    let address = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    format!("{}:{address}:{port}", protocol.name())
}

/// Ranges of ports of a protocol and address, none of which overlaps another, by their first ports; with their places.
type Ranges = HashMap<(Protocol, IpAddr), BTreeMap<u16, (ServicePort, Span)>>;

/// Adds a range. Returns the one that it overlaps, if there is one, and adds nothing then.
fn add_range(
    ranges: &mut Ranges,
    (protocol, address, range): Key,
    at: Span,
) -> Option<(ServicePort, Span)> {
    let ranges = ranges.entry((protocol, address)).or_default();
    // Of those that begin before its end only the last one can reach into it.
    let other = ranges
        .range(..=range.last)
        .next_back()
        .map(|(_, other)| *other);
    if let Some(other) = other.filter(|(other, _)| other.overlaps(range)) {
        return Some(other);
    }
    ranges.insert(range.first, (range, at));
    None
}

/// Whether no two services have the same key, no ranges of ports overlap, and none have the same name but those of several protocols in one place.
pub(super) fn are_unique(services: &[Arc<ServiceConfig>]) -> bool {
    let mut names = HashMap::with_capacity(services.len());
    let mut keys = HashSet::with_capacity(services.len());
    let mut ranges = Ranges::new();
    services.iter().all(|service| {
        let (key, place) = (key_of(service), (service.address, ports_of(service)));
        *names.entry(service.name.as_str()).or_insert(place) == place
            && keys.insert(key)
            && (service.last_port == 0 || add_range(&mut ranges, key, Span::NOWHERE).is_none())
    })
}

/// Names and keys of the services of a file, with their places there.
#[derive(Default)]
pub(super) struct Names {
    names: HashMap<String, (Span, Option<Place>)>,
    keys: HashMap<Key, Span>,
    ranges: Ranges,
}

/// How the services of one `[[service]]` are called.
pub(super) enum Named {
    All(String),
    /// Each after its key.
    ByKey,
}

impl Named {
    pub(super) fn of(&self, key: Key) -> String {
        match self {
            Named::All(name) => name.clone(),
            Named::ByKey => default_name(key),
        }
    }
}

impl Names {
    /// The name of a service. None: it could not be read, or there is another service like it, which is said.
    pub(super) fn take(&mut self, raw: &raw::Service, at: Span, log: &mut Log) -> Option<Named> {
        let address_at = raw.address.ok().map_or(at, |address| address.at);
        for key in written(raw) {
            if let Some(&other) = self.keys.get(&key) {
                log.error(
                    address_at,
                    format!("a second service {}", quote(&default_name(key))),
                )
                .note(other, "the first is here")
                .help("a protocol, address and port may have one service: merge the two");
                return None;
            }
            self.keys.insert(key, address_at);
            if key.2.last != 0
                && let Some((other, other_at)) = add_range(&mut self.ranges, key, address_at)
            {
                let port_at = raw.port.ok().map_or(address_at, |port| port.at);
                log.error(
                    port_at,
                    format!("the ports {} overlap with {other} of another service of this VIP", key.2),
                )
                .note(other_at, "the other one is here")
                .help("each port may be in one range: make them smaller, or give single ports services of their own, which come first");
                return None;
            }
        }
        let place = place(raw);
        match &raw.name {
            Given::Yes(name) => {
                self.called(&name.value.0, name.at, place, log);
                Some(Named::All(name.value.0.clone()))
            }
            Given::No => {
                written(raw).for_each(|key| {
                    self.called(&default_name(key), address_at, place, log);
                });
                Some(Named::ByKey)
            }
            Given::Bad => None,
        }
    }

    /// Refuses a name that another service has, if not in the same place: there it is one of another protocol.
    fn called(&mut self, name: &str, at: Span, place: Option<Place>, log: &mut Log) {
        match self.names.get(name) {
            Some((_, other)) if place.is_some() && *other == place => {}
            Some((other, _)) => {
                log.error(at, format!("a second service {}", quote(name)))
                    .note(*other, "the first is here")
                    .help("give it a name of its own");
            }
            None => {
                self.names.insert(name.to_owned(), (at, place));
            }
        }
    }
}

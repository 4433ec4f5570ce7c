//! What services are called, and what they are found by: no two have the same.

use crate::config::error::{Log, Span, quote};
use crate::config::pieces::Item;
use crate::config::raw;
use crate::config::value::Given;
use crate::config::{Protocol, ServiceConfig};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A service's protocol, address and port.
pub(super) type Key = (Protocol, IpAddr, u16);

pub(super) fn key_of(service: &ServiceConfig) -> Key {
    (service.protocol, service.address, service.port)
}

/// Where a service is, whatever its protocol.
type Place = (IpAddr, u16);

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
    Some((raw.address.get()?, raw.port.get()?.0 as u16))
}

fn default_name((protocol, address, port): Key) -> String {
    format!("{}:{}", protocol.name(), SocketAddr::new(address, port))
}

/// Whether no two services have the same key, and none the same name but those of several protocols in one place.
pub(super) fn are_unique(services: &[Arc<ServiceConfig>]) -> bool {
    let mut names = HashMap::with_capacity(services.len());
    let mut keys = HashSet::with_capacity(services.len());
    services.iter().all(|service| {
        let place = (service.address, service.port);
        *names.entry(service.name.as_str()).or_insert(place) == place
            && keys.insert(key_of(service))
    })
}

/// Names and keys of the services of a file, with their places there.
#[derive(Default)]
pub(super) struct Names {
    names: HashMap<String, (Span, Option<Place>)>,
    keys: HashMap<Key, Span>,
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

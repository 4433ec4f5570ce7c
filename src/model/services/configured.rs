//! Owns the configuration: of the file, with the services that were added and removed since.

use crate::config::{self, Config};
use crate::model::from_config::key;
use crate::service::ServiceKey;
use foldhash::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What a real server is found by: address and port.
pub(super) type At = (IpAddr, u16);

/// What a change did to one service: its former version and its present one.
pub(super) struct Change<'a> {
    pub before: Option<Arc<config::ServiceConfig>>,
    pub after: Option<&'a config::ServiceConfig>,
}

pub(super) struct Configured {
    config: Config,
    /// Where in the configuration a service is.
    places: HashMap<ServiceKey, usize>,
}

impl Configured {
    pub(super) fn new(config: Config) -> Self {
        Configured {
            places: places(&config),
            config,
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn get(&self, key: &ServiceKey) -> Option<&Arc<config::ServiceConfig>> {
        Some(&self.config.services[*self.places.get(key)?])
    }

    /// Goes to another configuration; returns the former one.
    pub(super) fn replace(&mut self, new: Config) -> Config {
        let services = (&self.config.services, &new.services);
        let mut pairs = services.0.iter().zip(services.1);
        let is_same_length = services.0.len() == services.1.len();
        // Then the places are the same.
        if is_same_length && pairs.all(|(before, after)| key(before) == key(after)) {
            return std::mem::replace(&mut self.config, new);
        }
        let new = Configured::new(new);
        std::mem::replace(self, new).config
    }

    /// Adds a service, or puts it in the place of its former version.
    pub(super) fn set(&mut self, service: Arc<config::ServiceConfig>) -> Change<'_> {
        let key = key(&service);
        let services = &mut self.config.services;
        let (place, before) = match self.places.get(&key) {
            Some(&place) => (
                place,
                Some(std::mem::replace(&mut services[place], service)),
            ),
            None => {
                self.places.insert(key, services.len());
                services.push(service);
                (services.len() - 1, None)
            }
        };
        let after = Some(&*services[place]);
        Change { before, after }
    }

    pub(super) fn unset(&mut self, key: &ServiceKey) -> Option<Change<'_>> {
        let place = self.places.remove(key)?;
        let before = Some(self.config.services.swap_remove(place));
        // The last one has its place now.
        if let Some(moved) = self.config.services.get(place) {
            self.places.insert(super::key(moved), place);
        }
        let after = None;
        Some(Change { before, after })
    }
}

fn places(config: &Config) -> HashMap<ServiceKey, usize> {
    let services = config.services.iter().enumerate();
    services
        .map(|(place, service)| (key(service), place))
        .collect()
}

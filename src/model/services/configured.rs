//! Owns the configuration: of the file, and what operators have changed since.

use crate::config::{self, Config};
use crate::model::changes::NoSuchReal;
use crate::model::from_config::key;
use crate::service::ServiceKey;
use foldhash::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What an operator does to one real server; until the next reload, since the file says what the weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    Weight(u16),
    /// No new connections; the old ones live on.
    Drain,
    /// The weight that it had before it had none, else 1.
    Enable,
}

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
    /// The weights that drained real servers had.
    drained: HashMap<(ServiceKey, At), u16>,
}

impl Configured {
    pub(super) fn new(config: Config) -> Self {
        Configured {
            places: places(&config),
            config,
            drained: HashMap::default(),
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn get(&self, key: &ServiceKey) -> Option<&config::ServiceConfig> {
        Some(&self.config.services[*self.places.get(key)?])
    }

    /// Goes to another configuration; returns the former one.
    pub(super) fn replace(&mut self, new: Config) -> Config {
        let services = (&self.config.services, &new.services);
        let mut pairs = services.0.iter().zip(services.1);
        let is_same_length = services.0.len() == services.1.len();
        // Then the places are the same.
        if is_same_length && pairs.all(|(before, after)| key(before) == key(after)) {
            self.drained.clear();
            return std::mem::replace(&mut self.config, new);
        }
        let new = Configured::new(new);
        std::mem::replace(self, new).config
    }

    /// Adds a service, or puts it in the place of its former version.
    pub(super) fn set(&mut self, service: Arc<config::ServiceConfig>) -> Change<'_> {
        let key = key(&service);
        self.drained.retain(|(of, _), _| *of != key);
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
        self.drained.retain(|(of, _), _| of != key);
        let before = Some(self.config.services.swap_remove(place));
        // The last one has its place now.
        if let Some(moved) = self.config.services.get(place) {
            self.places.insert(super::key(moved), place);
        }
        let after = None;
        Some(Change { before, after })
    }

    /// Gives a real server another weight; returns the former one.
    pub(super) fn set_weight(
        &mut self,
        key: &ServiceKey,
        real: At,
        weight: u16,
    ) -> Result<Change<'_>, NoSuchReal> {
        let place = self.places.get(key).ok_or(NoSuchReal)?;
        let service = &mut self.config.services[*place];
        let before = Some(service.clone());
        // A copy: others may have the former version.
        let service = Arc::make_mut(service);
        let is_it = |found: &&mut config::RealConfig| (found.address, found.port) == real;
        let found = service.reals.iter_mut().find(is_it).ok_or(NoSuchReal)?;
        found.weight = weight;
        let after = Some(&*service);
        Ok(Change { before, after })
    }

    /// What an edit makes of a real server's weight: before and after. The weight is kept for the next edit, and not changed
    /// yet.
    pub(super) fn edit(
        &mut self,
        key: &ServiceKey,
        real: At,
        edit: Edit,
    ) -> Result<(u16, u16), NoSuchReal> {
        let service = self.get(key).ok_or(NoSuchReal)?;
        let is_it = |found: &&config::RealConfig| (found.address, found.port) == real;
        let before = service.reals.iter().find(is_it).ok_or(NoSuchReal)?.weight;
        let place = (*key, real);
        let after = match edit {
            Edit::Weight(0) | Edit::Drain if before == 0 => 0,
            Edit::Weight(0) | Edit::Drain => {
                self.drained.insert(place, before);
                0
            }
            Edit::Weight(weight) => {
                self.drained.remove(&place);
                weight
            }
            Edit::Enable if before > 0 => before,
            Edit::Enable => self.drained.remove(&place).unwrap_or(1),
        };
        Ok((before, after))
    }
}

fn places(config: &Config) -> HashMap<ServiceKey, usize> {
    let services = config.services.iter().enumerate();
    services
        .map(|(place, service)| (key(service), place))
        .collect()
}

//! Changes of single services: each is one publication, and the same work among 10 services and among 100,000.

use super::{Changes, Model, NoSuchReal, key};
use crate::config;
use crate::service::{Real, ServiceKey};
use std::net::Ipv4Addr;

/// What an operator does to one real server; until the next reload, since the file says what the weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    Weight(u16),
    /// No new connections; the old ones live on.
    Drain,
    /// The weight that it had before it had none, else 1.
    Enable,
}

/// Why a service cannot be added beside the others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    #[error(
        "the name {0:?} is that of the service {1}; remove that one first, or write another name"
    )]
    Name(String, ServiceKey),
    #[error("the VIP {0} is the address of a real server of another service")]
    VipIsReal(Ipv4Addr),
    #[error("the real server {0} is a VIP of weir's own")]
    RealIsVip(Ipv4Addr),
}

impl Model {
    /// Gives a real server another weight: one publication.
    ///
    /// # Errors
    ///
    /// If the service has no such real server.
    pub fn set_weight(
        &mut self,
        key: &ServiceKey,
        real: (Ipv4Addr, u16),
        weight: u16,
    ) -> Result<(), NoSuchReal> {
        let service = self
            .places
            .get(key)
            .map(|place| &mut self.config.services[*place]);
        let service = service.ok_or(NoSuchReal)?;
        let is_it = |found: &&mut config::Real| (found.address, found.port) == real;
        service
            .reals
            .iter_mut()
            .find(is_it)
            .ok_or(NoSuchReal)?
            .weight = weight;
        let service = service.clone();
        self.put_service(&service);
        let mut next = self.publisher.current().clone();
        self.freeze_services(&mut next);
        self.publish(next);
        Ok(())
    }

    /// Gives a real server no new connections, or its former share again: returns its weight before and after.
    ///
    /// # Errors
    ///
    /// If the service has no such real server.
    pub fn edit(
        &mut self,
        key: &ServiceKey,
        real: (Ipv4Addr, u16),
        edit: Edit,
    ) -> Result<(u16, u16), NoSuchReal> {
        let service = self.services.get(key).ok_or(NoSuchReal)?;
        let is_it = |found: &&Real| (found.address, found.port) == real;
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
        if after != before {
            self.set_weight(key, real, after)?;
        }
        Ok((before, after))
    }

    /// Adds services, or puts them in the place of their former versions: all in one publication, or none.
    pub fn set_services(&mut self, services: Vec<config::Service>) -> Result<Changes, Conflict> {
        services.iter().try_for_each(|service| self.fits(service))?;
        let mut changes = Changes::default();
        for service in services {
            let key = key(&service);
            self.put_service(&service);
            self.drained.retain(|(of, _), _| *of != key);
            match self.places.get(&key) {
                Some(&place) => {
                    let old = std::mem::replace(&mut self.config.services[place], service);
                    changes.count_service(Some(&old), Some(&self.config.services[place]));
                }
                None => {
                    changes.count_service(None, Some(&service));
                    self.places.insert(key, self.config.services.len());
                    self.config.services.push(service);
                }
            }
        }
        self.publish_services();
        Ok(changes)
    }

    /// Takes a service away, as if it were no more in the file.
    pub fn unset_service(&mut self, key: &ServiceKey) -> Option<Changes> {
        let place = self.places.remove(key)?;
        self.remove_service(key);
        self.drained.retain(|(of, _), _| of != key);
        let old = self.config.services.swap_remove(place);
        // The last one has its place now.
        if let Some(moved) = self.config.services.get(place) {
            self.places.insert(super::key(moved), place);
        }
        self.publish_services();
        let mut changes = Changes::default();
        changes.count_service(Some(&old), None);
        Some(changes)
    }

    /// The service of a name, or of a key as it is written: `tcp:192.0.2.80:80`.
    pub fn find_service(&self, name: &str) -> Option<ServiceKey> {
        let by_key = || {
            name.parse()
                .ok()
                .filter(|key| self.services.get(key).is_some())
        };
        self.names.get(name).copied().or_else(by_key)
    }

    fn fits(&self, service: &config::Service) -> Result<(), Conflict> {
        let key = key(service);
        match self.names.get(&service.name) {
            Some(other) if *other != key => {
                return Err(Conflict::Name(service.name.clone(), *other));
            }
            _ => {}
        }
        if !self.vips.contains_key(&key.address) && self.real_addresses.contains_key(&key.address) {
            return Err(Conflict::VipIsReal(key.address));
        }
        let mut reals = service.reals.iter().map(|real| real.address);
        match reals.find(|real| self.vips.contains_key(real)) {
            Some(real) => Err(Conflict::RealIsVip(real)),
            None => Ok(()),
        }
    }

    fn publish_services(&mut self) {
        let mut next = self.publisher.current().clone();
        next.addresses = self.addresses.freeze();
        self.freeze_services(&mut next);
        self.publish(next);
    }
}

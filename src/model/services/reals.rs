//! What is said of single real servers beside the file, and what of it is published: one service with other weights.

use super::configured::At;
use super::{Edit, Place, Services, State, Turn, key, registry, states};
use crate::config::{RealConfig, ServiceConfig};
use crate::model::changes::NoSuchReal;
use crate::service::{Condition, Health, ServiceKey};
use crate::units::{RealId, Time};
use foldhash::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What an edit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edited {
    pub before: Condition,
    pub after: Condition,
    /// The weight in the file.
    pub file: u16,
    is_published: bool,
}

impl Edited {
    /// The effective weights before and after.
    pub fn weights(&self) -> (u16, u16) {
        let of = |condition: Condition| condition.effective_weight(self.file, 1);
        (of(self.before), of(self.after))
    }

    /// Whether workers have to learn of it.
    pub(in crate::model) fn is_published(&self) -> bool {
        self.is_published
    }
}

impl Services {
    /// Does what an operator wants with a real server, for ever or until a time. Returns none where that changes nothing that
    /// is published.
    pub(in crate::model) fn edit(
        &mut self,
        key: &ServiceKey,
        real: At,
        edit: Edit,
        until: Option<Time>,
    ) -> Result<Edited, NoSuchReal> {
        let (id, configured) = self.find_real(key, real)?;
        let states = &mut self.indexes.registry.states;
        let before = states.condition(id);
        states.edit(id, configured, edit, until);
        let after = states.condition(id);
        Ok(Edited {
            before,
            after,
            file: configured.weight,
            is_published: self.reweigh(key),
        })
    }

    /// A service as it is configured.
    pub(in crate::model) fn configured(&self, key: &ServiceKey) -> Option<&Arc<ServiceConfig>> {
        self.configured.get(key)
    }

    /// Whether a service's real servers are checked.
    pub(in crate::model) fn is_checked(&self, key: &ServiceKey) -> bool {
        self.configured
            .get(key)
            .is_some_and(|service| service.health.is_some())
    }

    /// What a health check found. Returns whether there is something to publish.
    pub(in crate::model) fn set_health(
        &mut self,
        key: &ServiceKey,
        real: At,
        health: Health,
        reason: &str,
    ) -> Result<bool, NoSuchReal> {
        let (id, configured) = self.find_real(key, real)?;
        let states = &mut self.indexes.registry.states;
        Ok(states.set_health(id, configured, health, reason) && self.reweigh(key))
    }

    /// Takes at most so many steps that are due: of slow starts, and of what was said until now. Returns whether there is
    /// something to publish, and the real servers of which something has ended.
    pub(in crate::model) fn take_steps(&mut self, now: Time, most: usize) -> (bool, Vec<Place>) {
        self.indexes.registry.states.set_now(now);
        let (mut is_published, mut ended) = (false, Vec::new());
        for _ in 0..most {
            let registry = &mut self.indexes.registry;
            let Some(id) = registry.states.next_due() else {
                break;
            };
            let place = registry.real(id).copied();
            let Some(place @ (key, address, port)) = place else {
                registry.states.forget(id);
                continue;
            };
            let Ok((_, configured)) = self.find_real(&key, (address, port)) else {
                self.indexes.registry.states.forget(id);
                continue;
            };
            if self.indexes.registry.states.step(id, configured) {
                ended.push(place);
            }
            is_published |= self.reweigh(&key);
        }
        (is_published, ended)
    }

    /// When the next step is due.
    pub(in crate::model) fn next_step(&self) -> Option<Time> {
        self.indexes.registry.states.first_due()
    }

    pub(in crate::model) fn set_now(&mut self, now: Time) {
        self.indexes.registry.states.set_now(now);
    }

    /// Says which servers' addresses no packet gets to. Returns whether there is something to publish.
    ///
    /// One that is reached again starts slowly, unless no packet got to any real server of its service: those come back together,
    /// and none of them would get more than its share.
    pub(in crate::model) fn set_unreachable(&mut self, addresses: HashSet<IpAddr>) -> bool {
        let registry = &mut self.indexes.registry;
        let before = std::mem::replace(&mut registry.unreachable, addresses);
        let now = &registry.unreachable;
        let others: HashSet<IpAddr> = before.symmetric_difference(now).copied().collect();
        if others.is_empty() {
            return false;
        }
        let services = self.configured.config().services.iter();
        let is_other = |service: &&Arc<ServiceConfig>| {
            let mut servers = service.servers();
            servers.any(|server| others.contains(&server.address))
        };
        let mut is_published = false;
        for service in services.filter(is_other) {
            let key = key(service);
            let was_reached = |real: &RealConfig| !before.contains(&real.address);
            if service.reals.iter().any(was_reached) {
                self.indexes.registry.reached_again(&key, service, &before);
            }
            is_published |= self.indexes.reweigh(&key, service, &self.around);
        }
        is_published
    }

    /// The services whose availability has changed since the last call.
    pub(in crate::model) fn take_turns(&mut self) -> HashMap<ServiceKey, Turn> {
        self.indexes.registry.take_turns()
    }

    pub(super) fn find_real(
        &self,
        key: &ServiceKey,
        at: At,
    ) -> Result<(RealId, states::Configured), NoSuchReal> {
        let service = self.configured.get(key).ok_or(NoSuchReal)?;
        let mut servers = registry::in_tables(service);
        let found = servers.find(|(real, _)| (real.address, real.port) == at);
        let id = self.indexes.registry.id(key, at);
        let ((real, role), id) = found.zip(id).ok_or(NoSuchReal)?;
        Ok((id, registry::configured(service, real, role)))
    }

    /// Gives a service the weights that follow from what is known of its real servers now. Returns whether there is something
    /// to publish.
    pub(super) fn reweigh(&mut self, key: &ServiceKey) -> bool {
        let service = self.configured.get(key);
        service.is_some_and(|service| self.indexes.reweigh(key, service, &self.around))
    }

    /// Changes whenever what operators have said of real servers does.
    pub(in crate::model) fn edits(&self) -> u64 {
        self.indexes.registry.states.edits()
    }

    /// The real servers that operators have said something of.
    pub(in crate::model) fn edited(&self) -> impl Iterator<Item = (&Place, &State)> {
        let registry = &self.indexes.registry;
        let edited = registry.states.edited();
        edited.filter_map(|(id, state)| Some((registry.real(id)?, state)))
    }

    /// The id of a configured real server.
    pub(in crate::model) fn id(&self, key: &ServiceKey, at: At) -> Option<RealId> {
        self.indexes.registry.id(key, at)
    }

    /// What is known of a real server beside the file; none: nothing.
    pub(in crate::model) fn state(&self, id: RealId) -> Option<&State> {
        self.indexes.registry.state(id)
    }

    /// A configured real server's weight in the file.
    pub(in crate::model) fn file_weight(&self, key: &ServiceKey, at: At) -> Option<u16> {
        let (_, configured) = self.find_real(key, at).ok()?;
        Some(configured.weight)
    }
}

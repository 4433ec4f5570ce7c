//! What is said of single real servers while weir runs: by operators, by health checks, and by the time.

use super::{Edit, Edited, Model, NoSuchReal, Place, State};
use crate::service::{Health, ServiceKey};
use crate::units::{RealId, Time};
use std::net::{IpAddr, SocketAddr};

/// What an operator did to a real server before a restart, and until when it holds.
pub type RestoredEdit = (Edit, Option<Time>);
/// What an operator has said of a real server, to be said again.
pub type EditedReal = (ServiceKey, (IpAddr, u16), Vec<RestoredEdit>);

/// The most steps of slow starts in one tick, each a service with other weights.
const STEPS: usize = 16;

impl Model {
    /// Gives a real server another weight than the file's: one publication.
    ///
    /// # Errors
    ///
    /// If the service has no such real server.
    pub fn set_weight(
        &mut self,
        key: &ServiceKey,
        real: (IpAddr, u16),
        weight: u16,
    ) -> Result<(), NoSuchReal> {
        self.edit(key, real, Edit::Weight(weight), None)?;
        Ok(())
    }

    /// Does what an operator wants with a real server, for ever or until a time.
    ///
    /// # Errors
    ///
    /// If the service has no such real server.
    pub fn edit(
        &mut self,
        key: &ServiceKey,
        real: (IpAddr, u16),
        edit: Edit,
        until: Option<Time>,
    ) -> Result<Edited, NoSuchReal> {
        let edited = self.services.edit(key, real, edit, until)?;
        if edited.is_published() {
            self.publish(|_| {});
        }
        Ok(edited)
    }

    /// What a health check found of a real server, and why, in words. Costs a publication only where new connections or
    /// established ones are treated in another way from now on.
    ///
    /// # Errors
    ///
    /// If the service has no such real server.
    pub fn set_health(
        &mut self,
        key: &ServiceKey,
        real: SocketAddr,
        health: Health,
        reason: &str,
    ) -> Result<(), NoSuchReal> {
        let at = (real.ip(), real.port());
        if self.services.set_health(key, at, health, reason)? {
            self.publish(|_| {});
        }
        Ok(())
    }

    /// What health checks found of many real servers: one publication. Real servers that there are no longer are passed over.
    pub fn set_healths<'a>(
        &mut self,
        found: impl IntoIterator<Item = (ServiceKey, SocketAddr, Health, &'a str)>,
    ) {
        let mut is_published = false;
        for (key, real, health, reason) in found {
            // What was found before its check was taken away came late: nothing would ever find it up again.
            if health != Health::Unknown && !self.services.is_checked(&key) {
                continue;
            }
            let at = (real.ip(), real.port());
            is_published |= self.services.set_health(&key, at, health, reason) == Ok(true);
        }
        if is_published {
            self.publish(|_| {});
        }
    }

    /// Changes whenever what operators have said of real servers does.
    pub fn edits(&self) -> u64 {
        self.services.edits()
    }

    /// The real servers that operators have said something of.
    pub fn edited(&self) -> impl Iterator<Item = (&Place, &State)> {
        self.services.edited()
    }

    /// The same, for [`restore`](Self::restore).
    pub fn said(&self) -> Vec<EditedReal> {
        let edited = self.edited();
        let said = edited
            .map(|((key, address, port), state)| (*key, (*address, *port), state.said_again()));
        said.collect()
    }

    /// Whether a real server is configured.
    pub fn has_real(&self, key: &ServiceKey, real: (IpAddr, u16)) -> bool {
        self.services.id(key, real).is_some()
    }

    /// Says of configured real servers what was said of them before: one publication.
    pub fn restore(&mut self, all: Vec<EditedReal>) {
        let mut is_published = false;
        for (key, at, edits) in all {
            for (edit, until) in edits {
                let edited = self.services.edit(&key, at, edit, until);
                is_published |= edited.is_ok_and(|edited| edited.is_published());
            }
        }
        if is_published {
            self.publish(|_| {});
        }
    }

    /// What is known of a real server beside its line in the file; none: nothing.
    pub fn state(&self, id: RealId) -> Option<&State> {
        self.services.state(id)
    }

    /// A real server's weight in the file.
    pub fn file_weight(&self, key: &ServiceKey, real: (IpAddr, u16)) -> Option<u16> {
        self.services.file_weight(key, real)
    }

    /// Takes the steps of slow starts, and ends what was said of real servers until now.
    pub(super) fn take_steps(&mut self, now: Time) {
        let (is_published, ended) = self.services.take_steps(now, STEPS);
        if is_published {
            self.publish(|_| {});
        }
        for (key, address, port) in ended {
            let real = SocketAddr::new(address, port);
            let service = self.find(&key).map(|service| service.name.clone());
            let service = service.as_deref().unwrap_or_default();
            tracing::info!(service, %real, "the time of a drain, disable or weight is over");
        }
    }
}

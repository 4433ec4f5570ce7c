//! What health checks find: taken over into the model, and said.

use super::Control;
use crate::config::ServiceConfig;
use crate::health::{Change, Row};
use crate::log::{Reports, Said};
use crate::model::names;
use crate::probe::{Checks, Lister};
use crate::service::{Health, ServiceKey};
use crate::units::Time;
use crate::view;
use std::net::SocketAddr;
use std::sync::Arc;

/// The most real servers whose health is taken over in one turn.
const MOST: usize = 4096;
/// Real servers that are told apart in the log.
const SUBJECTS: usize = 256;

/// A real server, the type of the check, and the services that it is of.
type Subject = (SocketAddr, &'static str, String);

/// Its health and the check's words.
type Found = (Health, Health, String);

/// The control thread's part of health checks.
pub(super) struct Healths {
    checks: Option<Checks>,
    reports: Reports<Subject, Found>,
}

impl Default for Healths {
    fn default() -> Self {
        Healths {
            checks: None,
            reports: Reports::new(SUBJECTS),
        }
    }
}

impl Healths {
    pub(super) fn put(&self, service: Arc<ServiceConfig>) {
        if let Some(checks) = &self.checks {
            checks.put(service);
        }
    }

    pub(super) fn remove(&self, service: ServiceKey) {
        if let Some(checks) = &self.checks {
            checks.remove(service);
        }
    }

    /// That nothing is checked any more, if so.
    pub(super) fn illness(&self) -> Option<String> {
        let have_ended = self.checks.as_ref().is_some_and(Checks::have_ended);
        have_ended.then(|| {
            "the thread of the health checks panicked, see the log: real servers stay what they were found to be until weir is \
             restarted"
                .to_owned()
        })
    }

    fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut reals = 0;
        while reals < MOST
            && let Some(change) = self.checks.as_mut().and_then(Checks::next_change)
        {
            reals += change.targets.len();
            changes.push(change);
        }
        changes
    }
}

impl Control {
    /// Has real servers checked from now on.
    pub fn set_checks(&mut self, checks: Checks) {
        self.healths.checks = Some(checks);
        self.configure_checks();
    }

    /// Checks what is configured now.
    pub(super) fn configure_checks(&self) {
        if let Some(checks) = &self.healths.checks {
            let config = self.model.config();
            checks.configure(config.services.clone(), config.health.clone());
        }
    }

    /// Takes over what was found. Returns whether anything was.
    pub(super) fn hear_checks(&mut self, now: Time) -> bool {
        let changes = self.healths.changes();
        if !changes.is_empty() {
            let found = changes.iter().flat_map(|change| {
                let targets = change.targets.iter();
                targets.map(|it| (it.service, it.real, change.after, change.words.as_str()))
            });
            self.model.set_healths(found);
        }
        for change in &changes {
            self.report(change, now);
        }
        let due = self.healths.reports.tick(now);
        due.subjects
            .iter()
            .for_each(|(subject, said)| say(subject, said));
        if due.others > 0 {
            tracing::info!(
                changes = due.others,
                "still more real servers went up or down"
            );
        }
        !changes.is_empty()
    }

    fn report(&mut self, change: &Change, now: Time) {
        let (Some(before), Some(first)) = (change.before, change.targets.first()) else {
            return;
        };
        let services = change.targets.iter().filter_map(|target| {
            let service = self.model.find(&target.service)?;
            Some(service.name.clone())
        });
        let subject = (first.real, change.check, names(services));
        let found = (before, change.after, change.words.clone());
        if let Some(said) = self.healths.reports.note(subject.clone(), found, now) {
            say(&subject, &said);
        }
    }

    /// Which service is meant, if one is named, and who lists its checks.
    ///
    /// # Errors
    ///
    /// If there is no such service.
    pub fn list_checks(
        &self,
        service: Option<&str>,
    ) -> Result<(Option<ServiceKey>, Option<Lister>), String> {
        let lister = self.healths.checks.as_ref().and_then(Checks::lister);
        let Some(name) = service else {
            return Ok((None, lister));
        };
        match self.model.find_service(name) {
            Some(key) => Ok((Some(key), lister)),
            None => Err(format!("there is no service {name:?}")),
        }
    }

    /// Rows of `/v1/health` about real servers that are held by what became of clients' connections.
    pub fn show_held(&self, only: Option<&ServiceKey>) -> Vec<view::HealthView> {
        let held = self.model.held(only, self.now()).into_iter();
        held.filter_map(|(key, real, config, since)| {
            let service = self.model.find(&key)?;
            let id = (service.reals.iter()).find(|it| SocketAddr::new(it.address, it.port) == real);
            let state = id.and_then(|real| self.model.state(real.id));
            let held = state.and_then(|state| state.held.as_ref());
            Some(view::HealthView {
                service: service.name.to_string(),
                real,
                check: "passive".to_owned(),
                target: real.to_string(),
                state: "held".to_owned(),
                since_s: since.as_secs(),
                result: Some("failed".to_owned()),
                reason: held.map(|held| held.reason.to_string()),
                duration_ms: None,
                checked_s: None,
                passes: 0,
                failures: config.failures,
                rise: 0,
                fall: config.failures,
            })
        })
        .collect()
    }

    /// Why a service has no real server for new connections; none if it has one. Err: there is no such service.
    pub fn unserved(&self, name: &str) -> Result<Option<String>, String> {
        let service = self.model.find_service(name);
        let service = service.and_then(|key| self.model.find(&key));
        let Some(service) = service else {
            return Err(format!("there is no service {name:?}"));
        };
        let reals = || {
            let reals = service.reals.iter().rev();
            reals.map(|real| (real, self.show_real(&service.key, real).2.why))
        };
        if reals().any(|(_, why)| why.is_none()) {
            return Ok(None);
        }
        let why = match service.reals.len() {
            0 => "it has none".to_owned(),
            _ => names(reals().map(|(real, why)| {
                let at = SocketAddr::new(real.address, real.port);
                format!("{at} ({})", why.unwrap_or_default())
            })),
        };
        Ok(Some(format!(
            "the service {:?} has no available real server: {why}",
            &*service.name
        )))
    }

    pub(super) fn check_counts(&self) -> view::HealthCounts {
        let checks = self.healths.checks.as_ref();
        let counts = checks.map(Checks::counts).unwrap_or_default();
        let (held, holds) = self.model.holds();
        view::HealthCounts {
            passed: counts.passed,
            failed: counts.failed,
            not_made: counts.not_made,
            changes: counts.changes,
            late: counts.late,
            checks: counts.checks,
            running: counts.running,
            down: counts.down,
            failures: self.model.failures(),
            held,
            holds,
        }
    }
}

/// A row of `/v1/health`.
pub fn show_check(row: Row) -> view::HealthView {
    let target = match row.port {
        0 => row.address.to_string(),
        port => SocketAddr::new(row.address, port).to_string(),
    };
    view::HealthView {
        service: row.name,
        real: row.target.real,
        check: row.check.to_owned(),
        target,
        state: row.state.name().to_owned(),
        since_s: row.since.as_secs(),
        result: row.last.as_ref().map(|last| last.finding.name().to_owned()),
        reason: row.last.as_ref().map(|last| last.words.clone()),
        duration_ms: row
            .last
            .as_ref()
            .map(|last| last.took.as_secs_f64() * 1000.0),
        checked_s: row.last.is_some().then_some(row.ago.as_secs_f64()),
        passes: row.passes,
        failures: row.failures,
        rise: row.rise,
        fall: row.fall,
    }
}

fn say((real, check, services): &Subject, said: &Said<Found>) {
    let ((before, ..), (_, after, why)) = (&said.first, &said.last);
    let (before, times) = (before.name(), said.count);
    let why = format_args!("{why}");
    match after {
        Health::Down => {
            tracing::warn!(%real, services, check, before, times, "real server is down: {why}");
        }
        _ => {
            let after = after.name();
            tracing::info!(%real, services, check, before, times, "real server is {after}: {why}");
        }
    }
}

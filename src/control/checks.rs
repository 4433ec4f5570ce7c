//! What health checks find: taken over into the model, and said.

use super::Control;
use crate::config::{CheckWay, Config, ServiceConfig};
use crate::health::{Change, Row};
use crate::log::{Reports, Said};
use crate::model::{Named, key, names};
use crate::probe::{Checks, Lister};
use crate::service::{Health, ServiceKey, Serving};
use crate::tables::Service;
use crate::units::{Generation, Time};
use crate::via::{Book, Ways, leading};
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
    ways: Arc<Ways>,
    /// The generation of the tables that the ways know.
    told: Option<Generation>,
    reports: Reports<Subject, Found>,
}

impl Default for Healths {
    fn default() -> Self {
        Healths {
            checks: None,
            ways: Arc::default(),
            told: None,
            reports: Reports::new(SUBJECTS),
        }
    }
}

impl Healths {
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
    /// Has real servers checked from now on, by those ways.
    pub fn set_checks(&mut self, checks: Checks, ways: Arc<Ways>) {
        self.healths.checks = Some(checks);
        self.healths.ways = ways;
        self.configure_checks();
        self.lead_checks();
    }

    /// Checks what is configured now.
    pub(super) fn configure_checks(&mut self) {
        let config = self.model.config();
        self.healths.ways.change(|book| {
            book.set_addresses(config.check_addresses);
            book.keep(&config.services.iter().map(|it| key(it)).collect());
            for service in &config.services {
                give_addresses(book, service, config);
            }
        });
        self.follow_ways();
        if let Some(checks) = &self.healths.checks {
            let config = self.model.config();
            checks.configure(config.services.clone(), config.health.clone());
        }
    }

    /// Checks services in the place of their former versions.
    pub(super) fn put_checks(&mut self, services: Vec<Arc<ServiceConfig>>) {
        let config = self.model.config();
        self.healths.ways.change(|book| {
            for service in &services {
                give_addresses(book, service, config);
            }
        });
        if self.follow_ways() {
            self.lead_checks();
        }
        if let Some(checks) = &self.healths.checks {
            services.into_iter().for_each(|it| checks.put(it));
        }
    }

    /// Checks a service no longer.
    pub(super) fn remove_checks(&mut self, service: ServiceKey) {
        self.healths.ways.change(|book| book.remove(&service));
        if self.follow_ways() {
            self.lead_checks();
        }
        if let Some(checks) = &self.healths.checks {
            checks.remove(service);
        }
    }

    /// Tells the workers which packets may be answers to checks. Returns whether these are others than before.
    fn follow_ways(&mut self) -> bool {
        let checks = self.healths.ways.checks(self.model.tables());
        let are_others = checks != self.model.tables().checks;
        self.model.set_check_ways(checks);
        // Before anything is checked.
        self.tell_ways();
        are_others
    }

    /// Brings the host's routes in step: those of the configuration, and those to private addresses.
    pub(super) fn lead_checks(&self) {
        if let Some(host) = &self.host {
            let config = self.model.config();
            let mtus = config.ports.iter().map(|port| port.mtu);
            let least = mtus.min().unwrap_or_default();
            let checks = &self.model.tables().checks;
            let leading = leading(checks, &config.check_addresses, least);
            host.kernel.update(config, &leading);
        }
    }

    /// Has checks go by the tables that are in force.
    pub(super) fn tell_ways(&mut self) {
        let tables = self.model.tables();
        if self.healths.told != Some(tables.generation) && self.host.is_some() {
            self.healths.told = Some(tables.generation);
            self.healths.ways.set_tables(Arc::new(tables.clone()));
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
    ) -> Result<(Option<Named>, Option<Lister>), String> {
        let lister = self.healths.checks.as_ref().and_then(Checks::lister);
        let Some(name) = service else {
            return Ok((None, lister));
        };
        let keys = self.model.find_services(name);
        match keys.is_empty() {
            false => Ok((Some(keys), lister)),
            true => Err(format!("there is no service {name:?}")),
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
                via: None,
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
        let keys = self.model.find_services(name);
        if keys.is_empty() {
            return Err(format!("there is no service {name:?}"));
        }
        let mut services = keys.iter().filter_map(|key| self.model.find(key));
        let unserved = services.find_map(|service| self.why_unserved(service));
        Ok(unserved)
    }

    fn why_unserved(&self, service: &Service) -> Option<String> {
        let found = self.model.availability(&service.key).unwrap_or_default();
        if found.is_ready() {
            return None;
        }
        let (available, needed) = (found.available, found.needed);
        let lacks = match available {
            0 => "no available real server".to_owned(),
            1 => format!("1 available real server, and needs {needed}"),
            _ => format!("{available} available real servers, and needs {needed}"),
        };
        let why = match service.own_reals {
            0 => "it has none".to_owned(),
            _ => self.unavailable(service),
        };
        let used = match (found.serving, found.fallback) {
            (Serving::All, _) => "; all of them are used",
            (Serving::Fallback, 0) => "; its fallback servers cannot be used either",
            (Serving::Fallback, _) => "; its fallback servers are used",
            (Serving::Available | Serving::Refused, _) => "",
        };
        Some(format!(
            "the service {:?} has {lacks}: {why}{used}",
            &*service.name
        ))
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

/// Gives the real servers of a service private addresses, if they are checked by the way of its clients.
fn give_addresses(book: &mut Book, service: &ServiceConfig, config: &Config) {
    let health = service.health.as_ref();
    let health = health.and_then(|health| health.resolve(&config.health));
    if health.is_none_or(|health| health.via != CheckWay::Service) {
        return book.remove(&key(service));
    }
    // As the real servers see it.
    let is_v6 = service.address.is_ipv6() != config.crosses(service);
    let reals = service.reals.iter().map(|real| real.address);
    book.put(key(service), reals, is_v6);
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
        via: Some(row.via.name().to_owned()),
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

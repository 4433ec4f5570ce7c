//! All checks: whose they are, and which of them is due.

use super::check::{Finding, Outcome, Verdict};
use crate::config::{
    self, CheckWay, ClientAddress, HealthConfig, HealthTemplates, Probe, Protocol, ServiceConfig,
};
use crate::service::{Health, ServiceKey};
use crate::units::Time;
use foldhash::{HashMap, HashSet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// A real server of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    pub service: ServiceKey,
    pub real: SocketAddr,
}

/// A check that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    check: u32,
    serial: u64,
}

/// A check that is due.
#[derive(Clone, Debug)]
pub struct Start {
    pub run: Run,
    pub address: IpAddr,
    /// 0 where there is none.
    pub port: u16,
    pub config: Arc<HealthConfig>,
    /// Whose way it takes, with `via = "service"`.
    pub service: Option<ServiceKey>,
    /// The real server expects a header of the PROXY protocol first.
    pub tells: bool,
}

/// What real servers are to be taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub targets: Vec<Target>,
    /// None: what is said is of before, and new to these real servers only.
    pub before: Option<Health>,
    pub after: Health,
    /// The type of the check.
    pub check: &'static str,
    /// What the last check found.
    pub words: String,
    pub took: Duration,
}

/// What there is to show of one real server's check.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub target: Target,
    /// The service's name.
    pub name: String,
    pub check: &'static str,
    pub via: CheckWay,
    /// Where the check goes.
    pub address: IpAddr,
    pub port: u16,
    pub state: Health,
    /// How long it has that state.
    pub since: Duration,
    pub last: Option<Outcome>,
    /// How long ago the last check ended.
    pub ago: Duration,
    /// Results of one kind in a row.
    pub passes: u32,
    pub failures: u32,
    /// So many in a row change the state.
    pub rise: u32,
    pub fall: u32,
}

/// Checks since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub not_made: u64,
    /// Health changes.
    pub changes: u64,
    /// Now: checks that are configured, running, and of real servers that are down.
    pub checks: u64,
    pub running: u64,
    pub down: u64,
    /// Started later than their interval, since too many were running.
    pub late: u64,
}

/// Where a check goes, what it does, whose way it takes, and whether it tells where it comes from: services that have that in
/// common share it.
type Key = (IpAddr, u16, Arc<HealthConfig>, Option<ServiceKey>, bool);

struct Check {
    address: IpAddr,
    port: u16,
    config: Arc<HealthConfig>,
    /// With `via = "service"`.
    service: Option<ServiceKey>,
    tells: bool,
    /// Services by their places, and the real server's port there.
    targets: HashSet<(u32, u16)>,
    verdict: Verdict,
    last: Option<(Outcome, Time)>,
    /// When it is due; none: it runs.
    due: Option<Time>,
    started: Time,
    /// Of the run that is awaited.
    serial: u64,
}

struct Service {
    config: Arc<ServiceConfig>,
    health: Arc<HealthConfig>,
    /// The check of each of its real servers.
    checks: HashMap<SocketAddr, u32>,
}

pub struct Engine {
    checks: Vec<Option<Check>>,
    free_checks: Vec<u32>,
    by_key: HashMap<Key, u32>,
    due: BTreeSet<(Time, u32)>,
    services: Vec<Option<Service>>,
    free_services: Vec<u32>,
    by_service: BTreeMap<ServiceKey, u32>,
    changes: Vec<Change>,
    counts: Counts,
    /// The most that run at once.
    most: u64,
    serial: u64,
    random: u64,
}

fn key(service: &ServiceConfig) -> ServiceKey {
    ServiceKey {
        protocol: service.protocol,
        address: service.address,
        port: service.port,
        last: service.last_port,
    }
}

/// Whether a check speaks to what expects a header of the PROXY protocol from clients.
fn expects_header(service: &ServiceConfig, health: &HealthConfig) -> bool {
    let speaks = match health.probe {
        Probe::Tcp(_) | Probe::Http(_) | Probe::Grpc(_) => Some(Protocol::Tcp),
        Probe::Udp(_) | Probe::Dns(_) => Some(Protocol::Udp),
        Probe::Icmp | Probe::Exec(_) => None,
    };
    service.client_address == ClientAddress::ProxyV2 && speaks == Some(service.protocol)
}

impl Engine {
    /// At most `most` checks run at once. `seed` decides when each is due first.
    pub fn new(most: u64, seed: u64) -> Self {
        Engine {
            checks: Vec::new(),
            free_checks: Vec::new(),
            by_key: HashMap::default(),
            due: BTreeSet::new(),
            services: Vec::new(),
            free_services: Vec::new(),
            by_service: BTreeMap::new(),
            changes: Vec::new(),
            counts: Counts::default(),
            most,
            serial: 0,
            random: seed,
        }
    }

    /// Takes a configuration in place of the one before. A check that is in both goes on as it is.
    pub fn configure(
        &mut self,
        services: &[Arc<ServiceConfig>],
        templates: &HealthTemplates,
        now: Time,
    ) {
        let kept: HashSet<ServiceKey> = services.iter().map(|service| key(service)).collect();
        let known = self.by_service.keys().copied();
        let gone: Vec<_> = known.filter(|key| !kept.contains(key)).collect();
        gone.iter().for_each(|key| self.remove(key));
        for service in services {
            self.put(service, templates, now);
        }
    }

    /// Takes a service in place of its version before.
    pub fn put(&mut self, service: &Arc<ServiceConfig>, templates: &HealthTemplates, now: Time) {
        let key = key(service);
        let health = service.health.as_ref();
        let health = health.and_then(|health| health.resolve(templates));
        let known = self.by_service.get(&key).copied();
        let Some(health) = health else {
            if known.is_some() {
                self.remove(&key);
                let reals = service.reals.iter();
                let reals = reals.map(|real| SocketAddr::new(real.address, real.port));
                self.forget(key, reals.collect());
            }
            return;
        };
        let place = known.unwrap_or_else(|| self.new_service(key));
        if let Some(former) = &self.services[place as usize]
            && Arc::ptr_eq(&former.config, service)
            && former.health == *health
        {
            return;
        }
        let former = self.services[place as usize].take();
        let mut before = former.map_or_else(HashMap::default, |former| former.checks);
        let mut checks = HashMap::default();
        for real in &service.reals {
            let real = SocketAddr::new(real.address, real.port);
            let former = before.get(&real).copied();
            let check = self.check_of((service, real), health, former, now);
            if let Some(check) = self.checks[check as usize].as_mut() {
                check.targets.insert((place, real.port()));
            }
            if former == Some(check) {
                before.remove(&real);
            } else {
                self.tell(check, Target { service: key, real }, former.is_none());
            }
            checks.insert(real, check);
        }
        self.services[place as usize] = Some(Service {
            config: service.clone(),
            health: health.clone(),
            checks,
        });
        for (real, check) in before {
            self.leave(check, (place, real.port()));
        }
    }

    /// Takes a service away.
    pub fn remove(&mut self, key: &ServiceKey) {
        let Some(place) = self.by_service.remove(key) else {
            return;
        };
        self.free_services.push(place);
        if let Some(service) = self.services[place as usize].take() {
            for (real, check) in service.checks {
                self.leave(check, (place, real.port()));
            }
        }
    }

    /// When the next check is due, if one may be started.
    pub fn next_due(&self) -> Option<Time> {
        let may = self.counts.running < self.most;
        self.due.first().filter(|_| may).map(|(at, _)| *at)
    }

    /// Takes the next check that is due; its result has to come by [`finish`](Self::finish).
    pub fn start(&mut self, now: Time) -> Option<Start> {
        self.next_due().filter(|at| *at <= now)?;
        let (at, place) = self.due.pop_first()?;
        let check = self.checks[place as usize].as_mut()?;
        self.counts.running += 1;
        self.counts.late += u64::from(now.since(at) > check.config.interval);
        self.serial += 1;
        check.serial = self.serial;
        check.due = None;
        check.started = now;
        Some(Start {
            run: Run {
                check: place,
                serial: self.serial,
            },
            address: check.address,
            port: check.port,
            config: check.config.clone(),
            service: check.service,
            tells: check.tells,
        })
    }

    /// Takes what came of a check.
    pub fn finish(&mut self, run: Run, outcome: Outcome, now: Time) {
        self.counts.running -= 1;
        match outcome.finding {
            Finding::Passed => self.counts.passed += 1,
            Finding::Failed => self.counts.failed += 1,
            Finding::Nothing => self.counts.not_made += 1,
        }
        let draw = self.draw();
        let check = self.checks.get_mut(run.check as usize);
        let check = check.and_then(Option::as_mut);
        // It may have been taken away meanwhile, and its place be another's.
        let Some(check) = check.filter(|check| check.serial == run.serial && check.due.is_none())
        else {
            return;
        };
        let before = check.verdict.take(outcome.finding, &check.config, now);
        // Up to a tenth sooner, so that checks do not stay in step; never later.
        let pause = check.verdict.pause(&check.config);
        let pause = pause - pause.mul_f64(0.1 * draw);
        let due = (check.started + pause).max(now);
        check.due = Some(due);
        self.due.insert((due, run.check));
        if let Some(before) = before {
            let after = check.verdict.state;
            self.counts.changes += 1;
            self.counts.down += u64::from(after == Health::Down);
            self.counts.down -= u64::from(before == Health::Down);
            let services = &self.services;
            let target = |&(service, port): &(u32, u16)| {
                let service = services[service as usize].as_ref()?;
                Some(Target {
                    service: key(&service.config),
                    real: SocketAddr::new(check.address, port),
                })
            };
            let mut targets: Vec<_> = check.targets.iter().filter_map(target).collect();
            targets.sort_unstable();
            self.changes.push(Change {
                targets,
                before: Some(before),
                after,
                check: check.config.probe.name(),
                words: outcome.words.clone(),
                took: outcome.took,
            });
        }
        check.last = Some((outcome, now));
    }

    /// What has changed since.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// At most `most` rows behind `after`, in the order of services and real servers; of one service only, if one is named.
    pub fn rows(
        &self,
        only: Option<&ServiceKey>,
        after: Option<Target>,
        most: usize,
        now: Time,
    ) -> Vec<Row> {
        let from = match after {
            Some(after) => Bound::Included(after.service),
            None => only.map_or(Bound::Unbounded, |only| Bound::Included(*only)),
        };
        let services = self.by_service.range((from, Bound::Unbounded));
        let services = services.take_while(|(key, _)| only.is_none_or(|only| only == *key));
        let mut rows = Vec::new();
        for (&key, &place) in services {
            let Some(service) = &self.services[place as usize] else {
                continue;
            };
            let mut reals: Vec<_> = service.checks.iter().collect();
            reals.sort_unstable();
            for (&real, &check) in reals {
                let target = Target { service: key, real };
                if after.is_some_and(|after| target <= after) {
                    continue;
                }
                if rows.len() == most {
                    return rows;
                }
                if let Some(check) = &self.checks[check as usize] {
                    rows.push(check.row(target, service, now));
                }
            }
        }
        rows
    }

    /// A run of no check.
    #[cfg(test)]
    pub(crate) fn any_run(&self) -> Run {
        Run {
            check: u32::MAX,
            serial: self.serial,
        }
    }

    /// How many checks there are, and how many of them wait.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.by_key.len(), self.due.len())
    }

    fn new_service(&mut self, key: ServiceKey) -> u32 {
        let place = self.free_services.pop().unwrap_or_else(|| {
            self.services.push(None);
            (self.services.len() - 1) as u32
        });
        self.by_service.insert(key, place);
        place
    }

    /// The check of a real server; a new one takes over what is known by the one that it replaces.
    fn check_of(
        &mut self,
        (service, real): (&ServiceConfig, SocketAddr),
        health: &Arc<HealthConfig>,
        former: Option<u32>,
        now: Time,
    ) -> u32 {
        let (address, port) = config::target(health, real.ip(), real.port());
        // What listens on another port is not what clients speak to.
        let tells = port == real.port() && expects_header(service, health);
        let service = (health.via == CheckWay::Service).then_some(key(service));
        let key = (address, port, health.clone(), service, tells);
        if let Some(&known) = self.by_key.get(&key) {
            return known;
        }
        let former = former.and_then(|former| self.checks[former as usize].as_ref());
        let state = former.map_or(Health::Unknown, |former| former.verdict.state);
        let last = former.and_then(|former| former.last.clone());
        self.counts.checks += 1;
        self.counts.down += u64::from(state == Health::Down);
        let due = now + health.fast_interval.mul_f64(self.draw());
        let check = Check {
            address,
            port,
            config: health.clone(),
            service,
            tells,
            targets: HashSet::default(),
            verdict: Verdict::new(state, now),
            last,
            due: Some(due),
            started: now,
            serial: 0,
        };
        let place = self.free_checks.pop().unwrap_or_else(|| {
            self.checks.push(None);
            (self.checks.len() - 1) as u32
        });
        self.checks[place as usize] = Some(check);
        self.by_key.insert(key, place);
        self.due.insert((due, place));
        place
    }

    /// A real server no longer has this check.
    fn leave(&mut self, place: u32, target: (u32, u16)) {
        let Some(check) = self.checks[place as usize].as_mut() else {
            return;
        };
        check.targets.remove(&target);
        if !check.targets.is_empty() {
            return;
        }
        if let Some(check) = self.checks[place as usize].take() {
            let key = (
                check.address,
                check.port,
                check.config,
                check.service,
                check.tells,
            );
            self.by_key.remove(&key);
            if let Some(due) = check.due {
                self.due.remove(&(due, place));
            }
            self.counts.checks -= 1;
            self.counts.down -= u64::from(check.verdict.state == Health::Down);
            self.free_checks.push(place);
        }
    }

    /// Tells what is known already to a real server that has this check from now on; nothing, if it is new itself.
    fn tell(&mut self, check: u32, target: Target, is_new: bool) {
        let Some(check) = &self.checks[check as usize] else {
            return;
        };
        if is_new && check.verdict.state == Health::Unknown {
            return;
        }
        let last = check.last.as_ref().map(|(last, _)| last);
        self.changes.push(Change {
            targets: vec![target],
            before: None,
            after: check.verdict.state,
            check: check.config.probe.name(),
            words: last.map(|last| last.words.clone()).unwrap_or_default(),
            took: last.map(|last| last.took).unwrap_or_default(),
        });
    }

    /// Real servers that are no longer checked are what they were before they were.
    fn forget(&mut self, service: ServiceKey, reals: Vec<SocketAddr>) {
        let targets = reals.into_iter().map(|real| Target { service, real });
        self.changes.push(Change {
            targets: targets.collect(),
            before: None,
            after: Health::Unknown,
            check: "",
            words: String::new(),
            took: Duration::ZERO,
        });
    }

    /// From 0 to 1 (SplitMix64).
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut drawn = self.random;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((drawn ^ (drawn >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Check {
    fn row(&self, target: Target, service: &Service, now: Time) -> Row {
        let last = self.last.as_ref();
        Row {
            target,
            name: service.config.name.clone(),
            check: self.config.probe.name(),
            via: self.config.via,
            address: self.address,
            port: self.port,
            state: self.verdict.state,
            since: now.since(self.verdict.since),
            last: last.map(|(last, _)| last.clone()),
            ago: last.map_or(Duration::ZERO, |(_, at)| now.since(*at)),
            passes: self.verdict.passes,
            failures: self.verdict.failures,
            rise: self.verdict.rise(&self.config),
            fall: self.config.fall,
        }
    }
}

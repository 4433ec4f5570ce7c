//! A model that is changed step by step, and what should be configured and said after each.

use super::*;

pub(super) struct Lab {
    pub(super) model: Model,
    pub(super) readers: Vec<Reader<Tables>>,
    pub(super) now: Time,
    /// The services as they should be configured, by the rules of the commands.
    pub(super) expected: Vec<Arc<config::ServiceConfig>>,
    /// What was said of real servers that are still there.
    pub(super) conditions: HashMap<(ServiceKey, At), Condition>,
}

impl Lab {
    pub(super) fn new(config: &Config) -> Lab {
        let device = |n| Device {
            mac: Mac([2, 0, 0, 0, 0, n]),
            any_mac: false,
        };
        let stats = Arc::new(Stats::new(2).unwrap());
        let now = Time::from_nanos(0);
        let (model, readers) = Model::new(config, vec![device(1), device(2)], stats, 1, now);
        Lab {
            model,
            readers,
            now,
            expected: config.services.clone(),
            conditions: HashMap::default(),
        }
    }

    pub(super) fn take(&mut self, step: &Step) {
        let place =
            |n: usize| Some(n % self.expected.len().max(1)).filter(|_| !self.expected.is_empty());
        match step {
            Step::Apply(world, services) => {
                if let Some(config) = parse(world, services) {
                    self.expected = config.services.clone();
                    let planned = self.model.plan(&config);
                    let changes = Changes::between(self.model.config(), &config);
                    assert_eq!(
                        planned.details.is_empty(),
                        changes.is_empty(),
                        "{planned:?}"
                    );
                    self.model.apply(config, self.now).unwrap();
                }
            }
            Step::Rewire(world) => {
                let last_byte = |address| ipv4(address).octets()[3];
                let is_used = |it: &Arc<config::ServiceConfig>| last_byte(it.address) == VIPS;
                if world.has_vip && self.expected.iter().any(is_used) {
                    return;
                }
                let mut config = parse(world, &[]).unwrap();
                config.services = self.expected.clone();
                self.model.apply(config, self.now).unwrap();
            }
            Step::Set(services) => {
                let around = self.model.surroundings();
                let text = text_of_services(services);
                let Ok((services, _)) = config::services(&text, "test", &around) else {
                    return;
                };
                if self.model.set_services(services.clone()).is_err() {
                    return;
                }
                for service in services {
                    let its = key(&service);
                    match self.expected.iter_mut().find(|other| key(other) == its) {
                        Some(other) => *other = service,
                        None => self.expected.push(service),
                    }
                }
            }
            Step::Unset(n) => {
                let Some(n) = place(*n) else { return };
                let its = key(&self.expected.swap_remove(n));
                assert!(self.model.unset_service(&its).is_some());
                assert!(self.model.unset_service(&its).is_none());
                // Its connections are told so where they are.
                assert!(self.model.tables().any_departed);
                assert!(self.model.tables().placements.get(&its).is_some());
            }
            Step::Edit(n, real, edit) => {
                let Some(n) = place(*n) else { return };
                let service = &self.expected[n];
                let its = key(service);
                let servers: Vec<_> = service.servers().collect();
                if servers.is_empty() {
                    let absent = (REALS[0], 1);
                    assert!(self.model.edit(&its, absent, *edit, None).is_err());
                    return;
                }
                let real = servers[real % servers.len()];
                let at = (real.address, real.port);
                let condition = self.conditions.entry((its, at)).or_default();
                let before = condition.effective_weight(real.weight, 1);
                match edit {
                    Edit::Weight(weight) => condition.weight = Some(*weight),
                    Edit::Drain => condition.admin = Admin::Drained,
                    Edit::Disable => condition.admin = Admin::Disabled,
                    Edit::Enable => {
                        *condition = Condition {
                            health: condition.health,
                            ..Condition::default()
                        }
                    }
                }
                let after = condition.effective_weight(real.weight, 1);
                let edited = self.model.edit(&its, at, *edit, None).unwrap();
                assert_eq!(edited.weights(), (before, after));
            }
            Step::Health(n, real, health) => {
                let Some(n) = place(*n) else { return };
                let service = &self.expected[n];
                let its = key(service);
                let Some(real) = service.reals.get(real % service.reals.len().max(1)) else {
                    return;
                };
                let at = (real.address, real.port);
                self.conditions.entry((its, at)).or_default().health = *health;
                let real = SocketAddr::new(real.address, real.port);
                let generation = self.model.tables().generation;
                self.model.set_health(&its, real, *health, "").unwrap();
                self.model
                    .set_health(&its, real, *health, "the same")
                    .unwrap();
                assert!(self.model.tables().generation.0 <= generation.0 + 1);
            }
            Step::Wait(seconds) => self.wait(*seconds),
        }
        let is_there = |(its, at): &(ServiceKey, At)| {
            let mut services = self.expected.iter();
            let service = services.find(|service| key(service) == *its);
            service.is_some_and(|it| it.servers().any(|real| (real.address, real.port) == *at))
        };
        self.conditions.retain(|of, _| is_there(of));
    }

    /// A model of what is configured, of which the same is said as of this one.
    pub(super) fn fresh(&self) -> Lab {
        let mut fresh = Lab::new(self.model.config());
        for ((its, at), condition) in &self.conditions {
            let real = SocketAddr::new(at.0, at.1);
            let model = &mut fresh.model;
            model.set_health(its, real, condition.health, "").unwrap();
            let edits = match condition.admin {
                Admin::Enabled => None,
                Admin::Drained => Some(Edit::Drain),
                Admin::Disabled => Some(Edit::Disable),
            };
            for edit in edits.into_iter().chain(condition.weight.map(Edit::Weight)) {
                model.edit(its, *at, edit, None).unwrap();
            }
        }
        fresh
    }

    pub(super) fn wait(&mut self, seconds: u32) {
        for part in [0, seconds] {
            self.now = self.now + std::time::Duration::from_secs(u64::from(part) + 1);
            // What was released is published, and read, before its ids are free.
            for _ in 0..3 {
                self.model.tick(self.now);
                self.readers.iter_mut().for_each(Reader::quiescent);
            }
        }
    }
}

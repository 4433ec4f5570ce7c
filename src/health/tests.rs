//! The engine against a table, and against what must hold whatever happens.

use super::*;
use crate::config::{
    CheckWay, ClientAddress, Exchange, HealthConfig, HealthTemplates, HealthUse, ModeConfig, Probe,
    Protocol, RealConfig, SchedulerConfig, SchedulerFlags, ServiceConfig, WhenUnavailable,
};
use crate::service::{Health, ServiceKey};
use crate::units::Time;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

fn health(seconds: u64, rise: u32, fall: u32) -> HealthConfig {
    HealthConfig {
        probe: Probe::Tcp(Exchange::default()),
        port: None,
        via: CheckWay::Host,
        interval: Duration::from_secs(seconds),
        fast_interval: Duration::from_secs(seconds),
        timeout: Duration::from_millis(500),
        rise,
        fall,
    }
}

fn service(n: u8, health: Option<HealthUse>, reals: &[u8]) -> Arc<ServiceConfig> {
    Arc::new(ServiceConfig {
        name: format!("s{n}"),
        protocol: Protocol::Tcp,
        address: [192, 0, 2, n].into(),
        port: 80,
        last_port: 0,
        mode: ModeConfig::Nat,
        scheduler: SchedulerConfig::Rr,
        flags: SchedulerFlags::default(),
        persistence: None,
        when_unavailable: WhenUnavailable::Refuse,
        unknown_tcp: None,
        tcp_mss: None,
        quic: None,
        client_address: Default::default(),
        health,
        slow_start: None,
        on_down: Default::default(),
        timeouts: Default::default(),
        on_idle: Default::default(),
        one_packet: false,
        histograms: false,
        connection_log: true,
        availability: Default::default(),
        announce: Default::default(),
        fallback: Vec::new(),
        on_drain: None,
        passive: None,
        pool: None,
        allow: None,
        deny: None,
        limits: None,
        reals: reals
            .iter()
            .map(|&real| RealConfig {
                address: [10, 0, 0, real].into(),
                port: 80,
                weight: 1,
                thresholds: None,
                server_id: None,
            })
            .collect(),
    })
}

fn own(health: HealthConfig) -> Option<HealthUse> {
    Some(HealthUse::Own(Arc::new(health)))
}

fn outcome(finding: Finding) -> Outcome {
    Outcome {
        finding,
        words: finding.name().to_owned(),
        took: Duration::from_millis(1),
    }
}

fn at(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

/// An engine, and real servers that answer at once.
struct World {
    engine: Engine,
    now: Time,
    /// What real servers are taken for.
    known: HashMap<Target, Health>,
    /// When each check began, with what it found.
    log: Vec<(Time, SocketAddr, Finding)>,
    changes: Vec<(Time, Change)>,
}

impl World {
    fn new(services: &[Arc<ServiceConfig>], seed: u64) -> World {
        let mut engine = Engine::new(100, seed);
        engine.configure(services, &HealthTemplates::new(), at(0));
        World {
            engine,
            now: at(0),
            known: HashMap::new(),
            log: Vec::new(),
            changes: Vec::new(),
        }
    }

    fn run(&mut self, until: Time, answer: impl Fn(SocketAddr, Time) -> Finding) {
        while let Some(due) = self.engine.next_due().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            while let Some(start) = self.engine.start(self.now) {
                let to = SocketAddr::new(start.address, start.port);
                let found = answer(to, self.now);
                self.log.push((self.now, to, found));
                self.engine.finish(start.run, outcome(found), self.now);
            }
            self.hear();
        }
        self.now = until;
        self.hear();
    }

    fn hear(&mut self) {
        for change in self.engine.take_changes() {
            for target in &change.targets {
                self.known.insert(*target, change.after);
            }
            self.changes.push((self.now, change));
        }
    }

    fn state(&self, service: u8, real: u8) -> Health {
        let target = Target {
            service: ServiceKey {
                protocol: Protocol::Tcp,
                address: [192, 0, 2, service].into(),
                port: 80,
                last: 0,
            },
            real: ([10, 0, 0, real], 80).into(),
        };
        self.known.get(&target).copied().unwrap_or_default()
    }
}

/// What a check finds, result by result, and the states that come of it: `u` unknown, `U` up, `D` down.
const RUNS: &[(&str, u32, u32, &str, &str)] = &[
    ("one pass makes the unknown up", 3, 3, "+", "U"),
    ("so many failures make it down", 2, 3, "---", "uuD"),
    ("a pass between begins anew", 2, 3, "--+---", "uuUUUD"),
    ("so many passes bring it back", 2, 2, "--++", "uDDU"),
    ("a failure between begins anew", 2, 1, "-+-++", "DDDDU"),
    (
        "what could not be made says nothing",
        2,
        2,
        "-?-??+?+",
        "uuDDDDDU",
    ),
    ("one that fell soon after it rose", 1, 1, "+-+", "UDD"),
    (
        "one that flaps must pass twice as often",
        1,
        1,
        "+-++-+++-",
        "UDDUDDDDD",
    ),
];

#[test]
fn results_in_a_row_change_the_state() {
    for (name, rise, fall, findings, states) in RUNS {
        let services = [service(1, own(health(1, *rise, *fall)), &[1])];
        let mut world = World::new(&services, 1);
        for (n, (finding, state)) in findings.chars().zip(states.chars()).enumerate() {
            let finding = match finding {
                '+' => Finding::Passed,
                '-' => Finding::Failed,
                _ => Finding::Nothing,
            };
            let due = world.engine.next_due().unwrap();
            world.run(due, |_, _| finding);
            let wanted = match state {
                'u' => Health::Unknown,
                'U' => Health::Up,
                _ => Health::Down,
            };
            assert_eq!(world.state(1, 1), wanted, "{name}: result {n}");
        }
    }
}

#[test]
fn a_dead_real_server_is_down_within_the_time_that_is_promised() {
    for seed in 0..200 {
        let services = [service(1, own(health(2, 2, 3)), &[1])];
        let mut world = World::new(&services, seed);
        let died = at(20_000 + seed * 13);
        world.run(at(60_000), |_, now| match now < died {
            true => Finding::Passed,
            false => Finding::Failed,
        });
        let down = world
            .changes
            .iter()
            .find(|(_, it)| it.after == Health::Down);
        let took = down.unwrap().0.since(died);
        assert!(took <= Duration::from_secs(2 * 3), "{seed}: {took:?}");
        assert!(took >= Duration::from_millis(3600), "{seed}: {took:?}");
    }
}

#[test]
fn checks_of_one_beginning_do_not_stay_in_step() {
    let reals: Vec<u8> = (1..=100).collect();
    let services = [service(1, own(health(2, 2, 3)), &reals)];
    let mut world = World::new(&services, 7);
    world.run(at(60_000), |_, _| Finding::Passed);
    // In each tenth of a second there is one in twenty of them, or a little more as pauses are shorter by up to a tenth.
    for second in 0..600 {
        let (from, to) = (at(second * 100), at(second * 100 + 100));
        let count = world
            .log
            .iter()
            .filter(|(time, ..)| (from..to).contains(time));
        assert!(count.count() <= 16, "{second}");
    }
    let of_one = world
        .log
        .iter()
        .filter(|(_, to, _)| to.ip() == std::net::IpAddr::from([10, 0, 0, 1]));
    let times: Vec<_> = of_one.map(|(time, ..)| *time).collect();
    for pair in times.windows(2) {
        let pause = pair[1].since(pair[0]);
        let range = Duration::from_millis(1800)..=Duration::from_secs(2);
        assert!(range.contains(&pause), "{pause:?}");
    }
}

#[test]
fn one_that_is_dead_for_long_is_asked_less_often_until_it_answers() {
    let services = [service(1, own(health(1, 2, 3)), &[1])];
    let mut world = World::new(&services, 3);
    let back = at(1_000_000);
    world.run(at(1_100_000), |_, now| match now < back {
        true => Finding::Failed,
        false => Finding::Passed,
    });
    let pauses: Vec<_> = world
        .log
        .windows(2)
        .map(|pair| (pair[0].0, pair[1].0.since(pair[0].0).as_secs_f64()))
        .collect();
    let longest = pauses.iter().map(|(_, pause)| *pause).fold(0.0, f64::max);
    assert!((7.2..=8.0).contains(&longest), "{longest}");
    // From the first success on as always.
    let after = pauses.iter().filter(|(time, _)| *time >= back);
    assert!(after.into_iter().all(|(_, pause)| *pause <= 1.0));
    assert!(world.log.len() < 400, "{}", world.log.len());
    assert_eq!(world.state(1, 1), Health::Up);
}

#[test]
fn while_its_state_is_not_certain_it_is_asked_more_often() {
    let fast = HealthConfig {
        fast_interval: Duration::from_millis(200),
        timeout: Duration::from_millis(200),
        ..health(10, 3, 3)
    };
    let services = [service(1, own(fast), &[1])];
    let mut world = World::new(&services, 3);
    world.run(at(100_000), |_, now| match now < at(50_000) {
        true => Finding::Passed,
        false => Finding::Failed,
    });
    let first = world
        .log
        .iter()
        .find(|(.., found)| *found == Finding::Failed);
    let down = world.changes.last().unwrap();
    assert!(down.0.since(first.unwrap().0) <= Duration::from_millis(400));
}

#[test]
fn services_share_a_check_that_is_the_same_and_no_other() {
    let reals = [1, 2];
    let services = [
        service(1, own(health(1, 2, 3)), &reals),
        service(2, own(health(1, 2, 3)), &reals),
        service(3, own(health(1, 2, 2)), &reals),
        service(4, None, &reals),
    ];
    let mut world = World::new(&services, 3);
    assert_eq!(world.engine.sizes(), (4, 4));
    world.run(at(20_000), |to, _| {
        match to.ip() == services[0].reals[0].address {
            true => Finding::Failed,
            false => Finding::Passed,
        }
    });
    for n in 1..=3 {
        assert_eq!(
            (world.state(n, 1), world.state(n, 2)),
            (Health::Down, Health::Up),
            "{n}"
        );
    }
    assert_eq!(world.state(4, 1), Health::Unknown);
    let shared = world.changes.iter().map(|(_, change)| change.targets.len());
    assert_eq!(shared.max(), Some(2));
}

#[test]
fn a_reload_keeps_what_is_known() {
    let before = [
        service(1, own(health(1, 2, 3)), &[1, 2]),
        service(2, own(health(1, 2, 3)), &[1]),
    ];
    let dead = |to: SocketAddr, _| match to.ip() == std::net::IpAddr::from([10, 0, 0, 1]) {
        true => Finding::Failed,
        false => Finding::Passed,
    };
    let mut world = World::new(&before, 3);
    world.run(at(20_000), dead);
    let changes = world.changes.len();
    // One more real server, another service gone, and a check with other parameters in its place.
    let none = HealthTemplates::new();
    let more = [service(1, own(health(1, 2, 3)), &[1, 2, 3])];
    world.engine.configure(&more, &none, world.now);
    world.run(at(20_001), dead);
    assert_eq!(world.changes.len(), changes, "nothing flaps");
    assert_eq!(world.engine.sizes().0, 3);
    let other = [service(1, own(health(2, 3, 4)), &[1, 2, 3])];
    world.engine.configure(&other, &none, world.now);
    world.run(at(20_002), dead);
    assert_eq!(
        (world.state(1, 1), world.state(1, 2)),
        (Health::Down, Health::Up)
    );
    let news = world.changes.iter().filter(|(_, it)| it.before.is_some());
    assert!(news.into_iter().all(|(time, _)| *time < at(20_001)));
    // It comes back by its new rise.
    world.run(at(40_000), |_, _| Finding::Passed);
    assert_eq!(world.state(1, 1), Health::Up);
    // Without checks they count as before there were any.
    world.run(at(60_000), dead);
    assert_eq!(world.state(1, 1), Health::Down);
    world
        .engine
        .configure(&[service(1, None, &[1, 2, 3])], &none, world.now);
    world.run(at(60_001), dead);
    assert_eq!(world.state(1, 1), Health::Unknown);
    assert_eq!(world.engine.sizes(), (0, 0));
}

#[test]
fn a_template_that_changes_is_another_check() {
    let named = service(1, Some(HealthUse::Named("t".to_owned())), &[1]);
    let templates = |health| HealthTemplates::from([("t".to_owned(), Arc::new(health))]);
    let mut engine = Engine::new(10, 1);
    engine.configure(
        std::slice::from_ref(&named),
        &templates(health(1, 2, 3)),
        at(0),
    );
    let first = engine.start(at(5000)).unwrap();
    assert_eq!(first.config.rise, 2);
    engine.configure(&[named], &templates(health(1, 5, 3)), at(5000));
    assert_eq!(engine.sizes(), (1, 1));
    // The result of the check that is gone says nothing of the new one.
    engine.finish(first.run, outcome(Finding::Passed), at(5001));
    let told = engine.take_changes();
    assert!(
        told.iter().all(|it| it.after == Health::Unknown),
        "{told:?}"
    );
    assert_eq!(engine.start(at(9000)).unwrap().config.rise, 5);
}

#[test]
fn no_more_run_at_once_than_may() {
    let reals: Vec<u8> = (1..=50).collect();
    let mut engine = Engine::new(7, 1);
    engine.configure(
        &[service(1, own(health(1, 2, 3)), &reals)],
        &HealthTemplates::new(),
        at(0),
    );
    let mut running = Vec::new();
    while let Some(start) = engine.start(at(10_000)) {
        running.push(start.run);
    }
    assert_eq!(running.len(), 7);
    assert_eq!(engine.next_due(), None);
    engine.finish(running[0], outcome(Finding::Passed), at(10_000));
    assert!(engine.start(at(10_000)).is_some());
    assert!(engine.start(at(10_000)).is_none());
    assert_eq!(engine.counts().late, 8);
}

#[test]
fn rows_come_in_pages() {
    let services: Vec<_> = (1..=9)
        .map(|n| service(n, own(health(1, 2, 3)), &[3, 1, 2]))
        .collect();
    let world = World::new(&services, 1);
    let mut all = Vec::new();
    while let rows = world.engine.rows(None, all.last().copied(), 4, at(9))
        && !rows.is_empty()
    {
        assert!(rows.len() <= 4);
        all.extend(rows.iter().map(|row| row.target));
    }
    assert_eq!(all.len(), 27);
    assert!(all.is_sorted());
    let only = all[10].service;
    let rows = world.engine.rows(Some(&only), None, 100, at(9));
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.target.service == only));
}

/// What may happen to an engine.
#[derive(Clone, Debug)]
enum Event {
    Put(u8, Option<u8>, Vec<u8>),
    Remove(u8),
    Start,
    Finish(usize, bool),
    Wait(u16),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let reals = prop::collection::btree_set(1..6_u8, 0..4);
    let event = prop_oneof![
        2 => (1..5_u8, prop::option::of(1..3_u8), reals)
            .prop_map(|(n, check, reals)| Event::Put(n, check, reals.into_iter().collect())),
        1 => (1..5_u8).prop_map(Event::Remove),
        4 => Just(Event::Start),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(n, passed)| Event::Finish(n, passed)),
        2 => (1..3000_u16).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    /// Whatever happens: there are as many checks as there are different ones configured, each is due or runs, and what was
    /// told of a real server is what its row shows.
    #[test]
    fn the_engine_keeps_its_books(events in events(), seed in any::<u64>()) {
        let none = HealthTemplates::new();
        let mut engine = Engine::new(3, seed);
        let mut configured: HashMap<u8, Arc<ServiceConfig>> = HashMap::new();
        let mut known: HashMap<Target, Health> = HashMap::new();
        let (mut running, mut now) = (Vec::new(), at(0));
        for event in events {
            match event {
                Event::Put(n, check, reals) => {
                    let check = check.and_then(|fall| own(health(1, 1, u32::from(fall))));
                    let new = service(n, check, &reals);
                    engine.put(&new, &none, now);
                    let key = engine_key(&new);
                    // As the model forgets a real server that is gone.
                    known.retain(|of, _| of.service != key || new.reals.iter().any(|it| it.address == of.real.ip()));
                    configured.insert(n, new);
                }
                Event::Remove(n) => {
                    if let Some(gone) = configured.remove(&n) {
                        let key = engine_key(&gone);
                        engine.remove(&key);
                        known.retain(|of, _| of.service != key);
                    }
                }
                Event::Start => running.extend(engine.start(now).map(|start| start.run)),
                Event::Finish(n, passed) if !running.is_empty() => {
                    let run = running.swap_remove(n % running.len());
                    let found = if passed { Finding::Passed } else { Finding::Failed };
                    engine.finish(run, outcome(found), now);
                }
                Event::Finish(..) => {}
                Event::Wait(millis) => now = now + Duration::from_millis(millis.into()),
            }
            for change in engine.take_changes() {
                for target in change.targets {
                    known.insert(target, change.after);
                }
            }
            let mut checks: Vec<_> = configured
                .values()
                .filter_map(|it| Some((it, it.health.as_ref()?)))
                .flat_map(|(it, health)| {
                    let fall = health.resolve(&none).unwrap().fall;
                    it.reals.iter().map(move |real| (real.address, fall))
                })
                .collect();
            let rows = engine.rows(None, None, usize::MAX, now);
            prop_assert_eq!(rows.len(), checks.len());
            checks.sort_unstable();
            checks.dedup();
            let (number, waiting) = engine.sizes();
            prop_assert_eq!(number, checks.len());
            prop_assert!(waiting <= number && number - waiting <= running.len());
            let counts = engine.counts();
            prop_assert_eq!(counts.running as usize, running.len());
            prop_assert_eq!(counts.checks as usize, number);
            let down = rows.iter().filter(|row| row.state == Health::Down).count() as u64;
            prop_assert!(counts.down <= down && (counts.down > 0) == (down > 0));
            for row in rows {
                let told = known.get(&row.target).copied().unwrap_or_default();
                prop_assert_eq!(told, row.state, "{:?}", row.target);
            }
        }
    }
}

fn engine_key(service: &ServiceConfig) -> ServiceKey {
    ServiceKey {
        protocol: service.protocol,
        address: service.address,
        port: service.port,
        last: service.last_port,
    }
}

/// By the way of clients a service has checks of its own; by others, those of the same real server are shared.
#[test]
fn checks_by_the_way_of_a_service_are_its_own() {
    for (via, expected) in [
        (CheckWay::Host, 2),
        (CheckWay::Port, 2),
        (CheckWay::Service, 4),
    ] {
        let mut engine = Engine::new(100, 1);
        let health = Arc::new(HealthConfig {
            via,
            ..health(2, 1, 1)
        });
        let of = |n| service(n, Some(HealthUse::Own(health.clone())), &[1, 2]);
        engine.configure(&[of(1), of(2)], &HealthTemplates::new(), Time::default());
        assert_eq!(engine.sizes(), (expected, expected), "{via:?}");
        let mut starts = Vec::new();
        let later = Time::from_nanos(10_000_000_000);
        while let Some(start) = engine.start(later) {
            starts.push((start.address, start.service.map(|service| service.address)));
        }
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts.len(), expected, "{via:?}");
        engine.remove(&ServiceKey {
            protocol: Protocol::Tcp,
            address: [192, 0, 2, 1].into(),
            port: 80,
            last: 0,
        });
        assert_eq!(engine.sizes().0, 2, "{via:?}");
    }
}

/// Only what speaks to the port of clients, and by their protocol, tells where it comes from; one that does shares no check with
/// one that does not, and a reload changes it.
#[test]
fn checks_of_what_is_told_of_clients_tell() {
    let tcp = Probe::Tcp(Exchange::default());
    let udp = Probe::Udp(Exchange::default());
    for (address, protocol, probe, port, tells) in [
        (ClientAddress::None, Protocol::Tcp, &tcp, None, false),
        (ClientAddress::Toa, Protocol::Tcp, &tcp, None, false),
        (ClientAddress::ProxyV2, Protocol::Tcp, &tcp, None, true),
        (ClientAddress::ProxyV2, Protocol::Tcp, &tcp, Some(80), true),
        (ClientAddress::ProxyV2, Protocol::Tcp, &tcp, Some(81), false),
        (ClientAddress::ProxyV2, Protocol::Tcp, &udp, None, false),
        (ClientAddress::ProxyV2, Protocol::Udp, &udp, None, true),
        (ClientAddress::ProxyV2, Protocol::Udp, &tcp, None, false),
        (
            ClientAddress::ProxyV2,
            Protocol::Tcp,
            &Probe::Icmp,
            None,
            false,
        ),
    ] {
        let config = HealthConfig {
            probe: probe.clone(),
            port,
            ..health(1, 1, 1)
        };
        let plain = service(1, own(config), &[1]);
        let telling = Arc::new(ServiceConfig {
            client_address: address,
            protocol,
            address: [192, 0, 2, 2].into(),
            ..ServiceConfig::clone(&plain)
        });
        let templates = HealthTemplates::new();
        let mut engine = Engine::new(100, 1);
        engine.configure(&[plain.clone(), telling], &templates, at(0));
        let mut told = vec![];
        while let Some(start) = engine.start(at(2000)) {
            told.push(start.tells);
        }
        told.sort_unstable();
        let expected: &[bool] = if tells { &[false, true] } else { &[false] };
        assert_eq!(
            told, expected,
            "{address:?} {protocol:?} {probe:?} {port:?}"
        );
        if protocol != plain.protocol {
            continue;
        }
        let changed = ServiceConfig {
            client_address: address,
            ..ServiceConfig::clone(&plain)
        };
        let mut engine = Engine::new(100, 1);
        engine.configure(&[plain], &templates, at(0));
        engine.configure(&[Arc::new(changed)], &templates, at(0));
        let told = engine.start(at(2000)).map(|start| start.tells);
        assert_eq!(told, Some(tells));
    }
}

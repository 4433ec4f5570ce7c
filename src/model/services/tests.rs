//! Whatever changes made a configuration: what is published, and every index behind it, is as if it had been there from the
//! start. Ids may be others, and what history leaves behind on purpose is bounded by what it may be.

use super::*;
use crate::model::{Device, Model, static_neighbours};
use crate::net::ipv4;
use crate::rcu::Reader;
use crate::tables::Placement;
use crate::units::PortId;
use crate::wire::Mac;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::Ipv4Addr;

const VIPS: u8 = 3;
const PORTS: [u16; 3] = [80, 81, 0];
const NAMES: [&str; 3] = ["web", "dns", "mail"];
/// The last two are behind a gateway.
const fn real(subnet: u8, host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, subnet, 0, host))
}
const REALS: [IpAddr; 4] = [real(0, 11), real(0, 12), real(1, 11), real(1, 12)];
const MODES: [&str; 7] = [
    "mode = \"dr\"",
    "mode = \"nat\"",
    "mode = \"fullnat\"\nlocal_pool = \"a\"",
    "mode = \"fullnat\"\nlocal_pool = \"b\"",
    "mode = \"tunnel\"",
    "mode = \"tunnel\"\ntunnel = \"gue\"",
    "mode = \"l3dsr\"\ndscp = 9",
];

/// Everything but the services.
#[derive(Clone, Debug)]
struct World {
    /// The gateway of the real servers that are behind one: on the one port or on the other.
    is_by_wan: bool,
    is_loose: bool,
    /// A port has the address of a VIP, so that it cannot be one.
    has_vip: bool,
    has_static: bool,
    pool_ports: u16,
}

#[derive(Clone, Debug)]
struct Wanted {
    vip: u8,
    port: usize,
    is_udp: bool,
    name: Option<usize>,
    mode: usize,
    scheduler: usize,
    /// Seconds, and bits of the client's address.
    persistence: Option<(u32, u8)>,
    reals: Vec<(usize, bool, u16)>,
}

#[derive(Clone, Debug)]
enum Step {
    Apply(World, Vec<Wanted>),
    /// Another world for the same services.
    Rewire(World),
    Set(Vec<Wanted>),
    /// By its place in the configuration, modulo their number; so is the real server.
    Unset(usize),
    Edit(usize, usize, Edit),
    /// So many seconds, after which what has no connections left may be forgotten.
    Wait(u32),
}

fn worlds() -> impl Strategy<Value = World> {
    let parts = (
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.2),
        any::<bool>(),
        0u16..2,
    );
    parts.prop_map(|(is_by_wan, is_loose, has_vip, has_static, more)| World {
        is_by_wan,
        is_loose,
        has_vip,
        has_static,
        pool_ports: 2000 + more,
    })
}

fn services() -> impl Strategy<Value = Vec<Wanted>> {
    let reals = prop::collection::vec((0..REALS.len(), any::<bool>(), 0u16..3), 0..4);
    let service = (
        0..VIPS,
        0..PORTS.len(),
        any::<bool>(),
        prop::option::of(0..NAMES.len()),
        prop::sample::select(&[0, 1, 1, 1, 1, 2, 3, 4, 5, 6][..]),
        0..config::SchedulerConfig::ALL.len(),
        prop::option::weighted(0.3, (1u32..600, prop::sample::select(&[8, 24, 32][..]))),
        reals,
    );
    let service = service.prop_map(
        |(vip, port, is_udp, name, mode, scheduler, persistence, reals)| Wanted {
            vip,
            port,
            is_udp,
            name,
            mode,
            scheduler,
            persistence,
            reals,
        },
    );
    prop::collection::vec(service, 0..6)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let edit = prop_oneof![
        (0u16..3).prop_map(Edit::Weight),
        Just(Edit::Drain),
        Just(Edit::Enable)
    ];
    let step = prop_oneof![
        2 => (worlds(), services()).prop_map(|(world, services)| Step::Apply(world, services)),
        2 => worlds().prop_map(Step::Rewire),
        3 => services().prop_map(Step::Set),
        2 => (0usize..8).prop_map(Step::Unset),
        3 => (0usize..8, 0usize..4, edit).prop_map(|(n, real, edit)| Step::Edit(n, real, edit)),
        1 => (0u32..700).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..12)
}

fn text_of_services(services: &[Wanted]) -> String {
    let mut text = String::new();
    let (mut keys, mut names) = (HashSet::new(), HashSet::new());
    for service in services {
        if !keys.insert((service.vip, service.port, service.is_udp)) {
            continue;
        }
        let port = PORTS[service.port];
        text += &format!(
            "[[service]]\naddress = \"192.0.2.{}\"\nport = {port}\nprotocol = \"{}\"\nscheduler = \"{}\"\n{}\n",
            1 + service.vip,
            if service.is_udp { "udp" } else { "tcp" },
            config::SchedulerConfig::ALL[service.scheduler].name(),
            // Of each VIP its own.
            MODES[service.mode].replace("dscp = 9", &format!("dscp = {}", 9 + service.vip)),
        );
        if let Some(name) = service.name
            && names.insert(name)
        {
            text += &format!("name = \"{}\"\n", NAMES[name]);
        }
        if let Some((timeout, prefix)) = service.persistence {
            text +=
                &format!("[service.persistence]\ntimeout = \"{timeout}s\"\nprefix_v4 = {prefix}\n");
        }
        let mut reals = HashSet::new();
        for &(address, is_other, weight) in &service.reals {
            let port = if is_other && port != 0 { 8080 } else { port };
            if reals.insert((address, port)) {
                text += &format!(
                    "[[service.real]]\naddress = \"{}\"\nport = {port}\nweight = {weight}\n",
                    REALS[address]
                );
            }
        }
    }
    text
}

fn text_of_world(world: &World) -> String {
    let vip = if world.has_vip {
        ", \"192.0.2.3/32\""
    } else {
        ""
    };
    let gateway = match world.is_by_wan {
        true => "198.51.100.254",
        false => "10.0.0.254",
    };
    let neighbour = match world.has_static {
        true => "[[neighbour]]\naddress = \"10.0.0.11\"\nmac = \"02:00:00:00:00:11\"\n",
        false => "",
    };
    format!(
        r#"
reverse_path = "{}"
[[port]]
name = "lan"
device = "net_null0"
addresses = ["10.0.0.1/24"{vip}]
[[port]]
name = "wan"
device = "net_null1"
addresses = ["198.51.100.1/24"]
[[route]]
to = "10.1.0.0/16"
via = "{gateway}"
[[local_pool]]
name = "a"
addresses = ["10.0.0.2"]
ports = "1024-{}"
[[local_pool]]
name = "b"
addresses = ["10.0.0.3"]
{neighbour}"#,
        if world.is_loose { "loose" } else { "strict" },
        world.pool_ports,
    )
}

fn parse(world: &World, services: &[Wanted]) -> Option<Config> {
    let context = config::Context {
        cpus: None,
        devices: false,
    };
    let text = text_of_world(world) + &text_of_services(services);
    let loaded = config::parse(&text, "test", &context).ok()?;
    Some(loaded.config)
}

struct Lab {
    model: Model,
    readers: Vec<Reader<Tables>>,
    now: Time,
    /// The services as they should be configured, by the rules of the commands.
    expected: Vec<Arc<config::ServiceConfig>>,
    drained: HashMap<(ServiceKey, At), u16>,
}

impl Lab {
    fn new(config: &Config) -> Lab {
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
            drained: HashMap::default(),
        }
    }

    fn take(&mut self, step: &Step) {
        let place =
            |n: usize| Some(n % self.expected.len().max(1)).filter(|_| !self.expected.is_empty());
        match step {
            Step::Apply(world, services) => {
                if let Some(config) = parse(world, services) {
                    self.expected = config.services.clone();
                    self.drained.clear();
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
                self.drained.clear();
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
                    self.drained.retain(|(of, _), _| *of != its);
                    match self.expected.iter_mut().find(|other| key(other) == its) {
                        Some(other) => *other = service,
                        None => self.expected.push(service),
                    }
                }
            }
            Step::Unset(n) => {
                let Some(n) = place(*n) else { return };
                let its = key(&self.expected.swap_remove(n));
                self.drained.retain(|(of, _), _| *of != its);
                assert!(self.model.unset_service(&its).is_some());
                assert!(self.model.unset_service(&its).is_none());
                // Its connections are told so where they are.
                assert!(self.model.tables().any_departed);
                assert!(self.model.tables().placements.get(&its).is_some());
            }
            Step::Edit(n, real, edit) => {
                let Some(n) = place(*n) else { return };
                let service = Arc::make_mut(&mut self.expected[n]);
                let its = key(service);
                if service.reals.is_empty() {
                    let absent = (REALS[0], 1);
                    assert!(self.model.edit(&its, absent, *edit).is_err());
                    return;
                }
                let real = real % service.reals.len();
                let real = &mut service.reals[real];
                let at = (real.address, real.port);
                let before = real.weight;
                real.weight = match edit {
                    Edit::Weight(weight) => *weight,
                    Edit::Drain => 0,
                    Edit::Enable if before > 0 => before,
                    Edit::Enable => self.drained.get(&(its, at)).copied().unwrap_or(1),
                };
                match real.weight {
                    0 if before > 0 => drop(self.drained.insert((its, at), before)),
                    0 => {}
                    _ => drop(self.drained.remove(&(its, at))),
                }
                let change = self.model.edit(&its, at, *edit);
                assert_eq!(change, Ok((before, real.weight)));
            }
            Step::Wait(seconds) => self.wait(*seconds),
        }
    }

    fn wait(&mut self, seconds: u32) {
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

/// One service as published, with names in the place of ids.
#[derive(Debug, PartialEq)]
struct Row {
    text: String,
    reals: Vec<(Real, String)>,
    placement: Placement,
}

/// What the model publishes, and says of services when it is asked.
#[derive(Debug, PartialEq)]
struct Seen {
    services: BTreeMap<ServiceKey, Row>,
    order: Vec<ServiceKey>,
    by_name: Vec<Option<ServiceKey>>,
    addresses: BTreeMap<IpAddr, String>,
    routes: Vec<Option<(PortId, Option<IpAddr>)>>,
    rest: String,
    ends: BTreeMap<IpAddr, BTreeSet<String>>,
    statics: BTreeMap<(PortId, IpAddr), Mac>,
    natted: BTreeMap<ServiceKey, BTreeSet<ServiceKey>>,
    departed: bool,
}

fn seen(model: &Model) -> Seen {
    let tables = model.tables();
    let mut ids = HashSet::new();
    let mut services = BTreeMap::new();
    for (key, service) in tables.services.iter() {
        assert_eq!(
            (service.key, model.service(service.id).map(|it| it.key)),
            (*key, Some(*key))
        );
        assert!(
            ids.insert(service.id.0),
            "an id of its own: {:?}",
            service.id
        );
        assert_eq!(
            model.service_name(service.id).as_deref(),
            Some(&*service.name)
        );
        let reals = service.reals.iter().map(|real| {
            assert_eq!(model.real(real.id), Some(&(*key, real.address, real.port)));
            let told = model.stats.worker(crate::units::WorkerId(1));
            let standing = &told.reals.get(real.id.index()).unwrap().standing;
            assert_eq!(standing.service(), service.id);
            let ports = [0, 1].map(|port| standing.admits(true, PortId(port)));
            // That of a former mode stays for old connections.
            let tunnel = service.via.and(tables.tunnels.get(real.id));
            let told = format!(
                "open {}, replies by {ports:?}, {tunnel:?}",
                standing.is_open()
            );
            let id = RealId(0);
            (Real { id, ..*real }, told)
        });
        let persistence = &service.persistence;
        let persistence = persistence.map(|it| (it.timeout, it.prefix, it.through_drain));
        let text = format!(
            "{} {} {} {:?} {persistence:?} {:?} {:?} {:?} {}",
            service.name,
            service.mode.name,
            service.scheduler_kind.name,
            service.pool,
            service.when_unavailable,
            service.unknown_tcp,
            service.tcp_mss,
            service.cursors.len(),
        );
        let placement = tables.placements.get(key);
        let row = Row {
            text,
            reals: reals.collect(),
            placement: placement.map_or(Placement::Rss, |placements| placements.current),
        };
        services.insert(*key, row);
    }
    let mut natted = BTreeMap::new();
    for (place, replies) in tables.natted.iter() {
        let requests = replies.services.iter();
        let requests = requests.map(|requests| {
            let key = model.services.registry().key(requests.id);
            assert_eq!(key, Some(&requests.service));
            requests.service
        });
        natted.insert(*place, requests.collect());
    }
    let neighbours = model.resolver.neighbours();
    let statics = neighbours.iter().filter(|(.., is_static)| *is_static);
    Seen {
        services,
        order: model.services().map(|service| service.key).collect(),
        by_name: NAMES.iter().map(|name| model.find_service(name)).collect(),
        addresses: tables
            .addresses
            .iter()
            .map(|(address, owner)| (*address, format!("{owner:?}")))
            .collect(),
        routes: REALS
            .iter()
            .map(|real| {
                let route = tables.routes.get(*real)?;
                Some((route.port, route.gateway.map(|(_, via)| via)))
            })
            .collect(),
        rest: format!("{:?} {:?}", tables.ports, tables.reverse_path),
        ends: ends(tables),
        statics: statics
            .map(|(_, address, link, _)| ((link.port, address), link.mac))
            .collect(),
        natted,
        departed: tables.any_departed,
    }
}

/// How packets are wrapped for each address.
fn ends(tables: &Tables) -> BTreeMap<IpAddr, BTreeSet<String>> {
    let set = |all: &Arc<[config::Encapsulation]>| {
        let names = all.iter().map(|each| format!("{each:?}"));
        names.collect()
    };
    let ends = tables.tunnel_ends.iter();
    ends.map(|(address, all)| (*address, set(all))).collect()
}

/// Whether a service's rule, which history has made, may differ so from that of a fresh model: a nat service that was placed
/// by the client stays so.
fn may_stay(after: &Row, fresh: &Row) -> bool {
    after.placement == fresh.placement
        || after.text.contains(" nat ")
            && (after.placement, fresh.placement) == (Placement::Client, Placement::Rss)
}

/// Whether a service may have been a nat one with a real server of this place: then it has connections of that time as long
/// as it has the real server.
fn was_nat(config: &Config, service: &ServiceKey, place: &ServiceKey) -> bool {
    let mut services = config.services.iter();
    let Some(service) = services.find(|it| key(it) == *service) else {
        return false;
    };
    let is_nat = service.mode == config::ModeConfig::Nat;
    !is_nat
        && service.reals.iter().any(|real| {
            let port = if real.port == 0 {
                service.port
            } else {
                real.port
            };
            (real.address, port) == (place.address, place.port)
        })
}

/// What the tables have of a service, by its configuration alone: a fault that a fresh model has too is one.
fn check_by_hand(tables: &Tables, service: &config::ServiceConfig) {
    let its = key(service);
    assert_eq!(tables.addresses.get(&its.address), Some(&Owner::Vip));
    let is_nat = service.mode == config::ModeConfig::Nat;
    let via = crate::forward::tunnel::Via::of(&service.mode);
    let running = tables.services.get(&its).unwrap();
    assert_eq!(running.via, via);
    for real in running.reals.iter().filter(|_| via.is_some()) {
        let tunnel = tables.tunnels.get(real.id).unwrap();
        assert_eq!((Some(tunnel.via), tunnel.destination), (via, real.address));
    }
    for real in service.reals.iter().filter(|_| is_nat) {
        let port = if real.port == 0 {
            service.port
        } else {
            real.port
        };
        let address = real.address;
        let place = ServiceKey {
            address,
            port,
            ..its
        };
        let replies = tables.natted.get(&place);
        let replies = replies
            .map(|replies| &*replies.services)
            .unwrap_or_default();
        assert!(replies.iter().any(|of| of.service == its), "{place}");
    }
    let rule = tables.placements.get(&its);
    let rule = rule.map_or(Placement::Rss, |placements| placements.current);
    match service.persistence {
        Some(it) if !is_nat => assert_eq!(rule, Placement::Template(it.prefix_v4)),
        Some(_) => assert_eq!(rule, Placement::Client),
        None if is_nat && service.port == 0 => assert_eq!(rule, Placement::Client),
        None if !is_nat => assert_eq!(rule, Placement::Rss),
        None => {}
    }
}

/// Holds a model against a fresh one of its configuration. `is_quiet`: nothing that is no longer configured is left.
fn compare(lab: &Lab, is_quiet: bool) {
    let config = lab.model.config();
    assert_eq!(config.services, lab.expected);
    let fresh = Lab::new(config);
    let (mut after, mut wanted) = (seen(&lab.model), seen(&fresh.model));
    assert_eq!(
        after.statics,
        static_neighbours(config).into_iter().collect()
    );
    for (key, row) in &mut after.services {
        let fresh = &wanted.services[key];
        assert!(may_stay(row, fresh), "{key}: {row:?}, fresh {fresh:?}");
        row.placement = fresh.placement;
    }
    for (place, known) in &after.natted {
        let none = BTreeSet::new();
        let services = wanted.natted.get(place).unwrap_or(&none);
        assert!(known.is_superset(services), "{place}");
        for service in known.difference(services) {
            let may_be = !is_quiet || was_nat(config, service, place);
            assert!(may_be, "{place} has nothing of {service}");
        }
    }
    assert!(
        wanted
            .natted
            .keys()
            .all(|place| after.natted.contains_key(place))
    );
    // Errors are expected about each way by which connections go, those of a former mode's too; for what is gone about none.
    for (address, ways) in &wanted.ends {
        assert!(after.ends[address].is_superset(ways), "{address}");
    }
    let tables = lab.model.tables();
    let reals = (tables.services.iter()).flat_map(|(_, service)| service.reals.iter());
    for tunnel in reals.filter_map(|real| tables.tunnels.get(real.id)) {
        if let Via::Wrapped(config) = tunnel.via {
            let ways = &tables.tunnel_ends.get(&tunnel.destination).unwrap();
            assert!(ways.contains(&config.encapsulation));
        }
    }
    if is_quiet {
        let is_real = |address| {
            (config.services.iter().flat_map(|service| &service.reals))
                .any(|real| real.address == address)
        };
        assert!(after.ends.keys().all(|address| is_real(*address)));
    }
    if !is_quiet {
        after.departed = false;
    }
    for seen in [&mut after, &mut wanted] {
        seen.natted.clear();
        seen.ends.clear();
    }
    assert_eq!(after, wanted);
    if is_quiet {
        let placements = lab.model.tables().placements.iter();
        for (key, _) in placements {
            assert!(wanted.services.contains_key(key), "{key} has a rule");
        }
    }
    let width = |model: &Model| {
        let prefix = model.tables().clients.v4.prefix;
        prefix.map_or(0, |prefix| 33 - prefix)
    };
    assert!(width(&lab.model) >= width(&fresh.model));
    let (after, wanted) = (&lab.model.services, &fresh.model.services);
    assert_eq!(after.indexes.names, wanted.indexes.names);
    assert_eq!(after.indexes.vips, wanted.indexes.vips);
    assert_eq!(after.indexes.real_addresses, wanted.indexes.real_addresses);
    for service in &config.services {
        let its = key(service);
        assert_eq!(after.configured.get(&its), Some(&**service));
        check_by_hand(lab.model.tables(), service);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_changes_lead_to_what_a_fresh_model_of_the_result_has(
        world in worlds(),
        first in services(),
        steps in steps(),
    ) {
        let config = parse(&world, &first).or_else(|| parse(&world, &[])).unwrap();
        let mut lab = Lab::new(&config);
        for step in &steps {
            lab.take(step);
            compare(&lab, false);
        }
        lab.wait(700);
        // What is released is in the tables with the next publication.
        lab.model.publish(|_| {});
        compare(&lab, true);
    }
}

/// The generator makes what the test is about.
#[test]
fn most_generated_changes_are_valid() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut draw = || {
        let drawn = (worlds(), services()).new_tree(&mut runner).unwrap();
        let (world, services) = drawn.current();
        parse(&world, &services).map_or(0, |config| config.services.len())
    };
    let valid = (0..200).filter(|_| draw() > 0).count();
    assert!(valid > 100, "{valid} of 200");
}

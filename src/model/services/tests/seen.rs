//! What a model publishes and keeps, held against a fresh one.

use super::*;
use crate::forward::tunnel::Via;
use crate::service::Real;

/// One service as published, with names in the place of ids.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    pub(super) text: String,
    pub(super) reals: Vec<(Real, String)>,
    pub(super) placement: Placement,
}

/// What the model publishes, and says of services when it is asked.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) services: BTreeMap<ServiceKey, Row>,
    pub(super) order: Vec<ServiceKey>,
    pub(super) by_name: Vec<Vec<ServiceKey>>,
    pub(super) addresses: BTreeMap<IpAddr, String>,
    pub(super) routes: Vec<Option<(PortId, Option<IpAddr>)>>,
    pub(super) rest: String,
    pub(super) ends: BTreeMap<IpAddr, BTreeSet<String>>,
    pub(super) statics: BTreeMap<(PortId, IpAddr), Mac>,
    pub(super) natted: BTreeMap<ServiceKey, BTreeSet<ServiceKey>>,
    pub(super) departed: bool,
}

pub(super) fn seen(model: &Model) -> Seen {
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
                "open {}, {:?}, watched {}, replies by {ports:?}, {tunnel:?}",
                standing.is_open(),
                standing.established(),
                standing.is_watched(),
            );
            let id = RealId(0);
            (Real { id, ..*real }, told)
        });
        let availability = model.availability(key).unwrap();
        assert_eq!(availability.serving, service.serving);
        let persistence = &service.persistence;
        let persistence = persistence.map(|it| (it.timeout, it.prefix, it.through_drain));
        let text = format!(
            "{} {} {} {:?} {persistence:?} {:?} {:?} {:?} {} {} {availability:?}",
            service.name,
            service.mode.name,
            service.scheduler_kind.name,
            service.pool,
            service.when_unavailable,
            service.unknown_tcp,
            (service.tcp_mss, service.client_address),
            service.cursors.len(),
            service.own_reals,
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
        by_name: (NAMES.iter())
            .map(|name| model.find_services(name).to_vec())
            .collect(),
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
pub(super) fn ends(tables: &Tables) -> BTreeMap<IpAddr, BTreeSet<String>> {
    let set = |all: &Arc<[config::TunnelConfig]>| {
        let names = all.iter().map(|each| format!("{each:?}"));
        names.collect()
    };
    let ends = tables.tunnel_ends.iter();
    ends.map(|(address, all)| (*address, set(all))).collect()
}

/// Whether a service's rule, which history has made, may differ so from that of a fresh model: a nat service that was placed
/// by the client stays so.
pub(super) fn may_stay(after: &Row, fresh: &Row) -> bool {
    after.placement == fresh.placement
        || after.text.contains(" nat ")
            && (after.placement, fresh.placement) == (Placement::Client, Placement::Rss)
}

/// Whether a service may have been a nat one with a real server of this place: then it has connections of that time as long
/// as it has the real server.
pub(super) fn was_nat(config: &Config, service: &ServiceKey, place: &ServiceKey) -> bool {
    let mut services = config.services.iter();
    let Some(service) = services.find(|it| key(it) == *service) else {
        return false;
    };
    let is_nat = service.mode == config::ModeConfig::Nat;
    !is_nat
        && service.servers().any(|real| {
            let port = match real.port {
                0 => service.port_of_reals(),
                own => own,
            };
            (real.address, port) == (place.address, place.port)
        })
}

/// What the tables have of a service, by its configuration alone: a fault that a fresh model has too is one.
pub(super) fn check_by_hand(tables: &Tables, service: &config::ServiceConfig) {
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
    for real in service.servers().filter(|_| is_nat) {
        let port = match real.port {
            0 => service.port_of_reals(),
            own => own,
        };
        let address = real.address;
        let place = ServiceKey {
            address,
            port,
            last: 0,
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
        None if is_nat && its.has_several() => assert_eq!(rule, Placement::Client),
        None if !is_nat => assert_eq!(rule, Placement::Rss),
        None => {}
    }
}

/// Holds a model against a fresh one of its configuration. `is_quiet`: nothing that is no longer configured is left.
pub(super) fn compare(lab: &Lab, is_quiet: bool) {
    let config = lab.model.config();
    assert_eq!(config.services, lab.expected);
    let fresh = lab.fresh();
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
            assert!(ways.contains(&config));
        }
    }
    if is_quiet {
        let is_real = |address| {
            (config.services.iter().flat_map(|service| service.servers()))
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
        assert_eq!(after.configured.get(&its), Some(service));
        check_by_hand(lab.model.tables(), service);
    }
}

//! What follows from the configured services: every index learns of a change of one in [`Indexes::follow`], and of nothing else.

use super::super::from_config::key;
use super::around::Around;
use super::configured::Change;
use super::counts::Counts;
use super::ends::Ends;
use super::natted::Natted;
use super::placing::Placing;
use super::ranges::RangeIndex;
use super::registry::{Registry, Released};
use super::snats::Snats;
use super::timings::Timings;
use super::watches::Watches;
use crate::config::{self, Announce, ClientAddress, Protocol};
use crate::forward;
use crate::forward::tunnel::{Tunnel, Via};
use crate::rcu::map::Map;
use crate::sched::{self, Setting};
use crate::service::{Persistence, Real, ServiceKey, Serving};
use crate::stats::Stats;
use crate::tables::{Owner, Quic, Requests, Service, Tables, Tunnels, choices};
use crate::units::Time;
use foldhash::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What follows from the configured services, and from those that there were.
pub(super) struct Indexes {
    /// One of the services of each name: the others are in the same place, with other protocols.
    pub(super) names: HashMap<String, ServiceKey>,
    pub(super) vips: Counts,
    pub(super) real_addresses: Counts,
    /// How many real servers all services have, fallback servers among them.
    pub(super) reals: usize,
    /// Addresses of real servers since the last publication.
    pub(super) new_reals: Vec<IpAddr>,
    /// Those of ports and pools, too.
    pub(super) addresses: Map<IpAddr, Owner>,
    pub(super) running: Map<ServiceKey, Arc<Service>>,
    pub(super) ranges: RangeIndex,
    pub(super) registry: Registry,
    pub(super) natted: Natted,
    pub(super) placing: Placing,
    pub(super) tunnels: Tunnels,
    pub(super) ends: Ends,
    pub(super) timings: Timings,
    /// How many services have `one_packet`.
    pub(super) one_packets: usize,
    /// How many have `announce = "while_healthy"`.
    pub(super) announced: usize,
    /// Whether one has, or has had, the protocol SCTP.
    pub(super) serves_sctp: bool,
    pub(super) watches: Watches,
    pub(super) snats: Snats,
}

impl Indexes {
    pub(super) fn new(seed: u64) -> Self {
        Indexes {
            names: HashMap::default(),
            vips: Counts::default(),
            real_addresses: Counts::default(),
            reals: 0,
            new_reals: Vec::new(),
            addresses: Map::new(seed),
            running: Map::new(seed),
            ranges: RangeIndex::new(seed),
            registry: Registry::default(),
            natted: Natted::new(seed),
            placing: Placing::new(seed),
            tunnels: Tunnels::default(),
            ends: Ends::new(seed),
            timings: Timings::new(seed),
            one_packets: 0,
            announced: 0,
            serves_sctp: false,
            watches: Watches::default(),
            snats: Snats::default(),
        }
    }

    /// The services of a name, `first` among them.
    pub(super) fn named<'a>(
        &'a self,
        name: &'a str,
        first: &'a ServiceKey,
    ) -> impl Iterator<Item = ServiceKey> + 'a {
        let all = Protocol::ALL.into_iter();
        let keys = all.map(|protocol| ServiceKey { protocol, ..*first });
        keys.filter(move |key| self.running.get(key).is_some_and(|it| *it.name == *name))
    }

    /// Gives a running service other weights: nothing else that is known of it follows. Returns whether any is another.
    pub(super) fn reweigh(
        &mut self,
        key: &ServiceKey,
        service: &config::ServiceConfig,
        around: &Around,
    ) -> bool {
        let Some(former) = self.running.get(key) else {
            return false;
        };
        let (reals, availability) = self.registry.weighed(service, &former.reals);
        let serving = availability.serving;
        if reals == former.reals && serving == former.serving {
            return false;
        }
        let changed = reals.iter().zip(&former.reals);
        for (real, _) in changed.filter(|(real, former)| real != former) {
            around.stand(former.id, real, service);
        }
        let before = Some(&*former.scheduler);
        let setting = Setting::new(key.address, former.flags.port, before);
        let service = Service {
            scheduler: scheduler(
                former.scheduler_kind,
                &setting,
                &reals,
                former.own_reals,
                serving,
            ),
            reals,
            serving,
            name: former.name.clone(),
            pool: former.pool.clone(),
            quic: former.quic.clone(),
            cursors: former.cursors.clone(),
            guard: former.guard.clone(),
            ..**former
        };
        self.running.insert(*key, Arc::new(service));
        true
    }

    pub(super) fn follow_change(&mut self, change: Change<'_>, around: &Around) {
        self.follow(change.before.as_deref(), change.after, around);
    }

    /// Follows a service from its former version to its present one; none: it was not, or is no longer. The only way in
    /// which an index learns of a service. Each is named here, so that none is forgotten.
    pub(super) fn follow(
        &mut self,
        before: Option<&config::ServiceConfig>,
        after: Option<&config::ServiceConfig>,
        around: &Around,
    ) {
        let Indexes {
            names,
            vips,
            real_addresses,
            reals: all_reals,
            new_reals,
            addresses,
            running,
            ranges,
            registry,
            natted,
            placing,
            tunnels,
            ends,
            timings,
            one_packets,
            announced,
            serves_sctp,
            watches,
            snats: _,
        } = self;
        let Some(key) = before.or(after).map(key) else {
            return;
        };
        // Another service of the same change may have its former name by now.
        if let Some(before) = before
            && names.get(&before.name) == Some(&key)
        {
            let mut others = Protocol::ALL
                .iter()
                .map(|&protocol| ServiceKey { protocol, ..key });
            let is_named = |other: &ServiceKey| {
                let service = running.get(other);
                *other != key && service.is_some_and(|it| *it.name == *before.name)
            };
            match others.find(is_named) {
                Some(other) => names.insert(before.name.clone(), other),
                None => names.remove(&before.name),
            };
        }
        if let Some(after) = after {
            let named = names.entry(after.name.clone()).or_insert(key);
            // Of the protocols of one service the first, whatever the order of changes.
            let is_twin = ServiceKey {
                protocol: key.protocol,
                ..*named
            } == key;
            if !is_twin || key.protocol < named.protocol {
                *named = key;
            }
        }
        let reals = |service: Option<&config::ServiceConfig>| -> Vec<IpAddr> {
            let reals = service.into_iter().flat_map(|service| service.servers());
            reals.map(|real| real.address).collect()
        };
        let (former, present) = (reals(before), reals(after));
        *all_reals = *all_reals + present.len() - former.len();
        if former != present {
            // First: what is in both stays.
            new_reals.extend(present.into_iter().filter(|real| real_addresses.add(*real)));
            for real in former {
                real_addresses.remove(real);
            }
        }
        if before.is_none() && vips.add(key.address) {
            addresses.insert(key.address, Owner::Vip);
        }
        if after.is_none() && vips.remove(key.address) {
            addresses.remove(&key.address);
        }
        let is_one =
            |service: Option<&config::ServiceConfig>| service.is_some_and(|it| it.one_packet);
        *one_packets += usize::from(is_one(after));
        *one_packets -= usize::from(is_one(before));
        let is_announced = |service: Option<&config::ServiceConfig>| {
            service.is_some_and(|it| it.announce == Announce::WhileHealthy)
        };
        *announced += usize::from(is_announced(after));
        *announced -= usize::from(is_announced(before));
        *serves_sctp |= key.protocol == Protocol::Sctp;
        let Some(service) = after else {
            running.remove(&key);
            ranges.remove(&key);
            watches.remove(&key);
            placing.retire(&key);
            registry.retire(&around.stats, &key);
            return;
        };
        let persistence = service.persistence.map(|persistence| Persistence {
            timeout: persistence.timeout,
            prefix: match key.address {
                IpAddr::V4(_) => persistence.prefix_v4,
                IpAddr::V6(_) => persistence.prefix_v6,
            },
            through_drain: persistence.through_drain,
        });
        registry.forget_unfounded(service);
        let registered = registry.put(service, &around.stats, around.beginnings);
        match service.passive {
            Some(passive) => {
                let reals = registered.reals.iter();
                let reals = reals.map(|real| (real.id, (real.address, real.port)));
                watches.put(key, passive, reals, &around.stats, registry.states.now());
            }
            None => watches.remove(&key),
        }
        if service.client_address != ClientAddress::None {
            around.stats.want_told();
        }
        let mode = forward::Mode::of(&service.mode);
        let has_histograms = mode.sees_replies && service.histograms;
        let is_timed =
            has_histograms || mode.sees_replies && sched::goes_by_time(service.scheduler);
        if has_histograms {
            around.stats.ensure_service_times(registered.id);
            for real in &registered.reals {
                around.stats.ensure_real_times(real.id);
            }
        }
        if is_timed {
            around.stats.want_begun();
            for real in &registered.reals {
                around.stats.ensure_first_byte(real.id);
                around.stats.tell(real.id, |told| told.standing.time());
            }
        }
        for real in &registered.reals {
            around.stand(registered.id, real, service);
        }
        let former = running.get(&key).map(|former| &*former.reals);
        around.limit(&registered.reals, former.unwrap_or_default());
        timings.put(service, registered.reals.iter().map(|real| real.id));
        let pool = match &service.mode {
            config::ModeConfig::Fullnat { pool } => around.pools.get(pool).cloned(),
            _ => None,
        };
        if pool.is_some() {
            let reals = registered.reals.iter();
            reals.for_each(|real| around.stats.ensure_pairs(real.id));
        }
        let via = Via::of(&service.mode);
        if let Some(via) = via {
            for real in &registered.reals {
                let tunnel = Tunnel::new(via, real.address, key.address.is_ipv6());
                tunnels.set(real.id, Some(tunnel));
                if let Via::Wrapped(config) = via {
                    ends.add(real.id, real.address, config);
                }
            }
        }
        let is_nat = mode.sees_replies && pool.is_none();
        if is_nat {
            let id = registered.id;
            let requests = Requests { service: key, id };
            for real in &registered.reals {
                natted.remember(requests, real.address, real.port);
            }
        }
        let prefix = persistence.map(|persistence| persistence.prefix);
        placing.put(key, is_nat, prefix, natted);
        let guard = around.guard(service, registry);
        if before.is_none() {
            ranges.insert(&key);
        }
        let kind = sched::kind(service.scheduler);
        let former = running.get(&key).map(|former| &*former.scheduler);
        let setting = Setting::new(key.address, service.flags.port, former);
        running.insert(
            key,
            Arc::new(Service {
                id: registered.id,
                name: registered.name,
                key,
                mode,
                scheduler_kind: kind,
                scheduler: scheduler(
                    kind,
                    &setting,
                    &registered.reals,
                    service.reals.len(),
                    registered.serving,
                ),
                flags: service.flags,
                own_reals: service.reals.len(),
                serving: registered.serving,
                reals: registered.reals,
                pool,
                persistence,
                when_unavailable: service.when_unavailable,
                unknown_tcp: service.unknown_tcp,
                tcp_mss: service.tcp_mss,
                quic: quic(service),
                client_address: service.client_address,
                is_timed,
                has_histograms,
                on_down: service.on_down,
                one_packet: service.one_packet,
                on_drain: service.on_drain,
                via,
                guard,
                cursors: registered.cursors,
            }),
        );
    }

    /// Puts everything as it is into the next tables.
    pub(super) fn freeze(&mut self, next: &mut Tables) {
        let Indexes {
            names: _,
            vips: _,
            real_addresses: _,
            reals: _,
            new_reals: _,
            addresses,
            running,
            ranges,
            registry,
            natted,
            placing,
            tunnels,
            ends,
            timings,
            one_packets,
            announced: _,
            serves_sctp,
            watches: _,
            snats,
        } = self;
        next.addresses = addresses.freeze();
        next.services = running.freeze();
        next.ranges = ranges.freeze();
        next.any_departed = registry.any_departed();
        next.natted = natted.freeze();
        (next.placements, next.clients) = placing.freeze();
        next.tunnels = tunnels.clone();
        next.tunnel_ends = ends.freeze();
        timings.freeze(&mut next.timing);
        next.any_one_packet = *one_packets > 0;
        next.serves_sctp = *serves_sctp;
        next.snat = snats.tables();
    }

    /// Forgets the removed real servers and services that have no connections left. Returns whether there is something to
    /// publish: the ids are given to other services when no worker reads tables any longer that name them.
    pub(super) fn release_drained(&mut self, stats: &Stats, now: Time) -> bool {
        let Indexes {
            registry,
            natted,
            placing,
            tunnels,
            ends,
            timings,
            ..
        } = self;
        let Released { reals, services } = registry.release_drained(stats, now);
        for (id, (key, address, port)) in reals {
            tunnels.set(id, None);
            ends.remove(id);
            timings.forget(id);
            natted.forget(&key, address, port);
        }
        services.iter().for_each(|key| placing.forget(key));
        !services.is_empty()
    }
}

/// Which QUIC connection ids are those of which real server, of a service that goes by them.
fn quic(service: &config::ServiceConfig) -> Option<Arc<Quic>> {
    // The last of the configuration first, as in the tables.
    let ids = service
        .reals
        .iter()
        .rev()
        .map(|real| real.server_id.as_deref().copied());
    Quic::new(service.quic.as_ref()?, ids).map(Arc::new)
}

/// The scheduler of a service, over those of its servers that new connections may go to.
fn scheduler(
    kind: &'static sched::Kind,
    setting: &Setting,
    reals: &[Real],
    own: usize,
    serving: Serving,
) -> Box<dyn sched::Scheduler> {
    (kind.new)(choices(reals, own, serving), setting)
}

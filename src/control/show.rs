//! The control's state as rows for `/v1/…` and `/metrics`.

use super::Control;
use crate::admission::{Refusal, client_address};
use crate::config;
use crate::forward::tunnel::Via;
use crate::io::dpdk::MbufPool;
use crate::neighbour::LinkState;
use crate::net::IcmpErrorKind;
use crate::service::Role;
use crate::stats::{BOUNDS_US, Durations, Histogram, RealTotals, Times};
use crate::tables;
use crate::units::{PortId, RealId, ServiceId};
use crate::verdict::{DropReason, ReplyReason};
use crate::view;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

fn show_via(via: &Via) -> view::ViaView {
    let nothing = view::ViaView::default();
    let tunnel = match via {
        Via::Marked { dscp } => {
            return view::ViaView {
                dscp: Some(*dscp),
                ..nothing
            };
        }
        Via::Wrapped(tunnel) => tunnel,
    };
    let view = view::ViaView {
        tunnel: Some(tunnel.encapsulation.name().to_owned()),
        tunnel_source: tunnel.source,
        ..nothing
    };
    match tunnel.encapsulation {
        config::Encapsulation::Gue {
            port,
            variant,
            zero_checksum,
        } => view::ViaView {
            gue_port: Some(port),
            gue_variant: Some(match variant {
                config::GueVariant::Header => 0,
                config::GueVariant::Plain => 1,
            }),
            gue_zero_checksum: Some(zero_checksum),
            ..view
        },
        config::Encapsulation::Ipip | config::Encapsulation::Gre => view,
    }
}

impl Control {
    /// The services as they are now, or only those of some ids: to be shown a few at a time by [`Control::show_services`].
    pub fn services(&self, only: Option<&[ServiceId]>) -> Vec<Arc<tables::Service>> {
        match only {
            Some(ids) => ids
                .iter()
                .filter_map(|id| self.model.service(*id))
                .cloned()
                .collect(),
            None => self.model.services().cloned().collect(),
        }
    }

    /// Whether a scrape has samples for each real server.
    pub fn shows_reals(&self) -> bool {
        self.model.config().metrics.per_real
    }

    pub fn show_services(&self, services: &[Arc<tables::Service>]) -> Vec<view::ServiceView> {
        services
            .iter()
            .map(|service| self.show_service(service))
            .collect()
    }

    fn show_service(&self, service: &tables::Service) -> view::ServiceView {
        let member = |(real, role): (&crate::service::Real, Role)| {
            let (weight, up, state) = self.show_real(service, (real, role));
            view::MemberView {
                fallback: role == Role::Fallback,
                real: SocketAddr::new(real.address, real.port),
                weight,
                up,
                state,
                traffic: traffic(self.model.real_totals(real.id)),
                first_byte_us: self.first_byte_us(service, real.id),
                times: self.times(service, |of| self.stats.real_times(real.id, of)),
            }
        };
        view::ServiceView {
            name: service.name.to_string(),
            protocol: service.key.protocol.name().to_owned(),
            address: service.key.address,
            port: view::PortsView::of(&service.key),
            mode: service.mode.name.to_owned(),
            scheduler: service.scheduler_kind.name.to_owned(),
            flags: service.flag_words().map(str::to_owned).collect(),
            local_pool: service.pool.as_ref().map(|pool| pool.name.clone()),
            via: service.via.as_ref().map(show_via).unwrap_or_default(),
            persistence_s: service
                .persistence
                .map(|persistence| persistence.timeout.as_secs()),
            persistence_prefix: service.persistence.map(|persistence| persistence.prefix),
            one_packet: service.one_packet,
            admission: self.show_admission(service),
            traffic: traffic(self.model.service_totals(service)),
            availability: self.show_availability(service),
            times: self.times(service, |of| self.stats.service_times(service.id, of)),
            reals: service.servers().map(member).collect(),
        }
    }

    fn first_byte_us(&self, service: &tables::Service, real: RealId) -> Option<u64> {
        let mean = self.stats.mean_first_byte(real);
        let mean = mean.filter(|_| service.is_timed)?;
        Some(mean.as_micros() as u64)
    }

    /// How long a service with `histograms`, or one of its real servers, took.
    fn times(
        &self,
        service: &tables::Service,
        measured: impl Fn(fn(&Times) -> &Durations) -> Histogram,
    ) -> Option<Box<view::TimesView>> {
        let shown = |it: Histogram| view::HistogramView {
            bounds_us: &BOUNDS_US,
            buckets: it.buckets.into(),
            sum: it.sum,
        };
        let times = || view::TimesView {
            connect: shown(measured(|times| &times.connect)),
            first_byte: shown(measured(|times| &times.first_byte)),
        };
        service.has_histograms.then(|| Box::new(times()))
    }

    /// What a service with `allow`, `deny` or `limits` takes, and has refused.
    fn show_admission(&self, service: &tables::Service) -> Option<view::AdmissionView> {
        let guard = service.guard.as_ref()?;
        let limits = guard.limits.given();
        let refused = Refusal::ALL.iter();
        Some(view::AdmissionView {
            limits: limits.map(|(key, most)| (key.to_owned(), most)).collect(),
            connections: self.stats.connections(service.id),
            refused_packets: refused
                .map(|why| (why.name().to_owned(), guard.tally.refused(*why)))
                .collect(),
        })
    }

    /// The clients of some services that were refused, or began connections, most often of late: those with the most first.
    pub fn show_offenders(&self, services: &[Arc<tables::Service>]) -> Vec<view::OffenderView> {
        let mut rows = Vec::new();
        for service in services {
            let Some(guard) = &service.guard else {
                continue;
            };
            let is_v6 = service.key.address.is_ipv6();
            let offenders = guard.tally.offenders(self.now());
            rows.extend(offenders.into_iter().map(|it| {
                let address = client_address(it.client, is_v6);
                view::OffenderView {
                    service: service.name.to_string(),
                    client: match is_v6 {
                        true => format!("{address}/64"),
                        false => address.to_string(),
                    },
                    refused: it.refused,
                    begun: it.begun,
                    missing: it.missing,
                }
            }));
        }
        rows.sort_by_key(|row| std::cmp::Reverse((row.refused, row.begun)));
        rows
    }

    /// The services of a name, or that of `tcp:192.0.2.80:80`.
    pub fn find_services(&self, name: &str) -> Vec<ServiceId> {
        let keys = self.model.find_services(name).into_iter();
        let found = keys.filter_map(|key| self.model.find(&key));
        found.map(|service| service.id).collect()
    }

    /// What has the connections of the rule of `[[snat]]` that they are shown with: `snat:10.0.0.0/24`.
    pub fn find_outward(&self, name: &str) -> Option<ServiceId> {
        self.model.find_outward(name)
    }

    pub fn show_ports(&self) -> Vec<view::PortView> {
        let show = |(id, config): (PortId, &config::PortConfig)| {
            let device = self.device(config);
            let (link, stats) = (device.link(), device.stats().unwrap_or_default());
            let stalled = self.stalls.stalled(config.on.index());
            view::PortView {
                port: config.name.clone(),
                device: config.device.clone(),
                vlan: config.vlan.to_string(),
                driver: device.driver().to_owned(),
                mac: device.mac().to_string(),
                mtu: config.mtu,
                addresses: self
                    .model
                    .tables()
                    .port(id)
                    .addresses
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                duplicate_addresses: self.announcer.detection.duplicates(id),
                rx_queues: device.rx_queues(),
                tx_queues: device.tx_queues(),
                steering: match self.unsteered[config.on.index()] {
                    _ if self.workers.len() == 1 => "one worker",
                    None => "rss",
                    Some(_) => "software",
                }
                .to_owned(),
                link_up: link.up,
                link_speed: link.speed,
                received_packets: stats.rx_packets,
                received_bytes: stats.rx_bytes,
                transmitted_packets: stats.tx_packets,
                transmitted_bytes: stats.tx_bytes,
                missed_packets: stats.rx_missed,
                receive_errors: stats.rx_errors,
                transmit_errors: stats.tx_errors,
                no_mbuf: stats.rx_no_mbuf,
                transmit_stalled: stalled.transmit,
                receive_stalled: stalled.receive,
                companion: self.show_companion(id, config),
            }
        };
        let ports = self.model.config().ports.iter();
        // The harness of the API has ports without devices.
        let is_there = |config: &config::PortConfig| self.devices.get(config.on.index()).is_some();
        let ports = (0..).map(PortId).zip(ports);
        ports.filter(|(_, port)| is_there(port)).map(show).collect()
    }

    fn show_companion(
        &self,
        port: PortId,
        config: &config::PortConfig,
    ) -> Option<view::CompanionView> {
        let stats = &self.host.as_ref()?.carrier.stats;
        let n = port.index();
        Some(view::CompanionView {
            interface: config.companion.clone()?,
            to_host_packets: stats.to_host[n].get(),
            from_host_packets: stats.from_host[n].get(),
            refused_packets: stats.refused[n].get(),
        })
    }

    pub fn show_workers(&self) -> Vec<view::WorkerView> {
        let name = |id: PortId| &self.model.config().port(id).name;
        let show = |(n, (handle, counters)): (
            usize,
            (&super::WorkerHandle, &crate::stats::WorkerStats),
        )| view::WorkerView {
            worker: n as u8,
            lcore: handle.cpu,
            queues: handle
                .queues
                .iter()
                .map(|(port, queue)| format!("{}/{queue}", name(*port)))
                .collect(),
            busy_ratio: self.watch.busy_ratio(n),
            connections: counters.connections.get(),
            connection_capacity: handle.capacity as u64,
            evicted_connections: counters.evicted.get(),
            received_packets: counters.received.get(),
            taken_over_packets: counters.taken_over.get(),
            handed_over_packets: counters.handed_over.get(),
            transmitted_packets: counters.transmitted.get(),
            answered_packets: counters.answered.get(),
            local_packets: counters.local.get(),
            queued_packets: counters.queued.get(),
            waiting_fragments: counters.waiting_fragments.get(),
            originated_packets: counters.originated.get(),
            routed_packets: counters.routed.get(),
            hairpin_connections: counters.hairpins.get(),
            quic_unknown_ids: counters.quic_unknown.get(),
            untold_segments: counters.untold.get(),
            dropped_packets: DropReason::ALL
                .iter()
                .map(|reason| (reason.name().to_owned(), counters.drops(*reason).get()))
                .collect(),
            replies: ReplyReason::ALL
                .iter()
                .map(|reason| (reason.name().to_owned(), counters.replies(*reason).get()))
                .collect(),
            icmp_errors: IcmpErrorKind::ALL
                .iter()
                .map(|kind| {
                    let count = counters.icmp_errors[*kind as usize].get();
                    (kind.name().to_owned(), count)
                })
                .collect(),
            loops: counters.loops.get(),
        };
        self.workers
            .iter()
            .zip(self.stats.workers())
            .enumerate()
            .map(show)
            .collect()
    }

    pub fn show_neighbours(&self) -> Vec<view::NeighbourView> {
        let ports = &self.model.tables().ports;
        let neighbours = self.model.resolver.neighbours().iter();
        neighbours
            .map(|(_, address, link, is_static)| view::NeighbourView {
                address,
                port: ports[link.port.index()].name.to_string(),
                mac: link.is_usable().then(|| link.mac.to_string()),
                state: link.state.name().to_owned(),
                is_static,
            })
            .collect()
    }

    pub fn show_snat(&self) -> Vec<view::SnatView> {
        let rules = self.model.tables().snat.rules().iter();
        let totals = self.model.snat_totals();
        let rows = rules.zip(totals).map(|(rule, (_, totals))| view::SnatView {
            from: rule.from.to_string(),
            pool: rule.pool.name.clone(),
            out_port: rule
                .out_port
                .map(|port| self.model.config().port(port).name.clone()),
            pairs: rule.pool.size(),
            exhausted: self.stats.total(|worker| {
                let pairs = worker.pairs.get(rule.real.index());
                pairs.map_or(0, |pairs| pairs.exhausted.get())
            }),
            traffic: traffic(totals),
        });
        rows.collect()
    }

    pub fn show_routes(&self) -> Vec<view::RouteView> {
        let config = self.model.config();
        let connected = config.ports.iter().flat_map(|port| {
            let name = &port.name;
            port.addresses.iter().map(move |net| view::RouteView {
                to: net.trunc().to_string(),
                via: None,
                port: name.clone(),
            })
        });
        let tables = self.model.tables();
        let configured = config.routes.iter().map(|route| {
            let link = tables.routes.get(route.via).map(|hop| hop.port);
            let named = route.port.map(|place| PortId(place as u8));
            let port = named
                .or(link)
                .map(|port| tables.port(port).name.to_string());
            view::RouteView {
                to: route.to.to_string(),
                via: Some(route.via),
                port: port.unwrap_or_default(),
            }
        });
        let learned = self
            .model
            .learned_route()
            .map(|(port, router)| view::RouteView {
                to: "::/0".to_owned(),
                via: Some(router),
                port: tables.port(port).name.to_string(),
            });
        connected.chain(configured).chain(learned).collect()
    }

    pub fn show_daemon(&self) -> view::DaemonView {
        let states = [
            LinkState::Incomplete,
            LinkState::Reachable,
            LinkState::Stale,
            LinkState::Failed,
        ];
        let mut neighbours = states.map(|state| (state.name(), 0));
        for (_, _, link, _) in self.model.resolver.neighbours().iter() {
            neighbours[link.state as usize].1 += 1;
        }
        view::DaemonView {
            generation: self.model.tables().generation.0,
            started_s: self
                .started
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            services: self.model.config().services.len(),
            workers: self.show_workers(),
            ports: self.show_ports(),
            neighbours: neighbours.into(),
            neighbours_refused: self.model.resolver.neighbours().refused(),
            mbufs: self.pools.iter().map(MbufPool::size).sum::<usize>() as u64,
            mbufs_free: self.pools.iter().map(MbufPool::available).sum::<usize>() as u64,
            log_lost_lines: crate::log::lost_lines(),
            connection_log: self.logging.counts(),
            panics: crate::log::panics(),
            health: self.check_counts(),
            snat: self
                .model
                .snat_totals()
                .map(|(from, totals)| (from.to_string(), traffic(totals)))
                .collect(),
        }
    }
}

fn traffic(totals: RealTotals) -> view::TrafficView {
    view::TrafficView {
        connections_total: totals.connections,
        active_connections: totals.active,
        inactive_connections: totals.inactive,
        packets_in: totals.packets_in,
        bytes_in: totals.bytes_in,
        packets_out: totals.packets_out,
        bytes_out: totals.bytes_out,
    }
}

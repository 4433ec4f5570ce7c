//! The checks that need more than one value: [`Root`] -> [`Config`].
//!
//! A value that could not be read is reported already; no check concludes anything from its absence.

mod availability;
mod clients;
mod connection_log;
mod devices;
mod eal_args;
mod health;
mod hosts;
mod marks;
mod names;
mod network;
mod passive;
mod pool;
mod quic;
mod real_pool;
mod request;
mod room;
mod scheduler;
mod service;
mod snat;
mod thresholds;
mod timing;
mod tunnel;
mod ways;

use super::clients::Lists;
use super::error::{At, Log, Span};
use super::pieces::{Item, Services};
use super::raw::{self, Root};
use super::value::Given;

use super::{
    Api, ApiTls, Config, Context, Dpdk, Hugepages, Idle, Limits, Listen, Metrics, ReversePath,
    RssKey, ServiceConfig, TimeoutsConfig, UnknownTcp,
};
use availability::Homes;
use health::Templates;
use network::Network;
use pool::Pools;
use real_pool::RealPools;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The most workers: each has a queue on every port.
const MAX_WORKERS: usize = 64;

/// Checks everything. Returns the configuration, and where each of its ports names its device: they may be used only if `log` holds no error.
pub(super) fn validate(
    root: Root,
    services: Vec<Item>,
    context: &Context,
    lists: &mut Lists,
    log: &mut Log,
) -> (Config, Vec<Span>) {
    let dpdk = dpdk(root.dpdk.into_option().unwrap_or_default(), context, log);
    let mut network = Network::default();
    let driven = context.devices.then_some(dpdk.workers.len());
    let ports = network.ports(root.port, driven, log);
    let pools = pool::pools(root.local_pool, &mut network, log);
    network.vips(&services, log);
    let routes = network.routes(root.route, log);
    let neighbours = network.neighbours(root.neighbour.items(), log);
    let host_peers = network.host_peers(root.host_peer.items(), log);
    pool::reachable(&pools, &network, log);
    let snat = snat::rules(root.snat, &pools, &network, log);
    let check_addresses = ways::check_addresses(root.check_addresses, log);
    network.ways(&ports, &routes, check_addresses);
    let templates = health::templates(root.health, log);
    let real_pools = real_pool::real_pools(root.pool, &network, log);
    let homes = Homes::new(&ports, &routes, network.is_complete());
    let around = Around {
        pools: &pools,
        real_pools: &real_pools,
        templates: &templates,
        network: &network,
        homes: &homes,
    };
    let services = service::services(services, &[], &around, lists, log);
    let config = Config {
        reverse_path: root.reverse_path.get().unwrap_or(ReversePath::Strict),
        unknown_tcp: root.unknown_tcp.get().unwrap_or(UnknownTcp::Reset),
        state_file: root.state_file.into_option().map(|path| path.0),
        connections_file: root.connections_file.into_option().map(|path| path.0),
        check_addresses,
        dpdk,
        api: api(root.api.into_option().unwrap_or_default(), log),
        limits: limits(root.limits.into_option().unwrap_or_default()),
        timeouts: timeouts(root.timeouts.into_option().unwrap_or_default()),
        metrics: metrics(root.metrics.into_option().unwrap_or_default()),
        connection_log: connection_log::connection_log(root.connection_log, log),
        ports,
        routes,
        neighbours,
        pools: pools
            .list
            .into_iter()
            .filter_map(|pool| pool.checked)
            .collect(),
        snat,
        real_pools: real_pools.into_list(),
        health: templates.list,
        services,
        host_peers,
    };
    (config, network.devices)
}

/// Checks services that are to be added to `config`; what it returns may be used only if `log` holds no error.
pub(super) fn added(
    root: Root,
    services: Vec<Item>,
    config: &Config,
    lists: &mut Lists,
    log: &mut Log,
) -> Vec<Arc<ServiceConfig>> {
    let others = [
        root.include.ok().map(|found| found.at),
        root.reverse_path.ok().map(|found| found.at),
        root.unknown_tcp.ok().map(|found| found.at),
        root.state_file.ok().map(|found| found.at),
        root.connections_file.ok().map(|found| found.at),
        root.check_addresses.ok().map(|found| found.at),
        root.dpdk.ok().map(|found| found.at),
        root.api.ok().map(|found| found.at),
        root.limits.ok().map(|found| found.at),
        root.timeouts.ok().map(|found| found.at),
        root.metrics.ok().map(|found| found.at),
        root.connection_log.ok().map(|found| found.at),
        root.port.ok().map(|found| found.at),
        root.route.ok().map(|found| found.at),
        root.neighbour.ok().map(|found| found.at),
        root.local_pool.ok().map(|found| found.at),
        root.snat.ok().map(|found| found.at),
        root.pool.ok().map(|found| found.at),
        root.host_peer.ok().map(|found| found.at),
        root.health.ok().map(|found| found.at),
    ];
    for at in others.into_iter().flatten() {
        log.error(at, "only services can be added")
            .help("leave [[service]] tables here; the file and a reload change the rest");
    }
    if services.is_empty() && log.errors() == 0 {
        log.error(Span::default(), "there is no [[service]]")
            .help("write the services that are to be added");
    }
    let mut network = Network::of(config);
    network.vips(&services, log);
    let around = Around {
        pools: &Pools::of(config),
        real_pools: &RealPools::of(config),
        templates: &Templates::of(config),
        network: &network,
        homes: &Homes::new(&config.ports, &config.routes, true),
    };
    service::services(services, &config.services, &around, lists, log)
}

/// What services are checked against.
#[derive(Clone, Copy)]
struct Around<'a> {
    pools: &'a Pools,
    real_pools: &'a RealPools,
    templates: &'a Templates,
    network: &'a Network,
    homes: &'a Homes<'a>,
}

/// Checks a `[[service]]` by itself. None: there is something to say of it.
pub(super) fn alone(raw: At<raw::Service>) -> Option<Services> {
    let mut log = Log::default();
    let services = service::alone(raw, &mut log);
    (log.findings() == 0 && !services.is_empty()).then_some(services)
}

fn dpdk(raw: raw::Dpdk, context: &Context, log: &mut Log) -> Dpdk {
    let cpus = context.cpus.filter(|cpus| !cpus.is_empty());
    let mut workers: Vec<usize> = Vec::new();
    let default_workers = matches!(raw.workers, crate::config::value::Given::No);
    let mut first: HashMap<usize, Span> = HashMap::new();
    let idle = raw.idle.get().unwrap_or(Idle::Poll);
    for worker in raw.workers.ok().map_or(&[][..], |list| &list.value.items) {
        let cpu = worker.value.0 as usize;
        exists(cpu, cpus, worker.at, log);
        let other = first.insert(cpu, worker.at);
        match (other, idle) {
            // Two that never sleep starve each other.
            (Some(other), Idle::Poll) => {
                log.error(worker.at, format!("worker {cpu} is listed twice"))
                    .note(other, "listed here first")
                    .help("give every worker a CPU of its own, or let them sleep: idle = \"adaptive\"");
            }
            (Some(other), Idle::Adaptive) => {
                workers.push(cpu);
                log.warning(worker.at, format!("workers share CPU {cpu}"))
                    .note(other, "listed here first")
                    .help("give every worker a CPU of its own");
            }
            (None, _) => workers.push(cpu),
        }
    }
    if let Some(list) = raw.workers.ok() {
        if list.value.items.is_empty() && list.value.complete {
            log.error(list.at, "`workers` is empty")
                .help("list at least one CPU, or leave the key out");
        } else if workers.len() > MAX_WORKERS {
            log.error(list.at, format!("{} workers are too many", workers.len()))
                .help(format!("list at most {MAX_WORKERS}"));
        }
    } else {
        // All but the first; on one CPU: that one.
        workers = match cpus {
            Some([_, others @ ..]) if !others.is_empty() => {
                others.iter().copied().take(MAX_WORKERS).collect()
            }
            Some([only, ..]) => vec![*only],
            _ => vec![0],
        };
    }
    let main_lcore = match raw.main_lcore.ok() {
        Some(main) => {
            let cpu = main.value.0 as usize;
            exists(cpu, cpus, main.at, log);
            if workers.contains(&cpu) && cpus.is_some_and(|cpus| cpus.len() > 1) {
                log.warning(main.at, format!("main_lcore {cpu} is also a worker"))
                    .help("give the control thread a CPU that forwards nothing");
            }
            cpu
        }
        None => {
            let free = cpus
                .unwrap_or(&[0])
                .iter()
                .find(|cpu| !workers.contains(cpu));
            free.or(cpus.and_then(|cpus| cpus.first()))
                .copied()
                .unwrap_or(0)
        }
    };
    // What could not be read may be an option's value.
    let complete = raw.eal_args.complete();
    let eal_args = raw.eal_args.items();
    if context.devices && complete {
        eal_args::check(&eal_args, log);
    }
    Dpdk {
        workers,
        default_workers,
        main_lcore,
        hugepages: raw.hugepages.get().unwrap_or(Hugepages::Auto),
        idle,
        rss_key: raw.rss_key.get().unwrap_or(RssKey::Random),
        mbufs: raw.mbufs.get().map(|mbufs| mbufs.0 as usize),
        burst: raw.burst.get().map_or(64, |burst| burst.0 as u16),
        eal_args: eal_args.into_iter().map(|arg| arg.value).collect(),
    }
}

fn exists(cpu: usize, cpus: Option<&[usize]>, at: Span, log: &mut Log) {
    let Some(cpus) = cpus else { return };
    if !cpus.contains(&cpu) {
        let listed = cpus
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        log.error(
            at,
            format!("CPU {cpu} does not exist on this machine, or weir may not use it"),
        )
        .help(format!("the CPUs are: {listed}"));
    }
}

/// Where `[api]` names files, by the keys.
pub(super) fn api_files(root: &Root) -> Vec<(&'static str, Span)> {
    let Some(api) = root.api.ok() else {
        return Vec::new();
    };
    let tls = api.value.tls.ok().map(|tls| tls.value.given());
    let token = api.value.given().filter(|(key, _)| *key == "token_file");
    token.chain(tls.into_iter().flatten()).collect()
}

/// Checks that TLS has a TCP address: of a unix socket its mode says who may open it.
fn api_tls(tls: At<raw::ApiTls>, listen: &Listen, log: &mut Log) -> Option<ApiTls> {
    let At { value: raw, at } = tls;
    if !matches!(listen, Listen::Tcp(_)) {
        log.error(at, "`tls` needs an address and port in `listen`")
            .help("remove `tls`, or write such as listen = \"0.0.0.0:9900\"");
    }
    Some(ApiTls {
        certificate: raw.certificate.into_option()?.0,
        key: raw.key.into_option()?.0,
        client_ca: raw.client_ca.into_option().map(|path| path.0),
    })
}

pub(super) fn api(raw: raw::Api, log: &mut Log) -> Api {
    let default = || Listen::Tcp(([127, 0, 0, 1], 9900).into());
    if let (Some(listen), Some(control)) = (raw.listen.ok(), raw.control.ok())
        && let (Listen::Unix(socket), Some(path)) = (&listen.value, &control.value.0)
        && socket == path
    {
        log.error(control.at, "`control` and `listen` are the same socket")
            .note(listen.at, "`listen` is here")
            .help("leave `listen` out, or give it a socket of its own");
    }
    let is_listen_certain = raw.listen.certain();
    let listen = raw.listen.into_option().unwrap_or_else(default);
    let tls = match raw.tls {
        Given::Yes(tls) if is_listen_certain => api_tls(tls, &listen, log),
        _ => None,
    };
    let (listen, control, control_is_default) = match (listen, raw.control.into_option()) {
        (listen, Some(given)) => (listen, given.0, false),
        // As files had it before there was a control socket.
        (Listen::Unix(path), None) if path == Path::new(Api::CONTROL) => {
            (Listen::Off, Some(path), false)
        }
        (listen, None) => (listen, Some(Api::CONTROL.into()), true),
    };
    Api {
        listen,
        control,
        control_is_default,
        token_file: raw.token_file.into_option().map(|path| path.0),
        public_metrics: raw.public_metrics.get().unwrap_or(false),
        tls,
    }
}

fn limits(raw: raw::Limits) -> Limits {
    Limits {
        connections: raw
            .connections
            .get()
            .map_or(1_048_576, |limit| limit.0 as usize),
        fragmented_datagrams: raw
            .fragmented_datagrams
            .get()
            .map_or(4096, |limit| limit.0 as usize),
        waiting_fragments: raw
            .waiting_fragments
            .get()
            .map_or(8192, |limit| limit.0 as usize),
        waiting_fragment_bytes: raw
            .waiting_fragment_bytes
            .get()
            .map_or(16 << 20, |limit| limit.0 as usize),
        fragment_timeout: raw
            .fragment_timeout
            .get()
            .unwrap_or(Duration::from_secs(10)),
        answers_per_second: raw.answers_per_second.get().map_or(1000, |limit| limit.0),
        host_packets_per_second: raw
            .host_packets_per_second
            .get()
            .map_or(10_000, |limit| limit.0),
        host_peer_packets_per_second: raw
            .host_peer_packets_per_second
            .get()
            .map_or(10_000, |limit| limit.0),
    }
}

fn metrics(raw: raw::Metrics) -> Metrics {
    Metrics {
        per_real: raw.per_real.get().unwrap_or(true),
    }
}

fn timeouts(raw: raw::Timeouts) -> TimeoutsConfig {
    let mut timeouts = TimeoutsConfig::default();
    macro_rules! given {
        ($($key:ident)*) => {$(
            if let Some(span) = raw.$key.get() {
                timeouts.$key = span;
            }
        )*};
    }
    given! {
        tcp_established tcp_syn_sent tcp_syn_recv tcp_fin_wait tcp_time_wait tcp_close
        tcp_close_wait tcp_last_ack tcp_listen tcp_synack udp icmp
    }
    timeouts.tcp_half_closed = raw.tcp_half_closed.get();
    timeouts
}

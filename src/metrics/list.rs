//! The list.

use super::{Kind, Metric, Samples, Source};
use crate::view::{Daemon, Member, Port, Service, Worker};
use std::fmt::Display;

const SERVICE: &[&str] = &["service", "protocol", "address", "port"];
const SERVICE_DIRECTION: &[&str] = &["service", "protocol", "address", "port", "direction"];
const REAL: &[&str] = &["service", "protocol", "address", "port", "real"];
const REAL_DIRECTION: &[&str] = &[
    "service",
    "protocol",
    "address",
    "port",
    "real",
    "direction",
];

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    source: Source,
) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        help,
        labels,
        source,
    }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    source: Source,
) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        help,
        labels,
        source,
    }
}

/// Every metric, in the order of `/metrics`.
pub static METRICS: &[Metric] = &[
    // The daemon.
    gauge(
        "weir_build_info",
        &["version"],
        "1; the label tells the version.",
        Source::Daemon(|_, samples| {
            samples.add(&[&env!("CARGO_PKG_VERSION")], 1);
        }),
    ),
    gauge(
        "weir_start_time_seconds",
        &[],
        "When the daemon started, in seconds since 1970.",
        Source::Daemon(|daemon, samples| {
            samples.add(&[], daemon.started_s);
        }),
    ),
    gauge(
        "weir_generation",
        &[],
        "Counts the tables published to the workers; 1 is the configuration of the start.",
        Source::Daemon(|daemon, samples| {
            samples.add(&[], daemon.generation);
        }),
    ),
    gauge(
        "weir_services",
        &[],
        "Virtual services.",
        Source::Daemon(|daemon, samples| {
            samples.add(&[], daemon.services);
        }),
    ),
    gauge(
        "weir_neighbours",
        &["state"],
        "Neighbours (next hops) in each state.",
        Source::Daemon(|daemon, samples| {
            for (state, count) in &daemon.neighbours {
                samples.add(&[state], count);
            }
        }),
    ),
    gauge(
        "weir_connections",
        &[],
        "Live connections, persistence templates among them.",
        Source::Daemon(|daemon, samples| {
            samples.add(&[], sum(daemon, |worker| worker.connections));
        }),
    ),
    gauge(
        "weir_connection_capacity",
        &[],
        "How many connections there is room for.",
        Source::Daemon(|daemon, samples| {
            samples.add(&[], sum(daemon, |worker| worker.connection_capacity));
        }),
    ),
    gauge(
        "weir_mbufs",
        &[],
        "Packet buffers in the mempool.",
        Source::Daemon(|daemon, samples| {
            samples.add(&[], daemon.mbufs);
        }),
    ),
    gauge(
        "weir_mbufs_free",
        &[],
        "Packet buffers that hold no packet and are in no queue.",
        Source::Daemon(|daemon, samples| {
            samples.add(&[], daemon.mbufs_free);
        }),
    ),
    // Packets: received = transmitted + answered + local + queued + the sum of dropped.
    counter(
        "weir_received_packets_total",
        &["worker"],
        "Packets received.",
        Source::Daemon(|daemon, samples| {
            workers(daemon, samples, |worker| worker.received_packets);
        }),
    ),
    counter(
        "weir_transmitted_packets_total",
        &["worker"],
        "Received packets that a device took to send on.",
        Source::Daemon(|daemon, samples| {
            workers(daemon, samples, |worker| worker.transmitted_packets);
        }),
    ),
    counter(
        "weir_answered_packets_total",
        &["worker"],
        "Received packets that were turned into their own answer (ARP, ICMP, RST).",
        Source::Daemon(|daemon, samples| {
            workers(daemon, samples, |worker| worker.answered_packets);
        }),
    ),
    counter(
        "weir_local_packets_total",
        &["worker"],
        "Received packets for the host itself.",
        Source::Daemon(|daemon, samples| {
            workers(daemon, samples, |worker| worker.local_packets);
        }),
    ),
    gauge(
        "weir_queued_packets",
        &["worker"],
        "Received packets that wait for a neighbour's MAC address.",
        Source::Daemon(|daemon, samples| {
            workers(daemon, samples, |worker| worker.queued_packets);
        }),
    ),
    counter(
        "weir_dropped_packets_total",
        &["reason"],
        "Received packets dropped; docs/drop-reasons.md explains each reason.",
        Source::Daemon(|daemon, samples| {
            reasons(daemon, samples, |worker| &worker.dropped_packets);
        }),
    ),
    counter(
        "weir_replies_total",
        &["reason"],
        "Answers decided on, by what asked for them.",
        Source::Daemon(|daemon, samples| {
            reasons(daemon, samples, |worker| &worker.replies);
        }),
    ),
    counter(
        "weir_originated_packets_total",
        &["worker"],
        "Frames of weir's own (ARP requests and announcements) that a device took.",
        Source::Daemon(|daemon, samples| {
            workers(daemon, samples, |worker| worker.originated_packets);
        }),
    ),
    // Workers.
    gauge(
        "weir_worker_busy_ratio",
        &["worker"],
        "The share of the last second in which the worker had packets, 0 to 1.",
        Source::Daemon(|daemon, samples| {
            workers(daemon, samples, |worker| worker.busy_ratio);
        }),
    ),
    gauge(
        "weir_worker_connections",
        &["worker"],
        "Live connections of the worker.",
        Source::Daemon(|daemon, samples| {
            workers(daemon, samples, |worker| worker.connections);
        }),
    ),
    counter(
        "weir_worker_loops_total",
        &["worker"],
        "Loops run: stands still when the worker hangs.",
        Source::Daemon(|daemon, samples| {
            workers(daemon, samples, |worker| worker.loops);
        }),
    ),
    // Ports, as their devices count.
    gauge(
        "weir_port_up",
        &["port"],
        "1: the link is up.",
        Source::Daemon(|daemon, samples| {
            ports(daemon, samples, |port| u64::from(port.link_up));
        }),
    ),
    counter(
        "weir_port_received_packets_total",
        &["port"],
        "Frames that the device received.",
        Source::Daemon(|daemon, samples| {
            ports(daemon, samples, |port| port.received_packets);
        }),
    ),
    counter(
        "weir_port_received_bytes_total",
        &["port"],
        "Bytes that the device received.",
        Source::Daemon(|daemon, samples| {
            ports(daemon, samples, |port| port.received_bytes);
        }),
    ),
    counter(
        "weir_port_transmitted_packets_total",
        &["port"],
        "Frames that the device sent.",
        Source::Daemon(|daemon, samples| {
            ports(daemon, samples, |port| port.transmitted_packets);
        }),
    ),
    counter(
        "weir_port_transmitted_bytes_total",
        &["port"],
        "Bytes that the device sent.",
        Source::Daemon(|daemon, samples| {
            ports(daemon, samples, |port| port.transmitted_bytes);
        }),
    ),
    counter(
        "weir_port_missed_packets_total",
        &["port"],
        "Frames lost because no worker fetched them in time.",
        Source::Daemon(|daemon, samples| {
            ports(daemon, samples, |port| port.missed_packets);
        }),
    ),
    counter(
        "weir_port_receive_errors_total",
        &["port"],
        "Frames that the device received with an error.",
        Source::Daemon(|daemon, samples| {
            ports(daemon, samples, |port| port.receive_errors);
        }),
    ),
    counter(
        "weir_port_transmit_errors_total",
        &["port"],
        "Frames that the device failed to send.",
        Source::Daemon(|daemon, samples| {
            ports(daemon, samples, |port| port.transmit_errors);
        }),
    ),
    counter(
        "weir_port_no_mbuf_total",
        &["port"],
        "Frames lost because the mempool was empty.",
        Source::Daemon(|daemon, samples| {
            ports(daemon, samples, |port| port.no_mbuf);
        }),
    ),
    // Services, with what their former real servers counted.
    counter(
        "weir_service_connections_total",
        SERVICE,
        "Connections made.",
        Source::Service(|service, samples| {
            services(service, samples, service.traffic.connections_total);
        }),
    ),
    counter(
        "weir_service_packets_total",
        SERVICE_DIRECTION,
        "Packets; in: from clients, out: to clients.",
        Source::Service(|service, samples| {
            service_directions(
                service,
                samples,
                (service.traffic.packets_in, service.traffic.packets_out),
            );
        }),
    ),
    counter(
        "weir_service_bytes_total",
        SERVICE_DIRECTION,
        "IP bytes; in: from clients, out: to clients.",
        Source::Service(|service, samples| {
            service_directions(
                service,
                samples,
                (service.traffic.bytes_in, service.traffic.bytes_out),
            );
        }),
    ),
    gauge(
        "weir_service_active_connections",
        SERVICE,
        "Connections that the kernel's IPVS would call active.",
        Source::Service(|service, samples| {
            services(service, samples, service.traffic.active_connections);
        }),
    ),
    gauge(
        "weir_service_inactive_connections",
        SERVICE,
        "All other connections.",
        Source::Service(|service, samples| {
            services(service, samples, service.traffic.inactive_connections);
        }),
    ),
    // Real servers of services.
    gauge(
        "weir_real_up",
        REAL,
        "1: a route leads to the real server, and its next hop has not failed to answer ARP.",
        Source::Service(|service, samples| {
            reals(service, samples, |real| u64::from(real.up));
        }),
    ),
    gauge(
        "weir_real_weight",
        REAL,
        "The weight; 0: no new connections.",
        Source::Service(|service, samples| {
            reals(service, samples, |real| real.weight.into());
        }),
    ),
    gauge(
        "weir_real_active_connections",
        REAL,
        "Connections that the kernel's IPVS would call active.",
        Source::Service(|service, samples| {
            reals(service, samples, |real| {
                real.traffic.active_connections.into()
            });
        }),
    ),
    gauge(
        "weir_real_inactive_connections",
        REAL,
        "All other connections.",
        Source::Service(|service, samples| {
            reals(service, samples, |real| {
                real.traffic.inactive_connections.into()
            });
        }),
    ),
    counter(
        "weir_real_connections_total",
        REAL,
        "Connections made.",
        Source::Service(|service, samples| {
            reals(service, samples, |real| real.traffic.connections_total);
        }),
    ),
    counter(
        "weir_real_packets_total",
        REAL_DIRECTION,
        "Packets; in: to the real server, out: from it.",
        Source::Service(|service, samples| {
            real_directions(service, samples, |real| {
                (real.traffic.packets_in, real.traffic.packets_out)
            });
        }),
    ),
    counter(
        "weir_real_bytes_total",
        REAL_DIRECTION,
        "IP bytes; in: to the real server, out: from it.",
        Source::Service(|service, samples| {
            real_directions(service, samples, |real| {
                (real.traffic.bytes_in, real.traffic.bytes_out)
            });
        }),
    ),
];

fn sum(daemon: &Daemon, value: fn(&Worker) -> u64) -> u64 {
    daemon.workers.iter().map(value).sum()
}

fn workers<V: Display>(daemon: &Daemon, samples: &mut Samples, value: fn(&Worker) -> V) {
    for worker in &daemon.workers {
        samples.add(&[&worker.worker], value(worker));
    }
}

/// One sample for each reason, over all workers.
fn reasons(
    daemon: &Daemon,
    samples: &mut Samples,
    counts: fn(&Worker) -> &std::collections::BTreeMap<String, u64>,
) {
    for reason in daemon
        .workers
        .first()
        .map(counts)
        .into_iter()
        .flat_map(|counts| counts.keys())
    {
        let count: u64 = daemon
            .workers
            .iter()
            .filter_map(|worker| counts(worker).get(reason))
            .sum();
        samples.add(&[reason], count);
    }
}

fn ports(daemon: &Daemon, samples: &mut Samples, value: fn(&Port) -> u64) {
    for port in &daemon.ports {
        samples.add(&[&port.port], value(port));
    }
}

fn services(service: &Service, samples: &mut Samples, value: impl Display) {
    samples.add(
        &[
            &service.name,
            &service.protocol,
            &service.address,
            &service.port,
        ],
        value,
    );
}

fn service_directions(service: &Service, samples: &mut Samples, (inward, outward): (u64, u64)) {
    for (direction, value) in [("in", inward), ("out", outward)] {
        samples.add(
            &[
                &service.name,
                &service.protocol,
                &service.address,
                &service.port,
                &direction,
            ],
            value,
        );
    }
}

fn reals(service: &Service, samples: &mut Samples, value: fn(&Member) -> u64) {
    for real in &service.reals {
        let values: [&dyn Display; 5] = [
            &service.name,
            &service.protocol,
            &service.address,
            &service.port,
            &real.real,
        ];
        samples.add(&values, value(real));
    }
}

fn real_directions(service: &Service, samples: &mut Samples, values: fn(&Member) -> (u64, u64)) {
    for real in &service.reals {
        let (inward, outward) = values(real);
        for (direction, value) in [("in", inward), ("out", outward)] {
            let Service {
                name,
                protocol,
                address,
                port,
                ..
            } = service;
            samples.add(
                &[name, protocol, address, port, &real.real, &direction],
                value,
            );
        }
    }
}

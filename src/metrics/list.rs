//! The list.

use super::{Labelled, Metric, Number, Samples, Source};
use crate::view::{
    DaemonView, HistogramView, MemberView, PortView, TimesView, TrafficView, WorkerView,
};
use std::time::Duration;

const SERVICE: &[&str] = &["service", "protocol", "address", "port"];
const SERVICE_DIRECTION: &[&str] = &["service", "protocol", "address", "port", "direction"];
const SERVICE_LIMIT: &[&str] = &["service", "protocol", "address", "port", "limit"];
const REAL: &[&str] = &["service", "protocol", "address", "port", "real"];
const REAL_DIRECTION: &[&str] = &[
    "service",
    "protocol",
    "address",
    "port",
    "real",
    "direction",
];

macro_rules! metrics {
    ($list:ident $about:literal $($kind:ident $name:literal $labels:tt $help:literal $source:ident($collect:expr);)*) => {
        #[doc = $about]
        pub static $list: &[Metric] = &[$(Metric {
            name: $name,
            kind: crate::metrics::Kind::$kind,
            help: $help,
            labels: crate::metrics::list::labels!($labels),
            source: Source::$source($collect),
        },)*];
    };
}
pub(super) use metrics;

macro_rules! labels {
    ([$($label:literal),*]) => { &[$($label),*] };
    ($list:ident) => { $list };
}
pub(super) use labels;

metrics! { METRICS "Every metric, in the order of `/metrics`."
    // The daemon.
    Gauge "weir_build_info" ["version"] "1; the label tells the version."
        Daemon(|_, samples| samples.add(&[crate::VERSION], 1));
    Gauge "weir_start_time_seconds" [] "When the daemon started, in seconds since 1970."
        Daemon(|daemon, samples| samples.add(&[], daemon.started_s));
    Gauge "weir_generation" [] "Counts the tables published to the workers; 1 is the configuration of the start."
        Daemon(|daemon, samples| samples.add(&[], daemon.generation));
    Gauge "weir_services" [] "Virtual services."
        Daemon(|daemon, samples| samples.add(&[], daemon.services));
    Gauge "weir_neighbours" ["state"] "Neighbours (next hops) in each state."
        Daemon(|daemon, samples| daemon.neighbours.iter().for_each(|(state, count)| samples.add(&[state], count)));
    Counter "weir_neighbours_refused_total" [] "How often a next hop, or a host that asked, got no place in the neighbour table: it is full, or too many addresses belong to the same places."
        Daemon(|daemon, samples| samples.add(&[], daemon.neighbours_refused));
    Gauge "weir_connections" [] "Live connections, persistence templates among them."
        Daemon(|daemon, samples| samples.add(&[], sum(daemon, |worker| worker.connections)));
    Gauge "weir_connection_capacity" [] "How many connections there is room for, of both families together."
        Daemon(|daemon, samples| samples.add(&[], sum(daemon, |worker| worker.connection_capacity)));
    Counter "weir_evicted_connections_total" [] "Half-open and closing connections given up for new ones, because the table was full."
        Daemon(|daemon, samples| samples.add(&[], sum(daemon, |worker| worker.evicted_connections)));
    Gauge "weir_mbufs" [] "Packet buffers in the mempool."
        Daemon(|daemon, samples| samples.add(&[], daemon.mbufs));
    Gauge "weir_mbufs_free" [] "Packet buffers that hold no packet and are in no queue."
        Daemon(|daemon, samples| samples.add(&[], daemon.mbufs_free));
    Counter "weir_log_lost_lines_total" [] "Lines of the log that were lost: stderr did not take them (a full disk, a full pipe)."
        Daemon(|daemon, samples| samples.add(&[], daemon.log_lost_lines));
    Counter "weir_connection_log_records_total" [] "Records of the connection log that were written, or sent to its collector."
        Daemon(|daemon, samples| samples.add(&[], daemon.connection_log.written));
    Counter "weir_connection_log_lost_total" ["cause"] "Records of the connection log that were lost; queue: a worker had more than its queue holds, output: the file or the collector did not take them."
        Daemon(|daemon, samples| {
            samples.add(&["queue"], daemon.connection_log.overrun);
            samples.add(&["output"], daemon.connection_log.unwritten);
        });
    Counter "weir_panics_total" [] "Panics on the control thread and in the API; forwarding goes on. A worker's ends the process."
        Daemon(|daemon, samples| samples.add(&[], daemon.panics));

    // Packets: received + taken over = transmitted + answered + local + queued + handed over + the sum of dropped.
    Counter "weir_received_packets_total" ["worker"] "Packets received."
        Daemon(|daemon, samples| workers(daemon, samples, |worker| worker.received_packets));
    Counter "weir_handed_over_packets_total" ["worker"] "Received packets that were handed to the worker that owns the connection."
        Daemon(|daemon, samples| workers(daemon, samples, |worker| worker.handed_over_packets));
    Counter "weir_taken_over_packets_total" ["worker"] "Packets that other workers received, and this one decided on."
        Daemon(|daemon, samples| workers(daemon, samples, |worker| worker.taken_over_packets));
    Counter "weir_transmitted_packets_total" ["worker"] "Received packets that a device took to send on."
        Daemon(|daemon, samples| workers(daemon, samples, |worker| worker.transmitted_packets));
    Counter "weir_answered_packets_total" ["worker"] "Received packets that were turned into their own answer (ARP, neighbour discovery, ICMP, RST)."
        Daemon(|daemon, samples| workers(daemon, samples, |worker| worker.answered_packets));
    Counter "weir_local_packets_total" ["worker"] "Received packets for the host itself."
        Daemon(|daemon, samples| workers(daemon, samples, |worker| worker.local_packets));
    Gauge "weir_queued_packets" ["worker"] "Received packets that wait for a neighbour's MAC address, or for the first fragment of their datagram."
        Daemon(|daemon, samples| workers(daemon, samples, |worker| worker.queued_packets));
    Gauge "weir_waiting_fragments" ["worker"] "Of the queued packets, the fragments that wait for the first one of their datagram."
        Daemon(|daemon, samples| workers(daemon, samples, |worker| worker.waiting_fragments));
    Counter "weir_dropped_packets_total" ["reason"] "Received packets dropped; docs/drop-reasons.md explains each reason."
        Daemon(|daemon, samples| reasons(daemon, samples, |worker| &worker.dropped_packets));
    Counter "weir_replies_total" ["reason"] "Answers decided on, by what asked for them."
        Daemon(|daemon, samples| reasons(daemon, samples, |worker| &worker.replies));
    Counter "weir_icmp_errors_total" ["type"] "ICMP and ICMPv6 errors about connections that were sent on to the end that they are for."
        Daemon(|daemon, samples| reasons(daemon, samples, |worker| &worker.icmp_errors));
    Counter "weir_routed_packets_total" ["worker"] "Packets between hosts that were sent on by ports with `forward`."
        Daemon(|daemon, samples| workers(daemon, samples, |worker| worker.routed_packets));
    Counter "weir_hairpin_connections_total" ["worker"] "Connections of nat clients that got the port's address as source, since they are in the subnet of their real server."
        Daemon(|daemon, samples| workers(daemon, samples, |worker| worker.hairpin_connections));
    Counter "weir_quic_unknown_ids_total" ["worker"] "Datagrams of services with `quic` whose connection id is of another configuration, or names no real server: their addresses and ports count."
        Daemon(|daemon, samples| workers(daemon, samples, |worker| worker.quic_unknown_ids));
    Counter "weir_client_address_missing_total" ["worker"] "Segments that were to tell the client's address by a TCP option (`client_address = \"toa\"`) and went on without, since their header or the MTU had no room for it."
        Daemon(|daemon, samples| workers(daemon, samples, |worker| worker.untold_segments));
    Counter "weir_originated_packets_total" ["worker"] "Frames of weir's own (questions for neighbours, announcements, reports of groups) that a device took."
        Daemon(|daemon, samples| workers(daemon, samples, |worker| worker.originated_packets));

    // Workers.
    Gauge "weir_worker_busy_ratio" ["worker"] "The share of the last second in which the worker had packets, 0 to 1."
        Daemon(|daemon, samples| workers(daemon, samples, |worker| worker.busy_ratio));
    Gauge "weir_worker_connections" ["worker"] "Live connections of the worker."
        Daemon(|daemon, samples| workers(daemon, samples, |worker| worker.connections));
    Counter "weir_worker_loops_total" ["worker"] "Loops run: stands still when the worker hangs."
        Daemon(|daemon, samples| workers(daemon, samples, |worker| worker.loops));

    // Ports, as their devices count.
    Gauge "weir_port_up" ["port"] "1: the link is up."
        Daemon(|daemon, samples| ports(daemon, samples, |port| u64::from(port.link_up)));
    Gauge "weir_duplicate_addresses" ["port"] "IPv6 addresses of weir's own that another host on the port's link has as well, so that weir keeps silent of them."
        Daemon(|daemon, samples| ports(daemon, samples, |port| port.duplicate_addresses.len() as u64));
    Gauge "weir_port_stalled" ["port", "direction"] "1: a black hole; in: the device receives packets and hands none over, out: it takes packets and does not send them."
        Daemon(|daemon, samples| {
            for port in &daemon.ports {
                samples.add(&[&port.port, "in"], u64::from(port.receive_stalled));
                samples.add(&[&port.port, "out"], u64::from(port.transmit_stalled));
            }
        });
    Counter "weir_port_received_packets_total" ["port"] "Frames that the device received."
        Daemon(|daemon, samples| ports(daemon, samples, |port| port.received_packets));
    Counter "weir_port_received_bytes_total" ["port"] "Bytes that the device received."
        Daemon(|daemon, samples| ports(daemon, samples, |port| port.received_bytes));
    Counter "weir_port_transmitted_packets_total" ["port"] "Frames that the device sent."
        Daemon(|daemon, samples| ports(daemon, samples, |port| port.transmitted_packets));
    Counter "weir_port_transmitted_bytes_total" ["port"] "Bytes that the device sent."
        Daemon(|daemon, samples| ports(daemon, samples, |port| port.transmitted_bytes));
    Counter "weir_port_missed_packets_total" ["port"] "Frames lost because no worker fetched them in time."
        Daemon(|daemon, samples| ports(daemon, samples, |port| port.missed_packets));
    Counter "weir_port_receive_errors_total" ["port"] "Frames that the device received with an error."
        Daemon(|daemon, samples| ports(daemon, samples, |port| port.receive_errors));
    Counter "weir_port_transmit_errors_total" ["port"] "Frames that the device failed to send."
        Daemon(|daemon, samples| ports(daemon, samples, |port| port.transmit_errors));
    Counter "weir_port_no_mbuf_total" ["port"] "Frames lost because the mempool was empty."
        Daemon(|daemon, samples| ports(daemon, samples, |port| port.no_mbuf));
    Counter "weir_host_packets_total" ["port", "direction"] "Packets through the port's companion interface; in: to the host, out: from it."
        Daemon(companions);

    // Health checks.
    Counter "weir_health_checks_total" ["result"] "Health checks that have ended: passed, failed, or not made for a reason of this machine's own (the log says which)."
        Daemon(|daemon, samples| {
            samples.add(&["passed"], daemon.health.passed);
            samples.add(&["failed"], daemon.health.failed);
            samples.add(&["not_made"], daemon.health.not_made);
        });
    Counter "weir_health_changes_total" [] "How often a health check's state has changed."
        Daemon(|daemon, samples| samples.add(&[], daemon.health.changes));
    Counter "weir_health_late_checks_total" [] "Health checks that began more than an interval late, as too many were running."
        Daemon(|daemon, samples| samples.add(&[], daemon.health.late));
    Gauge "weir_health_checks_configured" [] "Health checks that are configured; real servers of several services share one that is the same."
        Daemon(|daemon, samples| samples.add(&[], daemon.health.checks));
    Gauge "weir_health_checks_running" [] "Health checks that wait for an answer now."
        Daemon(|daemon, samples| samples.add(&[], daemon.health.running));
    Gauge "weir_health_checks_down" [] "Health checks whose real server is down."
        Daemon(|daemon, samples| samples.add(&[], daemon.health.down));

    Counter "weir_passive_failures_total" ["reason"] "Connections of services with `passive` that failed: the real server refused them, answered no SYN or no datagram, or was unreachable by ICMP."
        Daemon(|daemon, samples| {
            for (reason, count) in daemon.health.failures {
                samples.add(&[reason], count);
            }
        });
    Counter "weir_passive_holds_total" [] "How often a real server was held, since its connections failed: it gets no new ones for a while."
        Daemon(|daemon, samples| samples.add(&[], daemon.health.holds));
    Gauge "weir_passive_held" [] "Real servers that are held now."
        Daemon(|daemon, samples| samples.add(&[], daemon.health.held));

    // Outward connections.
    Counter "weir_snat_connections_total" ["from"] "Outward connections made, by the `from` of their [[snat]]."
        Daemon(|daemon, samples| snat(daemon, samples, |it| it.connections_total));
    Counter "weir_snat_packets_total" ["from", "direction"] "Packets of outward connections; out: from inside, in: the answers."
        Daemon(|daemon, samples| snat_directions(daemon, samples, |it| (it.packets_out, it.packets_in)));
    Counter "weir_snat_bytes_total" ["from", "direction"] "Their IP bytes."
        Daemon(|daemon, samples| snat_directions(daemon, samples, |it| (it.bytes_out, it.bytes_in)));
    Gauge "weir_snat_active_connections" ["from"] "Outward connections of TCP that are open, or opening."
        Daemon(|daemon, samples| snat(daemon, samples, |it| it.active_connections));
    Gauge "weir_snat_inactive_connections" ["from"] "All other outward connections."
        Daemon(|daemon, samples| snat(daemon, samples, |it| it.inactive_connections));

    // Services, with what their former real servers counted.
    Counter "weir_service_connections_total" SERVICE "Connections made."
        Service(|it, samples| services(it, samples, it.service.traffic.connections_total));
    Counter "weir_service_packets_total" SERVICE_DIRECTION "Packets; in: from clients, out: to clients."
        Service(|it, samples| service_directions(it, samples, (it.service.traffic.packets_in, it.service.traffic.packets_out)));
    Counter "weir_service_bytes_total" SERVICE_DIRECTION "IP bytes; in: from clients, out: to clients."
        Service(|it, samples| service_directions(it, samples, (it.service.traffic.bytes_in, it.service.traffic.bytes_out)));
    Gauge "weir_service_active_connections" SERVICE "Connections that the kernel's IPVS would call active."
        Service(|it, samples| services(it, samples, it.service.traffic.active_connections));
    Gauge "weir_service_inactive_connections" SERVICE "All other connections."
        Service(|it, samples| services(it, samples, it.service.traffic.inactive_connections));

    Gauge "weir_service_available_reals" SERVICE "Real servers that would get new connections by themselves, and can be reached; fallback servers are none."
        Service(|it, samples| services(it, samples, it.service.availability.available_reals));
    Gauge "weir_service_below_minimum" SERVICE "1: fewer real servers are available than `min_healthy` asks for, or not yet enough more to come back."
        Service(|it, samples| services(it, samples, u32::from(it.service.availability.below_minimum)));
    Gauge "weir_service_fallback_in_use" SERVICE "1: new connections go to the fallback servers."
        Service(|it, samples| services(it, samples, u32::from(it.service.availability.serving == "fallback")));
    Gauge "weir_service_announced" SERVICE "1: the host has a route to the VIP; of services with `announce = \"while-healthy\"` only."
        Service(announced);

    Counter "weir_service_limited_packets_total" SERVICE_LIMIT "Packets to a service with `allow`, `deny` or `limits` that were refused; limit: the key that refused them."
        Service(limited);

    Histogram "weir_service_connect_seconds" SERVICE "`weir_real_connect_seconds` of all its real servers."
        Service(|it, samples| service_times(it, samples, |times| &times.connect));
    Histogram "weir_service_reply_seconds" SERVICE "`weir_real_reply_seconds` of all its real servers."
        Service(|it, samples| service_times(it, samples, |times| &times.first_byte));

    // Real servers of services.
    Gauge "weir_real_up" REAL "1: a route leads to the real server, its next hop has not failed to answer ARP or neighbour solicitations, no health check says that it is down, and it is not held since its connections fail."
        Service(|service, samples| reals(service, samples, |real| u64::from(real.up)));
    Gauge "weir_real_weight" REAL "The effective weight; 0: no new connections."
        Service(|service, samples| reals(service, samples, |real| real.weight.into()));
    Gauge "weir_real_overloaded" REAL "1: the real server has had its `max_connections` and not fewer than its `min_connections` since: it gets no new ones. Of real servers with `max_connections` only."
        Service(overloaded);
    Gauge "weir_real_active_connections" REAL "Connections that the kernel's IPVS would call active."
        Service(|service, samples| reals(service, samples, |real| real.traffic.active_connections.into()));
    Gauge "weir_real_inactive_connections" REAL "All other connections."
        Service(|service, samples| reals(service, samples, |real| real.traffic.inactive_connections.into()));
    Gauge "weir_real_first_byte_seconds" REAL "The mean time from the first byte of a connection's first request to the first byte of its reply. Of services with `p2c` or `histograms`, and nat or fullnat, only."
        Service(first_bytes);
    Histogram "weir_real_connect_seconds" REAL "The time from a client's first SYN to the real server's SYN-ACK, as weir sees them. Of TCP services with `histograms` and nat or fullnat only."
        Service(|it, samples| real_times(it, samples, |times| &times.connect));
    Histogram "weir_real_reply_seconds" REAL "The time from the first byte of a connection's first request to the first byte of its reply. Of services with `histograms` and nat or fullnat only."
        Service(|it, samples| real_times(it, samples, |times| &times.first_byte));
    Counter "weir_real_connections_total" REAL "Connections made."
        Service(|service, samples| reals(service, samples, |real| real.traffic.connections_total));
    Counter "weir_real_packets_total" REAL_DIRECTION "Packets; in: to the real server, out: from it."
        Service(|service, samples| real_directions(service, samples, |real| (real.traffic.packets_in, real.traffic.packets_out)));
    Counter "weir_real_bytes_total" REAL_DIRECTION "IP bytes; in: to the real server, out: from it."
        Service(|service, samples| real_directions(service, samples, |real| (real.traffic.bytes_in, real.traffic.bytes_out)));
}

fn companions(daemon: &DaemonView, samples: &mut Samples) {
    for port in &daemon.ports {
        if let Some(companion) = &port.companion {
            samples.add(&[&port.port, "in"], companion.to_host_packets);
            samples.add(&[&port.port, "out"], companion.from_host_packets);
        }
    }
}

fn sum(daemon: &DaemonView, value: fn(&WorkerView) -> u64) -> u64 {
    daemon.workers.iter().map(value).sum()
}

fn workers<V: Number>(daemon: &DaemonView, samples: &mut Samples, value: fn(&WorkerView) -> V) {
    for worker in &daemon.workers {
        samples.add(&[&worker.worker.to_string()], value(worker));
    }
}

/// One sample for each reason, over all workers.
fn reasons(
    daemon: &DaemonView,
    samples: &mut Samples,
    counts: fn(&WorkerView) -> &std::collections::BTreeMap<String, u64>,
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

fn ports(daemon: &DaemonView, samples: &mut Samples, value: fn(&PortView) -> u64) {
    for port in &daemon.ports {
        samples.add(&[&port.port], value(port));
    }
}

fn snat<V: Number>(daemon: &DaemonView, samples: &mut Samples, value: fn(&TrafficView) -> V) {
    for (from, traffic) in &daemon.snat {
        samples.add(&[from], value(traffic));
    }
}

/// `values`: of the answers, and of what they answer: a connection's requests are what the inside sends.
fn snat_directions(
    daemon: &DaemonView,
    samples: &mut Samples,
    values: fn(&TrafficView) -> (u64, u64),
) {
    for (from, traffic) in &daemon.snat {
        let (inward, outward) = values(traffic);
        samples.add(&[from, "in"], inward);
        samples.add(&[from, "out"], outward);
    }
}

fn services(it: &Labelled, samples: &mut Samples, value: impl Number) {
    samples.add(&of_service(it), value);
}

fn service_directions(it: &Labelled, samples: &mut Samples, (inward, outward): (u64, u64)) {
    let [name, protocol, address, port] = of_service(it);
    samples.add(&[name, protocol, address, port, "in"], inward);
    samples.add(&[name, protocol, address, port, "out"], outward);
}

/// Of services with `allow`, `deny` or `limits`.
fn limited(it: &Labelled, samples: &mut Samples) {
    let [name, protocol, address, port] = of_service(it);
    let refused = it.service.admission.iter();
    for (limit, count) in refused.flat_map(|admission| &admission.refused_packets) {
        samples.add(&[name, protocol, address, port, limit], count);
    }
}

/// Of services that have the host announce their VIPs.
fn announced(it: &Labelled, samples: &mut Samples) {
    if let Some(announced) = it.service.availability.announced {
        services(it, samples, u32::from(announced));
    }
}

fn reals(it: &Labelled, samples: &mut Samples, value: fn(&MemberView) -> u64) {
    let [name, protocol, address, port] = of_service(it);
    for (real, text) in it.service.reals.iter().zip(&it.reals) {
        samples.add(&[name, protocol, address, port, text], value(real));
    }
}

/// Of real servers with a threshold.
fn overloaded(it: &Labelled, samples: &mut Samples) {
    let [name, protocol, address, port] = of_service(it);
    let reals = it.service.reals.iter().zip(&it.reals);
    for (real, text) in reals.filter(|(real, _)| real.state.max_connections.is_some()) {
        let overloaded = u32::from(real.state.overloaded);
        samples.add(&[name, protocol, address, port, text], overloaded);
    }
}

/// Of real servers whose answers are timed.
fn first_bytes(it: &Labelled, samples: &mut Samples) {
    let [name, protocol, address, port] = of_service(it);
    for (real, text) in it.service.reals.iter().zip(&it.reals) {
        if let Some(micros) = real.first_byte_us {
            let seconds = Duration::from_micros(micros).as_secs_f64();
            samples.add(&[name, protocol, address, port, text], seconds);
        }
    }
}

/// Of services with `histograms`.
fn service_times(it: &Labelled, samples: &mut Samples, of: fn(&TimesView) -> &HistogramView) {
    if let Some(times) = &it.service.times {
        samples.add_histogram(&of_service(it), of(times));
    }
}

/// Of real servers of services with `histograms`.
fn real_times(it: &Labelled, samples: &mut Samples, of: fn(&TimesView) -> &HistogramView) {
    let [name, protocol, address, port] = of_service(it);
    for (real, text) in it.service.reals.iter().zip(&it.reals) {
        if let Some(times) = &real.times {
            samples.add_histogram(&[name, protocol, address, port, text], of(times));
        }
    }
}

fn real_directions(it: &Labelled, samples: &mut Samples, values: fn(&MemberView) -> (u64, u64)) {
    let [name, protocol, address, port] = of_service(it);
    for (real, text) in it.service.reals.iter().zip(&it.reals) {
        let (inward, outward) = values(real);
        samples.add(&[name, protocol, address, port, text, "in"], inward);
        samples.add(&[name, protocol, address, port, text, "out"], outward);
    }
}

/// The values of the labels in [`SERVICE`].
fn of_service(it: &Labelled) -> [&str; 4] {
    [
        &it.service.name,
        &it.service.protocol,
        &it.address,
        &it.port,
    ]
}

//! What the collector `ipvs` of Prometheus's node_exporter tells of the kernel's IPVS, under its names and labels: dashboards and
//! alerts made for it go on when weir takes over. Of services that are there; the kernel's sums also have those that were removed.

use super::list::metrics;
use super::{Labelled, Metric, Samples, Source};
use crate::view::{MemberView, TrafficView};

const BACKEND: &[&str] = &[
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "proto",
    // The firewall mark of a service that is found by one: weir has none.
    "local_mark",
];

metrics! { IPVS "Some metrics under node_exporter's names for IPVS."
    Counter "node_ipvs_connections_total" [] "The total number of connections made."
        Services(|all, samples| total(all, samples, |traffic| traffic.connections_total));
    Counter "node_ipvs_incoming_packets_total" [] "The total number of incoming packets."
        Services(|all, samples| total(all, samples, |traffic| traffic.packets_in));
    Counter "node_ipvs_outgoing_packets_total" [] "The total number of outgoing packets."
        Services(|all, samples| total(all, samples, |traffic| traffic.packets_out));
    Counter "node_ipvs_incoming_bytes_total" [] "The total amount of incoming data."
        Services(|all, samples| total(all, samples, |traffic| traffic.bytes_in));
    Counter "node_ipvs_outgoing_bytes_total" [] "The total amount of outgoing data."
        Services(|all, samples| total(all, samples, |traffic| traffic.bytes_out));
    Gauge "node_ipvs_backend_connections_active" BACKEND "The current active connections by local and remote address."
        Service(|service, samples| backends(service, samples, |real| real.traffic.active_connections));
    Gauge "node_ipvs_backend_connections_inactive" BACKEND "The current inactive connections by local and remote address."
        Service(|service, samples| backends(service, samples, |real| real.traffic.inactive_connections));
    Gauge "node_ipvs_backend_weight" BACKEND "The current backend weight by local and remote address."
        Service(|service, samples| backends(service, samples, |real| real.weight.into()));
}

fn total(all: &[Labelled], samples: &mut Samples, of: fn(&TrafficView) -> u64) {
    let sum: u64 = all.iter().map(|it| of(&it.service.traffic)).sum();
    samples.add(&[], sum);
}

fn backends(it: &Labelled, samples: &mut Samples, value: fn(&MemberView) -> u32) {
    let protocol = it.service.protocol.to_ascii_uppercase();
    for real in &it.service.reals {
        let (address, port) = (real.real.ip().to_string(), real.real.port().to_string());
        let labels = [&it.address, &it.port, &address, &port, &protocol, ""];
        samples.add(&labels, value(real));
    }
}

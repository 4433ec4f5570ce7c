//! Rows for the status page: the daemon as a whole, drops in words, services without their real servers.

use super::{
    AdmissionView, AvailabilityView, MemberView, PortsView, ServiceView, TrafficView, is_false,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use utoipa::ToSchema;

/// `/v1/status`: the daemon as a whole.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StatusView {
    pub version: String,
    /// The machine's name.
    pub host: String,
    /// When it was started, in seconds since 1970.
    pub started_s: u64,
    /// Counts what has changed in the tables that workers read.
    pub generation: u64,
    pub services: usize,
    /// What `/health` complains of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ill: Option<String>,
    /// What `/ready` complains of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unready: Option<String>,
    /// Seconds until the last reload is taken back, unless it is confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm_ends_s: Option<u64>,
    /// Neighbours by their state.
    pub neighbours: BTreeMap<String, u64>,
    /// Packet buffers, and those of them that are free.
    pub mbufs: u64,
    pub mbufs_free: u64,
    /// Health checks, and those whose real server is down.
    pub health_checks: u64,
    pub health_checks_down: u64,
    /// Panics that did not end the process.
    pub panics: u64,
    /// Lines of the log that were not written.
    pub log_lost_lines: u64,
    /// Whether this request would be granted a change: by its token, or by where it comes from.
    pub may_change: bool,
}

/// `/v1/drops`: packets that were dropped for one reason, by all workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct DropView {
    pub reason: String,
    pub packets: u64,
    /// What the reason means.
    pub meaning: String,
    /// What to do about it.
    pub advice: String,
}

/// `/v1/services?summary=true`: a service without its real servers, of which it may have thousands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ServiceSummaryView {
    pub name: String,
    pub protocol: String,
    #[schema(value_type = String)]
    pub address: IpAddr,
    pub port: PortsView,
    pub mode: String,
    pub scheduler: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_pool: Option<String>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence_s: Option<u64>,
    /// Every datagram is scheduled by itself.
    #[serde(skip_serializing_if = "is_false")]
    pub one_packet: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admission: Option<AdmissionView>,
    #[serde(flatten)]
    pub availability: AvailabilityView,
    #[serde(flatten)]
    pub traffic: TrafficView,
    /// Its real servers; fallback servers are not counted.
    pub real_servers: usize,
    /// Those of them that get no new connections.
    pub impaired_reals: usize,
    pub fallback_servers: usize,
}

impl MemberView {
    /// Whether it gets no new connections. A fallback server seldom does, so that is no fault of one.
    pub(crate) fn is_impaired(&self) -> bool {
        !self.fallback && self.state.why.is_some()
    }
}

impl TrafficView {
    /// Live ones.
    pub(crate) fn connections(&self) -> u64 {
        u64::from(self.active_connections) + u64::from(self.inactive_connections)
    }

    pub(crate) const fn packets(&self) -> u64 {
        self.packets_in.saturating_add(self.packets_out)
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes_in.saturating_add(self.bytes_out)
    }
}

impl ServiceView {
    /// How many of its real servers get no new connections.
    pub(crate) fn impaired_reals(&self) -> usize {
        self.reals.iter().filter(|real| real.is_impaired()).count()
    }

    /// Whether new connections go elsewhere than to its available real servers, or one of them gets none.
    pub(crate) fn is_impaired(&self) -> bool {
        self.availability.serving != "available"
            || self.availability.below_minimum
            || self.availability.available_reals == 0
            || self.impaired_reals() > 0
    }
}

impl From<ServiceView> for ServiceSummaryView {
    fn from(service: ServiceView) -> Self {
        let fallback_servers = service.reals.iter().filter(|real| real.fallback).count();
        ServiceSummaryView {
            impaired_reals: service.impaired_reals(),
            real_servers: service.reals.len() - fallback_servers,
            fallback_servers,
            name: service.name,
            protocol: service.protocol,
            address: service.address,
            port: service.port,
            mode: service.mode,
            scheduler: service.scheduler,
            flags: service.flags,
            local_pool: service.local_pool,
            persistence_s: service.persistence_s,
            one_packet: service.one_packet,
            admission: service.admission,
            availability: service.availability,
            traffic: service.traffic,
        }
    }
}

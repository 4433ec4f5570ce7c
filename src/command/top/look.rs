//! What the daemon counted at two times, and what happened between them.

use super::super::client::{self, Address, Error};
use crate::service::{Admin, Health};
use crate::view::{self, MemberView, ServiceView, TrafficView};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// What the daemon counted at one time.
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) took: Duration,
    pub(super) workers: Vec<view::WorkerView>,
    pub(super) services: Vec<ServiceView>,
    pub(super) offenders: Vec<view::OffenderView>,
}

/// So many clients are shown.
pub(super) const OFFENDERS: usize = 5;

impl Sample {
    pub(super) fn take(address: &Address) -> Result<Sample, Error> {
        let at = Instant::now();
        Ok(Sample {
            workers: client::rows(address, "/v1/workers")?,
            services: client::rows(address, "/v1/services")?,
            offenders: client::rows(address, &format!("/v1/offenders?limit={OFFENDERS}"))?,
            at,
            took: at.elapsed(),
        })
    }
}

/// What happened between two samples. Rates are per second.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Look {
    /// The time between the samples.
    pub(super) seconds: f64,
    pub(super) workers: Vec<WorkerRow>,
    /// In the order of the file.
    pub(super) services: Vec<ServiceRow>,
    /// Real servers that get no new connections, in the order of the file.
    #[serde(rename = "no_new_connections")]
    pub(super) idle: Vec<IdleRow>,
    /// The most frequent reason first.
    #[serde(rename = "drops_per_s", serialize_with = "by_name")]
    pub(super) drops: Vec<(String, f64)>,
    /// The clients that were refused most often of late.
    #[serde(rename = "refused_clients")]
    pub(super) offenders: Vec<view::OffenderView>,
}

fn by_name<S: serde::Serializer>(pairs: &[(String, f64)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(pairs.iter().map(|(name, rate)| (name, rate)))
}

/// A worker between two samples.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct WorkerRow {
    pub(super) worker: u8,
    pub(super) lcore: usize,
    #[serde(rename = "busy_ratio")]
    pub(super) busy: f64,
    pub(super) connections: u64,
    #[serde(rename = "received_packets_per_s")]
    pub(super) received: f64,
    #[serde(rename = "transmitted_packets_per_s")]
    pub(super) transmitted: f64,
    #[serde(rename = "handed_over_packets_per_s")]
    pub(super) over: f64,
    #[serde(rename = "dropped_packets_per_s")]
    pub(super) dropped: f64,
}

/// A real server that gets no new connections.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct IdleRow {
    pub(super) service: String,
    pub(super) real: SocketAddr,
    pub(super) why: String,
}

/// What went through a service or a real server between two samples, and its connections at the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rates {
    #[serde(rename = "active_connections")]
    pub(super) active: u32,
    #[serde(rename = "inactive_connections")]
    pub(super) inactive: u32,
    #[serde(rename = "connections_per_s")]
    pub(super) connections: f64,
    #[serde(rename = "packets_in_per_s")]
    pub(super) packets_in: f64,
    #[serde(rename = "packets_out_per_s")]
    pub(super) packets_out: f64,
    #[serde(rename = "bits_in_per_s")]
    pub(super) bits_in: f64,
    #[serde(rename = "bits_out_per_s")]
    pub(super) bits_out: f64,
}

impl Rates {
    fn between(old: &TrafficView, new: &TrafficView, seconds: f64) -> Self {
        let rate = |old, new| rate(old, new, seconds);
        Rates {
            active: new.active_connections,
            inactive: new.inactive_connections,
            connections: rate(old.connections_total, new.connections_total),
            packets_in: rate(old.packets_in, new.packets_in),
            packets_out: rate(old.packets_out, new.packets_out),
            bits_in: 8.0 * rate(old.bytes_in, new.bytes_in),
            bits_out: 8.0 * rate(old.bytes_out, new.bytes_out),
        }
    }

    /// In the order of the columns.
    pub(super) fn figures(&self) -> [f64; 7] {
        [
            self.active.into(),
            self.inactive.into(),
            self.connections,
            self.packets_in,
            self.packets_out,
            self.bits_in,
            self.bits_out,
        ]
    }
}

/// A service between two samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ServiceRow {
    pub(super) name: String,
    #[serde(skip)]
    pub(super) vip: (IpAddr, view::PortsView),
    /// `tcp:192.0.2.80:80`
    pub(super) address: String,
    pub(super) mode: String,
    pub(super) scheduler: String,
    /// Without its fallback: those that get new connections, of all.
    #[serde(rename = "real_servers_up")]
    pub(super) up: usize,
    #[serde(rename = "real_servers")]
    pub(super) count: usize,
    #[serde(flatten)]
    pub(super) rates: Rates,
    pub(super) reals: Vec<RealRow>,
}

/// A real server of a service between two samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct RealRow {
    pub(super) real: SocketAddr,
    pub(super) fallback: bool,
    /// In a word.
    pub(super) state: &'static str,
    /// The effective one, and the file's.
    pub(super) weight: u16,
    pub(super) configured_weight: u16,
    #[serde(flatten)]
    pub(super) rates: Rates,
    /// Why it gets no new connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
}

/// Per second. What was made anew begins at 0 again.
fn rate(old: u64, new: u64, seconds: f64) -> f64 {
    new.saturating_sub(old) as f64 / seconds
}

impl Look {
    pub(super) fn between(before: &Sample, now: &Sample) -> Look {
        let seconds = now.at.duration_since(before.at).as_secs_f64().max(1e-3);
        let old: HashMap<_, _> = before.workers.iter().map(|row| (row.worker, row)).collect();
        let mut drops = BTreeMap::<&str, f64>::new();
        let mut workers = Vec::new();
        for row in &now.workers {
            let old = *old.get(&row.worker).unwrap_or(&row);
            let mut dropped = 0.0;
            for (reason, count) in &row.dropped_packets {
                let before = old.dropped_packets.get(reason).copied().unwrap_or(0);
                dropped += rate(before, *count, seconds);
                *drops.entry(reason).or_default() += rate(before, *count, seconds);
            }
            workers.push(worker(old, row, dropped, seconds));
        }
        let drops = drops.into_iter().filter(|(_, rate)| *rate > 0.0);
        let mut drops: Vec<_> = drops.map(|(name, rate)| (name.to_owned(), rate)).collect();
        drops.sort_by(|a, b| b.1.total_cmp(&a.1));
        let key = |row: &ServiceView| (row.protocol.clone(), row.address, row.port.clone());
        let old: HashMap<_, _> = before.services.iter().map(|row| (key(row), row)).collect();
        let services = now.services.iter();
        let services =
            services.map(|row| service(old.get(&key(row)).unwrap_or(&row), row, seconds));
        let refused = now.offenders.iter().filter(|row| row.refused > 0);
        Look {
            seconds,
            workers,
            services: services.collect(),
            idle: now.services.iter().flat_map(idle).collect(),
            drops,
            offenders: refused.take(OFFENDERS).cloned().collect(),
        }
    }
}

fn worker(old: &view::WorkerView, row: &view::WorkerView, dropped: f64, seconds: f64) -> WorkerRow {
    let sent = |row: &view::WorkerView| row.transmitted_packets + row.answered_packets;
    WorkerRow {
        worker: row.worker,
        lcore: row.lcore,
        busy: row.busy_ratio,
        connections: row.connections,
        received: rate(old.received_packets, row.received_packets, seconds),
        transmitted: rate(sent(old), sent(row), seconds),
        over: rate(old.handed_over_packets, row.handed_over_packets, seconds),
        dropped,
    }
}

fn service(old: &ServiceView, row: &ServiceView, seconds: f64) -> ServiceRow {
    let own = || row.reals.iter().filter(|real| !real.fallback);
    let key = |real: &MemberView| (real.real, real.fallback);
    let reals: HashMap<_, _> = old.reals.iter().map(|real| (key(real), real)).collect();
    let reals = row.reals.iter().map(|real| {
        let old = *reals.get(&key(real)).unwrap_or(&real);
        RealRow {
            real: real.real,
            fallback: real.fallback,
            state: state(real),
            weight: real.weight,
            configured_weight: real.state.configured_weight,
            rates: Rates::between(&old.traffic, &real.traffic, seconds),
            why: real.state.why.clone(),
        }
    });
    ServiceRow {
        name: row.name.clone(),
        vip: (row.address, row.port.clone()),
        address: format!("{}:{}", row.protocol, row.port.at(row.address)),
        mode: row.mode.clone(),
        scheduler: row.scheduler.clone(),
        up: own().filter(|real| real.up && real.weight > 0).count(),
        count: own().count(),
        rates: Rates::between(&old.traffic, &row.traffic, seconds),
        reals: reals.collect(),
    }
}

/// What keeps a real server from new connections, or that nothing does, in a word.
fn state(real: &MemberView) -> &'static str {
    let state = &real.state;
    match state.admin {
        Admin::Enabled => {}
        admin => return admin.name(),
    }
    if state.health == Health::Down {
        Health::Down.name()
    } else if state.held.is_some() {
        "held"
    } else if !real.up {
        "no way"
    } else if state.overloaded {
        "full"
    } else if real.fallback {
        "fallback"
    } else if real.weight == 0 {
        "weight 0"
    } else {
        "up"
    }
}

/// The real servers of a service that get no new connections, whatever the reason; those of its `fallback` have theirs.
fn idle(row: &ServiceView) -> impl Iterator<Item = IdleRow> {
    let reals = row.reals.iter().filter(|real| !real.fallback);
    reals.filter_map(|real| {
        Some(IdleRow {
            service: row.name.clone(),
            real: real.real,
            why: real.state.why.clone()?,
        })
    })
}

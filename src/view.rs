//! What the daemon tells about itself: the rows of `/v1/…` and of `weir show … --json`, written by the one and read
//! by the other.

mod capture;
mod status;
mod times;

use crate::service::{Admin, Health, ServiceKey};
pub(crate) use capture::{
    CaptureBegin, CaptureCounts, CaptureEnd, CaptureEnded, CaptureLine, CapturedDecision,
    CapturedView,
};
use serde::{Deserialize, Serialize};
pub(crate) use status::{DropView, ServiceSummaryView, StatusView};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
pub(crate) use times::{HistogramView, TimesView};
use utoipa::ToSchema;

/// What went through a service or a real server since it was configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrafficView {
    /// Connections made.
    pub connections_total: u64,
    /// Connections now, by the kernel's distinction (ActiveConn, InActConn).
    pub active_connections: u32,
    pub inactive_connections: u32,
    /// Packets and IP bytes, client to real server.
    pub packets_in: u64,
    pub bytes_in: u64,
    /// Packets and IP bytes, real server to client; 0 where those do not pass weir.
    pub packets_out: u64,
    pub bytes_out: u64,
}

/// What the `limits` of a service say, and how much of them is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdmissionView {
    /// By their keys: what `limits` has.
    pub limits: BTreeMap<String, u32>,
    /// Live connections, which `connections` limits.
    pub connections: u32,
    /// Packets that were refused, by the key that did: `deny`, `allow`, or one of `limits`.
    pub refused_packets: BTreeMap<String, u64>,
}

/// What a client did of late with a service that has `allow`, `deny` or `limits`: its counts halve every 69 seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OffenderView {
    pub service: String,
    /// Its address; of IPv6 a prefix, a /64.
    pub client: String,
    /// Packets of it that were refused.
    pub refused: u32,
    /// Connections that it began.
    pub begun: u32,
    /// So many more of both it may have had.
    pub missing: u32,
}

/// The local pairs that a service with `mode = "fullnat"` has towards one of its real servers. Each real server has all of the
/// pool; services that share the pool and the real server share the pairs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolView {
    pub pool: String,
    pub service: String,
    pub protocol: String,
    #[schema(value_type = String)]
    pub real: SocketAddr,
    /// Over all workers.
    #[serde(flatten)]
    pub all: PairsView,
    pub workers: Vec<PairsView>,
}

/// Local pairs towards a real server: of all workers, or those that one of them has for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PairsView {
    /// Of one worker: about as many, by the share that it has of all.
    pub pairs: u32,
    pub used: u32,
    /// Of those, TCP connections that one side has closed, or both.
    pub closing: u32,
    /// The most that were in use at once; of all workers the sum.
    pub highest: u32,
    /// Connections for which no pair was found.
    pub exhausted: u64,
}

/// `/v1/snat`: a rule of `[[snat]]`, with its connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnatView {
    /// The network whose connections these are.
    pub from: String,
    pub pool: String,
    /// The port that they leave by, if it is one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_port: Option<String>,
    /// Connections that the pool has room for, to each remote address and port; each worker has its share of them.
    pub pairs: u32,
    /// Connections for which no pair was found.
    pub exhausted: u64,
    /// `in`: what the inside sends; `out`: the answers.
    #[serde(flatten)]
    pub traffic: TrafficView,
}

/// A real server, as a part of its service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// Port 0: the packet's own.
    #[schema(value_type = String)]
    pub real: SocketAddr,
    /// A sorry server: it gets new connections only while the real servers get none.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fallback: bool,
    /// The effective one, by which it gets new connections: 0 while it gets none.
    pub weight: u16,
    /// A route leads there, its next hop has not failed to answer ARP or neighbour solicitations, no health check says
    /// that it is down, and its clients' connections do not fail (`passive`).
    pub up: bool,
    #[serde(flatten)]
    pub state: StateView,
    #[serde(flatten)]
    pub traffic: TrafficView,
    /// With `p2c` or `histograms`, of nat and fullnat: the mean time in microseconds from the first byte of a connection's first request to the
    /// first byte of its reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
    /// For `/metrics` alone.
    #[serde(skip)]
    pub times: Option<Box<TimesView>>,
}

/// What makes a real server's effective weight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StateView {
    /// The weight in the file.
    #[serde(default)]
    #[schema(required)]
    pub configured_weight: u16,
    /// An operator's, in the place of the file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_weight: Option<u16>,
    /// Seconds until the file's weight is back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_weight_ends_s: Option<u64>,
    #[serde(default)]
    #[schema(required)]
    pub admin: Admin,
    /// Seconds until it is enabled again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_ends_s: Option<u64>,
    #[serde(default)]
    #[schema(required)]
    pub health: Health,
    /// What the last health check said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_reason: Option<String>,
    /// Seconds since its health became what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_since_s: Option<u64>,
    /// Why it gets no new connections for a while: what became of those that it got (`passive`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// Seconds until it gets new ones again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_ends_s: Option<u64>,
    /// How much of its weight it has, 100 but for a while after it came (back).
    #[serde(default = "hundred")]
    #[schema(required)]
    pub slow_start_percent: u8,
    /// So many connections it may have, active and inactive ones together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Once it has as many, it gets new ones again when it has fewer than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_connections: Option<u32>,
    /// It has as many connections as it may have, and gets no new ones until enough have ended.
    #[serde(default, skip_serializing_if = "is_false")]
    pub overloaded: bool,
    /// Why it gets no new connections, if it gets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn hundred() -> u8 {
    100
}

/// The answer to `/v1/weight`, `/v1/drain`, `/v1/disable` and `/v1/enable`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EditedView {
    pub service: String,
    #[schema(value_type = String)]
    pub real: SocketAddr,
    /// The effective weights before and after.
    pub before: u16,
    pub after: u16,
    #[serde(flatten)]
    pub state: StateView,
}

/// How packets get to the real servers of the modes tunnel and l3dsr: the keys of the configuration, defaults included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ViaView {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub tunnel_source: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gue_port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gue_variant: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gue_zero_checksum: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dscp: Option<u8>,
}

/// What a service is as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AvailabilityView {
    /// Where new connections go: to the `available` real servers, to `all` of them, to the `fallback` servers; or they are
    /// `refused`.
    #[serde(default)]
    #[schema(required)]
    pub serving: String,
    /// It has fewer available real servers than it needs.
    #[serde(default)]
    #[schema(required)]
    pub below_minimum: bool,
    /// Real servers that would get new connections by themselves, and can be reached.
    #[serde(default)]
    #[schema(required)]
    pub available_reals: usize,
    /// How many of them it needs: not to be below its minimum, or to come back.
    #[serde(default)]
    #[schema(required)]
    pub needed_reals: usize,
    /// The key of the configuration, with its default.
    #[serde(default)]
    #[schema(required)]
    pub when_below: String,
    /// With `announce = "while-healthy"`: whether the host has a route to the VIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<bool>,
}

/// The ports of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ServicePorts)]
pub enum PortsView {
    /// 0: every port.
    One(u16),
    /// `8000-8099`
    Range(String),
}

impl PortsView {
    pub fn of(key: &ServiceKey) -> Self {
        match key.last {
            0 => PortsView::One(key.port),
            last => PortsView::Range(format!("{}-{last}", key.port)),
        }
    }

    /// `192.0.2.80:80`, `[2001:db8::80]:8000-8099`
    pub fn at(&self, address: IpAddr) -> String {
        match address {
            IpAddr::V4(address) => format!("{address}:{self}"),
            IpAddr::V6(address) => format!("[{address}]:{self}"),
        }
    }
}

impl std::fmt::Display for PortsView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PortsView::One(port) => port.fmt(f),
            PortsView::Range(ports) => ports.fmt(f),
        }
    }
}

/// `/v1/services`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    pub name: String,
    pub protocol: String,
    #[schema(value_type = String)]
    pub address: IpAddr,
    pub port: PortsView,
    pub mode: String,
    pub scheduler: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_pool: Option<String>,
    #[serde(flatten)]
    pub via: ViaView,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence_s: Option<u64>,
    /// How many of the first bits of a client's address count for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence_prefix: Option<u8>,
    /// Every datagram is scheduled by itself.
    #[serde(default, skip_serializing_if = "is_false")]
    pub one_packet: bool,
    /// Of a service with `allow`, `deny` or `limits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<AdmissionView>,
    #[serde(flatten)]
    pub availability: AvailabilityView,
    /// With those of real servers that it has no more.
    #[serde(flatten)]
    pub traffic: TrafficView,
    /// For `/metrics` alone.
    #[serde(skip)]
    pub times: Option<Box<TimesView>>,
    pub reals: Vec<MemberView>,
}

/// `/v1/services?brief=true`: what the table of `weir show services` has. Counters take the longest to write and to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct BriefServiceView {
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
    #[serde(flatten)]
    pub via: ViaView,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence_s: Option<u64>,
    /// As in the whole row.
    pub serving: String,
    pub reals: Vec<BriefMemberView>,
}

/// A real server in a brief list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct BriefMemberView {
    #[schema(value_type = String)]
    pub real: SocketAddr,
    #[serde(skip_serializing_if = "is_false")]
    pub fallback: bool,
    pub weight: u16,
    pub up: bool,
    pub active_connections: u32,
    pub inactive_connections: u32,
}

impl From<ServiceView> for BriefServiceView {
    fn from(service: ServiceView) -> Self {
        BriefServiceView {
            name: service.name,
            protocol: service.protocol,
            address: service.address,
            port: service.port,
            mode: service.mode,
            scheduler: service.scheduler,
            flags: service.flags,
            local_pool: service.local_pool,
            via: service.via,
            persistence_s: service.persistence_s,
            serving: service.availability.serving,
            reals: service.reals.iter().map(BriefMemberView::from).collect(),
        }
    }
}

impl From<&MemberView> for BriefMemberView {
    fn from(member: &MemberView) -> Self {
        BriefMemberView {
            real: member.real,
            fallback: member.fallback,
            weight: member.weight,
            up: member.up,
            active_connections: member.traffic.active_connections,
            inactive_connections: member.traffic.inactive_connections,
        }
    }
}

/// `/v1/reals`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RealView {
    pub service: String,
    pub protocol: String,
    /// `192.0.2.80:80`, `192.0.2.80:8000-8099`
    pub vip: String,
    #[serde(flatten)]
    pub member: MemberView,
}

impl ServiceView {
    /// Its real servers, each by itself.
    pub fn into_reals(self) -> impl Iterator<Item = RealView> {
        let ServiceView {
            name,
            protocol,
            address,
            port,
            reals,
            ..
        } = self;
        let vip = port.at(address);
        reals.into_iter().map(move |member| RealView {
            service: name.clone(),
            protocol: protocol.clone(),
            vip: vip.clone(),
            member,
        })
    }
}

/// `/v1/connections`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionView {
    pub protocol: String,
    /// Of a persistence template: the masked address and port 0.
    #[schema(value_type = String)]
    pub client: SocketAddr,
    /// The address and port that the client uses.
    #[schema(value_type = String)]
    pub vip: SocketAddr,
    #[schema(value_type = String)]
    pub real: SocketAddr,
    /// With fullnat: what the real server sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub local: Option<SocketAddr>,
    pub state: String,
    /// Seconds until it ends if it stays silent.
    pub expires_s: u32,
    /// None: it is configured no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    pub worker: u8,
}

/// `/v1/ports`: the counters are the device's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortView {
    pub port: String,
    pub device: String,
    /// As the configuration file has it; 0: untagged. What follows of links, queues, counters and stalls is the device's, and
    /// the same for all ports on it.
    #[serde(default)]
    #[schema(required)]
    pub vlan: String,
    pub driver: String,
    pub mac: String,
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    pub addresses: Vec<String>,
    /// Those that another host on the link has as well, VIPs and pool addresses among them: weir keeps silent of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub duplicate_addresses: Vec<std::net::IpAddr>,
    pub rx_queues: u16,
    pub tx_queues: u16,
    /// How packets find the worker that owns their connection: `rss` by the device, `software` by the worker that gets
    /// them, `one worker`.
    pub steering: String,
    pub link_up: bool,
    /// Megabits a second, where the device says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_speed: Option<u32>,
    pub received_packets: u64,
    pub received_bytes: u64,
    pub transmitted_packets: u64,
    pub transmitted_bytes: u64,
    /// Arrived, but no worker fetched them in time.
    pub missed_packets: u64,
    pub receive_errors: u64,
    pub transmit_errors: u64,
    /// Arrived when the mempool was empty.
    pub no_mbuf: u64,
    /// The device takes packets and does not send them.
    #[serde(default)]
    #[schema(required)]
    pub transmit_stalled: bool,
    /// The device receives packets and hands none over.
    #[serde(default)]
    #[schema(required)]
    pub receive_stalled: bool,
    /// The interface of the kernel through which the host uses the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub companion: Option<CompanionView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompanionView {
    pub interface: String,
    pub to_host_packets: u64,
    pub from_host_packets: u64,
    /// Not taken by the kernel.
    pub refused_packets: u64,
}

/// `/v1/workers`: received + taken_over = transmitted + answered + local + queued + handed_over + Σ dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerView {
    pub worker: u8,
    /// Its CPU.
    pub lcore: usize,
    /// What it polls, as `port/queue`.
    pub queues: Vec<String>,
    /// The share of the last second that it had work, 0 … 1.
    pub busy_ratio: f64,
    pub connections: u64,
    pub connection_capacity: u64,
    /// Given up before their time, because the table was full.
    pub evicted_connections: u64,
    pub received_packets: u64,
    /// Received by other workers, who handed them over to this one.
    pub taken_over_packets: u64,
    /// Received, and handed over to the worker that owns the connection.
    pub handed_over_packets: u64,
    pub transmitted_packets: u64,
    pub answered_packets: u64,
    pub local_packets: u64,
    pub queued_packets: u64,
    /// Of those, the fragments that wait for the first one of their datagram.
    pub waiting_fragments: u64,
    /// Frames of weir's own (questions for neighbours, announcements).
    pub originated_packets: u64,
    /// Packets between hosts, sent on as by a router.
    #[serde(default)]
    #[schema(required)]
    pub routed_packets: u64,
    /// Of nat clients in the subnet of their real server.
    #[serde(default)]
    #[schema(required)]
    pub hairpin_connections: u64,
    /// Datagrams whose QUIC connection id names no real server of their service.
    #[serde(default)]
    #[schema(required)]
    pub quic_unknown_ids: u64,
    /// That were to tell the client's address by a TCP option and had no room for it.
    #[serde(default)]
    #[schema(required)]
    pub untold_segments: u64,
    /// Every reason, also those without a packet.
    pub dropped_packets: BTreeMap<String, u64>,
    pub replies: BTreeMap<String, u64>,
    /// ICMP errors about connections, sent on to the other end, by what they are about.
    #[serde(default)]
    #[schema(required)]
    pub icmp_errors: BTreeMap<String, u64>,
    /// Moves as long as the worker lives.
    pub loops: u64,
}

/// `/v1/neighbours`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NeighbourView {
    #[schema(value_type = String)]
    pub address: IpAddr,
    pub port: String,
    /// None: not known (any more).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    pub state: String,
    /// A `[[neighbour]]`.
    #[serde(rename = "static")]
    pub is_static: bool,
}

/// `/v1/routes`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteView {
    pub to: String,
    /// None: connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub via: Option<IpAddr>,
    pub port: String,
}

/// `/v1/health`: the check of one real server of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    pub service: String,
    #[schema(value_type = String)]
    pub real: SocketAddr,
    /// The type of the check.
    pub check: String,
    /// Its way: `host`, `port` or `service`. None has what became of clients' connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// Where it goes.
    pub target: String,
    /// `unknown`, `up` or `down`, and for how many seconds; `held`: by what became of clients' connections.
    pub state: String,
    pub since_s: u64,
    /// Of the last check: `passed`, `failed` or `not made`; why, in words; how long it took; how many seconds ago it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_s: Option<f64>,
    /// Results of one kind in a row, and how many of them change the state.
    pub passes: u32,
    pub failures: u32,
    pub rise: u32,
    pub fall: u32,
}

/// `/v1/events`: something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct EventView {
    /// Counts the events since the start, from 1.
    pub n: u64,
    /// As `2026-01-31T12:00:00.000000Z`.
    pub time: String,
    /// `error`, `warn`, `info`, …
    pub level: String,
    /// What it is about: `health`, `neighbour`, `link`, `address`, `change`, `drops`, `panic`, `device`, `daemon`.
    pub kind: String,
    pub message: String,
    /// What it names: a real server, a service, a count.
    #[serde(default)]
    #[schema(required, value_type = Object)]
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// The daemon as a whole: what a scrape sees beside the services.
#[derive(Clone, Debug)]
pub struct DaemonView {
    pub generation: u64,
    /// Seconds since 1970.
    pub started_s: u64,
    pub services: usize,
    pub workers: Vec<WorkerView>,
    pub ports: Vec<PortView>,
    /// How many neighbours are in each state.
    pub neighbours: Vec<(&'static str, u64)>,
    /// How often one got no place.
    pub neighbours_refused: u64,
    pub mbufs: u64,
    pub mbufs_free: u64,
    /// Lines of the log that were not written.
    pub log_lost_lines: u64,
    pub connection_log: ConnectionLogCounts,
    /// Panics that did not end the process.
    pub panics: u64,
    pub health: HealthCounts,
    /// Each rule of `[[snat]]`, by its network.
    pub snat: Vec<(String, TrafficView)>,
}

/// Records of the connection log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionLogCounts {
    pub written: u64,
    /// Lost, as a worker's queue was full.
    pub overrun: u64,
    /// Lost, as the file or the collector did not take them.
    pub unwritten: u64,
}

/// What became of health checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthCounts {
    pub passed: u64,
    pub failed: u64,
    /// Those that could not be made, for a reason of this machine's own.
    pub not_made: u64,
    /// How often a state has changed.
    pub changes: u64,
    /// Those that came later than they should.
    pub late: u64,
    /// Checks that there are; services that have one in common share it.
    pub checks: u64,
    /// Of those, the ones that run now, and those whose real server is down.
    pub running: u64,
    pub down: u64,
    /// Connections of watched real servers that have failed, by the way.
    pub failures: [(&'static str, u64); 4],
    /// Real servers that are held for that now, and how often one was.
    pub held: u64,
    pub holds: u64,
}

//! A virtual service and its real servers, as configured.

use super::{
    Announce, AvailabilityConfig, ClientList, HealthUse, ModeConfig, OwnTimeouts, Protocol,
    SchedulerConfig, SchedulerFlags, ServiceLimits, Thresholds,
};
use crate::net::ServerId;
use std::net::IpAddr;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub struct ServiceConfig {
    /// As written; else `tcp:192.0.2.80:80`.
    pub name: String,
    /// One: what is written for both is two services of one name.
    pub protocol: Protocol,
    pub address: IpAddr,
    /// 0: every port.
    pub port: u16,
    /// Of a range of ports, which begins with `port`: its last one; else 0.
    pub last_port: u16,
    pub mode: ModeConfig,
    /// Default `wlc`, as ipvsadm's.
    pub scheduler: SchedulerConfig,
    pub flags: SchedulerFlags,
    pub persistence: Option<PersistenceConfig>,
    pub when_unavailable: WhenUnavailable,
    /// None: as the whole file says.
    pub unknown_tcp: Option<UnknownTcp>,
    pub tcp_mss: Option<TcpMss>,
    /// Of UDP: by what in QUIC connection ids a real server is known.
    pub quic: Option<QuicConfig>,
    pub client_address: ClientAddress,
    /// None: its real servers count as healthy.
    pub health: Option<HealthUse>,
    /// A real server that comes (back) gets its weight over this time; 0: at once. None: as its scheduler has it by default,
    /// see [`SchedulerConfig::slow_start`].
    pub slow_start: Option<Duration>,
    pub on_down: OnDown,
    pub timeouts: OwnTimeouts,
    pub on_idle: OnIdle,
    /// Of UDP: every datagram is scheduled afresh, and no connection is kept.
    pub one_packet: bool,
    /// How long its real servers take is measured and shown.
    pub histograms: bool,
    /// The connection log has its connections.
    pub connection_log: bool,
    pub availability: AvailabilityConfig,
    pub announce: Announce,
    /// Of UDP: a flow of a drained real server that was silent for so long goes on to another one. None: it stays.
    pub on_drain: Option<Duration>,
    /// None: what becomes of clients' connections says nothing of real servers.
    pub passive: Option<PassiveConfig>,
    /// The `[[pool]]` that `reals` are of; none: they are its own.
    pub pool: Option<String>,
    /// Only these clients may begin connections. None: all.
    pub allow: Option<ClientList>,
    /// These may not.
    pub deny: Option<ClientList>,
    /// How many connections it takes. None: as many as there is room for.
    pub limits: Option<ServiceLimits>,
    pub reals: Vec<RealConfig>,
    /// Sorry servers: for new connections while the real servers get none. Each has weight 1.
    pub fallback: Vec<RealConfig>,
}

impl ServiceConfig {
    /// The port of real servers that have none of their own: 0, the packet's, if there are several.
    pub fn port_of_reals(&self) -> u16 {
        match self.last_port {
            0 => self.port,
            _ => 0,
        }
    }

    /// The real servers, and after them the fallback servers.
    pub fn servers(&self) -> impl Iterator<Item = &RealConfig> + Clone {
        self.reals.iter().chain(&self.fallback)
    }
}

/// `quic`: how the real servers' connection ids are made (draft-ietf-quic-load-balancers).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct QuicConfig {
    /// In bytes, 1 to 15.
    pub server_id_length: u8,
    /// Of the whole connection id, in bytes: at least 5 more than the server id, and at most 20.
    pub connection_id_length: u8,
    /// 0 to 6: the three highest bits of the first byte.
    pub config_id: u8,
    /// None: they are not encrypted.
    pub key: Option<[u8; 16]>,
}

impl std::fmt::Debug for QuicConfig {
    /// Without its key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_string().fmt(f)
    }
}

impl std::fmt::Display for QuicConfig {
    /// Without its key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "server id of {} bytes in {}, config id {}, {}",
            self.server_id_length,
            self.connection_id_length,
            self.config_id,
            if self.key.is_some() {
                "encrypted"
            } else {
                "plain"
            }
        )
    }
}

/// When a real server gets no new connections for a while, since those that it got failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassiveConfig {
    /// So many connections …
    pub failures: u32,
    /// … in so long a time.
    pub within: Duration,
    /// It comes back after this.
    pub hold: Duration,
}

impl Default for PassiveConfig {
    fn default() -> Self {
        PassiveConfig {
            failures: 5,
            within: Duration::from_secs(10),
            hold: Duration::from_secs(30),
        }
    }
}

/// How long a UDP flow of a drained real server must have been silent, by default.
pub(super) const ON_DRAIN: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PersistenceConfig {
    pub timeout: Duration,
    pub prefix_v4: u8,
    pub prefix_v6: u8,
    /// A client goes on to the real server that it is bound to while that is drained.
    pub through_drain: bool,
}

/// On which ports a real server's replies are taken (the kernel's `rp_filter` has the same words).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReversePath {
    /// On the one that leads to the real server.
    Strict,
    /// On any.
    Loose,
}

/// What becomes of a TCP segment that belongs to no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownTcp {
    /// A reset answers it.
    Reset,
    Drop,
}

/// The largest segment that SYNs may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpMss {
    /// What fits the MTUs of both ports.
    Auto,
    Bytes(u16),
}

/// How a real server behind fullnat is told of the client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAddress {
    #[default]
    None,
    /// By a TCP option.
    Toa,
    /// By a header of the PROXY protocol, version 2: in front of a connection's data, or of each datagram.
    ProxyV2,
}

/// What becomes of the established connections of a real server that is down or disabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDown {
    /// They go on as if it were up.
    Keep,
    /// TCP is told by a reset at the client's next packet; UDP is scheduled afresh.
    #[default]
    Reset,
    /// Both go on to another real server.
    Reschedule,
}

/// What becomes of an established TCP connection that has been silent for too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnIdle {
    /// It ends, and its ends hear of it when they send again.
    #[default]
    Silent,
    /// Both ends are told by a reset.
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenUnavailable {
    Refuse,
    Drop,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealConfig {
    pub address: IpAddr,
    /// 0 only in a service of several ports: the packet's own port stays.
    pub port: u16,
    /// 0 … 65,535; 0: no new connections.
    pub weight: u16,
    /// None: it may have any number of connections.
    pub thresholds: Option<Thresholds>,
    /// What its QUIC connection ids say, where the service has `quic`.
    pub server_id: Option<Box<ServerId>>,
}

//! `[limits]` and `[timeouts]`.

use super::Protocol;
use std::time::Duration;

/// The most real servers of all services together.
pub(crate) const MOST_REALS: usize = 1 << 22;

/// `[limits]`: what is reserved at start, and how often weir answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Connections in all, shared out evenly over the workers. Default 1,048,576.
    pub connections: usize,
    /// Datagrams in fragments that are remembered in all, shared out as connections are. Default 4,096.
    pub fragmented_datagrams: usize,
    /// Fragments that may wait for the first one of their datagram, likewise. Default 8,192.
    pub waiting_fragments: usize,
    /// Bytes of the frames that wait so, likewise. Default 16 MiB.
    pub waiting_fragment_bytes: usize,
    /// How long they wait. Default 10 s.
    pub fragment_timeout: Duration,
    /// Answers a second of each kind (RST, ICMP, ARP, neighbour advertisement) by each port. Default 1,000.
    pub answers_per_second: u32,
    /// Packets a second for the host itself that came in by one port. Default 10,000.
    pub host_packets_per_second: u32,
    /// Of host peers' routing protocols, besides and first. Default 10,000.
    pub host_peer_packets_per_second: u32,
}

/// `limits` of a service: what it takes at most. None: as much as there is room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Live connections of the service.
    pub connections: Option<u32>,
    /// New ones a second, with a second's worth at once.
    pub new_per_second: Option<u32>,
    /// The same of each client: an IPv4 address, or a /64.
    pub per_client_connections: Option<u32>,
    pub per_client_new_per_second: Option<u32>,
}

impl ServiceLimits {
    /// Each limit that is set, by its key.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let all = [
            ("connections", self.connections),
            ("new_per_second", self.new_per_second),
            ("per_client_connections", self.per_client_connections),
            ("per_client_new_per_second", self.per_client_new_per_second),
        ];
        all.into_iter().filter_map(|(key, most)| Some((key, most?)))
    }
}

/// `[timeouts]`: one field for each state; the names and defaults are those of the kernel's IPVS
/// (`tcp_timeouts`, `udp_timeouts` in `ip_vs_proto_tcp.c`, `ip_vs_proto_udp.c`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeoutsConfig {
    pub tcp_established: Duration,
    pub tcp_syn_sent: Duration,
    pub tcp_syn_recv: Duration,
    pub tcp_fin_wait: Duration,
    pub tcp_time_wait: Duration,
    pub tcp_close: Duration,
    pub tcp_close_wait: Duration,
    pub tcp_last_ack: Duration,
    pub tcp_listen: Duration,
    pub tcp_synack: Duration,
    pub udp: Duration,
    /// Of an SCTP association; those of its other states are the kernel's (`sctp_timeouts` in `ip_vs_proto_sctp.c`).
    pub sctp_established: Duration,
    /// In the place of `tcp_fin_wait` and `tcp_close_wait`: one side has closed, and the other may still send.
    pub tcp_half_closed: Option<Duration>,
    /// Of an echo through `[[snat]]`; IPVS has none.
    pub icmp: Duration,
}

impl Default for TimeoutsConfig {
    fn default() -> Self {
        TimeoutsConfig {
            tcp_established: Duration::from_secs(15 * 60),
            tcp_syn_sent: Duration::from_secs(2 * 60),
            tcp_syn_recv: Duration::from_secs(60),
            tcp_fin_wait: Duration::from_secs(2 * 60),
            tcp_time_wait: Duration::from_secs(2 * 60),
            tcp_close: Duration::from_secs(10),
            tcp_close_wait: Duration::from_secs(60),
            tcp_last_ack: Duration::from_secs(30),
            tcp_listen: Duration::from_secs(2 * 60),
            tcp_synack: Duration::from_secs(120),
            udp: Duration::from_secs(5 * 60),
            sctp_established: Duration::from_secs(15 * 60),
            tcp_half_closed: None,
            icmp: Duration::from_secs(30),
        }
    }
}

/// `timeouts` of a service or of a rule of `[[snat]]`: what it says itself, in the place of `[timeouts]`. Most services say nothing, and there may be
/// 100,000 of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnTimeouts(Vec<(&'static str, Duration)>);

impl OwnTimeouts {
    pub(super) fn new(given: impl IntoIterator<Item = (&'static str, Option<Duration>)>) -> Self {
        let given = given.into_iter();
        OwnTimeouts(
            given
                .filter_map(|(key, timeout)| Some((key, timeout?)))
                .collect(),
        )
    }

    /// Whether the service says nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What of it is of one protocol.
    pub fn of(&self, protocol: Protocol) -> OwnTimeouts {
        let given = self.given();
        OwnTimeouts(
            given
                .filter(|(key, _)| protocol_of_timeout(key) == protocol)
                .collect(),
        )
    }

    /// What it says, by key.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        self.0.iter().copied()
    }

    pub fn get(&self, key: &str) -> Option<Duration> {
        self.given()
            .find(|(own, _)| *own == key)
            .map(|(_, timeout)| timeout)
    }
}

/// The protocol that a timeout is for; `icmp` is no service's.
pub(super) fn protocol_of_timeout(key: &str) -> Protocol {
    match key {
        "udp" => Protocol::Udp,
        "sctp_established" => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

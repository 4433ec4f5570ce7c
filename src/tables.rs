//! What workers read: one immutable value, published by a pointer swap ([`crate::rcu`]).
//!
//! Cloning it copies a few pointers, and its maps are persistent, so a successor that differs in one service
//! is the same work whatever else there is. Neighbours are the exception: their addresses change by themselves,
//! so they are cells in a table beside it ([`crate::neighbour`]).

mod placement;
mod quic;
mod snat;
mod timing;
mod tunnels;

pub use placement::{Departed, Placement, Placements};
pub use quic::{Named, Quic};
pub use snat::{Snat, SnatRule};
pub use timing::{OwnTiming, Timing};
pub use tunnels::Tunnels;

use crate::admission::Guard;
use crate::config::{
    CheckAddresses, ClientAddress, HostPeer, OnDown, ReversePath, SchedulerConfig, SchedulerFlags,
    TcpMss, TunnelConfig, UnknownTcp, WhenUnavailable,
};
use crate::conn::{Address, Pool};
use crate::forward::Mode;
use crate::forward::tunnel::{OuterSources, Via};
use crate::lpm::Lpm;
use crate::neighbour::{LinkState, NeighbourTable};
use crate::net::{ByFamily, is_link_local};
use crate::rcu::map::{Key, Query, Snapshot, mix};
use crate::sched::{Cursor, Kind, Scheduler};
use crate::service::{Persistence, Real, Role, ServiceKey, Serving};
use crate::units::{Generation, HopId, PortId, ServiceId, WorkerId};
use crate::wire::Mac;
use crossbeam_utils::CachePadded;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

/// The routing table.
pub type Routes = Lpm<Route>;

#[derive(Clone)]
pub struct Tables {
    pub generation: Generation,
    /// Changes whenever a connection's remembered next hops may have become wrong.
    pub route_generation: u16,
    pub ports: Arc<[Port]>,
    /// Whose each address of weir's own is.
    pub addresses: Snapshot<IpAddr, Owner>,
    pub services: Snapshot<ServiceKey, Arc<Service>>,
    /// By the services of every port: first and last ports of the services of ranges, in their order. They do not overlap.
    pub ranges: Snapshot<ServiceKey, Arc<[(u16, u16)]>>,
    /// By real server as in [`ServiceKey`], whose port is 0 if it keeps the packet's: the nat services that it is or was
    /// of.
    pub natted: Snapshot<ServiceKey, Arc<Replies>>,
    /// Where the connections of services are, as far as it is not where RSS brings requests; also of removed services,
    /// until their connections are gone.
    pub placements: Snapshot<ServiceKey, Placements>,
    pub clients: ByFamily<Clients>,
    pub snat: Arc<Snat>,
    pub tunnels: Tunnels,
    /// How packets are wrapped for a real server's address.
    pub tunnel_ends: Snapshot<IpAddr, Arc<[TunnelConfig]>>,
    /// Whether a removed service has connections left.
    pub any_departed: bool,
    pub routes: Arc<Routes>,
    pub neighbours: Arc<NeighbourTable>,
    /// IPv6 addresses of weir's own, with their ports, that another host on the link has or may have: in their order.
    pub silent: Arc<[(PortId, IpAddr)]>,
    pub timing: Timing,
    /// Whether any service has `one_packet`.
    pub any_one_packet: bool,
    /// Whether a service has the protocol SCTP, or has had it: its associations outlive it.
    pub serves_sctp: bool,
    pub reverse_path: ReversePath,
    pub unknown_tcp: UnknownTcp,
    /// Of each kind, by each port.
    pub answers_per_second: u32,
    /// How long fragments wait for the first one of their datagram.
    pub fragment_timeout: Duration,
    /// By each port.
    pub host_packets_per_second: u32,
    pub host_peer_packets_per_second: u32,
    /// In the order of their addresses and ports.
    pub host_peers: Arc<[HostPeer]>,
    /// The way of health checks with `via = "service"`; none where there are none.
    pub checks: ByFamily<Option<Checks>>,
}

/// How health checks go that take the way of clients' packets. What they send is made and translated beside the workers, see
/// [`crate::via`]; here are their answers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// The port whose companion has the answers.
    pub port: PortId,
    /// What checks of nat services come from.
    pub source: IpAddr,
}

impl Tables {
    /// The service of a packet: the one of its port, else that of a range with its port, else the one of every port.
    #[inline]
    pub fn service<A: Copy>(&self, key: &ServiceKey<A>) -> Option<&Service>
    where
        ServiceKey<A>: Query<ServiceKey>,
    {
        let service = self.services.get(key).or_else(|| match key.port {
            0 => None,
            _ => {
                let range = match self.ranges.is_empty() {
                    true => None,
                    false => self.range(key).and_then(|range| self.services.get(&range)),
                };
                range.or_else(|| self.services.get(&key.every()))
            }
        });
        service.map(|service| &**service)
    }

    /// The key of the service of a range that a packet's port is in.
    #[inline(never)]
    pub fn range<A: Copy>(&self, key: &ServiceKey<A>) -> Option<ServiceKey<A>>
    where
        ServiceKey<A>: Query<ServiceKey>,
    {
        let ranges = self.ranges.get(&key.every())?;
        let behind = ranges.partition_point(|(first, _)| *first <= key.port);
        let (port, last) = *ranges.get(behind.checked_sub(1)?)?;
        (key.port <= last).then_some(ServiceKey { port, last, ..*key })
    }

    /// Whose the destination of a packet is, and its service.
    #[inline]
    pub fn target<A: Address>(&self, key: &ServiceKey<A>) -> Target<'_> {
        let service = self.service(key);
        let owner = match service {
            // Where a service is, nothing else is.
            Some(_) => Some(&Owner::Vip),
            None => self.addresses.get(&key.address),
        };
        Target { owner, service }
    }

    /// Whose an address is on a port's link: a link-local one may be the port's own here, and another host's elsewhere.
    #[inline]
    pub fn owner(&self, port: PortId, address: IpAddr) -> Option<Owner> {
        match is_link_local(address) {
            true => self.port(port).has(address).then_some(Owner::Port(port)),
            false => self.addresses.get(&address).copied(),
        }
    }

    #[inline]
    pub fn port(&self, id: PortId) -> &Port {
        &self.ports[id.index()]
    }

    /// Whether packets of `address` may come in by `port`: by the one that leads to it, or by any.
    pub fn is_way_to(&self, port: PortId, address: impl Into<IpAddr>) -> bool {
        match self.reverse_path {
            ReversePath::Strict => self
                .routes
                .get(address)
                .is_some_and(|route| route.port == port),
            ReversePath::Loose => true,
        }
    }

    /// Whether weir answers ARP or neighbour solicitations for `address` on `port`, and announces it there: the one rule for both.
    ///
    /// An address of a port is found on that port. A VIP or pool address is found where a subnet or `announce` of the
    /// port holds it. Where no port's does, one of IPv4 is found on the port by which a route leads to it, since that is where
    /// the router is that brings its packets; one of IPv6 on none.
    pub fn answers_for(&self, port: PortId, address: IpAddr) -> bool {
        self.is_home(port, address) && !self.is_silent(port, address)
    }

    /// Whether packets get to an address: a route leads there, and its next hop has not failed to answer.
    pub fn has_way(&self, address: IpAddr) -> bool {
        let Some(route) = self.routes.get(address) else {
            return false;
        };
        let hop = match route.gateway {
            Some((hop, _)) => Some(hop),
            None => self.neighbours.find(route.port, address),
        };
        let has_failed = |hop| self.neighbours.link(hop).state == LinkState::Failed;
        !self.neighbours.is_link_down(route.port) && !hop.is_some_and(has_failed)
    }

    /// Whether an address of weir's own is one that it keeps silent of on `port`: another host may have it.
    pub fn is_silent(&self, port: PortId, address: IpAddr) -> bool {
        !self.silent.is_empty() && self.silent.binary_search(&(port, address)).is_ok()
    }

    /// Whether `address` lies in a network beyond the ports' subnets that is weir's VIPs' and pools' alone.
    pub fn is_announced(&self, address: IpAddr) -> bool {
        let mut announced = self.ports.iter().flat_map(|port| port.announce.iter());
        announced.any(|net| net.contains(&address))
    }

    /// Whether weir [answers for](Self::answers_for) `address` on `port` as soon as no other host has it.
    pub fn is_home(&self, port: PortId, address: IpAddr) -> bool {
        match self.owner(port, address) {
            None | Some(Owner::Checks) => false,
            Some(Owner::Port(owner)) => owner == port,
            Some(Owner::Vip | Owner::Pool) => {
                self.port(port).holds(address)
                    || address.is_ipv4()
                        && !self.ports.iter().any(|other| other.holds(address))
                        && self
                            .routes
                            .get(address)
                            .is_some_and(|route| route.port == port)
            }
        }
    }

    /// Whether an address of weir's own is said to be a router's: a port's, whose host may forward. VIPs and pool addresses are
    /// hosts (RFC 4861 section 4.4, the R flag).
    pub fn is_routers(&self, port: PortId, address: IpAddr) -> bool {
        matches!(self.owner(port, address), Some(Owner::Port(_)))
    }

    /// The ports on which an address is [at home](Self::is_home).
    pub fn ports_for(&self, address: IpAddr) -> impl Iterator<Item = PortId> + '_ {
        let ports = (0..self.ports.len()).map(|n| PortId(n as u8));
        ports.filter(move |port| self.is_home(*port, address))
    }

    /// The address of a port to ask for `neighbour` from: in the subnet of that; and where another host may have it, the
    /// link-local one.
    pub fn source_for(&self, port: PortId, neighbour: IpAddr) -> Option<IpAddr> {
        let nets = self.port(port).addresses.iter();
        let in_subnet = nets.clone().filter(|net| net.contains(&neighbour));
        let link_local = nets.filter(|net| neighbour.is_ipv6() && is_link_local(net.addr()));
        let mut addresses = in_subnet.chain(link_local).map(IpNet::addr);
        addresses.find(|address| !self.is_silent(port, *address))
    }

    /// The address of a port that is told to a host beyond it: one in the host's subnet, else the first that is not only
    /// the link's.
    pub fn address_towards(&self, port: PortId, host: IpAddr) -> Option<IpAddr> {
        let addresses = self.port(port).addresses.iter();
        let own =
            |net: &&IpNet| net.addr().is_ipv6() == host.is_ipv6() && !is_link_local(net.addr());
        let mut own = addresses.filter(own);
        let in_subnet = own.clone().find(|net| net.contains(&host));
        in_subnet.or_else(|| own.next()).map(IpNet::addr)
    }

    /// The link-local address of a port; the unspecified one while it has none that is known to be its own.
    pub fn link_local(&self, port: PortId) -> Ipv6Addr {
        let addresses = self.port(port).addresses.iter().map(IpNet::addr);
        let mut own = addresses.filter(|address| !self.is_silent(port, *address));
        match own.find(|address| is_link_local(*address)) {
            Some(IpAddr::V6(address)) => address,
            _ => Ipv6Addr::UNSPECIFIED,
        }
    }

    /// Whether a MAC address is that of one of weir's ports.
    pub fn is_own_mac(&self, mac: Mac) -> bool {
        self.ports.iter().any(|port| port.mac == mac)
    }

    /// The port behind whose companion a health check waits for a packet, if the packet may be the answer to one: it goes to what nat
    /// services are checked from; or from a VIP to a port, as real servers of dr answer weir; or to a local pool's port that no
    /// client's connection has.
    #[cold]
    pub fn check_answer<A: Address>(
        &self,
        source: A,
        (destination, port): (A, u16),
    ) -> Option<PortId> {
        let checks = (*self.checks.of(destination.into()))?;
        let is_answer = match self.addresses.get(&destination)? {
            Owner::Checks => true,
            Owner::Port(_) => self.addresses.get(&source) == Some(&Owner::Vip),
            Owner::Pool => {
                let (first, last) = CheckAddresses::PORTS;
                (first..=last).contains(&port)
            }
            Owner::Vip => false,
        };
        is_answer.then_some(checks.port)
    }

    /// Whether no packet can be from `address`: one of weir's own, or the broadcast address of a port's subnet.
    pub fn is_bad_source<A: Address>(&self, address: A) -> bool {
        let mut ports = self.ports.iter();
        self.addresses.get(&address).is_some()
            || match address.into() {
                IpAddr::V4(address) => ports.any(|port| port.is_broadcast(address)),
                address if is_link_local(address) => ports.any(|port| port.has(address)),
                IpAddr::V6(_) => false,
            }
    }
}

/// One virtual service: immutable, replaced whole when it changes.
#[derive(Debug)]
pub struct Service {
    pub id: ServiceId,
    pub name: Arc<str>,
    pub key: ServiceKey,
    pub mode: &'static Mode,
    pub scheduler_kind: &'static Kind,
    pub scheduler: Box<dyn Scheduler>,
    pub flags: SchedulerFlags,
    /// The last of the configuration first, as in the kernel's list, which `ipvsadm` and keepalived add to at its
    /// head: schedulers walk it that way. Behind them the fallback servers, in the same order.
    pub reals: Box<[Real]>,
    /// How many of `reals` are no fallback servers.
    pub own_reals: usize,
    pub serving: Serving,
    /// With a mode that changes the source address.
    pub pool: Option<Arc<Pool>>,
    pub persistence: Option<Persistence>,
    pub when_unavailable: WhenUnavailable,
    /// None: as [`Tables::unknown_tcp`] says.
    pub unknown_tcp: Option<UnknownTcp>,
    pub tcp_mss: Option<TcpMss>,
    pub quic: Option<Arc<Quic>>,
    pub client_address: ClientAddress,
    /// How long its real servers take to answer is measured.
    pub is_timed: bool,
    /// And is shown as histograms.
    pub has_histograms: bool,
    pub on_down: OnDown,
    /// Every datagram is scheduled afresh, and no connection is kept.
    pub one_packet: bool,
    /// After which silence a UDP flow of a drained real server goes on to another one.
    pub on_drain: Option<Duration>,
    /// Of a mode that wraps or marks packets.
    pub via: Option<Via>,
    /// Whose new connections it takes. None: all.
    pub guard: Option<Arc<Guard>>,
    /// For each worker. Outlive every change of the service.
    pub cursors: Arc<[CachePadded<Cursor>]>,
}

/// Those of a service's servers, the fallback servers last, that new connections may go to.
#[inline]
pub fn choices(reals: &[Real], own: usize, serving: Serving) -> &[Real] {
    let (own, fallback) = reals.split_at(own.min(reals.len()));
    match serving {
        Serving::Fallback => fallback,
        Serving::Available | Serving::All | Serving::Refused => own,
    }
}

/// A nat service that a real server's replies may belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requests {
    pub service: ServiceKey,
    pub id: ServiceId,
}

/// What the replies of a nat real server may belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replies {
    pub services: Box<[Requests]>,
    /// The rules that the services' connections were made by, each once, with a service that it is of.
    pub placements: Box<[(Placement, ServiceKey)]>,
    /// As [`Placements::anywhere`], of one of the services.
    pub anywhere: bool,
}

/// What [`Placement::Client`] goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clients {
    /// Of new connections. None: by the client's address and port. A length: by so many first bits of its address alone,
    /// the fewest of all persistent nat services, since a template and its connections are on one worker.
    pub prefix: Option<u8>,
    /// By which older connections were placed; each is longer than the next.
    pub former: Arc<[Option<u8>]>,
}

impl Service {
    /// Whether its real servers are of the other family than its VIP: that of the local pool.
    #[inline]
    pub fn crosses(&self) -> bool {
        let local = self.pool.as_ref().and_then(|pool| pool.addresses.first());
        local.is_some_and(|local| local.is_ipv6() != self.key.address.is_ipv6())
    }

    /// Those that the scheduler chooses from, and was made of.
    #[inline]
    pub fn choices(&self) -> &[Real] {
        choices(&self.reals, self.own_reals, self.serving)
    }

    /// Its real servers without the fallback servers.
    pub fn own_reals(&self) -> &[Real] {
        &self.reals[..self.own_reals]
    }

    /// Its real servers and its fallback servers, in the order of the configuration.
    pub fn servers(&self) -> impl Iterator<Item = (&Real, Role)> {
        let (reals, fallback) = self.reals.split_at(self.own_reals);
        let reals = reals.iter().rev().map(|real| (real, Role::Real));
        let fallback = fallback.iter().rev();
        reals.chain(fallback.map(|real| (real, Role::Fallback)))
    }

    /// The scheduler's flags, as the configuration has them.
    pub fn flag_words(&self) -> impl Iterator<Item = &'static str> {
        let scheduler = SchedulerConfig::ALL
            .iter()
            .find(|scheduler| scheduler.name() == self.scheduler_kind.name);
        let words = scheduler.map(|scheduler| self.flags.words(*scheduler));
        words.into_iter().flatten()
    }

    /// What a worker remembers from one connection to the next.
    #[inline]
    pub fn cursor(&self, worker: WorkerId) -> &Cursor {
        &self.cursors[worker.index()]
    }
}

/// A `[[port]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub name: Arc<str>,
    pub mac: Mac,
    pub accepts: Accepts,
    pub mtu: u16,
    pub outer_sources: OuterSources,
    /// What routers on its link advertise is heeded.
    pub accepts_ra: bool,
    /// It sends packets between hosts on, as a router does, and takes them.
    pub forwards: bool,
    /// With nat, the source of clients in the subnet of their real server, of each family that the port has an address of.
    pub hairpin: ByFamily<Option<Arc<Pool>>>,
    /// The host behind it uses the port too.
    pub has_companion: bool,
    pub addresses: Box<[IpNet]>,
    /// The broadcast addresses of its subnets (RFC 3021: a /31 has none, and IPv6 knows no broadcast).
    pub broadcasts: Box<[Ipv4Addr]>,
    /// Networks beyond its subnets whose VIPs and pool addresses are found on it.
    pub announce: Box<[IpNet]>,
}

/// The destination MAC addresses that a port accepts, as what a frame's first word is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepts {
    mask: u64,
    value: u64,
}

impl Accepts {
    /// The address of a station.
    pub fn only(mac: Mac) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        Accepts {
            mask: u64::MAX >> 16,
            value: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
        }
    }

    /// Every station's: of a replay without `mac`, whose captures come from another machine.
    pub fn any() -> Self {
        // The group bit, which a station's address has not.
        Accepts { mask: 1, value: 0 }
    }

    /// Returns 0 if the port accepts a frame with these first eight bytes, first byte lowest.
    #[inline(always)]
    pub fn differs(self, start: u64) -> u64 {
        start & self.mask ^ self.value
    }

    /// Whether frames to any station are accepted.
    pub fn is_any(self) -> bool {
        self == Self::any()
    }
}

impl Port {
    /// Whether an address is one of the port's own.
    fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|net| net.addr() == address)
    }

    /// Whether `address` is the broadcast address of one of the port's subnets.
    #[inline]
    pub fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        let mut broadcasts = self.broadcasts.iter();
        broadcasts.any(|broadcast| broadcast.to_bits() == address.to_bits())
    }

    /// Whether one of the port's subnets, or of the networks in its `announce`, holds `address`.
    fn holds(&self, address: IpAddr) -> bool {
        let networks = self.addresses.iter().chain(&self.announce);
        networks.into_iter().any(|net| net.contains(&address))
    }

    /// Whether a host can have `address` in one of the port's subnets.
    pub fn is_host_on_link(&self, address: IpAddr) -> bool {
        let is_edge = |net: &IpNet| match net {
            IpNet::V4(net) if net.prefix_len() < 31 => {
                net.broadcast() == address || net.network() == address
            }
            // RFC 4291 section 2.6.1: the subnet's routers all have its first address. RFC 6164: a /127 has none such.
            IpNet::V6(net) if net.prefix_len() < 127 => net.network() == address,
            IpNet::V4(_) | IpNet::V6(_) => false,
        };
        self.is_on_link(address) && !self.addresses.iter().any(is_edge)
    }

    /// Whether `address` lies in one of the port's subnets.
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|net| net.contains(&address))
    }
}

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Vip,
    Port(PortId),
    Pool,
    /// Of health checks, see [`Checks::source`]. It is no host's on any link: only routers bring packets there.
    Checks,
}

/// What a packet's destination is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'t> {
    /// None: no address of weir's own.
    pub owner: Option<&'t Owner>,
    pub service: Option<&'t Service>,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub port: PortId,
    /// None: the destination itself is on the link.
    pub gateway: Option<(HopId, IpAddr)>,
}

impl Key for IpAddr {
    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        match self {
            IpAddr::V4(address) => address.key_hash(seed),
            IpAddr::V6(address) => address.key_hash(seed),
        }
    }
}

impl<A: Address> Query<IpAddr> for A {
    #[inline(always)]
    fn key_hash(&self, seed: u64) -> u64 {
        mix(self.word(), seed)
    }

    #[inline(always)]
    fn is(&self, key: &IpAddr) -> bool {
        A::of(*key).is_some_and(|key| key == *self)
    }
}

impl Key for ServiceKey {
    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        let (protocol, port, last) = (self.protocol, self.port, self.last);
        match self.address {
            IpAddr::V4(address) => ServiceKey {
                protocol,
                address,
                port,
                last,
            }
            .key_hash(seed),
            IpAddr::V6(address) => ServiceKey {
                protocol,
                address,
                port,
                last,
            }
            .key_hash(seed),
        }
    }
}

impl<A: Address> Query<ServiceKey> for ServiceKey<A> {
    #[inline(always)]
    fn key_hash(&self, seed: u64) -> u64 {
        let word = u64::from(self.protocol.number()) << 16 | u64::from(self.port);
        // Of a packet's key, which is what most are, this is nothing.
        let word = word ^ u64::from(self.last) << 24;
        mix(self.address.word().rotate_left(32) ^ word, seed)
    }

    #[inline(always)]
    fn is(&self, key: &ServiceKey) -> bool {
        self.address.is(&key.address)
            && (self.protocol, self.port, self.last) == (key.protocol, key.port, key.last)
    }
}

//! Whether a service takes a new connection of a client: what its `allow`, `deny` and `limits` say, and what is counted for
//! that.
//!
//! Asking changes nothing and taking is done when a connection is made, so that a packet that goes round the workers is counted
//! once. A client is an IPv4 address, or the /64 that one subscriber has all addresses of.

mod bucket;
mod clients;
mod offenders;

use crate::config::{ServiceConfig, ServiceLimits};
use crate::prefixes::PrefixSet;
use crate::stats::{Counter, Gauge};
use crate::units::{ServiceId, Time, WorkerId};
use crate::verdict::DropReason;
pub use clients::{ClientKey, Clients};
use crossbeam_utils::CachePadded;
pub use offenders::{Offender, Offenders};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

/// Why a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Denied,
    NotAllowed,
    Connections,
    New,
    ClientConnections,
    ClientNew,
}

impl Refusal {
    pub const ALL: [Refusal; 6] = [
        Refusal::Denied,
        Refusal::NotAllowed,
        Refusal::Connections,
        Refusal::New,
        Refusal::ClientConnections,
        Refusal::ClientNew,
    ];

    /// The key of the service that refuses.
    pub const fn name(self) -> &'static str {
        match self {
            Refusal::Denied => "deny",
            Refusal::NotAllowed => "allow",
            Refusal::Connections => "connections",
            Refusal::New => "new_per_second",
            Refusal::ClientConnections => "per_client_connections",
            Refusal::ClientNew => "per_client_new_per_second",
        }
    }

    pub const fn reason(self) -> DropReason {
        match self {
            Refusal::Denied => DropReason::Denied,
            Refusal::NotAllowed => DropReason::NotAllowed,
            Refusal::Connections => DropReason::LimitConnections,
            Refusal::New => DropReason::LimitNew,
            Refusal::ClientConnections => DropReason::LimitClientConnections,
            Refusal::ClientNew => DropReason::LimitClientNew,
        }
    }
}

/// A client as a number: its address, or the first half of one of IPv6. A service has clients of one family only.
pub fn client(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

/// The address of a client, and of IPv6 the first one of its /64.
pub fn client_address(client: u64, is_v6: bool) -> IpAddr {
    match is_v6 {
        true => Ipv6Addr::from_bits(u128::from(client) << 64).into(),
        false => Ipv4Addr::from_bits(client as u32).into(),
    }
}

/// What of the refusals and limits of a service outlives its changes.
#[derive(Debug)]
pub struct Tally {
    /// See [`bucket`].
    new: AtomicU64,
    workers: Box<[CachePadded<Share>]>,
}

/// What one worker counts.
#[derive(Debug, Default)]
pub struct Share {
    refused: [Counter; Refusal::ALL.len()],
    offenders: Offenders,
    /// Of a service with a limit of connections.
    pub recent: OnceLock<Recent>,
}

/// The connections that a worker made last of a service with a limit of them: the next to be given up if they are half-open.
#[derive(Debug)]
pub struct Recent {
    places: Box<[Gauge]>,
    /// How many were put in, and taken out.
    ends: [Gauge; 2],
}

/// A kilobyte for each worker and service.
const RECENT: usize = 256;

impl Default for Recent {
    fn default() -> Self {
        Recent {
            places: (0..RECENT).map(|_| Gauge::default()).collect(),
            ends: Default::default(),
        }
    }
}

impl Recent {
    /// Puts a connection in; the oldest makes room.
    pub fn put(&self, connection: u32) {
        let [put, taken] = self.ends.each_ref().map(Gauge::get);
        self.places[put as usize % RECENT].set(connection);
        self.ends[0].inc();
        if put.wrapping_sub(taken) as usize == RECENT {
            self.ends[1].inc();
        }
    }

    /// The oldest.
    pub fn oldest(&self) -> Option<u32> {
        let [put, taken] = self.ends.each_ref().map(Gauge::get);
        (put != taken).then(|| self.places[taken as usize % RECENT].get())
    }

    /// Takes the oldest out.
    pub fn forget_oldest(&self) {
        self.ends[1].inc();
    }
}

impl Tally {
    pub fn new(workers: usize) -> Self {
        Tally {
            new: AtomicU64::new(0),
            workers: (0..workers).map(|_| CachePadded::default()).collect(),
        }
    }

    pub fn share(&self, worker: WorkerId) -> &Share {
        &self.workers[worker.index()]
    }

    /// Packets that were refused, over all workers.
    pub fn refused(&self, why: Refusal) -> u64 {
        let workers = self.workers.iter();
        workers.map(|share| share.refused[why as usize].get()).sum()
    }

    /// See [`Offenders::most`].
    pub fn offenders(&self, now: Time) -> Vec<Offender> {
        let workers = self.workers.iter().map(|share| &share.offenders);
        Offenders::most(workers, now)
    }
}

impl Share {
    /// A packet was refused.
    #[cold]
    pub fn refuse(&self, why: Refusal, client: u64, now: Time) {
        self.refused[why as usize].add(1);
        self.offenders.note(client, true, now);
    }
}

/// What new connections of a service are asked before they are made. A service without any of its keys has none.
#[derive(Debug)]
pub struct Guard {
    /// Each is asked. Services that name the same file have one set of it.
    deny: Box<[Arc<PrefixSet>]>,
    /// None: all clients but those of `deny`.
    allow: Option<Box<[Arc<PrefixSet>]>>,
    pub limits: ServiceLimits,
    pub tally: Arc<Tally>,
    /// With limits per client.
    pub clients: Option<Arc<Clients>>,
}

impl Guard {
    /// Whether a service has one.
    pub fn is_wanted(service: &ServiceConfig) -> bool {
        service.allow.is_some() || service.deny.is_some() || service.limits.is_some()
    }

    /// Whether it counts clients.
    pub fn counts_clients(service: &ServiceConfig) -> bool {
        let limits = service.limits.unwrap_or_default();
        limits.per_client_connections.is_some() || limits.per_client_new_per_second.is_some()
    }

    /// `clients`: if the service [counts them](Self::counts_clients).
    pub fn new(service: &ServiceConfig, tally: Arc<Tally>, clients: Option<Arc<Clients>>) -> Self {
        if service.limits.is_some_and(|it| it.connections.is_some()) {
            for share in &tally.workers {
                share.recent.get_or_init(Recent::default);
            }
        }
        Guard {
            deny: service.deny.iter().flat_map(|list| list.sets()).collect(),
            allow: (service.allow.as_ref()).map(|list| list.sets().collect()),
            limits: service.limits.unwrap_or_default(),
            tally,
            clients,
        }
    }

    /// Why a client may have no connection; None: it may. `deny` is asked first: what it names is refused, whatever `allow`
    /// has.
    pub fn is_unwelcome(&self, client: IpAddr) -> Option<Refusal> {
        let is_in = |sets: &[Arc<PrefixSet>]| sets.iter().any(|set| set.contains(client));
        if is_in(&self.deny) {
            return Some(Refusal::Denied);
        }
        let is_allowed = self.allow.as_ref().is_none_or(|allow| is_in(allow));
        (!is_allowed).then_some(Refusal::NotAllowed)
    }

    /// Why a client may not begin a connection now, by the limits but that of the service's connections. The client's own
    /// come first, so that it uses up nothing of others.
    pub fn is_beyond(&self, service: ServiceId, client: u64, now: Time) -> Option<Refusal> {
        if let Some(clients) = &self.clients {
            let live = clients.live(clients.key(service, client));
            let most = self.limits.per_client_connections;
            if most.is_some_and(|most| live >= most) {
                return Some(Refusal::ClientConnections);
            }
        }
        self.is_too_fast(service, client, now)
    }

    /// Why a client may not begin a connection now in the place of one that is counted already: by the rates.
    pub fn is_too_fast(&self, service: ServiceId, client: u64, now: Time) -> Option<Refusal> {
        let limits = &self.limits;
        if let (Some(clients), Some(rate)) = (&self.clients, limits.per_client_new_per_second)
            && !clients.may_begin(clients.key(service, client), now, rate)
        {
            return Some(Refusal::ClientNew);
        }
        let is_over = |rate| !bucket::has_one(&self.tally.new, now, rate);
        (limits.new_per_second.is_some_and(is_over)).then_some(Refusal::New)
    }

    /// A client has begun a connection in the place of one that is counted already: the rates count it.
    pub fn begun_again(&self, service: ServiceId, client: u64, worker: WorkerId, now: Time) {
        if let Some(rate) = self.limits.new_per_second {
            bucket::take(&self.tally.new, now, rate);
        }
        self.tally.share(worker).offenders.note(client, false, now);
        if let (Some(clients), Some(rate)) = (&self.clients, self.limits.per_client_new_per_second)
        {
            clients.begin_again(clients.key(service, client), now, rate);
        }
    }

    /// A client has begun a connection on a worker. Returns the clients that it is counted among, to be told when it ends.
    pub fn begun(
        &self,
        service: ServiceId,
        client: u64,
        worker: WorkerId,
        now: Time,
    ) -> Option<&Arc<Clients>> {
        if let Some(rate) = self.limits.new_per_second {
            bucket::take(&self.tally.new, now, rate);
        }
        self.tally.share(worker).offenders.note(client, false, now);
        let clients = self.clients.as_ref()?;
        let rate = self.limits.per_client_new_per_second;
        clients.begin(clients.key(service, client), now, rate);
        Some(clients)
    }

    /// A client has a connection from before weir was restarted: no rate counts it. Returns the clients that it is counted among,
    /// to be told when it ends.
    pub fn had(&self, service: ServiceId, client: u64, now: Time) -> Option<&Arc<Clients>> {
        let clients = self.clients.as_ref()?;
        clients.begin(clients.key(service, client), now, None);
        Some(clients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_ipv6_is_its_64() {
        for (address, same, other, shown) in [
            ("203.0.113.7", "203.0.113.7", "203.0.113.8", "203.0.113.7"),
            (
                "2001:db8:7:1::9",
                "2001:db8:7:1:ffff::",
                "2001:db8:7:2::9",
                "2001:db8:7:1::",
            ),
        ] {
            let [address, same, other] =
                [address, same, other].map(|it| it.parse::<IpAddr>().unwrap());
            assert_eq!(client(address), client(same));
            assert_ne!(client(address), client(other));
            let is_v6 = address.is_ipv6();
            assert_eq!(client_address(client(address), is_v6).to_string(), shown);
        }
    }

    #[test]
    fn the_last_connections_are_taken_in_their_order() {
        let recent = Recent::default();
        let take = || recent.oldest().inspect(|_| recent.forget_oldest());
        assert_eq!(take(), None);
        (0..600).for_each(|n| recent.put(n));
        let taken: Vec<_> = std::iter::from_fn(take).collect();
        assert_eq!(taken, (600 - RECENT as u32..600).collect::<Vec<_>>());
        recent.put(7);
        assert_eq!((take(), take()), (Some(7), None));
    }
}

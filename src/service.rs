//! Virtual services and real servers: what they are known by.

mod availability;
mod condition;

use crate::config::{Protocol, Thresholds};
use crate::units::RealId;
pub use availability::{Availability, Member, Role, Serving};
pub use condition::{Admin, Condition, Health, Why};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What a virtual service is found by. Port 0: every port of the VIP. A worker looks for one by the address of a packet's
/// family, the tables have those of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey<A = IpAddr> {
    pub protocol: Protocol,
    pub address: A,
    pub port: u16,
    /// Of a service of a range, which begins with `port`: its last port. 0 of every other, and of a packet.
    pub last: u16,
}

impl<A> ServiceKey<A> {
    /// The service of another protocol in the same place.
    pub fn of(self, protocol: Protocol) -> Self {
        ServiceKey { protocol, ..self }
    }

    /// The service of every port of the same VIP.
    #[inline]
    pub fn every(self) -> Self {
        ServiceKey {
            port: 0,
            last: 0,
            ..self
        }
    }

    /// Whether packets to several ports are the service's, so that a reply does not tell the port that its request went to.
    #[inline]
    pub fn has_several(&self) -> bool {
        self.port == 0 || self.last != 0
    }

    /// Whether packets to a port are the service's.
    pub fn covers(&self, port: u16) -> bool {
        match (self.port, self.last) {
            (0, _) => true,
            (only, 0) => port == only,
            (first, last) => (first..=last).contains(&port),
        }
    }
}

impl std::fmt::Display for ServiceKey {
    /// `tcp:192.0.2.80:80`, `tcp:[2001:db8::80]:80` or `tcp:192.0.2.80:8000-8099`, as the commands take it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = SocketAddr::new(self.address, self.port);
        write!(f, "{}:{place}", self.protocol.name())?;
        match self.last {
            0 => Ok(()),
            last => write!(f, "-{last}"),
        }
    }
}

/// A text is no service's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoKey;

impl std::str::FromStr for ServiceKey {
    type Err = NoKey;

    /// As [`Display`](std::fmt::Display) writes it.
    fn from_str(text: &str) -> Result<Self, NoKey> {
        let (protocol, place) = text.split_once(':').ok_or(NoKey)?;
        let mut known = Protocol::ALL.into_iter();
        let (place, last) = match place.rsplit_once('-') {
            Some((place, last)) => (place, last.parse().map_err(|_| NoKey)?),
            None => (place, 0),
        };
        let place: SocketAddr = place.parse().map_err(|_| NoKey)?;
        if last != 0 && !(1..last).contains(&place.port()) || text.ends_with("-0") {
            return Err(NoKey);
        }
        Ok(ServiceKey {
            protocol: known.find(|known| known.name() == protocol).ok_or(NoKey)?,
            address: place.ip(),
            port: place.port(),
            last,
        })
    }
}

/// One real server of one virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Real {
    pub id: RealId,
    pub address: IpAddr,
    /// 0: the packet's own.
    pub port: u16,
    /// Its [effective weight](Condition::effective_weight); 0: no new connections.
    pub weight: u16,
    /// Its [weight](Condition::nominal_weight) while nothing takes that away: what its place among others goes by.
    pub nominal: u16,
    /// See [`Condition::is_available_of`].
    pub is_available: bool,
    /// See [`Condition::keeps_clients_of`].
    pub keeps_clients: bool,
    /// How many connections it may have.
    pub thresholds: Option<Thresholds>,
}

impl Real {
    /// The port that packets to a port of the service go on to.
    #[inline]
    pub fn port_for(&self, port: u16) -> u16 {
        match self.port {
            0 => port,
            own => own,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    pub timeout: Duration,
    /// How many of the first bits of a client's address count.
    pub prefix: u8,
    /// The client goes on to the real server that it is bound to while that is drained.
    pub through_drain: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written() {
        for text in [
            "tcp:192.0.2.80:80",
            "udp:192.0.2.80:0",
            "sctp:192.0.2.80:36412",
            "tcp:[2001:db8::80]:443",
            "udp:192.0.2.80:8000-8099",
            "tcp:[2001:db8::80]:1-65535",
        ] {
            let key: ServiceKey = text.parse().unwrap();
            assert_eq!(key.to_string(), text);
        }
        for text in [
            "tcp:2001:db8::80:443",
            "tcp:[2001:db8::80]",
            "dccp:192.0.2.80:80",
            "192.0.2.80:80",
            "tcp:192.0.2.80:80-80",
            "tcp:192.0.2.80:81-80",
            "tcp:192.0.2.80:80-0",
            "tcp:192.0.2.80:0-80",
            "tcp:192.0.2.80:80-",
            "tcp:192.0.2.80:80-65536",
        ] {
            assert_eq!(text.parse::<ServiceKey>(), Err(NoKey), "{text}");
        }
    }
}

//! By what rule the owner of a connection is found, among several workers.

use crate::service::ServiceKey;
use arrayvec::ArrayVec;

/// A rule that tells the worker of a service's connection with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placement {
    /// The worker that RSS brings the request to.
    Rss,
    /// The worker that RSS would bring the same client's request to another service to.
    RssOf(ServiceKey),
    /// By the client alone, see [`Clients`](super::Clients): services with a real server in common agree on the worker,
    /// and so do requests and replies of a service of every port.
    Client,
    /// By so many first bits of the client's address, and the VIP: connections are where the persistence template is.
    Template(u8),
}

/// Former rules that are told apart.
const FORMER: usize = 4;

/// The rules by which a service's connections were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placements {
    /// Of new connections.
    pub current: Placement,
    /// Where there may be older connections, of this service or of one that shares a real server with it.
    pub former: ArrayVec<Placement, FORMER>,
    /// There were more rules than [`former`](Self::former) has room for: any worker may have older connections.
    pub anywhere: bool,
}

impl Placements {
    pub fn new(current: Placement) -> Self {
        Placements {
            current,
            former: ArrayVec::new(),
            anywhere: false,
        }
    }

    /// Whether the service's connections are all where a service's are that nothing is known of.
    pub fn is_plain(&self) -> bool {
        *self == Placements::new(Placement::Rss)
    }

    /// Whether a connection may have been made by this rule.
    pub fn have(&self, rule: Placement) -> bool {
        self.current == rule || self.former.contains(&rule)
    }

    /// Makes new connections by another rule. `has_any`: whether connections may have been made by the present one.
    pub fn change(&mut self, rule: Placement, has_any: bool) {
        let before = std::mem::replace(&mut self.current, rule);
        self.former.retain(|former| *former != rule);
        if has_any {
            self.add_former(before);
        }
    }

    /// Adds a rule by which connections may have been made.
    pub fn add_former(&mut self, rule: Placement) {
        if !self.have(rule) && self.former.try_push(rule).is_err() {
            self.anywhere = true;
        }
    }

    /// Adds all rules of another service.
    pub fn add_all(&mut self, other: &Placements) {
        self.add_former(other.current);
        other.former.iter().for_each(|rule| self.add_former(*rule));
        self.anywhere |= other.anywhere;
    }
}

/// What [`Tables::placements`](super::Tables::placements) has the rules of removed services of ranges by.
pub struct Departed;

impl Departed {
    /// All of a protocol and VIP have one key: which is no service's.
    #[inline]
    pub fn of<A>(key: &ServiceKey<A>) -> ServiceKey<A>
    where
        A: Copy,
    {
        ServiceKey {
            port: 0,
            last: u16::MAX,
            ..*key
        }
    }
}

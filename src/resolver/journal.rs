//! What the log says of neighbours. Strangers choose how often something happens and to which addresses; so each line comes
//! through [`Reports`].

use crate::log::{Due, Reports, Said};
use crate::neighbour::LinkState;
use crate::tables::Tables;
use crate::units::{PortId, Time};
use crate::wire::Mac;
use std::net::IpAddr;

/// A host on a port's link.
pub(super) type Place = (PortId, IpAddr);

/// Hosts that are told apart in log lines about claims, and about next hops that the configuration needs.
const CLAIMED: usize = 16;
const NEEDED: usize = 64;

/// What an operator should know of.
#[derive(Debug)]
pub(super) struct Journal {
    /// Another host claims an address of weir's own; its MAC address.
    pub conflict: Reports<Place, Mac>,
    /// Another host claims the address of a neighbour, which still answers; the neighbour's MAC address.
    pub refuted: Reports<Place, Mac>,
    pub moved: Reports<Place, Moved>,
    pub reached: Reports<Place, Reached>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    pub from: Mac,
    pub to: Mac,
}

/// A next hop that the configuration needs has begun or ceased to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    pub before: LinkState,
    pub after: LinkState,
    /// Where it is, or was.
    pub mac: Mac,
}

/// What is to be said of next hops that the configuration needs.
pub type ReachedLines = Due<(PortId, IpAddr), Reached>;

impl Default for Journal {
    fn default() -> Self {
        Journal {
            conflict: Reports::new(CLAIMED),
            refuted: Reports::new(CLAIMED),
            moved: Reports::new(CLAIMED),
            reached: Reports::new(NEEDED),
        }
    }
}

impl Journal {
    /// Logs what is left to say. Next hops are reported by [`Resolver::take_reached`](super::Resolver::take_reached).
    pub(super) fn tick(&mut self, tables: &Tables, now: Time) {
        let due = self.conflict.tick(now);
        let lines = due.subjects.into_iter();
        lines.for_each(|(place, said)| conflict(tables, place, said));
        if due.others > 0 {
            tracing::warn!(
                claims = due.others,
                "other hosts claim still more addresses of weir's own"
            );
        }
        let due = self.refuted.tick(now);
        let lines = due.subjects.into_iter();
        lines.for_each(|(place, said)| refuted(tables, place, said));
        if due.others > 0 {
            tracing::warn!(
                claims = due.others,
                "other hosts claim the addresses of still more neighbours, which still answer"
            );
        }
        let due = self.moved.tick(now);
        let lines = due.subjects.into_iter();
        lines.for_each(|(place, said)| moved(tables, place, said));
        if due.others > 0 {
            tracing::info!(moves = due.others, "still more neighbours have moved");
        }
    }
}

pub(super) fn conflict(tables: &Tables, (port, address): Place, claims: Said<Mac>) {
    tracing::warn!(
        %address, mac = %claims.last, port = %tables.port(port).name, claims = claims.count,
        "another host claims an address of weir's own"
    );
}

pub(super) fn refuted(tables: &Tables, (port, address): Place, claims: Said<Mac>) {
    tracing::warn!(
        %address, mac = %claims.last, port = %tables.port(port).name, claims = claims.count,
        "another host claims the address of a neighbour, which still answers"
    );
}

pub(super) fn moved(tables: &Tables, (port, address): Place, moves: Said<Moved>) {
    tracing::info!(
        %address, port = %tables.port(port).name, from = %moves.first.from, to = %moves.last.to,
        moves = moves.count, "neighbour has moved"
    );
}

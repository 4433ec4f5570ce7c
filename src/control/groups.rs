//! Tells switches and routers to which groups a port listens, by multicast listener discovery (RFC 3810): those by which the
//! IPv6 addresses of weir's own are asked for. When an address is added or a link comes up, twice; and when a router asks.

use super::announce::{MAX_WAITING, Place};
use crate::exchange::{Groups, Mailbox, Order};
use crate::tables::Tables;
use crate::units::{PortId, Time};
use crate::wire::mld::{self, Record};
use crate::wire::ndisc::solicited_node;
use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Between the two reports of a change: the second comes when the port's link-local address is known to be free (RFC 3810
/// section 5.2.13).
const AGAIN: Duration = Duration::from_secs(2);
/// Answers to queries on a port are no nearer to each other: a router asks every two minutes.
const QUIET: Duration = Duration::from_secs(1);

/// By port: what is left to tell.
#[derive(Debug, Default)]
pub(super) struct Reports {
    ports: Vec<Port>,
    /// Spreads the answers to a query that many hosts hear.
    random: RandomState,
}

/// Each group stands here once, so that while a link is down the list is bounded by the groups that the port listens to.
#[derive(Clone, Debug, Default)]
struct Port {
    changed: BTreeSet<Ipv6Addr>,
    again: VecDeque<(Time, Vec<Ipv6Addr>)>,
    /// The time at which the pending query is answered.
    due: Option<Time>,
    asked: BTreeSet<Ipv6Addr>,
    answered: Option<Time>,
}

/// The groups of addresses on a port, each once, in their order.
pub(super) fn groups<'a>(places: impl Iterator<Item = &'a Place>, port: PortId) -> Vec<Ipv6Addr> {
    let group = |place: &Place| match place {
        (on, IpAddr::V6(address)) if *on == port => Some(solicited_node(*address)),
        _ => None,
    };
    let groups: BTreeSet<_> = places.filter_map(group).collect();
    groups.into_iter().collect()
}

impl Reports {
    fn port(&mut self, port: PortId) -> &mut Port {
        let ports = self.ports.len().max(port.index() + 1);
        self.ports.resize(ports, Port::default());
        &mut self.ports[port.index()]
    }

    /// A port listens to these groups from now on.
    pub(super) fn add(&mut self, port: PortId, groups: Vec<Ipv6Addr>, now: Time) {
        if !groups.is_empty() {
            let port = self.port(port);
            port.changed.extend(&groups);
            port.again.push_back((now + AGAIN, groups));
        }
    }

    /// Drops the reports due of groups that a port no longer listens to. `groups`: those of a port.
    pub(super) fn retain(&mut self, groups: impl Fn(PortId) -> Vec<Ipv6Addr>) {
        for (n, port) in self.ports.iter_mut().enumerate() {
            if port.changed.is_empty() && port.again.is_empty() && port.asked.is_empty() {
                continue;
            }
            let kept = groups(PortId(n as u8));
            let is_kept = |group: &Ipv6Addr| kept.binary_search(group).is_ok();
            port.changed.retain(is_kept);
            port.asked.retain(is_kept);
            for (_, groups) in &mut port.again {
                groups.retain(is_kept);
            }
        }
    }

    /// A router asks, and waits for at most `longest`: all of the port's groups are told at a random time until then (RFC 3810
    /// section 6.2), and what is asked meanwhile is answered with it. What a router asks of one group is answered by all.
    pub(super) fn asked(&mut self, port: PortId, longest: Duration, now: Time) {
        let part = self.random.hash_one((port, now.nanos())) % 1024;
        let port = self.port(port);
        let due = now + longest / 1024 * part as u32;
        let due = match port.answered {
            Some(answered) => due.max(answered + QUIET),
            None => due,
        };
        port.due = Some(port.due.map_or(due, |sooner| sooner.min(due)));
    }

    /// Orders what is due, as far as the worker keeps up, on ports whose links are up. `groups`: those of a port.
    pub(super) fn tick(
        &mut self,
        mailbox: &Mailbox,
        tables: &Tables,
        groups: impl Fn(PortId) -> Vec<Ipv6Addr>,
        is_up: impl Fn(PortId) -> bool,
        now: Time,
    ) {
        for (n, port) in self.ports.iter_mut().enumerate() {
            let id = PortId(n as u8);
            while port.again.front().is_some_and(|(due, _)| *due <= now) {
                let groups = port.again.pop_front().map(|(_, groups)| groups);
                port.changed.extend(groups.into_iter().flatten());
            }
            if !is_up(id) {
                continue;
            }
            if port.due.is_some_and(|due| due <= now) && port.asked.is_empty() {
                (port.due, port.answered) = (None, Some(now));
                port.asked.extend(groups(id));
            }
            let queues = [
                (&mut port.changed, Record::ToExclude),
                (&mut port.asked, Record::IsExclude),
            ];
            for (queue, record) in queues {
                while mailbox.orders.len() < MAX_WAITING && !queue.is_empty() {
                    let next = std::iter::from_fn(|| queue.pop_first());
                    let groups: Groups = next.take(mld::GROUPS).collect();
                    let order = Order::Report {
                        port: id,
                        source: tables.link_local(id),
                        record,
                        groups,
                    };
                    let _ = mailbox.orders.push(order);
                }
            }
        }
    }

    /// Whether there is more to tell now, as far as links are up.
    pub(super) fn is_busy(&self, is_up: impl Fn(PortId) -> bool) -> bool {
        let mut ports = self.ports.iter().enumerate();
        let is_left = |port: &Port| !port.changed.is_empty() || !port.asked.is_empty();
        ports.any(|(n, port)| is_left(port) && is_up(PortId(n as u8)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_query_is_answered_once_by_the_time_that_the_first_one_gives() {
        let mut delays = BTreeSet::new();
        for start in 0..200 {
            let mut reports = Reports::default();
            reports.asked(PortId(1), Duration::from_secs(10), at(start));
            let due = reports.ports[1].due.unwrap();
            assert!(due >= at(start) && due <= at(start + 10_000));
            delays.insert(due.since(at(start)));
            for n in 1..1000 {
                let longest = Duration::from_secs(n % 100);
                reports.asked(PortId(1), longest, at(start + n));
                assert!(reports.ports[1].due.unwrap() <= due, "never later");
            }
        }
        assert!(delays.len() > 100, "random: {delays:?}");
        // However often it is asked, an answer comes once a second.
        let mut reports = Reports::default();
        reports.port(PortId(0)).answered = Some(at(5000));
        reports.asked(PortId(0), Duration::ZERO, at(5001));
        assert_eq!(reports.ports[0].due, Some(at(6000)));
    }

    #[test]
    fn what_waits_for_a_link_is_bounded_by_what_the_port_listens_to() {
        let group = |n: u64| Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, n as u16);
        let mut reports = Reports::default();
        for n in 0..10_000 {
            let now = at(n * 10);
            let here = || vec![group(1), group(2 + n % 1000)];
            reports.retain(|_| here());
            reports.add(PortId(0), here(), now);
            // As `tick` does while the link is down.
            let port = &mut reports.ports[0];
            while port.again.front().is_some_and(|(due, _)| *due <= now) {
                let (_, groups) = port.again.pop_front().unwrap();
                port.changed.extend(groups);
            }
            assert!(port.changed.len() <= 2 && port.again.len() <= 201);
        }
    }
}

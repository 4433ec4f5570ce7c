//! Tells switches and routers to which groups a port listens, by multicast listener discovery (RFC 3810): those by which the
//! IPv6 addresses of weir's own are asked for. When an address is added or a link comes up, twice; and when a router asks.

use super::announce::{MAX_WAITING, Place};
use crate::exchange::{Mailbox, Order};
use crate::tables::Tables;
use crate::units::{PortId, Time};
use crate::wire::mld::{self, Record};
use crate::wire::ndisc::solicited_node;
use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Between the two reports of a change: the second comes when the port's link-local address is known to be free (RFC 3810
/// section 5.2.13).
const AGAIN: Duration = Duration::from_secs(2);
/// Answers to queries on a port are no nearer to each other: a router asks every two minutes.
const QUIET: Duration = Duration::from_secs(1);

/// By port: what is left to tell.
#[derive(Debug, Default)]
pub struct Reports {
    ports: Vec<Port>,
}

#[derive(Clone, Debug, Default)]
struct Port {
    changed: VecDeque<Ipv6Addr>,
    again: VecDeque<(Time, Vec<Ipv6Addr>)>,
    asked: VecDeque<Ipv6Addr>,
    answered: Option<Time>,
}

/// The groups of addresses on a port, each once, in their order.
pub fn groups<'a>(places: impl Iterator<Item = &'a Place>, port: PortId) -> Vec<Ipv6Addr> {
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
    pub fn add(&mut self, port: PortId, groups: Vec<Ipv6Addr>, now: Time) {
        if !groups.is_empty() {
            let port = self.port(port);
            port.changed.extend(&groups);
            port.again.push_back((now + AGAIN, groups));
        }
    }

    /// A router asks: all of the port's groups are told. What a router asks of one group is answered by all.
    pub fn asked(&mut self, port: PortId, groups: impl FnOnce() -> Vec<Ipv6Addr>, now: Time) {
        let port = self.port(port);
        let is_soon = |answered| now.since(answered) < QUIET;
        if port.asked.is_empty() && !port.answered.is_some_and(is_soon) {
            port.answered = Some(now);
            port.asked.extend(groups());
        }
    }

    /// Orders what is due, as far as the worker keeps up, on ports whose links are up.
    pub fn tick(
        &mut self,
        mailbox: &Mailbox,
        tables: &Tables,
        is_up: impl Fn(PortId) -> bool,
        now: Time,
    ) {
        for (n, port) in self.ports.iter_mut().enumerate() {
            let id = PortId(n as u8);
            if !is_up(id) {
                continue;
            }
            while port.again.front().is_some_and(|(due, _)| *due <= now) {
                let groups = port.again.pop_front().map(|(_, groups)| groups);
                port.changed.extend(groups.into_iter().flatten());
            }
            let queues = [
                (&mut port.changed, Record::ToExclude),
                (&mut port.asked, Record::IsExclude),
            ];
            for (queue, record) in queues {
                while mailbox.orders.len() < MAX_WAITING && !queue.is_empty() {
                    let count = queue.len().min(mld::GROUPS);
                    let order = Order::Report {
                        port: id,
                        source: tables.link_local(id),
                        record,
                        groups: queue.drain(..count).collect(),
                    };
                    let _ = mailbox.orders.push(order);
                }
            }
        }
    }

    /// Whether there is more to tell now, as far as links are up.
    pub fn is_busy(&self, is_up: impl Fn(PortId) -> bool) -> bool {
        let mut ports = self.ports.iter().enumerate();
        let is_left = |port: &Port| !port.changed.is_empty() || !port.asked.is_empty();
        ports.any(|(n, port)| is_left(port) && is_up(PortId(n as u8)))
    }
}

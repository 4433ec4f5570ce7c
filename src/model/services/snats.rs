//! Follows the rules of `[[snat]]`: each has the ids of a service and a real server, by which its connections are counted.

use super::registry::Registry;
use super::timings::Timings;
use crate::config::{Config, Protocol, SnatConfig};
use crate::conn::Pool;
use crate::service::ServiceKey;
use crate::stats::{Established, Stats};
use crate::tables::{Snat, SnatRule};
use crate::units::PortId;
use foldhash::HashMap;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// In the place of a VIP: a group's address, which no service can have (RFC 4291 section 2.7: prefix and scope are reserved).
const NOWHERE: u128 = 0xff00 << 112;

#[derive(Default)]
pub(in crate::model) struct Snats {
    /// Of every rule that there ever was: one that comes back has its connections again.
    keys: HashMap<IpNet, ServiceKey>,
    tables: Arc<Snat>,
}

impl Snats {
    pub(super) fn tables(&self) -> Arc<Snat> {
        self.tables.clone()
    }

    /// The network of a rule's key.
    pub(super) fn network(&self, key: &ServiceKey) -> Option<IpNet> {
        let mut keys = self.keys.iter();
        Some(*keys.find(|(_, known)| *known == key)?.0)
    }

    /// Goes from one configuration to another.
    pub(super) fn follow(
        &mut self,
        old: &Config,
        new: &Config,
        pools: &HashMap<String, Arc<Pool>>,
        registry: &mut Registry,
        timings: &mut Timings,
        stats: &Stats,
    ) {
        let stays = |rule: &&SnatConfig| new.snat.iter().any(|other| other.from == rule.from);
        for rule in old.snat.iter().filter(|rule| !stays(rule)) {
            if let Some(key) = self.keys.get(&rule.from) {
                registry.retire(stats, key);
            }
        }
        let rules = new.snat.iter().filter_map(|rule| {
            let pool = pools.get(&rule.pool)?.clone();
            let number = self.keys.len() as u128;
            let key = *self.keys.entry(rule.from).or_insert_with(|| ServiceKey {
                protocol: Protocol::Udp,
                address: IpAddr::V6(Ipv6Addr::from_bits(NOWHERE | number)),
                port: 0,
                last: 0,
            });
            let (service, real) = registry.put_outward(key, &name(rule.from), stats);
            stats.ensure_pairs(real);
            timings.put_own(&rule.timeouts, false, [real].into_iter());
            let out_port = rule.out_port.map(|place| PortId(place as u8));
            let reply_ports = out_port.map_or(u16::MAX, |port| 1 << port.0);
            stats.tell(real, |told| {
                let standing = &told.standing;
                standing.set(service, true, false, false, Established::GoOn, reply_ports);
            });
            Some(SnatRule {
                service,
                real,
                from: rule.from,
                pool,
                out_port,
            })
        });
        self.tables = Arc::new(Snat::new(rules.collect()));
    }
}

/// What the connections of a rule have in the place of a service's name.
fn name(from: IpNet) -> String {
    format!("snat:{from}")
}

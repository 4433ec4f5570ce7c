//! Hands out the ids of services, close together: they are places among the workers' counters.

use crate::service::ServiceKey;
use crate::stats::Stats;
use crate::units::ServiceId;
use foldhash::HashSet;

#[derive(Default)]
pub(super) struct ServiceIds {
    /// Which service each id is.
    keys: Vec<Option<ServiceKey>>,
    /// No service's any longer, but older tables may name them.
    released: Vec<ServiceId>,
    free: Vec<ServiceId>,
    /// Services that are configured no longer; their real servers may have connections left.
    pub(super) departed: HashSet<ServiceKey>,
}

impl ServiceIds {
    /// An id with its counters in place.
    pub(super) fn allocate(&mut self, stats: &Stats, key: ServiceKey) -> ServiceId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.keys.push(None);
            ServiceId((self.keys.len() - 1) as u32)
        });
        self.keys[id.index()] = Some(key);
        stats.ensure_service(id);
        id
    }

    /// The service of an id: also one that is configured no longer, while it has connections.
    pub(super) fn key(&self, id: ServiceId) -> Option<&ServiceKey> {
        self.keys.get(id.index())?.as_ref()
    }

    /// The service has no connections any longer.
    pub(super) fn release(&mut self, id: ServiceId, key: &ServiceKey) {
        self.departed.remove(key);
        self.keys[id.index()] = None;
        self.released.push(id);
    }

    /// No worker reads tables from before a release: the ids may be given to other services.
    pub(super) fn reuse_released(&mut self) {
        self.free.append(&mut self.released);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Protocol;
    use std::net::IpAddr;

    fn key(port: u16) -> ServiceKey {
        ServiceKey {
            protocol: Protocol::Tcp,
            address: IpAddr::from([192, 0, 2, 80]),
            port,
            last: 0,
        }
    }

    #[test]
    fn ids_stay_close_together_and_none_is_given_away_while_old_tables_may_name_it() {
        let stats = Stats::new(2).unwrap();
        let mut ids = ServiceIds::default();
        let given: Vec<_> = (0..3).map(|n| ids.allocate(&stats, key(n)).0).collect();
        assert_eq!(given, [0, 1, 2]);
        ids.departed.insert(key(1));
        ids.release(ServiceId(1), &key(1));
        assert!(ids.departed.is_empty());
        assert_eq!(ids.key(ServiceId(1)), None);
        assert_eq!(ids.allocate(&stats, key(3)), ServiceId(3));
        ids.reuse_released();
        assert_eq!(ids.allocate(&stats, key(4)), ServiceId(1));
        assert_eq!(ids.key(ServiceId(1)), Some(&key(4)));
        assert!(
            stats
                .workers()
                .all(|worker| worker.services.get(3).is_some())
        );
    }
}

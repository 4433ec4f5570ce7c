//! Which real servers' connections have timeouts of their own: those of services and rules of `[[snat]]` that say so, until the last connection is gone.

use crate::config::{OnIdle, OwnTimeouts, ServiceConfig};
use crate::conn::own_timeout;
use crate::rcu::map::Map;
use crate::tables::{OwnTiming, Timing};
use crate::units::RealId;
use foldhash::HashMap;
use std::sync::Arc;

pub(super) struct Timings {
    own: Map<RealId, Arc<OwnTiming>>,
    /// How many real servers have each.
    different: HashMap<Arc<OwnTiming>, usize>,
    is_other: bool,
}

impl Timings {
    pub(super) fn new(seed: u64) -> Self {
        Timings {
            own: Map::new(seed),
            different: HashMap::default(),
            is_other: false,
        }
    }

    /// Follows the real servers of a service.
    pub(super) fn put(&mut self, service: &ServiceConfig, reals: impl Iterator<Item = RealId>) {
        self.put_own(&service.timeouts, service.on_idle == OnIdle::Reset, reals);
    }

    /// Follows what is said of the connections of some real servers.
    pub(super) fn put_own(
        &mut self,
        timeouts: &OwnTimeouts,
        resets_idle: bool,
        reals: impl Iterator<Item = RealId>,
    ) {
        let own = (!timeouts.is_empty() || resets_idle).then(|| {
            Arc::new(OwnTiming::new(
                |state| own_timeout(timeouts, state),
                resets_idle,
            ))
        });
        for real in reals {
            self.set(real, own.as_ref());
        }
    }

    /// A real server has no connections left.
    pub(super) fn forget(&mut self, real: RealId) {
        self.set(real, None);
    }

    fn set(&mut self, real: RealId, own: Option<&Arc<OwnTiming>>) {
        let before = self.own.get(&real).cloned();
        if before.as_ref() == own {
            return;
        }
        self.is_other = true;
        if let Some(own) = own {
            *self.different.entry(own.clone()).or_default() += 1;
            self.own.insert(real, own.clone());
        } else {
            self.own.remove(&real);
        }
        if let Some(before) = before
            && let Some(count) = self.different.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                self.different.remove(&before);
            }
        }
    }

    pub(super) fn freeze(&mut self, timing: &mut Timing) {
        if std::mem::take(&mut self.is_other) {
            let different = self.different.keys().cloned().collect();
            timing.set_own(self.own.freeze(), different);
        }
    }
}

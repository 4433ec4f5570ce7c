//! Owns what is remembered of real servers whose clients' connections are watched: what was seen last, and which are held.

use super::configured::At;
use super::{Held, Services};
use crate::config::PassiveConfig;
use crate::health::{Ruling, Tally, Watch};
use crate::model::reach::why_no_way;
use crate::service::ServiceKey;
use crate::stats::{Failure, Seen, Stats};
use crate::tables::Tables;
use crate::units::{RealId, Time};
use foldhash::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at what workers have seen.
const PAUSE: Duration = Duration::from_millis(100);
/// So many looks go round all real servers while nothing fails.
const ROUND: usize = 10;
/// The most real servers that are looked at in one go.
const MOST: usize = 1 << 16;

#[derive(Default)]
pub(super) struct Watches {
    reals: BTreeMap<RealId, Watched>,
    by_service: HashMap<ServiceKey, Vec<RealId>>,
    /// Those that are held, by the end of it.
    held: BTreeSet<(Time, RealId)>,
    /// The last one that was looked at.
    last: Option<RealId>,
    looked_at: Time,
    /// Failures of all when a round was begun because of them, and how many are left of it.
    failures: u64,
    left: usize,
    /// A real server has recent failures that are not judged yet: the next look must not wait, so that its answers are counted too.
    has_doubts: bool,
    /// How often one was held.
    holds: u64,
}

struct Watched {
    key: ServiceKey,
    at: At,
    watch: Watch,
    seen: Seen,
    /// What was seen since it is in doubt.
    doubts: Seen,
}

/// What has become of a real server by its clients' connections.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::model) struct Passed {
    pub key: ServiceKey,
    pub at: At,
    pub outcome: Outcome,
    /// What speaks against it, in words.
    pub reason: Arc<str>,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::model) enum Outcome {
    /// It gets no new connections for so long.
    Held(Duration),
    /// It would be held, but there is no other one.
    Spared,
    /// It gets new connections again.
    Back,
    /// The same, before its time: there is no other one any longer.
    Needed,
}

impl Watches {
    /// Watches these real servers of a service and no others of it.
    pub(super) fn put(
        &mut self,
        key: ServiceKey,
        config: PassiveConfig,
        reals: impl Iterator<Item = (RealId, At)>,
        stats: &Stats,
        now: Time,
    ) {
        let reals: Vec<_> = reals.collect();
        let ids: Vec<_> = reals.iter().map(|(id, _)| *id).collect();
        let before = self.by_service.insert(key, ids.clone());
        for id in before.into_iter().flatten() {
            if !ids.contains(&id) {
                self.forget(id);
            }
        }
        for (id, at) in reals {
            let fresh = || {
                stats.ensure_signs(id);
                Watched {
                    key,
                    at,
                    watch: Watch::new(config, now),
                    seen: stats.seen(id),
                    doubts: Seen::default(),
                }
            };
            let watched = self.reals.entry(id).or_insert_with(fresh);
            watched.watch.set_config(config, now);
        }
    }

    /// Watches no real server of a service.
    pub(super) fn remove(&mut self, key: &ServiceKey) {
        let ids = self.by_service.remove(key);
        ids.into_iter().flatten().for_each(|id| self.forget(id));
    }

    fn forget(&mut self, id: RealId) {
        let watched = self.reals.remove(&id);
        if let Some(until) = watched.and_then(|watched| watched.watch.held_until()) {
            self.held.remove(&(until, id));
        }
    }

    /// Ends a hold.
    fn release(&mut self, until: Time, id: RealId) -> Option<(ServiceKey, At)> {
        self.held.remove(&(until, id));
        let watched = self.reals.get_mut(&id)?;
        watched.watch.release();
        Some((watched.key, watched.at))
    }

    /// The real servers to be looked at now.
    fn due(&mut self, failures: u64) -> Vec<RealId> {
        if failures != self.failures || self.has_doubts {
            self.failures = failures;
            self.has_doubts = false;
            self.left = self.reals.len();
        }
        let usual = self.reals.len().div_ceil(ROUND);
        let count = self.left.max(usual).min(MOST);
        self.left = self.left.saturating_sub(count);
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.reals.range((after, Bound::Unbounded));
        let all = behind.chain(&self.reals).take(self.reals.len());
        let due: Vec<_> = all.map(|(id, _)| *id).take(count).collect();
        self.last = due.last().copied();
        due
    }
}

impl Services {
    /// How many real servers are held, and how often one was.
    pub(in crate::model) fn holds(&self) -> (u64, u64) {
        let watches = &self.indexes.watches;
        (watches.held.len() as u64, watches.holds)
    }

    /// The real servers that are held, of one service only if it is named, and how long each has been.
    pub(in crate::model) fn held(
        &self,
        only: Option<&ServiceKey>,
        now: Time,
    ) -> Vec<(ServiceKey, At, PassiveConfig, Duration)> {
        let watches = &self.indexes.watches;
        let all = watches.held.iter().filter_map(|(until, id)| {
            let Watched { key, at, watch, .. } = watches.reals.get(id)?;
            let config = watch.config();
            let since = config.hold.saturating_sub(until.since(now));
            Some((*key, *at, config, since))
        });
        let mut all: Vec<_> = all
            .filter(|(key, ..)| only.is_none_or(|it| it == key))
            .collect();
        all.sort_unstable_by_key(|(key, at, ..)| (*key, *at));
        all
    }

    /// When a hold ends next.
    pub(in crate::model) fn next_release(&self) -> Option<Time> {
        self.indexes.watches.held.first().map(|(until, _)| *until)
    }

    /// Takes in what workers have seen of clients' connections. Returns what has become of real servers by it: there is
    /// something to publish then.
    pub(in crate::model) fn watch(&mut self, tables: &Tables, now: Time) -> Vec<Passed> {
        let mut passed = Vec::new();
        if self.indexes.watches.reals.is_empty() {
            return passed;
        }
        while let Some(&(until, id)) = self.indexes.watches.held.first()
            && until <= now
        {
            self.release(until, id, Outcome::Back, &mut passed);
        }
        if now.since(self.indexes.watches.looked_at) < PAUSE {
            return passed;
        }
        self.indexes.watches.looked_at = now;
        self.spare_the_last(tables, &mut passed);
        let stats = self.around.stats.clone();
        let failures = Failure::ALL.map(|kind| stats.total(|it| it.failures[kind as usize].get()));
        for id in self.indexes.watches.due(failures.iter().sum()) {
            self.look_at(id, &stats, tables, now, &mut passed);
        }
        passed
    }

    fn look_at(
        &mut self,
        id: RealId,
        stats: &Stats,
        tables: &Tables,
        now: Time,
        passed: &mut Vec<Passed>,
    ) {
        let Some(watched) = self.indexes.watches.reals.get_mut(&id) else {
            return;
        };
        let seen = stats.seen(id);
        let since = seen.since(std::mem::replace(&mut watched.seen, seen));
        let tally = Tally {
            answered: since.answered.into(),
            failed: since.failed(),
        };
        let doubts = match watched.watch.is_in_doubt() {
            true => watched.doubts + since,
            false => since,
        };
        watched.doubts = doubts;
        let (key, at) = (watched.key, watched.at);
        let running = self.indexes.running.get(&key).cloned();
        // Without it the service has another one, and as many as it asks for.
        let availability = self.indexes.registry.availability(&key);
        let is_above = availability.is_none_or(|it| it.available > it.needed);
        let has_other = || {
            let reals = running.iter().flat_map(|service| service.own_reals());
            let mut open = reals.filter(|real| real.id != id && real.weight > 0);
            is_above && open.any(|real| why_no_way(tables, real.address).is_none())
        };
        let ruling = watched.watch.note(tally, now, has_other);
        self.indexes.watches.has_doubts |= watched.watch.is_in_doubt();
        let (outcome, why) = match ruling {
            None => return,
            Some(Ruling::Spared(why)) => (Outcome::Spared, why),
            Some(Ruling::Held { until, why }) => {
                self.indexes.watches.held.insert((until, id));
                self.indexes.watches.holds += 1;
                let held = Held {
                    reason: words(why, doubts),
                    until,
                };
                self.set_held(&key, at, Some(held));
                (Outcome::Held(until.since(now)), why)
            }
        };
        let reason = words(why, doubts);
        passed.push(Passed {
            key,
            at,
            outcome,
            reason,
        });
    }

    /// Ends the holds of services that have no other available real server any longer.
    fn spare_the_last(&mut self, tables: &Tables, passed: &mut Vec<Passed>) {
        let watches = &self.indexes.watches;
        let held: Vec<_> = watches.held.iter().copied().collect();
        for (until, id) in held {
            let Some(watched) = self.indexes.watches.reals.get(&id) else {
                continue;
            };
            let running = self.indexes.running.get(&watched.key);
            let is_served = running.is_some_and(|service| {
                let mut open = service.own_reals().iter().filter(|real| real.weight > 0);
                open.any(|real| why_no_way(tables, real.address).is_none())
            });
            if !is_served {
                self.release(until, id, Outcome::Needed, passed);
            }
        }
    }

    fn release(&mut self, until: Time, id: RealId, outcome: Outcome, passed: &mut Vec<Passed>) {
        if let Some((key, at)) = self.indexes.watches.release(until, id) {
            self.set_held(&key, at, None);
            let reason = Arc::default();
            passed.push(Passed {
                key,
                at,
                outcome,
                reason,
            });
        }
    }

    fn set_held(&mut self, key: &ServiceKey, at: At, held: Option<Held>) {
        let Ok((id, configured)) = self.find_real(key, at) else {
            return;
        };
        let states = &mut self.indexes.registry.states;
        states.set_held(id, configured, held);
        self.reweigh(key);
    }
}

/// `7 of 9 new connections failed: refused, no answer to SYNs`
fn words(why: Tally, doubts: Seen) -> Arc<str> {
    let kinds = Failure::ALL.into_iter().zip(doubts.failures);
    let kinds = kinds.filter(|(_, count)| *count > 0);
    let kinds: Vec<_> = kinds
        .map(|(kind, _)| match kind {
            Failure::Refused => "refused",
            Failure::NoSynAck => "no answer to SYNs",
            Failure::NoAnswer => "no answer to datagrams",
            Failure::Unreachable => "ICMP unreachable",
        })
        .collect();
    let all = why.answered + why.failed;
    let kinds = kinds.join(", ");
    format!("{} of {all} new connections failed: {kinds}", why.failed).into()
}

//! Remote addresses and ports towards which a rule of `[[snat]]` has no pair free, or none for some inside host: they are not
//! searched for at every packet.

use super::fragment_id::mix;
use crate::conn::Address;
use crate::conn::local_port::Pair;
use crate::units::{Millis, RealId};

/// So long nothing is looked for, but the pair of a connection to there that ends.
const REST_MS: u32 = 1000;
const MARKS: usize = 1024;

#[derive(Clone, Copy)]
struct Mark<A> {
    remote: u64,
    /// When the last search was in vain; never 0, which stands for "none was".
    since: u32,
    /// What a connection has left since.
    left: Option<Pair<A>>,
}

/// What one worker knows of them: of two that meet in a place, the later one.
pub(super) struct Exhausted<A>(Box<[Mark<A>]>);

/// A rule and a remote address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remote(u64);

impl Remote {
    /// `hash`: of the remote address, port and protocol, with a secret of this run.
    pub(super) fn new(rule: RealId, hash: u64) -> Self {
        Remote(mix(hash ^ mix(u64::from(rule.0) + 1)))
    }

    /// The same for one inside host, which holds more than its share of the pairs. `hash`: of its address.
    pub(super) fn of_host(self, hash: u64) -> Self {
        Remote(mix(self.0 ^ hash))
    }
}

impl<A: Address> Exhausted<A> {
    pub(super) fn new() -> Self {
        let none = Mark {
            remote: 0,
            since: 0,
            left: None,
        };
        Exhausted(vec![none; MARKS].into())
    }

    /// A search was in vain.
    pub(super) fn note(&mut self, Remote(remote): Remote, now: Millis) {
        self.0[remote as usize % MARKS] = Mark {
            remote,
            since: now.0.max(1),
            left: None,
        };
    }

    /// A connection to there is over, and has left its pair.
    pub(super) fn leave(&mut self, Remote(remote): Remote, pair: Pair<A>) {
        let mark = &mut self.0[remote as usize % MARKS];
        if mark.remote == remote {
            mark.left = Some(pair);
        }
    }

    /// Whether nothing is looked for but the pair that was left last, which is told once.
    pub(super) fn rests(&mut self, Remote(remote): Remote, now: Millis) -> Option<Option<Pair<A>>> {
        let mark = &mut self.0[remote as usize % MARKS];
        let rests = mark.remote == remote && is_recent(mark.since, now);
        rests.then(|| mark.left.take())
    }
}

/// Whether a search in vain at this time, 0 if there was none, is one to rest after.
pub(super) fn is_recent(since: u32, now: Millis) -> bool {
    since != 0 && now.since(Millis(since)) < REST_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::net::Ipv4Addr;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        InVain,
        Left(u16),
        Asked,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::InVain),
            any::<u16>().prop_map(Step::Left),
            Just(Step::Asked)
        ]
    }

    proptest! {
        /// What was searched in vain within the last second rests, and nothing else; what was left meanwhile is told once.
        #[test]
        fn only_what_was_searched_in_vain_rests_and_not_for_long(steps in prop::collection::vec((0u32..8, step(), 0u32..400), 1..200)) {
            let mut exhausted = Exhausted::new();
            let mut model: HashMap<u32, (u32, Option<u16>)> = HashMap::new();
            let mut now = 1;
            for (n, step, later) in steps {
                now += later;
                let hash = u64::from(n / 2).wrapping_mul(0x5851_f42d_4c95_7f2d);
                let remote = Remote::new(RealId(n % 2), hash);
                match step {
                    Step::InVain => {
                        exhausted.note(remote, Millis(now));
                        model.insert(n, (now, None));
                    }
                    Step::Left(port) => {
                        exhausted.leave(remote, (Ipv4Addr::UNSPECIFIED, port));
                        model.entry(n).and_modify(|(_, left)| *left = Some(port));
                    }
                    Step::Asked => {
                        let mark = model.get_mut(&n).filter(|(since, _)| now - since < REST_MS);
                        let expected = mark.map(|(_, left)| left.take());
                        let rests = exhausted.rests(remote, Millis(now));
                        prop_assert_eq!(rests.map(|left| left.map(|(_, port)| port)), expected);
                    }
                }
            }
        }
    }
}

//! How long connections may be silent: as `[timeouts]` says, and otherwise of services that say it themselves.
//!
//! A packet of a known connection is held against the least that any service has for the connection's state: nearly always it comes
//! sooner, and no service's own time is asked for. Only what has been silent for longer is looked at by its own service's, and so
//! a service with timeouts of its own costs the packets of others nothing.

use crate::conn::{self, Connection, State, Timeouts};
use crate::rcu::map::{Key, Map, Snapshot, mix};
use crate::units::{Millis, RealId};
use std::sync::Arc;

/// What a service says of its connections' time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnTiming {
    /// In milliseconds, by state; [`GIVEN_ELSEWHERE`](Self::GIVEN_ELSEWHERE): as `[timeouts]` says.
    given: [u32; State::ALL.len()],
    /// Both ends of an established connection that expires are told by resets.
    pub resets_idle: bool,
}

impl OwnTiming {
    const GIVEN_ELSEWHERE: u32 = u32::MAX;

    /// By state; none: as `[timeouts]` says.
    pub fn new(timeout: impl Fn(State) -> Option<u32>, resets_idle: bool) -> Self {
        OwnTiming {
            given: State::ALL.map(|state| timeout(state).unwrap_or(Self::GIVEN_ELSEWHERE)),
            resets_idle,
        }
    }

    fn given(&self, state: State) -> Option<u32> {
        let given = self.given[state as usize];
        (given != Self::GIVEN_ELSEWHERE).then_some(given)
    }
}

impl Key for RealId {
    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        mix(u64::from(self.0), seed)
    }
}

/// The timeouts of all connections.
#[derive(Clone)]
pub struct Timing {
    /// The least of all for each state: a connection that was silent for less has not expired.
    pub least: Timeouts,
    usual: Timeouts,
    /// By real server, of services that say something themselves; also of removed ones that have connections left.
    own: Snapshot<RealId, Arc<OwnTiming>>,
    /// Each of those once.
    different: Arc<[Arc<OwnTiming>]>,
}

impl From<Timeouts> for Timing {
    /// The same for all services.
    fn from(usual: Timeouts) -> Self {
        Timing {
            least: usual.clone(),
            usual,
            own: Map::new(0).freeze(),
            different: Arc::default(),
        }
    }
}

impl Timing {
    /// `[timeouts]` says something else.
    pub fn set_usual(&mut self, usual: Timeouts) {
        self.usual = usual;
        self.find_least();
    }

    /// Services say something else themselves.
    pub fn set_own(
        &mut self,
        own: Snapshot<RealId, Arc<OwnTiming>>,
        different: Arc<[Arc<OwnTiming>]>,
    ) {
        self.own = own;
        self.different = different;
        self.find_least();
    }

    fn find_least(&mut self) {
        let of = |own: &Arc<OwnTiming>, state| resolve(Some(own), &self.usual, state);
        self.least = Timeouts::by_state(|state| {
            let own = self.different.iter().map(|own| of(own, state));
            own.fold(self.usual.of(state), u32::min)
        });
    }

    /// How long a connection may be silent, in milliseconds.
    pub fn timeout<K: conn::Key>(&self, connection: &Connection<K>) -> u32 {
        match connection.state {
            State::Template => connection.timeout(&self.usual),
            state => resolve(self.own(connection.real), &self.usual, state),
        }
    }

    /// Whether a connection that is no template has been silent for too long.
    #[inline]
    pub fn is_silent<K: conn::Key>(&self, connection: &Connection<K>, now: Millis) -> bool {
        connection.is_silent(&self.least, now)
            && now.since(connection.last_seen) >= self.timeout(connection)
    }

    /// Whether a connection has been silent for too long. A template lives on with its connections.
    #[inline]
    pub fn is_expired<K: conn::Key>(&self, connection: &Connection<K>, now: Millis) -> bool {
        connection.is_expired(&self.least, now)
            && now.since(connection.last_seen) >= self.timeout(connection)
    }

    /// Whether both ends of a real server's established connections are told when they expire.
    pub fn resets_idle(&self, real: RealId) -> bool {
        self.own(real).is_some_and(|own| own.resets_idle)
    }

    fn own(&self, real: RealId) -> Option<&OwnTiming> {
        match self.different.is_empty() {
            true => None,
            false => self.own.get(&real).map(|own| &**own),
        }
    }
}

/// A service's timeout of a state, in milliseconds, where it says nothing the usual one.
fn resolve(own: Option<&OwnTiming>, usual: &Timeouts, state: State) -> u32 {
    let Some(own) = own else {
        return usual.of(state);
    };
    let of = |state| own.given(state).unwrap_or_else(|| usual.of(state));
    match state {
        // As in `Timeouts`: a blind ACK lives no longer than a handshake.
        State::Unanswered => of(State::Established).min(of(State::SynRecv)),
        state => of(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::FlowKey;
    use proptest::prelude::*;

    /// Each state's timeout, if a service says something of it.
    fn given() -> impl Strategy<Value = Vec<Option<u32>>> {
        prop::collection::vec(prop::option::of(1_000u32..600_000), State::ALL.len())
    }

    proptest! {
        /// What is asked first never says that a connection lives which its service's own timeouts have ended, and the rest is
        /// its service's to say.
        #[test]
        fn the_least_of_all_hides_no_expiry(
            usual in prop::collection::vec(1_000u32..600_000, State::ALL.len()),
            services in prop::collection::vec(given(), 0..4),
            real in 0u32..5,
            state in prop::sample::select(&State::ALL[1..14]),
            silent in 0u32..700_000,
        ) {
            let of = |from: &Vec<u32>, state: State| from[state as usize];
            let mut timing = Timing::from(Timeouts::by_state(|state| of(&usual, state)));
            let mut own = Map::new(7);
            let mut different = vec![];
            for (n, given) in (0..).zip(&services) {
                let one = Arc::new(OwnTiming::new(|state| given[state as usize], n == 1));
                own.insert(RealId(n), one.clone());
                different.push(one);
            }
            timing.set_own(own.freeze(), different.into());
            let mut connection = Connection::<FlowKey>::FREE;
            (connection.real, connection.state) = (RealId(real), state);
            connection.last_seen = Millis(5);
            let says = |state: State| match services.get(real as usize) {
                Some(given) => given[state as usize].unwrap_or(of(&usual, state)),
                None => of(&usual, state),
            };
            let expected = match state {
                State::Unanswered if services.get(real as usize).is_some() => {
                    says(State::Established).min(says(State::SynRecv))
                }
                state => says(state),
            };
            let now = Millis(5 + silent);
            prop_assert_eq!(timing.timeout(&connection), expected);
            prop_assert_eq!(timing.is_silent(&connection, now), silent >= expected);
            prop_assert_eq!(timing.is_expired(&connection, now), silent >= expected);
            prop_assert_eq!(timing.resets_idle(RealId(real)), real == 1 && services.len() > 1);
        }
    }
}

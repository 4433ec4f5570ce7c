//! Configurations that were in force: the way back, and reloads that are taken back unless they are confirmed.

use super::Control;
use crate::config::{Config, Known};
use crate::model::{Changes, EditedReal, NeedsRestart};
use crate::units::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// How many configurations before the one in force are kept.
const KEPT: usize = 10;

/// A configuration that another took the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Generation<C> {
    /// Where it was from, as the log calls it.
    pub name: String,
    pub config: C,
}

/// What waits for a confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Awaited {
    until: Time,
    given: Duration,
    /// How many reloads that is.
    reloads: usize,
}

/// Why nothing was confirmed or taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoGeneration {
    #[error("no reload waits for a confirmation")]
    NothingAwaited,
    #[error(
        "there is no configuration to go back to: none was in force before this one since weir was started, or all of the 10 that \
         are kept have been gone back to"
    )]
    NothingBefore,
}

/// The configurations before the one in force, the latest last.
#[derive(Debug)]
pub(super) struct Generations<C> {
    past: VecDeque<Generation<C>>,
    awaited: Option<Awaited>,
    /// Where the one in force is from.
    name: String,
}

impl<C: Clone> Generations<C> {
    /// `name`: where the configuration of the start is from.
    pub(super) fn new(name: &str) -> Self {
        Generations {
            past: VecDeque::new(),
            awaited: None,
            name: name.to_owned(),
        }
    }

    /// Where the configuration in force is from.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A configuration from `name` has taken the place of `before`. `confirm`: how long it stays unless it is confirmed; none: it
    /// stays, and so does what still waited for that.
    pub(super) fn follow(&mut self, name: &str, before: C, confirm: Option<Duration>, now: Time) {
        let reloads = self.awaited.map_or(0, |awaited| awaited.reloads) + 1;
        self.awaited = confirm.map(|given| Awaited {
            until: now + given,
            given,
            reloads,
        });
        self.past.push_back(Generation {
            name: std::mem::replace(&mut self.name, name.to_owned()),
            config: before,
        });
        if self.past.len() > KEPT {
            match &mut self.awaited {
                // The first of them is the last confirmed one.
                Some(awaited) if awaited.reloads > KEPT => {
                    self.past.remove(1);
                    awaited.reloads = KEPT;
                }
                _ => {
                    self.past.pop_front();
                }
            }
        }
    }

    /// What is in force stays.
    pub(super) fn confirm(&mut self) -> Result<(), NoGeneration> {
        let awaited = self.awaited.take();
        awaited.map(|_| ()).ok_or(NoGeneration::NothingAwaited)
    }

    /// What to go back to: the configuration before; from reloads that wait for a confirmation, the last confirmed one.
    pub(super) fn before(&self) -> Result<&Generation<C>, NoGeneration> {
        let place = self.past.len().checked_sub(self.steps());
        let before = place.and_then(|place| self.past.get(place));
        before.ok_or(NoGeneration::NothingBefore)
    }

    fn steps(&self) -> usize {
        self.awaited.map_or(1, |awaited| awaited.reloads)
    }

    /// What [`before`](Self::before) returned is in force again.
    pub(super) fn go_back(&mut self) {
        let place = self.past.len().saturating_sub(self.steps());
        if let Some(before) = self.past.drain(place..).next() {
            self.name = before.name;
        }
        self.awaited = None;
    }

    /// How long a confirmation was waited for, if that time is over.
    pub(super) fn overdue(&self, now: Time) -> Option<Duration> {
        let awaited = self.awaited.filter(|awaited| now >= awaited.until)?;
        Some(awaited.given)
    }

    /// How long a confirmation is waited for yet, if one is.
    pub(super) fn left(&self, now: Time) -> Option<Duration> {
        self.awaited.map(|awaited| awaited.until.since(now))
    }
}

/// What was in force before a reload.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pub config: Config,
    /// What operators had said of real servers: of those that the reload took away it is forgotten otherwise.
    pub said: Vec<EditedReal>,
}

/// Why weir did not go back to the configuration before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWayBack {
    #[error(transparent)]
    NoGeneration(#[from] NoGeneration),
    #[error(transparent)]
    NeedsRestart(#[from] NeedsRestart),
}

impl Control {
    /// Seconds until the last reload is taken back, if it waits for a confirmation.
    pub(super) fn confirm_ends_s(&self) -> Option<u64> {
        let left = self.generations.left(self.clock.now());
        left.map(|left| left.as_secs_f64().ceil() as u64)
    }

    /// Keeps a reload that waits for that.
    ///
    /// # Errors
    ///
    /// If none does.
    pub fn confirm(&mut self) -> Result<(), NoGeneration> {
        self.generations.confirm()?;
        self.edits
            .confirmed(self.generations.name(), self.clock.now());
        Ok(())
    }

    /// Goes back to the configuration before, as it was when another took its place; from reloads that wait for a
    /// confirmation, to the last confirmed one. Returns where that was from.
    ///
    /// # Errors
    ///
    /// If there is none; then nothing changes.
    pub fn roll_back(&mut self) -> Result<(String, Changes), NoWayBack> {
        let Generation { name, config } = self.generations.before()?.clone();
        let Past { config, mut said } = config;
        // Of real servers that stayed, what was said since counts.
        said.retain(|(key, real, _)| !self.model.has_real(key, *real));
        // The services' texts are not kept so long: the next file is read as a whole.
        let changes = self.apply(config, Known::default())?;
        self.model.restore(said);
        self.generations.go_back();
        self.edits
            .rolled_back(&name, &changes.short(), self.clock.now());
        Ok((name, changes))
    }

    /// Takes a reload back that was not confirmed in time.
    pub(super) fn take_back(&mut self, now: Time) {
        let Some(given) = self.generations.overdue(now) else {
            return;
        };
        self.edits.unconfirmed(self.generations.name(), given, now);
        if let Err(why) = self.roll_back() {
            tracing::error!("cannot go back, the new configuration stays: {why}");
            // It is not tried again in every turn.
            let _ = self.generations.confirm();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Reload(Option<u64>),
        Confirm,
        Rollback,
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => prop::option::of(1..20_u64).prop_map(Step::Reload),
            1 => Just(Step::Confirm),
            2 => Just(Step::Rollback),
            2 => (1..20_u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// As a list of all configurations from the start on, of which some wait for a confirmation.
        #[test]
        fn the_way_back_is_that_of_a_whole_history(steps in prop::collection::vec(step(), 0..60)) {
            let mut generations = Generations::new("0");
            let mut now = Time::default();
            // The last is in force; the ones behind `confirmed` wait, until then.
            let (mut history, mut confirmed, mut until) = (vec![0_u32], 0, None);
            for (n, step) in (1..).zip(steps) {
                let in_force = *history.last().unwrap();
                match step {
                    Step::Reload(seconds) => {
                        let confirm = seconds.map(Duration::from_secs);
                        generations.follow(&n.to_string(), in_force, confirm, now);
                        history.push(n);
                        until = confirm.map(|given| now + given);
                        if until.is_none() {
                            confirmed = history.len() - 1;
                        }
                        // What is kept: the last of them, and the last confirmed one.
                        if history.len() > KEPT + 1 {
                            let place = usize::from(confirmed == 0);
                            history.remove(place);
                            confirmed -= 1 - place;
                        }
                    }
                    Step::Confirm => {
                        let is_awaited = until.take().is_some();
                        prop_assert_eq!(generations.confirm().is_ok(), is_awaited);
                        confirmed = history.len() - 1;
                    }
                    Step::Rollback => {
                        let place = match until.take() {
                            Some(_) => Some(confirmed),
                            None => (history.len() - 1).checked_sub(1),
                        };
                        let before = generations.before().ok().map(|before| before.config);
                        prop_assert_eq!(before, place.map(|place| history[place]));
                        if let Some(place) = place {
                            generations.go_back();
                            history.truncate(place + 1);
                            confirmed = place;
                        }
                    }
                    Step::Wait(seconds) => {
                        now = now + Duration::from_secs(seconds);
                        let left = until.map(|until| until.since(now));
                        prop_assert_eq!(generations.left(now), left);
                        let is_overdue = until.is_some_and(|until| now >= until);
                        prop_assert_eq!(generations.overdue(now).is_some(), is_overdue);
                        if is_overdue {
                            generations.go_back();
                            history.truncate(confirmed + 1);
                            until = None;
                        }
                    }
                }
                prop_assert_eq!(generations.name(), history.last().unwrap().to_string());
                prop_assert!(generations.past.len() <= KEPT);
            }
        }
    }
}

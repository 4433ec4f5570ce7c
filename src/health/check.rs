//! One check: its state, and when it runs next.

use crate::config::HealthConfig;
use crate::service::Health;
use crate::units::Time;
use std::time::Duration;

/// What a check says of its real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Passed,
    Failed,
    /// Nothing: it could not be made, for a reason of this machine's own, such as too many open files.
    Nothing,
}

impl Finding {
    pub const fn name(self) -> &'static str {
        match self {
            Finding::Passed => "passed",
            Finding::Failed => "failed",
            Finding::Nothing => "not made",
        }
    }
}

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub finding: Finding,
    /// In words: "status 200", "connect: connection refused".
    pub words: String,
    pub took: Duration,
}

/// Failures in a row from which on a check that is down pauses twice as long, and again after as many.
const PATIENCE: u32 = 30;
/// How often the pause, or the number of checks that must pass, is doubled.
const DOUBLINGS: u32 = 3;
/// One that falls sooner than so many intervals after it rose is flapping.
const SETTLED: u32 = 30;

/// What the results of a check have come to.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub state: Health,
    /// Since when it has that state.
    pub since: Time,
    /// Results in a row, of one kind.
    pub passes: u32,
    pub failures: u32,
    /// How often in a row it fell soon after it rose.
    flaps: u32,
}

impl Verdict {
    pub(super) fn new(state: Health, now: Time) -> Self {
        Verdict {
            state,
            since: now,
            passes: 0,
            failures: 0,
            flaps: 0,
        }
    }

    /// How many checks in a row must pass before it is up.
    pub(super) fn rise(&self, config: &HealthConfig) -> u32 {
        match self.state {
            Health::Unknown => 1,
            _ => config.rise << self.flaps,
        }
    }

    /// Takes a result. Returns the state before, if it has changed.
    pub(super) fn take(
        &mut self,
        finding: Finding,
        config: &HealthConfig,
        now: Time,
    ) -> Option<Health> {
        let after = match finding {
            Finding::Passed => {
                self.failures = 0;
                self.passes = self.passes.saturating_add(1);
                (self.state != Health::Up && self.passes >= self.rise(config)).then_some(Health::Up)
            }
            Finding::Failed => {
                self.passes = 0;
                self.failures = self.failures.saturating_add(1);
                (self.state != Health::Down && self.failures >= config.fall).then_some(Health::Down)
            }
            Finding::Nothing => None,
        }?;
        let before = std::mem::replace(&mut self.state, after);
        if (before, after) == (Health::Up, Health::Down) {
            let is_soon = now.since(self.since) < config.interval * SETTLED;
            self.flaps = match is_soon {
                true => (self.flaps + 1).min(DOUBLINGS),
                false => 0,
            };
        }
        self.since = now;
        Some(before)
    }

    /// From a check's start to the next one's, at most.
    pub(super) fn pause(&self, config: &HealthConfig) -> Duration {
        match self.state {
            Health::Up if self.failures == 0 => config.interval,
            Health::Down if self.passes == 0 => {
                let beyond = self.failures.saturating_sub(config.fall);
                config.interval * (1 << (beyond / PATIENCE).min(DOUBLINGS))
            }
            _ => config.fast_interval,
        }
    }
}

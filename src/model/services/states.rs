//! Owns what is known of real servers beside their lines in the file: what operators have said of each, what health checks
//! found, and how far its slow start is. None of it is in the configuration, so that a reload changes nothing of it.

use crate::service::{Admin, Condition, Health};
use crate::units::{RealId, Time};
use foldhash::HashMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What an operator does to one real server; `weir enable` ends the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// In the place of the file's.
    Weight(u16),
    /// No new connections; established ones live on.
    Drain,
    /// No new connections; established ones are treated as those of a down real server.
    Disable,
    /// Ends drain, disable and runtime weight.
    Enable,
}

impl Edit {
    /// For the log.
    pub const fn name(self) -> &'static str {
        match self {
            Edit::Weight(_) => "weight",
            Edit::Drain => "drained",
            Edit::Disable => "disabled",
            Edit::Enable => "enabled",
        }
    }
}

/// What is known of one real server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub admin: Admin,
    /// When it is enabled again by itself.
    pub admin_until: Option<Time>,
    /// An operator's.
    pub weight: Option<u16>,
    /// When it has the file's weight again.
    pub weight_until: Option<Time>,
    pub health: Health,
    /// What the last check said, in words.
    pub reason: Option<Arc<str>>,
    /// When its health became what it is.
    pub health_since: Option<Time>,
    /// Its clients' connections failed: it gets no new ones for a while.
    pub held: Option<Held>,
    pub slow_start: Option<SlowStart>,
}

/// Why a real server gets no new connections, and how long that holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// In words.
    pub reason: Arc<str>,
    pub until: Time,
}

/// A real server that has come (back) a short while ago.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    pub since: Time,
    pub over: Duration,
    /// How much of its weight it was last given.
    pub percent: u8,
}

/// Steps in which a weight grows. A finer one would be published more often, and a coarser one would be felt.
const STEPS: u32 = 20;
/// Between two steps, however short the slow start is.
const STEP: Duration = Duration::from_millis(100);

impl SlowStart {
    fn new(since: Time, over: Duration) -> Self {
        SlowStart {
            since,
            over,
            percent: 0,
        }
    }

    /// The time from one step to the next.
    fn step(&self) -> Duration {
        (self.over / STEPS).max(STEP)
    }

    /// How much it is to have now.
    fn percent_at(&self, now: Time) -> u8 {
        let part = now.since(self.since).as_secs_f64() / self.over.as_secs_f64();
        (part * 100.0).clamp(0.0, 100.0) as u8
    }
}

impl State {
    /// What decides on the effective weight.
    pub fn condition(&self) -> Condition {
        Condition {
            admin: self.admin,
            weight: self.weight,
            health: self.health,
            is_held: self.held.is_some(),
            slow_start: self.slow_start.map_or(100, |starting| starting.percent),
        }
    }

    /// What an operator has said of it, each with its end.
    pub fn said_again(&self) -> Vec<(Edit, Option<Time>)> {
        let admin = match self.admin {
            Admin::Enabled => None,
            Admin::Drained => Some((Edit::Drain, self.admin_until)),
            Admin::Disabled => Some((Edit::Disable, self.admin_until)),
        };
        let weight = self.weight;
        let weight = weight.map(|weight| (Edit::Weight(weight), self.weight_until));
        admin.into_iter().chain(weight).collect()
    }

    /// Whether an operator has said anything of it.
    pub fn is_edited(&self) -> bool {
        self.admin != Admin::Enabled || self.weight.is_some()
    }

    /// All that an operator has said.
    fn said(&self) -> (Admin, Option<Time>, Option<u16>, Option<Time>) {
        let State {
            admin,
            admin_until,
            weight,
            weight_until,
            ..
        } = *self;
        (admin, admin_until, weight, weight_until)
    }

    fn edit(&mut self, edit: Edit, until: Option<Time>) {
        let mut admin = |admin| {
            self.admin = admin;
            self.admin_until = until;
        };
        match edit {
            Edit::Drain => admin(Admin::Drained),
            Edit::Disable => admin(Admin::Disabled),
            Edit::Weight(weight) => {
                self.weight = Some(weight);
                self.weight_until = until;
            }
            Edit::Enable => {
                (self.admin, self.admin_until) = (Admin::Enabled, None);
                (self.weight, self.weight_until) = (None, None);
            }
        }
    }

    /// Takes back what was said until now or earlier.
    fn expire(&mut self, now: Time) {
        let is_over = |until: Option<Time>| until.is_some_and(|until| until <= now);
        if is_over(self.admin_until) {
            (self.admin, self.admin_until) = (Admin::Enabled, None);
        }
        if is_over(self.weight_until) {
            (self.weight, self.weight_until) = (None, None);
        }
    }

    /// When something of it changes by itself.
    fn next_due(&self) -> Option<Time> {
        let starting = self.slow_start.map(|starting| {
            let taken = starting.over * u32::from(starting.percent) / 100;
            starting.since + taken + starting.step()
        });
        let all = [self.admin_until, self.weight_until, starting];
        all.into_iter().flatten().min()
    }
}

/// The weight in the file and the slow start of the service that a real server is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Configured {
    pub weight: u16,
    pub slow_start: Option<Duration>,
}

#[derive(Default)]
pub(in crate::model) struct States {
    /// Those of which there is more to say than the file does.
    known: HashMap<RealId, State>,
    due: BTreeSet<(Time, RealId)>,
    now: Time,
    /// Counts what operators have said, and what of it has ended.
    edits: u64,
}

impl States {
    pub(super) fn edits(&self) -> u64 {
        self.edits
    }

    /// Those that operators have said something of.
    pub(super) fn edited(&self) -> impl Iterator<Item = (RealId, &State)> {
        let edited = self.known.iter().filter(|(_, state)| state.is_edited());
        edited.map(|(id, state)| (*id, state))
    }

    pub(super) fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(super) fn get(&self, id: RealId) -> Option<&State> {
        self.known.get(&id)
    }

    pub(super) fn condition(&self, id: RealId) -> Condition {
        self.get(id).map(State::condition).unwrap_or_default()
    }

    /// How many times as fine the published weights of a service are: finer while one of its real servers starts slowly.
    /// `reals`: with their weights in the file.
    pub(super) fn scale(&self, reals: impl Iterator<Item = (RealId, u16)> + Clone) -> u16 {
        let is_starting = |id| self.get(id).is_some_and(|state| state.slow_start.is_some());
        if self.known.is_empty() || !reals.clone().any(|(id, _)| is_starting(id)) {
            return 1;
        }
        let nominal = reals.map(|(id, file)| self.condition(id).nominal_weight(file));
        let most = nominal.max().unwrap_or(1).max(1);
        (u16::MAX / most).clamp(1, STEPS as u16)
    }

    /// Does what an operator wants, for ever or until a time.
    pub(super) fn edit(
        &mut self,
        id: RealId,
        configured: Configured,
        edit: Edit,
        until: Option<Time>,
    ) {
        self.change(id, configured, |state| state.edit(edit, until));
    }

    /// Returns whether its health is another now. The reason is kept either way.
    pub(super) fn set_health(
        &mut self,
        id: RealId,
        configured: Configured,
        health: Health,
        reason: &str,
    ) -> bool {
        let now = self.now;
        let mut is_other = false;
        self.change(id, configured, |state| {
            is_other = state.health != health;
            if is_other {
                state.health_since = Some(now);
            }
            state.health = health;
            if state.reason.as_deref() != Some(reason) {
                state.reason = (!reason.is_empty()).then(|| reason.into());
            }
        });
        is_other
    }

    /// Nothing checks it any longer, whatever was found last.
    pub(super) fn unchecked(&mut self, id: RealId, configured: Configured) {
        if self.get(id).is_some_and(|it| it.health != Health::Unknown) {
            self.set_health(id, configured, Health::Unknown, "");
        }
    }

    /// Holds a real server's new connections off, or no longer.
    pub(super) fn set_held(&mut self, id: RealId, configured: Configured, held: Option<Held>) {
        if held.is_some() || self.get(id).is_some_and(|it| it.held.is_some()) {
            self.change(id, configured, |state| state.held = held);
        }
    }

    /// A real server was added to a service that is running, or packets get to one again.
    pub(super) fn came(&mut self, id: RealId, configured: Configured) {
        self.change_from(id, configured, 0, |_| ());
    }

    /// A real server is no longer configured: what was said of it is over.
    pub(super) fn forget(&mut self, id: RealId) {
        let Some(state) = self.known.remove(&id) else {
            return;
        };
        if let Some(due) = state.next_due() {
            self.due.remove(&(due, id));
        }
        self.edits += u64::from(state.is_edited());
    }

    /// The next real server of which something changes by itself now, if there is one.
    pub(super) fn next_due(&self) -> Option<RealId> {
        let (due, id) = self.due.first()?;
        (*due <= self.now).then_some(*id)
    }

    /// When something changes by itself next.
    pub(super) fn first_due(&self) -> Option<Time> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes the step that is due. Returns whether an edit has expired.
    pub(super) fn step(&mut self, id: RealId, configured: Configured) -> bool {
        let now = self.now;
        let mut has_expired = false;
        self.change(id, configured, |state| {
            let before = (state.admin, state.weight);
            state.expire(now);
            has_expired = before != (state.admin, state.weight);
            if let Some(starting) = &mut state.slow_start {
                starting.percent = starting.percent_at(now);
            }
        });
        has_expired
    }

    fn change(&mut self, id: RealId, configured: Configured, change: impl FnOnce(&mut State)) {
        let before = self.condition(id).effective_weight(configured.weight, 1);
        self.change_from(id, configured, before, change);
    }

    /// `before`: the effective weight that it had.
    fn change_from(
        &mut self,
        id: RealId,
        configured: Configured,
        before: u16,
        change: impl FnOnce(&mut State),
    ) {
        let mut state = self.known.remove(&id).unwrap_or_default();
        if let Some(due) = state.next_due() {
            self.due.remove(&(due, id));
        }
        let said = state.said();
        change(&mut state);
        self.edits += u64::from(said != state.said());
        let after = state.condition().effective_weight(configured.weight, 1);
        let slow_start = configured.slow_start.filter(|over| !over.is_zero());
        match (before, after) {
            (_, 0) => state.slow_start = None,
            (0, _) => {
                state.slow_start = slow_start.map(|over| SlowStart::new(self.now, over));
            }
            _ if slow_start.is_none() => state.slow_start = None,
            _ => state.slow_start = state.slow_start.filter(|it| it.percent < 100),
        }
        if state == State::default() {
            return;
        }
        if let Some(due) = state.next_due() {
            self.due.insert((due, id));
        }
        self.known.insert(id, state);
    }
}

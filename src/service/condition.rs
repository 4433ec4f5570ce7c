//! What decides on a real server's share of new connections beside its weight in the file, and the one rule that makes its
//! effective weight of all that.

use super::availability::{Role, Serving};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What health checks say of a real server.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No check has ended yet, or there is none: it counts as available.
    #[default]
    Unknown,
    Up,
    /// No new connections; what becomes of established ones, `on_down` says.
    Down,
}

impl Health {
    pub const ALL: [Health; 3] = [Health::Unknown, Health::Up, Health::Down];

    pub const fn name(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

/// What an operator has said of a real server.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Admin {
    #[default]
    Enabled,
    /// No new connections; established ones live on.
    Drained,
    /// No new connections; established ones are treated as those of a down real server.
    Disabled,
}

impl Admin {
    pub const ALL: [Admin; 3] = [Admin::Enabled, Admin::Drained, Admin::Disabled];

    pub const fn name(self) -> &'static str {
        match self {
            Admin::Enabled => "enabled",
            Admin::Drained => "drained",
            Admin::Disabled => "disabled",
        }
    }
}

/// All that makes a real server's effective weight of that in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    pub admin: Admin,
    /// A weight that an operator has set, in the place of the file's.
    pub weight: Option<u16>,
    pub health: Health,
    /// Its clients' connections failed: for a while it gets no new ones.
    pub is_held: bool,
    /// How much of its weight a real server that comes (back) has, in per cent; 100 after its slow start.
    pub slow_start: u8,
}

impl Default for Condition {
    fn default() -> Self {
        Condition {
            admin: Admin::Enabled,
            weight: None,
            health: Health::Unknown,
            is_held: false,
            slow_start: 100,
        }
    }
}

/// Why a real server gets no new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    Disabled,
    Drained,
    Down,
    /// Its clients' connections failed.
    Held,
    /// The weight that an operator has set is 0.
    RuntimeWeight,
    /// Its weight in the file is 0.
    FileWeight,
    /// The service has too few available real servers, and refuses new connections.
    BelowMinimum,
    /// The service has too few available real servers, and uses its fallback servers.
    FallbackInUse,
    /// A fallback server, while real servers get the new connections.
    NotNeeded,
}

impl Why {
    pub const fn name(self) -> &'static str {
        match self {
            Why::Disabled => "disabled",
            Why::Drained => "drained",
            Why::Down => "down",
            Why::Held => "held",
            Why::RuntimeWeight => "runtime weight 0",
            Why::FileWeight => "weight 0 in the file",
            Why::BelowMinimum => "the service is below its minimum",
            Why::FallbackInUse => "the fallback servers are in use",
            Why::NotNeeded => "a fallback server, not in use",
        }
    }
}

impl Condition {
    /// The effective weight of a real server whose weight in the file is `file`; with 0 it gets no new connections.
    ///
    /// `scale`: how many times as fine the weights of its service are while one of them starts slowly, else 1: a share of the
    /// weight 1 needs some.
    pub fn effective_weight(&self, file: u16, scale: u16) -> u16 {
        if self.why_none(file).is_some() {
            return 0;
        }
        let whole = u32::from(self.nominal_weight(file)) * u32::from(scale.max(1));
        let share = whole * u32::from(self.slow_start.min(100)) / 100;
        share.clamp(1, u32::from(u16::MAX)) as u16
    }

    /// The weight that it has while nothing takes it from it: an operator's, else the file's.
    pub fn nominal_weight(&self, file: u16) -> u16 {
        self.weight.unwrap_or(file)
    }

    /// Why it gets no new connections, if it gets none: what is named first has to end first.
    pub fn why_none(&self, file: u16) -> Option<Why> {
        match (self.admin, self.health) {
            (Admin::Disabled, _) => Some(Why::Disabled),
            (_, Health::Down) => Some(Why::Down),
            (Admin::Drained, _) => Some(Why::Drained),
            _ if self.is_held => Some(Why::Held),
            (Admin::Enabled, Health::Unknown | Health::Up) => match self.weight {
                Some(0) => Some(Why::RuntimeWeight),
                None if file == 0 => Some(Why::FileWeight),
                _ => None,
            },
        }
    }

    /// The effective weight of a server, by what it is to its service and where that sends new connections; `file` and `scale` as in
    /// [`effective_weight`](Self::effective_weight).
    pub fn weight_of(&self, role: Role, serving: Serving, file: u16, scale: u16) -> u16 {
        match self.why_none_of(role, serving, file) {
            Some(_) => 0,
            None => self.forgiven(role, serving).effective_weight(file, scale),
        }
    }

    /// Why a server gets no new connections, if it gets none: for reasons of its own first.
    pub fn why_none_of(&self, role: Role, serving: Serving, file: u16) -> Option<Why> {
        let own = self.forgiven(role, serving).why_none(file);
        let services = match (role, serving) {
            (Role::Real, Serving::Available | Serving::All) => None,
            (Role::Real, Serving::Fallback) => Some(Why::FallbackInUse),
            (Role::Real, Serving::Refused) => Some(Why::BelowMinimum),
            (Role::Fallback, Serving::Fallback) => None,
            (Role::Fallback, _) => Some(Why::NotNeeded),
        };
        own.or(services)
    }

    /// Whether established connections of a server may go on; as [`is_available`](Self::is_available), but for one that gets new
    /// connections although it is down.
    pub fn is_available_of(&self, role: Role, serving: Serving, file: u16) -> bool {
        match role {
            Role::Real => self.is_available() || self.why_none_of(role, serving, file).is_none(),
            Role::Fallback => self.forgiven(role, serving).is_available(),
        }
    }

    /// Whether clients that persistence binds to a server may come back to it while it gets no others: one that an operator
    /// or the file has drained keeps its clients; one that its service does not use has none, and those of one that is held go elsewhere.
    pub fn keeps_clients_of(&self, role: Role, serving: Serving, file: u16) -> bool {
        let is_drained = self.why_none(file).is_some() && !self.is_held;
        let is_used = self.why_none_of(role, serving, file).is_none();
        self.is_available_of(role, serving, file) && (is_used || role == Role::Real && is_drained)
    }

    /// The condition that counts: while a service uses all of its real servers, none is down or held; nor is a fallback server, since
    /// none is checked.
    fn forgiven(&self, role: Role, serving: Serving) -> Condition {
        match (role, serving) {
            (Role::Real, Serving::All) | (Role::Fallback, _) => Condition {
                health: Health::Unknown,
                is_held: false,
                ..*self
            },
            (Role::Real, _) => *self,
        }
    }

    /// Whether established connections, and clients that persistence binds to it, may go on.
    pub fn is_available(&self) -> bool {
        self.admin != Admin::Disabled && self.health != Health::Down
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Where new connections go × what an operator has said × health × the weight in the file, of a real server and of a
    /// fallback server.
    #[test]
    fn every_cell_has_the_weight_that_its_service_leaves_it() {
        use Admin::{Disabled, Drained, Enabled};
        use Health::{Down, Unknown, Up};
        // By where new connections go (available, all, fallback, refused): the weight, and below it whether established
        // connections go on and whether bound clients come back.
        type Row = (Admin, Health, u16, [u16; 4], [bool; 4], [bool; 4]);
        const YES: [bool; 4] = [true; 4];
        const NO: [bool; 4] = [false; 4];
        const USED: [bool; 4] = [true, true, false, false];
        const FORGIVEN: [bool; 4] = [false, true, false, false];
        let reals: [Row; 18] = [
            (Enabled, Unknown, 3, [3, 3, 0, 0], YES, USED),
            (Enabled, Up, 3, [3, 3, 0, 0], YES, USED),
            (Enabled, Down, 3, [0, 3, 0, 0], FORGIVEN, FORGIVEN),
            (Enabled, Unknown, 0, [0; 4], YES, YES),
            (Enabled, Up, 0, [0; 4], YES, YES),
            (Enabled, Down, 0, [0; 4], NO, NO),
            (Drained, Unknown, 3, [0; 4], YES, YES),
            (Drained, Up, 3, [0; 4], YES, YES),
            (Drained, Down, 3, [0; 4], NO, NO),
            (Drained, Unknown, 0, [0; 4], YES, YES),
            (Drained, Up, 0, [0; 4], YES, YES),
            (Drained, Down, 0, [0; 4], NO, NO),
            (Disabled, Unknown, 3, [0; 4], NO, NO),
            (Disabled, Up, 3, [0; 4], NO, NO),
            (Disabled, Down, 3, [0; 4], NO, NO),
            (Disabled, Unknown, 0, [0; 4], NO, NO),
            (Disabled, Up, 0, [0; 4], NO, NO),
            (Disabled, Down, 0, [0; 4], NO, NO),
        ];
        const IN_USE: [bool; 4] = [false, false, true, false];
        // None is checked, and their weights are not in the file.
        let fallback: [Row; 4] = [
            (Enabled, Unknown, 1, [0, 0, 1, 0], YES, IN_USE),
            // It was a real server when that was found.
            (Enabled, Down, 1, [0, 0, 1, 0], YES, IN_USE),
            (Drained, Unknown, 1, [0; 4], YES, NO),
            (Disabled, Unknown, 1, [0; 4], NO, NO),
        ];
        let of_role = |role, rows: &[Row]| {
            for &(admin, health, file, weights, go_on, bound) in rows {
                let condition = Condition {
                    admin,
                    health,
                    ..Condition::default()
                };
                let cell = format!("{role:?} {admin:?} {health:?} {file}");
                let all = Serving::ALL;
                let found = all.map(|serving| condition.weight_of(role, serving, file, 1));
                assert_eq!(found, weights, "{cell}");
                let found = all.map(|serving| condition.is_available_of(role, serving, file));
                assert_eq!(found, go_on, "{cell}");
                let found = all.map(|serving| condition.keeps_clients_of(role, serving, file));
                assert_eq!(found, bound, "{cell}");
                let nothing =
                    all.map(|serving| condition.why_none_of(role, serving, file).is_some());
                assert_eq!(nothing, weights.map(|weight| weight == 0), "{cell}");
            }
        };
        of_role(Role::Real, &reals);
        of_role(Role::Fallback, &fallback);
    }

    #[test]
    fn every_cell_of_the_states_has_its_effective_weight() {
        use Admin::{Disabled, Drained, Enabled};
        use Health::{Down, Unknown, Up};
        // By admin: the weights of the file 3 and 0 without a runtime weight, and with 0 and 7, for each health.
        type Cell = (Admin, Health, [u16; 6], bool, [Option<Why>; 2]);
        let cells: [Cell; 9] = [
            (
                Enabled,
                Unknown,
                [3, 0, 0, 0, 7, 7],
                true,
                [None, Some(Why::FileWeight)],
            ),
            (
                Enabled,
                Up,
                [3, 0, 0, 0, 7, 7],
                true,
                [None, Some(Why::FileWeight)],
            ),
            (Enabled, Down, [0; 6], false, [Some(Why::Down); 2]),
            (Drained, Unknown, [0; 6], true, [Some(Why::Drained); 2]),
            (Drained, Up, [0; 6], true, [Some(Why::Drained); 2]),
            (Drained, Down, [0; 6], false, [Some(Why::Down); 2]),
            (Disabled, Unknown, [0; 6], false, [Some(Why::Disabled); 2]),
            (Disabled, Up, [0; 6], false, [Some(Why::Disabled); 2]),
            (Disabled, Down, [0; 6], false, [Some(Why::Disabled); 2]),
        ];
        assert_eq!(cells.len(), Admin::ALL.len() * Health::ALL.len());
        for (admin, health, weights, is_available, why) in cells {
            let condition = |weight| Condition {
                admin,
                health,
                weight,
                ..Condition::default()
            };
            let all = [None, Some(0), Some(7)];
            let found =
                all.map(|weight| [3, 0].map(|file| condition(weight).effective_weight(file, 1)));
            assert_eq!(found.as_flattened(), weights, "{admin:?} {health:?}");
            assert_eq!(condition(None).is_available(), is_available);
            assert_eq!([3, 0].map(|file| condition(None).why_none(file)), why);
            for (slow_start, expected) in [(0, 1), (1, 1), (50, 5), (99, 9), (100, 10), (255, 10)] {
                let starting = Condition {
                    slow_start,
                    ..condition(None)
                };
                let expected = if weights[0] > 0 { expected } else { 0 };
                assert_eq!(starting.effective_weight(1, 10), expected);
            }
            // Held, it gets nothing, and what is worse is said first; established connections are not touched.
            let held = Condition {
                is_held: true,
                ..condition(None)
            };
            let first = why[0].unwrap_or(Why::Held);
            assert_eq!(held.why_none(3), Some(first));
            assert_eq!(held.effective_weight(3, 1), 0);
            assert_eq!(held.is_available(), is_available);
        }
    }

    fn conditions() -> impl Strategy<Value = Condition> {
        let parts = (
            prop::sample::select(&Admin::ALL[..]),
            prop::option::of(any::<u16>()),
            prop::sample::select(&Health::ALL[..]),
            any::<bool>(),
            any::<u8>(),
        );
        parts.prop_map(|(admin, weight, health, is_held, slow_start)| Condition {
            admin,
            weight,
            health,
            is_held,
            slow_start,
        })
    }

    proptest! {
        #[test]
        fn what_gets_nothing_has_a_reason_and_the_rest_a_share(
            condition in conditions(),
            file in any::<u16>(),
            scale in 0u16..100,
        ) {
            let weight = condition.effective_weight(file, scale);
            prop_assert_eq!(weight == 0, condition.why_none(file).is_some());
            let whole = Condition { slow_start: 100, ..condition };
            prop_assert!(weight <= whole.effective_weight(file, scale));
            prop_assert!(whole.effective_weight(file, 1) <= condition.nominal_weight(file));
            if weight > 0 {
                prop_assert!(condition.is_available());
                prop_assert_eq!(whole.effective_weight(file, 1), condition.nominal_weight(file));
            }
        }
    }
}

//! What decides on a real server's share of new connections beside its weight in the file, and the one rule that makes its
//! effective weight of all that.

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

    /// Whether established connections, and clients that persistence binds to it, may go on.
    pub fn is_available(&self) -> bool {
        self.admin != Admin::Disabled && self.health != Health::Down
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

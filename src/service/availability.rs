//! Whether a service has as many real servers as it needs, and which servers get its new connections.

use super::condition::Condition;
use crate::config::{AvailabilityConfig, WhenBelow};

/// What a server is to its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    Real,
    /// A sorry server.
    Fallback,
}

impl Role {
    pub const fn name(self) -> &'static str {
        match self {
            Role::Real => "real server",
            Role::Fallback => "fallback server",
        }
    }
}

/// Where new connections of a service go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Serving {
    /// To the available real servers, if there are any.
    #[default]
    Available,
    /// To all real servers, those that are down among them: too few are available.
    All,
    /// To the fallback servers.
    Fallback,
    /// Nowhere, although some real servers are available.
    Refused,
}

impl Serving {
    pub const ALL: [Serving; 4] = [
        Serving::Available,
        Serving::All,
        Serving::Fallback,
        Serving::Refused,
    ];

    const fn name(self) -> &'static str {
        match self {
            Serving::Available => "available",
            Serving::All => "all",
            Serving::Fallback => "fallback",
            Serving::Refused => "refused",
        }
    }
}

/// What is known of a service's servers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Availability {
    pub serving: Serving,
    /// Whether it has fewer available real servers than its minimum, or has not come back yet.
    pub is_below: bool,
    /// Real servers that would get new connections by themselves, and can be reached.
    pub available: usize,
    /// How many of them it needs: to stay above its minimum, or to come back.
    pub needed: usize,
    /// Fallback servers that could take new connections.
    pub fallback: usize,
}

/// A server as far as the availability of its service goes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub role: Role,
    pub condition: Condition,
    /// The weight in the file.
    pub file: u16,
    /// A route leads there, and its next hop has not failed to answer.
    pub is_reachable: bool,
}

impl Member {
    fn takes(&self, serving: Serving) -> bool {
        self.is_reachable
            && self
                .condition
                .why_none_of(self.role, serving, self.file)
                .is_none()
    }
}

impl Availability {
    /// The availability of a service with these servers. `was_below`: as it was before, which hysteresis goes by.
    pub fn of(
        config: &AvailabilityConfig,
        was_below: bool,
        members: impl Iterator<Item = Member> + Clone,
    ) -> Self {
        let reals = members.clone().filter(|it| it.role == Role::Real);
        let fallback = members.filter(|it| it.role == Role::Fallback);
        let all = reals.clone().filter(|it| it.file > 0).count();
        let available = reals
            .clone()
            .filter(|it| it.takes(Serving::Available))
            .count();
        let least = config.min_healthy.of(all).max(1);
        // With all of its real servers a service always comes back, whatever was asked for, unless they are fewer than the minimum.
        let back = (least + config.hysteresis.of(all)).min(all.max(least));
        let needed = if was_below { back } else { least };
        let is_below = available < needed;
        let has_fallback = fallback.clone().next().is_some();
        let serving = match config.when_below {
            _ if !is_below => Serving::Available,
            // Without any there is nothing to keep from clients, and they hear why none can be reached.
            WhenBelow::Refuse if available == 0 => Serving::Available,
            WhenBelow::Refuse => Serving::Refused,
            WhenBelow::Fallback => Serving::Fallback,
            // Where even all of them are none, the fallback servers are better than nothing.
            WhenBelow::All if has_fallback && !reals.clone().any(|it| it.takes(Serving::All)) => {
                Serving::Fallback
            }
            WhenBelow::All => Serving::All,
        };
        Availability {
            serving,
            is_below,
            available,
            needed: if is_below { back } else { least },
            fallback: fallback.filter(|it| it.takes(Serving::Fallback)).count(),
        }
    }

    /// Where new connections go, as lists have it: `refused` also where there is nowhere to go.
    pub fn name(&self) -> &'static str {
        match self.serving {
            Serving::Available if self.is_below => Serving::Refused.name(),
            serving => serving.name(),
        }
    }

    /// Whether an available real server gets new connections.
    pub fn is_ready(&self) -> bool {
        self.available > 0 && matches!(self.serving, Serving::Available | Serving::All)
    }

    /// Whether new connections get anywhere that is not known to be down: what a VIP is announced by.
    pub fn is_served(&self) -> bool {
        self.is_ready() || self.serving == Serving::Fallback && self.fallback > 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::condition::{Admin, Health};
    use super::*;
    use crate::config::Share;
    use proptest::prelude::*;

    fn config(least: u16, more: u16, when_below: WhenBelow) -> AvailabilityConfig {
        AvailabilityConfig {
            min_healthy: Share::Count(least),
            hysteresis: Share::Count(more),
            when_below,
        }
    }

    fn member(role: Role, health: Health, is_reachable: bool) -> Member {
        Member {
            role,
            condition: Condition {
                health,
                ..Condition::default()
            },
            file: 1,
            is_reachable,
        }
    }

    /// So many real servers of which so many are up, and so many fallback servers.
    fn members(up: usize, all: usize, fallback: usize) -> Vec<Member> {
        let health = |n| if n < up { Health::Up } else { Health::Down };
        let reals = (0..all).map(|n| member(Role::Real, health(n), true));
        let sorry = (0..fallback).map(|_| member(Role::Fallback, Health::Unknown, true));
        reals.chain(sorry).collect()
    }

    fn of(config: &AvailabilityConfig, was_below: bool, members: &[Member]) -> Availability {
        Availability::of(config, was_below, members.iter().copied())
    }

    #[test]
    fn where_new_connections_go_by_what_is_available_and_what_is_configured() {
        use Serving::{All, Available, Fallback, Refused};
        let rules = [
            (WhenBelow::All, 0, [All, All, All, Available]),
            (WhenBelow::All, 1, [All, All, All, Available]),
            (
                WhenBelow::Fallback,
                1,
                [Fallback, Fallback, Fallback, Available],
            ),
            (
                WhenBelow::Refuse,
                0,
                [Available, Refused, Refused, Available],
            ),
            (
                WhenBelow::Refuse,
                1,
                [Available, Refused, Refused, Available],
            ),
        ];
        for (when_below, fallback, expected) in rules {
            for (up, serving) in expected.into_iter().enumerate() {
                let found = of(&config(3, 0, when_below), false, &members(up, 4, fallback));
                assert_eq!(found.serving, serving, "{when_below:?}, {up} up");
                assert_eq!((found.available, found.needed), (up, 3));
                let is_ready = match serving {
                    Available | All => up > 0,
                    Fallback | Refused => false,
                };
                assert_eq!(found.is_ready(), is_ready);
                assert_eq!(found.is_served(), is_ready || serving == Fallback);
                let is_refused = found.name() == "refused";
                assert_eq!(
                    is_refused,
                    serving == Refused || serving == Available && up == 0
                );
            }
        }
    }

    #[test]
    fn by_default_nothing_dead_gets_anything() {
        let usual = AvailabilityConfig::default();
        for all in [members(0, 3, 0), Vec::new()] {
            let found = of(&usual, false, &all);
            assert_eq!(
                (found.serving, found.name()),
                (Serving::Available, "refused")
            );
            assert!(found.is_below && !found.is_ready() && !found.is_served());
        }
        let found = of(&usual, false, &members(1, 3, 0));
        assert_eq!(
            (found.name(), found.is_below, found.is_ready()),
            ("available", false, true)
        );
    }

    #[test]
    fn a_service_comes_back_with_as_many_more_as_hysteresis_says() {
        // By how many are up: whether it is below, once it was not and once it was.
        let cases = [
            (
                2,
                0,
                4,
                [
                    (true, true),
                    (true, true),
                    (false, false),
                    (false, false),
                    (false, false),
                ],
            ),
            (
                2,
                1,
                4,
                [
                    (true, true),
                    (true, true),
                    (false, true),
                    (false, false),
                    (false, false),
                ],
            ),
            // More than there are: all of them will do.
            (
                2,
                9,
                4,
                [
                    (true, true),
                    (true, true),
                    (false, true),
                    (false, true),
                    (false, false),
                ],
            ),
            (
                4,
                1,
                4,
                [
                    (true, true),
                    (true, true),
                    (true, true),
                    (true, true),
                    (false, false),
                ],
            ),
            // It can never have as many.
            (5, 0, 4, [(true, true); 5]),
        ];
        for (least, more, all, expected) in cases {
            for (up, (fresh, back)) in expected.into_iter().enumerate() {
                let rule = config(least, more, WhenBelow::Fallback);
                let found = [false, true].map(|was| of(&rule, was, &members(up, all, 1)).is_below);
                assert_eq!(found, [fresh, back], "{least} + {more} of {all}, {up} up");
            }
        }
    }

    #[test]
    fn all_uses_fallback_servers_only_where_no_real_server_may_be_used() {
        let rule = config(1, 0, WhenBelow::All);
        let mut all = members(0, 2, 1);
        assert_eq!(of(&rule, false, &all).serving, Serving::All);
        all[0].condition.admin = Admin::Drained;
        all[1].is_reachable = false;
        let found = of(&rule, false, &all);
        assert_eq!(
            (found.serving, found.is_served()),
            (Serving::Fallback, true)
        );
        all[2].is_reachable = false;
        let found = of(&rule, false, &all);
        assert_eq!(
            (found.serving, found.is_served()),
            (Serving::Fallback, false)
        );
        assert_eq!(of(&rule, false, &all[..2]).serving, Serving::All);
    }

    #[test]
    fn a_part_is_of_the_real_servers_that_have_a_weight_in_the_file() {
        let rule = AvailabilityConfig {
            min_healthy: Share::Percent(50),
            ..config(1, 0, WhenBelow::All)
        };
        let mut all = members(1, 4, 0);
        assert!(of(&rule, false, &all).is_below);
        all[2].file = 0;
        all[3].file = 0;
        let found = of(&rule, false, &all);
        assert_eq!((found.is_below, found.needed), (false, 1));
        // One that an operator has drained is one of them still.
        all[0].condition.admin = Admin::Drained;
        assert!(of(&rule, false, &all).is_below);
    }

    fn anyone() -> impl Strategy<Value = Member> {
        let parts = (
            prop::sample::select(&[Role::Real, Role::Fallback][..]),
            prop::sample::select(&Admin::ALL[..]),
            prop::sample::select(&Health::ALL[..]),
            prop::option::of(0u16..3),
            0u16..3,
            any::<bool>(),
            any::<bool>(),
        );
        parts.prop_map(
            |(role, admin, health, weight, file, is_held, is_reachable)| Member {
                role,
                condition: Condition {
                    admin,
                    health,
                    weight,
                    is_held,
                    slow_start: 100,
                },
                file,
                is_reachable,
            },
        )
    }

    fn rules() -> impl Strategy<Value = AvailabilityConfig> {
        let share = || {
            prop_oneof![
                (0u16..6).prop_map(Share::Count),
                (0u8..=100).prop_map(Share::Percent)
            ]
        };
        let policies = [WhenBelow::All, WhenBelow::Fallback, WhenBelow::Refuse];
        let parts = (share(), share(), prop::sample::select(policies.to_vec()));
        parts.prop_map(|(min_healthy, hysteresis, when_below)| AvailabilityConfig {
            min_healthy,
            hysteresis,
            when_below,
        })
    }

    proptest! {
        #[test]
        fn what_is_said_of_a_service_is_what_its_servers_get(
            config in rules(),
            was_below: bool,
            all in prop::collection::vec(anyone(), 0..8),
        ) {
            let found = of(&config, was_below, &all);
            let takers = |role| all.iter().filter(|it| it.role == role && it.takes(found.serving)).count();
            let (reals, sorry) = (takers(Role::Real), takers(Role::Fallback));
            prop_assert!(reals == 0 || sorry == 0, "never both");
            prop_assert_eq!(sorry > 0, found.serving == Serving::Fallback && found.fallback > 0);
            if found.serving == Serving::Available {
                prop_assert_eq!(reals, found.available);
                prop_assert_eq!(reals == 0, found.is_below);
            }
            if found.serving == Serving::Refused {
                prop_assert_eq!(reals + sorry, 0);
            }
            prop_assert!(!found.is_served() || reals + sorry > 0);
            prop_assert_eq!(found.is_below, found.name() != "available");
            prop_assert_eq!(found.is_below, found.available < found.needed);
            // No server gets anything against an operator's word, or the file's.
            for it in all.iter().filter(|it| it.takes(found.serving)) {
                prop_assert_eq!(it.condition.admin, Admin::Enabled);
                prop_assert!(it.condition.nominal_weight(it.file) > 0);
                let is_down = it.role == Role::Real && it.condition.health == Health::Down;
                prop_assert!(found.serving == Serving::All || !is_down);
            }
            // What was below stays so at least as long as what was not.
            let other = of(&config, !was_below, &all).is_below;
            let (fresh, back) = if was_below { (other, found.is_below) } else { (found.is_below, other) };
            prop_assert!(back || !fresh);
            // A service does not go to and fro by itself.
            prop_assert_eq!(of(&config, found.is_below, &all).is_below, found.is_below);
        }
    }
}

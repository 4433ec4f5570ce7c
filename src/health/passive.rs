//! Passive checks: what becomes of clients' connections speaks for a real server or against it.
//!
//! Too many failures within a time take it out, unless as many connections were answered meanwhile: one client that sends what no
//! server answers, or whose address it refuses, does not count for more than the others that are served. The stretch of time
//! that is looked at may be any that ends now, so that one that has just died is not saved by what it answered before.

use crate::config::PassiveConfig;
use crate::units::Time;
use std::time::Duration;

/// New connections in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub answered: u64,
    pub failed: u64,
}

/// What becomes of a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It gets no new connections until then.
    Held { until: Time, why: Tally },
    /// It would be held, but the service has no other one.
    Spared(Tally),
}

/// Parts of the time that is looked at.
const PARTS: usize = 10;

/// What is remembered of a real server.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    config: PassiveConfig,
    /// The last parts, the present one first; none while nothing has failed in any.
    window: Option<Box<[Tally; PARTS]>>,
    /// When the present part began.
    began: Time,
    held_until: Option<Time>,
}

impl Watch {
    pub fn new(config: PassiveConfig, now: Time) -> Self {
        Watch {
            config,
            window: None,
            began: now,
            held_until: None,
        }
    }

    /// Goes by another rule from now on; what it has led to stays.
    pub fn set_config(&mut self, config: PassiveConfig, now: Time) {
        if self.config != config {
            let held_until = self.held_until;
            *self = Watch {
                held_until,
                ..Watch::new(config, now)
            };
        }
    }

    pub fn config(&self) -> PassiveConfig {
        self.config
    }

    /// Whether something has failed of late.
    pub fn is_in_doubt(&self) -> bool {
        self.window.is_some()
    }

    pub fn held_until(&self) -> Option<Time> {
        self.held_until
    }

    /// Ends a hold. What came of connections of before says nothing any longer.
    pub fn release(&mut self) {
        self.held_until = None;
        self.window = None;
    }

    /// Takes in what came of connections since the last time. `has_other`: whether the service has another available one.
    pub fn note(
        &mut self,
        since: Tally,
        now: Time,
        has_other: impl FnOnce() -> bool,
    ) -> Option<Ruling> {
        // Connections of before the hold end during it.
        if self.held_until.is_some() {
            return None;
        }
        self.turn(now);
        if self.window.is_none() && since.failed == 0 {
            return None;
        }
        let window = self.window.get_or_insert_default();
        window[0].answered += since.answered;
        window[0].failed += since.failed;
        let why = against(window, self.config.failures)?;
        // What was spared needs as much again.
        self.window = None;
        if !has_other() {
            return Some(Ruling::Spared(why));
        }
        let until = now + self.config.hold;
        self.held_until = Some(until);
        Some(Ruling::Held { until, why })
    }

    /// Leaves behind what is too long ago.
    fn turn(&mut self, now: Time) {
        let part = (self.config.within / PARTS as u32).max(Duration::from_millis(1));
        let elapsed = now.since(self.began).as_nanos();
        let passed = elapsed / part.as_nanos();
        if passed == 0 {
            return;
        }
        // The rest of the division has begun already.
        let rest = Duration::from_nanos((elapsed % part.as_nanos()) as u64);
        self.began = Time::from_nanos(now.nanos().saturating_sub(rest.as_nanos() as u64));
        let Some(window) = &mut self.window else {
            return;
        };
        if passed >= PARTS as u128 {
            self.window = None;
            return;
        }
        window.rotate_right(passed as usize);
        window[..passed as usize].fill(Tally::default());
        if window.iter().all(|part| part.failed == 0) {
            self.window = None;
        }
    }
}

/// The shortest stretch up to now in which enough has failed, and more than was answered.
fn against(window: &[Tally; PARTS], failures: u32) -> Option<Tally> {
    let mut sum = Tally::default();
    window.iter().find_map(|part| {
        sum.answered += part.answered;
        sum.failed += part.failed;
        (sum.failed >= u64::from(failures) && sum.failed > sum.answered).then_some(sum)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONFIG: PassiveConfig = PassiveConfig {
        failures: 5,
        within: Duration::from_secs(10),
        hold: Duration::from_secs(30),
    };

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    /// (answered, failed) at a time in seconds, and whether that leads to a hold.
    type Step = (f64, (u64, u64), bool);

    #[test]
    fn a_real_server_is_held_for_what_speaks_against_it_and_no_less() {
        let cases: [(&str, &[Step]); 9] = [
            ("all at once", &[(1.0, (0, 5), true)]),
            (
                "one after the other",
                &[
                    (1.0, (0, 1), false),
                    (2.0, (0, 1), false),
                    (3.0, (0, 1), false),
                    (4.0, (0, 1), false),
                    (5.0, (0, 1), true),
                ],
            ),
            ("too few", &[(1.0, (0, 4), false)]),
            (
                "too far apart",
                &[
                    (1.0, (0, 4), false),
                    (11.5, (0, 4), false),
                    (22.0, (0, 4), false),
                ],
            ),
            ("just within", &[(1.0, (0, 4), false), (9.9, (0, 1), true)]),
            (
                "one client's requests get no answer, and those of others do",
                &[
                    (1.0, (5, 5), false),
                    (2.0, (50, 20), false),
                    (3.0, (20, 20), false),
                ],
            ),
            (
                "it has just died: what it answered before does not save it",
                &[
                    (1.0, (1000, 0), false),
                    (2.0, (1000, 3), false),
                    (3.1, (0, 5), true),
                ],
            ),
            (
                "half of all fail, and one more",
                &[(1.0, (40, 40), false), (2.1, (0, 1), true)],
            ),
            (
                "during a hold nothing counts, and after it what comes then",
                &[
                    (1.0, (0, 5), true),
                    (2.0, (0, 500), false),
                    (30.9, (0, 500), false),
                    (31.1, (0, 4), false),
                    (31.2, (0, 1), true),
                ],
            ),
        ];
        for (what, steps) in cases {
            let mut watch = Watch::new(CONFIG, at(0));
            for &(seconds, (answered, failed), is_held) in steps {
                let now = at((seconds * 1000.0) as u64);
                if watch.held_until().is_some_and(|until| until <= now) {
                    watch.release();
                }
                let ruling = watch.note(Tally { answered, failed }, now, || true);
                let until = now + CONFIG.hold;
                let is_right = match ruling {
                    None => !is_held,
                    Some(Ruling::Held { until: its, .. }) => is_held && its == until,
                    Some(Ruling::Spared(_)) => false,
                };
                assert!(is_right, "{what}, {seconds}: {ruling:?}");
            }
        }
    }

    #[test]
    fn the_last_one_is_spared_and_looked_at_anew() {
        let mut watch = Watch::new(CONFIG, at(0));
        let failed = Tally {
            answered: 0,
            failed: 5,
        };
        let spared = watch.note(failed, at(100), || false);
        assert_eq!(spared, Some(Ruling::Spared(failed)));
        assert_eq!(watch.held_until(), None);
        let few = Tally {
            answered: 0,
            failed: 4,
        };
        assert_eq!(watch.note(few, at(200), || true), None);
        let one = Tally {
            answered: 0,
            failed: 1,
        };
        let ruling = watch.note(one, at(300), || true);
        assert!(matches!(ruling, Some(Ruling::Held { .. })), "{ruling:?}");
    }

    #[test]
    fn another_rule_begins_anew_and_a_hold_stays() {
        let mut watch = Watch::new(CONFIG, at(0));
        let failed = Tally {
            answered: 0,
            failed: 4,
        };
        watch.note(failed, at(0), || true);
        watch.set_config(CONFIG, at(0));
        assert!(watch.is_in_doubt(), "the same rule");
        let other = PassiveConfig {
            failures: 2,
            ..CONFIG
        };
        watch.set_config(other, at(0));
        assert!(!watch.is_in_doubt());
        watch.note(failed, at(0), || true);
        assert!(watch.held_until().is_some());
        watch.set_config(CONFIG, at(0));
        assert!(watch.held_until().is_some());
    }

    proptest! {
        /// Held against a list of all that was seen.
        #[test]
        fn a_hold_has_its_reasons_within_the_time(
            failures in 1u32..8,
            within in 100u64..20_000,
            steps in prop::collection::vec((0u64..3_000, 0u64..6, 0u64..6, any::<bool>()), 1..60),
        ) {
            let config = PassiveConfig {
                failures,
                within: Duration::from_millis(within),
                hold: Duration::from_secs(5),
            };
            let mut watch = Watch::new(config, at(0));
            let mut seen: Vec<(u64, Tally)> = Vec::new();
            let mut now = 0;
            for (pause, answered, failed, has_other) in steps {
                now += pause;
                if watch.held_until().is_some_and(|until| until <= at(now)) {
                    watch.release();
                    seen.clear();
                }
                let was_held = watch.held_until().is_some();
                let tally = Tally { answered, failed };
                let ruling = watch.note(tally, at(now), || has_other);
                if was_held {
                    prop_assert_eq!(ruling, None);
                    continue;
                }
                seen.push((now, tally));
                let why = match ruling {
                    Some(Ruling::Held { until, why }) => {
                        prop_assert!(has_other);
                        prop_assert_eq!(until, at(now) + config.hold);
                        Some(why)
                    }
                    Some(Ruling::Spared(why)) => {
                        prop_assert!(!has_other);
                        Some(why)
                    }
                    None => None,
                };
                // Of the time that counts, one part may not have passed wholly.
                let sum = |from: u64| {
                    let since = seen.iter().filter(|(at, _)| *at >= from);
                    since.fold((0, 0), |sum, (_, it)| (sum.0 + it.answered, sum.1 + it.failed))
                };
                if let Some(why) = why {
                    prop_assert!(why.failed >= u64::from(failures) && why.failed > why.answered);
                    let (_, most) = sum(now.saturating_sub(within));
                    prop_assert!(why.failed <= most, "{} of {}", why.failed, most);
                    seen.clear();
                } else {
                    // Nothing answered and enough failed, within nine tenths of the time: that would have been enough.
                    let (answered, failed) = sum(now.saturating_sub(within * 8 / 10));
                    prop_assert!(answered > 0 || failed < u64::from(failures));
                }
            }
        }
    }
}

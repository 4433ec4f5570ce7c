//! Bounds on what is said because a packet or a request came, so that a flood of them is no flood of log lines.

use crate::units::Time;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// Between two log lines of one kind about one subject.
const PERIOD: Duration = Duration::from_secs(1);

/// Log lines of one kind: each subject has at most one a second, which says how often it happened since the one before.
/// So many subjects are told apart, and no more: strangers choose addresses as they like. The others are counted.
#[derive(Debug)]
pub struct Reports<S, V> {
    most: usize,
    subjects: HashMap<S, Subject<V>>,
    /// What happened to others since their last line.
    others: u64,
    others_said: Option<Time>,
}

#[derive(Debug)]
struct Subject<V> {
    said: Time,
    since: Option<Said<V>>,
}

/// What a line tells of its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said<V> {
    pub first: V,
    pub last: V,
    pub count: u64,
}

/// Lines that are due.
#[derive(Debug, PartialEq, Eq)]
pub struct Due<S, V> {
    pub subjects: Vec<(S, Said<V>)>,
    /// How often it happened to subjects that are not told apart; 0: no line.
    pub others: u64,
}

impl<S: Clone + Eq + Hash, V: Clone> Reports<S, V> {
    /// Tells `most` subjects apart.
    pub fn new(most: usize) -> Self {
        Reports {
            most,
            subjects: HashMap::new(),
            others: 0,
            others_said: None,
        }
    }

    /// It happened to `subject`: what to say of it now, if a line is due.
    pub fn note(&mut self, subject: S, what: V, now: Time) -> Option<Said<V>> {
        if let Some(known) = self.subjects.get_mut(&subject) {
            match &mut known.since {
                Some(since) => {
                    since.last = what;
                    since.count += 1;
                }
                None => known.since = Some(Said::once(what)),
            }
            return known.due(now);
        }
        if self.subjects.len() == self.most {
            self.others += 1;
            return None;
        }
        let known = Subject {
            said: now,
            since: None,
        };
        self.subjects.insert(subject, known);
        Some(Said::once(what))
    }

    /// What is left to say of what has ended. Call it from time to time: subjects to which nothing happens are forgotten.
    pub fn tick(&mut self, now: Time) -> Due<S, V> {
        let mut due = Due {
            subjects: Vec::new(),
            others: 0,
        };
        self.subjects.retain(|subject, known| {
            let is_over = known.since.is_none() && now.since(known.said) >= PERIOD;
            due.subjects
                .extend(known.due(now).map(|said| (subject.clone(), said)));
            !is_over
        });
        let is_due = |last: Time| now.since(last) >= PERIOD;
        if self.others > 0 && self.others_said.is_none_or(is_due) {
            self.others_said = Some(now);
            due.others = std::mem::take(&mut self.others);
        }
        due
    }
}

impl<V: Clone> Said<V> {
    fn once(what: V) -> Self {
        Said {
            first: what.clone(),
            last: what,
            count: 1,
        }
    }
}

impl<V> Subject<V> {
    fn due(&mut self, now: Time) -> Option<Said<V>> {
        if now.since(self.said) < PERIOD {
            return None;
        }
        let said = self.since.take()?;
        self.said = now;
        Some(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_subject_has_a_line_a_second_with_what_happened_since_and_the_last_one_is_not_forgotten() {
        let mut reports = Reports::new(2);
        let mut said = Vec::new();
        for millis in 0..2500 {
            said.extend(reports.note("a", millis, at(millis)));
            said.extend(
                reports
                    .tick(at(millis))
                    .subjects
                    .iter()
                    .map(|(_, said)| *said),
            );
        }
        let line = |first, last, count| Said { first, last, count };
        assert_eq!(
            said,
            [line(0, 0, 1), line(1, 1000, 1000), line(1001, 2000, 1000)]
        );
        assert!(reports.tick(at(2999)).subjects.is_empty());
        let due = reports.tick(at(3000));
        assert_eq!(due.subjects, [("a", line(2001, 2499, 499))]);
        assert!(reports.tick(at(4000)).subjects.is_empty());
        assert!(reports.subjects.is_empty());
    }

    #[test]
    fn strangers_neither_grow_the_list_of_subjects_nor_the_number_of_lines() {
        let mut reports = Reports::new(16);
        let (mut lines, mut events) = (0, 0);
        for millis in 0..10_000 {
            for n in 0..24 {
                // Never the same twice.
                let said = reports.note(millis * 24 + n, (), at(millis));
                lines += usize::from(said.is_some());
                events += said.map_or(0, |said| said.count);
            }
            let due = reports.tick(at(millis));
            lines += due.subjects.len() + usize::from(due.others > 0);
            events += due.others + due.subjects.iter().map(|(_, said)| said.count).sum::<u64>();
            assert!(reports.subjects.len() <= 16);
        }
        assert!((100..=17 * 11).contains(&lines), "{lines}");
        assert_eq!(events + reports.others, 240_000);
    }
}

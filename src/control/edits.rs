//! What the log says of changes that were asked for. A client of the API may ask as often as it likes, so each line
//! comes through [`Reports`].

use crate::config::Diagnostics;
use crate::log::{Reports, Said};
use crate::model::names;
use crate::units::Time;
use humantime::format_duration;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Subjects that are told apart.
const SUBJECTS: usize = 256;
/// Characters of a subject, which comes with the request.
const LONGEST: usize = 200;

type Weighed = (String, SocketAddr);
type Edited = (u16, u16, &'static str);
/// Who has asked for a change; none: a timer, or weir itself.
type By = Option<Arc<str>>;

/// What became of a file or of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    Reloaded,
    Awaits,
    Confirmed,
    Unconfirmed,
    RolledBack,
    Set,
    Removed,
    Warning,
}

#[derive(Debug)]
pub(super) struct Edits {
    /// Effective weights before and after, and what was done.
    weights: Reports<Weighed, (Edited, By)>,
    others: Reports<(What, String), (String, By)>,
    by: By,
}

impl Default for Edits {
    fn default() -> Self {
        Edits {
            weights: Reports::new(SUBJECTS),
            others: Reports::new(SUBJECTS),
            by: None,
        }
    }
}

impl Edits {
    /// Who has asked for what comes next.
    pub(super) fn asked_by(&mut self, by: By) {
        self.by = by;
    }

    pub(super) fn real(&mut self, service: &str, real: SocketAddr, change: Edited, now: Time) {
        let subject = (short(service), real);
        let change = (change, self.by.clone());
        if let Some(said) = self.weights.note(subject.clone(), change, now) {
            weighed(&subject, &said);
        }
    }

    pub(super) fn reloaded(&mut self, file: &str, changes: &impl ToString, now: Time) {
        self.note(What::Reloaded, file, changes.to_string(), now);
    }

    /// A reload stays for so long unless it is confirmed.
    pub(super) fn awaits(&mut self, file: &str, given: Duration, now: Time) {
        self.note(What::Awaits, file, format_duration(given).to_string(), now);
    }

    pub(super) fn confirmed(&mut self, file: &str, now: Time) {
        self.note(What::Confirmed, file, String::new(), now);
    }

    /// A reload was not confirmed in time.
    pub(super) fn unconfirmed(&mut self, file: &str, given: Duration, now: Time) {
        let given = format_duration(given).to_string();
        self.note(What::Unconfirmed, file, given, now);
    }

    pub(super) fn rolled_back(&mut self, file: &str, changes: &impl ToString, now: Time) {
        self.note(What::RolledBack, file, changes.to_string(), now);
    }

    /// `services`: their names.
    pub(super) fn set(&mut self, services: &[String], changes: &impl ToString, now: Time) {
        self.note(What::Set, &names(services), changes.to_string(), now);
    }

    pub(super) fn removed(&mut self, service: &str, changes: &impl ToString, now: Time) {
        self.note(What::Removed, service, changes.to_string(), now);
    }

    pub(super) fn warnings(&mut self, warnings: &Diagnostics, now: Time) {
        for warning in warnings.iter() {
            let place = format!("{}:{}", warning.file, warning.line);
            self.note(What::Warning, &place, warning.message.clone(), now);
        }
    }

    fn note(&mut self, what: What, subject: &str, text: String, now: Time) {
        let subject = (what, short(subject));
        let text = (text, self.by.clone());
        if let Some(said) = self.others.note(subject.clone(), text, now) {
            say(&subject, &said);
        }
    }

    /// Says what is left to say.
    pub(super) fn tick(&mut self, now: Time) {
        let (weights, others) = (self.weights.tick(now), self.others.tick(now));
        let lines = weights.subjects.iter();
        lines.for_each(|(subject, said)| weighed(subject, said));
        let lines = others.subjects.iter();
        lines.for_each(|(subject, said)| say(subject, said));
        let more = weights.others + others.others;
        if more > 0 {
            tracing::info!(changes = more, "still more was changed");
        }
    }
}

/// As much of what a request says as a line needs.
fn short(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

fn weighed((service, real): &Weighed, said: &Said<(Edited, By)>) {
    let ((before, ..), _) = said.first;
    let ((_, after, what), by) = &said.last;
    let (by, changes) = (by.as_deref(), said.count);
    tracing::info!(service, %real, before, after, changes, by, "{what}");
}

fn say((what, subject): &(What, String), said: &Said<(String, By)>) {
    let ((text, by), times) = (&said.last, said.count);
    let by = by.as_deref();
    match what {
        What::Reloaded => tracing::info!(file = subject, times, by, "reloaded: {text}"),
        What::Awaits => {
            tracing::info!(
                file = subject,
                times,
                by,
                "goes back in {text} unless it is confirmed"
            );
        }
        What::Confirmed => tracing::info!(file = subject, times, by, "confirmed"),
        What::Unconfirmed => {
            tracing::warn!(
                file = subject,
                times,
                "not confirmed within {text}: going back"
            );
        }
        What::RolledBack => tracing::warn!(file = subject, times, by, "went back: {text}"),
        What::Set => tracing::info!(services = subject, times, by, "services set: {text}"),
        What::Removed => tracing::info!(service = subject, times, by, "service removed: {text}"),
        What::Warning => tracing::warn!(at = subject, times, "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::logged;

    /// What a client of the API does 24 times in each millisecond, and how many subjects it has.
    type Flood = (&'static str, fn(&mut Edits, u64, Time), usize);

    const FLOODS: &[Flood] = &[
        (
            "weights of one real server",
            |edits, n, now| edits.real("web", real(1), (1, n as u16, "weight"), now),
            1,
        ),
        (
            "weights of ever other real servers",
            |edits, n, now| edits.real("web", real(n), (1, 2, "weight"), now),
            SUBJECTS + 1,
        ),
        (
            "one file",
            |edits, _, now| edits.reloaded("/etc/lb.toml", &"nothing changed", now),
            1,
        ),
        (
            "ever other files, of long names",
            |edits, n, now| edits.reloaded(&format!("/{n}{}", "x".repeat(9000)), &"", now),
            SUBJECTS + 1,
        ),
        (
            "a service comes and goes",
            |edits, _, now| {
                edits.set(&["web".to_owned()], &"1 added", now);
                edits.removed("web", &"1 removed", now);
            },
            2,
        ),
    ];

    fn real(n: u64) -> SocketAddr {
        SocketAddr::from(((n as u32).to_be_bytes(), 80))
    }

    #[test]
    fn a_client_that_changes_things_all_the_time_writes_a_line_a_second_for_each() {
        for (name, edit, subjects) in FLOODS {
            let lines = logged(|| {
                let mut edits = Edits::default();
                for millis in 0..3000 {
                    let now = Time::from_nanos(millis * 1_000_000);
                    (0..24).for_each(|n| edit(&mut edits, millis * 24 + n, now));
                    edits.tick(now);
                }
            });
            let most = subjects * 4;
            assert!((3..=most).contains(&lines.len()), "{name}: {}", lines.len());
            assert!(lines.iter().all(|line| line.len() < 400), "{name}");
        }
    }

    #[test]
    fn a_change_names_its_service_and_real_server_and_what_was_before() {
        let lines = logged(|| {
            let mut edits = Edits::default();
            let at = |millis: u64| Time::from_nanos(millis * 1_000_000);
            edits.asked_by(Some("uid 0 (root)".into()));
            edits.real("web", real(1), (1, 2, "weight"), at(0));
            edits.real("web", real(1), (2, 3, "weight"), at(10));
            edits.real("web", real(1), (3, 7, "weight"), at(20));
            edits.tick(at(500));
            edits.tick(at(1000));
        });
        assert_eq!(lines.len(), 2, "{lines:#?}");
        let words = [
            "service=\"web\"",
            "real=0.0.0.1:80",
            "before=2",
            "after=7",
            "changes=2",
            "by=\"uid 0 (root)\"",
        ];
        assert!(
            words.iter().all(|word| lines[1].contains(word)),
            "{}",
            lines[1]
        );
    }
}

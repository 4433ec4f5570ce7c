//! What the log says of changes that were asked for. Whoever reaches the API asks as often as he likes; so each line comes
//! through [`Reports`].

use super::model::names;
use super::pace::{Reports, Said};
use crate::config::Diagnostics;
use crate::units::Time;
use std::net::SocketAddrV4;

/// Subjects that are told apart.
const SUBJECTS: usize = 256;
/// Characters of a subject, which comes with the request.
const LONGEST: usize = 200;

type Weighed = (String, SocketAddrV4);

/// What became of a file or of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    Reloaded,
    Set,
    Removed,
    Warning,
}

#[derive(Debug)]
pub(super) struct Edits {
    /// Weights: before and after.
    weights: Reports<Weighed, (u16, u16)>,
    others: Reports<(What, String), String>,
}

impl Default for Edits {
    fn default() -> Self {
        Edits {
            weights: Reports::new(SUBJECTS),
            others: Reports::new(SUBJECTS),
        }
    }
}

impl Edits {
    pub fn weight(&mut self, service: &str, real: SocketAddrV4, change: (u16, u16), now: Time) {
        let subject = (short(service), real);
        if let Some(said) = self.weights.note(subject.clone(), change, now) {
            weighed(&subject, &said);
        }
    }

    pub fn reloaded(&mut self, file: &str, changes: &impl ToString, now: Time) {
        self.note(What::Reloaded, file, changes.to_string(), now);
    }

    /// `services`: their names.
    pub fn set(&mut self, services: &[String], changes: &impl ToString, now: Time) {
        self.note(What::Set, &names(services), changes.to_string(), now);
    }

    pub fn removed(&mut self, service: &str, changes: &impl ToString, now: Time) {
        self.note(What::Removed, service, changes.to_string(), now);
    }

    pub fn warnings(&mut self, warnings: &Diagnostics, now: Time) {
        for warning in warnings.iter() {
            let place = format!("{}:{}", warning.file, warning.line);
            self.note(What::Warning, &place, warning.message.clone(), now);
        }
    }

    fn note(&mut self, what: What, subject: &str, text: String, now: Time) {
        let subject = (what, short(subject));
        if let Some(said) = self.others.note(subject.clone(), text, now) {
            say(&subject, &said);
        }
    }

    /// Says what is left to say.
    pub fn tick(&mut self, now: Time) {
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

fn weighed((service, real): &Weighed, said: &Said<(u16, u16)>) {
    let (before, after, changes) = (said.first.0, said.last.1, said.count);
    tracing::info!(service, %real, before, after, changes, "weight");
}

fn say((what, subject): &(What, String), said: &Said<String>) {
    let (text, times) = (&said.last, said.count);
    match what {
        What::Reloaded => tracing::info!(file = subject, times, "reloaded: {text}"),
        What::Set => tracing::info!(services = subject, times, "services set: {text}"),
        What::Removed => tracing::info!(service = subject, times, "service removed: {text}"),
        What::Warning => tracing::warn!(at = subject, times, "{text}"),
    }
}

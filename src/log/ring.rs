//! The last events of the log, structured, for those who ask the daemon what happened.

use parking_lot::Mutex;
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;
use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// How many are kept.
const KEPT: usize = 10_000;
/// Bytes of an event's message and fields, each, that are kept.
const LONGEST: usize = 1_000;

/// What events are about, by the module that says them: the first line whose module fits.
const KINDS: &[(&str, &str)] = &[
    ("weir::control::availability", "health"),
    ("weir::control::checks", "health"),
    ("weir::probe", "health"),
    ("weir::resolver", "neighbour"),
    ("weir::model::reach", "neighbour"),
    ("weir::control::links", "link"),
    ("weir::control::stalls", "link"),
    ("weir::control::unplug", "link"),
    ("weir::control::announce", "address"),
    ("weir::host::vips", "address"),
    ("weir::control::detect", "address"),
    ("weir::control::edits", "change"),
    ("weir::control::watch", "drops"),
    ("weir::model::passive", "health"),
    ("weir::model", "change"),
    ("weir::api", "change"),
    ("weir::log::panics", "panic"),
    ("weir::io", "device"),
];
/// What all others are.
const OTHER: &str = "daemon";

/// Of the kinds of events, those that there are.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    let mut kinds: Vec<_> = KINDS.iter().map(|(_, kind)| *kind).collect();
    kinds.push(OTHER);
    kinds.sort_unstable();
    kinds.dedup();
    kinds.into_iter()
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Counts the events since the start, from 1.
    pub n: u64,
    pub time: SystemTime,
    /// `error`, `warn`, `info`, …
    pub level: String,
    pub kind: &'static str,
    pub message: String,
    pub fields: Map<String, Value>,
}

/// The last events.
#[derive(Debug, Default)]
pub struct Events {
    records: Mutex<VecDeque<Arc<Record>>>,
    added: Notify,
}

static EVENTS: OnceLock<Arc<Events>> = OnceLock::new();

/// The last events of this process.
pub fn events() -> Arc<Events> {
    EVENTS.get_or_init(Arc::default).clone()
}

impl Events {
    /// The first `most` of those that are kept and have a number beyond `after`.
    pub fn after(&self, after: u64, most: usize) -> Vec<Arc<Record>> {
        let records = self.records.lock();
        let place = records.partition_point(|record| record.n <= after);
        records.range(place..).take(most).cloned().collect()
    }

    /// The number behind which the last `most` begin of those beyond `after` that are wanted.
    pub fn behind(&self, after: u64, most: usize, is_wanted: impl Fn(&Record) -> bool) -> u64 {
        let records = self.records.lock();
        let place = records.partition_point(|record| record.n <= after);
        let wanted = records.range(place..).rev().filter(|it| is_wanted(it));
        match most.checked_sub(1) {
            None => records.back().map_or(0, |last| last.n),
            Some(others) => wanted
                .skip(others)
                .map(|it| it.n - 1)
                .next()
                .unwrap_or(after),
        }
    }

    /// The number of the last one; 0: there is none.
    pub fn last(&self) -> u64 {
        self.records.lock().back().map_or(0, |record| record.n)
    }

    /// Waits until there is one beyond `after`.
    pub async fn beyond(&self, after: u64) {
        loop {
            let added = self.added.notified();
            if self.last() > after {
                return;
            }
            added.await;
        }
    }

    fn add(&self, mut record: Record) {
        let mut records = self.records.lock();
        record.n = records.back().map_or(0, |last| last.n) + 1;
        if records.len() == KEPT {
            records.pop_front();
        }
        records.push_back(Arc::new(record));
        drop(records);
        self.added.notify_waiters();
    }
}

/// The layer of the subscriber that keeps them.
pub(super) struct Kept(pub Arc<Events>);

impl<S: Subscriber> Layer<S> for Kept {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut said = Said::default();
        event.record(&mut said);
        self.0.add(Record {
            n: 0,
            time: SystemTime::now(),
            level: metadata.level().as_str().to_ascii_lowercase(),
            kind: kind_of(metadata.target()),
            message: said.message,
            fields: said.fields,
        });
    }
}

/// What an event of this module, or of a target with another name, is about.
pub(super) fn kind_of(module: &str) -> &'static str {
    let kind = KINDS.iter().find(|(prefix, _)| is_in(module, prefix));
    kind.map_or(OTHER, |(_, kind)| kind)
}

fn is_in(module: &str, of: &str) -> bool {
    let rest = module.strip_prefix(of);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[derive(Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Said {
    fn set(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

/// The first bytes of what it is written; the rest is left out.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LONGEST.saturating_sub(self.0.len());
        let mut end = room.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.0.push_str(&text[..end]);
        Ok(())
    }
}

fn bounded(value: fmt::Arguments<'_>) -> String {
    let mut text = Bounded(String::new());
    // It never fails.
    let _ = text.write_fmt(value);
    text.0
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = bounded(format_args!("{value:?}"));
        match field.name() {
            "message" => self.message = text,
            _ => self.set(field, text.into()),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = bounded(format_args!("{value}"));
        match field.name() {
            "message" => self.message = text,
            _ => self.set(field, text.into()),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;
    use tracing_subscriber::layer::SubscriberExt;

    fn kept(body: impl FnOnce()) -> Arc<Events> {
        let events = Arc::new(Events::default());
        let subscriber = tracing_subscriber::registry().with(Kept(events.clone()));
        tracing::subscriber::with_default(subscriber, body);
        events
    }

    #[test]
    fn an_event_keeps_its_words_and_fields() {
        let events = kept(|| {
            let real = "10.0.0.11:8080";
            tracing::warn!(target: "weir::control::checks", %real, times = 3_u64, ok = false, "real server is {}", "down");
            tracing::info!(target: "weir::control_room", "{}", "é".repeat(LONGEST));
        });
        let records = events.after(0, 10);
        let [first, second] = &records[..] else {
            panic!("{records:?}")
        };
        assert_eq!((first.n, second.n, events.last()), (1, 2, 2));
        assert_eq!((first.level.as_str(), first.kind), ("warn", "health"));
        assert_eq!(first.message, "real server is down");
        let fields = json!({ "real": "10.0.0.11:8080", "times": 3, "ok": false });
        assert_eq!(Value::Object(first.fields.clone()), fields);
        assert_eq!(second.kind, "daemon", "no module's beginning of a name");
        assert_eq!(second.message.len(), LONGEST);
    }

    #[test]
    fn the_last_ones_are_kept_and_found_by_their_numbers() {
        let events = kept(|| (0..KEPT + 50).for_each(|n| tracing::info!(n)));
        let numbers = |after, most| {
            let found = events.after(after, most);
            found.iter().map(|record| record.n).collect::<Vec<_>>()
        };
        assert_eq!(numbers(0, 3), [51, 52, 53], "the oldest are gone");
        assert_eq!(numbers(60, 2), [61, 62]);
        let last = KEPT as u64 + 50;
        assert_eq!(numbers(last - 1, 9), [last]);
        assert!(numbers(last, 9).is_empty() && numbers(u64::MAX, 9).is_empty());
        assert_eq!(numbers(0, usize::MAX).len(), KEPT);
        // Where the last so many of those that are wanted begin.
        let behind = |after, most| events.behind(after, most, |record| record.n % 2 == 0);
        assert_eq!(behind(0, 1), last - 1);
        assert_eq!(behind(0, 3), last - 5);
        assert_eq!(behind(last - 4, 100), last - 4);
        assert_eq!(behind(60, usize::MAX), 60);
        assert_eq!(behind(0, 0), last);
    }

    #[tokio::test]
    async fn who_waits_for_an_event_is_woken_by_it() {
        let events = kept(|| tracing::info!("one"));
        events.beyond(0).await;
        let soon = Duration::from_millis(20);
        let waited = tokio::time::timeout(soon, events.beyond(1)).await;
        assert!(waited.is_err(), "there is none yet");
        let waiting = tokio::spawn({
            let events = events.clone();
            async move { events.beyond(1).await }
        });
        tokio::time::sleep(soon).await;
        let subscriber = tracing_subscriber::registry().with(Kept(events.clone()));
        tracing::subscriber::with_default(subscriber, || tracing::info!("two"));
        waiting.await.unwrap();
    }
}

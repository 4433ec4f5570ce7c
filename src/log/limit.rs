//! The last bound on the log: each place in the code writes so many lines a second, whatever makes it log.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Lines of one place in a second. Only what was asked for by `RUST_LOG` (debug, trace) may be more.
const LINES: u32 = 100;

/// By place, of which there are as many as the program has.
#[derive(Debug, Default)]
pub(super) struct Limit(Mutex<HashMap<Identifier, Place>>);

#[derive(Debug)]
struct Place {
    /// `module:line`
    name: String,
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl Limit {
    /// Whether a place may write one more line.
    fn allow(&self, place: Identifier, name: impl FnOnce() -> String, now: Instant) -> bool {
        let mut places = self.0.lock();
        let place = places.entry(place).or_insert_with(|| Place {
            name: name(),
            since: now,
            lines: 0,
            left_out: 0,
        });
        if now.duration_since(place.since) >= Duration::from_secs(1) {
            (place.since, place.lines) = (now, 0);
        }
        let is_allowed = place.lines < LINES;
        match is_allowed {
            true => place.lines += 1,
            false => place.left_out += 1,
        }
        is_allowed
    }

    /// The places that had lines left out since the last call, and how many.
    pub(super) fn take(&self) -> Vec<(String, u64)> {
        let mut places = self.0.lock();
        let of = |place: &mut Place| match std::mem::take(&mut place.left_out) {
            0 => None,
            lines => Some((place.name.clone(), lines)),
        };
        places.values_mut().filter_map(of).collect()
    }
}

/// The limit, as a layer of the subscriber.
pub(super) struct Limited(pub Arc<Limit>);

impl<S: Subscriber> Layer<S> for Limited {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let about = event.metadata();
        let name = || format!("{}:{}", about.target(), about.line().unwrap_or_default());
        *about.level() > Level::INFO || self.0.allow(about.callsite(), name, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex as StdMutex;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Text(Arc<StdMutex<Vec<u8>>>);

    impl std::io::Write for Text {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_place_that_is_made_to_log_writes_so_many_lines_a_second_and_others_are_not_kept_from_it() {
        let (limit, text) = (Arc::new(Limit::default()), Text::default());
        let out = text.clone();
        let lines = tracing_subscriber::fmt::layer().with_writer(move || out.clone());
        let log = tracing_subscriber::registry()
            .with(Limited(limit.clone()))
            .with(lines);
        let began = Instant::now();
        tracing::subscriber::with_default(log, || {
            for n in 0..24_000 {
                tracing::warn!(n, "flood");
            }
            tracing::warn!("another place");
        });
        let seconds = began.elapsed().as_secs() + 1;
        let text = String::from_utf8(text.0.lock().unwrap().clone()).unwrap();
        let written = text.matches("flood").count() as u64;
        assert!(
            (1..=u64::from(LINES) * seconds).contains(&written),
            "{written} lines"
        );
        assert!(text.contains("another place"));
        let left_out = limit.take();
        assert_eq!(left_out.len(), 1);
        assert!(left_out[0].0.starts_with("weir::log::limit"));
        assert_eq!(left_out[0].1, 24_000 - written);
        assert!(limit.take().is_empty());
    }
}

//! A panic is an event: one line that names its place, and a count that `/health` and the metrics tell.

use parking_lot::Mutex;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// The places that have panicked: when each was last logged, and its panics since. The program has so many at most.
static TOLD: Mutex<Vec<(String, Instant, u64)>> = Mutex::new(Vec::new());

thread_local! {
    static ABORTS: Cell<bool> = const { Cell::new(false) };
}

/// Panics of this process, on whatever thread.
pub fn panics() -> u64 {
    COUNT.load(Relaxed)
}

/// From now on a panic of this thread ends the process at once, without unwinding: a worker's memory is shared with
/// devices and with other workers, and must not be dropped halfway.
pub fn abort_on_panic() {
    ABORTS.set(true);
}

pub(super) fn install() {
    std::panic::set_hook(Box::new(|panic| {
        COUNT.fetch_add(1, Relaxed);
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("(no message)");
        let place = panic.location().map(ToString::to_string);
        let place = place.unwrap_or_default();
        if let Some(panics) = count(&place) {
            let thread = std::thread::current();
            let thread = thread.name().unwrap_or("unnamed");
            tracing::error!(thread, place, panics, "panic: {message}");
            // As RUST_BACKTRACE says.
            let backtrace = Backtrace::capture();
            if backtrace.status() == BacktraceStatus::Captured {
                super::say(backtrace);
            }
        }
        if ABORTS.get() {
            tracing::error!("a worker has panicked: the process ends");
            super::flush();
            std::process::abort();
        }
    }));
}

/// Counts one. How many there were since the last line, if a line is due: one a second for each place.
fn count(place: &str) -> Option<u64> {
    let mut told = TOLD.lock();
    let now = Instant::now();
    let Some((_, last, since)) = told.iter_mut().find(|(known, ..)| known == place) else {
        told.push((place.to_owned(), now, 0));
        return Some(1);
    };
    *since += 1;
    if now.duration_since(*last) < Duration::from_secs(1) {
        return None;
    }
    *last = now;
    Some(std::mem::take(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_panics_again_and_again_is_told_of_once_a_second() {
        let told: Vec<_> = (0..1000).filter_map(|_| count("here.rs:1:1")).collect();
        assert_eq!(told, [1]);
        assert_eq!(count("there.rs:1:1"), Some(1));
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(count("here.rs:1:1"), Some(1000));
    }
}

//! Panics and delays on demand, for the tests: what `POST /v1/inject` sets up. Only debug builds have this.

use super::Control;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Turns that are to panic.
static TURNS: AtomicUsize = AtomicUsize::new(0);

/// Whether the next change that is read takes its time until it is applied, and whether the next stop does.
static READING: AtomicBool = AtomicBool::new(false);
static STOPPING: AtomicBool = AtomicBool::new(false);
const READING_TAKES: Duration = Duration::from_secs(3);
const STOPPING_TAKES: Duration = Duration::from_secs(60);

/// A change has been read, and is not applied yet.
pub fn read() {
    if READING.swap(false, Relaxed) {
        std::thread::sleep(READING_TAKES);
    }
}

/// The daemon stops.
pub fn stop() {
    if STOPPING.load(Relaxed) {
        std::thread::sleep(STOPPING_TAKES);
    }
}

pub(super) fn turn() {
    let left = TURNS.load(Relaxed);
    if left > 0 {
        TURNS.store(left - 1, Relaxed);
        panic!("injected into a turn");
    }
}

/// Has so many turns panic.
pub fn fail_turns(turns: usize) {
    TURNS.store(turns, Relaxed);
}

/// Has the next change that is read take its time.
pub fn delay_reading() {
    READING.store(true, Relaxed);
}

/// Has the stop take its time.
pub fn delay_stopping() {
    STOPPING.store(true, Relaxed);
}

impl Control {
    /// Has the companions' thread panic.
    pub fn fail_companions(&self) {
        match &self.host {
            Some(host) => host.carrier.panic(),
            None => panic!("there are no companions"),
        }
    }
}

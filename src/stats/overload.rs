//! Whether a real server has as many connections as it may have.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A cell of all workers: it is written when it changes, and read when a connection is about to be made.
#[derive(Debug, Default)]
pub struct Overload(AtomicBool);

impl Overload {
    /// Brings it up to date, by what it was, and returns what it is.
    pub fn update(&self, now: impl FnOnce(bool) -> bool) -> bool {
        let was = self.0.load(Relaxed);
        let is = now(was);
        if is != was {
            self.0.store(is, Relaxed);
        }
        is
    }
}

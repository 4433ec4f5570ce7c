//! The local pairs of a pool towards one real server, on one worker.

use super::{Counter, Gauge};

/// Sixteen bytes for each real server with a local pool and each worker: there is no table of pairs, as the connection table
/// tells which are in use.
#[derive(Debug, Default)]
pub struct PairUse {
    /// Connections for which no pair was found.
    pub exhausted: Counter,
    /// The most that were in use at once.
    highest: Gauge,
    /// 1: most were in use, and the control thread has not seen it end.
    pressed: Gauge,
}

impl PairUse {
    /// So many are in use.
    #[inline]
    pub fn note(&self, used: u32) {
        if used > self.highest.get() {
            self.highest.set(used);
        }
    }

    pub fn highest(&self) -> u32 {
        self.highest.get()
    }

    /// Most are in use. Returns whether that is news.
    pub fn press(&self) -> bool {
        let is_news = self.pressed.get() == 0;
        self.pressed.set(1);
        is_news
    }

    pub fn is_pressed(&self) -> bool {
        self.pressed.get() != 0
    }

    /// Said by the control thread: fewer are in use again.
    pub fn relieve(&self) {
        self.pressed.set(0);
    }
}

//! Real servers with `max_connections`: whether one has as many connections as it may have.
//!
//! What counts is the sum of what the workers count, so nothing is counted twice, and a threshold that a reload brings counts
//! the connections that are there. Whether a real server is overloaded is one cell for all workers, brought up to date
//! whenever a connection is about to be made: as connections end, it may only become free, and that is seen before
//! the next one. With several workers, each may make one connection at the same moment: a real server has at most one
//! less than there are workers too many.

use crate::service::Real;
use crate::stats::Stats;

/// Whether a real server has so many connections that it gets no new ones.
pub fn is_overloaded(real: &Real, stats: &Stats) -> bool {
    match real.thresholds {
        None => false,
        Some(thresholds) => {
            let (active, inactive) = stats.load(real.id);
            let connections = active.saturating_add(inactive);
            let now = |was| thresholds.is_overloaded(was, connections);
            stats.overload(real.id).is_some_and(|cell| cell.update(now))
        }
    }
}

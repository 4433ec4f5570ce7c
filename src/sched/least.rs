//! What the schedulers have in common that look for the real server with the least load: `lc`, `wlc`, `sed`, `nq`, `lblc`, `lblcr`.
//!
//! They look at every real server of the service, for new connections only.

use super::{Usable, has_weight};
use crate::service::Real;
use crate::stats::Stats;

/// How much a real server has to do: an active connection counts as much as 256 inactive ones (`ip_vs_dest_conn_overhead`).
pub(super) fn overhead(real: &Real, stats: &Stats) -> u64 {
    let (active, inactive) = stats.load(real.id);
    u64::from(active) * 256 + u64::from(inactive)
}

/// A load for so much weight, to be compared without dividing: at most 2^40 times 2^16.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub load: u64,
    pub weight: u64,
}

impl Share {
    pub(super) fn is_less_than(self, other: Share) -> bool {
        self.load * other.weight < other.load * self.weight
    }
}

/// The place of the real server with the least share, among those with a weight that are usable. Among equals it is the first from
/// the place `beginning` on, and round to it.
pub(super) fn least(
    reals: &[Real],
    beginning: usize,
    usable: &Usable,
    share: impl Fn(&Real) -> Share,
) -> Option<usize> {
    let mut least: Option<(usize, Share)> = None;
    for (place, real) in from(reals, beginning) {
        let share = share(real);
        if least.is_none_or(|(_, least)| share.is_less_than(least)) && usable(real) {
            least = Some((place, share));
        }
    }
    least.map(|(place, _)| place)
}

/// The real servers that have a weight, with their places: from `beginning` on, and round to it.
pub(super) fn from(reals: &[Real], beginning: usize) -> impl Iterator<Item = (usize, &Real)> {
    let (before, after) = reals.split_at(beginning);
    let all = (before.len()..).zip(after).chain((0..).zip(before));
    all.filter(|(_, real)| has_weight(real))
}

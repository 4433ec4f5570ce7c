//! Next hops that the configuration needs, asked all the time: so weir knows within 3 s that one has fallen silent, and before the
//! first client that one does not answer.

use super::neighbours::Network;
use super::{PROBE, Resolver};
use crate::neighbour::LinkState;
use crate::units::HopId;
use std::net::IpAddr;
use std::time::Duration;

/// A next hop that the configuration needs is asked so often, in a daemon, whether it still answers; and so long after a
/// question the next one, of [`TRIES`](super::TRIES) in a row, since clients wait meanwhile. One that falls silent has failed within 3 s.
pub(super) const CONFIRM: Duration = Duration::from_secs(1);
pub(super) const CONFIRM_RETRY: Duration = Duration::from_millis(500);
/// Between two such questions about different ones, so that many of them are asked less often.
pub(super) const CONFIRM_SPACING: Duration = Duration::from_millis(1);
impl Resolver {
    /// Has next hops that the configuration needs asked all the time whether they still answer.
    pub fn confirm_all(&mut self) {
        self.confirms = true;
    }

    /// Asks for the next hop of a real server before a packet wants it, if neighbours are asked all the time: one that does not
    /// answer gets no client.
    pub fn prepare(&mut self, real: IpAddr, network: &Network) {
        let Some(route) = network.tables.routes.get(real).filter(|_| self.confirms) else {
            return;
        };
        let (port, now) = (route.port, self.clock);
        let hop = match route.gateway {
            Some((hop, _)) => Some(hop),
            None => self.neighbours.want(port, real, network, now),
        };
        let Some(hop) = hop.filter(|hop| !self.neighbours.is_static(*hop)) else {
            return;
        };
        let is_asked = self.inquiry(hop).is_open() || !self.agenda.is_clear(hop);
        if !is_asked
            && matches!(
                self.link(hop).state,
                LinkState::Incomplete | LinkState::Stale
            )
        {
            // Many of them come with a file.
            self.last_prepared = now.max(self.last_prepared + CONFIRM_SPACING);
            self.agenda.set(hop, self.last_prepared);
        }
    }

    /// Whether a neighbour is asked all the time whether it still answers.
    pub(super) fn is_to_confirm(&self, hop: HopId, network: &Network) -> bool {
        self.confirms && self.neighbours.is_needed(hop, network)
    }

    /// The time from an answer to the next question about a neighbour that is asked all the time.
    pub(super) fn confirm_period(&self) -> Duration {
        CONFIRM.max(CONFIRM_SPACING * self.neighbours.used() as u32)
    }

    /// Between two questions about a failed neighbour.
    pub(super) fn probe_period(&self) -> Duration {
        match self.confirms {
            true => self.confirm_period(),
            false => PROBE,
        }
    }
}

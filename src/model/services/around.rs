//! What services are made of beside their own configuration, and what real servers are told of it.

use super::super::from_config::key;
use super::registry::Registry;
use crate::admission::{Clients, Guard};
use crate::config::{self, ClientAddress, OnDown, ReversePath};
use crate::conn::Pool;
use crate::lpm::Lpm;
use crate::service::Real;
use crate::stats::{Established, Stats};
use crate::tables::Route;
use crate::units::ServiceId;
use foldhash::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// What services are made of beside their own configuration.
pub(super) struct Around {
    pub(super) stats: Arc<Stats>,
    pub(super) seed: u64,
    /// Of all services with limits per client, since there is one.
    pub(super) clients: OnceLock<Arc<Clients>>,
    /// See [`Model::with_beginnings`](crate::model::Model::with_beginnings).
    pub(super) beginnings: Option<u64>,
    pub(super) pools: HashMap<String, Arc<Pool>>,
    pub(super) routes: Arc<Lpm<Route>>,
    pub(super) reverse_path: ReversePath,
}

impl Around {
    /// The ports by which a real server's replies may come in: a bit for each.
    pub(super) fn reply_ports(&self, real: IpAddr) -> u16 {
        match self.reverse_path {
            ReversePath::Loose => u16::MAX,
            ReversePath::Strict => {
                let route = self.routes.get(real);
                route.map_or(0, |route| 1 << route.port.0)
            }
        }
    }

    /// What new connections of a registered service are asked.
    pub(super) fn guard(
        &self,
        service: &config::ServiceConfig,
        registry: &mut Registry,
    ) -> Option<Arc<Guard>> {
        if !Guard::is_wanted(service) {
            return None;
        }
        let tally = registry.tally(&key(service), &self.stats)?;
        let clients = || {
            self.clients
                .get_or_init(|| Arc::new(Clients::new(self.seed)))
        };
        let clients = Guard::counts_clients(service).then(|| clients().clone());
        Some(Arc::new(Guard::new(service, tally, clients)))
    }

    /// Tells the workers whether a real server takes new connections, what becomes of the established ones, and where its
    /// replies come in.
    pub(super) fn stand(&self, id: ServiceId, real: &Real, service: &config::ServiceConfig) {
        let ports = self.reply_ports(real.address);
        // For reasons of its own: one that its service does not use now, or that is held, keeps what it has.
        let is_drained = real.weight == 0 && real.keeps_clients;
        let stays = service.persistence.is_some_and(|it| it.through_drain);
        let leaves = is_drained && !stays && service.on_drain.is_some();
        let established = match service.on_down {
            // Its flows of before: the next datagram of each is scheduled afresh.
            _ if real.is_available && (leaves || service.one_packet) => Established::Leave,
            _ if real.is_available => Established::GoOn,
            OnDown::Keep => Established::GoOn,
            OnDown::Reset => Established::Down,
            OnDown::Reschedule => Established::Moved,
        };
        let tells = service.client_address != ClientAddress::None;
        self.stats.tell(real.id, |told| {
            let (is_open, is_watched) = (real.weight > 0, service.passive.is_some());
            // Connections that have begun so go on so.
            let tells = tells || told.standing.tells();
            told.standing
                .set(id, is_open, is_watched, tells, established, ports);
            if service.quic.is_some() {
                told.standing.ask();
            }
        });
    }

    /// Makes room for what is found of real servers with thresholds. As the kernel's `__ip_vs_update_dest` does, one whose upper
    /// threshold is a new or a higher one counts as not overloaded, until it is found to be.
    pub(super) fn limit(&self, reals: &[Real], former: &[Real]) {
        let max = |real: &Real| Some((real.id, real.thresholds?.max));
        if reals.iter().all(|real| real.thresholds.is_none()) {
            return;
        }
        let before: HashMap<_, _> = former.iter().filter_map(max).collect();
        for (id, max) in reals.iter().filter_map(max) {
            if before.get(&id).is_none_or(|before| *before < max) {
                self.stats.ensure_overload(id);
            }
        }
    }
}

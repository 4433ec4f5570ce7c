//! Local pools: what of them is in use, and a warning where most of the pairs towards a real server are.

use super::Control;
use crate::config::Protocol;
use crate::model::Model;
use crate::service::Real;
use crate::stats::{Load, PairUse, Stats, WorkerStats};
use crate::tables::Service;
use crate::units::{RealId, Time, WorkerId};
use crate::view::{PairsView, PoolView};
use std::net::SocketAddr;
use std::time::Duration;

const PERIOD: Duration = Duration::from_secs(1);
/// So many are named in one second.
const NAMED: usize = 10;

/// Where most pairs are in use, or were just now.
#[derive(Debug, Default)]
pub(super) struct PoolWatch {
    due: Time,
    /// What the workers have said.
    pressed: u64,
    episodes: Vec<(RealId, WorkerId)>,
}

impl PoolWatch {
    /// Warns once when four fifths of a worker's pairs towards a real server are in use, and again only after it was seven
    /// tenths or less.
    pub(super) fn tick(&mut self, model: &Model, stats: &Stats, now: Time) {
        if now < self.due {
            return;
        }
        self.due = now + PERIOD;
        self.episodes.retain(|(real, worker)| {
            let counters = stats.worker(*worker);
            let Some(pairs) = counters.pairs.get(real.index()) else {
                return false;
            };
            let load = counters.loads.get(real.index());
            let used = load.map_or(0, in_use);
            let service = model.service_of(*real).and_then(|id| model.service(id));
            let size = service
                .and_then(|service| service.pool.as_ref())
                .map(|pool| pool.size());
            let workers = stats.workers().count() as u64;
            let is_over =
                size.is_none_or(|size| u64::from(used) * workers * 10 <= u64::from(size) * 7);
            if is_over {
                pairs.relieve();
            }
            !is_over
        });
        let pressed = stats.total(|worker| worker.pressed.get());
        if pressed == self.pressed {
            return;
        }
        self.pressed = pressed;
        let mut named = 0;
        for service in model.services() {
            let Some(pool) = &service.pool else { continue };
            for (real, worker) in pressed_of(service, stats) {
                if self.episodes.contains(&(real.id, worker)) {
                    continue;
                }
                self.episodes.push((real.id, worker));
                named += 1;
                if named <= NAMED {
                    let (service, pool) = (&service.name, &pool.name);
                    let real = SocketAddr::new(real.address, real.port);
                    tracing::warn!(
                        %service, pool, %real, worker = worker.0,
                        "80 % of the local pairs are in use: add addresses or ports to the [[local_pool]], see weir show pools"
                    );
                }
            }
        }
        if named > NAMED {
            tracing::warn!(
                more = named - NAMED,
                "80 % of the local pairs are in use towards other real servers too"
            );
        }
    }
}

/// The real servers of a service, and the workers, where most pairs came into use.
fn pressed_of<'a>(
    service: &'a Service,
    stats: &'a Stats,
) -> impl Iterator<Item = (&'a Real, WorkerId)> {
    service.reals.iter().flat_map(move |real| {
        let workers = (0..).map(WorkerId).zip(stats.workers());
        let pressed = workers.filter(|(_, worker)| {
            let pairs = worker.pairs.get(real.id.index());
            pairs.is_some_and(PairUse::is_pressed)
        });
        pressed.map(move |(worker, _)| (real, worker))
    })
}

fn in_use(load: &Load) -> u32 {
    load.active.get().wrapping_add(load.inactive.get())
}

impl Control {
    /// The local pairs of a service, by real server and worker.
    pub fn show_pools(&self, service: &Service) -> Vec<PoolView> {
        let mut rows = Vec::new();
        let Some(pool) = &service.pool else {
            return rows;
        };
        for (real, _) in service.servers() {
            let workers = self.show_pairs(service, real, pool.size());
            let mut all = PairsView {
                pairs: pool.size(),
                ..PairsView::default()
            };
            for worker in &workers {
                all.used = all.used.saturating_add(worker.used);
                all.closing = all.closing.saturating_add(worker.closing);
                all.highest = all.highest.saturating_add(worker.highest);
                all.exhausted += worker.exhausted;
            }
            rows.push(PoolView {
                pool: pool.name.clone(),
                service: service.name.to_string(),
                protocol: service.key.protocol.name().to_owned(),
                real: SocketAddr::new(real.address, real.port),
                all,
                workers,
            });
        }
        rows
    }

    fn show_pairs(&self, service: &Service, real: &Real, size: u32) -> Vec<PairsView> {
        let count = self.stats.workers().count() as u32;
        let show = |worker: &WorkerStats| {
            let load = worker.loads.get(real.id.index());
            let pairs = worker.pairs.get(real.id.index());
            PairsView {
                pairs: size / count.max(1),
                used: load.map_or(0, in_use),
                // A flow of UDP is never closed.
                closing: match service.key.protocol {
                    Protocol::Tcp | Protocol::Sctp => load.map_or(0, |load| load.inactive.get()),
                    Protocol::Udp => 0,
                },
                highest: pairs.map_or(0, PairUse::highest),
                exhausted: pairs.map_or(0, |pairs| pairs.exhausted.get()),
            }
        };
        self.stats.workers().map(show).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Context};
    use crate::model::Device;
    use crate::net::Mac;
    use std::sync::Arc;

    const FILE: &str = r#"
[[port]]
name = "lan"
device = "1"
addresses = ["10.0.0.1/24"]
[[local_pool]]
name = "inside"
addresses = ["10.0.0.200"]
ports = "1001-2000"
[[service]]
address = "10.0.0.80"
port = 80
protocol = "tcp"
mode = "fullnat"
local_pool = "inside"
[[service.real]]
address = "10.0.0.11"
[[service.real]]
address = "10.0.0.12"
"#;

    #[test]
    fn a_warning_comes_once_and_again_after_relief() {
        let context = Context {
            cpus: None,
            devices: false,
        };
        let config = config::parse(FILE, "lb.toml", &context).unwrap().config;
        let stats = Arc::new(Stats::new(2).unwrap());
        let device = Device {
            mac: Mac([2, 0, 0, 0, 0, 1]),
            any_mac: false,
        };
        let (model, _) = Model::new(&config, vec![device], stats.clone(), 1, Time::default());
        let service = model.services().next().unwrap();
        let real = &service.reals[1];
        let worker = stats.worker(WorkerId(1));
        let (load, pairs) = (
            worker.loads.get(real.id.index()).unwrap(),
            worker.pairs.get(real.id.index()).unwrap(),
        );
        let mut watch = PoolWatch::default();
        let mut second = 0;
        // In use on the worker, whether it says so, and the episodes that are known then.
        for (used, presses, expected) in [
            (0, false, 0),
            (400, true, 1),
            (500, false, 1),
            (360, true, 1),
            (350, false, 0),
            (400, true, 1),
            (0, false, 0),
        ] {
            load.active.set(used / 2);
            load.inactive.set(used - used / 2);
            pairs.note(used);
            if presses && pairs.press() {
                worker.pressed.add(1);
            }
            second += 1;
            watch.tick(&model, &stats, Time::from_nanos(second * 1_000_000_000));
            assert_eq!(watch.episodes.len(), expected, "{used}");
        }
        assert_eq!((pairs.highest(), pairs.is_pressed()), (500, false));
    }

    /// The manual's figure: however large the pool is.
    #[test]
    fn a_real_server_takes_sixteen_bytes_on_each_worker() {
        assert_eq!(size_of::<PairUse>(), 16);
        assert_eq!(4_000 * size_of::<PairUse>(), 64_000);
    }
}

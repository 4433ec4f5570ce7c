//! Brings the EAL, the mempool and the ports up, as a configuration asks for.

use super::Failure;
use super::keep::Former;
use super::memory::{Available, Needs};
use super::preflight::Preflight;
use crate::config::{Config, Idle, PortConfig, Queues, RssKey};
use crate::director::{Room, WAITING_HOPS, WAITING_PACKETS_PER_HOP};
use crate::door::Door;
use crate::host;
use crate::io::dpdk::{
    self as dpdk, Device, DeviceConfig, Eal, EalConfig, Error, Mbuf, MbufPool, Probed, RxQueue,
    TxBuffer, TxQueue,
};
use crate::io::pci::{Bus, Lock, Locking};
use crate::net::Vlan;
use crate::packet::BURST;
use crate::steering::{DEFAULT_KEY, KEY_LEN, Steering, TABLE_SIZE, draw_key};
use crate::units::{DeviceId, PortId, WorkerId};
use crate::worker::{Outlet, RING, Tagging};
use rustix::rand::GetRandomFlags;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// The devices, ready to forward.
pub struct Machine {
    pub eal: Eal,
    /// One on each NUMA node that has workers.
    pub pools: Vec<MbufPool>,
    /// By their numbers.
    pub devices: Vec<Device>,
    /// For each device, the way from it to the ports on it, if some are tagged.
    pub doors: Vec<Option<Arc<Door>>>,
    /// For each port, where its frames leave.
    pub outlets: Vec<Outlet>,
    /// For each device, why it does not bring packets to the workers that own them, if it does not.
    pub unsteered: Vec<Option<String>>,
    /// As the devices spread packets, as far as they do.
    pub steering: Steering,
    /// For each worker, what it polls and where it sends.
    pub workers: Vec<WorkerQueues>,
    /// To be kept as long as the devices are.
    pub locks: Vec<Lock>,
}

/// What the mempool takes.
pub struct Memory {
    /// Its size, and what can be in use at once.
    mbufs: usize,
    needed: usize,
    mtu: u16,
    /// Transmit queues, for which drivers may take some too.
    queues: usize,
}

impl Memory {
    pub fn of(config: &Config) -> Memory {
        let workers = config.dpdk.workers.len();
        let needed = mbufs(config, workers as u16);
        let mbufs = config.dpdk.mbufs.unwrap_or(needed);
        let mtus = config.ports.iter().map(|port| port.mtu);
        let mtu = mtus.max().unwrap_or(1500);
        let queues = config.devices().len() * workers;
        Memory {
            mbufs,
            needed,
            mtu,
            queues,
        }
    }

    /// In MB.
    pub fn mb(&self, hugepages: bool) -> usize {
        let pool = MbufPool::bytes(self.mbufs, self.mtu, hugepages);
        pool.div_ceil(1 << 20) + self.queues * QUEUE_MB
    }

    /// That the operator's `mbufs` are fewer than can be in use at once, if they are.
    pub fn shortage(&self) -> Option<String> {
        let Memory { mbufs, needed, .. } = self;
        (mbufs < needed).then(|| {
            format!("[dpdk] mbufs = {mbufs}: ports may run out of buffers, {needed} can be in use at once")
        })
    }
}

/// One worker's queues, and the pool on its NUMA node.
pub struct WorkerQueues {
    pub pool: MbufPool,
    pub rx: Vec<(usize, RxQueue)>,
    pub tx: Vec<TxQueue>,
}

/// What a driver may want for each transmit queue beside its mbufs: net_tap makes a mempool of its own, most of which
/// is caches for lcores that there are not.
const QUEUE_MB: usize = 2;

impl Machine {
    /// `former`: what a former process has left, whose connections are where its hash key has led their packets.
    ///
    /// # Errors
    /// If a device does not start, or the machine has less memory than the configuration asks for. The latter is told
    /// before anything is touched.
    pub(super) fn start(
        config: &Config,
        mut former: Option<&mut Former>,
    ) -> Result<Machine, Failure> {
        // Before the others look: a weir is told as what it is.
        let locks = Preflight::lock(config).map_err(Failure::Devices)?;
        let preflight = Preflight::new(config, &Bus::here(), Locking::now());
        if !preflight.refusals.is_empty() {
            return Err(Failure::Devices(preflight.refusals));
        }
        let cpus = &config.dpdk.workers;
        let memory = Memory::of(config);
        if let Some(shortage) = memory.shortage() {
            tracing::warn!("{shortage}");
        }
        let Memory { mbufs, mtu, .. } = memory;
        let ports_on = config.devices();
        let vlan_of = |port: &PortId| config.port(*port).vlan;
        let vlans: Vec<Vec<Vlan>> = ports_on
            .iter()
            .map(|ports| ports.iter().map(vlan_of).collect())
            .collect();
        let with_vlans = |ports: &[PortId]| -> Vec<_> {
            ports.iter().map(|port| (*port, vlan_of(port))).collect()
        };
        let doors: Vec<_> = ports_on
            .iter()
            .map(|ports| Door::new(&with_vlans(ports)).map(Arc::new))
            .collect();
        let firsts = ports_on.iter().map(|ports| config.port(ports[0]));
        let devices: Vec<&str> = firsts.map(|port| port.device.as_str()).collect();
        let hugepages = preflight.hugepages;
        let memory_mb = memory.mb(hugepages);
        let needs = Needs {
            workers: cpus.len(),
            connections: config.limits.connections,
            connection_bytes: Room::of(config, 1 << 20).table_bytes() >> 20,
            // What a former one takes is in use already.
            tables: match &former {
                Some(former) if !former.is_there() => 2,
                _ => 1,
            },
            fragments: Room::shared(config, 0, 1).fragments.table_bytes::<Mbuf>(),
            mempools: match hugepages {
                true => 0,
                false => memory_mb << 20,
            },
        };
        match (needs.check(Available::now().as_ref()), &mut former) {
            (Err(_), Some(former)) if former.is_there() => {
                former.forget("there is no memory for two")?;
                needs.check(Available::now().as_ref())?;
            }
            (checked, _) => checked?,
        }
        let eal = Eal::init(&EalConfig {
            workers: cpus,
            main_lcore: config.dpdk.main_lcore,
            hugepages,
            memory_mb,
            devices: &devices,
            extra_args: &config.dpdk.eal_args,
            file_prefix: &format!("weir-{}", std::process::id()),
        })?;
        let sockets = sockets(&eal, cpus.len());
        let one_pool = sockets.iter().all(|socket| *socket == sockets[0]);
        let configured = |n: usize| {
            let ports = ports_on[n].iter().map(|port| config.port(*port));
            let first = ports_on[n][0];
            let port = config.port(first);
            DeviceConfig {
                id: DeviceId(n as u8),
                port: doors[n].as_ref().map_or(first, |door| door.default_port()),
                name: &port.name,
                vlans: &vlans[n],
                device: &port.device,
                mac: port.mac,
                mtu: ports.map(|port| port.mtu).max().unwrap_or(port.mtu),
                queues: port.queues,
                workers: cpus.len() as u16,
                one_pool,
                interrupts: config.dpdk.idle == Idle::Adaptive,
                dma: preflight.dma[n],
                rss_key: &DEFAULT_KEY,
            }
        };
        let probed: Vec<Probed> = (0..ports_on.len())
            .map(|n| Device::probe(&eal, &configured(n)))
            .collect::<Result<_, _>>()?;
        let workers = fitting_workers(config, &probed);
        let cpus = &cpus[..usize::from(workers)];
        // One worker has every flow, whatever the key.
        let key = match (workers, config.dpdk.rss_key) {
            (1, _) | (_, RssKey::Published) => DEFAULT_KEY,
            _ => match former.and_then(|former| former.rss_key()) {
                Some(key) => key,
                None => draw_key(random).map_err(io::Error::from)?,
            },
        };
        let sockets = &sockets[..cpus.len()];
        let mut devices: Vec<Device> = probed
            .into_iter()
            .enumerate()
            .map(|(n, probed)| {
                probed.attach(&DeviceConfig {
                    workers,
                    rss_key: &key,
                    ..configured(n)
                })
            })
            .collect::<Result<_, _>>()?;
        let pools = pools(&eal, sockets, mbufs, mtu)?;
        let pool_of: Vec<_> = sockets.iter().map(|socket| pools[socket]).collect();
        let without_queues = |pool: &MbufPool| WorkerQueues {
            pool: *pool,
            rx: vec![],
            tx: vec![],
        };
        let mut queues: Vec<_> = pool_of.iter().map(without_queues).collect();
        let size = devices
            .iter()
            .map(Device::indirections)
            .filter(|&size| size > 0);
        let size = size.map(usize::from).filter(|size| size.is_power_of_two());
        let size = size.min().map_or(TABLE_SIZE, |size| size.min(TABLE_SIZE));
        for device in &mut devices {
            let started = device.start(&pool_of)?;
            for (n, mut queue) in started.rx.into_iter().enumerate() {
                queue.set_most(config.dpdk.burst);
                queues[n % cpus.len()].rx.push((n, queue));
            }
            for (worker, queue) in queues.iter_mut().zip(started.tx) {
                worker.tx.push(queue);
            }
        }
        let steering = Steering::with_table(key, cpus.len(), size);
        let (steering, unsteered) = match workers {
            1 => (steering, vec![None; devices.len()]),
            _ => {
                // A worker's first queue has its number.
                let queue_of = steering.table()[..size].iter();
                let queue_of: Vec<_> = queue_of.map(|worker| u16::from(worker.0)).collect();
                let (agreed, unsteered) = agree(&devices, key, Device::hash_key, |device, key| {
                    device.spread(key, &queue_of)
                });
                if agreed != key {
                    tracing::warn!(
                        "the devices keep a hash key of their own: which worker gets a flow can be foreseen"
                    );
                }
                let steering = Steering::with_table(agreed, cpus.len(), size);
                (steering, unsteered)
            }
        };
        dpdk::started();
        let outlet = |port: &PortConfig| Outlet {
            device: port.on,
            tagging: Tagging::of(port.vlan, devices[port.on.index()].inserts_tags()),
        };
        Ok(Machine {
            locks,
            eal,
            pools: pools.into_values().collect(),
            outlets: config.ports.iter().map(outlet).collect(),
            doors,
            devices,
            unsteered,
            steering,
            workers: queues,
        })
    }
}

/// The workers that the file lists; where it lists none, as many as every device has transmit queues for.
fn fitting_workers(config: &Config, devices: &[Probed]) -> u16 {
    let all = config.dpdk.workers.len() as u16;
    if !config.dpdk.default_workers {
        return all;
    }
    let least = config
        .devices()
        .into_iter()
        .zip(devices)
        .map(|(ports, device)| (device.most_workers().max(1), &config.port(ports[0]).name))
        .min();
    match least {
        Some((most, port)) if most < all => {
            tracing::warn!(
                port,
                "every worker needs a transmit queue of its own, and the device has {most}: {most} of {all} CPUs forward"
            );
            most
        }
        _ => all,
    }
}

fn random(key: &mut [u8; KEY_LEN]) -> rustix::io::Result<()> {
    // Up to 256 bytes come whole (getrandom(2)).
    rustix::rand::getrandom(&mut key[..], GetRandomFlags::empty()).map(|_| ())
}

/// The key that serves most ports, and why each port is not served by it, if it is not: the drawn one wherever one device
/// takes it. Where none does, the own key of a device (`own`) that serves most of them, although clients may know it.
/// `spread` has a device spread packets by a key.
fn agree<P>(
    ports: &[P],
    drawn: [u8; KEY_LEN],
    own: impl Fn(&P) -> Option<[u8; KEY_LEN]>,
    spread: impl Fn(&P, &[u8; KEY_LEN]) -> Result<(), String>,
) -> ([u8; KEY_LEN], Vec<Option<String>>) {
    let refusals = |key: &[u8; KEY_LEN]| -> Vec<_> {
        ports.iter().map(|port| spread(port, key).err()).collect()
    };
    let served = |refusals: &[Option<String>]| refusals.iter().filter(|why| why.is_none()).count();
    let mut best = (drawn, refusals(&drawn));
    if served(&best.1) == 0 {
        for own in ports.iter().filter_map(own) {
            let unsteered = refusals(&own);
            if served(&unsteered) > served(&best.1) {
                best = (own, unsteered);
            }
        }
    }
    best
}

/// The NUMA node of each worker. Ordinary memory comes from wherever the kernel takes it.
fn sockets(eal: &Eal, workers: usize) -> Vec<i32> {
    let socket = |worker| match eal.hugepages() {
        true => eal.worker_socket(WorkerId(worker as u8)),
        false => -1,
    };
    (0..workers).map(socket).collect()
}

/// A pool on each NUMA node that has workers, with `mbufs` divided among them by their workers.
fn pools(
    eal: &Eal,
    sockets: &[i32],
    mbufs: usize,
    mtu: u16,
) -> Result<BTreeMap<i32, MbufPool>, Error> {
    let mut pools = BTreeMap::new();
    for socket in sockets {
        if !pools.contains_key(socket) {
            let workers = sockets.iter().filter(|other| *other == socket).count();
            let share = (mbufs * workers).div_ceil(sockets.len());
            pools.insert(*socket, MbufPool::new(eal, share, mtu, *socket)?);
        }
    }
    Ok(pools)
}

/// How many mbufs can be somewhere at once: in the devices' queues, waiting for a neighbour or for a first
/// fragment, on their way through a worker, and in the lcores' caches.
fn mbufs(config: &Config, workers: u16) -> usize {
    let in_queues = |port: &PortConfig| {
        let rx = match port.queues {
            Queues::Auto => workers,
            Queues::Pairs(pairs) => pairs,
        };
        Device::mbufs_in_queues(rx, rx.max(workers))
    };
    let caches = (usize::from(workers) + 1) * MbufPool::CACHE * 3 / 2;
    let worker =
        WAITING_HOPS * WAITING_PACKETS_PER_HOP + BURST + config.ports.len() * TxBuffer::CAPACITY;
    let fragments = config.limits.waiting_fragments + usize::from(workers);
    // Workers that do not keep up are few at a time.
    let rings = usize::from(workers).saturating_sub(1) * RING * 2;
    let devices = config.devices();
    let firsts = devices.iter().map(|ports| config.port(ports[0]));
    let in_queues = firsts.map(in_queues).sum::<usize>();
    let host = match config.ports.iter().any(|port| port.companion.is_some()) {
        true => host::mbufs(workers.into()),
        false => 0,
    };
    in_queues + caches + usize::from(workers) * worker + fragments + rings + host
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWN: [u8; KEY_LEN] = [7; KEY_LEN];
    const OWN: [u8; KEY_LEN] = [8; KEY_LEN];
    const OTHER: [u8; KEY_LEN] = [9; KEY_LEN];

    /// A device: the key that it insists on, or whether it takes any.
    enum Fake {
        Takes,
        Insists([u8; KEY_LEN]),
        DoesNotHash,
    }
    use Fake::{DoesNotHash, Insists, Takes};

    #[test]
    fn the_key_is_the_drawn_one_unless_every_device_insists_on_another() {
        /// Its name, the devices, the key, and which devices are served by it.
        type Case = (
            &'static str,
            &'static [Fake],
            [u8; KEY_LEN],
            &'static [bool],
        );
        let cases: [Case; 6] = [
            ("all take it", &[Takes, Takes], DRAWN, &[true, true]),
            ("one insists", &[Insists(OWN), Takes], DRAWN, &[false, true]),
            ("it is the only one", &[Insists(OWN)], OWN, &[true]),
            (
                "the key of most",
                &[DoesNotHash, Insists(OTHER), Insists(OWN), Insists(OWN)],
                OWN,
                &[false, false, true, true],
            ),
            ("it has that key", &[Insists(DRAWN)], DRAWN, &[true]),
            (
                "none hashes",
                &[DoesNotHash, DoesNotHash],
                DRAWN,
                &[false, false],
            ),
        ];
        for (name, ports, key, steered) in cases {
            let own = |port: &Fake| match port {
                Takes => Some(DRAWN),
                Insists(key) => Some(*key),
                // It tells a key, and hashes nothing.
                DoesNotHash => Some(OTHER),
            };
            let spread = |port: &Fake, key: &[u8; KEY_LEN]| match port {
                Takes => Ok(()),
                Insists(own) if own == key => Ok(()),
                Insists(_) | DoesNotHash => Err("refused".to_owned()),
            };
            let (found, unsteered) = agree(ports, DRAWN, own, spread);
            assert_eq!(found, key, "{name}");
            let found: Vec<_> = unsteered.iter().map(Option::is_none).collect();
            assert_eq!(found, steered, "{name}");
        }
    }

    #[test]
    fn the_kernels_keys_differ() {
        let draw = || draw_key(random).unwrap();
        assert_ne!(draw(), draw());
    }
}

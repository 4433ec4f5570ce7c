//! Devices: found or made, configured, started, and closed with the last queue.

use super::pool::longest_frame;
use super::queue_count::{choose_queues, most_queues};
use super::vlan::{Tagging, most_mtu};
use super::{Eal, Error, MbufPool, RxQueue, TxQueue, error, unplug};
use crate::config::{Queues, pci_address};
use crate::io::pci::Dma;
use crate::net::{Mac, Vlan};
use crate::units::{DeviceId, PortId};
use dpdk_sys::{rte_eth_conf, rte_eth_dev_info, rte_eth_stats, rte_ether_addr};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::raw::c_int;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Where a driver says nothing of its own.
const DESCRIPTORS: u16 = 1024;
const ENOTSUP: c_int = 95;

/// How a device is to serve as one or more `[[port]]`s.
#[derive(Clone, Copy, Debug)]
pub struct DeviceConfig<'a> {
    pub id: DeviceId,
    /// What its packets are marked with: the port of untagged frames, or the first port on it.
    pub port: PortId,
    /// The name of the first port on it.
    pub name: &'a str,
    /// Those of the ports on it.
    pub vlans: &'a [Vlan],
    /// A PCI address or a vdev string, as the EAL takes it.
    pub device: &'a str,
    /// None: the device's own.
    pub mac: Option<Mac>,
    /// The largest IP packet of any of its ports, in bytes.
    pub mtu: u16,
    pub queues: Queues,
    /// Each needs a transmit queue of its own.
    pub workers: u16,
    /// Whether every mbuf sent here comes from one pool, which lets some devices free them faster.
    pub one_pool: bool,
    /// Whether idle workers sleep, and want to be woken by packets.
    pub interrupts: bool,
    /// How the device reaches memory.
    pub dma: Dma,
    /// What the device is to hash with, to spread packets over its queues.
    pub rss_key: &'a [u8; 40],
}

/// DPDK's numbers of the devices that are in use.
pub(super) static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// DPDK's own device, which it calls a port: closed when the last of its queues goes.
#[derive(Debug)]
pub(super) struct Ethdev {
    id: u16,
    /// No queue of it may be used any more.
    is_retired: AtomicBool,
    is_closed: AtomicBool,
}

impl Ethdev {
    /// None when it is in use already.
    fn take(id: u16) -> Option<Ethdev> {
        // Made only if it is ours: dropping one closes the device.
        TAKEN.lock().insert(id).then(|| Ethdev {
            id,
            is_retired: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        })
    }

    pub(super) fn id(&self) -> u16 {
        self.id
    }

    #[inline(always)]
    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.load(Relaxed)
    }
}

impl Drop for Ethdev {
    fn drop(&mut self) {
        if self.is_closed.load(Relaxed) {
            return;
        }
        // SAFETY: the last owner goes, so no queue of the device is in use. Stopping a stopped device is allowed.
        unsafe {
            dpdk_sys::rte_eth_dev_stop(self.id);
            dpdk_sys::rte_eth_dev_close(self.id);
        }
        TAKEN.lock().remove(&self.id);
    }
}

/// A NIC or vdev that serves as one or more `[[port]]`s. It stays open until this and the last of its queues are dropped.
#[derive(Debug)]
pub struct Device {
    id: DeviceId,
    port: PortId,
    name: String,
    pub(super) ethdev: Arc<Ethdev>,
    pub(super) info: rte_eth_dev_info,
    pub(super) driver: String,
    pub(super) mac: Mac,
    pub(super) mtu: u16,
    pub(super) rx_queues: u16,
    tx_queues: u16,
    /// DPDK's name of the device.
    device_name: String,
    dma: Dma,
    pub(super) tagging: Tagging,
    pub(super) vlans: Vec<Vlan>,
}

/// The queues of a started device. All receive queues have to be polled; there is a transmit queue for each worker.
#[derive(Debug)]
pub struct DeviceQueues {
    pub rx: Vec<RxQueue>,
    pub tx: Vec<TxQueue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    pub up: bool,
    /// Megabits a second; none where the device does not say.
    pub speed: Option<u32>,
}

/// The device's own counters, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceStats {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    /// Arrived, but no worker fetched them in time.
    pub rx_missed: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    /// Arrived when the pool was empty.
    pub rx_no_mbuf: u64,
}

/// A device that is there, and what its driver says of it.
#[derive(Debug)]
pub struct Probed {
    device: Arc<Ethdev>,
    info: rte_eth_dev_info,
    driver: String,
    name: String,
}

impl Probed {
    /// How many workers the device has transmit queues for.
    pub fn most_workers(&self) -> u16 {
        most_queues(&self.driver, &self.info).1
    }

    /// Configures it; [`Device::start`] does the rest.
    pub fn attach(self, config: &DeviceConfig) -> Result<Device, Error> {
        let Probed {
            device,
            info,
            driver,
            name: device_name,
        } = self;
        let (most_rx, most_tx) = most_queues(&driver, &info);
        let (rx_queues, tx_queues) = choose_queues(config, &driver, most_rx, most_tx)?;
        let (min, max) = (info.min_mtu, most_mtu(&info).min(MbufPool::MAX_MTU));
        if !(min..=max).contains(&config.mtu) {
            return Err(Error::Mtu {
                port: config.name.to_owned(),
                driver,
                mtu: config.mtu,
                min,
                max,
            });
        }
        let tagging = Tagging::of(&info, config.vlans);
        let mut attached = Device {
            id: config.id,
            port: config.port,
            name: config.name.to_owned(),
            ethdev: device,
            info,
            driver,
            mac: Mac::default(),
            mtu: config.mtu,
            rx_queues,
            tx_queues,
            device_name,
            dma: config.dma,
            tagging,
            vlans: config.vlans.to_vec(),
        };
        attached.configure(config)?;
        attached.mac = attached.take_mac(config.mac)?;
        Ok(attached)
    }
}

impl Device {
    /// Finds or makes the device.
    pub fn probe(_eal: &Eal, config: &DeviceConfig) -> Result<Probed, Error> {
        let device = Arc::new(probe(config)?);
        let info = device_info(config, &device)?;
        // SAFETY: a C string of the driver, which stays loaded.
        let driver = unsafe { CStr::from_ptr(info.driver_name) }
            .to_string_lossy()
            .into_owned();
        Ok(Probed {
            device,
            info,
            driver,
            name: device_name(config.device),
        })
    }

    /// [`Device::probe`] and [`Probed::attach`].
    pub fn attach(eal: &Eal, config: &DeviceConfig) -> Result<Device, Error> {
        Device::probe(eal, config)?.attach(config)
    }

    /// Sets the queues up, each filled from its worker's mempool in `pools`, and starts the device.
    pub fn start(&mut self, pools: &[MbufPool]) -> Result<DeviceQueues, Error> {
        let room = pools.iter().map(MbufPool::frame_room).min().unwrap_or(0);
        if room < longest_frame(self.mtu) {
            return Err(Error::SmallMbufs {
                port: self.name.clone(),
                mtu: self.mtu,
                room,
            });
        }
        let id = self.ethdev.id;
        let (mut rx_descriptors, mut tx_descriptors) = (DESCRIPTORS, DESCRIPTORS);
        // SAFETY: the device is configured, and both pointers are to locals.
        let code = unsafe {
            dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut rx_descriptors, &mut tx_descriptors)
        };
        self.check("choosing the length of its queues", code)?;
        let socket = self.socket() as u32;
        for queue in 0..self.rx_queues {
            // SAFETY: the device is configured with more queues than `queue`; a null configuration is the driver's
            // default; pools live for ever.
            let code = unsafe {
                dpdk_sys::rte_eth_rx_queue_setup(
                    id,
                    queue,
                    rx_descriptors,
                    socket,
                    std::ptr::null(),
                    pools[usize::from(queue) % pools.len()].raw(),
                )
            };
            self.check("setting a receive queue up", code)?;
        }
        for queue in 0..self.tx_queues {
            // SAFETY: as above.
            let code = unsafe {
                dpdk_sys::rte_eth_tx_queue_setup(
                    id,
                    queue,
                    tx_descriptors,
                    socket,
                    std::ptr::null(),
                )
            };
            self.check("setting a transmit queue up", code)?;
        }
        self.apply_mtu()?;
        // SAFETY: the device is configured and every queue set up.
        let code = unsafe { dpdk_sys::rte_eth_dev_start(id) };
        self.check("starting", code)?;
        self.admit_vlans();
        match self.driver.as_str() {
            "net_tap" => self.part_from_kernel_mac(self.info.if_index, self.mac)?,
            "net_bonding" => self.part_members_from_kernel_mac()?,
            _ => {}
        }
        let rx = (0..self.rx_queues).map(|queue| {
            let marks = (self.id, self.port);
            RxQueue::new(marks, queue, &self.ethdev, self.has_interrupts())
        });
        let tx = (0..self.tx_queues).map(|queue| TxQueue::new(queue, &self.ethdev));
        Ok(DeviceQueues {
            rx: rx.collect(),
            tx: tx.collect(),
        })
    }

    pub fn id(&self) -> DeviceId {
        self.id
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// DPDK's name of the driver, such as `net_tap`.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// The address that frames to this port carry, and frames from it.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// The largest IP packet of any of its ports, in bytes.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    pub fn rx_queues(&self) -> u16 {
        self.rx_queues
    }

    pub fn tx_queues(&self) -> u16 {
        self.tx_queues
    }

    /// The mbufs that the queues can hold: what a pool has to have at least for this port.
    pub fn mbufs_in_queues(rx_queues: u16, tx_queues: u16) -> usize {
        usize::from(DESCRIPTORS) * (usize::from(rx_queues) + usize::from(tx_queues))
    }

    /// The device's NUMA node; -1 where it has none.
    pub fn socket(&self) -> i32 {
        // SAFETY: the device exists.
        unsafe { dpdk_sys::rte_eth_dev_socket_id(self.ethdev.id) }
    }

    /// Whether a packet may interrupt: by a message of the queue's own, not over a line that is shared with other devices,
    /// which the kernel turns off for all of them when interrupts come that no driver takes for its own. Under uio there
    /// are only lines, and some of the devices of `net_e1000_em` have nothing else under vfio.
    fn has_interrupts(&self) -> bool {
        self.dma != Dma::Physical && self.driver != "net_e1000_em"
    }

    /// The link as the device last saw it. Does not wait.
    pub fn link(&self) -> LinkStatus {
        let (mut up, mut speed) = (false, 0);
        if self.ethdev.is_retired() {
            return LinkStatus { up, speed: None };
        }
        // SAFETY: the device exists, and both pointers are to locals. An error leaves them: down.
        unsafe { dpdk_sys::weir_eth_link(self.ethdev.id, &mut up, &mut speed) };
        LinkStatus {
            up,
            speed: (speed != 0).then_some(speed),
        }
    }

    /// Has the device show weir the frames of every multicast group: IPv6 neighbours ask in many.
    ///
    /// # Errors
    /// Why it cannot. A driver without that switch shows every frame, and is no error.
    pub fn hear_groups(&self) -> Result<(), Error> {
        if self.ethdev.is_retired() {
            return Ok(());
        }
        // SAFETY: the device exists.
        match unsafe { dpdk_sys::rte_eth_allmulticast_enable(self.ethdev.id) } {
            code if code == -ENOTSUP => Ok(()),
            code => self.check("showing the frames of multicast groups", code),
        }
    }

    /// Whether the device is there no more: the kernel's interface behind it was removed.
    pub fn is_gone(&self) -> bool {
        // SAFETY: asks the kernel, by a number.
        self.info.if_index != 0 && !unsafe { dpdk_sys::weir_netdev_exists(self.info.if_index) }
    }

    /// Whether the device was pulled out of the PCI bus, or is about to be.
    pub fn is_unplugged(&self) -> bool {
        let folder = Path::new("/sys/bus/pci/devices").join(&self.device_name);
        pci_address(&self.device_name).is_some()
            && (unplug::is_unplugged(&self.device_name) || !folder.exists())
    }

    /// From now on no queue of the device takes or gives anything. Workers may be in the midst of it still.
    pub fn retire(&self) {
        self.ethdev.is_retired.store(true, Relaxed);
    }

    /// Gives a retired device back to the kernel, when every worker has gone round since.
    pub fn release(&self) {
        if !self.ethdev.is_retired() || self.ethdev.is_closed.swap(true, Relaxed) {
            return;
        }
        // SAFETY: no worker uses a queue of a retired device, and this is the only time that it is closed. DPDK's
        // description of the device lives until the last of these calls.
        let code = unsafe {
            dpdk_sys::rte_eth_dev_stop(self.ethdev.id);
            dpdk_sys::rte_eth_dev_close(self.ethdev.id);
            dpdk_sys::rte_dev_remove(self.info.device)
        };
        if code != 0 {
            tracing::debug!(device = self.device_name, code, "giving the device back");
        }
        TAKEN.lock().remove(&self.ethdev.id);
    }

    /// None where the device does not count, or is retired.
    pub fn stats(&self) -> Option<DeviceStats> {
        if self.ethdev.is_retired() {
            return None;
        }
        let mut stats = MaybeUninit::<rte_eth_stats>::zeroed();
        // SAFETY: the device exists, and the pointer is to a local.
        let code = unsafe { dpdk_sys::rte_eth_stats_get(self.ethdev.id, stats.as_mut_ptr()) };
        // SAFETY: the counters are integers, for which zero is a value.
        let stats = unsafe { stats.assume_init() };
        (code == 0).then_some(DeviceStats {
            rx_packets: stats.ipackets,
            rx_bytes: stats.ibytes,
            tx_packets: stats.opackets,
            tx_bytes: stats.obytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            tx_errors: stats.oerrors,
            rx_no_mbuf: stats.rx_nombuf,
        })
    }

    pub(super) fn check(&self, step: &'static str, code: c_int) -> Result<(), Error> {
        if code >= 0 {
            return Ok(());
        }
        let (port, driver) = (self.name.clone(), self.driver.clone());
        Err(Error::Step {
            port,
            driver,
            step,
            why: error::reason(code),
        })
    }

    fn configure(&self, config: &DeviceConfig) -> Result<(), Error> {
        let key = self.rss_key(config.rss_key);
        // SAFETY: zero is "default" in each of its numbers and pointers.
        let mut conf: rte_eth_conf = unsafe { MaybeUninit::zeroed().assume_init() };
        conf.rxmode.mtu = u32::from(self.link_mtu());
        conf.rxmode.offloads = self.tagging.rx_offloads();
        conf.txmode.offloads = self.tagging.tx_offloads();
        let flows = self.info.flow_type_rss_offloads & dpdk_sys::WEIR_RSS_FLOWS;
        if self.rx_queues > 1 && flows != 0 {
            conf.rxmode.mq_mode = dpdk_sys::RTE_ETH_MQ_RX_RSS;
            conf.rxmode.offloads |= self.info.rx_offload_capa & dpdk_sys::WEIR_RX_OFFLOAD_RSS_HASH;
            conf.rx_adv_conf.rss_conf.rss_hf = flows;
            if let Some(key) = &key {
                // The configuration is copied: DPDK does not write there.
                conf.rx_adv_conf.rss_conf.rss_key = key.as_ptr().cast_mut();
                conf.rx_adv_conf.rss_conf.rss_key_len = key.len() as u8;
            }
        }
        if config.one_pool {
            conf.txmode.offloads |=
                self.info.tx_offload_capa & dpdk_sys::WEIR_TX_OFFLOAD_MBUF_FAST_FREE;
        }
        let try_it = |conf: &rte_eth_conf| {
            // SAFETY: the device exists and is stopped; the configuration is copied.
            unsafe {
                dpdk_sys::rte_eth_dev_configure(
                    self.ethdev.id,
                    self.rx_queues,
                    self.tx_queues,
                    conf,
                )
            }
        };
        if config.interrupts && self.has_interrupts() {
            conf.intr_conf.set_rxq(1);
            // Most drivers that have none ignore that, some refuse it.
            if try_it(&conf) == 0 {
                return Ok(());
            }
            conf.intr_conf.set_rxq(0);
        }
        self.check("configuring", try_it(&conf))
    }

    /// Gives the device its address, or takes the device's. A device that cannot change its address shows weir every
    /// frame instead, so that those to the configured one are among them.
    fn take_mac(&self, wanted: Option<Mac>) -> Result<Mac, Error> {
        let mut address = rte_ether_addr {
            addr_bytes: wanted.unwrap_or_default().0,
        };
        let Some(mac) = wanted else {
            // SAFETY: the device exists, and the pointer is to a local.
            let code = unsafe { dpdk_sys::rte_eth_macaddr_get(self.ethdev.id, &mut address) };
            return self
                .check("reading its MAC address", code)
                .map(|()| Mac(address.addr_bytes));
        };
        // SAFETY: as above.
        let code =
            unsafe { dpdk_sys::rte_eth_dev_default_mac_addr_set(self.ethdev.id, &mut address) };
        if code == -ENOTSUP {
            // SAFETY: the device exists.
            let code = unsafe { dpdk_sys::rte_eth_promiscuous_enable(self.ethdev.id) };
            // A driver without that switch (a file, a ring) shows every frame anyway.
            if code != -ENOTSUP {
                self.check("showing every frame", code)?;
            }
        } else {
            self.check("setting its MAC address", code)?;
        }
        Ok(mac)
    }

    /// Drivers that took the MTU with the configuration need not know how to change it.
    fn apply_mtu(&self) -> Result<(), Error> {
        // SAFETY: the device exists.
        let code = unsafe { dpdk_sys::rte_eth_dev_set_mtu(self.ethdev.id, self.link_mtu()) };
        if code == -ENOTSUP {
            Ok(())
        } else {
            self.check("setting its MTU", code)
        }
    }
}

/// The port's device, made if it is a virtual one.
fn probe(config: &DeviceConfig) -> Result<Ethdev, Error> {
    let (port, device) = (config.name.to_owned(), config.device.to_owned());
    let c_string = |text: &str| {
        CString::new(text).map_err(|_| Error::ZeroByte {
            text: text.to_owned(),
        })
    };
    let (argument, name) = (c_string(&device)?, c_string(&device_name(&device))?);
    let find = || {
        let mut id = 0;
        // SAFETY: a C string and a pointer to a local.
        let code = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) };
        (code == 0).then_some(id)
    };
    // The EAL made the PCI devices that its arguments named when it started.
    let id = match find() {
        Some(id) => id,
        None => {
            // SAFETY: a C string, which is copied.
            let code = unsafe { dpdk_sys::rte_dev_probe(argument.as_ptr()) };
            if code != 0 {
                return Err(Error::Device {
                    port,
                    device,
                    why: error::reason(code),
                });
            }
            let Some(id) = find() else {
                return Err(Error::Device {
                    port,
                    device,
                    why: "it is no network device".to_owned(),
                });
            };
            id
        }
    };
    Ethdev::take(id).ok_or(Error::DeviceTaken { port, device })
}

/// DPDK's name of the device that a device string means.
fn device_name(device: &str) -> String {
    pci_address(device).unwrap_or_else(|| {
        let name = device.split(',').next().unwrap_or_default();
        name.strip_prefix("vdev:").unwrap_or(name).to_owned()
    })
}

fn device_info(config: &DeviceConfig, device: &Ethdev) -> Result<rte_eth_dev_info, Error> {
    let mut info = MaybeUninit::<rte_eth_dev_info>::zeroed();
    // SAFETY: the device exists, and the pointer is to a local.
    let code = unsafe { dpdk_sys::rte_eth_dev_info_get(device.id, info.as_mut_ptr()) };
    if code != 0 {
        let (port, device) = (config.name.to_owned(), config.device.to_owned());
        return Err(Error::Device {
            port,
            device,
            why: error::reason(code),
        });
    }
    // SAFETY: filled in, over zeroes, which are a value of each of its fields.
    Ok(unsafe { info.assume_init() })
}

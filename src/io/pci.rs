//! What the kernel knows of a PCI device that is to be a port, and what keeps weir from having it. Looked at before the
//! EAL starts, whose own words say that something failed, and seldom what.

mod lock;
mod nics;
#[cfg(test)]
mod tests;

pub use lock::{Lock, Locked};
pub use nics::Nic;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::collections::BTreeSet;
use std::fs::{File, read_dir, read_link, read_to_string};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The drivers of devices that DPDK shares with the kernel: these stay where they are.
const SHARED: [&str; 2] = ["mlx4_core", "mlx5_core"];
/// How many devices an error lists.
const MOST_LISTED: usize = 8;

/// How a device reaches memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dma {
    /// It is none of the PCI bus, or the kernel's driver sees to it.
    Kernel,
    /// Through the IOMMU, where `vfio-pci` maps what the process has locked.
    Iommu,
    /// By physical addresses, which only hugepages keep.
    Physical,
}

/// What this process may do to memory.
#[derive(Clone, Copy, Debug)]
pub struct Locking {
    /// RLIMIT_MEMLOCK in bytes; none: no limit, or one that does not hold for this process (CAP_IPC_LOCK).
    pub limit: Option<u64>,
}

/// The kernel's view of the PCI bus.
#[derive(Clone, Debug)]
pub struct Bus {
    /// Where `sys`, `proc` and `dev` are.
    root: PathBuf,
    /// The interface by which the operator is connected.
    ssh: Option<String>,
    is_root: bool,
}

/// What keeps weir from a device, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("there is no PCI device {address}; {others}")]
    Missing { address: String, others: String },
    #[error("{address} is no network device (its PCI class is {class}); {others}")]
    NoNetwork {
        address: String,
        class: String,
        others: String,
    },
    #[error("{address} belongs to the kernel's driver {driver}{interfaces}: {remedy}")]
    Kernel {
        address: String,
        driver: String,
        interfaces: String,
        remedy: String,
    },
    #[error("no driver has {address}: {remedy}")]
    NoDriver { address: String, remedy: String },
    #[error(
        "{address} is in the IOMMU group {group} with {other}, which the driver {driver} has, and vfio-pci gives a group \
         away as a whole: `driverctl set-override {other} vfio-pci` gives it that one too"
    )]
    SharedGroup {
        address: String,
        group: String,
        other: String,
        driver: String,
    },
    #[error(
        "{address} is bound to vfio-pci, but the kernel module vfio_iommu_type1 is not loaded: `modprobe vfio_iommu_type1`"
    )]
    NoType1 { address: String },
    #[error("{address} is in use by {user}: stop that first")]
    InUse { address: String, user: String },
    #[error(
        "{address}: this user may not open {node}: run weir as root, or give it the device (`chown weir {node}`; a udev rule \
         makes it last)"
    )]
    Permission { address: String, node: String },
    #[error(
        "{address} is bound to {driver}, which only root can use: run weir as root, or bind it to vfio-pci where there is an \
         IOMMU"
    )]
    NeedsRoot { address: String, driver: String },
    #[error(
        "vfio-pci locks all memory that devices may reach, here {needed_mb} MB, and this process may lock {limit_mb} MB \
         (RLIMIT_MEMLOCK): `LimitMEMLOCK=infinity` in the service's unit, `ulimit -l unlimited` in root's shell, or \
         CAP_IPC_LOCK"
    )]
    Memlock { needed_mb: usize, limit_mb: u64 },
}

impl Locking {
    /// Of this process.
    pub fn now() -> Locking {
        const CAP_IPC_LOCK: u32 = 14;
        let status = read_to_string("/proc/self/status").unwrap_or_default();
        let capabilities = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        let limit = match capabilities {
            Some(capabilities) if capabilities & 1 << CAP_IPC_LOCK != 0 => None,
            _ => getrlimit(Resource::Memlock).current,
        };
        Locking { limit }
    }

    /// # Errors
    /// If `needed_mb` for the devices' use cannot be locked.
    pub fn check(self, needed_mb: usize) -> Result<(), Fault> {
        match self.limit {
            Some(limit) if limit >> 20 < needed_mb as u64 => Err(Fault::Memlock {
                needed_mb,
                limit_mb: limit >> 20,
            }),
            _ => Ok(()),
        }
    }
}

impl Bus {
    /// That of this machine.
    pub fn here() -> Bus {
        Bus {
            root: "/".into(),
            ssh: ssh_interface(),
            is_root: rustix::process::geteuid().is_root(),
        }
    }

    /// That of a tree of files, as root sees it without an SSH session.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Bus {
        Bus {
            root: root.into(),
            ssh: None,
            is_root: true,
        }
    }

    /// How the device at this address (in its full form) reaches memory, if weir can have it.
    pub fn look(&self, address: &str) -> Result<Dma, Fault> {
        let device = self.root.join("sys/bus/pci/devices").join(address);
        let address = address.to_owned();
        if !device.exists() {
            let others = self.network_devices();
            return Err(Fault::Missing { address, others });
        }
        let class = text(&device.join("class"));
        if !class.starts_with("0x02") {
            let others = self.network_devices();
            return Err(Fault::NoNetwork {
                address,
                class,
                others,
            });
        }
        let Some(driver) = link_name(&device.join("driver")) else {
            let remedy = self.bind(&device, &address);
            return Err(Fault::NoDriver { address, remedy });
        };
        match driver.as_str() {
            "vfio-pci" => self.look_at_vfio(&device, address),
            "uio_pci_generic" | "igb_uio" => self.look_at_uio(&device, address, driver),
            _ if SHARED.contains(&driver.as_str()) => Ok(Dma::Kernel),
            _ => Err(self.kernels(&device, address, driver)),
        }
    }

    fn look_at_vfio(&self, device: &Path, address: String) -> Result<Dma, Fault> {
        let folder = device.join("iommu_group");
        let group = link_name(&folder).unwrap_or_default();
        if text(&folder.join("name")) == "vfio-noiommu" {
            return self
                .user_of(&format!("/dev/vfio/noiommu-{group}"))
                .map_or(Ok(Dma::Physical), |user| {
                    Err(Fault::InUse { address, user })
                });
        }
        let mut members = names(&folder.join("devices"));
        members.retain(|member| *member != address);
        for other in members {
            let driver = link_name(&folder.join("devices").join(&other).join("driver"));
            // A bridge stays with its driver.
            if let Some(driver) = driver
                && !["vfio-pci", "pcieport", "pci-stub"].contains(&driver.as_str())
            {
                return Err(Fault::SharedGroup {
                    address,
                    group,
                    other,
                    driver,
                });
            }
        }
        if !self.root.join("sys/module/vfio_iommu_type1").exists() {
            return Err(Fault::NoType1 { address });
        }
        let node = format!("/dev/vfio/{group}");
        if let Some(user) = self.user_of(&node) {
            return Err(Fault::InUse { address, user });
        }
        // One process at a time may have a group open.
        let opened = File::options()
            .read(true)
            .write(true)
            .open(self.root.join(&node[1..]));
        match opened.map_err(|error| Errno::from_io_error(&error)) {
            Err(Some(Errno::BUSY)) => Err(Fault::InUse {
                address,
                user: format!("another process (`fuser -v {node}` tells which)"),
            }),
            Err(Some(Errno::ACCESS | Errno::PERM)) => Err(Fault::Permission { address, node }),
            _ => Ok(Dma::Iommu),
        }
    }

    fn look_at_uio(&self, device: &Path, address: String, driver: String) -> Result<Dma, Fault> {
        if !self.is_root {
            return Err(Fault::NeedsRoot { address, driver });
        }
        // Not opened: closing it would switch off the device's access to memory, for other processes too.
        let nodes = names(&device.join("uio"));
        let user = nodes
            .iter()
            .find_map(|node| self.user_of(&format!("/dev/{node}")));
        match user {
            Some(user) => Err(Fault::InUse { address, user }),
            None => Ok(Dma::Physical),
        }
    }

    /// The device is an interface of the kernel's.
    fn kernels(&self, device: &Path, address: String, driver: String) -> Fault {
        let names = self.interfaces(device);
        let carries_ssh = self.carries_ssh(&names);
        let state = match (names.iter().any(|name| self.is_up(name)), carries_ssh) {
            (_, true) => ", which carries your SSH session",
            (true, _) => ", which is up",
            (false, _) => ", which is down",
        };
        let interfaces = match names.is_empty() {
            true => String::new(),
            false => format!(" as {}{state}", names.join(", ")),
        };
        let remedy = match carries_ssh {
            true => {
                "weir needs it for itself; use another device, or come in by another one".to_owned()
            }
            false => {
                let down = names
                    .iter()
                    .filter(|name| self.is_up(name))
                    .map(|name| format!("`ip link set {name} down`, "));
                down.collect::<String>() + &self.bind(device, &address)
            }
        };
        Fault::Kernel {
            address,
            driver,
            interfaces,
            remedy,
        }
    }

    /// The kernel's interfaces on a device.
    fn interfaces(&self, device: &Path) -> Vec<String> {
        // Those of virtio are a level deeper.
        let inner = names(device)
            .into_iter()
            .filter(|name| name.starts_with("virtio"))
            .map(|name| device.join(name).join("net"));
        let folders = std::iter::once(device.join("net")).chain(inner);
        folders.flat_map(|folder| names(&folder)).collect()
    }

    fn is_up(&self, interface: &str) -> bool {
        text(
            &self
                .root
                .join("sys/class/net")
                .join(interface)
                .join("operstate"),
        ) == "up"
    }

    fn carries_ssh(&self, interfaces: &[String]) -> bool {
        let carriers = self.ssh.as_deref().map(|name| self.lowers(name));
        carriers.is_some_and(|all| interfaces.iter().any(|name| all.contains(name)))
    }

    /// What gives the device to weir.
    fn bind(&self, device: &Path, address: &str) -> String {
        let command = |driver: &str| {
            format!("`modprobe {driver}`, `driverctl set-override {address} {driver}`")
        };
        match device.join("iommu_group").exists() {
            true => format!("{} give it to weir", command("vfio-pci")),
            false => format!(
                "{} give it to weir; vfio-pci, the better driver, needs an IOMMU, and this kernel uses none (boot with \
                 intel_iommu=on where the machine has one)",
                command("uio_pci_generic")
            ),
        }
    }

    /// An interface and those that it consists of: the members of a bridge or a bond, what a VLAN is on.
    pub(crate) fn lowers(&self, interface: &str) -> BTreeSet<String> {
        let (mut all, mut left) = (BTreeSet::new(), vec![interface.to_owned()]);
        while let Some(name) = left.pop() {
            let folder = self.root.join("sys/class/net").join(&name);
            if all.insert(name) {
                let lowers = names(&folder).into_iter();
                left.extend(
                    lowers.filter_map(|name| name.strip_prefix("lower_").map(str::to_owned)),
                );
            }
        }
        all
    }

    /// Which process has a device node open, as far as this one may know; never this one.
    fn user_of(&self, node: &str) -> Option<String> {
        let own = std::process::id();
        let proc = self.root.join("proc");
        let pids = names(&proc)
            .into_iter()
            .filter_map(|name| name.parse::<u32>().ok());
        let has_it = |pid: &u32| {
            let folder = proc.join(pid.to_string()).join("fd");
            let mut files = names(&folder).into_iter();
            files.any(|fd| read_link(folder.join(fd)).is_ok_and(|path| path == Path::new(node)))
        };
        let pid = pids.filter(|pid| *pid != own).find(has_it)?;
        let name = text(&proc.join(pid.to_string()).join("comm"));
        Some(format!("{name} (process {pid})"))
    }

    /// What the operator may have meant.
    fn network_devices(&self) -> String {
        let folder = self.root.join("sys/bus/pci/devices");
        let is_network =
            |address: &String| text(&folder.join(address).join("class")).starts_with("0x02");
        let found: Vec<String> = names(&folder)
            .into_iter()
            .filter(is_network)
            .map(|address| {
                let driver = link_name(&folder.join(&address).join("driver"));
                format!("{address} ({})", driver.as_deref().unwrap_or("no driver"))
            })
            .collect();
        match found.len() {
            0 => "this machine has no network device on the PCI bus".to_owned(),
            1 => format!("the network device here is {}", found[0]),
            n if n <= MOST_LISTED => format!("the network devices here are {}", found.join(", ")),
            n => format!(
                "the network devices here are {} and {} more (`lspci -D`)",
                found[..MOST_LISTED].join(", "),
                n - MOST_LISTED
            ),
        }
    }
}

/// The interface that has the address to which the operator's SSH client is connected.
fn ssh_interface() -> Option<String> {
    let connection = std::env::var("SSH_CONNECTION").ok()?;
    let server: IpAddr = connection.split_whitespace().nth(2)?.parse().ok()?;
    let interfaces = if_addrs::get_if_addrs().ok()?;
    let found = interfaces
        .into_iter()
        .find(|interface| interface.ip() == server)?;
    Some(found.name)
}

/// The names in a folder, in their order; none where there is no such folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

/// The last part of where a symbolic link leads.
fn link_name(link: &Path) -> Option<String> {
    let target = read_link(link).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// A file's text without the white space around it; empty where it cannot be read.
fn text(file: &Path) -> String {
    let text = read_to_string(file).unwrap_or_default();
    text.trim().to_owned()
}

//! The network devices of the PCI bus, and what each is to the kernel now.

use super::{Bus, SHARED, link_name, names, text};
use std::path::Path;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// As `0000:03:00.0`.
    pub address: String,
    pub driver: Option<String>,
    /// The kernel's interfaces on it.
    pub interfaces: Vec<String>,
    /// Those of them that are up.
    pub up: Vec<String>,
    /// The operator's SSH session comes by it.
    pub carries_ssh: bool,
    /// Its memory accesses go through an IOMMU.
    pub has_iommu: bool,
    /// Devices of its IOMMU group that have a driver of the kernel's: they would have to go to `vfio-pci` as well.
    pub group: Vec<String>,
    /// The process that has it for itself.
    pub user: Option<String>,
}

impl Nic {
    /// DPDK shares it with the kernel: it stays with its driver.
    pub fn is_shared(&self) -> bool {
        self.driver
            .as_deref()
            .is_some_and(|driver| SHARED.contains(&driver))
    }

    /// It is bound to a driver for user space.
    pub fn is_bound(&self) -> bool {
        let driver = self.driver.as_deref();
        driver.is_some_and(|driver| ["vfio-pci", "uio_pci_generic", "igb_uio"].contains(&driver))
    }
}

impl Bus {
    /// The network devices, by address.
    pub fn nics(&self) -> Vec<Nic> {
        let folder = self.root.join("sys/bus/pci/devices");
        let network = names(&folder).into_iter();
        let network =
            network.filter(|name| text(&folder.join(name).join("class")).starts_with("0x02"));
        network.map(|address| self.nic(&folder, address)).collect()
    }

    fn nic(&self, folder: &Path, address: String) -> Nic {
        let device = folder.join(&address);
        let interfaces = self.interfaces(&device);
        let group = device.join("iommu_group");
        let members = names(&group.join("devices")).into_iter();
        let others = members.filter(|other| *other != address).filter(|other| {
            let driver = link_name(&group.join("devices").join(other).join("driver"));
            driver.is_some_and(|it| !["vfio-pci", "pcieport", "pci-stub"].contains(&it.as_str()))
        });
        let nodes = names(&device.join("uio")).into_iter();
        let nodes = nodes
            .map(|node| format!("/dev/{node}"))
            .chain(link_name(&group).map(|number| format!("/dev/vfio/{number}")));
        Nic {
            driver: link_name(&device.join("driver")),
            up: interfaces
                .iter()
                .filter(|name| self.is_up(name))
                .cloned()
                .collect(),
            carries_ssh: self.carries_ssh(&interfaces),
            interfaces,
            has_iommu: group.exists(),
            group: others.collect(),
            user: nodes.into_iter().find_map(|node| self.user_of(&node)),
            address,
        }
    }
}

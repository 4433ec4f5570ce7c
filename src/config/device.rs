//! What a port's `device` names: a PCI address, a virtual device (vdev), or a device of another bus.

use super::error::{did_you_mean, quote};

/// A driver of virtual devices. A vdev's name begins with its driver's.
#[derive(Debug)]
pub(super) struct Vdev {
    pub driver: &'static str,
    /// The most queue pairs that the driver gives every device, where it has such a limit.
    pub most_queues: Option<usize>,
    /// The driver wants as many receive queues as transmit queues.
    pub is_paired: bool,
    /// The driver makes an interface of the kernel, named by this argument.
    pub makes: Option<&'static str>,
}

const fn vdev(driver: &'static str) -> Vdev {
    Vdev {
        driver,
        most_queues: None,
        is_paired: false,
        makes: None,
    }
}

/// Those that DPDK has for Ethernet, with the older names of some.
const VDEVS: &[Vdev] = &[
    TAP,
    Vdev {
        driver: "eth_tap",
        ..TAP
    },
    vdev("net_af_packet"),
    vdev("eth_af_packet"),
    vdev("net_af_xdp"),
    vdev("net_bonding"),
    vdev("eth_bond"),
    vdev("net_failsafe"),
    vdev("net_memif"),
    vdev("net_null"),
    vdev("eth_null"),
    vdev("net_pcap"),
    vdev("eth_pcap"),
    vdev("net_ring"),
    vdev("eth_ring"),
    vdev("net_softnic"),
    vdev("net_vdev_netvsc"),
    vdev("net_vhost"),
    vdev("eth_vhost"),
    vdev("net_virtio_user"),
    vdev("virtio_user"),
];

/// `RTE_PMD_TAP_MAX_QUEUES`; `tap_dev_configure` refuses unequal numbers.
const TAP: Vdev = Vdev {
    driver: "net_tap",
    most_queues: Some(16),
    is_paired: true,
    makes: Some("iface"),
};

/// The buses that a device string may name before a colon.
const BUSES: &[&str] = &[
    "auxiliary",
    "cdx",
    "dpaa",
    "fslmc",
    "pci",
    "platform",
    "vdev",
    "vmbus",
];

/// The address that a device string has, in full: `0000:03:00.0`. None if the string is no PCI address, with or without
/// its domain, and maybe with arguments.
pub fn pci_address(device: &str) -> Option<String> {
    let address = name(device);
    let address = address.strip_prefix("pci:").unwrap_or(address);
    let hex =
        |part: &str, digits| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
    let (place, function) = address.rsplit_once('.')?;
    let parts: Vec<&str> = place.split(':').collect();
    let (domain, bus, slot) = match parts[..] {
        [bus, slot] => ("0000", bus, slot),
        [domain, bus, slot] => (domain, bus, slot),
        _ => return None,
    };
    let valid = hex(domain, 4) && hex(bus, 2) && hex(slot, 2) && hex(function, 1);
    valid.then(|| format!("{domain}:{bus}:{slot}.{function}").to_ascii_lowercase())
}

/// The PCI devices that a device string means: itself, or the members of a bond.
pub fn pci_devices(device: &str) -> Vec<&str> {
    if pci_address(device).is_some() {
        return vec![device];
    }
    members(device)
        .filter(|member| pci_address(member).is_some())
        .collect()
}

/// The members of a bond, as they are written.
fn members(device: &str) -> impl Iterator<Item = &str> {
    // DPDK 23.11 calls members what were slaves before.
    device.split(',').skip(1).filter_map(|argument| {
        let (key, value) = argument.split_once('=')?;
        ["slave", "member"].contains(&key).then_some(value)
    })
}

/// The driver of a virtual device that the string names, if it is a known one.
pub(super) fn driver(device: &str) -> Option<&'static Vdev> {
    let name = name(device);
    let name = name.strip_prefix("vdev:").unwrap_or(name);
    VDEVS.iter().find(|vdev| name.starts_with(vdev.driver))
}

/// The interface of the kernel that the device's driver makes, where the string names it.
pub(super) fn interface(device: &str) -> Option<&str> {
    let key = driver(device)?.makes?;
    device.split(',').skip(1).find_map(|argument| {
        let (found, value) = argument.split_once('=')?;
        (found == key).then_some(value)
    })
}

/// The devices that a string takes, each in its one spelling: its own, and a bond's members.
pub(super) fn taken(device: &str) -> Vec<String> {
    let one = |name: &str| {
        pci_address(name).unwrap_or_else(|| name.strip_prefix("vdev:").unwrap_or(name).to_owned())
    };
    std::iter::once(name(device))
        .chain(members(device))
        .map(one)
        .collect()
}

/// What is wrong with a string that the EAL can make no device of, and what to do about it.
pub(super) fn wrong(device: &str) -> Option<(String, String)> {
    let name = name(device);
    let bus = device.split([':', '=']).next().unwrap_or_default();
    let on_a_bus = BUSES.contains(&bus) || device.starts_with("bus=");
    // VMBus devices are UUIDs; devices of the auxiliary bus have dots and numbers (`mlx5_core.sf.4`).
    let is_uuid = name.len() == 36 && name.bytes().filter(|&byte| byte == b'-').count() == 4;
    let is_auxiliary = name.split('.').count() == 3;
    if pci_address(device).is_some()
        || driver(device).is_some()
        || on_a_bus
        || is_uuid
        || is_auxiliary
    {
        return None;
    }
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let drivers = || VDEVS.iter().map(|vdev| vdev.driver);
    let listed = || {
        let current = drivers().filter(|driver| driver.starts_with("net_"));
        current.collect::<Vec<_>>().join(", ")
    };
    let shown = quote(name);
    Some(if stem.starts_with("net_") || stem.starts_with("eth_") {
        (
            format!(
                "no driver makes a virtual device {shown}{}",
                did_you_mean(stem, drivers())
            ),
            format!(
                "a vdev's name is its driver's and a number; the drivers are: {}",
                listed()
            ),
        )
    } else if name.contains(':') {
        (
            format!("the device {shown} is no PCI address"),
            "write it as `lspci -D` shows it, such as \"0000:03:00.0\"".to_owned(),
        )
    } else {
        (
            format!("the device {shown} is neither a PCI address nor a vdev"),
            format!(
                "for an interface of the kernel write the PCI address of its NIC (`ethtool -i` shows it as bus-info), \
                 or share it: \"net_af_packet0,iface={name}\""
            ),
        )
    })
}

/// The string without its arguments.
fn name(device: &str) -> &str {
    device.split(',').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_told_from_virtual_devices() {
        assert_eq!(pci_address("3B:00.1,x=1").as_deref(), Some("0000:3b:00.1"));
        assert_eq!(pci_address("0001:03:00.0").as_deref(), Some("0001:03:00.0"));
        for device in [
            "net_tap0,iface=weir0",
            "net_pcap0,rx_pcap=a.b:c.0",
            "03:00",
            "g3:00.0",
            "",
        ] {
            assert_eq!(pci_address(device), None, "{device}");
        }
    }

    #[test]
    fn what_the_eal_can_make_a_device_of_is_taken() {
        for device in [
            "0000:03:00.0",
            "pci:03:00.0",
            "03:00.0,representor=0",
            "net_tap0,iface=weir0",
            "vdev:net_null0",
            "net_bonding0,mode=1,slave=net_tap10,slave=net_tap11",
            "eth_pcap0,rx_pcap=a",
            "virtio_user0,path=/dev/vhost-net",
            "net_virtio_user3",
            "mlx5_core.sf.4",
            "auxiliary:mlx5_core.sf.4",
            "vmbus:f8615163-df3e-46c5-913f-f2d2f965ed0e",
            "f8615163-df3e-46c5-913f-f2d2f965ed0e",
            "bus=pci,addr=03:00.0",
            "fslmc:dpni.1",
        ] {
            assert_eq!(wrong(device), None, "{device}");
        }
        for device in [
            "eth1", "ens3f0", "tap0", "net_tab0", "03:00", "03:00:0", "lo,x=1",
        ] {
            assert!(wrong(device).is_some(), "{device}");
        }
    }

    #[test]
    fn the_members_of_a_bond_are_devices_too() {
        let bond = "net_bonding0,mode=4,slave=0000:03:00.0,member=03:00.1,slave=net_tap0";
        assert_eq!(pci_devices(bond), ["0000:03:00.0", "03:00.1"]);
        assert_eq!(pci_devices("03:00.1,x=1"), ["03:00.1,x=1"]);
        assert!(pci_devices("net_tap0").is_empty());
    }

    #[test]
    fn one_device_has_one_spelling() {
        assert_eq!(taken("pci:3B:00.1,x=1"), ["0000:3b:00.1"]);
        assert_eq!(taken("vdev:net_tap0,iface=a"), ["net_tap0"]);
        assert_eq!(
            taken("net_bonding0,mode=4,slave=03:00.0,member=0000:03:00.1"),
            ["net_bonding0", "0000:03:00.0", "0000:03:00.1"]
        );
    }

    #[test]
    fn a_tap_makes_the_interface_that_it_names() {
        assert_eq!(interface("net_tap0,mac=fixed,iface=weir0"), Some("weir0"));
        assert_eq!(interface("net_tap0"), None);
        assert_eq!(
            interface("net_af_packet0,iface=eth1"),
            None,
            "it is there already"
        );
    }
}

use super::*;
use std::fs::{create_dir_all, write};
use std::os::unix::fs::symlink;

/// Files of a fake `sys`, `proc` and `dev`: `path = text`, `path -> target`, or `path` for a folder.
fn tree(lines: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let place = |path: &str| {
        let path = root.path().join(path.trim());
        create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some((link, target)) = line.split_once(" -> ") {
            symlink(target, place(link)).unwrap();
        } else if let Some((file, text)) = line.split_once(" = ") {
            write(place(file), format!("{text}\n")).unwrap();
        } else {
            create_dir_all(place(line)).unwrap();
        }
    }
    root
}

/// A NIC at 0000:01:00.0 with these further files; D stands for its folder, N for /sys/class/net.
fn nic(lines: &str) -> tempfile::TempDir {
    let device = "sys/bus/pci/devices/0000:01:00.0";
    let lines = format!("D/class = 0x020000\n{lines}");
    tree(
        &lines
            .replace("D/", &format!("{device}/"))
            .replace("N/", "sys/class/net/"),
    )
}

const VFIO: &str = "D/driver -> ../drivers/vfio-pci
    D/iommu_group -> ../../../../kernel/iommu_groups/7
    sys/kernel/iommu_groups/7/devices/0000:01:00.0";
const TYPE1: &str = "sys/module/vfio_iommu_type1";

#[test]
fn a_device_is_had_or_its_state_and_the_remedy_are_told() {
    /// The tree, the SSH interface, whether weir is root, what is found.
    type Case<'a> = (&'a str, Option<&'a str>, bool, &'a str);
    let cases: [Case; 17] = [
        (&format!("{VFIO}\n{TYPE1}"), None, false, "Iommu"),
        (VFIO, None, true, "`modprobe vfio_iommu_type1`"),
        (
            &format!(
                "{VFIO}\n{TYPE1}\nsys/kernel/iommu_groups/7/devices/0000:01:00.1/driver -> x/e1000e"
            ),
            None,
            true,
            "with 0000:01:00.1, which the driver e1000e has",
        ),
        (
            &format!(
                "{VFIO}\n{TYPE1}\nsys/kernel/iommu_groups/7/devices/0000:00:1c.0/driver -> x/pcieport"
            ),
            None,
            true,
            "Iommu",
        ),
        (
            &format!("{VFIO}\n{TYPE1}\nproc/1/fd/3 -> /dev/vfio/7\nproc/1/comm = testpmd"),
            None,
            true,
            "in use by testpmd (process 1)",
        ),
        (
            "D/driver -> x/vfio-pci\nD/iommu_group/name = vfio-noiommu",
            None,
            true,
            "Physical",
        ),
        (
            "D/driver -> x/uio_pci_generic\nD/uio/uio0",
            None,
            true,
            "Physical",
        ),
        (
            "D/driver -> x/uio_pci_generic",
            None,
            false,
            "only root can use",
        ),
        (
            "D/driver -> x/uio_pci_generic\nD/uio/uio3\nproc/1/fd/9 -> /dev/uio3\nproc/1/comm = weir",
            None,
            true,
            "in use by weir (process 1)",
        ),
        ("D/driver -> x/mlx5_core\nD/net/eth0", None, true, "Kernel"),
        (
            "D/driver -> x/e1000e\nD/net/eth0\nN/eth0/operstate = up\nD/iommu_group/name = x",
            None,
            true,
            "driver e1000e as eth0, which is up: `ip link set eth0 down`, `modprobe vfio-pci`, `driverctl set-override \
             0000:01:00.0 vfio-pci` give it to weir",
        ),
        (
            "D/driver -> x/virtio-pci\nD/virtio0/net/ens3\nN/ens3/operstate = down",
            None,
            true,
            "driver virtio-pci as ens3, which is down: `modprobe uio_pci_generic`",
        ),
        (
            "D/driver -> x/e1000e\nD/net/eth0\nN/eth0/operstate = up",
            Some("eth0"),
            true,
            "as eth0, which carries your SSH session: weir needs it for itself; use another",
        ),
        (
            "D/driver -> x/e1000e\nD/net/eth0\nN/br0/lower_bond0\nN/bond0/lower_eth0\nN/eth0/lower_br0",
            Some("br0"),
            true,
            "which carries your SSH session",
        ),
        (
            "D/iommu_group/name = x",
            None,
            true,
            "no driver has 0000:01:00.0: `modprobe vfio-pci`",
        ),
        (
            "",
            None,
            true,
            "needs an IOMMU, and this kernel uses none (boot with intel_iommu=on",
        ),
        (
            "sys/bus/pci/devices/0000:00:02.0/class = 0x030000",
            None,
            true,
            "no driver has 0000:01:00.0",
        ),
    ];
    for (lines, ssh, is_root, expected) in cases {
        let root = nic(lines);
        let bus = Bus {
            root: root.path().into(),
            ssh: ssh.map(str::to_owned),
            is_root,
        };
        let found = match bus.look("0000:01:00.0") {
            Ok(dma) => format!("{dma:?}"),
            Err(fault) => fault.to_string(),
        };
        assert!(found.contains(expected), "{lines}\n{found}");
    }
}

#[test]
fn a_device_that_is_not_there_or_no_nic_is_answered_with_those_that_are() {
    let root = nic("D/driver -> x/e1000e
        sys/bus/pci/devices/0000:00:02.0/class = 0x030000
        sys/bus/pci/devices/0000:02:00.0/class = 0x020000");
    let bus = Bus {
        root: root.path().into(),
        ssh: None,
        is_root: true,
    };
    let others = "the network devices here are 0000:01:00.0 (e1000e), 0000:02:00.0 (no driver)";
    assert_eq!(
        bus.look("0000:09:00.0").unwrap_err().to_string(),
        format!("there is no PCI device 0000:09:00.0; {others}")
    );
    assert_eq!(
        bus.look("0000:00:02.0").unwrap_err().to_string(),
        format!("0000:00:02.0 is no network device (its PCI class is 0x030000); {others}")
    );
    let nowhere = Bus {
        root: root.path().join("nowhere"),
        ..bus
    };
    let fault = nowhere.look("0000:01:00.0").unwrap_err().to_string();
    assert!(
        fault.ends_with("no network device on the PCI bus"),
        "{fault}"
    );
}

#[test]
fn what_devices_reach_has_to_fit_into_what_may_be_locked() {
    let check = |limit, needed| {
        Locking { limit }
            .check(needed)
            .map_err(|fault| fault.to_string())
    };
    assert_eq!(check(None, 100_000), Ok(()));
    assert_eq!(check(Some(64 << 20), 64), Ok(()));
    let fault = check(Some(8 << 20), 64).unwrap_err();
    for part in ["here 64 MB", "may lock 8 MB", "LimitMEMLOCK=infinity"] {
        assert!(fault.contains(part), "{fault}");
    }
}

#[test]
fn a_device_is_one_weirs() {
    for lines in ["run/lock\nD/class = 0x020000", "D/class = 0x020000"] {
        let root = tree(&lines.replace("D/", "sys/bus/pci/devices/0000:01:00.0/"));
        let take = || Lock::take_in(root.path(), "0000:01:00.0");
        let first = take().unwrap();
        let refused = take().unwrap_err().to_string();
        assert!(
            refused.starts_with("0000:01:00.0 is in use by another weir"),
            "{refused}"
        );
        if lines.starts_with("run") {
            let own = format!("(process {})", std::process::id());
            assert!(refused.contains(&own), "{refused}");
        }
        assert!(Lock::take_in(root.path(), "0000:02:00.0").is_ok());
        drop(first);
        assert!(take().is_ok(), "{lines}");
        let gone = || Lock::take_in(root.path(), "0000:09:00.0");
        assert!(gone().is_ok() && gone().is_ok(), "no device, no lock");
    }
}

use super::*;
use crate::config::{self, Context};
use crate::io::pci::Bus;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// A machine of files, whose kernel binds devices as Linux does.
struct Tree {
    root: tempfile::TempDir,
    /// What each device is bound to without an override.
    native: BTreeMap<String, &'static str>,
    ran: Vec<String>,
    /// How many hugepages there is memory for.
    most_pages: u64,
}

impl Tree {
    /// Devices with their driver, interface, and whether they have an IOMMU.
    fn new(devices: &[(&str, &'static str, &str, bool)]) -> Tree {
        let mut tree = Tree {
            root: tempfile::tempdir().unwrap(),
            native: BTreeMap::new(),
            ran: Vec::new(),
            most_pages: u64::MAX,
        };
        tree.put(
            "proc/meminfo",
            "MemTotal: 1 kB\nHugepagesize:       2048 kB\n",
        );
        tree.put("proc/sys/vm/nr_hugepages", "8\n");
        for (n, (address, driver, interface, has_iommu)) in devices.iter().enumerate() {
            let device = format!("sys/bus/pci/devices/{address}");
            tree.put(&format!("{device}/class"), "0x020000\n");
            tree.put(&format!("{device}/driver_override"), "(null)\n");
            tree.put(&format!("{device}/net/{interface}/mtu"), "1500\n");
            tree.put(&format!("sys/class/net/{interface}/operstate"), "up\n");
            if *has_iommu {
                let group = format!("sys/kernel/iommu_groups/{n}");
                tree.put(&format!("{group}/type"), "DMA\n");
                let link = tree.path(&format!("{device}/iommu_group"));
                symlink(tree.path(&group), link).unwrap();
            }
            tree.native.insert((*address).to_owned(), driver);
            tree.bind(address, Some(driver));
        }
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn bind(&self, address: &str, driver: Option<&str>) {
        let link = self.path(&format!("sys/bus/pci/devices/{address}/driver"));
        let _ = fs::remove_file(&link);
        if let Some(driver) = driver {
            symlink(self.path(&format!("sys/bus/pci/drivers/{driver}")), link).unwrap();
        }
    }

    fn text(&self, path: &str) -> Option<String> {
        self.read(path).unwrap()
    }

    fn nics(&self) -> Vec<Nic> {
        Bus::at(self.root.path()).nics()
    }

    /// Every file, and every device's driver.
    fn state(&self) -> BTreeMap<String, String> {
        let mut state = BTreeMap::new();
        for path in [MODULES, SYSCTL, HUGEPAGES, RECORD, "etc/weir/weir.toml"] {
            state.insert(
                path.to_owned(),
                self.text(path).unwrap_or_default().trim().to_owned(),
            );
        }
        for address in self.native.keys() {
            state.insert(address.clone(), self.driver(address).unwrap_or_default());
        }
        state
    }
}

impl Machine for Tree {
    fn read(&self, path: &str) -> Result<Option<String>, String> {
        match fs::read_to_string(self.path(path)) {
            Ok(text) => Ok(Some(text)),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(format!("{path}: {why}")),
        }
    }

    fn replace(&mut self, path: &str, text: &str) -> Result<(), String> {
        self.put(path, text);
        Ok(())
    }

    fn write(&mut self, path: &str, text: &str) -> Result<(), String> {
        if path.ends_with("/unbind") {
            assert!(path.contains(&self.driver(text).unwrap()), "{path}");
            self.bind(text, None);
        } else if path.ends_with("drivers_probe") {
            let device = format!("sys/bus/pci/devices/{text}/driver_override");
            let over = self.text(&device).unwrap();
            let driver = match over.trim() {
                "" | "(null)" => self.native[text].to_owned(),
                other => other.to_owned(),
            };
            self.bind(text, Some(&driver));
        } else if path == HUGEPAGES {
            let pages: u64 = text.trim().parse().unwrap();
            self.put(path, &format!("{}\n", pages.min(self.most_pages)));
        } else {
            self.put(path, text);
        }
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<(), String> {
        fs::remove_file(self.path(path)).map_err(|why| format!("{path}: {why}"))
    }

    fn run(&mut self, words: &[&str]) -> Result<(), String> {
        self.ran.push(words.join(" "));
        match words {
            ["driverctl", "set-override", address, driver] => {
                self.put(&driverctls(address), driver);
                self.bind(address, Some(driver));
            }
            ["driverctl", "unset-override", address] => {
                let _ = fs::remove_file(self.path(&driverctls(address)));
                self.bind(address, Some(self.native[*address]));
            }
            ["ip", "link", "set", name, "down"] => {
                self.put(&format!("sys/class/net/{name}/operstate"), "down\n");
            }
            ["modprobe", _] => {}
            other => panic!("{other:?}"),
        }
        Ok(())
    }

    fn driver(&self, address: &str) -> Option<String> {
        let link =
            fs::read_link(self.path(&format!("sys/bus/pci/devices/{address}/driver"))).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }
}

const WITH: (&str, &str, &str, bool) = ("0000:01:00.0", "ixgbe", "eth1", true);
const WITHOUT: (&str, &str, &str, bool) = ("0000:02:00.0", "virtio-pci", "eth2", false);

/// Does all steps; `driverctl`: whether it is there.
fn set_up(tree: &mut Tree, driverctl: bool, text: Option<&str>) -> Vec<Step> {
    let nics = tree.nics();
    let before = tree.text(RECORD).map(|_| recorded(tree));
    let wanted = Wanted {
        nics: &nics,
        hugepages_mb: 512,
        file: text.map(|text| ("etc/weir/weir.toml", text)),
        driverctl,
    };
    let (steps, mut record) = steps(&wanted, tree, before.unwrap_or_default()).unwrap();
    record.save(tree).unwrap();
    for act in steps.iter().flat_map(|step| &step.acts) {
        act.perform(tree).unwrap();
        if let Act::Reserve(pages) = act {
            let fewer = record.granted(tree, *pages).unwrap();
            assert_eq!(fewer.is_some(), *pages > tree.most_pages, "{fewer:?}");
        }
    }
    steps
}

fn recorded(tree: &Tree) -> Record {
    serde_json::from_str(&tree.text(RECORD).unwrap()).unwrap()
}

fn take_back(tree: &mut Tree) -> Vec<Restored> {
    let (steps, restored) = undo(&recorded(tree), &tree.nics(), tree).unwrap();
    for act in steps.iter().flat_map(|step| &step.acts) {
        act.perform(tree).unwrap();
    }
    restored
}

#[test]
fn what_is_set_up_is_taken_back_whole() {
    for driverctl in [true, false] {
        for former in [None, Some("# the package's own\n")] {
            let mut tree = Tree::new(&[WITH, WITHOUT]);
            if let Some(text) = former {
                tree.put("etc/weir/weir.toml", text);
            }
            let before = tree.state();
            set_up(&mut tree, driverctl, Some("first\n"));
            let now = tree.state();
            assert_eq!(now["0000:01:00.0"], "vfio-pci");
            assert_eq!(now["0000:02:00.0"], "uio_pci_generic");
            assert_eq!(now[HUGEPAGES], "256");
            assert_eq!(now[SYSCTL], "vm.nr_hugepages=256");
            assert_eq!(now[MODULES], "uio_pci_generic\nvfio-pci\nvfio_iommu_type1");
            assert_eq!(now["etc/weir/weir.toml"], "first");
            assert!(tree.ran.contains(&"ip link set eth1 down".to_owned()));
            // A second time there is nothing to do, and the record still knows how it was at first.
            assert_eq!(set_up(&mut tree, driverctl, None), []);
            let restored = take_back(&mut tree);
            let is_back = |it: &Restored| matches!(it, Restored::Back(_) | Restored::Interface(_));
            assert!(restored.iter().all(is_back), "{restored:?}");
            assert!(restored.contains(&Restored::Interface("eth1".to_owned())));
            assert_eq!(tree.state(), before);
        }
    }
}

#[test]
fn what_was_changed_since_stays() {
    let mut tree = Tree::new(&[WITH]);
    tree.put(MODULES, "former\n");
    set_up(&mut tree, false, Some("first\n"));
    tree.put("etc/weir/weir.toml", "changed\n");
    tree.put(HUGEPAGES, "300\n");
    fs::remove_file(tree.path(MODULES)).unwrap();
    let restored = take_back(&mut tree);
    for kept in [
        Restored::Kept("etc/weir/weir.toml".to_owned()),
        Restored::Gone(MODULES.to_owned()),
        Restored::Hugepages(300),
    ] {
        assert!(restored.contains(&kept), "{restored:?}");
    }
    assert_eq!(tree.text("etc/weir/weir.toml").unwrap(), "changed\n");
    assert_eq!(tree.text(HUGEPAGES).unwrap(), "300\n");
    assert_eq!(tree.text(MODULES), None);
    assert_eq!(tree.driver("0000:01:00.0").unwrap(), "ixgbe");
}

#[test]
fn a_device_that_the_kernel_has_already_stays_with_it() {
    for driverctl in [true, false] {
        let mut tree = Tree::new(&[WITH]);
        let over = format!("sys/bus/pci/devices/{}/driver_override", WITH.0);
        set_up(&mut tree, driverctl, None);
        // By hand, with the override left.
        tree.bind(WITH.0, Some("ixgbe"));
        tree.put(&over, "vfio-pci\n");
        let mut nics = tree.nics();
        nics[0].carries_ssh = true;
        let (steps, restored) = undo(&recorded(&tree), &nics, &tree).unwrap();
        assert!(
            !restored.contains(&Restored::Interface("eth1".to_owned())),
            "{restored:?}"
        );
        tree.ran.clear();
        for act in steps.iter().flat_map(|step| &step.acts) {
            let shown = act.shown().unwrap();
            assert!(
                !shown.contains("bind") && !shown.contains("probe"),
                "{shown}"
            );
            act.perform(&mut tree).unwrap();
        }
        // driverctl unbinds a device before it ends its override.
        assert!(tree.ran.is_empty(), "{:?}", tree.ran);
        assert_eq!(tree.text(&over).unwrap(), "\n");
        assert_eq!(tree.text(&driverctls(WITH.0)), None);
        assert_eq!(tree.driver(WITH.0).unwrap(), "ixgbe");
    }
    // driverctl has let go of it: there is nothing to end.
    let mut tree = Tree::new(&[WITH]);
    set_up(&mut tree, true, None);
    tree.run(&["driverctl", "unset-override", WITH.0]).unwrap();
    let (steps, _) = undo(&recorded(&tree), &tree.nics(), &tree).unwrap();
    assert!(
        steps.iter().all(|step| !step.why.contains(WITH.0)),
        "{steps:?}"
    );
    // Another driver of the kernel's has it, and the operator's session.
    tree.bind(WITH.0, Some("other"));
    let mut nics = tree.nics();
    nics[0].carries_ssh = true;
    let refused = undo(&recorded(&tree), &nics, &tree).unwrap_err();
    assert!(refused.contains("carries your SSH session"), "{refused}");
}

#[test]
fn a_device_that_driverctl_has_bound_the_second_time_is_taken_back_by_it() {
    let mut tree = Tree::new(&[WITH]);
    set_up(&mut tree, false, None);
    // A boot.
    tree.bind(WITH.0, Some("ixgbe"));
    set_up(&mut tree, true, None);
    assert!(recorded(&tree).devices[0].driverctl);
    take_back(&mut tree);
    assert!(
        tree.ran
            .contains(&"driverctl unset-override 0000:01:00.0".to_owned())
    );
    assert_eq!(tree.text(&driverctls(WITH.0)), None);
    assert_eq!(tree.driver(WITH.0).unwrap(), "ixgbe");
}

#[test]
fn a_device_that_is_not_there_keeps_its_record() {
    let mut tree = Tree::new(&[WITH, WITHOUT]);
    set_up(&mut tree, false, Some("first\n"));
    let record = recorded(&tree);
    let nics = tree.nics();
    let (steps, restored) = undo(&record, &nics[..1], &tree).unwrap();
    assert!(restored.contains(&Restored::Absent(WITHOUT.0.to_owned())));
    assert!(!restored.contains(&Restored::Interface("eth2".to_owned())));
    for act in steps.iter().flat_map(|step| &step.acts) {
        act.perform(&mut tree).unwrap();
    }
    assert_eq!(
        recorded(&tree),
        Record {
            devices: record.devices[1..].to_vec(),
            ..Record::default()
        }
    );
    assert_eq!(tree.driver(WITH.0).unwrap(), "ixgbe");
    assert_eq!(tree.text("etc/weir/weir.toml"), None);
    // It is plugged in again.
    take_back(&mut tree);
    assert_eq!(tree.driver(WITHOUT.0).unwrap(), "virtio-pci");
    assert_eq!(tree.text(RECORD), None);
}

#[test]
fn fewer_hugepages_than_asked_for_are_taken_back_too() {
    let mut tree = Tree::new(&[WITH]);
    tree.most_pages = 200;
    set_up(&mut tree, false, None);
    assert_eq!(tree.text(HUGEPAGES).unwrap(), "200\n");
    assert_eq!(recorded(&tree).reserved, [256, 200]);
    // The second time the first number is still known.
    set_up(&mut tree, false, None);
    assert_eq!(recorded(&tree).hugepages, Some(8));
    let restored = take_back(&mut tree);
    assert_eq!(tree.text(HUGEPAGES).unwrap(), "8\n");
    assert!(
        !restored
            .iter()
            .any(|it| matches!(it, Restored::Hugepages(_))),
        "{restored:?}"
    );
    // What the operator has written between two times is what there was.
    set_up(&mut tree, false, None);
    tree.put(HUGEPAGES, "100\n");
    set_up(&mut tree, false, None);
    take_back(&mut tree);
    assert_eq!(tree.text(HUGEPAGES).unwrap(), "100\n");
    // A record of an earlier weir does not say what was written.
    let old: Record = serde_json::from_str(r#"{"devices":[],"hugepages":8,"files":[]}"#).unwrap();
    let (_, restored) = undo(&old, &[], &tree).unwrap();
    assert_eq!(restored, [Restored::Hugepages(100)]);
}

#[test]
fn a_file_that_is_no_text_is_not_overwritten() {
    let tree = Tree::new(&[WITH]);
    let nics = tree.nics();
    let wanted = Wanted {
        nics: &nics,
        hugepages_mb: 512,
        file: Some(("etc/weir/weir.toml", "first\n")),
        driverctl: false,
    };
    for path in [MODULES, SYSCTL, "etc/weir/weir.toml"] {
        let whole = tree.path(path);
        fs::create_dir_all(whole.parent().unwrap()).unwrap();
        fs::write(&whole, b"caf\xe9\n").unwrap();
        let refused = steps(&wanted, &tree, Record::default()).unwrap_err();
        assert!(refused.contains(path), "{refused}");
        fs::remove_file(&whole).unwrap();
        fs::create_dir(&whole).unwrap();
        let refused = steps(&wanted, &tree, Record::default()).unwrap_err();
        assert!(refused.contains(path), "{refused}");
        fs::remove_dir(&whole).unwrap();
    }
    assert!(steps(&wanted, &tree, Record::default()).is_ok());
}

#[test]
fn what_was_changed_between_two_times_is_given_back() {
    let mut tree = Tree::new(&[WITH]);
    set_up(&mut tree, false, Some("first\n"));
    tree.put("etc/weir/weir.toml", "# mine\n");
    set_up(&mut tree, false, Some("second\n"));
    take_back(&mut tree);
    assert_eq!(tree.text("etc/weir/weir.toml").unwrap(), "# mine\n");
}

#[test]
fn what_a_bond_a_bridge_or_a_vlan_has_is_lost_with_its_nic() {
    let tree = Tree::new(&[WITH, WITHOUT]);
    let nics = tree.nics();
    for upper in ["bond0", "br0", "eth1.100"] {
        tree.put(&format!("sys/class/net/{upper}/lower_eth1/mtu"), "1500\n");
        tree.put(&format!("sys/class/net/top/lower_{upper}/mtu"), "1500\n");
        for name in [upper, "top"] {
            let mut losses = Losses {
                addresses: vec![(name.to_owned(), "192.0.2.1/24".parse().unwrap())],
                gateways: vec![(name.to_owned(), Some("192.0.2.254".parse().unwrap()))],
                ..Losses::default()
            };
            losses.look_below(&Bus::at(tree.root.path()));
            assert!(losses.has_gateway(&nics[0]), "{name}");
            assert!(!losses.has_gateway(&nics[1]), "{name}");
            assert_eq!(
                losses.of(&nics[0]),
                [
                    format!("192.0.2.1/24 on {name}"),
                    format!("the default route via 192.0.2.254 on {name}")
                ]
            );
            assert!(losses.of(&nics[1]).is_empty());
            // The NIC as a port does not have them by itself.
            assert!(!first_file(&nics, &losses).contains("192.0.2.1/24"));
        }
        fs::remove_dir_all(tree.path("sys/class/net/top")).unwrap();
    }
}

#[test]
fn a_default_route_without_a_gateway_counts() {
    let tree = Tree::new(&[WITH, WITHOUT]);
    let nics = tree.nics();
    let mut losses = Losses::default();
    losses.read_gateways(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
         eth1\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n\
         *\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0\n",
    );
    assert_eq!(losses.gateways, [("eth1".to_owned(), None)]);
    assert!(losses.has_gateway(&nics[0]) && !losses.has_gateway(&nics[1]));
    assert_eq!(losses.of(&nics[0]), ["the default route on eth1"]);
    assert!(!first_file(&nics, &losses).contains("[[route]]"));
    let zero = "0".repeat(32);
    losses.read_gateways6(&format!(
        "{zero} 00 {zero} 00 {zero} 00000400 1 0 00000001 eth2\n"
    ));
    assert!(losses.has_gateway(&nics[1]));
}

#[test]
fn a_device_that_weir_cannot_have_is_refused_before_anything_is_done() {
    let tree = Tree::new(&[WITH, WITHOUT]);
    let nic = || tree.nics().remove(0);
    let bridge = || "0000:01:00.1".to_owned();
    for (nic, why) in [
        (
            Nic {
                carries_ssh: true,
                ..nic()
            },
            "carries your SSH session",
        ),
        (
            Nic {
                user: Some("weir (process 7)".to_owned()),
                ..nic()
            },
            "is in use by weir (process 7)",
        ),
        (
            Nic {
                group: vec![bridge()],
                ..nic()
            },
            "shares its IOMMU group with 0000:01:00.1",
        ),
    ] {
        let nics = [nic];
        let wanted = Wanted {
            nics: &nics,
            hugepages_mb: 512,
            file: None,
            driverctl: false,
        };
        let refused = steps(&wanted, &tree, Record::default()).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    // Both of a group go together; a device that DPDK shares stays.
    let two = [
        Nic {
            group: vec!["0000:02:00.0".to_owned()],
            ..nic()
        },
        Nic {
            group: vec!["0000:01:00.0".to_owned()],
            ..tree.nics().remove(1)
        },
    ];
    let shared = [Nic {
        driver: Some("mlx5_core".to_owned()),
        ..nic()
    }];
    for (nics, bound) in [(&two[..], 2), (&shared[..], 0)] {
        let wanted = Wanted {
            nics,
            hugepages_mb: 0,
            file: None,
            driverctl: true,
        };
        let (_, record) = steps(&wanted, &tree, Record::default()).unwrap();
        assert_eq!(record.devices.len(), bound);
    }
}

#[test]
fn a_driver_that_does_not_take_the_device_is_noticed() {
    let mut tree = Tree::new(&[WITH]);
    let expected = Act::Expect {
        address: "0000:01:00.0".to_owned(),
        driver: "vfio-pci".to_owned(),
    };
    let why = expected.perform(&mut tree).unwrap_err();
    assert_eq!(why, "0000:01:00.0 has the driver ixgbe, and not vfio-pci");
    tree.bind("0000:01:00.0", None);
    assert!(
        expected
            .perform(&mut tree)
            .unwrap_err()
            .contains("has no driver")
    );
}

#[test]
fn the_first_file_has_what_the_interfaces_lose() {
    let tree = Tree::new(&[WITH, WITHOUT]);
    let mut losses = Losses {
        addresses: vec![
            ("eth1".to_owned(), "198.51.100.1/24".parse().unwrap()),
            ("eth0".to_owned(), "192.0.2.1/24".parse().unwrap()),
        ],
        ..Losses::default()
    };
    losses.read_gateways(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
         eth1\t006433C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
         eth1\t00000000\tFE6433C6\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
    );
    let nics = tree.nics();
    assert_eq!(
        losses.of(&nics[0]),
        [
            "198.51.100.1/24 on eth1",
            "the default route via 198.51.100.254 on eth1"
        ]
    );
    assert!(losses.has_gateway(&nics[0]) && !losses.has_gateway(&nics[1]));
    assert!(losses.of(&nics[1]).is_empty());
    // The default route of IPv6 counts as well; routes to networks and of the loopback interface do not.
    let mut six = Losses::default();
    let zero = "0".repeat(32);
    let via = "fe800000000000000000000000000001";
    six.read_gateways6(&format!(
        "20010db8000000000000000000000000 40 {zero} 00 {zero} 00000100 1 0 00000001 eth1\n\
         {zero} 00 {zero} 00 {via} 00000400 1 0 00000003 eth2\n\
         {zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo\n"
    ));
    assert_eq!(
        six.gateways,
        [("eth2".to_owned(), Some("fe80::1".parse().unwrap()))]
    );
    let context = Context {
        cpus: None,
        devices: true,
    };
    let text = first_file(&nics, &losses);
    let config = config::parse(&text, "weir.toml", &context).unwrap().config;
    let names: Vec<_> = config.ports.iter().map(|port| port.name.as_str()).collect();
    assert_eq!(names, ["wan", "port1"]);
    assert_eq!(
        config.ports[0].addresses,
        ["198.51.100.1/24".parse().unwrap()]
    );
    assert_eq!(config.routes.len(), 1);
    assert!(says_nothing("# a\n\n  # b\n") && !says_nothing(&text));
    // The example is one, once the comments are gone.
    let example: String = text
        .lines()
        .filter(|line| !line.starts_with("# A first") && !line.starts_with("# Its own"))
        .map(|line| {
            format!(
                "{}\n",
                line.strip_prefix("# ")
                    .unwrap_or(line.trim_start_matches('#'))
            )
        })
        .collect();
    let example = example
        .replace("10.0.0.200", "198.51.100.200")
        .replace("10.0.0.11", "198.51.100.11");
    assert_eq!(
        config::parse(&example, "weir.toml", &context)
            .unwrap()
            .config
            .services
            .len(),
        1
    );
}

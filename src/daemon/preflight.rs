//! What can be said of the ports' devices before any of them is touched: `weir check` warns of it, `weir run` refuses.

use super::machine::Memory;
use crate::config::{Config, Diagnostic, PortConfig, Severity, pci_address, pci_devices};
use crate::io::dpdk::{EAL_MEMORY_MB, Error, choose_hugepages};
use crate::io::pci::{Bus, Dma, Fault, Lock, Locked, Locking};

/// What is amiss with a port's device.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("port {port:?}: {fault}")]
    Device { port: String, fault: Fault },
    #[error("port {port:?}: {locked}")]
    Locked { port: String, locked: Locked },
    #[error(transparent)]
    Memory(Fault),
    #[error(transparent)]
    Hugepages(Error),
}

impl Refusal {
    /// The port that it is about, if it is about one.
    pub fn port(&self) -> Option<&str> {
        match self {
            Refusal::Device { port, .. } | Refusal::Locked { port, .. } => Some(port),
            Refusal::Memory(_) | Refusal::Hugepages(_) => None,
        }
    }
}

/// What the machine says of a port's device, at the line that names it; or of itself.
pub fn at_device(
    loaded: (&Config, &[Diagnostic]),
    port: Option<&str>,
    severity: Severity,
    message: String,
) -> Diagnostic {
    let (config, devices) = loaded;
    let place = config
        .ports
        .iter()
        .zip(devices)
        .find(|(named, _)| Some(named.name.as_str()) == port);
    match place {
        Some((_, device)) => device.saying(severity, message),
        None => Diagnostic::default().saying(severity, message),
    }
}

/// Of each device the first port on it.
fn first_ports(config: &Config) -> impl Iterator<Item = &PortConfig> {
    let devices = config.devices();
    devices.into_iter().map(|ports| config.port(ports[0]))
}

/// The devices of a configuration's ports, as this machine has them.
#[derive(Debug)]
pub struct Preflight {
    /// How each device reaches memory.
    pub dma: Vec<Dma>,
    /// Whether DPDK's memory is to be in hugepages.
    pub hugepages: bool,
    pub refusals: Vec<Refusal>,
}

impl Preflight {
    pub fn new(config: &Config, bus: &Bus, locking: Locking) -> Preflight {
        let mut refusals = Vec::new();
        let mut look = |port: &PortConfig| {
            let addresses = pci_devices(&port.device)
                .into_iter()
                .filter_map(pci_address);
            let found = addresses.filter_map(|address| {
                bus.look(&address)
                    .map_err(|fault| {
                        refusals.push(Refusal::Device {
                            port: port.name.clone(),
                            fault,
                        });
                    })
                    .ok()
            });
            found.max().unwrap_or(Dma::Kernel)
        };
        let dma: Vec<_> = first_ports(config).map(&mut look).collect();
        let memory_mb = Memory::of(config).mb(true);
        let strictest = dma.iter().copied().max().unwrap_or(Dma::Kernel);
        let hugepages = choose_hugepages(config.dpdk.hugepages, memory_mb, strictest)
            .map_err(|error| refusals.push(Refusal::Hugepages(error)))
            .unwrap_or(false);
        if dma.contains(&Dma::Iommu)
            && let Err(fault) = locking.check(memory_mb + EAL_MEMORY_MB)
        {
            refusals.push(Refusal::Memory(fault));
        }
        Preflight {
            dma,
            hugepages,
            refusals,
        }
    }

    /// What is amiss apart from a weir that may run already, with the devices and the memory that the next one will have.
    pub fn lasting(self) -> impl Iterator<Item = Refusal> {
        let is_user = |refusal: &Refusal| {
            matches!(
                refusal,
                Refusal::Device {
                    fault: Fault::InUse { .. },
                    ..
                }
            )
        };
        let in_use = self.refusals.iter().any(is_user);
        self.refusals
            .into_iter()
            .filter(move |refusal| match refusal {
                Refusal::Hugepages(Error::PhysicalHugepages { .. }) => !in_use,
                // As many may be free when the running one has ended.
                Refusal::Hugepages(Error::TooFewHugepages { .. }) => false,
                refusal => !is_user(refusal),
            })
    }

    /// Takes the PCI devices for this process.
    ///
    /// # Errors
    /// One of each device that another weir has.
    pub fn lock(config: &Config) -> Result<Vec<Lock>, Vec<Refusal>> {
        let (mut locks, mut refusals) = (Vec::new(), Vec::new());
        for port in first_ports(config) {
            let devices = pci_devices(&port.device).into_iter();
            for address in devices.filter_map(pci_address) {
                match Lock::take(&address) {
                    Ok(lock) => locks.push(lock),
                    Err(locked) => refusals.push(Refusal::Locked {
                        port: port.name.clone(),
                        locked,
                    }),
                }
            }
        }
        match refusals.is_empty() {
            true => Ok(locks),
            false => Err(refusals),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::os::unix::fs::symlink;

    /// A machine whose devices have these drivers: 0000:01:00.0 the first, 0000:01:00.1 the second.
    fn machine(drivers: [&str; 2]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        make("sys/module/vfio_iommu_type1");
        for (function, driver) in drivers.iter().enumerate() {
            let device = make(&format!("sys/bus/pci/devices/0000:01:00.{function}"));
            std::fs::write(device.join("class"), "0x020000").unwrap();
            symlink(format!("x/{driver}"), device.join("driver")).unwrap();
            symlink(format!("x/{function}"), device.join("iommu_group")).unwrap();
        }
        root
    }

    #[test]
    fn every_port_is_looked_at_and_what_they_share_once() {
        /// The drivers, the second port's device, the limit in MB; a part of each refusal.
        type Case<'a> = ([&'a str; 2], &'a str, Option<u64>, &'a [&'a str]);
        const WAN: &str = r#"port "wan": 0000:01:00.0 belongs"#;
        const LAN: &str = r#"port "lan": 0000:01:00.1 belongs"#;
        let cases: [Case; 7] = [
            (["vfio-pci"; 2], "01:00.1", None, &[]),
            (["vfio-pci"; 2], "01:00.1", Some(8), &["RLIMIT_MEMLOCK"]),
            (["vfio-pci"; 2], "01:00.1", Some(4096), &[]),
            (["e1000e"; 2], "0000:01:00.1,x=1", Some(8), &[WAN, LAN]),
            (
                ["vfio-pci", "e1000e"],
                "01:00.1",
                Some(8),
                &[LAN, "RLIMIT_MEMLOCK"],
            ),
            (["vfio-pci", "e1000e"], "net_tap0", None, &[]),
            (
                ["vfio-pci", "e1000e"],
                "net_bonding0,mode=1,slave=01:00.1,slave=net_tap0",
                None,
                &[LAN],
            ),
        ];
        for (drivers, second, limit_mb, expected) in cases {
            let text = format!(
                "[dpdk]\nworkers = [0]\n[[port]]\nname = \"wan\"\ndevice = \"01:00.0\"\naddresses = \
                 [\"198.51.100.1/24\"]\n[[port]]\nname = \"lan\"\ndevice = \"{second}\"\naddresses = [\"10.0.0.1/24\"]"
            );
            let context = config::Context {
                cpus: None,
                devices: true,
            };
            let config = config::parse(&text, "test", &context).unwrap().config;
            let root = machine(drivers);
            let locking = Locking {
                limit: limit_mb.map(|mb| mb << 20),
            };
            let found = Preflight::new(&config, &Bus::at(root.path()), locking);
            let found: Vec<_> = found.refusals.iter().map(ToString::to_string).collect();
            assert_eq!(found.len(), expected.len(), "{second}: {found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.contains(expected), "{second}: {found}");
            }
        }
    }

    #[test]
    fn a_running_weir_is_nothing_that_is_amiss_with_a_file() {
        let device = |fault| Refusal::Device {
            port: "wan".to_owned(),
            fault,
        };
        let in_use = || {
            device(Fault::InUse {
                address: "0000:01:00.0".to_owned(),
                user: "weir (process 1)".to_owned(),
            })
        };
        let no_type1 = || {
            device(Fault::NoType1 {
                address: "0000:01:00.1".to_owned(),
            })
        };
        let hugepages = || {
            Refusal::Hugepages(Error::PhysicalHugepages {
                needed_mb: 2,
                free_mb: 0,
                pages: 1,
            })
        };
        let cases = [
            (vec![in_use(), hugepages()], 0),
            (vec![in_use(), no_type1()], 1),
            (vec![hugepages()], 1),
            (vec![no_type1(), hugepages()], 2),
        ];
        for (refusals, lasting) in cases {
            let name = format!("{refusals:?}");
            let preflight = Preflight {
                dma: vec![],
                hugepages: false,
                refusals,
            };
            assert_eq!(preflight.lasting().count(), lasting, "{name}");
        }
    }
}

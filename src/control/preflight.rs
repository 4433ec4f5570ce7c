//! What can be said of the ports' devices before any of them is touched: `weir check` warns of it, `weir run` refuses.

use super::machine::Memory;
use crate::config::{Config, pci_address, pci_devices};
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

/// The devices of a configuration's ports, as this machine has them.
#[derive(Debug)]
pub struct Preflight {
    /// How each port's device reaches memory.
    pub dma: Vec<Dma>,
    /// Whether DPDK's memory is to be in hugepages.
    pub hugepages: bool,
    pub refusals: Vec<Refusal>,
}

impl Preflight {
    pub fn new(config: &Config, bus: &Bus, locking: Locking) -> Preflight {
        let mut refusals = Vec::new();
        let mut look = |port: &crate::config::Port| {
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
        let dma: Vec<_> = config.ports.iter().map(&mut look).collect();
        let memory_mb = Memory::of(config).mb;
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

    /// Takes the PCI devices for this process.
    ///
    /// # Errors
    /// One of each device that another weir has.
    pub fn lock(config: &Config) -> Result<Vec<Lock>, Vec<Refusal>> {
        let (mut locks, mut refusals) = (Vec::new(), Vec::new());
        for port in &config.ports {
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

//! `weir setup`: what gives NICs to weir, step by step, and what takes it all back. Steps are data: what they do is told before it is done, and
//! done by [`Machine`], of which tests have one of their own.

mod first;
mod record;
#[cfg(test)]
mod tests;

pub use first::{Losses, first_file};
pub use record::{Record, Restored};

use crate::io::pci::Nic;
use record::{Changed, Device};
use std::collections::BTreeSet;
use std::path::Path;

/// What is written where, below the root of the machine. The record is in a folder of root's, not in the daemon's `/var/lib/weir`: taking
/// back writes files as root, wherever the record says.
pub const RECORD: &str = "etc/weir/setup.json";
const MODULES: &str = "etc/modules-load.d/weir.conf";
const SYSCTL: &str = "etc/sysctl.d/80-weir.conf";
const HUGEPAGES: &str = "proc/sys/vm/nr_hugepages";

/// Where driverctl keeps what it binds at each boot.
fn driverctls(address: &str) -> String {
    format!("etc/driverctl.d/pci-{address}")
}

/// What steps are done to.
pub trait Machine {
    /// The text of a file below the root; none where there is none.
    ///
    /// # Errors
    /// Why a file that is there cannot be read, in words; it may be no text.
    fn read(&self, path: &str) -> Result<Option<String>, String>;
    /// # Errors
    /// Why it cannot be written, in words.
    fn write(&mut self, path: &str, text: &str) -> Result<(), String>;
    /// As [`write`](Self::write), but a reader of the file finds the whole former text or the whole new one.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn replace(&mut self, path: &str, text: &str) -> Result<(), String>;
    /// # Errors
    /// As [`write`](Self::write).
    fn remove(&mut self, path: &str) -> Result<(), String>;
    /// # Errors
    /// What a command that failed has said.
    fn run(&mut self, words: &[&str]) -> Result<(), String>;
    /// The driver that has a PCI device now.
    fn driver(&self, address: &str) -> Option<String>;
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// A sentence.
    pub why: String,
    pub acts: Vec<Act>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A file of the kernel's gets this.
    Tell {
        path: String,
        text: String,
    },
    /// A file of ours is made.
    Make {
        path: String,
        text: String,
    },
    Remove {
        path: String,
    },
    /// So many hugepages are asked for; [`Record::granted`] comes next.
    Reserve(u64),
    /// This is the record from now on.
    Keep(Record),
    Run(Vec<String>),
    /// Fails unless the device has this driver now.
    Expect {
        address: String,
        driver: String,
    },
}

impl Act {
    fn run(words: &[&str]) -> Act {
        Act::Run(words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn tell(path: impl Into<String>, text: impl Into<String>) -> Act {
        Act::Tell {
            path: path.into(),
            text: text.into(),
        }
    }

    /// As a shell has it; none of what only looks.
    pub fn shown(&self) -> Option<String> {
        match self {
            Act::Tell { path, text } => Some(format!("echo {} >/{path}", text.trim_end())),
            Act::Make { path, text } => {
                let lines = text.lines().count();
                Some(format!("write /{path} ({lines} lines)"))
            }
            Act::Remove { path } => Some(format!("rm /{path}")),
            Act::Reserve(pages) => Some(format!("echo {pages} >/{HUGEPAGES}")),
            Act::Keep(record) => {
                let lines = record.text().unwrap_or_default().lines().count();
                Some(format!("write /{RECORD} ({lines} lines)"))
            }
            Act::Run(words) => Some(words.join(" ")),
            Act::Expect { .. } => None,
        }
    }

    /// # Errors
    /// Why it was not done.
    pub fn perform(&self, machine: &mut impl Machine) -> Result<(), String> {
        match self {
            Act::Tell { path, text } | Act::Make { path, text } => machine.write(path, text),
            Act::Remove { path } => machine.remove(path),
            Act::Reserve(pages) => machine.write(HUGEPAGES, &pages.to_string()),
            Act::Keep(record) => record.save(machine),
            Act::Run(words) => {
                let words: Vec<_> = words.iter().map(String::as_str).collect();
                machine.run(&words)
            }
            Act::Expect { address, driver } => match machine.driver(address) {
                Some(own) if own == *driver => Ok(()),
                Some(other) => Err(format!(
                    "{address} has the driver {other}, and not {driver}"
                )),
                None => Err(format!(
                    "{address} has no driver: {driver} does not take it"
                )),
            },
        }
    }
}

/// What the operator wants.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub nics: &'a [Nic],
    /// Memory in hugepages, in MB; 0: none is reserved.
    pub hugepages_mb: u64,
    /// The configuration file, below the root, and its text; none: there is one already.
    pub file: Option<(&'a str, &'a str)>,
    /// driverctl is there, which binds devices again at each boot.
    pub driverctl: bool,
}

/// Why a device is not given to weir.
pub fn refusal(nic: &Nic) -> Option<String> {
    let address = &nic.address;
    if nic.carries_ssh {
        return Some(format!(
            "{address} carries your SSH session: choose another one, or come in by another one"
        ));
    }
    if let Some(user) = &nic.user {
        return Some(format!("{address} is in use by {user}: stop that first"));
    }
    let driver = userspace_driver(nic);
    let others = nic.group.join(", ");
    (driver == "vfio-pci" && !others.is_empty()).then(|| {
        format!(
            "{address} shares its IOMMU group with {others}, and vfio-pci gives a group away as a whole: name it as well, or use another slot"
        )
    })
}

fn userspace_driver(nic: &Nic) -> &'static str {
    match nic.has_iommu {
        true => "vfio-pci",
        false => "uio_pci_generic",
    }
}

/// The steps, and what has to be known to take them back. `before`: what was recorded of steps before these.
///
/// # Errors
/// Why a device cannot be given to weir, or a file not be read.
pub fn steps(
    wanted: &Wanted,
    machine: &impl Machine,
    before: Record,
) -> Result<(Vec<Step>, Record), String> {
    let mut record = before;
    let mut steps = Vec::new();
    let to_bind = || {
        let nics = wanted.nics.iter();
        nics.filter(|nic| !nic.is_shared() && !nic.is_bound())
    };
    let chosen: Vec<_> = wanted.nics.iter().map(|nic| &nic.address).collect();
    for nic in to_bind() {
        let mut nic = nic.clone();
        // Those that go along are no hindrance.
        nic.group.retain(|other| !chosen.contains(&other));
        if let Some(why) = refusal(&nic) {
            return Err(why);
        }
    }
    let modules = to_bind().flat_map(|nic| match nic.has_iommu {
        // The second one is what maps memory; not every modprobe takes it along.
        true => &["vfio-pci", "vfio_iommu_type1"][..],
        false => &["uio_pci_generic"],
    });
    let modules: BTreeSet<_> = modules.copied().collect();
    if !modules.is_empty() {
        let load = modules.iter().map(|name| Act::run(&["modprobe", name]));
        let mut acts: Vec<_> = load.collect();
        let lines = modules.iter().map(|name| format!("{name}\n")).collect();
        acts.extend(record.make(machine, MODULES, lines)?);
        let names: Vec<_> = modules.into_iter().collect();
        steps.push(Step {
            why: format!("the kernel has {} now and at each boot", names.join(", ")),
            acts,
        });
    }
    steps.extend(hugepages(wanted, machine, &mut record)?);
    for nic in to_bind() {
        steps.push(bind(nic, wanted.driverctl, &mut record));
    }
    if let Some((path, text)) = wanted.file {
        steps.push(Step {
            why: format!(
                "a first configuration, with {} ports and no service yet",
                wanted.nics.len()
            ),
            acts: record
                .make(machine, path, text.to_owned())?
                .into_iter()
                .collect(),
        });
    }
    Ok((steps, record))
}

fn hugepages(
    wanted: &Wanted,
    machine: &impl Machine,
    record: &mut Record,
) -> Result<Option<Step>, String> {
    let size_kb = machine.read("proc/meminfo")?.and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Hugepagesize:"));
        line?
            .trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<u64>()
            .ok()
    });
    let pages = (wanted.hugepages_mb * 1024).div_ceil(size_kb.unwrap_or(2048).max(1));
    let Some(now) = pages_now(machine)?.filter(|now| *now < pages) else {
        return Ok(None);
    };
    record.reserve(now, pages);
    let mut acts = vec![Act::Reserve(pages)];
    acts.extend(record.make(machine, SYSCTL, format!("vm.nr_hugepages={pages}\n"))?);
    Ok(Some(Step {
        why: format!(
            "{} MB of memory in hugepages ({pages} pages, {now} before), now and at each boot",
            wanted.hugepages_mb
        ),
        acts,
    }))
}

/// How many hugepages there are; none: the kernel has no such thing.
fn pages_now(machine: &impl Machine) -> Result<Option<u64>, String> {
    let text = machine.read(HUGEPAGES)?;
    Ok(text.and_then(|text| text.trim().parse().ok()))
}

fn bind(nic: &Nic, driverctl: bool, record: &mut Record) -> Step {
    let (address, driver) = (&nic.address, userspace_driver(nic));
    let mut acts: Vec<_> = nic
        .up
        .iter()
        .map(|name| Act::run(&["ip", "link", "set", name, "down"]))
        .collect();
    match driverctl {
        true => acts.push(Act::run(&["driverctl", "set-override", address, driver])),
        false => acts.extend(rebind(address, nic.driver.as_deref(), driver)),
    }
    acts.push(Act::Expect {
        address: address.clone(),
        driver: driver.to_owned(),
    });
    record.device(Device {
        address: address.clone(),
        driver: nic.driver.clone(),
        interfaces: nic.interfaces.clone(),
        driverctl,
    });
    let lasting = match driverctl {
        true => "now and at each boot",
        false => "until the next boot, as driverctl is not installed",
    };
    let lost = match nic.interfaces.is_empty() {
        true => String::new(),
        false => format!(": the kernel has {} no longer", nic.interfaces.join(", ")),
    };
    Step {
        why: format!("{address} goes to {driver}, {lasting}{lost}"),
        acts,
    }
}

/// An empty line ends an override.
fn end_override(address: &str) -> Act {
    Act::tell(
        format!("sys/bus/pci/devices/{address}/driver_override"),
        "\n",
    )
}

/// What gives a device to another driver by the kernel's own files; an empty `to`: to that which takes it by itself.
fn rebind(address: &str, from: Option<&str>, to: &str) -> Vec<Act> {
    let device = format!("sys/bus/pci/devices/{address}");
    let unbind =
        from.map(|driver| Act::tell(format!("sys/bus/pci/drivers/{driver}/unbind"), address));
    let first = Act::tell(format!("{device}/driver_override"), format!("{to}\n"));
    let last = Act::tell("sys/bus/pci/drivers_probe", address);
    std::iter::once(first).chain(unbind).chain([last]).collect()
}

/// The steps that take back what a record has.
///
/// # Errors
/// A device is in use, or a file cannot be read.
pub fn undo(
    record: &Record,
    nics: &[Nic],
    machine: &impl Machine,
) -> Result<(Vec<Step>, Vec<Restored>), String> {
    let (mut steps, mut restored) = (Vec::new(), Vec::new());
    let mut left = Record::default();
    for device in &record.devices {
        let Some(nic) = nics.iter().find(|nic| nic.address == device.address) else {
            restored.push(Restored::Absent(device.address.clone()));
            left.devices.push(device.clone());
            continue;
        };
        if nic.driver == device.driver {
            steps.extend(forget(device, machine)?);
            continue;
        }
        steps.push(give_back(device, nic, machine)?);
        let interfaces = device.interfaces.iter().cloned();
        restored.extend(interfaces.map(Restored::Interface));
    }
    if let (Some(pages), Some(now)) = (record.hugepages, pages_now(machine)?)
        && pages != now
    {
        match record.reserved.contains(&now) {
            true => steps.push(Step {
                why: format!("{pages} hugepages, as before"),
                acts: vec![Act::tell(HUGEPAGES, pages.to_string())],
            }),
            false => restored.push(Restored::Hugepages(now)),
        }
    }
    for file in &record.files {
        let (act, what) = file.back(machine)?;
        restored.push(what);
        if let Some(act) = act {
            steps.push(Step {
                why: match file.former {
                    Some(_) => format!("/{} has its former text", file.path),
                    None => format!("/{} goes", file.path),
                },
                acts: vec![act],
            });
        }
    }
    steps.push(match left == Record::default() {
        true => Step {
            why: "nothing is left to take back".to_owned(),
            acts: vec![Act::Remove {
                path: RECORD.to_owned(),
            }],
        },
        false => Step {
            why: "what is not there now stays in the record".to_owned(),
            acts: vec![Act::Keep(left)],
        },
    });
    Ok((steps, restored))
}

/// Ends the override of a device that has its former driver already: it stays with that, which may be what it is reached by. driverctl
/// would take it away first.
fn forget(device: &Device, machine: &impl Machine) -> Result<Option<Step>, String> {
    let address = &device.address;
    let path = driverctls(address);
    let mut acts = Vec::new();
    if device.driverctl {
        if machine.read(&path)?.is_none() {
            return Ok(None);
        }
        acts.push(Act::Remove { path });
    }
    acts.push(end_override(address));
    let former = device.driver.as_deref().unwrap_or("no driver");
    Ok(Some(Step {
        why: format!("{address} has {former} already: only its override ends"),
        acts,
    }))
}

/// Gives a device back to its former driver.
fn give_back(device: &Device, nic: &Nic, machine: &impl Machine) -> Result<Step, String> {
    let address = &device.address;
    if let Some(user) = &nic.user {
        return Err(format!("{address} is in use by {user}: stop that first"));
    }
    if nic.carries_ssh {
        return Err(format!(
            "{address} carries your SSH session, and would be taken away for a moment: come in by another one"
        ));
    }
    let mut acts = match device.driverctl && machine.read(&driverctls(address))?.is_some() {
        true => vec![Act::run(&["driverctl", "unset-override", address])],
        false => rebind(address, nic.driver.as_deref(), ""),
    };
    if let Some(driver) = &device.driver {
        acts.push(Act::Expect {
            address: address.clone(),
            driver: driver.clone(),
        });
    }
    let former = device.driver.as_deref().unwrap_or("no driver");
    Ok(Step {
        why: format!("{address} goes back to {former}"),
        acts,
    })
}

/// Whether a configuration file says nothing yet: the package's own has comments only.
pub fn says_nothing(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    lines.all(|line| line.is_empty() || line.starts_with('#'))
}

/// A path below the root, as it is kept here.
pub fn below_root(path: &Path) -> String {
    let path = path.to_string_lossy();
    path.trim_start_matches('/').to_owned()
}

impl Record {
    /// What makes a file; the former text is remembered. None: it has this text already.
    fn make(
        &mut self,
        machine: &impl Machine,
        path: &str,
        text: String,
    ) -> Result<Option<Act>, String> {
        let now = machine.read(path)?;
        if now.as_deref() == Some(&text) {
            return Ok(None);
        }
        match self.files.iter_mut().find(|file| file.path == path) {
            Some(file) => {
                // Somebody has changed it since the last time: `--undo` restores that text.
                if now.as_ref() != Some(&file.written) {
                    file.former = now;
                }
                file.written.clone_from(&text);
            }
            None => self.files.push(Changed {
                path: path.to_owned(),
                former: now,
                written: text.clone(),
            }),
        }
        Ok(Some(Act::Make {
            path: path.to_owned(),
            text,
        }))
    }
}

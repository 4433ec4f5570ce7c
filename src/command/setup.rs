//! `weir setup`: gives NICs to weir, and takes them back.

use super::output::{say, tell};
use crate::io::pci::{Bus, Nic};
use crate::setup::{
    Act, Losses, Machine, RECORD, Record, Restored, Step, Wanted, below_root, first_file, refusal,
    says_nothing, steps, undo,
};
use ipnet::IpNet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Give network cards to weir: drivers, hugepages and a first configuration; --undo takes it all back
///
/// Without DEVICE it lists the network cards, and what the kernel would lose with each. What is done is told step by step, and
/// recorded in /etc/weir/setup.json.
#[derive(Debug, clap::Args)]
pub struct Setup {
    /// The PCI addresses of the cards, such as 0000:03:00.0
    #[arg(value_name = "DEVICE")]
    devices: Vec<String>,
    /// How much memory in hugepages is reserved; 0: none
    #[arg(long, value_name = "MB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(..=1 << 22))]
    hugepages: u32,
    /// Where a first configuration is written, if none is there
    #[arg(long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
    config: PathBuf,
    /// Also take a card that has the machine's default route: perhaps the way by which you came in (sudo hides an SSH session)
    #[arg(long)]
    with_default_route: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Take back what weir setup has done
    #[arg(long, conflicts_with = "devices")]
    undo: bool,
}

impl Setup {
    /// 0 if it is done, or listed.
    pub fn run(&self) -> ExitCode {
        let done = match (self.undo, self.devices.is_empty()) {
            (true, _) => self.take_back(),
            (false, true) => list(&Bus::here()),
            (false, false) => self.give(),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => super::fail(why),
        }
    }

    fn give(&self) -> Result<(), String> {
        let bus = Bus::here();
        let all = bus.nics();
        let mut chosen: Vec<Nic> = Vec::new();
        for device in &self.devices {
            let nic = find(&all, device)?;
            if !chosen.contains(nic) {
                chosen.push(nic.clone());
            }
        }
        let mut machine = Here;
        let losses = losses(&machine, &bus)?;
        let routed = chosen
            .iter()
            .find(|nic| losses.has_gateway(nic) && !nic.is_shared() && !nic.is_bound());
        if let Some(nic) = routed.filter(|_| !self.with_default_route) {
            return Err(format!(
                "{} has the machine's default route, perhaps your own way here: --with-default-route takes it nevertheless",
                nic.address
            ));
        }
        let path = std::path::absolute(&self.config).map_err(|why| why.to_string())?;
        let path = below_root(&path);
        let text = first_file(&chosen, &losses);
        let is_free = machine.read(&path)?.is_none_or(|text| says_nothing(&text));
        let wanted = Wanted {
            nics: &chosen,
            hugepages_mb: self.hugepages.into(),
            file: is_free.then_some((path.as_str(), text.as_str())),
            driverctl: has_driverctl(),
        };
        for nic in &chosen {
            for lost in losses.of(nic) {
                say(format_args!("{} loses {lost}", nic.address));
            }
            if nic.is_shared() {
                say(format_args!(
                    "{} stays with the kernel's driver, which DPDK shares it with",
                    nic.address
                ));
            }
        }
        let (steps, mut record) = steps(&wanted, &machine, recorded(&machine)?)?;
        self.perform(&steps, Some(&mut record), &mut machine)?;
        if !is_free {
            say(format_args!(
                "/{path} is there and stays as it is: its [[port]]s name the devices"
            ));
        }
        if !self.dry_run {
            say(format_args!(
                "next: services into /{path}, weir check /{path}, systemctl enable --now weir"
            ));
        }
        Ok(())
    }

    fn take_back(&self) -> Result<(), String> {
        let mut machine = Here;
        let record = recorded(&machine)?;
        if record == Record::default() {
            return Err(format!("/{RECORD} has nothing to take back"));
        }
        let (steps, restored) = undo(&record, &Bus::here().nics(), &machine)?;
        self.perform(&steps, None, &mut machine)?;
        for what in restored {
            self.tell_restored(&what);
        }
        Ok(())
    }

    fn tell_restored(&self, what: &Restored) {
        match what {
            Restored::Back(_) => {}
            Restored::Kept(path) => say(format_args!("/{path} was changed since, and stays")),
            Restored::Gone(path) => say(format_args!(
                "/{path} was removed since, and is not written again"
            )),
            Restored::Hugepages(pages) => say(format_args!(
                "the number of hugepages was changed since: {pages} stay"
            )),
            Restored::Absent(address) => say(format_args!(
                "{address} is not there now, and stays in /{RECORD}"
            )),
            Restored::Interface(_) if self.dry_run => {}
            Restored::Interface(name) => say(format_args!(
                "{name} is the kernel's again; its addresses come from the machine's own configuration of networks"
            )),
        }
    }

    /// Says each step, and does it unless only that is asked for. `record`: written before the first one.
    fn perform(
        &self,
        steps: &[Step],
        mut record: Option<&mut Record>,
        machine: &mut Here,
    ) -> Result<(), String> {
        if steps.is_empty() {
            say("nothing is to be done");
            return Ok(());
        }
        if !self.dry_run {
            if !rustix::process::geteuid().is_root() {
                return Err("this takes root; --dry-run does not".to_owned());
            }
            if let Some(record) = &record {
                record.save(machine)?;
            }
        }
        for (number, step) in (1..).zip(steps) {
            say(format_args!("{number}. {}", step.why));
            for act in &step.acts {
                if self.dry_run {
                    if let Some(shown) = act.shown() {
                        say(format_args!("   {shown}"));
                    }
                    continue;
                }
                let failed = |why| match self.undo {
                    true => format!("step {number}: {why}"),
                    false => format!(
                        "step {number}: {why}; `weir setup --undo` takes back what was done"
                    ),
                };
                act.perform(machine).map_err(failed)?;
                if let (Act::Reserve(pages), Some(record)) = (act, record.as_deref_mut())
                    && let Some(fewer) = record.granted(machine, *pages).map_err(failed)?
                {
                    say(format_args!("   {fewer}"));
                }
            }
        }
        Ok(())
    }
}

/// This machine.
struct Here;

fn whole(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

impl Machine for Here {
    fn read(&self, path: &str) -> Result<Option<String>, String> {
        read(&whole(path))
    }

    fn write(&mut self, path: &str, text: &str) -> Result<(), String> {
        let path = whole(path);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = made.and_then(|()| fs::write(&path, text));
        written.map_err(|why| format!("{}: cannot be written: {why}", path.display()))
    }

    fn replace(&mut self, path: &str, text: &str) -> Result<(), String> {
        replace(&whole(path), text)
    }

    fn remove(&mut self, path: &str) -> Result<(), String> {
        let path = whole(path);
        fs::remove_file(&path)
            .map_err(|why| format!("{}: cannot be removed: {why}", path.display()))
    }

    fn run(&mut self, words: &[&str]) -> Result<(), String> {
        let Some((program, arguments)) = words.split_first() else {
            return Ok(());
        };
        let shown = words.join(" ");
        let output = Command::new(program).args(arguments).output();
        let output = output.map_err(|why| format!("`{shown}`: {why}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("`{shown}`: {}: {}", output.status, said.trim())),
        }
    }

    fn driver(&self, address: &str) -> Option<String> {
        let link = fs::read_link(format!("/sys/bus/pci/devices/{address}/driver")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(format!("{}: cannot be read: {why}", path.display())),
    }
}

fn replace(path: &Path, text: &str) -> Result<(), String> {
    let new = path.with_extension("new");
    let write = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|why| format!("{}: cannot be written: {why}", path.display()))
}

fn recorded(machine: &Here) -> Result<Record, String> {
    let text = machine.read(RECORD)?;
    let record = text.map(|text| serde_json::from_str(&text));
    let record = record
        .transpose()
        .map_err(|why| format!("/{RECORD}: {why}"))?;
    Ok(record.unwrap_or_default())
}

fn find<'a>(all: &'a [Nic], device: &str) -> Result<&'a Nic, String> {
    let address = crate::config::pci_address(device);
    let found = all
        .iter()
        .find(|nic| address.as_deref() == Some(nic.address.as_str()));
    found.ok_or_else(|| {
        let known: Vec<_> = all.iter().map(|nic| nic.address.as_str()).collect();
        match known.is_empty() {
            true => format!("{device}: this machine has no network device on the PCI bus"),
            false => format!(
                "{device} is no network device of this machine: there is {}",
                known.join(", ")
            ),
        }
    })
}

fn has_driverctl() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("driverctl").is_file())
}

fn losses(machine: &Here, bus: &Bus) -> Result<Losses, String> {
    let mut losses = Losses::default();
    for interface in if_addrs::get_if_addrs().unwrap_or_default() {
        let bits = match &interface.addr {
            if_addrs::IfAddr::V4(it) => it.netmask.to_bits().leading_ones(),
            if_addrs::IfAddr::V6(it) => it.netmask.to_bits().leading_ones(),
        };
        let net = IpNet::new(interface.ip(), bits as u8).ok();
        let net = net.filter(|net| !is_link_local(net.addr()));
        losses
            .addresses
            .extend(net.map(|net| (interface.name.clone(), net)));
    }
    losses.read_gateways(&machine.read("proc/net/route")?.unwrap_or_default());
    losses.read_gateways6(&machine.read("proc/net/ipv6_route")?.unwrap_or_default());
    losses.look_below(bus);
    Ok(losses)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The network devices, and what the kernel would lose with each.
fn list(bus: &Bus) -> Result<(), String> {
    let nics = bus.nics();
    if nics.is_empty() {
        tell(
            "this machine has no network device on the PCI bus; weir forwards by others too, see docs/getting-started.md",
        );
        return Ok(());
    }
    let losses = losses(&Here, bus)?;
    for nic in &nics {
        let driver = nic.driver.as_deref().unwrap_or("no driver");
        let interfaces = match nic.interfaces.is_empty() {
            true => String::new(),
            false => format!(" as {}", nic.interfaces.join(", ")),
        };
        say(format_args!("{} {driver}{interfaces}", nic.address));
        let verdict = match refusal(nic) {
            Some(why) => format!("not for weir: {why}"),
            None if nic.is_shared() => "weir can have it, beside the kernel".to_owned(),
            None if nic.is_bound() => "weir can have it, nothing is to be done".to_owned(),
            None => format!("weir can have it: weir setup {}", nic.address),
        };
        say(format_args!("    {verdict}"));
        for lost in losses.of(nic).into_iter().filter(|_| !nic.is_shared()) {
            say(format_args!("    it would lose {lost}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{read, replace};
    use std::fs;

    #[test]
    fn only_a_file_that_is_not_there_counts_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(read(&path), Ok(None));
        fs::write(&path, "text\n").unwrap();
        assert_eq!(read(&path), Ok(Some("text\n".to_owned())));
        fs::write(&path, b"caf\xe9").unwrap();
        assert!(read(&path).unwrap_err().contains("cannot be read"));
        assert!(read(folder.path()).is_err());
    }

    #[test]
    fn a_record_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir/setup.json");
        replace(&path, "first, and longer\n").unwrap();
        let first = fs::File::open(&path).unwrap();
        replace(&path, "second\n").unwrap();
        // Who has the former one open still reads that.
        assert_eq!(
            std::io::read_to_string(first).unwrap(),
            "first, and longer\n"
        );
        assert_eq!(read(&path), Ok(Some("second\n".to_owned())));
        let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1);
    }
}

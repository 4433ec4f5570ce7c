//! What `weir setup` has changed, and how it was before: JSON in [`RECORD`].

use super::{Act, HUGEPAGES, Machine, RECORD};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub devices: Vec<Device>,
    /// How many hugepages there were.
    pub hugepages: Option<u64>,
    /// The numbers of them that are weir's doing: what it asked for, and what was granted.
    #[serde(default)]
    pub reserved: Vec<u64>,
    pub files: Vec<Changed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub address: String,
    /// The driver that it had.
    pub driver: Option<String>,
    pub interfaces: Vec<String>,
    /// driverctl has bound it.
    pub driverctl: bool,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Below the root.
    pub path: String,
    /// None: there was no such file.
    pub former: Option<String>,
    pub written: String,
}

/// What becomes of what was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// A file is as it was.
    Back(String),
    /// A file was changed since, and stays.
    Kept(String),
    /// A file was removed since, and is not made again.
    Gone(String),
    /// There are this many hugepages, which is not weir's doing: they stay.
    Hugepages(u64),
    /// The kernel has this interface again.
    Interface(String),
    /// There is no such device now: it stays in the record.
    Absent(String),
}

impl Record {
    /// Remembers how a device was, unless that is known of an earlier time.
    pub(super) fn device(&mut self, device: Device) {
        let mut known = self.devices.iter_mut();
        match known.find(|it| it.address == device.address) {
            Some(known) => known.driverctl |= device.driverctl,
            None => self.devices.push(device),
        }
    }

    /// Remembers that so many hugepages are asked for where there are `now`.
    pub(super) fn reserve(&mut self, now: u64, pages: u64) {
        // A number that someone else has written since is what there was.
        if self.hugepages.is_none() || !self.reserved.contains(&now) {
            self.hugepages = Some(now);
            self.reserved.clear();
        }
        self.reserved.push(pages);
    }

    /// After [`Act::Reserve`]: remembers how many the kernel has granted; fewer than asked for are told.
    ///
    /// # Errors
    /// The number cannot be read, or the record not written.
    pub fn granted(
        &mut self,
        machine: &mut impl Machine,
        asked: u64,
    ) -> Result<Option<String>, String> {
        let granted = machine.read(HUGEPAGES)?.unwrap_or_default();
        let granted: u64 = granted
            .trim()
            .parse()
            .map_err(|why| format!("/{HUGEPAGES}: {why}"))?;
        if granted == asked {
            return Ok(None);
        }
        self.reserved.push(granted);
        self.save(machine)?;
        Ok((granted < asked).then(|| {
            format!(
                "the kernel has granted {granted} hugepages of {asked}, for want of free memory in whole pieces: a reboot may give all of them"
            )
        }))
    }

    pub(super) fn text(&self) -> Result<String, String> {
        let text = serde_json::to_string_pretty(self).map_err(|why| why.to_string())?;
        Ok(text + "\n")
    }

    /// # Errors
    /// Why it cannot be written.
    pub fn save(&self, machine: &mut impl Machine) -> Result<(), String> {
        machine.replace(RECORD, &self.text()?)
    }
}

impl Changed {
    /// What takes it back.
    ///
    /// # Errors
    /// The file is there, and cannot be read.
    pub(super) fn back(&self, machine: &impl Machine) -> Result<(Option<Act>, Restored), String> {
        let path = self.path.clone();
        let now = machine.read(&path)?;
        if now == self.former {
            return Ok((None, Restored::Back(path)));
        }
        match now {
            None => return Ok((None, Restored::Gone(path))),
            Some(text) if text != self.written => return Ok((None, Restored::Kept(path))),
            Some(_) => {}
        }
        let act = match &self.former {
            Some(text) => Act::Make {
                path: path.clone(),
                text: text.clone(),
            },
            None => Act::Remove { path: path.clone() },
        };
        Ok((Some(act), Restored::Back(path)))
    }
}

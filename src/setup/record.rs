//! What `weir setup` has changed, and how it was before: JSON in [`RECORD`](super::RECORD).

use super::{Act, Machine};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub devices: Vec<Device>,
    /// How many hugepages there were.
    pub hugepages: Option<u64>,
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

/// What becomes of a file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    Back(String),
    /// It was changed since, and stays.
    Kept(String),
}

impl Record {
    /// Remembers how a device was, unless that is known of an earlier time.
    pub(super) fn device(&mut self, device: Device) {
        if !self.devices.iter().any(|it| it.address == device.address) {
            self.devices.push(device);
        }
    }
}

impl Changed {
    /// What takes it back.
    pub(super) fn back(&self, machine: &impl Machine) -> (Option<Act>, Restored) {
        let path = self.path.clone();
        if machine.read(&path).as_deref() != Some(&self.written) {
            return (None, Restored::Kept(path));
        }
        let act = match &self.former {
            Some(text) => Act::Make {
                path: path.clone(),
                text: text.clone(),
            },
            None => Act::Remove { path: path.clone() },
        };
        (Some(act), Restored::Back(path))
    }
}

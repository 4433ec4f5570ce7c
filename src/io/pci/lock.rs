//! One weir a device. uio lets any number of processes have a device, and the last one that comes breaks it for the others.

use super::text;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Holds a device, until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    _files: Vec<File>,
}

/// Another weir has the device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is in use by another weir{}: stop that first", .process.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
pub struct Locked {
    address: String,
    process: Option<u32>,
}

impl Lock {
    /// Takes the device at this address, if there is one.
    ///
    /// # Errors
    /// If another process has it.
    pub fn take(address: &str) -> Result<Lock, Locked> {
        Self::take_in(Path::new("/"), address)
    }

    /// `root`: where `sys` and `run` are. Two locks, as neither is seen from everywhere: a network namespace has a `sys` of
    /// its own, a container a `run`. Where one of them cannot be taken for another reason, the other has to do.
    pub(super) fn take_in(root: &Path, address: &str) -> Result<Lock, Locked> {
        let device = root.join("sys/bus/pci/devices").join(address);
        if !device.exists() {
            return Ok(Lock { _files: vec![] });
        }
        let path = root.join("run/lock").join(format!("weir-{address}.lock"));
        // Not made if it is there: fs.protected_regular refuses that for the file of another user.
        let file = File::options().read(true).write(true).open(&path);
        let file = file.or_else(|_| File::open(&path));
        let file = file.or_else(|_| {
            File::options()
                .read(true)
                .append(true)
                .create(true)
                .open(&path)
        });
        let device = File::open(device);
        let mut files = Vec::new();
        for file in [file, device].into_iter().flatten() {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => files.push(file),
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(Locked {
                        address: address.to_owned(),
                        process: text(&path).parse().ok(),
                    });
                }
                Err(_) => {}
            }
        }
        if let Some(file) = files.first_mut() {
            // Only for the message of a weir that comes second.
            let _ = file.set_len(0);
            let _ = write!(file, "{}", std::process::id());
        }
        Ok(Lock { _files: files })
    }
}

//! Small files that the configuration names: read without waiting for anyone, and never more of them than is sensible.

use rustix::fs::{Mode, OFlags};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

/// The contents of a regular file of at most `most` bytes, and what the kernel says of the file.
///
/// A FIFO or a device in its place is refused at once: it is opened without waiting, and asked what it is before it is read.
///
/// # Errors
/// If it cannot be read, is no regular file, or has more bytes.
pub(crate) fn read_file(path: &Path, most: u64) -> io::Result<(Vec<u8>, Metadata)> {
    let (file, about) = open_file(path)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 <= most {
        true => Ok((bytes, about)),
        false => Err(io::Error::other(format!("it has more than {most} bytes"))),
    }
}

/// Opens a regular file, whose reading waits for no one, with what the kernel says of it.
///
/// # Errors
/// If it cannot be opened, is no regular file, or is made up by the kernel as it is read: such a one may never end.
pub(super) fn open_file(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    // The numbers of file systems have 32 bits, in a field whose type differs between machines.
    let kind = rustix::fs::fstatfs(&file)?.f_type as u32;
    match MADE_UP.iter().find(|(magic, _)| *magic == kind) {
        Some((_, name)) => Err(io::Error::other(format!(
            "it is of {name}: the kernel makes it up"
        ))),
        None => Ok((file, about)),
    }
}

/// File systems whose files the kernel makes up, such as logs that wait for their next line: linux/magic.h.
const MADE_UP: [(u32, &str); 10] = [
    (0x0000_9fa0, "procfs"),
    (0x6265_6572, "sysfs"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0xf97c_ff8c, "selinuxfs"),
    (0x0027_e0eb, "cgroupfs"),
    (0x6367_7270, "cgroupfs"),
    (0xcafe_4a11, "bpffs"),
    (0x6265_6570, "configfs"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_is_read_and_nothing_waits_for_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_file(&path, 5).unwrap().0, b"12345");
        let why = |path: &Path, most| read_file(path, most).unwrap_err().to_string();
        assert_eq!(why(&path, 4), "it has more than 4 bytes");
        let fifo = folder.path().join("fifo");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for special in [&fifo, Path::new("/dev/zero"), folder.path()] {
            assert_eq!(why(special, 5), "it is no regular file", "{special:?}");
        }
        for made_up in [
            "/proc/kmsg",
            "/proc/self/environ",
            "/sys/kernel/mm/transparent_hugepage/enabled",
        ] {
            // Not every machine has each, or lets it be opened.
            if File::open(made_up).is_ok() {
                let why = why(Path::new(made_up), 1 << 20);
                assert!(why.ends_with("the kernel makes it up"), "{made_up}: {why}");
            }
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(read_file(&link, 5).unwrap().0, b"12345");
    }
}

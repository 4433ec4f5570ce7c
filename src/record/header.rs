//! The beginning of the file: what is where, and what times mean.

use super::VERSION;
use super::kept::Unread;
use super::name::Name;
use crate::arch::HUGE_PAGE;

/// "WEIRKEPT", as a number of this machine's order of bytes.
const MAGIC: u64 = u64::from_le_bytes(*b"WEIRKEPT");

/// One table of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    pub worker: u32,
    /// Which of its tables: IPv4, IPv6, connections of both families.
    pub table: u32,
    /// The bytes of an entry.
    pub size: u32,
    pub entries: u64,
    /// Where the entries begin in the file.
    pub at: u64,
    /// And a number for each entry, of what its real server was told.
    pub told_at: u64,
}

/// All but the entries and names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Of the boot of the machine: clocks of another one say nothing.
    pub boot: [u8; 16],
    /// The machine's clock (`CLOCK_BOOTTIME`) when the dataplane's began at 0, in nanoseconds.
    pub origin: u64,
    /// The dataplane's clock when the control thread last lived, in nanoseconds.
    pub alive: u64,
    /// The hash key by which devices spread packets over the workers.
    pub key: [u8; 40],
    pub workers: u32,
    /// Names that there is room for.
    pub names: u64,
    /// Names from this one on were never written.
    pub names_used: u64,
    pub sections: Vec<Section>,
}

/// Where [`Header::alive`] and [`Header::names_used`] are.
pub(super) const ORIGIN: usize = 32;
pub(super) const ALIVE: usize = 40;
pub(super) const NAMES_USED: usize = 104;
/// Where the sections begin.
const SECTIONS: usize = 128;
const SECTION: usize = 40;
/// The most sections.
const MOST: usize = 3 * 256;

impl Header {
    /// The room for it. Behind it are the names.
    pub const BYTES: usize = 64 << 10;

    /// The bytes of header and names, up to where the first table may begin.
    pub(super) fn head(names: u64) -> u64 {
        (Self::BYTES as u64 + names * Name::BYTES as u64).next_multiple_of(HUGE_PAGE as u64)
    }

    /// As it is in the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; Self::BYTES];
        self.write(&mut bytes);
        bytes
    }

    pub(super) fn write(&self, into: &mut [u8]) {
        let mut put = |at: usize, bytes: &[u8]| into[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC.to_ne_bytes());
        put(8, &VERSION.to_ne_bytes());
        put(12, &self.workers.to_ne_bytes());
        put(16, &self.boot);
        put(ORIGIN, &self.origin.to_ne_bytes());
        put(ALIVE, &self.alive.to_ne_bytes());
        put(48, &self.key);
        put(88, &(self.sections.len() as u64).to_ne_bytes());
        put(96, &self.names.to_ne_bytes());
        put(NAMES_USED, &self.names_used.to_ne_bytes());
        for (n, section) in self.sections.iter().enumerate() {
            let at = SECTIONS + n * SECTION;
            put(at, &section.worker.to_ne_bytes());
            put(at + 4, &section.table.to_ne_bytes());
            put(at + 8, &section.size.to_ne_bytes());
            put(at + 16, &section.entries.to_ne_bytes());
            put(at + 24, &section.at.to_ne_bytes());
            put(at + 32, &section.told_at.to_ne_bytes());
        }
    }

    /// `length`: the bytes of the whole file, beyond which nothing of it may be.
    ///
    /// # Errors
    /// If they are none of this version's.
    pub fn from_bytes(bytes: &[u8], length: u64) -> Result<Header, Unread> {
        let word = |at: usize| -> Result<u64, Unread> {
            let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
            Ok(u64::from_ne_bytes(*bytes.ok_or(Unread::Damaged)?))
        };
        let half = |at: usize| -> Result<u32, Unread> {
            let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
            Ok(u32::from_ne_bytes(*bytes.ok_or(Unread::Damaged)?))
        };
        if word(0)? != MAGIC {
            return Err(Unread::Foreign);
        }
        let version = half(8)?;
        if version != VERSION {
            return Err(Unread::Version(version));
        }
        let mut header = Header {
            boot: *(bytes.get(16..).and_then(<[u8]>::first_chunk)).ok_or(Unread::Damaged)?,
            origin: word(ORIGIN)?,
            alive: word(ALIVE)?,
            key: *(bytes.get(48..).and_then(<[u8]>::first_chunk)).ok_or(Unread::Damaged)?,
            workers: half(12)?,
            names: word(96)?,
            names_used: word(NAMES_USED)?,
            sections: Vec::new(),
        };
        let is_within = |at: u64, each: u64, count: u64| {
            let end = each.checked_mul(count).and_then(|all| at.checked_add(all));
            end.is_some_and(|end| end <= length)
        };
        let sections = word(88)?;
        if sections > MOST as u64
            || header.names_used > header.names
            || !is_within(Self::BYTES as u64, Name::BYTES as u64, header.names)
        {
            return Err(Unread::Damaged);
        }
        for n in 0..sections as usize {
            let at = SECTIONS + n * SECTION;
            let section = Section {
                worker: half(at)?,
                table: half(at + 4)?,
                size: half(at + 8)?,
                entries: word(at + 16)?,
                at: word(at + 24)?,
                told_at: word(at + 32)?,
            };
            if !is_within(section.at, section.size.into(), section.entries)
                || !is_within(section.told_at, 8, section.entries)
                || section.entries > u64::from(u32::MAX)
            {
                return Err(Unread::Damaged);
            }
            header.sections.push(section);
        }
        Ok(header)
    }
}

//! Reads what a former process has left.

use super::header::{Header, Section};
use super::name::Name;
use crate::conn::{Connection, Key, Told};
use crate::units::{Millis, RealId, Time};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that can be read from any place on.
pub trait Source: Send + Sync {
    /// How many there are.
    ///
    /// # Errors
    /// Those of the file.
    fn length(&self) -> io::Result<u64>;

    /// Reads as many as `into` has.
    ///
    /// # Errors
    /// Those of the file; where it ends before.
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()>;
}

impl Source for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(into, at)
    }
}

impl Source for Vec<u8> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..));
        let from = from.and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("weir has not written it")]
    Foreign,
    #[error("its layout is version {0}, and this weir reads {version}", version = super::VERSION)]
    Version(u32),
    #[error("its header is damaged")]
    Damaged,
    #[error("it is from before the machine was started")]
    OtherBoot,
    #[error("weir has been away for longer than any timeout")]
    TooOld,
}

/// Why a connection is not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Its entry was being written when weir ended, or is damaged.
    Torn,
    /// Its service or real server is not configured, or is another one.
    Unknown,
}

/// A connection of a former process.
#[derive(Clone, Copy, Debug)]
pub struct Record<K> {
    /// Its ids are those of the former process, and its times are on the former clock.
    pub connection: Connection<K>,
    pub name: Name,
    /// The id that its real server, or its rule, has now.
    pub real: RealId,
    pub told: Told,
}

/// The connections of a former process.
pub struct Kept {
    source: Box<dyn Source>,
    header: Header,
    /// By the ids of the former process.
    names: Vec<Option<(Name, Option<RealId>)>>,
}

/// Entries that are read at a time.
const TOGETHER: u64 = 512;

impl Kept {
    /// Reads all but the entries.
    ///
    /// # Errors
    /// If the bytes are none of this version's.
    pub fn open(source: Box<dyn Source>) -> Result<Kept, Unread> {
        let length = source.length()?;
        let mut head = vec![0; Header::BYTES.min(usize::try_from(length).unwrap_or(usize::MAX))];
        source.read(0, &mut head)?;
        let header = Header::from_bytes(&head, length)?;
        let mut names = Vec::new();
        let mut bytes = vec![0; Name::BYTES * TOGETHER as usize];
        while (names.len() as u64) < header.names_used {
            let count = TOGETHER.min(header.names_used - names.len() as u64) as usize;
            let at = (Header::BYTES + names.len() * Name::BYTES) as u64;
            source.read(at, &mut bytes[..count * Name::BYTES])?;
            let (chunks, _) = bytes.as_chunks::<{ Name::BYTES }>();
            let read = chunks[..count].iter().map(Name::from_bytes);
            names.extend(read.map(|name| name.map(|name| (name, None))));
        }
        Ok(Kept {
            source,
            header,
            names,
        })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Says which id each real server, and each rule, has now, if it is configured.
    pub fn resolve(&mut self, id: impl Fn(&Name) -> Option<RealId>) {
        for (name, now) in self.names.iter_mut().flatten() {
            *now = id(name);
        }
    }

    /// What is added to times of the former clock. `origin`: see [`Header::origin`], of this process.
    pub fn later(&self, origin: u64) -> u32 {
        let millis = |nanos: u64| nanos / 1_000_000;
        millis(self.header.origin).wrapping_sub(millis(origin)) as u32
    }

    /// How long nothing was forwarded, at most. `now`: the machine's clock.
    pub fn away(&self, now: u64) -> std::time::Duration {
        let alive = self.header.origin.saturating_add(self.header.alive);
        Time::from_nanos(now).since(Time::from_nanos(alive))
    }

    /// Whether its times mean something, in a boot and at a time of the machine's clock.
    ///
    /// # Errors
    /// Why not.
    pub fn check_times(&self, boot: &[u8; 16], now: u64) -> Result<(), Unread> {
        if self.header.boot != *boot {
            return Err(Unread::OtherBoot);
        }
        match self.away(now) > Millis::MAX_SPAN {
            true => Err(Unread::TooOld),
            false => Ok(()),
        }
    }

    /// The tables of a kind.
    pub fn sections(&self, table: usize) -> impl Iterator<Item = &Section> {
        let sections = self.header.sections.iter();
        sections.filter(move |section| section.table as usize == table)
    }

    /// Hands each connection of a table over, with the number of its entry. What the file does not have any more is
    /// [torn](Lost::Torn).
    pub fn records<K: Key>(
        &self,
        section: &Section,
        mut each: impl FnMut(u32, Result<Record<K>, Lost>),
    ) {
        let size = size_of::<Connection<K>>();
        if section.size as usize != size {
            return;
        }
        let mut entries = vec![0; size * TOGETHER as usize];
        let mut told = vec![0; 8 * TOGETHER as usize];
        let mut first = 0;
        while first < section.entries {
            let count = TOGETHER.min(section.entries - first) as usize;
            let (entries, told) = (&mut entries[..count * size], &mut told[..count * 8]);
            let read = self.source.read(section.at + first * size as u64, entries);
            let read = read.and_then(|()| self.source.read(section.told_at + first * 8, told));
            if read.is_err() {
                return each(first as u32, Err(Lost::Torn));
            }
            let (told, _) = told.as_chunks::<8>();
            for ((number, entry), told) in (first..).zip(entries.chunks_exact(size)).zip(told) {
                let told = Told::from_bits(u64::from_ne_bytes(*told));
                match Connection::from_memory(entry) {
                    Ok(None) => {}
                    Ok(Some(connection)) => each(number as u32, self.record(connection, told)),
                    Err(_) => each(number as u32, Err(Lost::Torn)),
                }
            }
            first += count as u64;
        }
    }

    fn record<K: Key>(&self, connection: Connection<K>, told: Told) -> Result<Record<K>, Lost> {
        // There was no room for the names of all.
        let named = self.names.get(connection.real.index());
        let named = named.ok_or(Lost::Unknown)?;
        let (name, real) = named.ok_or(Lost::Torn)?;
        if !name.fits(&connection) {
            return Err(Lost::Torn);
        }
        Ok(Record {
            connection,
            name,
            real: real.ok_or(Lost::Unknown)?,
            told,
        })
    }
}

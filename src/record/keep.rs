//! Makes the file that this process keeps its connections in.

use super::header::{ALIVE, Header, NAMES_USED, ORIGIN, Section};
use super::kept::{Kept, Unread};
use super::name::Name;
use crate::arch::{HUGE_PAGE, HugeSlice, NoMemory};
use crate::units::{RealId, Time};
use rustix::fs::{FlockOperation, Mode, OFlags, StatVfs, flock, fstatfs, fstatvfs};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Why connections cannot be kept where the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum Unkept {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Memory(#[from] NoMemory),
    #[error(
        "it is on a disk: name a file in memory, on tmpfs or hugetlbfs, such as /dev/shm/weir-connections"
    )]
    NotInMemory,
    #[error("it is a file of something else: remove it, or name another")]
    Foreign,
    #[error("another weir has it: give each one its own")]
    InUse,
    #[error("it is not a file of this user alone: remove it, or name another")]
    NotOwn,
    #[error("its file system has pages of more than 2 MiB: mount one with pagesize=2M")]
    LargePages,
    #[error(
        "{need} MiB are needed, for this file and the next one at a restart, and its file system has {free} MiB free: lower [limits] \
         connections, or enlarge it (mount -o remount,size=…)"
    )]
    NoRoom { need: u64, free: u64 },
}

/// A file that connections are kept in, from one process to the next. It is locked: only one process has it open.
pub struct Place {
    path: PathBuf,
    former: Option<File>,
}

/// statfs(2).
const TMPFS: u32 = 0x0102_1994;
const HUGETLBFS: u32 = 0x9584_58f6;

impl Place {
    /// Takes the place, as no other process may at the same time.
    ///
    /// # Errors
    /// If it is no place for that.
    pub fn take(path: &Path) -> Result<Place, Unkept> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let about = fstatfs(File::open(directory)?).map_err(io::Error::from)?;
        // These numbers have 32 bits, in a field whose type differs between machines.
        let kind = about.f_type as u32;
        if kind == HUGETLBFS && about.f_bsize as usize > HUGE_PAGE {
            return Err(Unkept::LargePages);
        }
        match kind == TMPFS || kind == HUGETLBFS {
            true => Self::anywhere(path),
            false => Err(Unkept::NotInMemory),
        }
    }

    /// The same, whatever file system it is on: of a disk, whose writing the workers may have to wait for.
    ///
    /// # Errors
    /// The same.
    pub fn anywhere(path: &Path) -> Result<Place, Unkept> {
        let former = match open(path, OFlags::RDWR) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => None,
            found => Some(own(found?)?),
        };
        if let Some(former) = &former
            && !is_at(former, path)?
        {
            // Another one has just put its own there.
            return Err(Unkept::InUse);
        }
        Ok(Place {
            path: path.to_owned(),
            former,
        })
    }

    /// What a former process has left there; none if nothing is there.
    ///
    /// # Errors
    /// If it is nothing that can be read.
    pub fn kept(&self) -> Result<Option<Kept>, Unread> {
        match &self.former {
            None => Ok(None),
            Some(file) => Kept::open(Box::new(file.try_clone()?)).map(Some),
        }
    }

    /// Whether there is a file of a former process, and no room for another one beside it. `names`, `rooms`: as of the new file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn lacks_room(&self, names: u64, rooms: &[Vec<(usize, usize)>]) -> io::Result<bool> {
        let Some(former) = &self.former else {
            return Ok(false);
        };
        let free = free(&fstatvfs(former)?);
        Ok(free.is_some_and(|free| free < size(names, rooms)))
    }

    /// Whether there is a file of a former process.
    pub fn has_former(&self) -> bool {
        self.former.is_some()
    }

    /// Removes the file of the former process.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn forget(&mut self) -> io::Result<()> {
        if self.former.take().is_some() {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }

    fn beside(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        self.path.with_file_name(name)
    }
}

/// Without following a link, which someone else may have put there.
fn open(path: &Path, how: OFlags) -> io::Result<File> {
    let how = how | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, how, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(file))
}

/// The file, if it is this user's and no other process has it.
fn own(file: File) -> Result<File, Unkept> {
    let about = file.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    if !about.is_file() || about.uid() != own || about.mode() & 0o077 != 0 {
        return Err(Unkept::NotOwn);
    }
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Unkept::InUse),
        Err(why) => Err(io::Error::from(why).into()),
    }
}

/// Whether the file is the one of that name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let it = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (it.dev(), it.ino())),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(why) => Err(why),
    }
}

/// The bytes of a file.
fn size(names: u64, rooms: &[Vec<(usize, usize)>]) -> u64 {
    let of = |(entries, size): &(usize, usize)| {
        let pages = |bytes: usize| (bytes as u64).next_multiple_of(HUGE_PAGE as u64);
        pages(entries * size) + pages(entries * 8)
    };
    Header::head(names) + rooms.iter().flatten().map(of).sum::<u64>()
}

/// The file of this process while it is made: the next one finds it only once it is [complete](Self::complete).
pub struct Keeping {
    place: Place,
    file: File,
    sections: Vec<Section>,
    is_complete: AtomicBool,
}

/// The names of real servers in the file, and that the process lives.
pub struct Names {
    head: HugeSlice<u8>,
    most: usize,
    machine: Option<fn() -> u64>,
    is_full: bool,
}

/// The memory of a worker's table in the file: its entries, and a number for each of what its real server was told.
pub(crate) type TableMemory<E> = (HugeSlice<E>, HugeSlice<u64>);

impl Keeping {
    /// Makes a file for tables. `rooms`: for each worker the entries of each of its tables, with the bytes of one.
    ///
    /// # Errors
    /// Where there is no room.
    pub fn new(
        place: Place,
        header: Header,
        rooms: &[Vec<(usize, usize)>],
    ) -> Result<(Keeping, Names), Unkept> {
        let beside = place.beside();
        match open(&beside, OFlags::RDWR) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            // Of one that ended while it started; or another one is starting.
            stale => {
                own(stale?)?;
                fs::remove_file(&beside)?;
            }
        }
        let file = own(open(&beside, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?)?;
        Self::in_file(place, file, header, rooms)
    }

    fn in_file(
        place: Place,
        file: File,
        mut header: Header,
        rooms: &[Vec<(usize, usize)>],
    ) -> Result<(Keeping, Names), Unkept> {
        let mut end = Header::head(header.names);
        let mut next = |bytes: usize| {
            let at = end;
            end += (bytes as u64).next_multiple_of(HUGE_PAGE as u64);
            at
        };
        for (worker, tables) in (0..).zip(rooms) {
            for (table, &(entries, size)) in (0..).zip(tables) {
                if entries > 0 {
                    header.sections.push(Section {
                        worker,
                        table,
                        size: size as u32,
                        entries: entries as u64,
                        at: next(entries * size),
                        told_at: next(entries * 8),
                    });
                }
            }
        }
        let of_system = fstatvfs(&file).map_err(io::Error::from)?;
        // Of a start that will go well, the next one will, too.
        let need = if place.has_former() { end } else { 2 * end };
        if let Some(free) = free(&of_system).filter(|free| *free < need) {
            return Err(Unkept::NoRoom {
                need: need >> 20,
                free: free >> 20,
            });
        }
        file.set_len(end)?;
        let head = Header::head(header.names) as usize;
        let mut head = HugeSlice::in_file(0u8, head, &file, 0)?;
        header.write(&mut head);
        let most = header.names as usize;
        let keeping = Keeping {
            place,
            file,
            sections: header.sections,
            is_complete: AtomicBool::new(false),
        };
        let names = Names {
            head,
            most,
            machine: None,
            is_full: false,
        };
        Ok((keeping, names))
    }

    /// The memory of a worker's table in the file: for its entries, each of which is `value` now, and the numbers beside them;
    /// none if it has no such table.
    ///
    /// # Errors
    /// Where the file system or the kernel has no room for it.
    pub(crate) fn table<E: Copy>(
        &self,
        worker: u32,
        table: usize,
        value: E,
    ) -> io::Result<Option<TableMemory<E>>> {
        let is_it = |it: &&Section| it.worker == worker && it.table as usize == table;
        let Some(section) = self.sections.iter().find(is_it) else {
            return Ok(None);
        };
        let count = section.entries as usize;
        let entries = HugeSlice::in_file(value, count, &self.file, section.at)?;
        let told = HugeSlice::in_file(0, count, &self.file, section.told_at)?;
        Ok(Some((entries, told)))
    }

    /// Puts the file in the place of the former one, of which everything is in it that is to be kept. As long as anything of it is
    /// in use, [`Names`] or a table, no other process can have it.
    ///
    /// # Errors
    /// If the file system refuses; if another process has put its own there.
    pub fn complete(&self) -> Result<(), Unkept> {
        let Place { path, former } = &self.place;
        let is_as_found = match former {
            Some(former) => is_at(former, path)? || !path.exists(),
            None => !path.exists(),
        };
        if !is_as_found {
            return Err(Unkept::InUse);
        }
        fs::rename(self.place.beside(), path)?;
        self.is_complete.store(true, Relaxed);
        Ok(())
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if !self.is_complete.load(Relaxed) {
            let _ = fs::remove_file(self.place.beside());
        }
    }
}

/// Free bytes; none: it has no limit, as a tmpfs of size 0.
fn free(of: &StatVfs) -> Option<u64> {
    (of.f_blocks > 0).then(|| of.f_bavail.saturating_mul(of.f_frsize))
}

impl Names {
    /// Names the real server, or the rule, of an id: before any connection has it. One beyond those that there is room for has
    /// no name, and its connections end with the process.
    pub fn set(&mut self, id: RealId, name: &Name) {
        let number = id.index();
        if number >= self.most {
            if !self.is_full {
                self.is_full = true;
                let most = self.most;
                tracing::warn!(
                    most,
                    "connections_file has no room for more real servers until weir starts anew: connections to later ones end with the process"
                );
            }
            return;
        }
        let at = Header::BYTES + number * Name::BYTES;
        self.head[at..at + Name::BYTES].copy_from_slice(&name.to_bytes());
        let used = self.word(NAMES_USED).max(number as u64 + 1);
        self.set_word(NAMES_USED, used);
    }

    /// `clock`: that of the machine, as of [`Header::origin`], which the dataplane's is held against from now on.
    pub fn follow(&mut self, clock: fn() -> u64) {
        self.machine = Some(clock);
    }

    /// The control thread lives.
    pub fn live(&mut self, now: Time) {
        // Within days a clock of processor cycles goes wrong by minutes, as its frequency is known by a few digits only.
        if let Some(machine) = self.machine {
            self.set_word(ORIGIN, machine().saturating_sub(now.nanos()));
        }
        self.set_word(ALIVE, now.nanos());
    }

    fn word(&self, at: usize) -> u64 {
        let bytes = self.head[at..].first_chunk().copied();
        u64::from_ne_bytes(bytes.unwrap_or_default())
    }

    fn set_word(&mut self, at: usize, word: u64) {
        self.head[at..at + 8].copy_from_slice(&word.to_ne_bytes());
    }
}

//! `--save`: a change of the running daemon is written into its configuration file as well.
//!
//! First the file is prepared and checked, then the daemon changes, then the file takes its place: where one of these fails, what
//! is left is said.

use super::client::{self, Address, At, Error};
use super::reload::{post, sent};
use crate::config::edit::{Edited, FileChange, edit};
use crate::config::{self, Known, Text};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::Deserialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Lines of a plan that are shown of a file that differs.
const LINES: usize = 10;

/// How long the lock of other commands is waited for, and how long between two looks.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// Makes a change of the file and of the daemon; `apply` changes the daemon, and is given the changed services as TOML. Returns
/// what `apply` says, and where it is saved.
pub(super) fn save(
    at: &At,
    change: &FileChange,
    apply: impl FnOnce(&Address, &Edited, &str) -> Result<String, Error>,
) -> Result<String, Error> {
    let address = at.address()?;
    let main = main_file(at, &address)?;
    let _only = lock(&main)?;
    let texts = super::reload::texts(&main)?;
    same_as_running(&address, &main, &texts)?;
    let edited = edit(&texts, change).map_err(Error::Refused)?;
    let name = texts[edited.file].name.clone();
    let mut after = texts.clone();
    after[edited.file].text = edited.text.clone();
    config::check_texts(after.clone(), &super::context(), &Known::default()).map_err(|wrong| {
        let text = wrong.to_string();
        Error::Refused(format!(
            "with the change {name} would not be valid:\n{}",
            text.trim_end()
        ))
    })?;
    let prepared = Prepared::new(Path::new(&name), &texts[edited.file].text, &edited.text)?;
    let said =
        apply(&address, &edited, &name).map_err(|why| half_done(&address, &main, &texts, why))?;
    prepared.take_place().map_err(|why| {
        Error::Refused(format!(
            "{said}\nweir has the change, but {name} has not: {why}; until it is written there, a reload or a restart undoes it"
        ))
    })?;
    let plan = post(&address, "/v1/plan", sent(&after))?;
    match plan.is_changed {
        false => Ok(format!("{said}\nsaved in {name}")),
        true => Err(Error::Refused(format!(
            "{said}\nsaved in {name}, but what runs has changed meanwhile: `weir plan {}` shows what a reload would change",
            main.display()
        ))),
    }
}

/// The file that the daemon runs from: of `--config`, or as the daemon says.
fn main_file(at: &At, address: &Address) -> Result<PathBuf, Error> {
    if let Some(file) = &at.config {
        return Ok(file.clone());
    }
    let is_here = match address {
        Address::Unix(_) => true,
        Address::Tcp(address) => address.ip().is_loopback(),
        Address::Https(..) => false,
    };
    if !is_here {
        return Err(Error::Refused(format!(
            "--save writes the file on the machine where weir runs, and {address} may be another: run this there, or name the \
             file by --config"
        )));
    }
    #[derive(Deserialize)]
    struct Source {
        file: PathBuf,
    }
    let mut answer = Vec::new();
    client::get(address, "/v1/source", |piece| {
        answer.extend_from_slice(piece);
        Ok(())
    })?;
    let source: Source =
        serde_json::from_slice(&answer).map_err(|why| Error::OtherVersion(address.clone(), why))?;
    Ok(source.file)
}

/// Of several commands that save, one at a time. Every program that may read the file can hold its lock: it is waited for no
/// longer than such commands need.
fn lock(file: &Path) -> Result<File, Error> {
    let failed = |why: io::Error| Error::Refused(format!("{}: {why}", file.display()));
    let until = Instant::now() + PATIENCE;
    loop {
        let opened = File::open(file).map_err(failed)?;
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < until => {
                std::thread::sleep(PAUSE);
                continue;
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::Refused(format!(
                    "nothing has changed: another program holds a lock on {0} (`fuser {0}` names it)",
                    file.display()
                )));
            }
            Err(why) => return Err(failed(why.into())),
        }
        // The one before may have put another file in its place meanwhile.
        let now = fs::metadata(file).map_err(failed)?;
        let held = opened.metadata().map_err(failed)?;
        if (now.dev(), now.ino()) == (held.dev(), held.ino()) {
            return Ok(opened);
        }
    }
}

/// Refuses a file that means something else than what runs.
fn same_as_running(address: &Address, main: &Path, texts: &[Text]) -> Result<(), Error> {
    let plan = post(address, "/v1/plan", sent(texts))?;
    if !plan.is_changed {
        return Ok(());
    }
    let lines: Vec<_> = plan.text.lines().collect();
    let shown = lines[..lines.len().min(LINES)].join("\n  ");
    let file = main.display();
    Err(Error::Refused(format!(
        "nothing has changed: {file} is not what runs, and saving would mix the two. A reload of it would change:\n  {shown}\n\
         `weir reload` applies the file, `weir show config` writes what runs; then do this again"
    )))
}

/// Why the daemon has not changed, or that it may have: it was asked, and did not say all of what it did.
fn half_done(address: &Address, main: &Path, texts: &[Text], why: Error) -> Error {
    match post(address, "/v1/plan", sent(texts)) {
        Ok(plan) if !plan.is_changed => why,
        _ => Error::Refused(format!(
            "{why}\nweir may have the change, and the file has not: `weir plan {}` shows what a reload would take back",
            main.display()
        )),
    }
}

/// A text beside its file, on the disk, until it takes the place of the file or is dropped.
struct Prepared {
    beside: PathBuf,
    file: PathBuf,
    before: String,
}

impl Prepared {
    fn new(name: &Path, before: &str, after: &str) -> Result<Prepared, Error> {
        let failed = |why: io::Error| {
            Error::Refused(format!(
                "nothing has changed: {} cannot be written: {why}",
                name.display()
            ))
        };
        // What a link leads to is written, not the link.
        let file = name.canonicalize().map_err(failed)?;
        let about = fs::metadata(&file).map_err(failed)?;
        let mut beside = std::ffi::OsString::from(".");
        beside.push(file.file_name().unwrap_or_default());
        beside.push(format!(".weir-{}", std::process::id()));
        let prepared = Prepared {
            beside: file.with_file_name(beside),
            file,
            before: before.to_owned(),
        };
        prepared.write(after, &about).map_err(failed)?;
        Ok(prepared)
    }

    /// With the mode and the owner of the file.
    fn write(&self, text: &str, about: &fs::Metadata) -> io::Result<()> {
        let mut new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.beside)?;
        let made = new.metadata()?;
        if (made.uid(), made.gid()) != (about.uid(), about.gid()) {
            fchown(&new, Some(about.uid()), Some(about.gid()))?;
        }
        new.set_permissions(fs::Permissions::from_mode(about.mode() & 0o7777))?;
        new.write_all(text.as_bytes())?;
        new.sync_all()
    }

    fn take_place(self) -> Result<(), String> {
        let now = fs::read_to_string(&self.file).map_err(|why| why.to_string())?;
        if now != self.before {
            return Err("it was edited meanwhile".to_owned());
        }
        let written = || {
            fs::rename(&self.beside, &self.file)?;
            // The new name is on the disk as well, once the directory is.
            let folder = self.file.parent().unwrap_or(Path::new("/"));
            File::open(folder)?.sync_all()
        };
        written().map_err(|why: io::Error| why.to_string())
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // Once it has taken its place there is none.
        let _ = fs::remove_file(&self.beside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_takes_the_place_of_its_file_whole_with_mode_and_links_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (
            folder.path().join("lb.toml"),
            folder.path().join("link.toml"),
        );
        fs::write(&file, "before").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("lb.toml", &link).unwrap();
        let names = || fs::read_dir(folder.path()).unwrap().count();

        let prepared = Prepared::new(&link, "before", "after").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "before");
        prepared.take_place().unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), "after");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(), 2);

        // One that was edited meanwhile stays, and nothing is left beside it.
        let prepared = Prepared::new(&file, "after", "later").unwrap();
        fs::write(&file, "edited").unwrap();
        assert_eq!(
            prepared.take_place().unwrap_err(),
            "it was edited meanwhile"
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), "edited");
        drop(Prepared::new(&file, "edited", "never").unwrap());
        assert_eq!(names(), 2);
        assert!(Prepared::new(&folder.path().join("none"), "", "").is_err());
    }
}

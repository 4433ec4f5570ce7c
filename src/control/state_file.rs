//! `state_file`: what operators have said of real servers outlives a restart.
//!
//! A thread of its own writes it, so that no disk keeps the control thread waiting: the whole text into another file beside it,
//! which is synced and then takes its place. A crash leaves the former text or the new one, never a part.

use crate::config::{self, Config};
use crate::model::{Edit, Model, RestoredEdit, names};
use crate::service::{Admin, ServiceKey};
use crate::units::Time;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The only version of the file that there is. Another one is not read.
const VERSION: u32 = 1;
/// The most bytes that are read.
const MOST: u64 = 64 << 20;
/// Between two texts for the writer.
const PERIOD: Duration = Duration::from_millis(100);
/// The longest that anything an operator said may still be for: as long as the API takes (366 days).
const LONGEST: u64 = 366 * 86_400;
/// After one that could not be written.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Contents {
    version: u32,
    reals: Vec<Entry>,
}

/// What was said of one real server.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// `tcp:192.0.2.80:80`
    service: String,
    real: SocketAddr,
    #[serde(default)]
    admin: Admin,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admin_until: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight_until: Option<u64>,
}

/// Both clocks at one moment: the dataplane's, which starts anew with weir, and the one of the wall.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    now: Time,
    /// Seconds since 1970.
    wall: u64,
}

impl Clocks {
    fn at(now: Time) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        Clocks {
            now,
            wall: wall.map_or(0, |since| since.as_secs()),
        }
    }

    fn to_wall(self, until: Time) -> u64 {
        self.wall + until.since(self.now).as_secs_f64().ceil() as u64
    }

    /// None: it is over. The file may be anyone's: nothing is for longer than it can have been asked for.
    fn left_until(self, until: u64) -> Option<Time> {
        let left = until.checked_sub(self.wall).filter(|left| *left > 0)?;
        Some(self.now + Duration::from_secs(left.min(LONGEST)))
    }
}

impl Entry {
    /// What is left of it now; none: nothing.
    fn edits(&self, clocks: Clocks) -> Vec<RestoredEdit> {
        let left = |until: Option<u64>| match until {
            None => Some(None),
            Some(until) => clocks.left_until(until).map(Some),
        };
        let admin = match self.admin {
            Admin::Enabled => None,
            Admin::Drained => Some(Edit::Drain),
            Admin::Disabled => Some(Edit::Disable),
        };
        let admin = admin.and_then(|edit| Some((edit, left(self.admin_until)?)));
        let weight = self.weight.map(Edit::Weight);
        let weight = weight.and_then(|edit| Some((edit, left(self.weight_until)?)));
        admin.into_iter().chain(weight).collect()
    }
}

/// The file's contents: what operators have said of a model's real servers.
fn contents(model: &Model, clocks: Clocks) -> Contents {
    let to_wall = |until: Option<Time>| until.map(|until| clocks.to_wall(until));
    let edited = model.edited().map(|((key, address, port), state)| Entry {
        service: key.to_string(),
        real: SocketAddr::new(*address, *port),
        admin: state.admin,
        admin_until: to_wall(state.admin_until),
        weight: state.weight,
        weight_until: to_wall(state.weight_until),
    });
    let mut reals: Vec<_> = edited.collect();
    reals.sort_unstable_by(|a, b| (&a.service, a.real).cmp(&(&b.service, b.real)));
    Contents {
        version: VERSION,
        reals,
    }
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is not as weir writes it: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("its version is {0}, and this weir reads {VERSION}")]
    Version(u32),
}

fn read(path: &Path) -> Result<Option<Contents>, Unread> {
    let text = match config::read_file(path, MOST) {
        Ok((text, _)) => text,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(why.into()),
    };
    // First: another version may have other fields.
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(&text)?;
    match version {
        VERSION => Ok(Some(serde_json::from_slice(&text)?)),
        other => Err(Unread::Version(other)),
    }
}

/// Says of real servers again what was said of them before weir was restarted. A file that does not fit is left aside.
pub(crate) fn restore(model: &mut Model, path: &Path, now: Time) {
    let file = path.display();
    let contents = match read(path) {
        Ok(None) => return,
        Ok(Some(contents)) => contents,
        Err(why) => {
            tracing::warn!(
                %file,
                "state_file is ignored: {why}; drains and weights of the runtime are as after a first start, and the next one \
                 overwrites it"
            );
            return;
        }
    };
    let clocks = Clocks::at(now);
    let mut restored = 0;
    let mut unknown = Vec::new();
    let mut all = Vec::new();
    for entry in &contents.reals {
        let edits = entry.edits(clocks);
        let at = (entry.real.ip(), entry.real.port());
        match entry.service.parse::<ServiceKey>() {
            Ok(key) if model.file_weight(&key, at).is_some() => {
                restored += usize::from(!edits.is_empty());
                all.push((key, at, edits));
            }
            _ => unknown.push(format!("{} of {}", entry.real, entry.service)),
        }
    }
    model.restore(all);
    if !unknown.is_empty() {
        let reals = names(unknown);
        tracing::warn!(%file, reals, "state_file names real servers that are not configured: what it says of them is forgotten");
    }
    if restored > 0 {
        tracing::info!(%file, reals = restored, "drains and weights of the runtime are in force again");
    }
}

/// Writes a text in the place of a file's, whole or not at all.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = directory.join(name);
    // Whatever a crash has left there, or another process has put there: a FIFO would wait for its reader.
    let _ = fs::remove_file(&beside);
    let mut file = File::create_new(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)?;
    // The new name is on the disk as well, once the directory is.
    File::open(directory)?.sync_all()
}

/// Keeps the file as what is said of real servers.
#[derive(Debug, Default)]
pub(super) struct StateFile {
    writer: Option<Writer>,
    /// What was handed to the writer last; none: it has to be handed to it again.
    written: Option<u64>,
    due: Time,
    /// When a text that could not be written is tried again.
    retry: Time,
    /// Whether the last text could not be written.
    has_failed: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Writer {
    texts: Sender<(PathBuf, String)>,
    thread: JoinHandle<()>,
}

impl StateFile {
    /// What there is now is in the file, or there is no file yet.
    pub(super) fn start(&mut self, model: &Model) {
        self.written = Some(model.edits());
    }

    /// After a change of the configuration: another file has to have all of it.
    pub(super) fn follow(&mut self, former: Option<&PathBuf>, model: &Model) {
        if former != model.config().state_file.as_ref() {
            self.written = None;
        }
    }

    /// Hands what has changed to the writer, and once a second what it could not write.
    pub(super) fn tick(&mut self, model: &Model, now: Time) {
        let edits = model.edits();
        if now >= self.retry && self.has_failed.load(Ordering::Relaxed) {
            self.written = None;
        }
        if self.written == Some(edits) || now < self.due {
            return;
        }
        self.written = Some(edits);
        let Some(path) = path(model.config()) else {
            return;
        };
        (self.due, self.retry) = (now + PERIOD, now + RETRY);
        // Plain data: it cannot fail.
        let text = serde_json::to_string_pretty(&contents(model, Clocks::at(now)));
        let text = text.unwrap_or_default() + "\n";
        if self.writer.is_none() {
            self.writer = Writer::start(self.has_failed.clone());
        }
        if let Some(writer) = &self.writer {
            // It ends only with this one.
            let _ = writer.texts.send((path, text));
        }
    }

    /// Writes what has not been written yet, and waits for it.
    pub(super) fn stop(&mut self, model: &Model, now: Time) {
        (self.due, self.retry) = (now, now);
        self.tick(model, now);
        if let Some(Writer { texts, thread }) = self.writer.take() {
            drop(texts);
            let _ = thread.join();
        }
    }
}

impl Writer {
    fn start(has_failed: Arc<AtomicBool>) -> Option<Self> {
        let (texts, received) = channel();
        let thread = std::thread::Builder::new().name("state".to_owned());
        match thread.spawn(move || write_all(&received, &has_failed)) {
            Ok(thread) => Some(Writer { texts, thread }),
            Err(why) => {
                tracing::error!("state_file is not written: its thread does not start: {why}");
                None
            }
        }
    }
}

/// Writes each text that is the newest when its turn comes, until there can be none.
fn write_all(texts: &Receiver<(PathBuf, String)>, failed: &AtomicBool) {
    let mut has_failed = false;
    while let Ok(first) = texts.recv() {
        let (path, text) = texts.try_iter().last().unwrap_or(first);
        let file = path.display();
        let written = write(&path, &text);
        match &written {
            Ok(()) if has_failed => tracing::info!(%file, "state_file is written again"),
            Ok(()) => {}
            // Once, until it works again.
            Err(_) if has_failed => {}
            Err(why) => tracing::error!(
                %file,
                "state_file cannot be written: {why}; drains and weights of the runtime end with a restart"
            ),
        }
        has_failed = written.is_err();
        failed.store(has_failed, Ordering::Relaxed);
    }
}

/// Where the file is: as configured, else where systemd gives a service a directory for its state.
pub(crate) fn path(config: &Config) -> Option<PathBuf> {
    let given = config.state_file.clone();
    given.or_else(|| {
        let directories = std::env::var_os("STATE_DIRECTORY")?;
        let first = std::env::split_paths(&directories).next()?;
        Some(first.join("state.json"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const CLOCKS: Clocks = Clocks {
        now: Time::from_nanos(7_000_000_000),
        wall: 1_000_000,
    };

    const SERVICE: &str = r#"
[[port]]
name = "lan"
device = "net_null0"
addresses = ["10.0.0.1/24"]
[[service]]
address = "10.0.0.80"
port = 80
protocol = "tcp"
mode = "nat"
[[service.real]]
address = "10.0.0.11"
"#;

    fn entry() -> Entry {
        Entry {
            service: "tcp:192.0.2.80:80".to_owned(),
            real: "10.0.0.11:8080".parse().unwrap(),
            admin: Admin::Drained,
            admin_until: None,
            weight: Some(5),
            weight_until: Some(1_000_060),
        }
    }

    #[test]
    fn what_is_for_a_time_goes_on_for_what_is_left_of_it() {
        let in_a_minute = CLOCKS.now + Duration::from_secs(60);
        assert_eq!(CLOCKS.to_wall(in_a_minute), 1_000_060);
        let weight = (Edit::Weight(5), Some(in_a_minute));
        assert_eq!(entry().edits(CLOCKS), [(Edit::Drain, None), weight]);
        for wall in [1_000_060, 2_000_000] {
            let later = Clocks { wall, ..CLOCKS };
            assert_eq!(entry().edits(later), [(Edit::Drain, None)]);
        }
        // No longer than an operator can have asked for, whatever the file says.
        let longest = CLOCKS.now + Duration::from_secs(LONGEST);
        for until in [u64::MAX, CLOCKS.wall + LONGEST + 1] {
            assert_eq!(CLOCKS.left_until(until), Some(longest));
        }
    }

    #[test]
    fn a_file_that_does_not_fit_is_told_apart_and_none_is_read_in_part() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        assert!(matches!(read(&path), Ok(None)));
        let good = serde_json::to_string(&Contents {
            version: VERSION,
            reals: vec![entry()],
        })
        .unwrap();
        let cases: [(&str, &str); 6] = [
            ("", "as weir writes it"),
            ("{}", "as weir writes it"),
            ("{\"version\": 2, \"nodes\": 7}", "version is 2"),
            (&good[..good.len() - 2], "as weir writes it"),
            (&good.replace("drained", "gone"), "as weir writes it"),
            (
                &good.replace("\"weight\"", "\"heavy\""),
                "as weir writes it",
            ),
        ];
        for (text, expected) in cases {
            fs::write(&path, text).unwrap();
            let why = read(&path).err().unwrap().to_string();
            assert!(why.contains(expected), "{text}: {why}");
        }
        fs::write(&path, &good).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().reals, [entry()]);
        // A directory in its place.
        assert!(matches!(read(directory.path()), Err(Unread::Io(_))));
    }

    #[test]
    fn the_newest_text_takes_the_files_place_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        let (texts, received) = channel();
        for n in 0..100 {
            texts.send((path.clone(), format!("{n}"))).unwrap();
        }
        drop(texts);
        write_all(&received, &AtomicBool::default());
        assert_eq!(fs::read_to_string(&path).unwrap(), "99");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        // What is in the way of the new text is not written into.
        let beside = directory.path().join("state.json.new");
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &beside,
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )
        .unwrap();
        write(&path, "100").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "100");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let nowhere = directory.path().join("missing/state.json");
        assert!(write(&nowhere, "").is_err());
    }

    #[test]
    fn what_could_not_be_written_is_tried_again_and_another_file_has_all_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("later");
        let with_file = |name: &str| {
            let file = folder.join(name);
            let text = format!("state_file = {file:?}\n{SERVICE}");
            let context = config::Context {
                cpus: None,
                devices: false,
            };
            (file, config::parse(&text, "test", &context).unwrap().config)
        };
        let (first, config) = with_file("first.json");
        let device = crate::model::Device {
            mac: crate::net::Mac([2, 0, 0, 0, 0, 1]),
            any_mac: false,
        };
        let stats = Arc::new(crate::stats::Stats::new(1).unwrap());
        let (mut model, _) = Model::new(&config, vec![device], stats, 1, Time::default());
        let key = "tcp:10.0.0.80:80".parse().unwrap();
        let at = ("10.0.0.11".parse().unwrap(), 80);
        model.edit(&key, at, Edit::Drain, None).unwrap();
        let mut state_file = StateFile::default();
        let mut now = Time::default();
        let mut written = |state_file: &mut StateFile, model: &Model, file: &Path| {
            (0..200).any(|_| {
                now = now + Duration::from_millis(100);
                state_file.tick(model, now);
                std::thread::sleep(Duration::from_millis(10));
                fs::read_to_string(file).is_ok_and(|text| text.contains("drained"))
            })
        };
        // There is no such folder yet, and nothing is said of a real server once there is.
        state_file.tick(&model, Time::default());
        while !state_file.has_failed.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        fs::create_dir(&folder).unwrap();
        assert!(written(&mut state_file, &model, &first));
        let (second, config) = with_file("second.json");
        let former = model.config().state_file.clone();
        model.apply(config, Time::default()).unwrap();
        state_file.follow(former.as_ref(), &model);
        assert!(written(&mut state_file, &model, &second));
    }
}

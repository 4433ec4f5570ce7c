//! `weir replay`: captures through the very same dataplane, deterministically.

mod records;
mod what_if;

use super::output::{self, diagnose, tell};
use crate::config::{self, Config, did_you_mean};
use crate::io::pcap::{Capture, Resolution, Writer};
use crate::packet::BURST;
use crate::replay::{Input, Replay as Engine, explain, merge};
use crate::stats::Stats;
use crate::units::{PortId, Time};
use crate::verdict::DropReason;
use records::RecordFile;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Push captures through the dataplane and write what it would transmit: needs no root, no NIC and no hugepages
#[derive(Debug, clap::Args)]
pub struct Replay {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What a port receives: a pcap or pcapng file. For several ports, and for several files of one, give it again
    #[arg(long, value_name = "PORT=FILE", required = true, num_args = 1..)]
    rx: Vec<OsString>,
    /// Where to write what a port transmits, as pcap; what other ports transmit is not written
    #[arg(long, value_name = "PORT=FILE", num_args = 1..)]
    tx: Vec<OsString>,
    /// Where to write one JSON object for each received packet: what was decided, and why
    #[arg(long, value_name = "FILE")]
    explain: Option<PathBuf>,
    /// Where to write the connection log, as `[connection_log]` says, or else all of it as JSON: what begins and ends on the captures' clock
    #[arg(long, value_name = "FILE", conflicts_with_all = ["what_if", "against"])]
    connection_log: Option<PathBuf>,
    /// How many workers share the packets, by the hash of a NIC with the default key; they take turns in one thread
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    workers: u8,
    /// How many packets go through the director at once, at most, of those that came within 10 microseconds
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=BURST as i64))]
    burst: u8,
    /// Compare with other keys of the services: which real server each client gets, before and after, and how many connections
    /// each has at most. As `weir set` takes it: "web scheduler=mh", "web 10.0.0.11:8080 weight=5", and without a service for all
    /// of them. Several come one after the other
    #[arg(long, value_name = "[SERVICE [REAL]] KEY=VALUE", conflicts_with_all = ["against", "tx", "explain"])]
    what_if: Vec<String>,
    /// The same with another configuration file, which has the ports that captures are given for
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tx", "explain"])]
    against: Option<PathBuf>,
    /// Print what was counted, or compared, to stdout as JSON
    #[arg(long)]
    json: bool,
}

/// What went wrong: one fact a line.
type Errors = Vec<String>;

impl Replay {
    /// 0 if every packet was processed, else 1.
    pub fn run(&self) -> ExitCode {
        let loaded = match load(&self.config) {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        let done = match self.compares() {
            true => self.compare(&loaded.config),
            false => self.replay(&loaded).map(|()| ExitCode::SUCCESS),
        };
        done.unwrap_or_else(|errors| {
            for error in errors {
                tell(output::error(error));
            }
            ExitCode::FAILURE
        })
    }

    fn replay(&self, loaded: &config::Loaded) -> Result<(), Errors> {
        let config = &loaded.config;
        let inputs = self.inputs(config)?;
        let packets = inputs
            .iter()
            .map(|input| input.capture.frames().len())
            .sum();
        let resolution = inputs
            .iter()
            .map(|input| input.capture.resolution())
            .max()
            .unwrap_or_default();
        let mut received = merge(&inputs).peekable();
        let start = received
            .peek()
            .map_or(Time::default(), |(_, time, _)| *time);
        let mut engine = Engine::new(config, usize::from(self.workers), packets, start)
            .map_err(|error| vec![error.to_string()])?;
        let captured: Vec<_> = inputs.iter().map(|input| input.port).collect();
        engine.set_captured(&captured);
        let mut outputs = Outputs::create(self, loaded, resolution)?;
        if let Some(records) = &outputs.records {
            engine.log_connections(&records.log);
        }
        let (mut n, burst) = (0, usize::from(self.burst));
        while received.peek().is_some() {
            let packets = engine.gather(&mut received, burst);
            let decisions = engine.receive_together(&packets, burst);
            for sent in engine.take_frames() {
                outputs.transmit(sent.port, sent.time, sent.bytes())?;
            }
            for ((port, _, frame), decision) in packets.iter().zip(&decisions) {
                if let Some((file, out)) = &mut outputs.explain {
                    explain(out, &engine, n, *port, frame, decision)
                        .map_err(|error| unwritable(file, &error))?;
                }
                n += 1;
            }
            if let (Some(records), Some((_, time, _))) = (&mut outputs.records, packets.last()) {
                records.write(&engine, *time)?;
            }
            if cfg!(debug_assertions) {
                engine.check().map_err(|error| vec![error.to_string()])?;
            }
        }
        outputs.finish(&engine)?;
        tell(summary(engine.stats()));
        if let Some(hint) = one_sided(&engine, config) {
            tell(hint);
        }
        if self.json {
            super::say(counts(engine.stats()));
        }
        engine.check().map_err(|error| vec![error.to_string()])
    }

    /// Reads every capture.
    fn inputs(&self, config: &Config) -> Result<Vec<Input>, Errors> {
        let mut errors = Errors::new();
        let mut inputs = Vec::new();
        for option in &self.rx {
            let input = port_and_file("--rx", option, config).and_then(|(port, file)| {
                Ok(Input {
                    port,
                    capture: Capture::open(file).map_err(|error| error.to_string())?,
                })
            });
            match input {
                Ok(input) => inputs.push(input),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            Ok(inputs)
        } else {
            Err(errors)
        }
    }
}

/// Reads a configuration, and says what is wrong with it.
pub(super) fn load(file: &Path) -> Result<config::Loaded, ExitCode> {
    // A replay runs on any machine: neither the workers' CPUs nor the devices matter.
    let context = config::Context {
        cpus: None,
        devices: false,
    };
    let loaded = config::load(file, &context).map_err(|diagnostics| {
        diagnose(&diagnostics);
        ExitCode::FAILURE
    })?;
    diagnose(&loaded.warnings);
    Ok(loaded)
}

/// What makes two paths the same file, whatever links lead there.
#[derive(Debug, PartialEq, Eq, Hash)]
enum FileId {
    /// Its device and inode.
    There(u64, u64),
    /// Where it would be made.
    New(PathBuf),
}

impl FileId {
    fn of(path: &Path) -> FileId {
        if let Ok(about) = path.metadata() {
            return FileId::There(about.dev(), about.ino());
        }
        let mut path = path.to_owned();
        // A symbolic link to what is not there yet: the file is made at its end. The kernel follows 40 as well.
        for _ in 0..40 {
            let Ok(target) = path.read_link() else {
                break;
            };
            // An absolute target takes the place of everything before it.
            path = path.parent().unwrap_or(Path::new("")).join(target);
        }
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        match (folder.canonicalize(), path.file_name()) {
            (Ok(folder), Some(name)) => FileId::New(folder.join(name)),
            // It cannot be made.
            _ => FileId::New(path),
        }
    }
}

/// The files that a replay writes.
struct Outputs {
    /// By port.
    captures: Vec<Option<(PathBuf, Writer<BufWriter<File>>)>>,
    explain: Option<(PathBuf, BufWriter<File>)>,
    records: Option<RecordFile>,
}

impl Outputs {
    fn create(
        options: &Replay,
        loaded: &config::Loaded,
        resolution: Resolution,
    ) -> Result<Self, Errors> {
        let config = &loaded.config;
        let mut files: Vec<Option<PathBuf>> = vec![None; config.ports.len()];
        let mut errors = Errors::new();
        let captures = options
            .rx
            .iter()
            .filter_map(|option| port_and_file("--rx", option, config).ok())
            .map(|(_, file)| {
                (
                    FileId::of(file),
                    "this is an --rx capture, which would be overwritten",
                )
            });
        let configuration = loaded.files.iter().map(|file| {
            let why = "this is a file of the configuration, which would be overwritten";
            (FileId::of(file), why)
        });
        // What must not be written to, and why.
        let mut taken: HashMap<FileId, &str> = configuration.chain(captures).collect();
        let mut take = |file: &Path| match taken.entry(FileId::of(file)) {
            Entry::Occupied(other) => Err(*other.get()),
            Entry::Vacant(free) => {
                free.insert("the file is named twice");
                Ok(())
            }
        };
        if let Some(file) = &options.explain
            && let Err(why) = take(file)
        {
            errors.push(format!("--explain {}: {why}", file.display()));
        }
        if let Some(file) = &options.connection_log
            && let Err(why) = take(file)
        {
            errors.push(format!("--connection-log {}: {why}", file.display()));
        }
        for option in &options.tx {
            let shown = option.display();
            let (port, file) = match port_and_file("--tx", option, config) {
                Ok(found) => found,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            if files[port.index()].is_some() {
                let name = &config.ports[port.index()].name;
                errors.push(format!("--tx {shown}: port `{name}` has one already"));
            } else if let Err(why) = take(file) {
                errors.push(format!("--tx {shown}: {why}"));
            } else {
                files[port.index()] = Some(file.to_owned());
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let create = |file: &Path| File::create(file).map(BufWriter::new);
        let capture = |file: PathBuf| {
            let writer = create(&file).and_then(|out| Writer::new(out, resolution));
            writer
                .map_err(|error| unwritable(&file, &error))
                .map(|writer| (file, writer))
        };
        let captures = files
            .into_iter()
            .map(|file| file.map(capture).transpose())
            .collect::<Result<_, _>>()?;
        let explain = match &options.explain {
            None => None,
            Some(file) => Some((
                file.clone(),
                create(file).map_err(|error| unwritable(file, &error))?,
            )),
        };
        let records = match &options.connection_log {
            None => None,
            Some(file) => Some(RecordFile::create(file, config)?),
        };
        Ok(Outputs {
            captures,
            explain,
            records,
        })
    }

    fn transmit(&mut self, port: PortId, time: Time, frame: &[u8]) -> Result<(), Errors> {
        let Some((file, writer)) = &mut self.captures[port.index()] else {
            return Ok(());
        };
        writer
            .write(time, frame)
            .map_err(|error| unwritable(file, &error))
    }

    fn finish(self, engine: &Engine) -> Result<(), Errors> {
        for (file, writer) in self.captures.into_iter().flatten() {
            writer.finish().map_err(|error| unwritable(&file, &error))?;
        }
        if let Some((file, mut out)) = self.explain {
            out.flush().map_err(|error| unwritable(&file, &error))?;
        }
        if let Some(records) = self.records {
            records.finish(engine)?;
        }
        Ok(())
    }
}

fn unwritable(file: &Path, error: &io::Error) -> Errors {
    vec![format!("{}: cannot be written: {error}", file.display())]
}

/// Takes `PORT=FILE` apart.
fn port_and_file<'a>(
    flag: &str,
    option: &'a OsStr,
    config: &Config,
) -> Result<(PortId, &'a Path), String> {
    let bytes = option.as_bytes();
    let shown = option.display();
    let (name, file) = match bytes.iter().position(|&byte| byte == b'=') {
        Some(at) if at + 1 < bytes.len() => (&bytes[..at], &bytes[at + 1..]),
        _ => return Err(format!("{flag} {shown}: expected PORT=FILE")),
    };
    let names = || config.ports.iter().map(|port| port.name.as_str());
    match names().position(|port| port.as_bytes() == name) {
        Some(port) => Ok((PortId(port as u8), Path::new(OsStr::from_bytes(file)))),
        None => {
            let name = String::from_utf8_lossy(name);
            let ports: Vec<_> = names().map(|name| format!("`{name}`")).collect();
            let meant = did_you_mean(&name, names());
            Err(format!(
                "{flag} {shown}: no [[port]] is named `{name}`{meant} (there is {})",
                ports.join(", ")
            ))
        }
    }
}

/// `12 packets: 5 forwarded, 4 answered, 1 local, 0 queued, 2 dropped (no_connection 2)`
fn summary(stats: &Stats) -> String {
    let drops: Vec<_> = drops(stats)
        .map(|(reason, count)| format!("{} {count}", reason.name()))
        .collect();
    let dropped: u64 = self::drops(stats).map(|(_, count)| count).sum();
    let reasons = if drops.is_empty() {
        String::new()
    } else {
        format!(" ({})", drops.join(", "))
    };
    format!(
        "{} packets: {} forwarded, {} answered, {} local, {} queued, {dropped} dropped{reasons}",
        stats.total(|worker| worker.received.get()),
        stats.total(|worker| worker.transmitted.get()),
        stats.total(|worker| worker.answered.get()),
        stats.total(|worker| worker.local.get()),
        stats.total(|worker| worker.queued.get()),
    )
}

/// What to do about packets that waited for neighbours' answers which the captures never bring: they were taken on one side only.
fn one_sided(engine: &Engine, config: &Config) -> Option<String> {
    /// The most next hops that are named.
    const NAMED: usize = 8;
    let of_neighbours = [DropReason::NeighbourFailed, DropReason::NeighbourQueueFull];
    let dropped: u64 = drops(engine.stats())
        .filter(|(reason, _)| of_neighbours.contains(reason))
        .map(|(_, count)| count)
        .sum();
    let packets = dropped + engine.stats().total(|worker| worker.queued.get());
    let silent = engine.unanswered();
    if packets == 0 || silent.is_empty() {
        return None;
    }
    let mut hint = format!(
        "hint: {packets} packets waited in vain for an answer to ARP or a neighbour solicitation, which the captures do not have, of:"
    );
    for (n, (address, port)) in silent.iter().take(NAMED).enumerate() {
        let name = &config.ports[port.index()].name;
        hint += &format!("{} {address} ({name})", if n == 0 { "" } else { "," });
    }
    if let Some(more @ 1..) = silent.len().checked_sub(NAMED) {
        hint += &format!(" and {more} more");
    }
    let (address, _) = silent.first()?;
    Some(format!(
        "{hint}\nhint: tell their MAC addresses in the configuration: [[neighbour]] address = \"{address}\", mac = \"…\""
    ))
}

/// The reasons that occurred.
fn drops(stats: &Stats) -> impl Iterator<Item = (DropReason, u64)> {
    DropReason::ALL
        .iter()
        .map(|&reason| (reason, stats.total(|worker| worker.drops(reason).get())))
        .filter(|(_, count)| *count > 0)
}

fn counts(stats: &Stats) -> serde_json::Value {
    let dropped: serde_json::Map<_, _> = drops(stats)
        .map(|(reason, count)| (reason.name().to_owned(), count.into()))
        .collect();
    serde_json::json!({
        "received": stats.total(|worker| worker.received.get()),
        "transmitted": stats.total(|worker| worker.transmitted.get()),
        "answered": stats.total(|worker| worker.answered.get()),
        "local": stats.total(|worker| worker.local.get()),
        "queued": stats.total(|worker| worker.queued.get()),
        "originated": stats.total(|worker| worker.originated.get()),
        "connections": stats.total(|worker| worker.connections.get()),
        "dropped": dropped,
    })
}

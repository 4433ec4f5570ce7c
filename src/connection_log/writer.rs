//! The thread that writes the connection log, and what makes bytes of records, which replays use as well.

use super::ipfix::Exporter;
use super::output::Output;
use super::{Endpoint, Record, Records, json};
use crate::config::{ConnectionLog, LogDestination, LogFormat, Transport};
use crate::harden::{self, Role};
use crate::stats::Stats;
use crate::units::Time;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// How long the thread sleeps when there is nothing to write.
const NAP: Duration = Duration::from_millis(10);
/// How often it looks after its file, and after the clock.
const LOOK: Duration = Duration::from_secs(1);
/// How long the process waits at its end for records to be written.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// How often a collector by UDP is sent the templates.
const REFRESH: Duration = Duration::from_secs(60);
/// Records taken from a worker's queue before the next one has its turn.
const TURN: usize = 4096;
/// Bytes of lines that are written together.
const LINES: usize = 64 << 10;
/// An IPv6 packet of this length arrives by every way (RFC 8200, section 5), without the headers of IPv6 and UDP.
const UDP_MESSAGE: usize = 1280 - 40 - 8;
const STREAM_MESSAGE: usize = 16 << 10;
/// How long it has to take records before it is said that it does.
const CALM: Duration = Duration::from_secs(10);
/// What the workers' clock may differ from the wall's before it is set by it, in milliseconds.
const DRIFT: u64 = 500;

/// What a record names by ids.
pub(super) struct Named {
    pub service: Arc<str>,
    pub server: Endpoint,
}

impl Named {
    fn of(record: &Record, stats: &Stats) -> Self {
        let server = match record.server.0.is_unspecified() {
            true => stats.names.server(record.real),
            false => None,
        };
        Named {
            service: stats.names.service(record.service).unwrap_or_default(),
            server: server.unwrap_or(record.server),
        }
    }
}

/// Makes lines or messages of records.
#[derive(Debug)]
pub struct Encoder {
    form: Form,
    /// Records in it.
    waiting: u64,
}

#[derive(Debug)]
enum Form {
    Json(String),
    Ipfix(Exporter),
}

impl Encoder {
    pub fn new(log: &ConnectionLog) -> Self {
        let most = match log.to {
            LogDestination::Collector(_, Transport::Udp) => UDP_MESSAGE,
            _ => STREAM_MESSAGE,
        };
        let form = match log.format {
            LogFormat::Json => Form::Json(String::with_capacity(LINES + 1024)),
            LogFormat::Ipfix => Form::Ipfix(Exporter::new(most, log.domain)),
        };
        Encoder { form, waiting: 0 }
    }

    /// Adds a record. `origin`: when the workers' clock was 0, and `now`, both in milliseconds since 1970. `out` takes what is full, with the
    /// number of its records.
    pub fn add(
        &mut self,
        record: &Record,
        stats: &Stats,
        (origin, now): (i64, i64),
        out: &mut dyn FnMut(&[u8], u64) -> bool,
    ) {
        let named = Named::of(record, stats);
        match &mut self.form {
            Form::Json(lines) => {
                json::write(lines, record, &named, origin);
                self.waiting += 1;
                if lines.len() >= LINES {
                    self.finish(now, out);
                }
            }
            Form::Ipfix(exporter) => exporter.add(record, &named, origin, seconds(now), out),
        }
    }

    /// Hands out what is left.
    pub fn finish(&mut self, now: i64, out: &mut dyn FnMut(&[u8], u64) -> bool) {
        match &mut self.form {
            Form::Json(lines) => {
                if !lines.is_empty() {
                    out(lines.as_bytes(), std::mem::take(&mut self.waiting));
                    lines.clear();
                }
            }
            Form::Ipfix(exporter) => exporter.finish(seconds(now), out),
        }
    }

    /// Another file, or another connection to a collector.
    fn begin(&mut self) {
        if let Form::Ipfix(exporter) = &mut self.form {
            exporter.begin();
        }
    }

    fn refresh(&mut self) {
        if let Form::Ipfix(exporter) = &mut self.form {
            exporter.refresh();
        }
    }
}

fn seconds(millis: i64) -> u32 {
    (millis / 1000) as u32
}

/// How many records were written, and how many could not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub written: u64,
    /// Workers found no room for them.
    pub overrun: u64,
    /// The disk was full, the collector could not be reached.
    pub unwritten: u64,
}

#[derive(Debug)]
struct Shared {
    records: Vec<Arc<Records>>,
    /// The log as configured last; none: it is off.
    wanted: Mutex<Option<ConnectionLog>>,
    has_changed: AtomicBool,
    ends: AtomicBool,
    written: AtomicU64,
    unwritten: AtomicU64,
}

/// The thread that writes the log; dropped, it writes what is left and ends.
#[derive(Debug)]
pub struct Logger {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Logger {
    /// Starts the thread, which writes nothing yet. `records`: of the workers; `clock`: theirs.
    ///
    /// # Errors
    /// If the thread cannot start.
    pub fn start(
        records: Vec<Arc<Records>>,
        stats: Arc<Stats>,
        clock: impl Fn() -> Time + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            records,
            wanted: Mutex::new(None),
            has_changed: AtomicBool::new(false),
            ends: AtomicBool::new(false),
            written: AtomicU64::new(0),
            unwritten: AtomicU64::new(0),
        });
        let at_work = shared.clone();
        let thread = std::thread::Builder::new().name("connection-log".into());
        let thread = thread.spawn(move || {
            harden::drop_privileges(Role::Worker);
            Work::new(&at_work, &stats, &clock).run();
        })?;
        Ok(Logger {
            shared,
            thread: Some(thread),
        })
    }

    /// Has the log written so from now on.
    pub fn set(&self, log: Option<&ConnectionLog>) {
        let shared = &self.shared;
        *shared.wanted.lock() = log.cloned();
        shared.has_changed.store(true, Relaxed);
        for records in &shared.records {
            match log {
                Some(log) => records.set(log.sample, log.starts, log.ends),
                None => records.set(0, false, false),
            }
        }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            written: self.shared.written.load(Relaxed),
            overrun: self
                .shared
                .records
                .iter()
                .map(|records| records.lost())
                .sum(),
            unwritten: self.shared.unwritten.load(Relaxed),
        }
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        self.shared.ends.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has said why, if it panicked.
            let _ = thread.join();
        }
    }
}

/// The thread at work.
struct Work<'a> {
    shared: &'a Shared,
    stats: &'a Stats,
    clock: &'a dyn Fn() -> Time,
    /// When the workers' clock was 0, in milliseconds since 1970.
    origin: i64,
    at: Option<Place>,
    /// When the order to end came. A collector may be slow without end: what is left after [`LAST_WAIT`] is lost.
    ended: Option<Instant>,
}

/// Where the log goes now.
struct Place {
    name: String,
    output: Output,
    encoder: Encoder,
    failing: Option<Failing>,
    is_udp: bool,
}

/// It takes no records, or did not until a moment ago.
struct Failing {
    /// Records lost since it began.
    lost: u64,
    last: Instant,
}

impl<'a> Work<'a> {
    fn new(shared: &'a Shared, stats: &'a Stats, clock: &'a dyn Fn() -> Time) -> Self {
        Work {
            shared,
            stats,
            clock,
            origin: wall() - millis(clock()),
            at: None,
            ended: None,
        }
    }

    fn run(&mut self) {
        let (mut looked, mut refreshed) = (Instant::now(), Instant::now());
        loop {
            // Before the queues are looked at: what comes before the order to end is written.
            let ends = self.shared.ends.load(Relaxed);
            if ends {
                self.ended.get_or_insert_with(Instant::now);
            }
            let changes = self.shared.has_changed.swap(false, Relaxed);
            let written = self.write();
            if changes {
                self.at = self.shared.wanted.lock().as_ref().map(Place::new);
            }
            if written == 0 && !changes {
                if ends {
                    return;
                }
                std::thread::sleep(NAP);
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.keep_time();
                if let Some(at) = &mut self.at {
                    at.output.look();
                    if at.is_udp && refreshed.elapsed() >= REFRESH {
                        refreshed = looked;
                        at.encoder.refresh();
                    }
                }
            }
        }
    }

    /// Follows the wall's clock where that was set.
    fn keep_time(&mut self) {
        let origin = wall() - millis((self.clock)());
        if origin.abs_diff(self.origin) > DRIFT {
            self.origin = origin;
        }
    }

    /// Writes what waits. Returns how many records that was.
    fn write(&mut self) -> usize {
        let (origin, now) = (self.origin, wall());
        // It was turned on a moment ago: the next round knows where to.
        if self.at.is_none() && self.shared.wanted.lock().is_some() {
            return 0;
        }
        let mut taken = 0;
        for records in &self.shared.records {
            for _ in 0..TURN {
                let Some(record) = records.pop() else {
                    break;
                };
                taken += 1;
                match &mut self.at {
                    Some(at) if self.ended.is_none_or(|ended| ended.elapsed() < LAST_WAIT) => {
                        at.add(&record, self.stats, (origin, now), self.shared);
                    }
                    // The log was turned off before it was written, or weir does not wait for it any longer.
                    _ => {
                        self.shared.unwritten.fetch_add(1, Relaxed);
                    }
                }
            }
        }
        if let Some(at) = &mut self.at {
            at.finish(now, self.shared);
        }
        taken
    }
}

impl Place {
    fn new(log: &ConnectionLog) -> Self {
        Place {
            name: log.to.to_string(),
            output: Output::new(&log.to),
            encoder: Encoder::new(log),
            failing: None,
            is_udp: matches!(log.to, LogDestination::Collector(_, Transport::Udp)),
        }
    }

    fn add(&mut self, record: &Record, stats: &Stats, times: (i64, i64), shared: &Shared) {
        let opened = self.open();
        let Place {
            output,
            encoder,
            failing,
            name,
            ..
        } = self;
        if let Err(why) = opened {
            return lost(name, &why, 1, failing, shared);
        }
        encoder.add(record, stats, times, &mut |bytes, records| {
            put(output, bytes, records, name, failing, shared)
        });
    }

    fn open(&mut self) -> io::Result<()> {
        if self.output.open()? {
            self.encoder.begin();
        }
        Ok(())
    }

    fn finish(&mut self, now: i64, shared: &Shared) {
        let Place {
            output,
            encoder,
            failing,
            name,
            ..
        } = self;
        encoder.finish(now, &mut |bytes, records| {
            put(output, bytes, records, name, failing, shared)
        });
    }
}

/// Writes bytes that are so many records. Returns whether it could.
fn put(
    output: &mut Output,
    bytes: &[u8],
    records: u64,
    name: &str,
    failing: &mut Option<Failing>,
    shared: &Shared,
) -> bool {
    match output.write(bytes) {
        Err(why) => {
            lost(name, &why, records, failing, shared);
            false
        }
        Ok(()) => {
            shared.written.fetch_add(records, Relaxed);
            // A collector that is not there refuses every other message.
            if let Some(Failing { lost, .. }) = failing.take_if(|it| it.last.elapsed() >= CALM) {
                tracing::info!(lost, "connection log: {name} takes records again");
            }
            true
        }
    }
}

/// So many records are lost. It is said once, until it works again.
fn lost(name: &str, why: &io::Error, records: u64, failing: &mut Option<Failing>, shared: &Shared) {
    shared.unwritten.fetch_add(records, Relaxed);
    match failing {
        Some(failing) => {
            failing.lost += records;
            failing.last = Instant::now();
        }
        None => {
            let last = Instant::now();
            *failing = Some(Failing {
                lost: records,
                last,
            });
            tracing::warn!(
                "connection log: {name} takes no records, which are lost and counted: {why}"
            );
        }
    }
}

/// Milliseconds since 1970.
fn wall() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

fn millis(time: Time) -> i64 {
    (time.nanos() / 1_000_000) as i64
}

//! The daemon's log: events of `tracing`, as lines on stderr.
//!
//! Logging never ends, blocks or delays anything. A line goes into a bounded queue ([`queue`]), which a thread of its own
//! writes out; what does not fit, or cannot be written (a full disk, a full pipe), is counted and told in
//! one line when lines can be written again. What strangers send writes no unbounded log: each place in the code has so
//! many lines a second ([`limit`]), and what names a subject one for each ([`Reports`]). A panic is one line, and a count ([`panics()`]).
//! The last events are kept as they are, too ([`events()`]).

mod limit;
#[cfg(test)]
mod page_tests;
mod panics;
mod queue;
mod reports;
mod ring;
#[cfg(test)]
pub mod testing;

pub use panics::{abort_on_panic, panics};
pub use reports::{Due, Reports, Said};
pub use ring::{Events, Record, events, kinds};

use crate::harden::{self, Role};
use crate::units::Time;
use limit::{Limit, Limited};
use queue::Queue;
use rustix::event::{PollFd, PollFlags, poll};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// How long the process waits at its end for lines to be written.
const LAST_WAIT: Duration = Duration::from_millis(250);

static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// The CPU to which the log's thread is to move, and one more than that; 0: none.
static CPU: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Where the events of the log's own thread go: it cannot wait for itself.
    static OWN: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// The log at work. Dropped, it gives the last lines a moment to be written.
#[derive(Debug)]
pub struct Log(());

impl Drop for Log {
    fn drop(&mut self) {
        flush();
    }
}

/// Sends the events of this process to stderr, from now on; `RUST_LOG` says which. Panics are events too.
///
/// # Errors
/// If the log's thread cannot start.
#[allow(clippy::disallowed_methods)] // A copy of the descriptor, to which only the log's thread writes.
pub fn start() -> io::Result<Log> {
    let colour = is_coloured();
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let queue = QUEUE.get_or_init(Arc::default).clone();
    let limit = Arc::new(Limit::default());
    let (lines, kept_back) = (queue.clone(), limit.clone());
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || {
            harden::drop_privileges(Role::Worker);
            lines.write_out(Stderr(stderr), |lost| own_lines(lost, &kept_back));
        })?;
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    let lines = fmt::layer()
        .with_writer(Lines(queue))
        .with_ansi(colour)
        // It would complain on stderr, and panic there.
        .log_internal_errors(false);
    tracing_subscriber::registry()
        .with(filter)
        .with(Limited(limit))
        .with(lines)
        .with(ring::Kept(events()))
        .init();
    panics::install();
    Ok(Log(()))
}

/// Writes text that is no event: a diagnostic of several lines. Without a log it goes nowhere.
pub fn say(text: impl std::fmt::Display) {
    if let Some(queue) = QUEUE.get() {
        queue.push(format!("{text}\n").into_bytes());
    }
}

/// Gives the lines so far a moment to be written.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(LAST_WAIT);
    }
}

/// Lines that were lost: the queue was full, or they could not be written.
pub fn lost_lines() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.lost())
}

/// Keeps the log's thread on this CPU, away from the workers.
pub fn move_to(cpu: usize) {
    CPU.store(cpu + 1, Relaxed);
}

/// The time for [`Reports`] of those who have no clock.
pub fn now() -> Time {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    Time::from_nanos(start.elapsed().as_nanos() as u64)
}

/// Whether stderr is to be coloured: it is a terminal, and `NO_COLOR` is not set.
#[allow(clippy::disallowed_methods)] // Nothing is written.
pub fn is_coloured() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What the log's thread has to say itself, once a second at most.
fn own_lines(lost: u64, limit: &Limit) -> Vec<u8> {
    let cpu = CPU.swap(0, Relaxed);
    if cpu > 0 {
        core_affinity::set_for_current(core_affinity::CoreId { id: cpu - 1 });
    }
    OWN.set(Some(Vec::new()));
    if lost > 0 {
        tracing::warn!(
            lines = lost,
            "log lines were lost: stderr did not take them in time"
        );
    }
    for (place, lines) in limit.take() {
        tracing::warn!(%place, lines, "log lines were left out: too many in a second");
    }
    OWN.take().unwrap_or_default()
}

/// Where tracing writes an event: in one piece.
#[derive(Debug)]
struct Lines(Arc<Queue>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

struct Line<'a>(&'a Queue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let is_own = OWN.with_borrow_mut(|own| match own {
            Some(own) => {
                own.extend_from_slice(line);
                true
            }
            None => false,
        });
        if !is_own {
            self.0.push(line.to_vec());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// stderr, which may be a pipe that others have made non-blocking.
struct Stderr(File);

impl queue::Destination for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn wait(&mut self) {
        // Whatever ends it, the next write tells.
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None);
    }
}

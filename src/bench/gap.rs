//! What the control thread's work does to a worker that polls meanwhile: the longest time between two polls, and how
//! soon a change is visible. Wall time, of two threads: on a machine that others use, the baseline says how much.

use super::Bench;
use crate::conn::{Connection, Key};
use crate::director::Turn;
use crate::exchange::{ConnectionChunk, Mailbox, Order};
use crate::model::Model;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What the control thread sees of the worker.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    /// The generation that the worker reads.
    generation: AtomicU64,
    /// The longest time between two polls so far, in nanoseconds; the control thread sets it back.
    longest: AtomicU64,
    /// There is one CPU. Of two threads that never sleep, each keeps the other waiting for a whole time slice there, so both
    /// give the CPU away whenever they have looked.
    one_cpu: bool,
}

impl Seen {
    fn new() -> Self {
        Seen {
            one_cpu: std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1),
            ..Seen::default()
        }
    }

    /// Between two looks of a thread that waits for the other.
    fn pause(&self) {
        match self.one_cpu {
            true => std::thread::yield_now(),
            false => std::hint::spin_loop(),
        }
    }
}

/// The control thread of a bench whose worker polls on another thread.
pub struct Beside<'a> {
    pub model: &'a mut Model,
    pub mailbox: &'a Mailbox,
    seen: &'a Seen,
}

impl Beside<'_> {
    /// The longest time between two polls, in nanoseconds, while `work` runs.
    pub fn longest_gap(&mut self, work: impl FnOnce(&mut Model, &Mailbox)) -> f64 {
        self.seen.longest.store(0, Relaxed);
        work(self.model, self.mailbox);
        self.wait_until_visible();
        self.seen.longest.load(Relaxed) as f64
    }

    /// Nanoseconds from a change of the model until the worker reads it.
    pub fn visible_after(&mut self, change: impl FnOnce(&mut Model)) -> f64 {
        let start = Instant::now();
        change(self.model);
        self.wait_until_visible();
        start.elapsed().as_nanos() as f64
    }

    fn wait_until_visible(&mut self) {
        let generation = self.model.tables().generation.0;
        while self.seen.generation.load(Relaxed) != generation {
            self.seen.pause();
        }
    }
}

impl Bench {
    /// Runs `control` while the worker polls on a thread of its own.
    pub fn beside<T>(&mut self, control: impl FnOnce(&mut Beside) -> T) -> T {
        let Bench {
            model,
            now,
            reader,
            director,
            mailbox,
            pool,
            ..
        } = self;
        let seen = Seen::new();
        let start = *now;
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let began = Instant::now();
                let mut then = began;
                while !seen.stop.load(Relaxed) {
                    reader.quiescent();
                    let tables = reader.read();
                    let polled = Instant::now();
                    let gap = polled.duration_since(then).as_nanos() as u64;
                    then = polled;
                    if gap > seen.longest.load(Relaxed) {
                        seen.longest.store(gap, Relaxed);
                    }
                    director.poll(Turn::new(
                        tables,
                        start + polled.duration_since(began),
                        pool,
                    ));
                    seen.generation.store(tables.generation.0, Relaxed);
                    if seen.one_cpu {
                        seen.pause();
                    }
                }
                Instant::now().duration_since(began)
            });
            let mut beside = Beside {
                model,
                mailbox,
                seen: &seen,
            };
            let result = control(&mut beside);
            seen.stop.store(true, Relaxed);
            let lasted = worker.join().unwrap_or_default();
            *now = start + lasted;
            result
        })
    }
}

/// Copies a worker's whole connection table, chunk after chunk, as `weir show connections --json` does; returns the
/// length of the JSON.
pub(super) fn list_connections(mailbox: &Mailbox) -> usize {
    let mut length = 0;
    let mut chunk = Box::new(ConnectionChunk::new());
    loop {
        if mailbox.orders.push(Order::CopyConnections(chunk)).is_err() {
            return length;
        }
        chunk = loop {
            match mailbox.answers.pop() {
                Some(answer) => break answer,
                None => std::thread::sleep(Duration::from_micros(5)),
            }
        };
        length += written(&chunk.connections) + written(&chunk.connections6);
        length += written(&chunk.connections_across);
        if chunk.next == ConnectionChunk::END {
            return length;
        }
    }
}

/// The length of the JSON of some connections.
fn written<K: Key>(connections: &[Connection<K>]) -> usize {
    let row = |connection: &Connection<K>| {
        let (address, port) = connection.client();
        let row = (address.into(), port, connection.state.name());
        serde_json::to_string::<(IpAddr, u16, &str)>(&row).map_or(0, |row| row.len())
    };
    connections.iter().map(row).sum()
}

/// The middle one.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

//! The thread of the health checks, and the control thread's end of it.

use super::{Tools, check};
use crate::config::{HealthTemplates, ServiceConfig};
use crate::harden::{self, Role};
use crate::health::{Change, Counts, Engine, Finding, Outcome, Row, Run, Start, Target};
use crate::service::ServiceKey;
use crate::units::Time;
use crate::via::Ways;
use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

/// The most checks that run at once, and how many descriptors are left to others.
const MOST: u64 = 16_384;
const OTHERS: u64 = 512;

/// How many checks may run at once: each takes a descriptor.
fn most() -> u64 {
    let files = getrlimit(Resource::Nofile).current;
    let left = files.unwrap_or(u64::MAX).saturating_sub(OTHERS);
    left.clamp(64, MOST)
}

enum Order {
    Configure(Vec<Arc<ServiceConfig>>, Arc<HealthTemplates>),
    Put(Arc<ServiceConfig>),
    Remove(ServiceKey),
    List {
        only: Option<ServiceKey>,
        after: Option<Target>,
        most: usize,
        rows: oneshot::Sender<Vec<Row>>,
    },
}

/// The checks at work; dropped, they end.
pub struct Checks {
    orders: Option<mpsc::UnboundedSender<Order>>,
    changes: Receiver<Change>,
    counts: Arc<Mutex<Counts>>,
    has_ended: bool,
    thread: Option<JoinHandle<()>>,
}

/// Lists checks.
#[derive(Clone)]
pub struct Lister(mpsc::UnboundedSender<Order>);

impl Checks {
    /// Starts the thread, whose checks go by `ways`, and which gives up its privileges. It checks nothing yet.
    ///
    /// # Errors
    ///
    /// If it cannot start.
    pub fn start(ways: Arc<Ways>) -> io::Result<Checks> {
        let (orders, ordered) = mpsc::unbounded_channel();
        let (sender, changes) = channel();
        let counts = Arc::default();
        let shown = Arc::clone(&counts);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("health".to_owned());
        let thread = thread.spawn(move || {
            let seed = RandomState::new().hash_one(0);
            let entered = runtime.enter();
            // Its sockets are opened with the privileges that are given up then.
            let tools = Tools::new(seed, ways);
            drop(entered);
            harden::drop_privileges(Role::Health);
            runtime.block_on(run(ordered, sender, &shown, &tools, seed));
            drop(tools);
            runtime.shutdown_background();
        })?;
        Ok(Checks {
            orders: Some(orders),
            changes,
            counts,
            has_ended: false,
            thread: Some(thread),
        })
    }

    /// Checks the real servers of these services, and no others.
    pub fn configure(&self, services: Vec<Arc<ServiceConfig>>, templates: Arc<HealthTemplates>) {
        self.order(Order::Configure(services, templates));
    }

    /// Takes a service in place of its version before.
    pub fn put(&self, service: Arc<ServiceConfig>) {
        self.order(Order::Put(service));
    }

    pub fn remove(&self, service: ServiceKey) {
        self.order(Order::Remove(service));
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // Where they have ended, `next_change` finds that out.
            let _ = orders.send(order);
        }
    }

    /// What has changed and was not asked for yet.
    pub fn next_change(&mut self) -> Option<Change> {
        match self.changes.try_recv() {
            Ok(change) => Some(change),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.has_ended = true;
                None
            }
        }
    }

    /// Whether nothing is checked any more: a panic has ended the thread.
    pub fn have_ended(&self) -> bool {
        self.has_ended
    }

    pub fn counts(&self) -> Counts {
        *self.counts.lock()
    }

    pub fn lister(&self) -> Option<Lister> {
        self.orders.clone().map(Lister)
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // It has said why, if it panicked.
            let _ = thread.join();
        }
    }
}

impl Lister {
    /// At most `most` rows behind `after`; none if the checks have ended.
    pub async fn rows(
        &self,
        only: Option<ServiceKey>,
        after: Option<Target>,
        most: usize,
    ) -> Option<Vec<Row>> {
        let (rows, listed) = oneshot::channel();
        let order = Order::List {
            only,
            after,
            most,
            rows,
        };
        self.0.send(order).ok()?;
        listed.await.ok()
    }
}

/// Until the last order has come, or `changes` are no longer wanted.
async fn run(
    mut orders: mpsc::UnboundedReceiver<Order>,
    changes: Sender<Change>,
    counts: &Mutex<Counts>,
    tools: &Tools,
    seed: u64,
) {
    let begun = Instant::now();
    let now = || Time::from_nanos(begun.elapsed().as_nanos() as u64);
    let mut engine = Engine::new(most(), seed);
    let mut templates = Arc::default();
    let mut running = FuturesUnordered::new();
    let mut troubles = Troubles::default();
    loop {
        while let Some(start) = engine.start(now()) {
            running.push(one(start, tools));
        }
        *counts.lock() = engine.counts();
        for change in engine.take_changes() {
            if changes.send(change).is_err() {
                return;
            }
        }
        let due = engine.next_due();
        let wait = due.map_or(Duration::from_secs(1), |due| due.since(now()));
        tokio::select! {
            Some((run, outcome)) = running.next() => {
                troubles.note(&outcome, now());
                engine.finish(run, outcome, now());
            }
            order = orders.recv() => match order {
                None => return,
                Some(Order::Configure(services, new)) => {
                    tools.forget();
                    templates = new;
                    engine.configure(&services, &templates, now());
                }
                Some(Order::Put(service)) => engine.put(&service, &templates, now()),
                Some(Order::Remove(key)) => engine.remove(&key),
                Some(Order::List { only, after, most, rows }) => {
                    // The reader may have gone.
                    let _ = rows.send(engine.rows(only.as_ref(), after, most, now()));
                }
            },
            () = sleep(wait) => {}
        }
    }
}

async fn one(start: Start, tools: &Tools) -> (Run, Outcome) {
    let outcome = check(&start, tools).await;
    (start.run, outcome)
}

/// Checks that could not be made, for the log: each reason at once, and then once a minute while it lasts.
#[derive(Default)]
struct Troubles(HashMap<String, Trouble>);

struct Trouble {
    said: Time,
    /// Checks since then.
    checks: u64,
}

impl Troubles {
    /// Reasons that are told apart.
    const MOST: usize = 16;
    const PAUSE: Duration = Duration::from_secs(60);

    fn note(&mut self, outcome: &Outcome, now: Time) {
        if outcome.finding != Finding::Nothing {
            return;
        }
        let words = &outcome.words;
        if let Some(known) = self.0.get_mut(words) {
            known.checks += 1;
            if now.since(known.said) >= Self::PAUSE {
                say(words, known.checks);
                *known = Trouble::new(now);
            }
            return;
        }
        if self.0.len() == Self::MOST {
            self.0
                .retain(|_, known| now.since(known.said) < Self::PAUSE);
        }
        if self.0.len() < Self::MOST {
            say(words, 1);
            self.0.insert(words.clone(), Trouble::new(now));
        }
    }
}

impl Trouble {
    fn new(said: Time) -> Self {
        Trouble { said, checks: 0 }
    }
}

fn say(why: &str, checks: u64) {
    tracing::warn!(
        why,
        checks,
        "health checks cannot be made: states stay as they are"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::logged;

    #[test]
    fn what_cannot_be_made_is_said_at_once_and_then_once_a_minute() {
        let lines = logged(|| {
            let mut troubles = Troubles::default();
            for second in 0..150 {
                let now = Time::from_nanos(second * 1_000_000_000);
                for reason in 0..20 {
                    // The first four, and then ever others.
                    let reason = if reason < 4 { reason } else { reason + second };
                    let outcome = Outcome {
                        finding: Finding::Nothing,
                        words: format!("reason {reason}"),
                        took: Duration::ZERO,
                    };
                    troubles.note(&outcome, now);
                }
            }
        });
        let of = |reason: &str| lines.iter().filter(|line| line.contains(reason)).count();
        assert_eq!(of("\"reason 1\""), 3, "{lines:#?}");
        assert!(lines.len() <= 16 * 3, "{}", lines.len());
    }
}

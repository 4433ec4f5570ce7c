//! Jobs of the control thread, and what a panic in one of them ends: that job, and nothing else.
//!
//! Workers read published tables, which never change: they forward whatever becomes of the control thread. A job that
//! only reads leaves the control as it was. A turn or a change may leave it half-changed: then weir says so, and makes no
//! more changes until it is restarted, so that no real server's id or neighbour's slot is given away by mistake.

use super::{Control, Turn};
use crate::log;
use crate::units::Time;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};

tokio::task_local! {
    /// Who has asked for the changes of a task, for what the log says of them.
    pub(crate) static ASKED_BY: Arc<str>;
}

/// Something that the control thread does between two turns.
pub type Job = Box<dyn FnOnce(&mut Control) + Send>;

/// Where to hand jobs in.
#[derive(Clone, Debug)]
pub struct Handle {
    jobs: mpsc::Sender<Job>,
    changes: Arc<Mutex<()>>,
}

/// The right to change what is configured, from when the change is read until it is applied. One at a time, in the order in
/// which they were asked for: what was read earlier is never applied later.
#[derive(Debug)]
pub struct Changing {
    handle: Handle,
    _only: OwnedMutexGuard<()>,
}

/// Why a job was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    #[error("weir is stopping")]
    Stopping,
    #[error("the list was read too slowly")]
    TooSlow,
    #[error("weir panicked over this request: its log says where; please report it")]
    Panicked,
    #[error(
        "nothing has changed: weir panicked while it changed something, and changes nothing more until it is restarted"
    )]
    Degraded,
}

impl Handle {
    pub fn new() -> (Handle, mpsc::Receiver<Job>) {
        let (sender, receiver) = mpsc::channel(64);
        let changes = Arc::default();
        let jobs = sender;
        (Handle { jobs, changes }, receiver)
    }

    /// Waits until no other change is being made. Comes before anything is read that the change depends on.
    pub async fn changing(&self) -> Changing {
        Changing {
            handle: self.clone(),
            _only: self.changes.clone().lock_owned().await,
        }
    }

    /// What `question` finds out.
    pub async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&Control) -> R + Send + 'static,
    ) -> Result<R, NoAnswer> {
        self.hand_in(move |control| {
            catch_unwind(AssertUnwindSafe(|| question(control))).map_err(|_| NoAnswer::Panicked)
        })
        .await
    }

    /// Has the workers do something.
    pub async fn order<R: Send + 'static>(
        &self,
        order: impl FnOnce(&mut Control) -> R + Send + 'static,
    ) -> Result<R, NoAnswer> {
        self.hand_in(move |control| control.guarded(order)).await
    }

    async fn hand_in<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Control) -> Result<R, NoAnswer> + Send + 'static,
    ) -> Result<R, NoAnswer> {
        let (sender, receiver) = oneshot::channel();
        let job = Box::new(move |control: &mut Control| {
            // The client may have hung up.
            let _ = sender.send(work(control));
        });
        self.jobs.send(job).await.map_err(|_| NoAnswer::Stopping)?;
        receiver.await.map_err(|_| NoAnswer::Stopping)?
    }
}

impl Changing {
    /// Changes what is configured, unless a panic has left the control half-changed.
    pub async fn change<R: Send + 'static>(
        self,
        change: impl FnOnce(&mut Control) -> R + Send + 'static,
    ) -> Result<R, NoAnswer> {
        let by = ASKED_BY.try_with(Clone::clone).ok();
        self.handle
            .hand_in(move |control| {
                if control.panics.is_degraded {
                    return Err(NoAnswer::Degraded);
                }
                control.edits.asked_by(by);
                let done = control.guarded(change);
                control.edits.asked_by(None);
                done
            })
            .await
    }
}

/// A control thread that has completed no turn for so long hangs, as a worker does.
const STUCK: Duration = Duration::from_secs(3);

/// What panics have left behind.
pub(super) struct Panics {
    /// A turn or a change panicked: the control may be half-changed.
    is_degraded: bool,
    /// When a turn was last completed.
    turned: Time,
}

impl Panics {
    pub(super) fn new(now: Time) -> Self {
        Panics {
            is_degraded: false,
            turned: now,
        }
    }

    /// Why the control thread is not to be relied on, if it is not.
    pub(super) fn illness(&self) -> Option<String> {
        self.is_degraded.then(|| {
            let panics = log::panics();
            format!(
                "the control thread panicked ({panics} panics, see the log): forwarding goes on, changes are refused until weir is restarted"
            )
        })
    }

    pub(super) fn stuck(&self, now: Time) -> Option<String> {
        let since = now.since(self.turned);
        (self.is_degraded && since >= STUCK)
            .then(|| "the control thread panics in every turn".to_owned())
    }
}

impl Control {
    /// One turn.
    pub fn turn(&mut self) -> Turn {
        let Ok(turn) = self.guarded(Control::take_turn) else {
            return Turn::Failed;
        };
        self.panics.turned = self.now();
        turn
    }

    fn guarded<R>(&mut self, work: impl FnOnce(&mut Control) -> R) -> Result<R, NoAnswer> {
        let done = catch_unwind(AssertUnwindSafe(|| work(&mut *self)));
        done.map_err(|_| {
            self.panics.is_degraded = true;
            NoAnswer::Panicked
        })
    }
}

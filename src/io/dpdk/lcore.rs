//! Running a worker on its lcore.

use super::eal::{Eal, lcore_of};
use super::{Error, error};
use crate::log;
use crate::units::WorkerId;
use std::marker::PhantomData;
use std::os::raw::{c_int, c_void};
use std::sync::mpsc::{Receiver, sync_channel};

type Job = Box<dyn FnOnce() + Send>;

/// A worker that runs on its lcore, and the value that it will end with. Dropped, it lets the worker run on.
#[derive(Debug)]
pub struct Lcore<T> {
    worker: WorkerId,
    result: Receiver<T>,
    /// As with [`Eal`]: lcores are the control thread's to wait for.
    not_send: PhantomData<*const ()>,
}

impl Eal {
    /// Runs `work` on the lcore of `worker`. A panic there ends the process: a director without one of its
    /// workers would drop that worker's connections silently.
    pub fn launch<T: Send + 'static>(
        &self,
        worker: WorkerId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Lcore<T>, Error> {
        if worker.index() >= self.workers() {
            return Err(Error::Lcore {
                worker: worker.0,
                why: "the EAL has no such lcore".to_owned(),
            });
        }
        let (sender, result) = sync_channel(1);
        let job: Job = Box::new(move || {
            // Fails where the handle was dropped: then the result is not wanted.
            let _ = sender.send(work());
        });
        let job = Box::into_raw(Box::new(job));
        // SAFETY: `run` gets the pointer that it expects, exactly once; this is the main lcore's thread, since
        // an Eal never leaves it.
        let code =
            unsafe { dpdk_sys::rte_eal_remote_launch(Some(run), job.cast(), lcore_of(worker)) };
        if code != 0 {
            // SAFETY: the launch failed, so no lcore took the job over.
            drop(unsafe { Box::from_raw(job) });
            return Err(Error::Lcore {
                worker: worker.0,
                why: error::reason(code),
            });
        }
        Ok(Lcore {
            worker,
            result,
            not_send: PhantomData,
        })
    }
}

impl<T> Lcore<T> {
    /// Waits until the worker has ended.
    pub fn join(self) -> T {
        // SAFETY: any lcore may be waited for by the main lcore's thread; a handle never leaves it.
        unsafe { dpdk_sys::rte_eal_wait_lcore(lcore_of(self.worker)) };
        self.result
            .recv()
            .expect("a worker sends its result before it ends")
    }
}

/// A panic aborts the process: at once where the log says it, else since none can leave an `extern "C"` function.
unsafe extern "C" fn run(job: *mut c_void) -> c_int {
    // SAFETY: the pointer that `launch` made of a boxed Job, given to this one call.
    let job = unsafe { Box::from_raw(job.cast::<Job>()) };
    log::abort_on_panic();
    job();
    0
}

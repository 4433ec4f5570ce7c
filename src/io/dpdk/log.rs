//! DPDK's log as tracing events of the target `dpdk`, so that it neither writes on stdout (as it likes to) nor
//! speaks unasked. Its "info" is our "debug": `RUST_LOG=dpdk=debug` shows it.

use crate::log::{self, Reports};
use parking_lot::Mutex;
use std::os::raw::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tracing::Level;

/// How many complaints an error message repeats: the first ones, which are nearest to the cause.
const KEPT: usize = 3;

/// How many different complaints are told apart at a time.
const COMPLAINTS: usize = 64;

static REPORTS: Mutex<Option<Reports<(c_int, String), ()>>> = Mutex::new(None);

static RECENT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// While devices start, complaints wait: one that is fatal is a part of weir's own error, and one line is enough.
static STARTING: AtomicBool = AtomicBool::new(true);

/// What drivers complain of although nothing is amiss: weir runs without secondary processes, and needs no
/// flow rules on a TAP; a device need not have interrupts; hugepages of one size are enough, and `eal.rs` has counted them.
const HARMLESS: [&str; 11] = [
    "Error enabling MSI-X interrupts",
    "Error creating '/var/run/dpdk'",
    "No DPDK runtime directory created",
    "kB hugepages reported on node",
    "Failed to send start req to secondary",
    "Failed to send stop req to secondary",
    "Specified qdisc kind is unknown",
    "Could not add multiq qdisc",
    "failed to create multiq qdisc",
    "Disabling rte flow support",
    "Rx Intr handle unset",
];

/// What says no more than that something failed, after a line that said what.
const EMPTY_WORDS: [&str; 4] = [
    "cannot be used",
    "Bus (pci) probe failed",
    "Failed to attach device on primary process",
    "Driver cannot attach the device",
];

/// Sends DPDK's log to tracing, from now on.
pub(super) fn redirect() {
    // SAFETY: `write` has the type that fopencookie asks for and ignores its cookie. A null stream (no memory)
    // means DPDK's default, stderr before the start of the EAL.
    unsafe { dpdk_sys::rte_openlog_stream(dpdk_sys::weir_log_stream(Some(write))) };
}

/// The EAL's `--log-level` that lets through what tracing wants to see.
pub(super) fn level() -> &'static str {
    if tracing::enabled!(target: "dpdk", Level::TRACE) {
        "debug"
    } else if tracing::enabled!(target: "dpdk", Level::DEBUG) {
        "info"
    } else {
        "warning"
    }
}

/// The complaints since the last call, oldest first.
pub(super) fn take_recent() -> String {
    std::mem::take(&mut *RECENT.lock()).join("; ")
}

/// Every device has started: what was complained of was not fatal, and complaints are told as they come from now on.
pub fn started() {
    STARTING.store(false, Relaxed);
    for line in std::mem::take(&mut *RECENT.lock()) {
        tracing::warn!(target: "dpdk", "{line}");
    }
}

unsafe extern "C" fn write(_cookie: *mut c_void, text: *const c_char, length: usize) -> isize {
    // SAFETY: stdio passes `length` readable bytes.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) };
    // SAFETY: reads a thread-local; the stream is flushed by the thread, and within the call, that logs.
    let level = unsafe { dpdk_sys::rte_log_cur_msg_loglevel() };
    for line in String::from_utf8_lossy(bytes)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        record(level, line);
    }
    length as isize
}

fn record(level: c_int, line: &str) {
    const ERROR: c_int = dpdk_sys::RTE_LOG_ERR as c_int;
    const WARNING: c_int = dpdk_sys::RTE_LOG_WARNING as c_int;
    const INFO: c_int = dpdk_sys::RTE_LOG_INFO as c_int;

    if level > INFO {
        return tracing::trace!(target: "dpdk", "{line}");
    }
    let is_any_of = |list: &[&str]| list.iter().any(|words| line.contains(words));
    if level > WARNING || is_any_of(&HARMLESS) || is_any_of(&EMPTY_WORDS) {
        return tracing::debug!(target: "dpdk", "{line}");
    }
    if STARTING.load(Relaxed) {
        let mut recent = RECENT.lock();
        if recent.len() < KEPT && !recent.iter().any(|known| known == line) {
            recent.push(line.to_owned());
        }
        return tracing::debug!(target: "dpdk", "{line}");
    }
    // A driver may complain of every packet.
    let mut said = REPORTS.lock();
    let (now, reports) = (
        log::now(),
        said.get_or_insert_with(|| Reports::new(COMPLAINTS)),
    );
    let mut due = reports.tick(now);
    let at_once = reports.note((level, line.to_owned()), (), now);
    due.subjects
        .extend(at_once.map(|said| ((level, line.to_owned()), said)));
    drop(said);
    for ((level, line), said) in due.subjects {
        match (level > ERROR, said.count) {
            (true, 1) => tracing::warn!(target: "dpdk", "{line}"),
            (true, times) => tracing::warn!(target: "dpdk", times, "{line}"),
            (false, 1) => tracing::error!(target: "dpdk", "{line}"),
            (false, times) => tracing::error!(target: "dpdk", times, "{line}"),
        }
    }
    if due.others > 0 {
        tracing::warn!(target: "dpdk", complaints = due.others, "still more complaints of DPDK's");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    struct Count(std::sync::Arc<AtomicUsize>);

    impl<S: tracing::Subscriber> Layer<S> for Count {
        fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_driver_that_complains_of_every_packet_is_a_line_a_second() {
        let lines = std::sync::Arc::<AtomicUsize>::default();
        let log = tracing_subscriber::registry().with(Count(lines.clone()));
        // Until then they wait.
        started();
        let began = std::time::Instant::now();
        tracing::subscriber::with_default(log, || {
            for _ in 0..24_000 {
                record(dpdk_sys::RTE_LOG_ERR as c_int, "TAP: cannot send");
            }
        });
        let most = began.elapsed().as_secs() as usize + 1;
        assert!((1..=most).contains(&lines.load(Relaxed)));
    }
}

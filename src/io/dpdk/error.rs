//! What can go wrong before the first packet, said for the person who has to mend it.

use std::ffi::CStr;

/// Why the EAL, a pool, a port or a lcore did not start. Each message names what failed and the remedy;
/// those that end in DPDK's own words carry what its log said last.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the EAL starts once in a process, and it already has")]
    EalStartedTwice,
    #[error("dpdk.{key}: there is no CPU {cpu} that this process may use; it may use {usable}")]
    NoSuchCpu {
        key: &'static str,
        cpu: usize,
        usable: String,
    },
    #[error("dpdk.workers: {workers} workers; at least one and at most {most} can run")]
    WorkerCount { workers: usize, most: usize },
    #[error(
        "dpdk.hugepages = \"require\": {needed_mb} MB of free hugepages are needed and {free_mb} MB are there; \
         reserve them (sysctl vm.nr_hugepages={pages} for pages of 2 MB), or use \"auto\""
    )]
    TooFewHugepages {
        needed_mb: usize,
        free_mb: usize,
        pages: usize,
    },
    #[error(
        "a device is bound to uio, and reaches memory by physical addresses, which only hugepages keep: {needed_mb} MB of \
         them are needed and {free_mb} MB are free; reserve them (sysctl vm.nr_hugepages={pages} for pages of 2 MB), or \
         bind it to vfio-pci where there is an IOMMU"
    )]
    PhysicalHugepages {
        needed_mb: usize,
        free_mb: usize,
        pages: usize,
    },
    #[error(
        "dpdk.hugepages = \"never\", but a device is bound to uio, and reaches memory by physical addresses, which only \
         hugepages keep: use \"auto\", or bind it to vfio-pci where there is an IOMMU"
    )]
    NeedsHugepages,
    #[error("WEIR_DRIVERS = {folder}: no such folder; the bundle's command `weir` sets it")]
    NoDrivers { folder: String },
    #[error(
        "the drivers in {folder} are not loaded, as {writable} is writable by every user, who could put others there: unpack \
         the bundle elsewhere (/opt), or `chmod o-w {writable}`"
    )]
    InsecureDrivers { folder: String, writable: String },
    #[error("an argument for DPDK contains a zero byte: {text:?}")]
    ZeroByte { text: String },
    #[error("the EAL did not start: {why}")]
    Eal { why: String },
    #[error(
        "no mempool of {mbufs} mbufs on NUMA node {socket}: {why}; give it more memory (hugepages), or less to do (queues, connections)"
    )]
    Pool {
        mbufs: usize,
        socket: i32,
        why: String,
    },
    #[error("port {port:?}: the device {device:?} does not start: {why}")]
    Device {
        port: String,
        device: String,
        why: String,
    },
    #[error("port {port:?}: the device {device:?} already belongs to another port")]
    DeviceTaken { port: String, device: String },
    #[error("port {port:?}: {step} failed on its device ({driver}): {why}")]
    Step {
        port: String,
        driver: String,
        step: &'static str,
        why: String,
    },
    #[error("port {port:?}: mtu = {mtu}, but its device ({driver}) takes {min} to {max}")]
    Mtu {
        port: String,
        driver: String,
        mtu: u16,
        min: u16,
        max: u16,
    },
    #[error(
        "port {port:?}: mtu = {mtu}, but an mbuf of its pool holds frames of {room} bytes only"
    )]
    SmallMbufs { port: String, mtu: u16, room: usize },
    #[error(
        "port {port:?}: queues = {queues}, but its device ({driver}) has {most} receive queues at most"
    )]
    TooFewRxQueues {
        port: String,
        driver: String,
        queues: u16,
        most: u16,
    },
    #[error(
        "port {port:?}: every worker needs a transmit queue of its own, and its device ({driver}) has {most} for \
         {workers} workers; list at most {most} in [dpdk] workers, or leave the key out"
    )]
    TooFewTxQueues {
        port: String,
        driver: String,
        workers: u16,
        most: u16,
    },
    #[error(
        "port {port:?}: its device ({driver}) wants as many receive as transmit queues, and each of the {workers} \
         workers needs a transmit queue; use queues = \"auto\" or at least {workers}"
    )]
    UnequalQueues {
        port: String,
        driver: String,
        workers: u16,
    },
    #[error(
        "port {port:?}: queues = {queues}, but its device ({driver}) takes 1, 2, 4 or 8 of them only"
    )]
    NoPowerOfTwo {
        port: String,
        driver: String,
        queues: u16,
    },
    #[error("worker {worker} did not start on its lcore: {why}")]
    Lcore { worker: u8, why: String },
}

impl Error {
    /// The port that it is about, if it is about one.
    pub fn port(&self) -> Option<&str> {
        match self {
            Error::Device { port, .. }
            | Error::DeviceTaken { port, .. }
            | Error::Step { port, .. }
            | Error::Mtu { port, .. }
            | Error::SmallMbufs { port, .. }
            | Error::TooFewRxQueues { port, .. }
            | Error::TooFewTxQueues { port, .. }
            | Error::UnequalQueues { port, .. }
            | Error::NoPowerOfTwo { port, .. } => Some(port),
            _ => None,
        }
    }
}

/// The last lines of DPDK's log, which know better, and what it says of an error number of either sign.
pub(super) fn reason(code: i32) -> String {
    // SAFETY: rte_strerror returns a C string, static or in this thread's buffer, for every number.
    let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(code.abs())) }
        .to_string_lossy()
        .into_owned();
    let log = super::log::take_recent();
    if log.is_empty() {
        text
    } else {
        format!("{log} ({text})")
    }
}

/// As [`reason`], for functions that leave their error in `rte_errno`.
pub(super) fn last_reason() -> String {
    // SAFETY: reads a thread-local.
    reason(unsafe { dpdk_sys::weir_errno() })
}

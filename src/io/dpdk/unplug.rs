//! Devices that are unplugged while they are ports.
//!
//! `vfio-pci` asks for a device to be given back, and the kernel waits for that. Under uio the device simply goes: what its
//! driver reads and writes then is memory that the EAL puts in its place. Either way the EAL reports it by the device's name.

use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::raw::{c_char, c_void};

static UNPLUGGED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Takes notice from now on. Without it a device that goes is noticed by its absence.
pub(super) fn watch() {
    // SAFETY: a null name means every device; `note` has the type that is asked for and ignores its argument.
    let codes = unsafe {
        [
            dpdk_sys::rte_dev_event_callback_register(
                std::ptr::null(),
                Some(note),
                std::ptr::null_mut(),
            ),
            dpdk_sys::rte_dev_hotplug_handle_enable(),
            dpdk_sys::rte_dev_event_monitor_start(),
        ]
    };
    if codes.iter().any(|code| *code != 0) {
        tracing::debug!(?codes, "DPDK's device events are not available");
    }
}

/// Whether the device of this name was unplugged.
pub(super) fn is_unplugged(name: &str) -> bool {
    UNPLUGGED.lock().contains(name)
}

unsafe extern "C" fn note(
    name: *const c_char,
    event: dpdk_sys::rte_dev_event_type,
    _argument: *mut c_void,
) {
    if name.is_null() {
        return;
    }
    // SAFETY: a C string of the EAL, which lives for this call.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    match event {
        dpdk_sys::RTE_DEV_EVENT_REMOVE => UNPLUGGED.lock().insert(name.into_owned()),
        dpdk_sys::RTE_DEV_EVENT_ADD => UNPLUGGED.lock().remove(&*name),
        _ => false,
    };
}

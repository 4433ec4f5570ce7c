//! Receive interrupts: what wakes an idle worker when a packet comes, where the device has them.
//!
//! A worker looks at its queues after every wait, and no wait is long: an interrupt that gets lost costs no more than
//! the rest of one.

use super::RxQueue;
use super::device::Ethdev;
use rustix::event::{Timespec, epoll};
use rustix::fd::{BorrowedFd, OwnedFd};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

/// The interrupts of a worker's receive queues.
#[derive(Debug)]
pub struct Interrupts {
    epoll: OwnedFd,
    /// The device and DPDK's number of the queue.
    queues: Vec<(Arc<Ethdev>, u16)>,
}

impl Interrupts {
    /// Those of these queues; none unless each of them has one.
    pub fn of<'a>(queues: impl Iterator<Item = &'a RxQueue>) -> Option<Interrupts> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).ok()?;
        let queues: Option<Vec<_>> = queues.map(RxQueue::interrupt).collect();
        let queues = queues?;
        for (n, (device, queue)) in queues.iter().enumerate() {
            // SAFETY: takes any numbers.
            let fd = unsafe { dpdk_sys::rte_eth_dev_rx_intr_ctl_q_get_fd(device.id(), *queue) };
            if fd < 0 {
                return None;
            }
            // SAFETY: the device's own, which the queue keeps open; the epoll forgets it when it is closed.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            // By edges: the counters of those that are eventfds are not read, and a packet that comes between the last
            // look at the queue and the wait ends the wait at once.
            let events = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&epoll, fd, epoll::EventData::new_u64(n as u64), events).ok()?;
        }
        (!queues.is_empty()).then_some(Interrupts { epoll, queues })
    }

    /// Waits for a packet, at most so long.
    pub fn wait(&self, at_most: Duration) {
        for (device, queue) in self.live() {
            // SAFETY: takes any numbers. A driver without that switch (a TAP) has nothing to switch on.
            unsafe { dpdk_sys::rte_eth_dev_rx_intr_enable(device, queue) };
        }
        let timeout = Timespec::try_from(at_most).expect("less than a second");
        let mut events = [MaybeUninit::uninit(); 8];
        // Nothing to be done about an error, or a signal: the queues are looked at now or a moment later.
        let _ = epoll::wait(&self.epoll, &mut events, Some(&timeout));
        for (device, queue) in self.live() {
            // SAFETY: as above.
            unsafe { dpdk_sys::rte_eth_dev_rx_intr_disable(device, queue) };
        }
    }

    /// DPDK's numbers of the devices, and of their queues, that are still ports.
    fn live(&self) -> impl Iterator<Item = (u16, u16)> {
        let live = self
            .queues
            .iter()
            .filter(|(device, _)| !device.is_retired());
        live.map(|(device, queue)| (device.id(), *queue))
    }
}

//! Receive and transmit queues. Each is used by one thread at a time, as `&mut` sees to.

use super::device::Ethdev;
use super::{Mbuf, TxBuffer};
use crate::packet::{BURST, Burst};
use crate::units::{DeviceId, PortId};
use arrayvec::ArrayVec;
use std::sync::Arc;

/// A receive queue of a started device.
#[derive(Debug)]
pub struct RxQueue {
    id: DeviceId,
    port: PortId,
    device_id: u16,
    queue: u16,
    has_interrupts: bool,
    /// The most packets taken at once.
    most: u16,
    /// Keeps the device open.
    device: Arc<Ethdev>,
}

/// A transmit queue of a started device.
#[derive(Debug)]
pub struct TxQueue {
    device_id: u16,
    queue: u16,
    device: Arc<Ethdev>,
}

impl RxQueue {
    pub(super) fn new(
        (id, port): (DeviceId, PortId),
        queue: u16,
        device: &Arc<Ethdev>,
        has_interrupts: bool,
    ) -> RxQueue {
        RxQueue {
            id,
            port,
            device_id: device.id(),
            queue,
            has_interrupts,
            most: BURST as u16,
            device: Arc::clone(device),
        }
    }

    pub fn device(&self) -> DeviceId {
        self.id
    }

    /// The port that its packets are marked with: that of untagged frames, or the device's first.
    pub fn port(&self) -> PortId {
        self.port
    }

    /// The device and DPDK's number of the queue; none where packets do not interrupt.
    pub(super) fn interrupt(&self) -> Option<(Arc<Ethdev>, u16)> {
        self.has_interrupts
            .then(|| (Arc::clone(&self.device), self.queue))
    }

    /// Takes at most this many packets at once from now on.
    pub fn set_most(&mut self, packets: u16) {
        self.most = packets;
    }

    /// Appends what has arrived to `burst`, as far as there is room and the queue's limit goes; returns how many.
    #[inline]
    pub fn burst(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        if self.device.is_retired() {
            return 0;
        }
        let held = burst.len();
        let room = ((burst.capacity() - held) as u16).min(self.most);
        // SAFETY: the device is started, the queue one that was set up, and only this thread uses it (`&mut`).
        // DPDK writes at most `room` pointers behind the `held` ones; an Mbuf is such a pointer, and the first
        // `received` are live mbufs that are ours now.
        let received = unsafe {
            let end = burst.as_mut_ptr().add(held).cast();
            let received = dpdk_sys::rte_eth_rx_burst(self.device_id, self.queue, end, room);
            burst.set_len(held + usize::from(received));
            usize::from(received)
        };
        // A driver writes DPDK's number of the device, if any.
        for mbuf in &mut burst[held..] {
            mbuf.set_port(self.port);
        }
        received
    }
}

impl TxQueue {
    pub(super) fn new(queue: u16, device: &Arc<Ethdev>) -> TxQueue {
        TxQueue {
            device_id: device.id(),
            queue,
            device: Arc::clone(device),
        }
    }

    /// Sends frames from the front; returns how many the device took. The others stay.
    #[inline]
    pub fn burst(&mut self, frames: &mut ArrayVec<Mbuf, { TxBuffer::CAPACITY }>) -> usize {
        if self.device.is_retired() {
            return 0;
        }
        let mut taken = 0;
        // Some drivers take a limited number at a time: the device is full when it takes none.
        while taken < frames.len() {
            let rest = &mut frames[taken..];
            // SAFETY: the device is started, the queue one that was set up, and only this thread uses it (`&mut`).
            // `rest` is an array of pointers to live mbufs; those that the device takes are forgotten below.
            let now = unsafe {
                dpdk_sys::rte_eth_tx_burst(
                    self.device_id,
                    self.queue,
                    rest.as_mut_ptr().cast(),
                    rest.len() as u16,
                )
            };
            if now == 0 {
                break;
            }
            taken += usize::from(now);
        }
        forget_front(frames, taken);
        taken
    }
}

/// Removes the first `count` frames without freeing them: the device has them.
fn forget_front<const N: usize>(frames: &mut ArrayVec<Mbuf, N>, count: usize) {
    let rest = frames.len() - count;
    // SAFETY: `count` is at most the length, so the last `rest` elements are initialised; they move to the front, and
    // the length covers exactly them.
    unsafe {
        let start = frames.as_mut_ptr();
        frames.set_len(0);
        std::ptr::copy(start.add(count), start, rest);
        frames.set_len(rest);
    }
}

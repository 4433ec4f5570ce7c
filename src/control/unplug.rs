//! Gives a device that is unplugged back to the kernel, once no worker can be in the midst of it.

use crate::io::dpdk::Device;
use crate::stats::Stats;

/// Rounds that a worker makes until it has surely seen that a device is retired: the one that it is in, and a whole one.
const ROUNDS: u64 = 2;

/// The ports whose workers are waited for, each with the workers' rounds then.
#[derive(Debug, Default)]
pub(super) struct Unplugged(Vec<(usize, Vec<u64>)>);

impl Unplugged {
    pub(super) fn give_up(&mut self, number: usize, port: &Device, stats: &Stats) {
        port.retire();
        self.0.push((number, rounds(stats)));
    }

    pub(super) fn tick(&mut self, ports: &[Device], stats: &Stats) {
        self.0.retain(|(number, then)| {
            let now = rounds(stats);
            let passed = now
                .iter()
                .zip(then)
                .all(|(now, then)| now.wrapping_sub(*then) > ROUNDS);
            if passed {
                ports[*number].release();
                tracing::info!(port = ports[*number].name(), "the device is given back");
            }
            !passed
        });
    }
}

fn rounds(stats: &Stats) -> Vec<u64> {
    stats.workers().map(|worker| worker.loops.get()).collect()
}

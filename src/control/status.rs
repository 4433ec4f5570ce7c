//! What the status page shows of the daemon as a whole.

use super::Control;
use crate::advice;
use crate::verdict::DropReason;
use crate::view;

impl Control {
    /// `may_change`: whether who asks may change anything.
    pub(crate) fn show_status(&self, may_change: bool) -> view::StatusView {
        let daemon = self.show_daemon();
        let neighbours = daemon.neighbours.into_iter();
        view::StatusView {
            version: crate::VERSION.to_owned(),
            host: host_name(),
            started_s: daemon.started_s,
            generation: daemon.generation,
            services: daemon.services,
            ill: self.illness(),
            unready: self.complaint().or(self.unready()),
            confirm_ends_s: self.confirm_ends_s(),
            neighbours: neighbours
                .map(|(state, count)| (state.to_owned(), count))
                .collect(),
            mbufs: daemon.mbufs,
            mbufs_free: daemon.mbufs_free,
            health_checks: daemon.health.checks,
            health_checks_down: daemon.health.down,
            panics: daemon.panics,
            log_lost_lines: daemon.log_lost_lines,
            may_change,
        }
    }

    /// Every reason for a drop, with what it means.
    pub(crate) fn show_drops(&self) -> Vec<view::DropView> {
        let row = |reason: &DropReason| view::DropView {
            reason: reason.name().to_owned(),
            packets: self.stats.total(|worker| worker.drops(*reason).get()),
            meaning: reason.description().to_owned(),
            advice: advice::of_drop(*reason).to_owned(),
        };
        DropReason::ALL.iter().map(row).collect()
    }
}

/// As the kernel has it; nothing where it does not say.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| String::new(), |name| name.trim().to_owned())
}

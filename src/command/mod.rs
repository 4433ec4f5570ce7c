//! The commands: one file each, one line in [`Command`] and in [`Command::run`].

mod check;

use crate::{config, sched};
use std::process::ExitCode;
use std::sync::OnceLock;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Check(check::Check),
}

impl Command {
    pub fn run(self) -> ExitCode {
        match self {
            Command::Check(check) => check.run(),
        }
    }
}

/// The CPUs that this process may run on, in ascending order.
pub fn cpus() -> &'static [usize] {
    static CPUS: OnceLock<Vec<usize>> = OnceLock::new();
    CPUS.get_or_init(|| {
        core_affinity::get_core_ids()
            .into_iter()
            .flatten()
            .map(|core| core.id)
            .collect()
    })
}

/// The world around a configuration file on this machine.
pub fn context() -> config::Context<'static> {
    config::Context {
        schedulers: &sched::NAMES,
        cpus: Some(cpus()),
    }
}

//! The commands: one file each, one line in [`Command`] and in [`Command::run`].

mod at;
mod bench;
mod capture;
mod check;
mod client;
mod confirm;
mod edit;
mod explain;
mod import;
mod ipvsadm;
mod live;
mod manual;
pub mod output;
mod plan;
mod reload;
mod replay;
mod rollback;
mod run;
mod save;
mod service;
mod services;
mod setup;
mod show;
mod simulate;
mod table;
mod top;
mod trace;

use crate::config;
use output::{fail, say};
use std::process::ExitCode;
use std::sync::OnceLock;

/// A layer-4 load balancer on DPDK
#[derive(Debug, clap::Parser)]
#[command(name = "weir", version = crate::VERSION, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Run(run::Run),
    Check(check::Check),
    Setup(setup::Setup),
    Import(import::Import),
    Ipvsadm(ipvsadm::Ipvsadm),
    Replay(replay::Replay),
    Simulate(simulate::Simulate),
    Explain(explain::Explain),
    Capture(capture::Capture),
    Trace(trace::Trace),
    Bench(bench::Bench),
    Plan(plan::Plan),
    Reload(reload::Reload),
    Confirm(confirm::Confirm),
    Rollback(rollback::Rollback),
    Show(show::Show),
    Top(top::Top),
    Add(service::Add),
    Remove(service::Remove),
    Set(service::Set),
    Drain(edit::Drain),
    Disable(edit::Disable),
    Enable(edit::Enable),
    Weight(edit::Weight),
    Completions(manual::Completions),
    Manual(manual::Manual),
}

impl Command {
    pub fn run(self) -> ExitCode {
        match self {
            Command::Run(run) => run.run(),
            Command::Check(check) => check.run(),
            Command::Setup(setup) => setup.run(),
            Command::Import(import) => import.run(),
            Command::Ipvsadm(ipvsadm) => ipvsadm.run(),
            Command::Replay(replay) => replay.run(),
            Command::Simulate(simulate) => simulate.run(),
            Command::Explain(explain) => explain.run(),
            Command::Capture(capture) => capture.run(),
            Command::Trace(trace) => trace.run(),
            Command::Bench(bench) => bench.run(),
            Command::Reload(reload) => reload.run(),
            Command::Confirm(confirm) => confirm.run(),
            Command::Rollback(rollback) => rollback.run(),
            Command::Plan(plan) => plan.run(),
            Command::Show(show) => show.run(),
            Command::Top(top) => top.run(),
            Command::Add(add) => add.run(),
            Command::Remove(remove) => remove.run(),
            Command::Set(set) => set.run(),
            Command::Drain(drain) => drain.run(),
            Command::Disable(disable) => disable.run(),
            Command::Enable(enable) => enable.run(),
            Command::Weight(weight) => weight.run(),
            Command::Completions(completions) => completions.run(),
            Command::Manual(manual) => manual.run(),
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
        cpus: Some(cpus()),
        devices: true,
    }
}

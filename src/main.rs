//! The command line.

use clap::Parser;
use std::process::ExitCode;
use weir::command::Command;

/// A layer-4 load balancer on DPDK
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    Cli::parse().command.run()
}

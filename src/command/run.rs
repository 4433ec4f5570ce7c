//! `weir run`: the daemon, in the foreground.

use crate::control::daemon::{self, Failure};
use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Run in the foreground until SIGTERM or SIGINT; SIGHUP reloads the file
///
/// Logs go to stderr; RUST_LOG says how much (default: info).
#[derive(Debug, clap::Args)]
pub struct Run {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Run {
    /// 0 after a signal; 1 if it cannot start.
    pub fn run(&self) -> ExitCode {
        let filter = EnvFilter::builder()
            .with_default_directive(tracing::Level::INFO.into())
            .from_env_lossy();
        let colour = stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(stderr)
            .with_ansi(colour)
            .init();
        match daemon::run(&self.config, super::context()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failure::Config(diagnostics)) => {
                diagnostics.print();
                ExitCode::FAILURE
            }
            Err(failure) => super::fail(failure),
        }
    }
}

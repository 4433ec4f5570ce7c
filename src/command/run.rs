//! `weir run`: the daemon, in the foreground.

use super::output::error;
use crate::daemon::{self, Failure};
use crate::log;
use std::path::PathBuf;
use std::process::ExitCode;

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
        let _log = match log::start() {
            Ok(log) => log,
            Err(why) => return super::fail(format!("the log's thread cannot start: {why}")),
        };
        match daemon::run(&self.config, super::context()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failure::Config(diagnostics)) => {
                log::say(diagnostics.text(log::is_coloured()).trim_end_matches('\n'));
                ExitCode::FAILURE
            }
            // By the log, which waits for no reader.
            Err(failure) => {
                log::say(error(failure));
                ExitCode::FAILURE
            }
        }
    }
}

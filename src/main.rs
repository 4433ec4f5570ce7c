//! The command line.

use clap::Parser;
use std::process::ExitCode;
use weir::command::{Cli, output};

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => cli.command.run(),
        Err(usage) => {
            // The text of `--help` and `--version` is no error; every error ends with 1.
            match usage.print() {
                Err(why) if !usage.use_stderr() => output::stop(&why),
                _ => ExitCode::from(u8::from(usage.use_stderr())),
            }
        }
    }
}

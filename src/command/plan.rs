//! `weir plan FILE`: what a file would change.

use super::client::{self, At, Error};
use super::reload::{Changed, sent, texts};
use std::path::PathBuf;
use std::process::ExitCode;

/// Say what a configuration file would change in the running daemon, and change nothing
#[derive(Debug, clap::Args)]
pub struct Plan {
    /// The file; what it includes is read here too, and sent to the daemon
    file: PathBuf,
    /// JSON instead of lines
    #[arg(long)]
    json: bool,
    /// End with 2 if there is a change
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    at: At,
}

impl Plan {
    /// 0 if the file could be applied by `weir reload`.
    pub fn run(&self) -> ExitCode {
        let planned = match self.ask() {
            Ok(planned) => planned,
            Err(why) => return super::fail(why),
        };
        match self.json {
            true => super::say(planned.json.trim_end()),
            false => super::say(&planned.text),
        }
        match self.exit_code && planned.is_changed {
            true => ExitCode::from(2),
            false => ExitCode::SUCCESS,
        }
    }

    fn ask(&self) -> Result<Changed, Error> {
        let texts = texts(&self.file)?;
        let (address, body) = (self.at.address_for(&self.file)?, sent(&texts));
        let answer = client::post(&address, "/v1/plan", body)?;
        Changed::read(&answer, &address)
    }
}

//! `weir plan FILE`: what a file would change.

use super::client::{At, Error};
use super::reload::{post, sent, texts};
use std::path::PathBuf;
use std::process::ExitCode;

/// Say what a configuration file would change in the running daemon, and change nothing
#[derive(Debug, clap::Args)]
pub struct Plan {
    /// The file; what it includes is read here too, and sent to the daemon
    file: PathBuf,
    #[command(flatten)]
    at: At,
}

impl Plan {
    /// 0 if the file could be applied by `weir reload`.
    pub fn run(&self) -> ExitCode {
        match self.ask() {
            Ok(summary) => {
                super::say(summary);
                ExitCode::SUCCESS
            }
            Err(why) => super::fail(why),
        }
    }

    fn ask(&self) -> Result<String, Error> {
        let texts = texts(&self.file)?;
        let (address, body) = (self.at.address_for(&self.file)?, sent(&texts));
        post(&address, "/v1/plan", body)
    }
}

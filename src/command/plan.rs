//! `weir plan FILE`: what a file would change.

use super::client::{self, At, Error};
use super::reload::{sent, texts};
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
        let answer = client::post(&address, "/v1/plan", body)?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        let summary = answer["summary"].as_str().map(str::to_owned);
        summary.ok_or_else(|| Error::Refused(format!("{address} does not answer as weir does")))
    }
}

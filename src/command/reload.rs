//! `weir reload [FILE]`: a changed file becomes the running configuration.

use super::client::{self, Address, At, Error};
use crate::config::{self, Listen};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Apply a changed configuration file to the running daemon
///
/// Without FILE the daemon reads the file that it was started with again; FILE is in force until the next reload.
/// Without --api (or WEIR_API) the daemon is looked for where FILE says that it listens.
#[derive(Debug, clap::Args)]
pub struct Reload {
    /// The file, as the daemon is to read it
    file: Option<PathBuf>,
    #[command(flatten)]
    at: At,
}

impl Reload {
    /// 0 if the file is the running configuration now; 1 if nothing has changed.
    pub fn run(&self) -> ExitCode {
        match self.apply() {
            Ok(summary) => {
                super::say(summary);
                ExitCode::SUCCESS
            }
            Err(why) => super::fail(why),
        }
    }

    /// What has changed.
    fn apply(&self) -> Result<String, Error> {
        // The daemon's working directory may be another one.
        let file = self.file.as_ref().map(std::path::absolute).transpose()?;
        let address = match (&self.at.api, &file) {
            (None, Some(file)) => listens(file).unwrap_or_default(),
            _ => self.at.address(),
        };
        let body = serde_json::json!({ "file": file }).to_string();
        let answer = client::post(&address, "/v1/reload", body)?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        match answer["summary"].as_str() {
            Some(summary) => Ok(summary.to_owned()),
            None => Err(Error::Refused(format!(
                "{address} does not answer as weir does"
            ))),
        }
    }
}

/// Where a file has the API listen; none if it cannot be read: the daemon will say why.
fn listens(file: &Path) -> Option<Address> {
    match config::load(file, &super::context())
        .ok()?
        .config
        .api
        .listen
    {
        Listen::Tcp(address) => Some(Address::Tcp(address)),
        Listen::Unix(path) => Some(Address::Unix(path)),
        Listen::Off => None,
    }
}

//! `weir reload [FILE]`: a changed file becomes the running configuration.

use super::client::{self, At, Error};
use crate::config::{self, Text};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Apply a changed configuration file to the running daemon
///
/// Without FILE the daemon reads the file that it was started with again; FILE is in force until the next reload.
/// Without --config and --api (or WEIR_API) the daemon is looked for where FILE says that its control socket is.
#[derive(Debug, clap::Args)]
pub struct Reload {
    /// The file; what it includes is read here too, and sent to the daemon
    file: Option<PathBuf>,
    #[command(flatten)]
    at: At,
}

impl Reload {
    /// 0 if the file is the running configuration now; 1 if nothing has changed.
    pub fn run(&self) -> ExitCode {
        match self.apply() {
            Ok(changed) => {
                super::say(changed.text);
                ExitCode::SUCCESS
            }
            Err(why) => super::fail(why),
        }
    }

    /// What has changed.
    fn apply(&self) -> Result<Changed, Error> {
        let (address, body) = match &self.file {
            None => (self.at.address()?, String::new()),
            Some(file) => {
                let texts = texts(file)?;
                (self.at.address_for(file)?, sent(&texts))
            }
        };
        let answer = client::post(&address, "/v1/reload", body)?;
        Changed::read(&answer, &address)
    }
}

/// What a reload has changed, or would change.
pub(super) struct Changed {
    pub is_changed: bool,
    /// A line for each change, and one for all.
    pub text: String,
    /// As the daemon has said it.
    pub json: String,
}

impl Changed {
    pub(super) fn read(answer: &[u8], address: &impl std::fmt::Display) -> Result<Self, Error> {
        let read: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
        match (read["summary"].as_str(), read["text"].as_str()) {
            (Some(summary), Some(text)) => Ok(Changed {
                is_changed: read["is_changed"].as_bool().unwrap_or(true),
                text: format!("{text}{summary}"),
                json: String::from_utf8_lossy(answer).into_owned(),
            }),
            _ => Err(Error::Refused(format!(
                "{address} does not answer as weir does"
            ))),
        }
    }
}

/// Reads a configuration and the files that it includes, with the rights of the user who runs the command.
pub(super) fn texts(file: &Path) -> Result<Vec<Text>, Error> {
    config::texts(file).map_err(|wrong| Error::Refused(wrong.to_string().trim_end().to_owned()))
}

/// The body of a request that has them.
pub(super) fn sent(texts: &[Text]) -> String {
    serde_json::json!({ "files": texts }).to_string()
}

//! `weir confirm`: a reload that waits for it stays.

use super::client::At;
use super::reload::post;
use std::process::ExitCode;

/// Keep the configuration of a `weir reload --confirm`
#[derive(Debug, clap::Args)]
pub struct Confirm {
    #[command(flatten)]
    at: At,
}

impl Confirm {
    /// 0 if a reload waited for it.
    pub fn run(&self) -> ExitCode {
        let at = self.at.address();
        match at.and_then(|at| post(&at, "/v1/confirm", "{}".to_owned())) {
            Ok(changed) => {
                super::say(changed.text);
                ExitCode::SUCCESS
            }
            Err(why) => super::fail(why),
        }
    }
}

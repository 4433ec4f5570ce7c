//! `weir rollback`: the configuration before is in force again.

use super::client::At;
use super::reload::post;
use std::process::ExitCode;

/// Go back to the configuration before the last reload
///
/// As it was when the reload came, with the services that were added or removed at run time. Again: one more back; the last ten
/// are kept until weir stops. A reload that waits for `weir confirm` is taken back.
#[derive(Debug, clap::Args)]
pub struct Rollback {
    #[command(flatten)]
    at: At,
}

impl Rollback {
    /// 0 if the configuration before is in force; 1 if nothing has changed.
    pub fn run(&self) -> ExitCode {
        let at = self.at.address();
        match at.and_then(|at| post(&at, "/v1/rollback", "{}".to_owned())) {
            Ok(changed) => {
                super::say(changed.text);
                ExitCode::SUCCESS
            }
            Err(why) => super::fail(why),
        }
    }
}

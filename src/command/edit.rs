//! `weir drain`, `weir enable`, `weir weight`: one real server, now.

use super::client::{self, At, Error};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Which real server.
#[derive(Debug, clap::Args)]
struct Which {
    /// A service's name, or such as tcp:192.0.2.80:80
    service: String,
    /// The real server's address and port, such as 10.0.0.11:8080
    real: String,
    #[command(flatten)]
    at: At,
}

/// Give a real server no new connections; the old ones live on
///
/// Until it is enabled, or the file is read again.
#[derive(Debug, clap::Args)]
pub struct Drain {
    #[command(flatten)]
    which: Which,
}

/// Give a drained real server the weight again that it had
#[derive(Debug, clap::Args)]
pub struct Enable {
    #[command(flatten)]
    which: Which,
}

/// Give a real server another weight
///
/// Until the file is read again.
#[derive(Debug, clap::Args)]
pub struct Weight {
    #[command(flatten)]
    which: Which,
    /// 0: no new connections
    weight: u16,
}

impl Drain {
    pub fn run(&self) -> ExitCode {
        self.which.edit("/v1/drain", None)
    }
}

impl Enable {
    pub fn run(&self) -> ExitCode {
        self.which.edit("/v1/enable", None)
    }
}

impl Weight {
    pub fn run(&self) -> ExitCode {
        self.which.edit("/v1/weight", Some(self.weight))
    }
}

impl Which {
    /// 0 if the real server has the weight now.
    fn edit(&self, path: &str, weight: Option<u16>) -> ExitCode {
        match self.ask(path, weight) {
            Ok(done) => {
                super::say(done);
                ExitCode::SUCCESS
            }
            Err(why) => super::fail(why),
        }
    }

    fn ask(&self, path: &str, weight: Option<u16>) -> Result<String, Error> {
        let address = self.at.address();
        let mut body = json!({ "service": self.service, "real": self.real });
        if let Some(weight) = weight {
            body["weight"] = weight.into();
        }
        let answer = client::post(&address, path, body.to_string())?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let (Some(before), Some(after)) = (answer["before"].as_u64(), answer["after"].as_u64())
        else {
            return Err(Error::Refused(format!(
                "{address} does not answer as weir does"
            )));
        };
        let (service, real) = (&self.service, &self.real);
        Ok(match before == after {
            true => format!("{service} {real}: weight {after}, as before"),
            false => format!("{service} {real}: weight {before} -> {after}"),
        })
    }
}

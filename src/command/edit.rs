//! `weir drain`, `weir enable`, `weir weight`: one real server, now. `weir add`, `weir remove`: single services.

use super::client::{self, At, Error};
use crate::config;
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
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

/// Add services to the running daemon, or put them in the place of their former versions
///
/// FILE has `[[service]]` tables, as the configuration has. Until the next reload: the configuration says what there is.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// A file, or - for standard input
    file: PathBuf,
    #[command(flatten)]
    at: At,
}

/// Take a service out of the running daemon
///
/// Its connections end. Until the next reload: the configuration says what there is.
#[derive(Debug, clap::Args)]
pub struct Remove {
    /// A service's name, or such as tcp:192.0.2.80:80
    service: String,
    #[command(flatten)]
    at: At,
}

impl Add {
    /// 0 if the daemon has the services now.
    pub fn run(&self) -> ExitCode {
        match self.text() {
            Ok(text) => {
                let name = client::encode(&self.file.display().to_string());
                let path = format!("/v1/services?name={name}");
                told(
                    self.at
                        .address()
                        .and_then(|at| client::put(&at, &path, text)),
                )
            }
            Err(why) => super::fail(format!("{}: {why}", self.file.display())),
        }
    }

    fn text(&self) -> io::Result<String> {
        let bytes = match self.file.as_os_str() == "-" {
            true => config::bounded(io::stdin())?,
            false => config::bounded(File::open(&self.file)?)?,
        };
        let most = config::MAX_BYTES >> 20;
        let bytes = bytes.ok_or_else(|| io::Error::other(format!("has more than {most} MiB")))?;
        String::from_utf8(bytes).map_err(io::Error::other)
    }
}

impl Remove {
    /// 0 if the daemon has the service no more.
    pub fn run(&self) -> ExitCode {
        let path = format!("/v1/services?service={}", client::encode(&self.service));
        told(self.at.address().and_then(|at| client::delete(&at, &path)))
    }
}

/// Says what has changed.
fn told(answer: Result<Vec<u8>, Error>) -> ExitCode {
    match answer {
        Ok(answer) => {
            let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
            super::say(answer["summary"].as_str().unwrap_or_default());
            ExitCode::SUCCESS
        }
        Err(why) => super::fail(why),
    }
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
        if self.real.parse::<SocketAddr>().is_err() {
            return Err(Error::Refused(format!(
                "{:?} is no real server: write its address and port, such as 10.0.0.11:8080",
                self.real
            )));
        }
        let address = self.at.address()?;
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

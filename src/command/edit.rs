//! `weir drain`, `weir disable`, `weir enable`, `weir weight`: one real server, now. `weir add`, `weir remove`: single services.

use super::client::{self, At, Error};
use crate::config;
use crate::view;
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

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

/// For how long.
#[derive(Debug, clap::Args)]
struct For {
    /// Ends by itself after this time, such as 30m; without it `weir enable` ends it
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    length: Option<Duration>,
}

/// Give a real server no new connections; the old ones live on
///
/// Until it is enabled: a reload does not change it.
#[derive(Debug, clap::Args)]
pub struct Drain {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    length: For,
}

/// Give a real server no new connections, and end the old ones as if it were down
///
/// What becomes of them says the service's `on_down`: by default TCP is reset, and UDP goes elsewhere. Until it is enabled: a
/// reload does not change it.
#[derive(Debug, clap::Args)]
pub struct Disable {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    length: For,
}

/// End drain, disable and the weight that was set: the file's weight counts again
#[derive(Debug, clap::Args)]
pub struct Enable {
    #[command(flatten)]
    which: Which,
}

/// Give a real server another weight than the file's
///
/// Until it is enabled: a reload does not change it.
#[derive(Debug, clap::Args)]
pub struct Weight {
    #[command(flatten)]
    which: Which,
    /// 0: no new connections
    weight: u16,
    #[command(flatten)]
    length: For,
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
        self.which.edit("/v1/drain", None, self.length.length)
    }
}

impl Disable {
    pub fn run(&self) -> ExitCode {
        self.which.edit("/v1/disable", None, self.length.length)
    }
}

impl Enable {
    pub fn run(&self) -> ExitCode {
        self.which.edit("/v1/enable", None, None)
    }
}

impl Weight {
    pub fn run(&self) -> ExitCode {
        self.which
            .edit("/v1/weight", Some(self.weight), self.length.length)
    }
}

impl Which {
    /// 0 if it is done.
    fn edit(&self, path: &str, weight: Option<u16>, length: Option<Duration>) -> ExitCode {
        match self.ask(path, weight, length) {
            Ok(done) => {
                super::say(done);
                ExitCode::SUCCESS
            }
            Err(why) => super::fail(why),
        }
    }

    fn ask(
        &self,
        path: &str,
        weight: Option<u16>,
        length: Option<Duration>,
    ) -> Result<String, Error> {
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
        let length = length.map(|length| humantime::format_duration(length).to_string());
        if let Some(length) = &length {
            body["for"] = length.as_str().into();
        }
        let answer = client::post(&address, path, body.to_string())?;
        let edited: view::EditedView = serde_json::from_slice(&answer)
            .map_err(|_| Error::Refused(format!("{address} does not answer as weir does")))?;
        let (service, real) = (&self.service, &self.real);
        let view::EditedView { before, after, .. } = edited;
        let mut done = match before == after {
            true => format!("{service} {real}: weight {after}, as before"),
            false => format!("{service} {real}: weight {before} -> {after}"),
        };
        if let Some(length) = length {
            done += &format!(", for {length}");
        }
        // What was just asked for needs no reason.
        let asked = match path {
            "/v1/drain" => "drained",
            "/v1/disable" => "disabled",
            "/v1/weight" => "runtime weight 0",
            _ => "",
        };
        if let Some(why) = edited.state.why.filter(|why| why != asked) {
            done += &format!(" ({why})");
        }
        Ok(done)
    }
}

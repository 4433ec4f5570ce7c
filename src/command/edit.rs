//! `weir drain`, `weir disable`, `weir enable`, `weir weight`: one real server, now.

use super::client::{self, Address, At, Error};
use super::save::save;
use super::service::{place, put_edited, said};
use crate::config::edit::FileChange;
use crate::config::{RealKeys, ServiceChange};
use crate::service::Admin;
use crate::view;
use serde::Deserialize;
use serde_json::json;
use std::net::SocketAddr;
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
/// Until it is enabled: a reload does not change it. With --save its weight in the configuration file is 0 from now on.
#[derive(Debug, clap::Args)]
pub struct Drain {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    length: For,
    /// Makes weight 0 the file's: `weir weight SERVICE REAL N --save` takes it back
    #[arg(long, conflicts_with = "length")]
    save: bool,
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
/// Until it is enabled: a reload does not change it. With --save it is the file's own from now on.
#[derive(Debug, clap::Args)]
pub struct Weight {
    #[command(flatten)]
    which: Which,
    /// 0: no new connections
    weight: u16,
    #[command(flatten)]
    length: For,
    /// Writes the weight into the configuration file, whose comments and order stay
    #[arg(long, conflicts_with = "length")]
    save: bool,
}

/// A real server, as far as it matters here.
#[derive(Default, Deserialize)]
struct Row {
    real: Option<SocketAddr>,
    #[serde(default)]
    admin: Admin,
    #[serde(default)]
    runtime_weight: Option<u16>,
}

impl Drain {
    pub fn run(&self) -> ExitCode {
        match self.save {
            true => said(self.which.save(0)),
            false => self.which.edit("/v1/drain", None, self.length.length),
        }
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
        let which = &self.which;
        match self.save {
            true => said(which.save(self.weight)),
            false => which.edit("/v1/weight", Some(self.weight), self.length.length),
        }
    }
}

impl Which {
    /// Gives the real server that weight in the file, and in the daemon, where a weight of the runtime ends.
    fn save(&self, weight: u16) -> Result<String, Error> {
        let real = place(&self.real)?;
        let change = ServiceChange::PutReal(real, RealKeys::weight(weight));
        let what = FileChange::Change(&self.service, &change);
        save(&self.at, &what, |address, edited, name| {
            let known = self.row(address, real)?;
            known.ok_or_else(|| {
                let (service, real) = (&self.service, &self.real);
                Error::Refused(format!("the service {service:?} has no real server {real}"))
            })?;
            let changed = put_edited(address, edited, name)?;
            // As it is now: the order of other commands is not this one's.
            let row = self.row(address, real)?.unwrap_or_default();
            if row.runtime_weight.is_some() {
                let mut body = json!({ "service": self.service, "real": self.real });
                let path = match row.admin {
                    // Its own end of the runtime weight would end the drain as well.
                    Admin::Drained | Admin::Disabled => {
                        body["weight"] = weight.into();
                        "/v1/weight"
                    }
                    Admin::Enabled => "/v1/enable",
                };
                client::post(address, path, body.to_string())?;
            }
            Ok(changed)
        })
    }

    /// What the daemon knows of the real server.
    fn row(&self, address: &Address, real: SocketAddr) -> Result<Option<Row>, Error> {
        let path = format!("/v1/reals?service={}", client::encode(&self.service));
        let rows: Vec<Row> = client::rows(address, &path)?;
        Ok(rows.into_iter().find(|row| row.real == Some(real)))
    }

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
        place(&self.real)?;
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

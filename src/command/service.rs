//! `weir add`, `weir remove`, `weir set`: services and their real servers, as the file would have them.

use super::client::{self, Address, At, Error};
use super::save::save;
use crate::config::edit::{Edited, FileChange};
use crate::config::{self, RealKeys, ServiceChange};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Whether the file gets a change as well.
#[derive(Debug, clap::Args)]
pub(super) struct Permanent {
    /// Also writes the change into the configuration file, whose comments and order stay
    #[arg(long)]
    pub save: bool,
}

/// How many connections a real server may have.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
struct Thresholds {
    /// With so many connections the real server gets no new ones (ipvsadm -x); 0: however many it has
    #[arg(long, value_name = "N")]
    max_connections: Option<u32>,
    /// It gets new ones again when it has fewer than this (ipvsadm -y); 0: fewer than three quarters of the maximum
    #[arg(long, value_name = "N")]
    min_connections: Option<u32>,
}

impl Thresholds {
    fn keys(self) -> RealKeys {
        RealKeys {
            weight: None,
            max_connections: self.max_connections,
            min_connections: self.min_connections,
        }
    }
}

/// Add services, or a real server, to the running daemon
///
/// `weir add FILE`: the file has `[[service]]` tables, as the configuration has; they take the place of services of the same
/// address. `weir add SERVICE REAL`: a real server, or another weight of it. Until the next reload, unless it is saved.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// A file, or - for standard input; with REAL: a service's name, or such as tcp:192.0.2.80:80
    #[arg(value_name = "FILE|SERVICE")]
    what: PathBuf,
    /// The real server's address and port, such as 10.0.0.11:8080
    real: Option<String>,
    /// The real server's weight; default: the one that it has, or 1
    #[arg(long, requires = "real")]
    weight: Option<u16>,
    #[command(flatten)]
    thresholds: Thresholds,
    #[command(flatten)]
    permanent: Permanent,
    #[command(flatten)]
    at: At,
}

/// Take a service, or one of its real servers, out of the running daemon
///
/// Its connections end. Until the next reload, unless it is saved.
#[derive(Debug, clap::Args)]
pub struct Remove {
    /// A service's name, or such as tcp:192.0.2.80:80
    service: String,
    /// The real server's address and port, such as 10.0.0.11:8080
    real: Option<String>,
    #[command(flatten)]
    permanent: Permanent,
    #[command(flatten)]
    at: At,
}

/// Change keys of a service, or of one of its real servers, in the running daemon
///
/// Keys are those of the file: `weir set web scheduler=wlc persistence.timeout=10m`, `weir set web 10.0.0.11:8080 weight=5`. Of a
/// real server they are weight, max_connections and min_connections. KEY= without a value takes the key away. Until the next reload, unless it is saved.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// A service's name, or such as tcp:192.0.2.80:80
    service: String,
    /// KEY=VALUE, a value as in the file; before them the real server's address and port, if it is about one
    #[arg(required = true, value_name = "REAL|KEY=VALUE")]
    what: Vec<String>,
    #[command(flatten)]
    thresholds: Thresholds,
    #[command(flatten)]
    permanent: Permanent,
    #[command(flatten)]
    at: At,
}

impl Add {
    /// 0 if the daemon has the services or the real server now, and if it was asked to, the file.
    pub fn run(&self) -> ExitCode {
        let done = match &self.real {
            None => self.add_services(),
            Some(real) => self.add_real(real),
        };
        said(done)
    }

    fn add_services(&self) -> Result<String, Error> {
        let failed = |why| Error::Refused(format!("{}: {why}", self.what.display()));
        let text = text(&self.what).map_err(failed)?;
        let name = self.what.display().to_string();
        if !self.permanent.save {
            return put_services(&self.at.address()?, &name, text);
        }
        save(&self.at, &FileChange::Put(&text), |at, edited, _| {
            put_edited(at, edited, &name)
        })
    }

    fn add_real(&self, real: &str) -> Result<String, Error> {
        let service = self.what.to_str();
        let service = service.ok_or_else(|| Error::Refused("the service is no text".to_owned()))?;
        let keys = RealKeys {
            weight: self.weight,
            ..self.thresholds.keys()
        };
        let change = ServiceChange::PutReal(place(real)?, keys);
        change_service(&self.at, service, &change, self.permanent.save)
    }
}

impl Remove {
    /// 0 if the daemon no longer has the service or the real server, and if it was asked to, neither has the file.
    pub fn run(&self) -> ExitCode {
        said(self.remove())
    }

    fn remove(&self) -> Result<String, Error> {
        if let Some(real) = &self.real {
            let change = ServiceChange::RemoveReal(place(real)?);
            return change_service(&self.at, &self.service, &change, self.permanent.save);
        }
        let path = format!("/v1/services?service={}", client::encode(&self.service));
        let remove = |at: &Address| summary(&client::delete(at, &path)?, at);
        match self.permanent.save {
            false => remove(&self.at.address()?),
            true => save(&self.at, &FileChange::Remove(&self.service), |at, _, _| {
                remove(at)
            }),
        }
    }
}

impl Set {
    /// 0 if the daemon has the keys now, and if it was asked to, the file.
    pub fn run(&self) -> ExitCode {
        said(self.set())
    }

    fn set(&self) -> Result<String, Error> {
        let change = change_of(&self.what, self.thresholds.keys()).map_err(Error::Refused)?;
        change_service(&self.at, &self.service, &change, self.permanent.save)
    }
}

/// What `REAL KEY=VALUE …` or `KEY=VALUE …` wants. `options`: numbers of the real server that are given as options.
pub(super) fn change_of(words: &[String], options: RealKeys) -> Result<ServiceChange, String> {
    let (real, words) = match words {
        [first, rest @ ..] if !first.contains('=') => (Some(first), rest),
        all => (None, all),
    };
    let mut keys = Map::new();
    for word in words {
        let (key, written) = word
            .split_once('=')
            .ok_or_else(|| format!("{word:?} is no KEY=VALUE"))?;
        let mut path: Vec<_> = key.split('.').collect();
        let last = path.pop().filter(|last| !last.is_empty());
        let last = last.ok_or_else(|| format!("{word:?} has no key before `=`"))?;
        let mut table = &mut keys;
        for part in path {
            let inner = table.entry(part).or_insert_with(|| json!({}));
            let inner = inner.as_object_mut();
            table = inner.ok_or_else(|| format!("{part:?} is given twice"))?;
        }
        if table.insert(last.to_owned(), value(written)).is_some() {
            return Err(format!("{key:?} is given twice"));
        }
    }
    let change = match real {
        None if options != RealKeys::default() => {
            return Err(
                "--max-connections and --min-connections are a real server's: write its address and port behind the service"
                    .to_owned(),
            );
        }
        None => ServiceChange::Set(keys),
        Some(real) => ServiceChange::SetReal(real_of(real)?, real_keys(keys, options)?),
    };
    change.check().map_err(|why| why.to_string())?;
    Ok(change)
}

/// The numbers of a real server that are given as keys or as options.
fn real_keys(keys: Map<String, Value>, options: RealKeys) -> Result<RealKeys, String> {
    let mut given = options;
    for (key, value) in keys {
        let number = value.as_u64();
        let (place, most) = match key.as_str() {
            "weight" => {
                let weight = number.and_then(|it| u16::try_from(it).ok());
                given.weight = weight;
                (weight.map(u32::from), u32::from(u16::MAX))
            }
            "max_connections" | "min_connections" => {
                let number = number.and_then(|it| u32::try_from(it).ok());
                let place = match key.as_str() {
                    "max_connections" => &mut given.max_connections,
                    _ => &mut given.min_connections,
                };
                if place.is_some() {
                    return Err(format!("{key:?} is given twice"));
                }
                *place = number;
                (number, u32::MAX)
            }
            _ => {
                let names = RealKeys::NAMES.join("`, `");
                return Err(format!(
                    "of a real server `{names}` can be set, and not {key:?}"
                ));
            }
        };
        if place.is_none() {
            return Err(format!("`{key}` of a real server is 0 to {most}"));
        }
    }
    Ok(given)
}

/// As TOML where it is some, else as text: `5`, `true`, `"30s"` and `30s` are what they look like.
fn value(written: &str) -> Value {
    if written.is_empty() {
        return Value::Null;
    }
    let read = toml::from_str::<toml::Table>(&format!("value = {written}"));
    let read = read.ok().filter(|table| table.len() == 1);
    match read.and_then(|mut table| table.remove("value")) {
        // Not a date: nothing in the file is one.
        Some(toml::Value::Datetime(_)) | None => Value::from(written),
        Some(value) => serde_json::to_value(value).unwrap_or_else(|_| Value::from(written)),
    }
}

fn real_of(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is no real server: write its address and port, such as 10.0.0.11:8080")
    })
}

pub(super) fn place(text: &str) -> Result<SocketAddr, Error> {
    real_of(text).map_err(Error::Refused)
}

/// Changes one service in part.
pub(super) fn change_service(
    at: &At,
    service: &str,
    change: &ServiceChange,
    is_saved: bool,
) -> Result<String, Error> {
    if is_saved {
        let what = FileChange::Change(service, change);
        return save(at, &what, put_edited);
    }
    let address = at.address()?;
    let name = client::encode(service);
    let answer = match change {
        ServiceChange::Set(keys) => {
            let path = format!("/v1/services?service={name}");
            client::patch(&address, &path, Value::from(keys.clone()).to_string())
        }
        ServiceChange::PutReal(real, keys) => {
            let body = of_real(service, *real, *keys);
            client::put_json(&address, "/v1/reals", body.to_string())
        }
        ServiceChange::SetReal(real, keys) => {
            let body = of_real(service, *real, *keys);
            client::patch(&address, "/v1/reals", body.to_string())
        }
        ServiceChange::RemoveReal(real) => {
            let real = client::encode(&real.to_string());
            client::delete(&address, &format!("/v1/reals?service={name}&real={real}"))
        }
    };
    summary(&answer?, &address)
}

/// A request about a real server's numbers.
fn of_real(service: &str, real: SocketAddr, keys: RealKeys) -> Value {
    let mut body = json!({ "service": service, "real": real });
    for (key, number) in keys.keys() {
        body[key] = number;
    }
    body
}

/// The daemon gets the services as the file will have them.
pub(super) fn put_edited(address: &Address, edited: &Edited, name: &str) -> Result<String, Error> {
    let services = edited.services.clone().unwrap_or_default();
    put_services(address, name, services)
}

fn put_services(address: &Address, name: &str, text: String) -> Result<String, Error> {
    let path = format!("/v1/services?name={}", client::encode(name));
    summary(&client::put(address, &path, text)?, address)
}

/// What has changed.
fn summary(answer: &[u8], address: &Address) -> Result<String, Error> {
    let answer: Value =
        serde_json::from_slice(answer).map_err(|why| Error::OtherVersion(address.clone(), why))?;
    Ok(answer["summary"].as_str().unwrap_or_default().to_owned())
}

/// Says what was done, or why not.
pub(super) fn said(done: Result<String, Error>) -> ExitCode {
    match done {
        Ok(done) => {
            super::say(done);
            ExitCode::SUCCESS
        }
        Err(why) => super::fail(why),
    }
}

fn text(file: &Path) -> io::Result<String> {
    let bytes = match file.as_os_str() == "-" {
        true => config::bounded(io::stdin())?,
        false => config::bounded(File::open(file)?)?,
    };
    let most = config::MAX_BYTES >> 20;
    let bytes = bytes.ok_or_else(|| io::Error::other(format!("has more than {most} MiB")))?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(words: &[&str]) -> Result<ServiceChange, String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        change_of(&words, RealKeys::default())
    }

    #[test]
    fn keys_are_set_as_they_are_written() {
        let set = |words: &[&str]| match change(words).unwrap() {
            ServiceChange::Set(keys) => Value::from(keys),
            other => panic!("{other:?}"),
        };
        for (words, expected) in [
            (&["scheduler=wlc"][..], json!({ "scheduler": "wlc" })),
            (&["scheduler=\"wlc\""], json!({ "scheduler": "wlc" })),
            (
                &["slow_start=30s", "tcp_mss=1400"],
                json!({ "slow_start": "30s", "tcp_mss": 1400 }),
            ),
            (&["slow_start="], json!({ "slow_start": null })),
            (
                &["persistence.timeout=300", "persistence.through_drain=true"],
                json!({ "persistence": { "timeout": 300, "through_drain": true } }),
            ),
            (
                &["health={ type = \"tcp\", interval = \"2s\" }"],
                json!({ "health": { "type": "tcp", "interval": "2s" } }),
            ),
            (&["flags=[\"sh-port\"]"], json!({ "flags": ["sh-port"] })),
            (
                &["tunnel_source=10.0.0.1"],
                json!({ "tunnel_source": "10.0.0.1" }),
            ),
            (&["scheduler=a=b"], json!({ "scheduler": "a=b" })),
            (
                &["local_pool=2026-01-01"],
                json!({ "local_pool": "2026-01-01" }),
            ),
        ] {
            assert_eq!(set(words), expected, "{words:?}");
        }
        let real = "10.0.0.11:8080".parse().unwrap();
        let weight = change(&["10.0.0.11:8080", "weight=5"]).unwrap();
        assert_eq!(weight, ServiceChange::SetReal(real, RealKeys::weight(5)));
        let most = RealKeys {
            max_connections: Some(u32::MAX),
            ..RealKeys::default()
        };
        let least = RealKeys {
            min_connections: Some(7),
            ..RealKeys::default()
        };
        let both = RealKeys {
            min_connections: Some(7),
            ..most
        };
        let with = |words: &[&str], options| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            change_of(&words, options)
        };
        let at = "10.0.0.11:8080";
        for (words, options, expected) in [
            (
                &[at, "max_connections=4294967295"][..],
                RealKeys::default(),
                most,
            ),
            (&[at], most, most),
            (&[at, "min_connections=7"], most, both),
            (&[at, "weight=5"], RealKeys::default(), RealKeys::weight(5)),
        ] {
            let change = with(words, options).unwrap();
            assert_eq!(change, ServiceChange::SetReal(real, expected), "{words:?}");
        }
        for (words, options, why) in [
            (
                &[at, "min_connections=8"][..],
                least,
                "\"min_connections\" is given twice",
            ),
            (&["scheduler=rr"], least, "behind the service"),
        ] {
            let refused = with(words, options).unwrap_err();
            assert!(refused.contains(why), "{words:?}: {refused}");
        }
        for (words, why) in [
            (&["=5"][..], "has no key"),
            (&["a=1", "b"], "\"b\" is no KEY=VALUE"),
            (&["a=1", "a=2"], "\"a\" is given twice"),
            (&["a=1", "a.b=2"], "\"a\" is given twice"),
            (&["address=192.0.2.1"], "`address` says which service it is"),
            (&["real=[]"], "one by one"),
            (&["10.0.0.11:8080"], "there is no key to set"),
            (
                &["10.0.0.11:8080", "weight=65536"],
                "`weight` of a real server is 0 to 65535",
            ),
            (
                &["10.0.0.11:8080", "max_connections="],
                "`max_connections` of a real server is 0 to 4294967295",
            ),
            (
                &["10.0.0.11:8080", "weight=1", "port=2"],
                "`min_connections` can be set, and not \"port\"",
            ),
            (&["10.0.0.11", "weight=1"], "is no real server"),
        ] {
            let refused = change(words).unwrap_err();
            assert!(refused.contains(why), "{words:?}: {refused}");
        }
    }
}

//! A change of one service in part: of some of its keys, or of one real server.

use super::{Config, Diagnostics, ServiceConfig, services};
use serde_json::{Map, Value as Json};
use std::net::SocketAddr;
use std::sync::Arc;
use toml::{Table, Value};

/// Keys that say which service it is.
const IDENTITY: [&str; 4] = ["name", "protocol", "address", "port"];

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ServiceChange {
    /// Keys with their new values, as a JSON merge patch (RFC 7396): null takes a key away, an object changes some keys of
    /// a table.
    Set(Map<String, Json>),
    /// A real server comes, or has another weight; without one: the weight it has, or the default.
    PutReal(SocketAddr, Option<u16>),
    RemoveReal(SocketAddr),
}

/// Why a service is not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unchanged {
    #[error("{0}")]
    Refused(String),
    #[error("the service has no real server {0}")]
    NoReal(SocketAddr),
    #[error("{0}")]
    Invalid(Diagnostics),
}

impl ServiceChange {
    /// Refuses to make another service of one.
    pub(crate) fn check(&self) -> Result<(), Unchanged> {
        let ServiceChange::Set(keys) = self else {
            return Ok(());
        };
        if keys.is_empty() {
            return Err(Unchanged::Refused("there is no key to set".to_owned()));
        }
        if let Some(key) = keys.keys().find(|key| IDENTITY.contains(&key.as_str())) {
            return Err(Unchanged::Refused(format!(
                "`{key}` says which service it is: remove the service, and add another"
            )));
        }
        if keys.contains_key("real") {
            return Err(Unchanged::Refused(
                "real servers come, change and go one by one: add and remove take their address"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

impl ServiceConfig {
    /// The service after a change, checked as a file's; `around` is the configuration without services.
    pub(crate) fn changed(
        &self,
        change: &ServiceChange,
        around: &Config,
    ) -> Result<(Vec<Arc<ServiceConfig>>, Diagnostics), Unchanged> {
        change.check()?;
        let refused = |why: &dyn std::fmt::Display| Unchanged::Refused(why.to_string());
        let text = self.written_with_secrets();
        let mut file: Table = toml::from_str(&text).map_err(|why| refused(&why))?;
        let service = file.get_mut("service").and_then(|list| list.get_mut(0));
        let Some(service) = service.and_then(Value::as_table_mut) else {
            return Err(refused(&"the service cannot be written"));
        };
        match change {
            ServiceChange::Set(keys) => merge(service, keys).map_err(|why| refused(&why))?,
            ServiceChange::PutReal(real, weight) => self.put_real(service, *real, *weight),
            ServiceChange::RemoveReal(real) => self.remove_real(service, *real)?,
        }
        let text = toml::to_string(&file).map_err(|why| refused(&why))?;
        let name = format!("service {}, changed", self.name);
        services(&text, &name, around).map_err(Unchanged::Invalid)
    }

    /// The place of a real server in the list, as it is written.
    fn place(&self, real: SocketAddr) -> Option<usize> {
        let at = (real.ip(), real.port());
        self.reals.iter().position(|it| (it.address, it.port) == at)
    }

    fn put_real(&self, service: &mut Table, real: SocketAddr, weight: Option<u16>) {
        let list = service
            .entry("real")
            .or_insert_with(|| Value::Array(Vec::new()));
        let Value::Array(list) = list else { return };
        let mut table = match self.place(real).and_then(|n| list[n].as_table().cloned()) {
            Some(table) => table,
            None => Table::from_iter([
                ("address".to_owned(), real.ip().to_string().into()),
                ("port".to_owned(), i64::from(real.port()).into()),
            ]),
        };
        if let Some(weight) = weight {
            table.insert("weight".to_owned(), i64::from(weight).into());
        }
        match self.place(real) {
            Some(n) => list[n] = table.into(),
            None => list.push(table.into()),
        }
    }

    fn remove_real(&self, service: &mut Table, real: SocketAddr) -> Result<(), Unchanged> {
        let place = self.place(real).ok_or(Unchanged::NoReal(real))?;
        if let Some(Value::Array(list)) = service.get_mut("real") {
            list.remove(place);
        }
        Ok(())
    }
}

/// RFC 7396, section 2.
fn merge(target: &mut Table, patch: &Map<String, Json>) -> Result<(), toml::ser::Error> {
    for (key, value) in patch {
        match value {
            Json::Null => {
                target.remove(key);
            }
            Json::Object(inner) => {
                let mut table = match target.remove(key) {
                    Some(Value::Table(table)) => table,
                    _ => Table::new(),
                };
                merge(&mut table, inner)?;
                target.insert(key.clone(), table.into());
            }
            other => {
                target.insert(key.clone(), Value::try_from(other)?);
            }
        }
    }
    Ok(())
}

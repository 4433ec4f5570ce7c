//! Changes of configuration files as text: what is not changed stays as it is written, comments and order included.

mod layout;
mod reals;
mod values;

use super::change::ServiceChange;
use super::{ServiceConfig, Text};
use layout::{detach, place_before, unplace};
use std::net::{IpAddr, SocketAddr};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table};

/// The protocol of a table that is several services.
const BOTH: &str = "tcp+udp";

/// What becomes of a configuration's services.
#[derive(Debug)]
pub(crate) enum FileChange<'a> {
    /// The `[[service]]` tables of a text come, or take the place of those of the same protocol, address and port.
    Put(&'a str),
    /// A service goes: by its name, or as `tcp:192.0.2.80:80`.
    Remove(&'a str),
    Change(&'a str, &'a ServiceChange),
}

/// A file with a change in it.
#[derive(Debug, PartialEq)]
pub(crate) struct Edited {
    /// Its place among the texts.
    pub file: usize,
    pub text: String,
    /// The services that were put or changed, as `[[service]]` tables; none: one was removed.
    pub services: Option<String>,
}

/// Changes one of a configuration's files: the one that has the service, or for a new one the main file.
///
/// # Errors
/// Why no file is changed, in words for the operator.
pub(crate) fn edit(texts: &[Text], change: &FileChange) -> Result<Edited, String> {
    let mut files = Files::parse(texts)?;
    let (file, services) = match change {
        FileChange::Put(text) => {
            let (file, services) = files.put(text)?;
            (file, Some(services))
        }
        FileChange::Remove(service) => (files.remove(service)?, None),
        FileChange::Change(service, change) => {
            let (file, services) = files.change(service, change)?;
            (file, Some(services))
        }
    };
    let mut text = files.0[file].document.to_string();
    if files.0[file].has_crlf {
        text = text.replace('\n', "\r\n");
    }
    Ok(Edited {
        file,
        text,
        services,
    })
}

struct File {
    name: String,
    document: DocumentMut,
    has_crlf: bool,
}

struct Files(Vec<File>);

impl Files {
    fn parse(texts: &[Text]) -> Result<Files, String> {
        let parse = |text: &Text| {
            let has_crlf = text.text.contains("\r\n");
            let lines = text.text.replace("\r\n", "\n");
            let document = lines.parse::<DocumentMut>();
            Ok(File {
                name: text.name.clone(),
                document: document.map_err(|why| format!("{}: {why}", text.name))?,
                has_crlf,
            })
        };
        texts.iter().map(parse).collect::<Result<_, _>>().map(Files)
    }

    /// The file and the place in it of the service that is meant: names go before addresses.
    fn find(&self, meant: &str) -> Option<(usize, usize)> {
        self.position(|table| name_of(table) == Some(meant))
            .or_else(|| {
                let meant = normal(meant)?;
                self.position(|table| key_of(table).as_ref() == Some(&meant))
            })
    }

    /// The name of the table of several protocols that one is meant of, if it is so.
    fn of_several(&self, meant: &str) -> Option<Option<&str>> {
        let (protocol, place) = meant.split_once(':')?;
        let both = BOTH.split('+').any(|one| one == protocol);
        let meant = normal(&format!("{BOTH}:{place}")).filter(|_| both)?;
        let mut tables = self.0.iter().filter_map(|file| services_of(&file.document));
        let table = tables.find_map(|tables| {
            let mut tables = tables.iter();
            tables.find(|table| key_of(table).as_ref() == Some(&meant))
        });
        Some(name_of(table?))
    }

    fn position(&self, is_it: impl Fn(&Table) -> bool) -> Option<(usize, usize)> {
        self.0.iter().enumerate().find_map(|(n, file)| {
            let tables = services_of(&file.document)?;
            Some((n, tables.iter().position(&is_it)?))
        })
    }

    fn found(&self, meant: &str) -> Result<(usize, usize), String> {
        if let Some(name) = self.of_several(meant) {
            let its = name.map_or("give it a name".to_owned(), |name| {
                format!("write {name:?}")
            });
            return Err(format!(
                "{meant:?} is one of the protocols of a [[service]], which are changed together: {its}"
            ));
        }
        self.find(meant).ok_or_else(|| {
            let names: Vec<_> = self.0.iter().map(|file| file.name.as_str()).collect();
            format!("no [[service]] table in {} is {meant:?}", names.join(", "))
        })
    }

    fn tables(&mut self, file: usize) -> Result<&mut ArrayOfTables, String> {
        let File { name, document, .. } = &mut self.0[file];
        let tables = document
            .entry("service")
            .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        tables.as_array_of_tables_mut().ok_or_else(|| {
            format!(
                "{name}: its services are no [[service]] tables: write them so, or edit it by hand"
            )
        })
    }

    fn remove(&mut self, meant: &str) -> Result<usize, String> {
        let (file, at) = self.found(meant)?;
        let tables = self.tables(file)?;
        let removed = tables.remove(at);
        if tables.is_empty() {
            self.0[file].document.remove("service");
        }
        if let Some(kept) = detach(&removed) {
            place_before(&mut self.0[file].document, removed.position(), &kept);
        }
        Ok(file)
    }

    fn change(&mut self, meant: &str, change: &ServiceChange) -> Result<(usize, String), String> {
        let (file, at) = self.found(meant)?;
        let service = self.tables(file)?.get_mut(at);
        let service = service.ok_or("the service is gone")?;
        let pool = service.get("pool").and_then(Item::as_str);
        if !matches!(change, ServiceChange::Set(_))
            && let Some(why) = ServiceConfig::why_fixed(pool)
        {
            return Err(why);
        }
        match change {
            ServiceChange::Set(keys) => values::merge(service, keys)?,
            ServiceChange::PutReal(real, keys) => reals::put(service, *real, *keys)?,
            ServiceChange::SetReal(real, keys) => reals::set(service, *real, *keys)?,
            ServiceChange::RemoveReal(real) => reals::remove(service, *real)?,
        }
        Ok((file, alone(service)))
    }

    fn put(&mut self, text: &str) -> Result<(usize, String), String> {
        let added = text.replace("\r\n", "\n").parse::<DocumentMut>();
        let mut added = added.map_err(|why| why.to_string())?;
        let Some(Item::ArrayOfTables(added)) = added.remove("service") else {
            return Err("there is no [[service]] table".to_owned());
        };
        let place = |table: &Table| {
            let key = key_of(table)?;
            self.position(|other| key_of(other).as_ref() == Some(&key))
        };
        let places: Vec<_> = added.iter().map(place).collect();
        let mut files: Vec<usize> = places.iter().map(|it| it.map_or(0, |(n, _)| n)).collect();
        files.dedup();
        let &[file] = files.as_slice() else {
            return Err("the services belong into several files: add them one by one".to_owned());
        };
        let tables = self.tables(file)?;
        let mut all = String::new();
        for (mut table, place) in added.into_iter().zip(places) {
            unplace(&mut table);
            all += &alone(&table);
            match place.and_then(|(_, at)| Some((at, tables.get(at)?))) {
                Some((at, former)) => {
                    if let Some(prefix) = former.decor().prefix() {
                        table.decor_mut().set_prefix(prefix.clone());
                    }
                    table.set_position(former.position());
                    tables.replace(at, table);
                }
                None => tables.push(table),
            }
        }
        Ok((file, all))
    }
}

fn services_of(document: &DocumentMut) -> Option<&ArrayOfTables> {
    document.get("service")?.as_array_of_tables()
}

fn name_of(service: &Table) -> Option<&str> {
    service.get("name")?.as_str()
}

/// `tcp:192.0.2.80:80`, `tcp:192.0.2.80:8000-8099`
fn key_of(service: &Table) -> Option<String> {
    let address: IpAddr = service.get("address")?.as_str()?.parse().ok()?;
    let port = service.get("port")?;
    let port = match port.as_str() {
        Some(range) => range_of(range)?,
        None => u16::try_from(port.as_integer()?).ok()?.to_string(),
    };
    let protocol = service.get("protocol")?.as_str()?;
    Some(match address {
        IpAddr::V4(address) => format!("{protocol}:{address}:{port}"),
        IpAddr::V6(address) => format!("{protocol}:[{address}]:{port}"),
    })
}

/// The same text for every way to write a range of ports.
fn range_of(text: &str) -> Option<String> {
    let (first, last) = text.split_once('-')?;
    let port = |text: &str| text.trim().parse::<u16>().ok();
    Some(format!("{}-{}", port(first)?, port(last)?))
}

/// The same text for every way to write a service's address.
fn normal(meant: &str) -> Option<String> {
    let (protocol, place) = meant.split_once(':')?;
    let (place, last) = match place.rsplit_once('-') {
        Some((place, last)) => (place, Some(last.parse::<u16>().ok()?)),
        None => (place, None),
    };
    let place: SocketAddr = place.parse().ok()?;
    let last = last.map_or(String::new(), |last| format!("-{last}"));
    Some(format!("{protocol}:{place}{last}"))
}

/// A service as a file of its own.
fn alone(service: &Table) -> String {
    let mut service = service.clone();
    unplace(&mut service);
    let mut tables = ArrayOfTables::new();
    tables.push(service);
    let mut document = DocumentMut::new();
    document.insert("service", Item::ArrayOfTables(tables));
    document.to_string()
}

#[cfg(test)]
mod tests;

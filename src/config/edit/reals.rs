//! The real servers of a service in a file: tables of their own, or a list in its line.

use super::super::RealKeys;
use super::layout::{Layout, indentation};
use super::values::{merge, merge_like, tidy};
use std::net::{IpAddr, SocketAddr};
use toml_edit::{
    Array, ArrayOfTables, InlineTable, Item, RawString, Table, TableLike, Value, value,
};

const ODD: &str = "the service's real servers are neither [[service.real]] tables nor a list of tables: edit the file by hand";

/// What decides which real server a table is.
struct Service {
    port: i64,
    /// The mode keeps the packet's port, whatever the table says.
    has_ports: bool,
}

impl Service {
    fn of(table: &Table) -> Service {
        let mode = table.get("mode").and_then(Item::as_str);
        Service {
            port: table.get("port").and_then(Item::as_integer).unwrap_or(0),
            has_ports: matches!(mode, Some("nat" | "fullnat")),
        }
    }

    fn is(&self, table: &dyn TableLike, real: SocketAddr) -> bool {
        let address = table.get("address").and_then(Item::as_str);
        let address = address.and_then(|address| address.parse::<IpAddr>().ok());
        let port = table.get("port").and_then(Item::as_integer);
        let port = port.filter(|_| self.has_ports).unwrap_or(self.port);
        address == Some(real.ip()) && port == i64::from(real.port())
    }

    fn fill(
        &self,
        table: &mut dyn TableLike,
        real: SocketAddr,
        keys: RealKeys,
    ) -> Result<(), String> {
        table.insert("address", value(real.ip().to_string()));
        if i64::from(real.port()) != self.port {
            table.insert("port", value(i64::from(real.port())));
        }
        merge_like(table, &keys.keys())
    }
}

/// Gives a real server that the service has other numbers. Returns whether it has it.
fn change(service: &mut Table, real: SocketAddr, keys: RealKeys) -> Result<bool, String> {
    let of = Service::of(service);
    let keys = keys.keys();
    match service.get_mut("real") {
        Some(Item::ArrayOfTables(tables)) => match tables.iter_mut().find(|it| of.is(*it, real)) {
            Some(table) => merge(table, &keys).map(|()| true),
            None => Ok(false),
        },
        Some(Item::Value(Value::Array(list))) => {
            let mut tables = list.iter_mut().filter_map(Value::as_inline_table_mut);
            let Some(table) = tables.find(|it| of.is(&**it, real)) else {
                return Ok(false);
            };
            let is_longer = keys.keys().any(|key| !table.contains_key(key));
            merge_like(table, &keys)?;
            if is_longer {
                tidy(table);
            }
            Ok(true)
        }
        Some(_) => Err(ODD.to_owned()),
        None => Ok(false),
    }
}

fn missing(real: SocketAddr) -> String {
    format!("no table of the service is the real server {real}")
}

pub(super) fn set(service: &mut Table, real: SocketAddr, keys: RealKeys) -> Result<(), String> {
    match change(service, real, keys)? {
        true => Ok(()),
        false => Err(missing(real)),
    }
}

pub(super) fn put(service: &mut Table, real: SocketAddr, keys: RealKeys) -> Result<(), String> {
    if change(service, real, keys)? {
        return Ok(());
    }
    let of = Service::of(service);
    let layout = Layout::within(service);
    let reals = service
        .entry("real")
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    match reals {
        Item::ArrayOfTables(tables) => {
            let last = tables.len().checked_sub(1).and_then(|n| tables.get(n));
            let layout = last.map_or(layout, Layout::of);
            let mut table = Table::new();
            of.fill(&mut table, real, keys)?;
            layout.apply(&mut table);
            tables.push(table);
        }
        Item::Value(Value::Array(list)) => {
            let mut table = InlineTable::new();
            of.fill(&mut table, real, keys)?;
            let mut added = Value::InlineTable(table);
            let last = list.len().checked_sub(1).and_then(|n| list.get(n));
            match last.and_then(|last| last.decor().prefix()) {
                Some(prefix) => {
                    // Comments before the last one are not repeated.
                    let has_line = prefix.as_str().is_some_and(|it| it.contains('\n'));
                    let indent = indentation(Some(prefix));
                    let prefix = if has_line {
                        format!("\n{indent}")
                    } else {
                        " ".to_owned()
                    };
                    added.decor_mut().set_prefix(prefix);
                    list.push_formatted(added);
                }
                None => list.push(added),
            }
        }
        _ => return Err(ODD.to_owned()),
    }
    Ok(())
}

pub(super) fn remove(service: &mut Table, real: SocketAddr) -> Result<(), String> {
    let of = Service::of(service);
    let missing = || missing(real);
    let is_empty = match service.get_mut("real") {
        Some(Item::ArrayOfTables(tables)) => {
            let at = tables.iter().position(|it| of.is(it, real));
            tables.remove(at.ok_or_else(missing)?);
            tables.is_empty()
        }
        Some(Item::Value(Value::Array(list))) => {
            let is_it = |it: &Value| it.as_inline_table().is_some_and(|it| of.is(it, real));
            let at = list.iter().position(is_it);
            take_out(list, at.ok_or_else(missing)?);
            list.is_empty()
        }
        Some(_) => return Err(ODD.to_owned()),
        None => return Err(missing()),
    };
    if is_empty {
        service.remove("real");
    }
    Ok(())
}

/// Removes a value of a list, and the comments that are its own: behind it in its line, and in the lines before it up to an empty
/// one. Those of others stay where they are.
fn take_out(list: &mut Array, at: usize) {
    let own = list.get(at).map(|value| decor(value.decor().prefix()));
    let own = own.unwrap_or_default();
    let next = list.get(at + 1).map(|value| decor(value.decor().prefix()));
    let suffix = list.get(at).map(|value| decor(value.decor().suffix()));
    // What is behind it, the last one's to the end of the list.
    let behind = next.unwrap_or_else(|| {
        let trailing = list.trailing().as_str().unwrap_or_default();
        suffix.unwrap_or_default() + trailing
    });
    list.remove(at);
    let (before, lines) = own.split_at(own.find('\n').unwrap_or(own.len()));
    let others = lines.rfind("\n\n").map_or("", |end| &lines[..=end]);
    let rest = &behind[behind.find('\n').unwrap_or(behind.len())..];
    let mut between = format!("{before}{others}{rest}");
    match list.get_mut(at) {
        Some(next) => next.decor_mut().set_prefix(between),
        None => {
            if !between.contains('\n') {
                // A list in one line ends as it did, unless that would make its bracket a part of a comment.
                between = match before.contains('#') {
                    true => format!("{before}\n"),
                    false => behind,
                };
            }
            list.set_trailing(between);
        }
    }
}

fn decor(text: Option<&RawString>) -> String {
    text.and_then(RawString::as_str)
        .unwrap_or_default()
        .to_owned()
}

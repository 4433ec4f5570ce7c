//! Values in a file: another one takes the place of the former, with the comment behind it.

use super::layout::indentation;
use serde_json::{Map, Value as Json};
use toml_edit::{Array, InlineTable, Item, Table, TableLike, Value};

/// Changes the keys of a table as a JSON merge patch says (RFC 7396).
pub(super) fn merge(table: &mut Table, patch: &Map<String, Json>) -> Result<(), String> {
    let first = table.iter().next().and_then(|(key, _)| table.key(key));
    let indent = indentation(first.and_then(|key| key.leaf_decor().prefix()));
    merge_like(table, patch)?;
    for key in patch.keys() {
        if let Some(mut key) = table.key_mut(key)
            && key.leaf_decor().prefix().is_none()
        {
            key.leaf_decor_mut().set_prefix(indent.as_str());
        }
    }
    Ok(())
}

pub(super) fn merge_like(
    table: &mut dyn TableLike,
    patch: &Map<String, Json>,
) -> Result<(), String> {
    for (key, new) in patch {
        match (new, table.get_mut(key)) {
            (Json::Null, _) => {
                table.remove(key);
            }
            (Json::Object(inner), Some(item)) if item.is_table_like() => {
                if let Some(inside) = item.as_table_like_mut() {
                    merge_like(inside, inner)?;
                }
                if let Some(inline) = item.as_inline_table_mut() {
                    tidy(inline);
                }
            }
            (new, _) => set(table, key, value(new)?),
        }
    }
    Ok(())
}

/// Puts the blanks of a table in one line right, after keys came or went; where it has comments or several lines, it stays.
pub(super) fn tidy(table: &mut InlineTable) {
    let written = table.to_string();
    if !written.contains(['#', '\n']) {
        table.fmt();
    }
}

/// Gives a key a value.
pub(super) fn set(table: &mut dyn TableLike, key: &str, mut new: Value) {
    match table.get_mut(key) {
        Some(Item::Value(former)) => {
            *new.decor_mut() = former.decor().clone();
            *former = new;
        }
        _ => {
            table.insert(key, Item::Value(new));
        }
    }
}

fn value(json: &Json) -> Result<Value, String> {
    Ok(match json {
        Json::Null => return Err("null takes a key away: in a list it means nothing".to_owned()),
        Json::Bool(truth) => Value::from(*truth),
        Json::String(text) => Value::from(text.as_str()),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::from(whole),
            (None, Some(fraction)) => Value::from(fraction),
            (None, None) => return Err(format!("{number} is no number that TOML has")),
        },
        Json::Array(items) => {
            let items = items.iter().map(value).collect::<Result<Array, _>>()?;
            Value::Array(items)
        }
        Json::Object(members) => {
            let mut table = InlineTable::new();
            for (key, member) in members.iter().filter(|(_, it)| !it.is_null()) {
                table.insert(key, value(member)?);
            }
            Value::InlineTable(table)
        }
    })
}

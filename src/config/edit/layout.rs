//! Where tables stand in a file, and the white space and comments around them.

use toml_edit::{DocumentMut, Item, RawString, Table};

/// How a table is indented.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// Whether an empty line is before its header.
    has_gap: bool,
    header: String,
    key: String,
}

impl Layout {
    pub(super) fn of(table: &Table) -> Layout {
        let prefix = table.decor().prefix();
        let first = table.iter().next().and_then(|(key, _)| table.key(key));
        let key = first.and_then(|key| key.leaf_decor().prefix());
        Layout {
            has_gap: text(prefix).starts_with('\n'),
            header: indentation(prefix),
            key: indentation(key),
        }
    }

    /// That of a real server's table where the service has none yet.
    pub(super) fn within(service: &Table) -> Layout {
        let Layout { key, .. } = Layout::of(service);
        Layout {
            has_gap: false,
            header: key.clone(),
            key,
        }
    }

    pub(super) fn apply(&self, table: &mut Table) {
        let gap = if self.has_gap { "\n" } else { "" };
        table
            .decor_mut()
            .set_prefix(format!("{gap}{}", self.header));
        let keys: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
        for key in keys {
            if let Some(mut key) = table.key_mut(&key) {
                key.leaf_decor_mut().set_prefix(self.key.as_str());
            }
        }
    }
}

fn text(raw: Option<&RawString>) -> &str {
    raw.and_then(RawString::as_str).unwrap_or_default()
}

/// The blanks behind the last line break.
pub(super) fn indentation(raw: Option<&RawString>) -> String {
    let last = text(raw).rsplit('\n').next().unwrap_or_default();
    last.chars().filter(|it| matches!(it, ' ' | '\t')).collect()
}

/// The comments before a table that are not its own: an empty line is between.
pub(super) fn detach(table: &Table) -> Option<String> {
    let prefix = text(table.decor().prefix());
    let (others, _own) = prefix.rsplit_once("\n\n")?;
    let has_comment = others.contains('#');
    has_comment.then(|| format!("{others}\n"))
}

/// Writes comments before the first table behind a place of the file, or at its end.
pub(super) fn place_before(document: &mut DocumentMut, place: Option<isize>, comments: &str) {
    let mut next = None;
    places(document.as_table(), &mut |position| {
        let is_behind = place.is_none_or(|place| position > place);
        if is_behind && next.is_none_or(|next| position < next) {
            next = Some(position);
        }
    });
    match next {
        Some(next) => prepend(document.as_table_mut(), next, comments),
        None => {
            let trailing = text(Some(document.trailing())).to_owned();
            document.set_trailing(format!("{comments}{trailing}"));
        }
    }
}

/// The positions of all tables that have a header.
fn places(table: &Table, seen: &mut impl FnMut(isize)) {
    for (_, item) in table.iter() {
        let tables: Vec<&Table> = match item {
            Item::Table(inner) => vec![inner],
            Item::ArrayOfTables(list) => list.iter().collect(),
            _ => continue,
        };
        for inner in tables {
            if let Some(position) = inner.position().filter(|_| !inner.is_implicit()) {
                seen(position);
            }
            places(inner, seen);
        }
    }
}

fn prepend(table: &mut Table, position: isize, comments: &str) {
    for (_, item) in table.iter_mut() {
        let tables: Vec<&mut Table> = match item {
            Item::Table(inner) => vec![inner],
            Item::ArrayOfTables(list) => list.iter_mut().collect(),
            _ => continue,
        };
        for inner in tables {
            if inner.position() == Some(position) && !inner.is_implicit() {
                let prefix = text(inner.decor().prefix()).to_owned();
                inner.decor_mut().set_prefix(format!("{comments}{prefix}"));
            }
            prepend(inner, position, comments);
        }
    }
}

/// Forgets where a table of another file stood there: it follows the one before it in its list.
pub(super) fn unplace(table: &mut Table) {
    table.set_position(None);
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(inner) => unplace(inner),
            Item::ArrayOfTables(list) => list.iter_mut().for_each(unplace),
            _ => {}
        }
    }
}

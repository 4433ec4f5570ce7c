//! docs/events.md against the source: it has every event that there is, with its fields, and no other.

use super::ring::kind_of;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Kind, level, message, fields.
type Event = (String, String, String, Vec<String>);

/// The files of the source that make up the daemon.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !matches!(name, "command" | "bench" | "tests") {
                files(&path, found);
            }
        } else if name.ends_with(".rs") && !name.contains("tests") && name != "testing.rs" {
            found.push(path);
        }
    }
}

/// What is between a bracket and the one that closes it.
fn inside(text: &str) -> &str {
    let (mut depth, mut is_text, mut is_escaped) = (1, false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_text => is_escaped = true,
            '"' => is_text = !is_text,
            '(' | '[' | '{' if !is_text => depth += 1,
            ')' | ']' | '}' if !is_text => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    panic!("no end: {}", &text[..text.len().min(200)]);
}

/// The arguments of a macro.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut is_text, mut is_escaped) = (0, false, false);
    let mut all = vec![String::new()];
    for letter in text.chars() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_text => is_escaped = true,
            '"' => is_text = !is_text,
            '(' | '[' | '{' if !is_text => depth += 1,
            ')' | ']' | '}' if !is_text => depth -= 1,
            ',' if !is_text && depth == 0 => {
                all.push(String::new());
                continue;
            }
            _ => {}
        }
        all.last_mut().unwrap().push(letter);
    }
    all.iter().map(|it| it.trim().to_owned()).collect()
}

/// What is between the quotes, without the ends of lines that are none.
fn literal(text: &str) -> String {
    let text = text.trim_matches('"');
    let mut pieces = text.split("\\\n");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + piece.trim_start())
}

fn of_source() -> BTreeSet<Event> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files(&root, &mut paths);
    let mut events = BTreeSet::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let module = path.strip_prefix(&root).unwrap().with_extension("");
        let module = module.to_str().unwrap().replace('/', "::");
        let module = format!("weir::{}", module.trim_end_matches("::mod"));
        for level in ["error", "warn", "info"] {
            for call in text.split(&format!("tracing::{level}!(")).skip(1) {
                let mut target = module.clone();
                let (mut fields, mut message) = (Vec::new(), None);
                for argument in arguments(inside(call)) {
                    if let Some(name) = argument.strip_prefix("target:") {
                        target = literal(name.trim());
                    } else if argument.starts_with('"') {
                        message = Some(literal(&argument));
                        break;
                    } else {
                        let name = argument.split('=').next().unwrap();
                        fields.push(name.trim().trim_matches(['%', '?']).to_owned());
                    }
                }
                let message = message.unwrap_or_else(|| panic!("{module}: {}", inside(call)));
                events.insert((
                    kind_of(&target).to_owned(),
                    level.to_owned(),
                    message,
                    fields,
                ));
            }
        }
    }
    events
}

fn of_page(page: &str) -> BTreeMap<Event, String> {
    let mut events = BTreeMap::new();
    let mut kind = "";
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            kind = heading;
        }
        let Some(row) = line.strip_prefix("| `") else {
            continue;
        };
        // A message with ` in it stands between two of them.
        let (message, rest) = match row.strip_prefix("` ") {
            Some(row) => row.split_once(" `` | ").unwrap(),
            None => row.split_once("` | ").unwrap(),
        };
        let cells: Vec<&str> = rest.trim_end_matches(" |").splitn(3, " | ").collect();
        let fields = cells[1].split(", ").map(|it| it.trim_matches([' ', '`']));
        let fields = fields.filter(|it| !it.is_empty()).map(str::to_owned);
        let event = (
            kind.to_owned(),
            cells[0].to_owned(),
            message.to_owned(),
            fields.collect(),
        );
        let means = cells.get(2).copied().unwrap_or_default().to_owned();
        assert_eq!(events.insert(event, means), None, "twice: {line}");
    }
    events
}

#[test]
fn the_page_has_every_event_with_its_fields_and_what_it_means() {
    let page = of_page(include_str!("../../docs/events.md"));
    let told: BTreeSet<Event> = page.keys().cloned().collect();
    let said = of_source();
    assert!(said.len() > 90, "{}", said.len());
    let lacks: Vec<_> = said.difference(&told).collect();
    assert!(lacks.is_empty(), "docs/events.md lacks {lacks:#?}");
    let others: Vec<_> = told.difference(&said).collect();
    assert!(others.is_empty(), "there are no such events: {others:#?}");
    for (event, means) in page {
        assert!(
            means.ends_with('.') && means.len() > 15,
            "{event:?}: {means:?}"
        );
    }
    let mut kinds: Vec<_> = said.iter().map(|event| event.0.as_str()).collect();
    kinds.dedup();
    assert_eq!(kinds, super::kinds().collect::<Vec<_>>());
}

//! ARCHITECTURE.md lists what each room may use of the others, and draws a packet's way. This holds the code against both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Rooms = BTreeMap<String, BTreeSet<String>>;

/// The documented rooms.
fn documented(root: &Path) -> Rooms {
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let list = text.split("<!-- layering -->").nth(1).unwrap();
    let list = list.split("```").nth(1).unwrap();
    let words = |line: &str| line.split_whitespace().map(String::from).collect();
    let rooms: Rooms = list
        .trim()
        .lines()
        .map(|line| {
            let (room, uses) = line.split_once(':').unwrap();
            (room.to_owned(), words(uses))
        })
        .collect();
    assert!(rooms.len() > 10, "the list was found");
    rooms
}

/// A source file without its tests and comments.
fn code_of(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// A test module of its own is no part of the room.
fn is_test(file: &Path) -> bool {
    let name = file.file_stem().unwrap().to_str().unwrap();
    name.ends_with("tests") || name == "testing"
}

/// Every `crate::room` that a source file names outside of its tests.
fn uses_of(file: &Path, rooms: &Rooms, uses: &mut BTreeSet<String>) {
    let code = code_of(file);
    for found in code.split("crate::").skip(1) {
        // `use crate::{a::X, b}` as well as `crate::a::X`.
        let list = match found.strip_prefix('{') {
            Some(group) => group.split(';').next().unwrap().split([',', '{']).collect(),
            None => vec![found],
        };
        for item in list {
            let item = item.trim_start();
            let end = item
                .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
                .unwrap_or(item.len());
            if rooms.contains_key(&item[..end]) {
                uses.insert(item[..end].to_owned());
            }
        }
    }
}

fn walk(path: &Path, files: &mut Vec<std::path::PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), files);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        files.push(path.to_owned());
    }
}

#[test]
fn rooms_use_what_the_architecture_says_and_nothing_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documented = documented(root);
    let mut actual = Rooms::new();
    for entry in fs::read_dir(root.join("src")).unwrap() {
        let path = entry.unwrap().path();
        let room = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if room == "lib" || room == "main" {
            continue;
        }
        let mut files = vec![];
        walk(&path, &mut files);
        let uses = actual.entry(room.clone()).or_default();
        for file in files {
            if !is_test(&file) {
                uses_of(&file, &documented, uses);
            }
        }
        uses.remove(&room);
    }
    let mut faults = vec![];
    for (room, uses) in &actual {
        let Some(allowed) = documented.get(room) else {
            faults.push(format!("{room}: not in ARCHITECTURE.md"));
            continue;
        };
        for unlisted in uses.difference(allowed) {
            faults.push(format!(
                "{room} uses {unlisted}, which ARCHITECTURE.md does not say"
            ));
        }
        for unused in allowed.difference(uses) {
            faults.push(format!(
                "{room} does not use {unused}, but ARCHITECTURE.md says so"
            ));
        }
    }
    for room in documented.keys().filter(|room| !actual.contains_key(*room)) {
        faults.push(format!("{room}: in ARCHITECTURE.md, not in src/"));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn dependencies_point_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documented = documented(root);
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    // Every room must find a place below all that it uses.
    while placed.len() < documented.len() {
        let next: Vec<&str> = documented
            .iter()
            .filter(|(room, uses)| {
                !placed.contains(room.as_str())
                    && uses.iter().all(|used| placed.contains(used.as_str()))
            })
            .map(|(room, _)| room.as_str())
            .collect();
        let left: Vec<_> = documented
            .keys()
            .filter(|room| !placed.contains(room.as_str()))
            .collect();
        assert!(!next.is_empty(), "these use each other: {left:?}");
        placed.extend(next);
    }
}

/// Rooms that run anywhere: on the daemon's clock, on a replay's, in a test.
const PURE: [&str; 4] = ["director", "health", "resolver", "model"];

/// What such a room does not name. Of `std::net` it has the addresses.
const IMPURE: [&str; 15] = [
    "tokio",
    "axum",
    "hyper",
    "rustix",
    "std::thread",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::os",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "Instant",
    "SystemTime",
];

#[test]
fn pure_rooms_have_no_thread_no_clock_and_no_io() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    assert!(text.contains("`director`, `health`, `resolver` and `model` have no thread"));
    let mut faults = vec![];
    for room in PURE {
        let mut files = vec![];
        walk(&root.join("src").join(room), &mut files);
        assert!(!files.is_empty(), "{room}");
        for file in files.iter().filter(|file| !is_test(file)) {
            let code = code_of(file);
            // A group would hide what is in it.
            assert!(!code.contains("use std::{"), "{}", file.display());
            for impure in IMPURE.iter().filter(|impure| code.contains(*impure)) {
                faults.push(format!("{} names {impure}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn unsafe_code_is_allowed_only_where_the_architecture_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![];
    walk(&root.join("src"), &mut files);
    let allowed: Vec<String> = files
        .iter()
        .filter(|file| {
            fs::read_to_string(file)
                .unwrap()
                .contains("allow(unsafe_code)")
        })
        .map(|file| file.strip_prefix(root).unwrap().display().to_string())
        .collect();
    let mut allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
    allowed.sort_unstable();
    assert_eq!(
        allowed,
        [
            "src/arch.rs",
            "src/io/dpdk/mod.rs",
            "src/rcu/mod.rs",
            "src/ring/mod.rs"
        ]
    );
}

/// The files and verdicts of the picture in ARCHITECTURE.md by their id, and its arrows.
type Picture = (BTreeMap<String, String>, BTreeSet<(String, String)>);

fn picture(root: &Path) -> Picture {
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let text = text.split("```mermaid\nflowchart TD\n").nth(1).unwrap();
    let (mut nodes, mut arrows) = (BTreeMap::new(), BTreeSet::new());
    for line in text.split("```").next().unwrap().lines().map(str::trim) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.iter().position(|word| *word == "-->") {
            Some(at) => {
                arrows.insert((words[0].to_owned(), words[at + 1].to_owned()));
            }
            None if words.is_empty() => {}
            None => {
                let (id, label) = line.split_once(['[', '(']).unwrap();
                let label = label.trim_matches(['[', ']', '(', ')', '"']);
                let file = label.split(':').next().unwrap();
                nodes.insert(id.to_owned(), file.to_owned());
            }
        }
    }
    assert!(nodes.len() > 10 && arrows.len() > 10, "it was found");
    (nodes, arrows)
}

/// A file's code without comments and tests, and without `Core::count`, which names every verdict and gives none.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let (before, rest) = text.split_once("    fn count(&self").unwrap_or((text, ""));
    let after = rest.split_once("\n    }\n").map_or("", |(_, after)| after);
    let lines = before.lines().chain(after.lines());
    lines
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The functions that other files may call.
fn functions(code: &str) -> Vec<&str> {
    let declared = code.split("fn ").zip(code.split("fn ").skip(1));
    declared
        .filter(|(before, _)| before.trim_end().ends_with(['b', ')']))
        .map(|(_, name)| name.split(['(', '<']).next().unwrap())
        .collect()
}

#[test]
fn the_picture_of_a_packets_way_is_that_of_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (nodes, arrows) = picture(root);
    let is_verdict = |id: &str| id.starts_with(char::is_uppercase);
    let mut faults = vec![];

    let list = fs::read_to_string(root.join("src/verdict.rs")).unwrap();
    let list = list.split("pub enum Verdict {").nth(1).unwrap();
    let list = list.split("\n}").next().unwrap();
    let verdicts: BTreeSet<_> = list
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.trim().starts_with("//"))
        .map(|line| line.trim().split(['(', ',']).next().unwrap().to_owned())
        .collect();
    let drawn: BTreeSet<_> = nodes.keys().filter(|id| is_verdict(id)).cloned().collect();
    assert_eq!(drawn, verdicts);

    let mut files = BTreeMap::new();
    for (id, file) in nodes.iter().filter(|(id, _)| !is_verdict(id)) {
        files.insert(id.as_str(), code(&root.join("src").join(file)));
    }
    for entry in fs::read_dir(root.join("src/director")).unwrap() {
        let path = entry.unwrap().path();
        let id = path.file_stem().unwrap().to_str().unwrap();
        let is_of_tests = id.ends_with("_tests") || id.ends_with("_loom");
        if !is_of_tests && !files.contains_key(id) {
            faults.push(format!("director/{id}.rs is not drawn"));
        }
    }

    for (from, to) in arrows.iter().filter(|(_, to)| !is_verdict(to)) {
        let calls = functions(&files[to.as_str()]).into_iter().any(|name| {
            let caller = &files[from.as_str()];
            [
                format!(".{name}("),
                format!(":{name}("),
                format!(" {name}("),
            ]
            .iter()
            .any(|call| caller.contains(call))
        });
        if !calls {
            faults.push(format!("{from} calls nothing of {to}"));
        }
    }
    for verdict in &verdicts {
        for (id, code) in &files {
            let is_named = |end| code.contains(&format!("Verdict::{verdict}{end}"));
            let given = id != &"worker" && (is_named('(') || is_named(')'));
            if given != arrows.contains(&((*id).to_owned(), verdict.clone())) {
                faults.push(format!("{id} gives {verdict}: {given}"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

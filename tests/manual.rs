//! The manual: every page is in its table of contents, every link leads somewhere, its files and commands are ones that weir takes.

mod skip;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use weir::config::{self, Context};

const TOP: &str = env!("CARGO_MANIFEST_DIR");

/// A page: what it is called in messages, and its text.
type Page = (PathBuf, String);

/// The pages in a folder, by path from the top.
fn pages_of(folder: &str) -> Vec<Page> {
    let mut pages: Vec<_> = std::fs::read_dir(Path::new(TOP).join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.strip_prefix(TOP).unwrap().to_owned(), text)
        })
        .collect();
    pages.sort();
    pages
}

/// Fenced blocks: the word behind the fence, and what is in it.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(word) = line.trim_start().strip_prefix("```") {
            let inside = lines.by_ref().take_while(|line| line.trim() != "```");
            let inside: String = inside.map(|line| format!("{line}\n")).collect();
            blocks.push((word.to_owned(), inside));
        }
    }
    blocks
}

/// A page without fenced blocks.
fn prose(text: &str) -> String {
    let mut is_fenced = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        !is_fence && !is_fenced
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// A text without code between backticks.
fn without_code(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('`') {
        out += &rest[..at];
        rest = &rest[at..];
        let ticks = rest.len() - rest.trim_start_matches('`').len();
        let (fence, after) = rest.split_at(ticks);
        rest = match after.split_once(fence) {
            Some((_, after)) => after,
            None => after,
        };
    }
    out + rest
}

/// Where a page's links and pictures lead.
fn links(text: &str) -> Vec<String> {
    let text = without_code(&prose(text));
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> HashSet<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let text = prose(text);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchors = headings.map(|line| {
        let title = line.trim_start_matches('#').trim();
        let letters = title.chars().filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            letter if letter.is_alphanumeric() => letter.to_lowercase().next(),
            _ => None,
        });
        let anchor: String = letters.collect();
        let count = seen.entry(anchor.clone()).or_default();
        *count += 1;
        match *count {
            1 => anchor,
            more => format!("{anchor}-{}", more - 1),
        }
    });
    anchors.collect()
}

#[test]
fn links_and_anchors_are_found_in_what_markdown_has() {
    let text = "# One page\n[a](b.md) `[x](y)` [`[[c]]`](#c_d)\n```sh\n# no heading\n[x](y)\n```\n## `c_d`\n![p](p/q.svg) [https](https://a/b)\n## One page\n";
    assert_eq!(links(text), ["b.md", "#c_d", "p/q.svg", "https://a/b"]);
    let expected = ["one-page", "c_d", "one-page-1"].map(str::to_owned);
    assert_eq!(anchors(text), HashSet::from(expected));
    assert_eq!(
        blocks(text),
        [("sh".to_owned(), "# no heading\n[x](y)\n".to_owned())]
    );
}

#[test]
fn every_page_is_in_the_table_of_contents_once() {
    let summary = std::fs::read_to_string(format!("{TOP}/docs/SUMMARY.md")).unwrap();
    let mut listed = links(&summary);
    listed.sort();
    let pages = pages_of("docs").into_iter();
    let pages = pages.map(|(path, _)| path.file_name().unwrap().to_str().unwrap().to_owned());
    let mut pages: Vec<_> = pages.filter(|name| name != "SUMMARY.md").collect();
    pages.sort();
    assert_eq!(listed, pages);
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let pages: Vec<_> = ["", "docs", "server-kit"]
        .into_iter()
        .flat_map(pages_of)
        .collect();
    let mut faults = Vec::new();
    for (page, text) in &pages {
        for link in links(text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = Path::new(TOP).join(page).parent().unwrap().to_owned();
            let path = match file {
                "" => Path::new(TOP).join(page),
                file => folder.join(file),
            };
            let fault = |why: &str| format!("{}: ({link}) {why}", page.display());
            let Ok(path) = path.canonicalize() else {
                faults.push(fault("leads to no file"));
                continue;
            };
            // What is beyond the folder is not in the book, nor beside the package's pages.
            let is_in_docs = path.starts_with(format!("{TOP}/docs"));
            if page.starts_with("docs") && !is_in_docs {
                faults.push(fault("leads out of docs/"));
            }
            if !anchor.is_empty() {
                let there = std::fs::read_to_string(&path).unwrap_or_default();
                if !anchors(&there).contains(anchor) {
                    faults.push(fault("leads to no heading"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn pictures_are_what_their_texts_say() {
    let folder = format!("{TOP}/docs/pictures");
    let files = std::fs::read_dir(&folder).unwrap();
    let names: HashSet<_> = files.map(|entry| entry.unwrap().path()).collect();
    let texts = names
        .iter()
        .filter(|path| path.extension().unwrap() == "txt");
    let texts: Vec<_> = texts.collect();
    // No picture without a text, and each is shown somewhere.
    assert_eq!(names.len(), 2 * texts.len(), "{names:?}");
    let pages = pages_of("docs");
    for text in &texts {
        let shown = format!("(pictures/{}.svg)", text.file_stem().unwrap().display());
        assert!(
            pages.iter().any(|(_, page)| page.contains(&shown)),
            "{shown} is on no page"
        );
    }
    let drawn = Command::new("/usr/bin/python3")
        .arg(format!("{TOP}/scripts/lib/pictures.py"))
        .arg("--check")
        .args(&texts)
        .output();
    match drawn {
        Ok(drawn) => assert!(
            drawn.status.success(),
            "{}",
            String::from_utf8_lossy(&drawn.stderr)
        ),
        Err(why) => skip::skip(&format!("/usr/bin/python3: {why}")),
    }
}

#[test]
fn files_in_the_manual_are_ones_that_weir_takes() {
    let context = Context {
        cpus: None,
        devices: false,
    };
    let mut whole = 0;
    for (page, text) in ["", "docs"].into_iter().flat_map(pages_of) {
        for (word, block) in blocks(&text) {
            // Others are a part of one.
            if word != "toml" || !block.contains("[[port]]") || !block.contains("[[service]]") {
                continue;
            }
            whole += 1;
            if let Err(wrong) = config::parse(&block, "weir.toml", &context) {
                panic!("{}: {wrong}", page.display());
            }
        }
    }
    assert!(whole >= 3, "{whole}");
}

#[test]
fn what_pages_import_is_carried_over_whole() {
    let mut imported = 0;
    for (page, text) in pages_of("docs") {
        let blocks = blocks(&text);
        for (n, (word, rules)) in blocks.iter().enumerate() {
            if word != "ipvsadm" {
                continue;
            }
            // The commands of the page, in a folder with the file that they name.
            let commands = blocks[n..].iter().map(|(_, block)| block);
            let mut commands = commands.filter(|block| block.starts_with("weir import ipvs "));
            let commands = commands.next().expect("a command behind the file");
            let file = commands.split_whitespace().nth(3).unwrap();
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(file), rules).unwrap();
            let weir = Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap();
            let path = format!("{}:{}", weir.display(), std::env::var("PATH").unwrap());
            let output = Command::new("bash")
                .args(["-euc", commands])
                .env("PATH", path)
                .current_dir(folder.path())
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {told}", page.display());
            assert!(
                !told.contains("not carried over"),
                "{}: {told}",
                page.display()
            );
            imported += 1;
        }
    }
    assert_eq!(imported, 2);
}

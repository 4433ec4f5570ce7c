//! Reads a file and what it includes into one [`Root`].

use super::error::{Diagnostic, Diagnostics, Log, Source, Span, quote};
use super::hints;
use super::open::open_file;
use super::pieces::{self, Item, Known};
use super::raw::Root;
use super::size;
use super::value::Value;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// The most bytes of a file, and of everything that one configuration reads.
pub(crate) const MAX_BYTES: usize = 16 << 20;
const MAX_BYTES_IN_ALL: usize = 256 << 20;
/// The most files, and the most of them that may include one another in a row.
const MAX_FILES: usize = 4096;
const MAX_DEPTH: usize = 16;
/// The longest name of a file, in bytes: PATH_MAX.
const MAX_NAME: usize = 4096;

/// One of garbage has an error at every other byte.
const MAX_SYNTAX_ERRORS: usize = 100;

/// A file, as one who could read it passes it on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Text {
    pub name: String,
    pub text: String,
}

/// Reads a list of texts, up to one more than are taken of it: an empty one has few bytes, and takes many.
pub(crate) fn some_texts<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<Text>>, D::Error> {
    struct Texts;
    impl<'de> Visitor<'de> for Texts {
        type Value = Vec<Text>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX_FILES} files")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Text>, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = list.next_element()? {
                if texts.len() == MAX_FILES {
                    return Err(de::Error::invalid_length(MAX_FILES + 1, &self));
                }
                texts.push(text);
            }
            Ok(texts)
        }
    }
    from.deserialize_seq(Texts).map(Some)
}

/// The files of one configuration.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub sources: Vec<Source>,
    /// Their real paths.
    pub seen: HashSet<PathBuf>,
    /// Of their texts.
    bytes: usize,
    /// The services, in the order of the files and in them.
    pub services: Vec<Item>,
    /// From the main file to the one being read.
    open: Vec<PathBuf>,
    /// What the parser makes of a file that is no TOML is taken as well.
    pub despite_errors: bool,
    /// Files are read in pieces, some of which may be known.
    pub known: Option<Known>,
    /// Those that the next configuration may have as well.
    pub next_known: Known,
    /// Some file could not be read: what seems to be missing may be in there.
    pub broken: bool,
}

impl Files {
    /// Reads files in pieces: where an error is found its place may not be.
    pub(super) fn in_pieces(known: &Known) -> Files {
        Files {
            known: Some(known.clone()),
            next_known: known.next(),
            ..Files::default()
        }
    }

    /// The main file, with everything that it includes.
    pub(super) fn read(&mut self, path: &Path, log: &mut Log) -> Result<Root, Diagnostics> {
        let name = path.display().to_string();
        let text = text(path).map_err(|refused| {
            let help = match refused {
                Refused::Unreadable(_) => "name a file that weir may read",
                Refused::TooLarge(_) => refused.help(),
            };
            Diagnostic::of_file(&name, refused.why(), help)
        })?;
        let real = real(path);
        self.seen.insert(real.clone());
        self.open.push(real);
        let mut root = self.parse(name, text, log);
        self.include(path, &mut root, log);
        Ok(root)
    }

    /// Parses texts that a client has read: the main file, and behind it those that it includes.
    pub(super) fn parse_all(&mut self, texts: Vec<Text>, log: &mut Log) -> Root {
        let mut texts = texts.into_iter();
        let mut root = texts
            .next()
            .map_or_else(Root::default, |main| self.parse(main.name, main.text, log));
        let mut broken = !std::mem::take(&mut root.include).complete();
        for included in texts {
            let mut tables = self.parse(included.name, included.text, log);
            broken |= !std::mem::take(&mut tables.include).complete();
            root.append(tables, log);
        }
        self.broken |= broken;
        root
    }

    /// What is wrong with texts that a client of the API has read: they have the bounds of files.
    pub(super) fn refuse(texts: &[Text]) -> Option<String> {
        let bytes: usize = texts.iter().map(|text| text.text.len()).sum();
        let large = texts.iter().find(|text| text.text.len() > MAX_BYTES);
        if texts.is_empty() {
            Some("`files` is empty".to_owned())
        } else if texts.len() > MAX_FILES {
            Some(format!(
                "{} files are too many: at most {MAX_FILES} are read",
                texts.len()
            ))
        } else if texts.iter().any(|text| text.name.len() > MAX_NAME) {
            Some(format!("a file's name has more than {MAX_NAME} bytes"))
        } else if let Some(large) = large {
            let most = MAX_BYTES >> 20;
            Some(format!("{} has more than {most} MiB", quote(&large.name)))
        } else {
            let most = MAX_BYTES_IN_ALL >> 20;
            (bytes > MAX_BYTES_IN_ALL)
                .then(|| format!("the files have more than {most} MiB in all"))
        }
    }

    /// Parses one text as the next file.
    pub(super) fn parse(&mut self, name: String, text: String, log: &mut Log) -> Root {
        let file = self.sources.len() as u32;
        if let Some(root) = self.parse_pieces(&text, file, log) {
            self.bytes += text.len();
            self.sources.push(Source { name, text });
            return root;
        }
        if !size::is_acceptable(&text, file, log) {
            self.broken = true;
            self.sources.push(Source { name, text });
            return Root::default();
        }
        let (table, errors) = DeTable::parse_recoverable(&text);
        let mut broken = false;
        // One finding for each line that only lacks quotes, however much the parser finds in it.
        let mut unquoted = None;
        for error in errors.iter().take(MAX_SYNTAX_ERRORS) {
            let range = error.span().unwrap_or(text.len()..text.len());
            let at = Span::new(file, range.clone());
            if error.message() == DUPLICATE {
                let key = text.get(range).unwrap_or_default();
                log.error(at, format!("the key {} is given twice", quote(key)))
                    .help("remove one of the two");
                continue;
            }
            broken = true;
            let line = line_around(&text, range.start);
            if unquoted.as_ref() == Some(&line) {
                continue;
            }
            let written = text.get(line.clone()).unwrap_or_default();
            if let Some(mended) = hints::quoted(written) {
                // At the value, which is where the parser stumbles or before.
                let equals = written.find('=').map_or(0, |at| at + 1);
                let value = written[equals..].trim_start();
                let from = line.end - value.len();
                let at = Span::new(file, from..from + value.trim_end().len());
                log.error(at, "not TOML: text without quotes")
                    .help(hints::mend(&mended));
                unquoted = Some(line);
                continue;
            }
            log.error(at, format!("not TOML: {}", error.message()))
                .help("see https://toml.io for the syntax");
        }
        self.broken |= broken;
        let mut root = if broken && !self.despite_errors {
            Root::default()
        } else {
            let whole = Span::new(file, 0..0);
            Root::read(&DeValue::Table(table.into_inner()), whole, log).unwrap_or_default()
        };
        let services = std::mem::take(&mut root.service).items();
        self.services
            .extend(services.into_iter().map(Box::new).map(Item::Written));
        self.bytes += text.len();
        self.sources.push(Source { name, text });
        root
    }

    /// Parses a text in pieces. None: as a whole, please.
    fn parse_pieces(&mut self, text: &str, file: u32, log: &mut Log) -> Option<Root> {
        let cut = pieces::cut(text, self.known.as_ref()?, size::MOST)?;
        let (rest, errors) = DeTable::parse_recoverable(&cut.rest);
        if !errors.is_empty() {
            return None;
        }
        let items = pieces::read(text, file, &cut.services)?;
        for (piece, item) in cut.services.iter().zip(&items) {
            if let Item::Checked(services) = item {
                self.next_known.add(piece, services.clone());
            }
        }
        self.services.extend(items);
        let whole = Span::new(file, 0..0);
        let rest = DeValue::Table(rest.into_inner());
        Some(Root::read(&rest, whole, log).unwrap_or_default())
    }

    fn include(&mut self, path: &Path, root: &mut Root, log: &mut Log) {
        let include = std::mem::take(&mut root.include);
        self.broken |= !include.complete();
        let folder = path.parent().unwrap_or(Path::new(""));
        for pattern in include.items() {
            // The folder is meant as it is, whatever its name: only the pattern is one.
            let folder_pattern = glob::Pattern::escape(&folder.to_string_lossy());
            let full = Path::new(&folder_pattern).join(&pattern.value);
            // As a shell has it: `*` is no hidden file, such as one that is just being written.
            let options = glob::MatchOptions {
                require_literal_leading_dot: true,
                ..glob::MatchOptions::new()
            };
            let found = match glob::glob_with(&full.to_string_lossy(), options) {
                Ok(found) => found,
                Err(why) => {
                    self.broken = true;
                    log.error(
                        pattern.at,
                        format!("{} is no pattern: {}", quote(&pattern.value), why.msg),
                    )
                    .help("write a path, or a pattern such as \"conf.d/*.toml\"");
                    continue;
                }
            };
            // `glob` gives the paths sorted.
            let mut any = false;
            for entry in found {
                any = true;
                let included = match entry {
                    Ok(path) => path,
                    Err(why) => {
                        self.broken = true;
                        log.error(
                            pattern.at,
                            format!("cannot search for {}: {why}", quote(&pattern.value)),
                        )
                        .help("let weir read the folder");
                        continue;
                    }
                };
                if let Some((message, help)) = self.too_much(&included) {
                    // One error for all that the pattern would have brought.
                    self.broken = true;
                    log.error(pattern.at, message).help(help);
                    break;
                }
                if let Some(tables) = self.read_included(&included, pattern.at, log) {
                    root.append(tables, log);
                }
            }
            if !any {
                log.warning(
                    pattern.at,
                    format!("no file matches {}", quote(&pattern.value)),
                )
                .help("paths are relative to the folder of the file that includes");
            }
        }
    }

    /// Why no further file is read, and what to do about it.
    fn too_much(&self, next: &Path) -> Option<(String, &'static str)> {
        let name = quote(&next.display().to_string());
        if self.open.len() >= MAX_DEPTH && !self.open.contains(&real(next)) {
            let message = format!(
                "{name} would be number {} in a row of files that include one another: at most {MAX_DEPTH} are read",
                self.open.len() + 1
            );
            return Some((message, "include it from a file nearer to the main one"));
        }
        if self.sources.len() >= MAX_FILES {
            let message =
                format!("{name} would be one file too many: at most {MAX_FILES} are read");
            return Some((
                message,
                "put the tables into fewer files, or narrow the pattern",
            ));
        }
        // A larger one is refused by itself.
        let bytes = next.metadata().map_or(0, |about| about.len());
        let bytes = bytes.min(MAX_BYTES as u64) as usize;
        (self.bytes + bytes > MAX_BYTES_IN_ALL).then(|| {
            let most = MAX_BYTES_IN_ALL >> 20;
            let message = format!("{name} would be too much: at most {most} MiB are read in all");
            (message, "narrow the pattern")
        })
    }

    fn read_included(&mut self, path: &Path, at: Span, log: &mut Log) -> Option<Root> {
        let name = path.display().to_string();
        let real = real(path);
        if self.open.contains(&real) {
            log.error(at, format!("{} includes itself", quote(&name)))
                .help("narrow the pattern");
            return None;
        }
        if self.seen.contains(&real) {
            log.error(at, format!("{} is included twice", quote(&name)))
                .help("include every file once");
            return None;
        }
        let text = match text(path) {
            Ok(text) => text,
            Err(refused) => {
                self.broken = true;
                log.error(at, format!("{}: {}", quote(&name), refused.why()))
                    .help(refused.help());
                return None;
            }
        };
        self.seen.insert(real.clone());
        self.open.push(real);
        let mut root = self.parse(name, text, log);
        self.include(path, &mut root, log);
        self.open.pop();
        Some(root)
    }
}

/// The line that holds a place of the text, without its end.
fn line_around(text: &str, at: usize) -> std::ops::Range<usize> {
    // Its end belongs to the line, too.
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let length = text[start..].find('\n').unwrap_or(text.len() - start);
    start..start + length
}

/// What the `toml` crate says of a key that is given twice, which is an error like ours and hides no other.
const DUPLICATE: &str = "duplicate key";

/// Why a file is not taken.
pub(super) enum Refused {
    Unreadable(String),
    TooLarge(String),
}

impl Refused {
    pub(super) fn why(&self) -> &str {
        match self {
            Refused::Unreadable(why) | Refused::TooLarge(why) => why,
        }
    }

    fn help(&self) -> &'static str {
        match self {
            Refused::Unreadable(_) => "let weir read the file, as UTF-8 text",
            Refused::TooLarge(_) => "split it into several files, and `include` them",
        }
    }
}

/// The text of a file of at most [`MAX_BYTES`].
fn text(path: &Path) -> Result<String, Refused> {
    text_and_mode(path).map(|(text, _)| text)
}

/// As [`text`], with the permissions of the file that it was read from.
pub(super) fn text_and_mode(path: &Path) -> Result<(String, u32), Refused> {
    let unreadable =
        |why: &dyn std::fmt::Display| Refused::Unreadable(format!("cannot read: {why}"));
    // Asked before it is opened: some devices do something when they are.
    let about = std::fs::metadata(path).map_err(|why| unreadable(&why))?;
    let kind = about.file_type();
    let special = [
        (kind.is_dir(), "a directory"),
        (kind.is_fifo(), "a FIFO"),
        (kind.is_socket(), "a socket"),
        (kind.is_char_device() || kind.is_block_device(), "a device"),
    ];
    if let Some((_, what)) = special.iter().find(|(is, _)| *is) {
        return Err(unreadable(&format_args!("it is {what}, not a file")));
    }
    let most = MAX_BYTES >> 20;
    if about.len() > MAX_BYTES as u64 {
        let bytes = about.len();
        return Err(Refused::TooLarge(format!(
            "has {bytes} bytes: at most {MAX_BYTES} ({most} MiB) of a file are read"
        )));
    }
    let (file, about) = open_file(path).map_err(|why| unreadable(&why))?;
    match bounded(file).map_err(|why| unreadable(&why))? {
        Some(bytes) => {
            let text = String::from_utf8(bytes).map_err(|why| unreadable(&why))?;
            Ok((text, about.permissions().mode()))
        }
        // It grew, or does not tell its size.
        None => Err(Refused::TooLarge(format!(
            "has more than {MAX_BYTES} bytes ({most} MiB), which is the most that a file may have"
        ))),
    }
}

/// All that there is to read; none of more than [`MAX_BYTES`].
pub(crate) fn bounded(from: impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= MAX_BYTES).then_some(bytes))
}

/// The one path that all names of a file lead to.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn texts_that_are_sent_have_the_bounds_of_files() {
        let text = |name: usize, text: usize| Text {
            name: "n".repeat(name),
            text: "t".repeat(text),
        };
        assert_eq!(Files::refuse(&[text(MAX_NAME, 10)]), None);
        assert_eq!(Files::refuse(&[text(1, MAX_BYTES)]), None);
        for texts in [
            vec![],
            vec![text(MAX_NAME + 1, 1)],
            vec![text(1, MAX_BYTES + 1)],
            vec![text(1, 1); MAX_FILES + 1],
            vec![text(1, MAX_BYTES); MAX_BYTES_IN_ALL / MAX_BYTES + 1],
        ] {
            assert!(Files::refuse(&texts).is_some(), "{} files", texts.len());
        }
    }

    #[test]
    fn of_a_list_of_empty_texts_no_more_are_kept_than_are_taken() {
        let read = |count: usize| {
            let list = vec![r#"{"name":"","text":""}"#; count].join(",");
            let list = format!("[{list}]");
            let read = some_texts(&mut serde_json::Deserializer::from_str(&list));
            read.map(|texts| texts.unwrap().len())
        };
        assert_eq!(read(MAX_FILES).unwrap(), MAX_FILES);
        let why = read(MAX_FILES + 1).unwrap_err().to_string();
        assert!(why.contains("at most 4096 files"), "{why}");
    }

    #[test]
    fn all_files_together_have_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let file = |bytes: u64| {
            let path = folder.path().join(bytes.to_string());
            File::create(&path).unwrap().set_len(bytes).unwrap();
            path
        };
        let files = Files {
            bytes: MAX_BYTES_IN_ALL - MAX_BYTES,
            ..Files::default()
        };
        assert!(files.too_much(&file(MAX_BYTES as u64)).is_none());
        let larger = file(MAX_BYTES as u64 + 1);
        assert!(files.too_much(&larger).is_none(), "refused when it is read");
        let files = Files {
            bytes: MAX_BYTES_IN_ALL - 4,
            ..Files::default()
        };
        assert!(files.too_much(&file(4)).is_none());
        let (message, _) = files.too_much(&file(5)).unwrap();
        assert!(message.ends_with("would be too much: at most 256 MiB are read in all"));
    }
}

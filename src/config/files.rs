//! Reads a file and what it includes into one [`Root`].

use super::error::{Diagnostic, Diagnostics, Log, Source, Span, quote};
use super::raw::Root;
use super::value::Value;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// The files of one configuration.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub sources: Vec<Source>,
    /// Their real paths.
    seen: HashSet<PathBuf>,
    /// From the main file to the one being read.
    open: Vec<PathBuf>,
    /// Some file could not be read: what seems to be missing may be in there.
    pub broken: bool,
}

impl Files {
    /// The main file, with everything that it includes.
    pub fn read(&mut self, path: &Path, log: &mut Log) -> Result<Root, Diagnostics> {
        let name = path.display().to_string();
        let text = text(path).map_err(|why| Diagnostic::of_file(&name, why))?;
        let real = real(path);
        self.seen.insert(real.clone());
        self.open.push(real);
        let mut root = self.parse(name, text, log);
        self.include(path, &mut root, log);
        Ok(root)
    }

    /// Parses one text as the next file.
    pub fn parse(&mut self, name: String, text: String, log: &mut Log) -> Root {
        let file = self.sources.len() as u32;
        let (table, errors) = DeTable::parse_recoverable(&text);
        let mut broken = false;
        for error in &errors {
            let range = error.span().unwrap_or(text.len()..text.len());
            let at = Span::new(file, range.clone());
            if error.message() == DUPLICATE {
                let key = text.get(range).unwrap_or_default();
                log.error(at, format!("the key {} is given twice", quote(key)))
                    .help("remove one of the two");
            } else {
                broken = true;
                log.error(at, format!("not TOML: {}", error.message()))
                    .help("see https://toml.io for the syntax");
            }
        }
        self.broken |= broken;
        let root = if broken {
            Root::default()
        } else {
            let whole = Span::new(file, 0..0);
            Root::read(&DeValue::Table(table.into_inner()), whole, log).unwrap_or_default()
        };
        self.sources.push(Source { name, text });
        root
    }

    fn include(&mut self, path: &Path, root: &mut Root, log: &mut Log) {
        let include = std::mem::take(&mut root.include);
        self.broken |= !include.complete();
        let folder = path.parent().unwrap_or(Path::new(""));
        for pattern in include.items() {
            // The folder is meant as it is, whatever its name: only the pattern is one.
            let folder_pattern = glob::Pattern::escape(&folder.to_string_lossy());
            let full = Path::new(&folder_pattern).join(&pattern.value);
            let found = match glob::glob(&full.to_string_lossy()) {
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
            Err(why) => {
                self.broken = true;
                log.error(at, format!("{}: {why}", quote(&name)))
                    .help("let weir read the file, as UTF-8 text");
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

/// What the `toml` crate says of a key that is given twice, which is an error like ours and hides no other.
const DUPLICATE: &str = "duplicate key";

fn text(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|why| format!("cannot read: {why}"))?;
    if u32::try_from(bytes.len()).is_err() {
        return Err("cannot read: 4 GiB or more".to_owned());
    }
    String::from_utf8(bytes).map_err(|why| format!("cannot read: {why}"))
}

/// The one path that all names of a file lead to.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

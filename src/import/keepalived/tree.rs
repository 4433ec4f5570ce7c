//! keepalived.conf as a tree: keywords with their words and blocks, each with its line.

use super::super::{Place, Remarks};
use std::collections::HashMap;
use std::rc::Rc;

/// A keyword, the words behind it, and its block.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub at: Place,
    pub words: Vec<String>,
    pub block: Option<Vec<Node>>,
}

impl Node {
    pub(super) fn keyword(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The n-th word behind the keyword.
    pub(super) fn word(&self, n: usize) -> Option<&str> {
        self.words.get(n + 1).map(String::as_str)
    }

    pub(super) fn children(&self) -> &[Node] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// Reads a file that is included: its name, as written in the file that names it, relative to that. Returns what was found, by name.
pub type Reader<'a> = &'a dyn Fn(&str, &str) -> Result<Vec<(String, String)>, String>;

/// Bytes of a definition with those that it names, and of what all files together say.
const LONGEST_WORD: usize = 64 << 10;
const LONGEST: usize = 64 << 20;
/// Files within files.
const DEEPEST: usize = 16;
/// Blocks within blocks: keepalived's are four deep.
const DEEPEST_BLOCK: usize = 32;

enum Token {
    Word(String),
    Open,
    Close,
    /// The end of a line that has anything.
    End,
}

struct Tokens<'a, 'b> {
    read: Reader<'a>,
    remarks: &'b mut Remarks,
    definitions: HashMap<String, String>,
    /// Bytes read so far.
    bytes: usize,
    tokens: Vec<(Place, Token)>,
}

/// Reads a file and those that it includes.
///
/// # Errors
/// Where its braces do not match, or it is a template.
pub(super) fn read(
    text: &str,
    name: &str,
    read: Reader<'_>,
    remarks: &mut Remarks,
) -> Result<Vec<Node>, (Place, String)> {
    let mut tokens = Tokens {
        read,
        remarks,
        definitions: HashMap::new(),
        bytes: 0,
        tokens: Vec::new(),
    };
    tokens.file(text, name, 0)?;
    let mut rest = tokens.tokens.into_iter().peekable();
    block(&mut rest, None, 0)
}

impl Tokens<'_, '_> {
    fn file(&mut self, text: &str, name: &str, depth: usize) -> Result<(), (Place, String)> {
        let file: Rc<str> = name.into();
        self.bytes += text.len();
        if self.bytes > LONGEST {
            let why = "the files are longer than 64 MiB together".to_owned();
            return Err((Place { file, line: 0 }, why));
        }
        for (n, line) in text.lines().enumerate() {
            let at = Place {
                file: file.clone(),
                line: n + 1,
            };
            let words = split(line);
            let Some(Token::Word(first)) = words.first() else {
                self.line(words, at);
                continue;
            };
            let first = first.clone();
            if line.contains("{{") || line.contains("{%") || names_a_blank(&words) {
                let why = "this is a template: import the file that is made of it";
                return Err((at, why.to_owned()));
            }
            if let Some(conditional) = first.strip_prefix('@') {
                self.remarks.lost(
                    &at,
                    format!("a line for the host {conditional:?} alone (`keepalived -i`)"),
                );
                continue;
            }
            if let Some((name, value)) = definition(line, &first) {
                let value = self.substituted(value.trim(), &at);
                self.definitions.insert(name.to_owned(), value);
                continue;
            }
            if matches!(
                first.as_str(),
                "include" | "includer" | "includem" | "includew" | "includeb"
            ) {
                if let Some(Token::Word(what)) = words.get(1) {
                    let what = self.substituted(what, &at);
                    self.include(&what, &at, depth)?;
                }
                continue;
            }
            self.line(words, at);
        }
        Ok(())
    }

    fn include(&mut self, what: &str, at: &Place, depth: usize) -> Result<(), (Place, String)> {
        if depth == DEEPEST {
            return Err((
                at.clone(),
                format!("more than {DEEPEST} files within files"),
            ));
        }
        match (self.read)(&at.file, what) {
            Err(why) => self.remarks.lost(at, format!("include {what}: {why}")),
            Ok(files) if files.is_empty() => self
                .remarks
                .lost(at, format!("include {what}: there is no such file")),
            Ok(files) => {
                for (name, text) in files {
                    self.file(&text, &name, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, words: Vec<Token>, at: Place) {
        if words.is_empty() {
            return;
        }
        for token in words {
            let token = match token {
                Token::Word(word) if word.contains('$') => {
                    Token::Word(self.substituted(&word, &at))
                }
                other => other,
            };
            self.tokens.push((at.clone(), token));
        }
        self.tokens.push((at, Token::End));
    }

    /// Puts the values of definitions in the places of their names.
    fn substituted(&mut self, text: &str, at: &Place) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(n) = rest.find('$') {
            out += &rest[..n];
            let behind = &rest[n + 1..];
            let is_braced = behind.starts_with('{');
            let name = behind.trim_start_matches('{');
            let len = name
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(name.len());
            let (name, after) = name.split_at(len);
            match self.definitions.get(name) {
                Some(value) if out.len() + value.len() <= LONGEST_WORD => out += value,
                Some(_) => self
                    .remarks
                    .lost(at, format!("${name}: it has become too long")),
                None => {
                    self.remarks
                        .lost(at, format!("${name} is not defined above"));
                    out += name;
                }
            }
            rest = if is_braced {
                after.strip_prefix('}').unwrap_or(after)
            } else {
                after
            };
        }
        out + rest
    }
}

/// `$NAME=value`.
fn definition<'a>(line: &'a str, first: &str) -> Option<(&'a str, &'a str)> {
    if !first.starts_with('$') || !first.contains('=') {
        return None;
    }
    let (name, value) = line.trim().strip_prefix('$')?.split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    let value = value.split(['#', '!']).next().unwrap_or_default();
    is_name.then_some((name, value))
}

/// Whether a word is a blank of a template, such as `<virtual-ip-address>`, which its user fills in.
fn names_a_blank(words: &[Token]) -> bool {
    words.iter().any(|token| match token {
        Token::Word(word) => word.starts_with('<') && word.ends_with('>') && word.len() > 2,
        _ => false,
    })
}

/// The words and braces of a line, without its comment.
fn split(line: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '#' | '!' => break,
            // A brace within a word, as of ${NAME}, is a part of it.
            '{' => tokens.push(Token::Open),
            '}' => tokens.push(Token::Close),
            '"' | '\'' => {
                let word = chars.by_ref().take_while(|next| *next != c).collect();
                tokens.push(Token::Word(word));
            }
            c => {
                let mut word = c.to_string();
                while let Some(next) = chars.peek().copied() {
                    let is_of_it = !next.is_whitespace()
                        && (!matches!(next, '{' | '}')
                            || next == '{' && word.ends_with('$')
                            || next == '}' && word.contains("${"));
                    if !is_of_it {
                        break;
                    }
                    word.push(next);
                    chars.next();
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    tokens
}

type Rest = std::iter::Peekable<std::vec::IntoIter<(Place, Token)>>;

/// Reads up to the brace that closes the block that was opened at a place, or the end of the file.
fn block(
    rest: &mut Rest,
    opened: Option<&Place>,
    depth: usize,
) -> Result<Vec<Node>, (Place, String)> {
    let mut nodes = Vec::new();
    let mut node: Option<Node> = None;
    while let Some((at, token)) = rest.next() {
        match token {
            Token::Word(word) => match &mut node {
                Some(node) => node.words.push(word),
                None => {
                    node = Some(Node {
                        at,
                        words: vec![word],
                        block: None,
                    });
                }
            },
            Token::End => {
                // Its brace may be on the next line.
                if !matches!(rest.peek(), Some((_, Token::Open))) {
                    nodes.extend(node.take());
                }
            }
            Token::Open if depth == DEEPEST_BLOCK => {
                return Err((
                    at,
                    format!("more than {DEEPEST_BLOCK} blocks within blocks"),
                ));
            }
            Token::Open => {
                let inside = block(rest, Some(&at), depth + 1)?;
                let mut of = node.take().unwrap_or(Node {
                    at,
                    words: Vec::new(),
                    block: None,
                });
                of.block = Some(inside);
                nodes.push(of);
            }
            Token::Close if opened.is_some() => {
                nodes.extend(node.take());
                return Ok(nodes);
            }
            Token::Close => return Err((at, "a `}` that closes nothing".to_owned())),
        }
    }
    nodes.extend(node.take());
    match opened {
        Some(at) => Err((at.clone(), "this `{` is not closed".to_owned())),
        None => Ok(nodes),
    }
}

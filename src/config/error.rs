//! What is wrong with a configuration file, and where.
//!
//! The checks write findings into a [`Log`] by byte offset, which costs nothing while a file is good; only what is
//! reported at the end is translated into lines and columns, once.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;

/// Bytes `start..end` of file number `file`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Span {
    pub file: u32,
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// In no file: of the running configuration.
    pub(super) const NOWHERE: Span = Span {
        file: u32::MAX,
        start: 0,
        end: 0,
    };

    pub(super) fn new(file: u32, range: std::ops::Range<usize>) -> Self {
        // A file is read up to `files::MAX_BYTES`, a text of the API is shorter.
        Span {
            file,
            start: range.start as u32,
            end: range.end as u32,
        }
    }
}

/// A value and where it was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<T> {
    pub value: T,
    pub at: Span,
}

/// One file that was read.
#[derive(Debug)]
pub(super) struct Source {
    pub name: String,
    pub text: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    #[default]
    Error,
    /// It can, but hardly means what it says.
    Warning,
}

/// One finding, not yet translated into lines and columns.
#[derive(Debug, Default)]
pub(super) struct Finding {
    severity: Severity,
    at: Span,
    message: String,
    note: Option<(Span, &'static str)>,
    help: Option<String>,
}

impl Finding {
    /// What to do about it.
    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Another place that has to do with it, if it is one.
    pub(super) fn note(&mut self, at: Span, note: &'static str) -> &mut Self {
        self.note = (at != Span::NOWHERE).then_some((at, note));
        self
    }
}

/// Collects findings.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The key that is being read, for messages.
    pub key: &'static str,
    /// Where in its file the text begins that is being read.
    begins: usize,
    findings: Vec<Finding>,
    errors: usize,
    warnings: usize,
    /// What is counted and not kept.
    beyond: Finding,
}

/// The most errors, and the most warnings, that are listed; the others are only counted, which bounds the time and the answer.
const MOST: usize = 100;

impl Log {
    /// For a text that begins there in its file.
    pub(super) fn from(begins: usize) -> Self {
        Log {
            begins,
            ..Log::default()
        }
    }

    /// The place of a part of the text that is being read.
    pub(super) fn span(&self, file: u32, range: std::ops::Range<usize>) -> Span {
        Span::new(file, range.start + self.begins..range.end + self.begins)
    }

    /// Findings so far.
    pub(super) fn findings(&self) -> usize {
        self.errors + self.warnings
    }

    pub(super) fn error(&mut self, at: Span, message: impl Into<String>) -> &mut Finding {
        self.errors += 1;
        self.push(Severity::Error, self.errors, at, message.into())
    }

    pub(super) fn warning(&mut self, at: Span, message: impl Into<String>) -> &mut Finding {
        self.warnings += 1;
        self.push(Severity::Warning, self.warnings, at, message.into())
    }

    /// The finding that was logged last.
    pub(super) fn last(&mut self) -> Option<&mut Finding> {
        self.findings.last_mut()
    }

    /// Whether further errors are only counted: what they would say need not be made up.
    pub(super) fn is_full(&self) -> bool {
        self.errors >= MOST
    }

    /// Errors so far.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    fn push(
        &mut self,
        severity: Severity,
        count: usize,
        at: Span,
        message: String,
    ) -> &mut Finding {
        if count > MOST {
            return &mut self.beyond;
        }
        self.findings.push(Finding {
            severity,
            at,
            message,
            note: None,
            help: None,
        });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    /// The places of spans, for what is found later: with messages that are still empty.
    pub(super) fn places(spans: &[Span], sources: &[Source]) -> Vec<Diagnostic> {
        let place = |&at: &Span| {
            let mut log = Log::default();
            log.error(at, "");
            log.into_diagnostics(sources).list.pop()
        };
        spans.iter().filter_map(place).collect()
    }

    /// Every finding in the order of the files and their lines.
    pub(super) fn into_diagnostics(mut self, sources: &[Source]) -> Diagnostics {
        self.findings.sort_by_key(|finding| finding.at);
        let mut lines: Vec<Option<Lines>> = sources.iter().map(|_| None).collect();
        let mut place = |at: Span| {
            let source = &sources[at.file as usize];
            let lines = lines[at.file as usize].get_or_insert_with(|| Lines::new(&source.text));
            lines.place(source, at)
        };
        let resolve = |finding: Finding| {
            let at = place(finding.at);
            let note = finding.note.map(|(span, text)| {
                let other = place(span);
                format!("{}:{}:{}: {text}", other.file, other.line, other.column)
            });
            Diagnostic {
                severity: finding.severity,
                text: at
                    .source_line
                    .get(at.marked.clone())
                    .unwrap_or_default()
                    .to_owned(),
                file: at.file,
                line: at.line,
                column: at.column,
                message: finding.message,
                note,
                help: finding.help,
                source_line: at.source_line,
                marked: at.marked,
            }
        };
        Diagnostics {
            list: self.findings.into_iter().map(resolve).collect(),
            more: self.errors.saturating_sub(MOST) + self.warnings.saturating_sub(MOST),
        }
    }
}

/// Where each line of a file begins.
struct Lines(Vec<usize>);

struct Place {
    file: String,
    line: usize,
    column: usize,
    source_line: String,
    marked: std::ops::Range<usize>,
}

impl Lines {
    fn new(text: &str) -> Self {
        Lines(
            std::iter::once(0)
                .chain(text.match_indices('\n').map(|(at, _)| at + 1))
                .collect(),
        )
    }

    fn place(&self, source: &Source, at: Span) -> Place {
        let text = &source.text;
        let start = boundary(text, at.start);
        let line = self.0.partition_point(|&begin| begin <= start) - 1;
        let begin = self.0[line];
        let whole = text[begin..]
            .split('\n')
            .next()
            .unwrap_or_default()
            .trim_end_matches('\r');
        let from = (start - begin).min(whole.len());
        // What spans several lines is marked to the end of its first.
        let to = boundary(text, at.end)
            .saturating_sub(begin)
            .clamp(from, whole.len());
        // Of a line that is too long to be shown, what is around the place.
        let shown_from = boundary(whole, from.saturating_sub(AROUND) as u32);
        let shown_to = boundary(whole, (from + 2 * AROUND).min(whole.len()) as u32);
        let (whole, from, to) = match whole.len() > 3 * AROUND {
            true => (
                &whole[shown_from..shown_to],
                from - shown_from,
                to.min(shown_to) - shown_from,
            ),
            false => (whole, from, to),
        };
        Place {
            file: source.name.clone(),
            line: line + 1,
            column: text[begin..start].chars().count() + 1,
            source_line: whole.to_owned(),
            marked: from..to,
        }
    }
}

/// How much is shown of a very long line before the place, and twice as much from there on, in bytes.
const AROUND: usize = 100;

/// The last beginning of a character up to `at`.
fn boundary(text: &str, at: u32) -> usize {
    let at = (at as usize).min(text.len());
    (0..=at)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

/// One thing that is wrong, or doubtful.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// As the operator named it.
    pub file: String,
    /// From 1; 0 where it is about the file as a whole.
    pub line: usize,
    /// From 1, in characters; 0 where it is about the file as a whole.
    pub column: usize,
    /// The offending text.
    pub text: String,
    /// What is wrong, in one line.
    pub message: String,
    /// Another place that has to do with it: `file:line:column: what`.
    pub note: Option<String>,
    /// What to do.
    pub help: Option<String>,
    source_line: String,
    marked: std::ops::Range<usize>,
}

impl Diagnostic {
    /// About a file as a whole: that it cannot be read, for example.
    pub(super) fn of_file(file: &str, message: impl Into<String>, help: &str) -> Self {
        Diagnostic {
            severity: Severity::Error,
            file: file.to_owned(),
            line: 0,
            column: 0,
            text: String::new(),
            message: message.into(),
            note: None,
            help: Some(help.to_owned()),
            source_line: String::new(),
            marked: 0..0,
        }
    }

    /// The same place with something else to say of it.
    pub fn saying(&self, severity: Severity, message: String) -> Diagnostic {
        Diagnostic {
            severity,
            message,
            ..self.clone()
        }
    }

    /// The same with what to do.
    pub(crate) fn helping(self, help: &str) -> Diagnostic {
        Diagnostic {
            help: Some(help.to_owned()),
            ..self
        }
    }

    /// `lb.toml:12:5: unknown key …`
    fn title(&self) -> String {
        match self.line {
            0 if self.file.is_empty() => self.message.clone(),
            0 => format!("{}: {}", self.file, self.message),
            line => format!("{}:{line}:{}: {}", self.file, self.column, self.message),
        }
    }

    fn render(&self, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(self.title());
        let note = self
            .note
            .as_deref()
            .map(|note| Level::NOTE.secondary_title(note));
        let help = self
            .help
            .as_deref()
            .map(|help| Level::HELP.secondary_title(help));
        let more = note.into_iter().chain(help).map(Group::with_title);
        if self.source_line.is_empty() {
            let all = std::iter::once(Group::with_title(title)).chain(more);
            return all
                .map(|group| renderer.render(&[group]))
                .collect::<Vec<_>>()
                .join("\n");
        }
        let marked = AnnotationKind::Primary.span(self.marked.clone());
        let snippet = Snippet::source(self.source_line.as_str()).line_start(self.line);
        let mut groups = vec![title.element(snippet.annotation(marked))];
        groups.extend(more);
        renderer.render(&groups)
    }
}

/// Everything that a pass over the configuration found, in the order of the files and their lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    more: usize,
}

impl Diagnostics {
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many were found beyond those that are listed.
    pub fn more(&self) -> usize {
        self.more
    }

    /// The same for one who may not read the files: places, and no line of theirs.
    pub fn without_lines(mut self) -> Self {
        for diagnostic in &mut self.list {
            diagnostic.source_line.clear();
            diagnostic.text.clear();
            diagnostic.marked = 0..0;
            diagnostic.message = unquoted(&diagnostic.message);
            diagnostic.help = diagnostic.help.as_deref().map(unquoted);
        }
        self
    }

    fn rest(&self) -> Option<String> {
        (self.more > 0).then(|| format!("… and {} more", self.more))
    }

    /// Everything, for a terminal with colours or without.
    pub fn text(&self, colour: bool) -> String {
        let renderer = match colour {
            true => Renderer::styled(),
            false => Renderer::plain(),
        };
        let lines = self.list.iter();
        let mut text: String = lines
            .map(|diagnostic| format!("{}\n", diagnostic.render(&renderer)))
            .collect();
        if let Some(rest) = self.rest() {
            text += &rest;
            text.push('\n');
        }
        text
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        std::iter::once(diagnostic).collect()
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<T: IntoIterator<Item = Diagnostic>>(diagnostics: T) -> Self {
        Diagnostics {
            list: diagnostics.into_iter().collect(),
            more: 0,
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(false))
    }
}

impl std::error::Error for Diagnostics {}

/// A message without what it quotes of a file.
fn unquoted(message: &str) -> String {
    let mut parts = message.split('`');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    while let Some(_quoted) = parts.next() {
        plain += "`…`";
        plain += parts.next().unwrap_or_default();
    }
    plain
}

/// Text from a file, fit for the middle of one line of a message.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    let shown: String = text
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    // `escape_debug` is for string literals: inside backticks quotes need no escape.
    let shown = shown.replace("\\\"", "\"").replace("\\'", "'");
    // What is between two backticks is all that is quoted.
    let shown = shown.replace('`', "'");
    let more = if text.chars().nth(LONGEST).is_some() {
        "…"
    } else {
        ""
    };
    format!("`{shown}{more}`")
}

/// The candidate that was probably meant.
pub(super) fn meant<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = text.to_lowercase();
    let far = (text.chars().count() / 3).max(1);
    let distance = |candidate: &str| strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
    // Few edits, or a beginning in common: `adress` means `addresses`.
    let near = |candidate: &&str| {
        distance(candidate) <= far || strsim::jaro_winkler(&lower, candidate) > 0.88
    };
    candidates
        .into_iter()
        .filter(near)
        .min_by_key(|candidate| distance(candidate))
}

/// `; did you mean `x`?`, or nothing.
pub(crate) fn did_you_mean<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> String {
    meant(text, candidates).map_or(String::new(), |word| format!("; did you mean `{word}`?"))
}

//! Reads a `[[service]]` that is written in the plainest way: headers of it and of its real servers, keys with a string
//! without escapes, a number or a truth, comments. Most are, and need no lexer.
//!
//! What it makes of such a text is what the `toml` crate makes of it, which a property holds it to; of any other it makes
//! nothing.

use std::borrow::Cow;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// A line, with the places of what is in it.
enum Line {
    /// `[[service]]`, from its first bracket to its last.
    Service(Range<usize>),
    /// `[[service.real]]`: its brackets, and the key `real`.
    Real(Range<usize>, Range<usize>),
    Value(Range<usize>, Value),
    Empty,
}

enum Value {
    /// With the quotes.
    Text(Range<usize>),
    Number(Range<usize>),
    Truth(Range<usize>, bool),
}

/// Bytes and cost (see [`Cost`](super::size::Cost)) of the plain service that a text begins with. None: it is not plain, or
/// it cannot be told where it ends.
pub(super) fn measure(text: &str) -> Option<(usize, usize)> {
    let mut at = 0;
    let mut cost = 0;
    while at < text.len() {
        let (length, line) = line(text, at);
        match line {
            Some(Line::Service(_)) if at == 0 => cost += 2,
            // Brackets, and a dot.
            Some(Line::Real(..)) if at > 0 => cost += 3,
            Some(Line::Value(..)) if at > 0 => cost += 1,
            Some(Line::Empty) if at > 0 => {}
            Some(Line::Service(_)) => break,
            _ if at > 0 && is_other_table(&text[at..at + length]) => break,
            _ => return None,
        }
        at += length;
    }
    (at > 0).then_some((at, cost))
}

/// Whether a line is surely the header of a table that is none of a service.
fn is_other_table(line: &str) -> bool {
    let key = line.strip_prefix("[[").or(line.strip_prefix('['));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    key.is_some_and(|key| key.bytes().next().is_some_and(plain) && !key.starts_with("service"))
}

/// The table of a plain service, as the parser has it. None: it is not plain, or has a key twice.
pub(super) fn table<'a>(text: &'a str, numbers: &mut Numbers<'a>) -> Option<Spanned<DeValue<'a>>> {
    let mut service = DeTable::new();
    let mut service_at = None;
    let mut reals = DeArray::new();
    // Header of the array, and of the table that is being read.
    let mut reals_at: Option<(Range<usize>, Range<usize>)> = None;
    let mut real: Option<(Range<usize>, DeTable<'_>)> = None;
    let mut at = 0;
    while at < text.len() {
        let (length, line) = line(text, at);
        at += length;
        match line? {
            Line::Service(header) if service_at.is_none() => service_at = Some(header),
            Line::Service(_) => return None,
            Line::Real(header, key) => {
                if let Some((header, table)) = real.replace((header.clone(), DeTable::new())) {
                    reals.push(Spanned::new(header, DeValue::Table(table)));
                }
                reals_at.get_or_insert((header, key));
            }
            Line::Value(key, value) => {
                let key = Spanned::new(key.clone(), Cow::Borrowed(&text[key]));
                let value = match value {
                    Value::Text(at) => {
                        let inside = Cow::Borrowed(&text[at.start + 1..at.end - 1]);
                        Spanned::new(at, DeValue::String(inside))
                    }
                    Value::Truth(at, truth) => Spanned::new(at, DeValue::Boolean(truth)),
                    Value::Number(at) => {
                        let number = numbers.get(&text[at.clone()])?;
                        Spanned::new(at, number)
                    }
                };
                let table = match &mut real {
                    Some((_, table)) => table,
                    None if service_at.is_some() => &mut service,
                    None => return None,
                };
                if table.insert(key, value).is_some() {
                    return None;
                }
            }
            Line::Empty => {}
        }
    }
    if let (Some((header, table)), Some((first, key))) = (real, reals_at) {
        reals.push(Spanned::new(header, DeValue::Table(table)));
        let key = Spanned::new(key.clone(), Cow::Borrowed(&text[key]));
        let reals = Spanned::new(first, DeValue::Array(reals));
        if service.insert(key, reals).is_some() {
            return None;
        }
    }
    Some(Spanned::new(service_at?, DeValue::Table(service)))
}

/// Numbers as the parser has them: the same few are written again and again.
#[derive(Default)]
pub(super) struct Numbers<'a>(Vec<(&'a str, DeValue<'a>)>);

impl<'a> Numbers<'a> {
    /// So many are gone through.
    const MOST: usize = 32;

    fn get(&mut self, written: &'a str) -> Option<DeValue<'a>> {
        if let Some((_, number)) = self.0.iter().find(|(known, _)| *known == written) {
            return Some(number.clone());
        }
        let number = DeValue::parse(written).ok()?.into_inner();
        if self.0.len() < Self::MOST {
            self.0.push((written, number.clone()));
        }
        Some(number)
    }
}

/// The length of the line at `start`, with its end; and what it is, if it is plain.
fn line(text: &str, start: usize) -> (usize, Option<Line>) {
    let rest = &text.as_bytes()[start..];
    let length = memchr::memchr(b'\n', rest);
    let line = match length {
        // CR is a part of a line's end, and of nothing else.
        Some(end) => rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]),
        None => rest,
    };
    (
        length.map_or(rest.len(), |end| end + 1),
        understand(line, start),
    )
}

fn blanks(bytes: &[u8]) -> usize {
    let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
    bytes.iter().take_while(is_blank).count()
}

/// Whether nothing is there, or a comment.
fn is_end(bytes: &[u8]) -> bool {
    match &bytes[blanks(bytes)..] {
        [] => true,
        [b'#', comment @ ..] => comment.iter().all(|&byte| is_text(byte)),
        _ => false,
    }
}

/// Whether a byte may be in a comment or a string: control characters may not.
fn is_text(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}

fn understand(line: &[u8], start: usize) -> Option<Line> {
    let indent = blanks(line);
    let first = start + indent;
    let line = &line[indent..];
    for (header, is_real) in [(&b"[[service.real]]"[..], true), (b"[[service]]", false)] {
        let Some(rest) = line.strip_prefix(header) else {
            continue;
        };
        let at = first..first + header.len();
        let key = first + b"[[service.".len()..at.end - 2;
        return is_end(rest).then_some(match is_real {
            true => Line::Real(at, key),
            false => Line::Service(at),
        });
    }
    let is_bare = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let key = line.iter().take_while(is_bare).count();
    if key == 0 {
        return is_end(line).then_some(Line::Empty);
    }
    let equals = key + blanks(&line[key..]);
    if line.get(equals) != Some(&b'=') {
        return None;
    }
    let value = equals + 1 + blanks(&line[equals + 1..]);
    let written = &line[value..];
    let (length, kind): (usize, fn(Range<usize>) -> Value) = match written {
        [b'"', inside @ ..] => {
            let is_plain = |byte: &&u8| is_text(**byte) && !matches!(byte, b'"' | b'\\');
            let length = inside.iter().take_while(is_plain).count();
            if inside.get(length) != Some(&b'"') {
                return None;
            }
            (length + 2, Value::Text)
        }
        [b'0', ..] => (1, Value::Number),
        [b'1'..=b'9', ..] => {
            let digits = written.iter().take_while(|byte| byte.is_ascii_digit());
            (digits.count(), Value::Number)
        }
        _ if written.starts_with(b"true") => (4, |at| Value::Truth(at, true)),
        _ if written.starts_with(b"false") => (5, |at| Value::Truth(at, false)),
        _ => return None,
    };
    if !is_end(&written[length..]) {
        return None;
    }
    let at = first + value..first + value + length;
    Some(Line::Value(first..first + key, kind(at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::Log;
    use crate::config::size::is_bounded;
    use proptest::prelude::*;

    /// Lines of which texts are made: plain ones, and others that are nearly so.
    const LINES: &[&str] = &[
        "[[service]]",
        "  [[service.real]]  # one",
        "[[service.real]]",
        "[service.persistence]",
        "[[neighbour]]",
        "[\"service\"]",
        "address = \"10.0.0.11\"",
        "address = '10.0.0.11'",
        "name = \"a\\tb\"",
        "name = \"ä#\"\t# ö",
        "name = \"\"\"",
        "weight=3",
        "weight = 03",
        "weight = 0",
        "weight = -1",
        "weight = 1_000",
        "weight = 0x10",
        "weight = 1.5",
        "a.b = 1",
        "real = 1",
        "flag = true",
        "flag = false # no",
        "flag = truely",
        "list = [1,",
        "]",
        "",
        "\t",
        "# comment",
        "# \u{7}",
        "weight = 1\r",
        "port = 99999999999999999999999999999999999999999999",
    ];

    fn texts() -> impl Strategy<Value = String> {
        let line = prop_oneof![4 => 0..LINES.len(), 1 => Just(2), 1 => Just(6), 1 => Just(11)];
        (
            prop::collection::vec(line, 0..10),
            prop::sample::select(vec!["\n", "\r\n", ""]),
        )
            .prop_map(|(lines, end)| {
                let lines = lines.into_iter().map(|n| LINES[n]);
                let lines: Vec<_> = std::iter::once("[[service]]").chain(lines).collect();
                lines.join("\n") + end
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn what_is_plain_is_what_the_parser_makes_of_it(text in texts()) {
            if let Some((length, cost)) = measure(&text) {
                let own = &text[..length];
                prop_assert!(is_bounded(own, 0, cost, &mut Log::default()));
                prop_assert!(cost == 0 || !is_bounded(own, 0, cost - 1, &mut Log::default()));
                prop_assert!(length == text.len() || text[length..].trim_start().starts_with('['));
            }
            if let Some(plain) = table(&text, &mut Numbers::default()) {
                let parsed = DeTable::parse(&text);
                prop_assert!(parsed.is_ok(), "{text}");
                let parsed = parsed.unwrap().into_inner();
                let service = parsed.get("service").unwrap().get_ref().get(0);
                prop_assert_eq!(format!("{:?}", Some(&plain)), format!("{service:?}"));
            }
        }
    }

    #[test]
    fn usual_services_are_plain() {
        let text = "[[service]]\nname = \"web\" # the shop\n\n  [[service.real]]\n  address = \"10.0.0.11\"\n  weight = 3\n";
        assert_eq!(measure(text), Some((text.len(), 2 + 1 + 3 + 2)));
        assert!(table(text, &mut Numbers::default()).is_some());
        for other in ["[[service]]\n", "[[neighbour]]\n", "[dpdk]\n"] {
            assert_eq!(
                measure(&format!("{text}{other}")).map(|found| found.0),
                Some(text.len())
            );
        }
        assert_eq!(measure(&format!("{text}[service.persistence]\n")), None);
    }
}

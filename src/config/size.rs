//! How much a text may say: the memory that its parser takes depends on the values and tables in it, not on its bytes.

use super::error::{Log, Span};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

/// The most that is parsed of one file. A table with one key costs at least 3, and 1.5 KB; so no file of 16 MiB takes more
/// than about 2 GB while it is parsed. Files of real servers with all their keys cost 1.5 million for 16 MiB.
pub(super) const MOST: usize = 2_000_000;
/// What each further part of a dotted key costs: it is a table of its own.
const DOT: usize = 4;

/// What the values and tables of a text cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    total: usize,
    /// Dots since the last token that is no part of a dotted key.
    dots: usize,
}

impl Cost {
    #[inline]
    pub(super) fn add(&mut self, kind: TokenKind) {
        self.total += match kind {
            TokenKind::Dot => {
                self.dots += 1;
                if self.dots == 1 { 1 } else { DOT }
            }
            TokenKind::Atom
            | TokenKind::Whitespace
            | TokenKind::BasicString
            | TokenKind::LiteralString => 0,
            kind => {
                self.dots = 0;
                let opens = matches!(
                    kind,
                    TokenKind::Equals
                        | TokenKind::Comma
                        | TokenKind::LeftSquareBracket
                        | TokenKind::LeftCurlyBracket
                );
                usize::from(opens)
            }
        };
    }

    /// Adds what a part of the text costs.
    pub(super) fn add_part(&mut self, cost: usize) {
        self.total += cost;
    }

    pub(super) fn total(self) -> usize {
        self.total
    }
}

/// False, with an error logged, if a text has more values and tables than a configuration has use for. Nothing is allocated.
pub(super) fn is_bounded(text: &str, file: u32, most: usize, log: &mut Log) -> bool {
    let mut cost = Cost::default();
    for token in Source::new(text).lex() {
        cost.add(token.kind());
        if cost.total() > most {
            let span = token.span();
            let at = Span::new(file, span.start()..span.end());
            log.error(
                at,
                "here the file has more values and tables than are read of one file",
            )
            .help("split it into several files, and `include` them");
            return false;
        }
    }
    true
}

/// As [`is_bounded`], with the bound of a file.
pub(super) fn is_acceptable(text: &str, file: u32, log: &mut Log) -> bool {
    is_bounded(text, file, MOST, log)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::files::MAX_BYTES;

    fn is_within(text: &str, most: usize) -> bool {
        is_bounded(text, 0, most, &mut Log::default())
    }

    #[test]
    fn every_value_and_table_costs_something_and_text_nothing() {
        for (text, cost) in [
            ("", 0),
            ("# a = [1, 2, 3]\n", 0),
            ("a = 1\n", 1),
            ("a = \"x = [1, 2, {}] . . .\"\n", 1),
            ("a = '''\nb = 1\n[c]\n'''\n", 1),
            ("a = [1, 2, 3]\n", 4),
            ("a = { b = 1, c = 2 }\n", 5),
            ("[[service.real]]\naddress = \"10.0.0.1\"\n", 4),
            ("a.b.c.d = 1\n", 1 + 1 + 2 * DOT),
            ("a . \"b\" . 'c' = 1\nd.e = 1\n", 2 + 1 + DOT + 1),
            ("a = [[[\n", 4),
            ("}{ = ] [ = \"\n", 4),
        ] {
            assert!(is_within(text, cost), "{text:?}");
            assert!(cost == 0 || !is_within(text, cost - 1), "{text:?}");
        }
    }

    #[test]
    fn a_full_file_of_real_servers_is_read_and_one_of_mere_structure_is_not() {
        let full = |unit: &str| unit.repeat(MAX_BYTES / unit.len());
        let real = "[[service.real]]\naddress = \"10.0.0.11\"\nport = 8080\nweight = 3\n";
        let address = "  \"192.0.2.10\",\n";
        for unit in [real, address] {
            assert!(is_within(&full(unit), MOST), "{unit}");
        }
        for unit in [
            "{},",
            "{a=1},",
            "[],",
            "[",
            "a.a.a.a=1\n",
            "1,",
            "[[a]]\nb=1\n",
        ] {
            assert!(!is_within(&full(unit), MOST), "{unit}");
        }
    }

    #[test]
    fn the_error_says_where_and_what_to_do() {
        let context = crate::config::Context {
            cpus: None,
            devices: false,
        };
        let text = format!("service = [\n{}]\n", "{},\n".repeat(MOST / 2 + 1));
        let wrong = crate::config::parse(&text, "lb.toml", &context).unwrap_err();
        let found: Vec<_> = wrong.iter().collect();
        assert_eq!(found.len(), 1, "{wrong}");
        assert_eq!(found[0].line, MOST / 2 + 1, "{wrong}");
        assert!(
            found[0].message.contains("more values and tables"),
            "{wrong}"
        );
    }
}

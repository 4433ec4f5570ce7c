//! No text makes the check panic.

use super::{EXAMPLE, parse};
use proptest::prelude::*;

proptest! {
    /// Whatever becomes of a file by editing, its check ends, and every place that it names is in the file.
    #[test]
    fn no_edit_makes_the_check_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..20, ".{0,6}|[\"\\[\\]{}=\\n,.0-9-]{0,6}"), 1..8)) {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (at, remove, insert) in edits {
            let at = at.index(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
            if text.is_empty() {
                text.push(' ');
            }
        }
        let text: String = text.into_iter().collect();
        let found = match parse(&text) {
            Ok(loaded) => loaded.warnings,
            Err(diagnostics) => diagnostics,
        };
        for it in found.iter() {
            prop_assert!((1..=text.split('\n').count()).contains(&it.line));
            prop_assert!(it.column >= 1);
            prop_assert!(!it.message.chars().any(char::is_control), "{:?}", it.message);
        }
        let shown = found.to_string();
        let titles = shown.lines().filter(|line| line.starts_with("error: ") || line.starts_with("warning: ")).count();
        prop_assert_eq!(titles, found.len());
    }

    #[test]
    fn no_text_makes_the_check_panic(text in "\\PC{0,200}") {
        let _ = parse(&text).map_err(|found| found.to_string());
    }
}

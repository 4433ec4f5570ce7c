//! Rows as tables, in columns that are as wide as they must be.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A table without lines. A `>` at the start of a heading aligns its column to the right.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(
        headings
            .iter()
            .map(|heading| heading.trim_start_matches('>')),
    );
    for (column, heading) in table.column_iter_mut().zip(headings) {
        column.set_padding((0, 2));
        if heading.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Writes a table, without blanks at the ends of its lines.
pub fn print(table: &Table, out: &mut impl std::io::Write) -> std::io::Result<()> {
    table
        .lines()
        .try_for_each(|line| writeln!(out, "{}", line.trim_end()))
}

/// `1234567` as `1.23M`: as many digits as a glance takes in.
pub fn short(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["", "k", "M", "G", "T", "P"] {
        if value < 1000.0 {
            return match unit {
                "" => count.to_string(),
                _ if value < 10.0 => format!("{value:.2}{unit}"),
                _ if value < 100.0 => format!("{value:.1}{unit}"),
                _ => format!("{value:.0}{unit}"),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.0}E")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_shortened_to_three_digits() {
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.00k"),
            (12_345, "12.3k"),
            (1_234_567, "1.23M"),
            (987_654_321, "988M"),
        ] {
            assert_eq!(short(count), text);
        }
        assert_eq!(short(u64::MAX), "18E");
    }
}

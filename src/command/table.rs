//! Rows as tables, in columns that are as wide as they must be.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use unicode_width::UnicodeWidthStr;

/// A table without lines. A `>` at the start of a heading aligns its column to the right.
pub(super) fn table(headings: &[&str]) -> Table {
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
pub(super) fn print(table: &Table, out: &mut impl std::io::Write) -> std::io::Result<()> {
    table
        .lines()
        .try_for_each(|line| writeln!(out, "{}", line.trim_end()))
}

/// A table that may be long: its columns are as wide as its first rows need, and the rows go out as they come.
pub(super) struct Columns<'a, W> {
    out: &'a mut W,
    /// Whether each column is aligned to the right.
    is_right: Vec<bool>,
    widths: Vec<usize>,
    /// The first rows, until the widths are known.
    first: Vec<Vec<String>>,
    is_open: bool,
    line: String,
}

impl<'a, W: std::io::Write> Columns<'a, W> {
    /// Rows that tell how wide the columns are.
    const FIRST: usize = 4096;

    pub(super) fn new(is_right: &[bool], out: &'a mut W) -> Self {
        Columns {
            out,
            is_right: is_right.to_vec(),
            widths: vec![0; is_right.len()],
            first: Vec::new(),
            is_open: false,
            line: String::new(),
        }
    }

    /// Adds a row; cells that it lacks are empty.
    pub(super) fn row<const N: usize>(&mut self, cells: [&str; N]) -> std::io::Result<()> {
        if self.is_open {
            return self.write(&cells);
        }
        for (width, cell) in self.widths.iter_mut().zip(cells) {
            *width = cell.width().max(*width);
        }
        self.first.push(cells.map(str::to_owned).into());
        if self.first.len() >= Self::FIRST {
            self.open()?;
        }
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn end(mut self) -> std::io::Result<()> {
        self.open()
    }

    fn open(&mut self) -> std::io::Result<()> {
        self.is_open = true;
        for row in std::mem::take(&mut self.first) {
            let cells: Vec<_> = row.iter().map(String::as_str).collect();
            self.write(&cells)?;
        }
        Ok(())
    }

    fn write(&mut self, cells: &[&str]) -> std::io::Result<()> {
        self.line.clear();
        for ((cell, width), is_right) in cells.iter().zip(&self.widths).zip(&self.is_right) {
            let blanks = width.saturating_sub(cell.width());
            let (before, after) = if *is_right { (blanks, 0) } else { (0, blanks) };
            self.line.extend(std::iter::repeat_n(' ', before));
            // It may quote what others have sent.
            let plain = cell
                .chars()
                .map(|letter| if letter.is_control() { '?' } else { letter });
            self.line.extend(plain);
            self.line.extend(std::iter::repeat_n(' ', after + 2));
        }
        self.line.truncate(self.line.trim_end().len());
        self.line.push('\n');
        self.out.write_all(self.line.as_bytes())
    }
}

/// `1234567` as `1.23M`: as many digits as a glance takes in.
pub(super) fn short(count: u64) -> String {
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
    fn columns_are_as_wide_as_the_first_rows_need() {
        let table = |rows: &[[&str; 3]]| {
            let mut out = Vec::new();
            let mut columns = Columns::new(&[false, true, false], &mut out);
            rows.iter().for_each(|row| columns.row(*row).unwrap());
            columns.row(["end"]).unwrap();
            columns.end().unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            table(&[["a", "1", "x"], ["größer", "22", ""], ["b", "3", "y"]]),
            "a        1  x\ngrößer  22\nb        3  y\nend\n"
        );
        assert_eq!(table(&[["a", "1", "\u{1b}[2J\n"]]), "a    1  ?[2J?\nend\n");
        // What comes later and is wider moves what is behind it.
        let mut rows = vec![["a", "1", "x"]; Columns::<Vec<u8>>::FIRST];
        rows.push(["wider", "1", "x"]);
        let text = table(&rows);
        assert_eq!(text.lines().next(), Some("a  1  x"));
        assert_eq!(text.lines().nth(rows.len() - 1), Some("wider  1  x"));
        assert_eq!(text.lines().count(), rows.len() + 1);
    }

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

//! A list on the screen: sorted by one of its columns, filtered by a text, one row of it selected.

use super::columns::{Column, Kind, distinct, figure, fit, name, word};
use super::look::{Rates, RealRow, ServiceRow};
use crate::command::table::short;
use crate::view::PortsView;
use ratatui::crossterm::event::KeyCode;
use ratatui::style::Color;
use std::cmp::Ordering;
use std::net::{IpAddr, SocketAddr};
use unicode_width::UnicodeWidthStr;

/// A row of a list.
pub(super) trait Row {
    const COLUMNS: &'static [Column];
    /// The column that it is sorted by at first.
    const FIRST: usize;
    /// What it is known by from one look to the next.
    type Id: Clone + PartialEq;
    fn id(&self) -> Self::Id;
    fn cell(&self, column: usize) -> String;
    /// Text upwards, figures downwards.
    fn order(&self, other: &Self, column: usize) -> Ordering;
    /// Whether a text, in small letters, is in what it is named by.
    fn has(&self, text: &str) -> bool;
    fn colour(&self) -> Option<Color>;
}

/// Figures of a row, the greatest first.
fn greatest(a: f64, b: f64) -> Ordering {
    b.total_cmp(&a)
}

/// How a figure of [`Rates::figures`] is shown.
fn cell(rates: &Rates, n: usize) -> String {
    short(rates.figures()[n] as u64)
}

impl ServiceRow {
    /// Its name, if that tells more than its address.
    pub(super) fn own_name(&self) -> &str {
        match self.name == self.address {
            true => "-",
            false => &self.name,
        }
    }
}

impl Row for ServiceRow {
    const COLUMNS: &'static [Column] = &[
        name("Service", 8, 0),
        name("Virtual", 12, 0),
        word("Forward", 7, 4),
        word("Sched", 10, 5),
        figure("Up", 7, 1),
        figure("Active", 7, 2),
        figure("InAct", 7, 3),
        figure("Conn/s", 7, 0),
        figure("InPkt/s", 7, 0),
        figure("OutPkt/s", 8, 0),
        figure("InBit/s", 7, 0),
        figure("OutBit/s", 8, 0),
    ];
    const FIRST: usize = 8;
    type Id = (String, IpAddr, PortsView);

    fn id(&self) -> Self::Id {
        let protocol = self.address.split(':').next().unwrap_or_default();
        (protocol.to_owned(), self.vip.0, self.vip.1.clone())
    }

    fn cell(&self, column: usize) -> String {
        match column {
            0 => self.own_name().to_owned(),
            1 => self.address.clone(),
            2 => self.mode.clone(),
            3 => self.scheduler.clone(),
            4 => format!("{}/{}", self.up, self.count),
            _ => cell(&self.rates, column - 5),
        }
    }

    fn order(&self, other: &Self, column: usize) -> Ordering {
        let share = |row: &Self| row.up as f64 / row.count.max(1) as f64;
        match column {
            0 => self.name.cmp(&other.name),
            1 => self.vip.cmp(&other.vip),
            2 => self.mode.cmp(&other.mode),
            3 => self.scheduler.cmp(&other.scheduler),
            // What lacks most of them is looked for.
            4 => share(self).total_cmp(&share(other)),
            _ => greatest(
                self.rates.figures()[column - 5],
                other.rates.figures()[column - 5],
            ),
        }
    }

    fn has(&self, text: &str) -> bool {
        self.name.to_lowercase().contains(text)
            || self.address.contains(text)
            || self.mode == text
            || self.scheduler == text
            || self
                .reals
                .iter()
                .any(|real| real.real.to_string().contains(text))
    }

    fn colour(&self) -> Option<Color> {
        match self.up {
            0 => Some(Color::Red),
            up if up < self.count => Some(Color::Yellow),
            _ => None,
        }
    }
}

impl Row for RealRow {
    const COLUMNS: &'static [Column] = &[
        name("Real server", 12, 0),
        word("State", 8, 0),
        figure("Weight", 6, 2),
        figure("Active", 7, 1),
        figure("InAct", 7, 3),
        figure("Conn/s", 7, 0),
        figure("InPkt/s", 7, 0),
        figure("OutPkt/s", 8, 0),
        figure("InBit/s", 7, 0),
        figure("OutBit/s", 8, 0),
        name("Why", 12, 4),
    ];
    const FIRST: usize = 6;
    type Id = (SocketAddr, bool);

    fn id(&self) -> Self::Id {
        (self.real, self.fallback)
    }

    fn cell(&self, column: usize) -> String {
        match column {
            0 => self.real.to_string(),
            1 => self.state.to_owned(),
            2 => self.weight.to_string(),
            10 => self.why.clone().unwrap_or_else(|| "-".to_owned()),
            _ => cell(&self.rates, column - 3),
        }
    }

    fn order(&self, other: &Self, column: usize) -> Ordering {
        match column {
            0 => self.id().cmp(&other.id()),
            1 => self.state.cmp(other.state),
            2 => other.weight.cmp(&self.weight),
            10 => other.why.cmp(&self.why),
            _ => greatest(
                self.rates.figures()[column - 3],
                other.rates.figures()[column - 3],
            ),
        }
    }

    fn has(&self, text: &str) -> bool {
        let why = self.why.as_deref().unwrap_or_default().to_lowercase();
        self.real.to_string().contains(text) || self.state.contains(text) || why.contains(text)
    }

    fn colour(&self) -> Option<Color> {
        match (self.state, self.fallback) {
            ("up", _) | (_, true) => None,
            ("down" | "held" | "no way", _) => Some(Color::Red),
            _ => Some(Color::Yellow),
        }
    }
}

/// The rows, of which those are shown that the filter finds.
pub(super) struct List<R: Row> {
    /// In the order of the file.
    rows: Vec<R>,
    /// Places in `rows`, in the order of the screen.
    shown: Vec<usize>,
    /// The column that they are sorted by, and whether the other way round.
    pub(super) sort: usize,
    is_reversed: bool,
    pub(super) filter: String,
    /// The selected row's place on the screen. Where it is known by its id too it keeps the row, wherever that goes; where not, its
    /// place: the first.
    at: usize,
    selected: Option<R::Id>,
    /// The first row that there is room for, and how many there was room for.
    first: usize,
    height: usize,
    /// The columns that were shown last.
    pub(super) columns: Vec<usize>,
}

/// What is drawn of a list.
pub(super) struct Part {
    pub(super) columns: Vec<(usize, u16)>,
    pub(super) rows: Vec<(Vec<String>, Option<Color>)>,
    /// Which of them is selected.
    pub(super) selected: usize,
}

impl<R: Row> List<R> {
    pub(super) fn new() -> Self {
        List {
            rows: Vec::new(),
            shown: Vec::new(),
            sort: R::FIRST,
            is_reversed: false,
            filter: String::new(),
            at: 0,
            selected: None,
            first: 0,
            height: 1,
            columns: (0..R::COLUMNS.len()).collect(),
        }
    }

    /// Sorted and filtered so from the beginning.
    pub(super) fn begin(&mut self, sort: Option<usize>, filter: &str) {
        self.sort = sort.unwrap_or(R::FIRST);
        filter.clone_into(&mut self.filter);
        self.arrange();
    }

    /// Other rows, or the same ones a moment later.
    pub(super) fn set(&mut self, rows: Vec<R>) {
        self.rows = rows;
        self.arrange();
    }

    pub(super) fn rows(&self) -> &[R] {
        &self.rows
    }

    /// Those that are shown, in their order.
    pub(super) fn shown(&self) -> impl ExactSizeIterator<Item = &R> {
        self.shown.iter().map(|&n| &self.rows[n])
    }

    /// The selected row, and its place among those that are shown.
    pub(super) fn selected(&self) -> Option<(usize, &R)> {
        let row = self.shown.get(self.at)?;
        Some((self.at, &self.rows[*row]))
    }

    pub(super) fn filter(&mut self, change: impl FnOnce(&mut String)) {
        change(&mut self.filter);
        self.arrange();
    }

    fn arrange(&mut self) {
        let text = self.filter.to_lowercase();
        let rows = self.rows.iter().enumerate();
        let found = rows.filter(|(_, row)| text.is_empty() || row.has(&text));
        self.shown = found.map(|(n, _)| n).collect();
        let column = self.sort;
        // Stable: what is equal stays where it is in the file.
        self.shown
            .sort_by(|&a, &b| match self.rows[a].order(&self.rows[b], column) {
                order if self.is_reversed => order.reverse(),
                order => order,
            });
        if let Some(id) = &self.selected {
            let place = self.shown.iter().position(|&n| self.rows[n].id() == *id);
            self.at = place.unwrap_or(self.at);
        }
        self.at = self.at.min(self.shown.len().saturating_sub(1));
    }

    fn select(&mut self, at: usize) {
        self.at = at.min(self.shown.len().saturating_sub(1));
        // The first row is the first whichever it is.
        self.selected = match self.at {
            0 => None,
            at => self.shown.get(at).map(|&n| self.rows[n].id()),
        };
    }

    /// What a key does that sorts or moves; false: it is none of those.
    pub(super) fn press(&mut self, key: KeyCode) -> bool {
        let page = self.height.max(1);
        match key {
            KeyCode::Char('s' | '>') => self.sort_by_next(false),
            KeyCode::Char('S' | '<') => self.sort_by_next(true),
            KeyCode::Char('r') => {
                self.is_reversed = !self.is_reversed;
                self.arrange();
            }
            KeyCode::Down | KeyCode::Char('j') => self.select(self.at + 1),
            KeyCode::Up | KeyCode::Char('k') => self.select(self.at.saturating_sub(1)),
            KeyCode::PageDown => self.select(self.at + page),
            KeyCode::PageUp => self.select(self.at.saturating_sub(page)),
            KeyCode::Home | KeyCode::Char('g') => self.select(0),
            KeyCode::End | KeyCode::Char('G') => self.select(usize::MAX),
            _ => return false,
        }
        true
    }

    /// Sorts by the next of the columns that can be seen, or the one before.
    fn sort_by_next(&mut self, is_back: bool) {
        let columns = &self.columns;
        let next = match is_back {
            false => columns.iter().find(|&&column| column > self.sort),
            true => columns.iter().rev().find(|&&column| column < self.sort),
        };
        let end = if is_back {
            columns.last()
        } else {
            columns.first()
        };
        self.sort = next.or(end).copied().unwrap_or(0);
        self.is_reversed = false;
        self.arrange();
    }

    /// What there is room for, around the selected row.
    pub(super) fn part(&mut self, cells: u16, height: usize) -> Part {
        self.height = height;
        self.first = self.first.min(self.at);
        if self.at >= self.first + height {
            self.first = self.at + 1 - height.max(1);
        }
        // A longer screen, or a shorter list: no empty lines at the end.
        self.first = self.first.min(self.shown.len().saturating_sub(height));
        let longest = |n: usize| match R::COLUMNS[n].kind {
            Kind::Name => self
                .shown()
                .map(|row| row.cell(n).width())
                .max()
                .unwrap_or(0),
            _ => 0,
        };
        let longest: Vec<_> = (0..R::COLUMNS.len()).map(longest).collect();
        let columns = fit(R::COLUMNS, &longest, cells);
        self.columns = columns.iter().map(|(column, _)| *column).collect();
        let window = self.first..self.shown.len().min(self.first + height);
        let cells: Vec<Vec<String>> = columns
            .iter()
            .map(|&(n, width)| self.texts(n, width.into(), &longest, window.clone()))
            .collect();
        let rows = window.clone().enumerate().map(|(line, place)| {
            let row = &self.rows[self.shown[place]];
            let cells = cells.iter().map(|column| column[line].clone());
            (cells.collect(), row.colour())
        });
        Part {
            rows: rows.collect(),
            selected: self.at - window.start,
            columns,
        }
    }

    /// The texts of a column, of those rows that there is room for; names that are cut are told from all others.
    fn texts(
        &self,
        n: usize,
        width: usize,
        longest: &[usize],
        window: std::ops::Range<usize>,
    ) -> Vec<String> {
        if longest[n] <= width {
            let rows = self.shown[window].iter();
            return rows.map(|&row| self.rows[row].cell(n)).collect();
        }
        let all: Vec<String> = self.shown().map(|row| row.cell(n)).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        distinct(&all, width)[window].to_vec()
    }
}

//! The screen, drawn: a function of what is on it and of the terminal's size.

use super::columns::{Kind, elided};
use super::list::List;
use super::look::{Look, RealRow, ServiceRow};
use super::screen::Screen;
use crate::command::table::short;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Row, Table, TableState};
use unicode_width::UnicodeWidthStr;

pub(super) const WORKER_COLUMNS: [(&str, u16); 8] = [
    ("Worker", 6),
    ("Lcore", 5),
    ("Busy", 6),
    ("Connections", 11),
    ("Rx/s", 7),
    ("Tx/s", 7),
    ("Over/s", 7),
    ("Drop/s", 7),
];

pub(super) const HELP: &[(&str, &str)] = &[
    ("Up Down, k j", "the row before, the next one"),
    ("PgUp PgDn", "a screen of rows"),
    (
        "Home End, g G",
        "the first row, the last one; at the first: whichever it is",
    ),
    (
        "s S, > <",
        "sort by the next column, the one before (it is underlined)",
    ),
    ("r", "sort the other way round"),
    (
        "/",
        "show only rows with a text: name, address, mode, state;",
    ),
    ("", "Enter keeps it, Esc ends it"),
    ("Enter", "the selected service's real servers"),
    (
        "Esc",
        "back: from a filter to all, from real servers to the services",
    ),
    ("? h", "this"),
    ("q", "quit"),
    ("", ""),
    (
        "Red, yellow",
        "no real server gets new connections; some get none",
    ),
    (
        "Busy",
        "the share of the last second in which the worker had packets",
    ),
    (
        "Over/s",
        "packets that were handed to the worker that has the connection",
    ),
    (
        "Active, InAct",
        "connections, as the kernel's ActiveConn and InActConn",
    ),
    ("Up", "real servers that get new connections, of all"),
];

impl Screen {
    pub(super) fn draw(&mut self, frame: &mut Frame) {
        let area = frame.area();
        let [screen, keys] =
            Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(area);
        if self.is_help {
            draw_help(frame, screen);
        } else if let Some(service) = &self.open {
            draw_service(frame, screen, service, &mut self.reals);
        } else {
            self.draw_all(frame, screen);
        }
        self.draw_keys(frame, keys);
    }

    fn draw_all(&mut self, frame: &mut Frame, area: Rect) {
        let look = &self.look;
        // However many workers there are, the services keep most of the screen.
        let most = usize::from(frame.area().height / 4).max(1);
        let rows = look.workers.len().min(most);
        let line = |is_there: bool| Constraint::Length(2 * u16::from(is_there));
        let [
            title,
            workers,
            dropped,
            refused,
            without,
            services,
            selected,
        ] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(rows as u16 + 2),
            line(!look.drops.is_empty()),
            line(!look.offenders.is_empty()),
            line(!look.idle.is_empty()),
            Constraint::Min(3),
            Constraint::Length(if area.height < 19 { 0 } else { 3 }),
        ])
        .areas(area);
        draw_title(frame, title, &self.address, look, &self.services);
        draw_workers(frame, workers, look, rows);
        let drops = look.drops.iter();
        let drops = drops.map(|(reason, rate)| format!("{reason} {}/s", short(rate.ceil() as u64)));
        let reasons = fitting("Dropped:", drops, dropped.width);
        frame.render_widget(Line::from(reasons).fg(Color::Red), dropped);
        let clients = look.offenders.iter();
        let clients = clients.map(|row| format!("{} {}", row.client, short(row.refused.into())));
        let clients = fitting("Refused clients:", clients, refused.width);
        frame.render_widget(Line::from(clients).fg(Color::Red), refused);
        let reals = look.idle.iter();
        let reals = reals.map(|row| format!("{} of {} ({})", row.real, row.service, row.why));
        let reals = fitting("No new connections:", reals, without.width);
        frame.render_widget(Line::from(reals).fg(Color::Yellow), without);
        draw_list(frame, services, &mut self.services);
        if let Some((place, row)) = self.services.selected() {
            let count = self.services.shown().len();
            let lines = [
                format!("{} of {count}: {}", place + 1, row.name),
                about(row),
            ];
            draw_selected(frame, selected, lines);
        }
    }

    fn draw_keys(&self, frame: &mut Frame, area: Rect) {
        let filter = self.filter_text();
        let line = if self.is_help {
            Line::from("any key: back   q quit").dim()
        } else if let Some(note) = &self.note {
            Line::from(elided(note, area.width.into())).bold()
        } else if self.is_typing {
            // The end is what is written at.
            let room = usize::from(area.width).saturating_sub(2);
            let text = tail(filter, room);
            frame.set_cursor_position((area.x + 1 + text.width() as u16, area.y));
            Line::from(format!("/{text}"))
        } else if !filter.is_empty() {
            let end = "   Esc all   ? help";
            let text = elided(
                filter,
                usize::from(area.width).saturating_sub(end.len() + 8),
            );
            Line::from(format!("filter: {text}{end}")).bold()
        } else if self.open.is_some() {
            Line::from("Esc services   s sort   / filter   arrows scroll   ? help   q quit").dim()
        } else {
            Line::from("Enter real servers   s sort   / filter   arrows scroll   ? help   q quit")
                .dim()
        };
        frame.render_widget(line, area);
    }
}

/// The end of a text, in at most so many cells.
fn tail(text: &str, cells: usize) -> String {
    let mut text = text.to_owned();
    while text.width() > cells {
        text.remove(0);
    }
    text
}

fn draw_title(
    frame: &mut Frame,
    area: Rect,
    address: &str,
    look: &Look,
    services: &List<ServiceRow>,
) {
    let sum = |figure: fn(&super::look::WorkerRow) -> f64| {
        look.workers.iter().map(figure).sum::<f64>() as u64
    };
    let connections: u64 = look.workers.iter().map(|row| row.connections).sum();
    let (shown, all) = (services.shown().len(), services.rows().len());
    let count = match shown == all {
        true => all.to_string(),
        false => format!("{shown} of {all}"),
    };
    let rest = format!(": services {count}, connections {}", short(connections));
    let room = usize::from(area.width).saturating_sub("weir at ".len() + rest.len());
    let lines = [
        format!("weir at {}{rest}", elided(address, room)),
        format!(
            "packets/s {} in, {} out, {} dropped",
            short(sum(|row| row.received)),
            short(sum(|row| row.transmitted)),
            short(sum(|row| row.dropped)),
        ),
    ];
    let lines = lines.map(|line| Line::from(line).bold());
    frame.render_widget(Text::from(lines.to_vec()), area);
}

/// So many of the workers: all of them, or the busiest.
fn draw_workers(frame: &mut Frame, area: Rect, look: &Look, count: usize) {
    let mut shown: Vec<_> = look.workers.iter().collect();
    if count < shown.len() {
        shown.sort_by(|a, b| b.busy.total_cmp(&a.busy));
    }
    let rows = shown.iter().take(count).map(|row| {
        let figures = [
            row.worker.to_string(),
            row.lcore.to_string(),
            format!("{:.1}%", row.busy * 100.0),
            short(row.connections),
            short(row.received as u64),
            short(row.transmitted as u64),
            short(row.over as u64),
            short(row.dropped as u64),
        ];
        Row::new(figures.map(right))
    });
    let table = Table::new(rows, WORKER_COLUMNS.map(|(_, width)| width))
        .header(Row::new(WORKER_COLUMNS.map(|(name, _)| right(name.into()))).reversed());
    frame.render_widget(table, area);
    if count < shown.len() && area.height > 0 {
        let rest = format!("the busiest {count} of {} workers", shown.len());
        let last = Rect {
            y: area.bottom() - 1,
            height: 1,
            ..area
        };
        frame.render_widget(Line::from(rest).dim(), last);
    }
}

/// The real servers of a service.
fn draw_service(frame: &mut Frame, area: Rect, service: &ServiceRow, reals: &mut List<RealRow>) {
    let [title, list, selected] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Min(3),
        Constraint::Length(if area.height < 19 { 0 } else { 4 }),
    ])
    .areas(area);
    let [
        _,
        _,
        connections,
        packets_in,
        packets_out,
        bits_in,
        bits_out,
    ] = service.rates.figures().map(|figure| short(figure as u64));
    let name = elided(&service.name, area.width.into());
    let lines = [
        Line::from(name).bold(),
        Line::from(elided(&about(service), area.width.into())).bold(),
        Line::from(format!(
            "new/s {connections}   packets/s {packets_in} in, {packets_out} out   bits/s {bits_in} in, {bits_out} out"
        )),
    ];
    frame.render_widget(Text::from(lines.to_vec()), title);
    draw_list(frame, list, reals);
    let Some((place, row)) = reals.selected() else {
        return;
    };
    let weight = match row.weight == row.configured_weight {
        true => format!("weight {}", row.weight),
        false => format!(
            "weight {} (in the file {})",
            row.weight, row.configured_weight
        ),
    };
    let count = reals.shown().len();
    let lines = [
        format!("{} of {count}: {}", place + 1, row.real),
        format!(
            "{}   {weight}   connections {} active, {} inactive",
            row.state,
            short(row.rates.active.into()),
            short(row.rates.inactive.into()),
        ),
        row.why.clone().unwrap_or_default(),
    ];
    draw_selected(frame, selected, lines);
}

/// A service in a line, but for its name.
fn about(row: &ServiceRow) -> String {
    format!(
        "{}   {}   {}   {} of {} up   {} active, {} inactive",
        row.address,
        row.mode,
        row.scheduler,
        row.up,
        row.count,
        short(row.rates.active.into()),
        short(row.rates.inactive.into()),
    )
}

fn draw_list<R: super::list::Row>(frame: &mut Frame, area: Rect, list: &mut List<R>) {
    let part = list.part(area.width, usize::from(area.height.saturating_sub(1)));
    let header = part.columns.iter().map(|&(column, _)| {
        let cell = aligned::<R>(column, R::COLUMNS[column].name.to_owned());
        match column == list.sort {
            true => cell.underlined(),
            false => cell,
        }
    });
    let rows = part.rows.into_iter().map(|(texts, colour)| {
        let texts = part.columns.iter().zip(texts);
        let row = Row::new(texts.map(|(&(column, _), text)| aligned::<R>(column, text)));
        match colour {
            Some(colour) => row.fg(colour),
            None => row,
        }
    });
    let table = Table::new(rows, part.columns.iter().map(|(_, width)| *width))
        .header(Row::new(header).reversed())
        .row_highlight_style(Style::new().bold().underlined());
    let mut place = TableState::new().with_selected(part.selected);
    frame.render_stateful_widget(table, area, &mut place);
}

/// All of what is selected, below an empty line.
fn draw_selected<const N: usize>(frame: &mut Frame, area: Rect, lines: [String; N]) {
    let lines = lines.map(|line| Line::from(elided(&line, area.width.into())));
    let lines = std::iter::once(Line::default()).chain(lines);
    frame.render_widget(Text::from_iter(lines), area);
}

fn draw_help(frame: &mut Frame, area: Rect) {
    let lines = HELP
        .iter()
        .map(|(key, does)| Line::from(format!("{key:14} {does}")));
    let lines = std::iter::once(Line::from("Keys").bold()).chain(lines);
    frame.render_widget(Text::from_iter(lines), area);
}

/// As many of these after a title as so many cells have room for.
fn fitting(title: &str, items: impl Iterator<Item = String>, cells: u16) -> String {
    let mut line = title.to_owned();
    for (n, item) in items.enumerate() {
        let more = format!("{} {item}", if n == 0 { "" } else { "," });
        if line.width() + more.width() + 3 > usize::from(cells) {
            line += match n {
                0 => " …",
                _ => ", …",
            };
            break;
        }
        line += &more;
    }
    line
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Text::from(text).alignment(Alignment::Right))
}

fn aligned<R: super::list::Row>(column: usize, text: String) -> Cell<'static> {
    match R::COLUMNS[column].kind {
        Kind::Figure => right(text),
        Kind::Name | Kind::Word => Cell::from(text),
    }
}

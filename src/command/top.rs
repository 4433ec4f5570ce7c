//! `weir top`: what goes through now, worker by worker and service by service.

mod once;

use super::client::{self, Address, At, Error};
use super::output;
use super::table::short;
use crate::view;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Row, Table, TableState};
use ratatui::{DefaultTerminal, Frame};
use std::collections::{BTreeMap, HashMap};
use std::io::{IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Watch what goes through: workers, services, real servers that get nothing, drops
///
/// Keys: s sorts by the next column, arrows and page keys scroll, q quits.
#[derive(Debug, clap::Args)]
pub struct Top {
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Print what went through within one interval, all of it, and end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    at: At,
}

impl Top {
    /// 0, or 1 if no daemon answers.
    pub fn run(&self) -> ExitCode {
        if !self.once && !is_terminal() {
            return super::fail("weir top draws on a terminal; `weir top --once` prints");
        }
        let address = match self.at.address() {
            Ok(address) => address,
            Err(why) => return super::fail(why),
        };
        // Before the screen is taken: a daemon that is not there is told in plain text.
        let first = match Sample::take(&address) {
            Ok(sample) => sample,
            Err(why) => return super::fail(why),
        };
        if self.once {
            return self.print(&address, &first);
        }
        let mut terminal = match ratatui::try_init() {
            Ok(terminal) => terminal,
            Err(why) => return super::fail(format!("the terminal cannot be used: {why}")),
        };
        let ended = watch(&mut terminal, &address, first, self.interval);
        // The terminal may be gone.
        let _ = ratatui::try_restore();
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => super::fail(why),
        }
    }

    /// Prints what happened between a first sample and another one.
    fn print(&self, address: &Address, first: &Sample) -> ExitCode {
        std::thread::sleep(self.interval);
        let second = match Sample::take(address) {
            Ok(sample) => sample,
            Err(why) => return super::fail(why),
        };
        let mut screen = Screen::new(address.to_string());
        screen.show(first, &second);
        let mut out = output::out();
        match once::write(&screen, &mut out).and_then(|()| out.flush()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => output::stop(&why),
        }
    }
}

#[allow(clippy::disallowed_methods)] // Nothing is written.
fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Looks and draws until the user has seen enough, or the daemon is gone.
fn watch(
    terminal: &mut DefaultTerminal,
    address: &Address,
    mut last: Sample,
    interval: Duration,
) -> Result<(), Error> {
    let mut screen = Screen::new(address.to_string());
    screen.show(&last, &last);
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        // Many services take the daemon some time to list: it has four times that to itself.
        let wait = interval.max(last.took * 4);
        let due = last.at + wait;
        while let Some(left) = due.checked_duration_since(Instant::now()) {
            if event::poll(left)?
                && let Event::Key(key) = event::read()?
                && !screen.press(key)
            {
                return Ok(());
            }
            terminal.draw(|frame| screen.draw(frame))?;
        }
        let sample = Sample::take(address)?;
        screen.show(&last, &sample);
        last = sample;
    }
}

/// What the daemon counted at one time.
struct Sample {
    at: Instant,
    took: Duration,
    workers: Vec<view::WorkerView>,
    services: Vec<view::ServiceView>,
    offenders: Vec<view::OffenderView>,
}

/// So many clients are shown.
const OFFENDERS: usize = 5;

impl Sample {
    fn take(address: &Address) -> Result<Sample, Error> {
        let at = Instant::now();
        Ok(Sample {
            workers: client::rows(address, "/v1/workers")?,
            services: client::rows(address, "/v1/services")?,
            offenders: client::rows(address, &format!("/v1/offenders?limit={OFFENDERS}"))?,
            at,
            took: at.elapsed(),
        })
    }
}

/// A worker between two samples; rates are per second.
#[derive(Debug, PartialEq)]
struct WorkerRow {
    worker: u8,
    lcore: usize,
    busy: f64,
    connections: u64,
    received: f64,
    transmitted: f64,
    over: f64,
    dropped: f64,
}

/// A real server that gets no new connections.
#[derive(Debug, PartialEq)]
struct IdleRow {
    service: String,
    real: SocketAddr,
    why: String,
}

/// A service between two samples; rates are per second.
#[derive(Debug, PartialEq)]
struct ServiceRow {
    name: String,
    vip: (IpAddr, view::PortsView),
    /// `tcp:192.0.2.80:80`
    address: String,
    mode: String,
    up: usize,
    reals: usize,
    active: u32,
    inactive: u32,
    connections: f64,
    packets_in: f64,
    packets_out: f64,
    bits_in: f64,
    bits_out: f64,
}

impl ServiceRow {
    /// Its name, if that tells more than its address.
    fn own_name(&self) -> &str {
        match self.name == self.address {
            true => "-",
            false => &self.name,
        }
    }

    /// What column `n` shows.
    fn cell(&self, column: usize) -> String {
        match column {
            0 => self.own_name().to_owned(),
            1 => self.address.clone(),
            2 => self.mode.clone(),
            3 => format!("{}/{}", self.up, self.reals),
            4 => short(self.active.into()),
            5 => short(self.inactive.into()),
            6 => short(self.connections as u64),
            7 => short(self.packets_in as u64),
            8 => short(self.packets_out as u64),
            9 => short(self.bits_in as u64),
            _ => short(self.bits_out as u64),
        }
    }

    /// What column `n` sorts by: text upwards, figures downwards.
    fn order(&self, other: &ServiceRow, column: usize) -> std::cmp::Ordering {
        let figure = |service: &ServiceRow| match column {
            3 => -(service.up as f64 / service.reals.max(1) as f64),
            4 => f64::from(service.active),
            5 => f64::from(service.inactive),
            6 => service.connections,
            7 => service.packets_in,
            8 => service.packets_out,
            9 => service.bits_in,
            _ => service.bits_out,
        };
        match column {
            0 => self.name.cmp(&other.name),
            1 => self.vip.cmp(&other.vip),
            2 => self.mode.cmp(&other.mode),
            _ => figure(other).total_cmp(&figure(self)),
        }
    }
}

const WORKER_COLUMNS: [(&str, u16); 8] = [
    ("Worker", 6),
    ("Lcore", 5),
    ("Busy", 6),
    ("Connections", 11),
    ("Rx/s", 7),
    ("Tx/s", 7),
    ("Over/s", 7),
    ("Drop/s", 7),
];
/// The columns of the services. Names are as wide as they are long, addresses as well.
const SERVICE_COLUMNS: [(&str, u16); 11] = [
    ("Service", 7),
    ("Virtual", 7),
    ("Forward", 7),
    ("Up", 7),
    ("Active", 7),
    ("InAct", 7),
    ("Conn/s", 7),
    ("InPkt/s", 7),
    ("OutPkt/s", 8),
    ("InBit/s", 7),
    ("OutBit/s", 8),
];
/// Text is aligned to the left, from the next column on figures are to the right.
const TEXT_COLUMNS: usize = 3;
/// Columns that are left out where there is no room for them beside whole names, the first of them last.
const OPTIONAL: [usize; 4] = [3, 4, 5, 2];
const SHORTEST_NAME: usize = 8;

/// Which columns of the services are shown in so many cells, with their widths, where the longest name and address
/// have so many characters. The address and the rates are always whole; the name is, where there is room.
fn service_columns(cells: u16, name: usize, address: usize) -> Vec<(usize, u16)> {
    let mut widths = SERVICE_COLUMNS.map(|(_, width)| width);
    widths[1] = widths[1].max(address as u16);
    let mut shown: Vec<usize> = (0..SERVICE_COLUMNS.len())
        .filter(|column| !OPTIONAL.contains(column))
        .collect();
    // Each with the blank before it; the name is the first.
    let others: u16 = shown[1..].iter().map(|&column| widths[column] + 1).sum();
    let room = usize::from(cells.saturating_sub(others));
    let wanted = name.max(usize::from(widths[0]));
    widths[0] = wanted.min(room.max(SHORTEST_NAME)) as u16;
    let mut left = cells.saturating_sub(others + widths[0]);
    for column in OPTIONAL {
        if widths[column] < left {
            left -= widths[column] + 1;
            shown.push(column);
        }
    }
    shown.sort_unstable();
    shown
        .into_iter()
        .map(|column| (column, widths[column]))
        .collect()
}

/// A text in so many characters: of a longer one the beginning and the end, which is where names differ.
fn elided(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most || most == 0 {
        return text.to_owned();
    }
    let end = (most - 1) / 2;
    let begin = most - 1 - end;
    let first: String = text.chars().take(begin).collect();
    let last: String = text.chars().skip(length - end).collect();
    format!("{first}…{last}")
}

/// What is on the screen.
struct Screen {
    address: String,
    workers: Vec<WorkerRow>,
    services: Vec<ServiceRow>,
    /// In the order of the file.
    idle: Vec<IdleRow>,
    drops: Vec<(String, f64)>,
    /// The clients that were refused most often of late.
    offenders: Vec<view::OffenderView>,
    /// The column that services are sorted by.
    sort: usize,
    /// The columns that were shown last.
    shown: Vec<usize>,
    place: TableState,
}

impl Screen {
    fn new(address: String) -> Self {
        Screen {
            address,
            workers: vec![],
            services: vec![],
            idle: vec![],
            drops: vec![],
            offenders: vec![],
            sort: 7,
            shown: (0..SERVICE_COLUMNS.len()).collect(),
            place: TableState::new().with_selected(0),
        }
    }

    /// Works out what happened between two samples.
    fn show(&mut self, before: &Sample, now: &Sample) {
        let seconds = now.at.duration_since(before.at).as_secs_f64().max(1e-3);
        // A service that was made anew begins at 0 again.
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        let old: HashMap<_, _> = before.workers.iter().map(|row| (row.worker, row)).collect();
        let mut drops = BTreeMap::<&str, f64>::new();
        self.workers.clear();
        for row in &now.workers {
            let old = *old.get(&row.worker).unwrap_or(&row);
            let mut dropped = 0.0;
            for (reason, count) in &row.dropped_packets {
                let before = old.dropped_packets.get(reason).copied().unwrap_or(0);
                dropped += rate(before, *count);
                *drops.entry(reason).or_default() += rate(before, *count);
            }
            self.workers.push(WorkerRow {
                worker: row.worker,
                lcore: row.lcore,
                busy: row.busy_ratio,
                connections: row.connections,
                received: rate(old.received_packets, row.received_packets),
                transmitted: rate(
                    old.transmitted_packets + old.answered_packets,
                    row.transmitted_packets + row.answered_packets,
                ),
                over: rate(old.handed_over_packets, row.handed_over_packets),
                dropped,
            });
        }
        self.drops = drops
            .into_iter()
            .filter(|(_, rate)| *rate > 0.0)
            .map(|(reason, rate)| (reason.to_owned(), rate))
            .collect();
        self.drops.sort_by(|a, b| b.1.total_cmp(&a.1));
        let refused = now.offenders.iter().filter(|row| row.refused > 0);
        self.offenders = refused.take(OFFENDERS).cloned().collect();
        let key = |row: &view::ServiceView| (row.protocol.clone(), row.address, row.port.clone());
        let old: HashMap<_, _> = before.services.iter().map(|row| (key(row), row)).collect();
        self.services.clear();
        self.idle = now.services.iter().flat_map(idle).collect();
        for row in &now.services {
            let old = &old.get(&key(row)).unwrap_or(&row).traffic;
            let new = &row.traffic;
            self.services.push(ServiceRow {
                name: row.name.clone(),
                vip: (row.address, row.port.clone()),
                address: format!("{}:{}", row.protocol, row.port.at(row.address)),
                mode: row.mode.clone(),
                up: row
                    .reals
                    .iter()
                    .filter(|real| real.up && real.weight > 0 && !real.fallback)
                    .count(),
                reals: row.reals.iter().filter(|real| !real.fallback).count(),
                active: new.active_connections,
                inactive: new.inactive_connections,
                connections: rate(old.connections_total, new.connections_total),
                packets_in: rate(old.packets_in, new.packets_in),
                packets_out: rate(old.packets_out, new.packets_out),
                bits_in: 8.0 * rate(old.bytes_in, new.bytes_in),
                bits_out: 8.0 * rate(old.bytes_out, new.bytes_out),
            });
        }
        self.sort();
    }

    fn sort(&mut self) {
        let column = self.sort;
        // Stable: what is equal stays where it is in the file.
        self.services.sort_by(|a, b| a.order(b, column));
    }

    /// What a key does; false: it ends the view.
    fn press(&mut self, key: KeyEvent) -> bool {
        if key.kind != KeyEventKind::Press {
            return true;
        }
        const PAGE: u16 = 20;
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Char('s') => {
                // The next one that can be seen.
                let next = self.shown.iter().find(|&&column| column > self.sort);
                self.sort = next.or(self.shown.first()).copied().unwrap_or(0);
                self.sort();
            }
            KeyCode::Down => self.place.scroll_down_by(1),
            KeyCode::Up => self.place.scroll_up_by(1),
            KeyCode::PageDown => self.place.scroll_down_by(PAGE),
            KeyCode::PageUp => self.place.scroll_up_by(PAGE),
            KeyCode::Home => self.place.select_first(),
            KeyCode::End => self.place.select_last(),
            _ => {}
        }
        true
    }

    fn draw(&mut self, frame: &mut Frame) {
        let area = frame.area();
        // However many workers there are, the services keep most of the screen.
        let most = usize::from(area.height / 4).max(1);
        let rows = self.workers.len().min(most);
        let drops = u16::from(!self.drops.is_empty());
        let offenders = u16::from(!self.offenders.is_empty());
        let idle = u16::from(!self.idle.is_empty());
        let [
            title,
            workers,
            dropped,
            refused,
            without,
            services,
            selected,
            keys,
        ] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(rows as u16 + 2),
            Constraint::Length(2 * drops),
            Constraint::Length(2 * offenders),
            Constraint::Length(2 * idle),
            Constraint::Min(3),
            Constraint::Length(if area.height < 20 { 0 } else { 3 }),
            Constraint::Length(1),
        ])
        .areas(area);
        self.draw_title(frame, title);
        self.draw_workers(frame, workers, rows);
        let drops = self.drops.iter();
        let drops = drops.map(|(reason, rate)| format!("{reason} {}/s", short(rate.ceil() as u64)));
        let reasons = fitting("Dropped:", drops, dropped.width);
        frame.render_widget(Line::from(reasons).fg(Color::Red), dropped);
        let clients = self.offenders.iter();
        let clients = clients.map(|row| format!("{} {}", row.client, short(row.refused.into())));
        let clients = fitting("Refused clients:", clients, refused.width);
        frame.render_widget(Line::from(clients).fg(Color::Red), refused);
        let reals = self.idle.iter();
        let reals = reals.map(|row| format!("{} of {} ({})", row.real, row.service, row.why));
        let reals = fitting("No new connections:", reals, without.width);
        frame.render_widget(Line::from(reals).fg(Color::Yellow), without);
        self.draw_services(frame, services);
        self.draw_selected(frame, selected);
        frame.render_widget(
            Line::from("s sort   arrows, page keys scroll   q quit").dim(),
            keys,
        );
    }

    fn draw_title(&self, frame: &mut Frame, area: Rect) {
        let sum =
            |figure: fn(&WorkerRow) -> f64| self.workers.iter().map(figure).sum::<f64>() as u64;
        let connections: u64 = self.workers.iter().map(|row| row.connections).sum();
        let lines = [
            format!(
                "weir at {}: services {}, connections {}",
                self.address,
                self.services.len(),
                short(connections)
            ),
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
    fn draw_workers(&self, frame: &mut Frame, area: Rect, count: usize) {
        let mut shown: Vec<&WorkerRow> = self.workers.iter().collect();
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

    fn draw_services(&mut self, frame: &mut Frame, area: Rect) {
        let longest = |text: fn(&ServiceRow) -> &str| {
            let lengths = self.services.iter().map(|row| text(row).chars().count());
            lengths.max().unwrap_or(0)
        };
        let columns = service_columns(
            area.width,
            longest(ServiceRow::own_name),
            longest(|row| &row.address),
        );
        self.shown = columns.iter().map(|(column, _)| *column).collect();
        let header = columns.iter().map(|&(column, _)| {
            let cell = aligned(column, SERVICE_COLUMNS[column].0.to_owned());
            match column == self.sort {
                true => cell.underlined(),
                false => cell,
            }
        });
        let rows = self.services.iter().map(|row| {
            let cells = columns.iter().map(|&(column, width)| {
                let text = row.cell(column);
                aligned(column, elided(&text, width.into()))
            });
            match row.up {
                0 => Row::new(cells).fg(Color::Red),
                up if up < row.reals => Row::new(cells).fg(Color::Yellow),
                _ => Row::new(cells),
            }
        });
        let table = Table::new(rows, columns.iter().map(|(_, width)| *width))
            .header(Row::new(header).reversed())
            .row_highlight_style(Style::new().bold().underlined());
        frame.render_stateful_widget(table, area, &mut self.place);
    }

    /// All of the selected service.
    fn draw_selected(&self, frame: &mut Frame, area: Rect) {
        let place = self.place.selected().unwrap_or(0);
        let place = place.min(self.services.len().saturating_sub(1));
        let Some(row) = self.services.get(place) else {
            return;
        };
        let lines = [
            format!("{} of {}: {}", place + 1, self.services.len(), row.name),
            format!(
                "{}   {}   {} of {} up   connections {} active, {} inactive",
                row.address,
                row.mode,
                row.up,
                row.reals,
                short(row.active.into()),
                short(row.inactive.into()),
            ),
        ];
        let lines = std::iter::once(Line::default()).chain(lines.map(Line::from));
        frame.render_widget(Text::from_iter(lines), area);
    }
}

/// The real servers of a service that get no new connections, whatever the reason; those of its `fallback` have theirs.
fn idle(row: &view::ServiceView) -> impl Iterator<Item = IdleRow> {
    let reals = row.reals.iter().filter(|real| !real.fallback);
    reals.filter_map(|real| {
        Some(IdleRow {
            service: row.name.clone(),
            real: real.real,
            why: real.state.why.clone()?,
        })
    })
}

/// As many of these after a title as so many cells have room for.
fn fitting(title: &str, items: impl Iterator<Item = String>, cells: u16) -> String {
    let mut line = title.to_owned();
    for (n, item) in items.enumerate() {
        let more = format!("{} {item}", if n == 0 { "" } else { "," });
        if line.len() + more.len() + 3 > usize::from(cells) {
            line += ", …";
            break;
        }
        line += &more;
    }
    line
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Text::from(text).alignment(Alignment::Right))
}

fn aligned(column: usize, text: String) -> Cell<'static> {
    match column < TEXT_COLUMNS {
        true => Cell::from(text),
        false => right(text),
    }
}

#[cfg(test)]
mod tests;

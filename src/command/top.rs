//! `weir top`: what goes through now, worker by worker and service by service.

use super::client::{self, Address, At, Error};
use super::table::short;
use crate::view;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Row, Table, TableState};
use ratatui::{DefaultTerminal, Frame};
use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal;
use std::net::SocketAddrV4;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Watch what goes through: workers, services, drops
///
/// Keys: s sorts by the next column, arrows and page keys scroll, q quits.
#[derive(Debug, clap::Args)]
pub struct Top {
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,
    #[command(flatten)]
    at: At,
}

impl Top {
    /// 0, or 1 if no daemon answers.
    pub fn run(&self) -> ExitCode {
        if !is_terminal() {
            return super::fail("weir top draws on a terminal; `weir show services` prints");
        }
        let address = self.at.address();
        // Before the screen is taken: a daemon that is not there is told in plain text.
        let first = match Sample::take(&address) {
            Ok(sample) => sample,
            Err(why) => return super::fail(why),
        };
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
    workers: Vec<view::Worker>,
    services: Vec<view::Service>,
}

impl Sample {
    fn take(address: &Address) -> Result<Sample, Error> {
        let at = Instant::now();
        Ok(Sample {
            workers: client::rows(address, "/v1/workers")?,
            services: client::rows(address, "/v1/services")?,
            at,
            took: at.elapsed(),
        })
    }
}

/// A worker between two samples; rates are per second.
#[derive(Debug, PartialEq)]
struct Worker {
    worker: u8,
    lcore: usize,
    busy: f64,
    connections: u64,
    received: f64,
    transmitted: f64,
    over: f64,
    dropped: f64,
}

/// A service between two samples; rates are per second.
#[derive(Debug, PartialEq)]
struct Service {
    name: String,
    protocol: String,
    vip: SocketAddrV4,
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

impl Service {
    /// What column `n` sorts by: text upwards, figures downwards.
    fn order(&self, other: &Service, column: usize) -> std::cmp::Ordering {
        let figure = |service: &Service| match column {
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
const SERVICE_COLUMNS: [(&str, u16); 11] = [
    ("Service", 24),
    ("Virtual", 26),
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

/// What is on the screen.
struct Screen {
    address: String,
    workers: Vec<Worker>,
    services: Vec<Service>,
    drops: Vec<(String, f64)>,
    /// The column that services are sorted by.
    sort: usize,
    place: TableState,
}

impl Screen {
    fn new(address: String) -> Self {
        Screen {
            address,
            workers: vec![],
            services: vec![],
            drops: vec![],
            sort: 7,
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
            self.workers.push(Worker {
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
        let key = |row: &view::Service| (row.protocol.clone(), row.address, row.port);
        let old: HashMap<_, _> = before.services.iter().map(|row| (key(row), row)).collect();
        self.services.clear();
        for row in &now.services {
            let old = &old.get(&key(row)).unwrap_or(&row).traffic;
            let new = &row.traffic;
            self.services.push(Service {
                name: row.name.clone(),
                protocol: row.protocol.clone(),
                vip: SocketAddrV4::new(row.address, row.port),
                mode: row.mode.clone(),
                up: row
                    .reals
                    .iter()
                    .filter(|real| real.up && real.weight > 0)
                    .count(),
                reals: row.reals.len(),
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
                self.sort = (self.sort + 1) % SERVICE_COLUMNS.len();
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
        let drops = u16::from(!self.drops.is_empty());
        let [title, workers, dropped, services, keys] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(self.workers.len() as u16 + 2),
            Constraint::Length(2 * drops),
            Constraint::Min(3),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let sum = |figure: fn(&Worker) -> f64| self.workers.iter().map(figure).sum::<f64>() as u64;
        let connections: u64 = self.workers.iter().map(|row| row.connections).sum();
        frame.render_widget(
            Line::from(format!(
                "weir at {}: services {}, connections {}; packets/s {} in, {} out, {} dropped",
                self.address,
                self.services.len(),
                short(connections),
                short(sum(|row| row.received)),
                short(sum(|row| row.transmitted)),
                short(sum(|row| row.dropped)),
            ))
            .bold(),
            title,
        );
        let rows = self.workers.iter().map(|row| {
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
        frame.render_widget(
            Table::new(rows, WORKER_COLUMNS.map(|(_, width)| width))
                .header(Row::new(WORKER_COLUMNS.map(|(name, _)| right(name.into()))).reversed()),
            workers,
        );
        let reasons: Vec<_> = self
            .drops
            .iter()
            .map(|(reason, rate)| format!("{reason} {}/s", short(rate.ceil() as u64)))
            .collect();
        frame.render_widget(
            Line::from(format!("Dropped: {}", reasons.join(", "))).fg(Color::Red),
            dropped,
        );
        let header = SERVICE_COLUMNS.iter().enumerate().map(|(n, (name, _))| {
            let cell = aligned(n, (*name).to_owned());
            match n == self.sort {
                true => cell.underlined(),
                false => cell,
            }
        });
        let rows = self.services.iter().map(|row| {
            let cells = [
                row.name.clone(),
                format!("{}:{}", row.protocol, row.vip),
                row.mode.clone(),
                format!("{}/{}", row.up, row.reals),
                short(row.active.into()),
                short(row.inactive.into()),
                short(row.connections as u64),
                short(row.packets_in as u64),
                short(row.packets_out as u64),
                short(row.bits_in as u64),
                short(row.bits_out as u64),
            ];
            let cells = cells
                .into_iter()
                .enumerate()
                .map(|(n, text)| aligned(n, text));
            match row.up {
                0 => Row::new(cells).fg(Color::Red),
                up if up < row.reals => Row::new(cells).fg(Color::Yellow),
                _ => Row::new(cells),
            }
        });
        let table = Table::new(rows, SERVICE_COLUMNS.map(|(_, width)| width))
            .header(Row::new(header).reversed())
            .row_highlight_style(Style::new().bold());
        frame.render_stateful_widget(table, services, &mut self.place);
        frame.render_widget(
            Line::from("s sort   arrows, page keys scroll   q quit").dim(),
            keys,
        );
    }
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
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    /// A sample of two services, the second of which has `packets` packets in.
    fn sample(at: Instant, packets: u64) -> Sample {
        let traffic = |packets| view::Traffic {
            packets_in: packets,
            bytes_in: packets * 100,
            active_connections: 3,
            ..view::Traffic::default()
        };
        let service = |name: &str, last, packets| view::Service {
            name: name.into(),
            protocol: "tcp".into(),
            address: [192, 0, 2, last].into(),
            port: 80,
            mode: "dr".into(),
            scheduler: "rr".into(),
            local_pool: None,
            persistence_s: None,
            traffic: traffic(packets),
            reals: vec![view::Member {
                real: "10.0.0.11:80".parse().unwrap(),
                weight: 1,
                up: last == 2,
                traffic: traffic(packets),
            }],
        };
        let dropped = [("no_route".to_owned(), packets / 10)];
        let worker = view::Worker {
            worker: 0,
            lcore: 1,
            queues: vec![],
            busy_ratio: 0.25,
            connections: 6,
            connection_capacity: 1000,
            evicted_connections: 0,
            received_packets: packets,
            taken_over_packets: 0,
            handed_over_packets: 0,
            transmitted_packets: packets,
            answered_packets: 0,
            local_packets: 0,
            queued_packets: 0,
            originated_packets: 0,
            dropped_packets: dropped.into(),
            replies: BTreeMap::new(),
            loops: 1,
        };
        Sample {
            at,
            took: Duration::ZERO,
            workers: vec![worker],
            services: vec![service("quiet", 1, 500), service("busy", 2, packets)],
        }
    }

    fn lines(screen: &mut Screen) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(130, 14)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let width = usize::from(buffer.area.width);
        let symbols: Vec<_> = buffer.content.iter().map(|cell| cell.symbol()).collect();
        symbols
            .chunks(width)
            .map(|line| line.concat().trim_end().to_owned())
            .collect()
    }

    fn words(line: &str) -> Vec<&str> {
        line.split_whitespace().collect()
    }

    #[test]
    fn rates_are_of_the_time_between_two_samples_and_the_busiest_is_first() {
        let start = Instant::now();
        let mut screen = Screen::new("127.0.0.1:9900".into());
        screen.show(
            &sample(start, 1000),
            &sample(start + Duration::from_secs(2), 5000),
        );
        let lines = lines(&mut screen);
        assert_eq!(
            lines[0],
            "weir at 127.0.0.1:9900: services 2, connections 6; packets/s 2.00k in, 2.00k out, 200 dropped"
        );
        let of = |name: &str| {
            let line = lines
                .iter()
                .position(|line| line.starts_with(name))
                .unwrap();
            (line, words(&lines[line]))
        };
        assert_eq!(
            words(&lines[3]),
            ["0", "1", "25.0%", "6", "2.00k", "2.00k", "0", "200"]
        );
        assert!(
            lines.contains(&"Dropped: no_route 200/s".to_owned()),
            "{lines:#?}"
        );
        let (busy, figures) = of("busy");
        assert_eq!(
            figures,
            [
                "busy",
                "tcp:192.0.2.2:80",
                "dr",
                "1/1",
                "3",
                "0",
                "0",
                "2.00k",
                "0",
                "1.60M",
                "0"
            ]
        );
        let (quiet, figures) = of("quiet");
        assert_eq!(figures[3..8], ["0/1", "3", "0", "0", "0"]);
        assert!(busy < quiet, "{lines:#?}");
    }

    #[test]
    fn keys_sort_scroll_and_quit() {
        let start = Instant::now();
        let mut screen = Screen::new(String::new());
        screen.show(
            &sample(start, 1000),
            &sample(start + Duration::from_secs(1), 2000),
        );
        let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
        for _ in 0..SERVICE_COLUMNS.len() {
            assert!(screen.press(key(KeyCode::Char('s'))));
            lines(&mut screen);
        }
        assert_eq!(screen.services[0].name, "busy", "round once");
        screen.sort = 1;
        screen.sort();
        assert_eq!(screen.services[0].name, "quiet", "by VIP");
        for code in [KeyCode::End, KeyCode::PageDown, KeyCode::Up, KeyCode::Home] {
            assert!(screen.press(key(code)));
            lines(&mut screen);
        }
        assert!(!screen.press(key(KeyCode::Char('q'))));
        assert!(!screen.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    }

    #[test]
    fn a_service_that_began_anew_has_no_negative_rates() {
        let start = Instant::now();
        let mut screen = Screen::new(String::new());
        screen.show(
            &sample(start, 9000),
            &sample(start + Duration::from_secs(1), 10),
        );
        assert!(screen.services.iter().all(|row| row.packets_in == 0.0));
    }
}

//! `weir top`: what goes through now, worker by worker and service by service.

mod columns;
mod draw;
mod list;
mod look;
mod once;
mod screen;

use super::client::{Address, At, Error};
use super::output;
use look::{Look, Sample, ServiceRow};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use screen::Screen;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Watch what goes through: workers, services, their real servers, drops
///
/// Keys: ? tells them all. s sorts by the next column, / filters, Enter opens a service's real servers, Esc goes back, q quits.
#[derive(Debug, clap::Args)]
pub struct Top {
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Print what went through within one interval, all of it, and end
    #[arg(long)]
    once: bool,
    /// Print JSON, a line an interval until interrupted; with --once a single line
    #[arg(long)]
    json: bool,
    /// Sort the services by this column, as its heading has it
    #[arg(long, value_name = "COLUMN", value_parser = column)]
    sort: Option<usize>,
    /// Only services with this text in their name, address, or a real server's address
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    #[command(flatten)]
    at: At,
}

/// The column of the services with this heading, in any case, with or without `/s`.
fn column(heading: &str) -> Result<usize, String> {
    let columns = <ServiceRow as list::Row>::COLUMNS;
    let plain = |text: &str| text.to_lowercase().trim_end_matches("/s").to_owned();
    let found = columns
        .iter()
        .position(|column| plain(column.name) == plain(heading));
    found.ok_or_else(|| {
        let all: Vec<_> = columns.iter().map(|column| plain(column.name)).collect();
        format!("there is no such column, but: {}", all.join(", "))
    })
}

impl Top {
    /// 0, or 1 if no daemon answers.
    pub fn run(&self) -> ExitCode {
        let is_drawn = !self.once && !self.json;
        if is_drawn && !is_terminal() {
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
        if !is_drawn {
            return match self.print(&address, first) {
                Ok(()) => ExitCode::SUCCESS,
                Err(Error::Io(why)) => output::stop(&why),
                Err(why) => super::fail(why),
            };
        }
        let mut terminal = match ratatui::try_init() {
            Ok(terminal) => terminal,
            Err(why) => return super::fail(format!("the terminal cannot be used: {why}")),
        };
        let screen = self.screen(&address);
        let ended = watch(&mut terminal, screen, &address, first, self.interval);
        // The terminal may be gone.
        let _ = ratatui::try_restore();
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => super::fail(why),
        }
    }

    fn screen(&self, address: &Address) -> Screen {
        let mut screen = Screen::new(address.to_string());
        screen.services.begin(self.sort, &self.filter);
        screen
    }

    /// Prints what happened between a first sample and another one; as JSON, from each to the next.
    fn print(&self, address: &Address, first: Sample) -> Result<(), Error> {
        let mut screen = self.screen(address);
        let mut last = first;
        loop {
            std::thread::sleep(wait(self.interval, &last));
            let sample = Sample::take(address)?;
            screen.show(Look::between(&last, &sample));
            last = sample;
            let mut out = output::out();
            match self.json {
                true => once::write_json(&screen, &mut out)?,
                false => once::write(&screen, &mut out)?,
            }
            out.flush()?;
            if self.once {
                return Ok(());
            }
        }
    }
}

#[allow(clippy::disallowed_methods)] // Nothing is written.
fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// The longest time between two looks.
const LONGEST: Duration = Duration::from_secs(86_400);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match interval <= LONGEST {
        true => Ok(interval),
        false => Err("a day is the longest".to_owned()),
    }
}

/// Many services take the daemon some time to list: it has four times that to itself.
fn wait(interval: Duration, last: &Sample) -> Duration {
    interval.max(last.took * 4)
}

/// Looks and draws until the user has seen enough, or the daemon is gone.
fn watch(
    terminal: &mut DefaultTerminal,
    mut screen: Screen,
    address: &Address,
    mut last: Sample,
    interval: Duration,
) -> Result<(), Error> {
    screen.show(Look::between(&last, &last));
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        let due = last.at + wait(interval, &last);
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
        screen.show(Look::between(&last, &sample));
        last = sample;
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

//! `weir top --once`: what a look shows, printed for scripts: every row and column, figures in full.

use super::columns::Kind;
use super::draw::WORKER_COLUMNS;
use super::list::Row;
use super::look::{ServiceRow, WorkerRow};
use super::screen::Screen;
use crate::command::table::{print, table};
use serde_json::json;
use std::io::{self, Write};

/// Tables with an empty line between two: the workers, the services, and where there are any the real servers
/// that get no new connections, the drops, and the clients that are refused.
pub(super) fn write(screen: &Screen, out: &mut impl Write) -> io::Result<()> {
    let look = &screen.look;
    let headings = WORKER_COLUMNS.map(|(name, _)| format!(">{name}"));
    let mut workers = table(&headings.each_ref().map(String::as_str));
    for row in &look.workers {
        workers.add_row(worker(row));
    }
    print(&workers, out)?;
    writeln!(out)?;
    let headings = ServiceRow::COLUMNS.iter();
    let headings = headings.map(|column| match column.kind {
        Kind::Figure => format!(">{}", column.name),
        Kind::Name | Kind::Word => column.name.to_owned(),
    });
    let headings: Vec<_> = headings.collect();
    let mut services = table(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    for row in screen.services.shown() {
        services.add_row(service(row));
    }
    print(&services, out)?;
    if !look.idle.is_empty() {
        writeln!(out)?;
        let mut idle = table(&["Real server", "Service", "Why no new connections"]);
        for row in &look.idle {
            idle.add_row([row.real.to_string(), row.service.clone(), row.why.clone()]);
        }
        print(&idle, out)?;
    }
    if !look.drops.is_empty() {
        writeln!(out)?;
        let mut drops = table(&["Drop reason", ">Drop/s"]);
        for (reason, rate) in &look.drops {
            drops.add_row([reason.clone(), whole(*rate)]);
        }
        print(&drops, out)?;
    }
    if look.offenders.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut clients = table(&["Refused client", "Service", ">Refused", ">New"]);
    for row in &look.offenders {
        let (refused, begun) = (row.refused.to_string(), row.begun.to_string());
        clients.add_row([row.client.clone(), row.service.clone(), refused, begun]);
    }
    print(&clients, out)
}

/// The same as a line of JSON, with the real servers of each service.
pub(super) fn write_json(screen: &Screen, out: &mut impl Write) -> io::Result<()> {
    let mut look = json!(screen.look);
    let shown: Vec<_> = screen.services.shown().collect();
    look["services"] = json!(shown);
    writeln!(out, "{look}")
}

/// A rate, of which something is seen if it is not 0.
fn whole(rate: f64) -> String {
    format!("{:.0}", rate.ceil())
}

fn worker(row: &WorkerRow) -> [String; 8] {
    [
        row.worker.to_string(),
        row.lcore.to_string(),
        format!("{:.1}%", row.busy * 100.0),
        row.connections.to_string(),
        whole(row.received),
        whole(row.transmitted),
        whole(row.over),
        whole(row.dropped),
    ]
}

/// The texts as on the screen, the figures whole.
fn service(row: &ServiceRow) -> Vec<String> {
    let figures = row.rates.figures().map(whole);
    let texts = ServiceRow::COLUMNS.len() - figures.len();
    (0..texts)
        .map(|column| row.cell(column))
        .chain(figures)
        .collect()
}

//! `weir top --once`: what a look shows, printed for scripts: every row and column, figures in full.

use super::{SERVICE_COLUMNS, Screen, ServiceRow, TEXT_COLUMNS, WORKER_COLUMNS, WorkerRow};
use crate::command::table::{print, table};
use std::io::{self, Write};

/// Tables with an empty line between two: the workers, the services, and where there are any the real servers
/// that get no new connections, the drops, and the clients that are refused.
pub(super) fn write(screen: &Screen, out: &mut impl Write) -> io::Result<()> {
    let headings = WORKER_COLUMNS.map(|(name, _)| format!(">{name}"));
    let mut workers = table(&headings.each_ref().map(String::as_str));
    for row in &screen.workers {
        workers.add_row(worker(row));
    }
    print(&workers, out)?;
    writeln!(out)?;
    let mut headings = SERVICE_COLUMNS.map(|(name, _)| format!(">{name}"));
    for heading in &mut headings[..TEXT_COLUMNS] {
        heading.remove(0);
    }
    let mut services = table(&headings.each_ref().map(String::as_str));
    for row in &screen.services {
        services.add_row(service(row));
    }
    print(&services, out)?;
    if !screen.idle.is_empty() {
        writeln!(out)?;
        let mut idle = table(&["Real server", "Service", "Why no new connections"]);
        for row in &screen.idle {
            idle.add_row([row.real.to_string(), row.service.clone(), row.why.clone()]);
        }
        print(&idle, out)?;
    }
    if !screen.drops.is_empty() {
        writeln!(out)?;
        let mut drops = table(&["Drop reason", ">Drop/s"]);
        for (reason, rate) in &screen.drops {
            drops.add_row([reason.clone(), whole(*rate)]);
        }
        print(&drops, out)?;
    }
    if screen.offenders.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut clients = table(&["Refused client", "Service", ">Refused", ">New"]);
    for row in &screen.offenders {
        let (refused, begun) = (row.refused.to_string(), row.begun.to_string());
        clients.add_row([row.client.clone(), row.service.clone(), refused, begun]);
    }
    print(&clients, out)
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

fn service(row: &ServiceRow) -> [String; 11] {
    [
        row.own_name().to_owned(),
        row.address.clone(),
        row.mode.clone(),
        format!("{}/{}", row.up, row.reals),
        row.active.to_string(),
        row.inactive.to_string(),
        whole(row.connections),
        whole(row.packets_in),
        whole(row.packets_out),
        whole(row.bits_in),
        whole(row.bits_out),
    ]
}

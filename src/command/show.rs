//! `weir show …`: the running state as a table, or as JSON.

use super::client::{self, At, Error};
use super::output;
use super::reload::post;
use super::services::Services;
use super::table::{Columns, print, short, table};
use crate::config::CheckWay;
use crate::service::Admin;
use crate::view;
use clap::ValueEnum;
use serde::de::DeserializeOwned;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// Show the running state
#[derive(Debug, clap::Args)]
pub struct Show {
    what: What,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Of services, reals, connections, health, offenders and pools: only those of this service
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Of services, reals, connections, health, offenders and pools: at most so many; of events: the last ones
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Of events: go on with those that happen from now on, until interrupted
    #[arg(long)]
    follow: bool,
    /// Of events: only those about this: health, neighbour, link, address, change, drops, panic, device, daemon
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Of config: what a reload of the daemon's file would change of it
    #[arg(long)]
    diff: bool,
    #[command(flatten)]
    at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    Services,
    Reals,
    Connections,
    Ports,
    Workers,
    Neighbours,
    Routes,
    Health,
    Events,
    /// Local pairs of fullnat, by real server and worker
    Pools,
    /// Rules of [[snat]], with their connections
    Snat,
    /// Clients that services with `allow`, `deny` or `limits` refused, or that began connections, most often of late
    Offenders,
    /// The configuration in force, as a file that `weir check` takes
    Config,
}

impl Show {
    /// 0, or 1 if no daemon answers.
    pub fn run(&self) -> ExitCode {
        if let Some(why) = self.ignored() {
            return super::fail(why);
        }
        let mut out = output::out();
        match self.show(&mut out).and_then(|()| Ok(out.flush()?)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(Error::Io(why)) => output::stop(&why),
            Err(why) => super::fail(why),
        }
    }

    /// The option that what is shown does not have.
    fn ignored(&self) -> Option<String> {
        let is_list = matches!(
            self.what,
            What::Services
                | What::Reals
                | What::Connections
                | What::Health
                | What::Offenders
                | What::Pools
        );
        let are_events = self.what == What::Events;
        let is_config = self.what == What::Config;
        let lists = "services, reals, connections, health, offenders and pools have it";
        let options = [
            ("--service", self.service.is_some() && !is_list, lists),
            (
                "--limit",
                self.limit.is_some() && !is_list && !are_events,
                "services, reals, connections, health, offenders, pools and events have it",
            ),
            ("--follow", self.follow && !are_events, "events have it"),
            (
                "--kind",
                self.kind.is_some() && !are_events,
                "events have it",
            ),
            ("--diff", self.diff && !is_config, "config has it"),
            ("--json", self.json && is_config, "all others have it"),
        ];
        let (option, _, have) = options.iter().find(|(_, is_ignored, _)| *is_ignored)?;
        let what = self.what.to_possible_value()?;
        Some(format!(
            "`weir show {}` has no {option}: {have}",
            what.get_name()
        ))
    }

    fn show(&self, out: &mut impl Write) -> Result<(), Error> {
        if self.what == What::Events && (self.follow || !self.json) {
            return self.events(out);
        }
        if self.diff {
            let changes = post(&self.at.address()?, "/v1/plan", String::new())?;
            return Ok(writeln!(out, "{}", changes.text)?);
        }
        if self.json || self.what == What::Config {
            return client::get(&self.at.address()?, &self.path(), |piece| {
                out.write_all(piece)
            });
        }
        match self.what {
            What::Services => return self.services(out),
            What::Reals => return self.reals(out),
            What::Connections => return self.connections(out),
            What::Health => return self.health(out),
            What::Events => return self.events(out),
            // Written above.
            What::Config => Ok(()),
            What::Ports => ports(&self.rows()?, out),
            What::Workers => workers(&self.rows()?, out),
            What::Neighbours => neighbours(&self.rows()?, out),
            What::Routes => routes(&self.rows()?, out),
            What::Offenders => offenders(&self.rows()?, out),
            What::Pools => pools(&self.rows()?, out),
            What::Snat => snat(&self.rows()?, out),
        }?;
        Ok(())
    }

    fn path(&self) -> String {
        let mut path = match self.what {
            What::Services => "/v1/services",
            What::Reals => "/v1/reals",
            What::Connections => "/v1/connections",
            What::Ports => "/v1/ports",
            What::Workers => "/v1/workers",
            What::Neighbours => "/v1/neighbours",
            What::Offenders => "/v1/offenders",
            What::Pools => "/v1/pools",
            What::Snat => "/v1/snat",
            What::Routes => "/v1/routes",
            What::Health => "/v1/health",
            What::Events => "/v1/events",
            What::Config => "/v1/config",
        }
        .to_owned();
        let service = self
            .service
            .as_ref()
            .map(|service| format!("service={}", client::encode(service)));
        let limit = self.limit.map(|limit| format!("limit={limit}"));
        let is_brief = !self.json && matches!(self.what, What::Services);
        let brief = is_brief.then(|| "brief=true".to_owned());
        let kind = self.kind.as_ref();
        let kind = kind.map(|kind| format!("kind={}", client::encode(kind)));
        let follow = self.follow.then(|| "follow=true".to_owned());
        let parameters = [service, limit, brief, kind, follow];
        for (n, parameter) in parameters.into_iter().flatten().enumerate() {
            path += if n == 0 { "?" } else { "&" };
            path += &parameter;
        }
        path
    }

    fn rows<T: DeserializeOwned>(&self) -> Result<Vec<T>, Error> {
        client::rows(&self.at.address()?, &self.path())
    }

    fn services(&self, out: &mut impl Write) -> Result<(), Error> {
        let mut table = Services::new(out)?;
        client::each_line(&self.at.address()?, &self.path(), |line| {
            Ok(serde_json::from_slice(line).map(|row| table.add(&row))??)
        })?;
        Ok(table.end()?)
    }

    fn reals(&self, out: &mut impl Write) -> Result<(), Error> {
        let [l, r] = [false, true];
        let mut table = Columns::new(&[l, l, l, l, r, r, l, l, r, l, r, r, r, r, r, r, r, l], out);
        table.row([
            "Service", "Prot", "Virtual", "Real", "Weight", "File", "Admin", "Health", "Start",
            "Up", "Active", "Inactive", "Conns", "InPkts", "OutPkts", "InBytes", "OutBytes", "Why",
        ])?;
        client::each(&self.at.address()?, &self.path(), |row: view::RealView| {
            let (traffic, state) = (&row.member.traffic, &row.member.state);
            table.row([
                &row.service,
                &row.protocol.to_uppercase(),
                &row.vip.to_string(),
                &row.member.real.to_string(),
                &row.member.weight.to_string(),
                &state.configured_weight.to_string(),
                &admin(state),
                match row.member.fallback {
                    true => "fallback",
                    false => state.health.name(),
                },
                &format!("{}%", state.slow_start_percent),
                if row.member.up { "yes" } else { "no" },
                &traffic.active_connections.to_string(),
                &traffic.inactive_connections.to_string(),
                &short(traffic.connections_total),
                &short(traffic.packets_in),
                &short(traffic.packets_out),
                &short(traffic.bytes_in),
                &short(traffic.bytes_out),
                state.why.as_deref().unwrap_or("-"),
            ])
        })?;
        Ok(table.end()?)
    }

    fn health(&self, out: &mut impl Write) -> Result<(), Error> {
        let [l, r] = [false, true];
        let mut table = Columns::new(&[l, l, l, l, r, l, r, r, l], out);
        table.row([
            "Service", "Real", "Check", "State", "Since", "Result", "In a row", "Took", "Reason",
        ])?;
        client::each(
            &self.at.address()?,
            &self.path(),
            |row: view::HealthView| {
                let mut check = row.check;
                if row.real.to_string() != row.target {
                    check = format!("{check} {}", row.target);
                }
                if let Some(via) = row.via.filter(|via| via != CheckWay::Host.name()) {
                    check = format!("{check} via {via}");
                }
                // The results that count, of those that change the state.
                let in_a_row = match row.failures {
                    0 => format!("{}/{}", row.passes, row.rise),
                    failures => format!("{failures}/{}", row.fall),
                };
                let took = row.duration_ms.map(|took| format!("{took:.1}ms"));
                let dash = || "-".to_owned();
                table.row([
                    &row.service,
                    &row.real.to_string(),
                    &check,
                    &row.state,
                    &format!("{}s", row.since_s),
                    &row.result.unwrap_or_else(dash),
                    &in_a_row,
                    &took.unwrap_or_else(dash),
                    &row.reason.unwrap_or_else(dash),
                ])
            },
        )?;
        Ok(table.end()?)
    }

    /// A line each, as in the log; with `--json` an object.
    fn events(&self, out: &mut impl Write) -> Result<(), Error> {
        let write = |row: view::EventView| {
            match self.json {
                true => writeln!(out, "{}", serde_json::to_string(&row)?)?,
                false => writeln!(out, "{}", event(&row))?,
            }
            out.flush()
        };
        let (address, path) = (self.at.address()?, self.path());
        match self.follow {
            true => client::follow(&address, &path, write),
            false => client::each(&address, &path, write),
        }
    }

    /// In columns of a fixed width: there may be millions, and they are not gathered first.
    fn connections(&self, out: &mut impl Write) -> Result<(), Error> {
        let mut heading = Some(format!(
            "{:<5} {:>6} {:<12} {:<21} {:<21} {:<21} {:<21} {:<6} Service\n",
            "Prot", "Expire", "State", "Client", "Virtual", "Local", "Real", "Worker"
        ));
        client::each(
            &self.at.address()?,
            &self.path(),
            |row: view::ConnectionView| {
                out.write_all(heading.take().unwrap_or_default().as_bytes())?;
                let expire = format!("{}:{:02}", row.expires_s / 60, row.expires_s % 60);
                let local = row.local.map_or("-".to_owned(), |local| local.to_string());
                let [client, vip, real] =
                    [row.client, row.vip, row.real].map(|address| address.to_string());
                let service = row.service.as_deref().unwrap_or("-");
                writeln!(
                    out,
                    "{:<5} {expire:>6} {:<12} {client:<21} {vip:<21} {local:<21} {real:<21} {:<6} {service}",
                    row.protocol.to_uppercase(),
                    row.state.to_uppercase(),
                    row.worker
                )
            },
        )?;
        Ok(out.write_all(heading.take().unwrap_or_default().as_bytes())?)
    }
}

fn event(row: &view::EventView) -> String {
    let fields = row.fields.iter().map(|(name, value)| match value {
        serde_json::Value::String(text) => format!(" {name}={text}"),
        value => format!(" {name}={value}"),
    });
    let fields: String = fields.collect();
    let line = format!(
        "{} {:<5} {:<9} {}{fields}",
        row.time,
        row.level.to_uppercase(),
        row.kind,
        row.message
    );
    // It may quote what others have sent.
    line.replace(char::is_control, "?")
}

/// What operators have said of a real server, and for how long.
fn admin(state: &view::StateView) -> String {
    let left = |seconds: Option<u64>| {
        seconds.map_or(String::new(), |seconds| {
            let left = humantime::format_duration(Duration::from_secs(seconds));
            format!(" {left}").replace(' ', "·")
        })
    };
    let admin = match state.admin {
        Admin::Enabled => None,
        admin => Some(format!("{}{}", admin.name(), left(state.admin_ends_s))),
    };
    let weight = state
        .runtime_weight
        .map(|weight| format!("weight={weight}{}", left(state.runtime_weight_ends_s)));
    match (admin, weight) {
        (None, None) => Admin::Enabled.name().to_owned(),
        (admin, weight) => {
            let all: Vec<_> = admin.into_iter().chain(weight).collect();
            all.join(",")
        }
    }
}

fn ports(rows: &[view::PortView], out: &mut impl Write) -> io::Result<()> {
    let mut table = table(&[
        "Port",
        "Link",
        "MAC",
        ">MTU",
        ">VLAN",
        "Queues",
        ">RxPkts",
        ">TxPkts",
        ">RxBytes",
        ">TxBytes",
        ">Missed",
        ">Errors",
        "Steering",
        "Driver",
        "Device",
        "Companion",
        "Addresses",
    ]);
    for row in rows {
        let link = match (row.link_up, row.link_speed) {
            (false, _) => "down".to_owned(),
            _ if row.transmit_stalled || row.receive_stalled => "stalled".to_owned(),
            (true, None) => "up".to_owned(),
            (true, Some(megabits)) => format!("{megabits}M"),
        };
        table.add_row([
            row.port.clone(),
            link,
            row.mac.clone(),
            row.mtu.to_string(),
            match row.vlan.as_str() {
                "0" | "" => "-".to_owned(),
                vlan => vlan.to_owned(),
            },
            format!("{}/{}", row.rx_queues, row.tx_queues),
            short(row.received_packets),
            short(row.transmitted_packets),
            short(row.received_bytes),
            short(row.transmitted_bytes),
            short(row.missed_packets + row.no_mbuf),
            short(row.receive_errors + row.transmit_errors),
            row.steering.clone(),
            row.driver.clone(),
            row.device.clone(),
            row.companion
                .as_ref()
                .map_or("-".to_owned(), |companion| companion.interface.clone()),
            row.addresses.join(" "),
        ]);
    }
    print(&table, out)
}

fn workers(rows: &[view::WorkerView], out: &mut impl Write) -> io::Result<()> {
    let mut table = table(&[
        ">Worker",
        ">Lcore",
        ">Busy",
        ">Connections",
        ">Capacity",
        ">Received",
        ">Over",
        ">Transmitted",
        ">Answered",
        ">Local",
        ">Queued",
        ">Dropped",
        "Queues",
    ]);
    for row in rows {
        table.add_row([
            row.worker.to_string(),
            row.lcore.to_string(),
            format!("{:.1}%", row.busy_ratio * 100.0),
            row.connections.to_string(),
            row.connection_capacity.to_string(),
            short(row.received_packets),
            format!(
                "+{} -{}",
                short(row.taken_over_packets),
                short(row.handed_over_packets)
            ),
            short(row.transmitted_packets),
            short(row.answered_packets),
            short(row.local_packets),
            short(row.queued_packets),
            short(row.dropped_packets.values().sum()),
            row.queues.join(" "),
        ]);
    }
    print(&table, out)?;
    let reasons = rows
        .iter()
        .flat_map(|row| &row.dropped_packets)
        .filter(|(_, count)| **count > 0);
    let mut dropped: std::collections::BTreeMap<&str, u64> = Default::default();
    reasons.for_each(|(reason, count)| *dropped.entry(reason).or_default() += count);
    if !dropped.is_empty() {
        let mut table = super::table::table(&["Drop reason", ">Packets"]);
        for (reason, count) in &dropped {
            table.add_row([*reason, &count.to_string()]);
        }
        writeln!(out)?;
        print(&table, out)?;
    }
    Ok(())
}

fn neighbours(rows: &[view::NeighbourView], out: &mut impl Write) -> io::Result<()> {
    let mut table = table(&["Address", "Port", "MAC", "State", "Origin"]);
    for row in rows {
        let origin = if row.is_static { "static" } else { "arp" };
        table.add_row([
            &row.address.to_string(),
            &row.port,
            row.mac.as_deref().unwrap_or("-"),
            &row.state,
            origin,
        ]);
    }
    print(&table, out)
}

/// A row for each real server, and where there are several workers one for each of them.
fn pools(rows: &[view::PoolView], out: &mut impl Write) -> io::Result<()> {
    let mut table = table(&[
        "Pool",
        "Service",
        "Real",
        "Worker",
        ">Pairs",
        ">Used",
        ">%",
        ">Closing",
        ">Highest",
        ">Exhausted",
    ]);
    for row in rows {
        let (all, workers) = (("all".to_owned(), &row.all), row.workers.iter().enumerate());
        let workers = workers.filter(|_| row.workers.len() > 1);
        let workers = workers.map(|(n, worker)| (n.to_string(), worker));
        for (who, pairs) in std::iter::once(all).chain(workers) {
            let part = f64::from(pairs.used) * 100.0 / f64::from(pairs.pairs.max(1));
            table.add_row([
                row.pool.clone(),
                row.service.clone(),
                row.real.to_string(),
                who,
                pairs.pairs.to_string(),
                pairs.used.to_string(),
                format!("{part:.0}"),
                pairs.closing.to_string(),
                pairs.highest.to_string(),
                pairs.exhausted.to_string(),
            ]);
        }
    }
    print(&table, out)
}

fn snat(rows: &[view::SnatView], out: &mut impl Write) -> io::Result<()> {
    let mut table = table(&[
        "From",
        "Pool",
        "OutPort",
        ">Pairs",
        ">ActiveConn",
        ">InActConn",
        ">Conns",
        ">Exhausted",
        ">PktsOut",
        ">PktsIn",
    ]);
    for row in rows {
        let traffic = &row.traffic;
        table.add_row([
            row.from.clone(),
            row.pool.clone(),
            row.out_port.clone().unwrap_or_else(|| "any".to_owned()),
            row.pairs.to_string(),
            traffic.active_connections.to_string(),
            traffic.inactive_connections.to_string(),
            traffic.connections_total.to_string(),
            row.exhausted.to_string(),
            // A connection's requests are what the inside sends.
            traffic.packets_in.to_string(),
            traffic.packets_out.to_string(),
        ]);
    }
    print(&table, out)
}

fn offenders(rows: &[view::OffenderView], out: &mut impl Write) -> io::Result<()> {
    let mut table = table(&["Service", "Client", ">Refused", ">New", ">Missing"]);
    for row in rows {
        table.add_row([
            row.service.clone(),
            row.client.clone(),
            row.refused.to_string(),
            row.begun.to_string(),
            row.missing.to_string(),
        ]);
    }
    print(&table, out)
}

fn routes(rows: &[view::RouteView], out: &mut impl Write) -> io::Result<()> {
    let mut table = table(&["To", "Via", "Port"]);
    for row in rows {
        let via = row
            .via
            .map_or("connected".to_owned(), |via| via.to_string());
        table.add_row([&row.to, &via, &row.port]);
    }
    print(&table, out)
}

//! `weir ipvsadm …`: ipvsadm's options and output, on the services of the running daemon.
//!
//! What it takes is read as ipvsadm does ([`words`]), what it prints is what ipvsadm prints ([`list`]), down to the columns and the
//! exit status. `docs/ipvsadm.md` has the differences.

mod change;
mod list;
mod names;
mod options;
mod order;
mod words;

use super::client::{self, Address, At, Error};
use super::output::{self, tell};
use crate::config;
use crate::service::ServiceKey;
use crate::view::{ConnectionView, ServiceView, WorkerView};
use clap::Parser;
use list::{Columns, How};
use options::Command;
use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};
use words::{Failed, Line, Service, refused, usage};

/// Take ipvsadm's options and print what it prints, for the running daemon
///
/// `alias ipvsadm='weir ipvsadm'` brings scripts over; `weir ipvsadm -h` lists the options. WEIR_API, or --api ADDR ahead of all
/// others, says where the daemon listens.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Ipvsadm {
    /// What ipvsadm takes; nothing: the table
    #[arg(
        value_name = "OPTIONS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    words: Vec<String>,
}

/// The daemon's address, as all commands take it.
#[derive(Debug, clap::Parser)]
#[command(no_binary_name = true)]
struct Where {
    #[command(flatten)]
    at: At,
}

/// What the daemon answers, or does not.
impl From<Error> for Failed {
    fn from(why: Error) -> Failed {
        refused(format!("weir: {}", in_one_line(&why.to_string())))
    }
}

/// The first error of what the check of a configuration says: its place is in a text that is not the caller's.
fn in_one_line(text: &str) -> &str {
    let error = text.lines().find_map(|line| line.strip_prefix("error: "));
    let Some(error) = error else {
        return text.lines().next().unwrap_or_default();
    };
    let is_place = |part: &str| {
        let mut numbers = part.rsplitn(3, ':');
        let mut is_number = || numbers.next().is_some_and(|it| it.parse::<usize>().is_ok());
        is_number() && is_number()
    };
    match error
        .match_indices(": ")
        .find(|(at, _)| is_place(&error[..*at]))
    {
        Some((at, mark)) => &error[at + mark.len()..],
        None => error,
    }
}

impl From<io::Error> for Failed {
    fn from(why: io::Error) -> Failed {
        refused(format!("weir: {why}"))
    }
}

impl Ipvsadm {
    /// ipvsadm's: 0; 2 for a command line that makes no sense; 255 for what is refused; 1 for a list of what is not there.
    pub fn run(&self) -> ExitCode {
        let leading = |word: &String| word == "--api" || word == "--config";
        let (at, words) = match self.words.first() {
            Some(first) if leading(first) => self.words.split_at(self.words.len().min(2)),
            _ => self.words.split_at(0),
        };
        let at = match Where::try_parse_from(at) {
            Ok(Where { at }) => at,
            Err(wrong) => return failed(&usage(wrong.to_string().trim_end())),
        };
        let mut out = output::out();
        let done = Line::read(words).and_then(|line| {
            let address = || at.address().map_err(Failed::from);
            act(&line, &address, &mut out)
        });
        match (done, out.flush()) {
            (Err(why), _) => failed(&why),
            (Ok(()), Err(why)) => output::stop(&why),
            (Ok(()), Ok(())) => ExitCode::SUCCESS,
        }
    }
}

fn failed(why: &Failed) -> ExitCode {
    tell(&why.text);
    ExitCode::from(why.code)
}

/// Does what a line says. The daemon's address is asked for only where it is needed.
fn act(
    line: &Line,
    address: &dyn Fn() -> Result<Address, Failed>,
    out: &mut impl Write,
) -> Result<(), Failed> {
    match line.command {
        Command::Help => Ok(out.write_all(HELP.as_bytes())?),
        Command::Version => Ok(writeln!(
            out,
            "ipvsadm of weir {} (IPVS v{})",
            crate::VERSION,
            list::VERSION
        )?),
        Command::List => show(line, &address()?, out),
        Command::Save => {
            let (text, left_out) = list::save(all(&address()?)?, line.has("numeric"));
            out.write_all(text.as_bytes())?;
            match left_out.is_empty() {
                true => Ok(()),
                false => Err(refused(format!(
                    "weir: left out, as ipvsadm has no line for it: {}",
                    left_out.join(", ")
                ))),
            }
        }
        Command::Restore => restore(address, out),
        Command::StartDaemon | Command::StopDaemon => Err(refused(
            "weir: there is no sync daemon; nodes of a cluster are in [cluster] of the file",
        )),
        Command::Timeout if line.timeouts == [0; 3] => Ok(()),
        Command::Timeout => Err(refused(
            "weir: timeouts are in [timeouts] of the file: change them there, then weir reload",
        )),
        Command::Zero => Err(refused("weir: counters are never set back")),
        _ => change::change(line, &address()?),
    }
}

/// Every service. A list that ends early is no list.
fn all(address: &Address) -> Result<Vec<ServiceView>, Failed> {
    Ok(client::rows(address, "/v1/services")?)
}

/// The service with that key alone, if there is one: a line of many that are restored does not ask for all.
fn named(key: &ServiceKey, address: &Address) -> Result<Vec<ServiceView>, Failed> {
    let path = format!("/v1/services?service={}", client::encode(&key.to_string()));
    match client::rows(address, &path) {
        Err(Error::Missing(_)) => Ok(Vec::new()),
        answered => Ok(answered?),
    }
}

fn show(line: &Line, address: &Address, out: &mut impl Write) -> Result<(), Failed> {
    if line.has("timeout") {
        let [tcp, fin, udp] = timeouts(address)?;
        return Ok(writeln!(
            out,
            "Timeout (tcp tcpfin udp): {tcp} {fin} {udp}"
        )?);
    }
    if line.has("daemon") {
        return Ok(());
    }
    if line.has("connection") {
        return connections(line, address, out);
    }
    let mut services = chosen(line, all(address)?)?;
    let columns = match () {
        () if line.has("stats") => Columns::Stats,
        () if line.has("rate") => {
            let (before, since) = (list::before(&services), Instant::now());
            sleep(MEASURED);
            services = chosen(line, all(address)?)?;
            Columns::Rate(before, since.elapsed().as_secs_f64())
        }
        () if line.has("thresholds") => Columns::Thresholds,
        () if line.has("persistent-conn") => Columns::Persistent(bound(address)?),
        () if line.has("tun-info") => Columns::TunnelInfo,
        () => Columns::Plain,
    };
    let how = How {
        columns,
        numeric: line.has("numeric"),
        exact: line.has("exact"),
        sorted: !line.has("nosort"),
        size: match line.service {
            None => Some(size(address)?),
            Some(_) => None,
        },
    };
    Ok(out.write_all(list::services(services, &how).as_bytes())?)
}

/// Over how long `--rate` looks.
const MEASURED: Duration = Duration::from_secs(1);

/// The services that a list is about.
fn chosen(line: &Line, all: Vec<ServiceView>) -> Result<Vec<ServiceView>, Failed> {
    let Some(service) = &line.service else {
        return Ok(all);
    };
    match find(service, &all) {
        Some(found) => Ok(vec![found.clone()]),
        None => Err(Failed {
            text: "No such service".to_owned(),
            code: 1,
        }),
    }
}

/// A service by its protocol, VIP and first port.
fn find<'a>(service: &Service, all: &'a [ServiceView]) -> Option<&'a ServiceView> {
    let key = service.key()?;
    all.iter().find(|row| {
        let at = list::at(row);
        row.protocol == key.protocol.name() && at.ip() == key.address && at.port() == key.port
    })
}

/// For how many connections there is room.
fn size(address: &Address) -> Result<u64, Failed> {
    let workers: Vec<WorkerView> = client::rows(address, "/v1/workers")?;
    Ok(workers
        .iter()
        .map(|worker| worker.connection_capacity)
        .sum())
}

fn connections(line: &Line, address: &Address, out: &mut impl Write) -> Result<(), Failed> {
    out.write_all(list::connections_title(line.has("persistent-conn")).as_bytes())?;
    let numeric = line.has("numeric");
    client::each(address, "/v1/connections", |row: ConnectionView| {
        out.write_all(list::connection(&row, numeric).as_bytes())
    })?;
    Ok(())
}

/// How many clients are bound to each real server.
fn bound(address: &Address) -> Result<HashMap<list::Place, u32>, Failed> {
    let mut bound = HashMap::new();
    client::each(address, "/v1/connections", |row: ConnectionView| {
        if row.state == "assured" {
            *bound.entry((row.protocol, row.vip, row.real)).or_default() += 1;
        }
        Ok(())
    })?;
    Ok(bound)
}

/// Of established TCP, of TCP that ends, and of UDP, in seconds.
fn timeouts(address: &Address) -> Result<[u64; 3], Failed> {
    let mut text = Vec::new();
    client::get(address, "/v1/config", |piece| {
        text.extend_from_slice(piece);
        Ok(())
    })?;
    let context = config::Context {
        cpus: None,
        devices: false,
    };
    let text = String::from_utf8_lossy(&text);
    let loaded = config::parse(&text, "the configuration in force", &context);
    let timeouts = loaded
        .map_err(|wrong| refused(format!("weir: {wrong}")))?
        .config
        .timeouts;
    Ok([
        timeouts.tcp_established.as_secs(),
        timeouts.tcp_fin_wait.as_secs(),
        timeouts.udp.as_secs(),
    ])
}

/// Does the lines of stdin. As ipvsadm does, it goes on after what the daemon refuses, and ends with 0; a line that makes no sense ends it.
fn restore(
    address: &dyn Fn() -> Result<Address, Failed>,
    out: &mut impl Write,
) -> Result<(), Failed> {
    // As ipvsadm's: that of the last line.
    let mut last = Ok(());
    for text in io::stdin().lock().lines() {
        let text = text?;
        let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        if words.first().is_some_and(|word| word == "ipvsadm") {
            words.remove(0);
        }
        if words.is_empty() {
            continue;
        }
        let line = Line::read(&words)?;
        if line.command == Command::Restore {
            return Err(refused("weir: -R within what -R reads"));
        }
        if let Err(before) = std::mem::replace(&mut last, act(&line, address, out)) {
            tell(before.text);
        }
    }
    last
}

const HELP: &str = "\
Usage:
  ipvsadm -A|E virtual-service [-s scheduler] [-p [timeout]] [-M netmask] [-o] [-b sched-flags]
  ipvsadm -D virtual-service
  ipvsadm -C
  ipvsadm -R
  ipvsadm -S [-n]
  ipvsadm -a|e virtual-service -r server-address [-g|-i|-m] [-w weight] [--tun-type ipip|gre|gue] [--tun-port port]
  ipvsadm -d virtual-service -r server-address
  ipvsadm -L|l [virtual-service] [-n] [-c] [--stats|--rate|--thresholds|--persistent-conn|--tun-info] [--exact] [--nosort]
  ipvsadm -L --timeout
  ipvsadm -h
  ipvsadm -v

virtual-service: -t|-u host:port, or --tcp-service, --udp-service. Long names of all options are ipvsadm's.
This is weir's: services have one forwarding method for all of their real servers. What differs is in docs/ipvsadm.md.
";

#[cfg(test)]
mod tests;

//! `weir replay --what-if …` and `--against …`: the same captures under two configurations, side by side.

use super::super::output::{self, diagnose, tell};
use super::super::service::change_of;
use super::super::table::{print, table};
use super::{Errors, Replay, load, port_and_file};
use crate::config::{Config, RealKeys, ServiceChange, ServiceConfig, changed, did_you_mean};
use crate::model::key;
use crate::replay::Input;
use crate::replay::compare::{self, How, RealCompared, Servers, ServiceCompared, Share};
use crate::service::ServiceKey;
use serde_json::json;
use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

impl Replay {
    /// Whether two configurations are asked for.
    pub(super) fn compares(&self) -> bool {
        self.against.is_some() || !self.what_if.is_empty()
    }

    /// Plays the captures under both, and says who gets what.
    pub(super) fn compare(&self, before: &Config) -> Result<ExitCode, Errors> {
        let after = match &self.against {
            Some(file) => match load(file) {
                Ok(loaded) => loaded.config,
                Err(code) => return Ok(code),
            },
            None => self.changed(before)?,
        };
        let mut inputs = self.inputs(before)?;
        let servers = Servers::of([before, &after]);
        let how = How {
            workers: self.workers.into(),
            burst: self.burst.into(),
        };
        let play = |config: &Config, inputs: &[Input]| {
            compare::play(config, inputs, &servers, how).map_err(|why| vec![why.to_string()])
        };
        let first = play(before, &inputs)?;
        for (input, option) in inputs.iter_mut().zip(&self.rx) {
            // The ports may have other places in the other file.
            let (port, _) = port_and_file("--rx", option, &after).map_err(|why| vec![why])?;
            input.port = port;
        }
        let second = play(&after, &inputs)?;
        let services = compare::compare((before, &first), (&after, &second));
        tell(format_args!(
            "{} packets, and {} of real servers left out",
            first.packets, first.left_out
        ));
        if self.json {
            super::super::say(json!({
                "packets": first.packets, "left_out": first.left_out, "services": services,
            }));
            return Ok(ExitCode::SUCCESS);
        }
        let mut out = output::out();
        let written = write(&mut out, &services).and_then(|()| out.flush());
        Ok(written.map_or_else(|why| output::stop(&why), |()| ExitCode::SUCCESS))
    }

    /// The configuration with every `--what-if`, in their order.
    fn changed(&self, before: &Config) -> Result<Config, Errors> {
        let mut config = before.clone();
        for text in &self.what_if {
            apply(&mut config, text).map_err(|why| match why.starts_with("error: ") {
                // The check's own words, which have their place.
                true => vec![format!("--what-if {text:?} cannot be:"), why],
                false => vec![format!("--what-if {text:?}: {why}")],
            })?;
        }
        Ok(config)
    }
}

/// Changes the services that `[SERVICE [REAL]] KEY=VALUE` is about.
fn apply(config: &mut Config, text: &str) -> Result<(), String> {
    let (which, real, pair) = parts(text)?;
    let words: Vec<_> = real.into_iter().chain([pair]).map(str::to_owned).collect();
    let change = change_of(&words, RealKeys::default())?;
    let around = Config {
        services: Vec::new(),
        ..config.clone()
    };
    for places in meant(&config.services, which)? {
        let services: Vec<_> = places.iter().map(|n| config.services[*n].clone()).collect();
        for (n, service) in places.iter().zip(with(&services, &change, &around)?) {
            config.services[*n] = service;
        }
    }
    Ok(())
}

/// The service and the real server, where they are given, and `KEY=VALUE`.
fn parts(text: &str) -> Result<(Option<&str>, Option<&str>, &str), String> {
    const HOW: &str = "write KEY=VALUE, and in front of it, if not every service is meant, the SERVICE and perhaps its REAL";
    let equals = text.find('=').ok_or(HOW)?;
    let key = text[..equals].rsplit(char::is_whitespace).next();
    let (which, pair) = text.split_at(equals - key.map_or(0, str::len));
    let mut words = which.split_whitespace();
    let (service, real) = (words.next(), words.next());
    match words.next() {
        None => Ok((service, real, pair)),
        Some(_) => Err(HOW.to_owned()),
    }
}

/// The places of services that are changed together: those of one name.
fn meant(services: &[Arc<ServiceConfig>], which: Option<&str>) -> Result<Vec<Vec<usize>>, String> {
    let mut named: Vec<(&str, Vec<usize>)> = Vec::new();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (n, service) in services.iter().enumerate() {
        let at = *seen.entry(&service.name).or_insert(named.len());
        match named.get_mut(at) {
            Some((_, places)) => places.push(n),
            None => named.push((&service.name, vec![n])),
        }
    }
    let Some(which) = which else {
        return Ok(named.into_iter().map(|(_, places)| places).collect());
    };
    if let Some(at) = seen.get(which) {
        return Ok(vec![named.swap_remove(*at).1]);
    }
    let by_key = which.parse::<ServiceKey>().ok();
    let place = services
        .iter()
        .position(|service| Some(key(service)) == by_key);
    place.map(|place| vec![vec![place]]).ok_or_else(|| {
        let hint = did_you_mean(which, named.iter().map(|(name, _)| *name));
        format!("no [[service]] is {which:?}{hint}")
    })
}

/// Services of one name after a change, with what is doubtful said.
fn with(
    services: &[Arc<ServiceConfig>],
    change: &ServiceChange,
    around: &Config,
) -> Result<Vec<Arc<ServiceConfig>>, String> {
    let (changed, warnings) = changed(services, change, around).map_err(|why| why.to_string())?;
    diagnose(&warnings);
    Ok(changed)
}

fn write(out: &mut impl Write, services: &[ServiceCompared]) -> io::Result<()> {
    if services.is_empty() {
        writeln!(out, "no service got a connection")?;
    }
    for (n, service) in services.iter().enumerate() {
        if n > 0 {
            writeln!(out)?;
        }
        write_service(out, service)?;
    }
    Ok(())
}

fn write_service(out: &mut impl Write, service: &ServiceCompared) -> io::Result<()> {
    match service.name == service.service {
        true => writeln!(out, "{}", service.name)?,
        false => writeln!(out, "{} ({})", service.name, service.service)?,
    }
    let mut rows = table(&[
        "real server",
        ">weight",
        ">clients",
        ">connections",
        ">share",
        ">peak",
    ]);
    let all = |side: fn(&RealCompared) -> Option<Share>| {
        let shares = service.reals.iter().filter_map(side);
        shares.map(|share| share.connections).sum::<u64>()
    };
    let (all_before, all_after) = (all(|real| real.before), all(|real| real.after));
    for real in &service.reals {
        let sides = |number: &dyn Fn(Share, u64) -> String| {
            both([
                real.before.map(|share| number(share, all_before)),
                real.after.map(|share| number(share, all_after)),
            ])
        };
        rows.add_row([
            real.real.to_string(),
            sides(&|share, _| share.weight.to_string()),
            sides(&|share, _| share.clients.to_string()),
            sides(&|share, _| share.connections.to_string()),
            sides(&|share, all| percent(share.connections, all)),
            sides(&|share, _| share.peak.to_string()),
        ]);
    }
    print(&rows, out)?;
    let ServiceCompared {
        clients,
        moved_clients,
        connections,
        moved_connections,
        only_before,
        only_after,
        busiest_before,
        busiest_after,
        ..
    } = service;
    writeln!(
        out,
        "moved: {moved_clients} of {clients} clients ({}), {moved_connections} of {connections} connections ({})",
        percent(*moved_clients, *clients),
        percent(*moved_connections, *connections),
    )?;
    if (*only_before, *only_after) != (0, 0) {
        writeln!(
            out,
            "connections that begin only before: {only_before}, only after: {only_after}"
        )?;
    }
    let times = |times: &Option<f64>| times.map(|times| format!("{times:.2}"));
    writeln!(
        out,
        "the busiest real server gets so many times its weight's share: {}",
        both([times(busiest_before), times(busiest_after)])
    )
}

/// `3 -> 5`, or `3` where nothing changes; `-` is what there is not.
fn both([before, after]: [Option<impl Display>; 2]) -> String {
    let [before, after] =
        [before, after].map(|side| side.map_or("-".to_owned(), |it| it.to_string()));
    match before == after {
        true => before,
        false => format!("{before} -> {after}"),
    }
}

fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "0 %".to_owned(),
        _ => format!("{:.0} %", part as f64 * 100.0 / whole as f64),
    }
}

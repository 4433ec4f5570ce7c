//! `weir simulate`: several directors behind one router, clients, real servers and faults, on a clock of its own.

use super::output::{self, tell};
use crate::config::Config;
use crate::simulate::{
    Ecmp, Fault, Kind, Network, Plan, Report, Setup, faults, run as simulate, shrink,
};
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Simulate several nodes with this configuration behind a router: which connections break when nodes die, fall silent, are
/// drained or change, and whether what must never happen does not
#[derive(Debug, clap::Args)]
pub struct Simulate {
    /// The configuration file of every node; the addresses of its local pools are dealt out to them in turn
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How many nodes there are
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    nodes: u8,
    /// How many workers each node has
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    workers: u8,
    /// How the router spreads flows over the nodes
    #[arg(long, value_enum, default_value_t = Ecmp::Plain)]
    ecmp: Ecmp,
    /// How long it takes until the router leaves out a node that is dead or silent, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 150, value_parser = clap::value_parser!(u64).range(..=60_000))]
    detection: u64,
    /// How many connections there are at a time
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    connections: u32,
    /// How long each simulation goes on, on its own clock
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// The seed of the first simulation: all that chance decides follows from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many simulations there are, each with the next seed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// How many faults each has
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(..=10_000))]
    faults: u32,
    /// Of which kinds they are
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "kill,silence,drain,remove,weight"
    )]
    kinds: Vec<Kind>,
    /// The part of the packets that is lost on each link, 0 to 1
    #[arg(long, value_name = "PART", default_value_t = 0.0, value_parser = part)]
    loss: f64,
    /// The part of the packets that comes twice
    #[arg(long, value_name = "PART", default_value_t = 0.0, value_parser = part)]
    duplication: f64,
    /// The part of the packets that is overtaken by later ones
    #[arg(long, value_name = "PART", default_value_t = 0.0, value_parser = part)]
    reordering: f64,
    /// Repeat the simulation of a file that an earlier one has written, instead of those of seeds
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["nodes", "workers", "ecmp", "detection", "seed", "seeds", "faults", "kinds", "connections", "seconds", "loss", "duplication", "reordering"]
    )]
    plan: Option<PathBuf>,
    /// Where to write the smallest simulation that still goes wrong, if one does: JSON, for --plan
    #[arg(long, value_name = "FILE", default_value = "weir-simulation.json")]
    save: PathBuf,
    /// Print the report to stdout as JSON
    #[arg(long)]
    json: bool,
}

fn part(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(part) if (0.0..=1.0).contains(&part) => Ok(part),
        _ => Err("a number from 0 to 1 is expected".to_owned()),
    }
}

const NODES: RangeInclusive<usize> = 1..=32;
const WORKERS: RangeInclusive<usize> = 1..=16;
const DETECTION: u64 = 60_000;
const MOST_MS: u64 = 86_400_000;
const CONNECTIONS: RangeInclusive<u32> = 1..=50_000;
const SECONDS: RangeInclusive<u32> = 1..=86_400;

/// Simulations to find a smaller one that goes wrong.
const ATTEMPTS: u32 = 60;

impl Simulate {
    /// 0 if nothing happened that must never happen, else 1.
    pub fn run(&self) -> ExitCode {
        let config = match super::replay::load(&self.config) {
            Ok(loaded) => loaded.config,
            Err(code) => return code,
        };
        self.simulate(config).unwrap_or_else(|error| {
            tell(output::error(error));
            ExitCode::FAILURE
        })
    }

    fn simulate(&self, config: Config) -> Result<ExitCode, String> {
        let keep_in = std::env::temp_dir().join(format!("weir-simulate-{}", std::process::id()));
        let setup = Setup {
            config,
            keep_in: keep_in.clone(),
        };
        let keeps = setup.config.connections_file.is_some();
        if keeps {
            std::fs::create_dir(&keep_in)
                .map_err(|error| format!("{}: {error}", keep_in.display()))?;
        }
        let code = self.all(&setup);
        if keeps {
            // What could not be removed does no harm.
            let _ = std::fs::remove_dir_all(&keep_in);
        }
        code
    }

    fn all(&self, setup: &Setup) -> Result<ExitCode, String> {
        let mut sum = Report::default();
        let mut failed = None;
        for plan in self.plans(setup)? {
            let report = play(setup, &plan)?;
            let is_wrong = !report.violations.is_empty();
            sum.add(report);
            if is_wrong {
                failed = Some(plan);
                break;
            }
        }
        match self.json {
            true => super::say(json(&sum)),
            false => super::say(text(&sum).trim_end()),
        }
        let Some(plan) = failed else {
            return Ok(ExitCode::SUCCESS);
        };
        for violation in &sum.violations {
            tell(output::error(format!("seed {}: {violation}", plan.seed)));
        }
        if self.plan.is_none() {
            let fails = |plan: &Plan| {
                simulate(setup, plan).is_ok_and(|report| !report.violations.is_empty())
            };
            write(&self.save, &shrink(&plan, ATTEMPTS, fails))?;
            tell(format!(
                "note: {0} has the smallest simulation that was found to go wrong; --plan {0} repeats it",
                self.save.display()
            ));
        }
        Ok(ExitCode::FAILURE)
    }

    /// The simulations to run: that of `--plan`, or one for each seed.
    fn plans<'a>(
        &'a self,
        setup: &'a Setup,
    ) -> Result<Box<dyn Iterator<Item = Plan> + 'a>, String> {
        if let Some(file) = &self.plan {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
            let plan = serde_json::from_str(&text);
            let plan = plan.map_err(|error| {
                format!(
                    "{}: not a file of `weir simulate --save`: {error}",
                    file.display()
                )
            })?;
            possible(&plan).map_err(|what| format!("{}: {what}", file.display()))?;
            return Ok(Box::new(std::iter::once(plan)));
        }
        let seeds = (0..self.seeds).map(|n| self.seed.wrapping_add(n));
        Ok(Box::new(seeds.map(|seed| {
            let place = (usize::from(self.nodes), &setup.config);
            Plan {
                nodes: usize::from(self.nodes),
                workers: usize::from(self.workers),
                ecmp: self.ecmp,
                detection: self.detection,
                seed,
                connections: self.connections,
                seconds: self.seconds,
                network: Network {
                    loss: self.loss,
                    duplication: self.duplication,
                    reordering: self.reordering,
                },
                faults: faults(seed, &self.kinds, self.faults, self.seconds, place),
            }
        })))
    }
}

/// A plan's numbers are those that the options take.
fn possible(plan: &Plan) -> Result<(), &'static str> {
    let Network {
        loss,
        duplication,
        reordering,
    } = plan.network;
    let is_part = |part: &f64| (0.0..=1.0).contains(part);
    let is_late = |fault: &Fault| fault.at.max(fault.what.away()) > MOST_MS;
    match plan {
        _ if !NODES.contains(&plan.nodes) => Err("nodes: 1 to 32"),
        _ if !WORKERS.contains(&plan.workers) => Err("workers: 1 to 16"),
        _ if plan.detection > DETECTION => Err("detection: 0 to 60000"),
        _ if plan.faults.iter().any(is_late) => Err("faults: at and away: 0 to 86400000"),
        _ if !CONNECTIONS.contains(&plan.connections) => Err("connections: 1 to 50000"),
        _ if !SECONDS.contains(&plan.seconds) => Err("seconds: 1 to 86400"),
        _ if ![loss, duplication, reordering].iter().all(is_part) => {
            Err("network: each number is from 0 to 1")
        }
        _ => Ok(()),
    }
}

fn play(setup: &Setup, plan: &Plan) -> Result<Report, String> {
    simulate(setup, plan).map_err(|error| error.to_string())
}

fn write(file: &Path, plan: &Plan) -> Result<(), String> {
    let text = serde_json::to_string_pretty(plan).map_err(|error| error.to_string())?;
    std::fs::write(file, text + "\n").map_err(|error| format!("{}: {error}", file.display()))
}

/// The report for programs. Stalls are in milliseconds.
fn json(report: &Report) -> serde_json::Value {
    let mut value = serde_json::json!(report);
    value["stall_ms"] = serde_json::json!({"p50": report.stall(50), "p99": report.stall(99)});
    value
}

/// The report for people.
fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments| {
        let _ = writeln!(text, "{line}");
    };
    line(format_args!(
        "{} connections begun, {} answered, {} closed by their clients, {} broken",
        report.begun,
        report.opened,
        report.closed,
        report.broken()
    ));
    for (excuse, count) in &report.broken {
        line(format_args!("  {count} broken: {}", excuse.words()));
    }
    line(format_args!(
        "longest stall of a connection: {} ms in the middle, {} ms at the 99th of 100",
        report.stall(50),
        report.stall(99)
    ));
    if !report.by_fault.is_empty() {
        line(format_args!(
            "{:<10} {:>8} {:>12} {:>8}",
            "fault", "times", "connections", "broken"
        ));
        for (kind, share) in &report.by_fault {
            let kind = format!("{kind:?}").to_lowercase();
            line(format_args!(
                "{kind:<10} {:>8} {:>12} {:>8}",
                share.faults, share.touched, share.broken
            ));
        }
    }
    for (reason, count) in &report.drops {
        line(format_args!("{count} packets dropped: {reason}"));
    }
    line(format_args!(
        "{} packets, {} steps, {} violations",
        report.packets,
        report.events,
        report.violations.len()
    ));
    text
}

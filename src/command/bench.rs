//! `weir bench`: the dataplane's speed on this machine, no NIC needed.

use crate::bench::cases::{CASES, Figure};
use std::path::PathBuf;
use std::process::ExitCode;

/// Measure the dataplane on this machine, with no NIC: CPU time a packet, a connection, a change
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// Only these cases, with commas between or by several options; by default all
    #[arg(long = "case", value_name = "NAME", value_delimiter = ',')]
    cases: Vec<String>,
    /// Fewer packets and smaller tables: under a minute, and less exact
    #[arg(long)]
    quick: bool,
    /// Write the figures as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Bench {
    pub fn run(&self) -> ExitCode {
        let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        if let Some(unknown) = self
            .cases
            .iter()
            .find(|case| !names.contains(&case.as_str()))
        {
            return super::fail(format!(
                "no case `{unknown}`: there are {}",
                names.join(", ")
            ));
        }
        let mut figures: Vec<Figure> = Vec::new();
        for case in CASES
            .iter()
            .filter(|case| self.cases.is_empty() || self.cases.iter().any(|name| name == case.name))
        {
            super::say(format_args!("{}: {}", case.name, case.description));
            (case.run)(self.quick, &mut |figure| {
                let (what, nanos, per) = (&figure.what, figure.nanos, figure.per);
                // How often a gap fits into a second says nothing.
                let rate = match per {
                    "longest gap" => String::new(),
                    _ => format!("{:>7.2} M/s", 1e3 / nanos),
                };
                super::say(format_args!(
                    "  {what:<84} {nanos:>10.1} ns a {per:<11} {rate}"
                ));
                figures.push(figure);
            });
        }
        let Some(file) = &self.json else {
            return ExitCode::SUCCESS;
        };
        let written = serde_json::to_string_pretty(&figures).map_err(std::io::Error::from);
        match written.and_then(|text| std::fs::write(file, text + "\n")) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => super::fail(format!("{}: {error}", file.display())),
        }
    }
}

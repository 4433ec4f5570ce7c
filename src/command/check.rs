//! `weir check FILE`: every error on stderr, or one line about the file on stdout.

use super::output::{diagnose, tell};
use crate::api::secrets;
use crate::config::{self, Config, Severity};
use crate::daemon::machine::Memory;
use crate::daemon::preflight::{Preflight, Refusal, at_device};
use crate::io::pci::{Bus, Locking};
use std::path::PathBuf;
use std::process::ExitCode;

/// Validate a configuration file: print every error, or a one-line summary
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The configuration file
    file: PathBuf,
}

impl Check {
    /// 0 if the file can be used, else 1.
    pub fn run(&self) -> ExitCode {
        match config::load(&self.file, &super::context()) {
            Ok(loaded) => {
                diagnose(&loaded.warnings);
                let files = secrets::check(&loaded);
                diagnose(&files);
                if files.iter().any(|it| it.severity == Severity::Error) {
                    return ExitCode::FAILURE;
                }
                // The file may be right and meant for another machine.
                let machine = Preflight::new(&loaded.config, &Bus::here(), Locking::now());
                let at = (&loaded.config, loaded.devices.as_slice());
                let warning = |refusal: Refusal| {
                    let message = format!("on this machine, {refusal}");
                    at_device(at, refusal.port(), Severity::Warning, message)
                };
                // Nor is it a fault of the file that a running weir has its devices.
                diagnose(&machine.lasting().map(warning).collect());
                if let Some(shortage) = Memory::of(&loaded.config).shortage() {
                    tell(format_args!("warning: {shortage}"));
                }
                let (file, summary) = (self.file.display(), summary(&loaded.config));
                super::say(format_args!("{file}: ok: {summary}"));
                ExitCode::SUCCESS
            }
            Err(diagnostics) => {
                diagnose(&diagnostics);
                ExitCode::FAILURE
            }
        }
    }
}

/// `2 ports, 3 services, 7 real servers, 1 local pool, 4 routes`
fn summary(config: &Config) -> String {
    let reals = config
        .services
        .iter()
        .map(|service| service.reals.len())
        .sum();
    let counts: [(usize, &str); 5] = [
        (config.ports.len(), "port"),
        (config.services.len(), "service"),
        (reals, "real server"),
        (config.pools.len(), "local pool"),
        (config.routes.len(), "route"),
    ];
    let count = |(count, what): (usize, &str)| {
        format!("{count} {what}{}", if count == 1 { "" } else { "s" })
    };
    counts.map(count).join(", ")
}

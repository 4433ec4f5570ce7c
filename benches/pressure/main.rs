//! Under pressure: what honest clients get while something is held full. Prints the table of docs/performance.md.
//!
//! All of it is simulated time: the figures are the same on every machine and in every build.
//! `cargo bench --bench pressure -- WORD` runs only the rows whose text has that word.

#![allow(clippy::print_stdout)] // The figures.

mod rows;
// The tests and the benchmark use a part of it each.
#[allow(dead_code)]
#[path = "../../tests/replay/world/mod.rs"]
mod world;

use rows::rows;
use world::report::Scenario;

fn main() {
    let word = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    println!(
        "| resource | pressure | workers | served | at once | added, median | added, 99 % | known |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    for row in rows() {
        if word.as_ref().is_some_and(|word| !row.text().contains(word)) {
            continue;
        }
        for workers in [1, 4] {
            let report = Scenario::run(&row.scenario, workers);
            let percent = |part: u64, of: u64| 100.0 * part as f64 / of as f64;
            let clients = report.clients as u64;
            println!(
                "| {} | {workers} | {:.1} % | {:.1} % | {} ms | {} ms | {:.1} % |",
                row.text(),
                report.success(),
                percent(report.served_at_once as u64, clients),
                report.added_median_ms,
                report.added_99_ms,
                percent(report.known_answered, report.known_asked),
            );
        }
    }
}

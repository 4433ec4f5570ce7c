//! Every metric, and its text for Prometheus.
//!
//! A metric is one line of [`METRICS`]: name, type, what it counts, and where its samples come from. `/metrics`,
//! `docs/metrics.md` and the tests read this list.

mod list;

pub use list::METRICS;

use crate::view::{Daemon, Service};
use std::fmt::{Display, Write};

/// The content type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    /// The labels that its samples carry.
    pub labels: &'static [&'static str],
    pub source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        }
    }
}

/// Where a metric's samples come from.
#[derive(Debug)]
pub enum Source {
    Daemon(fn(&Daemon, &mut Samples)),
    /// Asked once for each service: samples for it and its real servers.
    Service(fn(&Service, &mut Samples)),
}

impl Metric {
    /// The two comment lines above the samples.
    pub fn header(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "# HELP {} {}",
            self.name,
            self.help.replace('\\', "\\\\").replace('\n', "\\n")
        );
        let _ = writeln!(text, "# TYPE {} {}", self.name, self.kind.name());
    }

    /// Where to add samples.
    pub fn samples<'a>(&'static self, text: &'a mut String) -> Samples<'a> {
        Samples { metric: self, text }
    }
}

/// Takes the samples of one metric.
pub struct Samples<'a> {
    metric: &'static Metric,
    text: &'a mut String,
}

impl Samples<'_> {
    /// Adds one; `values` are those of the metric's labels, in their order.
    pub fn add(&mut self, values: &[&dyn Display], value: impl Display) {
        debug_assert_eq!(
            values.len(),
            self.metric.labels.len(),
            "{}",
            self.metric.name
        );
        self.text.push_str(self.metric.name);
        for (n, (label, text)) in self.metric.labels.iter().zip(values).enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if n == 0 { '{' } else { ',' });
            let _ = write!(Escaped(self.text), "{text}");
            self.text.push('"');
        }
        let end = if self.metric.labels.is_empty() {
            ""
        } else {
            "}"
        };
        let _ = writeln!(self.text, "{end} {value}");
    }
}

/// Writes a label's value: backslash, quote and line feed are escaped.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for char in text.chars() {
            match char {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                char => self.0.push(char),
            }
        }
        Ok(())
    }
}

/// `docs/metrics.md`.
pub fn documentation() -> String {
    let mut text = String::from(
        "# Metrics\n\n`GET /metrics` of the API, in Prometheus's text format. This page is made from the list in\n\
         `src/metrics/list.rs`; a test compares them.\n\n\
         `port` is a service's port where there is an `address`, else the name of a `[[port]]`.\n\n\
         | metric | type | labels | |\n|---|---|---|---|\n",
    );
    for metric in METRICS {
        let labels: Vec<_> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            metric.name,
            metric.kind.name(),
            labels.join(", "),
            metric.help
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_follow_the_convention_and_are_given_once() {
        let mut seen = HashSet::new();
        for Metric {
            name, kind, labels, ..
        } in METRICS
        {
            assert!(seen.insert(name), "{name} is there twice");
            assert!(
                name.starts_with("weir_")
                    && name.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()),
                "{name}"
            );
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(
                labels.iter().collect::<HashSet<_>>().len() == labels.len(),
                "{name}"
            );
        }
    }

    #[test]
    fn label_values_are_escaped() {
        let metric = METRICS
            .iter()
            .find(|metric| metric.labels == ["version"])
            .unwrap();
        let mut text = String::new();
        metric.samples(&mut text).add(&[&"a\"b\\c\nd"], 1);
        assert_eq!(
            text,
            format!("{}{{version=\"a\\\"b\\\\c\\nd\"}} 1\n", metric.name)
        );
    }

    #[test]
    fn the_documentation_lists_every_metric() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("WEIR_WRITE_DOCS").is_some() {
            std::fs::write(path, documentation()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            written,
            documentation(),
            "docs/metrics.md is out of date: run this test with WEIR_WRITE_DOCS=1"
        );
    }
}

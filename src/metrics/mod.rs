//! Every metric, and its text for Prometheus.
//!
//! A metric is one line of [`METRICS`]: name, type, what it counts, and where its samples come from. `/metrics`,
//! `docs/metrics.md` and the tests read this list. [`IPVS`] has some of it under the names of another program.

mod format;
mod ipvs;
mod list;

pub use format::Format;
pub use ipvs::IPVS;
pub use list::METRICS;

use crate::view::{DaemonView, HistogramView, ServiceView};
use prometheus::{TextEncoder, proto};
use std::time::Duration;

#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    /// The labels that its samples carry.
    pub labels: &'static [&'static str],
    pub source: Source,
}

impl Metric {
    /// Whether it has samples for each real server: left out by `per_real = false`.
    pub fn is_per_real(&self) -> bool {
        self.labels.contains(&"real") || self.labels.contains(&"remote_address")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Where a metric's samples come from.
#[derive(Debug)]
pub enum Source {
    Daemon(fn(&DaemonView, &mut Samples)),
    /// Asked once for each service: samples for it and its real servers.
    Service(fn(&Labelled, &mut Samples)),
    /// Asked once: samples for all services together.
    Services(fn(&[Labelled], &mut Samples)),
}

/// A service, and the texts of its labels: many metrics have the same.
pub struct Labelled {
    service: ServiceView,
    address: String,
    port: String,
    /// Of each real server.
    reals: Vec<String>,
}

impl Labelled {
    /// Without its real servers, unless `per_real`.
    pub fn new(mut service: ServiceView, per_real: bool) -> Self {
        if !per_real {
            service.reals = Vec::new();
        }
        Labelled {
            address: service.address.to_string(),
            port: service.port.to_string(),
            reals: service.reals.iter().map(|it| it.real.to_string()).collect(),
            service,
        }
    }
}

/// The samples of one metric, and their text: in pieces, so that none holds those of all services.
pub struct Family {
    family: proto::MetricFamily,
    format: Format,
    kind: Kind,
    labels: &'static [&'static str],
    /// Samples of this piece. Those behind are of the piece before, and used again: most of their labels stay as they are.
    used: usize,
    has_header: bool,
}

impl Family {
    pub fn new(metric: &Metric, format: Format) -> Self {
        let mut family = proto::MetricFamily::default();
        family.set_name(metric.name.to_owned());
        family.set_help(metric.help.to_owned());
        family.set_field_type(match metric.kind {
            Kind::Counter => proto::MetricType::COUNTER,
            Kind::Gauge => proto::MetricType::GAUGE,
            Kind::Histogram => proto::MetricType::HISTOGRAM,
        });
        Family {
            family,
            format,
            kind: metric.kind,
            labels: metric.labels,
            used: 0,
            has_header: false,
        }
    }

    /// Where to add samples.
    pub fn samples(&mut self) -> Samples<'_> {
        Samples(self)
    }

    /// The text of what was added since, with the comments above it the first time.
    pub fn take_text(&mut self) -> String {
        let mut text = String::new();
        if self.used == 0 {
            return text;
        }
        self.family.mut_metric().truncate(self.used);
        self.used = 0;
        let family = std::slice::from_ref(&self.family);
        // It refuses a family without a name or without samples, which this is not.
        let _ = TextEncoder::new().encode_utf8(family, &mut text);
        let header = text.lines().take_while(|line| line.starts_with('#'));
        let length: usize = header.map(|line| line.len() + 1).sum();
        let header = match std::mem::replace(&mut self.has_header, true) {
            true => String::new(),
            false => self.format.header(&text[..length]),
        };
        text.replace_range(..length, &header);
        match self.kind {
            Kind::Counter | Kind::Gauge => text,
            Kind::Histogram => self.format.histogram(text),
        }
    }
}

/// Takes the samples of one metric.
pub struct Samples<'a>(&'a mut Family);

impl Samples<'_> {
    /// Adds one of a counter or a gauge; `values` are those of the metric's labels, in their order.
    pub fn add(&mut self, values: &[&str], value: impl Number) {
        let kind = self.0.kind;
        let sample = self.next(values);
        match kind {
            Kind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(value.to_f64());
                sample.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value.to_f64());
                sample.set_gauge(gauge);
            }
            Kind::Histogram => debug_assert!(false, "a histogram has more than one value"),
        }
    }

    /// Adds the samples of a histogram.
    pub fn add_histogram(&mut self, values: &[&str], it: &HistogramView) {
        let sample = self.next(values);
        let mut count = 0;
        // Each bucket of Prometheus's has those before it, too; that of everything is written by itself.
        let buckets = it.bounds_us.iter().zip(&it.buckets).map(|(most, added)| {
            count += added;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(Duration::from_micros(*most).as_secs_f64());
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(it.buckets.iter().sum());
        histogram.set_sample_sum(it.sum.as_secs_f64());
        sample.set_histogram(histogram);
    }

    /// The next sample, with its labels.
    fn next(&mut self, values: &[&str]) -> &mut proto::Metric {
        let Family {
            family,
            labels,
            used,
            ..
        } = &mut *self.0;
        debug_assert_eq!(values.len(), labels.len(), "{labels:?}");
        let samples = family.mut_metric();
        if samples.len() == *used {
            samples.push(unlabelled(labels));
        }
        let sample = &mut samples[*used];
        *used += 1;
        for (label, value) in sample.mut_label().iter_mut().zip(values) {
            if label.value() != *value {
                label.set_value((*value).to_owned());
            }
        }
        sample
    }
}

fn unlabelled(names: &[&str]) -> proto::Metric {
    let label = |name: &&str| {
        let mut label = proto::LabelPair::default();
        label.set_name((*name).to_owned());
        label
    };
    proto::Metric::from_label(names.iter().map(label).collect())
}

/// A sample's value. Beyond 2 to the power of 53 it is rounded, as Prometheus does.
pub trait Number {
    fn to_f64(self) -> f64;
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl Number for $type {
            fn to_f64(self) -> f64 {
                self as f64
            }
        }
        impl Number for &$type {
            fn to_f64(self) -> f64 {
                *self as f64
            }
        }
    )*};
}

numbers! { i32 u8 u16 u32 u64 usize f64 }

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::fmt::Write;

    /// `docs/metrics.md`.
    fn documentation() -> String {
        let left_out: Vec<_> = METRICS
            .iter()
            .filter(|metric| metric.is_per_real())
            .map(|metric| format!("`{}`", metric.name))
            .collect();
        let mut text = format!(
            "# Metrics\n\n`GET /metrics` of the API, in Prometheus's text format, or in OpenMetrics' where the client prefers \
             that by `Accept`.\n\
             This page is made from the lists in `src/metrics`; a test compares them.\n\n\
             `GET /metrics?service=web` has the metrics of that service and its real servers only: a scrape of what is \
             interesting among 20,000 services.\n\n\
             `port` is a service's port where there is an `address`, else the name of a `[[port]]`: ports on one device \
             have the device's values each.\n\n\
             `[metrics] per_real = false` leaves out the metrics with the label `real`: {}.\n\n\
             | metric | type | labels | |\n|---|---|---|---|\n",
            left_out.join(", "),
        );
        rows(&mut text, METRICS);
        text += "\n## Under the names of node_exporter\n\n\
                 `GET /metrics?names=ipvs` has what its collector `ipvs` tells of the kernel's IPVS, for dashboards and alerts \
                 that were made for it. The sums are of the services that are there; `local_mark` is always empty.\n\n\
                 | metric | type | labels | |\n|---|---|---|---|\n";
        rows(&mut text, IPVS);
        text
    }

    fn rows(text: &mut String, list: &[Metric]) {
        for metric in list {
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
    }

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
    fn pieces_have_the_header_once_and_label_values_are_escaped() {
        let metric = METRICS
            .iter()
            .find(|metric| metric.labels == ["version"])
            .unwrap();
        let mut family = Family::new(metric, Format::Prometheus);
        assert_eq!(family.take_text(), "");
        family.samples().add(&["a\"b\\c\nd"], 1);
        let first = family.take_text();
        let (header, sample) = first.split_at(first.find("\nweir_").unwrap() + 1);
        assert_eq!(
            header,
            format!(
                "# HELP {0} {1}\n# TYPE {0} gauge\n",
                metric.name, metric.help
            )
        );
        assert_eq!(
            sample,
            format!("{}{{version=\"a\\\"b\\\\c\\nd\"}} 1\n", metric.name)
        );
        family.samples().add(&["2"], u64::MAX);
        assert_eq!(
            family.take_text(),
            format!("{}{{version=\"2\"}} 18446744073709552000\n", metric.name)
        );
    }

    #[test]
    fn open_metrics_declares_counters_without_their_suffix_and_escapes_quotes() {
        for metric in METRICS.iter().chain(IPVS) {
            let mut family = Family::new(metric, Format::OpenMetrics);
            let values = vec!["a"; metric.labels.len()];
            if metric.kind == Kind::Histogram {
                // Its samples have names of their own.
                continue;
            }
            family.samples().add(&values, 7);
            let text = family.take_text();
            let lines: Vec<_> = text.lines().collect();
            let declared = match metric.kind {
                Kind::Counter => metric.name.strip_suffix("_total").unwrap(),
                Kind::Gauge | Kind::Histogram => metric.name,
            };
            let help = metric.help.replace('"', "\\\"");
            assert_eq!(lines[0], format!("# HELP {declared} {help}"));
            assert_eq!(
                lines[1],
                format!("# TYPE {declared} {}", metric.kind.name())
            );
            assert!(lines[2].starts_with(metric.name), "{text}");
            family.samples().add(&values, 8);
            assert_eq!(family.take_text(), lines[2].replace(" 7", " 8") + "\n");
        }
    }

    #[test]
    fn buckets_of_a_histogram_have_those_before_them() {
        let metric = METRICS
            .iter()
            .find(|metric| metric.name == "weir_service_connect_seconds")
            .unwrap();
        let it = HistogramView {
            bounds_us: &[250, 1000, 2_500_000, 10_000_000],
            buckets: vec![3, 0, 2, 0, 1],
            sum: Duration::from_millis(12_500),
        };
        // A name that looks like what it is not.
        let labels =
            r#"service=",le=\"1\"",protocol=",le=\"1\"",address=",le=\"1\"",port=",le=\"1\"""#;
        for (format, ten) in [(Format::Prometheus, "10"), (Format::OpenMetrics, "10.0")] {
            let samples = [
                ("0.00025", 3),
                ("0.001", 3),
                ("2.5", 5),
                (ten, 5),
                ("+Inf", 6),
            ];
            let buckets = samples.map(|(most, count)| {
                format!("weir_service_connect_seconds_bucket{{{labels},le=\"{most}\"}} {count}\n")
            });
            let expected = format!(
                "{}weir_service_connect_seconds_sum{{{labels}}} 12.5\nweir_service_connect_seconds_count{{{labels}}} 6\n",
                buckets.concat()
            );
            let mut family = Family::new(metric, format);
            for times in 0..2 {
                family.samples().add_histogram(&[r#",le="1""#; 4], &it);
                let text = family.take_text();
                let header = format!(
                    "# HELP {0} {1}\n# TYPE {0} histogram\n",
                    metric.name, metric.help
                );
                let header = if times == 0 { &*header } else { "" };
                assert_eq!(text, format!("{header}{expected}"));
            }
        }
    }

    /// Without the suffix no counter is called as another metric.
    #[test]
    fn families_of_open_metrics_have_names_of_their_own() {
        let mut seen = HashSet::new();
        for Metric { name, .. } in METRICS.iter().chain(IPVS) {
            let family = name.strip_suffix("_total").unwrap_or(name);
            assert!(seen.insert(family), "{family}");
        }
    }

    #[test]
    fn other_names_are_those_that_node_exporter_gives() {
        let names = IPVS.iter().map(|metric| metric.name);
        assert!(names.clone().all(|name| name.starts_with("node_ipvs_")));
        assert_eq!(names.collect::<HashSet<_>>().len(), IPVS.len());
    }

    /// What pieces share with those before them does not show.
    #[test]
    fn a_piece_shows_its_own_labels_and_no_more_samples_than_it_has() {
        let metric = METRICS
            .iter()
            .find(|metric| metric.labels == ["port", "direction"])
            .unwrap();
        let mut family = Family::new(metric, Format::Prometheus);
        let pieces: &[&[(&str, &str, u64)]] = &[
            &[("wan", "in", 1), ("wan", "out", 2), ("lan", "in", 3)],
            &[("lan", "out", 4)],
            &[("dmz", "in", 5), ("wan", "in", 6)],
            &[],
            &[("lan", "in", 7), ("lan", "out", 8), ("lan", "in", 9)],
        ];
        for piece in pieces {
            let mut wanted = String::new();
            for (port, direction, value) in *piece {
                family.samples().add(&[port, direction], *value);
                let labels = format!("port=\"{port}\",direction=\"{direction}\"");
                wanted += &format!("{}{{{labels}}} {value}\n", metric.name);
            }
            let text = family.take_text();
            let samples: String = text
                .split_inclusive('\n')
                .filter(|line| !line.starts_with('#'))
                .collect();
            assert_eq!(samples, wanted);
        }
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

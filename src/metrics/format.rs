//! The two text formats.

/// How `/metrics` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0: counters are declared without their `_total`, quotes in HELP are escaped, and the text has an end.
    OpenMetrics,
}

impl Format {
    pub const ALL: [Format; 2] = [Format::Prometheus, Format::OpenMetrics];

    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What a client prefers by its `Accept` headers (RFC 9110, section 12.5.1): OpenMetrics where it is named, in a version that
    /// is known, and nothing that Prometheus's format fits is preferred to it.
    pub fn accepted<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let ranges = values.into_iter().flat_map(|value| value.split(','));
        let (mut open, mut text) = (0, 0);
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1000, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = thousandths(value),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            let place = match (kind.as_str(), version) {
                ("application/openmetrics-text", None | Some("0.0.1" | "1.0.0")) => &mut open,
                ("text/plain", _) | ("text/*" | "*/*", _) => &mut text,
                _ => continue,
            };
            *place = quality.max(*place);
        }
        match open > 0 && open >= text {
            true => Format::OpenMetrics,
            false => Format::Prometheus,
        }
    }

    /// The comments above a metric, from those of Prometheus's format.
    pub(super) fn header(self, comments: &str) -> String {
        if self == Format::Prometheus {
            return comments.to_owned();
        }
        let mut header = String::with_capacity(comments.len());
        let is_counter = comments
            .lines()
            .any(|line| line.starts_with("# TYPE ") && line.ends_with(" counter"));
        for line in comments.lines() {
            let mut words = line.splitn(4, ' ');
            let mut next = || words.next().unwrap_or_default();
            let (hash, keyword, name, rest) = (next(), next(), next(), next());
            let name = match is_counter {
                true => name.strip_suffix("_total").unwrap_or(name),
                false => name,
            };
            let rest = match keyword {
                "HELP" => rest.replace('"', "\\\""),
                _ => rest.to_owned(),
            };
            header += &format!("{hash} {keyword} {name} {rest}\n");
        }
        header
    }

    /// The samples of a histogram, from those of Prometheus's format: OpenMetrics has bounds with a decimal point, `1.0`.
    pub(super) fn histogram(self, samples: String) -> String {
        if self == Format::Prometheus {
            return samples;
        }
        // No label's value has these bytes: a quote within one is escaped.
        const BOUND: &str = ",le=\"";
        let mut parts = samples.split(BOUND);
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let (bound, rest) = part.split_at(digits);
            let is_whole = !bound.is_empty() && rest.starts_with('"');
            text.extend([BOUND, bound, if is_whole { ".0" } else { "" }, rest]);
        }
        text
    }

    /// What follows the last metric.
    pub const fn end(self) -> &'static str {
        match self {
            Format::Prometheus => "",
            Format::OpenMetrics => "# EOF\n",
        }
    }
}

/// A weight of RFC 9110, section 12.4.2: 0 to 1 with up to three decimals; 0 where it is none.
fn thousandths(quality: &str) -> u32 {
    let value = quality.trim().parse().unwrap_or(0.0_f64);
    (value.clamp(0.0, 1.0) * 1000.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_prefer_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, open) in [
            (&[] as &[&str], false),
            (&["*/*"], false),
            (&["text/plain"], false),
            (&["application/openmetrics-text"], true),
            (
                &["Application/OpenMetrics-Text; Version=\"1.0.0\" ; Q=0.1"],
                true,
            ),
            (&["application/openmetrics-text; version=2.0.0"], false),
            (&["application/openmetrics-text; q=0"], false),
            (&["application/openmetrics-text; q=much"], false),
            (
                &["application/openmetrics-text; q=0.2, text/plain; q=0.3"],
                false,
            ),
            (
                &["text/plain; q=0.3", "application/openmetrics-text; q=0.3"],
                true,
            ),
            (&["text/html, application/xml;q=0.9, */*;q=0.8"], false),
            (&[";;=,,q", "", "q=1"], false),
            (&[prometheus], true),
            (&[prometheus_3], true),
        ] {
            let format = Format::accepted(accept.iter().copied());
            assert_eq!(format == Format::OpenMetrics, open, "{accept:?}");
        }
    }
}

//! How the values of health checks are written.

use super::error::{At, Log, Span, quote};
use super::raw::Health;
use super::value::{Given, Int, Value, Word, text, wrong_type};
use super::{CheckWay, Rcode, RecordType};
use std::time::Duration;
use toml::de::DeValue;

/// Tables or values that have names of the user's own.
#[derive(Debug)]
pub(super) struct ByName<T> {
    pub items: Vec<(At<String>, T)>,
    /// Every one could be read.
    pub complete: bool,
}

impl<T: Value> Value for ByName<T> {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let Some(table) = value.as_table() else {
            wrong_type(value, "a table with a name for each", at, log);
            return None;
        };
        let mut read = ByName {
            items: Vec::with_capacity(table.len()),
            complete: true,
        };
        for (name, value) in table {
            let name_at = log.span(at.file, name.span());
            match Given::read(value, at.file, log) {
                Given::Yes(value) => {
                    let name = At {
                        value: name.get_ref().to_string(),
                        at: name_at,
                    };
                    read.items.push((name, value.value));
                }
                _ => read.complete = false,
            }
        }
        Some(read)
    }
}

impl<T> Given<ByName<T>> {
    /// With those of another file; a name may be given in one of them.
    pub(super) fn with(self, other: Self, log: &mut Log) -> Self {
        match (self, other) {
            (Given::Yes(mut first), Given::Yes(second)) => {
                for (name, value) in second.value.items {
                    let mut known = first.value.items.iter();
                    if let Some((known, _)) = known.find(|(known, _)| known.value == name.value) {
                        log.error(name.at, format!("{} is given twice", quote(&name.value)))
                            .note(known.at, "given here first")
                            .help("give each a name of its own");
                        continue;
                    }
                    first.value.items.push((name, value));
                }
                first.value.complete &= second.value.complete;
                Given::Yes(first)
            }
            (Given::No, other) => other,
            (this, Given::No) => this,
            (Given::Yes(mut some), _) | (_, Given::Yes(mut some)) => {
                some.value.complete = false;
                Given::Yes(some)
            }
            _ => Given::Bad,
        }
    }
}

/// `health` of a service.
#[derive(Debug)]
pub(super) enum HealthChoice {
    Own(Box<Health>),
    /// Of a `[health.NAME]`.
    Named(String),
}

impl Value for HealthChoice {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        match value {
            DeValue::String(name) => Some(HealthChoice::Named(name.to_string())),
            DeValue::Table(_) => {
                Health::read(value, at, log).map(|health| HealthChoice::Own(Box::new(health)))
            }
            _ => {
                wrong_type(
                    value,
                    "a table, or the name of a [health.NAME] in quotes",
                    at,
                    log,
                );
                None
            }
        }
    }
}

/// `type` of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckKind {
    Tcp,
    Udp,
    Http,
    Https,
    Dns,
    Icmp,
    Exec,
    Grpc,
}

impl CheckKind {
    pub(super) fn name(self) -> &'static str {
        let mut words = Self::WORDS.iter();
        words
            .find(|(_, kind)| *kind == self)
            .map_or("", |(word, _)| word)
    }
}

impl Word for CheckKind {
    const WHAT: &'static str = "type of check";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("tcp", CheckKind::Tcp),
        ("udp", CheckKind::Udp),
        ("http", CheckKind::Http),
        ("https", CheckKind::Https),
        ("dns", CheckKind::Dns),
        ("icmp", CheckKind::Icmp),
        ("exec", CheckKind::Exec),
        ("grpc", CheckKind::Grpc),
    ];
}

impl Word for RecordType {
    const WHAT: &'static str = "type of DNS records";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("A", RecordType::A),
        ("AAAA", RecordType::Aaaa),
        ("NS", RecordType::Ns),
        ("SOA", RecordType::Soa),
        ("MX", RecordType::Mx),
        ("TXT", RecordType::Txt),
        ("CNAME", RecordType::Cname),
        ("PTR", RecordType::Ptr),
        ("SRV", RecordType::Srv),
    ];
}

/// `rcode`: one, or any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rcodes(pub Option<Rcode>);

impl Word for Rcodes {
    const WHAT: &'static str = "response code";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("noerror", Rcodes(Some(Rcode::NoError))),
        ("formerr", Rcodes(Some(Rcode::FormErr))),
        ("servfail", Rcodes(Some(Rcode::ServFail))),
        ("nxdomain", Rcodes(Some(Rcode::NxDomain))),
        ("notimp", Rcodes(Some(Rcode::NotImp))),
        ("refused", Rcodes(Some(Rcode::Refused))),
        ("any", Rcodes(None)),
    ];
}

impl Word for CheckWay {
    const WHAT: &'static str = "way of checks";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("host", CheckWay::Host),
        ("port", CheckWay::Port),
        ("service", CheckWay::Service),
    ];
}

/// The time between checks, and the time that one may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace(pub Duration);

impl Pace {
    const RANGE: std::ops::RangeInclusive<Duration> =
        Duration::from_millis(10)..=Duration::from_secs(3600);
}

impl Value for Pace {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        const HELP: &str =
            "write whole seconds such as 2, or text such as \"500ms\", from 10 ms to 1 hour";
        let span = match value {
            DeValue::Integer(number) => {
                let seconds = u64::from_str_radix(number.as_str(), number.radix());
                seconds.ok().map(Duration::from_secs)
            }
            DeValue::String(text) => humantime::parse_duration(text).ok(),
            _ => {
                wrong_type(value, "a time span", at, log);
                return None;
            }
        };
        let span = span.filter(|span| Self::RANGE.contains(span) && span.as_micros() % 1000 == 0);
        if span.is_none() {
            let written = match value {
                DeValue::String(text) => quote(text).to_string(),
                DeValue::Integer(number) => format!("`{number}`"),
                _ => String::new(),
            };
            log.error(at, format!("{written} is no time span for `{}`", log.key))
                .help(HELP);
        }
        span.map(Pace)
    }
}

/// After which silence a UDP flow leaves a drained real server; none: it stays.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnDrain(pub Option<Duration>);

impl Value for OnDrain {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        match value {
            DeValue::String(text) if text == "keep" => Some(OnDrain(None)),
            DeValue::Integer(_) => Pace::read(value, at, log).map(|after| OnDrain(Some(after.0))),
            DeValue::String(text) if text.starts_with(|first: char| first.is_ascii_digit()) => {
                Pace::read(value, at, log).map(|after| OnDrain(Some(after.0)))
            }
            DeValue::String(text) => {
                log.error(
                    at,
                    format!("{} is neither `keep` nor a time span", quote(text)),
                )
                .help("write \"keep\", or after which silence a flow moves: \"5s\"");
                None
            }
            _ => {
                wrong_type(value, "\"keep\" or a time span", at, log);
                None
            }
        }
    }
}

/// Over which time a real server that comes (back) gets its weight; 0: at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlowStart(pub Duration);

impl Value for SlowStart {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let is_none = match value {
            DeValue::Integer(number) => number.as_str() == "0",
            DeValue::String(text) => matches!(&**text, "0" | "0s"),
            _ => false,
        };
        match is_none {
            true => Some(SlowStart(Duration::ZERO)),
            false => Duration::read(value, at, log).map(SlowStart),
        }
    }
}

/// Bytes as hex digits.
#[derive(Clone, Debug)]
pub(super) struct Hex(pub Vec<u8>);

impl Value for Hex {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let written = text(value, "hex digits in quotes", at, log)?;
        let digits: Vec<u8> = written.bytes().filter(|byte| *byte != b' ').collect();
        let byte = |pair: &[u8]| {
            let [high, low] = *pair else { return None };
            let digit = |byte: u8| char::from(byte).to_digit(16);
            Some((digit(high)? * 16 + digit(low)?) as u8)
        };
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        if bytes.is_none() {
            log.error(at, format!("{} are no bytes in hex", quote(written)))
                .help("write two hex digits for each byte: \"0a 0b ff\"");
        }
        bytes.map(Hex)
    }
}

/// Status codes of HTTP: `200`, or ranges of them in quotes.
#[derive(Clone, Debug)]
pub(super) struct StatusCodes(pub Vec<(u16, u16)>);

impl Value for StatusCodes {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        if matches!(value, DeValue::Integer(_)) {
            let code = Int::<100, 599>::read(value, at, log)?.0 as u16;
            return Some(StatusCodes(vec![(code, code)]));
        }
        let written = text(value, "status codes in quotes", at, log)?;
        let code = |text: &str| {
            let code: u16 = text.trim().parse().ok()?;
            (100..=599).contains(&code).then_some(code)
        };
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (code(first)?, code(last)?);
            (first <= last).then_some((first, last))
        };
        let ranges: Option<Vec<_>> = written.split(',').map(range).collect();
        if ranges.is_none() {
            log.error(at, format!("{} are no status codes", quote(written)))
                .help("write codes from 100 to 599 and ranges of them: \"200-399\", \"200,204,301-308\"");
        }
        ranges.map(StatusCodes)
    }
}

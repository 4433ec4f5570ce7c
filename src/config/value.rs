//! How each kind of value is written in the file.
//!
//! Reading a value either gives it, with its syntax and range checked, or logs what is wrong and goes on with the next.

use super::address::PortRange;
use super::error::{At, Log, Span, did_you_mean, quote};
use super::hints;
use super::{
    ClientAddress, Hugepages, Idle, Listen, LogEvent, LogFormat, OnDown, OnIdle, Protocol, Queues,
    ReversePath, RssKey, TcpMss, Transport, UnknownTcp, WhenUnavailable,
};
use crate::net::Vlan;
use crate::units::Millis;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::DeValue;

/// A kind of value.
pub(super) trait Value: Sized {
    /// What a list of them is.
    const LIST: &'static str = "a list in brackets";

    /// None, with at least one error logged, if it is not one.
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self>;
}

/// What became of a key.
#[derive(Debug, Default)]
pub(super) enum Given<T> {
    /// Not in the file: its default holds.
    #[default]
    No,
    /// In the file, but wrong, which is already reported: nothing may be concluded from it.
    Bad,
    Yes(At<T>),
}

impl<T: Value> Given<T> {
    pub(super) fn read(value: &Spanned<DeValue<'_>>, file: u32, log: &mut Log) -> Self {
        let at = log.span(file, value.span());
        match T::read(value.get_ref(), at, log) {
            Some(value) => Given::Yes(At { value, at }),
            None => Given::Bad,
        }
    }
}

impl<T> Given<T> {
    pub(super) fn ok(&self) -> Option<&At<T>> {
        match self {
            Given::Yes(given) => Some(given),
            _ => None,
        }
    }

    /// Not in the file, or read without an error.
    pub(super) fn certain(&self) -> bool {
        !matches!(self, Given::Bad)
    }

    pub(super) fn into_option(self) -> Option<T> {
        match self {
            Given::Yes(given) => Some(given.value),
            _ => None,
        }
    }
}

impl<T> Given<List<T>> {
    /// Not in the file, or all of it read without an error.
    pub(super) fn complete(&self) -> bool {
        self.certain() && self.ok().is_none_or(|list| list.value.complete)
    }

    /// What could be read of it.
    pub(super) fn items(self) -> Vec<At<T>> {
        self.into_option().map_or(Vec::new(), |list| list.items)
    }
}

impl<T: Copy> Given<T> {
    pub(super) fn get(&self) -> Option<T> {
        self.ok().map(|given| given.value)
    }
}

/// Logs that something else than `wanted` is there.
pub(super) fn wrong_type(value: &DeValue<'_>, wanted: &str, at: Span, log: &mut Log) {
    let found = match value {
        DeValue::String(text) => format!("the string {}", quote(text)),
        DeValue::Integer(number) => format!("the number `{number}`"),
        DeValue::Float(number) => format!("the fraction `{number}`"),
        DeValue::Boolean(truth) => format!("`{truth}`"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    };
    let help = hints::of_value(log.key, value).unwrap_or_else(|| format!("write {wanted}"));
    log.error(
        at,
        format!("expected {wanted} for `{}`, found {found}", log.key),
    )
    .help(help);
}

/// As [`wrong_type`], with a remedy if there is a better one.
fn wrong_type_help(
    value: &DeValue<'_>,
    wanted: &str,
    help: Option<String>,
    at: Span,
    log: &mut Log,
) {
    wrong_type(value, wanted, at, log);
    if let (Some(help), Some(last)) = (help, log.last()) {
        last.help(help);
    }
}

pub(super) fn text<'a>(
    value: &'a DeValue<'_>,
    wanted: &str,
    at: Span,
    log: &mut Log,
) -> Option<&'a str> {
    let text = value.as_str();
    if text.is_none() {
        wrong_type(value, wanted, at, log);
    }
    text
}

impl Value for bool {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let truth = value.as_bool();
        if truth.is_none() {
            wrong_type(value, "true or false", at, log);
        }
        truth
    }
}

impl Value for String {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        text(value, "a string", at, log).map(str::to_owned)
    }
}

/// A list: what is wrong in it is reported, the rest is kept.
#[derive(Debug)]
pub(super) struct List<T> {
    pub items: Vec<At<T>>,
    /// Every item could be read.
    pub complete: bool,
}

impl<T: Value> Value for List<T> {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let Some(list) = value.as_array() else {
            let help = hints::of_list(log.key, value);
            wrong_type_help(value, T::LIST, help, at, log);
            return None;
        };
        let mut read = List {
            items: Vec::with_capacity(list.len()),
            complete: true,
        };
        for item in list.iter() {
            match Given::read(item, at.file, log) {
                Given::Yes(item) => read.items.push(item),
                _ => read.complete = false,
            }
        }
        Some(read)
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Int<const MIN: u32, const MAX: u32>(pub u32);

impl<const MIN: u32, const MAX: u32> Value for Int<MIN, MAX> {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let DeValue::Integer(number) = value else {
            let help = hints::of_number(value);
            wrong_type_help(value, "a whole number", help, at, log);
            return None;
        };
        // A number too long for an i128 is out of every range, too.
        let parsed = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let fits = parsed
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (MIN..=MAX).contains(number));
        if fits.is_none() {
            log.error(at, format!("`{number}` is out of range for `{}`", log.key))
                .help(format!("write a number from {MIN} to {MAX}"));
        }
        fits.map(Int)
    }
}

/// The number of a text that is nothing but its decimal digits: no sign, no zeros ahead, which others read as octal.
pub(super) fn plain_number(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_plain = is_number && (text == "0" || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok()).flatten()
}

/// The name of a port, a pool or a service: something that a command line can take.
#[derive(Clone, Debug)]
pub(super) struct Name(pub String);

impl Value for Name {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let name = text(value, "a name in quotes", at, log)?;
        let wrong = if name.is_empty() {
            "is empty"
        } else if name.starts_with('-') {
            "begins with `-`, as an option would"
        } else if name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            "contains a space or a control character"
        } else {
            return Some(Name(name.to_owned()));
        };
        log.error(at, format!("the name {} {wrong}", quote(name)))
            .help("use letters, digits, `-`, `_` and `.`");
        None
    }
}

/// The name of a network interface of the kernel.
#[derive(Clone, Debug)]
pub(super) struct Interface(pub String);

impl Value for Interface {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let name = text(value, "the name of an interface in quotes", at, log)?;
        // As the kernel's `dev_valid_name`; `%` would be a pattern.
        let is_wrong = |c: char| c.is_whitespace() || c.is_control() || "/:%".contains(c);
        if name.is_empty()
            || name.len() > 15
            || [".", ".."].contains(&name)
            || name.contains(is_wrong)
        {
            log.error(at, format!("{} is no name of an interface", quote(name)))
                .help("use 1 to 15 letters, digits, `-`, `_` and `.`");
            return None;
        }
        Some(Interface(name.to_owned()))
    }
}

/// A PCI address or a vdev string.
#[derive(Clone, Debug)]
pub(super) struct Device(pub String);

impl Value for Device {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        const HELP: &str = "write a PCI address such as \"0000:03:00.0\", or a vdev such as \"net_tap0,iface=weir0\"";
        let device = text(value, "a device in quotes", at, log)?;
        if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c.is_control()) {
            log.error(at, format!("{} is no device", quote(device)))
                .help(HELP);
            return None;
        }
        Some(Device(device.to_owned()))
    }
}

/// A timeout: whole seconds, or text such as `"15m"`.
impl Value for Duration {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        const HELP: &str = "write whole seconds such as 900, or text such as \"15m\" or \"1h 30m\", from 1 s to 20 days";
        let (written, span) = match value {
            DeValue::Integer(number) => {
                let seconds =
                    i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX);
                // What is negative or too long becomes 0, and is out of range as that.
                (
                    number.to_string(),
                    Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
                )
            }
            DeValue::String(text) => match humantime::parse_duration(text) {
                Ok(span) => (text.to_string(), span),
                Err(_) => {
                    log.error(
                        at,
                        format!("{} is no time span for `{}`", quote(text), log.key),
                    )
                    .help(HELP);
                    return None;
                }
            },
            _ => {
                wrong_type(value, "a time span", at, log);
                return None;
            }
        };
        let wrong = if !(Duration::from_secs(1)..=Millis::MAX_SPAN).contains(&span) {
            "is out of range"
        } else if span.subsec_nanos() != 0 {
            "is not a whole number of seconds"
        } else {
            return Some(span);
        };
        log.error(
            at,
            format!("the time span {} of `{}` {wrong}", quote(&written), log.key),
        )
        .help(HELP);
        None
    }
}

impl Value for Queues {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        match value {
            DeValue::String(text) if text == "auto" => Some(Queues::Auto),
            DeValue::Integer(_) => {
                Int::<1, 64>::read(value, at, log).map(|pairs| Queues::Pairs(pairs.0 as u16))
            }
            _ => {
                wrong_type(value, "\"auto\" or a number of queue pairs", at, log);
                None
            }
        }
    }
}

impl Value for TcpMss {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        /// The kernel's `TCP_MIN_MSS`.
        const LEAST: u32 = 88;
        match value {
            DeValue::String(text) if text == "auto" => Some(TcpMss::Auto),
            DeValue::Integer(_) => {
                Int::<LEAST, 65_495>::read(value, at, log).map(|most| TcpMss::Bytes(most.0 as u16))
            }
            _ => {
                wrong_type(value, "\"auto\" or a number of bytes", at, log);
                None
            }
        }
    }
}

impl Value for Vlan {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        const WANTED: &str = "a VLAN's number, or two in quotes";
        const MAX: u32 = Vlan::MAX_ID as u32;
        let id = |text: &str| plain_number(text).filter(|id| (1..=Vlan::MAX_ID).contains(id));
        match value {
            DeValue::Integer(_) => Int::<0, MAX>::read(value, at, log).map(|id| match id.0 {
                0 => Vlan::Untagged,
                id => Vlan::Tagged(id as u16),
            }),
            DeValue::String(text) => {
                let ids = text.split_once('.');
                let ids = ids.and_then(|(outer, inner)| Some((id(outer)?, id(inner)?)));
                if ids.is_none() {
                    let help = match id(text) {
                        Some(only) => format!("write {only}, without quotes"),
                        None => format!(
                            "write a number from 0 (untagged) to {MAX}, or for two tags the outer and the inner one, each from 1: \"100.200\""
                        ),
                    };
                    log.error(at, format!("{} is no VLAN", quote(text)))
                        .help(help);
                }
                ids.map(|(outer, inner)| Vlan::Stacked { outer, inner })
            }
            DeValue::Float(number) => {
                let help = format!("for two tags write them in quotes: \"{number}\"");
                wrong_type_help(value, WANTED, Some(help), at, log);
                None
            }
            _ => {
                wrong_type(value, WANTED, at, log);
                None
            }
        }
    }
}

impl Value for Listen {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        const HELP: &str =
            "write \"127.0.0.1:9900\", \"unix:/run/weir/weir.sock\", or \"\" to turn it off";
        let written = text(value, "an address and port in quotes", at, log)?;
        if written.is_empty() {
            return Some(Listen::Off);
        }
        let listen = match written.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Some(Listen::Unix(PathBuf::from(path))),
            Some(_) => None,
            None => written.parse::<SocketAddr>().ok().map(Listen::Tcp),
        };
        if listen.is_none() {
            log.error(
                at,
                format!("{} is no address and port to listen on", quote(written)),
            )
            .help(HELP);
        }
        listen
    }
}

/// `unix:/path`, or nothing.
#[derive(Clone, Debug)]
pub(super) struct ControlSocket(pub Option<PathBuf>);

impl Value for ControlSocket {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let written = text(value, "a unix socket in quotes", at, log)?;
        match written.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Some(ControlSocket(Some(path.into()))),
            None if written.is_empty() => Some(ControlSocket(None)),
            _ => {
                log.error(at, format!("{} is no unix socket", quote(written)))
                    .help("write \"unix:/run/weir/weir.sock\", or \"\" for none");
                None
            }
        }
    }
}

/// The address and port of a collector.
#[derive(Clone, Copy, Debug)]
pub(super) struct Collector(pub SocketAddr);

impl Value for Collector {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let written = text(value, "an address and port in quotes", at, log)?;
        let found = written.parse::<SocketAddr>().ok();
        let found = found.filter(|to| to.port() != 0 && !to.ip().is_unspecified());
        if found.is_none() {
            let problem = format!("{} is no address and port of a collector", quote(written));
            log.error(at, problem)
                .help("write \"10.0.0.9:4739\", or \"[2001:db8::9]:4739\"");
        }
        found.map(Collector)
    }
}

/// A file, wherever the daemon runs.
#[derive(Clone, Debug)]
pub(super) struct AbsolutePath(pub PathBuf);

impl Value for AbsolutePath {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let written = text(value, "a path in quotes", at, log)?;
        if !written.starts_with('/') || written.contains('\0') {
            log.error(at, format!("{} is no absolute path", quote(written)))
                .help("write the whole path, such as \"/etc/weir/token\"");
            return None;
        }
        Some(AbsolutePath(written.into()))
    }
}

/// A value that is one of a few words.
pub(crate) trait Word: Copy + 'static {
    /// What the words are, for messages.
    const WHAT: &'static str;
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: Word> Value for T {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let written = text(value, &format!("a {} in quotes", T::WHAT), at, log)?;
        let found = T::WORDS.iter().find(|(word, _)| *word == written);
        if found.is_none() {
            let words = || T::WORDS.iter().map(|(word, _)| *word);
            let listed = words().collect::<Vec<_>>().join(", ");
            let guess = match hints::of_word(T::WHAT, written) {
                Some(word) => format!("; weir calls it `{word}`"),
                None => did_you_mean(written, words()),
            };
            log.error(at, format!("unknown {} {}{guess}", T::WHAT, quote(written)))
                .help(format!("write one of: {listed}"));
        }
        found.map(|&(_, word)| word)
    }
}

/// `mode`, as far as one word can say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModeWord {
    Dr,
    Nat,
    Fullnat,
    Tunnel,
    L3dsr,
}

impl ModeWord {
    pub(super) fn name(self) -> &'static str {
        let mut words = Self::WORDS.iter();
        words
            .find(|(_, mode)| *mode == self)
            .map_or("", |(word, _)| word)
    }
}

/// `protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocols {
    Tcp,
    Udp,
    Sctp,
    TcpAndUdp,
}

impl Protocols {
    /// The protocols of the services that are written so.
    pub(super) fn all(self) -> &'static [Protocol] {
        match self {
            Protocols::Tcp => &[Protocol::Tcp],
            Protocols::Udp => &[Protocol::Udp],
            Protocols::Sctp => &[Protocol::Sctp],
            Protocols::TcpAndUdp => &[Protocol::Tcp, Protocol::Udp],
        }
    }

    pub(super) fn have(self, protocol: Protocol) -> bool {
        self.all().contains(&protocol)
    }

    /// As messages have it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Protocols::Tcp => "TCP",
            Protocols::Udp => "UDP",
            Protocols::Sctp => "SCTP",
            Protocols::TcpAndUdp => "TCP and UDP",
        }
    }
}

/// `port` of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ServicePort {
    pub first: u16,
    /// 0: there is one port, or every port.
    pub last: u16,
}

impl ServicePort {
    /// That of real servers without one of their own.
    pub(super) fn of_reals(self) -> u16 {
        match self.last {
            0 => self.first,
            _ => 0,
        }
    }

    pub(super) fn overlaps(self, other: ServicePort) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl std::fmt::Display for ServicePort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.last {
            0 => self.first.fmt(f),
            last => write!(f, "{}-{last}", self.first),
        }
    }
}

impl Value for ServicePort {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        match value.as_str() {
            Some(text) if text.contains('-') => {
                let PortRange(first, last) = PortRange::read(value, at, log)?;
                if first == last {
                    log.error(at, format!("{} is one port", quote(text)))
                        .help(format!("write {first}, without quotes"));
                    return None;
                }
                Some(ServicePort { first, last })
            }
            _ => Int::<0, 65_535>::read(value, at, log).map(|port| ServicePort {
                first: port.0 as u16,
                last: 0,
            }),
        }
    }
}

/// `tunnel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encapsulation {
    Ipip,
    Gre,
    Gue,
}

macro_rules! words {
    ($($type:ident: $what:literal { $($word:literal => $variant:ident,)* })*) => {
        $(impl Word for $type {
            const WHAT: &'static str = $what;
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $type::$variant),)*];
        })*
    };
}

words! {
    Hugepages: "hugepage policy" { "auto" => Auto, "require" => Require, "never" => Never, }
    Idle: "idle policy" { "poll" => Poll, "adaptive" => Adaptive, }
    Protocols: "protocol" { "tcp" => Tcp, "udp" => Udp, "sctp" => Sctp, "tcp+udp" => TcpAndUdp, }
    RssKey: "choice of key" { "random" => Random, "published" => Published, }
    ReversePath: "policy" { "strict" => Strict, "loose" => Loose, }
    ClientAddress: "way to tell the client's address" { "none" => None, "toa" => Toa, "proxy-v2" => ProxyV2, }
    UnknownTcp: "policy" { "reset" => Reset, "drop" => Drop, }
    OnDown: "policy" { "keep" => Keep, "reset" => Reset, "reschedule" => Reschedule, }
    OnIdle: "policy" { "silent" => Silent, "reset" => Reset, }
    WhenUnavailable: "policy" { "refuse" => Refuse, "drop" => Drop, }
    LogFormat: "format" { "json" => Json, "ipfix" => Ipfix, }
    LogEvent: "event" { "start" => Start, "end" => End, }
    Transport: "transport" { "udp" => Udp, "tcp" => Tcp, }
    ModeWord: "forwarding mode" { "dr" => Dr, "nat" => Nat, "fullnat" => Fullnat, "tunnel" => Tunnel, "l3dsr" => L3dsr, }
    Encapsulation: "encapsulation" { "ipip" => Ipip, "gre" => Gre, "gue" => Gue, }
}

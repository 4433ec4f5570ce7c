//! Health checks: `[health.NAME]`, and `health` of a service.

use crate::config::check_value::{ByName, CheckKind, HealthChoice, Hex};
use crate::config::error::{At, Log, Span, did_you_mean, quote};
use crate::config::raw;
use crate::config::value::Given;
use crate::config::{
    Body, Config, DnsProbe, Exchange, ExecProbe, GrpcProbe, HealthConfig, HealthTemplates,
    HealthUse, HttpProbe, Probe, Rcode, RealConfig, RecordType, TlsProbe,
};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The longest text that is sent or looked for.
const LONGEST: usize = 4096;

/// The `[health.NAME]` of a file, as far as they could be read.
pub(super) struct Templates {
    pub list: Arc<HealthTemplates>,
    complete: bool,
    /// Whichever is named may be there.
    any: bool,
}

impl Templates {
    /// Those of which nothing is known.
    pub(super) fn unknown() -> Templates {
        Templates {
            list: Arc::default(),
            complete: false,
            any: true,
        }
    }

    /// Those of a running configuration.
    pub(super) fn of(config: &Config) -> Templates {
        Templates {
            list: config.health.clone(),
            complete: true,
            any: false,
        }
    }

    /// Whether there is nothing to say of a service's check beyond what was said of it by itself.
    pub(super) fn fit(&self, health: Option<&HealthUse>, reals: &[RealConfig]) -> bool {
        let Some(HealthUse::Named(name)) = health else {
            return true;
        };
        let template = self.list.get(name);
        self.any || template.is_some_and(|health| !lacks_port(health, reals))
    }
}

pub(super) fn templates(raw: Given<ByName<raw::Health>>, log: &mut Log) -> Templates {
    let complete = raw.certain() && raw.ok().is_none_or(|raw| raw.value.complete);
    let raw = raw.into_option().map_or(Vec::new(), |raw| raw.items);
    let mut templates = Templates {
        complete,
        list: Arc::default(),
        any: false,
    };
    let mut list = HealthTemplates::new();
    for (name, health) in raw {
        match check(&health, name.at, log) {
            Some(health) => {
                list.insert(name.value, Arc::new(health));
            }
            None => templates.complete = false,
        }
    }
    templates.list = Arc::new(list);
    templates
}

/// What `health` of a service means; Err: what is wrong is said.
pub(super) fn of_service(
    raw: &Given<HealthChoice>,
    reals: &[RealConfig],
    templates: &Templates,
    log: &mut Log,
) -> Result<Option<HealthUse>, ()> {
    let choice = match raw {
        Given::No => return Ok(None),
        Given::Bad => return Err(()),
        Given::Yes(choice) => choice,
    };
    let found = match &choice.value {
        HealthChoice::Own(raw) => HealthUse::Own(Arc::new(check(raw, choice.at, log).ok_or(())?)),
        HealthChoice::Named(name) => {
            let is_known = templates.list.contains_key(name);
            if !is_known && !templates.any {
                if templates.complete {
                    unknown_template(name, choice.at, templates, log);
                }
                return Err(());
            }
            HealthUse::Named(name.clone())
        }
    };
    if let Some(health) = found.resolve(&templates.list)
        && lacks_port(health, reals)
    {
        log.error(
            choice.at,
            "a service of every port has no port that the check could go to",
        )
        .help("add `port = …` to the check");
        return Err(());
    }
    Ok(Some(found))
}

fn unknown_template(name: &str, at: Span, templates: &Templates, log: &mut Log) {
    let names = || templates.list.keys().map(String::as_str);
    let help = match templates.list.is_empty() {
        true => {
            "add a [health.NAME] of this name, or write the check as [service.health]".to_owned()
        }
        false => format!("the checks are: {}", names().collect::<Vec<_>>().join(", ")),
    };
    let guess = did_you_mean(name, names());
    log.error(at, format!("unknown health check {}{guess}", quote(name)))
        .help(help);
}

/// Whether a check would have to go to the port of a real server that has none.
fn lacks_port(health: &HealthConfig, reals: &[RealConfig]) -> bool {
    health.port.is_none() && health.probe.has_port() && reals.iter().any(|real| real.port == 0)
}

/// What a check is; None: what is wrong is said.
fn check(raw: &raw::Health, at: Span, log: &mut Log) -> Option<HealthConfig> {
    let errors = log.errors();
    let kind = raw.kind.get();
    let empty = raw::Request::default();
    let request = raw.request.ok().map_or(&empty, |request| &request.value);
    if let Some(kind) = kind {
        keys_of_other_types(kind, request, log);
    }
    let interval = raw.interval.get().map_or(Duration::from_secs(2), |it| it.0);
    let fast_interval = raw.fast_interval.get().map_or(interval, |it| it.0);
    if let Some(fast) = raw.fast_interval.ok()
        && fast_interval > interval
    {
        log.error(fast.at, "`fast_interval` is longer than `interval`")
            .help("write a shorter time: it holds while a real server's state changes");
    }
    let shortest = fast_interval.min(interval);
    let timeout = raw.timeout.get().map_or(Duration::from_secs(1), |it| it.0);
    // The default gives way.
    let timeout = match raw.timeout.ok() {
        None => timeout.min(shortest),
        Some(written) if timeout > shortest => {
            let which = match shortest < interval {
                true => "fast_interval",
                false => "interval",
            };
            log.error(
                written.at,
                format!("the check's `timeout` is longer than its `{which}`"),
            )
            .help(format!(
                "write at most the {}: a check ends before the next one starts",
                humantime::format_duration(shortest)
            ));
            timeout
        }
        Some(_) => timeout,
    };
    let probe = probe(kind, request, raw.request.ok().map_or(at, |it| it.at), log);
    let port = raw.port.get().map(|port| port.0 as u16);
    if let (Some(written), Some(probe)) = (raw.port.ok(), &probe)
        && matches!(probe, Probe::Icmp)
    {
        log.error(written.at, "an icmp check goes to no port")
            .help("leave `port` out");
    }
    let is_read = raw.interval.certain()
        && raw.fast_interval.certain()
        && raw.timeout.certain()
        && raw.rise.certain()
        && raw.fall.certain()
        && raw.port.certain()
        && raw.via.certain()
        && raw.request.certain();
    if log.errors() > errors || !is_read {
        return None;
    }
    Some(HealthConfig {
        probe: probe?,
        port,
        interval,
        fast_interval,
        timeout,
        rise: raw.rise.get().map_or(2, |it| it.0),
        fall: raw.fall.get().map_or(3, |it| it.0),
    })
}

/// The keys of `request` that a type of check has.
fn request_keys(kind: CheckKind) -> &'static [&'static str] {
    match kind {
        CheckKind::Tcp | CheckKind::Udp => &["send", "send_hex", "expect", "expect_hex"],
        CheckKind::Http => &[
            "method",
            "path",
            "host",
            "headers",
            "status",
            "body",
            "body_regex",
        ],
        CheckKind::Https => &[
            "method",
            "path",
            "host",
            "headers",
            "status",
            "body",
            "body_regex",
            "sni",
            "verify",
        ],
        CheckKind::Dns => &["name", "type", "rcode", "answer"],
        CheckKind::Icmp => &[],
        CheckKind::Exec => &["command", "user"],
        CheckKind::Grpc => &["service", "host", "tls", "sni", "verify"],
    }
}

fn keys_of_other_types(kind: CheckKind, request: &raw::Request, log: &mut Log) {
    let own = request_keys(kind);
    for (key, at) in request.given() {
        if own.contains(&key) {
            continue;
        }
        let help = match own {
            [] => "leave it out: there is nothing to ask".to_owned(),
            own => format!(
                "the keys of `request` for the type {} are: {}",
                kind.name(),
                own.join(", ")
            ),
        };
        log.error(
            at,
            format!("`{key}` is not for checks of the type {}", kind.name()),
        )
        .help(help);
    }
}

fn probe(
    kind: Option<CheckKind>,
    request: &raw::Request,
    at: Span,
    log: &mut Log,
) -> Option<Probe> {
    Some(match kind? {
        CheckKind::Tcp => Probe::Tcp(exchange(request, log)?),
        CheckKind::Udp => Probe::Udp(exchange(request, log)?),
        CheckKind::Http => Probe::Http(http(request, None, log)?),
        CheckKind::Https => Probe::Http(http(request, Some(tls(request, log)?), log)?),
        CheckKind::Dns => Probe::Dns(dns(request, at, log)?),
        CheckKind::Icmp => Probe::Icmp,
        CheckKind::Exec => Probe::Exec(exec(request, at, log)?),
        CheckKind::Grpc => Probe::Grpc(grpc(request, log)?),
    })
}

fn exchange(raw: &raw::Request, log: &mut Log) -> Option<Exchange> {
    let mut bytes = |text: &Given<String>, hex: &Given<Hex>| {
        if let (Some(_), Some(second)) = (text.ok(), hex.ok()) {
            log.error(second.at, "the same is written twice, as text and in hex")
                .help("leave one of the two");
            return None;
        }
        let (bytes, at) = match (text, hex) {
            (Given::Yes(text), _) => (text.value.as_bytes().to_vec(), text.at),
            (_, Given::Yes(hex)) => (hex.value.0.clone(), hex.at),
            _ => return Some(Vec::new()),
        };
        if bytes.len() > LONGEST {
            log.error(at, format!("{} bytes are too many", bytes.len()))
                .help(format!("write at most {LONGEST}"));
            return None;
        }
        Some(bytes)
    };
    let send = bytes(&raw.send, &raw.send_hex);
    let expect = bytes(&raw.expect, &raw.expect_hex);
    Some(Exchange {
        send: send?,
        expect: expect?,
    })
}

/// A text that may stand in a request's head; None: what is wrong is said.
fn in_head(
    raw: &Given<String>,
    what: &str,
    is_right: impl Fn(&str) -> bool,
    help: &str,
    log: &mut Log,
) -> Option<Option<String>> {
    let written = match raw {
        Given::No => return Some(None),
        Given::Bad => return None,
        Given::Yes(written) => written,
    };
    let text = written.value.as_str();
    let is_short = text.len() <= LONGEST;
    if is_short && is_right(text) {
        return Some(Some(text.to_owned()));
    }
    log.error(written.at, format!("{} is no {what}", quote(text)))
        .help(help.to_owned());
    None
}

fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_host(text: &str) -> bool {
    is_visible(text) && !text.contains(['/', '?', '#', '@', '"', '\\'])
}

/// A name as DNS and certificates have it.
fn is_dns_name(text: &str) -> bool {
    let plain = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    plain.len() <= 253 && plain.split('.').all(label)
}

const HOST_HELP: &str = "write a name, with a port if need be: \"www.example.org\"";

fn http(raw: &raw::Request, tls: Option<TlsProbe>, log: &mut Log) -> Option<HttpProbe> {
    let is_method = |text: &str| {
        (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase())
    };
    let is_path = |text: &str| text.starts_with('/') && is_visible(text) && !text.contains('#');
    let method = in_head(
        &raw.method,
        "method of HTTP",
        |text| is_method(text) && text != "CONNECT",
        "write GET, HEAD, OPTIONS or the like",
        log,
    );
    let path = in_head(
        &raw.path,
        "path",
        is_path,
        "write a path that begins with `/`; what is no visible ASCII character as %20 and the like",
        log,
    );
    let host = in_head(&raw.host, "host", is_host, HOST_HELP, log);
    let headers = headers(&raw.headers, log);
    let body = body(raw, log);
    Some(HttpProbe {
        method: method?.unwrap_or_else(|| "GET".to_owned()),
        path: path?.unwrap_or_else(|| "/".to_owned()),
        host: host?,
        headers: headers?,
        status: match &raw.status {
            Given::Yes(status) => status.value.0.clone(),
            _ => vec![(200, 399)],
        },
        body: body?,
        tls,
    })
}

fn headers(raw: &Given<ByName<String>>, log: &mut Log) -> Option<Vec<(String, String)>> {
    /// What the check itself has to say.
    const OWN: [&str; 5] = [
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "upgrade",
    ];
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_value = |byte: u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t');
    let list = raw.ok().map_or(&[][..], |list| &list.value.items);
    let mut headers = Vec::with_capacity(list.len());
    for (At { value: name, at }, value) in list {
        let lower = name.to_ascii_lowercase();
        let (wrong, help) = if OWN.contains(&&*lower) {
            let help = match &*lower {
                "host" => "write it as `host`",
                _ => "leave it out: the check says it itself",
            };
            (format!("the header {} cannot be set", quote(name)), help)
        } else if name.is_empty() || name.len() > LONGEST || !name.bytes().all(is_token) {
            (
                format!("{} is no name of a header", quote(name)),
                "write letters, digits and `-`",
            )
        } else if value.len() > LONGEST || !value.bytes().all(is_value) {
            (
                format!(
                    "the header {} has characters that may not be in one",
                    quote(name)
                ),
                "write ASCII characters",
            )
        } else {
            headers.push((lower, value.clone()));
            continue;
        };
        log.error(*at, wrong).help(help);
    }
    (headers.len() == list.len()).then_some(headers)
}

fn body(raw: &raw::Request, log: &mut Log) -> Option<Option<Body>> {
    if let (Some(_), Some(second)) = (raw.body.ok(), raw.body_regex.ok()) {
        log.error(second.at, "both `body` and `body_regex` are written")
            .help("leave one of the two");
        return None;
    }
    if let Some(body) = raw.body.ok() {
        return Some(Some(Body::Text(body.value.clone())));
    }
    let Some(pattern) = raw.body_regex.ok() else {
        return Some(None);
    };
    let compiled = regex::bytes::RegexBuilder::new(&pattern.value)
        .size_limit(1 << 20)
        .build();
    if let Err(why) = compiled {
        let why = why.to_string();
        let last = why.lines().last().unwrap_or_default();
        let last = last.trim_start_matches("error: ");
        log.error(
            pattern.at,
            format!("{} is no regular expression: {last}", quote(&pattern.value)),
        )
        .help("write one as of the Rust crate regex, in single quotes: '\"status\": *\"up\"'");
        return None;
    }
    Some(Some(Body::Regex(pattern.value.clone())))
}

fn tls(raw: &raw::Request, log: &mut Log) -> Option<TlsProbe> {
    let is_name = |text: &str| is_dns_name(text) && text.parse::<IpAddr>().is_err();
    let sni = in_head(
        &raw.sni,
        "name of a server",
        is_name,
        "write the name that the certificate is for: \"www.example.org\"",
        log,
    )?;
    // As browsers do: the name that is asked for.
    let host = raw.host.ok().map(|host| host.value.as_str());
    let host = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
    let host = host.filter(|host| is_name(host)).map(str::to_owned);
    Some(TlsProbe {
        sni: sni.or(host),
        verify: raw.verify.get().unwrap_or(true),
    })
}

fn dns(raw: &raw::Request, at: Span, log: &mut Log) -> Option<DnsProbe> {
    if matches!(raw.name, Given::No) {
        log.error(at, "a dns check needs the name that is asked for")
            .help("add `request = { name = \"example.org\", type = \"A\" }`");
        return None;
    }
    let name = in_head(
        &raw.name,
        "name in DNS",
        |text| text == "." || is_dns_name(text),
        "write labels of letters, digits, `-` and `_` with dots between: \"example.org\"",
        log,
    )??;
    Some(DnsProbe {
        name,
        record: raw.record.get().unwrap_or(RecordType::A),
        rcode: match raw.rcode.get() {
            Some(rcode) => rcode.0,
            None => Some(Rcode::NoError),
        },
        answer: raw.answer.ok().map(|answer| answer.value.clone()),
    })
}

fn exec(raw: &raw::Request, at: Span, log: &mut Log) -> Option<ExecProbe> {
    let folder = ExecProbe::PROGRAMS;
    let Some(command) = raw.command.ok() else {
        if raw.command.certain() {
            log.error(at, "an exec check needs the program that is run")
                .help(format!(
                    "add `request = {{ command = [\"NAME\", …] }}` with the name of a program in {folder}"
                ));
        }
        return None;
    };
    let words: Vec<&str> = command
        .value
        .items
        .iter()
        .map(|it| it.value.as_str())
        .collect();
    let [program, arguments @ ..] = &words[..] else {
        log.error(command.at, "the command is empty").help(format!(
            "write the name of a program in {folder}, then its arguments"
        ));
        return None;
    };
    if words.iter().any(|word| word.contains('\0')) {
        log.error(command.at, "a zero byte is in the command")
            .help("leave it out");
        return None;
    }
    let own = program.strip_prefix(folder);
    let name = own.map_or(*program, |name| name.trim_start_matches('/'));
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        log.error(
            command.value.items[0].at,
            format!("{} is no program in {folder}", quote(program)),
        )
        .help(format!(
            "put the program, or a link to it, into {folder} and write its name"
        ));
        return None;
    }
    let user = in_head(
        &raw.user,
        "name of a user",
        |text| is_visible(text) && text != "root" && text != "0",
        "write an unprivileged user's name; the default is \"nobody\"",
        log,
    )?;
    Some(ExecProbe {
        program: name.to_owned(),
        arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
        user: user.unwrap_or_else(|| "nobody".to_owned()),
    })
}

fn grpc(raw: &raw::Request, log: &mut Log) -> Option<GrpcProbe> {
    let service = in_head(
        &raw.service,
        "name of a gRPC service",
        |text| text.is_empty() || is_visible(text),
        "write its full name: \"example.v1.Greeter\"",
        log,
    )?;
    let host = in_head(&raw.host, "host", is_host, HOST_HELP, log)?;
    let is_tls = raw.tls.get().unwrap_or(false);
    if !is_tls {
        let of_tls = [
            ("sni", raw.sni.ok().map(|it| it.at)),
            ("verify", raw.verify.ok().map(|it| it.at)),
        ];
        for (key, at) in of_tls {
            if let Some(at) = at {
                log.error(at, format!("`{key}` belongs to `tls = true`"))
                    .help("remove it, or write `tls = true`");
            }
        }
    }
    Some(GrpcProbe {
        service: service.unwrap_or_default(),
        host,
        tls: if is_tls { Some(tls(raw, log)?) } else { None },
    })
}

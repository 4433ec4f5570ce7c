//! `request` of a health check: what is asked, and what must come back.

use crate::config::check_value::{ByName, CheckKind, Hex};
use crate::config::error::{At, Log, Span, quote};
use crate::config::raw;
use crate::config::value::Given;
use crate::config::{
    Body, DnsProbe, Exchange, ExecProbe, GrpcProbe, HttpProbe, Probe, Rcode, RecordType, TlsProbe,
};
use std::net::IpAddr;

/// The longest text that is sent or looked for.
const LONGEST: usize = 4096;

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

/// Refuses the keys that belong to other types of checks.
pub(super) fn keys_of_other_types(kind: CheckKind, request: &raw::Request, log: &mut Log) {
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

/// What a check does; none: what is wrong is said. `at`: where its request is written, or it itself.
pub(super) fn probe(
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

//! The checks of a real server.

use super::super::emit::{list, quoted};
use super::super::{Check, Pace, Place, Remarks};
use super::tree::Node;
use super::{millis, unknown};
use std::net::IpAddr;

/// keepalived's checks, and their types in weir.
pub(super) const CHECKS: &[(&str, &str)] = &[
    ("TCP_CHECK", "tcp"),
    ("HTTP_GET", "http"),
    ("SSL_GET", "https"),
    ("MISC_CHECK", "exec"),
    ("DNS_CHECK", "dns"),
    ("UDP_CHECK", "udp"),
    ("PING_CHECK", "icmp"),
    ("SMTP_CHECK", "tcp"),
    ("BFD_CHECK", ""),
    ("FILE_CHECK", ""),
];

/// What a virtual server and its real servers say of the pace of their checks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Paces {
    pub delay_loop: Option<u64>,
    pub retries: Option<u64>,
    pub before_retry: Option<u64>,
}

impl Paces {
    /// Takes a keyword, if it is about the pace. Err: its value is none.
    pub(super) fn take(&mut self, node: &Node) -> Option<Result<(), String>> {
        let value = node.word(0).unwrap_or_default();
        let place = match node.keyword() {
            "delay_loop" => &mut self.delay_loop,
            "delay_before_retry" => &mut self.before_retry,
            "retry" | "nb_get_retry" => {
                let number = value.parse().ok();
                let wrong = || format!("{} {value}: a number is needed", node.keyword());
                self.retries = number.or(self.retries);
                return Some(number.map(|_| ()).ok_or_else(wrong));
            }
            _ => return None,
        };
        let time = millis(value);
        *place = time.or(*place);
        Some(
            time.map(|_| ()).ok_or_else(|| {
                format!("{} {value}: a number of seconds is needed", node.keyword())
            }),
        )
    }
}

/// Keywords of all checks.
const COMMON: &[&str] = &[
    "connect_port",
    "connect_timeout",
    "connect_ip",
    "retry",
    "nb_get_retry",
    "delay_before_retry",
    "delay_loop",
    "bindto",
    "bind_port",
    "bind_if",
    "fwmark",
    "warmup",
    "alpha",
    "log_all_failures",
];

fn keywords(kind: &str) -> &'static [&'static str] {
    match kind {
        "HTTP_GET" | "SSL_GET" => &[
            "url",
            "http_protocol",
            "virtualhost",
            "enable_sni",
            "fast_recovery",
            "tls_compliant",
        ],
        "MISC_CHECK" => &["misc_path", "misc_timeout", "misc_dynamic", "user"],
        "DNS_CHECK" => &["type", "name"],
        "UDP_CHECK" => &[
            "payload",
            "require_reply",
            "min_reply_length",
            "max_reply_length",
        ],
        "SMTP_CHECK" => &["helo_name", "host"],
        _ => &[],
    }
}

/// One check; none if weir cannot have it, which is told. `address`: the real server's.
pub(super) fn check(
    node: &Node,
    paces: Paces,
    host: Option<&str>,
    address: IpAddr,
    remarks: &mut Remarks,
) -> Option<Check> {
    let kind = node.keyword();
    let (_, own) = CHECKS.iter().find(|(name, _)| *name == kind)?;
    if own.is_empty() {
        remarks.lost(&node.at, format!("{kind}: weir has no such check"));
        return None;
    }
    let mut paces = paces;
    let mut port = None;
    let mut timeout = None;
    for child in node.children() {
        let keyword = child.keyword();
        if let Some(taken) = paces.take(child) {
            taken.unwrap_or_else(|why| remarks.lost(&child.at, why));
            continue;
        }
        match keyword {
            "connect_port" => match child.word(0).and_then(|it| it.parse::<u16>().ok()) {
                Some(number) if number > 0 => port = Some(number),
                _ => remarks.lost(&child.at, "connect_port: a port is needed"),
            },
            "connect_timeout" | "misc_timeout" => {
                timeout = child.word(0).and_then(millis);
                if timeout.is_none() {
                    remarks.lost(&child.at, format!("{keyword}: a number of seconds is needed"));
                }
            }
            "connect_ip" => {
                if child.word(0).and_then(|it| it.parse().ok()) != Some(address) {
                    remarks.lost(&child.at, "connect_ip: weir's checks go to the real server's own address");
                }
            }
            "bindto" | "bind_port" | "bind_if" | "fwmark" => {
                remarks.lost(&child.at, format!("{keyword}: the way of weir's checks is `via` of health"));
            }
            "warmup" | "alpha" => remarks.note(&child.at, format!("{keyword}: weir's checks begin at random times, and a real server counts until one fails")),
            "log_all_failures" => {}
            other if keywords(kind).contains(&other) => {}
            other => {
                let known: Vec<_> = COMMON.iter().chain(keywords(kind)).copied().collect();
                remarks.lost(&child.at, unknown(other, &known));
            }
        }
    }
    let (retries, before_retry) = match kind {
        "HTTP_GET" | "SSL_GET" => (3, 3000),
        "MISC_CHECK" => (0, 1000),
        _ => (1, 1000),
    };
    let interval = paces.delay_loop.unwrap_or(60_000);
    let pace = Pace {
        interval,
        timeout: timeout.unwrap_or(if kind == "MISC_CHECK" {
            interval
        } else {
            5000.min(interval)
        }),
        retries: paces.retries.unwrap_or(retries),
        before_retry: paces.before_retry.unwrap_or(before_retry),
    };
    let request = match kind {
        "HTTP_GET" | "SSL_GET" => http(node, kind == "SSL_GET", host, remarks),
        "MISC_CHECK" => {
            port = None;
            script(node, address, remarks)?
        }
        "DNS_CHECK" => dns(node),
        "UDP_CHECK" => udp(node, remarks),
        "SMTP_CHECK" => {
            remarks.note(
                &node.at,
                "SMTP_CHECK: weir connects and waits for the greeting, 220",
            );
            vec![("expect", quoted("220"))]
        }
        _ => Vec::new(),
    };
    Some(Check {
        at: node.at.clone(),
        kind: own,
        port,
        request,
        pace,
    })
}

type Request = Vec<(&'static str, String)>;

fn value<'a>(node: &'a Node, keyword: &str) -> Option<(&'a Place, &'a str)> {
    let child = node.children().iter().find(|it| it.keyword() == keyword)?;
    Some((&child.at, child.word(0)?))
}

fn http(node: &Node, is_tls: bool, host: Option<&str>, remarks: &mut Remarks) -> Request {
    let mut request = Request::new();
    let mut urls = node.children().iter().filter(|it| it.keyword() == "url");
    let url = urls.next();
    for other in urls {
        remarks.lost(&other.at, "a second url: weir asks for one");
    }
    let host = value(node, "virtualhost").map_or(host, |(_, host)| Some(host));
    let host = url
        .and_then(|url| value(url, "virtualhost"))
        .map_or(host, |(_, host)| Some(host));
    let mut codes: Vec<String> = Vec::new();
    if let Some(url) = url {
        if let Some((_, path)) = value(url, "path") {
            let slash = if path.starts_with('/') { "" } else { "/" };
            request.push(("path", quoted(&format!("{slash}{path}"))));
        }
        for child in url.children() {
            match child.keyword() {
                "path" | "virtualhost" => {}
                "status_code" => codes.extend_from_slice(&child.words[1..]),
                "digest" => remarks.lost(&child.at, "digest: weir compares no digests; `request.body` or `body_regex` looks for a text"),
                "regex" => {
                    let pattern = child.word(0).unwrap_or_default();
                    match regex::Regex::new(pattern) {
                        Ok(_) if request.iter().any(|(key, _)| *key == "body_regex") => remarks.lost(&child.at, "a second regex"),
                        Ok(_) => request.push(("body_regex", quoted(pattern))),
                        Err(_) => remarks.lost(&child.at, "regex: weir's patterns have no look-around and no back-references"),
                    }
                }
                "regex_no_match" | "regex_options" | "regex_min_offset" | "regex_max_offset" | "regex_stack" | "tls_compliant" => {
                    remarks.lost(&child.at, format!("{}: not carried over", child.keyword()));
                }
                other => {
                    let known = ["path", "status_code", "digest", "virtualhost", "regex", "regex_no_match"];
                    remarks.lost(&child.at, unknown(other, &known));
                }
            }
        }
    } else {
        remarks.note(&node.at, "no url: weir asks for /");
    }
    if let Some(host) = host {
        request.push(("host", quoted(host)));
    }
    // keepalived's default.
    let codes = if codes.is_empty() {
        "200-299".to_owned()
    } else {
        codes.join(",")
    };
    request.push(("status", quoted(&codes)));
    if is_tls {
        request.push(("verify", "false".to_owned()));
        if let Some(host) = host.filter(|_| value_of_flag(node, "enable_sni")) {
            request.push(("sni", quoted(host)));
        }
        remarks.note(
            &node.at,
            "SSL_GET: certificates are not looked at, as keepalived does; `verify = true` would",
        );
    }
    request
}

fn value_of_flag(node: &Node, keyword: &str) -> bool {
    node.children().iter().any(|it| it.keyword() == keyword)
}

/// A program: weir runs those in one folder only. The real server's own address in its arguments is what weir tells it, so that all real
/// servers of a service have the same check.
fn script(node: &Node, address: IpAddr, remarks: &mut Remarks) -> Option<Request> {
    let Some(child) = node
        .children()
        .iter()
        .find(|it| it.keyword() == "misc_path")
    else {
        remarks.lost(&node.at, "MISC_CHECK without misc_path");
        return None;
    };
    let line = child.words[1..].join(" ");
    let mut words = line.split_whitespace();
    let Some(program) = words.next() else {
        remarks.lost(&child.at, "misc_path: no program");
        return None;
    };
    let name = program.rsplit('/').next().unwrap_or(program);
    let arguments: Vec<_> = words.collect();
    let own = address.to_string();
    let is_own = arguments.contains(&own.as_str());
    remarks.note(&child.at, match is_own {
        false => format!("put {program} into /etc/weir/checks: weir runs no other programs"),
        true => format!(
            "put {program} into /etc/weir/checks, and have it take the address in WEIR_REAL_ADDRESS where it is given none: weir runs the \
             same command for all real servers"
        ),
    });
    let arguments = arguments.into_iter().filter(|it| *it != own);
    let mut request = vec![("command", list(std::iter::once(name).chain(arguments)))];
    for child in node.children() {
        match child.keyword() {
            "misc_dynamic" => {
                remarks.lost(&child.at, "misc_dynamic: weir takes no weight from a check")
            }
            "user" => request.push(("user", quoted(child.word(0).unwrap_or("nobody")))),
            _ => {}
        }
    }
    Some(request)
}

fn dns(node: &Node) -> Request {
    let name = value(node, "name").map_or(".", |(_, name)| name);
    let kind = value(node, "type").map_or("SOA", |(_, kind)| kind);
    vec![("name", quoted(name)), ("type", quoted(kind))]
}

fn udp(node: &Node, remarks: &mut Remarks) -> Request {
    let mut request = Request::new();
    for child in node.children() {
        match child.keyword() {
            "payload" => {
                let hex: String = child.words[1..].concat();
                request.push(("send_hex", quoted(hex.trim_start_matches("0x"))));
            }
            "require_reply" => match child.word(0) {
                Some(_) => {
                    let hex: String = child.words[1..].concat();
                    request.push(("expect_hex", quoted(hex.trim_start_matches("0x"))));
                }
                None => remarks.lost(&child.at, "require_reply: weir is told what comes back (`expect`), or takes silence for well"),
            },
            "min_reply_length" | "max_reply_length" => remarks.lost(&child.at, format!("{}: not carried over", child.keyword())),
            _ => {}
        }
    }
    if request.is_empty() {
        request.push(("send", quoted("")));
    }
    request
}

//! Health checks, written as a file has them.

use super::super::check_value::Rcodes;
use super::super::health::{
    Body, DnsProbe, Exchange, ExecProbe, GrpcProbe, HealthConfig, HttpProbe, Probe, TlsProbe,
};
use super::super::value::Word;
use super::{put, put_some, said, span, word};
use toml::{Table, Value};

/// Whether secrets are written as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    Hidden,
    /// For weir itself, never for an answer.
    Open,
}

/// In the place of a secret.
const HIDDEN: &str = "(hidden)";

/// A check, as `[health.NAME]` or `health` of a service.
pub(super) fn health_table(health: &HealthConfig, secrets: Secrets) -> Table {
    let HealthConfig {
        probe,
        port,
        via,
        interval,
        fast_interval,
        timeout,
        rise,
        fall,
    } = health;
    let mut table = Table::new();
    put(&mut table, "type", probe.name());
    put_some(&mut table, "port", port.map(i64::from));
    put(&mut table, "via", word(*via));
    put(&mut table, "interval", span(*interval));
    put(&mut table, "fast_interval", span(*fast_interval));
    put(&mut table, "timeout", span(*timeout));
    put(&mut table, "rise", i64::from(*rise));
    put(&mut table, "fall", i64::from(*fall));
    put(&mut table, "request", request_table(probe, secrets));
    table
}

fn request_table(probe: &Probe, secrets: Secrets) -> Table {
    let mut table = Table::new();
    match probe {
        Probe::Icmp => {}
        Probe::Tcp(exchange) | Probe::Udp(exchange) => {
            let Exchange { send, expect } = exchange;
            // Any of them may be a password, and which is not to be told.
            for (keys, bytes) in [
                (["send", "send_hex"], send),
                (["expect", "expect_hex"], expect),
            ] {
                match secrets {
                    Secrets::Open => put_bytes(&mut table, keys, bytes),
                    Secrets::Hidden if bytes.is_empty() => {}
                    Secrets::Hidden => put(&mut table, keys[0], HIDDEN),
                }
            }
        }
        Probe::Http(probe) => put_http(&mut table, probe, secrets),
        Probe::Dns(probe) => {
            let DnsProbe {
                name,
                record,
                rcode,
                answer,
            } = probe;
            let mut rcodes = Rcodes::WORDS.iter();
            let rcode = rcodes.find(|(_, known)| known.0 == *rcode);
            put(&mut table, "name", name.as_str());
            put(&mut table, "type", word(*record));
            put_some(&mut table, "rcode", rcode.map(|(word, _)| *word));
            put_some(&mut table, "answer", answer.as_deref());
        }
        Probe::Exec(probe) => {
            let ExecProbe {
                program,
                arguments,
                user,
            } = probe;
            let arguments = arguments.iter().map(|argument| match secrets {
                Secrets::Open => argument.as_str(),
                Secrets::Hidden => HIDDEN,
            });
            let command = std::iter::once(program.as_str()).chain(arguments);
            put(
                &mut table,
                "command",
                command.map(Value::from).collect::<Vec<_>>(),
            );
            put(&mut table, "user", user.as_str());
        }
        Probe::Grpc(probe) => {
            let GrpcProbe { service, host, tls } = probe;
            put(&mut table, "service", service.as_str());
            put_some(&mut table, "host", host.as_deref());
            put(&mut table, "tls", tls.is_some());
            put_tls(&mut table, tls.as_ref());
        }
    }
    table
}

/// As text, if it is one that can be read.
fn put_bytes(table: &mut Table, [text, hex]: [&str; 2], bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    match std::str::from_utf8(bytes) {
        Ok(written) => put(table, text, written),
        Err(_) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            put(table, hex, digits);
        }
    }
}

fn put_http(table: &mut Table, probe: &HttpProbe, secrets: Secrets) {
    let HttpProbe {
        method,
        path,
        host,
        headers,
        status,
        body,
        tls,
    } = probe;
    put(table, "method", method.as_str());
    put(table, "path", path.as_str());
    put_some(table, "host", host.as_deref());
    let header = |(name, value): &(String, String)| {
        let value = match secrets {
            Secrets::Hidden if is_secret(name) => HIDDEN,
            _ => value,
        };
        (name.clone(), value.into())
    };
    put(
        table,
        "headers",
        headers.iter().map(header).collect::<Table>(),
    );
    let range = |(first, last): &(u16, u16)| match first == last {
        true => said(first),
        false => format!("{first}-{last}"),
    };
    put(
        table,
        "status",
        status.iter().map(range).collect::<Vec<_>>().join(","),
    );
    match body {
        None => {}
        Some(Body::Text(text)) => put(table, "body", text.as_str()),
        Some(Body::Regex(pattern)) => put(table, "body_regex", pattern.as_str()),
    }
    put_tls(table, tls.as_ref());
}

fn put_tls(table: &mut Table, tls: Option<&TlsProbe>) {
    if let Some(TlsProbe { sni, verify }) = tls {
        put_some(table, "sni", sni.as_deref());
        put(table, "verify", *verify);
    }
}

/// Whether a header of this name tells who may ask.
pub(in crate::config) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words = [
        "auth", "cookie", "token", "secret", "key", "password", "session",
    ];
    words.iter().any(|word| name.contains(word))
}

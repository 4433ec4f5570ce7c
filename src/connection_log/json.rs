//! A record as a line of JSON.

use super::writer::Named;
use super::{Endpoint, Event, Record};
use std::fmt::{self, Display, Write};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// Appends the line of a record. `origin`: when the workers' clock was 0, in milliseconds since 1970.
pub(super) fn write(line: &mut String, record: &Record, named: &Named, origin: i64) {
    let time = |at: u64| Rfc3339(origin.saturating_add_unsigned(at));
    let (event, cause) = match record.event {
        Event::Start => ("start", None),
        Event::End(cause) => ("end", Some(cause)),
    };
    let id = record.id;
    let mut fields = Fields {
        line,
        is_first: true,
    };
    fields.text("event", event);
    fields.text("time", time(record.at));
    fields.text("id", format_args!("{id:016x}"));
    fields.escaped("service", &named.service);
    match protocol(record.protocol) {
        Some(name) => fields.text("protocol", name),
        None => fields.number("protocol", record.protocol.into()),
    }
    fields.end("client", record.client);
    fields.end("destination", record.destination);
    fields.end("server", named.server);
    if let Some(local) = record.local {
        fields.end("local", local);
    }
    fields.number("worker", record.worker.0.into());
    if let Some(cause) = cause {
        fields.text("reason", cause.name());
        fields.text("state", record.state);
        if let Some(start) = record.start {
            fields.text("start", time(start));
            fields.number("duration_ms", record.last.saturating_sub(start));
        }
        fields.text("last", time(record.last));
    }
    line.push_str("}\n");
}

fn protocol(number: u8) -> Option<&'static str> {
    use crate::net::protocol::{ICMP, ICMPV6, SCTP, TCP, UDP};
    match number {
        TCP => Some("tcp"),
        UDP => Some("udp"),
        SCTP => Some("sctp"),
        ICMP => Some("icmp"),
        ICMPV6 => Some("icmpv6"),
        _ => None,
    }
}

/// The fields of an object. Writing to a string never fails.
struct Fields<'a> {
    line: &'a mut String,
    is_first: bool,
}

impl Fields<'_> {
    fn name(&mut self, name: &str) {
        let before = if std::mem::take(&mut self.is_first) {
            '{'
        } else {
            ','
        };
        let _ = write!(self.line, "{before}\"{name}\":");
    }

    /// A text that needs no escapes.
    fn text(&mut self, name: &str, value: impl Display) {
        self.name(name);
        let _ = write!(self.line, "\"{value}\"");
    }

    fn escaped(&mut self, name: &str, value: &str) {
        self.name(name);
        let _ = write!(self.line, "{}", serde_json::Value::from(value));
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        let _ = write!(self.line, "{value}");
    }

    fn end(&mut self, name: &str, (address, port): Endpoint) {
        self.text(name, SocketAddr::new(address, port));
    }
}

/// Milliseconds since 1970 as RFC 3339 has them.
struct Rfc3339(i64);

impl Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Beyond the year 9999 there is no such text.
        const LAST: u64 = 253_402_300_799_999;
        let millis = u64::try_from(self.0).unwrap_or(0).min(LAST);
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        humantime::format_rfc3339_millis(time).fmt(f)
    }
}

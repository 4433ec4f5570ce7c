//! `[connection_log]`.

use crate::config::error::Log;
use crate::config::raw;
use crate::config::value::Given;
use crate::config::{ConnectionLog, LogDestination, LogEvent, LogFormat, Transport};

/// What is logged; nothing where the table is not there, or does not say where to.
pub(super) fn connection_log(
    raw: Given<raw::ConnectionLog>,
    log: &mut Log,
) -> Option<ConnectionLog> {
    let Given::Yes(given) = raw else {
        return None;
    };
    let (raw, at) = (given.value, given.at);
    let transport = raw.transport.get().unwrap_or(Transport::Udp);
    let to = match (raw.file.ok(), raw.collector.ok()) {
        (Some(_), Some(collector)) => {
            log.error(
                collector.at,
                "the connection log has one place: `file` or `collector`",
            )
            .help("leave one of the two out");
            None
        }
        (Some(file), None) => Some(LogDestination::File(file.value.0.clone())),
        (None, Some(to)) => Some(LogDestination::Collector(to.value.0, transport)),
        (None, None) => {
            if raw.file.certain() && raw.collector.certain() {
                log.error(at, "the connection log has no place to go to")
                    .help("set `file = \"/var/log/weir/connections.json\"`, or `collector = \"10.0.0.9:4739\"` for IPFIX");
            }
            None
        }
    };
    let is_file = raw.file.ok().is_some() && raw.collector.ok().is_none();
    if let Some(given) = raw.transport.ok().filter(|_| is_file) {
        log.error(
            given.at,
            "`transport` is of a collector, and the log goes to a file",
        )
        .help("leave it out");
    }
    let format = raw.format.get();
    if let Some(given) = raw.format.ok()
        && given.value == LogFormat::Json
        && raw.collector.ok().is_some()
    {
        log.error(given.at, "a collector takes IPFIX, and no JSON")
            .help("leave `format` out, or write to a `file`");
    }
    let format = format.unwrap_or(match is_file {
        true => LogFormat::Json,
        false => LogFormat::Ipfix,
    });
    if let Some(given) = raw
        .observation_domain
        .ok()
        .filter(|_| format == LogFormat::Json)
    {
        log.error(
            given.at,
            "`observation_domain` is of IPFIX, and the format is JSON",
        )
        .help("leave it out, or set `format = \"ipfix\"`");
    }
    let (mut starts, mut ends) = (true, true);
    if let Some(events) = raw.events.ok() {
        let has = |event| events.value.items.iter().any(|it| it.value == event);
        (starts, ends) = (has(LogEvent::Start), has(LogEvent::End));
        if events.value.complete && !starts && !ends {
            log.error(events.at, "`events` is empty: nothing would be logged")
                .help("write [\"end\"], or [\"start\", \"end\"]; leave [connection_log] out to log nothing");
        }
    }
    Some(ConnectionLog {
        to: to?,
        format,
        sample: raw.sample.get().map_or(1, |sample| sample.0),
        starts,
        ends,
        domain: raw.observation_domain.get().map_or(0, |domain| domain.0),
    })
}

//! `passive` and `on_drain` of a service: what follows from clients' connections, and what becomes of them at a drain.

use crate::config::error::Log;
use crate::config::raw;
use crate::config::value::{Given, ModeWord};
use crate::config::{ON_DRAIN, PassiveConfig, Protocol};
use std::time::Duration;

/// After which silence UDP flows leave a drained real server.
pub(super) fn on_drain(raw: &raw::Service, log: &mut Log) -> Option<Duration> {
    let has_udp = raw.protocol.get().is_some_and(|it| it.have(Protocol::Udp));
    let Some(given) = raw.on_drain.ok() else {
        return has_udp.then_some(ON_DRAIN);
    };
    if let Some(other) = raw.protocol.get().filter(|_| !has_udp) {
        let other = other.words();
        log.error(
            given.at,
            format!("`on_drain` is for UDP, and the service is one of {other}"),
        )
        .help(format!(
            "leave it out: a connection of {other} stays until it ends"
        ));
    }
    given.value.0
}

/// When failed connections take a real server out; Err: what is wrong is said.
pub(super) fn passive(
    raw: &raw::Service,
    port: Option<u16>,
    log: &mut Log,
) -> Result<Option<PassiveConfig>, ()> {
    let given = match &raw.passive {
        Given::No => return Ok(None),
        Given::Bad => return Err(()),
        Given::Yes(given) => given,
    };
    if port == Some(0) {
        log
            .error(
                given.at,
                "a service of several ports cannot have `passive`: a client that tries closed ports would have real servers taken out",
            )
            .help("leave it out, or give the ports that are served a service of their own");
        return Err(());
    }
    if let Some(mode) = raw.mode.get()
        && mode == ModeWord::L3dsr
    {
        log.warning(
            given.at,
            "`passive` has no effect with the mode l3dsr: neither answers nor errors come by weir",
        )
        .help("leave it out, and write `health` instead");
    }
    let default = PassiveConfig::default();
    let raw = &given.value;
    Ok(Some(PassiveConfig {
        failures: raw.failures.get().map_or(default.failures, |it| it.0),
        within: raw.within.get().map_or(default.within, |it| it.0),
        hold: raw.hold.get().map_or(default.hold, |it| it.0),
    }))
}

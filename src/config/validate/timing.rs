//! How long a service's connections live, and what is measured of them: `timeouts`, `on_idle`, `one_packet`, `histograms`.

use crate::config::error::{Log, Span};
use crate::config::limits::protocol_of_timeout;
use crate::config::raw;
use crate::config::value::{ModeWord, Protocols};
use crate::config::{OnDown, OnIdle, OwnTimeouts, Protocol};

/// What a service says in the place of `[timeouts]`.
pub(super) fn timeouts(raw: &raw::Service, log: &mut Log) -> OwnTimeouts {
    let Some(given) = raw.timeouts.ok() else {
        return OwnTimeouts::default();
    };
    for (key, at) in given.value.given() {
        let needed = match key {
            "icmp" => {
                log.error(at, "`icmp` is no timeout of a service")
                    .help("write it in [timeouts] or [[snat]]: it is for echoes through [[snat]]");
                continue;
            }
            _ => protocol_of_timeout(key),
        };
        let Some(other) = raw.protocol.get().filter(|it| !it.have(needed)) else {
            continue;
        };
        let other = other.words();
        log.error(at, format!("`{key}` is no timeout of a service of {other}"))
            .help("leave it out, or write it in [timeouts] for all services");
    }
    own(&given.value)
}

/// Refuses the timeouts of what `[[snat]]` does not carry.
pub(super) fn refuse_sctp(given: &raw::Timeouts, log: &mut Log) {
    let of_sctp = |(key, _): &(&str, Span)| protocol_of_timeout(key) == Protocol::Sctp;
    for (key, at) in given.given().filter(of_sctp) {
        log.error(
            at,
            format!("`{key}` is no timeout of [[snat]], which carries no SCTP"),
        )
        .help("leave it out: [[snat]] is for TCP, UDP and ICMP echo");
    }
}

/// What is said in the place of `[timeouts]`.
pub(super) fn own(given: &raw::Timeouts) -> OwnTimeouts {
    macro_rules! own {
        ($($key:ident)*) => {
            OwnTimeouts::new([$((stringify!($key), given.$key.get()),)*])
        };
    }
    own! {
        tcp_established tcp_syn_sent tcp_syn_recv tcp_fin_wait tcp_time_wait tcp_close
        tcp_close_wait tcp_last_ack tcp_listen tcp_synack udp tcp_half_closed icmp
        sctp_established
    }
}

/// What becomes of established connections that have been silent for too long.
pub(super) fn on_idle(raw: &raw::Service, log: &mut Log) -> OnIdle {
    let Some(given) = raw.on_idle.ok() else {
        return OnIdle::default();
    };
    if given.value == OnIdle::Reset {
        if let Some(other) = raw.protocol.get().filter(|it| !it.have(Protocol::Tcp)) {
            log.error(
                given.at,
                format!(
                    "`on_idle = \"reset\"` is for TCP, and the service is one of {}",
                    other.words()
                ),
            )
            .help("leave it out");
        } else if let Some(mode @ (ModeWord::Dr | ModeWord::Tunnel | ModeWord::L3dsr)) =
            raw.mode.get()
        {
            let problem = format!(
                "`on_idle = \"reset\"` needs the numbers of replies, which the mode {} does not see",
                mode.name()
            );
            log.error(given.at, problem)
                .help("leave it out, or write `mode = \"nat\"` or `mode = \"fullnat\"`");
        }
    }
    given.value
}

/// What becomes of the connections of a real server that is down.
pub(super) fn on_down(raw: &raw::Service, log: &mut Log) -> OnDown {
    let Some(given) = raw.on_down.ok() else {
        return OnDown::default();
    };
    if given.value == OnDown::Reschedule && raw.protocol.get() == Some(Protocols::Sctp) {
        log.error(
            given.at,
            "`on_down = \"reschedule\"` is for TCP and UDP, and the service is one of SCTP",
        )
        .help("write \"reset\" or \"keep\": no real server takes another one's association");
    }
    given.value
}

/// Whether it is measured how long real servers take.
pub(super) fn histograms(raw: &raw::Service, log: &mut Log) -> bool {
    let Some(given) = raw.histograms.ok().filter(|given| given.value) else {
        return false;
    };
    if let Some(mode) = raw
        .mode
        .get()
        .filter(|mode| !matches!(mode, ModeWord::Nat | ModeWord::Fullnat))
    {
        let mode = mode.name();
        let problem =
            format!("`histograms` has no effect with the mode {mode}: replies do not come by weir");
        log.warning(given.at, problem)
            .help("leave it out, or use nat or fullnat");
    } else if raw.one_packet.get() == Some(true) {
        log.warning(given.at, "`histograms` has no effect with `one_packet`: no connection is kept, and nothing known of its first packet")
            .help("leave one of the two out");
    }
    true
}

/// Whether every datagram is scheduled afresh.
pub(super) fn one_packet(raw: &raw::Service, log: &mut Log) -> bool {
    let Some(given) = raw.one_packet.ok().filter(|given| given.value) else {
        return false;
    };
    let other = raw.protocol.get().filter(|it| !it.have(Protocol::Udp));
    if let Some(other) = other {
        let other = other.words();
        let problem = format!("`one_packet` is for UDP, and the service is one of {other}");
        let help = format!("leave it out: a connection of {other} stays with its real server");
        log.error(given.at, problem).help(help);
        return true;
    }
    let (problem, help) = if raw.mode.get() == Some(ModeWord::Fullnat) {
        (
            "`one_packet` keeps no connection, and fullnat finds the client of a reply by it",
            "leave it out, or use nat, dr, tunnel or l3dsr",
        )
    } else if raw.persistence.ok().is_some() {
        (
            "`one_packet` and `persistence` exclude each other",
            "leave one of the two out: persistence binds a client to a real server",
        )
    } else {
        return true;
    };
    log.error(given.at, problem).help(help);
    true
}

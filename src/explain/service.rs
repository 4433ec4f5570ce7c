//! The service of a packet, why it is that one, and those that it nearly is.

use super::Step;
use crate::admission::{Guard, client};
use crate::config::Protocol;
use crate::model::Model;
use crate::service::ServiceKey;
use crate::tables::Service;
use crate::units::Time;
use std::net::SocketAddr;
use std::sync::Arc;

/// So many near misses are named; the others are counted.
const NAMED: usize = 6;

/// The step about the service of a packet to `destination`.
pub(super) fn step(
    model: &Model,
    service: Option<&Service>,
    protocol: Protocol,
    destination: SocketAddr,
) -> Step {
    let near = near_misses(model, service, protocol, destination);
    let Some(service) = service else {
        let mut details = near;
        if details.is_empty() {
            details.push("no service has that address".to_owned());
        }
        return Step {
            step: "service",
            says: format!("none is {}:{destination}", protocol.name()),
            details,
        };
    };
    let why = match (service.key.port, service.key.last) {
        (0, _) => "of every port of the VIP",
        (_, 0) => "of exactly this port",
        _ => "of a range with this port",
    };
    let mode = service.mode;
    let mut details = vec![
        format!("mode {}: {}", mode.name, mode.description),
        format!(
            "scheduler {}: {}",
            service.scheduler_kind.name, service.scheduler_kind.description
        ),
    ];
    let flags: Vec<_> = service.flag_words().collect();
    if !flags.is_empty() {
        details.push(format!("scheduler flags {}", flags.join(", ")));
    }
    if service.one_packet {
        details.push(
            "one_packet: every datagram is scheduled by itself, and no connection is kept".into(),
        );
    }
    details.extend(near);
    Step {
        step: "service",
        says: format!("{} ({}), {why}", service.name, service.key),
        details,
    }
}

/// Why each other service of the same address, or of the same port elsewhere, is not the packet's.
fn near_misses(
    model: &Model,
    service: Option<&Service>,
    protocol: Protocol,
    destination: SocketAddr,
) -> Vec<String> {
    let others = || {
        let services = model.services();
        services.filter(|other| service.is_none_or(|service| other.id != service.id))
    };
    let here: Vec<_> = others()
        .filter(|other| other.key.address == destination.ip())
        .filter_map(|other| why_not(service, protocol, destination.port(), other))
        .collect();
    // Of a packet that is served, or whose VIP has others, those elsewhere say nothing.
    let elsewhere = others().filter(|other| {
        service.is_none()
            && here.is_empty()
            && other.key.protocol == protocol
            && other.key.port == destination.port()
    });
    let elsewhere: Vec<_> = elsewhere
        .map(|other| format!("not {} ({}): another address", other.name, other.key))
        .collect();
    let mut all = [here, elsewhere].concat();
    if let Some(more @ 1..) = all.len().checked_sub(NAMED) {
        all.truncate(NAMED);
        all.push(format!("and {more} more"));
    }
    all
}

/// Why a service of the packet's address is not the packet's; none: it is not worth a word.
fn why_not(
    service: Option<&Service>,
    protocol: Protocol,
    port: u16,
    other: &Arc<Service>,
) -> Option<String> {
    let ServiceKey {
        port: first, last, ..
    } = other.key;
    let is_same = other.key.protocol == protocol;
    let why = match (is_same, service) {
        (false, None) => format!("it is of {}", other.key.protocol.name()),
        // The same port of the other protocol is no riddle to one that is served.
        (false, Some(_)) => return None,
        (true, Some(_)) if other.key.covers(port) => match first {
            0 => "of every port: the more exact one wins".to_owned(),
            _ => "a range: the more exact one wins".to_owned(),
        },
        (true, Some(_)) => return None,
        (true, None) => match last {
            0 => format!("its port is {first}"),
            _ if port < first => format!("its range begins after {port}, with {first}"),
            _ => format!("its range ends before {port}, with {last}"),
        },
    };
    Some(format!("not {} ({}): {why}", other.name, other.key))
}

/// The step about the clients that a service takes; none where it takes all.
pub(super) fn admission(
    service: &Service,
    guard: &Guard,
    source: SocketAddr,
    live: u32,
    now: Time,
) -> Step {
    let who = client(source.ip());
    let unwelcome = guard.is_unwelcome(source.ip());
    let full = guard.limits.connections.is_some_and(|most| live >= most);
    let beyond = guard.is_beyond(service.id, who, now);
    let says = match (unwelcome, beyond) {
        (Some(refusal), _) => format!("{} refuses the client {}", refusal.name(), source.ip()),
        (None, Some(refusal)) => format!("the limit {} is reached", refusal.name()),
        (None, None) if full => "the limit connections is reached".to_owned(),
        (None, None) => format!("the client {} may begin a connection", source.ip()),
    };
    let mut details: Vec<_> = guard
        .limits
        .given()
        .map(|(key, most)| format!("limits.{key} = {most}"))
        .collect();
    if guard.limits.connections.is_some() {
        details.push(format!("{live} connections now"));
    }
    Step {
        step: "clients",
        says,
        details,
    }
}

//! What became of a packet: what it was made into, by which way it goes, and the verdict.

use super::Step;
use super::seen::{Header, Seen};
use super::steps::{After, Before, route, step};
use crate::advice;
use crate::config::ClientAddress;
use crate::forward::tunnel::Via;
use crate::replay::Decision;
use crate::units::PortId;
use crate::verdict::Verdict;

/// The last steps of a packet.
pub(super) fn steps(before: &Before, after: &After) -> Vec<Step> {
    let steps = [
        translation(before, after),
        size(before, after),
        way(before, after),
        Some(verdict(after)),
    ];
    steps.into_iter().flatten().collect()
}

/// The packet as it goes on: how weir wraps it is known by its service.
fn sent(before: &Before, after: &After) -> Option<Seen> {
    let Verdict::Forward(_) = after.decision.verdict else {
        return None;
    };
    let via = before.service.as_deref().and_then(|service| service.via);
    let tunnel = match via {
        Some(Via::Wrapped(config)) => Some(config.encapsulation),
        _ => None,
    };
    after.frames.first().map(|frame| Seen::of(frame, tunnel))
}

fn translation(before: &Before, after: &After) -> Option<Step> {
    let seen = sent(before, after)?;
    let (was, is) = (before.seen.path()?, seen.path()?);
    let mut step = match was == is {
        true => step("translation", "addresses and ports stay as they are"),
        false => step("translation", format!("{was} becomes {is}")),
    };
    let details = &mut step.details;
    details.push(format!("before {}", before.seen));
    details.push(format!("after  {seen}"));
    let (before_ip, after_ip) = (before.seen.ip()?, seen.ip()?);
    if before_ip.dscp != after_ip.dscp {
        details.push(format!(
            "DSCP {} tells the real server the VIP",
            after_ip.dscp
        ));
    }
    if seen.mss() != before.seen.mss()
        && let (Some(said), Some(sent)) = (before.seen.mss(), seen.mss())
    {
        details.push(format!("tcp_mss: MSS {said} becomes {sent}"));
    }
    let tells = before
        .service
        .as_deref()
        .map(|service| service.client_address);
    let (data, options) = (lengths(&before.seen), lengths(&seen));
    match tells {
        Some(ClientAddress::Toa) if options.1 > data.1 => {
            details.push("client_address: the option tells the real server the client".into());
        }
        Some(ClientAddress::ProxyV2) if options.0 > data.0 => {
            details.push(
                "client_address: a header of the PROXY protocol stands before the data".into(),
            );
        }
        _ => {}
    }
    Some(step)
}

/// Bytes of data and of TCP options.
fn lengths(seen: &Seen) -> (usize, usize) {
    match seen.headers.last() {
        Some(Header::Tcp { options, data, .. }) => (*data, *options),
        Some(Header::Udp { data, .. }) => (*data, 0),
        _ => (0, 0),
    }
}

fn size(before: &Before, after: &After) -> Option<Step> {
    let seen = sent(before, after)?;
    let Verdict::Forward(out) = after.decision.verdict else {
        return None;
    };
    let port = after.engine.model().config().port(out);
    let (inner, outer) = (before.seen.outer_ip()?.length, seen.outer_ip()?.length);
    let pieces = after.frames.len();
    let says = match pieces {
        0 | 1 => format!(
            "{outer} bytes, of the {} that {} takes",
            port.mtu, port.name
        ),
        _ => format!(
            "in {pieces} fragments: {} takes packets of {} bytes",
            port.name, port.mtu
        ),
    };
    let mut step = step("size", says);
    if pieces == 1 && outer > inner {
        step.details
            .push(format!("{} bytes more than it came with", outer - inner));
    }
    Some(step)
}

fn way(before: &Before, after: &After) -> Option<Step> {
    let model = after.engine.model();
    let seen = sent(before, after);
    let Some(seen) = seen else {
        let Verdict::Reply(out, _) = after.decision.verdict else {
            return None;
        };
        let answer = after.frames.first().map(|frame| Seen::of(frame, None));
        let mut step = step(
            "way",
            format!(
                "the answer goes back to where the packet came from, by {}",
                model.config().port(out).name
            ),
        );
        step.details.extend(answer.map(|answer| answer.to_string()));
        return Some(step);
    };
    let Verdict::Forward(out) = after.decision.verdict else {
        return None;
    };
    let destination = seen.outer_ip()?.destination;
    // With dr the destination stays the VIP, and only the next hop is the real server's.
    let real = after.decision.context.real.and_then(|id| model.real(id));
    let direct = real.filter(|(key, ..)| {
        let service = model.find(key);
        key.address == destination && service.is_some_and(|it| !it.mode.translates)
    });
    let towards = direct.map_or(destination, |(_, address, _)| *address);
    let route_of = model.tables().routes.get(towards);
    let next = route_of
        .and_then(|route| route.gateway)
        .map_or(towards, |(_, via)| via);
    let mac = seen.destination_mac;
    let known = match after.made_up.get(&mac) {
        Some(_) if next.is_ipv4() => {
            "its MAC address, which ARP would tell, is taken as known".to_owned()
        }
        Some(_) => {
            "its MAC address, which neighbour discovery would tell, is taken as known".to_owned()
        }
        None => format!("its MAC address is {mac}"),
    };
    Some(Step {
        step: "way",
        says: format!(
            "out by {}, to the next hop {next}",
            model.config().port(out).name
        ),
        details: route(model, towards).into_iter().chain([known]).collect(),
    })
}

fn verdict(after: &After) -> Step {
    let Decision {
        verdict, context, ..
    } = after.decision;
    let tables = after.engine.model().tables();
    let name = |port: PortId| &*tables.port(port).name;
    let words = advice::words(*verdict, context, name);
    let advice = words.advice.map(|advice| format!("what to do: {advice}"));
    let details = words.meaning.map(str::to_owned).into_iter().chain(advice);
    Step {
        step: "verdict",
        says: words.says,
        details: details.collect(),
    }
}

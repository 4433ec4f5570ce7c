//! A packet of a running daemon, told as one that is asked about: as far as it shows what was decided.

use super::Step;
use super::seen::{Header, Seen};
use super::steps::step;
use crate::config::{Encapsulation, GueVariant};

/// What is known of a live packet.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// None of a frame that is sent for no packet.
    pub received: Option<Passing>,
    /// What is sent for it, in order.
    pub sent: Vec<Passing>,
    pub worker: u8,
    /// Another worker had it first.
    pub is_taken_over: bool,
    pub service: Option<String>,
    pub real: Option<String>,
    pub mode: Option<String>,
    /// The verdict's reason.
    pub reason: Option<String>,
    /// The connection's, after the packet.
    pub state: Option<String>,
    /// The verdict as a sentence, what it means, and what to do.
    pub says: Option<String>,
    pub meaning: Option<String>,
    pub advice: Option<String>,
}

/// A frame at a port.
#[derive(Clone, Debug, Default)]
pub struct Passing {
    pub port: String,
    pub frame: Vec<u8>,
    pub kind: Kind,
}

/// What a sent frame is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A packet, sent on.
    #[default]
    Packet,
    Answer,
    /// weir's own, or the host's.
    Own,
}

/// The packet's ends, and its steps.
pub fn live(packet: &Live) -> (String, Vec<Step>) {
    let of = |passing: &Passing| read(&passing.frame, packet.mode.as_deref());
    let title = |seen: &Seen| match seen.path() {
        Some(path) => path,
        None => seen.to_string(),
    };
    let Some(received) = &packet.received else {
        let seen: Vec<_> = packet.sent.iter().map(|sent| (sent, of(sent))).collect();
        let name = seen.first().map_or(String::new(), |(_, seen)| title(seen));
        return (
            name,
            seen.iter()
                .flat_map(|(sent, seen)| alone(sent, seen))
                .collect(),
        );
    };
    let before = of(received);
    let mut steps = vec![step("packet", before.to_string()), came(packet, received)];
    steps.extend(service(packet));
    steps.extend(connection(packet));
    let own = packet.sent.iter().find(|sent| sent.kind == Kind::Packet);
    if let Some(own) = own {
        let after = of(own);
        steps.extend(translation(&before, &after));
        steps.push(way(own, &after));
    }
    let others = packet
        .sent
        .iter()
        .filter(|sent| own.is_none_or(|own| !std::ptr::eq(own, *sent)));
    for other in others {
        steps.push(also(other, &of(other)));
    }
    steps.extend(verdict(packet));
    (title(&before), steps)
}

/// A frame, of which GUE's packets are read where the mode wraps them: every UDP port may be GUE's there.
fn read(frame: &[u8], mode: Option<&str>) -> Seen {
    let seen = Seen::of(frame, None);
    match (mode, seen.headers.last()) {
        (Some("tunnel"), Some(Header::Udp { ports, .. })) => {
            let gue = Encapsulation::Gue {
                port: ports.1,
                variant: GueVariant::Header,
                zero_checksum: false,
            };
            Seen::of(frame, Some(gue))
        }
        _ => seen,
    }
}

fn came(packet: &Live, received: &Passing) -> Step {
    let mut step = step("port", format!("it came in by {}", received.port));
    step.details.push(match packet.is_taken_over {
        true => format!("worker {} has it from another one", packet.worker),
        false => format!("worker {}", packet.worker),
    });
    step
}

fn service(packet: &Live) -> Option<Step> {
    let name = packet.service.as_ref().or(packet.mode.as_ref())?;
    let mut step = step("service", name.clone());
    let mode = packet.mode.iter().filter(|mode| *mode != name);
    step.details.extend(mode.map(|mode| format!("mode {mode}")));
    step.details
        .extend(packet.real.iter().map(|real| format!("real server {real}")));
    Some(step)
}

fn connection(packet: &Live) -> Option<Step> {
    let state = packet.state.as_ref()?;
    Some(step(
        "connection",
        match packet.reason.as_deref() {
            Some("new connection") => format!("the packet begins one, now in state {state}"),
            _ => format!("a known one, now in state {state}"),
        },
    ))
}

fn translation(before: &Seen, after: &Seen) -> Option<Step> {
    let (was, is) = (before.path()?, after.path()?);
    let mut step = match was == is {
        true => step("translation", "addresses and ports stay as they are"),
        false => step("translation", format!("{was} becomes {is}")),
    };
    step.details.push(format!("before {before}"));
    step.details.push(format!("after  {after}"));
    Some(step)
}

fn way(sent: &Passing, seen: &Seen) -> Step {
    step(
        "way",
        format!("out by {}, to {}", sent.port, seen.destination_mac),
    )
}

/// Another frame that is sent for the packet.
fn also(sent: &Passing, seen: &Seen) -> Step {
    let what = match sent.kind {
        Kind::Packet => "another frame",
        Kind::Answer => "the answer",
        Kind::Own => "a frame of weir's own",
    };
    let mut step = step("sent", format!("{what}, by {}", sent.port));
    step.details.push(seen.to_string());
    step
}

/// The steps of a frame that is sent for no packet.
fn alone(sent: &Passing, seen: &Seen) -> [Step; 2] {
    let why = match sent.kind {
        Kind::Packet | Kind::Answer => "sent after it had waited",
        Kind::Own => "weir's own, or the host's",
    };
    [step("packet", seen.to_string()), {
        let mut way = way(sent, seen);
        way.details.push(why.to_owned());
        way
    }]
}

fn verdict(packet: &Live) -> Option<Step> {
    let mut step = step("verdict", packet.says.clone()?);
    step.details.extend(packet.meaning.clone());
    let advice = packet.advice.iter();
    step.details
        .extend(advice.map(|advice| format!("what to do: {advice}")));
    Some(step)
}

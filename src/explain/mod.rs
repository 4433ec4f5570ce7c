//! What would become of a packet, and why: the director of a replay decides on it, and this says step by step what it went by.
//!
//! Nothing is decided here. The packet goes through the very dataplane ([`crate::replay`]) with the configuration's tables; what was there
//! before it is looked at first, and what became of it afterwards.

mod chunk;
mod connection;
mod frame;
mod live;
mod outcome;
mod seen;
mod service;
mod steps;
mod words;

pub use crate::conn::State;
pub use crate::replay::Assumed;
pub use chunk::Chunk;
pub use frame::{Asked, frame};
pub use live::{Kind, Live, Passing, live};
pub use seen::{Header, Ip, Seen};
pub use words::{Upper, Words, Wrong};

use crate::arch::NoMemory;
use crate::config::{Config, StaticNeighbour};
use crate::door;
use crate::io::memory::Memory;
use crate::model::Edit;
use crate::net::{Mac, is_link_local};
use crate::packet::Packet;
use crate::replay::{self, Replay, add_neighbours, made_up_mac};
use crate::service::{Admin, Health, ServiceKey};
use crate::units::{PortId, Time, WorkerId};
use crate::verdict::Verdict;
use serde::Serialize;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// One thing that was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is about: `port`, `service`, `scheduler` …
    pub step: &'static str,
    /// A sentence.
    pub says: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// What becomes of one packet.
#[derive(Clone, Debug)]
pub struct Story {
    /// The packet, as it was asked about.
    pub packet: String,
    pub steps: Vec<Step>,
    /// As a line of `weir replay --explain`.
    pub decision: serde_json::Value,
    /// The frames that weir sends for it, each with its port.
    pub sent: Vec<(PortId, Vec<u8>)>,
}

/// What a running daemon knows that its configuration does not say.
#[derive(Clone, Debug, Default)]
pub struct Running {
    pub reals: Vec<RunningReal>,
    /// Where next hops are, as their neighbours have said.
    pub neighbours: Vec<StaticNeighbour>,
    /// Those that the packets may belong to, and the templates of their clients.
    pub connections: Vec<Assumed>,
}

/// What a running daemon knows of a real server.
#[derive(Clone, Debug)]
pub struct RunningReal {
    pub service: ServiceKey,
    /// With the port of the file; 0: the packet's.
    pub real: SocketAddr,
    pub admin: Admin,
    /// An operator's, in the place of the file's.
    pub weight: Option<u16>,
    pub health: Health,
    /// Why, in words.
    pub health_reason: String,
    /// It has had its `max_connections`, and not fewer than its `min_connections` since.
    pub overloaded: bool,
    pub active: u32,
    pub inactive: u32,
}

/// Between which ends a packet goes, with IP's number of its protocol; none: it has no ports.
pub fn flow(asked: &Asked) -> Option<(u8, SocketAddr, SocketAddr)> {
    let bytes = match asked {
        Asked::Frame(bytes) => bytes.clone(),
        Asked::Words(words) => frame(words, Mac([0; 6])),
    };
    let seen = Seen::of(&bytes, None);
    let (protocol, _) = seen.ports()?;
    let (source, destination) = seen.ends()?;
    Some((protocol, source, destination))
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error("the memory of the tables: {0}")]
    Memory(#[from] NoMemory),
    #[error("internal error: {0}")]
    Replay(#[from] replay::Unaccounted),
}

/// When the first packet comes, and how long after it the next one does: a client's round trip.
const START: Time = Time::from_nanos(1_000_000_000);
const APART: Duration = Duration::from_millis(20);

/// Next hops are looked for so often: one that leads to another is found with the first.
const ROUNDS: usize = 4;

/// Says what becomes of packets that come one after the other, by this port or by the one that leads to their sources.
///
/// # Errors
/// If there is no memory for the tables.
pub fn explain(
    config: &Config,
    running: &Running,
    port: Option<PortId>,
    packets: &[Asked],
) -> Result<Vec<Story>, Failed> {
    let mut config = config.clone();
    add_neighbours(&mut config, running.neighbours.iter().cloned());
    // The next hops whose MAC addresses are taken as known, by the addresses that stand for theirs.
    let mut made_up = HashMap::new();
    for round in 0.. {
        let mut teller = Teller::new(&config, running, packets.len().max(1), &made_up)?;
        let stories: Vec<_> = packets
            .iter()
            .map(|asked| teller.tell(port, asked))
            .collect();
        teller.engine.check()?;
        let unanswered = teller.engine.unanswered();
        if unanswered.is_empty() || round == ROUNDS {
            return Ok(stories);
        }
        let neighbours: Vec<_> = unanswered
            .into_iter()
            .map(|(address, port)| {
                let mac = made_up_mac(made_up.len());
                made_up.insert(mac, address);
                StaticNeighbour {
                    address,
                    port: is_link_local(address).then_some(port.index()),
                    mac,
                }
            })
            .collect();
        add_neighbours(&mut config, neighbours);
    }
    Ok(Vec::new())
}

/// A frame that was sent, and with one that is a fragment the others of its datagram, in their order.
fn with_pieces(sent: &[(PortId, Vec<u8>)], own: usize) -> Vec<Vec<u8>> {
    let piece = |frame: &[u8]| {
        let ip = *Seen::of(frame, None).outer_ip()?;
        Some((ip.source, ip.destination, ip.fragment.map(|_| ())?))
    };
    let (out, frame) = &sent[own];
    match piece(frame) {
        None => vec![frame.clone()],
        of_datagram => sent
            .iter()
            .filter(|(port, frame)| port == out && piece(frame) == of_datagram)
            .map(|(_, frame)| frame.clone())
            .collect(),
    }
}

/// Drives the engine, and tells of each packet.
struct Teller<'a> {
    engine: Replay,
    running: &'a Running,
    made_up: &'a HashMap<Mac, IpAddr>,
    now: Time,
    /// Frames sent so far, by port.
    sent: Vec<u64>,
    told: u64,
    /// Connections of the daemon whose service or real server is not configured any more.
    left_out: Vec<Assumed>,
}

impl<'a> Teller<'a> {
    fn new(
        config: &Config,
        running: &'a Running,
        packets: usize,
        made_up: &'a HashMap<Mac, IpAddr>,
    ) -> Result<Self, Failed> {
        let mut engine = Replay::new(config, 1, packets + running.connections.len(), START)?;
        let assumed = engine.assume(&running.connections);
        let left_out = running.connections.iter().zip(assumed);
        let left_out = left_out.filter(|(_, is_there)| !is_there);
        let left_out = left_out.map(|(connection, _)| connection.clone()).collect();
        if !running.reals.is_empty() {
            engine.change(START, |model| {
                for real in &running.reals {
                    let at = (real.real.ip(), real.real.port());
                    // One that the configuration no longer has is passed over, as everywhere.
                    let edits = [
                        real.weight.map(Edit::Weight),
                        (real.admin == Admin::Drained).then_some(Edit::Drain),
                        (real.admin == Admin::Disabled).then_some(Edit::Disable),
                    ];
                    for edit in edits.into_iter().flatten() {
                        let _ = model.edit(&real.service, at, edit, None);
                    }
                    let reason = &real.health_reason;
                    let _ = model.set_health(&real.service, real.real, real.health, reason);
                    let service = model.find(&real.service);
                    let reals = service.into_iter().flat_map(|service| service.reals.iter());
                    let id = reals.clone().find(|it| (it.address, it.port) == at);
                    let stats = model.stats().worker(WorkerId(0));
                    if let Some(load) = id.and_then(|real| stats.loads.get(real.id.index())) {
                        // The connections were asked for a moment before.
                        load.active.set(real.active.max(load.active.get()));
                        load.inactive.set(real.inactive.max(load.inactive.get()));
                    }
                    // What `limits` of the service goes by.
                    let all = service.and_then(|service| stats.services.get(service.id.index()));
                    if let (Some(all), Some(service)) = (all, service) {
                        let loads = service.reals.iter();
                        let loads = loads.map(|real| model.stats().load(real.id));
                        let sum = loads.map(|(active, inactive)| active + inactive).sum();
                        all.live.set(sum);
                    }
                    if let Some(cell) = id.and_then(|real| model.stats().overload(real.id)) {
                        cell.update(|_| real.overloaded);
                    }
                }
            });
        }
        Ok(Teller {
            sent: vec![0; config.ports.len()],
            engine,
            running,
            made_up,
            now: START,
            told: 0,
            left_out,
        })
    }

    fn tell(&mut self, asked_port: Option<PortId>, asked: &Asked) -> Story {
        let (port, frame, why_port) = self.receive_by(asked_port, asked);
        let known = steps::Known {
            running: self.running,
            left_out: &self.left_out,
        };
        let before = steps::Before::look(&self.engine, known, port, &frame, self.now);
        self.engine.set_captured(&[port]);
        let decision = self.engine.receive(port, &frame, self.now);
        let mut line = Vec::new();
        let n = self.told;
        self.told += 1;
        // Into memory: it cannot fail.
        let _ = replay::explain(&mut line, &self.engine, n, port, &frame, &decision);
        let out = match decision.verdict {
            Verdict::Forward(out) | Verdict::Reply(out, _) => Some(out),
            _ => None,
        };
        let (mut sent, mut own) = (Vec::new(), None);
        for frame in self.engine.take_frames().collect::<Vec<_>>() {
            let number = &mut self.sent[frame.port.index()];
            if Some(frame.port) == out && decision.out_n == Some(*number) {
                own = Some(sent.len());
            }
            *number += 1;
            sent.push((frame.port, frame.bytes().to_vec()));
        }
        let own = own.map_or(Vec::new(), |own| with_pieces(&sent, own));
        let after = steps::After {
            engine: &self.engine,
            decision: &decision,
            frames: &own,
            made_up: self.made_up,
        };
        let story = Story {
            packet: match asked {
                Asked::Words(words) => words.to_string(),
                Asked::Frame(bytes) => format!("a frame of {} bytes", bytes.len()),
            },
            steps: steps::steps(&before, &after, why_port),
            decision: serde_json::from_slice(&line).unwrap_or_default(),
            sent,
        };
        self.now = self.now + APART;
        story
    }

    /// The port that a packet comes in by, its frame, and why it is that port.
    fn receive_by(&self, asked: Option<PortId>, packet: &Asked) -> (PortId, Vec<u8>, String) {
        let config = self.engine.model().config();
        let tables = self.engine.model().tables();
        let source = match packet {
            Asked::Words(words) => Some(words.source.ip()),
            Asked::Frame(bytes) => Seen::of(bytes, None).outer_ip().map(|ip| ip.source),
        };
        let route = source.and_then(|source| Some((source, tables.routes.get(source)?)));
        let (port, why) = match (asked, route) {
            (Some(port), _) => (port, "as asked".to_owned()),
            (None, Some((source, route))) => {
                (route.port, format!("it leads to the source {source}"))
            }
            (None, None) => (
                PortId(0),
                "the first one: no route leads to the source; --port NAME names another".to_owned(),
            ),
        };
        let frame = match packet {
            Asked::Frame(bytes) => bytes.clone(),
            Asked::Words(words) => {
                let mut packet = Memory::new(port, &frame(words, tables.port(port).mac));
                door::tag(&mut packet, config.port(port).vlan);
                packet.data().to_vec()
            }
        };
        (port, frame, why)
    }
}

#[cfg(test)]
mod running_tests;
#[cfg(test)]
mod tests;

//! The same packets under two configurations: which real server each client gets, and how many connections each has at most.
//!
//! Only what clients send counts. An answer in a capture is that of the real server which the client had when it was captured, and
//! would be nonsense from any other one; so real servers' packets are left out on both sides, what failed connections say of real
//! servers (`passive`) is too, and next hops count as resolved.

use super::{Input, Replay, Unaccounted, merge, resolve};
use crate::arch::NoMemory;
use crate::config::{Config, ServiceConfig};
use crate::model::{Place, key};
use crate::net::ethertype;
use crate::service::ServiceKey;
use crate::units::Time;
use crate::verdict::Verdict;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// How the packets go through, on both sides.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub workers: usize,
    /// The most packets at once.
    pub burst: usize,
}

/// Why there is nothing to compare.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error("the memory of the tables: {0}")]
    Memory(#[from] NoMemory),
    #[error(transparent)]
    Replay(#[from] Unaccounted),
}

/// Whose packets are left out.
#[derive(Debug, Default)]
pub struct Servers {
    vips: HashSet<IpAddr>,
    reals: HashSet<IpAddr>,
}

impl Servers {
    /// Those of both configurations.
    pub fn of(configs: [&Config; 2]) -> Self {
        let services = || configs.into_iter().flat_map(|config| &config.services);
        let reals = services().flat_map(|service| service.servers());
        Servers {
            vips: services().map(|service| service.address).collect(),
            reals: reals.map(|real| real.address).collect(),
        }
    }

    /// Whether a real server sends a frame, and not as a client of a service.
    fn send(&self, frame: &[u8]) -> bool {
        ends(frame).is_some_and(|(source, destination)| {
            self.reals.contains(&source) && !self.vips.contains(&destination)
        })
    }
}

/// Where an IP packet comes from and goes to, whatever VLAN it is in.
fn ends(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    // After the MAC addresses.
    let mut rest = frame.get(12..)?;
    loop {
        let (kind, after) = rest.split_first_chunk::<2>()?;
        match u16::from_be_bytes(*kind) {
            ethertype::VLAN | ethertype::QINQ => rest = after.get(2..)?,
            ethertype::IPV4 => {
                let ip = Ipv4::new_checked(after).ok()?;
                return Some((ip.source().into(), ip.destination().into()));
            }
            ethertype::IPV6 => {
                let ip = Ipv6::new_checked(after).ok()?;
                return Some((ip.source().into(), ip.destination().into()));
            }
            _ => return None,
        }
    }
}

/// What came of the packets under one configuration.
#[derive(Debug, Default)]
pub struct Outcome {
    /// In the order of the packets that began them.
    connections: Vec<Begun>,
    /// The most connections at a time, active and inactive ones.
    peaks: HashMap<Place, u64>,
    /// Packets that went through.
    pub packets: u64,
    /// Packets of real servers, which did not.
    pub left_out: u64,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    packet: u64,
    client: IpAddr,
    place: Place,
}

/// Pushes all but the real servers' packets through a configuration's dataplane.
///
/// # Errors
/// If there is no memory for the tables; if packets ended nowhere, a bug in weir.
pub fn play(
    config: &Config,
    inputs: &[Input],
    servers: &Servers,
    how: How,
) -> Result<Outcome, Failed> {
    let all = inputs.iter().map(|input| input.capture.frames().len());
    let all: usize = all.sum();
    let clients = merge(inputs).filter(|(_, _, frame)| !servers.send(frame));
    let mut received = clients.peekable();
    let start = received.peek().map(|(_, time, _)| *time);
    let mut engine = resolved(config, how.workers, all, start.unwrap_or_default())?;
    let captured: Vec<_> = inputs.iter().map(|input| input.port).collect();
    engine.set_captured(&captured);
    let mut outcome = Outcome::default();
    while received.peek().is_some() {
        let packets = engine.gather(&mut received, how.burst);
        let decisions = engine.receive_together(&packets, how.burst);
        engine.take_frames().for_each(drop);
        for ((_, _, frame), decision) in packets.iter().zip(&decisions) {
            let packet = outcome.packets;
            outcome.packets += 1;
            // One that there was no room for is refused.
            let is_taken = matches!(decision.verdict, Verdict::Forward(_) | Verdict::Queue(_));
            let context = decision.context;
            if !context.new_connection || !is_taken {
                continue;
            }
            let model = engine.model();
            let real = context.real.filter(|real| !model.is_snat(*real));
            let place = real.and_then(|real| Some((real, *model.real(real)?)));
            let (Some((real, place)), Some((client, _))) = (place, ends(frame)) else {
                continue;
            };
            let (active, inactive) = engine.stats().load(real);
            let now = u64::from(active) + u64::from(inactive);
            let peak = outcome.peaks.entry(place).or_default();
            *peak = now.max(*peak);
            outcome.connections.push(Begun {
                packet,
                client,
                place,
            });
        }
    }
    engine.check()?;
    outcome.left_out = all as u64 - outcome.packets;
    Ok(outcome)
}

/// The dataplane of a configuration whose next hops have answered.
fn resolved(
    config: &Config,
    workers: usize,
    packets: usize,
    start: Time,
) -> Result<Replay, NoMemory> {
    let mut config = config.clone();
    resolve(&mut config, [])?;
    Replay::new(&config, workers, packets, start)
}

/// A service under both configurations.
#[derive(Debug, PartialEq, Serialize)]
pub struct ServiceCompared {
    pub name: String,
    /// As `tcp:192.0.2.80:80`.
    pub service: String,
    /// Those of the first configuration, and then what only the second one has.
    pub reals: Vec<RealCompared>,
    /// Clients of connections that began with the same packet on both sides.
    pub clients: u64,
    /// Those of them that got another real server for at least one connection.
    pub moved_clients: u64,
    /// Connections that began with the same packet on both sides.
    pub connections: u64,
    /// Those of them that got another real server.
    pub moved_connections: u64,
    /// Connections that the same packet did not begin on the other side.
    pub only_before: u64,
    pub only_after: u64,
    /// How many times its weight's share the busiest real server got.
    pub busiest_before: Option<f64>,
    pub busiest_after: Option<f64>,
}

/// A real server under both configurations. None: that one does not have it.
#[derive(Debug, PartialEq, Serialize)]
pub struct RealCompared {
    /// Port 0: the packet's.
    pub real: SocketAddr,
    pub before: Option<Share>,
    pub after: Option<Share>,
}

/// What a real server got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    pub weight: u16,
    pub clients: u64,
    /// Connections that began.
    pub connections: u64,
    /// The most at a time, active and inactive ones.
    pub peak: u64,
}

/// The services that got connections under at least one of two configurations, in the order of the files.
pub fn compare(before: (&Config, &Outcome), after: (&Config, &Outcome)) -> Vec<ServiceCompared> {
    let moves = moves(&before.1.connections, &after.1.connections);
    let (old, new) = (Side::of(before), Side::of(after));
    let known = before.0.services.iter().map(|service| key(service));
    let added = after.0.services.iter().map(|service| key(service));
    let added = added.filter(|key| !old.services.contains_key(key));
    let compared = known.chain(added).filter_map(|key| {
        let moves = moves.get(&key)?;
        let service = old.services.get(&key).or(new.services.get(&key))?;
        let mut places: Vec<_> = old.places(&key).collect();
        let added = new.places(&key).filter(|place| !places.contains(place));
        places.extend(added.collect::<Vec<_>>());
        let real = |place: &Place| RealCompared {
            real: SocketAddr::new(place.1, place.2),
            before: old.share(place),
            after: new.share(place),
        };
        Some(ServiceCompared {
            name: service.name.clone(),
            service: key.to_string(),
            reals: places.iter().map(real).collect(),
            clients: moves.clients.len() as u64,
            moved_clients: moves.moved_clients.len() as u64,
            connections: moves.connections,
            moved_connections: moves.moved_connections,
            only_before: moves.only_before,
            only_after: moves.only_after,
            busiest_before: old.busiest(&key),
            busiest_after: new.busiest(&key),
        })
    });
    compared.collect()
}

/// What a real server got: from how many clients, how many connections.
#[derive(Default)]
struct Tally {
    clients: HashSet<IpAddr>,
    connections: u64,
}

/// One of the two configurations, with what came of the packets there.
struct Side<'a> {
    outcome: &'a Outcome,
    services: HashMap<ServiceKey, &'a ServiceConfig>,
    tallies: HashMap<Place, Tally>,
}

impl<'a> Side<'a> {
    fn of((config, outcome): (&'a Config, &'a Outcome)) -> Self {
        let mut tallies: HashMap<Place, Tally> = HashMap::new();
        for begun in &outcome.connections {
            let tally = tallies.entry(begun.place).or_default();
            tally.clients.insert(begun.client);
            tally.connections += 1;
        }
        let services = config.services.iter();
        Side {
            outcome,
            services: services.map(|it| (key(it), &**it)).collect(),
            tallies,
        }
    }

    /// A service's real servers and fallback servers.
    fn places(&self, key: &ServiceKey) -> impl Iterator<Item = Place> {
        let servers = self.services.get(key).into_iter();
        let servers = servers.flat_map(|service| service.servers());
        servers.map(|real| (*key, real.address, real.port))
    }

    /// None: there is no such real server.
    fn share(&self, place: &Place) -> Option<Share> {
        let (key, address, port) = *place;
        let mut servers = self.services.get(&key)?.servers();
        let real = servers.find(|real| (real.address, real.port) == (address, port))?;
        let tally = self.tallies.get(place);
        Some(Share {
            weight: real.weight,
            clients: tally.map_or(0, |tally| tally.clients.len() as u64),
            connections: tally.map_or(0, |tally| tally.connections),
            peak: self.outcome.peaks.get(place).copied().unwrap_or(0),
        })
    }

    /// How many times its weight's share of the connections the busiest real server got. None: they got none. Fallback
    /// servers are not counted: they get something only while the others do not.
    fn busiest(&self, key: &ServiceKey) -> Option<f64> {
        let reals = self.services.get(key)?.reals.iter();
        let shares = reals.filter_map(|real| self.share(&(*key, real.address, real.port)));
        let shares: Vec<_> = shares.filter(|share| share.weight > 0).collect();
        let connections: u64 = shares.iter().map(|share| share.connections).sum();
        let weights: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
        let fair = connections as f64 / weights as f64;
        let times = |share: &Share| share.connections as f64 / f64::from(share.weight) / fair;
        let most = shares.iter().map(times).max_by(f64::total_cmp);
        most.filter(|_| connections > 0)
    }
}

/// What differs between the connections of a service on two sides.
#[derive(Default)]
struct Moves {
    clients: HashSet<IpAddr>,
    moved_clients: HashSet<IpAddr>,
    connections: u64,
    moved_connections: u64,
    only_before: u64,
    only_after: u64,
}

fn moves(before: &[Begun], after: &[Begun]) -> HashMap<ServiceKey, Moves> {
    let mut moves: HashMap<ServiceKey, Moves> = HashMap::new();
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let next = [before.peek(), after.peek()];
        let Some(packet) = next.into_iter().flatten().map(|it| it.packet).min() else {
            return moves;
        };
        let old = before.next_if(|it| it.packet == packet);
        let new = after.next_if(|it| it.packet == packet);
        if let (Some(old), Some(new)) = (old, new)
            && old.place.0 == new.place.0
        {
            let moves = moves.entry(old.place.0).or_default();
            moves.clients.insert(old.client);
            moves.connections += 1;
            if old.place != new.place {
                moves.moved_clients.insert(old.client);
                moves.moved_connections += 1;
            }
            continue;
        }
        if let Some(old) = old {
            moves.entry(old.place.0).or_default().only_before += 1;
        }
        if let Some(new) = new {
            moves.entry(new.place.0).or_default().only_after += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(service: &str, real: &str) -> Place {
        let real: SocketAddr = real.parse().unwrap();
        (service.parse().unwrap(), real.ip(), real.port())
    }

    #[test]
    fn connections_are_paired_by_the_packet_that_began_them() {
        const WEB: &str = "tcp:192.0.2.80:80";
        let begun = |packet, client: u8, service: &str, real: u8| Begun {
            packet,
            client: IpAddr::from([203, 0, 113, client]),
            place: place(service, &format!("10.0.0.{real}:80")),
        };
        // Packets 0 to 3 on both sides; 4 and 6 on one each; 5 in another service.
        let before = [
            begun(0, 1, WEB, 11),
            begun(1, 2, WEB, 12),
            begun(2, 1, WEB, 12),
            begun(3, 3, WEB, 11),
            begun(4, 4, WEB, 11),
            begun(5, 5, WEB, 11),
        ];
        let after = [
            begun(0, 1, WEB, 11),
            begun(1, 2, WEB, 12),
            begun(2, 1, WEB, 11),
            begun(3, 3, WEB, 12),
            begun(5, 5, "tcp:192.0.2.80:0", 11),
            begun(6, 4, WEB, 11),
        ];
        let found = moves(&before, &after);
        let told = |service: &str| {
            let it = &found[&service.parse().unwrap()];
            (
                (it.clients.len(), it.moved_clients.len()),
                (it.connections, it.moved_connections),
                (it.only_before, it.only_after),
            )
        };
        assert_eq!(told(WEB), ((3, 2), (4, 2), (2, 1)));
        assert_eq!(told("tcp:192.0.2.80:0"), ((0, 0), (0, 0), (0, 1)));
        // The other way round the sides change places.
        let back = moves(&after, &before);
        let it = &back[&WEB.parse().unwrap()];
        assert_eq!(
            (it.moved_connections, it.only_before, it.only_after),
            (2, 1, 2)
        );
    }
}

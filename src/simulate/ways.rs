//! The ways of packets: over links, by the router to a node, to a real server, and back.

use super::MILLISECOND;
use super::client::Ended;
use super::packet::Packet;
use super::report::{Excuse, Violation};
use super::server::Noticed;
use super::world::{Event, FAR, Life, Service, World};
use crate::config::ModeConfig;
use crate::net::Mac;
use crate::replay::{self, Frame};
use std::net::{IpAddr, SocketAddr};

/// Between a real server and a node.
const NEAR: u64 = MILLISECOND;
/// How much later an overtaken packet comes.
const LATE: u64 = 5 * MILLISECOND;

impl World<'_> {
    /// A packet goes over a link of that length.
    pub(super) fn link(&mut self, length: u64, event: impl Fn() -> Event) {
        let network = self.plan.network;
        let copies = match self.random.happens(network.loss) {
            true => 0,
            false => 1 + usize::from(self.random.happens(network.duplication)),
        };
        for _ in 0..copies {
            let late = match self.random.happens(network.reordering) {
                true => self.random.below(LATE),
                false => 0,
            };
            self.plan(self.now + length + late, event());
        }
    }

    pub(super) fn request(&mut self, packet: &Packet) {
        let number = self.life_of(packet.source, packet.is_tcp);
        let Some(node) = self.router.pick(&flow(packet)) else {
            if let Some(number) = number {
                self.touch(number, Excuse::NoNode);
            }
            return;
        };
        self.receive(node, packet, packet.source.ip(), number);
    }

    pub(super) fn receive(
        &mut self,
        node: usize,
        packet: &Packet,
        from: IpAddr,
        number: Option<u32>,
    ) {
        let Some(frames) = self.nodes[node].receive(packet, from, self.now) else {
            if let Some(number) = number {
                self.touch(number, Excuse::NoNode);
            }
            return;
        };
        self.report.packets += 1;
        if let Err(replay::Unaccounted(packets)) = self.nodes[node].check() {
            let violation = Violation::Unaccounted { node, packets };
            self.report.violations.push(violation);
        }
        if let Some(number) = number {
            self.note_home(number, self.nodes[node].home());
        }
        self.send_all(frames);
    }

    /// What a node sends goes where it is to go.
    pub(super) fn send_all(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            self.send(frame.bytes());
        }
    }

    pub(super) fn send(&mut self, frame: &[u8]) {
        let Some((packet, outer)) = Packet::parse(frame) else {
            return;
        };
        let on_link = || {
            let mac = frame.first_chunk().copied().map(Mac)?;
            self.by_mac.get(&mac).copied()
        };
        let real = match self.reals.contains(&outer) {
            true => Some(outer),
            false if self.vips.contains(&packet.destination.ip()) => on_link(),
            false => None,
        };
        match real {
            Some(real) => self.link(NEAR, || Event::ToReal(real, packet)),
            None => self.link(FAR, || Event::ToClient(packet)),
        }
    }

    pub(super) fn serve(&mut self, real: IpAddr, packet: &Packet) {
        let local = self.local_of(real, packet);
        let (answer, noticed) = self.servers.receive(real, packet, local);
        self.notice(real, noticed);
        let Some(answer) = answer else {
            return;
        };
        match self.vips.contains(&local.ip()) {
            true => self.link(FAR, || Event::ToClient(answer)),
            false => self.link(NEAR, || Event::Reply(real, answer)),
        }
    }

    /// What a packet is to, as the real server sees it: where a DSCP says so, the VIP.
    pub(super) fn local_of(&self, real: IpAddr, packet: &Packet) -> SocketAddr {
        let said_by = |service: &&Service| {
            let config = &service.config;
            let is_so = matches!(config.mode, ModeConfig::L3dsr { dscp } if dscp == packet.dscp);
            is_so && config.servers().any(|server| server.address == real)
        };
        let service = self.services.iter().find(said_by);
        service.map_or(packet.destination, |service| {
            SocketAddr::new(service.config.address, packet.destination.port())
        })
    }

    pub(super) fn notice(&mut self, real: IpAddr, noticed: Noticed) {
        let lives = |number: u32| {
            let life = self.lives.get(number as usize)?;
            let is_whole = self.excuse(life, Ended::Silence).is_none();
            (life.client.is_alive() && is_whole).then_some(number)
        };
        let violation = match noticed {
            Noticed::Nothing => None,
            Noticed::OpensAnew(first) => {
                lives(first).map(|connection| Violation::OpenedTwice { real, connection })
            }
            Noticed::Mixed(first, second) => lives(first).map(|first| Violation::Mixed {
                real,
                first,
                second,
            }),
            Noticed::Asked(number) => {
                let changes = |life: &Life| self.services[life.service].changes;
                match self.lives.get(number as usize) {
                    Some(life) if life.real.is_some_and(|first| first != real) => {
                        let may_move = !life.client.is_tcp
                            && (self.excuse(life, Ended::Silence).is_some()
                                || changes(life) != life.changes);
                        let first = life.real.unwrap_or(real);
                        (!may_move).then_some(Violation::TwoRealServers {
                            connection: number,
                            first,
                            second: real,
                        })
                    }
                    _ => None,
                }
            }
        };
        if let Noticed::Asked(number) = noticed
            && let Some(life) = self.lives.get_mut(number as usize)
        {
            life.real = Some(real);
        }
        self.report.violations.extend(violation);
    }

    /// By the owner of the address that it goes to, or by the router of the real servers.
    pub(super) fn reply(&mut self, real: IpAddr, packet: &Packet) {
        let to = packet.destination;
        if let Some(&owner) = self.owners.get(&to.ip()) {
            return self.receive(owner, packet, real, None);
        }
        let number = self.life_of(to, packet.is_tcp);
        match self.router.pick(&flow(packet)) {
            Some(node) => self.receive(node, packet, real, number),
            None => {
                if let Some(number) = number {
                    self.touch(number, Excuse::NoNode);
                }
            }
        }
    }
}

/// What a router takes for a flow: its addresses, ports and protocol.
fn flow(packet: &Packet) -> Vec<u8> {
    let mut flow = Vec::with_capacity(37);
    for end in [packet.source, packet.destination] {
        match end.ip() {
            IpAddr::V4(address) => flow.extend(address.octets()),
            IpAddr::V6(address) => flow.extend(address.octets()),
        }
        flow.extend(end.port().to_be_bytes());
    }
    flow.push(u8::from(packet.is_tcp));
    flow
}

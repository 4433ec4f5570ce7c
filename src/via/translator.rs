//! Makes of what the host sends to private addresses what a client's packet becomes, and gives the answers their private addresses
//! back. Belongs to the companions' thread.

use super::flows::{Flow, Flows};
use super::header::{self, Ends, Header, Kind};
use super::{NEXT_HOP, Ways};
use crate::config::CheckAddresses;
use crate::conn::{Connection, Connection6, Key, Translation};
use crate::forward::error::{self, Places};
use crate::forward::identification::Identifications;
use crate::forward::rewrite::{self, Form, Layout, set_macs};
use crate::forward::rewrite6;
use crate::forward::tunnel::{self, Inner, Outer, Tunnel, Via};
use crate::neighbour::Link;
use crate::packet::Packet;
use crate::service::{Real, ServiceKey};
use crate::tables::{Owner, Service, Tables};
use crate::units::{PortId, RealId};
use crate::wire::ethernet;
use crate::wire::icmp::Icmp;
use crate::wire::icmpv6::Icmpv6;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// The ports that checks come from, where they share the address with no pool; the same of echo requests' identifiers.
const PORTS: (u16, u16) = (1024, u16::MAX);

/// What a packet for the host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No check's: the host's own, as it is.
    No,
    /// Now it comes from the private address: for the companion of this port.
    Of(PortId),
    /// To an address that the host has not, and no check waits for it.
    Stray,
}

pub struct Translator {
    ways: Arc<Ways>,
    flows: Flows,
    identifications: Identifications,
}

/// Where a check goes.
struct Goal<'t> {
    service: &'t Service,
    real: &'t Real,
    port: PortId,
    link: Link,
}

impl Translator {
    /// `seed`: where the ports begin that checks come from.
    pub fn new(ways: Arc<Ways>, seed: u64) -> Self {
        Translator {
            ways,
            flows: Flows::new(seed as u16),
            identifications: Identifications::new(0, 1),
        }
    }

    /// Whether the host sends a frame to a private address.
    pub fn is_check(frame: &[u8]) -> bool {
        frame.first_chunk() == Some(&NEXT_HOP.0)
    }

    /// Forgets the checks that are over.
    pub fn tick(&mut self, now: Instant) {
        self.flows.tick(now);
    }

    /// Turns a packet to a private address into what the real server gets: returns the port that it leaves by. None, and a frame
    /// of any bytes, if it has no way: the check goes without an answer, as a client would.
    pub fn send<P: Packet>(&mut self, packet: &mut P, now: Instant) -> Option<PortId> {
        let header = header::read(packet.data())?;
        let Kind::Whole(request) = header.kind else {
            return None;
        };
        // Translated and wrapped, it loses two.
        if header.ttl <= 2 {
            return None;
        }
        let ways = self.ways.clone();
        let known = ways.known.read();
        let tables = known.tables.as_deref()?;
        // The host's own, and no other machine's that it forwards for.
        tables.addresses.get(&request.source.0)?;
        let (service, real) = known.book.target(header.destination)?;
        let goal = goal(tables, service, *real)?;
        let destination = match goal.service.mode.sees_replies {
            true => goal.real.address,
            false => goal.service.key.address,
        };
        let flow = self.flow(request, destination, &goal, tables, now)?;
        let tunnel = goal
            .service
            .mode
            .wraps
            .then(|| tables.tunnels.get(goal.real.id));
        let tunnel = match tunnel {
            None => None,
            Some(tunnel) => Some(tunnel?),
        };
        let port = tables.port(goal.port);
        let overhead = tunnel.map_or(0, Tunnel::overhead);
        if header.length.saturating_add(overhead) > port.mtu {
            return None;
        }
        translate(packet.data_mut(), &header, &flow, false)?;
        if let Some(tunnel) = tunnel {
            self.wrap(packet, &header, &flow, tunnel, goal.port, tables)?;
        }
        set_macs(packet.data_mut(), goal.link.mac, port.mac);
        Some(goal.port)
    }

    /// The flow of a check's packet: the one that it has, unless the service has become another since.
    fn flow(
        &mut self,
        request: Ends,
        destination: IpAddr,
        goal: &Goal<'_>,
        tables: &Tables,
        now: Instant,
    ) -> Option<Flow> {
        let sources = sources(destination, goal, tables);
        if let Some(flow) = self.flows.by_request(&request, now)
            && flow.sent.destination.0 == destination
            && sources.contains(&flow.sent.source.0)
        {
            return Some(flow);
        }
        let ports = match (&goal.service.pool, request.is_icmp()) {
            (Some(_), false) => CheckAddresses::PORTS,
            _ => PORTS,
        };
        let destination = (destination, request.destination.1);
        self.flows.add(request, &sources, ports, destination, now)
    }

    fn wrap<P: Packet>(
        &mut self,
        packet: &mut P,
        header: &Header,
        flow: &Flow,
        tunnel: &Tunnel,
        port: PortId,
        tables: &Tables,
    ) -> Option<()> {
        if let Via::Marked { dscp } = tunnel.via {
            let (l4, protocol) = (usize::from(header.l4), flow.sent.protocol);
            return tunnel::mark(packet.data_mut(), l4, protocol, tunnel.destination, dscp);
        }
        if !tunnel::make_room(packet, header.length, tunnel.overhead()) {
            return None;
        }
        let inner = Inner {
            is_v6: header.destination.is_ipv6(),
            hash: u64::from(flow.sent.source.1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        };
        let outer = Outer {
            sources: &tables.port(port).outer_sources,
            is_fragmented: false,
        };
        tunnel.wrap(packet.data_mut(), inner, outer, &mut self.identifications)
    }

    /// Takes a packet for the host behind a port, which may be the answer to a check.
    pub fn hear<P: Packet>(&mut self, packet: &mut P, now: Instant) -> Answer {
        let ways = self.ways.clone();
        let known = ways.known.read();
        if known.book.is_empty() {
            return Answer::No;
        }
        let Some(tables) = known.tables.as_deref() else {
            return Answer::No;
        };
        if let Some(header) = header::read(packet.data())
            && let Some(port) = self.answer(packet, &header, tables, now)
        {
            return Answer::Of(port);
        }
        let Some((source, destination)) = header::addresses(packet.data()) else {
            return Answer::No;
        };
        let is_vip = tables.addresses.get(&source) == Some(&Owner::Vip);
        match tables.owner(packet.port(), destination) {
            Some(Owner::Port(port)) if port == packet.port() && !is_vip => Answer::No,
            None if !is_vip => Answer::No,
            _ => Answer::Stray,
        }
    }

    fn answer<P: Packet>(
        &mut self,
        packet: &mut P,
        header: &Header,
        tables: &Tables,
        now: Instant,
    ) -> Option<PortId> {
        let answer = match header.kind {
            Kind::Whole(ends) => ends,
            // About what the check has sent.
            Kind::Error(quoted, _) => quoted.reversed(),
        };
        let flow = self.flows.by_answer(&answer, now)?;
        let checks = (*tables.checks.of(flow.request.destination.0))?;
        let companion = self.ways.companion(checks.port)?;
        if header.ttl <= 1 {
            return None;
        }
        translate(packet.data_mut(), header, &flow, true)?;
        set_macs(packet.data_mut(), companion.mac, NEXT_HOP);
        Some(checks.port)
    }

    #[cfg(test)]
    pub(super) fn flows(&self) -> (usize, usize) {
        self.flows.len()
    }
}

/// The way to a real server of a service; none where its next hop is not known.
fn goal<'t>(tables: &'t Tables, service: &ServiceKey, real: IpAddr) -> Option<Goal<'t>> {
    let service: &Service = tables.services.get(service)?;
    let real = service.reals.iter().find(|known| known.address == real)?;
    let route = tables.routes.get(real.address)?;
    let hop = match route.gateway {
        Some((hop, _)) => hop,
        None => tables.neighbours.find(route.port, real.address)?,
    };
    let link = tables.neighbours.link(hop);
    (link.is_usable() && !tables.neighbours.is_link_down(route.port)).then_some(Goal {
        service,
        real,
        port: route.port,
        link,
    })
}

/// What a check comes from, so that its answer arrives: what the mode's answers go to.
fn sources(destination: IpAddr, goal: &Goal<'_>, tables: &Tables) -> Vec<IpAddr> {
    let service = goal.service;
    if let Some(pool) = &service.pool {
        return pool.addresses.to_vec();
    }
    let Some(checks) = *tables.checks.of(destination) else {
        return Vec::new();
    };
    if service.mode.sees_replies {
        // Only the real server's gateway brings the answer: no link has that address.
        return vec![checks.source];
    }
    // The real server answers a client from the VIP itself. What it reaches best is the port that it is behind.
    let towards = match goal.real.address.is_ipv6() == destination.is_ipv6() {
        true => goal.real.address,
        false => destination,
    };
    let nearest = tables.address_towards(goal.port, towards);
    let own = nearest.or_else(|| tables.address_towards(checks.port, destination));
    own.into_iter().collect()
}

/// Gives a packet the other side's addresses, and takes one from the TTL. `reply`: it is an answer. None, and a frame of any
/// bytes, if that cannot be.
fn translate(frame: &mut [u8], header: &Header, flow: &Flow, reply: bool) -> Option<()> {
    match (header.kind, header.destination) {
        (Kind::Whole(ends), _) if ends.is_icmp() => echo(frame, header, flow, reply),
        (Kind::Whole(_), IpAddr::V4(_)) => {
            let form = Form::whole(Layout { l4: header.l4 });
            rewrite::translate(frame, form, &connection(flow)?, reply);
            Some(())
        }
        (Kind::Whole(_), IpAddr::V6(_)) => {
            let form = Form::whole(Layout { l4: header.l4 });
            let connection: Connection6 = connection(flow)?;
            rewrite6::rewrite(frame, form, &connection, reply);
            Some(())
        }
        (Kind::Error(_, quoted), destination) => {
            let layout = Layout { l4: header.l4 };
            let places = Places::new(layout, header.length, quoted);
            match destination {
                IpAddr::V4(_) => error::rewrite(frame, places, &connection(flow)?, reply),
                IpAddr::V6(_) => error::rewrite_v6(frame, places, &connection(flow)?, reply),
            }
        }
    }
}

/// The flow as a connection whose packets are translated.
fn connection<K: Key>(flow: &Flow) -> Option<Connection<K>> {
    let sent: K = flow.sent.key()?;
    let translation = Translation {
        source: sent.source(),
        source_port: sent.source_port(),
        destination: sent.destination(),
        destination_port: sent.destination_port(),
        is_applied: true,
        sees_replies: true,
        is_wrapped: false,
    };
    Some(Connection::new(flow.request.key()?, translation, RealId(0)))
}

/// As [`translate`], of an echo request or reply, whose identifier is translated as others' ports.
fn echo(frame: &mut [u8], header: &Header, flow: &Flow, reply: bool) -> Option<()> {
    let to = match reply {
        false => flow.sent,
        true => flow.request.reversed(),
    };
    let identifier = match reply {
        false => to.source.1,
        true => to.destination.1,
    };
    let end = ethernet::HEADER_LEN + usize::from(header.length);
    let (before, message) = frame
        .get_mut(..end)?
        .split_at_mut_checked(usize::from(header.l4))?;
    message
        .get_mut(4..6)?
        .copy_from_slice(&identifier.to_be_bytes());
    let packet = before.get_mut(ethernet::HEADER_LEN..)?;
    match (to.source.0, to.destination.0) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut ip = Ipv4::new_quoted(packet).ok()?;
            ip.decrement_ttl();
            ip.readdress(source, destination);
            Icmp::new_checked(message).ok()?.fill_checksum();
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut ip = Ipv6::new_quoted(packet).ok()?;
            ip.decrement_hop_limit();
            ip.readdress(source, destination);
            let pseudo = ip.pseudo_header(to.protocol, message.len() as u32);
            Icmpv6::new_checked(message).ok()?.fill_checksum(pseudo);
        }
        _ => return None,
    }
    Some(())
}

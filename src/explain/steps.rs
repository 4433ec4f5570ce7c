//! What was there before a packet, and the steps to where it goes, in words.

use super::connection::Held;
use super::seen::{Header, Seen};
use super::{Assumed, Running, Step, outcome, service};
use crate::config::Protocol;
use crate::model::{Model, why_no_way};
use crate::net::{Mac, is_link_local, masked, protocol};
use crate::replay::{Decision, Replay};
use crate::sched::is_overloaded;
use crate::service::{Role, ServiceKey, Why};
use crate::tables::{Owner, Service, Tables};
use crate::units::{PortId, RealId, Time};
use crate::verdict::{DropReason, ReplyReason, Verdict};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// So many real servers are listed beside the one that is chosen.
const LISTED: usize = 16;

/// A TCP segment, a UDP datagram or an SCTP packet.
#[derive(Clone, Copy)]
struct Flow {
    protocol: Protocol,
    source: SocketAddr,
    destination: SocketAddr,
}

impl Flow {
    fn of(seen: &Seen) -> Option<Flow> {
        let (number, _) = seen.ports()?;
        let (source, destination) = seen.ends()?;
        let protocol = match number {
            protocol::TCP => Protocol::Tcp,
            protocol::SCTP => Protocol::Sctp,
            _ => Protocol::Udp,
        };
        Some(Flow {
            protocol,
            source,
            destination,
        })
    }

    /// IP's number of its protocol.
    fn number(&self) -> u8 {
        self.protocol.number()
    }
}

/// A real server that the scheduler could choose, as it was.
struct Candidate {
    id: RealId,
    line: String,
}

/// What a packet finds.
pub(super) struct Before {
    port: PortId,
    pub seen: Seen,
    flow: Option<Flow>,
    pub held: Option<Held>,
    pub service: Option<Arc<Service>>,
    clients: Option<Step>,
    bond: Option<Held>,
    candidates: Vec<Candidate>,
    /// The real server of the daemon's connection, which the configuration does not have any more.
    gone: Option<SocketAddr>,
}

/// What is known beside the engine.
pub(super) struct Known<'a> {
    pub running: &'a Running,
    /// The daemon's connections that the engine cannot have.
    pub left_out: &'a [Assumed],
}

/// What became of it.
pub(super) struct After<'a> {
    pub engine: &'a Replay,
    pub decision: &'a Decision,
    /// The packet itself as it goes on, in pieces perhaps; or what answers it.
    pub frames: &'a [Vec<u8>],
    /// MAC addresses that stand for ones that neighbours would tell.
    pub made_up: &'a HashMap<Mac, IpAddr>,
}

impl Before {
    pub(super) fn look(
        engine: &Replay,
        known: Known<'_>,
        port: PortId,
        frame: &[u8],
        now: Time,
    ) -> Before {
        let running = known.running;
        let (model, tables) = (engine.model(), engine.model().tables());
        // What is inside another packet is not asked for a service.
        let seen = Seen::of(frame, None);
        let is_whole = seen
            .headers
            .iter()
            .filter(|it| matches!(it, Header::Ip(_)))
            .count()
            == 1;
        let flow = Flow::of(&seen).filter(|_| is_whole);
        let held = flow.and_then(|flow| {
            Held::find(engine, flow.number(), (flow.source, flow.destination), now)
        });
        let found = flow.and_then(|flow| service_of(model, tables, &flow));
        let client = flow.map(|flow| flow.source);
        let guard = found
            .as_ref()
            .and_then(|service| Some((service, service.guard.as_ref()?)));
        let live = |service: &Service| {
            let of_running = running
                .reals
                .iter()
                .filter(|real| real.service == service.key);
            let of_running: u32 = of_running.map(|real| real.active + real.inactive).sum();
            model.stats().connections(service.id).max(of_running)
        };
        let clients = guard.zip(client).map(|((service, guard), client)| {
            service::admission(service, guard, client, live(service), now)
        });
        let bond = found.as_ref().zip(client).and_then(|(service, client)| {
            let prefix = service.persistence?.prefix;
            let vip = SocketAddr::new(service.key.address, service.key.port);
            Held::bond(engine, masked_address(client.ip(), prefix), vip, now)
        });
        let gone = flow.and_then(|flow| {
            let ends = (flow.source, flow.destination);
            let found = known.left_out.iter().find(|it| {
                it.protocol == flow.protocol
                    && ((it.client, it.vip) == ends
                        || (it.real, it.local.unwrap_or(it.client)) == ends)
            });
            found.map(|it| it.real)
        });
        Before {
            port,
            candidates: found
                .as_deref()
                .map_or(Vec::new(), |it| candidates(model, tables, it)),
            flow,
            held,
            service: found,
            clients,
            bond,
            gone,
            seen,
        }
    }
}

fn service_of(model: &Model, tables: &Tables, flow: &Flow) -> Option<Arc<Service>> {
    let (protocol, port) = (flow.protocol, flow.destination.port());
    let key = match flow.destination.ip() {
        IpAddr::V4(address) => tables.service(&ServiceKey {
            protocol,
            address,
            port,
            last: 0,
        }),
        IpAddr::V6(address) => tables.service(&ServiceKey {
            protocol,
            address,
            port,
            last: 0,
        }),
    }?
    .key;
    model.find(&key).cloned()
}

fn masked_address(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => masked(address, prefix).into(),
        IpAddr::V6(_) => {
            let net = ipnet::IpNet::new(address, prefix.min(128));
            net.map_or(address, |net| net.network())
        }
    }
}

/// The servers of a service in the order of the configuration, with what a scheduler sees of each.
fn candidates(model: &Model, tables: &Tables, service: &Service) -> Vec<Candidate> {
    let of = |(real, role): (&crate::service::Real, Role)| {
        let at = (real.address, real.port);
        let file = model.file_weight(&service.key, at).unwrap_or(real.weight);
        let state = model.state(real.id);
        let condition = state.map(|state| state.condition()).unwrap_or_default();
        let found = state.and_then(|state| state.reason.as_deref());
        let (active, inactive) = model.stats().load(real.id);
        let why = condition.why_none_of(role, service.serving, file);
        let why = why.map(|why| match (why, found) {
            (Why::Down, Some(found)) => format!("{}: {found}", why.name()),
            _ => why.name().to_owned(),
        });
        let why = why.or_else(|| {
            is_overloaded(real, model.stats())
                .then(|| "as many connections as `max_connections` says".to_owned())
        });
        let why = why.or_else(|| why_no_way(tables, real.address));
        let weights = match real.weight == file {
            true => format!("weight {file}"),
            false => format!("weight {file}, effective {}", real.weight),
        };
        let mut line = format!(
            "{}, {weights}, {active} active and {inactive} inactive connections",
            SocketAddr::new(real.address, real.port)
        );
        if role == Role::Fallback {
            line += ", a fallback server";
        }
        if let Some(why) = why {
            line += &format!(": not now, {why}");
        }
        Candidate { id: real.id, line }
    };
    service.servers().map(of).collect()
}

/// The steps from one to the other.
pub(super) fn steps(before: &Before, after: &After, why_port: String) -> Vec<Step> {
    let mut steps = vec![
        step("packet", before.seen.to_string()),
        port(before, after, why_port),
    ];
    let is_readable = !matches!(after.decision.verdict, Verdict::Drop(reason) if is_unread(reason));
    if is_readable {
        steps.extend(destination(before, after));
        steps.extend(connection(before, after));
        if before.held.is_none() {
            steps.extend(new_connection(before, after));
        }
    }
    steps.extend(outcome::steps(before, after));
    steps
}

pub(super) fn step(step: &'static str, says: impl Into<String>) -> Step {
    Step {
        step,
        says: says.into(),
        details: Vec::new(),
    }
}

/// Whether a packet is dropped before anything is asked about its addresses.
fn is_unread(reason: DropReason) -> bool {
    use DropReason::*;
    matches!(
        reason,
        Truncated
            | OtherHost
            | UnknownEthertype
            | OtherVlan
            | BadSourceMac
            | Ipv6
            | BadIpHeader
            | SourceRoute
            | RoutingHeader
            | BadIpChecksum
            | BadL4Header
    )
}

fn port(before: &Before, after: &After, why: String) -> Step {
    let config = after.engine.model().config();
    let entered = after.decision.port;
    let of = config.port(entered);
    let mut details = Vec::new();
    if entered != before.port {
        let asked = &config.port(before.port).name;
        details.push(format!(
            "its VLAN tags are those of {}, on the device of {asked}",
            of.name
        ));
    }
    if of.mac.is_some()
        && before.seen.destination_mac != after.engine.model().tables().port(entered).mac
    {
        details.push(format!(
            "the port's MAC address is {}",
            after.engine.model().tables().port(entered).mac
        ));
    }
    Step {
        step: "port",
        says: format!("it comes in by {}: {why}", config.port(before.port).name),
        details,
    }
}

/// Whose address it is to.
fn destination(before: &Before, after: &After) -> Option<Step> {
    let ip = before.seen.outer_ip()?;
    let (model, to) = (after.engine.model(), ip.destination);
    let tables = model.tables();
    let owner = tables.owner(after.decision.port, to);
    let says = match owner {
        Some(Owner::Vip) => format!("{to} is a VIP"),
        Some(Owner::Port(port)) => format!("{to} is an address of port {}", tables.port(port).name),
        Some(Owner::Pool) => format!("{to} is an address of a [[local_pool]]"),
        Some(Owner::Checks) => format!("{to} is where weir's own health checks come from"),
        None => format!("{to} is no address of weir's"),
    };
    let mut step = step("destination", says);
    if owner.is_none() && !is_link_local(to) {
        step.details
            .push(route(model, to).unwrap_or_else(|| "no route leads there".into()));
    }
    Some(step)
}

/// Which route leads to an address: the most exact of those of the configuration and of the ports' subnets.
pub(super) fn route(model: &Model, to: IpAddr) -> Option<String> {
    let (tables, config) = (model.tables(), model.config());
    let route = tables.routes.get(to)?;
    let port = &tables.port(route.port).name;
    Some(match route.gateway {
        None => {
            let nets = config.ports.iter().flat_map(|port| &port.addresses);
            let nets = nets.filter(|net| net.contains(&to));
            let net = nets.max_by_key(|net| net.prefix_len());
            let net = net.map_or(String::new(), |net| format!(" {}", net.trunc()));
            format!("{to} is in the subnet{net} of {port}")
        }
        Some((_, via)) => {
            let routes = config.routes.iter().filter(|it| it.to.contains(&to));
            let best = routes.max_by_key(|it| it.to.prefix_len());
            let best = best.map_or("a router's advertisement".to_owned(), |it| {
                it.to.to_string()
            });
            format!("the route {best} leads to {to}, by {via} on {port}")
        }
    })
}

fn connection(before: &Before, after: &After) -> Option<Step> {
    before.flow?;
    let model = after.engine.model();
    let context = &after.decision.context;
    let Some(held) = before.held else {
        let is_stray = !context.new_connection
            && !matches!(before.seen.headers.last(), Some(Header::Tcp { flags, .. }) if flags.opens());
        let is_tcp = before
            .flow
            .is_some_and(|flow| flow.protocol == Protocol::Tcp);
        let is_once = before
            .service
            .as_ref()
            .is_some_and(|service| service.one_packet);
        let mut step = step(
            "connection",
            match (context.new_connection, is_tcp && is_stray) {
                (true, _) if is_once => "none, and none is kept",
                (true, _) => "none: the packet begins one",
                (false, true) if context.real.is_some() => {
                    "none is needed: the service's mode sees no replies, and any director chooses the same real server"
                }
                (false, true) => "none, and a segment that is no SYN begins none",
                (false, false) => "none",
            },
        );
        if let Some(real) = before.gone {
            step.details.push(format!(
                "the daemon has one, of the real server {real}, which is not configured any more: this tells what becomes of a packet without it"
            ));
        }
        return Some(step);
    };
    let (whose, state) = match held.is_reply {
        true => ("a reply", held.state),
        false => ("a request", held.state),
    };
    let name = model
        .service_of(held.id)
        .and_then(|id| model.service_name(id));
    let name = name.map_or(String::new(), |name| format!(" of {name}"));
    let mut step = step(
        "connection",
        format!("{whose} of a known connection{name}, in state {state} before it"),
    );
    step.details
        .push(format!("client {}, VIP {}", held.client, held.vip));
    if let Some((_, address, port)) = model.real(held.id) {
        let port = if *port == 0 { held.real.port() } else { *port };
        step.details
            .push(format!("real server {}", SocketAddr::new(*address, port)));
    }
    let is_fullnat = held.local != held.client && held.real != held.vip;
    if is_fullnat {
        step.details.push(format!("local pair {}", held.local));
    }
    let left = humantime::format_duration(std::time::Duration::from_secs(held.left_s));
    step.details
        .push(format!("without another packet it ends in {left}"));
    Some(step)
}

/// What a packet of no connection is asked.
fn new_connection(before: &Before, after: &After) -> Vec<Step> {
    let model = after.engine.model();
    let Some(flow) = before.flow else {
        return Vec::new();
    };
    let is_ours = matches!(
        model
            .tables()
            .owner(after.decision.port, flow.destination.ip()),
        Some(Owner::Vip)
    );
    if !is_ours && before.service.is_none() {
        return Vec::new();
    }
    let found = before.service.as_deref();
    let mut steps = vec![service::step(model, found, flow.protocol, flow.destination)];
    let Some(service) = found else {
        return steps;
    };
    steps.extend(before.clients.clone());
    let context = &after.decision.context;
    let is_scheduled = context.real.is_some()
        || matches!(
            after.decision.verdict,
            Verdict::Reply(_, ReplyReason::NoRealServer | ReplyReason::HostUnreachable)
                | Verdict::Drop(
                    DropReason::NoRealServer
                        | DropReason::NoRoute
                        | DropReason::LocalPortsExhausted
                        | DropReason::AmbiguousReply
                )
        );
    if !is_scheduled {
        return steps;
    }
    let is_chosen = context.real.is_some();
    steps.extend(persistence(before, service, flow.source.ip(), is_chosen));
    steps.push(scheduler(before, service, context.real));
    steps
}

fn persistence(
    before: &Before,
    service: &Service,
    client: IpAddr,
    is_chosen: bool,
) -> Option<Step> {
    let persistence = service.persistence?;
    let bound = masked_address(client, persistence.prefix);
    let who = format!("{bound}/{}", persistence.prefix);
    let seconds = persistence.timeout.as_secs();
    let candidate = |id| before.candidates.iter().find(|it| it.id == id);
    Some(step(
        "persistence",
        match before.bond.and_then(|bond| candidate(bond.id)) {
            Some(real) => {
                let at = real.line.split(',').next().unwrap_or_default();
                format!("{who} is bound to {at}")
            }
            None if !is_chosen => format!("{who} is bound to none"),
            None => format!(
                "{who} is bound to none yet: from now on for {seconds} s to the one that is chosen"
            ),
        },
    ))
}

fn scheduler(before: &Before, service: &Service, chosen: Option<RealId>) -> Step {
    let kind = service.scheduler_kind.name;
    let is_bound = before.bond.is_some_and(|bond| Some(bond.id) == chosen);
    let place = before
        .candidates
        .iter()
        .position(|it| Some(it.id) == chosen);
    let at = place.map(|place| {
        let line = &before.candidates[place].line;
        line.split(',').next().unwrap_or_default()
    });
    let says = match (at, is_bound) {
        (Some(at), true) => format!("{at}, which the client is bound to"),
        (Some(at), false) if service.quic.is_some() => {
            format!("{at}, by {kind} or the connection id in the packet")
        }
        (Some(at), false) => format!("{at}, by {kind}"),
        (None, _) => format!("{kind} has none to choose from"),
    };
    let mark = |n: usize| if Some(n) == place { "* " } else { "  " };
    let listed = before.candidates.iter().enumerate();
    let (shown, more): (Vec<_>, Vec<_>) =
        listed.partition(|(n, _)| *n < LISTED || Some(*n) == place);
    let mut details: Vec<_> = shown
        .iter()
        .map(|(n, candidate)| format!("{}{}", mark(*n), candidate.line))
        .collect();
    if !more.is_empty() {
        details.push(format!("  and {} more", more.len()));
    }
    Step {
        step: "scheduler",
        says,
        details,
    }
}

//! What connections are promised, whatever is reloaded, however many workers there are: random configurations, traffic
//! and reloads against a model that knows only the promises.

use super::frames::{ACK, SYN, ends, segment, udp};
use super::{PORTS, SECOND, T, parse};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use weir::config::Config;
use weir::net::ipv4;
use weir::net::protocol::{TCP, UDP};
use weir::replay::{Decision, Replay};
use weir::units::{PortId, Time};
use weir::verdict::{DropReason, ReplyReason, Verdict};

const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);
const FIN: u8 = 1;
const RST: u8 = 4;

/// The services that a configuration may have: protocol, last number of the VIP, port.
const SERVICES: [(u8, u8, u16); 7] = [
    (TCP, 80, 80),
    (TCP, 81, 80),
    (TCP, 80, 0),
    (TCP, 82, 0),
    (UDP, 80, 53),
    (UDP, 81, 53),
    (UDP, 81, 0),
];

/// What clients send to.
const TARGETS: [(u8, u8, u16); 7] = [
    (TCP, 80, 80),
    (TCP, 81, 80),
    (TCP, 80, 81),
    (TCP, 82, 80),
    (UDP, 80, 53),
    (UDP, 81, 53),
    (UDP, 81, 54),
];

const MODES: [&str; 3] = ["nat", "fullnat", "dr"];

/// A real server: last number of its address, port, weight.
type Real = (u8, u16, u16);

#[derive(Clone, Debug)]
struct Service {
    mode: &'static str,
    prefix: Option<u8>,
    reals: Vec<Real>,
}

impl Service {
    fn has(&self, real: (u8, u16)) -> bool {
        self.reals
            .iter()
            .any(|(last, port, _)| (*last, *port) == real)
    }
}

/// By their places in [`SERVICES`].
type Services = [Option<Service>; SERVICES.len()];

fn service(place: usize) -> impl Strategy<Value = Service> {
    let (protocol, _, port) = SERVICES[place];
    let ports = match (protocol, port) {
        (TCP, 0) => vec![0, 80],
        (TCP, _) => vec![80, 8080],
        (_, 0) => vec![0, 53],
        _ => vec![53],
    };
    let real = (11..14u8, prop::sample::select(ports), 0..3u16);
    (
        prop_oneof![3 => Just("nat"), 1 => prop::sample::select(&MODES[..])],
        prop_oneof![3 => Just(None), 1 => Just(Some(32)), 1 => Just(Some(24))],
        prop::collection::vec(real, 1..4),
    )
        .prop_map(move |(mode, prefix, mut reals)| {
            // A real server of dr has the service's port.
            let own = |real: &mut Real| real.1 = if mode == "dr" { port } else { real.1 };
            reals.iter_mut().for_each(own);
            reals.sort();
            reals.dedup_by_key(|(last, port, _)| (*last, *port));
            Service {
                mode,
                prefix,
                reals,
            }
        })
}

/// Another version of one service, or its removal.
fn change() -> impl Strategy<Value = (usize, Option<Service>)> {
    (0..SERVICES.len()).prop_flat_map(|place| {
        let service = prop::option::weighted(0.7, service(place));
        service.prop_map(move |service| (place, service))
    })
}

#[derive(Clone, Debug)]
enum Step {
    /// A connection attempt, with the answer and its confirmation if they come that far.
    Connect,
    /// A packet in mid-connection: of a connection, if there is one.
    Data,
    /// The real server's answer to the flow's last packet.
    Answer,
    /// A segment with these flags.
    Flags(u8),
}

#[derive(Clone, Debug)]
enum Event {
    Packet(Flow, Step),
    Reload(Vec<(usize, Option<Service>)>),
    /// The services as they were before the last reload.
    Undo,
    /// Until every connection is over.
    Wait,
}

/// Last number of the client's address, its port, place in [`TARGETS`].
type Flow = (u8, u16, usize);

fn event() -> impl Strategy<Value = Event> {
    let flow = (20..22u8, 5000..5003u16, 0..TARGETS.len());
    let step = prop_oneof![
        4 => Just(Step::Connect),
        5 => Just(Step::Data),
        4 => Just(Step::Answer),
        1 => prop::sample::select(vec![SYN, FIN | ACK, RST]).prop_map(Step::Flags),
    ];
    prop_oneof![
        40 => (flow, step).prop_map(|(flow, step)| Event::Packet(flow, step)),
        4 => prop::collection::vec(change(), 1..3).prop_map(Event::Reload),
        2 => Just(Event::Undo),
        1 => Just(Event::Wait),
    ]
}

fn configuration(services: &Services) -> Config {
    let mut text = format!(
        "[limits]\nanswers_per_second = 1000000\n{PORTS}\
         [[local_pool]]\nname = \"inside\"\naddresses = [\"10.0.0.200\"]\nports = \"40000-40999\"\n"
    );
    for last in 11..14 {
        text += &format!(
            "[[neighbour]]\naddress = \"10.0.0.{last}\"\nmac = \"02:00:00:00:01:{last}\"\n"
        );
    }
    for last in 20..22 {
        text += &format!(
            "[[neighbour]]\naddress = \"198.51.100.{last}\"\nmac = \"02:00:00:00:02:{last}\"\n"
        );
    }
    for (place, service) in services.iter().enumerate() {
        let Some(service) = service else {
            continue;
        };
        let (protocol, vip, port) = SERVICES[place];
        text += &format!(
            "[[service]]\nname = \"{}\"\naddress = \"192.0.2.{vip}\"\nport = {port}\nprotocol = \"{}\"\n\
             mode = \"{}\"\nscheduler = \"rr\"\n",
            name(place),
            if protocol == TCP { "tcp" } else { "udp" },
            service.mode
        );
        if service.mode == "fullnat" {
            text += "local_pool = \"inside\"\n";
        }
        if let Some(prefix) = service.prefix {
            text += &format!("persistence = {{ timeout = 300, prefix_v4 = {prefix} }}\n");
        }
        for (last, port, weight) in &service.reals {
            text += &format!(
                "[[service.real]]\naddress = \"10.0.0.{last}\"\nport = {port}\nweight = {weight}\n"
            );
        }
    }
    parse(&text)
}

fn name(place: usize) -> String {
    format!("service-{place}")
}

/// A connection that certainly lives: no FIN, no reset, no second SYN since it was established.
#[derive(Clone, Copy, Debug)]
struct Connection {
    /// Its place in [`SERVICES`].
    service: usize,
    /// Last number of the address, port as configured.
    real: (u8, u16),
}

/// Protocol, and the bytes of source address, destination address and ports of a frame.
type Addresses = (u8, [u8; 12]);

fn addresses(frame: &[u8]) -> Addresses {
    (frame[23], frame[26..38].try_into().unwrap())
}

/// What the receiver of a frame would send back.
fn answer(frame: &[u8], flags: u8) -> Vec<u8> {
    let (from, to, protocol) = ends(frame).unwrap();
    match protocol {
        TCP => segment(to, from, flags),
        _ => udp(to, from, b"me!"),
    }
}

struct World {
    replay: Replay,
    now: u64,
    services: Services,
    before: Services,
    living: HashMap<Flow, Connection>,
    /// Of each flow, the last frame that went to a real server that answers by weir.
    sent: HashMap<Flow, Vec<u8>>,
    /// To which flow an answer to the frame with these addresses belongs.
    owners: HashMap<Addresses, Flow>,
    /// UDP flows whose last datagram was the real server's: they give way to another with the same replies.
    answered: HashSet<Flow>,
}

impl World {
    fn new(services: Services, workers: usize) -> Self {
        World {
            replay: Replay::new(
                &configuration(&services),
                workers,
                10_000,
                Time::from_nanos(T),
            )
            .unwrap(),
            now: T,
            before: services.clone(),
            services,
            living: HashMap::new(),
            sent: HashMap::new(),
            owners: HashMap::new(),
            answered: HashSet::new(),
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Packet(flow, step) => self.step(*flow, step),
            Event::Reload(changes) => {
                let mut services = self.services.clone();
                for (place, service) in changes {
                    services[*place] = service.clone();
                }
                self.reload(services);
            }
            Event::Undo => self.reload(self.before.clone()),
            Event::Wait => {
                self.now += 4_000 * SECOND;
                self.living.clear();
                self.sent.clear();
                self.owners.clear();
            }
        }
    }

    fn reload(&mut self, services: Services) {
        let now = Time::from_nanos(self.now);
        self.replay.reload(configuration(&services), now).unwrap();
        self.before = std::mem::replace(&mut self.services, services);
    }

    fn receive(&mut self, port: PortId, frame: &[u8]) -> (Decision, Option<Vec<u8>>) {
        self.now += 1_000_000;
        let decision = self.replay.receive(port, frame, Time::from_nanos(self.now));
        self.replay.check().unwrap();
        let sent = self.replay.take_frames().last();
        (decision, sent.map(|frame| frame.bytes().to_vec()))
    }

    fn step(&mut self, flow: Flow, step: &Step) {
        let (protocol, ..) = TARGETS[flow.2];
        match (step, protocol) {
            (Step::Answer, _) => self.answer(flow, ACK),
            (Step::Connect, TCP) => {
                if self.living.contains_key(&flow) {
                    return;
                }
                let Some(made) = self.request(flow, SYN) else {
                    return;
                };
                if self.sent.contains_key(&flow) {
                    self.answer(flow, SYN | ACK);
                }
                self.living.insert(flow, made);
                self.request(flow, ACK);
            }
            (Step::Flags(flags), TCP) => {
                self.living.remove(&flow);
                self.request(flow, *flags);
            }
            _ => {
                let made = self.request(flow, ACK);
                if protocol == UDP
                    && let Some(made) = made
                {
                    self.living.insert(flow, made);
                }
            }
        }
    }

    /// Sends a client's packet; says which connection it made.
    fn request(&mut self, flow: Flow, flags: u8) -> Option<Connection> {
        let (client, client_port, target) = flow;
        let (protocol, vip, port) = TARGETS[target];
        let from = (Ipv4Addr::new(198, 51, 100, client), client_port);
        let to = (Ipv4Addr::new(192, 0, 2, vip), port);
        let frame = match protocol {
            TCP => segment(from, to, flags),
            _ => udp(from, to, b"who?"),
        };
        let living = self.living.get(&flow).copied();
        let stays = living.is_some_and(|living| self.is_configured(living));
        let (decision, sent) = self.receive(WAN, &frame);
        if let (Some(living), true) = (living, stays) {
            assert!(
                decision.verdict == Verdict::Forward(LAN) && !decision.context.new_connection,
                "a living connection goes on: {flow:?} {living:?} {decision:?}"
            );
        }
        if let (Some(living), false) = (living, stays) {
            self.living.remove(&flow);
            match protocol {
                TCP => assert!(
                    decision.verdict == Verdict::Reply(WAN, ReplyReason::RealRemoved),
                    "the client is told: {flow:?} {living:?} {decision:?}"
                ),
                _ => assert!(
                    decision.verdict != Verdict::Forward(LAN) || decision.context.new_connection,
                    "scheduled afresh: {flow:?} {living:?} {decision:?}"
                ),
            }
            if protocol == TCP {
                self.named(&decision, living);
            }
        }
        let made = decision.context.new_connection;
        if made {
            // It may have taken the place of one whose real server is gone.
            let services = &self.services;
            self.living.retain(|other, of| {
                let same =
                    (other.0, other.1) == (client, client_port) && TARGETS[other.2].0 == protocol;
                !same
                    || services[of.service]
                        .as_ref()
                        .is_some_and(|service| service.has(of.real))
            });
        }
        if decision.verdict == Verdict::Drop(DropReason::AmbiguousReply) {
            assert!(
                self.all_have_rivals(flow),
                "a real server is free: {flow:?} {decision:?}"
            );
        }
        if decision.verdict != Verdict::Forward(LAN) {
            return None;
        }
        let sent = sent.unwrap();
        let to = sent[5];
        let to = to / 16 * 10 + to % 16;
        let through = match (living.filter(|_| stays), made) {
            (Some(living), _) => Some(living),
            (None, true) => {
                let place = |port| SERVICES.iter().position(|of| *of == (protocol, vip, port));
                let is_there = |place: &usize| self.services[*place].is_some();
                let at = place(port).filter(is_there).or(place(0).filter(is_there));
                let at = at.expect("a service");
                let service = self.services[at].as_ref().unwrap();
                // Of two ports of an address it may be either.
                let (key, address, port) = *self
                    .replay
                    .model()
                    .real(decision.context.real.unwrap())
                    .unwrap();
                assert_eq!(
                    (ipv4(key.address).octets()[3], key.port),
                    (vip, SERVICES[at].2)
                );
                let real = (ipv4(address).octets()[3], port);
                assert!(service.has(real), "{flow:?} {real:?} {service:?}");
                Some(Connection { service: at, real })
            }
            (None, false) => None,
        };
        if let Some(connection) = through {
            assert_eq!(to, connection.real.0, "{flow:?} {connection:?}");
            self.named(&decision, connection);
        }
        let is_translated = sent[30..34] != [192, 0, 2, vip];
        if is_translated {
            let here = addresses(&sent);
            let before = self.owners.insert(here, flow);
            if let Some(before) = before.filter(|before| *before != flow)
                && let Some(other) = self.living.get(&before)
                && self
                    .sent
                    .get(&before)
                    .is_some_and(|sent| addresses(sent) == here)
            {
                let gives_way = here.0 == UDP && self.answered.contains(&before);
                assert!(
                    !self.is_configured(*other) || gives_way,
                    "{flow:?} has the replies of {before:?}: {other:?}"
                );
                if gives_way {
                    self.living.remove(&before);
                }
            }
            self.answered.remove(&flow);
            self.sent.insert(flow, sent);
        } else {
            self.sent.remove(&flow);
        }
        through.filter(|_| made)
    }

    /// Whether each real server of a flow's service has had another flow with the replies that this one would get.
    fn all_have_rivals(&self, flow: Flow) -> bool {
        let (client, client_port, target) = flow;
        let (protocol, vip, port) = TARGETS[target];
        let of = |port| SERVICES.iter().position(|it| *it == (protocol, vip, port));
        let at = [of(port), of(0)].into_iter().flatten();
        let service = at.filter_map(|at| self.services[at].as_ref()).next();
        let has_rival = |(last, real_port, _): &Real| {
            let real_port = if *real_port == 0 { port } else { *real_port };
            let ends = [
                &[198, 51, 100, client, 10, 0, 0, *last][..],
                &client_port.to_be_bytes(),
                &real_port.to_be_bytes(),
            ];
            let here = (protocol, ends.concat().try_into().unwrap());
            self.owners.get(&here).is_some_and(|owner| *owner != flow)
        };
        let reals = service.into_iter().flat_map(|service| &service.reals);
        let mut serving = reals.filter(|(.., weight)| *weight > 0).peekable();
        serving.peek().is_some() && serving.all(has_rival)
    }

    /// The real server answers the flow's last packet.
    fn answer(&mut self, flow: Flow, flags: u8) {
        let Some(request) = self.sent.get(&flow).cloned() else {
            return;
        };
        let (decision, sent) = self.receive(LAN, &answer(&request, flags));
        let living = self.living.get(&flow).copied();
        let owner = self.owners[&addresses(&request)];
        if let Some(living) = living.filter(|living| owner == flow && self.is_configured(*living)) {
            assert_eq!(
                decision.verdict,
                Verdict::Forward(WAN),
                "{flow:?} {living:?} {decision:?}"
            );
            self.named(&decision, living);
        }
        if decision.verdict == Verdict::Forward(WAN) {
            self.answered.insert(owner);
            let sent = sent.unwrap();
            let (client, client_port, target) = owner;
            let (_, vip, port) = TARGETS[target];
            let expected = [
                &[192, 0, 2, vip, 198, 51, 100, client][..],
                &port.to_be_bytes(),
                &client_port.to_be_bytes(),
            ];
            assert_eq!(sent[26..38], expected.concat(), "{owner:?} {decision:?}");
        }
    }

    fn is_configured(&self, connection: Connection) -> bool {
        let service = self.services[connection.service].as_ref();
        service.is_some_and(|service| service.has(connection.real))
    }

    /// A packet of a connection is said to be of its service and real server.
    fn named(&self, decision: &Decision, connection: Connection) {
        let model = self.replay.model();
        let service = decision
            .context
            .service
            .and_then(|id| model.service_name(id));
        assert_eq!(
            service.as_deref(),
            Some(&*name(connection.service)),
            "{decision:?}"
        );
        let id = decision.context.real.unwrap();
        let (_, address, port) = model.real(id).unwrap();
        assert_eq!((ipv4(*address).octets()[3], *port), connection.real);
        assert_eq!(model.service_of(id), decision.context.service);
    }
}

/// A few of the services, all or none of a kind.
fn services() -> impl Strategy<Value = Services> {
    let all: Vec<_> = (0..SERVICES.len())
        .map(|place| prop::option::weighted(0.5, service(place)))
        .collect();
    all.prop_map(|all| all.try_into().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn connections_keep_what_they_were_promised(
        services in services(),
        events in prop::collection::vec(event(), 1..150),
    ) {
        for workers in [1, 2, 4] {
            let mut world = World::new(services.clone(), workers);
            for event in &events {
                world.event(event);
            }
        }
    }
}

//! What becomes of a packet of a known connection: where it goes, and what happens where something has changed since
//! the first packet.

use super::frames::{CLIENT, CLIENT_MAC, REAL, VIP, WEIR_WAN, arp, arp_answer, arp_of, ends, udp};
use super::segments::frame as segment;
use super::{PORTS, SECOND, STATIC_REAL, T, parse};
use std::net::Ipv4Addr;
use weir::conn::State;
use weir::net::protocol;
use weir::replay::{Decision, Replay};
use weir::units::{PortId, Time};
use weir::verdict::{DropReason, ReplyReason, Verdict};
use weir::wire::arp as wire;
use weir::wire::ethernet;
use weir::wire::ipv4::{self, Ipv4};

const STATIC_CLIENT: &str = r#"
[[neighbour]]
address = "198.51.100.9"
mac     = "02:00:00:00:00:c1"
"#;

/// Gateways of both networks, by which nothing goes at first.
const GATEWAYS: &str = r#"
[[neighbour]]
address = "198.51.100.254"
mac     = "02:00:00:00:00:fd"
[[neighbour]]
address = "10.0.0.254"
mac     = "02:00:00:00:00:fe"
"#;

/// The client and the real server are behind them.
const ROUTES: &str = r#"
[[route]]
to  = "198.51.100.9/32"
via = "198.51.100.254"
[[route]]
to  = "10.0.0.11/32"
via = "10.0.0.254"
"#;

/// A real server that the services may have besides, or instead.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 12);

/// A service of TCP and one of UDP, with these real servers of these weights, and everything else.
fn config(mode: &str, reals: &[(Ipv4Addr, u16)], more: &[&str]) -> String {
    let real = |(address, weight): &(Ipv4Addr, u16)| {
        format!("[[service.real]]\naddress = \"{address}\"\nweight = {weight}\n")
    };
    let reals: String = reals.iter().map(real).collect();
    let mut text = [&[PORTS], more].concat().concat();
    text += &format!("[[neighbour]]\naddress = \"{OTHER}\"\nmac = \"02:00:00:00:01:12\"\n");
    for (name, protocol, port) in [("web", "tcp", 80), ("dns", "udp", 53)] {
        text += &format!(
            "[[service]]\nname = \"{name}\"\naddress = \"{VIP}\"\nport = {port}\nprotocol = \"{protocol}\"\n\
             mode = \"{mode}\"\nscheduler = \"rr\"\n{reals}"
        );
    }
    text
}

/// What is configured from the start to the end, unless a case says otherwise.
fn usual() -> String {
    config("nat", &[(REAL, 1)], &[STATIC_CLIENT, STATIC_REAL, GATEWAYS])
}

/// Services that bind a client to its real server.
fn binding(reals: &[(Ipv4Addr, u16)]) -> String {
    let text = config("nat", reals, &[STATIC_CLIENT, STATIC_REAL]);
    let bound = "scheduler = \"wlc\"\npersistence = { timeout = 1000 }";
    text.replace("scheduler = \"rr\"", bound)
}

/// A packet by a line: of TCP as [`segment`] has it, or `c U 1500`, a datagram of so many bytes with its headers. `x` is
/// the real server too, but by the client's port. With `!` at the end the TTL is 1.
fn packet(line: &str) -> (PortId, Vec<u8>) {
    let (line, last_hop) = match line.trim().strip_suffix('!') {
        Some(line) => (line, true),
        None => (line.trim(), false),
    };
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_client = words[0] == "c";
    let (mut port, mut frame) = match words[1] {
        "U" => {
            let payload = vec![0; words[2].parse::<usize>().unwrap() - 28];
            let (client, vip, real) = ((CLIENT, 5000), (VIP, 53), (REAL, 53));
            let (from, to) = match is_client {
                true => (client, vip),
                false => (real, client),
            };
            (PortId(u8::from(!is_client)), udp(from, to, &payload))
        }
        _ => segment(line),
    };
    if words[0] == "x" {
        port = PortId(0);
        frame[..6].copy_from_slice(&WEIR_WAN.0);
    }
    if last_hop {
        let mut ip = Ipv4::new_checked(&mut frame[ethernet::HEADER_LEN..]).unwrap();
        ip.set_ttl(1);
        ip.fill_checksum();
    }
    (port, frame)
}

/// What no translation changes: all of TCP or UDP but ports and checksum.
fn untouched(frame: &[u8]) -> Vec<u8> {
    let ip = ipv4::in_frame(frame).unwrap();
    let mut payload = ip.payload().to_vec();
    let checksum = match ip.protocol() {
        protocol::TCP => 16,
        _ => 6,
    };
    payload[..4].fill(0);
    payload[checksum..checksum + 2].fill(0);
    payload
}

/// The client answers weir's ARP request.
fn client_answers() -> Vec<u8> {
    let (operation, sender_mac, target_mac) = (wire::REPLY, CLIENT_MAC, WEIR_WAN);
    let (sender_ip, target_ip) = (CLIENT, Ipv4Addr::new(198, 51, 100, 1));
    let repr = wire::Repr {
        operation,
        sender_mac,
        sender_ip,
        target_mac,
        target_ip,
    };
    arp(WEIR_WAN, repr)
}

struct Lab {
    replay: Replay,
    now: u64,
}

impl Lab {
    fn new(config: &str) -> Self {
        let replay = Replay::new(&parse(config), 1, 100, Time::from_nanos(T));
        Lab {
            replay: replay.unwrap(),
            now: T,
        }
    }

    fn receive(&mut self, (port, frame): (PortId, Vec<u8>)) -> Decision {
        // So soon that expiry, which would hide what the director does itself, need not have come by.
        self.now += SECOND / 1_000_000;
        let decision = self
            .replay
            .receive(port, &frame, Time::from_nanos(self.now));
        self.replay.check().unwrap();
        decision
    }

    /// An ARP packet comes; what it releases is not looked at.
    fn hear(&mut self, port: PortId, frame: Vec<u8>) {
        self.receive((port, frame));
        self.replay.take_frames().for_each(drop);
    }

    /// What became of a packet: the port and the last byte of the MAC address that it went to, or why it did not;
    /// whether it made a connection; whether weir asked for a neighbour; and the state of its connection then.
    fn outcome(&mut self, packet: (PortId, Vec<u8>)) -> String {
        let received = untouched(&packet.1);
        let decision = self.receive(packet);
        let frames: Vec<_> = self.replay.take_frames().collect();
        let asks = |frame: &[u8]| arp_of(frame).is_some_and(|arp| arp.operation == wire::REQUEST);
        let name = |port: PortId| ["wan", "lan"][port.index()];
        let mut text = match decision.verdict {
            Verdict::Forward(port) => {
                let sent = frames.iter().find(|frame| ends(frame.bytes()).is_some());
                let frame = sent.unwrap().bytes();
                let ip = ipv4::in_frame(frame).unwrap();
                assert!(ip.is_header_right() && ip.is_l4_checksum_right());
                assert_eq!(untouched(frame), received);
                format!("{} {:02x}", name(port), frame[5])
            }
            Verdict::Queue(port) => format!("waits {}", name(port)),
            Verdict::Reply(_, reason) => format!("{reason:?}"),
            Verdict::Drop(reason) => format!("{reason:?}"),
            verdict => panic!("{verdict:?}"),
        };
        if decision.context.new_connection {
            text += " new";
        }
        // Before the packet the clock has come to its time: what is asked then is in the frames too.
        let now = Time::from_nanos(self.now);
        if frames
            .iter()
            .any(|frame| frame.time == now && asks(frame.bytes()))
        {
            text += " asks";
        }
        let mut connections = self.replay.connections();
        let connection = connections.find_map(|(_, it)| (!it.is_template()).then_some(it));
        let state = connection.map_or(State::None, |connection| connection.state);
        let (real, told) = (decision.context.real, decision.context.state);
        match decision.verdict {
            Verdict::Forward(_)
            | Verdict::Queue(_)
            | Verdict::Reply(_, ReplyReason::TtlExceeded | ReplyReason::TooBig)
            | Verdict::Reply(_, ReplyReason::HostUnreachable)
            | Verdict::Drop(DropReason::WrongPort) => {
                let known = connection.map(|connection| connection.real);
                assert_eq!((real, told), (known, Some(state.name())));
            }
            Verdict::Reply(_, ReplyReason::RealRemoved) => assert!(real.is_some()),
            _ => {}
        }
        format!("{text}, {state:?}")
    }
}

/// A connection of TCP: its first packets.
const OPEN: [&str; 3] = [
    "c S 100 0     -> lan 11 new, SynRecv",
    "s SA 500 101  -> wan c1, SynRecv",
    "c A 101 501   -> lan 11, Established",
];

struct Case {
    says: &'static str,
    before: String,
    /// What `reload` has from then on.
    after: String,
    opens: bool,
    steps: Vec<&'static str>,
}

/// A case of a connection that is open.
fn case(says: &'static str, steps: &[&'static str]) -> Case {
    Case {
        says,
        before: usual(),
        after: usual(),
        opens: true,
        steps: steps.to_vec(),
    }
}

/// A case of a connection that its steps open.
fn unopened(says: &'static str, steps: &[&'static str]) -> Case {
    Case {
        opens: false,
        ..case(says, steps)
    }
}

/// A case with services that bind a client to its real server, beside which another one comes.
fn bound(says: &'static str, steps: &[&'static str]) -> Case {
    Case {
        before: binding(&[(REAL, 1)]),
        after: binding(&[(REAL, 1), (OTHER, 100)]),
        ..unopened(says, steps)
    }
}

#[test]
fn packets_of_known_connections_go_where_they_should_whatever_has_changed() {
    let moved = || config("nat", &[(OTHER, 1)], &[STATIC_CLIENT, STATIC_REAL]);
    let learned = || config("nat", &[(REAL, 1)], &[STATIC_CLIENT]);
    let cases = [
        case(
            "an open connection's",
            &[
                "c A 101 501 4 -> lan 11, Established",
                "s A 501 105 4 -> wan c1, Established",
                "c S 900 0     -> lan 11, Established",
            ],
        ),
        case(
            "replies by a port that does not lead to the real server",
            &[
                "x A 501 101   -> WrongPort, Established",
                "x FA 501 101  -> WrongPort, Established",
                "s A 501 101   -> wan c1, Established",
            ],
        ),
        unopened(
            "datagrams by the wrong port",
            &[
                "c U 100 -> lan 11 new, Udp",
                "x U 100 -> WrongPort, Udp",
                "s U 100 -> wan c1, Udp",
                "x U 100 -> WrongPort, Udp",
            ],
        ),
        Case {
            after: usual() + ROUTES,
            ..case(
                "other routes",
                &[
                    "reload",
                    "c A 101 501   -> lan fe, Established",
                    "s A 501 101   -> wan fd, Established",
                    "c FA 101 501  -> lan fe, CloseWait",
                    "s A 501 102   -> wan fd, CloseWait",
                ],
            )
        },
        case(
            "as long as the MTU, and longer",
            &[
                "c A 101 501 1460 -> lan 11, Established",
                "c A 101 501 1461 -> TooBig, Established",
                "s A 501 101 1460 -> wan c1, Established",
                "s A 501 101 1461 -> TooBig, Established",
                "c FA 101 501 1460 -> lan 11, CloseWait",
                // The last hop.
                "c A 102 501!      -> TtlExceeded, CloseWait",
                "s A 501 102!      -> TtlExceeded, CloseWait",
            ],
        ),
        unopened(
            "datagrams as long as the MTU, and longer",
            &[
                "c U 1500 -> lan 11 new, Udp",
                "c U 1500 -> lan 11, Udp",
                "c U 1501 -> TooBig, Udp",
                "s U 1500 -> wan c1, Udp",
                "s U 1501 -> TooBig, Udp",
            ],
        ),
        case(
            "after a long silence, an attempt",
            &["wait 901", "c S 900 0     -> lan 11 new, SynRecv"],
        ),
        // Expiry came by half a millisecond before.
        case(
            "after exactly the time that it may be silent",
            &[
                "wait 899.9996",
                "client answers",
                "wait 0.0004",
                "c A 101 501   -> NoConnection, None",
            ],
        ),
        case(
            "after exactly the time that it may be silent, the end",
            &[
                "wait 899.9996",
                "client answers",
                "wait 0.0004",
                "c FA 101 501  -> NoConnection, None",
            ],
        ),
        case(
            "each packet begins the silence anew",
            &[
                "wait 600",
                "c A 101 501   -> lan 11, Established",
                "wait 600",
                "s A 501 101   -> wan c1, Established",
                "wait 600",
                "c FA 101 501  -> lan 11, CloseWait",
            ],
        ),
        unopened(
            "a flow after a long silence",
            &[
                "c U 100 -> lan 11 new, Udp",
                "wait 299",
                "c U 100 -> lan 11, Udp",
                "wait 301",
                "c U 100 -> lan 11 new, Udp",
            ],
        ),
        Case {
            before: learned(),
            ..unopened(
                "a real server that answers, is silent, and answers again",
                &[
                    "c S 100 0    -> waits lan new asks, SynRecv",
                    "real answers",
                    "c S 100 0    -> lan 11, SynRecv",
                    "s SA 500 101 -> wan c1, SynRecv",
                    "c A 101 501  -> lan 11, Established",
                    "wait 31",
                    "c A 101 501  -> lan 11 asks, Established",
                    "real answers",
                    "c A 101 501  -> lan 11, Established",
                    "c FA 101 501 -> lan 11, CloseWait",
                    "wait 31",
                    "c A 102 501  -> lan 11 asks, CloseWait",
                    "wait 9",
                    "c A 102 501  -> HostUnreachable asks, CloseWait",
                ],
            )
        },
        Case {
            before: config("nat", &[(REAL, 1)], &[STATIC_REAL]),
            ..unopened(
                "a client that answers, is silent, and answers again",
                &[
                    "c S 100 0    -> lan 11 new, SynRecv",
                    "s SA 500 101 -> waits wan asks, SynRecv",
                    "client answers",
                    "s SA 500 101 -> wan c1, SynRecv",
                    "c A 101 501  -> lan 11, Established",
                    "s A 501 101  -> wan c1, Established",
                    "wait 31",
                    "s A 501 101  -> wan c1 asks, Established",
                    "wait 9",
                    "s A 501 101  -> waits wan asks, Established",
                    "client answers",
                    "s A 501 101  -> wan c1, Established",
                ],
            )
        },
        Case {
            after: moved(),
            ..case(
                "of a removed real server: the client's are answered, replies pass for the last seconds",
                &[
                    "reload",
                    "s A 501 101  -> wan c1, Established",
                    "c A 101 501  -> RealRemoved, Close",
                    "wait 6",
                    "s A 501 101  -> wan c1, Close",
                    "x A 501 101  -> WrongPort, Close",
                    "c A 101 501  -> RealRemoved, Close",
                    "wait 6",
                    "c A 101 501  -> NoConnection, None",
                ],
            )
        },
        Case {
            after: moved(),
            ..case(
                "of a removed real server: a reset ends, an attempt begins anew",
                &[
                    "reload",
                    "c S 900 0    -> lan 12 new, SynRecv",
                    "c R 900 0    -> lan 12, SynRecv",
                ],
            )
        },
        Case {
            after: moved(),
            ..case(
                "of a removed real server: the client's reset",
                &["reload", "c R 101 0    -> NoConnection, None"],
            )
        },
        Case {
            after: moved(),
            ..unopened(
                "of a removed real server: datagrams",
                &[
                    "c U 100 -> lan 11 new, Udp",
                    "reload",
                    "s U 100 -> wan c1, Udp",
                    "c U 100 -> lan 12 new, Udp",
                ],
            )
        },
        Case {
            after: config(
                "nat",
                &[(REAL, 0), (OTHER, 1)],
                &[STATIC_CLIENT, STATIC_REAL],
            ),
            ..case(
                "of a drained real server: all but an attempt",
                &[
                    "reload",
                    "c A 101 501  -> lan 11, Established",
                    "s SA 500 101 -> wan c1, Established",
                    "c FA 101 501 -> lan 11, CloseWait",
                    "c R 300 501  -> lan 11, CloseWait",
                    "s A 501 102  -> wan c1, CloseWait",
                    "c S 900 0    -> lan 12 new, SynRecv",
                ],
            )
        },
        case(
            "what comes after the end",
            &[
                "c FA 101 501  -> lan 11, CloseWait",
                "s FA 501 102  -> wan c1, TimeWait",
                "c A 102 502   -> lan 11, TimeWait",
                "c FA 101 501  -> lan 11, TimeWait",
                "s A 502 102   -> wan c1, TimeWait",
                "c S 900 0     -> lan 11 new, SynRecv",
            ],
        ),
        unopened(
            "an attempt that is not answered",
            &[
                "c S 100 0     -> lan 11 new, SynRecv",
                "c S 100 0     -> lan 11, SynRecv",
                "c A 101 501   -> lan 11, Unanswered",
                "c S 100 0     -> lan 11, Unanswered",
            ],
        ),
        // A bond outlives its connections once a flow was answered, or a handshake completed.
        bound(
            "a flow that was answered binds its client",
            &[
                "c U 100 -> lan 11 new, Udp",
                "s U 100 -> wan c1, Udp",
                "reload",
                "wait 301",
                "c U 100 -> lan 11 new, Udp",
            ],
        ),
        bound(
            "a flow that was not answered binds for its own time",
            &[
                "c U 100 -> lan 11 new, Udp",
                "c U 100 -> lan 11, Udp",
                "reload",
                "wait 301",
                "c U 100 -> lan 12 new, Udp",
            ],
        ),
        bound(
            "a handshake that was answered, but not completed, binds for its own time",
            &[
                OPEN[0],
                OPEN[1],
                "reload",
                "wait 61",
                "c S 900 0 -> lan 12 new, SynRecv",
            ],
        ),
        bound(
            "a handshake that was completed binds its client",
            &[
                OPEN[0],
                OPEN[1],
                OPEN[2],
                "reload",
                "wait 901",
                "c S 900 0 -> lan 11 new, SynRecv",
            ],
        ),
    ];
    let wrong: Vec<String> = cases.iter().filter_map(fault).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first step of a case that ends otherwise than it says.
fn fault(case: &Case) -> Option<String> {
    let mut lab = Lab::new(&case.before);
    let open = OPEN.iter().filter(|_| case.opens);
    for (n, line) in open.chain(&case.steps).enumerate() {
        match *line {
            "reload" => {
                let now = Time::from_nanos(lab.now);
                lab.replay.reload(parse(&case.after), now).unwrap();
            }
            "real answers" => lab.hear(PortId(1), arp_answer()),
            "client answers" => lab.hear(PortId(0), client_answers()),
            line if line.starts_with("wait ") => {
                lab.now += (line[5..].parse::<f64>().unwrap() * SECOND as f64) as u64;
            }
            line => {
                let (sent, expected) = line.split_once("->").unwrap();
                let outcome = lab.outcome(packet(sent));
                if outcome != expected.trim() {
                    return Some(format!("{}: step {n}, {line}: {outcome}", case.says));
                }
            }
        }
    }
    None
}

#[test]
fn each_packet_is_counted_with_its_length_in_its_direction() {
    let mut lab = Lab::new(&usual());
    let lines = [
        "c S 100 0",
        "s SA 500 101",
        "c A 101 501",
        "c A 101 501 60",
        "s A 501 161 1000",
        "s A 1501 161 1000",
        "c FA 161 2501",
    ];
    for line in lines {
        lab.receive(packet(line));
    }
    let model = lab.replay.model();
    let (_, connection) = lab.replay.connections().next().unwrap();
    let totals = model.real_totals(connection.real);
    assert_eq!((totals.packets_in, totals.bytes_in), (4, 4 * 40 + 60));
    assert_eq!((totals.packets_out, totals.bytes_out), (3, 3 * 40 + 2000));
    assert_eq!(totals.connections, 1);
}

//! Passive checks: what clients' connections say of real servers, in every mode, and what they do not.

use super::frames::{ACK, REAL_MAC, SYN, WEIR_LAN, ends, numbered, query, tcp, udp};
use super::{PORTS, T, parse};
use std::net::{IpAddr, Ipv4Addr};
use weir::net::ethertype;
use weir::replay::Replay;
use weir::service::ServiceKey;
use weir::units::{PortId, Time};
use weir::verdict::Verdict;
use weir::wire::{build, ethernet, icmp};

const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);
const RST: u8 = 4;
const SECOND: u64 = 1_000_000_000;
const WORKERS: [usize; 2] = [1, 3];

struct Lab {
    replay: Replay,
    now: u64,
    next: u16,
    what: String,
}

/// A client's packet that weir has sent on to a real server.
struct Sent {
    real: u8,
    client: u16,
    frame: Vec<u8>,
}

impl Lab {
    /// Drains a real server of the TCP service.
    fn drain(&mut self, last: u8) {
        let address = IpAddr::from([10, 0, 0, last]);
        let time = Time::from_nanos(self.now);
        self.replay.change(time, |model| {
            let key = "tcp:192.0.2.80:80".parse().unwrap();
            model
                .edit(&key, (address, 80), weir::model::Edit::Drain, None)
                .unwrap();
        });
    }

    /// A service of TCP and one of UDP, with real servers that are watched.
    fn new(workers: usize, mode: &str, reals: &[u8], passive: &str) -> Self {
        let pool = match mode {
            "fullnat" => "local_pool = \"inside\"\n",
            _ => "",
        };
        let mut text =
            format!("{PORTS}\n[[local_pool]]\nname = \"inside\"\naddresses = [\"10.0.0.200\"]\n");
        for last in reals {
            text += &format!(
                "[[neighbour]]\naddress = \"10.0.0.{last}\"\nmac = \"02:00:00:00:01:{last}\"\n"
            );
        }
        for (protocol, port) in [("tcp", 80), ("udp", 53)] {
            text += &format!(
                "[[service]]\naddress = \"192.0.2.80\"\nport = {port}\nprotocol = \"{protocol}\"\n\
                 mode = \"{mode}\"\nscheduler = \"rr\"\n{pool}{passive}\n"
            );
            for last in reals {
                text += &format!("[[service.real]]\naddress = \"10.0.0.{last}\"\n");
            }
        }
        Lab {
            replay: Replay::new(&parse(&text), workers, 10_000, Time::from_nanos(T)).unwrap(),
            now: T,
            next: 1000,
            what: format!("{mode}, {workers} workers"),
        }
    }

    fn receive(&mut self, port: PortId, frame: &[u8]) -> Verdict {
        self.now += 100_000;
        let decision = self.replay.receive(port, frame, Time::from_nanos(self.now));
        self.replay.check().unwrap();
        decision.verdict
    }

    /// Lets time pass, and the control thread take in what was seen.
    fn wait(&mut self, millis: u64) {
        for part in [millis, 101] {
            self.now += part * 1_000_000;
            self.replay.change(Time::from_nanos(self.now), |_| ());
        }
    }

    fn send(&mut self, client: u16, frame: &[u8]) -> Sent {
        self.replay.take_frames().for_each(drop);
        let verdict = self.receive(WAN, frame);
        assert!(
            matches!(verdict, Verdict::Forward(_)),
            "{}: {verdict:?}",
            self.what
        );
        let sent = self.replay.take_frames().find(|frame| frame.port == LAN);
        let sent = sent.unwrap();
        let frame = weir::packet::Packet::data(&sent.packet).to_vec();
        // The MAC addresses of real servers end as their addresses do, read as hex.
        let last = frame[5];
        Sent {
            real: last / 16 * 10 + last % 16,
            client,
            frame,
        }
    }

    fn opens(&mut self, protocol: &str) -> Sent {
        self.next += 1;
        let port = self.next;
        let frame = match protocol {
            "tcp" => tcp(port, SYN),
            _ => query(port),
        };
        self.send(port, &frame)
    }

    /// As many new connections to a real server; what goes to others is answered by `others`.
    fn opens_to(
        &mut self,
        protocol: &str,
        real: u8,
        count: usize,
        others: impl Fn(&mut Lab, &Sent),
    ) -> Vec<Sent> {
        let mut all = Vec::new();
        while all.len() < count {
            let sent = self.opens(protocol);
            match sent.real == real {
                true => all.push(sent),
                false => others(self, &sent),
            }
        }
        all
    }

    /// The real server answers a segment.
    fn segment(&mut self, sent: &Sent, flags: u8) {
        let (from, to, _) = ends(&sent.frame).unwrap();
        self.receive(LAN, &numbered(to, from, flags, 500, 2));
    }

    fn datagram(&mut self, sent: &Sent) {
        let (from, to, _) = ends(&sent.frame).unwrap();
        self.receive(LAN, &udp(to, from, b"me"));
    }

    /// The real server says that a packet did not get where it should: a code of "destination unreachable".
    fn error(&mut self, sent: &Sent, code: u8) {
        let (from, _, _) = ends(&sent.frame).unwrap();
        let mut frame = vec![0; 600];
        let router = Ipv4Addr::new(10, 0, 0, sent.real);
        let says = (icmp::DESTINATION_UNREACHABLE, code, 0);
        let quoted = &sent.frame[ethernet::HEADER_LEN..];
        let length = build::icmp_error_of(&mut frame, (router, from.0), says, quoted).unwrap();
        ethernet::emit(&mut frame, WEIR_LAN, REAL_MAC, ethertype::IPV4).unwrap();
        let verdict = self.receive(LAN, &frame[..length]);
        assert!(
            matches!(verdict, Verdict::Forward(_) | Verdict::Queue(_)),
            "{}: {verdict:?}",
            self.what
        );
    }

    fn is_held(&self, protocol: &str, real: u8) -> bool {
        let port = if protocol == "tcp" { 80 } else { 53 };
        let key: ServiceKey = format!("{protocol}:192.0.2.80:{port}").parse().unwrap();
        let service = self.replay.model().find(&key).unwrap();
        let address = IpAddr::from([10, 0, 0, real]);
        let real = service.reals.iter().find(|it| it.address == address);
        let real = real.unwrap();
        let state = self.replay.model().state(real.id);
        let is_held = state.is_some_and(|state| state.held.is_some());
        assert_eq!(is_held, real.weight == 0, "{}", self.what);
        is_held
    }

    fn failures(&self) -> Vec<(&'static str, u64)> {
        let all = self.replay.model().failures();
        all.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

const PASSIVE: &str = "passive = { failures = 5, within = \"10s\", hold = \"30s\" }";

fn each(modes: &[&str], reals: &[u8], test: impl Fn(&mut Lab)) {
    for mode in modes {
        for workers in WORKERS {
            test(&mut Lab::new(workers, mode, reals, PASSIVE));
        }
    }
}

const SEEN: [&str; 2] = ["nat", "fullnat"];
const UNSEEN: [&str; 2] = ["dr", "tunnel"];

fn is_served(lab: &mut Lab, sent: &Sent) {
    lab.segment(sent, SYN | ACK);
}

/// How connections fail: what the real server, or the client, does about each, and the word for it.
type Way = (&'static str, &'static str, fn(&mut Lab, Vec<Sent>));

const WAYS: [Way; 5] = [
    ("tcp", "refused", |lab, all| {
        all.iter().for_each(|sent| lab.segment(sent, RST | ACK));
    }),
    ("tcp", "no_syn_ack", |lab, all| {
        // Clients repeat their SYNs, more than once.
        for _ in 0..2 {
            lab.wait(1000);
            for sent in &all {
                lab.send(sent.client, &tcp(sent.client, SYN));
            }
        }
    }),
    ("tcp", "no_syn_ack", |lab, _| lab.wait(4000)),
    ("udp", "no_answer", |lab, all| {
        // One goes on asking.
        for _ in 0..4 {
            lab.wait(900);
            lab.send(all[0].client, &query(all[0].client));
        }
    }),
    ("udp", "unreachable", |lab, all| {
        for sent in &all {
            // Each datagram of a flow.
            lab.error(sent, icmp::PORT_UNREACHABLE);
            lab.error(sent, icmp::PORT_UNREACHABLE);
        }
    }),
];

#[test]
fn a_real_server_whose_connections_fail_is_held_and_comes_back() {
    for (protocol, word, fail) in WAYS {
        each(&SEEN, &[11, 12], |lab| {
            let others = |lab: &mut Lab, sent: &Sent| match protocol {
                "tcp" => is_served(lab, sent),
                _ => lab.datagram(sent),
            };
            let what = format!("{}, {word}", lab.what);
            let all = lab.opens_to(protocol, 12, 4, others);
            fail(lab, all);
            lab.wait(4000);
            assert_eq!(lab.failures(), [(word, 4)], "{what}: each once");
            assert!(!lab.is_held(protocol, 12), "{what}: too few");
            lab.wait(20_000);
            let all = lab.opens_to(protocol, 12, 5, others);
            fail(lab, all);
            lab.wait(1000);
            assert!(lab.is_held(protocol, 12), "{what}: {:?}", lab.failures());
            let held_at = lab.now;
            for _ in 0..6 {
                let sent = lab.opens(protocol);
                assert_eq!(sent.real, 11, "{what}");
                others(lab, &sent);
            }
            lab.now = held_at + 31 * SECOND;
            lab.wait(1);
            assert!(!lab.is_held(protocol, 12), "{what}");
            let reals: Vec<_> = (0..4).map(|_| lab.opens(protocol).real).collect();
            assert!(reals.contains(&12), "{what}: {reals:?}");
        });
    }
}

#[test]
fn what_clients_do_or_leave_undone_says_nothing() {
    // (what the real server does first, what the client does then)
    type Case = (&'static str, fn(&mut Lab, &Sent));
    let cases: [Case; 4] = [
        (
            "a client that does not finish its handshake",
            |lab, sent| {
                lab.segment(sent, SYN | ACK);
            },
        ),
        ("a client that refuses the answer", |lab, sent| {
            lab.segment(sent, SYN | ACK);
            let port = sent.client;
            lab.receive(WAN, &tcp(port, RST));
        }),
        ("a client that repeats its SYN at once", |lab, sent| {
            lab.send(sent.client, &tcp(sent.client, SYN));
            lab.segment(sent, SYN | ACK);
        }),
        ("a real server that ends what it has taken", |lab, sent| {
            lab.segment(sent, SYN | ACK);
            lab.send(sent.client, &tcp(sent.client, ACK));
            lab.segment(sent, RST | ACK);
        }),
    ];
    for (what, case) in cases {
        each(&SEEN, &[11, 12], |lab| {
            for _ in 0..20 {
                let sent = lab.opens("tcp");
                case(lab, &sent);
            }
            lab.wait(70_000);
            lab.wait(1000);
            assert_eq!(lab.failures(), [], "{what}, {}", lab.what);
        });
    }
}

#[test]
fn where_no_answers_are_seen_only_icmp_errors_count() {
    each(&UNSEEN, &[11, 12], |lab| {
        for _ in 0..40 {
            // With forged senders, perhaps.
            let sent = lab.opens("tcp");
            lab.opens("udp");
            // Lost on its way, perhaps: the answer, which weir does not see, or its acknowledgement.
            lab.wait(1000);
            lab.send(sent.client, &tcp(sent.client, SYN));
        }
        lab.wait(5000);
        lab.wait(70_000);
        assert_eq!(lab.failures(), [], "{}", lab.what);
    });
    // Administratively prohibited: a firewall's policy.
    const PROHIBITED: u8 = 13;
    for (code, counts) in [
        (icmp::HOST_UNREACHABLE, true),
        (icmp::PORT_UNREACHABLE, true),
        (PROHIBITED, false),
    ] {
        for protocol in ["tcp", "udp"] {
            each(&["dr", "nat", "fullnat"], &[11, 12], |lab| {
                let is_unseen = lab.what.starts_with("dr");
                let others = |lab: &mut Lab, sent: &Sent| match (is_unseen, protocol) {
                    (true, _) => {}
                    (false, "tcp") => is_served(lab, sent),
                    (false, _) => lab.datagram(sent),
                };
                let all = lab.opens_to(protocol, 12, 5, others);
                for sent in &all {
                    lab.error(sent, code);
                    lab.error(sent, code);
                }
                lab.wait(200);
                let expected: &[_] = if counts { &[("unreachable", 5)] } else { &[] };
                assert_eq!(lab.failures(), expected, "{}, {code}", lab.what);
                assert_eq!(lab.is_held(protocol, 12), counts, "{}, {code}", lab.what);
            });
        }
    }
}

#[test]
fn the_last_available_one_is_never_held() {
    each(&SEEN, &[11, 12, 13], |lab| {
        for round in 0..6 {
            for _ in 0..10 {
                let sent = lab.opens("tcp");
                lab.segment(&sent, RST | ACK);
            }
            lab.wait(1000);
            let held = [11, 12, 13].map(|real| lab.is_held("tcp", real));
            let held = held.into_iter().filter(|held| *held).count();
            assert!(held <= 2, "{}, {round}", lab.what);
        }
        let held = [11, 12, 13].map(|real| lab.is_held("tcp", real));
        assert_eq!(
            held.into_iter().filter(|held| *held).count(),
            2,
            "{}",
            lab.what
        );
        // The one that is left is drained: those that are held are better than none.
        let left = [11, 12, 13]
            .into_iter()
            .find(|real| !lab.is_held("tcp", *real));
        lab.drain(left.unwrap());
        lab.wait(200);
        let sent = lab.opens("tcp");
        assert_ne!(Some(sent.real), left, "{}", lab.what);
    });
}

#[test]
fn no_hold_brings_a_service_below_its_minimum() {
    for (keys, may_be_held) in [
        ("min_healthy = 3\nwhen_below = \"refuse\"\n", 0),
        (
            "min_healthy = 2\nwhen_below = \"refuse\"\nhysteresis = 1\n",
            1,
        ),
        ("min_healthy = 3\nfallback = [\"10.0.0.14\"]\n", 0),
        ("fallback = [\"10.0.0.14\"]\n", 2),
    ] {
        for (mode, workers) in [("nat", 1), ("fullnat", 3)] {
            let keys = format!("{keys}{PASSIVE}");
            let mut lab = Lab::new(workers, mode, &[11, 12, 13], &keys);
            for _ in 0..6 {
                for _ in 0..10 {
                    let sent = lab.opens("tcp");
                    assert!(sent.real < 14, "{keys}: {}", sent.real);
                    lab.segment(&sent, RST | ACK);
                }
                lab.wait(1000);
            }
            let held = [11, 12, 13].map(|real| lab.is_held("tcp", real));
            let held = held.into_iter().filter(|held| *held).count();
            assert_eq!(held, may_be_held, "{keys}, {}", lab.what);
            if may_be_held < 2 {
                continue;
            }
            // The one that is left is drained: those that are held are better than a sorry server.
            let mut reals = [11, 12, 13].into_iter();
            let left = reals.find(|real| !lab.is_held("tcp", *real)).unwrap();
            lab.drain(left);
            lab.wait(200);
            assert_ne!(lab.opens("tcp").real, 14, "{keys}, {}", lab.what);
        }
    }
}

#[test]
fn nothing_is_counted_where_it_is_not_asked_for() {
    for workers in WORKERS {
        let mut lab = Lab::new(workers, "nat", &[11, 12], "");
        for _ in 0..20 {
            let sent = lab.opens("tcp");
            lab.segment(&sent, RST | ACK);
            lab.opens("udp");
        }
        lab.wait(10_000);
        assert_eq!(lab.failures(), []);
        assert!(!lab.is_held("tcp", 11) && !lab.is_held("tcp", 12));
    }
}

#[test]
fn a_reload_keeps_a_hold_unless_it_takes_passive_away() {
    let mut lab = Lab::new(2, "nat", &[11, 12], PASSIVE);
    for sent in lab.opens_to("tcp", 12, 5, is_served) {
        lab.segment(&sent, RST | ACK);
    }
    lab.wait(200);
    assert!(lab.is_held("tcp", 12));
    for is_watched in [true, false] {
        let mut config = lab.replay.model().config().clone();
        for service in &mut config.services {
            let service = std::sync::Arc::make_mut(service);
            service.name += "x";
            service.passive = service.passive.filter(|_| is_watched);
        }
        let time = Time::from_nanos(lab.now);
        lab.replay.reload(config, time).unwrap();
        assert_eq!(lab.is_held("tcp", 12), is_watched);
        lab.wait(200);
        assert_eq!(lab.is_held("tcp", 12), is_watched);
    }
}

//! `limits` of a service: what is refused, by which name, and what makes room again; alike with one worker and several.

use super::frames::{ACK, CLIENT, CLIENT_MAC, End, REAL, SYN, VIP, numbered, udp};
use super::{PORTS, SECOND, STATIC_REAL, T, parse};
use std::net::Ipv4Addr;
use weir::config::Config;
use weir::replay::Replay;
use weir::units::{PortId, Time};
use weir::verdict::{DropReason, Verdict};

const WORKERS: [usize; 3] = [1, 2, 5];
const RST: u8 = 4;

fn config(limits: &str) -> Config {
    let service = |protocol: &str, port: u16| {
        format!(
            "[[service]]\naddress = \"192.0.2.80\"\nport = {port}\nprotocol = \"{protocol}\"\nmode = \"nat\"\n{limits}\n\
             [[service.real]]\naddress = \"10.0.0.11\"\n"
        )
    };
    let gateway = format!(
        "[[neighbour]]\naddress = \"{CLIENT}\"\nmac = \"{CLIENT_MAC}\"\n[[route]]\nto = \"0.0.0.0/0\"\nvia = \"{CLIENT}\"\n"
    );
    parse(
        &[
            PORTS,
            STATIC_REAL,
            &gateway,
            &service("tcp", 80),
            &service("udp", 53),
        ]
        .concat(),
    )
}

/// Another client for each number, behind a router.
fn client(n: u16) -> Ipv4Addr {
    let [a, b, ..] = CLIENT.octets();
    let [high, low] = n.to_be_bytes();
    Ipv4Addr::new(a, b, 101 + high, low)
}

struct Lab {
    replay: Replay,
    now: u64,
}

impl Lab {
    fn new(workers: usize, limits: &str) -> Self {
        Lab {
            replay: Replay::new(&config(limits), workers, 10_000, Time::from_nanos(T)).unwrap(),
            now: T,
        }
    }

    fn reload(&mut self, limits: &str) {
        let now = Time::from_nanos(self.now);
        self.replay.reload(config(limits), now).unwrap();
    }

    fn at(&mut self, port: u8, frame: &[u8]) -> Option<DropReason> {
        // Many in a millisecond: no rate is reached by the time between them.
        self.now += 10_000;
        let now = Time::from_nanos(self.now);
        let decision = self.replay.receive(PortId(port), frame, now);
        self.replay.check().unwrap();
        match decision.verdict {
            Verdict::Drop(reason) => Some(reason),
            _ => None,
        }
    }

    fn wait(&mut self, nanos: u64) {
        self.now += nanos;
    }

    fn syn(&mut self, from: End) -> Option<DropReason> {
        self.at(0, &numbered(from, (VIP, 80), SYN, 1000, 0))
    }

    fn datagram(&mut self, from: End) -> Option<DropReason> {
        self.at(0, &udp(from, (VIP, 53), b"question"))
    }

    /// A whole handshake.
    fn establish(&mut self, from: End) -> Option<DropReason> {
        let refused = self.syn(from);
        if refused.is_none() {
            assert_eq!(
                self.at(1, &numbered((REAL, 80), from, SYN | ACK, 5000, 1001)),
                None
            );
            assert_eq!(
                self.at(0, &numbered(from, (VIP, 80), ACK, 1001, 5001)),
                None
            );
        }
        refused
    }

    fn reset(&mut self, from: End) {
        self.at(0, &numbered(from, (VIP, 80), RST, 1001, 0));
        self.at(1, &numbered((REAL, 80), from, RST, 5001, 0));
    }
}

/// What each limit refuses: so many of one client, and of many.
#[test]
fn each_limit_refuses_by_its_name_and_what_it_does_not_name_goes_on() {
    use DropReason::{LimitClientConnections, LimitClientNew, LimitConnections, LimitNew};
    let cases = [
        (
            "limits = { connections = 7 }",
            Some((7, LimitConnections)),
            Some((7, LimitConnections)),
        ),
        (
            "limits = { new_per_second = 7 }",
            Some((7, LimitNew)),
            Some((7, LimitNew)),
        ),
        (
            "limits = { per_client_connections = 7 }",
            Some((7, LimitClientConnections)),
            None,
        ),
        (
            "limits = { per_client_new_per_second = 7 }",
            Some((7, LimitClientNew)),
            None,
        ),
        (
            "limits = { connections = 9, per_client_new_per_second = 4 }",
            Some((4, LimitClientNew)),
            Some((9, LimitConnections)),
        ),
        ("deny = [\"10.9.9.9\"]", None, None),
    ];
    for workers in WORKERS {
        for (limits, of_one, of_many) in cases {
            for is_tcp in [true, false] {
                for (expected, is_one) in [(of_one, true), (of_many, false)] {
                    let mut lab = Lab::new(workers, limits);
                    for n in 0..20 {
                        let from = match is_one {
                            true => (client(9), 5000 + n),
                            false => (client(9 + n), 5000),
                        };
                        let refused = match is_tcp {
                            true => lab.establish(from),
                            // Answered: it is not given up for another.
                            false => lab
                                .datagram(from)
                                .or_else(|| lab.at(1, &udp((REAL, 53), from, b"answer"))),
                        };
                        let expected = expected.filter(|(most, _)| n >= *most);
                        let expected = expected.map(|(_, reason)| reason);
                        assert_eq!(
                            refused, expected,
                            "{limits}, {workers} workers, {n}, {is_tcp}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn what_ends_makes_room() {
    for workers in WORKERS {
        for limit in ["connections", "per_client_connections"] {
            let mut lab = Lab::new(workers, &format!("limits = {{ {limit} = 3 }}"));
            let from = |n: u16| (client(9), 5000 + n);
            for n in 0..3 {
                assert_eq!(lab.establish(from(n)), None);
            }
            assert!(lab.syn(from(3)).is_some());
            // Its packets go on, and one that is repeated is no new connection.
            assert_eq!(lab.syn(from(0)), None);
            lab.reset(from(1));
            lab.wait(30 * SECOND);
            assert_eq!(lab.establish(from(3)), None, "{limit}");
            assert!(lab.syn(from(4)).is_some());
        }
    }
}

#[test]
fn rates_come_back_evenly() {
    for workers in WORKERS {
        for limit in ["new_per_second", "per_client_new_per_second"] {
            let mut lab = Lab::new(workers, &format!("limits = {{ {limit} = 10 }}"));
            let begun = |lab: &mut Lab, first: u16| {
                (first..first + 40)
                    .filter(|port| lab.syn((client(9), *port)).is_none())
                    .count()
            };
            assert_eq!(begun(&mut lab, 1000), 10);
            lab.wait(SECOND / 5);
            assert_eq!(begun(&mut lab, 2000), 2);
            lab.wait(10 * SECOND);
            assert_eq!(begun(&mut lab, 3000), 10);
        }
    }
}

/// At the limit an old half-open connection gives way to a client; an established one never.
#[test]
fn half_open_connections_give_way() {
    for workers in WORKERS {
        let mut lab = Lab::new(workers, "limits = { connections = 50 }");
        for n in 0..10 {
            assert_eq!(lab.establish((client(9), 5000 + n)), None);
        }
        for n in 0..40 {
            assert_eq!(lab.syn((client(1000 + n), 5000)), None);
        }
        lab.wait(10 * SECOND);
        let let_in = (0..30).filter(|n| lab.establish((client(2000 + n), 5000)).is_none());
        // Each worker gives up its own.
        assert!(let_in.count() >= 10, "{workers}");
        lab.wait(SECOND);
        for n in 0..10 {
            let from = (client(9), 5000 + n);
            let segment = numbered(from, (VIP, 80), ACK, 1001, 5001);
            assert_eq!(lab.at(0, &segment), None, "{n} lives");
        }
        let mut full = Lab::new(workers, "limits = { connections = 5 }");
        (0..5).for_each(|n| assert_eq!(full.establish((client(n), 5000)), None));
        full.wait(10 * SECOND);
        assert_eq!(
            full.syn((client(77), 5000)),
            Some(DropReason::LimitConnections)
        );
    }
}

/// A flood of made-up senders uses up no client's own limits, and keeps out no client that comes again.
#[test]
fn a_flood_keeps_no_client_out() {
    for workers in WORKERS {
        let limits = "limits = { connections = 100, per_client_connections = 5, per_client_new_per_second = 5 }";
        let mut lab = Lab::new(workers, limits);
        let flood = |lab: &mut Lab, first: u16| {
            for n in 0..2000 {
                lab.syn((client(first + n), 7));
                lab.wait(SECOND / 2000);
            }
        };
        flood(&mut lab, 1000);
        lab.syn((client(9), 5000));
        flood(&mut lab, 3000);
        let again = lab.establish((client(9), 5000));
        assert_eq!(again, None, "{workers}");
    }
}

#[test]
fn a_reload_keeps_what_was_counted_and_what_is_there() {
    for workers in WORKERS {
        let mut lab = Lab::new(workers, "limits = { per_client_connections = 5 }");
        let from = |n: u16| (client(9), 5000 + n);
        (0..5).for_each(|n| assert_eq!(lab.establish(from(n)), None));
        assert!(lab.syn(from(5)).is_some());
        lab.reload("limits = { per_client_connections = 7, connections = 6 }");
        assert_eq!(lab.establish(from(5)), None);
        assert_eq!(lab.syn(from(6)), Some(DropReason::LimitConnections));
        lab.reload("limits = { per_client_connections = 2 }");
        assert_eq!(lab.syn(from(6)), Some(DropReason::LimitClientConnections));
        assert_eq!(
            lab.at(0, &numbered(from(0), (VIP, 80), ACK, 1001, 5001)),
            None
        );
        lab.reload("");
        (6..20).for_each(|n| assert_eq!(lab.establish(from(n)), None));
        lab.reload("limits = { connections = 20 }");
        assert_eq!(
            lab.syn(from(20)),
            Some(DropReason::LimitConnections),
            "all are counted"
        );
    }
}

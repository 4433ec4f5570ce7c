//! What a reload that changes a service's own keys makes of the connections that it has: timeouts, `on_idle`, `one_packet`, the
//! `[[pool]]` of its real servers, its range of ports.

use super::frames::{ACK, CLIENT, REAL, SYN, VIP, numbered, udp};
use super::{PORTS, SECOND, T, parse};
use std::collections::BTreeSet;
use weir::net::protocol;
use weir::replay::Replay;
use weir::units::{PortId, Time};
use weir::verdict::{ReplyReason, Verdict};
use weir::wire::ipv4;

const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);
const RST: u8 = 4;
const WORKERS: [usize; 3] = [1, 2, 4];

struct Lab {
    replay: Replay,
    now: u64,
}

impl Lab {
    fn new(workers: usize, services: &str) -> Self {
        Lab {
            replay: Replay::new(
                &parse(&file(services)),
                workers,
                10_000,
                Time::from_nanos(T),
            )
            .unwrap(),
            now: T,
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += seconds * SECOND;
    }

    fn reload(&mut self, services: &str) {
        let config = parse(&file(services));
        self.replay
            .reload(config, Time::from_nanos(self.now))
            .unwrap();
    }

    fn receive(&mut self, port: PortId, frame: &[u8]) -> Verdict {
        self.now += 1_000_000;
        let decision = self.replay.receive(port, frame, Time::from_nanos(self.now));
        self.replay.check().unwrap();
        decision.verdict
    }

    /// A packet of the client's, and the last number of the real server's address that it went to.
    fn real(&mut self, frame: &[u8]) -> u8 {
        let verdict = self.receive(WAN, frame);
        assert!(matches!(verdict, Verdict::Forward(LAN)), "{verdict:?}");
        self.replay.take_frames().last().unwrap().bytes()[33]
    }

    /// A connection that both sides have proved, and the last number of its real server's address.
    fn open(&mut self, client_port: u16, port: u16) -> u8 {
        let client = (CLIENT, client_port);
        let real = self.real(&numbered(client, (VIP, port), SYN, 1000, 0));
        let mut address = REAL.octets();
        address[3] = real;
        let answer = numbered((address.into(), port), client, SYN | ACK, 5000, 1001);
        assert!(matches!(self.receive(LAN, &answer), Verdict::Forward(WAN)));
        assert_eq!(self.real(&more(client_port, port)), real);
        real
    }

    fn live(&self) -> usize {
        self.replay.connections().count()
    }

    /// How many resets were sent since the last look.
    fn resets(&mut self) -> usize {
        let frames = self.replay.take_frames();
        let is_reset = |bytes: &[u8]| {
            ipv4::in_frame(bytes).is_some_and(|ip| ip.protocol() == protocol::TCP)
                && bytes[14 + 20 + 13] & RST != 0
        };
        frames.filter(|frame| is_reset(frame.bytes())).count()
    }
}

/// The client's next segment.
fn more(client_port: u16, port: u16) -> Vec<u8> {
    numbered((CLIENT, client_port), (VIP, port), ACK, 1001, 5001)
}

fn query(client_port: u16) -> Vec<u8> {
    udp((CLIENT, client_port), (VIP, 53), b"who?")
}

/// A file with these services.
fn file(services: &str) -> String {
    let mut text = format!(
        "{PORTS}\n[[neighbour]]\naddress = \"198.51.100.9\"\nmac = \"02:00:00:00:02:07\"\n"
    );
    for last in 11..14 {
        text += &format!(
            "[[neighbour]]\naddress = \"10.0.0.{last}\"\nmac = \"02:00:00:00:01:{last}\"\n"
        );
    }
    text + services
}

/// A nat service of the VIP with these other keys, and these real servers.
fn nat(protocol: &str, port: &str, more: &str, reals: &[u8]) -> String {
    let mut text = format!(
        "[[service]]\naddress = \"192.0.2.80\"\nport = {port}\nprotocol = \"{protocol}\"\nmode = \"nat\"\n\
         scheduler = \"rr\"\n{more}\n"
    );
    for last in reals {
        text += &format!("[[service.real]]\naddress = \"10.0.0.{last}\"\n");
    }
    text
}

/// What is gone on with, and what the client hears of the rest.
const GOES_ON: Verdict = Verdict::Forward(LAN);
const OVER: Verdict = Verdict::Reply(WAN, ReplyReason::NoConnection);
const TAKEN_AWAY: Verdict = Verdict::Reply(WAN, ReplyReason::RealRemoved);

/// A timeout counts from a connection's last packet on, whatever it was then.
#[test]
fn a_new_timeout_is_that_of_old_connections() {
    let long = nat("tcp", "80", "", &[11]);
    let short = nat("tcp", "80", "timeouts = { tcp_established = 30 }", &[11]);
    let for_all = format!("[timeouts]\ntcp_established = 30\n{long}");
    for workers in WORKERS {
        for short in [&short, &for_all] {
            for (before, after, silent, later, expected) in [
                (&long, short, 0, 20, GOES_ON),
                (&long, short, 0, 40, OVER),
                (&long, short, 20, 5, GOES_ON),
                (&long, short, 20, 15, OVER),
                (&long, short, 100, 0, OVER),
                (short, &long, 20, 100, GOES_ON),
                (short, &long, 20, 1000, OVER),
                (short, &long, 40, 0, OVER),
            ] {
                let what = format!("{silent} s, then {later} s, {workers} workers: {after}");
                let mut lab = Lab::new(workers, before);
                lab.open(5000, 80);
                lab.wait(silent);
                lab.reload(after);
                lab.wait(later);
                assert_eq!(lab.receive(WAN, &more(5000, 80)), expected, "{what}");
            }
        }
    }
}

#[test]
fn both_ends_of_an_idle_connection_hear_what_the_file_says_when_it_ends() {
    let [silent, told] = ["", "on_idle = \"reset\""].map(|key| nat("tcp", "80", key, &[11]));
    for workers in WORKERS {
        for (before, after, resets) in [
            (&silent, &told, 2),
            (&told, &silent, 0),
            (&told, &told, 2),
            (&silent, &silent, 0),
        ] {
            let mut lab = Lab::new(workers, before);
            lab.open(5000, 80);
            lab.wait(500);
            lab.reload(after);
            assert_eq!((lab.resets(), lab.live()), (0, 1), "nothing has ended yet");
            lab.wait(500);
            lab.receive(WAN, &query(7000));
            assert_eq!(
                (lab.resets(), lab.live()),
                (resets, 0),
                "{before} to {after}"
            );
        }
    }
}

#[test]
fn flows_are_given_up_for_one_packet_and_made_again_without_it() {
    let [flows, each] = ["", "one_packet = true"].map(|key| nat("udp", "53", key, &[11, 12]));
    for workers in WORKERS {
        let mut lab = Lab::new(workers, &flows);
        let reals =
            |lab: &mut Lab| -> BTreeSet<u8> { (0..6).map(|_| lab.real(&query(7000))).collect() };
        let own = reals(&mut lab);
        assert_eq!((own.len(), lab.live()), (1, 1));
        lab.reload(&each);
        assert_eq!(
            reals(&mut lab),
            BTreeSet::from([11, 12]),
            "{workers} workers"
        );
        lab.wait(400);
        assert_eq!(reals(&mut lab), BTreeSet::from([11, 12]));
        assert_eq!(
            lab.live(),
            0,
            "the flow of before has expired, and there is no other"
        );
        lab.reload(&flows);
        assert_eq!((reals(&mut lab).len(), lab.live()), (1, 1));
    }
}

#[test]
fn a_pool_changes_the_connections_of_all_its_services() {
    let pooled = |reals: &[u8]| {
        let list: Vec<_> = (reals.iter())
            .map(|last| format!("{{ address = \"10.0.0.{last}\" }}"))
            .collect();
        let pool = format!("[[pool]]\nname = \"farm\"\nreal = [{}]\n", list.join(", "));
        let service = |port| nat("tcp", port, "pool = \"farm\"", &[]);
        format!("{pool}{}{}", service("80"), service("81"))
    };
    let own = |reals: &[u8]| nat("tcp", "80", "", reals) + &nat("tcp", "81", "", reals);
    for workers in WORKERS {
        // The same real servers are the same, wherever they are written.
        for (before, same) in [
            (pooled(&[11, 12, 13]), own(&[11, 12, 13])),
            (own(&[11, 12, 13]), pooled(&[11, 12, 13])),
            (pooled(&[11, 12, 13]), pooled(&[13, 12, 11])),
        ] {
            let mut lab = Lab::new(workers, &before);
            let clients = (5000..5012).flat_map(|client| [(client, 80), (client, 81)]);
            let mut opened = Vec::new();
            for (client, port) in clients {
                opened.push((client, port, lab.open(client, port)));
            }
            let used = |port| opened.iter().filter(move |it| it.1 == port).map(|it| it.2);
            for port in [80, 81] {
                assert_eq!(used(port).collect::<BTreeSet<_>>().len(), 3);
            }
            lab.reload(&same);
            for (client, port, real) in &opened {
                assert_eq!(lab.real(&more(*client, *port)), *real, "{workers} workers");
            }
            lab.reload(&pooled(&[11, 13]));
            for (client, port, real) in &opened {
                let expected = match real {
                    12 => TAKEN_AWAY,
                    _ => GOES_ON,
                };
                assert_eq!(lab.receive(WAN, &more(*client, *port)), expected, "{real}");
            }
            let reals: BTreeSet<_> = (6000..6008).map(|client| lab.open(client, 81)).collect();
            assert_eq!(reals, BTreeSet::from([11, 13]));
        }
    }
}

#[test]
fn a_range_of_ports_with_other_ends_is_another_service() {
    let range = |ports: &str, more: &str| nat("tcp", &format!("\"{ports}\""), more, &[11]);
    let wide = range("8000-8099", "");
    let exact = nat("tcp", "8010", "", &[12]);
    let every = nat("tcp", "0", "", &[13]);
    for workers in WORKERS {
        for (what, after, expected) in [
            ("the same", wide.clone(), GOES_ON),
            (
                "another key",
                range("8000-8099", "timeouts = { tcp_established = 60 }"),
                GOES_ON,
            ),
            (
                "a port of its own beside it",
                exact.clone() + &wide,
                GOES_ON,
            ),
            ("every port beside it", wide.clone() + &every, GOES_ON),
            ("narrower", range("8000-8049", ""), TAKEN_AWAY),
            ("wider", range("8000-8199", ""), TAKEN_AWAY),
            ("another", range("9000-9099", ""), TAKEN_AWAY),
            ("the port alone", exact.clone(), TAKEN_AWAY),
            ("every port", every.clone(), TAKEN_AWAY),
        ] {
            let mut lab = Lab::new(workers, &wide);
            assert_eq!(lab.open(5000, 8010), 11);
            lab.reload(&after);
            let verdict = lab.receive(WAN, &more(5000, 8010));
            assert_eq!(verdict, expected, "{what}, {workers} workers");
        }
        // New connections go by the most exact one from then on.
        let mut lab = Lab::new(workers, &wide);
        lab.open(5000, 8010);
        lab.reload(&(exact.clone() + &wide + &every));
        for (client, port, real) in [(5001, 8010, 12), (5002, 8011, 11), (5003, 8100, 13)] {
            assert_eq!(lab.open(client, port), real, "{workers} workers");
        }
    }
}

//! Connections of two services whose replies could not be told apart, on different workers since a reload: who gives way.

use super::frames::{ACK, SYN, segment, udp};
use super::{PORTS, T, parse};
use std::net::Ipv4Addr;
use weir::config::Config;
use weir::net::ipv4;
use weir::replay::{Decision, Replay};
use weir::units::{PortId, Time};
use weir::verdict::{ReplyReason, Verdict};

const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
const WORKERS: [usize; 4] = [1, 2, 4, 7];

/// Protocol, last number of the VIP, further keys, real servers (last number of the address, weight).
type Service = (&'static str, u8, &'static str, Vec<(u8, u16)>);

fn config(services: &[Service]) -> Config {
    let mut text = PORTS.to_owned();
    for last in 11..60 {
        text += &format!(
            "[[neighbour]]\naddress = \"10.0.0.{last}\"\nmac = \"02:00:00:00:01:{last}\"\n"
        );
    }
    text += "[[neighbour]]\naddress = \"198.51.100.20\"\nmac = \"02:00:00:00:02:20\"\n";
    for (protocol, vip, keys, reals) in services {
        text += &format!(
            "[[service]]\naddress = \"192.0.2.{vip}\"\nport = 53\nprotocol = \"{protocol}\"\nmode = \"nat\"\n\
             scheduler = \"rr\"\n{keys}\n"
        );
        for (last, weight) in reals {
            text += &format!("[[service.real]]\naddress = \"10.0.0.{last}\"\nweight = {weight}\n");
        }
    }
    parse(&text)
}

struct Lab {
    replay: Replay,
    now: u64,
}

impl Lab {
    fn new(workers: usize, services: &[Service]) -> Self {
        let start = Time::from_nanos(T);
        Lab {
            replay: Replay::new(&config(services), workers, 1000, start).unwrap(),
            now: T,
        }
    }

    fn receive(&mut self, port: PortId, frame: &[u8]) -> (Decision, Option<Vec<u8>>) {
        self.now += 1_000_000;
        let decision = self.replay.receive(port, frame, Time::from_nanos(self.now));
        self.replay.check().unwrap();
        let sent = self.replay.take_frames().last();
        (decision, sent.map(|frame| frame.bytes().to_vec()))
    }

    fn reload(&mut self, services: &[Service]) {
        let now = Time::from_nanos(self.now);
        self.replay.reload(config(services), now).unwrap();
    }

    fn asks(&mut self, vip: u8, port: u16) -> Decision {
        let to = (Ipv4Addr::new(192, 0, 2, vip), 53);
        self.receive(WAN, &udp((CLIENT, port), to, b"who?")).0
    }

    /// The VIP that the client sees the real server's answer come from.
    fn answered_by(&mut self, last: u8, port: u16) -> Option<u8> {
        let from = (Ipv4Addr::new(10, 0, 0, last), 53);
        let (decision, sent) = self.receive(LAN, &udp(from, (CLIENT, port), b"me!"));
        (decision.verdict == Verdict::Forward(WAN)).then(|| sent.unwrap()[29])
    }

    fn connects(&mut self, vip: u8, port: u16, real: u8) {
        let to = (Ipv4Addr::new(192, 0, 2, vip), 53);
        let from = (Ipv4Addr::new(10, 0, 0, real), 53);
        self.receive(WAN, &segment((CLIENT, port), to, SYN));
        self.receive(LAN, &segment(from, (CLIENT, port), SYN | ACK));
        self.receive(WAN, &segment((CLIENT, port), to, ACK));
    }

    fn real(&self, decision: &Decision) -> u8 {
        let id = decision.context.real.unwrap();
        ipv4(self.replay.model().real(id).unwrap().1).octets()[3]
    }
}

/// Thirty real servers, of which the first and the last have weights: their ids have the same place in a [`Taken`].
///
/// [`Taken`]: weir::packet::Taken
fn far_apart() -> Vec<(u8, u16)> {
    let between = (20..48).map(|last| (last, 0));
    [(11, 1)]
        .into_iter()
        .chain(between)
        .chain([(12, 1)])
        .collect()
}

#[test]
fn only_the_real_server_that_was_made_free_is_taken() {
    for workers in WORKERS {
        for port in 5000..5040 {
            let mut services = vec![
                ("udp", 80, "", vec![(11, 1)]),
                ("udp", 81, "", vec![(12, 1)]),
            ];
            let mut lab = Lab::new(workers, &services);
            // The first one gives way, as it was answered; the second one does not.
            lab.asks(80, port);
            assert_eq!(lab.answered_by(11, port), Some(80));
            lab.asks(81, port);
            services.push(("udp", 82, "", far_apart()));
            lab.reload(&services);
            let decision = lab.asks(82, port);
            if decision.verdict == Verdict::Forward(LAN) {
                assert_eq!(lab.real(&decision), 11, "{workers} workers, port {port}");
            }
            assert_eq!(
                lab.answered_by(12, port),
                Some(81),
                "{workers} workers, port {port}"
            );
        }
    }
}

#[test]
fn where_nobody_serves_the_client_is_told_so() {
    for workers in WORKERS {
        for port in 5000..5040 {
            let mut services = vec![("tcp", 80, "", vec![(11, 1)])];
            let mut lab = Lab::new(workers, &services);
            lab.connects(80, port, 11);
            services.push(("tcp", 82, "", vec![(11, 0), (12, 0)]));
            lab.reload(&services);
            let to = (Ipv4Addr::new(192, 0, 2, 82), 53);
            let (decision, _) = lab.receive(WAN, &segment((CLIENT, port), to, SYN));
            assert_eq!(
                decision.verdict,
                Verdict::Reply(WAN, ReplyReason::NoRealServer),
                "{workers} workers, port {port}"
            );
        }
    }
}

#[test]
fn a_client_bound_through_a_drain_gets_its_real_server() {
    let keys = "persistence = { timeout = 300, prefix_v4 = 32, through_drain = true }";
    for workers in WORKERS {
        for port in 5000..5040 {
            let mut services = vec![("udp", 80, "", vec![(11, 1)])];
            let mut lab = Lab::new(workers, &services);
            lab.asks(80, port);
            lab.answered_by(11, port);
            services.push(("udp", 82, keys, vec![(11, 1)]));
            lab.reload(&services);
            lab.asks(82, 6000);
            lab.answered_by(11, 6000);
            services[1].3[0].1 = 0;
            lab.reload(&services);
            let decision = lab.asks(82, port);
            assert_eq!(
                decision.verdict,
                Verdict::Forward(LAN),
                "{workers} workers, port {port}"
            );
        }
    }
}

//! SCTP associations and reloads: what goes on, and what both ends are told.

use super::frames::{CLIENT, End, VIP, WEIR_LAN, sctp};
use super::{PORTS, SECOND, T, parse};
use weir::config::Config;
use weir::replay::{Decision, Replay};
use weir::units::{PortId, Time};
use weir::verdict::{DropReason, ReplyReason, Verdict};
use weir::wire::ipv4;
use weir::wire::sctp::{Sctp, chunk};

const SACK: (u8, u8) = (3, 0);
const PORT: u16 = 36412;
/// The tags of packets to the client, and to the real server.
const OURS: u32 = 0x0c0f_fee1;
const THEIRS: u32 = 0x5e4e_4e02;

/// A service `s1` of SCTP, or of TCP, with these real servers and weights, in a mode; none without any.
fn config(mode: &str, protocol: &str, reals: &[(u8, u16)]) -> Config {
    let mut text = format!(
        "{PORTS}[[local_pool]]\nname = \"inside\"\naddresses = [\"10.0.0.200\"]\n\
         [[neighbour]]\naddress = \"198.51.100.9\"\nmac = \"02:00:00:00:00:c1\"\n"
    );
    for last in 11..20 {
        text += &format!(
            "[[neighbour]]\naddress = \"10.0.0.{last}\"\nmac = \"02:00:00:00:01:{last}\"\n"
        );
    }
    if !reals.is_empty() {
        text += &format!(
            "[[service]]\nname = \"s1\"\naddress = \"192.0.2.80\"\nport = {PORT}\nprotocol = \"{protocol}\"\n\
             mode = \"{mode}\"\nscheduler = \"rr\"\n"
        );
        if mode == "fullnat" {
            text += "local_pool = \"inside\"\n";
        }
    }
    for (last, weight) in reals {
        text += &format!("[[service.real]]\naddress = \"10.0.0.{last}\"\nweight = {weight}\n");
    }
    parse(&text)
}

struct Lab {
    replay: Replay,
    now: u64,
}

impl Lab {
    fn new(workers: usize, config: &Config) -> Self {
        Lab {
            replay: Replay::new(config, workers, 10_000, Time::from_nanos(T)).unwrap(),
            now: T,
        }
    }

    fn receive(&mut self, port: u8, frame: &[u8]) -> (Decision, Option<Vec<u8>>) {
        self.now += 1_000_000;
        let now = Time::from_nanos(self.now);
        let decision = self.replay.receive(PortId(port), frame, now);
        self.replay.check().unwrap();
        let sent = self.replay.take_frames().last();
        (decision, sent.map(|sent| sent.bytes().to_vec()))
    }

    /// A packet of the client's.
    fn client(&mut self, port: u16, tag: u32, kind: (u8, u8), value: &[u8]) -> (Decision, Vec<u8>) {
        let frame = sctp((CLIENT, port), (VIP, PORT), tag, kind, value);
        let (decision, sent) = self.receive(0, &frame);
        (decision, sent.unwrap_or_default())
    }

    /// The real server's answer to what it was sent.
    fn real(&mut self, request: &[u8], tag: u32, kind: (u8, u8), value: &[u8]) -> Decision {
        let (from, to) = ends(request);
        let mut frame = sctp(to, from, tag, kind, value);
        frame[..6].copy_from_slice(&WEIR_LAN.0);
        self.receive(1, &frame).0
    }

    /// Makes an association: its last request, as the real server got it.
    fn associate(&mut self, port: u16) -> Vec<u8> {
        let (first, sent) = self.client(port, 0, (chunk::INIT, 0), &begins(OURS));
        assert!(matches!(first.verdict, Verdict::Forward(_)), "{first:?}");
        self.real(&sent, OURS, (chunk::INIT_ACK, 0), &begins(THEIRS));
        let (_, sent) = self.client(port, THEIRS, (chunk::COOKIE_ECHO, 0), b"cookie!!");
        let last = self.real(&sent, OURS, (chunk::COOKIE_ACK, 0), b"");
        assert_eq!(last.context.state, Some("established"), "{last:?}");
        sent
    }

    fn reload(&mut self, config: Config) {
        let now = Time::from_nanos(self.now);
        self.replay.reload(config, now).unwrap();
    }
}

/// The fields of an INIT or INIT ACK without parameters.
fn begins(tag: u32) -> Vec<u8> {
    let rest = [0, 1, 0xa0, 0, 0, 10, 0xff, 0xff, 0, 0, 0, 7];
    [&tag.to_be_bytes()[..], &rest].concat()
}

fn view(frame: &[u8]) -> (ipv4::Ipv4<&[u8]>, Sctp<&[u8]>) {
    let ip = ipv4::in_frame(frame).unwrap();
    let packet = Sctp::new_checked(ip.payload()).unwrap();
    assert!(packet.is_checksum_right());
    (ip, packet)
}

fn ends(frame: &[u8]) -> (End, End) {
    let (ip, packet) = view(frame);
    (
        (ip.source(), packet.source_port()),
        (ip.destination(), packet.destination_port()),
    )
}

const WORKERS: [usize; 3] = [1, 2, 4];

#[test]
fn associations_stay_and_new_ones_go_where_the_new_file_says() {
    for workers in WORKERS {
        for mode in ["nat", "fullnat"] {
            let mut lab = Lab::new(workers, &config(mode, "sctp", &[(11, 1)]));
            let ports = 50_000..50_020;
            ports.clone().for_each(|port| drop(lab.associate(port)));
            lab.reload(config(mode, "sctp", &[(11, 0), (12, 1)]));
            for port in ports {
                let (decision, sent) = lab.client(port, THEIRS, SACK, &[0; 12]);
                assert_eq!(decision.context.state, Some("established"));
                assert_eq!(ends(&sent).1.0.octets()[3], 11, "{mode}, {workers} workers");
                let next = lab.associate(port + 100);
                assert_eq!(ends(&next).1.0.octets()[3], 12, "{mode}, {workers} workers");
            }
        }
    }
}

/// As a TCP connection's client hears it by a reset: an ABORT that has the tag of its own packet, reflected.
#[test]
fn a_client_hears_that_its_real_server_or_its_service_is_gone() {
    for workers in WORKERS {
        for mode in ["nat", "fullnat"] {
            for after in [
                config(mode, "sctp", &[(12, 1)]),
                config(mode, "tcp", &[(12, 1)]),
                config(mode, "sctp", &[]),
            ] {
                let mut lab = Lab::new(workers, &config(mode, "sctp", &[(11, 1)]));
                let last = lab.associate(50_000);
                lab.reload(after);
                // What the real server has on its way still passes.
                let late = lab.real(&last, OURS, SACK, &[0; 12]);
                assert!(matches!(late.verdict, Verdict::Forward(_)), "{late:?}");
                let (decision, sent) = lab.client(50_000, THEIRS, SACK, &[0; 12]);
                let told = Verdict::Reply(PortId(0), ReplyReason::RealRemoved);
                assert_eq!(decision.verdict, told, "{mode}, {workers} workers");
                let (_, packet) = view(&sent);
                assert!(packet.is_tag_reflected() && packet.tag() == THEIRS);
                assert_eq!(ends(&sent), ((VIP, PORT), (CLIENT, 50_000)));
            }
        }
    }
}

#[test]
fn a_file_without_sctp_leaves_sctp_unsupported() {
    let mut lab = Lab::new(1, &config("nat", "tcp", &[(11, 1)]));
    let (decision, _) = lab.client(50_000, 0, (chunk::INIT, 0), &begins(OURS));
    assert_eq!(
        decision.verdict,
        Verdict::Drop(DropReason::UnsupportedProtocol)
    );
    lab.reload(config("nat", "sctp", &[(11, 1)]));
    lab.associate(50_000);
}

/// The kernel's times, and `sctp_established`: each packet of either side begins them anew.
#[test]
fn an_association_lives_as_long_as_one_side_is_heard() {
    let mut lab = Lab::new(2, &config("fullnat", "sctp", &[(11, 1)]));
    let last = lab.associate(50_000);
    for _ in 0..5 {
        lab.now += 800 * SECOND;
        let decision = lab.real(&last, OURS, SACK, &[0; 12]);
        assert_eq!(decision.context.state, Some("established"), "{decision:?}");
    }
    lab.now += 901 * SECOND;
    let (decision, _) = lab.client(50_000, THEIRS, SACK, &[0; 12]);
    assert!(
        matches!(
            decision.verdict,
            Verdict::Reply(_, ReplyReason::NoConnection)
        ),
        "{decision:?}"
    );
}

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

    /// So many steps of an association's life. Its INIT, as the real server got it; nothing before that.
    fn advance(&mut self, stage: usize) -> Vec<u8> {
        let mut sent = vec![];
        for step in 1..=stage {
            match step {
                1 => sent = self.client(5000, 0, (chunk::INIT, 0), &begins(OURS)).1,
                2 => drop(self.real(&sent, OURS, (chunk::INIT_ACK, 0), &begins(THEIRS))),
                3 => {
                    self.client(5000, THEIRS, (chunk::COOKIE_ECHO, 0), b"cookie!!");
                    self.real(&sent, OURS, (chunk::COOKIE_ACK, 0), b"");
                }
                _ => drop(self.client(5000, THEIRS, (chunk::SHUTDOWN, 0), &[0; 4])),
            }
        }
        sent
    }

    /// What can be seen of the association: connections, and what becomes of later packets of both sides, by state.
    fn probe(&mut self, request: &[u8]) -> (u64, Vec<(Verdict, Option<&'static str>)>) {
        let live = |lab: &Lab| lab.replay.stats().total(|worker| worker.connections.get());
        let before = live(self);
        let mut seen = vec![];
        let mut note = |decision: Decision| seen.push((decision.verdict, decision.context.state));
        note(self.client(5000, THEIRS, SACK, &[0; 12]).0);
        if !request.is_empty() {
            note(self.real(request, OURS, SACK, &[0; 12]));
        }
        note(self.client(5000, 0, (chunk::INIT, 0), &begins(OURS)).0);
        (before, seen)
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

/// A first fragment of a frame.
fn cut(mut frame: Vec<u8>) -> Vec<u8> {
    let ip = &mut frame[14..34];
    ip[6..8].copy_from_slice(&0x2000u16.to_be_bytes());
    ip[10..12].fill(0);
    let sum: u32 = (ip.chunks(2))
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// A fragment that cannot be translated is dropped, and it is as if it had never come: no association is made of it, and none
/// changes its state, its time or its tags.
#[test]
fn what_cannot_be_translated_changes_nothing() {
    let kinds = [
        (chunk::INIT, 0),
        (chunk::INIT_ACK, 0),
        (chunk::COOKIE_ECHO, 0),
        (chunk::DATA, 0),
        (chunk::SHUTDOWN, 0),
        (chunk::SHUTDOWN_ACK, 0),
        (chunk::ABORT, 0),
    ];
    let mut dropped = 0;
    for (mode, kind) in ["nat", "fullnat"]
        .iter()
        .flat_map(|mode| kinds.map(|kind| (mode, kind)))
    {
        // Before the INIT, after it, after the answer, and once the association is established or shut down.
        for stage in 0..5 {
            for by_client in [true, false] {
                let value = [&begins(0x77)[..], &[0; 16]].concat();
                let mut labs = [(); 2].map(|()| Lab::new(1, &config(mode, "sctp", &[(11, 1)])));
                let requests = labs.each_mut().map(|lab| lab.advance(stage));
                // An association that only its INIT was heard of lives for four seconds.
                labs.iter_mut().for_each(|lab| lab.now += 3 * SECOND);
                let (with, without) = labs.split_at_mut(1);
                let (with, without) = (&mut with[0], &mut without[0]);
                let (from, to) = match requests[0].as_slice() {
                    [] => ((CLIENT, 5000), (VIP, PORT)),
                    _ if by_client => ((CLIENT, 5000), (VIP, PORT)),
                    request => {
                        let (from, to) = ends(request);
                        (to, from)
                    }
                };
                let tag = match (by_client, kind.0) {
                    (true, chunk::INIT) => 0,
                    (true, _) => THEIRS,
                    (false, _) => OURS,
                };
                let mut frame = cut(sctp(from, to, tag, kind, &value));
                let port = u8::from(from.0 != CLIENT);
                if port == 1 {
                    frame[..6].copy_from_slice(&WEIR_LAN.0);
                }
                let (decision, _) = with.receive(port, &frame);
                with.now += 3 * SECOND / 2;
                without.now = with.now;
                if decision.verdict != Verdict::Drop(DropReason::SctpFragment) {
                    continue;
                }
                dropped += 1;
                let told = [with, without].map(|lab| lab.probe(&requests[0]));
                assert_eq!(
                    told[0], told[1],
                    "{mode}, {kind:?}, stage {stage}, {by_client}"
                );
            }
        }
    }
    // All but the ones of a kind that keeps its ports, and what belongs to no association.
    assert!(dropped > 60, "{dropped}");
}

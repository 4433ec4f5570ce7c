//! Connections that are kept go on in the next process as if nothing had been: with as many workers as before, or others.

use super::frames::{
    ACK, CLIENT, End, REAL, SYN, VIP, ends, numbered, numbered_data, segment, udp,
};
use super::{PORTS, SECOND, T, parse, six};
use std::collections::BTreeMap;
use weir::config::Config;
use weir::conn::Key;
use weir::director::Restored;
use weir::record::Place;
use weir::replay::{Decision, Replay};
use weir::units::{PortId, RealId, Time};
use weir::verdict::Verdict;

const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);

const NETWORK: &str = r#"
[[neighbour]]
address = "198.51.100.9"
mac = "02:00:00:00:02:07"
[[neighbour]]
address = "10.0.0.11"
mac = "02:00:00:00:01:11"
[[neighbour]]
address = "10.0.0.12"
mac = "02:00:00:00:01:12"
[[local_pool]]
name = "inside"
addresses = ["10.0.0.200", "10.0.0.201"]
ports = "40000-40999"
"#;

const FULLNAT: &str = "mode = \"fullnat\"\nlocal_pool = \"inside\"";

/// A service on a port, with two real servers.
fn service(port: u16, protocol: &str, rest: &str) -> String {
    format!(
        "[[service]]\naddress = \"192.0.2.80\"\nport = {port}\nprotocol = \"{protocol}\"\nscheduler = \"rr\"\n{rest}\n\
         [[service.real]]\naddress = \"10.0.0.11\"\nport = 8080\n[[service.real]]\naddress = \"10.0.0.12\"\nport = 8080\n"
    )
}

/// The families of the clients and of the real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ways {
    Four,
    Six,
    FourToSix,
    SixToFour,
}

impl Ways {
    fn config(self) -> Config {
        let persistent = format!("{FULLNAT}\npersistence = {{ timeout = 300 }}");
        let mut services = vec![
            service(82, "tcp", FULLNAT),
            service(
                84,
                "tcp",
                &format!("{FULLNAT}\nclient_address = \"proxy-v2\""),
            ),
            service(86, "tcp", &persistent),
            service(53, "udp", FULLNAT),
        ];
        if matches!(self, Ways::Four | Ways::Six) {
            let limits = "limits = { per_client_connections = 1000 }";
            services.extend([
                service(80, "tcp", "mode = \"dr\""),
                service(81, "tcp", &format!("mode = \"nat\"\n{limits}")),
                service(87, "tcp", "mode = \"nat\"\npersistence = { timeout = 300 }"),
                service(54, "udp", "mode = \"nat\""),
            ]);
        }
        let plain = parse(&format!("{PORTS}{NETWORK}{}", services.concat()));
        match self {
            Ways::Four => plain,
            Ways::Six => six::config(&plain, false),
            Ways::FourToSix => six::crossing(&plain, false),
            Ways::SixToFour => six::crossing(&plain, true),
        }
    }

    /// A frame of IPv4 in the family of the side that it comes from.
    fn received(self, port: PortId, frame: &[u8]) -> Vec<u8> {
        let is_six = match self {
            Ways::Four => false,
            Ways::Six => true,
            Ways::FourToSix => port != WAN,
            Ways::SixToFour => port == WAN,
        };
        match is_six {
            true => six::frame(frame).unwrap(),
            false => frame.to_vec(),
        }
    }
}

/// What a frame says, but for the identification of its header, which each worker counts for itself.
fn said(frame: &[u8]) -> Vec<u8> {
    let mut frame = six::back(frame).unwrap_or_else(|| frame.to_vec());
    for at in [18, 19, 24, 25] {
        frame[at] = 0;
    }
    frame
}

/// The bytes behind the TCP header of an IPv4 frame.
fn payload(frame: &[u8]) -> u32 {
    let total = u16::from_be_bytes([frame[16], frame[17]]);
    u32::from(total) - 20 - u32::from(frame[46] >> 4) * 4
}

struct Lab {
    replay: Replay,
    ways: Ways,
    now: u64,
}

impl Lab {
    fn receive(&mut self, port: PortId, frame: &[u8]) -> (Decision, Vec<Vec<u8>>) {
        self.now += 1_000_000;
        let frame = self.ways.received(port, frame);
        let now = Time::from_nanos(self.now);
        let decision = self.replay.receive(port, &frame, now);
        self.replay.check().unwrap();
        let sent = self.replay.take_frames();
        (decision, sent.map(|frame| said(frame.bytes())).collect())
    }

    /// Opens a connection, and sends the first data; whom its real server answers, if it does so through weir.
    fn open(&mut self, client: u16, service: u16) -> Option<(End, End)> {
        let (from, to) = ((CLIENT, client), (VIP, service));
        if service < 60 {
            let (decision, sent) = self.receive(WAN, &udp(from, to, b"who?"));
            assert_eq!(decision.verdict, Verdict::Forward(LAN), "{service}");
            let (local, real, _) = ends(&sent[0]).unwrap();
            self.receive(LAN, &udp(real, local, b"me!"));
            return Some((real, local));
        }
        let (decision, sent) = self.receive(WAN, &numbered(from, to, SYN, 1000, 0));
        assert_eq!(decision.verdict, Verdict::Forward(LAN), "{service}");
        let (local, real, _) = ends(&sent[0]).unwrap();
        let is_seen = real.0 != VIP;
        if is_seen {
            let (decision, _) = self.receive(LAN, &numbered(real, local, SYN | ACK, 5000, 1001));
            assert_eq!(decision.verdict, Verdict::Forward(WAN), "{service}");
        }
        self.receive(WAN, &numbered(from, to, ACK, 1001, 5001));
        let (_, sent) = self.receive(WAN, &numbered_data(from, to, ACK, (1001, 5001), b"data"));
        if is_seen {
            let next = 1001 + payload(&sent[0]);
            self.receive(LAN, &numbered(real, local, ACK, 5001, next));
        }
        is_seen.then_some((real, local))
    }

    /// What becomes of more data from both sides.
    fn talk(&mut self, client: u16, service: u16, back: Option<(End, End)>) -> Vec<String> {
        let (from, to) = ((CLIENT, client), (VIP, service));
        let mut all = Vec::new();
        let mut note = |(decision, sent): (Decision, Vec<Vec<u8>>)| {
            all.push(format!("{:?} {sent:02x?}", decision.verdict));
        };
        if service < 60 {
            note(self.receive(WAN, &udp(from, to, b"and?")));
            let (real, local) = back.unwrap();
            note(self.receive(LAN, &udp(real, local, b"so!")));
            return all;
        }
        note(self.receive(WAN, &numbered_data(from, to, ACK, (1005, 5001), b"more")));
        if let Some((real, local)) = back {
            // A PROXY header of the client's family is in front of its data.
            let header = match (service, self.ways) {
                (84, Ways::Four | Ways::FourToSix) => 28,
                (84, Ways::Six | Ways::SixToFour) => 52,
                _ => 0,
            };
            let numbers = (5001, 1009 + header);
            note(self.receive(LAN, &numbered_data(real, local, ACK, numbers, b"fine")));
        }
        all
    }

    /// The connections of each real server that are active, and that are not.
    fn loads(&self) -> Vec<(u32, u32)> {
        let stats = self.replay.stats();
        (0..32).map(|id| stats.load(RealId(id))).collect()
    }
}

fn kept(
    ways: Ways,
    workers: usize,
    now: u64,
    path: &std::path::Path,
    config: &Config,
) -> (Lab, Restored) {
    let place = Place::anywhere(path).unwrap();
    let start = Time::from_nanos(now);
    let (replay, restored) = Replay::keeping(config, workers, 10_000, start, place).unwrap();
    (Lab { replay, ways, now }, restored)
}

/// Services of a configuration, by their ports.
fn ports(config: &Config) -> Vec<u16> {
    config.services.iter().map(|it| it.port).collect()
}

#[test]
fn connections_go_on_with_as_many_workers_or_others() {
    let folder = tempfile::tempdir().unwrap();
    for ways in [Ways::Four, Ways::Six, Ways::FourToSix, Ways::SixToFour] {
        let config = ways.config();
        for (before, after) in [(1, 1), (4, 4), (1, 3), (4, 1), (4, 7), (2, 5)] {
            let path = folder.path().join(format!("{ways:?}-{before}-{after}"));
            let (mut lab, nothing) = kept(ways, before, T, &path, &config);
            assert_eq!(nothing, Restored::default());
            // The same without a restart.
            let replay = Replay::new(&config, before, 10_000, Time::from_nanos(T)).unwrap();
            let mut model = Lab {
                replay,
                ways,
                now: T,
            };
            let mut open = Vec::new();
            for client in 0..24 {
                for port in ports(&config) {
                    let client = 5000 + client * 7;
                    let back = lab.open(client, port);
                    assert_eq!(model.open(client, port), back);
                    open.push((client, port, back));
                }
            }
            let live = lab.replay.stats().total(|worker| worker.connections.get());
            let (loads, now) = (lab.loads(), lab.now);
            drop(lab);
            let (mut lab, restored) = kept(ways, after, now + SECOND, &path, &config);
            let what = format!("{ways:?}, {before} workers and then {after}: {restored:?}");
            assert_eq!(restored.connections as usize, open.len(), "{what}");
            assert_eq!(restored.connections + restored.templates, live, "{what}");
            assert!(restored.templates > 0, "{what}");
            assert_eq!(lab.loads(), loads, "{what}");
            model.now += SECOND;
            for (client, port, back) in &open {
                let expected = model.talk(*client, *port, *back);
                let found = lab.talk(*client, *port, *back);
                assert_eq!(found, expected, "{what}: port {port} from {client}");
            }
            // A local pair is in use again: new connections take others.
            let mut pairs = BTreeMap::new();
            for (client, port, back) in &open {
                if let Some((real, local)) = back {
                    assert_eq!(
                        pairs.insert((*port < 60, *real, *local), *client),
                        None,
                        "{what}"
                    );
                }
            }
            for client in 0..24 {
                for port in [82, 53] {
                    let (real, local) = lab.open(9000 + client, port).unwrap();
                    let place = (port < 60, real, local);
                    assert_eq!(pairs.insert(place, client), None, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_connection_that_is_not_to_go_on_ends_as_one_of_a_removed_real_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    let ways = Ways::Four;
    let config = ways.config();
    let (mut lab, _) = kept(ways, 2, T, &path, &config);
    let open: Vec<_> = (0..20u16)
        .map(|n| (5000 + n, lab.open(5000 + n, 82).unwrap().0.0))
        .collect();
    lab.open(6000, 80);
    lab.open(6001, 81);
    let now = lab.now;
    drop(lab);
    // Without one of the real servers, without a service, and with one in another mode.
    let mut other = config.clone();
    other.services.retain(|it| it.port != 81);
    for service in &mut other.services {
        let service = std::sync::Arc::make_mut(service);
        match service.port {
            82 => service.reals.retain(|real| real.address == REAL),
            80 => service.mode = weir::config::ModeConfig::Nat,
            _ => {}
        }
    }
    let (mut lab, restored) = kept(ways, 2, now, &path, &other);
    let gone = open.iter().filter(|(_, real)| *real != REAL).count() as u64;
    assert!(gone > 5);
    assert_eq!(
        (restored.connections, restored.unknown),
        (20 - gone, gone + 2)
    );
    for (client, real) in open {
        let (decision, sent) = lab.receive(WAN, &segment((CLIENT, client), (VIP, 82), ACK));
        if real == REAL {
            assert_eq!(decision.verdict, Verdict::Forward(LAN));
            continue;
        }
        assert!(
            matches!(decision.verdict, Verdict::Reply(WAN, _)),
            "{decision:?}"
        );
        assert_eq!(sent[0][14 + 20 + 13], 4, "a RST to the client");
        lab.open(client, 82);
    }
    // What was left out is forgotten: it is not in the next file.
    let now = lab.now;
    drop(lab);
    let (_, restored) = kept(ways, 3, now, &path, &config);
    assert_eq!((restored.connections, restored.unknown), (20, 0));
}

#[test]
fn inside_hosts_own_connections_go_on_and_time_does_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    let text = format!(
        "{PORTS}{NETWORK}[[local_pool]]\nname = \"outside\"\naddresses = [\"198.51.100.200\"]\n\
         [[snat]]\nfrom = \"10.0.0.0/24\"\npool = \"outside\"\n"
    );
    let config = parse(&text);
    let start = |now: u64| kept(Ways::Four, 4, now, &path, &config);
    let (mut lab, _) = start(T);
    let remote = |n: u16| (CLIENT, 53 + n);
    let pairs: Vec<_> = (0..20u16)
        .map(|n| {
            let (_, sent) = lab.receive(LAN, &udp((REAL, 7000 + n), remote(n), b"?"));
            ends(&sent[0]).unwrap().0
        })
        .collect();
    let now = lab.now;
    drop(lab);
    let (mut lab, restored) = start(now + 100 * SECOND);
    assert_eq!((restored.connections, restored.unplaced), (20, 0));
    for (n, pair) in (0..).zip(&pairs) {
        let (decision, _) = lab.receive(WAN, &udp(remote(n), *pair, b"!"));
        assert_eq!(decision.verdict, Verdict::Forward(LAN));
        let (_, sent) = lab.receive(LAN, &udp((REAL, 7000 + n), remote(n), b"?"));
        assert_eq!(ends(&sent[0]).unwrap().0, *pair);
    }
    let now = lab.now;
    drop(lab);
    // 300 s without a packet: what is restored is over.
    let (mut lab, _) = start(now + 301 * SECOND);
    // The hand that ends them goes round once in a second.
    lab.now += 2 * SECOND;
    lab.receive(LAN, &udp((REAL, 6999), remote(40), b"?"));
    let live: Vec<_> = lab
        .replay
        .connections()
        .map(|(_, it)| it.request.source_port())
        .collect();
    assert_eq!(live, [6999]);
}

#[test]
fn a_file_of_nothing_or_of_something_else_is_a_clean_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = Ways::Four.config();
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("text", b"state\n"),
        ("zeros", &[0; 70_000]),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
        let place = Place::anywhere(&path).unwrap();
        assert!(place.kept().is_err(), "{name}");
        drop(place);
        let (_, restored) = kept(Ways::Four, 2, T, &path, &config);
        assert_eq!(restored, Restored::default());
    }
    // One that others may write to, or a link: neither is read.
    let path = folder.path().join("empty");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    assert!(Place::anywhere(&path).is_err());
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(Place::anywhere(&link).is_err());
}

#[test]
#[ignore = "a measurement: cargo test --release --test replay a_million -- --ignored --nocapture"]
fn a_million_connections_are_taken_over() {
    const COUNT: u32 = 1_000_000;
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("kept");
    let config = parse(&format!(
        "{PORTS}{NETWORK}{}",
        service(81, "tcp", "mode = \"nat\"")
    ));
    let kept = |path: &std::path::Path| {
        let place = Place::anywhere(path).unwrap();
        Replay::keeping(&config, 1, COUNT as usize, Time::from_nanos(T), place).unwrap()
    };
    let empty = std::time::Instant::now();
    let (mut replay, _) = kept(&path);
    let empty = empty.elapsed();
    for n in 0..COUNT {
        let client = (
            std::net::Ipv4Addr::from_bits(0xcb00_0000 + n / 50_000),
            1000 + (n % 50_000) as u16,
        );
        replay.receive(WAN, &segment(client, (VIP, 81), SYN), Time::from_nanos(T));
        let _ = replay.take_frames().count();
    }
    drop(replay);
    let full = std::time::Instant::now();
    let (_, restored) = kept(&path);
    println!(
        "start without: {empty:?}, with: {:?}, {restored:?}",
        full.elapsed()
    );
    assert_eq!(restored.connections, u64::from(COUNT));
}

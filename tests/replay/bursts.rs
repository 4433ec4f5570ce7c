//! A burst is its packets one by one: what becomes of each, what is sent for it, what is counted, what is remembered.

use super::frames::*;
use super::{CONFIG, Lab, PORTS, SECOND, T, parse, six, strings};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::net::Ipv4Addr;
use weir::config::Config;
use weir::conn::entry::NO_TEMPLATE;
use weir::conn::{Connection, Key};
use weir::net::protocol;
use weir::packet::BURST;
use weir::replay::{Decision, Frame, Received, Replay};
use weir::units::{PortId, Time, WorkerId};
use weir::verdict::{DropReason, ReplyReason};
use weir::wire::checksum;

const WAN: PortId = PortId(0);
const LAN_PORT: PortId = PortId(1);
const FIN: u8 = 1;
const RST: u8 = 4;

/// Three modes for each protocol, with and without persistence; and an address without a service.
const SERVICES: &str = r#"
[[local_pool]]
name      = "inside"
addresses = ["10.0.0.200"]
ports     = "40000-40015"

[[service]]
name = "web"
address = "192.0.2.80"
port = 80
protocol = "tcp"
mode = "fullnat"
local_pool = "inside"
scheduler = "rr"
real = [{ address = "10.0.0.11", port = 8080 }, { address = "10.0.0.12", port = 8080 }]

[[service]]
name = "names"
address = "192.0.2.80"
port = 53
protocol = "udp"
mode = "fullnat"
local_pool = "inside"
scheduler = "lc"
real = [{ address = "10.0.0.11" }, { address = "10.0.0.12" }]

[[service]]
name = "mail"
address = "192.0.2.81"
port = 80
protocol = "tcp"
mode = "nat"
scheduler = "wlc"
persistence = { timeout = 300, prefix_v4 = 32 }
real = [{ address = "10.0.0.11" }, { address = "10.0.0.12", weight = 2 }]

[[service]]
name = "time"
address = "192.0.2.81"
port = 0
protocol = "udp"
mode = "nat"
scheduler = "rr"
real = [{ address = "10.0.0.12" }, { address = "10.0.0.13" }]

[[service]]
name = "news"
address = "192.0.2.82"
port = 80
protocol = "tcp"
mode = "dr"
scheduler = "sh"
real = [{ address = "10.0.0.11" }, { address = "10.0.0.13" }]

[[service]]
name = "log"
address = "192.0.2.82"
port = 53
protocol = "udp"
mode = "dr"
scheduler = "rr"
real = [{ address = "10.0.0.11" }, { address = "10.0.0.12" }]
"#;

/// How many real servers [`SERVICES`] has, of one family.
const REALS: usize = 12;
/// How many services it has.
const COUNT: usize = 6;

#[derive(Clone, Debug)]
pub struct Limits {
    pub connections: u32,
    pub answers: u32,
    /// Every next hop's MAC address is known from the start.
    pub knows_all: bool,
}

fn limits() -> impl Strategy<Value = Limits> {
    (
        select(vec![16, 40, 10_000]),
        select(vec![20, 1_000_000]),
        any::<bool>(),
    )
        .prop_map(|(connections, answers, knows_all)| Limits {
            connections,
            answers,
            knows_all,
        })
}

/// The addresses of the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    V4,
    V6,
    Both,
}

/// [`SERVICES`], and those neighbours that are known.
pub fn config(limits: &Limits) -> Config {
    let mut text = format!(
        "[limits]\nconnections = {}\nanswers_per_second = {}\n{PORTS}{SERVICES}",
        limits.connections, limits.answers
    );
    let lasts = if limits.knows_all { 11..14 } else { 11..13 };
    for last in lasts {
        text += &format!(
            "[[neighbour]]\naddress = \"10.0.0.{last}\"\nmac = \"02:00:00:00:01:{last}\"\n"
        );
    }
    for last in 20..23 {
        text += &format!(
            "[[neighbour]]\naddress = \"198.51.100.{last}\"\nmac = \"02:00:00:00:02:{last}\"\n"
        );
    }
    parse(&text)
}

pub fn replay(limits: &Limits, families: Families, workers: usize) -> Replay {
    let config = config(limits);
    let config = match families {
        Families::V4 => config,
        Families::V6 => six::config(&config, false),
        Families::Both => six::config(&config, true),
    };
    Replay::new(&config, workers, 10_000, Time::from_nanos(T)).unwrap()
}

/// A packet to come.
#[derive(Clone, Debug)]
pub enum Packet {
    Frame(PortId, Vec<u8>),
    /// To a frame that was sent before this burst.
    Answer(Index, u8),
}

fn client() -> impl Strategy<Value = (Ipv4Addr, u16)> {
    (20..23u8, 5000..5003u16).prop_map(|(last, port)| (Ipv4Addr::new(198, 51, 100, last), port))
}

fn real() -> impl Strategy<Value = Ipv4Addr> {
    (11..14u8).prop_map(|last| Ipv4Addr::new(10, 0, 0, last))
}

pub fn flags() -> impl Strategy<Value = u8> {
    prop_oneof![
        4 => Just(SYN),
        4 => Just(ACK),
        2 => select(vec![SYN | ACK, FIN | ACK, RST, RST | ACK, FIN, SYN | FIN, 0]),
    ]
}

/// A segment or datagram.
fn sent(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: u8, numbers: (u32, u32)) -> Vec<u8> {
    match to.1 == 53 || from.1 == 53 {
        true => udp(from, to, b"data"),
        false => numbered(from, to, flags, numbers.0, numbers.1),
    }
}

/// A client's packet, to a service most often.
pub fn request() -> impl Strategy<Value = Packet> {
    let to = (80..84u8, select(vec![53, 80, 80, 81]));
    (client(), to, flags(), (0..3u32, 0..3u32)).prop_map(|(from, (vip, port), flags, numbers)| {
        let to = (Ipv4Addr::new(192, 0, 2, vip), port);
        Packet::Frame(WAN, sent(from, to, flags, numbers))
    })
}

/// A real server's packet: to a client, or to a local port.
pub fn reply() -> impl Strategy<Value = Packet> {
    let local = (40000..40016u16).prop_map(|port| (Ipv4Addr::new(10, 0, 0, 200), port));
    let from = (real(), select(vec![53, 80, 8080]));
    (
        from,
        prop_oneof![client(), local],
        flags(),
        (0..3u32, 0..3u32),
    )
        .prop_map(|(from, to, flags, numbers)| {
            Packet::Frame(LAN_PORT, sent(from, to, flags, numbers))
        })
}

/// Gives an IPv4 header its right checksum.
fn seal(frame: &mut [u8]) {
    if is_ipv6(frame) {
        return;
    }
    frame[24..26].fill(0);
    let checksum = !checksum::sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}

fn is_ipv6(frame: &[u8]) -> bool {
    frame[12..14] == [0x86, 0xdd]
}

/// Packets of both families.
fn of_either(packet: impl Strategy<Value = Packet>) -> impl Strategy<Value = Packet> {
    (packet, any::<bool>()).prop_map(|(packet, is_six)| match packet {
        Packet::Frame(port, frame) if is_six => Packet::Frame(port, six::frame(&frame).unwrap()),
        packet => packet,
    })
}

/// What is done to a frame on its way.
fn changed(packet: impl Strategy<Value = Packet>) -> impl Strategy<Value = Packet> {
    let change = prop_oneof![
        12 => Just(None),
        1 => Just(Some(0)), 1 => Just(Some(1)), 1 => Just(Some(2)), 1 => Just(Some(3)), 1 => Just(Some(4)),
    ];
    (packet, change, any::<Index>(), any::<u8>()).prop_map(|(packet, change, at, byte)| {
        let Packet::Frame(port, mut frame) = packet else {
            return packet;
        };
        match change {
            // Its last hop.
            Some(0) => {
                let ttl = if is_ipv6(&frame) { 21 } else { 22 };
                frame[ttl] = 1;
                seal(&mut frame);
            }
            // A priority tag.
            Some(1) => {
                frame.splice(12..12, [0x81, 0, 0x60, 0]);
            }
            // A trailer.
            Some(2) => frame.resize(frame.len().max(60) + usize::from(byte % 8) + 1, 7),
            // Cut short.
            Some(3) => frame.truncate(at.index(frame.len() + 1)),
            // Damaged, but for its addresses, and the header's checksum right again or not.
            Some(_) => {
                let at = at.index(frame.len());
                let addresses = if is_ipv6(&frame) { 22..54 } else { 26..34 };
                frame[at] = if addresses.contains(&at) || (12..14).contains(&at) {
                    frame[at]
                } else {
                    byte
                };
                if byte % 2 == 0 {
                    seal(&mut frame);
                }
            }
            None => {}
        }
        Packet::Frame(port, frame)
    })
}

/// Whatever may come, but for ARP.
fn packet() -> impl Strategy<Value = Packet> {
    prop_oneof![
        6 => changed(of_either(request())),
        3 => changed(of_either(reply())),
        3 => (any::<Index>(), flags()).prop_map(|(which, flags)| Packet::Answer(which, flags)),
    ]
}

fn arp_packet() -> impl Strategy<Value = Packet> {
    prop_oneof![
        Just(Packet::Frame(WAN, arp_question())),
        Just(Packet::Frame(LAN_PORT, arp_answer())),
        real().prop_map(|real| {
            let mac = weir::wire::Mac([2, 0, 0, 0, 1, real.octets()[3]]);
            let repr = weir::wire::arp::Repr {
                operation: weir::wire::arp::REPLY,
                sender_mac: mac,
                sender_ip: real,
                target_mac: WEIR_LAN,
                target_ip: LAN,
            };
            Packet::Frame(LAN_PORT, arp(WEIR_LAN, repr))
        }),
    ]
}

/// Bursts, and the milliseconds before each.
pub type Bursts = Vec<(u64, Vec<Packet>)>;

pub fn bursts(packet: impl Strategy<Value = Packet> + 'static) -> impl Strategy<Value = Bursts> {
    let wait = select(vec![0, 1, 1, 2_000, 130_000, 1_000_000]);
    let size = prop_oneof![Just(1..4), Just(1..BURST + 1), Just(BURST..BURST + 1)];
    let packet = packet.boxed();
    let burst = size.prop_flat_map(move |size| prop::collection::vec(packet.clone(), size));
    prop::collection::vec((wait, burst), 1..6)
}

/// What the receiver of a frame would send back; none to what is no TCP or UDP.
pub fn answer(frame: &[u8], flags: u8) -> Option<Vec<u8>> {
    if let Some(original) = six::back(frame) {
        return six::frame(&answer(&original, flags)?);
    }
    let (from, to, protocol) = ends(frame)?;
    Some(match protocol {
        protocol::UDP => udp(to, from, b"back"),
        _ => numbered(to, from, flags, 1, 2),
    })
}

/// What a burst has led to.
#[derive(Debug, PartialEq)]
struct Outcome {
    decisions: Vec<Decision>,
    frames: Vec<Frame>,
    counts: Vec<String>,
    connections: Vec<String>,
}

/// A connection. The numbers of next hops differ from run to run.
fn shown<K: Key>(worker: WorkerId, connection: &Connection<K>, with_places: bool) -> String {
    let knows_hops = [false, true].map(|reply| connection.hop(reply).is_some());
    let mut connection = *connection;
    connection.forget_hops(0);
    if !with_places && !connection.is_template() {
        connection.template = u32::from(connection.template != NO_TEMPLATE);
    }
    format!("{worker:?} {connection:?} {knows_hops:?}")
}

/// `with_places`: each connection has its place in the table, and its template's.
fn outcome(replay: &mut Replay, decisions: Vec<Decision>, with_places: bool) -> Outcome {
    replay.check().unwrap();
    let services = replay.model().config().services.len();
    let reals = services / COUNT * REALS;
    let counts = replay.stats().workers().map(|worker| {
        let of = [
            &worker.received,
            &worker.taken_over,
            &worker.handed_over,
            &worker.transmitted,
            &worker.answered,
            &worker.local,
            &worker.queued,
            &worker.originated,
            &worker.connections,
            &worker.evicted,
        ];
        let drops = DropReason::ALL.iter().map(|reason| worker.drops(*reason));
        let replies = ReplyReason::ALL
            .iter()
            .map(|reason| worker.replies(*reason));
        let totals: Vec<_> = of
            .into_iter()
            .chain(drops)
            .chain(replies)
            .map(|of| of.get())
            .collect();
        let reals: Vec<_> = (0..reals).map(|id| worker.reals.get(id)).collect();
        let services: Vec<_> = (0..services).map(|id| worker.services.get(id)).collect();
        assert!(reals.iter().all(Option::is_some) && services.iter().all(Option::is_some));
        format!("{totals:?} {:?} {reals:?} {services:?}", &worker.ports[..2])
    });
    let counts = counts.collect();
    let connections = replay.connections();
    let connections = connections.map(|(worker, of)| shown(worker, of, with_places));
    let six = replay.connections6();
    let six = six.map(|(worker, of)| shown(worker, of, with_places));
    let mut connections: Vec<_> = connections.chain(six).collect();
    if !with_places {
        connections.sort_unstable();
    }
    Outcome {
        decisions,
        frames: replay.take_frames().collect(),
        counts,
        connections,
    }
}

/// Holds `one`'s outcome of every burst against `other`'s. `apart`: nanoseconds between the packets of a burst; 0: they do not
/// go through in the same turns, and so the sweep comes by more or less often, and ends what is over in another order.
fn compare(
    limits: &Limits,
    workers: usize,
    bursts: &Bursts,
    apart: u64,
    one: impl Fn(&mut Replay, &[Received]) -> Vec<Decision>,
    other: impl Fn(&mut Replay, &[Received]) -> Vec<Decision>,
) -> Result<(), TestCaseError> {
    let both = || replay(limits, Families::Both, workers);
    let (mut first, mut second) = (both(), both());
    let mut history: Vec<Frame> = Vec::new();
    let mut now = T;
    for (wait, packets) in bursts {
        now += wait * 1_000_000;
        let frames: Vec<_> = packets
            .iter()
            .filter_map(|packet| match packet {
                Packet::Frame(port, frame) => Some((*port, frame.clone())),
                Packet::Answer(..) if history.is_empty() => None,
                Packet::Answer(which, flags) => {
                    let to = which.get(&history);
                    Some((to.port, answer(to.bytes(), *flags)?))
                }
            })
            .collect();
        let at = |n: usize| Time::from_nanos(now + n as u64 * apart);
        let received: Vec<_> = (0..)
            .zip(&frames)
            .map(|(n, (port, frame))| (*port, at(n), &frame[..]))
            .collect();
        let expected = one(&mut first, &received);
        let expected = outcome(&mut first, expected, apart > 0);
        let decisions = other(&mut second, &received);
        let given = outcome(&mut second, decisions, apart > 0);
        for (n, (expected, given)) in expected.decisions.iter().zip(&given.decisions).enumerate() {
            prop_assert_eq!(
                expected,
                given,
                "packet {} of {}: {:02x?}",
                n,
                frames.len(),
                &frames[n]
            );
        }
        for (n, (expected, given)) in expected.frames.iter().zip(&given.frames).enumerate() {
            prop_assert_eq!(expected, given, "frame {}", n);
        }
        let lines = |outcome: &Outcome| [&outcome.counts[..], &outcome.connections].concat();
        for (expected, given) in lines(&expected).iter().zip(&lines(&given)) {
            prop_assert_eq!(expected, given);
        }
        prop_assert!(expected == given);
        history.extend(expected.frames);
        now += BURST as u64 * apart;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// With several workers, of the same turns: each polls what is there for it, at once or packet by packet.
    #[test]
    fn a_burst_is_its_packets_one_by_one(
        limits in limits(),
        workers in 1..=4usize,
        burst in prop_oneof![Just(BURST), 2..BURST],
        bursts in bursts(prop_oneof![12 => packet(), 1 => arp_packet()]),
    ) {
        compare(
            &limits,
            workers,
            &bursts,
            100,
            |replay, received| replay.receive_together(received, 1),
            |replay, received| replay.receive_together(received, burst),
        )?;
    }

    /// Where the control thread learns nothing between two packets, and none gives way to another: of several alike it may be
    /// any.
    #[test]
    fn packets_may_as_well_come_one_after_the_other(
        limits in limits(),
        bursts in bursts(packet()),
    ) {
        let limits = Limits { knows_all: true, connections: 10_000, ..limits };
        compare(
            &limits,
            1,
            &bursts,
            0,
            |replay, received| {
                let one = |(port, time, frame): &Received| replay.receive(*port, frame, *time);
                received.iter().map(one).collect()
            },
            |replay, received| replay.receive_together(received, BURST),
        )?;
    }
}

/// Captures in nanoseconds.
fn captures(lab: &Lab, wan: &Timed, lan: &Timed) {
    lab.put("wan.pcap", pcap(wan, false, 1, 1));
    lab.put("lan.pcap", pcap(lan, false, 1, 1));
}

const OPTIONS: &str = "--rx wan=wan.pcap --rx lan=lan.pcap --tx lan=out.pcap --explain why.jsonl";

#[test]
fn packets_come_together_if_they_come_within_ten_microseconds() {
    let lab = Lab::new(CONFIG);
    for (later, burst, third) in [
        (9_999, "--burst 1", "forward"),
        (9_999, "--burst 2", "forward"),
        (9_999, "--burst 3", "queue"),
        (9_999, "--burst 64", "queue"),
        (10_000, "--burst 64", "forward"),
    ] {
        // What an ARP answer teaches the control thread comes after the burst that it came in.
        let start = T + SECOND / 2;
        let wan = vec![
            (T, tcp(5000, SYN)),
            (start + 1, arp_question()),
            (start + later, tcp(5000, ACK)),
        ];
        captures(&lab, &wan, &vec![(start, arp_answer())]);
        let counts = lab.replay(&format!("{OPTIONS} {burst}"));
        let why = lab.explained("why.jsonl");
        assert_eq!(
            strings(&why, "verdict"),
            ["queue", "local", "reply", third],
            "{later} {burst}"
        );
        assert_eq!(
            (&counts["transmitted"], &counts["queued"]),
            (&2.into(), &0.into())
        );
    }
}

#[test]
fn a_burst_ends_before_what_is_due() {
    let lab = Lab::new(CONFIG);
    // The second ARP request is due a second after the first.
    let wan = vec![
        (T, tcp(5000, SYN)),
        (T + SECOND - 2_000, query(7000)),
        (T + SECOND + 2_000, query(7001)),
    ];
    captures(&lab, &wan, &vec![(T + SECOND + 4_000, arp_answer())]);
    let written = |burst: &str| {
        lab.replay(&format!("{OPTIONS} {burst}"));
        ["out.pcap", "why.jsonl"].map(|name| std::fs::read(lab.path(name)).unwrap())
    };
    let singly = written("");
    assert!(singly == written("--burst 32"));
    let times = lab.times("out.pcap");
    assert!(
        times.is_sorted() && times.contains(&(T + SECOND)),
        "{times:?}"
    );
}

#[test]
fn frames_have_the_times_of_their_packets_and_come_in_their_order() {
    let real = super::STATIC_REAL;
    let lab = Lab::new(&format!("{CONFIG}{real}"));
    let wan: Timed = (0..40)
        .map(|n| (T + n * 200, query(7000 + n as u16 % 8)))
        .collect();
    captures(&lab, &wan, &vec![]);
    for workers in ["--workers 1", "--workers 3"] {
        let written = |burst: &str| {
            lab.replay(&format!("{OPTIONS} {workers} {burst}"));
            ["out.pcap", "why.jsonl"].map(|name| std::fs::read(lab.path(name)).unwrap())
        };
        assert!(written("--burst 1") == written("--burst 32"), "{workers}");
        let sent: Vec<_> = wan.iter().map(|(time, _)| *time).collect();
        assert_eq!(lab.times("out.pcap"), sent);
    }
}

#[test]
fn a_burst_has_1_to_64_packets() {
    let lab = Lab::new(CONFIG);
    lab.capture("wan.pcap", &vec![(T, query(7000))]);
    for burst in ["0", "65", "x"] {
        let run = lab.run(&format!("--rx wan=wan.pcap --burst {burst}"));
        assert_eq!(run.code, Some(1), "{}", run.stderr);
        assert!(run.stderr.contains("--burst"), "{}", run.stderr);
    }
}

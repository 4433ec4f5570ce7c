//! The connection log: what begins and ends, when, and why, in both formats.

use super::frames::{
    ACK, CLIENT, CLIENT_MAC, End, REAL, SYN, Timed, VIP, ends, numbered, numbered_data, pcap,
    query, tcp, udp,
};
use super::{CONFIG, Lab, PORTS, STATIC_REAL, T, parse, six};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;
use weir::config::{Config, ConnectionLog, LogDestination, LogFormat};
use weir::connection_log::{Cause, Encoder, Event, Record};
use weir::replay::Replay;
use weir::units::{PortId, Time};

const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);
const MILLI: u64 = 1_000_000;
const FIN: u8 = 1;
const RST: u8 = 4;

/// The families of clients and of real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ways {
    Four,
    Six,
    FourToSix,
    SixToFour,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    mode: &'static str,
    ways: Ways,
    workers: usize,
}

const PLACES: [Place; 7] = [
    Place {
        mode: "nat",
        ways: Ways::Four,
        workers: 1,
    },
    Place {
        mode: "nat",
        ways: Ways::Six,
        workers: 3,
    },
    Place {
        mode: "fullnat",
        ways: Ways::Four,
        workers: 4,
    },
    Place {
        mode: "fullnat",
        ways: Ways::Six,
        workers: 1,
    },
    Place {
        mode: "fullnat",
        ways: Ways::FourToSix,
        workers: 2,
    },
    Place {
        mode: "fullnat",
        ways: Ways::SixToFour,
        workers: 1,
    },
    Place {
        mode: "dr",
        ways: Ways::Four,
        workers: 1,
    },
];

fn logged(sample: u32) -> ConnectionLog {
    ConnectionLog {
        to: LogDestination::File("/dev/null".into()),
        format: LogFormat::Json,
        sample,
        starts: true,
        ends: true,
        domain: 0,
    }
}

impl Place {
    /// `more`: keys of both services. `has_real`: with their real server.
    fn config(self, more: &str, has_real: bool) -> Config {
        let pool = match self.mode {
            "fullnat" => "local_pool = \"inside\"\n",
            _ => "",
        };
        let mut text = format!(
            "{PORTS}{STATIC_REAL}[[local_pool]]\nname = \"inside\"\naddresses = [\"10.0.0.200\"]\n\
             [[neighbour]]\naddress = \"{CLIENT}\"\nmac = \"{CLIENT_MAC}\"\n\
             [timeouts]\ntcp_syn_recv = 10\ntcp_time_wait = 20\ntcp_close = 5\ntcp_established = 100\nudp = 30\n"
        );
        for (protocol, port) in [("tcp", 80), ("udp", 53)] {
            text += &format!(
                "[[service]]\naddress = \"{VIP}\"\nport = {port}\nprotocol = \"{protocol}\"\n\
                 mode = \"{}\"\nscheduler = \"rr\"\n{pool}{more}\n",
                self.mode
            );
            if has_real {
                text += &format!("[[service.real]]\naddress = \"{REAL}\"\n");
            }
        }
        let config = parse(&text);
        match self.ways {
            Ways::Four => config,
            Ways::Six => six::config(&config, false),
            Ways::FourToSix => six::crossing(&config, false),
            Ways::SixToFour => six::crossing(&config, true),
        }
    }

    fn is_six(self, port: PortId) -> bool {
        match self.ways {
            Ways::Four => false,
            Ways::Six => true,
            Ways::FourToSix => port == LAN,
            Ways::SixToFour => port == WAN,
        }
    }
}

struct World {
    place: Place,
    replay: Replay,
    now: u64,
}

impl World {
    fn new(place: Place) -> Self {
        let config = place.config("", true);
        let mut replay = Replay::new(&config, place.workers, 20_000, Time::from_nanos(T)).unwrap();
        replay.log_connections(&logged(1));
        World {
            place,
            replay,
            now: T,
        }
    }

    /// Has weir receive a frame; returns where the one that it sends on goes from and to.
    fn receive(&mut self, port: PortId, frame: &[u8]) -> Option<(End, End)> {
        let twin = self.place.is_six(port).then(|| six::frame(frame).unwrap());
        let frame = twin.as_deref().unwrap_or(frame);
        self.replay.receive(port, frame, Time::from_nanos(self.now));
        self.replay.check().unwrap();
        let sent = self.replay.take_frames().find(|frame| frame.port != port)?;
        let back = match self.place.is_six(sent.port) {
            true => six::back(sent.bytes())?,
            false => sent.bytes().to_vec(),
        };
        ends(&back).map(|(from, to, _)| (from, to))
    }

    fn client(&mut self, flags: u8, (sequence, acknowledged): (u32, u32)) {
        let frame = numbered((CLIENT, 5000), (VIP, 80), flags, sequence, acknowledged);
        self.receive(WAN, &frame);
    }

    fn real(&mut self, (local, real): (End, End), flags: u8, sequence: u32, acknowledged: u32) {
        let frame = numbered_data(real, local, flags, (sequence, acknowledged), &[]);
        self.receive(LAN, &frame);
    }

    /// A connection whose handshake is over.
    fn establish(&mut self) -> (End, End) {
        let flow = self.receive(WAN, &tcp(5000, SYN)).unwrap();
        if self.place.mode != "dr" {
            self.real(flow, SYN | ACK, 500, 2);
        }
        self.client(ACK, (2, 501));
        flow
    }

    fn after(&mut self, millis: u64) {
        self.now += millis * MILLI;
        self.replay.change(Time::from_nanos(self.now), |_| ());
    }

    fn records(&self) -> Vec<Record> {
        self.replay.take_records().collect()
    }
}

fn ms(nanos: u64) -> u64 {
    nanos / MILLI
}

/// What both records say of a connection's ends is what its frames have.
fn is_of(record: &Record, place: Place, flow: Option<(End, End)>, client: u16, port: u16) {
    let same = |found: (IpAddr, u16), (address, port): End, side: PortId| {
        assert_eq!(found.1, port, "{place:?}, {record:?}");
        match (place.is_six(side), found.0) {
            (false, IpAddr::V4(found)) => assert_eq!(found, address, "{place:?}"),
            (true, IpAddr::V6(_)) => {}
            (_, found) => panic!("{place:?}: {found}"),
        }
    };
    same(record.client, (CLIENT, client), WAN);
    same(record.destination, (VIP, port), WAN);
    let server = flow
        .filter(|_| place.mode != "dr")
        .map_or((REAL, port), |(_, real)| real);
    same(record.server, server, LAN);
    match (place.mode, record.local, flow) {
        ("fullnat", Some(local), Some((sent, _))) => same(local, sent, LAN),
        ("fullnat", Some(_), None) => {}
        ("fullnat", None, _) => panic!("{place:?}: no local pair"),
        (_, local, _) => assert_eq!(local, None, "{place:?}"),
    }
    assert_eq!(record.is_translated, place.mode != "dr");
}

#[test]
fn a_connection_has_a_record_when_it_begins_and_one_that_says_why_it_ended() {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Story {
        Silence,
        Close,
        Reset,
        Again,
        Datagrams,
        Removed,
    }
    use Story::*;
    // Whether it is seen with dr as well; when the last packet comes, in milliseconds; the state, and why.
    let stories = [
        (Silence, true, 0, "syn_recv", Cause::Timeout),
        (Close, false, 300, "time_wait", Cause::Fin),
        (Reset, false, 100, "close", Cause::Reset),
        (Again, false, 100, "close", Cause::Reset),
        (Datagrams, true, 200, "udp", Cause::Timeout),
        (Removed, false, 400, "close", Cause::RealRemoved),
    ];
    for place in PLACES {
        for (story, of_dr, last, state, cause) in stories {
            if place.mode == "dr" && !of_dr {
                continue;
            }
            let what = format!("{place:?}, {story:?}");
            let mut world = World::new(place);
            let flow;
            match story {
                Silence => flow = world.receive(WAN, &tcp(5000, SYN)),
                Datagrams => {
                    flow = world.receive(WAN, &query(5000));
                    world.after(200);
                    world.receive(WAN, &query(5000));
                }
                Close => {
                    let pair = world.establish();
                    flow = Some(pair);
                    world.after(100);
                    world.client(FIN | ACK, (2, 501));
                    world.after(100);
                    world.real(pair, FIN | ACK, 501, 3);
                    world.after(100);
                    world.client(ACK, (3, 502));
                }
                Reset | Again => {
                    flow = Some(world.establish());
                    world.after(100);
                    world.client(RST, (2, 0));
                }
                Removed => {
                    flow = Some(world.establish());
                    world.after(100);
                    let config = place.config("", false);
                    world
                        .replay
                        .reload(config, Time::from_nanos(world.now))
                        .unwrap();
                    world.after(300);
                    world.client(ACK, (2, 501));
                }
            }
            let port = if story == Datagrams { 53 } else { 80 };
            let starts = world.records();
            let [start] = &starts[..] else {
                panic!("{what}: {starts:?}");
            };
            assert_eq!((start.event, start.at), (Event::Start, ms(T)), "{what}");
            is_of(start, place, flow, 5000, port);
            if story == Again {
                world.after(1000);
                world.receive(WAN, &tcp(5000, SYN));
            } else {
                world.after(200_000);
            }
            let ended = world.records();
            let end = &ended[0];
            assert_eq!(
                ended.len(),
                1 + usize::from(story == Again),
                "{what}: {ended:?}"
            );
            assert_eq!((end.event, end.state), (Event::End(cause), state), "{what}");
            assert_eq!((end.id, end.start), (start.id, Some(ms(T))), "{what}");
            assert_eq!(end.last, ms(T) + last, "{what}");
            is_of(end, place, flow, 5000, port);
            if let Some(next) = ended.get(1) {
                assert_eq!(
                    (next.event, next.at),
                    (Event::Start, ms(world.now)),
                    "{what}"
                );
                assert_eq!(end.at, ms(world.now), "{what}");
                assert_ne!(next.id, start.id, "{what}");
            } else {
                assert!(end.at > end.last && end.at <= ms(world.now), "{what}");
            }
        }
    }
}

#[test]
fn what_is_given_up_in_a_full_table_ends_as_that_and_nothing_is_said_twice() {
    let text = format!("{PORTS}{STATIC_REAL}[limits]\nconnections = 8\n");
    let text = format!("{text}{}", CONFIG.strip_prefix(PORTS).unwrap());
    let mut replay = Replay::new(&parse(&text), 1, 20_000, Time::from_nanos(T)).unwrap();
    replay.log_connections(&logged(1));
    let (mut live, mut evicted) = (BTreeSet::new(), 0);
    for n in 0..600 {
        // Each attempt twice: a flood is asked to come again.
        let time = Time::from_nanos(T + n * 50 * MILLI);
        replay.receive(WAN, &tcp(5000 + (n / 2) as u16, SYN), time);
        for record in replay.take_records() {
            match record.event {
                Event::Start => assert!(live.insert(record.id)),
                Event::End(cause) => {
                    assert!(live.remove(&record.id));
                    evicted += u32::from(cause == Cause::Evicted);
                }
            }
        }
        assert_eq!(live.len(), replay.connections().count());
    }
    assert!(evicted > 20, "{evicted}");
}

#[test]
fn a_sample_has_both_records_of_its_connections_and_the_same_ones_every_time() {
    for place in PLACES {
        let mut starts = BTreeMap::new();
        for round in 0..2 {
            let mut world = World::new(place);
            world.replay.log_connections(&logged(4));
            for client in 0..400 {
                world.receive(WAN, &query(5000 + client));
            }
            let begun: BTreeMap<_, _> = world
                .records()
                .iter()
                .map(|it| (it.client.1, it.id))
                .collect();
            assert!(
                (60..140).contains(&begun.len()),
                "{place:?}: {} of 400",
                begun.len()
            );
            if round == 1 {
                assert!(begun.keys().eq(starts.keys()), "{place:?}");
            }
            world.after(200_000);
            let ended: BTreeMap<_, _> = world
                .records()
                .iter()
                .map(|it| (it.client.1, it.id))
                .collect();
            assert_eq!(begun, ended, "{place:?}");
            starts = begun;
        }
    }
}

#[test]
fn a_reload_turns_the_log_on_and_off_also_for_a_service() {
    for place in PLACES {
        let mut world = World::new(place);
        let off = ConnectionLog {
            sample: 1,
            starts: false,
            ends: false,
            ..logged(1)
        };
        let begin = |world: &mut World, client| world.receive(WAN, &query(client));
        // Before the log, with it, and of a service that has none.
        world.replay.stop_logging();
        begin(&mut world, 5000);
        world.replay.log_connections(&logged(1));
        begin(&mut world, 5001);
        let config = place.config("connection_log = false", true);
        world
            .replay
            .reload(config, Time::from_nanos(world.now))
            .unwrap();
        begin(&mut world, 5002);
        let config = place.config("", true);
        world
            .replay
            .reload(config, Time::from_nanos(world.now))
            .unwrap();
        let starts: Vec<_> = world.records().iter().map(|it| it.client.1).collect();
        assert_eq!(starts, [5001], "{place:?}");
        world.after(200_000);
        let mut ends: Vec<_> = world
            .records()
            .iter()
            .map(|it| (it.client.1, it.start))
            .collect();
        ends.sort_unstable();
        assert_eq!(ends, [(5000, None), (5001, Some(ms(T)))], "{place:?}");
        // Their places are used again: nothing of them is left.
        world.replay.log_connections(&off);
        world.replay.stop_logging();
        for client in 5000..5003 {
            begin(&mut world, client);
        }
        world.replay.log_connections(&logged(1));
        world.after(200_000);
        let ends: Vec<_> = world.records().iter().map(|it| it.start).collect();
        assert_eq!(ends, [None; 3], "{place:?}");
    }
}

/// The messages of a file, as packets to a collector.
fn to_collector(mut file: &[u8]) -> Timed {
    let mut packets = Timed::new();
    while !file.is_empty() {
        let length = usize::from(u16::from_be_bytes([file[2], file[3]]));
        let (message, rest) = file.split_at(length);
        packets.push((T, udp((REAL, 4739), (CLIENT, 4739), message)));
        file = rest;
    }
    packets
}

/// What Wireshark reads in the messages of a file: records as its fields, by their order.
fn read(lab: &Lab, messages: &[u8]) -> Vec<Value> {
    lab.put(
        "collector.pcap",
        pcap(&to_collector(messages), false, 1000, 1),
    );
    let mut tshark = Command::new("tshark");
    let file = lab.path("collector.pcap");
    tshark
        .args(["-d", "udp.port==4739,cflow", "-T", "json", "-r"])
        .arg(file);
    let output = tshark
        .output()
        .expect("tshark runs: apt-get install tshark");
    let packets: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let mut records = Vec::new();
    let mut sequences = BTreeMap::new();
    for packet in &packets {
        let message = &packet["_source"]["layers"]["cflow"];
        let number = |key: &str| message[key].as_str().unwrap().parse::<usize>().unwrap();
        let before: &mut usize = sequences.entry(number("cflow.od_id")).or_default();
        assert_eq!(number("cflow.sequence"), *before);
        let numbered = |value: &Value, what: &str| {
            let members = value.as_object().unwrap().iter();
            let members = members.filter_map(|(key, value)| {
                let (number, _) = key
                    .strip_prefix(what)?
                    .split_once([' ', '['])
                    .unwrap_or((&key[what.len()..], ""));
                Some((number.parse::<u32>().ok()?, value.clone()))
            });
            members.collect::<BTreeMap<_, _>>().into_values()
        };
        for set in numbered(message, "Set ") {
            let flows: Vec<_> = numbered(&set, "Flow ").collect();
            *before += flows.len();
            records.extend(flows);
        }
    }
    records
}

fn port_of(record: &Value) -> String {
    let port = &record["cflow.post_naptsource_transport_port"];
    port.as_str().unwrap().to_owned()
}

/// A line says what Wireshark has read.
fn is_same(line: &Value, record: &Value) {
    let what = format!("{line}\n{record}");
    let said = |key: &str| line[key].as_str();
    let read = |key: &str| record[format!("cflow.{key}")].as_str();
    let either = |four: &str, six: &str| {
        read(four)
            .or(read(six))
            .map(|it| it.parse::<IpAddr>().unwrap())
    };
    let end = |key: &str| {
        let end: std::net::SocketAddr = said(key)?.parse().unwrap();
        Some((end.ip(), end.port().to_string()))
    };
    let port = |key: &str| read(key).unwrap().to_owned();
    let ends = [
        (
            end("client"),
            either("srcaddr", "srcaddrv6"),
            port("srcport"),
        ),
        (
            end("destination"),
            either("dstaddr", "dstaddrv6"),
            port("dstport"),
        ),
    ];
    for (said, address, port) in ends {
        assert_eq!(said, Some((address.unwrap(), port)), "{what}");
    }
    let server = end("server").unwrap();
    let hop = either("nexthop", "nexthopv6");
    match hop {
        Some(hop) => assert_eq!(hop, server.0, "{what}"),
        None => {
            let address = either(
                "post_natdestination_ipv4_address",
                "post_nat_destination_ipv6_address",
            );
            let port = port("post_naptdestination_transport_port");
            assert_eq!((address.unwrap(), port), server, "{what}");
            let address = either(
                "post_natsource_ipv4_address",
                "post_nat_source_ipv6_address",
            );
            let port = port_of(record);
            let local = end("local").or(end("client")).unwrap();
            assert_eq!((address.unwrap(), port), local, "{what}");
        }
    }
    let is_end = said("event") == Some("end");
    let nat = match (hop, end("client").unwrap().0.is_ipv4(), server.0.is_ipv4()) {
        (None, true, true) => Some(if is_end { "5" } else { "4" }),
        (None, false, true) => Some(if is_end { "7" } else { "6" }),
        _ => None,
    };
    assert_eq!(read("nat_event"), nat, "{what}");
    assert_eq!(
        read("firewall_event"),
        Some(if is_end { "2" } else { "1" }),
        "{what}"
    );
    assert_eq!(read("appl_name"), said("service"), "{what}");
    let id = u64::from_str_radix(said("id").unwrap(), 16).unwrap();
    assert_eq!(read("flow_id"), Some(&*id.to_string()), "{what}");
    // `2023-11-14T22:13:20.119Z`, and `Nov 14, 2023 22:13:20.119000000 UTC`.
    let same = |said: Option<&str>, read: &Value| match (said, read.as_str()) {
        (Some(said), Some(read)) => assert!(read.contains(&said[11..23]), "{what}"),
        (said, read) => assert_eq!(said, read, "{what}"),
    };
    same(said("time"), &record["cflow.observation_time_milliseconds"]);
    let reason = match said("reason") {
        None => None,
        Some("timeout") => Some("1"),
        Some("fin" | "reset" | "closed") => Some("3"),
        Some("evicted") => Some("5"),
        Some(_) => Some("4"),
    };
    assert_eq!(read("flow_end_reason"), reason, "{what}");
    if is_end {
        let times = &record["cflow.timedelta_tree"];
        same(said("start"), &times["cflow.abstimestart"]);
        same(said("last"), &times["cflow.abstimeend"]);
    }
}

fn keep(all: &mut Vec<u8>, bytes: &[u8]) -> bool {
    all.extend(bytes);
    true
}

#[test]
fn wireshark_reads_in_ipfix_what_is_in_the_lines_of_every_mode_and_family() {
    let (mut lines, mut messages) = (Vec::new(), Vec::new());
    for (n, place) in PLACES.into_iter().enumerate() {
        let mut world = World::new(place);
        let first = world.receive(WAN, &query(6000));
        world.establish();
        world.client(RST, (2, 0));
        world.after(300_000);
        assert!(first.is_some());
        let mut out = Vec::new();
        let log = |format| ConnectionLog {
            format,
            domain: n as u32,
            ..logged(1)
        };
        let (mut json, mut ipfix) = (
            Encoder::new(&log(LogFormat::Json)),
            Encoder::new(&log(LogFormat::Ipfix)),
        );
        let (stats, times) = (world.replay.stats(), (0, ms(world.now) as i64));
        for record in world.records() {
            json.add(&record, stats, times, &mut |bytes, _| keep(&mut out, bytes));
            ipfix.add(&record, stats, times, &mut |bytes, _| {
                keep(&mut messages, bytes)
            });
        }
        json.finish(times.1, &mut |bytes, _| keep(&mut out, bytes));
        ipfix.finish(times.1, &mut |bytes, _| keep(&mut messages, bytes));
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.lines().count(), 4, "{place:?}: {out}");
        lines.extend(
            out.lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()),
        );
    }
    let records = read(&Lab::new(""), &messages);
    assert_eq!(records.len(), lines.len());
    lines
        .iter()
        .zip(&records)
        .for_each(|(line, record)| is_same(line, record));
}

#[test]
fn wireshark_reads_in_ipfix_what_is_in_the_lines_of_a_replay() {
    let snat = "[[snat]]\nfrom = \"10.0.0.0/24\"\npool = \"outside\"\n[[local_pool]]\nname = \"outside\"\n\
                addresses = [\"198.51.100.7\"]\n[[service]]\nname = \"direct\"\naddress = \"192.0.2.81\"\nport = 80\n\
                protocol = \"tcp\"\nmode = \"dr\"\nscheduler = \"rr\"\n[[service.real]]\naddress = \"10.0.0.11\"\n";
    let text = format!("{CONFIG}{STATIC_REAL}{snat}");
    let lab = Lab::new(&text);
    let mut wan = Timed::new();
    for n in 0..40u16 {
        let at = T + u64::from(n) * 7 * MILLI;
        wan.push((at, tcp(5000 + n, SYN)));
        wan.push((at + 1_000_000, query(6000 + n)));
        let direct = (std::net::Ipv4Addr::new(192, 0, 2, 81), 80);
        wan.push((
            at + 2_000_000,
            numbered((CLIENT, 7000 + n), direct, SYN, 1, 0),
        ));
    }
    // All of them have ended then.
    wan.push((T + 3_000_000 * MILLI, query(9000)));
    lab.capture("wan.pcap", &wan);
    let out = udp((REAL, 3000), (CLIENT, 53), b"out");
    lab.capture("lan.pcap", &vec![(T + 500 * MILLI, out)]);
    lab.replay("--rx wan=wan.pcap lan=lan.pcap --connection-log log.json");
    let log = "[connection_log]\nfile = \"/unused\"\nformat = \"ipfix\"\nobservation_domain = 9\n";
    lab.put("weir.toml", format!("{text}{log}"));
    lab.replay("--rx wan=wan.pcap lan=lan.pcap --connection-log log.ipfix");
    let messages = std::fs::read(lab.path("log.ipfix")).unwrap();
    let records = read(&lab, &messages);
    let lines = lab.explained("log.json");
    // Each connection but the last flow begins and ends, and that begins.
    let count = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!((count("start"), count("end")), (122, 121));
    assert!(
        lines
            .iter()
            .any(|line| line["service"] == "snat:10.0.0.0/24")
    );
    assert_eq!(records.len(), lines.len());
    lines
        .iter()
        .zip(&records)
        .for_each(|(line, record)| is_same(line, record));
    // What is written to is none of the inputs.
    let run = lab.run("--rx wan=wan.pcap --connection-log wan.pcap");
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(
        run.stderr
            .contains("--connection-log wan.pcap: this is an --rx capture"),
        "{}",
        run.stderr
    );
}

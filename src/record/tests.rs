use super::*;
use crate::config::Protocol;
use crate::conn::told::How;
use crate::conn::{Address, Connection, FlowKey, FlowKey6, FlowKeyAny, Key, State, Told};
use crate::forward::MODES;
use crate::net::protocol;
use crate::service::ServiceKey;
use crate::units::{Millis, RealId, ServiceId, Time};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::FileExt;
use std::path::Path;

const FOUR: [&str; 4] = ["203.0.113.7", "192.0.2.80", "10.0.0.11", "10.0.0.200"];
const SIX: [&str; 4] = [
    "2001:db8::7",
    "2001:db8:2::80",
    "2001:db8:10::11",
    "2001:db8:10::200",
];
const BOTH: [&str; 4] = ["2001:db8::7", "2001:db8:2::80", "10.0.0.11", "10.0.0.200"];

fn header() -> Header {
    Header {
        boot: *b"0123456789abcdef",
        origin: 0x1122_3344_5566_7788,
        alive: 0,
        key: std::array::from_fn(|n| n as u8),
        workers: 2,
        names: 1024,
        names_used: 0,
        sections: Vec::new(),
    }
}

fn server(vip: IpAddr, real: IpAddr) -> Name {
    Name::Server {
        service: ServiceKey {
            protocol: Protocol::Tcp,
            address: vip,
            port: 80,
            last: 0,
        },
        address: real,
        port: 8080,
    }
}

/// A connection of each mode and a template; `ends`: client, VIP, real server, local address.
fn connections<K: Key>(ends: [&str; 4], id: RealId) -> (Name, Vec<Connection<K>>) {
    let ends: [IpAddr; 4] = ends.map(|end| end.parse().unwrap());
    let [client, vip, real, local] = ends.map(|end| K::Address::of(end).unwrap());
    let of_mode = |(n, mode): (u16, &crate::forward::Mode)| {
        let request = K::new(client, 5000 + n, vip, 80, protocol::TCP);
        let pair = mode.uses_pool.then_some((local, 40_000));
        let mut connection =
            Connection::new(request, mode.translation(&request, (real, 8080), pair), id);
        connection.state = State::Established;
        connection.last_seen = Millis(7_000 + u32::from(n));
        connection.note_segment(false, 0x0102_0304);
        connection.set_proved();
        connection
    };
    let key = K::new(client, 0, vip, 80, protocol::TCP ^ 0x80);
    let mut template = Connection::template(key, 300_000, ServiceId(3), id);
    template.last_seen = Millis(6_000);
    let all = (0..).zip(MODES).map(of_mode).chain([template]);
    (server(ends[1], ends[2]), all.collect())
}

fn told() -> Told {
    let mut told = Told::new(How::Header, 28);
    told.open(77, 7);
    told
}

/// Writes connections into a table of a file, as a worker does.
fn put<K: Key>(keeping: &Keeping, table: usize, connections: &[Connection<K>]) {
    let made = keeping.table(1, table, Connection::<K>::FREE).unwrap();
    let (mut entries, beside) = made.unwrap();
    // The first place is free again.
    entries[1..=connections.len()].copy_from_slice(connections);
    let last = beside.atomics()[connections.len()..].first().unwrap();
    last.store(told().to_bits(), std::sync::atomic::Ordering::Relaxed);
}

fn written(path: &Path) -> Header {
    let rooms = vec![vec![], vec![(20, 64), (20, 128), (20, 128)]];
    let (keeping, mut names) =
        Keeping::new(Place::anywhere(path).unwrap(), header(), &rooms).unwrap();
    let (four, connections4) = connections::<FlowKey>(FOUR, RealId(0));
    let (six, connections6) = connections::<FlowKey6>(SIX, RealId(1));
    let (both, connections_across) = connections::<FlowKeyAny>(BOTH, RealId(3));
    for (id, name) in [
        (0, four),
        (1, six),
        (3, both),
        (2, Name::Rule("10.0.0.0/24".parse().unwrap())),
    ] {
        names.set(RealId(id), &name);
    }
    names.set(RealId(5000), &four);
    put(&keeping, 0, &connections4);
    put(&keeping, 1, &connections6);
    put(&keeping, 2, &connections_across);
    names.live(Time::from_nanos(9_000_000_000));
    keeping.complete().unwrap();
    let kept = Place::anywhere(path);
    // It is held by this one.
    assert!(matches!(kept, Err(Unkept::InUse)));
    drop(keeping);
    assert!(matches!(Place::anywhere(path), Err(Unkept::InUse)));
    drop(names);
    let kept = Place::anywhere(path).unwrap().kept().unwrap().unwrap();
    kept.header().clone()
}

/// What is in a file, in hexadecimal digits: all that is not 0.
fn dump(path: &Path, header: &Header) -> String {
    let file = std::fs::File::open(path).unwrap();
    let mut text = String::new();
    let mut piece = |what: &str, at: u64, length: usize| {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at).unwrap();
        text += &format!("{what}\n");
        for line in bytes.chunks(32) {
            let digits: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
            text += &format!("{digits}\n");
        }
    };
    piece("header", 0, 256);
    piece("names", Header::BYTES as u64, 4 * Name::BYTES);
    for section in &header.sections {
        for n in 0..7 {
            // What is behind its fields is never read, and may be anything.
            let length = section.size.min(112) as usize;
            piece("entry", section.at + n * u64::from(section.size), length);
        }
        piece("told", section.told_at, 7 * 8);
    }
    text
}

fn found<K: Key>(kept: &Kept, table: usize) -> Vec<(u32, Record<K>)> {
    let mut all = Vec::new();
    for section in kept.sections(table) {
        kept.records(section, |number, record| {
            all.push((number, record.unwrap()))
        });
    }
    all
}

fn is_as_written<K: Key>(kept: &Kept, table: usize, ends: [&str; 4], id: u32) {
    let (name, connections) = connections::<K>(ends, RealId(id));
    let found = found::<K>(kept, table);
    assert_eq!(found.len(), connections.len());
    for ((number, record), (place, expected)) in found.iter().zip((1..).zip(&connections)) {
        assert_eq!(
            (*number, record.name, record.real),
            (place, name, RealId(id + 70))
        );
        let all = |it: &Connection<K>| {
            format!(
                "{:?}",
                it.renewed(RealId(0), ServiceId(0), 0, Millis(9_000))
            )
        };
        assert_eq!(all(&record.connection), all(expected));
        let is_last = place == connections.len() as u32;
        assert_eq!(record.told, if is_last { told() } else { Told::default() });
    }
}

/// The layout is that of the version that it says: a change of either shows here. `WEIR_GOLDEN=1 cargo test` writes the file anew.
#[test]
#[cfg(target_endian = "little")]
fn the_layout_is_that_of_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    let header = written(&path);
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/record/version-{VERSION}.txt"));
    let dump = dump(&path, &header);
    if std::env::var_os("WEIR_GOLDEN").is_some() {
        std::fs::write(&golden, &dump).unwrap();
    }
    assert_eq!(
        dump,
        std::fs::read_to_string(golden).unwrap(),
        "another layout takes another VERSION"
    );
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    written(&path);
    let mut kept = Place::anywhere(&path).unwrap().kept().unwrap().unwrap();
    let mut ids = 70..;
    let mut given = Vec::new();
    let next = std::cell::RefCell::new(&mut ids);
    kept.resolve(|_| next.borrow_mut().next().map(RealId));
    for table in 0..3 {
        given.extend(
            kept.sections(table)
                .map(|section| (section.worker, section.table)),
        );
    }
    assert_eq!(given, [(1, 0), (1, 1), (1, 2)]);
    is_as_written::<FlowKey>(&kept, 0, FOUR, 0);
    is_as_written::<FlowKey6>(&kept, 1, SIX, 1);
    is_as_written::<FlowKeyAny>(&kept, 2, BOTH, 3);
    // Times: this process began 3 s later, and the other was last seen 9 s after it had begun.
    let header = kept.header();
    assert_eq!(
        kept.later(header.origin + 3_000_000_000),
        0u32.wrapping_sub(3_000)
    );
    let seconds = |n: u64| header.origin + n * 1_000_000_000;
    assert_eq!(kept.away(seconds(11)).as_secs(), 2);
    assert!(kept.check_times(&header.boot, seconds(11)).is_ok());
    assert!(matches!(
        kept.check_times(&[7; 16], seconds(11)),
        Err(Unread::OtherBoot)
    ));
    let late = seconds(21 * 86_400);
    assert!(matches!(
        kept.check_times(&header.boot, late),
        Err(Unread::TooOld)
    ));
}

#[test]
fn a_real_server_that_is_gone_or_not_that_of_its_connection_takes_none_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    written(&path);
    let mut kept = Place::anywhere(&path).unwrap().kept().unwrap().unwrap();
    let lost = |kept: &Kept| {
        let mut all = Vec::new();
        for section in kept.sections(0) {
            kept.records::<FlowKey>(section, |_, record| all.push(record.unwrap_err()));
        }
        all
    };
    assert_eq!(lost(&kept), [Lost::Unknown; 6]);
    // A name that was changed: none of its connections is one of that.
    let at = (Header::BYTES + 32 + 15) as u64;
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[12], at).unwrap();
    kept = Kept::open(Box::new(std::fs::File::open(&path).unwrap())).unwrap();
    kept.resolve(|_| Some(RealId(0)));
    let mut lost = Vec::new();
    for section in kept.sections(0) {
        kept.records::<FlowKey>(section, |_, record| lost.extend(record.err()));
    }
    // A template has no address of its real server.
    assert_eq!(lost, [Lost::Torn; 5]);
}

#[test]
fn a_file_without_room_is_refused_before_it_is_filled() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::anywhere(&folder.path().join("kept")).unwrap();
    let rooms = vec![vec![(1 << 45, 64)]];
    let refused = Keeping::new(place, header(), &rooms)
        .map(|_| ())
        .unwrap_err();
    assert!(
        refused.to_string().contains("lower [limits] connections"),
        "{refused}"
    );
}

fn any_name() -> impl Strategy<Value = Name> {
    let address = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits | 1 << 127))),
    ];
    let server = (
        0..3usize,
        address.clone(),
        any::<[u16; 3]>(),
        address.clone(),
    )
        .prop_map(|(protocol, vip, [port, last, own], address)| Name::Server {
            service: ServiceKey {
                protocol: Protocol::ALL[protocol],
                address: vip,
                port,
                last,
            },
            address,
            port: own,
        });
    let rule = (address, 0u8..=32)
        .prop_map(|(address, prefix)| Name::Rule(ipnet::IpNet::new(address, prefix).unwrap()));
    prop_oneof![server, rule]
}

#[test]
fn no_length_of_a_header_ends_the_process() {
    let bytes = header().to_bytes();
    for length in 0..bytes.len() {
        let read = Header::from_bytes(&bytes[..length], 8 << 20);
        assert!(read.is_err() || length >= 104, "{length}");
    }
}

/// A clock that is wrong by minutes by now.
#[test]
fn ages_are_those_of_the_machines_clock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    let place = Place::anywhere(&path).unwrap();
    let (keeping, mut names) = Keeping::new(place, header(), &[]).unwrap();
    names.follow(|| 1_000_000_000_000);
    names.live(Time::from_nanos(9_000_000_000));
    keeping.complete().unwrap();
    drop((keeping, names));
    let kept = Place::anywhere(&path).unwrap().kept().unwrap().unwrap();
    let away = kept.away(1_000_500_000_000);
    assert_eq!(away, std::time::Duration::from_millis(500));
}

#[test]
fn of_two_that_start_at_once_one_has_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    let make = |place| Keeping::new(place, header(), &[]);
    let [first, second, third] = [0; 3].map(|_| Place::anywhere(&path).unwrap());
    let one = make(first).unwrap();
    assert!(matches!(make(second), Err(Unkept::InUse)));
    one.0.complete().unwrap();
    let late = make(third).unwrap();
    assert!(matches!(late.0.complete(), Err(Unkept::InUse)));
    drop(late);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

proptest! {
    #[test]
    fn a_name_is_read_as_it_was_written_and_a_torn_one_is_not_taken_for_another(
        name in any_name(),
        other in any_name(),
        cut in 0..Name::BYTES,
    ) {
        let bytes = name.to_bytes();
        prop_assert_eq!(Name::from_bytes(&bytes), Some(name));
        let mut torn = bytes;
        torn[cut..].copy_from_slice(&other.to_bytes()[cut..]);
        // It may be one that there is not: what matters is that reading it is safe.
        if let Some(read) = Name::from_bytes(&torn) {
            prop_assert_eq!(read.to_bytes(), torn);
        }
    }

    #[test]
    fn a_header_is_read_as_it_was_written(sections in prop::collection::vec(any::<[u32; 4]>(), 0..600), names in 0u64..5000) {
        let section = |[worker, table, size, entries]: &[u32; 4]| Section {
            worker: *worker,
            table: *table,
            size: *size % 200,
            entries: (*entries % 1000).into(),
            at: 5 << 20,
            told_at: 3 << 20,
        };
        let header = Header {
            names,
            names_used: names / 2,
            sections: sections.iter().map(section).collect(),
            ..header()
        };
        prop_assert_eq!(Header::from_bytes(&header.to_bytes(), 8 << 20).unwrap(), header);
    }
}

//! What each TCP segment makes of its connection: the state, and the numbers that later segments are held against.

use super::frames::{ACK, CLIENT, REAL, SYN, VIP, numbered, numbered_data};
use super::{PORTS, STATIC_REAL, T, parse};
use weir::conn::{Connection, State};
use weir::replay::Replay;
use weir::units::{PortId, Time};

const CLIENTS: &str = r#"
[[neighbour]]
address = "198.51.100.9"
mac     = "02:00:00:00:00:c1"
"#;

/// A service whose replies weir sees, or does not.
fn service(mode: &str) -> String {
    format!(
        "[[service]]\nname = \"web\"\naddress = \"{VIP}\"\nport = 80\nprotocol = \"tcp\"\nmode = \"{mode}\"\n\
         scheduler = \"rr\"\nreal = [{{ address = \"{REAL}\" }}]\n"
    )
}

/// A line as `c SA 100 501 4`: the client or the real server sends flags, a sequence number, an acknowledged one, and
/// so many bytes, none without the last.
pub(super) fn frame(line: &str) -> (PortId, Vec<u8>) {
    let mut words = line.split_whitespace();
    let is_client = words.next() == Some("c");
    let flags = words.next().unwrap().chars().map(|flag| match flag {
        'F' => 1,
        'S' => SYN,
        'R' => 4,
        'A' => ACK,
        _ => panic!("{line}"),
    });
    let flags = flags.sum();
    let mut number = || words.next().map_or(0, |word| word.parse::<u32>().unwrap());
    let (sequence, acknowledged, length) = (number(), number(), number());
    let (client, vip, real) = ((CLIENT, 5000), (VIP, 80), (REAL, 80));
    let (from, to) = match is_client {
        true => (client, vip),
        false => (real, client),
    };
    let payload = vec![0; length as usize];
    let frame = numbered_data(from, to, flags, (sequence, acknowledged), &payload);
    (PortId(u8::from(!is_client)), frame)
}

/// The connection in words: its state, what the client has acknowledged, and what the real server has.
fn told(replay: &Replay) -> String {
    let (_, connection) = replay.connections().next().unwrap();
    let number = |by_real| match connection.acknowledged(by_real) {
        Some(number) => number.to_string(),
        None => "-".to_owned(),
    };
    format!("{:?} {} {}", connection.state, number(false), number(true))
}

const OPEN: [&str; 3] = [
    "c S 100 0     -> SynRecv - -",
    "s SA 500 101  -> SynRecv 501 101",
    "c A 101 501   -> Established 501 101",
];

/// As `OPEN`, but the client's ACK is a stranger's, of a number that the real server has not sent.
fn blind(number: u32) -> Vec<String> {
    let ack = format!("c A 101 {number} -> Handshaken 501 101");
    vec![OPEN[0].into(), OPEN[1].into(), ack]
}

#[test]
fn states_and_numbers_follow_what_can_be_believed() {
    let open = || OPEN.map(String::from).to_vec();
    let cases: Vec<(&str, Vec<String>, Vec<&str>)> = vec![
        // A FIN closes if its number is believed.
        (
            "nat",
            open(),
            vec![
                "c FA 16777317 501 -> Established 501 101",
                "c FA 4278190181 501 -> Established 501 101",
                "c FA 200 501 -> CloseWait 501 101",
                "s FA 501 201 -> TimeWait 501 201",
            ],
        ),
        (
            "nat",
            open(),
            vec![
                "s FA 501 101 -> FinWait 501 101",
                "c FA 101 502 -> TimeWait 502 102",
            ],
        ),
        (
            "nat",
            open(),
            vec![
                "s FA 501 101 -> FinWait 501 101",
                "c FA 105 502 -> TimeWait 502 101",
            ],
        ),
        // Data in any order is noted, whatever its number.
        (
            "nat",
            open(),
            vec![
                "c A 5000 700 4 -> Established 700 101",
                "s A 9000 300 4 -> Established 700 300",
            ],
        ),
        // A SYN with another flag is none.
        ("nat", open(), vec!["c SA 300 999 -> Established 501 101"]),
        // Only a FIN is held against the window.
        (
            "nat",
            vec![OPEN[0].into(), OPEN[1].into()],
            vec!["c A 50331648 501 -> Established 501 101"],
        ),
        // Numbers of one side mean nothing for the other.
        (
            "nat",
            open(),
            vec![
                "c FA 200 501 -> CloseWait 501 101",
                "s FA 201 201 -> TimeWait 501 201",
            ],
        ),
        // What is not proved ends like what is.
        ("nat", blind(777), vec!["c R 101 0 -> Close 501 101"]),
        ("nat", blind(777), vec!["c FA 101 777 -> CloseWait 501 101"]),
        // A new attempt that the real server does not take leaves the old connection to end.
        (
            "nat",
            open(),
            vec![
                "c FA 101 501 -> CloseWait 501 101",
                "c S 900 0 -> CloseWait 501 101",
                "s FA 501 102 -> TimeWait 501 102",
            ],
        ),
        // An answer to an attempt that weir has not seen: the kernel's SYN_SENT.
        (
            "nat",
            open(),
            vec![
                "c FA 101 501 -> CloseWait 501 101",
                "s SA 1500 102 -> SynSent 1501 102",
            ],
        ),
        // Resets are believed by their number.
        (
            "nat",
            open(),
            vec![
                "c R 300 0 -> Established 501 101",
                "c R 101 0 -> Close 501 101",
            ],
        ),
        (
            "nat",
            open(),
            vec![
                "s R 300 0 -> Established 501 101",
                "s R 501 0 -> Close 501 101",
            ],
        ),
        // A refusal, before there are numbers; a client's reset means nothing then.
        (
            "nat",
            vec![OPEN[0].into()],
            vec!["c R 5 0 -> SynRecv - -", "s RA 0 101 -> Close - 101"],
        ),
        // An ACK before the real server's answer proves nothing, nor does the answer.
        (
            "nat",
            vec![OPEN[0].into()],
            vec![
                "c A 101 501 -> Unanswered - -",
                "s SA 500 101 -> Handshaken - 101",
                "s A 501 101 -> Handshaken - 101",
                "s A 501 101 4 -> Established - 101",
            ],
        ),
        // A blind ACK: only what the real server does next tells whether it has taken the client's.
        (
            "nat",
            blind(777),
            vec![
                "s A 501 101 -> Handshaken 501 101",
                "s A 501 105 -> Established 501 105",
            ],
        ),
        (
            "nat",
            blind(777),
            vec!["s A 501 101 4 -> Established 501 101"],
        ),
        // A new attempt while one side has closed is the real server's to take.
        (
            "nat",
            open(),
            vec![
                "c FA 101 501 -> CloseWait 501 101",
                "c S 900 0 -> CloseWait 501 101",
                "s SA 1500 901 -> SynRecv 1501 901",
                "c A 901 1501 -> Established 1501 901",
            ],
        ),
        // Where no replies are seen, there is nothing to hold a segment against.
        (
            "dr",
            vec![OPEN[0].into()],
            vec![
                "c A 101 777 -> Handshaken 777 -",
                "c A 101 778 -> Established 778 -",
                "c FA 5 778 -> FinWait 778 -",
                "c R 5 0 -> Close 778 -",
            ],
        ),
    ];
    for (mode, before, after) in cases {
        walk(mode, before.iter().map(String::as_str).chain(after));
    }
}

/// RFC 9293 section 3.10.7.4: a real server in mid-handshake answers an ACK of a number that it has not sent by a reset
/// with that number, and stays in mid-handshake. So no such number, 0 included, becomes the one that its resets are held
/// against.
#[test]
fn a_blind_acknowledgement_is_not_kept() {
    for number in [0, 1, 500, 502, 777, u32::MAX] {
        let blind = |expected: &str| format!("c A 101 {number} -> {expected}");
        let refused = format!("s R {number} 0 -> Handshaken 501 101");
        let ends = [
            vec!["s R 501 0 -> Close 501 101"],
            vec![
                "c A 101 501 -> Handshaken 501 101",
                "s A 501 101 4 -> Established 501 101",
                "s R 501 0 -> Close 501 101",
            ],
        ];
        for end in ends {
            let handshake = [
                OPEN[0].into(),
                OPEN[1].into(),
                blind("Handshaken 501 101"),
                refused.clone(),
            ];
            walk("nat", handshake.iter().map(String::as_str).chain(end));
        }
        let unanswered = [
            OPEN[0].into(),
            blind("Unanswered - -"),
            "s SA 500 101 -> Handshaken - 101".into(),
            "s R 501 0 -> Close - 101".into(),
        ];
        walk("nat", unanswered.iter().map(String::as_str));
    }
}

/// Sends segments, and compares the connection after each with what its line says.
fn walk<'a>(mode: &str, lines: impl Iterator<Item = &'a str>) {
    let config = parse(&format!("{PORTS}{CLIENTS}{STATIC_REAL}{}", service(mode)));
    let mut replay = Replay::new(&config, 1, 100, Time::from_nanos(T)).unwrap();
    let mut done = Vec::new();
    for line in lines {
        let (sent, expected) = line.split_once("->").unwrap();
        let (port, frame) = frame(sent);
        done.push(line);
        replay.receive(port, &frame, Time::from_nanos(T + done.len() as u64));
        replay.check().unwrap();
        assert_eq!(told(&replay), expected.trim(), "{mode}: {done:#?}");
    }
}

/// Of so many, a few hundred lie where their hash does not tell at first sight.
#[test]
fn a_segment_finds_its_connection_wherever_it_lies_in_a_full_table() {
    const FULL: u16 = 4000;
    let limits = format!("[limits]\nconnections = {FULL}\n");
    let service = service("nat");
    let config = parse(&format!("{limits}{PORTS}{CLIENTS}{STATIC_REAL}{service}"));
    let mut replay = Replay::new(&config, 1, 10_000, Time::from_nanos(T)).unwrap();
    let segments = [
        (true, SYN, 100, 0),
        (false, SYN | ACK, 500, 101),
        (true, ACK, 101, 501),
    ];
    for (is_client, flags, sequence, acknowledged) in segments {
        for port in 1..=FULL {
            let (client, vip, real) = ((CLIENT, port), (VIP, 80), (REAL, 80));
            let (port, from, to) = match is_client {
                true => (PortId(0), client, vip),
                false => (PortId(1), real, client),
            };
            let frame = numbered(from, to, flags, sequence, acknowledged);
            replay.receive(port, &frame, Time::from_nanos(T));
        }
    }
    replay.check().unwrap();
    let is_open = |connection: &Connection| connection.state == State::Established;
    let open = replay.connections().filter(|(_, it)| is_open(it));
    assert_eq!(open.count(), usize::from(FULL));
}

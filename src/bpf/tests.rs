//! Programs against libpcap's own: what its compiler writes is taken, and says of every frame what its `bpf_filter` says.

use super::*;
use pcap::{Capture, Linktype};
use proptest::collection::vec;
use proptest::prelude::*;

const FILTERS: [&str; 30] = [
    "",
    "ip",
    "ip6",
    "arp",
    "tcp port 80",
    "udp and (port 53 or port 443)",
    "host 192.0.2.80",
    "host 192.0.2.80 and not tcp",
    "src net 10.0.0.0/8",
    "dst host 2001:db8::80",
    "net 2001:db8::/32",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[13] & 7 != 0 and tcp[0:2] > 1024",
    "ip[6:2] & 0x1fff != 0",
    "ip[8] < 5",
    "icmp[icmptype] = icmp-unreach",
    "icmp6 and ip6[40] == 135",
    "portrange 8000-8099",
    "sctp port 36412",
    "len >= 128",
    "less 80",
    "greater 1000",
    "ether host 02:00:00:00:00:01",
    "ether broadcast or multicast",
    "vlan 100 and host 10.0.0.1",
    "proto gre",
    "ip proto 4 or ip proto 41",
    "(ip[2:2] - ((ip[0] & 0xf) << 2)) - ((tcp[12] & 0xf0) >> 2) != 0",
    "ip[0] * 3 / 2 % 7 = 1",
    "host 192.0.2.1 or host 192.0.2.2 or host 192.0.2.3 or host 192.0.2.4 or host 192.0.2.5 or host 192.0.2.6",
];

/// What libpcap's compiler makes of a filter: its own program, and weir's.
fn compiled(filter: &str, optimize: bool) -> (pcap::BpfProgram, Program) {
    let dead = Capture::dead(Linktype::ETHERNET).unwrap();
    let theirs = dead.compile(filter, optimize).unwrap();
    let words = match optimize {
        true => compile(filter).unwrap(),
        false => theirs
            .get_instructions()
            .iter()
            .map(|it| read(&it.to_string()))
            .collect(),
    };
    let ours = Program::new(&words).unwrap();
    (theirs, ours)
}

fn read(text: &str) -> Instruction {
    let numbers: Vec<u32> = text.split(' ').map(|it| it.parse().unwrap()).collect();
    Instruction(
        numbers[0] as u16,
        numbers[1] as u8,
        numbers[2] as u8,
        numbers[3],
    )
}

/// Frames that filters have something to say about: Ethernet, often with the beginning of an IP header.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let header = prop_oneof![
        Just(vec![0x08, 0x00, 0x45]),
        Just(vec![0x08, 0x00, 0x4f]),
        Just(vec![0x86, 0xdd, 0x60]),
        Just(vec![0x08, 0x06, 0x00]),
        Just(vec![0x81, 0x00, 0x00, 100, 0x08, 0x00, 0x45]),
        vec(any::<u8>(), 0..4),
    ];
    // Addresses and ports that the filters name are drawn often.
    let word = prop_oneof![
        any::<[u8; 4]>(),
        Just([192, 0, 2, 80]),
        Just([192, 0, 2, 3]),
        Just([10, 0, 0, 1]),
        Just([0, 80, 0x1f, 0x90]),
        Just([0x20, 0x01, 0x0d, 0xb8]),
        Just([0, 0, 64, 6]),
        Just([0, 0, 64, 17]),
        Just([0, 0, 0, 0]),
    ];
    (
        vec(any::<u8>(), 12),
        header,
        vec(any::<u8>(), 0..8),
        vec(word, 0..60),
    )
        .prop_map(|(macs, header, some, words)| [macs, header, some, words.concat()].concat())
}

proptest! {
    #[test]
    fn every_frame_is_told_as_by_libpcap(frame in frames(), filter in 0..FILTERS.len(), optimize: bool) {
        let (theirs, ours) = compiled(FILTERS[filter], optimize);
        prop_assert_eq!(ours.run(&frame, frame.len()) > 0, theirs.filter(&frame), "{}", FILTERS[filter]);
    }

    #[test]
    fn whatever_is_taken_ends_and_nothing_panics(
        words in vec((any::<u16>(), 0..6u8, 0..6u8, prop_oneof![0..40u32, any::<u32>()]), 0..40),
        frame in vec(any::<u8>(), 0..80),
    ) {
        let words: Vec<_> = words.into_iter().map(|(code, jt, jf, k)| Instruction(code, jt, jf, k)).collect();
        if let Ok(program) = Program::new(&words) {
            program.run(&frame, frame.len());
        }
    }

    /// Of all codes that exist, so that most programs are taken.
    #[test]
    fn programs_of_known_codes_end(
        words in vec((0..CODES.len(), 0..4u8, 0..4u8, prop_oneof![0..16u32, any::<u32>()]), 0..60),
        frame in vec(any::<u8>(), 0..80),
    ) {
        let mut words: Vec<_> = words.into_iter().map(|(code, jt, jf, k)| Instruction(CODES[code], jt, jf, k)).collect();
        words.extend([Instruction(0x06, 0, 0, 1); 5]);
        for (n, word) in words.clone().iter().enumerate() {
            // What the check refuses in one place alone would keep the rest from being run.
            if Step::read(word).is_none_or(|step| step.check(n, words.len()).is_err()) {
                words[n] = Instruction(0x07, 0, 0, 0);
            }
        }
        let program = Program::new(&words).unwrap();
        program.run(&frame, frame.len());
    }
}

/// Every code of classic BPF.
const CODES: [u16; 50] = [
    0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x00, 0x60, 0x80, 0x01, 0x61, 0x81, 0xb1, 0x02, 0x03, 0x04,
    0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64, 0x6c, 0x74, 0x7c, 0x84,
    0x94, 0x9c, 0xa4, 0xac, 0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d, 0x06, 0x16, 0x07,
    0x87, 0x06,
];

#[test]
fn exactly_the_codes_of_classic_bpf_are_taken() {
    for code in 0..=u16::MAX {
        let is_taken = Step::read(&Instruction(code, 0, 0, 0)).is_some();
        assert_eq!(is_taken, CODES.contains(&code), "{code:#x}");
    }
}

#[test]
fn what_may_not_end_or_reads_what_is_not_there_is_refused() {
    let end = Instruction(0x06, 0, 0, 1);
    let of = |words: &[Instruction]| Program::new(words).unwrap_err();
    assert_eq!(of(&[]), Invalid::Empty);
    assert_eq!(of(&vec![end; MOST + 1]), Invalid::TooLong(MOST + 1));
    assert!(Program::new(&vec![end; MOST]).is_ok());
    assert_eq!(of(&[Instruction(0x00, 0, 0, 1)]), Invalid::NoEnd);
    assert_eq!(of(&[Instruction(0xff, 0, 0, 0), end]), Invalid::Unknown(0));
    // Forward, out of the program by one; backward, as `protochain` writes it.
    for (by, is_taken) in [
        (0, true),
        (1, false),
        (u32::MAX, false),
        (u32::MAX - 2, false),
    ] {
        let program = Program::new(&[Instruction(0x05, 0, 0, by), end]);
        assert_eq!(program.is_ok(), is_taken, "{by}");
    }
    for (jt, jf, is_taken) in [(0, 0, true), (1, 0, false), (0, 1, false)] {
        let program = Program::new(&[Instruction(0x15, jt, jf, 7), end]);
        assert_eq!(program.is_ok(), is_taken, "{jt} {jf}");
    }
    for code in [0x60, 0x61, 0x02, 0x03] {
        assert!(Program::new(&[Instruction(code, 0, 0, 15), end]).is_ok());
        for word in [16, 255, 256, 271, u32::MAX] {
            assert_eq!(
                of(&[Instruction(code, 0, 0, word), end]),
                Invalid::Memory(0)
            );
        }
    }
    for (code, k) in [(0x34, 0), (0x94, 0), (0x64, 32), (0x74, u32::MAX)] {
        assert_eq!(of(&[Instruction(code, 0, 0, k), end]), Invalid::Operand(0));
    }
}

#[test]
fn a_wrong_filter_is_told_as_libpcap_tells_it() {
    for (filter, said) in [
        ("tcp prot 80", "syntax error"),
        ("port 99999", "99999"),
        ("host 300.1.2.3", "300.1.2.3"),
        ("tcp port 80 and", "syntax error"),
    ] {
        let why = compile(filter).unwrap_err();
        assert!(why.contains(said), "{filter}: {why}");
    }
    let loops = compile("ip6 protochain 6").unwrap();
    assert!(matches!(Program::new(&loops), Err(Invalid::Jump(_))));
}

#[test]
fn computing_wraps_and_a_division_by_0_is_no_match() {
    // A is computed with X, and returned.
    let run = |code: u16, a: u32, x: u32| {
        let words = [
            Instruction(0x00, 0, 0, a),
            Instruction(0x01, 0, 0, x),
            Instruction(code, 0, 0, 0),
            Instruction(0x16, 0, 0, 0),
        ];
        Program::new(&words).unwrap().run(&[], 0)
    };
    for (code, a, x, result) in [
        (0x0c, u32::MAX, 2, 1),
        (0x1c, 1, 2, u32::MAX),
        (0x2c, 1 << 31, 2, 0),
        (0x3c, 7, 2, 3),
        (0x3c, 7, 0, 0),
        (0x9c, 7, 4, 3),
        (0x9c, 7, 0, 0),
        (0xac, 6, 3, 5),
        (0x6c, 1, 31, 1 << 31),
        (0x6c, 1, 32, 0),
        (0x7c, 1 << 31, 31, 1),
        (0x7c, 1 << 31, 77, 0),
        (0x84, 1, 0, u32::MAX),
    ] {
        assert_eq!(run(code, a, x), result, "{code:#x} {a} {x}");
    }
}

#[test]
fn a_load_beyond_the_frame_is_no_match() {
    for (code, size) in [
        (0x20, 4),
        (0x28, 2),
        (0x30, 1),
        (0x40, 4),
        (0x48, 2),
        (0x50, 1),
    ] {
        for (at, x) in [
            (0, 0),
            (6, 0),
            (7, 0),
            (8, 0),
            (3, 3),
            (4, 4),
            (u32::MAX, 0),
            (u32::MAX, 9),
        ] {
            let is_indexed = code >= 0x40;
            let words = [
                Instruction(0x01, 0, 0, x),
                Instruction(code, 0, 0, at),
                Instruction(0x06, 0, 0, 5),
            ];
            let at = u64::from(at) + if is_indexed { u64::from(x) } else { 0 };
            let expected = if at + size <= 8 { 5 } else { 0 };
            assert_eq!(
                Program::new(&words).unwrap().run(&[1; 8], 8),
                expected,
                "{code:#x} {at}"
            );
        }
    }
}

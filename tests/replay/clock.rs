//! The clock of a replay is that of its captures.

use super::frames::*;
use super::*;

#[test]
fn an_unknown_neighbour_is_asked_for_on_the_captures_clock() {
    let lab = Lab::new(CONFIG);
    let question = (T + 10 * SECOND, arp_question());
    lab.capture(
        "wan.pcap",
        &vec![
            (T, tcp(5000, SYN)),
            (T + SECOND / 2, tcp(5001, SYN)),
            question,
        ],
    );
    let counts =
        lab.replay("--rx wan=wan.pcap --tx lan=lan.pcap --tx wan=out.pcap --explain why.jsonl");

    let asked = lab.frames("lan.pcap");
    assert!(
        asked
            .iter()
            .all(|(_, frame)| is_arp_request_for_real(frame))
    );
    // Three times, and then every five seconds: the configuration needs it.
    let times = [0, 1, 2, 8].map(|second| T + second * SECOND);
    assert_eq!(lab.times("lan.pcap"), times);
    let why = lab.explained("why.jsonl");
    assert_eq!(strings(&why, "verdict"), ["queue", "queue", "reply"]);
    assert_eq!(
        strings(&why, "reason"),
        ["neighbour_unresolved", "neighbour_unresolved", "arp"]
    );
    assert_eq!(
        counts["dropped"],
        serde_json::json!({"neighbour_failed": 2})
    );
    assert_eq!(
        (&counts["queued"], &counts["originated"]),
        (&0.into(), &4.into())
    );
    assert_eq!(lab.times("out.pcap"), [T + 10 * SECOND]);
}

#[test]
fn an_arp_answer_releases_what_waits_with_its_own_timestamp() {
    let lab = Lab::new(CONFIG);
    lab.capture(
        "wan.pcap",
        &vec![(T, tcp(5000, SYN)), (T + SECOND, tcp(5000, ACK))],
    );
    lab.capture("lan.pcap", &vec![(T + 3 * SECOND / 10, arp_answer())]);
    let counts =
        lab.replay("--rx wan=wan.pcap --rx lan=lan.pcap --tx lan=out.pcap --explain why.jsonl");

    assert_eq!(lab.times("out.pcap"), [T, T + 3 * SECOND / 10, T + SECOND]);
    let frames = lab.frames("out.pcap");
    assert!(is_arp_request_for_real(&frames[0].1));
    assert_eq!(frames[1].1[..12], [REAL_MAC.0, WEIR_LAN.0].concat());
    assert_eq!(frames[1].1[30..34], REAL.octets());
    assert_eq!(
        (&counts["transmitted"], &counts["queued"], &counts["local"]),
        (&2.into(), &0.into(), &1.into())
    );
    let why = lab.explained("why.jsonl");
    assert_eq!(strings(&why, "verdict"), ["queue", "local", "forward"]);
    assert_eq!(strings(&why, "reason")[1..], ["arp", "known connection"]);
    assert_eq!(
        why[2]["out_n"], 2,
        "the third frame of its port: after the request and what waited"
    );
}

#[test]
fn after_the_last_packet_the_clock_stops() {
    let lab = Lab::new(CONFIG);
    lab.capture("wan.pcap", &vec![(T, tcp(5000, SYN))]);
    let counts = lab.replay("--rx wan=wan.pcap --tx lan=out.pcap --tx wan=wan-out.pcap");
    assert_eq!(lab.times("out.pcap"), [T], "no second ARP request");
    assert_eq!(
        lab.times("wan-out.pcap"),
        [0; 0],
        "nothing is announced at the start"
    );
    assert_eq!(counts["queued"], 1);
}

#[test]
fn connections_expire_on_the_captures_clock() {
    let lab = Lab::new(&format!("{CONFIG}{STATIC_REAL}"));
    let at = |seconds, frame| (T + seconds * SECOND, frame);
    let mut frames = vec![
        at(0, query(7000)),
        at(299, query(7000)),
        at(600, query(7000)),
    ];
    lab.capture("wan.pcap", &frames);
    let counts = lab.replay("--rx wan=wan.pcap --explain why.jsonl");
    let why = lab.explained("why.jsonl");
    assert_eq!(
        strings(&why, "reason"),
        ["new connection", "known connection", "new connection"]
    );
    assert_eq!(counts["connections"], 1);

    // Also one that no packet asks for any more.
    frames.push(at(901, arp_question()));
    lab.capture("wan.pcap", &frames);
    assert_eq!(lab.replay("--rx wan=wan.pcap")["connections"], 0);
}

#[test]
fn packets_at_the_same_time_go_in_the_order_of_the_options() {
    let lab = Lab::new(CONFIG);
    lab.capture(
        "wan.pcap",
        &vec![(T, arp_question()), (T + 1000, arp_question())],
    );
    lab.capture("lan.pcap", &vec![(T, arp_answer()), (T, arp_answer())]);
    let ports = |rx: &str| {
        lab.replay(&format!("{rx} --explain why.jsonl"));
        let why = lab.explained("why.jsonl");
        assert_eq!(
            why.iter()
                .map(|line| line["n"].as_u64().unwrap())
                .collect::<Vec<_>>(),
            [0, 1, 2, 3]
        );
        strings(&why, "port").join(" ")
    };
    assert_eq!(
        ports("--rx wan=wan.pcap --rx lan=lan.pcap"),
        "wan lan lan wan"
    );
    assert_eq!(ports("--rx lan=lan.pcap wan=wan.pcap"), "lan lan wan wan");
    lab.capture("more.pcap", &vec![(T + 500_000, arp_question())]);
    assert_eq!(
        ports("--rx wan=wan.pcap --rx wan=more.pcap --rx lan=more.pcap"),
        "wan wan wan lan"
    );
}

#[test]
fn a_timestamp_that_goes_back_does_not_turn_the_clock_back() {
    let lab = Lab::new(CONFIG);
    let frames = vec![
        (T + SECOND, arp_question()),
        (T, arp_question()),
        (T + 2 * SECOND, arp_question()),
    ];
    lab.capture("wan.pcap", &frames);
    lab.replay("--rx wan=wan.pcap --tx wan=out.pcap");
    assert_eq!(
        lab.times("out.pcap"),
        [T + SECOND, T + SECOND, T + 2 * SECOND]
    );
}

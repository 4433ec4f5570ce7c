use super::testing::*;
use super::*;
use crate::wire::arp;
use proptest::prelude::*;
use std::net::Ipv4Addr;

/// What happens at a neighbour.
#[derive(Clone, Copy, Debug)]
enum Does {
    /// A worker wants it.
    Want,
    /// A host answers weir.
    Answer(u8),
    /// A host asks weir.
    Ask(u8),
    /// A gratuitous request, and a gratuitous reply.
    Claim(u8),
    ClaimByReply(u8),
    /// Nothing: only its state matters.
    Look,
}
use Does::*;

/// What happens to a neighbour, and at the end of each step its state and MAC address; then what weir asked for.
struct Case {
    name: &'static str,
    /// Whether the configuration needs it: 10.0.0.11 is a real server, 10.0.0.99 is not.
    needed: bool,
    steps: &'static [(u64, Does, &'static str, u8)],
    asked: &'static [(u64, Option<u8>)],
}

const CASES: &[Case] = &[
    Case {
        name: "the first answer is believed at once",
        needed: true,
        steps: &[(0, Want, "incomplete", 0), (300, Answer(1), "reachable", 1)],
        asked: &[(0, None)],
    },
    Case {
        name: "the first claim is believed at once, and confirmed by who uses it",
        needed: true,
        steps: &[
            (0, Want, "incomplete", 0),
            (300, Claim(1), "stale", 1),
            (400, Want, "stale", 1),
            (500, Answer(1), "reachable", 1),
        ],
        asked: &[(0, None), (400, Some(1))],
    },
    Case {
        name: "a claim does not move a neighbour that still answers",
        needed: true,
        steps: &[
            (0, Want, "incomplete", 0),
            (100, Answer(1), "reachable", 1),
            (1000, Claim(9), "reachable", 1),
            (1001, Answer(1), "reachable", 1),
            (1002, ClaimByReply(9), "reachable", 1),
            (1003, Answer(9), "reachable", 1),
            (1500, Ask(9), "reachable", 1),
            (20_000, Look, "reachable", 1),
        ],
        asked: &[(0, None), (1000, Some(1))],
    },
    Case {
        name: "a neighbour that answers the second question stays",
        needed: true,
        steps: &[
            (0, Want, "incomplete", 0),
            (100, Answer(1), "reachable", 1),
            (1000, Claim(9), "reachable", 1),
            (1100, Answer(9), "reachable", 1),
            (1999, Answer(1), "reachable", 1),
            (3000, Look, "reachable", 1),
        ],
        asked: &[(0, None), (1000, Some(1)), (1500, Some(1))],
    },
    Case {
        name: "a fail-over is followed after one second",
        needed: true,
        steps: &[
            (0, Want, "incomplete", 0),
            (100, Answer(1), "reachable", 1),
            (1000, Claim(2), "reachable", 1),
            (1999, Answer(2), "reachable", 1),
            (2001, Answer(2), "reachable", 2),
            (32_000, Look, "reachable", 2),
            (32_001, Look, "stale", 2),
        ],
        asked: &[(0, None), (1000, Some(1)), (1500, Some(1)), (2000, None)],
    },
    Case {
        name: "of several that claim, the one that answers the broadcast question gets it",
        needed: true,
        steps: &[
            (0, Want, "incomplete", 0),
            (100, Answer(1), "reachable", 1),
            (1000, Claim(8), "reachable", 1),
            (1100, Claim(7), "reachable", 1),
            (1200, Claim(2), "reachable", 1),
            (2100, Claim(8), "reachable", 1),
            (2200, Answer(2), "reachable", 2),
        ],
        asked: &[(0, None), (1000, Some(1)), (1500, Some(1)), (2000, None)],
    },
    Case {
        name: "claims again and again cost one question a second",
        needed: true,
        steps: &[
            (0, Want, "incomplete", 0),
            (100, Answer(1), "reachable", 1),
            (1000, Claim(9), "reachable", 1),
            (1001, Answer(1), "reachable", 1),
            (1010, Claim(9), "reachable", 1),
            (1999, Claim(9), "reachable", 1),
            (2000, Claim(9), "reachable", 1),
            (2001, Answer(1), "reachable", 1),
            (2002, Claim(9), "reachable", 1),
        ],
        asked: &[(0, None), (1000, Some(1)), (2000, Some(1))],
    },
    Case {
        name: "a claim whose maker is silent too ends in a failure",
        needed: false,
        steps: &[
            (0, Want, "incomplete", 0),
            (100, Answer(1), "reachable", 1),
            (1000, Claim(2), "reachable", 1),
            (3999, Look, "reachable", 1),
            (4000, Look, "failed", 1),
        ],
        asked: &[
            (0, None),
            (1000, Some(1)),
            (1500, Some(1)),
            (2000, None),
            (3000, None),
        ],
    },
    Case {
        name: "a neighbour that is silent when it is confirmed moves to who answers then",
        needed: true,
        steps: &[
            (0, Want, "incomplete", 0),
            (100, Answer(1), "reachable", 1),
            (40_000, Want, "stale", 1),
            (40_500, Claim(2), "stale", 1),
            (40_600, Answer(2), "stale", 1),
            (41_001, Answer(2), "reachable", 2),
        ],
        asked: &[(0, None), (40_000, Some(1)), (41_000, None)],
    },
    Case {
        name: "a neighbour in use that dies fails after three questions",
        needed: false,
        steps: &[
            (0, Ask(1), "stale", 1),
            (10_000, Want, "stale", 1),
            (12_999, Want, "stale", 1),
            (13_000, Look, "failed", 1),
            (60_000, Look, "failed", 1),
        ],
        asked: &[(10_000, Some(1)), (11_000, None), (12_000, None)],
    },
    Case {
        name: "one that nothing needs is asked for anew when packets want it",
        needed: false,
        steps: &[
            (0, Want, "incomplete", 0),
            (3000, Look, "failed", 0),
            (9000, Want, "incomplete", 0),
            (9100, Answer(1), "reachable", 1),
        ],
        asked: &[(0, None), (1000, None), (2000, None), (9000, None)],
    },
    Case {
        name: "a needed one stays failed while it is asked for, until it answers",
        needed: true,
        steps: &[
            (0, Want, "incomplete", 0),
            (3000, Look, "failed", 0),
            (17_999, Look, "failed", 0),
            (18_100, Answer(1), "reachable", 1),
            (19_000, Look, "reachable", 1),
        ],
        asked: &[
            (0, None),
            (1000, None),
            (2000, None),
            (8000, None),
            (13_000, None),
            (18_000, None),
        ],
    },
    Case {
        name: "packets that want a failed one have it asked for at most once a second",
        needed: true,
        steps: &[
            (0, Want, "incomplete", 0),
            (3000, Want, "failed", 0),
            (3100, Want, "failed", 0),
            (3999, Want, "failed", 0),
            (4000, Want, "failed", 0),
            (12_999, Look, "failed", 0),
        ],
        asked: &[
            (0, None),
            (1000, None),
            (2000, None),
            (3000, None),
            (4000, None),
            (8000, None),
        ],
    },
    Case {
        name: "a needed one that speaks again is asked at once, and believed when it answers",
        needed: true,
        steps: &[
            (0, Want, "incomplete", 0),
            (4000, Claim(1), "failed", 0),
            (4001, Answer(1), "reachable", 1),
        ],
        asked: &[(0, None), (1000, None), (2000, None), (4000, Some(1))],
    },
    Case {
        name: "a stranger's claim or answer makes no neighbour, its question does",
        needed: false,
        steps: &[
            (0, Claim(1), "none", 0),
            (1, ClaimByReply(1), "none", 0),
            (2, Answer(1), "none", 0),
            (3, Ask(1), "stale", 1),
        ],
        asked: &[],
    },
];

/// A lab of each family.
const BOTH: [fn(&str) -> Lab; 2] = [Lab::new, Lab::v6];

#[test]
fn neighbours_do_as_the_table_says() {
    for (case, new) in CASES.iter().flat_map(|case| BOTH.map(|new| (case, new))) {
        let mut lab = new(&reals(1));
        let address = lan(if case.needed { 11 } else { 99 });
        for (n, &(millis, does, state, known)) in case.steps.iter().enumerate() {
            lab.go_to(millis);
            match does {
                Want => lab.want(address),
                Answer(n) => lab.arp(arp::REPLY, (address, mac(n)), lan(1)),
                Ask(n) => lab.arp(arp::REQUEST, (address, mac(n)), lan(254)),
                Claim(n) => lab.arp(arp::REQUEST, (address, mac(n)), address),
                ClaimByReply(n) => lab.arp(arp::REPLY, (address, mac(n)), address),
                Look => {}
            }
            let link = lab.link(address);
            let found = link.map_or(("none", 0), |link| (link.state.name(), link.mac.0[5]));
            assert_eq!(found, (state, known), "{}: step {n}: {does:?}", case.name);
        }
        let question = |(millis, to): &(u64, Option<u8>)| match to {
            None => format!("{millis} all for {address}"),
            Some(mac) => format!("{millis} {mac:02x} for {address}"),
        };
        let asked: Vec<_> = case.asked.iter().map(question).collect();
        assert_eq!(lab.said, asked, "{}", case.name);
    }
}

#[test]
fn static_neighbours_and_edges_of_subnets_are_never_learned() {
    let mut lab = Lab::new(&reals(1));
    for sender in [lan(7), lan(0), IpAddr::from([10, 1, 255, 255])] {
        let before = lab.link(sender);
        lab.arp(arp::REQUEST, (sender, mac(9)), lan(1));
        lab.arp(arp::REPLY, (sender, mac(9)), lan(1));
        assert_eq!(lab.link(sender), before, "{sender}");
    }
    assert!(lab.said.is_empty());
}

#[test]
fn a_gateway_that_is_no_longer_static_keeps_its_slot() {
    let gateway = IpAddr::from([198, 51, 100, 254]);
    let fixed = "[[neighbour]]\naddress = \"198.51.100.254\"\nmac = \"02:00:00:00:01:01\"\n";
    let mut lab = Lab::new(fixed);
    lab.model.apply(parse(""), at(0)).unwrap();
    assert_eq!(
        lab.link(gateway).map(|link| link.state),
        Some(LinkState::Stale)
    );
    let network = Network {
        tables: lab.model.tables(),
        reals: &foldhash::HashMap::default(),
    };
    let table = lab.model.resolver.neighbours().table().clone();
    let hop = table.find(PortId(1), gateway).unwrap();
    assert!(lab.model.resolver.neighbours().is_needed(hop, &network));
    lab.want(gateway);
    lab.go_to(10_000);
    assert_eq!(
        lab.said.len(),
        4,
        "three questions, and one to the failed gateway: {:?}",
        lab.said
    );
}

#[test]
fn own_addresses_are_defended_once_in_ten_seconds_where_they_are_answered_for() {
    BOTH.into_iter().for_each(own_addresses_are_defended);
}

fn own_addresses_are_defended(new: fn(&str) -> Lab) {
    let mut lab = new(&reals(1));
    for second in 0..25 {
        lab.go_to(second * 1000 + 500);
        for address in [lan(1), lan(254)] {
            lab.arp(arp::REQUEST, (address, mac(9)), address);
            lab.arp(arp::REPLY, (address, mac(9)), lan(11));
        }
        // Not at home on this port: 198.51.100.1 is a wan address, claimed on lan.
        let repr = arp::Repr {
            operation: arp::REPLY,
            sender_mac: mac(9),
            sender_ip: Ipv4Addr::new(198, 51, 100, 1),
            target_mac: mac(1),
            target_ip: Ipv4Addr::new(10, 0, 0, 1),
        };
        let heard = Heard::by_arp(&repr, true);
        lab.event(Event::Heard {
            port: PortId(0),
            heard,
        });
    }
    let defended = [500, 10_500, 20_500]
        .map(|millis| [lan(1), lan(254)].map(|address| format!("{millis} {address} on 0")));
    assert_eq!(lab.said, defended.concat());
    assert_eq!(lab.link(lan(254)), None, "never learned");
}

#[test]
fn defences_of_many_addresses_are_paced() {
    let vips: String = (0..2000u32)
        .map(|n| {
            format!(
                "[[service]]\naddress = \"10.1.{}.{}\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n",
                n / 200,
                1 + n % 200
            )
        })
        .collect();
    let mut lab = Lab::new(&vips);
    for n in 0..2000u32 {
        let vip = IpAddr::from([10, 1, (n / 200) as u8, 1 + (n % 200) as u8]);
        lab.arp(arp::REQUEST, (vip, mac(9)), vip);
    }
    assert_eq!(lab.said.len(), DEFENCES_PER_SECOND as usize);
}

#[test]
fn a_flood_of_claims_costs_a_bounded_number_of_questions() {
    BOTH.into_iter().for_each(a_flood_of_claims);
}

fn a_flood_of_claims(new: fn(&str) -> Lab) {
    let mut lab = new(&reals(1));
    let host = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a01_0000 + n));
    for n in 1..=1000 {
        lab.arp(arp::REQUEST, (host(n), mac(1)), lan(1));
    }
    for n in 0..10_000 {
        lab.arp(arp::REQUEST, (host(1 + n % 1000), mac(9)), lan(11));
    }
    assert_eq!(lab.said.len(), CLAIMS_PER_SECOND as usize);
    lab.said.clear();
    let gateway = IpAddr::from([198, 51, 100, 254]);
    lab.want(gateway);
    lab.arp(
        arp::REPLY,
        (gateway, mac(1)),
        IpAddr::from([198, 51, 100, 1]),
    );
    lab.arp(arp::REQUEST, (gateway, mac(2)), gateway);
    assert_eq!(
        lab.said.join(", "),
        "0 all for 198.51.100.254, 0 01 for 198.51.100.254",
        "another port's claims are looked into"
    );
}

#[test]
fn a_failed_next_hop_is_asked_for_while_the_configuration_needs_it() {
    let mut lab = Lab::new(&reals(1));
    let (real, gateway) = (lan(12), IpAddr::from([198, 51, 100, 254]));
    lab.want(real);
    lab.want(gateway);
    lab.go_to(10_000);
    lab.said.clear();
    lab.go_to(20_000);
    let probes = |lab: &mut Lab, address: IpAddr| {
        let address = address.to_string();
        let of = |line: &&String| line.ends_with(&address);
        lab.said.iter().filter(of).count()
    };
    assert_eq!((probes(&mut lab, real), probes(&mut lab, gateway)), (0, 2));
    // It becomes a real server, and is none later.
    lab.model.apply(parse(&reals(2)), at(lab.now)).unwrap();
    lab.said.clear();
    lab.go_to(29_900);
    assert_eq!((probes(&mut lab, real), probes(&mut lab, gateway)), (2, 2));
    lab.model.apply(parse(&reals(1)), at(lab.now)).unwrap();
    lab.said.clear();
    // Not yet forgotten.
    lab.go_to(55_000);
    assert_eq!(probes(&mut lab, real), 0);
    // A service of its own, added while weir runs.
    let text = "[[service]]\naddress = \"10.0.0.253\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n\
                [[service.real]]\naddress = \"10.0.0.12\"\n";
    let service = parse(text).services.pop().unwrap();
    lab.model.set_services(vec![service]).unwrap();
    lab.said.clear();
    lab.go_to(64_000);
    assert_eq!(probes(&mut lab, real), 2);
}

#[test]
fn probes_of_many_failed_next_hops_are_paced() {
    let real = |n: u32| {
        format!(
            "[[service.real]]\naddress = \"10.1.{}.{}\"\n",
            n / 200,
            1 + n % 200
        )
    };
    let mut lab = Lab::new(&(0..3000).map(real).collect::<String>());
    for n in 0..3000u32 {
        lab.want(IpAddr::from([10, 1, (n / 200) as u8, 1 + (n % 200) as u8]));
    }
    lab.go_to(10_000);
    lab.said.clear();
    lab.go_to(40_000);
    assert_eq!(lab.said.len(), 6000, "one in five milliseconds");
    let asked: std::collections::HashSet<_> = lab
        .said
        .iter()
        .map(|line| line.rsplit(' ').next())
        .collect();
    assert_eq!(asked.len(), 3000, "each has its turn");
}

/// What may happen next to one of a few hosts: when, to which one, what.
fn anything() -> impl Strategy<Value = (u64, usize, Does)> {
    let does = (0..6, 1..4u8).prop_map(|(what, mac)| match what {
        0 => Want,
        1 => Answer(mac),
        2 => Ask(mac),
        3 => Claim(mac),
        4 => ClaimByReply(mac),
        _ => Look,
    });
    let delay = prop_oneof![Just(0), 0..600u64, 0..40_000u64];
    (delay, 0..4usize, does)
}

proptest! {
    /// Whatever comes: a static neighbour stays; a MAC address that is in use changes only by an answer, after its host
    /// was asked and silent for a second; what has failed and is needed stays so until it answers.
    #[test]
    fn neighbours_move_only_when_they_are_silent(script in prop::collection::vec(anything(), 1..60), is_v6: bool) {
        let mut lab = BOTH[usize::from(is_v6)](&reals(1));
        let gateway = IpAddr::from([198, 51, 100, 254]);
        let hosts = [lan(7), lan(11), lan(99), gateway];
        // Of each host: since when the host at the known MAC address has been asked in vain.
        let mut silent_since = [None; 4];
        let mut asked = 0;
        for (delay, host, does) in script {
            let address = hosts[host];
            lab.go_to(lab.now + delay);
            let questions = |lab: &mut Lab, silent_since: &mut [Option<u64>; 4]| {
                for line in std::mem::take(&mut lab.said) {
                    let words: Vec<_> = line.split(' ').collect();
                    let host = hosts.iter().position(|host| host.to_string() == words[3]).unwrap();
                    // One that the configuration does not need may be forgotten meanwhile.
                    let Some(known) = lab.link(hosts[host]) else {
                        continue;
                    };
                    if words[1] == format!("{:02x}", known.mac.0[5]) {
                        silent_since[host].get_or_insert(words[0].parse().unwrap());
                    }
                }
            };
            asked += lab.said.len();
            questions(&mut lab, &mut silent_since);
            let before = lab.link(address);
            let weir = if host == 3 { IpAddr::from([198, 51, 100, 1]) } else { lan(1) };
            let mut answer = None;
            match does {
                Want => lab.want(address),
                Answer(n) => {
                    answer = Some(mac(n));
                    lab.arp(arp::REPLY, (address, mac(n)), weir);
                }
                Ask(n) => lab.arp(arp::REQUEST, (address, mac(n)), weir),
                Claim(n) => lab.arp(arp::REQUEST, (address, mac(n)), address),
                ClaimByReply(n) => lab.arp(arp::REPLY, (address, mac(n)), address),
                Look => {}
            }
            let after = lab.link(address);
            match (before, after) {
                _ if host == 0 => prop_assert_eq!(before, after),
                (Some(before), Some(after)) if before.is_usable() => {
                    prop_assert!(after.is_usable(), "no packet makes it fail");
                    if before.mac != after.mac {
                        let silent = silent_since[host].map(|since| lab.now - since);
                        prop_assert!(silent.is_some_and(|silent| silent >= 1000), "{:?}", silent);
                        prop_assert_eq!(answer, Some(after.mac));
                    }
                }
                (Some(before), Some(after)) if before.state == LinkState::Failed && host != 2 => {
                    let expected = match answer {
                        Some(_) => LinkState::Reachable,
                        None => LinkState::Failed,
                    };
                    prop_assert_eq!(after.state, expected);
                }
                _ => {}
            }
            let is_new = before.map(|link| link.mac) != after.map(|link| link.mac);
            if is_new || answer.is_some() && after.map(|link| link.mac) == answer {
                silent_since[host] = None;
            }
            asked += lab.said.len();
            questions(&mut lab, &mut silent_since);
            let (strangers, counted) = lab.model.resolver.neighbours().strangers();
            prop_assert_eq!(strangers, counted);
        }
        prop_assert!(asked as u64 <= 3 * 4 * (2 + lab.now / 1000), "{} questions", asked);
    }
}

#[test]
fn an_answer_without_a_mac_address_confirms_the_known_one() {
    let mut lab = Lab::v6(&reals(1));
    let short = |sender| Event::Heard {
        port: PortId(0),
        heard: Heard {
            sender,
            mac: None,
            message: Message::Answers,
        },
    };
    lab.want(lan(11));
    lab.event(short(twin(lan(11))));
    let state = |lab: &Lab| lab.link(lan(11)).map(|link| (link.state, link.mac));
    assert_eq!(state(&lab), Some((LinkState::Incomplete, Mac::default())));
    lab.arp(arp::REPLY, (lan(11), mac(1)), lan(1));
    lab.go_to(40_000);
    assert_eq!(state(&lab), Some((LinkState::Stale, mac(1))));
    lab.want(lan(11));
    lab.event(short(twin(lan(11))));
    assert_eq!(state(&lab), Some((LinkState::Reachable, mac(1))));
}

#[test]
fn what_weir_keeps_silent_of_is_neither_defended_nor_asked_from() {
    let mut lab = Lab::v6(&reals(1));
    let own = twin(lan(1));
    let silent = |places: &[(PortId, IpAddr)]| places.into();
    lab.model.set_silent(silent(&[(PortId(0), own)]));
    let link_local = Mac([2, 0, 0, 0, 0, 1]).link_local().into();
    let source = |lab: &Lab| lab.model.tables().source_for(PortId(0), twin(lan(11)));
    assert_eq!(source(&lab), Some(link_local));
    lab.arp(arp::REQUEST, (lan(1), mac(9)), lan(1));
    assert!(lab.said.is_empty(), "{:?}", lab.said);
    let contested = lab.model.resolver.take_contested();
    assert_eq!(contested, [((PortId(0), own), mac(9))]);
    lab.model
        .set_silent(silent(&[(PortId(0), own), (PortId(0), link_local)]));
    assert_eq!(source(&lab), None);
    lab.model.set_silent(silent(&[]));
    assert_eq!(source(&lab), Some(own));
    lab.arp(arp::REQUEST, (lan(1), mac(9)), lan(1));
    assert_eq!(lab.said, ["0 10.0.0.1 on 0"]);
    assert!(lab.model.resolver.take_contested().is_empty());
}

//! `weir replay --what-if` and `--against`, against what two replays with `--explain` say.

use super::frames::{SYN, Timed, segment, udp};
use super::{Lab, PORTS, SECOND, T, parse, six};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
/// Seconds that a flow lives after its only packet.
const LIFE: u64 = 2;
const REALS: [u8; 3] = [11, 12, 13];

/// A service of UDP with these keys, in front of real servers whose next hops are known.
fn config(keys: &str) -> String {
    config_with(keys, &[(11, 1), (12, 2), (13, 1)])
}

/// `reals`: last bytes of addresses, and weights.
fn config_with(keys: &str, reals: &[(u8, u16)]) -> String {
    let mut text = format!(
        "{PORTS}[[route]]\nto = \"0.0.0.0/0\"\nvia = \"198.51.100.254\"\n\
         [timeouts]\nudp = {LIFE}\n\
         [[service]]\nname = \"dns\"\naddress = \"192.0.2.80\"\nport = 53\nprotocol = \"udp\"\nmode = \"dr\"\n{keys}\n"
    );
    for (last, weight) in reals {
        text += &format!("[[service.real]]\naddress = \"10.0.0.{last}\"\nweight = {weight}\n");
    }
    text += "[[service]]\nname = \"web\"\naddress = \"192.0.2.80\"\nport = 80\nprotocol = \"tcp\"\nmode = \"dr\"\nscheduler = \"sh\"\n\
             [[service.real]]\naddress = \"10.0.0.11\"\n";
    for last in REALS {
        let mac = format!("02:00:00:00:01:{last}");
        text += &format!("[[neighbour]]\naddress = \"10.0.0.{last}\"\nmac = \"{mac}\"\n");
    }
    text
}

fn query(client: u8, port: u16) -> Vec<u8> {
    let client = Ipv4Addr::new(203, 0, 113, client);
    udp((client, port), (VIP, 53), b"who?")
}

/// By real server: clients and connections, and the fewest and the most that there may have been at a time, as the sweep ends a flow when
/// its time has run out or a moment later; by packet: the real server.
type Told = (BTreeMap<String, Share>, HashMap<usize, String>);
/// Clients, connections, and the bounds of the peak.
type Share = (u64, u64, (u64, u64));

/// What `--explain` says of one configuration. `sent`: each packet's time and client.
fn told(lab: &Lab, options: &str, sent: &[(u64, u8)]) -> Told {
    lab.replay(&format!("--rx wan=wan.pcap --explain why.jsonl {options}"));
    let mut begun: BTreeMap<String, Vec<(u64, u8)>> = BTreeMap::new();
    let mut placed = HashMap::new();
    for (n, line) in lab.explained("why.jsonl").iter().enumerate() {
        if line["reason"] == "new connection" {
            let real = line["real"].as_str().unwrap().to_owned();
            placed.insert(n, real.clone());
            begun.entry(real).or_default().push(sent[n]);
        }
    }
    let tally = |begun: &Vec<(u64, u8)>| {
        let clients: HashSet<_> = begun.iter().map(|(_, client)| client).collect();
        let peak = |life: u64| {
            let alive = |now: u64| {
                let since = begun.iter().filter(|(time, _)| *time <= now);
                since.filter(|(time, _)| now < *time + life).count() as u64
            };
            begun
                .iter()
                .map(|(time, _)| alive(*time))
                .max()
                .unwrap_or(0)
        };
        let bounds = (peak(LIFE * SECOND), peak((LIFE + 1) * SECOND));
        (clients.len() as u64, begun.len() as u64, bounds)
    };
    let tallies = begun
        .iter()
        .map(|(real, begun)| (real.clone(), tally(begun)));
    (tallies.collect(), placed)
}

/// Whether the shares of a side are those.
fn has_shares(service: &Value, side: &str, expected: &BTreeMap<String, Share>) -> bool {
    let reals = service["reals"].as_array().unwrap();
    let is_so = |real: &Value| {
        let number = |key: &str| real[side][key].as_u64().unwrap();
        let share = expected.get(real["real"].as_str().unwrap());
        let (clients, connections, (least, most)) = share.copied().unwrap_or_default();
        number("clients") == clients
            && number("connections") == connections
            && (least..=most).contains(&number("peak"))
    };
    reals.len() == REALS.len() && reals.iter().all(is_so)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_comparison_is_what_two_replays_say(
        // Milliseconds after the one before, at most one flow of an address and port at a time.
        packets in prop::collection::vec((1..400u64, 1..=9u8), 1..60),
        schedulers in (0..4usize, 0..4usize),
        workers in 1..4u8,
        is_six in any::<bool>(),
    ) {
        const WORDS: [&str; 4] = ["rr", "wrr", "sh", "mh"];
        let (old, new) = (WORDS[schedulers.0], WORDS[schedulers.1]);
        let text = |scheduler: &str| {
            let text = config(&format!("scheduler = \"{scheduler}\""));
            match is_six {
                true => {
                    let config = six::config(&parse(&text), false);
                    let services = config.services.iter().map(|service| service.written());
                    config.written() + &services.collect::<String>()
                }
                false => text,
            }
        };
        let (mut frames, mut sent, mut now) = (Timed::new(), Vec::new(), T);
        for (n, (after, client)) in packets.iter().enumerate() {
            now += after * 1_000_000;
            let frame = query(*client, 1024 + n as u16);
            frames.push((now, if is_six { six::frame(&frame).unwrap() } else { frame }));
            sent.push((now, *client));
        }
        let lab = Lab::new(&text(new));
        lab.capture("wan.pcap", &frames);
        let options = format!("--workers {workers}");
        let (after, placed_after) = told(&lab, &options, &sent);
        lab.put("weir.toml", text(old));
        let (before, placed_before) = told(&lab, &options, &sent);
        let compared = lab.replay(&format!("--rx wan=wan.pcap {options} --what-if scheduler={new}"));
        let services = compared["services"].as_array().unwrap();
        prop_assert_eq!(services.len(), 1);
        let dns = &services[0];
        prop_assert!(has_shares(dns, "before", &before), "{dns} {before:?}");
        prop_assert!(has_shares(dns, "after", &after), "{dns} {after:?}");
        let moved = placed_before.iter().filter(|(n, real)| placed_after[*n] != **real);
        let moved: Vec<_> = moved.map(|(n, _)| sent[*n].1).collect();
        let clients: HashSet<_> = sent.iter().map(|(_, client)| *client).collect();
        let moved_clients: HashSet<_> = moved.iter().copied().collect();
        prop_assert_eq!(&dns["connections"], &json!(packets.len()));
        prop_assert_eq!(&dns["moved_connections"], &json!(moved.len()));
        prop_assert_eq!(&dns["clients"], &json!(clients.len()));
        prop_assert_eq!(&dns["moved_clients"], &json!(moved_clients.len()));
        prop_assert_eq!((&dns["only_before"], &dns["only_after"]), (&json!(0), &json!(0)));
        // The same scheduler again moves nothing.
        if old == new {
            prop_assert_eq!(moved.len(), 0);
        }
    }
}

/// Connections by real server on both sides, in the order of the rows; none where a side does not have it.
fn connections(compared: &Value) -> Vec<(&str, Option<u64>, Option<u64>)> {
    let reals = compared["services"][0]["reals"].as_array().unwrap();
    let side = |real: &Value, side: &str| real[side]["connections"].as_u64();
    let row = |real: &'_ Value| (side(real, "before"), side(real, "after"));
    let rows = reals.iter().map(|real| {
        let (before, after) = row(real);
        (real["real"].as_str().unwrap(), before, after)
    });
    rows.collect()
}

/// 40 flows of 40 clients, 10 ms apart.
fn forty() -> Timed {
    let query = |n: u8| (T + u64::from(n) * 10_000_000, query(n + 1, 5000));
    (0..40).map(query).collect()
}

#[test]
fn what_if_takes_what_set_takes() {
    let lab = Lab::new(&config("scheduler = \"wrr\""));
    lab.capture("wan.pcap", &forty());
    for (what, after) in [
        ("scheduler=rr", [14, 13, 13]),
        ("dns|scheduler=rr", [14, 13, 13]),
        ("udp:192.0.2.80:53|scheduler=rr", [14, 13, 13]),
        ("dns|10.0.0.12:53|weight=0", [20, 0, 20]),
        (
            "dns|10.0.0.12:53|weight=0 --what-if dns|10.0.0.11:53|weight=4",
            [32, 0, 8],
        ),
    ] {
        let compared = lab.replay(&format!("--rx wan=wan.pcap --what-if {what}"));
        let rows = connections(&compared);
        let before: Vec<_> = rows.iter().map(|row| row.1.unwrap()).collect();
        assert_eq!(before, [10, 20, 10], "{what}");
        let mut given: Vec<_> = rows.iter().map(|row| row.2.unwrap()).collect();
        let mut after = after.to_vec();
        if what.ends_with("=rr") {
            // Its first turn is anywhere.
            given.sort_unstable();
            after.sort_unstable();
        }
        assert_eq!(given, after, "{what}");
    }
}

#[test]
fn another_file_may_have_its_ports_and_real_servers_elsewhere() {
    let before = config("scheduler = \"rr\"");
    let lab = Lab::new(&before);
    lab.capture("wan.pcap", &forty());
    let (ports, rest) = before.split_at(PORTS.len());
    let lan = ports.rfind("[[port]]").unwrap();
    let turned = [&ports[lan..], &ports[..lan], rest].concat();
    lab.put("turned.toml", &turned);
    let compared = lab.replay("--rx wan=wan.pcap --against turned.toml");
    assert_eq!(compared["services"][0]["moved_clients"], 0);

    // One real server fewer, one more, and another mode.
    let other = config_with("scheduler = \"rr\"", &[(11, 1), (12, 1), (14, 1)]);
    lab.put("other.toml", other.replace("\"dr\"", "\"nat\""));
    let compared = lab.replay("--rx wan=wan.pcap --against other.toml");
    let mut rows = connections(&compared);
    rows.iter_mut().for_each(|row| {
        row.1 = row.1.map(|it| it / 13);
        row.2 = row.2.map(|it| it / 13);
    });
    assert_eq!(
        rows,
        [
            ("10.0.0.11:53", Some(1), Some(1)),
            ("10.0.0.12:53", Some(1), Some(1)),
            ("10.0.0.13:53", Some(1), None),
            ("10.0.0.14:53", None, Some(1)),
        ]
    );

    // What has no service begins nothing.
    lab.put("none.toml", before.replace("port = 53", "port = 54"));
    let compared = lab.replay("--rx wan=wan.pcap --against none.toml");
    let dns = &compared["services"][0];
    assert_eq!(
        (&dns["only_before"], &dns["only_after"], &dns["connections"]),
        (&json!(40), &json!(0), &json!(0))
    );
    let mut wan = forty();
    wan.retain(|(time, _)| *time < T);
    lab.capture("empty.pcap", &wan);
    let run = lab.run("--rx wan=empty.pcap --against none.toml");
    assert_eq!(run.stdout, "no service got a connection\n");
}

#[test]
fn real_servers_packets_and_unanswered_questions_change_nothing() {
    let nat = |text: String| text.replace("\"dr\"", "\"nat\"\npassive = { failures = 1 }");
    let known = nat(config("scheduler = \"rr\""));
    // The next hops are known to none.
    let unknown = &known[..known.find("[[neighbour]]").unwrap()];
    let lab = Lab::new(&known);
    let mut wan = forty();
    wan.extend((0..9u16).map(|n| {
        let client = Ipv4Addr::new(203, 0, 113, n as u8);
        let syn = segment((client, 6000), (VIP, 80), SYN);
        (T + SECOND + u64::from(n) * SECOND, syn)
    }));
    lab.capture("wan.pcap", &wan);
    let answers = (0..40u8).map(|n| {
        let real = Ipv4Addr::new(10, 0, 0, REALS[usize::from(n) % 3]);
        let client = Ipv4Addr::new(203, 0, 113, n + 1);
        let answer = udp((real, 53), (client, 5000), b"it");
        (T + u64::from(n) * 10_000_000 + 1_000_000, answer)
    });
    lab.capture("lan.pcap", &answers.collect());
    // A real server may be a client too.
    let as_client = udp((Ipv4Addr::new(10, 0, 0, 11), 5353), (VIP, 53), b"?");
    lab.capture("own.pcap", &vec![(T + 2 * SECOND, as_client)]);
    let alone = lab.replay("--rx wan=wan.pcap --what-if dns|scheduler=mh");
    assert_eq!(alone["left_out"], 0);
    let web = &alone["services"][1];
    assert_eq!(
        (&web["name"], &web["connections"]),
        (&json!("web"), &json!(9))
    );
    let both = lab.replay("--rx wan=wan.pcap --rx lan=lan.pcap --what-if dns|scheduler=mh");
    assert_eq!(both["left_out"], 40);
    assert_eq!(both["services"], alone["services"]);
    lab.put("weir.toml", unknown);
    let asked = lab.replay("--rx wan=wan.pcap --what-if dns|scheduler=mh");
    assert_eq!(asked["services"], alone["services"]);
    let own = lab.replay("--rx wan=wan.pcap --rx lan=own.pcap --what-if dns|scheduler=mh");
    assert_eq!(
        (&own["left_out"], &own["services"][0]["connections"]),
        (&json!(0), &json!(41))
    );
}

#[test]
fn a_comparison_reads_as_a_table() {
    let lab = Lab::new(&config("scheduler = \"wrr\""));
    lab.capture("wan.pcap", &forty());
    let run = lab.run("--rx wan=wan.pcap --what-if dns|10.0.0.12:53|weight=0");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(run.stderr, "40 packets, and 0 of real servers left out\n");
    let lines: Vec<_> = run.stdout.lines().collect();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(lines[0], "dns (udp:192.0.2.80:53)");
    assert_eq!(
        words(lines[1]),
        "real server weight clients connections share peak"
    );
    assert_eq!(
        words(lines[3]),
        "10.0.0.12:53 2 -> 0 20 -> 0 20 -> 0 50 % -> 0 % 20 -> 0"
    );
    assert!(lines[5].starts_with("moved: ") && lines[5].contains(" of 40 clients ("));
    assert_eq!(
        lines[6],
        "the busiest real server gets so many times its weight's share: 1.00"
    );
    assert_eq!(lines.len(), 7);
}

#[test]
fn what_cannot_be_compared_is_told() {
    let text = config("scheduler = \"wrr\"");
    let lab = Lab::new(&text);
    lab.capture("wan.pcap", &forty());
    lab.put("lan.toml", text.replace("\"wan\"", "\"outside\""));
    for (options, why) in [
        ("--what-if scheduler", "write KEY=VALUE"),
        ("--what-if dns|a|b|scheduler=rr", "write KEY=VALUE"),
        (
            "--what-if dms|scheduler=rr",
            "no [[service]] is \"dms\"; did you mean `dns`?",
        ),
        ("--what-if dns|scheduler=mhh", "unknown scheduler `mhh`"),
        ("--what-if dns|port=54", "`port` says which service it is"),
        (
            "--what-if dns|10.0.0.99:53|weight=1",
            "the service has no real server 10.0.0.99:53",
        ),
        (
            "--what-if dns|10.0.0.11:53|weight=-1",
            "`weight` of a real server is 0 to 65535",
        ),
        (
            "--what-if 10.0.0.11:53|weight=5",
            "no [[service]] is \"10.0.0.11:53\"",
        ),
        ("--what-if tcp_mss=1400", "tcp_mss"),
        (
            "--what-if scheduler=rr --against lan.toml",
            "cannot be used with",
        ),
        (
            "--what-if scheduler=rr --tx lan=out.pcap",
            "cannot be used with",
        ),
        (
            "--against lan.toml --explain why.jsonl",
            "cannot be used with",
        ),
        (
            "--against lan.toml",
            "--rx wan=wan.pcap: no [[port]] is named `wan`",
        ),
        ("--against none.toml", "error: none.toml: cannot read"),
    ] {
        let run = lab.run(&format!("--rx wan=wan.pcap {options}"));
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{options}");
        assert!(
            run.stderr.starts_with("error: "),
            "{options}: {}",
            run.stderr
        );
        assert!(run.stderr.contains(why), "{options}: {}", run.stderr);
    }
}

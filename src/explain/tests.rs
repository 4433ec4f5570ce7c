//! What is said of packets: over modes, families and outcomes; and that it is what a replay does.

use super::*;
use crate::config::{self, Context};
use proptest::prelude::*;

pub(super) const PORTS: &str = r#"
[[port]]
name      = "wan"
device    = "net_null0"
addresses = ["198.51.100.1/24", "2001:db8:1::1/64"]
[[port]]
name      = "lan"
device    = "net_null1"
addresses = ["10.0.0.1/24", "2001:db8:2::1/64"]
[[route]]
to  = "0.0.0.0/0"
via = "198.51.100.254"
[[route]]
to  = "::/0"
via = "2001:db8:1::fe"
[[local_pool]]
name      = "inside"
addresses = ["10.0.0.200"]
[[local_pool]]
name      = "inside6"
addresses = ["2001:db8:2::200"]
"#;

pub(super) fn parse(text: &str) -> Config {
    let context = Context {
        cpus: None,
        devices: false,
    };
    match config::parse(text, "weir.toml", &context) {
        Ok(loaded) => loaded.config,
        Err(errors) => panic!("{errors}\n{text}"),
    }
}

pub(super) fn asked(texts: &[&str]) -> Vec<Asked> {
    let read = |text: &&str| {
        text.parse()
            .unwrap_or_else(|why: Wrong| panic!("{}", why.show(text)))
    };
    texts.iter().map(read).collect()
}

fn ask(config: &str, packets: &[&str]) -> Vec<Story> {
    explain(&parse(config), &Running::default(), None, &asked(packets)).unwrap()
}

impl Story {
    pub(super) fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.step == name)
    }

    /// Everything, a line each.
    pub(super) fn text(&self) -> String {
        let lines = self.steps.iter().flat_map(|step| {
            let first = format!("{}: {}", step.step, step.says);
            std::iter::once(first).chain(step.details.clone())
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

pub(super) fn service(vip: &str, keys: &str, real: &str) -> String {
    format!(
        "[[service]]\nname = \"web\"\naddress = \"{vip}\"\nport = 80\nprotocol = \"tcp\"\n{keys}\nscheduler = \"wrr\"\n\
         [[service.real]]\naddress = \"{real}\"\nweight = 3\n"
    )
}

const V4: (&str, &str) = ("192.0.2.80", "203.0.113.5:1234 > 192.0.2.80:80");
const V6: (&str, &str) = ("2001:db8::80", "[2001:db8:9::5]:1234 > [2001:db8::80]:80");
const STAYS: &str = "translation: addresses and ports stay as they are";

#[test]
fn every_mode_is_told_in_every_family() {
    let gue = "mode = \"tunnel\"\ntunnel = \"gue\"";
    for ((vip, path), keys, real, lines) in [
        (
            V4,
            "mode = \"dr\"",
            "10.0.0.11",
            &[
                STAYS,
                "to the next hop 10.0.0.11",
                "size: 40 bytes, of the 1500",
            ][..],
        ),
        (
            V6,
            "mode = \"dr\"",
            "2001:db8:2::11",
            &[
                STAYS,
                "to the next hop 2001:db8:2::11",
                "which neighbour discovery would tell",
            ],
        ),
        (
            V4,
            "mode = \"nat\"",
            "10.0.0.11",
            &["becomes 203.0.113.5:1234 > 10.0.0.11:80", "TTL 63"],
        ),
        (
            V6,
            "mode = \"nat\"",
            "2001:db8:2::11",
            &[
                "becomes [2001:db8:9::5]:1234 > [2001:db8:2::11]:80",
                "hop limit 63",
            ],
        ),
        (
            V4,
            "mode = \"fullnat\"\nlocal_pool = \"inside\"",
            "10.0.0.11",
            &[
                "becomes 10.0.0.200:",
                "> 10.0.0.11:80",
                "10.0.0.11 is in the subnet 10.0.0.0/24 of lan",
            ],
        ),
        (
            V6,
            "mode = \"fullnat\"\nlocal_pool = \"inside6\"",
            "2001:db8:2::11",
            &["becomes [2001:db8:2::200]:", "> [2001:db8:2::11]:80"],
        ),
        (
            V6,
            "mode = \"fullnat\"\nlocal_pool = \"inside\"",
            "10.0.0.11",
            &[
                "becomes 10.0.0.200:",
                "| IPv4 10.0.0.200 > 10.0.0.11",
                "which ARP would tell",
            ],
        ),
        (
            V4,
            "mode = \"fullnat\"\nlocal_pool = \"inside6\"",
            "2001:db8:2::11",
            &[
                "becomes [2001:db8:2::200]:",
                "size: 60 bytes",
                "20 bytes more than it came with",
            ],
        ),
        (
            V4,
            "mode = \"tunnel\"",
            "10.0.0.11",
            &[
                STAYS,
                "IPv4 10.0.0.1 > 10.0.0.11",
                "| IPv4 203.0.113.5 > 192.0.2.80, TTL 63",
                "20 bytes more than it came with",
            ],
        ),
        (
            V6,
            "mode = \"tunnel\"",
            "2001:db8:2::11",
            &[
                STAYS,
                "IPv6 2001:db8:2::1 > 2001:db8:2::11",
                "40 bytes more",
            ],
        ),
        (
            V6,
            "mode = \"tunnel\"",
            "10.0.0.11",
            &[STAYS, "IPv4 10.0.0.1 > 10.0.0.11", "| IPv6 2001:db8:9::5"],
        ),
        (
            V4,
            "mode = \"tunnel\"\ntunnel = \"gre\"",
            "10.0.0.11",
            &["| GRE | IPv4 203.0.113.5", "24 bytes more"],
        ),
        (V4, gue, "10.0.0.11", &["| GUE | IPv4 203.0.113.5", "UDP"]),
        (
            V4,
            "mode = \"l3dsr\"\ndscp = 5",
            "10.0.0.11",
            &[
                "becomes 203.0.113.5:1234 > 10.0.0.11:80",
                "DSCP 5 tells the real server the VIP",
            ],
        ),
    ] {
        let config = format!("{PORTS}{}", service(vip, keys, real));
        let stories = ask(&config, &[&format!("tcp {path} SYN")]);
        let text = stories[0].text();
        let at = SocketAddr::new(real.parse().unwrap(), 80);
        let way = format!("* {at}, weight 3, 0 active and 0 inactive connections");
        assert!(text.contains(&way), "{keys}: {text}");
        for line in lines.iter().chain(&[
            "port: it comes in by wan: it leads to the source",
            "connection: none: the packet begins one",
            "service: web (tcp:",
            "way: out by lan",
            "verdict: forward by lan: new connection",
        ]) {
            assert!(
                text.contains(line),
                "{keys} {path}: {line} is missing in\n{text}"
            );
        }
        assert_eq!(stories[0].decision["verdict"], "forward", "{keys}");
        assert_eq!(stories[0].sent.len(), 1, "{keys}");
    }
}

#[test]
fn what_becomes_of_a_packet_is_told_with_its_reason() {
    let plain = service("192.0.2.80", "mode = \"nat\"", "10.0.0.11");
    let with = |keys: &str| {
        service(
            "192.0.2.80",
            &format!("mode = \"nat\"\n{keys}"),
            "10.0.0.11",
        )
    };
    let more = |port: &str, protocol: &str| {
        plain
            .replace("\"web\"", "\"more\"")
            .replace("port = 80", &format!("port = {port}"))
            .replace("\"tcp\"", &format!("{protocol:?}"))
    };
    let range = format!("{plain}{}", more("\"8000-8099\"", "tcp"));
    let every = format!("{plain}{}", more("0", "tcp"));
    let udp = more("53", "udp");
    let weightless = plain.replace("weight = 3", "weight = 0");
    let dr_mh = service("192.0.2.80", "mode = \"dr\"", "10.0.0.11").replace("wrr", "mh");
    let elsewhere = plain.replace("192.0.2.80", "192.0.2.81");
    let syn = "tcp 203.0.113.5:1234 > 192.0.2.80:80 SYN";
    for (services, packet, verdict, reason, lines) in [
        (
            &plain,
            "tcp 203.0.113.5:1234 > 192.0.2.80:81",
            "reply",
            "no_service",
            &[
                "service: none is tcp:192.0.2.80:81",
                "not web (tcp:192.0.2.80:80): its port is 80",
                "what to do: Add a [[service]]",
            ][..],
        ),
        (
            &plain,
            "udp 203.0.113.5:1234 > 192.0.2.80:80",
            "reply",
            "no_service",
            &["not web (tcp:192.0.2.80:80): it is of tcp"],
        ),
        (
            &range,
            "tcp 203.0.113.5:1234 > 192.0.2.80:7999",
            "reply",
            "no_service",
            &["not more (tcp:192.0.2.80:8000-8099): its range begins after 7999, with 8000"],
        ),
        (
            &range,
            "tcp 203.0.113.5:1234 > 192.0.2.80:8100",
            "reply",
            "no_service",
            &["its range ends before 8100, with 8099"],
        ),
        (
            &range,
            "tcp 203.0.113.5:1234 > 192.0.2.80:8050",
            "forward",
            "new connection",
            &["service: more (tcp:192.0.2.80:8000-8099), of a range with this port"],
        ),
        (
            &every,
            syn,
            "forward",
            "new connection",
            &["not more (tcp:192.0.2.80:0): of every port: the more exact one wins"],
        ),
        (
            &every,
            "tcp 203.0.113.5:1234 > 192.0.2.80:5",
            "forward",
            "new connection",
            &["service: more (tcp:192.0.2.80:0), of every port of the VIP"],
        ),
        (
            &plain,
            "tcp 203.0.113.5:1234 > 192.0.2.99:80",
            "drop",
            "not_for_us",
            &[
                "192.0.2.99 is no address of weir's",
                "the route 0.0.0.0/0 leads to 192.0.2.99, by 198.51.100.254 on wan",
                "what to do: Give the VIP a [[service]]",
            ],
        ),
        (
            &elsewhere,
            syn,
            "drop",
            "not_for_us",
            &["destination: 192.0.2.80 is no address"],
        ),
        (
            &plain,
            "tcp 203.0.113.5:1234 > 192.0.2.80:80 ACK",
            "reply",
            "no_connection",
            &["a segment that is no SYN begins none"],
        ),
        (
            &dr_mh,
            "tcp 203.0.113.5:1234 > 192.0.2.80:80 ACK",
            "forward",
            "new connection",
            &["scheduler: 10.0.0.11:80, by mh"],
        ),
        (
            &plain,
            "tcp 203.0.113.5:1234 > 192.0.2.80:80 SYN ttl=1",
            "reply",
            "ttl_exceeded",
            &["routing loop"],
        ),
        (
            &weightless,
            syn,
            "reply",
            "no_real_server",
            &[
                "wrr has none to choose from",
                "10.0.0.11:80, weight 0, 0 active and 0 inactive connections: not now, weight 0 in the file",
            ],
        ),
        (
            &with("deny = [\"203.0.113.0/24\"]"),
            syn,
            "drop",
            "denied",
            &[
                "clients: deny refuses the client 203.0.113.5",
                "out of the service's `deny`",
            ],
        ),
        (
            &with("allow = [\"198.51.100.0/24\"]"),
            syn,
            "drop",
            "not_allowed",
            &["clients: allow refuses the client"],
        ),
        (
            &with("limits = { new_per_second = 5 }"),
            syn,
            "forward",
            "new connection",
            &[
                "the client 203.0.113.5 may begin a connection",
                "limits.new_per_second = 5",
            ],
        ),
        (
            &with("persistence = { timeout = 300, prefix_v4 = 24 }"),
            syn,
            "forward",
            "new connection",
            &["persistence: 203.0.113.0/24 is bound to none yet: from now on for 300 s"],
        ),
        (
            &with("tcp_mss = 1400"),
            "tcp 203.0.113.5:1234 > 192.0.2.80:80 SYN mss=1460",
            "forward",
            "new connection",
            &["tcp_mss: MSS 1460 becomes 1400"],
        ),
        (
            &udp,
            "udp 203.0.113.5:1234 > 192.0.2.80:53 len=3000",
            "forward",
            "new connection",
            &["in 3 fragments: lan takes packets of 1500 bytes"],
        ),
        (
            &udp,
            "udp 203.0.113.5:1234 > 192.0.2.80:53 len=3000 df",
            "reply",
            "too_big",
            &["not to be fragmented"],
        ),
        (
            &plain,
            "icmp 203.0.113.5 > 192.0.2.80",
            "reply",
            "icmp_echo",
            &[
                "destination: 192.0.2.80 is a VIP",
                "ICMP echo request",
                "back to where the packet came from, by wan",
            ],
        ),
        (
            &plain,
            "udp 203.0.113.5:1234 > 198.51.100.1:179",
            "local",
            "to_port_address",
            &["198.51.100.1 is an address of port wan"],
        ),
        (
            &plain,
            "tcp 198.51.100.1:1 > 192.0.2.80:80",
            "drop",
            "bad_source",
            &["one of weir's own"],
        ),
        (
            &plain,
            "00 00 00 00 00 01 02 00 00 00 00 05 88 cc 01 02",
            "drop",
            "unknown_ethertype",
            &["EtherType 0x88cc", "weir forwards IP alone"],
        ),
        (
            &plain,
            "02 00 00 00 00 01 02 00 00 00 00 05 08 00 45 00",
            "drop",
            "truncated",
            &["no IP header that can be read"],
        ),
    ] {
        let stories = ask(&format!("{PORTS}{services}"), &[packet]);
        let (story, text) = (&stories[0], stories[0].text());
        assert_eq!(story.decision["verdict"], verdict, "{packet}: {text}");
        assert_eq!(story.decision["reason"], reason, "{packet}: {text}");
        for line in lines {
            assert!(
                text.contains(line),
                "{packet}: {line} is missing in\n{text}"
            );
        }
    }
}

#[test]
fn packets_come_one_after_the_other() {
    let config = format!(
        "{PORTS}{}",
        service(
            "192.0.2.80",
            "mode = \"fullnat\"\nlocal_pool = \"inside\"\npersistence = { timeout = 60 }",
            "10.0.0.11"
        )
    );
    let syn = "tcp 203.0.113.5:1234 > 192.0.2.80:80 SYN";
    let first = ask(&config, &[syn]);
    let translation = first[0].step("translation").unwrap().says.clone();
    let local = translation
        .split(" becomes ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    let answer = format!("tcp 10.0.0.11:80 > {local} SYN ACK seq=9 ack=2");
    let second = "tcp 203.0.113.5:1235 > 192.0.2.80:80 SYN";
    let stories = ask(&config, &[syn, &answer, second]);
    let text = stories[1].text();
    for line in [
        "port: it comes in by lan",
        "connection: a reply of a known connection of web, in state syn_recv before it",
        &format!("local pair {local}"),
        "real server 10.0.0.11:80",
        &format!("translation: 10.0.0.11:80 > {local} becomes 192.0.2.80:80 > 203.0.113.5:1234"),
        "the route 0.0.0.0/0 leads to 203.0.113.5, by 198.51.100.254 on wan",
        "verdict: forward by wan: known connection",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    let text = stories[2].text();
    assert!(
        text.contains("203.0.113.5/32 is bound to 10.0.0.11:80"),
        "{text}"
    );
    assert!(
        text.contains("scheduler: 10.0.0.11:80, which the client is bound to"),
        "{text}"
    );
    assert!(
        text.contains("1 active and 0 inactive") || text.contains("0 active and 1 inactive"),
        "{text}"
    );
}

/// What the daemon knows beside its configuration changes the choice, and is said.
#[test]
fn a_running_daemons_state_counts() {
    let text = format!(
        "{PORTS}{}[[service.real]]\naddress = \"10.0.0.12\"\n",
        service("192.0.2.80", "mode = \"nat\"", "10.0.0.11").replace("wrr", "wlc")
    );
    let config = parse(&text);
    let state = |real: &str, active, admin, health| RunningReal {
        service: "tcp:192.0.2.80:80".parse().unwrap(),
        real: real.parse().unwrap(),
        admin,
        weight: None,
        health,
        health_reason: "refused".to_owned(),
        overloaded: false,
        active,
        inactive: 0,
    };
    let packets = asked(&["tcp 203.0.113.5:1234 > 192.0.2.80:80"]);
    for (first, second, chosen, lines) in [
        (
            (1, Admin::Enabled),
            (9, Admin::Enabled),
            "10.0.0.11:80",
            &["weight 3, 1 active"][..],
        ),
        (
            (30, Admin::Enabled),
            (1, Admin::Enabled),
            "10.0.0.12:80",
            &["30 active and 0 inactive"],
        ),
        (
            (0, Admin::Drained),
            (9, Admin::Enabled),
            "10.0.0.12:80",
            &["weight 3, effective 0", "not now, drained"],
        ),
    ] {
        let running = Running {
            reals: vec![
                state("10.0.0.11:80", first.0, first.1, Health::Unknown),
                state("10.0.0.12:80", second.0, second.1, Health::Unknown),
                // Gone since.
                state("10.0.0.13:80", 0, Admin::Drained, Health::Unknown),
            ],
            neighbours: vec![StaticNeighbour {
                address: "10.0.0.12".parse().unwrap(),
                port: None,
                mac: Mac([2, 0, 0, 0, 1, 0x12]),
            }],
            ..Running::default()
        };
        let stories = explain(&config, &running, None, &packets).unwrap();
        let text = stories[0].text();
        assert_eq!(stories[0].decision["real"], chosen, "{text}");
        for line in lines {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        if chosen == "10.0.0.12:80" {
            assert!(
                text.contains("its MAC address is 02:00:00:00:01:12"),
                "{text}"
            );
        }
    }
    let running = Running {
        reals: vec![state("10.0.0.11:80", 0, Admin::Enabled, Health::Down)],
        ..Running::default()
    };
    let stories = explain(&config, &running, None, &packets).unwrap();
    assert_eq!(stories[0].decision["real"], "10.0.0.12:80");
    assert!(stories[0].text().contains("not now, down"));
}

/// What the daemon would refuse for the connections that it has is refused here.
#[test]
fn limits_and_thresholds_go_by_the_running_daemons_connections() {
    let keys = "mode = \"nat\"\nlimits = { connections = 3 }";
    let text = format!(
        "{PORTS}{}max_connections = 3\nmin_connections = 2\n",
        service("192.0.2.80", keys, "10.0.0.11")
    );
    let config = parse(&text);
    for (active, overloaded, verdict) in [
        (2, false, "forward"),
        (2, true, "forward"),
        (1, true, "forward"),
        (3, false, "drop"),
        (3, true, "drop"),
    ] {
        let real = RunningReal {
            service: "tcp:192.0.2.80:80".parse().unwrap(),
            real: "10.0.0.11:80".parse().unwrap(),
            admin: Admin::Enabled,
            weight: None,
            health: Health::Unknown,
            health_reason: String::new(),
            overloaded,
            active,
            inactive: 0,
        };
        let running = Running {
            reals: vec![real],
            ..Running::default()
        };
        let packets = asked(&["tcp 203.0.113.5:1234 > 192.0.2.80:80"]);
        let stories = explain(&config, &running, None, &packets).unwrap();
        let text = stories[0].text();
        let expected = match overloaded && active == 2 {
            true => "reply",
            false => verdict,
        };
        assert_eq!(
            stories[0].decision["verdict"], expected,
            "{active} {overloaded}\n{text}"
        );
    }
}

#[test]
fn a_packet_in_words_has_its_ports_tags() {
    let tagged = PORTS.replace("\"net_null0\"", "\"net_null0\"\nvlan = 100");
    let config = format!(
        "{tagged}{}",
        service("192.0.2.80", "mode = \"nat\"", "10.0.0.11")
    );
    let stories = ask(&config, &["tcp 203.0.113.5:1234 > 192.0.2.80:80"]);
    let text = stories[0].text();
    assert!(
        text.contains("VLAN 100 | IPv4") && text.contains("verdict: forward by lan"),
        "{text}"
    );
}

/// An association from its first packet to its end, as it is told of in words; and that hex tells the same.
#[test]
fn an_association_is_told_of() {
    let config = format!(
        "{PORTS}{}",
        service("192.0.2.80", "mode = \"nat\"", "10.0.0.11")
            .replace("\"tcp\"", "\"sctp\"")
            .replace("port = 80", "port = 36412")
    );
    let (client, server) = (
        "203.0.113.5:1000 > 192.0.2.80:36412",
        "10.0.0.11:36412 > 203.0.113.5:1000",
    );
    let steps = [
        (client, "DATA", "no_connection"),
        (client, "INIT tag=3", "bad_l4_header"),
        (client, "INIT len=100", "init1"),
        (server, "INIT-ACK len=40", "cookie_sent"),
        (client, "COOKIE-ECHO len=40", "cookie_replied"),
        (server, "COOKIE-ACK", "established"),
        (client, "DATA len=5", "established"),
        (server, "SACK", "established"),
        (client, "ABORT tag=2", "established"),
        (client, "SHUTDOWN", "shutdown_received"),
    ];
    let texts: Vec<_> = steps
        .iter()
        .map(|(ends, words, _)| format!("sctp {ends} {words}"))
        .collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let stories = ask(&config, &texts);
    for ((text, story), (.., expected)) in texts.iter().zip(&stories).zip(steps) {
        let verdict = &story.step("verdict").unwrap().says;
        assert!(verdict.contains(expected), "{text}: {}", story.text());
        assert_eq!(story.packet.parse::<Asked>(), text.parse(), "{text}");
    }
    let first = stories[2].text();
    assert!(first.contains("SCTP 1000 > 36412 INIT"), "{first}");
    let config = parse(&config);
    let engine = Replay::new(&config, 1, 1, START).unwrap();
    let mac = engine.model().tables().port(PortId(0)).mac;
    let bytes = frame(&texts[2].parse().unwrap(), mac);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let [of_hex, of_words] = [hex.as_str(), texts[2]].map(|text| {
        let told = explain(&config, &Running::default(), None, &asked(&[text])).unwrap();
        told[0].text()
    });
    assert_eq!(of_hex, of_words);
}

/// Services of several modes, so that packets of all kinds come about.
fn several() -> String {
    let of = |name: &str, port: &str, keys: &str| {
        service("192.0.2.80", keys, "10.0.0.11")
            .replace("\"web\"", &format!("{name:?}"))
            .replace("port = 80", &format!("port = {port}"))
    };
    format!(
        "{PORTS}{}{}{}{}{}{}",
        of("f", "36412", "mode = \"fullnat\"\nlocal_pool = \"inside\"")
            .replace("\"tcp\"", "\"sctp\""),
        of("a", "80", "mode = \"nat\"\ndeny = [\"203.0.113.6\"]"),
        of("b", "81", "mode = \"dr\""),
        of(
            "c",
            "\"82-83\"",
            "mode = \"tunnel\"\nlimits = { connections = 2 }"
        ),
        of("d", "53", "mode = \"fullnat\"\nlocal_pool = \"inside\"").replace("\"tcp\"", "\"udp\""),
        service(
            "2001:db8::80",
            "mode = \"fullnat\"\nlocal_pool = \"inside\"",
            "10.0.0.12"
        )
        .replace("\"web\"", "\"e\""),
    )
}

fn words() -> impl Strategy<Value = String> {
    let v4 = (
        r"20[34]\.0\.113\.[5-6]",
        r"192\.0\.2\.8[01]|10\.0\.0\.11|198\.51\.100\.1|10\.0\.0\.200",
    );
    let v6 = ("2001:db8:9::[5-6]", "2001:db8::8[01]|2001:db8:2::11");
    let protocol = prop::sample::select(vec!["tcp", "udp", "sctp", "icmp"]);
    let options = "( ttl=[0-2])?( len=(0|100|1460|2000))?";
    let flags = prop::sample::select(vec!["", " SYN", " ACK", " RST", " FIN+ACK", " SYN+ACK"]);
    let ends = prop_oneof![
        (v4.0, v4.1).prop_map(|(a, b)| (a, b, false)),
        (v6.0, v6.1).prop_map(|(a, b)| (a, b, true)),
    ];
    let ports = (
        1000u16..1003,
        prop::sample::select(vec![53u16, 80, 81, 82, 84, 36412]),
    );
    let chunks = prop::sample::select(vec!["", " INIT", " COOKIE-ECHO", " DATA", " ABORT tag=2"]);
    (protocol, ends, ports, (flags, chunks), options).prop_map(
        |(protocol, (from, to, is_v6), ports, (flags, chunk), options)| {
            let end = |address: &str, port: u16| match (protocol, is_v6) {
                ("icmp", _) => address.to_owned(),
                (_, true) => format!("[{address}]:{port}"),
                (_, false) => format!("{address}:{port}"),
            };
            let word = match protocol {
                "tcp" => flags,
                "sctp" => chunk,
                _ => "",
            };
            format!(
                "{protocol} {} > {}{word}{options}",
                end(&from, ports.0),
                end(&to, ports.1)
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Where a replay waits for a neighbour's answer, it goes on; everything else is the same.
    #[test]
    fn it_is_what_a_replay_does(texts in prop::collection::vec(words(), 1..6)) {
        let config = parse(&several());
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let packets = asked(&texts);
        let stories = explain(&config, &Running::default(), Some(PortId(0)), &packets).unwrap();
        let mut engine = Replay::new(&config, 1, packets.len(), START).unwrap();
        let mut now = START;
        for (n, (packet, story)) in (0..).zip(packets.iter().zip(&stories)) {
            let Asked::Words(words) = packet else { panic!("words") };
            let bytes = frame(words, engine.model().tables().port(PortId(0)).mac);
            let decision = engine.receive(PortId(0), &bytes, now);
            let mut line = Vec::new();
            replay::explain(&mut line, &engine, n, PortId(0), &bytes, &decision).unwrap();
            let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
            let (mut line, mut told) = (line, story.decision.clone());
            if line["verdict"] == "queue" {
                prop_assert_eq!(&told["verdict"], "forward", "{}", texts.join("\n"));
            }
            // How many frames went out before differs once one of them has waited.
            let differs: &[&str] = match line["verdict"] == "queue" {
                true => &["verdict", "reason", "out_n"],
                false => &["out_n"],
            };
            for decision in [&mut line, &mut told] {
                let keys = decision.as_object_mut().unwrap();
                keys.retain(|key, _| !differs.contains(&key.as_str()));
            }
            prop_assert_eq!(&line, &told, "{}", texts.join("\n"));
            prop_assert!(story.steps.last().unwrap().step == "verdict");
            now = now + APART;
        }
    }
}

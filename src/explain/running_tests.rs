//! Connections of a running daemon: a packet of one is told of as by the process that has it.

use super::connection::Held;
use super::tests::{PORTS, asked, parse, service};
use super::*;
use crate::config::Protocol;

/// Next hops, as the daemon knows them.
fn neighbours() -> Vec<StaticNeighbour> {
    let at = |address: &str, last| StaticNeighbour {
        address: address.parse().unwrap(),
        port: None,
        mac: Mac([2, 0, 0, 0, 1, last]),
    };
    vec![
        at("198.51.100.254", 1),
        at("2001:db8:1::fe", 2),
        at("10.0.0.11", 3),
        at("2001:db8:2::11", 4),
    ]
}

fn teller<'a>(
    config: &Config,
    running: &'a Running,
    made_up: &'a HashMap<Mac, IpAddr>,
) -> Teller<'a> {
    Teller::new(config, running, 8, made_up).unwrap()
}

/// The connection of a packet, as the API of the engine's daemon would tell it.
fn told(teller: &Teller<'_>, packet: &Asked) -> Option<Assumed> {
    let (number, from, to) = flow(packet).unwrap();
    let held = Held::find(&teller.engine, number, (from, to), teller.now)?;
    let (_, address, _) = *teller.engine.model().real(held.id).unwrap();
    let mut protocols = Protocol::ALL.into_iter();
    Some(Assumed {
        is_outward: false,
        protocol: protocols.find(|it| it.number() == number).unwrap(),
        client: held.client,
        vip: held.vip,
        real: SocketAddr::new(address, held.real.port()),
        local: (held.local != held.client).then_some(held.local),
        state: *State::ALL
            .iter()
            .find(|it| it.name() == held.state)
            .unwrap(),
        left: Duration::from_secs(held.left_s),
    })
}

/// Each mode, family and state: the packet's story is the same whether the connection was made by packets before it, or is the
/// daemon's.
#[test]
fn a_packet_of_a_live_connection_is_told_as_of_that() {
    let v4 = ("192.0.2.80", "203.0.113.5:1234", "192.0.2.80:80");
    let v6 = ("2001:db8::80", "[2001:db8:9::5]:1234", "[2001:db8::80]:80");
    let (real4, real6) = ("10.0.0.11", "2001:db8:2::11");
    let gue = "mode = \"tunnel\"\ntunnel = \"gue\"\ntunnel_source";
    let cases = [
        (v4, "mode = \"dr\"".to_owned(), real4),
        (v6, "mode = \"dr\"".into(), real6),
        (v4, "mode = \"nat\"".into(), real4),
        (v6, "mode = \"nat\"".into(), real6),
        (
            v4,
            "mode = \"fullnat\"\nlocal_pool = \"inside\"".into(),
            real4,
        ),
        (
            v6,
            "mode = \"fullnat\"\nlocal_pool = \"inside6\"".into(),
            real6,
        ),
        (
            v6,
            "mode = \"fullnat\"\nlocal_pool = \"inside\"".into(),
            real4,
        ),
        (
            v4,
            "mode = \"fullnat\"\nlocal_pool = \"inside6\"".into(),
            real6,
        ),
        (v4, format!("{gue} = \"10.0.0.1\""), real4),
        (v6, format!("{gue} = \"10.0.0.1\""), real4),
        (v4, format!("{gue} = \"2001:db8:2::1\""), real6),
    ];
    let made_up = HashMap::new();
    for ((vip, client, to), keys, real) in cases {
        let mut config = parse(&format!("{PORTS}{}", service(vip, &keys, real)));
        add_neighbours(&mut config, neighbours());
        let nothing = Running::default();
        let request = |flags: &str| format!("tcp {client} > {to} {flags}");
        // What the real server sees tells where it answers to.
        let first = teller(&config, &nothing, &made_up).tell(None, &asked(&[&request("SYN")])[0]);
        let sees_replies = keys.contains("nat");
        let seen = Seen::of(&first.sent.last().unwrap().1, None);
        let (local, server) = seen
            .ends()
            .unwrap_or((([0, 0, 0, 0], 0).into(), ([0, 0, 0, 0], 0).into()));
        let reply = |flags: &str| format!("tcp {server} > {local} {flags}");
        let mut stories = vec![
            vec![request("SYN"), request("SYN")],
            vec![request("SYN"), request("ACK"), request("PSH ACK len=9")],
            vec![
                request("SYN"),
                request("ACK"),
                request("FIN ACK"),
                request("ACK"),
            ],
        ];
        if sees_replies {
            stories.push(vec![request("SYN"), reply("SYN+ACK")]);
            stories.push(vec![
                request("SYN"),
                reply("SYN+ACK"),
                request("ACK"),
                reply("PSH ACK len=100"),
            ]);
        }
        for packets in stories {
            let texts: Vec<_> = packets.iter().map(String::as_str).collect();
            let packets = asked(&texts);
            let (last, before) = packets.split_last().unwrap();
            let mut own = teller(&config, &nothing, &made_up);
            for packet in before {
                own.tell(None, packet);
            }
            let connection = told(&own, last).unwrap_or_else(|| panic!("{keys}: {texts:?}"));
            let expected = own.tell(None, last);
            let running = Running {
                connections: vec![connection.clone()],
                ..Running::default()
            };
            let mut other = teller(&config, &running, &made_up);
            assert_eq!(
                told(&other, last).map(|it| format!("{it:?}")),
                Some(format!("{connection:?}"))
            );
            let story = other.tell(None, last);
            assert_eq!(story.steps, expected.steps, "{keys}: {texts:?}");
            // Identifications of packets, which no step has, count on.
            let sent = |story: &Story| {
                story
                    .sent
                    .iter()
                    .map(|it| (it.0, it.1.len()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(sent(&story), sent(&expected), "{keys}: {texts:?}");
            let says = &story.step("connection").unwrap().says;
            assert!(
                says.contains("of a known connection of web, in state "),
                "{says}"
            );
        }
    }
}

fn assumed(client: &str, vip: &str, real: &str, state: State) -> Assumed {
    let [client, vip, real] = [client, vip, real].map(|end| end.parse().unwrap());
    Assumed {
        is_outward: false,
        protocol: Protocol::Tcp,
        client,
        vip,
        real,
        local: None,
        state,
        left: Duration::from_secs(77),
    }
}

#[test]
fn what_the_daemon_knows_of_a_client_is_told() {
    let keys = "mode = \"nat\"\npersistence = { timeout = \"5m\", prefix_v4 = 24 }";
    let second = "[[service.real]]\naddress = \"10.0.0.12\"\nweight = 1\n";
    let config = parse(&format!(
        "{PORTS}{}{second}",
        service("192.0.2.80", keys, "10.0.0.11")
    ));
    let packets = asked(&["tcp 203.0.113.5:1234 > 192.0.2.80:80 SYN"]);
    let tell = |connections| {
        let running = Running {
            connections,
            ..Running::default()
        };
        let stories = explain(&config, &running, None, &packets).unwrap();
        (stories[0].text(), stories[0].decision["real"].clone())
    };
    // Its /24 is bound to the one whose turn it is not.
    let (_, usual) = tell(vec![]);
    let reals = ["10.0.0.11:80", "10.0.0.12:80"];
    let other = reals.into_iter().find(|real| usual != *real).unwrap();
    let bond = assumed("203.0.113.0:0", "192.0.2.80:80", other, State::Template);
    let (text, real) = tell(vec![bond]);
    assert_eq!(real, other, "{text}");
    assert!(text.contains("persistence: "), "{text}");

    let ends = ("203.0.113.5:1234", "192.0.2.80:80");
    let (text, _) = tell(vec![assumed(
        ends.0,
        ends.1,
        "10.0.0.12:80",
        State::Established,
    )]);
    for line in [
        "real server 10.0.0.12:80",
        "without another packet it ends in 1m 17s",
    ] {
        assert!(text.contains(line), "{text}");
    }
    // A connection whose real server was taken out of the configuration.
    let (text, real) = tell(vec![assumed(
        ends.0,
        ends.1,
        "10.0.0.99:80",
        State::Established,
    )]);
    assert_eq!(real, usual, "{text}");
    assert!(
        text.contains(
            "the daemon has one, of the real server 10.0.0.99:80, which is not configured any more"
        ),
        "{text}"
    );
    // None of what it may say is believed blindly.
    for (client, vip, real) in [
        ("[2001:db8::1]:5", ends.1, "10.0.0.11:80"),
        (ends.0, "[2001:db8::1]:5", "10.0.0.11:80"),
        (ends.0, ends.1, "[2001:db8::1]:5"),
        (ends.0, "192.0.2.81:80", "10.0.0.11:80"),
    ] {
        for state in State::ALL {
            tell(vec![assumed(client, vip, real, state)]);
        }
    }
}

/// Those of `[[snat]]` have no service: of a host behind weir, and the answers.
#[test]
fn outward_connections_of_the_daemon_are_told() {
    let text = format!(
        "{PORTS}[[snat]]\nfrom = \"10.0.0.0/24\"\npool = \"outside\"\n[[local_pool]]\nname = \"outside\"\naddresses = [\"198.51.100.9\"]\n"
    );
    let config = parse(&text);
    let running = Running {
        connections: vec![Assumed {
            is_outward: true,
            local: Some("198.51.100.9:4444".parse().unwrap()),
            ..assumed(
                "10.0.0.50:5000",
                "203.0.113.5:443",
                "203.0.113.5:443",
                State::Established,
            )
        }],
        ..Running::default()
    };
    for (packet, becomes) in [
        (
            "tcp 10.0.0.50:5000 > 203.0.113.5:443 ACK",
            "becomes 198.51.100.9:4444 > 203.0.113.5:443",
        ),
        (
            "tcp 203.0.113.5:443 > 198.51.100.9:4444 ACK",
            "becomes 203.0.113.5:443 > 10.0.0.50:5000",
        ),
    ] {
        let stories = explain(&config, &running, None, &asked(&[packet])).unwrap();
        let text = stories[0].text();
        assert!(text.contains(becomes), "{text}");
        assert!(text.contains("1m 17s"), "{text}");
    }
}

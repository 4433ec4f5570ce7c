//! What a file that is accepted means, and that every key is documented.

use super::{CONTEXT, EXAMPLE, MINIMAL, NETWORK, good};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;
use weir::config::{
    self, Context, Encapsulation, GueVariant, Hugepages, Idle, Listen, ModeConfig,
    PersistenceConfig, Queues, TimeoutsConfig, TunnelConfig, WhenUnavailable,
};
use weir::net::Mac;

/// The file that interface.md prints.
#[test]
fn the_documented_file_is_accepted() {
    let printed = r#"
[dpdk]
workers     = [1]
main_lcore  = 0
hugepages   = "auto"
idle        = "poll"
eal_args    = []
[[port]]
name        = "wan"
device      = "net_tap0,iface=weir0"
addresses   = ["198.51.100.1/24", "2001:db8:1::1/64"]
mac         = "02:00:00:00:00:01"
mtu         = 1500
queues      = "auto"
vlan        = 0
[[route]]
to  = "0.0.0.0/0"
via = "198.51.100.254"
[[neighbour]]
address = "10.0.0.11"
mac     = "02:00:00:00:01:11"
[[local_pool]]
name      = "inside"
addresses = ["10.0.0.200", "10.0.0.204-10.0.0.207"]
ports     = "1024-65535"
[timeouts]
tcp_established = 900
tcp_fin_wait    = 120
udp             = 300
[[service]]
name       = "web"
address    = "192.0.2.80"
port       = 80
protocol   = "tcp"
mode       = "fullnat"
tunnel     = "ipip"
local_pool = "inside"
scheduler  = "wrr"
persistence = { timeout = 300, prefix_v4 = 32, prefix_v6 = 128 }
  [[service.real]]
  address = "10.0.0.11"
  port    = 8080
  weight  = 3
"#;
    let loaded = super::parse(printed).unwrap();
    let addresses = &loaded.config.ports[0].addresses;
    assert_eq!(addresses[1].to_string(), "2001:db8:1::1/64");
}

#[test]
fn the_example_says_what_its_comments_say() {
    let config = good(EXAMPLE);
    assert_eq!(config.timeouts, TimeoutsConfig::default());
    assert_eq!(
        (config.dpdk.hugepages, config.dpdk.idle),
        (Hugepages::Auto, Idle::Poll)
    );
    assert_eq!(config.ports[0].mac, Some(Mac([2, 0, 0, 0, 0, 1])));
    assert_eq!(config.ports[1].addresses, ["10.0.0.1/24".parse().unwrap()]);
    assert_eq!(config.routes[0].to.prefix_len(), 0);
    let pool: Vec<Ipv4Addr> = [200, 204, 205, 206, 207]
        .map(|last| Ipv4Addr::new(10, 0, 0, last))
        .to_vec();
    assert_eq!(config.pools[0].addresses, pool);
    assert_eq!(config.pools[0].ports, (1024, 65_535));
    let [web, dns, all, mail, submission] = &config.services[..] else {
        panic!("{:?}", config.services)
    };
    assert_eq!(
        web.mode,
        ModeConfig::Fullnat {
            pool: "inside".to_owned()
        }
    );
    let persistence = PersistenceConfig {
        timeout: Duration::from_secs(300),
        prefix_v4: 32,
        prefix_v6: 128,
        through_drain: false,
    };
    assert_eq!(web.persistence, Some(persistence));
    assert_eq!(
        web.reals
            .iter()
            .map(|real| (real.port, real.weight))
            .collect::<Vec<_>>(),
        [(8080, 3), (8080, 1)]
    );
    assert_eq!((dns.scheduler.name(), dns.reals[0].port), ("sh", 53));
    assert_eq!(
        (all.scheduler.name(), all.port, all.reals[0].port),
        ("wlc", 0, 0)
    );
    let tunnel = TunnelConfig {
        encapsulation: Encapsulation::Gue {
            port: 6080,
            variant: GueVariant::Plain,
            zero_checksum: false,
        },
        source: Some([10, 0, 0, 1].into()),
    };
    assert_eq!(mail.mode, ModeConfig::Tunnel(tunnel));
    assert_eq!(submission.mode, ModeConfig::L3dsr { dscp: 5 });
}

#[test]
fn tunnels_have_defaults_and_real_servers_of_either_family() {
    let mode = |keys: &str| {
        let text = format!(
            "{NETWORK}\n[[service]]\naddress = \"192.0.2.1\"\nport = 1\nprotocol = \"tcp\"\n\
             mode = \"tunnel\"\n{keys}\n[[service.real]]\naddress = \"10.0.0.9\"\n"
        );
        good(&text).services[0].mode.clone()
    };
    let gue = |port, variant, zero_checksum| Encapsulation::Gue {
        port,
        variant,
        zero_checksum,
    };
    for (keys, encapsulation) in [
        ("", Encapsulation::Ipip),
        ("tunnel = \"gre\"", Encapsulation::Gre),
        ("tunnel = \"gue\"", gue(6080, GueVariant::Plain, false)),
        (
            "tunnel = \"gue\"\ngue_port = 1\ngue_variant = 0\ngue_zero_checksum = true",
            gue(1, GueVariant::Header, true),
        ),
    ] {
        let source = None;
        assert_eq!(
            mode(keys),
            ModeConfig::Tunnel(TunnelConfig {
                encapsulation,
                source
            })
        );
    }
}

#[test]
fn every_default_is_filled_in() {
    let config = good(MINIMAL);
    assert_eq!(
        (config.dpdk.workers, config.dpdk.main_lcore),
        (vec![1, 2, 3], 0)
    );
    assert_eq!(
        config.api.listen,
        Listen::Tcp(([127, 0, 0, 1], 9900).into())
    );
    assert_eq!(
        (config.limits.connections, config.limits.answers_per_second),
        (1_048_576, 1000)
    );
    assert_eq!(config.limits.host_packets_per_second, 10_000);
    assert_eq!(config.limits.host_peer_packets_per_second, 10_000);
    assert_eq!(config.host_peers, []);
    assert_eq!(
        (
            config.ports[0].mtu,
            config.ports[0].queues,
            config.ports[0].mac
        ),
        (1500, Queues::Auto, None)
    );
    let service = &config.services[0];
    assert_eq!(
        (service.name.as_str(), service.scheduler.name()),
        ("tcp:10.0.0.80:80", "wlc")
    );
    assert_eq!(
        (service.persistence, service.when_unavailable),
        (None, WhenUnavailable::Refuse)
    );
    assert_eq!((service.reals[0].port, service.reals[0].weight), (80, 1));
}

#[test]
fn workers_default_to_all_cpus_but_the_first() {
    /// The machine's CPUs, the text, and the workers and the control thread's CPU that come of them.
    type Case<'a> = (Option<&'a [usize]>, &'a str, &'a [usize], usize);
    let cases: &[Case] = &[
        (Some(&[4]), "", &[4], 4),
        (Some(&[2, 5, 7]), "", &[5, 7], 2),
        (Some(&[0, 1, 2]), "[dpdk]\nworkers = [0]", &[0], 1),
        (Some(&[0, 1]), "[dpdk]\nworkers = [0, 1]", &[0, 1], 0),
        (None, "", &[0], 0),
    ];
    for &(cpus, text, workers, main) in cases {
        let context = Context { cpus, ..CONTEXT };
        let loaded = config::parse(&format!("{text}\n{NETWORK}"), "lb.toml", &context).unwrap();
        assert_eq!(
            (
                &loaded.config.dpdk.workers[..],
                loaded.config.dpdk.main_lcore
            ),
            (workers, main),
            "{cpus:?}"
        );
    }
}

#[test]
fn time_spans_are_seconds_or_words() {
    let text = "[timeouts]\nudp = 7\ntcp_established = \"1h 30m\"\ntcp_listen = \"20days\"";
    let timeouts = good(&format!("{text}\n{NETWORK}")).timeouts;
    let seconds =
        [timeouts.udp, timeouts.tcp_established, timeouts.tcp_listen].map(|span| span.as_secs());
    assert_eq!(seconds, [7, 5400, 20 * 86_400]);
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let docs = include_str!("../../docs/configuration.md");
    for (table, keys) in config::keys() {
        let section = docs
            .split("\n## ")
            .find(|section| {
                section
                    .lines()
                    .next()
                    .is_some_and(|title| title.contains(table))
            })
            .unwrap_or_else(|| panic!("{table} has no section"));
        let cell = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
        let documented: BTreeSet<String> = section.lines().filter_map(cell).collect();
        let known: BTreeSet<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        assert_eq!(documented, known, "{table}");
    }
}

/// Each service has the real servers of its pool, with its own port where they have none or the mode keeps it.
#[test]
fn services_have_the_real_servers_of_their_pool() {
    let pool = "[[pool]]\nname = \"farm\"\n[[pool.real]]\naddress = \"10.0.0.9\"\nport = 8080\n\
                [[pool.real]]\naddress = \"10.0.0.8\"\nweight = 3\n";
    let local = "[[local_pool]]\nname = \"inside\"\naddresses = [\"10.0.0.200\"]\n";
    let service = |vip: u8, port: u16, mode: &str| {
        format!(
            "[[service]]\naddress = \"192.0.2.{vip}\"\nport = {port}\nprotocol = \"tcp\"\nmode = {mode}\npool = \"farm\"\n"
        )
    };
    let services = [
        service(1, 80, "\"nat\""),
        service(2, 81, "\"fullnat\"\nlocal_pool = \"inside\""),
        service(3, 82, "\"dr\""),
        service(4, 0, "\"nat\""),
    ];
    let config = good(&format!("{NETWORK}{local}{pool}{}", services.concat()));
    let reals = config.services.iter().map(|service| {
        assert_eq!(service.pool.as_deref(), Some("farm"));
        let reals = service.reals.iter();
        let reals = reals.map(|real| (real.address.to_string(), real.port, real.weight));
        reals.collect::<Vec<_>>()
    });
    let expected = [(8080, 80), (8080, 81), (82, 82), (8080, 0)].map(|(first, second)| {
        vec![
            ("10.0.0.9".to_owned(), first, 1),
            ("10.0.0.8".to_owned(), second, 3),
        ]
    });
    assert_eq!(reals.collect::<Vec<_>>(), expected);
}

/// One `[[service]]` of both protocols is two services of one name, each with the keys of its protocol.
#[test]
fn a_service_of_both_protocols_is_two() {
    let text = |name: &str| {
        format!(
            "{NETWORK}[[service]]\n{name}address = \"192.0.2.1\"\nport = 53\nprotocol = \"tcp+udp\"\nmode = \"nat\"\n\
             tcp_mss = 1400\n[[service.real]]\naddress = \"10.0.0.9\"\n"
        )
    };
    let services = |name: &str| {
        let services = good(&text(name)).services.into_iter();
        let shown = services.map(|it| {
            assert_eq!((it.port, it.reals.len()), (53, 1));
            (
                it.name.clone(),
                it.protocol.name(),
                it.tcp_mss.is_some(),
                it.on_drain.is_some(),
            )
        });
        shown.collect::<Vec<_>>()
    };
    let both = |tcp: &str, udp: &str| {
        [
            (tcp.to_owned(), "tcp", true, false),
            (udp.to_owned(), "udp", false, true),
        ]
    };
    assert_eq!(services("name = \"dns\"\n"), both("dns", "dns"));
    assert_eq!(services(""), both("tcp:192.0.2.1:53", "udp:192.0.2.1:53"));
}

/// Real servers of a range have the packet's own port, or one for all.
#[test]
fn a_range_of_ports_is_one_service() {
    let text = format!(
        "{NETWORK}[[service]]\naddress = \"192.0.2.1\"\nport = \"8000-8099\"\nprotocol = \"tcp\"\nmode = \"nat\"\n\
         [[service.real]]\naddress = \"10.0.0.9\"\n[[service.real]]\naddress = \"10.0.0.9\"\nport = 80\n"
    );
    let [service] = &good(&text).services[..] else {
        panic!()
    };
    assert_eq!(service.name, "tcp:192.0.2.1:8000-8099");
    assert_eq!((service.port, service.last_port), (8000, 8099));
    let ports: Vec<_> = service.reals.iter().map(|real| real.port).collect();
    assert_eq!(ports, [0, 80]);
}

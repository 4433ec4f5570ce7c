//! A plan names every change, what it does to live connections, and what operators have said that it meets.

use super::{Changes, Edit, Model, from_config::Device};
use crate::config::{self, Config};
use crate::net::Mac;
use crate::stats::Stats;
use crate::units::{Time, WorkerId};
use std::sync::Arc;

const PORTS: &str = r#"
[[port]]
name = "wan"
device = "net_null0"
announce = ["192.0.2.0/24"]
companion = "weir-wan"
addresses = ["198.51.100.1/24"]
[[port]]
name = "lan"
device = "net_null1"
addresses = ["10.0.0.1/24"]
"#;

const SERVICES: &str = r#"
[[service]]
name = "web"
address = "192.0.2.80"
port = 80
protocol = "tcp"
mode = "nat"
[[service.real]]
address = "10.0.0.11"
weight = 3
[[service.real]]
address = "10.0.0.12"
[[service]]
address = "192.0.2.80"
port = 53
protocol = "udp"
mode = "dr"
[[service.real]]
address = "10.0.0.11"
[[service.real]]
address = "10.0.0.12"
"#;

fn parse(text: &str) -> Config {
    let context = config::Context {
        cpus: None,
        devices: false,
    };
    let loaded = config::parse(text, "test", &context);
    loaded.unwrap_or_else(|why| panic!("{why}")).config
}

/// A model whose second real server has live connections: two in each service.
fn model(text: &str) -> Model {
    let device = |n| Device {
        mac: Mac([2, 0, 0, 0, 0, n]),
        any_mac: false,
    };
    let stats = Arc::new(Stats::new(1).unwrap());
    let (model, _) = Model::new(
        &parse(text),
        vec![device(1), device(2)],
        stats.clone(),
        1,
        Time::default(),
    );
    let second = "10.0.0.12".parse::<std::net::IpAddr>().unwrap();
    for service in model.services() {
        for real in service.reals.iter().filter(|real| real.address == second) {
            let loads = &stats.worker(WorkerId(0)).loads;
            let load = loads.get(real.id.index()).unwrap();
            load.active.inc();
            load.inactive.inc();
        }
    }
    model
}

#[test]
fn every_change_has_a_line_with_names_values_and_connections() {
    let base = format!("{PORTS}{SERVICES}");
    let cases: &[(&str, &str, &[&str])] = &[
        ("", "", &[]),
        (
            "weight = 3",
            "weight = 5",
            &["~ service web: real server 10.0.0.11:80: weight 3 -> 5"],
        ),
        (
            "mode = \"nat\"",
            "mode = \"dr\"\nscheduler = \"rr\"\ntcp_mss = 1400\nslow_start = 30\non_down = \"keep\"\npassive = { hold = 60 }\nhealth = { type = \"tcp\" }\nwhen_unavailable = \"drop\"\nunknown_tcp = \"drop\"\npersistence = { timeout = 300 }\nallow = [\"10.0.0.0/8\"]\nlimits = { connections = 5, per_client_connections = 2 }",
            &[
                "~ service web (tcp:192.0.2.80:80): mode nat -> dr",
                "~ service web (tcp:192.0.2.80:80): scheduler wlc -> rr",
                "~ service web (tcp:192.0.2.80:80): persistence none -> 5m by /32 and /128",
                "~ service web (tcp:192.0.2.80:80): when_unavailable refuse -> drop",
                "~ service web (tcp:192.0.2.80:80): unknown_tcp none -> drop",
                "~ service web (tcp:192.0.2.80:80): tcp_mss none -> 1400",
                "~ service web (tcp:192.0.2.80:80): slow_start none -> 30s",
                "~ service web (tcp:192.0.2.80:80): on_down reset -> keep",
                "~ service web (tcp:192.0.2.80:80): passive none -> 5 failures in 10s, for 1m",
                "~ service web (tcp:192.0.2.80:80): allow none -> 1 prefix",
                "~ service web (tcp:192.0.2.80:80): limits none -> connections 5, per_client_connections 2",
                "~ service web (tcp:192.0.2.80:80): health none -> tcp every 2s timeout 1s rise 2 fall 3",
            ],
        ),
        (
            "[[service.real]]\naddress = \"10.0.0.12\"\n",
            "[[service.real]]\naddress = \"10.0.0.14\"\nweight = 2\n",
            &[
                "+ service web: real server 10.0.0.14:80: added, weight 2",
                "- service web: real server 10.0.0.12:80: removed; 2 connections reset",
                "+ service udp:192.0.2.80:53: real server 10.0.0.14:53: added, weight 2",
                "- service udp:192.0.2.80:53: real server 10.0.0.12:53: removed; 2 connections moved",
            ],
        ),
        (
            "mode = \"nat\"",
            "mode = \"nat\"\nfallback = [\"10.0.0.99:8080\"]\nmin_healthy = \"50%\"\nhysteresis = 1\nannounce = \"while-healthy\"",
            &[
                "~ service web (tcp:192.0.2.80:80): min_healthy 1 -> 50%",
                "~ service web (tcp:192.0.2.80:80): hysteresis 0 -> 1",
                "~ service web (tcp:192.0.2.80:80): when_below refuse -> fallback",
                "~ service web (tcp:192.0.2.80:80): announce always -> while-healthy",
                "+ service web: fallback server 10.0.0.99:8080: added",
            ],
        ),
        (
            "mode = \"nat\"\n[[service.real]]\naddress = \"10.0.0.11\"\nweight = 3\n[[service.real]]\naddress = \"10.0.0.12\"\n",
            "mode = \"nat\"\nfallback = [\"10.0.0.12\"]\n[[service.real]]\naddress = \"10.0.0.11\"\nweight = 3\n",
            &[
                "~ service web (tcp:192.0.2.80:80): when_below refuse -> fallback",
                "~ service web: fallback server 10.0.0.12:80: role real server -> fallback server",
            ],
        ),
        (
            "name = \"web\"",
            "name = \"www\"",
            &["~ service www (tcp:192.0.2.80:80): name web -> www"],
        ),
        (
            "port = 53",
            "port = 54",
            &[
                "- service udp:192.0.2.80:53: removed, 2 real servers; 2 connections reset",
                "+ service udp:192.0.2.80:54: added, 2 real servers",
            ],
        ),
        (
            "addresses = [\"198.51.100.1/24\"]",
            "addresses = [\"198.51.100.2/24\"]\n[[route]]\nto = \"0.0.0.0/0\"\nvia = \"198.51.100.254\"\n[[neighbour]]\naddress = \"198.51.100.254\"\nmac = \"02:00:00:00:00:fe\"\n[[local_pool]]\nname = \"inside\"\naddresses = [\"198.51.100.9\"]\n[timeouts]\nudp = 60\n[limits]\nanswers_per_second = 7\n[metrics]\nper_real = false\n[health.web]\ntype = \"https\"\nrequest = { host = \"x.example\", verify = false }",
            &[
                "~ [timeouts]: udp 5m -> 1m",
                "~ [limits]: answers_per_second 1000 -> 7",
                "~ [metrics]: per_real true -> false",
                "~ port wan: addresses 198.51.100.1/24 -> 198.51.100.2/24",
                "+ local pool inside: added, 198.51.100.9 ports 1024-65535",
                "+ neighbour 198.51.100.254: added, 02:00:00:00:00:fe",
                "+ route 0.0.0.0/0: added, via 198.51.100.254",
                "+ health check web: added, https GET / host x.example status 200-399 by TLS sni x.example not verified every 2s timeout 1s rise 2 fall 3",
            ],
        ),
    ];
    for (from, to, expected) in cases {
        let text = match from.is_empty() {
            true => base.clone(),
            false => base.replace(from, to),
        };
        let new = parse(&text);
        let plan = model(&base).plan(&new);
        let lines: Vec<_> = plan.details.iter().map(ToString::to_string).collect();
        assert_eq!(lines, *expected, "{from} -> {to}");
    }
}

#[test]
fn a_weight_of_the_file_that_meets_an_operators_word_is_told() {
    let base = format!("{PORTS}{SERVICES}");
    let mut model = model(&base);
    let key = model.find_services("web")[0];
    let at = ("10.0.0.11".parse().unwrap(), 80);
    model.edit(&key, at, Edit::Weight(9), None).unwrap();
    model.edit(&key, at, Edit::Drain, None).unwrap();
    let plan = |model: &Model, text: &str| {
        let plan = model.plan(&parse(text));
        plan.details
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        plan(&model, &base.replace("weight = 3", "weight = 5")),
        [
            "~ service web: real server 10.0.0.11:80: weight 3 -> 5 (runtime weight 9, drained until `weir enable`)"
        ]
    );
    let gone = base.replacen(
        "[[service.real]]\naddress = \"10.0.0.11\"\nweight = 3\n",
        "",
        1,
    );
    assert_eq!(
        plan(&model, &gone),
        [
            "- service web: real server 10.0.0.11:80: removed (what `weir` was told of it is forgotten)"
        ]
    );
}

#[test]
fn a_line_of_the_log_is_bounded_whatever_changes() {
    let mut text = PORTS.to_owned();
    for n in 0..2000 {
        let name = format!("{n}{}", "x".repeat(60));
        text += &format!(
            "[[service]]\nname = \"{name}\"\naddress = \"192.0.2.80\"\nport = {}\nprotocol = \"tcp\"\nmode = \"nat\"\n",
            n + 1
        );
    }
    let (model, new) = (model(PORTS), parse(&text));
    let changes = Changes {
        details: model.plan(&new),
        ..Changes::between(model.config(), &new)
    };
    let line = changes.short();
    assert!(line.chars().count() < 900, "{line}");
    assert!(line.contains("services: 2000 added"), "{line}");
    assert!(line.contains("+ service 0xxx"), "{line}");
    assert_eq!(
        changes.details.details.len() + changes.details.more_details,
        2000
    );
    assert!(changes.details.lines().ends_with("… and 1000 more\n"));
}

#[test]
fn what_a_check_found_before_it_was_taken_away_counts_no_more() {
    use crate::service::Health;
    let checked = format!(
        "{PORTS}{}",
        SERVICES.replacen(
            "mode = \"nat\"",
            "mode = \"nat\"\nhealth = { type = \"tcp\" }",
            1
        )
    );
    let mut model = model(&checked);
    let key = "tcp:192.0.2.80:80".parse().unwrap();
    let real: std::net::SocketAddr = "10.0.0.11:80".parse().unwrap();
    let health = |model: &Model| {
        let service = model.find(&key).unwrap();
        let mut reals = service.reals.iter();
        let id = reals.find(|it| it.address == real.ip()).unwrap().id;
        model
            .state(id)
            .map_or(Health::Unknown, |state| state.health)
    };
    model.set_healths([(key, real, Health::Down, "late")]);
    assert_eq!(health(&model), Health::Down);
    // What takes the check away comes with this.
    model
        .apply(parse(&format!("{PORTS}{SERVICES}")), Time::default())
        .unwrap();
    model.set_healths([(key, real, Health::Unknown, "")]);
    model.set_healths([(key, real, Health::Down, "late")]);
    assert_eq!(health(&model), Health::Unknown);
}

#[test]
fn services_of_both_protocols_are_told_apart() {
    let base = format!("{PORTS}{}", SERVICES.replace("\"tcp\"", "\"tcp+udp\""));
    let plan = model(&base).plan(&parse(&base.replace("weight = 3", "weight = 5")));
    let lines: Vec<_> = plan.details.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        ["tcp", "udp"].map(|protocol| format!(
            "~ service web ({protocol}): real server 10.0.0.11:80: weight 3 -> 5"
        ))
    );
    let protocols: Vec<_> = plan.details.iter().map(|it| it.protocol).collect();
    assert_eq!(protocols, [Some("tcp"), Some("udp")]);
}

#[test]
fn words_are_those_of_the_file() {
    let base = format!(
        "{PORTS}[[local_pool]]\nname = \"p\"\naddresses = [\"10.0.0.200\"]\n{}",
        SERVICES.replacen(
            "mode = \"nat\"",
            "mode = \"fullnat\"\nlocal_pool = \"p\"\n# key",
            1
        )
    );
    for (key, from, to) in [
        ("client_address", "none", "proxy-v2"),
        ("client_address", "proxy-v2", "toa"),
        ("on_idle", "silent", "reset"),
        ("on_down", "reschedule", "keep"),
        ("when_unavailable", "refuse", "drop"),
        ("unknown_tcp", "reset", "drop"),
    ] {
        let with = |word: &str| base.replace("# key", &format!("{key} = \"{word}\""));
        let plan = model(&with(from)).plan(&parse(&with(to)));
        let lines: Vec<_> = plan.details.iter().map(ToString::to_string).collect();
        let expected = format!("~ service web (tcp:192.0.2.80:80): {key} {from} -> {to}");
        assert_eq!(lines, [expected]);
    }
}

#[test]
fn the_api_adds_no_more_real_servers_than_there_is_room_for() {
    let text = format!("{PORTS}{SERVICES}");
    let mut model = model(&text);
    let mut large = (*model.config().services[0]).clone();
    let one = large.reals[0].clone();
    // As many as there is room for beside the other service's two, and one more.
    large.reals = vec![one; config::MOST_REALS - 1];
    let refused = model.set_services(vec![large]).unwrap_err().to_string();
    assert_eq!(
        refused,
        "the services would have 4194305 real servers in all: at most 4194304 are taken"
    );
    assert_eq!(model.config().services[0].reals.len(), 2);
    assert_eq!(config::MOST_REALS, crate::stats::MAX_REALS);
}

#[test]
fn a_rule_of_snat_is_found_by_the_name_that_its_connections_have() {
    let rules = "[[local_pool]]\nname = \"outside\"\naddresses = [\"198.51.100.200\"]\n\
         [[snat]]\nfrom = \"10.0.0.0/24\"\npool = \"outside\"\n\
         [[snat]]\nfrom = \"10.0.0.0/25\"\npool = \"outside\"\n";
    let model = model(&format!("{PORTS}{rules}{SERVICES}"));
    let rules = model.tables().snat.rules();
    assert_eq!(rules.len(), 2);
    for rule in rules {
        let name = model.service_name(rule.service).unwrap();
        assert_eq!(model.find_outward(&name), Some(rule.service), "{name}");
    }
    for name in ["snat:10.0.0.0/26", "snat:", "snat:x", "10.0.0.0/24", "web"] {
        assert_eq!(model.find_outward(name), None, "{name}");
    }
}

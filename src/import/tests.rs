mod keepalived_conf;

use super::*;
use crate::config::{self, Config, ModeConfig};
use proptest::prelude::*;

fn no_files(_: &str, _: &str) -> Result<Vec<(String, String)>, String> {
    Ok(Vec::new())
}

fn from_ipvs(text: &str) -> Imported {
    ipvs(text, "rules", &Options::default()).unwrap_or_else(|failed| panic!("{failed:?}"))
}

fn from_keepalived(text: &str) -> Imported {
    let imported = keepalived(text, "keepalived.conf", &no_files, &Options::default());
    imported.unwrap_or_else(|failed| panic!("{failed:?}"))
}

/// The configuration, which must be valid.
fn config(imported: &Imported) -> Config {
    let context = config::Context {
        cpus: None,
        devices: false,
    };
    match config::parse(&imported.text, "imported", &context) {
        Ok(loaded) => loaded.config,
        Err(wrong) => panic!("{wrong}\n{}", imported.text),
    }
}

/// Each remark as LINE: TEXT, with `!` for what is lost.
fn said(imported: &Imported) -> Vec<String> {
    let remarks = imported.remarks.iter();
    let line = |it: &Remark| {
        let mark = if it.is_lost { "!" } else { "" };
        format!("{mark}{}: {}", it.at.line, it.text)
    };
    remarks.map(line).collect()
}

/// Every line said begins with one of these, in this order, and the other way round.
fn assert_said(imported: &Imported, expected: &[&str]) {
    let said = said(imported);
    let is_so = said.len() == expected.len()
        && said
            .iter()
            .zip(expected)
            .all(|(it, begin)| it.starts_with(begin));
    assert!(
        is_so,
        "said {said:#?}\nexpected {expected:#?}\nin\n{}",
        imported.text
    );
}

#[test]
fn a_table_of_ipvs_becomes_services_of_the_same_meaning() {
    let imported = from_ipvs(
        "-A -t 192.0.2.80:80 -s wrr\n\
         -a -t 192.0.2.80:80 -r 10.0.0.11:8080 -m -w 100\n\
         -a -t 192.0.2.80:80 -r 10.0.0.12:80 -m -w 0\n\
         -A -t 192.0.2.80:443 -s mh -b mh-fallback,mh-port -p 10800 -M 255.255.255.0\n\
         -a -t 192.0.2.80:443 -r 10.0.0.11:443 -g -w 1\n\
         -A -u [2001:db8:80::1]:53 -s rr\n\
         -a -u [2001:db8:80::1]:53 -r [2001:db8:1::11]:53 -i -w 2 --tun-type gue --tun-port 7000 --tun-nocsum\n\
         --set 1000 0 30\n",
    );
    assert_said(&imported, &[]);
    let config = config(&imported);
    let [web, secure, dns] = config.services.as_slice() else {
        panic!("{}", imported.text)
    };
    assert_eq!(
        (web.mode.clone(), web.scheduler.name()),
        (ModeConfig::Nat, "wrr")
    );
    let reals: Vec<_> = web.reals.iter().map(|it| (it.port, it.weight)).collect();
    assert_eq!(reals, [(8080, 100), (80, 0)]);
    assert_eq!(secure.mode, ModeConfig::Dr);
    assert!(secure.flags.port && secure.flags.fallback);
    let persistence = secure.persistence.unwrap();
    assert_eq!(
        (persistence.timeout.as_secs(), persistence.prefix_v4),
        (10_800, 24)
    );
    assert!(
        matches!(dns.mode, ModeConfig::Tunnel(_)),
        "{}",
        imported.text
    );
    assert!(imported.text.contains("gue_port") && imported.text.contains("7000"));
    let timeouts = &config.timeouts;
    assert_eq!(
        (timeouts.tcp_established.as_secs(), timeouts.udp.as_secs()),
        (1000, 30)
    );
}

#[test]
fn sctp_is_a_protocol_of_both() {
    let imported = from_ipvs(
        "-A --sctp-service 192.0.2.80:3868 -s sh -b sh-fallback\n\
         -a --sctp-service 192.0.2.80:3868 -r 10.0.0.11:3868 -m -w 2\n",
    );
    assert_said(&imported, &[]);
    let service = &config(&imported).services[0];
    assert_eq!(service.protocol, config::Protocol::Sctp);
    assert_eq!((service.port, service.reals[0].weight), (3868, 2));

    // A check by TCP speaks to no SCTP port.
    let text = |check: &str| {
        format!(
            "virtual_server 192.0.2.80 3868 {{\n lb_algo rr\n lb_kind NAT\n protocol SCTP\n\
             real_server 10.0.0.11 3868 {{\n weight 1\n {check}\n }}\n}}\n"
        )
    };
    let imported = from_keepalived(&text("TCP_CHECK {\n connect_port 9090\n }"));
    let service = config(&imported).services[0].clone();
    assert_eq!(service.protocol, config::Protocol::Sctp);
    assert!(service.health.is_some(), "{}", imported.text);
    let imported = from_keepalived(&text("TCP_CHECK {\n }"));
    let service = config(&imported).services[0].clone();
    assert_eq!(service.health, None, "{}", imported.text);
    assert!(imported.remarks.iter().any(|remark| remark.is_lost));
}

#[test]
fn what_of_ipvs_is_not_carried_over_is_told_with_its_line() {
    let cases: &[(&str, &[&str])] = &[
        ("-A -f 7 -s rr", &["!3: a service by firewall mark"]),
        (
            "-a -t 192.0.2.99:80 -r 10.0.0.1:80",
            &["!3: there is no service tcp:192.0.2.99:80"],
        ),
        (
            "-A -t 192.0.2.80:80 -s rr",
            &["!3: the service a second time"],
        ),
        (
            "-a -t 192.0.2.80:80 -r 10.0.0.1:80 -g",
            &["!3: the real server a second time"],
        ),
        (
            "-a -t 192.0.2.80:80 -r 10.0.0.2:80 -m",
            &["!3: the real server 10.0.0.2:80: one service has one mode"],
        ),
        (
            "-a -t 192.0.2.80:80 -r [2001:db8::2]:80 -g",
            &["!3: the real server [2001:db8::2]:80: it is of another family"],
        ),
        (
            "-a -t 192.0.2.80:80 -r 10.0.0.2:8080 -g -w 65536",
            &[
                "3: port 8080: with dr",
                "3: weight 65536: 65535 is the largest",
            ],
        ),
        (
            "-A -t 192.0.2.80:81 -s wlx\n-a -t 192.0.2.80:81 -r 10.0.0.2 -g",
            &["!3: there is no scheduler \"wlx\"; did you mean `wlc`?"],
        ),
        (
            "-A -t 192.0.2.80:81 -s sh\n-a -t 192.0.2.80:81 -r 10.0.0.2 -g",
            &["3: without sh-fallback"],
        ),
        (
            "-A -t 192.0.2.80:81 -s sh -b sh-fallback,x\n-a -t 192.0.2.80:81 -r 10.0.0.2 -g",
            &["!3: the flag \"x\" is none"],
        ),
        (
            "-A -u 192.0.2.80:81 --pe sip\n-a -u 192.0.2.80:81 -r 10.0.0.2 -g",
            &["!3: --pe sip"],
        ),
        (
            "-A -t 192.0.2.80:81 -p 60 -M 255.0.255.0\n-a -t 192.0.2.80:81 -r 10.0.0.2 -g",
            &["!3: -M 255.0.255.0"],
        ),
        (
            "-A -t vip:http",
            &["!3: \"vip:http\" is no address with a port: write numbers"],
        ),
        (
            "-A -t 192.0.2.80:81 --frob 3\n-a -t 192.0.2.80:81 -r 10.0.0.2 -g",
            &["!3: ipvsadm has no option \"--frob\""],
        ),
        (
            "-a -t 192.0.2.80:80 -r 10.0.0.2 -i --tun-type gre --tun-csum",
            &["!3: the real server: weir sends GRE without checksum"],
        ),
        ("-L -n", &["!3: nothing of this line"]),
        ("frob", &["!3: no command of ipvsadm"]),
        ("-A -t", &["!3: -t takes a value"]),
        ("-t 192.0.2.80:80", &["!3: the line has no command"]),
        (
            "-a -t 192.0.2.80:80",
            &["!3: the line names no real server"],
        ),
        ("-A -t 192.0.2.80:81", &["3: no real server says how"]),
    ];
    let good = "-A -t 192.0.2.80:80 -s rr\n-a -t 192.0.2.80:80 -r 10.0.0.1:80 -g\n";
    for (line, expected) in cases {
        let imported = from_ipvs(&format!("{good}{line}\n"));
        assert_said(&imported, expected);
        config(&imported);
    }
}

#[test]
fn commands_change_the_table_as_ipvsadm_does() {
    let imported = from_ipvs(
        "# a script\n\
         ipvsadm -C\n\
         /sbin/ipvsadm --add-service --tcp-service=192.0.2.80:80 --scheduler rr -p\n\
         ipvsadm -a -t 192.0.2.80:80 -r 10.0.0.1 -g -w 3\n\
         ipvsadm -a -t 192.0.2.80:80 -r 10.0.0.2 -g\n\
         ipvsadm -e -t 192.0.2.80:80 -r 10.0.0.1 -g -w 9\n\
         ipvsadm -d -t 192.0.2.80:80 -r 10.0.0.2\n\
         ipvsadm -E -t 192.0.2.80:80 -s wlc\n\
         ipvsadm -A -t 192.0.2.81:80\n\
         ipvsadm -D -t 192.0.2.81:80\n",
    );
    assert_said(&imported, &[]);
    let config = config(&imported);
    let [web] = config.services.as_slice() else {
        panic!("{}", imported.text)
    };
    let reals: Vec<_> = web
        .reals
        .iter()
        .map(|it| (it.address.to_string(), it.weight))
        .collect();
    assert_eq!(reals, [("10.0.0.1".to_owned(), 9)]);
    // -E sets everything anew.
    assert_eq!((web.scheduler.name(), web.persistence), ("wlc", None));
}

/// With `--merge`.
fn merged(text: &str) -> Imported {
    let options = Options {
        merge: true,
        ..Options::default()
    };
    ipvs(text, "rules", &options).unwrap_or_else(|failed| panic!("{failed:?}"))
}

#[test]
fn what_is_alike_is_one_service_where_that_is_asked_for() {
    let of = |which: &str, more: &str, real: &str| {
        format!("-A {which} -s rr {more}\n-a {which} -r {real} -m -w 2\n")
    };
    let tcp = |port: u16| of(&format!("-t 192.0.2.80:{port}"), "", "10.0.0.1");
    let udp = |port: u16| of(&format!("-u 192.0.2.80:{port}"), "", "10.0.0.1");
    for (text, expected) in [
        // From three ports on, in any order.
        (tcp(80) + &tcp(81), vec!["tcp 80", "tcp 81"]),
        (tcp(82) + &tcp(80) + &tcp(81), vec!["tcp 80-82"]),
        (
            tcp(80) + &tcp(81) + &tcp(83) + &tcp(84) + &tcp(85),
            vec!["tcp 80", "tcp 81", "tcp 83-85"],
        ),
        (tcp(53) + &udp(53), vec!["tcp+udp 53"]),
        (
            (80..90).map(|port| tcp(port) + &udp(port)).collect(),
            vec!["tcp+udp 80-89"],
        ),
        // Real servers that have one port of their own, thresholds, and persistence over the range.
        (
            (80..83)
                .map(|port| of(&format!("-t 192.0.2.80:{port}"), "", "10.0.0.1:8080"))
                .collect(),
            vec!["tcp 80", "tcp 81", "tcp 82"],
        ),
        (
            (80..83)
                .map(|port| of(&format!("-t 192.0.2.80:{port}"), "-p 60", "10.0.0.1"))
                .collect(),
            vec!["tcp 80", "tcp 81", "tcp 82"],
        ),
        (
            of("-t 192.0.2.80:53", "-p 60", "10.0.0.1:5353")
                + &of("-u 192.0.2.80:53", "-p 60", "10.0.0.1:5353"),
            vec!["tcp+udp 53"],
        ),
        (
            of("-t 192.0.2.80:53", "", "10.0.0.1") + &of("-u 192.0.2.80:53", "-o", "10.0.0.1"),
            vec!["tcp 53", "udp 53"],
        ),
        (
            of("-t 192.0.2.80:53", "", "10.0.0.1") + &of("-u 192.0.2.80:53", "", "10.0.0.2"),
            vec!["tcp 53", "udp 53"],
        ),
    ] {
        let imported = merged(&text);
        config(&imported);
        let tables = imported.text.split("[[service]]").skip(1);
        let value = |table: &str, key: &str| {
            let line = table
                .lines()
                .find(|line| line.starts_with(&format!("{key} ")));
            let (_, value) = line.unwrap().split_once('=').unwrap();
            value.trim().trim_matches('"').to_owned()
        };
        let found = tables.map(|it| format!("{} {}", value(it, "protocol"), value(it, "port")));
        assert_eq!(found.collect::<Vec<_>>(), expected, "{text}");
        // Nothing of it without the option.
        let apart = from_ipvs(&text);
        assert_eq!(
            apart.text.matches("[[service]]").count(),
            text.matches("-A").count()
        );
    }
}

proptest! {
    /// A packet to any port has the same service's scheduler, mode and real servers with and without `--merge`.
    #[test]
    fn merging_changes_nothing_for_a_packet(
        services in prop::collection::btree_map(
            (any::<bool>(), 80..88u16),
            (0..3u8, prop::option::of(8080..8082u16), 1..3u16, any::<bool>()),
            1..16,
        ),
    ) {
        let mut text = String::new();
        for ((is_tcp, port), (real, real_port, weight, is_persistent)) in &services {
            let which = format!("{} 192.0.2.80:{port}", if *is_tcp { "-t" } else { "-u" });
            let persistence = if *is_persistent { "-p 60" } else { "" };
            let to = real_port.unwrap_or(*port);
            text += &format!("-A {which} -s wrr {persistence}\n-a {which} -r 10.0.0.{}:{to} -m -w {weight}\n", real + 1);
        }
        let meaning = |imported: &Imported| {
            let config = config(imported);
            let found = |is_tcp: bool, port: u16| {
                let protocol = if is_tcp { config::Protocol::Tcp } else { config::Protocol::Udp };
                let has = |it: &config::ServiceConfig| {
                    it.protocol == protocol && (it.port..=it.last_port.max(it.port)).contains(&port)
                };
                let service = config.services.iter().find(|it| has(it))?;
                let reals = service.reals.iter();
                let reals = reals.map(|it| (it.address, if it.port == 0 { port } else { it.port }, it.weight));
                Some((service.scheduler.name(), service.persistence, reals.collect::<Vec<_>>()))
            };
            [true, false].map(|is_tcp| (79..89).map(|port| found(is_tcp, port)).collect::<Vec<_>>())
        };
        let (apart, together) = (from_ipvs(&text), merged(&text));
        prop_assert_eq!(meaning(&apart), meaning(&together));
        prop_assert!(together.remarks.iter().all(|it| !it.is_lost), "{:?}", together.remarks);
    }
}

#[test]
fn dpvs_has_its_local_addresses_ports_and_routes() {
    let imported = from_ipvs(
        "dpip addr add 10.0.0.254/24 dev dpdk0\n\
         dpip addr add 192.0.2.80/32 dev dpdk1\n\
         dpip addr add 198.51.100.1/24 dev dpdk1\n\
         dpip route add default via 198.51.100.254 dev dpdk1\n\
         ipvsadm -A -t 192.0.2.80:80 -s wrr\n\
         ipvsadm --add-laddr -z 10.0.0.200 -t 192.0.2.80:80 -F dpdk0\n\
         ipvsadm -a -t 192.0.2.80:80 -r 10.0.0.1:80 -b -w 100\n",
    );
    assert_said(&imported, &[]);
    let config = config(&imported);
    assert!(matches!(
        config.services[0].mode,
        ModeConfig::Fullnat { .. }
    ));
    let ports: Vec<_> = config.ports.iter().map(|it| it.name.as_str()).collect();
    assert_eq!((ports, config.routes.len()), (vec!["dpdk0", "dpdk1"], 1));
}

#[test]
fn what_cannot_be_imported_says_why() {
    for (text, line, why) in [
        ("", 0, "no virtual_server found: nothing to import"),
        (
            "vrrp_instance A {\n}\n",
            0,
            "no virtual_server found, only VRRP",
        ),
        (
            "virtual_server 192.0.2.80 80 {\n",
            1,
            "this `{` is not closed",
        ),
        ("}\n", 1, "a `}` that closes nothing"),
        (
            "virtual_server {{ vip }} 80 {\n}\n",
            1,
            "this is a template",
        ),
        ("virtual_server <vip> 80 {\n}\n", 1, "this is a template"),
    ] {
        let failed = keepalived(text, "k", &no_files, &Options::default()).unwrap_err();
        assert_eq!(failed.why.at.line, line, "{text:?}");
        assert!(failed.why.text.starts_with(why), "{text:?}: {}", failed.why);
    }
    for (text, why) in [
        ("", "no virtual service found"),
        (
            "TCP  192.0.2.80:80 wlc\n  -> RemoteAddress:Port Forward\n",
            "this is what `ipvsadm -L` shows",
        ),
    ] {
        let failed = ipvs(text, "rules", &Options::default()).unwrap_err();
        assert!(failed.why.text.starts_with(why), "{text:?}: {}", failed.why);
    }
}

#[test]
fn options_say_what_the_file_does_not() {
    let text = "-A -t 192.0.2.80:80 -s rr\n-a -t 192.0.2.80:80 -r [2001:db8::1]:80 -m\n-a -t 192.0.2.80:80 -r [2001:db8::3]:80 -m\n";
    let options = Options {
        fullnat: Some(vec!["2001:db8::200".to_owned()]),
        nat_is_fullnat: true,
        device: Some("0000:03:00.0".to_owned()),
        addresses: vec!["2001:db8::fffe/64".parse().unwrap()],
        own: vec!["2001:db8::3".parse().unwrap()],
        services_only: false,
        merge: false,
    };
    let imported = ipvs(text, "rules", &options).unwrap();
    assert_said(
        &imported,
        &["!3: the real server 2001:db8::3: it is this machine itself"],
    );
    let config = config(&imported);
    assert_eq!(config.ports[0].addresses.len(), 1);
    assert!(imported.text.contains("0000:03:00.0") && !imported.text.contains("Made up"));
    let alone = ipvs(
        text,
        "rules",
        &Options {
            services_only: true,
            ..options
        },
    )
    .unwrap();
    assert!(!alone.text.contains("[[port]]") && alone.text.contains("[[local_pool]]"));
}

#[test]
fn what_check_would_refuse_is_left_out_with_its_line() {
    let server = |body: &str, real: &str| {
        format!(
            "virtual_server 192.0.2.80 80 {{\nlb_kind NAT\n{body}\nreal_server 10.0.0.1 80 {{\n{real}\n}}\n}}\n"
        )
    };
    let get = |url: &str| server("", &format!("HTTP_GET {{\nurl {{\n{url}\n}}\n}}"));
    let cases: &[(String, &[&str])] = &[
        (
            server("sorry_server 10.0.0.1 80", ""),
            &["!3: the sorry server: it is a real server"],
        ),
        (
            server("sorry_server 10.0.0.9 http", ""),
            &["!3: the sorry server: it has no port"],
        ),
        (server("sorry_server 10.0.0.9 0", ""), &[]),
        (
            server("persistence_timeout 31536000000", ""),
            &["!1: `persistence"],
        ),
        (server("est_timeout 31536000000", ""), &["!3: `timeouts"]),
        (
            server(
                "sorry_server 10.0.0.9\nquorum 18446744073709551615\nhysteresis 5",
                "",
            ),
            &["!1: `min_healthy"],
        ),
        (
            server("quorum x\nhysteresis y", ""),
            &["!3: \"x\" is no quorum", "!4: \"y\" is no number"],
        ),
        (
            server("sorry_server_inhibit\nhashed", ""),
            &["3: sorry_server_inhibit", "!4: hashed: not carried over"],
        ),
        (
            server("", "uthreshold 5\nlthreshold 9"),
            &["!4: the lower threshold"],
        ),
        (
            server("", "uthreshold 99999999999\nlthreshold abc"),
            &["!5: uthreshold: a number", "!6: lthreshold: a number"],
        ),
        (
            server("", "TCP_CHECK {\nretry 18446744073709551615\n}"),
            &[],
        ),
        (server("real_server 224.0.0.1 80 {\n}", ""), &["!3: `"]),
        (get("status_code 200\nstatus_code 301-302\npath foo"), &[]),
        (get("regex \"^(?!ERR)\""), &["!7: regex: weir's patterns"]),
        (
            "global_defs { lvs_timeouts tcp 99999999999 udp 30\n}\n".to_owned() + &server("", ""),
            &["!1: tcp_established: "],
        ),
    ];
    for (text, expected) in cases {
        let imported = from_keepalived(text);
        assert_said(&imported, expected);
        assert_eq!(config(&imported).services.len(), 1, "{text}");
    }
    let good = "-A -t 192.0.2.80:80 -s rr\n-a -t 192.0.2.80:80 -r 10.0.0.1:80 -m\n";
    for (line, expected) in [
        (
            "-a -t 192.0.2.80:80 -r 10.0.0.2:0 -m -x 5 -y 9",
            &["!3: the lower threshold"][..],
        ),
        ("--set 99999999999 1 1", &["!3: tcp_established: "]),
        (
            "dpip addr add 10.0.0.254/24 dev d\ndpip addr add 10.0.0.254/24 dev d",
            &[],
        ),
        (
            "dpip route add 10.9.0.0/16 via 192.168.0.1 dev d",
            &["!3: the route: "],
        ),
    ] {
        let imported = from_ipvs(&format!("{good}{line}\n"));
        assert_said(&imported, expected);
        assert_eq!(config(&imported).services.len(), 1, "{line}");
    }
    // What grows without end is refused.
    let doubling: String = (1..40)
        .map(|n| format!("$A{n}=$A{}$A{}\n", n - 1, n - 1))
        .collect();
    let text = format!("$A0={}\n{doubling}{}", "x".repeat(100), server("", ""));
    assert!(said(&from_keepalived(&text))[0].ends_with("it has become too long"));
}

proptest! {
    /// Any text ends in a valid configuration or in a reason, never in a panic; and in the same one each time.
    #[test]
    fn whatever_the_words_the_result_is_valid(
        lines in prop::collection::vec(prop::collection::vec(prop::sample::select(WORDS), 0..7), 0..14),
    ) {
        let lines: Vec<_> = lines.iter().map(|words| words.join(" ")).collect();
        let good = "virtual_server 192.0.2.70 80 {\nlb_kind DR\nreal_server 10.0.0.1 80 {\n";
        for text in [lines.join("\n"), format!("{good}{}\n}}\n}}\n", lines.join("\n"))] {
            if let Ok(imported) = keepalived(&text, "k", &no_files, &Options::default()) {
                config(&imported);
                let again = keepalived(&text, "k", &no_files, &Options::default()).unwrap();
                prop_assert_eq!(again.text, imported.text);
            }
            let text = format!("-A -t 192.0.2.80:80\n{text}");
            if let Ok(imported) = ipvs(&text, "r", &Options::default()) {
                config(&imported);
            }
        }
    }
}

const WORDS: &[&str] = &[
    "virtual_server",
    "192.0.2.80",
    "192.0.2.81",
    "80",
    "0",
    "{",
    "}",
    "real_server",
    "10.0.0.1",
    "10.0.0.2",
    "2001:db8::1",
    "weight",
    "99999999",
    "TCP_CHECK",
    "HTTP_GET",
    "SSL_GET",
    "MISC_CHECK",
    "misc_path",
    "\"/bin/x \\\" y\"",
    "url",
    "path",
    "/a\"b",
    "status_code",
    "200",
    "lb_kind",
    "DR",
    "NAT",
    "TUN",
    "FNAT",
    "lb_algo",
    "sh",
    "wlc",
    "persistence_timeout",
    "5",
    "0.5",
    "delay_loop",
    "retry",
    "1000000",
    "connect_port",
    "sorry_server",
    "quorum",
    "hysteresis",
    "DNS_CHECK",
    "name",
    "type",
    "A",
    "é",
    "UDP_CHECK",
    "payload",
    "zz",
    "0a0b",
    "protocol",
    "UDP",
    "SCTP",
    "ops",
    "virtual_server_group",
    "group",
    "G",
    "-1",
    "192.0.2.1-9",
    "-A",
    "-a",
    "-t",
    "-u",
    "192.0.2.80:80",
    "192.0.2.80:0",
    "-r",
    "10.0.0.3:80",
    "[2001:db8::3]:80",
    "-m",
    "-i",
    "-g",
    "-b",
    "-w",
    "-p",
    "-M",
    "64",
    "--tun-type",
    "gue",
    "gre",
    "-s",
    "rr",
    "mh",
    "-x",
    "--set",
    "-D",
    "-E",
    "-e",
    "$A=1",
    "$A",
    "include",
    "x",
    "virtualhost",
    "a b",
    "alpha",
    "uthreshold",
    "7",
    "user",
    "root",
    "verify",
];

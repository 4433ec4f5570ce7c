//! Tables as ipvsadm lays them out: column by column, over all that a service can be.

use super::list::{self, Columns, How, before, connection, connections_title, save, services};
use crate::view::{ConnectionView, ServiceView};
use serde_json::{Value, json};
use std::collections::HashMap;

fn member(real: &str, weight: u16, counts: [u64; 7], more: Value) -> Value {
    let mut row = json!({
        "real": real, "weight": weight, "up": true, "configured_weight": weight,
        "active_connections": counts[0], "inactive_connections": counts[1], "connections_total": counts[2],
        "packets_in": counts[3], "packets_out": counts[4], "bytes_in": counts[5], "bytes_out": counts[6],
    });
    merge(&mut row, more);
    row
}

fn merge(row: &mut Value, more: Value) {
    for (key, value) in more.as_object().unwrap() {
        row[key] = value.clone();
    }
}

fn service(
    protocol: &str,
    address: &str,
    port: Value,
    keys: Value,
    reals: Vec<Value>,
) -> ServiceView {
    let mut row = json!({
        "name": "a", "protocol": protocol, "address": address, "port": port, "mode": "nat", "scheduler": "wrr",
        "active_connections": 0, "inactive_connections": 0, "connections_total": 5, "packets_in": 70,
        "packets_out": 0, "bytes_in": 110_880_000u64, "bytes_out": 123_456_789_012_345u64, "reals": reals,
    });
    merge(&mut row, keys);
    serde_json::from_value(row).unwrap()
}

/// As the daemon lists them, in the file's order.
fn table() -> Vec<ServiceView> {
    let none = [0; 7];
    vec![
        service(
            "tcp",
            "2001:db8::80",
            json!(443),
            json!({"mode": "fullnat", "persistence_s": 100, "persistence_prefix": 64}),
            vec![member("10.1.0.9:8443", 1, none, json!({}))],
        ),
        service(
            "udp",
            "192.0.2.7",
            json!(53),
            json!({"mode": "tunnel", "tunnel": "gue", "gue_port": 7000, "scheduler": "mh", "flags": ["mh-fallback", "mh-port"], "one_packet": true}),
            vec![member(
                "10.1.0.3:53",
                2,
                none,
                json!({"max_connections": 100, "min_connections": 50}),
            )],
        ),
        service(
            "tcp",
            "192.0.2.7",
            json!(80),
            json!({"persistence_s": 60, "persistence_prefix": 24}),
            vec![
                member(
                    "10.1.0.2:8080",
                    0,
                    [1, 0, 4, 9, 8, 700, 600],
                    json!({"configured_weight": 9}),
                ),
                member(
                    "10.1.0.1:8080",
                    65535,
                    [
                        12,
                        345,
                        6789,
                        99_999_999,
                        100_000_000,
                        999_999_999,
                        1_000_000_000,
                    ],
                    json!({}),
                ),
            ],
        ),
        service(
            "tcp",
            "192.0.2.7",
            json!(0),
            json!({"mode": "dr", "persistence_s": 360, "persistence_prefix": 32}),
            vec![member("10.1.0.4:0", 1, none, json!({}))],
        ),
        service(
            "tcp",
            "192.0.2.7",
            json!("8000-8099"),
            json!({"mode": "l3dsr", "dscp": 5}),
            vec![],
        ),
    ]
}

fn how(columns: Columns) -> How {
    How {
        columns,
        numeric: true,
        exact: false,
        sorted: true,
        size: Some(4096),
    }
}

fn check(written: &str, lines: &[&str]) {
    assert_eq!(written.lines().collect::<Vec<_>>(), lines, "\n{written}");
    assert!(written.ends_with('\n'));
}

#[test]
fn each_table_has_ipvsadms_columns() {
    check(
        &services(table(), &how(Columns::Plain)),
        &[
            "IP Virtual Server version 1.2.1 (size=4096)",
            "Prot LocalAddress:Port Scheduler Flags",
            "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
            "TCP  192.0.2.7:0 wrr persistent 360",
            "  -> 10.1.0.4:0                   Route   1      0          0         ",
            "TCP  192.0.2.7:80 wrr persistent 60 mask 255.255.255.0",
            "  -> 10.1.0.1:8080                Masq    65535  12         345       ",
            "  -> 10.1.0.2:8080                Masq    0      1          0         ",
            "TCP  192.0.2.7:8000-8099 wrr",
            "UDP  192.0.2.7:53 mh (mh-fallback,mh-port) ops",
            "  -> 10.1.0.3:53                  Tunnel  2      0          0         ",
            "TCP  [2001:db8::80]:443 wrr persistent 100 mask 64",
            "  -> 10.1.0.9:8443                FullNat 1      0          0         ",
        ],
    );
    let one = || vec![table().remove(2)];
    let whole = How {
        size: None,
        ..how(Columns::Stats)
    };
    check(
        &services(one(), &whole),
        &[
            "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes",
            "  -> RemoteAddress:Port",
            "TCP  192.0.2.7:80                        5       70        0  110880K     123T",
            "  -> 10.1.0.1:8080                    6789 99999999  100000K  999999K    1000M",
            "  -> 10.1.0.2:8080                       4        9        8      700      600",
        ],
    );
    check(
        &services(
            one(),
            &How {
                exact: true,
                ..whole
            },
        ),
        &[
            "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes",
            "  -> RemoteAddress:Port",
            "TCP  192.0.2.7:80                        5       70        0 110880000 123456789012345",
            "  -> 10.1.0.1:8080                    6789 99999999 100000000 999999999 1000000000",
            "  -> 10.1.0.2:8080                       4        9        8      700      600",
        ],
    );
    check(
        &services(vec![table().remove(1)], &how(Columns::Thresholds)),
        &[
            "IP Virtual Server version 1.2.1 (size=4096)",
            "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn ",
            "  -> RemoteAddress:Port",
            "UDP  192.0.2.7:53 mh (mh-fallback,mh-port) ops",
            "  -> 10.1.0.3:53                  100        50         0          0         ",
        ],
    );
    let place = (
        "tcp".to_owned(),
        "192.0.2.7:80".parse().unwrap(),
        "10.1.0.1:8080".parse().unwrap(),
    );
    check(
        &services(
            one(),
            &how(Columns::Persistent(HashMap::from([(place, 7)]))),
        ),
        &[
            "IP Virtual Server version 1.2.1 (size=4096)",
            "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn ",
            "  -> RemoteAddress:Port",
            "TCP  192.0.2.7:80 wrr persistent 60 mask 255.255.255.0",
            "  -> 10.1.0.1:8080                65535     7           12         345       ",
            "  -> 10.1.0.2:8080                0         0           1          0         ",
        ],
    );
    check(
        &services(vec![table().remove(1)], &how(Columns::TunnelInfo)),
        &[
            "IP Virtual Server version 1.2.1 (size=4096)",
            "Prot LocalAddress:Port Scheduler Flags",
            "  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn",
            "UDP  192.0.2.7:53 mh (mh-fallback,mh-port) ops",
            "  -> 10.1.0.3:53                  Tunnel  gue:7000:-c   2      0          0         ",
        ],
    );
    let mut later = one();
    later[0].reals[0].traffic.packets_in += 3000;
    later[0].traffic.packets_in += 3000;
    let rate = Columns::Rate(before(&one()), 2.0);
    check(
        &services(
            later,
            &How {
                size: None,
                ..how(rate)
            },
        ),
        &[
            "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS",
            "  -> RemoteAddress:Port",
            "TCP  192.0.2.7:80                        0     1500        0        0        0",
            "  -> 10.1.0.1:8080                       0        0        0        0        0",
            "  -> 10.1.0.2:8080                       0     1500        0        0        0",
        ],
    );
}

#[test]
fn connections_have_ipvsadms_columns() {
    let row = |client: &str, state: &str, expires_s: u32| -> ConnectionView {
        serde_json::from_value(json!({
            "protocol": "tcp", "client": client, "vip": "192.0.2.7:80", "real": "10.1.0.1:8080",
            "state": state, "expires_s": expires_s, "worker": 0,
        }))
        .unwrap()
    };
    let text = [
        connections_title(false),
        connection(&row("10.9.0.1:43869", "established", 895), true),
        connection(&row("10.9.0.0:0", "assured", 5), true),
        connection(&row("[2001:db8:9::123]:43869", "fin_wait", 6000), true),
        connections_title(true),
    ];
    check(
        &text.concat(),
        &[
            "IPVS connection entries",
            "pro expire state       source             virtual            destination",
            "TCP 14:55  ESTABLISHED 10.9.0.1:43869     192.0.2.7:80       10.1.0.1:8080",
            "TCP 00:05  ASSURED     10.9.0.0:0         192.0.2.7:80       10.1.0.1:8080",
            "TCP 100:00  FIN_WAIT    [2001:db8:9::123]:43869 192.0.2.7:80       10.1.0.1:8080",
            "IPVS connection entries",
            "pro expire state       source             virtual            destination        pe name          pe_data",
        ],
    );
}

#[test]
fn what_is_saved_is_read_again() {
    let (text, left_out) = save(table(), true);
    check(
        &text,
        &[
            "-A -t 192.0.2.7:0 -s wrr -p 360",
            "-a -t 192.0.2.7:0 -r 10.1.0.4:0 -g -w 1",
            "-A -t 192.0.2.7:80 -s wrr -p 60 -M 255.255.255.0",
            "-a -t 192.0.2.7:80 -r 10.1.0.1:8080 -m -w 65535",
            "-a -t 192.0.2.7:80 -r 10.1.0.2:8080 -m -w 9",
            "-A -u 192.0.2.7:53 -s mh -o -b mh-fallback,mh-port",
            "-a -u 192.0.2.7:53 -r 10.1.0.3:53 -i -w 2 --tun-type gue --tun-port 7000 --tun-nocsum -x 100 -y 50",
            "-A -t [2001:db8::80]:443 -s wrr -p 100 -M 64",
        ],
    );
    // A range, and a real server of the other family that is not behind a tunnel, are weir's own.
    assert_eq!(left_out.len(), 2, "{left_out:?}");
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let read = super::words::Line::read(&words);
        assert!(read.is_ok(), "{line}: {read:?}");
    }
    assert_eq!(list::at(&table()[4]), "192.0.2.7:8000".parse().unwrap());
}

#[test]
fn what_the_daemon_refuses_is_one_line() {
    for (text, line) in [
        (
            "error: service tcp:192.0.2.7:443, changed:25:11: the real server `10.1.0.1` is weir's own: a port's address\n   |\n25 | a",
            "the real server `10.1.0.1` is weir's own: a port's address",
        ),
        (
            "warning: a:1:1: the service has no real servers\n  |\nerror: ipvsadm:2:11: `127.0.0.1` is a loopback address\n",
            "`127.0.0.1` is a loopback address",
        ),
        ("error: too much: 5", "too much: 5"),
        (
            "no weir answers at unix:/x (y)",
            "no weir answers at unix:/x (y)",
        ),
        ("", ""),
    ] {
        assert_eq!(super::in_one_line(text), line, "{text}");
    }
}

#[test]
fn a_fallback_server_is_listed_while_it_gets_connections_and_never_saved() {
    for (weight, is_listed) in [(0, false), (1, true)] {
        let table = || {
            let real = member("10.1.0.1:8080", 3, [0; 7], json!({}));
            let sorry = member("10.1.0.9:80", weight, [0; 7], json!({"fallback": true}));
            vec![service(
                "tcp",
                "192.0.2.7",
                json!(80),
                json!({}),
                vec![real, sorry],
            )]
        };
        let listed = services(table(), &how(Columns::Plain));
        assert_eq!(listed.contains("10.1.0.9"), is_listed, "{listed}");
        let (saved, left_out) = save(table(), true);
        assert!(
            !saved.contains("10.1.0.9") && left_out.is_empty(),
            "{saved}"
        );
    }
}

#[test]
fn a_service_has_another_method_with_the_other_variant_of_gue() {
    let gue = |port, variant| json!({"mode": "tunnel", "tunnel": "gue", "gue_port": port, "gue_variant": variant});
    let wanted = gue(6080, 0);
    for (keys, expected) in [
        (gue(6080, 0), true),
        (gue(6080, 1), false),
        (gue(6081, 0), false),
        (json!({"mode": "tunnel", "tunnel": "ipip"}), false),
        (json!({"mode": "dr"}), false),
    ] {
        let service = service("udp", "192.0.2.7", json!(53), keys.clone(), vec![]);
        assert_eq!(super::change::has(&service, &wanted), expected, "{keys}");
    }
    let service = service("udp", "192.0.2.7", json!(53), json!({"mode": "dr"}), vec![]);
    assert!(super::change::has(
        &service,
        &json!({"mode": "dr", "tunnel": null})
    ));
}

#[test]
fn the_variant_of_gue_that_no_line_says_is_named() {
    for (variant, expected) in [(0, vec![]), (1, vec!["gue_variant = 1 of service a"])] {
        let keys =
            json!({"mode": "tunnel", "tunnel": "gue", "gue_port": 6080, "gue_variant": variant});
        let real = member("10.1.0.3:80", 1, [0; 7], json!({}));
        let (saved, left_out) = save(
            vec![service("tcp", "192.0.2.7", json!(80), keys, vec![real])],
            true,
        );
        assert!(
            saved.ends_with(" -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum\n"),
            "{saved}"
        );
        assert_eq!(left_out, expected);
    }
}

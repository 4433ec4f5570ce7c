//! Pages of `/v1/services`, `/v1/reals` and `/v1/pools` against the whole lists.

use super::openapi::{Answer, ask};
use super::*;

fn asked(lab: &Lab, path: &str) -> (Vec<Value>, usize) {
    let answer: Answer = ask(lab, &format!("GET {path}"), None, b"");
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    let total = answer.header("x-total-count").expect(path).parse().unwrap();
    (json(&answer.body).as_array().unwrap().clone(), total)
}

fn number(row: &Value, names: &[&str]) -> u64 {
    names.iter().map(|name| row[*name].as_u64().unwrap()).sum()
}

/// What a row is sorted by, as the documentation has it.
fn rank(row: &Value, by: &str) -> u64 {
    match by {
        "impaired" => {
            let reals = row["reals"].as_array().unwrap();
            let impaired = reals.iter().filter(|real| real["why"].is_string());
            impaired.count() as u64 + (u64::from(row["serving"] != "available") << 32)
        }
        "weight" => number(row, &["weight"]),
        "connections" => number(row, &["active_connections", "inactive_connections"]),
        "connections_total" => number(row, &["connections_total"]),
        "packets" => number(row, &["packets_in", "packets_out"]),
        "bytes" => number(row, &["bytes_in", "bytes_out"]),
        _ => panic!("{by}"),
    }
}

fn place(row: &Value) -> String {
    match &row["vip"] {
        Value::String(vip) => vip.clone(),
        _ => format!("{}:{}", row["address"].as_str().unwrap(), row["port"]),
    }
}

#[test]
fn pages_are_what_the_whole_list_has() {
    let lab = Lab::new();
    lab.receives("wan", &syns(16));
    let mut config = lab.config("", 3);
    for n in 0..300 {
        // Names in another order than addresses, both in another than the file.
        config += &format!(
            "[[service]]\nname = \"s{:03}\"\naddress = \"192.0.2.{}\"\nport = 80\nprotocol = \"tcp\"\nmode = \"dr\"\n",
            (n * 7) % 300,
            1 + (n * 11) % 60,
        )
        .replace("port = 80", &format!("port = {}", 1000 + n));
        for real in 0..n % 2 + 1 {
            config += &format!(
                "[[service.real]]\naddress = \"10.0.0.{}\"\nweight = {}\n",
                11 + real,
                n % 3
            );
        }
    }
    let daemon = Daemon::start(&lab, &config);
    daemon.wait(|daemon| (daemon.show("workers")[0]["transmitted_packets"] == 16).then_some(()));
    // One does not answer: from then on nothing changes.
    daemon.wait(|daemon| {
        let reals = daemon.show("reals");
        let mut reals = reals.as_array().unwrap().iter();
        reals
            .any(|it| {
                it["real"].as_str().unwrap().starts_with("10.0.0.99:") && it["why"].is_string()
            })
            .then_some(())
    });
    let orders = [
        (
            "/v1/services",
            [
                "impaired",
                "connections",
                "connections_total",
                "packets",
                "bytes",
            ],
        ),
        (
            "/v1/reals",
            [
                "weight",
                "connections",
                "connections_total",
                "packets",
                "bytes",
            ],
        ),
    ];
    for (path, numbers) in orders {
        let (whole, total) = asked(&lab, path);
        assert_eq!(whole.len(), total, "{path}");
        assert!(total >= 302, "{path}: {total}");
        let is_impaired = |row: &Value| match &row["reals"] {
            Value::Array(reals) => reals.iter().any(|real| real["why"].is_string()),
            _ => row["why"].is_string(),
        };
        let name = if path == "/v1/reals" {
            "service"
        } else {
            "name"
        };
        for search in ["", "S01", ":10", "10.0.0.12", "nothing"] {
            let found = |row: &Value| {
                let reals: Vec<&Value> = match &row["reals"] {
                    Value::Array(reals) => reals.iter().collect(),
                    _ => vec![row],
                };
                let at = format!("{}:{}", row["protocol"].as_str().unwrap(), place(row));
                let named = row[name].as_str().unwrap().contains(&search.to_lowercase());
                let has = |real: &&Value| real["real"].as_str().unwrap().contains(search);
                search.is_empty() || named || at.contains(search) || reals.iter().any(has)
            };
            for impaired in [false, true] {
                let wanted = |row: &&Value| found(row) && (!impaired || is_impaired(row));
                let expected: Vec<_> = whole.iter().filter(wanted).cloned().collect();
                assert_eq!(
                    expected.is_empty(),
                    search == "nothing",
                    "{path} {search} {impaired}"
                );
                let query = format!("{path}?search={search}&impaired={impaired}");
                for by in numbers {
                    for sign in ["", "-"] {
                        let mut expected = expected.clone();
                        // Rows that are equal stay in the order of the file.
                        expected.sort_by_key(|row| rank(row, by));
                        if sign == "-" {
                            expected.sort_by_key(|row| std::cmp::Reverse(rank(row, by)));
                        }
                        let sorted = format!("{query}&sort={sign}{by}");
                        for (offset, limit) in
                            [(0, 10), (7, 150), (expected.len() / 2, 1000), (5000, 10)]
                        {
                            let page = format!("{sorted}&offset={offset}&limit={limit}");
                            let (rows, total) = asked(&lab, &page);
                            let of: Vec<_> = expected.iter().skip(offset).take(limit).collect();
                            assert_eq!(total, expected.len(), "{page}");
                            let key = |row: &Value| {
                                (
                                    row[name].clone(),
                                    place(row),
                                    row["real"].clone(),
                                    rank(row, by),
                                )
                            };
                            let rows: Vec<_> = rows.iter().map(key).collect();
                            assert_eq!(rows, of.into_iter().map(key).collect::<Vec<_>>(), "{page}");
                        }
                    }
                }
                let (rows, total) = asked(&lab, &format!("{query}&sort=-name"));
                let mut names: Vec<_> = expected
                    .iter()
                    .map(|row| row[name].as_str().unwrap())
                    .collect();
                names.sort_unstable_by(|a, b| b.cmp(a));
                let said: Vec<_> = rows.iter().map(|row| row[name].as_str().unwrap()).collect();
                assert_eq!((said, total), (names, expected.len()), "{query}");
            }
        }
        let (rows, _) = asked(&lab, &format!("{path}?sort=address"));
        let address = |row: &Value| {
            let at: std::net::SocketAddr = place(row).parse().unwrap();
            (at.ip(), at.port())
        };
        assert!(rows.is_sorted_by_key(address), "{path}");
    }
    // Without their real servers, but with how many there are.
    let (whole, _) = asked(&lab, "/v1/services");
    let (brief, _) = asked(&lab, "/v1/services?summary=true");
    for (whole, brief) in whole.iter().zip(&brief) {
        let reals = whole["reals"].as_array().unwrap();
        let impaired = reals.iter().filter(|real| real["why"].is_string()).count();
        assert_eq!(
            (&whole["name"], brief["real_servers"].as_u64()),
            (&brief["name"], Some(reals.len() as u64))
        );
        assert_eq!(brief["impaired_reals"], impaired as u64, "{brief}");
        assert!(brief["reals"].is_null());
    }
    for (query, said) in [
        ("/v1/services?sort=weight", "connections_total, packets"),
        ("/v1/reals?sort=impaired", "name, address, weight"),
        ("/v1/reals?sort=", "name, address"),
        ("/v1/services?brief=true&summary=true", "ask for one"),
        ("/v1/services?offset=-1", "offset"),
    ] {
        let answer = ask(&lab, &format!("GET {query}"), None, b"");
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.body.contains(said), "{query}: {}", answer.body);
    }
    daemon.stop();
}

#[test]
fn pages_of_pools_are_what_the_whole_list_has() {
    let lab = Lab::new();
    lab.receives("wan", &syns(16));
    let mut config = lab.config("", 3);
    for n in 0..9 {
        let ports = 1_000 + 100 * ((n * 5) % 9);
        config += &format!(
            "[[local_pool]]\nname = \"p{n}\"\naddresses = [\"10.0.0.{}\"]\nports = \"1024-{}\"\n",
            210 + n,
            1023 + ports,
        );
        config += &format!(
            "[[service]]\nname = \"s{}\"\naddress = \"192.0.2.{}\"\nport = 80\nprotocol = \"tcp\"\nmode = \"fullnat\"\nlocal_pool = \"p{n}\"\n",
            (n * 7) % 9,
            1 + n,
        );
        for real in 0..n % 3 + 1 {
            config += &format!("[[service.real]]\naddress = \"10.0.0.{}\"\n", 11 + real);
        }
    }
    let daemon = Daemon::start(&lab, &config);
    daemon.wait(|daemon| (daemon.show("workers")[0]["transmitted_packets"] == 16).then_some(()));
    let (whole, total) = asked(&lab, "/v1/pools");
    // Two of the service that all have, none of the one without a pool.
    assert_eq!((whole.len(), total), (2 + 18, 2 + 18));
    assert!(
        whole.iter().any(|row| row["used"].as_u64() > Some(0)),
        "{whole:?}"
    );
    for search in ["", "S4", "192.0.2.3:", "10.0.0.12"] {
        let key = |row: &Value| (row["service"].clone(), row["real"].clone());
        let found = |row: &&Value| {
            let service = row["service"].as_str().unwrap();
            let is_of_vip = search == "192.0.2.3:" && row["pool"] == "p2";
            service.contains(&search.to_lowercase())
                || row["real"].as_str().unwrap().contains(search)
                || is_of_vip
        };
        let expected: Vec<_> = whole.iter().filter(found).cloned().collect();
        assert!(!expected.is_empty(), "{search}");
        for by in ["pairs", "used", "closing", "highest", "exhausted"] {
            for sign in ["", "-"] {
                let mut expected = expected.clone();
                expected.sort_by_key(|row| number(row, &[by]));
                if sign == "-" {
                    expected.sort_by_key(|row| std::cmp::Reverse(number(row, &[by])));
                }
                for (offset, limit) in [(0, 4), (3, 100), (50, 10)] {
                    let page = format!(
                        "/v1/pools?search={search}&sort={sign}{by}&offset={offset}&limit={limit}"
                    );
                    let (rows, total) = asked(&lab, &page);
                    assert_eq!(total, expected.len(), "{page}");
                    let rows: Vec<_> = rows.iter().map(key).collect();
                    let of = expected.iter().skip(offset).take(limit);
                    assert_eq!(rows, of.map(key).collect::<Vec<_>>(), "{page}");
                }
            }
        }
    }
    let (rows, _) = asked(&lab, "/v1/pools?sort=name");
    assert!(rows.is_sorted_by_key(|row| row["service"].as_str().unwrap().to_owned()));
    assert_eq!(asked(&lab, "/v1/pools?impaired=true").1, 0);
    assert_eq!(asked(&lab, "/v1/pools?service=s4").1, 2);
    let answer = ask(&lab, "GET /v1/pools?sort=weight", None, b"");
    assert_eq!(answer.status, 400);
    assert!(
        answer.body.contains("name, address, pairs, used"),
        "{}",
        answer.body
    );
    daemon.stop();
}

//! Where the schedulers of many services begin.

use crate::config;
use crate::model::{Device, Model};
use crate::sched::Client;
use crate::stats::Stats;
use crate::units::{Time, WorkerId};
use crate::wire::Mac;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// How often each of three real servers gets the first connection of one of 300 services.
fn first_connections(scheduler: &str, beginnings: Option<u64>) -> Vec<usize> {
    let mut text = r#"
[[port]]
name = "lan"
device = "net_null0"
addresses = ["10.0.0.1/16"]
"#
    .to_owned();
    for n in 0..300 {
        text += &format!(
            "[[service]]\naddress = \"192.0.2.{}\"\nport = {}\nprotocol = \"tcp\"\nmode = \"dr\"\nscheduler = \"{scheduler}\"\n",
            n / 2 + 1,
            80 + n % 2
        );
        for real in 11..14 {
            text += &format!("[[service.real]]\naddress = \"10.0.0.{real}\"\n");
        }
    }
    let context = config::Context {
        cpus: None,
        devices: false,
    };
    let config = config::parse(&text, "test", &context).unwrap().config;
    let device = Device {
        mac: Mac([2, 0, 0, 0, 0, 1]),
        any_mac: false,
    };
    let stats = Arc::new(Stats::new(1).unwrap());
    let now = Time::default();
    let (model, _) =
        Model::with_beginnings(&config, vec![device], stats.clone(), 1, beginnings, now);
    let client = Client::new([203, 0, 113, 5], 40_000);
    let mut firsts: HashMap<IpAddr, usize> = HashMap::new();
    for service in model.services() {
        let cursor = service.cursor(WorkerId(0));
        let pick = service
            .scheduler
            .pick(&service.reals, client, cursor, &stats, &|_| true);
        *firsts
            .entry(service.reals[pick.unwrap()].address)
            .or_default() += 1;
    }
    firsts.into_values().collect()
}

#[test]
fn services_of_a_daemon_begin_at_different_real_servers_and_those_of_a_replay_at_the_last() {
    for scheduler in ["rr", "wrr", "lc", "wlc"] {
        for seed in 0..5 {
            let firsts = first_connections(scheduler, Some(seed));
            assert!(
                firsts.len() == 3 && firsts.iter().all(|&count| count > 60),
                "{scheduler}: {firsts:?}"
            );
        }
        assert_eq!(first_connections(scheduler, None), [300], "{scheduler}");
    }
}

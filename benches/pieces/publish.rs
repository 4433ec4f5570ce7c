//! The control thread: one real server's weight changes, from the new configuration to what every worker reads.

use crate::MAC;
use divan::Bencher;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use weir::config::{self, Config};
use weir::model::{Device, Model};
use weir::stats::Stats;
use weir::units::Time;

/// As many services, with four real servers each.
fn config(services: usize) -> Config {
    let text = r#"
        port = [{ name = "wan", device = "net_null0", addresses = ["10.0.0.1/24"] }]
        [[service]]
        address = "192.0.2.1"
        port = 1
        protocol = "udp"
        mode = "dr"
        real = [{ address = "10.0.0.11" }, { address = "10.0.0.12" }, { address = "10.0.0.13" }, { address = "10.0.0.14" }]
    "#;
    let context = config::Context {
        cpus: None,
        devices: false,
    };
    let mut config = config::parse(text, "bench.toml", &context)
        .expect("a good file")
        .config;
    let first = config.services[0].clone();
    config.services = (0..services)
        .map(|n| {
            let mut service = config::ServiceConfig::clone(&first);
            service.name = format!("service-{n}");
            service.address = Ipv4Addr::from_bits(0xc000_0201 + n as u32 / 50_000).into();
            service.port = 1 + (n % 50_000) as u16;
            Arc::new(service)
        })
        .collect();
    config
}

#[divan::bench(args = [10, 1_000, 100_000], sample_count = 20, sample_size = 1)]
fn change_one_service(bencher: Bencher, services: usize) {
    let config = config(services);
    let now = Time::default() + Duration::from_secs(1);
    let device = Device {
        mac: MAC,
        any_mac: false,
    };
    let (mut model, mut readers) = Model::new(
        &config,
        vec![device],
        Arc::new(Stats::new(1).unwrap()),
        1,
        now,
    );
    let mut weight = 1;
    let next = || {
        weight += 1;
        let mut next = config.clone();
        Arc::make_mut(&mut next.services[services / 2]).reals[1].weight = weight;
        next
    };
    bencher.with_inputs(next).bench_local_values(|next| {
        let changes = model
            .apply(next, now)
            .expect("a change that needs no restart");
        assert_eq!(changes.reals_reweighted, 1);
        readers[0].quiescent();
        model.tick(now);
    });
}

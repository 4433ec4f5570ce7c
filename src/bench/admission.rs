//! What `allow`, `deny` and `limits` cost a new connection, beside a service without them.

use super::cases::Figure;
use super::setup::Setup;
use super::{Bench, Traffic};
use crate::config::{ClientList, ServiceConfig, ServiceLimits};
use crate::packet::BURST;
use ipnet::IpNet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// `deny` with so many single addresses, of which no client has one; and as many, of which each has.
pub(super) fn acl(quick: bool, report: &mut dyn FnMut(Figure)) {
    for entries in [0, 100, 100_000] {
        let others = addresses(entries, 0x4000_0000);
        let nanos = new(quick, |service| {
            service.deny = (entries > 0).then(|| list(others));
        });
        report(Figure {
            case: "acl",
            what: format!("deny of {entries} others, 100 % forwarded"),
            nanos,
            per: "connection",
        });
    }
    for entries in [100, 100_000] {
        // The clients' own network in one prefix, behind the others.
        let clients = IpNet::new(Ipv4Addr::new(1, 0, 0, 0).into(), 8).map(|net| net.trunc());
        let all = addresses(entries - 1, 0x4000_0000).chain(clients);
        let nanos = new(quick, |service| service.allow = Some(list(all)));
        report(Figure {
            case: "acl",
            what: format!("allow of {entries}, 100 % forwarded"),
            nanos,
            per: "connection",
        });
    }
}

/// Limits that are never reached.
pub(super) fn limits(quick: bool, report: &mut dyn FnMut(Figure)) {
    let (most, fast) = (Some(100_000_000), Some(10_000_000));
    let none = ServiceLimits::default();
    let of_all = ServiceLimits {
        connections: most,
        new_per_second: fast,
        ..none
    };
    let of_each = ServiceLimits {
        per_client_connections: most,
        per_client_new_per_second: Some(1_000_000),
        ..none
    };
    let both = ServiceLimits {
        connections: most,
        new_per_second: fast,
        ..of_each
    };
    for (what, limits) in [
        ("none", None),
        ("of the service", Some(of_all)),
        ("of each client", Some(of_each)),
        ("of both", Some(both)),
    ] {
        let nanos = new(quick, |service| service.limits = limits);
        report(Figure {
            case: "limits",
            what: format!("{what}, 100 % forwarded"),
            nanos,
            per: "connection",
        });
    }
}

/// Single addresses, spread over a quarter of all from the first on.
fn addresses(count: usize, first: u32) -> impl Iterator<Item = IpNet> {
    let address = move |n: u32| Ipv4Addr::from_bits(first | n.wrapping_mul(0x9e37_79b1) >> 2);
    (0..count as u32).map(move |n| IpNet::from(std::net::IpAddr::V4(address(n))))
}

fn list(prefixes: impl IntoIterator<Item = IpNet>) -> ClientList {
    ClientList {
        prefixes: prefixes.into_iter().collect(),
        files: vec![],
    }
}

/// Nanoseconds of each new connection, steady, with expiry.
fn new(quick: bool, change: impl FnOnce(&mut ServiceConfig)) -> f64 {
    let flows = if quick { 512_000 } else { 2_000_000 };
    // The clock runs so that every flow's connection is over before the flow comes again.
    let step = Duration::from_nanos(BURST as u64 * 3_000_000_000 / flows as u64);
    let setup = Setup::new("nat", "udp");
    let mut config = setup.config();
    change(Arc::make_mut(&mut config.services[0]));
    let mut bench = Bench::new(&config, flows);
    let mut traffic = Traffic::new((0..flows).map(|n| setup.flow(n, 1)), None, 64);
    bench.run(&mut traffic, flows / BURST, step);
    let before = bench.made();
    let cost = bench.run(&mut traffic, flows / BURST, step);
    let made = (bench.made() - before) as usize;
    assert_eq!(made, flows, "each packet makes a connection");
    cost.nanos
}

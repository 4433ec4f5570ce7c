//! What tables have in the place of a configuration's parts.

use crate::config::{self, Config};
use crate::conn::Pool;
use crate::forward::tunnel::OuterSources;
use crate::net::{ByFamily, is_link_local};
use crate::service::ServiceKey;
use crate::tables::{Accepts, Owner, Port};
use crate::units::PortId;
use crate::wire::Mac;
use ipnet::{IpNet, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// A port as its device turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    pub mac: Mac,
    /// See [`Accepts::any`].
    pub any_mac: bool,
}

/// What a configured service is found by.
pub fn key(service: &config::ServiceConfig) -> ServiceKey {
    ServiceKey {
        protocol: service.protocol,
        address: service.address,
        port: service.port,
        last: service.last_port,
    }
}

/// Every address of a port or pool, but for link-local ones, which only their own port knows.
pub(super) fn owners(config: &Config) -> impl Iterator<Item = (IpAddr, Owner)> {
    let ports = config.ports.iter().enumerate().flat_map(|(n, port)| {
        let addresses = port.addresses.iter().map(IpNet::addr);
        addresses
            .filter(|address| !is_link_local(*address))
            .map(move |address| (address, Owner::Port(PortId(n as u8))))
    });
    let pools = config
        .pools
        .iter()
        .flat_map(|pool| pool.addresses.iter().map(|address| (*address, Owner::Pool)));
    ports.chain(pools)
}

/// The ports of a configuration.
pub(super) fn port_tables(config: &Config, devices: &[Device]) -> Arc<[Port]> {
    let ports = config.ports.iter().zip(devices).enumerate();
    let mut ports: Vec<Port> = ports
        .map(|(n, (port, device))| {
            let speaks_v6 = port.accept_ra
                || port.addresses.iter().any(|net| net.addr().is_ipv6())
                || config.routes.iter().any(|route| route.port == Some(n))
                || config
                    .neighbours
                    .iter()
                    .any(|neighbour| neighbour.port == Some(n))
                || config.host_peers.iter().any(|peer| peer.port == Some(n));
            port_table(port, *device, speaks_v6)
        })
        .collect();
    let sources: Vec<_> = ports.iter().map(outer_sources).collect();
    let first_v4 = sources.iter().find_map(|sources| sources.v4);
    let first_v6 = sources.iter().find_map(|sources| sources.v6);
    for (port, sources) in ports.iter_mut().zip(&sources) {
        port.outer_sources = OuterSources {
            v4: sources.v4.or(first_v4),
            v6: sources.v6.or(first_v6),
        };
    }
    ports.into()
}

/// The first address of each family that a port has, but for link-local ones, which no router brings errors to.
fn outer_sources(port: &Port) -> OuterSources {
    let addresses = port.addresses.iter().map(IpNet::addr);
    let mut addresses = addresses.filter(|address| !is_link_local(*address));
    OuterSources {
        v4: addresses.clone().find_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }),
        v6: addresses.find_map(|address| match address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        }),
    }
}

/// `speaks_v6`: the port has a link-local address (RFC 4291 section 2.8), one made of its MAC address unless the
/// configuration gives another.
fn port_table(port: &config::PortConfig, device: Device, speaks_v6: bool) -> Port {
    let mut addresses = port.addresses.clone();
    if speaks_v6 && !addresses.iter().any(|net| is_link_local(net.addr())) {
        let link_local = Ipv6Net::new_assert(device.mac.link_local(), 64);
        addresses.push(link_local.into());
    }
    Port {
        name: port.name.as_str().into(),
        mac: device.mac,
        accepts: match device.any_mac {
            true => Accepts::any(),
            false => Accepts::only(device.mac),
        },
        mtu: port.mtu,
        outer_sources: OuterSources::default(),
        accepts_ra: port.accept_ra,
        forwards: port.forward,
        hairpin: hairpin(&addresses, port.companion.is_some()),
        has_companion: port.companion.is_some(),
        broadcasts: addresses.iter().filter_map(broadcast).collect(),
        addresses: addresses.into(),
        announce: port.announce.as_slice().into(),
    }
}

/// The local pairs of nat clients in the subnets of their real servers: of a port's own address. Where the host uses that too,
/// they are beyond the ports that it takes for its own connections (the kernel's `ip_local_port_range`).
fn hairpin(addresses: &[IpNet], has_companion: bool) -> ByFamily<Option<Arc<Pool>>> {
    let first_port = if has_companion { 61_000 } else { 1024 };
    let of = |is_v6: bool| {
        let mut own = addresses.iter().map(IpNet::addr);
        let own = own.find(|own| own.is_ipv6() == is_v6 && !is_link_local(*own))?;
        let pool = Pool::new("hairpin".to_owned(), vec![own], (first_port, u16::MAX));
        Some(Arc::new(pool))
    };
    ByFamily {
        v4: of(false),
        v6: of(true),
    }
}

/// The broadcast address of a subnet; RFC 3021: a /31 has none.
fn broadcast(net: &IpNet) -> Option<Ipv4Addr> {
    match net {
        IpNet::V4(net) => (net.prefix_len() < 31).then(|| net.broadcast()),
        IpNet::V6(_) => None,
    }
}

pub(super) fn pool_table(pool: &config::LocalPool) -> Pool {
    Pool::new(pool.name.clone(), pool.addresses.clone(), pool.ports)
}

/// The port in whose subnet an address lies.
pub(super) fn port_of(config: &Config, address: IpAddr) -> Option<PortId> {
    let on_link =
        |port: &config::PortConfig| port.addresses.iter().any(|net| net.contains(&address));
    config
        .ports
        .iter()
        .position(on_link)
        .map(|n| PortId(n as u8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::stats::Stats;
    use crate::units::Time;

    fn parse(text: &str) -> Config {
        let context = config::Context {
            cpus: None,
            devices: false,
        };
        let loaded = config::parse(text, "test", &context);
        loaded.unwrap_or_else(|why| panic!("{why}")).config
    }

    #[test]
    fn a_port_that_speaks_ipv6_has_one_link_local_address() {
        let port = |n: u8, addresses: &str| {
            format!("[[port]]\nname = \"p{n}\"\ndevice = \"{n}\"\naddresses = [{addresses}]\n")
        };
        let text = [
            port(0, r#""10.0.0.1/24""#),
            port(1, r#""10.0.1.1/24", "2001:db8:1::1/64""#),
            port(2, r#""2001:db8:2::1/64", "fe80::1/64""#),
            port(3, r#""10.0.3.1/24""#),
            "[[route]]\nto = \"::/0\"\nvia = \"fe80::fe%p3\"\n".to_owned(),
        ];
        let config = parse(&text.concat());
        let device = |n| Device {
            mac: Mac([2, 0, 0, 0, 0, n]),
            any_mac: false,
        };
        let devices: Vec<_> = (0..4).map(device).collect();
        let ports = port_tables(&config, &devices);
        let link_local = |port: &Port| -> Vec<String> {
            let addresses = port.addresses.iter().map(IpNet::addr);
            let link_local = addresses.filter(|address| is_link_local(*address));
            link_local.map(|address| address.to_string()).collect()
        };
        let found: Vec<_> = ports.iter().map(link_local).collect();
        let expected: [&[&str]; 4] = [
            &[],
            &["fe80::ff:fe00:1"],
            &["fe80::1"],
            &["fe80::ff:fe00:3"],
        ];
        assert_eq!(found, expected);
        assert_eq!(*ports[1].broadcasts, [Ipv4Addr::new(10, 0, 1, 255)]);
        let owners: Vec<_> = owners(&config).map(|(address, _)| address).collect();
        assert!(
            !owners.iter().any(|address| is_link_local(*address)),
            "{owners:?}"
        );
    }

    #[test]
    fn the_first_ipv6_address_takes_a_restart() {
        const V4: &str =
            "[[port]]\nname = \"wan\"\ndevice = \"1\"\naddresses = [\"10.0.0.1/24\"]\n";
        const SERVICE: &str = "[[service]]\naddress = \"2001:db8:2::80\"\nport = 80\nprotocol = \"tcp\"\nmode = \"nat\"\n";
        let model = |text: &str| {
            let device = Device {
                mac: Mac([2, 0, 0, 0, 0, 1]),
                any_mac: false,
            };
            let stats = Arc::new(Stats::new(1).unwrap());
            Model::new(&parse(text), vec![device], stats, 1, Time::default()).0
        };
        let apply = |model: &mut Model, text: &str| model.apply(parse(text), Time::default());
        let both = V4.replace("/24\"", "/24\", \"2001:db8::1/64\"");
        let heeding = format!("{V4}accept_ra = true\n");
        let service = parse(&format!("{V4}{SERVICE}")).services[0].clone();

        let mut v4 = model(V4);
        for text in [&both, &heeding, &format!("{V4}{SERVICE}")] {
            let refused = apply(&mut v4, text).unwrap_err().to_string();
            assert_eq!(
                refused,
                "that there is no IPv6 address cannot change while weir runs: restart it to use the new file"
            );
        }
        let refused = v4.set_services(vec![service.clone()]).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("without room for IPv6 connections")
        );
        assert!(apply(&mut v4, &V4.replace("10.0.0.1", "10.0.0.2")).is_ok());

        // Once there was one, there is room.
        let mut v6 = model(&both);
        assert!(apply(&mut v6, V4).is_ok());
        assert!(v6.set_services(vec![service]).is_ok());
        assert!(apply(&mut v6, &both).is_ok());
    }
}

//! IPv6 addresses in the place of IPv4 ones, in configurations and frames: the twin of whatever is measured.

use crate::config::{Config, ModeConfig, ServiceConfig};
use crate::net::{ethertype, protocol};
use crate::wire::checksum;
use crate::wire::ethernet;
use crate::wire::ipv4;
use crate::wire::ipv6;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Its words cancel each other out: `sh` folds a twin's address to the IPv4 address that it is the twin of.
const PREFIX: u128 = 0x2001_0db8_2001_0db8 << 64;

/// The IPv6 address in the place of an IPv4 one.
pub fn twin(address: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(PREFIX | u128::from(address.to_bits()))
}

/// The IPv4 address whose twin that is.
pub fn original(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    (bits & !u128::from(u32::MAX) == PREFIX).then(|| Ipv4Addr::from_bits(bits as u32))
}

fn ip(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => twin(address).into(),
        IpAddr::V6(_) => address,
    }
}

/// A configuration's twin, and its own half beside it if `with_ipv4`.
pub fn config(of: &Config, with_ipv4: bool) -> Config {
    let net = |net: &IpNet| {
        IpNet::new(ip(net.addr()), net.prefix_len() + 96).expect("96 bits and at most 32")
    };
    let mut config = of.clone();
    if !with_ipv4 {
        config.services.clear();
        config.routes.clear();
        config.neighbours.clear();
        config.pools.clear();
    }
    for (port, before) in config.ports.iter_mut().zip(&of.ports) {
        if !with_ipv4 {
            port.addresses.clear();
        }
        port.addresses.extend(before.addresses.iter().map(net));
    }
    config.routes.extend(of.routes.iter().map(|route| {
        let mut route = route.clone();
        (route.to, route.via) = (net(&route.to), ip(route.via));
        route
    }));
    config
        .neighbours
        .extend(of.neighbours.iter().map(|neighbour| {
            let mut neighbour = neighbour.clone();
            neighbour.address = ip(neighbour.address);
            neighbour
        }));
    let name = |name: &str| match with_ipv4 {
        true => format!("{name}6"),
        false => name.to_owned(),
    };
    config.pools.extend(of.pools.iter().map(|pool| {
        let mut pool = pool.clone();
        pool.addresses.iter_mut().for_each(|own| *own = ip(*own));
        pool.name = name(&pool.name);
        pool
    }));
    config.services.extend(of.services.iter().map(|service| {
        let mut service = ServiceConfig::clone(service);
        service.name = name(&service.name);
        service.address = ip(service.address);
        if let ModeConfig::Fullnat { pool } = &mut service.mode {
            *pool = name(pool);
        }
        if let Some(persistence) = &mut service.persistence {
            persistence.prefix_v6 = persistence.prefix_v4 + 96;
        }
        for real in &mut service.reals {
            real.address = ip(real.address);
        }
        Arc::new(service)
    }));
    config
}

/// A configuration of fullnat services, with clients and VIPs of one family and real servers of the other.
pub fn crossing(of: &Config, is_six_first: bool) -> Config {
    let mut config = config(of, true);
    config.services = of.services.clone();
    for service in &mut config.services {
        let service = Arc::make_mut(service);
        if is_six_first {
            service.address = ip(service.address);
        } else {
            service
                .reals
                .iter_mut()
                .for_each(|real| real.address = ip(real.address));
            if let ModeConfig::Fullnat { pool } = &mut service.mode {
                pool.push('6');
            }
        }
        if let Some(persistence) = &mut service.persistence {
            persistence.prefix_v6 = persistence.prefix_v4 + 96;
        }
    }
    config
}

/// The twin of a frame of TCP or UDP; none of another, or of one with a wrong checksum.
pub fn frame(of: &[u8]) -> Option<Vec<u8>> {
    let ip = ipv4::in_frame(of)?;
    let is_flow = matches!(ip.protocol(), protocol::TCP | protocol::UDP);
    if !is_flow || !ip.is_l4_checksum_right() {
        return None;
    }
    let header = ipv6::Repr {
        traffic_class: of[15],
        hop_limit: ip.ttl(),
        ..ipv6::Repr::new(twin(ip.source()), twin(ip.destination()), ip.protocol())
    };
    let start = ethernet::HEADER_LEN + ipv6::HEADER_LEN;
    let mut frame = [&vec![0; start][..], ip.payload()].concat();
    frame[..12].copy_from_slice(&of[..12]);
    frame[12..14].copy_from_slice(&ethertype::IPV6.to_be_bytes());
    header.emit(&mut frame[ethernet::HEADER_LEN..])?;
    sum(
        &mut frame[start..],
        ip.protocol(),
        header.pseudo_header(ip.payload().len() as u32),
    );
    Some(frame)
}

/// Fills in the checksum of a segment or datagram.
pub fn sum(bytes: &mut [u8], protocol: u8, pseudo: u64) {
    let at = if protocol == protocol::TCP { 16 } else { 6 };
    bytes[at..at + 2].fill(0);
    let sum = !checksum::fold(pseudo + checksum::partial(bytes));
    let sum = if sum == 0 && protocol == protocol::UDP {
        0xffff
    } else {
        sum
    };
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

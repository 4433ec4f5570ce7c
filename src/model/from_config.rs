//! What tables have in the place of a configuration's parts.

use crate::config::{self, Config};
use crate::conn::Pool;
use crate::service::ServiceKey;
use crate::tables::{Accepts, Owner, Port};
use crate::units::PortId;
use crate::wire::Mac;
use std::net::IpAddr;

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
    }
}

/// Every address of a port or pool.
pub(super) fn owners(config: &Config) -> impl Iterator<Item = (IpAddr, Owner)> {
    let ports = config.ports.iter().enumerate().flat_map(|(n, port)| {
        port.addresses
            .iter()
            .map(move |net| (net.addr(), Owner::Port(PortId(n as u8))))
    });
    let pools = config
        .pools
        .iter()
        .flat_map(|pool| pool.addresses.iter().map(|address| (*address, Owner::Pool)));
    ports.chain(pools)
}

pub(super) fn port_table(port: &config::PortConfig, device: Device) -> Port {
    Port {
        name: port.name.as_str().into(),
        mac: device.mac,
        accepts: match device.any_mac {
            true => Accepts::any(),
            false => Accepts::only(device.mac),
        },
        mtu: port.mtu,
        has_companion: port.companion.is_some(),
        addresses: port.addresses.as_slice().into(),
        announce: port.announce.as_slice().into(),
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

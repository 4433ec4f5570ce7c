//! Ports, and the devices that they are on.

use super::Config;
use crate::net::{Mac, Vlan};
use crate::units::{DeviceId, PortId};
use ipnet::IpNet;

#[derive(Clone, Debug, PartialEq)]
pub struct PortConfig {
    pub name: String,
    /// A PCI address or a vdev string, as the EAL takes it.
    pub device: String,
    /// The port's addresses, each with the prefix length of its subnet.
    pub addresses: Vec<IpNet>,
    /// Networks beyond its subnets for whose VIPs and pool addresses the port answers ARP and neighbour solicitations.
    pub announce: Vec<IpNet>,
    /// A router on its link may have the default route of IPv6, by its advertisements.
    pub accept_ra: bool,
    /// Packets between hosts go on by this port, as by a router's, if they have come by one that forwards.
    pub forward: bool,
    /// The number of its device, which several ports may be on, each with another VLAN.
    pub on: DeviceId,
    pub vlan: Vlan,
    /// Of the device, as are the queues: the same for all ports on it.
    pub mac: Option<Mac>,
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    pub queues: Queues,
    /// The interface of the kernel through which the host itself uses the port.
    pub companion: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queues {
    Auto,
    Pairs(u16),
}

impl Config {
    /// Returns the ports on each device, by the devices' numbers, in the order of the file.
    pub fn devices(&self) -> Vec<Vec<PortId>> {
        let mut devices: Vec<Vec<PortId>> = Vec::new();
        for (n, port) in self.ports.iter().enumerate() {
            let count = devices.len().max(port.on.index() + 1);
            devices.resize(count, Vec::new());
            devices[port.on.index()].push(PortId(n as u8));
        }
        devices
    }

    pub fn port(&self, id: PortId) -> &PortConfig {
        &self.ports[id.index()]
    }
}

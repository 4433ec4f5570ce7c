//! The ports, which IPVS's and keepalived's files say nothing of.

use super::Options;
use super::emit::{list, quoted};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

/// The device that a port has until a person gives it another one: it needs no hardware.
const DEVICE: &str = "net_tap0,iface=weir0";
/// The ports: as told, and for real servers beyond their subnets with addresses that are made up.
pub(super) fn write_ports(
    out: &mut String,
    options: &Options,
    mut ports: Vec<(String, Vec<IpNet>)>,
    (hosts, taken): (&BTreeSet<IpAddr>, &BTreeSet<IpAddr>),
) {
    let device = options.device.as_deref().unwrap_or(DEVICE);
    if ports.is_empty() {
        ports.push(("lan".to_owned(), options.addresses.clone()));
    }
    let mut made_up = Vec::new();
    for host in hosts {
        let known = ports.iter().flat_map(|(_, nets)| nets).chain(&made_up);
        if !known.into_iter().any(|net| net.contains(host)) {
            made_up.extend(free_near(*host, taken));
        }
    }
    *out += "# The device is one for trying things out: weir forwards by a NIC that is given to it, see [[port]] in the manual.\n";
    if !made_up.is_empty() {
        let _ = writeln!(
            out,
            "# Made up, since real servers are there: {}. Write weir's own addresses and routes.",
            list(&made_up)
        );
    }
    if let Some((_, addresses)) = ports.first_mut() {
        addresses.extend(made_up);
    }
    for (n, (name, addresses)) in ports.iter().enumerate() {
        let device = match options.device {
            None if n > 0 => format!("net_tap{n},iface=weir{n}"),
            _ => device.to_owned(),
        };
        let _ = write!(
            out,
            "\n[[port]]\nname      = {}\ndevice    = {}\naddresses = {}\n",
            quoted(name),
            quoted(&device),
            list(addresses)
        );
    }
}

/// An address in the network of a host that nothing has, with that network's prefix.
pub(super) fn free_near(host: IpAddr, taken: &BTreeSet<IpAddr>) -> Option<IpNet> {
    if host.is_multicast() || host.is_loopback() || host.is_unspecified() {
        return None;
    }
    let bits = if host.is_ipv4() { 24 } else { 64 };
    let net = IpNet::new(host, bits).ok()?.trunc();
    let last = |n: u8| match net.network() {
        IpAddr::V4(it) => IpAddr::from((u32::from(it) | u32::from(n)).to_be_bytes()),
        IpAddr::V6(it) => IpAddr::from((u128::from(it) | u128::from(n)).to_be_bytes()),
    };
    let mut free = (1..=254).rev().map(last).filter(|it| !taken.contains(it));
    IpNet::new(free.next()?, bits).ok()
}

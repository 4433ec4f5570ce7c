//! How addresses, prefixes and ranges are written in the file.

use super::error::{Log, Span, quote};
use super::hints;
use super::value::{Value, text};
use crate::net::Mac;
use ipnet::{IpAddrRange, IpNet, Ipv4AddrRange, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use toml::de::DeValue;

fn not_yet(at: Span, what: &str, log: &mut Log) {
    log.error(
        at,
        format!("{what} is not supported by this version of weir yet"),
    )
    .help("use IPv4");
}

/// The address, if a host can have it.
fn host(written: &str, address: Ipv4Addr, at: Span, log: &mut Log) -> Option<Ipv4Addr> {
    let kind = match address.octets()[0] {
        0 => "an unspecified address", // RFC 1122 section 3.2.1.3: this network
        127 => "a loopback address",
        224..=239 => "a multicast address",
        255 if address.is_broadcast() => "the broadcast address",
        _ => return Some(address),
    };
    log.error(at, format!("{} is {kind}", quote(written)))
        .help("write the IPv4 address of one host");
    None
}

/// An address that a host can have.
fn address(written: &str, at: Span, log: &mut Log) -> Option<Ipv4Addr> {
    if let Ok(address) = written.parse() {
        return host(written, address, at, log);
    }
    if written.parse::<Ipv6Addr>().is_ok() {
        not_yet(at, &format!("the IPv6 address {}", quote(written)), log);
    } else if let Some((wrong, help)) = hints::of_address(log.key, written) {
        log.error(at, format!("{} {wrong}", quote(written)))
            .help(help);
    } else {
        log.error(at, format!("{} is no IPv4 address", quote(written)))
            .help("write four numbers from 0 to 255, such as \"192.0.2.80\"");
    }
    None
}

impl Value for IpAddr {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let written = text(value, "an address in quotes", at, log)?;
        address(written, at, log).map(IpAddr::V4)
    }
}

fn prefix(written: &str, at: Span, example: &str, log: &mut Log) -> Option<Ipv4Net> {
    if let Ok(prefix) = written.parse() {
        return Some(prefix);
    }
    if written.parse::<Ipv6Net>().is_ok() || written.parse::<Ipv6Addr>().is_ok() {
        not_yet(at, &format!("the IPv6 address {}", quote(written)), log);
    } else if written.parse::<Ipv4Addr>().is_ok() {
        log.error(at, format!("{} has no prefix length", quote(written)))
            .help(format!("write it as \"{example}\""));
    } else {
        log.error(
            at,
            format!("{} is no IPv4 address and prefix length", quote(written)),
        )
        .help(format!("write it as \"{example}\""));
    }
    None
}

/// A host's address and the length of its subnet's prefix: `198.51.100.1/24`.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostPrefix(pub IpNet);

impl Value for HostPrefix {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let written = text(value, "an address in quotes", at, log)?;
        let net = prefix(written, at, "198.51.100.1/24", log)?;
        host(written, net.addr(), at, log)?;
        // RFC 3021: both addresses of a /31 are hosts.
        let edge = match net.prefix_len() {
            0 => {
                log.error(at, format!("{} has a prefix length of 0", quote(written)))
                    .help("write the length of the subnet's prefix, from 1 to 32");
                return None;
            }
            31 | 32 => None,
            _ if net.addr() == net.network() => Some("network"),
            _ if net.addr() == net.broadcast() => Some("broadcast"),
            _ => None,
        };
        if let Some(edge) = edge {
            log.error(
                at,
                format!("{} is the {edge} address of its subnet", quote(written)),
            )
            .help(format!("write the port's own address in {}", net.trunc()));
            return None;
        }
        Some(HostPrefix(net.into()))
    }
}

/// A destination: `10.0.0.0/8`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination(pub IpNet);

impl Value for Destination {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let written = text(value, "a destination in quotes", at, log)?;
        let net = prefix(written, at, "10.0.0.0/8", log)?;
        if net.trunc() != net {
            log.error(
                at,
                format!("{} has bits set beyond its prefix", quote(written)),
            )
            .help(format!("write \"{}\"", net.trunc()));
            return None;
        }
        // A short prefix, such as each half of all addresses, may begin where no host can be.
        if net.prefix_len() >= 8 {
            host(written, net.addr(), at, log)?;
        }
        Some(Destination(net.into()))
    }
}

/// Reads the MAC address of a station.
impl Value for Mac {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        const HELP: &str = "write six hexadecimal bytes such as \"02:00:00:00:00:01\"";
        let written = text(value, "a MAC address in quotes", at, log)?;
        let byte = |text: &str| {
            let digits = text.len() == 2 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
            digits.then(|| u8::from_str_radix(text, 16).ok()).flatten()
        };
        let bytes: Option<Vec<u8>> = written.split(':').map(byte).collect();
        let bytes = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        let Some(mac) = bytes.map(Mac) else {
            log.error(at, format!("{} is no MAC address", quote(written)))
                .help(HELP);
            return None;
        };
        let wrong = match mac {
            mac if mac.is_station() => return Some(mac),
            mac if mac.is_multicast() => "a multicast MAC address",
            _ => "no host's MAC address",
        };
        log.error(at, format!("{} is {wrong}", quote(written)))
            .help("write a unicast MAC address");
        None
    }
}

/// The most addresses that one pool may have.
pub(super) const POOL_ADDRESSES: u32 = 65_536;

/// First and last address: `10.0.0.200`, or `10.0.0.204-10.0.0.207`.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddressRange(pub IpAddrRange);

fn range(first: Ipv4Addr, last: Ipv4Addr) -> AddressRange {
    AddressRange(IpAddrRange::V4(Ipv4AddrRange::new(first, last)))
}

impl Value for AddressRange {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let written = text(value, "an address or a range in quotes", at, log)?;
        if written.parse::<Ipv4Net>().is_ok() {
            log.error(at, format!("{} is a prefix", quote(written)))
                .help("write a range such as \"10.0.0.204-10.0.0.207\"");
            return None;
        }
        let Some((first, last)) = written.split_once('-') else {
            return address(written, at, log).map(|only| range(only, only));
        };
        let (first, last) = (
            address(first.trim(), at, log)?,
            address(last.trim(), at, log)?,
        );
        if first > last {
            log.error(at, format!("the range {} is reversed", quote(written)))
                .help(format!("write \"{last}-{first}\""));
            return None;
        }
        if last.to_bits() - first.to_bits() >= POOL_ADDRESSES {
            log.error(at, format!("the range {} is too large", quote(written)))
                .help(format!("write at most {POOL_ADDRESSES} addresses"));
            return None;
        }
        Some(range(first, last))
    }
}

/// First and last port: `1024-65535`.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortRange(pub u16, pub u16);

impl Value for PortRange {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        const HELP: &str =
            "write the first and the last port, from 1 to 65535, such as \"1024-65535\"";
        let written = text(value, "a range of ports in quotes", at, log)?;
        let (first, last) = written.split_once('-').unwrap_or((written, written));
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|&port| port > 0);
        let wrong = match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => return Some(PortRange(first, last)),
            (Some(_), Some(_)) => "is reversed",
            _ => "is no range of ports",
        };
        log.error(at, format!("{} {wrong}", quote(written)))
            .help(HELP);
        None
    }
}

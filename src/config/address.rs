//! How addresses, prefixes and ranges are written in the file.

use super::error::{Log, Span, quote};
use super::hints;
use super::value::{Value, plain_number, text};
use crate::net::{Mac, is_link_local};
use ipnet::{IpAddrRange, IpNet, Ipv4AddrRange, Ipv6AddrRange, Ipv6Net};
use std::net::{IpAddr, Ipv6Addr};
use toml::de::DeValue;

/// RFC 4291 section 2.5.6: of its /10 only the first /64 is in use.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);

/// What an address is that no single host has; none of a host's.
fn kind(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => match address.octets()[0] {
            0 => Some("an unspecified address"), // RFC 1122 section 3.2.1.3: this network
            127 => Some("a loopback address"),
            224..=239 => Some("a multicast address"),
            255 if address.is_broadcast() => Some("the broadcast address"),
            _ => None,
        },
        IpAddr::V6(address) => {
            let compatible = Ipv6Addr::from_bits(address.to_bits() & !u128::from(u32::MAX));
            match address {
                Ipv6Addr::UNSPECIFIED => Some("the unspecified address"),
                Ipv6Addr::LOCALHOST => Some("the loopback address"),
                _ if address.is_multicast() => Some("a multicast address"),
                _ if address.to_ipv4_mapped().is_some() => Some("an IPv4-mapped address"),
                // RFC 4291 section 2.5.5.1: deprecated.
                _ if compatible.is_unspecified() => Some("an IPv4-compatible address"),
                _ => None,
            }
        }
    }
}

/// The address, if a host can have it.
fn host(written: &str, address: IpAddr, at: Span, log: &mut Log) -> Option<IpAddr> {
    let Some(kind) = kind(address) else {
        return Some(address);
    };
    let embedded = match address {
        IpAddr::V6(address) => address.to_ipv4().filter(|_| kind.contains("IPv4")),
        IpAddr::V4(_) => None,
    };
    let help = match (address, embedded) {
        (_, Some(embedded)) => format!("write \"{embedded}\""),
        (IpAddr::V4(_), None) => "write the IPv4 address of one host".to_owned(),
        (IpAddr::V6(_), None) => "write the IPv6 address of one host".to_owned(),
    };
    log.error(at, format!("{} is {kind}", quote(written)))
        .help(help);
    None
}

/// Logs what is wrong with a text that is no address.
pub(super) fn no_address(written: &str, at: Span, log: &mut Log) {
    let zoned = written.split_once('%');
    if zoned.is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok()) {
        log.error(at, format!("{} names a zone", quote(written)))
            .help(
                "only the `via` of a [[route]] and the `address` of a [[neighbour]] or [[host_peer]] may have one",
            );
    } else if let Some((wrong, help)) = hints::of_address(log.key, written) {
        log.error(at, format!("{} {wrong}", quote(written)))
            .help(help);
    } else if written.contains(':') {
        log.error(at, format!("{} is no IPv6 address", quote(written)))
            .help("write up to eight groups of hexadecimal digits, such as \"2001:db8::80\"");
    } else {
        log.error(at, format!("{} is no IPv4 address", quote(written)))
            .help("write four numbers from 0 to 255, such as \"192.0.2.80\"");
    }
}

/// An address that a host can have, and that is the same on every link.
pub(super) fn address(written: &str, at: Span, log: &mut Log) -> Option<IpAddr> {
    let Ok(address) = written.parse() else {
        no_address(written, at, log);
        return None;
    };
    if is_link_local(address) {
        log.error(at, format!("{} is a link-local address", quote(written)))
            .help("write an address that is the same on every link");
        return None;
    }
    host(written, address, at, log)
}

impl Value for IpAddr {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        address(text(value, "an address in quotes", at, log)?, at, log)
    }
}

/// A host on a port's link, such as the next router: its address, and of a link-local one the port: `fe80::1%wan`.
#[derive(Clone, Debug)]
pub(super) struct OnLink {
    pub address: IpAddr,
    /// The port's name.
    pub zone: Option<String>,
}

impl Value for OnLink {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let written = text(value, "an address in quotes", at, log)?;
        let (plain, zone) = match written.split_once('%') {
            Some((plain, zone)) => (plain, Some(zone.to_owned())),
            None => (written, None),
        };
        let Ok(address) = plain.parse::<IpAddr>() else {
            no_address(plain, at, log);
            return None;
        };
        let (wrong, help) = match (is_link_local(address), &zone) {
            (true, Some(_)) if edges(link_of(address)).any(|(edge, _)| edge == address) => (
                "is the subnet-router anycast address of the link",
                "write the address of one host".to_owned(),
            ),
            (true, Some(_)) => return Some(OnLink { address, zone }),
            (false, None) => {
                let address = host(written, address, at, log)?;
                return Some(OnLink { address, zone });
            }
            (true, None) => (
                "is link-local, and does not say on which port",
                format!("write the port's name after it, as in \"{address}%wan\""),
            ),
            (false, Some(_)) => (
                "names a zone, but is not link-local",
                format!("write \"{address}\""),
            ),
        };
        log.error(at, format!("{} {wrong}", quote(written)))
            .help(help);
        None
    }
}

fn prefix(written: &str, at: Span, examples: [&str; 2], log: &mut Log) -> Option<IpNet> {
    if let Ok(prefix) = written.parse() {
        return Some(prefix);
    }
    let help = |example: &str| format!("write it as \"{example}\"");
    let [v4, v6] = examples;
    match written.parse() {
        Ok(IpAddr::V4(_)) => log
            .error(at, format!("{} has no prefix length", quote(written)))
            .help(help(v4)),
        Ok(IpAddr::V6(_)) => log
            .error(at, format!("{} has no prefix length", quote(written)))
            .help(help(v6)),
        Err(_) if written.contains(':') => log
            .error(
                at,
                format!("{} is no IPv6 address and prefix length", quote(written)),
            )
            .help(help(v6)),
        Err(_) => log
            .error(
                at,
                format!("{} is no IPv4 address and prefix length", quote(written)),
            )
            .help(help(v4)),
    };
    None
}

/// A host's address and the length of its subnet's prefix: `198.51.100.1/24`, `2001:db8:1::1/64`.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostPrefix(pub IpNet);

impl Value for HostPrefix {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let written = text(value, "an address in quotes", at, log)?;
        let net = prefix(written, at, ["198.51.100.1/24", "2001:db8:1::1/64"], log)?;
        host(written, net.addr(), at, log)?;
        if net.prefix_len() == 0 {
            let most = net.max_prefix_len();
            log.error(at, format!("{} has a prefix length of 0", quote(written)))
                .help(format!(
                    "write the length of the subnet's prefix, from 1 to {most}"
                ));
            return None;
        }
        let link = IpNet::V6(Ipv6Net::new_assert(LINK_LOCAL, 64));
        if is_link_local(net.addr()) && net.trunc() != link {
            log.error(
                at,
                format!("{} is not in the subnet of link-local addresses", quote(written)),
            )
            .help(format!(
                "write an address in {link} with its prefix length (RFC 4291 section 2.5.6), such as \"fe80::1/64\""
            ));
            return None;
        }
        if let Some(edge) = edges(net).find(|(edge, _)| *edge == net.addr()) {
            let (_, edge) = edge;
            log.error(
                at,
                format!("{} is the {edge} address of its subnet", quote(written)),
            )
            .help(format!("write the port's own address in {}", net.trunc()));
            return None;
        }
        Some(HostPrefix(net))
    }
}

/// The subnet of a link-local address (RFC 4291 section 2.5.6).
fn link_of(address: IpAddr) -> IpNet {
    IpNet::new_assert(address, 64).trunc()
}

/// The addresses of a subnet that no single host has, and what they are.
pub(super) fn edges(net: IpNet) -> impl Iterator<Item = (IpAddr, &'static str)> {
    let (first, last) = match net {
        // RFC 3021: both addresses of a /31 are hosts.
        IpNet::V4(_) if net.prefix_len() < 31 => (Some("network"), Some("broadcast")),
        // RFC 4291 section 2.6.1: every router of the subnet has it; RFC 6164: but not of a /127.
        IpNet::V6(_) if net.prefix_len() < 127 => (Some("subnet-router anycast"), None),
        IpNet::V4(_) | IpNet::V6(_) => (None, None),
    };
    let edge = |address, name: Option<_>| name.map(|name| (address, name));
    let both = [edge(net.network(), first), edge(net.broadcast(), last)];
    both.into_iter().flatten()
}

/// A destination: `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination(pub IpNet);

impl Value for Destination {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let written = text(value, "a destination in quotes", at, log)?;
        let net = prefix(written, at, ["10.0.0.0/8", "2001:db8::/32"], log)?;
        if net.trunc() != net {
            log.error(
                at,
                format!("{} has bits set beyond its prefix", quote(written)),
            )
            .help(format!("write \"{}\"", net.trunc()));
            return None;
        }
        if is_link_local(net.addr()) {
            log.error(at, format!("{} is link-local", quote(written)))
                .help("every port has its own link-local addresses, without a route");
            return None;
        }
        // A short prefix, such as each half of all addresses, may begin where no host can be, and go on beyond that.
        let is_of_one_kind = kind(net.network()) == kind(net.broadcast());
        if net.prefix_len() >= 8 || is_of_one_kind {
            host(written, net.addr(), at, log)?;
        }
        Some(Destination(net))
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

impl Value for AddressRange {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let written = text(value, "an address or a range in quotes", at, log)?;
        if written.parse::<IpNet>().is_ok() {
            log.error(at, format!("{} is a prefix", quote(written)))
                .help("write a range such as \"10.0.0.204-10.0.0.207\"");
            return None;
        }
        let (first, last) = match written.split_once('-') {
            Some((first, last)) => (
                address(first.trim(), at, log)?,
                address(last.trim(), at, log)?,
            ),
            None => {
                let only = address(written, at, log)?;
                (only, only)
            }
        };
        let (range, beyond) = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => (
                IpAddrRange::V4(Ipv4AddrRange::new(first, last)),
                u128::from(last.to_bits().saturating_sub(first.to_bits())),
            ),
            (IpAddr::V6(first), IpAddr::V6(last)) => (
                IpAddrRange::V6(Ipv6AddrRange::new(first, last)),
                last.to_bits().saturating_sub(first.to_bits()),
            ),
            (_, _) => {
                log.error(
                    at,
                    format!(
                        "the range {} begins in one family and ends in the other",
                        quote(written)
                    ),
                )
                .help("write two addresses of the same family");
                return None;
            }
        };
        if first > last {
            log.error(at, format!("the range {} is reversed", quote(written)))
                .help(format!("write \"{last}-{first}\""));
            return None;
        }
        if beyond >= u128::from(POOL_ADDRESSES) {
            log.error(at, format!("the range {} is too large", quote(written)))
                .help(format!("write at most {POOL_ADDRESSES} addresses"));
            return None;
        }
        Some(AddressRange(range))
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
        let port = |text: &str| plain_number(text.trim()).filter(|&port| port > 0);
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

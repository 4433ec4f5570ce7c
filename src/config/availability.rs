//! When a service has too few real servers, what it does then, and whether the host announces its VIP.

use super::address;
use super::error::{Log, Span, quote};
use super::value::{Int, Value, Word, plain_number, text, wrong_type};
use super::{PortConfig, RouteConfig};
use ipnet::IpNet;
use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};
use toml::de::DeValue;

/// The keys of a service that say when it has too few available real servers, and what it does then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AvailabilityConfig {
    pub min_healthy: Share,
    /// Once below its minimum, a service needs so many more to come back.
    pub hysteresis: Share,
    pub when_below: WhenBelow,
}

impl Default for AvailabilityConfig {
    fn default() -> Self {
        AvailabilityConfig {
            min_healthy: Share::Count(1),
            hysteresis: Share::Count(0),
            when_below: WhenBelow::Refuse,
        }
    }
}

/// How many real servers: a number, or a part of those whose weight in the file is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Share {
    Count(u16),
    /// 0 … 100.
    Percent(u8),
}

impl Share {
    /// The number that is meant, of so many; a part of a real server counts as a whole one.
    pub fn of(self, all: usize) -> usize {
        match self {
            Share::Count(count) => usize::from(count),
            Share::Percent(percent) => (all * usize::from(percent)).div_ceil(100),
        }
    }
}

impl Display for Share {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Share::Count(count) => write!(f, "{count}"),
            Share::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// What becomes of new connections while a service is below its minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WhenBelow {
    /// They go to all real servers, healthy or not.
    All,
    /// They go to the fallback servers.
    Fallback,
    /// They are refused, as by a service without real servers.
    Refuse,
}

impl WhenBelow {
    /// As `when_below` has it.
    pub const fn name(self) -> &'static str {
        match self {
            WhenBelow::All => "all",
            WhenBelow::Fallback => "fallback",
            WhenBelow::Refuse => "refuse",
        }
    }
}

impl Word for WhenBelow {
    const WHAT: &'static str = "policy";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("all", WhenBelow::All),
        ("fallback", WhenBelow::Fallback),
        ("refuse", WhenBelow::Refuse),
    ];
}

/// Whether the host has a route to a VIP, for a routing daemon to announce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Announce {
    /// weir makes none: whatever announces the VIP does so all the time.
    #[default]
    Always,
    /// While the service is served.
    WhileHealthy,
}

impl Word for Announce {
    const WHAT: &'static str = "policy";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("always", Announce::Always),
        ("while-healthy", Announce::WhileHealthy),
    ];
}

/// `min_healthy`: at least one real server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Least(pub Share);

/// `hysteresis`: 0 is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct More(pub Share);

fn share<const LEAST: u32>(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Share> {
    match value {
        DeValue::Integer(_) => {
            Int::<LEAST, 65_535>::read(value, at, log).map(|count| Share::Count(count.0 as u16))
        }
        DeValue::String(written) => {
            let percent = written.strip_suffix('%').and_then(plain_number);
            let percent = percent.filter(|it| (LEAST..=100).contains(&u32::from(*it)));
            if percent.is_none() {
                log.error(
                    at,
                    format!("{} is no share of real servers for `{}`", quote(written), log.key),
                )
                .help(format!(
                    "write a number of real servers such as 2, or a part of them in quotes, from \"{LEAST}%\" to \"100%\""
                ));
            }
            percent.map(|percent| Share::Percent(percent as u8))
        }
        _ => {
            wrong_type(
                value,
                "a number of real servers, or a part such as \"50%\"",
                at,
                log,
            );
            None
        }
    }
}

impl Value for Least {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        share::<1>(value, at, log).map(Least)
    }
}

impl Value for More {
    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        share::<0>(value, at, log).map(More)
    }
}

/// A host's address, with a port or without: `10.0.0.99:80`, `[2001:db8::99]:80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostPort {
    pub address: IpAddr,
    pub port: Option<u16>,
}

impl Value for HostPort {
    const LIST: &'static str = "a list in brackets, such as [\"10.0.0.99:80\"]";

    fn read(value: &DeValue<'_>, at: Span, log: &mut Log) -> Option<Self> {
        let written = text(value, "an address and port in quotes", at, log)?;
        if let Ok(found) = written.parse::<SocketAddr>() {
            let address = address::address(&found.ip().to_string(), at, log)?;
            return Some(HostPort {
                address,
                port: Some(found.port()),
            });
        }
        let is_address = written.parse::<IpAddr>().is_ok();
        let has_port = written.starts_with('[') || written.matches(':').count() == 1;
        if has_port && !is_address {
            log.error(at, format!("{} is no address and port", quote(written)))
                .help("write \"10.0.0.99:80\" or \"[2001:db8::99]:80\"");
            return None;
        }
        Some(HostPort {
            address: address::address(written, at, log)?,
            port: None,
        })
    }
}

/// The places of the ports that serve a VIP: those whose subnet or `announce` holds it; where none does, the port by which the
/// most specific configured route leads there, since its router is behind that.
pub fn home_ports(ports: &[PortConfig], routes: &[RouteConfig], vip: IpAddr) -> Vec<usize> {
    let holds = |port: &PortConfig| {
        let mut nets = port.addresses.iter().chain(&port.announce);
        nets.any(|net| net.contains(&vip))
    };
    let places = ports.iter().enumerate();
    let held: Vec<_> = places
        .filter(|(_, port)| holds(port))
        .map(|(n, _)| n)
        .collect();
    if !held.is_empty() {
        return held;
    }
    let on_link = |via: IpAddr| {
        let holds = |net: &IpNet| net.contains(&via);
        ports
            .iter()
            .position(|port| port.addresses.iter().any(holds))
    };
    let routes = routes.iter().filter(|route| route.to.contains(&vip));
    let best = routes.max_by_key(|route| route.to.prefix_len());
    let port = best.and_then(|route| route.port.or_else(|| on_link(route.via)));
    port.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_real_server_counts_as_a_whole_one() {
        for (share, all, expected) in [
            (Share::Count(3), 2, 3),
            (Share::Percent(50), 0, 0),
            (Share::Percent(50), 1, 1),
            (Share::Percent(50), 3, 2),
            (Share::Percent(50), 4, 2),
            (Share::Percent(1), 10, 1),
            (Share::Percent(100), 7, 7),
            (Share::Percent(0), 7, 0),
        ] {
            assert_eq!(share.of(all), expected, "{share} of {all}");
        }
    }
}

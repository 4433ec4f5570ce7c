//! What a service does with too few real servers, its fallback servers, and where its VIP is announced.

use super::service::{Check, Places};
use crate::config::availability::{HostPort, home_ports};
use crate::config::error::{At, quote};
use crate::config::raw;
use crate::config::value::{Given, Int};
use crate::config::{
    Announce, AvailabilityConfig, PortConfig, RealConfig, RouteConfig, ServiceConfig, Share,
    WhenBelow,
};
use std::net::{IpAddr, SocketAddr};

/// What a server of `fallback` is to its service, in messages.
const FALLBACK: &str = "fallback server";

/// The ports, and the routes by which some serve VIPs beyond their subnets.
pub(super) struct Homes<'a> {
    ports: &'a [PortConfig],
    routes: &'a [RouteConfig],
    /// All of them are known.
    is_complete: bool,
}

impl<'a> Homes<'a> {
    pub(super) fn new(
        ports: &'a [PortConfig],
        routes: &'a [RouteConfig],
        is_complete: bool,
    ) -> Self {
        Homes {
            ports,
            routes,
            is_complete,
        }
    }

    /// Those of which nothing is known.
    pub(super) fn unknown() -> Self {
        Homes::new(&[], &[], false)
    }

    /// Whether there is nothing to say of where a service's VIP is announced.
    pub(super) fn fit(&self, service: &ServiceConfig) -> bool {
        service.announce == Announce::Always || self.lacks(service.address).is_none()
    }

    /// Why the host can have no route to a VIP, and what to do; none: it can.
    fn lacks(&self, vip: IpAddr) -> Option<(String, String)> {
        if !self.is_complete {
            return None;
        }
        let homes = home_ports(self.ports, self.routes, vip);
        let homes = || homes.iter().map(|place| &self.ports[*place]);
        if homes().any(|port| port.companion.is_some()) {
            return None;
        }
        let Some(first) = homes().next() else {
            let why = format!("no port serves the VIP `{vip}`");
            let help = "give a port an address in its subnet, or the network as `announce`, or add a [[route]] to the router that brings its packets";
            return Some((why, help.to_owned()));
        };
        let why = format!(
            "the port {} serves the VIP `{vip}` and has no companion, on which the host could have a route",
            quote(&first.name)
        );
        let help = format!("add `companion = \"weir-{}\"` to the port", first.name);
        Some((why, help))
    }
}

impl Check<'_> {
    /// The fallback servers of a service whose port this is.
    pub(super) fn fallback(
        &mut self,
        raw: &raw::Service,
        port: Option<u16>,
        reals: &[RealConfig],
    ) -> Vec<RealConfig> {
        let list = raw.fallback.ok().map_or(&[][..], |list| &list.value.items);
        let mode = raw.mode.get();
        let mut places = Places::default();
        let mut fallback = Vec::with_capacity(list.len());
        for &At { value: server, at } in list {
            let HostPort {
                address,
                port: written,
            } = server;
            if self.real_family(FALLBACK, address, at, raw) {
                self.real_address(FALLBACK, address, at, mode);
            }
            let given = written.map_or(Given::No, |port| {
                let value = Int(port.into());
                Given::Yes(At { value, at })
            });
            let Some(port) = self.real_port(FALLBACK, &given, port, mode) else {
                continue;
            };
            let place = SocketAddr::new(address, port);
            let is_real = |real: &RealConfig| (real.address, real.port) == (address, port);
            if reals.iter().any(is_real) {
                self.log
                    .error(
                        at,
                        format!("the fallback server `{place}` is a real server of this service"),
                    )
                    .help("write another server: this one gets new connections whenever it is available");
                continue;
            }
            if let Some(other) = places.insert((address, port), at) {
                self.log
                    .error(
                        at,
                        format!("a second fallback server `{place}` in this service"),
                    )
                    .note(other, "the first is here")
                    .help("remove one of the two");
                continue;
            }
            fallback.push(RealConfig {
                address,
                port,
                weight: 1,
                thresholds: None,
                server_id: None,
            });
        }
        fallback
    }

    /// When a service has too few real servers, and what it does then.
    pub(super) fn availability(
        &mut self,
        raw: &raw::Service,
        (reals, are_known): (&[RealConfig], bool),
        fallback: &[RealConfig],
    ) -> AvailabilityConfig {
        let nothing = AvailabilityConfig::default();
        let has_fallback = !fallback.is_empty() || !raw.fallback.complete();
        let min_healthy = raw.min_healthy.get().map(|it| it.0);
        if let (Some(given), Some(Share::Count(least))) = (raw.min_healthy.ok(), min_healthy) {
            let all = reals.iter().filter(|real| real.weight > 0).count();
            if usize::from(least) > all && are_known {
                let few = match all {
                    1 => "1 real server".to_owned(),
                    all => format!("{all} real servers"),
                };
                self.log
                    .warning(
                        given.at,
                        format!("`min_healthy = {least}` with {few} of a weight above 0: the service is always below it"),
                    )
                    .help("write at most the number of real servers, or a part of them such as \"50%\"");
            }
        }
        // A minimum is set to spread the load over enough real servers, down or not. Without one, those that are down get nothing.
        let default = match (has_fallback, min_healthy) {
            (true, _) => WhenBelow::Fallback,
            (false, Some(_)) => WhenBelow::All,
            (false, None) => nothing.when_below,
        };
        match raw.when_below.ok() {
            Some(given) if given.value == WhenBelow::Fallback && !has_fallback => {
                self.log
                    .error(
                        given.at,
                        "`when_below = \"fallback\"` without fallback servers",
                    )
                    .help("add `fallback = [\"10.0.0.99:80\"]`, or write \"all\" or \"refuse\"");
            }
            Some(given) if given.value == WhenBelow::Refuse && has_fallback => {
                self.log
                    .warning(
                        given.at,
                        "`when_below = \"refuse\"`: the servers of `fallback` are never used",
                    )
                    .help("write \"fallback\", or remove `fallback`");
            }
            _ => {}
        }
        AvailabilityConfig {
            min_healthy: min_healthy.unwrap_or(nothing.min_healthy),
            hysteresis: raw.hysteresis.get().map_or(nothing.hysteresis, |it| it.0),
            when_below: raw.when_below.get().unwrap_or(default),
        }
    }

    /// Whether the host has a route to the service's VIP.
    pub(super) fn announce(&mut self, raw: &raw::Service) -> Announce {
        let Some(given) = raw.announce.ok() else {
            return Announce::default();
        };
        if given.value == Announce::WhileHealthy
            && let Some(vip) = raw.address.get()
            && let Some((why, help)) = self.around.homes.lacks(vip)
        {
            self.log.error(given.at, why).help(help);
        }
        given.value
    }
}

//! Hosts that the file names one by one: neighbours, and routers that the host talks to.

use super::network::Network;
use crate::config::address::OnLink;
use crate::config::error::{At, Log, Span};
use crate::config::{HostPeer, StaticNeighbour, raw};
use foldhash::{HashMap, HashMapExt};
use std::net::IpAddr;

/// What is said of a table's hosts.
struct Hosts {
    /// What each is called.
    what: &'static str,
    /// What to write in the place of an address of weir's own.
    help: &'static str,
    /// Where each was first listed. Each port's link has link-local addresses of its own.
    first: HashMap<(IpAddr, Option<usize>), Span>,
}

impl Hosts {
    fn new(what: &'static str, help: &'static str) -> Self {
        Hosts {
            what,
            help,
            first: HashMap::new(),
        }
    }

    /// Refuses a host that is in the table already, weir's own, or none. Returns the place of the port that its zone names,
    /// and whether nothing is wrong.
    fn check(
        &mut self,
        network: &Network,
        At { value: host, at }: &At<OnLink>,
        log: &mut Log,
    ) -> (Option<usize>, bool) {
        let (what, address, at) = (self.what, host.address, *at);
        let zone = host.zone.as_deref();
        let port = zone.and_then(|zone| network.port_of_zone(zone, at, log));
        if zone.is_some() && port.is_none() {
            return (None, false);
        }
        if let Some(other) = self.first.insert((address, port), at) {
            let on = if port.is_some() { " on this port" } else { "" };
            log.error(at, format!("a second {what} `{address}`{on}"))
                .note(other, "the first is here")
                .help("remove one of the two");
            return (port, false);
        }
        let is_right = network.not_own(what, (address, port), at, self.help, log)
            && network.no_edge(address, at, log);
        (port, is_right)
    }
}

impl Network {
    pub(super) fn neighbours(
        &self,
        raw: Vec<At<raw::Neighbour>>,
        log: &mut Log,
    ) -> Vec<StaticNeighbour> {
        let mut hosts = Hosts::new("neighbour", "write the address of another host");
        let mut neighbours = Vec::new();
        for At {
            value: neighbour, ..
        } in raw
        {
            let Some(host) = neighbour.address.ok() else {
                continue;
            };
            let (port, is_right) = hosts.check(self, host, log);
            let address = host.value.address;
            if is_right && port.is_none() && !self.connected(address) {
                log.warning(
                    host.at,
                    format!("the neighbour `{address}` lies in no port's subnet: it is never used"),
                )
                .help("a neighbour is a host that a port reaches directly");
            }
            if let Some(mac) = neighbour.mac.get() {
                neighbours.push(StaticNeighbour { address, port, mac });
            }
        }
        neighbours
    }

    /// The host's peers. They may be beyond routers: BGP and multihop BFD are.
    pub(super) fn host_peers(&self, raw: Vec<At<raw::HostPeer>>, log: &mut Log) -> Vec<HostPeer> {
        if let Some(peer) = raw.first()
            && !self.may_have_companion
        {
            log.warning(
                peer.at,
                "no port has a companion: the host gets no packets of its peers",
            )
            .help("give a port the key `companion`, or remove every [[host_peer]]");
        }
        let help = "write the address of the router that the host talks to";
        let mut hosts = Hosts::new("host peer", help);
        let mut peers = Vec::new();
        for At { value: peer, .. } in raw {
            let Some(host) = peer.address.ok() else {
                continue;
            };
            let (port, _) = hosts.check(self, host, log);
            peers.push(HostPeer {
                address: host.value.address,
                port,
                ttl_security: peer.ttl_security.get().map(|hops| hops.0 as u8),
            });
        }
        peers
    }
}

//! The kernel's side of the companions, by netlink: addresses and routes as configured, and nothing else.

use super::vips::Vips;
use crate::config::Config;
use crate::log::{self, Reports};
use crate::net::is_link_local;
use crate::via::{Leading, NEXT_HOP};
use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteType,
};
use rtnetlink::{AddressMessageBuilder, Handle, MulticastGroup, RouteMessageBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tokio::sync::watch;

/// weir's routes among the kernel's (`rtm_protocol`): a number that neither the kernel nor iproute2 names.
const PROTOCOL: u8 = 0xe1;
/// A worse metric than any that people give: a route of weir's must not take the host's own way from it.
pub(super) const METRIC: u32 = 4096;

/// One companion interface.
#[derive(Clone, Debug)]
pub struct Interface {
    pub name: String,
    /// The kernel's number of it.
    pub index: u32,
    /// The place of its port in the configuration.
    pub port: usize,
}

/// What an interface is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    addresses: BTreeSet<IpNet>,
    routes: BTreeSet<Way>,
}

/// A route of weir's own by an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    to: IpNet,
    via: IpAddr,
    /// To private addresses of health checks, by a next hop that there is not: the largest packets.
    mtu: Option<u32>,
}

/// Keeps the kernel in step with the configuration.
pub struct Kernel {
    interfaces: Vec<Interface>,
    wanted: watch::Sender<Vec<Wanted>>,
    vips: Vips,
}

impl Kernel {
    /// Gives the interfaces their addresses and routes, and a task that does so after every change. Within the control
    /// thread's runtime.
    ///
    /// # Errors
    /// For a person: what the kernel refused.
    pub async fn start(interfaces: Vec<Interface>, config: &Config) -> Result<Kernel, String> {
        // What others do to the interfaces: set down, they lose their routes.
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (connection, handle, mut events) = rtnetlink::new_multicast_connection(&groups)
            .map_err(|error| format!("no netlink socket: {error}"))?;
        tokio::spawn(connection);
        let wanted = wanted(&interfaces, config, &[]);
        for (interface, wanted) in interfaces.iter().zip(&wanted) {
            settle(&handle, interface, wanted).await?;
        }
        let vips = Vips::start(&interfaces).await?;
        let losses = vips.sender();
        let (sender, mut receiver) = watch::channel(wanted);
        let of = interfaces.clone();
        tokio::spawn(async move {
            // An interface that others change again and again.
            let mut failures = Reports::new(of.len());
            loop {
                tokio::select! {
                    changed = receiver.changed() => if changed.is_err() { return },
                    event = events.next() => match event {
                        Some((event, _)) if !is_of(&event.payload, &of) => continue,
                        Some(_) => {}
                        None => return,
                    },
                }
                let wanted = receiver.borrow_and_update().clone();
                Vips::may_be_lost(&losses);
                for (interface, wanted) in of.iter().zip(&wanted) {
                    if let Err(error) = settle(&handle, interface, wanted).await
                        && let Some(said) = failures.note(interface.index, error, log::now())
                    {
                        tracing::error!(times = said.count, "{}", said.last);
                    }
                }
            }
        });
        Ok(Kernel {
            interfaces,
            wanted: sender,
            vips,
        })
    }

    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The VIPs that the host is to have routes to, each on the companions of the ports that serve it.
    pub fn announce(&self, config: &Config, vips: &BTreeSet<IpAddr>) {
        self.vips.announce(&self.interfaces, config, vips);
    }

    /// Whether the host has a route to the VIP, which a routing daemon may announce.
    pub fn is_announced(&self, vip: IpAddr) -> bool {
        self.vips.is_announced(vip)
    }

    /// Takes the routes to VIPs back: a routing daemon hears of it before weir stops forwarding.
    pub async fn withdraw(&mut self) {
        self.vips.withdraw().await;
    }

    /// The configuration, or the routes to private addresses, may be others; whatever else became of the interfaces is put right as well.
    pub fn update(&self, config: &Config, checks: &[Leading]) {
        let wanted = wanted(&self.interfaces, config, checks);
        self.wanted.send_replace(wanted);
    }
}

fn wanted(interfaces: &[Interface], config: &Config, checks: &[Leading]) -> Vec<Wanted> {
    let of = |interface: &Interface| {
        let Some(port) = config.ports.get(interface.port) else {
            return Wanted::default();
        };
        let routes = config.routes.iter().filter(|route| match route.port {
            Some(named) => named == interface.port,
            None => port.addresses.iter().any(|net| net.contains(&route.via)),
        });
        let routes = routes.map(|route| Way {
            to: route.to,
            via: route.via,
            mtu: None,
        });
        let checks = checks.iter();
        let checks = checks.filter(|leading| leading.port.index() == interface.port);
        let checks = checks.map(|leading| Way {
            to: leading.to,
            via: leading.gateway,
            mtu: Some(leading.mtu.into()),
        });
        Wanted {
            addresses: port.addresses.iter().copied().collect(),
            routes: routes.chain(checks).collect(),
        }
    };
    interfaces.iter().map(of).collect()
}

/// Brings one interface to what it is to have.
async fn settle(handle: &Handle, interface: &Interface, wanted: &Wanted) -> Result<(), String> {
    let name = &interface.name;
    let failed = |what: String| {
        move |error: rtnetlink::Error| format!("companion {name:?}: {what}: {error}")
    };
    let asked = |error: rtnetlink::Error| format!("companion {name:?}: asking the kernel: {error}");

    // Set down it has no routes; when it is set up again, that is an event.
    let links = handle.link().get().match_index(interface.index).execute();
    let links: Vec<_> = links.try_collect().await.map_err(asked)?;
    if !links
        .iter()
        .any(|link| link.header.flags.contains(LinkFlags::Up))
    {
        return Ok(());
    }
    let find = || async {
        let found = handle.address().get();
        let found = found.set_link_index_filter(interface.index).execute();
        let found: Vec<_> = found.try_collect().await.map_err(asked)?;
        Ok::<_, String>(found.iter().filter_map(address).collect::<BTreeMap<_, _>>())
    };
    let found = find().await?;
    let is_left = |(net, is_given): &(&IpNet, &bool)| **is_given && !wanted.addresses.contains(net);
    for (net, _) in found.iter().filter(is_left) {
        let done = handle.address().del(removal(*net, interface.index));
        let done = done.execute().await;
        done.map_err(failed(format!("removing {net}")))?;
    }
    // With the first address of a subnet the kernel removes the others as well.
    let found = find().await?;
    let is_missing = |net: &&IpNet| !found.contains_key(net);
    for net in wanted.addresses.iter().filter(is_missing) {
        let add = handle.address();
        let mut add = add.add(interface.index, net.addr(), net.prefix_len());
        // weir detects duplicates, and would answer the kernel's own question.
        if net.addr().is_ipv6() {
            add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        let hint = match net.addr().is_ipv6() {
            true => format!(" (net.ipv6.conf.{name}.disable_ipv6 has to be 0)"),
            false => String::new(),
        };
        let done = add.execute().await;
        done.map_err(failed(format!("adding {net}{hint}")))?;
    }

    let mut found = BTreeSet::new();
    for all in [
        RouteMessageBuilder::<Ipv4Addr>::new().build(),
        RouteMessageBuilder::<Ipv6Addr>::new().build(),
    ] {
        let routes = handle.route().get(all).execute();
        let routes: Vec<_> = routes.try_collect().await.map_err(asked)?;
        let own = routes
            .iter()
            .filter_map(|message| route(message, interface.index));
        found.extend(own);
    }
    for way in found.difference(&wanted.routes) {
        let message = route_message(*way, interface.index);
        let done = handle.route().del(message).execute().await;
        done.map_err(failed(format!("removing the route to {}", way.to)))?;
    }
    // The kernel forgets them with the link.
    for way in wanted.routes.iter().filter(|way| way.mtu.is_some()) {
        let neighbour = handle.neighbours().add(interface.index, way.via);
        let neighbour = neighbour.link_layer_address(&NEXT_HOP.0);
        let done = neighbour.state(NeighbourState::Permanent).replace();
        let done = done.execute().await;
        done.map_err(failed(format!("adding the neighbour {}", way.via)))?;
    }
    for way in wanted.routes.difference(&found) {
        let message = route_message(*way, interface.index);
        let done = handle.route().add(message).execute().await;
        let Way { to, via, .. } = way;
        done.map_err(failed(format!("adding the route to {to} via {via}")))?;
    }
    Ok(())
}

/// What takes an address away from an interface.
fn removal(net: IpNet, index: u32) -> AddressMessage {
    match net {
        IpNet::V4(net) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(net.addr(), net.prefix_len())
            .build(),
        IpNet::V6(net) => AddressMessageBuilder::<Ipv6Addr>::new()
            .index(index)
            .address(net.addr(), net.prefix_len())
            .build(),
    }
}

/// A route of weir's own, whose gateway is of the family of its destination.
fn route_message(Way { to, via, mtu }: Way, index: u32) -> RouteMessage {
    let mut message = match (to, via) {
        (IpNet::V4(to), IpAddr::V4(via)) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.network(), to.prefix_len())
            .gateway(via)
            .output_interface(index)
            .priority(METRIC)
            .build(),
        (IpNet::V6(to), IpAddr::V6(via)) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(to.network(), to.prefix_len())
            .gateway(via)
            .output_interface(index)
            .priority(METRIC)
            .build(),
        (_, _) => unreachable!("the configuration has no such route"),
    };
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.header.kind = RouteType::Unicast;
    if let Some(mtu) = mtu {
        // The next hop is in no subnet.
        message.header.flags |= RouteFlags::Onlink;
        let metrics = vec![RouteMetric::Mtu(mtu)];
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

/// Whether an event is about one of the interfaces.
fn is_of(event: &NetlinkPayload<RouteNetlinkMessage>, interfaces: &[Interface]) -> bool {
    let index = match event {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message),
        ) => message.header.index,
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewAddress(message) | RouteNetlinkMessage::DelAddress(message),
        ) => message.header.index,
        _ => return false,
    };
    interfaces.iter().any(|interface| interface.index == index)
}

/// The address of a message, with its prefix, and whether it was given to the interface. The kernel makes others itself: link-local
/// ones, and what follows from routers' advertisements.
fn address(message: &AddressMessage) -> Option<(IpNet, bool)> {
    let is_given = message.header.flags.contains(AddressHeaderFlags::Permanent);
    let attributes = message.attributes.iter();
    let address = attributes
        .filter_map(|attribute| match attribute {
            AddressAttribute::Local(address @ IpAddr::V4(_)) => Some(*address),
            AddressAttribute::Address(address @ IpAddr::V6(_)) => Some(*address),
            _ => None,
        })
        .next()?;
    let is_own = address.is_ipv4() || is_given && !is_link_local(address);
    let net = IpNet::new(address, message.header.prefix_len).ok()?;
    Some((net, is_own))
}

fn route(message: &RouteMessage, interface: u32) -> Option<Way> {
    if message.header.protocol != RouteProtocol::from(PROTOCOL) {
        return None;
    }
    let (mut to, mut via, mut by, mut mtu) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::Oif(index) => by = Some(*index),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let via = via.filter(|_| by == Some(interface))?;
    let all = match via {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let to = IpNet::new(to.unwrap_or(all), message.header.destination_prefix_length);
    let to = to.ok()?;
    Some(Way { to, via, mtu })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

//! The kernel's side of the companions, by netlink: addresses and routes as configured, and nothing else.

use crate::config::{Config, RouteConfig};
use crate::log::{self, Reports};
use crate::net::ipv4;
use futures_util::{StreamExt, TryStreamExt};
use ipnet::{IpNet, Ipv4Net};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType,
};
use rtnetlink::{AddressMessageBuilder, Handle, MulticastGroup, RouteMessageBuilder};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use tokio::sync::watch;

/// weir's routes among the kernel's (`rtm_protocol`): a number that neither the kernel nor iproute2 names.
const PROTOCOL: u8 = 0xe1;
/// A worse metric than any that people give: a route of weir's must not take the host's own way from it.
const METRIC: u32 = 4096;

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
    addresses: BTreeSet<Ipv4Net>,
    /// With their gateways.
    routes: BTreeSet<(Ipv4Net, Ipv4Addr)>,
}

/// Keeps the kernel in step with the configuration.
pub struct Kernel {
    interfaces: Vec<Interface>,
    wanted: watch::Sender<Vec<Wanted>>,
}

impl Kernel {
    /// Gives the interfaces their addresses and routes, and a task that does so after every change. Within the control
    /// thread's runtime.
    ///
    /// # Errors
    /// For a person: what the kernel refused.
    pub async fn start(interfaces: Vec<Interface>, config: &Config) -> Result<Kernel, String> {
        // What others do to the interfaces: set down, they lose their routes.
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr];
        let (connection, handle, mut events) = rtnetlink::new_multicast_connection(&groups)
            .map_err(|error| format!("no netlink socket: {error}"))?;
        tokio::spawn(connection);
        let wanted = wanted(&interfaces, config);
        for (interface, wanted) in interfaces.iter().zip(&wanted) {
            settle(&handle, interface, wanted).await?;
        }
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
        })
    }

    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The configuration may be another one; whatever else became of the interfaces is put right as well.
    pub fn update(&self, config: &Config) {
        self.wanted.send_replace(wanted(&self.interfaces, config));
    }
}

fn wanted(interfaces: &[Interface], config: &Config) -> Vec<Wanted> {
    let of = |interface: &Interface| {
        let Some(port) = config.ports.get(interface.port) else {
            return Wanted::default();
        };
        let v4 = |net: IpNet| match net {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        };
        // What the kernel is given is IPv4 alone so far.
        let by_port = |via: &IpAddr| port.addresses.iter().any(|net| net.contains(via));
        let routes = config.routes.iter().filter(|route| by_port(&route.via));
        let v4_route = |route: &RouteConfig| Some((v4(route.to)?, ipv4(route.via)));
        Wanted {
            addresses: port.addresses.iter().copied().filter_map(v4).collect(),
            routes: routes.filter_map(v4_route).collect(),
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
        Ok::<_, String>(found.iter().filter_map(address).collect::<BTreeSet<_>>())
    };
    let found = find().await?;
    for net in found.difference(&wanted.addresses) {
        let message = AddressMessageBuilder::<Ipv4Addr>::new()
            .index(interface.index)
            .address(net.addr(), net.prefix_len())
            .build();
        let done = handle.address().del(message).execute().await;
        done.map_err(failed(format!("removing {net}")))?;
    }
    // With the first address of a subnet the kernel removes the others as well.
    let found = find().await?;
    for net in wanted.addresses.difference(&found) {
        let add = handle.address();
        let add = add.add(interface.index, IpAddr::V4(net.addr()), net.prefix_len());
        let done = add.execute().await;
        done.map_err(failed(format!("adding {net}")))?;
    }

    let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let found = handle.route().get(all).execute();
    let found: Vec<_> = found.try_collect().await.map_err(asked)?;
    let found: BTreeSet<_> = found
        .iter()
        .filter_map(|message| route(message, interface.index))
        .collect();
    let message = |to: &Ipv4Net, via: &Ipv4Addr| {
        RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.network(), to.prefix_len())
            .gateway(*via)
            .output_interface(interface.index)
            .protocol(RouteProtocol::from(PROTOCOL))
            .kind(RouteType::Unicast)
            .priority(METRIC)
            .build()
    };
    for (to, via) in found.difference(&wanted.routes) {
        let done = handle.route().del(message(to, via)).execute().await;
        done.map_err(failed(format!("removing the route to {to}")))?;
    }
    for (to, via) in wanted.routes.difference(&found) {
        let done = handle.route().add(message(to, via)).execute().await;
        done.map_err(failed(format!("adding the route to {to} via {via}")))?;
    }
    Ok(())
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

/// The IPv4 address of a message, with its prefix.
fn address(message: &AddressMessage) -> Option<Ipv4Net> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(IpAddr::V4(address)) => {
                Ipv4Net::new(*address, message.header.prefix_len).ok()
            }
            _ => None,
        })
}

/// A route of weir's own by an interface: its destination and gateway.
fn route(message: &RouteMessage, interface: u32) -> Option<(Ipv4Net, Ipv4Addr)> {
    if message.header.protocol != RouteProtocol::from(PROTOCOL) {
        return None;
    }
    let (mut to, mut via, mut by) = (Ipv4Addr::UNSPECIFIED, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => to = *address,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => via = Some(*address),
            RouteAttribute::Oif(index) => by = Some(*index),
            _ => {}
        }
    }
    let net = Ipv4Net::new(to, message.header.destination_prefix_length).ok()?;
    Some((net, via.filter(|_| by == Some(interface))?))
}

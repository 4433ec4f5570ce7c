//! Routes to VIPs in the host's table, for a routing daemon to announce. Apart from the companions' addresses and routes, since a
//! VIP that is no longer served is taken back within milliseconds, whatever else there is to ask the kernel.

use super::kernel::Interface;
use crate::config::{Config, home_ports};
use crate::log::{self, Reports};
use futures_util::future::pending;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Error, Handle, MulticastGroup, RouteMessageBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// These routes among the kernel's (`rtm_protocol`): what a routing daemon's filter knows them by, and a number that neither
/// the kernel nor iproute2 names.
pub(crate) const PROTOCOL: u8 = 0xe2;
/// As that of weir's other routes.
const METRIC: u32 = super::kernel::METRIC;
/// Between two tries at what the kernel refused.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a stop waits until they are gone.
const AT_STOP: Duration = Duration::from_millis(500);

/// A VIP on an interface, by the kernel's number of that.
type Place = (IpAddr, u32);

/// What others do to the host's routes.
type Events = BoxStream<'static, NetlinkPayload<RouteNetlinkMessage>>;

/// The routes as they are to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    places: BTreeSet<Place>,
    /// Counts what may have taken routes away.
    losses: u64,
}

/// Keeps the kernel's routes to VIPs as they are to be.
pub(super) struct Vips {
    wanted: watch::Sender<Wanted>,
    given: watch::Receiver<BTreeSet<Place>>,
}

impl Vips {
    /// Removes what a killed weir has left on the interfaces, and starts a task that makes routes. Within the control thread's
    /// runtime.
    ///
    /// # Errors
    /// For a person: what the kernel refused.
    pub(super) async fn start(interfaces: &[Interface]) -> Result<Vips, String> {
        let groups = [MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
        let (connection, handle, events) = rtnetlink::new_multicast_connection(&groups)
            .map_err(|error| format!("no netlink socket: {error}"))?;
        tokio::spawn(connection);
        let events = events.map(|(event, _)| event.payload).boxed();
        for (place, route) in left(&handle, interfaces).await? {
            let gone = handle.route().del(route).execute().await;
            if let Err(error) = gone.or_else(|error| is_done(error, libc::ESRCH)) {
                return Err(format!(
                    "removing the route to {} of a weir before: {error}",
                    place.0
                ));
            }
        }
        let names = interfaces.iter().map(|it| (it.index, it.name.clone()));
        let names: BTreeMap<u32, String> = names.collect();
        let (wanted, receiver) = watch::channel(Wanted::default());
        let (sender, given) = watch::channel(BTreeSet::new());
        tokio::spawn(follow(handle, names, receiver, events, sender));
        Ok(Vips { wanted, given })
    }

    /// The VIPs that are to have routes, on the companions of the ports that serve them.
    pub(super) fn announce(
        &self,
        interfaces: &[Interface],
        config: &Config,
        vips: &BTreeSet<IpAddr>,
    ) {
        let places = vips.iter().flat_map(|vip| {
            let homes = home_ports(&config.ports, &config.routes, *vip);
            let here = interfaces.iter().filter(move |it| homes.contains(&it.port));
            here.map(|it| (*vip, it.index))
        });
        let places: BTreeSet<Place> = places.collect();
        self.wanted.send_if_modified(|wanted| {
            let is_other = wanted.places != places;
            wanted.places = places;
            is_other
        });
    }

    /// Whether the kernel has a route to the VIP.
    pub(super) fn is_announced(&self, vip: IpAddr) -> bool {
        let given = self.given.borrow();
        let mut of_it = given.range((vip, 0)..=(vip, u32::MAX));
        of_it.next().is_some()
    }

    /// Something else was done to an interface: routes may be lost.
    pub(super) fn may_be_lost(sender: &watch::Sender<Wanted>) {
        sender.send_modify(|wanted| wanted.losses += 1);
    }

    /// What [`may_be_lost`](Self::may_be_lost) takes.
    pub(super) fn sender(&self) -> watch::Sender<Wanted> {
        self.wanted.clone()
    }

    /// Takes all routes back, and waits until they are gone.
    pub(super) async fn withdraw(&mut self) {
        self.wanted.send_modify(|wanted| wanted.places.clear());
        let gone = self.given.wait_for(BTreeSet::is_empty);
        // What is left goes with the interfaces.
        let _ = tokio::time::timeout(AT_STOP, gone).await;
    }
}

async fn follow(
    handle: Handle,
    names: BTreeMap<u32, String>,
    mut wanted: watch::Receiver<Wanted>,
    mut events: Events,
    given: watch::Sender<BTreeSet<Place>>,
) {
    let (mut losses, mut retry) = (0, None::<Instant>);
    let mut failures = Reports::new(names.len());
    let name = |place: &Place| names.get(&place.1).map_or("", String::as_str);
    loop {
        let again = async {
            match retry {
                Some(at) => tokio::time::sleep_until(at).await,
                None => pending().await,
            }
        };
        let mut is_lost = false;
        tokio::select! {
            biased;
            changed = wanted.changed() => if changed.is_err() { return },
            event = events.next() => match event.as_ref().map(Lost::of) {
                Some(Lost::Nothing) => continue,
                // One that is withdrawn is no longer given, one given again meanwhile is found there.
                Some(Lost::One(place)) => {
                    if !given.send_if_modified(|have| have.remove(&place)) {
                        continue;
                    }
                }
                Some(Lost::Replaced(vip, by)) => {
                    if !given.send_if_modified(|have| take_other(have, vip, by)) {
                        continue;
                    }
                }
                Some(Lost::Unknown) => is_lost = true,
                None => {
                    tracing::error!("the host's routes can no longer be followed: those to VIPs that others remove are not made anew");
                    events = futures_util::stream::pending().boxed();
                }
            },
            () = again => {}
        }
        let want = wanted.borrow_and_update().clone();
        let mut have = given.borrow().clone();
        let mut there = None;
        let mut has_failed = false;
        let mut failed = |place: &Place, what: &str, error: &dyn Display| {
            has_failed = true;
            let said = format!(
                "companion {:?}: {what} the route to {}: {error}",
                name(place),
                place.0
            );
            if let Some(said) = failures.note(place.1, said, log::now()) {
                tracing::error!(times = said.count, "{}", said.last);
            }
        };
        for place in have.clone().difference(&want.places) {
            let gone = handle.route().del(message(*place)).execute().await;
            let gone = gone.or_else(|error| is_done(error, libc::ESRCH));
            match gone.or_else(|error| is_done(error, libc::ENODEV)) {
                Ok(()) => {
                    have.remove(place);
                    let (vip, companion) = (place.0, name(place));
                    tracing::info!(%vip, companion, "the VIP's route is withdrawn");
                }
                Err(error) => failed(place, "removing", &error),
            }
        }
        is_lost |= std::mem::replace(&mut losses, want.losses) != want.losses;
        for place in &want.places {
            if have.contains(place) && !is_lost {
                continue;
            }
            let made = handle.route().add(message(*place)).execute().await;
            let made = match made {
                Ok(()) => Ok(Holder::Itself),
                // One with its destination and metric, whatever it does.
                Err(error) if says(&error, libc::EEXIST) => {
                    let found = match there.take() {
                        Some(found) => found,
                        None => routes(&handle).await,
                    };
                    let held = found.as_ref().map_or_else(
                        |error: &String| Holder::Other(error.clone()),
                        |routes| holder(routes, *place, &want.places),
                    );
                    there = Some(found);
                    Ok(held)
                }
                Err(error) => Err(error),
            };
            match made {
                Ok(Holder::Itself) => {
                    if have.insert(*place) {
                        let (vip, companion) = (place.0, name(place));
                        tracing::info!(%vip, companion, "the VIP has a route to be announced");
                    }
                }
                Ok(Holder::Companion) => {
                    have.remove(place);
                }
                Ok(Holder::Other(said)) => {
                    have.remove(place);
                    failed(place, "adding", &said);
                }
                // Set down or removed, an interface has no routes; when it is set up again, that is told.
                Err(error) if says(&error, libc::ENETDOWN) || says(&error, libc::ENODEV) => {
                    have.remove(place);
                }
                Err(error) => {
                    have.remove(place);
                    failed(place, "adding", &error);
                }
            }
        }
        retry = has_failed.then(|| Instant::now() + AGAIN);
        given.send_replace(have);
    }
}

/// What an event says of the routes to VIPs.
enum Lost {
    Nothing,
    One(Place),
    /// A route has come that may have taken the place of one to the VIP: the kernel tells of no removal then. It is that of
    /// this place, if weir's.
    Replaced(IpAddr, Option<Place>),
    /// Events were lost, and routes may be.
    Unknown,
}

impl Lost {
    fn of(event: &NetlinkPayload<RouteNetlinkMessage>) -> Lost {
        match event {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRoute(route)) => {
                place(route).map_or(Lost::Nothing, Lost::One)
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
                match rival(route) {
                    Some(vip) => Lost::Replaced(vip, place(route)),
                    None => Lost::Nothing,
                }
            }
            NetlinkPayload::InnerMessage(_) => Lost::Nothing,
            _ => Lost::Unknown,
        }
    }
}

/// Takes the places of a VIP but this one away, and says whether there were any.
fn take_other(have: &mut BTreeSet<Place>, vip: IpAddr, but: Option<Place>) -> bool {
    let before = have.len();
    have.retain(|place| place.0 != vip || Some(*place) == but);
    have.len() != before
}

/// Whose route it is that keeps one from being added.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    Itself,
    /// weir's on another companion: of two with one destination and metric the kernel takes one.
    Companion,
    /// For a person.
    Other(String),
}

fn holder(routes: &[RouteMessage], of: Place, wanted: &BTreeSet<Place>) -> Holder {
    let own = || routes.iter().filter_map(place).filter(|it| it.0 == of.0);
    if own().any(|it| it == of) {
        return Holder::Itself;
    }
    if own().any(|it| wanted.contains(&it)) {
        return Holder::Companion;
    }
    let other = routes.iter().find(|route| rival(route) == Some(of.0));
    let what = other.map_or_else(String::new, |route| {
        let kind = format!("{:?}", route.header.kind).to_lowercase();
        format!(" ({kind}, protocol {})", route.header.protocol)
    });
    Holder::Other(format!(
        "another route{what} has this destination and metric {METRIC}; weir tries again until that is removed"
    ))
}

/// The address that alone a route leads to, where it has the table and the metric of those to VIPs.
fn rival(message: &RouteMessage) -> Option<IpAddr> {
    let has_metric = message
        .attributes
        .contains(&RouteAttribute::Priority(METRIC));
    if message.header.table != RouteHeader::RT_TABLE_MAIN || !has_metric {
        return None;
    }
    let vip = destination(message)?;
    let bits = if vip.is_ipv4() { 32 } else { 128 };
    (message.header.destination_prefix_length == bits).then_some(vip)
}

/// Whether the kernel only says that it is so already.
fn is_done(error: Error, already: i32) -> Result<(), Error> {
    match says(&error, already) {
        true => Ok(()),
        false => Err(error),
    }
}

/// Whether the kernel's error is this one.
fn says(error: &Error, number: i32) -> bool {
    matches!(error, Error::NetlinkError(message) if message.raw_code() == -number)
}

/// The routes to VIPs that are there.
async fn left(
    handle: &Handle,
    interfaces: &[Interface],
) -> Result<Vec<(Place, RouteMessage)>, String> {
    let routes = routes(handle).await?.into_iter();
    let own = routes.filter_map(|route| Some((place(&route)?, route)));
    let is_ours = |index| interfaces.iter().any(|it| it.index == index);
    Ok(own.filter(|((_, index), _)| is_ours(*index)).collect())
}

/// All routes of the host.
async fn routes(handle: &Handle) -> Result<Vec<RouteMessage>, String> {
    let mut found = Vec::new();
    for all in [
        RouteMessageBuilder::<Ipv4Addr>::new().build(),
        RouteMessageBuilder::<Ipv6Addr>::new().build(),
    ] {
        let routes = handle.route().get(all).execute();
        let routes: Vec<_> = routes
            .try_collect()
            .await
            .map_err(|error| format!("asking the kernel for routes: {error}"))?;
        found.extend(routes);
    }
    Ok(found)
}

fn message((vip, index): Place) -> RouteMessage {
    let mut message = match vip {
        IpAddr::V4(vip) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(vip, 32)
            .output_interface(index)
            .priority(METRIC)
            .scope(RouteScope::Link)
            .build(),
        IpAddr::V6(vip) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(vip, 128)
            .output_interface(index)
            .priority(METRIC)
            .build(),
    };
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.header.kind = RouteType::Unicast;
    message
}

fn place(message: &RouteMessage) -> Option<Place> {
    if message.header.protocol != RouteProtocol::from(PROTOCOL) {
        return None;
    }
    let by = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
    destination(message).zip(by)
}

fn destination(message: &RouteMessage) -> Option<IpAddr> {
    let mut attributes = message.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(it)) => Some(IpAddr::V4(*it)),
        RouteAttribute::Destination(RouteAddress::Inet6(it)) => Some(IpAddr::V6(*it)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIPS: [&str; 2] = ["192.0.2.80", "2001:db8:2::80"];

    fn vip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// weir's own route, changed.
    fn changed(place: Place, how: impl FnOnce(&mut RouteMessage)) -> RouteMessage {
        let mut route = message(place);
        how(&mut route);
        route
    }

    fn with_metric(route: &mut RouteMessage, metric: Option<u32>) {
        let attributes = &mut route.attributes;
        attributes.retain(|it| !matches!(it, RouteAttribute::Priority(_)));
        attributes.extend(metric.map(RouteAttribute::Priority));
    }

    #[test]
    fn the_holder_of_a_destination_is_told_by_who_made_it_and_where() {
        for text in VIPS {
            let (vip, other) = (vip(text), vip(VIPS[usize::from(text == VIPS[0])]));
            let wanted = BTreeSet::from([(vip, 1), (vip, 2), (other, 3)]);
            let by = |protocol: u8| {
                changed((vip, 9), |route| {
                    route.header.protocol = RouteProtocol::from(protocol);
                    route.header.kind = RouteType::BlackHole;
                })
            };
            let said = |what: &str| {
                Holder::Other(format!(
                    "another route{what} has this destination and metric {METRIC}; weir tries again until that is removed"
                ))
            };
            for (routes, expected) in [
                (vec![message((vip, 1))], Holder::Itself),
                (vec![message((vip, 2)), message((vip, 1))], Holder::Itself),
                (vec![message((vip, 2))], Holder::Companion),
                (vec![by(186), message((vip, 2))], Holder::Companion),
                // A weir before has left it on an interface that is no companion.
                (
                    vec![message((vip, 7))],
                    said(&format!(
                        " (unicast, protocol {})",
                        RouteProtocol::from(PROTOCOL)
                    )),
                ),
                (
                    vec![message((other, 3)), by(186)],
                    said(&format!(
                        " (blackhole, protocol {})",
                        RouteProtocol::from(186)
                    )),
                ),
                // Gone by now, or none of those that are in the way.
                (vec![], said("")),
                (vec![message((other, 1))], said("")),
            ] {
                assert_eq!(holder(&routes, (vip, 1), &wanted), expected, "{routes:?}");
            }
        }
    }

    /// As short text.
    fn lost(event: &NetlinkPayload<RouteNetlinkMessage>) -> String {
        match Lost::of(event) {
            Lost::Nothing => "nothing".to_owned(),
            Lost::One((vip, index)) => format!("{vip} on {index}"),
            Lost::Replaced(vip, by) => format!("{vip} by {by:?}"),
            Lost::Unknown => "unknown".to_owned(),
        }
    }

    #[test]
    fn what_the_kernel_tells_of_routes_is_what_is_lost() {
        use RouteNetlinkMessage::{DelRoute, NewRoute};
        for text in VIPS {
            let vip = vip(text);
            let own = (vip, 4);
            let foreign = |how: fn(&mut RouteMessage)| {
                changed(own, |route| {
                    route.header.protocol = RouteProtocol::from(186);
                    how(route);
                })
            };
            for (message, expected) in [
                (DelRoute(message(own)), format!("{vip} on 4")),
                // Others' routes come and go.
                (DelRoute(foreign(|_| {})), "nothing".to_owned()),
                (NewRoute(foreign(|_| {})), format!("{vip} by None")),
                (NewRoute(message(own)), format!("{vip} by Some(({vip}, 4))")),
                // What stands beside weir's takes the place of none.
                (
                    NewRoute(foreign(|route| with_metric(route, Some(METRIC + 1)))),
                    "nothing".to_owned(),
                ),
                (
                    NewRoute(foreign(|route| with_metric(route, None))),
                    "nothing".to_owned(),
                ),
                (
                    NewRoute(foreign(|route| route.header.table = 100)),
                    "nothing".to_owned(),
                ),
                (
                    NewRoute(foreign(|route| route.header.destination_prefix_length -= 1)),
                    "nothing".to_owned(),
                ),
                (
                    NewRoute(foreign(|route| {
                        route
                            .attributes
                            .retain(|it| !matches!(it, RouteAttribute::Destination(_)))
                    })),
                    "nothing".to_owned(),
                ),
            ] {
                let event = NetlinkPayload::InnerMessage(message);
                assert_eq!(lost(&event), expected, "{event:?}");
            }
        }
        assert_eq!(lost(&NetlinkPayload::Overrun(vec![])), "unknown");
        assert_eq!(lost(&NetlinkPayload::Noop), "unknown");
    }

    #[test]
    fn only_the_places_of_the_vip_are_given_up_for_another_route() {
        let [one, other] = VIPS.map(vip);
        let all = BTreeSet::from([(one, 1), (one, 2), (other, 1)]);
        for (but, left) in [
            (None, BTreeSet::from([(other, 1)])),
            (Some((one, 2)), BTreeSet::from([(one, 2), (other, 1)])),
            (Some((one, 3)), BTreeSet::from([(other, 1)])),
        ] {
            let mut have = all.clone();
            assert!(take_other(&mut have, one, but));
            assert_eq!(have, left);
            assert!(!take_other(&mut have, one, but), "once");
        }
    }
}

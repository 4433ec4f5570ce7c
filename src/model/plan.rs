//! Each change from one configuration to another by its name, with the old and the new value and the live connections that it
//! ends or moves: what `weir plan` says beforehand, and the answer to a reload afterwards.

mod servers;

use super::changes::different;
use super::{Model, key};
use crate::config::{
    self, Announce, CheckAddresses, Config, HealthUse, ModeConfig, OwnTimeouts, PassiveConfig,
    PersistenceConfig, Protocol, QuicConfig, RealConfig, ServiceConfig, ServiceLimits, TcpMss,
};
use crate::service::Role;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{Debug, Display};
use std::net::SocketAddr;
use std::sync::Arc;
use utoipa::ToSchema;

/// The most changes that are named one by one; the others are counted.
const MOST: usize = 1000;

/// Every change, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Details {
    pub details: Vec<Detail>,
    /// Changes beyond those that are named.
    pub more_details: usize,
    /// Live TCP connections that are reset at their clients' next packets, or whose service is gone.
    pub connections_reset: u64,
    /// Live UDP flows that go on to other real servers.
    pub connections_moved: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ChangeKind)]
pub enum Kind {
    Added,
    Removed,
    Changed,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Detail {
    pub kind: Kind,
    /// What it is of: `service web`, `port lan`, `[timeouts]`.
    pub of: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The service's: services of two protocols may have one name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub real: Option<SocketAddr>,
    /// The key of the file, of what is changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub connections_reset: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub connections_moved: u32,
    /// What an operator has said of the real server, where that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Detail {
    fn new(kind: Kind, of: String) -> Self {
        Detail {
            kind,
            of,
            service: None,
            protocol: None,
            real: None,
            key: None,
            old: None,
            new: None,
            connections_reset: 0,
            connections_moved: 0,
            note: None,
        }
    }

    fn of_service(kind: Kind, service: &ServiceConfig) -> Self {
        let its = key(service).to_string();
        let of = match service.name == its {
            true => format!("service {its}"),
            false => format!("service {} ({its})", service.name),
        };
        Detail {
            service: Some(service.name.clone()),
            protocol: Some(service.protocol.name()),
            ..Detail::new(kind, of)
        }
    }

    fn of_server(kind: Kind, service: &ServiceConfig, server: &RealConfig, role: Role) -> Self {
        let place = SocketAddr::new(server.address, server.port);
        let what = role.name();
        Detail {
            of: format!("service {}: {what} {place}", service.name),
            real: Some(place),
            ..Detail::of_service(kind, service)
        }
    }

    fn with_ended(self, protocol: Protocol, connections: u32) -> Self {
        match protocol {
            Protocol::Tcp | Protocol::Sctp => Detail {
                connections_reset: connections,
                ..self
            },
            Protocol::Udp => Detail {
                connections_moved: connections,
                ..self
            },
        }
    }
}

impl Display for Detail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mark = match self.kind {
            Kind::Added => '+',
            Kind::Removed => '-',
            Kind::Changed => '~',
        };
        write!(f, "{mark} {}", self.of)?;
        match self.kind {
            Kind::Added => f.write_str(": added")?,
            Kind::Removed => f.write_str(": removed")?,
            Kind::Changed => {}
        }
        if let Some(key) = self.key {
            write!(f, ": {key}")?;
        }
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, " {old} -> {new}")?,
            (None, Some(only)) | (Some(only), None) if self.kind != Kind::Changed => {
                write!(f, ", {only}")?;
            }
            (None, Some(new)) => write!(f, " none -> {new}")?,
            (Some(old), None) => write!(f, " {old} -> none")?,
            (None, None) => {}
        }
        for (count, what) in [
            (self.connections_reset, "reset"),
            (self.connections_moved, "moved"),
        ] {
            match count {
                0 => {}
                1 => write!(f, "; 1 connection {what}")?,
                count => write!(f, "; {count} connections {what}")?,
            }
        }
        match &self.note {
            Some(note) => write!(f, " ({note})"),
            None => Ok(()),
        }
    }
}

impl Details {
    fn push(&mut self, detail: Detail) {
        self.connections_reset += u64::from(detail.connections_reset);
        self.connections_moved += u64::from(detail.connections_moved);
        match self.details.len() < MOST {
            true => self.details.push(detail),
            false => self.more_details += 1,
        }
    }

    /// A line for each change.
    pub fn lines(&self) -> String {
        let mut lines = String::new();
        for detail in &self.details {
            lines += &format!("{detail}\n");
        }
        match self.more_details {
            0 => {}
            more => lines += &format!("… and {more} more\n"),
        }
        lines
    }

    /// Says how a key of something differs, if it does.
    fn key(&mut self, of: &Detail, key: &'static str, old: Option<String>, new: Option<String>) {
        if old != new {
            self.push(Detail {
                key: Some(key),
                old,
                new,
                ..of.clone()
            });
        }
    }

    /// Names the protocols of services whose names do not tell them.
    fn tell_apart(&mut self, of_both: &HashSet<&str>) {
        for detail in &mut self.details {
            if let (Some(name), Some(protocol), Some(_)) =
                (&detail.service, detail.protocol, detail.real)
                && of_both.contains(name.as_str())
                && let Some(rest) = detail.of.strip_prefix(&format!("service {name}: "))
            {
                detail.of = format!("service {name} ({protocol}): {rest}");
            }
        }
    }

    /// What is in one of two lists only, or differs in both: by its name, with a text of all that it has.
    fn lists(
        &mut self,
        what: &str,
        old: impl IntoIterator<Item = (String, String)>,
        new: impl IntoIterator<Item = (String, String)>,
    ) {
        let mut old: BTreeMap<String, String> = old.into_iter().collect();
        for (name, new) in new {
            let of = format!("{what} {name}");
            let (kind, old) = match old.remove(&name) {
                Some(old) if old == new => continue,
                Some(old) => (Kind::Changed, Some(old)),
                None => (Kind::Added, None),
            };
            let new = Some(new).filter(|new| !new.is_empty());
            self.push(Detail {
                old,
                new,
                ..Detail::new(kind, of)
            });
        }
        for (name, old) in old {
            let of = format!("{what} {name}");
            let old = Some(old).filter(|old| !old.is_empty());
            self.push(Detail {
                old,
                ..Detail::new(Kind::Removed, of)
            });
        }
    }
}

impl Model {
    /// Every change that `new` would make, by name.
    pub fn plan(&self, new: &Config) -> Details {
        let old = self.config();
        let mut plan = Details::default();
        for (before, after) in different(&old.services, &new.services, |_| false) {
            self.plan_service(before, after, &mut plan);
        }
        plan.tell_apart(&of_both(&[&old.services, &new.services]));
        plan_rest(old, new, &mut plan);
        plan
    }

    /// What becomes of one service.
    fn plan_service(
        &self,
        before: Option<&ServiceConfig>,
        after: Option<&ServiceConfig>,
        plan: &mut Details,
    ) {
        match (before, after) {
            (None, None) => {}
            (None, Some(after)) => plan.push(Detail {
                new: Some(counted(&after.reals)),
                ..Detail::of_service(Kind::Added, after)
            }),
            (Some(before), None) => {
                let servers = before.servers();
                let live = servers.map(|real| self.live(&key(before), real)).sum();
                // Without a service UDP flows have nowhere to go.
                plan.push(Detail {
                    connections_reset: live,
                    old: Some(counted(&before.reals)),
                    ..Detail::of_service(Kind::Removed, before)
                });
            }
            (Some(before), Some(after)) => {
                keys_of_service(before, after, plan);
                self.plan_reals(before, after, plan);
            }
        }
    }
}

/// The names that services of both protocols have.
fn of_both<'a>(lists: &[&'a [Arc<ServiceConfig>]]) -> HashSet<&'a str> {
    let mut first: HashMap<&str, Protocol> = HashMap::new();
    let services = lists.iter().copied().flatten();
    let again = services.filter(|it| {
        let protocol = *first.entry(&it.name).or_insert(it.protocol);
        protocol != it.protocol
    });
    again.map(|it| it.name.as_str()).collect()
}

fn counted(reals: &[RealConfig]) -> String {
    match reals.len() {
        1 => "1 real server".to_owned(),
        count => format!("{count} real servers"),
    }
}

/// The keys of a service that differ.
fn keys_of_service(before: &ServiceConfig, after: &ServiceConfig, plan: &mut Details) {
    let of = Detail::of_service(Kind::Changed, after);
    let (count, mut rest) = (plan.details.len() + plan.more_details, before.clone());
    macro_rules! key {
        ($key:ident, $shown:expr) => {
            plan.key(
                &of,
                stringify!($key),
                $shown(&before.$key),
                $shown(&after.$key),
            );
            rest.$key = after.$key.clone();
        };
    }
    key!(name, shown);
    key!(mode, mode);
    key!(scheduler, |it: &crate::config::SchedulerConfig| shown(
        it.name()
    ));
    let flags = |flags: crate::config::SchedulerFlags, service: &ServiceConfig| {
        let words: Vec<_> = flags.words(service.scheduler).collect();
        (!words.is_empty()).then(|| words.join(", "))
    };
    plan.key(
        &of,
        "flags",
        flags(before.flags, before),
        flags(after.flags, after),
    );
    rest.flags = after.flags;
    key!(persistence, |it: &Option<PersistenceConfig>| it
        .map(persistence));
    key!(when_unavailable, word);
    key!(unknown_tcp, |it: &Option<_>| it.as_ref().and_then(word));
    key!(tcp_mss, |it: &Option<TcpMss>| it.map(tcp_mss));
    key!(quic, |it: &Option<QuicConfig>| it.as_ref().and_then(shown));
    key!(client_address, word);
    key!(slow_start, |it: &Option<_>| it.map(span));
    key!(on_down, word);
    key!(timeouts, own_timeouts);
    key!(on_idle, word);
    key!(one_packet, shown);
    key!(histograms, shown);
    key!(connection_log, shown);
    for (name, old, new) in [
        (
            "min_healthy",
            shown(&before.availability.min_healthy),
            shown(&after.availability.min_healthy),
        ),
        (
            "hysteresis",
            shown(&before.availability.hysteresis),
            shown(&after.availability.hysteresis),
        ),
        (
            "when_below",
            shown(before.availability.when_below.name()),
            shown(after.availability.when_below.name()),
        ),
    ] {
        plan.key(&of, name, old, new);
    }
    rest.availability = after.availability;
    key!(announce, |it: &Announce| shown(match it {
        Announce::Always => "always",
        Announce::WhileHealthy => "while-healthy",
    }));
    // Another protocol is another service.
    key!(on_drain, |it: &Option<_>| Some(
        it.map_or_else(|| "keep".to_owned(), span)
    ));
    key!(passive, |it: &Option<PassiveConfig>| it.map(passive));
    key!(pool, Option::clone);
    for (name, old, new) in [
        ("allow", &before.allow, &after.allow),
        ("deny", &before.deny, &after.deny),
    ] {
        let (from, mut to) = (old.as_ref().and_then(shown), new.as_ref().and_then(shown));
        // As many entries as before, and others.
        if let Some(to) = &mut to
            && old != new
            && from.as_ref() == Some(to)
        {
            to.push_str(", other ones");
        }
        plan.key(&of, name, from, to);
    }
    rest.allow.clone_from(&after.allow);
    rest.deny.clone_from(&after.deny);
    key!(limits, |it: &Option<ServiceLimits>| it.map(|limits| {
        let given = limits.given().map(|(key, most)| format!("{key} {most}"));
        given.collect::<Vec<_>>().join(", ")
    }));
    key!(health, |it: &Option<HealthUse>| it.as_ref().and_then(shown));
    rest.reals.clone_from(&after.reals);
    rest.fallback.clone_from(&after.fallback);
    // A key that has no line of its own above.
    if rest != *after {
        plan.push(Detail {
            new: Some("other keys".to_owned()),
            old: Some("as before".to_owned()),
            ..of
        });
    } else if before
        .reals
        .iter()
        .map(place)
        .ne(after.reals.iter().map(place))
        && plan.details.len() + plan.more_details == count
        && sorted(before) == sorted(after)
    {
        plan.push(Detail {
            key: Some("order of the real servers"),
            ..of
        });
    }
}

fn place(real: &RealConfig) -> (std::net::IpAddr, u16) {
    (real.address, real.port)
}

fn sorted(service: &ServiceConfig) -> Vec<(std::net::IpAddr, u16)> {
    let mut places: Vec<_> = service.reals.iter().map(place).collect();
    places.sort_unstable();
    places
}

fn shown(value: &(impl Display + ?Sized)) -> Option<String> {
    Some(value.to_string())
}

/// A number, or a time span.
fn number(value: &impl Debug) -> Option<String> {
    Some(format!("{value:?}"))
}

/// A word of the file.
fn word<T: config::Word + PartialEq>(value: &T) -> Option<String> {
    Some(config::word(*value).to_owned())
}

fn span(span: std::time::Duration) -> String {
    humantime::format_duration(span).to_string()
}

fn own_timeouts(own: &OwnTimeouts) -> Option<String> {
    let given = own.given();
    let given: Vec<_> = given
        .map(|(key, timeout)| format!("{key} {}", span(timeout)))
        .collect();
    (!given.is_empty()).then(|| given.join(", "))
}

fn tcp_mss(mss: TcpMss) -> String {
    match mss {
        TcpMss::Auto => "auto".to_owned(),
        TcpMss::Bytes(bytes) => bytes.to_string(),
    }
}

fn mode(mode: &ModeConfig) -> Option<String> {
    Some(match mode {
        ModeConfig::Dr => "dr".to_owned(),
        ModeConfig::Nat => "nat".to_owned(),
        ModeConfig::Fullnat { pool } => format!("fullnat, pool {pool}"),
        ModeConfig::Tunnel(tunnel) => {
            let source = tunnel.source;
            let source = source.map_or(String::new(), |source| format!(", from {source}"));
            format!("tunnel, {}{source}", tunnel.encapsulation.name())
        }
        ModeConfig::L3dsr { dscp } => format!("l3dsr, dscp {dscp}"),
    })
}

fn persistence(it: PersistenceConfig) -> String {
    let through = match it.through_drain {
        true => ", through a drain",
        false => "",
    };
    format!(
        "{} by /{} and /{}{through}",
        span(it.timeout),
        it.prefix_v4,
        it.prefix_v6
    )
}

fn passive(it: PassiveConfig) -> String {
    let (failures, within, hold) = (it.failures, span(it.within), span(it.hold));
    format!("{failures} failures in {within}, for {hold}")
}

fn all(list: impl IntoIterator<Item = impl Display>) -> String {
    let all: Vec<_> = list.into_iter().map(|it| it.to_string()).collect();
    all.join(" ")
}

/// All that is not of services.
fn plan_rest(old: &Config, new: &Config, plan: &mut Details) {
    let path = |config: &Config| {
        let path = config.state_file.as_ref();
        path.map(|path| path.display().to_string())
    };
    let file = Detail::new(Kind::Changed, "the file".to_owned());
    plan.key(&file, "state_file", path(old), path(new));
    let checks = |config: &Config| {
        let CheckAddresses { v4, v6 } = config.check_addresses;
        Some(format!("{v4} {v6}"))
    };
    plan.key(&file, "check_addresses", checks(old), checks(new));
    let whole = Detail::new(Kind::Changed, "all services".to_owned());
    plan.key(
        &whole,
        "reverse_path",
        word(&old.reverse_path),
        word(&new.reverse_path),
    );
    plan.key(
        &whole,
        "unknown_tcp",
        word(&old.unknown_tcp),
        word(&new.unknown_tcp),
    );
    let table = |name: &str| Detail::new(Kind::Changed, name.to_owned());
    macro_rules! table {
        ($title:literal, $table:ident, $shown:expr, $($key:ident)*) => {
            let of = table($title);
            let before = plan.details.len() + plan.more_details;
            $(plan.key(&of, stringify!($key), $shown(&old.$table.$key), $shown(&new.$table.$key));)*
            if old.$table != new.$table && plan.details.len() + plan.more_details == before {
                plan.push(of);
            }
        };
    }
    let time = |it: &std::time::Duration| Some(span(*it));
    table!("[timeouts]", timeouts, time,
        tcp_established tcp_syn_sent tcp_syn_recv tcp_fin_wait tcp_time_wait tcp_close
        tcp_close_wait tcp_last_ack tcp_listen tcp_synack udp icmp);
    table!("[limits]", limits, number,
        connections answers_per_second host_packets_per_second host_peer_packets_per_second fragment_timeout);
    table!("[metrics]", metrics, shown, per_real);
    let log = |config: &Config| {
        config
            .connection_log
            .as_ref()
            .map(config::ConnectionLog::to_string)
    };
    plan.key(&file, "[connection_log]", log(old), log(new));
    for port in &new.ports {
        let mut before = old.ports.iter();
        let Some(before) = before.find(|before| before.name == port.name) else {
            continue;
        };
        let of = table(&format!("port {}", port.name));
        let count = plan.details.len() + plan.more_details;
        let (ours, theirs) = (all(&before.addresses), all(&port.addresses));
        plan.key(&of, "addresses", Some(ours), Some(theirs));
        let (ours, theirs) = (all(&before.announce), all(&port.announce));
        plan.key(&of, "announce", Some(ours), Some(theirs));
        plan.key(
            &of,
            "accept_ra",
            shown(&before.accept_ra),
            shown(&port.accept_ra),
        );
        plan.key(&of, "forward", shown(&before.forward), shown(&port.forward));
        if before != port && plan.details.len() + plan.more_details == count {
            plan.push(of);
        }
    }
    let pools = |config: &Config| -> Vec<_> {
        let pool = |pool: &crate::config::LocalPool| {
            let (first, last) = pool.ports;
            let text = format!("{} ports {first}-{last}", all(&pool.addresses));
            (pool.name.clone(), text)
        };
        config.pools.iter().map(pool).collect()
    };
    plan.lists("local pool", pools(old), pools(new));
    let rules = |config: &Config| -> Vec<_> {
        let rule = |rule: &crate::config::SnatConfig| {
            let out = rule.out_port.and_then(|place| config.ports.get(place));
            let out = out.map_or(String::new(), |port| format!(" out_port {}", port.name));
            let timeouts = own_timeouts(&rule.timeouts);
            let timeouts = timeouts.map_or(String::new(), |own| format!(" timeouts {own}"));
            let text = format!("pool {}{out}{timeouts}", rule.pool);
            (rule.from.to_string(), text)
        };
        config.snat.iter().map(rule).collect()
    };
    plan.lists("snat", rules(old), rules(new));
    let name_of = |config: &Config, port: Option<usize>| {
        let port = port.and_then(|place| config.ports.get(place));
        port.map_or(String::new(), |port| format!("%{}", port.name))
    };
    let neighbours = |config: &Config| -> Vec<_> {
        let neighbours = config.neighbours.iter();
        let named = neighbours.map(|it| {
            let port = name_of(config, it.port);
            (format!("{}{port}", it.address), it.mac.to_string())
        });
        named.collect()
    };
    plan.lists("neighbour", neighbours(old), neighbours(new));
    let routes = |config: &Config| -> Vec<_> {
        let routes = config.routes.iter();
        let named = routes.map(|it| {
            let port = name_of(config, it.port);
            (it.to.to_string(), format!("via {}{port}", it.via))
        });
        named.collect()
    };
    plan.lists("route", routes(old), routes(new));
    let peers = |config: &Config| -> Vec<_> {
        let peers = config.host_peers.iter();
        let named = peers.map(|it| {
            let ttl = it.ttl_security;
            let ttl = ttl.map_or(String::new(), |hops| format!("ttl_security {hops}"));
            (format!("{}{}", it.address, name_of(config, it.port)), ttl)
        });
        named.collect()
    };
    plan.lists("host peer", peers(old), peers(new));
    let checks = |config: &Config| -> Vec<_> {
        let checks = config.health.iter();
        checks
            .map(|(name, it)| (name.clone(), it.to_string()))
            .collect()
    };
    plan.lists("health check", checks(old), checks(new));
}

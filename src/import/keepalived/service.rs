//! A virtual server with its real servers.

use super::super::{Found, Method, Place, Protocol, RealServer, Remarks, VirtualService, prefix};
use super::checks::{self, CHECKS, Paces};
use super::tree::Node;
use super::{method, unknown};
use std::net::IpAddr;

/// Members of ranges of addresses, at most.
const MOST_MEMBERS: u32 = 256;

pub(super) struct Carrier<'a> {
    pub groups: &'a [&'a Node],
    /// DPVS's local addresses.
    pub pools: &'a [&'a Node],
    pub remarks: &'a mut Remarks,
}

/// Keywords of a virtual server.
const VIRTUAL: &[&str] = &[
    "delay_loop",
    "lb_algo",
    "lvs_sched",
    "lb_kind",
    "lvs_method",
    "protocol",
    "persistence_timeout",
    "persistence_granularity",
    "persistence_engine",
    "ops",
    "sh-port",
    "sh-fallback",
    "mh-port",
    "mh-fallback",
    "flag-1",
    "flag-2",
    "flag-3",
    "hashed",
    "sorry_server",
    "sorry_server_lvs_method",
    "sorry_server_inhibit",
    "quorum",
    "hysteresis",
    "quorum_up",
    "quorum_down",
    "alpha",
    "omega",
    "virtualhost",
    "real_server",
    "retry",
    "nb_get_retry",
    "delay_before_retry",
    "connect_timeout",
    "warmup",
    "ha_suspend",
    "nat_mask",
    "ip_family",
    "weight",
    "inhibit_on_failure",
    "smtp_alert",
    "no_smtp_alert",
    "laddr_group_name",
    "snat",
    "syn_proxy",
    "est_timeout",
];

/// Keywords of a real server.
const REAL: &[&str] = &[
    "weight",
    "inhibit_on_failure",
    "uthreshold",
    "lthreshold",
    "notify_up",
    "notify_down",
    "lvs_method",
    "lb_kind",
    "virtualhost",
    "delay_loop",
    "alpha",
    "retry",
    "nb_get_retry",
    "delay_before_retry",
    "warmup",
    "smtp_alert",
    "no_smtp_alert",
    "log_all_failures",
    "snmp_name",
    "connect_timeout",
];

/// What a virtual server says, but for its address.
struct Virtual {
    service: VirtualService,
    method: Method,
    weight: u32,
    host: Option<String>,
    paces: Paces,
    quorum: Option<(Place, u64)>,
    hysteresis: u64,
    inhibits: Option<Place>,
}

impl Carrier<'_> {
    /// The group that a virtual server names.
    pub(super) fn group_of(&self, node: &Node) -> Option<String> {
        let is_group = node.word(0) == Some("group");
        is_group.then(|| node.word(1).map(str::to_owned)).flatten()
    }

    pub(super) fn virtual_server(&mut self, node: &Node, found: &mut Found) {
        let places = match node.word(0) {
            Some("group") => self.members(node),
            Some("fwmark") => {
                self.remarks.lost(
                    &node.at,
                    "a virtual server by firewall mark: weir has none; a service with `port = 0` and `persistence` serves every port of a VIP",
                );
                return;
            }
            _ => self.place(node, &node.words[1..]).into_iter().collect(),
        };
        let Some(first) = places.first().copied() else {
            return;
        };
        let service = self.body(node, first);
        for (address, port) in places {
            let mut one = service.clone();
            (one.address, one.port) = (address, port);
            match found.services.iter().find(|it| it.is(&one)) {
                Some(before) => self.remarks.lost(
                    &node.at,
                    format!(
                        "{}:{} a second time: keepalived takes the first (line {})",
                        one.protocol.name(),
                        std::net::SocketAddr::new(address, port),
                        before.at.line
                    ),
                ),
                None => found.services.push(one),
            }
        }
    }

    /// `192.0.2.80 80`; without a port every port.
    fn place(&mut self, node: &Node, words: &[String]) -> Option<(IpAddr, u16)> {
        let text = words.first().map_or("", String::as_str);
        let Ok(address) = text.parse::<IpAddr>() else {
            self.remarks
                .lost(&node.at, format!("{text:?} is no address"));
            return None;
        };
        match words.get(1).map(|it| it.parse::<u16>()) {
            Some(Ok(port)) => Some((address, port)),
            Some(Err(_)) => {
                self.remarks
                    .lost(&node.at, format!("{:?} is no port", words[1]));
                None
            }
            None => {
                self.remarks
                    .note(&node.at, "no port: the service is for every port");
                Some((address, 0))
            }
        }
    }

    /// The addresses and ports of a group.
    fn members(&mut self, node: &Node) -> Vec<(IpAddr, u16)> {
        let name = node.word(1).unwrap_or_default();
        let Some(group) = self.groups.iter().find(|it| it.word(0) == Some(name)) else {
            self.remarks.lost(
                &node.at,
                format!("there is no virtual_server_group {name:?}"),
            );
            return Vec::new();
        };
        let mut places = Vec::new();
        for member in group.children() {
            match member.keyword() {
                "fwmark" => self
                    .remarks
                    .lost(&member.at, "a firewall mark: weir has none"),
                text if text.contains('-') || text.contains('/') => match range(text) {
                    Some(addresses) => {
                        let port = member.word(0).map_or(Ok(0), str::parse);
                        match port {
                            Ok(port) => places.extend(addresses.into_iter().map(|it| (it, port))),
                            Err(_) => self.remarks.lost(&member.at, "no port"),
                        }
                    }
                    None => self.remarks.lost(
                        &member.at,
                        format!("{text:?} is no range of up to {MOST_MEMBERS} addresses"),
                    ),
                },
                _ => places.extend(self.place(member, &member.words)),
            }
        }
        places
    }

    fn body(&mut self, node: &Node, (address, port): (IpAddr, u16)) -> VirtualService {
        let mut it = Virtual {
            service: VirtualService::new(node.at.clone(), Protocol::Tcp, address, port),
            method: Method::Masq,
            weight: 1,
            host: None,
            paces: Paces::default(),
            quorum: None,
            hysteresis: 0,
            inhibits: None,
        };
        let mut has_method = false;
        for child in node.children() {
            if let Some(taken) = it.paces.take(child) {
                taken.unwrap_or_else(|why| self.remarks.lost(&child.at, why));
                continue;
            }
            has_method |= matches!(child.keyword(), "lb_kind" | "lvs_method");
            self.keyword(child, &mut it);
        }
        if !has_method {
            self.remarks
                .note(&node.at, "no lb_kind: NAT, as keepalived has it");
        }
        for child in node
            .children()
            .iter()
            .filter(|it| it.keyword() == "real_server")
        {
            let real = self.real_server(child, &mut it);
            it.service.reals.extend(real);
        }
        self.quorum(&mut it);
        if let Some(at) = &it.inhibits {
            it.service.keeps_down = true;
            self.remarks.note(at, "inhibit_on_failure: down real servers keep their connections (`on_down = \"keep\"`), in the whole service");
        }
        it.service
    }

    fn keyword(&mut self, child: &Node, it: &mut Virtual) {
        let at = &child.at;
        let word = child.word(0).unwrap_or_default();
        match child.keyword() {
            "lb_algo" | "lvs_sched" => it.service.scheduler = word.to_owned(),
            "lb_kind" | "lvs_method" => match method(word) {
                Some(found) => {
                    it.method = found;
                    if found == Method::Fullnat {
                        self.remarks.note(at, "FNAT is DPVS's: fullnat");
                    }
                    if let (Method::Tunnel(_), Some("type")) = (found, child.word(1)) {
                        self.remarks.lost(at, "the type of the tunnel: ipip is taken; `tunnel = \"gre\"` and `\"gue\"` are there");
                    }
                }
                None => self.remarks.lost(at, format!("there is no lb_kind {word:?}: NAT, DR and TUN are")),
            },
            "protocol" => match word {
                "TCP" => {}
                "UDP" => it.service.protocol = Protocol::Udp,
                "SCTP" => it.service.protocol = Protocol::Sctp,
                other => self.remarks.lost(at, format!("there is no protocol {other:?}: TCP")),
            },
            "persistence_timeout" => {
                let bits = it.service.persistence.and_then(|(_, bits)| bits);
                // keepalived's default.
                match if word.is_empty() { Ok(360) } else { word.parse() } {
                    Ok(0) => it.service.persistence = None,
                    Ok(seconds) => it.service.persistence = Some((seconds, bits)),
                    Err(_) => self.remarks.lost(at, format!("{word:?} is no number of seconds")),
                }
            }
            "persistence_granularity" => match prefix(word, it.service.address.is_ipv6()) {
                Some(bits) => {
                    let seconds = it.service.persistence.map_or(360, |(seconds, _)| seconds);
                    it.service.persistence = Some((seconds, Some(bits)));
                }
                None => self.remarks.lost(at, format!("{word:?} is no netmask of leading bits")),
            },
            "persistence_engine" => self.remarks.lost(at, "weir has no such persistence: clients are known by their addresses"),
            "ops" => it.service.one_packet = true,
            "sh-port" | "sh-fallback" | "mh-port" | "mh-fallback" | "flag-1" | "flag-2" | "flag-3" => {
                it.service.flags.push(child.keyword().to_owned());
            }
            "sorry_server" => match word.parse() {
                Ok(address) => {
                    let port = child.word(1).map(str::parse::<u16>).transpose();
                    match port {
                        Ok(port) => it.service.sorry = Some((at.clone(), address, port)),
                        Err(_) => self.remarks.lost(at, "the sorry server: it has no port in numbers"),
                    }
                }
                Err(_) => self.remarks.lost(at, format!("{word:?} is no address")),
            },
            "sorry_server_lvs_method" => self.remarks.lost(at, "fallback servers get packets in the service's own mode"),
            "quorum" => match word.parse::<u64>() {
                Ok(quorum) => it.quorum = Some((at.clone(), quorum)),
                Err(_) => self.remarks.lost(at, format!("{word:?} is no quorum")),
            },
            "hysteresis" => match word.parse() {
                Ok(hysteresis) => it.hysteresis = hysteresis,
                Err(_) => self.remarks.lost(at, format!("{word:?} is no number")),
            },
            "quorum_up" | "quorum_down" => self.remarks.lost(at, format!(
                "{}: weir runs no scripts; `announce = \"while-healthy\"` has BIRD or FRR announce the VIP, `weir show events --follow` tells",
                child.keyword()
            )),
            "alpha" => self.remarks.note(at, "alpha: in weir a real server counts until a check has failed `fall` times"),
            "omega" => self.remarks.note(at, "omega: there are no scripts to run at the end"),
            "virtualhost" => it.host = Some(word.to_owned()),
            "weight" => it.weight = self.weight(child),
            "inhibit_on_failure" => it.inhibits = Some(at.clone()),
            "laddr_group_name" => self.locals(child, word, it),
            "nat_mask" => self.remarks.note(at, "nat_mask: means nothing in IPVS of today"),
            "connect_timeout" => self.remarks.note(at, "connect_timeout: of the checks, which say it themselves"),
            "ha_suspend" => self.remarks.lost(at, "ha_suspend: weir checks whether it has the VIP or not"),
            "syn_proxy" => self.remarks.lost(at, "syn_proxy: not carried over"),
            "sorry_server_inhibit" => self.remarks.note(at, "sorry_server_inhibit: fallback servers are used only when they are needed"),
            "est_timeout" => match word.parse() {
                Ok(seconds) => it.service.established = Some((at.clone(), seconds)),
                Err(_) => self.remarks.lost(at, format!("{word:?} is no number of seconds")),
            },
            "snat" | "hashed" => self.remarks.lost(at, format!("{}: not carried over", child.keyword())),
            "real_server" | "warmup" | "ip_family" | "smtp_alert" | "no_smtp_alert" => {}
            other => self.remarks.lost(at, unknown(other, VIRTUAL)),
        }
    }

    /// A weight as it is written; emit says where it is too large.
    fn weight(&mut self, node: &Node) -> u32 {
        let word = node.word(0).unwrap_or_default();
        word.parse().unwrap_or_else(|_| {
            self.remarks
                .lost(&node.at, format!("{word:?} is no weight: 1"));
            1
        })
    }

    /// DPVS's local addresses.
    fn locals(&mut self, node: &Node, name: &str, it: &mut Virtual) {
        match self.pools.iter().find(|pool| pool.word(0) == Some(name)) {
            Some(pool) => {
                it.service.locals = pool
                    .children()
                    .iter()
                    .map(|child| child.keyword().to_owned())
                    .collect();
            }
            None => self.remarks.lost(
                &node.at,
                format!("there is no local_address_group {name:?}"),
            ),
        }
    }

    fn real_server(&mut self, node: &Node, it: &mut Virtual) -> Option<RealServer> {
        let at = node.at.clone();
        let text = node.word(0).unwrap_or_default();
        let Ok(address) = text.parse::<IpAddr>() else {
            self.remarks
                .lost(&at, format!("the real server: {text:?} is no address"));
            return None;
        };
        let port = match node.word(1).map(|port| (port, port.parse::<u16>())) {
            None | Some((_, Ok(0))) => None,
            Some((_, Ok(port))) => Some(port),
            Some((text, Err(_))) => {
                self.remarks
                    .lost(&at, format!("the real server: {text:?} is no port"));
                return None;
            }
        };
        let mut real = RealServer {
            at,
            address,
            port,
            method: it.method,
            weight: it.weight,
            upper: 0,
            lower: 0,
            check: None,
        };
        let mut paces = it.paces;
        let mut host = it.host.clone();
        let mut found = Vec::new();
        for child in node.children() {
            let at = &child.at;
            if let Some(taken) = paces.take(child) {
                taken.unwrap_or_else(|why| self.remarks.lost(at, why));
                continue;
            }
            let number = child.word(0).and_then(|it| it.parse::<u32>().ok());
            match child.keyword() {
                "weight" => real.weight = self.weight(child),
                "uthreshold" | "lthreshold" => match number {
                    Some(number) if child.keyword() == "uthreshold" => real.upper = number,
                    Some(number) => real.lower = number,
                    None => self
                        .remarks
                        .lost(at, format!("{}: a number is needed", child.keyword())),
                },
                "inhibit_on_failure" => it.inhibits = it.inhibits.take().or(Some(at.clone())),
                "lvs_method" | "lb_kind" => match child.word(0).and_then(method) {
                    Some(method) => real.method = method,
                    None => self
                        .remarks
                        .lost(at, "there is no such lvs_method: NAT, DR and TUN are"),
                },
                "virtualhost" => host = child.word(0).map(str::to_owned),
                "notify_up" | "notify_down" => self.remarks.lost(
                    at,
                    format!(
                        "{}: weir runs no scripts; `weir show events --follow` tells",
                        child.keyword()
                    ),
                ),
                "alpha" => self.remarks.note(
                    at,
                    "alpha: in weir a real server counts until a check has failed `fall` times",
                ),
                "connect_timeout" => self
                    .remarks
                    .note(at, "connect_timeout: of the check, which says it itself"),
                "warmup" | "smtp_alert" | "no_smtp_alert" | "log_all_failures" | "snmp_name" => {}
                keyword if CHECKS.iter().any(|(name, _)| *name == keyword) => found.push(child),
                other => {
                    let checks = CHECKS.iter().map(|(name, _)| *name);
                    let known: Vec<_> = REAL.iter().copied().chain(checks).collect();
                    self.remarks.lost(at, unknown(other, &known));
                }
            }
        }
        let mut found = found.into_iter();
        real.check = found
            .next()
            .and_then(|child| checks::check(child, paces, host.as_deref(), address, self.remarks));
        for other in found {
            self.remarks
                .lost(&other.at, "a second check: weir has one for a real server");
        }
        Some(real)
    }

    /// keepalived's quorum is a sum of weights, weir's a number of real servers.
    fn quorum(&mut self, it: &mut Virtual) {
        let Some((at, quorum)) = &it.quorum else {
            return;
        };
        if *quorum <= 1 {
            return;
        }
        let weights: Vec<_> = it
            .service
            .reals
            .iter()
            .map(|real| real.weight)
            .filter(|it| *it > 0)
            .collect();
        let first = weights.first().copied().unwrap_or(1).into();
        if it.service.sorry.is_none() {
            self.remarks.lost(at, "quorum: without a sorry server it only runs scripts; see `min_healthy` and `when_below`");
        } else if weights.iter().any(|it| u64::from(*it) != first) {
            self.remarks.lost(at, format!(
                "quorum {quorum}: it is a sum of weights, which differ here; weir counts real servers (`min_healthy`)"
            ));
        } else {
            // Down below quorum - hysteresis, up again at quorum + hysteresis.
            let needs = |sum: u64| sum.div_ceil(first).max(1) as usize;
            let least = needs(quorum.saturating_sub(it.hysteresis));
            let back = needs(quorum.saturating_add(it.hysteresis));
            it.service.least = Some((least, back - least));
        }
    }
}

/// `192.0.2.100-103`, `192.0.2.100-192.0.2.103`, or a network.
fn range(text: &str) -> Option<Vec<IpAddr>> {
    if let Ok(net) = text.parse::<ipnet::IpNet>() {
        let all: Vec<_> = net.hosts().take(MOST_MEMBERS as usize + 1).collect();
        return (all.len() <= MOST_MEMBERS as usize).then_some(all);
    }
    let (first, last) = text.split_once('-')?;
    let first: IpAddr = first.parse().ok()?;
    let last: IpAddr = match (last.parse(), first) {
        (Ok(last), _) => last,
        // The last byte, or of IPv6 the last group.
        (Err(_), IpAddr::V4(it)) => {
            let [a, b, c, _] = it.octets();
            [a, b, c, last.parse().ok()?].into()
        }
        (Err(_), IpAddr::V6(it)) => {
            let mut groups = it.segments();
            groups[7] = u16::from_str_radix(last, 16).ok()?;
            groups.into()
        }
    };
    let number = |it: IpAddr| match it {
        IpAddr::V4(it) => u128::from(u32::from(it)),
        IpAddr::V6(it) => u128::from(it),
    };
    let count = number(last).checked_sub(number(first))?;
    if first.is_ipv4() != last.is_ipv4() || count >= u128::from(MOST_MEMBERS) {
        return None;
    }
    let address = |n: u128| match first {
        IpAddr::V4(_) => IpAddr::from((n as u32).to_be_bytes()),
        IpAddr::V6(_) => IpAddr::from(n.to_be_bytes()),
    };
    Some((number(first)..=number(last)).map(address).collect())
}

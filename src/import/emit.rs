//! Writes a configuration of weir.

use super::health::{common_check, write_check};
use super::merge::merge;
use super::ports::write_ports;
use super::trial::{Part, TRIAL, Text, refused, settled};
use super::{
    Encapsulation, Found, Method, Options, Place, Protocol, RealServer, Remarks, VirtualService,
};
use crate::config::{self, SchedulerConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

/// The largest weight; IPVS takes one more.
const MOST_WEIGHT: u32 = 65_535;

/// A text as TOML has it.
pub(super) fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string().trim().to_owned()
}

/// A list of texts.
pub(super) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items
        .into_iter()
        .map(|it| quoted(&it.to_string()))
        .collect();
    format!("[{}]", items.join(", "))
}

/// `"1500ms"`, or `"6s"`.
pub(super) fn span(millis: u64) -> String {
    match millis % 1000 {
        0 => format!("\"{}s\"", millis / 1000),
        _ => format!("\"{millis}ms\""),
    }
}

/// Whether weir has a key: the importer goes with what this weir can do.
fn has_key(table: &str, key: &str) -> bool {
    let tables = config::keys().iter();
    tables
        .filter(|(title, _)| *title == table)
        .any(|(_, keys)| keys.contains(&key))
}

/// The configuration with what was found.
pub(super) fn emit(source: &str, found: Found, options: &Options, remarks: &mut Remarks) -> String {
    let Found {
        mut services,
        timeouts,
        ports,
        routes,
    } = found;
    for service in &mut services {
        service.reals.retain(|real| {
            let is_own = options.own.contains(&real.address);
            if is_own {
                let text = format!(
                    "the real server {}: it is this machine itself, and weir's are others",
                    real.address
                );
                remarks.lost(&real.at, text);
            }
            !is_own
        });
    }
    if options.merge {
        services = merge(services, remarks);
    }
    let mut pools = Pools::default();
    let mut body = String::new();
    let mut hosts = BTreeSet::new();
    for service in &services {
        let mut own = BTreeSet::new();
        let text = self::service(service, options, &mut pools, &mut own, remarks);
        let text = text.and_then(|text| settled(text, pools.text(), &own, remarks));
        if let Some(text) = text {
            body += &text.text();
            hosts.extend(own);
        }
    }
    let mut out = format!(
        "# From {source}, by `weir import`, which has told what it could not carry over.\n"
    );
    if !options.services_only {
        let vips = services.iter().map(|it| it.address);
        let taken: BTreeSet<_> = hosts
            .iter()
            .copied()
            .chain(vips)
            .chain(pools.addresses())
            .collect();
        write_ports(&mut out, options, ports, (&hosts, &taken));
        for (at, to, via) in routes {
            let route = format!("\n[[route]]\nto  = \"{to}\"\nvia = \"{via}\"\n");
            match refused(&(out.clone() + &route)) {
                None => out += &route,
                Some((_, why)) => remarks.lost(&at, format!("the route: {why}")),
            }
        }
    }
    write_timeouts(&mut out, timeouts, remarks);
    out + &pools.text() + &body
}

fn write_timeouts(
    out: &mut String,
    timeouts: Vec<(Place, &'static str, u64)>,
    remarks: &mut Remarks,
) {
    let mut lines = String::new();
    for (at, key, seconds) in timeouts {
        let line = format!("{key} = {seconds}\n");
        match refused(&format!("{TRIAL}[timeouts]\n{line}")) {
            None => lines += &line,
            Some((_, why)) => remarks.lost(&at, format!("{key}: {why}")),
        }
    }
    if !lines.is_empty() {
        *out += "\n[timeouts]\n";
        *out += &lines;
    }
}

/// Local pools by their addresses.
#[derive(Default)]
struct Pools(BTreeMap<Vec<String>, String>);

impl Pools {
    fn name(&mut self, addresses: &[String]) -> String {
        let next = self.0.len();
        let name = self.0.entry(addresses.to_vec());
        name.or_insert_with(|| match next {
            0 => "local".to_owned(),
            n => format!("local{}", n + 1),
        })
        .clone()
    }

    fn text(&self) -> String {
        let pool = |(addresses, name): (&Vec<String>, &String)| {
            let addresses = list(addresses);
            format!("\n[[local_pool]]\nname      = \"{name}\"\naddresses = {addresses}\n")
        };
        self.0.iter().map(pool).collect()
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let all = self.0.keys().flatten();
        let ends = all.flat_map(|text| text.split('-'));
        ends.filter_map(|text| text.trim().parse().ok())
    }
}

/// The keys of a table, whose values begin in one column.
#[derive(Default)]
pub(super) struct Keys(Vec<(String, String)>);

impl Keys {
    pub(super) fn put(&mut self, key: &str, value: impl ToString) {
        self.0.push((key.to_owned(), value.to_string()));
    }

    pub(super) fn write(&self, out: &mut String, indent: &str) {
        let width = self.0.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
        for (key, value) in &self.0 {
            let _ = writeln!(out, "{indent}{key:width$} = {value}");
        }
    }
}

/// One service; none if weir cannot have it, which is told.
fn service(
    service: &VirtualService,
    options: &Options,
    pools: &mut Pools,
    hosts: &mut BTreeSet<IpAddr>,
    remarks: &mut Remarks,
) -> Option<Text> {
    let at = &service.at;
    let method = method(service, remarks);
    let locals = match method {
        Method::Fullnat if service.locals.is_empty() => options.fullnat.clone().unwrap_or_default(),
        Method::Fullnat => service.locals.clone(),
        Method::Masq if options.nat_is_fullnat => options.fullnat.clone().unwrap_or_default(),
        _ => Vec::new(),
    };
    if method == Method::Fullnat && locals.is_empty() {
        remarks.lost(
            at,
            "the service: fullnat takes local addresses: --local-pool ADDRESSES",
        );
        return None;
    }
    let is_fullnat = !locals.is_empty();
    let mut keys = Keys::default();
    keys.put("address", quoted(&service.address.to_string()));
    match service.last_port {
        Some(last) => keys.put("port", quoted(&format!("{}-{last}", service.port))),
        None => keys.put("port", service.port),
    }
    match service.is_both {
        true => keys.put("protocol", "\"tcp+udp\""),
        false => keys.put("protocol", quoted(service.protocol.name())),
    }
    match method {
        _ if is_fullnat => {
            keys.put("mode", "\"fullnat\"");
            keys.put("local_pool", quoted(&pools.name(&locals)));
        }
        Method::Route => keys.put("mode", "\"dr\""),
        Method::Masq | Method::Fullnat => keys.put("mode", "\"nat\""),
        Method::Tunnel(encapsulation) => tunnel(encapsulation, at, &mut keys, remarks),
    }
    scheduler(service, &mut keys, remarks);
    if let Some((seconds, bits)) = service.persistence {
        let family = if service.address.is_ipv4() {
            "prefix_v4"
        } else {
            "prefix_v6"
        };
        let bits = bits.map_or(String::new(), |bits| format!(", {family} = {bits}"));
        keys.put(
            "persistence",
            format!("{{ timeout = {}{bits} }}", seconds.max(1)),
        );
    }
    if service.one_packet {
        one_packet(service, is_fullnat, &mut keys, remarks);
    }
    let mut taken: Vec<RealServer> = Vec::new();
    for real in &service.reals {
        if let Some(real) = fitting(service, real, method, is_fullnat, &taken, remarks) {
            taken.push(real);
        }
    }
    if let Some((at, address, port)) = &service.sorry {
        match fits(service.address, *address, method, is_fullnat) {
            false => remarks.lost(
                at,
                "the sorry server: it is of another family than the service",
            ),
            true if taken.iter().any(|real| real.address == *address) => {
                remarks.lost(at, "the sorry server: it is a real server of the service");
            }
            true => {
                hosts.insert(*address);
                let port = port.filter(|port| *port > 0).unwrap_or(service.port);
                keys.put(
                    "fallback",
                    list([std::net::SocketAddr::new(*address, port)]),
                );
            }
        }
    }
    if let Some((least, more)) = service.least {
        keys.put("min_healthy", least);
        if more > 0 {
            keys.put("hysteresis", more);
        }
    }
    if let Some((_, seconds)) = &service.established {
        let key = match service.protocol {
            Protocol::Sctp => "sctp_established",
            _ => "tcp_established",
        };
        keys.put("timeouts", format!("{{ {key} = {seconds} }}"));
    }
    if service.keeps_down {
        keys.put("on_down", "\"keep\"");
    }
    let mut out = Text::default();
    out.push("\n[[service]]", Part::Needed, at);
    let mut lines = String::new();
    keys.write(&mut lines, "");
    for (n, line) in lines.lines().enumerate() {
        let key = line.split_whitespace().next().unwrap_or_default();
        let part = match key {
            "address" | "port" | "protocol" | "mode" | "local_pool" => Part::Needed,
            _ => Part::Key(n),
        };
        let at = match (key, &service.sorry) {
            ("fallback", Some((at, ..))) => at,
            _ => at,
        };
        let at = match (key, &service.established) {
            ("timeouts", Some((at, _))) => at,
            _ => at,
        };
        out.push(line, part, at);
    }
    if let Some(check) = common_check(&taken, service, remarks) {
        let mut lines = String::new();
        write_check(&mut lines, check, remarks);
        out.push(&lines, Part::Health, &check.at);
    }
    for (n, real) in taken.iter().enumerate() {
        hosts.insert(real.address);
        let mut keys = Keys::default();
        keys.put("address", quoted(&real.address.to_string()));
        if let Some(port) = real.port.filter(|port| *port != service.port) {
            keys.put("port", port);
        }
        if real.weight != 1 {
            keys.put("weight", real.weight);
        }
        thresholds(real, &mut keys, remarks);
        let mut lines = "\n  [[service.real]]\n".to_owned();
        keys.write(&mut lines, "  ");
        out.push(&lines, Part::Real(n), &real.at);
    }
    Some(out)
}

/// How packets get to the real servers of a service, which is one way for all: that of most.
fn method(service: &VirtualService, remarks: &mut Remarks) -> Method {
    let count = |method: Method| {
        service
            .reals
            .iter()
            .filter(|it| it.method == method)
            .count()
    };
    // Of several the first.
    let most = service
        .reals
        .iter()
        .rev()
        .map(|it| it.method)
        .max_by_key(|it| count(*it));
    most.unwrap_or_else(|| {
        let text = "no real server says how packets get to it: the mode is dr, IPVS's default";
        remarks.note(&service.at, text);
        Method::Route
    })
}

fn method_name(method: Method) -> &'static str {
    match method {
        Method::Route => "dr",
        Method::Masq => "nat",
        Method::Tunnel(_) => "tunnel",
        Method::Fullnat => "fullnat",
    }
}

fn tunnel(encapsulation: Encapsulation, at: &Place, keys: &mut Keys, remarks: &mut Remarks) {
    keys.put("mode", "\"tunnel\"");
    match encapsulation {
        Encapsulation::Ipip => keys.put("tunnel", "\"ipip\""),
        Encapsulation::Gre => keys.put("tunnel", "\"gre\""),
        Encapsulation::Gue { port, has_checksum } => {
            keys.put("tunnel", "\"gue\"");
            // The kernel's header before the packet (ip_vs_gue_encap).
            keys.put("gue_variant", 0);
            if port != 6080 {
                keys.put("gue_port", port);
            }
            if has_checksum {
                remarks.note(
                    at,
                    "--tun-csum: over IPv4 weir's outer UDP has no checksum, which receivers take",
                );
            } else {
                keys.put("gue_zero_checksum", true);
            }
        }
    }
}

fn scheduler(service: &VirtualService, keys: &mut Keys, remarks: &mut Remarks) {
    let known = SchedulerConfig::ALL
        .iter()
        .find(|it| it.name() == service.scheduler);
    let Some(known) = known else {
        let guess = config::did_you_mean(
            &service.scheduler,
            SchedulerConfig::ALL.iter().map(|it| it.name()),
        );
        let text = format!(
            "there is no scheduler {:?}{guess}; the service has wlc",
            service.scheduler
        );
        remarks.lost(&service.at, text);
        keys.put("scheduler", "\"wlc\"");
        return;
    };
    keys.put("scheduler", quoted(known.name()));
    let words = known.flags().unwrap_or_default();
    let named: Vec<_> = service
        .flags
        .iter()
        .filter_map(|flag| {
            // IPVS's own numbers: `fallback` is the first, `port` the second (IP_VS_SVC_F_SCHED1, 2).
            let word = match flag.as_str() {
                "flag-1" => words[1],
                "flag-2" => words[0],
                other => words.into_iter().find(|word| *word == other).unwrap_or(""),
            };
            if word.is_empty() {
                let text = format!(
                    "the flag {flag:?} is none of the scheduler {}'s",
                    known.name()
                );
                remarks.lost(&service.at, text);
            }
            Some(word).filter(|word| !word.is_empty())
        })
        .collect();
    if !named.is_empty() {
        keys.put("flags", list(named));
    }
    if known.name() == "sh"
        && !service
            .flags
            .iter()
            .any(|it| it == "sh-fallback" || it == "flag-1")
    {
        let text = "without sh-fallback IPVS refuses clients whose real server is not available: weir sends them to another one";
        remarks.note(&service.at, text);
    }
}

fn one_packet(service: &VirtualService, is_fullnat: bool, keys: &mut Keys, remarks: &mut Remarks) {
    if service.protocol != Protocol::Udp {
        remarks.note(
            &service.at,
            "one packet scheduling is for UDP alone: left out",
        );
    } else if is_fullnat || !has_key("[[service]]", "one_packet") {
        let text = "one packet scheduling: packets from one source port of a client all go to one real server";
        remarks.lost(&service.at, text);
    } else {
        keys.put("one_packet", true);
    }
}

/// Whether a real server's family fits.
fn fits(vip: IpAddr, real: IpAddr, method: Method, is_fullnat: bool) -> bool {
    is_fullnat || matches!(method, Method::Tunnel(_)) || vip.is_ipv4() == real.is_ipv4()
}

/// A real server as the service can have it.
fn fitting(
    service: &VirtualService,
    real: &RealServer,
    method: Method,
    is_fullnat: bool,
    before: &[RealServer],
    remarks: &mut Remarks,
) -> Option<RealServer> {
    let mut real = real.clone();
    // Port 0 is the service's own.
    real.port = real.port.filter(|port| *port > 0);
    let at = real.at.clone();
    let shown = match real.port {
        Some(port) => std::net::SocketAddr::new(real.address, port).to_string(),
        None => real.address.to_string(),
    };
    if real.method != method {
        let (other, own) = (method_name(real.method), method_name(method));
        remarks.lost(&at, format!(
            "the real server {shown}: one service has one mode, which is {own} as of most real servers; this one has another ({other})"
        ));
        return None;
    }
    if !fits(service.address, real.address, method, is_fullnat) {
        remarks.lost(&at, format!(
            "the real server {shown}: it is of another family than the service, which takes fullnat (--nat-as fullnat --local-pool ADDRESSES) or a tunnel"
        ));
        return None;
    }
    let keeps_port = !is_fullnat && matches!(method, Method::Route | Method::Tunnel(_));
    if keeps_port {
        if let Some(port) = real.port.filter(|port| *port != service.port && *port != 0) {
            remarks.note(&at, format!(
                "port {port}: with dr and tunnel packets keep the service's port {}, in IPVS as well", service.port
            ));
        }
        real.port = None;
    }
    if real.weight > MOST_WEIGHT {
        remarks.note(
            &at,
            format!("weight {}: {MOST_WEIGHT} is the largest", real.weight),
        );
        real.weight = MOST_WEIGHT;
    }
    let port = |it: &RealServer| it.port.unwrap_or(service.port);
    if before
        .iter()
        .any(|it| (it.address, port(it)) == (real.address, port(&real)))
    {
        remarks.lost(
            &at,
            format!("the real server {shown} a second time: the first one counts, as in IPVS"),
        );
        return None;
    }
    Some(real)
}

fn thresholds(real: &RealServer, keys: &mut Keys, remarks: &mut Remarks) {
    if real.upper == 0 {
        return;
    }
    if !has_key("[[service.real]]", "max_connections") {
        remarks.lost(&real.at, "the thresholds: weir has none");
        return;
    }
    keys.put("max_connections", real.upper);
    match real.lower {
        0 => {}
        lower if lower > real.upper => {
            let text = "the lower threshold: it is above the upper one";
            remarks.lost(&real.at, text);
        }
        lower => keys.put("min_connections", lower),
    }
}

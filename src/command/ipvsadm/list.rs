//! Tables as ipvsadm prints them (`print_title`, `print_service_entry`, `print_conn`): scripts read their columns.

use super::names;
use super::order::sort;
use super::words::Line;
use crate::view::{ConnectionView, MemberView, PortsView, ServiceView, TrafficView};
use std::collections::HashMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// What the columns have.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Columns {
    Plain,
    TunnelInfo,
    Stats,
    /// The counters so many seconds before.
    Rate(Before, f64),
    Thresholds,
    /// How many clients are bound to each real server.
    Persistent(HashMap<Place, u32>),
}

/// A real server of a service: the protocol, the VIP and its first port, and the real server's address and port.
pub(super) type Place = (String, SocketAddr, SocketAddr);
/// What went through services, without a real server, and through real servers.
pub(super) type Before = HashMap<(String, SocketAddr, Option<SocketAddr>), TrafficView>;

/// How a list is written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct How {
    pub columns: Columns,
    pub numeric: bool,
    pub exact: bool,
    pub sorted: bool,
    /// For how many connections there is room: said of the whole table only.
    pub size: Option<u64>,
}

/// Of IPVS, whose interface this is.
pub(super) const VERSION: &str = "1.2.1";

/// What of a service's counters `--rate` looks at again.
pub(super) fn before(services: &[ServiceView]) -> Before {
    let mut before = Before::new();
    for service in services {
        let of = |real| (service.protocol.clone(), at(service), real);
        before.insert(of(None), service.traffic.clone());
        for member in &service.reals {
            before.insert(of(Some(member.real)), member.traffic.clone());
        }
    }
    before
}

/// The VIP with the first port.
pub(super) fn at(service: &ServiceView) -> SocketAddr {
    let port = match &service.port {
        PortsView::One(port) => *port,
        PortsView::Range(ports) => {
            let first = ports.split('-').next();
            first.and_then(|first| first.parse().ok()).unwrap_or(0)
        }
    };
    SocketAddr::new(service.address, port)
}

/// Where a real server gets packets: to the service's own port where the mode keeps it.
pub(super) fn real_of(service: &ServiceView, member: &MemberView) -> SocketAddr {
    match (member.real.port(), &service.port) {
        (0, PortsView::One(port)) => SocketAddr::new(member.real.ip(), *port),
        _ => member.real,
    }
}

/// The table of services.
pub(super) fn services(mut all: Vec<ServiceView>, how: &How) -> String {
    let mut out = String::new();
    if let Some(size) = how.size {
        let _ = writeln!(out, "IP Virtual Server version {VERSION} (size={size})");
    }
    title(&mut out, how);
    if how.sorted {
        all = sort(all);
    }
    for service in &all {
        let name = format!(
            "{:4} {}",
            service.protocol.to_uppercase(),
            vip(service, how.numeric)
        );
        match &how.columns {
            Columns::Stats => numbers(&mut out, &name, &service.traffic, how),
            Columns::Rate(before, seconds) => {
                let key = (service.protocol.clone(), at(service), None);
                let traffic = rate(&service.traffic, before.get(&key), *seconds);
                numbers(&mut out, &name, &traffic, how);
            }
            _ => {
                let _ = writeln!(out, "{name} {}", flags(service));
            }
        }
        for member in service.reals.iter().filter(|member| is_listed(member)) {
            real(&mut out, service, member, how);
        }
    }
    out
}

/// A fallback server is one only while it gets connections, as keepalived's sorry server is in IPVS.
fn is_listed(member: &MemberView) -> bool {
    !member.fallback || member.weight > 0
}

fn title(out: &mut String, how: &How) {
    const LOCAL: &str = "Prot LocalAddress:Port";
    const REMOTE: &str = "  -> RemoteAddress:Port";
    let _ = match how.columns {
        Columns::Plain => writeln!(
            out,
            "{LOCAL} Scheduler Flags\n{REMOTE:33} Forward Weight ActiveConn InActConn"
        ),
        Columns::TunnelInfo => writeln!(
            out,
            "{LOCAL} Scheduler Flags\n{REMOTE:33} Forward TunnelInfo    Weight ActiveConn InActConn"
        ),
        Columns::Stats => writeln!(
            out,
            "{LOCAL:33} {:>8} {:>8} {:>8} {:>8} {:>8}\n{REMOTE}",
            "Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"
        ),
        Columns::Rate(..) => writeln!(
            out,
            "{LOCAL:33} {:>8} {:>8} {:>8} {:>8} {:>8}\n{REMOTE}",
            "CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"
        ),
        Columns::Thresholds => writeln!(
            out,
            "{LOCAL:33} {:10} {:10} {:10} {:10}\n{REMOTE}",
            "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
        ),
        Columns::Persistent(_) => writeln!(
            out,
            "{LOCAL:33} {:9} {:11} {:10} {:10}\n{REMOTE}",
            "Weight", "PersistConn", "ActiveConn", "InActConn"
        ),
    };
}

fn real(out: &mut String, service: &ServiceView, member: &MemberView, how: &How) {
    let at = real_of(service, member);
    let name = format!("  -> {:28}", end(at, &service.protocol, how.numeric));
    let traffic = &member.traffic;
    let (active, inactive) = (traffic.active_connections, traffic.inactive_connections);
    let state = &member.state;
    let _ = match &how.columns {
        Columns::Plain => writeln!(
            out,
            "{name} {:7} {:<6} {active:<10} {inactive:<10}",
            forward(&service.mode),
            member.weight
        ),
        Columns::TunnelInfo => writeln!(
            out,
            "{name} {:7} {:13} {:<6} {active:<10} {inactive:<10}",
            forward(&service.mode),
            tunnel_info(service),
            member.weight
        ),
        Columns::Stats => return numbers(out, &name, traffic, how),
        Columns::Rate(before, seconds) => {
            let key = (
                service.protocol.clone(),
                self::at(service),
                Some(member.real),
            );
            return numbers(out, &name, &rate(traffic, before.get(&key), *seconds), how);
        }
        Columns::Thresholds => writeln!(
            out,
            "{name} {:<10} {:<10} {active:<10} {inactive:<10}",
            state.max_connections.unwrap_or(0),
            state.min_connections.unwrap_or(0)
        ),
        Columns::Persistent(bound) => {
            let place = (service.protocol.clone(), self::at(service), at);
            let bound = bound.get(&place).copied().unwrap_or(0);
            writeln!(
                out,
                "{name} {:<9} {bound:<11} {active:<10} {inactive:<10}",
                member.weight
            )
        }
    };
}

fn numbers(out: &mut String, name: &str, traffic: &TrafficView, how: &How) {
    let _ = write!(out, "{name:33}");
    for number in [
        traffic.connections_total,
        traffic.packets_in,
        traffic.packets_out,
        traffic.bytes_in,
        traffic.bytes_out,
    ] {
        out.push_str(&large(number, how.exact));
    }
    out.push('\n');
}

/// `print_largenum`: in nine columns, unless every digit is wanted.
fn large(number: u64, exact: bool) -> String {
    match number {
        _ if exact => format!("{:>9}", format!(" {number}")),
        0..=99_999_999 => format!("{number:9}"),
        100_000_000..=999_999_999 => format!("{:8}K", number / 1_000),
        1_000_000_000..=99_999_999_999 => format!("{:8}M", number / 1_000_000),
        100_000_000_000..=99_999_999_999_999 => format!("{:8}G", number / 1_000_000_000),
        _ => format!("{:8}T", number / 1_000_000_000_000),
    }
}

/// What went through in a second.
fn rate(now: &TrafficView, before: Option<&TrafficView>, seconds: f64) -> TrafficView {
    // One that has just come had nothing before.
    let none = TrafficView::default();
    let before = before.unwrap_or(&none);
    let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds) as u64;
    TrafficView {
        connections_total: rate(now.connections_total, before.connections_total),
        packets_in: rate(now.packets_in, before.packets_in),
        bytes_in: rate(now.bytes_in, before.bytes_in),
        packets_out: rate(now.packets_out, before.packets_out),
        bytes_out: rate(now.bytes_out, before.bytes_out),
        ..none
    }
}

/// Scheduler and flags.
fn flags(service: &ServiceView) -> String {
    let mut text = service.scheduler.clone();
    if !service.flags.is_empty() {
        text += &format!(" ({})", service.flags.join(","));
    }
    if let Some(seconds) = service.persistence_s {
        text += &format!(" persistent {seconds}");
        if let Some(mask) = mask(service) {
            text += &format!(" mask {mask}");
        }
    }
    if service.one_packet {
        text += " ops";
    }
    text
}

/// The netmask of persistence, unless it is the whole address.
fn mask(service: &ServiceView) -> Option<String> {
    let prefix = service.persistence_prefix?;
    match service.address {
        IpAddr::V4(_) if prefix < 32 => {
            let bits = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Some(std::net::Ipv4Addr::from_bits(bits).to_string())
        }
        IpAddr::V6(_) if prefix < 128 => Some(prefix.to_string()),
        _ => None,
    }
}

/// How packets get to real servers, as ipvsadm calls it; what IPVS does not have as DPVS does, or by weir's name.
fn forward(mode: &str) -> &str {
    match mode {
        "dr" => "Route",
        "nat" => "Masq",
        "tunnel" => "Tunnel",
        "fullnat" => "FullNat",
        "l3dsr" => "L3DSR",
        other => other,
    }
}

fn tunnel_info(service: &ServiceView) -> String {
    let checksum = if has_checksum(service) { "+c" } else { "-c" };
    match service.via.tunnel.as_deref() {
        Some("gue") => format!(
            "gue:{}:{checksum}",
            service.via.gue_port.unwrap_or_default()
        ),
        Some("gre") => "gre:-c".to_owned(),
        Some(other) => other.to_owned(),
        None => "n/a".to_owned(),
    }
}

/// Whether the outer header of GUE has a checksum: over IPv4 it has none.
fn has_checksum(service: &ServiceView) -> bool {
    let is_v6 = service
        .reals
        .first()
        .is_some_and(|member| member.real.is_ipv6());
    is_v6 && service.via.gue_zero_checksum != Some(true)
}

fn vip(service: &ServiceView, numeric: bool) -> String {
    match &service.port {
        PortsView::One(_) => end(at(service), &service.protocol, numeric),
        ports => ports.at(service.address),
    }
}

/// An address and a port, the port by its name unless it is asked for in numbers.
fn end(at: SocketAddr, protocol: &str, numeric: bool) -> String {
    match (numeric || at.port() == 0, at.ip()) {
        (true, _) => at.to_string(),
        (false, IpAddr::V4(address)) => {
            format!("{address}:{}", names::of_port(at.port(), protocol))
        }
        (false, IpAddr::V6(address)) => {
            format!("[{address}]:{}", names::of_port(at.port(), protocol))
        }
    }
}

/// The titles of `-L -c`.
pub(super) fn connections_title(has_engines: bool) -> String {
    let title = format!(
        "pro expire {:11} {:18} {:18} ",
        "state", "source", "virtual"
    );
    let end = match has_engines {
        false => "destination".to_owned(),
        true => format!("{:18} {:16} pe_data", "destination", "pe name"),
    };
    format!("IPVS connection entries\n{title}{end}\n")
}

/// A line of `-L -c`.
pub(super) fn connection(row: &ConnectionView, numeric: bool) -> String {
    let end = |at| end(at, &row.protocol, numeric);
    format!(
        "{:3} {:02}:{:02}  {:11} {:18} {:18} {}\n",
        row.protocol.to_uppercase(),
        row.expires_s / 60,
        row.expires_s % 60,
        row.state.to_uppercase(),
        end(row.client),
        end(row.vip),
        end(row.real)
    )
}

/// The lines of `-S`, which `-R` reads; and what is left out as it would not.
pub(super) fn save(mut all: Vec<ServiceView>, numeric: bool) -> (String, Vec<String>) {
    all = sort(all);
    let (mut out, mut left_out) = (String::new(), Vec::new());
    for service in &all {
        let option = match service.protocol.as_str() {
            "tcp" => "-t",
            "udp" => "-u",
            _ => "--sctp-service",
        };
        let which = format!("{option} {}", vip(service, numeric));
        let mut line = format!("-A {which} -s {}", service.scheduler);
        if let Some(seconds) = service.persistence_s {
            let _ = write!(line, " -p {seconds}");
            if let Some(mask) = mask(service) {
                let _ = write!(line, " -M {mask}");
            }
        }
        if service.one_packet {
            line.push_str(" -o");
        }
        if !service.flags.is_empty() {
            let _ = write!(line, " -b {}", service.flags.join(","));
        }
        if !is_read(&line) {
            left_out.push(format!("service {}", service.name));
            continue;
        }
        out += &line;
        out.push('\n');
        // The kernel's, and so what `-R` makes of `--tun-type gue`, is 0.
        if service.via.gue_variant == Some(1) {
            left_out.push(format!("gue_variant = 1 of service {}", service.name));
        }
        for member in service.reals.iter().filter(|member| !member.fallback) {
            let real = end(real_of(service, member), &service.protocol, numeric);
            let how = match service.mode.as_str() {
                "dr" | "l3dsr" => "-g",
                "tunnel" => "-i",
                _ => "-m",
            };
            let state = &member.state;
            let weight = state.runtime_weight.unwrap_or(state.configured_weight);
            let tunnel = saved_tunnel(service);
            let mut line = format!("-a {which} -r {real} {how} -w {weight}{tunnel}");
            if let Some(upper) = state.max_connections {
                let lower = state.min_connections.unwrap_or_default();
                let _ = write!(line, " -x {upper} -y {lower}");
            }
            match is_read(&line) {
                true => {
                    out += &line;
                    out.push('\n');
                }
                false => left_out.push(format!("real server {real} of {}", service.name)),
            }
        }
    }
    (out, left_out)
}

/// Whether `-R` takes a line.
fn is_read(line: &str) -> bool {
    let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
    Line::read(&words).is_ok()
}

fn saved_tunnel(service: &ServiceView) -> String {
    let checksum = if has_checksum(service) {
        "--tun-csum"
    } else {
        "--tun-nocsum"
    };
    match service.via.tunnel.as_deref() {
        None => String::new(),
        Some("gue") => {
            let port = service.via.gue_port.unwrap_or_default();
            format!(" --tun-type gue --tun-port {port} {checksum}")
        }
        Some("gre") => " --tun-type gre --tun-nocsum".to_owned(),
        Some(other) => format!(" --tun-type {other}"),
    }
}

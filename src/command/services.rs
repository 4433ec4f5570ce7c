//! The table of `weir show services`.

use super::table::Columns;
use crate::view::PortsView;
use serde::Deserialize;
use std::borrow::Cow;
use std::io::{self, Write};
use std::net::IpAddr;

/// What the table has of a service, see [`BriefServiceView`](crate::view::BriefServiceView).
#[derive(Deserialize)]
pub(super) struct ServiceRow<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    protocol: Cow<'a, str>,
    address: IpAddr,
    port: PortsView,
    #[serde(borrow)]
    mode: Cow<'a, str>,
    #[serde(borrow)]
    scheduler: Cow<'a, str>,
    #[serde(borrow, default)]
    flags: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    local_pool: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tunnel: Option<Cow<'a, str>>,
    dscp: Option<u8>,
    persistence_s: Option<u64>,
    #[serde(borrow, default)]
    serving: Cow<'a, str>,
    #[serde(borrow)]
    reals: Vec<MemberRow<'a>>,
}

#[derive(Deserialize)]
struct MemberRow<'a> {
    #[serde(borrow)]
    real: Cow<'a, str>,
    #[serde(default)]
    fallback: bool,
    weight: u16,
    up: bool,
    active_connections: u32,
    inactive_connections: u32,
}

/// As `ipvsadm -Ln`, with the names that weir has.
pub(super) struct Services<'a, W>(Columns<'a, W>);

impl<'a, W: Write> Services<'a, W> {
    pub(super) fn new(out: &'a mut W) -> io::Result<Self> {
        let mut columns = Columns::new(&[false, false, false, false, true, true, true], out);
        columns.row(["Prot", "LocalAddress:Port", "Scheduler", "Flags"])?;
        columns.row([
            "  ->",
            "RemoteAddress:Port",
            "Forward",
            "",
            "Weight",
            "ActiveConn",
            "InActConn",
        ])?;
        Ok(Services(columns))
    }

    pub(super) fn add(&mut self, row: &ServiceRow) -> io::Result<()> {
        let mut flags = row.name.to_string();
        for flag in &row.flags {
            flags += &format!(" {flag}");
        }
        if let Some(pool) = &row.local_pool {
            flags += &format!(" pool {pool}");
        }
        if let Some(tunnel) = &row.tunnel {
            flags += &format!(" {tunnel}");
        }
        if let Some(dscp) = row.dscp {
            flags += &format!(" dscp {dscp}");
        }
        if let Some(seconds) = row.persistence_s {
            flags += &format!(" persistent {seconds}");
        }
        // What is unusual.
        flags += match &*row.serving {
            "all" => " below minimum: all in use",
            "fallback" => " below minimum: fallback in use",
            "refused" => " below minimum: refused",
            _ => "",
        };
        let address = row.port.at(row.address);
        let protocol = row.protocol.to_uppercase();
        self.0.row([&protocol, &address, &row.scheduler, &flags])?;
        for member in &row.reals {
            self.0.row([
                "  ->",
                &member.real,
                &row.mode,
                match (member.fallback, member.up) {
                    (false, true) => "",
                    (false, false) => "down",
                    (true, true) => "fallback",
                    (true, false) => "fallback down",
                },
                &member.weight.to_string(),
                &member.active_connections.to_string(),
                &member.inactive_connections.to_string(),
            ])?;
        }
        Ok(())
    }

    /// Writes what there is.
    pub(super) fn end(self) -> io::Result<()> {
        self.0.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view;

    #[test]
    fn services_read_as_ipvsadm_prints_them() {
        let traffic = view::TrafficView {
            active_connections: 7,
            inactive_connections: 12,
            ..view::TrafficView::default()
        };
        let member = |last, weight| view::MemberView {
            state: view::StateView::default(),
            fallback: last == 99,
            real: format!("10.0.0.{last}:8080").parse().unwrap(),
            weight,
            up: last == 11,
            traffic: traffic.clone(),
            first_byte_us: None,
            times: None,
        };
        let service = view::ServiceView {
            name: "web".into(),
            protocol: "tcp".into(),
            address: "192.0.2.80".parse().unwrap(),
            port: PortsView::One(80),
            mode: "fullnat".into(),
            scheduler: "wrr".into(),
            flags: vec![],
            local_pool: Some("inside".into()),
            via: view::ViaView::default(),
            persistence_s: Some(300),
            persistence_prefix: Some(32),
            one_packet: false,
            admission: None,
            availability: view::AvailabilityView {
                serving: "fallback".into(),
                ..view::AvailabilityView::default()
            },
            traffic: traffic.clone(),
            times: None,
            reals: vec![member(11, 3), member(12, 1), member(99, 1)],
        };
        let mut out = Vec::new();
        let row = serde_json::to_string(&view::BriefServiceView::from(service)).unwrap();
        let mut table = Services::new(&mut out).unwrap();
        table.add(&serde_json::from_str(&row).unwrap()).unwrap();
        table.end().unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
Prot  LocalAddress:Port   Scheduler  Flags
  ->  RemoteAddress:Port  Forward                                                                   Weight  ActiveConn  InActConn
TCP   192.0.2.80:80       wrr        web pool inside persistent 300 below minimum: fallback in use
  ->  10.0.0.11:8080      fullnat                                                                        3           7         12
  ->  10.0.0.12:8080      fullnat    down                                                                1           7         12
  ->  10.0.0.99:8080      fullnat    fallback down                                                       1           7         12
"
        );
    }
}

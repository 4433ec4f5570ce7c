//! One line of JSON for each received packet: what was decided, and why.

use super::{Decision, Replay};
use crate::conn::Key;
use crate::director::family::{V4, V6, Wire};
use crate::director::parse::{Parsed, receive};
use crate::director::sctp;
use crate::io::memory::Memory;
use crate::model::Place;
use crate::net::protocol;
use crate::packet::Packet;
use crate::tables::Tables;
use crate::units::{PortId, Time};
use serde_json::json;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

/// Writes the line of packet number `n`, of `port`'s capture. Keys that do not apply are left out.
pub fn explain(
    out: &mut impl Write,
    replay: &Replay,
    n: u64,
    port: PortId,
    frame: &[u8],
    decision: &Decision,
) -> io::Result<()> {
    let tables = replay.model().tables();
    let Decision {
        port: entered,
        worker,
        time,
        verdict,
        context,
        out_n,
    } = decision;
    let name = |port: PortId| json!(&*tables.port(port).name);
    let model = replay.model();
    let service = context.service.and_then(|id| model.service(id));
    let name_of = |id| model.service_name(id).map(|name| json!(&*name));
    // Outward connections have the counters of a real server, and none.
    let is_snat = context.real.is_some_and(|id| model.is_snat(id));
    let real = context.real.filter(|_| !is_snat);
    let real = real.and_then(|id| model.real(id));
    let enter = || replay.enter(port, frame).ok();
    let real = real.map(|real| real_server(real, tables, enter));
    let (reason, out_port) = (verdict.reason(context), verdict.out_port());

    // By hand: a number that came through f64 would not keep its nanoseconds.
    write!(
        out,
        r#"{{"n": {n}, "port": {}, "time": {}"#,
        name(*entered),
        Seconds(*time)
    )?;
    let mut key = |key: &str, value: Option<serde_json::Value>| match value {
        Some(value) => write!(out, r#", "{key}": {value}"#),
        None => Ok(()),
    };
    key("verdict", Some(json!(verdict.name())))?;
    key("reason", Some(json!(reason)))?;
    key("service", context.service.and_then(name_of))?;
    key("real", real.map(|real| json!(real)))?;
    let mode = service.map(|service| service.mode.name);
    let mode = mode.or(is_snat.then_some("snat"));
    key("mode", mode.map(|mode| json!(mode)))?;
    key("out_port", out_port.map(name))?;
    key("out_n", out_n.map(|n| json!(n)))?;
    key("state", context.state.map(|state| json!(state)))?;
    key("worker", Some(json!(worker.0)))?;
    writeln!(out, "}}")
}

/// `10.0.0.11:8080`. In a service of every port, the port is the one on the real server's side of the packet.
fn real_server(real: &Place, tables: &Tables, enter: impl Fn() -> Option<Memory>) -> String {
    let (service, address, real_port) = real;
    let real_port = match real_port {
        0 => port_in::<V4>(service.address, tables, enter())
            .or_else(|| port_in::<V6>(service.address, tables, enter()))
            .unwrap_or(0),
        configured => *configured,
    };
    SocketAddr::new(*address, real_port).to_string()
}

/// The real server's port in a packet to or from a VIP, if it is one of that family's flow.
fn port_in<F: Wire>(vip: IpAddr, tables: &Tables, packet: Option<Memory>) -> Option<u16> {
    let mut packet = packet?;
    let port = tables.port(packet.port());
    let parsed = match receive::<F, _>(&mut packet, port) {
        Parsed::Ip(datagram) if datagram.protocol == protocol::SCTP => {
            sctp::flow_of(packet.data(), &datagram).map_or(Parsed::Ip(datagram), Parsed::Flow)
        }
        parsed => parsed,
    };
    match parsed {
        Parsed::Flow(flow) if flow.key.destination().into() == vip => {
            Some(flow.key.destination_port())
        }
        Parsed::Flow(flow) => Some(flow.key.source_port()),
        _ => None,
    }
}

/// Seconds since 1970, in microseconds, or in nanoseconds where there are any.
struct Seconds(Time);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, nanos) = (
            self.0.nanos() / 1_000_000_000,
            self.0.nanos() % 1_000_000_000,
        );
        match nanos % 1000 {
            0 => write!(f, "{seconds}.{:06}", nanos / 1000),
            _ => write!(f, "{seconds}.{nanos:09}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_keep_every_digit() {
        let show = |nanos| Seconds(Time::from_nanos(nanos)).to_string();
        assert_eq!(show(0), "0.000000");
        assert_eq!(show(1_000_001_000), "1.000001");
        assert_eq!(show(1_700_000_000_123_456_789), "1700000000.123456789");
    }
}

//! Connections as rows for `/v1/connections`.

use super::Control;
use crate::config::Protocol;
use crate::conn::entry::template_protocol;
use crate::conn::{Address, Connection, Key};
use crate::exchange::ConnectionChunk;
use crate::net::protocol;
use crate::tables::Timing;
use crate::units::{Millis, ServiceId};
use crate::view::ConnectionView;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Which connections are shown: all, where nothing is said.
#[derive(Clone, Debug, Default)]
pub struct OnlyConnections {
    /// Those of these services.
    pub services: Option<Arc<[ServiceId]>>,
    pub protocol: Option<Protocol>,
    /// Those that a packet from and to these ends belongs to, and the templates of its client.
    pub from: Option<SocketAddr>,
    pub to: Option<SocketAddr>,
}

impl Control {
    /// The connections of a chunk, of both families.
    pub fn show_connections(
        &self,
        worker: usize,
        chunk: &ConnectionChunk,
        only: &OnlyConnections,
    ) -> Vec<ConnectionView> {
        let mut rows = self.show_family(worker, &chunk.connections, chunk.now, only);
        rows.extend(self.show_family(worker, &chunk.connections6, chunk.now, only));
        rows.extend(self.show_family(worker, &chunk.connections_across, chunk.now, only));
        rows
    }

    fn show_family<K: Key>(
        &self,
        worker: usize,
        connections: &[Connection<K>],
        now: Millis,
        only: &OnlyConnections,
    ) -> Vec<ConnectionView> {
        let timing = &self.model.tables().timing;
        let with_service = connections
            .iter()
            .map(|connection| (connection, self.service_of(connection)));
        with_service
            .filter(|(connection, service)| {
                let services = only.services.as_deref();
                services.is_none_or(|only| service.is_some_and(|it| only.contains(&it)))
                    && (only.protocol).is_none_or(|it| it.number() == number(connection))
                    && self.has(connection, *service, only)
            })
            .map(|(connection, service)| {
                let name = service.and_then(|id| self.model.service_name(id));
                // A template's one key does not tell, nor that of another family than the real server's.
                let bound = match connection.is_template() || connection.is_wrapped() {
                    true => self.model.real(connection.real),
                    false => None,
                };
                let bound = bound.map(|(_, address, port)| (*address, *port));
                ConnectionView {
                    service: name.map(|name| name.to_string()),
                    worker: worker as u8,
                    ..row(connection, bound, timing, now)
                }
            })
            .collect()
    }

    /// Whether a packet between the ends that are wanted belongs to a connection, or its client is bound by it.
    fn has<K: Key>(
        &self,
        connection: &Connection<K>,
        service: Option<ServiceId>,
        only: &OnlyConnections,
    ) -> bool {
        if only.from.is_none() && only.to.is_none() {
            return true;
        }
        let request = &connection.request;
        if connection.is_template() {
            let Some(service) = service.and_then(|id| self.model.service(id)) else {
                return false;
            };
            let prefix = service.persistence.map_or(0, |it| it.prefix);
            let is_client = |from: SocketAddr| {
                let client = K::Address::of(from.ip()).map(|client| client.masked(prefix));
                client == Some(request.source())
            };
            let vip = end(request.destination(), request.destination_port());
            // The service's port, which the packet's may be one of.
            let is_vip = |to: SocketAddr| {
                vip.ip() == to.ip() && (vip.port() == to.port() || vip.port() == service.key.port)
            };
            return only.from.is_none_or(is_client) && only.to.is_none_or(is_vip);
        }
        [request, &connection.reply].into_iter().any(|key| {
            let from = end(key.source(), key.source_port());
            let to = end(key.destination(), key.destination_port());
            only.from.is_none_or(|it| it == from) && only.to.is_none_or(|it| it == to)
        })
    }

    fn service_of<K: Key>(&self, connection: &Connection<K>) -> Option<ServiceId> {
        match connection.is_template() {
            true => Some(connection.template_service()),
            false => self.stats.service_of(connection.real),
        }
    }
}

fn end(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

/// IP's number of a connection's protocol, or of those that a template binds.
fn number<K: Key>(connection: &Connection<K>) -> u8 {
    match connection.is_template() {
        true => template_protocol(connection.request.protocol()),
        false => connection.request.protocol(),
    }
}

/// A connection's row, but for its service and worker. `bound`: the real server that a template binds to, or whose
/// address the keys do not have.
fn row<K: Key>(
    connection: &Connection<K>,
    bound: Option<(IpAddr, u16)>,
    timing: &Timing,
    now: Millis,
) -> ConnectionView {
    let left_ms = timing
        .timeout(connection)
        .saturating_sub(now.since(connection.last_seen));
    let (request, reply) = (&connection.request, &connection.reply);
    let client = end(request.source(), request.source_port());
    let kind = number(connection);
    let (real, local) = match connection.is_template() {
        // Its one key is the client's.
        true => {
            let nowhere = (K::Address::UNSPECIFIED.into(), 0);
            (SocketAddr::from(bound.unwrap_or(nowhere)), client)
        }
        false => (
            SocketAddr::new(
                bound.map_or(reply.source().into(), |(address, _)| address),
                reply.source_port(),
            ),
            SocketAddr::new(reply.destination().into(), reply.destination_port()),
        ),
    };
    ConnectionView {
        protocol: match kind {
            protocol::TCP => "tcp",
            protocol::SCTP => "sctp",
            protocol::ICMP | protocol::ICMPV6 => "icmp",
            _ => "udp",
        }
        .to_owned(),
        client,
        vip: SocketAddr::new(request.destination().into(), request.destination_port()),
        real,
        local: (local != client).then_some(local),
        state: connection.state.name().to_owned(),
        expires_s: left_ms.div_ceil(1000),
        service: None,
        worker: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TimeoutsConfig;
    use crate::conn::{FlowKey, FlowKey6, State, Timeouts};
    use crate::forward::MODES;
    use crate::units::RealId;

    /// The row of a client's connection by fullnat, as JSON, and that of its template.
    fn rows<K: Key>(addresses: [&str; 4]) -> [serde_json::Value; 2] {
        let [client, vip, local, real] = addresses.map(|text| {
            let address: IpAddr = text.parse().unwrap();
            K::Address::of(address).unwrap()
        });
        let fullnat = MODES.iter().find(|mode| mode.uses_pool).unwrap();
        let request = K::new(client, 40_000, vip, 443, protocol::TCP);
        let translation = fullnat.translation(&request, (real, 8443), Some((local, 1025)));
        let mut connection = Connection::new(request, translation, RealId(3));
        connection.state = State::Established;
        connection.last_seen = Millis(5_000);
        let key = K::new(client, 0, vip, 443, template_protocol(protocol::TCP));
        let mut template = Connection::template(key, 300_000, ServiceId(1), RealId(3));
        template.last_seen = Millis(5_000);
        let bound = Some((real.into(), 8443));
        let timeouts = Timing::from(Timeouts::from(&TimeoutsConfig::default()));
        [(connection, None), (template, bound)].map(|(connection, bound)| {
            let row = row(&connection, bound, &timeouts, Millis(15_000));
            serde_json::to_value(row).unwrap()
        })
    }

    #[test]
    fn rows_have_the_addresses_and_ports_of_their_family() {
        let expected = |client: &str, port: u16, vip: &str, real: &str, local: Option<&str>| {
            let is_template = local.is_none();
            let mut row = serde_json::json!({
                "protocol": "tcp",
                "client": format!("{client}:{port}"),
                "vip": format!("{vip}:443"),
                "real": format!("{real}:8443"),
                "state": if is_template { "assured" } else { "established" },
                "expires_s": if is_template { 290 } else { 890 },
                "worker": 0,
            });
            if let Some(local) = local {
                row["local"] = format!("{local}:1025").into();
            }
            row
        };
        let [connection, template] =
            rows::<FlowKey>(["198.51.100.7", "192.0.2.80", "10.0.0.200", "10.0.3.9"]);
        let of = |port, local| expected("198.51.100.7", port, "192.0.2.80", "10.0.3.9", local);
        assert_eq!(connection, of(40_000, Some("10.0.0.200")));
        assert_eq!(template, of(0, None));
        let addresses = [
            "2001:db8:7::1",
            "2001:db8::80",
            "2001:db8:1::200",
            "2001:db8:3::9",
        ];
        let [connection, template] = rows::<FlowKey6>(addresses);
        let of = |port, local| {
            expected(
                "[2001:db8:7::1]",
                port,
                "[2001:db8::80]",
                "[2001:db8:3::9]",
                local,
            )
        };
        assert_eq!(connection, of(40_000, Some("[2001:db8:1::200]")));
        assert_eq!(template, of(0, None));
    }

    #[test]
    fn a_template_that_binds_to_none_has_no_address_of_its_family() {
        let key = FlowKey6::new(
            "2001:db8::".parse().unwrap(),
            0,
            "2001:db8::80".parse().unwrap(),
            53,
            template_protocol(17),
        );
        let template = Connection::template(key, 1_000, ServiceId(1), RealId(3));
        let timeouts = Timing::from(Timeouts::from(&TimeoutsConfig::default()));
        let row = row(&template, None, &timeouts, Millis(0));
        assert_eq!(row.real.to_string(), "[::]:0");
        assert_eq!(
            (row.client.to_string(), row.protocol),
            ("[2001:db8::]:0".to_owned(), "udp".to_owned())
        );
    }
}

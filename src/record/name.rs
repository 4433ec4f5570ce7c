//! What an id of a real server stood for.

use crate::config::Protocol;
use crate::conn::entry::template_protocol;
use crate::conn::{Address, Connection, Key};
use crate::service::ServiceKey;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};

/// Whose the connections of an id are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// A real server of a service, by its own address and port; port 0: that of the packet.
    Server {
        service: ServiceKey,
        address: IpAddr,
        port: u16,
    },
    /// A rule of `[[snat]]`, by its network.
    Rule(IpNet),
}

const SERVER: u8 = 1;
const RULE: u8 = 2;

impl Name {
    /// Bytes of each.
    pub const BYTES: usize = 64;

    /// Kind, protocol, prefix length, a byte of 0; port and last port of the service, port of the real server, 2 bytes of 0, each
    /// lowest byte first; from byte 16 on the VIP or network and the real server's address, IPv4 as IPv4-mapped IPv6.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (kind, protocol, prefix, ports, addresses) = match *self {
            Name::Server {
                service,
                address,
                port,
            } => {
                let ports = [service.port, service.last, port];
                let protocol = service.protocol.number();
                (SERVER, protocol, 0, ports, [service.address, address])
            }
            Name::Rule(from) => {
                let addresses = [from.addr(), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
                (RULE, 0, from.prefix_len(), [0; 3], addresses)
            }
        };
        bytes[..3].copy_from_slice(&[kind, protocol, prefix]);
        for (place, port) in bytes[4..10].chunks_exact_mut(2).zip(ports) {
            place.copy_from_slice(&port.to_le_bytes());
        }
        for (place, address) in bytes[16..48].chunks_exact_mut(16).zip(addresses) {
            let address = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            place.copy_from_slice(&address.octets());
        }
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) has made bytes of; none of other bytes.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Name> {
        let port = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let address = |at: usize| {
            let octets: &[u8; 16] = bytes[at..].first_chunk()?;
            Some(Ipv6Addr::from(*octets).to_canonical())
        };
        let name = match bytes[0] {
            SERVER => Name::Server {
                service: ServiceKey {
                    protocol: Protocol::ALL
                        .into_iter()
                        .find(|protocol| protocol.number() == bytes[1])?,
                    address: address(16)?,
                    port: port(4),
                    last: port(6),
                },
                address: address(32)?,
                port: port(8),
            },
            RULE => Name::Rule(IpNet::new(address(16)?, bytes[2]).ok()?),
            _ => return None,
        };
        // Nothing beside what a name has: a torn one is none.
        (name.to_bytes() == *bytes).then_some(name)
    }

    /// Whether a connection is one of what has this name.
    pub fn fits<K: Key>(&self, connection: &Connection<K>) -> bool {
        let (request, reply) = (&connection.request, &connection.reply);
        let (client, vip): (IpAddr, IpAddr) =
            (request.source().into(), request.destination().into());
        match *self {
            Name::Rule(from) => connection.is_outward() && from.contains(&client),
            Name::Server { service, .. } if connection.is_template() => {
                request.protocol() == template_protocol(service.protocol.number())
                    && vip == service.address
                    && (request.source_port(), request.destination_port())
                        == (service.last, service.port)
            }
            Name::Server {
                service,
                address,
                port,
            } => {
                let port = match (connection.translates(), port) {
                    (false, _) | (true, 0) => request.destination_port(),
                    (true, own) => own,
                };
                // What goes to a real server of another family whole inside other packets has no address of it.
                let is_beyond = connection.is_wrapped() && K::Address::of(address).is_none();
                let server = match is_beyond {
                    true => Some(K::Address::UNSPECIFIED),
                    false => K::Address::of(address),
                };
                server == Some(reply.source())
                    && reply.source_port() == port
                    && request.protocol() == service.protocol.number()
                    && vip == service.address
                    && service.covers(request.destination_port())
            }
        }
    }
}

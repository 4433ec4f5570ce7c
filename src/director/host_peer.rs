//! The host's routing protocols: which packets to the host have a budget of their own, ahead of everything else.

use crate::config::HostPeer;
use crate::net::{is_link_local, protocol};
use crate::units::PortId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// RFC 5881 section 4: control and echo packets of a single hop.
const BFD_SINGLE_HOP: [u16; 2] = [3784, 3785];
/// RFC 5883 section 5.
const BFD_MULTIHOP: u16 = 4784;
/// RFC 4271 section 8.2.1.
const BGP: u16 = 179;
/// RFC 5798 sections 5.1.1.2 and 5.1.2.2.
const VRRP_GROUPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18)),
    IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12)),
];

/// What tells whose packet to the host it is.
pub(super) struct ToHost {
    /// It came in by this one.
    pub port: PortId,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub ttl: u8,
    pub is_fragment: bool,
    /// Of a whole TCP segment or UDP datagram.
    pub ports: Option<(u16, u16)>,
}

/// Whether a packet to the host is BFD, BGP or VRRP from one of the configured peers. `peers` are in the order of their
/// addresses and ports. A link-local peer is one on its port's link alone. A packet with the wrong TTL is none: it may come from anywhere, and has the budget of all other packets
/// (RFC 5082 section 3 allows a lower-priority queue for it). The host's daemon decides: with authentication BFD may take
/// any TTL (RFC 5881 section 5).
pub(super) fn is_host_peers(packet: &ToHost, peers: &[HostPeer]) -> bool {
    let link = is_link_local(packet.source).then(|| packet.port.index());
    let wanted = (packet.source, link);
    let Ok(place) = peers.binary_search_by_key(&wanted, |peer| (peer.address, peer.port)) else {
        return false;
    };
    let is_from_link = packet.ttl == 255;
    match (packet.protocol, packet.ports) {
        // RFC 5798 section 7.1: the receiver must verify that the TTL is 255.
        (protocol::VRRP, _) => !packet.is_fragment && is_from_link,
        (_, _) if VRRP_GROUPS.contains(&packet.destination) => false,
        (protocol::UDP, Some((_, BFD_MULTIHOP))) => true,
        (protocol::UDP, Some((_, to))) => BFD_SINGLE_HOP.contains(&to) && is_from_link,
        // Either may have opened the session.
        (protocol::TCP, Some((BGP, _) | (_, BGP))) => match peers[place].ttl_security {
            // RFC 5082 section 3: each hop may have taken one.
            Some(hops) => packet.ttl >= 255 - (hops - 1),
            None => true,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);
    const SECURED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 253);
    const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 252);
    const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
    const VRRP_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
    const OSPF_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 5);

    /// The IPv6 address that plays the same part.
    fn v6(address: Ipv4Addr) -> IpAddr {
        match address.octets() {
            [224, 0, 0, last] => {
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, if last == 18 { 0x12 } else { 5 })
            }
            [.., last] => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()),
        }
        .into()
    }

    #[test]
    fn protocols_of_peers_are_told_by_address_port_and_ttl() {
        let peers = [
            (SECURED.into(), Some(2)),
            (PEER.into(), None),
            (v6(SECURED), Some(2)),
            (v6(PEER), None),
        ];
        let peers = peers.map(|(address, ttl_security)| HostPeer {
            address,
            port: None,
            ttl_security,
        });
        let (udp, tcp, vrrp) = (protocol::UDP, protocol::TCP, protocol::VRRP);
        let cases = [
            // source, destination, protocol, ports, TTL, is a peer's
            (PEER, HOST, udp, (49152, 3784), 255, true),
            (PEER, HOST, udp, (49152, 3784), 254, false),
            (PEER, HOST, udp, (49152, 3785), 255, true),
            (PEER, HOST, udp, (49152, 3785), 1, false),
            (PEER, HOST, udp, (49152, 4784), 255, true),
            (PEER, HOST, udp, (49152, 4784), 60, true),
            (PEER, HOST, udp, (3784, 49152), 255, false),
            (PEER, HOST, udp, (49152, 179), 255, false),
            (PEER, HOST, tcp, (40000, 179), 1, true),
            (PEER, HOST, tcp, (179, 40000), 64, true),
            (PEER, HOST, tcp, (40000, 22), 255, false),
            (PEER, HOST, tcp, (40000, 3784), 255, false),
            (SECURED, HOST, tcp, (40000, 179), 255, true),
            (SECURED, HOST, tcp, (179, 40000), 254, true),
            (SECURED, HOST, tcp, (40000, 179), 253, false),
            (SECURED, HOST, udp, (49152, 4784), 60, true),
            (PEER, VRRP_GROUP, vrrp, (0, 0), 255, true),
            (PEER, VRRP_GROUP, vrrp, (0, 0), 254, false),
            (PEER, HOST, vrrp, (0, 0), 255, true),
            (PEER, VRRP_GROUP, udp, (49152, 4784), 255, false),
            (PEER, OSPF_GROUP, 89, (0, 0), 255, false),
            (PEER, HOST, 1, (0, 0), 255, false),
            (STRANGER, HOST, udp, (49152, 3784), 255, false),
            (STRANGER, HOST, tcp, (40000, 179), 255, false),
            (STRANGER, VRRP_GROUP, vrrp, (0, 0), 255, false),
        ];
        for case in cases {
            let (source, destination, protocol, (from, to), ttl, expected) = case;
            let has_ports = matches!(protocol, protocol::TCP | protocol::UDP);
            let whole = |source, destination| ToHost {
                port: PortId(0),
                source,
                destination,
                protocol,
                ttl,
                is_fragment: false,
                ports: has_ports.then_some((from, to)),
            };
            for packet in [
                whole(source.into(), destination.into()),
                whole(v6(source), v6(destination)),
            ] {
                assert_eq!(is_host_peers(&packet, &peers), expected, "{case:?}");
                let fragment = ToHost {
                    is_fragment: true,
                    ports: None,
                    ..packet
                };
                assert!(!is_host_peers(&fragment, &peers), "a fragment: {case:?}");
            }
        }
    }

    #[test]
    fn a_link_local_peer_is_one_on_its_own_link() {
        let address = |last| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last).into();
        let peer = |last, port| HostPeer {
            address: address(last),
            port: Some(port),
            ttl_security: None,
        };
        let peers = [peer(1, 0), peer(1, 2), peer(2, 1)];
        for (source, port, expected) in [
            (1, 0, true),
            (1, 1, false),
            (1, 2, true),
            (2, 0, false),
            (2, 1, true),
            (3, 0, false),
        ] {
            let vrrp = ToHost {
                port: PortId(port),
                source: address(source),
                destination: VRRP_GROUPS[1],
                protocol: protocol::VRRP,
                ttl: 255,
                is_fragment: false,
                ports: None,
            };
            assert_eq!(is_host_peers(&vrrp, &peers), expected, "{source} by {port}");
            let bgp = ToHost {
                destination: address(9),
                protocol: protocol::TCP,
                ports: Some((40_000, BGP)),
                ..vrrp
            };
            assert_eq!(is_host_peers(&bgp, &peers), expected, "{source} by {port}");
        }
    }
}

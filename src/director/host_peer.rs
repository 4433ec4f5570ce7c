//! The host's routing protocols: which packets to the host have a budget of their own, ahead of everything else.

use crate::config::HostPeer;
use crate::net::protocol;
use crate::wire::ipv4::Ipv4;
use std::net::{IpAddr, Ipv4Addr};

/// RFC 5881 section 4: control and echo packets of a single hop.
const BFD_SINGLE_HOP: [u16; 2] = [3784, 3785];
/// RFC 5883 section 5.
const BFD_MULTIHOP: u16 = 4784;
/// RFC 4271 section 8.2.1.
const BGP: u16 = 179;
/// RFC 5798 section 5.1.1.2.
const VRRP_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// Whether a packet to the host is BFD, BGP or VRRP from one of the configured peers. `peers` are in the order of their
/// addresses. A packet with the wrong TTL is none: it may come from anywhere, and has the budget of all other packets
/// (RFC 5082 section 3 allows a lower-priority queue for it). The host's daemon decides: with authentication BFD may take
/// any TTL (RFC 5881 section 5).
pub(super) fn is_host_peers(ip: &Ipv4<&[u8]>, peers: &[HostPeer]) -> bool {
    let Ok(place) = peers.binary_search_by_key(&IpAddr::V4(ip.source()), |peer| peer.address)
    else {
        return false;
    };
    let is_from_link = ip.ttl() == 255;
    match (ip.protocol(), ip.ports()) {
        // RFC 5798 section 7.1: the receiver must verify that the TTL is 255.
        (protocol::VRRP, _) => !ip.is_fragment() && is_from_link,
        (_, _) if ip.destination() == VRRP_GROUP => false,
        (protocol::UDP, Some((_, BFD_MULTIHOP))) => true,
        (protocol::UDP, Some((_, to))) => BFD_SINGLE_HOP.contains(&to) && is_from_link,
        // Either may have opened the session.
        (protocol::TCP, Some((BGP, _) | (_, BGP))) => match peers[place].ttl_security {
            // RFC 5082 section 3: each hop may have taken one.
            Some(hops) => ip.ttl() >= 255 - (hops - 1),
            None => true,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipv4;

    const PEER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);
    const SECURED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 253);
    const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 252);
    const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
    const OSPF_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 5);

    #[test]
    fn protocols_of_peers_are_told_by_address_port_and_ttl() {
        let peers = [
            HostPeer {
                address: SECURED.into(),
                ttl_security: Some(2),
            },
            HostPeer {
                address: PEER.into(),
                ttl_security: None,
            },
        ];
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
            let mut packet = [0; 40];
            let ip = ipv4::Repr {
                ttl,
                ..ipv4::Repr::new(source, destination, protocol)
            };
            ip.emit(&mut packet).unwrap();
            packet[20..22].copy_from_slice(&u16::to_be_bytes(from));
            packet[22..24].copy_from_slice(&u16::to_be_bytes(to));
            let is_peers =
                |packet: &[u8]| is_host_peers(&Ipv4::new_checked(packet).unwrap(), &peers);
            assert_eq!(is_peers(&packet), expected, "{case:?}");
            // More fragments.
            packet[6] = 0x20;
            assert!(!is_peers(&packet), "a fragment: {case:?}");
        }
    }
}

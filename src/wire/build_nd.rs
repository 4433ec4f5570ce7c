//! The frames of neighbour discovery that weir writes itself. As [`build`](super::build).

use super::ndisc::{HOP_LIMIT, Repr, group_mac, solicited_node};
use super::{Mac, ethernet, ipv6};
use crate::net::{ethertype, protocol};
use std::net::Ipv6Addr;

const ETH: usize = ethernet::HEADER_LEN;
const IPV6_LEN: usize = ipv6::HEADER_LEN;
/// The longest frame that is written here.
pub const MAX_LEN: usize = ETH + IPV6_LEN + 32;

/// RFC 4291 section 2.7.1.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Asks for the MAC address of `target`: all whose address ends like it, or one host to confirm (RFC 4861 section 7.2.2).
pub fn solicitation(
    frame: &mut [u8],
    to: Option<Mac>,
    mac: Mac,
    source: Ipv6Addr,
    target: Ipv6Addr,
) -> Option<usize> {
    let (to, destination) = match to {
        Some(to) => (to, target),
        None => to_group(solicited_node(target)),
    };
    let message = Repr::NeighbourSolicitation {
        target,
        source_mac: Some(mac),
    };
    emit(frame, (to, mac), (source, destination), &message)
}

/// Asks whether another host has `address` (RFC 4862 section 5.4.2).
pub fn duplicate_probe(frame: &mut [u8], mac: Mac, address: Ipv6Addr) -> Option<usize> {
    let (to, destination) = to_group(solicited_node(address));
    let message = Repr::NeighbourSolicitation {
        target: address,
        source_mac: None,
    };
    let source = Ipv6Addr::UNSPECIFIED;
    emit(frame, (to, mac), (source, destination), &message)
}

/// Tells all nodes on the link that `address` is at `mac` (RFC 4861 section 7.2.6). `is_router`: it is a router's address.
pub fn announcement(
    frame: &mut [u8],
    mac: Mac,
    address: Ipv6Addr,
    is_router: bool,
) -> Option<usize> {
    let (to, all) = to_group(ALL_NODES);
    let message = at(mac, address, is_router, false);
    emit(frame, (to, mac), (address, all), &message)
}

/// The answer that the target of a solicitation is at `mac` (RFC 4861 section 7.2.4): to the sender, or to all nodes if
/// the sender has no address yet. `is_router`: it is a router's address.
pub fn advertisement(frame: &mut [u8], asked: &[u8], mac: Mac, is_router: bool) -> Option<usize> {
    let ip = ipv6::in_frame(asked)?;
    let Ok(Repr::NeighbourSolicitation { target, source_mac }) = Repr::parse(&ip) else {
        return None;
    };
    let is_detection = ip.source().is_unspecified();
    let (to, destination) = match is_detection {
        true => to_group(ALL_NODES),
        false => (source_mac.or(ethernet::source(asked))?, ip.source()),
    };
    let message = at(mac, target, is_router, !is_detection);
    emit(frame, (to, mac), (target, destination), &message)
}

/// The frame of a group, and the group.
fn to_group(group: Ipv6Addr) -> (Mac, Ipv6Addr) {
    (group_mac(group), group)
}

/// That an address of weir's own is there.
fn at(mac: Mac, address: Ipv6Addr, is_router: bool, is_solicited: bool) -> Repr<'static> {
    Repr::NeighbourAdvertisement {
        target: address,
        is_router,
        is_solicited,
        overrides: true,
        target_mac: Some(mac),
    }
}

fn emit(
    frame: &mut [u8],
    (to, from): (Mac, Mac),
    (source, destination): (Ipv6Addr, Ipv6Addr),
    message: &Repr,
) -> Option<usize> {
    let length = ETH + IPV6_LEN + message.length();
    let frame = frame.get_mut(..length)?;
    ethernet::emit(frame, to, from, ethertype::IPV6)?;
    let ip = ipv6::Repr {
        hop_limit: HOP_LIMIT,
        ..ipv6::Repr::new(source, destination, protocol::ICMPV6)
    };
    ip.emit(&mut frame[ETH..])?;
    let pseudo = ip.pseudo_header(message.length() as u32);
    message.emit(&mut frame[ETH + IPV6_LEN..], pseudo)?;
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const HOST_MAC: Mac = Mac([2, 0, 0, 0, 1, 7]);
    const HOST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);
    const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0x12, 0x3456);

    /// A frame's addresses, and its message, which passes every check.
    fn read(frame: &[u8]) -> (Mac, Mac, Ipv6Addr, Ipv6Addr, Repr<'_>) {
        let ethernet = ethernet::Ethernet::new_checked(frame).unwrap();
        let ip = ipv6::in_frame(frame).unwrap();
        assert_eq!(ip.hop_limit(), 255);
        let message = Repr::parse(&ip).unwrap();
        let macs = (ethernet.destination(), ethernet.source());
        (macs.0, macs.1, ip.source(), ip.destination(), message)
    }

    fn written(write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Vec<u8> {
        let mut frame = vec![0xa5; 200];
        let length = write(&mut frame).unwrap();
        frame.truncate(length);
        frame
    }

    #[test]
    fn questions_go_to_the_group_or_to_one_host() {
        let question = Repr::NeighbourSolicitation {
            target: HOST,
            source_mac: Some(MAC),
        };
        let group: Ipv6Addr = "ff02::1:ff00:7".parse().unwrap();
        let frame = written(|frame| solicitation(frame, None, MAC, VIP, HOST));
        let to_group = Mac([0x33, 0x33, 0xff, 0, 0, 7]);
        assert_eq!(read(&frame), (to_group, MAC, VIP, group, question));
        let frame = written(|frame| solicitation(frame, Some(HOST_MAC), MAC, VIP, HOST));
        assert_eq!(read(&frame), (HOST_MAC, MAC, VIP, HOST, question));
        let frame = written(|frame| duplicate_probe(frame, MAC, HOST));
        let probe = Repr::NeighbourSolicitation {
            target: HOST,
            source_mac: None,
        };
        let unspecified = Ipv6Addr::UNSPECIFIED;
        assert_eq!(read(&frame), (to_group, MAC, unspecified, group, probe));
    }

    #[test]
    fn answers_go_to_who_asked_and_to_all_nodes_where_that_has_no_address() {
        let answer = |is_router, is_solicited| Repr::NeighbourAdvertisement {
            target: VIP,
            is_router,
            is_solicited,
            overrides: true,
            target_mac: Some(MAC),
        };
        let all = (Mac([0x33, 0x33, 0, 0, 0, 1]), ALL_NODES);
        let asked = written(|frame| solicitation(frame, None, HOST_MAC, HOST, VIP));
        let probe = written(|frame| duplicate_probe(frame, HOST_MAC, VIP));
        for is_router in [false, true] {
            let frame = written(|frame| advertisement(frame, &asked, MAC, is_router));
            let expected = answer(is_router, true);
            assert_eq!(read(&frame), (HOST_MAC, MAC, VIP, HOST, expected));
            let frame = written(|frame| advertisement(frame, &probe, MAC, is_router));
            let expected = answer(is_router, false);
            assert_eq!(read(&frame), (all.0, MAC, VIP, all.1, expected));
            let frame = written(|frame| announcement(frame, MAC, VIP, is_router));
            assert_eq!(read(&frame), (all.0, MAC, VIP, all.1, expected));
            let no_question = advertisement(&mut [0; 200], &frame, MAC, is_router);
            assert_eq!(no_question, None);
        }
        for room in 0..MAX_LEN {
            let mut frame = [0; MAX_LEN];
            assert_eq!(advertisement(&mut frame[..room], &probe, MAC, true), None);
        }
    }
}

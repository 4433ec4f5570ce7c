//! The network of the other tests with IPv6 addresses in the place of its IPv4 ones, and the way back.

use std::net::Ipv4Addr;
pub use weir::bench::six::{config, crossing, frame};
use weir::bench::six::{original, sum};
use weir::net::{ethertype, protocol};
use weir::wire::ethernet::{self, Ethernet};
use weir::wire::ipv6::Ipv6;
use weir::wire::{ipv4, tcp};

/// The frame of TCP or UDP whose twin that is, as weir and the tests make them.
pub fn back(of: &[u8]) -> Option<Vec<u8>> {
    let ethernet = Ethernet::new_checked(of).ok()?;
    if ethernet.ethertype() != ethertype::IPV6 {
        return None;
    }
    let ip = Ipv6::new_checked(ethernet.payload()).ok()?;
    let upper = ip.upper_layer().ok()?;
    if !matches!(upper.protocol, protocol::TCP | protocol::UDP) || !ip.is_l4_checksum_right(&upper)
    {
        return None;
    }
    let header = ipv4::Repr {
        ttl: ip.hop_limit(),
        tos: ip.traffic_class(),
        identification: 7,
        dont_fragment: true,
        ..ipv4::Repr::new(
            original(ip.source())?,
            original(ip.destination())?,
            upper.protocol,
        )
    };
    let start = ethernet::HEADER_LEN + ipv4::HEADER_LEN;
    let mut frame = [&vec![0; start][..], upper.payload].concat();
    frame[..12].copy_from_slice(&of[..12]);
    frame[12..14].copy_from_slice(&ethertype::IPV4.to_be_bytes());
    header.emit(&mut frame[ethernet::HEADER_LEN..])?;
    sum(
        &mut frame[start..],
        upper.protocol,
        header.pseudo_header(upper.payload.len() as u16),
    );
    Some(frame)
}

#[test]
fn a_twins_twin_is_the_frame() {
    let client = (Ipv4Addr::new(198, 51, 100, 9), 5000);
    let vip = (Ipv4Addr::new(192, 0, 2, 80), 80);
    for frame in [
        super::frames::segment(client, vip, tcp::Flags::SYN),
        super::frames::udp(client, vip, b"odd"),
    ] {
        let six = self::frame(&frame).unwrap();
        assert_ne!(six, frame);
        assert_eq!(back(&six), Some(frame));
    }
}

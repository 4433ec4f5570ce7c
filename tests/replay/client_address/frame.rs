//! Segments as frames of either family, and back.

use std::net::{IpAddr, SocketAddr};
use weir::net::{Mac, ethertype, protocol};
use weir::wire::checksum::{fold, partial};
use weir::wire::tcp::{Flags, Tcp};
use weir::wire::{ethernet, ipv4, ipv6, tcp};

/// Where segments of one side go from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub own: SocketAddr,
    pub other: SocketAddr,
}

#[derive(Clone, Debug, Default)]
pub struct Segment {
    pub sequence: u32,
    pub acknowledged: u32,
    pub flags: u8,
    pub window: u16,
    pub urgent: u16,
    pub options: Vec<u8>,
    pub data: Vec<u8>,
}

/// A frame to weir's port of the clients or, if it `is_inside`, of the real servers.
pub fn write(ends: Ends, is_inside: bool, segment: &Segment) -> Vec<u8> {
    assert!(segment.options.len() <= 40 && segment.options.len().is_multiple_of(4));
    let (weir, own) = match is_inside {
        false => ([2, b'w', b'e', b'i', b'r', 1], [2, 0, 0, 0, 0, 0xc1]),
        true => ([2, b'w', b'e', b'i', b'r', 2], [2, 0, 0, 0, 1, 0x11]),
    };
    let headers = tcp::HEADER_LEN + segment.options.len();
    let ip = if ends.own.is_ipv6() { 40 } else { 20 };
    let at = ethernet::HEADER_LEN + ip;
    let mut frame = vec![0; at + headers];
    frame.extend(&segment.data);
    let length = frame.len() - at;
    let pseudo = match (ends.own.ip(), ends.other.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ethernet::emit(&mut frame, Mac(weir), Mac(own), ethertype::IPV4).unwrap();
            let ip = ipv4::Repr {
                dont_fragment: true,
                ..ipv4::Repr::new(source, destination, protocol::TCP)
            };
            ip.emit(&mut frame[ethernet::HEADER_LEN..]).unwrap();
            ip.pseudo_header(length as u16)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ethernet::emit(&mut frame, Mac(weir), Mac(own), ethertype::IPV6).unwrap();
            let ip = ipv6::Repr::new(source, destination, protocol::TCP);
            ip.emit(&mut frame[ethernet::HEADER_LEN..]).unwrap();
            ip.pseudo_header(length as u32)
        }
        _ => panic!("{ends:?}"),
    };
    let repr = tcp::Repr {
        source_port: ends.own.port(),
        destination_port: ends.other.port(),
        sequence: segment.sequence,
        acknowledged: segment.acknowledged,
        flags: Flags(segment.flags),
        window: segment.window,
    };
    let bytes = &mut frame[at..];
    repr.emit(bytes, 0).unwrap();
    bytes[12] = (headers as u8) << 2;
    bytes[18..20].copy_from_slice(&segment.urgent.to_be_bytes());
    bytes[20..headers].copy_from_slice(&segment.options);
    bytes[16..18].fill(0);
    let sum = !fold(pseudo + partial(bytes));
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The segment of a frame that weir has sent, seen from the side that gets it. None of what is no TCP. Its checksums are right.
pub fn read(frame: &[u8]) -> Option<(Ends, Segment)> {
    let (source, destination, bytes, pseudo) = if let Some(ip) = ipv4::in_frame(frame) {
        let is_tcp = ip.protocol() == protocol::TCP;
        let bytes = is_tcp.then(|| ip.payload())?;
        assert!(ip.is_header_right());
        let pseudo = ip.pseudo_header(bytes.len() as u16);
        (ip.source().into(), ip.destination().into(), bytes, pseudo)
    } else {
        let ip = ipv6::in_frame(frame)?;
        let is_tcp = ip.next_header() == protocol::TCP;
        let bytes = is_tcp.then(|| ip.payload())?;
        let pseudo = ip.pseudo_header(protocol::TCP, bytes.len() as u32);
        (
            IpAddr::V6(ip.source()),
            IpAddr::V6(ip.destination()),
            bytes,
            pseudo,
        )
    };
    let tcp = Tcp::new_checked(bytes).unwrap();
    assert!(tcp.is_checksum_right(pseudo), "a wrong checksum");
    let ends = Ends {
        own: SocketAddr::new(destination, tcp.destination_port()),
        other: SocketAddr::new(source, tcp.source_port()),
    };
    let segment = Segment {
        sequence: tcp.sequence(),
        acknowledged: tcp.acknowledged(),
        flags: tcp.flags().0,
        window: tcp.window(),
        urgent: u16::from_be_bytes([bytes[18], bytes[19]]),
        options: bytes[tcp::HEADER_LEN..tcp.header_len()].to_vec(),
        data: tcp.payload().to_vec(),
    };
    Some((ends, segment))
}

use super::*;
use crate::io::memory::Memory;
use crate::tables::Accepts;
use crate::units::PortId;
use crate::wire::{Mac, checksum, ipv4, tcp, udp};
use proptest::prelude::*;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER: Mac = Mac([2, 0, 0, 0, 2, 0x54]);

fn port(any_mac: bool) -> Port {
    Port {
        name: "wan".into(),
        mac: MAC,
        accepts: match any_mac {
            true => Accepts::any(),
            false => Accepts::only(MAC),
        },
        mtu: 1500,
        outer_sources: Default::default(),
        accepts_ra: false,
        forwards: false,
        hairpin: Default::default(),
        has_companion: false,
        addresses: Box::default(),
        announce: Box::default(),
        broadcasts: Box::default(),
    }
}

/// A frame of 62 bytes with a packet of 48.
fn usual(tcp: bool) -> Vec<u8> {
    let mut frame = vec![0; 62];
    ethernet::emit(&mut frame, MAC, PEER, ethertype::IPV4).unwrap();
    let ip = ipv4::Repr {
        identification: 1,
        dont_fragment: true,
        ..ipv4::Repr::new(
            Ipv4Addr::new(203, 0, 113, 7),
            Ipv4Addr::new(192, 0, 2, 80),
            if tcp { protocol::TCP } else { protocol::UDP },
        )
    };
    ip.emit(&mut frame[IP..]).unwrap();
    let (source_port, destination_port) = (40_000, 80);
    let segment = tcp::Repr {
        source_port,
        destination_port,
        flags: Flags(Flags::SYN),
        ..tcp::Repr::default()
    };
    let datagram = udp::Repr {
        source_port,
        destination_port,
    };
    let (l4, pseudo) = (&mut frame[34..], ip.pseudo_header(28));
    let fits = match tcp {
        true => segment.emit(l4, pseudo),
        false => datagram.emit(l4, pseudo),
    };
    fits.unwrap();
    frame
}

/// Makes the header checksum right.
fn mend(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let checksum = !checksum::sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}

#[test]
fn source_addresses_of_no_station_are_told() {
    let frame = |source: [u8; 6]| {
        let mut frame = usual(true);
        frame[6..12].copy_from_slice(&source);
        frame
    };
    for source in [[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 5], MAC.0] {
        let mut frame = frame(source);
        assert!(is_bad_source_mac(&frame, &port(false)), "{source:?}");
        let bad = Parsed::Bad(DropReason::BadSourceMac);
        assert_eq!(parse_any(&frame, &port(false)), bad, "{source:?}");
        frame[12..14].copy_from_slice(&ethertype::ARP.to_be_bytes());
        assert_eq!(parse_any(&frame, &port(false)), bad, "{source:?} in ARP");
    }
    assert!(!is_bad_source_mac(&frame(PEER.0), &port(false)));
}

proptest! {
    /// Frames one or two bytes away from a usual one, of any length: where the short way finds a flow, the long
    /// way finds the same.
    #[test]
    fn the_short_way_finds_what_the_long_way_finds(
        tcp: bool,
        cut in 0usize..72,
        changes in prop::collection::vec((0usize..60, any::<u8>()), 0..3),
        is_mended: bool,
        any_mac: bool,
    ) {
        let port = port(any_mac);
        let mut frame = usual(tcp);
        for (place, value) in changes {
            frame[place] = value;
        }
        if is_mended {
            mend(&mut frame);
        }
        frame.resize(cut.max(1), 0xa5);
        let mut flow = Flow::default();
        let is_usual = parse_usual(&frame, &port, &mut flow);
        match parse_any(&frame, &port) {
            Parsed::Bad(DropReason::BadSourceMac) => prop_assert!(is_bad_source_mac(&frame, &port)),
            Parsed::Bad(DropReason::BadSource) if is_usual => prop_assert!(is_bad_source(flow.key.source())),
            Parsed::Flow(found) if is_usual => prop_assert_eq!(found, flow),
            Parsed::Flow(found) => prop_assert!(
                found.layout.l4 != 34 || without_trailer::<V4>(&frame).is_some(),
                "{:?} is a usual one", found
            ),
            other => prop_assert!(!is_usual, "{:?}", other),
        }
    }

    /// What the short way reads as words is what the views read, field by field; and no view finds a fault in it.
    #[test]
    fn the_short_way_reads_what_the_views_read(
        tcp: bool,
        cut in 0usize..72,
        changes in prop::collection::vec((0usize..60, any::<u8>()), 0..4),
        is_mended: bool,
        any_mac: bool,
    ) {
        let port = port(any_mac);
        let mut frame = usual(tcp);
        for (place, value) in changes {
            frame[place] = value;
        }
        if is_mended {
            mend(&mut frame);
        }
        frame.resize(cut.max(1), 0xa5);
        let mut flow = Flow::default();
        if !parse_usual(&frame, &port, &mut flow) {
            return Ok(());
        }
        let ethernet = Ethernet::new_checked(&frame[..]).unwrap();
        prop_assert!(any_mac || ethernet.destination() == MAC);
        prop_assert_eq!(ethernet.ethertype(), ethertype::IPV4);
        let ip = Ipv4::new_checked(ethernet.payload()).unwrap();
        prop_assert!(ip.is_header_right() && !ip.is_fragment());
        prop_assert_eq!(ip.header_len(), ipv4::HEADER_LEN);
        prop_assert_eq!((flow.ttl, flow.length), (ip.ttl(), ip.total_length()));
        prop_assert_eq!(flow.layout, Layout { l4: 34 });
        let (ports, flags, goes_on) = if ip.protocol() == protocol::TCP {
            let tcp = Tcp::new_checked(ip.payload()).unwrap();
            let flags = tcp.flags();
            let goes_on = flags.ack() && !flags.syn() && !flags.rst();
            ((tcp.source_port(), tcp.destination_port()), flags, goes_on.then_some(Kind::Segment))
        } else {
            prop_assert_eq!(ip.protocol(), protocol::UDP);
            let udp = Udp::new_checked(ip.payload()).unwrap();
            ((udp.source_port(), udp.destination_port()), Flags(0), Some(Kind::Datagram))
        };
        prop_assert_eq!(ip.ports(), Some(ports));
        let key = FlowKey::new(ip.source(), ports.0, ip.destination(), ports.1, ip.protocol());
        prop_assert_eq!((flow.key, flow.flags), (key, flags));
        prop_assert_eq!(flow.kind, goes_on.filter(|_| ip.ttl() > 1).unwrap_or(Kind::Unusual));
    }

    /// A tag of VLAN 0 and a trailer change nothing: what is left is the frame without them, but for the padding of a
    /// short one.
    #[test]
    fn a_priority_tag_and_a_trailer_come_off(
        tcp: bool,
        length in 40u16..1500,
        tag in prop::option::of(0u8..16),
        trailer in 0usize..2000,
    ) {
        let mut plain = usual(tcp);
        plain[16..18].copy_from_slice(&length.to_be_bytes());
        mend(&mut plain);
        plain.resize(14 + usize::from(length), 0x11);
        if !tcp {
            plain[38..40].copy_from_slice(&(length - 20).to_be_bytes());
        }
        let mut frame = plain.clone();
        frame.resize(frame.len() + trailer, 0xa5);
        let tag = tag.map(|priority| [0x81, 0, priority << 4, 0]);
        frame.splice(12..12, tag.into_iter().flatten());
        let mut packet = Memory::new(PortId(0), &frame);
        let parsed = receive::<V4, _>(&mut packet, &port(false));
        prop_assert_eq!(parsed, parse::<V4>(&plain, &port(false)));
        prop_assert!(matches!(parsed, Parsed::Flow(_)));
        let left = packet.data();
        prop_assert!(left.starts_with(&plain));
        let is_short = plain.len() + trailer <= ethernet::MIN_LEN;
        prop_assert_eq!(left.len(), plain.len() + if is_short { trailer } else { 0 });
    }

    /// Tags of other VLANs, 802.1ad tags and second tags stay, and the frame is dropped.
    #[test]
    fn every_other_tag_is_dropped(priority in 0u8..16, id in 1u16..4096, outer in 0u16..4096, kind in 0usize..3) {
        let control = |id: u16| (u16::from(priority) << 12 | id).to_be_bytes();
        let tags = match kind {
            0 => [&[0x81, 0][..], &control(id)].concat(),
            1 => [&[0x88, 0xa8][..], &control(outer)].concat(),
            _ => [&[0x81, 0][..], &control(0), &[0x81, 0], &control(outer)].concat(),
        };
        let mut frame = usual(true);
        frame.splice(12..12, tags);
        let parsed = receive::<V4, _>(&mut Memory::new(PortId(0), &frame), &port(false));
        prop_assert_eq!(parsed, Parsed::Bad(DropReason::OtherVlan));
    }
}

//! What is written is read, what is wrong is told by its name, and no bytes make it panic.

use super::*;
use crate::wire::checksum::naive;
use crate::wire::ipv6;
use proptest::prelude::*;

const HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);
const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

/// A packet with this message, and what a test changes of it before the checksum.
fn packet(repr: &Repr, source: Ipv6Addr, destination: Ipv6Addr, hop_limit: u8) -> Vec<u8> {
    let header = ipv6::Repr {
        hop_limit,
        ..ipv6::Repr::new(source, destination, protocol::ICMPV6)
    };
    let length = repr.length();
    let mut packet = vec![0; ipv6::HEADER_LEN + length];
    header.emit(&mut packet).unwrap();
    let pseudo = header.pseudo_header(length as u32);
    repr.emit(&mut packet[ipv6::HEADER_LEN..], pseudo).unwrap();
    packet
}

/// Makes the checksum right again, by the definition.
fn mend(packet: &mut [u8]) {
    packet[42..44].fill(0);
    let length = (packet.len() - 40) as u32;
    let covered = [
        &packet[8..40],
        &length.to_be_bytes(),
        &[0, 0, 0, 58],
        &packet[40..],
    ]
    .concat();
    let checksum = !naive(&covered);
    packet[42..44].copy_from_slice(&checksum.to_be_bytes());
}

fn parse(packet: &[u8]) -> Result<Repr<'_>, Malformed> {
    Repr::parse(&Ipv6::new_checked(packet)?)
}

fn solicitation(source_mac: Option<Mac>) -> Repr<'static> {
    Repr::NeighbourSolicitation {
        target: VIP,
        source_mac,
    }
}

fn advertisement(is_solicited: bool) -> Repr<'static> {
    Repr::NeighbourAdvertisement {
        target: VIP,
        is_router: true,
        is_solicited,
        overrides: true,
        target_mac: Some(MAC),
    }
}

fn router(options: &[u8]) -> Repr<'_> {
    Repr::RouterAdvertisement {
        hop_limit: 64,
        flags: 0xc0,
        lifetime: Duration::from_secs(1800),
        reachable: Duration::from_millis(30_000),
        retransmit: Duration::from_millis(1000),
        options: NdOptions::new_checked(options).unwrap(),
    }
}

fn redirect(target: Ipv6Addr, destination: Ipv6Addr) -> Repr<'static> {
    Repr::Redirect {
        target,
        destination,
        options: NdOptions(&[]),
    }
}

#[test]
fn what_is_written_is_read_and_has_a_right_checksum() {
    let options = [
        &[1, 1][..],
        &MAC.0,
        &[5, 1, 0, 0, 0, 0, 5, 0],
        &[99, 1, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    for (repr, source, destination) in [
        (
            Repr::RouterSolicitation { source_mac: None },
            Ipv6Addr::UNSPECIFIED,
            ALL_NODES,
        ),
        (
            Repr::RouterSolicitation {
                source_mac: Some(MAC),
            },
            HOST,
            ALL_NODES,
        ),
        (router(&options), HOST, ALL_NODES),
        (solicitation(Some(MAC)), HOST, solicited_node(VIP)),
        (
            solicitation(None),
            Ipv6Addr::UNSPECIFIED,
            solicited_node(VIP),
        ),
        (advertisement(true), VIP, HOST),
        (advertisement(false), VIP, ALL_NODES),
        (redirect(HOST, VIP), HOST, VIP),
    ] {
        let packet = packet(&repr, source, destination, HOP_LIMIT);
        let mut mended = packet.clone();
        mend(&mut mended);
        assert_eq!(packet, mended, "{repr:?}");
        assert_eq!(parse(&packet), Ok(repr));
        let upper = Ipv6::new_checked(&packet[..])
            .unwrap()
            .upper_layer()
            .unwrap();
        assert!(
            Ipv6::new_checked(&packet[..])
                .unwrap()
                .is_l4_checksum_right(&upper)
        );
    }
    let read: Vec<_> = NdOptions::new_checked(&options).unwrap().iter().collect();
    assert_eq!(
        read,
        [
            NdOption::SourceLinkLayer(MAC),
            NdOption::Mtu(1280),
            NdOption::Other(99)
        ]
    );
}

#[test]
fn a_prefix_is_read() {
    let mut option = vec![
        3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0,
    ];
    option.extend(VIP.octets());
    let read: Vec<_> = NdOptions::new_checked(&option).unwrap().iter().collect();
    let expected = Prefix {
        address: VIP,
        length: 64,
        is_on_link: true,
        is_for_addresses: true,
        valid: 86_400,
        preferred: 14_400,
    };
    assert_eq!(read, [NdOption::Prefix(expected)]);
}

#[test]
fn groups_are_those_of_the_rfcs() {
    assert_eq!(
        solicited_node(VIP),
        "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap()
    );
    assert_eq!(
        group_mac(solicited_node(VIP)),
        Mac([0x33, 0x33, 0xff, 0x12, 0x34, 0x56])
    );
}

/// Each check of RFC 4861 by a message that breaks it alone.
#[test]
fn what_breaks_a_rule_is_told_by_its_name() {
    let usual = || {
        packet(
            &solicitation(Some(MAC)),
            HOST,
            solicited_node(VIP),
            HOP_LIMIT,
        )
    };
    let changed = |place: usize, value: u8| {
        let mut packet = usual();
        packet[place] = value;
        mend(&mut packet);
        packet
    };
    let cut = |length: usize| {
        let mut packet = usual();
        packet.truncate(40 + length);
        packet[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        mend(&mut packet);
        packet
    };
    let wrong = {
        let mut packet = usual();
        packet[50] ^= 1;
        packet
    };
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 9);
    let of_group = Repr::NeighbourSolicitation {
        target: group,
        source_mac: None,
    };
    let unspecified = Ipv6Addr::UNSPECIFIED;
    let cases = [
        (
            "a router has passed it on",
            packet(&solicitation(None), HOST, VIP, 254),
            Malformed::HopLimit,
        ),
        ("checksum", wrong, Malformed::Checksum),
        ("code", changed(41, 1), Malformed::Code),
        ("another type", changed(40, 128), Malformed::Kind),
        ("another protocol", changed(6, 17), Malformed::Kind),
        ("cut", cut(23), Malformed::Truncated),
        ("an option of no length", changed(65, 0), Malformed::Option),
        (
            "an option beyond the end",
            changed(65, 2),
            Malformed::Option,
        ),
        ("half an option", cut(25), Malformed::Option),
        (
            "a group for target",
            packet(&of_group, HOST, solicited_node(VIP), 255),
            Malformed::Address,
        ),
        (
            "a probe with a MAC address",
            packet(
                &solicitation(Some(MAC)),
                unspecified,
                solicited_node(VIP),
                255,
            ),
            Malformed::Address,
        ),
        (
            "a probe to one host",
            packet(&solicitation(None), unspecified, VIP, 255),
            Malformed::Address,
        ),
        (
            "a solicited answer to all",
            packet(&advertisement(true), VIP, ALL_NODES, 255),
            Malformed::Address,
        ),
        (
            "a router of no link",
            packet(&router(&[]), VIP, ALL_NODES, 255),
            Malformed::Address,
        ),
        (
            "a probe for routers with a MAC address",
            packet(
                &Repr::RouterSolicitation {
                    source_mac: Some(MAC),
                },
                unspecified,
                ALL_NODES,
                255,
            ),
            Malformed::Address,
        ),
        (
            "a redirect of no router",
            packet(&redirect(HOST, VIP), VIP, VIP, 255),
            Malformed::Address,
        ),
        (
            "a redirect of a group",
            packet(&redirect(HOST, group), HOST, VIP, 255),
            Malformed::Address,
        ),
        (
            "a redirect beyond the link",
            packet(
                &redirect(VIP, "2001:db8::1".parse().unwrap()),
                HOST,
                VIP,
                255,
            ),
            Malformed::Address,
        ),
    ];
    for (name, packet, expected) in cases {
        assert_eq!(parse(&packet), Err(expected), "{name}");
    }
    assert!(parse(&usual()).is_ok());
}

proptest! {
    /// Of arbitrary bytes behind a right header and checksum: no panic, and what is read is what would be written.
    #[test]
    fn arbitrary_messages_never_panic(
        kind in 130u8..140,
        mut bytes in prop::collection::vec(any::<u8>(), 4..100),
        multicast: bool,
    ) {
        bytes[0] = 0;
        let destination = if multicast { ALL_NODES } else { VIP };
        let header = ipv6::Repr { hop_limit: 255, ..ipv6::Repr::new(HOST, destination, protocol::ICMPV6) };
        let mut packet = [&[0; 40][..], &[kind], &bytes].concat();
        header.emit(&mut packet).unwrap();
        mend(&mut packet);
        if let Ok(repr) = parse(&packet) {
            let mut again = vec![0; repr.length()];
            repr.emit(&mut again, header.pseudo_header(repr.length() as u32)).unwrap();
            let packet = [&packet[..40], &again].concat();
            let mut ip = packet.clone();
            ip[4..6].copy_from_slice(&(again.len() as u16).to_be_bytes());
            prop_assert_eq!(parse(&ip), Ok(repr));
        }
    }
}

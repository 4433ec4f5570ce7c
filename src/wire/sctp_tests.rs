use super::*;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// As scapy writes them: an INIT that tells 10.0.0.11, 10.0.1.11 and 2001:db8::11 besides its address types, an ABORT with the T
/// bit, and DATA.
const INIT: &str = "9c408e3c000000007b22f77b01000040112233440001a000000affff00000007\
000500080a00000b000500080a00010b0006001420010db8000000000000000000000011000c000600050000";
const ABORT: &str = "8e3c9c40deadbeef4fe6f39406010004";
const DATA: &str = "0001000200000005f581c9220003001500000000000000000000000068656c6c6f000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

#[test]
fn what_scapy_writes_is_read() {
    let (init, abort, data) = (bytes(INIT), bytes(ABORT), bytes(DATA));
    let views = [&init, &abort, &data].map(|it| Sctp::new_checked(&it[..]).unwrap());
    let read = views.map(|it| {
        (
            (it.source_port(), it.destination_port(), it.tag()),
            it.event(),
            it.initiate_tag(),
            it.is_tag_reflected(),
            it.is_checksum_right(),
        )
    });
    assert_eq!(
        read,
        [
            (
                (40000, 36412, 0),
                Event::Init,
                Some(0x1122_3344),
                false,
                true
            ),
            ((36412, 40000, 0xdead_beef), Event::Abort, None, true, true),
            ((1, 2, 5), Event::Data, None, false, true),
        ]
    );
}

#[test]
fn what_no_host_takes_is_refused() {
    let good = bytes(INIT);
    let changed = |at: usize, to: &[u8]| {
        let mut packet = good.clone();
        packet[at..at + to.len()].copy_from_slice(to);
        Sctp::new_checked(packet).err()
    };
    assert_eq!(changed(0, &[]), None);
    for (at, to, expected) in [
        // A verification tag; no initiate tag.
        (4, &[0, 0, 0, 1][..], Malformed::Code),
        (16, &[0; 4], Malformed::Code),
        // Shorter than a chunk's header, than an INIT, and longer than the packet.
        (14, &[0, 3], Malformed::Length),
        (14, &[0, 19], Malformed::Length),
        (14, &[0, 65], Malformed::Length),
        // Not alone.
        (14, &[0, 52], Malformed::Length),
    ] {
        assert_eq!(changed(at, to), Some(expected), "{to:?} at {at}");
    }
    for length in 0..LEAST_LEN {
        let cut = Sctp::new_checked(&good[..length]).err();
        assert_eq!(cut, Some(Malformed::Truncated), "{length}");
    }
    // The padding of the last chunk may be missing (section 3.2).
    let data = bytes(DATA);
    assert!(Sctp::new_checked(&data[..data.len() - 3]).is_ok());
}

#[test]
fn an_abort_behind_a_cookie_counts() {
    for (first, second, expected) in [
        (chunk::COOKIE_ECHO, chunk::ABORT, Event::Abort),
        (chunk::COOKIE_ACK, chunk::ABORT, Event::Abort),
        (chunk::COOKIE_ECHO, chunk::DATA, Event::CookieEcho),
        (chunk::DATA, chunk::ABORT, Event::Data),
    ] {
        let mut packet = bytes("0001000200000005000000000000000500000000");
        packet[12] = first;
        packet.extend([0; 4]);
        packet[20] = second;
        packet[23] = 4;
        let packet = Sctp::new_checked(packet).unwrap();
        assert_eq!(packet.event(), expected, "{first} {second}");
    }
}

#[test]
fn addresses_but_the_senders_become_padding() {
    let v4 = |last| IpAddr::from(Ipv4Addr::new(10, 0, last, 11));
    let v6 = IpAddr::from("2001:db8::11".parse::<Ipv6Addr>().unwrap());
    let padding = (0x80u8, 5u8);
    for (sender, kinds) in [
        (v4(0), [(0, 5), padding, padding]),
        (v4(1), [padding, (0, 5), padding]),
        (v6, [padding, padding, (0, 6)]),
        (v4(9), [padding; 3]),
    ] {
        let mut packet = bytes(INIT);
        let before = packet.clone();
        hide_addresses(&mut packet, sender);
        let view = Sctp::new_checked(&packet[..]).unwrap();
        assert!(view.is_checksum_right(), "{sender}");
        for ((at, length), kind) in [(32, 8), (40, 8), (48, 20)].into_iter().zip(kinds) {
            assert_eq!((packet[at], packet[at + 1]), kind, "{sender}");
            assert_eq!(packet[at + 2..at + 4], before[at + 2..at + 4]);
            let value = &packet[at + 4..at + length];
            match kind == padding {
                true => assert!(value.iter().all(|byte| *byte == 0)),
                false => assert_eq!(value, &before[at + 4..at + length]),
            }
        }
        assert_eq!(packet[68..], before[68..]);
    }
    // No other chunk tells addresses.
    for hex in [ABORT, DATA] {
        let mut packet = bytes(hex);
        hide_addresses(&mut packet, v4(9));
        assert_eq!(packet, bytes(hex));
    }
}

#[test]
fn packets_of_no_association_get_what_rfc_9260_says() {
    let refusal = |packet: &[u8]| Repr::refusal(&Sctp::new_checked(packet).unwrap());
    let to_init = refusal(&bytes(INIT)).unwrap();
    assert_eq!(
        (to_init.kind, to_init.tag, to_init.is_reflected),
        (chunk::ABORT, 0x1122_3344, false)
    );
    let abort = (chunk::ABORT, 5, true);
    for (kind, expected) in [
        (chunk::DATA, Some(abort)),
        (3, Some(abort)),
        (chunk::COOKIE_ECHO, Some(abort)),
        (chunk::SHUTDOWN, Some(abort)),
        (
            chunk::SHUTDOWN_ACK,
            Some((chunk::SHUTDOWN_COMPLETE, 5, true)),
        ),
        (chunk::ABORT, None),
        (chunk::SHUTDOWN_COMPLETE, None),
        (chunk::COOKIE_ACK, None),
        (chunk::ERROR, None),
    ] {
        let mut packet = bytes("00010002000000050000000000000004");
        packet[12] = kind;
        let answer = refusal(&packet);
        let told = answer.map(|it| (it.kind, it.tag, it.is_reflected));
        assert_eq!(told, expected, "{kind}");
        if let Some(answer) = answer {
            let mut written = [0xff; LEAST_LEN];
            answer.emit(&mut written).unwrap();
            let view = Sctp::new_checked(&written[..]).unwrap();
            assert!(view.is_checksum_right() && view.is_tag_reflected());
            assert_eq!((view.source_port(), view.destination_port()), (2, 1));
        }
    }
    let mut written = [0; LEAST_LEN];
    let answer = Repr {
        source_port: 36412,
        destination_port: 40000,
        tag: 0xdead_beef,
        kind: chunk::ABORT,
        is_reflected: true,
    };
    answer.emit(&mut written).unwrap();
    assert_eq!(written[..], bytes(ABORT));
}

proptest! {
    #[test]
    fn other_ports_keep_a_right_checksum_right_and_a_wrong_one_wrong(
        data in prop::collection::vec(any::<u8>(), 0..2000),
        ports: (u16, u16),
        damage: u32,
    ) {
        let mut packet = bytes("0001000200000005000000000000000400");
        packet.extend(&data);
        let right = checksum(&packet);
        let wrong = (u32::from_le_bytes(right) ^ damage).to_le_bytes();
        packet[field::CHECKSUM].copy_from_slice(&wrong);
        let wire = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
        let length = packet.len();
        set_ports(&mut packet, length, u32::from_le_bytes(wire.try_into().unwrap()));
        let view = Sctp::new_part(&packet[..]).unwrap();
        prop_assert_eq!((view.source_port(), view.destination_port()), ports);
        let found = u32::from_le_bytes(packet[field::CHECKSUM].try_into().unwrap());
        prop_assert_eq!(found ^ u32::from_le_bytes(checksum(&packet)), damage);
    }

    /// Whatever the bytes are, nothing panics, nothing moves, and the checksum stays as wrong as it was.
    #[test]
    fn any_bytes_are_taken(mut packet in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..3, length in 0u8..200) {
        if let Some(head) = packet.get_mut(12..16) {
            head.copy_from_slice(&[kind, 0, 0, length]);
        }
        if let Some(tag) = packet.get_mut(4..8) {
            tag.fill(0);
        }
        let off = |packet: &[u8]| {
            let field = packet.get(field::CHECKSUM)?;
            let stored = u32::from_le_bytes(field.try_into().ok()?);
            Some(stored ^ u32::from_le_bytes(checksum(packet)))
        };
        let (before, len) = (off(&packet), packet.len());
        hide_addresses(&mut packet, Ipv4Addr::LOCALHOST.into());
        set_ports(&mut packet, len, 0x0102_0304);
        if let Ok(view) = Sctp::new_checked(&packet[..]) {
            let _ = (view.event(), view.initiate_tag(), Repr::refusal(&view));
        }
        prop_assert_eq!((off(&packet), packet.len()), (before, len));
    }
}

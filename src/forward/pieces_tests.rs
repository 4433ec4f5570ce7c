use super::*;
use crate::wire::ipv6::Ipv6;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

fn frame(is_v6: bool, payload: &[u8]) -> Vec<u8> {
    let header = if is_v6 { 40 } else { 20 };
    let mut frame = [&vec![0; IP + header][..], payload].concat();
    let kind = if is_v6 {
        ethertype::IPV6
    } else {
        ethertype::IPV4
    };
    frame[12..14].copy_from_slice(&kind.to_be_bytes());
    let packet = &mut frame[IP..];
    match is_v6 {
        true => {
            ipv6::Repr::new(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, protocol::GRE).emit(packet)
        }
        false => {
            let ip = ipv4::Repr {
                identification: 7,
                ..ipv4::Repr::new(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, protocol::GRE)
            };
            ip.emit(packet)
        }
    }
    .unwrap();
    frame
}

proptest! {
    /// The pieces fit, and put together they are the packet.
    #[test]
    fn the_pieces_are_the_packet(
        is_v6: bool,
        payload in prop::collection::vec(any::<u8>(), 1..600),
        mtu in 56u16..700,
    ) {
        let whole = frame(is_v6, &payload);
        let pieces = Pieces::of(&whole, mtu).unwrap();
        let all: Vec<_> = pieces.iter().collect();
        let mut together = Vec::new();
        for (n, piece) in all.iter().enumerate() {
            let is_last = n + 1 == all.len();
            let mut copied = vec![0xa5; pieces.length(piece)];
            pieces.copy(&whole, piece, &mut copied, 9).unwrap();
            if is_last && n > 0 {
                let mut kept = whole.clone();
                pieces.keep_last(&mut kept, piece, 9).unwrap();
                kept.truncate(pieces.length(piece));
                prop_assert_eq!(&kept, &copied);
            }
            prop_assert!(copied.len() - IP <= usize::from(mtu).max(IP));
            let data = match is_v6 {
                true => {
                    let ip = Ipv6::new_checked(&copied[IP..]).unwrap();
                    let upper = ip.upper_layer().unwrap();
                    let fragment = upper.fragment.unwrap();
                    prop_assert_eq!(fragment.identification, 9);
                    prop_assert_eq!((usize::from(fragment.offset), fragment.more), (together.len(), !is_last));
                    &copied[IP + 48..]
                }
                false => {
                    let ip = Ipv4::new_checked(&copied[IP..]).unwrap();
                    prop_assert!(ip.is_header_right() && ip.identification() == 7 && !ip.dont_fragment());
                    prop_assert_eq!(usize::from(ip.fragment_offset()), together.len());
                    prop_assert_eq!(ip.more_fragments(), !is_last);
                    &copied[IP + 20..]
                }
            };
            together.extend_from_slice(data);
        }
        prop_assert_eq!(together, payload);
    }

    #[test]
    fn what_cannot_be_cut_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..100), mtu in 0u16..100) {
        if let Some(pieces) = Pieces::of(&bytes, mtu) {
            for piece in pieces.iter() {
                let mut frame = vec![0; pieces.length(&piece)];
                pieces.copy(&bytes, &piece, &mut frame, 0);
                pieces.keep_last(&mut bytes.clone(), &piece, 0);
            }
        }
    }
}

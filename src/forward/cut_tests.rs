use super::*;
use crate::io::memory::Memory;
use crate::net::Mac;
use crate::packet::Priority;
use crate::units::WorkerId;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Keeps what is sent, and has so many buffers.
struct Kept {
    frames: Vec<(Vec<u8>, Sent)>,
    buffers: usize,
}

impl Sink for Kept {
    type Packet = Memory;

    fn send(&mut self, _port: PortId, packet: Memory, kind: Sent) {
        self.frames.push((packet.data().to_vec(), kind));
    }

    fn alloc(&mut self, port: PortId) -> Option<Memory> {
        self.buffers = self.buffers.checked_sub(1)?;
        Some(Memory::new(port, &[]))
    }

    fn local(&mut self, _port: PortId, _packet: Memory, _priority: Priority) -> bool {
        false
    }

    fn hand_over(&mut self, _to: WorkerId, _packet: Memory) -> bool {
        false
    }
}

/// What is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An IPv4 packet on its way.
    V4,
    /// Made of an IPv4 packet.
    Translated,
    OwnV4,
    OwnV6,
}

fn kind() -> impl Strategy<Value = Kind> {
    use Kind::*;
    prop_oneof![Just(V4), Just(Translated), Just(OwnV4), Just(OwnV6)]
}

/// What the packet is of its datagram.
fn whole() -> impl Strategy<Value = Fragment> {
    (0u16..100, any::<bool>()).prop_map(|(units, more)| Fragment {
        offset: units * 8,
        more,
        identification: 7,
        next_header: protocol::GRE,
    })
}

fn frame(kind: Kind, options: &[u8], whole: Fragment, payload: &[u8]) -> Vec<u8> {
    let header = match kind {
        Kind::V4 => ipv4::HEADER_LEN + options.len(),
        Kind::OwnV4 => ipv4::HEADER_LEN,
        Kind::Translated => V6_HEADERS,
        Kind::OwnV6 => ipv6::HEADER_LEN,
    };
    let mut frame = [&vec![0; ETH + header][..], payload].concat();
    let (is_v6, packet) = (
        matches!(kind, Kind::Translated | Kind::OwnV6),
        &mut frame[ETH..],
    );
    if is_v6 {
        let next = match kind {
            Kind::Translated => protocol::FRAGMENT,
            _ => protocol::GRE,
        };
        let ip = ipv6::Repr::new(Ipv6Addr::LOCALHOST, Ipv6Addr::from_bits(5), next);
        ip.emit(packet).unwrap();
        if kind == Kind::Translated {
            whole.emit(packet[ipv6::HEADER_LEN..].first_chunk_mut().unwrap());
        }
    } else {
        let ip = ipv4::Repr {
            identification: 7,
            ..ipv4::Repr::new(Ipv4Addr::LOCALHOST, Ipv4Addr::from_bits(5), protocol::GRE)
        };
        ip.emit(packet).unwrap();
        packet[0] = 0x40 | (header / 4) as u8;
        if kind == Kind::V4 {
            packet[ipv4::HEADER_LEN..header].copy_from_slice(options);
        }
        let mut ip = Ipv4::new_quoted(packet).unwrap();
        if kind == Kind::V4 {
            ip.set_fragment(whole.offset, whole.more);
        }
        ip.fill_checksum();
    }
    let ethertype = if is_v6 {
        ethertype::IPV6
    } else {
        ethertype::IPV4
    };
    let macs = [Mac([2; 6]), Mac([4; 6])];
    ethernet::emit(&mut frame, macs[0], macs[1], ethertype).unwrap();
    frame
}

/// Options that are in every fragment, and that are in the first one alone.
const OPTIONS: [&[u8]; 3] = [&[], &[0x94, 4, 0, 0], &[7, 7, 4, 0, 0, 0, 0, 0]];

proptest! {
    /// The pieces fit, say what they are of their datagram, and put together are the packet; the last one is the packet itself.
    #[test]
    fn pieces_fit_and_are_the_packet(
        kind in kind(),
        options in 0usize..OPTIONS.len(),
        whole in whole(),
        payload in prop::collection::vec(any::<u8>(), 1..4000),
        mtu in 76u16..2000,
    ) {
        let options = OPTIONS[options];
        let before = frame(kind, options, whole, &payload);
        let packet = Memory::new(PortId(0), &before);
        let mut sink = Kept { frames: Vec::new(), buffers: 1000 };
        let is_own = matches!(kind, Kind::OwnV4 | Kind::OwnV6);
        let is_sent = match is_own {
            true => send_own(packet, PortId(0), mtu, 9, &mut sink),
            false => send(packet, PortId(0), mtu, &mut sink),
        };
        prop_assert!(is_sent);
        if before.len() - ETH <= usize::from(mtu) {
            prop_assert_eq!(sink.frames, [(before, Sent::Forwarded)]);
            return Ok(());
        }
        let whole = match is_own {
            true => Fragment { offset: 0, more: false, ..whole },
            false => whole,
        };
        let (most, number) = match kind {
            Kind::Translated => (1280, 7),
            Kind::OwnV6 => (mtu, 9),
            Kind::V4 | Kind::OwnV4 => (mtu, 7),
        };
        let mut together = Vec::new();
        let count = sink.frames.len();
        for (n, (piece, sent)) in sink.frames.iter().enumerate() {
            let (is_first, is_last) = (n == 0, n + 1 == count);
            prop_assert_eq!(*sent, if is_last { Sent::Forwarded } else { Sent::Originated });
            prop_assert_eq!(&piece[..ETH], &before[..ETH]);
            prop_assert!(piece.len() - ETH <= usize::from(most));
            let (fragment, data) = match kind {
                Kind::Translated | Kind::OwnV6 => {
                    let ip = Ipv6::new_checked(&piece[ETH..]).unwrap();
                    prop_assert_eq!(ip.packet().len(), piece.len() - ETH);
                    (ip.upper_layer().unwrap().fragment.unwrap(), &piece[ETH + V6_HEADERS..])
                }
                Kind::V4 | Kind::OwnV4 => {
                    let ip = Ipv4::new_checked(&piece[ETH..]).unwrap();
                    prop_assert!(ip.is_header_right());
                    prop_assert_eq!(usize::from(ip.total_length()), piece.len() - ETH);
                    let has_options = ip.header_len() > ipv4::HEADER_LEN;
                    let is_copied = options.first().is_some_and(|kind| kind & 0x80 != 0);
                    let expected = kind == Kind::V4 && !options.is_empty() && (is_first || is_copied);
                    prop_assert_eq!(has_options, expected);
                    let fragment = Fragment {
                        offset: ip.fragment_offset(),
                        more: ip.more_fragments(),
                        identification: ip.identification().into(),
                        next_header: ip.protocol(),
                    };
                    (fragment, &piece[ETH + ip.header_len()..])
                }
            };
            let expected = Fragment {
                offset: whole.offset + together.len() as u16,
                more: whole.more || !is_last,
                identification: number,
                next_header: protocol::GRE,
            };
            prop_assert_eq!(fragment, expected);
            together.extend_from_slice(data);
        }
        prop_assert_eq!(together, payload);
    }

    /// Without a buffer nothing that could be taken for the whole is sent.
    #[test]
    fn without_buffers_the_last_piece_is_not_sent(kind in kind(), buffers in 0usize..3) {
        let payload = vec![0; 5000];
        let whole = Fragment { offset: 0, more: false, identification: 7, next_header: protocol::GRE };
        let packet = Memory::new(PortId(0), &frame(kind, &[], whole, &payload));
        let mut sink = Kept { frames: Vec::new(), buffers };
        let is_own = matches!(kind, Kind::OwnV4 | Kind::OwnV6);
        let is_sent = match is_own {
            true => send_own(packet, PortId(0), 1280, 9, &mut sink),
            false => send(packet, PortId(0), 1280, &mut sink),
        };
        prop_assert!(!is_sent);
        prop_assert_eq!(sink.frames.len(), buffers);
        prop_assert!(sink.frames.iter().all(|(_, sent)| *sent == Sent::Originated));
    }

    #[test]
    fn any_bytes_and_mtu_are_cut_or_refused_without_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        is_v6: bool,
        is_own: bool,
        mtu in 0u16..200,
    ) {
        let mut frame = [&[0; 12][..], &(if is_v6 { ethertype::IPV6 } else { ethertype::IPV4 }).to_be_bytes(), &bytes].concat();
        if let Some(first) = frame.get_mut(ETH) {
            *first = if is_v6 { 0x60 } else { 0x45 };
        }
        let packet = Memory::new(PortId(0), &frame);
        let mut sink = Kept { frames: Vec::new(), buffers: 1000 };
        match is_own {
            true => send_own(packet, PortId(0), mtu, 9, &mut sink),
            false => send(packet, PortId(0), mtu, &mut sink),
        };
    }
}

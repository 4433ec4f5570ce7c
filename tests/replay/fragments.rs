//! Datagrams in fragments: whatever the cut and the order, what goes on is the datagram, translated as if it were whole.

use super::frames::{CLIENT, REAL, VIP, udp};
use super::{PORTS, STATIC_REAL, T, parse};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;
use weir::packet::Packet;
use weir::replay::Replay;
use weir::units::{PortId, Time};
use weir::verdict::Verdict;
use weir::wire::ethernet::HEADER_LEN as ETH;
use weir::wire::ipv4::{self, HEADER_LEN as IP, Ipv4};

const MODES: [&str; 3] = ["dr", "nat", "fullnat"];

fn replay(mode: &str, workers: usize, mtu: u16, packets: usize) -> Replay {
    let pool = match mode {
        "fullnat" => "local_pool = \"inside\"",
        _ => "",
    };
    let ports = PORTS.replace(
        "[\"10.0.0.1/24\"]",
        &format!("[\"10.0.0.1/24\"]\nmtu = {mtu}"),
    );
    let text = format!(
        r#"{ports}{STATIC_REAL}
[[local_pool]]
name      = "inside"
addresses = ["10.0.0.200"]

[[service]]
address    = "192.0.2.80"
port       = 53
protocol   = "udp"
mode       = "{mode}"
scheduler  = "rr"
{pool}
  [[service.real]]
  address = "10.0.0.11"
"#
    );
    Replay::new(&parse(&text), workers, packets, Time::from_nanos(T)).unwrap()
}

/// A client's datagram, as one frame.
fn whole(payload: &[u8]) -> Vec<u8> {
    let mut frame = udp((CLIENT, 7000), (VIP, 53), payload);
    // May be fragmented.
    frame[ETH + 6] = 0;
    Ipv4::new_checked(&mut frame[ETH..])
        .unwrap()
        .fill_checksum();
    frame
}

/// The fragments of a frame's packet that end at these places of its data.
fn cut(frame: &[u8], ends: &[usize]) -> Vec<Vec<u8>> {
    let data = &frame[ETH + IP..];
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let fragment = |(from, to): (usize, usize)| {
        let mut fragment = [&frame[..ETH + IP], &data[from..to]].concat();
        let length = (fragment.len() - ETH) as u16;
        let mut ip = Ipv4::new_quoted(&mut fragment[ETH..]).unwrap();
        ip.set_total_length(length);
        ip.set_fragment(from as u16, to < data.len());
        ip.fill_checksum();
        fragment
    };
    starts.zip(ends.iter().copied()).map(fragment).collect()
}

/// What came out of the port to the real server, after `frames` came in.
fn forwarded(replay: &mut Replay, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    for (n, frame) in frames.iter().enumerate() {
        let time = Time::from_nanos(T + n as u64 * 1000);
        let verdict = replay.receive(PortId(0), frame, time).verdict;
        let goes_on = matches!(verdict, Verdict::Forward(PortId(1)) | Verdict::Await);
        assert!(goes_on, "{verdict:?}");
    }
    replay.check().expect("every packet is accounted for");
    let frames = replay
        .take_frames()
        .map(|frame| frame.packet.data().to_vec());
    frames.collect()
}

/// The data of the datagram that these frames are the fragments of, with the last one's addresses.
fn together(frames: &[Vec<u8>], mtu: u16) -> (Vec<u8>, Vec<u8>) {
    let mut parts = BTreeMap::new();
    let mut addresses = vec![];
    for frame in frames {
        let ip = ipv4::in_frame(frame).unwrap();
        assert!(ip.is_header_right() && ip.ttl() == 63 && ip.total_length() <= mtu);
        assert!(
            parts.insert(ip.fragment_offset(), ip).is_none(),
            "no duplicate"
        );
        addresses = frame[ETH + 12..ETH + 20].to_vec();
    }
    let mut data = vec![];
    let last = parts.len() - 1;
    for (n, (offset, ip)) in parts.into_iter().enumerate() {
        assert_eq!(
            (usize::from(offset), n < last),
            (data.len(), ip.more_fragments())
        );
        data.extend_from_slice(ip.payload());
    }
    (data, addresses)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_cut_in_any_order_is_the_datagram(
        payload in prop_oneof![prop::collection::vec(any::<u8>(), 9..200), (1400usize..60_000).prop_map(|n| (0..n).map(|n| (n * 7 / 3) as u8).collect())],
        cuts in prop::collection::vec(any::<Index>(), 1..30),
        swaps in prop::collection::vec((any::<Index>(), any::<Index>()), 0..60),
        mode in 0..MODES.len(),
        workers in 1usize..5,
        mtu in 576u16..1600,
    ) {
        let mode = MODES[mode];
        let frame = whole(&payload);
        // What the mode makes of it on a link where it fits.
        let expected = forwarded(&mut replay(mode, workers, 65_000, 1), std::slice::from_ref(&frame));
        let expected = together(&expected, u16::MAX);

        let data = frame.len() - ETH - IP;
        let ends: std::collections::BTreeSet<_> = cuts.iter().map(|cut| 8 * (1 + cut.index((data - 1) / 8))).collect();
        let ends: Vec<_> = ends.into_iter().chain([data]).collect();
        let in_order = cut(&frame, &ends);
        let mut frames = in_order.clone();
        for (a, b) in swaps {
            let (a, b) = (a.index(frames.len()), b.index(frames.len()));
            frames.swap(a, b);
        }
        let mut sent = forwarded(&mut replay(mode, workers, mtu, frames.len()), &frames);
        prop_assert_eq!(together(&sent, mtu), expected);
        let mut sent_in_order = forwarded(&mut replay(mode, workers, mtu, frames.len()), &in_order);
        sent.sort_unstable();
        sent_in_order.sort_unstable();
        prop_assert!(sent == sent_in_order);
    }
}

#[test]
fn the_first_fragment_tells_where_the_others_go() {
    let frame = whole(&[7; 3000]);
    let mut fragments = cut(&frame, &[1480, 2960, 3008]);
    fragments.reverse();
    let mut replay = replay("nat", 1, 1500, 3);
    let sent = forwarded(&mut replay, &fragments);
    let offsets: Vec<_> = sent
        .iter()
        .map(|frame| ipv4::in_frame(frame).unwrap().fragment_offset())
        .collect();
    assert_eq!(offsets, [0, 2960, 1480], "those that waited, as they came");
    for frame in sent {
        assert_eq!(ipv4::in_frame(&frame).unwrap().destination(), REAL);
    }
}

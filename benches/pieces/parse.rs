//! Parsing a burst of frames.

use crate::{MAC, frame, per_packet};
use divan::{Bencher, black_box};
use weir::director::family::V4;
use weir::director::parse::{Parsed, parse};
use weir::packet::BURST;
use weir::tables::{Accepts, Port};

#[divan::bench]
fn udp_burst(bencher: Bencher) {
    let port = Port {
        name: "wan".into(),
        mac: MAC,
        accepts: Accepts::only(MAC),
        mtu: 1500,
        outer_sources: Default::default(),
        accepts_ra: false,
        forwards: false,
        hairpin: Default::default(),
        has_companion: false,
        addresses: Box::default(),
        announce: Box::default(),
        broadcasts: Box::default(),
    };
    let frames: Vec<_> = (0..BURST).map(frame).collect();
    assert!(
        frames
            .iter()
            .all(|frame| matches!(parse::<V4>(frame, &port), Parsed::Flow(_)))
    );
    bencher.counter(per_packet()).bench_local(|| {
        for frame in black_box(&frames) {
            black_box(parse::<V4>(frame, &port));
        }
    });
}
